"""Telemetry and bearings: the authors' files and packed ones, what is read and what is refused."""

import numpy as np
import pytest
from scipy.io import savemat

from skgenad.datasets import load_cwru, load_telemetry

RNG = np.random.default_rng(0)
PARTS = {"P-2": (6, 9), "A-1": (4, 5), "M-6": (7, 3)}
WIDTHS = {"P-2": 3, "A-1": 3, "M-6": 2}
TRAIN = {name: RNG.random((n, WIDTHS[name]), np.float32) for name, (n, _) in PARTS.items()}
TEST = {name: RNG.random((n, WIDTHS[name]), np.float32) for name, (_, n) in PARTS.items()}
LABELS = {"P-2": [0, 1, 1, 0, 0, 1, 0, 0, 1], "A-1": [0] * 5, "M-6": [1, 1, 1]}
LINES = """chan_id,spacecraft,anomaly_sequences,class,num_values
P-2,SMAP,"[[1, 2], [8, 8]]","[contextual, point]",9
M-6,MSL,"[[0, 2]]",[point],3
P-2,SMAP,"[[5, 5]]",[point],9
A-1,SMAP,[],[],5
"""


@pytest.fixture
def folder(tmp_path):
    """The authors' folders; the file of labels lies beside them."""
    home = tmp_path / "data"
    for part, arrays in (("train", TRAIN), ("test", TEST)):
        (home / part).mkdir(parents=True)
        for name, array in arrays.items():
            np.save(home / part / f"{name}.npy", array)
    (home / "labeled_anomalies.csv").write_text(LINES)
    return home


def pack(path, names, parts=("train", "test", "label")):
    arrays = {"train": TRAIN, "test": TEST, "label": LABELS}
    np.savez(path, **{f"{n}/{part}": arrays[part][n] for n in names for part in parts})


@pytest.mark.parametrize("form", ["folders", "labels above", "packed"])
@pytest.mark.parametrize(("spacecraft", "names"), [("SMAP", ["P-2", "A-1"]), ("MSL", ["M-6"])])
def test_channels_have_their_parts_and_the_steps_of_all_their_intervals(
    folder, spacecraft, names, form
):
    if form == "labels above":
        path = folder / "labeled_anomalies.csv"
        path.rename(folder.parent / path.name)
    if form == "packed":
        folder = folder.parent
        pack(folder / f"nasa_{spacecraft.lower()}.npz", names)
    found = load_telemetry(folder, spacecraft)
    assert found.names == names and f"{len(names)} channels of {spacecraft}" in found.DESCR
    for k, name in enumerate(names):
        np.testing.assert_array_equal(found.normal[k], TRAIN[name])
        np.testing.assert_array_equal(found.series[k], TEST[name])
        assert found.normal[k].dtype == found.series[k].dtype == np.float64
        assert found.targets[k].tolist() == LABELS[name] and found.targets[k].dtype == np.int64


def test_what_is_no_telemetry_is_refused(folder):
    with pytest.raises(ValueError, match="spacecraft must be 'SMAP' or 'MSL', got 'Voyager'"):
        load_telemetry(folder, "Voyager")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        load_telemetry(folder / "nowhere", "MSL")
    with pytest.raises(FileNotFoundError, match=r"neither labeled_anomalies.csv .* nasa_msl\.npz"):
        load_telemetry(folder / "train", "MSL")
    pack(folder.parent / "nasa_msl.npz", ["M-6"], parts=("train", "test"))
    with pytest.raises(ValueError, match=r"nasa_msl\.npz has no array M-6/label"):
        load_telemetry(folder.parent, "MSL")
    np.savez(folder.parent / "nasa_msl.npz", rows=TRAIN["M-6"])
    with pytest.raises(ValueError, match=r"nasa_msl\.npz has no array P-1/train"):
        load_telemetry(folder.parent, "MSL")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('M-6,MSL,"[[1, 3]]",[point],3', r"M-6 has the interval \[1, 3\], .* of 3 time steps"),
        ('M-6,MSL,"[[2, 1]]",[point],3', r"M-6 has the interval \[2, 1\]"),
        ("P-2,SMAP,[],[],9", "has no line of MSL"),
    ],
)
def test_labels_that_do_not_fit_are_refused(folder, line, message):
    header = LINES.splitlines()[0]
    (folder / "labeled_anomalies.csv").write_text(f"{header}\n{line}\n")
    with pytest.raises(ValueError, match=message):
        load_telemetry(folder, "MSL")


def test_parts_that_do_not_fit_together_or_are_no_arrays_are_refused(folder):
    np.save(folder / "test/M-6.npy", TEST["P-2"][:3])
    with pytest.raises(ValueError, match=r"channel M-6 has parts of shapes \(7, 2\), \(3, 3\)"):
        load_telemetry(folder, "MSL")
    for content in (b"", b"no array"):
        (folder / "test/M-6.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"M-6\.npy is no array of numbers"):
            load_telemetry(folder, "MSL")


# ---- bearings ------------------------------------------------------------------------------------

SIGNALS = {name: RNG.standard_normal(n) for name, n in (("97", 5), ("109", 4), ("3001", 3))}


@pytest.fixture
def bearings(tmp_path):
    """Files of three recordings; one has another's signal as well, one a name of its own."""
    for number, signal in SIGNALS.items():
        own = "X056" if number == "3001" else f"X{number:0>3}"
        arrays = {f"{own}_DE_time": signal[:, None], f"{own}_FE_time": signal[:, None] + 9}
        if number == "109":
            arrays = {"X108_DE_time": np.zeros((4, 1)), **arrays}
        savemat(tmp_path / f"{number}.mat", arrays)
    savemat(tmp_path / "thyroid.mat", {"X": np.zeros(3)})
    return tmp_path


def test_recordings_of_bearings_are_the_driven_ends_in_the_order_of_numbers(bearings):
    found = load_cwru(bearings)
    assert found.names == list(SIGNALS) and found.targets.tolist() == [0, 1, 1]
    for series, signal in zip(found.series, SIGNALS.values(), strict=True):
        np.testing.assert_array_equal(series, signal[:, None])


def test_packed_recordings_have_the_names_of_their_faults(bearings):
    signals = {"IR007": SIGNALS["109"], "normal": SIGNALS["97"]}
    np.savez(bearings / "cwru_48k_0hp.npz", **signals)
    found = load_cwru(bearings)
    assert found.names == ["IR007", "normal"] and found.targets.tolist() == [1, 0]
    np.testing.assert_array_equal(found.series[1], signals["normal"][:, None])


def test_what_holds_no_bearings_is_refused(bearings):
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        load_cwru(bearings / "97.mat")
    (bearings / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no files such as 97\.mat"):
        load_cwru(bearings / "empty")
    savemat(bearings / "120.mat", {"X1_DE_time": np.zeros(3), "X2_DE_time": np.zeros(3)})
    with pytest.raises(ValueError, match=r"120\.mat has the signals X1_DE_time, X2_DE_time"):
        load_cwru(bearings)
    savemat(bearings / "120.mat", {"X": np.zeros(3)})
    with pytest.raises(ValueError, match=r"120\.mat has the signals none of the driven end"):
        load_cwru(bearings)
    whole = (bearings / "97.mat").read_bytes()
    for content in (b"", b"no file of Matlab's" * 20, whole[:60], whole[:200], whole[:-9]):
        (bearings / "120.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"120\.mat (cannot be read as|has the signals none)"):
            load_cwru(bearings)
