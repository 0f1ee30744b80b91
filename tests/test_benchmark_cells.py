import os
import signal
import subprocess
import sys

import pandas as pd
import pytest

from skgenad.benchmark import ResultsFile, run_cells

COLUMNS = {"base": int, "seed": int, "exponent": int, "value": float}
CELLS = [(base, seed) for base in (2, 3) for seed in (1, 2)]


def make_file(folder):
    return ResultsFile(folder / "rows.csv", key=("base", "seed", "exponent"), columns=COLUMNS)


def powers(base, seed):
    return [{"exponent": e, "value": float(base**e + seed)} for e in (1, 2, 3)]


def run(folder, compute=powers, cells=CELLS, **options):
    return run_cells(compute, cells, make_file(folder), progress=False, **options)


def test_rows_of_all_cells_are_returned_and_kept(tmp_path):
    rows = run(tmp_path)
    expected = [{"base": b, "seed": s, **row} for b, s in CELLS for row in powers(b, s)]
    pd.testing.assert_frame_equal(rows, pd.DataFrame(expected))
    pd.testing.assert_frame_equal(make_file(tmp_path).read(), rows)


def test_only_missing_cells_are_computed(tmp_path):
    asked = []

    def note(base, seed):
        asked.append((base, seed))
        return powers(base, seed)

    run(tmp_path, note, CELLS[:2])
    rows = run(tmp_path, note, [*CELLS, CELLS[0]])
    assert asked == CELLS
    assert len(rows) == 12
    run(tmp_path, note, [(2.0, 1), ("3", "2")])  # what means the same in the file
    assert asked == CELLS


def test_two_jobs_find_the_same_as_one(tmp_path):
    one, two = run(tmp_path / "1"), run(tmp_path / "2", jobs=2)
    order = ["base", "seed", "exponent"]
    pd.testing.assert_frame_equal(one, two.sort_values(order, ignore_index=True))


def test_cell_that_raises_leaves_the_finished_ones(tmp_path):
    def fail(base, seed):
        if (base, seed) == CELLS[2]:
            raise RuntimeError("no luck")
        return powers(base, seed)

    with pytest.raises(RuntimeError, match="no luck"):
        run(tmp_path, fail)
    assert len(make_file(tmp_path).read()) == 6
    assert len(run(tmp_path)) == 12


def test_killed_run_goes_on_where_it_was(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from tests.test_benchmark_cells import *\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "def die(base, seed):\n"
        "    if (base, seed) == CELLS[2]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return powers(base, seed)\n"
        "run(folder, die)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = (tmp_path / "rows.csv").read_bytes()
    assert len(make_file(tmp_path).read()) == 6
    assert len(run(tmp_path)) == 12
    assert (tmp_path / "rows.csv").read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("compute", "cell", "message"),
    [
        (powers, (), "a value for each of the first columns of the key"),
        (powers, (1, 2, 3, 4), "a value for each of the first columns of the key"),
        (lambda *cell: [], (1, 1), "returned no rows for the cell"),
        (lambda *cell: [{"base": 5, "exponent": 1, "value": 1.0}], (1, 1), "rows of another cell"),
        (lambda *cell: [{"value": 1.0}], (1, 1), "missing: exponent"),
    ],
)
def test_cells_that_do_not_fit_the_file_are_refused(tmp_path, compute, cell, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, compute, [cell])
