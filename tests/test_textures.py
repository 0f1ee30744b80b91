"""The drawn relative of MVTec AD: what it draws, and that its defects are of the right kind."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skgenad.datasets import load_mvtec, make_textures
from skgenad.datasets._texture_defects import DEFECTS, LARGEST_AREA, plant, reduced
from skgenad.datasets._texture_looks import LOOKS

N_TRAIN, N_TEST, FACTOR = 20, 12, 3
every_category = pytest.mark.parametrize("category", LOOKS)
every_kind = pytest.mark.parametrize("kind", DEFECTS)


@pytest.fixture(scope="module")
def made():
    return make_textures(n_train=N_TRAIN, n_test=N_TEST, random_state=0)


@pytest.fixture
def few(category):
    return make_textures(categories=category, n_train=2, n_test=4, random_state=1)[category]


# ---- what is drawn -----------------------------------------------------------


@every_category
def test_images_are_as_many_and_as_large_as_asked_for(made, category):
    train, test = made[category].train, made[category].test
    assert train.data.shape == (N_TRAIN, 3, 64, 64)
    assert test.data.shape == (2 * N_TEST, 3, 64, 64)
    assert train.data.dtype == test.data.dtype == np.uint8
    assert not train.target.any()
    np.testing.assert_array_equal(test.target, np.repeat([0, 1], N_TEST))
    np.testing.assert_array_equal(test.target, test.defects != "good")
    assert train.name == test.name == category
    assert train.filenames == test.filenames == []


@every_category
def test_kinds_of_defects_are_equally_frequent_as_far_as_three_divides(few, made, category):
    names, counts = np.unique(made[category].test.defects[N_TEST:], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == dict.fromkeys(DEFECTS, N_TEST // 3)
    assert few.test.defects[4:].tolist() == ["blob", "blob", "missing", "scratch"]


@every_category
def test_masks_are_on_defects_only_and_cover_at_most_two_per_cent(made, category):
    train, test = made[category].train, made[category].test
    assert not train.masks.any()
    areas = test.masks.mean(axis=(1, 2))
    assert not areas[:N_TEST].any()
    assert (areas[N_TEST:] > 0.005).all()
    assert (areas[N_TEST:] <= 0.02).all()


@every_category
def test_images_depend_on_the_seed_and_not_on_other_categories(few, category, global_rng_untouched):
    options = {"n_train": 2, "n_test": 4}
    others = make_textures(categories=["bolt", category], random_state=1, **options)[category]
    another = make_textures(categories=category, random_state=2, **options)[category]
    for part in ("train", "test"):
        np.testing.assert_array_equal(few[part].data, others[part].data)
        np.testing.assert_array_equal(few[part].masks, others[part].masks)
        assert not np.array_equal(few[part].data, another[part].data)
    assert len({image.tobytes() for image in few.train.data}) == 2


# ---- defects -----------------------------------------------------------------


def planted(category, kind, size, seed):
    """A scene, the same with a defect, both in pixels, and the mask."""
    y, x = (np.mgrid[: FACTOR * size, : FACTOR * size] + 0.5) / (FACTOR * size)
    rng = np.random.default_rng(seed)
    scene = LOOKS[category](x, y, rng)
    image, mask = plant(kind, x, y, scene, FACTOR, rng)
    return reduced(scene.image, FACTOR), reduced(image, FACTOR), mask


@every_category
@every_kind
def test_defect_changes_what_is_under_its_mask_and_is_plain_to_see(category, kind):
    before, after, mask = planted(category, kind, 64, 0)
    change = np.abs(after - before).max(axis=2)
    assert change[mask].mean() > 0.25
    # A pixel that is not in the mask is covered by a quarter at most.
    assert change[~mask].max() <= 0.25
    far = ~mask
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            far &= ~np.roll(mask, step, axis)
    assert (change[far] == 0).mean() > 0.999
    assert 0 <= after.min()
    assert after.max() <= 1


@every_category
@every_kind
@pytest.mark.parametrize("size", [32, 50])
def test_place_for_every_defect_is_found_at_every_size(category, kind, size):
    for seed in range(3):
        *_, mask = planted(category, kind, size, seed)
        assert mask.shape == (size, size)
        assert 0 < mask.mean() <= LARGEST_AREA


def flat(bunch):
    return bunch.data.reshape(len(bunch.data), -1) / 255


@every_category
def test_pixels_do_not_tell_defects(made, category):
    train, test = flat(made[category].train), flat(made[category].test)
    deviation = np.maximum(train.std(axis=0), 0.01)
    squares = ((test - train.mean(axis=0)) / deviation) ** 2
    neighbours = NearestNeighbors(n_neighbors=3).fit(train).kneighbors(test)[0]
    y = made[category].test.target
    for scores in (squares.sum(axis=1), neighbours[:, 0], neighbours.mean(axis=1)):
        assert roc_auc_score(y, scores) < 0.9


def patches(images, side=8, stride=4):
    images = images / images.mean(axis=(1, 2, 3), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
    return windows.reshape(len(images), -1, images.shape[1] * side * side)


def test_patches_tell_defects(made):
    """Distances to patches of the few training images, in the mean of all categories."""
    found = []
    for bunch in made.values():
        known, new = patches(bunch.train.data), patches(bunch.test.data)
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute")
        nearest.fit(known.reshape(-1, known.shape[-1]))
        distances = nearest.kneighbors(new.reshape(-1, new.shape[-1]))[0].reshape(len(new), -1)
        found.append(roc_auc_score(bunch.test.target, distances.max(axis=1)))
    assert np.mean(found) > 0.9


# ---- files -------------------------------------------------------------------


def test_files_are_read_back_as_they_were_made(tmp_path):
    options = {"categories": ["weave", "capsule"], "n_train": 2, "n_test": 4, "random_state": 0}
    in_memory = make_textures(**options)
    written = make_textures(tmp_path / "new", **options)
    for category, bunch in written.items():
        for part in ("train", "test"):
            read = load_mvtec(tmp_path / "new", category, subset=part)
            for key in ("data", "target", "masks", "defects"):
                np.testing.assert_array_equal(read[key], bunch[part][key])
                np.testing.assert_array_equal(in_memory[category][part][key], bunch[part][key])
            assert read.filenames == bunch[part].filenames
            assert read.DESCR == bunch[part].DESCR
    assert (tmp_path / "new/weave/ground_truth/blob/001_mask.png").is_file()


def test_folder_of_a_category_is_not_written_into_twice(tmp_path):
    (tmp_path / "wood").mkdir()
    with pytest.raises(FileExistsError, match=r"wood' exists.*another folder"):
        make_textures(tmp_path, n_train=1, n_test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["wood"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"categories": ["marble"]}, ValueError, "No category 'marble'; choose from weave, wood"),
        ({"n_train": 0}, ValueError, "n_train"),
        ({"n_test": 0}, ValueError, "n_test"),
        ({"n_test": 2.5}, TypeError, "n_test"),
        ({"size": 31}, ValueError, "size"),
    ],
)
def test_bad_parameter_is_named(options, error, message):
    with pytest.raises(error, match=message):
        make_textures(**options)
