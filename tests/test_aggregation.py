"""Detectors of samples by their instances: images by patches, sounds by frames."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import Normalizer
from torch import nn

import skgenad
from skgenad import (
    Committee,
    CrossCalibrated,
    GroupedDetector,
    Mahalanobis,
    Neighbors,
    PatchDetector,
)
from skgenad.metrics import anomaly_roc_auc
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import ImageFeatures

from ._settings import EVERY, normal_rows, tiny

CPU = {"device": "cpu", "random_state": 0}
ALL = {"calibration_fraction": 0.0, "contamination": 0.1, "random_state": 0}
both = pytest.mark.parametrize("kind", [PatchDetector, GroupedDetector])


def grids(n=40, c=3, side=4, seed=0):
    """Make features (n, c, g, g) whose places differ."""
    rng = np.random.RandomState(seed)
    return rng.randn(n, c, side, side) + 3 * np.random.RandomState(99).randn(1, c, side, side)


def clips(n=40, d=3, seed=0):
    """Make clips of 3 to 9 frames."""
    rng = np.random.RandomState(seed)
    return [rng.randn(rng.randint(3, 10), d) @ np.diag([1, 2, 3][:d]) for _ in range(n)]


class Recorder(BaseEstimator):
    """Knows what it was fitted on, and scores a row by its first column."""

    def fit(self, X, y=None):
        self.rows_ = np.asarray(X)
        self.n_features_in_ = X.shape[1]
        return self

    def score_samples(self, X):
        return -np.asarray(X)[:, 0].astype(float)


# ---- what a sample's score is -------------------------------------------------------------


@both
def test_rows_are_samples_of_one_instance_each(kind):
    X = normal_rows()
    ours = kind(Mahalanobis(**CPU), **ALL).fit(X)
    alone = Mahalanobis(**CPU).fit(X, calibration="none")
    np.testing.assert_allclose(ours.score_samples(X), alone.score_samples(X), rtol=1e-9)
    held_out = kind(Mahalanobis(**CPU), random_state=0).fit(X)
    assert len(held_out.calibration_scores_) == 20
    assert held_out.explain(X[:2]).shape == (2, 4)


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("max", lambda e: e.max()),
        ("mean", lambda e: e.mean()),
        (1.0, lambda e: e.mean()),
        (0.5, lambda e: np.sort(e)[-int(np.ceil(len(e) / 2)) :].mean()),
        (1e-9, lambda e: e.max()),
    ],
)
def test_a_samples_score_is_made_of_those_of_its_instances(reduce, expected):
    X = clips()
    detector = GroupedDetector(Mahalanobis(**CPU), reduce=reduce, **ALL).fit(X)
    parts = detector.instance_scores(X)
    assert [len(part) for part in parts] == [len(clip) for clip in X]
    wanted = [-expected(-part) for part in parts]
    np.testing.assert_allclose(detector.score_samples(X), wanted, rtol=1e-12)
    rows = np.concatenate(X)
    alone = Mahalanobis(**CPU).fit(rows, calibration="none").score_samples(rows)
    np.testing.assert_allclose(np.concatenate(parts), alone, rtol=1e-6)


def test_patches_and_parts_are_the_same_idea():
    X = grids()
    patches = PatchDetector(Mahalanobis(**CPU), **ALL).fit(X)
    frames = X.transpose(0, 2, 3, 1).reshape(len(X), 16, 3)
    parts = GroupedDetector(Mahalanobis(**CPU), reduce="max", **ALL).fit(list(frames))
    np.testing.assert_array_equal(patches.score_samples(X), parts.score_samples(list(frames)))
    np.testing.assert_array_equal(patches.score_samples(X), parts.score_samples(frames))
    np.testing.assert_array_equal(
        -patches.anomaly_map(X).reshape(len(X), -1), parts.instance_scores(frames)
    )


@pytest.mark.parametrize("positions", ["shared", "separate"])
def test_an_images_score_depends_on_that_image_alone(positions):
    X = grids(50)
    detector = PatchDetector(Mahalanobis(**CPU), positions=positions, random_state=0).fit(X)
    whole = detector.score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(X[20:23]), whole[20:23])
    np.testing.assert_array_equal(detector.score_samples(X[::-1]), whole[::-1])


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_any_detector_of_rows_learns_patches(kind):
    X = grids(20)
    detector = PatchDetector(tiny(kind), random_state=0).fit(X)
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all() and len(np.unique(scores)) > 10
    np.testing.assert_array_equal(detector.anomaly_map(X).max(axis=(1, 2)), -scores)


def test_shared_places_do_not_know_where_they_are():
    X, order = grids(), np.random.RandomState(1).permutation(16)
    shuffled = X.reshape(40, 3, 16)[:, :, order].reshape(X.shape)
    one, other = (PatchDetector(Mahalanobis(**CPU), **ALL).fit(Z) for Z in (X, shuffled))
    np.testing.assert_allclose(one.score_samples(X), other.score_samples(shuffled), rtol=1e-5)
    moved = one.anomaly_map(X).reshape(40, 16)[:, order]
    np.testing.assert_allclose(moved, other.anomaly_map(shuffled).reshape(40, 16), rtol=1e-4)


def test_separate_places_have_detectors_of_their_own():
    X = grids()
    detector = PatchDetector(Mahalanobis(**CPU), positions="separate", **ALL).fit(X)
    assert detector.grid_ == (4, 4) and len(detector.detectors_) == 16
    maps = detector.anomaly_map(X)
    for i, j in ((0, 0), (1, 3), (3, 2)):
        alone = Mahalanobis(**CPU).fit(X[:, :, i, j], calibration="none")
        np.testing.assert_allclose(maps[:, i, j], alone.anomaly_score(X[:, :, i, j]), rtol=1e-6)
    # A place with other units has the same energies: those of all other places never saw it.
    other = X.copy()
    other[:, :, 2, 1] = other[:, ::-1, 2, 1] * 1000 + 5
    again = PatchDetector(Mahalanobis(**CPU), positions="separate", **ALL).fit(other)
    np.testing.assert_allclose(again.anomaly_map(other), maps, rtol=1e-4)


def test_what_is_normal_elsewhere_alone_is_found_by_separate_places():
    X = grids(60)
    odd = X[:1].copy()
    odd[0, :, 0, 0] = X[0, :, 3, 3]  # a normal patch in the wrong place
    calm = PatchDetector(Mahalanobis(**CPU), random_state=0).fit(X)
    strict = PatchDetector(Mahalanobis(**CPU), positions="separate", random_state=0).fit(X)
    place = strict.anomaly_map(odd)[0].argmax()
    assert place == 0 and strict.p_value(odd) < 0.1
    assert calm.anomaly_map(odd)[0, 0, 0] == calm.anomaly_map(X[:1])[0, 3, 3]


# ---- the fit ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("max_rows", [50, 640])
def test_no_more_instances_are_kept_than_asked_for_each_as_likely(kind, max_rows):
    X = np.arange(40 * 16.0).reshape(40, 1, 4, 4)
    X = X if kind is PatchDetector else list(X.reshape(40, 16, 1))
    seen = np.zeros(640)
    n_fits = 60 if max_rows == 50 else 1
    for seed in range(n_fits):
        fitted = kind(Recorder(), max_rows=max_rows, **{**ALL, "random_state": seed}).fit(X)
        rows = fitted._models[0].rows_[:, 0].astype(int)
        assert len(rows) == max_rows and len(set(rows)) == max_rows
        seen[rows] += 1
    if n_fits > 1:  # binomial of mean 4.7: by image of 16 patches the mean is within 5 errors
        share = max_rows / 640
        spread = np.sqrt(n_fits * share * (1 - share) / 16)
        assert np.abs(seen.reshape(40, 16).mean(axis=1) - n_fits * share).max() < 5 * spread


def test_separate_places_see_whole_images_no_more_than_asked_for():
    X = np.arange(40.0)[:, None, None, None] + np.zeros((1, 2, 4, 4))
    fitted = PatchDetector(Recorder(), positions="separate", max_rows=160, **ALL).fit(X)
    seen = [model.rows_[:, 0].tolist() for model in fitted.detectors_]
    assert len(seen[0]) == 10 and all(rows == seen[0] for rows in seen)


def test_images_are_held_out_whole_and_groups_of_them():
    X = grids(60)
    fitted = PatchDetector(Recorder(), random_state=0).fit(X)
    assert len(fitted.calibration_scores_) == 20
    assert len(fitted.detectors_[0].rows_) == 40 * 16
    groups = np.repeat(np.arange(12), 5)
    fitted = PatchDetector(Recorder(), random_state=0).fit(X, groups=groups)
    kept = {round(float(v), 9) for v in fitted.detectors_[0].rows_[:, 0]}
    inside = [all(round(float(v), 9) in kept for v in image[0].ravel()) for image in X]
    assert all(len(set(np.array(inside)[groups == g])) == 1 for g in range(12))


def test_new_normal_images_are_flagged_as_often_as_asked_for():
    flagged = []
    for seed in range(20):
        X = np.random.RandomState(seed).randn(260, 2, 3, 3)
        fitted = PatchDetector(Mahalanobis(**CPU), contamination=0.1, random_state=seed)
        flagged.append((fitted.fit(X[:60]).predict(X[60:]) == -1).mean())
    assert abs(np.mean(flagged) - 0.1) < 4 * np.std(flagged) / np.sqrt(20) + 1e-3


def test_a_failed_fit_leaves_the_detector_as_it_was():
    X = grids()
    fitted = PatchDetector(Mahalanobis(**CPU), random_state=0).fit(X)
    before = fitted.score_samples(X)
    bad = X.copy()
    bad[17, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(bad)
    with pytest.raises(ValueError, match="shape"):
        fitted.fit(X[:, :, :, :, None])
    np.testing.assert_array_equal(fitted.score_samples(X), before)


# ---- images -------------------------------------------------------------------------------


def photographs(n=40, side=32, seed=0):
    stripes = 0.5 + 0.3 * np.sin(np.arange(side))[None, None, None]
    return stripes + 0.05 * np.random.RandomState(seed).rand(n, 1, side, side)


def seen_by_a_network(**settings):
    return ImageFeatures(
        nn.Conv2d(3, 8, 4, stride=4), **{"size": 32, "pool": None, "device": "cpu", **settings}
    )


def test_a_defect_is_found_and_located():
    X = photographs()
    detector = PatchDetector(Neighbors(**CPU), features=seen_by_a_network(), random_state=0).fit(X)
    image = X[:3].copy()
    image[1, 0, 20:24, 8:12] = 0.0
    assert detector.predict(image).tolist() == [1, -1, 1] and detector.grid_ == (8, 8)
    maps = detector.anomaly_map(image)
    assert maps.shape == (3, 32, 32)
    row, column = divmod(int(maps[1].argmax()), 32)
    assert 19 <= row <= 24 and 7 <= column <= 12
    assert detector.anomaly_map(image, size=(16, 64)).shape == (3, 16, 64)
    assert detector.anomaly_map(list(image)).shape == (3, 32, 32)
    # Bilinear maps end a little below the worst place.
    worst = detector.anomaly_score(image)
    assert (maps.max(axis=(1, 2)) <= worst).all() and (maps.max(axis=(1, 2)) > 0.5 * worst).all()


def test_maps_of_constant_energies_are_constant():
    X = np.full((4, 2, 3, 3), 1.5)
    maps = PatchDetector(Recorder(), **ALL).fit(X).anomaly_map(X, size=11)
    np.testing.assert_allclose(maps, 1.5)


def test_features_are_computed_a_few_images_at_a_time():
    sizes = []

    class Spy(ImageFeatures):
        def transform(self, X):
            sizes.append(len(X))
            return super().transform(X)

    features = Spy(nn.Conv2d(3, 2, 4, stride=4), size=8, pool=None, device="cpu")
    PatchDetector(Mahalanobis(**CPU), features=features, random_state=0).fit(photographs(50))
    assert max(sizes) <= 16 and sum(sizes) == 50 + 1


def test_several_classes_are_learned_together():
    one, other = photographs(30), photographs(30, seed=1).transpose(0, 1, 3, 2)
    features = seen_by_a_network()
    detector = PatchDetector(Neighbors(**CPU), features=features, random_state=0)
    detector.fit(np.concatenate([one, other]))
    for X in (one, other):
        broken = X[:2].copy()
        broken[:, :, 8:12, 8:12] = 0.0
        assert (detector.predict(broken) == -1).all()
        assert (detector.predict(X[2:]) == 1).mean() > 0.7


# ---- as an estimator ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "X"),
    [
        (lambda: PatchDetector(Mahalanobis(**CPU), random_state=0), grids()),
        (lambda: PatchDetector(tiny("MPDR"), positions="separate", **ALL), grids(20, side=2)),
        (lambda: PatchDetector(make_pipeline(Normalizer(), tiny("NAE")), **ALL), grids()),
        (lambda: GroupedDetector(tiny("Autoencoder"), random_state=0), clips()),
        (lambda: GroupedDetector(tiny("CANCE"), reduce=0.3, random_state=0), clips()),
    ],
    ids=["patches", "separate", "pipeline", "parts", "top"],
)
def test_files_give_the_same_scores(make, X, tmp_path):
    fitted = make().fit(X)
    fitted.save(tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    if isinstance(fitted, PatchDetector):
        np.testing.assert_array_equal(loaded.anomaly_map(X), fitted.anomaly_map(X))
        assert loaded.grid_ == fitted.grid_


def test_files_hold_features_of_a_named_network(tmp_path):
    X = photographs(12)
    features = ImageFeatures(size=32, pool=None, layers=["_blocks.2"], device="cpu")
    fitted = PatchDetector(Mahalanobis(**CPU), features=features, random_state=0).fit(X)
    fitted.save(tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))


def test_searches_and_other_detectors_take_it():
    X, y = grids(60), np.repeat([0, 1], [50, 10])
    X[50:, 0, 0, 0] += 6
    search = GridSearchCV(
        PatchDetector(Mahalanobis(**CPU), random_state=0),
        {"reduce": ["max", "mean"], "detector__shrinkage": [0.0, 0.5]},
        scoring=anomaly_roc_auc,
        cv=StratifiedKFold(2),
    )
    search.fit(X, y)
    assert search.best_params_["reduce"] == "max"
    history = PatchDetector(tiny("Autoencoder"), positions="separate", **ALL)
    table = history.fit(grids(20, side=2)).history_
    assert table["fold"].unique().tolist() == [0, 1, 2, 3]  # the places


def test_training_follows_the_seed():
    X = grids()
    fits = [
        PatchDetector(tiny("Autoencoder", random_state=None), **{**ALL, "random_state": seed})
        for seed in (0, 0, 1)
    ]
    scores = [fit.fit(X).score_samples(X) for fit in fits]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


# ---- wrong inputs -------------------------------------------------------------------------


class Shortens(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X)[:-1]


@pytest.mark.parametrize(
    ("detector", "X", "error", "match"),
    [
        (PatchDetector(), np.zeros((5, 3, 4)), ValueError, r"shape \(n, c, g, g\)"),
        (PatchDetector(), grids()[:1], ValueError, "minimum of 2"),
        (PatchDetector(Normalizer()), grids(), TypeError, "detector must be"),
        (PatchDetector(features=Mahalanobis()), grids(), TypeError, "features must be"),
        (PatchDetector(features=Shortens()), grids(), ValueError, "number of samples|shape"),
        (PatchDetector(reduce=0.0), grids(), ValueError, "reduce"),
        (PatchDetector(reduce="min"), grids(), ValueError, "reduce"),
        (PatchDetector(positions="all"), grids(), ValueError, "positions"),
        (PatchDetector(max_rows=1), grids(), ValueError, "max_rows"),
        (GroupedDetector(), [np.zeros((3, 2)), np.zeros((3, 4))], ValueError, "features"),
        (GroupedDetector(), [np.zeros((3, 2)), np.zeros((0, 2))], ValueError, "one at least"),
        (GroupedDetector(features=Shortens()), "clip.wav", ValueError, "single sample"),
        (PatchDetector(features=ImageFeatures()), photographs(), ValueError, "pool=None"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(detector, X, error, match):
    with pytest.raises(error, match=match):
        detector.fit(X)


def test_images_of_another_kind_than_those_of_the_fit_are_errors():
    fitted = PatchDetector(Mahalanobis(**CPU), random_state=0).fit(grids())
    with pytest.raises(ValueError, match="grid of 5x5 places, but PatchDetector was fitted on 4x4"):
        fitted.score_samples(grids(side=5))
    with pytest.raises(ValueError, match="4 features for each patch"):
        fitted.score_samples(grids(c=4))
    with pytest.raises(ValueError, match="anomaly_map"):
        fitted.explain(grids(3))
    with pytest.raises(ValueError, match="no places|a table"):
        fitted.anomaly_map(np.zeros((4, 3)))
    rows = PatchDetector(Mahalanobis(**CPU), random_state=0).fit(normal_rows())
    with pytest.raises(ValueError, match="a table"):
        rows.anomaly_map(normal_rows())


@pytest.mark.parametrize("around", [CrossCalibrated, lambda inner: Committee([("one", inner)])])
def test_committees_fit_rows_and_say_so_where_samples_are_none(around):
    inner = PatchDetector(features=seen_by_a_network())
    with pytest.raises(TypeError, match=r"or pass PatchDetector\((Committee|CrossCalibrated)\("):
        around(inner).fit(photographs())
    # What the error advises works.
    X = grids(30)
    detector = PatchDetector(CrossCalibrated(Mahalanobis(**CPU), cv=2), random_state=0).fit(X)
    assert detector.score_samples(X).shape == (30,)


def test_a_pipeline_sees_the_same_rows_when_it_is_fitted_and_when_it_scores():
    """A step in float32 makes other digits of a row, which its last step would not know again."""
    X = grids(20).astype(np.float32)
    model = make_pipeline(PCA(3), Neighbors(n_neighbors=1, **CPU))
    detector = PatchDetector(model, **ALL).fit(X)
    rows = X.transpose(0, 2, 3, 1).reshape(-1, 3).astype(np.float64)
    alone = clone(model).fit(rows, neighbors__calibration="none").score_samples(rows)
    np.testing.assert_allclose(detector.anomaly_map(X).ravel(), -alone, rtol=1e-6)
