"""
Detectors of others
===================

Any estimator with ``score_samples`` becomes a detector with thresholds and p-values, and pyod's
detectors get scikit-learn's signs. So they can be compared, and be members of a committee.
"""

import matplotlib.pyplot as plt
import numpy as np
from pyod.models.ecod import ECOD
from pyod.models.knn import KNN
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity

from skgenad import Committee, Neighbors
from skgenad.compat import PyODDetector, ScoreDetector
from skgenad.datasets import load_builtin

# %%
# Half of the benign tumours train; the others, and the malignant ones, are scored.

X, y = load_builtin("breast_cancer", return_X_y=True)
train, test = train_test_split(X[y == 0], test_size=0.5, random_state=0)
rows, labels = np.vstack([test, X[y == 1]]), np.repeat([0, 1], [len(test), (y == 1).sum()])
detectors = {
    "IsolationForest": ScoreDetector(IsolationForest(), random_state=0),
    "KernelDensity": ScoreDetector(KernelDensity(bandwidth=2.0), random_state=0),
    "pyod's KNN": PyODDetector(KNN()),
    "pyod's ECOD": PyODDetector(ECOD()),
    "Committee": Committee(random_state=0),
}

# %%
# Members of a committee may be anybody's:

mixed = [("near", Neighbors()), ("forest", IsolationForest()), ("ecod", PyODDetector(ECOD()))]
detectors["committee of three"] = Committee(mixed, random_state=0)
scores = {name: detector.fit(train).anomaly_score(rows) for name, detector in detectors.items()}

# %%
# Scores have different units, so curves and ranks are what can be compared.

figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
for ax, (name, values) in zip(axes.flat, scores.items(), strict=True):
    ranks = values.argsort().argsort() / len(values)
    parts = [ranks[labels == 0], ranks[labels == 1]]
    ax.hist(parts, bins=25, stacked=True, color=["tab:blue", "tab:orange"])
    ax.set(title=f"{name}: AUROC {roc_auc_score(labels, values):.3f}", yticks=[])
for ax in axes[-1]:
    ax.set_xlabel("rank of the anomaly score")
axes[0, 0].legend(["normal, new", "anomalies"])
plt.show()

# %%
# p-values of a forest, from rows held out of it:

forest = detectors["IsolationForest"]
print(f"normal rows with p <= 0.05: {(forest.p_value(test) <= 0.05).mean():.2f}")
print(f"anomalies with p <= 0.05: {(forest.p_value(X[y == 1]) <= 0.05).mean():.2f}")
