"""What every detector shares: validate, seed, train in stages, set a threshold; score, predict."""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from skgenad._tensors.device import resolve_device
from skgenad._tensors.model import Model
from skgenad._tensors.passes import Passes
from skgenad._tensors.seeds import derived_seed, draw_seed, seeded

from .checks import Interval, StrOptions, fit_context
from .contract import BaseDetector
from .loop import Objective, Stage
from .parts import WithParts
from .rows import Shape, image_shape_of, row_shape
from .saving import SavingMixin
from .state import kept_parameters
from .training import empty_history, inputs_of, run_stage
from .units import PixelUnits, StandardUnits

# Rows in a forward pass at scoring. The number is fixed, but for small requests whose passes give
# the same bits, so that a row's float32 score does not depend on the rows that came with it.
SCORING_CHUNK = 1024
# Images in such a pass, and the most pixels in it: the maps that networks make of an image are many
# times larger than the image, so large images go in smaller chunks.
IMAGE_CHUNK, _IMAGE_CHUNK_NUMBERS = 64, 2**21
# The most rows that are held out for validation: the cost of a fit must not grow with n.
MOST_VALIDATION_ROWS = 4096
# An objective of `fit_from`: it gets the detector's own objective, the module and a batch.
ExtraObjective = Callable[[Objective, Any, Tensor], dict[str, Tensor]]


class BaseGenerativeDetector(SavingMixin, WithParts, BaseDetector):
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
    # Says whether training has stages of gradient steps.
    trained_by_gradients: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict] = {
        **BaseDetector._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "standardize": [StrOptions({"auto", "mixed"}), "boolean"],
        "warm_start": ["boolean"],
        "device": [str],
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

    def _prepare(self, module: Any, rows: Tensor, labels: Tensor | None) -> None:
        """Give the module the training rows before training; see :meth:`Model.prepare`.

        `labels` (n,) are places in `classes_`, or None without ``use_labels=True``. A detector
        whose module needs more than them overrides this, as one may :meth:`_calibrate`.
        """
        module.prepare(rows, labels)

    def _calibrate(self, module: Any, train: Tensor, held_out: Tensor | None) -> None:
        """Let the module take the units of its scores after training; see `Model.calibrate`."""
        module.calibrate(train, held_out)

    # ---- fit ------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the distribution of normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2, taken as normal but for the share `contamination`; of very
            many the threshold looks at 100,000.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, the detector stays what it
            was before.
        """
        with self._all_or_nothing():
            if self.warm_start and hasattr(self, "module_"):
                X, labels = self._validate_labelled(X, y, reset=False)
                self._train_on(X, labels)
            else:
                X, labels = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
                self._fit_from_start(X, labels)
            self._set_offset(X)
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
            If the detector is not trained by gradients, or `start` is of another architecture.
        """
        name = type(self).__name__
        if not self.trained_by_gradients:
            raise ValueError(f"{name} is not trained by gradients: use fit.")
        if start is not None and type(start) is not type(self):
            raise ValueError(f"start is a {type(start).__name__}; pass a fitted {name}.")
        with self._all_or_nothing():
            X, labels = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
            if start is not None and start.n_features_in_ != X.shape[1]:
                raise ValueError(
                    f"start was fitted on {start.n_features_in_} columns, but X has {X.shape[1]}."
                )
            self._fit_from_start(X, labels, start, extra_objective)
            self._set_offset(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from one more batch of rows.

        The first call is a `fit`. Later calls keep the units of the columns and all stages but the
        last as they are, run the last stage's steps once more on the rows of this batch (the
        optimiser's moments kept, the learning rate restarted), and set `offset_` from this batch.
        A detector that is not trained by gradients adds the rows to those it has seen. Parameters
        that were set since then have the effect that they have in a fit, but for those that what
        is kept depends on (of earlier stages, and what weights start from).

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
            self._train_on(X, labels)
            self._set_offset(X)
        return self

    def fit_predict(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray:
        """Fit, and label the training rows as normal (+1) or anomaly (-1).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for normal rows and -1 for anomalies, of type int.
        """
        return self.fit(X, y).predict(X)

    def _row_shape(self, n_features: int) -> tuple[int, ...]:
        """Shape of a row of `n_features` columns: (d,), or (C, H, W) of an image."""
        return row_shape(self.image_shape, n_features)

    def _shape(self, reset: bool) -> Shape | None:
        """Shape of images: that of the fit, whatever `set_params` was called with since."""
        return image_shape_of(vars(self) if reset else self._fitted_parameters)

    def _fit_from_start(
        self,
        X: NDArray,
        labels: NDArray | None,
        start: BaseGenerativeDetector | None = None,
        extra_objective: ExtraObjective | None = None,
    ) -> None:
        """Run all stages on a new module, or on a copy of the module of `start`."""
        self.device_ = resolve_device(self.device)
        self.seed_ = draw_seed(self.random_state)
        self._n_fits = 1
        # What the module was made from: `set_params` may change parameters before a `save`.
        self._fitted_parameters = kept_parameters(self.get_params(deep=False))
        train, train_labels, held_out = self._split_calibration(X, labels)
        self.units_ = self._units_of(train) if start is None else start.units_
        rows = torch.from_numpy(self.units_.to_standard(train)).to(self.device_)
        with seeded(self.seed_, self.device_):
            module = self._make_module(X.shape[1]).to(self.device_)
            codes = self._to_device(train_labels)
            if start is None:
                self._prepare(module, rows, codes)
            else:
                _take_state(module, start.module_)
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
            self._run(module, stages, rows, codes)
        self.calibration_scores_ = None if held_out is None else np.sort(self._score(held_out))

    def _units_of(self, rows: NDArray) -> StandardUnits:
        """Units of training: those of the training rows (n, d), or units that change nothing."""
        units = self._units_class()
        if not self.standardize or units is PixelUnits:
            return units.identity(rows.shape[1])
        return units.of(rows, mixed=self.standardize == "mixed")

    def _units_class(self) -> type[StandardUnits]:
        """Kind of units that columns have."""
        return StandardUnits if self.image_shape is None else PixelUnits

    def _to_device(self, labels: NDArray | None) -> Tensor | None:
        if labels is None:
            return None
        return torch.from_numpy(labels.astype(np.int64)).to(self.device_)

    def _train_on(self, X: NDArray, labels: NDArray | None) -> None:
        """Run the last stage once more, on a copy of the module: an interrupt costs nothing."""
        self._n_fits += 1
        rows = torch.from_numpy(self.units_.to_standard(X)).to(self.device_)
        module = self._module_to_continue()
        with seeded(derived_seed(self.seed_, self._n_fits), self.device_):
            stages = self._stages(module)[-1:]
            for name, optimizer in _optimizers(stages).items():
                # The optimiser goes on with its moments, but at the learning rate set by now.
                state = optimizer.state_dict()
                state["state"] = copy.deepcopy(self._moments.get(name, {}))
                optimizer.load_state_dict(state)
            self._run(module, stages, rows, self._to_device(labels))
        # The scores kept so far are of an earlier model, and no row of this batch is held out.
        self.calibration_scores_ = None

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
            if now[key] != before[key]:
                raise ValueError(
                    f"{key}={now[key]!r} was {before[key]!r} in the first fit, whose units later "
                    "training keeps. Set it back, or fit from the start (warm_start=False)."
                )
        with seeded(self.seed_, self.device_):
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

    def _run(self, module: Model, stages: list[Stage], rows: Tensor, labels: Tensor | None) -> None:
        tables = [self.history_] if self._n_fits > 1 else []
        train, held_out = self._split_validation(rows)
        for stage in stages:
            inputs, validation = (
                None if part is None else inputs_of(module, stage, rows[part], _at(labels, part))
                for part in (train, held_out)
            )
            assert inputs is not None
            if stage.before is not None and self._n_fits == 1:
                both = inputs if validation is None else torch.cat([inputs, validation])
                stage.before(module, both)
            tables.append(
                run_stage(
                    module,
                    stage,
                    inputs,
                    held_out=validation,
                    batch_size=self.batch_size,
                    callbacks=self.callbacks or (),
                    verbose=self.verbose,
                )
            )
        module.eval()
        module.finish(rows, labels)
        self._calibrate(module, rows[train], None if held_out is None else rows[held_out])
        self.module_ = module
        tables = [table for table in tables if len(table)]
        self.history_ = pd.concat(tables, ignore_index=True) if tables else empty_history()
        self._moments = {n: o.state_dict()["state"] for n, o in _optimizers(stages).items()}

    def _split_validation(self, rows: Tensor) -> tuple[Tensor | slice, Tensor | None]:
        """Return the places of rows to train on, and of those that choose each stage's epoch."""
        n_held_out = int(self.validation_fraction * len(rows))
        # At least two rows must remain to train on, and a few thousand suffice to compare epochs.
        n_held_out = min(n_held_out, len(rows) - 2, MOST_VALIDATION_ROWS)
        if n_held_out <= 0:
            return slice(None), None
        order = torch.randperm(len(rows), device=rows.device)
        return order[n_held_out:], order[:n_held_out]

    # ---- score ----------------------------------------------------------------------------

    def _score(self, X: NDArray) -> NDArray:
        return -self._by_chunks(X, self.module_.energy)

    @property
    def _chunk_size(self) -> int:
        """Rows in a forward pass that needs no gradient."""
        if not isinstance(self.units_, PixelUnits):
            return SCORING_CHUNK
        return min(IMAGE_CHUNK, max(1, _IMAGE_CHUNK_NUMBERS // self.n_features_in_))

    def _by_chunks(
        self,
        X: NDArray,
        function: Callable[[Tensor], Tensor],
        finish: Callable[[NDArray], NDArray] = np.asarray,
        begin: Callable[[NDArray], NDArray] | None = None,
    ) -> NDArray:
        """Values (n, ...) of a function that maps rows in standard units, (m, d), to (m, ...).

        `finish` changes arrays of such values, row by row, once they have left the device. `begin`
        brings rows to what the function takes, float32; None: to standard units.
        """
        passes = Passes(self._chunk_size, self.device_, isinstance(self.units_, PixelUnits))
        begin = self.units_.to_standard if begin is None else begin
        return passes.run(function, X, begin, finish, self.module_)


def _optimizers(stages: list[Stage]) -> Mapping[str, torch.optim.Optimizer]:
    """Optimisers of the last stage, if there is one."""
    return stages[-1].optimizers if stages else {}


def _at(labels: Tensor | None, part: Tensor | slice) -> Tensor | None:
    return None if labels is None else labels[part]


def _take_state(module: nn.Module, other: nn.Module) -> None:
    """Give a module all that another holds; what it has beyond that stays."""
    try:
        strange = module.load_state_dict(other.state_dict(), strict=False).unexpected_keys
        problem = f"there is no place for its {strange[0]}" if strange else ""
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
    if problem:
        raise ValueError(
            f"start has another architecture ({problem}). Give both detectors the same parameters, "
            "and rows of as many columns."
        )
