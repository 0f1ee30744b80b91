"""The display of the course of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ._common import BLUE, VERMILION, divided, new_axes, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_ENERGIES = ("energy", "negative_energy")
_LINES: dict[str, dict[str, Any]] = {
    "loss": {"color": "black"},
    "energy": {"color": BLUE, "label": "data"},
    "negative_energy": {"color": VERMILION, "linestyle": "--", "label": "negatives"},
}
# An axis is logarithmic where the largest value is so many times the median.
_LONG_FALL = 20
# Stages of up to so many epochs have a dot for each epoch.
_FEW_EPOCHS = 40


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
    >>> detector = MPDR(network=(32,), max_steps=100, random_state=0).fit(X)
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
        _, detector, _ = unwrap(estimator)
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
                # The legend lies between the panels, where no line can run under it.
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
            ax = new_axes(size)
        self.figure_: Any = ax.figure
        if shape == (1, 1):
            self.axes_[0, 0] = ax
            return
        self.bounding_ax_, grid = ax, divided(ax, shape)
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
                    line.set_label("_again")  # the first run's line is in the legend
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
        short = values.max() < 100 * values.min()  # decades alone would make too few ticks
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}" if short else "")
    else:
        # With more than three decades on either side, ticks would crowd around zero.
        linear = max(typical, np.abs(values).max() / 1000)
        ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(linear)))
