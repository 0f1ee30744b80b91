"""Trials behind what is said of NAE on ADBench: where it loses, and a score that was not taken.

    python benchmarks/nae_trials.py losses --data-home DIR      # three sets where AE is ahead
    python benchmarks/nae_trials.py combined --data-home DIR    # on the tables tuned on

Both print tables; a few minutes each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from adbench import TUNED_ON
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from threadpoolctl import threadpool_limits

from skgenad import NAE, Autoencoder
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark.protocols import make_split
from skgenad.datasets import fetch_adbench
from skgenad.energies import Chain

LOSSES = (("wine", "clean"), ("vertebral", "adbench"), ("Wilt", "clean"))
VARIANTS: dict[str, Callable[[int], Any]] = {
    "AE": lambda seed: Autoencoder(random_state=seed),
    "NAE": lambda seed: NAE(random_state=seed),
    "100 steps": lambda seed: NAE(random_state=seed, max_steps=100),
    "noise 0.1": lambda seed: NAE(random_state=seed, visible_chain=Chain(noise=0.1)),
    "penalty 10": lambda seed: NAE(random_state=seed, energy_penalty=10.0),
}
# Shares of the autoencoder's log error in the score.
WEIGHTS = (0.0, 0.2, 1 / 3, 0.5, 1.0)

DataHome = Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")]
app = typer.Typer(add_completion=False, help=__doc__)


class KeepAutoencoder(Callback):
    """Keeps the energy as it was after pretraining."""

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Copy it."""
        if net.stage.name == "pretrain":
            self.energy_ = copy.deepcopy(net.module_.base).eval()


@app.command()
def losses(data_home: DataHome = None) -> None:
    """Mean AUROC of three seeds, and mean energies of training rows and new normal rows."""
    lines = []
    for name, protocol in LOSSES:
        X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
        for variant, make in VARIANTS.items():
            seeds = []
            for seed in (1, 2, 3):
                split = make_split(X, y, protocol=protocol, seed=seed)
                detector = make(seed).set_params(**ALL_ROWS).fit(split.X_train)
                seeds.append(
                    [
                        roc_auc_score(split.y_test, detector.anomaly_score(split.X_test)),
                        detector.anomaly_score(split.X_train).mean(),
                        detector.anomaly_score(split.X_test[split.y_test == 0]).mean(),
                    ]
                )
            lines.append([name, protocol, variant, *np.mean(seeds, axis=0)])
    columns = ["set", "protocol", "variant", "AUROC", "energy, training", "energy, new normal"]
    typer.echo(pd.DataFrame(lines, columns=columns).round(3).to_string(index=False))


@app.command()
def combined(data_home: DataHome = None) -> None:
    """AUROC of weighted means of log E and the log error of the autoencoder it started from."""
    table = {}
    for name in TUNED_ON:
        X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
        split = make_split(X, y, protocol="clean", seed=1)
        keep = KeepAutoencoder()
        detector = NAE(random_state=1, callbacks=[keep], **ALL_ROWS).fit(split.X_train)
        ours = np.log(detector.energy(split.X_test) + 1e-12)
        plain = np.log(detector._by_chunks(split.X_test, keep.energy_.energy) + 1e-12)
        table[name] = {
            f"{w:.2f}": roc_auc_score(split.y_test, (1 - w) * ours + w * plain) for w in WEIGHTS
        }
    frame = pd.DataFrame(table).T
    frame.loc["mean"] = frame.mean()
    typer.echo(frame.round(3).to_string())


@app.callback()
def one_thread() -> None:
    """Run with one thread, as the benchmark's cells do."""
    threadpool_limits(1)


if __name__ == "__main__":
    app()
