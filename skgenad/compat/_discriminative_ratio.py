"""Any classifier as a detector: normal rows against rows of all kinds."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator

from skgenad._core.checks import Interval, StrOptions, fit_context
from skgenad._core.contract import BaseDetector
from skgenad._core.foreign import cloned, parameters_of
from skgenad._core.general_rows import general_rows
from skgenad._core.rows import Shape
from skgenad._core.saving import SavingMixin
from skgenad._core.state import clone_of_parameters
from skgenad._core.training_rows import rows_and_units
from skgenad._core.units import StandardUnits
from skgenad._tensors.device import shortened
from skgenad._tensors.seeds import derived_seed, draw_seed

from ._files import RATIO, RESPONSES
from ._globals import fitted_with_seeds, without_chance

# Rows of either kind by which it is seen what a classifier's decision function is.
_MOST_ASKED = 100


class DiscriminativeRatio(SavingMixin, BaseDetector):
    """Detect anomalies by a classifier of normal rows against rows of all kinds.

    A classifier that tells normal rows from general ones knows log p_in(x) - log p_g(x), the ratio
    of `LikelihoodRatio`, without a model of either density (Schirrmeister et al., 2020, S9). It is
    the discriminative rival of that method. Any classifier of scikit-learn's kind will do.

    Parameters
    ----------
    classifier : classifier
        Unfitted, with ``fit`` and ``predict_proba`` or ``decision_function``. It is cloned before
        it is fitted to labels 1, normal, and 0, general. Its parameters are reached as
        ``classifier__<name>``.
    prior_odds : float or "auto", default="auto"
        How much more often than a general row the classifier takes a row to be a normal one before
        it has looked at it, above 0. Its logarithm is taken off the classifier's log odds. "auto":
        as many times as there are more normal rows than general ones in training; by the
        classifier's `class_weight` or `priors`, where it has such: 1 if ``"balanced"``. Number
        for one whose parts balance, or that does in another way. No rank depends on it.
    standardize : {"auto", "mixed"} or bool, default="auto"
        Whether columns are centred and scaled first, by rows of both kinds; "auto" does. "mixed"
        scales by sqrt(standard deviation * range / sqrt(12)).
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    random_state : int, RandomState or None, default=None
        Seed of the rows held out, of shuffled columns, and of every ``random_state`` of the
        classifier, nested ones too, that is None.

    Attributes
    ----------
    classifier_ : classifier
        The fitted clone. It takes rows in standard units, unless ``standardize=False``.
    prior_odds_ : float
        Odds whose logarithm is taken off; 1 if there is nothing to take them off.
    response_ : {"log odds", "probability", "margin"}
        What scores come from. "log odds": ``decision_function``, where it is the logit of the
        probabilities; it has digits left where these round to 1. "probability": the logit of
        ``predict_proba``. "margin": ``decision_function`` of a classifier without probabilities.
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
    skgenad.LikelihoodRatio : The ratio of the likelihoods of two models.
    ScoreDetector : Any estimator with scores.

    Notes
    -----
    ``score_samples`` is log p_in(x) - log p_g(x) in nats if `response_` is no margin, with the
    digits of float32. It is as good as the classifier's probabilities: those of forests come in
    steps, and one of 0 counts as the smallest normal number of float64, a log ratio of 708;
    scikit-learn's ``CalibratedClassifierCV`` is a classifier, too. A margin has no unit, and no
    prior to take off.

    Without `X_general` general rows are the training rows with each column shuffled by itself: the
    ratio asks how well columns go together. A linear classifier cannot tell.

    In a pipeline `X_general` reaches this estimator through metadata routing, with
    ``set_fit_request(X_general=True)``, or as the fit parameter ``<step>__X_general``.
    ``save`` takes classifiers that :func:`skgenad.save` takes; pickle and joblib work with all.

    References
    ----------
    .. [1] R. T. Schirrmeister et al. Understanding Anomaly Detection with Deep Invertible Networks
       through Hierarchies of Distributions and Features. NeurIPS 2020.
       https://arxiv.org/abs/2006.10848

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    >>> from skgenad.compat import DiscriminativeRatio
    >>> rng = np.random.RandomState(0)
    >>> normal, of_all_kinds = rng.randn(300, 2), 3 * rng.randn(3000, 2)
    >>> detector = DiscriminativeRatio(QuadraticDiscriminantAnalysis(), random_state=0)
    >>> detector = detector.fit(normal, X_general=of_all_kinds)
    >>> detector.score_samples([[0, 0]]).round(1)  # 2 log 3 for Gaussians of widths 1 and 3
    array([2.2])
    >>> detector.predict([[0, 0], [5, 5]])
    array([ 1, -1])
    """

    classifier_: Any
    prior_odds_: float
    response_: str
    _units: StandardUnits | None
    _draws_from: str

    _table = RATIO
    _parameter_constraints: ClassVar[dict] = {
        # `fit` checks it, with an error that says what to do.
        "classifier": "no_validation",
        "prior_odds": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "standardize": [StrOptions({"auto", "mixed"}), "boolean"],
        **BaseDetector._parameter_constraints,
    }

    def __init__(
        self,
        classifier: Any,
        *,
        prior_odds: float | str = "auto",
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.classifier = classifier
        self.prior_odds = prior_odds
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        X_general: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
    ) -> Self:
        """Fit a clone of the classifier to normal rows and general ones, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows, at least 2.
        y : object
            Ignored.
        X_general : array-like of shape (n_general, n_features), default=None
            Rows of the general distribution, normal ones among them or not, at least 2. None: the
            training rows with each column shuffled by itself.
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
            If `classifier` is no unfitted classifier.
        ValueError
            If `prior_odds` is a number, and the classifier has no probabilities.
        """
        classifier = self._clone()
        with self._all_or_nothing():
            X, _ = self._validate_labelled(X, None, reset=True, ensure_min_samples=2)
            self._fitted_parameters = clone_of_parameters(self)
            self.seed_ = draw_seed(self.random_state)
            train, _, held_out, _ = self._split_calibration(X, None, groups, calibration)
            wide = general_rows(self, train, X_general)
            both, units = rows_and_units(np.vstack([train, wide]), self.standardize, self._names)
            self._units = units if self.standardize else None
            self._keep_reference(train, self.seed_)
            labels = np.repeat([1, 0], [len(train), len(wide)])
            rows = self._rows(both)
            self.classifier_, self._draws_from = fitted_with_seeds(
                classifier, derived_seed(self.seed_, 0), (rows, labels), "predict"
            )
            self._look_at(rows, labels)
            self._set_threshold(X, held_out)
        return self

    def _clone(self) -> Any:
        """Copy the classifier, unfitted, or say why it is none."""
        given = self.classifier
        answers = hasattr(given, "predict_proba") or hasattr(given, "decision_function")
        fits = answers and not isinstance(given, type) and is_classifier(given)
        if not fits or isinstance(given, FrozenEstimator):
            raise TypeError(
                "classifier must be an unfitted classifier with fit and predict_proba or "
                f"decision_function, got {given!r}. Pass for example LogisticRegression()."
            )
        return cloned(given)

    def _rows(self, X: NDArray) -> NDArray:
        """Rows (n, d) as the classifier gets them, float64."""
        rows = X if self._units is None else self._units.to_standard(X)
        return rows.astype(np.float64, copy=False)

    def _look_at(self, rows: NDArray, labels: NDArray) -> None:
        """See what the fitted classifier answers with, and by which odds it was fitted."""
        some = np.concatenate([np.flatnonzero(labels == k)[:_MOST_ASKED] for k in (0, 1)])
        with without_chance(self._draws_from), config_context(array_api_dispatch=False):
            self.response_ = _response_of(self.classifier_, rows[some])
        if self.response_ == "margin" and self.prior_odds != "auto":
            raise ValueError(
                f"prior_odds={self.prior_odds!r} has no use: {self.classifier!r} has margins and "
                'no probabilities. Leave it "auto", or pass CalibratedClassifierCV(classifier).'
            )
        if self.response_ == "margin":
            self.prior_odds_ = 1.0
        elif self.prior_odds == "auto":
            n_normal = int(labels.sum())
            self.prior_odds_ = _odds_of(self.classifier_, n_normal, len(labels) - n_normal)
        else:
            self.prior_odds_ = float(self.prior_odds)

    def _score(self, X: NDArray) -> NDArray:
        with without_chance(self._draws_from), config_context(array_api_dispatch=False):
            log_odds = _ANSWERS[self.response_](self.classifier_, self._rows(X))
        scores = torch.from_numpy(log_odds - np.log(self.prior_odds_))
        limits = np.finfo(np.float64)
        return np.clip(shortened(scores).numpy(), limits.min, limits.max)

    def _shape(self, reset: bool) -> Shape | None:
        return None

    def _settle(self) -> None:
        needed = "predict_proba" if self.response_ == "probability" else "decision_function"
        if not hasattr(self.classifier_, needed):
            raise ValueError(f"a {type(self.classifier_).__name__}, which has no {needed}")


def _decision(classifier: Any, rows: NDArray) -> NDArray:
    return np.array(classifier.decision_function(rows), dtype=np.float64).reshape(len(rows))


def _logit(classifier: Any, rows: NDArray) -> NDArray:
    """Logit (n,) of the probability of normal rows, of probabilities (n, 2)."""
    probabilities = np.asarray(classifier.predict_proba(rows), dtype=np.float64)
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return logs[:, 1] - logs[:, 0]


_ANSWERS = dict(zip(RESPONSES, (_decision, _logit, _decision), strict=True))


def _response_of(classifier: Any, rows: NDArray) -> str:
    """Whether a classifier answers with log odds, probabilities alone, or margins."""
    if not hasattr(classifier, "predict_proba"):
        return "margin"
    if not hasattr(classifier, "decision_function"):
        return "probability"
    odds, likely = _decision(classifier, rows), np.asarray(classifier.predict_proba(rows))[:, 1]
    return "log odds" if np.allclose(expit(odds), likely, rtol=0, atol=1e-6) else "probability"


def _odds_of(classifier: Any, n_normal: int, n_general: int) -> float:
    """Odds of a normal row by which a classifier was fitted, as far as its parameters say."""
    last = classifier
    while hasattr(last, "best_estimator_") or hasattr(last, "steps"):  # of each other, too
        last = last.best_estimator_ if hasattr(last, "best_estimator_") else last.steps[-1][1]
    own = parameters_of(last)
    priors, weights = own.get("priors"), own.get("class_weight")
    if priors is not None:
        return float(priors[1]) / float(priors[0])
    # Probabilities of support vector machines are fitted to labels without weights.
    if weights is None or "probability" in own:
        return n_normal / n_general
    if isinstance(weights, str):  # "balanced", as all of them are called
        return 1.0
    return n_normal * float(weights.get(1, 1)) / (n_general * float(weights.get(0, 1)))
