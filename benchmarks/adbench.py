"""MPDR against pyod's detectors on ADBench's tables: the run and its tables.

    python benchmarks/adbench.py run --data-home DIR      # hours on 2 cores; resumable
    python benchmarks/adbench.py tables                   # minutes; writes results/adbench.md

`DIR` holds ADBench's files as ``adbench/Classical/*.npz`` (without it they are downloaded). Every
cell is one row of ``results/adbench/rows.csv``; killed and started again, the run goes on.

The defaults of MPDR were chosen with the test labels of the sets in `TUNED_ON`, so the tables show
those and the others apart: only the others say what to expect on new data.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from skgenad import MPDR
from skgenad.benchmark import (
    list_detectors,
    open_suite,
    paired_differences,
    rank_table,
    read_rows,
    report,
    run_benchmark,
)
from skgenad.benchmark._markdown import table

# 30 of the 47 tables.
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
TUNED_ON = (
    "cardio",
    "glass",
    "landsat",
    "mammography",
    "Pima",
    "skin",
    "vertebral",
    "Waveform",
    "Wilt",
    "yeast",
)
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
REFERENCES = ("KNN", "kNN-z", "AE", "IForest")
PROTOCOLS = ("adbench", "clean")
SEEDS = (1, 2, 3)
# Sets on which the paper's own settings run too: small and large, few and many columns.
PAPER_SETS = ("6_cardio", "14_glass", "19_landsat", "38_thyroid", "45_wine")
RESULTS = Path(__file__).parent / "results" / "adbench"

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    detectors: Annotated[str, typer.Option(help="Names, separated by commas.")] = "all",
    paper: Annotated[bool, typer.Option(help="Run the paper's settings on five sets too.")] = True,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
    time_limit: Annotated[float, typer.Option(help="Seconds for a cell.")] = 60,
) -> None:
    """Compute what is missing of the results."""
    names = list_detectors() if detectors == "all" else detectors.split(",")
    suite = open_suite("adbench", SETS, data_home=data_home)
    for protocol in PROTOCOLS:
        run_benchmark(
            suite,
            names,
            protocol=protocol,
            seeds=SEEDS,
            jobs=jobs,
            time_limit=time_limit,
            out=RESULTS,
        )
    if paper:
        few = open_suite("adbench", PAPER_SETS, data_home=data_home)
        run_benchmark(
            few,
            {"MPDR-R (paper)": MPDR.from_paper()},
            seeds=SEEDS[:1],
            jobs=1,
            time_limit=None,
            out=RESULTS,
        )


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = read_rows(RESULTS / "rows.csv")
    versions = rows["versions"].iloc[0]
    text = [
        "# ADBench, tables",
        f"`python benchmarks/adbench.py run` and `tables`, {date.today()}, 2 cores (one thread a "
        f"cell), {versions}. Cells over the time limit count as failures and rank last.",
        f"Defaults were chosen on {', '.join(TUNED_ON)}.",
    ]
    ours = rows[rows["detector"] != "MPDR-R (paper)"]
    tuned = ours["dataset"].map(_short).isin(TUNED_ON)
    for protocol in PROTOCOLS:
        part = ours["protocol"] == protocol
        text.append(f"## Protocol `{protocol}`")
        text.append(_section("Sets not tuned on", ours[part & ~tuned]))
        text.append(_section("Sets tuned on", ours[part & tuned]))
        text.append(_section("All sets", ours[part]))
    text.append("## The paper's settings (Table 7, width 1024), protocol `adbench`, seed 1")
    text.append(_paper_table(rows))
    path = RESULTS.parent / "adbench.md"
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    report([RESULTS / "rows.csv"], RESULTS, reference="MPDR-R", others=list(REFERENCES))
    typer.echo(f"wrote {path}")


def _short(name: str) -> str:
    """Name of a set without its number."""
    return name.split("_", 1)[-1]


def _section(title: str, rows: pd.DataFrame) -> str:
    """Means, ranks and paired differences of one group of sets."""
    among_14 = rank_table(rows[rows["detector"].isin(TABLE_6)])
    means = rank_table(rows)
    lines = [
        [
            name,
            f"{line['auroc']:.4f}",
            f"{line['average_precision']:.4f}",
            f"{line['rank']:.2f} ± {line['rank_error']:.2f}",
            f"{among_14.loc[name, 'rank']:.2f} ± {among_14.loc[name, 'rank_error']:.2f}"
            if name in among_14.index
            else "",
            line["wins"],
            line["failures"],
            f"{line['fit_seconds']:.2f}",
        ]
        for name, line in means.iterrows()
    ]
    header = [
        "detector",
        "AUROC",
        "AP",
        "rank",
        "rank among Table 6's 14",
        "wins",
        "failures",
        "fit s",
    ]
    differences = paired_differences(
        rows, "MPDR-R", [name for name in REFERENCES if name in means.index]
    )
    pairs = [
        [
            f"MPDR-R − {name}",
            f"{line['difference']:+.4f}",
            f"[{line['low']:+.4f}, {line['high']:+.4f}]",
            f"{line['wins']}/{line['ties']}/{line['losses']}",
            f"{line['p_value']:.3f}",
        ]
        for name, line in differences.iterrows()
    ]
    pair_header = ["AUROC", "mean", "95 % bootstrap", "won/tied/lost", "Wilcoxon p"]
    n_sets = rows["dataset"].nunique()
    return "\n\n".join([f"### {title} ({n_sets})", table(header, lines), table(pair_header, pairs)])


def _paper_table(rows: pd.DataFrame) -> str:
    """AUROC of the paper's settings beside the defaults on the same cells."""
    cells = rows[
        (rows["protocol"] == "adbench") & (rows["seed"] == 1) & rows["dataset"].isin(PAPER_SETS)
    ]
    names = ["MPDR-R (paper)", "MPDR-R", "AE", "kNN-z"]
    wide = cells.pivot(index="dataset", columns="detector", values="auroc")
    wide = wide[[name for name in names if name in wide.columns]]
    return table(
        ["set", *wide.columns],
        [[name, *(f"{value:.4f}" for value in line)] for name, line in wide.iterrows()],
    )


if __name__ == "__main__":
    app()
