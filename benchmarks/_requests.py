"""What requests of one row, of a thousand and of many cost, beside another checkout's.

    python benchmarks/_requests.py measure      # prints the times of the package that is imported

Times are CPU times on one thread, the smallest of several turns: the machine may be at work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import typer

import skgenad
from skgenad.energies import Manifold, Reconstruction

app = typer.Typer(add_completion=False, help=__doc__)
_COLUMNS, _MANY = 21, 20_480
# Weights do not matter here: stages are as short as they can be.
_SHORT: dict[str, dict[str, Any]] = {
    "MPDR": {"manifold": Manifold(steps=2), "energy": Reconstruction(pretrain_steps=2)},
    "NAE": {"pretrain_steps": 2},
}


def request_rows(names: list[str], rounds: int, against: Path | None) -> list[dict[str, Any]]:
    """Time the detectors in processes of their own, in turns with those of another checkout."""
    here = Path(__file__).resolve().parents[1]
    trees = {"": here} | ({"before: ": against.resolve()} if against is not None else {})
    found: dict[str, list[pd.DataFrame]] = {prefix: [] for prefix in trees}
    for _ in range(rounds):
        for prefix, tree in trees.items():
            found[prefix].append(_measured(names, tree))
    tables = [
        pd.concat(parts).groupby(level=0).min().add_prefix(prefix)
        for prefix, parts in found.items()
    ]
    table = pd.concat(tables, axis=1).loc[names]
    table["times the module"] = table["one row (us)"] / table["module alone (us)"]
    return [{"detector": name, **row} for name, row in table.to_dict("index").items()]


def _measured(names: list[str], tree: Path) -> pd.DataFrame:
    done = subprocess.run(
        [sys.executable, __file__, "measure", ",".join(names)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
    )
    return pd.DataFrame.from_dict(json.loads(done.stdout), orient="index")


@app.callback()
def one_command() -> None:
    """Keep the name of the only command."""


@app.command()
def measure(names: str) -> None:
    """Print microseconds for every detector of a list of names."""
    torch.set_num_threads(1)
    X = np.random.RandomState(0).standard_normal((_MANY, _COLUMNS))
    typer.echo(json.dumps({name: _times(name, X) for name in names.split(",")}))


def _times(name: str, X: Any) -> dict[str, float]:
    cls = getattr(skgenad, name)
    settings = {"random_state": 0, "device": "cpu", "max_steps": 2, **_SHORT.get(name, {})}
    known = cls._get_param_names()
    detector = cls(**{key: value for key, value in settings.items() if key in known}).fit(X[:2000])
    row = torch.zeros(1, _COLUMNS)
    with torch.inference_mode():
        alone = _fastest(lambda: detector.module_.energy(row)) if hasattr(detector, "module_") else 0
    return {
        "module alone (us)": alone or float("nan"),
        "one row (us)": _fastest(lambda: detector.score_samples(X[:1])),
        "1,000 rows (us a row)": _fastest(lambda: detector.score_samples(X[:1000])) / 1000,
        "many rows (us a row)": _fastest(lambda: detector.score_samples(X), turns=2) / len(X),
    }


def _fastest(call: Callable[[], object], turns: int = 15) -> float:
    """Microseconds of a call: the smallest mean over some calls in a row."""
    call()
    call()  # the second request of a size may be checked
    start = time.process_time()
    call()
    calls = max(1, min(50, int(0.02 / max(time.process_time() - start, 1e-6))))
    best = np.inf
    for _ in range(turns):
        start = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - start) / calls)
    return 1e6 * float(best)


if __name__ == "__main__":
    app()
