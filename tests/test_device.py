"""Detectors on the device of ``pytest --device``, and what becomes of one whose device is gone."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skgenad.energies import Replay

from ._settings import normal_rows, over_variants, tiny

all_variants = over_variants(slowly=True)


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
    detector = tiny("MPDR", replay=Replay(20)).fit(X)
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
    moments = state["_moments"]["energy"]["main"].values()
    assert all(value.device.type == "cpu" for moment in moments for value in moment.values())


# Detectors that compute in float64 where they can.
PRECISE = [
    ("CANCE", {}),
    ("CANCE", {"features": "pca"}),
    ("CANCE", {"features": PCA(2)}),
    ("CANCE", {"features": "pca", "score_type": "latent"}),
    ("GaussianMixtures", {}),
    ("KernelDenoiser", {}),
    ("LocalGaussian", {}),
    ("Mahalanobis", {"shrinkage": "auto"}),
    ("Neighbors", {}),
    ("Neighbors", {"scale": "local"}),
]
precise_detectors = pytest.mark.parametrize(
    ("name", "extra"), PRECISE, ids=["-".join([n, *map(str, e.values())]) for n, e in PRECISE]
)


class NoFloat64(TorchDispatchMode):
    """Lets no operation of torch make float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [leaf.dtype for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        assert torch.float64 not in made, func
        return out


def types_of(module):
    return {t.dtype for t in module.state_dict().values() if t.is_floating_point()}


@precise_detectors
def test_a_device_without_float64_trains_and_scores_in_float32(name, extra, without_float64):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    assert types_of(detector.module_) == {torch.float32}
    x = torch.from_numpy(detector.units_.to_standard(np.vstack([X, X + 1e15])))
    # The object of another works in numpy, and its results come in as float64.
    with torch.no_grad(), NoFloat64() if "PCA(" not in str(extra) else torch.no_grad():
        energy = detector.module_.energy(x)
    assert energy.dtype == torch.float32 and energy.isfinite().all()
    assert np.isfinite(detector.partial_fit(X).score_samples(X)).all()


@precise_detectors
def test_what_lost_its_float64_scores_alike_where_there_is_one(name, extra, request):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    scores = detector.score_samples(X)
    request.getfixturevalue("without_float64")
    detector.module_.to("cpu")
    assert types_of(detector.module_) == {torch.float32}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skgenad._tensors.device.has_float64", lambda device: True)
        np.testing.assert_allclose(detector.score_samples(X), scores, rtol=1e-3, atol=1e-3)
    detector.module_.to("cpu")  # whoever moves derives anew
    np.testing.assert_allclose(detector.score_samples(X), scores, rtol=1e-2, atol=1e-2)
