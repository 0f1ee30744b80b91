"""
Choosing without labels
=======================

Nobody has told which rows are anomalies. What can be asked of a detector then is whether its
likeliest rows fill little room: mass-volume and excess-mass curves say so. Whether it finds
anomalies is another question, and here both can be answered.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skgenad import GaussianMixtures, Mahalanobis, Neighbors
from skgenad.datasets import load_builtin
from skgenad.metrics import anomaly_score, excess_mass, excess_mass_curve, mass_volume_curve

# %%
# Benign tumours, three columns out of thirty: the more columns, the less a box says about them.

X, y = load_builtin("breast_cancer", return_X_y=True)
X = X[:, [0, 1, 4]]  # radius, texture, smoothness
train, new = train_test_split(X[y == 0], test_size=0.4, random_state=0)
rows = np.concatenate([new, X[y == 1]])
labels = np.repeat([0, 1], [len(new), (y == 1).sum()])
detectors = {
    "Neighbors": Neighbors(random_state=0),
    "Mahalanobis": Mahalanobis(random_state=0),
    "GaussianMixtures": GaussianMixtures(random_state=0),
    "IsolationForest": IsolationForest(random_state=0),
}

# %%
# Each threshold of a score makes a set of rows. Its mass is the share of new rows in it, its volume
# the share of uniform ones. The lower the volume for a mass (left), and the more mass there is in
# excess of a level times the volume (middle), the more a score is like a density. The area under
# the middle curve is ``excess_mass``, which needs no labels. On the right it is set against the
# AUROC, which does: the worst by the one is the worst by the other, but the best is not. Four
# detectors on one table show nothing; "Without labels" in the guide has what it is worth on many.

low, high = X[y == 0].min(axis=0), X[y == 0].max(axis=0)
uniform = np.random.RandomState(0).uniform(low, high, (20_000, 3))
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for name, detector in detectors.items():
    detector.fit(train)
    scores = anomaly_score(detector, new), anomaly_score(detector, uniform)
    axes[0].plot(*mass_volume_curve(*scores), drawstyle="steps-pre", label=name)
    axes[1].plot(*excess_mass_curve(*scores), label=name)
    area = excess_mass(detector, train, new)
    auroc = roc_auc_score(labels, anomaly_score(detector, rows))
    axes[2].plot(area, auroc, "o")
axes[0].set(title="mass-volume", xlabel="mass", ylabel="volume", xlim=(0.5, 1))
axes[1].set(title="excess mass", xlabel="level", ylabel="excess mass", xlim=(0, 25))
axes[2].set(title="criterion and truth", xlabel="excess_mass", ylabel="AUROC")
axes[0].legend()
plt.show()
