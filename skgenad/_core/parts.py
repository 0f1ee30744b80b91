"""Constructor parameters that are objects with parameters of their own.

A detector's parameter such as `visible_chain` or `network` holds a :class:`Part`, a shorthand for
one (a tuple of widths, a name) or None, which is the detector's own default. Whatever it holds,
``get_params(deep=True)`` lists the fields of the part, ``set_params(visible_chain__noise=0.1)``
sets one and a grid search finds them. A field that is None is the detector's own, too, so that
``Chain(noise=0.1)`` leaves the number of steps alone.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

from .checks import CheckedParameters

__all__ = ["Part", "Slot", "WithParts", "copied", "differs_from_default", "refuse_unused"]


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Slot:
    """What a constructor parameter that takes a part holds unless it is given one.

    Parameters
    ----------
    default : Part
        The detector's own: its fields fill those that are None in a part of the same class.
    read : callable, default=identity
        Maps a shorthand to a new part, and anything else to itself.
    without : tuple of str, default=()
        Fields of the part that this detector has no use for; it refuses a value for them.
    """

    default: Part
    read: Callable[[Any], Any] = _as_it_is
    without: tuple[str, ...] = ()


class WithParts(CheckedParameters):
    """Base of what has constructor parameters in objects; `_parts` names them and their slots."""

    _parts: ClassVar[dict[str, Slot]] = {}

    def _slot(self, name: str) -> Slot:
        """Slot of a parameter; one whose default depends on other parameters overrides this."""
        return self._parts[name]

    def _read(self, name: str, value: Any) -> Any:
        """Read a value of a parameter: shorthands become parts, and None an empty one."""
        slot = self._slot(name)
        return type(slot.default)() if value is None else slot.read(value)

    def _own(self, name: str) -> Any:
        """Read what a parameter holds."""
        return self._read(name, getattr(self, name))

    def part(self, name: str) -> Any:
        """Part that a parameter asks for, its fields checked and those left None filled in.

        Parameters
        ----------
        name : str
            Name of the constructor parameter.

        Returns
        -------
        part : Part or object
            A new part; what is none, such as a factory of the user's, as it is.

        Raises
        ------
        ValueError
            If the parameter holds a class in place of an object, or a field has an invalid value,
            or one where the detector has no use for it.
        """
        slot, part = self._slot(name), self._own(name)
        if isinstance(part, type) and issubclass(part, Part):
            raise ValueError(
                f"{name}={part.__name__} is a class: pass an object, such as {part.__name__}()."
            )
        if not isinstance(part, Part):
            return part
        try:
            part._validate_params()
        except ValueError as error:
            raise type(error)(f"{name}={getattr(self, name)!r}: {error}") from None
        for field in slot.without:
            if getattr(part, field, None) is not None:
                raise ValueError(
                    f"{name}={part!r}: {type(self).__name__} has no use for {field} there. Leave "
                    "it None."
                )
        return part.filled(slot.default)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, those of parts included, whether or not they are given.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list the parameters of parts as ``<parameter>__<field>``.

        Returns
        -------
        params : dict
            Values by name; None is the detector's own.
        """
        params = super().get_params(deep=False)
        for name, value in list(params.items()) if deep else ():
            held = self._own(name) if name in self._parts else value
            if hasattr(held, "get_params") and not isinstance(held, type):
                params |= {f"{name}__{key}": field for key, field in held.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``<parameter>__<field>`` makes the part if there is none yet.

        A part that was given is not changed: a copy with the new fields takes its place.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        self : object
            The same object; as it was if a name or an object is refused.

        Raises
        ------
        ValueError
            If there is no parameter of a name.
        """
        flat = dict(params)
        nested: dict[str, dict[str, Any]] = defaultdict(dict)
        for key in params:
            name, _, field = key.partition("__")
            if field and name in self._parts:
                nested[name][field] = flat.pop(key)
        before = super().get_params(deep=False)
        try:
            super().set_params(**flat)
            for name, fields in nested.items():
                setattr(self, name, self._with_fields(name, fields))
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise
        return self

    def _with_fields(self, name: str, fields: dict[str, Any]) -> Any:
        """Return what a parameter holds with some fields set; None if it is None and they are."""
        given = getattr(self, name)
        part = self._read(name, given)
        if isinstance(part, type) or not hasattr(part, "set_params"):
            raise ValueError(
                f"{name}={given!r} has no parameters of its own to set. Set {name} to what has "
                f"them, such as {type(self._slot(name).default).__name__}()."
            )
        if not isinstance(part, Part):  # an estimator of the user's, which is set as usual
            return part.set_params(**fields)
        part = copy.copy(part).set_params(**fields)._unbound()
        return None if given is None and part == self._read(name, None) else part


class Part(WithParts):
    """Base of parameter objects: they store their parameters and say how they are to be checked."""

    _parameter_constraints: ClassVar[dict] = {}
    _registry: ClassVar[dict[str, type[Part]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Files may name the parts of this package, but no class that a user derives from them.
        if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
            cls._registry[cls.__name__] = cls

    def __eq__(self, other: object) -> bool:
        # Detectors are compared by the values of their parameters, so parts must be, too.
        return type(self) is type(other) and _fields(self) == _fields(other)

    # A part can be changed, and what can be changed must not be hashed.
    __hash__ = None  # type: ignore[assignment]

    def _unbound(self) -> Self:
        """Forget what the part knows of its owner, if anything, before it is stored."""
        return self

    def filled(self, default: Part) -> Self:
        """Return a copy whose fields that are None are those of `default`, if that has them.

        Parameters
        ----------
        default : Part
            Whose fields to take: of this part's class or one that it derives from.

        Returns
        -------
        part : Part
            New; its own parts are copies, too.
        """
        part = copied(self)
        if not isinstance(self, type(default)):
            return part
        for name, value in _fields(default).items():
            if getattr(part, name) is None:
                setattr(part, name, copied(value))
        return part


def _fields(part: Any) -> dict[str, Any]:
    return part.get_params(deep=False)


def copied(value: Any) -> Any:
    """Copy parts, lists and tuples, and what is in them; keep objects of the user's themselves."""
    if isinstance(value, Part):
        return type(value)(**{name: copied(field) for name, field in _fields(value).items()})
    return type(value)(map(copied, value)) if type(value) in (list, tuple) else value


def differs_from_default(estimator: BaseEstimator, name: str) -> bool:
    """Whether a constructor parameter has another value than its default.

    A list is the tuple of its items, a number the same number of any type, and a part without a
    field that is set None.
    """
    return not _is_same(getattr(estimator, name), _defaults(type(estimator))[name])


def _is_same(value: Any, other: Any) -> bool:
    if isinstance(value, Part) and other is None:
        return value == type(value)()
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_is_same, value, other))
    truths = [isinstance(v, bool | np.bool_) for v in (value, other)]
    if isinstance(value, Real | np.bool_) and isinstance(other, Real | np.bool_):
        return truths[0] == truths[1] and bool(value == other)
    return value is other or (type(value) is type(other) and value == other)


def _defaults(cls: type) -> dict[str, Any]:
    parameters = inspect.signature(cls).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def refuse_unused(estimator: BaseEstimator, names: tuple[str, ...], why: str) -> None:
    """Raise ValueError if one of the parameters was set, since none of them would change a thing.

    Parameters
    ----------
    estimator : BaseEstimator
        Whose parameters.
    names : tuple of str
        Parameters without effect.
    why : str
        What makes them so, such as "features='pca' has no network to train".
    """
    for name in names:
        if differs_from_default(estimator, name):
            raise ValueError(
                f"{name}={getattr(estimator, name)!r} would be ignored: {why}. Leave it "
                f"{_defaults(type(estimator))[name]!r}."
            )
