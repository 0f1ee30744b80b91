"""Networks as objects: shorthands, nested names, factories, and what they make."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skgenad import CANCE, DAGMM, Autoencoder
from skgenad import networks as public
from skgenad._tensors import architectures
from skgenad._tensors.networks import RowEncoder
from skgenad.networks import MLP, Conv, FCRes, Network, networks_for, read_network

from ._settings import having, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

NAMED = {
    name.lower(): getattr(public, name) for name in public.__all__ if name not in ("MLP", "Network")
}
SHAPES = {"fcres": (5,), "conv64": (1, 64, 64), "conv28": (1, 28, 28), "conv": (1, 9, 7)}
with_network = pytest.mark.parametrize("detector", having("network"), ids=lambda c: c.__name__)


def weights(module):
    return sum(p.numel() for p in module.parameters())


# ---- shorthands -----------------------------------------------------------------------------


def test_every_architecture_has_an_object_of_its_name():
    kinds = [kind for kind in vars(architectures).values() if isinstance(kind, type)]
    made = [kind for kind in kinds if issubclass(kind, architectures.Architecture)]
    assert set(NAMED) == {kind.name for kind in made if "name" in vars(kind)}
    for name, kind in NAMED.items():
        assert read_network(name) == kind()


@pytest.mark.parametrize("given", [(8, 4), [8, 4], MLP((8, 4)), MLP([8, 4])], ids=str)
def test_widths_are_short_for_perceptrons(given):
    net = Autoencoder(network=given)._make_module(3).net
    assert [layer.out_features for layer in net.encoder.layers] == [8, 4, 3]
    assert net.encoder.activation == "leaky_relu"


def test_what_is_left_none_is_the_detectors_own():
    module = DAGMM(network=MLP(activation="relu"))._make_module(5)
    assert [layer.out_features for layer in module.net.encoder.layers] == [60, 30, 10, 4]
    assert module.net.encoder.activation == "relu"
    module = DAGMM(network=(7,))._make_module(5)
    assert [layer.out_features for layer in module.net.encoder.layers] == [7, 4]
    assert module.net.encoder.activation == "tanh"
    assert CANCE()._make_module(5).features.encoder.activation == "silu"


def test_no_hidden_layers_make_linear_networks():
    net = Autoencoder(network=())._make_module(3).net
    assert len(net.encoder.layers) == len(net.decoder.layers) == 1


@with_network
def test_names_and_objects_score_alike(detector):
    X = normal_rows(40)
    short, long = (tiny(detector, network=net).fit(X) for net in ((8,), MLP((8,))))
    np.testing.assert_array_equal(short.score_samples(X), long.score_samples(X))


# ---- nested names ---------------------------------------------------------------------------


@with_network
def test_nested_names_reach_the_network(detector):
    made = detector().set_params(network__hidden_sizes=(7, 5), network__activation="tanh")
    assert made.network == MLP((7, 5), activation="tanh")
    changed = detector(network="fcres").set_params(network__width=0.5)
    assert changed.network == FCRes(width=0.5)
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        detector(network=(7,)).set_params(network__width=0.5)


def test_a_name_and_its_width_can_be_set_at_once():
    detector = Autoencoder(image_shape=(1, 9, 7)).set_params(network="conv", network__width=0.25)
    assert detector.network == Conv(width=0.25)
    assert clone(detector).network == detector.network
    assert pickle.loads(pickle.dumps(detector)).network == detector.network


@pytest.mark.parametrize(
    "given", [FCRes(width=1 / 16), MLP((6,), activation="silu"), (6,)], ids=str
)
def test_files_keep_networks(given, tmp_path):
    X = normal_rows(40)
    detector = tiny("Autoencoder", network=given).fit(X)
    detector.save(tmp_path / "detector")
    loaded = Autoencoder.load(tmp_path / "detector")
    assert loaded.network == given and type(loaded.network) is type(given)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


# ---- what they make -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_objects_are_factories_too(name):
    shape = SHAPES.get(name, (3, 32, 32))
    network = NAMED[name](width=1 / 16)
    x = torch.rand(2, *shape)
    z = network.make_encoder(shape, 4).eval()(x)
    assert z.shape == (2, 4)
    assert network.make_decoder(4, shape).eval()(z).shape == x.shape


def test_perceptrons_are_factories_of_images_and_tables():
    for shape in ((6,), (1, 2, 3)):
        encoder = MLP((5,)).make_encoder(shape, 2)
        z = encoder(torch.rand(4, *shape))
        assert z.shape == (4, 2)
        assert MLP((5,)).make_decoder(2, shape)(z).shape == (4, *shape)


@pytest.mark.parametrize("name", [name for name in NAMED if name not in ("conv32big", "conv64")])
def test_width_scales_the_layers(name):
    shape = SHAPES.get(name, (3, 32, 32))
    narrow, wide = (NAMED[name](width=w).make_encoder(shape, 4) for w in (1 / 16, 1 / 4))
    assert 2 < weights(wide) / weights(narrow) < 17


class Factory:
    """A factory of the user's, which is no object of this package."""

    def __init__(self):
        self.asked = []

    def make_encoder(self, shape, latent_dim):
        self.asked.append(("encoder", shape, latent_dim))
        return nn.Linear(shape[0], latent_dim)

    def make_decoder(self, latent_dim, shape):
        self.asked.append(("decoder", latent_dim, shape))
        return nn.Linear(latent_dim, shape[0])


def test_a_factory_of_the_users_is_taken_as_it_is():
    factory = Factory()
    detector = Autoencoder(network=factory, latent_dim=2)
    assert detector.part("network") is factory and read_network(factory) is factory
    assert not any(name.startswith("network__") for name in detector.get_params())
    module = detector._make_module(5)
    assert factory.asked == [("encoder", (5,), 2), ("decoder", 2, (5,))]
    assert isinstance(module.net.encoder, RowEncoder) and not module.is_steady


class Wide(Network):
    """A network of the user's, with parameters that a search finds."""

    def __init__(self, width=8):
        self.width = width

    def make_encoder(self, shape, latent_dim):
        return nn.Sequential(nn.Linear(shape[0], self.width), nn.Linear(self.width, latent_dim))

    def make_decoder(self, latent_dim, shape):
        return nn.Sequential(nn.Linear(latent_dim, self.width), nn.Linear(self.width, shape[0]))

    def factory(self):
        return self


def test_a_network_of_the_users_may_have_parameters():
    detector = Autoencoder(network=Wide(), latent_dim=2).set_params(network__width=11)
    assert weights(detector._make_module(5)) == 2 * (5 * 11 + 11 + 11 * 2 + 2) + 3
    with pytest.raises(ValueError, match="does not fit image_shape|is for images"):
        networks_for(Conv(), (5,))


@pytest.mark.parametrize("base", [MLP, FCRes])
def test_a_derived_network_makes_what_its_methods_return(base):
    class Derived(base):
        def make_encoder(self, shape, latent_dim):
            return nn.Linear(shape[0], latent_dim, bias=False)

    module = Autoencoder(network=Derived(), latent_dim=2)._make_module(5)
    assert weights(module.net.encoder) == 10 and weights(module.net.decoder) > 1000
    assert not module.is_steady and Autoencoder(network=base())._make_module(5).is_steady
    networks = networks_for(type(base.__name__, (base,), {})(), (5,))
    assert not networks.is_own and networks_for(base(), (5,)).is_own


class Deep(MLP):
    """Perceptrons with a parameter more than ours have."""

    def __init__(self, hidden_sizes=None, *, activation=None, depth=1):
        super().__init__(hidden_sizes, activation=activation)
        self.depth = depth

    def factory(self):
        return MLP(tuple(self.hidden_sizes) * self.depth).factory()


def test_derived_perceptrons_may_have_more_parameters():
    module = Autoencoder(network=Deep((7,), depth=2), latent_dim=2)._make_module(5)
    assert weights(module.net.encoder) == 5 * 7 + 7 + 7 * 7 + 7 + 7 * 2 + 2
    assert weights(MLP.factory(Deep((7,))).make_encoder((5,), 2)) == 5 * 7 + 7 + 7 * 2 + 2
    X = normal_rows(40)
    ours, derived = (tiny("CANCE", density_network=n((7,))).fit(X) for n in (MLP, Deep))
    np.testing.assert_array_equal(ours.score_samples(X), derived.score_samples(X))


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MLP((8, 0)), r"hidden_sizes=\(8, 0\) must hold integers of at least 1"),
        ((8, 2.5), r"hidden_sizes=\(8, 2.5\) must hold integers"),
        (MLP(8), "'hidden_sizes' parameter of MLP"),
        (
            MLP((), activation="tanh"),
            r"activation='tanh' in MLP.* would be ignored: without hidden",
        ),
        (MLP([], activation="relu"), "would be ignored: without hidden layers"),
        (MLP(activation="cos"), "'activation' parameter of MLP must be"),
        (FCRes(width=0), "'width' parameter of FCRes must be .* Got 0 instead"),
        ("resnet", "'network' parameter of Autoencoder must be"),
        (nn.Linear(2, 2), "'network' parameter of Autoencoder must be"),
        ("conv", "network='conv' is for images: give image_shape"),
    ],
    ids=str,
)
def test_networks_that_cannot_be_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(network=network).fit(normal_rows())


def test_a_network_is_made_anew_for_each_fit():
    X, network = normal_rows(40), MLP((8,))
    one, other = (tiny("Autoencoder", network=network).fit(X) for _ in range(2))
    assert one.module_.net is not other.module_.net
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))
