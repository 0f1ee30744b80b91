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
    pixels_of,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sky blue of Okabe and Ito's palette stands out from grey, black, and all of a warm colour map.
_MASK_COLOR = "#56B4E9"
_DIMMED = 2.0
_TITLES = ("image", "reconstruction", "error", "error over image")


class AnomalyMapDisplay:
    """Images with their reconstructions, and maps of the error alone and over the image.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    images, reconstructions : array-like of shape (n_images, n_channels, height, width)
        Pixels in [0, 1]. Three channels are drawn in colour, others as their mean in grey.
    maps : array-like of shape (n_images, height, width)
        Error of every pixel.
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
    axes_ : ndarray of shape (n_images, 4)
        Axes of images, reconstructions, maps and overlays.
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
        reconstructions: ArrayLike,
        maps: ArrayLike,
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
        """Map the errors of a detector over images and draw them.

        Parameters
        ----------
        estimator : estimator
            Detector of images with ``anomaly_map`` and ``reconstruct``, or a `Pipeline` or search
            that ends in one; images are drawn as the detector sees them.
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, or their flat rows.
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
        shape = image_shape_of(detector, cls.__name__)
        X_seen = transformed(before, X)
        kept = first_of(X_seen, max_images, "max_images")
        maps = anomaly_map(kept)  # raises an error for images of another shape
        images = pixels_of(kept, shape)
        outlined = checked_masks(masks, len(X_seen), shape[1:])
        display = cls(
            images=images,
            reconstructions=detector.reconstruct(kept).reshape(images.shape),
            maps=maps,
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
        """Draw a row of four panels for every image.

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
        self.axes_, self.bounding_ax_, self.figure_ = panels(ax, (len(images), 4), size, beside)
        colors = self._colors(maps, kwargs)
        self.maps_: list[Any] = []
        self.overlays_: list[Any] = []
        self.outlines_: list[Any] = []
        back = np.asarray(self.reconstructions)
        for row, image, other, values in zip(self.axes_, images, back, maps, strict=True):
            show(row[0], image)
            show(row[1], other)
            self.maps_.append(show(row[2], values[None], **colors))
            # The image is dimmed, so that the colours of errors can be seen on white, too.
            show(row[3], image.mean(axis=0, keepdims=True), cmap="gray", vmin=0, vmax=_DIMMED)
            share = np.ma.filled(np.clip(colors["norm"](values), 0, 1), 0)
            self.overlays_.append(show(row[3], values[None], **{**colors, "alpha": share**0.5}))
        self._outline(mask_kwargs)
        self._label()
        self.colorbar_ = self._colorbar(maps) if colorbar else None
        return self

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
        for ax, mask in zip(self.axes_[:, 3], np.asarray(self.masks), strict=True):
            lines = collections.LineCollection(outline(mask), capstyle="projecting", **style)
            self.outlines_.append(ax.add_collection(lines, autolim=False))

    def _label(self) -> None:
        for ax, title in zip(self.axes_[0], _TITLES, strict=True):
            outlined = "" if self.masks is None or title != _TITLES[3] else ",\ndefect outlined"
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
        place = {"ax": list(self.axes_[:, 3]), "aspect": 8 * len(maps) + 12}
        extend = extend_of(self.maps_[0].norm, maps)
        return self.figure_.colorbar(
            self.maps_[0], label=f"{name}error of a pixel", extend=extend, **place
        )
