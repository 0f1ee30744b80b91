"""Energies that begin at a kernel estimate and learn the rest: trials, no part of the package."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from skgenad import MPDR
from skgenad._tensors.kernels import (
    Copies,
    kernel_mean,
    squared_distances,
    weights_of,
)
from skgenad._tensors.maps import MLP, frozen
from skgenad._tensors.seeds import seeded
from skgenad.energies import Chain
from skgenad.neighbors.kernel_denoiser import KernelDenoiser

_CHUNK = 512


# ---- B: MPDR whose energy starts at the kernel denoiser's residual --------------------------------


class KernelResidualEnergy(nn.Module):
    """|x - NW_h(x) + rho u(x) / (1 + |u(x)|)|^2 / unit, u being 0 at the start.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Rows that NW_h is the mean of; one that equals a row counts nothing for it.
    width : float
        h.
    rho : float
        The longest shift that is learned.
    unit : float
        What squared lengths are divided by.
    hidden : tuple of int
        Widths of u's hidden layers.
    """

    anchors: Tensor

    def __init__(
        self, anchors: Tensor, width: float, rho: float, unit: float, hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.width, self.rho, self.unit = width, rho, unit
        self.register_buffer("anchors", anchors)
        self.copies = Copies(anchors)
        d = anchors.shape[1]
        self.net = MLP([d, *hidden, d])
        nn.init.zeros_(self.net.layers[-1].weight)
        nn.init.zeros_(self.net.layers[-1].bias)

    def _weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (n, m), which sum up to 1, and anchors, in float64 where rows are scored."""
        dtype = torch.float32 if self.net.training else torch.float64
        anchors = self.anchors.to(dtype)
        exponents = squared_distances(x.to(dtype), anchors) / (-2 * self.width**2)
        at = self.copies.places(x.detach())
        itself = torch.nonzero(at >= 0).squeeze(1)
        exponents[itself, at[itself]] = -math.inf
        return exponents.softmax(dim=1), anchors

    def _shift(self, u: Tensor) -> Tensor:
        return self.rho * u / (1 + u.norm(dim=1, keepdim=True))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        weights, anchors = self._weights(x)
        residual = (x - weights @ anchors).to(x.dtype)
        return (residual + self._shift(self.net(x))).square().sum(dim=1) / self.unit

    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient, (I - J_NW + rho J_u)^T of twice the shifted residual."""
        with torch.no_grad():
            weights, anchors = self._weights(x)
            mean = weights @ anchors
            u, pullback = self.net.value_and_pullback(x)
            length = u.norm(dim=1, keepdim=True)
            total = x - mean.to(x.dtype) + self._shift(u)
            v = total * (2 / self.unit)
            wide = v.to(anchors.dtype)
            along = weights * (wide @ anchors.T)  # J_NW = Cov_w(anchors) / h^2
            on_mean = along @ anchors - mean * along.sum(dim=1, keepdim=True)
            inner = (v * u).sum(dim=1, keepdim=True) / (length.clamp_min(1e-12) * (1 + length) ** 2)
            on_u = self.rho * (v / (1 + length) - u * inner)
            gradient = v - (on_mean / self.width**2).to(x.dtype) + pullback(on_u)
            return total.square().sum(dim=1) / self.unit, gradient


def kernel_of(X: NDArray, seed: int) -> tuple[Tensor, float, float]:
    """Anchors, the width h, and the mean squared residual of anchors left out."""
    detector = KernelDenoiser(factors=(1.0,), standardize=False, random_state=seed).fit(X)
    model = detector.module_
    anchors = model.anchors.rows
    with torch.no_grad():
        squares = torch.cat([model._errors(x) for x in anchors.split(_CHUNK)])
    return anchors, float(model.width), float(squares.mean())


def kernel_mpdr(
    X: NDArray,
    seed: int,
    *,
    rho: float = 1.0,
    scaled: bool = False,
    penalty: float = 1.0,
    noise: float = 1.0,
    hidden: tuple[int, ...] = (128, 128),
    **parameters: Any,
) -> MPDR:
    """MPDR on a kernel's residual, fitted.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Training rows in standard units.
    seed : int
        Seed.
    rho : float
        Longest shift in h.
    scaled : bool
        Whether energies are in units of the mean squared residual of the training rows, and the
        chain's step and noise, too.
    penalty : float
        Weight of squared energies of negatives.
    noise : float
        With `scaled`, noise of the chain in roots of that mean square a column.
    hidden : tuple of int
        Widths of hidden layers.
    **parameters
        Of MPDR.
    """
    anchors, width, square = kernel_of(X, seed)
    d = X.shape[1]
    square = max(square, 1e-8)
    unit = square if scaled else float(d)
    if scaled:
        chain = Chain(5, step_size=0.1 * unit, noise=noise * math.sqrt(square / d))
        parameters = {"visible_chain": chain, **parameters}
    return MPDR(
        energy=lambda n: KernelResidualEnergy(anchors, width, rho * width, unit, hidden),
        score_type="energy",
        energy_penalty=penalty,
        standardize=False,
        random_state=seed,
        **parameters,
    ).fit(X)


# ---- C: noise-contrastive estimation on a density that is known ------------------------------------


class KernelNoise:
    """A kernel density over anchors.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Rows.
    widths : list of float
        Of the kernels, which are means of Gaussians of these widths; without any the likeliest
        for anchors left out.
    """

    def __init__(self, anchors: Tensor, widths: list[float]) -> None:
        self.anchors = anchors.double()
        self.copies = Copies(anchors)
        self.widths = torch.tensor(widths or [self._likeliest_width()], dtype=torch.float64)

    def _likeliest_width(self) -> float:
        anchors = self.anchors
        squares = squared_distances(self.anchors, self.anchors).fill_diagonal_(math.inf)
        nearest = squares.amin(dim=1).sqrt()
        high = (self.anchors - self.anchors.mean(dim=0)).square().sum(dim=1).mean().sqrt()
        nearest = nearest[nearest > 1e-6 * high]
        if not len(nearest):
            nearest = high[None]
        low = 0.5 * nearest.quantile(0.1) / math.sqrt(anchors.shape[1])
        grid = low * (high / low) ** torch.linspace(0, 1, 15, dtype=low.dtype)
        likelihoods = [
            (torch.logsumexp(squares / (-2 * h * h), dim=1) - anchors.shape[1] * h.log()).mean()
            for h in grid
        ]
        return float(grid[int(torch.stack(likelihoods).argmax())])

    def sample(self, n: int) -> Tensor:
        """Rows (n, d)."""
        chosen = self.anchors[torch.randint(len(self.anchors), (n,))]
        widths = self.widths[torch.randint(len(self.widths), (n, 1))]
        return (chosen + widths * torch.randn_like(chosen)).float()

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n,); an anchor that equals a row counts nothing for it."""
        return torch.cat([self._log_density(rows) for rows in x.split(_CHUNK)])

    def _log_density(self, x: Tensor) -> Tensor:
        m, d = self.anchors.shape
        squares = squared_distances(x.double(), self.anchors)
        at = self.copies.places(x)
        left_out = torch.nonzero(at >= 0).squeeze(1)
        squares[left_out, at[left_out]] = math.inf
        parts = [
            torch.logsumexp(squares / (-2 * h * h), dim=1)
            - d * (h.log() + 0.5 * math.log(2 * math.pi))
            for h in self.widths
        ]
        count = (m - (at >= 0).double()) * len(parts)
        return torch.logsumexp(torch.stack(parts), dim=0) - count.log()


class MixtureNoise:
    """A Gaussian mixture, fitted to one half of the rows so that the other half is fresh to it.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Rows it is fitted to.
    seed : int
        Seed.
    """

    def __init__(self, rows: Tensor, seed: int, n_components: int = 6) -> None:
        n_components = max(1, min(n_components, len(rows) // 20))
        self.mixture = GaussianMixture(n_components, reg_covar=0.01, random_state=seed)
        self.mixture.fit(rows.double().numpy())

    def sample(self, n: int) -> Tensor:
        """Rows (n, d)."""
        return torch.from_numpy(self.mixture.sample(n)[0]).float()

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d)."""
        return torch.from_numpy(self.mixture.score_samples(x.double().numpy()))


class NeighbourFeatures:
    """Log distances to anchors, log residuals of the kernel mean, log densities, and the row.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Rows; one that equals a row counts nothing for it.
    width : float
        h of the residuals, which are those at h / 2, h and 2 h.
    """

    def __init__(self, anchors: Tensor, width: float, with_row: bool = True) -> None:
        self.anchors, self.width, self.with_row = anchors.double(), width, with_row
        self.copies = Copies(anchors)
        self.floor = 1e-3 * width

    def __call__(self, x: Tensor) -> Tensor:
        """Features (n, 9 + d) of rows (n, d)."""
        return torch.cat([self._of(rows) for rows in x.split(_CHUNK)]).float()

    def _of(self, x: Tensor) -> Tensor:
        rows, anchors = x.double(), self.anchors
        squares = squared_distances(rows, anchors)
        at = self.copies.places(x)
        itself = torch.nonzero(at >= 0).squeeze(1)
        squares[itself, at[itself]] = math.inf
        k = min(25, len(anchors) - 1)
        near = squares.topk(k, largest=False).values.sqrt()
        found = [near[:, 0], near[:, : min(5, k)].mean(dim=1), near.mean(dim=1), near[:, -1]]
        densities = []
        for factor in (0.5, 1.0, 2.0):
            exponents = squares / (-2 * (factor * self.width) ** 2)
            densities.append(torch.logsumexp(exponents, dim=1))
            found.append((rows - kernel_mean(weights_of(exponents), anchors)).norm(dim=1))
        logs = [(one + self.floor).log() for one in found]
        columns = [torch.stack([*logs, *(-(1 - d).clamp_min(1).log() for d in densities)], dim=1)]
        return torch.cat([*columns, rows] if self.with_row else columns, dim=1)


class Contrast:
    """log p_n(x) + T(features of x), T kept where it tells held-out rows from noise.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Training rows in standard units.
    seed : int
        Seed.
    noise : {"kernel", "mixture"}
        p_n.
    factors : tuple of float
        Widths of its kernels in h of the kernel denoiser; () is the likeliest one.
    with_row : bool
        Whether T sees the row itself, too.
    ratio : int
        Draws of noise for each row.
    steps : int
        Gradient steps.
    decay : float
        AdamW's weight decay.
    """

    def __init__(
        self,
        X: NDArray,
        seed: int,
        *,
        noise: str = "kernel",
        factors: tuple[float, ...] = (),
        with_row: bool = True,
        ratio: int = 4,
        steps: int = 600,
        decay: float = 0.01,
        hidden: tuple[int, ...] = (64, 64),
    ) -> None:
        self.ratio = ratio
        rows = torch.as_tensor(X, dtype=torch.float32)
        anchors, width, _ = kernel_of(X, seed)
        with seeded(seed, torch.device("cpu")):
            order = torch.randperm(len(rows))
            if noise == "mixture":
                half = len(rows) // 2
                self.noise: Any = MixtureNoise(rows[order[:half]], seed)
                order = order[half:]
            else:
                self.noise = KernelNoise(anchors, [factor * width for factor in factors])
            self.features = NeighbourFeatures(anchors, width, with_row)
            self._train(rows[order], steps, decay, hidden)

    def _train(self, rows: Tensor, steps: int, decay: float, hidden: tuple[int, ...]) -> None:
        n_held = max(2, len(rows) // 4)
        data = self.features(rows)
        false = self.features(self.noise.sample(self.ratio * len(rows)))
        self.centre, self.scale = data.mean(dim=0), data.std(dim=0).clamp_min(1e-6)
        both = torch.cat([data, false])
        self.low, self.high = both.amin(dim=0), both.amax(dim=0)
        data, false = self._units(data), self._units(false)
        held, held_false = data[:n_held], false[: self.ratio * n_held]
        data, false = data[n_held:], false[self.ratio * n_held :]
        self.net = MLP([data.shape[1], *hidden, 1], activation="silu")
        nn.init.zeros_(self.net.layers[-1].weight)
        nn.init.zeros_(self.net.layers[-1].bias)
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=2e-3, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best, kept = self._gain(held, held_false), None
        best_mean = best[0]
        for step in range(steps):
            x = data[torch.randint(len(data), (128,))]
            v = false[torch.randint(len(false), (128 * self.ratio,))]
            true_loss, false_loss = self._losses(x, v)
            loss = true_loss.mean() + self.ratio * false_loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 50 == 49:
                now = self._gain(held, held_false)
                if now[0] > best_mean:
                    best_mean, best = now[0], now
                    kept = {k: t.clone() for k, t in self.net.state_dict().items()}
        if kept is not None:
            self.net.load_state_dict(kept)
        self.gain, self.error = best
        self.net.eval()

    def _units(self, features: Tensor) -> Tensor:
        """Features in the range of training, standardised."""
        return (features.clamp(self.low, self.high) - self.centre) / self.scale

    def _losses(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of rows and of noise: minus the log probabilities of what they are."""
        prior = math.log(self.ratio)
        true, false = self.net(torch.cat([x, v])).squeeze(1).split([len(x), len(v)])
        return F.softplus(prior - true), F.softplus(false - prior)

    @torch.no_grad()
    def _gain(self, x: Tensor, v: Tensor) -> tuple[float, float]:
        """How far the loss is below that of T = 0, for one row with its noise; standard error."""
        prior = math.log(self.ratio)
        true, false = self._losses(x, v)
        true = F.softplus(torch.tensor(prior)) - true
        false = self.ratio * (F.softplus(torch.tensor(-prior)) - false)
        error = math.sqrt(true.var() / len(true) + false.var() / len(false))
        return float(true.mean() + false.mean()), error

    @property
    def is_kept(self) -> bool:
        """Whether the logit is part of the score."""
        return self.gain > self.error

    @torch.no_grad()
    def energies(self, X: NDArray) -> dict[str, NDArray]:
        """Energies (n,): of p_n alone, with T where it is kept, and with T always."""
        rows = torch.as_tensor(X, dtype=torch.float32)
        base = -self.noise.log_density(rows)
        logit = self.net(self._units(self.features(rows))).squeeze(1).double()
        return {
            "base": base.numpy(),
            "gated": (base - logit if self.is_kept else base).numpy(),
            "full": (base - logit).numpy(),
        }


def autograd_agrees(energy: KernelResidualEnergy, x: Tensor) -> bool:
    """Whether the gradient in closed form is the one of autograd."""
    with torch.enable_grad(), frozen(energy):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy.energy(x).sum(), x)
    return bool(np.allclose(gradient, energy.energy_and_grad(x.detach())[1], atol=1e-5))
