"""Sliced Wasserstein distance: scipy's in one dimension, closed forms, what must hold."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import wasserstein_distance

from skgenad.autoencoders._wasserstein import random_directions, sliced_wasserstein, student_t

pytestmark = pytest.mark.usefixtures("drawing")


def test_directions_are_uniform_on_the_sphere():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        directions = random_directions(4000, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000))
    assert directions.mean(dim=0).abs().max() < 0.05
    torch.testing.assert_close(
        directions.T @ directions / 4000, torch.eye(3) / 3, atol=0.03, rtol=0
    )


def test_in_one_dimension_it_is_scipys_exact_distance():
    rng = np.random.RandomState(0)
    x, y = rng.standard_t(5, size=(200, 1)), 2 + rng.gamma(2, size=(200, 1))
    exact = wasserstein_distance(x[:, 0], y[:, 0])
    for direction in (1.0, -1.0):
        along = torch.tensor([[direction]], dtype=torch.float64)
        ours = sliced_wasserstein(torch.from_numpy(x), torch.from_numpy(y), along, p=1)
        assert ours.item() == pytest.approx(exact, rel=1e-12)


def test_it_is_the_mean_of_scipys_distances_over_directions():
    rng = np.random.RandomState(0)
    x, y = rng.randn(50, 4), rng.randn(50, 4) ** 2
    directions = rng.randn(7, 4)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    exact = np.mean([wasserstein_distance(x @ v, y @ v) for v in directions])
    tensors = map(torch.from_numpy, (x, y, directions))
    assert sliced_wasserstein(*tensors, p=1).item() == pytest.approx(exact, rel=1e-12)


def test_of_gaussians_it_is_the_closed_form():
    """W_2^2 of N(m, a^2 I) and N(n, b^2 I) along v: (v . (m - n))^2 + (a - b)^2."""
    d, n = 3, 4000
    rng = np.random.RandomState(0)
    shift = np.array([1.0, -2.0, 0.5])
    x = torch.from_numpy(rng.randn(n, d))
    y = torch.from_numpy(shift + 2 * rng.randn(n, d))
    v = random_directions(300, d).double()
    expected = (v @ torch.from_numpy(shift)).square().mean().item() + 1
    assert sliced_wasserstein(x, y, v).item() == pytest.approx(expected, rel=0.05)
    # Over all directions the mean of (v . s)^2 is |s|^2 / d.
    assert expected == pytest.approx(shift @ shift / d + 1, rel=0.25)


def test_samples_in_axes_between_are_compared_each_with_its_own():
    x, y = torch.randn(20, 3, 4), torch.randn(20, 3, 4)
    v = random_directions(5, 4)
    each = [sliced_wasserstein(x[:, k], y[:, k], v) for k in range(3)]
    torch.testing.assert_close(sliced_wasserstein(x, y, v), torch.stack(each))


@pytest.mark.parametrize("p", [1, 2])
def test_it_is_zero_of_a_sample_with_itself_in_any_order_and_grows_with_the_shift(p):
    x, v = torch.randn(30, 4), random_directions(9, 4)
    assert sliced_wasserstein(x, x[torch.randperm(30)], v, p=p) < 1e-10
    near, far = (sliced_wasserstein(x, x + s, v, p=p) for s in (0.5, 1.0))
    assert far.item() == pytest.approx(2**p * near.item(), rel=1e-3)


def test_following_the_gradient_moves_a_sample_onto_another():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, y = torch.randn(100, 2).requires_grad_(), 3 + 0.5 * torch.randn(100, 2)
        optimizer = torch.optim.SGD([x], lr=50)
        for _ in range(100):
            optimizer.zero_grad()
            sliced_wasserstein(x, y, random_directions(20, 2)).backward()
            optimizer.step()
    moved = x.detach()
    torch.testing.assert_close(moved.mean(dim=0), y.mean(dim=0), atol=0.1, rtol=0)
    torch.testing.assert_close(moved.std(dim=0), y.std(dim=0), atol=0.1, rtol=0)


@pytest.mark.parametrize("nu", [1.0, 3.0, 30.0])
def test_student_t_is_students(nu):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = student_t(nu, (4000, 2))
    assert draws.isfinite().all()
    assert stats.kstest(draws.flatten().numpy(), stats.t(nu).cdf).pvalue > 0.01
    # Angles of one draw do not decide the next.
    assert abs(stats.spearmanr(*draws.T.numpy()).statistic) < 0.05
