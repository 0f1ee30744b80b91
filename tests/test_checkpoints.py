"""Fits that were killed go on from a folder, to the same bits; other folders are refused."""

import copy
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler

from skgenad import CheckpointFolder, DivergenceWarning, Mahalanobis
from skgenad._core import checkpoints, large_tables, resuming
from skgenad.autoencoders import AutoencoderFeatures
from skgenad.energies import Chain, Manifold, Reconstruction, Replay

from ._settings import normal_rows, over_variants, takes, tiny

# Longer than an epoch in every stage.
LONGER = {
    "CANCE": {
        "features": AutoencoderFeatures((16,), latent_dim=2, encoder_steps=60, decoder_steps=60)
    },
    "MPDR": {"manifold": Manifold(steps=60), "energy": Reconstruction(pretrain_steps=60)},
    "NAE": {"pretrain_steps": 60},
}


def longer(name, **extra):
    detector = tiny(name)
    own = {key: copy.deepcopy(value) for key, value in LONGER.get(name, {}).items()}
    steps = {"max_steps": 60} if takes(type(detector), "max_steps") else {}
    return detector.set_params(**{**own, **steps, **extra})


class Interrupt(Callback):
    """Raises KeyboardInterrupt when so many epochs of this fit are about to begin."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net, **kwargs):
        self.n_epochs -= 1
        if self.n_epochs < 0:
            raise KeyboardInterrupt

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def fit_in_pieces(detector, X, folder, n_epochs=1, **parameters):
    """Fit, but interrupt and go on in another object after so many epochs, again and again."""
    every = CheckpointFolder(folder, seconds=0)
    users = list(parameters.pop("callbacks", ()))
    for _ in range(50):
        piece = copy.deepcopy(detector)
        piece.set_params(callbacks=[*users, Interrupt(n_epochs)])
        try:
            return piece.fit(X, checkpoint=every, **parameters)
        except KeyboardInterrupt:
            assert not hasattr(piece, "module_")
    raise AssertionError("it does not get on")


def assert_same(one, other, X):
    for name, value in one.module_.state_dict().items():
        assert torch.equal(value, other.module_.state_dict()[name]), name
    np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
    tables = [d.history_.drop(columns="seconds") for d in (one, other)]
    assert tables[0].equals(tables[1])


# ---- the same bits --------------------------------------------------------------------------


@over_variants(slowly=True)
def test_a_fit_in_pieces_is_the_fit_in_one(name, extra, tmp_path):
    X = normal_rows()
    detector = longer(name, **extra)
    if not detector.trained_by_gradients:
        pytest.skip("has no steps")
    # NormalizingFlow and CANCE have batches of rows held out; all have rows for the threshold.
    detector.set_params(calibration_fraction=0.2)
    whole = copy.deepcopy(detector).fit(X)
    n_epochs = 1 if len(whole.history_) < 6 else 3
    pieces = fit_in_pieces(detector, X, tmp_path / "run", n_epochs)
    assert_same(whole, pieces, X)
    assert not (tmp_path / "run").exists()
    # The optimisers' moments were kept, those of stages that were done before included.
    for one in (whole, pieces):
        one.set_params(callbacks=None, max_steps=3).partial_fit(X[:20] + 0.1)
    assert_same(whole, pieces, X)


KILLED = """
import sys, threading, time
import numpy as np
from skorch.callbacks import Callback
from skgenad import CheckpointFolder
from tests.test_checkpoints import OF_SIGKILL, longer
from tests._settings import normal_rows

class Slow(Callback):
    def on_epoch_begin(self, net, **kwargs):
        time.sleep(0.5)
    def state_dict(self):
        return {}
    load_state_dict = print

def fit(name, parameters):
    every = CheckpointFolder(f"{sys.argv[1]}/{name}", seconds=0)
    longer(name, **parameters, callbacks=[Slow()]).fit(normal_rows(), checkpoint=every)

for item in OF_SIGKILL.items():
    threading.Thread(target=fit, args=item).start()
"""
OF_SIGKILL = {
    "MPDR": {"max_steps": 250, "replay": Replay(40)},
    "CANCE": {"max_steps": 250},
    "VAE": {"max_steps": 250},
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_a_killed_process_loses_nothing(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    files = [tmp_path / name / "checkpoint.safetensors" for name in OF_SIGKILL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        try:
            end = time.monotonic() + 300
            while not all(file.exists() for file in files) and time.monotonic() < end:
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.05)
            time.sleep(0.5)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    X = normal_rows()
    for name, parameters in OF_SIGKILL.items():
        with resuming.open_file(tmp_path / name / "checkpoint.safetensors") as (document, _):
            found = document["checkpoint"]
        assert found["place"] > 0 or found["epochs"]["columns"], name
        resumed = longer(name, **parameters).fit(X, checkpoint=tmp_path / name)
        assert_same(resumed, longer(name, **parameters).fit(X), X)
    assert not list(tmp_path.iterdir())


def test_a_kill_in_a_writing_costs_that_writing_alone(tmp_path, monkeypatch):
    X, detector = normal_rows(), longer("VAE", max_steps=200)
    n_written = 0

    def write(path, document, arrays):
        nonlocal n_written
        n_written += 1
        if n_written == 3:  # as if killed when half of it was on the disk
            (path.parent / f"{beginning(path)}0.part").write_bytes(b"half")
            raise KeyboardInterrupt
        resuming_write(path, document, arrays)

    resuming_write, beginning = (
        resuming.write_file,
        resuming.remove_leftovers.__globals__["_beginning"],
    )
    monkeypatch.setattr(resuming, "write_file", write)
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        copy.deepcopy(detector).fit(X, checkpoint=every)
    resumed = copy.deepcopy(detector).fit(X, checkpoint=tmp_path / "run")
    assert_same(resumed, detector.fit(X), X)
    assert not list(tmp_path.iterdir())


def test_a_large_table_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(large_tables, "MOST_NUMBERS", 100)
    X = normal_rows(100)
    for name in ("Autoencoder", "NormalizingFlow"):
        whole = longer(name).fit(X)
        assert_same(whole, fit_in_pieces(longer(name), X, tmp_path / name), X)


def test_labels_and_rows_held_out_by_the_user_are_those_of_the_fit(tmp_path):
    X, y = normal_rows(), np.arange(60) % 3
    detector = longer("Glow", use_labels=True, calibration_fraction=0.2)
    for parameters in ({"y": y, "calibration": "last"}, {"y": y, "groups": np.arange(60) // 6}):
        whole = copy.deepcopy(detector).fit(X, **parameters)
        assert_same(whole, fit_in_pieces(detector, X, tmp_path / "run", **parameters), X)


def test_a_seed_left_to_chance_is_that_of_the_folder(tmp_path):
    X = normal_rows()
    first, second = (longer("VAE", random_state=None).fit(X) for _ in range(2))
    assert first.seed_ != second.seed_
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        longer("VAE", random_state=None, callbacks=[Interrupt(1)]).fit(X, checkpoint=every)
    with resuming.open_file(every.file) as (document, _):
        seed = document["checkpoint"]["fit"]["seed"]
    assert longer("VAE", random_state=None).fit(X, checkpoint=every).seed_ == seed


def test_a_random_state_is_drawn_from_as_in_a_fit(tmp_path):
    X = normal_rows()
    states = [np.random.RandomState(3) for _ in range(2)]
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    whole = longer("VAE", random_state=states[0]).fit(X)
    with pytest.raises(KeyboardInterrupt):
        again = np.random.RandomState(3)
        longer("VAE", random_state=again, callbacks=[Interrupt(1)]).fit(X, checkpoint=every)
    assert_same(whole, longer("VAE", random_state=states[1]).fit(X, checkpoint=every), X)
    assert states[0].randint(1000) == states[1].randint(1000)


def test_a_divergence_is_the_same_after_an_interruption(tmp_path):
    X = normal_rows()
    detector = longer("Autoencoder", max_steps=150, learning_rate=1e6)
    with pytest.warns(DivergenceWarning) as first:
        whole = copy.deepcopy(detector).fit(X)
    with pytest.warns(DivergenceWarning) as second:
        pieces = fit_in_pieces(detector, X, tmp_path / "run")
    assert str(first[0].message) == str(second[0].message)
    assert_same(whole, pieces, X)


def test_it_works_in_a_pipeline(tmp_path):
    X = normal_rows()
    pipeline = make_pipeline(StandardScaler(), longer("VAE", callbacks=[Interrupt(1)]))
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        pipeline.fit(X, vae__checkpoint=every)
    pipeline.set_params(vae__callbacks=None).fit(X, vae__checkpoint=every)
    whole = make_pipeline(StandardScaler(), longer("VAE")).fit(X)
    np.testing.assert_array_equal(pipeline.score_samples(X), whole.score_samples(X))


# ---- callbacks ------------------------------------------------------------------------------


def spread(net, X, y):
    return float(net.predict(X).std())


def test_callbacks_go_on_as_if_nothing_had_been(tmp_path):
    X = normal_rows()
    detector = longer("VAE", max_steps=500, learning_rate=0.05)

    def users():
        return [EpochScoring(spread, on_train=True), EarlyStopping("train_loss", patience=2)]

    whole = copy.deepcopy(detector).set_params(callbacks=users()).fit(X)
    assert 3 < len(whole.history_) < 10
    assert_same(whole, fit_in_pieces(detector, X, tmp_path / "run", callbacks=users()), X)


class Counter(Callback):
    """Records how many epochs it has seen, which it remembers."""

    n_seen = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_seen += 1
        net.history.record("n_seen", self.n_seen)
        net.history.record("draw", float(torch.rand(())))

    def state_dict(self):
        return {"n_seen": self.n_seen}

    def load_state_dict(self, state):
        self.n_seen = state["n_seen"]


def test_a_callback_of_the_users_own_remembers_what_it_says(tmp_path):
    X = normal_rows()
    detector = longer("NAE", max_steps=150)
    whole = copy.deepcopy(detector).set_params(callbacks=[Counter(), Interrupt(9)]).fit(X)
    pieces = fit_in_pieces(detector, X, tmp_path / "run", callbacks=[Counter()])
    assert whole.history_["n_seen"].tolist() == [1, 2, 3, 4, 5]
    assert_same(whole, pieces, X)


class Forgetful(Callback):
    pass


@pytest.mark.parametrize(
    ("callback", "match"),
    [
        (Forgetful(), "state_dict"),
        (LRScheduler("StepLR", step_size=1), "state_dict"),
        (EarlyStopping("train_loss", load_best=True), "load_best=False"),
    ],
)
def test_what_would_be_forgotten_is_refused_before_training(callback, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        longer("VAE", callbacks=[callback]).fit(normal_rows(), checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


class Recorder(Counter):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("array", np.zeros(3))


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path):
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    with pytest.raises(TypeError, match="'array' of type ndarray"):
        longer("VAE", callbacks=[Recorder()]).fit(normal_rows(), checkpoint=every)


# ---- folders --------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path):
    """Folder of a VAE's fit that was interrupted."""
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        longer("VAE", callbacks=[Interrupt(1)]).fit(normal_rows(), checkpoint=every)
    return every


@pytest.mark.parametrize(
    ("name", "parameters", "rows", "match"),
    [
        ("VAE", {"learning_rate": 0.5}, normal_rows(), "learning_rate was '0.001' and is '0.5'"),
        ("VAE", {"random_state": 1}, normal_rows(), "its seed was"),
        ("VAE", {}, normal_rows(seed=1), "its rows"),
        ("VAE", {"network": (16, 17)}, normal_rows(), "network was"),
        ("WAE", {}, normal_rows(), "of a '.*VAE' and not a .*WAE"),
    ],
)
def test_a_folder_of_another_fit_is_refused(begun, name, parameters, rows, match):
    before = begun.file.read_bytes()
    with pytest.raises(ValueError, match=match) as caught:
        longer(name, **parameters).fit(rows, checkpoint=begun)
    assert "Name another folder" in str(caught.value)
    assert begun.file.read_bytes() == before
    longer("VAE").fit(normal_rows(), checkpoint=begun)


def test_another_version_is_refused(begun, monkeypatch):
    monkeypatch.setattr(checkpoints, "version_of", lambda name: "9.9")
    with pytest.raises(ValueError, match=r"the version of numpy was '.*' and is '9\.9'"):
        longer("VAE").fit(normal_rows(), checkpoint=begun)


def test_a_damaged_checkpoint_is_refused(begun):
    content = bytearray(begun.file.read_bytes())
    for damaged in (content[:-5], content[:100], b"", content[:-9] + b"012345678"):
        begun.file.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match="Name another folder"):
            longer("VAE").fit(normal_rows(), checkpoint=begun)


def test_a_file_of_a_detector_is_no_checkpoint(tmp_path):
    detector = tiny("VAE").fit(normal_rows())
    detector.save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="is no checkpoint"):
        detector.fit(normal_rows(), checkpoint=tmp_path)


def test_two_fits_do_not_share_a_folder(tmp_path):
    class Second(Counter):
        def on_epoch_end(self, net, **kwargs):
            with pytest.raises(ValueError, match="in use by another fit"):
                longer("VAE").fit(normal_rows(), checkpoint=tmp_path / "run")
            seen.append(True)

    seen = []
    longer("VAE", callbacks=[Second()]).fit(normal_rows(), checkpoint=tmp_path / "run")
    assert seen


def test_what_else_is_in_a_folder_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    detector = longer("VAE").fit(normal_rows(), checkpoint=CheckpointFolder(tmp_path, seconds=0))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(NotADirectoryError, match="no folder"):
        detector.fit(normal_rows(), checkpoint=tmp_path / "notes.txt")


def test_it_is_written_as_often_as_it_says(tmp_path, monkeypatch):
    written, now = [], [0.0]

    def write(path, document, arrays):
        written.append(now[0])
        now[0] += 2.0  # seconds that a writing takes

    class Clock(Counter):
        def on_epoch_end(self, net, **kwargs):
            now[0] += 10.0

    monkeypatch.setattr(resuming, "write_file", write)
    monkeypatch.setattr(resuming.time, "monotonic", lambda: now[0])
    detector = longer("VAE", max_steps=1000, network=(2,), callbacks=[Clock()])
    detector.fit(normal_rows(), checkpoint=CheckpointFolder(tmp_path / "run", seconds=15))
    # The first one when 15 seconds have passed, later ones after 20 times what it took.
    assert written == [20.0, 62.0, 104.0, 146.0, 188.0]
    written.clear()
    detector.fit(normal_rows(), checkpoint=CheckpointFolder(tmp_path / "run", seconds=10**6))
    assert written == []


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"folder": 3}, TypeError, "path of a folder"),
        ({"folder": ""}, TypeError, "path of a folder"),
        ({"folder": "a", "seconds": -1}, ValueError, "at least 0"),
        ({"folder": "a", "seconds": "30"}, ValueError, "at least 0"),
        ({"folder": "a", "seconds": float("nan")}, ValueError, "at least 0"),
    ],
)
def test_a_folder_says_what_it_is_given(values, error, match):
    with pytest.raises(error, match=match):
        CheckpointFolder(**values)


def test_what_cannot_go_on_is_refused(tmp_path):
    X = normal_rows()
    with pytest.raises(ValueError, match="Mahalanobis is not trained in steps"):
        Mahalanobis().fit(X, checkpoint=tmp_path)
    with pytest.raises(TypeError, match="path of a folder, or a CheckpointFolder"):
        tiny("VAE").fit(X, checkpoint=3)
    detector = tiny("VAE", warm_start=True).fit(X, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="Set warm_start=False"):
        detector.fit(X, checkpoint=tmp_path / "run")


def test_parameters_are_told_apart_in_any_process():
    def tell(value):
        return checkpoints.described(value)

    assert tell(Chain(2)) == tell(Chain(2)) != tell(Chain(3))
    assert tell((1, 2)) == tell([1, np.int64(2)])
    assert tell(np.arange(3)) != tell(np.arange(3.0))
    assert tell(StandardScaler()) != tell(StandardScaler(with_mean=False))
    assert re.fullmatch(r"builtins\.print", tell(print))
    assert not re.search("0x[0-9a-f]+", repr(tell({"lock": threading.Lock(), "f": tell})))
