"""What the scales of a flow say about two data sets."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skgenad.inspection import ScaleDisplay

from ._settings import normal_rows, tiny

matplotlib.use("Agg")
A = np.random.default_rng(0).normal(0, 1, (80, 6))
B = np.random.default_rng(1).normal([1, 1, 0, 0, -3, -3], 1, (50, 6))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


class Flow(BaseEstimator):
    """Its scales are the sums of pairs of columns."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def scale_contributions(self, X):
        return X.reshape(len(X), -1, 2).sum(axis=2)


FLOW = Flow().fit(A)


def scales(X):
    return FLOW.scale_contributions(X)


def test_histograms_of_all_scales_and_their_sum_hold_all_rows():
    display = ScaleDisplay.from_estimator(FLOW, A, B, labels=("digits", "letters"))
    assert display.axes_.shape == (1, 4)
    both = [np.column_stack([scales(X), scales(X).sum(axis=1)]) for X in (A, B)]
    for k, (panel, pair) in enumerate(zip(display.axes_[0], display.drawn_, strict=True)):
        ends = [np.quantile(values[:, k], (0.01, 0.99)) for values in both]
        edges = np.linspace(np.min(ends), np.max(ends), 41)
        for values, steps in zip(both, pair, strict=True):
            kept = values[:, k].clip(edges[0], edges[-1])
            heights, _ = np.histogram(kept, edges, density=True)
            assert (heights * np.diff(edges)).sum() == pytest.approx(1)
            corners = steps.get_path().vertices
            assert corners[:, 1].max() == pytest.approx(heights.max())
            assert {*edges} == {*corners[:, 0]}
        truth = np.repeat([1, 0], [80, 50])
        area = roc_auc_score(truth, np.concatenate([values[:, k] for values in both]))
        assert panel.get_title().endswith(f"AUROC {area:.2f}")
        assert panel.get_xlabel() == "nats (outer bins: and beyond)"
    titles = [panel.get_title().split("\n")[0] for panel in display.axes_[0]]
    assert titles == ["scale 1", "scale 2", "scale 3 (last)", "sum: log-likelihood"]
    assert [text.get_text() for text in display.legend_.get_texts()] == ["digits", "letters"]
    assert display.estimator_name == "Flow"


def test_one_row_far_out_does_not_hide_the_others():
    near = np.random.RandomState(0).randn(500, 1)
    display = ScaleDisplay(contributions=np.r_[near, [[-1e9]]], other_contributions=near).plot()
    low, high = display.axes_[0, 0].get_xlim()
    assert -5 < low < high < 5


@pytest.mark.filterwarnings("error")
def test_data_without_a_finite_contribution_have_no_auroc():
    nothing = np.full((3, 1), np.nan)
    display = ScaleDisplay(contributions=np.ones((4, 1)), other_contributions=nothing).plot()
    assert display.axes_[0, 0].get_title() == "scale 1\nno finite values"


def test_the_first_data_set_is_the_one_that_should_be_higher():
    display = ScaleDisplay(contributions=[[1.0], [2.0]], other_contributions=[[0.0]]).plot(bins=3)
    assert display.axes_[0, 0].get_title() == "scale 1\nAUROC 1.00"


def test_dots_are_the_scales_against_the_last_one():
    display = ScaleDisplay.from_estimator(FLOW, A, B, kind="scatter", s=5)
    assert display.axes_.shape == (1, 2)
    for k, pair in enumerate(display.drawn_):
        for X, dots in zip((A, B), pair, strict=True):
            np.testing.assert_array_equal(dots.get_offsets(), scales(X)[:, [k, 2]])
            assert dots.get_sizes() == [5]
        panel = display.axes_[0, k]
        labels = (panel.get_xlabel(), panel.get_ylabel())
        assert labels == (f"scale {k + 1}, nats", "scale 3 (last), nats")


def test_one_scale_is_one_histogram():
    display = ScaleDisplay(contributions=A[:, :1], other_contributions=B[:, :1]).plot()
    assert display.axes_.shape == (1, 1)
    with pytest.raises(ValueError, match="kind='scatter' needs 2 scales or more"):
        display.plot(kind="scatter")


@pytest.mark.parametrize("kind", ["hist", "scatter"])
def test_what_is_not_finite_is_left_out(kind):
    some = scales(A).copy()
    some[3, 0], some[5, 2] = -np.inf, np.nan
    display = ScaleDisplay(contributions=some, other_contributions=scales(B)).plot(kind=kind)
    display.figure_.draw_without_rendering()
    if kind == "scatter":
        assert len(display.drawn_[0][0].get_offsets()) == 78


def test_a_pipelines_steps_come_before_the_detector():
    pipeline = make_pipeline(FunctionTransformer(np.negative), Flow()).fit(A)
    display = ScaleDisplay.from_estimator(pipeline, A, B)
    np.testing.assert_array_equal(display.contributions, -scales(A))
    np.testing.assert_array_equal(display.other_contributions, -scales(B))


@pytest.mark.parametrize("kind", ["hist", "scatter"])
def test_everything_is_inside_of_the_place_that_is_given(kind):
    figure = Figure()
    axes = figure.subplots(1, 2)
    display = ScaleDisplay.from_estimator(FLOW, A, B, kind=kind, ax=axes[0])
    assert display.bounding_ax_ is axes[0] and display.figure_ is figure
    place = axes[0].get_position()
    assert all(ax.get_position().x1 <= place.x1 + 1e-9 for ax in display.axes_[0])
    assert plt.get_fignums() == []
    own = display.plot(kind=kind)
    own.figure_.draw_without_rendering()
    box = own.figure_.get_tightbbox()
    assert box.x0 >= -0.01 and box.y1 <= own.figure_.bbox_inches.height + 0.01


def test_what_cannot_be_drawn_is_refused():
    rows = normal_rows()
    with pytest.raises(TypeError, match="needs a detector with scale_contributions.*got VAE"):
        ScaleDisplay.from_estimator(tiny("VAE").fit(rows), rows, rows)
    with pytest.raises(NotFittedError):
        ScaleDisplay.from_estimator(Flow(), A, B)
    with pytest.raises(ValueError, match="kind='box' must be 'hist' or 'scatter'"):
        ScaleDisplay.from_estimator(FLOW, A, B, kind="box")
    for other in (B, B[:, 0]):
        with pytest.raises(ValueError, match=r"shapes \(80, 3\) and .* the same n_scales"):
            ScaleDisplay(contributions=scales(A), other_contributions=other).plot()
