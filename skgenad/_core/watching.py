"""scikit-learn's own callbacks, which releases since 1.9 have: they are told how far a fit is.

A fit is a task, its stages are tasks in it, and their epochs are tasks in these. A search or a
pipeline hands its callbacks on to the detectors that it fits, and puts their tasks into its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .callbacks import OwnCallback
from .loop import Stage, StageNet, StopStage

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before 1.9 there are none, and nobody can set any

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's class of this name."""


__all__ = ["CallbackSupportMixin", "Watch", "Watcher"]


class Watch:
    """Tells scikit-learn's callbacks of a fit, of its stages and their epochs.

    Parameters
    ----------
    estimator : object
        What is fitted; it has callbacks.
    X, y : array-like
        What it was given.
    """

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        self._estimator, self._given = estimator, {"X": X, "y": y}
        self._fit = estimator._init_callback_context(max_subtasks=None)
        self._has_begun = False

    def begin(self, stages: Sequence[Stage], n_done: int = 0) -> None:
        """Tell of the fit, once its stages are known; so many of them are done."""
        self._has_begun = True
        self._fit.max_subtasks = sum(stage.n_steps > 0 for stage in stages)
        self.tell("begin", self._fit)
        for stage in stages[:n_done]:
            if stage.n_steps:
                self.tell("end", self.task(self._fit, stage.name))

    def begin_stage(self, name: str, n_epochs: int) -> Any:
        """Tell of a stage; what is returned is for its epochs."""
        return self.task(self._fit, name, max_subtasks=n_epochs)

    def task(self, parent: Any, name: str, **parameters: Any) -> Any:
        """Tell of a task in another one."""
        context = parent.subcontext(task_name=name, **parameters)
        self.tell("begin", context)
        return context

    def tell(self, what: str, context: Any, **parameters: Any) -> bool:
        """Tell of the beginning or the end of a task; whether a callback asks for the last one."""
        call = getattr(context, f"call_on_fit_task_{what}")
        return call(estimator=self._estimator, **self._given, **parameters) is True

    def end(self) -> None:
        """Tell that the fit has ended well; the estimator is fitted."""
        if not self._has_begun:
            self.begin([])
        self.tell("end", self._fit, reconstruction_attributes={})


class Watcher(OwnCallback):
    """Tells scikit-learn's callbacks of one stage.

    Parameters
    ----------
    watch : Watch
        By which they are told.
    """

    comes_last = True

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Tell of the stage."""
        self.stage_ = self.watch.begin_stage(net.stage.name, net.max_epochs)
        self.epoch_: Any = None

    def go_on(self, net: StageNet) -> None:
        """Tell of the epochs that were there before."""
        for _ in net.history:
            self.watch.tell("end", self.watch.task(self.stage_, "epoch"))

    def on_epoch_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Tell of an epoch."""
        self.epoch_ = self.watch.task(self.stage_, "epoch")

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Tell of its end; a callback may ask for that of the stage."""
        if self._end_epoch():
            raise StopStage

    def on_train_end(self, net: StageNet, **kwargs: Any) -> None:
        """Tell of the stage's end, and of that of an epoch in which it ended early."""
        if self.epoch_ is not None:
            self._end_epoch()
        self.watch.tell("end", self.stage_)

    def _end_epoch(self) -> bool:
        epoch, self.epoch_ = self.epoch_, None
        return self.watch.tell("end", epoch)
