"""Features and detectors of photographs, used as they should not be: an error, or the right row."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn

from skgenad import GroupedDetector, Mahalanobis, PatchDetector
from skgenad.inspection import ContactSheetDisplay
from skgenad.preprocessing import ImageFeatures
from skgenad.preprocessing import _feature_cache as caches

SIDE = 24


def network(seed=0, stride=2):
    torch.manual_seed(seed)
    first = nn.Conv2d(3, 4, 3, stride=stride, padding=1)
    return nn.Sequential(
        first,
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, padding_mode="reflect"),
    )


def images(n=5, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randint(256, size=(n, 3, SIDE, SIDE), dtype=np.uint8)


def features(net=None, **settings):
    return ImageFeatures(net or network(), **{"size": SIDE, "device": "cpu", **settings})


# ---- the cache ----------------------------------------------------------------------------


class Times(nn.Module):
    """A network whose factor is in no weight."""

    def __init__(self, factor, *, buffer=False):
        super().__init__()
        self.net = network()
        if buffer:
            self.register_buffer("factor", torch.tensor(factor), persistent=False)
        else:
            self.factor = factor

    def forward(self, x):
        return self.factor * self.net(x)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (network(), network(stride=1)),
        (Times(1.0), Times(2.0)),
        (Times(1.0, buffer=True), Times(2.0, buffer=True)),
        (Times(torch.tensor(1.0)), Times(torch.tensor(2.0))),
    ],
)
def test_networks_of_the_same_weights_do_not_share_features(one, other, tmp_path):
    X = images()
    expected = features(other).fit_transform(X)
    assert not np.allclose(features(one, cache=tmp_path).fit_transform(X), expected)
    np.testing.assert_array_equal(features(other, cache=tmp_path).fit_transform(X), expected)


def test_parameters_that_are_set_after_the_fit_wait_for_the_next_one(tmp_path):
    X = images()
    found = features(pool=None, cache=tmp_path).fit(X)
    before = features(pool=None).fit_transform(X)
    found.set_params(smooth=3)
    np.testing.assert_array_equal(found.transform(X), before)
    again = features(pool=None, smooth=3, cache=tmp_path).fit_transform(X)
    np.testing.assert_array_equal(again, features(pool=None, smooth=3).fit_transform(X))
    assert not np.array_equal(again, before)


def test_a_failed_fit_leaves_what_was_fitted(tmp_path):
    X = images()
    found = features(layers=["2"], cache=tmp_path).fit(X)
    before = found.transform(X)
    with pytest.raises(ValueError, match="no layers"):
        found.set_params(layers=["nine"]).fit(X)
    assert found.layers_ == ("2",)
    np.testing.assert_array_equal(found.transform(X), before)
    fresh = features(layers=["nine"])
    with pytest.raises(ValueError, match="no layers"):
        fresh.fit(X)
    assert not [name for name in vars(fresh) if name.endswith("_")]


def test_a_cache_that_is_a_file_is_named_in_the_error(tmp_path):
    place = tmp_path / "file"
    place.write_text("no folder")
    found = features(cache=place).fit(images())
    with pytest.raises(OSError, match="cache='.*file' is no folder that features can be read from"):
        found.transform(images())


def test_a_cache_that_may_not_be_written_is_named_in_the_error(tmp_path, monkeypatch):
    def refuse(path, content):
        raise PermissionError("may not be written")

    found = features(cache=tmp_path).fit(images())
    monkeypatch.setattr(caches, "write_whole", refuse)
    with pytest.raises(PermissionError, match="cache=.*may not be written"):
        found.transform(images())


def test_a_cache_may_be_deleted_at_any_time(tmp_path, monkeypatch):
    write, left = caches.write_whole, [2]

    def too_late(path, content):
        left[0] -= 1
        if left[0] >= 0:
            path.parent.rmdir()
        write(path, content)

    monkeypatch.setattr(caches, "write_whole", too_late)
    X = images()
    found = features(cache=tmp_path / "cache").fit(X)
    np.testing.assert_array_equal(found.transform(X), features().fit_transform(X))
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(X)


# ---- networks -----------------------------------------------------------------------------


def test_a_layer_says_the_same_whatever_others_are_asked():
    X = images()
    alone = features(layers=["0"], pool=None).fit_transform(X)  # which the ReLU writes over
    assert alone.min() < 0
    both = features(layers=["0", "2"], pool=None, grid=12).fit_transform(X)
    np.testing.assert_array_equal(both[:, :4], alone)


def test_a_layer_that_is_used_twice_says_what_it_says_first():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.last = nn.ReLU(), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.last(self.relu(1 - self.relu(x)))

    X = images()
    both = features(Twice(), layers=["relu", "last"], pool=None).fit_transform(X)
    np.testing.assert_allclose(both[:, :3], X / 255, atol=1e-6)


def test_channels_that_are_last_are_seen_by_the_shape():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            return self.net(x)[:, :5].permute(0, 2, 3, 1)

    X = images()
    for pool in (None, "mean"):
        found = features(Last(), pool=pool).fit_transform(X)
        np.testing.assert_allclose(found, features(pool=pool).fit_transform(X)[:, :5], atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_networks_of_other_precision_are_brought_to_that_of_pixels(kind):
    net = network().to(kind)
    found = features(net).fit_transform(images())
    np.testing.assert_array_equal(
        found, features(network().to(kind).float()).fit_transform(images())
    )
    assert net[0].weight.dtype == kind


def test_the_default_precision_of_torch_does_not_matter():
    expected = features().fit_transform(images())
    net = network()
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(features(net).fit_transform(images()), expected)
    finally:
        torch.set_default_dtype(torch.float32)


# ---- images -------------------------------------------------------------------------------


def test_tensors_of_any_kind_are_images():
    X = torch.from_numpy(images() / 255).float()
    found = features().fit(X)
    expected = found.transform(X)
    np.testing.assert_array_equal(found.transform(X.requires_grad_()), expected)
    np.testing.assert_array_equal(found.transform(list(X)), expected)
    np.testing.assert_allclose(found.transform(X.bfloat16()), expected, atol=0.01)


def test_what_is_masked_is_missing():
    X = np.ma.masked_array(images() / 255, mask=images() > 250)
    for given in (X, list(X)):
        with pytest.raises(ValueError, match="masked"):
            features().fit(given)
    with pytest.raises(ValueError, match="masked"):
        PatchDetector(features=features(pool=None)).fit(X)


def test_a_single_image_with_its_channels_last_is_no_pile_of_grey_ones():
    with pytest.raises(ValueError, match="a single image with its channels last"):
        features().fit(images()).transform(images()[0].transpose(1, 2, 0))


@pytest.mark.parametrize("error", [RuntimeError, TypeError, KeyError])
def test_whatever_a_reader_of_files_says_the_file_is_named(error, tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")

    def refuse(self):
        raise error("odd")

    found = features().fit(images())
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    with pytest.raises(ValueError, match=r"good\.png' cannot be read as an image"):
        found.transform([tmp_path / "good.png"])


# ---- detectors ----------------------------------------------------------------------------


def grids(n=30, c=6):
    return np.random.RandomState(0).randn(n, c, 4, 4)


def patches(**settings):
    return PatchDetector(Mahalanobis(device="cpu"), random_state=0, **settings)


def test_detectors_are_fitted_again_on_other_features():
    detector = patches().fit(grids())
    again = detector.fit(grids(c=4))
    assert again.n_features_in_ == 4
    np.testing.assert_array_equal(
        again.score_samples(grids(c=4)), patches().fit(grids(c=4)).score_samples(grids(c=4))
    )
    clips = [np.random.RandomState(k).randn(5, 3) for k in range(30)]
    grouped = GroupedDetector(Mahalanobis(device="cpu"), random_state=0).fit(clips)
    assert grouped.fit([clip[:, :2] for clip in clips]).n_features_in_ == 2


@pytest.mark.parametrize("positions", ["shared", "separate"])
def test_tables_and_grids_are_not_taken_for_each_other(positions):
    rows = np.random.RandomState(1).randn(30, 6)
    on_rows, on_grids = patches(positions=positions), patches(positions=positions)
    on_rows.fit(rows)
    with pytest.raises(ValueError, match="fitted on a table"):
        on_rows.score_samples(grids())
    assert on_rows.grid_ == (1, 1)
    with pytest.raises(ValueError, match="X is a table"):
        on_grids.fit(grids()).score_samples(rows)


def test_how_scores_are_reduced_is_a_matter_of_the_fit():
    detector = patches().fit(grids())
    before = detector.score_samples(grids())
    np.testing.assert_array_equal(detector.set_params(reduce="mean").score_samples(grids()), before)
    assert (detector.fit(grids()).score_samples(grids()) > before).all()


@pytest.mark.parametrize("size", [0, -1, "a", 3.5, True, (3,), (3, 4, 5), (0, 4)])
def test_maps_of_no_size_are_errors(size):
    with pytest.raises(ValueError, match="size=.* must be a side in pixels"):
        patches().fit(grids()).anomaly_map(grids(2), size=size)
    assert patches().fit(grids()).anomaly_map(grids(2), size=np.array([5, 6])).shape == (2, 5, 6)


def test_columns_of_objects_are_samples():
    clips = [np.random.RandomState(k).randn(3 + k % 4, 3) for k in range(30)]
    column = np.empty(30, dtype=object)
    column[:] = clips
    detector = GroupedDetector(Mahalanobis(device="cpu"), random_state=0).fit(clips)
    for same in (column, pd.Series(clips, index=range(30, 0, -1))):
        np.testing.assert_array_equal(detector.score_samples(same), detector.score_samples(clips))


def test_sheets_go_by_places_not_by_labels_of_a_series(tmp_path):
    paths = []
    for k, image in enumerate(images(9)):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(image.transpose(1, 2, 0)).save(paths[-1])
    detector = patches(features=features(pool=None)).fit(paths)
    turned = pd.Series(paths, index=range(8, -1, -1))
    display = ContactSheetDisplay.from_estimator(detector, turned)
    expected = ContactSheetDisplay.from_estimator(detector, paths)
    plt.close("all")
    np.testing.assert_array_equal(display.images, expected.images)
