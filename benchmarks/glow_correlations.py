"""What likelihoods of Glow go along with: the correlations of the flow paper's figures 1, 2 and 3.

    python benchmarks/glow_correlations.py run --data-home DIR [--seeds 1,2] [--steps 500]
    python benchmarks/glow_correlations.py tables # seconds; writes results/glow_correlations.md

Three models of grey images of 32 x 32 learn 4,000 digits of MNIST, 4,000 photographs of CIFAR-10's
animals and as many of its vehicles, and see 400 new images of each kind. Correlations are of ranks,
over the images of a kind:

"all" (fig. 1C): of the log likelihoods of two models. "scale 1", ... (fig. 3C, D): of what their
scales add. "pixel differences" (fig. 1A, B): of a model's likelihood of its own kind with the
pseudo-likelihood by how its training images' pixels differ from the means of 3 x 3. "amplitudes",
"phases" (S3): of a model's likelihood of images, made of the amplitudes of one image of its kind
and the phases of another, with that of either.

A seed is a cell, about 2 minutes on one core; killed and started again the run goes on.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from _image_sets import digits, photographs
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from hierarchies import SMALL, grey, some
from numpy.typing import NDArray

from skgenad import Glow
from skgenad.analysis import (
    PixelDifferenceDensity,
    likelihood_correlation,
    mix_amplitude_and_phase,
    scale_correlation,
)
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table

SEEDS = range(1, 4)
N_TRAIN, N_NEW, MAX_STEPS = 4000, 400, 500
SHAPE = (1, 32, 32)
KINDS = ("digits", "animals", "vehicles")
VEHICLES = (0, 1, 8, 9)  # classes of CIFAR-10
# The paper's figures (sections 2 and 3.1).
PAPER = {
    "all": "> .96, mean .99",
    "scale 3": "mean .26",
    "pixel differences": "> .83",
    "amplitudes": "> .8",
    "phases": "< .05",
}
KEY = ("steps", "seed", "quantity", "model", "images")
COLUMNS: dict[str, type] = {
    "steps": int,
    "seed": int,
    "quantity": str,
    "model": str,
    "images": str,
    "value": float,
    "range": float,
    "cpu_seconds": float,
}
ROWS = results_file("glow_correlations", key=KEY, columns=COLUMNS)
app = typer.Typer(add_completion=False, help=__doc__)


def detector(steps: int, seed: int) -> Glow:
    """Make the flow of a kind of images."""
    return Glow(image_shape=SHAPE, max_steps=steps, **SMALL, random_state=seed, **ALL_ROWS)


def _images(seed: int, data_home: Path | None) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Images to train on and new ones, by their kinds."""
    rng = np.random.RandomState(seed)
    found: list[dict[str, NDArray]] = []
    for subset, n in (("train", N_TRAIN), ("test", N_NEW)):
        X, y, _ = photographs(data_home, subset)
        moves = np.isin(y, VEHICLES)
        kinds = (digits(data_home, subset).images, grey(X[~moves]), grey(X[moves]))
        found.append({k: some(images, n, rng) for k, images in zip(KINDS, kinds, strict=True)})
    return found[0], found[1]


def _row(quantity: str, model: str, images: str, value: float, span: float = np.nan) -> dict:
    return {
        "quantity": quantity,
        "model": model,
        "images": images,
        "value": float(value),
        "range": float(span),
    }


def _rows_of_both(models: dict[str, Glow], new: dict[str, NDArray]) -> list[dict[str, Any]]:
    """Correlations between two models, of likelihoods and of scales, on what they have learned."""
    rows = []
    for pair in combinations(models, 2):
        for kind in pair:
            found = scale_correlation(*(models[name] for name in pair), new[kind])
            for name, (value, span) in found.iterrows():
                label = f"scale {name}" if str(name).isdigit() else str(name)
                rows.append(_row(label, " and ".join(pair), kind, value, span))
    return rows


def _rows_of_one(kind: str, model: Glow, pseudo: Any, X: NDArray) -> list[dict[str, Any]]:
    """Correlations of a model with differences of pixels, amplitudes and phases."""
    value = likelihood_correlation(model.log_density(X), pseudo.score_samples(X))[0, 1]
    half = len(X) // 2
    mixed = mix_amplitude_and_phase(X[:half], X[half:], image_shape=SHAPE)
    parts = (mixed, X[:half], X[half:])
    found = likelihood_correlation(*(model.log_density(part) for part in parts))[0]
    return [
        _row("pixel differences", kind, kind, value),
        _row("amplitudes", kind, kind, found[1]),
        _row("phases", kind, kind, found[2]),
    ]


def _compute(steps: int, seed: int, data_home: Path | None) -> list[dict[str, Any]]:
    train, new = _images(seed, data_home)
    start = time.process_time()
    models = {kind: detector(steps, seed).fit(train[kind]) for kind in KINDS}
    rows = _rows_of_both(models, new)
    for kind, model in models.items():
        pseudo = PixelDifferenceDensity(image_shape=SHAPE).fit(train[kind])
        rows += _rows_of_one(kind, model, pseudo, new[kind])
    common = {"steps": steps, "seed": seed, "cpu_seconds": time.process_time() - start}
    return [{**row, **common} for row in rows]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    seeds: Annotated[str, typer.Option(help="Some of the seeds.")] = ",".join(map(str, SEEDS)),
    steps: Annotated[int, typer.Option(help="Gradient steps.")] = MAX_STEPS,
) -> None:
    """Compute what is missing of the results."""
    cells = [(steps, int(seed)) for seed in seeds.split(",")]
    run_cells(partial(stamped, partial(_compute, data_home=data_home)), cells, ROWS, jobs=1)


@app.command()
def tables() -> None:
    """Write the table from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# What likelihoods of Glow go along with",
        origin_of(rows, "glow_correlations.py"),
        f"Rank correlations over {N_NEW} new images of a kind (amplitudes and phases: over half "
        "as many mixed ones), means and standard deviations over seeds; ranges are from the 5 % to "
        f"the 95 % quantile, in nats. Models: {SMALL}. What the quantities are: the script's "
        "docstring. The paper's figures are of models of colour photographs, house numbers among "
        "them, after 250 epochs.",
    ]
    for steps, part in rows.groupby("steps"):
        text.append(f"## {steps} steps, {part['seed'].nunique()} seed(s)")
        lines = []
        keys = ["quantity", "model", "images"]
        for (quantity, model, images), own in part.groupby(keys, sort=False):
            spans = own["range"].dropna()
            span = f"{spans.mean():.0f}" if len(spans) else ""
            value = mean_sd(own["value"])
            lines.append([quantity, model, images, value, span, PAPER.get(quantity, "")])
        heads = ["quantity", "models of", "images", "correlation", "range", "paper"]
        text.append(table(heads, lines))
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
