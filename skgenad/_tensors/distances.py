"""Distances between rows and their reconstructions: squared, absolute, structural similarity.

Each is a module that maps (n, d) and (n, d) to (n,), a mean over columns, and offers
``value_and_slopes(x, y)``: the distances with their gradients with respect to either argument, and
``by_column(x, y)``: what every column adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

# Wang et al., 2004: a Gaussian window of 11 pixels with a deviation of 1.5; for pixels in [0, 1].
SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_SSIM_FLOORS = (0.01**2, 0.03**2)

# Maps the name of a distance to whether it needs images.
DISTANCES = {"l2": False, "l1": False, "ssim": True}


class Distance(nn.Module):
    """Base of distances; gradients by autograd."""

    def by_column(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Distances of the columns, (n, d), of rows (n, d)."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Distances (n,) of rows (n, d)."""
        return self.by_column(x, y).mean(dim=1)

    def value_and_slopes(
        self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Distances (n,), and their gradients (n, d) with respect to `x` and to `y`."""
        with torch.enable_grad():
            x, y = x.detach().requires_grad_(True), y.detach().requires_grad_(True)
            value = self(x, y)
            on_x, on_y = torch.autograd.grad(value.sum(), (x, y))
        return value.detach(), on_x, on_y


class SquaredDistance(Distance):
    """Mean over columns of the squared differences."""

    def by_column(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Squared differences (n, d) of rows (n, d)."""
        return (x - y).square()

    def value_and_slopes(
        self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """In closed form: 2 / D times the difference."""
        residual = x - y
        value = residual.square().mean(dim=1)
        slope = residual.mul_(2 / x.shape[1])
        return value, slope, -slope


def mean_squared_error(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Mean over columns of the squared differences, (n,): |x - y|^2 / d."""
    return (x - y).square().mean(dim=1)


class AbsoluteDistance(Distance):
    """Mean over columns of the absolute differences."""

    def by_column(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Absolute differences (n, d) of rows (n, d)."""
        return (x - y).abs()

    def value_and_slopes(
        self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """In closed form: 1 / D times the sign of the difference."""
        residual = x - y
        slope = residual.sign().mul_(1 / x.shape[1])
        return residual.abs().mean(dim=1), slope, -slope


class StructuralDissimilarity(Distance):
    """One minus the mean structural similarity (SSIM) of two images, in [0, 2].

    The mean is over channels and over the places of the window that are inside the image.

    Parameters
    ----------
    shape : tuple of int
        (C, H, W), with sides of at least the window's.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """

    window: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                "distance='ssim' compares images: give image_shape=(channels, height, width), or "
                "use 'l2' or 'l1' for tables."
            )
        if min(shape[1:]) < SSIM_WINDOW:
            raise ValueError(
                f"distance='ssim' looks through a window of {SSIM_WINDOW} x {SSIM_WINDOW} pixels; "
                f"image_shape={shape} is smaller. Use 'l2' or 'l1'."
            )
        self.shape = shape
        # A float32 buffer can be moved to any device, together with the module.
        self.register_buffer("window", _gaussian_window(torch.float32), persistent=False)

    def similarity_map(
        self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n c h w"]:
        """SSIM (n, C, H - 10, W - 10) at every place of the window, of rows (n, d)."""
        height, width = self.shape[1:]
        x, y = x.reshape(-1, 1, height, width), y.reshape(-1, 1, height, width)
        means = self._blurred(torch.cat([x, y, x * x, y * y, x * y]))
        mean_x, mean_y, square_x, square_y, product = means.chunk(5)
        low, high = _SSIM_FLOORS
        both = mean_x * mean_y
        squares = mean_x.square() + mean_y.square()
        ratio = (2 * both + low) / (squares + low)
        covariance, variances = product - both, square_x + square_y - squares
        ssim = ratio * (2 * covariance + high) / (variances + high)
        return ssim.reshape(-1, self.shape[0], *ssim.shape[2:])

    def _blurred(self, maps: Float[Tensor, "m 1 h w"]) -> Float[Tensor, "m 1 a b"]:
        window = self.window
        if maps.dtype != window.dtype:
            window = _gaussian_window(maps.dtype).to(maps.device)
        return F.conv2d(F.conv2d(maps, window), window.transpose(2, 3))

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Distances (n,) of rows (n, d)."""
        return 1 - self.similarity_map(x, y).flatten(1).mean(dim=1)

    def by_column(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """One minus the similarity (n, d) through the window around every pixel of rows (n, d).

        In the frame of 5 pixels around which the window does not fit it is that of the nearest
        place where it does.
        """
        margin = SSIM_WINDOW // 2
        inside = 1 - self.similarity_map(x, y)
        return F.pad(inside, (margin,) * 4, mode="replicate").flatten(1)


def _gaussian_window(dtype: torch.dtype) -> Float[Tensor, "1 1 1 w"]:
    """Weights (1, 1, 1, 11) of one direction, whose sum is 1."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / _SSIM_SIGMA).square())
    return (weights / weights.sum()).reshape(1, 1, 1, -1).to(dtype)


def make_distance(name: str, shape: tuple[int, ...]) -> Distance:
    """Make one of ``DISTANCES`` for rows of `shape`, (d,) or (C, H, W)."""
    if name == "ssim":
        return StructuralDissimilarity(shape)
    return SquaredDistance() if name == "l2" else AbsoluteDistance()
