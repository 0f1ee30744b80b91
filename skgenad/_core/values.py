"""Values of parameters and attributes as JSON and arrays, and back: no code, no names of modules.

JSON has numbers, strings, lists and dicts with names for keys. All else is a dict with one key that
says what it is, such as ``{"tuple": [1, 2]}``. Large numbers of numbers are arrays beside the JSON.

Numbers are finite, but where a file says that one is not, or that an array has some: parameters
such as ``SimpleImputer(missing_values=nan)`` are NaN by right, and damage or malice is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .files import Stored
from .foreign import COMPILED, rebuild_estimator, require, state_of
from .parts import Part
from .registry import brief, class_of, key_of, name_of

# Parameters of training alone, which neither a file nor a fitted detector keeps.
NOT_KEPT = ("callbacks",)
# Kinds of numpy types that arrays in files may have.
NUMBERS = "biuf"
# Types that are parameters, by the names of files: `OneHotEncoder(dtype=float)`.
_TYPES = {kind.__name__: kind for kind in (bool, float, int, object, str)} | {
    **{f"numpy.{np.dtype(code).name}": np.dtype(code).type for code in "?bBhHiIlLefd"},
    **{f"numpy.{kind.__name__}": kind for kind in (np.floating, np.integer, np.number)},
}
_SPARSE = {
    f"{form}_{kind}": getattr(sparse, f"{form}_{kind}")
    for form in ("csc", "csr")
    for kind in ("array", "matrix")
}


# ---- there --------------------------------------------------------------------------------


class Packer:
    """Makes JSON of values, and collects their arrays by names that say where they were.

    Parameters
    ----------
    models : bool, default=True
        Whether values may be estimators.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Arrays so far.
    """

    def __init__(self, *, models: bool = True) -> None:
        self.models = models
        self.arrays: dict[str, NDArray] = {}

    def parameter(self, place: str, value: Any) -> Any:
        """JSON form of a parameter of ours: numbers are Python's, and arrays of them lists."""
        if type(value) in (list, tuple):
            items = [self.parameter(at, item) for at, item in _places(place, value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, np.ndarray) and value.dtype.kind in NUMBERS:  # comes back as a list
            return value.tolist()
        if isinstance(value, np.bool_):
            return bool(value)
        if isinstance(value, Integral | Real) and not isinstance(value, bool):
            value = int(value) if isinstance(value, Integral) else float(value)
        return self.pack(place, value)

    def pack(self, place: str, value: Any) -> Any:
        """JSON form of any value.

        Raises
        ------
        TypeError
            If it is none that files hold.
        """
        kind = type(value)
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if value is None or kind in (bool, int, str):
            return value
        if kind is list:
            return [self.pack(at, item) for at, item in _places(place, value)]
        for kinds, marker, write in _WRITERS:
            if isinstance(value, kinds):
                written = write(self, place, value)
                if written is not None:
                    return {marker: written}
        if isinstance(value, Part) and Part._registry.get(kind.__name__) is kind:
            fields = value.get_params(deep=False).items()
            kept = {name: self.parameter(f"{place}.{name}", field) for name, field in fields}
            return {"part": kind.__name__, "parameters": kept}
        return self._object(place, value)

    def _object(self, place: str, value: Any) -> dict[str, Any]:
        own = hasattr(type(value), "_dismantle")  # a frozen one passes on what it is asked for
        key = name_of(type(value)) if own else key_of(type(value))
        if key is None or not self.models:
            raise TypeError(_refusal(place, value))
        if own and _is_fitted(value):
            document, arrays = value._dismantle()
            prefix = f"{place}." if place else ""
            self.arrays |= {f"{prefix}{name}": array for name, array in arrays.items()}
            return {**document, "at": place}
        parameters, attributes = state_of(value)
        if own:
            return {"class": key, "parameters": self._parameters(place, parameters)}
        return {
            "class": key,
            "parameters": self._dict(place, parameters),
            "attributes": self._dict(place, attributes),
        }

    def _parameters(self, place: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in parameters if name not in NOT_KEPT]
        at = f"{place}." if place else ""
        return {name: self.parameter(f"{at}{name}", parameters[name]) for name in names}

    def _array(self, place: str, value: NDArray) -> Any:
        kind = value.dtype.kind
        if type(value) is not np.ndarray:
            return None
        if kind in "UO":
            flat = enumerate(value.ravel().tolist())
            items = [self.pack(f"{place}.{i}", item) for i, item in flat]
            return {"shape": list(value.shape), "items": items, "text": kind == "U"}
        if kind not in NUMBERS or value.dtype.itemsize > 8:
            return None
        # The order in memory is kept as pickles keep it: the last bits of products depend on it.
        turned = value.flags.f_contiguous and not value.flags.c_contiguous
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        self.arrays[place] = np.ascontiguousarray(native.T if turned else native)
        kept = {"name": place, "turned": True} if turned else {"name": place}
        return kept if kind != "f" or np.isfinite(value).all() else {**kept, "finite": False}

    def _sparse(self, place: str, value: Any) -> Any:
        kind = type(value).__name__
        if _SPARSE.get(kind) is not type(value):
            return None
        parts = {name: getattr(value, name) for name in ("data", "indices", "indptr")}
        packed = {name: self.pack(f"{place}.{name}", array) for name, array in parts.items()}
        return {"kind": kind, "shape": list(map(int, value.shape)), **packed}

    def _dict(self, place: str, value: dict[Any, Any]) -> Any:
        at = f"{place}." if place else ""
        if all(type(key) is str for key in value):
            return {key: self.pack(f"{at}{key}", item) for key, item in value.items()}
        pairs = enumerate(value.items())
        return [[self.pack(place, key), self.pack(f"{at}{i}", v)] for i, (key, v) in pairs]

    def _compiled(self, place: str, value: Any) -> Any:
        for name, compiled in COMPILED.items():
            if isinstance(value, compiled.kinds):
                kept = compiled.write(value)
                return {"kind": name, "content": self._dict(place, kept)}
        return None


def _refusal(place: str, value: Any) -> str:
    shown = repr(value)
    shown = shown if len(shown) < 200 else brief(value)
    text = (
        f"{f'Parameter {place}=' if place else ''}{shown} cannot be saved: files hold numbers, "
        "strings, tuples, the parameter objects of this package and, in pipelines and committees, "
        "detectors and a list of scikit-learn's and pyod's estimators, neither other objects nor "
        "code of others. Use pickle for a detector with an object or factory of your own."
    )
    if type(value).__module__.partition(".")[0] == "skrub":
        text += (
            " What skrub's transformers have learned are objects of their own; without them, "
            "pipeline[-1].save(path) writes the detector alone, and files hold a pipeline with a "
            "ColumnTransformer of scikit-learn's."
        )
    if hasattr(value, "best_estimator_"):
        text += f" Of a {type(value).__name__} save its best_estimator_."
    return text


def _is_fitted(value: Any) -> bool:
    try:
        check_is_fitted(value)
    except NotFittedError:
        return False
    return True


def _places(place: str, items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Items of a sequence, each with its place; a step of a pipeline is named as there."""
    named = isinstance(items, tuple) and len(items) > 1 and isinstance(items[0], str)
    for i, item in enumerate(items):
        yield f"{place}.{items[0] if named and i == 1 else i}", item


def _tuple(packer: Packer, place: str, value: tuple[Any, ...]) -> Any:
    if type(value) is not tuple:  # one with names for its items
        return None
    return [packer.pack(at, item) for at, item in _places(place, value)]


def _scalar(packer: Packer, place: str, value: np.generic) -> Any:
    if isinstance(value, np.str_):
        return ["U", str(value)]
    if value.dtype.kind not in NUMBERS or value.dtype.itemsize > 8:
        return None
    item = value.item()
    return [value.dtype.str, item if math.isfinite(item) else str(item)]


def _type(packer: Packer, place: str, value: type) -> str | None:
    return next((name for name, kind in _TYPES.items() if kind is value), None)


def _ufunc(packer: Packer, place: str, value: np.ufunc) -> str | None:
    return value.__name__ if getattr(np, value.__name__, None) is value else None


def _dtype(packer: Packer, place: str, value: np.dtype) -> str | None:
    return value.str if value.kind in f"{NUMBERS}UO" else None


def _index(packer: Packer, place: str, value: pd.Index) -> Any:
    return packer._array(place, value.to_numpy())


# How values of what kinds are written, and by what key they are found again.
_WRITERS: tuple[tuple[Any, str, Callable[[Packer, str, Any], Any]], ...] = (
    (tuple, "tuple", _tuple),
    (np.ndarray, "array", Packer._array),
    (np.generic, "number", _scalar),
    (dict, "dict", lambda p, place, v: p._dict(place, v) if type(v) is dict else None),
    (slice, "slice", lambda p, place, v: p.pack(place, [v.start, v.stop, v.step])),
    (set, "set", lambda p, place, v: p.pack(place, sorted(v, key=repr))),
    (type, "type", _type),
    (np.dtype, "dtype", _dtype),
    (np.ufunc, "ufunc", _ufunc),
    (pd.Index, "array", _index),
    (sparse.sparray | sparse.spmatrix, "sparse", Packer._sparse),
    (object, "compiled", Packer._compiled),
    (np.random.RandomState, "random_state", lambda p, place, v: "unseeded"),
)


# ---- and back -----------------------------------------------------------------------------


class Unpacker:
    """Makes values of JSON and of arrays, which are read when their turn comes.

    Parameters
    ----------
    arrays : mapping of str to Stored
        Arrays by the names that the JSON has for them.
    device : str, optional
        Device for all detectors in place of the one in the file.
    """

    def __init__(self, arrays: Mapping[str, Any], device: str | None = None) -> None:
        self.arrays, self.device = dict(arrays), device

    def unpack(self, kept: Any) -> Any:
        """Value of a JSON form.

        Raises
        ------
        ValueError
            If it is none that :meth:`Packer.pack` makes.
        """
        if isinstance(kept, list):
            return [self.unpack(item) for item in kept]
        if isinstance(kept, float):
            require(math.isfinite(kept), f"the number {kept}")
        if not isinstance(kept, dict):
            return kept
        if "part" in kept:
            return self._part(kept)
        if "class" in kept:
            return self._object(kept)
        found = [marker for marker in _READERS if marker in kept]
        if len(kept) != 1 or not found:
            raise ValueError(f"there is no value {brief(kept)}")
        try:
            return _READERS[found[0]](self, kept[found[0]])
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"there is no value {brief(kept)}") from error

    def _part(self, kept: dict[str, Any]) -> Part:
        kind = Part._registry.get(str(kept["part"]))
        if kind is None:
            raise ValueError(f"unknown parameter object {brief(kept['part'])}")
        _require_names(kept, "parameters")
        parameters = {name: self.unpack(field) for name, field in kept["parameters"].items()}
        unknown = set(parameters) - set(kind._get_param_names())
        if unknown:
            raise ValueError(f"unknown parameters {brief(sorted(unknown))} of {kept['part']}")
        part = kind(**parameters)
        part._validate_params()
        return part

    def _object(self, kept: dict[str, Any]) -> Any:
        return self.object_of(class_of(kept["class"]), kept)

    def object_of(self, kind: Any, kept: dict[str, Any]) -> Any:
        """Estimator of a class that a document describes."""
        if "state" in kept:
            _require_names(kept, "state")
            require(hasattr(kind, "_rebuild"), f"{kind.__name__} has no state of our detectors")
            prefix = f"{kept['at']}." if kept.get("at") else ""
            names = [name for name in self.arrays if name.startswith(prefix)]
            arrays = {name.removeprefix(prefix): self.arrays.pop(name) for name in names}
            return kind._rebuild(kept, arrays, self.device)
        _require_names(kept, "parameters")
        parameters = {name: self.unpack(value) for name, value in kept["parameters"].items()}
        if not hasattr(kind, "_rebuild"):
            _require_names(kept, "attributes")
            return rebuild_estimator(kind, parameters, self._dict(kept["attributes"]))
        return make(kind, parameters, self.device)

    def _array(self, kept: dict[str, Any]) -> NDArray:
        if "name" in kept:
            array = self.arrays.pop(kept["name"]).read(finite=kept.get("finite") is not False)
            return array.T if kept.get("turned") is True else array
        shape, items = kept["shape"], [self.unpack(item) for item in kept["items"]]
        if kept["text"] is not True:
            values = np.empty(len(items), dtype=object)
            values[:] = items
            return values.reshape(shape)
        if not all(isinstance(item, str) for item in items):
            raise ValueError("an array of strings with other values")
        return np.array(items, dtype=np.str_).reshape(shape)

    def _sparse(self, kept: dict[str, Any]) -> Any:
        parts = tuple(self.unpack(kept[name]) for name in ("data", "indices", "indptr"))
        matrix = _SPARSE[kept["kind"]](parts, shape=tuple(kept["shape"]))
        matrix.check_format(full_check=True)  # compiled code trusts the indices
        return matrix

    def _dict(self, kept: Any) -> dict[Any, Any]:
        if isinstance(kept, dict):
            return {key: self.unpack(value) for key, value in kept.items()}
        return {self.unpack(key): self.unpack(value) for key, value in kept}

    def _compiled(self, kept: dict[str, Any]) -> Any:
        return COMPILED[kept["kind"]].read(self._dict(kept["content"]))


def _require_names(kept: dict[str, Any], part: str) -> None:
    """Require that a part of a document is there and has names for its values."""
    require(part in kept, f"{part!r} is missing")
    require(isinstance(kept[part], dict), f"the {part} {brief(kept[part])}")


def make(kind: Any, parameters: dict[str, Any], device: str | None) -> Any:
    """Make an unfitted detector of parameters that a file holds."""
    unknown = set(parameters) - set(kind._get_param_names()).difference(NOT_KEPT)
    if unknown:
        raise ValueError(f"unknown parameters {brief(sorted(unknown))} of {kind.__name__}")
    if device is not None and "device" in kind._get_param_names():
        parameters = {**parameters, "device": device}
    made = kind(**parameters)
    made._validate_params()
    return made


def _number(unpacker: Unpacker, kept: list[Any]) -> Any:
    code, value = kept
    if code == "U" and isinstance(value, str):
        return np.str_(value)
    kind = np.dtype(code) if isinstance(code, str) and len(code) <= 4 else np.dtype("O")
    if kind.kind == "f" and isinstance(value, str):
        return kind.type(_not_finite(unpacker, value))
    if kind.kind not in NUMBERS or not isinstance(value, bool | int | float):
        raise ValueError(f"there is no number {brief(kept)}")
    with np.errstate(over="ignore"):  # 1e300 in single precision
        number = kind.type(value)
    require(np.isfinite(number), f"the number {brief(kept)}")
    return number


def _not_finite(unpacker: Unpacker, kept: Any) -> float:
    """Read a number whose being NaN or infinity is said in as many letters."""
    require(kept in ("nan", "inf", "-inf"), f"there is no number {brief(kept)}")
    return float(kept)


def _read_dtype(unpacker: Unpacker, kept: str) -> np.dtype:
    kind = np.dtype(kept) if isinstance(kept, str) and len(kept) <= 8 else np.dtype("V")
    if kind.kind not in f"{NUMBERS}UO":
        raise ValueError(f"there is no type {brief(kept)}")
    return kind


def _read_ufunc(unpacker: Unpacker, kept: str) -> np.ufunc:
    found = getattr(np, kept, None)
    if not isinstance(found, np.ufunc):
        raise ValueError(f"there is no function {brief(kept)}")
    return found


_READERS: dict[str, Callable[[Unpacker, Any], Any]] = {
    "tuple": lambda u, kept: tuple(u.unpack(item) for item in kept),
    "array": Unpacker._array,
    "float": _not_finite,
    "number": _number,
    "dict": Unpacker._dict,
    "slice": lambda u, kept: slice(*u.unpack(kept)),
    "set": lambda u, kept: set(u.unpack(kept)),
    "type": lambda u, kept: _TYPES[kept],
    "dtype": _read_dtype,
    "ufunc": _read_ufunc,
    "sparse": Unpacker._sparse,
    "compiled": Unpacker._compiled,
    "random_state": lambda u, kept: None,
}


# ---- dicts of values, as fields of the state have them ------------------------------------


def packed(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON forms of values by their names, and their arrays by longer ones."""
    packer = Packer()
    kept = {name: packer.pack(name, value) for name, value in values.items()}
    return {**kept, **packer.arrays}


def packed_parameters(parameters: Mapping[str, Any], *, models: bool = True) -> dict[str, Any]:
    """Like :func:`packed`, for parameters of a detector."""
    packer = Packer(models=models)
    return {**packer._parameters("", parameters), **packer.arrays}


def unpacked(kept: Mapping[str, Any], device: str | None = None) -> dict[str, Any]:
    """Values that :func:`packed` or :func:`packed_parameters` took apart."""
    arrays = {name: value for name, value in kept.items() if isinstance(value, Stored)}
    unpacker = Unpacker(arrays, device)
    values = {n: unpacker.unpack(value) for n, value in kept.items() if n not in arrays}
    if unpacker.arrays:
        raise ValueError(f"Unexpected key {brief(min(unpacker.arrays))}")
    return values
