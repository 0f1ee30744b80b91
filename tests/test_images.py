"""Images as input: what is accepted, what it means, what is refused; factories of networks."""

import copy
import pickle
import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skgenad import CANCE, MPDR, Autoencoder, Mahalanobis
from skgenad._core.detector import IMAGE_CHUNK
from skgenad._core.rows import validate_rows
from skgenad._core.units import PixelUnits
from skgenad.autoencoders import AutoencoderFeatures
from skgenad.energies import Chain, Manifold, Masked, Reconstruction
from skgenad.networks import MLP, Conv, FCRes
from skgenad.preprocessing import LatentFeatures

from ._settings import TINY, having, normal_rows, takes
from .test_files import rewrite

pytestmark = pytest.mark.usefixtures("drawing")

DETECTORS = having("image_shape")
all_detectors = pytest.mark.parametrize("detector", DETECTORS, ids=lambda cls: cls.__name__)
with_networks = pytest.mark.parametrize(
    "detector", [*having("image_shape", "network"), CANCE], ids=lambda cls: cls.__name__
)
SHAPE = (1, 8, 8)
SMALL_CONV = Conv(width=1 / 16)
# What is replaced of the quick settings of tables, on images and on both.
ON_IMAGES = {"Glow": {"n_scales": 1, "hidden": 4}, "PWAE": {"decoder_channels": 8}}
SHORT = {
    "CANCE": {"density_network": (8,)},
    "EBM": {"visible_chain": Chain(2)},
    "MPDR": {
        "manifold": Manifold(2, steps=4),
        "energy": Reconstruction(latent_dim=2),
    },
    "NAE": {"pretrain_steps": 4},
}


def on_images(detector, shape=SHAPE, network=SMALL_CONV, **parameters):
    """Make a detector of images with its quick settings, some of them replaced."""
    name = detector.__name__
    settings = {**TINY[name], "image_shape": shape, "max_steps": 4, **SHORT.get(name, {})}
    settings |= ON_IMAGES.get(name, {}) if shape else {}
    settings |= {"network": network} if takes(detector, "network") else {}
    settings |= {"latent_dim": 2} if takes(detector, "latent_dim") else {}
    if name == "CANCE":
        features = {"latent_dim": 2, "encoder_steps": 4, "decoder_steps": 4}
        settings["features"] = AutoencoderFeatures(network, **features)
    return detector(**{**settings, **parameters})


SCALED = Reconstruction(latent_dim=2, learn_scale=True)


def pixels(n=40, shape=SHAPE, seed=0):
    """Images (n, C, H, W) of type uint8: a bright blob somewhere, and noise."""
    rng = np.random.RandomState(seed)
    c, h, w = shape
    y, x = np.mgrid[:h, :w]
    centres = rng.uniform(2, min(h, w) - 2, (n, 2, 1, 1))
    blob = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / 4)
    images = 200 * blob[:, None].repeat(c, axis=1) + 50 * rng.rand(n, c, h, w)
    return images.astype(np.uint8)


# ---- what is accepted, and means the same -------------------------------------------------------


@all_detectors
def test_arrays_rows_and_types_of_the_same_images_mean_the_same(detector):
    X = pixels(shape=(3, 4, 6))
    fitted = on_images(detector, (3, 4, 6)).fit(X)
    scores = fitted.score_samples(X)
    assert scores.dtype == np.float64 and scores.shape == (40,) and np.isfinite(scores).all()
    unit = X / 255
    same = {
        "flat uint8": X.reshape(40, -1),
        "float64": unit,
        "flat float64": unit.reshape(40, -1),
        "float32": (X / 255).astype(np.float32),
        "a list": list(unit),
        "an object array": _objects(unit),
        "nested lists": unit.reshape(40, -1).tolist(),
        "a table": pd.DataFrame(X.reshape(40, -1)),
        "not contiguous": np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "a tensor": torch.from_numpy(X),
        "channels last": unit.transpose(0, 2, 3, 1),
        "a list of channels last": list(X.transpose(0, 2, 3, 1)),
        "channels first and last": [x.transpose(1, 2, 0) if k % 2 else x for k, x in enumerate(X)],
        "bytes and numbers": [x if k % 2 else x / 255 for k, x in enumerate(X)],
        "images of Pillow": [Image.fromarray(x.transpose(1, 2, 0)) for x in X],
        "a series of them": pd.Series([Image.fromarray(x.transpose(1, 2, 0)) for x in X]),
        "images of Pillow and arrays": [
            Image.fromarray(x.transpose(1, 2, 0)) if k % 2 else x for k, x in enumerate(X)
        ],
    }
    for name, images in same.items():
        np.testing.assert_array_equal(fitted.score_samples(images), scores, err_msg=name)
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict(unit.reshape(40, -1)))
    for images in (unit, X.reshape(40, -1)):
        again = on_images(detector, (3, 4, 6)).fit(images)
        np.testing.assert_array_equal(again.score_samples(X), scores)


def _objects(images):
    array = np.empty(len(images), dtype=object)
    array[:] = list(images)
    return array


def test_levels_of_uint8_are_bitwise_those_of_floats():
    levels = np.arange(256, dtype=np.uint8)[None]
    units = PixelUnits.identity(256)
    expected = (levels.astype(np.float64) / 255).astype(np.float32)
    np.testing.assert_array_equal(units.to_standard(levels), expected)
    np.testing.assert_array_equal(units.to_standard(levels / 255), expected)
    np.testing.assert_array_equal(units.to_standard(levels / np.float32(255)), expected)


@all_detectors
def test_every_method_takes_images(detector, tmp_path):
    X = pixels()
    fitted = on_images(detector, calibration_fraction=0.25).fit(X)
    scores = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.anomaly_score(X), -scores)
    np.testing.assert_array_equal(fitted.decision_function(X), scores - fitted.offset_)
    assert set(fitted.p_value(X)) <= {k / 11 for k in range(1, 12)}
    assert fitted.n_features_in_ == 64
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), scores)
    fitted.save(tmp_path / "detector")
    loaded = detector.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), scores)
    np.testing.assert_array_equal(loaded.score_samples(X / 255), scores)
    for name in ("energy", "log_density"):
        method = getattr(fitted, name, None)
        if callable(method):
            np.testing.assert_array_equal(method(X), method((X / 255).reshape(40, -1)))
    fitted.partial_fit(X)
    assert not np.array_equal(fitted.score_samples(X), scores)
    fitted.set_params(warm_start=True).fit(X.reshape(40, -1))
    assert len(np.unique(on_images(detector).fit_predict(X))) == 2


@pytest.mark.parametrize("detector", [d for d in DETECTORS if hasattr(d, "sample")])
def test_samples_are_flat_rows(detector):
    rows = on_images(detector).fit(pixels()).sample(3, random_state=0)
    assert rows.shape == (3, 64) and np.isfinite(rows).all()
    if detector.__name__ != "VAE":  # whose likelihood is normal
        assert rows.min() >= 0 and rows.max() <= 1


@all_detectors
def test_any_split_and_order_of_images_gives_the_same_bits(detector):
    fitted = on_images(detector).fit(pixels())
    X = pixels(IMAGE_CHUNK + 20, seed=1)
    scores = fitted.score_samples(X)
    order = np.random.RandomState(0).permutation(len(X))
    np.testing.assert_array_equal(fitted.score_samples(X[order]), scores[order])
    for part in (slice(5, 6), slice(0, 3), slice(50, 80)):
        np.testing.assert_array_equal(fitted.score_samples(X[part]), scores[part])


@with_networks
@pytest.mark.parametrize("network", [MLP((16, 16)), FCRes(width=1 / 16)])
def test_dense_networks_take_images_and_tables(detector, network):
    detector_of_images = on_images(detector, network=network).fit(pixels())
    assert np.isfinite(detector_of_images.score_samples(pixels())).all()
    table = on_images(detector, shape=None, network=network).fit(normal_rows())
    assert np.isfinite(table.score_samples(normal_rows())).all()


@pytest.mark.parametrize("detector", [Autoencoder, MPDR])
def test_an_image_of_noise_is_found(detector):
    longer = {"max_steps": 150, "learning_rate": 5e-3}
    if detector is MPDR:
        longer |= {"manifold": Manifold(2, steps=150), "max_steps": 10, "learning_rate": 1e-4}
    fitted = on_images(detector, **longer).fit(pixels(300))
    noise = np.random.RandomState(3).randint(0, 256, (20, *SHAPE)).astype(np.uint8)
    normal = fitted.score_samples(pixels(50, seed=9))
    assert np.median(fitted.score_samples(noise)) < np.quantile(normal, 0.1)


# ---- units ------------------------------------------------------------------------------------


@all_detectors
def test_pixels_are_not_standardised(detector):
    X = pixels()
    fitted = on_images(detector).fit(X)
    rows = X.reshape(40, -1)
    np.testing.assert_allclose(fitted.units_.to_standard(rows), rows / 255, rtol=1e-6)
    same = on_images(detector, standardize=False).fit(X)
    np.testing.assert_array_equal(same.score_samples(X), fitted.score_samples(X))
    with pytest.raises(ValueError, match="standardize=True cannot be combined with image_shape"):
        on_images(detector, standardize=True).fit(X)


@pytest.mark.parametrize(
    "detector", having("visible_chain", "image_shape"), ids=lambda c: c.__name__
)
def test_visible_chains_stay_in_the_range_of_pixels(detector):
    X = 0.4 + 0.1 * np.random.RandomState(0).rand(40, *SHAPE)
    fitted = on_images(detector, visible_chain=Chain(2, noise=3.0)).fit(X)
    negatives = fitted.negatives_
    assert negatives.min() == 0 and negatives.max() == 1
    low, high = fitted.module_.low, fitted.module_.high
    assert (low == 0).all() and (high == 1).all()
    free = on_images(detector, visible_chain=Chain(2, noise=0.5, bounds="none")).fit(X)
    assert free.negatives_.min() < -0.2 and free.negatives_.max() > 1.2


@pytest.mark.parametrize(
    "detector", having("visible_chain", "image_shape"), ids=lambda c: c.__name__
)
def test_chains_on_images_are_the_papers_unless_asked_otherwise(detector):
    settings = on_images(detector)._make_module(64).settings
    assert (settings.visible.step_size, settings.visible.noise) == (10.0, 0.005)
    assert settings.bounds == "data"


def test_rounding_beyond_the_range_is_cut_off():
    X = (pixels() / 255).astype(np.float32)
    detector = on_images(Autoencoder).fit(X)
    X[0, 0, 0, 0] = 1
    beyond = X.copy()
    beyond[0, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    np.testing.assert_array_equal(detector.score_samples(beyond), detector.score_samples(X))


def test_what_was_set_after_the_fit_does_not_change_what_rows_mean():
    X = pixels()
    detector = on_images(Autoencoder).fit(X)
    scores = detector.score_samples(X)
    detector.set_params(image_shape=(4, 4, 4))
    np.testing.assert_array_equal(detector.score_samples(X), scores)


# ---- what is refused ----------------------------------------------------------------------------

UNIT = np.random.RandomState(0).rand(6, 1, 8, 8)
COLOUR = np.random.RandomState(0).rand(6, 3, 8, 9)
BAD_IMAGES = [
    ((3, 8, 8), COLOUR.transpose(0, 2, 3, 1)[..., [0, 1, 2, 0]], "wants .n, 3, 8, 8."),
    ((3, 8, 9), COLOUR.transpose(0, 2, 3, 1)[..., [0, 1, 2, 0]], r"4 channels, the last .*:3\]"),
    (SHAPE, COLOUR[..., :8], r"3 channels in place of 1. Make them grey, X.mean\(axis=1\)"),
    (
        SHAPE,
        np.zeros((6, 8, 8, 3), np.uint8),
        r"Make them grey, X.mean\(axis=-1\).astype\(X.dtype\), or set image_shape=\(3, 8, 8\)",
    ),
    ((3, 32, 32), np.zeros((6, 28, 28, 3)), r"set image_shape=\(3, 28, 28\)"),
    ((4, 8, 8), np.zeros((6, 8, 8, 3)), r"Convert the images, or set image_shape=\(3, 8, 8\)"),
    (SHAPE, UNIT.tolist(), r"list of lists.*np.array\(X, dtype=np.uint8\).*np.array\(X\)"),
    (SHAPE, pd.DataFrame({"i": list(UNIT), "y": 1}), r"images in column 'i'.*X\['i'\].tolist"),
    ((3, 8, 8), UNIT, "1 channels in place of 3"),
    (
        SHAPE,
        UNIT[:, :, :7],
        r"\(6, 1, 7, 8\), .* Resize the images, or set image_shape=\(1, 7, 8\)",
    ),
    (SHAPE, UNIT[0, 0], r"it is a single image. Pass X\[None\]"),
    ((3, 8, 9), COLOUR[0], r"it is a single image. Pass X\[None\]"),
    ((3, 8, 9), COLOUR[0].transpose(1, 2, 0), r"it is a single image. Pass X\[None\]"),
    ((3, 8, 9), UNIT[:, 0], r"shape \(6, 8, 8\), .* or flat rows \(n, 216\)"),
    (SHAPE, [UNIT[0], UNIT[1, :, :7]], r"Image 1 of X has the shape \(1, 7, 8\).*Resize"),
    (SHAPE, np.ma.masked_greater(UNIT, 0.9), "X is a masked array"),
    (SHAPE, [np.ma.masked_greater(x, 0.9) for x in UNIT], "Image 0 of X is a masked array"),
    (SHAPE, ["a.png", "b.png"], r"holds paths, such as 'a.png'.*PIL.Image.open"),
    (SHAPE, [(x, 0) for x in UNIT], r"pairs.*\[image for image, _ in X\]"),
    (
        SHAPE,
        UNIT.reshape(6, -1)[:, :60],
        r"X has 60 features, but image_shape=\(1, 8, 8\) means 64",
    ),
    (SHAPE, 255 * UNIT, r"values from .* to 25.*pixels must lie in \[0, 1\]\. .* X / 255,"),
    (SHAPE, 16 * UNIT, r"values from .* to 1.*pixels must lie in \[0, 1\]\. .* X / 16,"),
    (SHAPE, UNIT - 0.5, r"values from -0.4"),
    (SHAPE, (255 * UNIT).astype(np.int64), "of type int64; with image_shape, integers other than"),
    (SHAPE, (255 * UNIT).astype(np.int16), r"Pass X.astype\(np.uint8\)"),
    (
        SHAPE,
        np.where(UNIT > 0.9, np.nan, UNIT),
        r"contains NaN. Image 0 holds .* of 64.*nan_to_num",
    ),
    ((8, 8), UNIT, r"image_shape=\(8, 8\) must be \(channels, height, width\)"),
    ((1, 8, 0), UNIT, r"image_shape=\(1, 8, 0\) must be"),
    ((1, 8, 8.0), UNIT, "three integers"),
    (64, UNIT, "image_shape.*Got 64 instead"),
]


@pytest.mark.parametrize(("shape", "X", "message"), BAD_IMAGES)
@pytest.mark.parametrize("detector", [Autoencoder, CANCE])
def test_bad_images_are_refused_by_name(detector, shape, X, message):
    unfitted = on_images(detector, shape)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(X)
    assert not hasattr(unfitted, "module_") and not hasattr(unfitted, "n_features_in_")


def test_grey_images_are_what_the_error_says():
    colours = pixels().transpose(0, 2, 3, 1).repeat(3, axis=-1)
    grey = colours.mean(axis=-1).astype(colours.dtype)
    fitted = on_images(Autoencoder).fit(pixels())
    np.testing.assert_array_equal(fitted.score_samples(grey), fitted.score_samples(pixels()))


def test_tensors_of_narrow_types_are_images_and_rows():
    images = torch.tensor(UNIT).bfloat16()
    fitted = on_images(Autoencoder).fit(images)
    wanted = fitted.score_samples(images.float().numpy())
    for X in (images, list(images), images.requires_grad_()):
        np.testing.assert_array_equal(fitted.score_samples(X), wanted)


# What rows are in, and what the error says to write of it.
CONTAINERS = {
    "tensors": (lambda X: TensorDataset(torch.tensor(X)), "X.tensors[0]"),
    "loader": (
        lambda X: DataLoader(TensorDataset(torch.tensor(X)), batch_size=4),
        "torch.cat([x for x, *_ in X])",
    ),
    "batches": (
        lambda X: DataLoader(torch.tensor(X), batch_size=4),
        "torch.cat([batch for batch in X])",
    ),
    "zip": (lambda X: zip(X, range(len(X)), strict=True), "[x for x, *_ in X]"),
    "generator": (lambda X: (x for x in X), "list(X)"),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_are_refused_with_what_to_write(kind):
    make, written = CONTAINERS[kind]
    for X, unfitted in ((UNIT, on_images(Autoencoder)), (UNIT.reshape(6, -1), Mahalanobis())):
        with pytest.raises(TypeError, match=re.escape(written)):
            unfitted.fit(make(X))
        unfitted.fit(eval(written, {"X": make(X), "torch": torch}))


@all_detectors
def test_a_fitted_detector_refuses_them_too(detector):
    fitted = on_images(detector).fit(pixels())
    for method in (fitted.score_samples, fitted.predict, fitted.partial_fit):
        with pytest.raises(ValueError, match="Resize the images"):
            method(UNIT[:, :, :7])
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            method(2 + UNIT)


@pytest.mark.parametrize("cls", [Autoencoder, *having("shrinkage")])
def test_images_without_image_shape_are_told_about_it(cls):
    with pytest.raises(
        ValueError, match=r"image_shape=\(1, 8, 8\) to a detector that takes images"
    ):
        cls().fit(UNIT)
    for grey in (UNIT[:, 0], list(UNIT[:, 0])):
        with pytest.raises(ValueError, match=r"image_shape=\(1, 8, 8\) to a detector that takes"):
            cls().fit(grey)
    photos = [Image.new("RGB", (9, 8))] * 3
    for colour in (photos, [np.asarray(photo) for photo in photos]):
        with pytest.raises(ValueError, match=r"image_shape=\(3, 8, 9\) to a detector that takes"):
            cls().fit(colour)


# ---- images of Pillow ---------------------------------------------------------------------------


def checkered(size=(6, 4)):
    """Make an upright grey image of Pillow without a symmetry."""
    return Image.fromarray(pixels(1, (1, *size[::-1]))[0, 0])


def rows_of(images, shape):
    """Return what a detector makes of a list of images, (n, C, H, W) in [0, 1]."""
    detector = on_images(Autoencoder, shape)
    return (
        PixelUnits.identity(1)
        .to_standard(validate_rows(detector, images, image_shape=shape, reset=True))
        .reshape(-1, *shape)
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_of_pillow_are_taken_in_every_mode(mode, channels):
    grey = checkered().point(lambda level: 255 * (level > 60), "L")
    expected = (np.asarray(grey) / 255).astype(np.float32)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(expected)
    else:
        image = grey.convert(mode)
    assert image.mode == mode
    if mode in ("I;16", "F") and channels == 3:
        expected = expected * np.ones((3, 1, 1), np.float32)
    got = rows_of([image, grey], (channels, 4, 6))
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "RGBX"])
def test_colour_images_of_pillow_are_taken_in_every_mode(mode):
    colour = Image.fromarray(np.full((4, 6, 3), [51, 102, 204], np.uint8))
    image = colour.convert("RGBA").convert(mode) if mode == "RGBX" else colour.convert(mode)
    assert image.mode == mode
    np.testing.assert_array_equal(rows_of([image], (3, 4, 6)), rows_of([colour], (3, 4, 6)))


def test_all_channels_are_kept_where_they_are_wanted():
    clear = Image.fromarray(pixels(1, (4, 4, 6))[0].transpose(1, 2, 0), "RGBA")
    np.testing.assert_array_equal(
        rows_of([clear], (4, 4, 6))[0].transpose(1, 2, 0),
        (np.asarray(clear) / 255).astype(np.float32),
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_viewers_turn_them(orientation, tmp_path):
    photo = checkered((6, 6))
    exif = photo.getexif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as turned:
        shown = np.asarray(ImageOps.exif_transpose(turned))
        got = rows_of([turned], (1, 6, 6))[0, 0]
    np.testing.assert_array_equal(got, (shown / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            checkered((7, 4)),
            r"Image 1 of X is 4x7 \(height x width\).*wants 4x6.*resize\(\(6, 4\)\)",
        ),
        (
            Image.new("RGB", (6, 4), "red"),
            r"Image 1 of X is in colour.*convert\('L'\).*\(3, 4, 6\)",
        ),
        (Image.new("RGBA", (6, 4), (9, 9, 9, 99)), "Image 1 of X has transparent pixels.*alpha_c"),
        (Image.new("LAB", (6, 4)), "Image 1 of X has Pillow's mode 'LAB'; convert it"),
        (Image.new("I", (6, 4)), r"mode 'I', .* np.asarray\(image\) / 65535"),
    ],
)
def test_an_image_of_pillow_that_does_not_fit_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        on_images(Autoencoder, (1, 4, 6)).fit([checkered(), image, checkered()])


def test_a_single_image_and_films_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"single image. Pass \[X\]"):
        on_images(Autoencoder, (1, 4, 6)).fit(checkered())
    checkered().save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("L", (6, 4))])
    with Image.open(tmp_path / "film.gif") as film, pytest.raises(ValueError, match="2 frames"):
        on_images(Autoencoder, (1, 4, 6)).fit([film, film])


@with_networks
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"network": "resnet"}, "network.*'resnet' instead"),
        ({"network": nn.Linear(2, 2)}, "network"),
        ({"network": Conv(width=0)}, "'width' parameter of Conv must be .* Got 0 instead"),
        ({"network": (8, 0)}, r"hidden_sizes=\(8, 0\) must hold integers"),
        ({"network": MLP(activation="cos")}, "'activation' parameter of MLP"),
        (
            {"network": "conv28"},
            "does not fit image_shape=.1, [83], [83].: height [83]",  # PWAE's sees patches
        ),
        ({"shape": None}, "network='conv' is for images"),
    ],
)
def test_networks_that_cannot_be_are_refused(detector, parameters, message):
    with pytest.raises(ValueError, match=message):
        on_images(detector, **parameters).fit(pixels().reshape(40, -1) / 255)


# ---- memory -------------------------------------------------------------------------------------


def test_scoring_converts_bytes_chunk_by_chunk():
    """Its arrays beyond the input are those of a chunk and the scores, whatever the rows."""
    detector = on_images(Autoencoder, (1, 28, 28)).fit(pixels(20, (1, 28, 28)))
    peaks = []
    for n in (200, 1800):
        X = np.zeros((n, 1, 28, 28), np.uint8)
        detector.score_samples(X[:100])
        tracemalloc.start()
        detector.score_samples(X)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    chunk = IMAGE_CHUNK * 28 * 28 * 4
    # Float32 copies of all would take 5 million bytes; scores take 8 bytes each, a few times.
    assert peaks[1] - peaks[0] < 1600 * 8 * 10
    assert peaks[1] < 3 * chunk + 1800 * 8 * 10


@pytest.mark.parametrize(("shape", "size"), [(SHAPE, IMAGE_CHUNK), ((3, 200, 400), 8)])
def test_the_network_sees_chunks_of_one_size_of_fewer_images_the_larger_they_are(
    shape, size, monkeypatch
):
    detector = on_images(Autoencoder, shape).fit(pixels(3, shape))
    seen, energy = [], detector.module_.energy
    monkeypatch.setattr(detector.module_, "energy", lambda x: seen.append(x.shape) or energy(x))
    detector.score_samples(pixels(2 * size + 1, shape))
    assert seen == [(size, np.prod(shape))] * 3


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scoring_floats_copies_no_more_than_a_chunk(kind):
    detector = on_images(Autoencoder, (1, 28, 28)).fit(pixels(20, (1, 28, 28)))
    X = np.zeros((2000, 1, 28, 28), kind)
    detector.score_samples(X[:100])
    tracemalloc.start()
    detector.score_samples(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * 2000 * 28 * 28 * 4


# ---- factories of one's own ---------------------------------------------------------------------


class Small:
    """Networks for images and tables, written without any of the package's pieces."""

    def make_encoder(self, shape, latent_dim):
        self.shape_seen = shape
        n = int(np.prod(shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(n, 10), nn.Tanh(), nn.Linear(10, latent_dim))

    def make_decoder(self, latent_dim, shape):
        n = int(np.prod(shape))
        return nn.Sequential(nn.Linear(latent_dim, n), nn.Unflatten(1, shape))


class SeesImages(Small):
    def make_encoder(self, shape, latent_dim):
        channels, height, width = shape
        conv = nn.Conv2d(channels, 4, 3, padding=1)
        flat = nn.Linear(4 * height * width, latent_dim)
        return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), flat)


@with_networks
@pytest.mark.parametrize("factory", [Small, SeesImages])
def test_a_factory_of_ones_own_makes_the_networks(detector, factory, tmp_path):
    X = pixels(IMAGE_CHUNK + 10)
    fitted = on_images(detector, network=factory()).fit(X)
    scores = fitted.score_samples(X)
    assert np.isfinite(scores).all() and len(np.unique(scores)) > 20
    order = np.random.RandomState(0).permutation(len(X))
    np.testing.assert_array_equal(fitted.score_samples(X[order]), scores[order])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), scores)
    np.testing.assert_array_equal(copy.deepcopy(fitted).score_samples(X), scores)
    with pytest.raises(TypeError, match="network=<.*cannot be saved: files hold numbers.*pickle"):
        fitted.save(tmp_path / "detector")


@with_networks
def test_a_factory_makes_networks_for_tables(detector):
    X = normal_rows()
    fitted = on_images(detector, None, network=Small()).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()


class Wrong(Small):
    def __init__(self, part):
        self.part = part

    def make_encoder(self, shape, latent_dim):
        return super().make_encoder(shape, latent_dim + (self.part == "encoder"))

    def make_decoder(self, latent_dim, shape):
        if self.part == "function":
            return torch.sigmoid
        return super().make_decoder(latent_dim, (2, *shape) if self.part == "decoder" else shape)


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (
            "encoder",
            ValueError,
            r"Wrong.make_encoder maps 2 rows to .*\(2, 3\), needed is \(2, 2\)",
        ),
        ("decoder", ValueError, r"Wrong.make_decoder maps .*\(2, 128\), needed is \(2, 1, 8, 8\)"),
        ("function", TypeError, "Wrong.make_decoder must make an nn.Module, got builtin"),
    ],
)
def test_factories_that_make_the_wrong_thing_are_told(part, error, message):
    with pytest.raises(error, match=message):
        on_images(Autoencoder, network=Wrong(part)).fit(pixels())


# ---- files --------------------------------------------------------------------------------------


def change(name, value):
    """Return what puts another value of a parameter of the fit into a document."""
    return lambda document: document["state"]["_fitted_parameters"].update({name: value})


BAD_DOCUMENTS = {
    "does not fit image_shape": change("network", "conv28"),
    "does not make 64 columns": change("image_shape", {"tuple": [1, 4, 8]}),
    "units of shapes": lambda document: document["state"].update(n_features_in_=63),
    "size mismatch": change("network", {"part": "Conv", "parameters": {"width": 1 / 8}}),
    "must be a str among": change("network", "os.system"),
    "must be .channels, height": change("image_shape", [8, 8]),
}


@pytest.mark.parametrize("message", BAD_DOCUMENTS)
def test_files_that_do_not_fit_are_refused(message, tmp_path):
    on_images(Autoencoder).fit(pixels()).save(tmp_path / "detector")
    rewrite(tmp_path / "detector", BAD_DOCUMENTS[message])
    with pytest.raises(ValueError, match=message):
        Autoencoder.load(tmp_path / "detector")


# ---- together -----------------------------------------------------------------------------------


def test_mpdr_may_have_another_network_for_its_energy():
    X = pixels()
    conv, brief = Reconstruction(SMALL_CONV, latent_dim=2, pretrain_steps=4), {"network": "mlp"}
    detector = on_images(MPDR, **brief, energy=conv).fit(X)
    kinds = [type(net.encoder).__name__ for net in detector.module_.manifolds]
    assert kinds == ["MLP"] and type(detector.module_.base.net.encoder).__name__ == "RowEncoder"
    assert "pretrain" in set(detector.history_.stage)
    same = on_images(MPDR, energy=Reconstruction(SMALL_CONV, latent_dim=2)).fit(X)
    assert "pretrain" not in set(same.history_.stage)
    with pytest.raises(ValueError, match="same network"):
        manifolds = Reconstruction(SMALL_CONV, latent_dim=2, init="manifold")
        on_images(MPDR, **brief, energy=manifolds).fit(X)
    with pytest.raises(ValueError, match="energy='masked' is a perceptron on columns"):
        on_images(MPDR, energy="masked").fit(X)
    masked = on_images(MPDR, energy=Masked((16,), pretrain_steps=4)).fit(X)
    assert masked.score_samples(X).shape == (40,)


def test_a_learned_scale_is_a_factor_of_the_energy():
    X = pixels()
    detector = on_images(MPDR, energy=SCALED, learning_rate=1e-2).fit(X)
    base = detector.module_.base
    scale = base.log_scale.exp().item()
    assert scale > 0 and scale != 1
    rows = torch.from_numpy(detector.units_.to_standard(X.reshape(40, -1)))
    with torch.no_grad():
        error = (rows - base.net(rows)).square().mean(dim=1)
    np.testing.assert_allclose(-detector.score_samples(X), scale * error.numpy(), rtol=1e-4)


def test_scores_of_images_are_energies_and_not_combinations():
    auto, energies = (
        on_images(MPDR, **kind).fit(pixels()) for kind in ({}, {"score_type": "energy"})
    )
    np.testing.assert_array_equal(auto.score_samples(pixels()), energies.score_samples(pixels()))
    both = on_images(MPDR, score_type="combined").fit(pixels())
    assert not np.allclose(both.score_samples(pixels()), energies.score_samples(pixels()))


def test_latent_features_of_images():
    X = pixels()
    features = LatentFeatures(on_images(Autoencoder)).fit(X)
    codes = features.transform(X)
    assert codes.shape == (40, 2)
    np.testing.assert_array_equal(features.transform((X / 255).reshape(40, -1)), codes)
    rows = features.inverse_transform(codes)
    assert rows.shape == (40, 64) and rows.min() >= 0 and rows.max() <= 1
    with pytest.raises(ValueError, match="Resize the images"):
        features.transform(UNIT[:, :, :7])
    fitted = on_images(CANCE, features=LatentFeatures(on_images(Autoencoder))).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()


def test_principal_components_take_images():
    fitted = on_images(CANCE, features="pca").fit(pixels())
    assert np.isfinite(fitted.score_samples(pixels())).all()
