"""
Sounds: a machine that hums otherwise, and one that knocks
==========================================================

A recording of a machine has thousands of spectra, and a verdict is wanted about the whole of it.
``LogMelFrames`` makes spectra of files or waveforms. Their mean is one row of a clip, which any
detector takes; ``GroupedDetector`` scores all of them and puts the scores together. Which of these
is better depends on what is wrong: something that is there all the time, or now and then.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skgenad import GroupedDetector, Mahalanobis
from skgenad.inspection import SpectrogramDisplay
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import LogMelFrames

# %%
# Three seconds of a motor: a hum of 120 Hz whose speed and loudness differ from clip to clip, with
# harmonics, in the noise of a hall. A worn gear adds a soft whine at 2.4 kHz. A damaged bearing
# knocks about once a second: a ring of some milliseconds at 5 kHz.

RATE, SECONDS = 16000, 3
rng = np.random.RandomState(0)
time = np.arange(SECONDS * RATE) / RATE


def hum():
    speed = 120 * (1 + 0.01 * rng.randn())
    wobble = np.cumsum(rng.randn(len(time))) / RATE
    wave = sum(np.sin(k * (2 * np.pi * speed * time + wobble)) / k for k in range(1, 12))
    hall = np.convolve(rng.randn(len(time)), np.exp(-np.arange(12) / 2) / 2, mode="same")
    return 0.1 * np.exp(0.2 * rng.randn()) * wave + 0.05 * np.exp(0.2 * rng.randn()) * hall


def whine():
    return hum() + 0.006 * np.sin(2 * np.pi * 2400 * time + 2 * np.pi * rng.rand())


def knocks():
    wave = hum()
    for start in rng.randint(0, len(time) - 400, SECONDS):
        wave[start : start + 400] += (
            0.25 * np.exp(-time[:400] * 300) * np.sin(2 * np.pi * 5000 * time[:400])
        )
    return wave


normal = [hum() for _ in range(60)]
test = {kind.__name__: [kind() for _ in range(30)] for kind in (hum, whine, knocks)}

# %%
# The same Gaussian three times: of the clips' mean spectra; of single spectra, a clip having their
# mean score; and of these with the mean of the most anomalous twentieth. Files do as well: pass
# their paths.

models = {
    "mean spectrum": make_pipeline(
        LogMelFrames(n_frames=1, pool="mean"), Mahalanobis(shrinkage="auto", random_state=0)
    ),
    "frames, mean": GroupedDetector(
        Mahalanobis(shrinkage="auto"), features=LogMelFrames(n_frames=1), random_state=0
    ),
    "frames, top 5 %": GroupedDetector(
        Mahalanobis(shrinkage="auto"),
        features=LogMelFrames(n_frames=1),
        reduce=0.05,
        random_state=0,
    ),
}
aucs = {}
for name, model in models.items():
    model.fit(normal)
    of_normal = -model.score_samples(test["hum"])
    for kind in ("whine", "knocks"):
        scores = np.concatenate([of_normal, -model.score_samples(test[kind])])
        aucs[name, kind] = roc_auc_score(np.repeat([0, 1], 30), scores)

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for k, kind in enumerate(("whine", "knocks")):
    places = np.arange(len(models)) + 0.35 * k - 0.175
    bars = ax.bar(places, [aucs[name, kind] for name in models], width=0.33, label=kind)
    ax.bar_label(bars, fmt="%.2f", padding=2)
ax.set_xticks(range(len(models)), list(models))
ax.set_ylim(0.4, 1.3)
ax.set_yticks(np.arange(0.4, 1.01, 0.2))
ax.axhline(0.5, color="black", linestyle="--", linewidth=0.8)
ax.set_ylabel("AUROC of clips")
ax.legend(loc="upper center", ncols=2)

# %%
# The whine is too soft for any one spectrum, but the mean of all is precise; the knocks are in few
# of them, and all others only add noise to a mean. Where in a clip that knocks is it odd? The line
# is the threshold of clips. Beyond its ends a clip is silent, as its first spectrum shows.

SpectrogramDisplay.from_estimator(models["frames, top 5 %"], test["knocks"][0])
plt.show()
