"""Defects on photographs, found and located: bottle and screw of MVTec AD, and magnetic tiles.

    python benchmarks/mvtec.py run --data-home DIR --cache DIR   # hours on 2 cores; resumable
    python benchmarks/mvtec.py maps --data-home DIR --cache DIR  # minutes; pictures
    python benchmarks/mvtec.py tables                            # seconds; writes results/mvtec.md

`DIR` holds ``mvtec_small``, the folders *bottle* and *screw* of MVTec AD at 256 pixels, and
``magnetic_tile``, the magnetic tile defects of Huang et al. in the same layout. Good test images of
screws are darker than all defects, so that brightness alone tells them apart; "screw, levelled" has
the mean brightness of each image brought to one half, and is the one to believe.

Features are those of EfficientNet-lite0: "coarse": blocks 2, 4, 7 and 10 on a grid of 16, images at
256 pixels, as UniAD and MPDR take theirs; "fine": blocks 2, 4 and 10, each place the mean over
3 x 3, on a grid of 32. A detector is trained on one category ("alone") or on all three at once
("unified"), and is judged on each. Images are scored by their worst place. Nothing was chosen on
these images but the two kinds of features, which are those of the literature.

Two references are computed here without the package: a Gaussian for each place (PaDiM with all
channels), and the distance to the nearest of 12,000 training patches (PatchCore, at random).

MPDR, NAE and CANCE have the widths and steps that two cores can pay for, far from the papers'.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch.nn.functional import interpolate

from skgenad import (
    CANCE,
    MPDR,
    NAE,
    Autoencoder,
    Committee,
    GaussianMixtures,
    Mahalanobis,
    Neighbors,
    PatchDetector,
)
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import get_data_home, load_mvtec
from skgenad.energies import Chain, Manifold, Reconstruction
from skgenad.inspection import AnomalyMapDisplay
from skgenad.metrics import per_region_overlap_auc
from skgenad.preprocessing import ImageFeatures

PLACES = {
    "bottle": ("mvtec_small", "bottle"),
    "screw": ("mvtec_small", "screw"),
    "screw, levelled": ("mvtec_small", "screw"),
    "magnetic_tile": ("", "magnetic_tile"),
}
LEVELLED = "screw, levelled"
UNIFIED = ("bottle", LEVELLED, "magnetic_tile")
SIZE = 256
FEATURES: dict[str, dict[str, Any]] = {
    "coarse": {},
    "fine": {"layers": ("_blocks.2", "_blocks.4", "_blocks.10"), "grid": 32, "smooth": 3},
}
# A cell trains on one category, by its name, or on all: a row is what it says of a category.
NAMED = ("features", "method", "seed", "trained", "category")
SCORES = ("image_auroc", "pixel_auroc", "region_overlap")
ROWS = results_file(
    "mvtec",
    key=NAMED,
    columns={
        **dict.fromkeys(("features", "method", "trained", "category"), str),
        **dict.fromkeys(("seed", "n_train", "n_test"), int),
        **dict.fromkeys((*SCORES, "fit_seconds", "score_seconds"), float),
    },
)
# Energies of two cores: a hundredth of the paper's steps, and a quarter of its width.
_SMALL: dict[str, Any] = {"network": (256, 256), "batch_size": 256}
_LESS_NOISE = Chain(10, step_size=0.1, noise=0.005, gamma=1e-4, bounds="none")
_ALL_IMAGES = {"calibration_fraction": 0.0, "contamination": 0.1}
Home = Annotated[Path | None, typer.Option(help="Folder with the data.")]
Cache = Annotated[Path, typer.Option(help="Folder to keep features in.")]

app = typer.Typer(add_completion=False, help=__doc__)


# ---- methods -------------------------------------------------------------------------------------


def _mpdr(seed: int, **chain: Any) -> Any:
    energy = Reconstruction(latent_dim=128, init="manifold")
    manifold = Manifold(128, steps=3000, learning_rate=1e-3)
    short = {"energy": energy, "manifold": manifold, "max_steps": 600, **chain}
    return make_pipeline(Normalizer(), MPDR.from_paper("mvtec", **{**_SMALL, **short}))


def _autoencoder(seed: int) -> Any:
    """MPDR's network and steps before its energy is trained, but on standardised columns."""
    network = {**_SMALL, "latent_dim": 128, "latent_space": "sphere", "max_steps": 3000}
    return make_pipeline(Normalizer(), Autoencoder(**network, learning_rate=1e-3))


def _standard_mpdr(seed: int) -> Any:
    """MPDR of standardised columns with the package's chains, which are made for these."""
    manifold = Manifold(128, steps=3000, learning_rate=1e-3)
    return make_pipeline(Normalizer(), MPDR(**_SMALL, manifold=manifold, max_steps=600))


def _nae(seed: int) -> Any:
    chains = {"latent_chain": Chain(5, step_size=0.1, noise=0.02)}
    short = {"latent_dim": 128, "pretrain_steps": 3000, "max_steps": 600}
    return make_pipeline(Normalizer(), NAE(**_SMALL, **short, **chains))


METHODS: dict[str, Callable[[int], Any]] = {
    "Mahalanobis": lambda seed: Mahalanobis(),
    "Mahalanobis, each place": lambda seed: Mahalanobis(shrinkage="auto"),
    # The Gaussian of PaDiM: its 0.01 is added to variances of about 1, in the units of features.
    "PaDiM, each place": lambda seed: Mahalanobis(shrinkage=0.01, standardize=False),
    "Neighbors": lambda seed: Neighbors(n_neighbors=1, max_anchors=12_000),
    "GaussianMixtures": lambda seed: GaussianMixtures(max_rows=20_000),
    "Committee": lambda seed: Committee(),
    "CANCE": lambda seed: CANCE(),
    "AE": _autoencoder,
    "MPDR-R": _mpdr,
    # One step of the energy: what it starts from, rows as they are and with noise, where "AE" has
    # standardised ones without.
    "MPDR-R, its start": partial(_mpdr, max_steps=1),
    "MPDR, standardised": _standard_mpdr,
    # With the energy as a sum over columns, as the regulariser is scaled then: the mean of 256
    # squared errors of rows of length 1 is far below the 1/2 that a regulariser of 1 leads to.
    "MPDR-R, sum": partial(_mpdr, energy_penalty=256.0),
    # Ten steps of the paper's noise of 0.1 take a row of 256 numbers and length 1 to a length of 5.
    # This is the noise of its features of whole images.
    "MPDR-R, less noise": partial(_mpdr, visible_chain=_LESS_NOISE),
    "NAE": _nae,
}
REFERENCES = ("Gaussian of each place", "nearest of 12,000")
DRAWN = (
    "MPDR-R, less noise",
    "MPDR-R, sum",
    "MPDR-R, its start",
    "MPDR, standardised",
    "Neighbors",
    "GaussianMixtures",
    "Committee",
    "CANCE",
    "AE",
    "MPDR-R",
    "NAE",
    REFERENCES[1],
)
ONCE_FINE = (*REFERENCES, "Mahalanobis, each place", "PaDiM, each place", "Neighbors")


def patch_detector(method: str, features: Any, seed: int) -> PatchDetector:
    """Make the detector of a method on a kind of features."""
    positions = "separate" if method.endswith("each place") else "shared"
    # A detector that keeps all rows that it sees need not see more than it keeps.
    settings = {"positions": positions, "random_state": seed, **_ALL_IMAGES}
    return PatchDetector(METHODS[method](seed), features=features, max_rows=400_000, **settings)


def reference_energies(method: str, train: NDArray, test: NDArray, seed: int) -> NDArray:
    """Energies (n, g, g) of the two references, by their definitions."""
    rows, new = torch.from_numpy(train), torch.from_numpy(test)
    n, c, g, _ = rows.shape
    if method == REFERENCES[0]:
        mean = rows.mean(dim=0)
        found = torch.empty(len(new), g, g)
        for i in range(g):
            for j in range(g):
                centred = rows[:, :, i, j] - mean[:, i, j]
                covariance = centred.T @ centred / (n - 1) + 0.01 * torch.eye(c)
                factor = torch.linalg.cholesky(covariance)
                away = (new[:, :, i, j] - mean[:, i, j]).T
                solved = torch.linalg.solve_triangular(factor, away, upper=False)
                found[:, i, j] = solved.square().sum(dim=0).sqrt()
        return found.numpy()
    patches = rows.permute(0, 2, 3, 1).reshape(-1, c)
    some = patches[np.random.RandomState(seed).permutation(len(patches))[:12_000]]
    mean, std = some.mean(dim=0), some.std(dim=0) + 1e-6
    some = (some - mean) / std
    queries = ((new.permute(0, 2, 3, 1) - mean) / std).reshape(len(new), g * g, c)
    nearest = [torch.cdist(image, some).amin(dim=1).reshape(g, g) for image in queries]
    return torch.stack(nearest).numpy()


# ---- data ----------------------------------------------------------------------------------------


@cache
def images_of(category: str, part: str, home: Path | None, size: int = SIZE) -> Any:
    """Read images, uint8 or, where they are levelled, floats."""
    folder, name = PLACES[category]
    bunch = load_mvtec(get_data_home(home) / folder, name, subset=part, size=size)
    if category == LEVELLED:
        pixels = bunch.data.astype(np.float32) / 255
        away = pixels.mean(axis=(1, 2, 3), keepdims=True) - 0.5
        bunch.data = (pixels - away).clip(0, 1)
    return bunch


@cache
def features_of(category: str, part: str, kind: str, home: Path | None, folder: Path) -> NDArray:
    """Features of images, which are the same for all methods: they are computed once."""
    images = images_of(category, part, home).data
    return image_features(kind, folder).fit(images).transform(images)


def image_features(kind: str, folder: Path | None) -> ImageFeatures:
    """Make features of one of the two kinds."""
    return ImageFeatures(pool=None, size=SIZE, cache=folder, **FEATURES[kind])


# ---- rows ----------------------------------------------------------------------------------------


def energies_of(
    method: str, seed: int, train: NDArray, tests: dict[str, NDArray]
) -> tuple[dict[str, NDArray], float, float]:
    """Energies (n, g, g) of test images by category, and the seconds of fit and scores."""
    began = time.process_time()
    if method in REFERENCES:
        found = {name: reference_energies(method, train, X, seed) for name, X in tests.items()}
        return found, np.nan, time.process_time() - began
    detector = patch_detector(method, None, seed).fit(train)
    fitted = time.process_time()
    found = {name: detector.anomaly_map(X) for name, X in tests.items()}
    return found, fitted - began, time.process_time() - fitted


def judged(energies: NDArray, bunch: Any) -> dict[str, float]:
    """Areas under the curves of images, of pixels, and of defects."""
    there = torch.from_numpy(energies[:, None].astype(np.float32))
    maps = interpolate(there, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0].numpy()
    return {
        "image_auroc": roc_auc_score(bunch.target, energies.max(axis=(1, 2))),
        "pixel_auroc": roc_auc_score(bunch.masks.ravel(), maps.ravel()),
        "region_overlap": per_region_overlap_auc(bunch.masks, maps),
    }


def compute(home: Path | None, folder: Path, *cell: Any) -> Iterator[dict[str, Any]]:
    """Fit a method on one category or on all, and judge it on each."""
    kind, method, seed, trained = cell
    names = UNIFIED if trained == "unified" else (trained,)
    parts = [features_of(name, "train", kind, home, folder) for name in names]
    tests = {name: features_of(name, "test", kind, home, folder) for name in names}
    found, fit_seconds, score_seconds = energies_of(method, seed, np.concatenate(parts), tests)
    for name in names:
        bunch = images_of(name, "test", home)
        yield {
            "category": name,
            "n_train": sum(map(len, parts)),
            "n_test": len(bunch.data),
            **judged(found[name], bunch),
            "fit_seconds": fit_seconds,
            "score_seconds": score_seconds,
        }


@app.command()
def run(
    cache_folder: Annotated[Path, typer.Option("--cache", help="Folder to keep features in.")],
    data_home: Home = None,
    settings: Annotated[str, typer.Option(help="Some of them, by semicolons.")] = ";".join(
        (*PLACES, "unified")
    ),
    kinds: Annotated[str, typer.Option(help="Kinds of features.")] = ",".join(FEATURES),
    methods: Annotated[str, typer.Option(help="Some of them, by semicolons.")] = ";".join(
        (*REFERENCES, *METHODS)
    ),
    seeds: Annotated[int, typer.Option(help="How many, of those that draw.")] = 3,
) -> None:
    """Compute what is missing, method by method."""
    one = partial(stamped, partial(compute, data_home, cache_folder))
    for method in methods.split(";"):
        for kind in kinds.split(","):
            if kind == "fine" and method not in ONCE_FINE:
                continue
            cells = [
                (kind, method, seed, trained)
                for seed in range(1, (seeds if method in DRAWN else 1) + 1)
                for trained in settings.split(";")
            ]
            run_cells(one, cells, ROWS)


# ---- tables and pictures -------------------------------------------------------------------------


def _lines(rows: pd.DataFrame) -> str:
    lines = []
    order = [*REFERENCES, *METHODS]
    for kind in FEATURES:
        for method in order:
            some = rows[(rows["features"] == kind) & (rows["method"] == method)]
            if len(some):
                cells = [mean_sd(some[score]) for score in SCORES]
                seconds = [
                    f"{some[name].median():.0f}" for name in ("fit_seconds", "score_seconds")
                ]
                lines.append([method, kind, len(some), *cells, *seconds])
    header = [
        "method",
        "features",
        "seeds",
        "image AUROC",
        "pixel AUROC",
        "PRO",
        "fit s",
        "score s",
    ]
    return table(header, lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# Defects on photographs",
        origin_of(rows, "mvtec.py"),
        "AUROC of images by their worst place, AUROC of pixels, and the area under the per-region "
        "overlap up to a false positive rate of .3; mean ± standard deviation over seeds. Seconds "
        "are CPU time without that of features, and of all three categories where it is unified.",
    ]
    unified = rows["trained"] == "unified"
    for title, of_it in (("alone", rows[~unified]), ("unified", rows[unified])):
        for category in PLACES:
            some = of_it[of_it["category"] == category]
            if len(some):
                n = (some["n_train"].iloc[0], some["n_test"].iloc[0])
                text += [
                    f"## {category}, {title}",
                    f"{n[0]} training images, {n[1]} to test.",
                    _lines(some),
                ]
    typer.echo(write_paragraphs(ROWS, text))


@app.command()
def maps(
    cache_folder: Annotated[Path, typer.Option("--cache", help="Folder to keep features in.")],
    data_home: Home = None,
    method: Annotated[str, typer.Option(help="Which one.")] = "PaDiM, each place",
    out: Annotated[Path, typer.Option(help="Folder for pictures.")] = Path("maps"),
    n_images: Annotated[int, typer.Option(help="How many of a category.")] = 7,
) -> None:
    """Draw maps of test images, some of each defect."""
    out.mkdir(parents=True, exist_ok=True)
    for category in UNIFIED:
        train, test = (images_of(category, part, data_home) for part in ("train", "test"))
        detector = patch_detector(method, image_features("coarse", cache_folder), 1).fit(train.data)
        places = np.linspace(0, len(test.data) - 1, n_images).astype(int)
        AnomalyMapDisplay.from_estimator(
            detector, test.data[places], test.masks[places], max_images=None
        ).figure_.savefig(out / f"{category.replace(', ', '_')}.png", dpi=100)


if __name__ == "__main__":
    app()
