"""The base of the detectors whose module is a density made of a flow."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady
from skgenad._core.sampling import PriorSamplingMixin
from skgenad._core.schedules import SCHEDULES

from ._densities import FlowDensity

__all__ = ["FlowDetector"]


class FlowDetector(PriorSamplingMixin, BaseGenerativeDetector):
    """Base of the detectors with a :class:`~skgenad.likelihoods._densities.FlowDensity`."""

    module_: FlowDensity
    max_steps: int
    # Detectors whose constructor lacks one of these parameters read the value given here.
    schedule: str = "cosine"

    _stage_name: ClassVar[str] = "flow"

    @abstractmethod
    def _optimizer(self, module: FlowDensity) -> torch.optim.Optimizer:
        """Make the optimiser of the module's parameters."""

    def _stages(self, module: FlowDensity) -> list[Stage]:
        if not any(True for _ in module.parameters()):  # a table of constants has none
            return []
        return [
            Stage(
                name=self._stage_name,
                optimizers={"main": self._optimizer(module)},
                n_steps=self.max_steps,
                schedule=SCHEDULES[self.schedule],
                validate=FlowDensity.validation_loss,
                labelled=module.with_classes,
                is_steady=is_steady,
            )
        ]

    def log_density(self, X: ArrayLike) -> NDArray:
        """Log density of rows.

        The density is that of the columns that varied in training; what the others hold has no
        part in it. Densities in the units of X can be compared between detectors, which scores
        in standardised units cannot. Images are in units of pixels in [0, 1], in whatever type
        they come.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Float64, in nats, in the units of X.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._by_chunks(X, self.module_.log_prob) - self.units_.log_scale
