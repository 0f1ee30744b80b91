"""The tables of the papers, from small stand-ins for their files."""

import gzip
import hashlib
import io
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy.io import savemat

from skgenad.datasets import (
    _kddcup99,
    _papers,
    fetch_abalone,
    fetch_arrhythmia,
    fetch_kddcup99_dagmm,
    fetch_thyroid,
)


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


# ---- contents of the files ---------------------------------------------------

ABALONE_NAMES = b"Sex,Length,Diameter,Height,Whole,Shucked,Viscera,Shell,Rings\n"
ABALONE = b"".join(
    b"%s,0.5,0.25,0.125,%d.5,2.0,3.0,4.0,%d\n" % (sex, i, rings)
    for i, (sex, rings) in enumerate(
        [(b"M", 8), (b"F", 21), (b"I", 3), (b"I", 10), (b"M", 7), (b"F", 9), (b"M", 31), (b"F", 1)]
    )
)
ABALONE_KEPT, ABALONE_Y = [0, 1, 2, 3, 5], [0, 1, 1, 0, 0]

X_MAT, Y_MAT = np.arange(12.0).reshape(6, 2) - 3, np.array([0, 1, 0, 0, 1, 0])


def mat(y_type):
    buffer = io.BytesIO()
    savemat(buffer, {"X": X_MAT, "y": Y_MAT[:, None].astype(y_type)}, do_compression=True)
    return buffer.getvalue()


KDD_ROWS = [  # protocol, service, flag, label, then what differs among the numbers
    ("tcp", "http", "SF", "normal.", {"duration": 9, "su_attempted": 2, "count": 1}),
    ("icmp", "ecr_i", "SF", "smurf.", {"duration": 1, "count": 5, "serror_rate": 0.25}),
    ("udp", "IRC", "SH", "neptune.", {"duration": 5, "count": 3, "serror_rate": 0.5}),
    ("tcp", "whois", "OTH", "normal.", {"duration": 3, "count": 0, "serror_rate": 1.0}),
]


def kdd_line(protocol, service, flag, label, numbers):
    text = {"protocol_type": protocol, "service": service, "flag": flag, "label": label}
    return ",".join(str({**text, **numbers}.get(name, 0)) for name in _kddcup99._COLUMNS)


KDD = gzip.compress("".join(kdd_line(*row) + "\n" for row in KDD_ROWS).encode(), mtime=0)

TABLES = {
    fetch_abalone: (_papers, "_ABALONE", ABALONE),
    fetch_arrhythmia: (_papers, "_ARRHYTHMIA", mat("uint8")),
    fetch_thyroid: (_papers, "_THYROID", mat("float64")),
    fetch_kddcup99_dagmm: (_kddcup99, "_RAW", KDD),
}
tables = pytest.mark.parametrize("fetch", TABLES, ids=lambda fetch: fetch.__name__)


@pytest.fixture
def file(fetch, monkeypatch):
    """What `fetch` looks for, with the stand-in's digest in place of the real one."""
    module, name, content = TABLES[fetch]
    changed = replace(getattr(module, name), digest=sha256(content), also_fits=())
    monkeypatch.setattr(module, name, changed)
    return changed


def place(home, path, content):
    (home / path).parent.mkdir(parents=True, exist_ok=True)
    (home / path).write_bytes(content)
    return home / path


# ---- where files come from ---------------------------------------------------


@tables
def test_table_is_read_from_each_place_in_the_data_home(fetch, file, tmp_path, monkeypatch):
    content = TABLES[fetch][2]
    for i, path in enumerate((file.path, *file.also_at)):
        there = place(tmp_path / str(i), path, content)
        bunch = fetch(data_home=tmp_path / str(i), download_if_missing=False)
        assert bunch.filename == str(there)
    monkeypatch.setenv("SKGENAD_DATA", str(tmp_path / "0"))
    X, y = fetch(return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
    assert (X.dtype, y.dtype) == (np.float64, np.int64)
    assert bunch.url == file.url()
    assert f"{len(y)} rows, {X.shape[1]} features, {y.sum()} anomalies" in bunch.DESCR
    assert bunch.url in bunch.DESCR
    assert fetch.__name__ == f"fetch_{bunch.name}"


@tables
def test_table_is_downloaded_once(fetch, file, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place(tmp_path / "mirror", file.remote_path.partition("?")[0], TABLES[fetch][2])
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "mirror"))

        def log_message(self, *args):
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        mirror = f"http://127.0.0.1:{http.server_port}"
        bunch = fetch(data_home=tmp_path / "home", base_url=mirror)
        again = fetch(data_home=tmp_path / "home", base_url=mirror)
        http.shutdown()
        thread.join()
    assert asked == [f"/{file.remote_path}"]
    assert bunch.filename == again.filename == str(tmp_path / "home" / file.path)
    np.testing.assert_array_equal(bunch.data, again.data)


@tables
def test_table_of_other_content_is_refused(fetch, file, tmp_path):
    place(tmp_path, file.also_at[-1], TABLES[fetch][2] + b"!")
    with pytest.raises(OSError, match="does not hold what it should"):
        fetch(data_home=tmp_path)


@tables
def test_missing_table_is_not_downloaded_against_the_users_will(fetch, tmp_path):
    with pytest.raises(FileNotFoundError, match="download_if_missing is False.*data_home="):
        fetch(data_home=tmp_path, download_if_missing=False)


@pytest.mark.parametrize(
    ("file", "url", "digest"),
    [
        (
            _papers._ABALONE,
            "https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/abalone.data",
            "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f",
        ),
        (
            _papers._ARRHYTHMIA,
            "https://www.dropbox.com/s/lmlwuspn1sey48r/arrhythmia.mat?dl=1",
            "e4d47e499591ae31e5d7f0cd983367092353eac240f48e14c9b36457edb3460d",
        ),
        (
            _papers._THYROID,
            "https://www.dropbox.com/s/bih0e15a0fukftb/thyroid.mat?dl=1",
            "49155d7861b977e90808faf68343ff67a67f63090c2744d514dbb67ac68e7e33",
        ),
    ],
)
def test_addresses_and_digests_are_the_published_ones(file, url, digest):
    assert file.url() == url
    assert file.digest == f"sha256:{digest}"


def test_kddcup99_is_the_copy_that_scikit_learn_downloads():
    from sklearn.datasets._kddcup99 import ARCHIVE_10_PERCENT as theirs

    assert _kddcup99._RAW.url() == theirs.url
    assert _kddcup99._RAW.digest == f"sha256:{theirs.checksum}"


# ---- what is in them ---------------------------------------------------------


@pytest.fixture
def abalone(tmp_path, monkeypatch):
    content = ABALONE_NAMES + ABALONE
    digests = {"digest": sha256(ABALONE), "also_fits": (sha256(content),)}
    monkeypatch.setattr(_papers, "_ABALONE", replace(_papers._ABALONE, **digests))
    place(tmp_path, "abalone.data", content)
    return tmp_path


def test_abalone_has_the_rings_of_the_papers_with_or_without_a_row_of_names(abalone):
    bunch = fetch_abalone(data_home=abalone)
    assert bunch.rings.tolist() == [8, 21, 3, 10, 9]
    assert bunch.target.tolist() == ABALONE_Y
    weight = bunch.data[:, bunch.feature_names.index("whole_weight")]
    assert weight.tolist() == [i + 0.5 for i in ABALONE_KEPT]
    place(abalone, "abalone.data", ABALONE)
    np.testing.assert_array_equal(fetch_abalone(data_home=abalone).data, bunch.data)


def test_sex_of_abalone_is_a_code_columns_or_left_out(abalone):
    rest = ["length", "diameter", "height", "whole_weight", "shucked_weight", "viscera_weight"]
    rest = [*rest, "shell_weight"]
    code, onehot, drop = (
        fetch_abalone(sex=sex, data_home=abalone) for sex in ("code", "onehot", "drop")
    )
    assert code.feature_names == ["sex", *rest]
    assert onehot.feature_names == ["sex_M", "sex_F", "sex_I", *rest]
    assert drop.feature_names == rest
    assert code.data[:, 0].tolist() == [0, 1, 2, 2, 1]
    np.testing.assert_array_equal(onehot.data[:, :3], np.eye(3)[[0, 1, 2, 2, 1]])
    for bunch in (code, onehot):
        np.testing.assert_array_equal(bunch.data[:, -7:], drop.data)
    np.testing.assert_array_equal(drop.data[0], [0.5, 0.25, 0.125, 0.5, 2, 3, 4])


def test_other_treatment_of_sex_is_an_error_before_any_download(tmp_path):
    with pytest.raises(ValueError, match="'code', 'onehot' or 'drop', got 'ordinal'"):
        fetch_abalone(sex="ordinal", data_home=tmp_path)


@pytest.mark.parametrize("fetch", [fetch_arrhythmia, fetch_thyroid])
def test_tables_of_odds_are_the_arrays_of_their_files(fetch, file, tmp_path):
    place(tmp_path, file.path, TABLES[fetch][2])
    X, y = fetch(data_home=tmp_path, return_X_y=True)
    np.testing.assert_array_equal(X, X_MAT)
    np.testing.assert_array_equal(y, Y_MAT)
    assert X.flags.c_contiguous


@pytest.fixture
def kdd(tmp_path, monkeypatch):
    monkeypatch.setattr(_kddcup99, "_RAW", replace(_kddcup99._RAW, digest=sha256(KDD)))
    place(tmp_path, "kddcup.data_10_percent.gz", KDD)
    return tmp_path


def test_kddcup99_is_encoded_and_normal_connections_are_the_anomalies(kdd):
    bunch = fetch_kddcup99_dagmm(data_home=kdd)
    assert bunch.data.shape == (4, len(bunch.feature_names)) == (4, 118)
    assert bunch.target.tolist() == [1, 0, 0, 1]
    assert bunch.data[:, :80].sum(axis=1).tolist() == [3] * 4  # one of each text column
    for row, (protocol, service, flag, _, _) in zip(bunch.data, KDD_ROWS, strict=True):
        names = {f"protocol_type_{protocol}", f"service_{service}", f"flag_{flag}"}
        assert {bunch.feature_names[i] for i in np.flatnonzero(row[:80])} == names


def test_numbers_of_kddcup99_are_scaled_by_the_attacks(kdd):
    bunch = fetch_kddcup99_dagmm(data_home=kdd)

    def column(name):
        return bunch.data[:, bunch.feature_names.index(name)].tolist()

    assert column("duration") == [2, 0, 1, 0.5]  # attacks have 1 and 5
    assert column("count") == [-1, 1, 0, -1.5]
    assert column("serror_rate") == [-1, 0, 1, 3]
    assert column("su_attempted") == [2, 0, 0, 0]  # the attacks' column is constant
    assert column("src_bytes") == [0, 0, 0, 0]


def test_columns_of_kddcup99_are_those_of_the_file():
    categories = _kddcup99._CATEGORIES
    assert [len(values) for values in categories.values()] == [3, 66, 11]
    assert all(values == sorted(set(values)) for values in categories.values())
    assert len(_kddcup99._COLUMNS) == len(set(_kddcup99._COLUMNS)) == 42
    assert len(_kddcup99._FEATURES) == len(set(_kddcup99._FEATURES)) == 118


def test_encoded_kddcup99_is_used_first_and_means_the_same(kdd, monkeypatch):
    expected = fetch_kddcup99_dagmm(data_home=kdd)
    buffer = io.BytesIO()
    np.savez(buffer, kdd=np.column_stack([expected.data, expected.target]))
    digest = sha256(buffer.getvalue())
    monkeypatch.setattr(_kddcup99, "_ENCODED", replace(_kddcup99._ENCODED, digest=digest))
    there = place(kdd, "kddcup99_dagmm.npz", buffer.getvalue())
    bunch = fetch_kddcup99_dagmm(data_home=kdd)
    assert bunch.filename == str(there)
    np.testing.assert_array_equal(bunch.data, expected.data)
    np.testing.assert_array_equal(bunch.target, expected.target)
    assert bunch.feature_names == expected.feature_names
    there.write_bytes(b"mine")
    with pytest.raises(OSError, match="does not hold what it should"):
        fetch_kddcup99_dagmm(data_home=kdd)
