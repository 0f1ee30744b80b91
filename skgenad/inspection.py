"""Pictures of detectors: maps of energies and densities in the plane, and the course of training.

The classes follow scikit-learn's displays: ``from_estimator`` computes and draws, the constructor
takes what was computed, ``plot`` draws it again, and what was drawn is in attributes that end in
an underscore. They need matplotlib, which the extra "plot" installs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from ._extras import require
from ._grid import check_axis, grid_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["EnergyDisplay", "TrainingDisplay"]

# Blue and vermilion of Okabe and Ito's palette: apart for every kind of colour vision.
_DATA_COLOR, _NEGATIVES_COLOR = "#0072B2", "#D55E00"
# Energies far from the data, or where an error happens to vanish, would use up the colours: these
# span two percentiles of the map, logarithmically where one is so many times the other.
_SHOWN_PERCENTILES, _WIDE_RANGE = (1, 99), 50
# Sides of a map that differ by less than this factor are drawn to one scale.
_SAME_SCALE = 2
_ENERGIES = ("energy", "negative_energy")
_LINES: dict[str, dict[str, Any]] = {
    "loss": {"color": "black"},
    "energy": {"color": _DATA_COLOR, "label": "data"},
    "negative_energy": {"color": _NEGATIVES_COLOR, "linestyle": "--", "label": "negatives"},
}
# Training is drawn logarithmically where the largest value is so many times the median.
_LONG_FALL = 20
# Up to so many epochs of a stage are marked by dots.
_FEW_EPOCHS = 40


# ---- what is drawn ------------------------------------------------------------------------


class _Plane:
    """A fitted detector of two columns, on its own or behind the other steps of a pipeline."""

    def __init__(self, estimator: Any) -> None:
        self.scorer, self.detector, self.before = _unwrap(estimator)
        self.name = type(self.detector).__name__
        if not hasattr(self.scorer, "score_samples"):
            raise TypeError(
                "EnergyDisplay needs a detector with score_samples, or a Pipeline or search that "
                f"ends in one; got {self.name}."
            )
        n_features = getattr(self.scorer, "n_features_in_", 2)
        if n_features != 2:
            raise ValueError(
                f"EnergyDisplay is for data in the plane: {type(self.scorer).__name__} was fitted "
                f"on {n_features} features, it needs 2."
            )

    def rows(self, X: ArrayLike) -> NDArray:
        """Rows (n, 2) as the detector would take them, refused with scikit-learn's messages."""
        return validate_data(self.scorer, X, dtype=np.float64, reset=False)

    def scores(self, xs: NDArray, ys: NDArray) -> NDArray:
        """Scores (len(ys), len(xs)) on a grid."""
        points = _with_names(self.scorer, grid_points(xs, ys))
        return np.asarray(self.scorer.score_samples(points)).reshape(len(ys), len(xs))

    def negatives(self) -> NDArray | None:
        """Negatives (n, 2) in the units of X, or None if there are none or no way back to them."""
        rows = getattr(self.detector, "negatives_", None)
        if rows is None or not len(rows):
            return None
        for steps in reversed(self.before):
            if not hasattr(steps, "inverse_transform"):
                return None
            rows = steps.inverse_transform(rows)
        return np.asarray(rows)

    def density(self, xs: NDArray, ys: NDArray) -> NDArray:
        """Densities (len(ys), len(xs)) on a grid, in the units of X."""
        us, vs = self._axes_of_detector(xs, ys)
        if hasattr(self.detector, "log_density_grid"):
            log_density = self.detector.log_density_grid(us, vs)
        elif hasattr(self.detector, "log_density"):
            points = _with_names(self.detector, grid_points(us, vs))
            log_density = self.detector.log_density(points).reshape(len(vs), len(us))
        else:
            raise ValueError(
                f"{self.name} has no density, which needs a method log_density_grid, as "
                "energy-based detectors (NAE, MPDR) have it, or log_density; possible for it is "
                "response='energy'."
            )
        # The change of variables, so that an integral over the grid stays what it was.
        stretch = np.outer(np.gradient(vs) / np.gradient(ys), np.gradient(us) / np.gradient(xs))
        return np.exp(log_density) * stretch

    def _axes_of_detector(self, xs: NDArray, ys: NDArray) -> tuple[NDArray, NDArray]:
        """Axes of the grid in the units that the detector was fitted in."""
        if not self.before:
            return xs, ys
        points: Any = _with_names(self.scorer, grid_points(xs, ys))
        for steps in self.before:
            points = steps.transform(points)
        grid = np.asarray(points).reshape(len(ys), len(xs), -1)
        us, vs = grid[0, :, 0], grid[:, 0, -1]
        rising = (np.diff(us) > 0).all() and (np.diff(vs) > 0).all()
        by_column = np.allclose(grid, np.stack(np.meshgrid(us, vs), axis=-1))
        if grid.shape[2] != 2 or not rising or not by_column:
            raise ValueError(
                "response='density' needs steps before the detector that scale each of the two "
                "columns by itself and keep its order, as StandardScaler does; possible for any "
                "steps is response='energy'."
            )
        return us, vs

    def labels(self, X: ArrayLike | None) -> Sequence[str]:
        """Names of the two columns."""
        names = getattr(self.scorer, "feature_names_in_", getattr(X, "columns", ("x0", "x1")))
        return [str(name) for name in names]


def _unwrap(estimator: Any) -> tuple[Any, Any, list[Pipeline]]:
    """Return what scores rows, the detector in it, and the steps before the detector.

    The detector is the last step of a pipeline and the best one of a search.
    """
    check_is_fitted(estimator)
    before = []
    scorer = detector = getattr(estimator, "best_estimator_", estimator)
    while True:
        if isinstance(detector, Pipeline):
            if len(detector.steps) > 1:
                before.append(detector[:-1])
            detector = detector.steps[-1][1]
        elif hasattr(detector, "best_estimator_"):
            detector = detector.best_estimator_
        else:
            return scorer, detector, before


def _with_names(estimator: Any, points: NDArray) -> Any:
    """Points as a table if the estimator was fitted on one."""
    names = getattr(estimator, "feature_names_in_", None)
    return points if names is None else pd.DataFrame(points, columns=names)


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
    # A constant column has no range.
    room = margin * (high - low) if high > low else max(abs(low), 1.0) / 2
    return low - room, high + room


def _some(rows: NDArray | None, n: int | None, chance: np.random.RandomState) -> NDArray | None:
    """At most `n` of the rows."""
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
    >>> sizes = {"hidden_sizes": (32,), "manifold_steps": 100, "max_steps": 50}
    >>> detector = MPDR(**sizes, random_state=0).fit(X)
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
        require("matplotlib", extra="plot")  # before what may take long
        check_scalar(grid_resolution, "grid_resolution", Integral, min_val=2)
        check_scalar(margin, "margin", Real, min_val=0)
        if subsample is not None:
            check_scalar(subsample, "subsample", Integral, min_val=1)
        if response not in ("energy", "density"):
            raise ValueError(f"response={response!r} must be 'energy' or 'density'.")
        plane = _Plane(estimator)
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
        self.ax_ = ax = _new_axes((6.4, 5.4)) if ax is None else ax
        self.figure_: Any = ax.figure
        colors = self._colors(kwargs)
        self.surface_ = ax.pcolormesh(xs, ys, np.asarray(self.values), **colors)
        self.threshold_ = self._threshold(xs, ys, threshold_kwargs) if plot_threshold else None
        style = {"s": 10, "color": "white", "edgecolors": "black", "linewidths": 0.5}
        self.data_ = self._points("data", self.X if plot_data else None, style, data_kwargs)
        style = {"s": 12, "color": _NEGATIVES_COLOR, "marker": "x", "linewidths": 0.8}
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
        """Arguments of pcolormesh: the user's over ours."""
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
            label += " (all beyond the map)"  # who looks for them should know
        return self.ax_.scatter(x, y, **{"label": label, **style, **(kwargs or {})})

    def _colorbar(self) -> Any:
        norm, values = self.surface_.norm, np.asarray(self.values)
        below, above = values.min() < norm.vmin, values.max() > norm.vmax
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
        name = f"{self.estimator_name} " if self.estimator_name else ""
        label = f"{name}energy, $-$score_samples (low is normal)"
        if self.response == "density":
            label = f"{name}density (per unit area)"
        return self.figure_.colorbar(self.surface_, ax=self.ax_, label=label, extend=extend)

    def _legend(self, own: bool) -> Any:
        """Below the map in a figure of its own, else inside the axes: the rest is not ours."""
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


# ---- course of training -------------------------------------------------------------------


def _stages(history: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Split a history into stages; the steps of one that was run again go on counting.

    A column `run` numbers the calls within a stage.
    """
    changes = history["stage"] != history["stage"].shift()
    for _, stage in history.groupby(changes.cumsum()):
        again = stage["step"].diff() <= 0
        done = stage["step"].shift().where(again, 0).cumsum()
        yield stage.assign(step=stage["step"] + done.astype(int), run=again.cumsum())


def _energies(stage: pd.DataFrame) -> list[str]:
    """Names of the columns of energies that say more than the loss does."""
    names = [name for name in _ENERGIES if name in stage and stage[name].notna().any()]
    return [] if names == ["energy"] and np.allclose(stage["energy"], stage["loss"]) else names


class TrainingDisplay:
    """Course of training: losses, and mean energies of data and negatives, by stage.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes. Every stage has a
    column with a panel for its loss and, if it has energies, one for these below. A dotted line is
    where ``partial_fit`` or ``warm_start`` ran a stage again.

    Parameters
    ----------
    history : DataFrame
        A detector's ``history_``: a row per epoch with columns stage, step and loss, and energy
        and negative_energy where a stage has them.

    Attributes
    ----------
    axes_ : ndarray of shape (1 or 2, n_stages)
        Axes of the losses and, if any stage has them, of the energies; None for a stage without.
    bounding_ax_ : matplotlib Axes or None
        Axes inside of which several panels were drawn.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : dict of str to list of Line2D
        Lines of the columns "loss", "energy" and "negative_energy" of the history, as far as they
        are drawn: one for each time that a stage was run.

    See Also
    --------
    EnergyDisplay : What was learnt, on data in the plane.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.datasets import make_eight_gaussians
    >>> from skgenad.inspection import TrainingDisplay
    >>> X, _ = make_eight_gaussians(500, random_state=0)
    >>> sizes = {"hidden_sizes": (32,), "manifold_steps": 200, "max_steps": 100}
    >>> detector = MPDR(**sizes, random_state=0).fit(X)
    >>> display = TrainingDisplay.from_estimator(detector)
    >>> [axes.get_title() for axes in display.axes_[0]]
    ['stage "manifold"', 'stage "energy"']
    >>> display.figure_.savefig("training.png")  # doctest: +SKIP
    """

    def __init__(self, *, history: pd.DataFrame) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the history of a fitted detector.

        Parameters
        ----------
        estimator : estimator
            Detector that was trained by gradients, or a `Pipeline` or search that ends in one.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : TrainingDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the detector was not trained by gradients, so that it has no history.
        ImportError
            If matplotlib is not installed.
        """
        _, detector, _ = _unwrap(estimator)
        history = getattr(detector, "history_", None)
        if history is None or not len(history):
            raise ValueError(
                f"{type(detector).__name__} has no course of training to draw: its history_ is "
                f"{'missing' if history is None else 'empty'}. TrainingDisplay needs a detector "
                "that is trained by gradients."
            )
        return cls(history=history).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw losses and energies.

        A panel is logarithmic, around zero if need be, where its values fall far.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots if several panels have to be fitted inside;
            None makes a figure.
        **kwargs : dict
            Arguments of ``Axes.plot`` for all lines, such as `linewidth`.

        Returns
        -------
        display : TrainingDisplay
            Itself.
        """
        stages = list(_stages(self.history))
        energies = [_energies(stage) for stage in stages]
        self._make_axes(energies, ax)
        self.lines_: dict[str, list[Line2D]] = {}
        for k, (stage, names) in enumerate(zip(stages, energies, strict=True)):
            self._draw(self.axes_[0, k], stage, ["loss"], kwargs)
            title = f'stage "{stage["stage"].iloc[0]}"'
            self.axes_[0, k].set_title(title, fontsize="medium")
            self.axes_[0, k].set_ylabel("loss")
            if names:
                self._draw(self.axes_[1, k], stage, names, kwargs)
                self.axes_[0, k].tick_params(labelbottom=False)
                self.axes_[1, k].set_ylabel("mean energy")
                # Between the panels, where no line can run under it.
                place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
                self.axes_[1, k].legend(**place, ncols=2, frameon=False)
            self.axes_[1 if names else 0, k].set_xlabel("gradient step")
        return self

    def _make_axes(self, energies: list[list[str]], ax: Any) -> None:
        """Set the panels, in a figure of their own or in place of `ax`.

        The loss of a stage without energies takes the room of both.
        """
        shape = n_panels, n_stages = 1 + any(energies), len(energies)
        self.axes_, self.bounding_ax_ = np.full(shape, None), None
        if ax is None:
            size = (max(6.4, 4.2 * n_stages), 2.0 + 1.6 * n_panels)
            ax = _new_axes(size)
        self.figure_: Any = ax.figure
        if shape == (1, 1):
            self.axes_[0, 0] = ax
            return
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError(
                f"this history fills {n_panels} x {n_stages} panels, and the axes that were passed "
                "are no subplot whose place could be divided. Pass one that `subplots` made."
            )
        ax.set_axis_off()
        self.bounding_ax_, grid = ax, place.subgridspec(n_panels, n_stages)
        for k, names in enumerate(energies):
            self.axes_[0, k] = self.figure_.add_subplot(grid[0 if names else slice(None), k])
            if names:
                self.axes_[1, k] = self.figure_.add_subplot(grid[1, k], sharex=self.axes_[0, k])

    def _draw(
        self, ax: Axes, stage: pd.DataFrame, columns: list[str], kwargs: dict[str, Any]
    ) -> None:
        """Draw columns of one stage's history in one panel."""
        marker = "o" if len(stage) <= _FEW_EPOCHS else ""
        for name in columns:
            style = {"marker": marker, "markersize": 3, **_LINES[name], **kwargs}
            for k, run in stage.groupby("run"):
                (line,) = ax.plot(run["step"], run[name], **style)
                if k:
                    line.set_label("_again")  # the legend has it already
                self.lines_.setdefault(name, []).append(line)
        for step in stage["step"][stage["run"].shift(-1) > stage["run"]]:
            ax.axvline(step, color="0.5", linewidth=0.8, linestyle=":")
        _set_scale(ax, stage[columns].to_numpy().ravel())
        ax.set_xlim(0, stage["step"].iloc[-1] * 1.03)


def _set_scale(ax: Axes, values: NDArray) -> None:
    """Make an axis logarithmic if the largest of its values is many times the typical one."""
    values = values[np.isfinite(values)]
    typical = float(np.median(np.abs(values))) if len(values) else 0.0
    if not typical or np.abs(values).max() < _LONG_FALL * typical:
        return
    if (values > 0).all():
        ax.set_yscale("log", subs=[2, 5])
        short = values.max() < 100 * values.min()  # decades alone would be too few ticks
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}" if short else "")
    else:
        # Three decades on either side: more would crowd their ticks around zero.
        linear = max(typical, np.abs(values).max() / 1000)
        ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(linear)))


def _new_axes(figsize: tuple[float, float]) -> Axes:
    """Axes of a new figure of pyplot's."""
    pyplot = require("matplotlib.pyplot", extra="plot")
    return pyplot.subplots(figsize=figsize, layout="constrained")[1]
