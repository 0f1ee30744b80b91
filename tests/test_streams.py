"""Streams: `partial_fit` again and again keeps threshold, p-values, units and what was learnt."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback

from skgenad import Mahalanobis
from skgenad._core import reference, streams
from skgenad._core.streams import Batch, Reservoir, Stream
from skgenad._core.units import PixelUnits, StandardUnits

from ._settings import DETECTORS, normal_rows, over_variants, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)
all_variants = over_variants(slowly=True)
whole_family = pytest.mark.parametrize(
    "detector", [d for d in DETECTORS if not d.trained_by_gradients and d is not Mahalanobis]
)
HELD_OUT = 0.25


def flat_rows(n, seed=0):
    """Make rows near a plane in five columns of different units."""
    rng = np.random.RandomState(seed)
    plane = np.random.RandomState(9).randn(2, 5)
    return (rng.randn(n, 2) @ plane + 0.2 * rng.randn(n, 5)) * np.logspace(-2, 2, 5) + 3


def odd_rows(n, seed=0):
    """Make rows with a column that goes with the others no longer."""
    rows, rng = flat_rows(n, seed), np.random.RandomState(seed + 100)
    columns = rng.randint(5, size=n)
    rows[np.arange(n), columns] += 4 * rng.choice([-1, 1], n) * flat_rows(500).std(axis=0)[columns]
    return rows


NEW, ODD = flat_rows(400, seed=1), odd_rows(400, seed=2)


def area(detector):
    scores = detector.anomaly_score(np.concatenate([NEW, ODD]))
    return roc_auc_score(np.repeat([0, 1], 400), scores)


def flagged(detector):
    return float((detector.predict(NEW) == -1).mean())


# ---- what later calls change ----------------------------------------------------------------


@all_variants
@pytest.mark.parametrize("n", [1, 10])
def test_a_few_rows_more_change_little(name, extra, n):
    detector = tiny(name, **extra, calibration_fraction=HELD_OUT).fit(flat_rows(160))
    before = flagged(detector), area(detector)
    detector.partial_fit(flat_rows(n, seed=3))
    assert abs(flagged(detector) - before[0]) < 0.1
    assert abs(area(detector) - before[1]) < 0.06


@all_detectors
def test_p_values_are_valid_after_a_stream(detector):
    fitted = tiny(detector, calibration_fraction=HELD_OUT)
    for batch in np.array_split(flat_rows(400), 10):
        fitted.partial_fit(batch)
    assert len(fitted.calibration_scores_) == 100
    p = fitted.p_value(NEW)
    # The rate at 0.1 has a standard deviation of 0.03 by the rows held out and 0.015 by the new.
    assert (p <= 0.1).mean() < 0.1 + 3 * 0.034 and (p <= 0.5).mean() == pytest.approx(0.5, abs=0.2)
    assert flagged(fitted) == pytest.approx(0.1, abs=3 * 0.034)


@all_detectors
def test_rows_held_out_of_any_batch_have_no_part_in_training(detector):
    fitted = tiny(detector, calibration_fraction=HELD_OUT).fit(flat_rows(60))
    twin = copy.deepcopy(fitted)
    for _ in range(3):  # of rows that come one by one every fourth is held out
        fitted.partial_fit(flat_rows(1, seed=5))
    scores, n_held_out = fitted.score_samples(NEW), len(fitted.calibration_scores_)
    fitted.partial_fit(flat_rows(1, seed=6) + 1e6)
    np.testing.assert_array_equal(fitted.score_samples(NEW), scores)
    assert len(fitted.calibration_scores_) == n_held_out + 1
    # A batch of four rows has the same share.
    twin.partial_fit(flat_rows(4, seed=5))
    assert len(twin.calibration_scores_) == n_held_out + 1


@all_detectors
@pytest.mark.filterwarnings("ignore::skgenad.DataWarning")  # rows far from all before
def test_without_rows_held_out_the_threshold_comes_from_all_rows_so_far(detector):
    fitted = tiny(detector, calibration_fraction=0.0, contamination=0.2).fit(flat_rows(60))
    fitted.partial_fit(flat_rows(1, seed=1) + 50)
    rows = np.concatenate([part.rows for part in fitted._stream.learnt()])
    assert len(rows) == 61 and fitted.calibration_scores_ is None
    assert fitted.offset_ == np.percentile(fitted.score_samples(rows), 20)


@all_detectors
def test_the_same_stream_gives_the_same_bits(detector):
    one, other = (tiny(detector, calibration_fraction=HELD_OUT, random_state=3) for _ in range(2))
    for batch in np.array_split(flat_rows(90), 5):
        one.partial_fit(batch)
        other.partial_fit(batch)
    np.testing.assert_array_equal(one.decision_function(NEW), other.decision_function(NEW))
    np.testing.assert_array_equal(one.p_value(NEW), other.p_value(NEW))


@pytest.mark.parametrize("way", ["partial_fit", "fit"])
@pytest.mark.parametrize("detector", [d for d in DETECTORS if d.trained_by_gradients])
def test_who_scores_meanwhile_sees_the_detector_as_it_was(detector, way):
    fitted, seen = tiny(detector, warm_start=True).fit(flat_rows(40)), []
    before = fitted.decision_function(NEW)

    class Scores(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(fitted.decision_function(NEW))

    fitted.set_params(callbacks=[Scores()])
    getattr(fitted, way)(flat_rows(60, seed=1) * 2)
    assert seen and all(np.array_equal(scores, before) for scores in seen)
    assert not np.array_equal(fitted.decision_function(NEW), before)


@all_detectors
def test_fresh_rows_take_the_place_of_those_held_out(detector):
    fitted = tiny(detector, calibration_fraction="auto").fit(flat_rows(80))
    fitted.calibrate(flat_rows(50, seed=4)).partial_fit(flat_rows(1, seed=5))
    kept = fitted._stream.held_out.rows
    np.testing.assert_array_equal(kept[:50], flat_rows(50, seed=4))
    scores = np.sort(fitted.score_samples(kept))
    np.testing.assert_array_equal(fitted.calibration_scores_, scores)


# ---- cost and memory ------------------------------------------------------------------------


def test_twenty_batches_take_little_more_than_two_fits():
    detector = tiny("Autoencoder", max_steps=100)
    for batch in np.array_split(flat_rows(400), 20):
        detector.partial_fit(batch)
    steps = detector.history_.groupby((detector.history_["epoch"] == 1).cumsum())["step"].max()
    assert len(steps) == 20 and steps.iloc[0] == 100 and 200 < steps.sum() < 250


@all_detectors
def test_memory_is_bounded(detector, monkeypatch):
    monkeypatch.setattr(streams, "MOST_KEPT_ROWS", 30)
    monkeypatch.setattr(reference, "MOST_ROWS", 30)
    fitted, sizes = tiny(detector, calibration_fraction=HELD_OUT), []
    for k in range(6):
        fitted.partial_fit(flat_rows(200, seed=k))
        history, fitted.history_ = fitted.history_, fitted.history_.iloc[:0]
        sizes.append(len(pickle.dumps(fitted)))
        fitted.history_ = history
    assert len(fitted._stream.train) <= 35 and len(fitted._stream.held_out) == 30
    assert fitted._stream.n_rows == 1200
    # Buffers of chains may still grow; the rows of three batches would take 24,000 bytes.
    assert sizes[-1] < sizes[2] + 6000


def test_pixels_are_kept_as_they_came():
    X = (255 * np.random.RandomState(0).rand(40, 16)).astype(np.uint8)
    detector = tiny("Autoencoder", image_shape=(1, 4, 4)).fit(X)
    assert detector._stream.train.rows.dtype == np.uint8
    detector.partial_fit(X[:7] / 255)
    rows = detector._stream.train.rows
    np.testing.assert_array_equal(detector.units_.to_standard(rows[:40]), PixelUnits.levels(X))
    assert rows.dtype.kind == "f" and rows.max() <= 1 and len(rows) == 47


# ---- samples --------------------------------------------------------------------------------


def test_a_reservoir_is_a_uniform_sample_however_rows_are_divided(monkeypatch):
    monkeypatch.setattr(streams, "MOST_KEPT_ROWS", 10)
    rows, kept = np.arange(100.0)[:, None], np.zeros(100)
    for seed in range(300):
        rng, reservoir = np.random.default_rng(seed), Reservoir()
        for part in np.split(rows, [7, 67, 68]):
            reservoir = reservoir.take(rng, part, np.arange(len(part)), part[:, 0].astype(int))
        assert len(reservoir) == 10 and reservoir.n_seen == 100
        np.testing.assert_array_equal(reservoir.rows[:, 0], reservoir.labels)
        assert len(np.unique(reservoir.labels)) == 10
        kept[reservoir.labels] += 1
    # 30 of each are expected, with a standard deviation of 5.2.
    assert kept.min() > 30 - 4.5 * 5.2 and kept.max() < 30 + 4.5 * 5.2


def test_wide_rows_are_kept_in_fewer(monkeypatch):
    monkeypatch.setattr(streams, "MOST_KEPT_NUMBERS", 100)
    rng, rows = np.random.default_rng(0), np.zeros((50, 20))
    assert len(Reservoir().take(rng, rows, np.arange(50))) == 5


def test_what_was_kept_never_changes():
    rng, rows = np.random.default_rng(0), flat_rows(20)
    one = Reservoir().take(rng, rows, np.arange(20))
    copied = one.rows.copy()
    rows[:] = 0
    one.take(rng, flat_rows(5), np.arange(5))
    np.testing.assert_array_equal(one.rows, copied)


def test_a_stream_counts_all_rows():
    rows, nowhere = flat_rows(20), np.arange(0)
    batch = Batch(rows, None, np.arange(12), np.arange(12, 20), flat_rows(3))
    stream = Stream().take(batch, 0).take(batch._replace(held_out=rows[:0]), 1)
    assert stream.n_rows == 43 and stream.is_complete
    assert [len(part) for part in stream.learnt()] == [24, 16] and len(stream.held_out) == 3
    alone = Stream().take(Batch(rows, None, nowhere, nowhere, rows), 0)
    assert alone.learnt() == [] and alone.n_rows == 20


# ---- units ----------------------------------------------------------------------------------


@all_variants
@pytest.mark.parametrize("standardize", ["auto", "mixed"])
def test_units_follow_whenever_rows_have_doubled(name, extra, standardize):
    X = flat_rows(120)
    X = X[np.argsort(X[:, 0])]
    fitted = tiny(name, **extra, standardize=standardize, calibration_fraction=0.0).fit(X[:30])
    before = fitted.units_
    if not fitted._units_follow:
        return
    assert fitted.partial_fit(X[30:59]).units_ is before
    fitted.partial_fit(X[59:60])
    wanted = StandardUnits.of(X[:60], mixed=standardize == "mixed")
    np.testing.assert_allclose(fitted.units_.mean, wanted.mean)
    np.testing.assert_allclose(fitted.units_.scale, wanted.scale)
    before = fitted.units_
    assert fitted.partial_fit(X[60:119]).units_ is before
    assert fitted.partial_fit(X[119:]).units_ is not before


@all_variants
@pytest.mark.parametrize("standardize", ["auto", False])
def test_a_column_that_begins_to_vary_is_learnt_at_once(name, extra, standardize):
    unit = np.logspace(-2, 2, 5)
    X, more, new = ((flat_rows(n, seed=n) - 3) / unit for n in (60, 20, 50))
    X[:, 2] = 0.5
    fitted = tiny(name, **extra, standardize=standardize, calibration_fraction=0.0).fit(X)
    fitted.partial_fit(more)
    if hasattr(fitted, "sample"):
        assert np.ptp(fitted.sample(50, random_state=0)[:, 2]) > 0
    if fitted._units_follow:
        assert fitted.units_.scale[2] > 0
        far = fitted.score_samples(new + [0, 0, 1e4, 0, 0])
        assert np.median(fitted.score_samples(new)) > np.median(far)


@all_detectors
def test_frozen_units_stay(detector):
    fitted = tiny(detector, standardize="frozen").fit(flat_rows(60))
    same = tiny(detector).fit(flat_rows(60))
    np.testing.assert_array_equal(fitted.score_samples(NEW), same.score_samples(NEW))
    mean, scale = fitted.units_.mean.copy(), fitted.units_.scale.copy()
    fitted.partial_fit(flat_rows(60, seed=1) + 100)
    np.testing.assert_array_equal(fitted.units_.mean, mean)
    np.testing.assert_array_equal(fitted.units_.scale, scale)


def test_units_may_be_frozen_later():
    detector = tiny("VAE").fit(flat_rows(60))
    mean = detector.units_.mean.copy()
    detector.set_params(standardize="frozen").partial_fit(flat_rows(60, seed=1) + 100)
    np.testing.assert_array_equal(detector.units_.mean, mean)


def test_a_column_that_varied_once_keeps_its_unit():
    X = flat_rows(40)
    X[:, 0] = 5
    one, all_the_same = StandardUnits.of(flat_rows(40)), StandardUnits.of(X)
    kept = all_the_same.kept_where_lost(one)
    assert kept.scale[0] == one.scale[0] and kept.mean[0] == one.mean[0]
    np.testing.assert_array_equal(kept.scale[1:], all_the_same.scale[1:])
    np.testing.assert_array_equal(one.kept_where_lost(all_the_same).scale, one.scale)


def test_rows_go_over_to_other_units():
    X, Y = flat_rows(50), 3 * flat_rows(50, seed=1) + 1
    X[:, 2] = 7
    one, other = StandardUnits.of(X), StandardUnits.of(np.concatenate([X, Y]))
    factor, shift = one.seen_from(other)
    np.testing.assert_allclose(factor * one.to_standard(X) + shift, other.to_standard(X), atol=1e-4)


def test_moments_go_over_to_other_units():
    X = flat_rows(120)
    X = X[np.argsort(X[:, 0])]
    X[:15, 1] = 2.0  # constant in the first batch
    fitted = Mahalanobis(device="cpu", shrinkage=0.3, calibration_fraction=0.0)
    for batch in np.array_split(X, 8):
        fitted.partial_fit(batch)
    whole = Mahalanobis(device="cpu", shrinkage=0.3, calibration_fraction=0.0).fit(X)
    np.testing.assert_allclose(fitted.score_samples(NEW), whole.score_samples(NEW), rtol=1e-4)
    np.testing.assert_allclose(fitted.covariance_, whole.covariance_, rtol=1e-4, atol=1e-9)


@all_detectors
def test_a_sorted_stream_teaches_nearly_what_all_rows_do(detector):
    X = flat_rows(320)
    whole, fitted = tiny(detector).fit(X), tiny(detector)
    for batch in np.array_split(X[np.argsort(X[:, 0])], 8):
        fitted.partial_fit(batch)
    assert area(fitted) > area(whole) - 0.06
    assert flagged(fitted) == pytest.approx(0.1, abs=0.1)


@whole_family
def test_what_is_kept_of_many_rows_weighs_as_much_as_they_do(detector, monkeypatch):
    """Anchors and components taken anew from a sample let later rows in as before."""
    monkeypatch.setattr(streams, "MOST_KEPT_ROWS", 20)
    X = flat_rows(600)
    X[:, 0] = np.repeat([0.0, 1.0], 300)
    fitted = tiny(detector, calibration_fraction=0.0)
    for batch in np.array_split(X, 30):
        fitted.partial_fit(batch)
    if hasattr(fitted.module_, "anchors"):
        rows = fitted.units_.from_standard(fitted.module_.anchors.rows.numpy())
        assert 5 <= (rows[:, 0] > 0.5).sum() <= 25  # of 30, with a standard deviation of 2.7
    else:
        assert float(fitted.module_.mixtures[0].counts.sum()) == pytest.approx(600)


# ---- files ----------------------------------------------------------------------------------


@all_variants
def test_a_loaded_detector_goes_on(name, extra, tmp_path):
    fitted = tiny(name, **extra, calibration_fraction=HELD_OUT).fit(flat_rows(160))
    fitted.save(tmp_path / "detector")
    loaded = type(fitted).load(tmp_path / "detector")
    before, scores, offset = area(loaded), loaded.calibration_scores_, loaded.offset_
    loaded.partial_fit(flat_rows(4, seed=3))
    assert area(loaded) > before - 0.1 and flagged(loaded) == pytest.approx(
        flagged(fitted), abs=0.1
    )
    # Until enough rows have been held out, those of the file count.
    np.testing.assert_array_equal(loaded.calibration_scores_, scores)
    assert loaded.offset_ == offset
    loaded.partial_fit(flat_rows(160, seed=4))
    assert len(loaded.calibration_scores_) == 41 and loaded.offset_ != offset
    assert loaded._stream.n_rows == 324


def test_files_hold_no_rows_but_for_explanations(tmp_path):
    small, large = (tiny("Autoencoder").fit(flat_rows(n)).forget_rows() for n in (50, 3000))
    for detector, name in ((small, "small"), (large, "large")):
        detector.save(tmp_path / name)
    sizes = [(tmp_path / name).stat().st_size for name in ("small", "large")]
    assert abs(sizes[1] - sizes[0]) < 1000


def test_torch_draws_nothing_of_the_callers(tmp_path):
    detector = tiny("Autoencoder").fit(flat_rows(60))
    state, numpys = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    detector.partial_fit(flat_rows(9))
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)


@pytest.mark.parametrize("first", [2, 5])
def test_a_stream_that_begins_with_few_rows_has_p_values_once_enough_are_held_out(first):
    X = normal_rows(200)
    detector = tiny("Mahalanobis", calibration_fraction="auto").partial_fit(X[:first])
    with pytest.raises(ValueError, match="No rows were held out .* or fit more rows"):
        detector.p_value(X)
    for start in range(10, 50, 5):
        detector.partial_fit(X[start : start + 5])
    with pytest.raises(ValueError, match="8 rows have been held out of .* takes 20. Go on"):
        detector.p_value(X)
    for start in range(50, 120, 5):
        detector.partial_fit(X[start : start + 5])
    assert len(detector.calibration_scores_) == 22
    assert detector.p_value(X).min() > 0
