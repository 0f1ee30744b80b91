"""Pictures of images, of their reconstructions and errors, and of samples."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skgenad import EBM, MPDR, VAE, Autoencoder
from skgenad.inspection import AnomalyMapDisplay, ReconstructionDisplay, SamplesDisplay
from skgenad.inspection._pictures import outline

from ._settings import normal_rows, tiny
from .test_images import on_images, pixels

matplotlib.use("Agg")

SHAPES = [(1, 8, 8), (3, 6, 9), (2, 9, 5)]
X = pixels() / 255


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def detector():
    return on_images(Autoencoder).fit(X)


@pytest.fixture(scope="module")
def vae():
    return on_images(VAE).fit(X)


def drawn(image):
    return np.asarray(image.get_array())


def images_of(axes):
    return [drawn(ax.images[0]) for ax in np.ravel(axes)]


def as_drawn(images):
    """Images (n, C, H, W) as they are shown: in colour, or their mean in grey."""
    images = np.asarray(images)
    return images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images.mean(axis=1)


def everything_fits(display):
    """Tell whether all that is drawn lies inside of the figure."""
    figure = display.figure_
    for _ in range(2):  # the layout may move things the second time
        figure.draw_without_rendering()
    box, whole = figure.get_tightbbox(), figure.bbox_inches
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.width and box.y1 <= whole.height


# ---- AnomalyMapDisplay --------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_panels_show_what_the_detector_computes(shape):
    images = pixels(shape=shape) / 255
    fitted = on_images(Autoencoder, shape).fit(images)
    display = AnomalyMapDisplay.from_estimator(fitted, images[:3])
    assert display.axes_.shape == (3, 4)
    np.testing.assert_allclose(images_of(display.axes_[:, 0]), as_drawn(images[:3]))
    back = fitted.reconstruct(images[:3]).reshape(3, *shape)
    np.testing.assert_allclose(images_of(display.axes_[:, 1]), as_drawn(back))
    maps = fitted.anomaly_map(images[:3])
    np.testing.assert_array_equal(images_of(display.axes_[:, 2]), maps)
    np.testing.assert_array_equal([drawn(image) for image in display.overlays_], maps)
    np.testing.assert_allclose(images_of(display.axes_[:, 3]), images[:3].mean(axis=1))
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["image", "reconstruction", "error", "error over image"]
    assert everything_fits(display)


def test_all_maps_have_the_same_colours_from_zero_to_the_largest_error(detector):
    display = AnomalyMapDisplay.from_estimator(detector, X[:4])
    norms = {image.norm for image in [*display.maps_, *display.overlays_]}
    assert len(norms) == 1
    assert display.maps_[0].get_clim() == (0, display.maps.max())
    assert display.colorbar_.extend == "neither"
    assert display.colorbar_.ax.get_ylabel() == "Autoencoder: error of a pixel"


def test_grey_images_are_drawn_from_black_to_white(detector):
    display = AnomalyMapDisplay.from_estimator(detector, 0.4 + 0.1 * X[:2])
    assert {ax.images[0].get_clim() for ax in display.axes_[:, :2].ravel()} == {(0, 1)}


def test_the_overlay_is_the_more_opaque_the_larger_the_error(detector):
    display = AnomalyMapDisplay.from_estimator(detector, X[:2])
    for overlay, values in zip(display.overlays_, display.maps, strict=True):
        alpha = overlay.get_alpha()
        assert alpha.min() >= 0 and alpha.max() <= 1
        assert (np.diff(alpha.ravel()[values.ravel().argsort()]) >= 0).all()


def test_scores_and_threshold_stand_beside_the_images(detector):
    display = AnomalyMapDisplay.from_estimator(detector, X[:2])
    for ax, score in zip(display.axes_[:, 0], detector.anomaly_score(X[:2]), strict=True):
        expected = f"score {score:.3g}\nthreshold {-detector.offset_:.3g}"
        assert ax.get_ylabel() == expected


def test_defects_are_outlined_along_their_pixels(detector):
    masks = np.zeros((3, 8, 8))
    masks[1, 2:4, 5] = 1
    masks[2, 0, 0] = 1
    display = AnomalyMapDisplay.from_estimator(detector, X[:3], masks)
    lines = [np.array(collection.get_segments()) for collection in display.outlines_]
    assert [len(segments) for segments in lines] == [0, 6, 4]
    corners = {tuple(point) for point in lines[1].reshape(-1, 2)}
    assert corners == {(x, y) for x in (4.5, 5.5) for y in (1.5, 2.5, 3.5)}
    assert lines[2].min() == -0.5 and lines[2].max() == 0.5
    assert "outlined" in display.axes_[0, 3].get_title()
    # The axes keep to the image.
    assert display.axes_[1, 3].get_xlim() == (-0.5, 7.5)
    same = AnomalyMapDisplay.from_estimator(detector, X[:9], masks[:, None].repeat(3, axis=0))
    assert len(same.outlines_) == 6


def test_an_outline_separates_inside_from_outside():
    mask = np.random.RandomState(0).rand(6, 7) > 0.5
    segments = outline(mask)
    crossed = {tuple(middle) for middle in segments.mean(axis=1)}
    assert len(crossed) == len(segments)
    padded = np.pad(mask, 1)
    for y in range(-1, 7):
        for x in range(-1, 8):
            here = padded[y + 1, x + 1]
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < 7 and x + dx < 8:
                    apart = here != padded[y + dy + 1, x + dx + 1]
                    assert ((x + dx / 2, y + dy / 2) in crossed) == apart


def test_arguments_go_before_ours(detector):
    masks = np.ones((2, 8, 8))
    display = AnomalyMapDisplay.from_estimator(
        detector, X[:2], masks, cmap="cividis", vmax=0.01, mask_kwargs={"color": "red"}
    )
    assert display.maps_[0].get_cmap().name == display.overlays_[1].get_cmap().name == "cividis"
    assert display.maps_[1].get_clim() == (0, 0.01)
    assert display.colorbar_.extend == "max"
    np.testing.assert_array_equal(display.outlines_[0].get_edgecolor(), [to_rgba("red")])
    norm = LogNorm(1e-3, 1)
    other = display.plot(norm=norm, colorbar=False)
    assert other.maps_[0].norm is norm and other.colorbar_ is None
    display.figure_.draw_without_rendering()


def test_the_first_images_are_drawn_in_whatever_form_they_come(detector):
    expected = AnomalyMapDisplay.from_estimator(detector, X[:2])
    forms = [X, X.reshape(40, -1), pixels(), list(X), pd.DataFrame(X.reshape(40, -1))]
    for images in forms:
        display = AnomalyMapDisplay.from_estimator(detector, images, max_images=2)
        np.testing.assert_allclose(display.images, expected.images)
        np.testing.assert_allclose(display.maps, expected.maps, rtol=1e-6)
    assert len(AnomalyMapDisplay.from_estimator(detector, X[:7], max_images=None).axes_) == 7
    assert len(AnomalyMapDisplay.from_estimator(detector, X).axes_) == 6


def test_pipelines_and_searches_are_drawn_as_the_detector_sees_images(detector):
    flipped = FunctionTransformer(lambda X: 1 - X.reshape(len(X), -1))
    pipeline = make_pipeline(flipped, on_images(Autoencoder)).fit(X)
    display = AnomalyMapDisplay.from_estimator(pipeline, X[:2])
    np.testing.assert_allclose(display.images, 1 - X[:2])
    np.testing.assert_allclose(display.scores, -pipeline.score_samples(X[:2]))
    grid = {"contamination": [0.2]}
    search = GridSearchCV(on_images(Autoencoder), grid, scoring=lambda est, X, y=None: 0.0, cv=2)
    display = AnomalyMapDisplay.from_estimator(search.fit(X.reshape(40, -1)), X[:2])
    assert display.threshold == -search.best_estimator_.offset_


def test_images_cannot_be_drawn_without_a_map_or_of_a_table(detector):
    with pytest.raises(NotFittedError):
        AnomalyMapDisplay.from_estimator(Autoencoder(), X)
    with pytest.raises(TypeError, match="needs a detector with anomaly_map.*; got EBM"):
        AnomalyMapDisplay.from_estimator(on_images(EBM).fit(X), X)
    scalar = on_images(MPDR, energy="scalar").fit(X)
    with pytest.raises(TypeError, match=r"got MPDR \(MPDR with energy='scalar' has no"):
        AnomalyMapDisplay.from_estimator(scalar, X)
    rows = normal_rows()
    for display in (AnomalyMapDisplay, SamplesDisplay):
        with pytest.raises(ValueError, match=f"{display.__name__} draws images.*fitted on a table"):
            display.from_estimator(tiny("VAE").fit(rows), rows)
    for masks in (np.ones((40, 7, 8)), np.ones((2, 8, 8)), np.ones((40, 64)), np.ones((41, 8, 8))):
        with pytest.raises(ValueError, match=r"masks of shape .* needed is a mask \(8, 8\)"):
            AnomalyMapDisplay.from_estimator(detector, X, masks)
    unknown = np.full((40, 8, 8), np.nan)
    with pytest.raises(ValueError, match=r"masks hold NaN, first at \[0, 0, 0\]"):
        AnomalyMapDisplay.from_estimator(detector, X, unknown)
    with pytest.raises(ValueError, match="max_images == 0, must be >= 1"):
        AnomalyMapDisplay.from_estimator(detector, X, max_images=0)


@pytest.mark.parametrize("display", [AnomalyMapDisplay, ReconstructionDisplay])
def test_what_the_detector_does_not_take_is_not_drawn_as_if_it_did(display):
    images = pixels(shape=(3, 6, 9))
    fitted = on_images(Autoencoder, (3, 6, 9)).fit(images)
    # As many numbers, which a reshape would scramble.
    name = "images" if display is AnomalyMapDisplay else "originals"
    first, last = (
        getattr(display.from_estimator(fitted, X), name)
        for X in (images, images.transpose(0, 2, 3, 1))
    )
    np.testing.assert_array_equal(last, first)
    with pytest.raises(ValueError, match="wants"):
        display.from_estimator(fitted, images.transpose(0, 1, 3, 2))
    with pytest.raises(ValueError, match="single image"):
        display.from_estimator(fitted, images[0])
    with pytest.raises(ValueError, match="Resize the images"):
        display.from_estimator(fitted, images[:, :, :5])
    with pytest.raises(ValueError, match="Image 1 of X has the shape"):
        display.from_estimator(fitted, [images[0], images[1, :, :5]])


@pytest.mark.parametrize("display", [AnomalyMapDisplay, ReconstructionDisplay])
def test_named_pixels_are_drawn_without_a_warning(display, recwarn):
    table = pd.DataFrame(X.reshape(40, -1), columns=[f"p{i}" for i in range(64)])
    display.from_estimator(on_images(Autoencoder).fit(table), table)
    assert not [w for w in recwarn if "feature names" in str(w.message)]


# ---- ReconstructionDisplay ----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_images_stand_above_their_reconstructions(shape):
    images = pixels(shape=shape) / 255
    fitted = on_images(Autoencoder, shape).fit(images)
    display = ReconstructionDisplay.from_estimator(fitted, images[:5])
    assert display.axes_.shape == (2, 5)
    np.testing.assert_allclose(images_of(display.axes_[0]), as_drawn(images[:5]))
    back = fitted.reconstruct(images[:5]).reshape(5, *shape)
    np.testing.assert_allclose(images_of(display.axes_[1]), as_drawn(back))
    errors = [f"{score:.3g}" for score in fitted.anomaly_score(images[:5])]
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == [f"error {errors[0]}", *errors[1:]]
    assert len(display.images_) == 10 and display.points_ == []
    assert everything_fits(display)


def test_rows_of_a_table_are_drawn_column_by_column():
    rows = pd.DataFrame(normal_rows(), columns=list("abcd"))
    fitted = tiny("Autoencoder").fit(rows)
    display = ReconstructionDisplay.from_estimator(fitted, rows.iloc[5:8])
    assert display.axes_.shape == (3, 1) and display.columns == list("abcd")
    assert [text.get_text() for text in display.axes_[-1, 0].get_xticklabels()] == list("abcd")
    scale, mean = rows.std(ddof=0).to_numpy(), rows.mean().to_numpy()
    standard = (rows.to_numpy()[5:8] - mean) / scale
    other = (fitted.reconstruct(rows.iloc[5:8]) - mean) / scale
    for k, (values, reconstructions) in enumerate(display.points_):
        expected = np.column_stack([np.arange(4), standard[k]])
        np.testing.assert_allclose(values.get_offsets(), expected, rtol=1e-4, atol=1e-4)
        expected = np.column_stack([np.arange(4), other[k]])
        np.testing.assert_allclose(reconstructions.get_offsets(), expected, rtol=1e-4, atol=1e-4)
    titles = [ax.get_title(loc="left") for ax in display.axes_[:, 0]]
    assert titles == [f"error {e:.3g}" for e in fitted.anomaly_score(rows.iloc[5:8])]
    assert len({ax.get_ylim() for ax in display.axes_[:, 0]}) == 1
    assert everything_fits(display)


def test_columns_without_names_are_numbered_and_the_first_rows_drawn():
    rows = normal_rows(10, 12)
    fitted = tiny("DAGMM").fit(rows)
    for given in (rows, rows.tolist()):
        display = ReconstructionDisplay.from_estimator(fitted, given)
        assert display.axes_.shape == (8, 1) and display.columns[:2] == ["x0", "x1"]
    assert len(ReconstructionDisplay.from_estimator(fitted, rows, max_rows=None).axes_) == 10


def test_a_pipelines_rows_are_drawn_as_the_detector_sees_them():
    rows = normal_rows()
    pipeline = make_pipeline(StandardScaler(), tiny("Autoencoder", standardize=False)).fit(rows)
    display = ReconstructionDisplay.from_estimator(pipeline, rows)
    standard = pipeline[0].transform(rows[:8])
    np.testing.assert_allclose(display.originals, standard, rtol=1e-5, atol=1e-6)
    errors = -pipeline.score_samples(rows[:8])
    np.testing.assert_allclose(display.errors, errors, rtol=1e-4)


def test_arguments_reach_images_and_points(detector):
    display = ReconstructionDisplay.from_estimator(detector, X[:2], cmap="viridis")
    assert {image.get_cmap().name for image in display.images_} == {"viridis"}
    assert {image.get_clim() for image in display.images_} == {(0, 1)}
    rows = normal_rows()
    display = ReconstructionDisplay.from_estimator(tiny("Autoencoder").fit(rows), rows[:2], s=77)
    assert all(points.get_sizes() == [77] for pair in display.points_ for points in pair)


def test_detectors_without_reconstructions_are_refused():
    rows = normal_rows()
    with pytest.raises(TypeError, match="needs a detector with reconstruct.*; got Mahalanobis"):
        ReconstructionDisplay.from_estimator(tiny("Mahalanobis").fit(rows), rows)
    with pytest.raises(NotFittedError):
        ReconstructionDisplay.from_estimator(make_pipeline(Autoencoder()), rows)
    fitted = tiny("Autoencoder").fit(rows)
    with pytest.raises(ValueError, match="max_rows == 0"):
        ReconstructionDisplay.from_estimator(fitted, rows, max_rows=0)
    with pytest.raises(ValueError, match="3 features"):
        ReconstructionDisplay.from_estimator(fitted, rows[:, :3])


# ---- SamplesDisplay -----------------------------------------------------------------------


def test_samples_are_those_of_the_detector(vae):
    display = SamplesDisplay.from_estimator(vae, 7, random_state=3)
    expected = vae.sample(7, random_state=3).reshape(7, 8, 8)
    np.testing.assert_array_equal([drawn(image) for image in display.images_], expected)
    assert display.axes_.shape == (3, 3)
    assert [ax.axison for ax in display.axes_.ravel()] == [True] * 7 + [False] * 2
    assert display.figure_.get_suptitle() == "samples of VAE"
    again = SamplesDisplay.from_estimator(Pipeline([("detect", vae)]), 7, random_state=3)
    np.testing.assert_array_equal(again.images, display.images)
    assert everything_fits(display)


def test_arguments_reach_sample_and_grid():
    mpdr = on_images(MPDR).fit(X)
    display = SamplesDisplay.from_estimator(
        mpdr, 6, sample_kwargs={"n_steps": 3}, n_columns=6, cmap="viridis"
    )
    expected = mpdr.sample(6, n_steps=3, random_state=0)
    np.testing.assert_array_equal(display.images.reshape(6, -1), expected)
    assert display.axes_.shape == (1, 6)
    assert display.images_[0].get_cmap().name == "viridis"


@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_ones_own_are_drawn(shape):
    bytes_ = pixels(5, shape)
    for images in (bytes_, bytes_ / 255, list(bytes_)):
        display = SamplesDisplay.from_images(images)
        np.testing.assert_allclose([drawn(i) for i in display.images_], as_drawn(bytes_ / 255))
    if shape[0] == 1:
        np.testing.assert_allclose(
            SamplesDisplay.from_images(bytes_[:, 0]).images, bytes_ / 255, rtol=1e-12
        )
    assert display.figure_.get_suptitle() == ""


@pytest.mark.parametrize("count", [1, 2, 24])
def test_grids_are_about_square_for_images_of_any_form(count):
    for h, w in ((6, 6), (3, 12), (12, 3)):
        rows, columns = SamplesDisplay.from_images(np.zeros((count, h, w))).axes_.shape
        assert rows * columns >= count > (rows - 1) * columns
        if count == 24:
            assert 0.5 <= (columns * w) / (rows * h) <= 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 8, 9, 3)), r"channels last; pass them as images.transpose\(0, 3, 1, 2\)"),
        (np.zeros((3, 64)), "must be an array .* reshape flat rows"),
        (np.zeros((0, 1, 8, 8)), "must be an array"),
        (np.full((2, 8, 8), 200), r"values from 200 to 200; pixels must lie in \[0, 1\]"),
        (np.full((2, 8, 8), np.nan), "values from nan"),
    ],
)
def test_what_are_no_images_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        SamplesDisplay.from_images(images)


@pytest.mark.parametrize(("n_columns", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_grid_has_a_whole_number_of_columns(n_columns, error):
    with pytest.raises(error, match="n_columns"):
        SamplesDisplay.from_images(X[:4], n_columns=n_columns)


def test_detectors_without_samples_are_refused(detector):
    with pytest.raises(TypeError, match="needs a detector with sample.*; got Autoencoder"):
        SamplesDisplay.from_estimator(detector)
    with pytest.raises(NotFittedError):
        SamplesDisplay.from_estimator(VAE())


# ---- where they are drawn -----------------------------------------------------------------


def draw(kind, detector, vae, ax=None):
    if kind is SamplesDisplay:
        return kind.from_estimator(vae, 4, ax=ax)
    return kind.from_estimator(detector, X[:3], ax=ax)


@pytest.mark.parametrize("kind", [AnomalyMapDisplay, ReconstructionDisplay, SamplesDisplay])
def test_panels_share_the_place_of_the_axes_that_are_given(kind, detector, vae):
    figure = Figure()
    axes = figure.subplots(1, 2)
    display = draw(kind, detector, vae, axes[1])
    assert display.bounding_ax_ is axes[1] and display.figure_ is figure
    if kind is SamplesDisplay:  # a title of the axes themselves would be drawn over
        assert display.axes_[0, 0].get_title(loc="left") == "samples of VAE"
    place = axes[1].get_subplotspec().get_position(figure)
    for ax in display.axes_.ravel():
        inside = ax.get_subplotspec().get_position(figure)
        assert place.x0 - 1e-9 <= inside.x0 < inside.x1 <= place.x1 + 1e-9
        assert place.y0 - 1e-9 <= inside.y0 < inside.y1 <= place.y1 + 1e-9
    assert plt.get_fignums() == []
    with pytest.raises(ValueError, match="no subplot whose place"):
        draw(kind, detector, vae, Figure().add_axes((0, 0, 1, 1)))


@pytest.mark.parametrize("kind", [AnomalyMapDisplay, ReconstructionDisplay, SamplesDisplay])
def test_displays_can_be_drawn_again(kind, detector, vae):
    display = draw(kind, detector, vae)
    first = display.axes_
    assert plt.get_fignums() == [1]
    assert display.plot() is display and display.axes_ is not first
    np.testing.assert_array_equal(images_of(display.axes_[0, :2]), images_of(first[0, :2]))
