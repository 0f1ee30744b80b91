"""The display of a time series, its scores and what is labelled in it."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, check_scalar
from sklearn.utils.validation import column_or_1d

from skgenad._core.frames import names_of

from ._common import BLUE, VERMILION, divided, method_of, new_axes, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

_HEIGHT, _WIDTH = 1.4, 11.0
_TITLE: dict[str, Any] = {"loc": "left", "fontsize": "small", "pad": 3}


class SeriesDisplay:
    """A time series, column by column, and below it the anomaly scores of its time steps.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes. Scores beyond the
    threshold are filled; what is labelled as anomalous is shaded in every panel.

    Parameters
    ----------
    X : ndarray of shape (n_times, n_features)
        The series.
    scores : ndarray of shape (n_times,)
        Anomaly scores of time steps, higher = more anomalous.
    threshold : float, default=None
        The score beyond which steps are anomalous; None draws no line.
    y : ndarray of shape (n_times,), default=None
        Labels: 1 or True where something is wrong; None shades nothing.
    names : list of str, default=None
        Names of the columns.

    Attributes
    ----------
    axes_ : ndarray of shape (n_panels,)
        Axes of the columns that are drawn, and last that of the scores.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : list of Line2D
        The lines of the columns, and last that of the scores.
    beyond_ : PolyCollection or None
        What is filled, if there is a threshold.

    See Also
    --------
    skgenad.preprocessing.SlidingWindows : Stretches of a series as rows of a detector.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Neighbors
    >>> from skgenad.inspection import SeriesDisplay
    >>> from skgenad.pipeline import make_pipeline
    >>> from skgenad.preprocessing import SlidingWindows
    >>> rhythm = np.sin(np.arange(500) / 3)[:, None]
    >>> model = make_pipeline(SlidingWindows(20), Neighbors(random_state=0)).fit(rhythm[:400])
    >>> series = rhythm[400:].copy()
    >>> series[50:65] = 0.0
    >>> display = SeriesDisplay.from_estimator(model, series)
    >>> len(display.axes_), bool(display.scores.max() > display.threshold)
    (2, True)
    >>> display.figure_.savefig("series.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        X: NDArray,
        scores: NDArray,
        threshold: float | None = None,
        y: NDArray | None = None,
        names: list[str] | None = None,
    ) -> None:
        self.X = X
        self.scores = scores
        self.threshold = threshold
        self.y = y
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Score a series and draw it.

        Parameters
        ----------
        estimator : estimator
            Fitted detector, or a `Pipeline` or search that ends in one. If one of the steps before
            it is `SlidingWindows`, that takes the scores back to time steps.
        X : array-like of shape (n_times, n_features)
            A series with a row for each time step.
        y : array-like of shape (n_times,), default=None
            Labels: 1 or True where something is wrong.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : SeriesDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If the estimator ends in no detector.
        ValueError
            If there is not one score for each time step.
        ImportError
            If matplotlib is not installed.
        """
        scorer, detector, before = unwrap(estimator)
        method_of(detector, "offset_", cls.__name__)
        series = np.asarray(X, dtype=np.float64)
        scores = -np.asarray(method_of(scorer, "score_samples", cls.__name__)(X))
        for step in (step for steps in before for _, step in steps.steps):
            if hasattr(step, "inverse_scores"):
                scores = step.inverse_scores(scores, len(series))
        if len(scores) != len(series):
            raise ValueError(
                f"There are {len(scores)} scores of {len(series)} time steps. SeriesDisplay needs "
                "a detector of rows, or one behind SlidingWindows."
            )
        labels = None
        if y is not None:
            check_consistent_length(series, y)
            labels = column_or_1d(y) > 0
        names, threshold = names_of(X), -float(detector.offset_)
        display = cls(X=series, scores=scores, threshold=threshold, y=labels, names=names)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, max_features: int = 6, **kwargs: Any) -> Self:
        """Draw the series and the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots; None makes a figure.
        max_features : int, default=6
            The most columns to draw, the first ones; at least 1.
        **kwargs : dict
            Arguments of ``Axes.plot`` for all lines, such as `linewidth`.

        Returns
        -------
        display : SeriesDisplay
            Itself.
        """
        check_scalar(max_features, "max_features", Integral, min_val=1)
        columns = np.asarray(self.X).T[:max_features]
        n = len(columns) + 1
        if ax is None:
            ax = new_axes((_WIDTH, _HEIGHT * (n + 0.5)))
        grid = divided(ax, (n, 1))
        first = ax.figure.add_subplot(grid[0])
        others = [ax.figure.add_subplot(grid[k], sharex=first) for k in range(1, n)]
        self.axes_, self.figure_ = np.array([first, *others]), ax.figure
        names = self.names or [f"x{j}" for j in range(len(columns))]
        style = {"linewidth": 0.9, **kwargs}
        self.lines_: list[Line2D] = []
        for panel, values, name in zip(self.axes_, columns, names, strict=False):
            self.lines_ += panel.plot(values, **{"color": "0.3", **style})
            panel.set_title(name, **_TITLE)
        self._draw_scores(self.axes_[-1], style)
        for panel in self.axes_:
            panel.label_outer()
            for start, end in self._labelled():
                panel.axvspan(start - 0.5, end - 0.5, color="0.5", alpha=0.25, linewidth=0)
        return self

    def _draw_scores(self, panel: Axes, style: dict[str, Any]) -> None:
        scores = np.asarray(self.scores)
        self.lines_ += panel.plot(scores, **{"color": BLUE, **style})
        self.beyond_: PolyCollection | None = None
        if self.threshold is not None:
            panel.axhline(self.threshold, color="black", linestyle="--", linewidth=0.8)
            beyond: dict[str, Any] = {
                "where": scores > self.threshold,
                "color": VERMILION,
                "alpha": 0.5,
                "interpolate": True,  # a single step beyond it has an area, too
            }
            times = np.arange(len(scores))
            self.beyond_ = panel.fill_between(times, scores, self.threshold, linewidth=0, **beyond)
        panel.set_title("anomaly score", **_TITLE)
        panel.set_xlabel("time step")

    def _labelled(self) -> list[tuple[int, int]]:
        """Where intervals of anomalous steps start and end."""
        if self.y is None:
            return []
        edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(self.y) > 0, [0]])))
        return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
