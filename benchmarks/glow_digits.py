"""Glow on MNIST: bits per dimension in training and on new digits, and what it draws.

    python benchmarks/glow_digits.py --data-home DIR --seconds 300 [--hidden 128 --steps 8]

For a GPU; on a CPU it takes hours to draw digits. Writes results/glow_digits.{csv,md,png}. Images
are padded to 32 x 32. The learning rate is constant, so that the run may end at any time. The
committed results are of 2026-11-26, when couplings did not normalise their hidden layers yet:
``--no-coupling-norm`` makes such ones.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _deadline import Deadline
from _image_sets import bits_per_dimension, padded
from _measure import machine
from numpy.typing import NDArray

from skgenad import Glow
from skgenad.benchmark import ResultsFile
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_mnist
from skgenad.inspection import SamplesDisplay

RESULTS = Path(__file__).parent / "results"
COLUMNS = {"step": int, "loss": float, "seconds": float, "bits": float}
_N_NUMBERS = 32 * 32


def _digits(subset: str, data_home: Path | None) -> NDArray:
    X, _ = fetch_mnist(subset=subset, data_home=data_home, return_X_y=True)
    return padded(X)


def run(
    seconds: Annotated[float, typer.Option(help="Training is ended after so many.")],
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    hidden: Annotated[int, typer.Option(help="Width of the couplings.")] = 128,
    steps: Annotated[int, typer.Option(help="Steps of each of three scales.")] = 8,
    coupling_norm: Annotated[bool, typer.Option(help="Whether couplings normalise.")] = True,
    max_steps: Annotated[int, typer.Option(help="Gradient steps at most.")] = 234_375,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
) -> None:
    """Train, score and draw."""
    couplings = {"hidden": hidden, "n_couplings": steps, "coupling_norm": coupling_norm}
    changes = {**couplings, "max_steps": max_steps, "random_state": 1}
    deadline = Deadline(seconds, "flow")
    detector = Glow.from_paper("mnist", **changes, **ALL_ROWS, callbacks=[deadline])
    detector.fit(_digits("train", data_home))
    test = float(
        np.mean(bits_per_dimension(detector.log_density(_digits("test", data_home)), _N_NUMBERS))
    )
    history = detector.history_[["step", "loss", "seconds"]].assign(
        bits=bits_per_dimension(-detector.history_["loss"], _N_NUMBERS)
    )
    file = ResultsFile(out / "glow_digits.csv", key=("step",), columns=COLUMNS)
    file.move_aside()
    with file:
        file.append(*history.to_dict("records"))
    display = SamplesDisplay.from_estimator(detector, n_samples=32, random_state=0, n_columns=8)
    display.figure_.savefig(out / "glow_digits.png", dpi=80)
    (out / "glow_digits.md").write_text(_report(history, test, couplings), encoding="utf-8")


def _report(history: pd.DataFrame, test: float, couplings: dict[str, Any]) -> str:
    arguments = " ".join(a for a in sys.argv[1:] if "/" not in a)
    places = np.unique(np.geomspace(1, len(history), 8).round().astype(int)) - 1
    lines = [[f"{row.step:.0f}", f"{row.bits:.3f}"] for row in history.iloc[places].itertuples()]
    return "\n\n".join(
        [
            "# Glow on MNIST",
            f"`python benchmarks/glow_digits.py {arguments}`, {date.today()}, {machine()}.",
            f"Three scales of {couplings['n_couplings']} steps, couplings of width "
            f"{couplings['hidden']}, {'with' if couplings['coupling_norm'] else 'without'} "
            "normalisation of their hidden layers; batches of 64; "
            f"{history['step'].max():.0f} steps in {history['seconds'].sum():.0f} s. Bits per "
            "dimension of the 32 x 32 numbers of a padded image, with noise, means of 50 steps; "
            f"on the test images {test:.3f}, without noise: at the middle of each number's "
            "interval, where a density is highest.",
            table(["step", "bits per dimension"], lines),
            "![drawn digits](glow_digits.png)",
        ]
    )


if __name__ == "__main__":
    typer.run(run)
