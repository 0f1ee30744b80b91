"""Data sets and results that are damaged, or made to do harm."""

import io
import os
import resource
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skgenad.benchmark import ResultsFile, ResultsFileError
from skgenad.datasets import list_folder, load_npz
from skgenad.datasets._npz import has_split

COLUMNS = {"method": str, "auroc": float}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def refused(path, match=None):
    started, memory = time.perf_counter(), peak()
    with pytest.raises(ValueError, match=match):
        load_npz(path)
    assert has_split(path) in (None, False, True)
    assert time.perf_counter() - started < 5 and peak() - memory < 200


def npy(shape, dtype="<f8", data=b"", version=(1, 0)):
    """Return an array's file that says what it wants of itself."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    n = 2 if version == (1, 0) else 4
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(n, "little") + header + data


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


Y = npy((2,), "<i8", np.array([0, 1]).tobytes())


@pytest.mark.parametrize(
    "X",
    [
        *(npy((10**12, 1)), npy((2**31, 2**31)), npy((2**40,)), npy((-1, 2)), npy((2, 10**30))),
        *(npy((2, 1), "|O", b"\x80\x04."), npy((2, 1), "<U1000000000"), npy((2, 1), "nonsense")),
        *(npy((2, 1), "<f8", b"", (9, 9)), npy((2, 1), "<f8", b"", (3, 0)), b"\x93NUMPY", b""),
        *(
            b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 60000,
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
            b"text",
        ),
    ],
    ids=range(15),
)
def test_arrays_that_promise_too_much_are_refused(X, tmp_path):
    refused(archive(tmp_path / "set.npz", X=X, y=Y), r"set\.npz' is not a data set")


def test_what_is_packed_closer_than_any_data_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("X.npy", "w", force_zip64=True) as stream:
            stream.write(npy((10**9 // 2, 1)))
            for _ in range(300):
                stream.write(bytes(2**20))
        file.writestr("y.npy", Y)
    refused(path, "promises|would become")


def test_tables_of_zeros_are_data(tmp_path):
    X = np.zeros((20_000, 20))
    X[::50, 3] = 1
    np.savez_compressed(tmp_path / "set.npz", X=X, y=np.arange(20_000) % 2)
    np.testing.assert_array_equal(load_npz(tmp_path / "set.npz").data, X)


def test_any_damage_is_an_error_that_names_the_file_or_does_no_harm(tmp_path):
    path, content = tmp_path / "set.npz", io.BytesIO()
    X, y = np.random.RandomState(0).rand(6, 2), np.array([0, 1, 0, 0, 0, 1])
    np.savez_compressed(content, X=X, y=y)
    raw = content.getvalue()
    for n in range(len(raw)):
        path.write_bytes(raw[:n])
        refused(path, r"set\.npz' is not a data set")
    rng = np.random.RandomState(0)
    for place in rng.randint(8 * len(raw), size=500):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            bunch = load_npz(path)
        except ValueError as error:
            assert "set.npz" in str(error)
        else:  # a bit that nobody reads, such as a time
            np.testing.assert_array_equal(bunch.data, X)
        has_split(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes")
def test_pipes_and_folders_are_no_data(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    refused(tmp_path / "pipe.npz", "a named pipe")
    refused(tmp_path, "a folder")
    refused(Path("/dev/zero"), "a device")
    assert list_folder(tmp_path) == ["pipe"]
    os.mkfifo(tmp_path / "rows.csv")
    file = ResultsFile(tmp_path / "rows.csv", key=("method",), columns=COLUMNS)
    with pytest.raises(ResultsFileError, match="a named pipe"):
        file.read()


def test_results_that_are_no_rows_are_named(tmp_path):
    path = tmp_path / "rows.csv"
    file = ResultsFile(path, key=("method",), columns=COLUMNS)
    lines = ("AE", 'AE,"', "AE,0.5,1", "\xff,1", "AE,x", f"{'x' * 200_000},1", "AE,1\nAE,1")
    for line in lines:
        path.write_bytes(b"method,auroc\n" + line.encode("latin-1") + b"\n")
        with pytest.raises(ResultsFileError, match=r"rows\.csv:[23]: "):
            file.read()
    path.write_bytes(b"method,auroc\nAE,1\n")
    for note in (b"x\n", b"-5\n", b"9" * 5000 + b"\n", b"\n", b"1.5\n"):
        path.with_name("rows.csv.begun").write_bytes(note)
        with pytest.raises(ResultsFileError, match="holds no size"):
            file.read()


def test_any_message_is_a_row(tmp_path):
    file = ResultsFile(tmp_path / "rows.csv", key=("method",), columns=COLUMNS)
    messages = ["\ud800", "a\0b", "c\r\nd", 'a"b,c', "ü \u2028 x", os.fsdecode(b"\xff\xfe")]
    with file:
        for message in messages:
            file.append({"method": message + "!", "auroc": 0.5})
    assert len(file.read()) == len(messages)
