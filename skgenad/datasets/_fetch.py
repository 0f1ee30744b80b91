"""Files from the network, which are found locally or downloaded once, and verified either way.

A `RemoteFile` says what a file is; `fetch_file` returns the path of a verified copy. Nothing gets
its final name before its digest is right, an interrupted download goes on where it stopped, and
processes that want the same file at the same time wait for one another. A download that fails
leaves what has arrived, if anything has, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skgenad._extras import require

_ENVIRONMENT_VARIABLE = "SKGENAD_DATA"
_CHUNK_BYTES = 2**16
_OK, _RANGE_NOT_SATISFIABLE, _TOO_MANY_REQUESTS = 200, 416, 429


@dataclass(frozen=True)
class RemoteFile:
    """A file of known content on a server.

    Parameters
    ----------
    path : str
        Where a downloaded copy is kept, relative to the data home, with forward slashes.
    base_url : str
        Address of the collection, without a trailing slash. Mirrors replace this part.
    remote_path : str
        Address of the file relative to `base_url`.
    digest : str
        ``"git-blob:<hex>"`` (the id git gives the content) or ``"<algorithm>:<hex>"`` with an
        algorithm of `hashlib`, such as ``"sha256:..."``.
    also_at : tuple of str, default=()
        Other places below the data home where a copy the user already has may lie.
    also_fits : tuple of str, default=()
        Digests of copies in circulation that hold the same data in another form, with a header row
        for example. A copy the user has may be one of them; a download may not.
    """

    path: str
    base_url: str
    remote_path: str
    digest: str
    also_at: tuple[str, ...] = ()
    also_fits: tuple[str, ...] = ()

    def url(self, base_url: str | None = None) -> str:
        """Full address, at `base_url` when a mirror is given."""
        return f"{(base_url or self.base_url).rstrip('/')}/{self.remote_path}"

    def places(self, home: Path) -> list[Path]:
        """Paths where a copy may lie; the first is where downloads go."""
        return [home / path for path in (self.path, *self.also_at)]


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Folder in which data sets are looked for, and to which they are downloaded.

    Parameters
    ----------
    data_home : path-like, default=None
        A folder. ``None`` stands for the environment variable ``SKGENAD_DATA`` if it is set, else
        for the ``skgenad`` folder in the operating system's cache for applications.

    Returns
    -------
    pathlib.Path
        The folder; it need not exist yet.

    Raises
    ------
    ImportError
        If the cache folder is needed and pooch is not installed.

    Examples
    --------
    >>> from skgenad.datasets import get_data_home
    >>> get_data_home("my_data").as_posix()
    'my_data'
    """
    chosen = data_home or os.environ.get(_ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(require("pooch", extra="bench").os_cache("skgenad"))


def file_digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file by an algorithm of `hashlib`, or its git blob id (``"git-blob"``)."""

    def new_hash() -> Any:  # noqa: ANN401 (hashlib's type has no public name)
        if algorithm == "git-blob":
            header = b"blob %d\0" % path.stat().st_size
            return hashlib.sha1(header, usedforsecurity=False)
        return hashlib.new(algorithm)

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, new_hash).hexdigest()


def find_file(file: RemoteFile, data_home: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the path of a verified copy in the data home, or None if there is no copy.

    Parameters
    ----------
    file : RemoteFile
        What to look for.
    data_home : path-like, default=None
        See `get_data_home`.

    Returns
    -------
    pathlib.Path or None
        An existing file with one of the right digests.

    Raises
    ------
    OSError
        If there is a file of that name with other content.
    """
    for place in file.places(get_data_home(data_home)):
        if place.is_file():
            digests = (file.digest, *file.also_fits)
            _check_digest(place, digests, "Remove it to have it downloaded again.")
            return place
    return None


def fetch_file(
    file: RemoteFile,
    data_home: str | os.PathLike[str] | None = None,
    *,
    download_if_missing: bool = True,
    verbose: bool = False,
    base_url: str | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Return the path of a verified copy of a file, downloading it if there is none.

    Parameters
    ----------
    file : RemoteFile
        What to fetch.
    data_home : path-like, default=None
        See `get_data_home`.
    download_if_missing : bool, default=True
        If False, a missing file is an error.
    verbose : bool, default=False
        Show a progress bar while downloading.
    base_url : str, default=None
        Address of a mirror, in place of the file's own `base_url`.
    n_retries : int, default=3
        How often a broken connection is tried again. What has arrived is kept.
    delay : float, default=1.0
        Seconds between two attempts.
    timeout : float, default=30.0
        Seconds to wait for the server to say anything.

    Returns
    -------
    pathlib.Path
        An existing file with the right digest.

    Raises
    ------
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and pooch is not installed.
    """
    home = get_data_home(data_home)
    if found := find_file(file, home):
        return found
    if not download_if_missing:
        raise FileNotFoundError(
            f"'{file.path}' is missing and download_if_missing is False. {_advice(file, home)}"
        )
    require("pooch", extra="bench")  # an error must come before anything is written
    target, url = file.places(home)[0], file.url(base_url)
    download = _Download(
        url, target.with_name(target.name + ".part"), file.digest, verbose, timeout
    )
    requests = require("requests", extra="bench")
    try:
        _download_once(download, target, n_retries, delay)
    except requests.RequestException as error:
        raise OSError(
            f"Could not download '{file.path}' from {url}: {error}. {_advice(file, home)}"
        ) from error
    except OSError as error:
        if error.errno is None:  # this is our own error on a wrong content
            raise
        raise OSError(
            f"Could not store '{file.path}' in '{target.parent}': {error}. {_advice(file, home)}"
        ) from error
    return target


def _advice(file: RemoteFile, home: Path) -> str:
    looked = ", ".join(f"'{place}'" for place in file.places(home))
    return (
        f"Looked for it at {looked}. Put the file at one of these places, or name the folder that "
        f"holds your data sets with data_home=... or the environment variable "
        f"{_ENVIRONMENT_VARIABLE}, or try again online (a partial download is continued)."
    )


def _check_digest(path: Path, digests: tuple[str, ...], advice: str) -> None:
    """Raise an error unless the file has one of the digests, all of the same algorithm."""
    algorithm = digests[0].partition(":")[0]
    actual = file_digest(path, algorithm)
    if f"{algorithm}:{actual}" not in digests:
        expected = " or ".join(digest.partition(":")[2] for digest in digests)
        raise OSError(
            f"'{path}' does not hold what it should: its {algorithm} id is {actual}, "
            f"expected {expected}. {advice}"
        )


def _download_once(download: _Download, target: Path, n_retries: int, delay: float) -> None:
    """Give `target` its verified content, unless another process does so first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(target.name + ".lock")
    new_lock = require("filelock", extra="bench").FileLock
    removes_open_files = os.name != "nt"  # elsewhere an empty lock file stays behind
    while True:
        with new_lock(lock):
            if removes_open_files and not lock.exists():
                continue  # whoever had it before us has removed its file: others do not see ours
            try:
                if not target.is_file():
                    download.run(n_retries, delay)
                    os.replace(download.part, target)
                return
            finally:
                download.remove_nothing()
                if removes_open_files:
                    lock.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Download:
    """One file on its way: from `url` into `part`, which is complete once `digest` fits."""

    url: str
    part: Path
    digest: str
    verbose: bool
    timeout: float

    def run(self, n_retries: int, delay: float) -> None:
        """Download until the content is right.

        Content that is wrong from the first byte on is an error; content that began as an older
        partial file gets one more chance, from the start.
        """
        is_resumed = self.part.is_file()
        if is_resumed and self._is_complete():
            return
        while True:
            self._download_with_retries(n_retries, delay)
            try:
                _check_digest(
                    self.part, (self.digest,), f"The server at {self.url} sent other content."
                )
                return
            except OSError:
                self.part.unlink()
                if not is_resumed:
                    raise
                is_resumed = False

    def remove_nothing(self) -> None:
        """Remove `part` if nothing has arrived, with which there is nothing to go on from."""
        if self.part.is_file() and not self.part.stat().st_size:
            self.part.unlink()

    def _is_complete(self) -> bool:
        algorithm, expected = self.digest.split(":")
        return file_digest(self.part, algorithm) == expected

    def _download_with_retries(self, n_retries: int, delay: float) -> None:
        requests = require("requests", extra="bench")
        broken_off = requests.exceptions.ChunkedEncodingError
        for n_left in reversed(range(n_retries + 1)):
            try:
                return self._download_rest()
            except requests.HTTPError as error:
                status = error.response.status_code
                if status == _RANGE_NOT_SATISFIABLE:
                    self.part.unlink()  # it is too long to be a beginning of the file
                elif status != _TOO_MANY_REQUESTS and status < 500:
                    raise  # another attempt would get the same answer
                if not n_left:
                    raise
            except (requests.ConnectionError, requests.Timeout, broken_off):
                if not n_left:
                    raise
            time.sleep(delay)

    def _download_rest(self) -> None:
        """Append what `part` does not have yet; start again if the server sends the whole."""
        with self.part.open("ab") as stream:
            # Offsets count stored bytes, so the server must not compress what it sends.
            headers = {"Accept-Encoding": "identity"}
            if stream.tell():
                headers["Range"] = f"bytes={stream.tell()}-"

            def drop_old_bytes(response: Any, **_: object) -> None:  # noqa: ANN401
                if response.status_code == _OK:  # the server ignored the range, or it would say 206
                    stream.truncate(0)

            require("pooch", extra="bench").HTTPDownloader(
                progressbar=self.verbose,
                chunk_size=_CHUNK_BYTES,
                timeout=self.timeout,
                headers=headers,
                hooks={"response": drop_old_bytes},
            )(self.url, stream, None)
