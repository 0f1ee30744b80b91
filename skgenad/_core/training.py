"""One stage of training, from rows to a table of its history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import torch
from skorch.callbacks import GradientNormClipping
from torch import Tensor, nn
from tqdm.auto import tqdm

from skgenad._tensors.chunks import LazyRows, Rows

from .callbacks import BestEpoch, DivergenceGuard, FallingRates, Patience, ProgressBar
from .loop import Stage, StageNet
from .schedules import constant
from .watching import Watch, Watcher


def inputs_of(module: nn.Module, stage: Stage, rows: Rows, labels: Tensor | None = None) -> Rows:
    """Map rows (n, d_x) with `labels` (n,) to what a stage is trained on, (n, d)."""
    if stage.inputs is not None:
        module.eval()
        rows = _made_by(module, stage.inputs, rows)
    if not stage.labelled:
        return rows
    assert labels is not None
    if isinstance(rows, LazyRows):
        return rows.beside(labels)
    return torch.column_stack([rows, labels.to(rows)])


def _made_by(module: nn.Module, inputs: Callable[[Any, Tensor], Tensor], rows: Rows) -> Rows:
    """Let a stage's `inputs` make of rows what it does, in evaluation mode, now or on reading."""

    @torch.no_grad()
    def made(x: Tensor) -> Tensor:
        was_training = module.training
        module.eval()
        try:
            return inputs(module, x)
        finally:
            module.train(was_training)

    return rows.mapped(made) if isinstance(rows, LazyRows) else made(rows)


def run_stage(
    module: nn.Module,
    stage: Stage,
    rows: Rows,
    *,
    held_out: Tensor | None = None,
    batch_size: int,
    callbacks: Iterable[Any] = (),
    n_epochs_before: int = 0,
    keeper: Any = None,
    watch: Watch | None = None,
    patience: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Run one stage of training in place.

    Parameters
    ----------
    module : nn.Module
        What the objective is given.
    stage : Stage
        What to do.
    rows : Tensor or LazyRows of shape (n, d)
        The stage's inputs of the training rows, on the module's device.
    held_out : Tensor of shape (m, d), optional
        Those of the rows that choose the epoch, if the stage validates.
    batch_size : int
        Rows in a batch.
    callbacks : iterable of skorch callbacks
        See every epoch and batch of the stage, after ours.
    n_epochs_before : int, default=0
        Epochs of earlier stages, on which those that callbacks see count on.
    keeper : Keeper, optional
        What writes down where the stage stands.
    watch : Watch, optional
        What tells scikit-learn's callbacks of the stage.
    patience : int, optional
        Epochs without a lower validation loss after which the stage ends, if it validates.
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
    if stage.validate is None:
        held_out = None
    guard = DivergenceGuard()
    own = [guard, *_helpers(stage, held_out, watch, patience, verbose)]
    module.train()
    free = [p for p in module.parameters() if p.requires_grad]
    net = StageNet(
        module,
        stage=stage,
        batch_size=batch_size,
        own=own,
        callbacks=list(callbacks),
        held_out=held_out,
        n_epochs_before=n_epochs_before,
        keeper=keeper,
        device=rows.device,
        verbose=verbose,
    )
    try:
        net.run(rows)
        guard.judge(net, rows)
    finally:
        module.eval()
        # Gradients are dropped, so that later stages and their callbacks do not see them, and what
        # a user's callback froze is free again: it freezes for the stages that it sees.
        module.zero_grad(set_to_none=True)
        for parameter in free:
            parameter.requires_grad_(True)
        for callback in own:
            getattr(callback, "bar_", tqdm(disable=True)).close()
    return _history_table(stage.name, net)


def _helpers(
    stage: Stage,
    held_out: Tensor | None,
    watch: Watch | None,
    patience: int | None,
    verbose: int,
) -> list[Any]:
    """Callbacks of ours that a stage asks for."""
    found: list[Any] = []
    if held_out is not None:
        found.append(BestEpoch(held_out))
    if held_out is not None and patience is not None:
        found.append(Patience(patience))
    if stage.schedule is not constant:
        found.append(FallingRates())
    if stage.clip_norm is not None:
        found.append(GradientNormClipping(stage.clip_norm))
    if verbose:
        found.append(ProgressBar())
    if watch is not None:
        found.append(Watcher(watch))
    return found


def empty_history() -> pd.DataFrame:
    """History of a detector that is not trained by gradients: the usual columns, no row."""
    types = {"stage": str, "epoch": int, "step": int, "loss": float, "seconds": float}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


def _history_table(stage_name: str, net: StageNet) -> pd.DataFrame:
    """Make a table of the net's history without skorch's own bookkeeping."""
    table = pd.DataFrame(net.epochs.to_list())
    table = table.drop(columns=["batches", "train_loss_best", "valid_loss_best"], errors="ignore")
    table = table.rename(columns={"train_loss": "loss", "valid_loss": "validation_loss"})
    steps = table.pop("train_batch_count").cumsum()
    seconds = table.pop("dur")
    table["epoch"] = range(1, len(table) + 1)  # of the stage
    table.insert(0, "stage", stage_name)
    table.insert(2, "step", steps)
    table["seconds"] = seconds
    return table
