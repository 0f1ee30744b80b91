"""MPDR-R on features of unit norm, step by step, against the autoencoder that it starts from.

    python benchmarks/feature_energies.py run --data-home DIR   # some hours on a core; resumable
    python benchmarks/feature_energies.py tables                # writes results/feature_energies.md

Rows are embeddings of ADBench (``adbench/CV_by_ResNet18``, 512 columns, ``NLP_by_BERT``, 768),
split as in the protocol `clean` and divided by their norms. The detector is
``MPDR.from_paper("vit")`` on networks 128 wide, pretrained for 300 steps; every 50 steps of the
energy the test rows are scored by E, by the combined score, 2/3 log E + 1/3 of the manifolds' log
errors, and by these errors alone. Step 0 is the autoencoder itself.

The error of a row of unit norm, a mean over D columns, is some 1e-5, and the noise that the preset
adds to it, 0.01 on each of them, 1e-4: what tells data from negatives is how noisy they are.
"matched" adds none and measures the rest by the error e of the autoencoder on its training rows:
ten visible steps of 0.1 D ("auto"), which leave an error of e at rest with noise of 0.6 sqrt(e),
and a penalty of 1 / (6 e), which parks negatives at 3 e. "matched, noise" keeps the noise on rows,
and e is the error of noisy rows. "penalty" is the preset with the weight D.

The rule was found on the sets of CHOSEN, by their labels; OTHERS had no part in it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize
from skorch.callbacks import Callback

from skgenad import MPDR
from skgenad.benchmark import make_split, run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_adbench, list_adbench
from skgenad.energies import Chain, Manifold, Reconstruction

CHOSEN = (
    *(f"CV_by_ResNet18/MVTec-AD_{name}" for name in ("cable", "hazelnut", "screw")),
    *(f"CV_by_ResNet18/MVTec-AD_{name}" for name in ("toothbrush", "wood")),
    "CV_by_ResNet18/SVHN_0",
)
OTHERS = (
    *(name for name in list_adbench("CV_by_ResNet18") if "MVTec" in name and name not in CHOSEN),
    *("CV_by_ResNet18/CIFAR10_0", "CV_by_ResNet18/CIFAR10_4", "NLP_by_BERT/20news_3"),
)
N_STEPS = 100
VARIANTS = ("paper", "penalty", "matched", "matched, noise")
# That of the preset, on rows in training.
NOISE = 0.01
SCORES = ("energy", "combined", "manifolds")
NAMED = ("dataset", "variant", "seed")
ROWS = results_file(
    "feature_energies",
    key=(*NAMED, "step"),
    columns={
        **dict.fromkeys(("dataset", "variant"), str),
        **dict.fromkeys(("seed", "step", "n_train", "n_test", "n_features"), int),
        **dict.fromkeys((*SCORES, "mean_energy", "mean_negative", "seconds"), float),
    },
)

app = typer.Typer(add_completion=False, help=__doc__)


# ---- fits ----------------------------------------------------------------------------------------


def paper(seed: int, **changes: Any) -> MPDR:
    """Make the paper's detector for a ViT's features, on small networks."""
    settings: dict[str, Any] = {
        "network": (128, 128),
        "energy": Reconstruction(pretrain_steps=300, pretrain_learning_rate=1e-3),
        "manifold": Manifold(steps=300, learning_rate=1e-3),
        "max_steps": N_STEPS,
        "batch_size": 64,
        "random_state": seed,
    }
    return MPDR.from_paper("vit", **{**settings, **ALL_ROWS, **changes})


def matched(error: float, seed: int, **changes: Any) -> MPDR:
    """Make that detector with a chain and a penalty that an error of the autoencoder is for."""
    chain = Chain(10, step_size="auto", noise=0.6 * error**0.5, gamma=0.0)
    return paper(seed, visible_chain=chain, energy_penalty=1 / (6 * error), **changes)


def error_of(train: NDArray, noise: float, seed: int) -> float:
    """Mean error of noisy training rows by an autoencoder that is pretrained as the energy is."""
    short = {"manifold": Manifold(2, steps=1), "max_steps": 1, "learning_rate": 1e-9}
    probe = paper(seed, input_noise=noise, **short)
    noisy = train + noise * np.random.default_rng(seed).standard_normal(train.shape)
    return float(np.square(noisy - probe.fit(train).reconstruct(noisy)).mean())


def detector(variant: str, seed: int, train: NDArray, **changes: Any) -> MPDR:
    """Make the detector of a variant for some training rows."""
    if variant == "paper":
        return paper(seed, **changes)
    if variant == "penalty":
        return paper(seed, energy_penalty=float(train.shape[1]), **changes)
    noise = NOISE if variant == "matched, noise" else 0.0
    return matched(error_of(train, noise, seed), seed, input_noise=noise, **changes)


class Course(Callback):
    """Judges the scores of test rows before the energy is trained, and after every epoch of it.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Test rows in the units of training.
    truth : ndarray of shape (n,)
        1 is an anomaly.

    Attributes
    ----------
    judged : list of dict
        Step, and AUROC of each score.
    """

    def __init__(self, rows: NDArray, truth: NDArray) -> None:
        self.rows, self.truth = torch.as_tensor(rows, dtype=torch.float32), truth
        self.judged: list[dict[str, Any]] = []

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Judge the autoencoder that the energy starts from."""
        self._judge(net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Judge the energy."""
        self._judge(net)

    @torch.no_grad()
    def _judge(self, net: Any) -> None:
        if net.stage.name != "energy":
            return
        module, x = net.module_.eval(), self.rows
        energies = module.base.energy(x).log()
        errors = [(x - each(x)).square().mean(dim=1).log() for each in module.manifolds]
        manifolds = torch.stack(errors).mean(dim=0)
        scores = (energies, torch.lerp(energies, manifolds, 1 / 3), manifolds)
        epoch = net.history[-1] if net.history else {}
        self.judged.append(
            {
                "step": 50 * len(net.history),
                **{n: roc_auc_score(self.truth, s) for n, s in zip(SCORES, scores, strict=True)},
                "mean_energy": epoch.get("energy", np.nan),
                "mean_negative": epoch.get("negative_energy", np.nan),
            }
        )


def compute(data_home: Path | None, dataset: str, variant: str, seed: int) -> Iterator[dict]:
    """Fit one variant to one set; a row for every fifty steps of the energy."""
    X, y = fetch_adbench(dataset, data_home=data_home, return_X_y=True)
    split = make_split(X, y, protocol="clean", seed=seed)
    train, test = normalize(X[split.train_index]), normalize(X[split.test_index])
    course = Course(test, split.y_test)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows
        detector(variant, seed, train, callbacks=[course]).fit(train)
    seconds = time.process_time() - began
    sizes = {"n_train": len(train), "n_test": len(test), "n_features": X.shape[1]}
    for row in course.judged:
        yield {"dataset": dataset, "variant": variant, "seed": seed, **sizes, **row} | {
            "seconds": seconds
        }


def cells() -> list[tuple[str, str, int]]:
    """Cells in the order in which they matter."""
    found = [(name, "matched", 1) for name in (*OTHERS, *CHOSEN)]
    found += [(name, "paper", 1) for name in CHOSEN]
    found += [(name, "matched", seed) for seed in (2, 3) for name in OTHERS]
    others = ("paper", "penalty", "matched, noise")
    found += [(name, other, 1) for other in others for name in (*CHOSEN, *OTHERS)]
    return list(dict.fromkeys(found))


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing."""
    run_cells(partial(stamped, partial(compute, data_home)), cells(), ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def gains(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """AUROC of a score at each step less that of E at step 0, the autoencoder; means over seeds."""
    start = rows[rows["step"] == 0].set_index(list(NAMED))["energy"]
    own = rows.set_index([*NAMED, "step"])[score]
    aligned = start.reindex(own.index.droplevel("step")).to_numpy()
    by_seed = (own - aligned).rename("gain").reset_index()
    means = by_seed.groupby(["dataset", "variant", "step"])["gain"].mean()
    return means.unstack("step")


def _lines(rows: pd.DataFrame) -> str:
    """Make a line for each variant and score: means over sets at each step, and the last gain."""
    lines = []
    for variant in (name for name in VARIANTS if name in set(rows["variant"])):
        own = rows[rows["variant"] == variant]
        for score in SCORES[:2]:
            by_set = own.groupby(["step", "dataset"])[score].mean().groupby("step").mean()
            gained = gains(own, score)
            ahead = f"{int((gained[N_STEPS] > 0).sum())} of {len(gained)}"
            lines.append(
                [
                    variant,
                    score,
                    own["seed"].nunique(),
                    *(f"{by_set[step]:.3f}" for step in sorted(by_set.index)),
                    interval(gained[N_STEPS]),
                    ahead,
                    f"{own['seconds'].median():.0f}",
                ]
            )
    steps = [str(step) for step in range(0, N_STEPS + 1, 50)]
    header = ["variant", "score", "seeds", *steps, "gain on the autoencoder", "ahead", "s"]
    return table(header, lines)


def _set_by_set(rows: pd.DataFrame) -> str:
    """Make a line for each set: the autoencoder, and "matched" after the last step."""
    own = rows[rows["variant"] == "matched"]
    lines = []
    for dataset, of_set in own.groupby("dataset"):
        means = of_set.groupby("step")[list(SCORES)].mean()
        end = means.loc[N_STEPS]
        values = (means.loc[0, "energy"], end["energy"], end["combined"], end["manifolds"])
        lines.append(
            [
                str(dataset).split("/")[-1],
                of_set["n_train"].iloc[0],
                of_set["seed"].nunique(),
                *(f"{value:.3f}" for value in values),
            ]
        )
    return table(["", "rows", "seeds", "autoencoder", "energy", "combined", "manifolds"], lines)


def finished(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the variants that have all the sets they are to have, with the seed that is first."""
    wanted = pd.DataFrame(cells(), columns=list(NAMED))
    have = rows[list(NAMED)].drop_duplicates().merge(wanted)
    is_chosen = wanted["dataset"].isin(CHOSEN)
    kept = []
    for part in (wanted[is_chosen], wanted[~is_chosen]):
        for _, cells_of in part.groupby(["variant", "seed"]):
            if len(cells_of.merge(have)) == len(cells_of):
                kept.append(cells_of)
    return rows.merge(pd.concat(kept)) if kept else rows.iloc[:0]


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = finished(ROWS.read())
    chosen = rows["dataset"].isin(CHOSEN)
    text = [
        "# Energies of features",
        origin_of(rows, "feature_energies.py"),
        "Embeddings of unit norm, the paper's settings of a ViT's features on networks 128 wide, "
        "300 steps of pretraining. AUROC after steps of the energy, means over sets of means over "
        "seeds; gain: of the score after the last step on E at step 0, the autoencoder alone, with "
        "a 95 % t-interval over sets; ahead: sets where it is above 0. s: CPU seconds of a fit.",
        "## Sets that the rule was found on",
        _lines(rows[chosen]),
        "## Other sets",
        _lines(rows[~chosen]),
        '## Other sets, one by one, after the last step of "matched"',
        _set_by_set(rows[~chosen]),
    ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
