"""Recorded steps: the same training as without, on a GPU (`pytest --device cuda`)."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

import skgenad
from skgenad import EBM, MPDR, NAE, Autoencoder
from skgenad._base import BaseGenerativeDetector
from skgenad._cuda_graphs import Stepper
from skgenad._langevin import ReplayBuffer
from skgenad._training import StageNet

from ._settings import DETECTORS, TINY

# Enough steps for the buffer of the latest negatives to fill up.
CHAINS = {"max_steps": 100, "batch_size": 16}
IMAGES = {"image_shape": (1, 16, 16), "batch_size": 16}
# Not trained by gradients; of an extra, and for tables alone.
NOT_HERE = ("Mahalanobis", "NormalizingFlow")
CASES = [
    *((cls.__name__, {}) for cls in DETECTORS if cls.__name__ not in NOT_HERE),
    ("MPDR", {**CHAINS, "replay_size": 16, "metropolis": True}),
    ("MPDR", {**CHAINS, "manifold_dims": (1, 2), "energy": "scalar", "pretrain_steps": 0}),
    ("MPDR", {**CHAINS, **IMAGES, "augmentation": ("flip", "crop")}),
    (
        "MPDR",
        {
            **IMAGES,
            "network": "conv28",
            "network_width": 0.1,
            "max_steps": 100,
            "image_shape": (1, 28, 28),
        },
    ),
    ("NAE", {**CHAINS, "replay_size": 32, "train_temperature": True}),
    ("NAE", {**CHAINS, **IMAGES, "replay_size": 0, "distance": "ssim"}),
    ("EBM", {"sampling": "pcd", "replay_size": 64}),
    ("VAE", {"sigma": 0.5}),
    ("Glow", IMAGES),
    ("Glow", {**IMAGES, "coupling": "patch"}),
    ("PixelCNN", IMAGES),
    ("PWAE", {**IMAGES, "optimizer": "sgd"}),
]


@pytest.fixture
def gpu(device):
    if torch.device(device).type != "cuda":
        pytest.skip("recording needs --device cuda")
    return device


@pytest.fixture
def recorded(monkeypatch):
    """Names of the stages of which a step was recorded."""
    names, run = [], StageNet.run

    def noted(net, rows):
        run(net, rows)
        if net._stepper.is_recorded:
            names.append(net.stage.name)

    monkeypatch.setattr(StageNet, "run", noted)
    return names


def _made(name, device, **parameters):
    return getattr(skgenad, name)(**{**TINY[name], "device": str(device), **parameters})


def _rows(parameters, n=200):
    rng = np.random.RandomState(0)
    n_columns = int(np.prod(parameters.get("image_shape", (5,))))
    rows = rng.rand(n, n_columns) if n_columns > 5 else rng.randn(n, n_columns)
    return rows.astype(np.float32)


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_recorded_steps_train_as_others(name, parameters, gpu, recorded, monkeypatch):
    X = _rows(parameters)
    with_graphs = _made(name, gpu, **parameters).fit(X)
    had_graphs = bool(recorded)
    monkeypatch.setattr(BaseGenerativeDetector, "_is_steady", lambda *_: False)
    without = _made(name, gpu, **parameters).fit(X)
    tabular_flow = name in ("Glow", "PixelCNN") and "image_shape" not in parameters
    assert had_graphs == (name not in ("CANCE", "DAGMM") and not tabular_flow)
    losses = [d.history_["loss"].to_numpy() for d in (with_graphs, without)]
    # Sums of convolutions are taken in any order, and chains magnify what comes of it.
    atol = 2e-2 if "network" in parameters else 1e-3
    np.testing.assert_allclose(*losses, rtol=1e-2, atol=atol)
    scores = [d.score_samples(X) for d in (with_graphs, without)]
    assert np.corrcoef(*scores)[0, 1] > 0.99


def test_a_rate_that_a_callback_sets_is_taken(gpu, recorded):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            for group in net.optimizer_.param_groups:
                group["lr"] = 0.0

    X = _rows({})
    moved = {}
    for callbacks in ([], [Stop()]):
        detector = _made("EBM", gpu, max_steps=150, schedule="constant", callbacks=callbacks).fit(X)
        moved[len(callbacks)] = detector.score_samples(X)
    assert recorded == ["energy", "energy"]
    once = _made("EBM", gpu, max_steps=50, schedule="constant").fit(X).score_samples(X)
    np.testing.assert_allclose(moved[1], once, rtol=1e-3, atol=1e-4)
    assert np.abs(moved[0] - once).max() > 1e-2


def test_callbacks_that_see_gradients_see_those_of_each_step(gpu, recorded):
    class Count(Callback):
        n = 0

        def on_grad_computed(self, net, **kwargs):
            self.n += 1

    count = Count()
    _made("Autoencoder", gpu, max_steps=30, callbacks=[count]).fit(_rows({}))
    assert count.n == 30
    assert not recorded


def test_the_seed_decides_with_graphs_too(gpu, global_rng_untouched):
    X = _rows({})
    first, second = (_made("NAE", gpu, max_steps=60).fit(X).score_samples(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_nothing_is_recorded_on_a_cpu(recorded):
    _made("Autoencoder", "cpu").fit(_rows({}))
    assert not recorded


def test_code_of_a_users_own_is_not_recorded():
    module = torch.nn.Linear(2, 2)
    assert Autoencoder()._is_steady(module)
    assert MPDR(augmentation=("flip", "crop"))._is_steady(module)
    for own in (
        MPDR(energy=lambda n: module),
        MPDR(augmentation=(lambda x: x,)),
        EBM(network=object()),
        NAE(network=object()),
    ):
        assert not own._is_steady(module)


def test_growing_buffers_are_waited_for():
    buffer = ReplayBuffer(4, 0.5, 2)
    module = torch.nn.Sequential(buffer)
    for n_rows in (0, 3):
        buffer.push(torch.zeros(n_rows, 2))
        assert not EBM()._is_steady_when_full(module)
    buffer.push(torch.zeros(3, 2))
    assert EBM()._is_steady_when_full(module)


def test_on_a_cpu_a_stepper_does_each_step():
    seen = []

    def step(batch):
        seen.append(float(batch.sum()))
        return {"loss": batch.sum()}

    stepper = Stepper(step, [], lambda: True)
    for value in range(6):
        stepper(torch.full((2,), float(value)))
    assert seen == [0, 2, 4, 6, 8, 10]
    assert not stepper.is_recorded
