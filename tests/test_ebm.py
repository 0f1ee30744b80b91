"""EBM: its loss, its chains, the density it learns and what each option does."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest
from sklearn.metrics import roc_auc_score

from skgenad import EBM, networks
from skgenad._core.callbacks import DivergenceWarning
from skgenad._tensors.maps import MLP
from skgenad._tensors.seeds import generator_on
from skgenad.datasets import make_two_clusters
from skgenad.energies import Chain, Replay
from skgenad.energies._energies import ScalarEnergy
from skgenad.energies._langevin import Langevin
from skgenad.energies._negatives import Settings
from skgenad.energies.ebm import EBMModel

from ._settings import ALL_ROWS, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

COVARIANCE = np.array([[1.0, 0.6], [0.6, 1.0]])
# Enough for a Gaussian in the plane, in a few seconds.
GAUSSIAN = {
    **ALL_ROWS,
    "network": networks.MLP((64, 64), activation="silu"),
    "max_steps": 500,
    "learning_rate": 3e-3,
    "random_state": 0,
    "device": "cpu",
}
STILL = Langevin(0, 0.1, 0.1)


def gaussian_rows(n=2000, seed=0):
    return np.random.RandomState(seed).multivariate_normal(np.zeros(2), COVARIANCE, n)


def minus_log_density(X):
    """Of the Gaussian, up to a constant."""
    return 0.5 * (X @ np.linalg.inv(COVARIANCE) * X).sum(axis=1)


def make_module(sampling="pcd", replay=(40, 0.9), visible=STILL, penalty=0.01):
    torch.manual_seed(0)
    settings = Settings(visible=visible, bounds="data", energy_penalty=penalty)
    energy = ScalarEnergy(MLP([3, 8, 1], "silu"))
    module = EBMModel(energy, 3, settings, sampling=sampling, replay=replay)
    module.prepare(torch.tensor([[-2.0] * 3, [1.0] * 3]), None)
    return module


@pytest.fixture(scope="module")
def gaussian():
    """A detector of the Gaussian, with the step size that makes E minus a log density."""
    return EBM(**GAUSSIAN).fit(gaussian_rows())


# ---- the loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["pcd", "cd"])
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_losss_gradient_is_that_of_maximum_likelihood(sampling, penalty):
    module = make_module(sampling, visible=Langevin(3, 0.02, 0.2), penalty=penalty).double()
    x = torch.randn(16, 3, dtype=torch.float64)
    generator_on("cpu").manual_seed(1)
    state = copy.deepcopy(module)
    parts = module.loss(x)
    parts["loss"].backward()
    generator_on("cpu").manual_seed(1)
    negatives = state.negatives(x)
    assert not negatives.requires_grad
    # Row by row: a row of data weighs 1 + 2 penalty E, a negative one -1 + 2 penalty E.
    expected = [torch.zeros_like(p) for p in state.parameters()]
    for rows, sign in ((x, 1), (negatives, -1)):
        for row in rows:
            energy = state.energy(row[None]).squeeze()
            weight = (sign + 2 * penalty * energy.detach()) / len(rows)
            for total, g in zip(
                expected, torch.autograd.grad(energy, list(state.parameters())), strict=True
            ):
                total += weight * g
    for p, g in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g)
    torch.testing.assert_close(parts["energy"], state.energy(x).mean())
    torch.testing.assert_close(parts["negative_energy"], state.energy(negatives).mean())


def test_the_penalty_bounds_energies():
    X = normal_rows(200, 3)
    far = X.mean(axis=0) + 4 * X.std(axis=0)
    spans = []
    for penalty in (0.0, 0.05, 1.0):
        detector = EBM(**{**GAUSSIAN, "max_steps": 100}, energy_penalty=penalty).fit(X)
        spans.append(np.ptp(detector.energy(np.vstack([X, far]))))
    assert spans[0] > spans[1] > 4 * spans[2]


# ---- chains ---------------------------------------------------------------------------------


def test_contrastive_chains_start_at_the_rows_and_stay_near():
    module, x = make_module("cd"), torch.randn(500, 3)
    assert torch.equal(module.negatives(x), x)
    module.settings = replace(module.settings, visible=Langevin(4, 0.005, 0.1), bounds="none")
    moved = module.negatives(x) - x
    # Four steps of noise 0.1 in three dimensions, and little drift.
    assert moved.square().sum(dim=1).mean().sqrt() == pytest.approx(0.1 * math.sqrt(12), rel=0.1)


def test_contrastive_negatives_without_steps_are_training_rows():
    X = normal_rows()
    detector = tiny("EBM", sampling="cd", replay=None, visible_chain=Chain(0)).fit(X)
    distances = np.abs(detector.negatives_[:, None] - X).max(axis=2) / X.std(axis=0).max()
    assert distances.min(axis=1).max() < 1e-5


def test_fresh_chains_start_uniformly_within_the_range_of_the_rows():
    module = make_module(replay=(40, 0.0))
    starts = module.negatives(torch.zeros(4000, 3))
    for column in starts.T.numpy():
        assert kstest(column, "uniform", args=(-2, 3)).pvalue > 1e-3


@pytest.mark.parametrize("ratio", [0.0, 0.7, 0.95, 1.0])
def test_persistent_chains_restart_at_the_stated_rate(ratio):
    module = make_module(replay=(300, ratio))
    x = torch.zeros(250, 3)
    module.negatives(x)
    fresh, n = 0, 0
    for _ in range(20):
        before = set(module.replayed.rows[:, 0].tolist())
        drawn = module.negatives(x)[:, 0].tolist()
        fresh += sum(value not in before for value in drawn)
        n += len(drawn)
    if ratio in (0.0, 1.0):
        assert fresh == n * (1 - ratio)
    else:
        assert binomtest(fresh, n, 1 - ratio).pvalue > 1e-3


def test_a_ratio_of_one_never_restarts_a_chain_in_training():
    settings = {"visible_chain": Chain(0), "batch_size": 16, "max_steps": 40}
    for ratio, restarted in ((1.0, False), (0.9, True)):
        detector = tiny("EBM", replay=Replay(16, ratio=ratio), **settings).fit(normal_rows())
        assert len(detector.negatives_) == 16 * 40
        assert (len(np.unique(detector.negatives_, axis=0)) > 16) == restarted


def test_no_buffer_starts_every_chain_afresh():
    detector = tiny("EBM", replay=Replay(0), visible_chain=Chain(0), max_steps=5).fit(normal_rows())
    assert len(np.unique(detector.negatives_, axis=0)) == 160


def test_the_automatic_step_is_that_of_langevin_dynamics():
    chain = EBM(visible_chain=Chain(7, noise=0.4))._make_module(3).settings.visible
    assert (chain.n_steps, chain.step_size, chain.noise) == (7, pytest.approx(0.08), 0.4)
    given = EBM(visible_chain=Chain(step_size=0.5))._make_module(3).settings.visible
    assert (given.n_steps, given.step_size, given.noise) == (10, 0.5, 0.3)


@pytest.mark.parametrize("options", [{"step_size": 1e6}, {"noise": 1e3}], ids=str)
def test_a_runaway_is_noticed_and_leaves_weights_that_score(options):
    X = normal_rows()
    detector = tiny("EBM", visible_chain=Chain(20, bounds="none", **options), max_steps=150)
    with pytest.warns(DivergenceWarning, match="stage 'energy' diverged") as caught:
        detector.fit(X)
    assert len(caught) == 1 and np.isfinite(detector.score_samples(X)).all()
    module = detector.module_
    assert module.replayed.rows.isfinite().all()
    # Warnings are errors here: what goes on from those weights does not run away.
    detector.set_params(visible_chain=Chain(20)).partial_fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


@pytest.mark.parametrize(("d", "penalty"), [(1, 0.01), (2, 0.01), (60, 0.01), (21, 0.003)])
def test_default_chains_do_not_run_away(d, penalty):
    EBM(max_steps=100, energy_penalty=penalty, random_state=0).fit(normal_rows(200, d))


# ---- the density ----------------------------------------------------------------------------


def test_energies_are_minus_the_log_density_in_nats(gaussian):
    X = gaussian_rows(3000, seed=1)
    truth = minus_log_density(X)
    bulk = truth < 4.5  # 3 standard deviations
    energies = gaussian.energy(X)
    np.testing.assert_array_equal(energies, -gaussian.score_samples(X))
    assert np.corrcoef(energies[bulk], truth[bulk])[0, 1] > 0.98
    assert np.polyfit(truth[bulk], energies[bulk], 1)[0] == pytest.approx(1, abs=0.2)


def l1_error(detector):
    axis = np.linspace(-4, 4, 81)
    learned = np.exp(detector.log_density_grid(axis, axis))
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    volume = 2 * np.pi * math.sqrt(np.linalg.det(COVARIANCE))
    truth = np.exp(-minus_log_density(grid)) / volume
    return np.abs(learned.ravel() - truth).sum() * (axis[1] - axis[0]) ** 2


def test_the_density_on_a_grid_is_that_of_the_rows(gaussian):
    assert l1_error(gaussian) < 0.15


def test_a_longer_step_lowers_the_temperature_of_the_same_density(gaussian):
    cold = EBM(**{**GAUSSIAN, "max_steps": 300}, visible_chain=Chain(step_size=0.09)).fit(
        gaussian_rows()
    )
    X = gaussian_rows(1000, seed=1)
    bulk = minus_log_density(X) < 4.5
    slope = np.polyfit(gaussian.energy(X)[bulk], cold.energy(X)[bulk], 1)[0]
    assert slope == pytest.approx(0.5, abs=0.12)
    assert l1_error(cold) < 0.2
    assert float(cold.module_.tempering) == pytest.approx(0.3**2 / (2 * 0.09))
    cold.set_params(visible_chain__noise=1.0)  # changes the next fit, not this density
    assert l1_error(cold) < 0.2


def test_metropolis_chains_have_no_temperature_of_their_own():
    detector = tiny("EBM", visible_chain=Chain(5, step_size=0.09, metropolis=True)).fit(
        normal_rows()
    )
    assert detector.module_.tempering == 1


def test_samples_have_the_density_they_are_drawn_from():
    """Two modes in one dimension: samples against the integral of exp(-E)."""
    rng = np.random.RandomState(0)
    X = np.where(rng.rand(1000) < 0.6, rng.normal(-2, 0.7, 1000), rng.normal(2, 1.0, 1000))[:, None]
    detector = EBM(**{**GAUSSIAN, "max_steps": 250}, visible_chain=Chain(metropolis=True)).fit(X)
    margin = X.std()  # bounds="data" is 1 standard deviation wider than the range
    grid = np.linspace(X.min() - margin, X.max() + margin, 2001)
    mass = np.exp(-detector.energy(grid[:, None])).cumsum()
    samples = detector.sample(1000, n_steps=300, random_state=1)
    assert samples.shape == (1000, 1)
    test = kstest(samples[:, 0], lambda x: np.interp(x, grid, mass / mass[-1]))
    assert test.pvalue > 1e-3
    # And that is about the data's: no point of the distribution functions is further off.
    assert kstest(samples[:, 0], X[:, 0]).statistic < 0.1


def test_samples_of_the_gaussian_have_its_moments(gaussian):
    samples = gaussian.sample(2000, n_steps=200, random_state=0)
    np.testing.assert_allclose(samples.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(np.cov(samples.T), COVARIANCE, atol=0.2)


def test_sampling_needs_nothing_that_a_file_lacks(gaussian, tmp_path):
    gaussian.save(tmp_path / "detector")
    loaded = EBM.load(tmp_path / "detector")
    assert len(loaded.negatives_) == 0 and len(gaussian.negatives_) == 1000
    np.testing.assert_array_equal(
        loaded.sample(5, random_state=3), gaussian.sample(5, random_state=3)
    )


def test_sampling_changes_nothing_and_obeys_its_arguments(gaussian):
    X = gaussian_rows()
    before = copy.deepcopy(gaussian.module_.replayed.rows)
    assert gaussian.sample().shape == (1, 2)
    start = gaussian.sample(500, n_steps=0, random_state=0)
    assert (start >= X.min(axis=0) - 1e-5).all() and (start <= X.max(axis=0) + 1e-5).all()
    assert not np.array_equal(start, gaussian.sample(500, n_steps=1, random_state=0))
    assert not np.array_equal(start, gaussian.sample(500, n_steps=0, random_state=1))
    assert torch.equal(before, gaussian.module_.replayed.rows)
    for arguments in ({"n_samples": 0}, {"n_steps": -1}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            gaussian.sample(**arguments)


def test_rows_between_clusters_score_lower():
    X, y = make_two_clusters(1000, anomalies=0.3, random_state=0)
    detector = EBM(**{**GAUSSIAN, "max_steps": 300, "learning_rate": 1e-2}).fit(X[y == 0])
    assert roc_auc_score(y, detector.anomaly_score(X)) > 0.95


def test_scores_do_not_end_inverted_in_many_columns():
    """Training beyond the peak, on columns that depend on each other."""
    rng = np.random.RandomState(0)
    mixing = rng.randn(5, 20)
    X = rng.randn(1000, 5) @ mixing + 0.3 * rng.randn(1000, 20)
    anomalies = rng.randn(300, 20) * X.std(axis=0)  # the same spread, no dependence
    aurocs = []
    for max_steps in (100, 500):
        settings = {"network": (64, 64), "visible_chain": Chain(5), "random_state": 0}
        detector = EBM(max_steps=max_steps, device="cpu", **settings).fit(X[:700])
        scores = detector.anomaly_score(np.vstack([X[700:], anomalies]))
        aurocs.append(roc_auc_score(np.repeat([0, 1], 300), scores))
    assert aurocs[0] > 0.7 and aurocs[1] > 0.97


# ---- options --------------------------------------------------------------------------------


def test_spectral_normalisation_keeps_energies_from_changing_by_more_than_1_per_unit():
    X = np.random.RandomState(0).randn(300, 4)
    slopes = {}
    for spectral in (True, False):
        detector = EBM(**{**GAUSSIAN, "max_steps": 100}, spectral=spectral, standardize=False)
        energies = detector.set_params(network=(64, 64)).fit(X).energy(X)
        distances = np.linalg.norm(X[:150] - X[150:], axis=1)
        slopes[spectral] = (np.abs(energies[:150] - energies[150:]) / distances).max()
    assert slopes[True] < 1.01 < slopes[False]


BASE = {"visible_chain": Chain(4), "max_steps": 20}
EFFECTS = [
    {"network": networks.FCRes(width=1 / 16)},
    {"network__hidden_sizes": (16,)},
    {"network__activation": "tanh"},
    {"spectral": True},
    {"sampling": "cd", "replay": None},
    {"visible_chain__steps": 5},
    {"visible_chain__step_size": 0.2},
    {"visible_chain__noise": 0.2},
    {"visible_chain__normalize": True},
    {"visible_chain__clip": 1e-3},
    {"visible_chain__anneal": True},
    {"visible_chain__bounds": "none"},
    {"visible_chain__bounds": (-0.5, 0.5)},
    {"visible_chain__metropolis": True},
    {"replay__size": 20},
    {"replay__ratio": 0.2},
    {"energy_penalty": 0.5},
    {"max_steps": 25},
    {"learning_rate": 3e-3},
    {"schedule": "constant"},
    {"batch_size": 20},
    {"standardize": False},
    {"random_state": 1},
]


@pytest.fixture(scope="module")
def plain_scores():
    X = np.random.RandomState(0).randn(60, 4) * 2
    return X, tiny("EBM", **BASE).fit(X).score_samples(X)


@pytest.mark.parametrize("option", EFFECTS, ids=str)
def test_every_option_changes_the_scores(option, plain_scores):
    X, scores = plain_scores
    changed = tiny("EBM", **BASE).set_params(**option).fit(X).score_samples(X)
    assert np.isfinite(changed).all() and not np.allclose(changed, scores, rtol=1e-6)


def test_every_option_of_training_is_among_them():
    elsewhere = {"contamination", "calibration_fraction", "warm_start", "device", "verbose"}
    elsewhere |= {"image_shape", "callbacks", "visible_chain__gamma"}  # test_images.py; refused
    tried = {name for option in EFFECTS for name in option} | {"visible_chain"}
    assert set(EBM().get_params()) - elsewhere == tried


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"visible_chain": Chain(noise=0.0)},
            "'auto' in visible_chain is noise .* 2 / 2, which is 0",
        ),
        ({"visible_chain": Chain(metropolis=True, clip=0.1)}, "cannot be combined with clip"),
        (
            {"visible_chain": Chain(bounds=(1.0, 0.0))},
            "bounds=.* must be two numbers, the lower first",
        ),
        ({"network": (8, 0)}, "hidden_sizes=.* must hold integers of at least 1"),
        ({"visible_chain": Chain(gamma=0.1)}, "EBM has no use for gamma there"),
        ({"sampling": "cd"}, "replay=Replay.* would be ignored"),
        ({"replay": Replay(0, ratio=0.5)}, "ratio=0.5 in replay=.* would be ignored"),
        ({"replay": Replay(50, ratio=0)}, "size=50 in replay=.* would be ignored: with ratio=0"),
        (
            {"visible_chain": Chain(step_size=0.0, clip=0.1)},
            r"clip=0.1 in Chain.* would be ignored: with step_size=0",
        ),
        ({"sampling": "omi"}, "'sampling' parameter of EBM must be a str among"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny("EBM", **options).fit(normal_rows())


def test_spectral_norms_that_a_network_has_in_any_case_cannot_be_asked_for():
    detector = EBM(image_shape=(3, 16, 16), network=networks.Conv32Big(width=1 / 32))
    detector._make_module(768)
    with pytest.raises(ValueError, match=r"spectral=True would be ignored: .*network=Conv32Big\("):
        detector.set_params(spectral=True)._make_module(768)
    detector.set_params(network=networks.Conv32(width=1 / 32), image_shape=(3, 24, 24))
    detector._make_module(3 * 24 * 24)


def test_chains_without_noise_descend():
    """No density is their limit: the grid is that of temperature 1."""
    X = gaussian_rows(100)
    detector = tiny("EBM", visible_chain=Chain(5, noise=0.0, step_size=0.1)).fit(X)
    axis = np.linspace(-3, 3, 21)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_density = detector.log_density_grid(axis, axis).ravel()
    np.testing.assert_allclose(np.ptp(log_density + detector.energy(grid)), 0, atol=1e-6)
