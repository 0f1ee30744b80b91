"""``save`` and ``load`` of detectors, pipelines and estimators of others; pickles of detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skgenad._tensors.device import DeviceError, resolve_device
from skgenad._tensors.settings import own_settings
from skgenad._warn import warn

from .answers import answers_of, check_answers
from .files import Stored, open_file, write_file
from .forks import leave_parents_threads
from .registry import DISTRIBUTIONS, brief, class_of, is_foreign, is_users, own_names, register
from .state import STATE, Fitted, dismantle, put_on_device, rebuild, state_on_cpu
from .values import Packer, Unpacker
from .versions import InconsistentVersionWarning, VersionedPickle, version_of

# The most characters of an error about a file's content, which may quote it.
_LONGEST = 500


def save(estimator: Any, path: str | PathLike[str]) -> None:
    """Write a fitted detector, transformer or pipeline to one file that holds no code.

    Detectors of this package, what ``skgenad.compat`` makes of others', scikit-learn's own
    transformers and outlier detectors, and pipelines, unions and column transformers of all these
    can be written. The guide's page on files has the list.

    Parameters
    ----------
    estimator : object
        Fitted.
    path : path-like
        File to write. An existing one is replaced, in one step, and gives its mode to the new one;
        of a link the target is. The `memory` of a pipeline is left out.

    Raises
    ------
    TypeError
        If something in it cannot be written, such as a function of yours, or a class that is not
        in the list.
    ValueError
        If it holds numbers that nothing can be scored with, since training has diverged.
    OSError
        If there can be no such file: FileNotFoundError if the folder does not exist,
        IsADirectoryError if there is one in its place.

    See Also
    --------
    load : Reads such a file.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skgenad
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import RobustScaler
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> pipeline = make_pipeline(RobustScaler(), skgenad.Neighbors()).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skgenad.save(pipeline, f"{folder}/pipeline.safetensors")
    ...     loaded = skgenad.load(f"{folder}/pipeline.safetensors")
    >>> bool((loaded.score_samples(X) == pipeline.score_samples(X)).all())
    True
    """
    if isinstance(estimator, type):
        raise TypeError(f"{estimator.__name__} is a class; pass a fitted object of it.")
    check_is_fitted(estimator)
    packer = Packer()
    document = packer.pack("", estimator)
    if not isinstance(document, dict) or "class" not in document:
        raise TypeError(f"{brief(estimator)} is no estimator; pass a fitted detector or pipeline.")
    packages = _packages_in(document)
    if packages:
        document["answers"] = answers_of(estimator, packer.arrays.values())
    write_file(Path(path), document, packer.arrays, sorted(packages))


def load(path: str | PathLike[str], *, device: str | None = None) -> Any:
    """Read what :func:`save`, or the `save` of a detector, wrote.

    Nothing in a file is run, and nothing is imported that is not in the list of what can be saved.

    Parameters
    ----------
    path : path-like
        File to read.
    device : str, default=None
        Device of all detectors in it; None: that of each one's parameter `device`.

    Returns
    -------
    estimator : object
        Scores and transforms as the saved one did.

    Raises
    ------
    ValueError
        If the file is not one of ours, is damaged, or does not describe an estimator of the list;
        or if a device is not to be had.
    OSError
        If there is no such file, or it may not be read.

    Warns
    -----
    InconsistentVersionWarning
        If the file holds estimators of scikit-learn or pyod of another version than the installed
        one.

    See Also
    --------
    save : Writes such a file.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skgenad
    >>> detector = skgenad.Neighbors().fit(np.random.RandomState(0).randn(100, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector.save(f"{folder}/detector.safetensors")
    ...     loaded = skgenad.load(f"{folder}/detector.safetensors", device="cpu")
    >>> type(loaded).__name__
    'Neighbors'
    """
    return _load(path, device, None)


def _load(path: str | PathLike[str], device: str | None, wanted: Any) -> Any:
    leave_parents_threads()
    path = Path(path)
    leave_parents_threads()
    with own_settings(), open_file(path) as (document, arrays):
        kind = _class_in(path, document.get("class"), wanted)
        try:
            packages = _packages_in(document)
            unpacker = Unpacker(arrays, device)
            found = unpacker.object_of(kind, document)
            check_is_fitted(found)
            if unpacker.arrays:
                raise ValueError(f"Unexpected key {brief(min(unpacker.arrays))}")
            for package in packages:
                _compare_versions(path, package, document.get("versions"))
            if packages and document.get("answers") is not None:
                check_answers(found, document["answers"])
        except (DeviceError, ImportError, OSError, InconsistentVersionWarning):
            raise  # what the machine lacks, or is an error by choice, is no fault of the file
        except Exception as error:
            raise ValueError(
                f"{path} does not describe a {kind.__name__}: {_shortened(error)}"
            ) from error
    return found


def _class_in(path: Path, name: Any, wanted: Any) -> type:
    """Class that a file names, if it is the wanted one, or of its kind."""
    try:
        kind = class_of(name)
    except ValueError as error:
        if wanted is None:
            raise ValueError(f"{path} cannot be read: {error}.") from error
        kind = object
    if wanted is None or issubclass(kind, wanted):
        return kind
    # A class of the user's may be defined in another module than when the file was written.
    if is_users(wanted) and f".{name}".endswith(f".{wanted.__qualname__}"):
        return wanted
    problem = f"{path} holds a {brief(name)}, which is not a {wanted.__name__} of this version."
    if kind is object:
        raise ValueError(f"{problem} This version knows {own_names()}.")
    raise ValueError(f"{problem} skgenad.load(path) reads it, whatever it holds.")


def _shortened(error: Exception) -> str:
    text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    if not isinstance(error, KeyError | ValueError | RuntimeError):  # a slip of Python's
        text = f"something in it is of a wrong kind ({type(error).__name__}: {text})"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _packages_in(document: Any) -> set[str]:
    """Find the packages of others whose estimators a document describes."""
    if isinstance(document, list):
        return set().union(*map(_packages_in, document))
    if not isinstance(document, dict):
        return set()
    found = set().union(*map(_packages_in, document.values()))
    name = document.get("class")
    top = name.partition(".")[0] if isinstance(name, str) and is_foreign(name) else ""
    return found | ({DISTRIBUTIONS[top]} if top else set())


def _compare_versions(path: Path, package: str, versions: Any) -> None:
    written = versions.get(package) if isinstance(versions, dict) else None
    now = version_of(package)
    if written != now:
        warn(
            f"{path} holds estimators of {package} {brief(written)}, and {now!r} is installed: "
            "they may fail, or give other results. Fit them again, or install the version that "
            "wrote the file.",
            InconsistentVersionWarning,
        )


class SavingMixin(VersionedPickle):
    """What a detector does with files; :mod:`skgenad._core.state` says what stands in them.

    A file can name a class that derives from this one, and estimators of a list: the module is
    rebuilt from the parameters by the class itself and then given the weights.
    """

    # Attributes of a fitted detector, as files hold them.
    _table: ClassVar[Sequence[Fitted]] = STATE
    # While it is read: the device in place of the file's.
    _loading_device: str | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(cls)
        cls._needed = tuple(field.name for field in cls._table if not field.optional)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted detector to one file: safetensors weights and JSON parameters.

        Nothing in the file is code. What only training needs (callbacks, optimiser moments, the
        replay buffer, a `RandomState` object) is left out. The parameters are those of the fit,
        whatever `set_params` was called with since. The file is whole at every moment: until the
        new one is complete the old one stays.

        Parameters
        ----------
        path : str or Path
            File to write; an existing one is replaced and gives its mode to the new one, and of a
            link the target is.

        Raises
        ------
        TypeError
            If a parameter cannot be written as JSON, such as a network factory.
        ValueError
            If the detector holds NaN, since training has diverged.
        OSError
            If there can be no such file: FileNotFoundError if the folder does not exist,
            IsADirectoryError if there is one in its place.
        """
        save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str], *, device: str | None = None) -> Self:
        """Read a detector that :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            File to read.
        device : str, optional
            Device to load on; default is the saved parameter `device`.

        Returns
        -------
        detector : object
            Scores as the saved one did.

        Raises
        ------
        ValueError
            If the file is not one of ours, is damaged, or holds another class, an unknown
            parameter or weights of other names or shapes.
        OSError
            If there is no such file, or it may not be read.
        """
        return _load(path, device, cls)

    def _dismantle(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Document and arrays that :meth:`_rebuild` makes this fitted detector of."""
        return dismantle(self, self._table)

    @classmethod
    def _rebuild(
        cls, document: dict[str, Any], arrays: Mapping[str, Stored], device: str | None
    ) -> Self:
        """Make a fitted detector on the device that its parameters name."""
        detector = rebuild(cls, document, arrays, device)
        detector._settle()
        return detector

    @classmethod
    def _parameters_of_file(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters of the constructor, of those in a file."""
        return parameters

    def _settle(self) -> None:
        """Do what is left to do once all attributes are there."""


class ModuleSavingMixin(SavingMixin):
    """What a detector with one module on a device does with files and pickles."""

    device: str
    device_: torch.device
    module_: Any

    def _settle(self) -> None:
        self.device_ = resolve_device(self.device)
        self.module_.to(self.device_)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        on_cpu = "module_" not in state or getattr(state.get("device_"), "type", "cpu") == "cpu"
        return state if on_cpu else state_on_cpu(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "module_" in self.__dict__:
            put_on_device(self)
