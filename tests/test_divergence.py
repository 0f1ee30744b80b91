"""Training that runs away: noticed, undone, said; and training goes on afterwards."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skgenad import MPDR
from skgenad._core.callbacks import DivergenceWarning
from skgenad._core.loop import STEPS_PER_EPOCH, Stage
from skgenad._core.optimizers import adam
from skgenad._core.schedules import constant
from skgenad._core.training import run_stage
from skgenad.energies import Chain, Manifold, Reconstruction, Replay
from skgenad.energies._langevin import ReplayBuffer

from ._settings import normal_rows, tiny

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
