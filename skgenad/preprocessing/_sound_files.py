"""Sounds as people have them: files and waveforms, each read when it is its turn."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skgenad._extras import require

# What a file says of the length of its samples, and libsndfile of what is there.
_CUT_OFF = re.compile(r"^ *(?:data|SSND|riff|Riff size) : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Lengths in headers of files that were written into a pipe, from here on: they are not known.
_NOT_KNOWN = 0x7FFF0000


class Sound(NamedTuple):
    """A file that is not yet read, or a float32 waveform (n_samples,); and its name in errors."""

    name: str
    path: Path | None
    wave: NDArray


def sounds_of(X: Sequence[Any]) -> Iterator[Sound]:
    """Yield sound after sound; at least one, or ValueError."""
    if isinstance(X, str | os.PathLike):
        raise ValueError(f"X is one file. Pass a list of them: [{str(X)!r}].")
    if not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
        raise ValueError(f"X must be a list of files or of waveforms, got {type(X).__name__}.")
    if not len(X):
        raise ValueError("There is no sound in X: 0 sample(s), while a minimum of 1 is required.")
    for k, item in enumerate(X):
        if isinstance(item, str | os.PathLike):
            yield Sound(f"'{item}'", Path(item), np.empty(0, np.float32))
        else:
            yield Sound(f"X[{k}]", None, _waveform(item, f"X[{k}]"))


def _waveform(item: Any, name: str) -> NDArray:
    wave = np.asarray(item)
    if wave.ndim == 0 and wave.dtype.kind in "iuf":
        raise ValueError("X is one waveform. Pass a list of them: [X].")
    if wave.ndim != 1:
        raise ValueError(
            f"{name} must be the path of a file or a waveform of shape (n_samples,), got "
            f"{type(item).__name__} of shape {wave.shape}. Of several channels take one."
        )
    if wave.dtype.kind != "f":
        raise ValueError(
            f"{name} must be a waveform of floats, got {wave.dtype}. Divide 16-bit samples by "
            "32768.0, as readers of files do."
        )
    with np.errstate(over="ignore"):
        wave = wave.astype(np.float32, copy=False)
    if not np.isfinite(wave).all():
        raise ValueError(f"{name} has values that are NaN, infinite or too large for float32.")
    return wave


def file_rate(path: Path) -> int:
    """Return the sampling rate of a file, in Hz."""
    with _open(path) as file:
        return file.samplerate


def read_file(path: Path, rate: int, channel: int) -> NDArray:
    """Read one channel of a file, all of it, as float32 of shape (n_samples,), or ValueError."""
    with _open(path) as file:
        if file.samplerate != rate:
            raise ValueError(
                f"'{path}' has {file.samplerate} samples a second, not sampling_rate={rate}. "
                "Resample it, or pass its rate if all files have it."
            )
        if channel >= file.channels:
            raise ValueError(
                f"'{path}' has {file.channels} channel(s); channel={channel} counts from 0."
            )
        said = [tuple(map(int, found)) for found in _CUT_OFF.findall(file.extra_info)]
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except RuntimeError as error:  # soundfile's own are such
            raise ValueError(f"'{path}' cannot be read to its end: {error}") from error
        if len(samples) != file.frames or any(there < n < _NOT_KNOWN for n, there in said):
            raise ValueError(f"'{path}' is cut off after {len(samples)} samples.")
    wave = samples[:, channel]
    if not np.isfinite(wave).all():  # files of floats may hold them
        raise ValueError(f"'{path}' has samples that are NaN or infinite.")
    return wave


def _open(path: Path) -> Any:  # noqa: ANN401 (soundfile is optional)
    soundfile = require("soundfile", extra="audio")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        return soundfile.SoundFile(str(path))
    except RuntimeError as error:
        why = "it is empty" if path.stat().st_size == 0 else error
        raise ValueError(f"'{path}' cannot be read as sound: {why}") from error
