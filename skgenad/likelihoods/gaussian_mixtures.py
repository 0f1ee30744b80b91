"""Gaussian mixtures of several sizes, each fitted by EM, and the density that is their mean.

With mixtures m of K_m Gaussians, fitted to the same rows one by one,

    energy(x) = -log mean_m p_m(x),    p_m(x) = sum_k w_mk N(x; mu_mk, Sigma_mk + r I).

Which number of components is right depends on the table, and each start of EM ends elsewhere: the
mean of a few takes away some of the chance in that.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skgenad._core.checks import Interval, check_sizes
from skgenad._core.closed_form import ClosedFormDetector
from skgenad._core.sampling import PriorSamplingMixin

from ._mixtures import GaussianMixturesModel


class GaussianMixtures(PriorSamplingMixin, ClosedFormDetector):
    """Detect anomalies by their likelihood under Gaussian mixtures of several sizes.

    Each mixture has full covariances and is fitted by scikit-learn's ``GaussianMixture`` (EM from
    the clusters of k-means). The density of rows is the mean of the mixtures' densities.

    Parameters
    ----------
    n_components : int or sequence of int, default=(20, 40)
        Numbers of components of the mixtures, each at least 1; an int: one mixture. A mixture has
        fewer where rows are few: at most one component for as many rows as it takes for a
        covariance of full rank, columns + 1.
    regularization : float, default=0.01
        What is added to the variances, above 0, in squared standard units (in squared units of X
        with ``standardize=False``).
    max_iter : int, default=100
        The most steps of EM in `fit`, at least 1; `converged_` says whether they were enough.
        Most later calls of `partial_fit` take one step.
    max_rows : int, default=5000
        The most rows that a fit or a later `partial_fit` learns from, at least 2: of more, so many
        are drawn at random. It bounds memory and time.
    standardize : {"auto", "mixed", "frozen"} or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does. "mixed" scales by
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
        Seed of k-means, of the rows drawn and of those held out.

    Attributes
    ----------
    weights_ : list of ndarray of shape (n_components,)
        Weights of the components of each mixture.
    means_ : list of ndarray of shape (n_components, n_features)
        Means of the components of each mixture, in the units of X.
    n_iter_ : ndarray of shape (n_mixtures,)
        Steps of EM that each mixture took in the first fit.
    converged_ : ndarray of shape (n_mixtures,)
        Whether EM converged within `max_iter` steps, for each mixture.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Empty: there are no gradient steps. The columns are those of other detectors.
    module_ : nn.Module
        Soft counts, means and scatters of the components, with ``energy(x)`` in standardised units.
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
    Mahalanobis : One Gaussian, or one for each class of normal rows.
    DAGMM : A mixture on learned features.

    Notes
    -----
    ``score_samples`` is the log density in standard units, in nats; :meth:`log_density` is that in
    the units of X.

    The default is that of ``benchmarks/mixtures.py``, on ten tables of ADBench and forty of
    OddBench: a mean AUROC of 0.780 and 0.774. With 40 components alone it is 0.778 and 0.773, with
    80 0.779 and 0.770, with 1, 3 and 6 0.733 and 0.755, with one 0.691 and 0.719.

    A column that is constant in training counts in scores as independent of the others and normal
    with the variance `regularization` around its constant, of which any other value is 1 away; it
    has no part in :meth:`log_density`.

    With more than 64 columns each component has a mean and a covariance of its own along the 64
    leading principal axes of the training rows, and along all others the components share those
    of all rows: the cost of full covariances grows with the square of the columns. One component
    is the Gaussian of all columns nonetheless. EM runs on the CPU; `device` is for scoring.

    `partial_fit` adds rows to those seen: each new row counts for the components by its
    probability under the mixture that there is (one step of incremental EM, Neal and Hinton, 1998),
    and soft counts, means and scatters are added up. Whenever rows have doubled, the mixtures are
    fitted anew to those that were kept.

    References
    ----------
    .. [1] A. P. Dempster, N. M. Laird, D. B. Rubin. Maximum Likelihood from Incomplete Data via the
       EM Algorithm. Journal of the Royal Statistical Society B, 1977.
    .. [2] R. M. Neal, G. E. Hinton. A View of the EM Algorithm that Justifies Incremental, Sparse,
       and Other Variants. Learning in Graphical Models, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import GaussianMixtures
    >>> X = np.random.RandomState(0).randn(200, 2)
    >>> X[::2] += 10
    >>> detector = GaussianMixtures(random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0], [10.0, 10.0], [5.0, 5.0]])
    array([ 1,  1, -1])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "max_rows": [Interval(Integral, 2, None, closed="left")],
        **ClosedFormDetector._parameter_constraints,
    }

    def __init__(
        self,
        *,
        n_components: int | Sequence[int] = (20, 40),
        regularization: float = 0.01,
        max_iter: int = 100,
        max_rows: int = 5000,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.regularization = regularization
        self.max_iter = max_iter
        self.max_rows = max_rows
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    @property
    def _room(self) -> int:
        return self.max_rows

    def _make_module(self, n_features: int) -> GaussianMixturesModel:
        given: Any = self.n_components
        sizes = (given,) if isinstance(given, Integral) else tuple(given)
        check_sizes("n_components", sizes, least=1)
        return GaussianMixturesModel(
            n_features,
            sizes,
            regularization=self.regularization,
            max_iter=self.max_iter,
            max_rows=self.max_rows,
        )

    # ---- what was learned -----------------------------------------------------------------

    @property
    def weights_(self) -> list[NDArray]:
        """Weights of the components of each mixture."""
        return [mixture.moments.weights.numpy() for mixture in self.module_.mixtures]

    @property
    def means_(self) -> list[NDArray]:
        """Means of the components of each mixture in the units of X."""
        parts = self.module_.component_means()
        return [self.units_.from_standard(part.numpy()) for part in parts]

    @property
    def n_iter_(self) -> NDArray:
        """Steps of EM that each mixture took."""
        return np.array([int(mixture.n_iter) for mixture in self.module_.mixtures])

    @property
    def converged_(self) -> NDArray:
        """Whether EM converged, for each mixture."""
        return np.array([bool(mixture.converged) for mixture in self.module_.mixtures])

    def log_density(self, X: ArrayLike) -> NDArray:
        """Log density of rows: of the mean of the mixtures.

        Columns that are constant in all training rows have no density and are left out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of the training rows.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Float64, in nats, of the density in the units of X.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._by_chunks(X, self.module_.log_density) - self.units_.log_scale
