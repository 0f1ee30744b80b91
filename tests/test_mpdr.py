"""MPDR: its stages, energies, options and claims; the recovery module has tests of its own."""

import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skgenad import MPDR
from skgenad._core.callbacks import DivergenceWarning
from skgenad._core.loop import StopStage
from skgenad._tensors.maps import SpectralWeight
from skgenad._tensors.networks import Networks
from skgenad.datasets import eight_gaussians_log_density, make_eight_gaussians
from skgenad.energies._energies import build_energy, masked_block
from skgenad.energies._recovery import RecoveryModule
from skgenad.metrics import on_manifold_scorer

TINY = {
    "hidden_sizes": (16,),
    "manifold_steps": 10,
    "pretrain_steps": 10,
    "max_steps": 10,
    "batch_size": 32,
    "random_state": 0,
}
# Enough for eight Gaussians, in about a second.
EIGHT = {
    "hidden_sizes": (64, 64),
    "manifold_steps": 200,
    "pretrain_steps": 200,
    "max_steps": 200,
    "visible_noise": 0.15,
    "score_type": "energy",
}


class SquaredDistance(nn.Module):
    """A custom energy: the squared distance from a centre that is learned."""

    def __init__(self, n_features):
        super().__init__()
        self.centre = nn.Parameter(torch.full((n_features,), 0.5))

    def energy(self, x):
        return (x - self.centre).square().mean(dim=1)


class WrongShape(SquaredDistance):
    """A custom energy with a column too many."""

    def energy(self, x):
        return super().energy(x)[:, None]


class AtStart(Callback):
    """Keeps what `look` makes of the module when a stage begins."""

    def __init__(self, stage, look):
        self.stage, self.look = stage, look

    def on_train_begin(self, net, **kwargs):
        if net.stage.name == self.stage:
            self.seen_ = self.look(net.module_)


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def squared_weights(network):
    return sum(p.detach().square().sum().item() for p in network.parameters())


def stages(detector):
    return detector.history_["stage"].unique().tolist()


@pytest.fixture(scope="module")
def X():
    rng = np.random.RandomState(0)
    return rng.randn(200, 2) @ rng.randn(2, 6) + 0.1 * rng.randn(200, 6)


@pytest.fixture(scope="module", params=[0, 1])
def eight(request):
    """(training rows, fresh rows, trained detector) on eight Gaussians well apart."""
    seed = request.param
    train, _ = make_eight_gaussians(2000, variance=1 / 8, random_state=seed)
    fresh, _ = make_eight_gaussians(500, variance=1 / 8, random_state=100 + seed)
    return train, fresh, MPDR(**EIGHT, random_state=seed).fit(train)


# ---- the claim: eight Gaussians (section 4.2) ------------------------------------------------

SIDE = (np.arange(100) + 0.5) * 0.08 - 4
GRID = np.stack(np.meshgrid(SIDE, SIDE), axis=-1).reshape(-1, 2)
CELL = 0.08**2


def fitted_density(rows, on_grid):
    """exp(-E / T) on the grid, T of maximum likelihood on the training rows."""

    def loss(log_t):
        return (rows / np.exp(log_t)).mean() + logsumexp(-on_grid / np.exp(log_t))

    log_t = minimize_scalar(loss, bounds=(-14, 4), method="bounded").x
    logits = -on_grid / np.exp(log_t)
    return np.exp(logits - logsumexp(logits)) / CELL


def test_density_of_the_energy_is_nearer_to_eight_gaussians_than_its_autoencoders(eight):
    train, _, detector = eight
    truth = np.exp(eight_gaussians_log_density(GRID, variance=1 / 8))
    truth /= truth.sum() * CELL
    module = detector.module_
    manifold = module.manifolds[0]

    def l1_error(energy):
        def at(rows):
            standard = torch.from_numpy(detector.units_.to_standard(rows))
            with torch.no_grad():
                return energy(standard).numpy().astype(np.float64)

        return np.abs(fitted_density(at(train), at(GRID)) - truth).sum() * CELL

    of_energy = l1_error(module.base.energy)
    of_autoencoder = l1_error(lambda x: (x - manifold(x)).square().mean(dim=1))
    # Measured on five seeds: .24 to .36 against .78 to .79; on this scale 2 is the worst.
    assert of_energy < 0.6 * of_autoencoder


# ---- samples ---------------------------------------------------------------------------------


def test_samples_look_like_the_data(eight):
    _, fresh, detector = eight
    samples = detector.sample(500, random_state=0)
    uniform = np.random.RandomState(0).uniform(-6, 6, (500, 2))
    on_samples, on_data, on_uniform = (
        detector.anomaly_score(rows).mean() for rows in (samples, fresh, uniform)
    )
    assert on_samples < 3 * on_data < 0.3 * on_uniform
    density = eight_gaussians_log_density(samples, variance=1 / 8).mean()
    assert density > eight_gaussians_log_density(fresh, variance=1 / 8).mean() - 1.5
    mode = np.round(np.arctan2(samples[:, 1], samples[:, 0]) / (np.pi / 4)).astype(int) % 8
    assert np.bincount(mode, minlength=8).min() > 500 / 8 / 3, "a mode is missing"


@pytest.mark.parametrize("parameters", [{}, {"manifold_dims": (2, 3, 4)}, {"manifold": "identity"}])
@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_samples_have_the_shape_asked_for(X, parameters, n_samples):
    samples = MPDR(**TINY, **parameters).fit(X).sample(n_samples, n_steps=3)
    assert samples.shape == (n_samples, 6)
    assert np.isfinite(samples).all()


def test_samples_are_in_the_units_of_the_data(X):
    factors = np.array([1.0, 1000.0, 1e-3, 1.0, 1.0, 1.0])
    shift = np.array([0.0, 5e4, 0.0, 0.0, 0.0, 0.0])
    plain = MPDR(**TINY).fit(X).sample(50, n_steps=5, random_state=1)
    scaled = MPDR(**TINY).fit(X * factors + shift).sample(50, n_steps=5, random_state=1)
    np.testing.assert_allclose(scaled, plain * factors + shift, rtol=1e-3, atol=1e-3)
    assert np.ptp(scaled[:, 1]) > 100


def test_sampling_is_seeded_and_changes_no_state(X, global_rng_untouched):
    detector = MPDR(**TINY, replay_size=20).fit(X)
    before = pickle.dumps(detector)
    one, same, other = (detector.sample(5, n_steps=3, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert pickle.dumps(detector) == before


def test_samples_stay_within_the_bounds(X):
    detector = MPDR(**TINY, bounds=(-0.5, 0.25), standardize=False, visible_noise=1.0).fit(X)
    samples = detector.sample(50, n_steps=2)
    assert samples.min() == -0.5 and samples.max() == 0.25


# ---- the label-free measure (appendix C) -----------------------------------------------------


def test_on_manifold_score_rises_with_training(eight):
    train, fresh, detector = eight
    short = MPDR(**{**EIGHT, "max_steps": 1}, random_state=detector.random_state).fit(train)
    # The pretrained energy is lower on the manifold than at the rows: it is an autoencoder.
    assert short.on_manifold_score(fresh) < 0.45
    assert detector.on_manifold_score(fresh) > short.on_manifold_score(fresh) + 0.1


@pytest.mark.parametrize("manifold_dims", [2, (2, 3)])
def test_on_manifold_score_is_the_auroc_against_points_of_the_manifold(X, manifold_dims):
    detector = MPDR(**TINY, manifold_dims=manifold_dims).fit(X)
    module = detector.module_
    points, decoders = [], [net.decoder.forward for net in module.manifolds]
    for net, decoder in zip(module.manifolds, decoders, strict=True):
        net.decoder.forward = lambda z, decoder=decoder: (
            points.append((z, decoder(z))),
            decoder(z),
        )[1]
    rows = torch.from_numpy(detector.units_.to_standard(X))
    try:
        score = detector.on_manifold_score(X)
    finally:
        for net in module.manifolds:
            del net.decoder.forward
    drawn = points[: len(module.manifolds)]
    sizes = [len(z) for z, _ in drawn]
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) >= 1000
    for z, _ in drawn:
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))
    with torch.inference_mode():
        on_points = module.base.energy(torch.cat([x for _, x in drawn]))
        on_rows = module.base.energy(rows)
    wins = (on_points[None] > on_rows[:, None]).double().mean().item()
    assert score == pytest.approx(wins, abs=1e-3)


def test_on_manifold_score_is_deterministic(X, global_rng_untouched):
    detector = MPDR(**TINY).fit(X)
    scores = {detector.on_manifold_score(X) for _ in range(3)}
    assert len(scores) == 1 and 0 <= scores.pop() <= 1


@pytest.mark.parametrize("parameters", [{"manifold": "identity"}, {"latent_space": "euclidean"}])
def test_on_manifold_score_needs_a_sphere(X, parameters):
    detector = MPDR(**TINY, **parameters).fit(X)
    with pytest.raises(ValueError, match="uniformly on a sphere"):
        detector.on_manifold_score(X)


def test_on_manifold_score_serves_a_grid_search(X):
    search = GridSearchCV(
        MPDR(**TINY), {"max_steps": [1, 20]}, scoring=MPDR.on_manifold_score, cv=2
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert ((scores >= 0) & (scores <= 1)).all()
    train, test = next(KFold(2).split(X))
    by_hand = MPDR(**{**TINY, "max_steps": 20}).fit(X[train]).on_manifold_score(X[test])
    assert search.cv_results_["split0_test_score"][1] == by_hand


def test_on_manifold_scorer_serves_a_grid_search_over_a_pipeline(X):
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), MPDR(**TINY)),
        {"mpdr__visible_noise": [0.1, 0.3]},
        scoring=on_manifold_scorer,
        cv=2,
    ).fit(X)
    best = search.best_estimator_
    wanted = best[-1].on_manifold_score(best[:-1].transform(X))
    assert on_manifold_scorer(best, X) == wanted
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    "parameters",
    [{"learning_rate": 0.01}, {"visible_noise": 0.1}, {"max_steps": 20}, {"energy_penalty": 0.5}],
)
def test_parameters_of_the_energy_stage_leave_the_manifold_as_it_is(X, parameters):
    # What on_manifold_score may compare: the points must be the same.
    one, other = MPDR(**TINY).fit(X), MPDR(**{**TINY, **parameters}).fit(X)
    assert_same_weights(weights(one.module_.manifolds), weights(other.module_.manifolds))


# ---- stages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters, wanted",
    [
        ({}, ["manifold", "energy"]),
        ({"latent_dim": 7}, ["manifold", "pretrain", "energy"]),
        ({"latent_space": "euclidean"}, ["manifold", "pretrain", "energy"]),
        ({"energy_init": "pretrain"}, ["manifold", "pretrain", "energy"]),
        ({"energy": "masked"}, ["manifold", "pretrain", "energy"]),
        ({"energy": "scalar"}, ["manifold", "energy"]),
        ({"energy": SquaredDistance}, ["manifold", "energy"]),
        ({"energy_init": "random"}, ["manifold", "energy"]),
        ({"energy_init": "manifold"}, ["manifold", "energy"]),
        ({"pretrain_steps": 0}, ["manifold", "energy"]),
        ({"manifold": "identity"}, ["pretrain", "energy"]),
    ],
)
def test_stages_follow_the_energy_and_its_start(X, parameters, wanted):
    assert stages(MPDR(**{**TINY, **parameters}).fit(X)) == wanted


def test_every_stage_has_its_own_number_of_steps(X):
    lengths = {"manifold_steps": 7, "pretrain_steps": 3, "max_steps": 60}
    history = MPDR(**{**TINY, **lengths}, energy_init="pretrain").fit(X).history_
    assert history.groupby("stage")["step"].max().to_dict() == {
        "manifold": 7,
        "pretrain": 3,
        "energy": 60,
    }


@pytest.mark.parametrize("energy", ["reconstruction", "scalar", "masked", SquaredDistance])
@pytest.mark.parametrize("manifold_dims", [None, (2, 3)])
def test_manifolds_are_frozen_while_the_energy_trains(X, energy, manifold_dims):
    at_start = AtStart("energy", lambda module: (weights(module.manifolds), weights(module.base)))
    detector = MPDR(**TINY, energy=energy, manifold_dims=manifold_dims, callbacks=[at_start]).fit(X)
    manifolds, base = at_start.seen_
    assert_same_weights(manifolds, weights(detector.module_.manifolds))
    moved = weights(detector.module_.base)
    assert any(not torch.equal(base[name], moved[name]) for name in base)


def test_manifold_training_moves_every_manifold_and_not_the_energy(X):
    def both(module):
        return weights(module.manifolds), weights(module.base)

    first, second = AtStart("manifold", both), AtStart("pretrain", both)
    MPDR(**TINY, manifold_dims=(2, 3), callbacks=[first, second]).fit(X)
    before, after = first.seen_, second.seen_
    assert_same_weights(before[1], after[1])
    assert all(not torch.equal(before[0][name], after[0][name]) for name in before[0])


def test_each_manifold_of_an_ensemble_learns_from_its_own_error_alone(X):
    detector = MPDR(**TINY, manifold_dims=(2, 3))
    module = detector._make_module(6)
    objective = detector._stages(module)[0].objective
    x = torch.randn(10, 6)
    for net in module.manifolds:
        parameters = list(net.parameters())
        own = torch.autograd.grad((x - net(x)).square().mean(), parameters)
        together = torch.autograd.grad(objective(module, x)["loss"], parameters)
        torch.testing.assert_close(own, together)


@pytest.mark.parametrize("manifold_dims", [None, (6, 2)])
def test_energy_init_manifold_starts_from_a_copy_of_the_first_manifold(X, manifold_dims):
    at_start = AtStart(
        "energy", lambda module: (weights(module.base.net), weights(module.manifolds[0]))
    )
    settings = {**TINY, "energy_init": "manifold", "manifold_dims": manifold_dims}
    detector = MPDR(**settings, callbacks=[at_start]).fit(X)
    assert_same_weights(*at_start.seen_)
    # A copy: training the energy left the manifold alone.
    assert_same_weights(at_start.seen_[1], weights(detector.module_.manifolds[0]))
    assert not torch.equal(
        detector.module_.base.net.encoder.layers[0].weight,
        detector.module_.manifolds[0].encoder.layers[0].weight,
    )


def test_energy_init_random_starts_from_the_weights_the_module_was_made_with(X):
    first = AtStart("manifold", lambda module: weights(module.base))
    last = AtStart("energy", lambda module: weights(module.base))
    MPDR(**TINY, energy_init="random", callbacks=[first, last]).fit(X)
    assert_same_weights(first.seen_, last.seen_)


def test_pretraining_lowers_the_energy_of_the_data(X):
    rows = torch.from_numpy(((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32))

    def mean_energy(module):
        with torch.no_grad():
            return module.base.energy(rows).mean().item()

    first, last = AtStart("pretrain", mean_energy), AtStart("energy", mean_energy)
    settings = {**TINY, "pretrain_steps": 200, "manifold_learning_rate": 5e-3}
    MPDR(**settings, energy_init="pretrain", callbacks=[first, last]).fit(X)
    assert last.seen_ < 0.5 * first.seen_


def test_encoder_penalty_shrinks_the_encoders_of_the_manifolds_only(X):
    settings = {**TINY, "manifold_steps": 200, "manifold_dims": (2, 3)}
    plain = MPDR(**settings).fit(X).module_.manifolds
    shrunk = MPDR(**settings, encoder_penalty=0.1).fit(X).module_.manifolds
    for a, b in zip(plain, shrunk, strict=True):
        assert squared_weights(b.encoder) < 0.8 * squared_weights(a.encoder)
        assert squared_weights(b.decoder) > 0.7 * squared_weights(a.decoder)


def test_what_is_frozen_is_in_no_optimiser():
    detector = MPDR(manifold_dims=(2, 3))
    module = detector._make_module(4)
    manifold, pretrain, energy = (
        {id(p) for group in stage.optimizers["main"].param_groups for p in group["params"]}
        for stage in detector._stages(module)
    )
    assert manifold == {id(p) for p in module.manifolds.parameters()}
    assert pretrain == energy == {id(p) for p in module.base.parameters()}


def test_learning_rates_belong_to_their_stages():
    detector = MPDR(
        energy_init="pretrain",
        manifold_learning_rate=0.002,
        learning_rate=0.0003,
        schedule="constant",
    )
    rates = {
        stage.name: (stage.optimizers["main"].param_groups[0]["lr"], stage.cosine)
        for stage in detector._stages(detector._make_module(4))
    }
    assert rates == {
        "manifold": (0.002, False),
        "pretrain": (0.002, False),
        "energy": (0.0003, False),
    }


# ---- chains in training ----------------------------------------------------------------------


def record_negatives(monkeypatch):
    calls, original = [], RecoveryModule.negatives

    def negatives(self, x, *args):
        calls.append((self, x, original(self, x, *args)))
        return calls[-1][2]

    monkeypatch.setattr(RecoveryModule, "negatives", negatives)
    return calls


def test_negatives_stay_within_the_range_of_the_data_widened_by_one(X, monkeypatch):
    calls = record_negatives(monkeypatch)
    detector = MPDR(**TINY, visible_noise=3.0).fit(X)
    Z = torch.from_numpy(detector.units_.to_standard(X))
    low, high = Z.min(dim=0).values - 1, Z.max(dim=0).values + 1
    negatives = torch.cat([negative for *_, negative in calls])
    torch.testing.assert_close(negatives.min(dim=0).values, low)
    torch.testing.assert_close(negatives.max(dim=0).values, high)


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), [0, 1]])
def test_negatives_stay_within_a_pair_of_bounds(X, bounds, monkeypatch):
    calls = record_negatives(monkeypatch)
    MPDR(**TINY, visible_noise=2.0, bounds=bounds).fit(X)
    negatives = torch.cat([negative for *_, negative in calls])
    assert [negatives.min().item(), negatives.max().item()] == list(bounds)


def test_negatives_leave_the_range_without_bounds(X):
    detector = MPDR(**TINY, bounds=None).fit(X).set_params(visible_noise=3.0)
    module = detector.module_
    rows = torch.from_numpy(detector.units_.to_standard(X))
    negatives = module.negatives(rows, (0.1, 0.3), *detector._chains(module))
    assert (negatives < module.low - 1).any() and (negatives > module.high + 1).any()


def test_one_negative_for_every_row_of_a_batch(X, monkeypatch):
    calls = record_negatives(monkeypatch)
    MPDR(**TINY, manifold_dims=(2, 3, 4)).fit(X)
    assert len(calls) == 10
    assert all(x.shape == negative.shape == (32, 6) for _, x, negative in calls)


@pytest.mark.parametrize("latent_steps, visible_steps", [(1, 5), (0, 3), (2, 0)])
def test_a_training_step_takes_one_input_gradient_per_step_of_a_chain(
    X, latent_steps, visible_steps, monkeypatch
):
    detector = MPDR(**TINY, latent_steps=latent_steps, visible_steps=visible_steps)
    module = detector._make_module(6)
    detector._before_training(module, torch.randn(50, 6), None)
    gradients, original = [], module.base.energy_and_grad
    monkeypatch.setattr(
        module.base, "energy_and_grad", lambda x: (gradients.append(len(x)), original(x))[1]
    )
    detector._energy_objective(module, torch.randn(32, 6))
    assert gradients == [32] * (latent_steps + visible_steps)


def test_chain_parameters_reach_the_chains():
    detector = MPDR(
        latent_steps=3,
        latent_step_size=0.01,
        latent_noise=0.02,
        latent_gamma=0.03,
        visible_steps=4,
        visible_step_size=0.05,
        visible_noise=0.06,
        visible_gamma=0.07,
        bounds=None,
        metropolis=True,
    )
    (latent, latent_gamma), (visible, visible_gamma) = detector._chains(detector._make_module(5))
    assert (latent.n_steps, latent.step_size, latent.noise) == (3, 0.01, 0.02)
    assert (visible.n_steps, visible.step_size, visible.noise) == (4, 0.05, 0.06)
    assert (latent_gamma, visible_gamma) == (0.03, 0.07)
    assert latent.sphere and not visible.sphere
    assert visible.metropolis and not latent.metropolis


@pytest.mark.parametrize("n_features", [1, 3, 300])
def test_relative_visible_step_of_a_masked_energy_is_relative_to_its_block(n_features):
    detector = MPDR(energy="masked") if n_features > 1 else MPDR()
    module = detector._make_module(n_features)
    _, (chain, _) = detector._chains(module)
    assert chain.step_size == pytest.approx(0.1 * max(1, n_features // 5))


@pytest.mark.parametrize("n_features", [1, 3, 300])
def test_relative_visible_step_moves_a_residual_by_a_fifth(n_features):
    # For E = |x|^2 / D the step must not depend on D: x shrinks by a fifth.
    detector = MPDR(visible_noise=0.0, visible_steps=1, bounds=None)
    _, (chain, _) = detector._chains(detector._make_module(n_features))
    x = torch.randn(4, n_features)
    end = chain.run(lambda x: (x.square().mean(dim=1), 2 * x / n_features), x).x
    torch.testing.assert_close(end, 0.8 * x)


@pytest.mark.parametrize("bounds", [None, "data", (-3, 3)])
def test_metropolis_trains_with_and_without_bounds(X, bounds):
    detector = MPDR(**TINY, metropolis=True, bounds=bounds).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


def test_replay_buffer_fills_in_training_up_to_its_size(X):
    module = MPDR(**TINY, replay_size=100, manifold_dims=(2, 3)).fit(X).module_
    assert [len(buffer) for buffer in module.buffers_] == [100, 100]
    assert all(buffer.ratio == 0.95 for buffer in module.buffers_)


# ---- energies and their regularisers (sections 3.5 and 4.1) ----------------------------------


@pytest.mark.parametrize(
    "energy, on_data", [("reconstruction", False), ("masked", False), ("scalar", True)]
)
def test_penalty_is_on_negatives_and_for_scalar_energies_on_data_too(energy, on_data, monkeypatch):
    detector = MPDR(**TINY, energy=energy, energy_penalty=0.7)
    module = detector._make_module(6).eval()
    x, negatives = torch.randn(8, 6), torch.randn(8, 6)
    monkeypatch.setattr(RecoveryModule, "negatives", lambda self, *args: negatives)
    parameters = list(module.base.parameters())
    got = torch.autograd.grad(detector._energy_objective(module, x)["loss"], parameters)
    on_x, on_negatives = module.base.energy(x), module.base.energy(negatives)
    wanted = on_x.mean() - on_negatives.mean() + 0.7 * on_negatives.square().mean()
    if on_data:
        wanted = wanted + 0.7 * on_x.square().mean()
    torch.testing.assert_close(got, torch.autograd.grad(wanted, parameters))


def test_scalar_energy_keeps_its_spectral_norms_at_one(X):
    settings = {**TINY, "max_steps": 60, "learning_rate": 1e-2, "hidden_sizes": (32, 32)}
    net = MPDR(**settings, energy="scalar").fit(X).module_.base.net
    for layer in net.layers:
        assert torch.linalg.svdvals(layer.weight)[0].item() == pytest.approx(1, abs=1e-2)
    raw = [layer.raw_weight for layer in net.layers]
    assert max(torch.linalg.svdvals(w)[0].item() for w in raw) > 1.2, "nothing was normalised"


@pytest.mark.parametrize("energy", ["reconstruction", "scalar"])
def test_an_energy_trained_from_random_weights_tells_rows_from_wider_ones(X, energy):
    settings = {"hidden_sizes": (32, 32), "max_steps": 150, "learning_rate": 5e-3}
    settings |= {"energy_init": "random", "score_type": "energy", "batch_size": 64}
    detector = MPDR(**{**TINY, **settings}, energy=energy).fit(X)
    wide = 2 * X.std(axis=0) * np.random.RandomState(0).randn(200, 6)
    truth = np.repeat([0, 1], 200)
    assert roc_auc_score(truth, detector.anomaly_score(np.r_[X, wide])) > 0.9
    assert detector.history_["energy"].iloc[-1] < detector.history_["negative_energy"].iloc[-1]


@pytest.mark.parametrize(
    "n_features, block",
    [(640, (256, 384)), (5, (2, 3)), (10, (4, 6)), (2, (0, 1)), (3, (1, 2)), (21, (8, 12))],
)
def test_masked_block_is_the_middle_fifth(n_features, block):
    assert masked_block(n_features) == block


def test_masked_energy_is_the_error_of_the_block_predicted_from_all_other_columns():
    energy = build_energy("masked", Networks("mlp", (10,), 1.0, (16,), "tanh"), 4)
    x = torch.randn(7, 10, requires_grad=True)
    rest = torch.cat([x[:, :4], x[:, 6:]], dim=1)
    value = energy.energy(x)
    torch.testing.assert_close(value, (x[:, 4:6] - energy.net(rest)).square().mean(dim=1))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert (gradient.abs() > 0).all(), "a column does not count"
    other = torch.cat([x[:, :4], torch.zeros(7, 2), x[:, 6:]], dim=1)
    torch.testing.assert_close(energy.net(rest), energy.net(energy._split(other)[0]))


def test_masked_energy_finds_a_block_that_does_not_fit_the_rest():
    rng = np.random.RandomState(0)
    X = rng.randn(800, 2) @ rng.randn(2, 10) + 0.05 * rng.randn(800, 10)
    broken = X[600:].copy()
    broken[:, 4:6] = rng.permutation(broken[:, 4:6])
    lengths = {"manifold_steps": 60, "pretrain_steps": 100, "max_steps": 60}
    detector = MPDR(**{**TINY, **lengths, "hidden_sizes": (32,)}, energy="masked").fit(X[:600])
    truth = np.repeat([0, 1], 200)
    assert roc_auc_score(truth, detector.anomaly_score(np.r_[X[600:], broken])) > 0.8


def test_custom_energy_is_made_for_the_columns_trained_and_scored(X):
    at_start = AtStart("energy", lambda module: weights(module.base))
    settings = {**TINY, "max_steps": 100, "learning_rate": 1e-2}
    detector = MPDR(**settings, energy=SquaredDistance, callbacks=[at_start]).fit(X)
    centre = detector.module_.base.centre.detach()
    assert centre.shape == (6,)
    assert centre.abs().max() < 0.8 * at_start.seen_["centre"].abs().max(), "0 is the data's centre"
    Z = detector.units_.to_standard(X)
    wanted = -np.square(Z - centre.numpy()).mean(axis=1)
    np.testing.assert_allclose(detector.score_samples(X), wanted, rtol=1e-5)
    again = pickle.loads(pickle.dumps(detector.set_params(callbacks=None)))
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))


# ---- manifolds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_features, manifold_dims, wanted",
    [
        (6, None, (6,)),
        (100, None, (100,)),
        (101, None, (71,)),
        (1, None, (2,)),
        (6, 3, (3,)),
        (6, (2, 3, 4), (2, 3, 4)),
        (6, [2, 3], (2, 3)),
    ],
)
def test_manifold_dims_are_the_paper_s_unless_given(n_features, manifold_dims, wanted):
    module = MPDR(hidden_sizes=(8,), manifold_dims=manifold_dims)._make_module(n_features)
    assert module.latent_dims == wanted
    sizes = [net.encode(torch.randn(2, n_features)).shape[1] for net in module.manifolds]
    assert tuple(sizes) == wanted


@pytest.mark.parametrize("latent_space, spherical", [("sphere", True), ("euclidean", False)])
def test_latent_space_is_that_of_every_manifold(latent_space, spherical):
    detector = MPDR(hidden_sizes=(8,), manifold_dims=(2, 3), latent_space=latent_space)
    module = detector._make_module(4)
    assert [net.spherical for net in module.manifolds] == [spherical, spherical]
    (latent, _), _ = detector._chains(module)
    assert latent.sphere == spherical


def test_identity_manifold_trains_by_gaussian_recovery(X):
    chain = {"latent_steps": 0, "visible_step_size": 0.1, "visible_noise": 0.4}
    recovery = {"manifold": "identity", "noise_range": (0.5, 0.5), "visible_gamma": 1.0}
    settings = {**TINY, "hidden_sizes": (32,), "max_steps": 200, **chain, **recovery}
    detector = MPDR(**settings).fit(X)
    module = detector.module_
    assert len(module.manifolds) == 1 and not list(module.manifolds.parameters())
    x = torch.randn(5, 6)
    torch.testing.assert_close(module.manifolds[0](x), x, rtol=0, atol=0)
    wide = 2 * X.std(axis=0) * np.random.RandomState(0).randn(200, 6)
    scores = detector.anomaly_score(np.r_[X, wide])
    assert roc_auc_score(np.repeat([0, 1], 200), scores) > 0.9


# ---- score -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters, combined",
    [
        ({}, True),
        ({"score_type": "combined"}, True),
        ({"score_type": "energy"}, False),
        ({"manifold": "identity"}, False),
        ({"energy": "scalar"}, False),
        ({"energy": "masked"}, False),
        ({"energy": "masked", "score_type": "combined"}, True),
        ({"energy": SquaredDistance}, False),
        ({"manifold_dims": (2, 3)}, True),
        ({"manifold_weight": 0.8}, True),
        ({"manifold_weight": 0.8, "score_type": "energy"}, False),
    ],
)
def test_score_is_the_energy_or_its_log_combined_with_the_manifolds_errors(X, parameters, combined):
    detector = MPDR(**TINY, **parameters).fit(X)
    module = detector.module_.double()
    x = torch.from_numpy(detector.units_.to_standard(X)).double()
    with torch.no_grad():
        wanted = module.base.energy(x)
        if combined:
            errors = torch.stack([(x - net(x)).square().mean(dim=1) for net in module.manifolds])
            weight = detector.manifold_weight
            wanted = (1 - weight) * wanted.log() + weight * errors.log().mean(dim=0)
    module.float()
    np.testing.assert_allclose(-detector.score_samples(X), wanted.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"score_type": "combined", "energy": "scalar"}, "score_type='combined'.*energy='scalar'"),
        (
            {"score_type": "combined", "energy": SquaredDistance},
            "score_type='combined'.*score_type='energy'",
        ),
        (
            {"score_type": "combined", "manifold": "identity"},
            "score_type='combined'.*manifold='identity'",
        ),
        ({"energy_init": "manifold", "energy": "scalar"}, "energy_init='manifold'"),
        ({"energy_init": "manifold", "energy": "masked"}, "energy_init='manifold'"),
        ({"energy_init": "manifold", "manifold": "identity"}, "energy_init='manifold'"),
        ({"energy_init": "manifold", "latent_space": "euclidean"}, "spherical latent space"),
        ({"energy_init": "manifold", "latent_dim": 3}, "same latent dimension"),
        ({"energy_init": "manifold", "manifold_dims": (2, 6)}, "same latent dimension"),
        ({"noise_range": (0.3, 0.1)}, "noise_range=.*lower first"),
        ({"noise_range": (0.0, 0.1)}, "noise_range=.*above 0"),
        ({"noise_range": (0.1,)}, "noise_range=.*two numbers"),
        ({"noise_range": ("a", "b")}, "noise_range=.*two numbers"),
        ({"bounds": (1, 0)}, "bounds=.*lower first"),
        ({"bounds": "box"}, "bounds"),
        ({"manifold_dims": 0}, "manifold_dims"),
        ({"manifold_dims": (3, 0)}, "manifold_dims=.*at least 1"),
        ({"hidden_sizes": (8, -1)}, "hidden_sizes=.*at least 1"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"energy": "quadratic"}, "energy"),
        ({"manifold": "torus"}, "manifold"),
        ({"latent_space": "cube"}, "latent_space"),
        ({"visible_step_size": "small"}, "visible_step_size"),
        ({"visible_noise": -1.0}, "visible_noise"),
        ({"latent_gamma": -1.0}, "latent_gamma"),
        ({"replay_ratio": 1.5}, "replay_ratio"),
        ({"manifold_weight": -0.1}, "manifold_weight"),
        ({"schedule": "linear"}, "schedule"),
        ({"metropolis": True, "bounds": None, "visible_noise": 0.0}, "noise > 0"),
        ({"manifold_dims": ()}, "manifold_dims=.*1 or more"),
        ({"manifold": "identity", "manifold_dims": 3}, "manifold_dims=3"),
        ({"noise_range": (0.1, np.inf)}, "noise_range=.*finite"),
        ({"noise_range": (0.1, np.nan)}, "noise_range="),
        ({"bounds": (np.nan, 1)}, "bounds="),
        ({"manifold_dims": (2, 3, 4), "batch_size": 2}, "batch_size=2.*3 manifolds"),
        ({"energy": WrongShape}, r"shape \(2,\), got \(2, 1\)"),
        ({"row_noise": -1.0}, "row_noise"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused_before_training(X, parameters, message):
    begun = AtStart("manifold", lambda module: True)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        MPDR(**{**TINY, **parameters}, callbacks=[begun]).fit(X)
    assert not hasattr(begun, "seen_")


@pytest.mark.parametrize(
    "energy", [lambda n_features: nn.Linear(n_features, 1), lambda n: "energy"]
)
def test_a_custom_energy_without_the_method_is_refused(X, energy):
    with pytest.raises(TypeError, match=r"method energy\(x\), got (Linear|str)"):
        MPDR(**{**TINY, "energy": energy}).fit(X)


@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_parameters_are_checked_when_training_continues(X, method):
    detector = MPDR(**TINY, warm_start=True).fit(X)
    detector.set_params(bounds=(1, -1))
    with pytest.raises(ValueError, match="bounds=.*lower first"):
        getattr(detector, method)(X)


@pytest.mark.parametrize(
    "arguments", [{"n_samples": 0}, {"n_samples": -1}, {"n_samples": 2, "n_steps": -1}]
)
def test_sample_refuses_numbers_that_make_no_sense(X, arguments):
    with pytest.raises(ValueError, match=r"n_samples ==|n_steps =="):
        MPDR(**TINY).fit(X).sample(**arguments)


def test_sample_refuses_half_a_row(X):
    with pytest.raises(TypeError, match="n_samples must be an instance of"):
        MPDR(**TINY).fit(X).sample(1.5)


def test_row_noise_reaches_every_stage(X):
    detector = MPDR(**TINY, row_noise=100.0)
    module = detector._make_module(6)
    rows = torch.zeros(200, 6)
    for stage in detector._stages(module):
        parts = stage.objective(module, rows)
        level = parts.get("energy", parts["loss"])
        assert level > 100, f"{stage.name} must see the noise"


def test_masked_energy_needs_two_columns():
    with pytest.raises(ValueError, match=r"got 1 feature\(s\)"):
        MPDR(**TINY, energy="masked").fit(np.random.RandomState(0).randn(20, 1))


# ---- the paper's settings --------------------------------------------------------------------


def test_from_paper_is_table_7_and_section_4_5_literally():
    parameters = MPDR.from_paper().get_params()
    wanted = {
        # Table 7, ADBench, MPDR-R
        "latent_steps": 1,
        "latent_step_size": 0.1,
        "latent_noise": 0.05,
        "latent_gamma": 0.0001,
        "visible_steps": 5,
        "visible_step_size": 10,
        "visible_noise": 0.1,
        "visible_gamma": 0.0001,
        # section 4.5
        "energy": "reconstruction",
        "manifold": "autoencoder",
        "hidden_sizes": (1024, 1024),
        "manifold_dims": None,
        "latent_dim": None,
        # sections 3.3, 3.4 and 4.1
        "latent_space": "sphere",
        "noise_range": (0.05, 0.3),
        "energy_penalty": 1.0,
        "learning_rate": 1e-4,
        "manifold_learning_rate": 1e-4,
        "schedule": "constant",
        "score_type": "energy",
        "replay_size": 0,
        "metropolis": False,
        "encoder_penalty": 0.0,
        # the data is scaled by the protocol, and only images have bounds
        "standardize": False,
        "bounds": None,
    }
    assert {name: parameters[name] for name in wanted} == wanted


TABLE_7 = {
    ("mnist", "reconstruction"): (5, 0.1, 0.02, 5, 10, 0.005),
    ("mnist", "scalar"): (2, 0.05, 0.02, 5, 10, 0.005),
    ("cifar10", "reconstruction"): (10, 0.1, 0.01, 20, 10, 0.005),
    ("cifar10", "scalar"): (10, 0.1, 0.01, 20, 10, 0.005),
}


@pytest.mark.parametrize(("experiment", "energy"), TABLE_7)
def test_from_paper_has_the_experiments_on_images(experiment, energy):
    steps = {"manifold_steps": 1, "pretrain_steps": 1, "max_steps": 2, "batch_size": 6}
    detector = MPDR.from_paper(experiment, energy=energy, network_width=1 / 32, **steps)
    names = "latent_steps latent_step_size latent_noise visible_steps visible_step_size"
    names += " visible_noise"
    got = tuple(getattr(detector, name) for name in names.split())
    assert got == TABLE_7[experiment, energy]
    assert (detector.latent_gamma, detector.visible_gamma) == (1e-4, 0.0)
    reconstructs_digits = (experiment, energy) == ("mnist", "reconstruction")
    assert detector.learn_scale == reconstructs_digits
    assert detector.learning_rate == (1e-5 if reconstructs_digits else 1e-4)
    X = np.random.RandomState(0).rand(8, *detector.image_shape).astype(np.float32)
    detector.set_params(latent_steps=1, visible_steps=2, random_state=0, device="cpu").fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.module_.latent_dims == ((32,) if experiment == "mnist" else (32, 64, 128))
    spectral = [m for m in detector.module_.base.modules() if isinstance(m, SpectralWeight)]
    assert bool(spectral) == (energy == "scalar" or experiment == "cifar10")
    with pytest.raises(ValueError, match="adbench, mnist, cifar10"):
        MPDR.from_paper("imagenet")


def test_from_paper_takes_other_parameters_and_is_a_detector_of_the_class():
    class Mine(MPDR):
        pass

    detector = Mine.from_paper(hidden_sizes=(8,), visible_noise=0.2)
    assert type(detector) is Mine
    assert (detector.hidden_sizes, detector.visible_noise) == ((8,), 0.2)
    assert detector.visible_step_size == 10
    with pytest.raises(TypeError, match="visible_nose"):
        MPDR.from_paper(visible_nose=0.2)


def test_paper_settings_train_on_rows_in_the_unit_cube():
    rows = np.random.RandomState(0).rand(150, 30)
    detector = MPDR.from_paper(**TINY).fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()
    np.testing.assert_array_equal(detector.units_.to_standard(rows), rows.astype(np.float32))


# ---- continuing ------------------------------------------------------------------------------


def test_partial_fit_trains_the_energy_only_and_keeps_the_replay_buffer(X):
    detector = MPDR(**TINY, replay_size=1000, energy_init="manifold").fit(X)
    before, base = weights(detector.module_.manifolds), weights(detector.module_.base)
    kept = detector.module_.buffers_[0].rows.clone()
    detector.partial_fit(X[:1])
    assert_same_weights(before, weights(detector.module_.manifolds))
    after = weights(detector.module_.base)
    assert any(not torch.equal(base[name], after[name]) for name in base)
    # The copy of the manifold is where the energy starts, not where it continues.
    assert not torch.equal(
        after["net.encoder.layers.0.weight"], before["0.encoder.layers.0.weight"]
    )
    rows = detector.module_.buffers_[0].rows
    assert len(rows) == 2 * len(kept) and torch.equal(rows[: len(kept)], kept)


def test_a_stage_stopped_by_a_callback_still_leads_to_a_fitted_detector(X):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise StopStage

    detector = MPDR(**{**TINY, "max_steps": 200}, callbacks=[Stop()]).fit(X)
    assert detector.history_.groupby("stage")["step"].max()["energy"] == 50


@pytest.mark.parametrize("replay_size", [0, 100])
def test_a_detector_that_diverged_can_be_trained_further_with_smaller_steps(X, replay_size):
    settings = {**TINY, "max_steps": 60, "replay_size": replay_size}
    detector = MPDR(**settings, bounds=None, visible_step_size=1e4)
    with pytest.warns(DivergenceWarning, match="stage 'energy' diverged"):
        detector.fit(X)
    before = detector.score_samples(X)
    assert np.isfinite(before).all()
    detector.set_params(bounds="data", visible_step_size="auto").partial_fit(X)
    after = detector.score_samples(X)
    assert np.isfinite(after).all() and not np.array_equal(before, after)


def test_the_label_free_score_of_a_pipeline_names_the_scorer(X):
    with pytest.raises(TypeError, match="got Pipeline.*on_manifold_scorer"):
        MPDR.on_manifold_score(make_pipeline(StandardScaler(), MPDR(**TINY)).fit(X), X)


def test_an_energy_without_parameters_is_refused(X):
    class Fixed(nn.Module):
        def __init__(self, n_features):
            super().__init__()

        def energy(self, x):
            return x.square().mean(dim=1)

    with pytest.raises(ValueError, match="Fixed has no parameters"):
        MPDR(**{**TINY, "energy": Fixed}).fit(X)


def test_cross_validation_without_scoring_says_that_there_is_none(X):
    # A parameter called `score` would be taken for the method.
    with pytest.raises(TypeError, match="scoring"):
        cross_val_score(MPDR(**TINY), X, cv=2)
