"""
Census records in polars
========================

32,561 adults of the census of 1994 (UCI Adult): numbers, categories and 4,262 missing cells. Who
earns more than 50,000 is no anomaly, though a quarter of the rows does; here they are thinned out
to a tenth, to see what a detector makes of people who are unlike the others. The frame is one of
polars.
"""

import matplotlib.pyplot as plt
import polars as pl
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from skrub import TableVectorizer

from skgenad import Committee
from skgenad.datasets import get_data_home
from skgenad.inspection import ExplanationDisplay
from skgenad.pipeline import make_pipeline

table = pl.read_csv(get_data_home() / "tables" / "adult.csv", null_values="")
table = table.drop("fnlwgt").sample(fraction=1, shuffle=True, seed=0)  # a weight of the survey
others, rich = table.filter(anomaly=0).drop("anomaly"), table.filter(anomaly=1).drop("anomaly")
train, asked = others[:2000], pl.concat([others[2000:3800], rich[:200]])
is_rich = [False] * 1800 + [True] * 200
pipe = make_pipeline(
    TableVectorizer(), SimpleImputer(add_indicator=True), Committee(random_state=0)
)
pipe.fit(train)
print(train.schema["workclass"], train["workclass"].null_count(), "missing")

# %%
# The scores, and who is flagged:

print(f"AUROC: {roc_auc_score(is_rich, pipe.anomaly_score(asked)):.3f}")
odd = asked.filter(pipe.p_value(asked) <= 0.002)
print(odd[["age", "workclass", "education", "occupation", "hours-per-week"]].head(4))

# %%
# Repaired rows are frames of polars, too, of the same types. What has changed in the first one:

repaired = pipe.repair(odd[:1], reference=train)
for name in odd.columns:
    if odd[name][0] != repaired[name][0]:
        print(f"{name}: {odd[name][0]} -> {repaired[name][0]}")

# %%
# The same as a picture:

ExplanationDisplay.from_estimator(pipe, odd, 0, reference=train, max_features=6)
plt.show()
