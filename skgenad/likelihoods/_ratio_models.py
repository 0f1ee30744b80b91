"""What a likelihood ratio asks its two models: what kind they are, and what it is the ratio of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skgenad._core.detector import BaseGenerativeDetector

from .glow import scale_of

# Log densities that are not finite are replaced by this number (S4.5).
NON_FINITE = -3_000_000.0


def is_frozen(model: Any) -> bool:
    """Whether a model is the user's own, and stays as it is."""
    return isinstance(model, FrozenEstimator)


def unwrapped(model: Any) -> Any:
    """Return a model without the wrapper that keeps it as it is."""
    return model.estimator if is_frozen(model) else model


def is_trained(model: Any) -> bool:
    """Whether gradients train the model."""
    return isinstance(model, BaseGenerativeDetector) and model.trained_by_gradients


def untrained(name: str, model: Any, wish: str) -> str:
    """Say why a model cannot be trained as was wished."""
    kind = type(unwrapped(model)).__name__
    state = "frozen" if is_frozen(model) else "not trained by gradients"
    return (
        f"{wish} is a part of training, but {name} is a {kind}, which is {state}. Use a detector "
        "that is trained, as VAE(), or leave it out."
    )


def finite(log_density: NDArray) -> NDArray:
    """Replace what is not finite, and nothing else."""
    return np.where(np.isfinite(log_density), log_density, NON_FINITE)


def check_scales(score_type: str | int, specific: Any, general: Any) -> None:
    """Raise ValueError if two models, fitted or not, have no such scale to compare."""
    if score_type == "likelihood":
        return
    numbers: list[Any] = []
    for name, model in (("detector", unwrapped(specific)), ("general", unwrapped(general))):
        if not hasattr(model, "scale_contributions"):
            raise ValueError(
                f"score_type={score_type!r} is the ratio of what a scale adds to likelihoods, but "
                f"{name} is a {type(model).__name__}, which has no scale_contributions. Use Glow "
                "for images, or score_type='likelihood'."
            )
        module = getattr(model, "module_", None)
        numbers.append(getattr(module, "n_scales", getattr(model, "_number_of_scales", None)))
    if None in numbers:  # a model of the user's is asked when it is fitted
        return
    scale_of(score_type, numbers[0])
    if numbers[0] != numbers[1]:
        raise ValueError(
            f"score_type={score_type!r} compares scales, but detector has {numbers[0]} of them and "
            f"general {numbers[1]}. Give both the same number."
        )


def log_term(model: Any, X: Any, score_type: str | int) -> NDArray:
    """Log densities (n,) of rows under a model, or what a scale adds to them; float64."""
    if score_type == "likelihood":
        return np.asarray(model.log_density(X), dtype=np.float64)
    parts = np.asarray(model.scale_contributions(X), dtype=np.float64)
    return parts[:, scale_of(score_type, parts.shape[1])]
