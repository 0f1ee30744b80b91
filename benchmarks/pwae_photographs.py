"""P-WAE on photographs: the readings of its score, its terms one by one, and a plain autoencoder.

    python benchmarks/pwae_photographs.py run --data-home DIR     # resumes
    python benchmarks/pwae_photographs.py maps --data-home DIR    # three fits; ./maps.png
    python benchmarks/pwae_photographs.py tables                  # seconds

`DIR` has MVTec AD's categories bottle and screw under `mvtec_small`, and `magnetic_tile`, in MVTec
AD's layout (see "Photographs" in the guide). MVTec AD's images are for non-commercial use: no
picture of them is kept here. "screw, levelled" has each image's mean brightness brought to one
half, as good test images of screws are darker than all defects. They have less contrast, too, which
levelling leaves: "screw, standardised" has the standard deviation of each image's pixels brought to
one eighth as well. Images are brought to 64 x 64 pixels, for one CPU core.

All scores of a method are of one fit: the readings of `combine`, the error of the whole image, and
that of other shares of the worst pixels. Nothing was chosen on these images: network, steps and
rates are those of `pwae_textures.py`, with fewer steps and half the decoder's channels for speed.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from mvtec import PLACES, images_of
from numpy.typing import NDArray
from pwae_textures import Images, of_pixels, worst_pixels
from sklearn.metrics import roc_auc_score

from skgenad import PWAE, Autoencoder
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.inspection import AnomalyMapDisplay
from skgenad.networks import Conv

SIDE = 64
STEPS = 600
STANDARDISED = "screw, standardised"
SETS = (*PLACES, STANDARDISED)
# Screws as they are say little beyond their brightness: for the main methods alone.
CONFOUNDED = "screw"
REFERENCES = ("mean image", "pixel kNN", "brightness", "contrast")
MAIN = ("PWAE", "PWAE, paper's weights", "Autoencoder", *REFERENCES)
_OFF = {"hsic_penalty": 0.0, "swd_penalty": 0.0, "jigsaw_penalty": 0.0}
_PAPER = {name: getattr(PWAE.from_paper(), name) for name in _OFF}
# One patch is no puzzle: that term is nothing whatever its weight.
_WHOLE = {"grid_size": 1, "hsic_penalty": 0.0, "swd_penalty": 0.0}
PWAES: dict[str, dict[str, Any]] = {
    "PWAE": {},
    "PWAE, paper's weights": _PAPER,
    "none of the three terms": _OFF,
    "latent_dim=128": {"latent_dim": 128},
    "one patch, latent_dim=288": {**_WHOLE, "latent_dim": 288},
    "one patch, latent_dim=128": {**_WHOLE, "latent_dim": 128},
    "paper's weights without jigsaw": {**_PAPER, "jigsaw_penalty": 0.0},
    "paper's weights without Wasserstein": {**_PAPER, "swd_penalty": 0.0},
    "paper's weights without HSIC": {**_PAPER, "hsic_penalty": 0.0},
    "without jigsaw": {"jigsaw_penalty": 0.0},
    "without Wasserstein": {"swd_penalty": 0.0},
    "without HSIC": {"hsic_penalty": 0.0},
    "decoder_channels=64": {"decoder_channels": 64},
    "decoder_channels=128": {"decoder_channels": 128},
    "latent_dim=128, decoder_channels=128": {"latent_dim": 128, "decoder_channels": 128},
    "three times the steps": {"max_steps": 3 * STEPS},
}
PLAIN: dict[str, dict[str, Any]] = {
    "Autoencoder": {},
    "Autoencoder, half its width": {"network": Conv(width=0.5)},
    "Autoencoder, latent_dim=288": {"latent_dim": 288},
    "Autoencoder, latent_dim=32": {"latent_dim": 32},
    "Autoencoder, three times the steps": {"max_steps": 3 * STEPS},
}
METHODS = (*dict.fromkeys((*MAIN, *PWAES, *PLAIN)),)
SHARES = {"pixels": 0.01, "pixels .1 %": 0.001, "pixels 5 %": 0.05}
SCORES = ("max", "sum", "image", *SHARES)
_OF_FITS = ("error_train", "error_good", "swd", "solved")
ROWS = results_file(
    "pwae_photographs",
    key=("images", "method", "seed", "score"),
    columns={
        **dict.fromkeys(("images", "method", "score"), str),
        **dict.fromkeys(("seed", "side", "n_train", "n_good", "n_defective"), int),
        **dict.fromkeys(("auroc", "pixel_auroc", *_OF_FITS, "cpu_seconds"), float),
    },
)
Home = Annotated[Path | None, typer.Option(help="Folder with the data.")]
app = typer.Typer(add_completion=False, help=__doc__)


# ---- data and methods ----------------------------------------------------------------------------


def photographs(name: str, home: Path | None) -> Images:
    """Read the images of a set, pixels in [0, 1]."""
    source = CONFOUNDED if name == STANDARDISED else name
    train, test = (images_of(source, part, home, SIDE) for part in ("train", "test"))
    pixels = (
        part.data if part.data.dtype.kind == "f" else part.data.astype(np.float32) / 255
        for part in (train, test)
    )
    if name == STANDARDISED:
        pixels = (standardised(part) for part in pixels)
    return Images(*pixels, test.target, test.masks)


def standardised(images: NDArray) -> NDArray:
    """Images (n, C, H, W) whose pixels have a mean of 1/2 and a deviation of 1/8; then clipped."""
    mean, deviation = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.std))
    return ((images - mean) / (8 * deviation) + 0.5).clip(0, 1)


def detector(method: str, shape: tuple[int, ...], seed: int) -> Any:
    """Make P-WAE or the plain autoencoder."""
    common = {"image_shape": shape, "batch_size": 16, "max_steps": STEPS, "random_state": seed}
    if method in PWAES:
        half = {"network": Conv(width=0.5), "decoder_channels": 32}
        return PWAE(**{**common, **half, **ALL_ROWS, **PWAES[method]})
    plain = {"network": "conv", "latent_dim": 128, "learning_rate": 3e-3}
    return Autoencoder(**{**common, **plain, **ALL_ROWS, **PLAIN[method]})


def of_maps(maps: NDArray) -> dict[str, NDArray]:
    """Scores (n,) that maps (n, H, W) of squared errors make: of all pixels, and of the worst."""
    whole = {"image": np.sqrt(maps.mean(axis=(1, 2)))}
    return whole | {name: worst_pixels(maps, share) for name, share in SHARES.items()}


def of_fit(made: Any, data: Images) -> tuple[dict[str, NDArray], NDArray, dict[str, float]]:
    """Scores (n,) by name and maps (n, H, W) of the test images; what the fit says of itself."""
    maps = made.anomaly_map(data.test)
    scores = {}
    if isinstance(made, PWAE):
        for combine in ("max", "sum"):
            made.module_.combine = combine
            scores[combine] = made.anomaly_score(data.test)
    history = made.history_.iloc[-1]
    facts = {
        "error_train": float(np.sqrt(made.anomaly_map(data.train).mean())),
        "error_good": float(np.sqrt(maps[data.labels == 0].mean())),
        **{name: float(history.get(name, np.nan)) for name in ("swd", "solved")},
    }
    return scores | of_maps(maps), maps, facts


def of_reference(method: str, data: Images) -> tuple[dict[str, NDArray], NDArray | None]:
    """Scores (n,) and maps (n, H, W) of methods that learn next to nothing."""
    if method == "pixel kNN":
        scores, maps = of_pixels(method, data)
        return {"image": scores}, maps
    if method == "mean image":
        maps = np.square(data.test - data.train.mean(axis=0)).mean(axis=1)
        return of_maps(maps), maps
    of = np.mean if method == "brightness" else np.std
    usual, found = (of(part, axis=(1, 2, 3)) for part in (data.train, data.test))
    return {"image": np.abs(found - usual.mean())}, None


def compute(home: Path | None, name: str, method: str, seed: int) -> list[dict[str, Any]]:
    """Fit a method on a set, and judge all scores of the fit."""
    data = photographs(name, home)
    start = time.process_time()
    if method in REFERENCES:
        scores, maps = of_reference(method, data)
        facts = dict.fromkeys(_OF_FITS, np.nan)
        if method == "mean image" and maps is not None:
            facts["error_good"] = float(np.sqrt(maps[data.labels == 0].mean()))
    else:
        made = detector(method, data.train.shape[1:], seed).fit(data.train)
        scores, maps, facts = of_fit(made, data)
    seconds = time.process_time() - start
    by_pixel = np.nan if maps is None else roc_auc_score(data.masks.ravel(), maps.ravel())
    return [
        {
            "score": score,
            "auroc": roc_auc_score(data.labels, values),
            "pixel_auroc": by_pixel,
            **facts,
            "side": SIDE,
            "n_train": len(data.train),
            "n_good": int((data.labels == 0).sum()),
            "n_defective": int(data.labels.sum()),
            "cpu_seconds": seconds,
        }
        for score, values in scores.items()
    ]


# ---- commands ------------------------------------------------------------------------------------


@app.command()
def run(
    data_home: Home = None,
    sets: Annotated[str, typer.Option(help="Some of them, by semicolons.")] = ";".join(SETS),
    methods: Annotated[str, typer.Option(help="Some of them, by semicolons.")] = ";".join(METHODS),
    seeds: Annotated[str, typer.Option(help="Of the fits.")] = "1,2,3",
) -> None:
    """Compute what is missing, seed by seed and method by method."""
    cells = [
        (name, method, int(seed))
        for seed in seeds.split(",")
        for method in methods.split(";")
        for name in sets.split(";")
        if (name != CONFOUNDED or method in MAIN) and (method not in REFERENCES or seed == "1")
    ]
    run_cells(partial(stamped, partial(compute, data_home)), cells, ROWS)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# P-WAE on photographs",
        origin_of(rows, "pwae_photographs.py"),
        f"Images of {SIDE} x {SIDE} pixels, {STEPS} steps of 16 images (where a line does not say "
        'otherwise), and a decoder of 32 channels. AUROC of images by "max", "sum" and "pixels", '
        'which are readings of `combine`; "image" is the error of the whole image, and "pixels .1 '
        '%", "pixels 5 %" are of other shares of the worst pixels. All are of one fit. "map" is '
        "the AUROC of pixels. Errors are the roots of the mean squared errors of training images "
        'and of good test images, pixels being in [0, 1]. "SWD" is the sum over patches of the '
        'sliced Wasserstein distances, "solved" the share of puzzles that were solved, both at the '
        "end of training. Mean ± standard deviation over seeds of fits. The autoencoder is "
        'convolutional, of the whole image; "one patch" is P-WAE with a grid of 1 x 1 and no other '
        'term but the error. "mean image" takes the mean of the training images for every '
        'reconstruction; "brightness" and "contrast" are how far the mean and the standard '
        "deviation of an image's pixels are from their means over the training images.",
    ]
    for name in SETS:
        some = rows[rows["images"] == name]
        if len(some):
            one = some.iloc[0]
            numbers = f"{one.n_train} training images; {one.n_good} good ones to test and"
            text += [f"## {name}", f"{numbers} {one.n_defective} defective.", _lines(some)]
    typer.echo(write_paragraphs(ROWS, text))


def _lines(rows: pd.DataFrame) -> str:
    lines = []
    for method in METHODS:
        some = rows[rows["method"] == method]
        if len(some):
            fits = some.groupby("seed").first()
            aurocs = [mean_sd(some.loc[some["score"] == score, "auroc"]) for score in SCORES]
            facts = [mean_sd(fits[name]) for name in ("pixel_auroc", *_OF_FITS)]
            seconds = f"{fits['cpu_seconds'].median():.0f}"
            lines.append([method, len(fits), *aurocs, *facts, seconds])
    facts = ["map", "error, training", "error, good", "SWD", "solved", "CPU s"]
    return table(["method", "seeds", *SCORES, *facts], lines)


@app.command()
def maps(
    data_home: Home = None,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("maps.png"),
) -> None:
    """Draw P-WAE's maps of three defective images of each set, at default weights, seed 1."""
    from matplotlib.figure import Figure

    names = ("bottle", STANDARDISED, "magnetic_tile")
    figure = Figure(figsize=(8 * len(names), 6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        data = photographs(name, data_home)
        fitted = detector("PWAE", data.train.shape[1:], 1).fit(data.train)
        broken = np.flatnonzero(data.labels)
        chosen = broken[np.linspace(0, len(broken) - 1, 5).astype(int)[1:-1]]
        display = AnomalyMapDisplay.from_estimator(
            fitted, data.test[chosen], data.masks[chosen], ax=axes
        )
        display.bounding_ax_.set_title(name)
    figure.savefig(out, dpi=60)


if __name__ == "__main__":
    app()
