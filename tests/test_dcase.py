"""Clips in the folders of DCASE and MIMII, what is refused, and the challenge's table."""

import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from skgenad.datasets import load_dcase
from skgenad.metrics import dcase_auc, partial_roc_auc


def touched(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.fixture
def folder(tmp_path):
    for machine, ids in (("fan", (0, 2)), ("ToyCar", (1,))):
        for i in ids:
            names = [f"normal_id_{i:02d}_{k:08d}.wav" for k in range(3)]
            touched(tmp_path / machine / "train", *names)
            names = [
                f"{kind}_id_{i:02d}_{k:08d}.wav" for kind in ("normal", "anomaly") for k in (7, 3)
            ]
            touched(tmp_path / machine / "test", *names)
    return tmp_path


def test_training_clips_of_one_machine(folder):
    clips = load_dcase(folder, "fan")
    assert clips.machine_id.tolist() == ["id_00"] * 3 + ["id_02"] * 3
    assert clips.target.tolist() == [0] * 6 and set(clips.machine) == {"fan"}
    assert clips.filenames[0] == str(folder / "fan" / "train" / "normal_id_00_00000000.wav")
    assert clips.DESCR.startswith("fan, train: 6 clips, 0 anomalies, from ")


def test_test_clips_are_in_order(folder):
    clips = load_dcase(folder, "fan", subset="test")
    names = [path.rpartition("/")[2] for path in clips.filenames]
    assert names == [
        f"{kind}_id_{i}_0000000{k}.wav"
        for i in ("00", "02")
        for kind in ("normal", "anomaly")
        for k in (3, 7)
    ]
    assert clips.target.tolist() == [0, 0, 1, 1] * 2


def test_all_machines_and_parts(folder):
    clips = load_dcase(folder, subset="all")
    assert clips.machine.tolist() == ["ToyCar"] * 3 + ["fan"] * 6 + ["ToyCar"] * 4 + ["fan"] * 8
    assert len(load_dcase(folder).filenames) == 9


@pytest.mark.parametrize("ids", [["id_02"], [2], ["02"]])
def test_some_ids(folder, ids):
    assert set(load_dcase(folder, "fan", ids=ids).machine_id) == {"id_02"}


def test_the_folder_of_a_machine_itself(folder):
    for machine in (None, "fan"):
        clips = load_dcase(folder / "fan", machine, subset="test")
        assert set(clips.machine) == {"fan"} and len(clips.target) == 8
    (folder / "fan" / "train" / "normal_id_00_00000000.wav").rename(
        folder / "fan" / "train" / "normal_id_00_00000000.FLAC"
    )
    assert len(load_dcase(folder / "fan").target) == 6


def test_the_folders_of_mimii_are_divided_as_its_baseline_does(tmp_path):
    place = tmp_path / "fan" / "id_04"
    touched(place / "normal", *(f"{k:08d}.wav" for k in range(5)))
    touched(place / "abnormal", *(f"{k:08d}.wav" for k in range(2)))
    train, test = (load_dcase(tmp_path, "fan", subset=part) for part in ("train", "test"))
    names = [[path.rpartition("/")[2][7] for path in part.filenames] for part in (train, test)]
    assert names == [["2", "3", "4"], ["0", "1", "0", "1"]]
    assert test.target.tolist() == [0, 0, 1, 1] and set(test.machine_id) == {"id_04"}


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("test", "id_05_00000000.wav", "no label and ID are in its name: '.*id_05_00000000.wav'"),
        ("train", "anomaly_id_00_00000000.wav", "only normal clips are trained on"),
        ("train", "notes.txt", "no WAV or FLAC file by its name"),
    ],
)
def test_what_is_left_out_is_said(folder, part, name, message):
    touched(folder / "fan" / part, name, ".hidden.wav")
    with pytest.warns(UserWarning, match=message):
        clips = load_dcase(folder, "fan", subset=part)
    assert len(clips.target) == (6 if part == "train" else 8)
    other = {"train": "test", "test": "train"}[part]
    load_dcase(folder, "fan", subset=other)  # of whose files nothing is to be said


def test_what_is_missing_is_said(folder):
    with pytest.raises(NotADirectoryError, match="nowhere' is not a folder"):
        load_dcase(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match="no machine 'pump' in .*: ToyCar, fan"):
        load_dcase(folder, "pump")
    with pytest.raises(FileNotFoundError, match="no machine in '.*train': no folder such as 'fan'"):
        load_dcase(folder / "fan" / "train")
    with pytest.raises(ValueError, match="There is no id_06, but id_00, id_02"):
        load_dcase(folder, "fan", ids=[0, 6])
    with pytest.raises(ValueError, match=re.escape("ids='id_00' must be a list")):
        load_dcase(folder, "fan", ids="id_00")
    with pytest.raises(ValueError, match="subset"):
        load_dcase(folder, "fan", subset="eval")
    (folder / "empty" / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no train clips in .* 'empty/train/normal_id_00_"):
        load_dcase(folder, "empty")


# ---- the challenge's table --------------------------------------------------------------------


def scored(n_normal, n_anomalous, seed):
    rng = np.random.RandomState(seed)
    y = np.repeat([0, 1], [n_normal, n_anomalous])
    return y, rng.randn(len(y)) + y


@pytest.mark.parametrize("max_fpr", [0.1, 0.25])
def test_the_partial_area_is_the_papers_rescaled_so_that_chance_is_a_half(max_fpr):
    y, scores = scored(20, 11, 0)
    p, area = max_fpr, max_fpr * partial_roc_auc(y, scores, max_fpr=max_fpr)
    table = dcase_auc(y, scores, ["id_00"] * 31, max_fpr=max_fpr)
    assert list(table.index) == ["id_00", "Average"]
    assert table.loc["id_00", "AUC"] == pytest.approx(roc_auc_score(y, scores))
    wanted = (1 + (area - p**2 / 2) / (p - p**2 / 2)) / 2
    assert table.loc["id_00", "pAUC"] == pytest.approx(wanted)


def test_machines_are_ranked_among_themselves_and_their_mean_is_last():
    parts = [scored(20, 12, seed) for seed in (1, 2)]
    y = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([parts[0][1], 100 + 50 * parts[1][1]])
    order = np.random.RandomState(0).permutation(len(y))
    names = np.repeat(["id_06", "id_02"], 32)
    table = dcase_auc(y[order], scores[order], names[order])
    assert list(table.index) == ["id_02", "id_06", "Average"]
    for name, part in zip(("id_06", "id_02"), parts, strict=True):
        assert table.loc[name, "AUC"] == pytest.approx(roc_auc_score(*part))
    np.testing.assert_allclose(table.loc["Average"], table.iloc[:2].mean())


def test_mistakes_in_the_table_name_the_machine():
    with pytest.raises(ValueError, match="Machine id_02: All 2 rows have y = 1"):
        dcase_auc([0, 1, 1, 1], [0.0, 1.0, 2.0, 3.0], ["id_00"] * 2 + ["id_02"] * 2)
    with pytest.raises(ValueError, match="Machine 0: .*NaN"):
        dcase_auc([0, 1], [0.0, np.nan], [0, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        dcase_auc([0, 1], [0.0, 1.0], [0])
