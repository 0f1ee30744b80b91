"""Files that are whole at every moment: written beside their place, then put into it.

A process that is killed while it writes leaves the old file as it was, and one file beside it with
the beginning of the new one. Its name begins with ``.skgenad-``, nothing reads it, and whoever
next writes to the same place removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """Say what a path is that is no regular file, by the mode of its ``stat``."""
    found = [words for is_kind, words in _KINDS if is_kind(mode)]
    return "a folder" if stat.S_ISDIR(mode) else (*found, "no regular file")[0]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of another once the block has ended well.

    The place is that of a link's target, and the file that was there gives its mode to the new one.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If there is a folder at the path.
    OSError
        If there is a pipe or a device, or the disk is full; PermissionError if the file or its
        folder may not be written.
    """
    given = Path(path)
    target = Path(os.path.realpath(given))
    before = _stat_before(given, target)
    remove_leftovers(target)
    file, beside = _open_beside(target, 0o666 if before is None else stat.S_IMODE(before.st_mode))
    try:
        with os.fdopen(file, "wb") as stream:
            yield stream
            stream.flush()
            if before is not None:
                _resemble(file, before)
            os.fsync(file)
            if os.name == "nt":  # no open file can be moved there
                stream.close()
            os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file that no kill leaves half written; text is encoded in UTF-8."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _stat_before(given: Path, target: Path) -> os.stat_result | None:
    """Look at what is at the place of the new file, or say why there can be none."""
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{target.parent} is no folder to save {target.name} in; make it first."
        )
    try:
        before = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(
            f"{given} is a folder; name a file in it, such as {given / 'detector.safetensors'}."
        )
    if not stat.S_ISREG(before.st_mode):
        raise OSError(
            f"{given} is {kind_of(before.st_mode)}, which a save cannot replace; name a file."
        )
    # A file may be replaced by whoever may write to its folder; `open` would ask the file.
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"{given} may not be written; name another file, or change its mode.")
    return before


def _beginning(target: Path) -> str:
    """Beginning of the names of unfinished files for a place; short, whatever its own name."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()
    return f".skgenad-{digest[:12]}-"


def _open_beside(target: Path, mode: int) -> tuple[int, Path]:
    """Make an empty file in the folder of `target`, locked so that no other save removes it."""
    while True:
        beside = target.with_name(f"{_beginning(target)}{secrets.token_hex(4)}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            file = os.open(beside, flags, mode)
        except FileExistsError:
            continue
        except PermissionError as error:
            raise PermissionError(
                f"{target.parent} may not be written, and {target.name} is made beside its place "
                "first, so that it is never half written; name a file in another folder."
            ) from error
        _lock(file, wait=True)
        if beside.exists():
            return file, beside
        os.close(file)  # another save took it for a leftover before it was locked


def _lock(file: int, *, wait: bool = False) -> bool:
    """Lock an open file; False if somebody else has, or the file system knows no locks."""
    try:
        import fcntl  # Windows lacks the module
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes began to write for this place."""
    _remove_unlocked(target.parent, _beginning(target))


def remove_all_leftovers(folder: Path) -> None:
    """Remove what killed processes began to write in a folder, for whichever place."""
    _remove_unlocked(folder, ".skgenad-")


def _remove_unlocked(folder: Path, beginning: str) -> None:
    """Remove unfinished files, but not those of a living writer, which are locked."""
    for leftover in folder.glob(f"{beginning}*.part"):
        with contextlib.suppress(OSError):
            file = os.open(leftover, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(file):
                    leftover.unlink()
            finally:
                os.close(file)


def _resemble(file: int, before: os.stat_result) -> None:
    """Give a file owner, group and mode of another, as far as the process may."""
    if not hasattr(os, "fchmod"):
        return
    now = os.fstat(file)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(file, before.st_uid, before.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.fchown(file, -1, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode))


def _flush_folder(folder: Path) -> None:
    """Write the names of a folder to the disk where the system can do so."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
