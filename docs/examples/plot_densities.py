"""
Densities beside the true one
=============================

Toy data whose density is known shows what a model's density is worth: how far its logarithm is from
the true one where rows are, and what it says where there are none.
"""

import matplotlib.pyplot as plt
import numpy as np

from skgenad import GaussianMixtures, Glow, KernelDenoiser, NormalizingFlow
from skgenad.datasets import make_ring, ring_log_density

# %%
# A ring: its mean is the most anomalous place of all.

X, _ = make_ring(1000, random_state=0)
new, _ = make_ring(2000, random_state=1)
true = ring_log_density(new)
models = {
    "GaussianMixtures": GaussianMixtures(random_state=0),
    "KernelDenoiser": KernelDenoiser(random_state=0),
    "NormalizingFlow": NormalizingFlow(random_state=0),
    "Glow": Glow(random_state=0),
}

# %%
# ``log_density`` is in nats, in the units of the rows, whatever units a model works in. What it
# lacks on new rows is, in the mean, the Kullback-Leibler divergence from the true density.

sides = np.linspace(-1.25 * np.abs(X).max(), 1.25 * np.abs(X).max(), 120)
grid = np.stack(np.meshgrid(sides, sides), axis=-1).reshape(-1, 2)
maps, lacks = {"true": ring_log_density(grid)}, {"true": 0.0}
for name, model in models.items():
    model.fit(X)
    maps[name] = model.log_density(grid)
    lacks[name] = float((true - model.log_density(new)).mean())

# %%
# A flow is a bijection of a plane without a hole, so it has to tear the ring open somewhere.

figure, axes = plt.subplots(1, 5, figsize=(15, 3.3), sharey=True, layout="constrained")
for ax, (name, values) in zip(axes, maps.items(), strict=True):
    density = np.exp(values).reshape(len(sides), len(sides))
    image = ax.pcolormesh(
        sides, sides, density, vmin=0, vmax=1.2 * np.exp(maps["true"]).max(), shading="gouraud"
    )
    title = "true density" if name == "true" else f"{name}: {lacks[name]:.2f} nats"
    ax.set(title=title, aspect="equal")
figure.colorbar(image, ax=axes, label="density", shrink=0.9)
plt.show()
