"""Settings shared by the tests and by the doctests of the package."""

import os
import signal
import threading
import zlib

# scikit-learn skips one of its estimator checks unless this is set before scipy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Examples that draw open no window.
os.environ.setdefault("MPLBACKEND", "Agg")

# Whoever starts the tests in the background has Ctrl-C ignored, which processes inherit: tests of
# interrupts, and the processes that they start, need it.
if threading.current_thread() is threading.main_thread():
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import torch


def pytest_addoption(parser):
    """Add ``--device``, the torch device that the tests of detectors train on."""
    parser.addoption("--device", default="cpu", help="torch device of the tests (default: cpu)")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    """Run on one thread: tiny networks lose time on more, and machines differ in how many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _forked_seed(request):
    """Give every test its own global seeds, and the next one the state as it was."""
    numpy_state = np.random.get_state()
    seed = zlib.crc32(request.node.nodeid.encode())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)
        yield
    np.random.set_state(numpy_state)
