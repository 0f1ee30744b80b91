"""The one training loop: a skorch net that runs one :class:`Stage` after another.

A stage counts gradient steps. Its "epochs" are blocks of ``STEPS_PER_EPOCH`` steps, whatever the
number of rows: they are the beat of the history, of the divergence guard and of callbacks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    GradientNormClipping,
    ParamMapper,
    PrintLog,
    WandbLogger,
)
from skorch.exceptions import SkorchException
from torch import Tensor, nn

from skgenad._tensors.chunks import LazyRows, Rows, chunks_of
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.seeds import derived_seed, generator_on, seeded

from .batches import STEPS_PER_EPOCH, RowBatches
from .cuda_graphs import Stepper
from .schedules import Schedule, cosine
from .users_callbacks import may_draw, missing_column

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
    resume : callable, optional
        Called in its place when training continues.
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
    before: Callable[[Any, Rows], None] | None = None
    resume: Callable[[Any, Rows], None] | None = None
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


class StageNet(NeuralNet):
    """A skorch net that runs one stage; callbacks find the stage as ``net.stage``.

    Its history has skorch's names, so that skorch's callbacks find what they look for: `epoch`,
    which counts on over the stages of a fit, `train_loss`, `train_loss_best`, `dur`, with rows held
    out `valid_loss` and `valid_loss_best`, and of each batch its loss and its size. Batches are
    pairs of rows and None, since there are no targets. ``net.predict`` gives the energies of rows.

    Parameters
    ----------
    module : nn.Module
        What the objective is given.
    stage : Stage
        What to do.
    batch_size : int
        Rows in a batch.
    own : list of Callback
        The package's callbacks. They come first, so that the guard has judged an epoch before a
        user's callback ends the stage or keeps its weights; but those that may end it come last.
    callbacks : list of skorch callbacks
        The user's.
    held_out : Tensor of shape (m, d), optional
        Inputs of the rows that the stage validates on.
    n_epochs_before : int, default=0
        Epochs of the detector's earlier stages.
    keeper : Keeper, optional
        What writes down where the stage stands, and has put it back to where it stood.
    device : torch.device or str, default="cpu"
        Where the module is.
    verbose : int, default=0
        Whether stock callbacks that report may print.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        stage: Stage,
        batch_size: int,
        own: list[Callback],
        callbacks: list[Any],
        held_out: Tensor | None = None,
        n_epochs_before: int = 0,
        keeper: Any = None,
        device: torch.device | str = "cpu",
        verbose: int = 0,
    ) -> None:
        self.keeper = keeper
        self.stage, self.held_out, self.n_epochs_before = stage, held_out, n_epochs_before
        self.own, self.has_users_callbacks = own, bool(callbacks)
        groups = next(iter(stage.optimizers.values())).param_groups
        super().__init__(
            module,
            criterion=nn.Identity,
            lr=groups[0]["lr"],
            batch_size=batch_size,
            max_epochs=-(-stage.n_steps // STEPS_PER_EPOCH),
            train_split=None,
            callbacks=[*_named(own, last=False), *callbacks, *_named(own, last=True)],
            device=str(device),
            verbose=verbose,
            # What a step gives is a loss, and no prediction that a scoring callback could use.
            use_caching=False,
        )

    first_loss_: Tensor | None

    @property
    def _default_callbacks(self) -> list[Any]:
        return []

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> StageNet:
        """Take the stage's optimisers."""
        self.optimizer_ = next(iter(self.stage.optimizers.values()))
        return self

    # ---- rows -----------------------------------------------------------------------------

    def get_dataset(self, X: Any, y: None = None) -> Rows:
        """Return the rows, which are a tensor already unless a user's callback brings its own."""
        if isinstance(X, Tensor | LazyRows):
            return X
        return torch.as_tensor(X, dtype=torch.float32, device=self.device)

    def get_split_datasets(
        self, X: Rows, y: None = None, **fit_params: Any
    ) -> tuple[Rows, Tensor | None]:
        """Return the rows to train on, and those held out."""
        return self.get_dataset(X), self.held_out

    def get_iterator(self, dataset: Rows, training: bool = False) -> Any:
        """Batches by indexing, a fixed number per epoch; to predict, each row once."""
        if training:
            self._batches = RowBatches(dataset, self.batch_size, self.stage.n_steps)
            self._batches.go_on(*self._order_to_go_on)
            return self._batches
        return [(chunk, None) for chunk in chunks_of(dataset)]

    def infer(self, x: Tensor, **fit_params: Any) -> Tensor:
        """Energies of the stage's inputs, where these are rows: what ``net.predict`` gives."""
        if self.stage.inputs is not None:
            raise NotImplementedError(
                f"stage {self.stage.name!r} is trained on what was made of the rows, which has no "
                "energies: let the callback work with net.module_ and net.history."
            )
        return self.module_.energy(x[:, :-1] if self.stage.labelled else x)

    # ---- steps ----------------------------------------------------------------------------

    def train_step(self, batch: Tensor, **fit_params: Any) -> dict[str, Any]:
        """One gradient step of all the stage's optimisers."""
        parts = self._stepper(batch)
        loss = parts.pop("skipped") if "skipped" in parts else parts["loss"]
        return {"loss": loss, "parts": parts, "y_pred": loss}

    def _step(self, batch: Tensor) -> dict[str, Tensor]:
        optimizers = self.stage.optimizers.values()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for parameter in self._untrained:
            parameter.grad = None
        parts = self.stage.objective(self.module_, batch)
        if not parts["loss"].requires_grad:
            return {"skipped": parts["loss"]}
        parts["loss"].backward()
        self.notify(
            "on_grad_computed",
            named_parameters=self._named_parameters,
            batch=(batch, None),
            training=True,
        )
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
        self, iterator: Any, training: bool, prefix: str, step_fn: Callable, **_: Any
    ) -> None:
        """Run a block of steps; sums stay on the device until its end."""
        if not training:
            return  # the guard looks at the epoch first, and then `BestEpoch` calls `validate`
        self._set_training(True)
        count = n_steps = 0
        sums: dict[str, Tensor] = {}
        for batch in iterator:
            self.notify("on_batch_begin", batch=(batch, None), training=True)
            if not self.module_.training:  # a user's callback has predicted
                self._set_training(True)
            step = step_fn(batch)
            if step["parts"] and self.first_loss_ is None:
                self.first_loss_ = step["loss"].detach().clone()  # a recording writes there anew
            for name, value in step["parts"].items():
                sums[name] = sums[name] + value if name in sums else value
            n_steps += bool(step["parts"])
            count += 1
            if self.has_users_callbacks:
                self._record_batch(len(batch), step)
            self.notify("on_batch_end", batch=(batch, None), training=True, **step)
        self._read_losses()
        # If all batches were skipped there is no loss; the divergence guard stops at NaN.
        for name, value in (sums or {"loss": torch.tensor(math.nan)}).items():
            name = "train_loss" if name == "loss" else name
            self.record(name, float(value) / max(1, n_steps))
        self.history.record("train_batch_count", count)

    def _record_batch(self, n_rows: int, step: Mapping[str, Any]) -> None:
        """Keep a batch for users' callbacks; a batch that was skipped has no loss."""
        self.history.record_batch("train_batch_size", n_rows)
        if step["parts"]:
            # To read a number waits for the device, so it is read now only where somebody looks.
            loss = float(step["loss"]) if self._is_watched else step["loss"]
            self.history.record_batch("train_loss", loss)

    def _read_losses(self) -> None:
        """Read the losses that were left on the device, all at once."""
        batches = self.history[-1]["batches"]
        rows = [row for row in batches if isinstance(row.get("train_loss"), Tensor)]
        if rows:
            losses = torch.stack([row["train_loss"] for row in rows]).tolist()
            for row, loss in zip(rows, losses, strict=True):
                row["train_loss"] = loss

    def validate(self, rows: Tensor) -> float:
        """Mean loss of rows (m, d) that were held out, in evaluation mode."""
        assert self.stage.validate is not None
        self.module_.eval()
        total = 0.0
        for chunk in chunks_of(rows):
            batch = (chunk, None)
            self.notify("on_batch_begin", batch=batch, training=False)
            loss = self.stage.validate(self.module_, chunk)
            total += float(loss) * len(chunk)
            self.history.record_batch("valid_loss", float(loss))
            self.history.record_batch("valid_batch_size", len(chunk))
            self.notify("on_batch_end", batch=batch, training=False, loss=loss, y_pred=loss)
        return total / len(rows)

    def record(self, name: str, value: float) -> None:
        """Write a number of the epoch down and, of a loss, whether it is the lowest so far."""
        self.history.record(name, value)
        if name in ("train_loss", "valid_loss"):
            self.history.record(f"{name}_best", value < self._best.get(name, math.inf))
            self._best[name] = min(value, self._best.get(name, math.inf))

    # ---- callbacks ------------------------------------------------------------------------

    def on_epoch_begin(self, net: StageNet, *args: Any, **kwargs: Any) -> None:
        """Begin a row of the history; epochs count on, so that loggers' steps do not overlap."""
        if self.keeper is not None:  # all callbacks have seen the epoch before
            self.keeper.keep(self)
        super().on_epoch_begin(net, *args, **kwargs)
        self.history.record("epoch", self.n_epochs_before + len(self.history))
        self._start = time.perf_counter()

    def on_epoch_end(self, net: StageNet, *args: Any, **kwargs: Any) -> None:
        """Write down how long it took, before callbacks are called."""
        self.history.record("dur", time.perf_counter() - self._start)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks; skorch's EarlyStopping asks for the end by KeyboardInterrupt."""
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                if id(callback) in self._drawing and _overrides(callback, method_name):
                    with self._draws_of_a_call():
                        getattr(callback, method_name)(self, **cb_kwargs)
                else:
                    getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                is_stopper = isinstance(callback, EarlyStopping)
                if is_stopper and callback.misses_ == callback.patience:
                    raise StopStage from None
                raise
            except (KeyError, ValueError, SkorchException) as error:
                problem = missing_column(callback, self.history)
                if problem is None:
                    raise
                raise ValueError(problem) from error

    @contextmanager
    def _draws_of_a_call(self) -> Iterator[None]:
        """Let a user's callback draw from generators of its own, so that training does not move."""
        self._n_calls += 1
        seed = derived_seed(generator_on("cpu").initial_seed(), self._n_calls)
        with seeded(seed, self.device), own_draws():
            yield

    def run(self, rows: Rows) -> None:
        """Run the stage on `rows`; unlike ``fit``, let KeyboardInterrupt pass."""
        self.initialize()
        users = [callback for _, callback in self.callbacks_ if callback not in self.own]
        self._drawing, self._n_calls = {id(c) for c in users if may_draw(c)}, 0
        self._is_watched = any(_overrides(callback, "on_batch_end") for callback in users)
        if any(isinstance(callback, PrintLog) for callback in users):
            self.set_params(verbose=1)  # who adds it wants to see it
        self._best: dict[str, float] = {}
        self.first_loss_ = None
        # The parameters are listed once: walking the modules in each step costs as much as a layer.
        self._named_parameters = list(self.module_.named_parameters())
        groups = [g for o in self.stage.optimizers.values() for g in o.param_groups]
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        # Their gradients would add up from step to step, and callbacks see them.
        self._untrained = [p for _, p in self._named_parameters if id(p) not in trained]
        self._stepper = Stepper(self._step, self.stage.optimizers.values(), self._is_steady)
        self._show_batches(rows)
        self._order_to_go_on = torch.empty(0, dtype=torch.long), 0
        self.notify("on_train_begin", X=rows, y=None)
        n_done = 0 if self.keeper is None else self.keeper.resume(self)
        # A checkpoint that loads its best epoch puts another history in this one's place.
        self.epochs = self.history
        try:
            self.fit_loop(rows, epochs=self.max_epochs - n_done)
        except StopStage:
            pass
        self.notify("on_train_end", X=rows, y=None)

    def position(self) -> tuple[dict[str, Any], Tensor]:
        """Numbers, and the order of rows, by which :meth:`go_on` goes on from here."""
        first = None if self.first_loss_ is None else float(self.first_loss_)
        numbers = {"best": self._best, "n_calls": self._n_calls, "first_loss": first}
        return numbers, self._batches.order

    def go_on(self, numbers: Mapping[str, Any], order: Tensor, n_steps: int) -> None:
        """Go on, after so many steps, from where another net stood."""
        self._best, self._n_calls = dict(numbers["best"]), numbers["n_calls"]
        first = numbers["first_loss"]
        self.first_loss_ = None if first is None else torch.tensor(first, device=self.device)
        self._order_to_go_on = order, n_steps

    def _show_batches(self, rows: Rows) -> None:
        """Let skorch's progress bar, which divides rows by these numbers, count our batches."""
        steps = min(STEPS_PER_EPOCH, self.stage.n_steps)
        self.iterator_train__batch_size = len(rows) * (1 + 1e-9) / steps
        if self.held_out is not None:
            self.iterator_valid__batch_size = len(chunks_of(self.held_out)[0])


def own_loss(module: Any, rows: Tensor) -> Tensor:
    """Return the module's own loss (): the `validate` of a stage whose loss is that of the mean."""
    return module.loss(rows)["loss"]


def _named(own: list[Callback], last: bool) -> list[tuple[str, Callback]]:
    """Give those of our callbacks that come last, or the others, names that no user gives one."""
    chosen = [callback for callback in own if getattr(callback, "comes_last", False) == last]
    return [(f"own {type(callback).__name__}", callback) for callback in chosen]


def _overrides(callback: Callback, name: str) -> bool:
    """Whether a callback does something at an event."""
    return getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name)


def _sees_gradients(callback: Callback) -> bool:
    """Whether a callback works on gradients: a replayed step calls none and freezes nothing."""
    if isinstance(callback, (ParamMapper, WandbLogger)):
        return True
    is_own = type(callback).on_grad_computed is not Callback.on_grad_computed
    return is_own and not isinstance(callback, GradientNormClipping)
