"""Densities of tables and of images, made of flows: what a detector trains and scores by.

The loss of all of them is the mean of -log p(x) over a batch, and the energy of a row -log p(x), or
minus what one scale of the flow adds to log p(x).

A flow (of :mod:`skgenad.likelihoods._flows`, or anything with the same methods) maps rows to
``contributions(x)`` (n, n_scales), whose sum is the log density, draws with ``sample(n)``, and sets
what depends on data with ``initialize(x)``. Between it and a detector stand the columns that do not
vary and the levels of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skgenad._core.departures import cost_of
from skgenad._tensors import draws
from skgenad._tensors.augmentation import augmented
from skgenad._tensors.chunks import Rows, chunk_length, extremes
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.model import Model
from skgenad._tensors.noise import dequantized
from skgenad._tensors.seeds import seeded

# Images that `sample` draws at once.
_SAMPLE_CHUNK = 256


def _some(rows: Rows) -> Tensor:
    """Draw as many random rows as a pass that needs no gradient takes."""
    chosen = draws.randperm(len(rows), device=rows.device)[: chunk_length(rows)]
    return rows[chosen]


class FlowDensity(Model):
    """A density of rows (n, d) in standardised units, of a flow or of anything like one.

    Parameters
    ----------
    scale : int or None, default=None
        The scale whose contribution is minus the energy, from 0; None: the sum of all.
    with_classes : bool, default=False
        Whether rows of training come with the place of their class in a last column. The loss is
        then that of a row under the mode of its class.
    """

    n_scales: int = 1

    def __init__(self, *, scale: int | None = None, with_classes: bool = False) -> None:
        super().__init__()
        self.scale, self.with_classes = scale, with_classes

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

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Mean of -log p of a batch (n, d), or (n, d + 1) with classes: of -log p(x | class)."""
        rows = self.augmented(self._rows(x))
        if not self.with_classes:
            return {"loss": -self.log_prob(rows).mean()}
        own = x[:, -1:].long()
        return {"loss": -self.class_log_probs(rows).gather(1, own).mean()}

    def validation_loss(self, x: Tensor) -> Tensor:
        """Mean of -log p of rows held out, as they are and whatever their class."""
        return -self.log_prob(self._rows(x)).mean()

    def _rows(self, x: Tensor) -> Tensor:
        """Rows (n, d) of a batch, without their classes."""
        return x[:, :-1] if self.with_classes else x

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
    with_classes : bool, default=False
        See :class:`FlowDensity`.
    """

    # Each step selects the columns that vary, which no recorded step can do.
    is_steady = False
    varies: Tensor
    constants: Tensor

    def __init__(
        self, make: Callable[[int], Any], n_features: int, *, with_classes: bool = False
    ) -> None:
        super().__init__(with_classes=with_classes)
        self.make, self.flow, self.n_varying = make, None, n_features
        self.register_buffer("varies", torch.ones(n_features, dtype=torch.bool))
        self.register_buffer("constants", torch.zeros(n_features))

    @torch.no_grad()
    def prepare(self, rows: Rows, labels: Tensor | None) -> None:
        """Find the columns that vary in training rows (n, d), and make the flow of them."""
        self.constants.copy_(rows[0])
        low, high = extremes(rows)
        self._build(high > low)
        if self.flow is not None:
            self.flow.initialize(self._varying(_some(rows)))

    def outgrown_by(self, rows: Tensor) -> bool:
        """Whether rows (n, d) vary in a column that the flow is not one of."""
        return bool(((rows != self.constants) & ~self.varies).any())

    def _build(self, varies: Tensor) -> None:
        self.varies.copy_(varies)
        self.n_varying = n = int(varies.sum())
        self.flow = self.make(n).to(self.varies.device) if n else None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Make the flow that the weights of a file belong to, before these are loaded."""
        varies = state_dict.get(f"{prefix}varies")
        if varies is not None and varies.shape == self.varies.shape:
            with seeded(0), own_draws():  # all weights drawn here are replaced, by a load
                self._build(varies)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _varying(self, x: Tensor) -> Tensor:
        """Columns (n, d') that vary."""
        # The number of columns is on the host: a look at the mask would hold up a GPU each step.
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
        return super().energy(x) + cost_of((x - self.constants) * ~self.varies)

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
    image_shape : (int, int, int)
        Channels, height and width; their product is d.
    n_levels : int
        Number of levels L.
    augmentation : str, tuple of str, callable or None, default=None
        How images are changed in training; see :func:`skgenad._tensors.augmentation.augmented`.
    scale, with_classes
        See :class:`FlowDensity`.
    """

    def __init__(
        self,
        flow: Any,
        image_shape: Sequence[int],
        *,
        n_levels: int,
        augmentation: Any = None,
        scale: int | None = None,
        with_classes: bool = False,
    ) -> None:
        super().__init__(scale=scale, with_classes=with_classes)
        self.flow, self.n_features, self.n_levels = flow, math.prod(image_shape), n_levels
        self.n_scales = flow.n_scales
        # `partial` hides the callable: a user's module must not become a part of this one.
        self._change = None
        if augmentation is not None:
            shape = tuple(image_shape)
            self._change = partial(augmented, augmentation=augmentation, image_shape=shape)
        self._is_named = not callable(augmentation)

    @property
    def is_steady(self) -> bool:
        """Whether steps do the same each time: a callable of the user's may look at values."""
        return super().is_steady and self._is_named

    def augmented(self, x: Tensor) -> Tensor:
        """Rows (n, d) as training changes those of data."""
        return x if self._change is None else self._change(x)

    def dequantized(self, x: Tensor) -> Tensor:
        """Rows (n, d) in [-1/2, 1/2) of pixels in [0, 1]."""
        u = draws.rand_like(x) if self.training else 0.5
        return dequantized(x, self.n_levels, u) - 0.5

    def prepare(self, rows: Rows, labels: Tensor | None) -> None:
        """Set what depends on data from training rows (n, d)."""
        self.flow.initialize(self.dequantized(_some(rows)))

    def contributions(self, x: Tensor) -> Tensor:
        """Contributions of the scales, in nats, (n, n_scales), in units of pixels in [0, 1]."""
        first, *rest = self.flow.contributions(self.dequantized(x)).unbind(dim=1)
        # The first scale's contribution includes the change of units.
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

    def likeliest(self, x: Tensor, n_late: int, n_steps: int, learning_rate: float) -> Tensor:
        """Rows (n, d) with the codes of `x` (n, d) at the last scales, and likely ones elsewhere.

        Adam raises the log density over the codes of the earlier scales.
        """
        with torch.no_grad():
            best = self.dequantized(x)
            codes, highest = self.flow.encode(best)[0], self.flow.log_prob(best)
        free = [z.clone().requires_grad_(True) for z in codes[:-n_late]]
        optimizer = torch.optim.Adam(free, lr=learning_rate)
        for step in range(n_steps + 1):
            rows = self.flow.decode([*free, *codes[-n_late:]])
            log_prob = self.flow.log_prob(rows)
            with torch.no_grad():  # a step that goes down, or out of what is finite, is not kept
                better = log_prob > highest
                highest = torch.where(better, log_prob, highest)
                best = torch.where(better[:, None], rows, best)
            if step < n_steps:
                gradients = torch.autograd.grad(-log_prob.sum(), free)
                for z, gradient in zip(free, gradients, strict=True):
                    z.grad = gradient
                optimizer.step()
        return self._at_levels(best)

    def _at_levels(self, rows: Tensor) -> Tensor:
        """Pixels in [0, 1] at the levels whose cells hold rows (n, d) of the flow."""
        levels = ((rows + 0.5) * self.n_levels).floor().clamp(0, self.n_levels - 1)
        return levels / (self.n_levels - 1)
