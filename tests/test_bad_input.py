"""Bad input gets a clear error that says what was got; odd input works."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from pyod.models.knn import KNN
from scipy import sparse
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from skgenad._tensors.device import resolve_device
from skgenad.compat import PyODDetector
from skgenad.energies import Chain, Manifold, Masked, Reconstruction, Replay
from skgenad.networks import MLP, FCRes

from ._settings import DETECTORS, EVERY, having, normal_rows, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)


def with_cell(value):
    X = normal_rows()
    X[3, 1] = value
    return X


BAD_ROWS = {
    "Input X contains NaN": with_cell(np.nan),
    "Input X contains infinity": with_cell(-np.inf),
    "Sparse data was passed": sparse.csr_matrix(normal_rows()),
    "could not convert string to float: 'a'": np.array([["a", "b"]] * 5, dtype=object),
    "Complex data not supported": normal_rows() * 1j,
    r"0 sample\(s\) \(shape=\(0, 4\)\)": np.zeros((0, 4)),
    r"0 feature\(s\) \(shape=\(5, 0\)\)": np.zeros((5, 0)),
    "Expected 2D array, got 1D array": normal_rows()[:, 0],
    "Found array with dim 3": normal_rows()[None],
    "got scalar array": 3.0,
}


@all_detectors
@pytest.mark.parametrize("message", BAD_ROWS)
def test_bad_rows_are_refused_by_name(detector, message):
    bad = BAD_ROWS[message]
    error = TypeError if sparse.issparse(bad) else ValueError
    unfitted = tiny(detector)
    with pytest.raises(error, match=message):
        unfitted.fit(bad)
    with pytest.raises(error, match=message):
        unfitted.partial_fit(bad)
    assert not hasattr(unfitted, "module_")
    fitted = tiny(detector).fit(normal_rows())
    for method in (fitted.score_samples, fitted.predict, fitted.partial_fit):
        with pytest.raises(error, match=message):
            method(bad)


@all_detectors
def test_one_row_is_too_few_to_begin_with(detector):
    for method in (tiny(detector).fit, tiny(detector).partial_fit):
        with pytest.raises(ValueError, match=r"1 sample\(s\) .* a minimum of 2 is required"):
            method(normal_rows(1))


@all_detectors
def test_rows_of_another_width_are_refused(detector):
    fitted = tiny(detector).fit(normal_rows(d=4))
    for method in (fitted.score_samples, fitted.predict, fitted.partial_fit):
        with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 4"):
            method(normal_rows(d=3))


# ---- parameters -----------------------------------------------------------------------------

BAD_PARAMETERS = [
    ({"contamination": -0.1}, "contamination.*Got -0.1 instead"),
    ({"contamination": 0.6}, "contamination.*Got 0.6 instead"),
    ({"contamination": "none"}, "contamination.*range \\(0.0, 0.5\\].*Got 'none' instead"),
    ({"calibration_fraction": "half"}, "calibration_fraction.*Got 'half' instead"),
    ({"calibration_fraction": 1.0}, "calibration_fraction.*Got 1.0 instead"),
    ({"device": "nonsense"}, "device='nonsense' cannot be used here"),
    ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
    ({"device": "meta"}, "device='meta' cannot be used here"),
    ({"device": 0}, "device.*Got 0 instead"),
    ({"latent_dim": 0}, "latent_dim.*Got 0 instead"),
    ({"latent_dim": 2.5}, "latent_dim.*Got 2.5 instead"),
    ({"network": (16, 0)}, r"hidden_sizes=\(16, 0\) must hold integers of at least 1"),
    ({"network": (16, -3)}, r"hidden_sizes=\(16, -3\) must hold integers"),
    ({"network": (16, 2.5)}, r"hidden_sizes=\(16, 2.5\) must hold integers"),
    ({"network": ("16",)}, r"hidden_sizes=\('16',\) must hold integers"),
    ({"network": MLP("16")}, "hidden_sizes.*Got '16' instead"),
    ({"network": MLP(16)}, "hidden_sizes.*Got 16 instead"),
    ({"network": MLP(activation="swish")}, "activation.*Got 'swish' instead"),
    ({"network": "resnet"}, "network.*Got 'resnet' instead"),
    ({"network": 16}, "network.*Got 16 instead"),
    ({"network": FCRes(width=0)}, "width.*Got 0 instead"),
    ({"max_steps": 0}, "max_steps.*Got 0 instead"),
    ({"max_steps": 1.5}, "max_steps.*Got 1.5 instead"),
    ({"batch_size": 0}, "batch_size.*Got 0 instead"),
    ({"learning_rate": 0}, "learning_rate.*Got 0 instead"),
    ({"learning_rate": "fast"}, "learning_rate.*Got 'fast' instead"),
    ({"standardize": "maybe"}, "standardize.*Got 'maybe' instead"),
    ({"random_state": "seven"}, "random_state.*Got 'seven' instead"),
    ({"callbacks": "log"}, "callbacks.*Got 'log' instead"),
    ({"verbose": -1}, "verbose.*Got -1 instead"),
]

BAD_MPDR_PARAMETERS = [
    ({"energy": "magic"}, "energy.*Got 'magic' instead"),
    ({"manifold": "torus"}, "manifold.*Got 'torus' instead"),
    ({"manifold": Manifold(0)}, "dims.*Got 0 instead"),
    ({"manifold": Manifold((3, 0))}, r"dims=\(3, 0\) must hold .* of at least 1"),
    ({"manifold": Manifold(())}, r"dims=\(\) must hold"),
    ({"manifold": Manifold(latent_space="cube")}, "latent_space.*Got 'cube' instead"),
    ({"noise_range": (0.3, 0.1)}, r"noise_range=\(0.3, 0.1\) must be two numbers"),
    ({"noise_range": (0.0, 0.1)}, r"noise_range=\(0.0, 0.1\) must .* above 0"),
    ({"noise_range": (0.1,)}, r"noise_range=\(0.1,\) must be two numbers"),
    ({"noise_range": 0.3}, "noise_range.*Got 0.3 instead"),
    ({"visible_chain": Chain(-1)}, "steps.*Got -1 instead"),
    ({"visible_chain": 5}, "visible_chain.*Got 5 instead"),
    ({"latent_chain": Chain(-1)}, "steps.*Got -1 instead"),
    ({"visible_chain": Chain(step_size="large")}, "step_size.*Got 'large' instead"),
    ({"visible_chain": Chain(noise=-0.1)}, "noise.*Got -0.1 instead"),
    ({"visible_chain": Chain(bounds="box")}, "bounds.*Got 'box' instead"),
    ({"visible_chain": Chain(bounds=(1, 0))}, r"bounds=\(1, 0\) must be two numbers, the lower"),
    ({"visible_chain": Chain(bounds=(0, 1, 2))}, r"bounds=\(0, 1, 2\) must be two numbers"),
    ({"replay": Replay(ratio=1.5)}, "ratio.*Got 1.5 instead"),
    ({"replay": Replay(-1)}, "size.*Got -1 instead"),
    ({"visible_chain": Chain(metropolis=True, noise=0.0)}, "metropolis=True needs noise > 0"),
    ({"visible_chain": Chain(metropolis=True, noise=0, bounds="none")}, "needs noise > 0"),
    ({"schedule": "linear"}, "schedule.*Got 'linear' instead"),
    ({"energy": Reconstruction(pretrain_steps=-1)}, "pretrain_steps.*Got -1 instead"),
    ({"energy": Reconstruction(init="given")}, "init.*Got 'given' instead"),
]


def names(cases):
    return [" ".join(f"{key}={value!r}" for key, value in bad.items()) for bad, _ in cases]


EACH_WITH_ITS_OWN = [(d, bad, message) for bad, message in BAD_PARAMETERS for d in having(*bad)]
EACH_ID = [f"{d.__name__} {bad}" for d, bad, _ in EACH_WITH_ITS_OWN]


@pytest.mark.parametrize(("detector", "bad", "message"), EACH_WITH_ITS_OWN, ids=EACH_ID)
def test_bad_parameters_are_refused_by_name(detector, bad, message):
    unfitted = tiny(detector, **bad)  # construction never validates
    with pytest.raises(ValueError, match=message):
        unfitted.fit(normal_rows())
    assert not hasattr(unfitted, "module_")


@pytest.mark.parametrize(("bad", "message"), BAD_MPDR_PARAMETERS, ids=names(BAD_MPDR_PARAMETERS))
def test_bad_parameters_of_mpdr_are_refused_by_name(bad, message):
    unfitted = tiny("MPDR", **bad)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(normal_rows())
    assert not hasattr(unfitted, "module_")


def test_a_masked_energy_needs_two_columns_and_says_so():
    with pytest.raises(ValueError, match=r"got 1 feature\(s\), needs 2"):
        tiny("MPDR", energy="masked").fit(normal_rows(d=1))
    tiny("MPDR", energy=Masked(pretrain_steps=5)).fit(normal_rows(d=2))


def test_devices_that_exist_are_found():
    assert resolve_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert resolve_device("auto") == torch.device("cpu")


# ---- odd input that works -------------------------------------------------------------------


def scores_of(detector, X, **parameters):
    scores = tiny(detector, **parameters).fit(X).score_samples(X)
    assert scores.shape == (len(X),) and np.isfinite(scores).all()
    return scores


@all_detectors
@pytest.mark.parametrize("shape", [(2, 1), (2, 3), (5, 1), (15, 4), (17, 4), (33, 40)], ids=str)
def test_small_tables_work_whatever_the_batch_size(detector, shape):
    scores_of(detector, normal_rows(*shape))


@pytest.mark.parametrize("detector", having("batch_size"))
def test_a_batch_of_one_row_works(detector):
    scores_of(detector, normal_rows(), batch_size=1)


@pytest.mark.parametrize("detector", having("latent_dim"))
def test_a_latent_space_of_one_dimension_works(detector):
    scores_of(detector, normal_rows(), latent_dim=1)


@pytest.mark.parametrize("detector", having("network"))
def test_no_hidden_layers_work(detector):
    scores_of(detector, normal_rows(), network=())


@all_detectors
def test_duplicates_and_constants_work(detector):
    scores_of(detector, np.repeat(normal_rows(2), 20, axis=0))
    scores_of(detector, np.ones((20, 3)))
    scores_of(detector, np.zeros((2, 1)))
    scores_of(detector, np.column_stack([normal_rows(), np.zeros(60), np.full(60, 1e9)]))


@all_detectors
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, np.uint8, bool])
def test_any_numbers_work_as_their_float64_values(detector, dtype):
    X = (10 * np.random.RandomState(0).rand(60, 4)).round(1).astype(dtype)
    expected = scores_of(detector, X.astype(np.float64))
    scores = scores_of(detector, X)
    if dtype == np.float32:  # kept in single precision, so that no copy is made
        np.testing.assert_allclose(scores, expected, rtol=1e-3)
    else:
        np.testing.assert_array_equal(scores, expected)


@all_detectors
def test_layout_and_writability_do_not_matter(detector, tmp_path):
    X = normal_rows()
    expected = scores_of(detector, X)
    np.save(tmp_path / "rows.npy", X)
    frozen = X.copy()
    frozen.setflags(write=False)
    reverse = X[::-1].copy()[::-1]
    memmap = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for same in (np.asfortranarray(X), memmap, frozen, reverse, X.tolist(), X.astype(object)):
        np.testing.assert_array_equal(scores_of(detector, same), expected)
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(scores_of(detector, strided), expected)
    np.testing.assert_array_equal(memmap, X)


@all_detectors
def test_a_read_only_float32_memmap_works(detector, tmp_path):
    X = normal_rows().astype(np.float32)
    np.save(tmp_path / "rows.npy", X)
    memmap = np.load(tmp_path / "rows.npy", mmap_mode="r")
    np.testing.assert_array_equal(scores_of(detector, memmap), scores_of(detector, X))


class Quadratic(nn.Module):
    """A custom energy with one trained scale."""

    def __init__(self, n_features):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(n_features))

    def energy(self, x):
        return (x.square() * self.log_scale.exp()).mean(dim=1)


def test_an_energy_of_ones_own_works():
    X = normal_rows()
    detector = tiny("MPDR", energy=Quadratic).fit(X)
    assert not torch.equal(detector.module_.base.log_scale, torch.zeros(4))
    far = X.mean(axis=0) + 10 * X.std(axis=0)
    assert detector.predict(far[None]) == -1


@pytest.mark.parametrize("detector", [*EVERY, PyODDetector], ids=lambda kind: kind.__name__)
def test_weights_are_refused_in_words_and_the_signature_has_none(detector):
    unfitted = PyODDetector(KNN()) if detector is PyODDetector else tiny(detector)
    X = normal_rows()
    assert not has_fit_parameter(unfitted, "sample_weight")
    match = rf"^{detector.__name__}.fit takes no sample_weight: every row counts once"
    with pytest.raises(TypeError, match=match):
        unfitted.fit(X, sample_weight=np.ones(60))
    with pytest.raises(TypeError, match=match):
        unfitted.fit_predict(X, sample_weight=np.ones(60))
    pipe = Pipeline([("scale", StandardScaler()), ("detect", unfitted)])
    with pytest.raises(TypeError, match=match):
        pipe.fit(X, detect__sample_weight=np.ones(60))


def test_fractions_are_refused_with_the_number_to_write():
    tenth, X = Fraction(1, 10), normal_rows()
    for name in ("contamination", "calibration_fraction"):
        with pytest.raises(ValueError, match=f"must be no Fraction.* Write {name}=0.1"):
            tiny("Mahalanobis", **{name: tenth}).fit(X)
    fitted = tiny("Mahalanobis", calibration_fraction=0.5).fit(X)
    with pytest.raises(ValueError, match=r"must be no Fraction.* Write fdr=0.1"):
        fitted.select(X, fdr=tenth)
    with pytest.raises(ValueError, match=r"must be no Fraction.* Write contamination=0.1"):
        fitted.set_params(contamination=tenth).predict(X)


def test_groups_without_a_label_are_named_and_labels_may_be_of_two_kinds():
    X, detector = normal_rows(40), tiny("Mahalanobis", calibration_fraction=0.5)
    for groups in (["a", "b", None, "c"] * 10, np.array([0, 1, np.nan, 2] * 10)):
        with pytest.raises(ValueError, match="no label for 10 of 40 rows, row 2 the first"):
            detector.fit(X, groups=groups)
    labels = np.array(["a", 1] * 20, dtype=object)
    detector.fit(X, groups=labels)
    assert len(detector.calibration_scores_) == 20
