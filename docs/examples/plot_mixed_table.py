"""
A table with categories, dates and missing values
=================================================

Deliveries of a warehouse: a date, a category, weights that are missing now and then. A pipeline
makes numbers of them for a detector, and says in the table's own columns what is odd about a row.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from skgenad import Mahalanobis
from skgenad.inspection import ExplanationDisplay
from skgenad.pipeline import make_pipeline

# %%
# Heavy goods go by rail, on weekdays, and arrive later. One weight in eight was not written down.

rng = np.random.default_rng(0)
n = 1200
goods = rng.choice(["paper", "steel", "glass"], n, p=[0.5, 0.3, 0.2])
weight = rng.normal(pd.Series(goods).map({"paper": 4, "steel": 22, "glass": 9}), 1.2)
day = rng.integers(0, 52, n) * 7 + rng.integers(0, np.where(goods == "steel", 5, 7))
table = pd.DataFrame(
    {
        "sent": pd.Timestamp("2026-01-05")
        + pd.to_timedelta(day * 24 + rng.integers(6, 20, n), unit="h"),
        "goods": pd.Categorical(goods),
        "weight": np.where(rng.random(n) < 0.125, np.nan, weight),
        "boxes": pd.array(rng.poisson(weight) + 1, dtype="Int64"),
        "express": rng.random(n) < 0.1,
        "days": rng.gamma(8, np.where(goods == "steel", 0.6, 0.25)),
    }
)
print(table.head(4))

# %%
# Each column by its kind. A function makes the day of the week and the hour of a date; an imputer
# fills weights and keeps a flag where there was none.


def week_and_hour(frame):
    """Return days of the week and hours of a column of dates."""
    times = frame.iloc[:, 0].dt
    return np.column_stack([times.day_of_week >= 5, times.hour])


prepare = make_column_transformer(
    (FunctionTransformer(week_and_hour), ["sent"]),
    (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["goods"]),
    (SimpleImputer(add_indicator=True), ["weight", "boxes", "days"]),
    ("passthrough", ["express"]),
)
train, new = table[:1000], table[1000:].reset_index(drop=True)
pipe = make_pipeline(prepare, Mahalanobis(random_state=0)).fit(train)

# %%
# Paper as heavy as steel, on a Sunday: no value of this row is rare.

new.loc[0, ["goods", "weight", "boxes", "days"]] = ["paper", 22.0, 21, 5.0]
new.loc[0, "sent"] = pd.Timestamp("2026-05-03 10:00")
print(f"p-value: {pipe.p_value(new[:1])[0]:.4f}")

# %%
# The contributions of what was made of a column are added up. Dates have no inverse here, so what
# is repaired takes them from training rows.

ExplanationDisplay.from_estimator(pipe, new, 0, reference=train)
plt.show()

# %%
# The repaired row is a frame of the same types:

print(pipe.repair(new[:1], reference=train).T)
