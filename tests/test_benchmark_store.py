import math
import subprocess
import sys

import pandas as pd
import pytest

from skgenad.benchmark import ResultsFile, ResultsFileError, read_rows
from skgenad.benchmark._rows import COLUMNS, benchmark_file


def make_row(number=0, **changes):
    row = {
        "suite": "s",
        "dataset": f"set {number}",
        "protocol": "clean",
        "contaminate": 0.0,
        "seed": 1,
        "detector": "KNN",
        "status": "ok",
        "auroc": 0.1 + 0.2,
        "average_precision": 0.5,
        "fit_seconds": 1e-7,
        "score_seconds": 2.0,
        "peak_memory_mb": 3.0,
        "n_train": 10,
        "n_train_anomalies": 0,
        "n_test": 5,
        "n_test_anomalies": 1,
        "n_features": 2,
        "message": "",
        "settings": '{"a": "b, \\"c\\""}',
        "versions": "python 3",
    }
    return row | changes


def open_file(path):
    with benchmark_file(path):
        pass


def write(path, rows):
    with benchmark_file(path) as file:
        for row in rows:
            file.append(row)
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "rows.csv", [make_row(0), make_row(1), make_row(2)])


def test_rows_come_back_exactly(tmp_path):
    failed = make_row(1, status="failed", auroc=math.nan, message='line\n"two", and\0 a null')
    rows = read_rows(write(tmp_path / "rows.csv", [make_row(0), failed]))
    assert list(rows.columns) == list(COLUMNS)
    assert rows["auroc"][0] == 0.1 + 0.2
    assert math.isnan(rows["auroc"][1])
    assert rows["message"].tolist() == ["", 'line "two", and a null']
    assert rows["settings"][0] == make_row()["settings"]


def test_every_row_is_one_line(tmp_path):
    path = write(tmp_path / "rows.csv", [make_row(message="a\r\nb\rc\n\nd")])
    assert path.read_bytes().count(b"\n") == 2
    assert b"\r" not in path.read_bytes()


def test_file_cut_at_any_byte_loses_at_most_the_row_that_was_cut(path):
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        finished = max(sum(end <= cut for end in ends) - 1, 0)
        with benchmark_file(path) as file:
            assert len(file.rows) == finished
            assert (file.moved is None) == (cut in (0, *ends))
            for number in range(finished, 3):
                file.append(make_row(number))
        assert path.read_bytes() == whole


def test_unfinished_line_is_kept_beside(path):
    with open(path, "ab") as file:
        file.write(b"s,set 3,cle")
    assert len(read_rows(path)) == 3
    with benchmark_file(path) as results:
        moved = results.moved
    assert moved.read_bytes() == b"s,set 3,cle\n"
    assert path.read_bytes().endswith(b"python 3\n")


def damage(lines, number, change):
    lines = list(lines)
    lines[number - 1] = change(lines[number - 1])
    return lines


DAMAGES = {
    "header": (1, lambda line: line.replace("seed", "sead"), "the header is not that"),
    "field lost": (3, lambda line: line.rpartition(",")[0], "19 fields instead of 20"),
    "field more": (2, lambda line: line + ",x", "21 fields instead of 20"),
    "number": (4, lambda line: line.replace("0.30000000000000004", "0.3O"), "auroc is '0.3O'"),
    "score": (2, lambda line: line.replace("0.30000000000000004", "7.0"), "auroc is 7.0"),
    "no score": (2, lambda line: line.replace("0.30000000000000004", ""), "auroc is nan"),
    "integer": (3, lambda line: line.replace(",10,", ",ten,"), "n_train is 'ten', not int"),
    "status": (3, lambda line: line.replace(",ok,", ",okay,"), "status is 'okay'"),
    "empty line": (3, lambda line: "", "0 fields"),
    "two rows in one": (3, lambda line: line[:20] + line, "fields instead of 20"),
    "binary": (2, lambda line: "\udcff\udcfe" + line, "codec can't decode"),
    "quote": (4, lambda line: line.replace('"', "'", 1), "fields instead of 20"),
    "copy": (4, lambda line: line.replace("set 2", "set 0"), "already on line 2"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_line_is_named_and_nothing_is_overwritten(path, name):
    number, change, message = DAMAGES[name]
    lines = damage(path.read_text().splitlines(), number, change)
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    before = path.read_bytes()
    for attempt in (read_rows, open_file):
        with pytest.raises(ResultsFileError, match=message) as error:
            attempt(path)
        assert str(error.value).startswith(f"{path}:{number}: ")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]


def test_foreign_file_is_left_alone(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("my,own,table\n1,2,3\n")
    with pytest.raises(ResultsFileError, match=r"notes.csv:1: the header"):
        open_file(path)
    assert path.read_text() == "my,own,table\n1,2,3\n"


def test_second_writer_is_refused(path):
    code = f"from tests.test_benchmark_store import open_file; open_file({str(path)!r})"
    with benchmark_file(path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode == 1
    assert "another benchmark is writing to" in other.stderr
    assert len(read_rows(path)) == 3


# ---- columns of one's own ----------------------------------------------------


MINE = {"digit": int, "share": float, "method": str, "value": float}


def my_file(path, **changes):
    return ResultsFile(path, **{"key": ("digit", "share", "method"), "columns": MINE} | changes)


def my_row(digit=1, share=0.5, method="a", value=1 / 3):
    return {"digit": digit, "share": share, "method": method, "value": value}


def test_rows_with_columns_of_ones_own_come_back_as_they_were(tmp_path):
    file = my_file(tmp_path / "mine.csv")
    rows = [my_row(1), my_row(2, math.nan, "b, c", math.nan), my_row(2, 0.5, "", 1e-300)]
    with file:
        file.append(*rows[:2])
        file.append(rows[2])
    pd.testing.assert_frame_equal(file.read(), pd.DataFrame(rows))


def test_making_the_object_touches_nothing(tmp_path):
    file = my_file(tmp_path / "new" / "mine.csv")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        file.read()
    assert file.move_aside() is None


def test_rows_that_belong_together_are_all_there_or_none_after_a_kill_at_any_byte(tmp_path):
    path, kept = tmp_path / "mine.csv", [my_row(1), my_row(1, method="b")]
    with my_file(path) as file:
        file.append(*kept)
    before = path.read_bytes()
    with my_file(path) as file:
        file.append(my_row(2), my_row(3))
    whole = path.read_bytes()
    note = path.with_name("mine.csv.begun")
    assert not note.exists()
    for cut in range(len(before), len(whole) + 1):
        note.write_bytes(b"%d\n" % len(before))
        path.write_bytes(whole[:cut])
        assert len(my_file(path).read()) == 2
        with my_file(path) as file:
            assert file.rows == kept and (file.moved is None) == (cut == len(before))
        assert path.read_bytes() == before and not note.exists()


def test_note_that_was_cut_itself_says_nothing_has_begun(tmp_path):
    with my_file(tmp_path / "mine.csv") as file:
        file.append(my_row(1), my_row(2))
    (tmp_path / "mine.csv.begun").write_bytes(b"1")
    with my_file(tmp_path / "mine.csv") as file:
        assert len(file.rows) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"digit": 1}], "missing: method, share, value, unknown: none"),
        ([my_row() | {"more": 1}], "missing: none, unknown: more"),
        ([my_row(2.5)], "digit is '2.5', not int"),
        ([my_row(9, 1)], "the row 9, 1.0, a is in .*mine.csv' already"),
        ([my_row(2), my_row(2)], "the row 2, 0.5, a is in"),
        ([my_row(value=-1.0)], "below 0"),
    ],
)
def test_row_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, rows, message):
    def check(row):
        if row["value"] < 0:
            raise ValueError("below 0")

    with my_file(tmp_path / "mine.csv", check=check) as file:
        file.append(my_row(9, 1.0))
        before = file.path.read_bytes()
        with pytest.raises(ValueError, match=message):
            file.append(*rows)
        assert file.path.read_bytes() == before and len(file.rows) == 1


@pytest.mark.parametrize("key", [(), ("digit", "seed")])
def test_key_must_name_columns(tmp_path, key):
    with pytest.raises(ValueError, match="key must name columns"):
        my_file(tmp_path / "mine.csv", key=key)


def test_old_rows_are_moved_aside_under_the_first_free_name(tmp_path):
    file = my_file(tmp_path / "mine.csv")
    for number in (1, 2):
        with file:
            file.append(my_row(number))
        assert file.move_aside() == tmp_path / f"mine.csv.{number}"
    assert my_file(tmp_path / "mine.csv.2").read()["digit"].tolist() == [2]
