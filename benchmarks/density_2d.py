"""Eight Gaussians: how well each method's density fits, and how good its samples are.

    python benchmarks/density_2d.py run                # half an hour on 2 cores; resumable
    python benchmarks/density_2d.py tables             # seconds; writes results/density_2d.md

The data are those of the code of NAE's and MPDR's authors, whose components have the *standard
deviation* sqrt(2)/4 and thus the variance 1/8; NAE's appendix D.1 prints sqrt(2)/4 as the variance,
and rows of such data are beside. The methods are those of NAE's figures 3 and 5 with MPDR's. A
density is normalised on [-4, 4]^2 and compared with the true one on a grid of 100 x 100. All rows
have one network (two hidden layers of 128) and the same 5,000 training rows for a seed. Where a
method has no temperature of its own, exp(-E / T) takes the T of the greatest likelihood of the
training rows, as NAE's is trained to be.

"Equal chains" are rows of ours: one visible chain for all samplers, a pretrained autoencoder, one
number of gradient steps for all methods. "Authors' chains" are those of the notebook that made
NAE's figure 3, another for each sampler: CD 5 steps of noise 0.05, PCD 50 of 0.05, OMI 10 latent
and 30 visible steps of 0.1, all Langevin steps with Metropolis-Hastings, batches of 200, a
temperature that starts at 0.1, alpha = 1, no pretraining. There the networks are FCRes2 and the
rate 1e-5 in 2,000 steps; here they are the perceptron and 1e-3 in 1,000, because a step of FCRes2
takes sixty times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import typer
from _modes import mode_shares, sliced_wasserstein
from _results import origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from skgenad import MPDR, NAE, VAE, Autoencoder
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.datasets import eight_gaussians_log_density, make_eight_gaussians
from skgenad.energies import Chain, Manifold, Reconstruction, Replay, Scalar

ROWS = results_file(
    "density_2d",
    key=("variance", "method", "space", "seed"),
    columns={
        "variance": str,
        "method": str,
        "space": str,
        "seed": int,
        "l1": float,
        "temperature": float,
        "seconds": float,
        # These columns are of samples, where a fit was judged by them.
        "distance": float,
        "least": float,
        "most": float,
        # What the fitted density has within 1.5 of the centre (the truth: 7e-5), and how far its
        # shares of the eight modes are from 1/8 each, in total variation.
        "hole": float,
        "share_error": float,
    },
)
# What the authors' data have, and what NAE's appendix D.1 prints.
VARIANCES = {"1/8": 1 / 8, "sqrt(2)/4": np.sqrt(2) / 4}
AUTHORS = "1/8"
# Densities on the grid, for the figure alone.
DENSITIES = ROWS.path.parent / "cells"
SEEDS = range(5)
AXIS = np.linspace(-4, 4, 100)
CELL = (AXIS[1] - AXIS[0]) ** 2
GRID = np.stack(np.meshgrid(AXIS, AXIS), axis=-1).reshape(-1, 2)
N_ROWS = 5000
# Steps of the autoencoder (or manifold) and of the energy; a method of one stage has their sum.
FIRST, SECOND = 500, 1500

_COMMON: dict[str, Any] = {
    "network": (128, 128),
    "standardize": False,
    "device": "cpu",
    **ALL_ROWS,
}
# Equal chains. What differs from the paper's setting (Table 11) has its reason in the budget, 2,000
# steps where the paper has 50 epochs at a learning rate of 1e-5. The chain's noise is three times
# the paper's, with the step that goes with it, so that the chain crosses a mode of either variance.
# The penalty on energies is a tenth: theirs here are not small.
_NAE: dict[str, Any] = {
    "visible_chain": Chain(noise=0.3, step_size=0.045),
    "energy_penalty": 0.1,
    "pretrain_steps": FIRST,
    "max_steps": SECOND,
    "learning_rate": 3e-4,
    "temperature_learning_rate": 3e-3,
    "schedule": "cosine",
}
# The authors' chains: those of the notebook that made figure 3.
_AUTHORS: dict[str, Any] = {
    "energy_penalty": 1.0,
    "pretrain_steps": 0,
    "max_steps": 1000,
    "batch_size": 200,
    "learning_rate": 1e-3,
    "temperature": 0.1,
    "temperature_learning_rate": 1e-3,
    "schedule": "constant",
}


_MPDR: dict[str, Any] = {
    "manifold": Manifold(2, steps=FIRST),
    "max_steps": SECOND,
    "score_type": "energy",
    "visible_chain": Chain(20, noise=0.3, step_size=0.045),
}
# Latent spaces: those of figure 5 and the circle of the authors' published example.
SPACES: dict[str, dict[str, Any]] = {
    "R^1": {"latent_space": "euclidean", "latent_dim": 1},
    "R^3": {"latent_space": "euclidean", "latent_dim": 3},
    "S^1": {"latent_space": "sphere", "latent_dim": 2},
}


def _nae(space: str, seed: int, **parameters: Any) -> NAE:
    penalty = {"latent_penalty": 0.0 if space == "S^1" else 0.01}
    settings = {**_COMMON, **_NAE, **SPACES[space], **penalty, **parameters}
    return NAE.from_paper("2d", **settings, random_state=seed)


def _authors(space: str, seed: int, sampling: str, steps: int, noise: float) -> NAE:
    chain = Chain(steps, noise=noise, step_size=noise**2 / 2, metropolis=True)
    return _nae(space, seed, sampling=sampling, visible_chain=chain, **_AUTHORS)


def _ae(space: str, seed: int) -> Autoencoder:
    return Autoencoder(**_COMMON, **SPACES[space], max_steps=FIRST + SECOND, random_state=seed)


def _vae(space: str, seed: int) -> VAE:
    return VAE(
        **_COMMON,
        latent_dim=SPACES[space]["latent_dim"],
        score_type="likelihood",
        max_steps=FIRST + SECOND,
        random_state=seed,
    )


def _mpdr(space: str, seed: int, scalar: bool = False) -> MPDR:
    """Make an MPDR with S^1 as its manifold; `space` is that of its energy, a sphere always."""
    latent_dim = 4 if space == "R^3" else 2
    reconstruction = Reconstruction(latent_dim=latent_dim, init="pretrain", pretrain_steps=FIRST)
    energy = Scalar() if scalar else reconstruction
    return MPDR(**_COMMON, **_MPDR, energy=energy, random_state=seed)


Make = Callable[[str, int], Any]
# Name -> how it is made, and the latent spaces that it is made with.
METHODS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "NAE-OMI, authors' chains": (partial(_authors, sampling="omi", steps=30, noise=0.1), ("R^3",)),
    "NAE-CD, authors' chains": (partial(_authors, sampling="cd", steps=5, noise=0.05), ("R^3",)),
    "NAE-PCD, authors' chains": (partial(_authors, sampling="pcd", steps=50, noise=0.05), ("R^3",)),
    "AE": (_ae, ("R^1", "R^3", "S^1")),
    "VAE": (_vae, ("R^1", "R^3")),
    "NAE-OMI": (_nae, ("R^1", "R^3", "S^1")),
    "NAE-CD": (partial(_nae, sampling="cd"), ("R^1", "R^3", "S^1")),
    "NAE-PCD": (partial(_nae, sampling="pcd"), ("R^1", "R^3", "S^1")),
    "NAE-PCD, no restart": (
        partial(_nae, sampling="pcd", replay=Replay(128, ratio=1.0)),
        ("R^3",),
    ),
    "MPDR-R": (_mpdr, ("S^1", "R^3")),
    "MPDR-S": (partial(_mpdr, scalar=True), ("S^1",)),
}
# Whose samples are judged.
SAMPLED = ("AE", "VAE", "NAE-OMI", "MPDR-R")
N_SAMPLES, N_DRAWS = 1000, 10
app = typer.Typer(add_completion=False, help=__doc__)


def true_density(variance: str = AUTHORS) -> NDArray:
    """Density on the grid, normalised there."""
    density = np.exp(eight_gaussians_log_density(GRID, variance=VARIANCES[variance]))
    return density / (density.sum() * CELL)


def density(detector: Any, rows: NDArray) -> tuple[NDArray, float]:
    """Density of a detector on the grid and the temperature that it took."""
    if isinstance(detector, NAE):
        # The chains are exact ones, so that the model's temperature is the density's.
        return np.exp(detector.log_density_grid(AXIS, AXIS)).ravel(), detector.temperature_
    if isinstance(detector, VAE):
        weights, temperature = detector.log_density(GRID), 1.0
    else:
        inside = rows[(np.abs(rows) <= 4).all(axis=1)]
        level = detector.anomaly_score(inside).mean()
        energies = detector.anomaly_score(GRID)

        def loss(log_temperature: float) -> float:
            beta = np.exp(-log_temperature)
            return beta * level + logsumexp(-beta * energies)

        temperature = float(np.exp(minimize_scalar(loss, bounds=(-15, 5), method="bounded").x))
        weights = -energies / temperature
    return np.exp(weights - logsumexp(weights)) / CELL, temperature


def cells(
    methods: Iterable[str] = METHODS, spaces: Iterable[str] = SPACES, seeds: Iterable[int] = SEEDS
) -> Iterator[tuple[str, str, str, int]]:
    """Yield variance, method, latent space and seed of every fit that is to be made."""
    for seed in seeds:
        for name in methods:
            for space in METHODS[name][1]:
                if space in spaces:
                    yield AUTHORS, name, space, seed


def compute(variance: str, name: str, space: str, seed: int) -> list[dict[str, Any]]:
    """Fit one detector, keep its density for the figure, and judge its samples."""
    X, _ = make_eight_gaussians(N_ROWS, variance=VARIANCES[variance], random_state=seed)
    detector = METHODS[name][0](space, seed)
    start = time.process_time()
    detector.fit(X)
    seconds = time.process_time() - start
    q, temperature = density(detector, X)
    DENSITIES.mkdir(parents=True, exist_ok=True)
    np.save(density_path(variance, name, space, seed), q.astype(np.float32))
    judged = dict.fromkeys(("distance", "least", "most"), np.nan)
    if name in SAMPLED:
        judged = quality([draw(detector, i) for i in range(N_DRAWS)], variance)
    row = {
        "l1": np.abs(q - true_density(variance)).sum() * CELL,
        "temperature": temperature,
        "seconds": seconds,
        "hole": q[(GRID**2).sum(axis=1) < 1.5**2].sum() * CELL,
        "share_error": share_error(q),
    }
    return [{**row, **judged}]


def density_path(variance: str, name: str, space: str, seed: int) -> Path:
    """Where the density of a fit is kept."""
    return DENSITIES / f"{variance.replace('/', ' by ')} {name} {space} {seed}.npy"


def share_error(density: NDArray) -> float:
    """Total variation of a density's shares of the modes from those of the data, 1/8 each."""
    return float(np.abs(mode_shares(GRID, density) - 1 / 8).sum() / 2)


def draw(detector: Any, seed: int) -> NDArray:
    """Draw a sample: a model's own, or decoded vectors of the prior for an autoencoder."""
    if hasattr(detector, "sample"):
        return detector.sample(N_SAMPLES, random_state=seed)
    z = np.random.RandomState(seed).randn(N_SAMPLES, detector.latent_dim).astype(np.float32)
    if detector.latent_space == "sphere":
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    with torch.no_grad():
        x = detector.module_.net.decode(torch.from_numpy(z))
    return detector.units_.from_standard(x.numpy())


def data(seed: int, variance: str) -> NDArray:
    """Draw new rows."""
    spread = VARIANCES[variance]
    return make_eight_gaussians(N_SAMPLES, variance=spread, random_state=1000 + seed)[0]


def quality(draws: list[NDArray], variance: str) -> dict[str, float]:
    """Distance to new data, mean over draws, and the extreme shares of modes over all draws."""
    fresh = [data(i, variance) for i in range(len(draws))]
    shares = 8 * np.array([mode_shares(x) for x in draws])
    return {
        "distance": np.mean([sliced_wasserstein(*pair) for pair in zip(draws, fresh, strict=True)]),
        "least": shares.min(),
        "most": shares.max(),
    }


@app.command()
def run(
    methods: Annotated[str, typer.Option(help="Some, with ; between them.")] = ";".join(METHODS),
    spaces: Annotated[str, typer.Option(help="Some of the latent spaces.")] = ";".join(SPACES),
    seeds: Annotated[str, typer.Option(help="Some of them.")] = ",".join(map(str, SEEDS)),
    jobs: Annotated[int, typer.Option(help="Fits at a time.")] = 2,
) -> None:
    """Compute the fits that are missing, of all methods or of some."""
    names, some = methods.split(";"), spaces.split(";")
    if unknown := {*names, *some} - {*METHODS, *SPACES}:
        raise typer.BadParameter(f"{sorted(unknown)} are not in {[*METHODS, *SPACES]}")
    fits = cells(names, some, map(int, seeds.split(",")))
    run_cells(partial(stamped, compute), fits, ROWS, jobs=jobs)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there, and the figure if the densities are, too."""
    fits = ROWS.read()
    ours = fits[fits["variance"] == AUTHORS]
    # Without its densities, which are not committed, the figure stays the one that is there.
    if all(density_path(*cell).exists() for cell in ours[list(ROWS.key)].itertuples(index=False)):
        figure(ours)
    text = [
        "# Eight Gaussians",
        origin_of(fits, "density_2d.py"),
        *__doc__.strip().split("\n\n")[2:],
    ]
    for variance in VARIANCES:
        some = fits[fits["variance"] == variance]
        text += section(some, variance)
        if variance == AUTHORS:
            text += [FIGURE, FINDINGS]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


FIGURE = """![densities](density_2d/densities.png)

Variance 1/8. Each map is that of the seed with the median error. MPDR's manifold is a circle in all
rows; its energy's latent space is S^3 beside R^3."""
# What the tables say; test_committed_results.py holds the order of the samplers to the rows.
FINDINGS = """With the authors' chains the order is that of NAE's figure 3: OMI fits best, and CD,
whose five short steps cannot leave the data, has left probability in the hole. Read back from the
authors' figure through its colours, OMI has .45 to .51 there and CD 1.03; its panel of PCD is pixel
by pixel that of CD (correlation .996) and no reference. With equal chains the order turns, and the
shares say why: a chain mixes within a mode and never crosses to another, six deviations away, so
that negatives have the shares of where chains start. Those of CD are the data's, which are right at
the optimum; those of OMI are the latent chain's, and the density moves away from the data's until
these match. L1 is at least twice the share error, which is most of OMI's. MPDR-R has a smaller
error than MPDR-S, as MPDR's section 4.2 says; on the data of the other variance they tie."""


def section(fits: pd.DataFrame, variance: str) -> list[str]:
    """Paragraphs on the fits to data of one variance."""
    what = "the authors' code" if variance == AUTHORS else "as printed; rows of equal chains alone"
    clock = "CPU seconds" if variance == AUTHORS else "seconds by the clock, on another machine"
    drawn = fits[fits["method"].isin(SAMPLED)]
    return [
        f"## Variance {variance} ({what})",
        f"L1 error of the density, median of at most {fits['seed'].nunique()} seeds (least to most)"
        ". Hole: what the density has within 1.5 of the centre. Share error: total variation of "
        f"its shares of the eight modes from 1/8 each. Fits took {clock}.",
        l1_table(fits),
        f"Samples: {N_SAMPLES} rows, means of {N_DRAWS} draws, medians over seeds.",
        sample_table(drawn, variance),
    ]


def _label(name: str, space: str) -> str:
    """Latent space in words: MPDR's is that of its energy, the manifold being a circle."""
    if name == "MPDR-S":
        return "manifold S^1"
    if name == "MPDR-R":
        return f"manifold S^1, energy {'S^3' if space == 'R^3' else 'S^1'}"
    return space


def l1_table(fits: pd.DataFrame) -> str:
    """Medians and ranges over seeds."""
    lines = []
    for (name, space), group in fits.groupby(["method", "space"], sort=False):
        l1 = group["l1"]
        lines.append(
            [
                name,
                _label(name, space),
                f"{len(group)}",
                f"{l1.median():.3f}"
                + (f" ({l1.min():.3f} to {l1.max():.3f})" if len(l1) > 1 else ""),
                _number(group["hole"].median(), 4),
                _number(group["share_error"].median(), 3),
                f"{group['temperature'].median():.3g}",
                f"{group['seconds'].median():.0f}",
            ]
        )
    order = {name: i for i, name in enumerate(METHODS)}
    lines.sort(key=lambda line: order[line[0]])
    header = ["method", "latent space", "seeds", "L1", "hole", "share error", "T", "fit s"]
    return table(header, lines)


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def sample_table(drawn: pd.DataFrame, variance: str) -> str:
    """Sliced Wasserstein distances, also as multiples of that between data, and mode shares."""
    among = quality([data(N_DRAWS + i, variance) for i in range(N_DRAWS)], variance)
    lines = [["data", "", f"{among['distance']:.3f}", "1.0", _shares(among)]]
    for (name, space), group in drawn.groupby(["method", "space"], sort=False):
        middle = group[["distance", "least", "most"]].median()
        ratio = middle["distance"] / among["distance"]
        lines.append(
            [
                name,
                _label(name, space),
                f"{middle['distance']:.3f}",
                f"{ratio:.1f}",
                _shares(middle),
            ]
        )
    return table(
        ["method", "latent space", "sliced Wasserstein", "times data's", "share of a mode / (1/8)"],
        lines,
    )


def _shares(judged: Mapping[Any, float] | pd.Series) -> str:
    return f"{judged['least']:.2f} to {judged['most']:.2f}"


def figure(fits: pd.DataFrame) -> None:
    """Draw the densities of all methods with rows, those with the seed of the median error."""
    names = [name for name in METHODS if name in set(fits["method"])]
    fig, axes = plt.subplots(
        len(SPACES), len(names) + 1, figsize=(1.7 * len(names) + 2, 6), layout="constrained"
    )
    true = true_density()
    for space, row in zip(SPACES, axes, strict=True):
        _map(row[0], true, true.max())
        row[0].set_ylabel(f"${space}$")
        for ax, name in zip(row[1:], names, strict=True):
            if space == next(iter(SPACES)):
                ax.set_title(name.replace(", ", ",\n"), fontsize=9)
            group = fits[(fits["method"] == name) & (fits["space"] == space)]
            if not len(group):
                ax.set(xticks=[], yticks=[], frame_on=False)
                continue
            middle = group.iloc[(group["l1"] - group["l1"].median()).abs().argmin()]
            _map(ax, np.load(density_path(*middle[list(ROWS.key)])), true.max())
            ax.set_xlabel(f"L1 {middle['l1']:.2f}", fontsize=9)
    axes[0, 0].set_title("true density", fontsize=9)
    fig.savefig(ROWS.path.parent / "densities.png", dpi=100)


def _map(ax: Any, density: NDArray, most: float) -> None:
    extent = (AXIS[0], AXIS[-1], AXIS[0], AXIS[-1])
    ax.imshow(density.reshape(100, 100), origin="lower", extent=extent, vmin=0, vmax=most)
    ax.set(xticks=[], yticks=[])


if __name__ == "__main__":
    app()
