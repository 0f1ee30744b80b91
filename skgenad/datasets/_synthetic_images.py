"""Made-up images that papers show to detectors: constants, noise, half and mixed digits."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, check_random_state, check_scalar

from skgenad._core.rows import check_image_shape

_GAP = 6  # rows of zeros between the halves of a chimera
_LEVELS = 256


def make_constant_images(
    n_samples: int = 4000,
    *,
    image_shape: Sequence[int] = (1, 28, 28),
    colour: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Draw images all pixels of which are the same.

    ConstantGray of the NAE paper and Constant of the MPDR paper: one number for all pixels and
    channels, uniform in [0, 1]. Autoencoders reconstruct such images well, whatever they were
    trained on.

    Parameters
    ----------
    n_samples : int, default=4000
        Number of images; the papers' test sets have 4,000.
    image_shape : tuple of three ints, default=(1, 28, 28)
        Channels, height and width.
    colour : bool, default=False
        Draw a number for each channel: constant colours.
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible images.

    Returns
    -------
    numpy.ndarray of shape (n_samples, C, H, W)
        uint8: of the 256 values all are equally likely.

    Raises
    ------
    ValueError
        If `n_samples` or a part of `image_shape` is less than 1.

    References
    ----------
    S. Yoon, Y.-K. Noh, F. C. Park. Autoencoding Under Normalization Constraints. ICML 2021,
    appendix D.1. https://arxiv.org/abs/2105.05735

    Examples
    --------
    >>> from skgenad.datasets import make_constant_images
    >>> X = make_constant_images(5, image_shape=(3, 32, 32), random_state=0)
    >>> X.shape, bool((X == X[:, :1, :1, :1]).all())
    ((5, 3, 32, 32), True)
    """
    channels, height, width = _check_shape(n_samples, image_shape)
    shape = (n_samples, channels if colour else 1, 1, 1)
    values = check_random_state(random_state).randint(_LEVELS, size=shape, dtype=np.uint8)
    return np.broadcast_to(values, (n_samples, channels, height, width)).copy()


def make_noise_images(
    n_samples: int = 4000,
    *,
    image_shape: Sequence[int] = (1, 28, 28),
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Draw images of uniform noise.

    Noise of the NAE paper: every value is drawn by itself, uniform in [0, 1]. Hard to reconstruct
    and thus easy to find: a check that a detector works at all.

    Parameters
    ----------
    n_samples : int, default=4000
        Number of images; the paper's test set has 4,000.
    image_shape : tuple of three ints, default=(1, 28, 28)
        Channels, height and width.
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible images.

    Returns
    -------
    numpy.ndarray of shape (n_samples, C, H, W)
        uint8: of the 256 values all are equally likely.

    Raises
    ------
    ValueError
        If `n_samples` or a part of `image_shape` is less than 1.

    References
    ----------
    S. Yoon, Y.-K. Noh, F. C. Park. Autoencoding Under Normalization Constraints. ICML 2021,
    appendix D.1. https://arxiv.org/abs/2105.05735

    Examples
    --------
    >>> from skgenad.datasets import make_noise_images
    >>> X = make_noise_images(5, image_shape=(3, 32, 32), random_state=0)
    >>> X.shape, X.dtype, int(X.min()), int(X.max())
    ((5, 3, 32, 32), dtype('uint8'), 0, 255)
    """
    shape = (n_samples, *_check_shape(n_samples, image_shape))
    return check_random_state(random_state).randint(_LEVELS, size=shape, dtype=np.uint8)


def make_half_mnist(
    images: np.ndarray, *, random_state: int | np.random.RandomState | None = None
) -> np.ndarray:
    """Blacken the upper or the lower half of each image.

    HalfMNIST of the NAE paper, made of MNIST's test images: no digits, but the same strokes.

    Parameters
    ----------
    images : array-like of shape (n, C, H, W)
        Digits, for example ``fetch_mnist(subset="test").data``; any numbers. Where the height is
        odd, the middle row belongs to the lower half.
    random_state : int, RandomState or None, default=None
        Pass an int for a reproducible choice of halves, each of them as likely as the other.

    Returns
    -------
    numpy.ndarray of shape (n, C, H, W)
        A changed copy, of the same dtype.

    Raises
    ------
    ValueError
        If `images` is not of four dimensions.

    See Also
    --------
    make_chimera_mnist : Join halves of two digits.

    References
    ----------
    S. Yoon, Y.-K. Noh, F. C. Park. Autoencoding Under Normalization Constraints. ICML 2021,
    appendix D.1. https://arxiv.org/abs/2105.05735

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.datasets import make_half_mnist
    >>> digits = np.ones((4, 1, 28, 28), dtype=np.uint8)
    >>> make_half_mnist(digits, random_state=0).sum(axis=(1, 2, 3)).tolist()
    [392, 392, 392, 392]
    """
    made = _check_images(images).copy()
    middle = made.shape[2] // 2
    is_upper = check_random_state(random_state).randint(2, size=len(made)).astype(bool)
    made[is_upper, :, :middle] = 0
    made[~is_upper, :, middle:] = 0
    return made


def make_chimera_mnist(
    images: np.ndarray,
    y: np.ndarray,
    n_samples: int | None = None,
    *,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Join the upper half of one digit to the lower half of a digit of another class.

    ChimeraMNIST of the NAE paper, made of MNIST's test images. Six rows in the middle are black:
    three of each half give way to them, so that the size stays.

    Parameters
    ----------
    images : array-like of shape (n, C, H, W)
        Digits, for example ``fetch_mnist(subset="test").data``; any numbers, of a height of 8 or
        more. Where the height is odd, the middle row belongs to the lower half.
    y : array-like of shape (n,)
        Their classes, at least two different ones.
    n_samples : int, default=None
        Number of images to make; None means as many as there are.
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible images.

    Returns
    -------
    numpy.ndarray of shape (n_samples, C, H, W)
        Images of the same dtype. The upper half comes from an image drawn at random, the lower one
        from an image drawn from all those of other classes.

    Raises
    ------
    ValueError
        If `images` is not of four dimensions or too low, if `y` has another length or a single
        class, or if `n_samples` is less than 1.

    See Also
    --------
    make_half_mnist : Blacken one half.

    Notes
    -----
    The paper says that six rows of zeros are added in the middle as a padding and that the images
    are 28x28. It does not say whether the digits are cut or squeezed; here they are cut.

    References
    ----------
    S. Yoon, Y.-K. Noh, F. C. Park. Autoencoding Under Normalization Constraints. ICML 2021,
    appendix D.1. https://arxiv.org/abs/2105.05735

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.datasets import make_chimera_mnist
    >>> digits = np.full((2, 1, 28, 28), [[[[3]]], [[[5]]]], dtype=np.uint8)
    >>> X = make_chimera_mnist(digits, [3, 5], n_samples=1, random_state=0)
    >>> sorted(X[0, 0, [0, 27], 0].tolist()), X[0, 0, 10:18, 0].tolist()[1:-1]
    ([3, 5], [0, 0, 0, 0, 0, 0])
    """
    images = _check_images(images)
    classes = check_array(y, ensure_2d=False, dtype=None)
    check_consistent_length(images, classes)
    if images.shape[2] < _GAP + 2:
        raise ValueError(f"images of shape {images.shape} are too low: 8 rows are needed.")
    if len(np.unique(classes)) < 2:
        raise ValueError(f"y has one class only, {classes[0]!r}; chimeras need two or more.")
    n = len(images) if n_samples is None else n_samples
    check_scalar(n, "n_samples", Integral, min_val=1)
    draws = check_random_state(random_state)
    upper = draws.randint(len(images), size=n)
    lower = _partners(classes, upper, draws)
    middle, made = images.shape[2] // 2, images[lower]
    made[:, :, :middle] = images[upper, :, :middle]
    made[:, :, middle - _GAP // 2 : middle + _GAP // 2] = 0
    return made


def _partners(classes: np.ndarray, chosen: np.ndarray, draws: np.random.RandomState) -> np.ndarray:
    """For each chosen row draw one of all the rows of other classes."""
    order = np.argsort(classes, kind="stable")
    kinds, starts, counts = np.unique(classes[order], return_index=True, return_counts=True)
    own = np.searchsorted(kinds, classes[chosen])
    # Rows are sorted by class; counting on from the end of the own class, and past the end of all
    # rows to the first, reaches every row of other classes.
    places = starts[own] + counts[own] + draws.randint(len(classes) - counts[own])
    return order[places % len(classes)]


def _check_shape(n_samples: int, image_shape: Sequence[int]) -> tuple[int, int, int]:
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    return check_image_shape(image_shape)


def _check_images(images: np.ndarray) -> np.ndarray:
    images = check_array(images, allow_nd=True, ensure_2d=False, dtype=None)
    if images.ndim != 4:
        raise ValueError(
            f"images has shape {images.shape}; it must be (n, channels, height, width), for "
            'example fetch_mnist(subset="test").data.'
        )
    return images
