"""What a detector does with its stages: it runs them, writes them down, lets them be watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor

from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, joined, rows_at
from skgenad._tensors.foreign import is_known, may_draw, own_draws
from skgenad._tensors.model import Model

from .continuing import to_continue
from .loop import Stage
from .resuming import Keeper
from .stopping import EarlyStopping, patience_of, share_held_out
from .training import empty_history, inputs_of, run_stage
from .users_callbacks import check_callbacks, check_memories
from .watching import CallbackSupportMixin, Watch

# The most rows that are held out for validation: the cost of a fit must not grow with n.
MOST_VALIDATION_ROWS = 4096


class RunsStages(CallbackSupportMixin):
    """What a detector does with its stages."""

    trained_by_gradients: ClassVar[bool]
    history_: pd.DataFrame
    batch_size: int
    callbacks: Sequence[Any] | None
    device_: torch.device
    module_: Any
    stopping: EarlyStopping | None
    validation_fraction: float
    verbose: Any
    warm_start: bool
    _calibrate: Any
    _moments: dict[str, dict[str, Any]]
    _n_fits: int
    _watch: Watch

    @contextmanager
    def _watched(self, X: Any, y: Any) -> Iterator[None]:
        """Tell those of scikit-learn's callbacks that were set how far a fit is."""
        if not hasattr(self, "_skl_callbacks"):
            yield
            return
        self._watch = Watch(self, X, y)
        try:
            yield
            self._watch.end()
        finally:
            del self._watch

    def _check_checkpoint(self, checkpoint: Any) -> None:
        if checkpoint is not None and not self.trained_by_gradients:
            raise ValueError(
                f"checkpoint={checkpoint!r}: {type(self).__name__} is not trained in steps that "
                "could be gone on from; leave it None."
            )
        if checkpoint is not None and self.warm_start and hasattr(self, "module_"):
            raise ValueError(
                f"checkpoint={checkpoint!r} is for fits from the start, and with warm_start=True "
                "this one would go on from the detector as it is. Set warm_start=False."
            )

    def _run(
        self,
        module: Model,
        stages: list[Stage],
        rows: Rows,
        labels: Tensor | None,
        split: Sequence[Tensor],
        *,
        anew: bool = True,
        finish: bool = True,
        keeper: Keeper | None = None,
    ) -> None:
        """Run stages on rows (n, d), at the places to train on and to validate by.

        They continue a training unless they run `anew`. Without `finish` the module keeps what it
        took from the rows of an earlier one.
        """
        objectives = [getattr(stage.objective, "func", stage.objective) for stage in stages]
        is_foreign = may_draw(module) or not all(map(is_known, (type(self)._stages, *objectives)))
        # Draws of code that may be a user's are our own as well.
        with own_draws() if is_foreign else nullcontext():
            self._run_stages(module, stages, rows, labels, split, anew, finish, keeper)

    def _run_stages(
        self,
        module: Model,
        stages: list[Stage],
        rows: Rows,
        labels: Tensor | None,
        split: Sequence[Tensor],
        anew: bool,
        finish: bool,
        keeper: Keeper | None,
    ) -> None:
        tables = [self.history_] if self._n_fits > 1 else []
        train, held_out = split if len(split[1]) else (slice(None), None)
        check_callbacks(self.callbacks, stages, held_out is not None, type(self))
        patience = patience_of(self, stages)
        if keeper is not None:
            check_memories(self.callbacks)
            tables += keeper.begin(module, stages, self.device_)
        watch, n_done = vars(self).get("_watch"), 0 if keeper is None else keeper.n_done
        if watch is not None:
            watch.begin(stages, n_done)
        for stage in stages[n_done:]:
            inputs = inputs_of(module, stage, rows_at(rows, train), _at(labels, train))
            validation: Any = None
            if held_out is not None:
                validation = inputs_of(module, stage, rows[held_out], _at(labels, held_out))
            first = stage.before if anew else stage.resume
            goes_on = keeper is not None and keeper.is_within_stage
            if first is not None and finish and not goes_on:
                first(module, inputs if validation is None else joined([inputs, validation]))
            tables.append(
                run_stage(
                    module,
                    stage,
                    inputs,
                    held_out=validation,
                    batch_size=self.batch_size,
                    callbacks=self.callbacks or (),
                    n_epochs_before=sum(map(len, tables)),
                    keeper=keeper,
                    watch=watch,
                    patience=patience,
                    verbose=self.verbose,
                )
            )
            if keeper is not None:
                keeper.finish_stage(tables[-1])
        module.eval()
        if finish:
            module.finish(rows, labels)
            seen = rows_at(rows, train)
            self._calibrate(module, seen, None if held_out is None else rows[held_out])
        self._take(module, stages, tables)

    def _take(self, module: Model, stages: list[Stage], tables: list[pd.DataFrame]) -> None:
        """Take a module that is trained, the tables of its stages, and optimisers' moments."""
        self.module_ = module
        tables = [table for table in tables if len(table)]
        self.history_ = pd.concat(tables, ignore_index=True) if tables else empty_history()
        self._moments = {
            stage.name: {n: o.state_dict()["state"] for n, o in stage.optimizers.items()}
            for stage in to_continue(stages)
        }

    def _split_validation(self, n_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the places of rows to train on, and of those that choose each stage's epoch."""
        share = share_held_out(self)
        n_held_out = max(int(share * n_rows), int(self.stopping is not None and n_rows > 2))
        # At least two rows must remain to train on, and a few thousand suffice to compare epochs.
        n_held_out = min(n_held_out, n_rows - 2, MOST_VALIDATION_ROWS)
        if n_held_out <= 0:
            everything = torch.arange(n_rows, device=device)
            return everything, everything[:0]
        order = draws.randperm(n_rows, device=device)
        return order[n_held_out:], order[:n_held_out]


def _at(labels: Tensor | None, part: Tensor | slice) -> Tensor | None:
    return None if labels is None else labels[part]
