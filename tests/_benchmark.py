"""What the tests of the benchmark share: small data, and detectors that misbehave."""

import os
import signal
import time

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin

# Columns that depend on the machine's mood; all others must repeat.
VOLATILE = ["fit_seconds", "score_seconds", "peak_memory_mb"]


def make_set(seed=0, n=120):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], [n - n // 6, n // 6])
    return rng.normal(size=(n, 3)) + 2 * y[:, None], y


def make_folder(path, count=3):
    path.mkdir()
    for number in range(count):
        X, y = make_set(number)
        np.savez(path / f"set_{number}.npz", X=X, y=y)
    return path


class Center(OutlierMixin, BaseEstimator):
    """Distance to the mean; one behaviour more than a detector should have."""

    def __init__(self, behaviour="good", strength=0.0, random_state=None):
        self.behaviour = behaviour
        self.strength = strength
        self.random_state = random_state

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        self.offset_ = 0.0
        if self.behaviour == "sleep":
            time.sleep(self.strength)
        elif self.behaviour == "raise":
            raise RuntimeError("no\nluck today")
        elif self.behaviour == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.behaviour == "exit":
            os.write(2, b"first line\nlast words\n")
            os._exit(3)
        elif self.behaviour == "eat":
            block = np.ones(int(self.strength * 2**20 / 8))
            block += 1
        elif self.behaviour == "child":
            pid = os.fork()
            if pid == 0:
                time.sleep(600)
            with open(self.strength, "w") as file:
                file.write(f"{os.getpid()} {pid}")
            time.sleep(600)
        elif self.behaviour == "warn":
            import warnings

            warnings.warn("that was close", RuntimeWarning, stacklevel=1)
        elif self.behaviour == "print":
            print("noise " * 20_000)
        elif self.behaviour == "threads":
            import torch
            from threadpoolctl import threadpool_info

            threads = [info["num_threads"] for info in threadpool_info()]
            assert max([*threads, torch.get_num_threads()]) == 1, threads
        elif self.behaviour == "seed":
            np.random.seed(self.random_state)
            self.mean_ = self.mean_ + np.random.normal(size=self.mean_.shape)
        return self

    def score_samples(self, X):
        scores = -np.linalg.norm(X - self.mean_, axis=1)
        return scores * np.nan if self.behaviour == "nan" else scores


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
