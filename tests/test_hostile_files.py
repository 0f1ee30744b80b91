"""Files that are damaged, or made to do harm: refused in words, in no time and little memory."""

import copy
import json
import math
import os
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import skgenad
from skgenad import LikelihoodRatio, Mahalanobis
from skgenad._core.files import MOST_BYTES, MOST_PARTS
from skgenad.compat import DiscriminativeRatio, ScoreDetector

from ._files import read_metadata, rewrite, write_text
from ._settings import DETECTORS, normal_rows, tiny

# What a refusal may take. The machine that runs the tests may be busy, hence the seconds.
MOST_SECONDS, MOST_MEGABYTES = 5.0, 200


def forest_pipeline():
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import IsolationForest
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, RobustScaler

    bins = KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    columns = [("scale", RobustScaler(), [0, 1]), ("bins", bins, slice(2, 4))]
    codes = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    steps = ColumnTransformer([*columns, ("codes", codes, [3])])
    return make_pipeline(steps, IsolationForest(n_estimators=3, random_state=0))


def others_committee():
    """Make a committee of estimators of others of many kinds."""
    from sklearn.covariance import EllipticEnvelope
    from sklearn.decomposition import PCA
    from sklearn.impute import KNNImputer
    from sklearn.mixture import GaussianMixture
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import PolynomialFeatures, QuantileTransformer, SplineTransformer
    from sklearn.svm import OneClassSVM

    quantiles = QuantileTransformer(n_quantiles=9)
    union = make_union(SplineTransformer(4), PolynomialFeatures(2), KNNImputer(n_neighbors=2))
    members = [
        ("mixture", ScoreDetector(make_pipeline(quantiles, PCA(2), GaussianMixture(2)))),
        ("outliers", make_pipeline(union, LocalOutlierFactor(novelty=True))),
        ("ellipse", EllipticEnvelope()),
        ("machine", OneClassSVM()),
    ]
    return skgenad.Committee(members, random_state=0)


MAKERS = {detector.__name__: lambda d=detector: tiny(d) for detector in DETECTORS} | {
    "Committee": lambda: tiny("Committee"),
    "LikelihoodRatio": lambda: LikelihoodRatio(random_state=0),
    "DiscriminativeRatio": lambda: tiny(DiscriminativeRatio),
    "ScoreDetector": lambda: ScoreDetector(skgenad.Mahalanobis(), random_state=0),
    "pipeline": forest_pipeline,
    "others": others_committee,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a file of each kind."""
    place = tmp_path_factory.mktemp("files")
    for name, make in MAKERS.items():
        skgenad.save(make().fit(normal_rows()), place / name)
    return place


class Limited:
    """Lets a block fail with ValueError alone, within a second and 200 MB."""

    def __enter__(self):
        self.started, self.memory = time.perf_counter(), peak()
        return self

    def __exit__(self, kind, error, trace):
        assert time.perf_counter() - self.started < MOST_SECONDS
        assert peak() - self.memory < MOST_MEGABYTES
        if kind is not None and issubclass(kind, Exception) and kind is not AssertionError:
            assert issubclass(kind, ValueError), f"{kind.__name__}: {error}"
            assert len(str(error)) < 3000
        return False


def peak():
    """Return the most megabytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def refused(path, match=None):
    with pytest.raises(ValueError, match=match), Limited():
        skgenad.load(path)


def refused_or_sound(path):
    """Load a file that has been changed: it is refused, or what it holds scores."""
    try:
        with Limited():
            loaded = skgenad.load(path, device="cpu")
    except ValueError:
        return False
    assert np.isfinite(loaded.decision_function(normal_rows(5))).all()
    return True


# ---- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_any_changed_bit_is_noticed(name, folder, tmp_path):
    raw = (folder / name).read_bytes()
    n_header = 8 + int.from_bytes(raw[:8], "little")
    rng = np.random.RandomState(0)
    places = np.r_[rng.randint(64, size=4), rng.randint(8 * n_header, size=6)]
    places = np.r_[places, rng.randint(8 * len(raw), size=6)]
    for place in places:
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / "file").write_bytes(changed)
        refused(tmp_path / "file")


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "file"
    Mahalanobis(device="cpu").fit(normal_rows(10, 2)).save(path)
    raw = path.read_bytes()
    for n in range(len(raw)):
        path.write_bytes(raw[:n])
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            skgenad.load(path)
    path.write_bytes(raw + b"\0")
    refused(path, "not a readable safetensors file")


# ---- no file of ours ------------------------------------------------------------------------


def raw_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "a named pipe")
    refused(tmp_path, "a folder")
    refused("/dev/zero", "a device")
    with pytest.raises(FileNotFoundError):
        skgenad.load(tmp_path / "none")
    with pytest.raises(OSError, match="of symbolic links"):
        (tmp_path / "loop").symlink_to("loop")
        skgenad.load(tmp_path / "loop")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_that_may_not_be_read_is_an_error_of_the_system(folder, tmp_path):
    path = tmp_path / "file"
    path.write_bytes((folder / "VAE").read_bytes())
    path.chmod(0)
    with pytest.raises(PermissionError):
        skgenad.load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"a,b\n1,2\n", pickle.dumps([1]), b"\0" * 100, b"\xff" * 100):
        path.write_bytes(content)
        refused(path, "not a readable safetensors file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b" * 1000)
    refused(path, "not a readable safetensors file")
    save_file({"weight": np.zeros(3)}, path, metadata={"format": "pt"})
    refused(path, "not one that a detector's save wrote")


ARRAY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "deep": b"[" * 100_000,
    "deep dicts": b'{"a":' * 100_000,
    "list": [],
    "no text": {"__metadata__": {"skgenad": 3}},
    "no dict": {"__metadata__": [1]},
    "twice": b'{"a": {}, "a": {}}',
    "surrogates": b'{"\\ud800": {"dtype": "F32"}}',
    "not ASCII": '{"é": 1}'.encode(),
    "endless number": b'{"a": ' + b"9" * 5000 + b"}",
    "fp8": {"a": {**ARRAY, "dtype": "F8_E4M3", "data_offsets": [0, 1]}},
    "bf16": {"a": {**ARRAY, "dtype": "BF16", "data_offsets": [0, 2]}},
    "dtype": {"a": {**ARRAY, "dtype": ["F32"]}},
    "no shape": {"a": {"dtype": "F32"}},
    "negative": {"a": {**ARRAY, "shape": [-1]}},
    "infinite": {"a": {**ARRAY, "shape": [math.inf]}},
    "large": {"a": {**ARRAY, "shape": [2**62, 2**62]}},
    "overlap": {"a": ARRAY, "b": ARRAY},
    "gap": {"a": ARRAY, "b": {**ARRAY, "data_offsets": [8, 12]}},
    "beyond": {"a": {**ARRAY, "shape": [1000], "data_offsets": [0, 4000]}},
    "backwards": {"a": {**ARRAY, "data_offsets": [4, 0]}},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_that_lie_are_refused(header, tmp_path):
    path = tmp_path / "file"
    raw_file(path, header, b"\0" * 8)
    refused(path)
    if isinstance(header, dict) and "__metadata__" not in header:
        # The same with a document that lists the arrays as the header has them.
        listed = {n: ["<f4", a.get("shape"), "0" * 64] for n, a in header.items()}
        text = json.dumps({"format": 3, "class": "MPDR", "arrays": listed, "state": {}})
        raw_file(path, {"__metadata__": {"skgenad": text, "sha256": sha(text)}, **header})
        refused(path)


def sha(text):
    from skgenad._core.files import digest_of_text

    return digest_of_text(text)


def test_a_header_is_no_longer_than_its_file_and_a_bound(tmp_path):
    path = tmp_path / "file"
    for length in (0, 93, 2**40, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + b" " * 92)
        refused(path, "its header has")
    with open(path, "wb") as file:  # zeros that take no room on the disk
        file.write(struct.pack("<Q", 2**33))
        file.truncate(2**34)
    refused(path, f"more than {MOST_BYTES} bytes")
    raw_file(path, b"[" + b"{}," * MOST_PARTS + b"{}]")
    refused(path, "brackets, commas and colons")


# ---- files that are written as ours are -----------------------------------------------------


@pytest.fixture
def saved(folder, tmp_path):
    path = tmp_path / "file"
    path.write_bytes((folder / "MPDR").read_bytes())
    return path


@pytest.mark.parametrize(
    "name", ["", "os.system", None, 3, ["MPDR"], "[" * 9999, "sklearn.svm.SVC"]
)
def test_unknown_classes_are_refused(saved, name):
    rewrite(saved, lambda document: document.update({"class": name}))
    refused(saved, "cannot be read: ")


def test_deep_documents_are_refused_wherever_they_are(saved):
    document, arrays = json.loads(read_metadata(saved)["skgenad"]), load_file(saved)
    deep = "[" * 900 + "]" * 900
    for key in ("class", "format", "versions", "state", "arrays"):
        text = json.dumps({**document, key: "DEEP"}).replace('"DEEP"', deep)
        write_text(saved, text, arrays)
        if key != "versions":  # which are for people to read
            refused(saved)


def parameters(document):
    return document["state"]["_fitted_parameters"]


@pytest.mark.parametrize(
    "widths", [[16] * 100_000, [10**9], [10**9, 10**9], [2**62], [16] * 3000, [4096, 4096]]
)
def test_networks_are_no_larger_than_what_the_file_holds(saved, widths):
    rewrite(saved, lambda document: parameters(document).update(network={"tuple": widths}))
    refused(saved, "ask for|Missing key|size mismatch|overflow")


@pytest.mark.parametrize("name", [d.__name__ for d in DETECTORS])
def test_no_parameter_asks_for_more_than_the_file_holds(name, folder, tmp_path):
    """Every whole number among the parameters as a very large one, in turn."""
    path = tmp_path / "file"
    document = json.loads(read_metadata(folder / name)["skgenad"])
    for place in places_of(parameters(document)):
        if type(value_at(parameters(document), place)) is not int:
            continue
        for large in (10**6, 2**63 - 1):
            path.write_bytes((folder / name).read_bytes())
            rewrite(path, lambda d, p=place, v=large: put(parameters(d), p, v))
            refused_or_sound(path)


def test_classes_take_the_room_that_they_need(folder, tmp_path):
    path = tmp_path / "file"
    y = np.repeat(["a", "b"], 30).astype("<U50")
    Mahalanobis(use_labels=True, device="cpu").fit(normal_rows(), y).save(path)
    assert Mahalanobis.load(path).classes_.tolist() == ["a", "b"]
    raw = path.read_bytes()
    for kind in ("<U375000000", "<U99999", "|V1000000000", "(1000000000,)f4", "f4,f4", 3, "M8[s]"):
        path.write_bytes(raw)
        rewrite(path, lambda document, k=kind: document["state"]["classes_"].update(type=k))
        refused_or_sound(path)
    for values in (["a"], ["a", "a"], [1, 2], [None, "a"], [["a"], "b"], "ab", {"a": 1}):
        path.write_bytes(raw)
        rewrite(path, lambda document, v=values: document["state"]["classes_"].update(values=v))
        refused(path)


@pytest.mark.parametrize("device", ["xla", "hpu:3", "tea", "cuda:9999", "meta", "", "\ud800", 3])
def test_unknown_devices_are_refused(saved, device):
    rewrite(saved, lambda document: parameters(document).update(device=device))
    refused(saved, "device")
    assert skgenad.load(saved, device="cpu").device == "cpu" or device == 3


ROW, NAMES = ["main", 1, 1, 0.5, 0.1], ["stage", "epoch", "step", "loss", "seconds"]
HISTORIES = {
    "many columns": ([*ROW, *[0] * 100_000], [*NAMES, *map(str, range(100_000))], [0]),
    "twice": ([*ROW, 1.0], [*NAMES, "loss"], [0]),
    "no names": (ROW, [1, 2, 3, 4, 5], [0]),
    "names of lists": (ROW, [[name] for name in NAMES], [0]),
    "short row": (ROW[:4], NAMES, [0]),
    "no row": ("main", NAMES, [0]),
    "labels": (ROW, NAMES, [0, 1, 2]),
    "no label": (ROW, NAMES, []),
    "no loss": (ROW[:3], NAMES[:3], [0]),
    "stage": ([1, 1, 1, 0.5, 0.1], NAMES, [0]),
    "epoch": (["main", "1", 1, 0.5, 0.1], NAMES, [0]),
    "half an epoch": (["main", 0.5, 1, 0.5, 0.1], NAMES, [0]),
    "large epoch": (["main", 10**30, 1, 0.5, 0.1], NAMES, [0]),
    "loss": (["main", 1, 1, "low", 0.1], NAMES, [0]),
    "dict": (["main", 1, 1, {"a": 1}, 0.1], NAMES, [0]),
    "true": (["main", 1, 1, True, 0.1], NAMES, [0]),
    "NaN": (["main", 1, 1, math.nan, 0.1], NAMES, [0]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_histories_of_a_wrong_kind_are_refused(name, saved):
    row, columns, index = HISTORIES[name]
    text = json.dumps({"columns": columns, "index": index, "data": [row]})
    rewrite(saved, lambda document: document["state"].update(history_=text))
    refused(saved, "a history|the columns")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 900, "1e999", '{"columns": 1}', None])
def test_histories_that_are_no_tables_are_refused(text, saved):
    rewrite(saved, lambda document: document["state"].update(history_=text))
    refused(saved, "history")


# ---- arrays ---------------------------------------------------------------------------------

CHANGES = {
    "nan": lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a - 10**6,
    "one nan": lambda a: _with_first(a, np.nan) if a.dtype.kind == "f" else None,
    "inf": lambda a: np.full_like(a, np.inf) if a.dtype.kind == "f" else None,
    "int": lambda a: a.astype(np.int64) if a.dtype != np.int64 else a.astype(np.int32),
    "half": lambda a: a.astype(np.float16),
    "wide": lambda a: a.astype(np.float64 if a.dtype != np.float64 else np.int8),
    "longer": lambda a: np.concatenate([a, a]) if a.ndim else np.stack([a, a]),
    "empty": lambda a: a[:0] if a.ndim else None,
    "flat": lambda a: a.ravel() if a.ndim != 1 else a[None],
    "large": lambda a: np.full_like(a, 10**9) if a.dtype.kind in "iu" else None,
}


def _with_first(array, value):
    changed = array.copy()
    changed.ravel()[:1] = value
    return changed


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MAKERS)
def test_arrays_of_another_kind_are_refused(name, change, folder, tmp_path):
    path = tmp_path / "file"
    raw = (folder / name).read_bytes()
    names = sorted(load_file(folder / name))
    rng = np.random.RandomState(len(name))
    units = [n for n in names if "units" in n or "offset" in n]
    for array in {*units, *rng.choice(names, size=min(3, len(names)), replace=False)}:
        path.write_bytes(raw)
        changed = CHANGES[change](load_file(path)[array])
        if changed is None:
            continue
        with np.errstate(all="ignore"):
            rewrite(path, change_arrays=lambda a, n=array, c=changed: a.update({n: c}))
        sound = refused_or_sound(path)
        is_weight = name != "pipeline" and "module_" in array and "anchors" not in array
        if is_weight and change in ("nan", "one nan", "int", "half"):
            assert not sound, array


# ---- anything anywhere ----------------------------------------------------------------------


def places_of(value, at=()):
    """List the places of all leaves of a document."""
    if isinstance(value, dict):
        return [p for key, v in value.items() for p in places_of(v, (*at, key))]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in places_of(v, (*at, i))]
    return [at]


def value_at(value, place):
    for key in place:
        value = value[key]
    return value


def put(document, place, value):
    value_at(document, place[:-1])[place[-1]] = value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = [
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, 5e-324),
    *(math.inf, -math.inf, math.nan, "", "x" * 5000, "\ud800", "\0", "os.system", "cuda", "nan"),
    *([], {}, [[]], {"": 0}, [1] * 1000, {"tuple": []}, {"tuple": [1, 2]}, {"list": 3}),
    *({"part": "Chain", "parameters": {}}, {"class": "MPDR", "parameters": {}}, nested(400)),
    *({"array": {"name": "x"}}, {"dict": {}}, {"number": ["<f8", 1]}, {"type": "float"}),
    *({"slice": [None, None, None]}, {"compiled": {"kind": "tree", "content": {}}}),
]


@st.composite
def changes(draw, names=tuple(MAKERS)):
    return draw(st.sampled_from(names)), draw(st.floats(0, 1)), draw(st.sampled_from(HOSTILE))


def hostile_document(folder, change):
    name, where, value = change
    path = folder / "changed"
    path.write_bytes((folder / name).read_bytes())
    document = json.loads(read_metadata(path)["skgenad"])
    places = [place for place in places_of(document) if place[0] != "arrays"]
    place = places[int(where * (len(places) - 1))]
    if len(place) > 2 and where * 1000 % 1 < 0.3:  # a whole branch at times
        place = place[:-1]
    rewrite(path, lambda d: put(d, place, copy.deepcopy(value)))
    return path


SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@pytest.mark.filterwarnings("ignore:.* holds estimators of ")
@given(change=changes())
@settings(max_examples=150, **SETTINGS)
def test_any_value_in_any_place_is_refused_or_sound(change, folder):
    refused_or_sound(hostile_document(folder, change))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* holds estimators of ")
@given(change=changes())
@settings(max_examples=5000, **SETTINGS)
def test_any_value_in_any_place_is_refused_or_sound_for_long(change, folder):
    refused_or_sound(hostile_document(folder, change))
