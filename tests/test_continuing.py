"""`partial_fit` and `warm_start`: what stays, what goes on, with and without a pickle between."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skgenad.energies import Manifold, Replay

from ._settings import DETECTORS, normal_rows, over_variants, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)
all_variants = over_variants(slowly=True)


class Rates(Callback):
    """Writes down the learning rate of every step."""

    def __init__(self):
        self.rates = []

    def on_batch_begin(self, net, **kwargs):
        self.rates.append(net.optimizer_.param_groups[0]["lr"])


def weights(detector):
    return copy.deepcopy(detector.module_.state_dict())


# ---- partial_fit ----------------------------------------------------------------------------


@all_variants
def test_the_first_call_is_a_fit(name, extra):
    X = normal_rows()
    first, fitted = tiny(name, **extra).partial_fit(X), tiny(name, **extra).fit(X)
    np.testing.assert_array_equal(first.decision_function(X), fitted.decision_function(X))


@pytest.mark.parametrize("energy", ["reconstruction", "scalar", "masked"])
def test_later_calls_train_what_no_later_stage_trains(energy):
    X, more = normal_rows(), 100 * normal_rows(seed=1)
    detector = tiny("MPDR", energy=energy, manifold=Manifold((2, 3), steps=10)).partial_fit(X)
    before, n_before = weights(detector), len(detector.history_)
    detector.partial_fit(more)
    after = weights(detector)
    trained = [name for name, p in detector.module_.named_parameters() if p.requires_grad]
    assert all(not torch.equal(before[name], after[name]) for name in trained)
    assert list(detector.history_["stage"].iloc[n_before:]) == ["manifold", "energy"]


@all_detectors
@pytest.mark.parametrize("n", [1, 2, 5, 200])
def test_later_calls_take_any_number_of_rows(detector, n):
    X = normal_rows()
    fitted = tiny(detector).partial_fit(X)
    before = fitted.score_samples(X)
    fitted.partial_fit(normal_rows(n, seed=1))
    after = fitted.score_samples(X)
    assert np.isfinite(after).all() and not np.array_equal(before, after)


def test_later_calls_run_as_many_steps_as_their_rows_are_worth():
    X = normal_rows(60)
    detector = tiny("MPDR", max_steps=70, manifold=Manifold(steps=10)).partial_fit(X)
    for n, energy, manifold in ((60, 18, 3), (1, 1, 1), (360, 27, 4)):
        before = detector.history_
        detector.partial_fit(normal_rows(n, seed=n))
        new = detector.history_.iloc[len(before) :]
        steps = dict(zip(new["stage"], new["step"], strict=True))
        assert steps == {"manifold": manifold, "energy": energy}
        assert detector.history_.iloc[: len(before)].equals(before)


def test_the_optimizers_moments_go_on_and_the_learning_rate_starts_lower():
    X, rates = normal_rows(), Rates()
    detector = tiny("Autoencoder", max_steps=40, learning_rate=1e-2).partial_fit(X)
    for call, n_steps in ((2, 40 + 10), (3, 40 + 10 + 7)):
        rates.rates.clear()
        detector.set_params(callbacks=[rates]).partial_fit(X)
        assert rates.rates[0] == pytest.approx(1e-2 / call**0.5) and rates.rates[-1] < 1e-3
        moments = detector._moments["autoencoder"]["main"].values()
        assert {int(moment["step"]) for moment in moments} == {n_steps}
    rates.rates.clear()
    detector.set_params(learning_rate=3e-3).partial_fit(X)
    assert rates.rates[0] == pytest.approx(3e-3 / 2)


@all_variants
def test_a_module_made_anew_goes_on_as_the_old_one_would(name, extra):
    """Parameters that were set make it new; this one has no part in training."""
    X, more = normal_rows(), normal_rows(40, seed=1)
    one, other = tiny(name, **extra).fit(X), tiny(name, **extra).fit(X)
    one.partial_fit(more)
    other.set_params(contamination=0.2).partial_fit(more)
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("Autoencoder", {"network": (4,)}, "make another module of this Autoencoder"),
        ("CANCE", {"features": "pca"}, "make another module of this CANCE"),
        ("MPDR", {"energy": "scalar"}, "make another module of this MPDR"),
        ("VAE", {"standardize": False}, "standardize=False was 'auto' in the first fit"),
        ("VAE", {"standardize": "mixed"}, "standardize='mixed' was 'auto' in the first fit"),
        ("NAE", {"image_shape": (1, 2, 2)}, r"image_shape=\(1, 2, 2\) was None in the first fit"),
        ("EBM", {"sampling": "cd"}, "replay=.* would be ignored"),
    ],
)
def test_what_only_a_new_fit_can_change_is_refused_later(name, changed, message):
    X = normal_rows()
    fitted = tiny(name).fit(X)
    scores = fitted.score_samples(X)
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**changed).partial_fit(X)
    np.testing.assert_array_equal(fitted.score_samples(X), scores)


def test_old_moments_matter():
    X = normal_rows()
    detector = tiny("Autoencoder").partial_fit(X)
    forgetful = copy.deepcopy(detector)
    forgetful._moments = {}
    assert not np.array_equal(
        detector.partial_fit(X).score_samples(X), forgetful.partial_fit(X).score_samples(X)
    )


def test_the_replay_buffer_goes_on():
    X = normal_rows()
    detector = tiny("MPDR", replay=Replay(1000), max_steps=5).partial_fit(X)
    rows = detector.module_.buffers_[0].rows
    assert len(rows) == 5 * 16
    detector.partial_fit(X)
    now = detector.module_.buffers_[0].rows
    assert len(now) == (5 + 2) * 16 and torch.equal(now[: len(rows)], rows)


def test_calls_draw_different_noise():
    X = normal_rows()
    seen = []

    class Batches(Callback):
        def on_batch_begin(self, net, batch, **kwargs):
            seen.append(batch[0])

    detector = tiny("Autoencoder", max_steps=1, callbacks=[Batches()])
    for _ in range(3):
        detector.partial_fit(X)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


@all_variants
def test_a_pickle_between_calls_changes_nothing(name, extra):
    batches = [normal_rows(40, seed=seed) for seed in range(3)]
    straight = tiny(name, **extra)
    pickled = tiny(name, **extra)
    for batch in batches:
        straight.partial_fit(batch)
        pickled = pickle.loads(pickle.dumps(pickled)).partial_fit(batch)
    np.testing.assert_array_equal(
        pickled.decision_function(batches[0]), straight.decision_function(batches[0])
    )


def test_the_width_and_names_of_the_first_call_bind():
    detector = tiny("Autoencoder").partial_fit(normal_rows(d=4))
    with pytest.raises(ValueError, match="5 features, but Autoencoder is expecting 4"):
        detector.partial_fit(normal_rows(d=5))


def test_fit_begins_anew_after_partial_fit():
    X = normal_rows()
    detector = tiny("MPDR", replay=Replay(20)).partial_fit(X).partial_fit(X).fit(X)
    fresh = tiny("MPDR", replay=Replay(20)).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), fresh.score_samples(X))
    assert len(detector.history_) == len(fresh.history_)


def test_enough_calls_learn_what_is_normal_now():
    here, there = normal_rows(200), normal_rows(200) + [0, 8, 0, 0]
    detector = tiny("Autoencoder", network=(32,), learning_rate=1e-2, max_steps=200).fit(here)
    before = detector.score_samples(there).mean()
    for _ in range(3):
        detector.partial_fit(there)
    assert detector.score_samples(there).mean() > before / 2


# ---- warm_start -----------------------------------------------------------------------------


@all_variants
def test_warm_start_goes_on_with_all_rows(name, extra):
    X, more = normal_rows(), normal_rows(80, seed=1)
    detector = tiny(name, **extra, warm_start=True, contamination=0.25).fit(X)
    twin = pickle.loads(pickle.dumps(detector)).fit(more)
    detector.fit(more)
    np.testing.assert_array_equal(twin.decision_function(X), detector.decision_function(X))
    if detector.trained_by_gradients:  # the table that is given is all that counts
        assert detector._stream.n_rows == 80
        assert (detector.predict(more) == -1).sum() == 20
        fresh = tiny(name, **extra).fit(more)
        if detector._units_follow:
            np.testing.assert_array_equal(detector.units_.mean, fresh.units_.mean)
    else:
        twin = tiny(name, **extra, contamination=0.25).fit(X).partial_fit(more)
        np.testing.assert_array_equal(twin.decision_function(X), detector.decision_function(X))


def test_warm_start_runs_whole_stages():
    X, rates = normal_rows(), Rates()
    detector = tiny("Autoencoder", max_steps=40, learning_rate=1e-2, warm_start=True).fit(X)
    before = len(detector.history_)
    detector.set_params(callbacks=[rates]).fit(X)
    assert detector.history_["step"].iloc[before:].tolist() == [40] and rates.rates[0] == 1e-2


def test_without_warm_start_fit_begins_anew():
    X = normal_rows()
    detector = tiny("Autoencoder").fit(X)
    once = detector.score_samples(X)
    np.testing.assert_array_equal(detector.fit(X).score_samples(X), once)
    detector.set_params(warm_start=True).fit(X)
    assert not np.array_equal(detector.score_samples(X), once)


def test_a_warm_start_on_other_columns_is_refused():
    detector = tiny("Autoencoder", warm_start=True).fit(normal_rows(d=4))
    with pytest.raises(ValueError, match="5 features, but Autoencoder is expecting 4"):
        detector.fit(normal_rows(d=5))
