"""Checks of labels, 1 = anomaly and 0 = normal, and of the scores that go with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_consistent_length, column_or_1d


def check_labels(y: ArrayLike) -> np.ndarray:
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


def check_both_labels(y: ArrayLike) -> np.ndarray:
    labels = check_labels(y)
    if labels.min() == labels.max():
        raise ValueError(
            f"All {len(labels)} rows have y = {labels[0]}; a ranking is scored on rows of both "
            "kinds, 1 = anomaly and 0 = normal. Use stratified folds or fewer of them, and in a "
            "halving search more min_resources."
        )
    return labels


def check_ranking(y: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both kinds and as many finite scores."""
    labels = check_both_labels(y)
    values = check_array(column_or_1d(scores), ensure_2d=False, input_name="anomaly_score")
    check_consistent_length(labels, values)
    return labels, values
