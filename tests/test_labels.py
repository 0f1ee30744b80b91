"""Classes of normal rows: who gets them, in which form, and what is refused."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from skgenad import Mahalanobis
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.optimizers import adam
from skgenad._tensors.model import Model

from ._settings import ALL_ROWS, normal_rows
from .test_files import rewrite

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {**ALL_ROWS, "use_labels": True, "device": "cpu", "random_state": 0}


class Seen(list):
    """A list that copies of a module share."""

    def __deepcopy__(self, memo):
        return self


class Centre(Model):
    """A point; the energy is the squared distance to it."""

    def __init__(self, n_features, seen):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(n_features))
        self.seen = seen

    def energy(self, x):
        return (x - self.place).square().sum(dim=1)

    def loss(self, x):
        return {"loss": self.energy(x).mean()}

    def prepare(self, rows, labels):
        self.seen.append(("before", rows, labels))

    def finish(self, rows, labels):
        self.seen.append(("after", rows, labels))


class Recorder(BaseGenerativeDetector):
    """Trains a point by gradients, and writes down what its hooks are given."""

    def __init__(self, use_labels=False, calibration_fraction=0.0, warm_start=False):
        self.use_labels, self.calibration_fraction = use_labels, calibration_fraction
        self.warm_start = warm_start
        self.batch_size, self.standardize, self.contamination = 8, False, 0.1
        self.device, self.random_state, self.verbose, self.callbacks = "cpu", 0, 0, None

    def _make_module(self, n_features):
        self.seen_ = Seen([("module", copy.copy(getattr(self, "classes_", None)), None)])
        return Centre(n_features, self.seen_)

    def _stages(self, module):
        optimizers = {"main": adam(module.parameters(), 1e-3)}
        return [Stage(name="only", optimizers=optimizers, n_steps=3)]


Recorder._parameter_constraints = {}


def labelled(n=60, n_classes=3):
    """Return rows whose first column is the place of their class, and the places."""
    places = np.random.RandomState(1).permutation(np.arange(n) % n_classes)
    X = normal_rows(n)
    X[:, 0] = places
    return X, places


# ---- what the hooks are given ---------------------------------------------------------------

NAMES = {
    "strings": np.array(["crab", "lobster", "prawn"]),
    "objects": np.array(["crab", "lobster", "prawn"], dtype=object),
    "integers": np.array([-3, 5, 40]),
    "whole floats": np.array([1.0, 2.0, 7.0]),
}


@pytest.mark.parametrize("calibration_fraction", [0.0, 0.3])
@pytest.mark.parametrize("names", NAMES)
def test_hooks_are_given_the_place_of_each_rows_class(names, calibration_fraction):
    X, places = labelled()
    detector = Recorder(use_labels=True, calibration_fraction=calibration_fraction)
    detector.fit(X, NAMES[names][places])
    (_, classes, _), *hooks = detector.seen_
    np.testing.assert_array_equal(classes, NAMES[names])
    assert [name for name, *_ in hooks] == ["before", "after"]
    for _, rows, labels in hooks:
        assert labels.dtype == torch.long and len(rows) == 60 - 60 * calibration_fraction
        # The rows carry their class: none is given another's after rows were held out.
        assert torch.equal(rows[:, 0].long(), labels)


def test_two_classes_may_be_booleans():
    X, places = labelled(n_classes=2)
    detector = Recorder(use_labels=True).fit(X, places == 1)
    assert detector.classes_.tolist() == [False, True]
    assert torch.equal(detector.seen_[-1][2], torch.from_numpy(places))


def test_without_use_labels_nobody_sees_them():
    X, places = labelled()
    for y in (places, ["a"] * 7, np.full(60, np.nan), object()):
        detector = Recorder().fit(X, y).partial_fit(X, y)
        assert all(labels is None for _, _, labels in detector.seen_)
        assert not hasattr(detector, "classes_")


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
def test_later_calls_keep_the_places_of_the_first(way):
    X, places = labelled()
    names = NAMES["strings"]
    detector = Recorder(use_labels=True, warm_start=way == "warm_start").fit(X, names[places])
    detector.seen_.clear()
    later = places > 0  # no crab among these
    (detector.fit if way == "warm_start" else detector.partial_fit)(X[later], names[places[later]])
    ((hook, rows, labels),) = detector.seen_
    assert hook == "after" and torch.equal(rows[:, 0].long(), labels)
    np.testing.assert_array_equal(detector.classes_, names)


@pytest.mark.parametrize(
    "as_given",
    [list, lambda y: pd.Series(y, index=range(500, 560)), pd.Categorical, np.asarray],
    ids=["list", "series", "categorical", "array"],
)
def test_labels_come_in_any_container(as_given):
    X, places = labelled()
    y = NAMES["strings"][places]
    expected = Mahalanobis(**QUICK).fit(X, y).score_samples(X)
    np.testing.assert_array_equal(
        Mahalanobis(**QUICK).fit(X, as_given(y)).score_samples(X), expected
    )


def test_a_column_of_labels_is_taken_with_scikit_learns_warning():
    X, places = labelled()
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        detector = Mahalanobis(**QUICK).fit(X, places[:, None])
    assert detector.classes_.tolist() == [0, 1, 2]


# ---- all ways in ----------------------------------------------------------------------------


def test_fit_predict_takes_labels():
    X, places = labelled()
    expected = Mahalanobis(**QUICK).fit(X, places).predict(X)
    np.testing.assert_array_equal(Mahalanobis(**QUICK).fit_predict(X, places), expected)


def test_a_pipeline_passes_labels_on():
    X, places = labelled()
    pipeline = make_pipeline(StandardScaler(), Mahalanobis(**QUICK))
    expected = Mahalanobis(**QUICK).fit(StandardScaler().fit_transform(X), places)
    flagged = pipeline.fit_predict(X, places)
    np.testing.assert_array_equal(flagged, expected.predict(StandardScaler().fit_transform(X)))
    assert pipeline.fit(X, places)[-1].classes_.tolist() == [0, 1, 2]


def test_the_first_partial_fit_takes_labels():
    X, places = labelled()
    one, two = Mahalanobis(**QUICK).partial_fit(X, places), Mahalanobis(**QUICK).fit(X, places)
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))


def test_scikit_learn_is_told_whether_y_is_needed():
    for use_labels in (False, True):
        detector = Mahalanobis(use_labels=use_labels)
        assert detector.__sklearn_tags__().target_tags.required is use_labels


# Written for outlier detectors that need no y: they fit without.
WITHOUT_Y = {"check_outliers_train", "check_outliers_fit_predict"}
CHECKS = [
    check
    for _, check in estimator_checks_generator(Mahalanobis(**QUICK))
    if check.func.__name__ not in WITHOUT_Y
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.func.__name__)
def test_passes_scikit_learns_checks_with_labels(check):
    check(Mahalanobis(**QUICK))


# ---- what is refused ------------------------------------------------------------------------

BAD_LABELS = {
    r"requires y to be passed.*Pass the class of every row, or set use_labels=False": None,
    r"inconsistent numbers of samples: \[60, 59\]": np.zeros(59),
    "Unknown label type: continuous": np.linspace(0, 1, 60),
    "Input y contains NaN": np.where(np.arange(60) == 3, np.nan, 1.0),
    "y should be a 1d array, got an array of shape": np.zeros((60, 2), dtype=int),
}


@pytest.mark.parametrize("message", BAD_LABELS)
@pytest.mark.parametrize("way", ["fit", "partial_fit", "fit_predict"])
def test_bad_labels_are_refused_by_name(message, way):
    X, places = labelled()
    unfitted = Mahalanobis(**QUICK)
    before = dict(vars(unfitted))
    with pytest.raises(ValueError, match=message):
        getattr(unfitted, way)(X, BAD_LABELS[message])
    assert vars(unfitted) == before
    fitted = Mahalanobis(**QUICK).fit(X, places)
    with pytest.raises(ValueError, match=message):
        fitted.partial_fit(X, BAD_LABELS[message])
    twin = Mahalanobis(**QUICK).fit(X, places)
    np.testing.assert_array_equal(fitted.score_samples(X), twin.score_samples(X))


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
def test_a_class_that_the_first_fit_did_not_see_is_refused_by_name(way):
    X, places = labelled()
    names = NAMES["strings"][places]
    fitted = Mahalanobis(**QUICK, warm_start=way == "warm_start").fit(X, names)
    before = dict(vars(fitted))
    wrong = np.where(places == 1, "squid", names)
    again = fitted.fit if way == "warm_start" else fitted.partial_fit
    message = re.escape("['squid'], which the first fit did not see: it saw ['crab', 'lobster'")
    with pytest.raises(ValueError, match=message):
        again(X, wrong)
    with pytest.raises(ValueError, match=r"holds the classes \[0, 1, 2\], which the first"):
        again(X, places)
    assert vars(fitted) == before


@pytest.mark.parametrize("first", [True, False])
def test_use_labels_cannot_change_between_calls(first):
    X, places = labelled()
    detector = Mahalanobis(**{**QUICK, "use_labels": first}).fit(X, places)
    detector.set_params(use_labels=not first)
    with pytest.raises(ValueError, match=f"was fitted with use_labels={first}. Set it back"):
        detector.partial_fit(X, places)
    # A fit from the start may change it, and leaves nothing behind.
    detector.fit(X, places)
    assert hasattr(detector, "classes_") is not first
    assert len(detector.means_) == (1 if first else 3)


# ---- copies and files -----------------------------------------------------------------------


@pytest.mark.parametrize("names", NAMES)
def test_classes_follow_a_detector_into_files_and_copies(names, tmp_path):
    X, places = labelled()
    y = NAMES[names][places]
    detector = Mahalanobis(**QUICK).fit(X, y)
    detector.save(tmp_path / "detector")
    loaded = Mahalanobis.load(tmp_path / "detector")
    for twin in (loaded, pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        np.testing.assert_array_equal(twin.classes_, NAMES[names])
        assert twin.classes_.dtype == detector.classes_.dtype
        twin.partial_fit(X[:9], y[:9])
    detector.partial_fit(X[:9], y[:9])
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert not hasattr(clone(detector), "classes_")


def test_labels_that_no_file_can_hold_are_refused(tmp_path):
    X, places = labelled()
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[D]")
    detector = Mahalanobis(**QUICK).fit(X, days[places])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(detector)).classes_, days)
    with pytest.raises(TypeError, match=r"type datetime64\[D\] cannot be saved"):
        detector.save(tmp_path / "detector")


BAD_CLASSES = {
    "classes of type datetime64": {"type": "<M8[D]", "values": [0, 1, 2]},
    "size mismatch for counts": {"type": "<i8", "values": [0, 1]},
    "does not describe a Mahalanobis: classes_ cannot be read": {"type": "<i8"},
}


@pytest.mark.parametrize("message", BAD_CLASSES)
def test_files_whose_classes_do_not_fit_are_refused(message, tmp_path):
    X, places = labelled()
    Mahalanobis(**QUICK).fit(X, places).save(tmp_path / "detector")
    bad = {"classes_": BAD_CLASSES[message]}
    rewrite(tmp_path / "detector", lambda document: document["state"].update(bad))
    with pytest.raises(ValueError, match=message):
        Mahalanobis.load(tmp_path / "detector")
