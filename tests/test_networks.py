"""Closed-form pullbacks against autograd, and the shapes of what is built."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from skgenad._tensors.maps import (
    ACTIVATIONS,
    MLP,
    AutoencoderNet,
    Identity,
    Map,
    SpectralLinear,
    Sphere,
    default_latent_dim,
    identity_manifold,
    tangent,
)

from ._settings import mlp_autoencoder

pytestmark = pytest.mark.usefixtures("drawing")

activations = pytest.mark.parametrize("activation", ACTIVATIONS)


class Bent(Map):
    """A map of one's own, without a closed form."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3, dtype=torch.float64))

    def forward(self, x):
        return (x @ self.weight).sin() * x[:, :1]


def maps():
    """Name -> map from 5 columns in double precision, for every kind of map there is."""
    found = {"identity": Identity(), "sphere": Sphere(), "custom": Bent()}
    for activation in ACTIVATIONS:
        for spectral in (False, True):
            name = f"mlp-{activation}" + "-spectral" * spectral
            found[name] = MLP([5, 7, 6, 3], activation, spectral)
    found["linear"] = MLP([5, 3])
    return {name: net.double().eval() for name, net in found.items()}


def autograd_pullback(function, x, v):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(function(x), x, v)[0]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", maps())
def test_pullback_is_that_of_autograd(name):
    net = maps()[name]
    x = torch.randn(20, 5, dtype=torch.float64)
    y, pullback = net.value_and_pullback(x)
    v = torch.randn_like(y)
    assert_close(y, net(x).detach())
    assert_close(pullback(v), autograd_pullback(net, x, v))
    # A pullback is linear and can be asked more than once.
    assert_close(pullback(-2 * v), -2 * autograd_pullback(net, x, v))


@pytest.mark.parametrize("name", maps())
def test_pullback_gives_no_parameter_a_gradient(name):
    net = maps()[name]
    x = torch.randn(4, 5, dtype=torch.float64)
    y, pullback = net.value_and_pullback(x)
    gradient = pullback(torch.ones_like(y))
    assert not y.requires_grad and not gradient.requires_grad
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("latent_space", ["sphere", "euclidean"])
@activations
def test_autoencoders_pullbacks_are_those_of_autograd(activation, latent_space):
    net = mlp_autoencoder(5, 3, (8, 6), activation, latent_space).double()
    x = torch.randn(20, 5, dtype=torch.float64)
    z, pull_encoder = net.encode_and_pullback(x)
    out, pull_decoder = net.decode_and_pullback(z)
    assert_close(z, net.encode(x).detach())
    assert_close(out, net(x).detach())
    v, w = torch.randn_like(z), torch.randn_like(out)
    assert_close(pull_encoder(v), autograd_pullback(net.encode, x, v))
    assert_close(pull_decoder(w), autograd_pullback(net.decode, z, w))


def test_identity_manifold_is_the_input_space():
    net = identity_manifold()
    x = torch.randn(3, 4)
    assert not net.spherical
    assert torch.equal(net(x), x)
    z, pullback = net.encode_and_pullback(x)
    assert torch.equal(z, x) and torch.equal(pullback(x), x)


def test_spherical_codes_have_length_one():
    net = mlp_autoencoder(4, 3, (8,))
    assert net.spherical
    norms = torch.linalg.vector_norm(net.encode(100 * torch.randn(50, 4)), dim=1)
    torch.testing.assert_close(norms, torch.ones(50))


def test_the_sphere_survives_the_zero_vector():
    y, pullback = Sphere().value_and_pullback(torch.zeros(1, 3))
    assert torch.equal(y, Sphere()(torch.zeros(1, 3)))
    assert pullback(torch.ones(1, 3)).isfinite().all()


def test_tangent_removes_the_radial_part_and_nothing_else():
    point = Sphere()(torch.randn(10, 4))
    radial, v = 3 * point, torch.randn(10, 4)
    torch.testing.assert_close(tangent(radial, point), torch.zeros(10, 4), atol=1e-5, rtol=0)
    flat = tangent(v, point)
    torch.testing.assert_close((flat * point).sum(1), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(tangent(flat, point), flat)


def test_decoder_mirrors_the_encoder():
    net = mlp_autoencoder(7, 2, (5, 3))
    shapes = [
        tuple(layer.weight.shape) for part in (net.encoder, net.decoder) for layer in part.layers
    ]
    assert shapes == [(5, 7), (3, 5), (2, 3), (3, 2), (5, 3), (7, 5)]
    assert isinstance(net, AutoencoderNet)


def test_spectral_layers_stretch_nothing_by_more_than_one():
    net = MLP([6, 20, 20, 1], "relu", spectral=True)
    for _ in range(50):  # power iterations, one for each pass in training mode
        net(torch.zeros(1, 6))
    net.eval()
    x, y = torch.randn(2, 200, 6)
    ratio = (net(x) - net(y)).abs().squeeze(1) / torch.linalg.vector_norm(x - y, dim=1)
    assert ratio.max() <= 1 + 1e-4
    largest = [torch.linalg.matrix_norm(layer.weight, 2).item() for layer in net.layers]
    assert largest == pytest.approx([1, 1, 1], abs=1e-2)


@pytest.mark.parametrize(
    ("n_features", "expected"), [(1, 2), (2, 2), (21, 21), (100, 100), (101, 71), (1000, 700)]
)
def test_default_latent_dimension(n_features, expected):
    assert default_latent_dim(n_features) == expected


def test_spectral_layers_are_those_of_torch():
    ours = SpectralLinear(nn.Linear(5, 4))
    theirs = spectral_norm(nn.Linear(5, 4))
    theirs.parametrizations.weight.original.data = ours.raw_weight.data.clone()
    theirs.parametrizations.weight[0]._u.copy_(ours.left)
    theirs.parametrizations.weight[0]._v.copy_(ours.right)
    theirs.bias.data = ours.bias.data.clone()
    x, v = torch.randn(2, 6, 5), torch.randn(6, 4)
    for mode in (True, False):  # in training, with a step of the power iteration
        actual, expected = ours.train(mode)(x[0]), theirs.train(mode)(x[0])
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            torch.autograd.grad(actual, [ours.raw_weight, ours.bias], v),
            torch.autograd.grad(
                expected, [theirs.parametrizations.weight.original, theirs.bias], v
            ),
        )


def test_spectral_layers_can_be_pickled():
    net = MLP([4, 5, 1], spectral=True).eval()
    x = torch.randn(3, 4)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
