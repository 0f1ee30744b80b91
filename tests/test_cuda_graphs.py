"""Recorded steps: the same training as without, on a GPU (`pytest --device cuda`)."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

import skgenad
from skgenad import EBM, MPDR, NAE, Autoencoder
from skgenad._core.cuda_graphs import Stepper
from skgenad._core.loop import StageNet
from skgenad._tensors.maps import SpectralLinear
from skgenad._tensors.model import Model
from skgenad.energies import Chain, Manifold, Replay, Scalar
from skgenad.networks import Cifar1, Conv, Conv28, Conv32, FCRes

from ._settings import DETECTORS, TINY

# Enough steps for the buffer of the latest negatives to fill up.
CHAINS = {"max_steps": 20, "batch_size": 16}
SHORT = {"max_steps": 3, "batch_size": 4}
IMAGES = {"image_shape": (1, 16, 16), "batch_size": 16}
# NormalizingFlow is of an extra, and for tables alone; the others are not trained by gradients.
NOT_HERE = (
    "NormalizingFlow",
    *(cls.__name__ for cls in DETECTORS if not cls.trained_by_gradients),
)
# These solve linear systems in a step, which cannot be recorded, or are left as they are.
NOT_RECORDED = ("CANCE", "DAGMM", "GANomaly", "PWAE")
CASES = [
    *((cls.__name__, {}) for cls in DETECTORS if cls.__name__ not in NOT_HERE),
    ("MPDR", {**CHAINS, "replay": Replay(16), "visible_chain": Chain(2, metropolis=True)}),
    ("MPDR", {**CHAINS, "manifold": Manifold((1, 2), steps=10), "energy": Scalar()}),
    ("MPDR", {**CHAINS, **IMAGES, "augmentation": ("flip", "crop")}),
    (
        "MPDR",
        {
            **IMAGES,
            "network": Conv28(width=0.1),
            "max_steps": 20,
            "image_shape": (1, 28, 28),
        },
    ),
    ("NAE", {**CHAINS, "replay": Replay(32), "temperature_learning_rate": 1e-3}),
    ("NAE", {**CHAINS, **IMAGES, "replay": Replay(0), "distance": "ssim"}),
    ("NAE", {**CHAINS, "sampling": "cd"}),
    ("EBM", {"sampling": "pcd", "replay": Replay(64)}),
    ("VAE", {"sigma": 0.5}),
    ("Glow", IMAGES),
    ("Glow", {**IMAGES, "coupling": "patch"}),
    ("PixelCNN", IMAGES),
]


# More networks, which are looked at on the CPU alone.
ARCHITECTURE_CASES = [
    ("Autoencoder", {"image_shape": (3, 32, 32), "network": kind(width=0.1), **SHORT})
    for kind in (Conv, Conv32, Cifar1, FCRes)
] + [("VAE", {**IMAGES, "network": "conv"})]


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


def _may_be_recorded(name, parameters):
    flow_of_table = name in ("Glow", "PixelCNN") and "image_shape" not in parameters
    spectral = parameters.get("spectral") or isinstance(parameters.get("energy"), Scalar)
    return not (name in NOT_RECORDED or flow_of_table or spectral)


class Forbidden(TorchDispatchMode):
    """Notes operators that need the host, of which a recording would fail."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        if name.startswith(("_local_scalar", "nonzero", "masked_select", "unique", "equal")):
            self.found.add(name)
        if name.startswith(("linalg_", "_linalg_", "cholesky", "lu_")) and "norm" not in name:
            self.found.add(name)
        if name.startswith("index") and _has_mask(args):
            self.found.add(f"{name} with a mask")
        return func(*args, **(kwargs or {}))


def _has_mask(args):
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in indices)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [case for case in [*CASES, *ARCHITECTURE_CASES] if _may_be_recorded(*case)],
)
def test_what_is_recorded_needs_no_host_and_replaces_nothing(name, parameters, monkeypatch):
    """What a GPU would refuse, or replay wrongly, is seen on a CPU, too."""
    problems, step, n_watched = set(), StageNet._step, 0

    def watched(net, batch):
        nonlocal n_watched
        if net._is_steady():
            n_watched += 1
            kept = {key: b.data_ptr() for key, b in net.module_.named_buffers()}
            with Forbidden() as forbidden:
                net.stage.objective(net.module_, batch)["loss"].backward()
            problems.update(forbidden.found)
            problems.update(k for k, b in net.module_.named_buffers() if b.data_ptr() != kept[k])
        return step(net, batch)

    monkeypatch.setattr(StageNet, "_step", watched)
    _made(name, "cpu", **parameters).fit(_rows(parameters))
    assert n_watched > 0
    assert not problems


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_recorded_steps_train_as_others(name, parameters, gpu, recorded, monkeypatch):
    X = _rows(parameters)
    with_graphs = _made(name, gpu, **parameters).fit(X)
    had_graphs = bool(recorded)
    monkeypatch.setattr(Model, "is_steady", False)
    without = _made(name, gpu, **parameters).fit(X)
    assert had_graphs == _may_be_recorded(name, parameters)
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


class Own:
    """Networks of a user's own, which may look at values."""

    def make_encoder(self, shape, latent_dim):
        return torch.nn.Linear(*shape, latent_dim)

    def make_decoder(self, latent_dim, shape):
        return torch.nn.Linear(latent_dim, *shape)


class OwnEnergy(torch.nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.net = torch.nn.Linear(n_features, 1)

    def energy(self, x):
        return self.net(x).squeeze(1).square()


IMAGES_2 = {"image_shape": (1, 2, 2), "network": (4,)}


@pytest.mark.parametrize(
    ("detector", "is_steady"),
    [
        (Autoencoder(), True),
        (NAE(), True),
        (EBM(), True),
        (MPDR(), True),
        (MPDR(energy="masked"), True),
        (MPDR(augmentation=("flip", "crop"), **IMAGES_2), True),
        (Autoencoder(network=Own()), False),
        (NAE(network=Own()), False),
        (EBM(network=Own()), False),
        (MPDR(network=Own()), False),
        (MPDR(energy=OwnEnergy), False),
        (MPDR(energy="scalar"), False),
        (MPDR(augmentation=lambda x: x, **IMAGES_2), False),
        (EBM(spectral=True), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_code_of_a_users_own_and_spectral_norms_are_not_recorded(detector, is_steady):
    assert detector._make_module(4).is_steady == is_steady


def test_a_spectral_norm_is_known_as_not_steady():
    linear = torch.nn.Linear(2, 2)
    for part, is_steady in ((linear, True), (SpectralLinear(linear), False)):
        model = Model()
        model.part = part
        assert model.is_steady == is_steady


@pytest.mark.parametrize(
    "detector",
    [
        EBM(replay=Replay(4), network=(4,)),
        EBM(sampling="cd", network=(4,)),
        NAE(replay=Replay(4), network=(4,)),
        NAE(sampling="pcd", replay=Replay(4), network=(4,)),
        NAE(sampling="cd", network=(4,)),
        MPDR(replay=Replay(4), network=(4,)),
        MPDR(network=(4,)),
    ],
    ids=str,
)
@pytest.mark.usefixtures("drawing")
def test_growing_buffers_are_waited_for(detector):
    module = detector._make_module(3)
    module.prepare(torch.randn(10, 3), None)
    steady = []
    for _ in range(5):
        steady.append(module.is_steady_when_full())
        module.negatives(torch.randn(250, 3))
    # The latest 1000 negatives are kept: four batches of 250.
    assert steady == [False, False, False, False, True]


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
