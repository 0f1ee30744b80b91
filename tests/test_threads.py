"""Threads do not meet: not in torch's and numpy's generators, not in a detector that they share."""

import pickle
import random
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from joblib import parallel_config
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.svm import OneClassSVM
from torch import nn

from skgenad import load
from skgenad.compat import PyODDetector, ScoreDetector
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

from ._settings import EVERY, normal_rows, over_variants, tiny

X = normal_rows()
# Detectors of others that draw from no global generator.
OTHERS = {
    "pyod KNN": PyODDetector(KNN(), random_state=0),
    "pyod IForest": PyODDetector(IForest(n_estimators=5), random_state=0),
    "IsolationForest": ScoreDetector(IsolationForest(n_estimators=5), random_state=0),
    "OneClassSVM": ScoreDetector(OneClassSVM(), random_state=0),
}
NAMES = [detector.__name__ for detector in EVERY] + list(OTHERS)
all_detectors = pytest.mark.parametrize("name", NAMES)


def made(name, **parameters):
    if name in OTHERS:
        return clone(OTHERS[name]).set_params(**parameters)
    return tiny(name, **parameters)


def fitted_with_p_values(name):
    detector = made(name)
    if isinstance(detector, PyODDetector):
        return detector.fit(X).calibrate(normal_rows(seed=1))
    return detector.set_params(calibration_fraction=0.2).fit(X)


@pytest.fixture(autouse=True)
def many_switches():
    """Let threads take turns as often as they can, so that a short test meets what is rare."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def filters_stay_while_forests_score(monkeypatch):
    """Scikit-learn's forests empty the process's filters of warnings for a moment in each thread.

    Another thread may meet the empty list, keep it, and warn by whatever is left.
    """
    monkeypatch.setattr(warnings, "resetwarnings", lambda: None)


def global_draws():
    return float(torch.rand(())), np.random.rand(), random.random()


def seed_globals(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def draws_of_another_thread():
    """Draw from the global generators in another thread; fail if a draw is not the next one."""
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    drawn, is_over = [], threading.Event()

    def draw():
        while not is_over.is_set() or len(drawn) < 1000:
            drawn.append(global_draws())
            is_over.wait(1e-5)

    try:
        seed_globals(1)
        thread = threading.Thread(target=draw)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
        seed_globals(1)
        assert drawn == [global_draws() for _ in drawn]
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def test_the_thread_sees_what_is_drawn_and_what_is_put_back():
    with pytest.raises(AssertionError), draws_of_another_thread():
        np.random.rand()
    with pytest.raises(AssertionError), draws_of_another_thread():
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            with torch.random.fork_rng(devices=[]):
                torch.rand(1)


@all_detectors
def test_nobody_elses_draws_are_changed(name, tmp_path):
    with draws_of_another_thread():
        detector = fitted_with_p_values(name)
        detector.predict(X)
        for method in ("p_value", "anomaly_score", "log_density", "reconstruct", "energy"):
            if callable(getattr(type(detector), method, None)) and hasattr(detector, method):
                getattr(detector, method)(X)
        if hasattr(detector, "sample"):
            detector.sample(3, random_state=0)
        if hasattr(detector, "save"):
            detector.save(tmp_path / "detector")
            type(detector).load(tmp_path / "detector").score_samples(X)
        pickle.loads(pickle.dumps(detector)).score_samples(X)
        if hasattr(detector, "partial_fit"):
            detector.partial_fit(X)


def test_scores_of_a_network_that_seeds_the_process_change_nobodys_draws():
    detector = PyODDetector(AutoEncoder(epoch_num=1, verbose=0), random_state=0).fit(X)
    wrapped = ScoreDetector(clone(detector), random_state=0).fit(X)
    scores = detector.score_samples(X)
    with draws_of_another_thread():
        for _ in range(3):
            np.testing.assert_array_equal(detector.score_samples(X), scores)
            wrapped.predict(X)


@over_variants(slowly=True)
def test_fits_in_threads_are_those_of_one_after_another(name, extra, global_rng_untouched):
    def scores(seed):
        detector = tiny(name, **extra, random_state=seed).fit(X)
        drawn = detector.sample(3, random_state=seed) if hasattr(detector, "sample") else 0
        return detector.score_samples(X), detector.offset_, drawn

    wanted = [scores(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for got, want in zip(pool.map(scores, range(3)), wanted, strict=True):
            for one, other in zip(got, want, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["Committee", "LikelihoodRatio", *OTHERS])
def test_fits_of_several_models_in_threads_are_those_of_one_after_another(name):
    def scores(seed):
        return made(name, random_state=seed).fit(X).score_samples(X)

    wanted = [scores(seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(list(pool.map(scores, range(2))), wanted)


def test_fits_of_networks_that_seed_the_process_wait_for_each_other():
    # The constructor seeds the process, too, and nobody waits for it.
    networks = [AutoEncoder(epoch_num=1, verbose=0) for _ in range(3)]

    def scores(seed):
        return PyODDetector(networks[seed], random_state=seed).fit(X).score_samples(X)

    wanted = [scores(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        np.testing.assert_array_equal(list(pool.map(scores, range(3))), wanted)


def test_a_search_in_threads_is_the_search_of_one_thread(global_rng_untouched):
    rng = np.random.RandomState(0)
    rows, y = np.r_[X, rng.randn(20, 4) * X.std(axis=0) * 2], np.r_[np.zeros(60), np.ones(20)]

    def found(backend):
        with parallel_config(backend=backend):
            search = GridSearchCV(
                tiny("Autoencoder"),
                {"latent_dim": [1, 2, 3]},
                scoring=anomaly_roc_auc,
                cv=NormalOnlyCV(2),
                refit=False,
                n_jobs=2,
            )
            return search.fit(rows, y).cv_results_["mean_test_score"]

    np.testing.assert_array_equal(found("threading"), found("sequential"))


def test_a_committee_learns_in_threads_what_it_learns_alone():
    alone = tiny("Committee").fit(X).score_samples(X)
    with parallel_config(backend="threading"):
        np.testing.assert_array_equal(tiny("Committee", n_jobs=2).fit(X).score_samples(X), alone)


# ---- one detector in many threads -----------------------------------------------------------


def numbers_of(detector):
    """Return what threads must not change: the modules' tensors, flags and structure."""
    found, seen, left = [], set(), [detector]
    while left:
        thing = left.pop()
        if id(thing) in seen or not hasattr(thing, "__dict__") or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            for part_name, part in thing.named_modules():
                tensors = [*part._parameters.items(), *part._buffers.items()]
                state = [
                    (key, type(t), t.dtype, t.requires_grad, t.detach().clone())
                    for key, t in tensors
                    if t is not None
                ]
                found.append((part_name, part.training, state))
            continue
        for value in vars(thing).values():
            left += list(value) if isinstance(value, list | tuple) else [value]
            left += list(value.values()) if isinstance(value, dict) else []
    return found


def assert_same(before, after):
    assert len(before) == len(after) > 0
    for (name, training, state), (other, other_training, other_state) in zip(
        before, after, strict=True
    ):
        assert (name, training) == (other, other_training)
        for one, two in zip(state, other_state, strict=True):
            assert one[:4] == two[:4] and torch.equal(one[4], two[4]), (name, one[0])


def calls_of(detector, path):
    """Return everything that a service may ask of a fitted detector, by name."""
    rows = {"one": X[:1], "all": X}
    calls = {}
    for method in (
        "score_samples",
        "predict",
        "p_value",
        "log_density",
        "reconstruct",
        "energy",
        "on_manifold_score",
        "member_scores",
    ):
        if callable(getattr(type(detector), method, None)) and hasattr(detector, method):
            for size, some in rows.items():
                calls[f"{method} of {size}"] = lambda m=method, r=some: getattr(detector, m)(r)
    if hasattr(detector, "sample"):
        calls["sample"] = lambda: detector.sample(2, random_state=3)
    calls["pickle"] = lambda: pickle.loads(pickle.dumps(detector)).score_samples(X)
    if hasattr(detector, "save"):

        def saved():
            file = path / f"{threading.get_ident()}"
            detector.save(file)
            return type(detector).load(file).score_samples(X)

        calls["save"] = saved
    return calls


def assert_threads_do_not_meet(detector, path, n_calls=200):
    calls = calls_of(detector, path)
    before = numbers_of(detector)
    wanted = {name: np.asarray(call()) for name, call in calls.items()}
    names = list(calls)
    order = np.random.RandomState(0).randint(len(names), size=n_calls)
    with ThreadPoolExecutor(8) as pool:
        asked = [(names[i], pool.submit(calls[names[i]])) for i in order]
        for name, answer in asked:
            np.testing.assert_array_equal(np.asarray(answer.result()), wanted[name], err_msg=name)
    if before:
        assert_same(before, numbers_of(detector))


def test_the_warning_filters_of_the_process_are_left_alone(tmp_path, monkeypatch):
    detector = PyODDetector(IForest(n_estimators=5), random_state=0).fit(X)
    monkeypatch.setattr("pyod.models.base.warnings", None)  # its `get_params` sets filters
    detector.save(tmp_path / "file")
    loaded = PyODDetector.load(tmp_path / "file")
    for copy in (loaded, clone(loaded)):
        assert copy.detector.n_estimators == 5


def test_loads_in_threads_leave_the_warning_filters_alone(tmp_path):
    tiny("MPDR").fit(X).save(tmp_path / "file")
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: load(tmp_path / "file"), range(60)))
        assert warnings.filters == before
    finally:
        sys.setswitchinterval(interval)
        warnings.filters[:] = before


@all_detectors
def test_many_threads_may_use_one_detector(name, tmp_path):
    assert_threads_do_not_meet(fitted_with_p_values(name), tmp_path)


class Convolutions:
    """Networks of a user's own, whose gradients autograd takes."""

    def make_encoder(self, shape, latent_dim):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, latent_dim)
        )

    def make_decoder(self, latent_dim, shape):
        return nn.Sequential(nn.Linear(latent_dim, 8), nn.SiLU(), nn.Linear(8, 4))

    def __eq__(self, other):
        return isinstance(other, Convolutions)

    __hash__ = None


@pytest.mark.parametrize("name", ["MPDR", "NAE", "EBM"])
def test_chains_through_a_users_network_leave_it_alone(name, tmp_path):
    detector = tiny(name, network=Convolutions()).fit(X)
    before = numbers_of(detector)

    def sample(_):
        return detector.sample(2, random_state=3)

    wanted = sample(0)
    with ThreadPoolExecutor(8) as pool:
        for drawn in pool.map(sample, range(16)):
            np.testing.assert_array_equal(drawn, wanted)
            assert_same(before, numbers_of(detector))


@pytest.mark.parametrize("name", ["NormalizingFlow", "DAGMM"])
def test_a_precise_twin_follows_what_is_trained_and_is_not_copied(name):
    detector = tiny(name, standardize="frozen").fit(X)
    first = detector.score_samples(X)
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copy.score_samples(X), first)
    assert (
        len(pickle.dumps(detector))
        < len(pickle.dumps(tiny(name, standardize="frozen").fit(X))) + 2000
    )
    assert not np.array_equal(detector.partial_fit(X).score_samples(X), first)
    detector.module_.load_state_dict(copy.module_.state_dict())
    detector.module_.eval()  # a load of a flow makes parts anew
    np.testing.assert_array_equal(detector.score_samples(X), first)


def test_a_fit_that_fails_takes_nothing_from_those_who_score():
    detector = tiny("Mahalanobis").fit(X)
    wanted, seen = detector.score_samples(X), []

    def fail(_):
        with pytest.raises(ValueError, match="calibration_fraction"):
            clone(detector).set_params(calibration_fraction=0.99).fit(X)
        try:
            detector.set_params(calibration_fraction=0.99).fit(X)
        except ValueError:
            pass

    def score(_):
        seen.append(np.array_equal(detector.score_samples(X), wanted))

    with ThreadPoolExecutor(4) as pool:
        for _ in zip(pool.map(fail, range(40)), pool.map(score, range(40)), strict=True):
            pass
    assert all(seen)
