"""Pictures of the guide, drawn when it is built: what a detector makes of two moons."""

import matplotlib.pyplot as plt
from sklearn.datasets import make_moons

from skgenad.inspection import EnergyDisplay

SIDES = {"xlim": (-1.8, 2.8), "ylim": (-1.3, 1.8), "grid_resolution": 70}


def moons():
    """Draw rows on two moons, all of them normal, and the moon that each is on."""
    return make_moons(300, noise=0.07, random_state=0)


def score_maps(**detectors):
    """Draw maps of the scores of two to four detectors, each below its name.

    A value is a detector to fit to the moons, or one that is fitted already; an underscore in a
    name is a space.
    """
    rows, _ = moons()
    columns = 3 if len(detectors) == 3 else 2
    lines = -(-len(detectors) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(8, (5.2 / columns + 0.3) * lines),
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    figure.get_layout_engine().set(h_pad=0.1)  # else titles touch the edge
    for ax, (name, detector) in zip(axes.flat, detectors.items(), strict=True):
        fitted = detector if hasattr(detector, "offset_") else detector.fit(rows)
        EnergyDisplay.from_estimator(
            fitted, rows, ax=ax, colorbar=False, negatives_kwargs={"alpha": 0}, **SIDES
        )
        if legend := ax.get_legend():
            legend.remove()
        ax.set(title=name.replace("_", " "), xlabel="", ylabel="")
    return figure
