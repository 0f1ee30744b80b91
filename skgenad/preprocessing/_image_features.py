"""Features of images from a frozen network that was trained on others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn
from tqdm.auto import tqdm

from skgenad._core.checks import CheckedParameters, Interval, StrOptions, as_before, fit_context
from skgenad._core.forks import leave_parents_threads
from skgenad._core.image_inputs import Images, sized
from skgenad._core.versions import VersionedPickle
from skgenad._tensors.device import resolve_device
from skgenad._tensors.passes import Passes
from skgenad._tensors.settings import own_settings

from ._feature_cache import FeatureCache
from ._image_networks import LayerFeatures, Network, Triple, digest_of, network_of, triple

# Side of the images of a network that says of none.
_SIZE = 224
# Images in a pass of a device that computes them at the same time.
_ON_DEVICE = 32


class ImageFeatures(
    VersionedPickle, ClassNamePrefixFeaturesOutMixin, TransformerMixin, CheckedParameters
):
    """Features of images from a frozen network that was trained on others.

    Nothing is trained. An image becomes one row, for any detector, or a grid of rows that each
    describe a place of it, for :class:`skgenad.PatchDetector`.

    Parameters
    ----------
    network : str or Module, default="efficientnet-lite0"
        ``"efficientnet-lite0"``: trained on ImageNet, comes with the extra ``vision`` and needs no
        download. ``"timm:NAME"`` or ``"transformers:NAME"``: a model of these packages, which load
        it; NAME may be a local folder. Or a torch module, which maps pixels (n, 3, `size`,
        `size`) to features; a copy of it is used.
    layers : sequence of str, default=None
        Names of the layers that features are taken from, as ``module.named_modules()`` has them;
        their channels come one after another. None: of EfficientNet-lite0 the blocks 2, 4, 7 and
        10, 256 channels; of others their output, for transformers the last hidden state.
    pool : {"mean", "first"} or None, default="mean"
        "mean": the mean over the places of an image. "first": the first token of a transformer,
        its class token as a rule. None: a grid of places.
    size : int, default=None
        Side, in pixels, of the square that every image is resized to, whatever its shape. None:
        that of the images that the network was trained on, 224 where it does not say.
    grid : int, default=None
        Side of the grid of ``pool=None``. None: that of the coarsest layer.
    smooth : int, default=1
        With ``pool=None``: the mean over a square of so many places stands for the one in its
        middle, in each layer; odd. 3 describes a place with its neighbourhood, as PatchCore does.
    normalize : pair of float or of sequence of float, default=None
        What is subtracted from pixels in [0, 1], and what they are divided by, one number or three.
        None: as the network was trained; (0, 1) for a module.
    batch_size : int or "auto", default="auto"
        Images in a pass. "auto": 1 on the CPU, which is no faster with more, 32 on other devices.
    device : str, default="auto"
        "auto" takes a GPU where there is one.
    cache : path-like, default=None
        Folder to keep features in, by what is in an image, the network's weights and the settings:
        a call that was killed goes on where it was, and none computes an image's features twice.
        It may be shared, and deleted at any time.
    verbose : int, default=0
        Whether to show a progress bar over the images.

    Attributes
    ----------
    layers_ : tuple of str
        Layers that are used; empty for the output.
    size_ : int
        Side of the resized images.
    shape_ : tuple of int
        Shape of an image's features: (c,), or (c, g, g) with ``pool=None``.
    mean_, std_ : tuple of float
        The normalisation.
    weights_digest_ : str
        SHA-256 of the network's weights.

    See Also
    --------
    skgenad.PatchDetector : Scores images, and maps where they are unusual, by a grid of features.

    Notes
    -----
    Images are arrays (n, channels, height, width), with the channels last, or without any if they
    are grey; or lists of files, images of Pillow and arrays, of any sizes. Values are uint8, or
    floats in [0, 1]. Photographs in files are turned upright as their EXIF orientation says; of 16
    bits a pixel all are used; palettes and CMYK become RGB. Transparent pixels, several frames and
    files that cannot be read whole are errors that name the file.

    They are resized by bilinear interpolation over all pixels that a new one covers. A layer's
    maps are brought to the grid by means over what a place covers, or bilinear interpolation if
    the grid is the finer one. An image's features depend on that image alone, bit by bit.

    Files and pickles hold no weights of a named network, but their hash: it is loaded where it is
    needed, and other weights are refused.

    References
    ----------
    Z. You et al. A Unified Model for Multi-class Anomaly Detection (UniAD). NeurIPS 2022.
    https://arxiv.org/abs/2206.03687

    K. Roth et al. Towards Total Recall in Industrial Anomaly Detection (PatchCore). CVPR 2022.
    https://arxiv.org/abs/2106.08265

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skgenad.preprocessing import ImageFeatures
    >>> X = np.random.RandomState(0).randint(256, size=(10, 3, 40, 40), dtype=np.uint8)
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU())
    >>> ImageFeatures(network, size=32).fit_transform(X).shape
    (10, 8)
    >>> ImageFeatures(network, size=32, pool=None).fit_transform(X).shape
    (10, 8, 7, 7)
    """

    _parameter_constraints: ClassVar[dict] = {
        "network": [str, nn.Module],
        "layers": ["array-like", None],
        "pool": [StrOptions({"mean", "first"}), None],
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "grid": [Interval(Integral, 1, None, closed="left"), None],
        "smooth": [Interval(Integral, 1, None, closed="left")],
        "normalize": ["array-like", None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "device": [str],
        "cache": [str, os.PathLike, None],
        "verbose": ["verbose"],
    }
    _made_anew = ("_loaded",)

    def __init__(
        self,
        network: str | nn.Module = "efficientnet-lite0",
        *,
        layers: Sequence[str] | None = None,
        pool: str | None = "mean",
        size: int | None = None,
        grid: int | None = None,
        smooth: int = 1,
        normalize: Sequence[Any] | None = None,
        batch_size: int | str = "auto",
        device: str = "auto",
        cache: str | os.PathLike[str] | None = None,
        verbose: int = 0,
    ) -> None:
        self.network = network
        self.layers = layers
        self.pool = pool
        self.size = size
        self.grid = grid
        self.smooth = smooth
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    # ---- fit ------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: None = None) -> Self:
        """Load the network, and look at the shapes of its features.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, H, W, C) or (n, H, W), or list of images
            The first one is read, and no more.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, the network has no such layers or device, or X does not
            begin with an image. What was fitted before stays as it was.
        ImportError
            If the package that the network comes from is not installed.
        """
        first = Images(X)[:1]
        first.pixels(0)
        self._check()
        with as_before(self):
            self._learn(network_of(self.network), first)
        return self

    def _learn(self, network: Network, first: Images) -> None:
        self.layers_ = network.layers if self.layers is None else tuple(self.layers)
        self.size_ = self.size or network.size or _SIZE
        given = (network.mean, network.std) if self.normalize is None else self.normalize
        self.mean_, self.std_ = _normalization(given)
        self.weights_digest_ = digest_of(network.module)
        self._places = (self.pool, self.grid, self.smooth)
        self._keep(network)
        self.shape_ = self._computed(first).shape[1:]
        self._n_features_out = self.shape_[0]

    def _check(self) -> None:
        if self.layers is not None:
            names = list(self.layers)
            if not all(isinstance(name, str) for name in names):
                raise ValueError(f"layers={self.layers!r} must be names, such as ('layer2',).")
            if not names:
                raise ValueError("layers=() names none. Pass None for the network's own.")
        if self.smooth % 2 == 0:
            raise ValueError(f"smooth={self.smooth} must be odd: a square with a place amid it.")
        for name in ("grid", "smooth"):
            if self.pool is not None and getattr(self, name) not in (None, 1):
                raise ValueError(
                    f"{name}={getattr(self, name)} is for grids, and pool={self.pool!r} makes none."
                    " Set pool=None."
                )

    # ---- transform ------------------------------------------------------------------------

    def transform(self, X: ArrayLike) -> NDArray:
        """Features of images.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, H, W, C) or (n, H, W), or list of images
            Images of any sizes.

        Returns
        -------
        features : ndarray of shape (n, c), or (n, c, g, g) with ``pool=None``
            Float32.

        Raises
        ------
        ValueError
            If one is no image, or cannot be read; the message names it.
        OSError
            If the `cache` cannot be written.
        """
        check_is_fitted(self)
        leave_parents_threads()
        images = Images(X)
        features = np.empty((len(images), *self.shape_), dtype=np.float32)
        size = self._batch_size(self._module())
        starts = range(0, len(images), size)
        for start in tqdm(starts, desc="batches of images", disable=not self.verbose):
            part = slice(start, start + size)
            features[part] = self._features(images[part])
        return features

    def _features(self, images: Images) -> NDArray:
        """Features of a batch, from the cache where they are there."""
        if self.cache is None:
            return self._computed(images)
        cache = FeatureCache(Path(self.cache), self.shape_)
        keys = [self._key(images.digest(place)) for place in range(len(images))]
        found = [cache.get(key) for key in keys]
        missing = np.flatnonzero([features is None for features in found])
        if len(missing):
            for place, features in zip(missing, self._computed(images[missing]), strict=True):
                cache.put(keys[place], features)
                found[place] = features
        return np.stack([features for features in found if features is not None])

    def _key(self, digest: bytes) -> str:
        """Name of an image's features: what is in it, and all that they depend on."""
        network = (self.weights_digest_, self._module().computation_digest)
        settings = (*network, self.layers_, self.size_, self.mean_, self.std_, *self._places)
        return hashlib.sha256(repr(settings).encode() + digest).hexdigest()

    def _computed(self, images: Images) -> NDArray:
        module = self._module()
        passes = Passes(self._batch_size(module), module.mean.device, of_images=True)
        rows = _Rows(images, self.size_)
        with own_settings():
            found = passes.run(module.forward, rows, _as_it_is, _as_it_is, module)
        return found.astype(np.float32)  # as the network gave them

    def _batch_size(self, module: LayerFeatures) -> int:
        if isinstance(self.batch_size, str):
            return 1 if module.mean.device.type == "cpu" else _ON_DEVICE
        return self.batch_size

    # ---- the network ----------------------------------------------------------------------

    def _keep(self, network: Network) -> LayerFeatures:
        network = replace(network, mean=self.mean_, std=self.std_)
        # Those of the fit: a parameter that was set since then counts from the next one on.
        made = LayerFeatures(network, self.layers_, self.size_, *self._places).to(
            resolve_device(self.device)
        )
        self._loaded = made
        return made

    def _module(self) -> LayerFeatures:
        """Return the network with its layers, loaded where that has not been done yet."""
        loaded = self.__dict__.get("_loaded")
        if loaded is not None:
            # A device that was set since is where features are computed from now on.
            return loaded.to(resolve_device(self.device))
        network = network_of(self.network)
        if digest_of(network.module) != self.weights_digest_:
            raise ValueError(
                f"network={self.network!r} has other weights than when this ImageFeatures was "
                "fitted, and would give other features. Install what it was, or fit again."
            )
        return self._keep(network)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _as_it_is(values: NDArray) -> NDArray:
    return values


class _Rows:
    """Images as rows (n, 3 * size * size), which are made when they are asked for."""

    def __init__(self, images: Images, size: int) -> None:
        self.images, self.size = images, size
        self.shape = (len(images), 3 * size * size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> NDArray:
        places = range(len(self))[part]
        rows = np.empty((len(places), self.shape[1]), dtype=np.float32)
        for row, place in zip(rows, places, strict=True):
            row[:] = sized(self.images.pixels(place), self.size).reshape(-1).numpy()
        return rows


def _normalization(given: Any) -> tuple[Triple, Triple]:
    """Mean and standard deviation of three channels."""
    try:
        mean, std = (np.broadcast_to(np.asarray(part, dtype=np.float64), 3) for part in given)
    except (TypeError, ValueError):
        raise ValueError(
            f"normalize={given!r} must be what is subtracted and what is divided by, each a number "
            "or three."
        ) from None
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(f"normalize={given!r} must be finite, and its second part above 0.")
    return triple(mean), triple(std)
