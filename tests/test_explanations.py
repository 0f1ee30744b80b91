"""Explanations: repaired rows, and contributions of columns that add up."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

import skgenad
from skgenad import (
    Autoencoder,
    Committee,
    GaussianMixtures,
    KernelDenoiser,
    LocalGaussian,
    Mahalanobis,
    Neighbors,
)
from skgenad._core import reference
from skgenad._core.contributions import _plan, contributions
from skgenad._core.repairs import Repairs
from skgenad._core.units import StandardUnits
from skgenad.compat import PyODDetector, ScoreDetector, as_pyod
from skgenad.networks import Conv

from ._files import rewrite
from ._settings import EVERY, normal_rows, over_variants, tiny

every_detector = pytest.mark.parametrize("detector", EVERY)
# Those that are made of several models; ScoreDetector is that of other estimators.
all_variants = over_variants("Committee", "LikelihoodRatio")


def odd_rows(X, seed=1):
    """Make rows like those of X, of which some have columns of others, or far off."""
    rng = np.random.RandomState(seed)
    rows = X[rng.permutation(len(X))[:8]] + 1e-3 * X.std(axis=0)
    rows[:4, 1] = X[rng.permutation(len(X))[:4], 1]
    rows[2:6, 2] += 9 * X.std(axis=0)[2]
    rows[5] = X.mean(axis=0) + 30 * X.std(axis=0)
    return rows


def near(expected):
    """Tolerance of sums of energies."""
    return {"rtol": 1e-6, "atol": 1e-9 * np.abs(expected).max()}


# ---- every detector -------------------------------------------------------------------------


@all_variants
def test_contributions_add_up_and_repaired_rows_keep_to_the_range(name, extra):
    X = normal_rows()
    detector, rows = tiny(name, **extra).fit(X), odd_rows(X)
    values, repaired = detector.explain(rows), detector.repair(rows)
    assert values.shape == repaired.shape == rows.shape
    assert values.dtype == repaired.dtype == np.float64
    gain = detector.score_samples(repaired) - detector.score_samples(rows)
    assert_allclose(values.sum(axis=1), gain, **near(detector.score_samples(rows)))
    assert (values[repaired == rows] == 0).all()
    assert (repaired >= X.min(axis=0)).all() and (repaired <= X.max(axis=0)).all()
    clipped = np.clip(rows, X.min(axis=0), X.max(axis=0))
    assert (detector.score_samples(repaired) >= detector.score_samples(clipped)).all()


@every_detector
def test_an_explanation_depends_on_its_row_alone(detector):
    X = normal_rows()
    fitted, rows = tiny(detector).fit(X), odd_rows(X)
    for method in (fitted.explain, fitted.repair):
        whole = method(rows)
        assert_array_equal(np.concatenate([method(row[None]) for row in rows]), whole)
        assert_array_equal(method(rows[::-1])[::-1], whole)


@every_detector
def test_copies_and_files_explain_bitwise_the_same(detector, tmp_path):
    X = normal_rows()
    fitted, rows = tiny(detector).fit(X), odd_rows(X)
    fitted.save(tmp_path / "file")
    for twin in (pickle.loads(pickle.dumps(fitted)), skgenad.load(tmp_path / "file")):
        assert_array_equal(twin.explain(rows), fitted.explain(rows))
        assert_array_equal(twin.repair(rows), fitted.repair(rows))


@every_detector
def test_frames_come_back_as_frames(detector):
    frame = pd.DataFrame(normal_rows(), columns=list("abcd"))
    fitted = tiny(detector).fit(frame)
    rows = pd.DataFrame(odd_rows(frame.to_numpy()), columns=list("abcd"), index=range(3, 11))
    repaired = fitted.repair(rows)
    pd.testing.assert_index_equal(repaired.index, rows.index)
    gain = fitted.score_samples(repaired) - fitted.score_samples(rows)  # without a warning
    assert_allclose(fitted.explain(rows).sum(axis=1), gain, **near(fitted.score_samples(rows)))
    alone = tiny(detector).fit(frame.to_numpy())
    assert_array_equal(alone.explain(rows.to_numpy()), fitted.explain(rows))


@every_detector
def test_groups_add_up_and_are_changed_together(detector):
    X = normal_rows()
    fitted, rows = tiny(detector).fit(X), odd_rows(X)
    groups = ["size", "kind", "size", "kind"]
    values, repaired = fitted.explain(rows, groups=groups), fitted.repair(rows, groups=groups)
    assert values.shape == (8, 2)
    gain = fitted.score_samples(repaired) - fitted.score_samples(rows)
    assert_allclose(values.sum(axis=1), gain, **near(fitted.score_samples(rows)))
    for columns in ([0, 2], [1, 3]):
        # A repaired group is that of a training row, or was cut off at the range.
        cut = np.clip(rows, X.min(axis=0), X.max(axis=0))[:, columns]
        known = (repaired[:, None, columns] == X[:, columns]).all(axis=2).any(axis=1)
        assert (known | (repaired[:, columns] == cut).all(axis=1)).all()
    assert_array_equal(fitted.explain(rows, groups=[3, 2, 1, 0]), fitted.explain(rows))
    with pytest.raises(ValueError, match=r"groups of shape \(3,\) must have a label for each of 4"):
        fitted.explain(rows, groups=[0, 1, 1])
    with pytest.raises(ValueError, match="no label for column 2"):
        fitted.repair(rows, groups=["a", "a", None, "a"])


@every_detector
def test_what_is_not_fitted_explains_nothing(detector):
    for name in ("explain", "repair"):
        with pytest.raises(NotFittedError):
            getattr(tiny(detector), name)(normal_rows())


@pytest.mark.parametrize("detector", [Mahalanobis(), Neighbors(), LocalGaussian()])
def test_columns_in_another_order_have_the_same_contributions(detector):
    X = normal_rows(200, 6)
    rows, order = odd_rows(X), [3, 0, 5, 1, 4, 2]
    detector.set_params(random_state=0)  # which rows are held out
    values = detector.fit(X).explain(rows)
    assert_allclose(detector.fit(X[:, order]).explain(rows[:, order]), values[:, order], rtol=1e-3)


# ---- what is right --------------------------------------------------------------------------


class Columnwise(BaseEstimator):
    """Energy that is a sum over columns."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def terms(self, X):
        return np.abs(X) ** 1.5 * np.arange(1, X.shape[1] + 1)

    def score_samples(self, X):
        return -self.terms(X).sum(axis=1)


@pytest.mark.parametrize("d", [3, 12])
def test_columns_that_add_up_get_their_own_terms(d):
    rng = np.random.RandomState(0)
    X, rows = rng.randn(300, d), 2 * rng.randn(20, d)
    detector = ScoreDetector(Columnwise(), standardize=False).fit(X)
    repaired = detector.repair(rows)
    terms = Columnwise().terms
    assert (repaired != rows).sum(axis=1).max() > min(d - 1, 4)  # the way of many groups is seen
    # ScoreDetector's scores have the digits of float32.
    assert_allclose(detector.explain(rows), terms(rows) - terms(repaired), atol=1e-4)


def test_mahalanobis_of_uncorrelated_columns_is_a_sum_over_columns():
    rng = np.random.RandomState(0)
    Z = np.linalg.qr(np.c_[np.ones(400), rng.randn(400, 7)])[0][:, 1:]
    X = Z * np.sqrt(400) * np.arange(1, 8)
    detector = Mahalanobis(calibration_fraction=0).fit(X)
    rows = 2 * rng.randn(10, 7) * np.arange(1, 8)
    terms = [-((part / np.arange(1, 8)) ** 2) for part in (rows, detector.repair(rows))]
    unit = detector.score_samples(rows) / terms[0].sum(axis=1)
    assert_allclose(unit, unit[0], rtol=1e-4)
    assert_allclose(detector.explain(rows), unit[0] * (terms[1] - terms[0]), atol=2e-4)


def repairs_of(score, d):
    unit = np.ones(d)
    rows = np.random.RandomState(3).randn(50, d)
    return Repairs(score, rows, -9 * unit, 9 * unit, np.arange(d), StandardUnits.identity(d))


@pytest.mark.parametrize("d", [2, 4, 5, 11])
def test_energies_of_pairs_get_their_shapley_values(d):
    rng = np.random.RandomState(d)
    A = rng.randn(d, d)
    A = A + A.T
    x, r = rng.randn(2, 6, d)
    found = contributions(repairs_of(lambda X: -np.einsum("ni,ij,nj->n", X, A, X), d), x, r)
    step = x - r
    assert_allclose(found, 2 * (r @ A) * step + step * (step @ A), atol=1e-10)


def test_three_groups_get_the_mean_over_all_orders():
    from itertools import permutations

    def score(X):
        return -((X[:, 0] * X[:, 1] * X[:, 2]) ** 2) - np.exp(X[:, 0])

    x, r = np.random.RandomState(0).randn(2, 1, 3)
    expected = np.zeros(3)
    for order in permutations(range(3)):
        z = x.copy()
        for j in order:
            before = score(z)
            z[:, j] = r[:, j]
            expected[j] += (score(z) - before)[0] / 6
    assert_allclose(contributions(repairs_of(score, 3), x, r)[0], expected, atol=1e-12)


@pytest.mark.parametrize("m", [1, 3, 4, 5, 9])
def test_weights_telescope(m):
    coalitions, weights = _plan(m)
    assert coalitions.shape == weights.shape
    assert not coalitions[0].any()
    total = weights.sum(axis=1)
    empty, full = ~coalitions.any(axis=1), coalitions.all(axis=1)
    assert_allclose(total[empty].sum(), 1)
    assert_allclose(total[full].sum(), -1)
    assert_allclose(total[~empty & ~full], 0, atol=1e-12)


def related(n, seed=0):
    """Rows of five columns on a curve."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(-2, 2, n)
    X = np.column_stack([t, t**2, np.sin(2 * t), -t, np.cos(3 * t)])
    return X + 0.05 * rng.randn(n, 5)


FINDERS = [Autoencoder(max_steps=400), GaussianMixtures(), KernelDenoiser(), LocalGaussian()]
FINDERS += [Neighbors(), Committee()]


@pytest.mark.parametrize("detector", FINDERS, ids=lambda d: type(d).__name__)
def test_the_column_that_is_wrong_is_found_and_mended(detector):
    detector = detector.set_params(random_state=0).fit(related(600))
    new, rng = related(40, seed=1), np.random.RandomState(0)
    column = rng.randint(0, 5, 40)
    rows = new.copy()
    rows[np.arange(40), column] += 1.5
    repaired = detector.repair(rows)
    found = detector.explain(rows).argmax(axis=1) == column
    assert found.mean() > 0.8
    off = np.abs(repaired - new)[np.arange(40), column][found]
    assert np.median(off) < 0.4 and (detector.predict(repaired) == 1).mean() > 0.9
    assert ((repaired != rows).sum(axis=1) <= 3).mean() > 0.7  # few columns are touched


class Flat(Columnwise):
    """Energy of 1 wherever two columns or more are far off."""

    def score_samples(self, X):
        return -1.0 * ((np.abs(X) > 2).sum(axis=1) > 1)


def test_a_row_far_from_all_in_all_columns_becomes_one_of_the_training_rows():
    X = np.clip(np.random.RandomState(0).randn(200, 3), -2, 2)
    X[0], rows = 3.5, np.array([[3.0, 3.0, 3.0], [9.0, 9.0, 9.0]])  # within the range, and beyond
    detector = ScoreDetector(Flat(), standardize=False, calibration_fraction=0).fit(X)
    repaired = detector.repair(rows)
    assert (repaired[:, None] == X[1:]).all(axis=2).any(axis=1).all()
    assert (detector.score_samples(repaired) == 0).all()
    values = detector.explain(rows)
    assert_allclose(values.sum(axis=1), 1)
    assert_allclose(values, 1 / 3)  # the columns have the same part in it


def test_one_column_is_enough():
    detector = Neighbors().fit(np.random.RandomState(0).randn(100, 1))
    repaired = detector.repair([[9.0]])
    assert -2 < repaired[0, 0] < 2
    gain = detector.score_samples(repaired) - detector.score_samples([[9.0]])
    assert_allclose(detector.explain([[9.0]])[:, 0], gain)


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8, bool])
def test_rows_of_other_types(kind):
    X = np.random.RandomState(0).poisson(5, (100, 3)).astype(kind)
    detector = tiny("Mahalanobis").fit(X)
    rows = X[:4].copy()
    rows[1, 1] = 50
    repaired = detector.repair(rows)
    gain = detector.score_samples(repaired) - detector.score_samples(rows)
    assert_allclose(detector.explain(rows).sum(axis=1), gain, atol=1e-9)


def test_what_leaves_a_constant_column_is_brought_back():
    X = np.c_[normal_rows(100, 3), np.full(100, 0.1)]
    for kind in (np.float64, np.float32):
        detector = Neighbors().fit(X)
        rows = X[:3].astype(kind)
        rows[1, 3] = 5
        repaired = detector.repair(rows)
        assert_array_equal(repaired[:, 3], np.full(3, 0.1, dtype=kind))
        assert detector.explain(rows)[1].argmax() == 3


# ---- images ---------------------------------------------------------------------------------


def test_images_are_explained_in_patches():
    rng = np.random.RandomState(0)
    images = np.clip(0.5 + 0.1 * rng.randn(40, 2, 20, 12), 0, 1)
    detector = tiny("Autoencoder", image_shape=(2, 20, 12)).fit(images)
    odd = images[:3].copy()
    odd[:, :, 4:8, 4:8] = 1
    values, repaired = detector.explain(odd), detector.repair(odd)
    assert values.shape == repaired.shape == (3, 480)
    gain = detector.score_samples(repaired) - detector.score_samples(odd)
    assert_allclose(values.sum(axis=1), gain, **near(detector.score_samples(odd)))
    assert (repaired >= 0).all() and (repaired <= 1).all()
    maps = values.reshape(3, 2, 5, 4, 6, 2)  # patches of two by two pixels have pixels of both ends
    assert (values[repaired == odd.reshape(3, -1).astype(np.float32)] == 0).all()
    assert maps.any()
    of_pixels = detector.explain(odd, groups=np.arange(480) // 240)
    assert of_pixels.shape == (3, 2)


def test_uint8_images_are_the_same_as_floats():
    pixels = np.random.RandomState(0).randint(0, 256, (40, 1, 6, 6)).astype(np.uint8)
    detector = tiny("Autoencoder", image_shape=(1, 6, 6)).fit(pixels)
    floats = (pixels[:5] / 255).astype(np.float32)
    assert_array_equal(detector.explain(pixels[:5]), detector.explain(floats))
    assert detector.repair(pixels[:5]).max() <= 1
    convolutional = tiny("Autoencoder", image_shape=(1, 8, 8), network=Conv(width=1 / 16))
    fitted = convolutional.fit(np.random.RandomState(0).rand(30, 64))
    assert np.isfinite(fitted.explain(np.random.RandomState(1).rand(2, 1, 8, 8))).all()


# ---- rows that are kept ---------------------------------------------------------------------


@every_detector
def test_a_bounded_sample_of_the_training_rows_is_kept(detector, monkeypatch):
    monkeypatch.setattr(reference, "MOST_ROWS", 20)
    X = normal_rows()
    kept = tiny(detector).fit(X)._reference
    assert kept.rows.shape == (20, 4) and kept.sample.n_seen == 60
    assert (kept.rows[:, None] == X).all(axis=2).any(axis=1).all()
    assert_array_equal([kept.low, kept.high], [X.min(axis=0), X.max(axis=0)])
    assert len(np.unique(kept.rows, axis=0)) == 20


def test_wide_tables_keep_fewer_rows(monkeypatch):
    monkeypatch.setattr(reference, "MOST_NUMBERS", 200)
    assert tiny("Mahalanobis").fit(normal_rows())._reference.rows.shape == (50, 4)


@pytest.mark.parametrize("name", ["Autoencoder", "KernelDenoiser"])
def test_rows_of_later_batches_are_kept_too(name, tmp_path):
    X, more = normal_rows(), normal_rows(40, seed=1) * 2
    detector = tiny(name).fit(X).partial_fit(more)
    both = np.vstack([X, more])
    assert_array_equal(detector._reference.low, both.min(axis=0))
    assert detector._reference.sample.n_seen == len(detector._reference.rows) == 100
    detector.save(tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file").partial_fit(normal_rows(10, seed=2))
    assert loaded._reference.sample.n_seen == 110
    again = detector.set_params(warm_start=True).fit(X)
    if detector.trained_by_gradients:  # the table is all that counts now
        assert again._reference.sample.n_seen == 60


def test_normal_rows_may_be_given(tmp_path):
    X = normal_rows()
    detector, rows = tiny("Neighbors").fit(X), odd_rows(X)
    repaired = detector.repair(rows, reference=X[:10])
    known = (repaired[..., None] == X[:10].T).any(axis=2)
    ends = (repaired == X[:10].min(axis=0)) | (repaired == X[:10].max(axis=0))
    assert (known | ends | (repaired == rows)).all()
    values = detector.explain(rows, reference=X[:10])
    gain = detector.score_samples(repaired) - detector.score_samples(rows)
    assert_allclose(values.sum(axis=1), gain, atol=1e-9)
    detector.save(tmp_path / "file")
    rewrite(
        tmp_path / "file",
        lambda document: document["state"].pop("_reference"),
        lambda arrays: [arrays.pop(f"_reference.{name}") for name in ("rows", "low", "high")],
    )
    old = skgenad.load(tmp_path / "file")
    assert_array_equal(old.explain(rows, reference=X), detector.explain(rows, reference=X))
    with pytest.raises(ValueError, match="has kept no training rows.*reference=rows"):
        old.explain(rows)


def test_members_of_others_keep_no_rows():
    X = normal_rows()
    committee = tiny("Committee").fit(X)
    assert all("_reference" not in vars(each[0]) for each in _models(committee.members_.values()))
    ratio = tiny("LikelihoodRatio").fit(X)
    own = Mahalanobis().fit(X)
    assert not {"_reference"} & {*vars(ratio.detector_), *vars(ratio.general_)}
    from sklearn.frozen import FrozenEstimator

    skgenad.LikelihoodRatio(Mahalanobis(), FrozenEstimator(own)).fit(X)
    assert "_reference" in vars(own)  # the user's own


def _models(members):
    return [each if isinstance(each, list) else [each] for each in members]


BAD = {
    "no numbers": ({}, {"rows": np.zeros((3, 4), dtype=np.int64)}),
    r"normal rows of shape \(3, 2\) for 4": ({}, {"rows": np.zeros((3, 2))}),
    r"normal rows of shape \(0, 4\)": ({}, {"rows": np.zeros((0, 4))}),
    "outside of their range": ({}, {"low": np.full(4, 1e6)}),
    "holds NaN": ({}, {"rows": np.full((3, 4), np.nan)}),
    r"has the shape \(3,\)": ({}, {"high": np.zeros(3)}),
    "normal rows of 3 rows": ({"n_seen": 3}, {}),
    "normal rows of 'many' rows": ({"n_seen": "many"}, {}),
    "_reference cannot be read|no numbers": ({}, {"high": None}),
}


@pytest.mark.parametrize("message", BAD)
def test_files_with_rows_that_do_not_fit_are_refused(message, tmp_path):
    tiny("Mahalanobis").fit(normal_rows()).save(tmp_path / "file")
    state, changed = BAD[message]

    def change(arrays):
        for name, array in changed.items():
            arrays.pop(f"_reference.{name}")
            if array is not None:
                arrays[f"_reference.{name}"] = array

    rewrite(tmp_path / "file", lambda d: d["state"]["_reference"].update(state), change)
    with pytest.raises(ValueError, match=message):
        skgenad.load(tmp_path / "file")


# ---- estimators of others -------------------------------------------------------------------


def test_black_boxes_are_explained_by_their_scores():
    X = related(300)
    rows = related(30, seed=1)
    rows[:, 3] += 4
    detector = ScoreDetector(IsolationForest(random_state=0), random_state=0).fit(X)
    assert (detector.explain(rows).argmax(axis=1) == 3).mean() > 0.9


def test_detectors_of_pyod_explain(tmp_path):
    from pyod.models.knn import KNN

    X = related(300)
    rows = related(10, seed=1)
    rows[:, 3] += 4
    wrapped = PyODDetector(KNN()).fit(X)
    values = wrapped.explain(rows)
    assert (values.argmax(axis=1) == 3).all()
    gain = wrapped.score_samples(wrapped.repair(rows)) - wrapped.score_samples(rows)
    assert_allclose(values.sum(axis=1), gain, atol=1e-9)
    wrapped.save(tmp_path / "file")
    assert_array_equal(skgenad.load(tmp_path / "file").explain(rows), values)
    ours = as_pyod(Neighbors()).fit(X)
    fall = ours.decision_function(rows) - ours.decision_function(ours.repair(rows))
    assert_allclose(ours.explain(rows).sum(axis=1), fall, atol=1e-9)
    assert not hasattr(as_pyod(IsolationForest()), "explain")


@pytest.mark.parametrize("detector", EVERY)
def test_rows_are_forgotten_if_that_is_asked_for(detector, tmp_path):
    X = normal_rows(40)
    fitted = tiny(detector).fit(X)
    assert fitted.forget_rows() is fitted
    fitted.save(tmp_path / "without")
    for made in (fitted, skgenad.load(tmp_path / "without")):
        with pytest.raises(ValueError, match="reference="):
            made.explain(X[:1])
        assert made.repair(X[:1], reference=X).shape == X[:1].shape
    assert fitted.fit(X).explain(X[:1]).shape == X[:1].shape
