"""Interrupts and failures in `fit`: no half-fitted detector, and an old fit stays as it was."""

import copy
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skgenad.energies import Reconstruction, Replay

from ._settings import DETECTORS, having, normal_rows, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)
trained_detectors = pytest.mark.parametrize("detector", having("callbacks"))

ENDLESS_FIT = """
import signal

import numpy as np
from skgenad import MPDR
from skgenad.energies import Manifold

# A shell may have started us with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
X = np.random.RandomState(0).randn(100, 4)
detector = MPDR(manifold=Manifold(steps=1), max_steps=1, device="cpu").fit(X)
print("ready", flush=True)
detector.set_params(manifold__steps=10**9).fit(X)
"""


def test_ctrl_c_ends_a_script():
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ENDLESS_FIT]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment) as process:
        try:
            assert process.stdout.readline().strip() == b"ready"
            time.sleep(0.5)
            assert process.poll() is None, process.stderr.read().decode()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert err.decode().rstrip().endswith("KeyboardInterrupt")


@pytest.fixture(scope="module")
def everything_imported():
    """Fit once: torch's optimisers import modules on first use, which an interrupt would break."""
    tiny("MPDR").fit(normal_rows())


@pytest.fixture
def no_garbage_callbacks():
    """Take away the Python functions that run when garbage is collected, as hypothesis's does.

    An interrupt that falls into one of them cannot go up: Python prints it and goes on.
    """
    callbacks = gc.callbacks.copy()
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


def interrupt(function, *arguments, seconds):
    """Call a function that never ends, and end it with one SIGINT, as Ctrl-C would."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    has_ended = threading.Event()
    pressed = []

    def press():
        # More than one are a failure, and yet they end the function.
        while not has_ended.wait(60 if pressed else seconds):
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    try:
        # Started inside: on a busy machine the signal may come before the call.
        with pytest.raises(KeyboardInterrupt):
            thread.start()
            function(*arguments)
    finally:
        has_ended.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)
    assert len(pressed) == 1, "an interrupt was lost"


@pytest.mark.usefixtures("no_garbage_callbacks", "everything_imported")
@pytest.mark.parametrize("seconds", [0.02, 0.2])
@pytest.mark.parametrize("endless", ["manifold__steps", "energy__pretrain_steps", "max_steps"])
def test_ctrl_c_leaves_no_half_fitted_detector(endless, seconds):
    detector = tiny("MPDR", energy=Reconstruction(init="pretrain", pretrain_steps=10))
    detector.set_params(**{endless: 10**9})
    before = dict(vars(detector))
    interrupt(detector.fit, normal_rows(), seconds=seconds)
    assert vars(detector) == before


@pytest.mark.usefixtures("no_garbage_callbacks", "everything_imported")
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_ctrl_c_leaves_an_older_fit_as_it_was(way, seconds):
    X = normal_rows()
    detector = tiny("MPDR", replay=Replay(20)).fit(X).set_params(max_steps=10**9)
    twin, before = copy.deepcopy(detector), dict(vars(detector))
    interrupt(getattr(detector, way), X + 1, seconds=seconds)
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[name] is before[name] for name in before)
    np.testing.assert_array_equal(detector.decision_function(X), twin.decision_function(X))
    for one in (detector, twin):
        one.set_params(max_steps=10).partial_fit(X)
    np.testing.assert_array_equal(detector.decision_function(X), twin.decision_function(X))


class Fail(Callback):
    """Fails in the last stage's first epoch."""

    def __init__(self, stage, error):
        self.stage, self.error = stage, error

    def on_epoch_end(self, net, **kwargs):
        if net.stage.name == self.stage:
            raise self.error("on purpose")


@trained_detectors
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_first_fit_leaves_no_trace(detector, error):
    last_stage = tiny(detector).fit(normal_rows()).history_["stage"].iloc[-1]
    failing = tiny(detector, callbacks=[Fail(last_stage, error)])
    before = dict(vars(failing))
    for method in (failing.fit, failing.partial_fit):
        with pytest.raises(error, match="on purpose"):
            method(normal_rows())
        assert vars(failing) == before


@trained_detectors
@pytest.mark.parametrize("way", ["fit", "partial_fit", "warm_start"])
def test_a_failed_second_fit_leaves_the_first(detector, way):
    X, other = normal_rows(), normal_rows(30, 4, seed=1) + 7
    fitted = tiny(detector, calibration_fraction=0.2).fit(X)
    twin = copy.deepcopy(fitted)
    last_stage = fitted.history_["stage"].iloc[-1]
    fitted.set_params(
        callbacks=[Fail(last_stage, KeyboardInterrupt)], warm_start=way == "warm_start"
    )
    with pytest.raises(KeyboardInterrupt):
        (fitted.partial_fit if way == "partial_fit" else fitted.fit)(other)
    np.testing.assert_array_equal(fitted.decision_function(X), twin.decision_function(X))
    np.testing.assert_array_equal(fitted.p_value(X), twin.p_value(X))
    for name, value in twin.module_.state_dict().items():
        assert torch.equal(fitted.module_.state_dict()[name], value)
    # It goes on as if nothing had been tried.
    fitted.set_params(callbacks=None, warm_start=False)
    np.testing.assert_array_equal(
        fitted.partial_fit(other).score_samples(X), twin.partial_fit(other).score_samples(X)
    )


@all_detectors
def test_a_fit_on_bad_rows_leaves_the_first(detector):
    X = normal_rows()
    fitted = tiny(detector).fit(X)
    scores = fitted.score_samples(X)
    for bad in (X[:1], np.full((9, 3), np.nan), np.zeros((0, 4))):
        with pytest.raises(ValueError):
            fitted.fit(bad)
    np.testing.assert_array_equal(fitted.score_samples(X), scores)
    assert fitted.n_features_in_ == 4


def broken_energy(n_features):
    return nn.Linear(n_features, 1)  # has no method `energy`


def test_an_error_in_ones_own_energy_is_ones_own_error():
    detector = tiny("MPDR", energy=broken_energy)
    with pytest.raises(TypeError, match="got Linear"):
        detector.fit(normal_rows())
    assert not hasattr(detector, "module_")
