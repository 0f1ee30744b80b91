"""
Between two images, patch by patch
==================================

P-WAE encodes the patches of an image one by one and decodes them together. `LatentFeatures` gives
these codes, and makes images of codes: here those of a single patch, or of all, go from those of
one image to those of another, as in the paper's figure of interpolations.
"""

import matplotlib.pyplot as plt
import numpy as np

from skgenad import PWAE
from skgenad.datasets import make_textures
from skgenad.preprocessing import LatentFeatures

# %%
# Drawn buttons of 48 x 48 pixels, cut into 3 x 3 patches. Codes come patch after patch.

made = make_textures(categories="button", size=48, n_train=60, n_test=8, random_state=0)["button"]
shape = made.train.data.shape[1:]
detector = PWAE(image_shape=shape, batch_size=16, max_steps=300, random_state=0)
features = LatentFeatures(detector).fit(made.train.data)
good = made.test.data[made.test.target == 0][:2]
codes = features.transform(good).reshape(2, 9, -1)
print(codes.shape)

# %%
# Five images on the way from the first button to the second, with the codes of the patch in the
# middle, of the one at the top left, or of all nine.


def between(patches, share):
    """The codes of the first image, with those of some patches on the way to the second's."""
    mixed = codes[0].copy()
    mixed[patches] += share * (codes[1] - codes[0])[patches]
    return mixed.ravel()


shares = np.linspace(0, 1, 5)
rows = {"middle": [4], "top left": [0], "all": range(9)}
images = {
    name: features.inverse_transform([between(list(patches), share) for share in shares])
    for name, patches in rows.items()
}

# %%
# The decoder sees all codes at once: a patch of another button is joined to its neighbours. Where
# it does not belong to them, the seam shows; so does the ground, whose light was another.

figure, axes = plt.subplots(len(rows), 7, figsize=(9, 4), layout="constrained")
for line, (name, made_of_it) in zip(axes, images.items(), strict=True):
    way = [image.reshape(shape).clip(0, 1) for image in made_of_it]
    for ax, image in zip(line, [good[0], *way, good[1]], strict=True):
        ax.imshow(image.transpose(1, 2, 0))
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
for ax, title in zip(axes[0], ["image", *(f"{s:.2f}" for s in shares), "image"], strict=True):
    ax.set_title(title)
plt.show()
