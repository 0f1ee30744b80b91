"""Frames of log-mel spectra of sounds, from files or waveforms, as in DCASE's challenges."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skgenad._core.checks import CheckedParameters, Interval, StrOptions, fit_context
from skgenad._core.versions import VersionedPickle
from skgenad._extras import require

from ._sound_files import Sound, file_rate, read_file, sounds_of


class LogMelFrames(  # type: ignore[call-arg]  # scikit-learn's mixin takes the keyword
    VersionedPickle, TransformerMixin, CheckedParameters, auto_wrap_output_keys=None
):
    """Frames of log-mel spectra of sounds, from files or waveforms.

    A sound is cut into overlapping stretches, each of which has a spectrum of `n_mels` bands in
    decibels; a frame is `n_frames` consecutive spectra, one after the other. The defaults are the
    settings of DCASE 2020's challenge on machine sounds (task 2), and of the MPDR paper.

    Parameters
    ----------
    n_mels : int, default=128
        Bands of a spectrum, at least 1, as wide on the mel scale as each other, from 0 Hz to half
        the sampling rate. There must not be so many that a band is left without a frequency of the
        spectrum.
    n_frames : int, default=5
        Consecutive spectra of a frame, at least 1.
    n_fft : int, default=1024
        Samples of a stretch, at least 2; 64 ms at 16 kHz.
    hop_length : int, default=512
        Samples from one stretch to the next one, at least 1; 32 ms at 16 kHz.
    power : float, default=2.0
        Exponent of the magnitudes that bands sum up, > 0: 1 for amplitudes, 2 for energies.
    sampling_rate : int or None, default=16000
        Samples a second that every sound has, in Hz. Nothing is resampled: a file with another rate
        is an error. None: that of the first file in `fit`.
    channel : int, default=0
        The channel of files with several that is taken, from 0: the first one, as DCASE does with
        the eight of MIMII. The others are left out, not mixed in.
    pool : {"mean"} or None, default=None
        What is given of a sound: None, all its frames; "mean", one row, their mean.

    Attributes
    ----------
    sampling_rate_ : int
        Samples a second, in Hz.

    See Also
    --------
    skgenad.datasets.load_dcase : Files in the folders of DCASE and MIMII, with their labels.
    skgenad.inspection.SpectrogramDisplay : A spectrogram, and the scores of its frames below it.
    SlidingWindows : Stretches of a series of sensors, of which there are few values a second.

    Notes
    -----
    Stretch t is centred at sample ``t * hop_length``; beyond its ends a sound is 0, so that its
    first spectrum and its last ones are in part of silence, as the challenge's are. Of each, with
    a Hann window, the discrete Fourier transform is taken, and its magnitudes to the power `power`
    are summed in triangular bands [1]_ of equal area. A band of energy e is
    ``20 / power * log10(e + eps)`` decibels, with eps the least step of float64 at 1, so that
    silence is -156.5 dB with power 2. Of frame i, columns ``k * n_mels`` to
    ``(k + 1) * n_mels - 1`` are spectrum i + k. A sound of n samples has ``1 + n // hop_length``
    spectra, and ``n_frames - 1`` frames fewer.

    Files are read one after the other; with ``pool="mean"`` nothing but a row of each is kept.
    Frames are views of a sound's spectra, take no more memory than these, and may not be written
    to.

    References
    ----------
    .. [1] S. S. Stevens, J. Volkmann, E. B. Newman. A scale for the measurement of the
       psychological magnitude pitch. JASA 8, 1937; the bands are those of Slaney's Auditory
       Toolbox, 1998, librosa's default.
    .. [2] Y. Koizumi et al. Description and Discussion on DCASE2020 Challenge Task2: Unsupervised
       Anomalous Sound Detection for Machine Condition Monitoring. DCASE Workshop 2020.
       https://arxiv.org/abs/2006.05822
    .. [3] The MPDR paper, section 4.4 and appendix B.6.2.

    Examples
    --------
    A second of a hum at 440 Hz, and its loudest band:

    >>> import numpy as np
    >>> from skgenad.preprocessing import LogMelFrames
    >>> hum = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    >>> features = LogMelFrames(n_frames=1).fit([hum])
    >>> (frames,) = features.transform([hum])
    >>> frames.shape, features.get_feature_names_out()[frames.mean(axis=0).argmax()]
    ((32, 128), '444 Hz t')

    Rows of clips for any detector:

    >>> from skgenad import Neighbors
    >>> from skgenad.pipeline import make_pipeline
    >>> clips = 0.1 * np.random.RandomState(0).randn(30, 16000)
    >>> model = make_pipeline(LogMelFrames(pool="mean"), Neighbors(random_state=0)).fit(clips)
    >>> model.predict([hum])
    array([-1])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_mels": [Interval(Integral, 1, None, closed="left")],
        "n_frames": [Interval(Integral, 1, None, closed="left")],
        "n_fft": [Interval(Integral, 2, None, closed="left")],
        "hop_length": [Interval(Integral, 1, None, closed="left")],
        "power": [Interval(Real, 0, None, closed="neither")],
        "sampling_rate": [Interval(Integral, 1, None, closed="left"), None],
        "channel": [Interval(Integral, 0, None, closed="left")],
        "pool": [StrOptions({"mean"}), None],
    }

    def __init__(
        self,
        n_mels: int = 128,
        n_frames: int = 5,
        n_fft: int = 1024,
        hop_length: int = 512,
        power: float = 2.0,
        sampling_rate: int | None = 16000,
        channel: int = 0,
        pool: str | None = None,
    ) -> None:
        self.n_mels = n_mels
        self.n_frames = n_frames
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.power = power
        self.sampling_rate = sampling_rate
        self.channel = channel
        self.pool = pool

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Sequence[Any], y: None = None) -> Self:
        """Note the sampling rate; of files, the first one is opened if it is not given.

        Parameters
        ----------
        X : sequence of path-like or array-like of shape (n_samples,)
            Sound files, or waveforms.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range or a band without a frequency, or if there is no sound,
            or if there are waveforms and no sampling rate.
        FileNotFoundError
            If the first file is asked for its rate, and missing.
        ImportError
            If the extra ``audio`` is not installed.
        """
        first = next(sounds_of(X))
        rate = self.sampling_rate
        if rate is None:
            if first.path is None:
                raise ValueError(
                    "Waveforms do not say how many samples make a second. Pass sampling_rate, "
                    "in Hz."
                )
            rate = file_rate(first.path)
        self._check_bands(int(rate))
        self.sampling_rate_ = int(rate)
        return self

    def transform(self, X: Sequence[Any]) -> list[NDArray] | NDArray:
        """Frames of sounds, or their means.

        Parameters
        ----------
        X : sequence of path-like or array-like of shape (n_samples,)
            Files that soundfile reads, such as WAV and FLAC; or waveforms of floats, in the units
            of those in training (files give values from -1 to 1). They need not be equally long.

        Returns
        -------
        frames : list of ndarray of shape (n_frames_i, n_frames * n_mels), or ndarray
            Float32, in decibels: read-only frames of each sound; with ``pool="mean"`` one array of
            shape (n_sounds, n_frames * n_mels).

        Raises
        ------
        ValueError
            If a file is no sound, is cut off or has another sampling rate or too few channels, or
            a waveform has other than one dimension or values that are not finite floats, or too
            large; if a sound is shorter than a frame, ``(n_frames - 1) * hop_length`` samples, or a
            stretch, `n_fft`. The message names it.
        FileNotFoundError
            If a file is missing.
        ImportError
            If the extra ``audio`` is not installed.
        """
        check_is_fitted(self)
        frames = (self._frames(spectra) for spectra in self._all_spectra(X))
        if self.pool is None:
            return list(frames)
        return np.array([one.mean(axis=0, dtype=np.float64) for one in frames], dtype=np.float32)

    def spectrogram(self, x: Any) -> NDArray:
        """Spectra of one sound, before they are put together to frames.

        Parameters
        ----------
        x : path-like or array-like of shape (n_samples,)
            A file, or a waveform.

        Returns
        -------
        spectrogram : ndarray of shape (n_mels, n_spectra)
            Float32, in decibels; low frequencies first.
        """
        check_is_fitted(self)
        return next(self._all_spectra([x])).T

    def frame_times(self, n_frames: int) -> NDArray:
        """When frames of a sound are.

        Parameters
        ----------
        n_frames : int
            Number of frames, of which the first one begins with the sound.

        Returns
        -------
        times : ndarray of shape (n_frames,)
            The middle of each frame, in seconds.
        """
        check_is_fitted(self)
        spectra = np.arange(n_frames) + (self.n_frames - 1) / 2
        return spectra * self.hop_length / self.sampling_rate_

    def frequencies(self) -> NDArray:
        """Frequencies at the middle of bands.

        Returns
        -------
        frequencies : ndarray of shape (n_mels,)
            Where each band weighs most, in Hz.
        """
        check_is_fitted(self)
        return self._edges(self.sampling_rate_)[1:-1]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray:
        """Names of the columns: the band, and how many spectra before the last one of a frame.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_frames * n_mels,)
            Such as ``"444 Hz t-2"``; without a number at the last spectrum.
        """
        bands = [f"{frequency:.0f} Hz" for frequency in self.frequencies()]
        steps = [f"t-{k}" if k else "t" for k in reversed(range(self.n_frames))]
        return np.array([f"{band} {step}" for step in steps for band in bands], dtype=object)

    def _all_spectra(self, X: Sequence[Any]) -> Iterator[NDArray]:
        """Yield spectra of sound after sound, of shape (n_spectra, n_mels)."""
        librosa, rate = require("librosa", extra="audio"), self.sampling_rate_
        bands = librosa.filters.mel(sr=rate, n_fft=self.n_fft, n_mels=self.n_mels)
        size = {"n_fft": self.n_fft, "hop_length": self.hop_length}
        for sound in sounds_of(X):
            magnitudes = np.abs(librosa.stft(self._wave(sound), **size))
            with np.errstate(over="ignore", invalid="ignore"):
                energies = bands @ magnitudes**self.power
            if not np.isfinite(energies).all():
                raise ValueError(f"{sound.name} has values too large for energies in float32.")
            decibels = 20 / self.power * np.log10(energies + sys.float_info.epsilon)
            # Spectrum after spectrum in memory, so that frames are a view.
            yield np.ascontiguousarray(decibels.T, dtype=np.float32)

    def _wave(self, sound: Sound) -> NDArray:
        """Waveform of a sound, float32 of shape (n_samples,)."""
        if sound.path is not None:
            wave = read_file(sound.path, self.sampling_rate_, self.channel)
        else:
            wave = sound.wave
        least = max(self.n_fft, (self.n_frames - 1) * self.hop_length)
        if len(wave) < least:
            raise ValueError(
                f"{sound.name} has {len(wave)} samples, and a frame needs {least} "
                f"({least / self.sampling_rate_:.3g} s)."
            )
        return wave

    def _frames(self, spectra: NDArray) -> NDArray:
        windows = sliding_window_view(spectra.reshape(-1), self.n_frames * self.n_mels)
        return windows[:: self.n_mels]

    def _edges(self, rate: int) -> NDArray:
        """Where bands begin, are highest and end: those of i at i, i + 1 and i + 2, in Hz."""
        librosa = require("librosa", extra="audio")
        return librosa.mel_frequencies(self.n_mels + 2, fmin=0.0, fmax=rate / 2)

    def _check_bands(self, rate: int) -> None:
        """Raise ValueError if a band has no frequency of the spectrum: its column says nothing."""
        edges = self._edges(rate) * self.n_fft / rate
        # Whole numbers are frequencies; at its edges a band is 0.
        empty = np.ceil(edges[2:]) - np.floor(edges[:-2]) < 2
        if empty.any():
            raise ValueError(
                f"{empty.sum()} of n_mels={self.n_mels} bands lie between the frequencies of a "
                f"spectrum of n_fft={self.n_fft} samples at {rate} Hz. Write fewer bands, or "
                f"n_fft={2 * self.n_fft} or more."
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Files, or waveforms of any length: no table.
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
