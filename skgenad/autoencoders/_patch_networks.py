"""P-WAE's decoder of patches that are put back in place, and its batch normalisation."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors.blocks import he_initialized

from ._patches import PatchGrid, tiled

# Each block doubles the sides, so that the first map has an eighth of the image's sides.
_BLOCKS = 3


class SteadyBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that takes its running moments where a batch has none: of one number."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, c, H, W) channel by channel."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class PatchDecoder(nn.Module):
    """Decodes the latent vectors of an image's patches together.

    A linear layer, the same for all patches, makes a small map of each latent vector; the maps are
    laid side by side as the patches are in the image; blocks of Upsample-Conv-BN-ReLU bring them to
    the image's size, half as many channels in each; a convolution and a sigmoid make pixels. So a
    patch is decoded with its neighbours in sight, and seams are filled.

    Parameters
    ----------
    grid : PatchGrid
        Where the patches are.
    latent_dim : int
        Dimension of a patch's latent vector.
    channels : int
        Channels of the small maps.
    """

    def __init__(self, grid: PatchGrid, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.grid_sides = (grid.rows, grid.columns)
        _, *patch_sides = grid.patch_shape
        self.map_shape = (channels, *(-(-side // 2**_BLOCKS) for side in patch_sides))
        self.latent_dim = latent_dim
        self.unfold = nn.Linear(latent_dim, channels * self.map_shape[1] * self.map_shape[2])
        widths = [max(1, channels // 2**i) for i in range(_BLOCKS + 1)]
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            left = 2 ** (_BLOCKS - 1 - i)
            sides = (-(-grid.shape[1] // left), -(-grid.shape[2] // left))
            layers += [
                nn.Upsample(sides, mode="bilinear"),
                nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
                SteadyBatchNorm2d(n_out),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.Conv2d(widths[-1], grid.shape[0], 3, padding=1), nn.Sigmoid()]
        self.blocks = he_initialized(nn.Sequential(*layers))

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, C, H, W) of latent vectors (n, n_patches * latent_dim)."""
        maps = self.unfold(z.reshape(-1, self.latent_dim))
        patches = maps.view(len(z), -1, *self.map_shape)
        laid = tiled(patches, *self.grid_sides)
        return self.blocks(laid.contiguous(memory_format=torch.channels_last))
