"""Explanations of pipelines, in the columns before their steps."""

import numpy as np
import pandas as pd
import pytest
import sklearn.pipeline
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skgenad import Autoencoder, Mahalanobis, Neighbors
from skgenad._core.column_wise import origins
from skgenad.inspection import ExplanationDisplay
from skgenad.pipeline import make_pipeline

from ._settings import normal_rows


def frame(n=300, seed=0):
    """Columns of several kinds, related to each other, with missing values."""
    rng = np.random.RandomState(seed)
    size = rng.randn(n)
    table = pd.DataFrame(
        {
            "size": size,
            "weight": 3 * size + 20 + 0.1 * rng.randn(n),
            "count": rng.poisson(5, n),
            "colour": np.where(size > 0, "red", rng.choice(["blue", "green"], n)),
            "flag": size > 0.3,
        }
    )
    table.loc[rng.rand(n) < 0.1, "weight"] = np.nan
    return table


def prepare():
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"]),
        (numbers, ["size", "weight"]),
        remainder="passthrough",
    )


@pytest.fixture(scope="module")
def pipe():
    detector = Autoencoder(max_steps=300, random_state=0)
    return make_pipeline(prepare(), detector).fit(frame())


def odd(table):
    rows = table.head(6).copy()
    rows.loc[0, "weight"] = 90
    rows.loc[1, ["size", "weight", "colour", "flag"]] = [2.0, 26.0, "green", True]
    rows.loc[2, "count"] = 60
    rows.loc[3, "size"] = -6
    rows.loc[4, "colour"] = "black"
    return rows


def test_a_frame_is_explained_in_its_own_columns(pipe):
    rows = odd(frame())
    values, repaired = pipe.explain(rows), pipe.repair(rows)
    assert values.shape == (6, 5)
    tops = pd.Index(rows.columns)[values[:5].argmax(axis=1)]
    assert list(tops) == ["weight", "colour", "count", "size", "colour"]
    gain = pipe.score_samples(repaired) - pipe.score_samples(rows)
    assert_allclose(values.sum(axis=1), gain, rtol=1e-4, atol=1e-6)
    assert (repaired.dtypes == rows.dtypes).all() and (repaired.index == rows.index).all()
    assert repaired.loc[1, "colour"] == repaired.loc[4, "colour"] == "red"
    assert 15 < repaired.loc[0, "weight"] < 30 and repaired.loc[2, "count"] < 15
    same = rows.eq(repaired) | (rows.isna() & repaired.isna())
    assert (values[same.to_numpy()] == 0).all()  # what has no part in it is as it was
    assert same.to_numpy().mean() > 0.6


def test_rows_by_themselves_and_columns_in_groups(pipe):
    rows = odd(frame())
    values = pipe.explain(rows)
    assert_array_equal(np.vstack([pipe.explain(rows.iloc[[i]]) for i in range(6)]), values)
    grouped = pipe.explain(rows, groups=["body", "body", "count", "look", "look"])
    assert grouped.shape == (6, 3)
    assert grouped[0].argmax() == 0 and grouped[2].argmax() == 1 and grouped[4].argmax() == 2
    again = pipe.explain(rows, reference=frame(200, seed=1))
    assert (again.argmax(axis=1) == values.argmax(axis=1))[:5].all()
    with pytest.raises(ValueError, match="label for each of 5 columns"):
        pipe.explain(rows, groups=[0, 1])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_no_step_asks_for_may_be_missing(library):
    """A ColumnTransformer scores frames without them, so they must not matter here."""
    table = frame()[["flag", "size", "count", "weight"]].fillna({"weight": 20.0})
    chosen = make_column_transformer(
        ("passthrough", ["weight"]), (StandardScaler(), ["size"]), ("drop", ["count"])
    )
    pipe = make_pipeline(chosen, Mahalanobis(random_state=0)).fit(table)
    whole = table.head(4).copy()
    whole.loc[:, "size"] += 9.0
    few, normal = whole[["size", "weight"]], table[["weight", "size"]]
    if library == "polars":
        polars = pytest.importorskip("polars")
        few, normal = (polars.DataFrame(part.to_dict("list")) for part in (few, normal))
    expected = pipe.explain(whole)
    assert_array_equal(pipe.explain(few), expected[:, [1, 3]])
    assert_array_equal(pipe.explain(few, groups=["b", "a"]), expected[:, [1, 3]])
    repaired = pipe.repair(few)
    assert list(repaired.columns) == ["size", "weight"]
    assert_array_equal(repaired.to_numpy(), pipe.repair(whole)[["size", "weight"]].to_numpy())
    assert pipe.repair(few, reference=normal).shape == (4, 2)
    drawn = ExplanationDisplay.from_estimator(pipe, few, row=1)
    assert drawn.feature_names == ["size", "weight"]
    for ask in (pipe.explain, pipe.repair, lambda X: ExplanationDisplay.from_estimator(pipe, X)):
        with pytest.raises(ValueError, match="columns are missing.*size"):
            ask(few[["weight"]])


def test_arrays_of_another_width_are_refused_by_the_first_step():
    X = normal_rows(60)
    chosen = make_column_transformer((StandardScaler(), [0, 3]), ("passthrough", [1]))
    pipe = make_pipeline(chosen, Mahalanobis()).fit(X)
    for ask in (pipe.explain, pipe.repair):
        with pytest.raises(ValueError, match="has 2 features.* expecting 4"):
            ask(X[:5, :2])


def test_arrays_through_scalers_that_forget_columns():
    X = np.c_[normal_rows(200), np.ones(200)]
    steps = VarianceThreshold(), RobustScaler(), QuantileTransformer(n_quantiles=50)
    pipe = make_pipeline(*steps, Neighbors()).fit(X)
    rows = X[:5].copy()
    rows[0, 2], rows[1, 4] = X[:, 2].max(), 7
    values, repaired = pipe.explain(rows), pipe.repair(rows)
    assert values.shape == repaired.shape == (5, 5)
    assert (values[:, 4] == 0).all() and (repaired[:, 4] == rows[:, 4]).all()
    gain = pipe.score_samples(repaired) - pipe.score_samples(rows)
    assert_allclose(values.sum(axis=1), gain, atol=1e-4)


CASES = {
    "infrequent": (OneHotEncoder(min_frequency=0.3, sparse_output=False), ["colour", "flag"]),
    "drop": (OneHotEncoder(drop="if_binary", sparse_output=False), ["colour", "flag"]),
    "first": (OneHotEncoder(drop="first", sparse_output=False), ["colour", "flag"]),
    "ordinal": (OrdinalEncoder(), ["colour", "flag"]),
    "bins": (KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"), ["size", "count"]),
    "numbers": (
        KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        ["count", "size"],
    ),
    "missing": (MissingIndicator(features="all"), ["size", "weight"]),
    "imputed": (KNNImputer(add_indicator=True), ["count", "weight", "size"]),
    "log": (FunctionTransformer(np.log1p, feature_names_out="one-to-one"), ["count"]),
    "slices": (StandardScaler(), slice("size", "count")),
    "selected": (StandardScaler(), make_column_selector(dtype_include=float)),
    "places": (StandardScaler(), [2, 0]),
    "mask": (StandardScaler(), [True, False, True, False, False]),
    "one": (StandardScaler(), ["count"]),
    "steps": (sklearn.pipeline.make_pipeline(SimpleImputer(), StandardScaler()), ["weight"]),
    "frozen": (FrozenEstimator(StandardScaler().fit(frame()[["size"]])), ["size"]),
}


@pytest.mark.parametrize("remainder", ["drop", "passthrough"])
@pytest.mark.parametrize("case", CASES)
def test_origins_are_those_that_the_names_say(case, remainder):
    table = frame()
    made = ColumnTransformer([("t", *CASES[case])], remainder=remainder).fit(table)
    names = made.get_feature_names_out()
    found = table.columns[origins([made], 5)]
    assert len(found) == len(names)
    for name, column in zip(names, found, strict=True):
        assert column in name.partition("__")[2], (name, column)


@pytest.mark.parametrize("step", [PCA(2), PolynomialFeatures(2), Normalizer()])
def test_steps_that_mix_columns_are_refused(step):
    X = normal_rows(100)
    pipe = make_pipeline(StandardScaler(), step, Mahalanobis(shrinkage=0.1)).fit(X)
    for name in ("explain", "repair"):
        with pytest.raises(ValueError, match=f"{type(step).__name__} makes columns of several"):
            getattr(pipe, name)(X[:2])


def test_steps_without_an_inverse_explain_and_do_not_repair():
    X = np.exp(normal_rows(100) / 1e4)
    one_way = FunctionTransformer(np.log, feature_names_out="one-to-one")
    pipe = make_pipeline(one_way, Mahalanobis()).fit(X)
    assert_allclose(pipe.explain(X[:3]), pipe[-1].explain(np.log(X[:3])))
    with pytest.raises(ValueError, match="no inverse, which repaired rows need"):
        pipe.repair(X[:3])
    both = FunctionTransformer(np.log, np.exp, feature_names_out="one-to-one")
    repaired = make_pipeline(both, Mahalanobis()).fit(X).repair(X[:3] * 9)
    assert (repaired <= X.max(axis=0) * (1 + 1e-9)).all()


def test_values_that_are_repaired_as_missing_are_missing():
    table = frame()[["size", "weight"]]
    table["weight"] = table["weight"].mask(table["size"] > 0.5, np.nan)  # always missing there
    imputer = SimpleImputer(add_indicator=True)
    pipe = make_pipeline(imputer, StandardScaler(), Neighbors()).fit(table)
    rows = pd.DataFrame({"size": [1.5, -1.0], "weight": [24.5, np.nan]})
    repaired = pipe.repair(rows)
    assert np.isnan(repaired.loc[0, "weight"]) or repaired.loc[0, "size"] < 0.6
    gain = pipe.score_samples(repaired) - pipe.score_samples(rows)
    assert_allclose(pipe.explain(rows).sum(axis=1), gain, atol=1e-5)
    assert (gain > 0).all()


def test_whole_numbers_of_all_kinds_stay_whole():
    table = frame()[["size", "count"]].assign(
        small=lambda t: t["count"].astype(np.int16), missing=lambda t: t["count"].astype("Int64")
    )
    pipe = make_pipeline(StandardScaler(), Neighbors()).fit(table)
    rows = table.head(3).copy()
    rows.loc[0, ["count", "small", "missing"]] = [50, 3, 70]
    repaired = pipe.repair(rows)
    assert (repaired.dtypes == table.dtypes).all()
    assert repaired.loc[0, "count"] < 20


def test_images_in_a_pipeline_are_explained_in_patches():
    images = np.random.RandomState(0).rand(30, 24 * 24)
    detector = Autoencoder(image_shape=(1, 24, 24), network=(8,), max_steps=5, random_state=0)
    pipe = make_pipeline("passthrough", detector).fit(images)
    assert_array_equal(pipe.explain(images[:2]), pipe[-1].explain(images[:2]))
