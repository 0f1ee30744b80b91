"""The recovery likelihood of MPDR: its energy, perturbation, chains, ensemble, replay, loss."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import nn

from skgenad._tensors.maps import MLP, identity_manifold
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.energies._energies import ScalarEnergy, contrastive_loss, energy_and_grad
from skgenad.energies._langevin import Langevin
from skgenad.energies._recovery import RecoveryEnergy, RecoveryModule, RecoverySettings
from skgenad.energies.mpdr import MPDRModel

from ._settings import mlp_autoencoder

pytestmark = pytest.mark.usefixtures("drawing")

D, D_Z = 5, 3
NOISE_RANGE = (0.05, 0.3)


class Quadratic(nn.Module):
    """E(x) = x A x / 2, without a closed-form gradient."""

    def __init__(self, A):
        super().__init__()
        self.A = nn.Parameter(A)

    def energy(self, x):
        return 0.5 * ((x @ self.A) * x).sum(dim=1)


class CountingEnergy(nn.Module):
    """An energy that keeps the rows of every evaluation."""

    def __init__(self, base):
        super().__init__()
        self.base, self.seen = base, []

    def energy(self, x):
        self.seen.append(x.detach().clone())
        return self.base.energy(x)


def quadratic(d=D, dtype=torch.float32):
    B = torch.randn(d, d, dtype=dtype)
    return Quadratic(B @ B.T / d + 0.5 * torch.eye(d, dtype=dtype))


def autoencoder(latent_space="sphere", d=D, d_z=D_Z):
    return mlp_autoencoder(d, d_z, (8,), "tanh", latent_space)


def reconstruction(d=D):
    return ReconstructionEnergy(mlp_autoencoder(d, d, (8,), "tanh"))


def settings(latent_steps=1, visible_steps=5, gamma=1e-4, bounds="none", **others):
    """Settings of training with chains of so many steps; on a sphere by default."""
    usual = {
        "noise_range": NOISE_RANGE,
        "latent": Langevin(latent_steps, 0.1, 0.05, sphere=True),
        "latent_gamma": gamma,
        "visible": Langevin(visible_steps, 0.5, 0.3),
        "visible_gamma": gamma,
        "bounds": bounds,
        "energy_penalty": 1.0,
    }
    return RecoverySettings(**{**usual, **others})


def with_manifold(net, d_z, base=None, **others):
    return RecoveryModule(
        base or reconstruction(), [net], D, settings(**others), latent_dims=(d_z,)
    )


def recovery_module(n_manifolds=1, base=None, replay=(0, 0.95), cls=RecoveryModule, **others):
    dims = tuple(range(2, 2 + n_manifolds))
    nets = [autoencoder(d_z=d_z) for d_z in dims]
    made = settings(**others)
    return cls(base or reconstruction(), nets, D, made, latent_dims=dims, replay=replay)


def perceptron(mlp, x):
    """What a tanh MLP computes, written out."""
    for layer in mlp.layers[:-1]:
        x = torch.tanh(x @ layer.weight.T + layer.bias)
    return x @ mlp.layers[-1].weight.T + mlp.layers[-1].bias


def equation_7(base, manifold, x, z_noisy, sigma, gamma):
    """E(x) + gamma / (2 sigma^2) |z~ - f_e(x)|^2 for a reconstruction energy, written out."""
    code = perceptron(base.net.encoder, x)
    energy = (
        (x - perceptron(base.net.decoder, code / code.norm(dim=1, keepdim=True))).pow(2).mean(1)
    )
    z = perceptron(manifold.encoder, x)
    if manifold.spherical:
        z = z / z.norm(dim=1, keepdim=True)
    return energy + gamma / (2 * sigma[:, 0] ** 2) * (z_noisy - z).pow(2).sum(dim=1)


# ---- eq. 7 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 1e-4, 0.7])
@pytest.mark.parametrize("latent_space", ["sphere", "euclidean"])
@pytest.mark.parametrize("space", ["visible", "latent"])
def test_recovery_energy_and_gradient_are_those_of_equation_7(space, latent_space, gamma):
    base, manifold = reconstruction().double(), autoencoder(latent_space).double()
    sigma = 0.05 + 0.25 * torch.rand(11, 1, dtype=torch.float64)
    z_noisy = F.normalize(torch.randn(11, D_Z, dtype=torch.float64))
    target = RecoveryEnergy(base, manifold, z_noisy, 1 / (2 * sigma**2))

    point = torch.randn(11, D if space == "visible" else D_Z, dtype=torch.float64)
    point = F.normalize(point) if space == "latent" else point
    point.requires_grad_(True)
    x = point if space == "visible" else perceptron(manifold.decoder, point)
    wanted = equation_7(base, manifold, x, z_noisy, sigma, gamma)
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), point)

    energy, gradient = getattr(target, space)(point.detach(), gamma)
    torch.testing.assert_close(energy, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-10, atol=1e-12)


def test_recovery_gradient_spares_the_parameters():
    base, manifold = quadratic(), autoencoder()
    target = RecoveryEnergy(base, manifold, torch.zeros(4, D_Z), torch.ones(4, 1))
    for at, where in ((target.visible, torch.randn(4, D)), (target.latent, torch.randn(4, D_Z))):
        energy, gradient = at(where, 0.5)
        assert not energy.requires_grad and not gradient.requires_grad
    parameters = [*base.parameters(), *manifold.parameters()]
    assert all(p.grad is None and p.requires_grad for p in parameters)


# ---- the identity manifold: eq. 3 and 4 ------------------------------------------------------


def identity_target(n=6, sigma=0.4):
    base = quadratic(dtype=torch.float64)
    noisy = torch.randn(n, D, dtype=torch.float64)
    weight = torch.full((n, 1), 1 / (2 * sigma**2), dtype=torch.float64)
    return base, noisy, RecoveryEnergy(base, identity_manifold(), noisy, weight)


@pytest.mark.parametrize("space", ["visible", "latent"])
def test_identity_manifold_has_the_gaussian_recovery_gradient(space):
    sigma = 0.4
    base, noisy, target = identity_target(sigma=sigma)
    x = torch.randn_like(noisy)
    energy, gradient = getattr(target, space)(x, 1.0)
    A = base.A.detach()
    torch.testing.assert_close(gradient, x @ A + (x - noisy) / sigma**2)
    squared = (x - noisy).square().sum(dim=1)
    torch.testing.assert_close(energy, 0.5 * ((x @ A) * x).sum(dim=1) + squared / (2 * sigma**2))


def test_identity_manifold_adds_gaussian_noise_to_the_rows():
    x = torch.randn(4000, D)
    target = with_manifold(identity_manifold(), D, quadratic()).perturb(0, x)
    eps = (target.z_noisy - x) * (2 * target.weight).sqrt()
    assert kstest(eps.flatten().numpy(), "norm").pvalue > 0.01
    # Noise magnitudes belong to rows: within a row, columns share them.
    sigma = (1 / (2 * target.weight)).sqrt()[:, 0]
    row_scale = (target.z_noisy - x).square().mean(dim=1).sqrt()
    assert np.corrcoef(sigma, row_scale)[0, 1] > 0.7


def test_metropolis_chain_samples_the_closed_form_posterior():
    sigma, n = 0.5, 6000
    A = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
    noisy = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    weight = torch.full((n, 1), 1 / (2 * sigma**2), dtype=torch.float64)
    target = RecoveryEnergy(Quadratic(A), identity_manifold(), noisy.expand(n, 2), weight)
    # Without the acceptance rule a step of this size would inflate every variance by half.
    chain = Langevin(120, 0.15, math.sqrt(2 * 0.15), metropolis=True)
    x, acceptance = chain.run(partial(target.visible, gamma=1.0), noisy.repeat(n, 1))

    covariance = torch.linalg.inv(A + torch.eye(2, dtype=torch.float64) / sigma**2)
    mean = (covariance @ noisy[0]) / sigma**2
    error = (x.mean(dim=0) - mean).abs()
    assert (error < 4.5 * (covariance.diagonal() / n).sqrt()).all()
    torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0, atol=0.012)
    assert 0.3 < acceptance < 0.99


# ---- perturbation: eq. 5 ---------------------------------------------------------------------


def test_noise_magnitudes_are_uniform_per_row_within_the_range():
    target = recovery_module().perturb(0, torch.randn(4000, D))
    sigma = (1 / (2 * target.weight)).sqrt().squeeze(1).numpy()
    low, high = NOISE_RANGE
    assert sigma.shape == (4000,)
    assert sigma.min() >= low - 1e-6 and sigma.max() <= high + 1e-6
    assert kstest(sigma, "uniform", args=(low, high - low)).pvalue > 0.01


def test_a_range_of_one_point_is_a_single_noise_magnitude():
    target = recovery_module(noise_range=(0.2, 0.2)).perturb(0, torch.randn(50, D))
    torch.testing.assert_close(target.weight, torch.full((50, 1), 1 / (2 * 0.2**2)))


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_perturbed_codes_lie_on_the_sphere_at_the_distance_of_their_noise(sigma):
    d_z = 16
    manifold = autoencoder(d_z=d_z)
    module = with_manifold(manifold, d_z, noise_range=(sigma, sigma))
    x = torch.randn(2000, D)
    with torch.no_grad():
        z, z_noisy = manifold.encode(x), module.perturb(0, x).z_noisy
    torch.testing.assert_close(z_noisy.norm(dim=1), torch.ones(2000))
    # |z + sigma eps|^2 is close to 1 + sigma^2 d_z, and eps is nearly orthogonal to z.
    cosine = (z * z_noisy).sum(dim=1).mean().item()
    assert cosine == pytest.approx(1 / math.sqrt(1 + sigma**2 * d_z), abs=0.02)


def test_euclidean_codes_are_not_put_on_a_sphere():
    manifold = autoencoder("euclidean")
    x = torch.randn(3000, D)
    with torch.no_grad():
        target = with_manifold(manifold, D_Z).perturb(0, x)
        eps = (target.z_noisy - manifold.encode(x)) * (2 * target.weight).sqrt()
    assert kstest(eps.flatten().numpy(), "norm").pvalue > 0.01


# ---- chains: section 3.3 ---------------------------------------------------------------------


def record_latent_states(manifold, monkeypatch):
    states, original = [], manifold.decode_and_pullback
    monkeypatch.setattr(
        manifold, "decode_and_pullback", lambda z: (states.append(z), original(z))[1]
    )
    return states


def test_latent_chain_stays_on_the_sphere_and_starts_at_the_perturbed_code(monkeypatch):
    module = recovery_module(latent_steps=6, visible_steps=0)
    states = record_latent_states(module.manifolds[0], monkeypatch)
    codes, perturb = [], module.perturb
    monkeypatch.setattr(module, "perturb", lambda *a: (codes.append(perturb(*a)), codes[-1])[1])
    module.negatives(torch.randn(20, D))
    assert len(states) == 6
    torch.testing.assert_close(states[0], codes[0].z_noisy, rtol=0, atol=0)
    for z in states:
        torch.testing.assert_close(z.norm(dim=1), torch.ones(20))
    assert not torch.equal(states[0], states[-1])


def test_visible_chain_starts_where_the_latent_chain_ends(monkeypatch):
    energy = CountingEnergy(reconstruction())
    module = recovery_module(base=energy, latent_steps=2, visible_steps=3)
    manifold = module.manifolds[0]
    decoded, decode = [], manifold.decode
    monkeypatch.setattr(
        manifold, "decode", lambda z: (decoded.append((z, decode(z))), decode(z))[1]
    )
    module.negatives(torch.randn(9, D))
    (z, start) = decoded[-1]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(9))
    torch.testing.assert_close(module.base.seen[2], start, rtol=0, atol=0)


def test_without_chains_negatives_lie_on_the_manifold():
    module = recovery_module(latent_steps=0, visible_steps=0)
    codes, perturb = [], module.perturb
    module.perturb = lambda *a: (codes.append(perturb(*a)), codes[-1])[1]
    negatives = module.negatives(torch.randn(7, D))
    torch.testing.assert_close(negatives, module.manifolds[0].decode(codes[0].z_noisy).detach())


@pytest.mark.parametrize("per_column", [False, True])
def test_visible_chain_stays_within_its_bounds(per_column):
    low = torch.linspace(-0.3, -0.1, D) if per_column else -0.2
    high = torch.linspace(0.1, 0.4, D) if per_column else 0.2
    energy = CountingEnergy(reconstruction())
    module = recovery_module(base=energy, latent_steps=0, bounds=(low, high))
    negatives = module.negatives(torch.randn(30, D))
    for x in [*module.base.seen[1:], negatives]:
        assert (x >= low).all() and (x <= high).all()
    assert (negatives == torch.as_tensor(high)).any(), "the bounds were never reached"


@pytest.mark.parametrize("latent_steps, visible_steps", [(0, 5), (1, 5), (3, 0), (2, 4)])
@pytest.mark.parametrize("n_manifolds", [1, 3])
def test_a_chain_step_costs_one_gradient_of_the_energy_per_row(
    latent_steps, visible_steps, n_manifolds
):
    steps = {"latent_steps": latent_steps, "visible_steps": visible_steps}
    module = recovery_module(n_manifolds, CountingEnergy(reconstruction()), **steps)
    module.negatives(torch.randn(12, D))
    seen = module.base.seen
    assert sum(len(x) for x in seen) == 12 * (latent_steps + visible_steps)
    assert len(seen) == n_manifolds * (latent_steps + visible_steps)
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_negatives_carry_no_graph():
    module = recovery_module()
    x = torch.randn(6, D, requires_grad=True)
    assert not module.negatives(x).requires_grad


def test_each_gamma_reaches_its_own_chain(monkeypatch):
    gammas = []
    for name in ("visible", "latent"):
        original = getattr(RecoveryEnergy, name)
        monkeypatch.setattr(
            RecoveryEnergy,
            name,
            lambda self, at, gamma, name=name, original=original: (
                gammas.append((name, gamma)),
                original(self, at, gamma),
            )[1],
        )
    module = recovery_module(visible_steps=1, latent_gamma=0.25, visible_gamma=0.5)
    module.negatives(torch.randn(4, D))
    # The latent energy is the pullback of the visible one, at the latent chain's gamma.
    assert gammas == [("latent", 0.25), ("visible", 0.25), ("visible", 0.5)]


# ---- ensemble: section 3.4 -------------------------------------------------------------------


@pytest.mark.parametrize("n_manifolds", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [4, 10, 128])
def test_ensemble_splits_a_batch_evenly(n, n_manifolds, monkeypatch):
    module = recovery_module(n_manifolds, visible_steps=1)
    shares, perturb = [], module.perturb
    monkeypatch.setattr(module, "perturb", lambda k, x: (shares.append((k, x)), perturb(k, x))[1])
    x = torch.randn(n, D)
    negatives = module.negatives(x)
    assert negatives.shape == x.shape
    assert [k for k, _ in shares] == list(range(n_manifolds))
    sizes = [len(share) for _, share in shares]
    assert max(sizes) - min(sizes) <= 1
    torch.testing.assert_close(torch.cat([share for _, share in shares]), x, rtol=0, atol=0)


def test_every_row_is_perturbed_by_the_manifold_it_was_dealt_to():
    still = {"latent_steps": 0, "visible_steps": 0, "noise_range": (1e-6, 1e-6)}
    module = recovery_module(3, **still)
    x = torch.randn(9, D)
    with torch.no_grad():
        negatives = module.negatives(x)
        wanted = torch.cat([net(x[3 * k : 3 * k + 3]) for k, net in enumerate(module.manifolds)])
    torch.testing.assert_close(negatives, wanted, rtol=0, atol=1e-4)


# ---- replay buffer ---------------------------------------------------------------------------


def rows_in(needles, haystack):
    """Whether each row of `needles` is, bit for bit, a row of `haystack`."""
    return (needles[:, None] == haystack[None]).all(dim=2).any(dim=1)


def record_visible_starts(module, monkeypatch):
    """(x, z~, weight) of every visible chain at its first step."""
    starts = []
    original = RecoveryEnergy.visible

    def visible(self, x, gamma):
        starts.append(torch.cat([x, self.z_noisy, self.weight], dim=1))
        return original(self, x, gamma)

    monkeypatch.setattr(RecoveryEnergy, "visible", visible)
    return starts


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.95, 1.0])
def test_replay_hits_as_often_as_asked_with_the_condition_of_the_same_chain(ratio, monkeypatch):
    module = recovery_module(replay=(3000, ratio), latent_steps=0, visible_steps=1)
    starts = record_visible_starts(module, monkeypatch)
    module.negatives(torch.randn(1500, D))
    kept = module.buffers_[0].rows.clone()
    assert kept.shape == (1500, D + 2 + 1)
    module.negatives(torch.randn(1500, D))
    hits = rows_in(starts[1], kept)
    spread = 4 * math.sqrt(ratio * (1 - ratio) / 1500)
    assert abs(hits.float().mean().item() - ratio) <= spread
    # A row is replayed as a whole or not at all: what misses shares nothing with what was kept, but
    # for numbers that are equal by chance.
    fresh = starts[1][~hits]
    assert torch.isin(fresh[:, D:-1], kept[:, D:-1]).sum() <= 2


def test_replay_keeps_where_a_chain_ended_with_what_it_was_conditioned_on(monkeypatch):
    module = recovery_module(replay=(50, 0.95), latent_steps=0, visible_steps=1)
    starts = record_visible_starts(module, monkeypatch)
    end = module.negatives(torch.randn(8, D))
    rows = module.buffers_[0].rows
    torch.testing.assert_close(rows[:, :D], end, rtol=0, atol=0)
    torch.testing.assert_close(rows[:, D:], starts[0][:, D:], rtol=0, atol=0)
    weight = rows[:, -1]
    low, high = NOISE_RANGE
    assert (weight >= 0.5 / high**2 - 1e-3).all() and (weight <= 0.5 / low**2 + 1e-3).all()


def test_each_manifold_has_a_buffer_of_its_latent_size_that_never_overflows():
    module = recovery_module(2, replay=(10, 0.95), latent_steps=0, visible_steps=1)
    for _ in range(4):
        module.negatives(torch.randn(12, D))
        assert all(len(b) <= 10 for b in module.buffers_)
    assert [tuple(b.rows.shape) for b in module.buffers_] == [(10, D + 2 + 1), (10, D + 3 + 1)]
    assert not recovery_module(2).buffers_


# ---- loss: eq. 8 and section 4.1 -------------------------------------------------------------


@pytest.mark.parametrize("penalize_data", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 3.0])
def test_loss_gradient_is_that_of_equation_8_with_the_penalty(penalty, penalize_data):
    base = ScalarEnergy(MLP([D, 8, 1], "tanh")).double()
    x = torch.randn(9, D, dtype=torch.float64)
    negatives = torch.randn(7, D, dtype=torch.float64)
    parts = contrastive_loss(base, x, negatives, penalty=penalty, penalize_data=penalize_data)
    gradient = torch.autograd.grad(parts["loss"], list(base.parameters()))

    # Row by row: grad E(x) - grad E(x-) + penalty * 2 E grad E where energies are penalised.
    wanted = [torch.zeros_like(p) for p in base.parameters()]
    for rows, sign, weight in ((x, 1.0, penalty * penalize_data), (negatives, -1.0, penalty)):
        for row in rows:
            energy = perceptron(base.net, row[None])[0, 0]
            for total, g in zip(
                wanted, torch.autograd.grad(energy, list(base.parameters())), strict=True
            ):
                total += (sign + 2 * weight * energy.item()) * g / len(rows)
    for got, want in zip(gradient, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(parts["energy"], base.energy(x).mean())
    torch.testing.assert_close(parts["negative_energy"], base.energy(negatives).mean())


class Precision(nn.Module):
    """A centred Gaussian's energy with the logarithm of its precision as the only parameter."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def energy(self, x):
        return 0.5 * self.log.exp() * x.square().sum(dim=1)


def test_learning_from_exact_negatives_finds_the_precision_of_the_data():
    # The recovery likelihood's consistency (appendix A), on a Gaussian whose posterior is known.
    sigma, data_precision = 0.8, 4.0
    base = Precision()
    optimizer = torch.optim.Adam(base.parameters(), lr=0.05)
    for _ in range(250):
        x = torch.randn(512, 1) / math.sqrt(data_precision)
        noisy = x + sigma * torch.randn_like(x)
        precision = base.log.detach().exp() + 1 / sigma**2
        negatives = noisy / sigma**2 / precision + torch.randn_like(x) / precision.sqrt()
        optimizer.zero_grad()
        contrastive_loss(base, x, negatives, penalty=0.0, penalize_data=False)["loss"].backward()
        optimizer.step()
    assert base.log.exp().item() == pytest.approx(data_precision, rel=0.15)


# ---- what is scored, and starting points -----------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 1 / 3, 1.0])
def test_combined_score_is_a_weighted_mean_of_log_energy_and_log_manifold_errors(weight):
    module = recovery_module(2, cls=partial(MPDRModel, manifold_share=weight)).double()
    x = torch.randn(6, D, dtype=torch.float64)
    with torch.no_grad():
        E = (x - module.base.net(x)).pow(2).mean(dim=1)
        R = [(x - net(x)).pow(2).mean(dim=1) for net in module.manifolds]
        wanted = (1 - weight) * E.log() + weight / 2 * (R[0].log() + R[1].log())
        torch.testing.assert_close(module.energy(x), wanted, rtol=1e-9, atol=1e-9)


def test_without_a_weight_the_energy_is_scored():
    module = recovery_module(2, cls=MPDRModel)
    x = torch.randn(6, D)
    torch.testing.assert_close(module.energy(x), module.base.energy(x), rtol=0, atol=0)


def test_combined_score_of_a_perfect_reconstruction_is_finite():
    net = mlp_autoencoder(D, D, (4,), latent_space="sphere")
    for p in net.parameters():
        nn.init.zeros_(p)
    energy = ReconstructionEnergy(net)
    module = MPDRModel(energy, [net], D, settings(), latent_dims=(D,), manifold_share=0.5)
    assert torch.isfinite(module.energy(torch.zeros(1, D))).all()


def test_uniform_latent_points_are_uniform_on_the_sphere():
    z = recovery_module(2).uniform_latent(1, 5000)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5000))
    # In three dimensions each coordinate of a uniform point is uniform on [-1, 1].
    for column in z.T.numpy():
        assert kstest(column, "uniform", args=(-1, 2)).pvalue > 0.005


def test_pulled_back_chain_lowers_the_energy_on_the_manifold():
    module = recovery_module(base=quadratic(), latent=Langevin(1, 0.2, 0.0, sphere=True))
    with torch.no_grad():
        before = module.base.energy(module.manifolds[0].decode(module.uniform_latent(0, 500)))
        x = module.pulled_back_chain(0, 100, 500)
        assert module.base.energy(x).mean() < 0.8 * before.mean()


def test_latent_chain_follows_the_pulled_back_gradient():
    module = recovery_module(base=quadratic())
    manifold = module.manifolds[0]
    z = F.normalize(torch.randn(5, 2))
    target = RecoveryEnergy(module.base, manifold, z, torch.ones(5, 1))
    x, pullback = manifold.decode_and_pullback(z)
    _, gradient = target.latent(z, 0.0)
    torch.testing.assert_close(gradient, pullback(energy_and_grad(module.base, x)[1]))
