"""Variants of detectors on the ten tables that defaults are chosen on, and on no others.

    python benchmarks/tune.py --data-home DIR [--variants EBM,VAE] [--protocols clean] [--out DIR]

Prints the AUROC of every variant on every table: seed 1 of the `clean` protocol and seed 2 of
`adbench`, a split each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from adbench import TUNED_ON

from skgenad import CANCE, EBM, MPDR, NAE, VAE, WAE, Autoencoder, Mahalanobis
from skgenad.autoencoders import AutoencoderFeatures
from skgenad.benchmark import open_suite, run_benchmark
from skgenad.energies import Chain, Reconstruction
from skgenad.networks import MLP

_LEAKY = MLP(activation="leaky_relu")
_TEN = Chain(10)
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
    "autoencoder": Autoencoder(),
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
    "CANCE": CANCE(),
    "CANCE leaky": CANCE(features=AutoencoderFeatures(_LEAKY), density_network=_LEAKY),
    "CANCE K 1.1": CANCE(noise_scale=1.1),
    "CANCE K fixed": CANCE(noise_learning_rate=0),
    "CANCE K's rate 0.01": CANCE(noise_learning_rate=0.01),
    "CANCE K's rate 0.03": CANCE(noise_learning_rate=0.03),
    "CANCE penalty 1": CANCE(features=AutoencoderFeatures(covariance_penalty=1.0)),
    "CANCE rate 1e-3": CANCE(learning_rate=1e-3),
    "CNCE": CANCE(score_type="cnce"),
    "LatNCE": CANCE(score_type="latent"),
    "CANCE error": CANCE(score_type="error"),
    "CANCE PCA": CANCE(features="pca"),
}
SPLITS = {"clean": 1, "adbench": 2}


def main(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    variants: Annotated[str, typer.Option(help="Names, separated by commas.")] = "all",
    datasets: Annotated[str, typer.Option(help="Some of the ten tables.")] = ",".join(TUNED_ON),
    protocols: Annotated[str, typer.Option(help="One or both.")] = ",".join(SPLITS),
    out: Annotated[Path, typer.Option(help="Where rows are kept.")] = Path("results/tune"),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compare variants on the tables tuned on."""
    names = list(VARIANTS) if variants == "all" else variants.split(",")
    foreign = sorted(set(datasets.split(",")) - set(TUNED_ON))
    if foreign:
        raise typer.BadParameter(f"not among the tables tuned on: {', '.join(foreign)}")
    suite = open_suite("adbench", datasets.split(","), data_home=data_home)
    rows = pd.concat(
        run_benchmark(
            suite,
            {name: VARIANTS[name] for name in names},
            protocol=protocol,
            seeds=[SPLITS[protocol]],
            jobs=jobs,
            out=out,
        )
        for protocol in protocols.split(",")
    )
    table = rows.pivot_table(
        index=["protocol", "dataset"], columns="detector", values="auroc", sort=False
    )
    table.loc[("all", "mean"), :] = table.mean()
    typer.echo(table[names].round(3).to_string())


if __name__ == "__main__":
    typer.run(main)
