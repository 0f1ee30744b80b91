"""Metrics, scorers and splits for anomaly labels that scikit-learn lacks.

Labels are 1 for an anomaly and 0 for a normal row, as in every data set of this package.
scikit-learn's detectors score the other way round (higher = more normal), so its own
``scoring="roc_auc"`` is inverted with such labels. The scorers here have the sign right::

    GridSearchCV(detector, grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(5)).fit(X, y)

For arrays, `anomaly_score` gives what metrics, scikit-learn's and those here, want as scores::

    roc_auc_score(y, anomaly_score(detector, X))
    f1_at_contamination(y, anomaly_score(detector, X))

What can be said without labels is in criteria of a detector, its training rows and others, which
`make_label_free_scorer` makes scorers of::

    scorer = make_label_free_scorer(agreement, reference=Committee())
    GridSearchCV(detector, grid, scoring=scorer, cv=5).fit(X)
"""

from ._agreement import agreement, stability, tail_overlap
from ._challenge import dcase_auc
from ._contrast import contrast_auc
from ._label_free import make_label_free_scorer
from ._level_sets import excess_mass, mass_volume
from ._mass import excess_mass_curve, mass_volume_curve
from ._ranking import f1_at_contamination, max_balanced_accuracy, partial_roc_auc
from ._regions import per_region_overlap_auc, per_region_overlap_curve
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
    "agreement",
    "anomaly_average_precision",
    "anomaly_roc_auc",
    "anomaly_score",
    "contrast_auc",
    "dcase_auc",
    "excess_mass",
    "excess_mass_curve",
    "f1_at_contamination",
    "make_anomaly_scorer",
    "make_label_free_scorer",
    "mass_volume",
    "mass_volume_curve",
    "max_balanced_accuracy",
    "on_manifold_scorer",
    "partial_roc_auc",
    "per_region_overlap_auc",
    "per_region_overlap_curve",
    "stability",
    "tail_overlap",
]
