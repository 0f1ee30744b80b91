"""One MPDR-R training step written the plain way: what `speed.py` measures the package against.

It follows algorithm 1 of the paper line by line with what torch offers first: modules from
``nn.Sequential``, gradients by autograd through modules whose parameters are live, the energy and
its gradient evaluated where a chain ends as well (k + 1 gradients for k steps), a ``DataLoader``,
``torch.optim.Adam`` as it comes, and one pass each for data and negatives. Settings are arguments,
so that both sides share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Settings:
    """What a step depends on besides the weights."""

    n_features: int = 21
    width: int = 128
    batch_size: int = 128
    noise_range: tuple[float, float] = (0.05, 0.3)
    latent_steps: int = 1
    latent_step_size: float = 0.1
    latent_noise: float = 0.05
    visible_steps: int = 5
    visible_noise: float = 0.3
    gamma: float = 1e-4
    penalty: float = 1.0
    learning_rate: float = 1e-4

    @property
    def visible_step_size(self) -> float:
        """The relative step, 0.1 times the number of columns."""
        return 0.1 * self.n_features


class PlainAutoencoder(nn.Module):
    """Autoencoder with two hidden layers either side and a spherical latent space."""

    def __init__(self, n_features: int, latent_dim: int, width: int) -> None:
        super().__init__()
        self.encoder = _perceptron(n_features, width, latent_dim)
        self.decoder = _perceptron(latent_dim, width, n_features)

    def encode(self, x: Tensor) -> Tensor:
        """Latent vectors (n, d_z) on the unit sphere."""
        return F.normalize(self.encoder(x), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction (n, d_x)."""
        return self.decoder(self.encode(x))

    def energy(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (n,)."""
        return (x - self(x)).square().mean(dim=1)


class PlainMPDR:
    """Energy, manifold, optimiser and endless shuffled batches; :meth:`step` is what is timed.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Training rows.
    settings : Settings
        The same for both sides.
    parameter_gradients : bool, default=False
        Whether chains call ``backward()``, which fills the parameters' gradients too, instead
        of asking autograd for the states' gradient only.
    """

    def __init__(self, rows: Tensor, settings: Settings, parameter_gradients: bool = False) -> None:
        s = self.settings = settings
        self.energy_net = PlainAutoencoder(s.n_features, s.n_features, s.width)
        self.manifold = PlainAutoencoder(s.n_features, s.n_features, s.width)
        self.optimizer = torch.optim.Adam(self.energy_net.parameters(), lr=s.learning_rate)
        self.low, self.high = rows.min(dim=0).values - 1, rows.max(dim=0).values + 1
        self.parameter_gradients = parameter_gradients
        self.batches = self._endless(
            DataLoader(TensorDataset(rows), batch_size=s.batch_size, shuffle=True, drop_last=True)
        )

    @staticmethod
    def _endless(loader: DataLoader) -> Iterator[Tensor]:
        while True:
            for (batch,) in loader:
                yield batch

    def step(self) -> float:
        """Take one gradient step; return the loss."""
        x = next(self.batches)
        negatives = self._negatives(x)
        self.optimizer.zero_grad()
        energy, negative_energy = self.energy_net.energy(x), self.energy_net.energy(negatives)
        loss = energy.mean() - negative_energy.mean()
        loss = loss + self.settings.penalty * negative_energy.square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _negatives(self, x: Tensor) -> Tensor:
        s = self.settings
        low, high = s.noise_range
        sigma = low + (high - low) * torch.rand(len(x), 1)
        with torch.no_grad():
            z = self.manifold.encode(x)
            z_noisy = F.normalize(z + sigma * torch.randn_like(z), dim=1)

        def conditional(x: Tensor) -> Tensor:
            offset = (z_noisy - self.manifold.encode(x)).square().sum(dim=1)
            return self.energy_net.energy(x) + s.gamma / (2 * sigma.squeeze(1) ** 2) * offset

        z = z_noisy
        for _ in range(s.latent_steps):
            gradient = self._gradient(lambda z: conditional(self.manifold.decoder(z)), z)
            gradient = gradient - z * (z * gradient).sum(dim=1, keepdim=True)
            z = z - s.latent_step_size * gradient + s.latent_noise * torch.randn_like(z)
            z = F.normalize(z, dim=1)
        self._gradient(lambda z: conditional(self.manifold.decoder(z)), z)  # where the chain ends
        x = self.manifold.decoder(z).detach()
        for _ in range(s.visible_steps):
            gradient = self._gradient(conditional, x)
            x = x - s.visible_step_size * gradient + s.visible_noise * torch.randn_like(x)
            x = torch.clamp(x, self.low, self.high)
        self._gradient(conditional, x)  # where the chain ends
        return x

    def _gradient(self, energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        x = x.detach().requires_grad_(True)
        total = energy(x).sum()
        if self.parameter_gradients:
            total.backward()
            return x.grad
        return torch.autograd.grad(total, x)[0]


def _perceptron(n_in: int, width: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, width),
        nn.LeakyReLU(),
        nn.Linear(width, width),
        nn.LeakyReLU(),
        nn.Linear(width, n_out),
    )
