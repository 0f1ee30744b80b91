"""The members of a committee that was given none."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import IsolationForest

from skgenad.likelihoods.mahalanobis import Mahalanobis
from skgenad.neighbors.kernel_denoiser import KernelDenoiser
from skgenad.neighbors.neighbors import Neighbors

# A member's own threshold has no part in the committee's, which needs no rows held out for it.
_NO_THRESHOLD: dict[str, Any] = {"contamination": 0.1, "calibration_fraction": 0.0}


def default_members() -> list[tuple[str, Any]]:
    """Members of ``Committee(members=None)``, unfitted."""
    return [
        ("neighbors", Neighbors(**_NO_THRESHOLD)),
        ("nearest", Neighbors(n_neighbors=1, standardize="mixed", **_NO_THRESHOLD)),
        ("local", Neighbors(scale="local", **_NO_THRESHOLD)),
        ("kernel", KernelDenoiser(standardize="mixed", **_NO_THRESHOLD)),
    ]


def robust_members() -> list[tuple[str, Any]]:
    """Members of ``Committee(members="robust")``, unfitted.

    None of them can be talked into a small cluster of anomalies, as those with a scale of the
    neighbourhood's own are.
    """
    return [
        ("neighbors", Neighbors(**_NO_THRESHOLD)),
        ("wide", Neighbors(n_neighbors=20, **_NO_THRESHOLD)),
        ("distance", Mahalanobis(**_NO_THRESHOLD)),
        ("forest", IsolationForest()),
    ]
