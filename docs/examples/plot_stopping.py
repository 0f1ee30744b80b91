"""
Stopping early, and going on after a kill
=========================================

Rows that are held out tell when a stage of training has no more to gain; and a fit whose process
was killed goes on from a folder, as if nothing had been.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from skorch.callbacks import Callback

from skgenad import VAE, CheckpointFolder, EarlyStopping
from skgenad.datasets import load_builtin

# %%
# A variational autoencoder, on few rows and for many steps, learns these rows by heart: the loss of
# rows that were held out falls, and then rises. ``stopping`` ends the fit ten epochs after the
# lowest one, and goes back to it.

X, y = load_builtin("breast_cancer", return_X_y=True)
parameters = {"max_steps": 1000, "learning_rate": 3e-3, "random_state": 0}
long = VAE(stopping=EarlyStopping(patience=20), **parameters).fit(X[y == 0])
stopped = VAE(stopping=EarlyStopping(patience=10), **parameters).fit(X[y == 0])

fig, ax = plt.subplots(layout="constrained")
course = long.history_
ax.plot(course["step"], course["loss"], color="0.6", label="training rows")
ax.plot(course["step"], course["validation_loss"], label="rows held out")
best = stopped.history_["validation_loss"].idxmin()
ax.axvline(stopped.history_["step"][best], color="C1", label="weights that are kept")
ax.axvline(stopped.history_["step"].iloc[-1], color="C1", ls="--", label="end with patience 10")
ax.set(xlabel="gradient step", ylabel="negative ELBO, nats", ylim=(0, 60))
ax.legend(loc="lower left")
plt.show()

# %%
# Here a callback breaks a fit off in its fifth epoch, as a kill would. The same call goes on from
# the folder: its epochs are those that were left, and its scores are those of a fit in one piece.


class BreakOff(Callback):
    """Ends the fit as if somebody had pressed Ctrl-C."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 5:
            raise KeyboardInterrupt

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


with tempfile.TemporaryDirectory() as home:
    folder = CheckpointFolder(Path(home) / "run", seconds=0)
    try:
        VAE(random_state=0, callbacks=[BreakOff()]).fit(X, checkpoint=folder)
    except KeyboardInterrupt:
        print("broken off; in the folder:", [file.name for file in folder.file.parent.iterdir()])
    resumed = VAE(random_state=0).fit(X, checkpoint=folder)
    print("folder after the fit:", folder.file.parent.exists())

whole = VAE(random_state=0).fit(X)
print("same bits:", np.array_equal(resumed.score_samples(X), whole.score_samples(X)))
