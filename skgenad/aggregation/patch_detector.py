"""A detector of images by their patches, one after another or place by place.

Features of a frozen network (:class:`skgenad.preprocessing.ImageFeatures`) describe an image by a
grid of vectors. With E the energy of the detector that is fitted on these,

    score of an image  =  - max over places p of E(f_p)

or the mean of the highest energies, and the grid of energies, brought to the size of the image, is
its anomaly map. With ``positions="shared"`` one detector learns the vectors of all places, and of
all classes in the training set: the unified setting of UniAD and of MPDR's Table 4. With Neighbors
that is PatchCore without its coreset. With ``positions="separate"`` each place has a detector of
its own; with Mahalanobis that is PaDiM.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from skgenad._core.checks import StrOptions, fit_context
from skgenad._core.image_inputs import size_of
from skgenad._core.streams import together
from skgenad._tensors.seeds import derived_seed
from skgenad.committee._members import energies, rows_for_models

from ._instances import _OF_SAMPLE, InstanceDetector, Instances


class PatchDetector(InstanceDetector):
    """Score images, and map where they are unusual, by features of their patches.

    One detector learns what the patches of normal images look like; of an image the worst patch
    tells. Use it for real photographs, of one kind of thing or of several at once.

    Parameters
    ----------
    detector : estimator, default=None
        Unfitted detector of rows: of this package, scikit-learn's, or a pipeline that ends in one.
        None: ``Mahalanobis(shrinkage="auto")``.
    features : transformer, default=None
        Makes features (n, c, g, g) of images, such as ``ImageFeatures(pool=None)``. A clone of it
        is fitted. None: X has them already.
    positions : {"shared", "separate"}, default="shared"
        "shared": one detector for all places. "separate": one for each, fitted on what all images
        have there; for things that are photographed from one angle, as a rule. It is `g * g` fits,
        on as many rows each as there are images, so that `Mahalanobis` wants its shrinkage there.
    reduce : {"max", "mean"} or float, default="max"
        How an image's score is made of those of its patches: by the most anomalous one, all of
        them, or the mean of that share of them which is most anomalous, in (0, 1].
    max_rows : int, default=100000
        Most patches that are kept for the fit. Of more, so many are drawn at random of all; for
        separate places, so many images as have no more.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    random_state : int, RandomState or None, default=None
        Seed of the patches that are drawn, the images held out, and a detector with
        ``random_state=None``.
    verbose : int, default=0
        Whether to show a progress bar over the places of ``positions="separate"``.

    Attributes
    ----------
    detectors_ : list of detectors
        The fitted models: one, or one for each place, line by line.
    features_ : transformer or None
        The fitted features.
    grid_ : tuple of int
        Height and width of the grid of places; (1, 1) where X is rows.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Histories of the models, if they have any, with columns ``member`` and ``fold``, which is
        the number of the place.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    seed_ : int
        Seed drawn from `random_state`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    skgenad.preprocessing.ImageFeatures : Features of a frozen network.
    skgenad.GroupedDetector : The same for samples of unlike numbers of parts, such as sounds.
    skgenad.PWAE : Trains its own patch autoencoder.

    Notes
    -----
    Rows are images here: they are scored, held out and flagged as wholes. Columns are those that
    `detector` sees, the features of a patch.

    ``score_samples`` is in the detector's unit. Images are looked at a few at a time, so memory
    holds `max_rows` patches, and those of a few images. With a `cache` in the features none is
    computed twice, as those of training images are with ``contamination=0``, or without images
    held out.

    Where X is a table, each row is an image of one patch: then this is `detector`, with rows held
    out, and `explain` works as it does there. Of images :meth:`anomaly_map` says where.

    References
    ----------
    .. [1] S. Yoon, Y.-U. Jin, Y.-K. Noh, F. C. Park. Energy-Based Models for Anomaly Detection: A
       Manifold Diffusion Recovery Approach (MPDR). NeurIPS 2023. Section 5.3.
       https://arxiv.org/abs/2310.18677
    .. [2] T. Defard, A. Setkov, A. Loesch, R. Audigier. PaDiM: a Patch Distribution Modeling
       Framework for Anomaly Detection and Localization. ICPR 2021. https://arxiv.org/abs/2011.08785
    .. [3] K. Roth et al. Towards Total Recall in Industrial Anomaly Detection (PatchCore). CVPR
       2022. https://arxiv.org/abs/2106.08265

    Examples
    --------
    A dark spot on stripes, seen by a network of the user's:

    >>> import numpy as np
    >>> from torch import nn
    >>> from skgenad import Neighbors, PatchDetector
    >>> from skgenad.preprocessing import ImageFeatures
    >>> rng = np.random.RandomState(0)
    >>> stripes = 0.5 + 0.3 * np.sin(np.arange(32))[None, None, None, :]
    >>> X = stripes + 0.05 * rng.rand(40, 1, 32, 32)
    >>> network = nn.Conv2d(3, 8, 4, stride=4)
    >>> features = ImageFeatures(network, size=32, pool=None)
    >>> detector = PatchDetector(Neighbors(), features=features, random_state=0).fit(X)
    >>> image = X[:1].copy()
    >>> image[0, 0, 20:24, 8:12] = 0.0
    >>> detector.predict(image)
    array([-1])
    >>> worst = detector.anomaly_map(image)[0].argmax()
    >>> row, column = divmod(int(worst), 32)
    >>> 16 <= row < 28, 4 <= column < 16
    (True, True)
    """

    _words = ("patch", "patches")
    _parameter_constraints: ClassVar[dict] = {
        **InstanceDetector._parameter_constraints,
        "positions": [StrOptions({"shared", "separate"})],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        detector: Any = None,
        *,
        features: Any = None,
        positions: str = "shared",
        reduce: str | float = "max",
        max_rows: int = 100_000,
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.detector = detector
        self.features = features
        self.positions = positions
        self.reduce = reduce
        self.max_rows = max_rows
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
    ) -> Self:
        """Fit the detector on the patches of images.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), or list of images
            Normal images, as `features` takes them, at least 2; features (n, c, g, g) without.
        y : None
            Ignored: classes are learned together.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as things that were photographed several times: whole groups are
            held out.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which images `calibration_fraction` holds out; "none": none this time. A mask or places
            names them itself.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, it stays what it was before.

        Raises
        ------
        TypeError
            If `detector` has no ``fit`` or no ``score_samples``, or `features` is no transformer.
        ValueError
            If features are no grids of places.
        """
        return self._fit(X, groups, calibration)

    @property
    def detectors_(self) -> list[Any]:
        """The fitted models."""
        check_is_fitted(self, "_models")
        return list(self._models)

    @property
    def grid_(self) -> tuple[int, int]:
        """Height and width of the grid of places."""
        check_is_fitted(self, "_models")
        return self._grid or (1, 1)

    def anomaly_map(self, X: ArrayLike, *, size: int | tuple[int, int] | None = None) -> NDArray:
        """Map anomaly scores of patches over the pixels of images.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), or list of images
            Images as in `fit`.
        size : int or (int, int), default=None
            Height and width of the maps. None: those of images in an array; of a list, which may
            have several sizes, the one that `features` brings them to; of grids their own.

        Returns
        -------
        maps : ndarray of shape (n_samples, height, width)
            Float64, in the unit of :meth:`anomaly_score`, high where an image is unlike the
            training images: the energies of patches, with bilinear interpolation between their
            middles.

        Raises
        ------
        ValueError
            If the detector was fitted on rows, which have no places, or `size` is none.
        """
        check_is_fitted(self)
        samples = self._validate(X, reset=False)
        if self._grid is None or isinstance(samples, np.ndarray):
            raise ValueError(
                "anomaly_map shows places of images, and X is a table. Pass images to a detector "
                "with features, or grids of features (n, c, g, g); for tables see explain."
            )
        sides = self._sides(samples.values) if size is None else _two_sides(size)
        maps = np.empty((len(samples), *sides))
        start = 0
        for values, sizes in self._energies(samples):
            grids = torch.from_numpy(values.reshape(len(sizes), 1, *self._grid))
            there = interpolate(grids, tuple(sides), mode="bilinear", align_corners=False)[:, 0]
            maps[start : start + len(sizes)] = there.numpy()
            start += len(sizes)
        return maps

    def _sides(self, images: Any) -> list[int]:
        """Height and width of maps that nobody asked for a size of."""
        if self.features_ is None:
            return list(self._grid or ())
        if isinstance(images, np.ndarray) and images.ndim >= 3:
            return list(size_of(images))
        side = getattr(self.features_, "size_", None)
        if side is None:
            raise ValueError(f"{self.features_!r} does not say how large images are: pass size=.")
        return [side, side]

    # ---- how ------------------------------------------------------------------------------

    def _validate(self, X: ArrayLike, *, reset: bool, **checks: Any) -> Any:
        samples = super()._validate(X, reset=reset, **checks)
        is_table = isinstance(samples, np.ndarray)
        if not reset and is_table != (self._grid is None):
            kinds = ("grids or images", "a table")
            raise ValueError(
                f"X is {kinds[is_table]}, but this {type(self).__name__} was fitted on "
                f"{kinds[not is_table]}."
            )
        return samples

    def _arranged(self, made: Any) -> Instances:
        features = np.asarray(made)
        if features.ndim != 4:
            raise ValueError(
                f"Features of patches have the shape (n, c, g, g), got {features.shape}. "
                "ImageFeatures makes them with pool=None."
            )
        n, c, *grid = features.shape
        if self._grid is None:
            self._grid = (grid[0], grid[1])
        elif self._grid != tuple(grid):
            raise ValueError(
                f"X has a grid of {grid[0]}x{grid[1]} places, but {type(self).__name__} was fitted "
                f"on {self._grid[0]}x{self._grid[1]}."
            )
        rows = np.ascontiguousarray(features.transpose(0, 2, 3, 1)).reshape(-1, c)
        return Instances(rows, np.full(n, grid[0] * grid[1]))

    def _learn(self, train: Any) -> list[Any]:
        if self.positions == "shared":
            return super()._learn(train)
        n_places = int(np.prod(self._grid or (1, 1)))
        n_images = max(2, self.max_rows // n_places)
        if len(train) > n_images:
            draws = np.random.RandomState(derived_seed(self.seed_, _OF_SAMPLE))
            train = train[np.sort(draws.permutation(len(train))[:n_images])]
        rows = together([instances.rows for instances in self._by_parts(train)])
        by_place = rows.reshape(len(train), n_places, -1).swapaxes(0, 1)
        places = tqdm(range(n_places), desc="places", disable=not self.verbose)
        return [
            self._fitted(np.ascontiguousarray(by_place[place]), place, made=self._grid is not None)
            for place in places
        ]

    def _energies_of(self, instances: Instances) -> NDArray:
        if len(self._models) == 1:
            return super()._energies_of(instances)
        by_place = instances.rows.reshape(len(instances.sizes), len(self._models), -1)
        found = np.empty(by_place.shape[:2])
        for place, model in enumerate(self._models):
            rows = np.ascontiguousarray(by_place[:, place])
            found[:, place] = energies(model, rows_for_models(rows, None, self._names))
        return found.reshape(-1)

    @property
    def _how_to_look(self) -> str:
        return "anomaly_map(X) shows where images are unusual."


def _two_sides(size: Any) -> list[int]:
    """Height and width that a user asks for."""
    sides = np.asarray(size)
    if sides.dtype.kind not in "iu" or sides.shape not in ((), (2,)) or (sides < 1).any():
        raise ValueError(
            f"size={size!r} must be a side in pixels, or a height and a width, from 1 on."
        )
    return np.broadcast_to(sides, 2).tolist()
