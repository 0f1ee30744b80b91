"""The training loop: how many steps on which rows, what moves, what is written down."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skgenad._core.batches import STEPS_PER_EPOCH, RowBatches
from skgenad._core.loop import Stage
from skgenad._core.optimizers import (
    adam,
    adamw,
    in_order_with_penalty,
    put_moments,
    with_penalty,
)
from skgenad._core.schedules import constant, cosine
from skgenad._core.training import inputs_of, run_stage
from skgenad._tensors import draws
from skgenad._tensors.seeds import seeded
from skgenad.energies import Reconstruction

from ._settings import DETECTORS, having, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

PRETRAINED = {"energy": Reconstruction(init="pretrain", pretrain_steps=10)}


class Recorder(Callback):
    """Writes down what it is told, with the stage and the learning rate of the moment."""

    def __init__(self):
        self.calls = []

    def note(self, event):
        def called(net, *args, **kwargs):
            rate = net.optimizer_.param_groups[0]["lr"]
            self.calls.append((net.stage.name, event, rate))

        return called

    def __getattribute__(self, name):
        return self.note(name) if name.startswith("on_") else super().__getattribute__(name)

    def count(self, event):
        return sum(call[1] == event for call in self.calls)


def square(module, x):
    return {"loss": (module(x) - x).square().mean()}


def stage_on(module, n_steps=120, learning_rate=1e-2, objective=square, **fields):
    optimizer = adam(module.parameters(), learning_rate)
    return Stage(
        name="test",
        objective=objective,
        optimizers={"main": optimizer},
        n_steps=n_steps,
        **fields,
    )


# ---- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch_size"), [(1, 4), (3, 10), (10, 3), (10, 10), (7, 5)])
def test_every_batch_is_full_and_every_pass_covers_every_row(n, batch_size):
    n_steps = 3 * n
    batches = list(RowBatches(torch.arange(n)[:, None], batch_size, n_steps))
    assert all(len(batch) == batch_size for batch in batches)
    order = torch.cat(batches)[:, 0]
    for one_pass in order.split(n)[: len(order) // n]:
        assert sorted(one_pass.tolist()) == list(range(n))


def test_passes_differ_in_order():
    (batch,) = RowBatches(torch.arange(20)[:, None], 60, 1)
    passes = batch[:, 0].split(20)
    assert not torch.equal(passes[0], passes[1]) and not torch.equal(passes[1], passes[2])


def test_an_epoch_is_a_fixed_number_of_batches_whatever_the_rows():
    for n in (3, 3000):
        batches = RowBatches(torch.zeros(n, 1), 8, 2 * STEPS_PER_EPOCH + 7)
        epochs = [len(list(batches)) for _ in range(4)]
        assert epochs == [STEPS_PER_EPOCH, STEPS_PER_EPOCH, 7, 0]


# ---- validation -----------------------------------------------------------------------------


class Drifting(nn.Module):
    """A weight that goes from 0 to 1 in 100 steps of 0.01 and on; a buffer that counts them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))


def drift(module, x):
    module.count += 1
    return {"loss": -module.weight}


def run_drifting(n_steps, target=1.0, validate=None, **parameters):
    def nearness(module, inputs):
        assert not module.training and not torch.is_grad_enabled()
        return (module.weight - target).square() + 0 * inputs.sum()

    module = Drifting()
    sgd = {"main": torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.0)}
    stage = Stage(
        name="test",
        objective=drift,
        optimizers=sgd,
        n_steps=n_steps,
        schedule=constant,
        validate=validate or nearness,
    )
    held_out = torch.zeros(3, 1)
    table = run_stage(
        module, stage, torch.zeros(2, 1), held_out=held_out, batch_size=2, **parameters
    )
    return module, table


def test_the_epoch_of_the_lowest_validation_loss_is_kept_with_its_buffers():
    module, table = run_drifting(250)
    assert module.weight.item() == pytest.approx(1.0, abs=1e-5) and module.count == 100
    assert table["validation_loss"].tolist() == pytest.approx([0.25, 0, 0.25, 1, 2.25], abs=1e-5)
    assert list(table.columns)[-2:] == ["validation_loss", "seconds"]
    assert len(table) == 5 and table["step"].iloc[-1] == 250


def test_the_optimizers_moments_are_those_of_the_epoch_kept():
    module = nn.Linear(1, 1)
    stage = stage_on(module, 250, validate=lambda module, x: x.sum())
    run_stage(module, stage, torch.randn(4, 1), held_out=torch.zeros(1, 1), batch_size=2)
    assert stage.optimizers["main"].state[module.weight]["step"] == STEPS_PER_EPOCH


def test_validation_is_a_mean_over_rows_whatever_the_chunks(monkeypatch):
    monkeypatch.setattr("skgenad._tensors.chunks._MOST_ROWS", 2)
    held_out, sizes = torch.tensor([[1.0], [2.0], [6.0]]), []

    def mean(module, inputs):
        sizes.append(len(inputs))
        return inputs.mean()

    stage = stage_on(nn.Linear(1, 1), 60, validate=mean)
    table = run_stage(nn.Linear(1, 1), stage, torch.ones(4, 1), held_out=held_out, batch_size=2)
    assert table["validation_loss"].tolist() == [3, 3] and sizes == [2, 1] * 2


def test_the_rates_of_all_optimizers_fall_to_0():
    module = nn.Linear(1, 1)
    optimizers = {
        "weight": torch.optim.SGD([module.weight], lr=1.0),
        "bias": torch.optim.SGD([module.bias], lr=0.1),
    }
    rates = []

    def objective(module, x):
        rates.append([o.param_groups[0]["lr"] for o in optimizers.values()])
        return {"loss": module(x).square().mean()}

    stage = Stage(name="test", objective=objective, optimizers=optimizers, n_steps=4)
    run_stage(module, stage, 0.1 * torch.ones(2, 1), batch_size=2)
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert np.allclose(rates, [[c, 0.1 * c] for c in cosine])


def test_random_draws_of_a_validation_are_the_same_in_every_epoch_and_cost_training_nothing():
    states = []

    def noisy(module, inputs):
        return draws.rand()

    def batches(validate):
        seen, module = [], nn.Linear(1, 1)
        stage = stage_on(module, 120, objective=lambda m, x: (seen.append(x), square(m, x))[1])
        stage.validate = validate
        rows = torch.arange(9.0)[:, None]
        with seeded(0):
            table = run_stage(module, stage, rows, held_out=torch.zeros(1, 1), batch_size=2)
            states.append(draws.rand())
        return torch.cat(seen[:120]), table  # a stage may be judged by some batches more

    quiet, _ = batches(lambda module, inputs: torch.zeros(()))
    drawn, table = batches(noisy)
    assert table["validation_loss"].nunique() == 1
    assert torch.equal(quiet, drawn) and states[0] == states[1]


def test_a_validation_loss_that_is_not_a_number_chooses_nothing():
    module, table = run_drifting(100, validate=lambda module, inputs: torch.tensor(float("nan")))
    assert table["validation_loss"].isna().all() and module.count == 100


def test_without_rows_held_out_the_last_epoch_is_kept():
    module = Drifting()
    sgd = {"main": torch.optim.SGD(module.parameters(), lr=0.01)}
    stage = Stage(
        name="test",
        objective=drift,
        optimizers=sgd,
        n_steps=150,
        validate=lambda module, inputs: module.weight,
    )
    table = run_stage(module, stage, torch.zeros(2, 1), batch_size=2)
    assert module.count == 150 and "validation_loss" not in table


def test_inputs_are_computed_in_evaluation_mode_without_gradients():
    module = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.9))
    stage = stage_on(module, inputs=lambda module, rows: module(rows))
    rows = torch.randn(5, 2)
    inputs = inputs_of(module.train(), stage, rows)
    assert torch.equal(inputs, module[0](rows)) and not inputs.requires_grad
    assert inputs_of(module, stage_on(module), rows) is rows


def test_adamw_decays_weights_apart_from_the_gradient():
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    optimizer = adamw(module.parameters(), 0.1, 0.5)
    module.zero_grad()
    (0 * module(torch.ones(1, 2)).sum()).backward()
    optimizer.step()
    torch.testing.assert_close(module.weight, 0.95 * before)


# ---- one stage ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, 120])
def test_a_stage_takes_the_steps_it_was_given(n_steps):
    recorder, seen = Recorder(), []

    def objective(module, x):
        seen.append(x.shape)
        return square(module, x)

    module = nn.Linear(3, 3)
    stage = stage_on(module, n_steps, objective=objective)
    table = run_stage(module, stage, torch.randn(9, 3), batch_size=4, callbacks=[recorder])
    assert seen == [(4, 3)] * n_steps
    assert recorder.count("on_batch_end") == recorder.count("on_grad_computed") == n_steps
    assert recorder.count("on_epoch_end") == len(table) == -(-n_steps // STEPS_PER_EPOCH)
    assert table["step"].iloc[-1] == n_steps
    assert next(iter(stage.optimizers.values())).state[module.weight]["step"] == n_steps


def test_no_steps_change_nothing():
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    assert run_stage(module, stage_on(module, 0), torch.randn(3, 2), batch_size=2).empty
    assert torch.equal(module.weight, before)


def test_training_learns():
    module = nn.Linear(3, 3)
    table = run_stage(module, stage_on(module, 400, 5e-2), torch.randn(50, 3), batch_size=16)
    assert table["loss"].iloc[-1] < 0.01 * table["loss"].iloc[0]
    torch.testing.assert_close(module.weight, torch.eye(3), atol=0.05, rtol=0)


def test_history_holds_means_over_an_epoch():
    values = iter(range(80, 0, -1))

    def objective(module, x):
        value = torch.tensor(float(next(values)))
        return {"loss": 0 * module(x).sum() + value, "twice": 2 * value}

    module = nn.Linear(1, 1)
    table = run_stage(
        module, stage_on(module, 80, objective=objective), torch.zeros(2, 1), batch_size=2
    )
    assert list(table.columns) == ["stage", "epoch", "step", "loss", "twice", "seconds"]
    assert table["stage"].tolist() == ["test", "test"]
    assert table["epoch"].tolist() == [1, 2] and table["step"].tolist() == [50, 80]
    assert table["loss"].tolist() == [55.5, 15.5] and table["twice"].tolist() == [111, 31]
    assert (table["seconds"] > 0).all()


RATES = {
    "cosine": (cosine, 0.5e-2 * (1 + np.cos(np.pi * np.arange(100) / 100))),
    "constant": (constant, np.full(100, 1e-2)),
    "own": (lambda step, n_steps: 7 / (1 + 10 * step / n_steps), 1e-2 / (1 + np.arange(100) / 10)),
}


@pytest.mark.parametrize(("schedule", "expected"), RATES.values(), ids=RATES)
def test_learning_rate_follows_the_schedule_up_to_a_constant(schedule, expected):
    recorder, module = Recorder(), nn.Linear(2, 2)
    stage = stage_on(module, 100, 1e-2, schedule=schedule)
    run_stage(module, stage, torch.randn(5, 2), batch_size=2, callbacks=[recorder])
    rates = [rate for _, event, rate in recorder.calls if event == "on_batch_begin"]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_the_cosine_is_torchs_own_bit_by_bit():
    """Fits are what they were when torch's scheduler set the rates."""
    recorder, module = Recorder(), nn.Linear(2, 2)
    run_stage(module, stage_on(module, 73), torch.randn(5, 2), batch_size=2, callbacks=[recorder])
    rates = [rate for _, event, rate in recorder.calls if event == "on_batch_begin"]
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=73)
    for rate in rates:
        assert rate == scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()


def test_a_stage_trains_by_its_modules_own_loss_unless_told_otherwise():
    class Own(nn.Linear):
        def loss(self, x):
            return square(self, x)

    torch.manual_seed(0)
    one = Own(2, 2)
    other = copy.deepcopy(one)
    for module, more in ((one, {}), (other, {"objective": square})):
        torch.manual_seed(1)
        stage = Stage(
            name="x", optimizers={"main": adam(module.parameters(), 0.1)}, n_steps=3, **more
        )
        run_stage(module, stage, torch.ones(3, 2), batch_size=2)
    assert torch.equal(one.weight, other.weight)


def test_only_what_an_optimizer_holds_moves():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = [p.clone() for p in module.parameters()]
    stage = Stage(
        name="second",
        objective=square,
        optimizers={"main": adam(module[1].parameters(), 0.1)},
        n_steps=5,
    )
    run_stage(module, stage, torch.randn(5, 2), batch_size=2)
    moved = [not torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]
    assert all(p.grad is None for p in module.parameters())


def test_several_optimizers_each_take_their_step():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizers = {
        "descent": torch.optim.SGD(module[0].parameters(), lr=0.1),
        "ascent": torch.optim.SGD(module[1].parameters(), lr=0.1, maximize=True),
    }
    rows = torch.ones(1, 2)
    square(module, rows)["loss"].backward()
    expected = [
        p - sign * 0.1 * p.grad
        for part, sign in ((module[0], 1), (module[1], -1))
        for p in part.parameters()
    ]
    expected = [p.detach() for p in expected]
    stage = Stage(name="two", objective=square, optimizers=optimizers, n_steps=1)
    run_stage(module, stage, rows, batch_size=1)
    for actual, wanted in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(actual.detach(), wanted)


def test_the_norm_of_all_gradients_is_clipped():
    module = nn.Linear(2, 2)
    norms = []

    class Norm(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            gradients = [p.grad.flatten() for _, p in named_parameters]
            norms.append(torch.cat(gradients).norm().item())

    stage = stage_on(module, 3, clip_norm=0.01)
    run_stage(module, stage, 100 * torch.randn(5, 2), batch_size=2, callbacks=[Norm()])
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_the_penalty_is_on_the_encoders_weights_alone():
    encoder, rest = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = with_penalty(encoder, [rest], 0.3)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    before = encoder.weight.detach().clone(), rest.weight.detach().clone()
    for p in [*encoder.parameters(), *rest.parameters()]:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    # d/dw of 0.3 w^2 is 0.6 w
    torch.testing.assert_close(encoder.weight.detach(), before[0] * (1 - 0.1 * 0.6))
    assert torch.equal(rest.weight, before[1])


# ---- callbacks ------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", having("callbacks"))
def test_callbacks_see_every_stage(detector):
    recorder = Recorder()
    callbacks = [recorder]
    fitted = tiny(detector, callbacks=callbacks).fit(normal_rows())
    stages = list(dict.fromkeys(stage for stage, *_ in recorder.calls))
    assert stages == fitted.history_["stage"].unique().tolist()
    for event in ("on_train_begin", "on_train_end"):
        assert [s for s, e, _ in recorder.calls if e == event] == stages
    assert recorder.count("on_epoch_end") == len(fitted.history_)
    n_steps = fitted.history_.groupby("stage")["step"].max().sum()
    assert recorder.count("on_grad_computed") == n_steps <= recorder.count("on_batch_end")
    assert fitted.callbacks is callbacks and callbacks == [recorder]


def test_history_is_a_table_with_the_energies_of_both_kinds():
    table = tiny("MPDR", **PRETRAINED).fit(normal_rows()).history_
    assert isinstance(table, pd.DataFrame)
    assert table["stage"].tolist() == ["manifold", "pretrain", "energy"]
    last = table.iloc[-1]
    assert np.isfinite(last[["loss", "energy", "negative_energy"]].astype(float)).all()
    assert table["energy"].isna().tolist() == [True, True, False]


def test_early_stopping_ends_a_stage_and_not_the_fit():
    # Nothing is ever an improvement of more than 1e9, so the second epoch is the last.
    stopper = EarlyStopping("train_loss", patience=1, threshold=1e9, threshold_mode="abs")
    detector = tiny("MPDR", **PRETRAINED, max_steps=300)
    detector.set_params(manifold__steps=300, energy__pretrain_steps=300)
    detector.set_params(callbacks=[stopper]).fit(normal_rows())
    assert detector.history_.groupby("stage")["epoch"].max().to_dict() == {
        "manifold": 2,
        "pretrain": 2,
        "energy": 2,
    }
    assert np.isfinite(detector.score_samples(normal_rows())).all()


@pytest.mark.parametrize("event", ["on_train_begin", "on_batch_begin", "on_epoch_end"])
def test_a_keyboard_interrupt_passes_even_beside_early_stopping(event):
    def interrupt(net, **kwargs):
        raise KeyboardInterrupt

    callback = Callback()
    setattr(callback, event, interrupt)
    module = nn.Linear(2, 2)
    callbacks = [callback, EarlyStopping("train_loss", patience=3)]
    with pytest.raises(KeyboardInterrupt):
        run_stage(module, stage_on(module), torch.randn(3, 2), batch_size=2, callbacks=callbacks)
    assert not module.training


@pytest.mark.parametrize("detector", DETECTORS)
def test_fit_is_silent_by_default(detector, capfd):
    tiny(detector).fit(normal_rows()).predict(normal_rows())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("detector", having("verbose"))
def test_verbose_shows_one_bar_for_each_stage(detector, capfd):
    fitted = tiny(detector, verbose=1).fit(normal_rows())
    out, err = capfd.readouterr()
    assert out == ""
    last_lines = [line.rpartition("\r")[2] for line in err.strip().split("\n")]
    steps = fitted.history_.groupby("stage", sort=False)["step"].max()
    assert len(last_lines) == len(steps)
    for line, (stage, n_steps) in zip(last_lines, steps.items(), strict=True):
        assert line.startswith(f"{stage}: 100%") and f"{n_steps}/{n_steps}" in line
        assert "loss=" in line


def pair_of_layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 3))


def test_penalties_of_both_kinds_are_one_and_one_keeps_the_order(drawing):
    first, second = pair_of_layers(), pair_of_layers()
    groups = in_order_with_penalty(second, second[0], 0.5)
    assert [p for group in groups for p in group["params"]] == list(second.parameters())
    for net, made in ((first, with_penalty(first[0], [first[1]], 0.5)), (second, groups)):
        optimizer = adam(made, 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(first[0].weight, pair_of_layers()[0].weight)


def test_moments_of_other_weights_are_refused(drawing):
    """A fused optimiser would write beyond them."""
    net, other = pair_of_layers(), pair_of_layers()
    optimizer = adam(net.parameters(), 0.1)
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    moments = optimizer.state_dict()["state"]
    put_moments(adam(other.parameters(), 0.1), moments)
    for parameters in (with_penalty(other, [], 0.0), other[0].parameters()):
        with pytest.raises(ValueError, match="those of other weights"):
            put_moments(adam(parameters, 0.1), moments)
