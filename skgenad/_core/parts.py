"""Constructor parameters that are objects with parameters of their own.

A detector's parameter such as `visible_chain` or `network` holds a :class:`Part`, a shorthand for
one (a tuple of widths, a name) or None, which is the detector's own default. Whatever it holds,
``get_params(deep=True)`` lists the fields of the part, ``set_params(visible_chain__noise=0.1)``
sets one and a grid search finds them. A field that is None is the detector's own, too, so that
``Chain(noise=0.1)`` leaves the number of steps alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator, clone

__all__ = ["Part", "Slot", "WithParts", "differs_from_default", "refuse_unused"]


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


class WithParts(BaseEstimator):
    """Base of what has constructor parameters in objects; `_parts` names them and their slots."""

    _parts: ClassVar[dict[str, Slot]] = {}

    def _slot(self, name: str) -> Slot:
        """Slot of a parameter; one whose default depends on other parameters overrides this."""
        return self._parts[name]

    def _own(self, name: str) -> Any:
        """Read what a parameter holds: shorthands become parts, and None an empty one."""
        return self._read(name, getattr(self, name))

    def _read(self, name: str, value: Any) -> Any:
        slot = self._slot(name)
        return type(slot.default)() if value is None else slot.read(value)

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
            If a field has an invalid value, or one where the detector has no use for it.
        """
        slot, part = self._slot(name), self._own(name)
        if not isinstance(part, Part):
            return part
        part._validate_params()
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
        params = super().get_params(deep=deep)
        for name in self._parts if deep else ():
            part = self._own(name)
            if part is not params[name] and isinstance(part, Part):
                params |= {f"{name}__{key}": value for key, value in part.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``<parameter>__<field>`` makes the part if there is none yet.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        self : object
            The same object.

        Raises
        ------
        ValueError
            If there is no parameter of a name.
        """
        for name in {key.partition("__")[0] for key in params if "__" in key} & self._parts.keys():
            given = params.get(name, getattr(self, name))
            part = self._read(name, given)
            if not hasattr(part, "set_params"):
                raise ValueError(
                    f"{name}={given!r} has no parameters of its own to set. Set {name} to what has "
                    f"them, such as {type(self._slot(name).default).__name__}()."
                )
            if part is not given:
                params[name] = part
        return super().set_params(**params)


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
        part = clone(self)
        if not isinstance(self, type(default)):
            return part
        for name, value in _fields(default).items():
            if getattr(part, name) is None:
                setattr(part, name, clone(value, safe=False))
        return part


def _fields(part: Any) -> dict[str, Any]:
    return part.get_params(deep=False)


def differs_from_default(estimator: BaseEstimator, name: str) -> bool:
    """Whether a constructor parameter has another value than its default."""
    default = _defaults(type(estimator))[name]
    value = getattr(estimator, name)
    return value is not default and not (type(value) is type(default) and value == default)


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
