"""Time series of sensors: AUROC and average precision of time steps, recording by recording.

    python benchmarks/sensors.py run --data-home DIR   # hours on 2 cores; resumable
    python benchmarks/sensors.py tables                # seconds; writes results/sensors.md

`DIR` holds ``skab``, the folder ``data`` of SKAB's repository, and telemanom's SMAP and MSL as
`load_telemetry` reads them. A detector is fitted to windows of a recording's first 400
steps (SKAB; in "other/2" 296 of them are labelled anomalous, and stay in) or of its training part,
and scores those of the rest; a step has the mean score of the windows that hold it. Width 1 looks
at single steps.

Nothing is adjusted. "Point adjustment", by which all steps of an interval count as found once one
of them is flagged, lets random scores look good where intervals are long (Kim et al., Towards a
Rigorous Evaluation of Time-Series Anomaly Detection, AAAI 2022). Recordings whose test part lacks
normal or anomalous steps have no number.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import DETECTORS
from skgenad.benchmark._markdown import table
from skgenad.datasets import get_data_home, load_skab, load_telemetry
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import SlidingWindows

COLLECTIONS = {"skab": "SKAB", "smap": "SMAP", "msl": "MSL"}
N_TRAIN_SKAB = 400
WIDTHS = (1, 20)
# Quick ones first, so that a run that is cut short has whole rows.
NAMES = ("kNN-z", "Neighbors", "Mahalanobis", "Committee", "IForest", "AE", "MPDR-R", "NAE")
REFERENCE = "kNN-z"
DRAWN = ("IForest", "AE", "MPDR-R", "NAE")  # those that a seed changes much
NAMED = ("collection", "recording", "width", "detector", "seed")
ROWS = results_file(
    "sensors",
    key=NAMED,
    columns={
        **dict.fromkeys(("collection", "recording", "detector", "message"), str),
        **dict.fromkeys(("width", "seed", "n_train", "n_test", "n_features"), int),
        **dict.fromkeys(("share", "auroc", "average_precision", "seconds"), float),
    },
)
Home = Annotated[Path | None, typer.Option(help="Folder with the data.")]
Recording = tuple[NDArray, NDArray, NDArray]

app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows ----------------------------------------------------------------------------------------


def recordings_of(collection: str, data_home: Path | None) -> dict[str, Recording]:
    """Training part, test part and labels of the test part, by the names of recordings."""
    home = get_data_home(data_home)
    if collection == "skab":
        rig, n = load_skab(home / "skab"), N_TRAIN_SKAB
        found = zip(rig.names, rig.series, rig.targets, strict=True)
        return {name: (X[:n], X[n:], y[n:]) for name, X, y in found}
    craft = load_telemetry(home, collection.upper())
    parts = zip(craft.normal, craft.series, craft.targets, strict=True)
    return dict(zip(craft.names, parts, strict=True))


def compute(recordings: dict[str, Recording], *cell: Any) -> Iterator[dict[str, Any]]:
    """Fit a detector to windows of one recording and judge the scores of its other steps."""
    _, recording, width, detector, seed = cell
    X, new, y = recordings[recording]
    row = dict(zip(NAMED, cell, strict=True))
    row |= {"n_train": len(X), "n_test": len(new), "n_features": X.shape[1], "share": y.mean()}
    began = time.process_time()
    if len(np.unique(y)) < 2:
        yield {**row, "message": "one kind of steps to test"}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant columns, most of which are commands
        model = make_pipeline(SlidingWindows(width), DETECTORS[detector](seed)).fit(X)
        scores = model[0].inverse_scores(-model.score_samples(new), len(new))
    yield {
        **row,
        "message": "",
        "auroc": roc_auc_score(y, scores),
        "average_precision": average_precision_score(y, scores),
        "seconds": time.process_time() - began,
    }


@app.command()
def run(
    data_home: Home = None,
    collections: Annotated[str, typer.Option(help="Some of them.")] = ",".join(COLLECTIONS),
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(NAMES),
    widths: Annotated[str, typer.Option(help="Time steps.")] = ",".join(map(str, WIDTHS)),
    seeds: Annotated[int, typer.Option(help="How many, of those that draw.")] = 3,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing, detector by detector."""
    for collection in collections.split(","):
        recordings = recordings_of(collection, data_home)
        one = partial(stamped, partial(compute, recordings))
        for detector in detectors.split(","):
            n_seeds = seeds if detector in DRAWN else 1
            cells = [
                (collection, recording, int(width), detector, seed)
                for width in widths.split(",")
                for seed in range(1, n_seeds + 1)
                for recording in recordings
            ]
            run_cells(one, cells, ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def _lines(rows: pd.DataFrame) -> str:
    """Make a line for each width and detector: means over recordings of means over seeds."""
    keys = ["width", "detector", "recording"]
    means = rows.groupby(keys)[["auroc", "average_precision", "seconds"]].mean()
    lines = []
    for width in sorted(rows["width"].unique()):
        reference = means.loc[width, REFERENCE]
        for name in (n for n in NAMES if (width, n) in means.index.droplevel(2)):
            one = means.loc[width, name]
            less = (one["auroc"] - reference["auroc"]).dropna()
            numbers = (one["auroc"].mean(), one["auroc"].median(), one["average_precision"].mean())
            lines.append(
                [
                    name,
                    width,
                    len(one),
                    *(f"{number:.3f}" for number in numbers),
                    "" if name == REFERENCE else interval(less),
                    f"{one['seconds'].median():.2f}",
                ]
            )
    header = ["detector", "width", "recordings", "AUROC", "median", "AP"]
    header += [f"AUROC minus {REFERENCE}", "seconds"]
    return table(header, lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# Sensors",
        origin_of(rows, "sensors.py"),
        "AUROC and average precision of time steps, no point adjusted; means over recordings (95 % "
        "t-interval over them of the difference), each of which is trained on alone. AP of random "
        "scores is the share of anomalous steps. Seconds: CPU time of fit and scores, median.",
    ]
    for collection, title in COLLECTIONS.items():
        of_it = rows[rows["collection"] == collection]
        scored = of_it.dropna(subset=["auroc"])
        if not len(scored):
            continue
        recordings = scored.groupby("recording")["share"].first()
        left_out = sorted(set(of_it["recording"]) - set(recordings.index))
        without = f"; without {', '.join(left_out)}, which have one kind" if left_out else ""
        text += [
            f"## {title}",
            f"{len(recordings)} recordings, of whose steps {recordings.mean():.1%} are anomalous "
            f"(mean over recordings){without}.",
            _lines(scored),
        ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
