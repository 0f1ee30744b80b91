"""Tail probabilities among reference values: scores of any kind become comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .device import PreciseModule, precise

if TYPE_CHECKING:
    from jaxtyping import Float

# The most reference values that are kept; of more than these, so many quantiles.
MOST_REFERENCES = 10_000
# Energies are this large at most, so that the difference of two is finite.
MOST_ENERGY = float(torch.finfo(torch.float64).max) / 4


class Tail(PreciseModule):
    """Minus the log of the share of reference values that are at least as large as a value.

    At a reference value u the tail probability is the conformal one,

        p(u) = (1 + number of reference values >= u) / (1 + number of reference values),

    and -log p is linear between them, so that it never lies below what that would be: p-values
    stay valid, and a larger value has a larger result. Beyond the largest reference value it goes
    on with the slope 1 / (largest - median), below the smallest with 1 / (median - smallest): no
    order is lost where there is nothing to compare with.
    """

    places: Tensor
    heights: Tensor
    slopes: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("places", 1), ("heights", 1), ("slopes", 2)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    @torch.no_grad()
    def learn(self, values: Float[Tensor, " n"]) -> None:
        """Take the reference values (n,), at least 1, all finite."""
        ordered = precise(values).sort().values
        n = len(ordered)
        places, counts = torch.unique_consecutive(ordered, return_counts=True)
        at_least = (n - counts.cumsum(0) + counts).to(ordered)
        heights = -torch.log((1 + at_least) / (1 + n))
        if len(places) > MOST_REFERENCES:
            # Every height is that of its own place, so leaving some out only makes lines longer.
            kept = torch.linspace(0, len(places) - 1, MOST_REFERENCES, device=places.device)
            kept = kept.round().long().unique()
            places, heights = places[kept], heights[kept]
        median = ordered[n // 2]
        spread = places[-1] - places[0]
        # Where the median is the largest or the smallest value, the other side has the spread.
        gaps = torch.stack([median - places[0], places[-1] - median])
        gaps = gaps.where(gaps > 0, spread if spread > 0 else torch.ones_like(spread))
        gaps = gaps.clamp_min(torch.finfo(gaps.dtype).tiny)  # so that the slopes are finite
        self.places, self.heights, self.slopes = places, heights, 1 / gaps

    def forward(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Minus log tail probabilities (n,), strictly increasing in the values (n,)."""
        values, places, heights = (
            precise(values).contiguous(),
            precise(self.places),
            precise(self.heights),
        )
        right = torch.searchsorted(places, values).clamp(1, max(1, len(places) - 1))
        right = right.clamp_max(len(places) - 1)
        left = (right - 1).clamp_min(0)
        width = (places[right] - places[left]).clamp_min(torch.finfo(places.dtype).tiny)
        inside = heights[left] + (heights[right] - heights[left]) * (
            (values - places[left]) / width
        ).clamp(0, 1)
        low, high = precise(self.slopes)
        result = (
            inside
            + (values - places[-1]).clamp_min(0) * high
            - (places[0] - values).clamp_min(0) * low
        )
        # Results are added up, over models and members, and the sum must be finite, too.
        largest = torch.finfo(result.dtype).max / 2**10
        return result.clamp(-largest, largest)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        resize_buffers(self, ("places", "heights"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def resize_buffers(
    module: nn.Module, names: tuple[str, ...], state_dict: dict[str, Tensor], prefix: str
) -> None:
    """Give buffers as many rows as those in a state have, whose number is not known before.

    Raises
    ------
    ValueError
        If the buffers in the state have no rows, or not all as many.
    """
    found = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
    sizes = {len(kept) if kept.dim() else 0 for kept in found.values()}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"{', '.join(found)} with {sorted(sizes)} rows")
    for name, kept in found.items():
        own = getattr(module, name)
        if kept.dim() == own.dim() and kept.shape[1:] == own.shape[1:]:
            setattr(module, name, own.new_zeros(kept.shape))
