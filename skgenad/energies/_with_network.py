"""Parts with a network of their own that, left None, is the network of their detector."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, Self

from skgenad._core.parts import Part, Slot
from skgenad.networks import MLP, NETWORK_CONSTRAINTS, read_network


class WithNetwork(Part):
    """Base of parts with a `network` of their own; None is the one of the detector."""

    network: Any
    # The network of the detector, where it is known.
    _detectors: Any = None
    _parts: ClassVar[dict[str, Slot]] = {"network": Slot(MLP(), read_network)}
    _parameter_constraints: ClassVar[dict] = {"network": NETWORK_CONSTRAINTS}

    def network_or(self, *detectors: Any) -> Any:
        """Network of this part: where its own says nothing, that of the detector.

        Parameters
        ----------
        *detectors : Part or object
            The network of the detector, and what fills in what that leaves open.

        Returns
        -------
        network : Part or object
            A new part; what is none, such as a factory of the user's, is no copy.
        """
        network = detectors[0] if self.network is None else self.part("network")
        for other in detectors:
            network = network.filled(other) if isinstance(network, Part) else network
        return network

    def bound_to(self, detectors: Any) -> Self:
        """Return a copy that knows what network it has where its own is None.

        Parameters
        ----------
        detectors : Part or object
            The network of the detector.

        Returns
        -------
        part : object
            A new part, which lists the fields of such a network.
        """
        part = copy.copy(self)
        part._detectors = detectors
        return part

    def _unbound(self) -> Self:
        self.__dict__.pop("_detectors", None)
        return self

    def _read(self, name: str, value: Any) -> Any:
        if name != "network" or value is not None or self._detectors is None:
            return super()._read(name, value)
        # A user's factory is left to the detector's own parameter: a copy would be another one.
        return _opened(self._detectors) if isinstance(self._detectors, Part) else None


def _opened(network: Part) -> Part:
    """Copy a network without the fields that may be None, which then remain the detector's."""
    parameters = inspect.signature(type(network)).parameters
    fields = network.get_params(deep=False).items()
    return type(network)(**{n: v for n, v in fields if parameters[n].default is not None})
