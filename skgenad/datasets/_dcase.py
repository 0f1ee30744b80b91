"""Sounds of machines in the folders of DCASE 2020's challenge (task 2), or of MIMII."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.utils import Bunch

from ._image_bunch import parts_of
from ._image_files import seen, warn_of

_SUFFIXES = {".wav", ".flac"}
_NAME = re.compile(r"(normal|anomaly)_(id_\d+)_.+")
_ID = re.compile(r"id_\d+")


class _Clip(NamedTuple):
    machine: str
    part: str
    machine_id: str
    target: int
    path: Path


def load_dcase(
    folder: str | os.PathLike[str],
    machine: str | None = None,
    *,
    ids: Sequence[str | int] | None = None,
    subset: str = "train",
) -> Bunch:
    """List clips of machines from the folders of DCASE 2020, task 2, or of MIMII.

    In the challenge's development set there are ``<machine>/train/normal_id_00_00000000.wav`` and
    so on, and in ``<machine>/test`` also ``anomaly_id_00_00000000.wav``; MIMII, where four of the
    six machines are from, has ``<machine>/id_00/normal/00000000.wav`` and ``id_00/abnormal``.
    The files are not opened: `LogMelFrames` reads them one after the other.

    Parameters
    ----------
    folder : path-like
        The folder with those of the machines, or the one of a single machine, with ``train``,
        ``test`` or ``id_00`` and so on in it.
    machine : str, default=None
        One of the machines, for example ``"fan"``. None: all.
    ids : sequence of str or int, default=None
        Some of the machine IDs, such as ``"id_00"`` or 0. None: all.
    subset : {"train", "test", "all"}, default="train"
        The training clips, all normal; the test clips; or the former and then the latter. Clips are
        in the order of machines, IDs, normal ones before anomalous ones, and names.

    Returns
    -------
    sklearn.utils.Bunch
        ``filenames``, list of str; ``target``, int64 of shape (n,), 1 = anomaly; ``machine_id``,
        str of shape (n,), such as ``"id_00"``; ``machine``, str of shape (n,); ``DESCR``.

    Raises
    ------
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If the machine, or clips of that subset, are missing.
    ValueError
        If `subset` is none of the three, or an ID is not there.

    Warns
    -----
    UserWarning
        If a file is left out that is not hidden: one that is called otherwise, such as test clips
        of the evaluation set, which have no labels, or an anomaly among the training clips.

    See Also
    --------
    skgenad.preprocessing.LogMelFrames : Frames of log-mel spectra of such files.
    skgenad.metrics.dcase_auc : The challenge's AUC and pAUC of each machine ID.

    Notes
    -----
    Files are WAV or FLAC by their suffixes. MIMII has no training clips of its own: as in its
    authors' baseline the first normal clips of an ID, as many as there are anomalous ones, are test
    clips, and the others training clips.

    References
    ----------
    Y. Koizumi et al. Description and Discussion on DCASE2020 Challenge Task2: Unsupervised
    Anomalous Sound Detection for Machine Condition Monitoring. DCASE Workshop 2020.
    https://arxiv.org/abs/2006.05822

    H. Purohit et al. MIMII Dataset: Sound Dataset for Malfunctioning Industrial Machine
    Investigation and Inspection. DCASE Workshop 2019. https://zenodo.org/record/3384388

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skgenad.datasets import load_dcase
    >>> names = ["normal_id_00_01.wav", "normal_id_02_01.wav", "anomaly_id_00_01.wav"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "fan" / "test").mkdir(parents=True)
    ...     for name in names:
    ...         (Path(folder) / "fan" / "test" / name).touch()
    ...     clips = load_dcase(folder, "fan", subset="test")
    >>> clips.machine_id.tolist(), clips.target.tolist()
    (['id_00', 'id_00', 'id_02'], [0, 1, 0])
    """
    parts, home = parts_of(subset), Path(folder)
    if not home.is_dir():
        raise NotADirectoryError(f"'{home}' is not a folder. Name the one with the machines.")
    left_out: list[tuple[str, Path]] = []
    found = [clip for root in _machines(home, machine) for clip in _clips(root, parts, left_out)]
    clips = _chosen([clip for clip in found if clip.part in parts], ids)
    if not clips:
        raise FileNotFoundError(
            f"There are no {subset} clips in '{home}', such as "
            f"'{machine or '<machine>'}/{parts[0]}/normal_id_00_00000000.wav'."
        )
    warn_of(left_out)
    clips.sort(key=lambda clip: (parts.index(clip.part), *clip[:1], *clip[2:4], clip.path.name))
    target = np.array([clip.target for clip in clips], dtype=np.int64)
    machines = np.array([clip.machine for clip in clips])
    kinds = ", ".join(dict.fromkeys(machines.tolist()))
    return Bunch(
        filenames=[str(clip.path) for clip in clips],
        target=target,
        machine_id=np.array([clip.machine_id for clip in clips]),
        machine=machines,
        DESCR=f"{kinds}, {subset}: {len(clips)} clips, {target.sum()} anomalies, from '{home}'.",
    )


def _is_machine(folder: Path) -> bool:
    """Whether a folder has parts, as those of DCASE, or IDs, as those of MIMII."""
    return any(
        path.is_dir() and (path.name in ("train", "test") or _ID.fullmatch(path.name))
        for path in seen(folder)
    )


def _machines(home: Path, machine: str | None) -> list[Path]:
    """Find the folders of the machines, or that of one."""
    if _is_machine(home) and machine in (None, home.resolve().name):
        return [home]
    there = [path for path in seen(home) if path.is_dir() and _is_machine(path)]
    chosen = [path for path in there if machine in (None, path.name)]
    if not chosen:
        names = ", ".join(path.name for path in there) or "none"
        raise FileNotFoundError(
            f"There is no machine {machine!r} in '{home}'; folders with train, test or id_00: "
            f"{names}."
            if machine is not None
            else f"There is no machine in '{home}': no folder such as 'fan' with train and test."
        )
    return chosen


def _clips(root: Path, parts: tuple[str, ...], left_out: list[tuple[str, Path]]) -> Iterator[_Clip]:
    """Yield clips of a machine, those of DCASE of some parts, and note files that are left out."""
    name = root.resolve().name
    for place in (path for path in seen(root) if path.is_dir()):
        if place.name in parts:
            for path in _sounds(place, left_out):
                match = _NAME.fullmatch(path.stem)
                if match is None:
                    left_out.append(("Not read, since no label and ID are in its name", path))
                elif place.name == "train" and match[1] == "anomaly":
                    left_out.append(("Not read, since only normal clips are trained on", path))
                else:
                    yield _Clip(name, place.name, match[2], int(match[1] == "anomaly"), path)
        elif _ID.fullmatch(place.name):
            normal, abnormal = (
                list(_sounds(place / kind, left_out)) if (place / kind).is_dir() else []
                for kind in ("normal", "abnormal")
            )
            for k, path in enumerate(normal):
                yield _Clip(name, "test" if k < len(abnormal) else "train", place.name, 0, path)
            yield from (_Clip(name, "test", place.name, 1, path) for path in abnormal)


def _sounds(folder: Path, left_out: list[tuple[str, Path]]) -> Iterator[Path]:
    for path in seen(folder):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield path
        else:
            left_out.append(("Not read, since it is no WAV or FLAC file by its name", path))


def _chosen(clips: Iterable[_Clip], ids: Sequence[str | int] | None) -> list[_Clip]:
    """Return clips of some IDs; ValueError if there is none of one of them."""
    clips = list(clips)
    if ids is None:
        return clips
    if isinstance(ids, str | int):
        raise ValueError(f"ids={ids!r} must be a list, such as ['id_00'].")
    wanted = {i if str(i).startswith("id_") else f"id_{int(i):02d}" for i in ids}
    there = sorted({clip.machine_id for clip in clips})
    if missing := sorted(wanted - set(there)):
        raise ValueError(f"There is no {missing[0]}, but {', '.join(there) or 'no ID'}.")
    return [clip for clip in clips if clip.machine_id in wanted]
