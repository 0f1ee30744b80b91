"""Per-region overlap of anomaly maps."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from skgenad.metrics import per_region_overlap_auc, per_region_overlap_curve


def two_regions(n=3, side=12):
    """Make masks with a small and a large defect in the first image, and one at a corner."""
    masks = np.zeros((n, side, side), dtype=bool)
    masks[0, 1:3, 1:3] = masks[0, 5:11, 5:11] = True
    masks[1, 3, 3] = masks[1, 4, 4] = True  # one defect: they meet at a corner
    return masks


def literal(masks, maps, regions):
    """Compute the curve threshold by threshold."""
    fpr, overlap = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        flagged = maps >= threshold
        fpr.append(flagged[~masks].mean())
        overlap.append(np.mean([flagged[region].mean() for region in regions]))
    return np.array(fpr), np.array(overlap)


@pytest.mark.parametrize("levels", [3, None], ids=["ties", "all different"])
def test_the_curve_is_its_definition(levels):
    masks, rng = two_regions(), np.random.RandomState(0)
    maps = rng.rand(*masks.shape) if levels is None else rng.randint(levels, size=masks.shape) / 4
    maps = maps + 0.5 * masks
    regions = []
    for image, rows, columns in ((0, (1, 3), (1, 3)), (0, (5, 11), (5, 11)), (1, (3, 5), (3, 5))):
        region = np.zeros_like(masks)
        region[image, slice(*rows), slice(*columns)] = True
        regions.append(region & masks)
    curves = (per_region_overlap_curve(masks, maps), literal(masks, maps, regions))
    for ours, wanted in zip(*curves, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-12)


def test_with_one_defect_it_is_the_roc_curve_of_pixels():
    masks = np.zeros((2, 10, 10), dtype=bool)
    masks[1, 2:7, 3:6] = True
    maps = np.random.RandomState(0).rand(*masks.shape) + 0.3 * masks
    fpr, overlap = per_region_overlap_curve(masks, maps)
    expected = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(overlap, expected[1])


def test_small_defects_count_as_large_ones_do():
    masks = two_regions()[:1]
    maps = np.zeros(masks.shape)
    maps[0, 5:11, 5:11] = 1.0  # the large one alone is found
    assert per_region_overlap_auc(masks, maps, max_fpr=1e-9) == pytest.approx(0.5)


def test_perfect_and_constant_maps_have_areas_that_are_known():
    masks = two_regions()
    assert per_region_overlap_auc(masks, masks * 1.0) == pytest.approx(1.0)
    assert per_region_overlap_auc(masks, np.zeros(masks.shape)) == pytest.approx(0.15)
    assert per_region_overlap_auc(masks, np.zeros(masks.shape), max_fpr=1.0) == pytest.approx(0.5)


def test_any_rising_function_of_the_maps_gives_the_same_area():
    masks = two_regions()
    maps = np.random.RandomState(1).randn(*masks.shape)
    area = per_region_overlap_auc(masks, maps)
    assert per_region_overlap_auc(masks, np.exp(maps)) == area
    assert 0 < area < 1


@pytest.mark.parametrize(
    ("masks", "maps", "match"),
    [
        (np.ones((1, 3, 3)), np.zeros((1, 3, 4)), "one shape"),
        (np.ones((1, 3, 3)), np.zeros((1, 3, 3)), "leave out"),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), "mark some"),
        (np.eye(3)[None], np.full((1, 3, 3), np.nan), "NaN"),
        (np.eye(3), np.eye(3), "one shape"),
    ],
)
def test_what_cannot_be_judged_is_an_error(masks, maps, match):
    with pytest.raises(ValueError, match=match):
        per_region_overlap_curve(masks, maps)


@pytest.mark.parametrize("max_fpr", [0, 1.5, -0.1])
def test_rates_out_of_range_are_errors(max_fpr):
    with pytest.raises(ValueError, match="max_fpr"):
        per_region_overlap_auc(np.eye(3)[None], np.eye(3)[None], max_fpr=max_fpr)


@pytest.mark.parametrize("measure", [per_region_overlap_curve, per_region_overlap_auc])
def test_masks_that_hold_nan_are_named(measure):
    masks = two_regions().astype(float)
    masks[2, 4, 5] = np.nan
    with pytest.raises(ValueError, match=r"masks hold NaN, first at \[2, 4, 5\].*leave out"):
        measure(masks, np.zeros(masks.shape))
