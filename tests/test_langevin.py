"""Langevin chains: what a step costs, where chains end, and what keeps them in place."""

import math

import pytest
import torch
from scipy.special import iv
from scipy.stats import truncnorm

from skgenad._tensors.seeds import seeded
from skgenad.energies._langevin import Langevin, tempered

pytestmark = pytest.mark.usefixtures("drawing")

N = 20_000  # chains at once: a variance is then known to 1 %, a mean to 0.7 % of a deviation


class Counted:
    """An energy and its gradient that remember the states they were asked for."""

    def __init__(self, energy_and_grad):
        self.energy_and_grad, self.states = energy_and_grad, []

    def __call__(self, x):
        self.states.append(x.clone())
        return self.energy_and_grad(x)


def flat(x):
    return torch.zeros(len(x)), torch.zeros_like(x)


def slope(gradient):
    """Energy with the same gradient (d,) everywhere."""
    gradient = torch.as_tensor(gradient)
    return lambda x: (x @ gradient, gradient.expand_as(x))


class Gaussian:
    """A correlated Gaussian of mean (1, -2): variances 4 and 1/4 along turned axes."""

    mean = torch.tensor([1.0, -2.0])
    axes = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    variances = torch.tensor([4.0, 0.25])

    def __call__(self, x):
        gradient = (x - self.mean) @ (self.axes.T / self.variances @ self.axes)
        return 0.5 * ((x - self.mean) * gradient).sum(dim=1), gradient

    def along_axes(self, x):
        """Means and variances of rows along the axes, relative to the true ones."""
        deviations = (x - self.mean) @ self.axes.T / self.variances.sqrt()
        return deviations.mean(dim=0), deviations.var(dim=0)


def assert_same_moments(x, tolerance):
    mean, variance = Gaussian().along_axes(x)
    torch.testing.assert_close(mean, torch.zeros(2), atol=tolerance, rtol=0)
    torch.testing.assert_close(variance, torch.ones(2), atol=tolerance, rtol=0)


# ---- cost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [0, 1, 7])
@pytest.mark.parametrize("sphere", [False, True])
def test_a_step_costs_one_gradient(n_steps, sphere):
    energy = Counted(flat)
    Langevin(n_steps, 0.1, 0.1, sphere=sphere).run(energy, torch.randn(5, 3))
    assert len(energy.states) == n_steps


@pytest.mark.parametrize(("n_steps", "gradients"), [(0, 0), (1, 2), (7, 8)])
def test_metropolis_costs_one_more_in_all(n_steps, gradients):
    energy = Counted(flat)
    Langevin(n_steps, 0.1, 0.1, metropolis=True).run(energy, torch.randn(5, 3))
    assert len(energy.states) == gradients


def test_a_chain_leaves_its_first_states_alone():
    x = torch.randn(5, 2)
    kept = x.clone()
    for metropolis in (False, True):
        Langevin(3, 0.1, 0.1, metropolis=metropolis).run(Gaussian(), x)
    assert torch.equal(x, kept)


def test_a_chain_builds_no_graph():
    x = torch.randn(5, 2, requires_grad=True)
    assert not Langevin(2, 0.1, 0.1).run(Gaussian(), x).x.requires_grad


# ---- stationary distributions ---------------------------------------------------------------


def test_a_long_chain_with_small_steps_has_the_moments_of_its_target():
    step = 0.01
    chain = Langevin(2000, step, math.sqrt(2 * step))
    result = chain.run(Gaussian(), torch.zeros(N, 2))
    assert_same_moments(result.x, 0.04)
    assert result.acceptance == 1


def test_metropolis_is_exact_at_a_step_at_which_the_plain_chain_is_not():
    # Along the narrow axis the plain chain's variance is 1 / (1 - step / (2 * variance)) too large.
    step = 0.35
    plain = Langevin(150, step, math.sqrt(2 * step)).run(Gaussian(), torch.zeros(N, 2))
    biased = Gaussian().along_axes(plain.x)[1]
    expected = 1 / (1 - step / (2 * Gaussian.variances))
    torch.testing.assert_close(biased, expected, rtol=0.05, atol=0)
    assert expected[1] > 3

    exact = Langevin(150, step, math.sqrt(2 * step), metropolis=True)
    result = exact.run(Gaussian(), torch.zeros(N, 2))
    assert_same_moments(result.x, 0.04)
    assert 0.2 < result.acceptance < 0.95


def test_metropolis_is_exact_whatever_the_ratio_of_step_and_noise():
    chain = Langevin(200, 0.05, 0.6, metropolis=True)
    result = chain.run(Gaussian(), torch.zeros(N, 2))
    assert_same_moments(result.x, 0.04)
    assert 0.2 < result.acceptance < 0.95


def test_metropolis_accepts_nothing_that_is_not_finite():
    def cliff(x):
        return torch.where(x[:, 0] > 0, torch.nan, 0.0), torch.zeros_like(x)

    x = Langevin(50, 0.1, 1.0, metropolis=True).run(cliff, -torch.ones(100, 2)).x
    assert (x[:, 0] <= 0).all()


@pytest.mark.parametrize("d", [3, 6])
def test_the_sphere_chain_has_the_moments_of_von_mises_and_fisher(d):
    kappa, step = 3.0, 0.01
    mu = torch.eye(d)[0]
    chain = Langevin(500, step, math.sqrt(2 * step), sphere=True)
    start = torch.nn.functional.normalize(torch.randn(N, d), dim=1)
    energy = Counted(slope(-kappa * mu))
    z = chain.run(energy, start).x
    for state in [*energy.states[1:], z]:
        norms = torch.linalg.vector_norm(state, dim=1)
        torch.testing.assert_close(norms, torch.ones(N), atol=1e-6, rtol=0)
    along = iv(d / 2, kappa) / iv(d / 2 - 1, kappa)
    assert (z @ mu).mean().item() == pytest.approx(along, abs=0.015)
    squared = 1 - (d - 1) * along / kappa
    assert (z @ mu).square().mean().item() == pytest.approx(squared, abs=0.015)
    assert z[:, 1:].mean(dim=0).abs().max() < 0.03


def test_a_step_on_the_sphere_is_tangent_to_it():
    z = torch.nn.functional.normalize(torch.randn(20, 3), dim=1)
    chain = Langevin(1, 0.9, 0.0, sphere=True)
    radial = chain.run(lambda z: (torch.zeros(20), 5 * z), z).x
    torch.testing.assert_close(radial, z)
    gradient = torch.tensor([3.0, -1.0, 2.0])
    flat = gradient - (z @ gradient)[:, None] * z
    expected = torch.nn.functional.normalize(z - 0.9 * flat, dim=1)
    torch.testing.assert_close(chain.run(slope(gradient), z).x, expected)


# ---- pieces of a step -----------------------------------------------------------------------


def test_step_size_and_noise_are_two_numbers():
    x = torch.zeros(N, 2)
    drift = Langevin(1, 0.5, 0.0).run(slope([2.0, -4.0]), x).x
    assert torch.equal(drift, torch.tensor([-1.0, 2.0]).expand(N, 2))
    noise = Langevin(1, 0.0, 0.3).run(slope([2.0, -4.0]), x).x
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)


def test_bounds_hold_for_every_state():
    low, high = torch.tensor([-0.5, -1.0]), torch.tensor([0.5, 2.0])
    energy = Counted(slope([3.0, -3.0]))
    x = Langevin(5, 0.1, 1.0).run(energy, torch.zeros(50, 2), (low, high)).x
    for state in [*energy.states, x]:
        assert ((low <= state) & (state <= high)).all()
    assert (x == low).any() and (x == high).any()
    assert Langevin(1, 1.0, 0.0).run(slope([9.0]), torch.zeros(1, 1), (-0.5, 0.5)).x == -0.5


def test_clip_limits_each_component():
    x = Langevin(1, 1.0, 0.0, clip=0.5).run(slope([3.0, -0.2]), torch.zeros(1, 2)).x
    torch.testing.assert_close(x, torch.tensor([[-0.5, 0.2]]))


def test_normalize_limits_each_row_and_survives_a_zero_gradient():
    x = Langevin(1, 0.1, 0.0, normalize=True).run(slope([30.0, -40.0]), torch.zeros(1, 2)).x
    torch.testing.assert_close(x, torch.tensor([[-0.06, 0.08]]))
    assert torch.equal(Langevin(1, 0.1, 0.0, normalize=True).run(flat, x).x, x)


def test_clipping_comes_after_normalisation():
    chain = Langevin(1, 1.0, 0.0, normalize=True, clip=0.7)
    x = chain.run(slope([30.0, -40.0]), torch.zeros(1, 2)).x
    torch.testing.assert_close(x, torch.tensor([[-0.6, 0.7]]))


def test_annealed_noise_falls_as_one_over_the_step():
    energy = Counted(flat)
    end = Langevin(4, 0.0, 1.0, anneal=True).run(energy, torch.zeros(N, 1)).x
    states = torch.stack([*energy.states, end])
    spread = states.diff(dim=0).std(dim=(1, 2))
    torch.testing.assert_close(spread, torch.tensor([1.0, 1 / 2, 1 / 3, 1 / 4]), rtol=0.03, atol=0)


@pytest.mark.parametrize("n_steps", [0, 1, 5, 6])
@pytest.mark.parametrize("anneal", [False, True])
def test_two_halves_do_what_the_whole_does(n_steps, anneal):
    chain, start, ends = Langevin(n_steps, 0.1, 0.5, anneal=anneal), torch.zeros(9, 2), []
    for parts in ([chain], chain.halves()):
        end = start
        with seeded(0):
            for part in parts:
                end = part.run(Gaussian(), end).x
        ends.append(end)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("chain", "temperature"),
    [
        (Langevin(9, 0.02, 0.2), 1.0),
        (Langevin(9, 0.08, 0.2), 0.25),
        (Langevin(9, 0.08, 0.2, metropolis=True), 1.0),
        (Langevin(9, 0.0, 0.2), 1.0),
        (Langevin(9, 0.08, 0.0), 1.0),
    ],
)
def test_a_chain_knows_the_temperature_of_its_limit(chain, temperature):
    assert chain.temperature == pytest.approx(temperature)


@pytest.mark.parametrize("forbidden", [{"clip": 1.0}, {"normalize": True}, {"sphere": True}])
def test_metropolis_refuses_what_its_rule_does_not_know(forbidden):
    with pytest.raises(ValueError, match=f"metropolis=True cannot .*{next(iter(forbidden))}"):
        Langevin(1, 0.1, 0.1, metropolis=True, **forbidden)


def test_metropolis_within_bounds_samples_the_truncated_density():
    """A standard normal cut to [0, 1]: mean and variance are known in closed form."""
    chain = Langevin(200, 0.2, 0.5, metropolis=True)
    start = torch.full((N, 1), 7.0)
    x = chain.run(lambda x: (0.5 * x.square().sum(dim=1), x), start, (0.0, 1.0)).x
    assert x.min() >= 0 and x.max() <= 1
    mean, variance = truncnorm.stats(0, 1)
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)
    assert float(x.var()) == pytest.approx(variance, abs=0.003)


def test_a_temperature_divides_energy_and_gradient():
    x = torch.randn(5, 2)
    energy, gradient = Gaussian()(x)
    cool_energy, cool_gradient = tempered(Gaussian(), 0.25)(x)
    torch.testing.assert_close(cool_energy, 4 * energy)
    torch.testing.assert_close(cool_gradient, 4 * gradient)
    assert tempered(flat, 1.0) is flat


def test_metropolis_needs_noise():
    with pytest.raises(ValueError, match=r"noise > 0, got noise=0\.0"):
        Langevin(1, 0.1, 0.0, metropolis=True)
