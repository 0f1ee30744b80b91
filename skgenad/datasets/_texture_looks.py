"""Six things to look at, drawn from formulas: three textures and three objects.

A point of an image has the coordinates x (to the right) and y (down), both in [0, 1]. Shapes are
signed distances, negative inside. Every call draws another specimen: another place, angle and size,
another tone. Light and noise come later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Outline = Callable[[np.random.Generator], Array]


@dataclass(frozen=True)
class Scene:
    """One specimen without a defect.

    Parameters
    ----------
    image : numpy.ndarray of shape (h, w, 3)
        Colours in [0, 1], on the fine grid.
    beneath : numpy.ndarray of shape (h, w, 3)
        What is seen where a piece is missing.
    inside : numpy.ndarray of shape (h, w)
        Where defects may lie.
    piece : callable
        Draws the outline of a piece that may be missing: a signed distance of shape (h, w).
    marks : sequence of numpy.ndarray of shape (3,)
        Colours of scratches and blobs. They occur in the scene, too, where they can: a defect is
        in the wrong place, and not told by its colour.
    """

    image: Array
    beneath: Array
    inside: Array
    piece: Outline
    marks: Sequence[Array]


def colour(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue])


def mixed(a: Array, b: Array, share: Array) -> Array:
    """Colour `a` where `share` (h, w) is 0, `b` where it is 1, and what is between."""
    return a + share[..., None] * (b - a)


def covered(distance: Array, softness: float = 0.012) -> Array:
    """Share of each point that a shape covers: 1 inside, 0 outside, soft at the edge."""
    return np.clip(0.5 - distance / softness, 0, 1)


def rotated(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def box(x: Array, y: Array, half_width: float, half_height: float, corner: float = 0.0) -> Array:
    """Signed distance to a rectangle around the origin with round corners."""
    a, b = np.abs(x) - half_width + corner, np.abs(y) - half_height + corner
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - corner


def degrees(rng: np.random.Generator, most: float) -> float:
    return np.deg2rad(rng.uniform(-most, most))


# ---- textures ----------------------------------------------------------------


def weave(x: Array, y: Array, rng: np.random.Generator) -> Scene:
    """Draw cloth of light threads and blue threads that cross over and under each other."""
    pitch = rng.uniform(0.122, 0.128)
    u, v = rotated(x - 0.5, y - 0.5, degrees(rng, 2))
    u, v = u / pitch + rng.uniform(0, 2), v / pitch + rng.uniform(0, 2)
    across, along = u % 1 - 0.5, v % 1 - 0.5
    light_on_top = (np.floor(u) + np.floor(v)) % 2 == 0
    round_u, round_v = np.cos(np.pi * across), np.cos(np.pi * along)
    shade = np.where(
        light_on_top, round_u**0.7 * (0.6 + 0.4 * round_v), round_v**0.7 * (0.6 + 0.4 * round_u)
    )
    light, blue = colour(0.92, 0.86, 0.72), colour(0.30, 0.42, 0.66)
    thread = np.where(light_on_top[..., None], light, blue)
    ground = np.broadcast_to(colour(0.10, 0.10, 0.13), thread.shape)
    image = mixed(ground, thread, shade)

    def piece(rng: np.random.Generator) -> Array:
        # A missing piece is one crossing where the light thread is on top.
        i, j = np.floor(u), np.floor(v)
        tops = np.argwhere(light_on_top & (np.hypot(x - 0.5, y - 0.5) < 0.36))
        row, column = tops[rng.integers(len(tops))]
        a, b = u - i[row, column] - 0.5, v - j[row, column] - 0.5
        return box(a, b, 0.42, 0.56, 0.1) * pitch

    marks = [light, ground[0, 0], colour(0.72, 0.16, 0.10)]
    return Scene(image, ground, np.ones(x.shape, bool), piece, marks)


def wood(x: Array, y: Array, rng: np.random.Generator) -> Scene:
    """Draw a board with dark and light rings that run up and down in slow waves."""
    u, v = rotated(x - 0.5, y - 0.5, degrees(rng, 4))
    wave = 0.022 * np.sin(2 * np.pi * (v * rng.uniform(0.7, 1.1) + rng.uniform()))
    ring = rng.uniform(6.8, 7.2) * (u + wave) + rng.uniform()
    share = 0.5 + 0.42 * np.sin(2 * np.pi * ring) + 0.08 * np.sin(4 * np.pi * ring + 0.7)
    pores = np.sin(2 * np.pi * (31 * u + rng.uniform())) * np.sin(2 * np.pi * (2 * v + 3 * u))
    share = np.clip(share + 0.06 * pores, 0, 1)
    light, dark = colour(0.90, 0.70, 0.46), colour(0.36, 0.20, 0.10)
    image = mixed(light, dark, share)
    beneath = np.broadcast_to(colour(0.20, 0.10, 0.05), image.shape)

    def piece(rng: np.random.Generator) -> Array:
        # A missing piece is a splinter, along the grain.
        a, b = rotated(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8), degrees(rng, 8))
        return np.abs(a) - 0.038 * (1 - (b / 0.12) ** 2)

    marks = [colour(0.98, 0.88, 0.70), beneath[0, 0]]
    return Scene(image, beneath, np.ones(x.shape, bool), piece, marks)


def tiles(x: Array, y: Array, rng: np.random.Generator) -> Scene:
    """Draw green tiles in rows that are shifted by half a tile, with light grout between them."""
    width, height = 0.30, 0.20
    u, v = rotated(x - 0.5, y - 0.5, degrees(rng, 2))
    v = v / height + rng.uniform(0, 2)
    row = np.floor(v)
    u = u / width + rng.uniform() + 0.5 * (row % 2)
    column = np.floor(u)
    a, b = (u - column - 0.5) * width, (v - row - 0.5) * height
    edge = box(a, b, width / 2 - 0.014, height / 2 - 0.014, 0.015)
    tones = rng.uniform(-0.07, 0.07, size=(16, 16))
    tone = tones[row.astype(int) % 16, column.astype(int) % 16]
    glaze = 1 + tone + 0.22 * np.clip(-edge / 0.05, 0, 1)
    tile = colour(0.16, 0.46, 0.42) * glaze[..., None]
    grout = np.broadcast_to(colour(0.84, 0.81, 0.75), tile.shape)
    image = mixed(grout, tile, covered(edge))

    def piece(rng: np.random.Generator) -> Array:
        # A missing piece is a corner that broke off one tile.
        corners = np.argwhere((np.abs(a) > width / 2 - 0.02) & (np.abs(b) > height / 2 - 0.02))
        far = np.abs(corners / len(x) - 0.5).max(axis=1) < 0.36
        i, j = corners[far][rng.integers(far.sum())]
        same = (row == row[i, j]) & (column == column[i, j])
        p = width / 2 - np.sign(a[i, j]) * a
        q = height / 2 - np.sign(b[i, j]) * b
        slope = rng.uniform(0.8, 1.25)
        cut = 0.7 * (p * slope + q / slope - 0.15)
        return np.where(same, np.maximum(cut, edge), 1.0)

    marks = [grout[0, 0], colour(0.12, 0.10, 0.10)]
    return Scene(image, grout, np.ones(x.shape, bool), piece, marks)


# ---- objects -----------------------------------------------------------------


def _placed(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Coordinates in the frame of an object that lies somewhere near the middle."""
    shift_x, shift_y = rng.uniform(-0.05, 0.05, size=2)
    u, v = rotated(x - 0.5 - shift_x, y - 0.5 - shift_y, degrees(rng, 18))
    size = rng.uniform(0.96, 1.04)
    return u / size, v / size


def _ground(background: Array, distance: Array) -> Array:
    """Plain ground with the object's shadow, which falls down and to the right."""
    shift = len(distance) // 32
    fallen = np.roll(distance, (shift, shift), axis=(0, 1))
    return background * (1 - 0.35 * covered(fallen, 0.09))[..., None]


def _bite(
    x: Array, y: Array, distance: Array, radius: tuple[float, float], depth: float
) -> Outline:
    """Make the drawer of a round piece that is missing at the edge of an object."""

    def piece(rng: np.random.Generator) -> Array:
        edges = np.argwhere(np.abs(distance) < 0.006)
        i, j = edges[rng.integers(len(edges))]
        size = rng.uniform(*radius)
        inwards = np.array([x[i, j] - 0.5, y[i, j] - 0.5])
        inwards = -inwards / max(np.hypot(*inwards), 1e-6) * depth
        circle = np.hypot(x - x[i, j] - inwards[0], y - y[i, j] - inwards[1]) - size
        return np.maximum(circle, distance)

    return piece


def button(x: Array, y: Array, rng: np.random.Generator) -> Scene:
    """Draw a red button with four holes and a wreath of eight cream petals."""
    u, v = _placed(x, y, rng)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    distance = radius - 0.36
    ground = _ground(colour(0.70, 0.71, 0.73), distance)
    red, cream, dark = colour(0.80, 0.20, 0.18), colour(0.93, 0.86, 0.74), colour(0.22, 0.20, 0.22)
    a = (angle / (np.pi / 4)) % 1 - 0.5
    petal = np.hypot((radius - 0.245) / 0.070, a / 0.32) - 1
    disc = mixed(red, cream, covered(petal * 0.07))
    rim = np.exp(-(((radius - 0.345) / 0.02) ** 2))
    disc = disc * (1 - 0.25 * rim)[..., None]
    holes = np.hypot(np.abs(u) - 0.065, np.abs(v) - 0.065) - 0.038
    disc = mixed(disc, dark, covered(holes))
    image = mixed(ground, disc, covered(distance))
    piece = _bite(x, y, distance, (0.075, 0.09), 0.0)
    return Scene(image, ground, distance < -0.02, piece, [red, cream, dark])


def bolt(x: Array, y: Array, rng: np.random.Generator) -> Scene:
    """Draw a steel bolt with a hexagonal head and a thread."""
    u, v = _placed(x, y, rng)
    head = box(u, v + 0.28, 0.22, 0.095, 0.02)
    teeth = 0.012 * np.abs((v * 12) % 1 - 0.5) * 4
    shaft = box(u, v - 0.08, 0.125, 0.30, 0.03) + np.where(v > -0.08, teeth - 0.012, 0)
    distance = np.minimum(head, shaft)
    ground = _ground(colour(0.17, 0.21, 0.30), distance)
    turned = np.cos(np.pi * u / 0.30)
    thread = np.where(v > -0.08, 0.14 * np.cos(2 * np.pi * (v * 12 + u * 0.9)), 0)
    faces = np.where(np.abs(u) < 0.10, 0.62, np.where(u < 0, 0.74, 0.44))
    tone = np.where(head < 0, faces, 0.28 + 0.38 * turned + thread)
    metal = np.clip(tone, 0.05, 1)[..., None] * colour(0.98, 0.97, 0.90)
    image = mixed(ground, metal, covered(distance))
    marks = [colour(0.10, 0.09, 0.09), colour(0.50, 0.23, 0.12)]
    piece = _bite(x, y, distance, (0.070, 0.085), 0.01)
    return Scene(image, ground, distance < -0.01, piece, marks)


def capsule(x: Array, y: Array, rng: np.random.Generator) -> Scene:
    """Draw a capsule of medicine, half green and half white, either way up, with a shine."""
    u, v = _placed(x, y, rng)
    upright = rng.random() < 0.5
    distance = np.hypot(u, np.maximum(np.abs(v) - 0.22, 0)) - 0.16
    ground = _ground(colour(0.36, 0.47, 0.66), distance)
    green, white = colour(0.10, 0.45, 0.30), colour(0.93, 0.91, 0.84)
    cap = np.where((v < 0)[..., None], *([green, white] if upright else [white, green]))
    roundness = np.sqrt(np.clip(1 - (u / 0.17) ** 2, 0, 1))
    shine = np.exp(-(((u + 0.06) / 0.025) ** 2)) * covered(np.abs(v) - 0.22, 0.1)
    seam = np.exp(-((v / 0.012) ** 2))
    body = cap * (0.55 + 0.45 * roundness - 0.25 * seam)[..., None]
    body = mixed(body, colour(1.0, 1.0, 1.0), 0.55 * shine)
    image = mixed(ground, body, covered(distance))
    marks = [white, green]
    piece = _bite(x, y, distance, (0.070, 0.085), 0.0)
    return Scene(image, ground, distance < -0.02, piece, marks)


LOOKS: dict[str, Callable[[Array, Array, np.random.Generator], Scene]] = {
    look.__name__: look for look in (weave, wood, tiles, button, bolt, capsule)
}
