"""A code such as -9999 among the numbers of a column ruins nothing, and is named in a warning."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KernelDensity

from skgenad import Autoencoder, DataWarning
from skgenad._core.sentinels import Sentinels, without_sentinels
from skgenad._core.units import ColumnMoments
from skgenad.compat import ScoreDetector

from ._settings import DETECTORS, EVERY, normal_rows, over_variants, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)


def with_values(values, column=1, n=200, kind=np.float64):
    """Rows (n, 4) with these values in one column, and the same with the nearest of the others."""
    X = normal_rows(n).astype(kind)
    usual = np.delete(X[:, column], range(len(values)))
    X[: len(values), column] = values
    clipped = X.copy()
    clipped[:, column] = np.clip(X[:, column], usual.min(), usual.max())
    return X, clipped


def found(*columns):
    X = np.column_stack(columns).astype(float)
    return Sentinels.of(X, ColumnMoments.of(X))


CODES = {
    "one": [-9999.0],
    "two sides": [-9999.0, 99999.0],
    "a 1e30 beside it": [1e30, -9999.0],
    "beyond float64's squares": [1e300, -1e300],
    "float64's largest": [np.finfo(np.float64).max],
    "in 2 % of the rows": [-9999.0] * 4,
    "four values": [-9999.0, -9998.0, 9998.0, 9999.0],
}


# ---- what is taken for a sentinel -----------------------------------------------------------


@pytest.mark.parametrize("values", CODES.values(), ids=CODES)
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_training_rows_have_the_nearest_other_value(values, kind):
    if kind == np.float32:
        values = np.clip(values, -1e38, 1e38)
    X, clipped = with_values(values, kind=kind)
    before = X.copy()
    with pytest.warns(DataWarning):
        rows, moments = without_sentinels(X)
    np.testing.assert_array_equal(rows, clipped)
    np.testing.assert_array_equal(X, before)
    for got, expected in zip(moments, ColumnMoments.of(clipped), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_ordinary_rows_are_the_same_array():
    X = normal_rows(200)
    assert without_sentinels(X)[0] is X


@pytest.mark.parametrize("n", [3, 5, 10, 30, 100, 500, 3000])
def test_ordinary_columns_have_none(n):
    rng = np.random.RandomState(n)
    for _ in range(20):
        columns = [
            rng.randn(n),
            rng.lognormal(size=n),
            rng.exponential(size=n),
            rng.standard_t(3, size=n),
            rng.poisson(0.5, size=n),
            rng.rand(n) < 0.02,
            1e9 + rng.rand(n),
            np.full(n, 7.0),
            100 * (rng.rand(n) < 0.3) + rng.randn(n),
        ]
        assert not len(found(*columns).columns)


def test_among_a_handful_of_rows_there_are_none():
    assert not len(found([0.779461, 0.781198, -1.58269]).columns)


def test_a_few_rows_of_a_flag_are_none():
    flag = np.r_[np.full(3, 1000.0), np.ones(10), np.zeros(487)]
    assert not len(found(flag).columns)


def test_a_second_mode_of_many_rows_is_none():
    rng = np.random.RandomState(0)
    for n, expected in ((10, 1), (100, 0)):
        assert len(found(rng.randn(1000) + 1e6 * (np.arange(1000) < n)).columns) == expected


def test_far_values_that_spoil_little_are_only_named():
    X, _ = with_values([0.0])
    X[0, 1] = X[1:, 1].mean() - 70 * X[1:, 1].std()
    with pytest.warns(DataWarning, match="taken all rows as they are"):
        rows, _ = without_sentinels(X)
    assert rows is X
    X[0, 1] = X[1:, 1].mean() - 20 * X[1:, 1].std()  # nor are these named
    assert without_sentinels(X)[0] is X


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3, 0.45])
@pytest.mark.parametrize("codes", [[-9999.0], [-9999.0, -8888.0], [-999.0, 7777.0]])
def test_a_code_in_many_rows_is_named_and_left(share, codes):
    X = normal_rows(400)
    places = np.random.RandomState(0).permutation(400)[: int(400 * share)]
    X[places, 1] = np.resize(codes, len(places))
    numbers = f"column 1 holds .* in {len(places)} of 400 rows"
    with pytest.warns(DataWarning, match=f"{numbers}.* taken all rows as they are"):
        rows, _ = without_sentinels(X)
    assert rows is X


def test_a_zero_in_many_rows_far_below_all_others_is_named():
    X = 1000 + 5 * normal_rows(300)
    X[::13, 1] = 0
    with pytest.warns(DataWarning, match="column 1 holds 0 in 24 of 300 rows"):
        tiny("Mahalanobis").fit(X)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_ordinary_columns_with_a_frequent_value_have_none(n):
    rng = np.random.RandomState(n)
    for _ in range(10):
        often = rng.rand(n) < 0.2
        columns = [
            np.where(often, 0, rng.lognormal(size=n)),
            np.where(often, 0, 1000 + 100 * rng.randn(n)),
            rng.poisson(0.3, size=n) * 100,
            np.where(often, 100, rng.randint(3, size=n) * 10),
            np.where(often, 1.0, 0.0),
            rng.choice([0, 1, 50], size=n, p=[0.97, 0.01, 0.02]),
            rng.choice([0, 10, 20, 1000], size=n),
        ]
        assert not len(found(*columns[:6]).columns)
        assert not found(columns[6]).ruinous.any()


# ---- what the warning says ------------------------------------------------------------------


def test_the_warning_names_column_values_and_what_to_write():
    X, _ = with_values([-9999.0, -9999.0])
    with pytest.warns(DataWarning, match=r"column 1 holds -9999 in 2 of 200 rows") as caught:
        tiny("Mahalanobis").fit(X)
    assert len(caught) == 1
    assert "X.replace(-9999, np.nan)" in str(caught[0].message)
    names = ["place", "time", "height", "weight"]
    with pytest.warns(DataWarning, match=r"column 'time' holds .* those of column 'time'"):
        tiny("Mahalanobis").fit(pd.DataFrame(X, columns=names))


def test_many_columns_and_values_make_no_long_warning():
    X = np.random.RandomState(0).randn(1000, 40)
    X[:9] = 1e6 + np.arange(9)[:, None]
    message = r"1e\+06, .*, \.\.\. in 9 of .*; 37 more columns do"
    with pytest.warns(DataWarning, match=message) as caught:
        without_sentinels(X)
    assert len(str(caught[0].message)) < 1200


# ---- what it means for detectors ------------------------------------------------------------


@over_variants(slowly=True)
def test_a_fit_is_that_of_the_rows_without_it(name, extra):
    X, clipped = with_values(CODES["a 1e30 beside it"])
    with pytest.warns(DataWarning) as caught:
        detector = tiny(name, **extra).fit(X)
    assert sum(w.category is DataWarning for w in caught) == 1
    other = tiny(name, **extra).fit(clipped)
    new = normal_rows(30, seed=1)
    np.testing.assert_array_equal(detector.score_samples(new), other.score_samples(new))
    np.testing.assert_array_equal(detector.units_.scale, other.units_.scale)
    assert np.isfinite(detector.score_samples(X)).all()


@all_detectors
@pytest.mark.parametrize("standardize", ["mixed", False])
def test_other_units_are_those_of_the_rows_without_it_too(detector, standardize):
    X, clipped = with_values([-9999.0] * 2, column=0)
    with pytest.warns(DataWarning):
        one = tiny(detector, standardize=standardize).fit(X / 1000)
    other = tiny(detector, standardize=standardize).fit(clipped / 1000)
    np.testing.assert_array_equal(one.score_samples(clipped), other.score_samples(clipped))


@pytest.mark.parametrize("detector", EVERY)
def test_every_detector_warns_once_or_once_for_each_of_its_models(detector):
    X, _ = with_values([-9999.0])
    with pytest.warns(DataWarning) as caught:
        tiny(detector).fit(X)
    n = 2 if detector.__name__ == "LikelihoodRatio" else 1
    assert sum(w.category is DataWarning for w in caught) == n


@all_detectors
def test_a_later_batch_is_trained_on_without_it(detector):
    X, clipped = with_values([-9999.0])
    one, other = tiny(detector).fit(normal_rows()), tiny(detector).fit(normal_rows())
    with pytest.warns(DataWarning):
        one.partial_fit(X)
    other.partial_fit(clipped)
    np.testing.assert_array_equal(one.score_samples(clipped), other.score_samples(clipped))


def test_rows_that_are_scored_are_far_out_however_far_they_are():
    X, _ = with_values([-9999.0])
    with pytest.warns(DataWarning):
        detector = tiny("Autoencoder", max_steps=200).fit(X)
    rows = np.repeat(X[50:51], 6, axis=0)
    rows[1:, 1] -= X[1:, 1].std() * np.logspace(1, 9, 5)
    assert (np.diff(detector.score_samples(rows)) < 0).all()
    assert detector.predict(X[:1]) == -1


def test_held_out_rows_are_scored_as_they_are():
    X, _ = with_values([-9999.0])
    for seed in range(20):
        detector = tiny("Mahalanobis", calibration_fraction=0.5, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                detector.fit(X)
            except DataWarning:  # the row is trained on
                continue
        break
    assert detector.calibration_scores_[0] < 10 * detector.calibration_scores_[1]


def test_estimators_of_others_are_fitted_without_it():
    X, clipped = with_values([-9999.0])
    kernels = KernelDensity(bandwidth=0.5)
    with pytest.warns(DataWarning):
        one = ScoreDetector(kernels, random_state=0).fit(X)
    other = ScoreDetector(kernels, random_state=0).fit(clipped)
    np.testing.assert_array_equal(one.score_samples(clipped), other.score_samples(clipped))


def test_pixels_are_bounded_and_have_none():
    X = np.random.RandomState(0).rand(200, 16) * 1e-3
    X[0, 0] = 1
    Autoencoder(image_shape=(1, 4, 4), max_steps=3, device="cpu").fit(X)
