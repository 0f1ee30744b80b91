"""What people keep rows and images in beside tables and arrays: taken, or refused with what to do.

scikit-learn says of them that they are no arrays, or what numpy could not do with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from .pictures import is_picture

# Types of tensors that numpy does not have, all values of which float32 has.
_NARROW = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def unpacked_rows(X: Any) -> Any:
    """Return what numpy and scikit-learn can read, the same where they can already.

    Raises
    ------
    TypeError
        If it is a container whose rows they cannot read; the message says how to get at them.
    """
    if isinstance(X, torch.Tensor):
        return readable(X)
    if isinstance(X, list | tuple) and any(isinstance(x, torch.Tensor) for x in islice(X, 1)):
        return [readable(x) if isinstance(x, torch.Tensor) else x for x in X]
    what = _what(X)
    if what is not None:
        raise TypeError(f"X is a {type(X).__name__}: {what}.")
    return X


def readable(X: torch.Tensor) -> torch.Tensor:
    """Tensor that numpy can read, where it can be one: without a gradient, and of a type it has."""
    return X.detach().float() if X.dtype in _NARROW else X.detach()


def refuse_nested(X: Any) -> None:
    """Raise ValueError for images in lists of lists, or in a frame, which is not made for them."""
    if isinstance(X, pd.DataFrame):
        for name in X.columns:
            column = X[name]
            values = column.head(1).tolist() if isinstance(column, pd.Series) else []
            if any(is_picture(v) or np.ndim(v) > 1 for v in values):
                raise ValueError(
                    f"X is a frame with images in column {name!r}. Pass the column alone, "
                    f"X[{name!r}].tolist()."
                )
    if not isinstance(X, list | tuple) or not len(X) or not isinstance(X[0], list | tuple):
        return
    if len(X[0]) and isinstance(X[0][0], list | tuple):  # else rows of numbers
        raise ValueError(
            "X is a list of lists, and images are wanted. Pass np.array(X, dtype=np.uint8) if they "
            "are pixels in 0 to 255, and np.array(X) if they lie in [0, 1]."
        )


def odd_pixels(error: ValueError, rows: Any) -> ValueError:
    """Make of an error about images as rows (n, d) one that names the image; else the same."""
    said = str(error).partition("\n")[0]
    if "contains NaN" not in said and "infinity" not in said:
        return error
    odd = ~np.isfinite(np.asarray(rows, dtype=np.float64))
    places = np.flatnonzero(odd.any(axis=1))
    more = f", and so do {len(places) - 1} more" if len(places) > 1 else ""
    return ValueError(
        f"{said.rstrip('. ')}. Image {places[0]} holds such pixels, {odd[places[0]].sum()} of "
        f"{odd.shape[1]}{more}: fill them in, np.nan_to_num(X, posinf=1, neginf=0), or leave such "
        "images out."
    )


def _what(X: Any) -> str | None:
    """Say how to get rows out of a container that is read one by one."""
    if isinstance(X, DataLoader):
        return (
            "pass the rows of all batches, torch.cat([batch for batch in X]), or "
            "torch.cat([x for x, *_ in X]) if batches are pairs, and shuffle nothing where scores "
            "are wanted"
        )
    if isinstance(X, TensorDataset):
        return "pass its rows, X.tensors[0]"
    if isinstance(X, Dataset) and isinstance(_first_of(X), tuple):
        return "pass its rows or images, [x for x, *_ in X]"
    if isinstance(X, Dataset):
        return "pass its rows or images, [X[i] for i in range(len(X))]"
    if isinstance(X, zip):
        return "pass the rows or images alone, [x for x, *_ in X]"
    if isinstance(X, Iterator):
        return "its rows can be read but once, so pass list(X)"
    if isinstance(X, set | frozenset):
        return "its rows have no order; pass a list"
    return None


def _first_of(X: Any) -> Any:
    try:
        return X[0]
    except Exception:  # those of other packages may hold anything
        return None
