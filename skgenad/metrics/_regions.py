"""How well anomaly maps cover defects, each of which counts alike however large it is."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.metrics import auc
from sklearn.utils import check_array, check_scalar

from skgenad._core.anomaly_maps import marked_pixels

# Pixels that meet at a corner belong to one defect.
_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def per_region_overlap_curve(masks: ArrayLike, anomaly_maps: ArrayLike) -> tuple[NDArray, NDArray]:
    r"""Share of a defect that is covered, the mean over defects, for all false positive rates.

    Parameters
    ----------
    masks : array-like of shape (n_samples, height, width)
        Not 0 where there is a defect; 0 everywhere in good images.
    anomaly_maps : array-like of shape (n_samples, height, width)
        Finite scores of pixels, higher = more anomalous, as ``anomaly_map`` has them.

    Returns
    -------
    fpr : ndarray of shape (n_thresholds + 1,)
        Shares of the pixels without a defect at or above each value in the maps. Rising from 0.
    overlap : ndarray of shape (n_thresholds + 1,)
        Per-region overlap (PRO): the mean, over the defects of all images, of the shares of their
        pixels at or above it. Rising from 0 to 1.

    Raises
    ------
    ValueError
        If shapes differ, scores are not finite, or pixels are all of one kind.

    See Also
    --------
    per_region_overlap_auc : The area under the curve.

    Notes
    -----
    A defect is a connected component of a mask, pixels that meet at a corner included. With
    :math:`K` of them, of pixels :math:`C_k`, and a threshold :math:`t`,

    .. math:: \mathrm{PRO}(t) = \frac{1}{K} \sum_k \frac{|\{p \in C_k : a_p \geq t\}|}{|C_k|}.

    All values in the maps are thresholds. With one defect this is the ROC curve of pixels.

    References
    ----------
    P. Bergmann et al. The MVTec Anomaly Detection Dataset: A Comprehensive Real-World Dataset for
    Unsupervised Anomaly Detection. IJCV 129, 2021. Section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.metrics import per_region_overlap_curve
    >>> masks = np.array([[[1, 0, 1, 1]]])
    >>> fpr, overlap = per_region_overlap_curve(masks, [[[0.9, 0.2, 0.8, 0.1]]])
    >>> fpr.tolist(), overlap.tolist()
    ([0.0, 0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.75, 0.75, 1.0])
    """
    marked, scores = _checked(masks, anomaly_maps)
    weights = _weights(marked)
    order = np.argsort(-scores, kind="stable")
    scores, weights = scores[order], weights[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of equal scores
    normal = weights == 0
    fpr = np.cumsum(normal)[last] / normal.sum()
    # Rounding of a long sum may end a little beside 1.
    overlap = np.cumsum(weights)[last] / weights.sum()
    return np.append(0.0, fpr), np.append(0.0, overlap)


def per_region_overlap_auc(
    masks: ArrayLike, anomaly_maps: ArrayLike, *, max_fpr: float = 0.3
) -> float:
    """Area under the per-region overlap curve up to a false positive rate, divided by that rate.

    The AUPRO of MVTec AD: unlike the AUROC of pixels it is not ruled by the few largest defects.

    Parameters
    ----------
    masks : array-like of shape (n_samples, height, width)
        Not 0 where there is a defect; 0 everywhere in good images.
    anomaly_maps : array-like of shape (n_samples, height, width)
        Finite scores of pixels, higher = more anomalous, as ``anomaly_map`` has them.
    max_fpr : float in (0, 1], default=0.3
        Largest share of pixels without a defect that is flagged; 0.3 is what is reported.

    Returns
    -------
    float
        In [0, 1]; chance is ``max_fpr / 2``.

    Raises
    ------
    ValueError
        If shapes differ, scores are not finite, pixels are all of one kind, or `max_fpr` is out of
        range.
    TypeError
        If `max_fpr` is no number.

    See Also
    --------
    per_region_overlap_curve : The curve.

    Notes
    -----
    Between two thresholds the curve is a line, as that of scikit-learn's ``auc``.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.metrics import per_region_overlap_auc
    >>> masks = np.zeros((2, 8, 8), dtype=bool)
    >>> masks[0, 2:4, 2:4] = True
    >>> per_region_overlap_auc(masks, masks.astype(float))
    1.0
    """
    check_scalar(max_fpr, "max_fpr", Real, min_val=0, max_val=1, include_boundaries="right")
    fpr, overlap = per_region_overlap_curve(masks, anomaly_maps)
    end = int(np.searchsorted(fpr, max_fpr, side="right"))
    at_end = np.interp(max_fpr, fpr[end - 1 : end + 1], overlap[end - 1 : end + 1])
    x, y = np.append(fpr[:end], max_fpr), np.append(overlap[:end], at_end)
    return float(auc(x, y) / max_fpr)


def _checked(masks: ArrayLike, anomaly_maps: ArrayLike) -> tuple[NDArray, NDArray]:
    """Masks (n, h, w) of bool, and the scores of all pixels in one row."""
    marked = marked_pixels(masks)
    scores = check_array(
        anomaly_maps,
        dtype=[np.float64, np.float32],
        ensure_2d=False,
        allow_nd=True,
        input_name="anomaly_maps",
    )
    if marked.ndim != 3 or marked.shape != scores.shape:
        raise ValueError(
            f"masks of shape {marked.shape} and anomaly_maps of shape {scores.shape} must have one "
            "shape, (n_samples, height, width). anomaly_map takes the size that is wanted."
        )
    if marked.all() or not marked.any():
        raise ValueError("masks must mark some pixels, and leave out others.")
    return marked, scores.reshape(-1)


def _weights(marked: NDArray) -> NDArray:
    """One over the number of pixels of the defect that each pixel belongs to, 0 without one."""
    weights = np.zeros(marked.shape)
    for mask, own in zip(marked, weights, strict=True):
        regions, _ = ndimage.label(mask, structure=_NEIGHBOURS)
        own[mask] = 1 / np.bincount(regions[mask])[regions[mask]]
    return weights.reshape(-1)
