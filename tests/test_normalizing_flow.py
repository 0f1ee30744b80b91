"""The neural spline flow: a density, its tails, its optional package."""

import sys

import numpy as np
import pytest
import torch

from skgenad import Glow, NormalizingFlow
from skgenad.likelihoods.normalizing_flow import SplineFlow

from ._settings import normal_rows, tiny
from .test_glow import mass_on_a_grid, ring

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture(scope="module")
def on_ring():
    settings = {"max_steps": 150, "learning_rate": 1e-2, "n_bins": 8}
    return tiny("NormalizingFlow", **settings).fit(ring())


def test_the_density_integrates_to_one_in_the_units_of_the_rows(on_ring):
    assert mass_on_a_grid(on_ring, ring()) == pytest.approx(1, abs=0.01)


def test_it_learns_what_no_gaussian_has(on_ring):
    """In the middle of a ring there is nothing."""
    centre, new = np.array([[100.0, 7.0]]), ring(seed=1)
    assert on_ring.log_density(centre) < np.quantile(on_ring.log_density(new), 0.1)
    untrained = tiny("NormalizingFlow", max_steps=1, learning_rate=1e-9).fit(ring())
    assert on_ring.log_density(new).mean() > untrained.log_density(new).mean() + 0.1


def test_samples_come_from_the_density(on_ring):
    drawn = on_ring.sample(1000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), ring().mean(axis=0), atol=0.4)
    # The mean log density of its own draws is minus the entropy, whatever was learned.
    X = ring()
    centre, reach = X.mean(axis=0), 8 * X.std(axis=0)
    axes = [np.linspace(c - r, c + r, 150) for c, r in zip(centre, reach, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    log_p = on_ring.log_density(grid)
    entropy = -(np.exp(log_p) * log_p).sum() * np.prod(2 * reach / 149)
    of_draws = -on_ring.log_density(drawn)
    assert of_draws.mean() == pytest.approx(entropy, abs=5 * of_draws.std() / np.sqrt(1000))
    np.testing.assert_array_equal(on_ring.sample(1000, random_state=0), drawn)


def test_tails_are_those_of_a_gaussian_of_variance_one(on_ring):
    """Beyond 5 in standard units every map is the identity."""
    units = on_ring.units_
    Z = np.array([[7.0, -8.0], [9.0, 6.0]])
    X = units.from_standard(Z)
    expected = -0.5 * (Z**2).sum(axis=1) - np.log(2 * np.pi)
    np.testing.assert_allclose(on_ring.score_samples(X), expected, rtol=1e-5)


def test_scores_are_log_densities_in_standard_units(on_ring):
    X = ring()
    expected = on_ring.score_samples(X) - np.log(on_ring.units_.scale).sum()
    np.testing.assert_allclose(on_ring.log_density(X), expected)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_volume_is_that_of_the_jacobian(d):
    flow = SplineFlow(d, n_transforms=2, n_bins=4, hidden_sizes=(8,)).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(3, d, dtype=torch.float64)
    transform = flow.net().transform
    for row, value in zip(x, flow(x), strict=True):
        jacobian = torch.autograd.functional.jacobian(transform, row).reshape(d, d)
        z = transform(row)
        normal = -0.5 * z.square().sum() - 0.5 * d * np.log(2 * np.pi)
        torch.testing.assert_close(value, normal + torch.linalg.slogdet(jacobian)[1])
        torch.testing.assert_close(transform.inv(z), row, atol=1e-10, rtol=1e-10)
    flow(x).sum().backward()
    # The networks of the first column have no inputs: the rest has gradients.
    missing = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing or d == 1


def test_training_in_float32_and_scoring_in_float64_agree():
    flow = SplineFlow(4, n_transforms=2, n_bins=4, hidden_sizes=(8,))
    x = torch.randn(50, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            flow.train().contributions(x).double(),
            flow.eval().contributions(x),
            rtol=1e-4,
            atol=1e-4,
        )


def test_the_flow_is_as_large_as_was_asked_for():
    settings = {"n_transforms": 2, "n_bins": 5, "hidden_sizes": (7, 9), "max_steps": 1}
    module = tiny("NormalizingFlow", **settings).fit(normal_rows()).module_
    shapes = [tuple(p.shape) for p in module.parameters() if p.ndim == 2]
    # Widths, heights and inner slopes of the pieces of the splines of 4 columns.
    assert shapes == 2 * [(7, 4), (9, 7), (4 * (5 + 5 + 4), 9)]


def test_validation_chooses_the_epoch():
    X = normal_rows(100)
    settings = {"max_steps": 100, "learning_rate": 5e-2, "validation_fraction": 0.3}
    for detector in (tiny("NormalizingFlow", **settings), tiny("Glow", **settings)):
        history = detector.fit(X).history_
        assert len(history) == 2 and history["validation_loss"].notna().all()
    without = tiny("NormalizingFlow", validation_fraction=0.0).fit(X)
    assert "validation_loss" not in without.history_


def test_without_zuko_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    for name in [name for name in sys.modules if name.startswith("zuko.")]:
        monkeypatch.delitem(sys.modules, name)
    unfitted = tiny("NormalizingFlow")
    with pytest.raises(ImportError, match=r"'zuko'.*pip install \"skgenad\[flows\]\""):
        unfitted.fit(normal_rows())
    assert not hasattr(unfitted, "module_")
    tiny("Glow").fit(normal_rows())  # needs none


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_transforms": 0}, "n_transforms.*Got 0 instead"),
        ({"n_bins": 1}, "n_bins.*Got 1 instead"),
        ({"hidden_sizes": (8, 0)}, r"hidden_sizes=\(8, 0\) must hold integers"),
        ({"validation_fraction": 1.0}, "validation_fraction.*Got 1.0 instead"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        tiny("NormalizingFlow", **parameters).fit(normal_rows())


def test_the_density_of_a_gaussian_is_found():
    rng = np.random.RandomState(0)
    X, new = rng.randn(500, 2) * [3, 0.1], rng.randn(200, 2) * [3, 0.1]
    expected = -0.5 * ((new / [3, 0.1]) ** 2).sum(axis=1) - np.log(2 * np.pi * 0.3)
    for cls in (Glow, NormalizingFlow):
        detector = tiny(cls, max_steps=100, learning_rate=1e-2, batch_size=64).fit(X)
        assert np.abs(detector.log_density(new) - expected).mean() < 0.25
