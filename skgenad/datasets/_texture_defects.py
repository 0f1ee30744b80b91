"""Defects that are planted in drawn scenes: scratches, blobs and missing pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._texture_looks import Array, Scene, covered, mixed

LARGEST_AREA = 0.02  # of a defect, as a share of the image
_SMALLEST_AREA = 0.006
_LEAST_CONTRAST = 0.25  # mean change of a colour inside the defect, on a scale from 0 to 1
_N_TRIES = 1000
# The share of each point of the fine grid that a defect covers, and the colours that it may have:
# :func:`plant` takes the one that differs most from what was there.
Cover = tuple[Array, Sequence[Array]]


def _scratch(x: Array, y: Array, scene: Scene, rng: np.random.Generator) -> Cover | None:
    """Return a bent line and its colours."""
    start = _point_inside(x, y, scene, rng)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
    length, width = rng.uniform(0.26, 0.42), rng.uniform(0.018, 0.026)
    t = np.linspace(0, 1, 24)
    direction = angle + bend * t
    steps = length / len(t) * np.stack([np.cos(direction), np.sin(direction)])
    points = np.array(start)[:, None] + steps.cumsum(axis=1)
    if not _all_inside(scene, points):
        return None
    distance = np.full(x.shape, np.inf)
    for px, py in points.T:
        distance = np.minimum(distance, np.hypot(x - px, y - py))
    return covered(distance - width / 2), scene.marks


def _blob(x: Array, y: Array, scene: Scene, rng: np.random.Generator) -> Cover:
    """Return a stain of irregular outline and its colours."""
    px, py = _point_inside(x, y, scene, rng)
    around = np.arctan2(y - py, x - px)
    first, second = rng.uniform(0, 2 * np.pi, size=2)
    bumps = 0.2 * np.cos(2 * around + first) + 0.12 * np.cos(3 * around + second)
    radius = rng.uniform(0.050, 0.068) * (1 + bumps)
    return covered(np.hypot(x - px, y - py) - radius, 0.02), scene.marks


def _missing(x: Array, y: Array, scene: Scene, rng: np.random.Generator) -> Cover:
    """Return the outline of a missing piece and what is seen through it."""
    return covered(scene.piece(rng)), [scene.beneath]


DEFECTS = {"blob": _blob, "missing": _missing, "scratch": _scratch}


def plant(
    kind: str, x: Array, y: Array, scene: Scene, factor: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Plant one defect of a kind in a scene on the fine grid.

    Draws until it is large and strong enough to see, lies where it should, and covers no more than
    `LARGEST_AREA`.

    Returns
    -------
    image : numpy.ndarray of shape (h, w, 3)
        The scene with the defect, on the fine grid.
    mask : numpy.ndarray of shape (h / factor, w / factor)
        True where more than a quarter of a pixel is covered.
    """
    for _ in range(_N_TRIES):
        drawn = DEFECTS[kind](x, y, scene, rng)
        if drawn is None:
            continue
        cover, colours = drawn
        mask = reduced(cover, factor) > 0.25
        if not _SMALLEST_AREA <= mask.mean() <= LARGEST_AREA:
            continue
        if kind != "missing" and not scene.inside[cover > 0].all():
            continue
        weights = (cover / cover.sum())[..., None]
        contrasts = [(weights * np.abs(scene.image - c)).sum() / 3 for c in colours]
        best = int(np.argmax(contrasts))
        if contrasts[best] >= _LEAST_CONTRAST:
            return mixed(scene.image, colours[best], cover), mask
    raise RuntimeError(f"no place for a defect of kind {kind!r} after {_N_TRIES} tries.")


def reduced(values: Array, factor: int) -> Array:
    """Mean over squares of `factor` x `factor` points."""
    h, w = values.shape[0] // factor, values.shape[1] // factor
    return values.reshape(h, factor, w, factor, *values.shape[2:]).mean(axis=(1, 3))


def _point_inside(
    x: Array, y: Array, scene: Scene, rng: np.random.Generator
) -> tuple[float, float]:
    places = np.argwhere(scene.inside)
    i, j = places[rng.integers(len(places))]
    return x[i, j], y[i, j]


def _all_inside(scene: Scene, points: Array) -> bool:
    """Tell whether defects may lie on all of the points (2, n), x and y."""
    n = len(scene.inside)
    if points.min() < 0 or points.max() >= 1:
        return False
    columns, rows = (points * n).astype(int)
    return bool(scene.inside[rows, columns].all())
