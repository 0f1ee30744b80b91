"""Scorers of detectors for searches and cross-validation, where anomalies have the label 1.

What a scorer cannot score stops a search: scikit-learn takes errors of scorers for scores of NaN,
among which the first candidate wins. Rows of training that are all normal are ranked against the
anomalies of their fold's test part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_outlier_detector
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import Pipeline

from skgenad._core.last_steps import rows_for_last
from skgenad._core.searches import refuse, search_asking

from ._labels import check_both_labels, check_labels


def anomaly_score(estimator: Any, X: ArrayLike) -> np.ndarray:
    """How anomalous a fitted detector finds each row: higher = more anomalous.

    Parameters
    ----------
    estimator : estimator
        A fitted detector of this package or of scikit-learn, a density model such as
        `sklearn.mixture.GaussianMixture`, or a `Pipeline` or search that ends in one. Its
        ``score_samples`` is used, else its ``decision_function``; both are higher for normal rows
        by scikit-learn's convention.
    X : array-like of shape (n_samples, n_features)
        Rows to score.

    Returns
    -------
    numpy.ndarray of shape (n_samples,)
        Negated scores, in the estimator's own unit.

    Raises
    ------
    TypeError
        If `estimator` has no such score or is no detector, so that the sign of its
        ``decision_function`` is unknown (a classifier's is the other way round).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.covariance import EllipticEnvelope
    >>> from sklearn.metrics import roc_auc_score
    >>> from skgenad.metrics import anomaly_score
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> detector = EllipticEnvelope(random_state=0).fit(X)
    >>> rows = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.0]])
    >>> float(roc_auc_score([0, 0, 1], anomaly_score(detector, rows)))
    1.0
    """
    if hasattr(estimator, "score_samples"):
        return -np.asarray(estimator.score_samples(X))
    if hasattr(estimator, "decision_function") and _is_detector(estimator):
        return -np.asarray(estimator.decision_function(X))
    raise TypeError(
        f"{type(estimator).__name__} is no detector with scikit-learn's interface: it needs "
        "score_samples, or decision_function of an outlier detector (higher = more normal)."
    )


def anomaly_roc_auc(estimator: Any, X: ArrayLike, y: ArrayLike | None = None) -> float:
    """Area under the ROC curve of a detector, for labels with 1 = anomaly.

    To be passed as ``scoring=`` to `GridSearchCV`, `cross_val_score` and the like. What it cannot
    score stops them, whatever their ``error_score``; see `make_anomaly_scorer`.

    Parameters
    ----------
    estimator : estimator
        A fitted detector; see `anomaly_score`.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    y : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur, but in a search's training part.

    Returns
    -------
    float
        In [0, 1]: the probability that an anomaly scores as more anomalous than a normal row, ties
        counted half. 0.5 is chance.

    Raises
    ------
    ValueError
        If `y` has other values or only one of the two.
    TypeError
        If the estimator is no detector.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import cross_val_score
    >>> from skgenad.datasets import load_builtin
    >>> from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc
    >>> X, y = load_builtin("breast_cancer", return_X_y=True)
    >>> detector = IsolationForest(n_estimators=20, random_state=0)
    >>> scores = cross_val_score(detector, X, y, scoring=anomaly_roc_auc, cv=NormalOnlyCV(3))
    >>> bool(scores.mean() > 0.9)
    True
    """
    return _score(roc_auc_score, estimator, X, y, sys._getframe(1))


def anomaly_average_precision(estimator: Any, X: ArrayLike, y: ArrayLike | None = None) -> float:
    """Average precision of a detector, for labels with 1 = anomaly.

    To be passed as ``scoring=`` to `GridSearchCV`, `cross_val_score` and the like. What it cannot
    score stops them, whatever their ``error_score``; see `make_anomaly_scorer`.

    Parameters
    ----------
    estimator : estimator
        A fitted detector; see `anomaly_score`.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    y : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur, but in a search's training part.

    Returns
    -------
    float
        In (0, 1]: precision averaged over the ranks of the anomalies. The share of anomalies in
        `y` is chance, so values compare only between data with the same share.

    Raises
    ------
    ValueError
        If `y` has other values or only one of the two.
    TypeError
        If the estimator is no detector.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad.datasets import load_builtin
    >>> from skgenad.metrics import anomaly_average_precision
    >>> X, y = load_builtin("breast_cancer", return_X_y=True)
    >>> detector = IsolationForest(n_estimators=20, random_state=0).fit(X[y == 0])
    >>> anomaly_average_precision(detector, X, y) > 0.5
    True
    """
    return _score(average_precision_score, estimator, X, y, sys._getframe(1))


def make_anomaly_scorer(
    metric: Callable[..., float], *, greater_is_better: bool = True, **kwargs: Any
) -> Callable[[Any, ArrayLike, ArrayLike], float]:
    """Make a scorer for searches from a metric of labels and anomaly scores.

    What `sklearn.metrics.make_scorer` is for classifiers: it hands the metric anomaly scores, where
    scikit-learn's own would hand it scores that are higher for normal rows.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, anomaly_score, **kwargs)`` returning a number, such as
        `f1_at_contamination`, `partial_roc_auc` or a metric of scikit-learn that takes scores.
    greater_is_better : bool, default=True
        If False, the scorer returns the negated metric, since searches look for the largest value.
    **kwargs : dict
        Passed to `metric`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``, to be passed as ``scoring=`` to `GridSearchCV`,
        `cross_val_score` and the like. It can be pickled when `metric` can.

    Raises
    ------
    TypeError
        If `metric` is not callable.

    See Also
    --------
    anomaly_roc_auc, anomaly_average_precision : Ready-made scorers.

    Notes
    -----
    scikit-learn's searches, curves and cross-validations take an error of a scorer for a score of
    NaN and go on; where every candidate fails, the first one wins. The scorers of this package stop
    them: on rows of one kind, labels that are not 0 and 1, an estimator that is no detector, an
    argument that the metric refuses. A detector that fails in scoring, or gives scores that are not
    finite, loses, as one does that cannot be fitted.

    In a training part of normal rows alone, as `NormalOnlyCV` makes them, nothing can be ranked. So
    training scores of searches and curves rank its rows against the anomalies of the same fold's
    test part: what the test score says of new normal rows, they say of those trained on.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import cross_val_score
    >>> from skgenad.datasets import load_builtin
    >>> from skgenad.metrics import NormalOnlyCV, make_anomaly_scorer, partial_roc_auc
    >>> X, y = load_builtin("breast_cancer", return_X_y=True)
    >>> scorer = make_anomaly_scorer(partial_roc_auc, max_fpr=0.2)
    >>> detector = IsolationForest(n_estimators=20, random_state=0)
    >>> scores = cross_val_score(detector, X, y, scoring=scorer, cv=NormalOnlyCV(3))
    >>> bool(scores.mean() > 0.5)
    True
    """
    if not callable(metric):
        raise TypeError(
            f"metric must be a function of labels and anomaly scores, got {metric!r}; pass the "
            "function itself, for example skgenad.metrics.f1_at_contamination."
        )
    return _AnomalyScorer(metric, greater_is_better, kwargs)


class _AnomalyScorer:
    """A scorer; an object and not a closure, so that it can be sent to other processes."""

    def __init__(
        self, metric: Callable[..., float], greater_is_better: bool, kwargs: dict[str, Any]
    ) -> None:
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.kwargs = kwargs

    def __call__(self, estimator: Any, X: ArrayLike, y: ArrayLike | None = None) -> float:
        return _score(self._signed, estimator, X, y, sys._getframe(1))

    def _signed(self, labels: np.ndarray, scores: np.ndarray) -> float:
        value = float(self.metric(labels, scores, **self.kwargs))
        return value if self.greater_is_better else -value

    def __repr__(self) -> str:
        name = getattr(self.metric, "__name__", repr(self.metric))
        options = {} if self.greater_is_better else {"greater_is_better": False}
        arguments = [
            name,
            *(f"{key}={value!r}" for key, value in {**options, **self.kwargs}.items()),
        ]
        return f"make_anomaly_scorer({', '.join(arguments)})"


def on_manifold_scorer(estimator: Any, X: ArrayLike, y: ArrayLike | None = None) -> float:
    """Label-free score of an MPDR detector, to choose its parameters without any anomaly.

    How well the detector tells the rows of `X` (held-out normal rows) from points drawn uniformly
    on its own manifold, as an area under the ROC curve (MPDR, appendix C). To be passed as
    ``scoring=`` to `GridSearchCV` and the like.

    It compares detectors that share their manifold, and no others: each is asked to reject samples
    of its *own* autoencoder, and a worse autoencoder gives samples that are easier to reject. So it
    serves for the chains' parameters, the energy's penalty, learning rate and number of steps, with
    one integer ``random_state`` for all. It does not serve for other energies or seeds (the
    manifold is then another one too), for the manifold's sizes or training, for different features
    or scalers in front of the detector, or for MPDR against other methods.

    Parameters
    ----------
    estimator : estimator
        A fitted detector with ``on_manifold_score(X)``, or a `Pipeline` that ends in one.
    X : array-like of shape (n_samples, n_features)
        Held-out rows, normal ones for the most part; the pipeline's earlier steps transform them.
    y : array-like, default=None
        Ignored: present because searches pass it.

    Returns
    -------
    float
        In [0, 1], higher = better.

    Raises
    ------
    TypeError
        If the estimator, or the pipeline's last step, has no ``on_manifold_score``. Errors stop a
        search, whatever its ``error_score``.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skgenad import MPDR
    >>> from skgenad.metrics import on_manifold_scorer
    >>> grid = {"visible_chain__noise": [0.1, 0.3]}
    >>> search = GridSearchCV(MPDR(random_state=0), grid, scoring=on_manifold_scorer)
    """
    asker = sys._getframe(1)
    try:
        return _on_manifold_score(estimator, X)
    except (TypeError, ValueError) as error:
        return refuse(error, asker)


def _on_manifold_score(estimator: Any, X: ArrayLike) -> float:
    if isinstance(estimator, Pipeline):
        return _on_manifold_score(estimator.steps[-1][1], rows_for_last(estimator, X))
    if not hasattr(estimator, "on_manifold_score"):
        raise TypeError(
            f"{type(estimator).__name__} has no on_manifold_score: the label-free score needs a "
            "detector with a manifold, such as skgenad.MPDR, alone or as the last step of a "
            "Pipeline. With labels, anomaly_roc_auc scores any detector."
        )
    return float(estimator.on_manifold_score(X))


class _OfCandidate(Exception):
    """Holds an error in scoring that is of one candidate, where others are of all."""


def _score(
    metric: Callable[..., float],
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike | None,
    asker: FrameType,
) -> Any:
    """Return a metric of a detector's scores; `asker` is the frame that has called the scorer."""
    try:
        if y is None:
            raise ValueError("This scorer needs y: 1 for anomalies, 0 for normal rows.")
        labels, scores = _with_anomalies(estimator, X, check_labels(y), asker)
        labels = check_both_labels(labels)
        if not np.isfinite(scores).all():
            name = type(estimator).__name__
            raise _OfCandidate(ValueError(f"{name} gives scores that are NaN or infinity."))
        value = float(metric(labels, scores))
        if np.isnan(value):
            raise ValueError(f"The metric is NaN for {len(labels)} rows with finite scores.")
        return value
    except _OfCandidate as held:
        raise held.args[0] from None
    except (TypeError, ValueError) as error:
        return refuse(error, asker)


def _with_anomalies(
    estimator: Any, X: ArrayLike, labels: np.ndarray, asker: FrameType
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores; where training rows are all normal, of the test part too."""
    scores = _scores_of(estimator, X)
    search = search_asking(asker)
    if labels.any() or search is None or search.training_rows is not X:
        return labels, scores
    test_labels = check_labels(search.test_labels)
    of_test = _scores_of(estimator, search.test_rows)[test_labels == 1]
    return np.append(labels, np.ones_like(of_test, dtype=np.int64)), np.append(scores, of_test)


def _scores_of(estimator: Any, X: ArrayLike) -> np.ndarray:
    if not has_scores(estimator):
        return anomaly_score(estimator, X)  # says so
    try:
        return anomaly_score(estimator, X)
    except (TypeError, ValueError) as error:
        raise _OfCandidate(error) from error


def has_scores(estimator: Any) -> bool:
    return hasattr(estimator, "score_samples") or (
        hasattr(estimator, "decision_function") and _is_detector(estimator)
    )


def _is_detector(estimator: Any) -> bool:
    # Objects outside scikit-learn have no tags, and is_outlier_detector fails on them.
    return hasattr(estimator, "__sklearn_tags__") and is_outlier_detector(estimator)
