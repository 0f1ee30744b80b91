"""The display of what every scale of a flow adds to the likelihoods of two data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from skgenad._extras import require

from ._common import BLUE, VERMILION, divided, method_of, new_axes, transformed, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = (BLUE, VERMILION)
# The second set's dots are of another form, and smaller, because they lie over the first's.
_MARKERS: tuple[dict[str, Any], ...] = ({"marker": "o", "s": 12}, {"marker": "x", "s": 10})


class ScaleDisplay:
    """Contributions of a flow's scales to the log-likelihoods of two data sets.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes. A likelihood may be
    higher on other data than that of training because of its first scales, that of the finest
    details, while its last scale tells the two apart.

    Parameters
    ----------
    contributions : array-like of shape (n_samples, n_scales)
        Terms of the log-likelihood of the rows of one data set, in nats, from the finest scale to
        the last.
    other_contributions : array-like of shape (n_other, n_scales)
        Those of another data set.
    labels : (str, str), default=("normal", "other")
        Names of the data sets.
    estimator_name : str, default=None
        Name of the detector.

    Attributes
    ----------
    axes_ : ndarray of shape (1, n_panels)
        Axes of the panels: of every scale, and of their sum if there are several; or of pairs of
        scales.
    bounding_ax_ : matplotlib Axes
        Axes inside of which they are.
    figure_ : matplotlib Figure
        Their figure.
    drawn_ : list of (object, object)
        Histograms or dots of both data sets in every panel.
    legend_ : matplotlib Legend
        Names of the data sets.

    See Also
    --------
    SamplesDisplay : Images that a detector draws.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.inspection import ScaleDisplay
    >>> rng = np.random.default_rng(0)
    >>> normal, other = rng.normal(0, 1, (200, 3)), rng.normal([1, 0, -3], 1, (200, 3))
    >>> display = ScaleDisplay(contributions=normal, other_contributions=other).plot()
    >>> display.axes_.shape
    (1, 4)
    >>> display.figure_.savefig("scales.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        contributions: ArrayLike,
        other_contributions: ArrayLike,
        labels: tuple[str, str] = ("normal", "other"),
        estimator_name: str | None = None,
    ) -> None:
        self.contributions = contributions
        self.other_contributions = other_contributions
        self.labels = labels
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        X_other: ArrayLike,
        *,
        labels: tuple[str, str] = ("normal", "other"),
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Compute the contributions on two data sets and draw them.

        Parameters
        ----------
        estimator : estimator
            Detector with ``scale_contributions(X) -> (n_samples, n_scales)``, as `Glow` has it, or
            a `Pipeline` or search that ends in one.
        X, X_other : array-like of shape (n_samples, n_features)
            Rows or images of the two data sets.
        labels : (str, str), default=("normal", "other")
            Their names.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`, such as ``kind="scatter"``.

        Returns
        -------
        display : ScaleDisplay
            What was computed and drawn.

        Raises
        ------
        TypeError
            If the detector has no ``scale_contributions``.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        _, detector, before = unwrap(estimator)
        contribute = method_of(detector, "scale_contributions", cls.__name__)
        display = cls(
            contributions=contribute(transformed(before, X)),
            other_contributions=contribute(transformed(before, X_other)),
            labels=labels,
            estimator_name=type(detector).__name__,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self, ax: Axes | None = None, *, kind: str = "hist", bins: int = 40, **kwargs: Any
    ) -> Self:
        """Draw the contributions of the data sets beside each other.

        Contributions that are not finite are left out. The titles say how well a scale, or the sum
        of all, tells the data sets apart: its AUROC is the share of pairs in which the row of the
        first has the higher contribution, 1 if all have, 0.5 if nothing is told apart, and below
        that if the other data set looks the more normal one.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots in whose place the panels are fitted; None
            makes a figure.
        kind : {"hist", "scatter"}, default="hist"
            "hist" is histograms of every scale and of the sum of all, "scatter" dots of every scale
            but the last one against the last one.
        bins : int, default=40
            Bins of a histogram, the same ones for both data sets. They span all but a hundredth of
            the rows at either end of each; what is beyond counts in the outer bins.
        **kwargs : dict
            Arguments of ``Axes.hist`` or ``Axes.scatter`` for both data sets.

        Returns
        -------
        display : ScaleDisplay
            Itself.
        """
        if kind not in ("hist", "scatter"):
            raise ValueError(f"kind={kind!r} must be 'hist' or 'scatter'.")
        both = self._both()
        n_scales = both[0].shape[1]
        if kind == "scatter" and n_scales == 1:
            raise ValueError("kind='scatter' needs 2 scales or more, got 1; use kind='hist'.")
        n_panels = n_scales - 1 if kind == "scatter" else n_scales + (n_scales > 1)
        self._make_panels(ax, n_panels)
        self.drawn_: list[tuple[Any, Any]] = []
        for k, panel in enumerate(self.axes_[0]):
            if kind == "hist":
                self._histograms(panel, k, both, bins, kwargs)
            else:
                self._dots(panel, k, both, kwargs)
        if kind == "hist":
            self.axes_[0, 0].set_ylabel("density of rows")
        # The legend lies above the titles, where there are no dots and no bars.
        above = (0, 1.14 if kind == "hist" else 1.02)
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": above, "borderaxespad": 0}
        handles = list(self.drawn_[0])
        self.legend_ = self.axes_[0, 0].legend(
            handles, list(self.labels), **place, ncols=2, frameon=False
        )
        return self

    def _both(self) -> tuple[NDArray, NDArray]:
        """Contributions of both data sets, two-dimensional and of as many scales."""
        pair = np.asarray(self.contributions), np.asarray(self.other_contributions)
        shapes = [array.shape for array in pair]
        if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
            raise ValueError(
                f"contributions of shapes {shapes[0]} and {shapes[1]} must be (n_samples, "
                "n_scales) with the same n_scales for both data sets."
            )
        return pair

    def _make_panels(self, ax: Axes | None, n_panels: int) -> None:
        if ax is None:
            ax = new_axes((max(4.8, 2.9 * n_panels), 3.4))
        grid = divided(ax, (1, n_panels))
        self.bounding_ax_, self.figure_ = ax, ax.figure
        self.axes_ = np.empty((1, n_panels), dtype=object)
        for k in range(n_panels):
            self.axes_[0, k] = self.figure_.add_subplot(grid[0, k])

    def _histograms(
        self, panel: Axes, k: int, both: tuple[NDArray, NDArray], bins: int, kwargs: dict[str, Any]
    ) -> None:
        """Draw one scale, or the sum of all after the last."""
        n_scales = both[0].shape[1]
        values = [array[:, k] if k < n_scales else array.sum(axis=1) for array in both]
        values = [part[np.isfinite(part)] for part in values]
        low, high = _range(values)
        edges = np.linspace(low, high, bins + 1).tolist()
        drawn = []
        for part, color, label in zip(values, _COLORS, self.labels, strict=True):
            style: dict[str, Any] = {
                "histtype": "stepfilled",
                "alpha": 0.45,
                "color": color,
                "edgecolor": color,
            }
            style |= {"linewidth": 1.5, "density": len(part) > 0, "label": label, **kwargs}
            patches: Any = panel.hist(np.clip(part, low, high), edges, **style)[2]
            drawn.append(patches[0])
        self.drawn_.append((drawn[0], drawn[1]))
        name = _name(k, n_scales) if k < n_scales else "sum: log-likelihood"
        panel.set_title(f"{name}\n{_area(*values)}", fontsize="medium")
        beyond = any(((part < low) | (part > high)).any() for part in values)
        panel.set(xlabel="nats (outer bins: and beyond)" if beyond else "nats", yticks=[])

    def _dots(
        self, panel: Axes, k: int, both: tuple[NDArray, NDArray], kwargs: dict[str, Any]
    ) -> None:
        n_scales = both[0].shape[1]
        drawn = []
        for array, color, label, marker in zip(both, _COLORS, self.labels, _MARKERS, strict=True):
            style = {"color": color, "label": label, "linewidths": 0.8, "alpha": 0.5, **marker}
            kept = array[np.isfinite(array).all(axis=1)]
            drawn.append(panel.scatter(kept[:, k], kept[:, -1], **{**style, **kwargs}))
        self.drawn_.append((drawn[0], drawn[1]))
        panel.set_xlabel(f"{_name(k, n_scales)}, nats")
        panel.set_ylabel(f"{_name(n_scales - 1, n_scales)}, nats")


def _range(values: list[NDArray]) -> tuple[float, float]:
    """Range of the histograms: that of each data set without a hundredth at either end.

    A few rows far out would squeeze all others into one bin.
    """
    ends = [np.quantile(part, (0.01, 0.99)) for part in values if len(part)]
    if not ends:
        return 0.0, 1.0
    low, high = float(np.min(ends)), float(np.max(ends))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _area(normal: NDArray, other: NDArray) -> str:
    if not (len(normal) and len(other)):
        return "no finite values"
    truth = np.repeat([1, 0], [len(normal), len(other)])
    return f"AUROC {roc_auc_score(truth, np.concatenate([normal, other])):.2f}"


def _name(k: int, n_scales: int) -> str:
    last = " (last)" if k == n_scales - 1 and n_scales > 1 else ""
    return f"scale {k + 1}{last}"
