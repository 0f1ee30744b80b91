"""The critical-difference diagram, drawn by scikit-posthocs and dressed for a talk."""

from __future__ import annotations

from pathlib import Path

from skgenad._extras import require
from skgenad._writing import replacing

from ._detectors import OURS
from .ranking import Comparison

_OURS_COLOR, _OTHERS_COLOR = "#c1440e", "#3b4a5a"
_ALPHA = 0.05


def plot_critical_differences(comparison: Comparison, path: Path, *, title: str = "") -> list[Path]:
    """Draw average ranks on a line, and bars over detectors that do not differ significantly.

    Parameters
    ----------
    comparison : Comparison
        Scores or ranks of at least two detectors and data sets of two sources.
    path : Path
        Where to draw to, without a suffix: a PNG and an SVG file are written.
    title : str, default=""
        First line of the title.

    Returns
    -------
    paths : list of Path
        The two files.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skgenad.benchmark import Comparison, plot_critical_differences, read_rows
    >>> comparison = Comparison(read_rows("results/rows.csv"))  # doctest: +SKIP
    >>> plot_critical_differences(comparison, Path("results/differences"))  # doctest: +SKIP
    """
    posthocs = require("scikit_posthocs", extra="bench")
    matplotlib = require("matplotlib", extra="bench")
    figure_module = require("matplotlib.figure", extra="bench")
    ranks = comparison.ranks["rank"]
    n_datasets, n_sources = len(comparison.scores.values), comparison.scores.n_sources
    over = f"{n_datasets} data sets"
    if n_sources < n_datasets:
        over += f" from {n_sources} sources"
    # The figure is not made by pyplot, which would open a window and keep global state.
    with matplotlib.rc_context({"svg.hashsalt": "skgenad", "font.size": 11}):
        figure = figure_module.Figure(figsize=(10, 1.9 + 0.24 * len(ranks)), layout="constrained")
        axes = figure.subplots()
        posthocs.critical_difference_diagram(
            ranks,
            comparison.significance.p_values,
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
            f"Average rank over {over}, best on the left. A bar joins detectors "
            f"that do not differ\n(Wilcoxon's test, Holm's correction, {100 * _ALPHA:.0f} %)"
        )
        axes.set_title(f"{title}\n{caption}".strip(), fontsize=11, loc="left", pad=20)
        paths = [path.with_name(path.name + suffix) for suffix in (".png", ".svg")]
        with replacing(paths[0]) as file:
            figure.savefig(file, format="png", dpi=160)
        with replacing(paths[1]) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
    return paths
