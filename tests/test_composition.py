"""Detectors inside scikit-learn: pipelines, searches, cross-validation, data frames."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad.metrics import (
    NormalOnlyCV,
    anomaly_average_precision,
    anomaly_roc_auc,
    on_manifold_scorer,
)

from ._settings import DETECTORS, EVERY, having, normal_rows, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)


def labelled():
    """Rows with anomalies (label 1) among them, far away in one column each."""
    X, y = normal_rows(120), np.zeros(120, dtype=int)
    y[::10] = 1
    X[y == 1] += 12 * X.std(axis=0) * np.eye(4)[np.arange(12) % 4]
    return X, y


@pytest.mark.parametrize("detector", EVERY)
def test_a_pipeline_is_its_steps_one_after_the_other(detector):
    X = normal_rows()
    steps = [("scale", StandardScaler()), ("reduce", PCA(3)), ("detect", tiny(detector))]
    pipeline = Pipeline(steps).fit(X)
    reduced = PCA(3).fit_transform(StandardScaler().fit_transform(X))
    alone = tiny(detector).fit(reduced)
    np.testing.assert_array_equal(pipeline.score_samples(X), alone.score_samples(reduced))
    np.testing.assert_array_equal(pipeline.predict(X), alone.predict(reduced))
    np.testing.assert_array_equal(pipeline.decision_function(X), alone.decision_function(reduced))
    pipeline.set_params(detect__contamination=0.3)
    assert (pipeline.fit_predict(X) == -1).sum() == 18


@pytest.mark.parametrize("detector", having("network", "learning_rate"))
def test_a_grid_search_with_anomaly_labels_picks_the_better_settings(detector):
    X, y = labelled()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), tiny(detector, network=(16,))),
        {f"{detector.__name__.lower()}__learning_rate": [1e-12, 1e-2]},
        scoring={"roc": anomaly_roc_auc, "ap": anomaly_average_precision},
        refit="roc",
        cv=NormalOnlyCV(3),
        error_score="raise",
    ).fit(X, y)
    results = pd.DataFrame(search.cv_results_)
    assert (results["mean_test_roc"].between(0, 1)).all() and results["mean_test_ap"].notna().all()
    assert results["mean_test_roc"].max() > 0.9
    assert search.score(X, y) == roc_auc_score(y, -search.score_samples(X))


@all_detectors
def test_cross_validation_sees_anomalies_only_in_the_test_parts(detector):
    X, y = labelled()
    scores = cross_val_score(tiny(detector), X, y, scoring=anomaly_roc_auc, cv=NormalOnlyCV(4))
    assert scores.shape == (4,) and (scores > 0.9).all()


def test_plain_roc_auc_is_upside_down():
    X, y = labelled()
    right = cross_val_score(tiny("Autoencoder"), X, y, scoring=anomaly_roc_auc, cv=NormalOnlyCV(3))
    plain = cross_val_score(tiny("Autoencoder"), X, y, scoring="roc_auc", cv=NormalOnlyCV(3))
    np.testing.assert_allclose(plain, 1 - right)


def test_a_grid_search_without_labels():
    X = normal_rows(90)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), tiny("MPDR", learning_rate=0.02)),
        {"mpdr__visible_chain__noise": [0.1, 0.3], "mpdr__max_steps": [1, 40]},
        scoring=on_manifold_scorer,
        cv=3,
        error_score="raise",
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) > 1 and ((scores >= 0) & (scores <= 1)).all()
    assert search.best_score_ == scores.max()


@all_detectors
def test_data_frames_go_in_without_warnings(detector):
    frame = pd.DataFrame(normal_rows(), columns=["a", "b", "c", "d"], index=range(100, 160))
    frame["b"] = frame["b"].astype("float32")
    frame["c"] = frame["c"].round().astype("int16")
    frame["d"] = frame["d"] > 0
    fitted = tiny(detector).fit(frame).partial_fit(frame[:10])
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    values = frame.to_numpy(dtype=np.float64)
    twin = tiny(detector).fit(values).partial_fit(values[:10])
    np.testing.assert_array_equal(fitted.score_samples(frame), twin.score_samples(values))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a", "c", "d"]])


def test_a_mixed_table_goes_through_a_pipeline_with_frames_out():
    frame = pd.DataFrame(normal_rows(), columns=list("abcd"))
    pipeline = make_pipeline(StandardScaler(), tiny("MPDR")).set_output(transform="pandas")
    pipeline.fit(frame)
    assert pipeline[-1].feature_names_in_.tolist() == list("abcd")
    assert pipeline.predict(frame).shape == (60,)
