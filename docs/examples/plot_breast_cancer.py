"""
Scores, a threshold and p-values
================================

The detector is trained on benign tumours alone. Which of the new ones are unlike them, and how many
false alarms does that cost?
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.model_selection import train_test_split

from skgenad import MPDR
from skgenad.datasets import load_builtin

# %%
# A fifth of the rows is held out of training, for the threshold and for p-values.

X, y = load_builtin("breast_cancer", return_X_y=True)
normal_train, normal_test = train_test_split(X[y == 0], test_size=0.4, random_state=0)
anomalies = X[y == 1]
detector = MPDR(contamination=0.1, random_state=0).fit(normal_train)

# %%
# ``predict`` flags what scores above the threshold, one in ten of new normal rows.
# A p-value of at most 0.05 is a rule with a guarantee: a normal row is flagged with a probability
# of at most 0.05.

for name, rows in {"normal": normal_test, "anomalies": anomalies}.items():
    flagged = (detector.predict(rows) == -1).mean()
    significant = (detector.p_value(rows) <= 0.05).mean()
    print(f"{name}: {flagged:.2f} flagged by predict, {significant:.2f} with p <= 0.05")

# %%
# On the right, the share of rows that a rule "flag if p <= alpha" flags: of normal rows hardly more
# than alpha (the guarantee holds on average over calibration and test rows), of anomalies most.

both = {"normal rows (test)": normal_test, "anomalies": anomalies}
colours = ["tab:blue", "tab:orange"]
scores = [detector.anomaly_score(rows) for rows in both.values()]

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
bins = np.linspace(min(map(np.min, scores)), max(map(np.max, scores)), 30)
left.hist(scores, bins=bins, label=list(both), color=colours, histtype="stepfilled", alpha=0.6)
left.axvline(-detector.offset_, color="black", linestyle="--", label="threshold of predict")
left.yaxis.set_major_locator(MaxNLocator(integer=True))
left.set(xlabel="anomaly score (higher is more anomalous)", ylabel="number of rows")
left.legend()
for (name, rows), colour in zip(both.items(), colours, strict=True):
    right.ecdf(detector.p_value(rows), label=name, color=colour, linewidth=2)
right.axline((0, 0), slope=1, color="black", linestyle="--", label="guarantee for normal rows")
right.set(xlabel="alpha", ylabel="share of rows with p <= alpha", xlim=(0, 1), ylim=(0, 1.02))
right.legend(loc="lower right")
plt.show()
