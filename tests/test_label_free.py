"""What is measured without labels: closed forms, invariances, and what searches make of it.

How it is known to be right: for densities that are known, masses and volumes of level sets have
closed forms; the true density has the best curves there are; no curve changes with a rising
function of the scores; the curves' areas are those of their own definitions, and of an AUROC.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, spearmanr
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import MPDR, Committee, Mahalanobis, Neighbors
from skgenad.metrics import (
    agreement,
    contrast_auc,
    excess_mass,
    excess_mass_curve,
    make_label_free_scorer,
    mass_volume,
    mass_volume_curve,
    stability,
    tail_overlap,
)

from ._settings import tiny

WIDTH = 10.0  # of the box around a standard normal variable
CRITERIA = {
    "excess mass": make_label_free_scorer(excess_mass, n_uniform=300),
    "mass volume": make_label_free_scorer(mass_volume, greater_is_better=False, n_uniform=300),
    "contrast": make_label_free_scorer(contrast_auc, n_points=100),
    "stability": make_label_free_scorer(stability, n_fits=2),
    "agreement": make_label_free_scorer(agreement, reference=Neighbors()),
}
criteria = pytest.mark.parametrize("scorer", CRITERIA.values(), ids=CRITERIA)
IDENTITY, EXPONENTIAL = (lambda s: s), (lambda s: np.exp(s / 3) - 7)


class Scored(OutlierMixin, BaseEstimator):
    """A detector with a given score, which it fits to nothing."""

    def __init__(self, score=None):
        self.score = score

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def score_samples(self, X):
        return -self.score(np.asarray(X))


class Seeded(Scored):
    """Scores are noise that depends on the seed alone."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def score_samples(self, X):
        return np.random.RandomState(self.random_state).normal(size=len(X))


def norm_of(X):
    return np.linalg.norm(X, axis=1)


@pytest.fixture(scope="module")
def gaussian():
    """Distances from the centre of normal rows, and of uniform ones in a box."""
    rng = np.random.RandomState(0)
    return abs(rng.normal(size=100_000)), abs(rng.uniform(-WIDTH / 2, WIDTH / 2, 100_000))


@pytest.fixture
def tables():
    mix = np.array([[1.0, 0.8, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    return np.random.RandomState(1).normal(size=(2, 150, 3)) @ mix


# ---- curves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [IDENTITY, EXPONENTIAL])
def test_mass_volume_of_a_normal_variable(gaussian, change):
    mass, volume = mass_volume_curve(*map(change, gaussian))
    for alpha in (0.1, 0.5, 0.9, 0.99):
        found = volume[np.searchsorted(mass, alpha)]
        assert found == pytest.approx(2 * norm.ppf((1 + alpha) / 2) / WIDTH, abs=0.01)


@pytest.mark.parametrize("change", [IDENTITY, EXPONENTIAL])
def test_excess_mass_of_a_normal_variable(gaussian, change):
    level, excess = excess_mass_curve(*map(change, gaussian))
    for t in (0.1, 0.5, 1.0, 3.0):  # densities by that of the box
        half = np.sqrt(-2 * np.log(t / WIDTH * np.sqrt(2 * np.pi)))
        wanted = 2 * norm.cdf(half) - 1 - t * 2 * half / WIDTH
        assert np.interp(t, level, excess) == pytest.approx(wanted, abs=0.01)
    assert np.interp(4.2, level, excess) < 0.01  # above the largest density, 3.99


def test_areas_of_a_uniform_density():
    # Scores are 0 in a twentieth of the box and 1 outside: EM(t) = 1 - t / 20, MV = 1 / 20.
    rng = np.random.RandomState(0)
    X = rng.uniform(0.0, 0.5, (500, 2)) * [1.0, 0.2]
    train = np.array([[0.0, 0.0], [1.0, 1.0]])  # they span the box
    detector = Scored(lambda rows: 1.0 * ((rows > [0.5, 0.1]).any(axis=1)))
    volume = mass_volume(detector, train, X) / 0.1
    assert volume == pytest.approx(1 / 20, abs=0.01)
    wanted = 0.095 / volume  # the integral of 1 - t * volume, up to where it is 0.9
    assert excess_mass(detector, train, X) == pytest.approx(wanted, rel=1e-9)


def test_curves_by_their_definitions():
    rng = np.random.RandomState(3)
    scores, uniform = rng.randint(0, 30, 80) / 10, rng.randint(0, 40, 90) / 10  # with ties
    mass, volume = mass_volume_curve(scores, uniform)
    level, excess = excess_mass_curve(scores, uniform)
    cuts = np.append(np.unique(scores), -1)
    sets = [((scores <= c).mean(), (uniform <= c).mean()) for c in cuts]
    for alpha in np.linspace(0.01, 1, 23):
        wanted = min(v for m, v in sets if m >= alpha)
        assert volume[np.searchsorted(mass, alpha - 1e-12)] == wanted
    for t in np.linspace(0, 1.5 * level[-1], 50):
        wanted = max(m - t * v for m, v in sets)
        assert np.interp(t, level, excess) == pytest.approx(wanted, abs=1e-12)
    assert level[0] == 0 and (np.diff(level) > 0).all() and excess[0] == 1


def test_the_area_under_mass_volume_is_one_minus_an_auroc():
    rng = np.random.RandomState(0)
    scores, uniform = rng.normal(size=200), rng.normal(1, 2, size=300)
    mass, volume = mass_volume_curve(scores, uniform)
    auroc = roc_auc_score(np.repeat([0, 1], [200, 300]), np.append(scores, uniform))
    assert (np.diff(mass) * volume[1:]).sum() == pytest.approx(1 - auroc)


def test_sets_without_uniform_rows_have_excess_up_to_the_resolution():
    level, excess = excess_mass_curve([0.0] * 10, [1.0] * 7)
    assert (level.tolist(), excess.tolist()) == ([0.0], [1.0])
    detector = Scored(lambda X: 1.0 * (X[:, 0] > 0))
    X = np.array([[0.0], [0.0]])
    assert excess_mass(detector, np.array([[0.0], [1.0]]), X, n_uniform=7) == pytest.approx(7.0)
    assert mass_volume(detector, np.array([[0.0], [1.0]]), X, n_uniform=7) == 0


def test_a_detector_of_one_value_has_the_worst_curves():
    X = np.random.RandomState(0).normal(size=(50, 2))
    detector = Scored(lambda rows: np.zeros(len(rows)))
    assert mass_volume(detector, X, X) == pytest.approx(0.1)
    assert excess_mass(detector, X, X) == pytest.approx(0.1 * 0.95)


@pytest.mark.parametrize("bad", [[1.0, np.nan], [np.inf, 0.0], []])
@pytest.mark.parametrize("curve", [mass_volume_curve, excess_mass_curve])
def test_curves_refuse_what_is_no_score(curve, bad):
    with pytest.raises(ValueError):
        curve(bad, [1.0, 2.0])
    with pytest.raises(ValueError):
        curve([1.0, 2.0], bad)


# ---- excess mass and mass volume of detectors ----------------------------------------------------


def test_the_true_density_is_best():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(2000, 2)) * [1.0, 3.0]
    scores = {
        "density": lambda rows: norm_of(rows / [1.0, 3.0]),
        "no scale": norm_of,
        "aside": lambda rows: norm_of(rows / [1.0, 3.0] - [0.5, 0.0]),
        "one column": lambda rows: abs(rows[:, 0]),
    }
    em = {name: excess_mass(Scored(score), X, X) for name, score in scores.items()}
    mv = {name: mass_volume(Scored(score), X, X) for name, score in scores.items()}
    for name in list(scores)[1:]:
        assert em["density"] > 1.05 * em[name]
        assert mv["density"] < 0.95 * mv[name]


@pytest.mark.parametrize("criterion", [excess_mass, mass_volume])
@pytest.mark.parametrize("n_columns", [3, 12])
def test_areas_depend_on_no_unit_and_no_rising_function(criterion, n_columns):
    X = np.random.RandomState(0).normal(size=(2, 120, n_columns))
    unit = np.arange(1.0, n_columns + 1)
    small = {"n_uniform": 200, "n_subspaces": 2}
    values = [
        criterion(Scored(norm_of), *X, **small),
        criterion(Scored(lambda rows: norm_of(rows) ** 3 - 1), *X, **small),
        criterion(make_pipeline(StandardScaler(), Scored(norm_of)).fit(X[0]), *X, **small),
        criterion(
            make_pipeline(StandardScaler(), Scored(norm_of)).fit(X[0] * unit), *X * unit, **small
        ),
    ]
    assert values[0] == pytest.approx(values[1])
    assert values[2] == pytest.approx(values[3])


def test_wide_tables_are_looked_at_in_a_few_columns():
    seen = []

    class Watching(Scored):
        def fit(self, X, y=None):
            seen.append(np.asarray(X))
            return super().fit(X)

    rng = np.random.RandomState(0)
    train, X = rng.normal(size=(2, 60, 10))
    train[:, [2, 5]] = X[:, [2, 5]] = 1.0  # constant: they say nothing
    found = excess_mass(Watching(norm_of), train, X, n_subspaces=4, n_columns=3, n_uniform=100)
    assert len(seen) == 4 and found > 0
    for rows in seen:
        places = [int(np.flatnonzero((train.T == column).all(axis=1))[0]) for column in rows.T]
        assert len(set(places)) == 3 and not {2, 5} & set(places)
    by_hand = [
        excess_mass(Scored(norm_of).fit(rows), rows, X[:, places], n_uniform=2000)
        for rows in seen[:1]
        for places in [[int(np.flatnonzero((train.T == c).all(axis=1))[0]) for c in rows.T]]
    ]
    one = excess_mass(Scored(norm_of), train, X, n_subspaces=1, n_uniform=2000)
    assert one == pytest.approx(by_hand[0], rel=0.3)


def test_frames_keep_their_names(tables):
    frames = [pd.DataFrame(X, columns=list("abc")) for X in tables]
    detector = Mahalanobis(random_state=0)
    few: dict = {"excess_mass": {"n_uniform": 300}, "mass_volume": {"n_uniform": 300}}
    for criterion in (excess_mass, mass_volume, contrast_auc, stability):
        options = few.get(criterion.__name__, {})
        by_name = criterion(clone(detector).fit(frames[0]), *frames, **options)
        assert by_name == criterion(clone(detector).fit(tables[0]), *tables, **options)


# ---- contrast ------------------------------------------------------------------------------------


def test_contrast_is_the_auroc_against_the_points():
    X = np.random.RandomState(0).normal(size=(80, 2))
    points = X + 3
    detector = Scored(norm_of).fit(X)
    wanted = roc_auc_score(np.repeat([0, 1], 80), norm_of(np.concatenate([X, points])))
    assert contrast_auc(detector, X, X, against=points) == pytest.approx(wanted)


def test_contrast_with_uniform_points_is_the_whole_mass_volume_area(tables):
    train, X = tables
    X = np.clip(X, train.min(axis=0), train.max(axis=0))  # one box for both
    detector = Scored(norm_of).fit(train)
    volume = mass_volume(detector, train, X, min_mass=0.0, n_uniform=20_000)
    auc = contrast_auc(detector, train, X, against="uniform", n_points=20_000)
    assert auc == pytest.approx(1 - volume, abs=0.01)


@pytest.mark.parametrize("against", ["manifold", "shuffled", "uniform"])
def test_what_points_keep_of_the_rows(against):
    from skgenad.metrics._contrast import points_of

    rng = np.random.RandomState(0)
    first = rng.normal(size=(500, 1))
    train = np.hstack([first, 3 * first + 0.01 * rng.normal(size=(500, 1)), np.ones((500, 1))])
    points = points_of(train, against, 400, np.random.RandomState(0))
    assert points.shape == (400, 3) and (points[:, 2] == 1).all()
    low, high = train.min(axis=0), train.max(axis=0)
    assert (points >= low - 1e-6 - 0.01 * (high - low)).all()
    assert (points <= high + 1e-6 + 0.01 * (high - low)).all()
    correlation = np.corrcoef(points[:, :2].T)[0, 1]
    if against == "manifold":  # a line, on which points are uniform and rows are not
        assert correlation > 0.999
        assert points[:, 0].std() > 1.3 * train[:, 0].std()
    else:
        assert abs(correlation) < 0.2
    if against == "shuffled":
        assert np.isin(points[:, 0], train[:, 0]).all()


def test_contrast_refuses_other_words(tables):
    detector = Mahalanobis(random_state=0).fit(tables[0])
    with pytest.raises(ValueError, match="against='noise' is none of manifold, shuffled, uniform"):
        contrast_auc(detector, *tables, against="noise")


# ---- stability and agreement ---------------------------------------------------------------------


def test_tail_overlap_counts_rows_that_both_have_in_the_tail():
    rng = np.random.RandomState(0)
    first, second = rng.normal(size=(2, 200))
    top = [set(np.argsort(s)[-20:]) for s in (first, second)]
    assert tail_overlap(first, second) == pytest.approx(len(top[0] & top[1]) / 20)
    assert tail_overlap(first, np.exp(first)) == 1
    assert tail_overlap(first, -first) == 0
    assert tail_overlap(first, np.zeros(200)) == pytest.approx(0.1)
    assert tail_overlap(first, second, share=1.0) == 1


def test_tail_overlap_of_ties_is_the_mean_over_choices_among_them():
    rng = np.random.RandomState(0)
    first, second = rng.randint(0, 4, (2, 30)).astype(float)
    drawn = [
        tail_overlap(first + 1e-3 * rng.rand(30), second + 1e-3 * rng.rand(30), share=0.3)
        for _ in range(500)
    ]
    assert tail_overlap(first, second, share=0.3) == pytest.approx(np.mean(drawn), abs=0.02)
    order = rng.permutation(30)
    assert tail_overlap(first[order], second[order], share=0.3) == pytest.approx(
        tail_overlap(first, second, share=0.3)
    )


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_are_checked(tables, share):
    with pytest.raises(ValueError, match="share"):
        tail_overlap([1.0, 2.0], [1.0, 2.0], share=share)
    with pytest.raises(ValueError, match="share"):
        stability(Mahalanobis(), *tables, measure="tail", share=share)


@pytest.mark.parametrize("measure", ["rank", "tail"])
def test_what_depends_on_no_rows_and_no_seed_is_stable(tables, measure):
    assert stability(Scored(norm_of), *tables, measure=measure) == pytest.approx(1)
    assert stability(Seeded(0), *tables, measure=measure) == pytest.approx(1)  # one seed for all
    noise = stability(Seeded(0), *tables, vary="seed", measure=measure)
    assert abs(noise) < 0.25


def test_stability_is_the_mean_over_pairs_of_halves(tables):
    train, X = tables
    halves = []

    class Watching(Neighbors):
        def fit(self, X, y=None):
            halves.append(np.asarray(X))
            return super().fit(X, y)

    found = stability(Watching(), train, X, n_fits=3)
    scores = [Neighbors().fit(half).score_samples(X) for half in halves]
    pairs = [spearmanr(scores[i], scores[j])[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found == pytest.approx(np.mean(pairs))
    assert [len(half) for half in halves] == [75] * 3
    assert not np.array_equal(halves[0], halves[1])


def test_a_detector_agrees_with_itself_and_not_with_one_value(tables):
    train, X = tables
    detector = Mahalanobis(random_state=0).fit(train)
    for measure in ("rank", "tail"):
        same = agreement(detector, train, X, reference=clone(detector), measure=measure)
        assert same == pytest.approx(1)
    constant = Scored(lambda rows: np.zeros(len(rows)))
    assert agreement(detector, train, X, reference=constant) == 0
    upside_down = Scored(lambda rows: -norm_of(rows))
    assert agreement(Scored(norm_of), train, X, reference=upside_down) == pytest.approx(-1)


def test_wrong_words_are_refused(tables):
    for message, options in [
        ("measure='ranks' is none of rank, tail", {"measure": "ranks"}),
        ("vary='folds' is none of rows, seed", {"vary": "folds"}),
        ("n_fits == 1, must be >= 2", {"n_fits": 1}),
        ("Scored has no random_state to vary", {"vary": "seed"}),
    ]:
        with pytest.raises(ValueError, match=message):
            stability(Scored(norm_of), *tables, **options)
    with pytest.raises(ValueError, match="min_mass"):
        excess_mass(Scored(norm_of), *tables, min_mass=1.0)
    with pytest.raises(ValueError, match="3 training rows have no halves"):
        stability(Scored(norm_of), tables[0][:3], tables[1])
    with pytest.raises(TypeError, match="criterion must be a function"):
        make_label_free_scorer("excess_mass")


@pytest.mark.parametrize("criterion", [excess_mass, mass_volume])
@pytest.mark.parametrize("width", [1, 2, 12])
def test_rows_of_another_width_are_refused(tables, criterion, width):
    train, rows = tables
    detector = Mahalanobis().fit(train)
    with pytest.raises(ValueError, match=f"X has {width} columns, and X_train has"):
        criterion(detector, train, np.ones((5, width)) + rows[:5, :1])


# ---- searches ------------------------------------------------------------------------------------


@criteria
def test_every_criterion_serves_a_search_without_labels(tables, scorer):
    search = GridSearchCV(
        Neighbors(), {"n_neighbors": [1, 10]}, scoring=scorer, cv=2, return_train_score=True
    ).fit(tables[0])
    for part in ("test", "train"):
        assert np.isfinite(search.cv_results_[f"mean_{part}_score"]).all()
    # The criterion of the fold's own training rows, and no others.
    folds = [(np.arange(75, 150), np.arange(75)), (np.arange(75), np.arange(75, 150))]
    sign = 1 if scorer.greater_is_better else -1
    by_hand = [
        sign * scorer.criterion(Neighbors(n_neighbors=10).fit(a), a, b, **scorer.kwargs)
        for a, b in ((tables[0][train], tables[0][test]) for train, test in folds)
    ]
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(np.mean(by_hand))


@criteria
def test_scorers_serve_pipelines_and_several_at_once(tables, scorer):
    pipe = make_pipeline(StandardScaler(), IsolationForest(n_estimators=5, random_state=0))
    scores = cross_validate(pipe, tables[0], scoring={"a": scorer, "b": scorer}, cv=2)
    assert np.isfinite(scores["test_a"]).all()
    np.testing.assert_array_equal(scores["test_a"], scores["test_b"])


@criteria
def test_scorers_can_be_sent_and_say_what_they_are(tables, scorer):
    sent = pickle.loads(pickle.dumps(scorer))
    assert repr(sent) == repr(scorer) and scorer.criterion.__name__ in repr(scorer)
    both = [cross_val_score(Neighbors(), tables[0], scoring=s, cv=2) for s in (sent, scorer)]
    np.testing.assert_array_equal(*both)


@criteria
def test_what_is_no_detector_stops_a_search(tables, scorer):
    with pytest.raises(TypeError, match="KMeans is no detector"):
        cross_val_score(KMeans(2, n_init=1), tables[0], scoring=scorer, cv=2)


@criteria
def test_by_hand_a_scorer_names_the_criterion(tables, scorer):
    name = scorer.criterion.__name__
    with pytest.raises(ValueError, match=rf"by hand, call {name}\(estimator, X_train, X\)"):
        scorer(Neighbors().fit(tables[0]), tables[1])


def test_wrong_options_stop_a_search_and_bad_scores_lose(tables):
    scorer = make_label_free_scorer(stability, vary="folds")
    with pytest.raises(ValueError, match="vary='folds'"):
        cross_val_score(Neighbors(), tables[0], scoring=scorer, cv=2)
    bad = Scored(lambda X: np.full(len(X), np.nan))
    for scorer in CRITERIA.values():
        with pytest.warns(UserWarning, match="Scored gives scores that are NaN or infinity"):
            scores = cross_val_score(bad, tables[0], scoring=scorer, cv=2)
        assert np.isnan(scores).all()


def test_criteria_serve_detectors_of_networks_and_committees(tables):
    train, X = (table[:40] for table in tables)
    detector = tiny("MPDR").fit(train)
    assert isinstance(detector, MPDR)
    points = detector.sample(50, random_state=0)
    assert 0 <= contrast_auc(detector, train, X, against=points) <= 1
    assert stability(detector, train, X, vary="seed", n_fits=2) <= 1
    assert agreement(detector, train, X, reference=Committee(random_state=0)) <= 1
    assert excess_mass(detector, train, X, n_uniform=200) > 0


def test_searches_leave_global_generators_alone(tables, global_rng_untouched):
    detector = Mahalanobis(random_state=0)
    scorers = {**CRITERIA, "agreement": make_label_free_scorer(agreement, reference=detector)}
    for scorer in scorers.values():
        scores = [cross_val_score(detector, tables[0], scoring=scorer, cv=2) for _ in range(2)]
        np.testing.assert_array_equal(*scores)
