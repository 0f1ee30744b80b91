"""Any estimator with scores of scikit-learn's sign as a detector with the package's contract."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context

from skgenad._core.calibration import hold_out_nothing
from skgenad._core.checks import StrOptions, fit_context
from skgenad._core.contract import BaseDetector
from skgenad._core.foreign import HOW_TO_SCORE, cloned, fits_and_scores
from skgenad._core.rows import Shape
from skgenad._core.saving import SavingMixin
from skgenad._core.state import clone_of_parameters
from skgenad._core.training_rows import rows_and_units
from skgenad._core.units import StandardUnits
from skgenad._tensors.device import shortened
from skgenad._tensors.seeds import derived_seed, draw_seed

from ._files import SCORES
from ._globals import fitted_with_seeds, without_chance


class ScoreDetector(SavingMixin, BaseDetector):
    """Give any estimator with ``score_samples`` the contract of this package's detectors.

    scikit-learn's ``GaussianMixture``, ``KernelDensity``, ``IsolationForest``, ``OneClassSVM`` and
    ``LocalOutlierFactor(novelty=True)`` are such estimators, `PyODDetector` makes one of pyod's
    detectors, and pipelines that end in one are, too. They get standardised columns, a threshold by
    the share of rows to flag, p-values from rows held out, and seeds.

    Parameters
    ----------
    estimator : estimator
        Unfitted, with ``fit`` and ``score_samples`` (higher for normal rows). It is cloned before
        it is fitted. Its parameters are reached as ``estimator__<name>``.
    standardize : {"auto", "mixed"} or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does. "mixed" scales by
        sqrt(standard deviation * range / sqrt(12)).
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    random_state : int, RandomState or None, default=None
        Seed of the rows held out, and of every ``random_state`` of the estimator, nested ones too,
        that is None. An estimator whose code draws from global generators finds them seeded, one
        such fit after another; they are put back, but other threads see it.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone. It takes rows in standard units, unless ``standardize=False``.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    seed_ : int
        Seed drawn from `random_state`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    PyODDetector : Makes a detector of pyod an estimator with ``score_samples``.
    DiscriminativeRatio : A classifier of normal rows against others as a detector.
    skgenad.GaussianMixtures : Mixtures of several sizes, with files, batches and log densities.

    Notes
    -----
    ``score_samples`` is the estimator's own, in its unit, with the digits of float32: the last bits
    of many an estimator's scores depend on a row's place among the others. What is below float64's
    range, as the log density of a kernel without tails, counts as its lowest number.

    A threshold that the estimator has itself, and its parameter `contamination`, have no influence.
    ``save`` takes estimators that :func:`skgenad.save` takes; pickle and joblib work with all.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KernelDensity
    >>> from skgenad.compat import ScoreDetector
    >>> X = np.random.RandomState(0).randn(200, 2) * [1, 1000]
    >>> kernels = KernelDensity(bandwidth=0.5)
    >>> detector = ScoreDetector(kernels, calibration_fraction=0.5, random_state=0).fit(X)
    >>> detector.predict([[0, 0], [0, 9000]])
    array([ 1, -1])
    >>> detector.p_value([[0, 9000]]).round(2)
    array([0.01])
    """

    estimator_: Any
    _units: StandardUnits | None
    _draws_from: str

    _table = SCORES
    _parameter_constraints: ClassVar[dict] = {
        # `fit` checks it, with an error that says what to do.
        "estimator": "no_validation",
        "standardize": [StrOptions({"auto", "mixed"}), "boolean"],
        **BaseDetector._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any,
        *,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
    ) -> Self:
        """Fit a clone of the estimator, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2.
        y : object
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as persons or machines: whole groups are held out.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which rows `calibration_fraction` holds out; "last", for series: the last ones; "none":
            none this time. A mask or places of rows names them itself.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, it stays what it was before.

        Raises
        ------
        TypeError
            If `estimator` has no ``fit`` or no ``score_samples``.
        """
        estimator = self._clone()
        with self._all_or_nothing():
            X, _ = self._validate_labelled(X, None, reset=True, ensure_min_samples=2)
            self._fitted_parameters = clone_of_parameters(self)
            self.seed_ = draw_seed(self.random_state)
            train, _, held_out, _ = self._split_calibration(X, None, groups, calibration)
            train, units = rows_and_units(train, self.standardize, self._names)
            self._units = units if self.standardize else None
            self._keep_reference(train, self.seed_)
            self.estimator_, self._draws_from = fitted_with_seeds(
                estimator, derived_seed(self.seed_, 0), (self._rows(train),), "score_samples"
            )
            self._set_threshold(X, held_out)
        return self

    def _clone(self) -> Any:
        """Copy the estimator, unfitted, or say why it is none."""
        given = self.estimator
        if not fits_and_scores(given):
            raise TypeError(
                f"estimator must be an unfitted estimator with fit and score_samples, got {given!r}"
                f". Pass for example GaussianMixture(). {HOW_TO_SCORE}"
            )
        model = cloned(given)
        hold_out_nothing(model)
        return model

    def _rows(self, X: NDArray) -> NDArray:
        """Rows (n, d) as the estimator gets them, float64."""
        rows = X if self._units is None else self._units.to_standard(X)
        return rows.astype(np.float64, copy=False)

    def _score(self, X: NDArray) -> NDArray:
        with without_chance(self._draws_from), config_context(array_api_dispatch=False):
            scores = np.asarray(self.estimator_.score_samples(self._rows(X)), dtype=np.float64)
        limits = np.finfo(np.float64)
        return np.clip(shortened(torch.from_numpy(scores)).numpy(), limits.min, limits.max)

    def _shape(self, reset: bool) -> Shape | None:
        return None

    def _settle(self) -> None:
        if not hasattr(self.estimator_, "score_samples"):
            raise ValueError(f"a {type(self.estimator_).__name__}, which has no scores")
