"""The one training loop: a skorch net that runs one :class:`Stage` after another.

A stage counts gradient steps. Its "epochs" are blocks of ``STEPS_PER_EPOCH`` steps, whatever the
number of rows: they are the beat of the history, of the divergence guard and of callbacks.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm.auto import tqdm

from ._cuda_graphs import Stepper
from ._moments import chunks_of
from ._random import seeded

STEPS_PER_EPOCH = 50

# Of the module, whatever its class, and a batch.
Objective = Callable[[Any, Tensor], dict[str, Tensor]]


class DivergenceWarning(UserWarning):
    """Training ran away; the last good weights were restored and the stage was ended.

    Examples
    --------
    >>> import warnings
    >>> from skgenad import DivergenceWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DivergenceWarning)  # rather no detector than a poor one
    """


class StopStage(Exception):
    """Raised by a callback in ``on_epoch_end`` to end a stage early."""


@dataclass
class Stage:
    """One stage of training.

    Parameters
    ----------
    name : str
        Name in the history and on the progress bar.
    objective : callable
        Maps (module, batch) to a dict of scalars; "loss" is back-propagated, the rest goes to the
        history. A part called "negative_energy" is watched by the divergence guard. A loss that
        depends on no parameter, as :func:`skipped` returns, skips the batch.
    optimizers : mapping of str to Optimizer
        What the stage trains; the learning rate of the first follows `schedule`. A parameter in
        none of them is frozen.
    n_steps : int
        Number of gradient steps.
    cosine : bool, default=True
        Whether the learning rate falls to 0 as half a cosine; else it is constant.
    decay : callable, optional
        Factor on the learning rate at the share p of the steps, from 0 at the first one to below 1;
        in place of the cosine.
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
    objective: Objective
    optimizers: Mapping[str, torch.optim.Optimizer]
    n_steps: int
    cosine: bool = True
    decay: Callable[[float], float] | None = None
    clip_norm: float | None = None
    energy_limit: float = float("inf")
    before: Callable[[Any, Tensor], None] | None = None
    inputs: Callable[[Any, Tensor], Tensor] | None = None
    validate: Callable[[Any, Tensor], Tensor] | None = None
    labelled: bool = False
    is_steady: Callable[[Any], bool] | None = None


def skipped(batch: Tensor) -> dict[str, Tensor]:
    """Parts of an objective that lets no gradient step be made of a batch."""
    return {"loss": batch.new_zeros(())}


def adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], learning_rate: float
) -> torch.optim.Adam:
    """Adam in its fused form where the parameters' device has one."""
    groups: list[Any] = list(parameters)
    return torch.optim.Adam(groups, lr=learning_rate, fused=_can_be_fused(groups))


def adamw(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW in its fused form where the parameters' device has one."""
    group = list(parameters)
    return torch.optim.AdamW(
        group, lr=learning_rate, weight_decay=weight_decay, fused=_can_be_fused(group)
    )


def adamax(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Adamax:
    """Adamax over all parameters at once; it has no fused form."""
    return torch.optim.Adamax(
        list(parameters), lr=learning_rate, weight_decay=weight_decay, foreach=True
    )


def _can_be_fused(groups: list[Any]) -> bool:
    flat = [
        p for group in groups for p in (group["params"] if isinstance(group, dict) else [group])
    ]
    return all(p.device.type in ("cpu", "cuda") for p in flat)


def with_penalty(
    penalized: nn.Module, rest: Iterable[nn.Module], penalty: float
) -> list[dict[str, Any]]:
    """Parameter groups in which `penalized` carries the loss term ``penalty * |weights|^2``.

    Biases are not penalised. The optimiser applies the term: losses are recorded without it.
    """
    weights = [p for p in penalized.parameters() if p.ndim > 1]
    biases = [p for p in penalized.parameters() if p.ndim <= 1]
    free = [p for module in rest for p in module.parameters()]
    return [{"params": weights, "weight_decay": 2 * penalty}, {"params": biases + free}]


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
            order = [torch.randperm(len(self.rows), device=self.rows.device) for _ in range(passes)]
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
        """Rows are a tensor already."""
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
        """Whether a step may be recorded, which a callback that sees gradients must not miss."""
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
        # Where all were skipped there is no loss, which the divergence guard takes for a bad one.
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
        # Listed once: walking the modules in each step costs as much as a small layer.
        self._named_parameters = list(self.module_.named_parameters())
        self._stepper = Stepper(self._step, self.stage.optimizers.values(), self._is_steady)
        self.notify("on_train_begin", X=rows, y=None)
        try:
            self.fit_loop(rows)
        except StopStage:
            pass
        self.notify("on_train_end", X=rows, y=None)


def _sees_gradients(callback: Callback) -> bool:
    """Whether a callback does something with gradients that a graph would not repeat."""
    is_own = type(callback).on_grad_computed is not Callback.on_grad_computed
    return is_own and not isinstance(callback, GradientNormClipping)


class DivergenceGuard(Callback):
    """Keeps the state of the last good epoch; restores it and stops when training runs away.

    An epoch is bad when its mean loss is not finite or its negatives' mean energy is beyond the
    stage's limit. The state is what training continues from: weights, buffers (replayed chains
    included) and the optimisers' moments.
    """

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Keep the first state."""
        self.good_ = _training_state(net)

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Judge the epoch."""
        row = net.history[-1]
        loss, level = row["train_loss"], row.get("negative_energy", 0.0)
        # The losses were taken before the epoch's last update, hence the look at the weights.
        finite = math.isfinite(loss) and math.isfinite(level) and _all_finite(net.module_)
        if finite and abs(level) <= net.stage.energy_limit:
            self.good_ = _training_state(net)
            return
        _restore(net, self.good_)
        warnings.warn(
            f"stage {net.stage.name!r} diverged in epoch {row['epoch']} (loss {loss:.3g}, energy "
            f"of negatives {level:.3g}); the weights of the last good epoch were restored. A "
            "smaller step size or learning rate, or bounds on the chain, may cure it.",
            DivergenceWarning,
            stacklevel=2,
        )
        raise StopStage


class FallingRates(Callback):
    """Lets the learning rates of all the stage's optimisers fall: half a cosine, or the decay.

    skorch's LRScheduler knows of one optimiser alone.
    """

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Start from the rates as they are."""
        n_steps, decay = net.stage.n_steps, net.stage.decay
        self.schedulers_ = [
            lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps)
            if decay is None
            else lr_scheduler.LambdaLR(optimizer, lambda step: decay(step / n_steps))
            for optimizer in net.stage.optimizers.values()
        ]

    def on_batch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Set the rates of the next step; a batch that was skipped made none."""
        for scheduler in self.schedulers_ if kwargs["parts"] else ():
            scheduler.step()


class BestEpoch(Callback):
    """Keeps the state of the epoch with the lowest validation loss; restores it at the end.

    Random draws of a validation are the same in every epoch, so that epochs are told apart by the
    weights alone.

    Parameters
    ----------
    inputs : Tensor of shape (m, d)
        Inputs of the rows held out.
    """

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Forget an earlier stage."""
        self.best_ = math.inf
        self.state_: tuple[dict, dict, list[dict]] | None = None
        self.seed_ = int(torch.randint(2**31, ()))

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Judge the epoch."""
        loss = self._loss(net)
        net.history.record("validation_loss", loss)
        if loss < self.best_:  # NaN is not
            self.best_, self.state_ = loss, _training_state(net)

    def on_train_end(self, net: StageNet, **kwargs: Any) -> None:
        """Go back to the best epoch."""
        if self.state_ is not None:
            _restore(net, self.state_)

    @torch.no_grad()
    def _loss(self, net: StageNet) -> float:
        validate = net.stage.validate
        assert validate is not None
        net.module_.eval()
        with seeded(self.seed_, self.inputs.device):
            losses = [
                float(validate(net.module_, chunk)) * len(chunk) for chunk in chunks_of(self.inputs)
            ]
        return sum(losses) / len(self.inputs)


def _training_state(net: StageNet) -> tuple[dict, dict, list[dict]]:
    """Copy a net's parameters, its buffers and its optimisers' moments."""
    optimizers = net.stage.optimizers.values()
    return copy.deepcopy(
        (
            {name: p.detach() for name, p in net.module_.named_parameters()},
            dict(net.module_.named_buffers()),
            [optimizer.state_dict()["state"] for optimizer in optimizers],
        )
    )


def _restore(net: StageNet, state: tuple[dict, dict, list[dict]]) -> None:
    """Give a net a state of :func:`_training_state`."""
    parameters, buffers, moments = state
    with torch.no_grad():
        for name, p in net.module_.named_parameters():
            p.copy_(parameters[name])
    for name, value in buffers.items():
        # Replaced and not copied into: a replay buffer may have grown since.
        owner, _, leaf = name.rpartition(".")
        setattr(net.module_.get_submodule(owner), leaf, value)
    for optimizer, kept in zip(net.stage.optimizers.values(), moments, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})


def _all_finite(module: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in module.parameters())


class ProgressBar(Callback):
    """One tqdm bar for a stage."""

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=net.stage.n_steps, desc=net.stage.name, unit="step")

    def on_batch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Advance it."""
        self.bar_.update()

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Show the loss."""
        self.bar_.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4g}")

    def on_train_end(self, net: StageNet, **kwargs: Any) -> None:
        """Close it."""
        self.bar_.close()


def inputs_of(
    module: nn.Module, stage: Stage, rows: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Map rows (n, d_x) with `labels` (n,) to what a stage is trained on, (n, d)."""
    if stage.inputs is not None:
        module.eval()
        with torch.no_grad():
            rows = stage.inputs(module, rows)
    if not stage.labelled:
        return rows
    assert labels is not None
    return torch.column_stack([rows, labels.to(rows)])


def run_stage(
    module: nn.Module,
    stage: Stage,
    rows: Tensor,
    *,
    held_out: Tensor | None = None,
    batch_size: int,
    callbacks: Iterable[Any] = (),
    verbose: int = 0,
) -> pd.DataFrame:
    """Run one stage of training in place.

    Parameters
    ----------
    module : nn.Module
        What the objective is given.
    stage : Stage
        What to do.
    rows : Tensor of shape (n, d)
        The stage's inputs of the training rows, on the module's device.
    held_out : Tensor of shape (m, d), optional
        Those of the rows that choose the epoch, if the stage validates.
    batch_size : int
        Rows in a batch.
    callbacks : iterable of skorch callbacks
        See every epoch and batch of the stage, after ours.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    DataFrame
        A row per epoch: stage, epoch, steps so far, mean loss and named parts, validation loss if
        there is one, seconds.
    """
    if stage.n_steps == 0:
        return pd.DataFrame()
    own: list[Any] = [DivergenceGuard()]
    if stage.validate is not None and held_out is not None:
        own.append(BestEpoch(held_out))
    if stage.cosine or stage.decay is not None:
        own.append(FallingRates())
    if stage.clip_norm is not None:
        own.append(GradientNormClipping(stage.clip_norm))
    if verbose:
        own.append(ProgressBar())
    module.train()
    # Ours first: what a callback of the user's ends or keeps, the guard has judged.
    net = StageNet(module, stage=stage, batch_size=batch_size, callbacks=[*own, *callbacks])
    try:
        net.run(rows)
    finally:
        module.eval()
        # Later stages and their callbacks see no gradient of this one's.
        module.zero_grad(set_to_none=True)
        for callback in own:
            getattr(callback, "bar_", tqdm(disable=True)).close()
    return _history_table(stage.name, net)


def empty_history() -> pd.DataFrame:
    """History of a detector that is not trained by gradients: the usual columns, no row."""
    types = {"stage": str, "epoch": int, "step": int, "loss": float, "seconds": float}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


def _history_table(stage_name: str, net: StageNet) -> pd.DataFrame:
    """Make a table of the net's history without skorch's own bookkeeping."""
    table = pd.DataFrame(net.history.to_list()).drop(columns=["batches"])
    table = table.rename(columns={"train_loss": "loss"})
    steps = table.pop("train_batch_count").cumsum()
    seconds = table.pop("seconds")
    table.insert(0, "stage", stage_name)
    table.insert(2, "step", steps)
    table["seconds"] = seconds
    return table
