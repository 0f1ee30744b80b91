"""The display of images that a detector draws."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar

from skgenad._extras import require

from ._common import method_of, unwrap
from ._pictures import as_images, image_shape_of, panel_size, panels, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SamplesDisplay:
    """Images in a grid, such as those that a detector draws from its density.

    Make it by :meth:`from_estimator` or :meth:`from_images`. The parameters are kept as attributes.

    Parameters
    ----------
    images : array-like of shape (n_images, n_channels, height, width)
        Pixels in [0, 1]; beyond that they are drawn as 0 or 1. Three channels are drawn in colour,
        others as their mean in grey.
    estimator_name : str, default=None
        Name of the detector, for the title.

    Attributes
    ----------
    axes_ : ndarray of shape (n_rows, n_columns)
        Axes of the images, row by row; the last ones may be empty.
    bounding_ax_ : matplotlib Axes
        Axes inside of which they are.
    figure_ : matplotlib Figure
        Their figure.
    images_ : list of AxesImage
        The images.

    See Also
    --------
    EnergyDisplay : The density of a detector of two columns, with its negatives.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgenad import VAE
    >>> from skgenad.inspection import SamplesDisplay
    >>> X = load_digits().images[:, None] / 16
    >>> detector = VAE(image_shape=(1, 8, 8), max_steps=50, random_state=0).fit(X)
    >>> display = SamplesDisplay.from_estimator(detector, 12)
    >>> display.axes_.shape
    (3, 4)
    >>> display.figure_.savefig("samples.png")  # doctest: +SKIP
    """

    def __init__(self, *, images: ArrayLike, estimator_name: str | None = None) -> None:
        self.images = images
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        n_samples: int = 16,
        *,
        random_state: int | np.random.RandomState | None = 0,
        sample_kwargs: dict[str, Any] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw images from a detector, and show them.

        Parameters
        ----------
        estimator : estimator
            Detector of images with ``sample``, or a `Pipeline` or search that ends in one; images
            are drawn as the detector makes them.
        n_samples : int, default=16
            Number of images.
        random_state : int, RandomState or None, default=0
            Seed of the images.
        sample_kwargs : dict, default=None
            Further arguments of ``sample``, such as the numbers of steps of its chains.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : SamplesDisplay
            What was computed and drawn.

        Raises
        ------
        ValueError
            If the detector was fitted on tables.
        TypeError
            If the detector has no ``sample``.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        _, detector, _ = unwrap(estimator)
        sample = method_of(detector, "sample", cls.__name__)
        shape = image_shape_of(detector, cls.__name__)
        rows = sample(n_samples, random_state=random_state, **(sample_kwargs or {}))
        display = cls(images=rows.reshape(-1, *shape), estimator_name=type(detector).__name__)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_images(cls, images: ArrayLike, *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Show images.

        Parameters
        ----------
        images : array-like of shape (n_images, n_channels, height, width)
            Pixels in [0, 1] or of type uint8; one channel may be left out.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : SamplesDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If these are no images of that shape.
        ImportError
            If matplotlib is not installed.
        """
        return cls(images=as_images(images)).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, n_columns: int | None = None, **kwargs: Any) -> Self:
        """Draw the images row by row.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots in whose place the images are fitted; None
            makes a figure.
        n_columns : int, default=None
            Images beside each other; None makes the grid about as wide as it is high.
        **kwargs : dict
            Arguments of ``Axes.imshow`` for images of one channel, such as `cmap`. By default all
            are drawn in grey between 0, black, and 1, white.

        Returns
        -------
        display : SamplesDisplay
            Itself.
        """
        images = np.asarray(self.images)
        n = len(images)
        if n_columns is not None:
            check_scalar(n_columns, "n_columns", Integral, min_val=1)
        else:
            n_columns = int(np.ceil(np.sqrt(n * images.shape[2] / images.shape[3])))
        n_columns = max(1, min(n, int(n_columns)))
        shape = (-(-n // n_columns), n_columns)
        size = panel_size(images.shape, min(1.0, 8.0 / max(shape)))
        own = ax is None
        beside = (0.1, 0.4 if self.estimator_name else 0.1)
        self.axes_, self.bounding_ax_, self.figure_ = panels(ax, shape, size, beside)
        if kwargs:
            kwargs = {"cmap": "gray", "vmin": 0, "vmax": 1, **kwargs}
        flat = self.axes_.ravel()
        self.images_ = [show(a, image, **kwargs) for a, image in zip(flat, images, strict=False)]
        for empty in flat[n:]:
            empty.set_axis_off()
        if self.estimator_name:
            title = f"samples of {self.estimator_name}"
            if own:
                self.figure_.suptitle(title, fontsize="medium")
            else:
                # The first panel gets the title: layouts make no room for one of the axes that
                # the panels replace.
                self.axes_[0, 0].set_title(title, fontsize="medium", loc="left")
        return self
