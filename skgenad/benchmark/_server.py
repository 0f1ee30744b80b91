"""A small process that forks one child per request, and talks over pipes.

Every cell of a benchmark runs in a process of its own: its peak memory is its own, it can be
killed when it takes too long, and nothing it does to global generators or threads outlives it.
Starting Python and importing torch for every cell would take seconds; forking a process that has
imported them takes milliseconds. The forking process stays free of threads, which is what makes
forking safe. ``multiprocessing`` has a fork server as well, but refuses to start it in daemonic
processes, which is what Dask's workers are.

A message is eight bytes with its length and then that many bytes. A request is a pickled header
``(modules, time_limit)`` and a payload that only the child unpickles; a reply is a pickled tuple
that makes a `Reply`. When the pipe of requests closes, because the client is gone in whatever way,
the running child is killed and the server ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import tempfile
from typing import IO, NamedTuple

from ._warm_up import preload

IDLE_SECONDS = 60.0
_LENGTH = struct.Struct("!Q")


class Reply(NamedTuple):
    """What became of a request: its status, and the result or a message."""

    status: str  # "ok", "failed" or "timeout"
    result: bytes = b""
    message: str = ""


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None when the other side has closed the pipe."""
    head = _read(stream, _LENGTH.size)
    return None if head is None else _read(stream, _LENGTH.unpack(head)[0])


def _read(stream: IO[bytes], length: int) -> bytes | None:
    # An unbuffered pipe returns what has arrived, which may be less than was asked for.
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return bytes(data)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until their pipe closes or none came for `IDLE_SECONDS`.

    Parameters
    ----------
    requests, replies : binary streams
        Unbuffered reading end and writing end; `requests` has a file descriptor.
    """
    while select.select([requests], [], [], IDLE_SECONDS)[0]:
        header, payload = receive(requests), receive(requests)
        if header is None or payload is None:
            return
        modules, time_limit = pickle.loads(header)
        for name in modules:
            preload(name)
        reply = _run_child(payload, time_limit, requests.fileno())
        if reply is None:
            return
        send(replies, pickle.dumps(tuple(reply)))


def _run_child(payload: bytes, time_limit: float | None, client: int) -> Reply | None:
    """Fork, wait for the child's result, its death, the time limit or the end of the client."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(payload, writing, output.fileno())
        os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            ended = _wait(pipe, client, time_limit)
            result = receive(pipe) if ended == "child" else None
        # The child leads a process group, so that helpers which it started end with it.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if ended == "client":
            return None
        if ended == "time":
            return Reply("timeout", message=f"stopped after the time limit of {time_limit:g} s")
        if result is None:
            return Reply("failed", message=_describe_death(status, output))
        if result[:1] == b"+":
            return Reply("ok", result=result[1:])
        return Reply("failed", message=result[1:].decode())


def _wait(pipe: IO[bytes], client: int, time_limit: float | None) -> str:
    """Wait for the first of three ends: of the child, of the client, or of the time."""
    ready = select.select([pipe.fileno(), client], [], [], time_limit)[0]
    # The client sends nothing while it waits, so something to read there is the end of the pipe.
    return "client" if client in ready else "child" if ready else "time"


def _child(payload: bytes, writing: int, output: int) -> None:
    """Run the payload in the forked child; never returns."""
    try:
        os.setpgid(0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            function, args = pickle.loads(payload)
            result = b"+" + pickle.dumps(function(*args))
        except BaseException as error:  # the parent makes a row of any error
            result = b"-" + f"{type(error).__name__}: {error}".encode(errors="replace")
        with open(writing, "wb") as pipe:
            send(pipe, result)
    finally:
        os._exit(0)


def _describe_death(status: int, output: IO[bytes]) -> str:
    """Say how a child ended that left no result, with the last line it printed."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        text = f"process killed by {signal.Signals(number).name}"
        if number == signal.SIGKILL:
            text += " (out of memory?)"
    else:
        text = f"process ended with exit code {os.waitstatus_to_exitcode(status)}"
    output.seek(0)
    lines = output.read()[-2000:].decode(errors="replace").strip().splitlines()
    return f"{text}; last output: {lines[-1]}" if lines else text


def main() -> None:
    """Serve on standard input and output."""
    # Replies travel on a copy of standard output, so that nothing that is printed mixes with them.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(os.fdopen(os.dup(0), "rb", buffering=0), replies)
