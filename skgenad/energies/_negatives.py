"""What modules share that learn an energy from negatives: the data's range, latest negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._energies import energy_and_grad
from ._langevin import Bound, Langevin, ReplayBuffer, tempered

# Mean energies of negatives beyond so many mean squares of the data mean that a chain ran away.
_DIVERGENCE = 10.0
# Negatives that are kept for plots.
_KEPT = 1000
# Noise of visible chains unless asked otherwise, for tables in standard units and for pixels.
_TABLE_NOISE = 0.3
_PIXEL_NOISE = 0.005
# Factor on the gradient for pixels: that of IGEBM, NAE and MPDR.
PIXEL_STEP = 10.0


def visible_noise_of(detector: Any) -> float:
    """Noise of the visible chains of a detector with the parameter `visible_noise`."""
    if not isinstance(detector.visible_noise, str):
        return detector.visible_noise
    return _TABLE_NOISE if detector.image_shape is None else _PIXEL_NOISE


class NegativesModule(nn.Module):
    """An energy, the range of the training rows and the latest negatives.

    Parameters
    ----------
    base : nn.Module
        The energy E that is trained.
    n_features : int
        Number of columns.
    pixels : bool, default=False
        Whether columns are pixels: their range is [0, 1], whatever the rows are.
    """

    low: Tensor
    high: Tensor
    mean_square: Tensor
    tempering: Tensor

    def __init__(self, base: nn.Module, n_features: int, pixels: bool = False) -> None:
        super().__init__()
        self.base: Any = base
        self.pixels = pixels
        self.register_buffer("low", torch.full((n_features,), -torch.inf))
        self.register_buffer("high", torch.full((n_features,), torch.inf))
        self.register_buffer("mean_square", torch.ones(()))
        self.register_buffer("tempering", torch.ones(()))
        self.latest = ReplayBuffer(_KEPT, 0.0, n_features)

    def set_range(self, rows: Tensor) -> None:
        """Take the range and the mean square of the training rows (n, d)."""
        self.low.copy_(torch.zeros(()) if self.pixels else rows.min(dim=0).values)
        self.high.copy_(torch.ones(()) if self.pixels else rows.max(dim=0).values)
        self.mean_square.copy_(rows.square().mean())

    def set_tempering(self, visible: Langevin) -> None:
        """Take the factor on the temperature of the density that visible chains have for a limit.

        For small steps x <- x - s grad E + noise that is exp(-E / T) with T = noise^2 / (2 s). A
        chain without noise or step has no limit; Metropolis-Hastings makes it exp(-E).
        """
        if not visible.metropolis and visible.step_size > 0 and visible.noise > 0:
            self.tempering.fill_(visible.noise**2 / (2 * visible.step_size))

    def bounds(self, bounds: str | tuple[float, float] | None) -> tuple[Bound, Bound] | None:
        """Bounds of visible chains: "data" is the range of each column, 1 wider on either side.

        That of pixels is [0, 1].
        """
        if not isinstance(bounds, str):
            return bounds
        return (0.0, 1.0) if self.pixels else (self.low - 1, self.high + 1)

    def energy_limit(self) -> float:
        """Level of the negatives' mean energy that means divergence."""
        return _DIVERGENCE * max(1.0, float(self.mean_square))

    def uniform_rows(self, n: int) -> Tensor:
        """Rows (n, d) drawn uniformly within the range of the training rows."""
        share = torch.rand(n, len(self.low), device=self.low.device, dtype=self.low.dtype)
        return torch.lerp(self.low, self.high, share)

    def visible_starts(self, x: Tensor, replayed: ReplayBuffer | None) -> Tensor:
        """First states (n, d) of visible chains for a batch of rows (n, d).

        The batch itself (contrastive divergence) or, with a buffer, replayed rows and uniform
        ones (persistent chains).
        """
        return x if replayed is None else replayed.draw(self.uniform_rows(len(x)))

    @property
    def temperature(self) -> Tensor | float:
        """Temperature T of the density exp(-E / T)."""
        return 1.0

    def visible_chain(self, x: Tensor, visible: Langevin) -> Tensor:
        """Rows (n, d) after a chain on E(x) / T from `x`."""
        return visible.run(tempered(lambda x: energy_and_grad(self.base, x), self.temperature), x).x

    def visible_negatives(
        self, start: Tensor, visible: Langevin, replayed: ReplayBuffer | None = None
    ) -> Tensor:
        """Run chains on E(x) / T from `start`; keep their ends (n, d), in `replayed` as well."""
        end = self.visible_chain(start, visible)
        if replayed is not None:
            replayed.push(end)
        self.latest.push(end)
        return end
