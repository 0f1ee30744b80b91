import random

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def device(request):
    return request.config.getoption("--device")


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
