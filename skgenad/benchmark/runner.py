"""Run detectors on data sets: cells in processes of their own, rows that survive a kill."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed, parallel_config
from numpy.typing import ArrayLike
from sklearn.base import clone

from skgenad._extras import require
from skgenad.metrics._label_free import seeds_in

from ._cell import run_cell, versions
from ._detectors import DETECTORS, choose
from ._isolation import modules_of, thread_server
from ._rows import KEY, benchmark_file, was_not_read
from ._settings import changed_settings, describe_settings, same_settings
from ._suites import AUTO, Loader, Suite, open_suite
from .cells import keep_rows
from .protocols import FIXED, Split, _check_share, make_fixed_split, make_split
from .store import ResultsFile

BACKENDS = ("loky", "dask")


@dataclass(frozen=True)
class _Cell:
    """One row to compute: what it is called, and what has to be fitted."""

    key: dict[str, Any]
    estimator: Any
    settings: str

    @property
    def place(self) -> tuple[Any, ...]:
        """Values of the key."""
        return tuple(self.key.values())


def run_benchmark(
    datasets: str | os.PathLike[str] | Suite | Mapping[str, tuple[ArrayLike, ...]],
    detectors: Sequence[str] | Mapping[str, Any],
    *,
    protocol: str = AUTO,
    contaminate: float = 0.0,
    seeds: Sequence[int] = (1, 2, 3),
    jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    out: str | os.PathLike[str],
    resume: bool = True,
    time_limit: float | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every detector on every data set with every seed, and keep each result at once.

    A cell (data set, protocol, contamination, seed, detector) runs in a child process of its own
    with one thread. Its row is on the disk before the next one is written: a run that is killed
    and started again goes on where it was. A detector that raises, dies or takes too long is a row
    with its message and no scores. A data set that cannot be read or split becomes such rows, too,
    and the others go on; these rows alone are computed again when the run is resumed, since the
    file may have been mended or the download may work.

    Parameters
    ----------
    datasets : str, path-like, Suite or mapping
        A suite (``"builtin"``, ``"adbench"``, ``"oddbench"``, a folder of ``.npz`` files), what
        `open_suite` returns, or a mapping from names to ``(X, y)`` with y = 1 for anomalies, or to
        ``(train, test, test_labels)``.
    detectors : sequence of str or mapping
        Names from `list_detectors`, or a mapping from names of your own to unfitted estimators
        with ``fit`` and ``score_samples``. These are cloned for every cell, and every parameter
        called ``random_state``, nested ones too, is set to the seed.
    protocol : {"auto", "adbench", "clean", "fixed"}, default="auto"
        How data sets are split. ``"fixed"`` belongs to those that come with a split (OddBench; see
        `make_fixed_split`), ``"adbench"`` and ``"clean"`` to the others (see `make_split`).
        ``"auto"`` means ``"fixed"`` or ``"adbench"``, and rows are called by that.
    contaminate : float in [0, 0.5], default=0.0
        Share of the training rows that shall be anomalies; 0 under ``"fixed"``, where none are
        known among the training rows.
    seeds : sequence of int, default=(1, 2, 3)
        Each is a split, and the seed of the detectors on that split. A fixed split is the same for
        all, but for the choice among more than 10,000 training rows.
    jobs : int, default=1
        Cells to run at the same time; -1 means one per core (loky) or per thread of the cluster.
    backend : {"loky", "dask"}, default="loky"
        Processes on this machine, or the workers of a Dask cluster.
    scheduler : str, default=None
        Address of Dask's scheduler, such as ``"tcp://10.0.0.1:8786"``. None starts a cluster
        with `jobs` threads in this process; each leaves its cells to child processes.
    out : path-like
        File of results, or a folder in which it is called ``rows.csv``. Other settings of
        `protocol`, `contaminate` and so on may share a file: they are more rows.
    resume : bool, default=True
        Whether to keep the rows in `out` and compute only what is missing. Cells in which a
        detector failed are not missing; those of a data set that could not be read or split are.
        False moves an existing file aside (``rows.csv.1`` and so on) and begins anew.
    time_limit : float, default=None
        Seconds that fitting and scoring of a cell may take together. None means no limit.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    rows : DataFrame
        The rows of this call, those that were already there included, ordered by data set, seed
        and detector. Columns: the cell, ``status`` ("ok", "failed", "timeout"), ``auroc``,
        ``average_precision``, ``fit_seconds``, ``score_seconds``, ``peak_memory_mb`` (growth of
        the cell's resident memory, MiB), numbers of rows and columns, ``message``, ``settings``
        (every parameter of the detector, JSON) and ``versions``.

    Raises
    ------
    ValueError
        If a name or an option is unknown, if the protocol is not one of the suite, or if `out`
        holds rows of a detector of the same name with other settings: mixing them would make a
        table of two different detectors. Settings are compared on what differs from the defaults
        of this version of the package.
    ResultsFileError
        If a line of `out` is damaged. The file is not touched.
    RuntimeError
        If another process is writing to `out`, or on a system that cannot fork (Windows).

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad.benchmark import run_benchmark
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = run_benchmark(
    ...         "builtin",
    ...         {"forest": IsolationForest(n_estimators=10)},
    ...         seeds=[1],
    ...         out=folder,
    ...         progress=False,
    ...     )  # doctest: +SKIP
    """
    if not hasattr(os, "fork"):
        raise RuntimeError(
            "benchmarks run every cell in a forked process, which this system cannot do; use "
            "Linux or macOS (on Windows: its subsystem for Linux)"
        )
    _check_run(seeds, jobs, backend, scheduler, time_limit)
    suite = _as_suite(datasets)
    protocol = suite.choose_protocol(protocol)
    _check_contaminate(contaminate, protocol)
    cells = _plan(suite, detectors, protocol, float(contaminate), seeds)
    file = benchmark_file(out)
    if not resume:
        file.move_aside()
    with file, ExitStack() as stack:
        known = _known(file)
        _refuse_other_settings(cells, known, file.path)
        done = {place for place, row in known.items() if not was_not_read(row)}
        missing = [cell for cell in cells if cell.place not in done]
        if missing:
            stack.enter_context(_backend(backend, scheduler, jobs))
            rows = _compute(missing, suite, jobs, backend, time_limit)
            keep_rows(file, rows, len(cells), len(missing), progress)
        known = _known(file)
    return file.to_frame([known[cell.place] for cell in cells])


def _known(file: ResultsFile) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows of a file by the values of their keys."""
    return {tuple(row[name] for name in KEY): row for row in file.rows}


def _check_run(
    seeds: Sequence[int],
    jobs: int,
    backend: str,
    scheduler: str | None,
    time_limit: float | None,
) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if scheduler is not None and backend != "dask":
        raise ValueError(f"scheduler={scheduler!r} needs backend='dask', got {backend!r}")
    if not seeds:
        raise ValueError("seeds is empty; give at least one, for example [1]")
    if any(not 0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"seeds must be in [0, 2**32 - 1], got {list(seeds)}")
    if jobs == 0:
        raise ValueError("jobs must be a positive number of cells, or -1 for all cores; got 0")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds, got {time_limit!r}")


def _check_contaminate(contaminate: float, protocol: str) -> None:
    _check_share(contaminate)
    if contaminate and protocol == FIXED:
        raise ValueError(
            f"contaminate={contaminate:g} has no meaning for protocol 'fixed', where no anomalies "
            "are known among the training rows: use contaminate=0, or data sets without a split"
        )


def _as_suite(datasets: Any) -> Suite:
    if isinstance(datasets, Suite):
        return datasets
    if isinstance(datasets, Mapping):
        sizes = {len(arrays) for arrays in datasets.values()}
        if not sizes <= {2} and sizes != {3}:
            raise ValueError(
                "datasets must map names to (X, y), or all of them to (train, test, test_labels); "
                f"got tuples of {', '.join(map(str, sorted(sizes)))} arrays"
            )
        loaders: dict[str, Loader] = {n: partial(tuple, arrays) for n, arrays in datasets.items()}
        return Suite("custom", loaders, fixed=sizes == {3})
    return open_suite(datasets)


def _plan(
    suite: Suite,
    detectors: Sequence[str] | Mapping[str, Any],
    protocol: str,
    contaminate: float,
    seeds: Sequence[int],
) -> list[_Cell]:
    """List the cells, data sets outermost, so that each is loaded once and then forgotten."""
    makers = _makers(detectors)
    made = {(name, s): maker(s) for name, maker in makers.items() for s in dict.fromkeys(seeds)}
    settings = {key: describe_settings(estimator) for key, estimator in made.items()}
    return [
        _Cell(
            dict(zip(KEY, (suite.name, dataset, protocol, contaminate, seed, name), strict=True)),
            made[name, seed],
            settings[name, seed],
        )
        for dataset in suite.loaders
        for seed in dict.fromkeys(seeds)
        for name in makers
    ]


def _makers(detectors: Sequence[str] | Mapping[str, Any]) -> dict[str, Callable[[int], Any]]:
    if isinstance(detectors, str):
        raise ValueError(f"detectors must be a list of names, got the string {detectors!r}")
    if not isinstance(detectors, Mapping):
        return {name: DETECTORS[name] for name in choose(detectors, DETECTORS, "detector")}
    for name, estimator in detectors.items():
        if not (hasattr(estimator, "fit") and hasattr(estimator, "score_samples")):
            raise ValueError(
                f"detector {name!r} must be an estimator with fit and score_samples, got "
                f"{estimator!r}; detectors of pyod need skgenad.compat.PyODDetector around them"
            )
    return {name: _Seeded(estimator) for name, estimator in detectors.items()}


class _Seeded:
    """Clone an estimator and seed every random state in it."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __call__(self, seed: int) -> Any:
        estimator = clone(self.estimator)
        return estimator.set_params(**dict.fromkeys(seeds_in(estimator), seed))


def _refuse_other_settings(
    cells: list[_Cell], known: Mapping[tuple[Any, ...], Mapping[str, Any]], path: Path
) -> None:
    pairs = {
        (cell.key["detector"], row["settings"], cell.settings): cell.estimator
        for cell in cells
        if (row := known.get(cell.place)) is not None
        and row["settings"] != cell.settings
        and not was_not_read(row)
    }
    for (name, before, _), estimator in pairs.items():
        if not same_settings(before, estimator):
            there, now = (
                changed_settings(text, estimator) for text in (before, describe_settings(estimator))
            )
            raise ValueError(
                f"'{path}' holds rows of {name!r} with other settings: there "
                f"{there}, now {now}, and else the defaults; write to another folder, give the "
                "detector another name, or start anew without resuming"
            )


def _backend(backend: str, scheduler: str | None, jobs: int) -> Any:
    """Return a context in which joblib uses the backend, with a cluster where it needs one."""
    stack = ExitStack()
    if backend == "dask":
        distributed = require("distributed", extra="dask")
        if scheduler is None:
            # Workers can be threads, because each cell runs in a process of its own anyway.
            cluster = distributed.LocalCluster(
                processes=False,
                n_workers=1,
                threads_per_worker=os.cpu_count() if jobs < 0 else jobs,
                dashboard_address=None,
            )
            stack.enter_context(cluster)
            stack.enter_context(distributed.Client(cluster))
        else:
            stack.enter_context(distributed.Client(scheduler))
    stack.enter_context(parallel_config(backend=backend, n_jobs=jobs))
    return stack


def _compute(
    cells: list[_Cell], suite: Suite, jobs: int, backend: str, time_limit: float | None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the row of each cell in the order in which they are done."""
    parallel = Parallel(
        n_jobs=jobs,
        return_as="generator_unordered",
        # Dask runs all tasks that it is given, so it is given no more than `jobs` at a time.
        pre_dispatch="n_jobs" if backend == "dask" and jobs > 0 else "2 * n_jobs",
        batch_size=1,  # each row is kept as soon as it is computed
        max_nbytes=None,  # payloads are bytes: joblib need not map them to files
    )
    local = backend == "loky"
    tasks = (delayed(_run)(*task, time_limit, local) for task in _tasks(cells, suite))
    rows = parallel(tasks)
    try:
        for row in rows:
            yield [row]
    finally:
        rows.close()


def _tasks(cells: list[_Cell], suite: Suite) -> Iterator[tuple[Any, ...]]:
    """Prepare what a worker needs; joblib asks for it only shortly before a worker is free."""
    import cloudpickle

    loaded = split_of = None
    for cell in cells:
        dataset, seed = cell.key["dataset"], cell.key["seed"]
        if dataset != loaded:
            loaded = dataset
            arrays = _try_load(suite.loaders[dataset])
        if (dataset, seed) != split_of:
            split_of = (dataset, seed)
            split = _try_split(arrays, cell.key)
        base = dict(cell.key, settings=cell.settings, **_shape(split))
        if isinstance(split, str):
            yield base, None, ()
            continue
        args = (cell.estimator, split.X_train, split.X_test, split.y_test)
        yield base, cloudpickle.dumps((run_cell, args)), modules_of(cell.estimator)


def _try_load(load: Loader) -> tuple[ArrayLike, ...] | str:
    """Load a data set; one that cannot be loaded becomes a message in the rows of its cells."""
    try:
        return load()
    except ImportError:  # a package that is missing is no fault of the data
        raise
    except Exception as error:  # whatever is wrong with a file, the others are to go on
        return f"the data set could not be loaded: {_said(error)}"


def _said(error: Exception) -> str:
    """Return an error's message; behind the name of its kind, unless it says what is wrong."""
    name = type(error).__name__
    return str(error) if isinstance(error, ValueError) and str(error) else f"{name}: {error}"


def _try_split(arrays: tuple[ArrayLike, ...] | str, key: Mapping[str, Any]) -> Split | str:
    """Split a data set; one that cannot be split becomes a message in the rows of its cells."""
    if isinstance(arrays, str):
        return arrays
    try:
        if key["protocol"] == FIXED:
            return make_fixed_split(*arrays, seed=key["seed"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the note of the split says it
            return make_split(
                *arrays,
                protocol=key["protocol"],
                contaminate=key["contaminate"],
                seed=key["seed"],
            )
    except Exception as error:
        return _said(error)


def _shape(split: Split | str) -> dict[str, Any]:
    if isinstance(split, str):
        names = ("n_train", "n_train_anomalies", "n_test", "n_test_anomalies", "n_features")
        return {**dict.fromkeys(names, 0), "message": split}
    return {
        "n_train": len(split.X_train),
        "n_train_anomalies": split.n_train_anomalies,
        "n_test": len(split.X_test),
        "n_test_anomalies": int(split.y_test.sum()),
        "n_features": split.X_train.shape[1],
        "message": split.note,
    }


def _run(
    base: dict[str, Any],
    payload: bytes | None,
    modules: Sequence[str],
    time_limit: float | None,
    local: bool,
) -> dict[str, Any]:
    """Compute one row; runs in a worker of joblib or Dask, which leaves the work to a child."""
    if local and threading.current_thread() is threading.main_thread() and _in_worker():
        # The parent handles Ctrl-C: it writes the rows that it has, and then ends this process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    measured = ("auroc", "average_precision", "fit_seconds", "score_seconds", "peak_memory_mb")
    row = {**base, "status": "failed", **dict.fromkeys(measured, math.nan), "versions": versions()}
    if payload is None:
        return row
    server = thread_server(stop_with_parent=local and _in_worker())
    reply = server.call(payload, modules=modules, time_limit=time_limit)
    row["status"] = reply.status
    result = pickle.loads(reply.result) if reply.status == "ok" else {"message": reply.message}
    texts = [base["message"], result.pop("message")]
    return {**row, **result, "message": " | ".join(text for text in texts if text)}


def _in_worker() -> bool:
    """Say whether this is a process that loky started."""
    import multiprocessing

    return multiprocessing.parent_process() is not None
