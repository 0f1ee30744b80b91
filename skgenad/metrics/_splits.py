"""Cross-validation that trains on normal rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object

from ._labels import check_labels


class NormalOnlyCV:
    """Cross-validator that keeps anomalies out of the training folds.

    It splits as the cross-validator it wraps and then drops the rows with ``y = 1`` from each
    training part; the test parts keep them. So a detector trains on normal rows alone and is scored
    on both kinds. Training scores, of the scorers of this package, rank the training rows against
    the anomalies of the test part.

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
        y = check_labels(y)
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
