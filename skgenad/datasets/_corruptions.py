"""MNIST-C's corruptions of digits, written anew from a description of their rules.

Each takes images (n, 28, 28) with values in [0, 1] and a generator, and returns corrupted ones,
which may leave [0, 1]; `corrupted` brings them back and rounds them. Strengths are those of the
published set. Where the description leaves something open, the comment says what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Draws = np.random.Generator
SIDE = 28
_CENTRE = (SIDE - 1) / 2
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)
_FOG_SIDE, _FOG_ROUGHNESS, _FOG_DECAY, _FOG = 256, 100.0, 1.4, 3.0
_MOST_MAPS = 32


def corrupted(images: NDArray[np.uint8], corruption: str, draws: Draws) -> NDArray[np.uint8]:
    """Return images (n, 28, 28), uint8, under one of `CORRUPTIONS`."""
    if corruption == "identity" or not len(images):
        return images.copy()
    changed = CORRUPTIONS[corruption](images / 255.0, draws)
    # Halves go up, also where they have lost their last bit.
    return np.floor(255 * np.clip(changed, 0, 1) + (0.5 + 1e-9)).astype(np.uint8)


def _identity(x: Array, draws: Draws) -> Array:
    return x


def _signs(draws: Draws, n: int) -> Array:
    return draws.choice([-1.0, 1.0], n)


def _blurred(x: Array, sigma: float) -> Array:
    return ndimage.gaussian_filter(x, (0, sigma, sigma), mode="nearest")


# ---- noise ----------------------------------------------------------------------------------


def _shot_noise(x: Array, draws: Draws) -> Array:
    return draws.poisson(3 * x) / 3


def _impulse_noise(x: Array, draws: Draws) -> Array:
    hit, salt = draws.random(x.shape) < 0.17, draws.random(x.shape) < 0.5
    return np.where(hit, salt, x)


def _spatter(x: Array, draws: Draws) -> Array:
    noise = _blurred(draws.normal(0.65, 0.3, x.shape), 1)
    mask = _blurred((noise > 0.65).astype(np.float64), 1.5)
    mask[mask < 0.8] = 0
    return x * (1 - mask) + 63 / 255 * mask


def _fog(x: Array, draws: Draws) -> Array:
    most = x.max(axis=(1, 2), keepdims=True)
    parts = [len(part) for part in np.array_split(x, -(-len(x) // _MOST_MAPS))]
    maps = np.concatenate([_plasma(n, draws)[:, :SIDE, :SIDE] for n in parts])
    return (x + _FOG * maps) * most / (most + _FOG)


def _plasma(n: int, draws: Draws) -> Array:
    """Draw height maps (n, 256, 256) on a torus, from 0 to 1, by diamonds and squares."""
    heights = np.zeros((n, _FOG_SIDE, _FOG_SIDE))
    step, rough = _FOG_SIDE, _FOG_ROUGHNESS

    def with_noise(total: Array) -> Array:
        return total / 4 + rough * draws.uniform(-rough, rough, total.shape)

    while step > 1:
        half = step // 2
        corners = heights[:, ::step, ::step]
        along = corners + np.roll(corners, -1, axis=1)
        centres = with_noise(along + np.roll(along, -1, axis=2))
        heights[:, half::step, half::step] = centres
        # Middles of edges: two corners, and the two centres on either side.
        across = centres + np.roll(centres, 1, axis=1)
        top = with_noise(corners + np.roll(corners, -1, axis=2) + across)
        across = centres + np.roll(centres, 1, axis=2)
        heights[:, half::step, ::step] = with_noise(along + across)
        heights[:, ::step, half::step] = top
        step, rough = half, rough / _FOG_DECAY
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return heights / heights.max(axis=(1, 2), keepdims=True)


# ---- blur -----------------------------------------------------------------------------------


def _glass_blur(x: Array, draws: Draws) -> Array:
    blurred = np.rint(255 * _blurred(x, 0.7))
    every = np.arange(len(x))
    for _ in range(2):
        for row in range(SIDE - 1, 1, -1):
            for column in range(SIDE - 1, 1, -1):
                down, right = draws.integers(-1, 1, (2, len(x)))
                swaps = every[draws.random(len(x)) < 0.5]
                there = (swaps, row + down[swaps], column + right[swaps])
                kept = blurred[swaps, row, column]
                blurred[swaps, row, column] = blurred[there]
                blurred[there] = kept
    return _blurred(blurred / 255, 0.7)


def _motion_blur(x: Array, draws: Draws) -> Array:
    """Smear images along a line on one side, with half a Gaussian's weights, on whole pixels."""
    distances = np.arange(2 * 10 + 1)
    weights = np.exp(-(distances**2) / (2 * 3**2))
    weights /= weights.sum()
    angles = np.radians(draws.uniform(-45, 45, len(x)))[:, None, None]
    every = np.arange(len(x))[:, None, None]
    smeared = np.zeros_like(x)
    for distance, weight in zip(distances, weights, strict=True):
        rows = np.rint(_ROWS + distance * np.sin(angles)).astype(int)
        columns = np.rint(_COLUMNS + distance * np.cos(angles)).astype(int)
        there = (every, rows.clip(0, SIDE - 1), columns.clip(0, SIDE - 1))
        smeared += weight * x[there]
    return smeared


# ---- moves ----------------------------------------------------------------------------------


def _moved(x: Array, matrices: Array) -> Array:
    """Take each pixel from the place that a matrix (n, 2, 2) gives it about the centre."""
    here = np.stack([_ROWS, _COLUMNS]).reshape(2, -1) - _CENTRE
    places = (matrices @ here + _CENTRE).reshape(len(x), 2, SIDE, SIDE)
    pairs = zip(x, places, strict=True)
    return np.stack([ndimage.map_coordinates(image, at, order=1) for image, at in pairs])


def _shear(x: Array, draws: Draws) -> Array:
    """Move rows by the tangent of the angle for each row, so that rows keep what is in them."""
    slopes = np.tan(0.4) * _signs(draws, len(x))
    matrices = np.tile(np.eye(2), (len(x), 1, 1))
    matrices[:, 1, 0] = slopes
    return _moved(x, matrices)


def _scale(x: Array, draws: Draws) -> Array:
    return _moved(x, np.tile(np.eye(2) / 0.7, (len(x), 1, 1)))


def _rotate(x: Array, draws: Draws) -> Array:
    cosine, sine = np.cos(0.4), np.sin(0.4) * _signs(draws, len(x))
    ones = np.ones(len(x))
    return _moved(x, np.array([[cosine * ones, -sine], [sine, cosine * ones]]).transpose(2, 0, 1))


def _translate(x: Array, draws: Draws) -> Array:
    down, right = (3 * _signs(draws, len(x)).astype(int) for _ in range(2))
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3)))
    corners = zip(padded, 3 - down, 3 - right, strict=True)
    return np.stack([image[i : i + SIDE, j : j + SIDE] for image, i, j in corners])


# ---- light ----------------------------------------------------------------------------------


def _brightness(x: Array, draws: Draws) -> Array:
    return x + 0.5


def _stripe(x: Array, draws: Draws) -> Array:
    return np.where((_COLUMNS < 7) | (_COLUMNS > 20), 1 - x, x)


# ---- lines ----------------------------------------------------------------------------------


def _line(heights: Array) -> Array:
    """Draw lines (n, 28, 28) through heights (n, 28), one of each column; NaN draws nothing."""
    distances = np.abs(_ROWS - heights[:, None, :])
    inside = distances < 2.3
    bright = 1 + np.log1p(-np.where(inside, distances, 0) / 2.3)
    return np.where(inside, bright, 0).clip(0, 1)


def _dotted_line(x: Array, draws: Draws) -> Array:
    """Begin with a pair of columns that is drawn."""
    first, last = draws.integers(0, SIDE - 1, (2, len(x), 1))
    heights = first + (last - first) * np.arange(SIDE) / (SIDE - 1)
    return x + _line(np.where(np.arange(SIDE) // 2 % 2 == 0, heights, np.nan))


def _zigzag(x: Array, draws: Draws) -> Array:
    """Begin on the line and go down first: from edge to edge of the wave in two columns."""
    first = draws.integers(0, SIDE - 1, (len(x), 1))
    slopes = draws.integers(-5, 5, (len(x), 1)) / 23
    along = np.arange(SIDE) - 2.0
    wave = np.array([0.0, 2.0, 0.0, -2.0])[along.astype(int) % 4]
    heights = first + slopes * along + wave
    return x + _line(np.where((along >= 0) & (along <= 23), heights, np.nan))


def _canny_edges(x: Array, draws: Draws) -> Array:
    """Edges after Canny: sigma 1, thresholds .1 and .2, pixels at the border left out."""
    smooth = ndimage.gaussian_filter(x, (0, 1, 1), mode="constant")
    smooth /= ndimage.gaussian_filter(np.ones((SIDE, SIDE)), 1, mode="constant")
    down, right = _slope(smooth, 1, 2), _slope(smooth, 2, 1)
    strength = np.hypot(down, right)
    crests = (strength >= 0.1) & _is_crest(strength, down, right)
    crests[:, [0, -1]] = crests[:, :, [0, -1]] = False
    neighbours = np.zeros((3, 3, 3))
    neighbours[1] = 1  # within an image
    parts, n = ndimage.label(crests, neighbours)
    strong = ndimage.maximum(strength, parts, np.arange(n + 1)) >= 0.2
    return (crests & strong[parts]).astype(np.float64)


def _slope(x: Array, axis: int, across: int) -> Array:
    """Sobel's filter of each image."""
    return ndimage.correlate1d(ndimage.correlate1d(x, [-1, 0, 1], axis), [1, 2, 1], across)


def _is_crest(strength: Array, down: Array, right: Array) -> NDArray[np.bool_]:
    """Whether no point a pixel up or down the gradient is stronger, by interpolation."""
    steep = np.abs(down) >= np.abs(right)
    larger = np.maximum(np.abs(down), np.abs(right))
    smaller = np.minimum(np.abs(down), np.abs(right))
    share = smaller / np.where(larger > 0, larger, 1)  # of the diagonal neighbour
    i, j = np.sign(down).astype(int), np.sign(right).astype(int)
    padded = np.pad(strength, ((0, 0), (1, 1), (1, 1)))
    every = np.arange(len(strength))[:, None, None]
    rows, columns = _ROWS.astype(int) + 1, _COLUMNS.astype(int) + 1
    crest = np.ones(strength.shape, dtype=bool)
    for side in (-1, 1):
        straight = padded[
            every, rows + side * np.where(steep, i, 0), columns + side * np.where(steep, 0, j)
        ]
        diagonal = padded[every, rows + side * i, columns + side * j]
        crest &= straight * (1 - share) + diagonal * share <= strength
    return crest


CORRUPTIONS: dict[str, Callable[[Array, Draws], Array]] = {
    "identity": _identity,
    "brightness": _brightness,
    "canny_edges": _canny_edges,
    "dotted_line": _dotted_line,
    "fog": _fog,
    "glass_blur": _glass_blur,
    "impulse_noise": _impulse_noise,
    "motion_blur": _motion_blur,
    "rotate": _rotate,
    "scale": _scale,
    "shear": _shear,
    "shot_noise": _shot_noise,
    "spatter": _spatter,
    "stripe": _stripe,
    "translate": _translate,
    "zigzag": _zigzag,
}
