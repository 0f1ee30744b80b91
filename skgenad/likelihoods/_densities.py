"""Densities of tables and of images, made of flows, as modules with ``energy(x)``.

A flow (of :mod:`skgenad.likelihoods._flows`, or anything with the same methods) maps rows to
``contributions(x)`` (n, n_scales), whose sum is the log density, draws with ``sample(n)``, and sets
what depends on data with ``initialize(x)``. Between it and a detector stand the columns that do not
vary and the levels of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skgenad._tensors.chunks import chunks_of
from skgenad._tensors.device import precise
from skgenad._tensors.seeds import seeded

# Standard deviation, in standardised units, that a column which was constant in training counts
# with in energies: any other value, a distance of 1, is far out of the ordinary.
_CONSTANT_DEVIATION = 0.01
# Images of a pass of `sample`.
_SAMPLE_CHUNK = 256


def _some(rows: Tensor) -> Tensor:
    """As many random rows as a pass that needs no gradient takes."""
    chosen = torch.randperm(len(rows), device=rows.device)[: len(chunks_of(rows)[0])]
    return rows[chosen]


class FlowDensity(nn.Module):
    """A density of rows (n, d) in standardised units that is made of a flow.

    Parameters
    ----------
    scale : int or None
        The scale whose contribution is minus the energy, from 0; None: the sum of all.
    """

    def __init__(self, scale: int | None) -> None:
        super().__init__()
        self.scale = scale

    def initialize(self, rows: Tensor) -> None:
        """Set what depends on data from training rows."""
        raise NotImplementedError

    def contributions(self, x: Tensor) -> Tensor:
        """Contributions of the scales, in nats, (n, n_scales)."""
        raise NotImplementedError

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows."""
        raise NotImplementedError

    def class_log_probs(self, x: Tensor) -> Tensor:
        """Log densities under the mode of each class, in nats, (n, n_classes), if there are any."""
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        """Log densities (n,), in nats."""
        return self.contributions(x).sum(dim=1)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,), in nats: minus the log density or the contribution of a scale."""
        parts = self.contributions(x)
        return -(parts.sum(dim=1) if self.scale is None else parts[:, self.scale])


class ColumnDensity(FlowDensity):
    """Density of the columns that vary in training; the others have none.

    Parameters
    ----------
    make : callable
        Makes the flow of so many columns; a function that can be pickled.
    n_features : int
        Number of columns d.
    scale : int or None
        See :class:`FlowDensity`.
    """

    varies: Tensor
    constants: Tensor

    def __init__(self, make: Callable[[int], Any], n_features: int, scale: int | None) -> None:
        super().__init__(scale)
        self.make, self.flow, self.n_varying = make, None, n_features
        self.register_buffer("varies", torch.ones(n_features, dtype=torch.bool))
        self.register_buffer("constants", torch.zeros(n_features))

    @torch.no_grad()
    def initialize(self, rows: Tensor) -> None:
        """Find the columns that vary, and make the flow of them."""
        self.constants.copy_(rows[0])
        self._build(rows.amax(dim=0) > rows.amin(dim=0))
        if self.flow is not None:
            self.flow.initialize(self._varying(_some(rows)))

    def _build(self, varies: Tensor) -> None:
        self.varies.copy_(varies)
        self.n_varying = n = int(varies.sum())
        self.flow = self.make(n).to(self.varies.device) if n else None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Make the flow that the weights of a file belong to before they are loaded."""
        varies = state_dict.get(f"{prefix}varies")
        if varies is not None and varies.shape == self.varies.shape:
            with seeded(0):  # the first weights are random, though none of them stays
                self._build(varies)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _varying(self, x: Tensor) -> Tensor:
        """Columns (n, d') that vary."""
        # By a number kept on the host: looking at the mask would hold up a GPU in each step.
        return x if self.n_varying == x.shape[1] else x[:, self.varies].contiguous()

    def contributions(self, x: Tensor) -> Tensor:
        """Contributions of the scales, in nats, (n, n_scales)."""
        if self.flow is None:
            return x.new_zeros(len(x), 1)
        return self.flow.contributions(self._varying(x))

    def class_log_probs(self, x: Tensor) -> Tensor:
        """Log densities under the mode of each class, in nats, (n, n_classes)."""
        if self.flow is None:
            return x.new_zeros(len(x), 1)
        return self.flow.class_log_probs(self._varying(x))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,), in nats, and what leaving a constant costs."""
        departure = precise((x - self.constants) * ~self.varies) / _CONSTANT_DEVIATION
        return super().energy(x) + 0.5 * departure.square().sum(dim=1)

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows; constant columns stay constant."""
        rows = self.constants.repeat(n, 1)
        if self.flow is not None:
            rows[:, self.varies] = self.flow.sample(n)
        return rows


class PixelDensity(FlowDensity):
    """Density of images whose pixels in [0, 1] stand for one of some number of levels.

    A flow of the levels alone could make its density arbitrarily high. Level k of L becomes
    (k + u) / L - 1/2 with uniform noise u in [0, 1): the mean log density of that is a lower bound
    of the levels' log probability (Theis et al., 2016). In evaluation u is its mean, 1/2 (S4.5).

    Parameters
    ----------
    flow : nn.Module
        Flow of rows (n, d).
    n_features : int
        Number of pixels times channels, d.
    n_levels : int
        Number of levels L.
    scale : int or None
        See :class:`FlowDensity`.
    """

    def __init__(self, flow: Any, n_features: int, n_levels: int, scale: int | None) -> None:
        super().__init__(scale)
        self.flow, self.n_features, self.n_levels = flow, n_features, n_levels

    def dequantized(self, x: Tensor) -> Tensor:
        """Rows (n, d) in [-1/2, 1/2) of pixels in [0, 1]."""
        u = torch.rand_like(x) if self.training else 0.5
        return ((self.n_levels - 1) * x + u) / self.n_levels - 0.5

    def initialize(self, rows: Tensor) -> None:
        """Set what depends on data from training rows."""
        self.flow.initialize(self.dequantized(_some(rows)))

    def contributions(self, x: Tensor) -> Tensor:
        """Contributions of the scales, in nats, (n, n_scales), in units of pixels in [0, 1]."""
        first, *rest = self.flow.contributions(self.dequantized(x)).unbind(dim=1)
        # The change of units is a part of the first scale's map.
        return torch.stack([first + self._log_det, *rest], dim=1)

    def class_log_probs(self, x: Tensor) -> Tensor:
        """Log densities under the mode of each class, in nats, (n, n_classes)."""
        return self.flow.class_log_probs(self.dequantized(x)) + self._log_det

    @property
    def _log_det(self) -> float:
        """What the change of units from pixels in [0, 1] to the flow's adds."""
        return self.n_features * math.log((self.n_levels - 1) / self.n_levels)

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows; every pixel is at one of its levels."""
        sizes = [min(_SAMPLE_CHUNK, n - start) for start in range(0, n, _SAMPLE_CHUNK)]
        return self._at_levels(torch.cat([self.flow.sample(size) for size in sizes]))

    def mixed(self, early: Tensor, late: Tensor, n_late: int) -> Tensor:
        """Rows (n, d) with the codes of `late` (n, d) at the last scales, of `early` elsewhere."""
        return self._at_levels(
            self.flow.mixed(self.dequantized(early), self.dequantized(late), n_late)
        )

    def _at_levels(self, rows: Tensor) -> Tensor:
        """Pixels in [0, 1] at the levels whose cells hold rows (n, d) of the flow."""
        levels = ((rows + 0.5) * self.n_levels).floor().clamp(0, self.n_levels - 1)
        return levels / (self.n_levels - 1)
