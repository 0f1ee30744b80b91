"""How few rows a pass may have without changing a bit of any of them.

Rows are scored in passes of one shape, so that no row depends on those beside it: kernels are
chosen by the shape. A request of few rows would pay for all rows of a pass. Here a smaller pass is
compared with a whole one first, operation by operation, on rows made for it: sums that are added in
another order differ in the last bits of many numbers at once. Only a pass that differs in none is
used. What was found is kept as long as the function lives, and is of this process: it holds for a
processor and a number of threads, and is in no file and no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Function = Callable[[Tensor], Tensor]
# Sizes of smaller passes. Products of fewer than 16 rows may be added in another order whatever
# their shape; what a pass of images costs is proportional to their number from the first one on.
_OF_ROWS, _OF_IMAGES = (16, 32, 64, 128, 256, 512), (1, 4, 16, 32)
# A larger pass is checked when it is wanted a second time: the check costs as much as two whole
# passes, and the first time may be the threshold of a fit.
_AT_ONCE = 128
# Operations that make tensors without saying what is in them.
_UNDEFINED = ("empty", "new_empty", "resize")
# Key of whether a module may be given rows that are made for a comparison.
_MADE = ("made rows",)
# Attribute in which a function's owner keeps what was found.
_FOUND = "_passes_found"


class _Found(dict[tuple, bool | None]):
    """Whether a pass of a function, size and number of threads gives the same bits.

    None: not checked yet. It is of this process, so copies and pickles of it are empty.
    """

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), ()


def found_in(owner: Any) -> dict[tuple, bool | None]:
    """Return what was found of functions that are bound to an object.

    The object keeps it, and no table of weak references does: Python loses an interrupt that falls
    into the code which clears such a table.
    """
    return vars(owner).setdefault(_FOUND, _Found())


@dataclass(frozen=True)
class Passes:
    """Brings rows through a function, so that what comes of a row depends on that row alone.

    Parameters
    ----------
    whole : int
        Number of rows in a pass of many.
    device : torch.device
        Where the function is. Smaller passes save nothing but on the CPU.
    of_images : bool, default=False
        Whether rows are images of pixels in [0, 1].
    """

    whole: int
    device: torch.device
    of_images: bool = False

    def run(
        self,
        function: Function,
        X: Any,
        begin: Callable[[NDArray], NDArray],
        finish: Callable[[NDArray], NDArray],
        owner: Any,
    ) -> NDArray:
        """Values (n, ...) of rows (n, d).

        Parameters
        ----------
        function : callable
            Maps float32 rows (m, d) to (m, ...) on the device.
        X : ndarray of shape (n, d), or what has its slices
            Rows.
        begin, finish : callable
            Bring parts of `X` to the function's float32 rows, and arrays of its values to what is
            returned, row by row.
        owner : object
            What a function belongs to that is bound to nothing: that of another one is checked
            anew, under the same name too.
        """
        size = self._size(function, len(X), X.shape[1], owner)
        values = np.empty(0)
        for start in range(0, len(X), size):
            rows = begin(X[start : start + size])
            n = len(rows)
            chunk = torch.from_numpy(rows if n == size else _filled(rows, size))
            with torch.inference_mode():
                result = finish(function(chunk.to(self.device))[:n].cpu().numpy())
            if start == 0:
                values = np.empty((len(X), *result.shape[1:]))
            values[start : start + n] = result
        return values

    def _size(self, function: Function, n: int, d: int, owner: Any) -> int:
        """Return the number of rows in a pass for `n` rows (n, d)."""
        if n >= self.whole or self.device.type != "cpu":
            return self.whole
        bound = getattr(function, "__wrapped__", function)
        known = found_in(getattr(bound, "__self__", owner))
        if _MADE not in known:
            known[_MADE] = _takes_made_rows(owner)
        if not known[_MADE]:
            return self.whole
        threads = torch.get_num_threads()
        for size in _OF_IMAGES if self.of_images else _OF_ROWS:
            if n <= size <= self.whole // 2:
                key = (function.__qualname__, size, self.whole, threads)
                if key not in known and size > _AT_ONCE:
                    known[key] = None
                elif known.get(key) is None:
                    known[key] = _is_same(function, self._probes(d), size)
                if known[key]:
                    return size
        return self.whole

    def _probes(self, d: int) -> Tensor:
        """Rows (whole, d) to compare passes on; no generator but their own is drawn from."""
        draw = torch.rand if self.of_images else torch.randn
        own = torch.Generator("cpu").manual_seed(0)
        return draw(self.whole, d, generator=own, dtype=torch.float32, device="cpu")


def _takes_made_rows(owner: Any) -> bool:
    """Whether no part of a module is for rows of the data alone."""
    parts = owner.modules() if isinstance(owner, nn.Module) else ()
    return all(getattr(part, "takes_made_rows", True) for part in parts)


def _filled(rows: NDArray, size: int) -> NDArray:
    """Rows (size, d) that begin with `rows`, and go on with a real row.

    An encoder of categories knows no zeros.
    """
    chunk = np.empty((size, rows.shape[1]), dtype=rows.dtype)
    chunk[: len(rows)], chunk[len(rows) :] = rows, rows[0]
    return chunk


@torch.inference_mode()
def _is_same(function: Function, probes: Tensor, size: int) -> bool:
    """Whether a pass of `size` rows gives them the bits that a pass of all rows gives."""
    begin, end = probes[:size].clone(), probes[-size:].clone()
    try:
        with _Recording() as small:
            first = function(begin)
        with _Comparing(small.results, size) as whole:
            results = function(probes)
        last = function(end)
    except Exception:
        # A network of the user's may want rows of another kind, and has whole passes then.
        return False
    return whole.is_same and _equal(first, results[:size]) and _equal(last, results[-size:])


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


class _Recording(TorchDispatchMode):
    """Keeps what every operation of a pass returns."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[tuple[Any, list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Copies, since a later operation may write over it.
        self.results.append((func, [tensor.clone() for tensor in _tensors(result)]))
        return result


class _Comparing(TorchDispatchMode):
    """Compares what every operation of a pass returns with a pass of its first rows.

    It ends where the passes do not do the same, as those in chunks do; results tell the rest.

    Parameters
    ----------
    expected : list of (operation, list of Tensor)
        Of the smaller pass.
    size : int
        Number of its rows.
    """

    def __init__(self, expected: list[tuple[Any, list[Tensor]]], size: int) -> None:
        super().__init__()
        self.size, self.is_same = size, True
        self._expected: Iterator[tuple[Any, list[Tensor]]] = iter(expected)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        expected, tensors = next(self._expected, (None, []))
        if expected is not func:
            self._expected = iter(())
        elif not str(func).removeprefix("aten.").startswith(_UNDEFINED):
            pairs = zip(_tensors(result), tensors, strict=False)
            self.is_same &= all(self._starts_with(whole, small) for whole, small in pairs)
        return result

    def _starts_with(self, whole: Tensor, small: Tensor) -> bool:
        """Whether a tensor of more rows begins with those of `small`; True if rows are no axis."""
        if whole.dim() != small.dim():
            return True
        axes = [a for a in range(whole.dim()) if whole.shape[a] != small.shape[a]]
        if len(axes) != 1 or small.shape[axes[0]] % self.size:
            return True
        n = small.shape[axes[0]]
        return n > whole.shape[axes[0]] or _equal(small, whole.narrow(axes[0], 0, n))


def _tensors(result: Any) -> list[Tensor]:
    parts = result if isinstance(result, tuple | list) else [result]
    return [part for part in parts if isinstance(part, Tensor)]
