"""The tables that CANCE's paper reports on, and how their rows are split."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

from numpy.typing import NDArray

from skgenad.benchmark import make_split, split_rows
from skgenad.datasets import (
    fetch_abalone,
    fetch_adbench,
    fetch_arrhythmia,
    fetch_kddcup99_dagmm,
    fetch_thyroid,
)

# Sets of Table 6, and their protocols.
TABLE_6 = {"abalone": "drocc", "thyroid": "goad", "arrhythmia": "goad"}
# The same sets with the half of the normal rows that GOAD's public code trains on.
FIRST_HALF = {"thyroid, first half": "thyroid", "arrhythmia, first half": "arrhythmia"}
# Protocol, and the share of the training rows that is anomalies. The third is what public code for
# DAGMM does in place of what its paper says.
KDD = {
    "half of all": ("dagmm", 0.0),
    "with 5 %": ("dagmm", 0.05),
    "half of normal": ("goad", 0.0),
}


@cache
def rows_of(name: str, data_home: Path | None) -> tuple[NDArray, NDArray]:
    """Rows and labels of a set, read once a process."""
    fetch = {
        "abalone": fetch_abalone,
        "thyroid": fetch_thyroid,
        "arrhythmia": fetch_arrhythmia,
        **dict.fromkeys(KDD, fetch_kddcup99_dagmm),
    }.get(FIRST_HALF.get(name, name), partial(fetch_adbench, name))
    return fetch(data_home=data_home, return_X_y=True)


def split(name: str, X: NDArray, y: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Return the indices of the rows to train on and to test on."""
    if name in TABLE_6:
        return split_rows(y, TABLE_6[name], seed=seed)
    if name in FIRST_HALF:
        return split_rows(y, "goad-first", seed=seed)
    if name in KDD:
        protocol, contaminate = KDD[name]
        return split_rows(y, protocol, contaminate=contaminate, seed=seed)
    clean = make_split(X, y, protocol="clean", seed=seed)
    return clean.train_index, clean.test_index
