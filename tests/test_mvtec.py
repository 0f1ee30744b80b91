"""Reading the folders of MVTec AD, on tiny images that are written here."""

import numpy as np
import pytest
from PIL import Image

from skgenad.datasets import load_mvtec

H, W = 6, 8
RNG = np.random.default_rng(0)
TEST_FILES = ["good/000", "good/001", "broken/000", "contamination/000", "contamination/001"]


def pixels(mode="RGB", shape=(H, W)):
    return RNG.integers(256, size=(*shape, 3) if mode == "RGB" else shape, dtype=np.uint8)


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)


@pytest.fixture
def images():
    """What is in the files: training images, then test images in the order of `TEST_FILES`."""
    return {"train": [pixels() for _ in range(3)], "test": [pixels() for _ in TEST_FILES]}


@pytest.fixture
def masks():
    """One mask for each defective image; 255 is a defect."""
    return [255 * (RNG.random((H, W)) < 0.3).astype(np.uint8) for _ in TEST_FILES[2:]]


@pytest.fixture
def folder(tmp_path, images, masks):
    root = tmp_path / "bottle"
    for k, array in enumerate(images["train"]):
        save(root / f"train/good/{k:03d}.png", array)
    for name, array in zip(TEST_FILES, images["test"], strict=True):
        save(root / f"test/{name}.png", array)
    for name, array in zip(TEST_FILES[2:], masks, strict=True):
        save(root / f"ground_truth/{name}_mask.png", array)
    (root / "license.txt").write_text("not an image")
    return tmp_path


def channels_first(arrays):
    return np.stack(arrays).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("subset", ["train", "test", "all"])
def test_images_and_masks_are_those_of_the_files(folder, images, masks, subset):
    bunch = load_mvtec(folder, "bottle", subset=subset)
    parts = ["train", "test"] if subset == "all" else [subset]
    expected = channels_first([array for part in parts for array in images[part]])
    np.testing.assert_array_equal(bunch.data, expected)
    assert bunch.data.dtype == np.uint8
    no_mask = np.zeros((H, W), bool)
    expected = {"train": [no_mask] * 3, "test": [no_mask, no_mask, *(mask > 0 for mask in masks)]}
    np.testing.assert_array_equal(bunch.masks, [mask for part in parts for mask in expected[part]])
    assert bunch.masks.dtype == bool
    names = ["train/good/000", "train/good/001", "train/good/002"] * ("train" in parts)
    names += [f"test/{name}" for name in TEST_FILES] * ("test" in parts)
    assert bunch.filenames == [str(folder / f"bottle/{name}.png") for name in names]
    assert bunch.defects.tolist() == [name.split("/")[1] for name in names]
    np.testing.assert_array_equal(bunch.target, bunch.defects != "good")
    assert bunch.target.dtype == np.int64
    assert bunch.name == "bottle"
    assert f"{len(names)} images of 3x{H}x{W}" in bunch.DESCR


def test_pair_is_what_the_bunch_holds(folder):
    bunch = load_mvtec(folder, "bottle", subset="test")
    X, y = load_mvtec(folder, "bottle", subset="test", return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)


def test_description_counts_the_defects(folder):
    text = load_mvtec(folder, "bottle", subset="test").DESCR
    assert "3 anomalies (2 good, 1 broken, 2 contamination)" in text


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 4)), ((3, 4), (3, 4)), (16, (16, 16))])
def test_images_are_resized_and_masks_stay_masks(folder, size, shape):
    full = load_mvtec(folder, "bottle", subset="test")
    small = load_mvtec(folder, "bottle", subset="test", size=size)
    assert small.data.shape[2:] == small.masks.shape[1:] == shape
    np.testing.assert_allclose(small.data.mean(), full.data.mean(), rtol=0.1)
    if shape == (
        3,
        4,
    ):  # two by two pixels become one: the mean, and the pixel Pillow is nearest to
        means = full.data.reshape(5, 3, 3, 2, 4, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(small.data.mean(axis=(2, 3)), means.mean(axis=(2, 3)), atol=12)
        np.testing.assert_array_equal(small.masks, full.masks[:, 1::2, 1::2])


def test_images_of_different_sizes_need_a_size(folder):
    save(folder / "bottle/train/good/001.png", pixels(shape=(H, W + 1)))
    with pytest.raises(ValueError, match=r"001\.png' has .*\(3, 6, 9\).*\(3, 6, 8\).*size="):
        load_mvtec(folder, "bottle")
    assert load_mvtec(folder, "bottle", size=5).data.shape == (3, 3, 5, 5)


def test_grey_files_and_grey_on_request_have_one_channel(folder, images):
    colours = load_mvtec(folder, "bottle")
    grey = load_mvtec(folder, "bottle", grey=True)
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    np.testing.assert_allclose(grey.data, (colours.data * weights).sum(1, keepdims=True), atol=1)
    for k, array in enumerate(images["train"]):
        save(folder / f"bottle/train/good/{k:03d}.png", array[..., 0])
    np.testing.assert_array_equal(load_mvtec(folder, "bottle").data, colours.data[:, :1])


def test_grey_among_colours_is_an_error_that_names_the_file(folder):
    save(folder / "bottle/train/good/002.png", pixels("L"))
    with pytest.raises(ValueError, match=r"002\.png' has .*\(1, 6, 8\).*grey=True"):
        load_mvtec(folder, "bottle")


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_other_kinds_of_colour_are_read_as_rgb(folder, mode):
    flat = np.full((H, W, 3), [51, 102, 204], np.uint8)  # a colour that the web palette has
    save(folder / "bottle/train/good/000.png", flat, mode)
    first = load_mvtec(folder, "bottle").data[0]
    np.testing.assert_array_equal(first, flat.transpose(2, 0, 1))


def test_images_of_16_bits_are_refused(folder):
    save(folder / "bottle/train/good/000.png", np.full((H, W), 40_000, np.uint16))
    with pytest.raises(ValueError, match=r"000\.png' has Pillow's mode 'I;16'.*8 bits"):
        load_mvtec(folder, "bottle")


def test_file_that_is_no_image_is_named(folder):
    (folder / "bottle/train/good/001.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"001\.png' cannot be read as an image"):
        load_mvtec(folder, "bottle")


def test_missing_mask_is_named(folder):
    path = folder / "bottle/ground_truth/contamination/001_mask.png"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="contamination.001_mask.png' is missing"):
        load_mvtec(folder, "bottle", subset="test")


def test_mask_of_another_size_is_an_error(folder):
    save(folder / "bottle/ground_truth/broken/000_mask.png", pixels("L", (H, W + 2)))
    with pytest.raises(ValueError, match=r"000_mask\.png' is 6x10, but its image is 6x8"):
        load_mvtec(folder, "bottle", subset="test", size=4)


def test_missing_folder_category_and_images_are_named(folder):
    with pytest.raises(NotADirectoryError, match="nowhere' is not a folder"):
        load_mvtec(folder / "nowhere", "bottle")
    with pytest.raises(FileNotFoundError, match=r"Categories with train/ in .*: bottle\."):
        load_mvtec(folder, "cable")
    (folder / "cable/train/good").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no image .*cable.train.good.\*\.png"):
        load_mvtec(folder, "cable")


@pytest.mark.parametrize("size", [0, -3, 2.5, "64", (4,), (4, 0), (4, 5, 6)])
def test_bad_size_is_an_error(folder, size):
    with pytest.raises(ValueError, match="size must be"):
        load_mvtec(folder, "bottle", size=size)


def test_bad_subset_is_an_error_that_lists_them(folder):
    with pytest.raises(ValueError, match="'train', 'test' or 'all', got 'validation'"):
        load_mvtec(folder, "bottle", subset="validation")
