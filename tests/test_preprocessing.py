"""Latent features of detectors: what comes out, what is refused, scikit-learn's checks."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgenad import Mahalanobis
from skgenad._core.detector import SCORING_CHUNK
from skgenad.preprocessing import LatentFeatures

from ._settings import normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

# Where the dimension of the latent space is a parameter of an object.
DIMENSIONS = {
    "CANCE": "features__latent_dim",
    "MPDR": "energy__latent_dim",
    "VQVAE": "code_dim",
}
NAMES = ("Autoencoder", "DAGMM", "NAE", "VAE", "WAE", "CANCE", "MPDR", "VQVAE", "GANomaly")


@parametrize_with_checks([LatentFeatures(tiny("DAGMM", max_steps=2))])
def test_passes_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", NAMES)
def test_features_go_there_and_back(name):
    X = normal_rows()
    detector = tiny(name).set_params(**{DIMENSIONS.get(name, "latent_dim"): 3})
    features = LatentFeatures(detector).fit(X)
    code = features.transform(X)
    assert code.shape == (60, 3) and np.isfinite(code).all()
    back = features.inverse_transform(code)
    assert back.shape == X.shape and back.dtype == np.float64
    np.testing.assert_array_equal(features.fit_transform(X), code)


def test_the_error_of_what_comes_back_is_the_detectors_score():
    X = normal_rows(SCORING_CHUNK + 50)
    features = LatentFeatures(tiny("Autoencoder")).fit(X)
    back = features.inverse_transform(features.transform(X))
    error = ((X - back) / features.detector_.units_.scale) ** 2
    np.testing.assert_allclose(error.mean(axis=1), features.detector_.anomaly_score(X), rtol=1e-3)


def test_the_detector_is_cloned_and_a_frozen_one_taken_as_it_is():
    X = normal_rows()
    unfitted = tiny("Autoencoder")
    LatentFeatures(unfitted).fit(X)
    assert not hasattr(unfitted, "module_")
    trained = tiny("Autoencoder").fit(normal_rows(seed=3))
    features = LatentFeatures(FrozenEstimator(trained)).fit(X)
    units, net = trained.units_, trained.module_.net
    with torch.no_grad():
        expected = net.encode(torch.from_numpy(units.to_standard(X)))
    np.testing.assert_allclose(features.transform(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(clone(features).fit(X).transform(X), features.transform(X))


def test_a_vaes_features_are_posterior_means():
    X = normal_rows()
    features = LatentFeatures(tiny("VAE")).fit(X)
    module, units = features.detector_.module_, features.detector_.units_
    with torch.no_grad():
        mean, _ = module.posterior(torch.from_numpy(units.to_standard(X)))
    np.testing.assert_allclose(features.transform(X), mean, rtol=1e-5, atol=1e-6)


def test_names_of_features_come_from_the_class():
    X = pd.DataFrame(normal_rows(), columns=list("abcd"))
    features = LatentFeatures(tiny("DAGMM")).fit(X).set_output(transform="pandas")
    assert list(features.transform(X).columns) == ["latentfeatures0", "latentfeatures1"]


def test_features_feed_another_detector_in_a_pipeline():
    X = normal_rows(200)
    last = Mahalanobis(device="cpu", contamination=0.1)
    chain = make_pipeline(LatentFeatures(tiny("DAGMM")), last)
    assert (chain.fit_predict(X) == -1).sum() == 20


@pytest.mark.parametrize(
    ("detector", "found"),
    [
        (tiny("EBM"), 0),
        (tiny("Mahalanobis"), 0),
        (tiny("CANCE", features="pca"), 0),
        (tiny("MPDR", energy="scalar"), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_detector_without_one_autoencoder_is_refused(detector, found):
    with pytest.raises(TypeError, match=f"has {found} autoencoders to take latent features from"):
        LatentFeatures(detector).fit(normal_rows())


def test_latent_features_of_another_number_are_refused():
    features = LatentFeatures(tiny("DAGMM")).fit(normal_rows())
    with pytest.raises(ValueError, match="X has 3 latent features, but those .* are 2"):
        features.inverse_transform(np.zeros((5, 3)))


def test_what_is_no_detector_is_refused():
    with pytest.raises(ValueError, match="'detector' parameter"):
        LatentFeatures("DAGMM").fit(normal_rows())
