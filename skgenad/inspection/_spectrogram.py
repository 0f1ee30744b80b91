"""The display of a sound: its spectrogram, and the anomaly scores of its frames below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ._common import BLUE, VERMILION, divided, method_of, new_axes, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

_SIZE = (11.0, 5.0)
_TITLE: dict[str, Any] = {"loc": "left", "fontsize": "small", "pad": 3}
_N_TICKS = 6


class SpectrogramDisplay:
    """A sound's spectrogram, and below it the anomaly scores (energies) of its frames.

    Make it by :meth:`from_estimator`. The parameters are kept as attributes. Scores beyond the
    threshold are filled. A frame's score is drawn at the middle of its spectra.

    Parameters
    ----------
    spectrogram : ndarray of shape (n_bands, n_spectra)
        Log-mel spectra in decibels, low frequencies first, such as
        ``LogMelFrames().spectrogram(x)``.
    scores : ndarray of shape (n_frames,)
        Anomaly scores of frames, higher = more anomalous. Frame i is of spectra i to
        ``i + n_spectra - n_frames``.
    hop : float, default=1.0
        From one spectrum to the next one, in seconds.
    frequencies : ndarray of shape (n_bands,), default=None
        Frequencies of bands, in Hz; None numbers the bands.
    threshold : float, default=None
        The score beyond which what was scored is anomalous; None draws no line.

    Attributes
    ----------
    axes_ : ndarray of shape (2,)
        Axes of the spectrogram and of the scores.
    figure_ : matplotlib Figure
        Their figure.
    image_ : AxesImage
        The spectrogram.
    line_ : Line2D
        The scores.
    beyond_ : PolyCollection or None
        What is filled, if there is a threshold.
    colorbar_ : Colorbar or None
        Colour bar of the spectrogram.

    See Also
    --------
    skgenad.preprocessing.LogMelFrames : Frames of files and waveforms.
    SeriesDisplay : A series of sensors and the scores of its time steps.

    Examples
    --------
    A detector of frames, and a knock in what was noise:

    >>> import numpy as np
    >>> from skgenad import Mahalanobis
    >>> from skgenad.inspection import SpectrogramDisplay
    >>> from skgenad.preprocessing import LogMelFrames
    >>> sound = 0.1 * np.random.RandomState(0).randn(160000)
    >>> features = LogMelFrames(n_mels=32, n_frames=1)
    >>> (frames,) = features.fit_transform([sound])
    >>> detector = Mahalanobis(random_state=0).fit(frames)
    >>> sound[80000:80100] += 3
    >>> display = SpectrogramDisplay.from_estimator(detector, sound, features=features)
    >>> bool(4.9 < display.line_.get_xdata()[display.scores.argmax()] < 5.1)
    True
    >>> display.figure_.savefig("sound.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        spectrogram: NDArray,
        scores: NDArray,
        hop: float = 1.0,
        frequencies: NDArray | None = None,
        threshold: float | None = None,
    ) -> None:
        self.spectrogram = spectrogram
        self.scores = scores
        self.hop = hop
        self.frequencies = frequencies
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        x: Any,
        *,
        features: Any = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Score the frames of a sound and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted `GroupedDetector` with `LogMelFrames` as its `features`; its threshold is that of
            clips. Or a fitted detector of frames, with `features`.
        x : path-like or array-like of shape (n_samples,)
            A file, or a waveform.
        features : LogMelFrames, default=None
            What made the frames that the detector was fitted on, fitted. None: that of the
            estimator.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Arguments of :meth:`plot`.

        Returns
        -------
        display : SpectrogramDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If there is nothing that makes spectrograms, or no detector.
        ImportError
            If matplotlib, or the extra ``audio``, is not installed.
        """
        scorer, detector, _ = unwrap(estimator)
        method_of(detector, "offset_", cls.__name__)
        used: Any = getattr(detector, "features_", None) if features is None else features
        spectrogram = method_of(
            used,
            "spectrogram",
            f"The features of {cls.__name__}, LogMelFrames,",
            "Pass features=, as it was fitted.",
        )(x)
        if features is None:
            (scores,) = method_of(detector, "instance_scores", cls.__name__)([x])
        else:
            (frames,) = features.transform([x])
            scores = method_of(scorer, "score_samples", cls.__name__)(frames)
        display = cls(
            spectrogram=spectrogram,
            scores=-np.asarray(scores),
            hop=used.hop_length / used.sampling_rate_,
            frequencies=used.frequencies(),
            threshold=-float(detector.offset_),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, colorbar: bool = True, **kwargs: Any) -> Self:
        """Draw the spectrogram and the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, one of a grid of subplots; None makes a figure.
        colorbar : bool, default=True
            Whether to add the colour bar.
        **kwargs : dict
            Arguments of ``Axes.imshow`` for the spectrogram, such as `cmap`, `vmin` and `vmax`. By
            default colours go from its 1 % quantile to its largest value.

        Returns
        -------
        display : SpectrogramDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are more scores than spectra.
        """
        spectrogram, scores = np.asarray(self.spectrogram), np.asarray(self.scores)
        n = spectrogram.shape[1]
        if not 1 <= len(scores) <= n:
            raise ValueError(f"There are {len(scores)} scores of frames, but {n} spectra.")
        if ax is None:
            ax = new_axes(_SIZE)
        grid = divided(ax, (2, 1))
        above = ax.figure.add_subplot(grid[0])
        below = ax.figure.add_subplot(grid[1], sharex=above)
        self.axes_, self.figure_ = np.array([above, below]), ax.figure
        self._draw_spectrogram(above, spectrogram, kwargs)
        self.colorbar_: Colorbar | None = None
        if colorbar:
            # Inside of the panel's place, so that both panels keep one width.
            beside = above.inset_axes((1.01, 0.0, 0.012, 1.0))
            self.colorbar_ = ax.figure.colorbar(self.image_, cax=beside, label="dB")
        self._draw_scores(below, scores, ((n - len(scores)) / 2 + np.arange(len(scores))))
        above.label_outer()
        return self

    def _draw_spectrogram(self, panel: Axes, values: NDArray, kwargs: dict[str, Any]) -> None:
        n_bands, n = values.shape
        extent = (-0.5 * self.hop, (n - 0.5) * self.hop, -0.5, n_bands - 0.5)
        style = {"cmap": "magma", "origin": "lower", "aspect": "auto", "extent": extent, **kwargs}
        if "norm" not in style:
            style = {"vmin": np.quantile(values, 0.01), **style}
        self.image_: AxesImage = panel.imshow(values, **style)
        ticks = np.unique(np.linspace(0, n_bands - 1, _N_TICKS).round().astype(int))
        if self.frequencies is not None:
            panel.set_yticks(ticks, [f"{hz:.0f}" for hz in np.asarray(self.frequencies)[ticks]])
        panel.set_title("mel band" if self.frequencies is None else "frequency in Hz", **_TITLE)

    def _draw_scores(self, panel: Axes, scores: NDArray, places: NDArray) -> None:
        times = places * self.hop
        style: dict[str, Any] = {"color": BLUE, "linewidth": 0.9}
        self.line_: Line2D = panel.plot(times, scores, **style)[0]
        self.beyond_: PolyCollection | None = None
        if self.threshold is not None:
            panel.axhline(self.threshold, color="black", linestyle="--", linewidth=0.8)
            beyond: dict[str, Any] = {
                "where": scores > self.threshold,
                "color": VERMILION,
                "alpha": 0.5,
                "interpolate": True,  # a single frame beyond it has an area, too
            }
            self.beyond_ = panel.fill_between(times, scores, self.threshold, linewidth=0, **beyond)
        panel.set_title("anomaly score of frames", **_TITLE)
        panel.set_xlabel("time in seconds")
