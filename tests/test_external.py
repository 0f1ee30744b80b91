"""Objects of the user's as features: what they are given, how they are called, what is refused."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA, MiniBatchNMF
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skgenad import CANCE, DAGMM
from skgenad._core.units import StandardUnits
from skgenad._tensors.seeds import seed_unseeded
from skgenad.autoencoders._external import ExternalFeatures
from skgenad.preprocessing import LatentFeatures

from ._settings import TINY, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")


def rows(n=200, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 4))).float()


def fitted(features, x=None, **arguments):
    """Return the features of an object, fitted to rows `x` whose units are standard."""
    made = ExternalFeatures(features)
    x = rows() if x is None else x
    made.fit(x, StandardUnits.identity(x.shape[1]), **{"seed": 0, **arguments})
    return made


class Halves:
    """The first two columns, of which all columns are made; keeps all rows it is given."""

    def __init__(self):
        self.seen = []

    def transform(self, X):
        self.seen.append(X)
        return np.asarray(X)[:, :2]

    def inverse_transform(self, Z):
        return np.repeat(Z[:, :1], 4, axis=1)


class Learning(Halves):
    """The same with a `fit` that takes no y."""

    def fit(self, X):
        self.fitted_to = X


# ---- what an object is given ----------------------------------------------------------------


def test_an_object_sees_the_units_of_the_data_and_errors_are_in_standard_units():
    X = np.random.default_rng(0).normal(size=(30, 4)) * [1, 10, 100, 1000] + 5
    units = StandardUnits.of(X)
    x = torch.from_numpy(units.to_standard(X))
    features = ExternalFeatures(Halves())
    features.fit(x, units, seed=0)
    assert features.latent_dim == 2
    code, reconstruction = features(x)
    np.testing.assert_allclose(features.features.seen[-1], X, rtol=1e-5)
    np.testing.assert_allclose(code, X[:, :2], rtol=1e-5)
    expected = units.to_standard(np.repeat(X[:, :1], 4, axis=1))
    np.testing.assert_allclose(reconstruction, expected, rtol=1e-4, atol=1e-5)


def test_an_object_sees_no_row_that_was_not_there():
    X = normal_rows()
    detector = tiny("CANCE", features=Halves(), standardize=False).fit(X)
    detector.score_samples(X[:7])
    seen = np.vstack(detector.module_.features.features.seen)
    assert {tuple(row) for row in seen} == {tuple(row) for row in X.astype(np.float32).tolist()}


def test_categories_without_a_0_are_encoded():
    X = np.random.default_rng(0).integers(1, 4, size=(60, 3)).astype(float)
    encoder = FrozenEstimator(OneHotEncoder(sparse_output=False).fit(X))
    # One of the columns of a one-hot code depends on the others, as the warning says.
    with pytest.warns(LinAlgWarning, match="covariance of the composite features"):
        detector = tiny("CANCE", features=encoder, standardize=False).fit(X)
    assert np.isfinite(detector.score_samples(X[:5])).all()


def test_validation_rows_are_among_those_fitted_to_and_calibration_rows_are_not():
    settings = {**TINY["CANCE"], "validation_fraction": 0.5, "calibration_fraction": 0.2}
    detector = CANCE(**{**settings, "features": Learning()}).fit(normal_rows(60))
    assert len(detector.module_.features.features.fitted_to) == 48


@pytest.mark.parametrize("known", ["detector and object", "object"])
@pytest.mark.parametrize("wrap", [FrozenEstimator, lambda t: make_pipeline(FrozenEstimator(t))])
def test_an_object_that_knows_names_is_given_them(known, wrap):
    frame = pd.DataFrame(normal_rows(), columns=list("abcd"))
    both = known == "detector and object"
    X = frame if both else frame.to_numpy()
    scaler = StandardScaler().set_output(transform="pandas")
    chain = make_pipeline(scaler, PCA(2).set_output(transform="pandas")).fit(frame)
    detector = tiny("CANCE", features=wrap(chain)).fit(X)
    assert hasattr(detector, "feature_names_in_") == both
    assert np.isfinite(detector.score_samples(X)).all()


def test_names_in_another_order_are_refused_and_not_renamed():
    frame = pd.DataFrame(normal_rows(), columns=list("abcd"))
    features = FrozenEstimator(PCA(2).fit(frame[list("dcba")]))
    with pytest.raises(ValueError, match="feature names should match"):
        tiny("CANCE", features=features).fit(frame)


def test_an_object_says_itself_that_the_columns_are_too_many():
    frame = pd.DataFrame(normal_rows(), columns=list("abcd"))
    features = FrozenEstimator(PCA(2).fit(frame[["a", "b", "c"]]))
    with (
        pytest.warns(UserWarning, match="does not have valid feature names"),
        pytest.raises(ValueError, match="X has 4 features, but PCA is expecting 3"),
    ):
        tiny("CANCE", features=features).fit(frame.to_numpy())


# ---- how it is called -----------------------------------------------------------------------


def test_a_fit_without_y_is_called_without():
    features = fitted(Learning())
    np.testing.assert_allclose(features.features.fitted_to, rows())


def test_a_fit_that_needs_y_is_given_none():
    class Needing(Halves):
        def fit(self, X, y):
            self.y = y

    assert fitted(Needing()).features.y is None


def test_a_type_error_of_fit_itself_comes_through():
    class Broken(Halves):
        def fit(self, X, y):
            raise TypeError("my own")

    with pytest.raises(TypeError, match="my own"):
        fitted(Broken())


def test_copies_share_the_object_and_keep_the_units():
    features = fitted(Halves())
    twin = copy.deepcopy(features)
    assert twin.features is features.features and twin.latent_dim == 2
    assert twin.units is not features.units
    assert torch.equal(twin(rows())[1], features(rows())[1])


def test_frames_become_tensors_of_their_own():
    # A frame's array may be one that must not be written to, of which torch warns.
    features = fitted(PCA(2).set_output(transform="pandas"))
    code, _ = features(rows())
    expected = PCA(2).fit(rows().double().numpy()).transform(rows())
    np.testing.assert_allclose(code.abs(), np.abs(expected), atol=1e-5)


# ---- seeds ----------------------------------------------------------------------------------


def test_a_seed_of_ours_is_the_seed_of_all():
    X = normal_rows()
    dagmm = DAGMM(**{**TINY["DAGMM"], "random_state": None})
    one, same, other = (
        tiny("CANCE", features=LatentFeatures(dagmm), random_state=seed).fit(X)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.score_samples(X), same.score_samples(X))
    codes = [d.module_.features.features.transform(X) for d in (one, other)]
    assert not np.allclose(*codes)
    assert dagmm.random_state is None


def test_seeds_that_were_given_stay_and_those_of_others_are_left_alone():
    class Draws(Halves):
        random_state = None

        def fit(self, X, y=None):
            pass

    chain = make_pipeline(StandardScaler(), PCA(2, random_state=7), MiniBatchNMF(2))
    seed_unseeded(chain, 0)
    assert chain[1].random_state == 7 and isinstance(chain[2].random_state, int)
    assert fitted(Draws()).features.random_state is None
    frozen = PCA(2).fit(rows())
    fitted(FrozenEstimator(frozen))
    assert frozen.random_state is None


def test_every_random_state_has_its_own_seed():
    class Two(BaseEstimator, Halves):
        def __init__(self, one=None, other=None):
            Halves.__init__(self)
            self.one, self.other = one, other

        def fit(self, X, y=None):
            return self

    parameters = fitted(Two(PCA(), PCA())).features.get_params()
    assert parameters["one__random_state"] != parameters["other__random_state"]


# ---- what is refused ------------------------------------------------------------------------


def test_a_class_is_refused():
    with pytest.raises(TypeError, match=r"features=PCA is a class; .* such as features=PCA\(\)"):
        tiny("CANCE", features=PCA).fit(normal_rows())


BAD = {
    r"transform of Bad made an array of shape \(1,\) of n=1": (lambda X: X[:, 0], lambda Z: Z),
    r"transform of Bad made an array of shape \(1, 0\)": (lambda X: X[:, :0], lambda Z: Z),
    r"transform of Bad made NaN or infinity": (lambda X: X * np.nan, lambda Z: Z),
    r"features.transform of Bad made a sparse matrix; .* sparse_output=False": (
        sparse.csr_matrix,
        lambda Z: Z,
    ),
    r"features.inverse_transform of Bad made a sparse matrix": (lambda X: X, sparse.csr_array),
    r"inverse_transform of Bad made .* \(1, 2\) of n=1 rows; needed .* \(n, 4\)": (
        lambda X: X[:, :2],
        lambda Z: Z,
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_an_object_returns_is_checked(message):
    class Bad:
        transform = staticmethod(BAD[message][0])
        inverse_transform = staticmethod(BAD[message][1])

    with pytest.raises(ValueError, match=message):
        fitted(Bad())
