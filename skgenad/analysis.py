"""Tools that show what a model of images bases its likelihood on (section 2 of the paper on flows).

Models of different data sets agree on which images are likely, because local structure that all
images share dominates their likelihoods. These functions show how much it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skgenad._core.checks import Interval, fit_context
from skgenad._core.rows import check_image_shape, validate_rows
from skgenad._core.units import PixelUnits

__all__ = [
    "PixelDifferenceDensity",
    "likelihood_correlation",
    "mix_amplitude_and_phase",
    "scale_correlation",
]

_NEIGHBOURHOOD = 3


def _images(
    owner: BaseEstimator, X: ArrayLike, image_shape: Sequence[int] | None, *, reset: bool
) -> NDArray:
    """Bring rows to float64 images (n, C, H, W); a row of a table has the height 1."""
    shape = None if image_shape is None else check_image_shape(image_shape)
    rows = validate_rows(owner, X, image_shape=shape, reset=reset)
    if shape is None:
        return rows.astype(np.float64)[:, None, None, :]
    return (
        PixelUnits.identity(rows.shape[1]).to_standard(rows).astype(np.float64).reshape(-1, *shape)
    )


class PixelDifferenceDensity(BaseEstimator):
    """Pseudo-likelihood of images by how pixels differ from the mean of their 3 x 3 neighbours.

    The differences of the training images make one histogram. An image's pseudo-likelihood is the
    sum over its pixels of the log density of their differences: no likelihood, but what one that
    sees local structure alone would say. Where it goes along with the likelihood of a model, that
    is dominated by local structure.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width of images, which come as arrays (n, C, H, W) or as flat rows,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None: a row is an image of
        one channel and height 1, of any numbers, whose neighbours are the columns beside.
    n_bins : int, default=100
        Number of bins of the same width between the smallest and the largest difference.

    Attributes
    ----------
    log_density_ : ndarray of shape (n_bins,)
        Log density, in nats, of the differences of a pixel in [0, 1], in each bin; a bin without
        training pixels counts as one with a single pixel.
    edges_ : ndarray of shape (n_bins + 1,)
        Edges of the bins.
    n_features_in_ : int
        Number of columns of flat rows.

    See Also
    --------
    likelihood_correlation : Rank correlation with the likelihood of a model.

    Notes
    -----
    The neighbourhood of a pixel is the pixel itself and the eight around it, of the same channel;
    at the border pixels are repeated. Differences beyond the training images' range count as being
    in the nearest bin. Section 2 of [1]_ gives the neighbourhood's size and the number of bins, and
    leaves the rest open.

    References
    ----------
    .. [1] R. T. Schirrmeister et al. Understanding Anomaly Detection with Deep Invertible Networks
       through Hierarchies of Distributions and Features. NeurIPS 2020.
       https://arxiv.org/abs/2006.10848

    Examples
    --------
    Smooth images are likelier than noise, whatever they show:

    >>> import numpy as np
    >>> from skgenad.analysis import PixelDifferenceDensity
    >>> noise = np.random.RandomState(0).rand(20, 1, 8, 8)
    >>> smooth = np.tile(np.linspace(0, 1, 8), (20, 1, 8, 1))
    >>> density = PixelDifferenceDensity(image_shape=(1, 8, 8)).fit(0.1 * noise + 0.9 * smooth)
    >>> bool((density.score_samples(smooth) > density.score_samples(noise)).all())
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        "image_shape": [tuple, list, None],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, *, image_shape: tuple[int, int, int] | None = None, n_bins: int = 100
    ) -> None:
        self.image_shape = image_shape
        self.n_bins = n_bins

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Make the histogram of the differences in images.

        Parameters
        ----------
        X : array-like of shape (n_samples, C, H, W) or (n_samples, n_features)
            Images.
        y : array-like, default=None
            Ignored.

        Returns
        -------
        self : object
            The fitted density.
        """
        differences = self._differences(X, reset=True)
        counts, self.edges_ = np.histogram(differences, bins=self.n_bins)
        widths = np.diff(self.edges_)
        self.log_density_ = np.log(np.maximum(counts, 1) / (differences.size * widths))
        return self

    def score_samples(self, X: ArrayLike) -> NDArray:
        """Pseudo-likelihood of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, C, H, W) or (n_samples, n_features)
            Images.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Sums over pixels of the log density of their differences, in nats.
        """
        check_is_fitted(self)
        differences = self._differences(X, reset=False)
        bins = np.searchsorted(self.edges_, differences, side="right") - 1
        return self.log_density_[bins.clip(0, len(self.log_density_) - 1)].sum(axis=1)

    def _differences(self, X: ArrayLike, reset: bool) -> NDArray:
        """Pixels less the means of their neighbourhoods, (n, d)."""
        images = _images(self, X, self.image_shape, reset=reset)
        size = (1, 1, _NEIGHBOURHOOD, _NEIGHBOURHOOD)
        means = uniform_filter(images, size=size, mode="nearest")
        return (images - means).reshape(len(images), -1)


def mix_amplitude_and_phase(
    amplitude: ArrayLike, phase: ArrayLike, *, image_shape: Sequence[int], clip: bool = True
) -> NDArray:
    """Images with the Fourier amplitudes of some images and the phases of others (S3).

    What such an image shows is in the phases. A likelihood that goes along with that of the image
    which gave the amplitudes does not see what an image shows.

    Parameters
    ----------
    amplitude : array-like of shape (n_samples, C, H, W) or (n_samples, n_features)
        Images that give the amplitudes, with pixels in [0, 1] or of type uint8.
    phase : array-like of the same shape
        Images that give the phases.
    image_shape : (int, int, int)
        Channels, height and width.
    clip : bool, default=True
        Whether pixels are cut off at 0 and 1, so that detectors take the images. The paper does
        not say what becomes of pixels beyond.

    Returns
    -------
    images : ndarray of shape (n_samples, C, H, W)
        Float64.

    Raises
    ------
    ValueError
        If there are not as many images of the one kind as of the other.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.analysis import mix_amplitude_and_phase
    >>> images = np.random.RandomState(0).rand(5, 1, 8, 8)
    >>> same = mix_amplitude_and_phase(images, images, image_shape=(1, 8, 8))
    >>> bool(np.allclose(same, images))
    True
    """
    of_amplitude = _images(BaseEstimator(), amplitude, image_shape, reset=True)
    of_phase = _images(BaseEstimator(), phase, image_shape, reset=True)
    if len(of_amplitude) != len(of_phase):
        raise ValueError(
            f"amplitude has {len(of_amplitude)} images and phase {len(of_phase)}; every mixed "
            "image needs one of each. Pass as many."
        )
    amplitudes = np.abs(np.fft.fft2(of_amplitude))
    phases = np.exp(1j * np.angle(np.fft.fft2(of_phase)))
    mixed = np.fft.ifft2(amplitudes * phases).real
    return mixed.clip(0, 1) if clip else mixed


def likelihood_correlation(*likelihoods: ArrayLike, method: str = "spearman") -> NDArray:
    """Correlation of the likelihoods that several models give the same rows.

    Parameters
    ----------
    *likelihoods : array-like of shape (n_samples,)
        Log likelihoods of the same rows under two models or more, such as their ``log_density(X)``
        or ``score_samples(X)``.
    method : {"spearman", "pearson"}, default="spearman"
        Correlation of ranks or of values.

    Returns
    -------
    correlation : ndarray of shape (n_models, n_models)
        Symmetric, in [-1, 1]; NaN with a model that says the same of all rows.

    Raises
    ------
    ValueError
        If there are fewer than two models or three rows, or different numbers of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.analysis import likelihood_correlation
    >>> likelihood_correlation([1.0, 2.0, 3.0], np.exp([1.0, 2.0, 3.0])).round(2)
    array([[1., 1.],
           [1., 1.]])
    """
    if method not in ("spearman", "pearson"):
        raise ValueError(f"method={method!r} must be 'spearman' or 'pearson'.")
    values = [np.asarray(v, dtype=np.float64) for v in likelihoods]
    shapes = {v.shape for v in values}
    if len(values) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"likelihoods of shapes {[v.shape for v in values]} must be those of the same rows "
            "under two models or more, each of shape (n_samples,)."
        )
    if len(values[0]) < 3:
        raise ValueError(f"a correlation over {len(values[0])} rows says nothing; pass 3 or more.")
    return pd.DataFrame(np.column_stack(values)).corr(method=method).to_numpy()


def scale_correlation(
    first: Any, second: Any, X: ArrayLike, *, method: str = "spearman"
) -> pd.DataFrame:
    """Correlation of what the scales of two flows add to the log likelihood of the same rows.

    The earlier scales of models of different images agree; the last ones less, which tell what is
    in an image [1]_.

    Parameters
    ----------
    first, second : detector
        Fitted, with ``scale_contributions(X)`` and as many scales, such as `Glow`.
    X : array-like of shape (n_samples, n_features)
        Rows.
    method : {"spearman", "pearson"}, default="spearman"
        Correlation of ranks or of values.

    Returns
    -------
    correlation : DataFrame
        A row for each scale from 1 on, for "all but the last" and for "all", with the columns
        "correlation" and "range": the contribution's range from its 5 % to its 95 % quantile over
        rows, in nats, as the mean of both models. What has a large range dominates the sum.

    Raises
    ------
    ValueError
        If the models have different numbers of scales, or there are fewer than three rows.

    References
    ----------
    .. [1] R. T. Schirrmeister et al. Understanding Anomaly Detection with Deep Invertible Networks
       through Hierarchies of Distributions and Features. NeurIPS 2020.
       https://arxiv.org/abs/2006.10848

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Glow
    >>> from skgenad.analysis import scale_correlation
    >>> images = np.random.RandomState(0).rand(40, 1, 8, 8)
    >>> settings = {"n_scales": 2, "n_couplings": 1, "hidden": 8, "max_steps": 5}
    >>> settings["image_shape"] = (1, 8, 8)
    >>> first, second = (Glow(**settings, random_state=seed).fit(images) for seed in (0, 1))
    >>> scale_correlation(first, second, images).index.tolist()
    ['1', '2', 'all but the last', 'all']
    """
    parts = [model.scale_contributions(X) for model in (first, second)]
    n_scales = [part.shape[1] for part in parts]
    if n_scales[0] != n_scales[1]:
        raise ValueError(
            f"the models have {n_scales[0]} and {n_scales[1]} scales, whose contributions cannot "
            "be compared one by one. Fit both with the same number of scales."
        )
    sums = {str(k + 1): [part[:, k] for part in parts] for k in range(n_scales[0])}
    if n_scales[0] > 1:
        sums["all but the last"] = [part[:, :-1].sum(axis=1) for part in parts]
    sums["all"] = [part.sum(axis=1) for part in parts]
    rows = {
        name: {
            "correlation": likelihood_correlation(*pair, method=method)[0, 1],
            "range": float(np.mean([np.diff(np.quantile(v, [0.05, 0.95])) for v in pair])),
        }
        for name, pair in sums.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
