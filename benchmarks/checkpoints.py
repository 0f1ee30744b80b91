"""What writing checkpoints costs: milliseconds and megabytes of one, and their share of a fit.

    python benchmarks/checkpoints.py run            # ten minutes on a busy machine; resumable
    python benchmarks/checkpoints.py tables         # seconds; writes results/checkpoints.md

Detectors with their defaults are fitted to 2,000 rows of 20 columns, and Autoencoder to 500 columns
with layers of 1,024 units as well. ``seconds=1`` makes them write often; the time between writings
then grows to 20 times what one takes. Both the time in which a fit writes and that of the fit are
taken in the same fit, so that other load of the machine is in both.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import typer
from _results import origin_of, results_file, stamped, write_paragraphs

from skgenad import CANCE, MPDR, NAE, VAE, Autoencoder, CheckpointFolder
from skgenad._core.resuming import Keeper
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table

# Name -> columns and what is fitted; as many steps as make fits of several writings.
FITS: dict[str, tuple[int, Any]] = {
    "Autoencoder": (20, partial(Autoencoder, max_steps=4000)),
    "Autoencoder, wide": (500, partial(Autoencoder, network=(1024, 1024), max_steps=400)),
    "VAE": (20, partial(VAE, max_steps=4000)),
    "CANCE": (20, CANCE),
    "NAE": (20, NAE),
    "MPDR": (20, MPDR),
}
_COLUMNS: dict[str, type] = {
    "fit": str,
    "seconds": float,
    "writings": int,
    "writing_ms": float,
    "megabytes": float,
    "fit_seconds": float,
    "share": float,
}
ROWS = results_file("checkpoints", key=("fit", "seconds"), columns=_COLUMNS)

app = typer.Typer(add_completion=False, help=__doc__)


def _compute(name: str, seconds: float) -> list[dict[str, Any]]:
    n_columns, make = FITS[name]
    X = np.random.default_rng(0).standard_normal((2000, n_columns))
    spent, sizes, keep = [], [], Keeper.keep

    def timed(keeper: Keeper, net: Any) -> None:
        before, start = keeper._last, time.perf_counter()
        keep(keeper, net)
        if keeper._last != before:  # it has written
            spent.append(time.perf_counter() - start)
            sizes.append(keeper.folder.file.stat().st_size)

    Keeper.keep = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            detector = make(random_state=0, device="cpu")
            detector.fit(X, checkpoint=CheckpointFolder(f"{folder}/run", seconds=seconds))
            elapsed = time.perf_counter() - start
    finally:
        Keeper.keep = keep  # type: ignore[method-assign]
    row = {"writings": len(spent), "fit_seconds": elapsed, "share": sum(spent) / elapsed}
    mean = [float(np.mean(values)) if values else 0.0 for values in (spent, sizes)]
    return [row | {"writing_ms": 1e3 * mean[0], "megabytes": mean[1] / 1e6}]


@app.command()
def run() -> None:
    """Compute what is missing of the results."""
    cells = [(name, seconds) for seconds in (1.0, 30.0) for name in FITS]
    run_cells(partial(stamped, _compute), cells, ROWS)


@app.command()
def tables() -> None:
    """Write the table from the rows that are there."""
    rows = ROWS.read()
    shown = pd.DataFrame(
        {
            "fit": rows["fit"],
            "`seconds`": rows["seconds"].map("{:.0f}".format),
            "fit, s": rows["fit_seconds"].map("{:.0f}".format),
            "writings": rows["writings"].astype(str),
            "ms each": rows["writing_ms"].map("{:.0f}".format),
            "MB each": rows["megabytes"].map("{:.1f}".format),
            "share of the fit": rows["share"].map("{:.1%}".format),
        }
    )
    text = [
        "# What checkpoints cost",
        "Fits with `checkpoint=CheckpointFolder(..., seconds=...)` to 2,000 rows of 20 columns "
        "(wide: 500 columns, layers of 1,024 units).",
        table(list(shown), shown.itertuples(index=False)),
        origin_of(rows, "checkpoints.py"),
    ]
    write_paragraphs(ROWS, text)


if __name__ == "__main__":
    app()
