"""Samples of several instances each: images of patches, clips of frames.

One detector is fitted on the instances of all samples, and a sample's score is made of those of its
instances. Samples are looked at a few at a time, so that what is in memory are the instances of
those few, and the sample of all instances that the detector is fitted on.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.contract import BaseDetector
from skgenad._core.pictures import is_picture
from skgenad._core.registry import brief
from skgenad._core.rows import Shape, validate_rows
from skgenad._core.saving import SavingMixin
from skgenad._core.sentinels import warned_of
from skgenad._core.state import PARAMETERS, SHARED, STATE, Fitted, clone_of_parameters, model_field
from skgenad._core.streams import Lots, together
from skgenad._core.training import empty_history
from skgenad._core.values import packed, unpacked
from skgenad._tensors.seeds import derived_seed, draw_seed
from skgenad.committee._members import (
    check_detector,
    energies,
    fitted_copy,
    history_of,
    rows_for_models,
)
from skgenad.likelihoods.mahalanobis import Mahalanobis

# Samples whose instances are in memory at the same time.
_AT_ONCE = 16
# Which of the seeds that are derived from a detector's are those of the sample and of the models.
_OF_SAMPLE, _OF_MODELS = 1, 2


class Samples:
    """Samples as they were given, an array or a list, of which some can be taken.

    Parameters
    ----------
    values : ndarray or list
        One item for each sample.
    """

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: slice | NDArray) -> Samples:
        if isinstance(self.values, np.ndarray):
            return Samples(self.values[key])
        return Samples([self.values[place] for place in np.arange(len(self))[key]])


class Instances(NamedTuple):
    """Instances of some samples, those of a sample one after another.

    Attributes
    ----------
    rows : ndarray of shape (m, d)
        The instances.
    sizes : ndarray of shape (n,)
        Their numbers in each sample.
    """

    rows: NDArray
    sizes: NDArray


class InstanceDetector(SavingMixin, BaseDetector):
    """Base of detectors that score samples by their instances; not to be instantiated."""

    detector: Any
    features: Any
    reduce: str | float
    max_rows: int
    _models: list[Any]
    features_: Any

    # What an instance is called, with its plural, and what makes instances of samples.
    _words: ClassVar[tuple[str, str]]
    _table = (
        PARAMETERS,
        *SHARED,
        *(field for field in STATE if field.name == "history_"),
        model_field("features_"),
        Fitted(
            "_models",
            lambda models: packed({"models": models}),
            lambda kept, detector: _checked_models(kept, detector),
        ),
        Fitted(
            "_grid", lambda grid: None if grid is None else list(grid), lambda g, d: _grid_of(g)
        ),
    )
    _parameter_constraints: ClassVar[dict] = {
        # `fit` checks them, with errors that say what to do.
        "detector": "no_validation",
        "features": "no_validation",
        "reduce": [StrOptions({"max", "mean"}), Interval(Real, 0, 1, closed="right")],
        "max_rows": [Interval(Integral, 2, None, closed="left")],
        **BaseDetector._parameter_constraints,
    }

    # ---- fit ------------------------------------------------------------------------------

    def _fit(self, X: ArrayLike, groups: ArrayLike | None, calibration: Any) -> Self:
        """Fit on samples; what `fit` of the subclasses does."""
        self._check()
        with self._all_or_nothing():
            self._grid: tuple[int, int] | None = None
            self.features_ = None if self.features is None else clone(self.features)
            samples = self._validate(X, reset=True, ensure_min_samples=2)
            self._fitted_parameters = clone_of_parameters(self)
            self.seed_ = draw_seed(self.random_state)
            train, _, held_out, _ = self._split_calibration(samples, None, groups, calibration)
            if isinstance(train, np.ndarray):
                self._keep_reference(train, self.seed_)
            else:
                self.__dict__.pop("_reference", None)
            self._models = self._learn(train)
            tables = list(history_of(self._models, "detector"))
            self.history_ = pd.concat(tables, ignore_index=True) if tables else empty_history()
            self._set_threshold(samples, held_out)
        return self

    def _check(self) -> None:
        """Raise TypeError unless detector and features are such."""
        check_detector(self._given)
        if self.features is not None and not (
            hasattr(self.features, "fit") and hasattr(self.features, "transform")
        ):
            raise TypeError(
                f"features must be an unfitted transformer that makes {self._words[1]}, or None, "
                f"got {self.features!r}."
            )

    @property
    def _takes_samples(self) -> bool:
        """Whether samples are no rows, so that a committee cannot fit it."""
        return self.features is not None

    @property
    def _given(self) -> Any:
        if self.detector is not None:
            return self.detector
        return Mahalanobis(shrinkage="auto")  # places may have fewer images than features

    def _validate(self, X: ArrayLike, *, reset: bool, **checks: Any) -> Any:
        """Check samples: rows (n, d) come back as such, all others as :class:`Samples`."""
        X = _listed(X)
        if self.features_ is None and _is_table(X):
            return validate_rows(self, X, image_shape=None, reset=reset, **checks)
        samples = Samples(_as_given(X))
        least = checks.get("ensure_min_samples", 1)
        if len(samples) < least:
            raise ValueError(
                f"Found {len(samples)} sample(s) while a minimum of {least} is required by "
                f"{type(self).__name__}."
            )
        if reset:
            if self.features_ is not None:
                self.features_.fit(samples.values)
            for name in ("feature_names_in_", "n_features_in_"):  # those of a fit before
                self.__dict__.pop(name, None)
            self.n_features_in_ = self._instances(samples[:1]).rows.shape[1]
        return samples

    def _shape(self, reset: bool) -> Shape | None:
        return None

    def _learn(self, train: Any) -> list[Any]:
        """Fit the detector on a sample of the instances."""
        made = not isinstance(train, np.ndarray)
        return [self._fitted(self._some_rows(train), 0, made=made)]

    def _fitted(self, rows: NDArray, place: int, *, made: bool) -> Any:
        """Fit a copy of the detector on instances (m, d), which are rows of X or `made` of it."""
        seed = derived_seed(derived_seed(self.seed_, _OF_MODELS), place)
        # What a network gives, or a place of few images, is no table that values are missing in.
        with warned_of(made):
            return fitted_copy(self._given, seed, rows_for_models(rows, None, self._names))

    def _some_rows(self, train: Any) -> NDArray:
        """Draw at most `max_rows` of all instances, each as likely as any other."""
        lots = Lots(self.max_rows, derived_seed(self.seed_, _OF_SAMPLE))
        pieces: list[NDArray] = []
        for instances in self._by_parts(train):
            places = lots.draw(len(instances.rows))
            if len(places):
                pieces.append(instances.rows[places])
            if lots.are_many:
                pieces = _winners(pieces, lots)
        return together(_winners(pieces, lots))

    # ---- instances ------------------------------------------------------------------------

    def _by_parts(self, samples: Any) -> Iterator[Instances]:
        """Instances of samples, of a few samples at a time."""
        if isinstance(samples, np.ndarray):
            yield Instances(samples, np.ones(len(samples), dtype=np.int64))
            return
        for start in range(0, len(samples), _AT_ONCE):
            yield self._instances(samples[start : start + _AT_ONCE])

    def _instances(self, samples: Samples) -> Instances:
        """Make instances of samples."""
        made = (
            samples.values if self.features_ is None else self.features_.transform(samples.values)
        )
        found = self._arranged(made)
        if len(found.sizes) != len(samples):
            raise ValueError(
                f"{self.features_!r} made instances of {len(found.sizes)} samples out of "
                f"{len(samples)}; features must keep the number of samples."
            )
        known = self.__dict__.get("n_features_in_", found.rows.shape[1])
        if found.rows.shape[1] != known:
            raise ValueError(
                f"X has {found.rows.shape[1]} features for each {self._words[0]}, but "
                f"{type(self).__name__} was fitted on {known}."
            )
        if not np.isfinite(found.rows).all():
            raise ValueError(
                f"Input X contains NaN or infinity, in the {self._words[1]} of a sample."
            )
        return found

    @abstractmethod
    def _arranged(self, made: Any) -> Instances:
        """Instances out of what features have made, or of samples as they were given."""

    # ---- score ----------------------------------------------------------------------------

    def _score(self, X: Any) -> NDArray:
        scores = [self._reduced(energies, sizes) for energies, sizes in self._energies(X)]
        return -np.concatenate(scores)

    def _energies(self, X: Any) -> Iterator[tuple[NDArray, NDArray]]:
        """Energies of instances, of a few samples at a time, with their numbers."""
        for instances in self._by_parts(X):
            yield self._energies_of(instances), instances.sizes

    def _energies_of(self, instances: Instances) -> NDArray:
        return energies(self._models[0], rows_for_models(instances.rows, None, self._names))

    def _reduced(self, values: NDArray, sizes: NDArray) -> NDArray:
        """Energies (n,) of samples, of those of their instances (m,)."""
        parts = np.split(values, np.cumsum(sizes)[:-1])
        # That of the fit, which the threshold is for.
        reduce = self._fitted_parameters["reduce"]
        if reduce == "max":
            return np.array([part.max() for part in parts])
        if reduce == "mean":
            # Without the sum, which may be too large a number.
            return np.array([(part / len(part)).sum() for part in parts])
        return np.array([_mean_of_top(part, float(reduce)) for part in parts])

    def _score_instances(self, X: ArrayLike) -> list[NDArray]:
        """Scores of the instances of each sample."""
        check_is_fitted(self)
        found = self._energies(self._validate(X, reset=False))
        return [
            -part for values, sizes in found for part in np.split(values, np.cumsum(sizes)[:-1])
        ]

    def _repairs(self, X: ArrayLike, groups: Any, reference: Any) -> Any:
        if not isinstance(self._validate(X, reset=False), np.ndarray):
            raise ValueError(
                f"explain and repair compare columns of rows, and this {type(self).__name__} was "
                f"fitted on samples of several {self._words[1]}. {self._how_to_look}"
            )
        return super()._repairs(X, groups, reference)

    @property
    @abstractmethod
    def _how_to_look(self) -> str:
        """What shows which instances of a sample are unusual."""

    def _keep_held_out(self, X: Any, labels: NDArray | None) -> None:
        """Nothing is kept: there is no training that goes on."""


def _is_table(X: Any) -> bool:
    """Whether X is rows, each an instance alone, for scikit-learn's checks; or nothing we know."""
    if isinstance(X, list | tuple):
        return not len(X) or np.ndim(X[0]) < 2
    return not hasattr(X, "ndim") or X.ndim < 3


def _listed(X: Any) -> Any:
    """Return samples in a column of objects as a list, all else as it is."""
    of_objects = isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype == object
    return list(X) if of_objects or isinstance(X, pd.Series | pd.Index) else X


def _as_given(X: Any) -> Any:
    """Return samples as an array or a list."""
    if isinstance(X, str | os.PathLike | bytes) or is_picture(X):
        raise ValueError(f"X is a single sample, {brief(X)}. Pass [X], a list of samples.")
    if isinstance(X, tuple):
        return list(X)
    if isinstance(X, list):
        return X
    if isinstance(X, np.ma.MaskedArray) and np.ma.getmaskarray(X).any():
        raise ValueError("X is a masked array, and what is masked is missing. Fill it in first.")
    values = np.asarray(X)
    if values.ndim == 0:
        raise TypeError(f"X must hold samples, got a {type(X).__name__}.")
    return values


def _winners(pieces: list[NDArray], lots: Lots) -> list[NDArray]:
    """Keep the rows of pieces that are in the sample."""
    stay = lots.losers_out()
    kept = [
        piece if len(places) == len(piece) else piece[places]
        for piece, places in zip(pieces, stay, strict=True)
    ]
    return [piece for piece in kept if len(piece)]


def _mean_of_top(values: NDArray, share: float) -> float:
    """Mean of the share of values that are largest, one at least."""
    n = max(1, math.ceil(round(share * len(values), 9)))
    return float((np.partition(values, len(values) - n)[-n:] / n).sum())


def _checked_models(kept: dict[str, Any], detector: Any) -> list[Any]:
    models = unpacked(kept, detector._loading_device)["models"]
    if not isinstance(models, list) or not models:
        raise ValueError("no models")
    for model in models:
        n = getattr(model, "n_features_in_", detector.n_features_in_)
        if not hasattr(model, "score_samples") or n != detector.n_features_in_:
            raise ValueError(f"a model {model!r} for {detector.n_features_in_} columns")
    return models


def _grid_of(kept: Any) -> tuple[int, int] | None:
    if kept is None:
        return None
    height, width = kept
    if not all(type(n) is int and n >= 1 for n in (height, width)):
        raise ValueError(f"the grid {brief(kept)}")
    return height, width
