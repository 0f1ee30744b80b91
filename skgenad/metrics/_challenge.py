"""The table of a DCASE challenge: AUC and pAUC of each machine."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_consistent_length, column_or_1d

from ._labels import check_ranking


def dcase_auc(
    y_true: ArrayLike, anomaly_score: ArrayLike, machine_id: ArrayLike, *, max_fpr: float = 0.1
) -> pd.DataFrame:
    r"""AUC and pAUC of each machine ID and their means, as DCASE's challenges report them.

    Clips of one ID are ranked among themselves alone: a detector need not know by how much one
    machine is louder than another.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal clips; both must occur in each ID.
    anomaly_score : array-like of shape (n_samples,)
        Finite scores of clips, higher = more anomalous.
    machine_id : array-like of shape (n_samples,)
        Which machine a clip is of, such as `machine_id` of `load_dcase`.
    max_fpr : float in (0, 1], default=0.1
        Largest false positive rate of the pAUC; 0.1 is what DCASE reports.

    Returns
    -------
    table : DataFrame of shape (n_ids + 1, 2)
        Columns ``"AUC"`` and ``"pAUC"``, in [0, 1]; a row for each ID in sorted order, and last
        ``"Average"``, the mean over IDs. Chance is 0.5 in both columns.

    Raises
    ------
    ValueError
        If an ID has clips of one kind alone, labels are not 0 and 1, a score is not finite, lengths
        differ, or `max_fpr` is out of range.

    See Also
    --------
    partial_roc_auc : The pAUC as the challenge's paper defines it.
    skgenad.datasets.load_dcase : Clips, labels and machine IDs of the challenge's folders.

    Notes
    -----
    The challenge's paper defines the pAUC as the area A of the ROC curve up to `max_fpr` = p,
    divided by p; chance would be p / 2. What its baseline's code computes and its tables have, and
    those of later papers, is scikit-learn's ``roc_auc_score(..., max_fpr=p)``, in which chance is
    0.5 (McClish):

    .. math:: \frac{1}{2}\left(1 + \frac{A - p^2 / 2}{p - p^2 / 2}\right).

    So does this function. Where the p-th part of the normal clips is no whole number, the curve is
    interpolated.

    References
    ----------
    Y. Koizumi et al. Description and Discussion on DCASE2020 Challenge Task2: Unsupervised
    Anomalous Sound Detection for Machine Condition Monitoring. DCASE Workshop 2020.
    https://arxiv.org/abs/2006.05822; its baseline, ``01_test.py``:
    https://github.com/y-kawagu/dcase2020_task2_baseline

    D. K. McClish. Analyzing a portion of the ROC curve. Medical Decision Making 9(3), 1989.

    Examples
    --------
    >>> from skgenad.metrics import dcase_auc
    >>> y_true = [0, 0, 1, 1, 0, 0, 1, 1]
    >>> anomaly_score = [0.1, 0.2, 0.3, 0.4, 7.0, 9.0, 8.0, 9.5]
    >>> dcase_auc(y_true, anomaly_score, ["id_00"] * 4 + ["id_02"] * 4).round(3)
               AUC   pAUC
    id_00    1.000  1.000
    id_02    0.750  0.737
    Average  0.875  0.868
    """
    labels, scores, names = (
        column_or_1d(y_true),
        column_or_1d(anomaly_score),
        np.asarray(machine_id),
    )
    check_consistent_length(labels, scores, names)
    rows = {}
    for name in np.unique(names):
        of_it = names == name
        try:
            y, score = check_ranking(labels[of_it], scores[of_it])
        except ValueError as error:
            raise ValueError(f"Machine {name}: {error}") from None
        rows[str(name)] = {
            "AUC": roc_auc_score(y, score),
            "pAUC": roc_auc_score(y, score, max_fpr=max_fpr),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.loc["Average"] = table.mean()
    return table
