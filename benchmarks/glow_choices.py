"""Choices of Glow on grey digits, from scratch: couplings that normalise, modes of classes.

    python benchmarks/glow_choices.py run --data-home DIR [--seeds 1,2] [--only plain,normed]
    python benchmarks/glow_choices.py tables      # seconds; writes results/glow_choices.md

Digits 0 to 7 are normal, at most 4,000 images, and the sets of anomalies those of `hierarchies.py`
for the same seed; no model but "frozen" has seen others. A variant with a seed is a cell, half a
minute to a minute on one core; killed and started again the run goes on with the next one.

"plain" has couplings without normalisation, "normed" those of the authors' code, by
``coupling_norm=True``. "last modes" and "all modes" are "normed" with the classes of digits; their
modes are in the codes of the last scale, with variance 1, or in those of all scales, with variances
of their own. "frozen" begins with the weights of "normed" fitted to the general distribution of
`hierarchies.py` for as many steps, and trains the last scale alone: the first two stay.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _image_sets import bits_per_dimension
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from hierarchies import SMALL, Images, grey_images
from sklearn.metrics import roc_auc_score

from skgenad import Glow
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table

SEEDS = range(1, 4)
MAX_STEPS = 500
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"coupling_norm": False},
    "normed": {"coupling_norm": True},
    "last modes": {"coupling_norm": True, "use_labels": True},
    "all modes": {"coupling_norm": True, "use_labels": "all_scales"},
    "frozen": {"coupling_norm": True, "trained_scales": 1},
}
KEY = ("variant", "steps", "seed", "metric", "method", "set")
COLUMNS: dict[str, type] = {
    "variant": str,
    "steps": int,
    "seed": int,
    "metric": str,
    "method": str,
    "set": str,
    "value": float,
    "n_normal": int,
    "n_new": int,
    "cpu_seconds": float,
}
ROWS = results_file("glow_choices", key=KEY, columns=COLUMNS)
app = typer.Typer(add_completion=False, help=__doc__)


def detector(variant: str, steps: int, seed: int) -> Glow:
    """Make the flow of a variant."""
    settings = {**SMALL, "image_shape": (1, 32, 32), "max_steps": steps, **VARIANTS[variant]}
    return Glow(**settings, random_state=seed, **ALL_ROWS)


def _fitted(variant: str, steps: int, seed: int, images: Images) -> Glow:
    made = detector(variant, steps, seed)
    if variant != "frozen":
        return made.fit(images.normal, images.classes)
    return made.fit_from(images.normal, start=detector("normed", steps, seed).fit(images.general))


def _scores(model: Glow, X: Any) -> dict[str, Any]:
    """Scores of every method, higher for normal images."""
    parts = model.scale_contributions(X)
    scales = {f"scale {k + 1}": part for k, part in enumerate(parts.T)}
    return {"likelihood": model.log_density(X), **scales}


def _compute(variant: str, steps: int, seed: int, data_home: Path | None) -> list[dict[str, Any]]:
    images = grey_images(seed, data_home, 4000)
    start = time.process_time()
    model = _fitted(variant, steps, seed, images)
    seconds = time.process_time() - start
    new, n_numbers = _scores(model, images.new), images.normal[0].size
    bits = bits_per_dimension(new["likelihood"].mean(), n_numbers)
    values = [("bits", "likelihood", "new", bits)]
    for name, X in images.anomalies.items():
        label = np.repeat([0, 1], [len(images.new), len(X)])
        for method, scores in _scores(model, X).items():
            auroc = roc_auc_score(label, -np.concatenate([new[method], scores]))
            values.append(("auroc", method, name, auroc))
    common = {"variant": variant, "steps": steps, "seed": seed, "cpu_seconds": seconds}
    common |= {"n_normal": len(images.normal), "n_new": len(images.new)}
    names = ("metric", "method", "set", "value")
    return [{**dict(zip(names, value, strict=True)), **common} for value in values]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    only: Annotated[str, typer.Option(help="Some of the variants.")] = ",".join(VARIANTS),
    seeds: Annotated[str, typer.Option(help="Some of the seeds.")] = ",".join(map(str, SEEDS)),
    steps: Annotated[int, typer.Option(help="Gradient steps.")] = MAX_STEPS,
) -> None:
    """Compute what is missing of the results."""
    cells = [(v, steps, int(s)) for s in seeds.split(",") for v in only.split(",")]
    compute = partial(_compute, data_home=data_home)
    run_cells(partial(stamped, compute), cells, ROWS, jobs=1)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    n_normal, n_new = rows["n_normal"].max(), rows["n_new"].max()
    text = [
        "# Choices of Glow on grey digits, from scratch",
        origin_of(rows, "glow_choices.py"),
        f"{n_normal} digits 0 to 7 to train on, {n_new} new ones and at most as many anomalies of "
        f"a set to test on; settings {SMALL}. AUROC, means and standard deviations over seeds; the "
        "sets of anomalies are those of `hierarchies.py` for the same seed. Bits per dimension are "
        "of new digits, without noise. Variants: the script's docstring.",
    ]
    for steps, part in rows.groupby("steps"):
        text += [f"## {steps} steps", _table(part)]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


def _table(rows: pd.DataFrame) -> str:
    sets = list(dict.fromkeys(rows[rows["metric"] == "auroc"]["set"]))
    lines = []
    for variant in [v for v in VARIANTS if v in set(rows["variant"])]:
        own = rows[rows["variant"] == variant]
        bits = mean_sd(own[own["metric"] == "bits"]["value"])
        head = f"{variant} ({own['seed'].nunique()} seed(s))"
        for method in dict.fromkeys(own[own["metric"] == "auroc"]["method"]):
            some = own[(own["metric"] == "auroc") & (own["method"] == method)]
            cells = [mean_sd(some[some["set"] == name]["value"]) for name in sets]
            lines.append([head, method, bits if method == "likelihood" else "", *cells])
    return table(["variant", "score", "bits", *sets], lines)


if __name__ == "__main__":
    app()
