"""Convert committed results once: the settings of old rows, and results that were kept elsewhere.

    git show a88314e:benchmarks/results/adbench/rows.csv > old.csv
    python benchmarks/convert_results.py settings old.csv benchmarks/results/adbench/rows.csv

writes every row with the settings that its detector has today. It refuses unless what the old row
has beyond the defaults of its time (`old_defaults.json`), under today's names (`RENAMED`), is what
today's detector has beyond today's defaults, and unless all other fields are the same text.

    git show a88314e:benchmarks/results/hierarchies/rows.csv > old.csv
    python benchmarks/convert_results.py models old.csv benchmarks/results/hierarchies/rows.csv

does the like for the settings of Glow that name a cell there.

    git show a88314e:benchmarks/results/density_2d/fits.csv > fits.csv
    git show a88314e:benchmarks/results/density_2d/samples.csv > samples.csv
    python benchmarks/convert_results.py density fits.csv samples.csv

joins the two files of the eight Gaussians to ``results/density_2d/rows.csv``.

    PYTHONPATH=CHECKOUT python benchmarks/convert_results.py defaults > benchmarks/old_defaults.json

with a checkout of a88314e made the table of the defaults of that time.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

import skgenad

app = typer.Typer(add_completion=False, help=__doc__)
OLD_DEFAULTS = Path(__file__).with_name("old_defaults.json")

# (Class, old name) -> new name, nested ones with "__". A value that changed its form as well has a
# function in place of a name: it is given the value and returns names and values.
Renamed = str | Callable[[Any], Mapping[str, Any]]
RENAMED: dict[tuple[str, str], Renamed] = {
    **{
        ("MPDR", f"{chain}_{name}"): f"{chain}_chain__{name}"
        for chain in ("latent", "visible")
        for name in ("steps", "step_size", "noise", "gamma")
    },
    ("MPDR", "bounds"): lambda bounds: {"visible_chain__bounds": bounds or "none"},
    ("MPDR", "hidden_sizes"): "network",
    # Widths of perceptrons, above, are a network today; other networks keep their names.
    ("MPDR", "network"): lambda network: {} if network == "mlp" else {"network": network},
    ("MPDR", "energy_init"): "energy__init",
    # It was the rate of the energy's pretraining, too.
    ("MPDR", "manifold_learning_rate"): lambda rate: {
        "manifold__learning_rate": rate,
        "energy__pretrain_learning_rate": rate,
    },
    ("Glow", "scales"): "n_scales",
    ("Glow", "steps"): "n_couplings",
}
# Old names of values that are objects today; their fields follow the name.
OBJECTS = {"reconstruction": "Reconstruction", "autoencoder": "Manifold"}
# The origin that the report of the eight Gaussians gave for all its fits.
_DENSITY_ORIGIN = {
    "machine": "AMD EPYC (avx2 avx512f), 1 thread(s), Python 3.11.7, torch 2.13.0+cpu (AVX512), "
    "numpy 2.4.6",
    "date": "2026-11-22",
}


# ---- settings ------------------------------------------------------------------------------------


def renamed(name_of_class: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings the names that they have today."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        new = RENAMED.get((name_of_class, name), name)
        found |= {new: value} if isinstance(new, str) else new(value)
    return found


def unexplained(text: str, estimator: Any) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ: what the old text says, and what is there today.

    Compared is what either has beyond the defaults of its own time. The name of a parameter
    object's class is no setting of old; its parameters are.
    """
    from skgenad.benchmark._settings import changed_settings, describe_settings

    name_of_class = type(estimator).__name__
    defaults = json.loads(OLD_DEFAULTS.read_text())[name_of_class]
    old, today = json.loads(text), json.loads(describe_settings(estimator))
    then = renamed(name_of_class, old)
    set_then = renamed(
        name_of_class, {k: v for k, v in old.items() if k not in defaults or v != defaults[k]}
    )
    set_today = changed_settings(json.dumps(today), estimator)
    objects = {k for k, v in estimator.get_params(deep=True).items() if hasattr(v, "get_params")}
    for name in objects & set(then):
        then[name] = OBJECTS.get(str(then[name]), then[name])
    return {
        name: (then.get(name), today.get(name))
        for name in sorted({*set_then, *set_today} - (objects - set(then)))
        if then.get(name, ...) != today.get(name, ...)
    }


def convert(text: str, estimator: Any) -> str:
    """Describe an estimator of today for a row of old, or raise if they are not the same."""
    from skgenad.benchmark._settings import describe_settings

    today = describe_settings(estimator)
    if text == today:
        return text
    if differences := unexplained(text, estimator):
        raise ValueError(f"{type(estimator).__name__}: then and today {differences}")
    return today


@app.command()
def settings(old: Path, new: Path) -> None:
    """Write the rows of ADBench with the settings of today's detectors."""
    from adbench import PAPER

    from skgenad.benchmark import read_rows
    from skgenad.benchmark._detectors import ALL_ROWS, DETECTORS

    made = {name: make(1) for name, make in DETECTORS.items()}
    made[PAPER] = skgenad.MPDR.from_paper(**ALL_ROWS)
    header, rows = _read(old)
    kinds = {(row["detector"], row["settings"]) for row in rows}
    texts = {(name, text): convert(text, made[name]) for name, text in kinds}
    converted = [{**r, "settings": texts[r["detector"], r["settings"]]} for r in rows]
    _write(new, header, converted)
    _check(new, rows, "settings")
    read_rows(new)
    changed = sum(text != after for (_, text), after in texts.items())
    typer.echo(f"{len(rows)} rows, {len(kinds)} settings, {changed} of them converted")


@app.command()
def models(old: Path, new: Path) -> None:
    """Write the rows of the hierarchies with the names that Glow's parameters have today."""
    header, rows = _read(old)
    converted = [{**row, "model": _model(row["model"])} for row in rows]
    _write(new, header, converted)
    _check(new, rows, "model")
    typer.echo(f"{len(rows)} rows, models {sorted({row['model'] for row in converted})}")


def _model(text: str) -> str:
    def rename(match: re.Match[str]) -> str:
        new = RENAMED.get(("Glow", match[1]), match[1])
        return f"{new}="

    parts = re.split(r", (?=\w+=)", re.sub(r"(\w+)=", rename, text))
    if not any(part.startswith("coupling_norm=") for part in parts):
        parts.append("coupling_norm=False")  # there was no other
    return ", ".join(sorted(parts))


@app.command()
def defaults() -> None:
    """Print the defaults of every detector of the installed package."""
    from skgenad.benchmark.runner import describe_settings

    classes = [getattr(skgenad, name) for name in skgenad.__all__]
    detectors = [cls for cls in classes if isinstance(cls, type) and hasattr(cls, "score_samples")]
    table = {cls.__name__: json.loads(describe_settings(_unset(cls))) for cls in detectors}
    typer.echo(json.dumps(table, indent=1, sort_keys=True))


def _unset(cls: type) -> Any:
    try:
        return cls()
    except TypeError:  # a likelihood ratio is of a detector
        return cls(skgenad.Glow())


# ---- eight Gaussians -----------------------------------------------------------------------------


@app.command()
def density(fits: Path, samples: Path) -> None:
    """Join the files of the fits and of the samples of the eight Gaussians."""
    from density_2d import ROWS

    key = list(ROWS.key)
    # Their data had the variance that the paper prints; what is new was not measured.
    made, absent = {"variance": "sqrt(2)/4"}, dict.fromkeys(("hole", "share_error"), np.nan)
    both = pd.read_csv(fits).merge(pd.read_csv(samples), how="left", validate="1:1")
    with ROWS:
        ROWS.append(*both.assign(**made, **absent, **_DENSITY_ORIGIN).to_dict("records"))
    joined = ROWS.read()
    for path in (fits, samples):
        old = pd.read_csv(path).assign(**made)
        again = old[key].merge(joined, on=key, validate="1:1")[list(old.columns)]
        pd.testing.assert_frame_equal(again, old, check_exact=True)
    typer.echo(f"{len(joined)} fits, {int(joined['distance'].notna().sum())} with samples")


# ---- files ---------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        return list(reader.fieldnames or []), list(reader)


def _write(path: Path, header: list[str], rows: Iterable[Mapping[str, str]]) -> None:
    part = path.with_suffix(".part")
    with open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def _check(path: Path, old: list[dict[str, str]], changed: str) -> None:
    """Raise unless a file has the old rows, all texts but those of one column the same."""
    _, new = _read(path)
    without = [
        [{k: v for k, v in row.items() if k != changed} for row in rows] for rows in (old, new)
    ]
    if without[0] != without[1]:
        raise ValueError(f"'{path}' has other figures than the old rows")


if __name__ == "__main__":
    app()
