"""Matrix products whose rows do not depend on how many rows there are, nor on threads.

Kernels are chosen by the shape. From 16 rows and 16 columns on, those in use add up the terms of an
element in their order, one by one, unless the sum is long: then it is taken in parts, whose number
depends on the number of rows and of threads. Here long sums are taken in parts of a length of ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# With fewer columns than this, kernels add up in another order by a row's place.
NARROW = 16
# The longest sum that is taken in one go. Measured: every shape of 16 rows or more then gives the
# bits of 1,024 rows, with one thread and with two; twice as long, some shapes do not.
_LONGEST = {torch.float32: 512, torch.float64: 128}


def is_long(length: int, dtype: torch.dtype) -> bool:
    """Whether a sum of `length` terms is taken in parts."""
    return length > _LONGEST.get(dtype, length)


def spans(length: int, dtype: torch.dtype) -> list[slice]:
    """Parts that a sum of `length` terms is taken in, one at least."""
    step = _LONGEST.get(dtype, max(1, length))
    return [slice(start, start + step) for start in range(0, max(1, length), step)]


def steady_product(x: Tensor, matrix: Tensor) -> Tensor:
    """Products (..., n, m) of rows (..., n, k) and matrices (..., k, m).

    Narrow ones are made with columns of zeros beside them, which are then cut off.
    """
    m = matrix.shape[-1]
    if m < NARROW:
        return steady_product(x, F.pad(matrix, (0, NARROW - m)))[..., :m]
    if not is_long(x.shape[-1], x.dtype):
        return x @ matrix
    first, *rest = spans(x.shape[-1], x.dtype)
    product = x[..., first] @ matrix[..., first, :]
    for span in rest:
        product += x[..., span] @ matrix[..., span, :]
    return product
