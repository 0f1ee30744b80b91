"""What a caller has set in torch and numpy changes nothing: the same bits come out."""

import functools
import pickle
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from skgenad._tensors.settings import own_settings

from ._settings import EVERY, normal_rows, over_variants, tiny

X = normal_rows()


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def no_gradients():
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


SETTINGS = {
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default meta": lambda: default_device("meta"),
    "meta in a block": lambda: torch.device("meta"),
    "gradients off": no_gradients,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": deterministic,
    "numpy raises": lambda: np.errstate(all="raise"),
}


def everything(name, extra, path):
    """Fit, train on, save, load, draw; return all numbers that come out."""
    extra = {**extra, "calibration_fraction": 0.2}
    detector = tiny(name, **extra).fit(X)
    found = {"scores": detector.score_samples(X), "offset": detector.offset_}
    found["p-values"] = detector.p_value(X)
    if hasattr(detector, "history_") and len(detector.history_):
        found["losses"] = detector.history_["loss"].to_numpy()
    found |= asked(detector, "")
    if hasattr(detector, "save"):
        detector.save(path)
        loaded = type(detector).load(path)
        found |= asked(loaded, "loaded ")
        if hasattr(loaded, "partial_fit"):
            found["loaded, trained on"] = loaded.partial_fit(X).score_samples(X)
    copy = pickle.loads(pickle.dumps(detector))
    found["copy"] = copy.score_samples(X)
    if hasattr(detector, "partial_fit"):
        found["copy, trained on"] = copy.partial_fit(X).score_samples(X)
        found["trained on"] = detector.partial_fit(X).score_samples(X)
    return found


@functools.cache
def without_settings(name, **extra):
    with tempfile.TemporaryDirectory() as folder:
        return everything(name, extra, Path(folder) / "detector")


def asked(detector, prefix):
    found = {}
    for method in ("score_samples", "log_density", "reconstruct", "energy", "member_scores"):
        if callable(getattr(type(detector), method, None)) and hasattr(detector, method):
            found[f"{prefix}{method}"] = np.asarray(getattr(detector, method)(X))
    if hasattr(detector, "sample"):
        found[f"{prefix}sample"] = detector.sample(3, random_state=0)
    return found


def assert_no_bit_differs(name, extra, path, names):
    wanted = without_settings(name, **extra)
    with ExitStack() as stack:
        for setting in names:
            stack.enter_context(SETTINGS[setting]())
        got = everything(name, extra, path)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)


@over_variants("Committee", "LikelihoodRatio", slowly=True)
def test_the_callers_settings_change_no_bit(name, extra, tmp_path):
    names = ["default float64", "default meta", "gradients off", "autocast", "numpy raises"]
    assert_no_bit_differs(name, extra, tmp_path / "detector", names)


@pytest.mark.parametrize("name", [cls.__name__ for cls in EVERY])
def test_other_settings_of_the_caller_change_no_bit(name, tmp_path):
    names = ["inference", "default bfloat16", "meta in a block", "deterministic"]
    assert_no_bit_differs(name, {}, tmp_path / "detector", names)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_of_the_caller_changes_no_bit(setting, tmp_path):
    for name in ("MPDR", "VAE"):
        assert_no_bit_differs(name, {}, tmp_path / "detector", [setting])


@pytest.mark.parametrize("name", [cls.__name__ for cls in EVERY])
def test_settings_are_the_callers_again_afterwards(name):
    with default_dtype(torch.float64), torch.autocast("cpu", dtype=torch.bfloat16), no_gradients():
        tiny(name).fit(X).score_samples(X)
        assert torch.get_default_dtype() is torch.float64
        assert torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


@pytest.mark.parametrize("enter", SETTINGS.values(), ids=SETTINGS)
def test_what_is_made_is_of_our_defaults(enter):
    with enter(), own_settings():
        made = [
            torch.zeros(2),
            torch.empty(2),
            torch.tensor([0.1, 0.7]),
            torch.tensor(0.1),
            torch.as_tensor([0.1]),
            torch.full((2,), 0.1),
            torch.arange(0.0, 1.0, 0.3),
            torch.linspace(0, 1, 3),
            torch.eye(2),
            torch.nn.Linear(2, 3).weight,
        ]
        assert {(t.dtype, t.device.type) for t in made} == {(torch.float32, "cpu")}
        assert torch.equal(made[2], torch.tensor([0.1, 0.7], dtype=torch.float32))
        kept = [
            torch.zeros(2, dtype=torch.float64),
            torch.tensor(np.ones(2)),
            torch.tensor([1, 2]),
            torch.arange(3),
            torch.full((2,), 3),
            torch.full((2,), True),
        ]
        types = [torch.float64, torch.float64, *[torch.int64] * 3, torch.bool]
        assert [t.dtype for t in kept] == types
        x = torch.ones(2, requires_grad=True)
        (x * 2).sum().backward()
        assert torch.equal(x.grad, torch.full((2,), 2.0))
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
