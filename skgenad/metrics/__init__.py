"""Metrics, scorers and splits for anomaly labels that scikit-learn lacks.

Labels are 1 for an anomaly and 0 for a normal row, as in every data set of this package.
scikit-learn's detectors score the other way round (higher = more normal), so its own
``scoring="roc_auc"`` is inverted with such labels. The scorers here have the sign right::

    GridSearchCV(detector, grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(5)).fit(X, y)

For arrays, `anomaly_score` gives what metrics, scikit-learn's and those here, want as scores::

    roc_auc_score(y, anomaly_score(detector, X))
    f1_at_contamination(y, anomaly_score(detector, X))
"""

from ._ranking import f1_at_contamination, max_balanced_accuracy, partial_roc_auc
from ._scorers import (
    anomaly_average_precision,
    anomaly_roc_auc,
    anomaly_score,
    make_anomaly_scorer,
    on_manifold_scorer,
)
from ._splits import NormalOnlyCV

__all__ = [
    "NormalOnlyCV",
    "anomaly_average_precision",
    "anomaly_roc_auc",
    "anomaly_score",
    "f1_at_contamination",
    "make_anomaly_scorer",
    "max_balanced_accuracy",
    "on_manifold_scorer",
    "partial_roc_auc",
]
