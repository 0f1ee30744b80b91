"""Energies that begin at a kernel estimate and learn the rest: trials, no part of the package."""

from __future__ import annotations

import copy
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
from skgenad._tensors.maps import MLP
from skgenad._tensors.seeds import seeded
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.neighbors.kernel_denoiser import KernelDenoiser
from skgenad.neighbors.local_gaussian import LocalGaussianModel

_CHUNK = 512
# The most rows of data with features of neighbourhoods.
_MOST_LOCAL = 3000
# Draws of noise for each row, and gradient steps of the contrast.
_RATIO, _STEPS = 4, 600


# ---- B: MPDR whose energy starts at the kernel denoiser's residual -----------------------------


class KernelResidualEnergy(nn.Module):
    """|x - NW_h(x) + rho u(x) / (1 + |u(x)|)|^2 / d, u being 0 at the start.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Rows that NW_h is the mean of; one that equals a row counts nothing for it.
    width : float
        h.
    rho : float
        The longest shift that is learned.
    hidden : tuple of int
        Widths of u's hidden layers.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, width: float, rho: float, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.width, self.rho = width, rho
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
        return (residual + self._shift(self.net(x))).square().mean(dim=1)

    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient, (I - J_NW + rho J_u)^T of twice the shifted residual."""
        with torch.no_grad():
            weights, anchors = self._weights(x)
            mean = weights @ anchors
            u, pullback = self.net.value_and_pullback(x)
            length = u.norm(dim=1, keepdim=True)
            total = x - mean.to(x.dtype) + self._shift(u)
            v = total * (2 / total.shape[1])
            wide = v.to(anchors.dtype)
            along = weights * (wide @ anchors.T)  # J_NW = Cov_w(anchors) / h^2
            on_mean = along @ anchors - mean * along.sum(dim=1, keepdim=True)
            inner = (v * u).sum(dim=1, keepdim=True) / (length.clamp_min(1e-12) * (1 + length) ** 2)
            on_u = self.rho * (v / (1 + length) - u * inner)
            gradient = v - (on_mean / self.width**2).to(x.dtype) + pullback(on_u)
            return total.square().mean(dim=1), gradient


def kernel_of(X: NDArray, seed: int) -> tuple[Tensor, float]:
    """Anchors and the width h of the kernel denoiser."""
    detector = KernelDenoiser(factors=(1.0,), standardize=False, random_state=seed).fit(X)
    model = detector.module_
    return model.anchors.rows, float(model.width)


def kernel_mpdr(
    X: NDArray,
    seed: int,
    *,
    rho: float = 1.0,
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
    hidden : tuple of int
        Widths of hidden layers.
    **parameters
        Of MPDR.
    """
    anchors, width = kernel_of(X, seed)
    return MPDR(
        energy=lambda d: KernelResidualEnergy(anchors, width, rho * width, hidden),
        score_type="energy",
        standardize=False,
        random_state=seed,
        **{**ALL_ROWS, **parameters},
    ).fit(X)


# ---- C: noise-contrastive estimation on a density that is known ---------------------------------


class KernelNoise:
    """A kernel density over anchors.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Rows.
    widths : list of float
        Of the kernels, which are means of Gaussians of these widths.
    """

    def __init__(self, anchors: Tensor, widths: list[float]) -> None:
        self.anchors = anchors.double()
        self.copies = Copies(anchors)
        self.widths = torch.tensor(widths, dtype=torch.float64)

    def sample(self, n: int) -> Tensor:
        """Rows (n, d)."""
        chosen = self.anchors[torch.randint(len(self.anchors), (n,))]
        widths = self.widths
        if len(widths) > 1:
            widths = widths[torch.randint(len(widths), (n, 1))]
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
    """Gaussian mixtures of 1, 3 and 6 components, each with a third of the weight.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Rows they are fitted to.
    seed : int
        Seed.
    """

    def __init__(self, rows: Tensor, seed: int) -> None:
        sizes = sorted({max(1, min(k, len(rows) // 20)) for k in (1, 3, 6)})
        self.mixtures = [GaussianMixture(k, reg_covar=0.01, random_state=seed) for k in sizes]
        for mixture in self.mixtures:
            mixture.fit(rows.double().numpy())

    def sample(self, n: int) -> Tensor:
        """Rows (n, d)."""
        each = -(-n // len(self.mixtures))
        rows = np.concatenate([mixture.sample(each)[0] for mixture in self.mixtures])
        return torch.from_numpy(rows).float()[torch.randperm(len(rows))[:n]]

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d)."""
        rows = x.double().numpy()
        logs = torch.stack([torch.from_numpy(m.score_samples(rows)) for m in self.mixtures])
        return torch.logsumexp(logs, dim=0) - math.log(len(logs))


class NeighbourFeatures:
    """Log distances to anchors, log residuals of the kernel mean, log densities, and the row.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Rows; one that equals a row counts nothing for it.
    width : float
        h of the residuals, which are those at h / 2, h and 2 h.
    local : bool
        Whether a distance by the covariance of the 25 nearest rows, and the mean distance to 5 over
        the one that these 5 have themselves, are.
    """

    def __init__(self, anchors: Tensor, width: float, local: bool) -> None:
        self.anchors, self.width = anchors.double(), width
        self.copies = Copies(anchors)
        self.floor = 1e-3 * width
        self.local = None
        if local:
            self.local = LocalGaussianModel(
                anchors.shape[1], n_neighbors=25, shrinkage=0.1, max_anchors=len(anchors)
            )
            self.local.finish(anchors, None)
            squares = squared_distances(self.anchors, self.anchors).fill_diagonal_(math.inf)
            self.spacing = squares.topk(5, largest=False).values.sqrt().mean(dim=1) + self.floor

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
        near, places = squares.topk(k, largest=False)
        near = near.sqrt()
        found = [near[:, 0], near[:, : min(5, k)].mean(dim=1), near.mean(dim=1), near[:, -1]]
        densities = []
        for factor in (0.5, 1.0, 2.0):
            exponents = squares / (-2 * (factor * self.width) ** 2)
            densities.append(torch.logsumexp(exponents, dim=1))
            found.append((rows - kernel_mean(weights_of(exponents), anchors)).norm(dim=1))
        logs = [(one + self.floor).log() for one in found]
        if self.local is not None:
            logs.append((self.local.energy(x).double() + 1e-3).log())
            logs.append(logs[1] - self.spacing[places[:, :5]].mean(dim=1).log())
        columns = [torch.stack([*logs, *(-(1 - d).clamp_min(1).log() for d in densities)], dim=1)]
        return torch.cat([*columns, rows], dim=1)


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
        Widths of its kernels in h of the kernel denoiser.
    local : bool
        Whether T sees features of the neighbourhood, too.
    """

    def __init__(
        self,
        X: NDArray,
        seed: int,
        *,
        noise: str = "kernel",
        factors: tuple[float, ...] = (1.0,),
        local: bool = False,
    ) -> None:
        self.ratio = _RATIO
        rows = torch.as_tensor(X, dtype=torch.float32)
        anchors, width = kernel_of(X, seed)
        with seeded(seed, torch.device("cpu")):
            order = torch.randperm(len(rows))
            if local:
                order = order[:_MOST_LOCAL]
            if noise == "mixture":
                half = len(rows) // 2
                self.noise: Any = MixtureNoise(rows[order[:half]], seed)
                order = order[half:]
            else:
                self.noise = KernelNoise(anchors, [factor * width for factor in factors])
            self.features = NeighbourFeatures(anchors, width, local)
            self._train(rows[order])

    def _train(self, rows: Tensor) -> None:
        n_held = max(2, len(rows) // 4)
        data = self.features(rows)
        false = self.features(self.noise.sample(self.ratio * len(rows)))
        self.centre, self.scale = data.mean(dim=0), data.std(dim=0).clamp_min(1e-6)
        both = torch.cat([data, false])
        self.low, self.high = both.amin(dim=0), both.amax(dim=0)
        data, false = self._units(data), self._units(false)
        held = data[:n_held], false[: self.ratio * n_held]
        self.net = MLP([data.shape[1], 64, 64, 1], activation="silu")
        nn.init.zeros_(self.net.layers[-1].weight)
        nn.init.zeros_(self.net.layers[-1].bias)
        self._descend(data[n_held:], false[self.ratio * n_held :], held)
        self.net.eval()

    def _descend(self, data: Tensor, false: Tensor, held: tuple[Tensor, Tensor]) -> None:
        """Train T and keep its best state by the held-out loss."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        self.gain, self.error = self._gain(*held)
        best = copy.deepcopy(self.net.state_dict())
        for step in range(1, _STEPS + 1):
            x = data[torch.randint(len(data), (128,))]
            v = false[torch.randint(len(false), (128 * self.ratio,))]
            true_loss, false_loss = self._losses(x, v)
            loss = true_loss.mean() + self.ratio * false_loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 50 == 0:
                gain, error = self._gain(*held)
                if gain > self.gain:
                    self.gain, self.error = gain, error
                    best = copy.deepcopy(self.net.state_dict())
        self.net.load_state_dict(best)

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
