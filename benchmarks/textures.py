"""How hard the defects of `make_textures` are: by single pixels, whole images, and patches.

    python benchmarks/textures.py

Image AUROC of detectors that anyone can write down in a line, at the generator's default numbers,
in ``results/textures.md``; a contact sheet in ``results/textures.png``.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
from _measure import machine
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skgenad.benchmark._markdown import table
from skgenad.datasets import make_textures

SEEDS = (0, 1, 2)
RESULTS = Path(__file__).parent / "results"
N_BANK, N_COMPONENTS, PATCH, STRIDE = 8000, 24, 8, 2


def pixel_gaussian(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Squared standard scores of the pixels (n, D): one Gaussian for each of them."""
    deviation = np.maximum(train.std(axis=0), 0.01)
    return ((test - train.mean(axis=0)) / deviation) ** 2


def neighbour_distance(train: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    """Mean distance of each row to its k nearest training rows."""
    return (
        NearestNeighbors(n_neighbors=k, algorithm="brute")
        .fit(train)
        .kneighbors(test)[0]
        .mean(axis=1)
    )


def patches(images: np.ndarray) -> np.ndarray:
    """Patches (n, n_patches, d) of images (n, C, H, W) that are divided by their own mean."""
    images = images / images.mean(axis=(1, 2, 3), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
    windows = windows[:, :, ::STRIDE, ::STRIDE]
    n, _, rows, columns = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, rows * columns, -1)


def patch_distance(train: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Largest distance of a patch of an image to patches of training images, in few components."""
    known = patches(train)
    known = known.reshape(-1, known.shape[-1])
    bank = known[rng.choice(len(known), N_BANK, replace=False)]
    pca = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit(bank)
    rows = patches(test).reshape(-1, bank.shape[1])
    reduced = pca.transform(rows)
    outside = ((rows - pca.inverse_transform(reduced)) ** 2).sum(axis=1)
    inside = neighbour_distance(pca.transform(bank), reduced, 1) ** 2
    return (inside + outside).reshape(len(test), -1).max(axis=1)


def scores_of(category: str, seed: int) -> dict[str, float]:
    """Image AUROC of each detector, and the largest and mean area of a defect in per cent."""
    made = make_textures(categories=category, random_state=seed)[category]
    train, test = made.train.data / 255.0, made.test.data / 255.0
    flat, flat_test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    squares = pixel_gaussian(flat, flat_test)
    found = {
        "pixel Gaussian": squares.sum(axis=1),
        "its worst pixel": squares.max(axis=1),
        "pixel kNN, k=1": neighbour_distance(flat, flat_test, 1),
        "pixel kNN, k=5": neighbour_distance(flat, flat_test, 5),
        "patch kNN": patch_distance(train, test, np.random.default_rng(seed)),
    }
    row = {name: float(roc_auc_score(made.test.target, s)) for name, s in found.items()}
    areas = 100 * made.test.masks[made.test.target == 1].mean(axis=(1, 2))
    return {**row, "mean area, %": float(areas.mean()), "largest area, %": float(areas.max())}


def contact_sheet() -> Image.Image:
    """Two good images and two of each defect for every category, and the masks below them."""
    made = make_textures(n_train=1, n_test=6, random_state=0)
    rows = []
    for bunch in made.values():
        test, chosen = bunch.test, [0, 1, 6, 7, 8, 9, 10, 11]
        masks = np.repeat(255 * test.masks[chosen][:, None].astype(np.uint8), 3, axis=1)
        rows += [np.concatenate(part, axis=2) for part in (test.data[chosen], masks)]
    return Image.fromarray(np.concatenate(rows, axis=1).transpose(1, 2, 0))


def main() -> None:
    """Measure, and write the table and the sheet."""
    categories = list(make_textures(n_train=1, n_test=1, size=32))
    cells = []
    for category in categories:
        rows = [scores_of(category, seed) for seed in SEEDS]
        cells.append([category, *(_spread([row[name] for row in rows], name) for name in rows[0])])
        header = ["category", *rows[0]]
    text = (
        "# Textures\n\n"
        f"`python benchmarks/textures.py`, {date.today().isoformat()}, {machine()}.\n\n"
        "`make_textures()`: 80 training images, 40 good and 40 defective test images of 3x64x64 "
        f"for each category. Image AUROC, mean of {len(SEEDS)} seeds (least to most). The Gaussian "
        "is one for each pixel and colour, summed over the image, or its largest term; pixel kNN "
        f"is on whole images, patch kNN on {PATCH}x{PATCH} patches ({N_BANK:,} training patches, "
        f"{N_COMPONENTS} principal components and what is outside of them; the worst patch "
        "counts).\n\n![two good images and two of each defect](textures.png)\n\n"
    )
    (RESULTS / "textures.md").write_text(text + table(header, cells), encoding="utf-8")
    contact_sheet().save(RESULTS / "textures.png", optimize=True)


def _spread(values: list[float], name: str) -> str:
    if name.startswith("largest"):
        return f"{max(values):.2f}"
    if name.startswith("mean"):
        return f"{np.mean(values):.2f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
