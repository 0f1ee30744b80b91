import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from skgenad.benchmark import read_rows
from tests._benchmark import VOLATILE, is_alive, make_folder, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")

N_CELLS = 4 * 3 * 2


def start(folder, out, *, jobs=1, detectors="IForest,KNN", seeds="1-3"):
    command = [sys.executable, "-m", "skgenad.benchmark.cli", "benchmark", str(folder)]
    options = {
        "detectors": detectors,
        "seeds": seeds,
        "jobs": jobs,
        "out": out,
        "protocol": "clean",
    }
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process):
    output, errors = process.communicate(timeout=240)
    return process.returncode, output.decode(), errors.decode()


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def descendants(pid):
    children = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(process.name))
    found, todo = [], [pid]
    while todo:
        found += children.get(todo[0], [])
        todo += children.get(todo.pop(0), [])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "mine", count=4)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """Rows of a run that nobody interrupts, and the seconds that its cells took."""
    out = tmp_path_factory.mktemp("undisturbed")
    process = start(folder, out)
    assert wait_until(lambda: count_lines(out / "rows.csv") > 0, 120)
    began = time.monotonic()
    code, _, errors = finish(process)
    assert code == 0, errors
    return read_rows(out / "rows.csv"), (out / "ranks.csv"), time.monotonic() - began


def kill_at_random_moments(folder, undisturbed, out, times, seed):
    expected, ranks, seconds = undisturbed
    draw = random.Random(seed)
    path = out / "rows.csv"
    killed = 0
    kept = pd.DataFrame()
    while killed < times:
        if count_lines(path) > N_CELLS:  # finished before the last kill: begin again
            path.unlink()
            kept = pd.DataFrame()
        process = start(folder, out)
        lines = count_lines(path)
        # Most moments while cells run; some while the process still starts or reads the file.
        if draw.random() < 0.8:
            wait_until(lambda lines=lines: count_lines(path) > lines, 120)
        time.sleep(draw.uniform(0, seconds / 2))
        family = descendants(process.pid)
        process.kill()
        process.communicate()
        killed += 1
        assert wait_until(lambda family=family: not any(map(is_alive, family))), "orphans"
        kept = check_kept(path, kept)
    code, _, errors = finish(start(folder, out))
    assert code == 0, errors
    final = check_kept(path, kept, all_of=N_CELLS)
    key = ["dataset", "seed", "detector"]
    pd.testing.assert_frame_equal(
        final.drop(columns=VOLATILE).sort_values(key, ignore_index=True),
        expected.drop(columns=VOLATILE).sort_values(key, ignore_index=True),
    )
    names = ["suite", "protocol", "detector", "rank", "rank_error", "wins", "failures", "auroc"]
    pd.testing.assert_frame_equal(pd.read_csv(out / "ranks.csv")[names], pd.read_csv(ranks)[names])


def check_kept(path, before, all_of=None):
    """Every finished row must still be there, with its times: it was not computed again."""
    if not path.exists():
        assert before.empty
        return before
    now = read_rows(path)
    if len(before):
        pd.testing.assert_frame_equal(now.iloc[: len(before)], before)
    assert all_of is None or len(now) == all_of
    return now


def test_killed_benchmark_goes_on_where_it_was(folder, undisturbed, tmp_path):
    kill_at_random_moments(folder, undisturbed, tmp_path, times=1, seed=0)


@pytest.mark.slow
def test_benchmark_killed_twenty_times_goes_on(folder, undisturbed, tmp_path):
    kill_at_random_moments(folder, undisturbed, tmp_path, times=20, seed=1)


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ctrl_c_ends_everything_and_keeps_rows(folder, tmp_path, jobs):
    process = start(folder, tmp_path, jobs=jobs, detectors="DeepSVDD", seeds="1-9")
    path = tmp_path / "rows.csv"
    assert wait_until(lambda: count_lines(path) >= 2, 120)
    family = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    code, _, errors = finish(process)
    assert code == 130, errors
    assert "finished rows are kept" in errors
    assert "Traceback" not in errors
    rows = read_rows(path)
    assert 1 <= len(rows) < 36 and (rows["status"] == "ok").all()
    assert path.read_bytes().endswith(b"\n")
    assert wait_until(lambda: not any(map(is_alive, family))), "orphans"
