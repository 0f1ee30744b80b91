"""Writing over a file: in one step, in its own place, with its own mode."""

import errno
import importlib.util
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import skgenad
from skgenad import Mahalanobis
from skgenad._writing import _open_beside, replacing, write_whole

from ._settings import normal_rows

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor pipes")


@pytest.fixture(scope="module")
def detector():
    return Mahalanobis(device="cpu").fit(normal_rows())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    def set_to(value):
        os.umask(value)

    before = os.umask(0o022)
    yield set_to
    os.umask(before)


@posix
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_mode_that_the_umask_leaves(mask, expected, detector, tmp_path, umask):
    umask(mask)
    detector.save(tmp_path / "file")
    assert mode(tmp_path / "file") == expected


@posix
@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o644, 0o755, 0o666])
def test_a_file_that_is_replaced_gives_its_mode_on(kept, detector, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(kept)
    detector.save(path)
    assert mode(path) == kept and isinstance(Mahalanobis.load(path), Mahalanobis)


@posix
def test_a_link_stays_one_and_its_target_is_written(detector, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "v1").write_bytes(b"old")
    (tmp_path / "current").symlink_to("models/v1")
    (tmp_path / "again").symlink_to(tmp_path / "current")
    detector.save(tmp_path / "again")
    assert (tmp_path / "again").is_symlink() and (tmp_path / "current").is_symlink()
    Mahalanobis.load(tmp_path / "models" / "v1")
    (tmp_path / "next").symlink_to("models/v2")  # to what is not there yet
    detector.save(tmp_path / "next")
    Mahalanobis.load(tmp_path / "models" / "v2")
    assert sorted(os.listdir(tmp_path / "models")) == ["v1", "v2"]


@posix
@pytest.mark.parametrize("save", ["method", "function"])
def test_what_is_no_file_is_not_replaced(save, detector, tmp_path):
    write = detector.save if save == "method" else lambda path: skgenad.save(detector, path)
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it, such as"):
        write(tmp_path)
    with pytest.raises(IsADirectoryError):
        write("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a named pipe"):
        write(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device"):
        write("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(FileNotFoundError, match="missing is no folder"):
        write(tmp_path / "missing" / "file")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        write(tmp_path / "file" / "file")
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may all")
def test_what_may_not_be_written_is_said(detector, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="may not be written"):
        detector.save(path)
    path.chmod(0o644)
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="name a file in another folder"):
        detector.save(path)
    tmp_path.chmod(0o755)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["ü ß", "x" * 250, "-rf", ".hidden", "a*[b]?"])
def test_any_name_will_do(name, detector, tmp_path):
    detector.save(tmp_path / name)
    detector.save(tmp_path / name)
    Mahalanobis.load(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_leaves_the_old_file_and_nothing_else(
    call, error, detector, tmp_path, monkeypatch
):
    (tmp_path / "file").write_bytes(b"old")

    def fail(*args):
        raise error

    monkeypatch.setattr(f"skgenad._writing.os.{call}", fail)
    with pytest.raises(type(error)):
        detector.save(tmp_path / "file")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_leaves_the_old_file(detector, tmp_path, monkeypatch):
    """Writes fail as on a full disk, because they go to the device that is always full."""
    (tmp_path / "file").write_bytes(b"old")
    fdopen = os.fdopen

    def full(file, mode):
        os.close(file)
        return fdopen(os.open("/dev/full", os.O_WRONLY), mode)

    monkeypatch.setattr("skgenad._writing.os.fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        detector.save(tmp_path / "file")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_whole_is_not_begun(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as file:
        file.write(b"new")
        file.flush()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    write_whole(tmp_path / "file", "ü")
    assert (tmp_path / "file").read_bytes() == "ü".encode()


@posix
def test_two_saves_at_once_do_not_take_each_others_files(tmp_path):
    target = tmp_path / "file"
    with replacing(target) as slow:
        slow.write(b"slow")
        write_whole(target, b"quick")  # finds the other's unfinished file, which is in use
        assert target.read_bytes() == b"quick"
    assert target.read_bytes() == b"slow" and os.listdir(tmp_path) == ["file"]


@posix
def test_what_a_killed_process_left_is_removed_by_the_next_save(detector, tmp_path):
    target = tmp_path / "file"
    file, beside = _open_beside(target, 0o644)
    os.write(file, b"half")
    os.close(file)  # as when its process ends
    other, foreign = _open_beside(tmp_path / "another", 0o644)
    os.close(other)
    with pytest.raises(ValueError, match="not a readable"):
        skgenad.load(beside)
    detector.save(target)
    assert sorted(os.listdir(tmp_path)) == sorted([foreign.name, "file"])


SAVE_AND_BE_STOPPED = """
import os, signal, sys
import _writing

with _writing.replacing(sys.argv[1]) as file:
    file.write(b"new")
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    signal.pause()
"""


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_signal_leaves_the_old_file(name, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    # The module alone is imported, since the package takes seconds.
    command = [sys.executable, "-c", SAVE_AND_BE_STOPPED, str(path), name]
    done = subprocess.run(command, capture_output=True, timeout=60, cwd=ROOT / "skgenad")
    assert done.returncode in (-getattr(signal, name), 1, 130)
    assert path.read_bytes() == b"old"
    if name == "SIGINT":  # the one that Python turns into an error
        assert os.listdir(tmp_path) == ["file"]


def kills():
    spec = importlib.util.spec_from_file_location("kills", ROOT / "benchmarks" / "kills.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path):
    found = kills().run(15, tmp_path, n_rows=2000, longest=0.02)
    assert found["first"] + found["second"] == 15


@posix
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_500_kills_leave_the_old_file_or_the_new_one(tmp_path):
    found = kills().run(500, tmp_path)
    assert found["first"] + found["second"] == 500 and found["leftovers"] > 0
