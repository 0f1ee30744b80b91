"""The display of what makes a row an anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar

from skgenad._core.column_wise import Through
from skgenad._core.frames import columns_of, names_of, some_columns, some_rows, table_of
from skgenad._extras import require

from ._common import BLUE, VERMILION, divided, method_of, new_axes, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY, _INK = "0.86", "0.25"
# A value is drawn so far beyond the band at most, in widths of it.
_FARTHEST = 0.7


class ExplanationDisplay:
    """Bars of what raises a row's anomaly score, beside what is normal in each column.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    contributions : array-like of shape (n_features,)
        What each column adds to the anomaly score.
    values, repaired : sequence of length n_features
        The row, and its nearest normal version: numbers, or categories.
    normal : sequence of length n_features
        For each column the ends (low, high) between which most normal rows lie, or the most
        frequent of its categories.
    feature_names : sequence of str, default=None
        Names of the columns; None: "x0" and so on.
    scores : (float, float), default=None
        Anomaly scores of the row and of its repaired version.
    threshold : float, default=None
        Anomaly score above which rows are flagged.
    estimator_name : str, default=None
        Name of the detector.

    Attributes
    ----------
    axes_ : ndarray of shape (1, 2)
        Axes of the bars and of the values.
    bounding_ax_ : matplotlib Axes
        Axes inside of which they are.
    figure_ : matplotlib Figure
        Their figure.
    bars_ : BarContainer
        Bars, the largest contribution first.
    shown_ : ndarray
        Places of the columns that have a bar of their own.

    See Also
    --------
    ReconstructionDisplay : Rows beside their reconstructions.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Mahalanobis
    >>> from skgenad.inspection import ExplanationDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = Mahalanobis().fit(X)
    >>> display = ExplanationDisplay.from_estimator(detector, X + [0, 0, 7, 0], row=3)
    >>> int(display.shown_[0])
    2
    >>> display.figure_.savefig("explanation.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        contributions: ArrayLike,
        values: Sequence[Any],
        repaired: Sequence[Any],
        normal: Sequence[Any],
        feature_names: Sequence[str] | None = None,
        scores: tuple[float, float] | None = None,
        threshold: float | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.contributions = contributions
        self.values = values
        self.repaired = repaired
        self.normal = normal
        self.feature_names = feature_names
        self.scores = scores
        self.threshold = threshold
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        row: int = 0,
        *,
        reference: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Explain a row, and draw it.

        Parameters
        ----------
        estimator : estimator
            Detector with ``explain``, or a `Pipeline` or search that ends in one and whose other
            steps treat columns one by one.
        X : array-like of shape (n_samples, n_features)
            Rows of a table.
        row : int, default=0
            Place in `X` of the row to explain, not the label that a frame has for it; negative ones
            count from the end.
        reference : array-like of shape (n_reference, n_features), default=None
            Normal rows to compare with; None: training rows that the detector has kept. Columns
            that cannot be had of what was made of them, such as encoded texts, need rows.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`, such as ``max_features=5``.

        Returns
        -------
        display : ExplanationDisplay
            What was computed and drawn.

        Raises
        ------
        TypeError
            If the detector has no ``explain``.
        ValueError
            If the detector takes images: ``explain(X)`` has maps of them; if `row` is no place in
            `X`.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        scorer, detector, before = unwrap(estimator)
        scores = hasattr(detector, "score_samples")
        advice = "skgenad.compat.ScoreDetector(estimator) has it." if scores else ""
        method_of(detector, "explain", cls.__name__, advice)
        if detector._shape(reset=False) is not None:
            raise ValueError(
                f"{cls.__name__} draws rows of tables. The contributions of images are maps: "
                "explain(X).reshape(-1, channels, height, width)."
            )
        table = table_of(X)
        one = _one_row(table, row)
        seen = Through(before, detector)
        repaired = seen.repair(one, None, reference)
        normal = seen.normal_rows(one) if reference is None else _same_columns(reference, one)
        return cls(
            contributions=seen.explain(one, None, reference)[0],
            values=_cells(one),
            repaired=_cells(repaired),
            normal=[_normal_of(column) for column in columns_of(normal)],
            feature_names=_names(table),
            scores=tuple(-float(scorer.score_samples(each)[0]) for each in (one, repaired)),  # type: ignore[arg-type]
            threshold=-float(detector.offset_),
            estimator_name=type(detector).__name__,
        ).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, max_features: int = 10, **kwargs: Any) -> Self:
        """Draw bars of the largest contributions, and where the values lie.

        In a band lie nine of ten normal rows of a column. Values far beyond it are arrows at the
        edge.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots in whose place the panels are fitted; None
            makes a figure.
        max_features : int, default=10
            Columns that have a bar of their own, at least 1; one more bar is the sum of the rest.
        **kwargs : dict
            Arguments of ``Axes.barh``.

        Returns
        -------
        display : ExplanationDisplay
            Itself.
        """
        check_scalar(max_features, "max_features", Integral, min_val=1)
        contributions = np.asarray(self.contributions, dtype=np.float64)
        order = np.argsort(-np.abs(contributions), kind="stable")
        # Columns without a part in it say nothing; one bar at least is drawn.
        n = max(1, min(max_features, int((contributions != 0).sum())))
        self.shown_, rest = order[:n], order[n:]
        self._make_panels(ax, n + 1)
        self._bars(contributions, rest, kwargs)
        for place, j in enumerate(self.shown_):
            self._track(place, j)
        self._finish_tracks()
        return self

    def _make_panels(self, ax: Axes | None, n_bars: int) -> None:
        if ax is None:
            ax = new_axes((10, 1.4 + 0.46 * n_bars))
        grid = divided(ax, (1, 2))
        grid.set_width_ratios([1.25, 1])
        self.bounding_ax_, self.figure_ = ax, ax.figure
        self.axes_ = np.empty((1, 2), dtype=object)
        for k in range(2):
            self.axes_[0, k] = self.figure_.add_subplot(grid[0, k])

    # ---- bars -----------------------------------------------------------------------------

    def _bars(self, contributions: NDArray, rest: NDArray, kwargs: dict[str, Any]) -> None:
        panel = self.axes_[0, 0]
        widths = [*contributions[self.shown_], contributions[rest].sum()]
        labels = [f"{self._name(j)} = {_text(self.values[j])}" for j in self.shown_]
        labels.append(f"{len(rest)} other column{'s' * (len(rest) != 1)}")
        if not len(rest):
            widths, labels = widths[:-1], labels[:-1]
        colors = [VERMILION if width > 0 else BLUE for width in widths]
        style = {"color": colors, "height": 0.62, **kwargs}
        self.bars_ = panel.barh(np.arange(len(widths)), widths, **style)
        for place, width in enumerate(widths):
            text = f"{width:+.3g}" if width else "0"
            at = (max(width, 0), place)
            panel.annotate(text, at, (4, 0), textcoords="offset points", va="center")
        panel.set_yticks(np.arange(len(widths)), labels)
        panel.set_ylim(len(self.shown_) + 0.5, -0.7)
        panel.margins(x=0.2)
        panel.axvline(0, color=_INK, linewidth=0.8)
        panel.set_xlabel("contribution to the anomaly score")
        panel.set_title(self._title(), loc="left", fontsize="medium")
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)

    def _name(self, j: int) -> str:
        return f"x{j}" if self.feature_names is None else str(self.feature_names[j])

    def _title(self) -> str:
        name = f"{self.estimator_name}: " if self.estimator_name else ""
        if self.scores is None:
            return name.removesuffix(": ")
        before, after = self.scores
        limit = "" if self.threshold is None else f", flagged above {self.threshold:.3g}"
        return f"{name}anomaly score {before:.3g}{limit};\n{after:.3g} once repaired"

    # ---- values ---------------------------------------------------------------------------

    def _track(self, place: int, j: int) -> None:
        """Draw where a column's value and its repaired value lie to what is normal."""
        panel, normal = self.axes_[0, 1], self.normal[j]
        value, repaired = self.values[j], self.repaired[j]
        if isinstance(normal, str):
            text = (
                f"mostly {normal}" if _same(value, repaired) else f"{value} \N{RIGHTWARDS ARROW} "
            )
            if not _same(value, repaired):
                text += f"{repaired}   (mostly {normal})"
            panel.text(0.5, place, text, ha="center", va="center", color=_INK)
            return
        low, high = normal
        panel.barh(place, 1, height=0.2, color=_GREY)
        for x, end, ha in ((0, low, "left"), (1, high, "right")):
            self._note(_short(end), x, place, -7, color="0.4", ha=ha, va="top")
        if not _same(value, repaired):
            self._point(place, repaired, low, high, BLUE, filled=False)
        self._point(place, value, low, high, VERMILION, filled=True)

    def _note(self, text: str, x: float, place: int, above: float, **style: Any) -> None:
        style = {"fontsize": "x-small", "textcoords": "offset points", **style}
        self.axes_[0, 1].annotate(text, (x, place), (0, above), **style)

    def _point(
        self, place: int, value: Any, low: Any, high: Any, color: str, *, filled: bool
    ) -> None:
        panel = self.axes_[0, 1]
        if pd.isna(value):
            return
        number, start = _number(value), _number(low)
        width = _number(high) - start
        at = (number - start) / width if width > 0 else 0.5 + np.sign(number - start)
        x = float(np.clip(at, -_FARTHEST, 1 + _FARTHEST))
        marker = "o" if x == at or width <= 0 else (">" if at > 0 else "<")
        face = color if filled else "white"
        panel.plot(x, place, marker, color=color, markerfacecolor=face, markersize=8, zorder=3)
        if not filled:
            self._note(_text(value), x, place, 6, color=color, ha="center")

    def _finish_tracks(self) -> None:
        panel = self.axes_[0, 1]
        panel.set_ylim(len(self.shown_) + 0.5, -0.7)
        panel.set_xlim(-_FARTHEST - 0.15, 1 + _FARTHEST + 0.15)
        panel.set(xticks=[], yticks=[])
        panel.spines[["top", "right", "left", "bottom"]].set_visible(False)
        marks: list[Any] = [
            panel.plot([], [], "o", color=VERMILION, markersize=8)[0],
            panel.plot([], [], "o", color=BLUE, markerfacecolor="white", markersize=8)[0],
            panel.barh([0], [0], color=_GREY),
        ]
        names = ["value", "repaired", "nine of ten normal rows"]
        style: dict[str, Any] = {"loc": "lower center", "ncols": 3, "frameon": False}
        style |= {"fontsize": "small", "handletextpad": 0.4, "columnspacing": 1.2}
        panel.legend(marks, names, bbox_to_anchor=(0.5, 0), **style)


def _one_row(table: Any, row: Any) -> Any:
    """Take one of the rows of a table, by its place."""
    shape = np.shape(table)
    if len(shape) != 2:
        raise ValueError(f"X must be a table of rows, got shape {shape}. Of one row: X[[row]].")
    n = shape[0]
    if not isinstance(row, Integral) or not -n <= row < n:
        raise ValueError(
            f"row={row!r} must be the place of one of {n} rows, from 0 to {n - 1}; that of a label "
            "is X.index.get_loc(label)."
        )
    return some_rows(table, np.array([int(row) % n]))


def _names(X: Any) -> list[str] | None:
    names = names_of(X)
    return None if names is None else [str(name) for name in names]


def _same_columns(reference: Any, X: Any) -> Any:
    """Take the columns that `X` has of a frame of normal rows."""
    table, names, wanted = table_of(reference), names_of(reference), names_of(X)
    if names is None or wanted is None or names == wanted:
        return table
    return some_columns(table, np.array([names.index(name) for name in wanted]))


def _cells(X: Any) -> list[Any]:
    """Cells of a table of one row, of the types that its columns have."""
    if isinstance(X, pd.DataFrame):
        return X.astype(object).to_numpy()[0].tolist()
    return [column[0] for column in columns_of(X)]


def _normal_of(column: NDArray) -> Any:
    """Find the ends between which nine of ten numbers or times lie, or the most frequent value."""
    there = pd.Series(column).dropna()
    if len(there) and _is_time(there.iloc[0]):
        times = pd.Series([_of_time(value) for value in there])
        return tuple(times.quantile([0.05, 0.95]))
    is_flag = len(there) and isinstance(there.iloc[0], str | bool | np.bool_)
    numbers = pd.to_numeric(there, errors="coerce").dropna().astype(float)
    if len(numbers) and not is_flag:
        return tuple(np.quantile(numbers, (0.05, 0.95)).tolist())
    return str(there.mode().iloc[0]) if len(there) else "missing"


def _is_time(value: Any) -> bool:
    return isinstance(value, date | timedelta | np.datetime64 | np.timedelta64)


def _of_time(value: Any) -> Any:
    is_duration = isinstance(value, timedelta | np.timedelta64)
    return pd.Timedelta(value) if is_duration else pd.Timestamp(value)


def _number(value: Any) -> float:
    """Return the number that a value is: of a time, its seconds."""
    if not _is_time(value):
        return float(value)
    time = _of_time(value)
    return time.total_seconds() if isinstance(time, pd.Timedelta) else time.timestamp()


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if _is_time(value):
        text = str(_of_time(value).round("s"))
        return text.removeprefix("0 days ").removesuffix(" 00:00:00").removesuffix(":00")
    return str(value)


def _short(value: Any) -> str:
    """Text for an end of a band, beside which the other one stands."""
    if not _is_time(value):
        return _text(value)
    time = _of_time(value)
    if isinstance(time, pd.Timestamp):
        return f"{time:%Y-%m-%d}"
    days, hours = time / pd.Timedelta(1, "D"), time / pd.Timedelta(1, "h")
    return f"{days:.3g} d" if days >= 2 else f"{hours:.3g} h"


def _same(value: Any, other: Any) -> bool:
    if pd.isna(value) or pd.isna(other):
        return bool(pd.isna(value) and pd.isna(other))
    return bool(value == other)
