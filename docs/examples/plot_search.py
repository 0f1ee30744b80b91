"""
Searching parameters with a few labels
======================================

Detectors train on normal rows, and labels of anomalies are for choosing between them. Three things
are unlike other searches: anomalies must not be trained on, the score must not be upside down, and
the winner is to be fitted on normal rows alone.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, train_test_split

from skgenad import KernelDenoiser, Neighbors
from skgenad.datasets import load_builtin
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

# %%
# Handwritten digits: ones are the anomalies, which is the hardest of the ten, as they are made of
# strokes that all other digits have.

X, y = load_builtin("digits_1", return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)

# %%
# ``NormalOnlyCV`` drops anomalies from training folds and keeps them in test folds.
# ``anomaly_roc_auc`` takes y = 1 for anomalies. With ``refit=False`` nothing is fitted on what was
# passed, which has anomalies in it.

grid = {
    "n_neighbors": [1, 2, 5, 10, 20],
    "standardize": ["auto", "mixed", False],
    "scale": ["none", "local"],
}
search = GridSearchCV(
    Neighbors(), grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(5), refit=False
).fit(X, y)
best = Neighbors(**search.best_params_).fit(X[y == 0])
default = Neighbors().fit(X[y == 0])
print(search.best_params_)
for name, detector in {
    "default": default,
    "best": best,
    "kernel": KernelDenoiser().fit(X[y == 0]),
}.items():
    print(f"{name}: AUROC on test rows {anomaly_roc_auc(detector, X_test, y_test):.3f}")

# %%
# Pixels have one unit already. Columns divided by their standard deviations count a corner that is
# hardly ever used as much as the middle, and that is what costs most here.

results = pd.DataFrame(search.cv_results_)
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
limits = {"vmin": results["mean_test_score"].min(), "vmax": results["mean_test_score"].max()}
for ax, (scale, part) in zip(axes, results.groupby("param_scale", sort=False), strict=True):
    table = part.assign(how=part["param_standardize"].astype(str)).pivot_table(
        index="param_n_neighbors", columns="how", values="mean_test_score"
    )
    image = ax.imshow(table, aspect="auto", **limits)
    for i, j in np.ndindex(*table.shape):
        ax.text(j, i, f"{table.iloc[i, j]:.2f}", ha="center", va="center", color="white")
    ax.set(title=f"scale={scale!r}", xlabel="standardize")
    ax.set_xticks(range(table.shape[1]), table.columns)
    ax.set_yticks(range(table.shape[0]), table.index)
axes[0].set_ylabel("n_neighbors")
figure.colorbar(image, ax=axes, label="AUROC, mean of 5 folds")
plt.show()
