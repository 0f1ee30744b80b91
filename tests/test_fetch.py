"""Downloads, against a server on this machine's loopback."""

import hashlib
import re
import socket
import sys
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skgenad.datasets import _fetch
from skgenad.datasets._fetch import RemoteFile, fetch_file, file_digest, find_file, get_data_home

CONTENT = bytes(range(256)) * 1024  # four chunks of a download
REMOTE_PATH = "files/rows.bin"


def blob_id(content):
    return "git-blob:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    cut_after: list = field(default_factory=list)  # body bytes of each next answer, then all
    statuses: list = field(default_factory=list)  # of each next answer, then 200 or 206
    pause: threading.Event | None = None
    asked: list = field(default_factory=list)  # (path, Range header)
    sent: list = field(default_factory=list)  # body bytes of each answer

    def reply(self, handler):
        self.asked.append((handler.path, handler.headers.get("Range")))
        if self.pause is not None:
            self.pause.wait(10)
        start = self.start_of(handler.headers.get("Range"))
        status = self.statuses.pop(0) if self.statuses else (206 if start else 200)
        if start >= len(self.content):
            status = 416
        body = self.content[start:] if status in (200, 206) else b""
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if status in (200, 206) and self.cut_after:
            body = body[: self.cut_after.pop(0)]
        self.sent.append(len(body))
        handler.wfile.write(body)

    def start_of(self, header):
        return int(re.fullmatch(r"bytes=(\d+)-", header)[1]) if header and self.ranges else 0


@pytest.fixture
def server():
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.reply(self)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def file(server):
    return RemoteFile("kept/rows.bin", server.url, REMOTE_PATH, blob_id(CONTENT), ("rows.bin",))


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("digest", [blob_id(CONTENT), sha256(CONTENT)])
def test_file_is_downloaded_once(server, tmp_path, digest):
    file = RemoteFile("kept/rows.bin", server.url, REMOTE_PATH, digest)
    path = fetch_file(file, tmp_path)
    assert path == tmp_path / "kept/rows.bin"
    assert path.read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["rows.bin"]
    assert fetch_file(file, tmp_path) == path
    assert server.asked == [(f"/{REMOTE_PATH}", None)]


def test_git_blob_id_is_the_one_git_gives(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert file_digest(tmp_path / "hello", "git-blob") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_mirror_replaces_the_base_url(server, file, tmp_path):
    elsewhere = RemoteFile(file.path, "http://127.0.0.1:1", REMOTE_PATH, file.digest)
    assert fetch_file(elsewhere, tmp_path, base_url=server.url + "/").read_bytes() == CONTENT


@pytest.mark.parametrize("place", ["kept/rows.bin", "rows.bin"])
def test_local_copy_is_used_without_a_request(server, file, tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(CONTENT)
    assert fetch_file(file, tmp_path) == tmp_path / place
    assert not server.asked


def test_local_copy_with_other_content_is_an_error_and_stays(server, file, tmp_path):
    (tmp_path / "rows.bin").write_bytes(b"mine")
    with pytest.raises(OSError) as error:
        fetch_file(file, tmp_path)
    message = str(error.value)
    for part in (str(tmp_path / "rows.bin"), blob_id(b"mine")[9:], blob_id(CONTENT)[9:]):
        assert part in message
    assert (tmp_path / "rows.bin").read_bytes() == b"mine"
    assert not server.asked


def test_local_copy_in_another_known_form_is_used_but_not_downloaded(server, file, tmp_path):
    other = b"names\n" + CONTENT
    file = replace(file, also_fits=(blob_id(b"third"), blob_id(other)))
    (tmp_path / "rows.bin").write_bytes(other)
    assert fetch_file(file, tmp_path) == tmp_path / "rows.bin"
    assert not server.asked

    server.content = other
    with pytest.raises(OSError, match="sent other content"):
        fetch_file(file, tmp_path / "home")
    (tmp_path / "rows.bin").write_bytes(other + b"!")
    with pytest.raises(OSError, match=f"{blob_id(CONTENT)[9:]} or .* or {blob_id(other)[9:]}"):
        fetch_file(file, tmp_path)


def test_copy_is_found_or_not_without_a_request(server, file, tmp_path):
    assert find_file(file, tmp_path) is None
    (tmp_path / "rows.bin").write_bytes(CONTENT)
    assert find_file(file, tmp_path) == tmp_path / "rows.bin"
    (tmp_path / "rows.bin").write_bytes(b"mine")
    with pytest.raises(OSError, match="does not hold what it should"):
        find_file(file, tmp_path)
    assert not server.asked


def test_wrong_content_is_an_error_and_leaves_no_file(server, file, tmp_path):
    server.content = b"something else"
    with pytest.raises(OSError, match="sent other content") as error:
        fetch_file(file, tmp_path)
    assert blob_id(server.content)[9:] in str(error.value)
    assert blob_id(CONTENT)[9:] in str(error.value)
    assert leftovers(tmp_path) == []
    assert len(server.asked) == 1

    server.content = CONTENT
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT


def test_truncated_answer_is_an_error_and_leaves_no_file_of_that_name(server, file, tmp_path):
    server.cut_after = [100_000]
    with pytest.raises(OSError, match=r"Could not download 'kept/rows.bin' from http"):
        fetch_file(file, tmp_path, n_retries=0)
    assert not (tmp_path / "kept/rows.bin").exists()


def test_next_call_resumes_where_the_last_one_broke_off(server, file, tmp_path):
    server.cut_after = [100_000]
    with pytest.raises(OSError):
        fetch_file(file, tmp_path, n_retries=0)
    assert leftovers(tmp_path) == ["rows.bin.part"]
    kept = (tmp_path / "kept/rows.bin.part").stat().st_size
    assert kept >= _fetch._CHUNK_BYTES

    assert fetch_file(file, tmp_path).read_bytes() == CONTENT
    assert server.asked[1][1] == f"bytes={kept}-"
    assert server.sent == [100_000, len(CONTENT) - kept]
    assert leftovers(tmp_path) == ["rows.bin"]


def test_broken_connections_are_retried_from_where_they_were(server, file, tmp_path):
    server.cut_after = [70_000, 70_000]
    assert fetch_file(file, tmp_path, n_retries=2, delay=0).read_bytes() == CONTENT
    starts = [server.start_of(header) for _, header in server.asked]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] < starts[2]


def test_partial_file_is_started_again_where_the_server_has_no_ranges(server, file, tmp_path):
    server.ranges, server.cut_after = False, [100_000]
    assert fetch_file(file, tmp_path, n_retries=1, delay=0).read_bytes() == CONTENT
    assert server.sent == [100_000, len(CONTENT)]


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * (len(CONTENT) + 5)], ids=["short", "long"])
def test_partial_file_of_other_content_is_dropped(server, file, tmp_path, stale):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/rows.bin.part").write_bytes(stale)
    assert fetch_file(file, tmp_path, delay=0).read_bytes() == CONTENT
    assert server.sent[-1] == len(CONTENT)


def test_complete_partial_file_needs_no_request(server, file, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/rows.bin.part").write_bytes(CONTENT)
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT
    assert not server.asked


@pytest.mark.parametrize(("status", "n_asked"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_only_passing_errors_of_the_server_are_retried(server, file, tmp_path, status, n_asked):
    server.statuses = [status] * 5
    with pytest.raises(OSError, match=str(status)):
        fetch_file(file, tmp_path, n_retries=2, delay=0)
    assert len(server.asked) == n_asked
    assert leftovers(tmp_path) == []


def test_server_that_recovers_is_waited_for(server, file, tmp_path):
    server.statuses = [503]
    assert fetch_file(file, tmp_path, n_retries=1, delay=0).read_bytes() == CONTENT


def test_no_network_says_what_was_wanted_and_where_it_may_lie(tmp_path):
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        file = RemoteFile("kept/rows.bin", url, REMOTE_PATH, blob_id(CONTENT), ("rows.bin",))
        with pytest.raises(OSError) as error:
            fetch_file(file, tmp_path, n_retries=1, delay=0)
    assert leftovers(tmp_path) == []
    places = [str(tmp_path / place) for place in ("kept/rows.bin", "rows.bin")]
    for part in (f"{url}/{REMOTE_PATH}", *places, "data_home=", "SKGENAD_DATA"):
        assert part in str(error.value)


def test_missing_file_is_an_error_when_downloads_are_off(server, file, tmp_path):
    with pytest.raises(FileNotFoundError, match="download_if_missing") as error:
        fetch_file(file, tmp_path, download_if_missing=False)
    assert str(tmp_path / "kept/rows.bin") in str(error.value)
    assert not server.asked
    assert leftovers(tmp_path) == []


def test_folder_that_cannot_be_written_is_named(file, tmp_path):
    (tmp_path / "home").write_text("a file, not a folder")
    with pytest.raises(OSError, match="Could not store 'kept/rows.bin'.*data_home="):
        fetch_file(file, tmp_path / "home")


def test_simultaneous_fetches_download_once(server, file, tmp_path):
    server.pause = threading.Event()
    found, errors = [], []

    def fetch():
        try:
            found.append(fetch_file(file, tmp_path).read_bytes())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not server.asked and not errors:
        threads[0].join(0.01)
    server.pause.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert found == [CONTENT] * 3
    assert len(server.asked) == 1
    assert leftovers(tmp_path) == ["rows.bin"]


def test_who_waited_for_a_download_that_failed_downloads_itself(server, file, tmp_path):
    server.statuses, server.pause = [404], threading.Event()
    found, errors = [], []

    def fetch():
        try:
            found.append(fetch_file(file, tmp_path).read_bytes())
        except OSError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not server.asked:
        threads[0].join(0.01)
    server.pause.set()
    for thread in threads:
        thread.join()
    assert len(errors) == 1 and found == [CONTENT] * 2
    assert len(server.asked) == 2
    assert leftovers(tmp_path) == ["rows.bin"]


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_is_shown_on_request_only(file, tmp_path, capfd, verbose):
    fetch_file(file, tmp_path, verbose=verbose)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("100%" in err) == verbose
    assert bool(err) == verbose


def test_data_home_is_argument_then_variable_then_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKGENAD_DATA", str(tmp_path / "variable"))
    assert get_data_home(tmp_path / "argument") == tmp_path / "argument"
    assert get_data_home() == tmp_path / "variable"
    monkeypatch.setenv("SKGENAD_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_data_home().name == "skgenad"
    assert get_data_home("~/here").is_relative_to(get_data_home("~"))


def test_missing_extra_is_named_only_when_something_is_downloaded(file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"skgenad\[bench\]"):
        fetch_file(file, tmp_path)
    assert leftovers(tmp_path) == []
    (tmp_path / "rows.bin").write_bytes(CONTENT)
    assert fetch_file(file, tmp_path) == tmp_path / "rows.bin"
