"""Glow as a detector: densities in the units of X, scales, pixels, settings, what is refused."""

import math

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skgenad import Glow
from skgenad._core.detector import IMAGE_CHUNK, BaseGenerativeDetector
from skgenad._core.schedules import SCHEDULES
from skgenad.likelihoods._couplings import NormalizedNet
from skgenad.likelihoods._densities import ColumnDensity, PixelDensity
from skgenad.likelihoods._flow_layers import NormalizedRotation
from skgenad.likelihoods._flows import Flow, Steps

from ._settings import normal_rows, tiny
from .test_images import pixels

pytestmark = pytest.mark.usefixtures("drawing")


def on_images(shape=(1, 8, 8), **parameters):
    settings = {"image_shape": shape, "hidden": 6, "max_steps": 5, "n_scales": 2}
    return tiny("Glow", **{**settings, **parameters})


# ---- densities ----------------------------------------------------------------------------------


def ring(n=400, seed=0):
    """Rows in the plane, in odd units, that no Gaussian fits."""
    rng = np.random.RandomState(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    circle = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.2 * rng.randn(n, 2)
    return circle * [3.0, 0.05] + [100, 7]


def mass_on_a_grid(detector, X, n=150):
    """Integral of the density over a box that is far larger than the data."""
    centre, reach = X.mean(axis=0), 8 * X.std(axis=0)
    axes = [np.linspace(c - r, c + r, n) for c, r in zip(centre, reach, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    cell = np.prod(2 * reach / (n - 1))
    return np.exp(detector.log_density(grid)).sum() * cell


@pytest.mark.parametrize("parameters", [{}, {"affine": False}, {"standardize": False}], ids=str)
def test_the_density_integrates_to_one_in_the_units_of_the_rows(parameters):
    X = ring()
    detector = tiny("Glow", max_steps=100, learning_rate=1e-2, **parameters).fit(X)
    assert mass_on_a_grid(detector, X) == pytest.approx(1, abs=0.01)


def test_training_raises_the_density_of_new_rows():
    settings = {"n_couplings": 4, "learning_rate": 1e-2}
    short, long = (tiny("Glow", max_steps=n, **settings).fit(ring()) for n in (1, 120))
    new = ring(seed=1)
    assert long.log_density(new).mean() > short.log_density(new).mean() + 0.04
    assert long.history_["loss"].iloc[-1] < long.history_["loss"].iloc[0]


def test_scores_are_log_densities_in_standard_units():
    X = normal_rows()
    detector = tiny("Glow").fit(X)
    log_scale = np.log(detector.units_.scale).sum()
    np.testing.assert_allclose(detector.log_density(X), detector.score_samples(X) - log_scale)
    # Other units of X change its density by their ratio.
    unit = np.array([4.0, 0.5, 1.0, 8.0])
    other = tiny("Glow").fit(X * unit)
    np.testing.assert_allclose(
        other.log_density(X * unit), detector.log_density(X) - np.log(unit).sum()
    )


def test_an_untrained_flow_of_columns_is_the_gaussian_of_their_moments():
    """Rotations and normalisations alone: no step of training, couplings that scale alike."""
    X = np.random.RandomState(0).randn(500, 3) * [1, 5, 0.1]
    detector = tiny("Glow", n_couplings=1, max_steps=1, learning_rate=1e-9, affine=False).fit(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    flow = detector.module_.flow
    rotation = flow.scales[0].steps.layers[0].layers[0].rotation.numpy().astype(float)
    rotated = Z @ rotation.T
    spread = rotated.std(axis=0)
    expected = -0.5 * ((rotated / spread) ** 2).sum(axis=1) - 1.5 * np.log(2 * np.pi)
    expected -= np.log(spread).sum()
    np.testing.assert_allclose(detector.score_samples(X), expected, atol=1e-3)


def test_columns_that_do_not_vary_have_no_density():
    X = normal_rows()
    padded = np.column_stack([X[:, :2], np.full(60, 3.0), X[:, 2:], np.zeros(60)])
    with_constants, without = tiny("Glow").fit(padded), tiny("Glow").fit(X)
    np.testing.assert_allclose(with_constants.log_density(padded), without.log_density(X))
    np.testing.assert_allclose(with_constants.score_samples(padded), without.score_samples(X))
    moved = padded + [0, 0, 1e-3, 0, 0, 0]
    np.testing.assert_allclose(with_constants.log_density(moved), without.log_density(X))
    departure = without.score_samples(X) - with_constants.score_samples(moved)
    np.testing.assert_allclose(departure, 5000 * (1 + np.log1p(1e-3 / 3)) ** 2, rtol=1e-6)
    assert (with_constants.predict(moved) == -1).all()
    samples = with_constants.sample(20, random_state=0)
    assert (samples[:, 2] == 3).all() and (samples[:, 5] == 0).all()


def test_a_table_of_constants_has_nothing_to_learn():
    X = np.ones((20, 3))
    detector = tiny("Glow").fit(X)
    assert (detector.score_samples(X) == 0).all() and len(detector.history_) == 0
    assert (detector.log_density(X) == 0).all()
    assert (detector.predict(X + 1) == -1).all()
    assert (detector.sample(4, random_state=0) == 1).all()


# ---- scales -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "n_scales"),
    [
        ({}, 2),
        ({"n_scales": 3}, 3),
        ({"coupling": "dense"}, 2),
        ({"coupling": "patch", "n_scales": 2, "patch_size": 4}, 2),
        ({"coupling": "patch", "n_scales": None}, 1),
        ({"affine": False}, 2),
    ],
    ids=str,
)
def test_contributions_of_the_scales_of_images_add_up(parameters, n_scales):
    X = pixels(IMAGE_CHUNK + 9)
    detector = on_images(**parameters).fit(X)
    parts = detector.scale_contributions(X)
    assert parts.shape == (len(X), n_scales) and parts.dtype == np.float64
    np.testing.assert_allclose(parts.sum(axis=1), detector.log_density(X), rtol=1e-9)
    np.testing.assert_array_equal(detector.log_density(X), detector.score_samples(X))
    for k in range(n_scales if n_scales > 1 else 0):
        one = on_images(**parameters, score_type=k + 1).fit(X)
        np.testing.assert_array_equal(one.score_samples(X), parts[:, k])
        np.testing.assert_array_equal(one.log_density(X), detector.log_density(X))
        if k == n_scales - 1:
            last = on_images(**parameters, score_type="last_scale").fit(X)
            np.testing.assert_array_equal(last.score_samples(X), one.score_samples(X))
    order = np.random.RandomState(0).permutation(len(X))
    np.testing.assert_array_equal(detector.scale_contributions(X[order]), parts[order])


def test_a_table_has_one_scale():
    X = normal_rows()
    detector = tiny("Glow").fit(X)
    parts = detector.scale_contributions(X)
    np.testing.assert_array_equal(parts[:, 0], detector.log_density(X))


def test_images_have_three_scales_unless_asked_otherwise():
    detector = on_images(n_scales=None).fit(pixels())
    assert detector.scale_contributions(pixels()).shape == (40, 3)


# ---- pixels -------------------------------------------------------------------------------------


class Uniform(torch.nn.Module):
    """A flow that keeps what it is given, with density 1."""

    n_scales = 2

    def contributions(self, x):
        self.seen = x
        return torch.zeros(len(x), 2, dtype=torch.float64)


@pytest.mark.parametrize("n_levels", [2, 256])
def test_levels_become_numbers_in_a_unit_interval(n_levels):
    density = PixelDensity(Uniform(), (1, 1, 5), n_levels=n_levels)
    x = torch.randint(n_levels, (400, 5)) / (n_levels - 1)
    level = (n_levels - 1) * x
    density.train().contributions(x)
    noise = (density.flow.seen + 0.5) * n_levels - level
    assert -1e-3 < noise.min() < 0.02 and 0.98 < noise.max() < 1.001
    assert abs(noise.mean() - 0.5) < 0.03
    parts = density.eval().contributions(x)
    # S4.5: half of the interval in place of noise.
    torch.testing.assert_close(density.flow.seen, (level + 0.5) / n_levels - 0.5)
    # Density 1 there is a density of (L - 1) / L for pixels in [0, 1]: 1 / L for each level.
    log_det = 5 * math.log((n_levels - 1) / n_levels)
    torch.testing.assert_close(parts[:, 0], torch.full((400,), log_det, dtype=torch.float64))
    assert (parts[:, 1] == 0).all()


def test_noise_is_in_training_and_not_in_scores():
    X = pixels()
    detector = on_images().fit(X)
    rows = torch.from_numpy(detector.units_.to_standard(X.reshape(40, -1)))
    module = detector.module_
    with torch.no_grad():
        assert torch.equal(module.log_prob(rows), module.log_prob(rows))
        module.train()
        assert not torch.equal(module.log_prob(rows), module.log_prob(rows))
        module.eval()


@pytest.mark.parametrize("parameters", [{}, {"coupling": "dense"}, {"coupling": "patch"}], ids=str)
def test_samples_are_levels_of_pixels(parameters):
    detector = on_images(n_levels=5, **parameters).fit(pixels())
    rows = detector.sample(300, random_state=0)
    assert rows.shape == (300, 64)
    assert set(np.unique(rows * 4)) <= {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(detector.sample(300, random_state=0), rows)
    assert not np.array_equal(detector.sample(300, random_state=1), rows)


# ---- codes of scales ----------------------------------------------------------------------------


def mixing(**parameters):
    settings = {"max_steps": 60, "learning_rate": 1e-2, **parameters}
    return on_images(**settings).fit(pixels())


@pytest.mark.parametrize(
    "parameters",
    [{}, {"coupling": "dense"}, {"coupling": "patch", "patch_size": 4}, {"n_levels": 5}],
    ids=str,
)
def test_images_mixed_with_themselves_are_themselves(parameters):
    detector, steps = mixing(**parameters), parameters.get("n_levels", 256) - 1
    X = np.round(pixels(70) / 255 * steps) / steps
    np.testing.assert_allclose(detector.mix_scales(X, X), X, atol=1e-7)


def test_mixed_images_have_the_codes_of_both():
    detector = mixing(n_scales=3)
    X = pixels(10).reshape(10, -1) / 255
    a, b = torch.from_numpy(X).float().split(5)
    flow = detector.module_.flow
    for n_late in (1, 2):
        with torch.no_grad():
            codes = [flow.encode(x)[0] for x in (a, b, flow.mixed(a, b, n_late))]
        for i, (of_a, of_b, of_mixed) in enumerate(zip(*codes, strict=True)):
            torch.testing.assert_close(
                of_mixed, of_b if i >= 3 - n_late else of_a, atol=1e-3, rtol=1e-3
            )
        images = detector.mix_scales(X[:5], X[5:], n_late=n_late)
        assert images.shape == (5, 1, 8, 8) and 0 <= images.min() <= images.max() <= 1
        assert np.abs(images - detector.mix_scales(X[5:], X[:5], n_late=n_late)).max() > 0.1


def test_what_cannot_be_mixed_is_refused():
    X, detector = pixels(4), on_images().fit(pixels())
    for n_late in (0, 2):
        with pytest.raises(ValueError, match=f"n_late ?={'=' if n_late == 0 else ''} ?{n_late}"):
            detector.mix_scales(X, X, n_late=n_late)
    with pytest.raises(ValueError, match="early has 4 images and late 3; .* Pass as many"):
        detector.mix_scales(X, X[:3])
    rows = normal_rows()
    with pytest.raises(ValueError, match="n_late=1 of 1 scales .* Fit on images"):
        tiny("Glow").fit(rows).mix_scales(rows, rows)


# ---- likely images ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters", [{}, {"coupling": "dense"}, {"coupling": "patch", "patch_size": 4}], ids=str
)
def test_likeliest_images_are_likelier_and_keep_the_codes_of_the_last_scale(parameters):
    detector, X = mixing(**parameters), pixels(6)
    found = detector.likeliest(X, n_steps=40)
    assert found.shape == X.shape and 0 <= found.min() <= found.max() <= 1
    assert (detector.log_density(found) > detector.log_density(X) + 3).all()
    # Of the codes that the last scale sees nothing has changed but by what levels round.
    flow = detector.module_.flow
    rows = [torch.from_numpy(np.asarray(R).reshape(6, -1)).float() for R in (X / 255, found)]
    with torch.no_grad():
        before, after = (flow.encode(detector.module_.dequantized(x))[0] for x in rows)
    moved = [(a - b).abs().mean().item() for a, b in zip(before, after, strict=True)]
    assert moved[-1] < 0.1 < moved[0]
    np.testing.assert_allclose(found * 255, np.round(found * 255), atol=1e-4)


def test_likeliest_images_of_more_steps_are_no_less_likely_and_change_nothing():
    detector, X = mixing(n_scales=3), pixels(4)
    before = {k: v.clone() for k, v in detector.module_.state_dict().items()}
    means = []
    for n_steps in (1, 6, 25):
        means.append(detector.log_density(detector.likeliest(X, n_steps=n_steps)).mean())
    assert means[0] < means[1] < means[2]
    fewer = detector.likeliest(X, n_late=2, n_steps=25)  # less is free
    assert detector.log_density(fewer).mean() < means[2]
    np.testing.assert_array_equal(detector.likeliest(X, n_steps=6)[:2], again(detector, X[:2]))
    after = detector.module_.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None and p.requires_grad for p in detector.module_.parameters())


def again(detector, X):
    """Likeliest images, asked for where gradients are off."""
    with torch.inference_mode():
        return detector.likeliest(X, n_steps=6)


def test_what_cannot_be_made_likely_is_refused():
    X, detector = pixels(4), on_images().fit(pixels())
    for parameters, message in (
        ({"n_late": 2}, "n_late=2 of 2 scales leaves none to change"),
        ({"n_steps": 0}, "n_steps == 0"),
        ({"learning_rate": 0}, "learning_rate == 0"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.likeliest(X, **parameters)
    rows = normal_rows()
    with pytest.raises(ValueError, match="n_late=1 of 1 scales .* Fit on images"):
        tiny("Glow").fit(rows).likeliest(rows)


# ---- couplings and training ---------------------------------------------------------------------


def norms_in_couplings(detector):
    return [m for m in detector.module_.modules() if isinstance(m, NormalizedNet)]


@pytest.mark.parametrize(
    ("parameters", "n"),
    [
        ({}, 4),
        ({"coupling": "patch", "patch_size": 4}, 4),
        ({"coupling": "dense"}, 0),
        ({"coupling": "dense", "coupling_norm": True}, 4),
        ({"coupling_norm": False}, 0),
    ],
    ids=str,
)
def test_convolutional_couplings_normalise_unless_asked_otherwise(parameters, n):
    nets = norms_in_couplings(on_images(**parameters).fit(pixels()))
    assert len(nets) == n
    assert all((net.first.norm.centre != 0).all() for net in nets)  # from the data
    table = tiny("Glow", coupling_norm=parameters.get("coupling_norm", "auto")).fit(normal_rows())
    assert len(norms_in_couplings(table)) == (2 if parameters.get("coupling_norm") is True else 0)


def test_files_of_before_couplings_normalised_are_read(tmp_path, monkeypatch):
    X = pixels()
    detector = on_images(coupling_norm=False).fit(X)
    detector.save(tmp_path / "now")
    assert Glow.load(tmp_path / "now").coupling_norm is False

    def without(self, deep=True):
        found = BaseGenerativeDetector.get_params(self, deep)
        return {k: v for k, v in found.items() if k not in ("coupling_norm", "trained_scales")}

    with monkeypatch.context() as patch:  # what a version without these parameters wrote
        patch.setattr(Glow, "get_params", without)
        old = on_images().set_params(image_shape=(1, 8, 8))
        old.coupling_norm = False
        old.fit(X).save(tmp_path / "before")
    loaded = Glow.load(tmp_path / "before")
    assert loaded.coupling_norm is False and loaded.trained_scales is None
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


@pytest.mark.parametrize("parameters", [{}, {"coupling": "dense"}, {"use_labels": "all_scales"}])
def test_scales_that_are_not_trained_keep_their_weights(parameters):
    X, y = pixels(), np.arange(40) % 2
    start = on_images(n_scales=3, **parameters).fit(X, y)
    detector = on_images(n_scales=3, trained_scales=1, learning_rate=5e-3, **parameters)
    detector.fit_from(X[:20], y[:20], start=start)
    before, after = start.scale_contributions(X), detector.scale_contributions(X)
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    assert (after[:, 2] != before[:, 2]).all()
    detector.partial_fit(X, y)
    np.testing.assert_array_equal(detector.scale_contributions(X)[:, :2], before[:, :2])


def test_gradients_of_scales_that_are_not_trained_do_not_add_up():
    """Else a callback that clips by their norm would leave less and less to the others."""
    found = []

    class Norms(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            early = [p.grad for name, p in named_parameters if ".scales.0." in name]
            found.append(sum(float(g.square().sum()) for g in early if g is not None))

    settings = {"learning_rate": 1e-9, "batch_size": 40, "max_steps": 6}
    on_images(trained_scales=1, callbacks=[Norms()], **settings).fit(pixels())
    assert len(found) == 6 and max(found) < 4 * found[0]


def test_fewer_scales_are_trained_than_there_are():
    for n in (2, 3):
        with pytest.raises(ValueError, match=f"trained_scales={n} of 2 leaves none as it is"):
            on_images(trained_scales=n).fit(pixels())
    with pytest.raises(ValueError, match="trained_scales=1 of 1 leaves none as it is"):
        tiny("Glow", trained_scales=1).fit(normal_rows())


def test_samples_look_like_the_data():
    rng = np.random.RandomState(0)
    base = np.linspace(0.2, 0.8, 16).reshape(1, 4, 4)
    X = np.clip(base + 0.05 * rng.randn(300, 1, 4, 4), 0, 1)
    detector = on_images((1, 4, 4), max_steps=60, learning_rate=1e-2).fit(X)
    drawn = detector.sample(400, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), base.ravel(), atol=0.03)
    np.testing.assert_allclose(drawn.std(axis=0), 0.05, atol=0.03)


def test_samples_of_a_table_have_its_units():
    X = ring()
    drawn = tiny("Glow", max_steps=100, learning_rate=1e-2).fit(X).sample(2000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.4 * X.std(axis=0).max())
    np.testing.assert_allclose(drawn.std(axis=0), X.std(axis=0), rtol=0.3)


def test_training_improves_the_likelihood_of_new_images():
    rng = np.random.RandomState(0)

    def smooth(n):
        return np.clip(rng.rand(n, 1, 1, 1) + 0.02 * rng.randn(n, 1, 8, 8), 0, 1)

    X, new = smooth(200), smooth(50)
    means = [
        on_images(max_steps=n, learning_rate=1e-2).fit(X).log_density(new).mean() for n in (1, 100)
    ]
    assert means[1] > means[0] + 10


# ---- settings -----------------------------------------------------------------------------------


def test_augmentation_changes_the_training_images_alone():
    X = pixels(shape=(1, 8, 8))
    plain = on_images().fit(X).score_samples(X)
    for augmentation in ("shift", ("shift", "flip"), lambda x: x.flip(2)):
        detector = on_images(augmentation=augmentation).fit(X)
        assert not np.array_equal(detector.score_samples(X), plain)
    blank = on_images(augmentation=torch.zeros_like, max_steps=30, learning_rate=1e-2).fit(X)
    black = np.zeros((3, 1, 8, 8))
    assert blank.score_samples(black).min() > blank.score_samples(X).max()


def test_dense_steps_see_all_of_an_image_and_convolutions_what_is_near():
    """Change a pixel: the first step's shift of a far one moves with dense couplings alone."""

    def reaches(coupling):
        torch.manual_seed(0)
        flow = Flow((1, 16, 16), Steps(n=1, hidden=8, kind=coupling))
        with torch.no_grad():
            for p in flow.parameters():
                p.add_(0.1 * torch.randn_like(p))
        x = torch.rand(1, 256)
        other = x.clone()
        other[0, 0] += 0.5
        change = (flow.encode(x)[0][0] - flow.encode(other)[0][0]).abs()[0].sum(dim=0)
        return change[-1, -1] > 0

    assert reaches("dense") and not reaches("conv")


def test_patches_are_independent():
    X = pixels()
    detector = on_images(coupling="patch", patch_size=4, n_scales=1).fit(X)
    images = X[:4] / 255
    mixed = images.copy()
    mixed[0, :, :4, :4], mixed[1, :, :4, :4] = images[1, :, :4, :4], images[0, :, :4, :4]
    a, b = detector.log_density(images), detector.log_density(mixed)
    assert not np.isclose(a[0], b[0])
    np.testing.assert_allclose(a[:2].sum(), b[:2].sum(), rtol=1e-6)


def test_the_paper_settings():
    parameters = Glow.from_paper().get_params()
    assert (parameters["n_scales"], parameters["n_couplings"], parameters["hidden"]) == (3, 32, 512)
    assert (parameters["learning_rate"], parameters["weight_decay"]) == (5e-4, 5e-5)
    assert parameters["max_steps"] == 250 * 50_000 // 64 and parameters["schedule"] == "constant"
    assert parameters["augmentation"] == ("shift", "flip")
    grey = Glow.from_paper("mnist").get_params()
    assert grey["image_shape"] == (1, 32, 32) and grey["augmentation"] == "shift"
    dense = Glow.from_paper("fashion_mnist", coupling="dense").get_params()
    assert dense["n_couplings"] == 8 and dense["n_scales"] == 3
    patch = Glow.from_paper("cifar10", coupling="patch", n_couplings=2).get_params()
    assert patch["n_scales"] == 1 and patch["n_couplings"] == 2
    assert Glow.from_paper(batch_size=100).max_steps == 125_000
    for experiment in ("cifar10", "cifar100", "svhn", "mnist", "fashion_mnist"):
        detector = Glow.from_paper(experiment, hidden=4, n_couplings=1, max_steps=1, device="cpu")
        shape = detector.image_shape
        X = np.random.RandomState(0).rand(5, *shape)
        assert np.isfinite(detector.fit(X).score_samples(X)).all()
    with pytest.raises(ValueError, match="'imagenet' is none of those here: cifar10, "):
        Glow.from_paper("imagenet")


def test_the_module_keeps_the_settings_of_the_fit():
    X, other = pixels(), {"augmentation": "flip", "n_levels": 5, "score_type": 1, "hidden": 9}
    detector = on_images().fit(X)
    scores, drawn = detector.score_samples(X), detector.sample(3, random_state=0)
    module = detector.set_params(**other).module_
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    np.testing.assert_array_equal(detector.sample(3, random_state=0), drawn)
    x = torch.rand(4, 64)
    assert module.augmented(x) is x and module.is_steady


def test_steps_of_named_changes_are_steady_and_those_of_the_users_code_are_not():
    for augmentation, is_steady in ((None, True), ("shift", True), (torch.flip, False)):
        assert on_images(augmentation=augmentation)._make_module(64).is_steady is is_steady
    assert not tiny("Glow")._make_module(3).is_steady


def test_sizes_of_the_papers_flow():
    """S1.1: 12 x 16 x 16, 24 x 8 x 8 and 48 x 4 x 4, in which halves of the first two are codes."""
    module = Glow.from_paper(hidden=1, n_couplings=1)._make_module(3 * 32 * 32)
    assert isinstance(module, PixelDensity)
    shapes = [scale.code_shape for scale in module.flow.scales]
    assert shapes == [(6, 16, 16), (12, 8, 8), (48, 4, 4)]
    dense = Glow.from_paper(
        coupling="dense", hidden=1, n_couplings=1, n_scales=1, image_shape=(3, 8, 8)
    )
    steps = dense._make_module(192).flow.scales[0].steps
    rotations = [layer for layer in steps.modules() if isinstance(layer, NormalizedRotation)]
    assert [r.rotation.shape for r in rotations] == [(192, 192)]


def test_the_schedule_is_what_was_asked_for():
    module = tiny("Glow").fit(normal_rows()).module_
    for name, schedule in SCHEDULES.items():
        (stage,) = tiny("Glow", schedule=name)._stages(module)
        assert stage.schedule is schedule


def test_weight_decay_shrinks_weights():
    X = normal_rows()
    sizes = []
    for decay in (0.0, 10.0):
        module = tiny("Glow", weight_decay=decay, max_steps=100, learning_rate=1e-2).fit(X).module_
        weights = [p for name, p in module.named_parameters() if name.endswith("weight")]
        sizes.append(sum(p.square().sum().item() for p in weights))
    assert sizes[1] < 0.5 * sizes[0]


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"coupling": "conv"}, "coupling='conv' is for images: give image_shape"),
        ({"coupling": "patch"}, "coupling='patch' is for images"),
        ({"n_scales": 3}, "n_scales=3 is for images: .* or set n_scales=None for tables"),
        ({"n_levels": 256}, "n_levels=256 is for images"),
        ({"patch_size": 8}, "patch_size=8 is the size of the patches of coupling='patch'"),
        ({"score_type": 2}, "score_type=2 is the contribution of a scale, but there are 1"),
        ({"score_type": 1}, "score_type=1 would be ignored: with one scale"),
        ({"score_type": "last_scale"}, "score_type='last_scale' would be ignored"),
        ({"score_type": 0}, "score_type.*Got 0 instead"),
        ({"score_type": "first_scale"}, "score_type.*Got 'first_scale' instead"),
        ({"augmentation": "flip"}, "augmentation='flip' changes images: give image_shape"),
        ({"schedule": "linear"}, "schedule.*Got 'linear' instead"),
        ({"n_couplings": 0}, "n_couplings.*Got 0 instead"),
        ({"hidden": 2.5}, "hidden.*Got 2.5 instead"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_for_tables_are_refused(parameters, message):
    unfitted = tiny("Glow", **parameters)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(normal_rows())
    assert not hasattr(unfitted, "module_")


@pytest.mark.parametrize(
    ("shape", "parameters", "message"),
    [
        (
            (1, 28, 28),
            {"n_scales": None},
            "n_scales=3 .* multiples of 8.* 24 x 24 or 32 x 32",
        ),
        ((1, 8, 6), {}, "multiples of 4; image_shape=.1, 8, 6. has 8 x 6"),
        ((1, 12, 12), {"coupling": "patch"}, "patch_size=8 needs images .* multiples of 8"),
        (
            (1, 8, 8),
            {"coupling": "patch", "patch_size": 2},
            "patch_size=2 must be a multiple of 4: with n_scales=2 patches are halved",
        ),
        ((1, 7, 9), {"n_scales": 1}, r"has 7 x 9. Pad or crop images to 6 x 8 or 8 x 10\.$"),
        ((1, 8, 8), {"patch_size": 4}, "patch_size=4 is the size of the patches"),
        ((1, 8, 8), {"score_type": "last_scale", "n_scales": 1}, "score_type='last_scale' would"),
        ((1, 8, 8), {"coupling": "patch", "n_scales": None, "score_type": 1}, "score_type=1 would"),
        ((1, 8, 8), {"score_type": 3}, "score_type=3 .* but there are 2"),
        ((1, 8, 8), {"n_levels": 1}, "n_levels.*Got 1 instead"),
        ((1, 8, 8), {"augmentation": "grey"}, "image_shape=.1, 8, 8. has 1 channel"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_for_images_are_refused(shape, parameters, message):
    X = np.random.RandomState(0).rand(5, *shape)
    unfitted = on_images(shape, **parameters)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(X)
    assert not hasattr(unfitted, "module_")


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_constant", [0, 1, 4])
def test_files_know_which_columns_vary(n_constant, tmp_path, global_rng_untouched):
    X = normal_rows()
    X[:, :n_constant] = 3
    detector = tiny("Glow").fit(X)
    detector.save(tmp_path / "detector")
    loaded = Glow.load(tmp_path / "detector")
    assert isinstance(loaded.module_, ColumnDensity)
    assert loaded.module_.varies.sum() == 4 - n_constant
    new = normal_rows(seed=1)
    np.testing.assert_array_equal(loaded.score_samples(new), detector.score_samples(new))
    np.testing.assert_array_equal(
        loaded.sample(3, random_state=0), detector.sample(3, random_state=0)
    )


# ---- classes ------------------------------------------------------------------------------------


def labelled_rows(n=60):
    X, y = normal_rows(n), np.arange(n) % 3
    return X + 2 * X.std(axis=0) * y[:, None], np.array(["a", "b", "c"])[y]


def test_the_mixtures_likelihood_is_the_log_sum_exp_of_its_modes():
    X, y = labelled_rows()
    detector = tiny("Glow", use_labels=True).fit(X, y)
    modes = detector._by_chunks(X, detector.module_.class_log_probs) - detector.units_.log_scale
    assert modes.shape == (60, 3) and detector.classes_.tolist() == ["a", "b", "c"]
    expected = np.logaddexp.reduce(modes, axis=1) - np.log(3)
    np.testing.assert_allclose(detector.log_density(X), expected, rtol=1e-6)
    np.testing.assert_allclose(
        detector.scale_contributions(X).sum(axis=1), detector.log_density(X), rtol=1e-6
    )


def test_the_modes_of_images_are_in_the_last_scale():
    steps = Steps(n=1, hidden=4, kind="conv")
    flow = Flow((1, 8, 8), steps, n_scales=2, n_classes=2).double().eval()
    torch.nn.init.normal_(flow.prior.means)
    x = torch.randn(5, 64, dtype=torch.float64)
    plain = Flow((1, 8, 8), steps, n_scales=2).double().eval()
    plain.load_state_dict({k: v for k, v in flow.state_dict().items() if k != "prior.means"})
    torch.testing.assert_close(flow.contributions(x)[:, 0], plain.contributions(x)[:, 0])
    codes, _ = flow.encode(x)
    norm = torch.distributions.Normal(0, 1)
    change = [
        (norm.log_prob(codes[-1] - mean) - norm.log_prob(codes[-1])).flatten(1).sum(dim=1)
        for mean in flow.prior.means
    ]
    expected = plain.log_prob(x)[:, None] + torch.stack(change, dim=1)
    torch.testing.assert_close(flow.class_log_probs(x), expected)


def test_rows_held_out_are_judged_by_the_mixture():
    X, y = normal_rows(), np.arange(60) % 2
    detector = tiny("Glow", use_labels=True, validation_fraction=0.2).fit(X, y)
    x = torch.from_numpy(detector.units_.to_standard(X))
    inputs = torch.column_stack([x, torch.from_numpy(y)]).float()
    with torch.no_grad():
        loss = detector.module_.validation_loss(inputs)
    assert loss.item() == pytest.approx(-detector.score_samples(X).mean(), rel=1e-5)
    assert detector.history_["validation_loss"].notna().all()


def test_the_modes_of_images_are_in_units_of_pixels():
    X, y = pixels(), np.arange(40) % 3
    module = on_images(use_labels=True).fit(X, y).module_
    x = torch.from_numpy(X.reshape(40, -1) / 255).float()
    with torch.no_grad():
        mixed = module.class_log_probs(x).logsumexp(dim=1) - math.log(3)
        torch.testing.assert_close(mixed, module.log_prob(x))


def test_training_moves_a_mode_to_the_rows_of_its_class():
    X, y = labelled_rows(150)
    detector = tiny("Glow", use_labels=True, max_steps=100, learning_rate=1e-2).fit(X, y)
    modes = detector._by_chunks(X, detector.module_.class_log_probs)
    assert np.mean(detector.classes_[modes.argmax(axis=1)] == y) > 0.6  # chance is 1 in 3
    assert np.isfinite(detector.sample(5, random_state=0)).all()


def test_a_file_has_the_modes(tmp_path):
    X, y = labelled_rows()
    detector = tiny("Glow", use_labels=True).fit(X, y)
    detector.save(tmp_path / "detector")
    loaded = Glow.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    loaded.partial_fit(X, y)


def test_modes_of_all_scales_learn_means_and_deviations_of_classes(tmp_path):
    """Two classes that differ in how much they spread, which no means tell."""
    rng = np.random.RandomState(0)
    y = np.repeat([0, 1], 300)
    X = rng.randn(600, 2) * np.where(y == 0, 0.2, 2.0)[:, None]
    settings = {"n_couplings": 1, "max_steps": 300, "learning_rate": 2e-2, "validation_fraction": 0}
    right = []
    for use_labels in (True, "all_scales"):
        detector = tiny("Glow", use_labels=use_labels, **settings).fit(X, y)
        modes = detector._by_chunks(X, detector.module_.class_log_probs)
        right.append(np.mean(modes.argmax(axis=1) == y))
    assert right[0] < 0.75 < 0.85 < right[1]
    detector.save(tmp_path / "detector")
    loaded = Glow.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert np.isfinite(loaded.sample(5, random_state=0)).all()


def test_modes_of_all_scales_of_images_add_up():
    X, y = pixels(), np.arange(40) % 3
    detector = on_images(use_labels="all_scales", learning_rate=0.05).fit(X, y)
    parts = detector.scale_contributions(X)
    np.testing.assert_allclose(parts.sum(axis=1), detector.log_density(X), rtol=1e-9)
    flow = detector.module_.flow
    assert all((prior.means != 0).all() for prior in (*flow.early_priors, flow.prior))
    assert all((prior.log_scales != 0).all() for prior in (*flow.early_priors, flow.prior))


@pytest.mark.parametrize("use_labels", [True, "all_scales"])
def test_patches_have_no_classes(use_labels):
    message = f"use_labels={use_labels!r} gives the codes of an image a mode"
    with pytest.raises(ValueError, match=message):
        Glow(image_shape=(1, 8, 8), coupling="patch", use_labels=use_labels).fit(
            np.zeros((4, 64)), [0, 1, 0, 1]
        )
