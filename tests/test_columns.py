"""Tables as people have them: taken as the numbers they are, or refused with a word about where."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import OneHotEncoder

from skgenad.compat import DiscriminativeRatio, PyODDetector, ScoreDetector
from skgenad.preprocessing import LatentFeatures

from ._settings import EVERY, normal_rows, tiny

N = 40
V = np.random.RandomState(1).randn(N)
TIMES = pd.date_range("2026-01-01", periods=N, freq="h")


def beside(values, dtype=None):
    """Make a frame of numbers and a column 'odd'."""
    return pd.DataFrame({"v": V, "odd": pd.Series(values, dtype=dtype)})


def objects(value):
    """Make an array of numbers and one column of objects."""
    array = np.empty((N, 2), dtype=object)
    array[:, 0] = V
    for k in range(N):
        array[k, 1] = value
    return array


def masked(values):
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    return np.ma.masked_array(values, mask=np.broadcast_to(rows % 9 == 0, values.shape))


# Name -> rows, what the message says: where, and what to write.
REFUSED = {
    "stamps alone": (pd.DataFrame({"odd": TIMES}), "'odd'.*time stamps.*total_seconds"),
    "stamps": (beside(TIMES), "'odd'.*time stamps.*dt.hour"),
    "stamps of a zone": (beside(TIMES.tz_localize("Asia/Tokyo")), "'odd'.*time stamps"),
    "stamps as objects": (
        beside(list(TIMES), object),
        r"'odd'.*time stamps.*t = pd.to_datetime\(X\['odd'\]\)",
    ),
    "stamps in an array": (TIMES.to_numpy()[:, None], "Column 0 .*time stamps"),
    "numpy's among objects": (objects(np.datetime64("2026-01-01")), "Column 1 .*time stamps"),
    "python's in lists": ([[1.0, datetime.datetime(2026, 1, 1)]] * N, "Column 1 .*time stamps"),
    "dates": (
        beside([t.date() for t in TIMES], object),
        r"'odd'.*dates.*t = pd.to_datetime\(X\['odd'\]\)",
    ),
    "durations as objects": (
        beside([datetime.timedelta(k) for k in range(N)], object),
        r"'odd'.*pd.to_timedelta\(X\['odd'\]\).dt.total_seconds",
    ),
    "periods as objects": (beside(list(TIMES.to_period("D")), object), "'odd'.*PeriodIndex"),
    "durations alone": (pd.DataFrame({"odd": TIMES - TIMES[0]}), r"'odd'.*X\['odd'\].dt.total_s"),
    "durations": (beside(TIMES - TIMES[0]), "'odd'.*durations"),
    "durations in an array": ((TIMES - TIMES[0]).to_numpy()[:, None], "Column 0 .*durations"),
    "numpy's durations": (objects(np.timedelta64(3, "h")), "Column 1 .*durations"),
    "durations here and there": (
        beside([1.0] * (N - 1) + [np.timedelta64(3, "h")], object),
        "'odd'.*durations",
    ),
    "times of the day": (beside([t.time() for t in TIMES], object), "'odd'.*times of the day"),
    "periods": (beside(TIMES.to_period("D")), "'odd'.*periods.*dt.month"),
    "intervals": (beside(pd.cut(V, 4)), "'odd'.*intervals"),
    "text": (beside(["a", "b"] * (N // 2)), "could not convert.*'odd'.*'a'.*text.*OneHotEncoder"),
    "text as objects": (beside(["a", "1"] * (N // 2), object), "'odd'.*'a'.*text"),
    "categories": (beside(pd.Categorical(["a", "b"] * (N // 2))), "'odd'.*text.*OrdinalEncoder"),
    "text in an array": (objects("a{b}"), "Column 1 .*a{b}.*text"),
    "lists": (beside([[1, 2]] * N), r"'odd'.*lists.*pd.DataFrame\(X\['odd'\].tolist"),
    "arrays": (beside([np.ones(2)] * N), "'odd'.*arrays"),
    "arrays of one number": (beside([np.ones(1)] * N), "'odd'.*arrays"),
    "dicts": (beside([{"a": 1}] * N), "'odd'.*dict"),
    "complex numbers": (beside(1j * V), "'odd'.*complex.*z.imag"),
    "a complex array": (1j * V[:, None], "Complex data not supported.*z.imag"),
    "complex objects": (objects(1j), "Column 1 .*complex"),
    "a number too large": (objects(10**400), "Column 1 .*too large"),
    "NaN": (
        beside(np.where(V > 0, np.nan, V)),
        r"NaN.*'odd' holds NaN in \d+ of 40.*SimpleImputer",
    ),
    "NaN in an array": (masked(V).filled(np.nan)[:, None], "NaN.*Column 0 holds NaN in 5 of 40"),
    "None": (beside([1, None] * (N // 2), object), "'odd' holds NaN in 20 of 40"),
    "NA": (beside(pd.array([1, None] * (N // 2), dtype="Int64")), "'odd' holds NaN in 20 of 40"),
    "infinity": (beside(np.where(V > 0, np.inf, V)), "infinity.*'odd' holds infinity in"),
    "NaN in sparse columns": (
        beside(pd.arrays.SparseArray(np.where(V > 0, np.nan, V))),
        "'odd' holds NaN",
    ),
    "a mask": (masked(np.column_stack([V, V])), r"column 0 is in 5 of 40 rows.*filled\(np.nan\)"),
    "a mask of integers": (masked(np.ones((N, 2), int)), r"column 0 .*astype\(float\)"),
    "rows with masks": ([masked(np.ones(3)) for _ in range(N)], "column 0 is in 40 of 40 rows"),
    "rows of two lengths": ([[1, 2], [3]] * N, "row 0 has 2 values, row 1 has 1"),
    "a structured array": (
        np.ones(N, dtype=[("a", float), ("b", int)]),
        "fields a, b.*unstructured",
    ),
    "a dict": ({"a": V, "b": V}, r"pd.DataFrame\(X\)"),
    "a list of dicts": ([{"a": 1.0}] * N, r"pd.DataFrame\(X\)"),
    "a sparse matrix": (sparse.csr_matrix(np.eye(N)), r"Sparse data was passed.*toarray\(\)"),
}

COUNTS = np.random.RandomState(0).poisson(0.7, (N, 3)).astype(float)
TAKEN = {
    "sparse columns": pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(COUNTS)),
    "sparse columns without a 0": pd.DataFrame(COUNTS).astype(pd.SparseDtype(float)),
    "sparse integers": pd.DataFrame(COUNTS).astype(pd.SparseDtype(int, 0)),
    "one sparse column": pd.DataFrame(
        {0: COUNTS[:, 0], 1: pd.arrays.SparseArray(COUNTS[:, 1], fill_value=0), 2: COUNTS[:, 2]}
    ),
    "a mask of nothing": np.ma.masked_array(COUNTS),
    "rows with masks of nothing": [np.ma.masked_array(row) for row in COUNTS],
    "nullable integers": pd.DataFrame(COUNTS.astype(int)).astype("Int64"),
    "nullable floats": pd.DataFrame(COUNTS).astype("Float64"),
    "categories of numbers": pd.DataFrame(COUNTS).astype("category"),
    "objects": COUNTS.astype(object),
    "decimals": np.vectorize(decimal.Decimal, otypes=[object])(COUNTS),
    "text of numbers": pd.DataFrame(COUNTS).astype(str),
    "long doubles": COUNTS.astype(np.longdouble),
    "lists of arrays": list(COUNTS),
    "lists of series": [pd.Series(row) for row in COUNTS],
}


@pytest.mark.parametrize(("X", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_number_is_refused_by_name(X, message):
    unfitted = tiny("Mahalanobis")
    for method in (unfitted.fit, unfitted.partial_fit):
        with pytest.raises((TypeError, ValueError), match=message) as caught:
            method(X)
        assert "\n" not in str(caught.value)
    assert not hasattr(unfitted, "n_features_in_")
    shape = np.shape(X) if isinstance(X, pd.DataFrame | np.ndarray) else ()
    rows = normal_rows(d=shape[1] if len(shape) == 2 else 2)
    if isinstance(X, pd.DataFrame):
        rows = pd.DataFrame(rows, columns=X.columns)
    fitted = tiny("Mahalanobis").fit(rows)
    for method in (fitted.score_samples, fitted.predict, fitted.partial_fit):
        with pytest.raises((TypeError, ValueError), match=message):
            method(X)


@pytest.mark.parametrize("X", TAKEN.values(), ids=TAKEN)
def test_numbers_are_taken_in_whatever_they_come(X):
    detector = tiny("Mahalanobis").fit(X)
    same = tiny("Mahalanobis").fit(COUNTS)
    np.testing.assert_array_equal(detector.score_samples(X), same.score_samples(COUNTS))


def test_sparse_columns_keep_their_names_and_may_share_them():
    X = pd.get_dummies(pd.Series(list("abca") * 10), sparse=True)
    assert tiny("Mahalanobis").fit(X).feature_names_in_.tolist() == ["a", "b", "c"]
    dense = OneHotEncoder(sparse_output=False).fit_transform(pd.DataFrame({"k": list("abca") * 10}))
    np.testing.assert_array_equal(
        tiny("Mahalanobis").fit(X).score_samples(X),
        tiny("Mahalanobis").fit(dense).score_samples(dense),
    )


@pytest.mark.parametrize("detector", EVERY)
def test_every_detector_names_the_column(detector):
    for name in ("stamps alone", "text", "a mask"):
        X, message = REFUSED[name]
        with pytest.raises(ValueError, match=message):
            tiny(detector).fit(X)
    fitted = tiny(detector).fit(pd.DataFrame({"v": V, "odd": V[::-1]}))
    X, message = REFUSED["stamps"]
    with pytest.raises(ValueError, match=message):
        fitted.score_samples(X)


def test_wrappers_and_transformers_name_it_too():
    estimators = [
        ScoreDetector(KernelDensity()),
        DiscriminativeRatio(GaussianNB()),
        LatentFeatures(tiny("Autoencoder")),
    ]
    try:
        from pyod.models.knn import KNN
    except ImportError:
        pass
    else:
        estimators.append(PyODDetector(KNN()))
    for estimator in estimators:
        for name in ("stamps alone", "text", "a mask", "NaN"):
            X, message = REFUSED[name]
            with pytest.raises(ValueError, match=message):
                estimator.fit(X)


def test_frames_of_other_packages_name_it_too():
    polars = pytest.importorskip("polars")
    detector = tiny("Mahalanobis")
    detector.fit(polars.DataFrame({"v": V, "w": V > 0}))
    assert detector.feature_names_in_.tolist() == ["v", "w"]
    for values, what in (
        (TIMES.to_pydatetime(), "time stamps"),
        ((TIMES - TIMES[0]).to_pytimedelta(), "durations"),
        (["a", "b"] * (N // 2), "text"),
        ([[1.0]] * N, "lists"),
        ([1.0, None] * (N // 2), "NaN"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"Column 'odd' .*{what}"):
            detector.fit(polars.DataFrame({"v": V, "odd": list(values)}))
    with pytest.raises(TypeError, match=r"X.collect\(\)"):
        detector.fit(polars.DataFrame({"v": V}).lazy())


def test_arrow_tables_name_it_too():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"v": V, "odd": arrow.array(TIMES)})
    with pytest.raises(ValueError, match="Column 'odd' .*time stamps"):
        tiny("Mahalanobis").fit(table)
    assert tiny("Mahalanobis").fit(table.select(["v"])).feature_names_in_.tolist() == ["v"]
