"""Mixtures of logistic distributions: masses that sum to 1, closed forms, draws."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from skgenad.likelihoods._logistics import LogisticMixture, n_parameters

pytestmark = pytest.mark.usefixtures("drawing")


def mixtures(n=1, n_components=3, n_channels=1, spread=1.0, seed=0):
    """Make mixtures at one place of `n` images."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, n_parameters(n_components, n_channels), 1, 1, generator=generator)
    return LogisticMixture.of(spread * numbers.double(), n_channels)


def levels(n):
    """Give all levels in [-1, 1] as images (n, 1, 1, 1)."""
    return torch.linspace(-1, 1, n, dtype=torch.float64).view(-1, 1, 1, 1)


def repeated(mixture, n):
    return LogisticMixture(*(part.expand(n, *part.shape[1:]) for part in mixture))


@pytest.mark.parametrize("n_levels", [2, 5, 256])
@pytest.mark.parametrize("spread", [0.1, 1, 5, 50])
@pytest.mark.parametrize("n_components", [1, 4])
def test_the_levels_of_a_pixel_have_a_mass_of_1(n_levels, spread, n_components):
    mixture = repeated(mixtures(1, n_components, spread=spread), n_levels)
    log_mass = mixture.log_probability(levels(n_levels), n_levels)
    assert log_mass.shape == (n_levels, 1, 1) and log_mass.isfinite().all()
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_the_outer_levels_have_all_that_is_beyond_them():
    mean, scale = 1.7, math.exp(-2)
    mixture = repeated(
        LogisticMixture.of(
            torch.tensor([0.0, mean, -2.0], dtype=torch.float64).view(1, 3, 1, 1), 1
        ),
        256,
    )
    mass = mixture.log_probability(levels(256), 256).exp().flatten().numpy()
    law = stats.logistic(mean, scale)
    assert mass[255] == pytest.approx(law.sf(1 - 1 / 255)) and mass[255] > 0.99
    assert mass[0] == pytest.approx(law.cdf(-1 + 1 / 255), rel=1e-6)
    assert mass[100] == pytest.approx(law.cdf(-54 / 255) - law.cdf(-56 / 255), rel=1e-6)


def test_the_levels_of_three_channels_together_have_a_mass_of_1():
    n_levels = 4
    grid = torch.linspace(-1, 1, n_levels, dtype=torch.float64)
    x = torch.tensor(list(itertools.product(grid, repeat=3))).view(-1, 3, 1, 1)
    mixture = repeated(mixtures(1, 2, 3), len(x))
    assert mixture.log_probability(x, n_levels).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert mixture.slopes.abs().sum() > 1


def test_a_channels_mean_depends_on_the_channels_before_it_alone():
    mixture = mixtures(1, 1, 3)
    x = torch.randn(1, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    means = mixture.means_given(x)[0, 0, :, 0, 0]
    slopes = torch.stack([torch.autograd.grad(m, x, retain_graph=True)[0].flatten() for m in means])
    assert (slopes.triu() == 0).all() and (slopes[[1, 2, 2], [0, 0, 1]] != 0).all()
    assert slopes.abs().max() < 1  # hyperbolic tangents
    by_hand = mixture.means[0, 0, 2, 0, 0] + slopes[2] @ x.flatten()
    torch.testing.assert_close(means[2], by_hand)


def test_one_component_is_a_logistic_distribution():
    mixture = repeated(mixtures(1, 1), 50)
    x = np.linspace(-30, 30, 50)
    law = stats.logistic(mixture.means[0].item(), mixture.log_scales[0].exp().item())
    ours = mixture.log_density(torch.from_numpy(x).view(-1, 1, 1, 1)).flatten()
    np.testing.assert_allclose(ours, law.logpdf(x), rtol=1e-12)


def test_the_density_of_numbers_integrates_to_1():
    grid = torch.linspace(-200, 200, 40_001, dtype=torch.float64)
    for seed in range(3):
        mixture = mixtures(1, 4, seed=seed)
        # Places of one image in place of images.
        across = LogisticMixture(*(part.expand(*part.shape[:-1], len(grid)) for part in mixture))
        density = across.log_density(grid.view(1, 1, 1, -1)).exp()
        assert torch.trapezoid(density.flatten(), grid).item() == pytest.approx(1, abs=1e-6)


def test_far_numbers_have_finite_densities():
    mixture = LogisticMixture.of(torch.zeros(3, 3, 1, 1), 1)
    x = torch.tensor([1e12, -1e12, 0.0]).view(-1, 1, 1, 1)
    assert mixture.log_density(x).flatten().tolist() == pytest.approx([-1e12, -1e12, -math.log(4)])


@pytest.mark.parametrize("n_channels", [1, 2])
def test_draws_have_the_probabilities_of_their_levels(n_channels):
    n_levels, n = 4, 20_000
    mixture = mixtures(1, 3, n_channels, seed=2)
    torch.manual_seed(0)
    drawn = repeated(mixture, n).sample(n_levels).flatten(1)
    grid = torch.linspace(-1, 1, n_levels, dtype=torch.float64)
    cells = torch.tensor(list(itertools.product(grid, repeat=n_channels)))
    counts = [(drawn - cell).abs().amax(dim=1).lt(1e-9).sum().item() for cell in cells]
    assert sum(counts) == n
    x = cells.view(len(cells), n_channels, 1, 1)
    expected = repeated(mixture, len(cells)).log_probability(x, n_levels).exp().flatten() * n
    assert stats.chisquare(counts, expected.numpy() / expected.sum().item() * n).pvalue > 1e-3


def test_draws_of_numbers_follow_their_distribution():
    mixture = mixtures(1, 1)
    torch.manual_seed(1)
    drawn = repeated(mixture, 5000).sample().flatten().numpy()
    law = stats.logistic(mixture.means[0].item(), mixture.log_scales[0].exp().item())
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-3
