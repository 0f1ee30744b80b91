"""One MPDR-R training step, beside a plain one and with every trick left out alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from _measure import gemm_rate, interleaved
from _plain_mpdr import PlainMPDR, Settings
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from skgenad import MPDR
from skgenad._core.batches import RowBatches
from skgenad._core.loop import Stage
from skgenad._core.training import run_stage
from skgenad._tensors.maps import frozen
from skgenad.energies import Chain
from skgenad.energies._energies import contrastive_loss
from skgenad.energies._recovery import RecoveryEnergy


class Ours:
    """The package's own training step: module, stage and chains of ``MPDR`` on random rows.

    The perturbation term is on, unlike in the defaults, since the paper's step has it. The learning
    rate is small, since hundreds of steps are run with it.
    """

    def __init__(self, rows: Tensor, width: int, gamma: float = 1e-4, **parameters: Any) -> None:
        self.rows, self.width = rows, width
        chains = {f"{name}_chain": Chain(gamma=gamma) for name in ("latent", "visible")}
        settings = {"learning_rate": 1e-4, "random_state": 0} | parameters
        self.detector = MPDR(network=(width, width), **chains, **settings)
        self.module = self.detector._make_module(rows.shape[1])
        self.module.prepare(rows, None)
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
        return self.module.negatives(x)

    def conditional(self, x: Tensor) -> RecoveryEnergy:
        """Return the energy that the chains of a batch go down."""
        with torch.no_grad():
            return self.module.perturb(0, x)


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


def step_rows(width: int, n_steps: int, rounds: int) -> list[dict[str, Any]]:
    """Time the step beside the plain one, and against a matrix product's rate."""
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


def trick_rows(width: int, n_steps: int, rounds: int) -> list[dict[str, Any]]:
    """Time every trick: with it, and without it in one way or several."""
    torch.manual_seed(0)
    X = torch.randn(2000, 21)
    ours = Ours(X, width)
    x = X[: ours.detector.batch_size].clone()
    results = []
    for name, cases in _tricks(ours, X, x, n_steps).items():
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


def _tricks(ours: Ours, X: Tensor, x: Tensor, n_steps: int) -> dict[str, dict[str, Callable]]:
    """Name the tricks, and make what is to be timed of each; `x` is a batch of the rows `X`."""
    no_gamma = Ours(X, ours.width, gamma=0.0)
    target = ours.conditional(x)
    return {
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


def _gradients(ours: Ours, target: RecoveryEnergy, x: Tensor) -> dict[str, Callable]:
    """Take the gradient of one visible step in closed form and by autograd in three ways."""
    module, gamma = ours.module, ours.module.settings.visible_gamma

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
