"""The critical-difference diagram, drawn by scikit-posthocs and dressed for a talk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from skgenad._extras import require

from ._detectors import OURS
from .ranking import rank_table, score_table, significance

_OURS_COLOR, _OTHERS_COLOR = "#c1440e", "#3b4a5a"
_ALPHA = 0.05


def plot_critical_differences(
    rows: pd.DataFrame, path: Path, *, metric: str = "auroc", title: str = ""
) -> list[Path]:
    """Draw average ranks on a line, and bars over detectors that do not differ significantly.

    Parameters
    ----------
    rows : DataFrame
        Rows of one suite, protocol and contamination; two detectors and two data sets at least.
    path : Path
        Where to draw to, without a suffix: a PNG and an SVG file are written.
    metric : {"auroc", "average_precision"}, default="auroc"
        Score that is ranked.
    title : str, default=""
        First line of the title.

    Returns
    -------
    paths : list of Path
        The two files.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skgenad.benchmark import plot_critical_differences, read_rows
    >>> rows = read_rows("results/rows.csv")  # doctest: +SKIP
    >>> plot_critical_differences(rows, Path("results/differences"))  # doctest: +SKIP
    """
    posthocs = require("scikit_posthocs", extra="bench")
    matplotlib = require("matplotlib", extra="bench")
    figure_module = require("matplotlib.figure", extra="bench")
    ranks = rank_table(rows, metric)["rank"]
    n_datasets = len(score_table(rows, metric).values)
    # A figure of its own, not pyplot's: no window, no global state.
    with matplotlib.rc_context({"svg.hashsalt": "skgenad", "font.size": 11}):
        figure = figure_module.Figure(figsize=(10, 1.9 + 0.24 * len(ranks)), layout="constrained")
        axes = figure.subplots()
        posthocs.critical_difference_diagram(
            ranks,
            significance(rows, metric).p_values,
            alpha=_ALPHA,
            ax=axes,
            label_fmt_left="{label}  {rank:.2f}",
            label_fmt_right="{rank:.2f}  {label}",
            text_h_margin=0.012 * float(ranks.max() - ranks.min()),
            color_palette={n: _OURS_COLOR if n in OURS else _OTHERS_COLOR for n in ranks.index},
            marker_props={"s": 36},
            elbow_props={"linewidth": 1.3},
            crossbar_props={"linewidth": 3.5, "color": "#222222", "marker": None},
        )
        caption = (
            f"Average rank over {n_datasets} data sets, best on the left. A bar joins detectors "
            f"that do not differ\n(Wilcoxon's test, Holm's correction, {100 * _ALPHA:.0f} %)"
        )
        axes.set_title(f"{title}\n{caption}".strip(), fontsize=11, loc="left", pad=20)
        paths = [path.with_name(path.name + suffix) for suffix in (".png", ".svg")]
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
