"""README's short table and picture, from the rows of both suites.

    python benchmarks/summary.py           # seconds; writes results/summary.md and summary.png

Only tables that nothing was tuned on are shown: OddBench's with their fixed splits, ADBench's under
protocol ``clean``. What stands between the markers of ``summary.md`` is copied into README, where
that has the same markers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import typer
from _results import FOLDER
from _small_print import small_print
from _tables import is_tuned

from skgenad.benchmark import Comparison, read_rows
from skgenad.benchmark._markdown import bold, table

# Detector -> what it is called here. The first five are ours.
NAMES = {
    "Committee": "Committee",
    "MPDR-R": "MPDR",
    "NAE": "NAE",
    "CANCE": "CANCE",
    "Glow": "Glow",
    "kNN-z": "kNN-z",
    "IForest": "IForest",
    "OCSVM": "OCSVM",
    "LOF": "LOF",
    "ECOD": "ECOD",
    "pyod-AE": "pyod's AE",
    "LUNAR": "LUNAR",
}
_SUITES = (("OddBench", "oddbench", "fixed"), ("ADBench", "adbench", "clean"))
OURS = ("Committee", "MPDR-R", "NAE", "CANCE", "Glow")
REFERENCE = "kNN-z"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- summary: begin -->", "<!-- summary: end -->"
# Colours that remain apart for the colour-blind (Okabe and Ito), and a shape for each.
_LOOKS: dict[str, dict[str, Any]] = {
    "Committee": {"color": "#D55E00", "marker": "D", "markersize": 11},
    "other methods of skgenad": {"color": "#0072B2", "marker": "o", "markersize": 10},
    "others": {"color": "#5A5A5A", "marker": "s", "markersize": 8},
}


class Part(NamedTuple):
    """A suite under one protocol, and its rows of the tables not tuned on."""

    title: str
    suite: str
    rows: pd.DataFrame

    @property
    def n_tables(self) -> int:
        """Number of tables."""
        return self.rows["dataset"].nunique()


def read_parts(folder: Path) -> list[Part]:
    """Read the rows that are shown, of both suites."""
    parts = []
    for title, suite, protocol in (
        ("OddBench", "oddbench", "fixed"),
        ("ADBench", "adbench", "clean"),
    ):
        rows = read_rows(folder / suite / "rows.csv")
        kept = (rows["protocol"] == protocol) & (rows["contaminate"] == 0)
        kept &= rows["detector"].isin(NAMES) & ~is_tuned(rows, suite)
        parts.append(Part(title, suite, rows[kept]))
    return parts


def same_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the seeds that every detector in them ran with."""
    seeds = [set(part["seed"]) for _, part in rows.groupby("detector")]
    return rows[rows["seed"].isin(set.intersection(*seeds))]


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean paired difference in AUROC of each detector to the reference, with its interval.

    Each pair is compared on the seeds that both ran with.
    """
    lines = {
        name: Comparison(same_seeds(rows[rows["detector"].isin([name, REFERENCE])]))
        .differences(name, [REFERENCE])
        .loc[REFERENCE]
        for name in rows["detector"].unique()
        if name != REFERENCE
    }
    return pd.DataFrame.from_dict(lines, orient="index")


# ---- the table -----------------------------------------------------------------------------------


def block(parts: list[Part]) -> str:
    """Return the table and the sentence below it, between the markers."""
    ranks = [Comparison(same_seeds(part.rows)).ranks for part in parts]
    order = sum(rank["rank"] for rank in ranks).dropna().sort_values(kind="stable").index
    header = ["detector"]
    columns: list[list[str]] = [[NAMES[name] for name in order]]
    for part, rank in zip(parts, ranks, strict=True):
        shown = rank.loc[order]
        header += [f"{part.title}: AUROC", "AP", "rank"]
        columns += [
            _column(shown["auroc"], ".3f", best="max"),
            _column(shown["average_precision"], ".3f", best="max"),
            _column(shown["rank"], ".1f", best="min"),
        ]
    cells = pd.concat([part.rows for part in parts]).groupby("detector")
    for title, name in (("fit s", "fit_seconds"), ("score s", "score_seconds")):
        header.append(title)
        columns.append([f"{value:.2g}" for value in cells[name].median().loc[order]])
    lines = table(header, list(zip(*columns, strict=True)))
    return "\n".join([BEGIN, lines, _caption(parts), END])


def _column(values: pd.Series, form: str, *, best: str) -> list[str]:
    texts = [format(value, form) for value in values]
    first = format(values.agg(best), form)
    return [bold(text, text == first) for text in texts]


def _caption(parts: list[Part]) -> str:
    splits = {"oddbench": "fixed splits", "adbench": "protocol `clean`"}
    scopes = []
    for part in parts:
        seeds = sorted(same_seeds(part.rows)["seed"].unique())
        said = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        scopes.append(f"{part.title}: {part.n_tables} tables, {splits[part.suite]}, {said}.")
    return (
        f"Tables that nothing was tuned on. {' '.join(scopes)} Means over tables; ranks by AUROC "
        "among these detectors, 1 is best; times are medians over all cells, on one thread of a "
        "shared, unevenly loaded machine."
    )


def replace_block(text: str, new: str) -> str:
    """Put a block in place of the one between the markers of a text, if it has them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + new + after if begin and end else text


# ---- the picture ---------------------------------------------------------------------------------


def draw(parts: list[Part], path: Path) -> None:
    """Draw differences to the reference with their intervals, the suites side by side."""
    import matplotlib.pyplot as plt

    shown = {part.title: differences(part.rows) for part in parts}
    means = pd.DataFrame({title: lines["difference"] for title, lines in shown.items()})
    # As in the table: detectors that ran on both suites.
    order = list(means.dropna().mean(axis="columns").sort_values(kind="stable").index)
    with plt.rc_context({"font.size": 15, "font.family": "DejaVu Sans"}):
        height = 2.4 + 0.5 * len(order)
        figure, axes = plt.subplots(1, len(parts), figsize=(14, height), sharex=True, sharey=True)
        for axis, part in zip(axes, parts, strict=True):
            _draw_part(axis, shown[part.title], order)
            axis.set_title(f"{part.title}, {part.n_tables} tables", fontsize=17, pad=12)
        axes[0].set_yticks(range(len(order)), [NAMES[name] for name in order])
        for label, name in zip(axes[0].get_yticklabels(), order, strict=True):
            label.set(fontweight="bold" if name in OURS else "normal")
        figure.supxlabel(
            f"mean difference in AUROC to {REFERENCE} (95 % interval over tables), better to the "
            "right",
            fontsize=15,
        )
        figure.legend(handles=_handles(order), loc="outside upper center", ncols=3, frameon=False)
        figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _kind(name: str) -> str:
    if name == "Committee":
        return name
    return "other methods of skgenad" if name in OURS else "others"


def _draw_part(axis: Any, lines: pd.DataFrame, order: list[str]) -> None:
    axis.axvline(0, color="black", linewidth=1.5)
    for place, name in enumerate(order):
        line, look = lines.loc[name], _LOOKS[_kind(name)]
        axis.plot([line["low"], line["high"]], [place, place], color=look["color"], linewidth=3)
        axis.plot([line["difference"]], [place], linestyle="none", **look)
        # Numbers stand in a column of their own, right of the axes.
        axis.annotate(
            _signed(line["difference"], 3),
            (1.015, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=13,
            color=look["color"],
        )
    axis.grid(axis="x", color="0.88")
    axis.set_axisbelow(True)
    axis.set_ylim(-0.6, len(order) - 0.1)
    axis.annotate(f" {REFERENCE}", (0, len(order) - 0.15), va="top", fontsize=13)
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter(lambda x, _: _signed(x, 2) if x else "0")
    axis.grid(axis="x", color="0.88")
    axis.set_axisbelow(True)
    axis.set_ylim(-0.6, len(order) - 0.1)
    axis.annotate(f" {REFERENCE}", (0, len(order) - 0.15), va="top", fontsize=13)
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:+.2f}".replace("-", "\N{MINUS SIGN}"))
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _handles(order: Iterable[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    kinds = [kind for kind in _LOOKS if kind in {_kind(name) for name in order}]
    return [Line2D([], [], linestyle="none", label=kind, **_LOOKS[kind]) for kind in kinds]


def main(
    out: Annotated[Path, typer.Option(help="Folder with the suites' folders of rows.")] = FOLDER,
    readme: Annotated[Path, typer.Option(help="Page with the markers.")] = README,
) -> None:
    """Write the table and the picture."""
    parts = read_parts(out)
    made = block(parts)
    (limits,) = small_print("summary")
    text = f"# Summary\n\n{made}\n\n![difference to {REFERENCE}](summary.png)\n\n{limits}\n"
    (out / "summary.md").write_text(text, encoding="utf-8")
    draw(parts, out / "summary.png")
    page = readme.read_text(encoding="utf-8")
    readme.write_text(replace_block(page, made), encoding="utf-8")
    typer.echo(f"wrote {out / 'summary.md'}")


if __name__ == "__main__":
    typer.run(main)
