"""The display of rows beside their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import validate_data

from skgenad._extras import require

from ._common import BLUE, VERMILION, method_of, transformed, unwrap
from ._pictures import first_of, fitted_image_shape, panel_size, panels, pixels_of, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Names of columns are written vertically if there are so many.
_MANY_COLUMNS = 8


class ReconstructionDisplay:
    """Images above their reconstructions, or rows of a table beside theirs, with the errors.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes. A row of a table is a
    panel that shows the value and the reconstruction of every column: the longest lines say which
    columns make a row an anomaly.

    Parameters
    ----------
    originals, reconstructions : array-like
        Images of shape (n_images, n_channels, height, width) in [0, 1], or rows of shape
        (n_rows, n_columns) in standardised units.
    errors : array-like of shape (n_images,) or (n_rows,)
        Mean errors, for the titles.
    columns : sequence of str, default=None
        Names of the columns of a table.
    estimator_name : str, default=None
        Name of the detector.

    Attributes
    ----------
    axes_ : ndarray of shape (2, n_images) or (n_rows, 1)
        Axes of images and, below, of reconstructions; or of the rows of a table.
    bounding_ax_ : matplotlib Axes
        Axes inside of which they are.
    figure_ : matplotlib Figure
        Their figure.
    images_ : list of AxesImage
        Images, then reconstructions; empty for a table.
    points_ : list of (PathCollection, PathCollection)
        Points of values and of reconstructions for every row of a table; empty for images.

    See Also
    --------
    AnomalyMapDisplay : Where an image is reconstructed badly.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgenad import Autoencoder
    >>> from skgenad.inspection import ReconstructionDisplay
    >>> X = load_wine(as_frame=True).data
    >>> detector = Autoencoder(latent_dim=2, max_steps=100, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(detector, X.tail(3))
    >>> display.axes_.shape, display.columns[0]
    ((3, 1), 'alcohol')
    >>> display.figure_.savefig("rows.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        originals: ArrayLike,
        reconstructions: ArrayLike,
        errors: ArrayLike,
        columns: Sequence[str] | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.originals = originals
        self.reconstructions = reconstructions
        self.errors = errors
        self.columns = columns
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        max_rows: int | None = 8,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Reconstruct rows or images by a detector and draw both.

        Parameters
        ----------
        estimator : estimator
            Detector with ``reconstruct``, or a `Pipeline` or search that ends in one; rows are
            drawn as the detector sees them.
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Rows or images.
        max_rows : int or None, default=8
            At most so many rows or images are drawn, the first ones; None draws all.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : ReconstructionDisplay
            What was computed and drawn. The error of an image is the mean of its ``anomaly_map``,
            that of a row of a table the mean over columns of the squared difference in
            standardised units.

        Raises
        ------
        TypeError
            If the detector has no ``reconstruct``.
        ImportError
            If matplotlib is not installed.
        """
        require("matplotlib", extra="plot")  # fail before a long computation
        if max_rows is not None:
            check_scalar(max_rows, "max_rows", Integral, min_val=1)
        _, detector, before = unwrap(estimator)
        reconstruct = method_of(detector, "reconstruct", cls.__name__)
        X_seen = transformed(before, X)
        shape = fitted_image_shape(detector)
        columns = None
        if shape is not None:
            kept = first_of(X_seen, max_rows, "max_rows")
            back = reconstruct(kept)  # raises an error for images of another shape
            rows = pixels_of(kept, shape)
            back = back.reshape(rows.shape)
            errors = detector.anomaly_map(kept).mean(axis=(1, 2))
        else:
            kept = (X_seen if hasattr(X_seen, "shape") else np.asarray(X_seen))[:max_rows]
            values = validate_data(detector, kept, dtype=np.float64, reset=False)
            to_standard = detector.units_.to_standard
            rows, back = to_standard(values), to_standard(reconstruct(kept))
            errors = ((rows - back) ** 2).mean(axis=1)
            names = getattr(detector, "feature_names_in_", range(rows.shape[1]))
            columns = [name if isinstance(name, str) else f"x{name}" for name in names]
        display = cls(
            originals=rows,
            reconstructions=back,
            errors=errors,
            columns=columns,
            estimator_name=type(detector).__name__,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw rows or images with their reconstructions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots in whose place the panels are fitted; None
            makes a figure.
        **kwargs : dict
            Arguments of ``Axes.imshow`` for images of one channel, such as `cmap`; of
            ``Axes.scatter`` for the points of both rows of a table, such as `s`.

        Returns
        -------
        display : ReconstructionDisplay
            Itself.
        """
        originals, back = np.asarray(self.originals), np.asarray(self.reconstructions)
        self.images_: list[Any] = []
        self.points_: list[tuple[Any, Any]] = []
        draw = self._draw_images if originals.ndim == 4 else self._draw_rows
        draw(originals, back, ax, kwargs)
        return self

    def _draw_images(
        self, originals: NDArray, back: NDArray, ax: Axes | None, kwargs: dict[str, Any]
    ) -> None:
        """Draw two lines of images: pixels in [0, 1], the same greys for all."""
        size = panel_size(originals.shape, 1.2)
        self._make_panels(ax, (2, len(originals)), size, (0.4, 0.4))
        if kwargs:
            kwargs = {"cmap": "gray", "vmin": 0, "vmax": 1, **kwargs}
        for axes, images in zip(self.axes_, (originals, back), strict=True):
            pairs = zip(axes, images, strict=True)
            self.images_ += [show(panel, image, **kwargs) for panel, image in pairs]
        for panel, error in zip(self.axes_[0], np.asarray(self.errors), strict=True):
            panel.set_title(f"{error:.3g}", fontsize="small")
        self.axes_[0, 0].set_title(f"error {self.axes_[0, 0].get_title()}", fontsize="small")
        self.axes_[0, 0].set_ylabel("image")
        self.axes_[1, 0].set_ylabel("reconstruction", fontsize="small")

    def _draw_rows(
        self, originals: NDArray, back: NDArray, ax: Axes | None, kwargs: dict[str, Any]
    ) -> None:
        """Draw a panel for every row, with the columns along it and one vertical scale for all."""
        n, d = originals.shape
        self._make_panels(ax, (n, 1), (max(5.0, 1.5 + 0.4 * d), 1.3), (0.6, 1.2))
        places = np.arange(d)
        limits = np.array([min(originals.min(), back.min()), max(originals.max(), back.max())])
        room = 0.08 * max(np.ptp(limits), 1e-3)
        for panel, row, other, error in zip(
            self.axes_[:, 0], originals, back, np.asarray(self.errors), strict=True
        ):
            panel.vlines(places, row, other, color="0.6", linewidth=2, zorder=1)
            style = {"s": 25, "zorder": 2, **kwargs}
            self.points_.append(
                (
                    panel.scatter(places, row, color=BLUE, label="value", **style),
                    panel.scatter(
                        places, other, color=VERMILION, marker="x", label="reconstruction", **style
                    ),
                )
            )
            panel.set_title(f"error {error:.3g}", fontsize="small", loc="left")
            panel.set(xlim=(-0.5, d - 0.5), ylim=limits + [-room, room], xticks=places)
            panel.tick_params(labelbottom=False)
            panel.grid(axis="y", color="0.9")
            panel.set_axisbelow(True)
        bottom = self.axes_[-1, 0]
        bottom.tick_params(labelbottom=True)
        names = self.columns if self.columns is not None else [f"x{j}" for j in places]
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        bottom.set_xticks(places, names, **(turned if d >= _MANY_COLUMNS else {}))
        self.axes_[n // 2, 0].set_ylabel("standardised value")
        self.axes_[0, 0].legend(
            loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2, frameon=False
        )

    def _make_panels(
        self,
        ax: Axes | None,
        shape: tuple[int, int],
        size: tuple[float, float],
        beside: tuple[float, float],
    ) -> None:
        self.axes_, self.bounding_ax_, self.figure_ = panels(ax, shape, size, beside)
