"""
Sensors: what is odd about a stretch of time
============================================

Every value of a sensor may be one that it always has, and still the machine has stopped, or two
sensors no longer move together. What is odd is then a stretch of time. ``SlidingWindows`` makes the
stretches rows, and takes what a detector says of them back to time steps.
"""

import matplotlib.pyplot as plt
import numpy as np

from skgenad import Neighbors
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import SlidingWindows

# %%
# A pump with a valve that opens and shuts some every thirty seconds, and the flow through it, which
# follows two seconds later.

rng = np.random.RandomState(0)


def recording(n):
    phase = np.cumsum(2 * np.pi / 30 * (1 + 0.15 * rng.randn(n + 2)))
    valve = np.tanh(3 * np.sin(phase)) + 0.05 * rng.randn(n + 2)
    flow = 2 + valve[:-2] + 0.1 * rng.randn(n)
    return np.column_stack([valve[2:], flow])


normal, series = recording(3000), recording(900)
faults = {"valve sticks": (200, 245), "flow is late": (450, 510), "pump trembles": (700, 730)}
series[slice(*faults["valve sticks"])] = series[199] + 0.05 * rng.randn(45, 2)
series[slice(*faults["flow is late"]), 1] = series[440:500, 1]
series[slice(*faults["pump trembles"]), 1] = 2 + rng.choice([-1, 1], 30) * 0.9

# %%
# The same detector on single steps and on windows of 20. For the threshold the end of the recording
# is held out: windows drawn at random would share their steps with windows of the training.

models = {
    name: make_pipeline(SlidingWindows(width), Neighbors(random_state=0)).fit(
        normal, neighbors__calibration="last"
    )
    for name, width in (("single steps", 1), ("windows of 20", 20))
}
found = {
    name: model[0].inverse_scores(model.decision_function(series)) for name, model in models.items()
}

# %%
# Below 0 is beyond the threshold, as one normal window in ten is. While the valve sticks, no single
# step is odd: halfway between open and shut is where it often passes.

figure, axes = plt.subplots(4, 1, figsize=(11, 8), sharex=True, layout="constrained")
for ax, values, label in zip(axes, series.T, ("valve", "flow"), strict=False):
    ax.plot(values, linewidth=0.8, color="0.3")
    ax.set_ylabel(label)
for ax, (name, decision) in zip(axes[2:], found.items(), strict=True):
    ax.plot(decision, linewidth=1)
    beyond = decision < 0
    ax.fill_between(range(len(decision)), decision, 0, where=beyond, color="tab:red", alpha=0.5)
    ax.axhline(0, color="black", linestyle="--", linewidth=0.8)
    ax.set_ylabel(f"decision,\n{name}")
for ax in axes:
    for start, end in faults.values():
        ax.axvspan(start, end, color="tab:orange", alpha=0.2)
for name, (start, _) in faults.items():
    axes[0].text(start, 1.35, name)
axes[0].set_ylim(-1.3, 1.7)
axes[-1].set_xlabel("time step")
plt.show()
