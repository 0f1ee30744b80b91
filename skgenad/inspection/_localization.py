"""The display of how well anomaly maps locate defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import auc, roc_curve

from skgenad._extras import require
from skgenad.metrics import per_region_overlap_auc, per_region_overlap_curve

from ._common import BLUE, VERMILION, method_of, new_axes, transformed, unwrap
from ._pictures import checked_masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Cells along each axis that a picture tells apart.
_CELLS = 1000


class LocalizationDisplay:
    """Curves of anomaly maps: ROC of pixels, and per-region overlap.

    In the second each defect counts alike, however large it is.

    Make it by :meth:`from_estimator` or :meth:`from_maps`. The parameters are kept as attributes.

    Parameters
    ----------
    fpr, tpr : array-like of shape (n,)
        ROC curve of pixels.
    region_fpr, overlap : array-like of shape (m,)
        Per-region overlap by false positive rates.
    pixel_auroc : float
        Area under the first curve.
    region_overlap : float
        Area under the second one up to `max_fpr`, divided by it.
    max_fpr : float, default=0.3
        False positive rate that the second area ends at.
    estimator_name : str, default=None
        Name of the detector, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of both curves.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : list of Line2D
        The two curves.

    See Also
    --------
    AnomalyMapDisplay : The maps themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.inspection import LocalizationDisplay
    >>> masks = np.zeros((2, 16, 16), dtype=bool)
    >>> masks[0, 4:8, 4:8] = True
    >>> maps = masks + np.random.RandomState(0).rand(2, 16, 16)
    >>> display = LocalizationDisplay.from_maps(masks, maps)
    >>> round(display.pixel_auroc, 2)
    1.0
    """

    def __init__(
        self,
        *,
        fpr: ArrayLike,
        tpr: ArrayLike,
        region_fpr: ArrayLike,
        overlap: ArrayLike,
        pixel_auroc: float,
        region_overlap: float,
        max_fpr: float = 0.3,
        estimator_name: str | None = None,
    ) -> None:
        self.fpr = fpr
        self.tpr = tpr
        self.region_fpr = region_fpr
        self.overlap = overlap
        self.pixel_auroc = pixel_auroc
        self.region_overlap = region_overlap
        self.max_fpr = max_fpr
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        masks: ArrayLike,
        *,
        max_fpr: float = 0.3,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Map images by a detector, and draw the curves.

        Parameters
        ----------
        estimator : estimator
            Detector of images with ``anomaly_map``, or a `Pipeline` or search that ends in one.
        X : array-like of shape (n_samples, n_channels, height, width)
            Images as the detector takes them, good and defective ones.
        masks : array-like of shape (n_samples, height, width)
            Not 0 where there is a defect; maps are brought to this size where the detector can.
        max_fpr : float, default=0.3
            False positive rate that the area under the per-region overlap ends at.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : LocalizationDisplay
            What was computed and drawn.

        Raises
        ------
        TypeError
            If the detector has no ``anomaly_map``.
        ValueError
            If masks do not fit the images, or mark nothing.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        _, detector, before = unwrap(estimator)
        anomaly_map = method_of(detector, "anomaly_map", cls.__name__)
        seen = transformed(before, X)
        sized = hasattr(detector, "grid_")  # a PatchDetector, whose maps have the size asked for
        maps = anomaly_map(seen, size=np.shape(masks)[-2:]) if sized else anomaly_map(seen)
        name = type(detector).__name__
        return cls.from_maps(masks, maps, max_fpr=max_fpr, estimator_name=name, ax=ax, **kwargs)

    @classmethod
    def from_maps(
        cls,
        masks: ArrayLike,
        anomaly_maps: ArrayLike,
        *,
        max_fpr: float = 0.3,
        estimator_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves of maps.

        Parameters
        ----------
        masks : array-like of shape (n_samples, height, width)
            Not 0 where there is a defect.
        anomaly_maps : array-like of shape (n_samples, height, width)
            Scores of pixels, higher = more anomalous.
        max_fpr : float, default=0.3
            False positive rate that the area under the per-region overlap ends at.
        estimator_name : str, default=None
            Name of the detector, for the title.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : LocalizationDisplay
            What was computed and drawn.
        """
        maps = np.asarray(anomaly_maps)
        marked = checked_masks(masks, len(maps), maps.shape[1:])
        assert marked is not None
        region_fpr, overlap = per_region_overlap_curve(marked, maps)
        fpr, tpr, _ = roc_curve(marked.ravel(), maps.ravel())
        display = cls(
            fpr=_thinned(fpr, fpr, tpr),
            tpr=_thinned(tpr, fpr, tpr),
            region_fpr=_thinned(region_fpr, region_fpr, overlap),
            overlap=_thinned(overlap, region_fpr, overlap),
            pixel_auroc=float(auc(fpr, tpr)),
            region_overlap=per_region_overlap_auc(marked, maps, max_fpr=max_fpr),
            max_fpr=max_fpr,
            estimator_name=estimator_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw both curves in one pair of axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; None makes a figure.
        **kwargs : dict
            Arguments of ``Axes.plot`` for both curves, such as `linewidth`.

        Returns
        -------
        display : LocalizationDisplay
            Itself.
        """
        ax = new_axes((5.2, 4.6)) if ax is None else ax
        region = f"per-region overlap: {self.region_overlap:.3f} up to {self.max_fpr:g}"
        curves = [
            (self.fpr, self.tpr, BLUE, f"ROC of pixels: area {self.pixel_auroc:.3f}"),
            (self.region_fpr, self.overlap, VERMILION, region),
        ]
        self.lines_ = [
            ax.plot(x, y, **{"color": color, "label": label, **kwargs})[0]
            for x, y, color, label in curves
        ]
        ax.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1, label="chance")
        ax.axvspan(0, self.max_fpr, color=VERMILION, alpha=0.08, linewidth=0)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="false positive rate of pixels")
        ax.set_ylabel("share of defective pixels found")
        if self.estimator_name:
            ax.set_title(self.estimator_name, fontsize="medium")
        ax.legend(loc="lower right", fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _thinned(values: NDArray, x: NDArray, y: NDArray) -> NDArray:
    """Keep points of a curve that a picture tells apart: the first in each thousandth."""
    cells = np.floor(x * _CELLS) * (2 * _CELLS) + np.floor(y * _CELLS)
    keep = np.append(True, np.diff(cells) != 0)
    keep[-1] = True
    return values[keep]
