"""The detectors that the benchmark knows by name.

`DETECTORS` is the one place to add a name: a function of the seed that returns an unfitted
estimator with scikit-learn's signs. Imports happen in the functions, so that listing the names
imports neither pyod nor torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad._extras import require

Factory = Callable[[int], Any]

# Detectors that the command runs when none are named: each takes seconds, and the rivals are those
# that the papers compare with.
DEFAULT = (
    "Committee",
    "MPDR-R",
    "MPDR-S",
    "NAE",
    "AE",
    "IForest",
    "OCSVM",
    "KNN",
    "LOF",
    "PCA",
    "ECOD",
)


# Areas under curves need no threshold: our detectors train on all rows, as the published rows did
# before rows were held out by default.
ALL_ROWS: dict[str, Any] = {"contamination": 0.1, "calibration_fraction": 0.0}


def _ours(name: str, seed: int, **params: Any) -> Any:
    cls = getattr(importlib.import_module("skgenad"), name)
    return cls(random_state=seed, **{**ALL_ROWS, **params})


def _pyod(module: str, name: str, seed: int, **params: Any) -> Any:
    from skgenad.compat import PyODDetector
    from skgenad.compat._globals import own_globals

    cls = getattr(require(f"pyod.models.{module}", extra="bench"), name)
    with own_globals(None):  # some of pyod's constructors seed global generators
        return PyODDetector(cls(**params), random_state=seed)


def _knn_z(seed: int) -> Any:
    return make_pipeline(StandardScaler(), _pyod("knn", "KNN", seed, method="mean"))


# pyod's default settings throughout, as in ADBench; `verbose` only silences two printing networks.
DETECTORS: dict[str, Factory] = {
    "Committee": partial(_ours, "Committee"),
    "Committee-robust": partial(_ours, "Committee", members="robust"),
    "Neighbors": partial(_ours, "Neighbors"),
    "KernelDenoiser": partial(_ours, "KernelDenoiser"),
    "LocalGaussian": partial(_ours, "LocalGaussian"),
    "MPDR-R": partial(_ours, "MPDR", energy="reconstruction"),
    "MPDR-S": partial(_ours, "MPDR", energy="scalar"),
    "NAE": partial(_ours, "NAE"),
    "CANCE": partial(_ours, "CANCE"),
    "CNCE": partial(_ours, "CANCE", score_type="cnce"),
    "LatNCE": partial(_ours, "CANCE", score_type="latent"),
    "CANCE-error": partial(_ours, "CANCE", score_type="error"),
    "CANCE-PCA": partial(_ours, "CANCE", features="pca"),
    "AE": partial(_ours, "Autoencoder"),
    "EBM": partial(_ours, "EBM"),
    "VAE": partial(_ours, "VAE"),
    "VAE-L": partial(_ours, "VAE", score_type="likelihood"),
    "WAE": partial(_ours, "WAE"),
    "VQVAE": partial(_ours, "VQVAE"),
    "GANomaly": partial(_ours, "GANomaly"),
    "Glow": partial(_ours, "Glow"),
    "NSF": partial(_ours, "NormalizingFlow"),
    "Mahalanobis": partial(_ours, "Mahalanobis"),
    "GMM": partial(_ours, "GaussianMixtures"),
    "DAGMM": partial(_ours, "DAGMM"),
    "IForest": partial(_pyod, "iforest", "IForest"),
    "OCSVM": partial(_pyod, "ocsvm", "OCSVM"),
    "CBLOF": partial(_pyod, "cblof", "CBLOF"),
    "COF": partial(_pyod, "cof", "COF"),
    "COPOD": partial(_pyod, "copod", "COPOD"),
    "ECOD": partial(_pyod, "ecod", "ECOD"),
    "HBOS": partial(_pyod, "hbos", "HBOS"),
    "KNN": partial(_pyod, "knn", "KNN"),
    "LOF": partial(_pyod, "lof", "LOF"),
    "PCA": partial(_pyod, "pca", "PCA"),
    "SOD": partial(_pyod, "sod", "SOD"),
    "DeepSVDD": partial(_pyod, "deep_svdd", "DeepSVDD", n_features=1, verbose=0),
    "kNN-z": _knn_z,
    "LUNAR": partial(_pyod, "lunar", "LUNAR"),
    "pyod-AE": partial(_pyod, "auto_encoder", "AutoEncoder", verbose=0),
}

OURS = tuple(
    name for name, make in DETECTORS.items() if isinstance(make, partial) and make.func is _ours
)


def list_detectors() -> list[str]:
    """Return the names that `run_benchmark` and ``--detectors`` understand.

    Returns
    -------
    names : list of str
        Ours first (``"VAE"`` scores by reconstruction, ``"VAE-L"`` by likelihood; ``"CNCE"``,
        ``"LatNCE"`` and ``"CANCE-error"`` are ablations of ``"CANCE"``; ``"NSF"`` is
        ``NormalizingFlow`` and needs the extra ``flows``, ``"GMM"`` is ``GaussianMixtures``), then
        those of the paper's Table 6, then three more baselines: ``"kNN-z"`` is the mean distance to
        5 neighbours on standardised columns, ``"LUNAR"`` a network on the distances to neighbours,
        ``"pyod-AE"`` pyod's autoencoder.

    Examples
    --------
    >>> from skgenad.benchmark import list_detectors
    >>> "MPDR-R" in list_detectors()
    True
    """
    return list(DETECTORS)


def choose(names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """Return the names without repetitions, or raise an error that lists the valid ones."""
    known, chosen = list(known), list(dict.fromkeys(names))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(
            f"unknown {what}: {', '.join(map(repr, unknown))}; choose from {', '.join(known)}"
        )
    if not chosen:
        raise ValueError(f"no {what} named; choose from {', '.join(known)}")
    return chosen
