"""What training is given of the rows: without sentinels, in units of their own, on a device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from skgenad._tensors.chunks import LazyRows, Rows

from .large_tables import SameTable, SomeRows, Table, pieces_of
from .sentinels import without_sentinels
from .units import PixelUnits, StandardUnits


def in_standard_units(rows: Table, units: StandardUnits, device: torch.device) -> Rows:
    """Return rows (n, d) in standard units on a device; of a large table, on the CPU, lazily."""
    if not isinstance(rows, SomeRows):
        return torch.from_numpy(units.to_standard(rows)).to(device)
    if device.type == "cpu":
        return LazyRows(
            lambda index: torch.from_numpy(units.to_standard(rows[index.numpy()])), rows.shape
        )
    whole = torch.empty(rows.shape, device=device)
    start = 0
    for piece in pieces_of(rows):
        whole[start : start + len(piece)] = torch.from_numpy(units.to_standard(piece))
        start += len(piece)
    return whole


def rows_and_units(
    rows: SameTable, standardize: str | bool, names: Sequence[str] | None, *, pixels: bool = False
) -> tuple[SameTable, StandardUnits]:
    """Return rows (n, d) to train on, and their units.

    Parameters
    ----------
    rows : ndarray or SomeRows of shape (n, d)
        Training rows.
    standardize : {"auto", "mixed"} or bool
        As detectors have it.
    names : sequence of str or None
        Names of the columns, for warnings.
    pixels : bool, default=False
        Whether columns are pixels, which are bounded and have units already.
    """
    if pixels:
        return rows, PixelUnits.identity(rows.shape[1])
    rows, moments = without_sentinels(rows, names)
    if not standardize:
        return rows, StandardUnits.identity(rows.shape[1])
    return rows, StandardUnits.from_moments(moments, rows.dtype, mixed=standardize == "mixed")
