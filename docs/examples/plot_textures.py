"""
Defects in a texture
====================

P-WAE cuts an image into patches, encodes each by itself and decodes them together. An image is as
unusual as its worst patch, and a map shows where.
"""

import matplotlib.pyplot as plt
from sklearn.metrics import roc_auc_score

from skgenad import PWAE
from skgenad.datasets import make_textures
from skgenad.inspection import AnomalyMapDisplay

# %%
# Drawn weave, 48 x 48 pixels; images of the test have defects, and masks that say where.

weave = make_textures(categories="weave", size=48, n_train=60, n_test=24, random_state=0)["weave"]
train, test = weave.train, weave.test
detector = PWAE(image_shape=train.data.shape[1:], batch_size=16, max_steps=250, random_state=0)
detector.fit(train.data)

# %%
# Nothing but whole images was trained on, for seconds; larger images and more steps find all.

broken = test.target == 1
auroc = roc_auc_score(test.target, detector.anomaly_score(test.data))
maps = detector.anomaly_map(test.data[broken])
pixels = roc_auc_score((test.masks[broken] > 0).ravel(), maps.ravel())
print(f"AUROC of images {auroc:.2f}, of pixels {pixels:.2f}")

# %%
# Images, masks and maps, on one scale of colours.

AnomalyMapDisplay.from_estimator(detector, test.data[broken][:6], test.masks[broken][:6])
plt.show()
