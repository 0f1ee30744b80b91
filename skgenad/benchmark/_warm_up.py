"""Imports and compilations that a process does once, so that its forked children need not.

Without this, times of short fits are times of compilers and imports: pyod compiles functions with
numba when they are first called (6 seconds for SOD), and torch imports its compiler when the first
optimiser is made (1 second and 100 MB). Nothing here may start a thread: a process with threads
cannot be forked safely.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings

import numpy as np

_done: set[str] = set()  # modules preloaded by this process; others may have imported more
_ROWS = np.linspace(0.0, 1.0, 64).reshape(32, 2)


def preload(name: str) -> None:
    """Import a module, and pay now what its first use would cost.

    Parameters
    ----------
    name : str
        Module that defines a detector. One that cannot be imported is passed over: the child that
        needs it will fail, and say why in its row.
    """
    if name in _done:
        return
    _done.add(name)
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(name)
        if "torch" in sys.modules:
            importlib.import_module("torch._dynamo")
        if name in _FIRST_USES:
            _FIRST_USES[name]()


def _use_ecod() -> None:
    from pyod.models.ecod import ECOD

    ECOD().fit(_ROWS).decision_function(_ROWS)


def _use_hbos() -> None:
    from pyod.models.hbos import HBOS

    HBOS().fit(_ROWS).decision_function(_ROWS)


def _use_sod() -> None:
    from pyod.models.sod import SOD

    SOD().fit(_ROWS).decision_function(_ROWS)


def _use_distances() -> None:
    from pyod.utils.stat_models import pairwise_distances_no_broadcast

    for kind in (np.float64, np.float32):
        pairwise_distances_no_broadcast(_ROWS.astype(kind), _ROWS.astype(kind))


_FIRST_USES = {
    "pyod.models.auto_encoder": _use_distances,
    "pyod.models.cblof": _use_distances,
    "pyod.models.copod": _use_ecod,  # COPOD compiles the same functions as ECOD
    "pyod.models.ecod": _use_ecod,
    "pyod.models.hbos": _use_hbos,
    "pyod.models.sod": _use_sod,
    "pyod.models.vae": _use_distances,
}
