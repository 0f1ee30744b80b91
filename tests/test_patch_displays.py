"""Displays of photographs: maps of patches, contact sheets, curves of localization."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from PIL import Image
from sklearn.metrics import auc, roc_auc_score
from torch import nn

from skgenad import Autoencoder, Mahalanobis, Neighbors, PatchDetector
from skgenad.inspection import AnomalyMapDisplay, ContactSheetDisplay, LocalizationDisplay
from skgenad.metrics import per_region_overlap_auc
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import ImageFeatures

mpl.use("Agg")
SIDE = 32


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def photographs(n=30, seed=0):
    stripes = 0.5 + 0.3 * np.sin(np.arange(SIDE))[None, None, None]
    return stripes + 0.05 * np.random.RandomState(seed).rand(n, 1, SIDE, SIDE)


@pytest.fixture(scope="module")
def fitted():
    features = ImageFeatures(nn.Conv2d(3, 8, 4, stride=4), size=SIDE, pool=None, device="cpu")
    detector = PatchDetector(Neighbors(device="cpu"), features=features, random_state=0)
    return detector.fit(photographs())


@pytest.fixture(scope="module")
def tests():
    """Images, labels and masks; every third image has a dark square."""
    X, masks = photographs(9, seed=1), np.zeros((9, SIDE, SIDE), dtype=bool)
    masks[::3, 8:14, 16:22] = True
    X[masks[:, None]] = 0.0
    return X, masks.any(axis=(1, 2)).astype(int), masks


# ---- maps ---------------------------------------------------------------------------------


def test_maps_of_patches_have_no_reconstruction(fitted, tests):
    X, _, masks = tests
    display = AnomalyMapDisplay.from_estimator(fitted, X, masks, max_images=4)
    assert display.axes_.shape == (4, 3) and display.reconstructions is None
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["image", "score of places", "over image,\ndefect outlined"]
    np.testing.assert_allclose(display.maps, fitted.anomaly_map(X[:4]))
    np.testing.assert_allclose(display.images, X[:4], atol=1e-6)
    assert "score of a place" in display.colorbar_.ax.get_ylabel()
    assert len(display.outlines_) == 4


def test_files_are_drawn_as_the_detector_sees_them(fitted, tests, tmp_path):
    paths = []
    for k, image in enumerate(tests[0][:3]):
        paths.append(tmp_path / f"{k}.png")
        grey = Image.fromarray((image[0] * 255).clip(0, 255).astype(np.uint8))
        grey.resize((50, 20 + k)).save(paths[-1])
    display = AnomalyMapDisplay.from_estimator(fitted, paths)
    assert display.images.shape == (3, 1, SIDE, SIDE) and display.maps.shape == (3, SIDE, SIDE)


def test_an_autoencoders_maps_stay_beside_their_reconstructions():
    X = photographs(20)[..., :8, :8].clip(0, 1)
    settings = {"image_shape": (1, 8, 8), "max_steps": 5, "random_state": 0, "device": "cpu"}
    display = AnomalyMapDisplay.from_estimator(Autoencoder(**settings).fit(X), X[:2])
    assert display.axes_.shape == (2, 4)
    assert [ax.get_title() for ax in display.axes_[0]][1:3] == ["reconstruction", "error"]


# ---- contact sheets -----------------------------------------------------------------------


def test_the_worst_images_come_first_with_their_places(fitted, tests):
    X, y, _ = tests
    display = ContactSheetDisplay.from_estimator(fitted, X, y, n_images=7)
    scores = fitted.anomaly_score(X)
    order = np.argsort(-scores)[:7]
    np.testing.assert_array_equal(display.places, order)
    np.testing.assert_allclose(display.scores, scores[order])
    np.testing.assert_allclose(display.images, X[order], atol=1e-6)
    assert display.labels[:3].tolist() == [1, 1, 1]
    assert display.axes_.shape == (2, 6)
    assert display.axes_[0, 0].get_title() == f"{scores[order[0]]:.3g}  (#{order[0]})"
    frames = [ax.spines["left"].get_edgecolor() for ax in display.axes_.flat[:7]]
    assert len(set(frames[:3])) == 1 and frames[0] == to_rgba("#D55E00") != frames[3]
    assert not display.axes_[1, 5].axison
    assert f"{-fitted.offset_:.3g}" in display.figure_._suptitle.get_text()


def test_what_is_below_the_threshold_is_grey(fitted, tests):
    display = ContactSheetDisplay.from_estimator(fitted, tests[0])
    colors = [ax.title.get_color() for ax in display.axes_.flat[:9]]
    flagged = np.asarray(display.scores) > display.threshold
    assert colors == ["black" if flag else "grey" for flag in flagged] and 3 <= flagged.sum() < 9


def test_sheets_of_pipelines_flat_rows_files_and_axes_of_ones_own(tests, tmp_path):
    X = tests[0].clip(0, 1)
    pooled = ImageFeatures(nn.Conv2d(3, 4, 4, stride=4), size=SIDE, device="cpu")
    model = make_pipeline(pooled, Mahalanobis(device="cpu")).fit(X)
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for path, image in zip(paths, X, strict=False):
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(path)
    assert ContactSheetDisplay.from_estimator(model, paths).images.shape == (3, 1, 224, 224)
    assert ContactSheetDisplay.from_estimator(model, X).images.shape == X.shape
    small = X[..., :8, :8]
    settings = {"image_shape": (1, 8, 8), "max_steps": 5, "random_state": 0, "device": "cpu"}
    flat = Autoencoder(**settings).fit(small)
    _, axes = plt.subplots(1, 2)
    display = ContactSheetDisplay.from_estimator(flat, small.reshape(9, -1), ax=axes[1])
    assert display.images.shape == (9, 1, 8, 8) and display.bounding_ax_ is axes[1]
    again = display.plot(n_columns=3)
    assert again.axes_.shape == (3, 3)


def test_labels_of_another_length_are_an_error(fitted, tests):
    with pytest.raises(ValueError, match="2 labels for 9 images"):
        ContactSheetDisplay.from_estimator(fitted, tests[0], [0, 1])


# ---- localization -------------------------------------------------------------------------


def test_areas_and_curves_are_those_of_the_maps(fitted, tests):
    X, _, masks = tests
    display = LocalizationDisplay.from_estimator(fitted, X, masks)
    maps = fitted.anomaly_map(X)
    assert display.pixel_auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert display.region_overlap == per_region_overlap_auc(masks, maps)
    for x, y in ((display.fpr, display.tpr), (display.region_fpr, display.overlap)):
        assert x[0] == 0 and (x[-1], y[-1]) == (1, pytest.approx(1))
    # What is left out of a curve is not seen: its area is the same.
    area = auc(display.fpr, display.tpr)
    assert area == pytest.approx(display.pixel_auroc, abs=2e-3)
    assert f"{display.region_overlap:.3f}" in display.lines_[1].get_label()
    assert display.ax_.get_title() == "PatchDetector"


def test_maps_are_brought_to_the_size_of_the_masks(fitted, tests):
    X, _, masks = tests
    fine = masks.repeat(2, axis=1).repeat(2, axis=2)
    display = LocalizationDisplay.from_estimator(fitted, X, fine)
    assert 0.5 < display.pixel_auroc <= 1


@pytest.mark.parametrize("masks", [np.zeros((9, SIDE, SIDE)), np.ones((2, SIDE, SIDE))])
def test_masks_that_mark_nothing_or_do_not_fit_are_errors(fitted, tests, masks):
    with pytest.raises(ValueError, match="mark|masks of shape"):
        LocalizationDisplay.from_estimator(fitted, tests[0], masks)


def test_a_detector_without_maps_is_an_error(tests):
    model = Mahalanobis(device="cpu").fit(np.random.RandomState(0).randn(40, 3))
    with pytest.raises(TypeError, match="anomaly_map"):
        LocalizationDisplay.from_estimator(model, np.zeros((4, 3)), tests[2])


def test_masks_that_hold_nan_are_refused():
    unknown = np.full((2, 8, 8), np.nan)
    with pytest.raises(ValueError, match=r"masks hold NaN, first at \[0, 0, 0\]"):
        LocalizationDisplay.from_maps(unknown, np.zeros(unknown.shape))
