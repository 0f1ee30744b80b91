"""
Thyroid records
===============

3,772 records of patients (Garavan Institute 1987; UCI's "thyroid disease", the file of Weka):
ages, measured hormones, and answers of yes and no, with many cells missing. 291 patients have an
underactive thyroid gland; the others train.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from skgenad import Neighbors
from skgenad.datasets import get_data_home
from skgenad.inspection import ExplanationDisplay
from skgenad.pipeline import make_pipeline

table = pd.read_csv(get_data_home() / "tables" / "hypothyroid.csv")
sick = table.pop("anomaly") == 1
table = table.drop(columns=["class", "TBG"])  # another name of the label, and an empty column
print(table[["age", "sex", "on_thyroxine", "TSH", "T3", "referral_source"]].head(3))
print(f"{table.isna().sum().sum()} cells are missing; rows: {len(table)}, sick: {sick.sum()}")

# %%
# The obvious preparation: medians and indicators for missing numbers, one-hot columns for the
# rest. ``pipe`` has all that its detector has, p-values among it.

healthy = table[~sick].sample(frac=1, random_state=0)
train, held_out, asked = healthy[:1500], healthy[1500:2500], healthy[2500:]
asked = pd.concat([asked, table[sick]])
answers = sick[asked.index]


def prepare(categories):
    """Numbers with what is missing, and categories by a transformer, or "drop"."""
    return make_column_transformer(
        (
            SimpleImputer(strategy="median", add_indicator=True),
            make_column_selector(dtype_include="number"),
        ),
        (categories, make_column_selector(dtype_exclude="number")),
    )


one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
pipe = make_pipeline(prepare(one_hot), Neighbors(random_state=0)).fit(train)
print(f"AUROC with all columns: {roc_auc_score(answers, pipe.anomaly_score(asked)):.3f}")

# %%
# Twenty columns of yes and no, most of them "no" nearly always: in standard deviations a single
# "yes" among 2 % is seven away from the rest, and rare answers are what such a detector finds.
# The disease is in the hormones. What is known of a table is worth more than any scaling:

numbers = make_pipeline(prepare("drop"), Neighbors(random_state=0)).fit(train)
print(f"AUROC with numbers alone: {roc_auc_score(answers, numbers.anomaly_score(asked)):.3f}")

# %%
# Held-out records of healthy patients turn scores into p-values, and those into a selection in
# which one in five is healthy at most, on average.

numbers.calibrate(held_out)
flagged = numbers.select(asked, fdr=0.2)
print(
    f"{flagged.sum()} of {len(asked)} are flagged; {answers[flagged].mean():.0%} of them are sick"
)
print(f"{(answers & flagged).sum()} of {answers.sum()} sick patients are found")

# %%
# Why this one? In the frame's own columns, a missing value among them if it is odd that it is
# missing.

patient = asked[flagged & answers].iloc[[3]]
ExplanationDisplay.from_estimator(numbers, patient, max_features=5)
plt.show()
