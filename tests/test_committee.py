"""Committee: calibration out of sample, combinations, members of all kinds, files."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import cauchy as cauchy_variable
from scipy.stats import ks_2samp, kstest, spearmanr
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import (
    Autoencoder,
    Committee,
    DataWarning,
    KernelDenoiser,
    LikelihoodRatio,
    LocalGaussian,
    Mahalanobis,
    Neighbors,
)
from skgenad.committee._combine import COMBINE
from skgenad.committee._members import Member, leaves_out, tasks_of
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

from ._files import rewrite
from ._settings import EVERY, tiny

CPU = {"device": "cpu"}


def normal(n=80, d=3, seed=0):
    return np.random.RandomState(seed).randn(n, d)


def trio():
    return [
        ("near", Neighbors(**CPU)),
        ("kernel", KernelDenoiser(**CPU)),
        ("distance", Mahalanobis(**CPU)),
    ]


def committee(members=None, **parameters):
    return Committee(trio() if members is None else members, random_state=0, **parameters)


# ---- the score ------------------------------------------------------------------------------


def test_the_score_is_the_mean_of_the_members_log_tail_probabilities():
    X, new = normal(), 2 * normal(30, seed=1)
    fitted = committee().fit(X)
    scores = fitted.member_scores(new)
    assert list(scores) == ["near", "kernel", "distance"]
    np.testing.assert_allclose(fitted.score_samples(new), scores.mean(axis=1), rtol=1e-12)


def test_a_members_score_is_its_log_tail_probability_among_leave_one_out_scores():
    X, new = normal(), normal(50, seed=1)
    alone = Neighbors(random_state=0, **CPU).fit(X)
    known, asked = alone.anomaly_score(X), alone.anomaly_score(new)
    p = np.array([(1 + np.sum(known >= s)) / (1 + len(known)) for s in asked])
    got = np.exp(committee().fit(X).member_scores(new)["near"].to_numpy())
    inside = (asked < known.max()) & (asked > known.min())
    assert (got[inside] >= p[inside] - 1e-12).all()
    assert (got[inside] <= p[inside] + 1 / (1 + len(known)) + 1e-12).all()


@pytest.mark.parametrize("member", [Neighbors(**CPU), KernelDenoiser(**CPU), LocalGaussian(**CPU)])
@pytest.mark.parametrize("combine", COMBINE)
def test_a_committee_of_one_that_leaves_rows_out_ranks_as_the_member_does(member, combine):
    X = normal()
    new = np.concatenate([0.1 * normal(20, seed=1), normal(20, seed=2), 1e3 * normal(9, seed=3)])
    one = Committee([("one", member)], combine=combine, random_state=0).fit(X)
    alone = one.members_["one"].score_samples(new)
    assert spearmanr(one.score_samples(new), alone).statistic == pytest.approx(1)


def test_a_committee_of_one_fitted_on_few_rows_ranks_as_the_member_does():
    X = normal(3)
    one = Committee([("one", Mahalanobis(shrinkage=0.5, **CPU))], random_state=0).fit(X)
    new = normal(30, seed=1)
    alone = one.members_["one"].score_samples(new)
    assert spearmanr(one.score_samples(new), alone).statistic == pytest.approx(1)


def test_fold_models_agree_on_the_rank_of_a_member_that_a_fold_does_not_change():
    """Mahalanobis on many rows: two halves give the same distance, and so does their average."""
    X, new = normal(6000), 2 * normal(200, seed=1)
    one = Committee([("one", Mahalanobis(**CPU))], random_state=0).fit(X)
    assert len(one.members_["one"]) == 2
    alone = Mahalanobis(**CPU).fit(X).score_samples(new)
    assert spearmanr(one.score_samples(new), alone).statistic > 0.998


WAYS = {
    "leave-one-out": ("near", Neighbors(**CPU)),
    "kernel": ("kernel", KernelDenoiser(**CPU)),
    "gaussian": ("gaussian", LocalGaussian(**CPU)),
    "folds": ("distance", Mahalanobis(**CPU)),
    "folds of a network": ("net", tiny(Autoencoder, random_state=None)),
    "of others": ("mixture", GaussianMixture(4)),
}


@pytest.mark.parametrize("member", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("folds", [2, 5])
def test_tail_probabilities_of_fresh_normal_rows_are_uniform(member, folds):
    if leaves_out(member[1]) and folds != 2:
        pytest.skip("it has no folds")
    X, new = normal(600, 4), normal(600, 4, seed=1)
    fitted = Committee([member], folds=folds, random_state=0).fit(X)._members[0]
    # An average over folds is one of log p: what is uniform is each fold's own.
    for model, tail in zip(fitted.models, fitted.tails, strict=True):
        p = np.exp(-Member("one", [model], [tail]).tail(new)).clip(max=1)
        n_references = 600 / len(fitted.models)
        # Both samples are of chance: this is the bound of their distance at a level of 0.001.
        assert kstest(p, "uniform").statistic < 1.95 * np.sqrt(1 / n_references + 1 / 600)


def test_far_rows_keep_their_order_and_are_finite():
    fitted = committee([*trio(), ("local", Neighbors(scale="local", **CPU))]).fit(normal())
    far = np.ones((4, 3)) * np.array([1e3, 1e6, 1e9, 1e12])[:, None]
    for combine in COMBINE:
        scores = fitted.set_params(combine=combine).fit(normal()).score_samples(far)
        assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()


@pytest.mark.parametrize("combine", COMBINE)
def test_a_score_depends_on_no_other_row(combine):
    fitted = committee(combine=combine).fit(normal())
    new = 2 * normal(1100, seed=1)
    scores = fitted.score_samples(new)
    for places in (slice(7, 8), slice(1000, 1050), slice(None, None, -1)):
        np.testing.assert_array_equal(fitted.score_samples(new[places]), scores[places])


# ---- combinations ---------------------------------------------------------------------------


def test_combinations_are_what_they_are_called():
    tails, weights = 0.02 + np.abs(normal(50, 4)), np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(COMBINE["mean"](tails, weights), tails @ weights)
    np.testing.assert_array_equal(COMBINE["max"](tails, weights), tails.max(axis=1))
    np.testing.assert_array_equal(COMBINE["median"](tails, weights), np.median(tails, axis=1))
    statistic = np.tan((0.5 - np.exp(-tails)) * np.pi) @ weights
    expected = -np.log(cauchy_variable.sf(statistic))
    np.testing.assert_allclose(COMBINE["cauchy"](tails, weights), expected, rtol=1e-6)


def test_the_cauchy_combination_is_continuous_and_has_no_end():
    weights = np.array([0.25, 0.75])
    places = np.concatenate([np.linspace(-3, 40, 3000), [1e3, 1e12, 1e300]])
    values = COMBINE["cauchy"](np.column_stack([places, places]), weights)
    assert np.isfinite(values).all() and (np.diff(values) > 0).all()
    assert np.abs(np.diff(values[:3000])).max() < 0.1
    np.testing.assert_allclose(values[places >= 1], places[places >= 1], rtol=1e-6)


def test_in_the_cauchy_combination_no_member_outvotes_all_others():
    tails = np.array([[15.0, place] for place in (-3.0, 0.0, 1e-3, 0.1, 0.7)])
    values = COMBINE["cauchy"](tails, np.array([0.5, 0.5]))
    assert (values > 14).all() and (np.diff(values) > 0).all()


def test_weights_count_and_a_weight_of_0_is_as_good_as_a_drop():
    X, new = normal(), 2 * normal(20, seed=1)
    weighted = committee(weights=[1, 3, 0]).fit(X)
    scores = weighted.member_scores(new)
    expected = scores @ [0.25, 0.75, 0]
    np.testing.assert_allclose(weighted.score_samples(new), expected)
    dropped = committee([*trio()[:2], ("distance", "drop")], weights=[1, 3, 5]).fit(X)
    np.testing.assert_allclose(dropped.score_samples(new), expected, rtol=1e-12)
    assert list(dropped.members_) == ["near", "kernel"]


def test_a_member_without_weight_changes_nothing_however_far_out_it_is():
    tails = np.array([[3.0, 1000.0], [3.0, 25.0], [3.0, 1.0], [-2.0, 1e300], [900.0, 0.0]])
    weights = np.array([1.0, 0.0])
    for name in ("mean", "cauchy"):
        alone = COMBINE[name](tails[:, :1], weights[:1])
        np.testing.assert_array_equal(COMBINE[name](tails, weights), alone)


def test_scores_of_others_may_be_infinite():
    """A kernel without tails has densities of 0, and a file of a forest may have anything."""
    X = normal()
    other = ("flat", KernelDensity(kernel="tophat", bandwidth=0.3))
    fitted = committee([("near", Neighbors(**CPU)), other]).fit(X)
    assert np.isfinite(fitted.score_samples(np.concatenate([X, X + 1e9]))).all()


# ---- members --------------------------------------------------------------------------------


def test_members_are_fitted_on_other_rows_than_they_are_calibrated_by():
    members = trio()
    tasks = tasks_of(members, 101, folds=4, seed=0)
    whole, folds = tasks[:2], tasks[2:]
    assert [task.train is None for task in whole] == [True, True] and len(folds) == 4
    for task in folds:
        assert not set(task.train) & set(task.reference)
        assert len(task.train) + len(task.reference) == 101
    assert sorted(np.concatenate([task.reference for task in folds])) == list(range(101))
    assert len({task.seed for task in folds}) == 4 and whole[0].seed == whole[1].seed


@pytest.mark.parametrize(
    "member",
    [
        IsolationForest(n_estimators=10),
        GaussianMixture(2),
        LocalOutlierFactor(novelty=True),
        make_pipeline(StandardScaler(), Neighbors(**CPU)),
        Committee([("inner", Neighbors(**CPU)), ("other", Mahalanobis(**CPU))]),
        Mahalanobis(use_labels=True, **CPU),
    ],
    ids=["forest", "mixture", "lof", "pipeline", "committee", "labels"],
)
@pytest.mark.parametrize("names", [False, True])
def test_any_detector_can_be_a_member(member, names):
    if names and isinstance(member, LocalOutlierFactor):
        pytest.skip("it warns of missing names when it is given them")
    X, y = normal(), np.arange(80) % 2
    rows = pd.DataFrame(X, columns=list("abc")) if names else X
    fitted = committee([("near", Neighbors(**CPU)), ("other", member)]).fit(rows, y)
    far = rows.iloc[:3] + 9 if names else rows[:3] + 9
    assert (fitted.predict(far) == -1).all()
    again = clone(fitted).fit(rows, y)
    np.testing.assert_array_equal(again.score_samples(rows), fitted.score_samples(rows))


def test_a_detector_of_pyod_can_be_a_member():
    pytest.importorskip("pyod")
    from pyod.models.ecod import ECOD

    from skgenad.compat import PyODDetector

    X = normal()
    fitted = committee([("near", Neighbors(**CPU)), ("ecod", PyODDetector(ECOD()))]).fit(X)
    assert (fitted.predict(X[:3] + 9) == -1).all()


@pytest.mark.parametrize("detector", EVERY)
def test_every_detector_of_ours_can_be_a_member(detector):
    X = normal(40, 4)
    fitted = committee([("one", tiny(detector)), ("near", Neighbors(**CPU))]).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()


def test_images_go_to_all_members():
    images = np.random.RandomState(0).rand(40, 1, 4, 4)
    net = tiny(Autoencoder, image_shape=(1, 4, 4))
    fitted = committee([("net", net), ("near", Neighbors(**CPU))]).fit(images)
    flat = images.reshape(40, -1)
    np.testing.assert_array_equal(fitted.score_samples(images), fitted.score_samples(flat))


@pytest.mark.parametrize("kind", ["committee", "ratio"])
def test_images_go_to_members_that_are_made_of_others(kind):
    images = np.random.RandomState(0).rand(40, 1, 4, 4)
    if kind == "committee":
        member = Committee([("net", tiny(Autoencoder, image_shape=(1, 4, 4)))])
    else:
        member = LikelihoodRatio(tiny("Glow", image_shape=(1, 4, 4), n_scales=2))
    fitted = committee([("near", Neighbors(**CPU)), ("images", member)]).fit(images)
    flat = images.reshape(40, -1)
    np.testing.assert_array_equal(fitted.score_samples(images), fitted.score_samples(flat))


def test_pixels_in_bytes_and_in_fractions_are_the_same_to_all_members():
    images = np.random.RandomState(0).randint(0, 256, (40, 1, 4, 4)).astype(np.uint8)
    net = tiny(Autoencoder, image_shape=(1, 4, 4))
    for given in (images, images / 255):
        fitted = committee([("net", net), ("near", Neighbors(**CPU))]).fit(given)
        scores = fitted.score_samples(images)
        np.testing.assert_array_equal(fitted.score_samples(images / 255), scores)


def test_rows_of_rare_classes_are_spread_over_the_folds():
    y = np.zeros(80, dtype=int)
    y[[3, 50]] = 1
    for seed in range(4):
        fitted = committee([("ratio", Mahalanobis(use_labels=True, relative=True, **CPU))])
        models = fitted.set_params(random_state=seed).fit(normal(), y).members_["ratio"]
        assert [model.classes_.tolist() for model in models] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_pipeline_that_rotates_rows_leaves_them_out_all_the_same(kind):
    X = normal(200, 6).astype(kind)
    member = make_pipeline(PCA(4, svd_solver="full"), Neighbors(**CPU))
    fitted = committee([("pipe", member)]).fit(X)
    new = fitted.member_scores(normal(400, 6, seed=1).astype(kind))
    assert ks_2samp(fitted.member_scores(X)["pipe"], new["pipe"]).pvalue > 0.01
    scorer = fitted.members_["pipe"]
    rows = scorer[-1].units_.to_standard(scorer[:-1].transform(X.astype(np.float64)))
    assert (scorer[-1].module_.anchors.places(torch.from_numpy(rows)) >= 0).all()


def test_models_fit_in_processes_give_the_same():
    X = normal()
    one, two = (committee(n_jobs=jobs).fit(X) for jobs in (None, 2))
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))


def test_members_that_search_among_the_same_rows_share_a_search():
    fitted = Committee().fit(normal(60))
    for whole in (fitted, pickle.loads(pickle.dumps(fitted))):
        searches = [whole.members_[n].module_.anchors for n in ("neighbors", "local")]
        assert len({id(search) for search in searches}) == 1


def test_a_pickle_of_another_device_shares_a_search_as_well():
    fitted = Committee([("a", Neighbors(**CPU)), ("b", LocalGaussian(**CPU))]).fit(normal())
    before = fitted.score_samples(normal())
    for model in fitted.members_.values():
        model.device_ = torch.device("cuda")  # such pickles hold copies of modules
    twin = pickle.loads(pickle.dumps(fitted))
    for model in twin.members_.values():
        assert model.module_.anchors is twin.members_["a"].module_.anchors
        model.device_ = torch.device("cpu")
    np.testing.assert_array_equal(twin.set_params(combine="max").score_samples(normal()), before)


def test_threads_that_score_at_the_same_time_get_their_own_scores():
    fitted = Committee(random_state=0).fit(normal(200))
    fitted = pickle.loads(pickle.dumps(fitted))  # without the tree, which threads then build
    asked = [normal(200, seed=seed) for seed in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fitted.score_samples, asked * 2))
    for rows, scores in zip(asked * 2, found, strict=True):
        np.testing.assert_array_equal(fitted.score_samples(rows), scores)


# ---- parameters -----------------------------------------------------------------------------


def test_default_members_are_parameters_like_any_other():
    unfitted = Committee()
    assert "neighbors__n_neighbors" in unfitted.get_params()
    assert set(unfitted.get_params(deep=False)) == set(Committee._get_param_names())
    unfitted.set_params(combine="max")
    assert unfitted.members is None
    unfitted.set_params(neighbors__n_neighbors=9, kernel="drop")
    assert dict(unfitted.members)["neighbors"].n_neighbors == 9
    assert dict(unfitted.members)["kernel"] == "drop"
    assert dict(Committee()._named)["neighbors"].n_neighbors == 5


@pytest.mark.parametrize("kind", [list, tuple])
def test_members_of_any_kind_of_list_are_set_by_their_names(kind):
    given = kind(trio())
    changed = Committee(given).set_params(near="drop", kernel__bandwidth=0.5)
    assert dict(changed.members)["near"] == "drop"
    assert dict(changed.members)["kernel"].bandwidth == 0.5
    assert dict(given)["near"] != "drop" and not hasattr(changed, "near")


def test_new_members_are_set_before_what_is_set_of_them():
    changed = Committee().set_params(members="robust", wide__n_neighbors=9, neighbors="drop")
    assert dict(changed.members)["wide"].n_neighbors == 9
    assert dict(changed.members)["neighbors"] == "drop"
    changed.set_params(members=trio(), near__n_neighbors=2)
    assert [name for name, _ in changed.members] == ["near", "kernel", "distance"]
    assert changed.get_params()["near__n_neighbors"] == 2


def test_names_that_are_refused_change_no_members():
    unfitted = Committee()
    with pytest.raises(ValueError, match="Invalid parameter 'wide'"):
        unfitted.set_params(local="drop", wide__n_neighbors=9)
    assert unfitted.members is None


def test_members_are_searched_over():
    X = np.concatenate([normal(60), 4 + normal(6, seed=1)])
    y = np.repeat([0, 1], [60, 6])
    grid = {
        "committee__near__n_neighbors": [1, 5],
        "committee__distance": ["drop", Mahalanobis(shrinkage=0.5, **CPU)],
    }
    pipeline = make_pipeline(StandardScaler(), committee())
    search = GridSearchCV(
        pipeline, grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(2), refit=False
    ).fit(X, y)
    assert len(search.cv_results_["mean_test_score"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"members": []}, "list of pairs"),
        ({"members": [Neighbors()]}, "list of pairs"),
        ({"members": [(1, Neighbors())]}, "list of pairs"),
        ({"members": [("a", Neighbors), ("b", Neighbors())]}, "member 'a' must be an unfitted"),
        ({"members": [("a", StandardScaler())]}, "score_samples"),
        ({"members": [("a", Neighbors()), ("a", Neighbors())]}, "not unique"),
        ({"members": [("a__b", Neighbors())]}, "must not contain __"),
        ({"members": [("folds", Neighbors())]}, "conflict with constructor"),
        ({"members": [("a", "drop")]}, "All members are dropped"),
        ({"weights": [1, 2]}, "for each of the 3"),
        ({"weights": [1, -2, 3]}, "at least 0"),
        ({"weights": [0, 0, 0]}, "weight of 0"),
        ({"weights": [1, 2, 3], "combine": "max"}, "has no weights"),
        ({"folds": 1}, "folds"),
        ({"combine": "sum"}, "combine"),
        ({"members": trio()[:2], "folds": 3}, "every member leaves training rows out"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters, message):
    assert not Committee(**{"members": trio(), **parameters})._uses_labels
    with pytest.raises(ValueError, match=message):
        Committee(**{"members": trio(), **parameters}).fit(normal())


@pytest.mark.parametrize(
    "changed",
    [
        {"combine": "max"},
        {"combine": "median"},
        {"combine": "cauchy"},
        {"weights": [1, 2, 3]},
        {"folds": 3},
        {"contamination": 0.2},
        {"calibration_fraction": 0.3},
        {"random_state": 1},
        {"near__n_neighbors": 3},
        {"kernel": "drop"},
    ],
    ids=str,
)
def test_no_option_is_accepted_and_ignored(changed):
    X = normal()
    before, after = committee().fit(X), committee().set_params(**changed).fit(X)
    assert not np.array_equal(before.decision_function(X), after.decision_function(X))


class Broken(Mahalanobis):
    def score_samples(self, X):
        return np.full(len(X), np.nan)


def test_a_member_without_numbers_is_named():
    with pytest.raises(ValueError, match="Broken.*NaN as a score"):
        committee([("a", Broken()), ("b", Neighbors())]).fit(normal())


# ---- life -----------------------------------------------------------------------------------


def test_the_history_names_member_and_fold():
    fitted = committee([("net", tiny(Autoencoder)), ("near", Neighbors(**CPU))]).fit(normal())
    assert set(fitted.history_["member"]) == {"net"} and set(fitted.history_["fold"]) == {0, 1}
    assert {"stage", "loss"} <= set(fitted.history_)
    outer = committee([("inner", committee([("net", tiny(Autoencoder))]))]).fit(normal())
    assert set(outer.history_["member"]) == {"inner__net"}
    assert len(committee().fit(normal()).history_) == 0


def test_progress_is_shown_when_asked_for(capsys):
    committee().fit(normal())
    assert capsys.readouterr().err == ""
    committee(verbose=1).fit(normal())
    assert "members" in capsys.readouterr().err


def test_p_values_of_normal_rows_are_valid():
    flagged = []
    for seed in range(20):
        fitted = committee(calibration_fraction=0.5).fit(normal(80, seed=seed))
        flagged += list(fitted.p_value(normal(200, seed=100 + seed)) <= 0.1)
    assert np.mean(flagged) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 20 / 41)


def test_an_interrupted_fit_leaves_the_committee_as_it_was(monkeypatch):
    X = normal()
    fitted = committee().fit(X)
    before = fitted.score_samples(X)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Mahalanobis, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X + 1)
    np.testing.assert_array_equal(fitted.score_samples(X), before)


@pytest.mark.parametrize("members", [None, "default", "nested"])
def test_a_file_holds_the_whole(members, tmp_path):
    X = pd.DataFrame(normal(60), columns=list("abc"))
    given = {
        None: [*trio(), ("net", tiny(Autoencoder)), ("unused", "drop")],
        "default": [("mpdr", tiny("MPDR")), *trio()],
        "nested": [("inner", Committee(trio())), ("near", Neighbors(**CPU))],
    }[members]
    fitted = committee(given, calibration_fraction=0.2, combine="cauchy").fit(X)
    fitted.save(tmp_path / "committee")
    fitted.set_params(combine="max")
    loaded = Committee.load(tmp_path / "committee", device="cpu")
    new = pd.DataFrame(2 * normal(30, seed=1), columns=list("abc"))
    np.testing.assert_array_equal(loaded.score_samples(new), fitted.score_samples(new))
    np.testing.assert_array_equal(loaded.p_value(new), fitted.p_value(new))
    assert loaded.offset_ == fitted.offset_ and loaded.combine == "cauchy"
    assert [name for name, _ in loaded.members] == [name for name, _ in given]
    assert len(loaded.history_) == len(fitted.history_)
    again = clone(loaded).fit(X)
    np.testing.assert_array_equal(again.score_samples(new), loaded.score_samples(new))


def test_a_file_keeps_classes_weights_and_names_that_are_numbers(tmp_path):
    X, y = normal(), np.arange(80) % 2
    members = [
        ("1", tiny(Autoencoder)),
        ("labels", Mahalanobis(use_labels=True, **CPU)),
        ("inner", Committee([("labels", Mahalanobis(use_labels=True, **CPU))])),
    ]
    fitted = committee(members, weights=np.array([1.0, 2.0, 3.0])).fit(X, y)
    fitted.save(tmp_path / "committee")
    loaded = Committee.load(tmp_path / "committee")
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    assert loaded.classes_.tolist() == [0, 1] and loaded.weights == [1, 2, 3]
    assert set(loaded.history_["member"]) == {"1"}


def test_the_device_of_members_is_that_of_loading(tmp_path):
    fitted = committee([("a", Neighbors()), ("b", Committee([("c", Mahalanobis())]))]).fit(normal())
    fitted.save(tmp_path / "committee")
    loaded = Committee.load(tmp_path / "committee", device="cpu").get_params()
    assert loaded["a__device"] == loaded["b__c__device"] == "cpu"


def members_in(document):
    return document["state"]["_members"]


def parameters_in(document):
    return document["state"]["_fitted_parameters"]


def first_of(document):
    return parameters_in(document)["members"][0]["tuple"][1]


BAD_DOCUMENTS = {
    "the class 'Popen' is not known": lambda d: members_in(d)["0.0"].update({"class": "Popen"}),
    r"the class 'os\.system' is not known": lambda d: first_of(d).update({"class": "os.system"}),
    r"unknown parameters \['hook'\] of Neighbors": lambda d: first_of(d)["parameters"].update(
        hook="x"
    ),
    "members": lambda d: parameters_in(d).update(members="magic"),
    "must be an unfitted": lambda d: parameters_in(d)["members"][0].update(tuple=["near", "magic"]),
    "where the parameters have": lambda d: parameters_in(d)["members"].pop(),
    "2 members with 3 weights": lambda d: members_in(d)["names"].pop(),
    "without a model": lambda d: members_in(d)["names"][0].__setitem__(1, 0),
    "_members cannot be read": lambda d: members_in(d)["names"][0].__setitem__(1, 10**12),
    "Unexpected key '2.1": lambda d: members_in(d)["names"][2].__setitem__(1, 1),
    "Unexpected key 'more'": lambda d: d["state"].update(more=1),
    "normal rows of shape": lambda d: d["state"].update(n_features_in_=4),
    # That of a file without rows.
    "columns in a committee for 4": lambda d: (
        d["state"].update(n_features_in_=4),
        d["state"].pop("_reference"),
    ),
    "does not make 3 columns": lambda d: d["state"].update(_image_shape=[1, 2, 2]),
}
BAD_ARRAYS = {
    "columns in a committee for 4": lambda a: [
        a.pop(f"_reference.{name}") for name in ("rows", "low", "high")
    ],
    "Unexpected key '9.0.more'": lambda a: a.update({"_members.9.0.more": np.zeros(2)}),
    "_weights holds NaN": lambda a: a.update(_weights=np.full(3, np.nan)),
    "weights that are no": lambda a: a.update(_weights=np.full(3, -1.0)),
    "3 members with 1 weights": lambda a: a.update(_weights=np.ones(1)),
    "a member without reference scores in order": lambda a: a.update(
        {"_members.0.0.tail.places": np.zeros(0)}
    ),
    r"rows, keys with \[3, 80\] rows": lambda a: a.update(
        {"_members.0.0.module_.anchors.keys": np.zeros(3, np.float32)}
    ),
}


@pytest.mark.parametrize("message", sorted({*BAD_DOCUMENTS, *BAD_ARRAYS}))
def test_documents_that_do_not_fit_are_refused(message, tmp_path):
    path = tmp_path / "committee"
    committee().fit(normal()).save(path)
    rewrite(path, BAD_DOCUMENTS.get(message), BAD_ARRAYS.get(message))
    with pytest.raises(ValueError, match=f"does not describe a Committee.*{message}"):
        Committee.load(path)


def test_the_default_committee_can_be_saved(tmp_path):
    fitted = Committee(random_state=0).fit(normal())
    fitted.save(tmp_path / "committee")
    loaded = Committee.load(tmp_path / "committee")
    np.testing.assert_array_equal(loaded.score_samples(normal()), fitted.score_samples(normal()))


class Forest(IsolationForest):
    """A class of the user's."""


def test_members_of_the_users_are_no_file(tmp_path):
    fitted = committee([("forest", Forest(n_estimators=5)), *trio()]).fit(normal())
    with pytest.raises(TypeError, match=r"members\.0\.forest=Forest.*cannot be saved.*Use pickle"):
        fitted.save(tmp_path / "committee")
    twin = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(twin.score_samples(normal()), fitted.score_samples(normal()))
    twin = copy.deepcopy(fitted)
    np.testing.assert_array_equal(twin.score_samples(normal()), fitted.score_samples(normal()))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9])
def test_few_rows_are_enough(n):
    fitted = committee().fit(normal(n))
    assert np.isfinite(fitted.score_samples(normal(20, seed=1))).all()


def test_many_columns_and_one_column_are_scored():
    for d in (1, 1000):
        fitted = Committee(random_state=0).fit(normal(40, d))
        assert (fitted.predict(normal(3, d) + 20) == -1).all()


@pytest.mark.parametrize("value", [-9999.0, -60.0])  # one of them is far enough to be moved
def test_training_rows_with_sentinels_are_compared_as_they_are_and_warned_of_once(value):
    X = normal(100)
    X[0, 1] = value
    with pytest.warns(DataWarning) as caught:
        committee().fit(X)
    assert len(caught) == 1  # not once for each model
    with pytest.warns(DataWarning):
        fitted = committee(trio()[:2]).fit(X)
    new = X[:1].copy()
    new[0, 1] = 0.99 * value
    assert fitted.p_value(new) >= 2 / 101
