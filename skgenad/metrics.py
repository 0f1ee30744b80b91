"""What users measure that scikit-learn lacks: scorers and splits for anomaly labels.

Labels are 1 for an anomaly and 0 for a normal row, as in every data set of this package.
scikit-learn's detectors score the other way round (higher = more normal), so its own
``scoring="roc_auc"`` is inverted with such labels. The scorers here have the sign right::

    GridSearchCV(detector, grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(5)).fit(X, y)

For arrays, `anomaly_score` gives what scikit-learn's metrics want as ``y_score``::

    roc_auc_score(y, anomaly_score(detector, X))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_outlier_detector
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d
from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object

__all__ = [
    "NormalOnlyCV",
    "anomaly_average_precision",
    "anomaly_roc_auc",
    "anomaly_score",
    "on_manifold_scorer",
]


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


def anomaly_roc_auc(estimator: Any, X: ArrayLike, y: ArrayLike) -> float:
    """Area under the ROC curve of a detector, for labels with 1 = anomaly.

    To be passed as ``scoring=`` to `GridSearchCV`, `cross_val_score` and the like.

    Parameters
    ----------
    estimator : estimator
        A fitted detector; see `anomaly_score`.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    y : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur.

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
    return float(roc_auc_score(_check_both_labels(y), anomaly_score(estimator, X)))


def anomaly_average_precision(estimator: Any, X: ArrayLike, y: ArrayLike) -> float:
    """Average precision of a detector, for labels with 1 = anomaly.

    To be passed as ``scoring=`` to `GridSearchCV`, `cross_val_score` and the like.

    Parameters
    ----------
    estimator : estimator
        A fitted detector; see `anomaly_score`.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    y : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur.

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
    return float(average_precision_score(_check_both_labels(y), anomaly_score(estimator, X)))


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
        If the estimator, or the pipeline's last step, has no ``on_manifold_score``.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skgenad import MPDR
    >>> from skgenad.metrics import on_manifold_scorer
    >>> search = GridSearchCV(
    ...     MPDR(random_state=0), {"visible_noise": [0.1, 0.3]}, scoring=on_manifold_scorer
    ... )
    """
    if isinstance(estimator, Pipeline):
        # Not estimator[:-1].transform: it takes a stateless last transformer for an unfitted one.
        for _, step in estimator.steps[:-1]:
            if step not in (None, "passthrough"):
                X = step.transform(X)
        return on_manifold_scorer(estimator.steps[-1][1], X)
    if not hasattr(estimator, "on_manifold_score"):
        raise TypeError(
            f"{type(estimator).__name__} has no on_manifold_score: the label-free score needs a "
            "detector with a manifold, such as skgenad.MPDR, alone or as the last step of a "
            "Pipeline. With labels, anomaly_roc_auc scores any detector."
        )
    return float(estimator.on_manifold_score(X))


class NormalOnlyCV:
    """Cross-validator that keeps anomalies out of the training folds.

    It splits as the cross-validator it wraps and then drops the rows with ``y = 1`` from each
    training part; the test parts keep them. So a detector trains on normal rows alone and is scored
    on both kinds.

    Parameters
    ----------
    cv : int, cross-validator or iterable, default=5
        An int is the number of folds, stratified by `y` (every test fold gets its share of the
        anomalies); a cross-validator of scikit-learn is used as it is, with its groups; an iterable
        yields (train, test) index arrays.

    Raises
    ------
    ValueError
        If `cv` is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.metrics import NormalOnlyCV
    >>> X, y = np.zeros((6, 1)), np.array([0, 0, 0, 0, 1, 1])
    >>> for train, test in NormalOnlyCV(2).split(X, y):
    ...     print(train, test)
    [2 3] [0 1 4]
    [0 1] [2 3 5]
    """

    def __init__(self, cv: int | Iterable | Any = 5) -> None:
        # An iterator can be read once, but a search asks for n_splits before it splits.
        self.cv = cv if cv is None or isinstance(cv, Integral) else check_cv(cv)

    def split(
        self, X: ArrayLike, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices of each fold's training and test rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to split.
        y : array-like of shape (n_samples,)
            1 for anomalies, 0 for normal rows.
        groups : array-like of shape (n_samples,), default=None
            Passed to the wrapped cross-validator.

        Yields
        ------
        train : numpy.ndarray of int
            Rows to train on: all normal.
        test : numpy.ndarray of int
            Rows to score: of both kinds.

        Raises
        ------
        ValueError
            If `y` is missing or has values besides 0 and 1, or if a training part has no normal
            row.
        """
        if y is None:
            raise ValueError("NormalOnlyCV needs y (1 = anomaly) to keep anomalies from training.")
        y = _check_labels(y)
        for fold, (train, test) in enumerate(self._splitter(y).split(X, y, groups)):
            train = np.asarray(train)
            train = np.flatnonzero(train) if train.dtype == bool else train
            normal = train[y[train] == 0]
            if not len(normal):
                raise ValueError(
                    f"The training part of fold {fold} has no normal row (y = 0) among its "
                    f"{len(train)} rows. Use fewer or shuffled folds, or check that y = 1 marks "
                    "the anomalies."
                )
            yield normal, test

    def get_n_splits(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : array-like, default=None
            Passed to the wrapped cross-validator; some, such as `LeaveOneGroupOut`, need them.

        Returns
        -------
        int
            Number of (train, test) pairs that `split` yields.
        """
        return self._splitter(y).get_n_splits(X, y, groups)

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what the wrapped cross-validator requests, so that ``groups`` reach it.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
            The request of `cv`; empty for an int.
        """
        return get_routing_for_object(self.cv)

    def _splitter(self, y: ArrayLike | None) -> Any:
        return check_cv(self.cv, y, classifier=True)

    def __repr__(self) -> str:
        return f"NormalOnlyCV(cv={self.cv!r})"


def _is_detector(estimator: Any) -> bool:
    # Objects outside scikit-learn have no tags, and is_outlier_detector fails on them.
    return hasattr(estimator, "__sklearn_tags__") and is_outlier_detector(estimator)


def _check_labels(y: ArrayLike) -> np.ndarray:
    """Labels as int64 of shape (n_samples,), or an error if they are not 0 and 1."""
    labels = column_or_1d(y)
    values = np.unique(labels)
    if not np.isin(values, [0, 1]).all():
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        raise ValueError(
            f"y has the values {shown}; it must be 1 for anomalies and 0 for normal rows "
            "(scikit-learn's predictions of -1 and +1 become this with `y == -1`)."
        )
    return labels.astype(np.int64)


def _check_both_labels(y: ArrayLike) -> np.ndarray:
    labels = _check_labels(y)
    if labels.min() == labels.max():
        raise ValueError(
            f"All {len(labels)} rows have y = {labels[0]}; a ranking is scored on rows of both "
            "kinds, 1 = anomaly and 0 = normal. Use stratified folds or fewer of them."
        )
    return labels
