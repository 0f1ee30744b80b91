"""VAE: bounds against exact likelihoods, limit cases, densities in units, samples."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from skgenad import VAE
from skgenad._tensors.networks import Networks, Perceptrons
from skgenad.autoencoders.vae import VAEModel, normal_kl
from skgenad.networks import Conv28, Conv32

from ._settings import ALL_ROWS

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {
    **ALL_ROWS,
    "network": (32,),
    "latent_dim": 2,
    "max_steps": 200,
    "warm_up_steps": 100,
    "learning_rate": 5e-3,
    "random_state": 0,
    "device": "cpu",
}


def factor_rows(n, seed=0, d=6):
    """Rows of a Gaussian with two strong factors and noise."""
    rng = np.random.RandomState(seed)
    loadings = np.random.RandomState(99).randn(2, d) * [[2.0], [1.0]]
    return rng.randn(n, 2) @ loadings + 0.5 * rng.randn(n, d) + np.arange(d)


def perceptrons(d, hidden_sizes, activation):
    return Networks(Perceptrons(hidden_sizes, activation), (d,))


def ring_rows(n, seed=0):
    rng = np.random.RandomState(seed)
    t = 2 * np.pi * rng.rand(n)
    return np.c_[np.cos(t), np.sin(t)] + 0.1 * rng.randn(n, 2)


def probabilistic_pca(X, n_components, n_importance_samples=8, score_type="likelihood"):
    """Probabilistic PCA and the linear VAE, in float64, that is the same model.

    With loadings W and noise sigma^2, W^T W diagonal, the posterior of z given x is Gaussian with
    the mean M^-1 W^T (x - mu) and the covariance sigma^2 M^-1, where M = W^T W + sigma^2 I.
    """
    pca = PCA(n_components).fit(X)
    variance = pca.noise_variance_
    loadings = pca.components_.T * np.sqrt(pca.explained_variance_ - variance)
    inverse = 1 / (pca.explained_variance_)  # of M, which is diagonal
    module = VAEModel(
        perceptrons(X.shape[1], (), "relu"),
        n_components,
        score_type=score_type,
        n_importance_samples=n_importance_samples,
    ).double()
    to_mean = inverse[:, None] * loadings.T
    nothing = np.zeros_like(to_mean)
    weights = {
        "encoder.layers.0.weight": np.r_[to_mean, nothing],
        "encoder.layers.0.bias": np.r_[-to_mean @ pca.mean_, np.log(variance * inverse)],
        "decoder.layers.0.weight": loadings,
        "decoder.layers.0.bias": pca.mean_,
        "variance": np.array([variance]),
    }
    module.load_state_dict(
        {**module.state_dict(), **{k: torch.from_numpy(v) for k, v in weights.items()}}
    )
    return pca, module.eval()


def set_sigma(module, sigma):
    module.variance.fill_(sigma**2)


# ---- the linear Gaussian case: probabilistic PCA ---------------------------------------------


@pytest.mark.parametrize("n_importance_samples", [1, 2, 7, 64])
@pytest.mark.parametrize("n_components", [1, 2, 4])
@torch.no_grad()
def test_bounds_are_the_log_likelihood_where_the_posterior_is_exact(
    n_components, n_importance_samples
):
    X = factor_rows(300)
    pca, module = probabilistic_pca(X, n_components, n_importance_samples)
    x = torch.from_numpy(factor_rows(50, seed=1) * 3)
    exact = pca.score_samples(x.numpy())
    np.testing.assert_allclose(module.elbo(x), exact, rtol=1e-10)
    np.testing.assert_allclose(module.log_prob(x), exact, rtol=1e-10)
    np.testing.assert_allclose(module.energy(x), -exact, rtol=1e-10)


def misplace(pca, module, shift, widen):
    """Move posterior means by `shift` of their deviations, and log variances by `widen`."""
    deviation = (module.variance / torch.from_numpy(pca.explained_variance_)).sqrt()
    module.encoder.layers[0].bias += torch.cat([torch.tensor(shift) * deviation, widen])


@torch.no_grad()
def test_the_importance_weighted_bound_rises_with_k_to_the_exact_log_likelihood():
    pca, module = probabilistic_pca(factor_rows(300), 2)
    misplace(pca, module, [0.8, -0.7], torch.tensor([0.5, -0.3]))
    x = torch.from_numpy(factor_rows(100, seed=1))
    noise, bounds = torch.randn(512, 2, dtype=torch.float64), []
    for size in (1, 2, 4, 16, 64, 256):
        parts = []
        for module.noise in noise.split(size):
            parts.append(module.log_prob(x).mean().item())
        bounds.append(np.mean(parts))
    exact = pca.score_samples(x.numpy()).mean()
    assert (np.diff(bounds) > 0).all()
    assert exact - bounds[0] > 0.4
    assert bounds[-1] == pytest.approx(exact, abs=0.1)


@torch.no_grad()
def test_the_elbo_falls_short_of_the_log_likelihood_by_the_divergence_of_the_posteriors():
    pca, module = probabilistic_pca(factor_rows(300), 2)
    shift, widen = [0.4, -0.2], torch.tensor([0.7, -0.3])
    misplace(pca, module, shift, widen)
    # In units of the exact posterior's deviations.
    wrong = torch.distributions.Normal(torch.tensor(shift), (0.5 * widen).exp())
    right = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    divergence = torch.distributions.kl_divergence(wrong, right).sum().item()
    # Log weights are quadratic in the noise here: points with its mean and covariance will do.
    module.noise = 2**0.5 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]]).double()
    x = torch.from_numpy(factor_rows(20, seed=1))
    np.testing.assert_allclose(
        pca.score_samples(x.numpy()) - module.elbo(x).numpy(), divergence, rtol=1e-5
    )


@pytest.fixture(scope="module")
def linear():
    """A linear VAE that was trained, and probabilistic PCA of the rows in standard units."""
    X = factor_rows(1000)
    settings = {"network": (), "max_steps": 1500, "learning_rate": 3e-2}
    detector = VAE(**{**QUICK, **settings}).fit(X)
    return detector, PCA(2).fit(detector.units_.to_standard(X).astype(np.float64))


def test_training_finds_probabilistic_pca(linear):
    detector, pca = linear
    X = factor_rows(500, seed=1)
    exact = pca.score_samples(detector.units_.to_standard(X).astype(np.float64))
    bound = detector.log_density(X)
    np.testing.assert_allclose(bound, exact - detector.units_.log_scale, atol=0.3)
    assert bound.mean() == pytest.approx((exact - detector.units_.log_scale).mean(), abs=0.05)
    assert detector.sigma_ == pytest.approx(pca.noise_variance_**0.5, rel=0.02)


def test_samples_of_a_linear_vae_have_the_covariance_of_probabilistic_pca(linear):
    detector, pca = linear
    samples = detector.sample(20_000, random_state=0)
    samples = detector.units_.to_standard(samples).astype(np.float64)
    np.testing.assert_allclose(np.cov(samples.T), pca.get_covariance(), atol=0.06)
    np.testing.assert_allclose(samples.mean(axis=0), pca.mean_, atol=0.04)


# ---- the parts of the bound ------------------------------------------------------------------


def test_the_divergence_in_closed_form_is_that_of_torch_and_of_monte_carlo():
    mean, log_variance = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    closed = normal_kl(mean, log_variance)
    torch.testing.assert_close(closed, torch.distributions.kl_divergence(q, p).sum(dim=1))
    z = q.sample((100_000,))
    sampled = (q.log_prob(z) - p.log_prob(z)).sum(dim=2).mean(dim=0)
    torch.testing.assert_close(sampled, closed, rtol=0.03, atol=0.03)
    torch.testing.assert_close(normal_kl(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))


@torch.no_grad()
def test_weights_are_those_of_the_densities_written_out():
    module = (
        VAEModel(perceptrons(3, (8,), "tanh"), 2, sigma=0.7, n_importance_samples=4).double().eval()
    )
    x = torch.randn(6, 3).double()
    mean, log_variance = module.posterior(x)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    for noise, log_weight in zip(module.noise, module.log_weights(x), strict=True):
        z = mean + (0.5 * log_variance).exp() * noise
        likelihood = torch.distributions.Normal(module.decoder(z), 0.7).log_prob(x).sum(dim=1)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1)
        expected = likelihood + prior - q.log_prob(z).sum(dim=1)
        # 0.7 was squared in float32.
        torch.testing.assert_close(log_weight, expected, rtol=1e-6, atol=1e-6)
    weights = torch.stack(list(module.log_weights(x)))
    torch.testing.assert_close(module.elbo(x), weights.mean(dim=0))
    torch.testing.assert_close(module.log_prob(x), weights.exp().mean(dim=0).log())


def test_the_loss_is_the_negative_elbo():
    # The same expectation, once with the divergence in closed form and once by its samples.
    module = VAEModel(perceptrons(3, (8,), "tanh"), 2, sigma=0.7, n_importance_samples=4000).eval()
    x = torch.randn(1, 3)
    with torch.no_grad():
        module.encoder.layers[-1].bias += torch.tensor([1.0, -1.0, -1.0, 0.5])
        misfit, kl = module.negative_elbo_parts(x.expand(20_000, 3))
        assert kl > 1
        assert -module.elbo(x).item() == pytest.approx((misfit + kl).item(), abs=0.1)


@pytest.fixture(scope="module")
def ring():
    """A VAE of the ring; its second column is in another unit."""
    settings = {"network": (64, 64), "max_steps": 600, "score_type": "likelihood"}
    settings |= {"n_importance_samples": 256}
    return VAE(**{**QUICK, **settings}).fit(ring_rows(1000) * [1.0, 100.0] + [0.0, 1000.0])


@torch.no_grad()
def test_the_elbo_is_never_above_the_importance_weighted_bound(ring):
    module = copy.deepcopy(ring.module_)
    module.noise = module.noise[:10]
    x = torch.randn(1000, 2) * 2
    gap = module.log_prob(x) - module.elbo(x)
    assert gap.min() > 0 and gap.max() < 1e6
    module.noise = module.noise[:1]
    torch.testing.assert_close(module.log_prob(x), module.elbo(x), rtol=0, atol=0)


@torch.no_grad()
def test_the_bound_of_a_trained_vae_rises_with_k(ring):
    module, means = copy.deepcopy(ring.module_), []
    x = torch.from_numpy(ring_rows(300, seed=1).astype(np.float32))
    noise = module.noise
    for size in (1, 4, 16, 64, 256):
        parts = []
        for module.noise in noise.split(size):
            parts.append(module.log_prob(x).mean().item())
        means.append(np.mean(parts))
    assert (np.diff(means) > 0).all() and means[-1] - means[0] > 0.05


def test_the_noise_of_few_samples_is_the_first_of_that_of_many_and_training_is_the_same():
    X = ring_rows(100)
    settings = {**QUICK, "max_steps": 20, "score_type": "elbo"}
    few, many = (VAE(**settings, n_importance_samples=k).fit(X).module_ for k in (3, 20))
    assert torch.equal(many.noise[:3], few.noise) and many.noise.shape == (20, 2)
    for one, other in zip(few.parameters(), many.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(few.variance, many.variance)


def test_noise_looks_like_noise():
    noise = VAEModel(perceptrons(3, (), "relu"), 50, n_importance_samples=400).noise
    assert noise.mean().abs() < 0.03 and abs(noise.std() - 1) < 0.03
    assert (noise @ noise.T / 50 - torch.eye(400)).abs().max() < 0.9


@pytest.mark.parametrize("n_samples", [1, 5])
def test_the_noise_stays_when_training_goes_on(n_samples):
    X = ring_rows(100)
    detector = VAE(
        **{**QUICK, "max_steps": 5}, score_type="elbo", n_importance_samples=n_samples
    ).fit(X)
    noise = detector.module_.noise.clone()
    assert torch.equal(detector.partial_fit(X).module_.noise, noise)
    assert not torch.equal(detector.set_params(random_state=1).fit(X).module_.noise, noise)


# ---- scores ----------------------------------------------------------------------------------


def test_the_reconstruction_score_is_the_error_through_the_mean_of_the_posterior():
    X = factor_rows(100)
    detector = VAE(**QUICK, score_type="reconstruction").fit(X)
    x = torch.from_numpy(detector.units_.to_standard(X))
    with torch.no_grad():
        mean = detector.module_.encoder(x)[:, :2]
        error = (x - detector.module_.decoder(mean)).square().mean(dim=1)
    np.testing.assert_allclose(detector.score_samples(X), -error.numpy(), rtol=1e-4, atol=1e-6)


def test_score_types_are_those_of_one_model():
    X, fresh = factor_rows(200), factor_rows(50, seed=1)
    scores = {}
    for score_type in ("reconstruction", "elbo", "likelihood"):
        detector = VAE(**QUICK, score_type=score_type).fit(X)
        scores[score_type] = detector.score_samples(fresh)
        scores[f"{score_type}: density"] = detector.log_density(fresh)
    log_scale = detector.units_.log_scale
    np.testing.assert_allclose(scores["likelihood: density"], scores["likelihood"] - log_scale)
    for score_type in ("reconstruction", "elbo"):
        np.testing.assert_array_equal(
            scores[f"{score_type}: density"], scores["likelihood: density"]
        )
    assert (scores["elbo"] < scores["likelihood"]).all()
    assert not np.allclose(scores["elbo"], scores["likelihood"])


def test_what_is_set_after_a_fit_changes_no_score_of_it():
    X = factor_rows(50)
    detector = VAE(**{**QUICK, "max_steps": 5}, score_type="elbo", sigma=0.5).fit(X)
    scores, samples = detector.score_samples(X), detector.sample(3, random_state=0)
    detector.set_params(score_type="likelihood", sigma=2.0, n_importance_samples=2, latent_dim=5)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    np.testing.assert_array_equal(detector.sample(3, random_state=0), samples)
    assert detector.sigma_ == pytest.approx(0.5)


@pytest.mark.parametrize("score_type", ["reconstruction", "elbo", "likelihood"])
def test_planted_anomalies_score_above_normal_rows(score_type):
    rng = np.random.RandomState(1)
    t = rng.rand(700) * 2 * np.pi
    ring = np.c_[np.cos(t), np.sin(t), np.cos(2 * t)] + 0.05 * rng.randn(700, 3)
    anomalies = rng.randn(60, 3)
    detector = VAE(**{**QUICK, "max_steps": 400}, score_type=score_type).fit(ring[:500])
    truth = np.r_[np.zeros(200), np.ones(60)]
    scores = detector.anomaly_score(np.r_[ring[500:], anomalies])
    assert roc_auc_score(truth, scores) > 0.9


@pytest.mark.parametrize("score_type", ["reconstruction", "elbo", "likelihood"])
def test_far_rows_have_finite_scores(score_type):
    X = factor_rows(100)
    detector = VAE(**{**QUICK, "max_steps": 50}, score_type=score_type).fit(X)
    far = np.full((1, 6), 3.0) * np.logspace(0, 300, 30)[:, None]
    scores = detector.score_samples(far)
    assert np.isfinite(scores).all() and (scores[10:] < scores[0]).all()


@pytest.mark.parametrize(
    "d, latent_dim, sizes", [(1, 1, ()), (3, 5, (7,)), (17, 40, (33,)), (101, 3, ())]
)
def test_a_density_depends_on_its_row_alone(d, latent_dim, sizes):
    settings = {**QUICK, "network": sizes, "latent_dim": latent_dim, "max_steps": 5}
    rng = np.random.RandomState(0)
    detector = VAE(**settings, score_type="likelihood", n_importance_samples=3)
    detector.fit(rng.randn(40, d))
    X = 3 * rng.randn(1200, d)
    density = detector.log_density(X)
    order = rng.permutation(len(X))
    np.testing.assert_array_equal(detector.log_density(X[order]), density[order])
    for index in ([5], [1199, 3], [7] * 9):
        np.testing.assert_array_equal(detector.log_density(X[index]), density[index])


# ---- density in the units of X ---------------------------------------------------------------


def test_a_density_integrates_to_one(ring):
    xs, ys = np.linspace(-3, 3, 50), np.linspace(700, 1300, 50)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    density = np.exp(ring.log_density(grid))
    # The mean weight is unbiased, so this holds to the accuracy of its samples.
    assert density.sum() * (xs[1] - xs[0]) * (ys[1] - ys[0]) == pytest.approx(1, abs=0.05)


def test_a_density_changes_with_the_units_as_densities_do():
    X, factors = factor_rows(100), np.array([1.0, 1024.0, 2.0**-20, 1.0, 1.0, 2.0])
    settings = {**QUICK, "max_steps": 20}
    plain, scaled = VAE(**settings).fit(X), VAE(**settings).fit(X * factors)
    np.testing.assert_array_equal(scaled.score_samples(X * factors), plain.score_samples(X))
    np.testing.assert_allclose(
        scaled.log_density(X * factors), plain.log_density(X) - np.log(factors).sum(), rtol=1e-12
    )


def test_columns_that_are_constant_have_no_part_in_a_density():
    X = factor_rows(200)
    wide = np.c_[X, np.full(200, 7.0), np.zeros(200)]
    detector = VAE(**QUICK, score_type="likelihood").fit(wide)
    scores, density = detector.score_samples(wide), detector.log_density(wide)
    np.testing.assert_allclose(density, scores - detector.units_.log_scale)
    off = wide + [0, 0, 0, 0, 0, 0, 5.0, 0]
    np.testing.assert_array_equal(detector.log_density(off), density)
    # Off the constant is more than 1 in standard units, and counts as an error of that.
    cost = (1 + np.log1p(5 / 7)) ** 2 / (2 * detector.sigma_**2)
    np.testing.assert_allclose(scores - detector.score_samples(off), cost, rtol=1e-6)
    assert cost > 0.5
    assert (detector.sample(20)[:, 6:] == [7.0, 0.0]).all()


def test_constant_columns_do_not_make_the_noise_look_small():
    X = factor_rows(500)
    settings = {**QUICK, "max_steps": 400}
    narrow = VAE(**settings).fit(X)
    wide = VAE(**settings).fit(np.c_[X, np.ones((500, 12))])
    assert wide.sigma_ == pytest.approx(narrow.sigma_, rel=0.1)
    assert wide.log_density(np.c_[X, np.ones((500, 12))]).mean() == pytest.approx(
        narrow.log_density(X).mean(), abs=0.3
    )


@pytest.mark.parametrize("standardize", [True, False])
def test_constants_are_found_with_and_without_standard_units(standardize):
    X = np.c_[ring_rows(60), np.full(60, 7.0)]
    detector = VAE(**{**QUICK, "max_steps": 50}, standardize=standardize).fit(X)
    assert detector.module_.varies.tolist() == [True, True, False]
    assert (detector.sample(5)[:, 2] == 7).all()
    off = X + [0, 0, 0.5]
    assert (detector.score_samples(off) < detector.score_samples(X)).all()
    np.testing.assert_array_equal(detector.log_density(off), detector.log_density(X))


def test_a_table_of_constants_has_a_model():
    detector = VAE(**{**QUICK, "max_steps": 50}).fit(np.ones((20, 3)))
    assert np.isfinite(detector.log_density(np.ones((2, 3)))).all()
    # The mass of a point; the bound is 0 but for what q lacks of the prior.
    assert detector.log_density(np.ones((1, 3)))[0] == pytest.approx(0, abs=0.2)
    assert detector.predict([[1, 1, 2]]) == -1
    assert (detector.sample(3) == 1).all()


# ---- sigma and the penalty -------------------------------------------------------------------


def test_a_fixed_sigma_stays():
    detector = VAE(**QUICK, sigma=0.3).fit(ring_rows(100))
    assert detector.sigma_ == pytest.approx(0.3)
    assert VAE(**QUICK).fit(ring_rows(100)).sigma_ != pytest.approx(0.3, abs=1e-3)


def test_the_learned_sigma_is_the_error_through_the_posterior():
    X = factor_rows(2000)
    detector = VAE(**{**QUICK, "max_steps": 500}).fit(X)
    module, x = detector.module_, torch.from_numpy(detector.units_.to_standard(X))
    with torch.no_grad():
        mean, log_variance = module.posterior(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (x - module.decode(z)).square().mean().sqrt().item()
    assert detector.sigma_ == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("unit", [1.0, 10.0])
def test_the_learned_sigma_is_the_noise_in_the_data(unit):
    rng = np.random.RandomState(0)
    X = unit * (rng.randn(1000, 1) * np.ones(6) + 0.2 * rng.randn(1000, 6))
    settings = {"max_steps": 500, "learning_rate": 1e-2, "latent_dim": 1, "standardize": False}
    detector = VAE(**{**QUICK, **settings}).fit(X)
    assert detector.sigma_ == pytest.approx(0.2 * unit, rel=0.1)


def test_the_average_error_weighs_all_batches_at_first_and_the_last_ones_later():
    module = VAEModel(perceptrons(1, (), "relu"), 1)
    for step, error in enumerate((4.0, 2.0, 9.0), start=1):
        module.n_steps += 1
        module._average(torch.tensor(error))
        assert module.variance.item() == pytest.approx(np.mean([4.0, 2.0, 9.0][:step]))
    module.n_steps += 2000
    for _ in range(2000):
        module._average(torch.tensor(0.25))
    assert module.variance.item() == pytest.approx(0.25, rel=1e-3)
    for _ in range(10_000):
        module._average(torch.tensor(0.0))
    assert 0 < module.variance.item() < 1e-9


@pytest.mark.parametrize("penalty", [0.0, 0.5, 3.0])
def test_the_penalty_weighs_the_divergence_in_the_loss(penalty):
    settings = {**QUICK, "max_steps": 60, "warm_up_steps": 0 if penalty else 200}
    history = VAE(**settings, kl_penalty=penalty).fit(ring_rows(100)).history_
    assert {"stage", "epoch", "step", "loss", "misfit", "kl", "seconds"} == set(history)
    np.testing.assert_allclose(
        history["loss"], history["misfit"] + penalty * history["kl"], rtol=1e-5
    )


def test_the_weight_of_the_divergence_rises_in_a_line_and_stays():
    detector = VAE(**{**QUICK, "warm_up_steps": 4}, kl_penalty=2.0)
    module, weights = detector._make_module(3).train(), []
    for _ in range(6):
        parts = module.loss(torch.randn(8, 3))
        weights.append(((parts["loss"] - parts["misfit"]) / parts["kl"]).item())
    np.testing.assert_allclose(weights, [0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rtol=1e-3)


def test_the_divergence_keeps_its_weight_when_training_goes_on():
    X = ring_rows(100)
    detector = VAE(**{**QUICK, "max_steps": 30, "warm_up_steps": 10}).fit(X).partial_fit(X)
    last = detector.history_.iloc[-1]
    assert last["loss"] == pytest.approx(last["misfit"] + last["kl"], rel=1e-5)


def test_a_warm_up_keeps_the_posterior_from_collapsing():
    # A ring's columns are uncorrelated: a Gaussian is the best that a nearly linear decoder can do.
    X, fresh = ring_rows(1000), ring_rows(300, seed=1)
    settings = {**QUICK, "network": (64, 64), "max_steps": 300, "learning_rate": 2e-3}
    cold, warm = (VAE(**{**settings, "warm_up_steps": n}).fit(X) for n in (0, 150))
    assert cold.sigma_ > 0.9 and warm.sigma_ < 0.6
    assert warm.log_density(fresh).mean() > cold.log_density(fresh).mean() + 0.3


def test_a_large_penalty_pulls_the_posterior_to_the_prior():
    X = factor_rows(500)
    settings = {**QUICK, "warm_up_steps": 50}
    kl = [VAE(**settings, kl_penalty=b).fit(X).history_["kl"].iloc[-1] for b in (0.1, 1.0, 100.0)]
    assert kl[0] > kl[1] > 1 and kl[2] < 0.05


def test_the_penalty_has_no_part_in_scores():
    X = factor_rows(50)
    settings = {**QUICK, "max_steps": 1}
    one, other = (VAE(**settings, kl_penalty=penalty).fit(X) for penalty in (1.0, 2.0))
    other.module_.load_state_dict(one.module_.state_dict())
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))


# ---- samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_samples_have_the_shape_asked_for(n_samples):
    samples = VAE(**{**QUICK, "max_steps": 5}).fit(factor_rows(50)).sample(n_samples)
    assert samples.shape == (n_samples, 6) and samples.dtype == np.float64
    assert np.isfinite(samples).all()


def test_samples_look_like_the_rows(ring):
    X = ring_rows(2000, seed=1)
    samples = (ring.sample(2000, random_state=0) - [0.0, 1000.0]) / [1.0, 100.0]
    np.testing.assert_allclose(samples.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(samples.std(axis=0), X.std(axis=0), rtol=0.2)
    gaussian = np.random.RandomState(0).randn(2000, 2) * X.std(axis=0)
    off = [np.median(np.abs(np.hypot(*Z.T) - 1)) for Z in (samples, gaussian)]
    assert off[0] < 0.7 * off[1]


def test_samples_have_the_noise_of_the_likelihood():
    detector = VAE(**{**QUICK, "max_steps": 50}).fit(ring_rows(200))
    rows = []
    for sigma in (1e-5, 5.0):
        set_sigma(detector.module_, sigma)
        rows.append(detector.units_.to_standard(detector.sample(4000, random_state=0)))
    assert (rows[1] - rows[0]).std() == pytest.approx(5, rel=0.05)


def test_sampling_is_seeded_and_changes_no_state(global_rng_untouched):
    detector = VAE(**{**QUICK, "max_steps": 5}).fit(factor_rows(50))
    before = pickle.dumps(detector)
    one, same, other = (detector.sample(5, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    detector.log_density(factor_rows(50))
    assert pickle.dumps(detector) == before


@pytest.mark.parametrize("n_samples", [0, -1, 2.5])
def test_a_bad_number_of_samples_is_refused(n_samples):
    with pytest.raises((ValueError, TypeError), match="n_samples"):
        VAE(**{**QUICK, "max_steps": 1}).fit(factor_rows(5)).sample(n_samples)


# ---- the rest --------------------------------------------------------------------------------


def test_sizes_shape_the_networks():
    module = VAE(**{**QUICK, "network": (16, 8), "latent_dim": 3})._make_module(5)
    assert [tuple(layer.weight.shape) for layer in module.encoder.layers] == [
        (16, 5),
        (8, 16),
        (6, 8),
    ]
    assert [tuple(layer.weight.shape) for layer in module.decoder.layers] == [
        (8, 3),
        (16, 8),
        (5, 16),
    ]


def test_more_steps_raise_the_bound():
    X = factor_rows(300)
    few, many = (VAE(**{**QUICK, "max_steps": n}).fit(X).log_density(X).mean() for n in (5, 200))
    assert many > few + 0.5


def test_a_bound_of_gaussian_noise_is_near_its_entropy():
    X = np.random.RandomState(0).randn(4000, 3)
    detector = VAE(**QUICK).fit(X)
    entropy = 1.5 * math.log(2 * math.pi * math.e)
    fresh = np.random.RandomState(1).randn(4000, 3)
    assert -detector.log_density(fresh).mean() == pytest.approx(entropy, abs=0.1)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"sigma": 0.0}, "sigma.*Got 0.0 instead"),
        ({"sigma": "learned"}, "sigma.*Got 'learned' instead"),
        ({"kl_penalty": -1.0}, "kl_penalty.*Got -1.0 instead"),
        ({"score_type": "error"}, "score_type.*Got 'error' instead"),
        ({"n_importance_samples": 0}, "n_importance_samples.*Got 0 instead"),
        ({"n_importance_samples": 4}, "n_importance_samples=4 would be ignored: score_type="),
        ({"kl_penalty": 0}, "warm_up_steps=100 would be ignored: kl_penalty=0"),
    ],
)
def test_a_bad_value_is_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        VAE(**{**QUICK, **parameters}).fit(factor_rows(20))


# ---- a paper's settings ------------------------------------------------------------------------


@pytest.mark.parametrize("score_type", ["reconstruction", "likelihood"])
@pytest.mark.parametrize("experiment", ["mnist", "cifar10"])
def test_from_paper_is_the_baseline_of_nae(experiment, score_type):
    network = {"mnist": Conv28, "cifar10": Conv32}[experiment]
    assert VAE.from_paper(experiment).part("network") == network()
    detector = VAE.from_paper(
        experiment,
        network=network(width=1 / 32),
        score_type=score_type,
        max_steps=2,
        batch_size=4,
        warm_up_steps=0,
        random_state=0,
        device="cpu",
    )
    X = np.random.RandomState(0).rand(6, *detector.image_shape)
    assert np.isfinite(detector.fit(X).score_samples(X)).all()
    assert (detector.latent_dim, detector.learning_rate) == (32, 1e-4)
    with pytest.raises(ValueError, match="mnist, cifar10"):
        VAE.from_paper("celeba")
