"""Rows in chunks: the same scores, and the same sample, however they are divided."""

import inspect
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skgenad import Committee, CrossCalibrated, Mahalanobis
from skgenad._core.chunks_of_rows import OF_A_ROW
from skgenad._core.streams import Lots
from skgenad._tensors.seeds import derived_seed, draw_seed
from skgenad.compat import DiscriminativeRatio, ScoreDetector
from skgenad.pipeline import make_pipeline

from ._settings import EVERY, having, normal_rows, tiny
from .test_large_tables import megabytes_added_by, on_linux, small_pieces, table_in_a_file

__all__ = ["small_pieces"]  # a fixture

ALL = [*EVERY, DiscriminativeRatio, ScoreDetector]
every = pytest.mark.parametrize("detector", ALL, ids=lambda c: c.__name__)
# Places where rows are divided; the same one twice makes an empty chunk.
WAYS = ((), (1,), (0, 7, 7, 30), tuple(range(1, 60, 4)))


def divided(rows, cuts):
    ends = [0, *cuts, len(rows)]
    return [rows[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def rows_for(detector, n=60):
    """Rows for a detector, and parameters that it needs for them."""
    if detector.__name__ in ("PWAE", "PixelCNN"):
        return np.random.RandomState(0).rand(n, 64), {"image_shape": (1, 8, 8)}
    return normal_rows(n), {}


def drawn(n, most, seed):
    """Places of a sample, as they are defined: those of the lowest lots, in their order."""
    lots = np.random.default_rng(derived_seed(draw_seed(seed), 1)).random(n)
    return np.sort(np.argsort(lots)[:most])


# ---- all detectors ----------------------------------------------------------------------------


@every
def test_scores_do_not_depend_on_the_chunks_and_a_stream_is_fitted_by_its_sample(detector):
    X, parameters = rows_for(detector)
    whole = tiny(detector, **parameters).fit(X[drawn(60, 40, 0)])
    scores, labels = whole.score_samples(X), whole.predict(X)
    for cuts in WAYS[1:]:
        parts = list(whole.score_batches(divided(X, cuts)))
        assert [len(part) for part in parts] == [len(part) for part in divided(X, cuts)]
        assert {part.dtype for part in parts} == {np.dtype(np.float64)}
        np.testing.assert_array_equal(np.concatenate(parts), scores)
    said = np.concatenate(list(whole.score_batches(divided(X, WAYS[2]), method="predict")))
    assert said.dtype == np.int64
    np.testing.assert_array_equal(said, labels)
    stream = tiny(detector, **parameters).fit_stream(iter(divided(X, WAYS[2])), sample=40)
    np.testing.assert_array_equal(stream.score_samples(X), scores)
    assert stream.offset_ == whole.offset_


@pytest.mark.parametrize("cuts", WAYS)
def test_the_sample_does_not_depend_on_the_chunks(cuts, monkeypatch):
    X, seen = normal_rows(60), []
    monkeypatch.setattr(Mahalanobis, "fit", lambda self, rows, y=None: seen.append(rows))
    for sample in (2, 8, 59, 60, 1000):
        Mahalanobis().fit_stream(divided(X, cuts), sample=sample, random_state=3)
        np.testing.assert_array_equal(seen.pop(), X[drawn(60, sample, 3)])


def test_every_method_of_a_row_is_that_of_the_whole_table():
    X = normal_rows()
    detector = tiny(Mahalanobis, calibration_fraction=0.5).fit(X)
    for method, kind in OF_A_ROW.items():
        parts = list(detector.score_batches(divided(X, WAYS[2]), method=method))
        np.testing.assert_array_equal(np.concatenate(parts), getattr(detector, method)(X))
        assert {part.dtype for part in parts} == {np.dtype(kind)}


def test_scores_come_one_chunk_after_the_other():
    X, asked = normal_rows(), []
    detector = tiny(Mahalanobis).fit(X)

    def chunks():
        for part in divided(X, WAYS[2]):
            asked.append(len(part))
            yield part

    scores = detector.score_batches(chunks())
    assert inspect.isgenerator(scores) and asked == []
    assert next(scores).shape == (0,) and asked == [0]
    assert next(scores).shape == (7,) and asked == [0, 7]


# ---- the sample ---------------------------------------------------------------------------------


def winners(most, seed, *batches):
    lots, kept, start = Lots(most, seed), [], 0
    for n in batches:
        places = start + lots.draw(n)
        start += n
        kept += [places] if len(places) else []
        if lots.are_many:
            kept = [own[stay] for own, stay in zip(kept, lots.losers_out(), strict=True)]
            kept = [own for own in kept if len(own)]
    stays = zip(kept, lots.losers_out(), strict=True)
    return np.concatenate([own[stay] for own, stay in stays])


def test_every_row_and_every_pair_is_as_likely_as_any_other():
    n, most, draws = 12, 4, 2000
    pairs = np.zeros((n, n))
    for seed in range(draws):
        chosen = winners(most, seed, 3, 0, 7, 2)
        assert len(chosen) == most and (np.diff(chosen) > 0).all()
        pairs[np.ix_(chosen, chosen)] += 1
    for counts, p in ((pairs.diagonal(), 4 / 12), (pairs[~np.eye(n, dtype=bool)], 12 / 132)):
        assert abs(counts - draws * p).max() < 5 * np.sqrt(draws * p * (1 - p))


def test_no_more_than_the_sample_and_a_chunk_is_held(monkeypatch):
    monkeypatch.setattr(Mahalanobis, "fit", lambda self, rows, y=None: rows)
    sample, chunk = 2000, np.random.RandomState(0).randn(1000, 20)
    detector = Mahalanobis(random_state=0)
    detector.fit_stream([chunk], sample=2)  # what is loaded once
    tracemalloc.start()
    rows = detector.fit_stream((chunk + k for k in range(100)), sample=sample)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.shape == (sample, 20)
    # The pieces and, before they are written to, the rows that they are put together in; the lots.
    assert peak < 8 * 20 * 2.2 * sample + 80_000


@on_linux
@pytest.mark.parametrize("way", ["one chunk", "slices", "score", "fit"])
def test_of_a_table_in_a_file_a_part_is_in_memory(way, small_pieces, tmp_path):
    X = table_in_a_file(tmp_path / "X.npy")
    detector = Mahalanobis(device="cpu", random_state=0).fit(X[:500])
    chunks = divided(X, range(5000, len(X), 5000)) if way == "slices" else [X]
    calls = {
        "score": lambda rows: detector.score_samples(rows[0]),
        "fit": lambda rows: detector.fit_stream(rows, sample=500),
    }
    call = calls.get(way, lambda rows: list(detector.score_batches(rows)))
    call([X[:500]])
    assert megabytes_added_by(lambda: call(chunks)) < 8  # of 31


# ---- chunks of all kinds ------------------------------------------------------------------------


def frame_of(n=60):
    X = pd.DataFrame(normal_rows(n), columns=list("abcd"))
    return X.assign(kind=pd.Categorical(np.resize(["red", "blue"], n)))


def test_frames_go_through_a_pipeline_with_their_columns():
    X = frame_of()
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder=StandardScaler())
    detector = tiny("Mahalanobis", shrinkage=0.1)
    whole = make_pipeline(encode, detector).fit(X.iloc[drawn(60, 40, 0)])
    chunks = [X[:0], X[:11], X[11:50].assign(kind=X["kind"][11:50].astype(str)), X[50:]]
    stream = make_pipeline(encode, tiny("Mahalanobis", shrinkage=0.1)).fit_stream(chunks, sample=40)
    scores = whole.score_samples(X)
    np.testing.assert_array_equal(stream.score_samples(X), scores)
    np.testing.assert_array_equal(np.concatenate(list(whole.score_batches(chunks))), scores)


def polars_of(X):
    return pytest.importorskip("polars").DataFrame(X, schema=list("abcd"))


def arrow_of(X):
    pytest.importorskip("pyarrow")
    from pyarrow import Table

    return Table.from_pandas(pd.DataFrame(X, columns=list("abcd")))


@pytest.mark.parametrize("make", [polars_of, arrow_of, np.ndarray.tolist, sparse.coo_array])
def test_chunks_of_other_kinds(make, monkeypatch):
    X, fitted, seen = normal_rows(), tiny(Mahalanobis), []
    monkeypatch.setattr(Mahalanobis, "fit", lambda self, rows, y=None: seen.append(rows))
    fitted.fit_stream([make(part) for part in divided(X, (3, 31))], sample=20)
    (rows,) = seen
    rows = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
    np.testing.assert_array_equal(rows, X[drawn(60, 20, 0)])


def test_chunks_of_polars_may_differ_in_their_types_of_numbers():
    """As those do that are read from files one by one, where a column has gaps in some alone."""
    polars = pytest.importorskip("polars")
    X = normal_rows().round(3)
    parts = [polars_of(part) for part in divided(X, (20, 40))]
    parts[1] = parts[1].cast({"a": polars.Float32})
    stream = tiny(Mahalanobis).fit_stream(parts, sample=40)
    expected = tiny(Mahalanobis).fit(polars_of(X[drawn(60, 40, 0)]))
    scores = [model.score_samples(parts[0]) for model in (stream, expected)]
    np.testing.assert_allclose(*scores, rtol=1e-4)


def test_images_of_bytes_stay_bytes(monkeypatch):
    images, seen = np.random.RandomState(0).randint(0, 256, (60, 1, 8, 8), dtype=np.uint8), []
    monkeypatch.setattr(Mahalanobis, "fit", lambda self, rows, y=None: seen.append(rows))
    tiny(Mahalanobis).fit_stream(divided(images, (9, 30)), sample=20)
    assert seen[0].dtype == np.uint8
    np.testing.assert_array_equal(seen[0], images[drawn(60, 20, 0)])


@pytest.mark.parametrize("detector", having("use_labels")[:1])
def test_classes_come_in_pairs_with_their_rows(detector):
    X, y = normal_rows(), np.arange(60) % 3
    places = drawn(60, 40, 0)
    whole = tiny(detector, use_labels=True).fit(X[places], y[places])
    pairs = list(zip(divided(X, WAYS[2]), divided(y, WAYS[2]), strict=True))
    for model in (tiny(detector, use_labels=True), make_pipeline(tiny(detector, use_labels=True))):
        stream = model.fit_stream(pairs, sample=40)
        np.testing.assert_array_equal(stream.score_samples(X), whole.score_samples(X))
    for chunks, said in (([X], "pairs"), ([(X, y[:9])], "one for each row")):
        with pytest.raises(ValueError, match=said):
            tiny(detector, use_labels=True).fit_stream(chunks)


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("table", [normal_rows(), frame_of(), "rows.csv", {"a": [1.0]}])
def test_a_table_is_no_iterable_of_tables(table):
    detector = tiny(Mahalanobis).fit(normal_rows())
    for method in (detector.fit_stream, detector.score_batches):
        with pytest.raises(TypeError, match=r"Pass its parts, or \[X\]"):
            method(table)


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([], "no rows"),
        ([normal_rows()[:0]], "no rows"),
        ([normal_rows(), normal_rows(d=3)], "Chunk 1 .* in its columns"),
        ([frame_of(), frame_of()[list("abdc")]], "Chunk 1 .* in its columns"),
        ([frame_of(), normal_rows()], "Chunk 1 .* in its kind"),
        ([normal_rows(), normal_rows().astype(np.uint8)], "Chunk 1 .* in its type"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_what_cannot_be_sampled_is_refused_and_changes_nothing(chunks, said):
    detector = tiny(Mahalanobis).fit(normal_rows())
    before = detector.offset_
    with pytest.raises(ValueError, match=said):
        detector.fit_stream(iter(chunks))
    assert detector.offset_ == before


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ("rows.csv", "Chunk 1 must be a table of rows, got 'rows.csv'"),
        (Path("rows.csv"), "Chunk 1 must be a table of rows"),
        (None, "got None"),
        (3.0, "got 3.0"),
        ((normal_rows(), np.zeros(60)), "Chunk 1 is a pair"),
    ],
)
def test_what_is_no_chunk_is_refused(chunk, said):
    detector = tiny(Mahalanobis).fit(normal_rows())
    chunks = [normal_rows(), chunk]
    with pytest.raises(TypeError, match=said):
        detector.fit_stream(chunks)
    with pytest.raises(TypeError, match=said):
        list(detector.score_batches(chunks))


def test_parameters_are_checked_before_a_chunk_is_read():
    detector = tiny(Mahalanobis).fit(normal_rows())
    with pytest.raises(ValueError, match="'sample' parameter of Mahalanobis.fit_stream"):
        detector.fit_stream(None, sample=1)
    with pytest.raises(ValueError, match="'method' parameter of Mahalanobis.score_batches"):
        detector.score_batches(None, method="select")


def test_members_read_a_large_table_of_whole_numbers(tmp_path):
    X = (100 * np.random.RandomState(0).randn(60, 4)).astype(np.int16)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for model in (Committee(random_state=0), CrossCalibrated(random_state=0, cv=2)):
        model.fit(X)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("skgenad._core.large_tables.MOST_NUMBERS", 20)
            read = model.score_samples(mapped), model.p_value(mapped)
        np.testing.assert_array_equal(read[0], model.score_samples(X))
        np.testing.assert_array_equal(read[1], model.p_value(X))
