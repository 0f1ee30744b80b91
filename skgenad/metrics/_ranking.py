"""Metrics of anomaly scores and labels that scikit-learn lacks."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve
from sklearn.utils import check_scalar

from ._labels import check_ranking


def f1_at_contamination(y_true: ArrayLike, anomaly_score: ArrayLike) -> float:
    r"""F1 score when as many rows are flagged as there are anomalies.

    The threshold is set by the true share of anomalies among the rows that are scored, as in the
    tables of DAGMM, GOAD and CANCE. This share is not known in practice: the metric compares
    rankings, it does not say how a detector with a threshold of its own will do.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur.
    anomaly_score : array-like of shape (n_samples,)
        Finite scores, higher = more anomalous, such as ``detector.anomaly_score(X)``.

    Returns
    -------
    float
        In [0, 1]; the share of anomalies is chance.

    Raises
    ------
    ValueError
        If labels are not both of 0 and 1, a score is not finite, or lengths differ.

    See Also
    --------
    make_anomaly_scorer : Use this metric in a search.

    Notes
    -----
    With :math:`n` anomalies and :math:`n` rows flagged, there are as many false alarms as missed
    anomalies, so precision, recall and F1 are the same number: the share of anomalies among the
    flagged rows.

    Where rows tie at the threshold and not all of them can be flagged, the result is its mean over
    random choices among them. It depends neither on the order of rows nor on chance, and a detector
    that scores all rows alike gets the share of anomalies. Code that flags by ``>=`` flags all tied
    rows instead, code that flags by ``>`` none of them.

    DROCC's F1 is another one: its public code makes test sets of as many anomalies as normal rows,
    cuts them at the score below which a fifth of the rows lie, and computes F1 of the normal rows.
    Figures of the two are not to be compared.

    References
    ----------
    B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho, H. Chen. Deep Autoencoding Gaussian
    Mixture Model for Unsupervised Anomaly Detection. ICLR 2018.

    Examples
    --------
    >>> from skgenad.metrics import f1_at_contamination
    >>> f1_at_contamination([0, 0, 1, 1], [0.1, 0.8, 0.3, 0.9])
    0.5
    >>> f1_at_contamination([0, 0, 1, 1], [0.1, 0.3, 0.3, 0.9])  # either of the two in the middle
    0.75
    """
    labels, scores = check_ranking(y_true, anomaly_score)
    n_anomalies = labels.sum()
    threshold = np.partition(scores, -n_anomalies)[-n_anomalies]
    above, tied = labels[scores > threshold], labels[scores == threshold]
    found = above.sum() + (n_anomalies - len(above)) * tied.sum() / len(tied)
    return float(found / n_anomalies)


def partial_roc_auc(y_true: ArrayLike, anomaly_score: ArrayLike, *, max_fpr: float = 0.1) -> float:
    r"""Area under the ROC curve up to a false positive rate, divided by that rate.

    The pAUC as the paper on DCASE 2020's challenge and the MPDR paper define it: how well anomalies
    rank above the share `max_fpr` of normal rows with the highest scores.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur.
    anomaly_score : array-like of shape (n_samples,)
        Finite scores, higher = more anomalous, such as ``detector.anomaly_score(X)``.
    max_fpr : float in (0, 1], default=0.1
        Largest false positive rate; 0.1 is what DCASE reports. Rounded down to a whole number of
        normal rows, of which there must be one at least.

    Returns
    -------
    float
        In [0, 1], 1 = every anomaly above every normal row. Chance is about ``max_fpr / 2``.

    Raises
    ------
    ValueError
        If labels are not both of 0 and 1, a score is not finite, lengths differ, `max_fpr` is out
        of range, or the share `max_fpr` of the normal rows is less than one row.
    TypeError
        If `max_fpr` is no number.

    See Also
    --------
    make_anomaly_scorer : Use this metric in a search.
    dcase_auc : The challenge's table, whose pAUC is rescaled.
    sklearn.metrics.roc_auc_score : With its own ``max_fpr``, McClish's rescaling of the area.

    Notes
    -----
    With :math:`N_-` normal rows, scores :math:`a_1^- \geq a_2^- \geq \dots` of theirs in falling
    order, scores :math:`a_j^+` of the :math:`N_+` anomalies and :math:`k = \lfloor p N_- \rfloor`,

    .. math:: \mathrm{pAUC} = \frac{1}{k N_+} \sum_{i=1}^{k} \sum_{j=1}^{N_+} [a_j^+ > a_i^-].

    As in that definition an anomaly that ties with a normal row gets no credit for it, so scores
    with few values are rated low; at ``max_fpr=1`` this is the only difference to the whole area.
    ``roc_auc_score(y, score, max_fpr=p)`` is another quantity: it maps the area under the curve so
    that chance is 0.5, and cuts between normal rows where :math:`p N_-` is no whole number. The
    challenge's baseline computes that one.

    References
    ----------
    Y. Koizumi et al. Description and Discussion on DCASE2020 Challenge Task2: Unsupervised
    Anomalous Sound Detection for Machine Condition Monitoring. DCASE Workshop 2020.
    https://arxiv.org/abs/2006.05822

    Examples
    --------
    >>> from skgenad.metrics import partial_roc_auc
    >>> y_true = [0, 0, 0, 0, 1, 1]
    >>> anomaly_score = [0.1, 0.2, 0.3, 0.7, 0.6, 0.8]
    >>> partial_roc_auc(y_true, anomaly_score, max_fpr=0.25)  # against the row with 0.7 alone
    0.5
    >>> partial_roc_auc(y_true, anomaly_score, max_fpr=0.5)
    0.75
    """
    labels, scores = check_ranking(y_true, anomaly_score)
    normal, anomalies = scores[labels == 0], np.sort(scores[labels == 1])
    highest = np.sort(normal)[len(normal) - _n_rows(max_fpr, len(normal)) :]
    n_above = len(anomalies) - np.searchsorted(anomalies, highest, side="right")
    return float(n_above.sum() / (len(highest) * len(anomalies)))


def max_balanced_accuracy(y_true: ArrayLike, anomaly_score: ArrayLike) -> float:
    """Balanced accuracy at the best threshold.

    The mean of the shares of anomalies that are flagged and of normal rows that are not, at the
    threshold where it is largest, as in the PWAE paper. The threshold is chosen with the labels
    that are scored: an upper bound for any rule that sets one without them.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        1 for anomalies, 0 for normal rows; both must occur.
    anomaly_score : array-like of shape (n_samples,)
        Finite scores, higher = more anomalous, such as ``detector.anomaly_score(X)``.

    Returns
    -------
    float
        In [0.5, 1]: flagging no row, or all, gives 0.5. Chance is above 0.5, the more so the fewer
        rows there are. Rows with equal scores are flagged together.

    Raises
    ------
    ValueError
        If labels are not both of 0 and 1, a score is not finite, or lengths differ.

    See Also
    --------
    make_anomaly_scorer : Use this metric in a search.
    sklearn.metrics.balanced_accuracy_score : For predictions, at a threshold of one's own.

    Examples
    --------
    >>> from skgenad.metrics import max_balanced_accuracy
    >>> max_balanced_accuracy([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.6, 0.8])
    0.875
    """
    labels, scores = check_ranking(y_true, anomaly_score)
    false_alarms, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(0.5 + (found - false_alarms).max() / 2)


def _n_rows(share: float, n: int) -> int:
    """Round a share of `n` rows down to a number of rows; none is an error."""
    check_scalar(share, "max_fpr", Real, min_val=0, max_val=1, include_boundaries="right")
    # The product of 0.29 and 100 falls short of 29 by rounding alone.
    n_rows = math.floor(share * n * (1 + 1e-12))
    if not n_rows:
        raise ValueError(
            f"max_fpr={share:g} of {n} normal row(s) is less than one row. Score "
            f"{math.ceil(1 / share)} normal rows or more, or use max_fpr >= {1 / n:.3g}."
        )
    return n_rows
