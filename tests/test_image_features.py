"""Features of images from frozen networks: inputs, layers, grids, the cache."""

import json
import os
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from torch import nn
from torch.nn.functional import avg_pool2d

import skgenad
from skgenad import Mahalanobis
from skgenad._writing import _open_beside
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import ImageFeatures
from skgenad.preprocessing import _image_networks as networks

SIDE = 24


def network(seed=0):
    """Make a small network with layers of two resolutions."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2, padding=1),
    )


def images(n=5, channels=3, side=SIDE, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randint(256, size=(n, channels, side, side), dtype=np.uint8)


def features(*args, **kwargs):
    return ImageFeatures(network(), *args, **{"size": SIDE, "device": "cpu", **kwargs})


def literal(X, layers, net=None):
    """Outputs of layers for images (n, 3, H, W) in [0, 1]."""
    x, found = torch.from_numpy(np.asarray(X, dtype=np.float32)), []
    with torch.inference_mode():
        for place, part in enumerate(net or network()):
            x = part(x)
            if str(place) in layers:
                found.append(x)
    return found


# ---- features -----------------------------------------------------------------------------


def test_the_output_is_that_of_the_network_and_its_mean():
    X = images()
    (expected,) = literal(X / 255, ("4",))
    grid = features(pool=None).fit_transform(X)
    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, expected, atol=1e-6)
    np.testing.assert_allclose(features().fit_transform(X), expected.mean((2, 3)), atol=1e-6)


def test_layers_come_in_order_on_the_grid_of_the_coarsest():
    X = images()
    fine, coarse = literal(X / 255, ("0", "3"))
    found = features(layers=["0", "3"], pool=None).fit(X)
    assert found.shape_ == (10, 6, 6) and found.layers_ == ("0", "3")
    expected = torch.cat([avg_pool2d(fine, 2), coarse], dim=1)
    np.testing.assert_allclose(found.transform(X), expected, atol=1e-6)


def test_a_finer_grid_keeps_the_mean_of_constant_maps_and_the_size():
    X = np.full((2, 3, SIDE, SIDE), 0.5)
    flat = nn.Conv2d(3, 2, 4, stride=4)
    found = ImageFeatures(flat, size=SIDE, pool=None, grid=11, device="cpu").fit_transform(X)
    assert found.shape == (2, 2, 11, 11)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :, :1, :1], found.shape), atol=1e-6)


def test_smooth_is_the_mean_over_a_square_of_places():
    X = images()
    plain = features(layers=["0"], pool=None).fit_transform(X)
    smooth = features(layers=["0"], pool=None, smooth=3).fit_transform(X)
    np.testing.assert_allclose(
        smooth[:, :, 1:-1, 1:-1], avg_pool2d(torch.from_numpy(plain), 3, 1), atol=1e-6
    )
    np.testing.assert_allclose(smooth[:, :, 0, 0], plain[:, :, :2, :2].mean((2, 3)), atol=1e-6)


def test_pixels_are_normalised_as_asked_for():
    X, mean, std = images() / 255, (0.1, 0.2, 0.3), (2.0, 3.0, 4.0)
    mine = (X - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    found = features(normalize=(mean, std)).fit_transform(X)
    np.testing.assert_allclose(found, literal(mine, ("4",))[0].mean((2, 3)), atol=1e-6)
    half = features(normalize=(0.5, 0.5)).fit_transform(X)
    np.testing.assert_allclose(half, literal(2 * X - 1, ("4",))[0].mean((2, 3)), atol=1e-6)


def test_layers_behind_the_last_one_that_is_wanted_are_not_run():
    class Refuses(nn.Module):
        def forward(self, x):
            raise AssertionError("this layer was run")

    net = nn.Sequential(*list(network())[:2], Refuses())
    found = ImageFeatures(net, layers=["1"], size=SIDE, device="cpu").fit_transform(images())
    assert found.shape == (5, 4)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16, "auto"])
def test_an_images_features_depend_on_that_image_alone(batch_size):
    X = images(7)
    found = features(pool=None, batch_size=batch_size).fit(X)
    whole = found.transform(X)
    np.testing.assert_array_equal(np.concatenate([found.transform(x[None]) for x in X]), whole)
    np.testing.assert_array_equal(found.transform(X[::-1]), whole[::-1])


def test_the_users_network_and_everyones_random_numbers_stay_as_they_are():
    net = nn.Sequential(network(), nn.BatchNorm2d(5), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    ImageFeatures(net, size=SIDE, device="cpu").fit_transform(images())
    assert net.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not net[0][0]._forward_hooks


def test_threads_do_not_see_each_others_layers():
    found = features(layers=["0", "3"], pool=None).fit(images())
    sets = [images(4, seed=seed) for seed in range(4)]
    expected = [found.transform(X) for X in sets]
    wrong = []

    def ask(X, wanted):
        for _ in range(10):
            if not (found.transform(X) == wanted).all():
                wrong.append(1)

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(sets, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- images -------------------------------------------------------------------------------


def test_arrays_files_and_images_of_all_kinds_agree(tmp_path):
    X = images(3)
    last = X.transpose(0, 2, 3, 1)
    pictures = [Image.fromarray(image) for image in last]
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    found = features().fit(X)
    expected = found.transform(X)
    for same in (last, list(X), list(last), X / 255, pictures, paths, [str(p) for p in paths]):
        np.testing.assert_array_equal(found.transform(same), expected)
    for same in (pd.Series(paths), np.array(paths, dtype=object), torch.from_numpy(X)):
        np.testing.assert_array_equal(found.transform(same), expected)
    mixed = [X[0], pictures[1], paths[2]]
    np.testing.assert_array_equal(found.transform(mixed), expected)


def test_grey_is_repeated_and_sizes_are_brought_to_one():
    grey = images(3, channels=1)
    found = features().fit(grey)
    expected = found.transform(np.repeat(grey, 3, axis=1))
    np.testing.assert_array_equal(found.transform(grey), expected)
    np.testing.assert_array_equal(found.transform(grey[:, 0]), expected)
    constant = [np.full((3, side, side + 5), 0.25) for side in (SIDE, 7, 100)]
    values = found.transform(constant)
    np.testing.assert_allclose(values, np.broadcast_to(values[0], values.shape), atol=1e-6)


def test_a_halved_image_is_the_mean_of_what_a_pixel_covers():
    one = np.zeros((1, 1, 2 * SIDE, 2 * SIDE))
    one[..., ::2] = 1.0  # stripes that a resize without antialiasing would keep or lose whole
    plain = ImageFeatures(nn.Identity(), size=SIDE, pool=None, device="cpu").fit_transform(one)
    np.testing.assert_allclose(plain[..., 2:-2, 2:-2], 0.5, atol=0.02)


def saved(image, path, **how):
    image.save(path, **how)
    return path


def palette(colour):
    return colour.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)


def test_odd_modes_are_read_as_what_they_show(tmp_path):
    ramp = np.arange(SIDE * SIDE, dtype=np.uint32).reshape(SIDE, SIDE)
    deep = Image.fromarray((ramp * 113).astype(np.uint16))
    colour = Image.fromarray(np.stack([ramp % 7 * 30] * 3, axis=2).astype(np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    found = ImageFeatures(nn.Identity(), size=SIDE, pool=None, device="cpu").fit(images())

    def pixels(image, name, **how):
        return found.transform([saved(image, tmp_path / name, **how)])[0]

    np.testing.assert_allclose(pixels(deep, "a.png")[0], ramp * 113 / 65535, atol=1e-6)
    plain = np.asarray(colour).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(pixels(palette(colour), "b.png"), plain, atol=1e-6)
    np.testing.assert_allclose(pixels(colour.convert("CMYK"), "c.tiff"), plain, atol=0.01)
    upright = pixels(colour, "d.png", exif=turned)
    np.testing.assert_allclose(upright, np.rot90(plain, k=-1, axes=(1, 2)), atol=1e-6)
    opaque = pixels(colour.convert("RGBA"), "e.png")
    np.testing.assert_allclose(opaque, plain, atol=1e-6)


def truncated(path):
    whole = saved(Image.fromarray(images(1, side=64)[0].transpose(1, 2, 0)), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


BROKEN = {
    "truncated.png": (truncated, "cannot be read as an image"),
    "truncated.jpg": (truncated, "cannot be read as an image"),
    "empty.png": (lambda path: path.write_bytes(b""), "empty"),
    "text.png": (lambda path: path.write_text("no image"), "cannot be read"),
    "missing.png": (lambda path: None, "cannot be read"),
    "clear.png": (lambda path: Image.new("RGBA", (9, 9)).save(path), "transparent"),
    "moving.gif": (
        lambda path: Image.new("L", (9, 9)).save(
            path, save_all=True, append_images=[Image.new("L", (9, 9), 255)]
        ),
        "frames",
    ),
    "long.tiff": (lambda path: Image.new("I", (9, 9)).save(path), "mode 'I'"),
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_image_is_an_error_that_names_it(name, cached, tmp_path):
    make, match = BROKEN[name]
    good = saved(Image.new("RGB", (9, 9)), tmp_path / "good.png")
    make(tmp_path / name)
    found = features(cache=tmp_path / "cache" if cached else None).fit([good])
    with pytest.raises(ValueError, match=match) as caught:
        found.transform([good, tmp_path / name])
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (np.full((3, 3, 8, 8), 2.0), "Image 1 has values from 2 to 2"),
        (np.full((3, 3, 8, 8), np.nan), "Image 1 has values"),
        (np.ones((3, 3, 8, 8), dtype=np.int64), "Image 1 is an array of type int64"),
        (np.ones((3, 4, 8, 8)), "Image 1 has the shape"),
        ([np.ones((3, 8, 8)), np.ones((2, 8, 8)), np.ones((3, 8, 8))], "Image 1 has the shape"),
    ],
)
def test_arrays_that_are_no_images_are_errors_that_say_which(X, match):
    found = features(batch_size=2).fit(images())
    good = np.ones((3, 8, 8))
    mixed = [good, X[1], *X[2:]]
    with pytest.raises(ValueError, match=match):
        found.transform(mixed)


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        ("a.png", ValueError, "single image"),
        (Image.new("L", (4, 4)), ValueError, "single image"),
        ([], ValueError, "no images"),
        (np.ones((5, 4)), ValueError, "shape"),
        (3, TypeError, "must hold images"),
    ],
)
def test_what_holds_no_images_is_an_error(X, error, match):
    with pytest.raises(error, match=match):
        features().fit(X)


def test_a_device_that_is_set_after_a_fit_is_where_features_are_computed(monkeypatch):
    X, asked = images(2), []
    found = features().fit(X)
    expected = found.transform(X)
    found.set_params(device="cuda:99")
    with pytest.raises(ValueError, match="device='cuda:99' cannot be used here"):
        found.transform(X)

    def to(module, device):
        asked.append(device)
        return module

    monkeypatch.setattr(networks.LayerFeatures, "to", to)
    found.set_params(device="cpu")
    np.testing.assert_array_equal(found.transform(X), expected)
    assert set(asked) == {torch.device("cpu")}


# ---- the cache ----------------------------------------------------------------------------


def count_passes(monkeypatch):
    passes = []
    computed = ImageFeatures._computed

    def counted(self, batch):
        passes.append(len(batch))
        return computed(self, batch)

    monkeypatch.setattr(ImageFeatures, "_computed", counted)
    return passes


def test_no_image_is_computed_twice_whatever_it_comes_in(tmp_path, monkeypatch):
    X = images(6)
    found = features(pool=None, cache=tmp_path / "cache", batch_size=4).fit(X)
    expected = features(pool=None, batch_size=4).fit_transform(X)
    passes = count_passes(monkeypatch)
    np.testing.assert_array_equal(found.transform(X[:3]), expected[:3])
    np.testing.assert_array_equal(found.transform(X), expected)
    assert sum(passes) == 6
    again = features(pool=None, cache=tmp_path / "cache", batch_size=4).fit(X)
    passes.clear()
    np.testing.assert_array_equal(again.transform(list(X[::-1])), expected[::-1])
    np.testing.assert_array_equal(again.transform(X / 255), expected)
    assert not passes


def test_other_settings_weights_and_images_have_features_of_their_own(tmp_path, monkeypatch):
    X, cache = images(2), tmp_path / "cache"
    features(cache=cache).fit_transform(X)
    others = {
        "size": features(cache=cache, size=16),
        "normalize": features(cache=cache, normalize=(0.5, 0.5)),
        "layers": features(cache=cache, layers=["4"]),
        "weights": ImageFeatures(network(1), size=SIDE, cache=cache, device="cpu"),
    }
    passes = count_passes(monkeypatch)
    for name, other in others.items():
        passes.clear()
        alone = clone(other).set_params(cache=None).fit_transform(X)
        np.testing.assert_array_equal(other.fit_transform(X), alone, err_msg=name)
        assert sum(passes) == 2 * (1 + len(X)), name
    flipped = X[:, :, ::-1]
    alone = features().fit_transform(flipped)
    np.testing.assert_array_equal(features(cache=cache).fit_transform(flipped), alone)


def test_a_run_that_ended_early_goes_on_and_torn_files_are_made_anew(tmp_path, monkeypatch):
    X = images(8)
    found = features(cache=tmp_path, batch_size=2).fit(X)
    computed, left = ImageFeatures._computed, [3]

    def killed(self, batch):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return computed(self, batch)

    monkeypatch.setattr(ImageFeatures, "_computed", killed)
    with pytest.raises(KeyboardInterrupt):
        found.transform(X)
    monkeypatch.setattr(ImageFeatures, "_computed", computed)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:-3])
    files[1].write_bytes(b"")
    passes = count_passes(monkeypatch)
    expected = features(batch_size=2).fit(X).transform(X)
    np.testing.assert_array_equal(found.transform(X), expected)
    assert sum(passes) == 8 + 1 + 4 + 2  # without a cache, its fit, what was left, what was torn
    assert len(list(tmp_path.rglob("*.safetensors"))) == 8


@pytest.mark.skipif(os.name == "nt", reason="an open file stays where it is there")
def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    X = images(6)
    found = features(cache=tmp_path).fit(X)
    found.transform(X)
    folders = {path.parent for path in tmp_path.rglob("*.safetensors")}
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    dead, living = {}, {}
    for folder in folders:
        file, dead[folder] = _open_beside(folder / "a key that nobody asks for again", 0o600)
        os.close(file)  # as at the end of a process: nobody has it locked
        living[folder] = _open_beside(folder / "another key", 0o600)
    try:
        found.transform(X)
        assert not any(path.exists() for path in dead.values())
        assert all(path.exists() for _, path in living.values())
    finally:
        for file, _ in living.values():
            os.close(file)


# ---- networks -----------------------------------------------------------------------------


def test_efficientnet_lite0_has_the_stages_that_are_stated():
    state = torch.get_rng_state()
    X = images(1, side=64)
    found = ImageFeatures(pool=None, size=224, device="cpu").fit(X)
    assert found.shape_ == (24 + 40 + 80 + 112, 14, 14)
    assert found.mean_ == (127 / 255,) * 3 and found.std_ == (128 / 255,) * 3
    assert torch.equal(torch.get_rng_state(), state)
    every = [f"_blocks.{k}" for k in range(15)]
    sides = {}
    for name in every:
        net = networks.network_of("efficientnet-lite0")
        layer = networks.LayerFeatures(net, (name,), 224, None, None, 1)
        with torch.inference_mode():
            sides[name] = tuple(layer(torch.zeros(1, 3 * 224 * 224)).shape[1:3])
    channels = [sides[name] for name in every]
    assert channels[1:3] == [(24, 56)] * 2 and channels[3:5] == [(40, 28)] * 2
    assert channels[5:8] == [(80, 14)] * 3 and channels[8:11] == [(112, 14)] * 3
    assert channels[11:14] == [(192, 7)] * 3


def test_efficientnet_lite0_sees_what_is_in_an_image():
    """Its weights are those of ImageNet: a photograph's classes are not those of noise."""
    from skimage import data

    net = networks.network_of("efficientnet-lite0")
    cat = networks_input(data.chelsea(), net)
    with torch.inference_mode():
        best = net.module(cat).softmax(dim=1)[0].topk(3)
    assert {281, 282, 285} & set(best.indices.tolist())  # tabby, tiger cat, Egyptian cat


def networks_input(pixels, net):
    side = min(pixels.shape[:2])
    image = Image.fromarray(pixels[:side, -side:]).resize((224, 224))
    x = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (net.mean, net.std))
    return ((x - mean) / std)[None]


@pytest.fixture
def vit(tmp_path):
    """Save a tiny vision transformer of random weights, and how it wants its images."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=16, image_size=32, patch_size=8, num_channels=3
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    folder = tmp_path / "vit"
    model.save_pretrained(folder)
    seen = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (folder / "preprocessor_config.json").write_text(json.dumps(seen))
    return folder, model


def test_a_transformer_of_a_folder_gives_tokens_and_grids(vit):
    folder, model = vit
    X = images(3, side=32)
    mean, std = ((0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
    x = (X / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    with torch.inference_mode():
        tokens = model(pixel_values=torch.from_numpy(x.astype(np.float32))).last_hidden_state
    first = ImageFeatures(f"transformers:{folder}", pool="first", device="cpu").fit(X)
    assert (first.mean_, first.std_, first.size_) == (mean, std, 32)
    np.testing.assert_allclose(first.transform(X), tokens[:, 0], atol=1e-5)
    grid = ImageFeatures(f"transformers:{folder}", pool=None, device="cpu").fit_transform(X)
    places = tokens[:, 1:].reshape(3, 4, 4, 12).permute(0, 3, 1, 2)
    np.testing.assert_allclose(grid, places, atol=1e-5)
    pooled = ImageFeatures(f"transformers:{folder}", device="cpu").fit_transform(X)
    np.testing.assert_allclose(pooled, places.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("kind", ["transformers", "timm"])
@pytest.mark.parametrize("name", ["/nope", "./nope", "~/nope", "a/b/nope"])
def test_a_folder_that_is_not_there_is_named(kind, name):
    wanted = re.escape(f"names the folder {str(Path(name).expanduser())!r}, which is not there")
    with pytest.raises(ValueError, match=wanted):
        ImageFeatures(f"{kind}:{name}").fit(images())


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="weights.safetensors', which is a file"):
        ImageFeatures(f"transformers:{path}").fit(images())


def test_a_folder_without_a_model_is_named(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="cannot be loaded, the folder has no such model"):
        ImageFeatures(f"transformers:{tmp_path}").fit(images())


def test_layers_of_a_transformer_are_named(vit):
    folder, _ = vit
    names = [n for n, _ in networks.network_of(f"transformers:{folder}").module.named_modules()]
    layer = next(name for name in names if name.endswith("layer.0") or name.endswith("layers.0"))
    found = ImageFeatures(f"transformers:{folder}", layers=[layer], pool=None, device="cpu")
    assert found.fit(images()).shape_ == (12, 4, 4)


def test_a_model_of_timm_gives_its_features(tmp_path):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    folder = tmp_path / "model"
    timm.models.save_for_hf(model, folder)
    X = images(2, side=64)
    found = ImageFeatures(f"timm:{folder}", size=64, device="cpu").fit(X)
    mean, std = (np.reshape(part, (3, 1, 1)) for part in (found.mean_, found.std_))
    x = torch.from_numpy(((X / 255 - mean) / std).astype(np.float32))
    with torch.inference_mode():
        np.testing.assert_allclose(found.transform(X), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"network": "resnet"}, "network='resnet' is unknown"),
        ({"network": "timm:"}, "is unknown"),
        ({"layers": ["nine"]}, r"no layers \['nine'\]"),
        ({"layers": "0"}, "array-like"),
        ({"layers": [0]}, "must be names"),
        ({"layers": []}, "names none"),
        ({"smooth": 2, "pool": None}, "must be odd"),
        ({"smooth": 3}, "is for grids"),
        ({"grid": 4}, "is for grids"),
        ({"normalize": (1, 2, 3)}, "normalize"),
        ({"normalize": (0.5, 0.0)}, "above 0"),
        ({"pool": "first"}, "takes the first token"),
        ({"pool": "max"}, "pool"),
        ({"device": "nowhere"}, "device"),
    ],
)
def test_settings_that_mean_nothing_are_errors(settings, match):
    with pytest.raises(ValueError, match=match):
        ImageFeatures(**{"network": network(), "size": SIDE, **settings}).fit(images())


def test_a_network_whose_output_has_no_places_says_so():
    net = nn.Sequential(network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert ImageFeatures(net, size=SIDE, device="cpu").fit(images()).shape_ == (5,)
    with pytest.raises(ValueError, match="say nothing of places"):
        ImageFeatures(net, size=SIDE, pool=None, device="cpu").fit(images())


# ---- scikit-learn -------------------------------------------------------------------------


def test_it_is_a_step_of_pipelines_with_names_for_its_features():
    X = images(30)
    model = make_pipeline(features(), Mahalanobis(random_state=0, device="cpu")).fit(X)
    assert model.score_samples(X).shape == (30,)
    assert list(model[0].get_feature_names_out()) == [f"imagefeatures{j}" for j in range(5)]
    assert clone(model[0]).get_params()["size"] == SIDE


@pytest.mark.parametrize("way", ["file", "pickle"])
def test_files_and_pickles_know_the_weights_but_do_not_hold_them(way, tmp_path):
    X = images(2, side=32)
    found = ImageFeatures(size=32, device="cpu").fit(X)
    if way == "file":
        skgenad.save(found, tmp_path / "file")
        assert (tmp_path / "file").stat().st_size < 20_000
        again = skgenad.load(tmp_path / "file")
    else:
        content = pickle.dumps(found)
        assert len(content) < 20_000
        again = pickle.loads(content)
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
    again = pickle.loads(pickle.dumps(found))
    again.weights_digest_ = "0" * 64
    with pytest.raises(ValueError, match="other weights"):
        again.transform(X)


def test_the_users_network_travels_in_pickles_alone(tmp_path):
    X = images()
    found = features().fit(X)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
    with pytest.raises(TypeError, match="cannot be saved"):
        skgenad.save(found, tmp_path / "file")


def test_networks_are_told_apart_by_a_change_of_one_weight():
    one, other = network(), network()
    assert networks.digest_of(one) == networks.digest_of(other)
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1e-6
    assert networks.digest_of(one) != networks.digest_of(other)
