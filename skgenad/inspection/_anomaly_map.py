"""The display of where images are unusual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skgenad._extras import require

from ._common import extend_of, method_of, transformed, unwrap
from ._pictures import (
    checked_masks,
    first_of,
    image_shape_of,
    outline,
    panel_size,
    panels,
    pictures_of,
    pixels_of,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sky blue of Okabe and Ito's palette stands out from grey, black, and all of a warm colour map.
_MASK_COLOR = "#56B4E9"
_DIMMED = 2.0
_OF_ERRORS = ("image", "reconstruction", "error", "error over image")
_OF_SCORES = ("image", "score of places", "over image")


class AnomalyMapDisplay:
    """Images, their reconstructions if there are any, and maps alone and over the image.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    images : array-like of shape (n_images, n_channels, height, width)
        Pixels in [0, 1]. Three channels are drawn in colour, others as their mean in grey.
    maps : array-like of shape (n_images, height, width)
        How anomalous every pixel is.
    reconstructions : array-like of shape (n_images, n_channels, height, width), default=None
        Pixels in [0, 1]; None: there are none, and `maps` are no errors.
    masks : array-like of shape (n_images, height, width), default=None
        Not 0 where there is a defect, to be outlined.
    scores : array-like of shape (n_images,), default=None
        Anomaly scores, written beside the images.
    threshold : float, default=None
        The score above which an image is flagged.
    estimator_name : str, default=None
        Name of the detector, for the colour bar.

    Attributes
    ----------
    axes_ : ndarray of shape (n_images, 4) or (n_images, 3)
        Axes of images, reconstructions if there are any, maps and overlays.
    bounding_ax_ : matplotlib Axes
        Axes inside of which they are.
    figure_ : matplotlib Figure
        Their figure.
    maps_, overlays_ : list of AxesImage
        The maps, alone and over the images; all have the same colours for the same errors.
    outlines_ : list of LineCollection
        Outlines of the masks, if there are any.
    colorbar_ : matplotlib Colorbar or None
        Colour bar of all maps.

    See Also
    --------
    ReconstructionDisplay : Images and their reconstructions alone.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgenad import Autoencoder
    >>> from skgenad.inspection import AnomalyMapDisplay
    >>> X = load_digits().images[:, None] / 16
    >>> detector = Autoencoder(image_shape=(1, 8, 8), max_steps=50, random_state=0).fit(X)
    >>> display = AnomalyMapDisplay.from_estimator(detector, X[:3])
    >>> display.axes_.shape
    (3, 4)
    >>> display.figure_.savefig("maps.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        images: ArrayLike,
        maps: ArrayLike,
        reconstructions: ArrayLike | None = None,
        masks: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        threshold: float | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.images = images
        self.reconstructions = reconstructions
        self.maps = maps
        self.masks = masks
        self.scores = scores
        self.threshold = threshold
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        masks: ArrayLike | None = None,
        *,
        max_images: int | None = 6,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Map where a detector finds images unusual, and draw that.

        Parameters
        ----------
        estimator : estimator
            Detector of images with ``anomaly_map``, or a `Pipeline` or search that ends in one;
            images are drawn as the detector sees them.
        X : array-like of shape (n_samples, n_channels, height, width)
            Images as the detector takes them: their flat rows, too, or for a `PatchDetector` a list
            of files.
        masks : array-like of shape (n_samples, height, width), default=None
            Not 0 where there is a defect.
        max_images : int or None, default=6
            At most so many images are drawn, the first ones; None draws all.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`, such as ``vmax=0.1`` or ``cmap="viridis"``.

        Returns
        -------
        display : AnomalyMapDisplay
            What was computed and drawn.

        Raises
        ------
        ValueError
            If the detector was fitted on tables, if it does not take the images (channels last,
            say), or if there are not as many masks as images, and of their size.
        TypeError
            If the detector has no ``anomaly_map``.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        _, detector, before = unwrap(estimator)
        anomaly_map = method_of(detector, "anomaly_map", cls.__name__)
        X_seen = transformed(before, X)
        kept = first_of(X_seen, max_images, "max_images")
        reconstruct = getattr(detector, "reconstruct", None)
        if reconstruct is None:
            maps = anomaly_map(kept)
            images = pictures_of(kept, maps.shape[1:])
        else:
            shape = image_shape_of(detector, cls.__name__)
            maps = anomaly_map(kept)  # raises an error for images of another shape
            images = pixels_of(kept, shape)
        outlined = checked_masks(masks, len(X_seen), maps.shape[1:])
        display = cls(
            images=images,
            maps=maps,
            reconstructions=reconstruct and reconstruct(kept).reshape(images.shape),
            masks=None if outlined is None else outlined[: len(images)],
            scores=-detector.score_samples(kept),
            threshold=-detector.offset_,
            estimator_name=type(detector).__name__,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        colorbar: bool = True,
        mask_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a row of panels for every image.

        Over the image, which is in grey there, an error is the more opaque the larger it is.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots in whose place the panels are fitted; None
            makes a figure.
        colorbar : bool, default=True
            Whether to add the colour bar.
        mask_kwargs : dict, default=None
            Arguments of the ``LineCollection`` that outlines a mask, such as `color`.
        **kwargs : dict
            Arguments of ``Axes.imshow`` for the maps, such as `cmap`, `norm`, `vmin` and `vmax`. By
            default the colours of all maps go from 0 to the largest error in any of them. Where
            normal images stand alone give `vmax`, or their small errors fill all colours.

        Returns
        -------
        display : AnomalyMapDisplay
            Itself.
        """
        images, maps = np.asarray(self.images), np.asarray(self.maps)
        size = panel_size(images.shape, 1.7)
        beside = (1.5 if colorbar else 0.5, 0.4)
        shape = (len(images), len(self._titles))
        self.axes_, self.bounding_ax_, self.figure_ = panels(ax, shape, size, beside)
        colors = self._colors(maps, kwargs)
        self.maps_: list[Any] = []
        self.overlays_: list[Any] = []
        self.outlines_: list[Any] = []
        back = np.asarray([] if self.reconstructions is None else self.reconstructions)
        for ax_of_it, other in zip(self.axes_[:, 1], back, strict=False):
            show(ax_of_it, other)
        for row, image, values in zip(self.axes_, images, maps, strict=True):
            show(row[0], image)
            self.maps_.append(show(row[-2], values[None], **colors))
            # The image is dimmed, so that the colours of maps can be seen on white, too.
            show(row[-1], image.mean(axis=0, keepdims=True), cmap="gray", vmin=0, vmax=_DIMMED)
            share = np.ma.filled(np.clip(colors["norm"](values), 0, 1), 0)
            self.overlays_.append(show(row[-1], values[None], **{**colors, "alpha": share**0.5}))
        self._outline(mask_kwargs)
        self._label()
        self.colorbar_ = self._colorbar(maps) if colorbar else None
        return self

    @property
    def _titles(self) -> tuple[str, ...]:
        return _OF_SCORES if self.reconstructions is None else _OF_ERRORS

    def _colors(self, maps: NDArray, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments of imshow for all maps, with one norm; the user's replace ours."""
        colors = {"cmap": "inferno", "vmin": None, "vmax": None, **kwargs}
        low, high = colors.pop("vmin"), colors.pop("vmax")
        if "norm" not in colors:
            normalize = require("matplotlib.colors", extra="plot").Normalize
            high = float(maps.max()) if high is None else high
            colors["norm"] = normalize(0.0 if low is None else low, high)
        return colors

    def _outline(self, kwargs: dict[str, Any] | None) -> None:
        if self.masks is None:
            return
        collections = require("matplotlib.collections", extra="plot")
        style = {"color": _MASK_COLOR, "linewidth": 1.5, **(kwargs or {})}
        for ax, mask in zip(self.axes_[:, -1], np.asarray(self.masks), strict=True):
            lines = collections.LineCollection(outline(mask), capstyle="projecting", **style)
            self.outlines_.append(ax.add_collection(lines, autolim=False))

    def _label(self) -> None:
        for ax, title in zip(self.axes_[0], self._titles, strict=True):
            last = title == self._titles[-1]
            outlined = ",\ndefect outlined" if last and self.masks is not None else ""
            ax.set_title(title + outlined, fontsize="medium")
        if self.scores is None:
            return
        end = "" if self.threshold is None else f"\nthreshold {self.threshold:.3g}"
        for ax, score in zip(self.axes_[:, 0], np.asarray(self.scores), strict=True):
            ax.set_ylabel(f"score {score:.3g}{end}", fontsize="small")

    def _colorbar(self, maps: NDArray) -> Any:
        name = f"{self.estimator_name}: " if self.estimator_name else ""
        # The bar is beside the last panels only: beside all panels, the layout would cut off the
        # labels on their left.
        place = {"ax": list(self.axes_[:, -1]), "aspect": 8 * len(maps) + 12}
        extend = extend_of(self.maps_[0].norm, maps)
        what = "score of a place" if self.reconstructions is None else "error of a pixel"
        return self.figure_.colorbar(self.maps_[0], label=f"{name}{what}", extend=extend, **place)
