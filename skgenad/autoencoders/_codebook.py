"""Vectors that latent vectors are replaced by: the nearest one, trained by moving averages."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skgenad._tensors import draws
from skgenad._tensors.maps import Map, steady_linear

# Weights in a moving average are at least this: the average of a code that no latent vector has
# come near to for thousands of steps is left where it was.
_LEAST_COUNT = 1e-6


class _StraightThrough(torch.autograd.Function):
    """The second argument, with the gradient of the first: VQ-VAE, section 3.2."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, codes: Tensor) -> Tensor:
        """Return the codes as they are: z + (codes - z) would round them."""
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Hand the gradient of the codes to `z`."""
        return gradients[0], None


class Codebook(Map):
    """Replaces each part of a latent vector by the nearest of a set of codes.

    A latent vector (n, n_parts * dim) has `n_parts` parts, and all of them share the codes. In
    training, codes follow the means of what is near them:

        N_k <- decay N_k + (1 - decay) n_k
        m_k <- decay m_k + (1 - decay) sum of the n_k parts whose nearest code is e_k
        e_k <- m_k / N_k

    (VQ-VAE, appendix A.1). Kept are N_k and e_k, with m_k = N_k e_k: a code that is near to nothing
    stays exactly where it is.

    Parameters
    ----------
    n_codes : int
        Number of codes.
    n_parts : int
        Number of parts of a latent vector.
    dim : int
        Dimension of a part and of a code.
    decay : float
        What the averages keep of themselves in a step, in [0, 1).
    """

    codes: Tensor
    counts: Tensor

    def __init__(self, n_codes: int, n_parts: int, dim: int, decay: float) -> None:
        super().__init__()
        self.n_parts, self.dim, self.decay = n_parts, dim, decay
        self.register_buffer("codes", torch.randn(n_codes, dim))
        self.register_buffer("counts", torch.ones(n_codes))

    def parts(self, z: Tensor) -> Tensor:
        """Parts (n * n_parts, dim) of latent vectors (n, n_parts * dim)."""
        return z.reshape(-1, self.dim)

    def nearest(self, z: Tensor) -> Tensor:
        """Places (n * n_parts,) of the codes nearest to the parts of `z`.

        |z - e|^2 is least where z . e - |e|^2 / 2 is largest, a product that does not depend on a
        row's place among the rows. Of codes equally near it is the first.
        """
        offset = -0.5 * self.codes.square().sum(dim=1)
        return steady_linear(self.parts(z), self.codes, offset, training=False).argmax(dim=1)

    def forward(self, z: Tensor) -> Tensor:
        """Latent vectors of codes, with the gradient of `z`; both (n, n_parts * dim)."""
        return self.at(z, self.nearest(z))

    def at(self, z: Tensor, places: Tensor) -> Tensor:
        """Latent vectors of the codes at these places, with the gradient of `z`."""
        return _StraightThrough.apply(z, self.codes[places].reshape(z.shape))

    @torch.no_grad()
    def follow(self, z: Tensor, places: Tensor) -> None:
        """Move codes towards the means of the parts of `z`, whose nearest ones are at `places`."""
        parts = self.parts(z)
        chosen = self._one_hot(places)
        n = chosen.sum(dim=0)
        counts = self.counts.lerp(n, 1 - self.decay)
        gap = chosen.T @ parts - n[:, None] * self.codes
        self.codes.add_((1 - self.decay) * gap / counts.clamp_min(_LEAST_COUNT)[:, None])
        self.counts.copy_(counts)

    def perplexity(self, places: Tensor) -> Tensor:
        """How many codes are used (): exp of the entropy of their shares in `places`."""
        shares = self._one_hot(places).mean(dim=0)
        return torch.special.entr(shares).sum().exp()

    @torch.no_grad()
    def start_at(self, z: Tensor) -> None:
        """Put codes where parts of latent vectors `z` are, all of them different ones if it can."""
        parts = self.parts(z)
        order = draws.randperm(len(parts), device=z.device)
        self.codes.copy_(parts[order.repeat(-(-len(self.codes) // len(parts)))[: len(self.codes)]])
        self.counts.fill_(1.0)

    def _one_hot(self, places: Tensor) -> Tensor:
        """Mark places (m,), in (m, n_codes), without a look at their values."""
        every = torch.arange(len(self.codes), device=places.device)
        return (places[:, None] == every).to(self.codes.dtype)
