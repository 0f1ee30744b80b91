"""Embeddings of images and texts: plain rows, rows of unit norm, and these with noise in training.

    python benchmarks/embeddings.py run --data-home DIR   # hours on 2 cores; resumable
    python benchmarks/embeddings.py tables                # seconds; writes results/embeddings.md

`DIR` holds ADBench's embeddings as ``adbench/CV_by_ResNet18/*.npz`` (512 columns) and
``adbench/NLP_by_BERT/*.npz`` (768), without which they are downloaded. Rows are split as in the
protocol `clean`, without its scaling: 30 % of the rows test, and of the others the normal ones
train. "unit" divides each row by its norm; "unit + noise" adds, once, Gaussian noise of 0.01 to
the training rows of unit norm, which MPDR's paper recommends for all detectors (section 4.3). For
detectors that are trained "noise everywhere" has noise on the test rows, too, which tells apart
what noise does and that only training rows have it.

"vit" is ``MPDR.from_paper("vit")`` on small networks with few steps, which adds noise of its own
to each batch, "vit-AE" the autoencoder that its energy starts from (one step), and "vit-512" has an
energy penalty of 512, which holds negatives at 1/1024 in place of 1/2.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import normalize

from skgenad import MPDR
from skgenad.benchmark import make_split, run_cells
from skgenad.benchmark._detectors import ALL_ROWS, DETECTORS
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_adbench, list_adbench
from skgenad.energies import Manifold, Reconstruction

PLAIN, UNIT, NOISY = "plain", "unit", "unit + noise"
KINDS = (PLAIN, UNIT, NOISY)
EVERYWHERE = "noise everywhere"
NOISE = 0.01
# Nineteen embeddings that need not be downloaded by who has the data of the other scripts.
SETS = (
    *(name for name in list_adbench("CV_by_ResNet18") if "MVTec" in name),
    *(f"CV_by_ResNet18/{name}" for name in ("CIFAR10_0", "CIFAR10_4", "SVHN_0")),
    "NLP_by_BERT/20news_3",
)
OTHERS = SETS[15:]
# These have all sets, seeds and kinds of rows; the slow ones the sets that are no classes of
# MVTec-AD, the first seed and no rows of unit norm alone, ours for features not plain ones either.
QUICK = (
    *("Committee", "Neighbors", "kNN-z", "KNN", "Mahalanobis", "LocalGaussian"),
    *("KernelDenoiser", "GMM", "IForest", "OCSVM"),
)
SLOW = ("AE", "vit", "MPDR-R", "DAGMM", "CANCE", "vit-AE", "vit-512", "VAE", "NAE")
SEEDS = (1, 2, 3)
NAMED = ("dataset", "rows", "detector", "seed")
ROWS = results_file(
    "embeddings",
    key=NAMED,
    columns={
        **dict.fromkeys(("dataset", "rows", "detector"), str),
        **dict.fromkeys(("seed", "n_train", "n_test", "n_anomalies", "n_features"), int),
        **dict.fromkeys(("auroc", "average_precision", "seconds"), float),
    },
)

app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows ----------------------------------------------------------------------------------------


def vit(seed: int, *, n_steps: int = 60, penalty: float = 1.0) -> MPDR:
    """Make the paper's detector for a ViT's features, 128 wide and not 1024, with few steps."""
    return MPDR.from_paper(
        "vit",
        network=(128, 128),
        energy=Reconstruction(pretrain_steps=300, pretrain_learning_rate=1e-3),
        manifold=Manifold(steps=300, learning_rate=1e-3),
        max_steps=n_steps,
        energy_penalty=penalty,
        batch_size=64,
        random_state=seed,
        **ALL_ROWS,
    )


OWN: dict[str, Callable[..., MPDR]] = {
    "vit": vit,
    "vit-AE": partial(vit, n_steps=1),
    "vit-512": partial(vit, penalty=512),
}


def parts_of(
    X: NDArray, y: NDArray, kind: str, seed: int, *, with_noise: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Return training rows of a kind, test rows and labels of the test rows."""
    split = make_split(X, y, protocol="clean", seed=seed)
    train, test = X[split.train_index], X[split.test_index]
    if kind != PLAIN:
        train, test = normalize(train), normalize(test)
    draw = np.random.default_rng(seed).standard_normal
    if kind in (NOISY, EVERYWHERE) and with_noise:
        train = train + NOISE * draw(train.shape)
    if kind == EVERYWHERE:
        test = test + NOISE * draw(test.shape)
    return train, test, split.y_test


def compute(data_home: Path | None, *cell: Any) -> Iterator[dict[str, Any]]:
    """Fit one detector to one kind of rows of one set and judge its scores."""
    dataset, kind, name, seed = cell
    X, y = fetch_adbench(dataset, data_home=data_home, return_X_y=True)
    own = OWN.get(name)
    train, test, truth = parts_of(X, y, kind, seed, with_noise=own is None)
    detector = own(seed) if own else DETECTORS[name](seed)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant columns, and of few rows
        scores = -detector.fit(train).score_samples(test)
    yield {
        **dict(zip(NAMED, cell, strict=True)),
        "n_train": len(train),
        "n_test": len(test),
        "n_anomalies": int(truth.sum()),
        "n_features": X.shape[1],
        "auroc": roc_auc_score(truth, scores),
        "average_precision": average_precision_score(truth, scores),
        "seconds": time.process_time() - began,
    }


def cells_of(detector: str) -> list[tuple[str, str, str, int]]:
    """Cells of a detector, the small sets first."""
    quick = detector in QUICK
    trained = (NOISY,) if detector in OWN else (PLAIN, NOISY, EVERYWHERE)
    kinds = KINDS if quick else trained
    return [
        (dataset, kind, detector, seed)
        for seed in (SEEDS if quick else SEEDS[:1])
        for dataset in (SETS if quick else OTHERS)
        for kind in kinds
    ]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(QUICK + SLOW),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing, detector by detector."""
    for detector in detectors.split(","):
        run_cells(
            partial(stamped, partial(compute, data_home)), cells_of(detector), ROWS, jobs=jobs
        )


# ---- tables --------------------------------------------------------------------------------------


def _by_set(rows: pd.DataFrame, detector: str, metric: str) -> pd.DataFrame:
    """Means over seeds, a line for each set and a column for each kind of rows."""
    own = rows[rows["detector"] == detector]
    return own.pivot_table(index="dataset", columns="rows", values=metric).reindex(
        columns=(*KINDS, EVERYWHERE)
    )


def _mean(values: pd.Series) -> str:
    return "" if values.isna().all() else f"{values.mean():.3f}"


def _difference(means: pd.DataFrame, one: str, other: str) -> str:
    return interval((means[one] - means[other]).dropna())


def _lines(rows: pd.DataFrame, metric: str) -> str:
    """Make a line for each detector: means over sets, and paired differences over them."""
    lines = []
    for name in (n for n in QUICK + SLOW if n in set(rows["detector"])):
        means = _by_set(rows, name, metric)
        own = rows[rows["detector"] == name]
        line = [name, own["seed"].nunique(), *(_mean(means[kind]) for kind in KINDS)]
        lines.append(
            [
                *line,
                _difference(means, UNIT, PLAIN),
                _difference(means, NOISY, PLAIN),
                f"{own['seconds'].median():.2f}",
            ]
        )
    header = ["detector", "seeds", *KINDS, "unit minus plain", "unit + noise minus plain", "s"]
    return table(header, lines)


def _set_by_set(rows: pd.DataFrame, metric: str) -> str:
    """Plain rows and unit rows with noise, set by set and in the mean; the mean with all noise."""
    kinds = (PLAIN, NOISY)
    lines = []
    for name in (n for n in QUICK + SLOW if n in set(rows["detector"])):
        means = _by_set(rows, name, metric).reindex(OTHERS)
        line = [_mean(means.loc[[dataset], kind]) for dataset in OTHERS for kind in kinds]
        own = rows[(rows["detector"] == name) & rows["dataset"].isin(OTHERS)]
        lines.append(
            [
                name,
                *line,
                *(_mean(means[kind]) for kind in (*kinds, EVERYWHERE)),
                f"{own['seconds'].median():.1f}",
            ]
        )
    places = (*(name.split("/")[-1] for name in OTHERS), "mean")
    header = (f"{place}, {kind}" for place in places for kind in kinds)
    return table(["", *header, f"mean, {EVERYWHERE}", "s"], lines)


def finished(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the seeds of detectors that have every cell; others are still being computed."""
    cells = set(rows[list(NAMED)].itertuples(index=False, name=None))
    wanted = set[tuple[str, str, str, int]]()
    for name in set(rows["detector"]):
        for seed in SEEDS:
            of_seed = {cell for cell in cells_of(name) if cell[-1] == seed}
            wanted |= of_seed if of_seed <= cells else set()
    return rows[rows.set_index(list(NAMED)).index.isin(wanted)]


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = finished(ROWS.read())
    sizes = rows.groupby("dataset")["n_train"].first()
    quick = rows[rows["detector"].isin(QUICK)]
    mvtec = quick["dataset"].str.contains("MVTec")
    text = [
        "# Embeddings",
        origin_of(rows, "embeddings.py"),
        f"{len(sizes)} sets of embeddings, {sizes.min()} to {sizes.max()} training rows, split as "
        "in the protocol `clean` but not scaled by it. Means over sets of means over seeds (95 % "
        "t-interval over sets of the difference); 15 of the sets are classes of MVTec-AD, and no "
        "independent cases. s: CPU seconds of fit and scores, median. All of our detectors but "
        "those of vit, and kNN-z, standardise columns, of unit rows too.",
        f"## AUROC, {len(sizes)} sets",
        _lines(quick, "auroc"),
        "## Average precision, the same",
        _lines(quick, "average_precision"),
        "## AUROC, the classes of MVTec-AD alone",
        _lines(quick[mvtec], "auroc"),
        f"## AUROC of the other sets, seed {SEEDS[0]}, with what takes long",
        _set_by_set(rows[rows["seed"] == SEEDS[0]], "auroc"),
        "## Average precision, the same",
        _set_by_set(rows[rows["seed"] == SEEDS[0]], "average_precision"),
    ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
