"""
Where an image is unusual
=========================

A detector of images with an autoencoder says not only that an image is an anomaly, but where:
``anomaly_map`` is the error of every pixel. Here handwritten digits of 8 x 8 pixels get a defect, a
piece of a stroke that is missing or one too many, and the map finds it.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skgenad import Autoencoder
from skgenad.inspection import AnomalyMapDisplay, ReconstructionDisplay
from skgenad.networks import Conv

# %%
# Pixels lie in [0, 1]; images come as arrays (n, channels, height, width). The latent space is
# small: a defect must not have a place in it.

X = load_digits().images[:, None] / 16
train, test = X[:1400], X[1400:]
detector = Autoencoder(
    image_shape=(1, 8, 8), network=Conv(width=0.5), latent_dim=12, random_state=0
).fit(train)

# %%
# A defect turns a square of 2 x 2 pixels over, from dark to bright or back, wherever its four
# pixels are all dark or all bright. That is 6 % of the image, and the mask says which.

rng = np.random.RandomState(0)
broken, masks = test.copy(), np.zeros((len(test), 8, 8))
for image, mask in zip(broken[:, 0], masks, strict=True):
    corners = [(y, x) for y in range(7) for x in range(7)]
    clear = [c for c in corners if abs(image[c[0] : c[0] + 2, c[1] : c[1] + 2].mean() - 0.5) > 0.45]
    y, x = clear[rng.randint(len(clear))]
    mask[y : y + 2, x : x + 2] = 1
    image[mask > 0] = 1 - image[mask > 0]

# %%
# How well do the scores find the images with a defect, and the maps the pixels of it?

scores = np.r_[detector.anomaly_score(test), detector.anomaly_score(broken)]
auroc = roc_auc_score(np.repeat([0, 1], len(test)), scores)
maps = detector.anomaly_map(broken)
pixel_auroc = roc_auc_score(masks.ravel(), maps.ravel())
print(f"AUROC of images {auroc:.2f}, of pixels {pixel_auroc:.2f}")

# %%
# The first image is whole, the others are not. All maps have one scale of colours, so that the
# small errors of the first one stay dark.

shown = [5, 30, 60, 99]
images = np.concatenate([test[1:2], broken[shown]])
outlines = np.concatenate([np.zeros((1, 8, 8)), masks[shown]])
AnomalyMapDisplay.from_estimator(detector, images, outlines)
plt.show()

# %%
# The mean of a map over its pixels is the error by which this detector scores. The broken images
# with the lowest scores, those that are missed first, are those in which the defect might be a part
# of a digit: a stroke that is a bit longer or wider, the hole of a zero.

lowest = detector.anomaly_score(broken).argsort()[:8]
ReconstructionDisplay.from_estimator(detector, broken[lowest])
plt.show()
