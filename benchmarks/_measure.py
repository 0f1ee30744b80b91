"""Interleaved timing, the description of a machine, and results as CSV and Markdown."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _small_print import small_print

from skgenad.benchmark import ResultsFile
from skgenad.benchmark._markdown import table

FOLDER = Path(__file__).parent / "results" / "speed"
# What every row of every file says about its origin.
_ORIGIN: dict[str, type] = {"command": str, "machine": str, "date": str}

Case = Callable[[], object]


def interleaved(cases: Mapping[str, Case], *, rounds: int, calls: int = 1) -> pd.DataFrame:
    """Seconds per call of several cases, taken in turns.

    Time is the CPU time of this process, which other processes on the machine disturb less than
    they disturb the clock; run with one thread, it is the time the call would take alone.

    Parameters
    ----------
    cases : mapping of str to callable
        Each is called once before the first round.
    rounds : int
        Turns; each gives one row.
    calls : int, default=1
        Calls in a turn.

    Returns
    -------
    DataFrame
        A row per round, a column per case. A ratio of two cases is the median over rounds of the
        ratio within a round.
    """
    for case in cases.values():
        case()
    rows = []
    for _ in range(rounds):
        row = {}
        for name, case in cases.items():
            start = time.process_time()
            for _ in range(calls):
                case()
            row[name] = (time.process_time() - start) / calls
        rows.append(row)
    return pd.DataFrame(rows)


def gemm_rate(n: int, width: int, rounds: int) -> float:
    """Multiply-adds per second of an (n, width) by (width, width) product in float32."""
    a, b = torch.randn(n, width), torch.randn(width, width)
    calls = max(1, 10**9 // (n * width * width))
    seconds = interleaved({"gemm": lambda: a @ b}, rounds=rounds, calls=calls)
    return n * width * width / float(seconds["gemm"].median())


def machine() -> str:
    """Processor, instruction sets, threads, GPU and versions; nothing that names the machine."""
    model, flags = platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = [line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line]
        found = {name.strip(): value.strip() for name, value in reversed(fields)}
        model = found.get("model name", model)
        known = set(found.get("flags", "").split())
        flags = " ".join(f for f in ("avx2", "avx512f", "amx_tile") if f in known)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return (
        f"{gpu}{model} ({flags or 'flags unknown'}), {torch.get_num_threads()} thread(s), "
        f"Python {platform.python_version()}, torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}), numpy {np.__version__}"
    )


@dataclass(frozen=True)
class Section:
    """A table of a report, and what the file of its rows has in its columns.

    Parameters
    ----------
    title : str
        Heading in the report.
    key : mapping of str to type
        First columns, which tell one row from another.
    numbers : tuple of str
        The other columns, measured.
    note : callable, default=None
        Is given the rows and returns a paragraph to put above the table.
    """

    title: str
    key: Mapping[str, type]
    numbers: tuple[str, ...]
    note: Callable[[pd.DataFrame], str] | None = None

    def file(self, name: str, folder: Path = FOLDER) -> ResultsFile:
        """Return the file of a section of this name."""
        columns = {**self.key, **dict.fromkeys(self.numbers, float), **_ORIGIN}
        return ResultsFile(folder / f"{name}.csv", key=tuple(self.key), columns=columns)


def origin() -> dict[str, str]:
    """Return the command that runs, the machine and the day."""
    arguments = " ".join(a for a in sys.argv[1:] if "/" not in a and "\\" not in a)
    command = f"python benchmarks/{Path(sys.argv[0]).name} {arguments}"
    return dict(zip(_ORIGIN, (command, machine(), date.today().isoformat()), strict=True))


def save(file: ResultsFile, rows: Iterable[Mapping[str, object]], *, keep: bool = False) -> None:
    """Write the rows of a section with their origin; the file of an earlier run is moved aside.

    With `keep` its rows are written before the new ones, but for those that are measured anew.
    """
    made = [{**row, **origin()} for row in rows]
    keys = {tuple(row[name] for name in file.key) for row in made}
    before = file.read().to_dict("records") if keep else []
    kept = [row for row in before if tuple(row[name] for name in file.key) not in keys]
    file.move_aside()
    with file:
        file.append(*kept, *made)


def write_report(
    sections: Mapping[str, Section], heading: str = "Speed", folder: Path = FOLDER
) -> Path:
    """Write the Markdown report of the sections that have run.

    Parameters
    ----------
    sections : mapping of str to Section
        By their names.
    heading : str, default="Speed"
        First line.
    folder : Path, default=FOLDER
        Where the sections are; the report is beside it.

    Returns
    -------
    Path
        The report.
    """
    parts = [f"# {heading}\n"]
    for name, section in sections.items():
        file = section.file(name, folder)
        if not file.path.exists():
            continue
        rows = file.read()
        origins = rows[list(_ORIGIN)].drop_duplicates()
        rows = rows.drop(columns=list(_ORIGIN))
        cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
        parts.append(f"## {section.title}\n")
        said = (f"`{o.command}`, {o.date}, {o.machine}" for o in origins.itertuples())
        parts.append(f"{'; '.join(said)}.\n")
        if section.note is not None:
            parts.append(f"{section.note(rows)}\n")
        parts.append(table(list(rows.columns), cells))
    parts.append("\n\n".join(small_print(folder.name)))
    path = folder.with_suffix(".md")
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)
