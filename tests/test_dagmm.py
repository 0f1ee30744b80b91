"""DAGMM: the mixture's algebra, what trains, and what scores."""

import warnings

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from skgenad import DAGMM
from skgenad._core.callbacks import DivergenceWarning
from skgenad._tensors.moments import Mixture
from skgenad.autoencoders.dagmm import mixture_energy, regularized

from ._settings import ALL_ROWS

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {**ALL_ROWS, "max_steps": 60, "batch_size": 64, "random_state": 0, "device": "cpu"}


@pytest.fixture
def features():
    """Return rows (57, 3) whose columns have different scales, and soft memberships (57, 4)."""
    rng = np.random.default_rng(3)
    z = torch.from_numpy(rng.normal(size=(57, 3)) * [1.0, 0.1, 5.0] + [0, 10, -3])
    memberships = torch.from_numpy(rng.dirichlet([0.3] * 4, size=57))
    return z, memberships


@pytest.fixture
def module(features):
    """Return an untrained module in evaluation mode, for 5 columns."""
    return DAGMM(**QUICK)._make_module(5).eval()


def factors_of(covariances):
    return torch.linalg.cholesky(regularized(covariances))


# ---- the mixture ----------------------------------------------------------------------------


def test_energy_is_minus_the_log_density_of_the_mixture(features):
    z, memberships = features
    mixture = Mixture.of(z, memberships)
    sigma = regularized(mixture.covariances)
    energy = mixture_energy(z, mixture.weights, mixture.means, torch.linalg.cholesky(sigma))
    logs = [
        np.log(phi) + multivariate_normal(mu, cov).logpdf(z.numpy())
        for phi, mu, cov in zip(
            mixture.weights.numpy(), mixture.means.numpy(), sigma.numpy(), strict=True
        )
    ]
    np.testing.assert_allclose(energy, -logsumexp(logs, axis=0), rtol=1e-10)


def test_hard_memberships_give_the_moments_of_the_classes(features):
    z, _ = features
    labels = torch.arange(len(z)) % 3
    mixture = Mixture.of(z, torch.nn.functional.one_hot(labels, 3).double())
    for k in range(3):
        rows = z[labels == k].numpy()
        assert mixture.weights[k] == pytest.approx(len(rows) / len(z))
        np.testing.assert_allclose(mixture.means[k], rows.mean(axis=0))
        np.testing.assert_allclose(mixture.covariances[k], np.cov(rows.T, bias=True))


@pytest.mark.parametrize("sizes", [[57], [1] * 57, [56, 1], [1, 56], [10, 20, 27]])
def test_mixtures_of_chunks_add_up_to_that_of_all_rows(features, sizes):
    z, memberships = features
    offset = z + 1e6  # summed squares would lose all digits of the second column's variance
    whole = Mixture.of(offset, memberships)
    merged, *rest = map(Mixture.of, offset.split(sizes), memberships.split(sizes))
    for part in rest:
        merged = merged.merge(part)
    torch.testing.assert_close(merged.weights, whole.weights)
    torch.testing.assert_close(merged.means, whole.means)
    torch.testing.assert_close(merged.covariances, whole.covariances, rtol=1e-6, atol=1e-8)


def test_component_without_rows_changes_nothing(features):
    z, memberships = features
    empty = torch.cat([memberships, torch.zeros(len(z), 1)], dim=1)
    energies = []
    for shares in (memberships, empty):
        mixture = Mixture.of(z, shares)
        factors = factors_of(mixture.covariances)
        energies.append(mixture_energy(z, mixture.weights, mixture.means, factors))
    torch.testing.assert_close(energies[1], energies[0])
    half = Mixture.of(z, empty)
    assert all(torch.isfinite(part).all() for part in half.merge(half))


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1.0, 1e8])
def test_singular_covariances_give_finite_energies_and_gradients(scale):
    line = scale * torch.linspace(-1, 1, 20, dtype=torch.double)[:, None] * torch.ones(1, 3)
    line.requires_grad_(True)
    mixture = Mixture.of(line, torch.full((20, 2), 0.5, dtype=torch.double))
    factors = factors_of(mixture.covariances)
    energy = mixture_energy(line, mixture.weights, mixture.means, factors)
    energy.sum().backward()
    assert torch.isfinite(energy).all()
    assert torch.isfinite(line.grad).all()


# ---- the module -----------------------------------------------------------------------------


def test_composite_feature_holds_code_relative_error_and_cosine(module):
    x = torch.randn(6, 5)
    z, squared_error = module(x)
    code, reconstruction = module.net.encode(x), module.net(x)
    error = (x - reconstruction).norm(dim=1)
    cosine = (x * reconstruction).sum(dim=1) / (x.norm(dim=1) * reconstruction.norm(dim=1))
    torch.testing.assert_close(z[:, :-2], code)
    torch.testing.assert_close(z[:, -2], error / x.norm(dim=1))
    torch.testing.assert_close(z[:, -1], cosine)
    torch.testing.assert_close(squared_error, error.square() / 5)


def test_mean_errors_are_the_mean_squared_error_and_the_cosine_dissimilarity():
    module = DAGMM(**QUICK, errors="mean")._make_module(5).eval()
    x = torch.randn(6, 5)
    z, squared_error = module(x)
    reconstruction = module.net(x)
    cosine = (x * reconstruction).sum(dim=1) / (x.norm(dim=1) * reconstruction.norm(dim=1))
    torch.testing.assert_close(z[:, -2], (x - reconstruction).square().mean(dim=1))
    torch.testing.assert_close(z[:, -1], (1 - cosine) / 2)
    torch.testing.assert_close(squared_error, (x - reconstruction).square().mean(dim=1))


def test_loss_is_the_weighted_sum_of_its_parts():
    module = DAGMM(**QUICK, energy_penalty=0.3, covariance_penalty=0.02)._make_module(5)
    parts = module.loss(torch.randn(40, 5))
    expected = parts["reconstruction"] + 0.3 * parts["energy"] + 0.02 * parts["inverse_variances"]
    torch.testing.assert_close(parts["loss"], expected)


@pytest.mark.parametrize("errors", ["relative", "mean"])
def test_the_error_in_the_loss_is_the_mean_over_columns_or_the_papers_sum(errors):
    x, found = torch.randn(40, 5), []
    for reconstruction in ("mean", "sum"):
        torch.manual_seed(0)
        settings = {**QUICK, "errors": errors, "reconstruction": reconstruction}
        module = DAGMM(**settings)._make_module(5).eval()
        found.append(module.loss(x))
        squares = (x - module.net(x)).square()
    torch.testing.assert_close(found[0]["reconstruction"], squares.mean())
    torch.testing.assert_close(found[1]["reconstruction"], squares.sum(dim=1).mean())
    torch.testing.assert_close(found[0]["energy"], found[1]["energy"])
    more = found[1]["loss"] - found[0]["loss"]
    torch.testing.assert_close(more.float(), 4 * found[0]["reconstruction"])


def test_from_paper_has_the_networks_and_lengths_of_the_papers():
    detector = DAGMM.from_paper()
    assert detector.get_params() == DAGMM.from_paper("kddcup99").get_params()
    module = detector._make_module(118)
    widths = [(layer.in_features, layer.out_features) for layer in module.net.encoder.layers]
    assert widths == [(118, 60), (60, 30), (30, 10), (10, 1)]
    layers = [m for m in module.estimation if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(3, 10), (10, 4)]
    assert (detector.energy_penalty, detector.covariance_penalty) == (0.1, 0.005)
    assert (detector.max_steps, detector.batch_size) == (200 * 193, 1024)
    assert (detector.reconstruction, DAGMM().reconstruction) == ("mean", "sum")
    changed = DAGMM.from_paper("kddcup99_cance")
    assert (changed.errors, changed.max_steps) == ("mean", 1930)
    for name, latent_dim, n_columns in (("mnist", 6, 784), ("cifar10", 16, 3072)):
        images = DAGMM.from_paper(name)
        assert images._make_module(n_columns).mu.shape == (4, latent_dim + 2)
        assert images.learning_rate == 1e-4
    with pytest.raises(ValueError, match="experiment='thyroid' is none of those here"):
        DAGMM.from_paper("thyroid")


@pytest.mark.parametrize("part", ["loss", "energy", "inverse_variances"])
def test_gradients_reach_both_networks(module, part):
    module.loss(torch.randn(40, 5))[part].backward()
    # The reconstruction reaches the decoder through the error and the cosine in z.
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_reconstruction_alone_does_not_train_the_estimation_network(module):
    module.loss(torch.randn(40, 5))["reconstruction"].backward()
    assert all(p.grad is None for p in module.estimation.parameters())
    assert all(p.grad is not None for p in module.net.parameters())


def test_energy_has_an_input_gradient(module):
    module.finish(torch.randn(50, 5), None)
    x = torch.randn(6, 5, requires_grad=True)
    energy = module.energy(x)
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    step = 1e-2 * torch.eye(5)[2]
    slope = (module.energy(x + step) - module.energy(x - step)).detach().float() / 2e-2
    torch.testing.assert_close(gradient[:, 2], slope, rtol=2e-2, atol=1e-3)
    assert energy.shape == (6,)


@pytest.mark.parametrize("errors", ["relative", "mean"])
def test_rows_of_zeros_and_far_rows_have_finite_gradients(errors):
    x = torch.cat([torch.zeros(2, 5), torch.full((1, 5), 1e12), torch.randn(5, 5)])
    module = DAGMM(**QUICK, errors=errors)._make_module(5).eval()
    module.loss(x)["energy"].backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_mixture_of_the_training_rows_does_not_depend_on_chunks(module, monkeypatch, chunk):
    rows = torch.randn(50, 5)
    z = module(rows)[0].double()
    expected = Mixture.of(z, module.memberships(z.float()).double())
    monkeypatch.setattr("skgenad._tensors.chunks._MOST_ROWS", chunk)
    module.finish(rows, None)
    tolerance = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(module.phi, expected.weights.float(), **tolerance)
    torch.testing.assert_close(module.mu, expected.means.float(), **tolerance)
    sigma = module.factors @ module.factors.transpose(1, 2)
    torch.testing.assert_close(sigma, regularized(expected.covariances).float(), **tolerance)


def test_dropout_is_on_in_training_and_off_after():
    module = DAGMM(n_components=3)._make_module(5)
    z = torch.randn(200, 6)
    assert not torch.equal(module.train().memberships(z), module.memberships(z))
    assert torch.equal(module.eval().memberships(z), module.memberships(z))


# ---- the detector ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blobs():
    """Return training rows from two blobs, and test rows with anomalies between and around."""
    rng = np.random.default_rng(0)

    def normal(n):
        centres = np.array([[4.0] * 4, [-4.0] * 4])
        return centres[rng.integers(2, size=n)] + rng.normal(size=(n, 4))

    anomalies = rng.uniform(-10, 10, size=(100, 4))
    return normal(400), np.vstack([normal(200), anomalies]), np.repeat([0, 1], [200, 100])


def test_planted_anomalies_are_found(blobs):
    train, test, y = blobs
    detector = DAGMM(max_steps=300, batch_size=128, random_state=0, device="cpu").fit(train)
    assert roc_auc_score(y, detector.anomaly_score(test)) > 0.9
    assert detector.history_["loss"].iloc[-1] < detector.history_["loss"].iloc[0]


def test_mixture_that_scores_is_that_of_all_training_rows(blobs):
    train, _, _ = blobs
    detector = DAGMM(**QUICK).fit(train)
    module = detector.module_
    rows = torch.from_numpy(detector.units_.to_standard(train))
    with torch.no_grad():
        mixture = module.mixture(module(rows)[0])
        factors = factors_of(mixture.covariances)
        z = module(rows)[0].double()
        energy = mixture_energy(z, mixture.weights, mixture.means, factors)
    np.testing.assert_allclose(detector.anomaly_score(train), energy, rtol=1e-3, atol=1e-3)


def test_same_seed_same_scores_and_another_seed_others(blobs):
    train, test, _ = blobs
    scores = [DAGMM(**QUICK).fit(train).score_samples(test) for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    other = DAGMM(**QUICK | {"random_state": 1}).fit(train).score_samples(test)
    assert not np.allclose(other, scores[0])


def test_score_of_a_row_does_not_depend_on_other_rows(blobs):
    train, test, _ = blobs
    detector = DAGMM(**QUICK).fit(train)
    scores = detector.score_samples(test)
    alone = np.concatenate([detector.score_samples(row[None]) for row in test])
    np.testing.assert_array_equal(alone, scores)
    np.testing.assert_array_equal(detector.score_samples(test[::-1]), scores[::-1])


@pytest.mark.parametrize(
    "X",
    [
        np.random.RandomState(0).randn(300, 1),
        np.random.RandomState(0).randn(2, 3),
        np.random.RandomState(0).randn(20, 3),
        np.ones((30, 3)),
        np.c_[np.random.RandomState(0).randn(100, 2), np.full(100, 7.0)],
        np.repeat(np.random.RandomState(0).randn(2, 3), 50, axis=0),
    ],
    ids=["one column", "two rows", "n < batch", "all constant", "constant column", "duplicates"],
)
def test_odd_data_give_finite_scores_without_a_warning(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = DAGMM(**QUICK).fit(X)
    far = np.vstack([X, np.full((1, X.shape[1]), 1e30), np.full((1, X.shape[1]), -1e30)])
    assert np.isfinite(detector.score_samples(far)).all()
    assert np.isfinite(detector.history_["loss"]).all()


def test_batch_of_one_row_continues_training(blobs):
    train, test, _ = blobs
    detector = DAGMM(**QUICK).fit(train).partial_fit(train[:1])
    assert np.isfinite(detector.score_samples(test)).all()


def test_continued_training_moves_the_mixture_with_the_networks(blobs):
    train, _, _ = blobs
    detector = DAGMM(**QUICK).fit(train)
    before = detector.module_.mu.clone()
    detector.partial_fit(train)
    rows = torch.from_numpy(detector.units_.to_standard(train))
    with torch.no_grad():
        mixture = detector.module_.mixture(detector.module_(rows)[0])
    assert not torch.allclose(detector.module_.mu, before)
    torch.testing.assert_close(detector.module_.mu, mixture.means.float(), rtol=1e-4, atol=1e-5)


def test_runaway_training_is_reported_and_scores_stay_finite(blobs):
    train, test, _ = blobs
    settings = QUICK | {"max_steps": 200, "learning_rate": 1e30}
    with pytest.warns(DivergenceWarning):
        detector = DAGMM(**settings).fit(train)
    assert np.isfinite(detector.score_samples(test)).all()


def test_networks_have_the_sizes_that_were_asked():
    detector = DAGMM(
        network=(9, 8), latent_dim=3, n_components=5, estimation_sizes=(7, 6), dropout=0.0
    )
    module = detector._make_module(4)
    encoder = [layer.out_features for layer in module.net.encoder.layers]
    estimation = [m.out_features for m in module.estimation if isinstance(m, torch.nn.Linear)]
    assert encoder == [9, 8, 3]
    assert estimation == [7, 6, 5]
    assert module.memberships(torch.randn(2, 5)).sum(dim=1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["network", "estimation_sizes"])
def test_width_of_zero_is_refused(blobs, name):
    with pytest.raises(ValueError, match=r"sizes=\(10, 0\) must hold"):
        DAGMM(**QUICK, **{name: (10, 0)}).fit(blobs[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 1, "dropout": 0.1}, "dropout=0.1 would be ignored: all rows belong"),
        ({"n_components": 1, "estimation_sizes": (5,)}, "estimation_sizes=.* would be ignored"),
        ({"estimation_sizes": (), "dropout": 0.1}, "has no layer to drop from"),
        ({"energy_penalty": 0, "covariance_penalty": 0, "dropout": 0.1}, "is not trained"),
    ],
)
def test_what_would_be_ignored_is_refused(blobs, settings, message):
    with pytest.raises(ValueError, match=message):
        DAGMM(**QUICK, **settings).fit(blobs[0])
