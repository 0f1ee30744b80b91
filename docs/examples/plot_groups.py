"""
Rows that are not independent
=============================

Five recordings of one person are alike. If some of them train and others set the threshold, it is
set for known persons, and a new person is an anomaly. ``groups`` holds whole persons out.
"""

import matplotlib.pyplot as plt
import numpy as np

from skgenad import Neighbors

# %%
# Each person has a place of his or her own, and recordings that scatter around it.


def recordings(n_persons, rng):
    """Draw six recordings (6 n, 8) of each of n persons, and whose they are."""
    places = rng.randn(n_persons, 8)
    persons = np.repeat(np.arange(n_persons), 6)
    return places[persons] + 0.15 * rng.randn(len(persons), 8), persons


# %%
# Detectors with a tenth as the share to flag, fitted 30 times to 25 persons each. New recordings
# are of persons that no fit has seen.

ways = {
    "rows held out at random": lambda persons: {"calibration": "random"},
    "persons held out": lambda persons: {"groups": persons},
}
shares = {name: [] for name in ways}
for seed in range(30):
    rng = np.random.RandomState(seed)
    X, persons = recordings(25, rng)
    new, _ = recordings(200, rng)
    for name, arguments in ways.items():
        detector = Neighbors(contamination=0.1, calibration_fraction=0.3, random_state=seed)
        detector.fit(X, **arguments(persons))
        shares[name].append((detector.predict(new) == -1).mean())

# %%
# The rate of false alarms is the one that was asked for only if the rows held out are as new to the
# detector as those to come. How many persons there are decides how sharp it is, not how many rows.

figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
for place, values in enumerate(shares.values()):
    jitter = place + 0.06 * np.random.RandomState(0).randn(len(values))
    ax.scatter(values, jitter, s=22, alpha=0.7)
    ax.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color="black")
ax.axvline(0.1, color="black", linestyle="--")
ax.set(yticks=(0, 1), yticklabels=list(shares), xlabel="share of new persons' recordings flagged")
ax.set(ylim=(-0.6, 1.6), xlim=(0, 1.02))
plt.show()
