"""False discovery rates of what `select` flags, and the share of anomalies that it finds.

    python benchmarks/false_discoveries.py run --data-home DIR   # an hour on 2 cores; resumable
    python benchmarks/false_discoveries.py tables    # seconds; writes results/false_discoveries.md

`DIR` holds ADBench's files (without it they are downloaded). A cell fits a detector to 500 normal
rows of a table, scores all others, and draws a hundred times 2,000 normal rows to hold out and 200
rows to ask about, of which a share are anomalies. By these draws it averages the share of normal
rows among those selected, and the share of anomalies that are. The normal rows asked about and
those held out are exchangeable in the first case of `CASES`, and in the others they are not.

Beside the tables there are rows from a normal distribution, whose anomalies lie aside.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray

from skgenad import Autoencoder, Committee, Mahalanobis, Neighbors
from skgenad._core.calibration import p_values_of
from skgenad._core.discoveries import METHODS, q_values_of
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_adbench

N_TRAIN, N_HELD_OUT, N_ASKED, N_DRAWS = 500, 2000, 200, 100
SHARES = (0.0, 0.01, 0.05, 0.2)
# The share with which each departure is tried.
SHARE = 0.05
LEVELS = (0.05, 0.1, 0.2)
LEAST_CELLS = 10
DETECTORS: dict[str, Callable[..., Any]] = {
    "Mahalanobis": Mahalanobis,
    "Neighbors": Neighbors,
    "Committee": Committee,
    "Autoencoder": Autoencoder,
}
# Case -> what is done to the rows.
CASES = {
    "exchangeable": "Held-out rows and normal rows asked about are drawn alike.",
    "anomalies held out": "1 % of the rows held out are anomalies.",
    "copies": "Each row asked about is there five times.",
    "drift": "The rows asked about have moved by half a standard deviation in each column.",
    "trained on": "The 500 rows that were trained on take the place of those held out.",
}
SIMULATED = "normal distribution"
# Tables of `adbench.py` with 3,500 normal rows and 40 anomalies or more, not all of them.
TABLES = (
    *("5_campaign", "10_cover", "23_mammography", "24_mnist"),
    *("26_optdigits", "28_pendigits", "32_shuttle", "38_thyroid"),
)
REPETITIONS = {SIMULATED: range(1, 41), **dict.fromkeys(TABLES, range(1, 11))}
_MEASURES = ("fdr", "power")
_NAMES = [f"{what}_{m}_{level:g}" for what in _MEASURES for m in METHODS for level in LEVELS]
ROWS = results_file(
    "false_discoveries",
    key=("source", "repetition", "detector", "case", "share"),
    columns={
        "source": str,
        "repetition": int,
        "detector": str,
        "case": str,
        "share": float,
        **dict.fromkeys(_NAMES, float),
    },
)
app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows ----------------------------------------------------------------------------------------


def rows_of(
    source: str, rng: np.random.Generator, data_home: Path | None
) -> tuple[NDArray, NDArray]:
    """Return normal rows and anomalies of a table, of very many some, or of a distribution."""
    if source == SIMULATED:
        X = rng.standard_normal((22_500, 10)) @ rng.standard_normal((10, 10))
        far = rng.choice([-1, 1], (2000, 10)) * X.std(axis=0)
        return X[:20_500], X[20_500:] + 2 * far
    X, y = fetch_adbench(source, data_home=data_home, return_X_y=True)
    normal, anomalies = (rng.permutation(X[y == label]).astype(np.float64) for label in (0, 1))
    return normal[:20_500], anomalies[:2000]


def scores_of(source: str, detector: str, seed: int, data_home: Path | None) -> dict[str, NDArray]:
    """Scores of a fitted detector: of new normal rows and anomalies, as they are and moved."""
    rng = np.random.default_rng([seed, *source.encode()])
    normal, anomalies = rows_of(source, rng, data_home)
    train, normal = normal[:N_TRAIN], normal[N_TRAIN:]
    model = DETECTORS[detector](random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(train, calibration="none")
    step = rng.choice([-0.5, 0.5], train.shape[1]) * train.std(axis=0)
    parts = {"trained on": train, "normal": normal, "anomalies": anomalies}
    parts |= {"moved normal": normal + step, "moved anomalies": anomalies + step}
    return {name: model.score_samples(X) for name, X in parts.items()}


# ---- draws ---------------------------------------------------------------------------------------


def draw(
    scores: dict[str, NDArray], case: str, share: float, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray]:
    """Scores held out, scores of the rows asked about, and which of these are normal."""
    n_anomalies = round(share * N_ASKED)
    normal = rng.permutation(len(scores["normal"]))
    anomalies = rng.permutation(len(scores["anomalies"]))
    held_out = scores["normal"][normal[:N_HELD_OUT]]
    if case == "anomalies held out":
        some = anomalies[n_anomalies:][: N_HELD_OUT // 100]
        held_out[: len(some)] = scores["anomalies"][some]
    if case == "trained on":
        held_out = scores["trained on"]
    moved = "moved " if case == "drift" else ""
    asked = np.concatenate(
        [
            scores[f"{moved}normal"][normal[N_HELD_OUT:][: N_ASKED - n_anomalies]],
            scores[f"{moved}anomalies"][anomalies[:n_anomalies]],
        ]
    )
    is_normal = np.arange(N_ASKED) < N_ASKED - n_anomalies
    if case == "copies":
        asked, is_normal = np.repeat(asked[::5], 5), np.repeat(is_normal[::5], 5)
    return np.sort(held_out), asked, is_normal


def measured(held_out: NDArray, asked: NDArray, is_normal: NDArray) -> NDArray:
    """Share of normal rows in the selection and of anomalies found, by the order of `_NAMES`."""
    p_values = p_values_of(asked, held_out)
    found = np.array(
        [
            q_values_of(p_values, len(held_out), method) <= level * (1 + 1e-12)
            for method in METHODS
            for level in LEVELS
        ]
    )
    false = (found & is_normal).sum(axis=1) / found.sum(axis=1).clip(min=1)
    n_anomalies = (~is_normal).sum()
    power = (found & ~is_normal).sum(axis=1) / n_anomalies if n_anomalies else np.nan * false
    return np.concatenate([false, power])


def compute(
    source: str, repetition: int, detector: str, *, data_home: Path | None
) -> list[dict[str, Any]]:
    """Fit a detector once, and average over draws, case by case."""
    scores = scores_of(source, detector, repetition, data_home)
    cases = [("exchangeable", share) for share in SHARES]
    cases += [(case, SHARE) for case in CASES if case != "exchangeable"]
    rows = []
    for case, share in cases:
        rng = np.random.default_rng([repetition, *f"{source} {case}".encode()])
        values = [measured(*draw(scores, case, share, rng)) for _ in range(N_DRAWS)]
        means = np.mean(values, axis=0).round(6).tolist()
        rows.append({"case": case, "share": share, **dict(zip(_NAMES, means, strict=True))})
    return rows


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(DETECTORS),
    sources: Annotated[str, typer.Option(help="Some of them.")] = ",".join(REPETITIONS),
    repetitions: Annotated[int, typer.Option(help="Of each source, at most.")] = 40,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing, detector by detector."""
    one = partial(stamped, partial(compute, data_home=data_home))
    for detector in detectors.split(","):
        cells = [
            (source, repetition, detector)
            for source in sources.split(",")
            for repetition in REPETITIONS[source][:repetitions]
        ]
        run_cells(one, cells, ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def _with_error(values: pd.Series) -> str:
    """Mean, and two standard errors of it."""
    return f"{values.mean():.3f} ± {2 * values.sem():.3f}"


def _lines(rows: pd.DataFrame, measure: str, by: list[str]) -> str:
    """Means by detector and `by`, a column for each method and level."""
    lines = []
    keys = rows[by].drop_duplicates().itertuples(index=False)
    for key in keys:
        of_key = rows[(rows[by] == list(key)).all(axis=1)]
        for detector in [name for name in DETECTORS if name in set(of_key["detector"])]:
            part = of_key[of_key["detector"] == detector]
            values = [part[f"{measure}_{m}_{level:g}"] for m in METHODS for level in LEVELS]
            named = [f"{100 * k:g} %" if isinstance(k, float) else k for k in key]
            lines.append([*named, detector, str(len(part)), *map(_with_error, values)])
    columns = [f"{m} {level:g}" for m in METHODS for level in LEVELS]
    return table([*by, "detector", "cells", *columns], lines)


def _most(rows: pd.DataFrame) -> str:
    """Largest excess of the false discovery rate over its bound, in standard errors, by source."""
    by = ["source", "detector", "share"]
    # An error of two cells says nothing.
    rows = rows[rows.groupby(by)["repetition"].transform("count") >= LEAST_CELLS]
    worst = []
    for method in METHODS:
        for level in LEVELS:
            grouped = rows.groupby(by)[f"fdr_{method}_{level:g}"]
            excess = ((grouped.mean() - level) / grouped.sem().clip(lower=1e-9)).max()
            worst.append(f"{method} {level:g}: {excess:.1f}")
    return "; ".join(worst)


def _complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out repetitions of a detector that some of the tables lack, so that all count alike."""
    of_tables = rows[rows["source"] != SIMULATED]
    n = of_tables.groupby(["detector", "repetition"])["source"].transform("nunique")
    return pd.concat([rows[rows["source"] == SIMULATED], of_tables[n == len(TABLES)]])


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = _complete(ROWS.read())
    alike = rows[rows["case"] == "exchangeable"]
    is_simulated = alike["source"] == SIMULATED
    other = rows[(rows["case"] != "exchangeable") & (rows["source"] != SIMULATED)]
    text = [
        "# False discoveries",
        origin_of(rows, "false_discoveries.py"),
        f"{N_TRAIN} normal rows train, {N_HELD_OUT} are held out, {N_ASKED} are asked about, of "
        f"which a share are anomalies; {N_DRAWS} draws of the last two a cell. Means over cells ± "
        "two standard errors; columns are rules and nominal rates. ADBench: "
        f"{', '.join(sorted(set(rows['source']) - {SIMULATED}))}.",
        "## False discovery rate where rows are exchangeable",
        f"Of all combinations of source, detector and share of anomalies with {LEAST_CELLS} cells "
        "or more, the largest difference "
        f"between the realised rate and the nominal one, in standard errors: {_most(alike)}. (The "
        "largest of so many numbers from a standard normal distribution is 2.7, on average.)",
        f"Rows from a {SIMULATED}:",
        _lines(alike[is_simulated], "fdr", ["share"]),
        "ADBench's tables:",
        _lines(alike[~is_simulated], "fdr", ["share"]),
        "## Anomalies found where rows are exchangeable",
        f"Rows from a {SIMULATED}:",
        _lines(alike[is_simulated & (alike["share"] > 0)], "power", ["share"]),
        "ADBench's tables:",
        _lines(alike[~is_simulated & (alike["share"] > 0)], "power", ["share"]),
        f"## Where they are not: ADBench's tables, {100 * SHARE:g} % anomalies",
        "\n".join(f"- {case}: {what}" for case, what in list(CASES.items())[1:]),
        "False discovery rate:",
        _lines(other, "fdr", ["case"]),
        "Anomalies found:",
        _lines(other, "power", ["case"]),
    ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
