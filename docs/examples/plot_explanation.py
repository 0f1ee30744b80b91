"""
Why was this row flagged?
=========================

``explain`` says how much each column adds to the anomaly score, and ``repair`` what would be normal
in its place. Both look at columns together: a value may be usual by itself, and odd beside others.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skgenad import Committee
from skgenad.inspection import ExplanationDisplay

# %%
# Benign tumours train. A new one gets the radius of another: 17 mm is no rare value, but its
# perimeter and area belong to a smaller one.

data = load_breast_cancer(as_frame=True)
benign = data.data[data.target == 1]
train, test = train_test_split(benign, test_size=0.2, random_state=0)
detector = Committee(random_state=0).fit(train)
row = test.iloc[[6]].copy()
print(f"p-value as it was: {detector.p_value(row)[0]:.3f}")
row["mean radius"] = 17.0
print(f"p-value with another radius: {detector.p_value(row)[0]:.3f}")

# %%
# The bars add up to what the score loses when the row is repaired. On the right stand the value,
# the repaired value, and where nine of ten training rows lie.

ExplanationDisplay.from_estimator(detector, row, row=0, max_features=6)
plt.show()

# %%
# Numbers, for many rows:

contributions = pd.DataFrame(detector.explain(row), columns=row.columns, index=row.index)
print(contributions.T.squeeze().nlargest(3).round(2))
repaired = detector.repair(row)
print(repaired.compare(row, result_names=("repaired", "row")).T)
