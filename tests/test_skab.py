"""Recordings in SKAB's folders: what is read, in which order, what is refused."""

import numpy as np
import pytest

from skgenad.datasets import load_skab

NAMES = ["Current", "Pressure"]


def write(path, *, labelled=True, names=NAMES, n=5, cell="0.5"):
    path.parent.mkdir(exist_ok=True)
    labels = ["anomaly", "changepoint"] if labelled else []
    lines = [";".join(["datetime", *names, *labels])]
    for k in range(n):
        marks = [f"{float(k > 2)}", f"{float(k == 3)}"] if labelled else []
        lines.append(";".join([f"2020-03-09 10:14:{k:02d}", *[cell] * len(names), *marks]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    for name in ("valve1/2", "valve1/10", "other/1"):
        write(tmp_path / f"{name}.csv")
    write(tmp_path / "anomaly-free" / "anomaly-free.csv", labelled=False, n=8)
    return tmp_path


def test_recordings_come_in_the_order_of_folders_and_numbers(folder):
    rig = load_skab(folder)
    assert rig.names == ["other/1", "valve1/2", "valve1/10"]
    assert rig.feature_names == NAMES and rig.normal.shape == (8, 2)
    for series, target, change, times in zip(
        rig.series, rig.targets, rig.changepoints, rig.times, strict=True
    ):
        assert series.shape == (5, 2) and series.dtype == np.float64 and (series == 0.5).all()
        assert target.tolist() == [0, 0, 0, 1, 1] and change.tolist() == [0, 0, 0, 1, 0]
        assert (np.diff(times) == np.timedelta64(1, "s")).all()


def test_without_the_normal_recording_there_is_none(folder):
    (folder / "anomaly-free" / "anomaly-free.csv").unlink()
    assert load_skab(folder).normal is None


def test_what_is_no_such_folder_is_refused(folder):
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        load_skab(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match="no recordings such as valve1/0.csv"):
        load_skab(folder / "valve1")
    write(folder / "valve2" / "0.csv", names=["Pressure", "Current"])
    with pytest.raises(ValueError, match="0.csv has other columns than"):
        load_skab(folder)
    write(folder / "valve2" / "0.csv", cell="many")
    with pytest.raises(ValueError, match=r"0.csv: column 'Current' has a value that is no number"):
        load_skab(folder)
    write(folder / "valve2" / "0.csv", labelled=False)
    with pytest.raises(ValueError, match="0.csv has no column 'anomaly', but datetime, Current"):
        load_skab(folder)
