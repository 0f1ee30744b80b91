"""Variants of detectors on the tables that defaults are chosen on, and on no others.

    python benchmarks/tune.py --data-home DIR [--variants "EBM;VAE"] [--protocols clean] [--out DIR]

The tables are those of ``tuning_tables.json``: ten of ADBench, forty of OddBench. Prints the AUROC
of every variant on every table: seed 1 of ADBench's `clean` protocol and seed 2 of its `adbench`, a
split each, and seed 1 on the splits of OddBench (`fixed`). Then come differences to the first
variant over the tables of seed 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from _tables import pair_lines, tuned_on
from sklearn.base import clone

from skgenad import (
    CANCE,
    DAGMM,
    EBM,
    MPDR,
    NAE,
    VAE,
    WAE,
    Autoencoder,
    KernelDenoiser,
    LocalGaussian,
    Mahalanobis,
    Neighbors,
)
from skgenad.autoencoders import AutoencoderFeatures
from skgenad.benchmark import open_suite, run_benchmark
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.energies import Chain, Manifold, Reconstruction
from skgenad.networks import MLP

_LEAKY = MLP(activation="leaky_relu")
_TEN = Chain(10)
# A range of input noises, in the units of columns.
_RANGE = (0.1, 1.0)
_SHORT = {"network": (64, 64), "max_steps": 150, "visible_chain": Chain(3)}
VARIANTS = {
    "default": MPDR(),
    "energy alone": MPDR(score_type="energy"),
    "half manifold": MPDR(manifold_share=0.5),
    "noise 0.1": MPDR(visible_chain=Chain(noise=0.1)),
    "noise 0.2": MPDR(visible_chain=Chain(noise=0.2)),
    "noise 0.5": MPDR(visible_chain=Chain(noise=0.5)),
    "gamma 1e-4": MPDR(visible_chain=Chain(gamma=1e-4)),
    "pretrained": MPDR(energy=Reconstruction(init="pretrain")),
    "width 256": MPDR(network=(256, 256)),
    "penalty 0.2": MPDR(energy_penalty=0.2),
    "800 steps": MPDR(max_steps=800),
    "short": MPDR(**_SHORT, manifold=Manifold(steps=600, learning_rate=5e-3)),
    "short, denoising": MPDR(
        **_SHORT, manifold=Manifold(steps=600, learning_rate=5e-3, input_noise=_RANGE)
    ),
    "short, denoising, mixed": MPDR(
        **_SHORT,
        manifold=Manifold(steps=600, learning_rate=5e-3, input_noise=_RANGE),
        standardize="mixed",
    ),
    "denoising, mixed": MPDR(
        manifold=Manifold(learning_rate=5e-3, input_noise=_RANGE), standardize="mixed"
    ),
    "autoencoder": Autoencoder(),
    "autoencoder denoising": Autoencoder(input_noise=_RANGE),
    "autoencoder rate": Autoencoder(learning_rate=5e-3),
    "autoencoder mixed": Autoencoder(standardize="mixed"),
    "autoencoder all three": Autoencoder(
        input_noise=_RANGE, learning_rate=5e-3, standardize="mixed"
    ),
    **{
        name + units: detector(**parameters)
        for units, parameters in (("", {}), (" mixed", {"standardize": "mixed"}))
        for name, detector in (
            ("neighbours", Neighbors),
            ("kernel", KernelDenoiser),
            ("local Gaussian", LocalGaussian),
        )
    },
    "NAE": NAE(),
    "NAE latent 10": NAE(latent_chain=_TEN),
    "NAE latent 10, visible 5": NAE(latent_chain=_TEN, visible_chain=Chain(5)),
    "NAE latent 10, visible 5, cd": NAE(latent_chain=_TEN, visible_chain=Chain(5), sampling="cd"),
    "NAE latent 10, visible 5, noise 0.1": NAE(
        latent_chain=_TEN, visible_chain=Chain(5, noise=0.1)
    ),
    "NAE latent 10, visible 5, penalty 0.2": NAE(
        latent_chain=_TEN, visible_chain=Chain(5), energy_penalty=0.2
    ),
    "NAE latent 10, visible 5, latent noise 0.2": NAE(
        latent_chain=Chain(10, noise=0.2), visible_chain=Chain(5)
    ),
    "NAE latent 10, visible 20": NAE(latent_chain=_TEN, visible_chain=Chain(20)),
    "EBM": EBM(),
    "EBM cd": EBM(sampling="cd"),
    "EBM 400 steps": EBM(max_steps=400),
    "EBM penalty 0.1": EBM(energy_penalty=0.1),
    "VAE": VAE(),
    "VAE no warm-up": VAE(warm_up_steps=0),
    "VAE elbo": VAE(score_type="elbo"),
    "VAE likelihood": VAE(score_type="likelihood"),
    "WAE": WAE(),
    "WAE latent 2": WAE(latent_dim=2),
    "WAE latent 8": WAE(latent_dim=8),
    "WAE weight 0.01": WAE(mmd_penalty=0.01),
    "Mahalanobis": Mahalanobis(),
    "Mahalanobis auto": Mahalanobis(shrinkage="auto"),
    "NAE latent 10, 800 steps": NAE(latent_chain=_TEN, max_steps=800),
    "DAGMM sum": DAGMM(reconstruction="sum"),
    "DAGMM mean": DAGMM(reconstruction="mean"),
    "CANCE": CANCE(),
    "CANCE leaky": CANCE(features=AutoencoderFeatures(_LEAKY), density_network=_LEAKY),
    "CANCE K 1.1": CANCE(noise_scale=1.1),
    **{
        f"CANCE K {scale} fixed": CANCE(noise_scale=scale, noise_learning_rate=0)
        for scale in (1, 1.5, 3)
    },
    # K as printed starts at 1 + softplus(0).
    **{
        f"CANCE K {scale} rate 0.03": CANCE(noise_scale=scale, noise_learning_rate=0.03)
        for scale in (1.1, 1.5, 1.6931, 3)
    },
    "CANCE K's rate 0.01": CANCE(noise_learning_rate=0.01),
    **{
        f"CANCE penalty {weight}": CANCE(features=AutoencoderFeatures(covariance_penalty=weight))
        for weight in (0, 0.1, 1, 10)
    },
    "CANCE rate 1e-3": CANCE(learning_rate=1e-3),
    "CNCE": CANCE(score_type="cnce"),
    "LatNCE": CANCE(score_type="latent"),
    "CANCE error": CANCE(score_type="error"),
    "CANCE PCA": CANCE(features="pca"),
}
# Protocol -> suite and seed.
SPLITS = {"clean": ("adbench", 1), "adbench": ("adbench", 2), "fixed": ("oddbench", 1)}


def main(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the suites' files.")] = None,
    variants: Annotated[str, typer.Option(help="Names, separated by semicolons.")] = "all",
    datasets: Annotated[str | None, typer.Option(help="Some of the tables.")] = None,
    protocols: Annotated[str, typer.Option(help="Some of them.")] = ",".join(SPLITS),
    out: Annotated[Path, typer.Option(help="Where rows are kept.")] = Path("results/tune"),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compare variants on the tables tuned on."""
    names = list(VARIANTS) if variants == "all" else variants.split(";")
    found = []
    for protocol in protocols.split(","):
        suite, seed = SPLITS[protocol]
        found.append(
            run_benchmark(
                open_suite(suite, _tables(suite, datasets), data_home=data_home),
                {name: clone(VARIANTS[name]).set_params(**ALL_ROWS) for name in names},
                protocol=protocol,
                seeds=[seed],
                jobs=jobs,
                out=out,
            )
        )
    rows = pd.concat(found)
    table = rows.pivot_table(
        index=["protocol", "dataset"], columns="detector", values="auroc", sort=False
    )
    table.loc[("all", "mean"), :] = table.mean()
    typer.echo(table[names].round(3).to_string())
    if len(names) > 1:
        # Tables of both suites are of one kind here: those tuned on.
        first = rows[rows["seed"] == 1].assign(suite="tuned", protocol="tuned")
        typer.echo("\n" + pair_lines(first, {name: names[:1] for name in names[1:]}))
        typer.echo(first.groupby("detector")[["fit_seconds"]].median().T.round(2).to_string())


def _tables(suite: str, datasets: str | None) -> list[str]:
    """Names of the tables of a suite that are asked for; all must be tables tuned on."""
    there = tuned_on(suite)
    if datasets is None:
        return list(there)
    wanted = datasets.split(",")
    foreign = sorted(set(wanted) - {*tuned_on("adbench"), *tuned_on("oddbench")})
    if foreign:
        raise typer.BadParameter(f"not among the tables tuned on: {', '.join(foreign)}")
    return [name for name in wanted if name in there]


if __name__ == "__main__":
    typer.run(main)
