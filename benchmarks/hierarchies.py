"""Likelihoods, their last scale and their ratios on images: grey ones, and classes of CIFAR-10.

    python benchmarks/hierarchies.py run --data-home DIR [--only grey,colour_automobile] [--full]
    python benchmarks/hierarchies.py run --data-home DIR --plain    # without normalised couplings
    python benchmarks/hierarchies.py tables       # seconds; writes results/hierarchies.md

`DIR` holds MNIST, Omniglot (its small sets) and CIFAR-10 as ``skgenad.datasets`` fetches them; what
is missing is downloaded. An experiment with a seed is a cell, some 5 minutes on one core; all its
numbers are rows of ``results/hierarchies/rows.csv``, and killed and started again the run goes on
with the next cell. Other settings or data make other cells. ``--full`` has the paper's network and
its number of steps, for a GPU, and trains on all images there are.

"grey": digits 0 to 7 are normal. The general distribution is these, half of Omniglot's alphabets
and CIFAR-10 in grey, at most 4,000 images of each. Anomalies are digits 8 and 9, characters of the
other alphabets, images of one shade, noise, and such characters blurred at full brightness, which
have no edges: the set that is made for a likelihood to fail at. Images are padded to 32 x 32.

"colour_*": one class of CIFAR-10 is normal; three others are anomalies, each a set; the general
distribution is all but these three.

Models see training images alone, and alphabets that no test image is of.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import typer
from _image_sets import bits_per_dimension, characters, digits, photographs
from _results import ORIGIN, stamped, write_paragraphs
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import gaussian_filter
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from skgenad import Glow, LikelihoodRatio
from skgenad.benchmark import ResultsFile, run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table

RESULTS = Path(__file__).parent / "results" / "hierarchies"
SEEDS = range(1, 4)
# CIFAR-10's classes: the normal one, and those that are anomalies whichever that is.
COLOUR = {"airplane": 0, "automobile": 1, "horse": 7}
OTHERS = {"cat": 3, "frog": 6, "ship": 8}
EXPERIMENTS = ("grey", *(f"colour_{name}" for name in COLOUR))
# A size that a core trains in minutes.
SMALL: dict[str, Any] = {
    "n_scales": 3,
    "n_couplings": 4,
    "hidden": 32,
    "batch_size": 32,
    "learning_rate": 2e-3,
}
SMALL_STEPS = {1: 500, 3: 300}  # by the number of channels
N_TRAIN, N_TEST = 4000, 400
# What stands for a log density that is not finite (S4.5).
NON_FINITE = -3e6
# Columns that tell a cell from others, and a number from the others of its cell.
CELL = ("experiment", "seed", "model", "data")
KEY = (*CELL, "metric", "method", "set", "step")
COLUMNS: dict[str, type] = {
    "metric": str,
    "method": str,
    "set": str,
    "value": float,
    "step": float,
    "n_normal": int,
    "n_general": int,
    "n_new": int,
    "seconds": float,
    "cpu_seconds": float,
    **ORIGIN,
    "experiment": str,
    "seed": int,
    "model": str,
    "data": str,
    "size": str,
}
app = typer.Typer(add_completion=False, help=__doc__)


class Images(NamedTuple):
    """Images of a cell, uint8, (n, C, 32, 32): for training, and sets for testing."""

    normal: NDArray
    general: NDArray
    new: NDArray
    anomalies: dict[str, NDArray]
    classes: NDArray | None = None


# ---- data ----------------------------------------------------------------------------------------


def _data(experiment: str, data_home: Path | None) -> str:
    """Say what images an experiment is made of."""
    sources = [photographs(data_home, "train")]
    if experiment == "grey":
        new = digits(data_home, "test")
        sources = [digits(data_home, "train"), new, characters(data_home), *sources]
    else:
        sources.append(photographs(data_home, "test"))
    return "; ".join(source.text for source in sources)


def grey(X: NDArray) -> NDArray:
    """Greyscale as in S5.1."""
    shades = np.einsum("nchw,c->nhw", X, [0.2989, 0.5870, 0.1140])
    return shades.round().astype(np.uint8)[:, None]


def _smooth(X: NDArray) -> NDArray:
    """Characters without edges: blurred, and made as bright again as digits are.

    Their large shapes stay as strong as those of digits. Dimmed, they would be near the middle of
    all codes, at all scales and under any model: nothing that a last scale or a ratio could see.
    """
    blurred = gaussian_filter(X.astype(np.float64), sigma=(0, 0, 2.5, 2.5))
    brightest = blurred.max(axis=(1, 2, 3), keepdims=True)
    return (255 * blurred / np.maximum(brightest, 1)).round().astype(np.uint8)


def some(X: NDArray, n: int, rng: np.random.RandomState) -> NDArray:
    """Draw images, at most all there are, without replacement."""
    return X[rng.choice(len(X), min(n, len(X)), replace=False)]


def grey_images(seed: int, data_home: Path | None, n_train: int) -> Images:
    """Make the images of the experiment "grey" for a seed, with the digits of the normal ones."""
    rng = np.random.RandomState(seed)
    X, y, _ = digits(data_home, "train")
    X_new, y_new, _ = digits(data_home, "test")
    letters, alphabets, _ = characters(data_home)
    known = np.isin(alphabets, rng.permutation(np.unique(alphabets))[::2])
    normal, classes = X[y < 8], y[y < 8]
    unknown = letters[~known]
    shades = rng.randint(0, 256, (N_TEST, 1, 1, 1)).astype(np.uint8)
    own = rng.choice(len(normal), min(n_train, len(normal)), replace=False)
    return Images(
        normal[own],
        np.concatenate(
            [
                some(normal, n_train, rng),
                some(letters[known], n_train, rng),
                grey(some(photographs(data_home, "train").images, n_train, rng)),
            ]
        ),
        some(X_new[y_new < 8], N_TEST, rng),
        {
            "Omniglot": some(unknown, N_TEST, rng),
            "digits 8, 9": some(X_new[y_new >= 8], N_TEST, rng),
            "smooth": _smooth(some(unknown, N_TEST, rng)),
            "constant": np.broadcast_to(shades, (N_TEST, 1, 32, 32)).copy(),
            "noise": rng.randint(0, 256, (N_TEST, 1, 32, 32)).astype(np.uint8),
        },
        classes[own],
    )


def _colour_images(name: str, seed: int, data_home: Path | None, n_train: int) -> Images:
    rng = np.random.RandomState(seed)
    X, y, _ = photographs(data_home, "train")
    X_new, y_new, _ = photographs(data_home, "test")
    own = COLOUR[name]
    return Images(
        some(X[y == own], n_train, rng),
        some(X[~np.isin(y, list(OTHERS.values()))], 3 * n_train, rng),
        some(X_new[y_new == own], N_TEST, rng),
        {other: some(X_new[y_new == label], N_TEST, rng) for other, label in OTHERS.items()},
    )


# ---- run -----------------------------------------------------------------------------------------


def _model(
    shape: tuple[int, ...], seed: int, full: bool, max_steps: int | None, plain: bool = False
) -> Glow:
    given: dict[str, Any] = {"image_shape": shape, "random_state": seed, **ALL_ROWS}
    given |= {"coupling_norm": False} if plain else {}
    given |= {} if max_steps is None else {"max_steps": max_steps}
    if full:
        return Glow.from_paper("mnist" if shape[0] == 1 else "cifar10", **given)
    return Glow(**{**SMALL, "max_steps": SMALL_STEPS[shape[0]], **given})


def _settings(model: Glow) -> str:
    """Name what a model has beyond its defaults, but for the seed."""
    unset = Glow().get_params(deep=False)
    given = {
        k: v
        for k, v in model.get_params(deep=False).items()
        if v != unset[k] and k not in ("random_state", *ALL_ROWS)
    }
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _models(images: Images, model: Glow) -> dict[str, Any]:
    """Fit the general model, the specific ones, and PNG beside."""
    n_numbers = images.normal[0].size
    # The paper's temperature and penalty, for as many numbers as there are.
    temperature = 1000 * n_numbers / 3072
    general = Glow(**model.get_params()).fit(images.general)
    ratio = LikelihoodRatio(model, FrozenEstimator(general), **ALL_ROWS).fit(images.normal)
    # Its first general model has the same rows and seed as the one above, and so is the same.
    both = LikelihoodRatio(
        model,
        outlier_loss="ratio",
        outlier_side="both",
        temperature=temperature,
        outlier_penalty=6 * temperature,
        **ALL_ROWS,
    ).fit(images.normal, X_general=images.general)
    margin = LikelihoodRatio(
        model, FrozenEstimator(general), outlier_loss="margin", **ALL_ROWS
    ).fit(images.normal, X_general=images.general)
    return {
        "general": general,
        "specific": ratio.detector_,
        "ratio": ratio,
        "margin": margin,
        "outlier": LikelihoodRatio(
            FrozenEstimator(both.detector_), FrozenEstimator(general), **ALL_ROWS
        ),
        "both": both,
        "png": LikelihoodRatio(FrozenEstimator(ratio.detector_), "png", **ALL_ROWS),
    }


def _scores(models: dict[str, Any], X: NDArray) -> dict[str, NDArray]:
    """Scores of every method, higher for normal images, all finite."""
    margin, trained = models["margin"].detector_, models["both"].detector_
    own, general = (models[name].scale_contributions(X) for name in ("specific", "general"))
    of_margin, of_trained = (model.scale_contributions(X) for model in (margin, trained))
    *early, last = own.T
    *early_ratios, last_ratio = (own - general).T
    scores = {
        "general, raw": models["general"].log_density(X),
        "raw": models["specific"].log_density(X),
        **{f"scale {k}": part for k, part in enumerate(early, 1)},
        "last scale": last,
        "ratio": models["ratio"].score_samples(X),
        **{f"ratio of scale {k}": part for k, part in enumerate(early_ratios, 1)},
        "ratio of the last scale": last_ratio,
        "PNG": models["png"].score_samples(X),
        "margin loss, raw": margin.log_density(X),
        "margin loss, last scale": of_margin[:, -1],
        "margin loss, ratio": models["margin"].score_samples(X),
        "outlier loss, raw": trained.log_density(X),
        "outlier loss, last scale": of_trained[:, -1],
        "outlier loss, ratio": models["outlier"].score_samples(X),
        "outlier loss, ratio of the last scale": (of_trained - general)[:, -1],
        "both-sided loss, ratio": models["both"].score_samples(X),
    }
    # Outliers may be driven beyond what float32 holds.
    return {name: np.where(np.isfinite(s), s, NON_FINITE) for name, s in scores.items()}


def _images(experiment: str, seed: int, full: bool, data_home: Path | None) -> Images:
    n_train = 10**6 if full else N_TRAIN
    if experiment == "grey":
        return grey_images(seed, data_home, n_train)
    return _colour_images(experiment.removeprefix("colour_"), seed, data_home, n_train)


def _number(metric: str, method: str, set_: str, value: float, step: float = np.nan) -> dict:
    return {"metric": metric, "method": method, "set": set_, "step": step, "value": float(value)}


def _aurocs_of(models: dict[str, Any], images: Images, new: dict[str, NDArray]) -> list[dict]:
    """AUROC of every method on every set of anomalies."""
    rows = []
    for name, X in images.anomalies.items():
        label = np.repeat([0, 1], [len(images.new), len(X)])
        for method, scores in _scores(models, X).items():
            auroc = roc_auc_score(label, -np.concatenate([new[method], scores]))
            rows.append(_number("auroc", method, name, auroc))
    return rows


def _bits_of(models: dict[str, Any], n_numbers: int, new: dict[str, NDArray]) -> list[dict]:
    """Bits per dimension of new normal images, and in training."""
    rows = [
        _number("test bits", method, "new", bits_per_dimension(new[method].mean(), n_numbers))
        for method in ("general, raw", "raw", "margin loss, raw", "outlier loss, raw")
    ]
    for method, fitted in (("general", models["general"]), ("specific", models["ratio"].detector_)):
        for _, epoch in fitted.history_.iterrows():
            bits = bits_per_dimension(-epoch["loss"], n_numbers)
            rows.append(_number("training bits", method, "training", bits, epoch["step"]))
    return rows


def _compute(
    experiment: str,
    seed: int,
    *described: str,
    full: bool,
    max_steps: int | None,
    plain: bool,
    data_home: Path | None,
) -> list[dict[str, Any]]:
    """Compute a cell; what its model and data are described as follows from the options."""
    images = _images(experiment, seed, full, data_home)
    shape = images.normal.shape[1:]
    start, start_cpu = time.perf_counter(), time.process_time()
    models = _models(images, _model(shape, seed, full, max_steps, plain))
    for name in ("outlier", "png"):  # only a threshold is left to set
        models[name].fit(images.normal[:N_TEST])
    new = _scores(models, images.new)
    rows = _aurocs_of(models, images, new) + _bits_of(models, int(np.prod(shape)), new)
    common = {
        "n_normal": len(images.normal),
        "n_general": len(images.general),
        "n_new": len(images.new),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "size": "paper" if full else "small",
    }
    return [{**row, **common} for row in rows]


def _file(out: Path) -> ResultsFile:
    return ResultsFile(out / "rows.csv", key=KEY, columns=COLUMNS)


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    only: Annotated[str, typer.Option(help="Some of the experiments.")] = ",".join(EXPERIMENTS),
    seeds: Annotated[str, typer.Option(help="Some of the seeds.")] = ",".join(map(str, SEEDS)),
    full: Annotated[bool, typer.Option(help="The paper's network and steps.")] = False,
    max_steps: Annotated[int | None, typer.Option(help="Other number of steps.")] = None,
    plain: Annotated[bool, typer.Option(help="Couplings without normalisation.")] = False,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the rows.")] = RESULTS,
) -> None:
    """Compute what is missing of the results."""
    cells = []
    for experiment, seed in [(e, int(s)) for s in seeds.split(",") for e in only.split(",")]:
        shape = (1 if experiment == "grey" else 3, 32, 32)
        model = _settings(_model(shape, seed, full, max_steps, plain))
        cells.append((experiment, seed, model, _data(experiment, data_home)))
    options = {"full": full, "max_steps": max_steps, "plain": plain}
    compute = partial(_compute, **options, data_home=data_home)
    threads = None if full else 1
    run_cells(partial(stamped, compute, threads=threads), cells, _file(out), jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


@app.command()
def tables(
    out: Annotated[Path, typer.Option(help="Folder of the rows.")] = RESULTS,
) -> None:
    """Write the tables from the rows that are there."""
    file = _file(out)
    rows = file.read()
    text = [
        "# Hierarchies of distributions and of features",
        f"`python benchmarks/hierarchies.py run` and `tables`, {rows['date'].max()}.",
        'AUROC of Glow\'s scores: means over seeds, and their standard errors. "general, raw" is '
        'the log density log p_g of the general model, "raw" that of the specific one, log p_in, '
        'which is finetuned from the general one, "last scale" and "scale 1" and "scale 2" '
        'are its parts, and "ratio" log p_in - log p_g, of scales the difference of both models\' '
        'parts; "PNG" has the length of the file as the general model. The lines below have a '
        "specific model that is trained with the margin loss or the outlier loss, and the last one "
        "a general model that is, too. Temperature and weight are the paper's times the share that "
        "an image's numbers are of 3,072. Images of anomalies are at most as many as new normal "
        "ones.",
    ]
    for _, part in rows.groupby([k for k in CELL if k != "seed"], sort=False):
        first = part.iloc[0]
        n_general = part["n_general"].unique()
        text += [
            f"## {first['experiment']}, {first['size']}, couplings {_couplings(first['model'])}",
            f"Data: {first['data']}. Models: {first['model']}. Machine: "
            f"{'; '.join(part['machine'].unique())}.",
            f"{part['seed'].nunique()} seed(s), {first['n_normal']} normal images and "
            f"{' or '.join(map(str, n_general))} of the general distribution to train on, "
            f"{first['n_new']} new normal ones to test on; "
            f"{part['cpu_seconds'].median():.0f} s of processor time and "
            f"{part['seconds'].median():.0f} s by the clock a seed.",
            _aurocs(part[part["metric"] == "auroc"]),
            _all_bits(part),
        ]
    typer.echo(f"wrote {write_paragraphs(file, text)}")


def _couplings(model: str) -> str:
    """Say of a model's settings whether networks in couplings normalise."""
    plain = "coupling_norm=False" in model
    return "without normalisation" if plain else "with normalisation"


def _mean(values: pd.Series) -> str:
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {stats.sem(values):.3f}"


def _aurocs(rows: pd.DataFrame) -> str:
    sets = list(dict.fromkeys(rows["set"]))
    lines = []
    for method in dict.fromkeys(rows["method"]):
        own = rows[rows["method"] == method]
        lines.append([method, *(_mean(own[own["set"] == name]["value"]) for name in sets)])
    return table(["AUROC", *sets], lines)


def _all_bits(part: pd.DataFrame) -> str:
    """Say how bits per dimension fell in training, and what they are on new normal images."""
    lines = []
    training = part[part["metric"] == "training bits"]
    for method in dict.fromkeys(training["method"]):
        by_step = training[training["method"] == method].groupby("step")["value"].mean()
        places = np.unique(np.linspace(0, len(by_step) - 1, 5).round().astype(int))
        cells = [f"{by_step.iloc[i]:.3f} at {by_step.index[i]:.0f}" for i in places]
        lines.append(f"{method}: {', '.join(cells)} steps")
    test = part[part["metric"] == "test bits"].groupby("method", sort=False)["value"].mean()
    of_new = ", ".join(f"{name} {value:.3f}" for name, value in test.items())
    return (
        f"Bits per dimension in training (means of 50 steps, with noise): {'; '.join(lines)}. "
        f"On new normal images, without noise: {of_new}."
    )


if __name__ == "__main__":
    app()
