"""
A threshold for new rows
========================

``contamination=0.1`` is to flag a tenth of *new* normal rows. A threshold that is taken from the
training rows flags many more, since a detector fits best what it has seen. By default some rows are
held out of training for the threshold.
"""

import matplotlib.pyplot as plt
import numpy as np

from skgenad import GaussianMixtures, Mahalanobis, Neighbors
from skgenad.datasets import load_builtin

# %%
# Benign tumours, 30 columns. Few rows train, the others count as new ones.

X, y = load_builtin("breast_cancer", return_X_y=True)
normal = X[y == 0]
sizes = (40, 60, 90, 130, 200)
detectors = {
    "Mahalanobis": Mahalanobis,
    "GaussianMixtures": GaussianMixtures,
    "Neighbors": Neighbors,
}


def shares_flagged(make, n, **parameters):
    """Flag new normal rows after fits to n rows, drawn ten times."""
    shares = []
    for seed in range(10):
        rows = np.random.RandomState(seed).permutation(normal)
        detector = make(contamination=0.1, random_state=seed, **parameters).fit(rows[:n])
        shares.append((detector.predict(rows[n:]) == -1).mean())
    return shares


# %%
# ``calibration_fraction=0`` holds nothing out. A Gaussian in 30 columns is all but singular on 40
# rows, and every new row is far from it; the threshold does not know. ``Neighbors`` never counts a
# training row as its own neighbour, and needs no rows held out.

figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), sharey=True, layout="constrained")
ways = {"training rows": {"calibration_fraction": 0}, "rows held out (default)": {}}
for ax, (name, make) in zip(axes, detectors.items(), strict=True):
    for (way, parameters), colour in zip(ways.items(), ("tab:orange", "tab:blue"), strict=True):
        shares = np.array([shares_flagged(make, n, **parameters) for n in sizes])
        ax.plot(sizes, shares.mean(axis=1), "o-", color=colour, label=f"threshold by {way}")
        low, high = shares.min(axis=1), shares.max(axis=1)
        ax.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.axhline(0.1, color="black", linestyle="--", label="asked for")
    ax.set(title=name, xlabel="rows to fit", ylim=(0, 1.02))
axes[0].set_ylabel("share of new normal rows flagged")
axes[1].legend()
plt.show()
