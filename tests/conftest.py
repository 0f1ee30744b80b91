import random

import numpy as np
import pytest
import torch

from skgenad._tensors.seeds import seeded


@pytest.fixture(scope="session")
def device(request):
    return request.config.getoption("--device")


@pytest.fixture
def without_float64(monkeypatch):
    """Let the CPU be a device that refuses float64, as MPS does."""
    apply = torch.nn.Module._apply

    def refusing(module, fn, recurse=True):
        def checked(tensor):
            moved = fn(tensor)
            if moved.dtype == torch.float64:
                raise TypeError("no float64 here")
            return moved

        return apply(module, checked, recurse)

    monkeypatch.setattr(torch.nn.Module, "_apply", refusing)
    monkeypatch.setattr("skgenad._tensors.device.has_float64", lambda device: False)


@pytest.fixture
def drawing():
    """Let the test draw by itself, from generators of its own, as the inside of a fit does."""
    with seeded(0):
        yield


def _global_rng_states():
    numpy_state = np.random.get_state(legacy=True)
    states = {
        "random": random.getstate(),
        "numpy": (numpy_state[0], numpy_state[1].tobytes(), *numpy_state[2:]),
        "torch": torch.random.get_rng_state().numpy().tobytes(),
    }
    for index in range(torch.cuda.device_count()):
        states[f"cuda:{index}"] = torch.cuda.get_rng_state(index).numpy().tobytes()
    return states


@pytest.fixture
def global_rng_untouched():
    """Fail the test if it moved the global generator of `random`, numpy or torch."""
    before = _global_rng_states()
    yield
    after = _global_rng_states()
    moved = [name for name in before if before[name] != after[name]]
    assert not moved, f"global random state changed: {', '.join(moved)}"
