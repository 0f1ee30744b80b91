"""Scores of Dask's frames and arrays, part by part."""

import os
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import Autoencoder, Mahalanobis
from skgenad._core.chunks_of_rows import OF_A_ROW
from skgenad.distributed import score

from ._settings import normal_rows, tiny

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
config = pytest.importorskip("dask").config

X = normal_rows(60)
FRAME = pd.DataFrame(X, columns=list("abcd"), index=np.arange(100, 160))


@pytest.fixture(autouse=True)
def in_this_thread():
    with config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def of_arrays():
    return tiny(Mahalanobis, calibration_fraction=0.5).fit(X)


@pytest.fixture(scope="module")
def of_frames():
    return tiny(Mahalanobis, calibration_fraction=0.5).fit(FRAME)


@pytest.mark.parametrize("method", OF_A_ROW)
def test_a_series_has_the_index_of_the_frame(method, of_frames):
    few = dd.from_pandas(FRAME, npartitions=4)
    few = few[few["a"] > FRAME["a"].quantile(0.97)]  # partitions without a row
    wanted = FRAME[FRAME["a"] > FRAME["a"].quantile(0.97)]
    values = score(few, of_frames, method=method)
    assert values.npartitions == 4 and 0 in few.map_partitions(len).compute().tolist()
    assert values.name == method and values.dtype == OF_A_ROW[method]
    expected = pd.Series(getattr(of_frames, method)(wanted), index=wanted.index, name=method)
    pd.testing.assert_series_equal(values.compute(), expected)


@pytest.mark.parametrize("method", OF_A_ROW)
@pytest.mark.parametrize("chunks", [(17, 4), ((0, 30, 0, 30), (4,)), (23, 3)])
def test_an_array_is_scored_in_its_blocks(method, chunks, of_arrays):
    values = score(da.from_array(X, chunks=chunks), of_arrays, method=method)
    assert values.shape == (60,) and values.dtype == OF_A_ROW[method]
    got = values.compute()
    assert got.dtype == OF_A_ROW[method]
    np.testing.assert_array_equal(got, getattr(of_arrays, method)(X))


@pytest.mark.parametrize("columns", [4, 2])
def test_blocks_may_be_of_unknown_sizes(columns, of_arrays):
    rows = da.from_array(X, chunks=(20, columns))
    rows = rows[rows[:, 0] > np.quantile(X[:, 0], 0.8)]
    values = score(rows, of_arrays)
    assert np.isnan(values.shape[0])
    expected = of_arrays.score_samples(X[X[:, 0] > np.quantile(X[:, 0], 0.8)])
    np.testing.assert_array_equal(values.compute(), expected)
    frame = dd.from_pandas(FRAME, npartitions=3).to_dask_array()
    np.testing.assert_array_equal(score(frame, of_arrays).compute(), of_arrays.score_samples(X))


def test_images_are_blocks_of_several_axes():
    images = np.random.RandomState(0).rand(40, 1, 8, 8)
    detector = tiny(Autoencoder, image_shape=(1, 8, 8)).fit(images)
    values = score(da.from_array(images, chunks=(15, 1, 4, 8)), detector)
    np.testing.assert_array_equal(values.compute(), detector.score_samples(images))


def test_the_detector_is_one_task_and_as_it_was():
    detector = tiny(Mahalanobis).fit(FRAME)
    values, before = score(dd.from_pandas(FRAME, npartitions=5), detector), detector.offset_
    detector.fit(FRAME[:20])
    kept = [key for key in values.__dask_graph__() if "Mahalanobis" in str(key)]
    assert len(kept) == 1
    fresh = tiny(Mahalanobis).fit(FRAME)
    assert fresh.offset_ == before != detector.offset_
    np.testing.assert_array_equal(values.compute(), fresh.score_samples(FRAME))


@pytest.mark.parametrize(
    ("rows", "method", "error", "said"),
    [
        (X, "score_samples", TypeError, "needs no Dask"),
        (FRAME["a"], "score_samples", TypeError, "needs no Dask"),
        (da.from_array(X[:, 0]), "score_samples", TypeError, "array of rows"),
        (dd.from_pandas(FRAME["a"], npartitions=1), "score_samples", TypeError, "array of rows"),
        (da.from_array(X[:, :3]), "score_samples", ValueError, "3 columns, .* fitted on 4"),
        (dd.from_pandas(FRAME[["a", "c"]], npartitions=1), "predict", ValueError, "'b', 'd'"),
        (
            dd.from_pandas(FRAME[list("abdc")], npartitions=1),
            "predict",
            ValueError,
            "another order",
        ),
        (dd.from_pandas(FRAME.assign(e=1), npartitions=1), "predict", ValueError, "other columns"),
        (da.from_array(X), ["predict"], ValueError, "looks at each row alone"),
        (da.from_array(X), "select", ValueError, "looks at each row alone"),
        (da.from_array(X), "fit", ValueError, "looks at each row alone"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_it_is_computed(rows, method, error, said):
    with pytest.raises(error, match=said):
        score(rows, tiny(Mahalanobis).fit(FRAME), method=method)


def test_columns_that_no_step_asks_for_have_no_say():
    chosen = make_column_transformer((StandardScaler(), ["c", "a"]), ("passthrough", ["d"]))
    model = make_pipeline(make_pipeline(chosen), tiny(Mahalanobis)).fit(FRAME)
    rows = FRAME[["d", "c", "a"]].assign(e="?")
    values = score(dd.from_pandas(rows, npartitions=3), model)
    np.testing.assert_array_equal(values.compute(), model.score_samples(FRAME))
    with pytest.raises(ValueError, match="no columns 'c'"):
        score(dd.from_pandas(rows[["a", "d"]], npartitions=3), model)


def test_a_model_without_the_method_is_refused():
    from sklearn.covariance import EllipticEnvelope

    rows, model = da.from_array(X), EllipticEnvelope(random_state=0).fit(X)
    with pytest.raises(TypeError, match="EllipticEnvelope has no p_value"):
        score(rows, model, method="p_value")
    np.testing.assert_allclose(score(rows, model).compute(), model.score_samples(X))
    with pytest.raises(TypeError, match=r"no p_value: a pipeline of skgenad\.pipeline"):
        score(rows, make_pipeline(model), method="p_value")
    with pytest.raises(NotFittedError):
        score(rows, Mahalanobis())


def test_without_dask_an_error_says_what_to_install(monkeypatch, of_arrays):
    rows = da.from_array(X)
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(ImportError, match=r"skgenad\[dask\]"):
        score(rows, of_arrays)


@pytest.mark.slow  # three processes start, each of which imports torch
@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
def test_a_worker_that_is_killed_costs_no_score(tmp_path, of_arrays):
    distributed = pytest.importorskip("distributed")

    class DiesOnce:
        """It kills the first process that scores the fourth row; others go on."""

        def __init__(self, detector, folder):
            self.detector, self.folder = detector, folder

        def __setstate__(self, state):
            self.__dict__.update(state)
            with open(f"{self.folder}/arrivals", "a") as file:
                file.write(f"{os.getpid()}\n")

        def score_samples(self, rows):
            flag = f"{self.folder}/killed"
            if (rows[:, 0] == X[45, 0]).any() and not os.path.exists(flag):
                with open(flag, "w") as file:
                    file.write(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return self.detector.score_samples(rows)

    rows = da.from_array(X, chunks=(3, 4))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        values = score(rows, DiesOnce(of_arrays, str(tmp_path)))
        got = client.compute(values, sync=True)
    np.testing.assert_array_equal(got, of_arrays.score_samples(X))
    killed = (tmp_path / "killed").read_text()
    arrivals = (tmp_path / "arrivals").read_text().split()
    assert killed != str(os.getpid()) and killed in arrivals
    # Of 20 blocks: once to each worker, to the one that came after, and to the scheduler.
    assert len(arrivals) < 10
