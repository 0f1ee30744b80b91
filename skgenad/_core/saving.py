"""``save``, ``load`` and pickles of detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skgenad._tensors.device import resolve_device

from .files import read_file, write_file
from .forks import leave_parents_threads
from .state import dismantle, put_on_device, rebuild, state_on_cpu

# What goes wrong where a document does not describe a detector; RuntimeError has RecursionError.
_BROKEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class SavingMixin:
    """What a detector does with files; :mod:`skgenad._core.state` says what stands in them.

    A file can name a class that derives from this one and nothing else: the module is rebuilt
    from the parameters by the class itself and then given the weights.
    """

    device: str
    device_: torch.device
    module_: Any
    _registry: ClassVar[dict[str, type[SavingMixin]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._registry[cls.__name__] = cls

    def save(self, path: str | Path) -> None:
        """Write the fitted detector to one file: safetensors weights and JSON parameters.

        Nothing in the file is code. What only training needs (callbacks, optimiser moments, the
        replay buffer, a `RandomState` object) is left out. The parameters are those of the fit,
        whatever `set_params` was called with since.

        Parameters
        ----------
        path : str or Path
            File to write; an existing one is replaced.

        Raises
        ------
        TypeError
            If a parameter cannot be written as JSON, such as a network factory.
        FileNotFoundError
            If the folder does not exist.
        """
        check_is_fitted(self)
        write_file(Path(path), *self._dismantle())

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Self:
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
        """
        leave_parents_threads()
        document, arrays = read_file(Path(path))
        kind = cls._registry.get(str(document.get("class")))
        if kind is None or not issubclass(kind, cls):
            raise ValueError(
                f"{path} holds a {document.get('class')!r}, which is not a {cls.__name__} of this "
                "version. Load it by its own class; this version knows "
                f"{sorted(cls._registry)}."
            )
        try:
            detector = kind._rebuild(document, arrays, device)
        except _BROKEN as error:
            raise ValueError(f"{path} does not describe a {kind.__name__}: {error}") from error
        # This is outside the block above, since a missing device is no fault of the file.
        detector._settle()
        return detector

    def _dismantle(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Document and arrays that :meth:`_rebuild` makes this fitted detector of."""
        return dismantle(self)

    @classmethod
    def _rebuild(
        cls, document: dict[str, Any], arrays: dict[str, NDArray], device: str | None
    ) -> Any:
        """Make a fitted detector on the CPU."""
        return rebuild(cls, document, arrays, device)

    def _settle(self) -> None:
        """Go to the device that the parameters name."""
        self.device_ = resolve_device(self.device)
        self.module_.to(self.device_)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())  # type: ignore[call-overload]
        on_cpu = "module_" not in state or state["device_"].type == "cpu"
        return state if on_cpu else state_on_cpu(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if "module_" in self.__dict__:
            put_on_device(self)
