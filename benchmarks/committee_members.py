"""What each member of a committee is worth, on the tables of both suites that were not tuned on.

    python benchmarks/committee_members.py run --data-home DIR    # two hours on 2 cores; resumable
    python benchmarks/committee_members.py tables                 # seconds; writes its report

Committees of the default members and of these with one detector more are fitted on each table,
first seed, protocols `clean` (ADBench) and `fixed` (OddBench). Every combination is then made of
the members' scores, out of sample and calibrated as in any committee: the closed forms that are the
default, these with each left out, with the other detector, and other ways to combine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import origin_of, results_file, stamped, write_paragraphs
from _tables import HOLM, as_benchmark, pair_lines, rank_lines, short, tuned_on
from adbench import SETS
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from skgenad import CANCE, MPDR, NAE, Committee, GaussianMixtures, LocalGaussian
from skgenad.benchmark import Comparison, make_split, open_suite, run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark.protocols import make_fixed_split
from skgenad.committee._combine import COMBINE
from skgenad.committee.committee import default_members

CLOSED = tuple(name for name, _ in default_members())
# What is added to the default members; the first stands for nothing.
NOTHING = "nothing"
ADDED: dict[str, Callable[[], Any]] = {
    "gaussian": LocalGaussian,
    "IForest": IsolationForest,
    "MPDR": lambda: MPDR(score_type="energy"),
    "GMM": GaussianMixtures,
    "CANCE": CANCE,
    "NAE": NAE,
}
FILE = results_file(
    "committee_members",
    key=("suite", "dataset", "added", "combination"),
    columns={
        "suite": str,
        "dataset": str,
        "added": str,
        "combination": str,
        "auroc": float,
        "average_precision": float,
    },
)
SEED = 1
WHOLE = "default"

app = typer.Typer(add_completion=False, help=__doc__)


def combinations(tails: pd.DataFrame, added: str) -> Iterator[tuple[str, NDArray]]:
    """Yield names and scores, high for anomalies, of combinations of the candidates' tails."""
    if added != NOTHING:
        yield f"with {added}", tails.mean(axis=1).to_numpy()
        yield f"{added} alone", tails[added].to_numpy()
        return
    equal = np.full(len(CLOSED), 1 / len(CLOSED))
    yield WHOLE, tails.mean(axis=1).to_numpy()
    for how in ("median", "max", "cauchy"):
        yield f"{how} instead of mean", COMBINE[how](tails.to_numpy(), equal)
    for name in CLOSED:
        yield f"without {name}", tails.drop(columns=name).mean(axis=1).to_numpy()
        yield f"{name} alone", tails[name].to_numpy()


def _compute(
    suite: str, dataset: str, added: str, *, data_home: Path | None
) -> list[dict[str, Any]]:
    """Fit a committee of all candidates on a table, and score by each combination."""
    loaded = open_suite(suite, [dataset], data_home=data_home).loaders[dataset]()
    split = (
        make_fixed_split(*loaded, seed=SEED)
        if suite == "oddbench"
        else make_split(*loaded, protocol="clean", seed=SEED)
    )
    members = default_members()
    if added != NOTHING:
        members.append((added, ADDED[added]()))
    committee = Committee(members, random_state=SEED, **ALL_ROWS).fit(split.X_train)
    tails = -committee.member_scores(split.X_test)
    return [
        {
            "combination": name,
            "auroc": float(roc_auc_score(split.y_test, score)),
            "average_precision": float(average_precision_score(split.y_test, score)),
        }
        for name, score in combinations(tails, added)
    ]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with both suites.")] = None,
    suites: Annotated[str, typer.Option(help="One or both.")] = "adbench,oddbench",
    added: Annotated[str, typer.Option(help="Some of what is added.")] = ",".join(
        (NOTHING, *ADDED)
    ),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing of the results."""
    compute = partial(stamped, partial(_compute, data_home=data_home))
    cells = [
        (suite, name, one)
        for one in added.split(",")
        for suite in suites.split(",")
        for name in open_suite(suite, SETS if suite == "adbench" else None).loaders
        if short(name) not in tuned_on(suite)
    ]
    run_cells(compute, cells, FILE, jobs=jobs)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = FILE.read()
    text = [
        "# What the members of the committee are worth",
        f'{origin_of(rows, "committee_members.py")} First seed; one thread a cell. "With" adds a '
        f'detector to the default members ({", ".join(CLOSED)}), "without" leaves one out.',
    ]
    for suite, part in rows.groupby("suite"):
        text += [f"## {suite}", *_section(part)]
    typer.echo(f"wrote {write_paragraphs(FILE, text)}")


def _section(rows: pd.DataFrame) -> list[str]:
    """Means of all combinations that have all tables, and differences to the default one."""
    n_tables = rows["dataset"].nunique()
    complete = rows.groupby("combination")["dataset"].transform("nunique") == n_tables
    rows = rows[complete]
    cells = as_benchmark(rows, detector=rows["combination"])
    others = [name for name in cells["detector"].unique() if name != WHOLE]
    return [
        f"{n_tables} tables.",
        rank_lines(Comparison(cells).ranks),
        f"The default minus the others. {HOLM}",
        pair_lines(cells, {WHOLE: others}),
    ]


if __name__ == "__main__":
    app()
