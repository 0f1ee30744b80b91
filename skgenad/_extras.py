"""Import of optional dependencies, with an error that says how to install them."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency where it is used.

    Parameters
    ----------
    module : str
        Dotted name of the module, for example ``"pooch"`` or ``"matplotlib.pyplot"``.
    extra : str
        The extra of this package that installs it, for example ``"bench"``.

    Returns
    -------
    module : types.ModuleType
        The imported module itself, also for a dotted name.

    Raises
    ------
    ImportError
        If the distribution that holds `module` is not installed. The message names the module and
        the command that installs it. An error inside an installed module is raised as it is:
        telling people to install what they have would hide it.

    Examples
    --------
    >>> from skgenad._extras import require
    >>> require("json", extra="bench").dumps([1])
    '[1]'
    >>> require("not_a_module", extra="bench")
    Traceback (most recent call last):
        ...
    ImportError: this needs the optional package 'not_a_module', which is not installed; install it
    with: pip install "skgenad[bench]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top_level = module.partition(".")[0]
        if error.name != top_level:
            raise
        raise ImportError(
            f"this needs the optional package {top_level!r}, which is not installed; "
            f'install it with: pip install "skgenad[{extra}]"',
            name=top_level,
        ) from error
