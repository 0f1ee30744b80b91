"""Sounds of machines: AUC and pAUC of clips, as in DCASE 2020's challenge (task 2).

    python benchmarks/dcase.py run --data-home DIR            # an hour on 2 cores; resumable
    python benchmarks/dcase.py run --folder DCASE/dev_data    # machines in the challenge's layout
    python benchmarks/dcase.py tables                         # seconds; writes results/dcase.md

Clips are frames of five log-mel spectra with the challenge's settings (`LogMelFrames`), or means of
these over seconds or over the clip. A detector is fitted to the training clips' rows, and a clip
has the mean score of its rows. Of a machine's several IDs one model is trained, as in the
challenge, and each ID is ranked alone. AE is the challenge's baseline: 4 x 128, 8, 4 x 128, ReLU,
100 passes in batches of 512, on standardised columns and without its batch norm. The pAUC is that
of the challenge's code, in which chance is 0.5.

Two detectors of ours are chosen without labels, by rules that were written down before any label
of these files was read: `Committee` with its defaults on clip means; and the one, of `CANDIDATES`,
that is best at telling held-out training clips from copies of them in which a few bands were made
up to 4 dB louder or softer (`made_up`; `contrast` in the rows; four folds over clips).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import typer
from _results import origin_of, results_file, stamped, write_paragraphs
from _sounds import COLLECTIONS, IDNN, Clips, PCAError, of_dcase
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from skgenad import MPDR, NAE, Autoencoder, Committee, GroupedDetector, Mahalanobis, Neighbors
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.datasets import get_data_home, load_dcase
from skgenad.metrics import dcase_auc
from skgenad.networks import MLP

EPOCHS, BATCH = 100, 512
SECOND = 31  # frames
N_BANDS, N_COPIES, N_FOLDS = (2, 16), 8, 4
DECIBELS = (1.0, 4.0)
N_BOOT = 2000


class Method(NamedTuple):
    """What a clip's rows are, and what is fitted to them: a function of seed and rows."""

    level: str
    make: Callable[[int, int], Any]
    is_drawn: bool = False


def _steps(n_rows: int) -> int:
    return EPOCHS * -(-n_rows // BATCH)


def _autoencoder(seed: int, n_rows: int) -> Autoencoder:
    return Autoencoder(
        network=MLP((128,) * 4, activation="relu"),
        latent_dim=8,
        latent_space="euclidean",
        batch_size=BATCH,
        max_steps=_steps(n_rows),
        random_state=seed,
        **ALL_ROWS,
    )


def _neighbors(seed: int, n_rows: int) -> Neighbors:
    return Neighbors(random_state=seed, **ALL_ROWS)


def _mahalanobis(seed: int, n_rows: int) -> Mahalanobis:
    return Mahalanobis(shrinkage="auto", random_state=seed, **ALL_ROWS)


def _committee(seed: int, n_rows: int) -> Committee:
    return Committee(random_state=seed, **ALL_ROWS)


def _mpdr(seed: int, n_rows: int) -> MPDR:
    """Make MPDR-IDNN with the paper's passes over the rows; its chains are those of the fan."""
    made = MPDR.from_paper("dcase_fan", random_state=seed, **ALL_ROWS)
    passes = {"energy__pretrain_steps": 100, "manifold__steps": 50, "max_steps": 6}
    one = _steps(n_rows) // EPOCHS
    return made.set_params(**{name: n * one for name, n in passes.items()})


# Quick ones first, so that a run that is cut short has whole rows.
METHODS: dict[str, Method] = {
    "kNN, clip means": Method("clip", _neighbors),
    "Mahalanobis, clip means": Method("clip", _mahalanobis),
    "Committee, clip means": Method("clip", _committee),
    "kNN, seconds": Method("second", _neighbors),
    "Mahalanobis, seconds": Method("second", _mahalanobis),
    "Committee, seconds": Method("second", _committee),
    "PCA, frames": Method("frame", lambda seed, n: PCAError()),
    "Mahalanobis, frames": Method("frame", _mahalanobis),
    "kNN, frames": Method("frame", _neighbors),
    "AE, frames": Method("frame", _autoencoder, is_drawn=True),
    "IDNN, frames": Method("frame", lambda seed, n: IDNN(EPOCHS, seed), is_drawn=True),
    "NAE, frames": Method(
        "frame", lambda seed, n: NAE(random_state=seed, **ALL_ROWS), is_drawn=True
    ),
    "MPDR-IDNN, frames": Method("frame", _mpdr, is_drawn=True),
}
REFERENCE, OURS = "kNN, clip means", "Committee, clip means"
CANDIDATES = tuple(name for name, method in METHODS.items() if not method.is_drawn)

NAMED = ("collection", "method", "seed", "machine_id")
ROWS = results_file(
    "dcase",
    key=NAMED,
    columns={
        **dict.fromkeys(("collection", "method", "machine_id"), str),
        **dict.fromkeys(("seed", "n_train", "n_normal", "n_anomalous"), int),
        **dict.fromkeys(("auc", "pauc", "auc_max", "auc_frames", "contrast", "seconds"), float),
        "scores": str,  # of the test clips, normal ones first
    },
)
Home = Annotated[Path | None, typer.Option(help="Folder with the data.")]

app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows ----------------------------------------------------------------------------------------


def rows_of(level: str, clips: list[NDArray]) -> list[NDArray]:
    """Rows of clips: their frames, means of these over seconds, or over the clip."""
    if level == "frame":
        return clips
    found = []
    for frames in clips:
        n = max(1, len(frames) // SECOND) if level == "second" else 1
        found.append(np.array([part.mean(axis=0) for part in np.array_split(frames, n)]))
    return found


def fitted(method: Method, clips: list[NDArray], seed: int) -> GroupedDetector:
    """Fit a method to the rows of clips."""
    rows = rows_of(method.level, clips)
    detector = method.make(seed, sum(map(len, rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows, and of singular covariances
        return GroupedDetector(detector, random_state=seed, **ALL_ROWS).fit(rows)


def scores_of(model: GroupedDetector, method: Method, clips: list[NDArray]) -> list[NDArray]:
    """Anomaly scores of the rows of each clip."""
    return [-scores for scores in model.instance_scores(rows_of(method.level, clips))]


def made_up(clips: list[NDArray], seed: int) -> list[NDArray]:
    """Copy clips, with some neighbouring bands louder or softer throughout."""
    rng, found = np.random.RandomState(seed), []
    for frames in clips:
        n_bands = frames.shape[1] // 5
        for _ in range(N_COPIES):
            centre, width = rng.uniform(0, n_bands), rng.uniform(*N_BANDS)
            gain = rng.choice([-1, 1]) * rng.uniform(*DECIBELS)
            bump = np.clip(1 - np.abs(np.arange(n_bands) - centre) / width, 0, 1)
            found.append(frames + np.tile(gain * bump, 5).astype(np.float32))
    return found


def contrast(method: Method, clips: list[NDArray]) -> float:
    """AUROC of held-out training clips against what is made of them; knows no labels."""
    means = []
    for first, second in KFold(N_FOLDS, shuffle=True, random_state=0).split(clips):
        model = fitted(method, [clips[k] for k in first], 0)
        held_out = [clips[k] for k in second]
        pair = (scores_of(model, method, part) for part in (held_out, made_up(held_out, 0)))
        normal, other = ([scores.mean() for scores in part] for part in pair)
        labels = np.repeat([0, 1], [len(normal), len(other)])
        means.append(roc_auc_score(labels, [*normal, *other]))
    return float(np.mean(means))


def compute(clips: Clips, collection: str, method: str, seed: int) -> Iterator[dict[str, Any]]:
    """Fit a method to a machine's training clips; a row for each of its IDs."""
    chosen = METHODS[method]
    began = time.process_time()
    model = fitted(chosen, clips.train, seed)
    scores = scores_of(model, chosen, clips.test)
    seconds = time.process_time() - began
    means = np.array([one.mean() for one in scores])
    largest = np.array([one.max() for one in scores])
    judged = contrast(chosen, clips.train) if method in CANDIDATES else np.nan
    aucs = dcase_auc(clips.y, means, clips.machine_id)
    for name in np.unique(clips.machine_id):
        of_it = np.flatnonzero(clips.machine_id == name)
        of_it = of_it[np.argsort(clips.y[of_it], kind="stable")]
        y, rows = clips.y[of_it], [scores[k] for k in of_it]
        yield {
            "machine_id": str(name),
            "n_train": len(clips.train),
            "n_normal": int((y == 0).sum()),
            "n_anomalous": int(y.sum()),
            "auc": aucs.loc[name, "AUC"],
            "pauc": aucs.loc[name, "pAUC"],
            "auc_max": roc_auc_score(y, largest[of_it]),
            "auc_frames": roc_auc_score(np.repeat(y, [*map(len, rows)]), np.concatenate(rows)),
            "contrast": judged,
            "seconds": seconds,
            "scores": " ".join(f"{score:.6g}" for score in means[of_it]),
        }


@app.command()
def run(
    data_home: Home = None,
    folder: Annotated[Path | None, typer.Option(help="Machines in the challenge's layout.")] = None,
    collections: Annotated[str, typer.Option(help="Some, as methods.")] = ";".join(COLLECTIONS),
    methods: Annotated[str, typer.Option(help="Some, divided by semicolons.")] = ";".join(METHODS),
    seeds: Annotated[int, typer.Option(help="How many, of those that draw.")] = 3,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing, method by method."""
    if folder is None:
        home = get_data_home(data_home)
        readers = {name: partial(COLLECTIONS[name], home) for name in collections.split(";")}
    else:
        machines = sorted(set(load_dcase(folder).machine.tolist()))
        readers = {f"{folder.name}/{one}": partial(of_dcase, folder, one) for one in machines}
    for name, read in readers.items():
        cells = [
            (name, method, seed)
            for method in methods.split(";")
            for seed in range(1, (seeds if METHODS[method].is_drawn else 1) + 1)
        ]
        run_cells(partial(stamped, partial(compute, read())), cells, ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def resampled(rows: pd.DataFrame) -> NDArray:
    """AUROC, a mean over seeds, of bootstrap samples of the clips of one ID; the same for all."""
    n_normal, n_anomalous = int(rows["n_normal"].iloc[0]), int(rows["n_anomalous"].iloc[0])
    rng = np.random.RandomState(0)
    normal = rng.randint(n_normal, size=(N_BOOT, n_normal))
    anomalous = rng.randint(n_anomalous, size=(N_BOOT, n_anomalous))
    found = []
    for text in rows["scores"]:
        scores = np.array(text.split(), dtype=float)
        low, high = scores[:n_normal], scores[n_normal:]
        wins = np.sign(high[:, None] - low) / 2 + 0.5
        found.append([wins[np.ix_(j, i)].mean() for i, j in zip(normal, anomalous, strict=True)])
    return np.mean(found, axis=0)


def bracket(values: NDArray) -> str:
    """95 % percentile interval."""
    return "[{:.3f}, {:.3f}]".format(*np.quantile(values, [0.025, 0.975]))


def _lines(rows: pd.DataFrame) -> list[list[str]]:
    """Make a line for each method on the clips of one ID."""
    numbers = ["auc", "pauc", "auc_max", "auc_frames", "contrast", "seconds"]
    reference, lines = resampled(rows[rows["method"] == REFERENCE]), []
    for name in (name for name in METHODS if name in set(rows["method"])):
        of_it = rows[rows["method"] == name]
        auc, pauc, largest, frames, judged, seconds = of_it[numbers].mean()
        samples = resampled(of_it)
        less = auc - rows.loc[rows["method"] == REFERENCE, "auc"].iloc[0]
        lines.append(
            [
                name,
                f"{auc:.3f} {bracket(samples)}",
                "" if name == REFERENCE else f"{less:+.3f} {bracket(samples - reference)}",
                f"{pauc:.3f}",
                f"{largest:.3f}",
                f"{frames:.3f}",
                "" if np.isnan(judged) else f"{judged:.3f}",
                str(len(of_it)),
                f"{seconds:.1f}",
            ]
        )
    return lines


def chosen_by_contrast(rows: pd.DataFrame) -> str:
    """Name the method that the second rule chooses."""
    judged = rows.groupby("method", sort=False)["contrast"].mean().dropna()
    return str(judged.reindex([name for name in CANDIDATES if name in judged.index]).idxmax())


def challenge_table(rows: pd.DataFrame) -> str:
    """Make the challenge's table of one machine: AUC (pAUC) of each ID and their mean, in %."""
    means = rows.groupby(["method", "machine_id"])[["auc", "pauc"]].mean() * 100
    ids = sorted(set(rows["machine_id"]))
    lines = []
    for name in (name for name in METHODS if name in set(rows["method"])):
        one = means.loc[name].reindex(ids)
        pairs = [*one.itertuples(index=False), tuple(one.mean())]
        lines.append([name, *(f"{auc:.2f} ({pauc:.2f})" for auc, pauc in pairs)])
    return table(["method", *ids, "Average"], lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# Sounds of machines",
        origin_of(rows, "dcase.py"),
        "AUC and pAUC (false positive rates up to 0.1, rescaled so that chance is 0.5) of clips by "
        "the mean score of their rows; `by max` by the largest one; `of frames`: AUROC of rows, "
        f"each with its clip's label. Brackets: 95 % percentile bootstrap over test clips "
        f"({N_BOOT} samples); the difference is paired. Means over the seeds. "
        "`contrast` is the criterion without labels. Seconds: CPU time of fit and scores.",
    ]
    header = ["method", "AUC", f"minus {REFERENCE}", "pAUC", "by max", "of frames", "contrast"]
    for name in dict.fromkeys(rows["collection"]):
        of_it = rows[rows["collection"] == name]
        text.append(f"## {name}")
        for machine_id in sorted(set(of_it["machine_id"])):
            of_id = of_it[of_it["machine_id"] == machine_id]
            n_train, n_normal, n_anomalous = of_id[["n_train", "n_normal", "n_anomalous"]].iloc[0]
            text += [
                f"{machine_id}: {n_train} training clips; {n_normal} normal and {n_anomalous} "
                f"anomalous to test. Chosen by contrast: {chosen_by_contrast(of_id)}.",
                table([*header, "seeds", "seconds"], _lines(of_id)),
            ]
        if of_it["machine_id"].str.startswith("id_").all():
            text += ["AUC (pAUC) in %, the challenge's form:", challenge_table(of_it)]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
