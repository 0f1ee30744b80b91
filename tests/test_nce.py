"""Noise-contrastive estimation: moments, noise, augmentation, and who gets which gradient."""

import numpy as np
import pytest
import torch
from scipy import stats

from skgenad._tensors.moments import TiedMoments
from skgenad._tensors.seeds import generator_on
from skgenad.autoencoders._composite import moments_of
from skgenad.autoencoders._nce import (
    CONDITION_FLOOR,
    GaussianNoise,
    NoiseContrast,
    lognormal_mode,
    truncated_normal,
)

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture
def features():
    """Return features (300, 4) of different scales that depend on each other; the last positive."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) * [1, 10, 0.1, 0.01]
    z[:, 2:] = np.exp(z[:, 2:]) * [1, 1e-3]
    return torch.from_numpy(z)


def contrast(features, augment=False, **parameters):
    settings = {"noise_ratio": 3, "noise_scale": 1.5, **parameters}
    d = features.shape[1]
    density = NoiseContrast(d, hidden_sizes=(8,), activation="silu", augment=augment, **settings)
    density.fit_noise(moments_of(features))
    return density


def parent(mode, scale, upper):
    """Return scipy's N(mode, scale^2) cut to [0, upper]."""
    return stats.truncnorm(-mode / scale, (upper - mode) / scale, loc=mode, scale=scale)


# ---- moments --------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[300], [1] * 300, [1, 299], [7] * 42 + [6], [150, 150]], ids=len)
def test_moments_of_any_split_are_those_of_all_rows(features, sizes):
    z = features + 1e3  # far from 0, where sums of squares would cancel
    total = None
    for chunk in z.split(sizes):
        part = TiedMoments.of(chunk, torch.ones(len(chunk), 1, dtype=torch.double))
        total = part if total is None else total.merge(part)
    mean = z.mean(dim=0)
    covariance = (z - mean).T @ (z - mean) / len(z)
    torch.testing.assert_close(total.means[0], mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(total.covariance, covariance, rtol=1e-10, atol=1e-10)


def test_chunks_of_rows_are_summed(features, monkeypatch):
    at_once = moments_of(features)
    monkeypatch.setattr("skgenad._tensors.chunks._MOST_ROWS", 11)
    by_chunks = moments_of(features)
    assert at_once.counts == by_chunks.counts == 300
    torch.testing.assert_close(by_chunks.covariance, at_once.covariance, rtol=1e-10, atol=1e-12)


# ---- the mode and the truncated normal ------------------------------------------------------


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 0.1), (-3.0, 1.0), (2.0, 2.0), (-30.0, 0.5)])
def test_the_mode_follows_from_the_moments_of_a_log_normal(mu, sigma):
    law = stats.lognorm(sigma, scale=np.exp(mu))
    mean, variance = torch.tensor([law.mean(), law.var()], dtype=torch.double)
    mode = lognormal_mode(mean, variance).item()
    assert mode == pytest.approx(np.exp(mu - sigma**2))
    at = law.pdf(mode * np.array([0.99, 1.0, 1.01]))
    assert at[1] > max(at[0], at[2])


def test_the_mode_of_a_constant_is_the_constant():
    mean = torch.tensor([0.0, 2.0], dtype=torch.double)
    assert lognormal_mode(mean, torch.zeros(2)).tolist() == [0.0, 2.0]
    assert lognormal_mode(mean[:1], torch.ones(1, dtype=torch.double)).tolist() == [0.0]


def test_truncated_normals_have_scipys_law():
    mode, scale = np.array([0.3, 2.0]), np.array([1.0, 0.4])
    torch.manual_seed(0)
    drawn = truncated_normal(4000, torch.from_numpy(mode), torch.from_numpy(scale)).numpy()
    assert (drawn >= 0).all() and (drawn <= mode).all()
    for j in range(2):
        law = parent(mode[j], scale[j], mode[j])
        assert stats.kstest(drawn[:, j], law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("mode", "scale"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1e-300, 1e-300)])
def test_degenerate_truncated_normals_draw_finite_values(mode, scale):
    moments = (torch.tensor([v], dtype=torch.double) for v in (mode, scale))
    drawn = truncated_normal(100, *moments)
    assert ((drawn >= 0) & (drawn <= mode)).all()


# ---- proposition 1 --------------------------------------------------------------------------


def least_surplus(sigma, spread):
    """Return the least log ratio of p_m to p_n on [0, m_z] for log-normal features at K."""
    law = stats.lognorm(sigma)
    mean, deviation = law.mean(), law.std()
    mode = lognormal_mode(*torch.tensor([mean, deviation**2], dtype=torch.double)).item()
    z = np.linspace(0, mode, 500)
    augmented = 0.5 * law.pdf(z) + 0.5 * parent(mode, deviation, mode).pdf(z)
    return np.log(augmented / stats.norm.pdf(z, mean, spread * deviation)).min()


@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.5, 1.0, 2.0])
def test_low_errors_are_likelier_than_noise_at_k_1(sigma):
    assert least_surplus(sigma, spread=1.0) >= 0


def test_low_errors_of_narrow_features_may_be_less_likely_than_wider_noise():
    assert least_surplus(0.2, spread=2.0) < -1
    assert least_surplus(1.0, spread=2.0) > 0


def test_the_noise_of_proposition_1_is_the_one_in_use(features):
    # The marginal of the last feature is N(mean, (K sd)^2), in its own units.
    noise = contrast(features, noise_scale=1.7).noise
    torch.manual_seed(0)
    drawn = noise.draw(20_000).double() * noise.spread.detach() * noise.scale + noise.mean
    expected = torch.cov(features.T, correction=0) * 1.7**2
    torch.testing.assert_close(torch.cov(drawn.T), expected, rtol=0.06, atol=0.06 * 1e-3)


# ---- noise ----------------------------------------------------------------------------------


def test_the_noises_density_is_that_of_its_gaussian(features):
    noise = contrast(features).noise
    with torch.no_grad():
        noise.psi.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    spread = noise.spread.detach()
    torch.testing.assert_close(spread, 1 + torch.log1p(torch.tensor([-1.0, 0.0, 1.0, 2.0]).exp()))
    # In units that scipy does not take for singular; a density loses the log of the units.
    units = features.std(dim=0).numpy()
    z, k = features.numpy() / units, spread.double().diag().numpy()
    law = stats.multivariate_normal(z.mean(axis=0), k @ np.cov(z.T, bias=True) @ k)
    got = noise.log_density(noise.coordinates(features), spread)
    np.testing.assert_allclose(got, law.logpdf(z) - np.log(units).sum(), rtol=1e-6)


@pytest.mark.parametrize("start", [1.0, 1.001, 1.5, 30.0, 1e6])
def test_k_starts_where_it_was_told_to(start):
    noise = GaussianNoise(3, start)
    # A little above 1 at the least, or no gradient would ever move it.
    wanted = torch.full((3,), max(start, 1.001))
    torch.testing.assert_close(noise.spread, wanted)
    noise.spread.sum().backward()
    assert (noise.psi.grad > 5e-4).all()
    assert (noise.spread >= 1).all() and noise.psi.isfinite().all()


@pytest.mark.parametrize("psi", [-1e9, -50.0, 0.0, 50.0])
def test_k_is_never_below_1(psi):
    noise = GaussianNoise(2, 1.5)
    with torch.no_grad():
        noise.psi.fill_(psi)
    assert (noise.spread >= 1).all()


def degenerate(kind):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 4))
    if kind == "constant":
        z[:, 2] = 7.0
    elif kind == "dependent":
        z[:, 3] = 2 * z[:, 1] + 1e-5 * rng.normal(size=50)
    elif kind == "few rows":
        z = z[:3]
    elif kind == "one row":
        z = z[:1]
    return torch.from_numpy(z)


@pytest.mark.parametrize(
    ("kind", "constant", "dependent"),
    [
        ("sound", [], set()),
        ("constant", [2], set()),
        ("dependent", [], {1, 3}),
        ("one row", [0, 1, 2, 3], set()),
    ],
)
def test_a_covariance_without_an_inverse_is_regularised_and_explained(kind, constant, dependent):
    z = degenerate(kind)
    noise = GaussianNoise(4, 1.0)
    found = noise.fit(moments_of(z))
    assert found.constant == constant and set(found.dependent) == dependent
    values = torch.linalg.eigvalsh(noise.factor @ noise.factor.T)
    assert values[0] >= 0.99 * CONDITION_FLOOR * values[-1]
    assert noise.log_density(noise.coordinates(z + 1), noise.spread).isfinite().all()


def test_fewer_rows_than_features_are_regularised():
    noise = GaussianNoise(4, 1.0)
    found = noise.fit(moments_of(degenerate("few rows")))
    assert found.n_rows == 3 and found.dependent
    far = noise.coordinates(torch.randn(10, 4))
    assert noise.log_density(far, noise.spread).isfinite().all()


def test_a_sound_covariance_is_left_alone(features):
    noise = GaussianNoise(4, 1.0)
    assert noise.fit(moments_of(features))[:2] == ([], [])
    correlation = torch.from_numpy(np.corrcoef(features.T))
    torch.testing.assert_close(noise.factor @ noise.factor.T, correlation)


# ---- augmentation ---------------------------------------------------------------------------


def test_augmentation_redraws_both_errors_in_half_of_the_rows(features):
    density = contrast(features, augment=True)
    torch.manual_seed(0)
    z = features.repeat(20, 1)
    augmented = density.augmented(z)
    torch.testing.assert_close(augmented[:, :2], z[:, :2])
    changed = augmented[:, 2:] != z[:, 2:]
    assert (changed[:, 0] == changed[:, 1]).all()
    assert changed[:, 0].double().mean().item() == pytest.approx(0.5, abs=0.03)
    mean, variance = features[:, 2:].mean(dim=0), features[:, 2:].var(dim=0, correction=0)
    mode = lognormal_mode(mean, variance)
    redrawn = augmented[changed[:, 0], 2:].numpy()
    for j in range(2):
        law = parent(mode[j].item(), variance[j].sqrt().item(), mode[j].item())
        assert stats.kstest(redrawn[:, j], law.cdf).pvalue > 1e-3


def test_without_augmentation_features_stay(features):
    assert contrast(features).augmented(features) is features


# ---- the loss and its gradients -------------------------------------------------------------


def literal(density, z, noise, stop):
    """Equations 9 and 10 term by term, in noise coordinates, with and without the stop."""
    nu, spread = density.noise_ratio, density.noise.spread
    u = density.noise.coordinates(z).float()
    inverse = u / spread

    def t(at):
        return density.network(at)[:, 0] - np.log(nu)

    data = -torch.log(torch.sigmoid(t(spread * (inverse.detach() if stop else inverse)))).mean()
    return data, -nu * torch.log(1 - torch.sigmoid(t(spread * noise))).mean()


@pytest.fixture
def at_work(features):
    """Return a contrast whose K differ, and the noise that its next loss draws."""
    density = contrast(features)
    with torch.no_grad():
        density.noise.psi.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    generator_on("cpu").manual_seed(5)
    noise = density.noise.draw(3 * len(features))
    generator_on("cpu").manual_seed(5)
    return density, noise


def test_the_loss_is_equation_9(features, at_work):
    density, noise = at_work
    torch.testing.assert_close(density.loss(features), sum(literal(density, features, noise, True)))


def test_the_network_descends_and_k_ascends_equation_10(features, at_work):
    density, noise = at_work
    density.loss(features).backward()
    parameters = [density.noise.psi, *density.network.parameters()]
    expected = torch.autograd.grad(sum(literal(density, features, noise, True)), parameters)
    torch.testing.assert_close(density.noise.psi.grad, -expected[0])
    for parameter, gradient in zip(parameters[1:], expected[1:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_data_reach_k_only_because_the_gradient_is_stopped(features, at_work):
    density, noise = at_work
    psi = density.noise.psi
    (stopped,) = torch.autograd.grad(literal(density, features, noise, True)[0], psi)
    (free,) = torch.autograd.grad(literal(density, features, noise, False)[0], psi)
    assert stopped.abs().max() > 1e-3 and free.abs().max() < 1e-6
    # By hand: dT/du times what the inverse left, which is taken for a constant.
    u = density.noise.coordinates(features).float().requires_grad_(True)
    loss = -torch.log(torch.sigmoid(density.network(u)[:, 0] - np.log(3))).mean()
    (slope,) = torch.autograd.grad(loss, u)
    by_hand = (slope * u / density.noise.spread).sum(dim=0) * torch.sigmoid(psi)
    torch.testing.assert_close(stopped, by_hand.detach())


def test_validation_compares_densities_on_the_noise_of_the_start(features, at_work):
    density, _ = at_work
    with torch.no_grad():
        for parameter in density.network.parameters():
            parameter.zero_()
        # A density that is the noise itself: log p = log p_n of the present K.
        generator_on("cpu").manual_seed(5)
        noise = density.noise.draw(3 * len(features)).double() * density.noise.start
        u = density.noise.coordinates(features)
        start = torch.full((4,), density.noise.start)

        def logits(at):
            now = density.noise.log_density(at, density.noise.spread)
            return now - density.noise.log_density(at, start) - np.log(3)

        expected = -torch.log(torch.sigmoid(logits(u))).mean()
        expected = expected - 3 * torch.log(1 - torch.sigmoid(logits(noise))).mean()
        generator_on("cpu").manual_seed(5)
        torch.testing.assert_close(density.reference_loss(features), expected)
        density.noise.psi.copy_(GaussianNoise(4, 1.5).psi)
        generator_on("cpu").manual_seed(5)
        validated = density.reference_loss(features)
        generator_on("cpu").manual_seed(5)
        # Where K is still that of the start, it is the loss of training.
        torch.testing.assert_close(validated.float(), density.loss(features))


def test_validation_augments_as_training_does(features):
    density = contrast(features, augment=True)
    generator_on("cpu").manual_seed(5)
    trained = density.loss(features)
    generator_on("cpu").manual_seed(5)
    validated = density.reference_loss(features)
    # K is that of the start; the draws are the same.
    torch.testing.assert_close(validated.float(), trained)
    density.augment = False
    generator_on("cpu").manual_seed(5)
    assert (density.reference_loss(features) - validated).abs() > 0.01


def test_the_density_is_the_noises_times_the_ratio(features, at_work):
    density, _ = at_work
    u = density.noise.coordinates(features)
    logit = density.network(u.float())[:, 0].double() - np.log(3)
    log_noise = density.noise.log_density(u, density.noise.spread)
    torch.testing.assert_close(density.log_density(features), logit + np.log(3) + log_noise)


def test_far_features_have_a_finite_and_low_density(features):
    density = contrast(features)
    far = density.log_density(features * 1e20)
    assert far.isfinite().all() and (far < density.log_density(features).min()).all()


def test_features_beyond_the_range_of_float32_have_a_finite_density(features):
    # As of a mean squared error that was tiny in training, or whose column is in tiny units.
    density = contrast(features * 1e-20)
    assert density.noise.coordinates(features * 1e24).abs().max() > torch.finfo(torch.float32).max
    assert density.log_density(features * 1e24).isfinite().all()
