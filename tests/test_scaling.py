"""Standard units: scores do not depend on the units of columns, whatever the columns are."""

import copy
import pickle

import numpy as np
import pytest

from skgenad import DataWarning, KernelDenoiser, LocalGaussian, Mahalanobis
from skgenad._core.units import PixelUnits, StandardUnits

from ._settings import DETECTORS, normal_rows, over_variants, tiny

# Their scores are pure numbers, whatever the units of the rows.
UNITLESS = {KernelDenoiser, LocalGaussian, Mahalanobis}

all_detectors = pytest.mark.parametrize("detector", DETECTORS)
all_variants = over_variants()


def with_constants(n=60, d=4):
    """Rows (n, d + 2) with a column that is always 0 and one that is always 0.1."""
    return np.column_stack([normal_rows(n, d), np.zeros(n), np.full(n, 0.1)])


def standard(X, like=None):
    return StandardUnits.of(X).to_standard(X if like is None else like)


# ---- the units themselves -------------------------------------------------------------------


def test_columns_come_out_centred_and_scaled_in_float32():
    Z = standard(normal_rows())
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-6)


def test_mixed_units_lie_between_deviation_and_range():
    rng = np.random.RandomState(0)
    even, seldom = np.linspace(0, 1, 2001), rng.rand(2001) < 0.01
    X = np.column_stack([even, seldom, np.full(2001, 0.1)]).astype(float)
    plain, mixed = StandardUnits.of(X).scale, StandardUnits.of(X, mixed=True).scale
    assert mixed[0] == pytest.approx(plain[0], rel=1e-3)  # of a uniform column both are the same
    assert mixed[1] == pytest.approx(np.sqrt(plain[1] / np.sqrt(12)))
    assert mixed[1] > 1.5 * plain[1]
    assert plain[2] == mixed[2] == 0


@pytest.mark.parametrize("exponent", [-1000, -300, 7, 1000])
def test_mixed_units_of_a_power_of_two_are_that_power_of_two(exponent):
    X = with_constants()
    unit = np.ldexp(1.0, exponent)
    X = X / np.abs(X).max()
    scale = StandardUnits.of(X, mixed=True).scale
    np.testing.assert_array_equal(StandardUnits.of(X * unit, mixed=True).scale, scale * unit)


@all_detectors
def test_units_are_mixed_if_asked_for(detector):
    X = normal_rows()
    X = np.vstack([X, X.mean(axis=0) + 9 * X.std(axis=0)])
    auto, mixed, plain = (
        tiny(detector, standardize=value).fit(X).units_.scale for value in ("auto", "mixed", True)
    )
    assert (mixed > plain).all()
    np.testing.assert_array_equal(auto, plain)


def test_the_way_back_ends_where_it_began():
    X = with_constants()
    units = StandardUnits.of(X)
    np.testing.assert_allclose(units.from_standard(units.to_standard(X)), X, rtol=1e-5, atol=1e-6)


def test_identity_units_change_nothing():
    X = normal_rows()
    np.testing.assert_array_equal(StandardUnits.identity(4).to_standard(X), X.astype(np.float32))


def test_log_scale_sums_over_the_columns_that_vary():
    X = with_constants()
    assert StandardUnits.of(X).log_scale == pytest.approx(np.log(X[:, :4].std(axis=0)).sum())


def test_large_offsets_lose_nothing():
    # Centred in float32, these would be off by 128.
    times = 1.6e9 + 10 * np.random.RandomState(0).randn(200, 1)
    np.testing.assert_allclose(standard(times), standard(times - 1.6e9), atol=1e-5)
    assert StandardUnits.of(times).scale > 0


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, -1e-300, 1e300, 1.6e9, 5e-324])
def test_a_constant_column_maps_to_zero_or_to_one_and_more_by_the_size_of_a_departure(constant):
    units = StandardUnits.of(np.full((50, 1), constant))
    assert units.scale == 0
    unit = abs(constant) or 1.0
    off = unit * np.array([0, 1e-9, 1e-3, 1, 1e3, 1e6])
    up, down = (units.to_standard((constant + s * off)[:, None]).ravel() for s in (1, -1))
    expected = np.r_[0, 1 + np.log1p(off[1:] / unit)]
    if constant != 5e-324:  # which has no thousandths
        np.testing.assert_allclose(up, expected, rtol=1e-6)
        np.testing.assert_allclose(down, -expected, rtol=1e-6)
    assert (np.diff(up) >= 0).all() and (np.diff(down) <= 0).all()
    far = units.to_standard(np.array([[1.7e308], [-1.7e308]])).ravel()
    assert np.isfinite(far).all() and far[0] >= up[-1] * (constant != 1e300) and far[1] <= -1


def test_departures_from_a_constant_of_another_unit_are_the_same():
    for constant in (0.1, -3.0, 700.0):
        units, thousandth = (StandardUnits.of(np.full((9, 1), constant * k)) for k in (1, 1024))
        new = constant * np.linspace(-20, 20, 41)[:, None]
        np.testing.assert_array_equal(units.to_standard(new), thousandth.to_standard(1024 * new))


def test_what_is_left_of_a_difference_is_no_departure_from_zero():
    units = StandardUnits.of(np.zeros((5, 1)))
    assert units.to_standard(np.array([[0.3 - 0.1 - 0.2], [-1e-17]])).tolist() == [[0], [0]]
    assert units.to_standard(np.array([[1e-12]], dtype=np.float32)) == 1


def test_rounding_is_not_spread():
    # The same number computed in three ways.
    column = np.array([[0.1 + 0.2], [0.3], [0.15 * 2]] * 10)
    assert len(np.unique(column)) > 1
    assert not standard(column).any()
    assert not StandardUnits.of(np.full((5, 1), 0.3)).to_standard(column).any()


def test_a_constant_in_single_precision_is_the_same_constant():
    units = StandardUnits.of(np.full((5, 1), 0.1))
    assert not units.to_standard(np.full((2, 1), 0.1, dtype=np.float32)).any()
    assert units.to_standard(np.full((1, 1), 0.11, dtype=np.float32)) > 1


def test_a_constant_of_many_rows_is_constant():
    # The mean of so many is off by more than a few roundings.
    X = np.full((100_000, 2), 0.1)
    assert (X.std(axis=0) > 1e-13).all()
    assert (StandardUnits.of(X).scale == 0).all()


def test_small_spread_is_spread():
    column = 1 + 1e-12 * np.random.RandomState(0).randn(100, 1)
    assert standard(column).std() == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-300, 1e300, 2.0**1023])
def test_any_size_of_numbers_has_units(size):
    pattern = np.array([[-1.0], [0.25], [0.5], [1.0]])
    np.testing.assert_allclose(standard(pattern * size), standard(pattern), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-20, 1e20, 1e30, "largest"])
@all_detectors
def test_columns_of_any_size_are_scored_without_a_word(detector, factor):
    if detector.__name__ in ("PWAE", "PixelCNN"):
        pytest.skip("takes images")
    X = np.random.RandomState(0).randn(40, 4).astype(np.float32)
    new = 4 * X[:8]
    if factor == "largest":  # the sum of all values is infinity less infinity
        X[:2, 0] = np.finfo(np.float32).max * np.array([1, -1])
        X[2:, 0] *= np.finfo(np.float32).max / 20
        new[:2, 0] = X[:2, 0]
        new[2:, 0] = 0
    else:
        X, new = X * np.float32(factor), new * np.float32(factor)
    model = tiny(detector).fit(X)
    assert np.isfinite(model.score_samples(new)).all()
    assert np.isfinite(model.partial_fit(new).score_samples(new)).all()


@pytest.mark.filterwarnings("ignore::skgenad.DataWarning")
@pytest.mark.parametrize("n_others", [1, 2])
@all_detectors
def test_units_of_a_later_batch_may_be_smaller_by_any_factor(detector, n_others):
    rng = np.random.RandomState(4)
    X, new = (rng.randn(5, 1 + n_others) for _ in range(2))
    X[:, 1] = 10.0 ** np.array([-256, -6, -174, 264, 87])
    new[:, 1] = 10.0 ** np.array([-112, -24, -180, -178, -149])
    model = tiny(detector).fit(X).partial_fit(new)
    for rows in (X, new):
        assert np.isfinite(model.score_samples(rows)).all()


def test_far_rows_stay_finite():
    Z = standard(normal_rows(), like=np.array([[1e300, -1e300, np.finfo(float).max, 0]]))
    assert np.isfinite(np.square(Z)).all()
    assert (np.sign(Z[0, :3]) == [1, -1, 1]).all()


@all_detectors
def test_rows_at_the_ends_of_float64_are_learned_as_any_others(detector):
    signs = np.random.RandomState(0).choice([-1.0, 1.0], size=(20, 1))
    fitted, largest = tiny(detector).fit(signs), np.finfo(np.float64).max
    wide = tiny(detector).fit(largest * signs)
    scores = fitted.score_samples(signs)
    np.testing.assert_allclose(wide.score_samples(largest * signs), scores, rtol=1e-6)
    if hasattr(wide, "reconstruct"):
        back, wanted = wide.reconstruct(largest * signs), fitted.reconstruct(signs)
        np.testing.assert_allclose(back / largest, wanted.clip(-1, 1), rtol=1e-6)


def test_units_at_both_ends_of_float64_see_each_other():
    largest = np.finfo(np.float64).max
    units = [StandardUnits.of(np.array([[end], [end / 2]])) for end in (largest, -largest)]
    for one, other in (units, units[::-1]):
        factor, shift = one.seen_from(other)
        assert factor == 1 and abs(abs(shift[0]) - 6) < 1e-6


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("units", [StandardUnits.identity(4), PixelUnits.identity(4)])
def test_rows_come_out_in_c_order_as_networks_want_them(units, dtype):
    rows = units.to_standard(np.asfortranarray(normal_rows().clip(0, 1).astype(dtype)))
    assert rows.flags.c_contiguous and rows.dtype == np.float32


def test_training_rows_are_not_written_to():
    X = normal_rows()
    X.setflags(write=False)
    standard(X)


# ---- what it means for scores ---------------------------------------------------------------


@all_variants
def test_a_power_of_two_changes_no_bit_of_a_score(name, extra):
    X, new = with_constants(), with_constants(20)[::-1] * [1.5, -2, 1, 3, 1, 1]
    unit = np.ldexp(1.0, [20, -7, 3, -300, 5, 9])
    scores = tiny(name, **extra).fit(X).score_samples(new)
    np.testing.assert_array_equal(
        tiny(name, **extra).fit(X * unit).score_samples(new * unit), scores
    )


@all_detectors
def test_any_other_unit_changes_scores_by_rounding(detector):
    X, new = with_constants(), with_constants(20)[::-1] * [1.5, -2, 1, 3, 1, 1]
    unit, zero = np.array([1.8, 1e-5, 3.7e8, 0.3, 7, 0.7]), np.array([32, 0, 0, 1, 0, 0])
    scores = tiny(detector).fit(X).score_samples(new)
    converted = tiny(detector).fit(X * unit + zero).score_samples(new * unit + zero)
    np.testing.assert_allclose(converted, scores, rtol=1e-3)


@all_detectors
def test_timestamps_are_as_good_as_their_differences(detector):
    X = normal_rows()
    times = X + [0, 1.6e9, 0, 0]
    times[:, 1] = 1.6e9 + 10 * np.round(X[:, 1], 3)
    X[:, 1] = times[:, 1] - 1.6e9
    scores = tiny(detector).fit(X).score_samples(X)
    np.testing.assert_allclose(tiny(detector).fit(times).score_samples(times), scores, rtol=1e-3)


@all_variants
def test_huge_values_have_finite_scores(name, extra):
    X = with_constants()
    far = X[:6].copy()
    np.fill_diagonal(far, [1e300, -1e300, 1e38, -1e20, 1e300, 1e300])
    detector = tiny(name, **extra).fit(X)
    assert np.isfinite(detector.score_samples(far)).all()
    if name != "DAGMM" and "energy" not in extra and extra.get("score_type") != "cosine":
        # A reconstruction error grows with the distance, an angle does not.
        assert (detector.predict(far[:4]) == -1).all()
    with pytest.warns(DataWarning):
        detector = tiny(name, **extra).fit(np.vstack([X, far]))
    assert np.isfinite(detector.score_samples(X)).all()


@over_variants("Committee", "CrossCalibrated", "LikelihoodRatio")
def test_a_constant_that_changes_is_noticed_by_its_size(name, extra):
    X = with_constants()
    fitted = tiny(name, **extra).fit(X)
    scores = [fitted.score_samples(X[:10])]
    # The worst of a few columns is another one until the constant is far away.
    sizes = (1e-9, 0.01, 1, 1000, 1e6, 1e12)[3 if extra.get("combine") == "pixels" else 0 :]
    for column in (4, 5):
        for off in sizes:
            changed = X[:10].copy()
            changed[:, column] += off
            scores.append(fitted.score_samples(changed))
        assert (np.diff(scores[1:], axis=0) < 0).all()
        assert (scores[1] != scores[0]).all() and (scores[-1] < fitted.offset_).all()
        del scores[1:]


@all_detectors
def test_standardize_false_scores_in_the_units_of_the_rows(detector):
    X = normal_rows() / 1000
    fitted = tiny(detector, standardize=False).fit(X)
    assert (fitted.units_.mean == 0).all() and (fitted.units_.scale == 1).all()
    if detector not in UNITLESS:
        again = tiny(detector, standardize=False).fit(2 * X)
        assert not np.array_equal(again.score_samples(2 * X), fitted.score_samples(X))
    for value in (True, "auto"):
        assert (tiny(detector, standardize=value).fit(X).units_.scale != 1).all()


def test_units_are_what_they_were_in_pickles_of_any_version():
    units = StandardUnits(np.array([1.0, 2.0]), np.array([0.0, 4.0]), 1e-9)
    older = StandardUnits.__new__(StandardUnits)
    older.__setstate__({"mean": units.mean, "scale": units.scale, "tolerance": units.tolerance})
    X = np.array([[1.0, 2.0], [3.0, 6.0]])
    for other in (older, pickle.loads(pickle.dumps(units)), copy.deepcopy(units)):
        np.testing.assert_array_equal(other.to_standard(X), units.to_standard(X))
