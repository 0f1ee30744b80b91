"""Energies: values by hand, closed-form gradients against autograd, gradients of x alone."""

import pytest
import torch
from torch import nn

from skgenad._tensors.distances import make_distance
from skgenad._tensors.maps import ACTIVATIONS, MLP
from skgenad._tensors.networks import Networks, Perceptrons
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.energies import Masked, Reconstruction, Scalar
from skgenad.energies._energies import (
    MaskedEnergy,
    ScalarEnergy,
    energy_and_grad,
    frozen,
    masked_block,
)
from skgenad.energies._langevin import Langevin
from skgenad.energies._recovery import RecoveryModule, RecoverySettings

from ._settings import mlp_autoencoder

pytestmark = pytest.mark.usefixtures("drawing")

PARTS = {
    "reconstruction": Reconstruction(latent_dim=4, distance="l2"),
    "scalar": Scalar(),
    "masked": Masked(),
    "masked, with a latent layer": Masked(latent_dim=3),
}


def built(kind, d=6, hidden_sizes=(8,), activation="relu"):
    return PARTS[kind].build(Networks(Perceptrons(hidden_sizes, activation), (d,)))


def recovery(base, manifolds, d, noise_range=(0.1, 0.4)):
    """A recovery module whose chains stand still."""
    still = Langevin(0, 0.1, 0.1)
    settings = RecoverySettings(
        noise_range=noise_range,
        latent=still,
        visible=still,
        latent_gamma=0.0,
        visible_gamma=0.0,
        bounds="none",
        energy_penalty=1.0,
    )
    dims = tuple(net.encoder.layers[-1].out_features for net in manifolds)
    return RecoveryModule(base, manifolds, d, settings, latent_dims=dims)


class Quartic(nn.Module):
    """An energy of one's own: no closed form, one trained parameter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def energy(self, x):
        return self.scale * x.pow(4).sum(dim=1) + x.prod(dim=1)


def energies(activation="tanh"):
    """Name -> energy of 6 columns in double precision."""
    found = {kind: built(kind, hidden_sizes=(8, 7), activation=activation) for kind in PARTS}
    net = mlp_autoencoder(6, 4, (8,), activation)
    found["l1"] = ReconstructionEnergy(net, make_distance("l1", (6,)), learn_scale=True)
    found["l1"].log_scale.data.fill_(0.3)
    found["euclidean"] = ReconstructionEnergy(mlp_autoencoder(6, 4, (8,), activation, "euclidean"))
    found["custom"] = Quartic()
    return {name: energy.double().eval() for name, energy in found.items()}


def by_autograd(energy, x):
    """Energies and input gradient from the module's ``energy`` alone."""
    x = x.clone().requires_grad_(True)
    values = energy(x)
    return values.detach(), torch.autograd.grad(values.sum(), x)[0]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", energies())
def test_gradient_is_that_of_autograd(name, activation):
    energy = energies(activation)[name]
    x = torch.randn(20, 6, dtype=torch.float64)
    for actual, expected in zip(
        energy_and_grad(energy, x), by_autograd(energy.energy, x), strict=True
    ):
        assert_close(actual, expected)


@pytest.mark.parametrize("name", energies())
def test_chains_give_no_parameter_a_gradient(name):
    energy = energies()[name]
    with torch.no_grad():  # as in a chain
        values, gradient = energy_and_grad(energy, torch.randn(5, 6, dtype=torch.float64))
    assert not values.requires_grad and not gradient.requires_grad
    assert all(p.grad is None and p.requires_grad for p in energy.parameters())


def test_frozen_gives_every_parameter_back_as_it_was():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="on purpose"), frozen(net):
        assert not net.weight.requires_grad
        raise RuntimeError("on purpose")
    assert net.weight.requires_grad and not net.bias.requires_grad


def test_reconstruction_energy_is_a_mean_over_columns():
    energy = built("reconstruction")
    x = torch.randn(3, 6)
    by_hand = (x - energy.net(x)).square().sum(dim=1) / 6
    torch.testing.assert_close(energy.energy(x), by_hand)


def test_masked_energy_never_sees_its_block_as_input():
    energy = MaskedEnergy(MLP([4, 8, 2]), 2, 4)
    x = torch.randn(5, 6)
    prediction = energy.net(torch.cat([x[:, :2], x[:, 4:]], dim=1))
    torch.testing.assert_close(energy.energy(x), (x[:, 2:4] - prediction).square().mean(dim=1))


@pytest.mark.parametrize(
    ("n_features", "block"), [(2, (0, 1)), (3, (1, 2)), (5, (2, 3)), (25, (10, 15))]
)
def test_masked_block_is_the_middle_fifth(n_features, block):
    assert masked_block(n_features) == block


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("reconstruction", ReconstructionEnergy),
        ("scalar", ScalarEnergy),
        ("masked", MaskedEnergy),
        ("masked, with a latent layer", MaskedEnergy),
    ],
)
def test_every_part_builds_its_energy(kind, cls):
    assert isinstance(built(kind), cls)


@pytest.mark.parametrize("name", energies())
@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_recovery_gradients_are_those_of_autograd(name, gamma):
    manifold = mlp_autoencoder(6, 3, (8,), "silu").double()
    module = recovery(energies()[name], [manifold], 6, (0.1, 0.5)).double()
    target = module.perturb(0, torch.randn(9, 6, dtype=torch.float64))

    def visible(x):
        distance = (manifold.encode(x) - target.z_noisy).square().sum(dim=1)
        return module.base.energy(x) + gamma * target.weight.squeeze(1) * distance

    x, z = torch.randn(9, 6, dtype=torch.float64), target.z_noisy.detach()
    target.z_noisy, target.weight = z, target.weight.double()
    for actual, expected in [
        (target.visible(x, gamma), by_autograd(visible, x)),
        (target.latent(z, gamma), by_autograd(lambda z: visible(manifold.decode(z)), z)),
    ]:
        assert_close(actual[0], expected[0])
        assert_close(actual[1], expected[1])


def test_noise_per_row_lies_in_its_range():
    manifold = mlp_autoencoder(4, 3, (8,))
    module = recovery(energies()["custom"], [manifold], 4)
    sigma = (2 * module.perturb(0, torch.randn(500, 4)).weight).rsqrt()
    assert 0.1 <= sigma.min() < 0.12 and 0.38 < sigma.max() <= 0.4 + 1e-6
    assert sigma.std() > 0.05


def test_an_ensemble_splits_a_batch_evenly(monkeypatch):
    manifolds = [mlp_autoencoder(4, d, (8,)) for d in (2, 3, 4)]
    module = recovery(built("reconstruction", d=4), manifolds, 4)
    seen = {}

    def spy(k, x):
        seen[k] = x
        return x

    monkeypatch.setattr(module, "_negatives_on", spy)
    x = torch.randn(32, 4)
    assert torch.equal(module.negatives(x), x)
    assert [len(seen[k]) for k in range(3)] == [11, 11, 10]
