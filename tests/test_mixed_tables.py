"""Tables with categories, booleans, dates and missing values, from frames of pandas and polars."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.pipeline
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

import skgenad
from skgenad import Mahalanobis, Neighbors
from skgenad._core.column_wise import taken_back
from skgenad._core.frames import differ, like, with_values
from skgenad.inspection import ExplanationDisplay
from skgenad.pipeline import Pipeline, make_pipeline

polars = pytest.importorskip("polars")
skrub = pytest.importorskip("skrub")

N, N_TRAIN = 240, 200
FRAMES = ("pandas", "polars")
PIPELINES = {"ours": make_pipeline, "scikit-learn's": sklearn.pipeline.make_pipeline}
NUMBERS, FLAGS = ["size", "weight", "count", "parts", "share"], ["flag", "checked"]
KINDS, TIMES = ["colour", "kind", "grade"], ["when", "took", "day"]


def table(library="pandas"):
    """Columns of all types, some related to each other, most of them with missing values."""
    rng = np.random.RandomState(0)
    size, start = rng.randn(N), pd.Timestamp("2026-01-01")
    days = rng.randint(0, 300, N)
    made = pd.DataFrame(
        {
            "size": size,
            "weight": 3 * size + 20 + 0.1 * rng.randn(N),
            "count": rng.poisson(5, N),
            "parts": pd.array(rng.poisson(3, N), dtype="Int64"),
            "share": pd.array(rng.rand(N), dtype="Float64"),
            "colour": np.where(size > 0, "red", rng.choice(["blue", "green"], N)),
            "kind": pd.Categorical(rng.choice(["x", "y", "z"], N)),
            "grade": pd.Categorical(rng.choice(["low", "high"], N), ["low", "high"], ordered=True),
            "flag": size > 0.3,
            "checked": pd.array(rng.rand(N) < 0.5, dtype="boolean"),
            "when": start + pd.to_timedelta(rng.randint(0, 4800, N), unit="h"),
            "took": pd.to_timedelta(rng.randint(1, 500, N), unit="m"),
            "day": [datetime.date(2026, 1, 1) + datetime.timedelta(days=int(d)) for d in days],
            "id": [f"id-{k}" for k in rng.randint(0, 200, N)],
        }
    )
    for name in ("weight", "parts", "colour", "kind", "checked", "when"):
        made.loc[rng.rand(N) < 0.1, name] = None
    return made if library == "pandas" else as_polars(made)


def as_polars(frame):
    """Make a frame of polars, without pyarrow, whose types are like those of one of pandas."""
    kinds = {"kind": polars.Categorical, "grade": polars.Enum(["low", "high"])}
    made = {}
    for name in frame:
        cells = [None if pd.isna(cell) else cell for cell in frame[name].astype(object)]
        cells = [getattr(cell, "to_pydatetime", lambda c=cell: c)() for cell in cells]
        cells = [getattr(cell, "to_pytimedelta", lambda c=cell: c)() for cell in cells]
        made[name] = polars.Series(name, cells, dtype=kinds.get(name))
    return polars.DataFrame(made)


def split(library, without=()):
    """Return training rows, and others of which each is odd in one column."""
    columns = [name for name in table().columns if name not in without]
    frame = table()[columns]
    odd = frame[N_TRAIN : N_TRAIN + 5].reset_index(drop=True)
    changes = [("size", 9.0), ("when", pd.Timestamp("2027-12-31")), ("took", pd.Timedelta(9, "D"))]
    changes += [("parts", 50), ("weight", 90.0)]
    for row, (name, value) in enumerate(changes):
        if name in columns:
            odd.loc[row, name] = value
    names = [name for name, _ in changes]
    train = frame[:N_TRAIN]
    if library == "polars":
        train, odd = as_polars(train), as_polars(odd)
    return train, odd, names


def vectorized():
    return skrub.TableVectorizer(), SimpleImputer(add_indicator=True)


def encoded():
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=5)
    return make_column_transformer((numbers, NUMBERS), (one_hot, [*KINDS, *FLAGS]))


def types_of(frame):
    return list(frame.dtypes)


def check_explained(pipe, odd, names, reference=None, within=1e-3):
    """Check that contributions name the odd columns, and add up to what repaired rows gain."""
    values = pipe.explain(odd, reference=reference)
    repaired = pipe.repair(odd, reference=reference)
    assert type(repaired) is type(odd) and types_of(repaired) == types_of(odd)
    assert list(repaired.columns) == list(odd.columns)
    found = [list(odd.columns)[place] for place in values.argmax(axis=1)]
    seen = [row for row, name in enumerate(names) if name in odd.columns]
    assert [found[row] for row in seen] == [names[row] for row in seen]
    gain = pipe.score_samples(repaired) - pipe.score_samples(odd)
    assert_allclose(values.sum(axis=1), gain, rtol=within, atol=1e-4)
    same = ~differ(odd, repaired)
    assert (values[same] == 0).all() and same.mean() > 0.5
    return repaired


# ---- the paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("library", FRAMES)
def test_a_vectorizer_takes_every_type(library, make):
    train, odd, _ = split(library)
    pipe = make(*vectorized(), Neighbors(random_state=0)).fit(train)
    assert (pipe.predict(odd) == -1).sum() >= 4
    assert np.isfinite(pipe.score_samples(odd)).all()
    ours = Pipeline(pipe.steps)  # scikit-learn's hands on no more: the same steps, fitted
    assert (ours.p_value(odd)[:4] < 0.1).all() and ours.select(odd, fdr=0.5).shape == (5,)
    assert list(pipe[:1].get_feature_names_out())[:2] == ["size", "weight"]


@pytest.mark.parametrize("library", FRAMES)
def test_what_it_makes_is_explained_in_the_frames_own_columns(library):
    train, odd, names = split(library, without=["day", "id"])
    pipe = make_pipeline(*vectorized(), Neighbors(random_state=0)).fit(train)
    repaired = check_explained(pipe, odd, names)
    assert str(repaired["when"][1])[:4] == "2026"
    assert_array_equal(pipe.explain(odd[:1]), pipe.explain(odd)[:1])


@pytest.mark.parametrize("library", FRAMES)
def test_what_only_its_encoding_tells_takes_cells_of_other_rows(library):
    train, odd, names = split(library)
    pipe = make_pipeline(*vectorized(), Neighbors(random_state=0)).fit(train)
    assert pipe.explain(odd).shape == (5, 14)
    with pytest.raises(ValueError, match=r"'(id|day)' is known as .*Encoder.*reference=X_train"):
        pipe.repair(odd)
    # A new text may lie out of the range of all encodings, and no text at the end of that.
    repaired = check_explained(pipe, odd, names, reference=train, within=0.01)
    moved = differ(odd, repaired)
    assert moved[:, -2:].any()
    for name in ("id", "day", "when", "took"):
        rows = np.flatnonzero(moved[:, list(odd.columns).index(name)])
        assert {repaired[name][int(row)] for row in rows} <= set(train[name])


# Columns of which encoders of skrub's do not tell what stood in them, and those of which they do.
ODD = {
    "flags as objects": ([None, True, False, True] * 15, False),
    "categories of numbers": (pd.Categorical([3, 4, 5] * 20), False),
    "categories of flags": (pd.Categorical([True, False] * 30), False),
    "periods": (pd.period_range("2026-01-01", periods=60, freq="D"), False),
    "times of the day": ([datetime.time(k % 5) for k in range(60)], False),
    "stamps of a zone": (pd.date_range("2026-01-01", periods=60, tz="Asia/Tokyo"), False),
    "numbers as text": ([str(k % 7) for k in range(60)], False),
    "texts as objects": (pd.Series(["a", "b", "c"] * 20, dtype=object), True),
    "small numbers": (np.arange(60, dtype=np.int8) % 7, True),
}


@pytest.mark.parametrize("name", ODD)
def test_cells_are_of_the_type_of_their_column_or_taken_from_others(name):
    values, is_told = ODD[name]
    frame = pd.DataFrame({"size": np.arange(60) % 5 * 1.0, "odd": values})
    steps = sklearn.pipeline.make_pipeline(*vectorized()).fit(frame)
    rows, wanted = frame[:20], frame[1:21]
    before, after = steps.transform(rows), steps.transform(wanted)
    found = taken_back([steps], rows, before, after, frame)
    assert (found.dtypes == frame.dtypes).all()
    assert not differ(found["odd"].to_frame(), wanted["odd"].to_frame()).any()
    if is_told:
        alone = taken_back([steps], rows, before, after)
        assert not differ(alone, wanted).any() and (alone.dtypes == frame.dtypes).all()
    else:
        with pytest.raises(ValueError, match="'odd' is known as .* encodes it"):
            taken_back([steps], rows, before, after)


def test_dates_and_durations_of_polars_come_back_as_such():
    train, odd, names = split("polars", without=["id"])
    odd = odd.with_columns(day=polars.lit(datetime.date(2031, 1, 1)))
    pipe = make_pipeline(*vectorized(), Neighbors(random_state=0)).fit(train)
    repaired = pipe.repair(odd)
    assert repaired.schema == odd.schema
    assert {day.year for day in repaired["day"]} == {2026}


@pytest.mark.parametrize("output", ["default", *FRAMES])
@pytest.mark.parametrize("library", FRAMES)
def test_a_column_transformer_does_the_same(library, output):
    train, odd, names = split(library)
    pipe = make_pipeline(encoded(), Neighbors(random_state=0)).set_output(transform=output)
    pipe.fit(train)
    repaired = check_explained(
        pipe,
        odd[[0, 3, 4]] if library == "polars" else odd.iloc[[0, 3, 4]],
        [names[k] for k in (0, 3, 4)],
    )
    assert list(repaired["id"]) == [odd["id"][k] for k in (0, 3, 4)]  # not looked at
    named = pipe[:-1].get_feature_names_out()
    assert "pipeline__size" in named and "onehotencoder__colour_red" in named
    if output != "default":
        assert_array_equal(pipe[-1].feature_names_in_, named)


@pytest.mark.parametrize("library", FRAMES)
def test_a_pipeline_of_it_has_a_file(library, tmp_path):
    train, odd, _ = split(library)
    pipe = make_pipeline(encoded(), Mahalanobis(shrinkage=0.1, random_state=0)).fit(train)
    pipe.save(tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file")
    assert_array_equal(loaded.score_samples(odd), pipe.score_samples(odd))
    assert_array_equal(loaded.explain(odd), pipe.explain(odd))


def test_what_skrub_has_learned_is_pickled_and_not_saved(tmp_path):
    train, odd, _ = split("pandas")
    pipe = make_pipeline(*vectorized(), Mahalanobis(shrinkage=0.1, random_state=0)).fit(train)
    with pytest.raises(TypeError, match=r"cannot be saved.*pickle.*pipeline\[-1\].save\(path\)"):
        pipe.save(tmp_path / "file")
    again = pickle.loads(pickle.dumps(pipe))
    assert_array_equal(again.score_samples(odd), pipe.score_samples(odd))
    pipe[-1].save(tmp_path / "file")
    rows = pipe[:-1].transform(odd)
    loaded = skgenad.load(tmp_path / "file")
    assert_array_equal(loaded.score_samples(rows), pipe.score_samples(odd))


# ---- columns --------------------------------------------------------------------------------


@pytest.mark.parametrize("library", FRAMES)
def test_columns_may_stand_in_another_order(library):
    train, odd, _ = split(library)
    pipe = make_pipeline(encoded(), Neighbors(random_state=0)).fit(train)
    values, repaired = pipe.explain(odd), pipe.repair(odd)
    names = [*odd.columns[::-1], "more"]
    more = np.arange(5)
    wider = (
        odd.assign(more=more) if library == "pandas" else odd.with_columns(more=polars.Series(more))
    )
    turned = wider[names]
    assert_array_equal(pipe.explain(turned), np.c_[values[:, ::-1], np.zeros(5)])
    assert not differ(pipe.repair(turned)[list(odd.columns)], repaired).any()
    assert list(pipe.repair(turned).columns) == names
    grouped = pipe.explain(turned, groups=["rest", *["own"] * 13, "rest"])
    assert grouped.shape == (5, 2)
    assert_allclose(pipe.explain(turned, reference=train[list(odd.columns)[::-1]]).shape, (5, 15))


def parts_of(dates):
    return np.column_stack([dates.iloc[:, 0].dt.month, dates.iloc[:, 0].dt.day_of_week])


def test_whatever_is_made_of_one_column_is_that_columns():
    train, odd, _ = split("pandas")
    train, odd = train.fillna({"when": train["when"].min()}), odd.fillna({"when": odd["when"][0]})
    encode = make_column_transformer(
        (FunctionTransformer(parts_of), ["when"]), (StandardScaler(), ["size", "count"])
    )
    pipe = make_pipeline(encode, Neighbors(random_state=0)).fit(train)
    columns = ["when", "size", "count"]
    values = pipe.explain(odd)
    assert (values[:, [odd.columns.get_loc(c) for c in columns]] != 0).any()
    assert values[0].argmax() == odd.columns.get_loc("size")
    odd["when"] += pd.Timedelta(1, "h")
    with pytest.raises(ValueError, match=r"has no inverse.*reference=X_train"):
        make_pipeline(encode, Neighbors(random_state=0)).fit(train.assign(size=0, count=1)).repair(
            odd.assign(size=0, count=1, when=pd.Timestamp("2026-12-31"))
        )
    repaired = pipe.repair(odd, reference=train)
    moved = (repaired["when"] != odd["when"]).to_numpy()
    assert set(repaired.loc[moved, "when"]) <= set(train["when"])


def test_a_rare_category_is_repaired_as_one_that_there_is():
    frame = pd.DataFrame({"size": np.arange(40.0) % 7, "kind": list("aaaaabbbbb" * 4)})
    frame.loc[[3, 8], "kind"] = ["c", "d"]
    frame["kind"] = frame["kind"].astype("category")
    one_hot = OneHotEncoder(min_frequency=5, sparse_output=False, handle_unknown="ignore")
    encode = make_column_transformer((one_hot, ["kind"]), remainder="passthrough")
    pipe = make_pipeline(encode, Neighbors(n_neighbors=1, random_state=0)).fit(frame)
    rows = pd.DataFrame(
        {"size": [3.0], "kind": pd.Categorical(["a"], frame["kind"].cat.categories)}
    )
    repaired = pipe.repair(rows, reference=frame.iloc[[3, 3, 3, 3, 8]])
    assert repaired["kind"].dtype == rows["kind"].dtype and not repaired["kind"].isna().any()


def test_whole_numbers_and_flags_can_be_missing_once_repaired():
    column = pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [True, False], "c": [3, 4]})
    column["d"] = pd.array([True, False], dtype="boolean")
    changed = np.array([[True] * 4, [False] * 4])
    values = [np.array([np.nan, 0.0])] * 4
    found = with_values(column, changed, values)
    assert found["a"][0] is pd.NA and found["a"][1] == 2 and found["d"][0] is pd.NA
    assert np.isnan(found["b"][0]) and np.isnan(found["c"][0]) and found["c"][1] == 4
    found = with_values(as_polars(column), changed, values)
    assert found.row(0) == (None,) * 4 and found.row(1) == (2, False, 4, False)


def test_tables_differ_where_something_else_stands():
    one = np.array([[1.0, np.nan, 3.0]])
    assert_array_equal(differ(one, np.array([[1.0, np.nan, 4.0]])), [[False, False, True]])
    one = np.array([["a", None, pd.NA, 1]], dtype=object)
    other = np.array([["a", np.nan, 2, None]], dtype=object)
    assert_array_equal(differ(one, other), [[False, False, True, True]])


# ---- without a pipeline ---------------------------------------------------------------------


def test_polars_frames_of_numbers_need_none():
    frame = table("polars")[["size", "count", "flag", "share"]]
    detector = Mahalanobis(random_state=0).fit(frame)
    assert_array_equal(detector.feature_names_in_, frame.columns)
    same = Mahalanobis(random_state=0).fit(table()[frame.columns])
    assert_array_equal(detector.score_samples(frame), same.score_samples(table()[frame.columns]))
    repaired = detector.repair(frame[:3])
    assert isinstance(repaired, polars.DataFrame) and repaired.columns == frame.columns
    assert_array_equal(like(frame[:3], repaired.to_numpy()).to_numpy(), repaired.to_numpy())


REFUSED = {
    "missing numbers": (["size", "weight"], r"'weight' holds NaN in \d+ of 240.*SimpleImputer\(\)"),
    "text": (["size", "id"], "'id' of X holds 'id-.*OneHotEncoder.*TableVectorizer"),
    "categories": (["size", "grade"], "'grade' of X holds .*text.*OrdinalEncoder"),
    "times": (["size", "when"], "'when' of X holds time stamps"),
    "durations": (["size", "took"], "'took' of X holds durations"),
}


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_one_is_refused_with_what_to_write(name, library):
    columns, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        Mahalanobis().fit(table(library)[columns])


def test_none_is_not_what_an_imputer_looks_for():
    flags, last = table("polars")[["checked"]], Mahalanobis(random_state=0)
    with pytest.raises(ValueError, match="None: put SimpleImputer.missing_values=None, strategy"):
        make_pipeline(SimpleImputer(strategy="most_frequent"), last).fit(flags)
    filled = SimpleImputer(missing_values=None, strategy="most_frequent")
    make_pipeline(filled, last).fit(flags)


def test_ordinal_codes_go_back_to_their_categories():
    train, odd, _ = split("pandas", without=[*TIMES, "id"])
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    filled = make_pipeline(codes, SimpleImputer(strategy="most_frequent", add_indicator=True))
    encode = make_column_transformer((filled, KINDS), (SimpleImputer(), ["size", "weight"]))
    pipe = make_pipeline(encode, Neighbors(random_state=0)).fit(train)
    odd["colour"] = "black"
    repaired = pipe.repair(odd)
    assert set(repaired["colour"].dropna()) <= {"red", "green", "blue", "black"}
    gain = pipe.score_samples(repaired) - pipe.score_samples(odd)
    assert_allclose(pipe.explain(odd).sum(axis=1), gain, rtol=1e-3, atol=1e-4)


# ---- pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("library", FRAMES)
def test_a_row_is_drawn_with_its_times_and_texts(library):
    train, odd, _ = split(library)
    pipe = make_pipeline(*vectorized(), Neighbors(random_state=0)).fit(train)
    display = ExplanationDisplay.from_estimator(pipe, odd, 1, reference=train)
    assert list(odd.columns)[display.shown_[0]] == "when"
    labels = [label.get_text() for label in display.axes_[0, 0].get_yticklabels()]
    assert labels[0].startswith("when = 2027-12-31")
    low, high = display.normal[list(odd.columns).index("when")]
    assert pd.Timestamp("2026-01-01") < low < high < pd.Timestamp("2026-08-01")
    texts = {text.get_text() for text in display.axes_[0, 1].texts}
    assert f"{low:%Y-%m-%d}" in texts
    with pytest.raises(ValueError, match="reference=X_train"):
        ExplanationDisplay.from_estimator(pipe, odd, 1)
    display.figure_.clear()
