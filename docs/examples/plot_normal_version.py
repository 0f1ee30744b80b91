"""
The normal version of a row
===========================

What would this row be if it were normal? The exact denoiser of the training rows answers by a mean
of those that lie around it, an autoencoder by what its bottleneck lets through.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skgenad import Autoencoder, KernelDenoiser

# %%
# Digits of which a square of 3 x 3 pixels is blotted out.

images = load_digits().data / 16
train, test = train_test_split(images, test_size=300, random_state=0)
rng = np.random.RandomState(0)
blotted = test.copy()
is_blot = np.zeros((len(test), 8, 8), dtype=bool)
for mask in is_blot:
    top, left = rng.randint(1, 5, 2)
    mask[top : top + 3, left : left + 3] = True
is_blot = is_blot.reshape(-1, 64)
blotted[is_blot] = 1 - blotted[is_blot].round()

# %%
# Pixels have a unit in common, so columns are left as they are.

denoiser = KernelDenoiser(standardize=False, random_state=0).fit(train)
autoencoder = Autoencoder(standardize=False, latent_dim=12, random_state=0).fit(train)
repaired = {
    "as it was": test,
    "blotted": blotted,
    "KernelDenoiser": denoiser.reconstruct(blotted),
    "Autoencoder": autoencoder.reconstruct(blotted),
}
for name in ("KernelDenoiser", "Autoencoder"):
    off = [np.abs(rows - test)[is_blot].mean() for rows in (blotted, repaired[name])]
    print(f"{name}: error of a blotted pixel {off[1]:.2f}, before {off[0]:.2f}")

# %%
# What is repaired is a mean of what it might have been, and so it is less sharp. The last five
# might have been an eight.

figure, axes = plt.subplots(4, 10, figsize=(11, 4.8), layout="constrained")
for line, (name, rows) in zip(axes, repaired.items(), strict=True):
    for ax, row in zip(line, rows[:10], strict=True):
        ax.imshow(row.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
