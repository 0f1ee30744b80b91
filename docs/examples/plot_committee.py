"""
Why a committee
===============

No detector is the best on all tables, and which one it will be is not known beforehand. The
committee brings the scores of four to one scale, that of tail probabilities of normal rows, and
takes their mean.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skgenad import Committee
from skgenad.datasets import load_builtin

# %%
# Tables that come with scikit-learn: a class is the anomaly, the others are normal.

names = ("breast_cancer", "wine_0", "wine_1", "wine_2", *(f"digits_{d}" for d in range(10)))
lines = {}
for name in names:
    X, y = load_builtin(name, return_X_y=True)
    train, test = train_test_split(X[y == 0], test_size=0.4, random_state=0)
    committee = Committee(random_state=0).fit(train)
    rows, labels = np.vstack([test, X[y == 1]]), np.repeat([0, 1], [len(test), (y == 1).sum()])
    members = committee.member_scores(rows)
    lines[name] = {member: roc_auc_score(labels, -members[member]) for member in members}
    lines[name]["committee"] = roc_auc_score(labels, committee.anomaly_score(rows))

# %%
# Grey are the members. None of them is the best on all tables, and the best on one may be well
# behind on another. The committee is never the worst.

figure, ax = plt.subplots(figsize=(9, 5), layout="constrained")
markers = dict(zip(("neighbors", "nearest", "local", "kernel"), "o^sv", strict=True))
for member, marker in markers.items():
    values = [line[member] for line in lines.values()]
    ax.scatter(values, range(len(names)), marker=marker, s=45, color="0.55", label=member)
values = [line["committee"] for line in lines.values()]
ax.scatter(values, range(len(names)), marker="D", s=55, color="#D55E00", label="committee")
ax.set(yticks=range(len(names)), yticklabels=names, xlabel="AUROC")
ax.invert_yaxis()
ax.grid(axis="y", alpha=0.3)
ax.legend(loc="lower left")
plt.show()

# %%
# Two members that see different things, on the last of these tables. In nats of log tail
# probability -3 is as unusual as one normal row in twenty. Lines of equal score of a mean are
# straight: a row that both find somewhat unusual counts as one that one of them finds very unusual.

figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
for label, colour, name in ((0, "tab:blue", "normal"), (1, "tab:orange", "anomalies")):
    some = members[labels == label]
    ax.scatter(some["nearest"], some["local"], s=12, color=colour, alpha=0.6, label=name)
ax.set(
    xlabel="nearest: log tail probability", ylabel="local: log tail probability", title=names[-1]
)
ax.legend()
plt.show()
