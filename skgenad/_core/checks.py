"""Checks of constructor parameters, those that scikit-learn keeps private among them.

scikit-learn offers its constraints to packages like this one without making them public: this is
the one module that imports them, and the trees of its forests, which files take apart.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.tree._tree import Tree
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition

__all__ = [
    "BaseComposition",
    "CheckedParameters",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "Tree",
    "as_before",
    "check_bounds",
    "check_noise",
    "check_pair",
    "check_parameter",
    "check_sizes",
    "fit_context",
    "takes_no_weights",
]

_Fit = TypeVar("_Fit", bound=Callable[..., Any])

# What is written for parameters whose types do not tell their form.
_EXAMPLES = {
    "bounds": "(0, 1)",
    "image_shape": "(1, 28, 28)",
    "members": "[('mpdr', MPDR()), ('neighbors', Neighbors())]",
    "noise_range": "(0.05, 0.3)",
}
# What others take for a seed.
_GENERATORS = (
    *(np.random.Generator, np.random.BitGenerator, np.random.SeedSequence, torch.Generator),
)


def takes_no_weights(fit: _Fit) -> _Fit:
    """Decorate a `fit` to say that it takes no weights.

    Its signature stays what it is, by which others see whether weights are taken.
    """

    @wraps(fit)
    def refusing(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        if "sample_weight" in kwargs:
            raise TypeError(
                f"{type(estimator).__name__}.{fit.__name__} takes no sample_weight: every row "
                "counts once. Leave out rows that should not count, or draw rows by their "
                "weights: X[numpy.random.default_rng(0).choice(len(X), len(X), p=w / w.sum())]."
            )
        return fit(estimator, *args, **kwargs)

    return cast(_Fit, refusing)


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Fit], _Fit]:
    """Decorate a `fit` as scikit-learn's own does, and as :func:`takes_no_weights`."""
    checked = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
    return lambda fit: takes_no_weights(checked(fit))


class CheckedParameters(BaseEstimator):
    """An estimator whose errors of parameters say what to write in the place of what was given."""

    _parameter_constraints: ClassVar[dict]

    def _validate_params(self) -> None:
        owner = type(self).__name__
        for name, value in self.get_params(deep=False).items():
            allowed = self._parameter_constraints.get(name)
            if allowed is None:
                continue
            check_parameter(allowed, name, value, owner)


def check_parameter(allowed: Any, name: str, value: Any, owner: str) -> None:
    """Raise InvalidParameterError, with what to write, unless a value meets its constraints."""
    problem = _problem(allowed, name, value, owner)
    if problem is not None:
        raise InvalidParameterError(problem + _advice(allowed, name, value, owner))


def _problem(allowed: Any, name: str, value: Any, owner: str) -> str | None:
    """Say what is wrong with a parameter; a switch is no number, though Python counts with it."""
    if isinstance(value, bool) and isinstance(allowed, list):
        others = [constraint for constraint in allowed if not isinstance(constraint, Interval)]
        if len(others) < len(allowed) and (not others or _problem(others, name, value, owner)):
            return f"The {name!r} parameter of {owner} must be no bool. Got {value!r} instead."
    if isinstance(value, Real) and not isinstance(value, float | Integral | np.floating):
        # Such as fractions, which torch and numpy do not count with.
        return (
            f"The {name!r} parameter of {owner} must be no {type(value).__name__}. Got {value!r}."
        )
    try:
        validate_parameter_constraints({name: allowed}, {name: value}, owner)
    except InvalidParameterError as error:
        return str(error)
    return None


def _advice(allowed: Any, name: str, value: Any, owner: str) -> str:
    """Say what to write: the first of the forms near to a value that would be taken, if any."""
    if name in _EXAMPLES:
        return f" Write, for example, {name}={_EXAMPLES[name]}."
    if list in allowed and (hasattr(value, "on_train_begin") or callable(value)):
        thing = value if hasattr(value, "__name__") else type(value)
        is_class = thing is not value or isinstance(value, type)
        return f" Write {name}=[{thing.__name__}{'(...)' if is_class else ''}]."
    for form in _forms(value, allowed):
        if _problem(allowed, name, form, owner) is None:
            return f" Write {name}={form!r}."
    return ""


def _forms(value: Any, allowed: Any) -> Iterator[Any]:
    """Other forms of what a value may mean."""
    kinds = list(_public(allowed))
    if isinstance(value, torch.device):
        yield str(value)
    elif isinstance(value, _GENERATORS):
        yield 0
    elif value is None:
        yield "auto"
    elif isinstance(value, np.ndarray | np.generic | torch.Tensor):
        plain = value.tolist()
        yield tuple(plain) if isinstance(plain, list) else plain
    elif isinstance(value, str):
        with suppress(ValueError):
            yield int(value)
        with suppress(ValueError):
            yield float(value)
    elif isinstance(value, dict):
        for kind in kinds:
            if set(value) <= set(kind._get_param_names()):
                yield kind(**value)
    elif isinstance(value, Sequence):
        yield tuple(value)
        if len(value) == 1:
            yield value[0]
    elif isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError):  # of infinity, and of NaN
            if not isinstance(value, float):
                yield float(value)
            whole = int(float(value))
            if value == whole:
                yield whole
            if value != whole or whole >= 1:
                yield (whole if value == whole else value,)
    for kind in kinds:
        with suppress(TypeError):
            yield kind()


def _public(allowed: Any) -> Iterator[Any]:
    """Classes among constraints that users can import; of a private base those that derive."""
    for kind in allowed:
        if isinstance(kind, type) and issubclass(kind, BaseEstimator):
            if _is_public(kind):
                yield kind
            else:
                yield from _public(kind.__subclasses__())


def _is_public(kind: type) -> bool:
    package = __name__.partition(".")[0]
    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == package]
    return any(
        kind.__name__ in getattr(module, "__all__", ())
        and getattr(module, kind.__name__, None) is kind
        for module in modules
        if "._" not in module.__name__
    )


@contextmanager
def as_before(estimator: Any) -> Iterator[None]:
    """Run a fit; if it does not end well, nothing of the estimator has changed."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        # In this order nothing is missing meanwhile, which another thread may score by.
        estimator.__dict__.update(before)
        for name in estimator.__dict__.keys() - before.keys():
            del estimator.__dict__[name]
        raise


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
