import json
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import MPDR
from skgenad.benchmark import read_rows
from skgenad.benchmark._detectors import ALL_ROWS, DETECTORS
from skgenad.benchmark._settings import changed_settings, describe_settings, same_settings
from tests._benchmark import Center

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
# Files of rows that detectors of today's settings go on with.
COMMITTED = [
    RESULTS / name / "rows.csv"
    for name in ("adbench", "oddbench", "contaminated")
    if (RESULTS / name / "rows.csv").exists()
]
# Detectors that were added after the last run of ADBench.
NO_ROWS_YET = {"GMM", "Committee-robust", "VQVAE", "GANomaly"}


class Chain(BaseEstimator):
    """A parameter that has parameters."""

    def __init__(self, steps=10, noise=0.3):
        self.steps = steps
        self.noise = noise


class Chained(BaseEstimator):
    """A detector with such a parameter, whose fields are listed when it is None, too."""

    def __init__(self, chain=None, sizes=(8, 8), random_state=None):
        self.chain = chain
        self.sizes = sizes
        self.random_state = random_state

    def get_params(self, deep=True):
        params = super().get_params(deep)
        if deep and self.chain is None:
            params |= {"chain__steps": None, "chain__noise": None}
        return params


def test_every_parameter_is_described_but_random_states():
    described = json.loads(describe_settings(Chained(Chain(noise=0.1), random_state=3)))
    expected = {"chain": "Chain", "chain__noise": 0.1, "chain__steps": 10, "sizes": [8, 8]}
    assert described == expected
    pipeline = describe_settings(make_pipeline(StandardScaler(), Center(random_state=1)))
    assert json.loads(pipeline)["center__behaviour"] == "good"
    assert "random_state" not in pipeline and " at 0x" not in describe_settings(Center(object()))


@pytest.mark.parametrize(
    ("estimator", "changed"),
    [
        (Chained(), {}),
        (Chained(sizes=(4,)), {"sizes": [4]}),
        (Chained(Chain()), {"chain": "Chain"}),
        (Chained(Chain(noise=0.1)), {"chain": "Chain", "chain__noise": 0.1}),
        (IsolationForest(n_estimators=5), {"n_estimators": 5}),
        (Center(strength=1), {"strength": 1}),
    ],
)
def test_what_differs_from_the_defaults_is_found_in_nested_objects_too(estimator, changed):
    assert changed_settings(describe_settings(estimator), estimator) == changed


def test_what_has_no_default_always_differs():
    pipeline = make_pipeline(StandardScaler(with_std=False), Chained(sizes=()))
    changed = changed_settings(describe_settings(pipeline), pipeline)
    assert changed.pop("steps") and changed == {
        "standardscaler": "StandardScaler",
        "standardscaler__with_std": False,
        "chained": "Chained",
        "chained__sizes": [],
    }


ESTIMATORS = [
    Chained(),
    Chained(Chain(noise=0.1)),
    Chained(sizes=(4,)),
    make_pipeline(StandardScaler(), Chained(Chain(steps=1))),
]


def without(text, name):
    return json.dumps({k: v for k, v in json.loads(text).items() if k != name})


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=range(4))
def test_rows_from_before_a_parameter_was_added_stay_valid_if_it_is_at_its_default(estimator):
    text = describe_settings(estimator)
    changed = changed_settings(text, estimator)
    for name in json.loads(text):
        assert same_settings(without(text, name), estimator) == (name not in changed)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (Chained(), Chained(sizes=(4,))),
        (Chained(sizes=(4,)), Chained()),
        (Chained(), Chained(Chain())),
        (Chained(Chain(steps=1)), Chained(Chain(steps=2))),
        (Center(strength=1), Center(strength=True)),
        (StandardScaler(), Center()),
    ],
)
def test_other_settings_are_told_apart(before, now):
    assert not same_settings(describe_settings(before), now)
    assert same_settings(describe_settings(now), now)


@pytest.mark.parametrize(
    ("estimator", "older"),
    [(Chained(), {"sizes": [8]}), (Chained(Chain()), {"chain__noise": 0.2})],
)
def test_default_that_changed_is_noticed(estimator, older):
    text = json.dumps(json.loads(describe_settings(estimator)) | older)
    assert not same_settings(text, estimator)


def test_what_is_listed_below_a_parameter_left_none_is_not_described():
    assert "chain__noise" in Chained().get_params()
    assert json.loads(describe_settings(Chained())) == {"chain": None, "sizes": [8, 8]}


def test_parameter_that_is_gone_is_noticed():
    older = json.loads(describe_settings(Center())) | {"renamed": 0}
    assert not same_settings(json.dumps(older), Center())


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_rows_are_of_todays_detectors(path):
    made = {name: make(1) for name, make in DETECTORS.items()}
    made["MPDR-R (paper)"] = MPDR.from_paper(**ALL_ROWS)
    rows = read_rows(path).drop_duplicates(["detector", "settings"])
    assert set(rows["detector"]) <= set(made)
    if path.parent.name == "adbench":
        assert set(made) - set(rows["detector"]) == NO_ROWS_YET
    other = {
        name: changed_settings(text, made[name])
        for name, text in zip(rows["detector"], rows["settings"], strict=True)
        if not same_settings(text, made[name])
    }
    assert not other, "a default or a name has changed: see benchmarks/convert_results.py"
