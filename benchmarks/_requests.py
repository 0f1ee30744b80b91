"""What requests of one row, of a thousand and of many cost, and fits, beside another checkout's.

    python benchmarks/_requests.py measure NAMES      # prints times of the package that is imported
    python benchmarks/_requests.py fits NAMES

Times are CPU times on one thread, the smallest or the median of several turns: the machine may be
at work.
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
from skgenad.autoencoders import AutoencoderFeatures
from skgenad.energies import Manifold, Reconstruction

app = typer.Typer(add_completion=False, help=__doc__)
_COLUMNS, _MANY = 21, 20_480
_FIT_COLUMNS, _FIT_ROWS = 10, (300, 1000, 5000)
# Steps of each stage of a fit: that there are more changes the share of what is not a step alone.
_FIT_STEPS = 100


def request_rows(names: list[str], rounds: int, against: Path | None) -> list[dict[str, Any]]:
    """Time the detectors in processes of their own, in turns with those of another checkout."""
    found = _in_turns("measure", names, rounds, against)
    tables = [
        pd.concat(parts).groupby(level=0).min().add_prefix(prefix)
        for prefix, parts in found.items()
    ]
    table = pd.concat(tables, axis=1).loc[names]
    table["times the module"] = table["one row (us)"] / table["module alone (us)"]
    return [{"detector": name, **row} for name, row in table.to_dict("index").items()]


def fit_rows(names: list[str], rounds: int, against: Path) -> list[dict[str, Any]]:
    """Time fits in processes of their own, in turns with those of another checkout."""
    found = _in_turns("fits", names, rounds, against)
    now, before = (pd.concat(parts).groupby(level=0).median() for parts in found.values())
    return [
        {
            "detector": name,
            "rows": n,
            "before (s)": before.loc[name, str(n)],
            "fit (s)": now.loc[name, str(n)],
            "fit / before": now.loc[name, str(n)] / before.loc[name, str(n)],
        }
        for name in now.index.intersection(before.index)
        for n in _FIT_ROWS
    ]


def _in_turns(
    command: str, names: list[str], rounds: int, against: Path | None
) -> dict[str, list[pd.DataFrame]]:
    here = Path(__file__).resolve().parents[1]
    trees = {"": here} | ({"before: ": against.resolve()} if against is not None else {})
    found: dict[str, list[pd.DataFrame]] = {prefix: [] for prefix in trees}
    for _ in range(rounds):
        for prefix, tree in trees.items():
            found[prefix].append(_measured(command, names, tree))
    return found


def _measured(command: str, names: list[str], tree: Path) -> pd.DataFrame:
    done = subprocess.run(
        [sys.executable, __file__, command, ",".join(names)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
    )
    return pd.DataFrame.from_dict(json.loads(done.stdout), orient="index")


@app.command()
def measure(names: str) -> None:
    """Print microseconds for every detector of a list of names."""
    torch.set_num_threads(1)
    X = np.random.RandomState(0).standard_normal((_MANY, _COLUMNS))
    typer.echo(json.dumps({name: _times(name, X) for name in _there(names)}))


@app.command()
def fits(names: str) -> None:
    """Print seconds of a fit for every detector of a list of names, by the number of rows."""
    torch.set_num_threads(1)
    X = np.random.RandomState(0).standard_normal((max(_FIT_ROWS), _FIT_COLUMNS))
    typer.echo(json.dumps({name: _fit_times(name, X) for name in _there(names)}))


def _there(names: str) -> list[str]:
    """Names of detectors that the package which is imported has."""
    return [name for name in names.split(",") if hasattr(skgenad, name)]


def _fit_times(name: str, X: Any) -> dict[str, float]:
    times = {}
    _detector(name, _FIT_STEPS).fit(X[:50])  # what a first fit alone pays for
    for n in _FIT_ROWS:
        detector = _detector(name, _FIT_STEPS)
        start = time.process_time()
        detector.fit(X[:n])
        times[str(n)] = time.process_time() - start
    return times


def _detector(name: str, steps: int) -> Any:
    """Make a detector at its defaults, but for the lengths of its stages."""
    lengths: dict[str, dict[str, Any]] = {
        "CANCE": {"features": AutoencoderFeatures(encoder_steps=steps, decoder_steps=steps)},
        "MPDR": {
            "manifold": Manifold(steps=steps),
            "energy": Reconstruction(pretrain_steps=steps),
        },
        "NAE": {"pretrain_steps": steps},
    }
    cls = getattr(skgenad, name)
    settings = {"random_state": 0, "device": "cpu", "max_steps": steps, **lengths.get(name, {})}
    known = cls._get_param_names()
    return cls(**{key: value for key, value in settings.items() if key in known})


def _times(name: str, X: Any) -> dict[str, float]:
    detector = _detector(name, 2).fit(X[:2000])  # weights do not matter here
    row = torch.zeros(1, _COLUMNS)
    with torch.inference_mode():
        alone = (
            _fastest(lambda: detector.module_.energy(row)) if hasattr(detector, "module_") else 0
        )
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
