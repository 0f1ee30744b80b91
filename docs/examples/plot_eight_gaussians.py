"""
What MPDR learns that its autoencoder does not
==============================================

In two dimensions an energy is a map. An autoencoder that is trained to reconstruct eight clusters
learns to reconstruct the whole circle through them: anomalies between two clusters pass for normal.
MPDR starts from such an autoencoder, walks along its circle, finds places away from the data where
the energy is low, and raises it there.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from sklearn.metrics import roc_auc_score

from skgenad import MPDR, Autoencoder
from skgenad.datasets import make_eight_gaussians
from skgenad.energies import Chain, Manifold
from skgenad.inspection import EnergyDisplay

# %%
# Two detectors with networks of the same sizes. ``score_type="energy"`` asks for the trained energy
# itself; by default MPDR combines it with the error of its own autoencoder.

X, _ = make_eight_gaussians(2000, random_state=0)
sizes = {"network": (64, 64), "random_state": 0}
autoencoder = Autoencoder(max_steps=400, **sizes).fit(X)
mpdr = MPDR(
    manifold=Manifold(steps=400), visible_chain=Chain(noise=0.15), score_type="energy", **sizes
).fit(X)

# %%
# Anomalies halfway between neighbouring clusters, three standard deviations from either, and how
# well both detectors tell new normal rows from them:

angles = (np.arange(80) % 8 + 0.5) * np.pi / 4
noise = 0.1 * np.random.RandomState(1).normal(size=(80, 2))
anomalies = np.sqrt(8) * np.column_stack([np.cos(angles), np.sin(angles)]) + noise
normal, _ = make_eight_gaussians(1000, random_state=1)
rows, y = np.concatenate([normal, anomalies]), np.repeat([0, 1], [1000, 80])
auroc = [roc_auc_score(y, detector.anomaly_score(rows)) for detector in (autoencoder, mpdr)]
print(f"AUROC: autoencoder {auroc[0]:.2f}, MPDR-R {auroc[1]:.2f}")

# %%
# Both maps are mean squared errors in standardised units, on one scale of colours; the black line
# is the threshold that flags one row in ten. The autoencoder's takes in the whole circle. MPDR's
# negatives, rows that its chains arrived at in the last steps, show what it takes for normal.

figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), sharex=True, sharey=True, layout="constrained")
axes[0].scatter(*X.T, s=8, alpha=0.4, color="tab:blue", linewidths=0, label="training rows")
axes[0].scatter(*anomalies.T, s=20, marker="x", color="black", label="anomalies")
axes[0].legend(loc="upper left", ncols=2)
axes[0].set(title="data", xlabel="x0", ylabel="x1", aspect="equal")
side = {"xlim": (-5, 5), "ylim": (-5, 5), "norm": LogNorm(1e-3, 1)}
for ax, name, value, detector in zip(
    axes[1:], ["autoencoder", "MPDR-R"], auroc, [autoencoder, mpdr], strict=True
):
    display = EnergyDisplay.from_estimator(detector, ax=ax, colorbar=False, **side)
    ax.set_title(f"{name}: AUROC {value:.2f}")
    ax.label_outer()
figure.colorbar(
    display.surface_, ax=axes[1:], label="energy (low is normal)", extend="both", shrink=0.9
)
plt.show()
