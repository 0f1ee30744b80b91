"""MPDR's and NAE's options of the authors' code: what each does, and that it is not ignored."""

import numpy as np
import pytest
import torch
from torch import nn

from skgenad import EBM, MPDR, NAE
from skgenad._tensors.blocks import SpectralConv2d, with_free_last, with_spectral_norm
from skgenad._tensors.maps import SpectralLinear, SpectralWeight
from skgenad._tensors.networks import Networks, Perceptrons
from skgenad._tensors.noise import dequantized
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.energies import Chain, Custom, Manifold, Reconstruction, Scalar
from skgenad.energies._energies import ScalarEnergy, contrastive_loss, energy_and_grad
from skgenad.networks import Cifar1, Conv28, Conv32, Conv32Big

from ._settings import ALL_ROWS, mlp_autoencoder, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

SHORT = {
    **ALL_ROWS,
    "network": (16,),
    "manifold": Manifold(steps=10),
    "max_steps": 10,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def X():
    return normal_rows(100)


def short(**parameters):
    return MPDR(**{**SHORT, **parameters})


def scored(X, **parameters):
    return short(score_type="energy", **parameters).fit(X).score_samples(X)


# ---- the scalar energy: its last layer, its affine output -------------------------------------


def spectral(module):
    return [m for m in module.modules() if isinstance(m, SpectralWeight)]


@pytest.mark.parametrize("factory", [Perceptrons((5, 4)), Conv28(width=0.1), Conv32Big(width=0.1)])
def test_all_layers_but_the_last_have_a_spectral_norm_of_one(factory):
    shape = (6,) if isinstance(factory, Perceptrons) else (1, 32, 32)
    networks = Networks(getattr(factory, "factory", lambda: factory)(), shape)
    bound, free = (networks.encoder(1, True, free_last=f).eval() for f in (False, True))
    n_layers = sum(isinstance(m, (nn.Linear, nn.Conv2d)) for m in networks.encoder(1).modules())
    if not isinstance(factory, Conv32Big):
        assert len(spectral(bound)) == n_layers
    assert len(spectral(free)) == len(spectral(bound)) - 1
    *_, last = (m for m in free.modules() if isinstance(m, (nn.Linear, *_SPECTRAL)))
    assert isinstance(last, nn.Linear) and last.out_features == 1
    x = torch.randn(3, int(np.prod(shape)))
    before = free(x)
    with torch.no_grad():
        last.weight.mul_(3)
        last.bias.mul_(3)
    torch.testing.assert_close(free(x), 3 * before)  # nothing divides the weight


_SPECTRAL = (SpectralLinear, SpectralConv2d)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(3, 2), nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False)],
)
def test_a_freed_layer_is_the_layer_that_was_normalised(layer):
    shape = (5, 3) if isinstance(layer, nn.Linear) else (5, 4, 9, 9)
    x = torch.randn(shape)
    for net in (layer, nn.Sequential(nn.Identity(), layer)):
        wanted = net(x)
        torch.testing.assert_close(with_free_last(with_spectral_norm(net))(x), wanted)


def test_a_network_without_a_layer_to_free_is_refused():
    with pytest.raises(ValueError, match="free_last=True would be ignored: Flatten has no linear"):
        with_free_last(with_spectral_norm(nn.Flatten()))


def test_the_affine_output_starts_as_the_identity_and_has_the_gradient_of_autograd():
    net = Perceptrons((5,), "tanh").encoder(4, 1, spectral=True, free_last=True).eval()
    plain, affine = ScalarEnergy(net), ScalarEnergy(net, affine=True)
    x = torch.randn(6, 4)
    torch.testing.assert_close(affine.energy(x), plain.energy(x))
    with torch.no_grad():
        affine.log_scale.fill_(np.log(2.5))
        affine.shift.fill_(-0.3)
    torch.testing.assert_close(affine.energy(x), 2.5 * plain.energy(x) - 0.3)
    energy, gradient = energy_and_grad(affine, x)
    x.requires_grad_(True)
    (wanted,) = torch.autograd.grad(affine.energy(x).sum(), x)
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(energy, affine.energy(x).detach())


@pytest.mark.parametrize("option", ["free_last", "learn_scale"])
def test_options_of_the_scalar_energy_change_what_is_learned(X, option):
    usual, changed = (scored(X, energy=Scalar(**{option: value})) for value in (None, True))
    assert not np.array_equal(usual, changed)
    np.testing.assert_array_equal(usual, scored(X, energy=Scalar(**{option: False})))


def test_the_affine_output_of_a_scalar_energy_is_trained_and_saved(X, tmp_path):
    detector = short(energy=Scalar(free_last=True, learn_scale=True), learning_rate=0.1).fit(X)
    base = detector.module_.base
    assert float(base.log_scale.detach()) != 0 and float(base.shift.detach()) != 0
    detector.save(tmp_path / "detector.skgenad")
    loaded = MPDR.load(tmp_path / "detector.skgenad")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


# ---- the reconstruction energy: what is penalised, its encoder --------------------------------


def test_what_is_penalised_is_the_error_without_its_factor():
    torch.manual_seed(0)
    energy = ReconstructionEnergy(mlp_autoencoder(4, 2, (5,), "tanh", "sphere"), None, True, True)
    with torch.no_grad():
        energy.log_scale.fill_(np.log(3.0))
    x, negatives = torch.randn(6, 4), torch.randn(5, 4)
    loss = contrastive_loss(energy, x, negatives, penalty=0.7)["loss"]
    error, error_of_negatives = (energy.error(r, energy.net(r)) for r in (x, negatives))
    gap = 3 * (error.mean() - error_of_negatives.mean())
    torch.testing.assert_close(loss, gap + 0.7 * error_of_negatives.square().mean())
    # The factor sees the gap alone, and that of the paper's penalty its square as well.
    (slope,) = torch.autograd.grad(loss, energy.log_scale)
    torch.testing.assert_close(slope, gap.detach())
    energy.free_scale = False
    loss = contrastive_loss(energy, x, negatives, penalty=0.7)["loss"]
    (slope,) = torch.autograd.grad(loss, energy.log_scale)
    torch.testing.assert_close(
        slope, (gap + 2 * 0.7 * (3 * error_of_negatives).square().mean()).detach()
    )


def test_a_free_factor_changes_what_is_learned(X):
    usual, changed = (
        scored(X, energy=Reconstruction(learn_scale=True, penalize=penalize))
        for penalize in ("energy", "error")
    )
    assert not np.array_equal(usual, changed)


@pytest.mark.parametrize("learn_scale", [None, False])
@pytest.mark.parametrize("penalize", ["energy", "error"])
def test_without_a_factor_there_is_nothing_to_leave_free(X, learn_scale, penalize):
    energy = Reconstruction(learn_scale=learn_scale, penalize=penalize)
    with pytest.raises(ValueError, match="penalize=.* would be ignored: without learn_scale=True"):
        short(energy=energy).fit(X)


def test_papers_energies_without_a_factor_lose_what_is_penalised():
    energy = Reconstruction(learn_scale=False)
    assert MPDR.from_paper("mnist", energy=energy).energy.penalize is None


def squares(net):
    return sum(float(p.detach().square().sum()) for p in net.parameters() if p.ndim > 1)


@pytest.mark.parametrize("init", ["manifold", "pretrain"])
def test_the_penalty_of_the_energys_encoder_shrinks_it_and_nothing_else(X, init):
    steps = {} if init == "manifold" else {"pretrain_steps": 20}
    plain, penalised = (
        short(
            energy=Reconstruction(penalty=penalty, init=init, learn_scale=True, **steps),
            manifold=Manifold(steps=20),
            max_steps=60,
        ).fit(X)
        for penalty in (0.0, 1.0)
    )
    nets = [detector.module_.base.net for detector in (plain, penalised)]
    assert squares(nets[1].encoder) < 0.8 * squares(nets[0].encoder)
    assert squares(nets[1].decoder) > 0.8 * squares(nets[0].decoder)
    manifolds = [squares(detector.module_.manifolds) for detector in (plain, penalised)]
    assert manifolds[0] == manifolds[1]


@pytest.mark.parametrize("learn_scale", [False, True])
def test_every_parameter_of_a_penalised_energy_is_trained_once(learn_scale):
    energy = Reconstruction(penalty=1e-3, learn_scale=learn_scale, pretrain_steps=3)
    detector = short(energy=energy)
    module = detector._make_module(4)
    wanted = {id(p) for p in module.base.parameters()}
    for stage in detector._stages(module)[1:]:
        held = [p for group in stage.optimizers["main"].param_groups for p in group["params"]]
        assert len(held) == len(wanted) and {id(p) for p in held} == wanted


# ---- an energy of one's own ------------------------------------------------------------------


class Residual(nn.Module):
    """The squared error of the first column, predicted from the others."""

    def __init__(self, n_features):
        super().__init__()
        self.net = nn.Linear(n_features - 1, 1)

    def energy(self, x):
        return (x[:, :1] - self.net(x[:, 1:])).square().mean(dim=1)


def test_a_custom_energy_is_pretrained_where_that_is_asked_for(X):
    X = np.c_[X[:, 1:].sum(axis=1), X[:, 1:]]
    for energy, stages in [
        (Residual, ["manifold", "energy"]),
        (Custom(Residual), ["manifold", "energy"]),
        (Custom(Residual, pretrain_steps=0), ["manifold", "energy"]),
        (Custom(Residual, pretrain_steps=300), ["manifold", "pretrain", "energy"]),
    ]:
        detector = short(energy=energy, max_steps=1, learning_rate=1e-9).fit(X)
        assert detector.history_["stage"].unique().tolist() == stages
    course = detector.history_.query("stage == 'pretrain'")
    assert course["step"].max() == 300
    fast = short(
        energy=Custom(Residual, pretrain_steps=300, pretrain_learning_rate=1e-2), max_steps=1
    ).fit(X)
    errors = [-d.score_samples(X).mean() for d in (detector, fast)]
    assert errors[1] < 0.1 * errors[0]


def test_custom_is_the_callable_unless_something_is_asked_for(X):
    np.testing.assert_array_equal(scored(X, energy=Residual), scored(X, energy=Custom(Residual)))


class Free(Residual):
    """An energy whose level is free."""

    def __init__(self, n_features):
        super().__init__(n_features)
        self.level = nn.Parameter(torch.tensor(3.0))

    def energy(self, x):
        return super().energy(x) + self.level


def test_the_penalty_on_data_is_asked_for(X, monkeypatch):
    seen = []

    def loss(*args, penalize_data, **kwargs):
        seen.append(penalize_data)
        return contrastive_loss(*args, penalize_data=penalize_data, **kwargs)

    monkeypatch.setattr("skgenad.energies.mpdr.contrastive_loss", loss)
    for energy in (Free, Custom(Free), Custom(Free, penalize_data=True), "scalar", None):
        given = {} if energy is None else {"energy": energy}
        short(**given, max_steps=1).fit(X)
    assert seen == [False, False, True, True, False]


def test_rates_without_steps_are_refused(X):
    energy = Custom(Residual, pretrain_learning_rate=0.1)
    with pytest.raises(ValueError, match=r"pretrain_learning_rate=0\.1 would be ignored"):
        short(energy=energy).fit(X)
    with pytest.raises(ValueError, match="make"):
        short(energy=Custom("reconstruction")).fit(X)


def test_a_penalty_on_data_without_a_weight_is_refused(X):
    with pytest.raises(ValueError, match="penalize_data=True.*would be ignored: energy_penalty=0"):
        short(energy=Custom(Free, penalize_data=True), energy_penalty=0.0).fit(X)


def test_files_refuse_custom_energies_as_they_refuse_callables(X, tmp_path):
    errors = []
    for energy in (Residual, Custom(Residual)):
        with pytest.raises((TypeError, ValueError)) as error:
            short(energy=energy).fit(X).save(tmp_path / "detector.skgenad")
        errors.append(error.type)
    assert errors[0] is errors[1]


def test_fields_of_a_custom_energy_have_nested_names(X):
    detector = short(energy=Custom(Residual)).set_params(energy__pretrain_steps=5)
    assert detector.get_params()["energy__pretrain_steps"] == 5
    assert detector.fit(X).history_["stage"].unique().tolist() == ["manifold", "pretrain", "energy"]


# ---- networks of their own -------------------------------------------------------------------


def test_energy_and_manifold_are_as_wide_as_each_is_told():
    detector = MPDR(energy=Reconstruction((5, 4)), manifold=Manifold(2, network=(9,)))
    module = detector._make_module(6)
    widths = [
        [layer.out_features for layer in net.encoder.layers]
        for net in (module.base.net, module.manifolds[0])
    ]
    assert widths == [[5, 4, 6], [9, 2]]


# ---- NAE: dequantisation, the gradient of pretraining ----------------------------------------


def test_dequantised_pixels_are_uniform_within_the_cells_of_their_levels():
    levels = torch.arange(4).repeat_interleave(5000)
    x = dequantized(levels / 3, 4, torch.rand(20000))
    assert torch.equal((4 * x).floor(), levels.float())  # the level can be read back
    for level in range(4):
        within = 4 * x[levels == level] - level
        assert float(within.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(within.std()) == pytest.approx(12**-0.5, abs=0.02)


def nae_of_images(**parameters):
    images = {"image_shape": (1, 4, 4), "network": (8,), "latent_dim": 2}
    return tiny("NAE", **{**images, **parameters})


def test_training_moves_pixels_within_their_levels_and_scores_do_not(monkeypatch):
    X = np.random.RandomState(0).randint(0, 4, (60, 16)) / 3
    detector = nae_of_images(n_levels=4)
    seen = []
    monkeypatch.setattr(
        "skgenad.energies.nae.contrastive_loss",
        lambda base, x, *args, **kwargs: (
            seen.append(x),
            contrastive_loss(base, x, *args, **kwargs),
        )[1],
    )
    detector.fit(X)
    pixels = torch.cat(seen)
    assert 0 <= float(pixels.min()) and float(pixels.max()) < 1
    assert len(pixels.unique()) > 100
    assert set((4 * pixels).floor().unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    module = detector.module_
    rows = torch.as_tensor(X[:5], dtype=torch.float32)
    assert module._continuous(rows) is rows  # in evaluation, as when rows are held out
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X))


@pytest.mark.parametrize(
    ("changed", "other"), [({"n_levels": 256}, {"n_levels": 4}), ({"pretrain_clip": 1e-3}, {})]
)
def test_options_of_nae_on_images_change_what_is_learned(changed, other):
    X = np.random.RandomState(0).randint(0, 256, (60, 16)) / 255
    scores = [nae_of_images(**p).fit(X).score_samples(X) for p in ({}, changed)]
    assert not np.array_equal(*scores)
    if other:
        assert not np.array_equal(nae_of_images(**other).fit(X).score_samples(X), scores[1])


def test_the_gradient_of_pretraining_is_clipped_and_that_of_the_energy_is_not():
    detector = nae_of_images(pretrain_clip=0.1)
    module = detector._make_module(16)
    assert [stage.clip_norm for stage in detector._stages(module)] == [0.1, None]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_levels": 256}, "n_levels=256 would be ignored: only pixels have levels"),
        ({"n_levels": 1}, "n_levels"),
        ({"pretrain_clip": 0.0}, "pretrain_clip"),
        (
            {"pretrain_steps": 0, "pretrain_clip": 0.1},
            r"pretrain_clip=0\.1 would be ignored: pretrain_steps=0",
        ),
    ],
)
def test_what_nae_cannot_use_is_refused(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        tiny("NAE", **parameters).fit(X)


# ---- presets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", ["mnist", "cifar10"])
def test_presets_on_images_are_the_authors_where_the_paper_is_silent(experiment):
    reconstruction = MPDR.from_paper(experiment)
    energy = reconstruction.part("energy")
    assert (energy.learn_scale, energy.penalize) == (True, "error")
    assert energy.penalty == {"mnist": 1e-4, "cifar10": 1e-5}[experiment]
    scalar = MPDR.from_paper(experiment, energy="scalar")
    energy = scalar.part("energy")
    assert energy.free_last and energy.learn_scale
    for detector in (reconstruction, scalar):
        assert detector.part("latent_chain").normalize
        assert not detector.part("visible_chain").normalize


def test_lengths_on_images_are_the_published_passes():
    # 128 rows a step: 50 passes over 54,000 and over 50,000 images; NAE's over 162,079.
    for made, n_images, passes in [
        (MPDR.from_paper("mnist"), 54_000, 50),
        (MPDR.from_paper("cifar10"), 50_000, 50),
        (NAE.from_paper("mnist"), 54_000, 50),
        (NAE.from_paper("cifar10"), 45_000, 50),
        (NAE.from_paper("celeba"), 162_079, 50),
    ]:
        assert made.max_steps == passes * -(-n_images // made.batch_size)
    celeba = NAE.from_paper("celeba")
    assert celeba.pretrain_steps == 30 * -(-162_079 // 128)
    assert celeba.part("network") and celeba.latent_dim == 64


@pytest.mark.parametrize("experiment", ["mnist", "cifar10", "celeba"])
def test_naes_presets_on_images_are_pretrained_as_in_the_authors_code(experiment):
    paper = NAE.from_paper(experiment)
    assert (paper.pretrain_learning_rate, paper.pretrain_clip, paper.n_levels) == (1e-4, 0.1, 256)
    assert NAE.from_paper("2d").n_levels is None


@pytest.mark.parametrize("network", [Conv28(width=0.1), Conv32(width=0.1), Cifar1(width=0.1)])
def test_a_scalar_energy_of_every_network_trains_with_a_free_last_layer(network):
    size = 28 if isinstance(network, Conv28) else 32
    X = np.random.RandomState(0).rand(8, 1, size, size)
    detector = short(
        image_shape=(1, size, size),
        network=network,
        energy=Scalar(free_last=True, learn_scale=True),
        manifold=Manifold(2, steps=1),
        visible_chain=Chain(1),
        max_steps=1,
        batch_size=4,
    )
    assert np.isfinite(detector.fit(X).score_samples(X)).all()


def test_the_scalar_energy_of_an_ebm_is_as_it_was(X):
    module = EBM(spectral=True, network=(4, 3))._make_module(5)
    assert len(spectral(module.base)) == 3 and module.base.log_scale is None
