"""Sounds that `dcase.py` measures on, as lists of frames, and the models that it compares with.

``DIR/mimii_fan_id_00``: a fan of MIMII, train and test in the challenge's layout.
``uav_propeller``: the sound on board of a quadcopter, and ``clips.csv`` with the columns `file` and
`anomaly`.
``cwru_48k_0hp.npz``: vibrations of bearings at 48 kHz, ``normal`` and nine faults (`load_cwru`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from skgenad.datasets import load_cwru, load_dcase
from skgenad.preprocessing import LogMelFrames

SNR = -10.0  # dB, of the propellers in noise
# Windows of bearings, 85 ms; the first six tenths of the normal recording are trained on.
WINDOW, TRAIN_SHARE = 4096, 0.6
BEARINGS: dict[str, Any] = {"n_mels": 64, "sampling_rate": 48_000}


class Clips(NamedTuple):
    """Frames of the clips of one machine, or of several of one kind."""

    train: list[NDArray]
    test: list[NDArray]
    y: NDArray  # of test clips, 1 = anomaly
    machine_id: NDArray  # of test clips


# ---- collections ---------------------------------------------------------------------------------


def of_dcase(folder: Path, machine: str | None = None) -> Clips:
    """Read a machine in the challenge's layout; all its IDs are trained on together, as there."""
    features = LogMelFrames()
    train, test = (load_dcase(folder, machine, subset=part) for part in ("train", "test"))
    frames = features.fit_transform(train.filenames)
    return Clips(frames, features.transform(test.filenames), test.target, test.machine_id)


def fan(home: Path) -> Clips:
    """Read the fan."""
    return of_dcase(home / "mimii_fan_id_00")


def propellers(home: Path, draw: int | None = None) -> Clips:
    """Read the propellers as they are, or with equal loudness and a draw of white noise."""
    folder = home / "uav_propeller"
    table = pd.read_csv(folder / "clips.csv")
    paths = [folder / name for name in table["file"]]
    features = LogMelFrames()
    if draw is None:
        frames = features.fit_transform(paths)
    else:
        rng = np.random.RandomState(draw)
        frames = features.fit_transform([_in_noise(path, rng) for path in paths])
    is_train = table["file"].str.startswith("train/").to_numpy()
    train = [one for one, first in zip(frames, is_train, strict=True) if first]
    test = [one for one, first in zip(frames, is_train, strict=True) if not first]
    y = table["anomaly"].to_numpy()[~is_train]
    return Clips(train, test, y, np.full(len(y), "all"))


def _in_noise(path: Path, rng: np.random.RandomState) -> NDArray:
    """Bring a clip to RMS 1 and add noise."""
    wave, _ = soundfile.read(path, dtype="float64")
    noise = rng.randn(len(wave)) * 10 ** (-SNR / 20)
    return wave / np.sqrt(np.mean(wave**2)) + noise


def bearings(home: Path) -> Clips:
    """Cut the recordings of bearings into windows, each of which is a clip."""
    found = load_cwru(home)
    windows = [
        wave[: len(wave) // WINDOW * WINDOW].reshape(-1, WINDOW)
        for wave in found.series  # the normal one and the faults, in columns of one
    ]
    normal = windows.pop(int(np.flatnonzero(found.targets == 0)[0]))
    n = int(TRAIN_SHARE * len(normal))
    features = LogMelFrames(**BEARINGS)
    test = np.concatenate([normal[n:], *windows])
    y = (np.arange(len(test)) >= len(normal) - n).astype(int)
    return Clips(
        features.fit_transform(normal[:n]), features.transform(test), y, np.full(len(y), "all")
    )


COLLECTIONS: dict[str, Callable[[Path], Clips]] = {
    "fan": fan,
    "propeller": propellers,
    "bearing": bearings,
    **{f"propeller, noise {k}": partial(propellers, draw=k) for k in (1, 2, 3)},
}


# ---- models that the package has not -------------------------------------------------------------


class PCAError(BaseEstimator):
    """Squared error of a projection on principal components of standardised columns."""

    def __init__(self, n_components: int = 32) -> None:
        self.n_components = n_components

    def fit(self, X: NDArray, y: None = None) -> Self:
        """Fit to rows; there are at most as many components as rows but one."""
        self.scaler_ = StandardScaler().fit(X)
        n = min(self.n_components, len(X) - 1, X.shape[1])
        self.pca_ = PCA(n, random_state=0).fit(self.scaler_.transform(X))
        return self

    def score_samples(self, X: NDArray) -> NDArray:
        """Return minus the mean squared error of rows."""
        rows = self.scaler_.transform(X)
        back = self.pca_.inverse_transform(self.pca_.transform(rows))
        return -np.square(rows - back).mean(axis=1)


class IDNN(BaseEstimator):
    """Interpolation deep neural network: the middle frame of five, predicted from the others.

    Suefusa et al. (ICASSP 2020), with the layers that appendix B.6.4 of the MPDR paper names, ReLU
    and Adam, on standardised columns.
    """

    def __init__(self, n_epochs: int = 100, random_state: int | None = None) -> None:
        self.n_epochs = n_epochs
        self.random_state = random_state

    def fit(self, X: NDArray, y: None = None) -> Self:
        """Fit to frames of five spectra."""
        self.scaler_ = StandardScaler().fit(X)
        rest, middle = self._parts(X)
        self.net_ = MLPRegressor(
            hidden_layer_sizes=(64, 32, 16, 16, 32, 64),
            batch_size=min(512, len(X)),
            max_iter=self.n_epochs,
            n_iter_no_change=self.n_epochs,  # all of them
            random_state=self.random_state,
        ).fit(rest, middle)
        return self

    def score_samples(self, X: NDArray) -> NDArray:
        """Return minus the mean squared error of the middle spectra."""
        rest, middle = self._parts(X)
        return -np.square(middle - self.net_.predict(rest)).mean(axis=1)

    def _parts(self, X: NDArray) -> tuple[NDArray, NDArray]:
        rows = self.scaler_.transform(X).astype(np.float32)
        width = rows.shape[1] // 5
        start = 2 * width
        rest = np.hstack([rows[:, :start], rows[:, start + width :]])
        return rest, rows[:, start : start + width]
