"""Training that goes on: one more batch of a stream, or a whole table from the weights so far."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from skgenad._tensors.chunks import joined
from skgenad._tensors.device import on_device
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.model import Model
from skgenad._tensors.seeds import derived_seed, seeded

from .calibration import AUTO_LEAST, AUTO_SHARE
from .checks import fit_context
from .contract import BaseDetector, Split
from .large_tables import SameTable, SomeRows, Table, pieces_of
from .loop import Stage
from .optimizers import put_moments
from .state import kept_parameters
from .streams import FEWEST_ROWS, Batch, Reservoir, Stream, together
from .training_rows import in_standard_units
from .units import StandardUnits

# Steps of a later call in those of a fit, for each share that its rows have in all rows so far.
_WORTH = 0.5
# Values of `standardize` that differ in what later calls do with the units of columns alone.
_SAME_UNITS = {"auto", "frozen", True}


class ContinuingMixin(BaseDetector):
    """What a detector does with rows that come after a fit."""

    module_: Any
    units_: StandardUnits
    trained_by_gradients: ClassVar[bool]
    _fitted_parameters: dict[str, Any]
    _stream: Stream
    _moments: dict[str, dict[str, Any]]
    _n_fits: int
    # Whether what was learnt in some units is of use in others.
    _outlives_units: ClassVar[bool] = True

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from one more batch of rows.

        The first call is a `fit`. Later calls go on from its weights, on the batch and on a sample
        of the rows before it, for as long as the batch is worth: half of its share in all rows so
        far, times the steps of a fit, 1 at least. A share of each batch is held out as in `fit`;
        threshold and p-values come from a sample of what was held out so far, scored anew. The
        units of columns follow the rows, but with ``standardize="frozen"``. The samples are uniform
        and hold 4,096 rows at most. A detector that is not trained by gradients adds the rows to
        those it has seen.

        Parameters that were set since the fit have the effect that they have in one, but for those
        that what is kept depends on. A detector from a file has no rows of before it, and keeps its
        units, and its threshold until 100 rows have been held out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; at least 2 in the first call, at least 1 in later ones.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``, all of which the first
            call must have seen; all others ignore it.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            In later calls, if a parameter was set that a new fit alone can change, such as
            `network` or `standardize`.
        """
        if not hasattr(self, "module_"):
            return self.fit(X, y)
        with self._all_or_nothing():
            X, labels = self._validate_labelled(X, y, reset=False)
            self._go_on(X, labels, self._stream)
        return self

    def _go_on(self, X: Table, labels: NDArray | None, stream: Stream, **split: Any) -> None:
        """Learn from rows after those of a stream, all at once for who scores meanwhile."""
        # What is scored by meanwhile, module and units, must go together.
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._learn(X, labels, stream, **split)
        self.__dict__.update(twin.__dict__)

    def _keep_held_out(self, X: Table, labels: NDArray | None) -> None:
        rng = np.random.default_rng(self.seed_)
        held_out = Reservoir().take(rng, X, np.arange(len(X)), labels)
        self._stream = dataclasses.replace(self._stream, held_out=held_out)

    def _begin_stream(self, batch: Batch) -> None:
        """Keep rows of a fit for what comes later."""
        stream = Stream().take(batch, self.seed_, least=self._room)
        self._stream = dataclasses.replace(stream, n_of_units=stream.n_rows)

    def _learn(
        self,
        X: Table,
        labels: NDArray | None,
        stream: Stream,
        groups: ArrayLike | None = None,
        calibration: Any = "random",
    ) -> None:
        """Learn from rows after those of a stream, and set the threshold."""
        self._n_fits += 1
        seed = derived_seed(self.seed_, self._n_fits)
        train, codes, held_out, known = self._split_batch(X, labels, stream, groups, calibration)
        learnt = validation = np.arange(0)
        if len(train):
            train = self._without_sentinels(train, stream)
            self._keep_reference(train, seed, goes_on=stream.n_rows > 0)
            learnt, validation, moved = self._train_on(train, codes, stream, len(X), seed)
            if moved:
                stream = dataclasses.replace(stream, n_of_units=stream.n_rows + len(X))
        kept = X[:0] if held_out is None else held_out
        batch = Batch(train, codes, learnt, validation, kept, known)
        self._stream = stream.take(batch, seed, least=self._room)
        if stream.n_rows:
            self._move_threshold()
        else:
            self._set_threshold(X, held_out, labels=known)

    def _split_batch(
        self,
        X: SameTable,
        labels: NDArray | None,
        stream: Stream,
        groups: ArrayLike | None,
        calibration: Any,
    ) -> Split[SameTable]:
        """Split a batch into rows to train on and rows to hold out."""
        is_left_to_us = groups is None and isinstance(calibration, str) and calibration == "random"
        if not (stream.n_rows and is_left_to_us):
            return self._split_calibration(X, labels, groups, calibration)
        # Of batches of one row each, too, the share is held out.
        share, so_far = self._share_held_out, stream.n_rows
        n_held_out = math.floor(share * (so_far + len(X))) - math.floor(share * so_far)
        order = np.random.RandomState(derived_seed(self.seed_, self._n_fits)).permutation(len(X))
        train, held_out = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
        return Split.at(X, labels, train, held_out)

    def _without_sentinels(self, X: Table, stream: Stream) -> Table:
        """Rows (n, d) to train on, in the light of those that were kept, which hold none."""
        rows, _ = self._rows_and_units(self._with_kept(X, stream))
        return rows if len(rows) == len(X) else rows[: len(X)]

    @staticmethod
    def _with_kept(X: Table, stream: Stream) -> Table:
        if isinstance(X, SomeRows):  # those kept are few beside so many
            return X
        return np.concatenate([X, *(part.rows for part in stream.learnt())])

    @property
    def _share_held_out(self) -> float:
        """Share of later batches that is held out."""
        if not isinstance(self.calibration_fraction, str):
            return float(self.calibration_fraction)
        return 0.0 if self._scores_training_rows else AUTO_SHARE

    def _train_on(
        self, X: Table, labels: NDArray | None, stream: Stream, n: int, seed: int
    ) -> tuple[NDArray, NDArray, bool]:
        """Go on from what was learnt before a batch of `n` rows, of which `X` are trained on.

        What is trained by gradients sees the rows that were kept once more, lest it forget.
        Returned are places to train on and to validate by, and whether units have moved.
        """
        # A copy, or another one with the parameters of now: an interrupt costs nothing.
        module = self._module_to_continue()
        before, self.units_ = self.units_, self._units_after(X, stream, n)
        moved = self.units_ is not before
        anew = self._begins_anew(module, X, stream, moved)
        kept = stream.learnt() if anew or self.trained_by_gradients else []
        tables = (X, *(part.rows for part in kept))
        rows = joined([in_standard_units(part, self.units_, self.device_) for part in tables])
        if labels is not None:
            labels = np.concatenate([labels, *(np.asarray(part.labels) for part in kept)])
        codes = self._to_device(labels)
        with seeded(seed, self.device_):
            if anew:
                module = self._prepared_module(rows, codes)
            else:
                if moved:
                    self._change_units(module, before)
                module.resume(rows)
            split = self._split_validation(len(X), self.device_)
            old = torch.arange(len(X), len(rows), device=self.device_)
            places = zip(split, old.tensor_split([len(stream.train)]), strict=True)
            self._run(
                module,
                self._stages(module) if anew else self._rest(module, n / (stream.n_rows + n)),
                rows,
                codes,
                [torch.cat(pair) for pair in places],
                anew=anew,
                finish=not self.trained_by_gradients or stream.speaks_with(len(rows)),
            )
        if anew:
            module.weigh((stream.n_learnt + len(X)) / len(rows))
        return split[0].cpu().numpy(), split[1].cpu().numpy(), moved

    def _rest(self, module: Model, share: float) -> list[Stage]:
        """List the stages that go on, for rows that are this share of all so far."""
        stages = [shortened(stage, share) for stage in to_continue(self._stages(module))]
        for stage in stages:
            for name, optimizer in stage.optimizers.items():
                # Optimisers go on with their moments, but at the learning rates set by now.
                moments = self._moments.get(stage.name, {}).get(name, {})
                put_moments(optimizer, copy.deepcopy(moments))
        return stages

    def _change_units(self, module: Model, before: StandardUnits) -> None:
        factor, shift = before.seen_from(self.units_)
        module.change_units(on_device(factor, self.device_), on_device(shift, self.device_))

    def _units_after(self, X: Table, stream: Stream, n: int) -> StandardUnits:
        """Units of columns after a batch of `n` rows, of which `X` are trained on.

        They are taken anew, from the rows that were kept, when those so far have doubled since they
        were, and when a column begins to vary. A file has no rows, and its units stay.
        """
        now = self.units_
        if not (self._units_follow and stream.is_complete):
            return now
        constant = now.scale == 0
        begins = constant.any() and any(
            now.to_standard(piece)[:, constant].any() for piece in pieces_of(X)
        )
        if not begins and stream.n_rows + n < 2 * stream.n_of_units:
            return now
        return self._rows_and_units(self._with_kept(X, stream))[1].kept_where_lost(now)

    @property
    def _units_follow(self) -> bool:
        """Whether the units of columns follow the rows of later calls."""
        return bool(self.standardize) and self.standardize != "frozen" and self.image_shape is None

    def _begins_anew(self, module: Model, X: Table, stream: Stream, moved: bool) -> bool:
        """Whether what was learnt is of no use, and all that was kept must be learnt anew."""
        if moved and not self._outlives_units:
            return True
        if self.standardize == "frozen" or not stream.is_complete:
            return False
        pieces = map(self.units_.to_standard, pieces_of(X))
        return any(module.outgrown_by(torch.from_numpy(z).to(self.device_)) for z in pieces)

    @property
    def _room(self) -> int:
        """Number of rows for which there is room among those kept, whatever the bounds."""
        return 1

    def _module_to_continue(self) -> Model:
        """Copy the module or, if parameters were set since the fit, make one that has them.

        The new module takes over what the old one holds, so that all parameters of training have
        the effect that they have in a fit, and combinations that a fit refuses are refused.
        """
        now = kept_parameters(self.get_params(deep=False))
        before, name = self._fitted_parameters, type(self).__name__
        if now == before:
            return copy.deepcopy(self.module_)
        for key in {"image_shape", "standardize"} & now.keys():
            alike = key == "standardize" and {now[key], before[key]} <= _SAME_UNITS
            if now[key] != before[key] and not alike:
                raise ValueError(
                    f"{key}={now[key]!r} was {before[key]!r} in the first fit, whose units later "
                    "training keeps. Set it back, or fit from the start (warm_start=False)."
                )
        with seeded(self.seed_, self.device_), own_draws():
            module = self._make_module(self.n_features_in_).to(self.device_)
        try:
            module.take_over(self.module_)
        except RuntimeError as error:
            problem = str(error).splitlines()[-1].strip()
            raise ValueError(
                f"Parameters were set since the fit that make another module of this {name} "
                f"({problem}). Set them back, or fit from the start (warm_start=False)."
            ) from error
        self._fitted_parameters = now
        # What it took over may have brought parts that were made after it went to the device.
        return module.to(self.device_)

    @property
    def _how_to_hold_out(self) -> str:
        stream = self.__dict__.get("_stream")
        if self._share_held_out == 0 or stream is None or self._n_fits == 1:
            return super()._how_to_hold_out
        return (
            f"{len(stream.held_out)} rows have been held out of the batches so far, and it takes "
            f"{AUTO_LEAST}. Go on with partial_fit, or call calibrate(X) with fresh normal rows"
        )

    def _move_threshold(self) -> None:
        """Take threshold and p-values from what was held out of all batches, scored anew.

        The scores of earlier models stay while there are few rows that could take their place.
        """
        stream, scores = self._stream, self.calibration_scores_
        few = AUTO_LEAST if scores is None else min(FEWEST_ROWS, len(scores))
        rows = together([part.rows for part in (*stream.learnt(), stream.held_out)])
        learnt = rows[: len(rows) - len(stream.held_out)]
        if len(stream.held_out) >= few:
            known = stream.held_out.labels
            self._set_threshold(rows, stream.held_out.rows, labels=known)
        elif self.calibration_fraction == "auto" and self._scores_training_rows:
            if stream.speaks_with(len(learnt)):
                self._set_threshold(learnt, None)
        elif scores is None and stream.speaks_with(len(learnt)):
            self._set_threshold(rows, rows[:0])


def to_continue(stages: Sequence[Stage]) -> list[Stage]:
    """List the stages that train a parameter which no later one trains."""
    kept: list[Stage] = []
    later: set[int] = set()
    for stage in reversed(stages):
        groups = [group for o in stage.optimizers.values() for group in o.param_groups]
        own = {id(parameter) for group in groups for parameter in group["params"]}
        if own - later:
            kept.insert(0, stage)
        later |= own
    return kept


def shortened(stage: Stage, share: float) -> Stage:
    """Shorten a stage to what rows are worth that are this share of all so far.

    All rows: the whole stage. Else half of their share of its steps, so that a stream of twenty
    batches takes little more than two fits, at a learning rate that begins at the root of the share
    of what it is in a fit.
    """
    if share == 1:
        return stage
    for optimizer in stage.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = math.sqrt(share) * group["lr"]
    return dataclasses.replace(stage, n_steps=math.ceil(_WORTH * share * stage.n_steps))
