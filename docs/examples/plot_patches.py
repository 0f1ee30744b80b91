"""
Defects on photographs
======================

A network that was trained on other photographs says what is in each place of an image. One
detector learns what normal places look like, of two kinds of things at once; an image is as unusual
as its worst place.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skgenad import Neighbors, PatchDetector
from skgenad.datasets import make_textures
from skgenad.inspection import AnomalyMapDisplay, ContactSheetDisplay, LocalizationDisplay
from skgenad.preprocessing import ImageFeatures

# %%
# Drawn bolts and wood, 64 x 64 pixels. EfficientNet-lite0 comes with the extra ``vision``; its
# features of a place are those of four blocks, 256 numbers.

made = make_textures(categories=["bolt", "wood"], size=64, n_train=30, n_test=24, random_state=0)
train = np.concatenate([bunch.train.data for bunch in made.values()])
test = np.concatenate([bunch.test.data for bunch in made.values()])
y = np.concatenate([bunch.test.target for bunch in made.values()])
masks = np.concatenate([bunch.test.masks for bunch in made.values()])
features = ImageFeatures(pool=None, size=128)
detector = PatchDetector(Neighbors(n_neighbors=1), features=features, random_state=0).fit(train)
print(f"AUROC of images {roc_auc_score(y, detector.anomaly_score(test)):.2f}")

# %%
# Where something is unusual. The detector saw no defect, and was not told of kinds.

some = np.flatnonzero(y)[::8]
AnomalyMapDisplay.from_estimator(detector, test[some], masks[some])
plt.show()

# %%
# The images that a person should look at first.

ContactSheetDisplay.from_estimator(detector, test, y, n_images=18)
plt.show()

# %%
# How well maps locate defects, where masks are known.

LocalizationDisplay.from_estimator(detector, test, masks)
plt.show()
