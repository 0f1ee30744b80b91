"""
Insurance claims
================

1,000 claims after car accidents (a set of Kaggle's): dates, places, categories and money; 247
were reported as fraud. skrub's ``TableVectorizer`` looks at each column and decides what it is,
dates in the American way of writing among them.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from skrub import TableVectorizer

from skgenad import Mahalanobis
from skgenad.datasets import get_data_home
from skgenad.inspection import ExplanationDisplay
from skgenad.pipeline import make_pipeline

table = pd.read_csv(get_data_home() / "tables" / "insurance_claims.csv")
fraud = table.pop("anomaly") == 1
# Numbers and addresses that are others in each row say nothing of the next row.
table = table.drop(columns=["policy_number", "incident_location", "insured_zip"])
honest = table[~fraud].sample(frac=1, random_state=0)
train, asked = honest[:500], pd.concat([honest[500:], table[fraud]])
answers = fraud[asked.index]
pipe = make_pipeline(
    TableVectorizer(), SimpleImputer(add_indicator=True), Mahalanobis(random_state=0)
)
pipe.fit(train)
print(pd.Series(pipe[0].column_to_kind_).value_counts())
print(f"{train.shape[1]} columns became {pipe[-1].n_features_in_}")

# %%
# Better than a coin, and not by much: most of these frauds are no outliers, and no detector that
# knows honest claims alone can find them.

print(f"AUROC: {roc_auc_score(answers, pipe.anomaly_score(asked)):.3f}")

# %%
# The columns that count more in the scores of frauds than in those of honest claims. Two hobbies
# are rare among honest claims and common among frauds in this set, which is a fact about the set
# rather than about people.

frauds, others = asked[answers], asked[~answers]
contributions = pd.DataFrame(
    {"frauds": pipe.explain(frauds).mean(axis=0), "honest": pipe.explain(others).mean(axis=0)},
    index=table.columns,
)
print(
    contributions.assign(more=contributions["frauds"] - contributions["honest"])
    .nlargest(4, "more")
    .round(2)
)

# %%
# One claim. A text that is encoded cannot be had back from its numbers, so the cells of repaired
# rows are taken from training rows.

claim = frauds.iloc[[int(pipe.anomaly_score(frauds).argmax())]]
ExplanationDisplay.from_estimator(pipe, claim, reference=train, max_features=6)
plt.show()
