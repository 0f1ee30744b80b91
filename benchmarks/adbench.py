"""Our detectors against pyod's on ADBench's tables: the run and its tables.

    python benchmarks/adbench.py run --data-home DIR      # hours on 2 cores; resumable
    python benchmarks/adbench.py tables                   # minutes; writes results/adbench.md

`DIR` holds ADBench's files as ``adbench/Classical/*.npz`` (without it they are downloaded). Every
cell is one row of ``results/adbench/rows.csv``; killed and started again, the run goes on.

The defaults of our detectors were chosen with the test labels of the sets in `TUNED_ON`, so the
tables show those and the others apart: only the others say what to expect on new data.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from _small_print import adbench_note, small_print
from _tables import is_tuned, known, rank_lines, section, short, tuned_on

from skgenad import MPDR
from skgenad.benchmark import (
    Comparison,
    list_detectors,
    open_suite,
    plot_critical_differences,
    read_rows,
    run_benchmark,
)
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table

# Those of the 47 tables that the folder of data held; the others could not be downloaded where the
# runs were made. `adbench_note` says so in the report.
SETS = (
    "1_ALOI",
    "4_breastw",
    "5_campaign",
    "6_cardio",
    "8_celeba",
    "10_cover",
    "11_donors",
    "14_glass",
    "15_Hepatitis",
    "16_http",
    "19_landsat",
    "21_Lymphography",
    "23_mammography",
    "24_mnist",
    "25_musk",
    "26_optdigits",
    "28_pendigits",
    "29_Pima",
    "30_satellite",
    "32_shuttle",
    "33_skin",
    "37_Stamps",
    "38_thyroid",
    "39_vertebral",
    "41_Waveform",
    "42_WBC",
    "44_Wilt",
    "45_wine",
    "46_WPBC",
    "47_yeast",
)
TUNED_ON = tuned_on("adbench")
# The 14 rows of the paper's Table 6, ours being MPDR-R.
TABLE_6 = (
    "MPDR-R",
    "IForest",
    "OCSVM",
    "CBLOF",
    "COF",
    "COPOD",
    "ECOD",
    "HBOS",
    "KNN",
    "LOF",
    "PCA",
    "SOD",
    "DeepSVDD",
    "DAGMM",
)
PROTOCOLS = ("adbench", "clean")
SEEDS = (1, 2, 3)
# What takes long, or is compared with nothing, runs with the first seed only.
SLOW = (
    *("COF", "SOD", "DeepSVDD", "MPDR-S", "EBM", "VAE-L", "Glow", "NSF", "LUNAR"),
    *("CANCE", "CNCE", "LatNCE", "CANCE-error", "CANCE-PCA"),
)
PAPER = "MPDR-R (paper)"
# Sets on which the paper's own settings run too: small and large, few and many columns.
PAPER_SETS = ("6_cardio", "14_glass", "19_landsat", "38_thyroid", "45_wine")
RESULTS = Path(__file__).parent / "results" / "adbench"

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    detectors: Annotated[str | None, typer.Option(help="Some of them; by default all.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
    time_limit: Annotated[float, typer.Option(help="Seconds for a cell.")] = 300,
) -> None:
    """Compute what is missing of the results."""
    suite = open_suite("adbench", SETS, data_home=data_home)
    chosen = list_detectors() if detectors is None else known(detectors.split(","))
    for seeds, left_out in ((SEEDS[:1], ()), (SEEDS[1:], SLOW)):
        names = [name for name in chosen if name not in left_out]
        for protocol in PROTOCOLS if names else ():
            run_benchmark(
                suite,
                names,
                protocol=protocol,
                seeds=seeds,
                jobs=jobs,
                time_limit=time_limit,
                out=RESULTS,
            )
    if detectors is None:
        run_benchmark(
            open_suite("adbench", PAPER_SETS, data_home=data_home),
            {PAPER: MPDR.from_paper(**ALL_ROWS)},
            seeds=SEEDS[:1],
            jobs=jobs,
            out=RESULTS,
        )


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = read_rows(RESULTS / "rows.csv")
    text = [
        "# ADBench, tables",
        f"`python benchmarks/adbench.py run` and `tables`, {date.today()}, 2 shared cores, one "
        f"thread a cell, {rows['versions'].iloc[0]}. Cells over the time limit are failures, rank "
        "last and count as chance in means.",
        f"Defaults of our detectors were chosen on {', '.join(TUNED_ON)}, with their test labels. "
        "Only the other sets say what to expect on new data.",
        adbench_note(SETS),
    ]
    ours = rows[rows["detector"] != PAPER]
    tuned = is_tuned(ours, "adbench")
    for protocol in PROTOCOLS:
        part = ours["protocol"] == protocol
        text.append(f"## Protocol `{protocol}`")
        text += _section("Sets not tuned on", ours[part & ~tuned])
        text += _section("Sets tuned on", ours[part & tuned])
        text += _section("All sets", ours[part])
    text.append("## NAE and the autoencoder it starts from, set by set, mean AUROC of the seeds")
    text.append(_set_by_set(ours, "NAE", "AE"))
    text.append("## The paper's settings (Table 7, width 1024), protocol `adbench`, seed 1")
    text.append(_paper_table(rows))
    text += small_print("adbench", ours)
    path = RESULTS.parent / "adbench.md"
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    for protocol in PROTOCOLS:
        _diagram(ours[(ours["protocol"] == protocol) & ~tuned], protocol)
    typer.echo(f"wrote {path}")


def _diagram(rows: pd.DataFrame, protocol: str) -> None:
    """Critical-difference diagram of Table 6's detectors and a few more, first seed."""
    shown = (*TABLE_6, "kNN-z", "AE", "NAE", "CANCE", "LUNAR", "Committee")
    first = rows[(rows["seed"] == SEEDS[0]) & rows["detector"].isin(shown)]
    n_sets = first["dataset"].nunique()
    title = f"ADBench, {n_sets} tables not tuned on, protocol {protocol}, seed {SEEDS[0]}"
    plot_critical_differences(Comparison(first), RESULTS / f"ranks_{protocol}", title=title)


def _section(title: str, rows: pd.DataFrame) -> list[str]:
    """Means, ranks and paired differences of one group of sets."""
    table_6 = rows[(rows["seed"] == SEEDS[0]) & rows["detector"].isin(TABLE_6)]
    return [
        *section(title, rows, SLOW),
        f"The 14 detectors of MPDR's Table 6, seed {SEEDS[0]}:",
        rank_lines(Comparison(table_6).ranks),
    ]


def _set_by_set(rows: pd.DataFrame, ours: str, other: str) -> str:
    """Differences of two detectors on every set, the lowest mean over protocols first."""
    pair = rows[rows["detector"].isin([ours, other])]
    means = pair.pivot_table(index="dataset", columns=["detector", "protocol"], values="auroc")
    gain = means[ours] - means[other]
    means = means.loc[gain.mean(axis=1).sort_values().index]
    header = ["set", *(f"{d}, `{p}`" for p in PROTOCOLS for d in (other, ours))]
    lines = [
        [
            short(name) + (" (tuned on)" if short(name) in TUNED_ON else ""),
            *(f"{line[d, p]:.3f}" for p in PROTOCOLS for d in (other, ours)),
        ]
        for name, line in means.iterrows()
    ]
    return table(header, lines)


def _paper_table(rows: pd.DataFrame) -> str:
    """AUROC of the paper's settings beside the defaults on the same cells."""
    cells = rows[
        (rows["protocol"] == "adbench") & (rows["seed"] == 1) & rows["dataset"].isin(PAPER_SETS)
    ]
    wide = cells.pivot(index="dataset", columns="detector", values="auroc")
    names = [name for name in (PAPER, "MPDR-R", "AE", "kNN-z") if name in wide.columns]
    seconds = cells[cells["detector"] == PAPER].set_index("dataset")["fit_seconds"]
    return table(
        ["set", *names, "fit s (paper)"],
        [
            [name, *(f"{value:.4f}" for value in line), f"{seconds.get(name, float('nan')):.0f}"]
            for name, line in wide[names].iterrows()
        ],
    )


if __name__ == "__main__":
    app()
