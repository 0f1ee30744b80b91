"""Training that runs away: noticed, undone, said; and training goes on afterwards."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skgenad import MPDR, Autoencoder
from skgenad._core.batches import STEPS_PER_EPOCH
from skgenad._core.callbacks import DivergenceWarning
from skgenad._core.loop import Stage
from skgenad._core.optimizers import adam
from skgenad._core.schedules import constant
from skgenad._core.training import run_stage
from skgenad._tensors import draws
from skgenad._tensors.seeds import seeded
from skgenad.energies import Chain, Manifold, Reconstruction, Replay
from skgenad.energies._langevin import ReplayBuffer

from ._settings import VARIANTS, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")


class Toy(nn.Module):
    """A weight, a buffer that is saved and one that is not."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("level", torch.zeros(1))
        self.replay = ReplayBuffer(4 * STEPS_PER_EPOCH, 0.5, 1)


def run(objective, n_steps=4 * STEPS_PER_EPOCH, callbacks=(), **fields):
    module = Toy()
    optimizer = adam(module.parameters(), 1e-2)
    stage = Stage(
        name="toy", objective=objective, optimizers={"main": optimizer}, n_steps=n_steps, **fields
    )
    table = run_stage(module, stage, torch.ones(3, 1), batch_size=1, callbacks=callbacks)
    return module, optimizer, table


def good_for(n_good, then, energy=None):
    """An objective whose loss is `then` after `n_good` steps, and that uses every buffer."""
    step = 0

    def objective(module, x):
        nonlocal step
        step += 1
        factor = 1.0 if step <= n_good else then
        module.level.add_(factor)
        module.replay.push(torch.full((1, 1), factor))
        parts = {"loss": factor * module.weight.sum()}
        if energy is not None:
            parts["negative_energy"] = torch.tensor(1.0 if step <= n_good else energy)
        return parts

    return objective


@pytest.mark.parametrize(
    ("then", "energy"), [(float("nan"), None), (float("inf"), None), (1.0, 1e3), (1.0, -1e3)]
)
def test_the_last_good_state_comes_back_and_the_stage_ends(then, energy):
    n_good = 2 * STEPS_PER_EPOCH
    module, optimizer, _ = run(good_for(n_good, 1.0), n_good, schedule=constant)
    with pytest.warns(DivergenceWarning, match="'toy' diverged in epoch 3 .* restored"):
        broken, broken_optimizer, table = run(
            good_for(n_good + 5, then, energy), schedule=constant, energy_limit=10.0
        )
    assert table["epoch"].max() == 3
    assert torch.equal(broken.weight, module.weight)
    assert torch.equal(broken.level, module.level)
    assert torch.equal(broken.replay.rows, module.replay.rows)
    assert torch.equal(broken.replay._next, module.replay._next)
    for key, moment in optimizer.state[module.weight].items():
        assert torch.equal(broken_optimizer.state[broken.weight][key], moment)


def test_the_first_weights_come_back_if_no_epoch_was_good():
    with pytest.warns(DivergenceWarning, match="epoch 1"):
        module, _, _ = run(good_for(3, float("nan")))
    assert torch.equal(module.weight, torch.ones(1))


def test_weights_that_broke_in_an_epochs_last_step_are_noticed():
    class Break(Callback):
        def on_batch_end(self, net, **kwargs):
            if net.history[-1, "epoch"] == 1 and net.module_.level == STEPS_PER_EPOCH:
                net.module_.weight.data.fill_(float("nan"))

    with pytest.warns(DivergenceWarning, match="epoch 1"):
        module, _, _ = run(good_for(10**9, 1.0), STEPS_PER_EPOCH, callbacks=[Break()])
    assert torch.equal(module.weight, torch.ones(1))


def test_an_early_stop_cannot_overtake_the_guard():
    stopper = EarlyStopping("train_loss", patience=1)
    with pytest.warns(DivergenceWarning):
        module, _, _ = run(good_for(STEPS_PER_EPOCH, float("nan")), callbacks=[stopper])
    assert module.weight.isfinite()


def runaway(**parameters):
    """An MPDR whose visible step is far too long and has no bounds to stop it."""
    chain = Chain(20, step_size=1e4, bounds="none")
    return tiny("MPDR", visible_chain=chain, max_steps=200, **parameters)


def test_a_real_runaway_leaves_a_detector_that_scores():
    start = {}

    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            start.update({n: v.clone() for n, v in net.module_.state_dict().items()})

    X = normal_rows()
    with pytest.warns(DivergenceWarning, match="stage 'energy' diverged in epoch 1") as caught:
        detector = runaway(callbacks=[Keep()]).fit(X)
    assert len(caught) == 1
    assert (detector.history_["stage"] == "energy").sum() == 1
    # What is left is what the last stage began with.
    assert all(torch.equal(v, start[n]) for n, v in detector.module_.state_dict().items())
    assert np.isfinite(detector.score_samples(X)).all()


def test_training_goes_on_after_a_runaway():
    X = normal_rows()
    detector = runaway(replay=Replay(50))
    with pytest.warns(DivergenceWarning):
        detector.fit(X)
    assert all(buffer.rows.isfinite().all() for buffer in detector.module_.buffers_)
    before = detector.score_samples(X)
    # Warnings are errors here: the second training does not run away.
    detector.set_params(visible_chain=Chain(20), max_steps=30).partial_fit(X)
    after = detector.score_samples(X)
    assert np.isfinite(after).all() and not np.array_equal(before, after)


def test_default_settings_do_not_run_away_on_few_columns():
    for d in (1, 2):
        energy, manifold = Reconstruction(pretrain_steps=60), Manifold(steps=60)
        settings = {"energy": energy, "manifold": manifold, "random_state": 0}
        MPDR(max_steps=60, **settings).fit(normal_rows(100, d))


# ---- losses that stay finite ---------------------------------------------------------------------


def rates(detector):
    """Names of the learning rates of a detector's parameters, those of its parts too."""
    names = [name for name in detector.get_params() if name.endswith("learning_rate")]
    return [name for name in names if "temperature" not in name]


TRAINED = [
    (name, extra)
    for name, extra in VARIANTS
    if rates(tiny(name, **extra)) and extra.get("density_network", 0) is not None
]


def fit_at(rate, name, extra):
    """Fit at a learning rate; return warnings, scores of new normal rows, and the AUROC."""
    detector = tiny(name, **extra)
    detector.set_params(**dict.fromkeys(rates(detector) if rate else [], rate))
    X, rng = normal_rows(200), np.random.RandomState(5)
    far = X[rng.permutation(200)[:60]] + 3 * X.std(axis=0) * rng.randn(60, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(X[:100])
    n_warnings = sum(issubclass(w.category, DivergenceWarning) for w in caught)
    normal, anomalous = detector.anomaly_score(X[100:]), detector.anomaly_score(far)
    truth = np.repeat([0, 1], [100, 60])
    return n_warnings, normal, roc_auc_score(truth, np.append(normal, anomalous))


@pytest.mark.parametrize(("name", "extra"), TRAINED, ids=[f"{n}-{e}" for n, e in TRAINED])
def test_a_learning_rate_that_is_far_too_high_is_said(name, extra):
    n_ordinary, ordinary, auroc = fit_at(None, name, extra)
    assert n_ordinary == 0
    for rate in (1.0, 1e3):
        n_warnings, scores, found = fit_at(rate, name, extra)
        assert np.isfinite(scores).all()
        if n_warnings:
            continue
        # The level of a contrastive energy is free, and a rate that is too high may leave one that
        # knows nothing: no loss tells.
        size = 100 if name == "EBM" else 10
        assert np.median(np.abs(scores)) < size * np.median(np.abs(ordinary))
        assert name == "EBM" or found > auroc - 0.1


@pytest.mark.parametrize("name", ["Autoencoder", "VAE", "PixelCNN"])
def test_after_a_finite_runaway_the_stage_is_as_it_began(name):
    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            first.update({n: v.clone() for n, v in net.module_.named_parameters()})

    first = {}
    detector = tiny(name, learning_rate=1e3, max_steps=20, callbacks=[Keep()])
    with pytest.warns(DivergenceWarning, match="stage .* diverged"):
        detector.fit(normal_rows())
    for n, v in detector.module_.named_parameters():
        assert torch.equal(v, first[n])


def test_a_loss_that_rises_is_a_divergence_and_one_that_is_noisy_is_none():
    def stage_of(objective, rate, seed=0):
        module = nn.Linear(3, 3)
        optimizer = adam(module.parameters(), rate)
        stage = Stage(name="toy", objective=objective, optimizers={"main": optimizer}, n_steps=60)
        with seeded(seed):
            return run_stage(module, stage, torch.randn(50, 3), batch_size=8)

    with pytest.warns(
        DivergenceWarning, match=r"'toy' diverged: its loss is .* at the end and was"
    ):
        stage_of(lambda module, x: {"loss": module(x).square().mean()}, rate=1e3)
    for seed in range(5):
        # A step too long that stays about where it was, and draws that hide what is learned.
        stage_of(lambda m, x: {"loss": m(x).mean() * 0 + draws.randn(1).square().sum()}, 0.5, seed)


def test_a_growing_weight_in_the_loss_is_no_divergence():
    step = 0

    def objective(module, x):
        nonlocal step
        step += 1
        return {"loss": (1 + step) * (module.weight.square().sum() + 1)}

    run(objective)  # the loss of the last epoch is 100 times the first one's


class Keeping(nn.Module):
    """A network of a user's own that keeps what it computed last."""

    def __init__(self, n_outputs, in_list):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, n_outputs)
        self.in_list, self.kept = in_list, []

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        self.kept = [hidden] if self.in_list else hidden
        return self.last(hidden)


class Factory:
    def __init__(self, in_list=False):
        self.in_list = in_list

    def make_encoder(self, shape, latent_dim):
        return Keeping(latent_dim, self.in_list)

    def make_decoder(self, latent_dim, shape):
        return nn.Linear(latent_dim, *shape)


@pytest.mark.parametrize("in_list", [False, True])
def test_a_network_may_keep_what_it_computed(in_list):
    X = np.random.RandomState(0).randn(200, 4)
    settings = {"network": Factory(in_list), "max_steps": 20, "random_state": 0, "device": "cpu"}
    Autoencoder(**settings).fit(X)
    if not in_list:
        with pytest.warns(DivergenceWarning):
            Autoencoder(**settings, learning_rate=30.0).fit(X)


@pytest.mark.parametrize("name", ["PWAE", "VAE"])
def test_losses_near_0_that_rise_a_little_are_no_divergence(name):
    rng = np.random.RandomState(0)
    X = rng.randn(390, 2) @ rng.randn(2, 4)
    detector = tiny(name, max_steps=300).partial_fit(X[:300])
    for k in range(6):
        batch = X[300 + 15 * k : 315 + 15 * k]
        detector.partial_fit(0.2 * batch + 3 * (k + 1) if name == "PWAE" else batch)
