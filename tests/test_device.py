"""Detectors on the device of ``pytest --device``, and what becomes of one whose device is gone."""

import pickle

import numpy as np
import pytest
import torch

from ._settings import VARIANT_IDS, VARIANTS, normal_rows, tiny

all_variants = pytest.mark.parametrize(("name", "extra"), VARIANTS, ids=VARIANT_IDS)


@all_variants
def test_everything_works_on_the_device(name, extra, device, tmp_path, global_rng_untouched):
    X = normal_rows()
    detector = tiny(name, **extra, device=device, calibration_fraction=0.2).fit(X)
    expected = torch.device(device).type
    tensors = [*detector.module_.parameters(), *detector.module_.buffers()]
    assert {tensor.device.type for tensor in tensors} == {expected}
    assert detector.device_.type == expected
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    twin = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(twin.score_samples(X), scores)
    np.testing.assert_array_equal(
        twin.partial_fit(X).score_samples(X), detector.partial_fit(X).score_samples(X)
    )
    detector.save(tmp_path / "detector")
    on_cpu = type(detector).load(tmp_path / "detector", device="cpu")
    np.testing.assert_allclose(on_cpu.score_samples(X), detector.score_samples(X), rtol=1e-3)


def test_a_pickle_from_a_device_that_is_not_here_loads_on_the_cpu():
    X = normal_rows()
    detector = tiny("MPDR", replay_size=20).fit(X)
    scores = detector.score_samples(X)
    state = detector.__getstate__()
    state["device_"] = torch.device("cuda:99")
    twin = tiny("MPDR")
    twin.__setstate__(state)
    assert twin.device_ == torch.device("cpu")
    np.testing.assert_array_equal(twin.score_samples(X), scores)


def test_a_pickle_holds_tensors_of_the_cpu_alone():
    detector = tiny("MPDR").fit(normal_rows())
    before = detector.module_
    # As if it had been fitted elsewhere: "meta" stands for a device whose tensors stay there.
    detector.device_ = torch.device("meta")
    state = detector.__getstate__()
    assert state["module_"] is not before and detector.module_ is before
    moments = state["_moments"]["main"].values()
    assert all(value.device.type == "cpu" for moment in moments for value in moment.values())
