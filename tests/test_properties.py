"""What holds for any input: units, batches, splits, images as rows, files."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.model_selection import KFold

from skgenad import Mahalanobis
from skgenad._core.batches import RowBatches
from skgenad._core.rows import flat_rows, validate_rows
from skgenad._core.units import PixelUnits, StandardUnits
from skgenad._tensors.seeds import seeded
from skgenad.benchmark import make_fixed_split, make_split, split_rows
from skgenad.metrics import NormalOnlyCV

# The same examples on every machine: a change is green or red by itself.
examples = settings(max_examples=40, deadline=None, derandomize=True, database=None)

# Zero, and numbers of a size that a power of two moves without leaving float64's range.
numbers = st.just(0.0) | st.builds(
    lambda sign, size: sign * size, st.sampled_from([-1, 1]), st.floats(1e-3, 1e6)
)
tables = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=numbers)
labels = st.lists(st.integers(0, 1), min_size=12, max_size=60).map(np.array)


def two_rows(table):
    return len(table) > 1


# ---- units ----------------------------------------------------------------------------------


@examples
@given(tables)
def test_standard_units_go_there_and_back(X):
    units = StandardUnits.of(X)
    Z = units.to_standard(X)
    rounding = 1e-6 * np.abs(Z) * units.scale + 1e-12 * np.abs(X).max(axis=0)
    assert Z.dtype == np.float32
    assert (np.abs(units.from_standard(Z) - X) <= rounding).all()


@examples
@given(tables, st.integers(-200, 200))
def test_a_power_of_two_as_a_factor_changes_no_bit(X, power):
    scaled = np.ldexp(X, power)
    np.testing.assert_array_equal(
        StandardUnits.of(scaled).to_standard(scaled), StandardUnits.of(X).to_standard(X)
    )


@examples
@given(tables)
def test_columns_that_vary_have_mean_0_and_deviation_1(X):
    units = StandardUnits.of(X)
    varying = units.scale > 1e-6 * np.abs(X).max(axis=0)
    Z = units.to_standard(X)[:, varying].astype(np.float64)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(Z.std(axis=0), 1, atol=1e-5)


@examples
@given(numbers, st.integers(1, 12), st.floats(1e-6, 1e6))
def test_a_constant_column_tells_whether_a_row_is_below_at_or_above_it(value, n, distance):
    units = StandardUnits.of(np.full((n, 1), value))
    departure = distance * max(1.0, abs(value))
    rows = value + departure * np.array([[-1.0], [0.0], [1.0]])
    below, at, above = units.to_standard(rows).ravel()
    assert at == 0 and above >= 1 and below <= -1


@examples
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_uint8_counts_255ths(X):
    units = PixelUnits.identity(X.shape[1])
    np.testing.assert_array_equal(units.to_standard(X), (X / 255).astype(np.float32))


# ---- batches --------------------------------------------------------------------------------


@examples
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 120))
def test_batches_are_full_and_every_pass_has_each_row_once(n, batch_size, n_steps):
    batches = RowBatches(torch.arange(n)[:, None], batch_size, n_steps)
    drawn = []
    with seeded(0):
        while batches.left:
            drawn += list(batches)
    assert [len(batch) for batch in drawn] == [batch_size] * n_steps
    order = torch.cat(drawn).ravel()
    for one_pass in order.split(n):
        assert len(one_pass.unique()) == len(one_pass)


# ---- splits ---------------------------------------------------------------------------------


@examples
@given(labels, st.integers(2, 4), st.booleans())
def test_folds_train_on_normal_rows_and_test_every_row_once(y, n_folds, stratified):
    assume(np.bincount(y, minlength=2).min() >= n_folds)
    cv = n_folds if stratified else KFold(n_folds, shuffle=True, random_state=0)
    folds = list(NormalOnlyCV(cv).split(np.zeros((len(y), 1)), y))
    for train, test in folds:
        assert not y[train].any() and not set(train) & set(test)
        assert set(train) | set(test) >= set(np.flatnonzero(y == 0))
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(y)))


@examples
@given(labels, st.sampled_from(["dagmm", "goad", "drocc"]), st.integers(0, 2**32 - 1))
def test_papers_splits_train_on_normal_rows_and_test_others(y, protocol, seed):
    try:
        train, test = split_rows(y, protocol, seed=seed)
    except ValueError:  # too few rows of a kind
        assume(False)
    assert not y[train].any() and not set(train) & set(test)
    assert len(set(test)) == len(test) and set(y[test]) == {0, 1}


@examples
@given(labels, st.sampled_from(["adbench", "clean"]), st.integers(0, 2**32 - 1))
def test_a_protocol_trains_on_normal_rows_in_0_to_1(y, protocol, seed):
    assume(np.bincount(y, minlength=2).min() >= 6)
    X = np.arange(2.0 * len(y)).reshape(-1, 2)
    split = make_split(X, y, protocol=protocol, seed=seed)
    assert not y[split.train_index].any() and split.n_train_anomalies == 0
    np.testing.assert_array_equal(split.y_test, y[split.test_index])
    assert split.X_train.min() >= -1e-12 and split.X_train.max() <= 1 + 1e-12
    if protocol == "clean":
        assert not set(split.train_index) & set(split.test_index)


_ANY = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])


@examples
@given(arrays(np.float64, st.tuples(st.integers(4, 12), st.integers(1, 3)), elements=_ANY))
def test_a_fixed_split_is_finite_and_of_the_training_rows_units(rows):
    train, test = rows[:-2], rows[-2:]
    split = make_fixed_split(train, test, [0, 1])
    assert np.isfinite(split.X_train).all() and np.isfinite(split.X_test).all()
    np.testing.assert_allclose(split.X_train.mean(axis=0), 0, atol=1e-6)
    assert (split.X_train.std(axis=0) < 1 + 1e-6).all()
    assert bool(split.note) == (not np.isfinite(rows).all())
    finite = np.isfinite(train)
    filled = np.where(finite, train, 0.0)
    whole = finite.all(axis=0)
    expected = make_fixed_split(filled, np.nan_to_num(test, posinf=0, neginf=0), [0, 1])
    np.testing.assert_array_equal(split.X_train[:, whole], expected.X_train[:, whole])


# ---- images ---------------------------------------------------------------------------------


@examples
@given(arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_images_lists_of_images_and_flat_rows_are_the_same(images):
    shape, rows = images.shape[1:], images.reshape(len(images), -1)
    for given_as in (images, list(images), rows):
        np.testing.assert_array_equal(flat_rows(given_as, shape), rows)
        checked = validate_rows(Mahalanobis(), given_as, image_shape=shape, reset=True)
        np.testing.assert_array_equal(checked, rows)
    assert np.shares_memory(flat_rows(images, shape), images)


# ---- files ----------------------------------------------------------------------------------


def saved_and_loaded(detector):
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "detector")
        return Mahalanobis.load(Path(folder) / "detector")


settings_of_mahalanobis = st.fixed_dictionaries(
    {
        "shrinkage": st.floats(0, 1) | st.just("auto"),
        "contamination": st.floats(0, 0.5, exclude_min=True),
        "standardize": st.booleans() | st.sampled_from(["auto", "mixed"]),
        "random_state": st.integers(0, 2**32 - 1) | st.none(),
        "warm_start": st.booleans(),
    }
)


@examples
@given(tables.filter(two_rows), settings_of_mahalanobis)
def test_a_file_keeps_parameters_and_arrays_of_any_shape(X, parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few rows, and far ones
        detector = Mahalanobis(**parameters).fit(X)
    loaded = saved_and_loaded(detector)
    assert loaded.get_params() == detector.get_params()
    assert loaded.offset_ == detector.offset_
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.covariance_, detector.covariance_)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@examples
@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_a_file_keeps_any_names_of_columns(columns):
    X = pd.DataFrame(np.random.RandomState(0).randn(5, len(columns)), columns=columns)
    loaded = saved_and_loaded(Mahalanobis().fit(X))
    assert list(loaded.feature_names_in_) == columns


@examples
@given(st.lists(names, min_size=4, max_size=12) | st.lists(st.integers(), min_size=4, max_size=12))
def test_a_file_keeps_any_classes(y):
    assume(all(isinstance(label, str) or abs(label) < 2**63 for label in y))
    X = np.random.RandomState(0).randn(len(y), 2)
    detector = Mahalanobis(use_labels=True).fit(X, y)
    loaded = saved_and_loaded(detector)
    assert loaded.classes_.tolist() == detector.classes_.tolist() == sorted(set(y))
    np.testing.assert_array_equal(loaded.means_, detector.means_)
