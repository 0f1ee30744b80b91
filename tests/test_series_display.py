"""The picture of a series: panels, what is filled and shaded, what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skgenad import Mahalanobis
from skgenad.inspection import SeriesDisplay
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import SlidingWindows

from ._settings import normal_rows


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def model(*steps):
    return make_pipeline(*steps, Mahalanobis(device="cpu", random_state=0))


def test_columns_and_scores_have_panels_of_one_time():
    X = normal_rows(60)
    fitted = model(SlidingWindows(5, 2)).fit(X)
    display = SeriesDisplay.from_estimator(fitted, X, linewidth=2)
    assert len(display.axes_) == len(display.lines_) == 5 == len(display.figure_.axes) - 1
    for line, values in zip(display.lines_, [*X.T, display.scores], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)
        assert line.get_linewidth() == 2
    wanted = fitted[0].inverse_scores(fitted.anomaly_score(X), 60)
    np.testing.assert_array_equal(display.scores, wanted)
    assert display.threshold == -fitted[-1].offset_
    assert len({panel.get_xlim() for panel in display.axes_}) == 1
    assert [panel.get_title(loc="left") for panel in display.axes_][:2] == ["x0", "x1"]


@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 1], [True, False, False, True, True]])
def test_what_is_labelled_is_shaded_in_every_panel(labels):
    y = np.repeat(labels, 12)
    display = SeriesDisplay.from_estimator(model().fit(normal_rows(60)), normal_rows(60), y)
    for panel in display.axes_:
        shaded = sorted(patch.get_x() for patch in panel.patches)
        starts = np.flatnonzero(np.diff(np.concatenate([[0], y])) > 0)
        np.testing.assert_allclose(shaded, starts - 0.5)
        assert sum(patch.get_width() for patch in panel.patches) == y.sum()


def test_steps_beyond_the_threshold_are_filled():
    scores = np.array([0.0, 0.0, 3.0, 3.0, 0.0, 0.0])
    display = SeriesDisplay(X=np.zeros((6, 1)), scores=scores, threshold=1.0).plot()
    (path,) = display.beyond_.get_paths()
    # From where the line crosses the threshold to where it does so again.
    np.testing.assert_allclose(path.get_extents().bounds, (4 / 3, 1, 7 / 3, 2))
    alone = SeriesDisplay(X=np.zeros((5, 1)), scores=[0.0, 0.0, 3.0, 0.0, 0.0], threshold=1.0)
    (path,) = alone.plot().beyond_.get_paths()
    np.testing.assert_allclose(path.get_extents().bounds, (4 / 3, 1, 4 / 3, 2))
    assert SeriesDisplay(X=np.zeros((6, 1)), scores=scores).plot().beyond_ is None


def test_searches_frames_names_and_axes_of_others():
    frame = pd.DataFrame(normal_rows(60), columns=["valve", "flow", "heat", "noise"])
    pipeline = model(StandardScaler(), SlidingWindows(3))
    grid = {"slidingwindows__width": [2, 4]}
    search = GridSearchCV(pipeline, grid, scoring=lambda m, X: 0.0, cv=2).fit(frame)
    figure, axes = plt.subplots(1, 2)
    display = SeriesDisplay.from_estimator(search, frame, ax=axes[1], max_features=2)
    assert display.figure_ is figure and len(display.axes_) == 3
    titles = [panel.get_title(loc="left") for panel in display.axes_]
    assert titles == ["valve", "flow", "anomaly score"] and len(display.scores) == 60


def test_mistakes_are_said():
    X = normal_rows(60)
    with pytest.raises(TypeError, match="needs a detector with offset_"):
        SeriesDisplay.from_estimator(StandardScaler().fit(X), X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SeriesDisplay.from_estimator(model().fit(X), X, np.zeros(59))
    with pytest.raises(ValueError, match="max_features == 0, must be >= 1"):
        SeriesDisplay.from_estimator(model().fit(X), X, max_features=0)
