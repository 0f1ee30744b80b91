"""Versions in pickles and files, and what is said where they differ."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.exceptions import InconsistentVersionWarning as _OfScikitLearn

from skgenad._version import __version__
from skgenad._warn import warn

from .registry import PACKAGE, brief

_KEY = "_skgenad_version"
# Attributes that an unpickled object lacks, and the version that it came from.
_LACKS = "_lacks"


class InconsistentVersionWarning(_OfScikitLearn):
    """What is loaded was made by another version of a package, and may not work as it did.

    A filter for scikit-learn's warning of this name meets this one, too.

    Parameters
    ----------
    message : str
        Both versions, and what to do.

    Examples
    --------
    >>> import warnings
    >>> from skgenad import InconsistentVersionWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", InconsistentVersionWarning)  # refuse such pickles
    """

    def __init__(self, message: str) -> None:
        Warning.__init__(self, message)

    def __str__(self) -> str:
        return str(self.args[0])


def version_of(distribution: str) -> str:
    """Version of an installed package, of this one also in a source tree."""
    if distribution == PACKAGE:
        return __version__
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


class VersionedPickle:
    """Names the version of the package in pickles, and says so where another one reads them."""

    # Attributes without which a fitted object cannot do its work.
    _needed: ClassVar[tuple[str, ...]] = ()
    # Attributes that are made anew where they are missing: neither pickles nor files hold them.
    _made_anew: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        kept = {name: value for name, value in state.items() if name not in self._made_anew}
        return {**kept, _KEY: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop(_KEY, None)
        state.pop(_LACKS, None)
        was = "an older version" if version is None else f"version {brief(version).strip(chr(39))}"
        lacks = [name for name in self._needed if name not in state]
        # A fit that failed may have left the number of columns, and nothing else.
        if lacks and any(name in state for name in self._needed if name != "n_features_in_"):
            state[_LACKS] = (tuple(lacks), was)
        if _LACKS in state or version != __version__:
            without = f", without {', '.join(lacks)}" if _LACKS in state else ""
            warn(
                f"This {type(self).__name__} was pickled by {was} of skgenad{without}, and is read "
                f"by version {__version__}. It may fail, or give other results. Load it with the "
                "version that pickled it, or fit it again; files that `save` writes are read by "
                "later versions, too.",
                InconsistentVersionWarning,
            )
        super().__setstate__(state)  # type: ignore[misc]

    if not TYPE_CHECKING:  # a type checker would take any attribute for one that there is

        def __getattr__(self, name: str) -> Any:
            lacks, was = self.__dict__.get(_LACKS, ((), ""))
            if name in lacks:
                raise ValueError(
                    f"This {type(self).__name__} has no {name}, which version {__version__} of "
                    f"skgenad needs: it was pickled by {was}. Fit it again, or load it with the "
                    "version that pickled it."
                )
            return object.__getattribute__(self, name)  # says what is missing
