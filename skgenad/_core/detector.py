"""What every detector shares: validate, seed, train in stages, set a threshold; score, predict."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from skgenad._tensors.chunks import Rows
from skgenad._tensors.device import resolve_device
from skgenad._tensors.foreign import is_known, own_draws
from skgenad._tensors.model import Model
from skgenad._tensors.passes import Passes
from skgenad._tensors.seeds import draw_seed, seeded
from skgenad._tensors.settings import own_settings

from .checkpoints import CheckpointFolder, identity_of
from .checks import Interval, StrOptions, fit_context
from .continuing import ContinuingMixin
from .contract import BaseDetector, Split
from .departures import with_departures
from .large_tables import Table
from .loop import Objective, Stage
from .parts import WithParts
from .resuming import Keeper, kept_in
from .rows import Shape, check_same_columns, image_shape_of, row_shape
from .running import RunsStages
from .saving import ModuleSavingMixin
from .state import kept_parameters
from .stopping import EarlyStopping
from .streams import Batch, Stream
from .training_rows import in_standard_units, rows_and_units
from .units import PixelUnits, StandardUnits
from .users_callbacks import WithCallbacks

# Rows in a forward pass at scoring. The number is fixed, but for small requests whose passes give
# the same bits, so that a row's float32 score does not depend on the rows that came with it.
SCORING_CHUNK = 1024
# Images in such a pass, and the most pixels in it: the maps that networks make of an image are many
# times larger than the image, so large images go in smaller chunks.
IMAGE_CHUNK, _IMAGE_CHUNK_NUMBERS = 64, 2**21
# An objective of `fit_from`: it gets the detector's own objective, the module and a batch.
ExtraObjective = Callable[[Objective, Any, Tensor], dict[str, Tensor]]


class BaseGenerativeDetector(
    ModuleSavingMixin, WithCallbacks, WithParts, RunsStages, ContinuingMixin
):
    """Base of all detectors; not to be instantiated.

    A method implements :meth:`_make_module`, which returns a :class:`Model` with
    ``energy(x) -> (n,)`` (low = normal), and :meth:`_stages`, which says how it is trained. The
    last stage is the one that ``partial_fit`` and ``warm_start`` run again. A detector that is
    not `trained_by_gradients` has no stages, nor the constructor parameters of them (`batch_size`,
    `verbose`, `callbacks`): its module learns in ``finish``, which is then called with the rows of
    one batch after another.

    A detector with a constructor parameter `use_labels` gets the classes of normal rows when that
    is true: `classes_` is there before the module is made, and the hooks are given the places of
    the rows' labels in it. One with a constructor parameter `validation_fraction` holds that share
    of the rows out of all its stages, for those that validate and for ``calibrate``.

    A detector with a constructor parameter `image_shape` takes images when that is given: arrays
    (n, C, H, W), or the flat rows that they are everywhere inside, of pixels in [0, 1].
    """

    module_: Any
    units_: StandardUnits
    history_: pd.DataFrame
    # Detectors whose constructor lacks one of these parameters read the value given here.
    image_shape: Sequence[int] | None = None
    validation_fraction: float = 0.0
    stopping: EarlyStopping | None = None
    # Says whether training has stages of gradient steps.
    trained_by_gradients: ClassVar[bool] = True
    _reads_lazily: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict] = {
        **BaseDetector._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "standardize": [StrOptions({"auto", "mixed", "frozen"}), "boolean"],
        "warm_start": ["boolean"],
        "device": [str],
        "stopping": [EarlyStopping, None],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
    }

    # ---- what a method says ---------------------------------------------------------------

    @abstractmethod
    def _make_module(self, n_features: int) -> Model:
        """Build the module, untrained, from the parameters and the number of columns alone."""

    @abstractmethod
    def _stages(self, module: Any) -> list[Stage]:
        """List the stages of training, with fresh optimisers over the module's parameters."""

    def _prepare(self, module: Any, rows: Rows, labels: Tensor | None) -> None:
        """Give the module the training rows before training; see :meth:`Model.prepare`.

        `labels` (n,) are places in `classes_`, or None without ``use_labels=True``. A detector
        whose module needs more than them overrides this, as one may :meth:`_calibrate`.
        """
        module.prepare(rows, labels)

    def _calibrate(self, module: Any, train: Rows, held_out: Tensor | None) -> None:
        """Let the module take the units of its scores after training; see `Model.calibrate`."""
        module.calibrate(train, held_out)

    # ---- fit ------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
        checkpoint: str | PathLike[str] | CheckpointFolder | None = None,
    ) -> Self:
        """Learn the distribution of normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2, taken as normal but for the share `contamination`.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as persons or machines: whole groups are held out.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which rows `calibration_fraction` holds out; "last", for series: the last ones; "none":
            none this time. A mask or places of rows names them itself.
        checkpoint : path-like or CheckpointFolder, default=None
            Folder in which a fit with gradient steps writes down where it stands, once in a while.
            If the process is killed, the same call goes on from there, to the same bits. It is
            removed once the fit has ended well; see :class:`~skgenad.CheckpointFolder`.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, the detector stays what it
            was before.
        """
        self._check_checkpoint(checkpoint)
        with self._watched(X, y), self._all_or_nothing(), kept_in(checkpoint) as keeper:
            if self.warm_start and hasattr(self, "module_"):
                X, labels = self._validate_labelled(X, y, reset=False)
                # A table that is given whole is all that counts now; sums only grow.
                stream = Stream() if self.trained_by_gradients else self._stream
                self._go_on(X, labels, stream, groups=groups, calibration=calibration)
            else:
                X, labels = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
                self.seed_ = draw_seed(self.random_state)
                if keeper is not None:
                    self.seed_ = keeper.seed(self.seed_, self.random_state)
                parts = self._split_calibration(X, labels, groups, calibration)
                self._fit_from_start(parts, keeper=keeper)
                self._set_threshold(X, parts.held_out, labels=parts.held_out_labels)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_from(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        start: BaseGenerativeDetector | None = None,
        extra_objective: ExtraObjective | None = None,
    ) -> Self:
        """Fit from another detector's weights, to more than the detector's own loss.

        This is for detectors that are trained by gradients; `LikelihoodRatio` trains with it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.
        start : detector, default=None
            Fitted, of this class. Its units of columns are taken, and its weights and all else
            that its module holds; what this detector's module has beyond that begins as in `fit`.
        extra_objective : callable, default=None
            Called in each step of the last stage as ``extra_objective(objective, module, batch)``
            in place of the stage's ``objective(module, batch)``. It returns a dict of scalars:
            "loss" is back-propagated, and the rest goes to `history_`. A loss that depends on no
            parameter skips the batch. The stage ends with its last epoch, even if a detector has a
            ``validation_fraction``, since its own loss is no longer all that counts.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the detector is not trained by gradients, or `start` is of another architecture, or
            was fitted on other columns or on the same in another order.
        """
        name = type(self).__name__
        if not self.trained_by_gradients:
            raise ValueError(f"{name} is not trained by gradients: use fit.")
        if start is not None and type(start) is not type(self):
            raise ValueError(f"start is a {type(start).__name__}; pass a fitted {name}.")
        with self._all_or_nothing():
            X, labels = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
            if start is not None:
                check_same_columns("start", start, self)
            self.seed_ = draw_seed(self.random_state)
            parts = self._split_calibration(X, labels)
            self._fit_from_start(parts, start, extra_objective)
            self._set_threshold(X, parts.held_out, labels=parts.held_out_labels)
        return self

    def _row_shape(self, n_features: int) -> tuple[int, ...]:
        """Shape of a row of `n_features` columns: (d,), or (C, H, W) of an image."""
        return row_shape(self.image_shape, n_features)

    def _shape(self, reset: bool) -> Shape | None:
        """Shape of images: that of the fit, whatever `set_params` was called with since."""
        return image_shape_of(vars(self) if reset else self._fitted_parameters)

    def _fit_from_start(
        self,
        parts: Split[Any],
        start: BaseGenerativeDetector | None = None,
        extra_objective: ExtraObjective | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Run all stages on a new module, or on a copy of the module of `start`.

        Rows that were held out are kept for what comes later.
        """
        if keeper is not None:
            keeper.identify(identity_of(self, parts))
        X, labels, held_out, known = parts
        self.device_ = resolve_device(self.device)
        self._n_fits = 1
        # What the module was made from: `set_params` may change parameters before a `save`.
        self._fitted_parameters = kept_parameters(self.get_params(deep=False))
        train, units = self._rows_and_units(X)
        self.units_ = units if start is None else start.units_
        rows = in_standard_units(train, self.units_, self.device_)
        if self.callbacks or not is_known(type(self)):  # others' code may want all rows at once
            rows = rows[:]
        with seeded(self.seed_, self.device_):
            codes = self._to_device(labels)
            module = self._prepared_module(rows, codes, start)
            stages = self._stages(module)
            if start is not None:
                stages = [dataclasses.replace(stage, before=None) for stage in stages]
            if extra_objective is not None and stages:
                objective = partial(extra_objective, stages[-1].objective)
                # The stage now has another objective than the detector's own, whose loss on rows
                # held out must therefore not choose the epoch.
                stages[-1] = dataclasses.replace(
                    stages[-1], objective=objective, validate=None, is_steady=None
                )
            split = self._split_validation(len(rows), self.device_)
            self._run(module, stages, rows, codes, split, keeper=keeper)
        self._keep_reference(train, self.seed_)
        learnt, validation = (part.cpu().numpy() for part in split)
        kept = X[:0] if held_out is None else held_out
        self._begin_stream(Batch(train, labels, learnt, validation, kept, known))

    def _prepared_module(
        self, rows: Rows, labels: Tensor | None, start: BaseGenerativeDetector | None = None
    ) -> Model:
        """Make a module, with what depends on the rows or with what that of `start` holds."""
        with own_draws():
            module = self._make_module(rows.shape[1]).to(self.device_)
            if start is None:
                self._prepare(module, rows, labels)
            else:
                module.start_from(start.module_)
        return module

    def _rows_and_units(self, rows: Table) -> tuple[Table, StandardUnits]:
        """Rows (n, d) to train on, and their units."""
        names, pixels = self._names, self.image_shape is not None
        return rows_and_units(rows, self.standardize, names, pixels=pixels)

    def _units_class(self) -> type[StandardUnits]:
        """Kind of units that columns have."""
        return StandardUnits if self.image_shape is None else PixelUnits

    def _to_device(self, labels: NDArray | None) -> Tensor | None:
        if labels is None:
            return None
        return torch.from_numpy(labels.astype(np.int64)).to(self.device_)

    # ---- score ----------------------------------------------------------------------------

    @property
    def _sees_constants(self) -> bool:
        """Whether the energy of a row that leaves a constant column rises by itself."""
        return True

    def _energy_of(self, part: Any) -> Callable[[Tensor], Tensor]:
        """Energy of the module or of a part of it, by which rows are scored."""
        if self._sees_constants:
            return part.energy
        return with_departures(part.energy, self.units_.scale)

    def _score(self, X: Table) -> NDArray:
        return -self._by_chunks(X, self._energy_of(self.module_))

    @property
    def _chunk_size(self) -> int:
        """Rows in a forward pass that needs no gradient."""
        if not isinstance(self.units_, PixelUnits):
            return SCORING_CHUNK
        return min(IMAGE_CHUNK, max(1, _IMAGE_CHUNK_NUMBERS // self.n_features_in_))

    @own_settings()
    def _by_chunks(
        self,
        X: Table,
        function: Callable[[Tensor], Tensor],
        finish: Callable[[NDArray], NDArray] = np.asarray,
        begin: Callable[[NDArray], NDArray] | None = None,
    ) -> NDArray:
        """Values (n, ...) of a function that maps rows in standard units, (m, d), to (m, ...).

        `finish` changes arrays of such values, row by row, once they have left the device. `begin`
        brings rows to what the function takes, float32; None: to standard units.
        """
        # Another thread's `partial_fit` may put other units in their place.
        units = self.units_
        passes = Passes(self._chunk_size, self.device_, isinstance(units, PixelUnits))
        begin = units.to_standard if begin is None else begin
        return passes.run(function, X, begin, finish, self.module_)
