"""Checks of constructor parameters, those that scikit-learn keeps private among them.

scikit-learn offers its constraints to packages like this one without making them public: this is
the one module that imports them, and the trees of its forests, which files take apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from sklearn.base import _fit_context as fit_context
from sklearn.tree._tree import Tree
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition

__all__ = [
    "BaseComposition",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "Tree",
    "check_bounds",
    "check_noise",
    "check_pair",
    "check_sizes",
    "fit_context",
    "validate_parameter_constraints",
]


def check_sizes(name: str, sizes: Sequence[int], least: int = 0) -> None:
    """Raise ValueError unless `sizes` holds at least `least` integers, each at least 1."""
    if len(sizes) < least or not all(isinstance(v, Integral) and v >= 1 for v in sizes):
        some = f"{least} or more integers" if least else "integers"
        raise ValueError(f"{name}={sizes!r} must hold {some} of at least 1.")


def check_pair(name: str, pair: Sequence[float]) -> tuple[float, float]:
    """Return (low, high); raise ValueError unless `pair` is two numbers in this order."""
    numbers = len(pair) == 2 and all(isinstance(v, Real) for v in pair)
    if not numbers or not pair[0] <= pair[1]:  # NaN fails the comparison
        raise ValueError(f"{name}={pair!r} must be two numbers, the lower first.")
    return float(pair[0]), float(pair[1])


def check_noise(name: str, noise: float | Sequence[float]) -> float | tuple[float, float]:
    """Return a standard deviation, or an interval of them; raise ValueError unless it is above 0.

    A single number is checked by the constraints of the parameter.
    """
    if isinstance(noise, Real):
        return float(noise)
    low, high = check_pair(name, noise)  # type: ignore[arg-type]
    if not 0 < low <= high < math.inf:
        raise ValueError(f"{name}={noise!r} must be finite and above 0.")
    return low, high


def check_bounds(bounds: str | Sequence[float] | None) -> None:
    """Raise ValueError unless bounds of chains are a name, None or two numbers in order."""
    if bounds is not None and not isinstance(bounds, str):
        check_pair("bounds", bounds)
