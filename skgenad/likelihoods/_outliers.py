"""The losses on known outliers of `LikelihoodRatio`, beside a detector's own in its last stage.

For outliers x_g, rows x of data and a factor lambda,

    ratio     -lambda log sigmoid((log p_g(x_g) - log p_in(x_g)) / T)                    (eq. 2)
    margin    lambda max(0, D + log p_in(x_g) - log p_in(x)) for D columns

of Schirrmeister et al. (2020) and of Hendrycks et al. (2019), which the first compare with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from skgenad._core.batches import RowBatches
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Objective, skipped

# A batch that would lose a larger share of its rows is skipped (S4.3 of hierarchical flows).
_MOST_REMOVED = 0.75


class OutlierObjective:
    """An ``extra_objective`` of ``fit_from`` that gives outliers a low log density.

    Rows of data and outliers whose log density is not finite are left out of a step, and a batch
    that loses more than 75 % of its rows is skipped. The module must have ``log_prob(x) -> (n,)``,
    in nats and standardised units, that can be differentiated.

    Parameters
    ----------
    detector : BaseGenerativeDetector
        The one that is trained.
    outliers : ndarray of shape (n, d)
        Rows in the units of X.
    log_other : ndarray of shape (n,)
        Their log densities under the other model, in nats, in the units of X.
    kind : {"ratio", "margin"}
        Which loss.
    penalty : float
        The factor lambda.
    temperature : float
        T of the ratio loss, in nats; the margin loss has none.
    other : callable, optional
        Maps rows (n, d) to their log densities under the other model, all in the units of X. It is
        needed for what `log_other` does not hold: for rows of classes, and for outliers that the
        model has augmented as it augments data. Without that the two could be told apart by it.
    with_classes : bool, default=False
        Whether rows of the other classes are outliers of each class.
    """

    def __init__(
        self,
        detector: BaseGenerativeDetector,
        outliers: NDArray,
        log_other: NDArray,
        *,
        kind: str,
        penalty: float,
        temperature: float,
        other: Callable[[NDArray], NDArray] | None = None,
        with_classes: bool = False,
    ) -> None:
        self.detector, self.outliers, self.log_other = detector, outliers, log_other
        self.kind, self.penalty, self.temperature = kind, penalty, temperature
        self.other, self.with_classes = other, with_classes
        self._batches: Iterator[Tensor] | None = None

    def __call__(self, objective: Objective, module: Any, batch: Tensor) -> dict[str, Tensor]:
        """Parts of the loss of a batch."""
        if self._batches is None:
            self._begin(module, batch)
        parts = objective(module, batch)
        if not parts["loss"].isfinite():
            finite = self._log_prob(module, self._rows(batch)).isfinite()
            if _too_few(finite):
                return skipped(batch)
            batch = batch[finite]
            parts = objective(module, batch)
        ours = self._outlier_loss(module, batch)
        if ours is None or not parts["loss"].isfinite():
            return skipped(batch)
        loss = parts["loss"] + sum(ours.values())
        return {**parts, **ours, "loss": loss}

    def _begin(self, module: Any, batch: Tensor) -> None:
        """Bring the outliers to the detector's units, which it has by now, and its device."""
        if not hasattr(module, "log_prob"):
            raise ValueError(
                f"outlier_loss needs a log density that can be differentiated, and the module of "
                f"{type(self.detector).__name__} has no log_prob. Use another detector, or "
                "outlier_loss=None."
            )
        units = self.detector.units_
        rows = torch.from_numpy(units.to_standard(self.outliers)).to(batch.device)
        log_other = torch.from_numpy(self.log_other.astype(np.float32)).to(batch.device)
        self._data = rows, log_other
        index = RowBatches(torch.arange(len(rows), device=rows.device), len(batch), sys.maxsize)
        self._batches = _endless(index)

    def _rows(self, batch: Tensor) -> Tensor:
        """Rows (n, d) of a batch, which may have a column of classes besides."""
        return batch[:, : self.outliers.shape[1]]

    def _log_other(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d) in standardised units under the other model."""
        assert self.other is not None
        original = self.detector.units_.from_standard(x.cpu().numpy())
        return torch.from_numpy(self.other(original)).to(x)

    def _log_density(self, module: Any, x: Tensor) -> Tensor:
        return module.log_prob(x) - self.detector.units_.log_scale

    @torch.no_grad()
    def _log_prob(self, module: Any, x: Tensor) -> Tensor:
        return module.log_prob(x)

    def _outlier_loss(self, module: Any, batch: Tensor) -> dict[str, Tensor] | None:
        """Weighted losses, by their names in the history; None to skip the batch."""
        assert self._batches is not None
        index = next(self._batches)
        rows, log_other = (tensor[index] for tensor in self._data)
        original, rows = rows, module.augmented(rows)
        if rows is not original:
            log_other = self._log_other(rows)
        log_trained = self._log_density(module, rows)
        finite = log_trained.isfinite() & log_other.isfinite()
        if _too_few(finite):
            return None
        if not finite.all():
            # These are computed anew: at a log density of -inf the gradient is NaN, even times 0.
            rows, log_other = rows[finite], log_other[finite]
            log_trained = self._log_density(module, rows)
            if not log_trained.isfinite().all():
                return None
        if self.kind == "margin":
            return self._margin(module, self._rows(batch), log_trained)
        loss = ratio_loss(log_trained, log_other, self.temperature).mean()
        losses = {"outlier_loss": self.penalty * loss}
        if self.with_classes:
            losses["class_loss"] = self.penalty * self._class_loss(module, batch)
        return losses

    def _margin(self, module: Any, x: Tensor, log_outliers: Tensor) -> dict[str, Tensor] | None:
        """Loss that asks for a margin of a nat per column between data and outliers."""
        log_data = self._log_prob(module, x) - self.detector.units_.log_scale
        log_data = log_data[log_data.isfinite()]
        n = min(len(log_data), len(log_outliers))
        if n == 0:
            return None
        hinges = margin_loss(log_data[:n], log_outliers[:n], float(x.shape[1]))
        return {"outlier_loss": self.penalty * hinges.mean()}

    def _class_loss(self, module: Any, batch: Tensor) -> Tensor:
        """Loss in which rows of a class are outliers of the modes of all others (section 3.2).

        It is a mean over all modes, where that of a row's own class counts as 0, as in the
        authors' code.
        """
        x, codes = module.augmented(self._rows(batch)), batch[:, -1:].long()
        log_general = self._log_other(x)[:, None]
        log_modes = module.class_log_probs(x)
        finite = log_modes.isfinite().all(dim=1) & log_general[:, 0].isfinite()
        if not finite.all():
            codes, log_general = codes[finite], log_general[finite]
            log_modes = module.class_log_probs(x[finite])
        others = torch.arange(log_modes.shape[1], device=x.device) != codes
        log_modes = log_modes - self.detector.units_.log_scale
        losses = ratio_loss(log_modes, log_general, self.temperature)
        return (losses * others).mean() if len(losses) else x.new_zeros(())


def _endless(batches: RowBatches) -> Iterator[Tensor]:
    while True:
        yield from batches


def _too_few(finite: Tensor) -> bool:
    return float(finite.float().mean()) < 1 - _MOST_REMOVED


def ratio_loss(log_in: Tensor, log_general: Tensor, temperature: float) -> Tensor:
    """Cross-entropies (n,) of calling outliers outliers by the likelihood ratio.

    -log sigmoid((log p_g - log p_in) / T): equation 2 of hierarchical flows, without its weight.

    Parameters
    ----------
    log_in, log_general : Tensor of shape (n,)
        Log densities of the outliers under the model that is trained and under the other, in the
        same units.
    temperature : float
        T, in nats.
    """
    return F.softplus((log_in - log_general) / temperature)


def margin_loss(log_data: Tensor, log_outliers: Tensor, margin: float) -> Tensor:
    """Hinges (n,) on how far outliers are below data in log density, max(0, m + log q - log p).

    The loss of Hendrycks et al. (2019) that hierarchical flows compare with.

    Parameters
    ----------
    log_data, log_outliers : Tensor of shape (n,)
        Log densities, log p and log q, in pairs.
    margin : float
        Wanted difference m, in nats.
    """
    return F.relu(margin + log_outliers - log_data)
