"""Tables with categories, dates and missing values: what to make of them before a detector.

    python benchmarks/mixed_tables.py run --tables-home DIR --data-home DIR   # resumable
    python benchmarks/mixed_tables.py tables    # seconds; writes results/mixed_tables.md

`--tables-home` holds adult.csv (UCI Adult), hypothyroid.csv (UCI thyroid disease, as in Weka) and
insurance_claims.csv (car insurance claims, Kaggle), each with a column `anomaly`; `--data-home`
holds ADBench's files, two of which are tables that come with their categories one-hot.

A cell draws normal rows to train on, other normal rows and so many anomalies that they are a tenth
of what is scored, and fits a detector after each of `PREPARATIONS`. What they compare with is
"one-hot": medians and indicators for what is missing, one-hot categories, and the units that the
detector takes by itself, standard deviations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from skgenad import MPDR, Autoencoder, Committee, Mahalanobis, Neighbors
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.committee._defaults import default_members
from skgenad.datasets import fetch_adbench

N_TRAIN, N_TEST, SHARE = 2000, 1500, 0.1
# Columns that say the label, are empty, or are another number in each row.
LEFT_OUT = {
    "adult": ["fnlwgt"],
    "hypothyroid": ["class", "TBG"],
    "insurance_claims": ["policy_number", "incident_location", "insured_zip"],
}
DATES = {"insurance_claims": ["policy_bind_date", "incident_date"]}
ENCODED = ("5_campaign", "8_celeba")
SOURCES = (*LEFT_OUT, *ENCODED)
SEEDS = range(1, 6)
BASE = "one-hot"
_AUTO: Any = "auto"
app = typer.Typer(add_completion=False, help=__doc__)
ROWS = results_file(
    "mixed_tables",
    key=("source", "seed", "detector", "preparation"),
    columns={
        "source": str,
        "seed": int,
        "detector": str,
        "preparation": str,
        "columns": int,
        "auroc": float,
        "average_precision": float,
    },
)


# ---- detectors -----------------------------------------------------------------------------------


def _committee(seed: int, standardize: Any) -> Any:
    members = None
    if standardize != _AUTO:
        members = [(name, m.set_params(standardize=standardize)) for name, m in default_members()]
    return Committee(members, random_state=seed)


DETECTORS: dict[str, Callable[[int, Any], Any]] = {
    "Mahalanobis": lambda seed, s: Mahalanobis(standardize=s, random_state=seed),
    "Neighbors": lambda seed, s: Neighbors(standardize=s, random_state=seed),
    "Committee": _committee,
    "Autoencoder": lambda seed, s: Autoencoder(standardize=s, random_state=seed),
    "MPDR": lambda seed, s: MPDR(standardize=s, random_state=seed),
    "IsolationForest": lambda seed, s: IsolationForest(random_state=seed),
}


# ---- preparations --------------------------------------------------------------------------------


class Frequencies(TransformerMixin, BaseEstimator):
    """Each category becomes minus the logarithm of its share of the training rows."""

    def fit(self, X: pd.DataFrame, y: None = None) -> Frequencies:
        """Count."""
        self.shares_ = [X[name].value_counts(normalize=True, dropna=False) for name in X]
        self.rare_ = 0.5 / len(X)
        return self

    def transform(self, X: pd.DataFrame) -> NDArray:
        """Look up."""
        found = [X[n].map(s).fillna(self.rare_) for n, s in zip(X, self.shares_, strict=True)]
        return -np.log(np.column_stack([column.to_numpy(dtype=float) for column in found]))


def _days(X: pd.DataFrame) -> NDArray:
    day = np.timedelta64(1, "D")
    return np.column_stack([(X[n] - pd.Timestamp("2000-01-01")) / day for n in X])


def _one_hot(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False, **options)


def _prepare(
    X: pd.DataFrame, categories: Any, *, indicator: bool = True, scaled: bool = False
) -> Any:
    """Make a ColumnTransformer; `scaled`: numbers are in standard deviations, and flags 0 or 1."""
    dates = X.select_dtypes("datetime").columns.tolist()
    numbers = X.select_dtypes("number").columns.tolist()
    steps = [StandardScaler()] if scaled else []
    fill = make_pipeline(SimpleImputer(strategy="median"), *steps)
    parts: list[Any] = [
        ("numbers", fill, numbers),
        ("dates", make_pipeline(FunctionTransformer(_days), *steps), dates),
        ("categories", categories, X.columns.difference([*dates, *numbers], sort=False).tolist()),
    ]
    if indicator:
        flags = SimpleImputer(strategy="median", add_indicator=True)
        only = FunctionTransformer(partial(_after, n=len(numbers)))
        parts.insert(1, ("missing", make_pipeline(flags, only), numbers))
    return ColumnTransformer(parts)


def _after(X: NDArray, n: int) -> NDArray:
    return X[:, n:]


def _halved(X: pd.DataFrame) -> Any:
    return make_pipeline(_one_hot(), FunctionTransformer(partial(np.multiply, np.sqrt(0.5))))


def _skrub(X: pd.DataFrame) -> Any:
    from skrub import TableVectorizer

    return make_pipeline(TableVectorizer(), SimpleImputer(strategy="median", add_indicator=True))


_ORDINAL: dict[str, Any] = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
# Name -> what makes the transformer of a training table, what units the detector takes, and what
# it is.
PREPARATIONS: dict[str, tuple[Callable[[pd.DataFrame], Any], Any, str]] = {
    BASE: (lambda X: _prepare(X, _one_hot()), _AUTO, "in standard deviations, with indicators"),
    "mixed": (lambda X: _prepare(X, _one_hot()), "mixed", 'standardize="mixed"'),
    "0 and 1": (
        lambda X: _prepare(X, _one_hot(), scaled=True),
        False,
        "one-hot columns and indicators are 0 and 1, numbers in standard deviations",
    ),
    "0 and 0.7": (
        lambda X: _prepare(X, _halved(X), scaled=True),
        False,
        "the same, with one-hot columns times the root of 1/2: two categories are 1 apart",
    ),
    "rare": (
        lambda X: _prepare(X, _one_hot(min_frequency=0.01)),
        _AUTO,
        "min_frequency=0.01: categories of less than 1 % of the rows share a column",
    ),
    "frequency": (
        lambda X: _prepare(X, Frequencies()),
        _AUTO,
        "a category is minus the logarithm of its share of the training rows",
    ),
    "ordinal": (
        lambda X: _prepare(X, OrdinalEncoder(encoded_missing_value=-2, **_ORDINAL)),
        _AUTO,
        "a category is its number in the alphabet",
    ),
    "no indicators": (
        lambda X: _prepare(X, _one_hot(), indicator=False),
        _AUTO,
        "medians take the places of missing numbers, and nothing says so",
    ),
    "numbers alone": (
        lambda X: _prepare(X, "drop"),
        _AUTO,
        "without the categories, with indicators",
    ),
    "skrub": (_skrub, _AUTO, "make_pipeline(TableVectorizer(), SimpleImputer(...), detector)"),
}
OF_UNITS = (BASE, "mixed", "0 and 1", "0 and 0.7")


# Detectors that take long are fitted after fewer preparations.
OF_DEAR = (BASE, "0 and 0.7", "ordinal", "numbers alone")
DEAR = ("Autoencoder", "MPDR")


def preparations_of(source: str, detector: str) -> list[str]:
    """Names of what is tried: an isolation forest has no units, and some tables come encoded."""
    names = OF_UNITS if source in ENCODED else tuple(PREPARATIONS)
    without = OF_UNITS[1:] if detector == "IsolationForest" else ()
    some = OF_DEAR if detector in DEAR else names
    return [name for name in names if name in some and name not in without]


# ---- rows ----------------------------------------------------------------------------------------


def read_table(source: str, folder: Path) -> tuple[pd.DataFrame, NDArray]:
    """Read one of the three tables, without columns that would tell the label or say nothing."""
    X = pd.read_csv(folder / f"{source}.csv")
    y = X.pop("anomaly").to_numpy()
    X = X.drop(columns=LEFT_OUT[source])
    dates = {name: pd.to_datetime(X[name], format="%m/%d/%Y") for name in DATES.get(source, ())}
    return X.assign(**dates), y


def _encoded(source: str, data_home: Path | None) -> tuple[pd.DataFrame, NDArray]:
    X, y = fetch_adbench(source, data_home=data_home, return_X_y=True)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]), y


def _is_flag(column: pd.Series) -> bool:
    return bool(column.isin((0, 1)).all())


def _prepared(source: str, name: str, train: pd.DataFrame, test: pd.DataFrame) -> Any:
    """Training rows and others after a preparation, and the detector's units."""
    make, standardize, _ = PREPARATIONS[name]
    if source not in ENCODED:
        steps = make(train).fit(train)
        return steps.transform(train), steps.transform(test), standardize
    factor = np.sqrt(0.5) if name == "0 and 0.7" else 1.0
    flags = np.array([_is_flag(train[column]) for column in train])
    center, scale = np.zeros(len(flags)), np.where(flags, 1 / factor, 1.0)
    if standardize is False:
        center = np.where(flags, 0, train.mean())
        scale = np.where(flags, scale, train.std().replace(0, 1))
    return (train - center) / scale, (test - center) / scale, standardize


def _split(y: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Places of rows to train on and to score."""
    normal, anomalies = (rng.permutation(np.flatnonzero(y == label)) for label in (0, 1))
    n_train = min(N_TRAIN, len(normal) // 2)
    asked = normal[n_train:][:N_TEST]
    n_anomalies = min(len(anomalies), round(len(asked) * SHARE / (1 - SHARE)))
    return normal[:n_train], np.concatenate([asked, anomalies[:n_anomalies]])


def compute(
    source: str, seed: int, detector: str, *, tables_home: Path, data_home: Path | None
) -> Iterable[dict[str, Any]]:
    """Fit a detector after each preparation of the same rows."""
    if source in ENCODED:
        X, y = _encoded(source, data_home)
    else:
        X, y = read_table(source, tables_home)
    train, test = _split(y, np.random.default_rng([seed, *source.encode()]))
    rows = []
    for name in preparations_of(source, detector):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before, after, units = _prepared(source, name, X.iloc[train], X.iloc[test])
            before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
            fitted = DETECTORS[detector](seed, units).fit(before)
            energy = -fitted.score_samples(after)
        rows.append(
            {
                "preparation": name,
                "columns": before.shape[1],
                "auroc": round(float(roc_auc_score(y[test], energy)), 6),
                "average_precision": round(float(average_precision_score(y[test], energy)), 6),
            }
        )
    return rows


@app.command()
def run(
    tables_home: Annotated[Path, typer.Option(help="Folder with the three CSV files.")],
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(DETECTORS),
    sources: Annotated[str, typer.Option(help="Some of them.")] = ",".join(SOURCES),
    seeds: Annotated[int, typer.Option(help="From 1 on.")] = len(SEEDS),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing, seed by seed."""
    one = partial(stamped, partial(compute, tables_home=tables_home, data_home=data_home))
    for seed in SEEDS[:seeds]:
        for detector in detectors.split(","):
            cells = [(source, seed, detector) for source in sources.split(",")]
            run_cells(one, cells, ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def _lines(rows: pd.DataFrame, measure: str) -> str:
    """Means after `BASE`, and how far others are above: a column for each detector."""
    wide = rows.pivot_table(
        index=["source", "seed", "detector"], columns="preparation", values=measure
    )
    lines = []
    for name in [name for name in PREPARATIONS if name in wide]:
        values = wide[name] if name == BASE else wide[name] - wide[BASE]
        by_detector = {d: part.dropna() for d, part in values.groupby("detector")}
        cells = [interval(by_detector[d]) if d in by_detector else "" for d in DETECTORS]
        lines.append([name if name == BASE else f"{name} − {BASE}", *cells])
    seeds = rows.groupby("detector")["seed"].nunique()
    titles = [f"{d} ({seeds[d]})" if d in seeds else d for d in DETECTORS]
    return table(["", *titles], lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# Tables with categories, dates and missing values",
        origin_of(rows, "mixed_tables.py"),
        f"{N_TRAIN} normal rows train, or half of them all; {N_TEST} others at most are scored "
        f"with anomalies, which are {100 * SHARE:g} % of the rows. Left out: "
        + "; ".join(f"{', '.join(names)} of {source}" for source, names in LEFT_OUT.items())
        + ".",
        "\n".join(f"- {name}: {what}" for name, (_, _, what) in PREPARATIONS.items()),
        f"In a line of {BASE!r} stand means over seeds, in the others differences to that; "
        "brackets: 95 % t-intervals over seeds, which are about other rows of the same table, not "
        "about other tables. In the titles: the number of seeds. Empty cells are alike by nature, "
        "or were not measured.",
    ]
    for source in [name for name in SOURCES if name in set(rows["source"])]:
        part = rows[rows["source"] == source]
        text += [f"## {source}", "AUROC:", _lines(part, "auroc")]
        text += ["Average precision:", _lines(part, "average_precision")]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
