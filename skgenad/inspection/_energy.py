"""The display of energies and densities in the plane."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, check_scalar

from skgenad._core.grid import check_axis
from skgenad._extras import require

from ._common import VERMILION, extend_of, new_axes
from ._plane import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Energies far from the data, or where an error happens to vanish, would use up the colours. So the
# colours span two percentiles of the map, on a logarithmic scale if one is so many times the other.
_SHOWN_PERCENTILES, _WIDE_RANGE = (1, 99), 50
# A map whose sides differ by less than this factor has the same scale on both axes.
_SAME_SCALE = 2


def _limits(
    name: str, given: tuple[float, float] | None, values: NDArray | None, margin: float
) -> tuple[float, float]:
    """Limits of an axis: those given, or the range of the rows and a margin."""
    if given is not None:
        low, high = given
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"{name}={given!r} must be two finite numbers, the lower first.")
        return low, high
    if values is None:
        raise ValueError(f"pass X, the rows to draw, or both xlim and ylim; {name} is not given.")
    low, high = values.min(), values.max()
    # A constant column has no range to take a margin from.
    room = margin * (high - low) if high > low else max(abs(low), 1.0) / 2
    return low - room, high + room


def _some(rows: NDArray | None, n: int | None, chance: np.random.RandomState) -> NDArray | None:
    """Choose at most `n` of the rows."""
    return rows if rows is None or n is None else rows[chance.permutation(len(rows))[:n]]


class EnergyDisplay:
    """Map of a detector's energy or density over the plane, with rows, negatives and threshold.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    xs, ys : array-like of shape (n_columns,) and (n_rows,)
        Coordinates of the grid in rising order.
    values : array-like of shape (n_rows, n_columns)
        The map; ``values[i, j]`` belongs to ``(xs[j], ys[i])``.
    response : {"energy", "density"}, default="energy"
        What `values` are.
    scores : array-like of shape (n_rows, n_columns), default=None
        ``score_samples`` on the grid, for the threshold.
    offset : float, default=None
        Threshold on `scores`.
    X : array-like of shape (n_samples, 2), default=None
        Rows.
    negatives : array-like of shape (n_negatives, 2), default=None
        Negatives.
    xlabel, ylabel : str, default=None
        Names of the columns.
    estimator_name : str, default=None
        Name of the detector, for the colour bar.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the map.
    figure_ : matplotlib Figure
        Its figure.
    surface_ : matplotlib QuadMesh
        The map.
    threshold_ : matplotlib QuadContourSet or None
        Line where ``score_samples`` is `offset`; None if it was not asked for or is not on the
        map.
    data_, negatives_ : matplotlib PathCollection or None
        Points.
    colorbar_ : matplotlib Colorbar or None
        Colour bar.
    legend_ : matplotlib Legend or None
        Legend of points and threshold.

    See Also
    --------
    TrainingDisplay : Course of training.
    sklearn.inspection.DecisionBoundaryDisplay : The like for any estimator of scikit-learn.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.datasets import make_eight_gaussians
    >>> from skgenad.inspection import EnergyDisplay
    >>> X, _ = make_eight_gaussians(500, random_state=0)
    >>> detector = MPDR(network=(32,), max_steps=50, random_state=0).fit(X)
    >>> display = EnergyDisplay.from_estimator(detector, X, grid_resolution=50)
    >>> display.values.shape, len(display.negatives)
    ((50, 50), 500)
    >>> display.figure_.savefig("energy.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        xs: ArrayLike,
        ys: ArrayLike,
        values: ArrayLike,
        response: str = "energy",
        scores: ArrayLike | None = None,
        offset: float | None = None,
        X: ArrayLike | None = None,
        negatives: ArrayLike | None = None,
        xlabel: str | None = None,
        ylabel: str | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.xs = xs
        self.ys = ys
        self.values = values
        self.response = response
        self.scores = scores
        self.offset = offset
        self.X = X
        self.negatives = negatives
        self.xlabel = xlabel
        self.ylabel = ylabel
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        response: str = "energy",
        grid_resolution: int = 200,
        margin: float = 0.1,
        xlim: tuple[float, float] | None = None,
        ylim: tuple[float, float] | None = None,
        subsample: int | None = 500,
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Compute the map of a detector and draw it.

        Parameters
        ----------
        estimator : estimator
            Detector fitted on two columns, or a `Pipeline` or search that ends in one. Detectors of
            scikit-learn with ``score_samples`` may be drawn beside ours.
        X : array-like of shape (n_samples, 2), default=None
            Rows to draw, of training or of a test. They also say how far the map goes, and may be
            left out if `xlim` and `ylim` are given.
        response : {"energy", "density"}, default="energy"
            "energy" is minus ``score_samples``. "density" is the detector's density in the units of
            X: by ``log_density_grid``, normalised over the map, or else by ``log_density``.
        grid_resolution : int, default=200
            Points of the grid along each axis, at least 2.
        margin : float, default=0.1
            What the map has beyond the rows on every side, as a share (0 or more) of their range.
        xlim, ylim : (float, float), default=None
            Limits of the map; None takes those of the rows and the margin.
        subsample : int or None, default=500
            At most so many rows and so many negatives are drawn, chosen at random; None draws all.
        random_state : int, RandomState or None, default=0
            Seed of that choice.
        ax : matplotlib Axes, default=None
            Axes to draw in; None makes a figure.
        **kwargs : dict
            Arguments of :meth:`plot`, such as ``plot_data=False`` or ``cmap="cividis"``.

        Returns
        -------
        display : EnergyDisplay
            What was computed and drawn.

        Raises
        ------
        ValueError
            If the detector was not fitted on two columns or has no density, or there are neither
            rows nor limits.
        TypeError
            If the estimator has no ``score_samples``.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        check_scalar(grid_resolution, "grid_resolution", Integral, min_val=2)
        check_scalar(margin, "margin", Real, min_val=0)
        if subsample is not None:
            check_scalar(subsample, "subsample", Integral, min_val=1)
        if response not in ("energy", "density"):
            raise ValueError(f"response={response!r} must be 'energy' or 'density'.")
        plane = Plane(estimator)
        rows = None if X is None else plane.rows(X)
        x, y = (None, None) if rows is None else rows.T
        xs = np.linspace(*_limits("xlim", xlim, x, margin), grid_resolution)
        ys = np.linspace(*_limits("ylim", ylim, y, margin), grid_resolution)
        chance = check_random_state(random_state)
        scores = plane.scores(xs, ys)
        xlabel, ylabel = plane.labels(X)
        display = cls(
            xs=xs,
            ys=ys,
            values=plane.density(xs, ys) if response == "density" else -scores,
            response=response,
            scores=scores,
            offset=getattr(plane.detector, "offset_", None),
            X=_some(rows, subsample, chance),
            negatives=_some(plane.negatives(), subsample, chance),
            xlabel=xlabel,
            ylabel=ylabel,
            estimator_name=plane.name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        plot_data: bool = True,
        plot_negatives: bool = True,
        plot_threshold: bool = True,
        colorbar: bool = True,
        legend: bool = True,
        data_kwargs: dict[str, Any] | None = None,
        negatives_kwargs: dict[str, Any] | None = None,
        threshold_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; None makes a figure.
        plot_data, plot_negatives, plot_threshold : bool, default=True
            Whether to draw rows, negatives and threshold, as far as there are any.
        colorbar, legend : bool, default=True
            Whether to add a colour bar and a legend.
        data_kwargs, negatives_kwargs : dict, default=None
            Arguments of ``Axes.scatter`` for rows and negatives.
        threshold_kwargs : dict, default=None
            Arguments of ``Axes.contour`` for the threshold.
        **kwargs : dict
            Arguments of ``Axes.pcolormesh``, such as `cmap`, `norm`, `vmin` and `vmax`. By default
            the colours of a density begin at 0, and those of an energy span its 1st to 99th
            percentile on the map, logarithmically if they are positive and far apart.

        Returns
        -------
        display : EnergyDisplay
            Itself.
        """
        xs, ys = check_axis("xs", self.xs), check_axis("ys", self.ys)
        own = ax is None
        self.ax_ = ax = new_axes((6.4, 5.4)) if ax is None else ax
        self.figure_: Any = ax.figure
        colors = self._colors(kwargs)
        self.surface_ = ax.pcolormesh(xs, ys, np.asarray(self.values), **colors)
        self.threshold_ = self._threshold(xs, ys, threshold_kwargs) if plot_threshold else None
        style = {"s": 10, "color": "white", "edgecolors": "black", "linewidths": 0.5}
        self.data_ = self._points("data", self.X if plot_data else None, style, data_kwargs)
        style = {"s": 12, "color": VERMILION, "marker": "x", "linewidths": 0.8}
        rows = self.negatives if plot_negatives else None
        self.negatives_ = self._points("negatives", rows, style, negatives_kwargs)
        width, height = xs[-1] - xs[0], ys[-1] - ys[0]
        ax.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), xlabel=self.xlabel, ylabel=self.ylabel)
        if max(width, height) < _SAME_SCALE * min(width, height):
            ax.set_aspect("equal")
        self.colorbar_ = self._colorbar() if colorbar else None
        self.legend_ = self._legend(own) if legend else None
        return self

    def _colors(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments of pcolormesh; the user's replace ours."""
        ours: dict[str, Any] = {"shading": "nearest", "rasterized": True}
        ours["cmap"] = "Blues" if self.response == "density" else "Blues_r"
        if "norm" not in kwargs:
            colors = require("matplotlib.colors", extra="plot")
            values = np.asarray(self.values)
            low, high = np.percentile(values[np.isfinite(values)], _SHOWN_PERCENTILES)
            if self.response == "density":
                low, high = 0.0, np.max(values)
            low, high = kwargs.pop("vmin", low), kwargs.pop("vmax", high)
            wide = self.response == "energy" and 0 < _WIDE_RANGE * low < high
            ours["norm"] = (colors.LogNorm if wide else colors.Normalize)(low, high)
        return {**ours, **kwargs}

    def _threshold(self, xs: NDArray, ys: NDArray, kwargs: dict[str, Any] | None) -> Any:
        if self.scores is None or self.offset is None:
            return None
        scores = np.asarray(self.scores)
        if not scores.min() < self.offset < scores.max():
            return None
        style = {"colors": "black", "linewidths": 1.4, "linestyles": "solid", **(kwargs or {})}
        return self.ax_.contour(xs, ys, scores, levels=[self.offset], **style)

    def _points(
        self,
        label: str,
        rows: ArrayLike | None,
        style: dict[str, Any],
        kwargs: dict[str, Any] | None,
    ) -> Any:
        if rows is None:
            return None
        x, y = np.asarray(rows, dtype=np.float64).T
        xs, ys = np.asarray(self.xs), np.asarray(self.ys)
        if not ((xs[0] <= x) & (x <= xs[-1]) & (ys[0] <= y) & (y <= ys[-1])).any():
            label += " (all beyond the map)"  # the legend explains why none is seen
        return self.ax_.scatter(x, y, **{"label": label, **style, **(kwargs or {})})

    def _colorbar(self) -> Any:
        extend = extend_of(self.surface_.norm, np.asarray(self.values))
        name = f"{self.estimator_name} " if self.estimator_name else ""
        label = f"{name}energy, $-$score_samples (low is normal)"
        if self.response == "density":
            label = f"{name}density (per unit area)"
        return self.figure_.colorbar(self.surface_, ax=self.ax_, label=label, extend=extend)

    def _legend(self, own: bool) -> Any:
        """Draw the legend below the map in our own figure, and inside of the user's axes."""
        handles = [points for points in (self.data_, self.negatives_) if points is not None]
        labels = [str(points.get_label()) for points in handles]
        if self.threshold_ is not None:
            handles.append(self.threshold_.legend_elements()[0][0])
            labels.append("threshold")
        if not handles:
            return None
        if own:
            place = {"loc": "outside lower center", "ncols": 3, "frameon": False}
            return self.figure_.legend(handles, labels, **place)
        return self.ax_.legend(handles, labels, loc="upper right", framealpha=0.9)
