"""Reading the folders of MVTec AD, on tiny images that are written here."""

import numpy as np
import pytest
from PIL import Image, ImageOps

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


def test_the_upper_bits_of_16_are_kept_with_a_warning(folder, images):
    grey = [array[..., 0] for array in images["train"]]
    for k, array in enumerate(grey):
        save(folder / f"bottle/train/good/{k:03d}.png", array.astype(np.uint16) * 256 + 77)
    with pytest.warns(UserWarning, match=r"16 bits.*000\.png.*002\.png"):
        data = load_mvtec(folder, "bottle").data
    np.testing.assert_array_equal(data, np.stack(grey)[:, None])


def test_transparent_pixels_are_read_with_a_warning(folder, images):
    clear = np.dstack([images["train"][0], np.full((H, W), 99, np.uint8)])
    save(folder / "bottle/train/good/000.png", clear)
    with pytest.warns(UserWarning, match=r"opacity.*000\.png'\.$"):
        data = load_mvtec(folder, "bottle").data
    np.testing.assert_array_equal(data, channels_first(images["train"]))


@pytest.mark.parametrize(("kind", "message"), [("F", "holds floats"), ("I", "mode 'I'")])
def test_pixels_of_other_kinds_are_refused(folder, kind, message):
    Image.new(kind, (W, H)).save(folder / "bottle/train/good/001.tiff")
    with pytest.raises(ValueError, match=rf"001\.tiff' .*{message}"):
        load_mvtec(folder, "bottle")


def test_file_that_is_no_image_is_named(folder):
    (folder / "bottle/train/good/001.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"001\.png' cannot be read as an image"):
        load_mvtec(folder, "bottle")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_files_that_are_empty_or_cut_are_named(folder, suffix):
    path = folder / f"bottle/train/good/003.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(
        ValueError, match=rf"003\.{suffix}' cannot be read as an image: it is empty"
    ):
        load_mvtec(folder, "bottle")
    save(path, pixels(shape=(50, 50)))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=rf"003\.{suffix}' cannot be read as an image"):
        load_mvtec(folder, "bottle", size=4)


def test_missing_mask_is_named(folder):
    path = folder / "bottle/ground_truth/contamination/001_mask.png"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="contamination.001_mask.png' is missing"):
        load_mvtec(folder, "bottle", subset="test")
    assert len(load_mvtec(folder, "bottle", subset="test", return_X_y=True)[0]) == 5


# ---- folders as people have them ----------------------------------------------------------------


def same_as(folder, before, subset="all"):
    """Load what `before` was loaded from, and compare all but the names of files."""
    again = load_mvtec(folder, "bottle", subset=subset)
    for key in ("data", "target", "defects", "masks"):
        np.testing.assert_array_equal(again[key], before[key], err_msg=key)
    return again


def test_what_systems_leave_behind_is_skipped(folder):
    before = load_mvtec(folder, "bottle", subset="all")
    root = folder / "bottle"
    for place in (root / "train", root / "test", root / "test/good", root / "ground_truth"):
        for name in (".ipynb_checkpoints", "__MACOSX", ".hidden"):
            save(place / name / "000-checkpoint.png", pixels())
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png"):
            (place / name).write_bytes(b"\0")
    same_as(folder, before)


def test_any_suffix_in_any_case_is_an_image(folder):
    before = load_mvtec(folder, "bottle", subset="all")
    files = sorted((folder / "bottle").rglob("*.png"))
    for path, suffix in zip(files, [".PNG", ".bmp", ".TIF", ".tiff", ".Png"] * 5, strict=False):
        with Image.open(path) as image:
            image.load()
        path.unlink()
        image.save(path.with_suffix(suffix))
    again = same_as(folder, before)
    assert len({name.rpartition(".")[2] for name in again.filenames}) == 5


def test_photos_beside_other_files_are_read(folder):
    Image.new("RGB", (W, H), (9, 90, 200)).save(folder / "bottle/train/good/photo.JPG")
    bunch = load_mvtec(folder, "bottle")
    assert bunch.filenames[-1].endswith("photo.JPG") and len(bunch.data) == 4
    np.testing.assert_allclose(bunch.data[-1].mean(axis=(1, 2)), [9, 90, 200], atol=3)


def test_what_is_left_out_is_named(folder):
    root = folder / "bottle"
    (root / "train/good/notes.txt").write_text("not an image")
    (root / "train/good/more").mkdir()
    save(root / "train/scratched/000.png", pixels())
    save(root / "test/lost.png", pixels())
    with pytest.warns(UserWarning) as caught:
        load_mvtec(folder, "bottle", subset="all")
    said = "\n".join(str(warning.message) for warning in caught)
    for name in ("notes.txt", "more", "scratched", "lost.png"):
        assert f"{name}'" in said
    assert len(caught) == 3 and all(w.filename == __file__ for w in caught)


@pytest.mark.parametrize("what", ["no folder", "an empty folder", "hidden files"])
def test_images_alone_have_labels_and_no_masks(folder, what):
    place = folder / "bottle/ground_truth"
    for path in place.rglob("*.png"):
        path.unlink() if what != "hidden files" else path.rename(path.with_name("." + path.name))
    if what == "no folder":
        for path in (*place.iterdir(), place):
            path.rmdir()
    bunch = load_mvtec(folder, "bottle", subset="test")
    assert bunch.masks is None and bunch.target.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("rename", ["{}.png", "{}.PNG", "{}_MASK.PNG", "{}_mask.bmp"])
def test_masks_may_be_called_like_their_images(folder, rename):
    before = load_mvtec(folder, "bottle", subset="all")
    for path in (folder / "bottle/ground_truth").rglob("*.png"):
        name = rename.format(path.stem.removesuffix("_mask"))
        with Image.open(path) as mask:
            mask.load()
        path.unlink()
        mask.save(path.with_name(name))
    same_as(folder, before)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "I;16", "jpg"])
def test_masks_may_be_in_any_mode(folder, mode):
    before = load_mvtec(folder, "bottle", subset="test")
    for path in (folder / "bottle/ground_truth").rglob("*.png"):
        with Image.open(path) as mask:
            array = np.asarray(mask)
        if mode == "I;16":
            Image.fromarray((array > 0).astype(np.uint16)).save(path)
        elif mode == "jpg":
            path.unlink()
            Image.fromarray(array).save(path.with_suffix(".jpg"), quality=90)
        else:
            Image.fromarray(array).convert(mode).save(path)
    same_as(folder, before, "test")


@pytest.mark.parametrize("ground", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_masks_may_be_kept_in_the_opacity(folder, mode, ground):
    before = load_mvtec(folder, "bottle", subset="test")
    for path in (folder / "bottle/ground_truth").rglob("*.png"):
        with Image.open(path) as mask:
            drawn = Image.new(mode[:-1], mask.size, ground if mode == "LA" else (ground,) * 3)
            drawn.putalpha(mask)
        drawn.save(path)
    same_as(folder, before, "test")


def test_masks_of_nothing_and_of_no_image_are_warned_of(folder):
    place = folder / "bottle/ground_truth"
    save(place / "broken/000_mask.png", np.zeros((H, W), np.uint8))
    save(place / "broken/007_mask.png", np.full((H, W), 255, np.uint8))
    save(place / "scratched/000_mask.png", np.full((H, W), 255, np.uint8))
    with pytest.warns(UserWarning) as caught:
        bunch = load_mvtec(folder, "bottle", subset="test", size=3)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2 and not bunch.masks[2].any()
    (strays,) = [text for text in said if "the mask of no image" in text]
    assert "broken/007_mask.png'" in strays and "scratched/000_mask.png'" in strays
    (empty,) = [text for text in said if "marks nothing" in text]
    assert "broken/000_mask.png'" in empty
    load_mvtec(folder, "bottle")  # the training images have no masks


def test_folders_of_masks_may_be_in_capitals(folder):
    before = load_mvtec(folder, "bottle", subset="test")
    place = folder / "bottle/ground_truth"
    (place / "broken").rename(place / "Broken")
    place.rename(folder / "bottle/Ground_Truth")
    same_as(folder, before, "test")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned_mask", [False, True])
def test_photos_are_upright_and_so_are_their_masks(folder, orientation, turned_mask):
    before = load_mvtec(folder, "bottle", subset="test")
    for name in TEST_FILES[2:]:
        path = folder / f"bottle/test/{name}.png"
        with Image.open(path) as upright:
            exif = upright.getexif()
            exif[0x0112] = orientation
            # The turn that viewers undo.
            stored = (
                upright.transpose({2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation])
                if orientation > 1
                else upright.copy()
            )
        stored.save(path, exif=exif)
        with Image.open(path) as image:
            np.testing.assert_array_equal(ImageOps.exif_transpose(image), upright)
        mask = folder / f"bottle/ground_truth/{name}_mask.png"
        if turned_mask and orientation > 4:
            with Image.open(mask) as image:
                turned = image.transpose({5: 5, 6: 2, 7: 6, 8: 4}[orientation])
            turned.save(mask)
    same_as(folder, before, "test")


def test_a_category_in_place_of_its_folder_is_told_so(folder):
    with pytest.raises(FileNotFoundError, match="looks like a category itself"):
        load_mvtec(folder / "bottle", "bottle")


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
