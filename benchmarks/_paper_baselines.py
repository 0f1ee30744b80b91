"""Detectors that NAE's Tables 1 to 4 compare with, at a size for two CPU cores and at the paper's.

The paper names its own settings in part (appendix D.4): one architecture for all autoencoders, the
noise of DAE, PixelCNN++ of 5 blocks of 80 channels, a flow of 12 steps of 64 channels at one scale,
WAE with the median heuristic and a weight from .001 to .1. "VAE" is its VAE(R), "VAE-L" VAE(L) with
an importance-weighted bound in place of one draw; "EBM" is IGEBM. The paper chooses a latent
dimension for each by another set of anomalies; here it is that of the autoencoder beside them.
"""

from __future__ import annotations

from typing import Any

from skgenad import DAGMM, EBM, VAE, VQVAE, WAE, Autoencoder, GANomaly, Glow, PixelCNN
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.energies import Chain

# Quick ones first, so that a run that is cut short has whole rows.
AUTOENCODERS = ("DAE", "WAE", "VQVAE", "VAE", "VAE-L", "DAGMM", "GANomaly")
OTHERS = ("Glow", "PixelCNN", "EBM")
PAPER_BASELINES = (*AUTOENCODERS, *OTHERS)
# What a method has beyond the settings of an autoencoder.
_OWN: dict[str, tuple[type, dict[str, Any]]] = {
    "DAE": (Autoencoder, {"input_noise": 0.3}),
    "WAE": (WAE, {}),
    # Its parts have the dimension of the others' latent space together.
    "VQVAE": (VQVAE, {"n_codes": 64, "n_parts": 8}),
    "VAE": (VAE, {}),
    "VAE-L": (VAE, {"score_type": "likelihood"}),
    # A mixture of as many dimensions as the others' latent space would have more numbers than rows.
    "DAGMM": (DAGMM, {"latent_dim": 4}),
    "GANomaly": (GANomaly, {}),
}
_SMALL: dict[str, dict[str, Any]] = {
    "Glow": {"n_couplings": 4, "hidden": 32, "max_steps": 300, "batch_size": 64},
    "PixelCNN": {"hidden": 8, "max_steps": 300, "batch_size": 32},
    "EBM": {"visible_chain": Chain(10, step_size=10.0, noise=0.005), "max_steps": 200},
}
_FULL: dict[str, dict[str, Any]] = {
    "Glow": {"n_couplings": 12, "hidden": 64, "max_steps": 12_660},
    "PixelCNN": {"hidden": 80, "n_blocks": 5, "max_steps": 12_660},
    "EBM": {
        "visible_chain": Chain(60, step_size=10.0, noise=0.005),
        "max_steps": 12_660,
        "learning_rate": 1e-4,
    },
}


def paper_baseline(method: str, size: str, seed: int, autoencoder: dict[str, Any]) -> Any:
    """Make one of `PAPER_BASELINES`.

    Parameters
    ----------
    method : str
        Its name.
    size : {"small", "full"}
        Of two CPU cores, or of a GPU.
    seed : int
        Its seed.
    autoencoder : dict
        Shape of the images, network, latent dimension, steps and rate of autoencoders.
    """
    settings = {"random_state": seed, **ALL_ROWS}
    if method in AUTOENCODERS:
        kind, own = _OWN[method]
        settings = {**settings, **autoencoder, **own}
        if kind is VQVAE:
            settings["code_dim"] = settings.pop("latent_dim") // own["n_parts"]
        return kind(**settings)
    settings |= (_SMALL if size == "small" else _FULL)[method]
    settings["image_shape"] = autoencoder["image_shape"]
    if method == "Glow":
        return Glow(n_scales=1, **settings)
    if method == "PixelCNN":
        return PixelCNN(**settings)
    return EBM(network=autoencoder["network"], spectral=True, energy_penalty=1.0, **settings)
