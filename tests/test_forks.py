"""Processes that were forked from one that has computed with several threads."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from skgenad._core.forks import leave_parents_threads

from ._settings import normal_rows, tiny

ROOT = Path(__file__).resolve().parents[1]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# A process that computes with two threads, and one forked from it that does all that it did. What
# hangs is killed by its alarm, and is named by what was not printed.
IN_ANOTHER_PROCESS = """
import json, os, signal, sys, tempfile
import numpy as np, torch
from pyod.models.knn import KNN
from skgenad.compat import PyODDetector
from tests._settings import EVERY, normal_rows, tiny

torch.set_num_threads(1)
X, new = normal_rows(60, 20), normal_rows(2100, 20, seed=1)
names = sys.argv[1:] or [detector.__name__ for detector in EVERY]
fitted = {name: tiny(name).fit(X) for name in names}
fitted["PyODDetector"] = PyODDetector(KNN()).fit(X)
scores = {name: detector.score_samples(new) for name, detector in fitted.items()}
paths = {}
folder = tempfile.mkdtemp()
for name, detector in fitted.items():
    if hasattr(detector, "save"):
        paths[name] = os.path.join(folder, name)
        detector.save(paths[name])
# Now both torch and scikit-learn start threads, and keep them.
torch.set_num_threads(2)
fitted["Autoencoder"].score_samples(new)
from sklearn.neighbors import NearestNeighbors
NearestNeighbors(algorithm="brute").fit(new).kneighbors(new)
torch.randn(2000, 300).exp() @ torch.randn(300, 2000)
sys.stdout.flush()

if os.fork() == 0:
    signal.alarm(100)
    for name, detector in fitted.items():
        for size in (1, 2100):
            assert np.array_equal(detector.score_samples(new[-size:]), scores[name][-size:]), name
        if name in paths:
            loaded = type(detector).load(paths[name])
            assert np.array_equal(loaded.score_samples(new), scores[name]), name
        if hasattr(detector, "sample"):
            detector.sample(500, random_state=0)
        detector.fit(new[:500])
        print(json.dumps(name), flush=True)
    print(json.dumps(torch.get_num_threads()), flush=True)
    os._exit(0)
os.wait()
print(json.dumps(torch.get_num_threads()))
"""


@forks
def test_a_forked_process_scores_loads_samples_and_fits():
    environment = {name: v for name, v in os.environ.items() if "_NUM_THREADS" not in name}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=ROOT,
    )
    *names, in_the_child, in_the_parent = map(json.loads, done.stdout.splitlines())
    assert len(names) > 15 and names[-1] == "PyODDetector", (names, done.stderr)
    assert (in_the_child, in_the_parent) == (1, 2)


def test_a_process_that_was_not_forked_keeps_its_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        leave_parents_threads()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def _score(detector, X, queue):
    torch.set_num_threads(2)
    queue.put((detector.score_samples(X), torch.get_num_threads()))


def test_a_spawned_process_keeps_its_threads():
    X = normal_rows(1100)
    detector = tiny("Autoencoder").fit(X[:60])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_score, args=(detector, X, queue))
    process.start()
    scores, threads = queue.get(timeout=100)
    process.join()
    np.testing.assert_array_equal(scores, detector.score_samples(X))
    assert threads == 2
