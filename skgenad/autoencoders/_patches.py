"""Patches of images, put back in place, and the permutations of jigsaw puzzles."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# All permutations of so many patches are candidates, 9! = 362,880; of more patches a sample of
# their permutations is.
_MOST_ENUMERATED = 9
_SAMPLED = 200_000


class PatchGrid(nn.Module):
    """Cuts images into `rows` x `columns` patches of one size, and puts them back.

    Where a side does not divide, the first patches along it are a pixel longer than the others, and
    the last row or column of a shorter patch is repeated once: all patches have the same shape.
    Assembling leaves the repeated pixels out, so that both ways are exact.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width of the images.
    rows, columns : int
        Number of patches along height and width, at most as many as pixels.

    Attributes
    ----------
    n_patches : int
        ``rows * columns``, numbered row by row.
    patch_shape : (int, int, int)
        Channels, height and width of a patch.
    """

    cut_rows: Tensor
    cut_columns: Tensor
    join_rows: Tensor
    join_columns: Tensor
    membership: Tensor

    def __init__(self, shape: tuple[int, int, int], rows: int, columns: int) -> None:
        super().__init__()
        channels, height, width = shape
        if rows > height or columns > width:
            raise ValueError(f"an image of {height} x {width} has no {rows} x {columns} patches.")
        self.shape, self.rows, self.columns = shape, rows, columns
        self.n_patches = rows * columns
        self.patch_shape = (channels, -(-height // rows), -(-width // columns))
        for name, side, n in (("rows", height, rows), ("columns", width, columns)):
            cut, join = _indices(side, n)
            self.register_buffer(f"cut_{name}", cut, persistent=False)
            self.register_buffer(f"join_{name}", join, persistent=False)
        numbers = torch.arange(self.n_patches).view(1, -1, 1, 1, 1)
        of_pixel = self.assemble(numbers.expand(1, -1, *self.patch_shape))[0, 0].flatten()
        member = nn.functional.one_hot(of_pixel, self.n_patches).float()
        self.register_buffer("membership", member / member.sum(dim=0), persistent=False)

    def split(self, images: Tensor) -> Tensor:
        """Patches (n, n_patches, c, h, w) of images (n, C, H, W)."""
        _, height, width = self.patch_shape
        cut = images.index_select(2, self.cut_rows).index_select(3, self.cut_columns)
        n, channels = images.shape[:2]
        cut = cut.view(n, channels, self.rows, height, self.columns, width)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(n, self.n_patches, channels, height, width)

    def assemble(self, patches: Tensor) -> Tensor:
        """Images (n, C, H, W) of patches (n, n_patches, c, h, w)."""
        joined = tiled(patches, self.rows, self.columns)
        return joined.index_select(2, self.join_rows).index_select(3, self.join_columns)

    def means(self, maps: Tensor) -> Tensor:
        """Means (n, n_patches) of maps (n, H, W) over the pixels of each patch, each pixel once."""
        return maps.flatten(1) @ self.membership


def tiled(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Lay patches (n, rows * columns, c, h, w) side by side: (n, c, rows * h, columns * w)."""
    n, _, channels, height, width = patches.shape
    grid = patches.reshape(n, rows, columns, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, rows * height, columns * width)


def _indices(side: int, n: int) -> tuple[Tensor, Tensor]:
    """Pixels that n patches along a side see, one after another; and the way back."""
    length = -(-side // n)
    longer = side % n or n
    lengths = np.where(np.arange(n) < longer, length, length - 1)
    starts = np.cumsum(lengths) - lengths
    within = np.minimum(np.arange(length), lengths[:, None] - 1)
    cut = (starts[:, None] + within).ravel()
    join = np.concatenate([i * length + np.arange(m) for i, m in enumerate(lengths)])
    return torch.from_numpy(cut), torch.from_numpy(join)


def grid_for(shape: tuple[int, ...], n: int) -> PatchGrid:
    """Cut images (C, H, W) n x n, and rows of (d,) columns into n^2 blocks; less where they end."""
    if len(shape) == 3:
        return PatchGrid((shape[0], shape[1], shape[2]), min(n, shape[1]), min(n, shape[2]))
    return PatchGrid((1, 1, shape[0]), 1, min(n * n, shape[0]))


def shuffled(patches: Tensor, permutations: Tensor) -> Tensor:
    """Show patch permutations[:, j] in place j, of patches (n, k, ...) and permutations (n, k)."""
    index = permutations.view(*permutations.shape, *[1] * (patches.ndim - 2))
    return patches.gather(1, index.expand(-1, -1, *patches.shape[2:]))


@lru_cache(maxsize=16)
def _chosen(n_patches: int, n_permutations: int) -> NDArray:
    """Permutations (m, k) of :func:`distant_permutations`, int64."""
    candidates = _candidates(n_patches)
    n_chosen = min(n_permutations, candidates.shape[1])
    chosen = np.empty((n_chosen, n_patches), dtype=np.int64)
    # `nearest` is the distance of each candidate to the nearest permutation chosen so far, and
    # `distance` that to the last one.
    nearest = np.full(candidates.shape[1], n_patches, dtype=candidates.dtype)
    distance, differs = np.empty_like(nearest), np.empty(nearest.shape, dtype=bool)
    one_where_differs = differs.view(np.uint8)  # numpy adds these to bytes unconverted
    for i in range(n_chosen):
        chosen[i] = permutation = candidates[:, nearest.argmax()]
        distance[:] = 0
        for places, value in zip(candidates, permutation, strict=True):
            np.not_equal(places, value, out=differs)
            np.add(distance, one_where_differs, out=distance)
        np.minimum(nearest, distance, out=nearest)
    chosen.flags.writeable = False
    return chosen


def distant_permutations(n_patches: int, n_permutations: int) -> Tensor:
    """Choose distinct permutations that differ in as many places as possible.

    Greedily: each has the largest possible smallest Hamming distance to those before it, ties being
    broken by a fixed random order. The first `m` of more are the same `m`.

    Parameters
    ----------
    n_patches : int
        Number of patches k. Beyond 9 the candidates are a sample of 200,000.
    n_permutations : int
        Number of permutations asked for.

    Returns
    -------
    Tensor of shape (min(n_permutations, k!), k)
        Places of the patches, int64. Every call returns the same.

    References
    ----------
    Noroozi and Favaro, "Unsupervised learning of visual representations by solving jigsaw
    puzzles", ECCV 2016.
    """
    return torch.from_numpy(_chosen(n_patches, n_permutations).copy())


def _candidates(n_patches: int) -> NDArray:
    """Permutations (k, m) in random order, a place after another in memory."""
    rng = np.random.default_rng(0)
    if n_patches > _MOST_ENUMERATED:
        keys = rng.random((_SAMPLED, n_patches), dtype=np.float32)
        sample = np.argsort(keys, axis=1).astype(np.min_scalar_type(n_patches))
        return np.ascontiguousarray(rng.permutation(np.unique(sample, axis=0)).T)
    everything = np.zeros((1, 1), dtype=np.uint8)
    for k in range(1, n_patches):
        # The new patch is put in each place of all permutations of the patches before it.
        everything = np.concatenate(
            [np.insert(everything, place, k, axis=0) for place in range(k + 1)], axis=1
        )
    return np.ascontiguousarray(everything[:, rng.permutation(everything.shape[1])])
