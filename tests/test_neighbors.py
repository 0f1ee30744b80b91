"""Neighbors, LocalGaussian and KernelDenoiser: closed forms, leaving rows out, odd tables."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis
from scipy.stats import ks_2samp, multivariate_normal
from sklearn.metrics import roc_auc_score

from skgenad import KernelDenoiser, LocalGaussian, Neighbors
from skgenad._core.detector import SCORING_CHUNK
from skgenad._tensors.kernels import (
    Copies,
    kernel_log_density,
    kernel_mean,
    keys_of,
    squared_distances,
    weights_of,
)
from skgenad.neighbors._anchors import Anchors
from skgenad.neighbors._search import Search, share

pytestmark = pytest.mark.usefixtures("drawing")

CPU = {"device": "cpu", "random_state": 0}
RAW = {**CPU, "standardize": False}
FAMILY = {
    "plain": lambda **p: Neighbors(**p),
    "local": lambda **p: Neighbors(scale="local", **p),
    "gaussian": lambda **p: LocalGaussian(n_neighbors=7, **p),
    "kernel": lambda **p: KernelDenoiser(bandwidth=0.5, **p),
}
whole_family = pytest.mark.parametrize("make", FAMILY.values(), ids=FAMILY)


def normal(n=60, d=4, seed=0):
    return np.random.RandomState(seed).randn(n, d)


def exact(X):
    """Rows as float32 has them, so that standard units of identity change no bit."""
    return np.asarray(X, dtype=np.float32).astype(np.float64)


def with_copies(n=50, d=3, seed=0):
    X = exact(normal(n, d, seed))
    X[5], X[7], X[8] = X[4], X[6], X[6]
    return X


# ---- kernels --------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.3, 1.0])
def test_the_residual_is_the_slope_of_the_log_density(width):
    anchors = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = 2 * torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(kernel_log_density(x, anchors, width).sum(), x)
    weights = weights_of(squared_distances(x.detach(), anchors) / (-2 * width**2))
    residual = x.detach() - kernel_mean(weights, anchors)
    torch.testing.assert_close(residual, -(width**2) * slope, rtol=1e-10, atol=1e-10)


def test_the_detectors_residual_is_that_slope_for_every_factor():
    X, new = exact(normal(60, 3)), exact(2 * normal(20, 3, seed=1))
    module = KernelDenoiser(bandwidth=0.5, **RAW).fit(X).module_
    x, anchors = torch.from_numpy(new), torch.from_numpy(X)
    for factor, mean in zip((2.0, 1.0, 0.5), module.denoised(x.float()), strict=True):
        width = 0.5 * factor
        inputs = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(kernel_log_density(inputs, anchors, width).sum(), inputs)
        torch.testing.assert_close(x - mean, -(width**2) * slope, rtol=1e-10, atol=1e-10)


def test_far_rows_are_drawn_to_their_nearest_anchor_and_not_to_the_origin():
    X = exact(normal(30, 2)) + 100
    detector = KernelDenoiser(bandwidth=0.1, factors=(1.0,), **RAW).fit(X)
    far = np.array([[1e6, 1e6], [-1e6, 50.0]])
    nearest = X[cdist(far, X).argmin(axis=1)]
    np.testing.assert_allclose(detector.reconstruct(far), nearest, rtol=1e-6)


def test_equal_rows_have_equal_keys_and_others_do_not():
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0 + 2**-23], [2.0, 0.0]])
    keys = keys_of(x).tolist()
    assert keys[0] == keys[1] and len(set(keys)) == 4
    many = torch.from_numpy(np.random.RandomState(0).randint(-2, 3, (20_000, 6))).float()
    assert len(keys_of(many).unique()) == len(many.unique(dim=0))


def test_copies_are_found_and_nothing_else():
    anchors = torch.randn(100, 3)
    places = Copies(anchors).places(torch.cat([anchors[[3, 50]], anchors[:2] + 1e-6]))
    assert places.tolist() == [3, 50, -1, -1]


# ---- what it is -----------------------------------------------------------------------------


def test_neighbors_is_the_mean_distance_to_the_nearest():
    X, new = exact(normal(80)), exact(2 * normal(20, seed=1))
    nearest = np.sort(cdist(new, X), axis=1)[:, :5]
    score = Neighbors(**RAW).fit(X).anomaly_score(new)
    np.testing.assert_allclose(score, nearest.mean(axis=1), rtol=1e-6)
    one = Neighbors(n_neighbors=1, **RAW).fit(X).anomaly_score(new)
    np.testing.assert_allclose(one, nearest[:, 0], rtol=1e-6)


def test_neighbours_of_neighbours_are_looked_at_in_parts(monkeypatch):
    X = with_copies()
    detector = Neighbors(scale="local", **RAW).fit(X)
    scores = detector.score_samples(X)
    monkeypatch.setattr("skgenad.neighbors.neighbors._MOST_NUMBERS", 3 * 5**2)
    np.testing.assert_array_equal(detector.score_samples(X), scores)


def test_the_local_form_divides_by_the_neighbours_own_distances():
    X, new = exact(normal(80)), exact(2 * normal(20, seed=1))
    among = cdist(X, X)
    np.fill_diagonal(among, np.inf)
    own = np.sort(among, axis=1)[:, :5].mean(axis=1)
    distances = cdist(new, X)
    near = distances.argsort(axis=1)[:, :5]
    floor = 1e-3 * own.mean()
    plain = np.take_along_axis(distances, near, axis=1).mean(axis=1)
    expected = (plain + floor) / (own[near].mean(axis=1) + floor)
    score = Neighbors(scale="local", **RAW).fit(X).anomaly_score(new)
    np.testing.assert_allclose(score, expected, rtol=1e-6)


@pytest.mark.parametrize("d", [3, 30])
def test_the_local_gaussian_is_the_mahalanobis_distance_to_the_nearest_rows(d):
    X, new = exact(normal(60, d)), exact(1.5 * normal(10, d, seed=1))
    score = LocalGaussian(n_neighbors=12, shrinkage=0.2, **RAW).fit(X).anomaly_score(new)
    for row, got in zip(new, score, strict=True):
        near = X[cdist([row], X)[0].argsort()[:12]]
        covariance = np.cov(near.T, bias=True)
        shrunk = 0.8 * covariance + 0.2 * np.trace(covariance) / d * np.eye(d)
        expected = mahalanobis(row, near.mean(axis=0), np.linalg.inv(shrunk))
        assert got == pytest.approx(expected, rel=1e-3)


def test_a_local_gaussian_is_the_same_whatever_the_order_of_rows():
    X = np.concatenate([np.zeros((1100, 3)), normal(200, 3)])
    new = 2 * normal(20, 3, seed=1)
    copies_first, copies_last = (LocalGaussian(**CPU).fit(rows) for rows in (X, X[::-1].copy()))
    scores = copies_first.score_samples(new)
    np.testing.assert_allclose(scores, copies_last.score_samples(new), rtol=1e-4)


def test_a_local_gaussian_knows_the_direction_in_which_rows_vary():
    t = np.random.RandomState(0).uniform(-3, 3, 400)
    X = np.column_stack([t, t + 0.05 * np.random.RandomState(1).randn(400)])
    detector = LocalGaussian(**RAW).fit(X)
    along, across = detector.anomaly_score([[1.0, 1.0], [0.3, -0.3]])
    assert across > 5 * along


def test_the_kernel_density_is_a_density_and_samples_come_from_it():
    X = normal(40, 2) * [1.0, 30.0]
    detector = KernelDenoiser(**CPU).fit(X)
    sides = [np.linspace(c.min() - 4 * c.std(), c.max() + 4 * c.std(), 300) for c in X.T]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod([side[1] - side[0] for side in sides])
    total = np.exp(detector.log_density(grid)).sum() * cell
    assert total == pytest.approx(1, abs=0.01)
    drawn = detector.sample(20_000, random_state=0)
    spread = np.sqrt(X.var(axis=0) + (detector.bandwidth_ * X.std(axis=0)) ** 2)
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.03)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.05 * X.std(axis=0).max())


def test_the_log_density_is_the_mean_of_gaussians():
    X, new = exact(normal(25, 3)), exact(normal(10, 3, seed=2))
    detector = KernelDenoiser(bandwidth=0.7, **RAW).fit(X)
    by_scipy = [np.log(np.mean([multivariate_normal(m, 0.49).pdf(row) for m in X])) for row in new]
    np.testing.assert_allclose(detector.log_density(new), by_scipy, rtol=1e-6)


@pytest.mark.parametrize("standardize", [True, False])
def test_a_constant_column_has_no_density_and_stays_constant_in_samples(standardize):
    X = np.column_stack([normal(40, 2), np.full(40, 7.0)])
    settings = {**CPU, "bandwidth": 0.5, "standardize": standardize}
    detector, without = KernelDenoiser(**settings).fit(X), KernelDenoiser(**settings).fit(X[:, :2])
    new = np.column_stack([normal(9, 2, seed=1), np.full(9, 7.0)])
    np.testing.assert_allclose(detector.log_density(new), without.log_density(new[:, :2]))
    assert (detector.sample(20, random_state=0)[:, 2] == 7.0).all()


def test_the_bandwidth_is_that_of_the_smallest_leave_one_out_error():
    X = exact(normal(120, 2))
    width = KernelDenoiser(**RAW).fit(X).bandwidth_

    def error(h):
        weights = np.exp(-cdist(X, X, "sqeuclidean") / (2 * h * h))
        np.fill_diagonal(weights, 0)
        return np.square(X - weights @ X / weights.sum(axis=1, keepdims=True)).sum()

    assert error(width) <= min(error(width * 1.6), error(width / 1.6))


def test_a_reconstruction_is_a_more_normal_row():
    X = normal(200, 4)
    detector = KernelDenoiser(**CPU).fit(X)
    odd = X[:20] + 3
    assert (detector.score_samples(detector.reconstruct(odd)) > detector.score_samples(odd)).all()


# ---- leaving the row itself out -------------------------------------------------------------


def energies(detector, rows):
    """Energies before any calibration, which a refit would change, too."""
    if isinstance(detector, KernelDenoiser):
        return detector.module_._errors(torch.from_numpy(rows).float()).numpy()
    return detector.anomaly_score(rows)[:, None]


@whole_family
def test_training_rows_score_as_if_they_had_been_left_out(make):
    X = with_copies()
    # The floors depend, by a thousandth, on all rows: they must be the same for this comparison.
    whole = make(**RAW).fit(X)
    scores = energies(whole, X)
    for i in (0, 4, 5, 6, 7, 8, 20, 49):
        without = make(**RAW).fit(np.delete(X, i, axis=0))
        if hasattr(whole.module_, "floor"):
            without.module_.floor.copy_(whole.module_.floor)
        row = X[[i]]
        if (without.module_.anchors.rows.numpy() == row).all(axis=1).any():
            # A copy is there, which would be left out in turn: a row right beside it is not.
            row = np.nextafter(row.astype(np.float32), np.float32(np.inf)).astype(np.float64)
        np.testing.assert_allclose(energies(without, row)[0], scores[i], rtol=1e-5, atol=1e-6)


@whole_family
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_predict_flags_the_share_of_training_rows_and_of_new_rows(make, share):
    X, new = normal(1000), normal(2000, seed=1)
    detector = make(**CPU, contamination=share).fit(X)
    assert (detector.predict(X) == -1).mean() == pytest.approx(share, abs=0.002)
    assert (detector.predict(new) == -1).mean() == pytest.approx(share, abs=0.03)


@whole_family
def test_known_and_new_rows_have_scores_of_one_distribution(make):
    X, new = normal(800), normal(800, seed=1)
    detector = make(**CPU).fit(X)
    assert ks_2samp(detector.score_samples(X), detector.score_samples(new)).pvalue > 0.01


# ---- odd tables -----------------------------------------------------------------------------

ODD = {
    "two rows": np.array([[0.0, 1.0], [2.0, 3.0]]),
    "two copies": np.ones((2, 3)),
    "all copies": np.tile([[1.0, 2.0]], (30, 1)),
    "two points": np.repeat([[0.0, 1.0], [5.0, 2.0]], 20, axis=0),
    "one column": normal(40, 1),
    "ties": np.random.RandomState(0).randint(0, 3, (60, 2)).astype(float),
    "constant column": np.column_stack([normal(40, 2), np.ones(40)]),
    "wide": normal(30, 1000),
    "mostly copies": np.concatenate([np.zeros((90, 3)), normal(10, 3)]),
}


@pytest.mark.parametrize("X", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "make", [Neighbors, lambda **p: Neighbors(scale="local", **p), LocalGaussian, KernelDenoiser]
)
def test_odd_tables_are_scored(make, X):
    detector = make(**CPU).fit(X)
    scores = detector.score_samples(np.concatenate([X, X + 0.1, X + 1e3]))
    assert np.isfinite(scores).all()
    far = np.tile(X[:1], (4, 1)) + np.array([1e3, 1e6, 1e9, 1e12])[:, None]
    if np.ptp(X, axis=0).all():  # of a constant column the units know nothing but other or not
        assert (np.diff(detector.score_samples(far)) < 0).all()
    assert detector.score_samples(X).mean() > detector.score_samples(X + 1e3).mean()


@whole_family
def test_a_score_depends_on_no_other_row(make):
    X, new = normal(300, 20), 1.5 * normal(SCORING_CHUNK + 77, 20, seed=1)
    detector = make(**CPU).fit(X)
    scores = detector.score_samples(new)
    for places in (slice(5, 6), slice(40, 90), slice(None, None, -1), slice(1000, None)):
        np.testing.assert_array_equal(detector.score_samples(new[places]), scores[places])


# ---- anchors --------------------------------------------------------------------------------


def test_anchors_are_a_uniform_sample_however_rows_are_divided():
    rows = torch.arange(100.0)[:, None]
    kept = torch.zeros(100)
    for seed in range(300):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            anchors = Anchors(1, 10)
            for part in rows.split([7, 60, 1, 32]):
                anchors.take(part)
        assert len(anchors) == 10 and len(anchors.rows.unique()) == 10
        kept[anchors.rows[:, 0].long()] += 1
    # 30 of each are expected, with a standard deviation of 5.2.
    assert kept.min() > 30 - 4.5 * 5.2 and kept.max() < 30 + 4.5 * 5.2


@whole_family
def test_batches_that_all_fit_give_what_one_fit_of_all_gives(make):
    X = normal(90)
    parts = make(**RAW).partial_fit(X[:50]).partial_fit(X[50:70]).partial_fit(X[70:])
    new = normal(30, seed=1)
    np.testing.assert_array_equal(parts.score_samples(new), make(**RAW).fit(X).score_samples(new))


@whole_family
def test_no_more_rows_are_kept_than_asked_for(make, tmp_path):
    X = normal(500)
    detector = make(**CPU, max_anchors=40).fit(X).partial_fit(X + 1)
    assert len(detector.module_.anchors) == 40
    detector.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert len(pickle.dumps(detector.forget_rows())) < 60_000


def test_more_anchors_than_a_sample_needs_detect_no_worse():
    rng = np.random.RandomState(0)
    X, new = rng.randn(3000, 5), np.concatenate([rng.randn(300, 5), 2 * rng.randn(300, 5)])
    y = np.repeat([0, 1], 300)
    few, many = (KernelDenoiser(max_anchors=m, **CPU).fit(X) for m in (300, 3000))
    areas = [roc_auc_score(y, detector.anomaly_score(new)) for detector in (few, many)]
    assert areas[1] > areas[0] - 0.02 > 0.7


# ---- shared searches ------------------------------------------------------------------------


def test_models_with_equal_anchors_share_a_search_and_others_do_not():
    X = normal(60)
    models = [Neighbors(**CPU), LocalGaussian(**CPU), Neighbors(max_anchors=30, **CPU)]
    models = [model.fit(X) for model in models]
    new = normal(20, seed=1)
    before = [model.score_samples(new) for model in models]
    share(models)
    one, two, three = (model.module_.anchors for model in models)
    assert one is two and one is not three and one.most_neighbors == 25
    for order in (models, models[::-1], models):
        for model in order:
            np.testing.assert_array_equal(model.score_samples(new), before[models.index(model)])


def test_models_that_keep_different_numbers_of_rows_share_no_search():
    X = normal(60)
    models = [Neighbors(max_anchors=60, **CPU).fit(X), LocalGaussian(**CPU).fit(X)]
    share(models)
    sizes = [len(model.partial_fit(X + 1).module_.anchors) for model in models]
    assert sizes == [60, 120]


def test_a_shared_search_looks_once(monkeypatch):
    X = normal(60)
    models = [Neighbors(**CPU).fit(X), LocalGaussian(**CPU).fit(X)]
    share(models)
    for model in models:
        model.score_samples(normal(20, seed=2))  # so that it is known how few rows a pass takes
    calls, query = [], Search._query
    monkeypatch.setattr(Search, "_query", lambda *args: calls.append(1) or query(*args))
    new = normal(20, seed=1)
    for model in models:
        model.score_samples(new)
    assert len(calls) == 1
    models[0].score_samples(new + 1)
    assert len(calls) == 2


def test_training_on_leaves_the_shared_search_of_the_others_alone():
    X = normal(60)
    models = [Neighbors(**CPU).fit(X), LocalGaussian(**CPU).fit(X)]
    share(models)
    before = models[1].score_samples(X)
    models[0].partial_fit(X + 1)
    np.testing.assert_array_equal(models[1].score_samples(X), before)
    twin = copy.deepcopy(models[0])
    np.testing.assert_array_equal(twin.score_samples(X), models[0].score_samples(X))


# ---- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"factors": ()}, "one or more numbers"),
        ({"factors": np.ones(1)}, "an instance of 'tuple'"),
        ({"factors": (0.0, 1.0)}, "above 0"),
        ({"factors": (1.0, 1.0)}, "no two the same"),
        ({"factors": [[1.0]]}, "list of one or more"),
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": "scott"}, "bandwidth"),
        ({"max_anchors": 1}, "max_anchors"),
    ],
)
def test_kernel_parameters_that_make_no_sense_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        KernelDenoiser(**CPU, **parameters).fit(normal())
