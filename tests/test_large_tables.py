"""Fits read of a large table what they use, and copy nothing of it."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import Autoencoder, Committee, CrossCalibrated, Mahalanobis, Neighbors
from skgenad._core import large_tables
from skgenad._core.large_tables import SomeRows
from skgenad._tensors import chunks

from ._settings import DETECTORS, having, normal_rows, over_variants, takes, tiny

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for its peak")
# Detectors of images, and one of whose passes takes more than the table of the test.
OF_LARGE_PASSES = ("PWAE", "PixelCNN", "NormalizingFlow")
some_held_out = {"calibration_fraction": 0.05}


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(large_tables, "MOST_NUMBERS", 20)
    monkeypatch.setattr(large_tables, "OF_PIECE", 64)
    monkeypatch.setattr(chunks, "MOST_MADE", 20)


def rows_of(name, n=60):
    """Rows for a detector, with a sentinel, and its `image_shape` if it takes images alone."""
    if name == "PWAE" or name == "PixelCNN":
        return np.random.RandomState(0).rand(n, 64), {"image_shape": (1, 8, 8)}
    X = normal_rows(n)
    X[3, 0] = -9999
    return X, {}


def states(name, parameters, X):
    detector = tiny(name, **parameters).fit(X)
    fitted = [detector.score_samples(X), detector.offset_]
    detector.partial_fit(X[:25])
    return [*fitted, detector.score_samples(X), detector.offset_]


@pytest.mark.filterwarnings("ignore::skgenad.DataWarning", "ignore:contamination")
@over_variants(slowly=True)
def test_rows_that_are_read_make_the_same_detector(name, extra, request):
    X, shape = rows_of(name)
    parameters = {**extra, **shape, **some_held_out}
    whole = states(name, parameters, X)
    request.getfixturevalue("everything_is_large")
    for ours, theirs in zip(states(name, parameters, X), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def committee_of(kind):
    """A committee of the default members, or of what is fitted in folds and in other ways."""
    if kind == "default":
        return Committee(random_state=0)
    if kind == "cross-calibrated":
        return CrossCalibrated(Mahalanobis(device="cpu"), cv=3, random_state=0)
    members = [("ae", tiny(Autoencoder)), ("distance", Mahalanobis(device="cpu"))]
    inner = Committee([("near", Neighbors(device="cpu"))])
    others = [("forest", IsolationForest(n_estimators=3)), ("inner", inner)]
    piped = ("piped", make_pipeline(StandardScaler(), Mahalanobis(device="cpu")))
    return Committee([*members, *others, piped], random_state=0, contamination=0)


@pytest.mark.filterwarnings("ignore::skgenad.DataWarning", "ignore:contamination")
@pytest.mark.parametrize("kind", ["default", "of all kinds", "cross-calibrated"])
@pytest.mark.parametrize("named", [False, True])
def test_members_of_a_committee_read_them_too(kind, named, request):
    X, _ = rows_of("Committee")
    if named:
        X = pd.DataFrame(X, columns=list("abcd"))
    whole = committee_of(kind).fit(X)
    request.getfixturevalue("everything_is_large")
    read = committee_of(kind).fit(X)
    np.testing.assert_allclose(read.score_samples(X), whole.score_samples(X), rtol=1e-4)
    assert read.offset_ == pytest.approx(whole.offset_)


def test_rows_that_are_read_are_sent_to_other_processes():
    rows = SomeRows(np.arange(60.0).reshape(20, 3)).at(np.array([2, 5])).clipped({1: (7, 9)})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)), rows)


@pytest.mark.filterwarnings("ignore::skgenad.DataWarning")
def test_labels_stay_beside_their_rows(everything_is_large):
    X, y = normal_rows(90), np.arange(90) % 3
    for detector in having("use_labels"):
        read = tiny(detector, use_labels=True).fit(X, y).score_samples(X)
        large_tables.MOST_NUMBERS = 10**6  # the fixture puts it back
        whole = tiny(detector, use_labels=True).fit(X, y).score_samples(X)
        large_tables.MOST_NUMBERS = 20
        np.testing.assert_allclose(read, whole, rtol=1e-4)


# ---- memory -------------------------------------------------------------------------------------


def table_in_a_file(path, kind="float32", shape=(60_000, 128), order="C"):
    """Map a table of 31 MB in float32 to memory, for reading."""
    X = np.lib.format.open_memmap(path, "w+", kind, shape, fortran_order=order == "F")
    one = 10 * np.random.RandomState(0).randn(2000, shape[1])
    for start in range(0, shape[0], len(one)):
        X[start : start + len(one)] = one + start % 7
    X.flush()
    return np.load(path, mmap_mode="r")


def megabytes_added_by(call):
    """Count what a call adds to the memory of the process at its peak."""

    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))

    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins here
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(large_tables, "MOST_NUMBERS", 2**19)
    monkeypatch.setattr(large_tables, "OF_PIECE", 2**17)
    monkeypatch.setattr(large_tables, "_AT_ONCE", 2**21)
    monkeypatch.setattr(chunks, "MOST_MADE", 2**19)


@on_linux
@pytest.mark.filterwarnings("ignore:Ill-conditioned")
@pytest.mark.parametrize("detector", [d for d in DETECTORS if d.__name__ not in OF_LARGE_PASSES])
def test_a_fit_holds_a_part_of_a_table_in_a_file(detector, small_pieces, tmp_path):
    X = table_in_a_file(tmp_path / "X.npy")
    parameters: dict = {"calibration_fraction": 0.02}
    if takes(detector, "validation_fraction"):  # whose rows are passed on together
        parameters["validation_fraction"] = 0.01
    tiny(detector, **parameters).fit(X[:9000])  # what is loaded once
    model = tiny(detector, **parameters)
    of_batches = megabytes_added_by(lambda: model.fit(X[:9000]).score_samples(X[:9000]))
    assert megabytes_added_by(lambda: model.fit(X)) < of_batches + 25
    assert megabytes_added_by(lambda: model.partial_fit(X)) < of_batches + 25


@on_linux
def test_a_committee_holds_what_its_members_hold(small_pieces, tmp_path):
    X = table_in_a_file(tmp_path / "X.npy")
    members = [("ae", tiny(Autoencoder)), ("distance", Mahalanobis(device="cpu"))]
    model = Committee(members, calibration_fraction=0.02)
    of_batches = megabytes_added_by(lambda: model.fit(X[:9000]).score_samples(X[:9000]))
    assert megabytes_added_by(lambda: model.fit(X)) < of_batches + 25


@on_linux
@pytest.mark.parametrize(
    "given", ["int16", "float16", "bool", ">f4", "F", "frame", "copy on write"]
)
def test_so_it_does_whatever_the_table_is(given, small_pieces, tmp_path):
    kind = given if given in ("int16", "float16", "bool", ">f4") else "float32"
    X = table_in_a_file(tmp_path / "X.npy", kind, order="F" if given == "F" else "C")
    if given == "frame":
        X = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])], copy=False)
    if given == "copy on write":
        X = np.load(tmp_path / "X.npy", mmap_mode="c")
        X[0, 0] = 77
    Mahalanobis(device="cpu").fit(X[:300])
    model = Mahalanobis(device="cpu", random_state=0)
    # With the sample for explanations; pages of "copy on write" cannot be given back.
    limit = 32 if given != "copy on write" else 68
    assert megabytes_added_by(lambda: model.fit(X)) < limit
    few = X[:2000]
    whole = Mahalanobis(device="cpu", random_state=0).fit(X.astype(np.float64))
    np.testing.assert_allclose(model.score_samples(few), whole.score_samples(few), rtol=1e-3)
    if given == "copy on write":
        assert X[0, 0] == 77


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_found_in_any_piece(value, everything_is_large):
    X = normal_rows()
    X[41, 2] = value
    for table in (X, np.asfortranarray(X), pd.DataFrame(X, columns=list("abcd"))):
        with pytest.raises(ValueError, match="NaN|infinity"):
            Mahalanobis().fit(table)


def test_rows_of_one_table_and_of_another_are_counted_and_named(everything_is_large):
    X = pd.DataFrame(normal_rows(), columns=list("abcd"))
    detector = Mahalanobis(device="cpu").fit(X)
    assert detector.n_features_in_ == 4 and list(detector.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        detector.partial_fit(X[list("abdc")])
    with pytest.raises(ValueError, match="minimum of 2"):
        Mahalanobis().fit(np.ones((1, 50)))


def test_callbacks_see_all_rows(everything_is_large):
    from skorch.callbacks import Callback

    seen = []

    class Sees(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            seen.append(X)

    tiny(Autoencoder, callbacks=[Sees()]).fit(normal_rows())
    assert seen[0].shape == (60, 4) and seen[0].isfinite().all()


def test_rows_at_places_among_rows():
    table = np.arange(60.0).reshape(20, 3)
    rows = SomeRows(table).at(np.arange(1, 20, 2)).clipped({1: (7, 40)}).at(np.array([0, 9, 3]))
    expected = table[[1, 19, 7]]
    expected[:, 1] = expected[:, 1].clip(7, 40)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(rows[:, 1], expected[:, 1])
    np.testing.assert_array_equal(rows[1:], expected[1:])
    assert table[1, 1] == 4  # as it was
