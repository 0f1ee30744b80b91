"""The display of which images are the most anomalous."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, check_scalar, column_or_1d

from skgenad._core.image_inputs import size_of
from skgenad._extras import require

from ._common import BLUE, VERMILION, transformed, unwrap
from ._pictures import fitted_image_shape, panel_size, panels, pictures_of, pixels_of, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Side that images of unlike sizes, such as those of files, are drawn at.
_SIDE = 224


class ContactSheetDisplay:
    """The most anomalous images, side by side, the worst first.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    images : array-like of shape (n_images, n_channels, height, width)
        Pixels in [0, 1], in the order in which they are drawn.
    scores : array-like of shape (n_images,)
        Their anomaly scores.
    places : array-like of shape (n_images,)
        Their places among all images.
    labels : array-like of shape (n_images,), default=None
        1 of anomalies and 0 of normal images, to be told apart by the colour of a frame.
    threshold : float, default=None
        The score above which an image is flagged.
    estimator_name : str, default=None
        Name of the detector, for the title.

    Attributes
    ----------
    axes_ : ndarray of shape (n_lines, n_columns)
        Axes of the images; those that are left over are switched off.
    bounding_ax_ : matplotlib Axes
        Axes inside of which they are.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    AnomalyMapDisplay : Where in an image something is unusual.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgenad import Autoencoder
    >>> from skgenad.inspection import ContactSheetDisplay
    >>> X = load_digits().images[:, None] / 16
    >>> detector = Autoencoder(image_shape=(1, 8, 8), max_steps=50, random_state=0).fit(X)
    >>> display = ContactSheetDisplay.from_estimator(detector, X, n_images=10)
    >>> display.axes_.shape, len(display.scores)
    ((2, 6), 10)
    """

    def __init__(
        self,
        *,
        images: ArrayLike,
        scores: ArrayLike,
        places: ArrayLike,
        labels: ArrayLike | None = None,
        threshold: float | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.images = images
        self.scores = scores
        self.places = places
        self.labels = labels
        self.threshold = threshold
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        n_images: int = 24,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Score images, and draw those that score highest.

        Parameters
        ----------
        estimator : estimator
            Detector of images, or a `Pipeline` or search that ends in one; images are drawn as
            they are in `X`.
        X : array-like of shape (n_samples, n_channels, height, width)
            Images as the estimator takes them, flat rows or a list of files as well.
        y : array-like of shape (n_samples,), default=None
            1 of anomalies and 0 of normal images.
        n_images : int, default=24
            How many are drawn, at most.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : ContactSheetDisplay
            What was computed and drawn.

        Raises
        ------
        ValueError
            If `y` has another length than `X`, or X holds no images.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        check_scalar(n_images, "n_images", int, min_val=1)
        scorer, detector, before = unwrap(estimator)
        scores = -scorer.score_samples(X)
        labels = None if y is None else column_or_1d(y)
        if labels is not None and len(labels) != len(scores):
            raise ValueError(f"y has {len(labels)} labels for {len(scores)} images.")
        worst = np.argsort(-scores, kind="stable")[:n_images]
        some = _safe_indexing(X, worst)
        display = cls(
            images=_images_of(some, detector, before),
            scores=scores[worst],
            places=worst,
            labels=None if labels is None else labels[worst],
            threshold=-scorer.offset_ if hasattr(scorer, "offset_") else None,
            estimator_name=type(detector).__name__,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, n_columns: int = 6) -> Self:
        """Draw the images, line by line.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots in whose place the images are fitted; None
            makes a figure.
        n_columns : int, default=6
            Images in a line.

        Returns
        -------
        display : ContactSheetDisplay
            Itself.
        """
        check_scalar(n_columns, "n_columns", int, min_val=1)
        images = np.asarray(self.images)
        n_lines = -(-len(images) // n_columns)
        width, height = panel_size(images.shape, 1.4)
        shape, beside = (n_lines, n_columns), (0.2, 0.5)
        self.axes_, self.bounding_ax_, self.figure_ = panels(
            ax, shape, (width, height + 0.25), beside
        )
        flat = self.axes_.reshape(-1)
        for k, (one, image) in enumerate(zip(flat, images, strict=False)):
            show(one, image)
            self._frame(one, k)
        for one in flat[len(images) :]:
            one.set_axis_off()
        title = self._title()
        if ax is None:
            self.figure_.suptitle(title, fontsize="medium")
        else:
            self.bounding_ax_.set_title(title, fontsize="small", pad=24)
        return self

    def _frame(self, ax: Axes, k: int) -> None:
        """Write the score and the place of an image, and draw a frame that tells its label."""
        scores, places = np.asarray(self.scores), np.asarray(self.places)
        flagged = self.threshold is None or scores[k] > self.threshold
        text, color = f"{scores[k]:.3g}  (#{places[k]})", "black" if flagged else "grey"
        ax.set_title(text, fontsize="small", color=color, pad=3)
        if self.labels is not None:
            frame = VERMILION if np.asarray(self.labels)[k] else BLUE
            for spine in ax.spines.values():
                spine.set(color=frame, linewidth=2.5)

    def _title(self) -> str:
        name = f"{self.estimator_name}: " if self.estimator_name else ""
        text = f"{name}score (place) of the most anomalous images"
        if self.threshold is not None:
            text += f", in grey below the threshold {self.threshold:.3g}"
        if self.labels is not None:
            text += "\nvermilion frames: anomalies; blue: normal images"
        return text


def _images_of(X: Any, detector: Any, before: list[Any]) -> Any:
    shape = fitted_image_shape(detector)
    if shape is not None:
        return pixels_of(transformed(before, X), shape)
    is_array = hasattr(X, "shape") and getattr(X, "ndim", 0) >= 3
    return pictures_of(X, size_of(X) if is_array else (_SIDE, _SIDE))
