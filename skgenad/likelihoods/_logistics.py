"""Mixtures of logistic distributions, of numbers or of the levels of pixels: those of `PixelCNN`.

Salimans et al. (2017), sections 2.1 and 2.2. A place has K components of all its channels; the mean
of a channel in a component is linear in the channels before it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from skgenad._tensors import draws

# Bounds of the logs of scales: below the first all mass of a pixel is at one of 256 levels, and
# above the second at the outer two.
_LOG_SCALES = (-7.0, 7.0)


def n_parameters(n_components: int, n_channels: int) -> int:
    """Numbers that a place's mixture is made of."""
    return n_components * (1 + 2 * n_channels + n_channels * (n_channels - 1) // 2)


class LogisticMixture(NamedTuple):
    """Mixtures at each of n images' places.

    Attributes
    ----------
    logits : Tensor of shape (n, K, H, W)
        Logs of the components' weights, not normalised.
    means, log_scales : Tensor of shape (n, K, C, H, W)
        Parameters of the logistic distributions.
    slopes : Tensor of shape (n, K, C, C, H, W)
        How the mean of a channel (first C) depends on those before it (second C).
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    slopes: Tensor

    @classmethod
    def of(cls, parameters: Tensor, n_channels: int) -> LogisticMixture:
        """Mixtures of numbers (n, n_parameters, H, W) without bounds."""
        n, _, height, width = parameters.shape
        c = n_channels
        each = parameters.view(n, -1, n_parameters(1, c), height, width)
        logits, means, log_scales, coefficients = each.split([1, c, c, c * (c - 1) // 2], dim=2)
        slopes = parameters.new_zeros(*means.shape[:2], c, c, height, width)
        rows, columns = torch.tril_indices(c, c, -1, device=parameters.device)
        slopes[:, :, rows, columns] = torch.tanh(coefficients)
        return cls(logits[:, :, 0], means, log_scales.clamp(*_LOG_SCALES), slopes)

    def means_given(self, x: Tensor) -> Tensor:
        """Means (n, K, C, H, W) given the earlier channels of x (n, C, H, W)."""
        return self.means + (self.slopes * x[:, None, None]).sum(dim=3)

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n, H, W) of x (n, C, H, W)."""
        z = (x[:, None] - self.means_given(x)) * torch.exp(-self.log_scales)
        # The density is even in z; far out, exp(z) would overflow.
        log_logistic = -z.abs() - self.log_scales - 2 * F.softplus(-z.abs())
        return self._mixed(log_logistic)

    def log_probability(self, x: Tensor, n_levels: int) -> Tensor:
        """Log probabilities (n, H, W) of x (n, C, H, W), each at one of the levels in [-1, 1].

        A level has the mass nearest to it, so that the outer two have all that is beyond.
        """
        half = 1 / (n_levels - 1)
        away, inverse = x[:, None] - self.means_given(x), torch.exp(-self.log_scales)
        above, below = (away + half) * inverse, (away - half) * inverse
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), without cancellation.
        log_gap = torch.log(-torch.expm1(-2 * half * inverse))
        level = x[:, None]
        log_mass = torch.where(
            level < half - 1,
            F.logsigmoid(above),
            torch.where(
                level > 1 - half,
                F.logsigmoid(-below),
                F.logsigmoid(above) + F.logsigmoid(-below) + log_gap,
            ),
        )
        return self._mixed(log_mass)

    def _mixed(self, log_of_channels: Tensor) -> Tensor:
        """Mix components: (n, K, C, H, W) -> (n, H, W)."""
        log_weights = F.log_softmax(self.logits, dim=1)
        return torch.logsumexp(log_weights + log_of_channels.sum(dim=2), dim=1)

    def sample(self, n_levels: int | None = None) -> Tensor:
        """Draw (n, C, H, W): numbers, or the nearest to them of `n_levels` in [-1, 1]."""
        noise = -torch.log(-torch.log(draws.rand_like(self.logits).clamp(1e-20, 1 - 1e-7)))
        chosen = (self.logits + noise).argmax(dim=1, keepdim=True)  # (n, 1, H, W)
        own = F.one_hot(chosen, self.logits.shape[1]).movedim(-1, 1).to(self.means)  # n K 1 H W
        means, scales = ((t * own).sum(dim=1) for t in (self.means, self.log_scales.exp()))
        slopes = (self.slopes * own[:, :, None]).sum(dim=1)
        x = torch.zeros_like(means)
        for channel in range(x.shape[1]):
            mean = means[:, channel] + (slopes[:, channel] * x).sum(dim=1)
            u = draws.rand_like(mean).clamp(1e-6, 1 - 1e-6)
            value = mean + scales[:, channel] * torch.logit(u)
            if n_levels is not None:
                steps = (n_levels - 1) / 2
                value = ((value.clamp(-1, 1) + 1) * steps).round() / steps - 1
            x[:, channel] = value
        return x
