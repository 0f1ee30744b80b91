"""Early stopping: stages end where rows held out say so, at their best epoch, or it is refused."""

import copy

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

import skgenad
from skgenad import EarlyStopping
from skgenad._core.loop import Stage
from skgenad._core.training import run_stage
from skgenad.energies import Manifold

from ._settings import having, normal_rows, takes, tiny
from .test_checkpoints import assert_same, fit_in_pieces, longer

STOPPING = having("stopping")
# Stages whose loss is one against negatives.
UNJUDGED = {"MPDR": {"energy"}, "NAE": {"energy"}}


class Valley(nn.Module):
    """A weight that goes through the best place, 1.2, in steps of 0.01, and on."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


def run_valley(patience, n_steps=1000, callbacks=()):
    module = Valley()
    stage = Stage(
        name="valley",
        objective=lambda module, x: {"loss": -module.weight},
        optimizers={"main": torch.optim.SGD(module.parameters(), lr=0.01)},
        n_steps=n_steps,
        schedule=lambda step, n_steps: 1.0,
        validate=lambda module, x: (module.weight - 1.2).square(),
    )
    rows = torch.zeros(8, 1)
    parameters = {"held_out": rows[:3], "batch_size": 4, "patience": patience}
    table = run_stage(module, stage, rows, callbacks=callbacks, **parameters)
    return module, table


class Seen(Callback):
    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(net.history[-1, "valid_loss"])


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("patience", [1, 3])
def test_a_stage_ends_after_so_many_epochs_and_goes_back_to_the_best(patience):
    seen = Seen()
    module, table = run_valley(patience, callbacks=[seen])
    # After epochs of 50 steps it is at 0.5, 1, 1.5, ...; the best is the second.
    assert len(table) == 2 + patience
    assert module.weight.item() == pytest.approx(1.0, abs=1e-5)
    assert table["validation_loss"].idxmin() == 1
    assert seen.epochs == table["validation_loss"].tolist()  # that of the last epoch, too


@pytest.mark.usefixtures("drawing")
def test_without_patience_a_stage_runs_to_its_end_and_goes_back():
    module, table = run_valley(None)
    assert len(table) == 20 and module.weight.item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.usefixtures("drawing")
def test_a_stage_that_gets_better_is_not_ended():
    module, table = run_valley(1, n_steps=100)
    assert len(table) == 2 and module.weight.item() == pytest.approx(1.0, abs=1e-5)


class Kept(Callback):
    """Keeps the rows that stages validate on, and what the objective makes of them."""

    def __init__(self):
        self.rows = {}

    def on_epoch_end(self, net, dataset_valid=None, **kwargs):
        self.rows[net.stage.name] = dataset_valid


@pytest.mark.parametrize("detector", STOPPING)
def test_every_stage_but_those_of_energies_is_judged_and_may_end(detector):
    name, X = detector.__name__, normal_rows(100)
    kept = Kept()
    made = longer(name, stopping=EarlyStopping(patience=1)).set_params(callbacks=[kept])
    made.set_params(max_steps=300, learning_rate=0.05).fit(X)
    for stage, table in made.history_.groupby("stage", sort=False):
        losses = table.get("validation_loss")
        if stage in UNJUDGED.get(name, ()):
            assert losses is None or losses.isna().all()
            continue
        assert len(kept.rows[stage]) == (20 if takes(detector, "validation_fraction") else 10) * (
            1 if not takes(detector, "validation_fraction") else made.validation_fraction / 0.2
        )
        # It ends one epoch after the first that is no better, or at its end.
        is_better = losses.to_numpy()[1:] < np.minimum.accumulate(losses.to_numpy())[:-1]
        assert is_better[:-1].all(), (name, stage, losses.tolist())
    assert np.isfinite(made.score_samples(X)).all()


def test_the_detector_is_that_of_the_best_epoch():
    X, kept = normal_rows(100), Kept()
    made = tiny("Autoencoder", stopping=EarlyStopping(2), callbacks=[kept])
    made.set_params(max_steps=2000, learning_rate=0.05).fit(X)
    losses = made.history_["validation_loss"]
    assert len(losses) < 40 and losses.idxmin() == len(losses) - 3
    with torch.no_grad():
        at_end = made.module_.energy(kept.rows["autoencoder"]).mean()
    assert float(at_end) == pytest.approx(losses.min(), rel=1e-5)


@pytest.mark.parametrize("detector", STOPPING)
def test_it_is_off_by_default(detector):
    made = tiny(detector).fit(normal_rows())
    assert made.stopping is None
    has_share = takes(detector, "validation_fraction") and detector is not skgenad.PWAE
    assert ("validation_loss" in made.history_) == has_share


@pytest.mark.parametrize("name", ["VAE", "NAE", "CANCE"])
def test_a_fit_that_may_end_early_can_be_interrupted(name, tmp_path):
    X = normal_rows(100)
    detector = longer(name, stopping=EarlyStopping(2)).set_params(learning_rate=0.05)
    if name == "VAE":
        detector.set_params(max_steps=1000)
    whole = copy.deepcopy(detector).fit(X)
    assert_same(whole, fit_in_pieces(detector, X, tmp_path / "run", n_epochs=2), X)


def test_training_goes_on_with_it():
    X = normal_rows(100)
    made = longer("VAE", stopping=EarlyStopping(1)).fit(X).partial_fit(X[:30] + 0.1)
    assert made.history_["validation_loss"].notna().all()
    # One row alone is trained on.
    assert np.isfinite(made.partial_fit(X[:1]).score_samples(X)).all()


def test_few_rows_hold_one_out():
    kept = Kept()
    tiny("VAE", stopping=EarlyStopping(), callbacks=[kept]).fit(normal_rows(5))
    assert len(kept.rows["vae"]) == 1
    tiny("VAE", stopping=EarlyStopping()).fit(normal_rows(2))


def test_searches_find_it():
    search = GridSearchCV(
        tiny("VAE", stopping=EarlyStopping(), max_steps=120),
        {"stopping__patience": [1, 2], "stopping__validation_fraction": [0.1, 0.3]},
        scoring=lambda detector, X: detector.stopping.patience,
        cv=2,
    )
    search.fit(normal_rows())
    assert search.best_params_["stopping__patience"] == 2


def test_files_keep_it(tmp_path):
    made = tiny("VAE", stopping=EarlyStopping(3)).fit(normal_rows())
    made.save(tmp_path / "vae.safetensors")
    assert skgenad.load(tmp_path / "vae.safetensors").stopping == EarlyStopping(3)


@pytest.mark.parametrize(
    ("name", "parameters", "match"),
    [
        ("VAE", {"stopping": EarlyStopping(0)}, "patience"),
        ("VAE", {"stopping": EarlyStopping(validation_fraction=1.0)}, "validation_fraction"),
        ("VAE", {"stopping": EarlyStopping}, "stopping"),
        ("VAE", {"stopping": True}, "stopping"),
        ("CANCE", {"stopping": EarlyStopping(validation_fraction=0.3)}, "a parameter of its own"),
        ("Glow", {"stopping": EarlyStopping(), "validation_fraction": 0}, "would be ignored"),
        (
            "MPDR",
            {"stopping": EarlyStopping(), "manifold": "identity", "energy": "scalar"},
            "no other stages than 'energy'",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(name, parameters, match):
    with pytest.raises(ValueError, match=match):
        tiny(name, **parameters).fit(normal_rows())


def test_energies_alone_do_not_take_it():
    assert not takes(skgenad.EBM, "stopping")
    made = tiny("MPDR", stopping=EarlyStopping(1), manifold=Manifold(steps=200)).fit(normal_rows())
    tables = dict(list(made.history_.groupby("stage")))
    assert tables["energy"]["validation_loss"].isna().all()
    assert tables["manifold"]["validation_loss"].notna().all()


def test_users_callbacks_are_told_how_to_have_rows_held_out():
    from skorch.callbacks import EarlyStopping as OfSkorch

    with pytest.raises(ValueError, match=r"stopping=EarlyStopping\(\)"):
        tiny("VAE", callbacks=[OfSkorch()]).fit(normal_rows())
    tiny("VAE", callbacks=[OfSkorch()], stopping=EarlyStopping()).fit(normal_rows())
