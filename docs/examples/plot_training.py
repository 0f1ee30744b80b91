"""
Reading the course of training
==============================

``history_`` has a line for each epoch of each stage, and ``TrainingDisplay`` draws it. It shows
whether a stage was long enough, and what the energies of data and negatives do.
"""

import warnings

import matplotlib.pyplot as plt

from skgenad import NAE
from skgenad.datasets import load_builtin
from skgenad.inspection import TrainingDisplay

# %%
# An autoencoder is pretrained, then becomes an energy that is trained by negatives from its own
# chains. The first loss falls and settles. In the second stage the places that the chains arrive at
# are pushed up, while the data stays low, until both settle.

X, y = load_builtin("breast_cancer", return_X_y=True)
detector = NAE(max_steps=500, random_state=0).fit(X[y == 0])
TrainingDisplay.from_estimator(detector)
plt.show()

# %%
# The table itself, with one line for each epoch of 50 steps:

print(detector.history_.groupby("stage").tail(2).T)

# %%
# A learning rate that is far too large does not pass in silence: the stage is stopped, the last
# good weights are put back, and a warning says so.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    NAE(learning_rate=10.0, pretrain_steps=200, max_steps=100, random_state=0).fit(X[y == 0])
print(caught[0].category.__name__, caught[0].message, sep=": ")
