"""Functions that the displays share: the detector inside of an estimator, axes, and colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skgenad._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

# Every kind of colour vision tells these two colours of Okabe and Ito's palette apart.
BLUE, VERMILION = "#0072B2", "#D55E00"


def unwrap(estimator: Any) -> tuple[Any, Any, list[Pipeline]]:
    """Return the estimator that scores rows, the detector in it, and the steps before that.

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


def new_axes(figsize: tuple[float, float]) -> Axes:
    """Make axes in a new figure of pyplot's."""
    pyplot = require("matplotlib.pyplot", extra="plot")
    return pyplot.subplots(figsize=figsize, layout="constrained")[1]


def divided(ax: Axes, shape: tuple[int, int]) -> GridSpecFromSubplotSpec:
    """Put a grid of `shape` in the place of axes, which are switched off."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            f"this picture fills {shape[0]} x {shape[1]} panels, and the axes that were passed "
            "are no subplot whose place could be divided. Pass one that `subplots` made."
        )
    ax.set_axis_off()
    return place.subgridspec(*shape)


def extend_of(norm: Any, values: NDArray) -> str:
    """Say at which ends of a colour bar there are values beyond it: matplotlib's `extend`."""
    below, above = values.min() < norm.vmin, values.max() > norm.vmax
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def transformed(before: list[Pipeline], X: Any) -> Any:
    """Take rows through the steps before a detector; return them as the detector takes them."""
    for steps in before:
        X = steps.transform(X)
    return X


def method_of(detector: Any, name: str, display: str, advice: str = "") -> Callable[..., Any]:
    """Find a method of a detector; raise TypeError, with `advice`, if it does not have it."""
    try:
        return getattr(detector, name)
    except AttributeError as error:
        reason = f" ({error.__cause__})" if error.__cause__ else ""
        raise TypeError(
            f"{display} needs a detector with {name}, or a Pipeline or search that ends in one; "
            f"got {type(detector).__name__}{reason}. {advice}".rstrip()
        ) from error
