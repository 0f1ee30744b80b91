"""Run a function in a fresh process that can be killed: the client of `_server`."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ._server import Reply, receive, send

# Each cell gets one thread, so that times are comparable and cells do not fight for cores. The
# variables are set for the server, since libraries read them once, when they are imported there.
_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
    )
    # This is the one threading layer of numba that survives a fork.
} | {"NUMBA_THREADING_LAYER": "workqueue"}
_POLL_SECONDS = 1.0
_local = threading.local()


class ForkServer:
    """A process that has imported what cells need and forks one child per call.

    Parameters
    ----------
    stop_with_parent : bool, default=False
        Whether to end this whole process when its parent is gone, even in the middle of a call.

    Examples
    --------
    >>> import pickle
    >>> from skgenad.benchmark._isolation import ForkServer
    >>> server = ForkServer()
    >>> reply = server.call(pickle.dumps((divmod, (7, 2))))
    >>> reply.status, pickle.loads(reply.result)
    ('ok', (3, 1))
    >>> server.close()
    0
    """

    def __init__(self, *, stop_with_parent: bool = False) -> None:
        self._parent = os.getppid() if stop_with_parent else None
        self._process: subprocess.Popen[bytes] | None = None
        self._stop: Callable[[], int | None] | None = None

    def call(
        self, payload: bytes, *, modules: Sequence[str] = (), time_limit: float | None = None
    ) -> Reply:
        """Run a pickled ``(function, arguments)`` in a child and wait for it.

        Parameters
        ----------
        payload : bytes
            Made by pickle or cloudpickle.
        modules : sequence of str
            Modules to import once, before forking.
        time_limit : float or None, default=None
            Seconds after which the child is killed.

        Returns
        -------
        reply : Reply
            Status ``"ok"`` with the pickled result, or ``"failed"`` or ``"timeout"`` with a
            message.
        """
        header = pickle.dumps((list(modules), time_limit))
        for attempt in range(2):
            fresh = self._process is None
            try:
                return self._ask(header, payload)
            except (BrokenPipeError, EOFError):
                code = self.close()
                # A server that was idle for long may have ended just now, so a new one is asked.
                if fresh or attempt:
                    return Reply("failed", message=f"fork server ended with exit code {code}")
        raise AssertionError("unreachable")

    def _ask(self, header: bytes, payload: bytes) -> Reply:
        if self._process is None:
            self._process = _start()
            # The server is stopped even if nobody closes it: when interpreter or thread end.
            self._stop = weakref.finalize(self, _stop, self._process)
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        send(requests, header)
        send(requests, payload)
        while not select.select([replies], [], [], _POLL_SECONDS)[0]:
            if self._parent is not None and os.getppid() != self._parent:
                os._exit(1)
        answer = receive(replies)
        if answer is None:
            raise EOFError
        return Reply(*pickle.loads(answer))

    def close(self) -> int | None:
        """End the server and its running child; return the server's exit code."""
        stop, self._process, self._stop = self._stop, None, None
        return None if stop is None else stop()


def _stop(process: subprocess.Popen[bytes]) -> int:
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]
    process.stdout.close()  # type: ignore[union-attr]
    return process.wait()


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | _ONE_THREAD
    # Modules that can be imported here must be importable there, also from folders added by hand.
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", "from skgenad.benchmark._server import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        # The server gets a process group, so that Ctrl-C reaches the client alone, which closes
        # the pipe. It gets no session: schedulers give each session a fair share, and `nice`
        # would then mean nothing.
        process_group=0,
    )


def thread_server(*, stop_with_parent: bool) -> ForkServer:
    """Return the server of the calling thread, started when first called."""
    if not hasattr(_local, "server"):
        _local.server = ForkServer(stop_with_parent=stop_with_parent)
    return _local.server


def modules_of(value: Any) -> list[str]:
    """Name the modules that define an estimator and the estimators inside it."""
    return list(dict.fromkeys(_walk_modules(value)))


def _walk_modules(value: Any) -> Iterator[str]:
    if hasattr(value, "get_params") and not isinstance(value, type):
        yield type(value).__module__
        for part in value.get_params(deep=False).values():
            yield from _walk_modules(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _walk_modules(part)
