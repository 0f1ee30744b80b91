"""
A code among measurements
=========================

One -9999 for "missing" makes the standard deviation of its column its own, and in such units all
other rows are one point. Values like it are found before training, and named.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgenad import DataWarning, Neighbors
from skgenad.datasets import load_builtin

# %%
# A single value of the training rows is replaced.

X, y = load_builtin("wine_0", return_X_y=True)
train, test = train_test_split(X[y == 0], test_size=0.4, random_state=0)
spoilt = train.copy()
spoilt[3, 12] = -9999
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", DataWarning)
    detector = Neighbors(random_state=0).fit(spoilt)
print(caught[0].message)

# %%
# Beside it the same detector with columns standardised by hand.

scaler = StandardScaler().fit(spoilt)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DataWarning)  # too late: the scaler has used it
    by_hand = Neighbors(standardize=False, random_state=0).fit(scaler.transform(spoilt))
rows, labels = np.vstack([test, X[y == 1]]), np.repeat([0, 1], [len(test), (y == 1).sum()])
scores = {
    "clean training rows": Neighbors(random_state=0).fit(train).anomaly_score(rows),
    "with -9999, StandardScaler": by_hand.anomaly_score(scaler.transform(rows)),
    "with -9999, as it comes": detector.anomaly_score(rows),
}

# %%
# The column with the code is the one that tells these wines apart best.

figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
for ax, (name, values) in zip(axes, scores.items(), strict=True):
    parts = [values[labels == 0], values[labels == 1]]
    ax.hist(parts, bins=20, stacked=True, color=["tab:blue", "tab:orange"])
    ax.set(title=f"{name}: AUROC {roc_auc_score(labels, values):.3f}", xlabel="anomaly score")
axes[0].legend(["normal, new", "anomalies"])
axes[0].set_ylabel("rows")
plt.show()
