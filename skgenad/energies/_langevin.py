"""Langevin chains in Euclidean space and on the sphere, and the replay buffer that keeps them.

A step is ``x <- x - step_size * dE/dx + noise * eps``, with step size and noise as two independent
numbers, as the papers of energy-based detectors use it. With ``noise = sqrt(2 * step_size)`` the
chain targets exp(-E) in the limit of small steps; with ``metropolis=True`` it targets exp(-E)
exactly, whatever the two numbers are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.maps import tangent

EnergyAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]
Bounds = tuple[float | Tensor, float | Tensor]


def tempered(energy_and_grad: EnergyAndGrad, temperature: Tensor | float) -> EnergyAndGrad:
    """Divide an energy and its gradient by a temperature."""
    if isinstance(temperature, float) and temperature == 1:
        return energy_and_grad

    def divided(x: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = energy_and_grad(x)
        return energy / temperature, gradient / temperature

    return divided


class ChainResult(NamedTuple):
    """Where a chain ended.

    Attributes
    ----------
    x : Tensor of shape (n, d)
        Last states.
    acceptance : Tensor of shape ()
        Share of accepted proposals; 1 without Metropolis-Hastings.
    """

    x: Tensor
    acceptance: Tensor


@dataclass(frozen=True)
class Langevin:
    """Parameters of a chain; :meth:`run` runs it.

    Parameters
    ----------
    n_steps : int
        Number of steps; each costs one gradient (Metropolis-Hastings: one more in all).
    step_size : float
        Factor on the gradient.
    noise : float
        Standard deviation of the Gaussian added in each step.
    sphere : bool, default=False
        States lie on the unit sphere: the step is tangent to it and the point is
        renormalised after it.
    clip : float, optional
        Each component of the gradient is clamped to [-clip, clip].
    normalize : bool, default=False
        Whether each row's gradient is divided by its Euclidean norm.
    anneal : bool, default=False
        Whether step t (from 0) adds noise ``noise / (1 + t)``.
    metropolis : bool, default=False
        Whether proposals are accepted or rejected by Metropolis-Hastings.
    first : int, default=0
        Number of the first step, for the second half of an annealed chain.

    Raises
    ------
    ValueError
        If Metropolis-Hastings is combined with anything that makes its proposal density
        another than the Gaussian it assumes, or has no noise.
    """

    n_steps: int
    step_size: float
    noise: float
    sphere: bool = False
    clip: float | None = None
    normalize: bool = False
    anneal: bool = False
    metropolis: bool = False
    first: int = 0

    def __post_init__(self) -> None:
        if not self.metropolis:
            return
        changed = {
            "clip": self.clip is not None,
            "normalize": self.normalize,
            "sphere": self.sphere,
        }
        names = [name for name, used in changed.items() if used]
        if names:
            raise ValueError(
                f"metropolis=True cannot be combined with {', '.join(names)}: the acceptance rule "
                "assumes plain Gaussian proposals. Switch one of them off."
            )
        if not self.noise > 0:
            raise ValueError(f"metropolis=True needs noise > 0, got noise={self.noise!r}.")

    @property
    def temperature(self) -> float:
        """Temperature T of the density exp(-E / T) that the chain has for a limit.

        For small steps x <- x - s grad E + noise that is noise^2 / (2 s); Metropolis-Hastings makes
        it 1. A chain without noise or step has no limit, which counts as 1, too.
        """
        if self.metropolis or self.step_size == 0 or self.noise == 0:
            return 1.0
        return self.noise**2 / (2 * self.step_size)

    def halves(self) -> tuple[Langevin, Langevin]:
        """Two chains that do, one after the other, what this one does."""
        half = self.n_steps // 2
        rest = replace(self, n_steps=self.n_steps - half, first=self.first + half)
        return replace(self, n_steps=half), rest

    @torch.no_grad()
    def run(
        self, energy_and_grad: EnergyAndGrad, x: Tensor, bounds: Bounds | None = None
    ) -> ChainResult:
        """Run the chain from `x` (n, d).

        Parameters
        ----------
        energy_and_grad : callable
            Maps (n, d) states to energies (n,) and gradients (n, d).
        x : Tensor of shape (n, d)
            First states; not changed.
        bounds : pair of float or Tensor, optional
            States are clamped between the two after each step. With Metropolis-Hastings only the
            first states are; proposals beyond are rejected, so that the chain targets exp(-E)
            between the two.
        """
        if self.metropolis:
            return self._run_metropolis(energy_and_grad, x, bounds)
        for t in range(self.n_steps):
            gradient = self._drift(energy_and_grad(x)[1], x)
            x = torch.add(x, gradient, alpha=-self.step_size)
            noise = self._noise_at(t)
            if noise > 0:
                x.add_(draws.randn_like(x), alpha=noise)
            x = _clamped(F.normalize(x, dim=1) if self.sphere else x, bounds)
        return ChainResult(x, torch.ones((), device=x.device))

    def _noise_at(self, t: int) -> float:
        return self.noise / (1 + self.first + t) if self.anneal else self.noise

    def _drift(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Gradient after projection, normalisation and clipping, in this order."""
        if self.sphere:
            gradient = tangent(gradient, x)
        if self.normalize:
            gradient = F.normalize(gradient, dim=1)
        if self.clip is not None:
            gradient = gradient.clamp(-self.clip, self.clip)
        return gradient

    def _run_metropolis(
        self, energy_and_grad: EnergyAndGrad, x: Tensor, bounds: Bounds | None
    ) -> ChainResult:
        x = _clamped(x, bounds)
        if self.n_steps == 0:
            return ChainResult(x, torch.ones((), device=x.device))
        energy, gradient = energy_and_grad(x)
        accepted = torch.zeros((), device=x.device)
        for t in range(self.n_steps):
            noise = self._noise_at(t)
            eps = draws.randn_like(x)
            new = x - self.step_size * gradient + noise * eps
            new_energy, new_gradient = energy_and_grad(new)
            # `back` and eps^2 give log q(x | new) - log q(new | x), q being the Gaussian proposal.
            back = (x - new + self.step_size * new_gradient).square().sum(dim=1) / noise**2
            log_ratio = energy - new_energy + 0.5 * (eps.square().sum(dim=1) - back)
            accept = (draws.rand_like(log_ratio).log() < log_ratio) & _inside(new, bounds)
            x = torch.where(accept[:, None], new, x)
            gradient = torch.where(accept[:, None], new_gradient, gradient)
            energy = torch.where(accept, new_energy, energy)
            accepted += accept.float().mean()
        return ChainResult(x, accepted / self.n_steps)


def _clamped(x: Tensor, bounds: Bounds | None) -> Tensor:
    return x if bounds is None else torch.clamp(x, *bounds)  # type: ignore[arg-type]


def _inside(x: Tensor, bounds: Bounds | None) -> Tensor:
    """Whether each row is within the bounds, (n,)."""
    if bounds is None:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    low, high = bounds
    return ((x >= low) & (x <= high)).all(dim=1)


class ReplayBuffer(nn.Module):
    """States in which earlier chains ended, to start later ones from.

    A module without parameters, so that it follows its owner to a device and into a pickle;
    its rows are left out of ``state_dict``.

    Parameters
    ----------
    size : int
        Number of rows kept; the oldest are overwritten.
    ratio : float
        Probability, in [0, 1], that a row of a batch comes from the buffer.
    n_columns : int
        Length of a row.
    """

    rows: Tensor
    _next: Tensor

    def __init__(self, size: int, ratio: float, n_columns: int) -> None:
        super().__init__()
        self.size, self.ratio = size, ratio
        self.register_buffer("rows", torch.empty(0, n_columns), persistent=False)
        # The place of the oldest row is a buffer, so that it is restored together with the rows.
        self.register_buffer("_next", torch.zeros((), dtype=torch.long), persistent=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_full(self) -> bool:
        """Whether it grows no more."""
        return len(self.rows) == self.size

    def draw(self, fresh: Tensor) -> Tensor:
        """Replace each row of `fresh` (n, n_columns), with probability `ratio`, by a kept one.

        Kept rows are drawn at random, but for a full buffer of exactly n rows: there the i-th
        goes on as the i-th, so that no chain is continued twice.
        """
        if not len(self.rows) or self.ratio == 0:
            return fresh
        n = len(fresh)
        hit = draws.rand(n, 1, device=fresh.device) < self.ratio
        if len(self.rows) == self.size == n:
            return torch.where(hit, self.rows, fresh)
        kept = self.rows[draws.randint(len(self.rows), (n,), device=fresh.device)]
        return torch.where(hit, kept, fresh)

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Keep `rows` (n, n_columns), over the oldest ones when the buffer is full."""
        if self.size == 0:
            return
        rows = rows.detach()[-self.size :]
        room = self.size - len(self.rows)
        if room > 0:
            self.rows = torch.cat([self.rows, rows[:room]])
            rows = rows[room:]
        if len(rows):
            index = self._next + torch.arange(len(rows), device=rows.device)
            self.rows[index % self.size] = rows
            # The place changes in place: a recorded step goes on writing to the same tensor.
            self._next.add_(len(rows)).remainder_(self.size)

    @torch.no_grad()
    def take_over(self, other: ReplayBuffer) -> None:
        """Keep copies of what another buffer keeps, or of the latest rows that fit in this one.

        Rows of another length are states of other chains, which cannot go on here.
        """
        if other.rows.shape[1] != self.rows.shape[1]:
            return
        if other.size == self.size:
            self.rows, self._next = other.rows.clone(), other._next.clone()
            return
        oldest_first = other.rows.roll(-int(other._next), dims=0)
        self.rows = oldest_first[max(0, len(other) - self.size) :].clone()
        self._next = torch.zeros_like(other._next)
