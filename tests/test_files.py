"""Saving and loading: bitwise, across processes, and nothing but what `save` wrote."""

import json
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

import skgenad
from skgenad import MPDR, Autoencoder, Mahalanobis
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.state import STATE
from skgenad.energies import Chain, Manifold, Replay

from ._files import read_metadata, rewrite, write_text
from ._settings import DETECTORS, normal_rows, over_variants, tiny

pytestmark = pytest.mark.usefixtures("drawing")

all_variants = over_variants()

IN_ANOTHER_PROCESS = """
import sys
import numpy as np
import skgenad

path, rows, scores = sys.argv[1:]
detector = skgenad.MPDR.load(path)
np.save(scores, detector.decision_function(np.load(rows)))
"""


@pytest.fixture
def saved(tmp_path):
    """Return the path of a saved detector with an ensemble, a buffer and calibration scores."""
    path = tmp_path / "detector.safetensors"
    parts = {"manifold": Manifold((2, 3), steps=10), "replay": Replay(20)}
    tiny("MPDR", **parts, calibration_fraction=0.2).fit(normal_rows()).save(path)
    return path


# ---- the table of state ---------------------------------------------------------------------


@all_variants
def test_what_a_fit_sets_is_what_the_table_of_state_lists(name, extra):
    detector = tiny(name, **extra).fit(normal_rows())
    found = set(vars(detector)) - set(detector._get_param_names())
    listed = {field.name for field in STATE}
    assert found <= listed
    assert {field.name for field in STATE if not field.optional} <= found


# ---- there and back -------------------------------------------------------------------------


@all_variants
def test_a_loaded_detector_is_the_saved_one(name, extra, tmp_path):
    X = normal_rows()
    detector = tiny(name, **extra, calibration_fraction=0.2).fit(X)
    detector.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.p_value(X), detector.p_value(X))
    assert loaded.offset_ == detector.offset_
    assert loaded.get_params() == detector.get_params()
    assert {k: type(v) for k, v in loaded.get_params().items()} == {
        k: type(v) for k, v in detector.get_params().items()
    }
    pd.testing.assert_frame_equal(loaded.history_, detector.history_)
    assert set(vars(loaded)) == set(vars(detector))
    for name, value in detector.module_.state_dict().items():
        assert torch.equal(loaded.module_.state_dict()[name], value)
        assert loaded.module_.state_dict()[name].shape == value.shape
    assert not loaded.module_.training


def test_what_callbacks_record_comes_back(saved):
    detector = MPDR.load(saved)
    n = len(detector.history_)
    detector.history_["event_cp"] = [True, *[False] * (n - 1)]
    detector.history_["1"] = ["1", *["a"] * (n - 1)]
    detector.history_["held_out"] = [np.nan, *np.arange(n - 1) / 3]
    detector.history_["count"] = range(n)
    detector.history_["pair"] = [[i, "a"] for i in range(n)]
    detector.save(saved)
    pd.testing.assert_frame_equal(MPDR.load(saved).history_, detector.history_)
    detector.history_ = pd.DataFrame(dict.fromkeys(map(str, range(2000)), [1]))
    with pytest.raises(ValueError, match="2000 columns, of which a file holds 1000 at most"):
        detector.save(saved)


@all_variants
def test_a_loaded_detector_can_be_trained_on(name, extra, tmp_path):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    detector.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    before = loaded.score_samples(X)
    loaded.partial_fit(normal_rows(seed=1))
    assert not np.array_equal(loaded.score_samples(X), before)


@pytest.mark.parametrize("detector", DETECTORS)
def test_frames_in_another_byte_order_are_learned_explained_and_saved(detector, tmp_path):
    X = normal_rows(20)
    swapped = pd.DataFrame(X.astype(X.dtype.newbyteorder()), columns=list("abcd"))
    fitted = tiny(detector).fit(swapped)
    fitted.save(tmp_path / "file")
    scores = detector.load(tmp_path / "file").score_samples(swapped)
    wanted = tiny(detector).fit(X)
    np.testing.assert_array_equal(scores, wanted.score_samples(X))
    np.testing.assert_array_equal(fitted.explain(swapped), wanted.explain(X))


def test_another_process_scores_bitwise_the_same(saved, tmp_path):
    X = normal_rows(300, seed=1)
    np.save(tmp_path / "rows.npy", X)
    arguments = [str(saved), str(tmp_path / "rows.npy"), str(tmp_path / "scores.npy")]
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    scores = np.load(tmp_path / "scores.npy")
    np.testing.assert_array_equal(scores, MPDR.load(saved).decision_function(X))


def test_parameters_keep_their_types(tmp_path):
    chain = Chain(2, bounds=(-3.0, np.float32(2.5)))
    detector = tiny("MPDR", visible_chain=chain, noise_range=[0.1, 0.2])
    detector.set_params(max_steps=np.int64(3), warm_start=np.bool_(True), energy__latent_dim=None)
    detector.fit(normal_rows()).save(tmp_path / "detector")
    loaded = MPDR.load(tmp_path / "detector")
    assert loaded.visible_chain == Chain(2, bounds=(-3.0, 2.5)) and loaded.noise_range == [0.1, 0.2]
    assert loaded.max_steps == 3 and loaded.warm_start is True and loaded.energy.latent_dim is None


def test_column_names_are_kept(tmp_path):
    X = pd.DataFrame(normal_rows(), columns=list("abcd"))
    detector = tiny("Autoencoder").fit(X)
    detector.save(tmp_path / "detector")
    loaded = Autoencoder.load(tmp_path / "detector")
    assert loaded.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.score_samples(X[list("dcba")])


def test_parts_of_ones_own_are_not_saved(tmp_path):
    class Slow(Chain):
        pass

    detector = tiny("MPDR", visible_chain=Slow(1)).fit(normal_rows())
    with pytest.raises(TypeError, match="visible_chain=Slow.* cannot be saved"):
        detector.save(tmp_path / "detector")


def test_the_base_class_loads_any_detector(tmp_path):
    for detector in DETECTORS:
        tiny(detector).fit(normal_rows()).save(tmp_path / "detector")
        assert type(BaseGenerativeDetector.load(tmp_path / "detector")) is detector


def test_saving_replaces_a_file(saved):
    tiny("Autoencoder").fit(normal_rows()).save(str(saved))
    assert isinstance(Autoencoder.load(str(saved)), Autoencoder)


def test_versions_are_in_the_file(saved):
    document = json.loads(read_metadata(saved)["skgenad"])
    assert document["versions"]["torch"] == torch.__version__


def test_the_device_can_be_chosen_at_loading(saved):
    rewrite(saved, lambda document: parameters(document).update(device="cuda:99"))
    with pytest.raises(ValueError, match=r"^device='cuda:99' cannot be used here"):
        MPDR.load(saved)
    loaded = MPDR.load(saved, device="cpu")
    assert loaded.device_.type == "cpu" and loaded.device == "cpu"


# ---- what is refused ------------------------------------------------------------------------


def test_an_unfitted_detector_is_not_saved(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        Autoencoder().save(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


def quartic(n_features):
    from .test_energies import Quartic

    return Quartic().float()


def test_code_is_not_saved(tmp_path):
    detector = tiny("MPDR", energy=quartic).fit(normal_rows())
    with pytest.raises(TypeError, match=r"energy=<function quartic .* cannot be saved.*pickle"):
        detector.save(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.01, 0.0])
def test_a_truncated_file_is_refused(saved, keep):
    raw = saved.read_bytes()
    saved.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        MPDR.load(saved)


@pytest.mark.parametrize("place", np.linspace(0, 1, 9).tolist())
def test_one_changed_bit_is_noticed_wherever_it_is(saved, place):
    raw = bytearray(saved.read_bytes())
    raw[int(place * (len(raw) - 1))] ^= 1
    saved.write_bytes(raw)
    with pytest.raises(ValueError, match="not a readable|damaged|not one that|no valid JSON"):
        MPDR.load(saved)


def test_a_changed_parameter_is_noticed(saved):
    raw = saved.read_bytes()
    changed = raw.replace(rb"\"batch_size\": 16", rb"\"batch_size\": 17")
    assert changed != raw
    saved.write_bytes(changed)
    with pytest.raises(ValueError, match="digest does not match"):
        MPDR.load(saved)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        MPDR.load(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="not one that a detector's save wrote"):
        MPDR.load(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        MPDR.load(path)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        MPDR.load(tmp_path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_run(tmp_path, dump):
    trace, path = tmp_path / "trace", tmp_path / "detector.safetensors"
    with open(path, "wb") as file:
        dump(Trap(str(trace)), file)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        MPDR.load(path)
    assert not trace.exists()
    # The trap does work: only because the file was not unpickled is there no trace.
    Trap(str(trace)).__reduce__()[0](*Trap(str(trace)).__reduce__()[1]).close()
    assert trace.exists()


def test_another_class_is_refused(saved):
    with pytest.raises(ValueError, match="'MPDR', which is not a Autoencoder"):
        Autoencoder.load(saved)
    rewrite(saved, lambda document: document.update({"class": "os.system"}))
    with pytest.raises(ValueError, match=r"'os\.system', which is not .* knows \["):
        MPDR.load(saved)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_file_whose_header_is_as_long_as_a_pickle_begins_is_read(protocol, tmp_path):
    path = tmp_path / "file"
    fitted = tiny("Mahalanobis").fit(normal_rows())
    fitted.save(path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    longer = 0x10080 + 0x100 * protocol  # its first bytes are 0x80 and the protocol
    header = raw[8 : 8 + length].ljust(longer)  # spaces
    path.write_bytes(longer.to_bytes(8, "little") + header + raw[8 + length :])
    assert path.read_bytes()[:2] == pickle.dumps(None, protocol)[:2]
    loaded = skgenad.load(path)
    np.testing.assert_array_equal(
        loaded.score_samples(normal_rows()), fitted.score_samples(normal_rows())
    )


@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_a_pickle_is_called_one(tmp_path, dump):
    with open(tmp_path / "detector.pkl", "wb") as file:
        dump(Mahalanobis(), file)
    with pytest.raises(ValueError, match=r"it is a pickle.* joblib\.load; save\(path\) writes"):
        skgenad.load(tmp_path / "detector.pkl")


def parameters(document):
    return document["state"]["_fitted_parameters"]


def dims(document):
    return parameters(document)["manifold"]["parameters"]


BAD_DOCUMENTS = {
    "format 1, an older one .* Fit the detector again": lambda d: d.update(format=1),
    "format 99, a newer one .* Upgrade skgenad": lambda d: d.update(format=99),
    "format 'two'": lambda d: d.update(format="two"),
    "unknown parameters": lambda d: parameters(d).update(hook="os.system"),
    "must be a str": lambda d: parameters(d).update(energy="magic"),
    "does not describe": lambda d: d["state"].update(_fitted_parameters=[1, 2]),
    "does not describe a MPDR: 'offset_' is missing": lambda d: d["state"].pop("offset_"),
    "size mismatch": lambda d: parameters(d).update(network={"tuple": [4, 4]}),
    "for 5 columns": lambda d: d["state"].update(n_features_in_=5),
    "Missing key": lambda d: dims(d).update(dims={"tuple": [2, 3, 4]}),
    "does not describe a MPDR: there is no value {'list': ": lambda d: parameters(d).update(
        noise_range={"list": []}
    ),
    "unknown parameter object 'Popen'": lambda d: parameters(d)["manifold"].update(part="Popen"),
    r"unknown parameters \['shell'\] of Manifold": lambda d: dims(d).update(shell=True),
    "'steps' parameter of Manifold must be": lambda d: dims(d).update(steps=-1),
}


BAD_DOCUMENTS |= {
    "format True": lambda d: d.update(format=True),
    "format 2.0": lambda d: d.update(format=2.0),
    "'seed_'|is no whole number": lambda d: d["state"].update(seed_=-1),
    "-3 is no whole number of at least 1": lambda d: d["state"].update(_n_fits=-3),
    "inf is no whole number": lambda d: d["state"].update(n_features_in_=float("inf")),
    r"names \['a', 'b'\] for 4 columns": lambda d: d["state"].update(feature_names_in_=["a", "b"]),
    "classes without use_labels": lambda d: d["state"].update(
        classes_={"type": "<i8", "values": [1, 2]}
    ),
    "classes of type object": lambda d: d["state"].update(
        classes_={"type": "|O", "values": [{}, {}]}
    ),
}


@pytest.mark.parametrize("message", BAD_DOCUMENTS)
def test_documents_that_do_not_fit_are_refused(saved, message):
    rewrite(saved, BAD_DOCUMENTS[message])
    with pytest.raises(ValueError, match=message):
        MPDR.load(saved)


@pytest.mark.parametrize("text", ["{", "[" * 100_000], ids=["open", "deep"])
def test_a_document_that_is_no_json_is_refused(saved, text):
    arrays = load_file(saved)
    write_text(saved, text, arrays)
    with pytest.raises(ValueError, match="no valid JSON"):
        MPDR.load(saved)


BAD_ARRAYS = {
    "calibration scores that are no": lambda a: a.update(calibration_scores_=np.zeros((2, 2))),
    "size mismatch": lambda a: a.update({"module_.low": np.zeros(3, np.float32)}),
    "Missing key": lambda a: a.pop("module_.low"),
    "Unexpected key 'more'": lambda a: a.update(more=np.zeros(3)),
    'Unexpected key.*"more"': lambda a: a.update({"module_.more": np.zeros(3)}),
    r"units of shapes \(3,\) and \(4,\)": lambda a: a.update({"units_.mean": np.zeros(3)}),
    "'scale'": lambda a: a.pop("units_.scale"),
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(saved, message):
    rewrite(saved, change_arrays=BAD_ARRAYS[message])
    with pytest.raises(ValueError, match=message):
        MPDR.load(saved)


def test_a_list_that_is_changed_after_the_fit_does_not_spoil_the_file(tmp_path):
    sizes, X = [8], normal_rows()
    detector = tiny("Autoencoder", network=sizes).fit(X)
    sizes.append(8)
    detector.save(tmp_path / "detector")
    loaded = Autoencoder.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


def test_a_file_holds_the_parameters_of_training_that_continued(tmp_path):
    X = normal_rows(d=2)
    detector = tiny("EBM").fit(X).set_params(visible_chain__noise=0.9, visible_chain__steps=7)
    detector.partial_fit(X).save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    axis = np.linspace(-1, 1, 5)
    expected = detector.log_density_grid(axis, axis)
    np.testing.assert_array_equal(loaded.log_density_grid(axis, axis), expected)
    drawn = detector.sample(3, random_state=0)
    np.testing.assert_array_equal(loaded.sample(3, random_state=0), drawn)


def test_saving_into_a_folder_that_is_not_there_says_so(tmp_path):
    detector = tiny(Autoencoder).fit(normal_rows(20, 3))
    with pytest.raises(FileNotFoundError, match="missing is no folder"):
        detector.save(tmp_path / "missing" / "detector.safetensors")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("VAE", {"score_type": "elbo"}),
        ("NAE", {"distance": "l1"}),
        ("NAE", {"latent_space": "euclidean"}),
        ("MPDR", {"score_type": "energy"}),
    ],
)
def test_a_file_holds_the_parameters_of_the_fit(name, change, tmp_path):
    """Parameters that are set after it would build another module for the same weights."""
    X = normal_rows()
    detector = tiny(name).fit(X).set_params(**change)
    detector.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert all(loaded.get_params()[key] != value for key, value in change.items())
