"""The settings of a detector as text, and whether two texts mean the same detector.

The text holds every parameter, so that a default that changes is noticed. Two texts are compared
on what differs from the defaults of the package that reads them: a new parameter at a default that
changes nothing leaves old rows valid.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import numpy as np

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def describe_settings(estimator: Any) -> str:
    """Write every parameter of an estimator but its random states as JSON, nested ones too.

    Parameters
    ----------
    estimator : estimator
        With `get_params`. A parameter that is an estimator is written as the name of its class;
        its own parameters follow under names with ``__``. One that is None or a short form, such
        as a tuple in place of a network, is written as it is.

    Returns
    -------
    text : str
        JSON, sorted by name.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgenad.benchmark._settings import describe_settings
    >>> describe_settings(StandardScaler(with_std=False))
    '{"copy": true, "with_mean": true, "with_std": false}'
    """
    params = _owned(estimator.get_params(deep=True))
    return json.dumps(_described(params), sort_keys=True)


def changed_settings(text: str, estimator: Any) -> dict[str, Any]:
    """Return the settings in a text that are not the defaults of an estimator's classes.

    Parameters
    ----------
    text : str
        What `describe_settings` returned, perhaps with an older version of the package.
    estimator : estimator
        Its classes and those of its parameters say what the defaults are.

    Returns
    -------
    changed : dict
        Names and values, as JSON has them.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgenad.benchmark._settings import changed_settings
    >>> changed_settings('{"copy": true, "with_std": false}', StandardScaler())
    {'with_std': False}
    """
    defaults = _defaults(estimator)
    missing = object()
    return {
        name: value
        for name, value in json.loads(text).items()
        if (default := defaults.get(name, missing)) is missing or not _equal(value, default)
    }


def same_settings(text: str, estimator: Any) -> bool:
    """Say whether a text describes an estimator, as far as the package that reads it can tell.

    Parameters
    ----------
    text : str
        What `describe_settings` returned, perhaps with an older version of the package.
    estimator : estimator
        What is to be fitted now.

    Returns
    -------
    same : bool
        Whether both differ from the defaults by the same.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgenad.benchmark._settings import same_settings
    >>> same_settings('{"with_std": true}', StandardScaler())
    True
    """
    now = changed_settings(describe_settings(estimator), estimator)
    return _equal(changed_settings(text, estimator), now)


def _equal(one: Any, other: Any) -> bool:
    """Compare as JSON, where 1 and 1.0 and true are three values and NaN equals itself."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _defaults(estimator: Any) -> dict[str, Any]:
    """Describe the defaults of an estimator's class and of the classes of its parameters."""
    found = _class_defaults(estimator)
    for path, value in estimator.get_params(deep=True).items():
        if _is_estimator(value):
            inner = _class_defaults(value)
            found |= {f"{path}__{name}": default for name, default in inner.items()}
    return _described(found)


def _class_defaults(estimator: Any) -> dict[str, Any]:
    parameters = inspect.signature(type(estimator).__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _owned(params: dict[str, Any]) -> dict[str, Any]:
    """Leave out nested parameters whose owner is no estimator.

    Their owner is None or a short form of an estimator, whose text says as much as they do.
    """
    owners = {"", *(name for name, value in params.items() if _is_estimator(value))}
    return {name: value for name, value in params.items() if name.rpartition("__")[0] in owners}


def _is_estimator(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)


def _described(params: dict[str, Any]) -> dict[str, Any]:
    """Turn parameters, except random states, into values that JSON can hold."""
    params = {k: v for k, v in params.items() if not k.endswith("random_state")}
    text = json.dumps(params, sort_keys=True, default=_describe_value)
    return json.loads(_ADDRESS.sub("", text))


def _describe_value(value: Any) -> Any:
    if _is_estimator(value):
        return type(value).__name__  # its parameters are listed as entries of their own
    if isinstance(value, np.generic):
        return value.item()
    return repr(value)
