"""Quick settings for every public detector, and the list of them."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

import skgenad
from skgenad._core.contract import BaseDetector
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.parts import Part
from skgenad._tensors.networks import Networks, Perceptrons
from skgenad.autoencoders import AutoencoderFeatures
from skgenad.energies import Chain, Manifold, Masked, Reconstruction, Replay

# What a method computes is that of all rows: the default, which holds some of them out of training
# for the threshold, is what tests of thresholds are about.
ALL_ROWS = {"calibration_fraction": 0.0}
# Class name -> parameters with which a fit takes some 30 milliseconds, and learns a little.
TINY = {
    "Autoencoder": {
        "network": (16, 16),
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "CANCE": {
        "features": AutoencoderFeatures((16,), latent_dim=2, encoder_steps=8, decoder_steps=4),
        "density_network": (16, 16),
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "DAGMM": {
        "network": (16,),
        "latent_dim": 2,
        "n_components": 2,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "DiscriminativeRatio": {
        "classifier": QuadraticDiscriminantAnalysis(reg_param=0.01),
        "random_state": 0,
        **ALL_ROWS,
    },
    "EBM": {
        "network": (16, 16),
        "visible_chain": Chain(5),
        "replay": Replay(50),
        "max_steps": 60,
        "learning_rate": 1e-2,
        "batch_size": 32,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "GANomaly": {
        "network": (16, 16),
        "latent_dim": 2,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "GaussianMixtures": {
        "n_components": (1, 2),
        "max_iter": 3,
        "max_rows": 35,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "Glow": {
        "n_couplings": 2,
        "hidden": 16,
        "max_steps": 6,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    # The committee's members are taken from here as well; see `tiny`.
    "Committee": {
        "random_state": 0,
        **ALL_ROWS,
    },
    "CrossCalibrated": {
        "cv": 2,
        "random_state": 0,
        **ALL_ROWS,
    },
    "GroupedDetector": {
        "random_state": 0,
        **ALL_ROWS,
    },
    "PatchDetector": {
        "random_state": 0,
        **ALL_ROWS,
    },
    "KernelDenoiser": {
        "max_anchors": 30,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "LocalGaussian": {
        "n_neighbors": 10,
        "max_anchors": 30,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "Mahalanobis": {
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "Neighbors": {
        "max_anchors": 30,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "LikelihoodRatio": {
        "random_state": 0,
        **ALL_ROWS,
    },
    "MPDR": {
        "network": (16, 16),
        "latent_chain": Chain(2),
        "visible_chain": Chain(2),
        "manifold": Manifold(steps=10),
        "energy": Reconstruction(pretrain_steps=10),
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "NAE": {
        "network": (16, 16),
        "latent_chain": Chain(2),
        "visible_chain": Chain(2),
        "pretrain_steps": 10,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "NormalizingFlow": {
        "n_transforms": 2,
        "n_bins": 4,
        "hidden_sizes": (16,),
        "max_steps": 6,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "PixelCNN": {
        "hidden": 4,
        "n_components": 2,
        "max_steps": 8,
        "learning_rate": 1e-2,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "ScoreDetector": {
        "estimator": GaussianMixture(2, reg_covar=0.01),
        "random_state": 0,
        **ALL_ROWS,
    },
    "PWAE": {
        "network": (16, 16),
        "n_permutations": 20,
        "n_projections": 5,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "VAE": {
        "network": (16, 16),
        "latent_dim": 2,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "VQVAE": {
        "network": (16, 16),
        "n_codes": 16,
        "code_dim": 2,
        "n_parts": 1,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
    "WAE": {
        "network": (16, 16),
        "latent_dim": 2,
        "max_steps": 10,
        "batch_size": 16,
        "random_state": 0,
        "device": "cpu",
        **ALL_ROWS,
    },
}

DETECTORS = [
    thing
    for name in skgenad.__all__
    if inspect.isclass(thing := getattr(skgenad, name))
    and issubclass(thing, BaseGenerativeDetector)
]

# EVERY has those that are made of several models as well.
EVERY = [
    thing
    for name in skgenad.__all__
    if inspect.isclass(thing := getattr(skgenad, name)) and issubclass(thing, BaseDetector)
]

# Every detector, and some once more for each piece that changes what is computed or kept.
VARIANTS = [(detector.__name__, {}) for detector in DETECTORS] + [
    ("MPDR", {"energy": "scalar"}),
    ("MPDR", {"energy": Masked(pretrain_steps=10)}),
    ("MPDR", {"manifold": "identity"}),
    ("MPDR", {"manifold": Manifold((2, 3), steps=10), "replay": Replay(20)}),
    ("CANCE", {"features": "pca"}),
    ("CANCE", {"score_type": "cnce", "noise_learning_rate": 0, "validation_fraction": 0}),
    ("CANCE", {"score_type": "latent"}),
    ("CANCE", {"score_type": "error", "density_network": None, "max_steps": 1000}),
    ("CANCE", {"score_type": "cosine", "density_network": None, "max_steps": 1000}),
    ("DAGMM", {"errors": "mean", "reconstruction": "mean"}),
    ("EBM", {"sampling": "cd", "replay": None, "spectral": True}),
    ("GaussianMixtures", {"n_components": 4}),
    ("Glow", {"affine": False}),
    ("Glow", {"coupling_norm": True}),
    ("KernelDenoiser", {"bandwidth": 0.5, "factors": (1.0,)}),
    ("Mahalanobis", {"shrinkage": "auto"}),
    ("NAE", {"sampling": "pcd"}),
    ("NAE", {"distance": "l1", "latent_space": "euclidean"}),
    ("NAE", {"temperature_learning_rate": 1e-3, "visible_chain": Chain(2, metropolis=True)}),
    ("Neighbors", {"scale": "local"}),
    ("PWAE", {"combine": "sum"}),
    ("PWAE", {"combine": "pixels"}),
    ("PWAE", {"optimizer": "sgd", "validation_fraction": 0}),
    ("VAE", {"score_type": "elbo"}),
    ("VAE", {"score_type": "likelihood", "sigma": 0.5}),
    ("VQVAE", {"score_type": "latent", "n_parts": 2}),
    ("WAE", {"kernel": "imq"}),
]


def over_variants(*more, slowly=False):
    """Mark a test to run with every (name, extra) of VARIANTS, and with these names besides.

    If `slowly`, settings that are not the default ones are left to the slow tests: each detector
    is seen, and what costs many fits stays quick.
    """
    cases = [
        pytest.param(
            name,
            extra,
            id="-".join([name, *map(str, extra.values())]),
            marks=[pytest.mark.slow] if slowly and extra else [],
        )
        for name, extra in [*VARIANTS, *((name, {}) for name in more)]
    ]
    return pytest.mark.parametrize(("name", "extra"), cases)


def takes(detector, *names):
    """Tell whether a detector has constructor parameters of all these names."""
    return set(names) <= set(detector._get_param_names())


def having(*names):
    """Return the detectors that have constructor parameters of all these names."""
    found = [detector for detector in DETECTORS if takes(detector, *names)]
    assert found, f"no detector has {names}"
    return found


def tiny(detector, **parameters):
    """Make a detector (class or name) with its quick settings, some of them replaced."""
    kind = getattr(skgenad, detector) if isinstance(detector, str) else detector
    name = kind.__name__
    settings = {**TINY[name], **parameters}
    if name == "Committee" and "members" not in settings:
        settings["members"] = [("mpdr", tiny("MPDR")), ("kernel", tiny("KernelDenoiser"))]
    around_one = ("CrossCalibrated", "GroupedDetector", "PatchDetector")
    if name in around_one and "detector" not in settings:
        settings["detector"] = tiny("Mahalanobis")
    # Copies, since set_params of a nested name changes the object that was given.
    copies = {key: clone(v) if isinstance(v, Part) else v for key, v in settings.items()}
    return kind(**copies)


def normal_rows(n=60, d=4, seed=0):
    """Make rows (n, d) whose columns depend on each other and have different units."""
    rng = np.random.RandomState(seed)
    mixing = rng.randn(d, d)
    return rng.randn(n, d) @ mixing * np.logspace(-2, 3, d) + np.linspace(-5, 5, d)


def mlp_autoencoder(d, latent_dim, hidden_sizes, activation="leaky_relu", latent_space="sphere"):
    """Make an autoencoder of perceptrons for rows of `d` columns."""
    networks = Networks(Perceptrons(hidden_sizes, activation), (d,))
    return networks.autoencoder(latent_dim, latent_space)
