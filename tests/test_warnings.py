"""Warnings name the line that the user wrote, whichever way led to them."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import CrossCalibrated, Mahalanobis
from skgenad.pipeline import make_pipeline

from ._settings import normal_rows, tiny

FEW = normal_rows(12)
FAR = 1e6 * FEW
SENTINEL = np.vstack([normal_rows(60), np.full((1, FEW.shape[1]), -9999.0)])


def _piped(X):
    return make_pipeline(StandardScaler(), Mahalanobis(contamination=0.01)).fit(X)


def _fitted(X=FEW, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Mahalanobis(**parameters).fit(X)


def _network():
    few = {"contamination": 0.01, "calibration_fraction": "auto"}
    return tiny("Autoencoder", **few)


def _committee():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = tiny("Committee", contamination=0.001).fit(normal_rows(60))
    return fitted.calibrate(FEW)


def _set_since():
    detector = _fitted(calibration_fraction=0).set_params(contamination=0.3)
    return detector.predict(FEW)


WAYS = {
    "fit": lambda: Mahalanobis(contamination=0.01).fit(FEW),
    "trained": lambda: _network().fit(FEW),
    "partial_fit": lambda: _network().partial_fit(FEW),
    "calibrate": lambda: _fitted(contamination=0.01).calibrate(FEW),
    "set_threshold": lambda: _fitted().set_threshold(fpr=0.001, X=FEW),
    "select": lambda: _fitted().calibrate(FEW).select(FAR),
    "sentinel": lambda: Mahalanobis().fit(SENTINEL),
    "our pipeline": lambda: _piped(FEW),
    "select of our pipeline": lambda: _piped(SENTINEL[:-1]).calibrate(FEW).select(FAR),
    "sklearn's pipeline": lambda: Pipeline([("d", Mahalanobis(contamination=0.01))]).fit(FEW),
    "cross-validation": lambda: cross_val_score(
        Mahalanobis(contamination=0.01), FEW, scoring=lambda d, X, y=None: 0.0, cv=2
    ),
    "committee": _committee,
    "cross-calibrated": lambda: CrossCalibrated(Mahalanobis(), contamination=0.01).fit(FEW),
    "contamination set since": _set_since,
}


@pytest.mark.parametrize("way", WAYS)
def test_warnings_name_the_line_of_the_user(way):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        WAYS[way]()
    assert said
    assert {w.filename for w in said} == {__file__}
