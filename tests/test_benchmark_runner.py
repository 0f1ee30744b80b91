import pickle
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad.benchmark import (
    ResultsFileError,
    Suite,
    list_detectors,
    make_fixed_split,
    make_split,
    open_suite,
    read_rows,
    report,
    run_benchmark,
)
from skgenad.benchmark._detectors import DEFAULT, DETECTORS, OURS
from skgenad.benchmark._isolation import ForkServer, thread_server
from skgenad.benchmark._settings import describe_settings
from tests._benchmark import VOLATILE, Center, is_alive, make_folder, make_set, wait_until

SETS = {"one": make_set(1), "two": make_set(2)}


def run(out, detectors=None, datasets=SETS, **options):
    options = {"protocol": "clean", "seeds": [1], "progress": False} | options
    return run_benchmark(datasets, detectors or {"center": Center()}, out=out, **options)


def test_row_holds_what_was_measured(tmp_path):
    X, y = SETS["one"]
    rows = run(tmp_path, {"center": Center()}, {"one": (X, y)}, seeds=[4])
    (row,) = rows.to_dict("records")
    split = make_split(X, y, protocol="clean", seed=4)
    scores = Center().fit(split.X_train).score_samples(split.X_test)
    normal, anomalies = scores[split.y_test == 0], scores[split.y_test == 1]
    assert row["auroc"] == pytest.approx((anomalies[:, None] < normal).mean())
    assert row["status"] == "ok" and row["message"] == ""
    assert (row["dataset"], row["detector"], row["seed"]) == ("one", "center", 4)
    assert (row["n_train"], row["n_test"], row["n_features"]) == (70, 36, 3)
    assert row["n_test_anomalies"] == split.y_test.sum() and row["n_train_anomalies"] == 0
    assert 0 < row["fit_seconds"] < 1 and 0 < row["score_seconds"] < 1
    assert "scikit-learn" in row["versions"] and "numpy" in row["versions"]
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path / "rows.csv"))


def test_rows_are_ordered_by_data_set_seed_and_detector(tmp_path):
    detectors = {"b": Center(), "a": Center(strength=1)}
    rows = run(tmp_path, detectors, seeds=[2, 1])
    keys = rows[["dataset", "seed", "detector"]].to_numpy().tolist()
    assert keys == [[d, s, n] for d in ("one", "two") for s in (2, 1) for n in ("b", "a")]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("raise", "RuntimeError: no luck today"),
        ("die", "process killed by SIGSEGV"),
        ("exit", "process ended with exit code 3; last output: last words"),
        ("nan", "ValueError: 36 of 36 scores are not finite"),
    ],
)
def test_failing_detector_is_a_row_and_the_others_go_on(tmp_path, behaviour, message):
    rows = run(tmp_path, {"bad": Center(behaviour), "good": Center()})
    bad, good = (rows[rows["detector"] == name] for name in ("bad", "good"))
    assert (bad["status"] == "failed").all() and (good["status"] == "ok").all()
    assert bad["auroc"].isna().all()
    assert set(bad["message"]) == {message}


def test_time_limit_ends_the_cell_and_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    detectors = {"slow": Center("child", str(pids)), "good": Center()}
    start = time.monotonic()
    rows = run(tmp_path, detectors, {"one": SETS["one"]}, time_limit=2.0)
    assert time.monotonic() - start < 300  # the detector would sleep for 600
    assert rows["status"].tolist() == ["timeout", "ok"]
    assert rows["message"][0] == "stopped after the time limit of 2 s"
    assert wait_until(lambda: not any(map(is_alive, pids.read_text().split())))


def test_peak_memory_is_that_of_the_cell_alone(tmp_path):
    detectors = {"small": Center(), "big": Center("eat", 200.0), "small again": Center(strength=1)}
    memory = run(tmp_path, detectors, {"one": SETS["one"]})["peak_memory_mb"]
    assert 200 <= memory[1] < 250
    assert memory[0] < 50 and memory[2] < 50


def test_cells_run_on_one_thread(tmp_path):
    rows = run(tmp_path, {"threads": Center("threads")})
    assert (rows["status"] == "ok").all(), rows["message"].tolist()


def test_warnings_are_kept_and_output_is_not(tmp_path, capfd):
    rows = run(tmp_path, {"warn": Center("warn"), "print": Center("print")})
    assert set(rows["message"][rows["detector"] == "warn"]) == {"RuntimeWarning: that was close"}
    assert "noise" not in "".join(capfd.readouterr())


def test_global_generators_are_untouched_and_seeds_repeat(tmp_path, global_rng_untouched):
    detectors = {"a": Center("seed"), "nested": make_pipeline(StandardScaler(), Center("seed"))}
    first = run(tmp_path / "1", detectors, seeds=[1, 2])
    again = run(tmp_path / "2", detectors, seeds=[1, 2])
    pd.testing.assert_frame_equal(first.drop(columns=VOLATILE), again.drop(columns=VOLATILE))
    assert first["auroc"].nunique() > 4


def test_two_jobs_find_the_same_as_one(tmp_path):
    detectors = {"center": Center("seed"), "forest": IsolationForest(n_estimators=5)}
    one = run(tmp_path / "1", detectors, seeds=[1, 2])
    two = run(tmp_path / "2", detectors, seeds=[1, 2], jobs=2)
    pd.testing.assert_frame_equal(one.drop(columns=VOLATILE), two.drop(columns=VOLATILE))


def test_resuming_computes_only_what_is_missing(tmp_path):
    first = run(tmp_path, {"a": Center(), "bad": Center("raise")}, seeds=[1])
    more = run(
        tmp_path, {"a": Center(), "bad": Center("raise"), "b": Center(strength=1)}, seeds=[1, 2]
    )
    assert len(more) == 12
    same = more.merge(first[["dataset", "seed", "detector"]])
    pd.testing.assert_frame_equal(same, first)  # times included
    text = (tmp_path / "rows.csv").read_bytes()
    run(tmp_path, {"a": Center()}, seeds=[1])
    assert (tmp_path / "rows.csv").read_bytes() == text


def test_finished_benchmark_loads_no_data(tmp_path):
    suite = Suite("mine", {"one": lambda: SETS["one"]})
    first = run(tmp_path, datasets=suite)

    def fail():
        raise AssertionError("loaded")

    again = run(tmp_path, datasets=Suite("mine", {"one": fail}))
    pd.testing.assert_frame_equal(first, again)


def test_other_settings_share_a_file_without_mixing(tmp_path):
    X, y = make_set(n=1_200)
    options = [
        {"protocol": "clean"},
        {"protocol": "adbench"},
        {"protocol": "clean", "contaminate": 0.05},
    ]
    for number, option in enumerate(options, start=1):
        assert len(run(tmp_path, datasets={"one": (X, y)}, **option)) == 1
        assert len(read_rows(tmp_path / "rows.csv")) == number
    rows = read_rows(tmp_path / "rows.csv")
    share = rows["n_train_anomalies"] / rows["n_train"]
    np.testing.assert_allclose(share, rows["contaminate"], atol=2e-3)


def test_same_name_with_other_parameters_is_refused(tmp_path):
    run(tmp_path, {"center": Center()})
    before = (tmp_path / "rows.csv").read_bytes()
    with pytest.raises(ValueError, match=r"rows of 'center' with other settings.*another folder"):
        run(tmp_path, {"center": Center(strength=0.5)})
    assert (tmp_path / "rows.csv").read_bytes() == before


def test_rows_from_before_a_parameter_was_added_are_kept(tmp_path):
    first = run(tmp_path, {"center": Center(strength=0.5)})
    path = tmp_path / "rows.csv"
    text = path.read_text()
    path.write_text(text.replace('""behaviour"": ""good"", ', ""))
    assert path.read_text() != text
    older = read_rows(path)
    pd.testing.assert_frame_equal(run(tmp_path, {"center": Center(strength=0.5)}), older)
    assert len(older) == len(first)


def test_without_resuming_old_rows_are_moved_aside(tmp_path):
    first = run(tmp_path, {"center": Center()})
    second = run(tmp_path, {"center": Center(strength=0.5)}, resume=False)
    assert set(first["settings"]) != set(second["settings"])
    pd.testing.assert_frame_equal(read_rows(tmp_path / "rows.csv.1"), first)
    run(tmp_path, resume=False)
    pd.testing.assert_frame_equal(read_rows(tmp_path / "rows.csv.2"), second)


def test_damaged_file_stops_the_run(tmp_path):
    run(tmp_path)
    path = tmp_path / "rows.csv"
    path.write_text(path.read_text() + "nonsense\n")
    before = path.read_bytes()
    with pytest.raises(ResultsFileError, match=r"rows.csv:4: 1 fields instead of"):
        run(tmp_path, seeds=[1, 2])
    assert path.read_bytes() == before


def test_set_that_cannot_be_split_is_failed_rows(tmp_path):
    X, y = SETS["one"]
    lonely = np.r_[1, np.zeros(len(y) - 1, dtype=int)]
    rows = run(tmp_path, datasets={"lonely": (X, lonely), "one": (X, y)})
    assert rows["status"].tolist() == ["failed", "ok"]
    assert "at least 2 normal rows and 2 anomalies" in rows["message"][0]


def faulty(folder):
    """Write sets each of which has a fault of its own, and return what their rows are to say."""
    X, y = SETS["one"]
    arrays = {
        "signs": {"X": X, "y": 1 - 2 * y},
        "words": {"X": X, "y": np.where(y == 1, "bad", "good")},
        "one_kind": {"X": X, "y": 0 * y},
        "no_columns": {"X": X[:, :0], "y": y},
        "no_rows": {"X": X[:0], "y": y[:0]},
        "lengths": {"X": X, "y": y[:-1]},
        "objects": {"X": np.array([{}] * len(y)), "y": y},
        "text": {"X": X.astype(str), "y": y},
        "no_labels": {"X": X},
        "holes": {"X": np.where(X > 3, np.nan, X), "y": y},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    whole = (folder / "signs.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "damaged.npz").write_bytes(whole[:200] + b"x" * 20 + whole[220:])
    (folder / "empty.npz").write_bytes(b"")
    (folder / "gone.npz").symlink_to(folder / "nowhere")
    (folder / "folder.npz").mkdir()
    return {
        "signs": "-1, 1; it must be 1 for anomalies and 0 for normal rows.*`y == -1`",
        "words": "the values bad, good; it must be 1",
        "one_kind": "at least 2 normal rows and 2 anomalies",
        "no_columns": "it must be \\(n_samples, n_features\\)",
        "no_rows": "it must be \\(n_samples, n_features\\)",
        "lengths": "they must be equal",
        "objects": "X holds Python objects.*array of numbers",
        "text": "it must hold real numbers",
        "no_labels": "no array y.*needs X and y",
        "holes": "NaN",
        "cut": "not a readable .npz file",
        "damaged": "'.*damaged.npz'",
        "empty": "not a readable .npz file",
        "gone": "FileNotFoundError",
        "folder": "it is a folder",
    }


@pytest.mark.parametrize("fixed", [False, True])
def test_a_faulty_data_set_is_rows_that_say_why_and_the_others_go_on(tmp_path, fixed):
    folder = tmp_path / "sets"
    folder.mkdir()
    said = faulty(folder)
    if fixed:  # then those that are readable have no split: they are another kind
        X, y = SETS["one"]
        for name in set(said) - {"cut", "empty", "gone", "folder", "no_labels"}:
            (folder / f"{name}.npz").unlink()
            said.pop(name)
        said["no_labels"] = "no array"
        np.savez(folder / "good.npz", train=X[y == 0], test=X, test_labels=y)
        np.savez(folder / "signs.npz", train=X[y == 0], test=X, test_labels=1 - 2 * y)
        said["signs"] = "-1, 1; it must be 1"
    else:
        make_folder(folder / "of_good_ones", count=1)
        (folder / "of_good_ones" / "set_0.npz").rename(folder / "good.npz")
    rows = run(tmp_path, {"a": Center(), "b": Center()}, folder, protocol="auto")
    assert set(rows["dataset"]) == {*said, "good"} and (rows.groupby("dataset").size() == 2).all()
    assert (rows.loc[rows["dataset"] == "good", "status"] == "ok").all()
    for name, words in said.items():
        bad = rows[rows["dataset"] == name]
        assert (bad["status"] == "failed").all() and bad["message"].str.contains(words).all(), bad
    # Ranks are those of the data sets that somebody has seen.
    made = report(tmp_path, tmp_path)
    assert (made.ranks["failures"] == 0).all() and (made.ranks["auroc"] > 0.8).all()
    text = made.path.read_text()
    assert "1 data sets" in text and "could not be read: " in text and "| signs" in text


@pytest.mark.parametrize("error", [OSError("no route"), MemoryError(), KeyError("X"), TypeError()])
def test_a_failed_download_is_tried_again_when_the_run_is_resumed(tmp_path, error):
    def fail():
        raise error

    def load(broken):
        return Suite("mine", {"one": lambda: SETS["one"], "two": fail if broken else second})

    def second():
        return SETS["two"]

    first = run(tmp_path, datasets=load(True))
    assert first["status"].tolist() == ["ok", "failed"]
    assert type(error).__name__ in first["message"][1]
    text = (tmp_path / "rows.csv").read_text()
    run(tmp_path, datasets=load(True))
    assert (tmp_path / "rows.csv").read_text() == text  # it says so already
    again = run(tmp_path, datasets=load(False))
    pd.testing.assert_frame_equal(again.iloc[:1], first.iloc[:1])  # times included
    assert again["status"].tolist() == ["ok", "ok"] and again["message"].tolist() == ["", ""]
    pd.testing.assert_frame_equal(read_rows(tmp_path), again)
    text = (tmp_path / "rows.csv").read_text()
    run(tmp_path, datasets=load(True))
    assert (tmp_path / "rows.csv").read_text() == text


def test_without_any_readable_set_a_report_says_so(tmp_path):
    X, y = SETS["one"]
    run(tmp_path, datasets={"one": (X, 0 * y)})
    with pytest.raises(ValueError, match="no data set could be read; of 'one': .*at least 2"):
        report(tmp_path, tmp_path)


def test_a_missing_package_is_no_fault_of_the_data(tmp_path):
    def fail():
        raise ImportError("install pooch")

    with pytest.raises(ImportError, match="pooch"):
        run(tmp_path, datasets=Suite("mine", {"one": fail}))


def test_too_few_anomalies_to_contaminate_is_in_the_message(tmp_path):
    rows = run(tmp_path, datasets={"one": SETS["one"]}, contaminate=0.4)
    assert rows["status"][0] == "ok"
    assert "only 14 are there" in rows["message"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "dirty"}, "unknown protocol"),
        ({"contaminate": 0.7}, "contaminate must be"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [-1]}, "seeds must be in"),
        ({"jobs": 0}, "jobs must be"),
        ({"backend": "spark"}, "unknown backend 'spark'; choose one of loky, dask"),
        ({"scheduler": "tcp://x"}, "needs backend='dask'"),
        ({"time_limit": 0}, "time_limit must be"),
        ({"detectors": ["KNN", "KMM"]}, "unknown detector: 'KMM'; choose from Committee, .*KNN"),
        ({"detectors": "KNN"}, "must be a list of names"),
        ({"detectors": {"x": object()}}, "must be an estimator with fit and score_samples"),
        ({"detectors": []}, "no detector named"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, options, message):
    detectors = options.pop("detectors", {"center": Center()})
    with pytest.raises(ValueError, match=message):
        run_benchmark(SETS, detectors, out=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_folder_is_a_suite(tmp_path):
    folder = make_folder(tmp_path / "mine", count=2)
    rows = run(tmp_path / "out", datasets=folder)
    assert rows["dataset"].tolist() == ["set_0", "set_1"]
    assert set(rows["suite"]) == {"mine"}


def test_unknown_names_list_the_valid_ones(tmp_path):
    with pytest.raises(NotADirectoryError, match="choose builtin, adbench, oddbench, or a"):
        open_suite(tmp_path / "nothing")
    with pytest.raises(ValueError, match="unknown data set: 'x'; choose from breast_cancer"):
        open_suite("builtin", ["x"])
    with pytest.raises(ValueError, match="choose from set_0"):
        open_suite(make_folder(tmp_path / "mine", count=1), ["x"])
    assert list(open_suite("adbench", ["cardio"]).loaders) == ["6_cardio"]
    assert len(open_suite("adbench").loaders) == 47
    assert list(open_suite("oddbench", ["codemetrics"]).loaders) == ["CodeMetrics"]
    assert len(open_suite("oddbench").loaders) == 100


def make_parts(seed=0, n=60):
    X, y = make_set(seed, n=2 * n)
    train = X[y == 0][:n]
    return train, np.r_[X[y == 0][n:], X[y == 1]], np.r_[y[y == 0][n:], y[y == 1]]


def test_suite_with_a_split_is_tested_on_it(tmp_path):
    parts = make_parts()
    rows = run(tmp_path, datasets={"one": parts}, protocol="auto", seeds=[1, 2])
    assert rows["protocol"].tolist() == ["fixed", "fixed"] and (rows["status"] == "ok").all()
    split = make_fixed_split(*parts)
    scores = Center().fit(split.X_train).score_samples(split.X_test)
    assert rows["auroc"].tolist() == pytest.approx([roc_auc_score(parts[2], -scores)] * 2)
    assert (rows["n_train"] == 60).all() and (rows["n_test"] == len(parts[2])).all()
    assert (rows["n_test_anomalies"] == 20).all() and (rows["n_train_anomalies"] == 0).all()


def test_values_filled_in_are_said_in_the_row_and_labels_of_one_kind_fail(tmp_path):
    train, test, labels = make_parts()
    train[3, 1] = np.nan
    suite = {"gaps": (train, test, labels), "normal": (train, test, 0 * labels)}
    rows = run(tmp_path, datasets=suite, protocol="fixed")
    assert rows["status"].tolist() == ["ok", "failed"]
    assert rows["message"][0].startswith("1 values that are not finite became the median")
    assert "0 anomalies; each must be 1 or more" in rows["message"][1]


def test_folder_with_splits_is_a_suite_of_its_own_protocol(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(2):
        parts = zip(("train", "test", "test_labels"), make_parts(number), strict=True)
        np.savez(folder / f"set_{number}.npz", **dict(parts))
    rows = run(tmp_path / "out", datasets=folder, protocol="auto")
    assert rows["dataset"].tolist() == ["set_0", "set_1"]
    assert set(rows["protocol"]) == {"fixed"} and set(rows["suite"]) == {"mine"}
    X, y = make_set()
    np.savez(folder / "whole.npz", X=X, y=y)
    with pytest.raises(ValueError, match="with a split .such as 'set_0'.* without .* 'whole'"):
        open_suite(folder)
    assert not open_suite(folder, ["whole"]).fixed
    # Files that have all arrays were, and are, data sets to split; broken ones say so when loaded.
    np.savez(folder / "both.npz", X=X, y=y, train=X, test=X, test_labels=y)
    (folder / "broken.npz").write_bytes(b"PK")
    suite = open_suite(folder, ["both", "broken"])
    assert not suite.fixed and len(suite.loaders["both"]()) == 2
    with pytest.raises(ValueError, match=r"broken\.npz' is not a data set"):
        suite.loaders["broken"]()


def test_automatic_protocol_is_the_one_of_rows_from_before_there_was_one(tmp_path):
    first = run(tmp_path, protocol="adbench")
    pd.testing.assert_frame_equal(run(tmp_path, protocol="auto"), first)
    assert len(read_rows(tmp_path / "rows.csv")) == len(first)


@pytest.mark.parametrize(
    ("datasets", "options", "message"),
    [
        ("fixed", {"protocol": "clean"}, "'clean' splits data sets.* use protocol='fixed'"),
        ("fixed", {"protocol": "adbench"}, "'custom' come with a split: use protocol='fixed'"),
        ("fixed", {"protocol": "auto", "contaminate": 0.1}, "0.1 has no meaning for .*'fixed'"),
        ("whole", {"protocol": "fixed"}, "do not: use protocol='adbench' or 'clean'"),
        ("mixed", {"protocol": "auto"}, "got tuples of 2, 3 arrays"),
        ("single", {"protocol": "auto"}, "got tuples of 1 arrays"),
    ],
)
def test_protocol_of_another_kind_of_suite_is_refused(tmp_path, datasets, options, message):
    sets = {
        "fixed": {"one": make_parts()},
        "whole": SETS,
        "mixed": {"one": make_parts(), "two": make_set()},
        "single": {"one": make_set()[:1]},
    }
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "new", datasets=sets[datasets], **options)
    assert not (tmp_path / "new").exists()


def test_default_detectors_are_known_by_name():
    assert set(DEFAULT) <= set(list_detectors())


@pytest.mark.parametrize("name", list_detectors())
def test_named_detectors_are_made_from_a_seed(name, global_rng_untouched):
    first, again, other = (DETECTORS[name](seed) for seed in (1, 1, 2))
    assert describe_settings(first) == describe_settings(again) == describe_settings(other)
    assert " at 0x" not in describe_settings(first)
    states = [
        [v for k, v in made.get_params().items() if k.endswith("random_state")]
        for made in (first, other)
    ]
    assert 1 in states[0] and 2 in states[1]


PYOD = set(list_detectors()) - set(OURS)
# These take seconds, in numba, once, or to train.
LONG = {"CBLOF", "COPOD", "ECOD", "HBOS", "LUNAR", "SOD", "pyod-AE"}


@pytest.mark.parametrize(
    "names",
    [PYOD - LONG, pytest.param(LONG, marks=pytest.mark.slow)],
    ids=["quick", "long"],
)
def test_detectors_of_pyod_find_obvious_anomalies(tmp_path, names):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 0, 1], [300, 100, 30])
    centers = np.repeat([[0.0], [4.0], [0.0]], [300, 100, 30], axis=0)
    X = centers + rng.normal(size=(430, 4))
    X[y == 1] += 12 * rng.choice([-1, 1], size=(30, 4))
    rows = run(tmp_path, sorted(names), {"easy": (X, y)}).set_index("detector")
    assert (rows["status"] == "ok").all(), rows["message"].to_dict()
    # pyod's SOD looks for neighbours among the rows to score, anomalies included.
    least = pd.Series(0.9, index=rows.index).where(rows.index != "SOD", 0.6)
    assert (rows["auroc"] > least).all(), rows["auroc"].to_dict()


def test_overhead_of_a_cell_is_small():
    server = thread_server(stop_with_parent=False)
    payload = pickle.dumps((divmod, (7, 2)))
    server.call(payload)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert server.call(payload).status == "ok"
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_server_that_ended_while_idle_is_replaced():
    server = ForkServer()
    payload = pickle.dumps((divmod, (7, 2)))
    assert server.call(payload).status == "ok"
    server._process.kill()
    server._process.wait()
    assert pickle.loads(server.call(payload).result) == (3, 1)
    assert server.close() == 0


def test_payload_that_cannot_be_read_is_a_failure():
    reply = thread_server(stop_with_parent=False).call(b"not a pickle")
    assert reply.status == "failed"
    assert "UnpicklingError" in reply.message
