"""What a step, a fit and a score cost, as ratios measured in turns in one process.

    python benchmarks/speed.py step              # one MPDR-R step against a plain one; each trick
    python benchmarks/speed.py scaling           # a step's cost by rows and by columns
    python benchmarks/speed.py score             # a million rows: share of a GEMM's rate, memory
    python benchmarks/speed.py fit --data-home DIR    # MPDR().fit against pyod's AutoEncoder().fit
    python benchmarks/speed.py detectors         # fit and score of every detector at its defaults
    python benchmarks/speed.py conv              # one MPDR-R step on 28x28 images; scoring them
    python benchmarks/speed.py flows             # one step of Glow against normflows'

Every command takes ``--quick`` and uses one thread. Rows go to ``results/speed/*.csv``, tables to
``results/speed.md``; `fit` goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _conv_step import ConvStep, MultiplyAdds, PlainConvStep
from _measure import gemm_rate, interleaved, load, save, write_report
from _plain_mpdr import PlainMPDR, Settings
from adbench import SETS
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import skgenad
from skgenad import MPDR
from skgenad._core.loop import RowBatches, Stage
from skgenad._core.training import run_stage
from skgenad.benchmark.protocols import make_split
from skgenad.datasets import fetch_adbench
from skgenad.energies._energies import contrastive_loss, frozen
from skgenad.energies._recovery import RecoveryEnergy

app = typer.Typer(add_completion=False, help=__doc__)
Quick = Annotated[bool, typer.Option("--quick", help="Fewer rounds: a smoke test.")]
_TITLES = {
    "step": "One MPDR-R training step",
    "tricks": "What each trick gains",
    "rows": "A step's cost by number of rows",
    "columns": "A step's cost by number of columns",
    "score": "Scoring",
    "fit": "Fit at the defaults",
    "detectors": "Every detector at its defaults",
    "conv": "One MPDR-R training step on images",
    "conv_score": "Scoring images",
    "flows": "One training step of Glow",
}


class Ours:
    """The package's own training step: module, stage and chains of ``MPDR`` on random rows.

    The perturbation term is on, unlike in the defaults, since the paper's step has it. The learning
    rate is small, since hundreds of steps are run with it.
    """

    def __init__(self, rows: Tensor, width: int, **parameters: Any) -> None:
        self.rows = rows
        settings = {"visible_gamma": 1e-4, "learning_rate": 1e-4, "random_state": 0} | parameters
        self.detector = MPDR(hidden_sizes=(width, width), **settings)
        self.module = self.detector._make_module(rows.shape[1])
        self.detector._before_training(self.module, rows, None)
        self.module.train()
        self.stage: Stage = self.detector._stages(self.module)[-1]
        self.optimizer = self.stage.optimizers["main"]

    def run(self, n_steps: int) -> None:
        """Run `n_steps` through the training loop, as `fit` does."""
        stage = dataclasses.replace(self.stage, n_steps=n_steps)
        run_stage(self.module, stage, self.rows, batch_size=self.detector.batch_size)

    def bare_step(self, x: Tensor) -> None:
        """One step without the training loop."""
        self.optimizer.zero_grad()
        self.stage.objective(self.module, x)["loss"].backward()
        self.optimizer.step()

    def negatives(self, x: Tensor) -> Tensor:
        """Negatives of a batch."""
        chains = self.detector._chains(self.module)
        return self.module.negatives(x, self.detector.noise_range, *chains)

    def conditional(self, x: Tensor) -> RecoveryEnergy:
        """Return the energy that the chains of a batch go down."""
        with torch.no_grad():
            return self.module.perturb(0, x, self.detector.noise_range)


def multiply_adds(s: Settings) -> int:
    """Multiply-adds of the matrix products of one step, with k gradients for k steps.

    An encoder or a decoder costs `net` in either direction. A visible gradient takes both nets of
    the energy and the manifold's encoder forward and backward, a latent one the decoder as well;
    besides, the manifold encodes and decodes once. The loss takes forward, input gradients (but
    for the first layer's) and weight gradients for data and negatives.
    """
    first = s.n_features * s.width
    net = 2 * first + s.width**2
    visible = 6 * net
    chains = s.visible_steps * visible + s.latent_steps * (visible + 2 * net) + 2 * net
    loss = 2 * (3 * 2 * net - first)
    return s.batch_size * (chains + loss)


@app.command()
def step(quick: Quick = False) -> None:
    """Time one MPDR-R step against the plain one, and every trick alone."""
    rows, tricks = [], []
    for width in (128, 1024):
        n_steps = max(2, (10 if quick else 50) * 128 // width)
        rows += _step_rows(width, n_steps, rounds=3 if quick else 11)
        tricks += _trick_rows(width, n_steps, rounds=3 if quick else 11)
    save("step", rows)
    save("tricks", tricks)
    _report()


def _step_rows(width: int, n_steps: int, rounds: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    settings = Settings(width=width)
    X = torch.randn(2000, settings.n_features)
    plain = PlainMPDR(X, settings, parameter_gradients=True)
    only_states = PlainMPDR(X, settings)
    ours = Ours(X, width)

    def run(model: PlainMPDR) -> Callable[[], None]:
        return lambda: [model.step() for _ in range(n_steps)] and None

    cases = {
        "plain: backward() in chains": run(plain),
        "plain: autograd.grad for states only": run(only_states),
        "skgenad": lambda: ours.run(n_steps),
    }
    seconds = interleaved(cases, rounds=rounds) / n_steps
    rate = gemm_rate(settings.batch_size, width, rounds)
    floor = multiply_adds(settings) / rate
    return [
        {
            "width": width,
            "step": name,
            "ms": 1e3 * seconds[name].median(),
            "times skgenad": (seconds[name] / seconds["skgenad"]).median(),
            "multiply-adds (millions)": multiply_adds(settings) / 1e6,
            "GEMM rate (1e9 multiply-adds/s)": rate / 1e9,
            "share of that rate": floor / seconds[name].median(),
        }
        for name in cases
    ]


def _trick_rows(width: int, n_steps: int, rounds: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    X = torch.randn(2000, 21)
    ours, no_gamma = Ours(X, width), Ours(X, width, latent_gamma=0.0, visible_gamma=0.0)
    x = X[: ours.detector.batch_size].clone()
    target = ours.conditional(x)
    pairs = {
        "gradient in closed form / autograd, parameters frozen": _gradients(ours, target, x),
        "k gradients / k + 1": {
            "with": lambda: ours.negatives(x),
            "without": lambda: (
                ours.negatives(x),
                target.visible(x, 1e-4),
                target.latent(target.z_noisy, 1e-4),
            ),
        },
        "data and negatives in one pass / two": _passes(ours, x),
        "fused Adam / default": _optimizers(ours, x),
        "batch by indexing / DataLoader": _batches(X, len(x)),
        "gamma = 0 / 1e-4 (another model: not used)": {
            "with": lambda: no_gamma.negatives(x),
            "without": lambda: ours.negatives(x),
        },
        "bare loop / skorch (what the loop costs)": {
            "with": lambda: ours.bare_step(x),
            "without": lambda: ours.run(n_steps),
        },
    }
    results = []
    for name, cases in pairs.items():
        loop = name.startswith("bare")
        seconds = interleaved(cases, rounds=rounds, calls=1 if loop else n_steps)
        if loop:
            seconds["without"] /= n_steps
        for other in cases:
            if other == "with":
                continue
            results.append(
                {
                    "width": width,
                    "trick": name if other == "without" else f"closed form / {other}",
                    "ms with": 1e3 * seconds["with"].median(),
                    "ms without": 1e3 * seconds[other].median(),
                    "times": (seconds[other] / seconds["with"]).median(),
                }
            )
    return results


def _gradients(ours: Ours, target: RecoveryEnergy, x: Tensor) -> dict[str, Callable]:
    """Take the gradient of one visible step in closed form and by autograd in three ways."""
    module, gamma = ours.module, ours.detector.visible_gamma

    def total(x: Tensor) -> Tensor:
        offset = (module.manifolds[0].encode(x) - target.z_noisy).square()
        return (module.base.energy(x) + gamma * (target.weight * offset).sum(dim=1)).sum()

    def of_states() -> None:
        state = x.detach().requires_grad_(True)
        torch.autograd.grad(total(state), state)

    def frozen_parameters() -> None:
        with frozen(module):
            of_states()

    def of_parameters_too() -> None:
        module.zero_grad()
        total(x.detach().requires_grad_(True)).backward()

    return {
        "with": lambda: target.visible(x, gamma),
        "without": frozen_parameters,
        "autograd.grad, parameters live": of_states,
        "backward(), parameters' gradients too": of_parameters_too,
    }


def _passes(ours: Ours, x: Tensor) -> dict[str, Callable]:
    base, negatives = ours.module.base, ours.negatives(x)

    def one() -> None:
        base.zero_grad()
        parts = contrastive_loss(base, x, negatives, penalty=1.0, penalize_data=False)
        parts["loss"].backward()

    def two() -> None:
        base.zero_grad()
        energy, of_negatives = base.energy(x), base.energy(negatives)
        loss = energy.mean() - of_negatives.mean() + of_negatives.square().mean()
        loss.backward()

    return {"with": one, "without": two}


def _optimizers(ours: Ours, x: Tensor) -> dict[str, Callable]:
    ours.bare_step(x)
    # Rates of 0: the time is the same, and thousands of updates leave the weights in place.
    default = torch.optim.Adam(ours.module.base.parameters(), lr=0.0)
    for group in ours.optimizer.param_groups:
        group["lr"] = 0.0
    return {"with": ours.optimizer.step, "without": default.step}


def _batches(X: Tensor, batch_size: int) -> dict[str, Callable]:
    batches = RowBatches(X, batch_size, n_steps=10**9)
    loader = DataLoader(TensorDataset(X), batch_size=batch_size, shuffle=True, drop_last=True)
    per_pass = len(loader)
    return {
        "with": lambda: [batches._next() for _ in range(per_pass)],
        "without": lambda: [batch for (batch,) in loader],
    }


@app.command()
def scaling(quick: Quick = False) -> None:
    """Time a step for growing numbers of rows and of columns."""
    n_steps, rounds = (20, 3) if quick else (200, 5)
    torch.manual_seed(0)
    sizes = [10**3, 10**4, 10**5, 10**6]
    many = torch.randn(sizes[-1], 21)
    models = {str(n): Ours(many[:n], 128) for n in sizes}
    save("rows", _scaling_rows("rows", models, n_steps, rounds))
    dims = [10, 20, 50, 100, 200, 400]
    wide = torch.randn(2000, dims[-1])
    models = {
        str(d): Ours(wide[:, :d].contiguous(), 128, manifold_dims=d, latent_dim=d) for d in dims
    }
    rows = _scaling_rows("columns", models, n_steps, rounds)
    measured = np.array([row["ms"] for row in rows])
    line = np.polyval(np.polyfit(dims, measured, 1), dims)
    save("columns", [{**r, "straight line (ms)": v} for r, v in zip(rows, line, strict=True)])
    _report()


def _scaling_rows(
    name: str, models: dict[str, Ours], n_steps: int, rounds: int
) -> list[dict[str, Any]]:
    cases = {key: lambda model=model: model.run(n_steps) for key, model in models.items()}
    seconds = interleaved(cases, rounds=rounds) / n_steps
    first = seconds.columns[0]
    return [
        {
            name: int(key),
            "ms": 1e3 * seconds[key].median(),
            "times the first": (seconds[key] / seconds[first]).median(),
        }
        for key in seconds
    ]


@app.command()
def score(quick: Quick = False) -> None:
    """Score a million rows: share of a plain GEMM's multiply-adds per second, peak memory."""
    n = 100_000 if quick else 1_000_000
    detector, X = _scored(n)
    shapes = [(n_in, n_out) for n_in, n_out in _layers(detector)]
    chunk = 1024
    factors = [(torch.randn(chunk, a), torch.randn(b, a)) for a, b in shapes]
    n_chunks = -(-n // chunk)

    @torch.inference_mode()
    def products() -> None:
        for _ in range(n_chunks):
            for a, weight in factors:
                a @ weight.t()

    cases = {"products": products, "score": lambda: detector.score_samples(X)}
    seconds = interleaved(cases, rounds=2 if quick else 5)
    total = n * sum(a * b for a, b in shapes)
    command = [sys.executable, __file__, "peak-memory", str(n)]
    peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    save(
        "score",
        [
            {
                "rows": n,
                "columns": X.shape[1],
                "seconds": seconds["score"].median(),
                "1e9 multiply-adds/s": total / seconds["score"].median() / 1e9,
                "GEMMs of the same shapes": total / seconds["products"].median() / 1e9,
                "share": (seconds["products"] / seconds["score"]).median(),
                "peak MB above the input": peak,
            }
        ],
    )
    _report()


def _scored(n: int) -> tuple[MPDR, NDArray]:
    """Fit a detector at the defaults (combined score: energy and manifold); make rows to score."""
    X = np.random.RandomState(0).standard_normal((n, 21))
    detector = MPDR(manifold_steps=5, pretrain_steps=5, max_steps=5, random_state=0)
    return detector.fit(X[:2000]), X


def _layers(detector: MPDR) -> list[tuple[int, int]]:
    """Widths of every layer that a row passes when it is scored."""
    module = detector.module_
    nets = [module.base.net, *(module.manifolds if module.manifold_weight is not None else [])]
    weights = [m.weight for net in nets for m in net.modules() if isinstance(m, torch.nn.Linear)]
    return [(w.shape[1], w.shape[0]) for w in weights]


@app.command(hidden=True)
def peak_memory(n: int) -> None:
    """Print by how many MB the resident memory grows while `n` rows are scored (Linux)."""
    detector, X = _scored(n)
    detector.score_samples(X[:2048])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    detector.score_samples(X)
    typer.echo(json.dumps(round((_status("VmHWM") - before) / 1024, 1)))


def _status(field: str) -> int:
    """Read a field of the process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@app.command()
def fit(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    datasets: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(SETS),
    rounds: Annotated[int, typer.Option(help="Turns on each set.")] = 3,
    quick: Quick = False,
) -> None:
    """Time MPDR().fit against pyod's AutoEncoder().fit on ADBench's training parts."""
    from pyod.models.auto_encoder import AutoEncoder

    done = load("fit")
    finished = set() if done is None else set(done["data set"])
    for name in datasets.split(","):
        if name in finished:
            continue
        X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
        X = make_split(X, y, protocol="clean", seed=1).X_train
        cases = {
            "MPDR": lambda X=X: MPDR(random_state=1).fit(X),
            "pyod AutoEncoder": lambda X=X: AutoEncoder(verbose=0, random_state=1).fit(X),
        }
        with threadpool_limits(1):
            seconds = interleaved(cases, rounds=1 if quick else rounds)
        row: dict[str, Any] = {"data set": name, "rows": len(X), "columns": X.shape[1]}
        row |= {f"{case} (s)": seconds[case].median() for case in cases}
        row["ratio"] = (seconds["MPDR"] / seconds["pyod AutoEncoder"]).median()
        save("fit", [row], append=True)
        typer.echo(f"{name}: {row['ratio']:.2f}")
    _report()


@app.command()
def detectors(quick: Quick = False) -> None:
    """Time fit and score of every public detector on random rows, beside the autoencoder's."""
    X = np.random.RandomState(0).standard_normal((5000, 21))
    classes = {
        name: cls
        for name in skgenad.__all__
        if isinstance(cls := getattr(skgenad, name), type) and hasattr(cls, "score_samples")
    }
    fitted = {name: cls(random_state=0).fit(X) for name, cls in classes.items()}
    rounds = 1 if quick else 5
    fits = interleaved(
        {name: lambda c=cls: c(random_state=0).fit(X) for name, cls in classes.items()},
        rounds=rounds,
    )
    scores = interleaved(
        {name: lambda d=detector: d.score_samples(X) for name, detector in fitted.items()},
        rounds=3 * rounds,
    )
    save(
        "detectors",
        [
            {
                "detector": name,
                "fit (s)": fits[name].median(),
                "fit / Autoencoder": (fits[name] / fits["Autoencoder"]).median(),
                "score (us a row)": 1e6 * scores[name].median() / len(X),
            }
            for name in classes
        ],
    )
    _report()


@app.command()
def flows(quick: Quick = False) -> None:
    """Time one step of Glow against the same architecture in normflows."""
    from _flow_step import FlowStep, NormflowsStep  # the only one that needs normflows

    rounds, n_steps = (2, 1) if quick else (11, 2)
    rows = []
    for shape, steps, hidden, batch_size in (
        ((1, 32, 32), 8, 32, 64),
        ((1, 32, 32), 4, 64, 32),
        ((3, 32, 32), 4, 128, 32),
        ((3, 32, 32), 1, 512, 16),
    ):
        torch.manual_seed(0)
        x = torch.rand(4 * batch_size, int(np.prod(shape)))
        settings = {"n_scales": 3, "n_couplings": steps, "hidden": hidden, "batch_size": batch_size}
        ours = FlowStep(x, shape, **settings)
        theirs = NormflowsStep(ours)
        cases = {"skgenad": ours, "normflows": theirs}
        seconds = interleaved(
            {name: lambda model=model: model.run(n_steps) for name, model in cases.items()},
            rounds=rounds,
        )
        seconds /= n_steps
        rows.append(
            {
                "image": " x ".join(map(str, shape)),
                "steps of each scale": steps,
                "width": hidden,
                "batch": batch_size,
                "parameters": ours.n_parameters,
                "of normflows": theirs.n_parameters,
                "skgenad (ms)": 1e3 * seconds["skgenad"].median(),
                "normflows (ms)": 1e3 * seconds["normflows"].median(),
                "normflows / skgenad": (seconds["normflows"] / seconds["skgenad"]).median(),
            }
        )
    save("flows", rows)
    _report()


@app.command()
def conv(quick: Quick = False) -> None:
    """Time one MPDR-R step on MNIST's architecture against the plain one; score images."""
    rounds = 2 if quick else 7
    torch.manual_seed(0)
    ours = ConvStep(torch.rand(128, 1, 28, 28))
    with MultiplyAdds() as counted:
        ours.step()
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    n_products = 20
    cases = {
        "plain: channels first, backward() in chains": PlainConvStep(ours).step,
        "skgenad": ours.step,
        "gemm": lambda: [a @ b for _ in range(n_products)],
    }
    seconds = interleaved(cases, rounds=rounds)
    rate = n_products * 1024**3 / seconds.pop("gemm")
    save(
        "conv",
        [
            {
                "step": name,
                "s": seconds[name].median(),
                "times skgenad": (seconds[name] / seconds["skgenad"]).median(),
                "multiply-adds (1e9)": counted.total / 1e9,
                "GEMM rate (1e9 multiply-adds/s)": rate.median() / 1e9,
                "share of that rate": (counted.total / seconds[name] / rate).median(),
            }
            for name in seconds
        ],
    )
    _score_images(10_000 if quick else 100_000)
    _report()


def _score_images(n: int) -> None:
    """Time and peak memory of scoring `n` images of 28x28 bytes by the paper's network."""
    short = {"manifold_steps": 1, "max_steps": 1, "latent_steps": 1, "visible_steps": 1}
    detector = MPDR.from_paper("mnist", random_state=0, device="cpu", **short).fit(_bytes(128))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "detector"
        detector.save(path)
        command = [sys.executable, __file__, "peak-memory-images", str(path), str(n)]
        peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    X = _bytes(2048)
    seconds = interleaved({"score": lambda: detector.score_samples(X)}, rounds=3)["score"].median()
    with MultiplyAdds() as counted, torch.no_grad():
        detector.module_.energy(torch.rand(64, 784))
    save(
        "conv_score",
        [
            {
                "images": n,
                "us an image": 1e6 * seconds / len(X),
                "1e9 multiply-adds/s": counted.total / 64 * len(X) / seconds / 1e9,
                "peak MB above the input": peak,
            }
        ],
    )


def _bytes(n: int) -> NDArray:
    return np.random.RandomState(0).randint(0, 256, (n, 1, 28, 28), dtype=np.uint8)


@app.command(hidden=True)
def peak_memory_images(path: Path, n: int) -> None:
    """Print by how many MB the resident memory grows while a saved detector scores (Linux)."""
    detector, X = MPDR.load(path), _bytes(n)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    detector.score_samples(X)
    typer.echo(json.dumps(round((_status("VmHWM") - before) / 1024, 1)))


@app.command()
def report() -> None:
    """Write the tables anew from the stored rows."""
    _report()


def _fit_note(rows: pd.DataFrame) -> str:
    return (
        f"{len(rows)} sets: median ratio {rows['ratio'].median():.2f}, longest fit of MPDR "
        f"{rows['MPDR (s)'].max():.1f} s. Training part of the `clean` protocol, seed 1."
    )


def _report() -> None:
    write_report(
        _TITLES,
        {"fit": _fit_note, "detectors": lambda _: "Fit and score on 5,000 rows of 21 columns."},
    )


@app.callback()
def one_thread() -> None:
    """Measure what code costs: one thread."""
    torch.set_num_threads(1)


if __name__ == "__main__":
    app()
