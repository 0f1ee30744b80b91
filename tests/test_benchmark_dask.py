import pandas as pd
import pytest

from skgenad.benchmark import run_benchmark
from tests._benchmark import VOLATILE, Center, is_alive, make_set, wait_until

distributed = pytest.importorskip("distributed")

SETS = {"one": make_set(1), "two": make_set(2)}
DETECTORS = {"good": Center("seed"), "bad": Center("die")}


def run(out, **options):
    defaults = {"protocol": "clean", "seeds": [1, 2], "progress": False}
    return run_benchmark(SETS, DETECTORS, out=out, **defaults | options)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run(tmp_path_factory.mktemp("loky")).drop(columns=VOLATILE)


def test_local_cluster_of_its_own_finds_the_same(tmp_path, expected):
    rows = run(tmp_path, backend="dask", jobs=2)
    pd.testing.assert_frame_equal(rows.drop(columns=VOLATILE), expected)
    assert rows["status"].value_counts().to_dict() == {"ok": 4, "failed": 4}


@pytest.mark.slow
def test_workers_of_a_running_cluster_do_the_work(tmp_path, expected):
    # Its workers are daemonic processes, which may not have children by multiprocessing.
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        rows = run(tmp_path, backend="dask", scheduler=address, jobs=-1)
        pd.testing.assert_frame_equal(rows.drop(columns=VOLATILE), expected)
        detectors = {"slow": Center("child", str(tmp_path / "pids"))}
        slow = run_benchmark(
            {"one": SETS["one"]},
            detectors,
            protocol="clean",
            seeds=[1],
            backend="dask",
            scheduler=address,
            time_limit=2,
            out=tmp_path / "slow",
            progress=False,
        )
    assert slow["status"].tolist() == ["timeout"]
    pids = (tmp_path / "pids").read_text().split()
    assert wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.slow
def test_finished_rows_are_shared_between_backends(tmp_path, expected):
    first = run(tmp_path, backend="dask", jobs=1, seeds=[1])
    rows = run(tmp_path, backend="loky")
    pd.testing.assert_frame_equal(rows.drop(columns=VOLATILE), expected)
    kept = rows.merge(first[["dataset", "seed", "detector"]])
    pd.testing.assert_frame_equal(kept, first)
