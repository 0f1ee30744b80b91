"""The display of what makes a row an anomaly."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import Mahalanobis, Neighbors
from skgenad.inspection import ExplanationDisplay

from ._settings import normal_rows, tiny
from .test_column_wise import frame, odd, prepare


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labels(display):
    return [text.get_text() for text in display.axes_[0, 0].get_yticklabels()]


def texts(panel):
    return [text.get_text() for text in panel.texts]


def test_bars_are_the_largest_contributions():
    X = normal_rows(200, 6)
    detector = Mahalanobis(random_state=0).fit(X)
    rows = X[:5].copy()
    rows[3, [1, 4]] += 6 * X.std(axis=0)[[1, 4]]
    display = ExplanationDisplay.from_estimator(detector, rows, row=3, max_features=2)
    values = detector.explain(rows)[3]
    order = np.argsort(-np.abs(values))
    assert list(display.shown_) == list(order[:2])
    widths = [bar.get_width() for bar in display.bars_]
    assert_allclose(widths, [*values[order[:2]], values[order[2:]].sum()])
    assert labels(display)[-1] == "4 other columns"
    assert labels(display)[0] == f"x{order[0]} = {rows[3, order[0]]:.4g}"
    assert_allclose(display.repaired, detector.repair(rows)[3])
    assert_allclose(display.scores, detector.anomaly_score([rows[3], display.repaired]))
    low, high = display.normal[0]
    assert ((X[:, 0] >= low) & (X[:, 0] <= high)).mean() == pytest.approx(0.9, abs=0.02)
    assert f"{low:.4g}" not in "".join(labels(display))
    j = display.shown_[0]
    assert f"{display.repaired[j]:.4g}" in texts(display.axes_[0, 1])
    display.figure_.canvas.draw()


def test_a_frame_through_a_pipeline_has_its_names_and_categories():
    table = frame()
    pipe = make_pipeline(prepare(), Neighbors()).fit(table)
    rows = odd(table)
    display = ExplanationDisplay.from_estimator(pipe, rows, row=4)
    assert labels(display)[0] == "colour = black"
    assert display.normal[3] == table["colour"].mode()[0]
    assert any("black" in text and "mostly" in text for text in texts(display.axes_[0, 1]))
    low, high = display.normal[1]
    assert 12 < low < high < 30  # in the units of the frame
    assert_allclose(display.scores[0], -pipe.score_samples(rows)[4])
    missing = rows.assign(weight=np.nan)
    ExplanationDisplay.from_estimator(pipe, missing, row=0).figure_.canvas.draw()


def test_searches_and_axes_of_ones_own():
    X = normal_rows(80)
    steps = make_pipeline(StandardScaler(), Neighbors())
    search = GridSearchCV(steps, {"neighbors__n_neighbors": [3]}, scoring=lambda e, X: 0.0, cv=2)
    figure, axes = plt.subplots(1, 2)
    display = ExplanationDisplay.from_estimator(search.fit(X), X[:2] * 3, ax=axes[1], color="k")
    assert display.figure_ is figure and display.bounding_ax_ is axes[1]
    assert display.plot(max_features=1).shown_.shape == (1,)


def test_a_row_that_nothing_is_wrong_with_is_drawn():
    same = [1.0, "a"]
    display = ExplanationDisplay(
        contributions=[0, 0], values=same, repaired=same, normal=[(1.0, 1.0), "a"]
    ).plot()
    assert len(display.shown_) == 1 and labels(display) == ["x0 = 1", "1 other column"]
    display.figure_.canvas.draw()


def test_values_beyond_all_are_arrows():
    display = ExplanationDisplay(
        contributions=[3, 2, 1],
        values=[99.0, -99.0, 4.0],
        repaired=[0.5, 0.5, 3.0],
        normal=[(0.0, 1.0), (0.0, 1.0), (3.0, 3.0)],
        feature_names=["up", "down", "constant"],
    ).plot()
    markers = [line.get_marker() for line in display.axes_[0, 1].lines]
    assert markers.count(">") == markers.count("<") == 1


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame])
def test_places_may_be_counted_from_the_end(kind):
    X = normal_rows()
    detector, X = Mahalanobis(device="cpu").fit(kind(X)), kind(X)
    last = ExplanationDisplay.from_estimator(detector, X, row=-1)
    there = ExplanationDisplay.from_estimator(detector, X, row=len(X) - 1)
    np.testing.assert_array_equal(last.contributions, there.contributions)


def test_what_has_no_explanations_is_refused():
    X = normal_rows()
    with pytest.raises(TypeError, match="needs a detector with explain.*ScoreDetector"):
        ExplanationDisplay.from_estimator(IsolationForest(n_estimators=2).fit(X), X)
    images = np.random.RandomState(0).rand(20, 16)
    detector = tiny("Autoencoder", image_shape=(1, 4, 4)).fit(images)
    with pytest.raises(ValueError, match="contributions of images are maps"):
        ExplanationDisplay.from_estimator(detector, images)


@pytest.mark.parametrize("row", [60, -61, "r3", 1.0, [1]])
def test_rows_that_are_no_places_are_refused(row):
    table = pd.DataFrame(normal_rows(60), columns=list("abcd"), index=[f"r{k}" for k in range(60)])
    detector = Neighbors().fit(table)
    with pytest.raises(ValueError, match="must be the place of one of 60 rows"):
        ExplanationDisplay.from_estimator(detector, table, row=row)
    with pytest.raises(ValueError, match=r"table of rows, got shape \(4,\)"):
        ExplanationDisplay.from_estimator(detector, table.iloc[0])


def test_rows_count_from_the_end_and_a_bar_at_least_is_drawn():
    table = pd.DataFrame(normal_rows(60), columns=list("abcd"))
    detector = Neighbors().fit(table)
    last, same = (ExplanationDisplay.from_estimator(detector, table * 2, row) for row in (-1, 59))
    np.testing.assert_array_equal(last.contributions, same.contributions)
    for wrong, error in ((0, ValueError), (None, TypeError), (2.5, TypeError)):
        with pytest.raises(error, match="max_features"):
            last.plot(max_features=wrong)


def test_frames_of_numbers_have_names_without_a_pipeline():
    table = pd.DataFrame(normal_rows(), columns=list("abcd"))
    display = ExplanationDisplay.from_estimator(Neighbors().fit(table), table * 2, row=1)
    assert labels(display)[0].partition(" = ")[0] in "abcd"
