"""The commands of ``skgenad``, described to typer. Imported by `cli` alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import skgenad

if TYPE_CHECKING:
    from .report import Report

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_Out = Annotated[Path, typer.Option(help="Folder for what is written.")]
_Reference = Annotated[
    str | None, typer.Option(help="Detector whose paired differences to others are reported.")
]
_SuiteName = Annotated[
    str, typer.Argument(help="builtin, adbench, oddbench, or a folder of .npz files.")
]
_Detectors = Annotated[
    str | None, typer.Option(help="Names, separated by commas; see `skgenad list`.")
]
_Datasets = Annotated[
    str | None, typer.Option(help="Names, separated by commas; all of the suite by default.")
]
_Protocol = Annotated[
    str,
    typer.Option(
        help="adbench (small sets are resampled), clean (they are not), or fixed, of suites that "
        "come with a split; auto: adbench or fixed, whichever fits."
    ),
]
_Contaminate = Annotated[
    float, typer.Option(help="Share of training rows that shall be anomalies, 0 to 0.5.")
]
_Seeds = Annotated[
    str | None, typer.Option(help="Such as 1-3 or 1,5; by default 1 for builtin, else 1-3.")
]
_Jobs = Annotated[int, typer.Option(help="Cells at the same time; -1: one per core.")]
_Backend = Annotated[str, typer.Option(help="loky (this machine) or dask.")]
_Scheduler = Annotated[
    str | None, typer.Option(help="Address of Dask's scheduler; starts a cluster without it.")
]
_Resume = Annotated[
    bool,
    typer.Option(
        help="Keep finished rows, and read data sets again that could not be read; or move all "
        "aside and start anew."
    ),
]
_TimeLimit = Annotated[
    float | None, typer.Option(help="Seconds that a cell may take; none by default.")
]
_DataHome = Annotated[Path | None, typer.Option(help="Where files of suites are, or will be kept.")]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"skgenad {skgenad.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Benchmark detectors of anomalies, and report on it."""


@app.command()
def benchmark(
    suite: _SuiteName = "builtin",
    detectors: _Detectors = None,
    datasets: _Datasets = None,
    protocol: _Protocol = "auto",
    contaminate: _Contaminate = 0.0,
    seeds: _Seeds = None,
    jobs: _Jobs = -1,
    backend: _Backend = "loky",
    scheduler: _Scheduler = None,
    out: _Out = Path("results"),
    resume: _Resume = True,
    time_limit: _TimeLimit = None,
    data_home: _DataHome = None,
    reference: _Reference = None,
) -> None:
    """Run detectors on a suite of data sets; write rows, ranks, tests and a diagram."""
    with _plain_errors():
        from ._detectors import DEFAULT
        from ._suites import open_suite
        from .report import report as write_report
        from .runner import run_benchmark

        _check_extra()
        names = list(DEFAULT) if detectors is None else _split_names(detectors)
        sets = None if datasets is None else _split_names(datasets)
        run_benchmark(
            open_suite(suite, sets, data_home=data_home),
            names,
            protocol=protocol,
            contaminate=contaminate,
            seeds=_parse_seeds(seeds or ("1" if suite == "builtin" else "1-3")),
            jobs=jobs,
            backend=backend,
            scheduler=scheduler,
            out=out,
            resume=resume,
            time_limit=time_limit,
        )
        _show(write_report(out, out, reference=reference, html=True))


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Files of rows, or folders with rows.csv.")],
    out: _Out = Path("results"),
    metric: Annotated[str, typer.Option(help="auroc or average_precision.")] = "auroc",
    reference: _Reference = None,
    others: Annotated[
        str | None, typer.Option(help="Detectors to compare the reference with; all by default.")
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write it as one page, report.html, as well.")
    ] = False,
) -> None:
    """Make a report from the rows of one or more benchmarks."""
    with _plain_errors():
        from .report import report as write_report

        chosen = None if others is None else _split_names(others)
        _show(
            write_report(results, out, metric=metric, reference=reference, others=chosen, html=html)
        )


@app.command(name="list")
def list_names() -> None:
    """Show the names of detectors and of data sets."""
    with _plain_errors():
        from skgenad.datasets import list_adbench, list_builtin, list_oddbench

        from . import list_detectors

        typer.echo(f"detectors: {', '.join(list_detectors())}")
        typer.echo(f"builtin: {', '.join(list_builtin())}")
        typer.echo(f"adbench: {', '.join(list_adbench())}")
        typer.echo(f"oddbench: {', '.join(list_oddbench())}")


def _check_extra() -> None:
    """Fail before the hours of work, not after them, if the report could not be made."""
    from skgenad._extras import require

    for module in ("matplotlib", "pyod", "scikit_posthocs"):
        require(module, extra="bench")


def _split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parse_seeds(text: str) -> list[int]:
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            seeds += range(int(first), int(last or first) + 1)
    except ValueError:
        seeds = []
    if not seeds:
        raise ValueError(f"seeds must look like 1-3 or 1,5, got {text!r}")
    return seeds


def _show(made: Report) -> None:
    group = ["suite", "protocol", "contaminate"]
    for values, table in made.ranks.groupby(group, sort=False):
        shown = table.drop(columns=group).set_index("detector")
        title = f"{values[0]}, protocol {values[1]}"
        typer.echo(f"\n{title}, contaminate {values[2]:g}" if values[2] else f"\n{title}")
        typer.echo(shown.round(3).to_string())
    typer.echo(f"\nreport: {made.path}")
    if made.html is not None:
        typer.echo(f"the same as a page for the browser: {made.html}")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Print errors that the user can mend in one line; others keep their traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted; finished rows are kept, the same command goes on from there", code=130)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        _fail(str(error))


def _fail(message: str, *, code: int = 1) -> NoReturn:
    typer.echo(f"skgenad: {message}", err=True)
    raise typer.Exit(code)
