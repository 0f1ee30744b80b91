"""P-WAE on planted defects: the six categories of `make_textures`, or a folder like MVTec AD's.

    python benchmarks/pwae_textures.py run              # resumes; --full: the paper's sizes
    python benchmarks/pwae_textures.py run --folder DIR --categories bottle,cable
    python benchmarks/pwae_textures.py maps             # a minute a category; a picture
    python benchmarks/pwae_textures.py tables           # seconds; writes results/pwae_textures.md
    python benchmarks/pwae_textures.py choose           # what settings came from

The default is of a size for one CPU core: images of 64x64, 240 of them to train on,
as many as a category of MVTec AD has on average. `--full` is `PWAE.from_paper` on images of
300x300, for a GPU; its encoder is the package's own, as no network that was trained on other images
comes with it. A folder has the layout of MVTec AD, and its images are resized.

Settings were chosen on images that the generator makes of seed 101; the tables are of seeds 0, 1.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import typer
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skgenad import PWAE, Autoencoder
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.datasets import load_mvtec, make_textures
from skgenad.inspection import AnomalyMapDisplay
from skgenad.metrics import max_balanced_accuracy
from skgenad.networks import Conv

ROWS = results_file(
    "pwae_textures",
    key=("size", "category", "seed", "method", "score"),
    columns={
        "size": str,
        "category": str,
        "seed": int,
        "method": str,
        "score": str,
        "auroc": float,
        "pixel_auroc": float,
        "balanced_accuracy": float,
        "n_train": int,
        "n_good": int,
        "n_defective": int,
        "largest_defect": float,
        "cpu_seconds": float,
    },
)
CATEGORIES = ("weave", "wood", "tiles", "button", "bolt", "capsule")
SEEDS = (0, 1)
CHOICE_SEED = 101
# By the worst hundredth of pixels: fits of their own, of the same weights, later than the others.
BY_PIXELS = ("PWAE, pixels", "Autoencoder, pixels")
METHODS = ("PWAE", "Autoencoder", "pixel Gaussian", "pixel kNN", *BY_PIXELS)
app = typer.Typer(add_completion=False, help=__doc__)


class Size(NamedTuple):
    """Sides of the images, numbers of them, and the settings of the networks."""

    side: int
    n_train: int
    n_test: int
    pwae: dict[str, Any]
    autoencoder: dict[str, Any]


_SMALL = Size(
    side=64,
    n_train=240,
    n_test=60,
    pwae={"network": Conv(width=0.5), "batch_size": 16, "max_steps": 1500},
    autoencoder={"batch_size": 16, "max_steps": 1500, "learning_rate": 3e-3},
)
# The paper gives neither steps nor a batch size.
_FULL = Size(
    side=300,
    n_train=240,
    n_test=60,
    pwae={"batch_size": 16, "max_steps": 20_000},
    autoencoder={"batch_size": 16, "max_steps": 20_000, "learning_rate": 1e-3},
)
SIZES = {"small": _SMALL, "full": _FULL}
_CHOICES: dict[str, list[dict[str, Any]]] = {
    "PWAE": [
        {},
        {"jigsaw_penalty": 1e-3, "swd_penalty": 1e-4, "hsic_penalty": 1e-5},
        {"jigsaw_penalty": 0.0, "swd_penalty": 0.0, "hsic_penalty": 0.0},
        {"learning_rate": 1e-2},
    ],
    "Autoencoder": [
        {"learning_rate": rate, "latent_dim": d} for rate in (1e-3, 3e-3, 1e-2) for d in (32, 128)
    ],
}


# ---- data ----------------------------------------------------------------------------------------


class Images(NamedTuple):
    """Pixels (n, C, H, W) in [0, 1], labels (n,), masks (n, H, W)."""

    train: NDArray
    test: NDArray
    labels: NDArray
    masks: NDArray


def images_of(category: str, seed: int, size: Size, folder: Path | None) -> Images:
    """Draw or read a category."""
    if folder is None:
        numbers = {"n_train": size.n_train, "n_test": size.n_test, "size": size.side}
        made = make_textures(categories=category, **numbers, random_state=seed)[category]
        train, test = made.train, made.test
    else:
        train, test = (
            load_mvtec(folder, category, subset=subset, size=size.side)
            for subset in ("train", "test")
        )
    pixels = (part.data.astype(np.float32) / 255 for part in (train, test))
    return Images(*pixels, test.target, test.masks)


# ---- methods -------------------------------------------------------------------------------------


def detector(method: str, size: Size, shape: tuple[int, ...], seed: int, **changes: Any) -> Any:
    """Make P-WAE or the plain autoencoder."""
    common = {"image_shape": shape, "random_state": seed, **ALL_ROWS}
    if method == "PWAE":
        make = PWAE.from_paper if size is _FULL else PWAE
        return make(**{**common, **size.pwae, **changes})
    plain = {"network": "conv", "latent_dim": 128}
    return Autoencoder(**{**common, **plain, **size.autoencoder, **changes})


def _scores(
    method: str, size: Size, seed: int, data: Images, **changes: Any
) -> dict[str, tuple[NDArray, NDArray]]:
    """Scores (n,) and maps (n, H, W) of the test images, by name."""
    if method in ("PWAE", "Autoencoder"):
        made = detector(method, size, data.train.shape[1:], seed, **changes).fit(data.train)
        found = {method: (made.anomaly_score(data.test), made.anomaly_map(data.test))}
        if method == "PWAE":
            # The other reading of the paper, of the same fit.
            made.module_.combine = "sum"
            found["PWAE, sum"] = (made.anomaly_score(data.test), found[method][1])
        return found
    if method in BY_PIXELS:
        name = method.partition(",")[0]
        made = detector(name, size, data.train.shape[1:], seed, **changes).fit(data.train)
        maps = made.anomaly_map(data.test)
        return {method: (worst_pixels(maps), maps)}
    return {method: of_pixels(method, data)}


def worst_pixels(maps: NDArray, share: float = 0.01) -> NDArray:
    """Root mean squared errors (n,) of the worst pixels: the order of ``combine="pixels"``."""
    flat = np.sort(maps.reshape(len(maps), -1), axis=1)
    return np.sqrt(flat[:, -max(1, math.ceil(share * flat.shape[1])) :].mean(axis=1))


def of_pixels(method: str, data: Images) -> tuple[NDArray, NDArray]:
    """One Gaussian for each pixel and colour; the 5 nearest images, by standardised pixels."""
    center = data.train.mean(axis=0)
    spread = np.maximum(data.train.std(axis=0), 0.01)
    train, test = ((part - center) / spread for part in (data.train, data.test))
    if method == "pixel Gaussian":
        maps = (test**2).mean(axis=1)
        return maps.mean(axis=(1, 2)), maps
    flat, flat_test = (part.reshape(len(part), -1) for part in (train, test))
    distances, near = (
        NearestNeighbors(n_neighbors=5, algorithm="brute").fit(flat).kneighbors(flat_test)
    )
    maps = np.stack([(train[five] - one) ** 2 for five, one in zip(near, test, strict=True)])
    return distances.mean(axis=1), maps.mean(axis=(1, 2))


def _compute(
    size: str, category: str, seed: int, method: str, *, folder: Path | None = None
) -> list[dict[str, Any]]:
    data = images_of(category.rpartition("/")[2], seed, SIZES[size], folder)
    start = time.process_time()
    found = _scores(method, SIZES[size], seed, data)
    seconds = time.process_time() - start
    return [
        {
            "score": name,
            "auroc": roc_auc_score(data.labels, scores),
            "pixel_auroc": roc_auc_score(data.masks.ravel(), maps.ravel()),
            "balanced_accuracy": max_balanced_accuracy(data.labels, scores),
            "n_train": len(data.train),
            "n_good": int((data.labels == 0).sum()),
            "n_defective": int(data.labels.sum()),
            "largest_defect": float(data.masks.mean(axis=(1, 2)).max()),
            "cpu_seconds": seconds,
        }
        for name, (scores, maps) in found.items()
    ]


# ---- commands ------------------------------------------------------------------------------------


@app.command()
def run(
    full: Annotated[bool, typer.Option(help="The paper's size, for a GPU.")] = False,
    folder: Annotated[Path | None, typer.Option(help="A folder like MVTec AD's.")] = None,
    categories: Annotated[str, typer.Option(help="Some of them.")] = ",".join(CATEGORIES),
    methods: Annotated[str, typer.Option(help="Some of them, split by semicolons.")] = ";".join(
        METHODS
    ),
    jobs: Annotated[int, typer.Option(help="Fits at a time.")] = 1,
) -> None:
    """Compute what is missing of the results."""
    size = "full" if full else "small"
    # Categories of MVTec AD have the names of some that are drawn.
    prefix = "" if folder is None else f"{folder.resolve().name}/"
    cells = [
        (size, prefix + category, seed, method)
        for seed in SEEDS
        for category in categories.split(",")
        for method in methods.split(";")
    ]
    run_cells(partial(stamped, partial(_compute, folder=folder)), cells, ROWS, jobs=jobs)


@app.command()
def choose(
    categories: Annotated[str, typer.Option(help="Some of them.")] = ",".join(CATEGORIES),
) -> None:
    """Print image AUROC of the settings that were chosen among, on images that no table has."""
    for method, settings in _CHOICES.items():
        for changes in settings:
            values = []
            for category in categories.split(","):
                data = images_of(category, CHOICE_SEED, _SMALL, None)
                found = _scores(method, _SMALL, CHOICE_SEED, data, **changes)
                values.append([roc_auc_score(data.labels, scores) for scores, _ in found.values()])
            each = "; ".join(" / ".join(f"{v:.3f}" for v in value) for value in values)
            means = " / ".join(f"{v:.3f}" for v in np.mean(values, axis=0))
            typer.echo(f"{method} {changes}: {means} ({each})")


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there, and a picture of maps."""
    rows = ROWS.read()
    text = ["# P-WAE on planted defects", origin_of(rows, "pwae_textures.py")]
    split = rows["category"].str.rpartition("/")
    rows = rows.assign(folder=split[0], category=split[2])
    for (size, folder), part in rows.groupby(["size", "folder"], sort=False):
        text += _report(str(size), str(folder), part)
    if (ROWS.path.parent / "maps.png").exists():
        text += [
            "## Maps",
            "![images, reconstructions, maps and masks](pwae_textures/maps.png)",
            "Images with a defect (seed 0), what P-WAE makes of them, its map of squared errors, "
            "and the map over the image with the outline of the defect (`maps`).",
        ]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


def _report(size: str, folder: str, rows: pd.DataFrame) -> list[str]:
    train, good, defective = (
        " to ".join(map(str, sorted({rows[name].min(), rows[name].max()})))
        for name in ("n_train", "n_good", "n_defective")
    )
    return [
        f"## {size}{folder and f', {folder}'}: {SIZES[size].side} x {SIZES[size].side} pixels",
        f"{train} images to train on, {good} good and {defective} "
        f"defective ones to find; the largest defect covers {100 * rows.largest_defect.max():.1f} "
        "% of its image. PWAE's score is the largest of its normalised errors, of the whole and of "
        'nine patches; with "sum" it is their sum, of the same fit; with "pixels" the error of the '
        "worst hundredth of pixels, of a fit with the same settings and seed. The autoencoder is a "
        "convolutional one of the whole image, with a learning rate of its own. Mean and standard "
        f"deviation over {rows.seed.nunique()} seed(s) of data and fit, or of one.",
        *(
            paragraph
            for metric, title in (
                ("auroc", "Image AUROC"),
                ("pixel_auroc", "Pixel AUROC"),
                ("balanced_accuracy", "Maximum balanced accuracy"),
                ("cpu_seconds", "CPU seconds of fit and scoring"),
            )
            for paragraph in (f"### {title}", _by_category(rows, metric))
        ),
    ]


def _by_category(rows: pd.DataFrame, metric: str) -> str:
    scores = list(dict.fromkeys(rows.score))
    lines = [
        [category, *(mean_sd(part[part.score == score][metric]) for score in scores)]
        for category, part in rows.groupby("category", sort=False)
    ]
    # A mean over all categories, of scores that are there for all.
    n_categories = rows.groupby("score")["category"].nunique()
    means = rows.groupby(["seed", "score"])[metric].mean().unstack()
    whole = n_categories == n_categories.max()
    lines.append(["mean", *(mean_sd(means[score]) if whole[score] else "" for score in scores)])
    return table(["category", *scores], lines)


@app.command()
def maps(
    categories: Annotated[str, typer.Option(help="Some of them.")] = ",".join(CATEGORIES),
) -> None:
    """Draw P-WAE's maps of a defective image of each kind, category by category, seed 0."""
    from matplotlib.figure import Figure

    names = categories.split(",")
    figure = Figure(figsize=(8 * len(names), 6), layout="constrained")
    for axes, category in zip(
        figure.subplots(1, len(names), squeeze=False).flat, names, strict=True
    ):
        data = images_of(category, 0, _SMALL, None)
        fitted = detector("PWAE", _SMALL, data.train.shape[1:], 0).fit(data.train)
        # Kinds of defects come in equal numbers, one after another.
        chosen = np.flatnonzero(data.labels)[:: data.labels.sum() // 3][:3]
        display = AnomalyMapDisplay.from_estimator(
            fitted, data.test[chosen], data.masks[chosen], ax=axes
        )
        display.bounding_ax_.set_title(category)
    folder = ROWS.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "maps.png", dpi=60)


if __name__ == "__main__":
    app()
