"""
All detectors on one plane
==========================

In two dimensions a detector is a map. The same rows, and what each detector makes of them: dark is
normal, and the line is the threshold that one in ten of new normal rows is beyond.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_moons

import skgenad
from skgenad.inspection import EnergyDisplay

# %%
# Two moons, all rows normal. Defaults throughout, but for the seed.

X, _ = make_moons(400, noise=0.06, random_state=0)
names = (
    *("Committee", "Neighbors", "KernelDenoiser", "LocalGaussian", "Mahalanobis"),
    *("GaussianMixtures", "NormalizingFlow", "Glow", "VAE", "Autoencoder"),
    *("NAE", "MPDR", "EBM", "CANCE", "DAGMM"),
)

# %%
# What to look for: whether the gap between the moons is an anomaly, whether the moons are one
# piece, and what a detector says far from all rows, where it has seen nothing. Densities and
# distances fall with distance by construction. A reconstruction error may be low where no row ever
# was. Every map has its own colours, since scores have the unit of their method.

figure, axes = plt.subplots(3, 5, figsize=(15, 8.2), sharex=True, sharey=True, layout="constrained")
sides = {"xlim": (-2, 3), "ylim": (-1.5, 2), "grid_resolution": 120}
for ax, name in zip(axes.flat, names, strict=True):
    detector = getattr(skgenad, name)(random_state=0).fit(X)
    EnergyDisplay.from_estimator(
        detector, X, ax=ax, colorbar=False, negatives_kwargs={"alpha": 0}, **sides
    )
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()
    ax.set(title=name, xlabel="", ylabel="")
plt.show()
