"""Pickles name the version that made them, and say what is wrong where another one reads them."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning as OfScikitLearn
from sklearn.neighbors import KernelDensity

import skgenad
from skgenad import InconsistentVersionWarning, LikelihoodRatio, Mahalanobis
from skgenad.compat import DiscriminativeRatio, ScoreDetector
from skgenad.preprocessing import LatentFeatures

from ._settings import DETECTORS, normal_rows, tiny

MAKERS = {detector.__name__: lambda d=detector: tiny(d) for detector in DETECTORS} | {
    "Committee": lambda: tiny("Committee"),
    "LikelihoodRatio": lambda: LikelihoodRatio(random_state=0),
    "DiscriminativeRatio": lambda: tiny(DiscriminativeRatio),
    "ScoreDetector": lambda: ScoreDetector(KernelDensity(), random_state=0),
    "LatentFeatures": lambda: LatentFeatures(tiny("Autoencoder")),
}
# What users call of a fitted object.
CALLS = ("predict", "score_samples", "decision_function", "transform", "p_value", "partial_fit")


def unpickled_from(state, kind):
    """Return an object of a state, and what was warned of meanwhile."""
    loaded = kind.__new__(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded.__setstate__(state)
    return loaded, caught


@pytest.mark.parametrize("name", MAKERS)
def test_a_pickle_names_its_version(name):
    fitted = MAKERS[name]().fit(normal_rows())
    state = fitted.__getstate__()
    assert state["_skgenad_version"] == skgenad.__version__
    for version, was in (("0.0.9", "version 0.0.9"), (None, "an older version")):
        other = {key: value for key, value in state.items() if key != "_skgenad_version"}
        if version is not None:
            other["_skgenad_version"] = version
        loaded, (caught,) = unpickled_from(copy.deepcopy(other), type(fitted))
        assert caught.category is InconsistentVersionWarning
        message = str(caught.message)
        assert was in message and f"version {skgenad.__version__}" in message
        assert "fit it again" in message
        assert set(vars(loaded)) == set(vars(fitted))


@pytest.mark.parametrize("name", MAKERS)
def test_no_warning_within_a_version(name, tmp_path):
    unfitted = MAKERS[name]()
    fitted = MAKERS[name]().fit(normal_rows())
    joblib.dump(fitted, tmp_path / "file")
    copies = (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted))  # warnings are errors
    for twin in (*copies, joblib.load(tmp_path / "file"), copy.copy(fitted)):
        assert set(vars(twin)) == set(vars(fitted))
    assert not hasattr(clone(fitted), "n_features_in_")
    pickle.loads(pickle.dumps(unfitted)).fit(normal_rows())


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "LatentFeatures"])
def test_what_a_pickle_lacks_is_said(name):
    X = normal_rows()
    fitted = MAKERS[name]().fit(X)
    for missing in type(fitted)._needed:
        state = copy.deepcopy(fitted.__getstate__())
        if missing not in state or missing in ("n_features_in_", "device_"):
            continue
        state.pop(missing)
        loaded, (caught,) = unpickled_from(state, type(fitted))
        assert f"without {missing}" in str(caught.message)
        with pytest.raises(ValueError, match=f"{missing}, which version .* needs: .*Fit it again"):
            getattr(loaded, missing)
        for call in CALLS:
            try:
                getattr(loaded, call)(X)
            except AttributeError as error:  # what there is no method for
                assert call in str(error) and "object has no attribute" in str(error)
            except ValueError:
                pass
    assert np.isfinite(loaded.fit(X).score_samples(X)).all()
    pickle.loads(pickle.dumps(loaded))  # it lacks nothing now


def test_scores_of_an_incomplete_pickle_say_what_is_missing():
    state = tiny("Autoencoder").fit(normal_rows()).__getstate__()
    state.pop("_fitted_parameters")
    loaded, _ = unpickled_from(state, skgenad.Autoencoder)
    with pytest.raises(ValueError, match="no _fitted_parameters, which version"):
        loaded.predict(normal_rows())
    with pytest.raises(ValueError, match="no _fitted_parameters, which version"):
        loaded.partial_fit(normal_rows())


def test_the_warning_can_be_filtered_as_that_of_scikit_learn():
    state = Mahalanobis(device="cpu").fit(normal_rows()).__getstate__()
    state["_skgenad_version"] = "9.9"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OfScikitLearn)
        Mahalanobis().__setstate__(state)
    with pytest.raises(InconsistentVersionWarning, match="version 9.9"):
        Mahalanobis().__setstate__(state)
    warning = InconsistentVersionWarning("text")
    assert str(pickle.loads(pickle.dumps(warning))) == "text"


def test_an_attribute_that_nobody_has_is_missing_as_ever():
    with pytest.raises(AttributeError, match="no attribute 'scores_of_none'"):
        _ = Mahalanobis().scores_of_none
    assert not hasattr(Mahalanobis(), "module_")
