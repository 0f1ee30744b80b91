"""Several categories of MVTec's folders as one set, and files that are damaged or of odd modes."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from skgenad.datasets import load_mvtec

H, W = 6, 8
RNG = np.random.default_rng(0)


def pixels(shape=(H, W, 3)):
    return RNG.integers(256, size=shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Category a is in colour with two defects, b is grey with one, c is in colour, good alone."""
    for name, shape in (("b", (H, W)), ("a", (H, W, 3)), ("c", (H, W, 3))):
        for k in range(2):
            save(tmp_path / f"{name}/train/good/{k}.png", pixels(shape))
        save(tmp_path / f"{name}/test/good/0.png", pixels(shape))
    for name, shape, kinds in (("a", (H, W, 3), ("cut", "hole")), ("b", (H, W), ("hole",))):
        for kind in kinds:
            save(tmp_path / f"{name}/test/{kind}/0.png", pixels(shape))
            mask = 255 * (RNG.random((H, W)) < 0.3).astype(np.uint8)
            save(tmp_path / f"{name}/ground_truth/{kind}/0_mask.png", mask)
    (tmp_path / "license.txt").write_text("no category")
    return tmp_path


@pytest.mark.parametrize("subset", ["train", "test", "all"])
@pytest.mark.parametrize("names", [["b", "a", "c"], ("a", "b"), ["b"]])
def test_several_categories_are_each_of_them_one_after_the_other(folder, names, subset):
    together = load_mvtec(folder, names, subset=subset)
    alone = [load_mvtec(folder, name, subset=subset) for name in names]
    channels = max(one.data.shape[1] for one in alone)
    expected = [one.data.repeat(channels // one.data.shape[1], axis=1) for one in alone]
    np.testing.assert_array_equal(together.data, np.concatenate(expected))
    assert together.data.dtype == np.uint8
    for key in ("target", "defects", "filenames", "categories"):
        np.testing.assert_array_equal(together[key], np.concatenate([one[key] for one in alone]))
    assert together.categories.tolist() == [n for n in names for _ in load(folder, n, subset)]
    empty = np.zeros((3 if subset == "all" else 1, H, W), bool)
    masks = [empty if one.masks is None else one.masks for one in alone]
    if subset != "train":
        np.testing.assert_array_equal(together.masks, np.concatenate(masks))
    assert together.name == ", ".join(names) and together.skipped == []
    X, y = load_mvtec(folder, names, subset=subset, return_X_y=True)
    np.testing.assert_array_equal(X, together.data)
    np.testing.assert_array_equal(y, together.target)


def load(folder, name, subset):
    return load_mvtec(folder, name, subset=subset).data


def test_all_categories_are_those_of_the_folder_by_name(folder):
    assert load_mvtec(folder).name == "a, b, c"
    for place in ("notes", ".hidden", "__MACOSX"):
        (folder / place).mkdir()
    with pytest.warns(UserWarning, match=r"^Not read, since train/ is not there: '.*notes'\.$"):
        together = load_mvtec(folder)
    np.testing.assert_array_equal(together.data, load_mvtec(folder, ["a", "b", "c"]).data)


def test_grey_categories_stay_grey_where_all_are(folder):
    assert load_mvtec(folder, ["a", "b"], grey=True).data.shape == (4, 1, H, W)
    (folder / "a").rename(folder / "colour")
    save(folder / "d/train/good/0.png", pixels((H, W)))
    assert load_mvtec(folder, ["b", "d"]).data.shape == (3, 1, H, W)


def test_categories_of_different_sizes_need_a_size(folder):
    for k in range(2):
        save(folder / f"b/train/good/{k}.png", pixels((H, W + 1)))
    with pytest.raises(ValueError, match=r"b.train.good.0\.png' has .*\(6, 9\).*\(6, 8\).*size="):
        load_mvtec(folder, ["a", "b"])
    assert load_mvtec(folder, ["a", "b"], size=5).data.shape == (4, 3, 5, 5)


def test_grey_among_colours_of_a_category_is_an_error_all_the_same(folder):
    save(folder / "a/train/good/1.png", pixels((H, W)))
    with pytest.raises(ValueError, match=r"a.train.good.1\.png' has .*\(1, 6, 8\).*grey=True"):
        load_mvtec(folder, ["b", "a"])


def test_masks_that_a_category_lacks_are_an_error_if_another_has_some(folder):
    for path in sorted((folder / "b/ground_truth").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(FileNotFoundError, match=r"no masks in '.*b.ground_truth', and other"):
        load_mvtec(folder, ["a", "b"], subset="test")
    assert load_mvtec(folder, ["b", "c"], subset="test").masks is None
    assert len(load_mvtec(folder, subset="test", return_X_y=True)[0]) == 6


@pytest.mark.parametrize("category", [[], ["a", "a"], 3, [None]])
def test_what_names_no_categories_is_refused(folder, category):
    with pytest.raises((ValueError, TypeError), match="category must be|not iterable"):
        load_mvtec(folder, category)


def test_folders_without_categories_are_told_so(folder):
    with pytest.raises(FileNotFoundError, match="looks like a category itself"):
        load_mvtec(folder / "a")
    with pytest.raises(FileNotFoundError, match=r"no folder with train/ in '.*good'"):
        load_mvtec(folder / "a/train/good")
    with pytest.raises(NotADirectoryError, match="nowhere' is not a folder"):
        load_mvtec(folder / "nowhere")


def test_what_is_left_out_of_masks_is_warned_of_once(folder):
    (folder / "a/ground_truth/cut/notes.txt").write_text("no mask")
    save(folder / "b/ground_truth/hole/7_mask.png", pixels((H, W)))
    with pytest.warns(UserWarning) as caught:
        load_mvtec(folder, subset="test")
    said = sorted(str(warning.message) for warning in caught)
    assert len(said) == 2 and said[0].count("notes.txt") == said[1].count("7_mask.png") == 1


# ---- damaged files -------------------------------------------------------------------------------


def damaged(path, how):
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"no"}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "text"])
@pytest.mark.parametrize("where", ["train/good/0.png", "train/good/1.png", "test/hole/0.png"])
def test_damaged_images_are_named_or_skipped_with_a_warning(folder, where, how):
    before = load_mvtec(folder, ["a", "b"], subset="all")
    path = folder / "b" / where
    damaged(path, how)
    with pytest.raises(ValueError, match=rf"b.{where}' cannot be read as an image"):
        load_mvtec(folder, ["a", "b"], subset="all")
    with pytest.warns(UserWarning, match=rf"^Skipped, since it cannot be read.*'{path}'\.$"):
        after = load_mvtec(folder, ["a", "b"], subset="all", on_error="skip")
    kept = np.array([name != str(path) for name in before.filenames])
    assert kept.sum() == len(kept) - 1 and after.skipped == [str(path)]
    for key in ("data", "target", "defects", "categories", "masks"):
        np.testing.assert_array_equal(after[key], before[key][kept], err_msg=key)
    assert after.filenames == [name for name in before.filenames if name != str(path)]


def test_image_whose_mask_is_damaged_is_skipped(folder):
    before = load_mvtec(folder, "a", subset="test")
    mask = folder / "a/ground_truth/cut/0_mask.png"
    damaged(mask, "cut")
    with pytest.raises(ValueError, match=r"cut.0_mask\.png' cannot be read as an image"):
        load_mvtec(folder, "a", subset="test")
    with pytest.warns(UserWarning, match=rf"^Skipped.*'{mask}'\.$"):
        after = load_mvtec(folder, "a", subset="test", on_error="skip")
    assert after.skipped == [str(folder / "a/test/cut/0.png")]
    for key in ("data", "defects", "masks"):
        np.testing.assert_array_equal(after[key], before[key][[0, 2]], err_msg=key)
    X, _ = load_mvtec(folder, "a", subset="test", on_error="skip", return_X_y=True)
    assert len(X) == 3  # no masks are read


def test_a_category_that_is_damaged_wholly_is_left_out_and_none_at_all_is_an_error(folder):
    for k in range(2):
        damaged(folder / f"a/train/good/{k}.png", "cut")
    with pytest.warns(UserWarning, match="Skipped"):
        rest = load_mvtec(folder, ["a", "b"], on_error="skip")
    assert rest.categories.tolist() == ["b", "b"] and rest.data.shape[1] == 1
    assert len(rest.skipped) == 2
    with pytest.raises(ValueError, match=r"None of the images can be read, such as '.*a.train"):
        load_mvtec(folder, "a", on_error="skip")


def test_an_unknown_answer_to_errors_is_refused(folder):
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'warn'"):
        load_mvtec(folder, "a", on_error="warn")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("jpg", {}), ("jpg", {"progressive": True}), ("bmp", {}), ("tif", {}),
     ("tif", {"compression": "tiff_lzw"}), ("webp", {}), ("webp", {"lossless": True})],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File")  # Pillow's
def test_files_cut_anywhere_are_errors_or_read_whole(tmp_path, suffix, options):
    path = tmp_path / f"a/train/good/0.{suffix}"
    save(path, pixels((16, 24, 3)), **options)
    whole, content = load_mvtec(tmp_path, "a").data, path.read_bytes()
    n_errors = 0
    for length in np.linspace(1, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(load_mvtec(tmp_path, "a").data, whole)
        except ValueError as error:
            assert str(path) in str(error)
            n_errors += 1
    assert n_errors >= 38


# ---- modes ---------------------------------------------------------------------------------------


def test_palettes_and_cmyk_are_the_colours_that_they_stand_for(tmp_path):
    flat = np.full((H, W, 3), [51, 102, 204], np.uint8)
    (tmp_path / "a/train/good").mkdir(parents=True)
    for name, mode in (("0.png", "P"), ("1.tif", "CMYK"), ("2.jpg", "CMYK")):
        image = Image.fromarray(flat).convert(mode)
        assert image.mode == mode
        image.save(tmp_path / "a/train/good" / name, quality=100)
    expected = np.stack([flat.transpose(2, 0, 1)] * 3)
    np.testing.assert_allclose(load_mvtec(tmp_path, "a").data, expected, atol=2)


def png_of_16_bits(array):
    """Encode uint16 pixels (H, W, 3): Pillow cannot write them."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    height, width, _ = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_the_upper_bits_of_16_bits_of_colours_are_kept_with_a_warning(tmp_path):
    deep = RNG.integers(65536, size=(H, W, 3)).astype(np.uint16)
    path = tmp_path / "a/train/good/0.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(png_of_16_bits(deep))
    with pytest.warns(UserWarning, match=r"Of 16 bits a pixel the upper 8 are kept: '.*0\.png'"):
        data = load_mvtec(tmp_path, "a").data
    np.testing.assert_array_equal(data[0], (deep >> 8).transpose(2, 0, 1))


@pytest.mark.parametrize("error", [TypeError, RuntimeError, KeyError])
def test_errors_of_single_formats_name_the_file_too(error, tmp_path, monkeypatch):
    folder = tmp_path / "thing" / "train" / "good"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "000.png")

    def broken(image):
        raise error("of this format")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    with pytest.raises(ValueError, match=r"000\.png' cannot be read as an image"):
        load_mvtec(tmp_path, "thing")
