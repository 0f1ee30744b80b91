"""P-WAE: the terms of its loss, puzzles, units of errors, scores and maps of planted defects."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn

import skgenad.autoencoders.pwae
from skgenad import PWAE
from skgenad.autoencoders._hsic import normalized_hsic
from skgenad.autoencoders._patches import shuffled
from skgenad.networks import MLP, Conv
from skgenad.preprocessing import LatentFeatures

from ._settings import TINY, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

SHAPE = (1, 12, 12)
QUICK = {
    **TINY["PWAE"],
    "image_shape": SHAPE,
    "network": Conv(width=1 / 4),
    "latent_dim": 8,
    "decoder_channels": 16,
}
TABLE = TINY["PWAE"]


def scenes(n, seed=0, defect=False):
    """Images (n, 1, 12, 12): a bright square near the middle of a slope of grey; with a spot."""
    rng = np.random.RandomState(seed)
    images = np.empty((n, *SHAPE))
    masks = np.zeros((n, 12, 12), bool)
    for image, mask in zip(images, masks, strict=True):
        image[0] = np.linspace(0.1, 0.5, 12)[:, None] + np.linspace(0, 0.2, 12)
        i, j = rng.randint(3, 5, 2)
        image[0, i : i + 5, j : j + 5] = 0.9
        if defect:
            i, j = rng.randint(1, 9, 2)
            image[0, i : i + 2, j : j + 2] = image[0, i, j] < 0.45
            mask[i : i + 2, j : j + 2] = True
    return np.clip(images + 0.01 * rng.randn(*images.shape), 0, 1), masks


def without(settings, *names):
    return {key: value for key, value in settings.items() if key not in names}


def scenes_detector(**parameters):
    longer = {"max_steps": 200, "learning_rate": 5e-3, "n_permutations": 50, "jigsaw_penalty": 0.01}
    return PWAE(**{**QUICK, **longer, **parameters})


@pytest.fixture(scope="module")
def fitted():
    return scenes_detector().fit(scenes(150)[0])


def standard(detector, X):
    return torch.from_numpy(detector.units_.to_standard(X.reshape(len(X), -1)))


# ---- module ---------------------------------------------------------------------------------


def test_the_encoder_sees_one_patch_at_a_time_and_not_where_it_is():
    detector = tiny(PWAE, **QUICK)
    module = detector._make_module(144).eval()
    x = torch.rand(2, 144)
    z = module.by_patch(module.encode(x))
    assert z.shape == (2, 9, 8)
    patches = module.grid.split(x.view(2, *SHAPE))
    order = torch.tensor([[8, 7, 6, 5, 4, 3, 2, 1, 0]] * 2)
    moved = module.grid.assemble(shuffled(patches, order)).flatten(1)
    torch.testing.assert_close(module.by_patch(module.encode(moved)), shuffled(z, order))


def test_every_parameter_gets_a_gradient_from_the_loss():
    for settings, columns in ((QUICK, 144), (TABLE, 11)):
        module = PWAE(**settings)._make_module(columns)
        parts = module.loss(torch.rand(16, columns))
        parts["loss"].backward()
        names = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
        assert names == []


def test_the_loss_is_the_weighted_sum_of_its_parts():
    weights = {"hsic_penalty": 0.3, "swd_penalty": 0.2, "jigsaw_penalty": 0.7}
    parts = PWAE(**QUICK, **weights)._make_module(144).loss(torch.rand(16, 144))
    expected = parts["reconstruction"] + 0.3 * parts["hsic"] + 0.2 * parts["swd"]
    expected = expected + 0.7 * parts["jigsaw"]
    torch.testing.assert_close(parts["loss"].float(), expected.float())
    settings = without(QUICK, "n_permutations", "n_projections") | dict.fromkeys(weights, 0)
    parts = PWAE(**settings)._make_module(144).loss(torch.rand(16, 144))
    assert set(parts) == {"loss", "reconstruction"}
    assert torch.equal(parts["loss"], parts["reconstruction"])


def test_the_hsic_term_is_eq_15(monkeypatch):
    detector = tiny(PWAE, **QUICK, hsic_penalty=1.0, hsic_beta=0.25)
    module = detector._make_module(144).eval()
    x, prior = torch.rand(16, 144), torch.randn(16, 72)
    monkeypatch.setattr(module, "prior", lambda n: prior)
    z = module.encode(x)
    expected = normalized_hsic(prior, z) - 0.25 * normalized_hsic(x, z)
    assert module.loss(x)["hsic"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_swd_term_is_eq_18(monkeypatch):
    """Summed over the patches; a mean over directions and over rows that were sorted along them."""
    detector = tiny(PWAE, **QUICK | {"swd_penalty": 1.0, "n_projections": 3})
    module = detector._make_module(144).eval()
    x, prior, directions = torch.rand(16, 144), torch.randn(16, 72), torch.randn(3, 8)
    monkeypatch.setattr(module, "prior", lambda n: prior)
    monkeypatch.setattr(skgenad.autoencoders.pwae, "random_directions", lambda *_: directions)
    z, drawn = (module.by_patch(of).detach().numpy() for of in (module.encode(x), prior))
    expected = 0.0
    for k in range(9):
        for v in directions.numpy():
            expected += np.mean((np.sort(z[:, k] @ v) - np.sort(drawn[:, k] @ v)) ** 2) / 3
    assert module.loss(x)["swd"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("nu", [2.0, 5.0])
def test_the_prior_of_each_patch_is_a_student_t_around_its_number(nu):
    module = tiny(PWAE, **QUICK, degrees_of_freedom=nu)._make_module(144)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = module.by_patch(module.prior(400)).numpy()
    for k in range(9):
        sample = draws[:, k].ravel()
        assert stats.kstest(sample, stats.t(nu, loc=k + 1).cdf).pvalue > 1e-3
    around = (draws - np.arange(1, 10)[:, None]).ravel()
    assert stats.kstest(around, stats.norm().cdf).pvalue < 1e-9


def test_the_prior_draws_latent_vectors_to_their_places():
    X = scenes(150)[0]
    quick = {"max_steps": 60, "learning_rate": 2e-2}
    far, near = (
        scenes_detector(swd_penalty=w, n_projections=n, **quick).fit(X)
        for w, n in ((0.0, 50), (1.0, 5))
    )
    gap = []
    for detector in (far, near):
        with torch.no_grad():
            z = detector.module_.by_patch(detector.module_.encode(standard(detector, X)))
        gap.append((z.mean(dim=(0, 2)) - torch.arange(1.0, 10)).abs().mean())
    # Not quite: patches that look alike are encoded alike wherever they are.
    assert gap[1] < gap[0] / 2
    assert near.history_.swd.iloc[-1] < near.history_.swd.iloc[0] / 2


# ---- puzzle ---------------------------------------------------------------------------------


def test_the_jigsaw_puzzle_is_solved_on_structured_images(fitted):
    # A 50th is chance.
    assert fitted.history_.solved.iloc[-1] > 0.8
    new = standard(fitted, scenes(60, seed=1)[0])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        _, solved = fitted.module_.jigsaw(fitted.module_.encode(new))
    assert solved > 0.8


def test_the_jigsaw_puzzle_cannot_be_solved_where_all_patches_are_alike():
    X = np.random.RandomState(0).rand(100, *SHAPE)
    detector = scenes_detector(jigsaw_penalty=0.1, max_steps=60).fit(X)
    new = torch.rand(200, 144)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        _, solved = detector.module_.jigsaw(detector.module_.encode(new))
    assert solved < 0.1


@pytest.mark.parametrize(("columns", "n_permutations"), [(1, 1), (2, 2), (3, 6), (4, 20), (30, 20)])
def test_there_are_at_most_as_many_permutations_as_patches_allow(columns, n_permutations):
    detector = tiny(PWAE).fit(normal_rows(40, columns))
    assert len(detector.module_.permutations) == n_permutations
    assert np.isfinite(detector.score_samples(normal_rows(40, columns))).all()


# ---- units and scores -----------------------------------------------------------------------


def test_errors_are_root_mean_squares_of_the_whole_and_of_every_patch(fitted):
    X = scenes(5, seed=2)[0]
    squares = ((X - fitted.reconstruct(X).reshape(X.shape)) ** 2).mean(axis=1)
    blocks = squares.reshape(5, 3, 4, 3, 4).mean(axis=(2, 4)).reshape(5, 9)
    expected = np.sqrt(np.c_[squares.mean(axis=(1, 2)), blocks])
    with torch.no_grad():
        errors = fitted.module_.errors(standard(fitted, X)).numpy()
    np.testing.assert_allclose(errors, expected, rtol=1e-4)


@pytest.mark.parametrize("combine", ["max", "sum", "pixels"])
def test_scores_combine_errors_in_units_of_what_is_usual(combine):
    X = scenes(20, seed=3, defect=True)[0]
    detector = scenes_detector(combine=combine, max_steps=5).fit(scenes(40)[0])
    module = detector.module_
    with torch.no_grad():
        excess = (module.errors(standard(detector, X)) - module.center) / module.spread
    expected = (excess.sum(dim=1) if combine == "sum" else excess.amax(dim=1)).numpy()
    np.testing.assert_allclose(detector.anomaly_score(X), expected, rtol=1e-4, atol=1e-4)


def test_the_maximum_is_the_conjunction_of_thresholds(fitted):
    """Normal if every error is at most t deviations above its mean (eq. 21)."""
    X = np.concatenate([scenes(40, seed=4)[0], scenes(40, seed=5, defect=True)[0]])
    module = fitted.module_
    with torch.no_grad():
        errors = module.errors(standard(fitted, X)).numpy()
    threshold = -fitted.offset_
    limits = module.center.numpy() + threshold * module.spread.numpy()
    clear = np.abs(errors - limits).min(axis=1) > 1e-5
    normal = (errors <= limits).all(axis=1)
    np.testing.assert_array_equal(fitted.predict(X)[clear] == 1, normal[clear])
    assert 0 < normal.sum() < 80 and clear.mean() > 0.9


# ---- single pixels --------------------------------------------------------------------------


def test_the_worst_hundredth_is_rounded_up():
    squares = torch.arange(1.0, 5001).flip(0)[None]
    for m, n_worst in ((1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (4096, 41)):
        worst = skgenad.autoencoders.pwae.worst_mean(squares[:, :m])
        assert worst.shape == (1, 1)
        assert worst.item() == pytest.approx(5000 - (n_worst - 1) / 2)


def test_the_error_of_pixels_is_that_of_the_worst_two_of_144(monkeypatch):
    """A reconstruction made by hand: two channels, three pixels that are off, wherever they are."""
    module = PWAE(**QUICK | {"image_shape": (2, 12, 12)}, combine="pixels")._make_module(288)
    off = torch.zeros(3, 2, 12, 12)
    off[0, :, 3, 4] = torch.tensor([0.6, -0.8])  # a mean over channels of 0.5
    off[0, 0, 11, 0] = 0.2  # of 0.02
    off[0, 1, 5, 5] = 0.1
    off[1] = off[0].flip(-1)  # the same pixels, in other patches
    x = torch.rand(3, 288)
    monkeypatch.setattr(module, "reconstruct", lambda rows: rows - off.flatten(1)[: len(rows)])
    with torch.no_grad():
        errors = module.eval().errors(x)
        torch.testing.assert_close(errors, torch.tensor([[0.26], [0.26], [0.0]]).sqrt())
        module.center, module.spread = torch.tensor([0.1]), torch.tensor([0.5])
        torch.testing.assert_close(module.energy(x), (errors[:, 0] - 0.1) / 0.5)


def test_the_error_of_pixels_is_of_the_map_of_the_same_fit(fitted):
    detector = scenes_detector(combine="pixels").fit(scenes(150)[0])
    for of_one, of_other in zip(
        fitted.module_.parameters(), detector.module_.parameters(), strict=True
    ):
        assert torch.equal(of_one, of_other)
    X = np.concatenate([scenes(60, seed=7)[0], scenes(60, seed=8, defect=True)[0]])
    maps = detector.anomaly_map(X)
    np.testing.assert_array_equal(maps, fitted.anomaly_map(X))
    worst = np.sqrt(np.sort(maps.reshape(120, -1))[:, -2:].mean(axis=1))
    (center,), (spread,) = detector.module_.center.numpy(), detector.module_.spread.numpy()
    scores = detector.anomaly_score(X)
    np.testing.assert_allclose(scores, (worst - center) / spread, rtol=1e-4, atol=1e-4)
    assert roc_auc_score(np.repeat([0, 1], 60), scores) > 0.95
    # Held-out images have a mean of 0 and a deviation of 1; new ones of their kind nearly so.
    assert abs(scores[:60].mean()) < 1 and 0.5 < scores[:60].std() < 2


def test_scores_of_pixels_have_thresholds_files_and_streams(tmp_path):
    X, broken = scenes(120)[0], scenes(60, seed=8, defect=True)[0]
    detector = scenes_detector(combine="pixels", calibration_fraction=0.25, max_steps=150).fit(X)
    assert (detector.predict(broken) == -1).mean() > 0.9
    assert (detector.predict(scenes(200, seed=9)[0]) == -1).mean() < 0.25
    scores = detector.score_samples(broken)
    alone = [detector.score_samples(image[None])[0] for image in broken[:5]]
    np.testing.assert_array_equal(alone, scores[:5])
    detector.save(tmp_path / "detector")
    np.testing.assert_array_equal(PWAE.load(tmp_path / "detector").score_samples(broken), scores)
    before = detector.module_.center.clone()
    detector.partial_fit(scenes(60, seed=10)[0])
    assert detector.module_.center.shape == (1,) and detector.module_.center != before


def test_units_of_patches_are_none_of_pixels():
    detector = tiny(PWAE, warm_start=True).fit(normal_rows())
    detector.set_params(combine="sum").fit(normal_rows())
    with pytest.raises(ValueError, match=r"make another module of this PWAE .size mismatch for"):
        detector.set_params(combine="pixels").fit(normal_rows())


class Spy(PWAE):
    """Keeps the rows that its units came from."""

    def _calibrate(self, module, train, held_out):
        set_units = module.set_units
        seen = []
        module.set_units = lambda rows: seen.append(len(rows)) or set_units(rows)
        super()._calibrate(module, train, held_out)
        del module.set_units
        self.rows_seen = (len(train), 0 if held_out is None else len(held_out), *seen)


@pytest.mark.parametrize(
    ("n", "fraction", "seen"),
    [
        (60, 0.2, (48, 12, 12)),
        (60, 0.0, (60, 0, 60)),
        (20, 0.2, (16, 4, 20)),  # too few held out: all
        (2, 0.9, (2, 0, 2)),
    ],
)
def test_units_come_from_the_rows_held_out_if_there_are_enough(n, fraction, seen):
    detector = Spy(**{**TINY["PWAE"], "validation_fraction": fraction}).fit(normal_rows(n))
    assert detector.rows_seen == seen
    center, spread = detector.module_.center, detector.module_.spread
    assert len(center) == 5 and (spread > 0).all()


def test_a_continuation_takes_the_units_from_all_rows_that_were_kept(tmp_path):
    detector = Spy(**TINY["PWAE"]).fit(normal_rows(60))
    before = detector.module_.spread.clone()
    detector.partial_fit(normal_rows(60, seed=1))
    assert detector.rows_seen == (96, 24, 24)
    assert not torch.equal(detector.module_.spread, before)
    # A file has no rows: units stay until there are enough.
    detector.save(tmp_path / "detector")
    loaded = Spy.load(tmp_path / "detector")
    before = loaded.module_.spread.clone()
    loaded.partial_fit(normal_rows(20, seed=2))
    assert torch.equal(loaded.module_.spread, before)
    loaded.partial_fit(normal_rows(100, seed=3))
    assert not torch.equal(loaded.module_.spread, before)


def test_units_are_moments_over_the_rows(fitted):
    module = scenes_detector(max_steps=5).fit(scenes(30)[0]).module_
    rows = standard(fitted, scenes(50, seed=6)[0])
    module.set_units(rows)
    with torch.no_grad():
        errors = module.errors(rows).double().numpy()
    np.testing.assert_allclose(module.center, errors.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(module.spread, errors.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("X", [np.full((30, 3), 5.0), np.tile([[1.0, 2, 3]], (30, 1))])
def test_errors_that_do_not_vary_have_a_unit_too(X):
    detector = tiny(PWAE, validation_fraction=0).fit(X)
    scores = detector.score_samples(np.r_[X, X + 1])
    assert np.isfinite(scores).all()
    assert scores[30:].max() < scores[:30].min()


# ---- defects --------------------------------------------------------------------------------


def test_planted_defects_are_found_and_mapped(fitted):
    normal, _ = scenes(60, seed=7)
    broken, masks = scenes(60, seed=8, defect=True)
    scores = np.r_[fitted.anomaly_score(normal), fitted.anomaly_score(broken)]
    assert roc_auc_score(np.repeat([0, 1], 60), scores) > 0.9
    maps = fitted.anomaly_map(broken)
    assert maps.shape == (60, 12, 12)
    assert roc_auc_score(masks.ravel(), maps.ravel()) > 0.9
    assert maps[masks].mean() > 5 * maps[~masks].mean()


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 4, 11), (1, 2, 2), (2, 1, 9)], ids=str)
def test_sides_that_do_not_divide_and_small_images_work(shape):
    X = np.random.RandomState(0).rand(30, *shape)
    detector = tiny(PWAE, image_shape=shape, decoder_channels=4, network=Conv(width=1 / 16)).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.anomaly_map(X).shape == (30, *shape[1:])


@pytest.mark.parametrize("grid_size", [1, 2, 4])
def test_other_grids_have_other_patches(grid_size):
    settings = without(QUICK, "n_permutations") if grid_size == 1 else QUICK
    detector = PWAE(**settings, grid_size=grid_size).fit(scenes(30)[0])
    assert detector.module_.grid.n_patches == grid_size**2
    if grid_size == 1:  # the whole is the patch: its error is taken twice
        np.testing.assert_allclose(*detector.module_.center.numpy(), rtol=1e-6)


@pytest.mark.parametrize("settings", [QUICK, TABLE], ids=["images", "table"])
@pytest.mark.parametrize("n", [2, 3, 33])
def test_batches_of_any_size_train(settings, n):
    X = scenes(n)[0] if settings is QUICK else normal_rows(n)
    for batch_size in (1, 7):
        quick = {**settings, "max_steps": 5, "batch_size": batch_size}
        assert np.isfinite(PWAE(**quick).fit(X).score_samples(X)).all()


def test_an_image_of_one_pixel_and_a_batch_of_one_row_train():
    X = np.random.RandomState(0).rand(10, 1, 1, 1)
    quick = {"image_shape": (1, 1, 1), "max_steps": 5, "batch_size": 1, "network": "conv"}
    assert np.isfinite(tiny(PWAE, **quick).fit(X).score_samples(X)).all()


# ---- networks and settings ------------------------------------------------------------------


class OnlyEncoder:
    """What a pretrained network comes in: it makes no decoder."""

    def make_encoder(self, shape, latent_dim):
        conv = nn.Conv2d(shape[0], 6, 3, stride=2)
        pool = nn.AdaptiveAvgPool2d(1)
        norm = nn.BatchNorm2d(6)
        return nn.Sequential(conv, norm, nn.ReLU(), pool, nn.Flatten(), nn.Linear(6, latent_dim))


def test_a_factory_needs_to_make_encoders_of_patches_alone():
    X = scenes(40)[0]
    detector = PWAE(**{**QUICK, "network": OnlyEncoder()}).fit(X)
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(X[::-1])[::-1], scores)
    assert detector.module_.encode(standard(detector, X)).shape == (40, 9 * 8)


def test_patches_that_a_network_does_not_fit_are_named():
    with pytest.raises(ValueError, match=r"sees 3 x 3 patches of the shape \(1, 4, 4\): .*conv28"):
        PWAE(**{**QUICK, "network": "conv28"}).fit(scenes(10)[0])


def test_papers_settings_are_the_papers():
    detector = PWAE.from_paper()
    weights = (
        detector.hsic_penalty,
        detector.hsic_beta,
        detector.swd_penalty,
        detector.jigsaw_penalty,
    )
    assert weights == (0.01, 0.1, 0.1, 1.0)
    assert (detector.grid_size, detector.n_permutations, detector.degrees_of_freedom) == (
        3,
        1000,
        5,
    )
    assert (detector.optimizer, detector.learning_rate) == ("sgd", 0.01)
    (stage,) = tiny(PWAE, optimizer="sgd")._stages(nn.Linear(1, 1))
    assert stage.optimizers["main"].defaults["momentum"] == 0.9
    assert detector.image_shape == (3, 300, 300) and detector.latent_dim == 2048
    grid = PWAE.from_paper(
        image_shape=(3, 1008, 300), decoder_channels=8, network=Conv(width=1 / 16)
    )
    assert grid._make_module(3 * 1008 * 300).grid.patch_shape == (3, 336, 100)


def test_papers_settings_train_with_its_schedule():
    quick = {key: QUICK[key] for key in ("image_shape", "latent_dim", "decoder_channels", "device")}
    rates = []

    class Rates:
        def initialize(self):
            return self

        def __getattr__(self, name):
            return lambda *_, **__: None

        def on_batch_begin(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    detector = PWAE.from_paper(**quick, max_steps=60, batch_size=8, random_state=0)
    detector.set_params(callbacks=[Rates()]).fit(scenes(40)[0])
    p = np.arange(60) / 60
    np.testing.assert_allclose(rates, 0.01 / (1 + 10 * p) ** 0.75, rtol=1e-6)
    assert detector.history_.loss.iloc[-1] < detector.history_.loss.iloc[0]


def widths(net):
    return [layer.weight.shape[1] for layer in net.layers]


def test_the_decoder_of_tables_mirrors_a_perceptron_and_is_one_of_its_own_beside_others():
    net = MLP((9, 5), activation="tanh")
    module = tiny(PWAE, network=net, latent_dim=2)._make_module(12)
    assert widths(module.encoder) == [2, 9, 5] and widths(module.decoder) == [18, 5, 9]
    assert module.encoder.activation == module.decoder.activation == "tanh"
    module = tiny(PWAE, network="fcres", latent_dim=2)._make_module(12)
    assert widths(module.decoder) == [18, 128, 128]
    assert module.decoder.activation == "leaky_relu"


def test_encoders_are_convolutions_for_images_and_perceptrons_for_tables_unless_asked():
    assert "network__width" in PWAE(image_shape=SHAPE).get_params()
    assert "network__hidden_sizes" in PWAE().get_params()
    detector = PWAE(image_shape=SHAPE).set_params(network__width=1 / 8)
    assert isinstance(detector.network, Conv) and detector.network.width == 1 / 8
    module = PWAE(image_shape=SHAPE, network=(7,))._make_module(144)
    assert widths(module.encoder) == [16, 7]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder_channels": 8}, "decoder_channels=8 would be ignored: rows are of a table"),
        ({"swd_penalty": 0, "n_projections": 5}, "n_projections=5 would be .*: swd_penalty=0"),
        ({"hsic_penalty": 0, "hsic_beta": 0.5}, "hsic_beta=0.5 would be .*: hsic_penalty=0"),
        ({"jigsaw_penalty": 0, "n_permutations": 5}, "n_permutations=5 .*: jigsaw_penalty=0"),
        ({"grid_size": 1, "n_permutations": 5}, "n_permutations=5 would be .*: one patch"),
        ({"grid_size": 1, "jigsaw_penalty": 0.1}, "jigsaw_penalty=0.1 would be .*: one patch"),
        (
            {"hsic_penalty": 0, "swd_penalty": 0, "degrees_of_freedom": 3.0},
            "degrees_of_freedom=3.0 would be ignored: no term compares",
        ),
    ],
    ids=str,
)
def test_what_would_be_ignored_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PWAE(**settings).fit(normal_rows())


def test_latent_features_are_those_of_all_patches():
    features = LatentFeatures(tiny(PWAE)).fit(normal_rows())
    codes = features.transform(normal_rows())
    assert codes.shape == (60, 4)
    assert features.inverse_transform(codes).shape == (60, 4)
