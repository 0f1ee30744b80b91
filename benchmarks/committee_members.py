"""What each member of a committee is worth, on the tables of both suites.

    python benchmarks/committee_members.py run --data-home DIR    # an hour on 2 cores; resumable
    python benchmarks/committee_members.py tables                 # seconds; writes its report

A committee of all candidates is fitted once for each table, first seed, protocols `clean` (ADBench)
and `fixed` (OddBench). Every combination of candidates is then made of their scores, out of sample
and calibrated as in any committee: the closed forms that are the default, these with each left out,
with a trained energy or another detector added, and other ways to combine.
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
from _tables import HOLM, is_tuned, pair_lines, rank_lines
from adbench import SETS
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from skgenad import CANCE, MPDR, NAE, Committee
from skgenad.benchmark import Comparison, make_split, open_suite, run_cells
from skgenad.benchmark.protocols import make_fixed_split
from skgenad.committee._combine import COMBINE
from skgenad.committee.committee import default_members

CLOSED = tuple(name for name, _ in default_members())
ADDED: dict[str, Callable[[], Any]] = {
    "MPDR": lambda: MPDR(score_type="energy"),
    "NAE": NAE,
    "CANCE": CANCE,
    "IForest": IsolationForest,
}
FILE = results_file(
    "committee_members",
    key=("suite", "dataset", "combination"),
    columns={
        "suite": str,
        "dataset": str,
        "combination": str,
        "auroc": float,
        "average_precision": float,
    },
)
SEED = 1
WHOLE = "default"

app = typer.Typer(add_completion=False, help=__doc__)


def combinations(tails: pd.DataFrame) -> Iterator[tuple[str, NDArray]]:
    """Yield names and scores, high for anomalies, of combinations of the candidates' tails."""
    closed = tails[list(CLOSED)]
    equal = np.full(len(CLOSED), 1 / len(CLOSED))
    yield WHOLE, closed.mean(axis=1).to_numpy()
    for how in ("median", "max", "cauchy"):
        yield f"{how} instead of mean", COMBINE[how](closed.to_numpy(), equal)
    for name in CLOSED:
        yield f"without {name}", closed.drop(columns=name).mean(axis=1).to_numpy()
        yield f"{name} alone", tails[name].to_numpy()
    for name in ADDED:
        yield f"with {name}", tails[[*CLOSED, name]].mean(axis=1).to_numpy()
        yield f"{name} alone", tails[name].to_numpy()


def _compute(suite: str, dataset: str, *, data_home: Path | None) -> list[dict[str, Any]]:
    """Fit a committee of all candidates on a table, and score by each combination."""
    loaded = open_suite(suite, [dataset], data_home=data_home).loaders[dataset]()
    split = (
        make_fixed_split(*loaded, seed=SEED)
        if suite == "oddbench"
        else make_split(*loaded, protocol="clean", seed=SEED)
    )
    candidates = [*default_members(), *((name, make()) for name, make in ADDED.items())]
    committee = Committee(candidates, random_state=SEED).fit(split.X_train)
    tails = -committee.member_scores(split.X_test)
    return [
        {
            "combination": name,
            "auroc": float(roc_auc_score(split.y_test, score)),
            "average_precision": float(average_precision_score(split.y_test, score)),
        }
        for name, score in combinations(tails)
    ]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with both suites.")] = None,
    suites: Annotated[str, typer.Option(help="One or both.")] = "adbench,oddbench",
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing of the results."""
    compute = partial(stamped, partial(_compute, data_home=data_home))
    for suite in suites.split(","):
        names = SETS if suite == "adbench" else None
        tables = open_suite(suite, names, data_home=data_home).loaders
        run_cells(compute, [(suite, name) for name in tables], FILE, jobs=jobs)


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
        tuned = is_tuned(part, str(suite))
        for title, some in (("not tuned on", part[~tuned]), ("tuned on", part[tuned])):
            text += [f"## {suite}, tables {title} ({some['dataset'].nunique()})", *_section(some)]
    typer.echo(f"wrote {write_paragraphs(FILE, text)}")


def _section(rows: pd.DataFrame) -> list[str]:
    """Ranks of all combinations, and differences to the default one."""
    cells = rows.assign(
        detector=rows["combination"],
        **{"protocol": "", "contaminate": 0.0, "seed": SEED, "status": "ok"},
        **{"fit_seconds": np.nan, "score_seconds": np.nan},
    )
    others = [name for name in cells["detector"].unique() if name != WHOLE]
    return [
        rank_lines(Comparison(cells).ranks),
        f"The default minus the others. {HOLM}",
        pair_lines(cells, {WHOLE: others}),
    ]


if __name__ == "__main__":
    app()
