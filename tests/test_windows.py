"""Windows of series, and what scores of windows say of time steps."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skgenad
from skgenad import Mahalanobis, Neighbors
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import SlidingWindows

from ._settings import having, tiny

SIZES = [(1, 1, 1), (1, 1, 9), (5, 1, 5), (5, 1, 23), (5, 2, 22), (5, 3, 6), (5, 5, 24), (7, 4, 17)]
RULES = ["mean", "max", "min", "last"]

sizes = pytest.mark.parametrize(("width", "stride", "n"), SIZES)


def series_of(n, d=2, seed=0):
    return np.random.RandomState(seed).randn(n, d)


@parametrize_with_checks([SlidingWindows(1), SlidingWindows(1, reduce="last")])
def test_passes_scikit_learns_check(estimator, check):
    check(estimator)


@sizes
def test_windows_are_stretches_of_the_series(width, stride, n):
    X = series_of(n)
    found = SlidingWindows(width, stride).fit_transform(X)
    starts = range(0, n - width + 1, stride)
    np.testing.assert_array_equal(found, [X[k : k + width].ravel() for k in starts])


@sizes
@pytest.mark.parametrize("rule", RULES)
def test_scores_of_time_steps_are_those_of_the_windows_that_hold_them(width, stride, n, rule):
    windows = SlidingWindows(width, stride, reduce=rule).fit(series_of(n))
    scores = series_of(len(windows.transform(series_of(n))), 1, seed=1)[:, 0]
    starts = stride * np.arange(len(scores))
    wanted = []
    for t in range(n):
        holds = (starts <= t) & (t < starts + width)
        if rule == "last":
            ended = np.flatnonzero(starts + width - 1 <= t)
            wanted.append(scores[ended[-1] if len(ended) else 0])
        elif holds.any():
            wanted.append(getattr(np, rule)(scores[holds]))
        else:  # after the last window
            wanted.append(scores[-1])
    np.testing.assert_allclose(windows.inverse_scores(scores, n), wanted, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_constant_score_is_that_of_every_step(rule):
    windows = SlidingWindows(6, 4, reduce=rule).fit(series_of(40))
    np.testing.assert_allclose(windows.inverse_scores(np.full(9, 0.3), 40), 0.3)
    assert windows.inverse_scores(np.ones(9)).shape == (38,)  # where the last one ends


def test_the_last_rule_knows_nothing_of_what_comes_later():
    X = series_of(60)
    model = make_pipeline(SlidingWindows(5, reduce="last"), Mahalanobis(device="cpu")).fit(X)

    def scored(rows):
        return model[0].inverse_scores(model.score_samples(rows), len(rows))

    np.testing.assert_array_equal(scored(X)[:30], scored(X[:30]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_of_an_array_are_a_view_of_it(dtype):
    X = series_of(1000).astype(dtype)
    found = SlidingWindows(100).fit(X).transform(X)
    assert np.shares_memory(found, X) and not found.flags.writeable and found.dtype == dtype


def test_other_layouts_and_frames_give_the_same_windows():
    X = series_of(30, 3)
    frame = pd.DataFrame(X, columns=list("abc"), index=pd.date_range("2026", periods=30))
    wanted = SlidingWindows(4, 3).fit_transform(X)
    for other in (np.asfortranarray(X), X.tolist(), np.repeat(X, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(SlidingWindows(4, 3).fit_transform(other), wanted)
    windows = SlidingWindows(2).fit(frame)
    assert windows.get_feature_names_out().tolist() == [
        "a t-1",
        "b t-1",
        "c t-1",
        "a t",
        "b t",
        "c t",
    ]
    assert SlidingWindows(1).fit(X).get_feature_names_out().tolist() == ["x0 t", "x1 t", "x2 t"]
    with pytest.raises(ValueError, match="feature names should match"):
        windows.transform(frame[["b", "a", "c"]])


def test_mistakes_are_said():
    X = series_of(30)
    for parameters, message in (
        ({"width": 0}, "'width' parameter of SlidingWindows must be an int"),
        ({"width": 2.5}, "'width' parameter of SlidingWindows must be an int"),
        ({"width": 3, "stride": 4}, "stride=4 leaves out time steps .* Write stride=3"),
        ({"width": 3, "reduce": "median"}, "'reduce' parameter of SlidingWindows"),
        ({"width": 31}, "X has 30 time steps, fewer than a window of width=31"),
    ):
        with pytest.raises(ValueError, match=message):
            SlidingWindows(**parameters).fit(X)
    windows = SlidingWindows(5, 2).fit(X)
    with pytest.raises(ValueError, match="has 1 features, but SlidingWindows is expecting 2"):
        windows.transform(X[:, :1])
    with pytest.raises(ValueError, match="X has 4 time steps, fewer"):
        windows.transform(X[:4])
    for n_times in (3, 4, 24, 27, 30):
        with pytest.raises(ValueError, match=f"11 windows, but a series of n_times={n_times} has"):
            windows.inverse_scores(np.ones(11), n_times)
    with pytest.raises(ValueError, match="one number for each window"):
        windows.inverse_scores(np.ones((11, 2)))
    with pytest.raises(ValueError, match="scores contains NaN"):
        windows.inverse_scores([np.nan] * 11)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        windows.inverse_scores([])


@pytest.mark.parametrize("detector", having("max_steps"))
def test_any_detector_learns_windows(detector, tmp_path):
    X = np.column_stack([np.sin(np.arange(90) / 2), np.cos(np.arange(90) / 2)])
    model = make_pipeline(SlidingWindows(2, 2), tiny(detector)).fit(X)
    scores = model.score_samples(X[:31])
    assert scores.shape == (15,)
    assert np.isfinite(model[0].inverse_scores(scores, 31)).all()
    skgenad.save(model, tmp_path / "file")
    for copy in (skgenad.load(tmp_path / "file"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.score_samples(X[:31]), scores)
        assert copy[0].inverse_scores(scores, 31).shape == (31,)


def test_a_break_of_a_rhythm_is_found_where_single_steps_tell_nothing():
    rng = np.random.RandomState(0)
    X = np.sin(np.arange(600) / 3)[:, None] + 0.05 * rng.randn(600, 1)
    y = np.zeros(600, dtype=bool)
    X[500:520], y[500:520] = X[497], True
    alone = Neighbors(device="cpu").fit(X[:400]).anomaly_score(X[400:])
    model = make_pipeline(SlidingWindows(20), Neighbors(device="cpu")).fit(X[:400])
    windows = model[0].inverse_scores(model.anomaly_score(X[400:]))
    assert windows[y[400:]].min() > np.quantile(windows[~y[400:]], 0.9)
    assert alone[y[400:]].max() < np.quantile(alone[~y[400:]], 0.9)


def test_widths_can_be_searched_and_several_series_be_put_together():
    X = series_of(200)
    model = make_pipeline(StandardScaler(), SlidingWindows(3), Mahalanobis(device="cpu"))
    search = GridSearchCV(
        model,
        {"slidingwindows__width": [2, 4]},
        scoring=lambda model, X: -np.mean(model.anomaly_score(X)),
        cv=3,
    ).fit(X)
    two, four = search.cv_results_["mean_test_score"]
    assert np.isfinite([two, four]).all() and two != four
    assert search.best_estimator_[1].width == (2 if two > four else 4)
    windows = clone(model[1]).fit(X)
    both = np.concatenate([windows.transform(part) for part in (X[:50], X[100:])])
    assert len(both) == 48 + 98
