"""How much work the parameters of estimators of others make of one row, before a row is tried.

Most estimators do as much as their fitted arrays are large, which a file has to hold. Of these the
parameters decide, and a file of a few bytes could ask for hours and for all memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# The most numbers that a row becomes on the way, and the most rounds of a loop.
_MOST_NUMBERS, _MOST_ROUNDS = 2**20, 2**12


def excess(value: Any) -> str | None:
    """Say which parameter of an estimator asks for too much, or not for what was fitted."""
    for base in type(value).__mro__:
        for problem in _WORK.get(base.__name__, _nothing)(value):
            return f"{type(value).__name__} with {problem}"
    return None


def _nothing(value: Any) -> Iterator[str]:
    yield from ()


def _bounded(value: Any, name: str, most: int) -> Iterator[str]:
    if getattr(value, name) > most:
        yield f"{name} above {most}"


def _sketch(value: Any) -> Iterator[str]:
    """Hashes are places among the components, of which each degree has its own."""
    yield from _bounded(value, "degree", _MOST_ROUNDS)
    yield from _bounded(value, "n_components", _MOST_NUMBERS // value.degree)
    if "indexHash_" not in vars(value):
        return
    places, signs = value.indexHash_, vars(value).get("bitHash_")
    shape = (value.degree, value.n_features_in_ + (value.coef0 != 0))
    arrays = all(isinstance(array, np.ndarray) for array in (places, signs))
    fits = (
        arrays
        and places.shape == signs.shape == shape
        and places.dtype.kind == signs.dtype.kind == "i"
        and ((places >= 0) & (places < value.n_components)).all()
    )
    if not fits or vars(value).get("_n_features_out") != value.n_components:
        yield "hashes of other components"


def _samples(value: Any) -> Iterator[str]:
    n_features = vars(value).get("n_features_in_", 1)
    yield from _bounded(
        value, "sample_steps", min(_MOST_ROUNDS, max(3, _MOST_NUMBERS // n_features))
    )


# By the names of classes.
_WORK: dict[str, Callable[[Any], Iterator[str]]] = {
    "AdditiveChi2Sampler": _samples,
    "NMF": lambda value: _bounded(value, "max_iter", 2**17),
    "PolynomialCountSketch": _sketch,
}
