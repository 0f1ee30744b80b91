"""Generative anomaly detection for scikit-learn."""

from skgenad._core.callbacks import DivergenceWarning
from skgenad._core.checkpoints import CheckpointFolder
from skgenad._core.saving import load, save
from skgenad._core.sentinels import DataWarning
from skgenad._core.stopping import EarlyStopping
from skgenad._core.versions import InconsistentVersionWarning
from skgenad._version import __version__ as __version__
from skgenad.aggregation.grouped_detector import GroupedDetector
from skgenad.aggregation.patch_detector import PatchDetector
from skgenad.autoencoders.autoencoder import Autoencoder
from skgenad.autoencoders.cance import CANCE
from skgenad.autoencoders.dagmm import DAGMM
from skgenad.autoencoders.ganomaly import GANomaly
from skgenad.autoencoders.pwae import PWAE
from skgenad.autoencoders.vae import VAE
from skgenad.autoencoders.vqvae import VQVAE
from skgenad.autoencoders.wae import WAE
from skgenad.committee.committee import Committee
from skgenad.committee.cross_calibrated import CrossCalibrated
from skgenad.energies.ebm import EBM
from skgenad.energies.mpdr import MPDR
from skgenad.energies.nae import NAE
from skgenad.likelihoods.gaussian_mixtures import GaussianMixtures
from skgenad.likelihoods.glow import Glow
from skgenad.likelihoods.likelihood_ratio import LikelihoodRatio
from skgenad.likelihoods.mahalanobis import Mahalanobis
from skgenad.likelihoods.normalizing_flow import NormalizingFlow
from skgenad.likelihoods.pixelcnn import PixelCNN
from skgenad.neighbors.kernel_denoiser import KernelDenoiser
from skgenad.neighbors.local_gaussian import LocalGaussian
from skgenad.neighbors.neighbors import Neighbors

__all__ = [
    "CANCE",
    "DAGMM",
    "EBM",
    "MPDR",
    "NAE",
    "PWAE",
    "VAE",
    "VQVAE",
    "WAE",
    "Autoencoder",
    "CheckpointFolder",
    "Committee",
    "CrossCalibrated",
    "DataWarning",
    "DivergenceWarning",
    "EarlyStopping",
    "GANomaly",
    "GaussianMixtures",
    "Glow",
    "GroupedDetector",
    "InconsistentVersionWarning",
    "KernelDenoiser",
    "LikelihoodRatio",
    "LocalGaussian",
    "Mahalanobis",
    "Neighbors",
    "NormalizingFlow",
    "PatchDetector",
    "PixelCNN",
    "load",
    "save",
]
