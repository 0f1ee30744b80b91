"""Estimators of others that draw from global generators: who they are, and how they are held.

Torch, numpy and Python's ``random`` each have a generator that belongs to the whole process. An
estimator that seeds one of them changes what other threads draw. Most do not: they take their
generator from a ``random_state``. So the global ones are left alone unless the code of an estimator
says that it uses them.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import re
import sys
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn import config_context

from skgenad._core.foreign import parameters_of
from skgenad._core.reference import forget_rows
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.seeds import derived_seed, seed_unseeded, seeded
from skgenad._tensors.settings import own_settings

# Packages whose estimators draw by their `random_state`, or, as ours, take care of themselves.
_SOUND = ("abc", "builtins", "joblib", "numpy", "pandas", "scipy", "skgenad", "sklearn", "typing")
# What code looks like that draws from global generators; whatever uses torch may. scikit-learn's
# support vector machines without a `random_state` ask numpy's for a seed, and do not need it.
_GLOBAL = re.compile(
    r"^\s*(?:import|from) (?:torch|tensorflow|keras|random)\b"
    r"|\b(?:np|numpy)\.random\.(?!default_rng|mtrand)[a-z]"
    r"|\bcheck_random_state\(\s*(?:None\s*)?\)"
    r"|\b(?:OneClassSVM|SVR|NuSVR)\(",
    re.MULTILINE,
)
# Blocks that hold the global generators come one after another.
_lock = threading.RLock()


def uses_globals(estimator: Any) -> bool:
    """Whether an estimator or one of its parts may draw from global generators, or seed them."""
    return any(map(_is_written_so, {_kind(part) for part in _parts(estimator)}))


def seed_parts(estimator: Any, seed: int) -> None:
    """Seed every ``random_state`` of an estimator that is None, in lists of others as well."""
    seed_unseeded(estimator, seed)
    for number, part in enumerate(_parts(estimator)):
        own = derived_seed(seed, number)
        seed_unseeded(part, own)
        # scikit-learn's support vector machines have one that is no parameter.
        if getattr(part, "random_state", own) is None and "random_state" not in parameters_of(part):
            part.random_state = own


@contextlib.contextmanager
def own_globals(seed: int | None) -> Iterator[None]:
    """Run a block under global generators of its own and put the caller's back afterwards."""
    with _lock:
        python_state, numpy_state = random.getstate(), np.random.get_state()
        with torch.random.fork_rng():
            try:
                if seed is not None:
                    seed_globals(seed)
                yield
            finally:
                random.setstate(python_state)
                np.random.set_state(numpy_state)


def fitted_with_seeds(
    estimator: Any, seed: int, data: tuple[Any, ...], method: str
) -> tuple[Any, str]:
    """Seed an estimator, fit it to `data`, and say what calls of `method` draw from.

    Rows, the first of `data`, are numpy's, whatever those of the caller are.
    """
    seed_parts(estimator, seed)
    draws_globally = uses_globals(estimator)
    with contextlib.ExitStack() as stack:
        stack.enter_context(config_context(array_api_dispatch=False))
        if draws_globally:
            stack.enter_context(own_globals(seed))
        fitted = forget_rows(estimator.fit(*data))
        if not draws_globally:
            return fitted, "nothing"
        return fitted, chance_in(getattr(fitted, method), data[0][:2])


def seed_globals(seed: int) -> None:
    """Seed the global generators, in a block of :func:`own_globals`."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def chance_in(call: Any, *args: Any) -> str:
    """Say what a call draws from, in a block of :func:`own_globals`: "torch", or "all" of them."""
    with _torch_is_ours():
        before = _states()
        call(*args)
        return "torch" if _states() == before else "all"


@contextlib.contextmanager
def without_chance(draws_from: str) -> Iterator[None]:
    """Run a block, such as one that scores, whose draws are the same each time.

    Parameters
    ----------
    draws_from : {"nothing", "torch", "all"}
        What the block draws from. Torch's draws can be made ours for this thread alone; the other
        generators have to be held.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_settings())
        if draws_from == "all":
            stack.enter_context(own_globals(0))
        if draws_from != "nothing":
            stack.enter_context(_torch_is_ours())
        yield


@contextlib.contextmanager
def _torch_is_ours() -> Iterator[None]:
    with seeded(0), own_draws():
        yield


def _states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    torch_state = torch.random.get_rng_state().numpy().tobytes()
    return random.getstate(), np.asarray(keys).tobytes(), *rest, torch_state


def _parts(thing: Any) -> list[Any]:
    """List an estimator and what it is made of: parameters, those in lists and theirs included."""
    if isinstance(thing, list | tuple):
        return [part for item in thing for part in _parts(item)]
    if not hasattr(thing, "get_params") or isinstance(thing, type):
        return [thing] if inspect.isfunction(thing) else []
    values = parameters_of(thing).values()
    return [thing, *(part for value in values for part in _parts(value))]


def _kind(part: Any) -> Any:
    return part if inspect.isfunction(part) else type(part)


@cache
def _is_written_so(kind: Any) -> bool:
    """Whether the code of a class or function, or what it imports of its package, draws so."""
    kinds = inspect.getmro(kind) if inspect.isclass(kind) else [kind]
    left, seen = [each.__module__ for each in kinds], set()
    while left:
        name = left.pop()
        package = name.partition(".")[0]
        if name in seen or package in _SOUND:
            continue
        seen.add(name)
        try:
            module = sys.modules[name]
            source = inspect.getsource(module)
        except (KeyError, OSError, TypeError):  # code that cannot be read may do anything
            return True
        if _GLOBAL.search(source):
            return True
        for value in vars(module).values():
            used = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
            if isinstance(used, str) and used.partition(".")[0] == package and used in sys.modules:
                left.append(used)
    return False
