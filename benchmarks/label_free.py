"""Whether criteria without labels find good detectors: against the true AUROC, table by table.

    python benchmarks/label_free.py run --data-home DIR   # minutes to an hour on a core; resumable
    python benchmarks/label_free.py tables                # seconds; writes results/label_free.md

`DIR` holds ADBench's and OddBench's files (without it they are downloaded). The normal rows of a
table's training part, first seed, protocols `clean` (ADBench) and `fixed` (OddBench), are divided:
up to 300 train, up to 300 are held out. Candidates are detectors at their defaults, and settings of
one detector. Each has its AUROC on the test part (up to 1,000 rows), and the criteria of
`skgenad.metrics`, once on the held-out rows, which are normal ("normal"), and once on the rows of
the test part without their labels ("mixed").

Over the candidates of a group on a table: Spearman's correlation of a criterion with the AUROC, and
the regret, the best AUROC less that of the candidate with the best criterion.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from _tables import short, tuned_on
from adbench import SETS
from numpy.typing import NDArray
from scipy.stats import sem, spearmanr
from scipy.stats import t as student
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skgenad
from skgenad import MPDR, Committee
from skgenad.benchmark import make_split, open_suite, run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.benchmark._suites import source_of
from skgenad.benchmark.protocols import make_fixed_split
from skgenad.energies import Chain, Manifold
from skgenad.metrics._agreement import MEASURES, alike, refit_scores
from skgenad.metrics._contrast import AGAINST, points_of
from skgenad.metrics._label_free import scores_of
from skgenad.metrics._level_sets import level_scores
from skgenad.metrics._mass import MIN_MASS, excess_mass_area, mass_volume_area

SEED, MOST_TRAIN, MOST_NEW, MOST_TEST, LEAST_ANOMALIES = 1, 300, 300, 1000, 10
# Of the criteria: fewer draws than by default.
N_UNIFORM, N_SUBSPACES, N_POINTS, N_FITS, TAIL = 1000, 3, 500, 2, 0.1


def _ours(name: str, **changes: Any) -> Callable[[], Any]:
    return lambda: getattr(skgenad, name)(random_state=SEED, **{**ALL_ROWS, **changes})


def _settings(name: str, *changes: dict[str, Any], **common: Any) -> dict[str, Callable[[], Any]]:
    """Candidates of a detector by what is changed; the first is the default."""
    return {
        f"{name}({', '.join(f'{k}={v}' for k, v in some.items())})": _ours(name, **common, **some)
        for some in changes
    }


# Detector -> its settings; the first is the default.
SETTINGS: dict[str, dict[str, Callable[[], Any]]] = {
    "Neighbors": _settings("Neighbors", *({"n_neighbors": k} for k in (5, 1, 10, 50))),
    "KernelDenoiser": _settings(
        "KernelDenoiser", {"bandwidth": "loo"}, *({"bandwidth": h} for h in (0.3, 1.0, 3.0))
    ),
    "Mahalanobis": _settings("Mahalanobis", *({"shrinkage": s} for s in (0.0, 0.1, 0.3, 0.9))),
    "GaussianMixtures": _settings(
        "GaussianMixtures", {}, *({"n_components": k} for k in (1, 3, 6))
    ),
}
# Detectors at their defaults, beside those above.
OTHERS: dict[str, Callable[[], Any]] = {
    "LocalGaussian": _ours("LocalGaussian"),
    "IsolationForest": lambda: IsolationForest(n_estimators=50, random_state=SEED),
    "OneClassSVM": lambda: make_pipeline(StandardScaler(), OneClassSVM()),
    "LOF": lambda: make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
}
# Settings of detectors of networks, with short trainings, on some tables.
TRAINED: dict[str, dict[str, Callable[[], Any]]] = {
    "Autoencoder": _settings(
        "Autoencoder",
        *({"latent_dim": k, "max_steps": n} for k in (None, 2) for n in (300, 30)),
    ),
    "MPDR": {
        f"MPDR(noise={noise}, max_steps={n})": _ours(
            "MPDR", manifold=Manifold(steps=200), visible_chain=Chain(noise=noise), max_steps=n
        )
        for noise in ("auto", 1.0)
        for n in (40, 10)
    },
}
_TABLES = (
    *("4_breastw", "14_glass", "23_mammography", "29_Pima", "38_thyroid", "39_vertebral"),
    *("44_Wilt", "47_yeast"),
)
# Kind of candidates -> suite -> tables, all of a suite without names.
TABLES: dict[str, dict[str, tuple[str, ...] | None]] = {
    "closed form": {"adbench": SETS, "oddbench": None},
    "trained": {"adbench": _TABLES},
}
CHOICE = "choice of detector"
WHERE = ("normal", "mixed")
# Higher = better, each of them; volumes are negated.
CRITERIA = (
    "excess mass",
    "mass volume",
    *(f"contrast, {kind}" for kind in AGAINST),
    *(f"stability, {measure}" for measure in MEASURES),
    *(f"agreement, {measure}" for measure in MEASURES),
)
ON_MANIFOLD = "MPDR's own"
COMMITTEE = "Committee"
ROWS = results_file(
    "label_free",
    key=("suite", "dataset", "kind", "group", "candidate"),
    columns={
        **dict.fromkeys(("suite", "dataset", "kind", "group", "candidate"), str),
        "n_train": int,
        "n_columns": int,
        "auroc": float,
        **{f"{name}, {where}": float for name in (*CRITERIA, ON_MANIFOLD) for where in WHERE},
        "seconds": float,
    },
)
app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows ----------------------------------------------------------------------------------------


def rows_of(
    suite: str, dataset: str, data_home: Path | None
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return rows to train on, normal ones held out, rows of the test part, and their labels."""
    ((_, load),) = open_suite(suite, [dataset], data_home=data_home).loaders.items()
    split = (
        make_fixed_split(*load(), seed=SEED)
        if suite == "oddbench"
        else make_split(*load(), protocol="clean", seed=SEED)
    )
    rng = np.random.default_rng(SEED)
    normal, n = rng.permutation(split.X_train), len(split.X_train)
    n_new = min(MOST_NEW, int(0.3 * n))
    test, y = _some(split.X_test, split.y_test, rng)
    return normal[n_new:][:MOST_TRAIN], normal[:n_new], test, y


def _some(X: NDArray, y: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Take some rows with the share of anomalies that there is, if that makes enough of them."""
    order = rng.permutation(len(y))
    anomalies, normal = order[y[order] == 1], order[y[order] == 0]
    share = min(1.0, MOST_TEST / len(y))
    n_anomalies = max(round(share * len(anomalies)), LEAST_ANOMALIES)
    kept = np.concatenate([anomalies[:n_anomalies], normal[: round(share * len(normal))]])
    kept.sort()
    return X[kept], y[kept]


# ---- criteria ------------------------------------------------------------------------------------


def compute(suite: str, dataset: str, kind: str, *, data_home: Path | None) -> list[dict[str, Any]]:
    """Fit the candidates of a kind to a table, and return their AUROCs and criteria."""
    train, new, test, y = rows_of(suite, dataset, data_home)
    parts = dict(zip(WHERE, (new, test), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        committee = Committee(random_state=SEED, **ALL_ROWS).fit(train)
    references = {where: scores_of(committee, X) for where, X in parts.items()}

    def row(group: str, name: str, make: Callable[[], Any]) -> dict[str, Any]:
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = judged(make().fit(train), train, parts, references, y)
        shape = {"n_train": len(train), "n_columns": train.shape[1]}
        seconds = time.process_time() - start
        return {**found, **shape, "group": group, "candidate": name, "seconds": seconds}

    groups = TRAINED if kind == "trained" else SETTINGS
    rows = [row(group, n, make) for group, some in groups.items() for n, make in some.items()]
    if kind == "trained":
        return rows
    defaults = {next(iter(some)): group for group, some in SETTINGS.items()}
    rows += [
        {**one, "group": CHOICE, "candidate": defaults[one["candidate"]]}
        for one in rows
        if one["candidate"] in defaults
    ]
    rows += [row(CHOICE, name, make) for name, make in OTHERS.items()]
    auroc = float(roc_auc_score(y, references["mixed"]))
    empty = {name: np.nan for name, kind in ROWS.columns.items() if kind is float}
    return [*rows, {**rows[-1], **empty, "candidate": COMMITTEE, "auroc": auroc, "seconds": 0.0}]


def judged(
    detector: Any,
    train: NDArray,
    parts: dict[str, NDArray],
    references: dict[str, NDArray],
    y: NDArray,
) -> dict[str, float]:
    """AUROC and criteria of a fitted detector, as the functions of the package have them."""
    points = {
        kind: scores_of(detector, points_of(train, kind, N_POINTS, np.random.RandomState(0)))
        for kind in AGAINST
    }
    both = np.concatenate(list(parts.values()))
    again = refit_scores(detector, train, both, vary="rows", n_fits=N_FITS, random_state=0)
    fits = dict(zip(WHERE, np.split(again, [len(parts["normal"])], axis=1), strict=True))
    found = {}
    for where, X in parts.items():
        scores = scores_of(detector, X)
        if where == "mixed":
            found["auroc"] = float(roc_auc_score(y, scores))
        values = _areas(detector, train, X)
        for kind, others in points.items():
            truth = np.repeat([0, 1], [len(scores), len(others)])
            auc = roc_auc_score(truth, np.concatenate([scores, others]))
            values[f"contrast, {kind}"] = float(auc)
        for measure in MEASURES:
            pairs = [alike(*pair, measure, TAIL) for pair in combinations(fits[where], 2)]
            values[f"stability, {measure}"] = float(np.mean(pairs))
            values[f"agreement, {measure}"] = alike(scores, references[where], measure, TAIL)
        own = detector.on_manifold_score(X) if isinstance(detector, MPDR) else np.nan
        found |= {f"{k}, {where}": v for k, v in {**values, ON_MANIFOLD: own}.items()}
    return found


def _areas(detector: Any, train: NDArray, X: NDArray) -> dict[str, float]:
    pairs = list(level_scores(detector, train, X, n_uniform=N_UNIFORM, n_subspaces=N_SUBSPACES))
    return {
        "excess mass": float(np.mean([excess_mass_area(*pair, MIN_MASS) for pair in pairs])),
        "mass volume": -float(np.mean([mass_volume_area(*pair, MIN_MASS) for pair in pairs])),
    }


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with both suites.")] = None,
    kinds: Annotated[str, typer.Option(help="Some of them.")] = ",".join(TABLES),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing, kind by kind of candidates."""
    for kind in kinds.split(","):
        cells = [
            (suite, name, kind)
            for suite, names in TABLES[kind].items()
            for name in open_suite(suite, names, data_home=data_home).loaders
        ]
        # In an order of its own, so that a run that is cut short has tables of all sorts.
        some = np.random.default_rng(0).permutation(len(cells))
        one = partial(stamped, partial(compute, data_home=data_home))
        run_cells(one, [cells[k] for k in some], ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def judgements(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each group, criterion and table: its correlation, and what choosing by it gives.

    Columns: group, dataset, source, n_columns, tuned, criterion, where, rho, chosen, default, any,
    best.
    Where the candidates' AUROCs are all the same there is nothing to choose, and no line.
    """
    lines = []
    rows = rows[rows["candidate"] != COMMITTEE]
    for (suite, dataset, group), some in rows.groupby(["suite", "dataset", "group"], sort=False):
        auroc = some["auroc"]
        if auroc.nunique() < 2:
            continue
        table_is = {"group": group, "dataset": dataset, "source": source_of(suite, dataset)}
        table_is |= {"n_columns": some["n_columns"].iloc[0], "best": auroc.max()}
        table_is |= {"any": auroc.mean(), "default": auroc.iloc[0]}
        table_is |= {"tuned": short(dataset) in tuned_on(suite)}
        for name, where in product((*CRITERIA, ON_MANIFOLD), WHERE):
            values = some[f"{name}, {where}"]
            if values.isna().all():
                continue
            # A criterion that is the same for all says nothing; ties are broken by chance.
            rho = spearmanr(values, auroc)[0] if values.nunique() > 1 else 0.0
            chosen = auroc[values == values.max()].mean()
            line = {"criterion": name, "where": where, "rho": rho, "chosen": chosen}
            lines.append({**table_is, **line})
    return pd.DataFrame(lines)


def by_source(lines: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Means over the tables of one source, which are no independent cases."""
    return values.groupby(lines["source"]).mean()


def verdict(lines: pd.DataFrame) -> str:
    """Say what the intervals mean for a criterion."""
    rho = by_source(lines, lines["rho"])
    gain = by_source(lines, lines["chosen"] - lines["default"])
    if _bounds(rho)[0] <= 0 or gain.mean() < 0:
        return "does not work"
    return "better than the default" if _bounds(gain)[0] > 0 else "no clear gain"


def _bounds(values: pd.Series) -> tuple[float, float]:
    half = sem(values) * student.ppf(0.975, len(values) - 1)
    return values.mean() - half, values.mean() + half


def _lines(judged: pd.DataFrame) -> str:
    cells = []
    for (name, where), some in judged.groupby(["criterion", "where"], sort=False):
        regret = by_source(some, some["best"] - some["chosen"]).mean()
        gain = by_source(some, some["chosen"] - some["default"])
        rho = interval(by_source(some, some["rho"]))
        cells.append([name, where, rho, f"{regret:.3f}", interval(gain), verdict(some)])
    header = ["criterion", "rows", "correlation", "regret", "AUROC − default's", ""]
    return table(header, cells)


def _group(group: str, judged: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    once = judged.drop_duplicates("dataset")
    of_group = rows[rows["group"] == group]
    names = of_group["candidate"].drop_duplicates()
    regret = {k: by_source(once, once["best"] - once[k]).mean() for k in ("default", "any")}
    text = (
        f"{len(once)} tables of {once['source'].nunique()} sources. Candidates: "
        f"{', '.join(f'`{name}`' for name in names if name != COMMITTEE)}. Mean AUROC of the best "
        f"{by_source(once, once['best']).mean():.3f}; regret of the first, the default, "
        f"{regret['default']:.3f}, and of one drawn by chance {regret['any']:.3f}."
    )
    committee = of_group[of_group["candidate"] == COMMITTEE].set_index("dataset")["auroc"]
    if len(committee):
        gain = once["dataset"].map(committee) - once["default"]
        text += f" The committee's AUROC less the default's: {interval(by_source(once, gain))}."
        text += " AUROC of what is chosen less the committee's, by " + "; ".join(
            f"{name} ({where}): "
            + interval(by_source(some, some["chosen"] - some["dataset"].map(committee)))
            for (name, where), some in judged.groupby(["criterion", "where"], sort=False)
            if name.startswith("agreement")
        )
        text += "."
    return [f"## {group}", text, _lines(judged)]


def _minutes(rows: pd.DataFrame) -> float:
    copied = (rows["group"] == CHOICE) & rows["candidate"].isin(SETTINGS)
    return float(rows.loc[~copied, "seconds"].sum() / 60)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    judged = judgements(rows)
    text = [
        "# Criteria without labels",
        origin_of(rows, "label_free.py"),
        f"{_minutes(rows):.0f} minutes of a core for the candidates. Correlation: "
        "Spearman's, of a criterion and the true AUROC over the candidates of a group on a table; "
        "0 where the criterion is the same for all. Regret: the best AUROC less that of the "
        "candidate with the best criterion. Means, with 95 % t-intervals in brackets, over sources "
        "(tables of one source are averaged first); without correction for their number. Rows: "
        "held out and normal, or of the test part, anomalies among them, without labels.",
        "**Does not work**: the interval of the correlation holds 0 or lies below, or the regret "
        "is larger than the default's. **Better than the default**: the interval of the "
        "correlation and that of the difference lie above 0.",
    ]
    for group in [name for name in (CHOICE, *SETTINGS, *TRAINED) if name in set(rows["group"])]:
        text += _group(group, judged[judged["group"] == group], rows)
    choice = judged[judged["group"] == CHOICE]
    areas = choice[choice["criterion"].isin(["excess mass", "mass volume"])]
    for title, some in {
        "tables that no default was chosen on": choice[~choice["tuned"]],
        "up to 8 columns, as they are": areas[areas["n_columns"] <= 8],
        "more than 8 columns, in subspaces": areas[areas["n_columns"] > 8],
    }.items():
        text += [f"## {CHOICE}, {title} ({some['dataset'].nunique()})", _lines(some)]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
