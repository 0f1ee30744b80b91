"""The mean distance to the nearest training rows, plain or by the scale of the neighbourhood.

With the nearest training rows x_(1), ..., x_(k) of a row x,

    d_k(x) = (1 / k) sum_j |x - x_(j)|,        l_k(x) = d_k(x) / ((1 / k) sum_j d_k(x_(j))).

The mean is taken, as by Angiulli and Pizzuti (2002), not the k-th distance. The local form is that
of the simplified local outlier factor.
"""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.closed_form import ClosedFormDetector
from skgenad._tensors.chunks import Rows
from skgenad._tensors.device import PreciseModule, precise, shortened
from skgenad._tensors.model import Model
from skgenad._tensors.tails import resize_buffers

from ._search import Search

# Rows whose own distances are computed at once, and the most neighbours of neighbours of rows.
_CHUNK, _MOST_NUMBERS = 4096, 2**22
# Distances in the local form are raised by this share of the mean own distance of training rows, so
# that the scale of a neighbourhood of copies is not 0.
_FLOOR = 1e-3


class NeighborsModel(PreciseModule, Model):
    """Training rows and, for the local form, their own neighbours.

    Parameters
    ----------
    n_features : int
        Number of columns.
    n_neighbors : int
        k.
    local : bool
        Whether distances are divided by those of the neighbourhood.
    max_anchors : int
        The most rows to keep.
    """

    own: Tensor
    own_next: Tensor
    own_places: Tensor
    floor: Tensor
    # Buffers with a row for each anchor.
    _OF_ANCHORS = ("own", "own_next", "own_places")

    def __init__(self, n_features: int, *, n_neighbors: int, local: bool, max_anchors: int) -> None:
        super().__init__()
        self.n_neighbors, self.local = n_neighbors, local
        self.anchors = Search(n_features, max_anchors)
        if local:
            for name in ("own", "own_next"):
                self.register_buffer(name, torch.zeros(0, dtype=torch.float64))
            self.register_buffer("own_places", torch.zeros(0, n_neighbors, dtype=torch.long))
            self.register_buffer("floor", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Add rows (n, d) to those so far, and find the anchors' own neighbours."""
        self.anchors.take(rows)
        if not self.local:
            return
        k = self.n_neighbors
        found = [self.anchors.nearest(x, k + 1) for x in self.anchors.rows.split(_CHUNK)]
        distances, places = (torch.cat(parts) for parts in zip(*found, strict=True))
        k = min(k, distances.shape[1])
        self.own = distances[:, :k].mean(dim=1)
        # Without a further neighbour there is none to take the place of one that is left out.
        self.own_next = distances[:, k] if distances.shape[1] > k else torch.full_like(self.own, -1)
        self.own_places = torch.full((len(self.own), self.n_neighbors), -1, device=rows.device)
        # Copies count as one place, that of the first: any of them may stand for the row itself.
        self.own_places[:, :k] = self.anchors.places(self.anchors.rows)[places[:, :k]]
        mean = self.own.mean()
        self.floor = _FLOOR * mean.where(mean > 0, torch.ones_like(mean) / _FLOOR)

    def weigh(self, factor: float) -> None:
        """Let the rows so far count as `factor` times as many."""
        self.anchors.weigh(factor)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): the mean distance, or its ratio to the neighbours' own."""
        distances, places = self.anchors.nearest(x, self.n_neighbors)
        mean = distances.mean(dim=1)
        if self.local:
            floor = precise(self.floor)
            mean = (mean + floor) / (self._own(x, distances, places).mean(dim=1) + floor)
        return shortened(mean)

    def _own(self, x: Tensor, distances: Tensor, places: Tensor) -> Tensor:
        """Own mean distances (n, k) of the neighbours of rows, with the row itself left out."""
        own, further = precise(self.own)[places], precise(self.own_next)[places]
        itself = self.anchors.places(x)
        k = min(self.n_neighbors, len(self.anchors) - 1)
        at_once = max(1, _MOST_NUMBERS // k**2)
        for known in torch.nonzero(itself >= 0).squeeze(1).split(at_once):
            near = (self.own_places[places[known]] == itself[known][:, None, None]).any(dim=2)
            near &= further[known] >= 0
            change = (further[known] - distances[known]) / k
            own[known] += torch.where(near, change, torch.zeros_like(change))
        return own

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        if self.local:
            resize_buffers(self, self._OF_ANCHORS, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Neighbors(ClosedFormDetector):
    """Detect anomalies by the mean distance to the nearest training rows.

    The baseline that is hard to beat on tables, and a member of :class:`Committee`. Nothing is
    trained by gradients; trees of scikit-learn find the neighbours.

    Parameters
    ----------
    n_neighbors : int, default=5
        k, the number of neighbours, at least 1; all other anchors if there are fewer.
    scale : {"none", "local"}, default="none"
        "none": the mean distance. "local": its ratio to the mean distance of the neighbours to
        their own neighbours, which finds rows that are odd for their neighbourhood where normal
        rows lie closely.
    max_anchors : int, default=10000
        The most training rows, at least 2, that are kept to compare with: a uniform sample.
    standardize : {"auto", "mixed", "frozen"} or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does. Distances add up columns, so
        without it those of large units decide alone. "mixed" scales by
        sqrt(standard deviation * range / sqrt(12)). "frozen": see guide.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector adds the rows to those it has seen.
    device : str, default="auto"
        "auto" (CUDA, then MPS, then CPU) or the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the choice of anchors.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Empty: there are no gradient steps. The columns are those of other detectors.
    module_ : nn.Module
        The anchors, with ``energy(x)`` in standardised units.
    units_ : object
        Means and scales of the columns.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    seed_ : int
        Seed drawn from `random_state`.
    device_ : torch.device
        Device of the module.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    KernelDenoiser : The distance to a weighted mean of all training rows.
    LocalGaussian : The distance by the covariance of the neighbours.

    Notes
    -----
    ``score_samples`` is minus the mean distance, in standard deviations of columns, or minus the
    ratio, a pure number.

    A row that equals an anchor in all columns, bit by bit in standard units, counts as that anchor
    itself, which is then left out (one of them, if there are copies). So training rows are scored
    as if they had not been trained on, `predict` flags the share `contamination` of them, and the
    threshold is right for new rows.

    Neighbours are found on the CPU, whatever the device is.

    `partial_fit` adds rows, in units that follow them. Anchors are a uniform sample of all rows
    so far, however those were divided into batches.

    In the local form distances are raised by a thousandth of the mean distance of all anchors to
    their neighbours, so that the ratio is finite in a neighbourhood of copies.

    References
    ----------
    .. [1] F. Angiulli and C. Pizzuti. Fast Outlier Detection in High Dimensional Spaces. PKDD 2002.
    .. [2] E. Schubert, A. Zimek and H.-P. Kriegel. Local Outlier Detection Reconsidered. Data
       Mining and Knowledge Discovery, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Neighbors
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = Neighbors().fit(X)
    >>> detector.predict(np.full((1, 5), 9.0))
    array([-1])
    >>> int((detector.predict(X) == -1).sum())
    20
    """

    scores_leave_one_out: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "scale": [StrOptions({"none", "local"})],
        "max_anchors": [Interval(Integral, 2, None, closed="left")],
        **ClosedFormDetector._parameter_constraints,
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        scale: str = "none",
        max_anchors: int = 10_000,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.scale = scale
        self.max_anchors = max_anchors
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    @property
    def _room(self) -> int:
        return self.max_anchors

    def _make_module(self, n_features: int) -> NeighborsModel:
        return NeighborsModel(
            n_features,
            n_neighbors=self.n_neighbors,
            local=self.scale == "local",
            max_anchors=self.max_anchors,
        )
