"""
What detectors have learnt to draw
==================================

A generative detector can be asked for rows like those of its training. That is the quickest way to
see what it takes for normal.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skgenad import VAE, WAE, GaussianMixtures, Glow, KernelDenoiser

# %%
# Handwritten digits of 8 x 8 pixels, zeros to threes. Pixels have one unit, and keep it.

X, y = load_digits(return_X_y=True)
X = X[y < 4] / 16
as_they_are = {"standardize": False, "random_state": 0}
detectors = {
    "KernelDenoiser": KernelDenoiser(**as_they_are),
    "GaussianMixtures": GaussianMixtures(**as_they_are),
    "VAE": VAE(latent_dim=12, max_steps=1000, **as_they_are),
    "WAE": WAE(latent_dim=12, max_steps=1000, **as_they_are),
    "Glow": Glow(image_shape=(1, 8, 8), n_scales=1, n_couplings=4, max_steps=200, random_state=0),
}
for detector in detectors.values():
    detector.fit(X)

# %%
# The kernel density draws training rows with noise on them, the mixture of Gaussians the strokes
# that vary together in one of its components. The autoencoders draw what they can decode, the flow
# strokes without a plan: it was trained for seconds.

sheets = {"training rows": X[:25]}
sheets |= {name: detector.sample(25, random_state=0) for name, detector in detectors.items()}
figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
for ax, (name, rows) in zip(axes.flat, sheets.items(), strict=True):
    images = np.pad(np.reshape(rows, (5, 5, 8, 8)), [(0, 0), (0, 0), (0, 1), (0, 1)])
    ax.imshow(images.swapaxes(1, 2).reshape(45, 45), cmap="gray", vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])
plt.show()
