"""
A stream in which new kinds of rows come up
===========================================

What is normal grows: a new product is made, a new machine is connected. ``partial_fit`` takes the
rows of the day, and model, units and threshold follow. A detector that was fitted once goes on to
flag what has become normal long ago.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skgenad import Neighbors

# %%
# Handwritten digits in batches of 25: zeros and ones for five batches, then twos come in, then
# threes, then fours. Eights and nines never do: they are the anomalies.

X, y = load_digits(return_X_y=True)
rng = np.random.RandomState(0)
anomalies = X[y >= 8]
rows_of = {digit: list(rng.permutation(X[y == digit])) for digit in range(5)}
seen_by_batch = [(0, 1)] * 5 + [(0, 1, 2)] * 4 + [(0, 1, 2, 3)] * 4 + [(0, 1, 2, 3, 4)] * 4
batches = [
    np.array([rows_of[digit].pop() for digit in rng.choice(digits, 25)]) for digits in seen_by_batch
]

# %%
# Five batches are the training table. Each of the others is scored before it is learnt. Pixels have
# one unit, and keep it.

detectors = {
    name: Neighbors(standardize=False, random_state=0) for name in ("fitted once", "partial_fit")
}
flagged = {name: [] for name in detectors}
aurocs = {name: [] for name in detectors}
for name, detector in detectors.items():
    detector.fit(np.vstack(batches[:5]))
    for batch in batches[5:]:
        flagged[name].append((detector.predict(batch) == -1).mean())
        scores = detector.anomaly_score(np.vstack([batch, anomalies]))
        labels = np.repeat([0, 1], [len(batch), len(anomalies)])
        aurocs[name].append(roc_auc_score(labels, scores))
        if name == "partial_fit":
            detector.partial_fit(batch)

# %%
# Where a new digit comes up it is an anomaly, and rightly so. After a batch or two it is not.

figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharex=True, layout="constrained")
places = np.arange(6, 6 + len(batches[5:]))
for name, colour in (("fitted once", "tab:orange"), ("partial_fit", "tab:blue")):
    axes[0].plot(places, flagged[name], "o-", color=colour, label=name)
    axes[1].plot(places, aurocs[name], "o-", color=colour, label=name)
axes[0].axhline(0.1, color="black", linestyle="--", label="asked for")
axes[0].set(xlabel="batch", ylabel="share of its rows flagged", ylim=(-0.02, 1.02))
axes[1].set(xlabel="batch", ylabel="AUROC: its rows and eights and nines", ylim=(0.38, 1.01))
for ax in axes:
    ax.set_xticks(places[::2])
    for start, digit in ((6, "twos"), (10, "threes"), (14, "fours")):
        ax.axvline(start - 0.5, color="0.7", linewidth=1)
        ax.text(start - 0.4, ax.get_ylim()[1], digit, va="bottom")
axes[0].legend()
plt.show()
