"""What watches a stage of training: divergence, learning rates, the best epoch, progress."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor, nn
from tqdm.auto import tqdm

from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows
from skgenad._tensors.seeds import seeded
from skgenad._warn import warn

from .batches import STEPS_PER_EPOCH, RowBatches
from .loop import StageNet, StopStage
from .optimizers import put_moments

# Batches that tell whether a stage has made its loss worse: the cost of a few steps.
_JUDGED_BATCHES = 4


class DivergenceWarning(UserWarning):
    """Training ran away; the last good weights were restored and the stage was ended.

    Numbers were not finite, negatives had left the data, or the loss at the stage's end was higher
    than at its start.

    Examples
    --------
    >>> import warnings
    >>> from skgenad import DivergenceWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DivergenceWarning)  # rather no detector than a poor one
    """


# Parameters, buffers and the moments of each optimiser.
TrainingState = tuple[dict[str, Tensor], dict[str, Tensor], list[dict]]


class OwnCallback(Callback):
    """A callback of the package, whose memory can be written down.

    What `numbers` and `states` name is put back after ``on_train_begin`` where a stage goes on
    that was interrupted, and then ``go_on`` is called.
    """

    # Whether users' callbacks are to see an epoch's end before it, since it may end the stage.
    comes_last = False
    numbers: ClassVar[tuple[str, ...]] = ()
    # States of training, or None.
    states: ClassVar[tuple[str, ...]] = ()

    def go_on(self, net: StageNet) -> None:
        """Do what else there is to do where a stage goes on."""


class DivergenceGuard(OwnCallback):
    """Keeps the state of the last good epoch; restores it and stops when training runs away.

    An epoch is bad when its mean loss is not finite or its negatives' mean energy is beyond the
    stage's limit. The state is what training continues from: weights, buffers (replayed chains
    included) and the optimisers' moments.

    A stage is bad when it has left the loss higher than it was: see `judge`.
    """

    states: ClassVar[tuple[str, ...]] = ("first_",)

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Forget what an earlier stage left."""
        self.first_: TrainingState | None = None
        self.good_: TrainingState | None = None

    def go_on(self, net: StageNet) -> None:
        """Take the state of now for the last good one, as it was where an epoch ended well."""
        self.good_ = training_state(net) if net.history else None

    def on_batch_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Keep the state before the first step, which users' callbacks may have made."""
        if self.good_ is None and kwargs["training"]:
            self.first_ = self.good_ = training_state(net)

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Judge the epoch."""
        row = net.history[-1]
        loss, level = row["train_loss"], row.get("negative_energy", 0.0)
        if "negative_energy" in row:
            self.first_ = None  # of what is not judged by its loss there need be no second copy
        # The losses are older than the epoch's last update, so the weights are looked at, too.
        finite = math.isfinite(loss) and math.isfinite(level) and _all_finite(net.module_)
        if finite and abs(level) <= net.stage.energy_limit:
            self.good_ = training_state(net)
            return
        assert self.good_ is not None
        restore(net, self.good_)
        warn(
            f"stage {net.stage.name!r} diverged in epoch {len(net.history)} (loss {loss:.3g}, "
            f"energy of negatives {level:.3g}); the weights of the last good epoch were restored. "
            "A smaller step size or learning rate, or bounds on the chain, may cure it.",
            DivergenceWarning,
        )
        raise StopStage

    def judge(self, net: StageNet, rows: Rows) -> None:
        """Compare the loss at a stage's end with that of its first weights; restore these if worse.

        Losses that stay finite tell a runaway apart from a fit by nothing but this. Both are of the
        same batches with the same draws, and with all else as it is at the end, such as a weight
        in the loss that grows with the steps. What was minimised is then lower than it was, so this
        cannot happen to a training that trains; batches differ, and a training that goes on may
        lose a little, so every batch has to be worse than it was, and half of them by half of the
        loss and by half a unit. The loss of chains against rows is no function that falls, and has
        its limit.
        """
        row = net.history[-1]
        if "negative_energy" in row:
            return
        # In nearly all fits the last losses are below the first one, and nothing need be computed.
        if net.first_loss_ is None or row["train_loss"] <= float(net.first_loss_):
            return
        assert self.first_ is not None
        after, before = (_losses(net, rows, state) for state in (None, self.first_[0]))
        if after is None or before is None:
            return
        # NaN is worse than anything; a batch that has no loss at the start tells nothing.
        worse = [
            math.inf if math.isnan(a) else a - b
            for a, b in zip(after, before, strict=True)
            if math.isfinite(b)
        ]
        if not worse:
            return
        start = statistics.median(loss for loss in before if math.isfinite(loss))
        rise = statistics.median(worse)
        # A loss near 0 is no unit: they are in nats, or of columns of variance 1.
        if min(worse) <= 0 or rise <= max(1.0, abs(start)) / 2:
            return
        restore(net, self.first_)
        warn(
            f"stage {net.stage.name!r} diverged: its loss is {start + rise:.3g} at the end and was "
            f"{start:.3g} at the start, on the same rows; the weights that it started with were "
            "restored. A smaller learning rate may cure it.",
            DivergenceWarning,
        )


class FallingRates(OwnCallback):
    """Lets the learning rates of all the stage's optimisers follow its schedule.

    skorch's LRScheduler knows of one optimiser alone, the first; where a user has one, the rates of
    that optimiser are left to it.
    """

    numbers: ClassVar[tuple[str, ...]] = ("step_",)

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Start from the rates as they are."""
        self.step_ = 0
        optimizers = list(net.stage.optimizers.values())
        is_left = any(isinstance(callback, LRScheduler) for _, callback in net.callbacks_)
        self.optimizers_ = optimizers[1:] if is_left else optimizers

    def on_batch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Set the rates of the next step; a batch that was skipped made no step."""
        stage = net.stage
        if not kwargs["training"] or not kwargs["parts"] or self.step_ == stage.n_steps:
            return
        before = stage.schedule(self.step_, stage.n_steps)
        self.step_ += 1
        factor = stage.schedule(self.step_, stage.n_steps) / before
        for optimizer in self.optimizers_:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["lr"]


class BestEpoch(OwnCallback):
    """Keeps the state of the epoch with the lowest validation loss; restores it at the end.

    Random draws of a validation are the same in every epoch, so that epochs are told apart by the
    weights alone.

    Parameters
    ----------
    inputs : Tensor of shape (m, d)
        Inputs of the rows held out.
    """

    numbers: ClassVar[tuple[str, ...]] = ("best_", "seed_")
    states: ClassVar[tuple[str, ...]] = ("state_",)

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Forget what an earlier stage left."""
        self.best_ = math.inf
        self.state_: TrainingState | None = None
        self.seed_ = int(draws.randint(2**31))

    @torch.no_grad()
    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Judge the epoch."""
        with seeded(self.seed_, self.inputs.device):
            loss = net.validate(self.inputs)
        net.record("valid_loss", loss)
        if loss < self.best_:  # a loss of NaN is never the best
            self.best_, self.state_ = loss, training_state(net)

    def on_train_end(self, net: StageNet, **kwargs: Any) -> None:
        """Go back to the best epoch."""
        if self.state_ is not None:
            restore(net, self.state_)


def _losses(net: StageNet, rows: Rows, weights: dict[str, Tensor] | None) -> list[float] | None:
    """Losses of a few batches by a copy of the module, with other weights where they are given.

    None if it cannot be copied, as one that keeps what it computed last in a list.
    """
    # What a network of a user's own keeps in an attribute is copied without its graph.
    kept = [v for m in net.module_.modules() for v in vars(m).values() if isinstance(v, Tensor)]
    try:
        module = copy.deepcopy(net.module_, {id(v): v.detach().clone() for v in kept})
    except RuntimeError:
        return None
    module.train()
    if weights is not None:
        with torch.no_grad():
            for name, p in module.named_parameters():
                p.copy_(weights[name])
    with seeded(0, rows.device):
        batches = RowBatches(rows, net.batch_size, _JUDGED_BATCHES)
        return [_number_of(net.stage.objective(module, batch)["loss"]) for batch in batches]


def _number_of(loss: Tensor) -> float:
    # A batch that would be skipped has no loss.
    return float(loss.detach()) if loss.requires_grad else math.nan


def training_state(net: StageNet) -> TrainingState:
    """Copy a net's parameters, its buffers and its optimisers' moments."""
    optimizers = net.stage.optimizers.values()
    return copy.deepcopy(
        (
            {name: p.detach() for name, p in net.module_.named_parameters()},
            dict(net.module_.named_buffers()),
            [optimizer.state_dict()["state"] for optimizer in optimizers],
        )
    )


def put_weights(
    module: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> None:
    """Give a module other parameters and buffers."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.shape != parameters[name].shape:  # `copy_` would repeat a smaller one
                raise ValueError(f"{name} of shape {tuple(p.shape)} was another one")
            p.copy_(parameters[name])
    for name, value in buffers.items():
        # A buffer is replaced and not copied into: that of a replay may have grown since.
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, value)


def restore(net: StageNet, state: TrainingState) -> None:
    """Give a net a state of :func:`training_state`."""
    parameters, buffers, moments = state
    put_weights(net.module_, parameters, buffers)
    for optimizer, kept in zip(net.stage.optimizers.values(), moments, strict=True):
        put_moments(optimizer, kept)


def _all_finite(module: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in module.parameters())


class Patience(OwnCallback):
    """Ends a stage after so many epochs without a lower validation loss.

    Parameters
    ----------
    n_epochs : int
        How many.
    """

    comes_last = True
    numbers: ClassVar[tuple[str, ...]] = ("n_missed_",)

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Forget what an earlier stage left."""
        self.n_missed_ = 0

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Count."""
        self.n_missed_ = 0 if net.history[-1, "valid_loss_best"] else self.n_missed_ + 1
        if self.n_missed_ == self.n_epochs:
            raise StopStage


class ProgressBar(OwnCallback):
    """One tqdm bar for a stage."""

    def go_on(self, net: StageNet) -> None:
        """Show the steps that were taken before."""
        self.bar_.update(STEPS_PER_EPOCH * len(net.history))

    def on_train_begin(self, net: StageNet, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=net.stage.n_steps, desc=net.stage.name, unit="step")

    def on_batch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Advance it."""
        if kwargs["training"]:
            self.bar_.update()

    def on_epoch_end(self, net: StageNet, **kwargs: Any) -> None:
        """Show the loss."""
        self.bar_.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4g}")

    def on_train_end(self, net: StageNet, **kwargs: Any) -> None:
        """Close it."""
        self.bar_.close()
