"""Corruptions of MNIST-C, drawn anew."""

import numpy as np
import pytest
from scipy import ndimage

from skgenad.datasets import fetch_mnist_c, make_mnist_c
from skgenad.datasets._corruptions import CORRUPTIONS, _line, _plasma

each = pytest.mark.parametrize("name", CORRUPTIONS)
DRAWN = {
    *("dotted_line", "fog", "glass_blur", "impulse_noise", "motion_blur", "rotate", "shear"),
    *("shot_noise", "spatter", "translate", "zigzag"),
}


def digits(n=12, seed=0):
    """Strokes that are smooth, off the centre, and black at a border of seven pixels."""
    rng = np.random.RandomState(seed)
    images = np.zeros((n, 28, 28))
    images[:, 7:21, 7:21] = rng.rand(n, 14, 14) > 0.7
    images = ndimage.gaussian_filter(images, (0, 0.6, 0.6), truncate=2)
    return np.rint(255 * images / images.max(axis=(1, 2), keepdims=True)).astype(np.uint8)[:, None]


def corrupted(name, images=None, seed=0):
    images = digits() if images is None else images
    return make_mnist_c(images, name, random_state=seed)[:, 0].astype(float)


def centres(images):
    """Centres of mass (n, 2) and masses (n,)."""
    masses = images.sum(axis=(1, 2))
    rows, columns = np.mgrid[:28, :28]
    return np.stack([(images * at).sum(axis=(1, 2)) / masses for at in (rows, columns)], 1), masses


# ---- all ------------------------------------------------------------------------------------


@each
def test_images_keep_shape_and_type_and_a_seed_decides(name, global_rng_untouched):
    X = digits()
    kept = X.copy()
    one, two, other = (make_mnist_c(X, name, random_state=seed) for seed in (0, 0, 1))
    assert one.dtype == np.uint8 and one.shape == X.shape
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(X, kept)
    assert np.array_equal(one, other) == (name not in DRAWN)
    assert np.array_equal(one, X) == (name == "identity")


def test_corruptions_come_one_after_the_other_and_know_nothing_of_each_other():
    X = digits(4)
    together = make_mnist_c(X, random_state=3)
    assert together.shape == (16 * 4, 1, 28, 28)
    for i, name in enumerate(CORRUPTIONS):
        alone = make_mnist_c(X, name, random_state=3)
        np.testing.assert_array_equal(together[4 * i : 4 * i + 4], alone)
    pair = make_mnist_c(X, ["zigzag", "fog"], random_state=3)
    np.testing.assert_array_equal(pair[:4], make_mnist_c(X, "zigzag", random_state=3))


def test_names_are_those_of_the_published_set():
    with pytest.raises(ValueError, match="corruption must be one of identity, brightness,.*none"):
        fetch_mnist_c("none")
    for bad in ("none", [], ["fog", "fog"]):
        with pytest.raises(ValueError, match="corruption must be one of identity"):
            make_mnist_c(digits(), bad)


@pytest.mark.parametrize("bad", [digits()[:, 0], digits() / 255, digits()[..., :27]], ids=str)
def test_images_of_another_kind_are_refused(bad):
    with pytest.raises(ValueError, match="images of type .* have shape"):
        make_mnist_c(bad, "fog")


def test_no_images_give_none():
    assert make_mnist_c(digits()[:0], random_state=0).shape == (0, 1, 28, 28)


# ---- light ----------------------------------------------------------------------------------


def test_brightness_adds_half_of_white():
    X = digits()[:, 0].astype(float)
    np.testing.assert_array_equal(corrupted("brightness"), np.minimum(X + 128, 255))


def test_stripes_are_inverted_and_the_middle_stays():
    X, found = digits()[:, 0].astype(float), corrupted("stripe")
    np.testing.assert_array_equal(found[:, :, 7:21], X[:, :, 7:21])
    for outside in (slice(0, 7), slice(21, 28)):
        np.testing.assert_array_equal(found[:, :, outside], 255 - X[:, :, outside])


# ---- moves ----------------------------------------------------------------------------------


def test_a_translation_moves_mass_by_3_pixels_each_way():
    X = digits(200)
    (before, mass), (after, moved) = (
        centres(X[:, 0].astype(float)),
        centres(corrupted("translate", X)),
    )
    np.testing.assert_array_equal(mass, moved)
    steps = np.rint(after - before)
    np.testing.assert_allclose(after - before, steps, atol=1e-9)
    kinds, counts = np.unique(steps, axis=0, return_counts=True)
    assert kinds.tolist() == [[-3, -3], [-3, 3], [3, -3], [3, 3]] and counts.min() > 30


def test_a_rotation_keeps_the_centre_and_turns_by_four_tenths():
    X = digits(100)
    before, mass = centres(X[:, 0].astype(float))
    after, turned = centres(corrupted("rotate", X))
    np.testing.assert_allclose(turned, mass, rtol=0.02)
    x, y = (before - 13.5) @ [1, 1j], (after - 13.5) @ [1, 1j]
    np.testing.assert_allclose(np.abs(y), np.abs(x), atol=0.15)
    far = np.abs(x) > 1
    angles = np.angle(y[far] / x[far])
    np.testing.assert_allclose(np.abs(angles), 0.4, atol=0.12)
    assert (angles > 0).any() and (angles < 0).any()


def test_a_rotation_leaves_what_is_round_about_the_centre():
    rows, columns = np.mgrid[:28, :28] - 13.5
    disc = np.rint(255 * np.exp(-(rows**2 + columns**2) / 50)).astype(np.uint8)
    found = corrupted("rotate", np.tile(disc, (8, 1, 1, 1)))
    inside = rows**2 + columns**2 < 150
    np.testing.assert_allclose(found[:, inside], np.tile(disc[inside], (8, 1)), atol=3)


def test_scale_shrinks_distances_to_seven_tenths_and_areas_to_half():
    X = digits(50)
    (before, mass), (after, shrunk) = centres(X[:, 0].astype(float)), centres(corrupted("scale", X))
    np.testing.assert_allclose(shrunk, 0.49 * mass, rtol=0.12)
    np.testing.assert_allclose(after - 13.5, 0.7 * (before - 13.5), atol=0.25)


def test_shear_keeps_rows_and_moves_them_by_their_distance_from_the_centre():
    X = digits(50)[:, 0].astype(float)
    found = corrupted("shear", digits(50))
    np.testing.assert_allclose(found.sum(axis=2), X.sum(axis=2), atol=6)
    columns, row = np.arange(28), 8
    before, after = (image[:, row] @ columns / image[:, row].sum(axis=1) for image in (X, found))
    np.testing.assert_allclose(np.abs(after - before), np.tan(0.4) * (13.5 - row), atol=0.1)
    assert len(np.unique(np.sign(after - before))) == 2


# ---- noise ----------------------------------------------------------------------------------


def test_impulses_hit_17_percent_half_of_them_white():
    grey = np.full((100, 1, 28, 28), 100, dtype=np.uint8)
    found = corrupted("impulse_noise", grey)
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [0, 100, 255]
    np.testing.assert_allclose(counts / found.size, [0.085, 0.83, 0.085], atol=0.005)


def test_shots_are_poisson_numbers_of_thirds():
    grey = np.full((100, 1, 28, 28), 51, dtype=np.uint8)  # a mean of .6
    values, counts = np.unique(corrupted("shot_noise", grey), return_counts=True)
    assert values.tolist() == [0, 85, 170, 255]
    expected = np.exp(-0.6) * np.array([1, 0.6, 0.18, 0])
    expected[3] = 1 - expected.sum()
    np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.01)
    assert (corrupted("shot_noise", 0 * grey) == 0).all()


def test_spatter_takes_pixels_towards_a_quarter_of_white():
    black, white = (np.full((200, 1, 28, 28), v, dtype=np.uint8) for v in (0, 255))
    on_black, on_white = corrupted("spatter", black), corrupted("spatter", white)
    masks = on_black / 63
    assert (masks[masks > 0] > 0.79).all() and masks.max() <= 1
    assert 0.02 < (masks > 0).mean() < 0.4
    np.testing.assert_allclose(on_white, 255 - 192 * masks, atol=2)


def test_fog_is_a_height_map_and_lowers_the_contrast():
    X = digits(40)
    found = corrupted("fog", X)
    most = X.max() / 255
    # (x + 3 f) m / (m + 3) with f in [0, 1]
    x = X[:, 0] / 255
    assert (found / 255 >= x * most / (most + 3) - 0.003).all()
    assert (found / 255 <= (x + 3) * most / (most + 3) + 0.003).all()
    assert (corrupted("fog", 0 * X) == 0).all()  # the light of black images is none
    maps = _plasma(20, np.random.default_rng(0))
    assert maps.min(axis=(1, 2)).tolist() == [0] * 20 and maps.max(axis=(1, 2)).tolist() == [1] * 20
    # Neighbours are alike, on the torus too, and the more so the nearer they are.
    near, far, around = (
        np.corrcoef(maps.ravel(), np.roll(maps, step, axis=2).ravel())[0, 1] for step in (1, 64, -1)
    )
    assert near > 0.95 > far and around == pytest.approx(near)


# ---- blur -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur"])
def test_blur_keeps_the_mass_and_lowers_the_contrast(name):
    X = digits(50)
    found = corrupted(name, X)
    np.testing.assert_allclose(centres(found)[1], centres(X[:, 0].astype(float))[1], rtol=0.02)
    assert (found.max(axis=(1, 2)) < X.max()).all()
    # What is even stays so.
    grey = np.full((3, 1, 28, 28), 77, dtype=np.uint8)
    assert (corrupted(name, grey) == 77).all()


def test_motion_smears_a_point_to_one_side_along_a_line():
    point = np.zeros((60, 1, 28, 28), dtype=np.uint8)
    point[:, :, 13, 22] = 255
    found = corrupted("motion_blur", point)
    assert (found[:, :, 23:] == 0).all()  # of the pixels that are taken from the right
    np.testing.assert_array_equal(found.argmax(axis=2).max(axis=1), 22)
    weights = np.exp(-(np.arange(21) ** 2) / 18)
    np.testing.assert_allclose(found[:, 13, 22], 255 * weights[0] / weights.sum(), atol=0.51)
    (after, _) = centres(found)
    slopes = (after[:, 0] - 13) / (22 - after[:, 1])
    assert np.abs(slopes).max() < 1.1 and (slopes > 0.3).any() and (slopes < -0.3).any()


def test_glass_moves_pixels_by_a_few_places_only():
    point = np.zeros((200, 1, 28, 28), dtype=np.uint8)
    point[:, :, 13, 13] = 255
    after, _ = centres(corrupted("glass_blur", point))
    assert (np.abs(after - 13).max(axis=1) > 0.2).any()
    assert np.abs(after.mean(axis=0) - 13).max() < 4


# ---- lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
def test_lines_are_added(name):
    X = digits(40)
    added = corrupted(name, X) - X[:, 0]
    assert (added >= 0).all()
    on_black = corrupted(name, 0 * X)
    np.testing.assert_array_equal(np.minimum(on_black + X[:, 0], 255), added + X[:, 0])
    drawn = (on_black > 0).any(axis=1)
    columns = np.flatnonzero(drawn.any(axis=0))
    if name == "dotted_line":
        assert columns.tolist() == [c for c in range(28) if c % 4 < 2]
    else:
        assert columns.min() == 2 and columns.max() == 25
    # No pixel is 2.3 away from the line.
    assert ((on_black > 0).sum(axis=1) <= 5).all()


def test_a_line_fades_with_the_logarithm_of_the_distance():
    drawn = _line(np.full((1, 28), 10.0))[0, :, 5]
    expected = np.zeros(28)
    expected[10] = 1
    expected[[9, 11]] = 1 + np.log(1 - 1 / 2.3)
    np.testing.assert_allclose(drawn, expected.clip(0), atol=1e-12)


def test_edges_are_those_of_scikit_image():
    feature = pytest.importorskip("skimage.feature")
    X = digits(60)
    theirs = np.stack([feature.canny(image[0] / 255, sigma=1) for image in X])
    np.testing.assert_array_equal(corrupted("canny_edges", X), 255 * theirs)
    assert theirs.any()
