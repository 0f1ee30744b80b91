"""
Likelihoods that prefer blank walls
===================================

A model of images gives the highest likelihood to smooth ones, whatever is on them. The ratio to a
second model, which knows images in general, takes that out.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skgenad import LikelihoodRatio, PixelCNN

# %%
# Zeros to threes are normal. Two kinds of anomalies: eights and nines, and digits that are blurred,
# which a likelihood takes for very normal.

X, y = load_digits(return_X_y=True)
images = (X * 15.9375).astype(np.uint8)
normal, general, others = images[y < 4], images[(y >= 4) & (y < 8)], images[y >= 8]
train, test = normal[:500], normal[500:]
square = test.reshape(-1, 8, 8).astype(float)
for axis in (1, 2):
    square = (np.roll(square, 1, axis) + 2 * square + np.roll(square, -1, axis)) / 4
kinds = {"eights and nines": others, "blurred": square.astype(np.uint8).reshape(-1, 64)}

# %%
# One model is trained on normal images, the other on these and on fours to sevens.

model = PixelCNN(image_shape=(1, 8, 8), max_steps=250, random_state=0)
ratio = LikelihoodRatio(model).fit(train, X_general=np.vstack([train, general]))
scores = {
    "likelihood": ratio.detector_.anomaly_score,
    "likelihood ratio": ratio.anomaly_score,
}

# %%
# Higher is more anomalous.

figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for ax, (name, score) in zip(axes, scores.items(), strict=True):
    of_normal = score(test)
    ax.hist(of_normal, bins=30, density=True, alpha=0.6, label="normal, new", color="tab:blue")
    for (kind, rows), colour in zip(kinds.items(), ("tab:orange", "tab:green"), strict=True):
        values = score(rows)
        labels = np.repeat([0, 1], [len(of_normal), len(values)])
        auroc = roc_auc_score(labels, np.r_[of_normal, values])
        label = f"{kind}: AUROC {auroc:.2f}"
        ax.hist(values, bins=30, density=True, histtype="step", lw=2, color=colour, label=label)
    ax.set(title=name, xlabel="anomaly score (nats)", yticks=[])
    ax.legend()
plt.show()
