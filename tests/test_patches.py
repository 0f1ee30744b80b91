"""Patches and their way back, permutations, the decoder of patches laid side by side."""

import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest
import torch

from skgenad.autoencoders import _patches
from skgenad.autoencoders._patch_networks import PatchDecoder, SteadyBatchNorm2d
from skgenad.autoencoders._patches import PatchGrid, distant_permutations, grid_for, shuffled, tiled

pytestmark = pytest.mark.usefixtures("drawing")

SIDES = [(9, 9), (8, 8), (7, 5), (3, 3), (4, 11), (64, 64), (10, 3)]


def numbered(shape, n=2):
    """Images whose pixels are all different."""
    return torch.arange(n * math.prod(shape), dtype=torch.float32).view(n, *shape)


# ---- patches --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_split_and_assemble_are_exact_inverses(channels, sides, n):
    grid, images = PatchGrid((channels, *sides), n, n), numbered((channels, *sides))
    patches = grid.split(images)
    assert patches.shape == (2, n * n, *grid.patch_shape)
    assert torch.equal(grid.assemble(patches), images)
    assert torch.equal(grid.split(grid.assemble(patches)), patches)


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_patches_are_numpys_blocks_with_the_last_pixel_repeated_at_most_once(sides):
    image = numbered((1, *sides), 1)
    grid = PatchGrid((1, *sides), 3, 3)
    _, height, width = grid.patch_shape
    rows = np.array_split(image[0, 0].numpy(), 3, axis=0)
    blocks = [block for row in rows for block in np.array_split(row, 3, axis=1)]
    for patch, block in zip(grid.split(image)[0, :, 0].numpy(), blocks, strict=True):
        missing = ((0, height - block.shape[0]), (0, width - block.shape[1]))
        assert max(missing) <= (0, 1)
        np.testing.assert_array_equal(patch, np.pad(block, missing, mode="edge"))


def test_means_of_patches_count_every_pixel_once():
    maps = torch.rand(4, 7, 11, dtype=torch.float64)
    grid = PatchGrid((3, 7, 11), 3, 2)
    blocks = [b for row in np.array_split(maps, 3, axis=1) for b in np.array_split(row, 2, axis=2)]
    by_hand = np.stack([block.mean(dim=(1, 2)) for block in blocks], axis=1)
    means = maps.flatten(1).float() @ grid.membership
    np.testing.assert_allclose(means.numpy(), by_hand, rtol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 4, 8, 9, 10, 17, 30])
def test_tables_are_rows_of_at_most_nine_blocks(d):
    grid = grid_for((d,), 3)
    assert grid.shape == (1, 1, d) and grid.n_patches == min(d, 9)
    assert grid.patch_shape == (1, 1, -(-d // 9))
    row = numbered((1, 1, d))
    assert torch.equal(grid.assemble(grid.split(row)), row)


def test_small_images_have_fewer_patches():
    assert grid_for((1, 2, 8), 3).n_patches == 2 * 3
    with pytest.raises(ValueError, match="an image of 2 x 8 has no 3 x 3 patches"):
        PatchGrid((1, 2, 8), 3, 3)


def test_tiles_lie_where_the_patches_do():
    images = numbered((2, 6, 9))
    grid = PatchGrid((2, 6, 9), 3, 3)
    assert torch.equal(tiled(grid.split(images), 3, 3), images)


# ---- permutations -----------------------------------------------------------------------------


def distances(permutations):
    """Hamming distances of all pairs of different permutations."""
    differ = (permutations[:, None] != permutations[None]).sum(dim=2)
    return differ[~torch.eye(len(permutations), dtype=torch.bool)]


@pytest.mark.parametrize(("k", "n"), [(1, 5), (2, 5), (3, 4), (4, 1000), (9, 60), (16, 40)])
def test_permutations_are_permutations_and_distinct(k, n):
    permutations = distant_permutations(k, n)
    assert permutations.shape == (min(n, math.factorial(k)), k)
    assert torch.equal(permutations.sort(dim=1).values, torch.arange(k).expand_as(permutations))
    assert len(torch.unique(permutations, dim=0)) == len(permutations)


def test_a_thousand_of_nine_patches_take_little_time_and_memory():
    _patches._chosen.cache_clear()
    start = time.process_time()
    permutations = distant_permutations(9, 1000)
    assert time.process_time() - start < 5  # 0.4 s where nothing else runs
    assert len(torch.unique(permutations, dim=0)) == 1000
    # Among 1,000 drawn at random some differ in 2 or 3 places alone.
    assert distances(permutations).min() >= 5
    _patches._chosen.cache_clear()
    tracemalloc.start()
    distant_permutations(9, 10)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


@pytest.mark.parametrize("k", [3, 4, 5])
def test_each_permutation_is_as_far_as_any_could_be_from_those_before(k):
    chosen = distant_permutations(k, 40)
    everything = torch.tensor(list(itertools.permutations(range(k))))
    for i in range(1, len(chosen)):
        nearest = (everything[:, None] != chosen[None, :i]).sum(dim=2).amin(dim=1)
        assert (chosen[i] != chosen[:i]).sum(dim=1).min() == nearest.max()


def test_the_first_nine_differ_everywhere():
    assert distances(distant_permutations(9, 1000)[:2]).min() == 9
    assert distances(distant_permutations(4, 4)).min() == 4  # a Latin square


def test_fewer_permutations_are_the_first_of_more_and_a_callers_own():
    few, many = distant_permutations(5, 10), distant_permutations(5, 20)
    assert torch.equal(few, many[:10])
    few.zero_()
    assert torch.equal(distant_permutations(5, 10), many[:10])


def test_shuffled_shows_what_the_permutation_says():
    patches = torch.rand(3, 4, 2, 5)
    orders = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
    seen = shuffled(patches, orders)
    for i, order in enumerate(orders):
        assert torch.equal(seen[i], patches[i, order])
    back = shuffled(seen, orders.argsort(dim=1))
    assert torch.equal(back, patches)


# ---- decoder --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 8, 8), (1, 28, 30), (2, 3, 3), (1, 100, 5)])
def test_the_decoder_comes_out_at_any_size_and_trains(shape):
    grid = grid_for(shape, 3)
    decoder = PatchDecoder(grid, 4, 16)
    images = decoder(torch.randn(5, grid.n_patches * 4))
    assert images.shape == (5, *shape) and images.min() >= 0 and images.max() <= 1
    (images - 0.3).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in decoder.parameters())
    names = [type(layer).__name__ for layer in decoder.blocks]
    block = ["Upsample", "Conv2d", "SteadyBatchNorm2d", "ReLU"]
    assert names == 3 * block + ["Conv2d", "Sigmoid"]


def test_a_patch_changes_the_image_at_its_place_and_next_to_it():
    grid = PatchGrid((1, 48, 48), 3, 3)
    decoder = PatchDecoder(grid, 4, 16).eval()
    z = torch.randn(1, 36)
    for k in range(9):
        moved = z.clone()
        moved[0, 4 * k : 4 * k + 4] += 1
        with torch.no_grad():
            change = (decoder(moved) - decoder(z)).abs()[:, 0]
        by_patch = (change.flatten(1) @ grid.membership)[0]
        assert by_patch.argmax() == k
        far = [j for j in range(9) if max(abs(j // 3 - k // 3), abs(j % 3 - k % 3)) == 2]
        assert all(by_patch[j] == 0 for j in far)


def test_batch_norm_is_torchs_but_of_a_single_number():
    ours, torchs = SteadyBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(ours(x), torchs(x))
    one = torch.randn(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        torchs(one)
    before = ours.running_mean.clone()
    torch.testing.assert_close(ours(one), torchs.eval()(one))
    assert torch.equal(ours.running_mean, before)
