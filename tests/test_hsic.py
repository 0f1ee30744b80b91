"""HSIC and its normalised form against slow formulas, limit cases and permutations of rows."""

import math

import numpy as np
import pytest
import torch

from skgenad.autoencoders._hsic import centred_gram, hsic, normalized_hsic

pytestmark = pytest.mark.usefixtures("drawing")


def pairs(n=40, seed=0):
    """Rows x (n, 3), and z (n, 2) that depend on them."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=rng)
    z = torch.stack([x[:, 0] ** 2, x[:, 1] + 0.3 * torch.randn(n, generator=rng)], dim=1)
    return x, z


def slow_gram(rows):
    """Kernel matrix, by the definition: lists, and the median over pairs."""
    rows = rows.double().tolist()
    squares = [[sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for v in rows] for u in rows]
    off = sorted(squares[i][j] for i in range(len(rows)) for j in range(i))
    median = off[(len(off) - 1) // 2]  # torch takes the lower one
    return np.array([[math.exp(-s / median) for s in row] for row in squares])


def slow_centred(rows):
    n = len(rows)
    h = np.eye(n) - np.ones((n, n)) / n
    return h @ slow_gram(rows) @ h


def test_hsic_is_the_direct_formula():
    x, z = pairs()
    n = len(x)
    h = np.eye(n) - np.ones((n, n)) / n
    direct = np.trace(slow_gram(x) @ h @ slow_gram(z) @ h) / n**2
    assert hsic(x, z).item() == pytest.approx(direct, rel=1e-6)
    # With expectations in place of matrices: E km + E k E m - 2 E[E k E m].
    k, m = slow_gram(x), slow_gram(z)
    by_means = (k * m).mean() + k.mean() * m.mean() - 2 * (k.mean(axis=1) * m.mean(axis=1)).mean()
    assert hsic(x, z).item() == pytest.approx(by_means, rel=1e-6)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-2, 1.0])
def test_normalised_hsic_is_the_direct_formula(epsilon):
    x, z = pairs()
    n = len(x)
    tilde = [c @ np.linalg.inv(c + epsilon * n * np.eye(n)) for c in map(slow_centred, (x, z))]
    direct = np.trace(tilde[0] @ tilde[1])
    assert normalized_hsic(x, z, epsilon).item() == pytest.approx(direct, rel=1e-5)


@pytest.mark.parametrize("measure", [hsic, normalized_hsic])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e6])
def test_nothing_depends_on_a_constant(measure, value):
    x, _ = pairs()
    constant = torch.full((40, 5), value)
    assert measure(x, constant).item() == 0
    assert measure(constant, x).item() == 0
    assert measure(constant, constant).item() == 0


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("seed", range(5))
def test_normalised_hsic_obeys_cauchy_and_schwarz(epsilon, seed):
    x, z = pairs(seed=seed)
    for other in (z, torch.randn(40, 30), x.round(), -x):
        square = normalized_hsic(x, other, epsilon) ** 2
        most = normalized_hsic(x, x, epsilon) * normalized_hsic(other, other, epsilon)
        assert 0 <= square <= most * (1 + 1e-9)
        assert normalized_hsic(x, other, epsilon) <= len(x) - 1


@pytest.mark.parametrize("measure", [hsic, lambda x, z: normalized_hsic(x, z, 1e-2)])
def test_dependence_is_outside_and_independence_inside_of_what_permuted_rows_give(measure):
    x, z = pairs(60)
    independent = torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    rng = np.random.RandomState(0)
    orders = [torch.from_numpy(rng.permutation(60)) for _ in range(200)]
    for other in (x, z):
        permuted = [measure(x, other[order]).item() for order in orders]
        assert measure(x, other).item() > max(permuted)
    permuted = [measure(x, independent[order]).item() for order in orders]
    low, high = np.quantile(permuted, [0.025, 0.975])
    assert low <= measure(x, independent).item() <= high


@pytest.mark.parametrize("measure", [hsic, normalized_hsic])
def test_units_and_origin_do_not_matter_and_the_measure_is_symmetric(measure):
    x, z = pairs()
    value = measure(x, z).item()
    assert measure(z, x).item() == pytest.approx(value, rel=1e-9)
    assert measure(4 * x, z / 8).item() == pytest.approx(value, rel=1e-6)
    assert measure(x + 3, z).item() == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("measure", [hsic, normalized_hsic])
@pytest.mark.parametrize("rows", ["one", "two", "twice", "mostly equal"])
def test_few_and_equal_rows_give_finite_values_and_gradients(measure, rows):
    x, z = pairs()
    index = {"one": [0], "two": [0, 1], "twice": [0, 1, 2] * 2, "mostly equal": [3] * 9 + [5]}
    x, z = x[index[rows]], z[index[rows]].requires_grad_()
    value = measure(x, z)
    value.backward()
    assert value.isfinite() and z.grad.isfinite().all()
    assert (value == 0) == (rows == "one")


def test_mostly_equal_rows_are_measured_by_the_mean_distance():
    rows = torch.zeros(10, 1)
    rows[0] = 3.0
    # 9 of 45 pairs are 9 apart: the scale is 9 / 5.
    kernel = np.ones((10, 10))
    kernel[0, 1:] = kernel[1:, 0] = math.exp(-5)
    h = np.eye(10) - 0.1
    np.testing.assert_allclose(centred_gram(rows), h @ kernel @ h, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    x, z = pairs(8)
    x, z = x.double(), z.double().requires_grad_()
    # Without the scale, which is taken as a constant: rows are kept apart from its jumps.
    for measure in (hsic, normalized_hsic):
        (gradient,) = torch.autograd.grad(measure(x, z), z)
        direction = torch.zeros_like(z)
        pair = _not_the_median(z.detach())
        direction[pair] = torch.tensor([1.0, -0.5], dtype=torch.float64)
        up, down = (measure(x, z.detach() + s * 1e-6 * direction) for s in (1, -1))
        slope = (up - down).item() / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-4)


def _not_the_median(z):
    """Find a row that is not one of the two whose distance is the median."""
    squares = torch.cdist(z, z).square()
    places = torch.triu_indices(len(z), len(z), 1)
    median = squares[places[0], places[1]].median()
    two = (squares == median).nonzero()[0].tolist()
    return next(i for i in range(len(z)) if i not in two)
