"""The autoencoder detector: what it minimises, its options, what it detects."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skgenad import Autoencoder
from skgenad._tensors.maps import Identity, Sphere
from skgenad._tensors.noise import noisy
from skgenad.networks import MLP

from ._settings import ALL_ROWS

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {**ALL_ROWS, "network": (32,), "max_steps": 200, "learning_rate": 3e-3, "random_state": 0}


def squared_weights(network):
    return sum(p.detach().square().sum().item() for p in network.parameters())


@pytest.fixture(scope="module")
def low_rank():
    """Training and fresh rows of a Gaussian of rank 3 in 10 columns, and rows off its plane."""
    rng = np.random.RandomState(0)
    plane = rng.randn(3, 10)
    train, fresh = rng.randn(800, 3) @ plane, rng.randn(200, 3) @ plane
    off = fresh + rng.randn(200, 10)
    return train, fresh, off


def test_score_is_minus_the_mean_squared_error_in_standard_units(low_rank):
    X = low_rank[0]
    detector = Autoencoder(**QUICK).fit(X)
    Z = torch.from_numpy(((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32))
    with torch.no_grad():
        error = (Z - detector.module_.net(Z)).square().mean(dim=1)
    np.testing.assert_allclose(detector.score_samples(X), -error.numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("latent_space, latent_dim", [("sphere", 4), ("euclidean", 3)])
def test_rows_of_a_low_rank_gaussian_are_reconstructed_and_others_are_not(
    low_rank, latent_space, latent_dim
):
    train, fresh, off = low_rank
    detector = Autoencoder(**QUICK, latent_space=latent_space, latent_dim=latent_dim).fit(train)
    error, error_off = detector.anomaly_score(fresh), detector.anomaly_score(off)
    # Every column has variance 1.
    assert np.median(error) < 0.02
    assert np.median(error_off) > 5 * np.median(error)


def test_a_latent_space_too_small_for_the_data_loses_what_does_not_fit(low_rank):
    # Three singular values of comparable size: one dimension cannot hold even half the variance.
    error = Autoencoder(**QUICK, latent_space="euclidean", latent_dim=1).fit(low_rank[0])
    assert error.anomaly_score(low_rank[1]).mean() > 0.2


def test_planted_anomalies_score_above_normal_rows():
    rng = np.random.RandomState(1)
    t = rng.rand(700) * 2 * np.pi
    ring = np.c_[np.cos(t), np.sin(t), np.cos(2 * t)] + 0.05 * rng.randn(700, 3)
    anomalies = 0.2 * rng.randn(60, 3)
    detector = Autoencoder(**QUICK, latent_dim=2).fit(ring[:500])
    truth = np.r_[np.zeros(200), np.ones(60)]
    scores = detector.anomaly_score(np.r_[ring[500:], anomalies])
    assert roc_auc_score(truth, scores) > 0.95


@pytest.mark.parametrize("latent_space, kind", [("sphere", Sphere), ("euclidean", Identity)])
def test_latent_vectors_lie_in_the_latent_space_asked_for(low_rank, latent_space, kind):
    detector = Autoencoder(**QUICK, latent_space=latent_space, latent_dim=4)
    net = detector.set_params(max_steps=20).fit(low_rank[0]).module_.net
    assert isinstance(net.latent, kind)
    with torch.no_grad():
        norms = net.encode(torch.randn(50, 10)).norm(dim=1)
    assert norms.shape == (50,)
    assert torch.allclose(norms, torch.ones(50), atol=1e-5) == (latent_space == "sphere")


@pytest.mark.parametrize(
    "n_features, latent_dim, wanted", [(5, None, 5), (1, None, 2), (110, None, 77), (5, 3, 3)]
)
def test_latent_dimension_follows_the_number_of_columns_unless_given(
    n_features, latent_dim, wanted
):
    X = np.random.RandomState(0).randn(30, n_features)
    detector = Autoencoder(network=(8,), latent_dim=latent_dim, max_steps=1).fit(X)
    with torch.no_grad():
        assert detector.module_.net.encode(torch.randn(2, n_features)).shape == (2, wanted)


def test_hidden_sizes_shape_the_encoder_and_mirrored_the_decoder():
    X = np.random.RandomState(0).randn(30, 5)
    net = Autoencoder(network=(16, 8), latent_dim=3, max_steps=1).fit(X).module_.net
    assert [tuple(layer.weight.shape) for layer in net.encoder.layers] == [(16, 5), (8, 16), (3, 8)]
    assert [tuple(layer.weight.shape) for layer in net.decoder.layers] == [(8, 3), (16, 8), (5, 16)]


def test_noise_is_added_to_the_input_of_training_but_not_to_its_target(monkeypatch):
    detector = Autoencoder(**QUICK, input_noise=0.3)
    module = detector._make_module(6)
    inputs, net = [], module.net.forward
    monkeypatch.setattr(module.net, "forward", lambda x: (inputs.append(x), net(x))[1])
    x = torch.randn(4000, 6)
    loss = module.loss(x)["loss"]
    eps = inputs[0] - x
    assert eps.std().item() == pytest.approx(0.3, rel=0.03)
    assert abs(eps.mean().item()) < 0.01
    torch.testing.assert_close(loss, (x - net(inputs[0])).square().mean())


def test_without_noise_the_input_of_training_is_the_row_itself(monkeypatch):
    detector = Autoencoder(**QUICK)
    module = detector._make_module(6)
    inputs, net = [], module.net.forward
    monkeypatch.setattr(module.net, "forward", lambda x: (inputs.append(x), net(x))[1])
    x = torch.randn(5, 6)
    module.loss(x)
    torch.testing.assert_close(inputs[0], x, rtol=0, atol=0)


def test_of_a_range_of_noises_half_of_the_rows_have_none_and_the_others_one_of_their_own():
    x = torch.zeros(4000, 50)
    torch.manual_seed(0)
    sizes = noisy(x, (0.1, 1.0)).std(dim=1)
    clean = sizes == 0
    assert clean.double().mean().item() == pytest.approx(0.5, abs=0.03)
    logs = sizes[~clean].log10()
    # Log-uniform: the middle of the logarithms, and a quarter of them in each quarter.
    shares = torch.histc(logs, 4, min=-1, max=0) / len(logs)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)
    assert 0.05 < sizes[~clean].min() and sizes.max() < 1.5


@pytest.mark.parametrize("noise, slope", [(0.0, 1.0), (1.0, 0.5), (2.0, 0.2)])
def test_noise_makes_the_best_denoiser_of_gaussian_rows(noise, slope):
    # E[x | x + noise eps] = x / (1 + noise^2) for standard normal rows.
    X = np.random.RandomState(0).randn(2000, 2)
    settings = {**QUICK, "max_steps": 400, "input_noise": noise, "latent_space": "euclidean"}
    net = Autoencoder(**settings, latent_dim=2).fit(X).module_.net
    x = torch.randn(500, 2)
    with torch.no_grad():
        fitted = (x * net(x)).sum() / x.square().sum()
    assert fitted.item() == pytest.approx(slope, abs=0.06)


def test_noise_is_no_part_of_a_score():
    X = np.random.RandomState(0).randn(100, 3)
    detector = Autoencoder(**{**QUICK, "max_steps": 20}, input_noise=0.5).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X))


def test_encoder_penalty_shrinks_the_encoder_and_only_the_encoder():
    X = np.random.RandomState(0).randn(500, 4)
    plain, mild, strong = (
        Autoencoder(**QUICK, encoder_penalty=penalty).fit(X).module_.net
        for penalty in (0.0, 1e-2, 1e-1)
    )
    sizes = [squared_weights(net.encoder) for net in (plain, mild, strong)]
    assert sizes[2] < sizes[1] < 0.8 * sizes[0]
    # The spherical latent space hides the encoder's scale from the decoder.
    assert squared_weights(strong.decoder) > 0.7 * squared_weights(plain.decoder)


def test_encoder_penalty_adds_the_gradient_of_the_squared_weights():
    def optimizer(penalty):
        detector = Autoencoder(**QUICK, encoder_penalty=penalty)
        module = detector._make_module(3)
        (stage,) = detector._stages(module)
        return module, stage.optimizers["main"]

    module, main = optimizer(0.05)
    encoder, rest = main.param_groups
    weights = {id(layer.weight) for layer in module.net.encoder.layers}
    assert {id(p) for p in encoder["params"]} == weights, "biases are not penalised"
    assert {id(p) for p in rest["params"]} == {id(p) for p in module.parameters()} - weights
    # torch's weight_decay c adds c * w to the gradient: twice the penalty for penalty * |w|^2.
    assert encoder["weight_decay"] == pytest.approx(0.1)
    assert rest["weight_decay"] == 0
    assert type(main) is torch.optim.Adam, "AdamW's decay is not a term of the loss"


def test_more_steps_lower_the_training_error(low_rank):
    few, many = (
        Autoencoder(**{**QUICK, "max_steps": steps}).fit(low_rank[0]).anomaly_score(low_rank[0])
        for steps in (5, 200)
    )
    assert many.mean() < 0.3 * few.mean()


def test_history_counts_steps_and_has_the_loss():
    X = np.random.RandomState(0).randn(60, 3)
    history = Autoencoder(**{**QUICK, "max_steps": 120}).fit(X).history_
    assert history["stage"].unique().tolist() == ["autoencoder"]
    assert history["step"].tolist() == [50, 100, 120]
    assert history["loss"].is_monotonic_decreasing


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"network": (8, 0)}, "hidden_sizes"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_space": "torus"}, "latent_space"),
        ({"input_noise": -0.1}, "input_noise"),
        ({"input_noise": (0.0, 1.0)}, "input_noise"),
        ({"input_noise": (1.0, 0.5)}, "input_noise"),
        ({"input_noise": (0.5, np.inf)}, "input_noise"),
        ({"encoder_penalty": -1.0}, "encoder_penalty"),
        ({"network": MLP(activation="cosine")}, "activation"),
        ({"max_steps": 0}, "max_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_a_bad_value_is_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**parameters).fit(np.random.RandomState(0).randn(20, 3))
