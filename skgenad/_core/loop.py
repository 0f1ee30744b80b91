"""The one training loop: a skorch net that runs one :class:`Stage` after another.

A stage counts gradient steps. Its "epochs" are blocks of ``STEPS_PER_EPOCH`` steps, whatever the
number of rows: they are the beat of the history, of the divergence guard and of callbacks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from torch import Tensor, nn

from skgenad._tensors import draws

from .cuda_graphs import Stepper
from .schedules import Schedule, cosine

STEPS_PER_EPOCH = 50

# Maps a module, whatever its class, and a batch to the named parts of the loss.
Objective = Callable[[Any, Tensor], dict[str, Tensor]]


class StopStage(Exception):
    """Raised by a callback in ``on_epoch_end`` to end a stage early."""


def _own_loss(module: Any, batch: Tensor) -> dict[str, Tensor]:
    return module.loss(batch)


@dataclass(kw_only=True)
class Stage:
    """One stage of training.

    Parameters
    ----------
    name : str
        Name in the history and on the progress bar.
    objective : callable, default=the module's ``loss``
        Maps (module, batch) to a dict of scalars; "loss" is back-propagated, the rest goes to the
        history. A part called "negative_energy" is watched by the divergence guard. A loss that
        depends on no parameter, as :func:`skipped` returns, skips the batch.
    optimizers : mapping of str to Optimizer
        What the stage trains; their learning rates follow `schedule`. A parameter in
        none of them is frozen.
    n_steps : int
        Number of gradient steps.
    schedule : callable, default=cosine
        Maps a step and the number of steps to a factor on the learning rates of all optimisers, up
        to a constant.
    clip_norm : float, optional
        Largest norm of the gradient of all parameters.
    energy_limit : float, default=inf
        A mean energy of the negatives beyond this, in either direction, counts as divergence.
    before : callable, optional
        Called with the module and the stage's inputs, of the rows held out too, before the stage
        when training starts anew, not when it continues.
    inputs : callable, optional
        Maps (module, rows) to the inputs, row by row, that batches are made of; default is the
        rows. For what the stage does not train and would else compute in every step.
    validate : callable, optional
        Maps (module, inputs) to a loss of shape (), the mean over rows. Where rows were held out,
        the stage ends with the state of the epoch in which their loss was lowest.
    labelled : bool, default=False
        Whether inputs have one column more, the place of the row's class among the classes.
    is_steady : callable, optional
        Maps the module to whether the objective, from now on, launches the same kernels on the
        same tensors in each step: it looks at no value and nothing grows. On a GPU such steps are
        recorded and replayed. Without it they never are.
    """

    name: str
    optimizers: Mapping[str, torch.optim.Optimizer]
    n_steps: int
    objective: Objective = _own_loss
    schedule: Schedule = cosine
    clip_norm: float | None = None
    energy_limit: float = float("inf")
    before: Callable[[Any, Tensor], None] | None = None
    inputs: Callable[[Any, Tensor], Tensor] | None = None
    validate: Callable[[Any, Tensor], Tensor] | None = None
    labelled: bool = False
    is_steady: Callable[[Any], bool] | None = None


def is_steady(module: Any) -> bool:
    """Say whether a module's parts are all steady: the `is_steady` of a stage of such steps."""
    return module.is_steady


def skipped(batch: Tensor) -> dict[str, Tensor]:
    """Return what an objective returns for a batch that no gradient step is to be made of."""
    return {"loss": batch.new_zeros(())}


class RowBatches:
    """Endless batches of exactly `batch_size` rows, each pass over the rows in a new order.

    A batch may end one pass and begin the next, so that its size never changes, however few
    rows there are. Iterating yields the next ``STEPS_PER_EPOCH`` batches, or as many as the
    stage has left.
    """

    def __init__(self, rows: Tensor, batch_size: int, n_steps: int) -> None:
        self.rows, self.batch_size, self.left = rows, batch_size, n_steps
        self._order = torch.empty(0, dtype=torch.long, device=rows.device)

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(min(STEPS_PER_EPOCH, self.left)):
            self.left -= 1
            yield self._next()

    def _next(self) -> Tensor:
        if len(self._order) < self.batch_size:
            passes = -(-self.batch_size // len(self.rows))
            order = [draws.randperm(len(self.rows), device=self.rows.device) for _ in range(passes)]
            self._order = torch.cat([self._order, *order])
        index, self._order = self._order.split(
            [self.batch_size, len(self._order) - self.batch_size]
        )
        return self.rows.index_select(0, index)


class StageNet(NeuralNet):
    """A skorch net that runs one stage; callbacks find the stage as ``net.stage``."""

    def __init__(
        self, module: nn.Module, *, stage: Stage, batch_size: int, callbacks: list[Any]
    ) -> None:
        self.stage = stage
        super().__init__(
            module,
            criterion=nn.Identity,
            batch_size=batch_size,
            max_epochs=-(-stage.n_steps // STEPS_PER_EPOCH),
            train_split=None,
            callbacks=callbacks,
            device=None,
            verbose=0,
        )

    @property
    def _default_callbacks(self) -> list[Any]:
        return []

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> StageNet:
        """Take the stage's optimisers."""
        self.optimizer_ = next(iter(self.stage.optimizers.values()))
        return self

    def get_dataset(self, X: Tensor, y: None = None) -> Tensor:
        """Return the rows, which are a tensor already."""
        return X

    def get_iterator(self, dataset: Tensor, training: bool = False) -> RowBatches:
        """Batches by indexing, a fixed number per epoch."""
        return RowBatches(dataset, self.batch_size, self.stage.n_steps)

    def train_step(self, batch: Tensor, **fit_params: Any) -> dict[str, Any]:
        """One gradient step of all the stage's optimisers."""
        parts = self._stepper(batch)
        loss = parts.pop("skipped") if "skipped" in parts else parts["loss"]
        return {"loss": loss, "parts": parts, "y_pred": loss}

    def _step(self, batch: Tensor) -> dict[str, Tensor]:
        optimizers = self.stage.optimizers.values()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = self.stage.objective(self.module_, batch)
        if not parts["loss"].requires_grad:
            return {"skipped": parts["loss"]}
        parts["loss"].backward()
        self.notify("on_grad_computed", named_parameters=self._named_parameters, batch=batch)
        for optimizer in optimizers:
            optimizer.step()
        return {name: value.detach() for name, value in parts.items()}

    def _is_steady(self) -> bool:
        """Whether a step may be recorded: never if a callback works on its gradients."""
        return (
            self.stage.is_steady is not None
            and not any(_sees_gradients(callback) for _, callback in self.callbacks_)
            and self.stage.is_steady(self.module_)
        )

    def run_single_epoch(
        self, iterator: RowBatches | None, training: bool, prefix: str, step_fn: Callable, **_: Any
    ) -> None:
        """Run a block of steps; sums stay on the device until its end."""
        if iterator is None:
            return
        self._set_training(True)
        start, count, n_skipped = time.perf_counter(), 0, 0
        sums: dict[str, Tensor] = {}
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            for name, value in step["parts"].items():
                sums[name] = sums[name] + value if name in sums else value
            count += 1
            n_skipped += not step["parts"]
            self.notify("on_batch_end", batch=batch, training=training, **step)
        # If all batches were skipped there is no loss; the divergence guard stops at NaN.
        for name, value in (sums or {"loss": torch.tensor(math.nan)}).items():
            name = f"{prefix}_loss" if name == "loss" else name
            self.history.record(name, float(value) / max(1, count - n_skipped))
        self.history.record(f"{prefix}_batch_count", count)
        self.history.record("seconds", time.perf_counter() - start)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks; skorch's EarlyStopping asks for the end by KeyboardInterrupt."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            stoppers = [cb for _, cb in self.callbacks_ if isinstance(cb, EarlyStopping)]
            if any(getattr(cb, "misses_", None) == cb.patience for cb in stoppers):
                raise StopStage from None
            raise

    def run(self, rows: Tensor) -> None:
        """Run the stage on `rows`; unlike ``fit``, let KeyboardInterrupt pass."""
        self.initialize()
        # The parameters are listed once: walking the modules in each step costs as much as a layer.
        self._named_parameters = list(self.module_.named_parameters())
        self._stepper = Stepper(self._step, self.stage.optimizers.values(), self._is_steady)
        self.notify("on_train_begin", X=rows, y=None)
        try:
            self.fit_loop(rows)
        except StopStage:
            pass
        self.notify("on_train_end", X=rows, y=None)


def _sees_gradients(callback: Callback) -> bool:
    """Whether a callback works on gradients: no replay of a recorded step would call it."""
    is_own = type(callback).on_grad_computed is not Callback.on_grad_computed
    return is_own and not isinstance(callback, GradientNormClipping)
