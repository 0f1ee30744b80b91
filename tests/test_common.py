"""scikit-learn's own checks, and constructors without arguments, for every public detector."""

import dataclasses
import os
import pickle
import warnings
from unittest import SkipTest

import numpy as np
import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from skgenad._core.callbacks import DivergenceWarning
from skgenad._core.training import run_stage

from ._settings import EVERY, TINY, normal_rows, tiny

all_detectors = pytest.mark.parametrize("detector", EVERY)


def test_every_public_detector_has_quick_settings():
    assert EVERY
    assert {detector.__name__ for detector in EVERY} <= set(TINY)


def test_no_check_is_left_out():
    # Without this variable scikit-learn skips one of the checks below.
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    assert all(not tiny(detector).__sklearn_tags__()._skip_test for detector in EVERY)


@parametrize_with_checks([tiny(detector, calibration_fraction="auto") for detector in EVERY])
def test_passes_scikit_learns_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as skip:
        pytest.fail(f"skipped: {skip}")


@all_detectors
def test_validates_every_parameter(detector):
    check_param_validation(detector.__name__, tiny(detector))


@all_detectors
def test_keeps_column_names_consistent(detector):
    check_dataframe_column_names_consistency(detector.__name__, tiny(detector))


@pytest.fixture
def short_stages(monkeypatch):
    """Let stages end after ten steps: what more of them do is no matter of shapes."""

    def shortened(module, stage, *args, **kwargs):
        short = dataclasses.replace(stage, n_steps=min(stage.n_steps, 10))
        return run_stage(module, short, *args, **kwargs)

    monkeypatch.setattr("skgenad._core.running.run_stage", shortened)


def _check_without_arguments(detector, shape):
    X = normal_rows(*shape)
    with warnings.catch_warnings():
        if len(X) == 2:  # which a deep mixture may run away from, and says so
            warnings.simplefilter("ignore", DivergenceWarning)
        fitted = detector().fit(X)
    scores = fitted.score_samples(X)
    assert scores.shape == (len(X),) and np.isfinite(scores).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), scores)


@all_detectors
@pytest.mark.parametrize("shape", [(2, 1), (9, 30), (200, 3)], ids=str)
def test_works_without_arguments(detector, shape, short_stages):
    _check_without_arguments(detector, shape)


@pytest.mark.slow
@all_detectors
def test_all_default_steps_on_two_rows_stay_finite(detector):
    _check_without_arguments(detector, (2, 1))
