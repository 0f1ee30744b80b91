"""What the displays draw is what the detectors compute."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from skgenad import MPDR, NAE, Autoencoder
from skgenad._core.training import empty_history
from skgenad.energies import Manifold
from skgenad.inspection import EnergyDisplay, TrainingDisplay

matplotlib.use("Agg")

TINY = {"network": (16,), "max_steps": 60, "random_state": 0, "calibration_fraction": 0.0}
X = np.random.default_rng(0).normal([1.0, -2.0], [1.0, 1.5], size=(80, 2))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def mpdr():
    return MPDR(**TINY, manifold=Manifold(steps=120), score_type="energy").fit(X)


@pytest.fixture(scope="module")
def nae():
    return NAE(**TINY, pretrain_steps=100, temperature=0.1).fit(X)


@pytest.fixture(scope="module")
def autoencoder():
    return Autoencoder(**TINY).fit(X)


def grid_of(display):
    return np.stack(np.meshgrid(display.xs, display.ys), axis=-1).reshape(-1, 2)


def energy(estimator, rows=X, **kwargs):
    return EnergyDisplay.from_estimator(estimator, rows, **{"grid_resolution": 30, **kwargs})


# ---- EnergyDisplay: the map ---------------------------------------------------------------


@pytest.mark.parametrize("detector", ["mpdr", "nae", "autoencoder"])
def test_map_is_minus_the_score_at_each_point_of_the_grid(detector, request):
    detector = request.getfixturevalue(detector)
    display = energy(detector, grid_resolution=7, xlim=(-3, 4), ylim=(-8, 2))
    drawn = display.surface_.get_array()
    assert drawn.shape == (7, 7)
    np.testing.assert_array_equal(np.ravel(drawn), -detector.score_samples(grid_of(display)))
    # The centres of the cells are the points of the grid: columns run along x, rows along y.
    corners = display.surface_.get_coordinates()
    centres = (corners[1:, 1:] + corners[:-1, :-1]) / 2
    np.testing.assert_allclose(centres.reshape(-1, 2), grid_of(display), atol=1e-12)
    assert display.ax_.get_xlim() == (-3, 4)
    assert display.ax_.get_ylim() == (-8, 2)


def test_map_goes_a_margin_beyond_the_rows(mpdr):
    display = energy(mpdr, margin=0.5)
    low, high = X.min(axis=0), X.max(axis=0)
    room = 0.5 * (high - low)
    np.testing.assert_allclose([display.xs[0], display.ys[0]], low - room)
    np.testing.assert_allclose([display.xs[-1], display.ys[-1]], high + room)


def test_rows_in_one_place_have_a_map_around_them(mpdr):
    display = energy(mpdr, np.full((3, 2), 1e6))
    assert display.xs[0] < 1e6 < display.xs[-1]


def test_map_of_given_limits_needs_no_rows(mpdr):
    display = energy(mpdr, None, xlim=(-1, 1), ylim=(-4, 0))
    assert display.data_ is None
    assert (display.xs[0], display.xs[-1], display.ys[0], display.ys[-1]) == (-1, 1, -4, 0)


def test_one_limit_may_be_left_to_the_rows(mpdr):
    display = energy(mpdr, xlim=(-1, 1), margin=0)
    assert (display.xs[0], display.xs[-1]) == (-1, 1)
    np.testing.assert_array_equal(display.ys[[0, -1]], [X[:, 1].min(), X[:, 1].max()])


def test_threshold_is_drawn_where_the_prediction_changes(mpdr):
    display = energy(mpdr, grid_resolution=200)
    assert display.threshold_.levels.tolist() == [mpdr.offset_]
    line = np.concatenate([path.vertices for path in display.threshold_.get_paths()])
    assert len(line) > 50
    # Between two points of the grid the score is not linear, so up to the change over a cell.
    scores = -display.values
    change = max(np.abs(np.diff(scores, axis=0)).max(), np.abs(np.diff(scores, axis=1)).max())
    assert np.abs(mpdr.decision_function(line)).max() < change
    assert change < 0.05 * np.ptp(scores)


def test_threshold_that_is_nowhere_on_the_map_is_left_out(mpdr):
    display = energy(mpdr, xlim=(100, 101), ylim=(100, 101))
    assert display.threshold_ is None
    assert "threshold" not in [text.get_text() for text in display.legend_.get_texts()]


def test_detectors_of_scikit_learn_may_be_drawn_too():
    forest = IsolationForest(n_estimators=5, random_state=0).fit(X)
    display = energy(forest)
    np.testing.assert_array_equal(display.values.ravel(), -forest.score_samples(grid_of(display)))
    assert display.threshold_.levels.tolist() == [forest.offset_]
    assert display.negatives_ is None


def test_model_without_a_threshold_has_no_line():
    assert energy(GaussianMixture(2, random_state=0).fit(X)).threshold_ is None


# ---- EnergyDisplay: points ----------------------------------------------------------------


def test_rows_and_latest_negatives_are_drawn_as_points(mpdr):
    display = energy(mpdr, subsample=None)
    np.testing.assert_array_equal(display.data_.get_offsets(), X)
    np.testing.assert_array_equal(display.negatives_.get_offsets(), mpdr.negatives_)
    assert len(mpdr.negatives_) == 1000


def test_subsample_bounds_the_points_and_is_repeatable(mpdr):
    display = energy(mpdr, subsample=20)
    drawn = display.data_.get_offsets()
    assert drawn.shape == display.negatives_.get_offsets().shape == (20, 2)
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in X}
    np.testing.assert_array_equal(drawn, energy(mpdr, subsample=20).data_.get_offsets())
    other = energy(mpdr, subsample=20, random_state=1).data_.get_offsets()
    assert not np.array_equal(drawn, other)
    # Chosen among all of X, which also says how far the map goes.
    assert display.xs[-1] == energy(mpdr).xs[-1]


def test_detector_without_negatives_has_none_drawn(autoencoder, mpdr, tmp_path):
    assert energy(autoencoder).negatives_ is None
    mpdr.save(tmp_path / "detector")
    loaded = MPDR.load(tmp_path / "detector")  # which files do not keep
    assert energy(loaded).negatives_ is None


def test_legend_says_when_all_negatives_are_beyond_the_map(mpdr):
    display = energy(mpdr, xlim=(100, 101))
    texts = [text.get_text() for text in display.legend_.get_texts()]
    assert "negatives (all beyond the map)" in texts
    texts = [text.get_text() for text in energy(mpdr).legend_.get_texts()]
    assert texts == ["data", "negatives", "threshold"]


def test_what_is_switched_off_is_not_drawn(mpdr):
    off = ("plot_data", "plot_negatives", "plot_threshold", "colorbar", "legend")
    display = energy(mpdr, **dict.fromkeys(off, False))
    drawn = ("data_", "negatives_", "threshold_", "colorbar_", "legend_")
    assert [getattr(display, name) for name in drawn] == [None] * 5
    assert list(display.ax_.collections) == [display.surface_]
    assert display.figure_.axes == [display.ax_]
    assert not display.figure_.legends


def test_legend_of_nothing_is_left_out(mpdr):
    off = ("plot_data", "plot_negatives", "plot_threshold")
    assert energy(mpdr, **dict.fromkeys(off, False)).legend_ is None


# ---- EnergyDisplay: density ---------------------------------------------------------------


def integral(display):
    return display.values.sum() * np.diff(display.xs)[0] * np.diff(display.ys)[0]


@pytest.mark.parametrize("detector", ["mpdr", "nae"])
def test_density_is_that_of_the_detector(detector, request):
    detector = request.getfixturevalue(detector)
    display = energy(detector, response="density")
    np.testing.assert_allclose(
        display.surface_.get_array(),
        np.exp(detector.log_density_grid(display.xs, display.ys)),
    )
    assert integral(display) == pytest.approx(1)
    # The threshold is the score's all the same.
    assert display.threshold_.levels.tolist() == [detector.offset_]


class Normal(IsolationForest):
    """Has a density of its own, that of a standard normal variable."""

    def log_density(self, X):
        assert type(X) is (pd.DataFrame if hasattr(self, "feature_names_in_") else np.ndarray)
        return -np.log(2 * np.pi) - 0.5 * np.square(np.asarray(X)).sum(axis=1)


@pytest.mark.parametrize("table", [False, True])
def test_density_without_a_grid_of_its_own_is_evaluated_at_the_points(table):
    rows = pd.DataFrame(X, columns=["a", "b"]) if table else X
    detector = Normal(n_estimators=2, random_state=0).fit(rows)
    display = energy(detector, rows, response="density", xlim=(-5, 5), ylim=(-6, 6))
    by_point = np.exp(-0.5 * np.square(grid_of(display)).sum(axis=1)) / (2 * np.pi)
    np.testing.assert_allclose(display.values.ravel(), by_point)


def test_density_of_a_detector_without_one_names_what_is_possible(autoencoder):
    with pytest.raises(ValueError, match=r"Autoencoder has no density.*response='energy'"):
        energy(autoencoder, response="density")


# ---- EnergyDisplay: pipelines and searches ------------------------------------------------


def test_pipeline_is_drawn_in_the_units_of_its_rows():
    scale = StandardScaler()
    pipeline = make_pipeline(scale, MPDR(**TINY, manifold=Manifold(steps=50))).fit(1000 * X)
    display = energy(pipeline, 1000 * X, subsample=None)
    np.testing.assert_array_equal(display.values.ravel(), -pipeline.score_samples(grid_of(display)))
    assert display.threshold_.levels.tolist() == [pipeline[-1].offset_]
    np.testing.assert_allclose(
        display.negatives_.get_offsets(), scale.inverse_transform(pipeline[-1].negatives_)
    )
    assert display.estimator_name == "MPDR"


def test_negatives_are_left_out_where_there_is_no_way_back():
    pipeline = make_pipeline(Normalizer(), MPDR(**TINY, manifold=Manifold(steps=50))).fit(X)
    display = energy(pipeline)
    assert display.negatives_ is None
    assert len(display.data_.get_offsets()) == len(X)


def test_steps_may_be_pipelines():
    inner = make_pipeline(StandardScaler(), MPDR(**TINY, manifold=Manifold(steps=50)))
    outer = make_pipeline(FunctionTransformer(np.log, np.exp), inner)
    rows = np.exp(X)
    display = energy(outer.fit(rows), rows, subsample=None, margin=0)  # the logarithm's side
    negatives = np.exp(inner[0].inverse_transform(inner[-1].negatives_))
    np.testing.assert_allclose(display.negatives_.get_offsets(), negatives)


def test_pipeline_of_the_detector_alone_is_the_detector(mpdr):
    display = energy(Pipeline([("detect", mpdr)]), response="density")
    np.testing.assert_array_equal(display.values, energy(mpdr, response="density").values)


@pytest.mark.parametrize(
    "step",
    [StandardScaler(), FunctionTransformer(np.sinh, np.arcsinh)],
    ids=["linear", "not linear"],
)
def test_density_of_a_pipeline_is_in_the_units_of_its_rows(step):
    rows = (X - X.mean(axis=0)) / 2
    detector = Normal(n_estimators=2, random_state=0)
    pipeline = make_pipeline(step, detector).fit(rows)
    limits = {"xlim": (-3.5, 3.5), "ylim": (-4, 4), "grid_resolution": 400}
    display = energy(pipeline, rows, response="density", **limits)
    # Both ends of either axis are far out in the detector's units: all of the density is there.
    assert integral(display) == pytest.approx(1, abs=0.01)
    middle = np.abs(display.values[200, 200] * 2 * np.pi)
    slope = np.prod(step.scale_) ** -1.0 if isinstance(step, StandardScaler) else 1.0
    assert middle == pytest.approx(slope, rel=0.01)


@pytest.mark.parametrize("step", [PCA(), FunctionTransformer(np.negative)])
def test_density_behind_steps_that_mix_or_turn_columns_is_refused(step):
    pipeline = make_pipeline(step, MPDR(**TINY, manifold=Manifold(steps=50))).fit(X)
    with pytest.raises(ValueError, match="scale each of the two columns by itself"):
        energy(pipeline, response="density")
    assert energy(pipeline).values.shape == (30, 30)


def test_search_is_drawn_by_its_best_estimator():
    pipeline = make_pipeline(StandardScaler(), Autoencoder(**TINY))
    grid = {"autoencoder__contamination": [0.2]}
    search = GridSearchCV(pipeline, grid, scoring=lambda est, X, y=None: 0.0, cv=2).fit(X)
    display = energy(search)
    best = search.best_estimator_
    np.testing.assert_array_equal(display.values.ravel(), -best.score_samples(grid_of(display)))
    assert display.threshold_.levels.tolist() == [best[-1].offset_]


# ---- EnergyDisplay: labels and colours ----------------------------------------------------


def test_columns_name_the_axes():
    rows = pd.DataFrame(X, columns=["width", "height"])
    detector = Autoencoder(**TINY).fit(rows)
    for given in (rows, None):
        display = energy(detector, given, xlim=(0, 1), ylim=(0, 1))
        assert display.ax_.get_xlabel() == "width"
        assert display.ax_.get_ylabel() == "height"
    with pytest.raises(ValueError, match="feature names should match"):
        energy(detector, rows[["height", "width"]])


def test_columns_without_names_are_numbered(autoencoder):
    display = energy(autoencoder)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("x0", "x1")


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("energy", "MPDR energy, $-$score_samples (low is normal)"),
        ("density", "MPDR density (per unit area)"),
    ],
)
def test_colour_bar_says_what_is_drawn_and_in_what_unit(mpdr, response, label):
    display = energy(mpdr, response=response)
    assert display.colorbar_.ax.get_ylabel() == label


def draw(values, **kwargs):
    return EnergyDisplay(xs=[0, 1, 2], ys=[0, 1], values=values, **kwargs)


def test_colours_are_logarithmic_for_positive_energies_far_apart_only():
    far, near, signed = [[1e-3, 1, 1], [1, 1, 1e3]], [[1, 2, 3], [4, 5, 6]], [[-1e3, 0, 1], [1] * 3]
    assert type(draw(far).plot().surface_.norm) is colors.LogNorm
    assert type(draw(near).plot().surface_.norm) is colors.Normalize
    assert type(draw(signed).plot().surface_.norm) is colors.Normalize
    assert type(draw(far, response="density").plot().surface_.norm) is colors.Normalize


def test_colours_of_an_energy_leave_extremes_to_the_ends_of_the_bar():
    values = np.arange(6.0).reshape(2, 3)
    display = draw(values).plot()
    assert display.surface_.get_clim() == tuple(np.percentile(values, [1, 99]))
    assert display.colorbar_.extend == "both"


def test_colours_of_a_density_begin_at_zero_and_reach_its_maximum():
    display = draw([[1, 2, 3], [1, 1, 1]], response="density").plot()
    assert display.surface_.get_clim() == (0, 3)
    assert display.colorbar_.extend == "neither"


def test_infinite_energies_leave_the_colours_of_the_others():
    display = draw([[np.inf, 2, 3], [1, 1, 1]]).plot()
    assert 1 <= display.surface_.get_clim()[0] < display.surface_.get_clim()[1] <= 3


def test_arguments_of_the_mesh_go_before_ours():
    values = [[1, 2, 3], [4, 5, 6]]
    display = draw(values).plot(cmap="cividis", vmax=5)
    assert display.surface_.get_cmap().name == "cividis"
    assert display.surface_.get_clim() == (np.percentile(values, 1), 5)
    assert display.colorbar_.extend == "both"
    norm = colors.LogNorm(0.5, 10)
    display = draw(values).plot(norm=norm)
    assert display.surface_.norm is norm
    assert display.colorbar_.extend == "neither"


def test_arguments_of_points_and_threshold_go_before_ours(mpdr):
    display = energy(
        mpdr,
        data_kwargs={"color": "red", "label": "training rows"},
        negatives_kwargs={"s": 77},
        threshold_kwargs={"linewidths": 5},
    )
    np.testing.assert_array_equal(display.data_.get_facecolor(), [colors.to_rgba("red")])
    assert display.legend_.get_texts()[0].get_text() == "training rows"
    assert display.negatives_.get_sizes() == [77]
    assert display.threshold_.get_linewidths() == [5]


@pytest.mark.parametrize(("width", "aspect"), [(1.5, 1.0), (3.0, "auto")])
def test_sides_of_similar_length_have_one_scale(autoencoder, width, aspect):
    display = energy(autoencoder, None, xlim=(0, width), ylim=(0, 1))
    assert display.ax_.get_aspect() == aspect


# ---- EnergyDisplay: where it is drawn -----------------------------------------------------


def test_drawn_in_the_axes_that_are_given_without_pyplot(mpdr):
    ax = Figure().subplots()
    display = energy(mpdr, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert display.legend_ is ax.get_legend()
    assert matplotlib.pyplot.get_fignums() == []


def test_display_can_be_drawn_again(mpdr):
    display = energy(mpdr)
    first, values = display.ax_, display.values.copy()
    assert matplotlib.pyplot.get_fignums() == [1]
    assert display.plot() is display
    assert display.ax_ is not first
    np.testing.assert_array_equal(display.surface_.get_array(), values)


# ---- EnergyDisplay: errors ----------------------------------------------------------------


def test_unfitted_detectors_are_refused():
    for estimator in (MPDR(), make_pipeline(StandardScaler(), MPDR())):
        with pytest.raises(NotFittedError):
            energy(estimator)
        with pytest.raises(NotFittedError):
            TrainingDisplay.from_estimator(estimator)


def test_only_detectors_of_two_columns_can_be_drawn():
    detector = Autoencoder(**TINY).fit(np.hstack([X, X]))
    for estimator in (detector, Pipeline([("detect", detector)])):
        with pytest.raises(ValueError, match="fitted on 4 features, it needs 2"):
            energy(estimator)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"rows": None}, ValueError, "pass X.*or both xlim and ylim; xlim is not given"),
        ({"rows": None, "xlim": (0, 1)}, ValueError, "ylim is not given"),
        ({"rows": np.ones((3, 3))}, ValueError, "3 features, but Autoencoder is expecting 2"),
        ({"rows": np.full((3, 2), np.nan)}, ValueError, "contains NaN"),
        ({"xlim": (1, 0)}, ValueError, r"xlim=\(1, 0\) must be two finite numbers"),
        ({"ylim": (0, np.inf)}, ValueError, "ylim"),
        ({"response": "score"}, ValueError, "response='score' must be 'energy' or 'density'"),
        ({"grid_resolution": 1}, ValueError, "grid_resolution == 1, must be >= 2"),
        ({"margin": -0.1}, ValueError, "margin == -0.1, must be >= 0"),
        ({"subsample": 0}, ValueError, "subsample == 0, must be >= 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(autoencoder, kwargs, error, message):
    with pytest.raises(error, match=message):
        energy(autoencoder, **kwargs)


def test_estimator_without_scores_is_refused():
    with pytest.raises(TypeError, match="score_samples.*NearestNeighbors"):
        energy(NearestNeighbors().fit(X))


def test_missing_matplotlib_is_named_with_the_extra(monkeypatch, mpdr):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    for draw_it in (energy, TrainingDisplay.from_estimator):
        with pytest.raises(ImportError, match=r'matplotlib.*"skgenad\[plot\]"'):
            draw_it(mpdr)


# ---- TrainingDisplay ----------------------------------------------------------------------


def drawn(lines):
    return [np.transpose(line.get_data()).tolist() for line in lines]


def test_lines_are_the_columns_of_the_history_by_stage(mpdr):
    display = TrainingDisplay.from_estimator(mpdr)
    history = mpdr.history_
    stages = [history[history["stage"] == name] for name in ("manifold", "energy")]
    assert drawn(display.lines_["loss"]) == [s[["step", "loss"]].values.tolist() for s in stages]
    for name in ("energy", "negative_energy"):
        assert drawn(display.lines_[name]) == [stages[1][["step", name]].values.tolist()]


def test_every_stage_has_a_labelled_column(mpdr):
    display = TrainingDisplay.from_estimator(mpdr)
    assert display.axes_.shape == (2, 2)
    losses, energies = display.axes_
    assert [ax.get_title() for ax in losses] == ['stage "manifold"', 'stage "energy"']
    assert [ax.get_ylabel() for ax in losses] == ["loss", "loss"]
    assert energies[0] is None
    assert energies[1].get_ylabel() == "mean energy"
    assert [losses[0].get_xlabel(), energies[1].get_xlabel()] == ["gradient step"] * 2
    assert [t.get_text() for t in energies[1].get_legend().get_texts()] == ["data", "negatives"]
    assert energies[1].get_xlim() == losses[1].get_xlim()
    assert losses[1].get_xlim()[0] == 0


def test_detector_without_energies_has_one_panel(autoencoder):
    display = TrainingDisplay.from_estimator(autoencoder)
    assert display.axes_.shape == (1, 1)
    assert display.lines_.keys() == {"loss"}
    assert display.bounding_ax_ is None


def test_energy_that_is_the_loss_is_not_drawn_twice(nae):
    pretrain = nae.history_[nae.history_["stage"] == "pretrain"]
    np.testing.assert_allclose(pretrain["energy"], pretrain["loss"])
    display = TrainingDisplay.from_estimator(nae)
    assert display.axes_[1, 0] is None
    assert len(display.lines_["energy"]) == 1


def test_steps_go_on_where_a_stage_is_run_again():
    detector = Autoencoder(**TINY).fit(X).partial_fit(X).partial_fit(X)
    assert detector.history_["step"].tolist() == [50, 60, 15, 10]
    display = TrainingDisplay.from_estimator(detector)
    assert display.axes_.shape == (1, 1)
    steps = [line.get_xdata().tolist() for line in display.lines_["loss"]]
    assert steps == [[50, 60], [75], [85]]
    dotted = [line for line in display.axes_[0, 0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [60, 75]


def test_continued_energies_are_named_once(mpdr):
    display = TrainingDisplay(history=pd.concat([mpdr.history_, mpdr.history_.tail(2)])).plot()
    assert len(display.lines_["energy"]) == 2
    legend = display.axes_[1, 1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["data", "negatives"]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([3.0, 2.0, 1.0], "linear"), ([100.0, 1.0, 1.0], "log"), ([100.0, -1.0, -1.0], "symlog")],
)
def test_losses_that_fall_far_are_logarithmic(losses, scale):
    history = pd.DataFrame({"stage": "a", "step": [50, 100, 150], "loss": losses})
    display = TrainingDisplay(history=history).plot()
    assert display.axes_[0, 0].get_yscale() == scale
    display.figure_.draw_without_rendering()  # its ticks can be made


def test_losses_that_are_not_finite_leave_a_gap():
    history = pd.DataFrame({"stage": "a", "step": [50, 100, 150], "loss": [1.0, np.nan, np.inf]})
    display = TrainingDisplay(history=history).plot()
    display.figure_.draw_without_rendering()
    assert display.axes_[0, 0].get_yscale() == "linear"


def test_few_epochs_are_marked_since_one_makes_no_line():
    history = pd.DataFrame({"stage": "a", "step": [50], "loss": [1.0]})
    assert TrainingDisplay(history=history).plot().lines_["loss"][0].get_marker() == "o"


def test_panels_share_the_place_of_the_axes_that_are_given(mpdr):
    figure = Figure()
    axes = figure.subplots(1, 2)
    display = TrainingDisplay.from_estimator(mpdr, ax=axes[1])
    assert display.bounding_ax_ is axes[1]
    assert display.figure_ is figure
    place = axes[1].get_position()
    for ax in [ax for ax in display.axes_.ravel() if ax is not None]:
        inside = ax.get_position()
        assert place.x0 - 1e-9 <= inside.x0 < inside.x1 <= place.x1 + 1e-9
        assert place.y0 - 1e-9 <= inside.y0 < inside.y1 <= place.y1 + 1e-9
    assert matplotlib.pyplot.get_fignums() == []


def test_single_panel_is_drawn_in_the_axes_themselves(autoencoder):
    ax = Figure().add_axes((0, 0, 1, 1))
    assert TrainingDisplay.from_estimator(autoencoder, ax=ax).axes_[0, 0] is ax


def test_several_panels_do_not_fit_into_axes_of_no_grid(mpdr):
    ax = Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="2 x 2 panels.*no subplot"):
        TrainingDisplay.from_estimator(mpdr, ax=ax)


def test_arguments_of_lines_go_before_ours(mpdr):
    display = TrainingDisplay.from_estimator(mpdr, linewidth=4)
    assert {line.get_linewidth() for lines in display.lines_.values() for line in lines} == {4}


def test_history_of_a_pipelines_last_step_is_drawn(autoencoder):
    display = TrainingDisplay.from_estimator(Pipeline([("detect", autoencoder)]))
    assert display.history is autoencoder.history_


def test_detector_that_was_not_trained_by_gradients_is_refused():
    detector = Autoencoder(**TINY).fit(X)
    detector.history_ = empty_history()
    with pytest.raises(ValueError, match=r"Autoencoder has no course of training.*is empty"):
        TrainingDisplay.from_estimator(detector)
    with pytest.raises(ValueError, match="history_ is missing"):
        TrainingDisplay.from_estimator(IsolationForest(n_estimators=2).fit(X))
