"""The benchmark of sounds: rows of clips, what is made up of them, intervals over clips."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from skgenad.benchmark import ResultsFile

soundfile = pytest.importorskip("soundfile")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def dcase(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("dcase")


def frames_of(n_clips=6, n_frames=70, n_bands=20, seed=0):
    rng = np.random.RandomState(seed)
    return [rng.randn(n_frames, 5 * n_bands).astype(np.float32) for _ in range(n_clips)]


def test_rows_of_clips(dcase):
    clips = frames_of()
    assert dcase.rows_of("frame", clips) is clips
    (one, *_), (seconds, *_) = dcase.rows_of("clip", clips), dcase.rows_of("second", clips)
    np.testing.assert_allclose(one, clips[0].mean(axis=0, keepdims=True))
    assert seconds.shape == (2, 100)
    np.testing.assert_allclose(seconds[0], clips[0][:35].mean(axis=0), rtol=1e-5)


def test_what_is_made_up_changes_a_few_bands_of_all_frames_alike(dcase):
    clips = frames_of(2)
    found = dcase.made_up(clips, 0)
    assert len(found) == 2 * dcase.N_COPIES
    for k, copy in enumerate(found):
        gain = copy - clips[k // dcase.N_COPIES]
        np.testing.assert_allclose(gain, gain[:1].repeat(70, axis=0), atol=1e-5)
        bands = gain[0].reshape(5, 20)
        np.testing.assert_allclose(bands, bands[:1].repeat(5, axis=0), atol=1e-5)
        assert 0.3 < np.abs(bands).max() <= dcase.DECIBELS[1] + 1e-4


def test_a_method_that_sees_bands_tells_what_is_made_up(dcase):
    quiet = [0.01 * clip for clip in frames_of(12)]
    method = dcase.METHODS["Mahalanobis, frames"]
    assert dcase.contrast(method, quiet) > 0.9


def test_a_cell_has_a_row_for_each_machine(dcase):
    sounds = importlib.import_module("_sounds")
    clips, other = frames_of(20), frames_of(16, seed=1)
    y = np.tile([1, 0, 0, 1], 4)
    test = [clip + 3 * label for clip, label in zip(other, y, strict=True)]
    ids = np.repeat(["id_00", "id_02"], 8)
    given = sounds.Clips(clips, test, y, ids)
    rows = list(dcase.compute(given, "made", dcase.REFERENCE, 1))
    assert [row["machine_id"] for row in rows] == ["id_00", "id_02"]
    for row in rows:
        assert (row["n_train"], row["n_normal"], row["n_anomalous"], row["auc"]) == (20, 4, 4, 1)
        scores = np.array(row["scores"].split(), dtype=float)
        assert scores[:4].max() < scores[4:].min()


def test_any_folder_in_the_challenges_layout_is_measured(dcase, tmp_path, monkeypatch, capsys):
    rng, home = np.random.RandomState(0), tmp_path / "dev_data"
    for machine, ids in (("fan", ("00", "02")), ("valve", ("00",))):
        for part in ("train", "test"):
            (home / machine / part).mkdir(parents=True)
        for i in ids:
            for k in range(6):
                wave = 0.1 * rng.randn(8000)
                soundfile.write(home / machine / "train" / f"normal_id_{i}_{k}.wav", wave, 16000)
                for kind, factor in (("normal", 1), ("anomaly", 2)):
                    name = f"{kind}_id_{i}_{k}.wav"
                    soundfile.write(home / machine / "test" / name, factor * wave[::-1], 16000)
    names, columns = ("Mahalanobis, clip means", dcase.REFERENCE), dcase.ROWS.columns
    rows = ResultsFile(tmp_path / "dcase" / "rows.csv", key=dcase.NAMED, columns=columns)
    monkeypatch.setattr(dcase, "ROWS", rows)
    for _ in range(2):  # what is there is not computed again
        dcase.run(folder=home, methods=";".join(names), collections="", seeds=1, jobs=1)
    found = rows.read()
    assert list(found["collection"].unique()) == ["dev_data/fan", "dev_data/valve"]
    assert len(found) == 2 * 3 and (found["auc"] == 1).all()
    dcase.tables()
    text = (tmp_path / "dcase.md").read_text()
    assert "| method | id_00 | id_02 | Average |" in text
    assert text.count("100.00 (100.00)") == 2 * 3 + 2 * 2


def test_intervals_are_those_of_a_bootstrap_over_clips(dcase):
    rng = np.random.RandomState(0)
    y, scores = np.repeat([0, 1], [30, 50]), rng.randn(80).round(1)
    scores[30:] += 0.5
    row = {"n_normal": 30, "n_anomalous": 50, "scores": " ".join(map(str, scores))}
    found = dcase.resampled(pd.DataFrame([row]))
    assert found.mean() == pytest.approx(roc_auc_score(y, scores), abs=0.01)
    spread = []
    for _ in range(400):
        low, high = rng.choice(scores[:30], 30), rng.choice(scores[30:], 50)
        spread.append(roc_auc_score(y, np.concatenate([low, high])))
    assert found.std() == pytest.approx(np.std(spread), rel=0.15)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_models_of_the_benchmark_see_what_they_are_to_see(dcase):
    sounds = importlib.import_module("_sounds")
    rng = np.random.RandomState(0)
    base = rng.randn(400, 2) @ rng.randn(2, 10) + 0.01 * rng.randn(400, 10)
    off = base[:5] + rng.randn(5, 10)
    pca = sounds.PCAError(2).fit(base)
    assert pca.score_samples(off).max() < pca.score_samples(base).min()
    # The middle two columns follow from the others: one that does not is an anomaly.
    idnn = sounds.IDNN(60, random_state=0).fit(base)
    odd = base[:50].copy()
    odd[:, 4:6] = base[50:100, 4:6]
    assert np.median(idnn.score_samples(odd)) < np.quantile(idnn.score_samples(base), 0.1)
