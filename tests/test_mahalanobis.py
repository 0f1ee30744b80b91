"""Mahalanobis: closed formulas, singular covariances, batches that add up, densities, samples."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp
from scipy.stats import chi2, kstest, multivariate_normal
from sklearn.covariance import EmpiricalCovariance, oas, shrunk_covariance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

from skgenad import Mahalanobis
from skgenad._core.detector import SCORING_CHUNK
from skgenad._tensors.moments import TiedMoments
from skgenad.likelihoods.mahalanobis import MahalanobisModel
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

from ._settings import ALL_ROWS, normal_rows

pytestmark = pytest.mark.usefixtures("drawing")

CPU = {**ALL_ROWS, "device": "cpu", "random_state": 0}
RAW = {**CPU, "standardize": False}


def three_classes(n=240, d=4, seed=0):
    """Return rows of three classes in different places, and their names."""
    rng = np.random.RandomState(seed)
    places = rng.permutation(np.arange(n) % 3)
    centres = 3 * np.random.RandomState(9).randn(3, d)
    X = normal_rows(n, d, seed) + centres[places] * np.logspace(-2, 3, d)
    return X, np.array(["low", "mid", "top"])[places]


def tied(X, y):
    """Means of the classes, the covariance within them, and the classes' shares."""
    names = np.unique(y)
    means = np.array([X[y == name].mean(axis=0) for name in names])
    centred = X - means[np.searchsorted(names, y)]
    return means, centred.T @ centred / len(X), np.array([np.mean(y == name) for name in names])


def squared(X, mean, covariance):
    return np.einsum("ij,ij->i", (X - mean) @ np.linalg.inv(covariance), X - mean)


# ---- the distance ---------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [True, False])
def test_it_is_the_squared_mahalanobis_distance(standardize):
    X, new = normal_rows(100), 3 * normal_rows(30, seed=1)
    detector = Mahalanobis(**{**CPU, "standardize": standardize}).fit(X)
    reference = EmpiricalCovariance().fit(X)
    np.testing.assert_allclose(detector.anomaly_score(new), reference.mahalanobis(new), rtol=1e-4)
    inverse = np.linalg.inv(np.cov(X.T, bias=True))
    by_scipy = [mahalanobis(row, X.mean(axis=0), inverse) ** 2 for row in new]
    np.testing.assert_allclose(detector.anomaly_score(new), by_scipy, rtol=1e-4)
    np.testing.assert_allclose(detector.covariance_, reference.covariance_, rtol=1e-4)
    np.testing.assert_allclose(detector.means_, [X.mean(axis=0)], rtol=1e-5)
    assert detector.shrinkage_ == 0


@pytest.mark.parametrize("parameters", [{}, {"use_labels": True}, {"relative": True}])
def test_affine_maps_of_the_rows_change_nothing(parameters):
    parameters = {"use_labels": "relative" in parameters, **CPU, **parameters}
    X, y = three_classes()
    new, _ = three_classes(50, seed=1)
    mixing, shift = np.random.RandomState(3).randn(4, 4), np.arange(4.0)
    unit = np.logspace(-2, 3, 4)  # so that the map mixes columns of one size

    def mapped(rows):
        return rows / unit @ mixing + shift

    scores = Mahalanobis(**parameters).fit(X, y).score_samples(new)
    again = Mahalanobis(**parameters).fit(mapped(X), y).score_samples(mapped(new))
    np.testing.assert_allclose(again, scores, rtol=1e-3, atol=1e-3)


def test_with_labels_it_is_the_distance_to_the_nearest_class():
    X, y = three_classes()
    new, _ = three_classes(50, seed=1)
    means, covariance, _ = tied(X, y)
    expected = np.min([squared(new, mean, covariance) for mean in means], axis=0)
    detector = Mahalanobis(use_labels=True, **CPU).fit(X, y)
    np.testing.assert_allclose(detector.anomaly_score(new), expected, rtol=1e-3)
    np.testing.assert_allclose(detector.means_, means, rtol=1e-3)
    np.testing.assert_allclose(detector.covariance_, covariance, rtol=1e-3, atol=1e-4)


def test_one_class_is_no_class():
    X = normal_rows()
    one = Mahalanobis(use_labels=True, **CPU).fit(X, ["only"] * 60)
    np.testing.assert_array_equal(one.score_samples(X), Mahalanobis(**CPU).fit(X).score_samples(X))


def test_the_relative_distance_subtracts_that_to_all_rows():
    X, y = three_classes()
    new, _ = three_classes(50, seed=1)
    means, covariance, _ = tied(X, y)
    nearest = np.min([squared(new, mean, covariance) for mean in means], axis=0)
    background = squared(new, X.mean(axis=0), np.cov(X.T, bias=True))
    detector = Mahalanobis(use_labels=True, relative=True, **CPU).fit(X, y)
    np.testing.assert_allclose(
        detector.anomaly_score(new), nearest - background, rtol=1e-3, atol=1e-3
    )


def test_the_relative_distance_finds_anomalies_that_columns_without_classes_hide():
    rng = np.random.RandomState(0)

    def rows(n, signal):
        return np.column_stack([signal + 0.6 * rng.randn(n), rng.randn(n, 60)])

    y = np.arange(600) % 2
    X = rows(600, 4.0 * y)
    test = np.vstack([rows(200, 4.0 * (np.arange(200) % 2)), rows(200, 2.0)])
    anomaly = np.repeat([0, 1], 200)  # between the classes, which one column in 61 tells
    scores = [
        Mahalanobis(use_labels=True, relative=relative, **CPU).fit(X, y).anomaly_score(test)
        for relative in (False, True)
    ]
    plain, relative = (roc_auc_score(anomaly, s) for s in scores)
    assert relative > 0.95 and plain < 0.85


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        ({}, None, "both are the same with use_labels=False, and all scores 0"),
        ({"use_labels": True}, ["a"] * 60, r"both are the same with one class, \['a'\]"),
    ],
)
def test_a_relative_distance_of_one_class_is_refused(parameters, y, message):
    with pytest.raises(ValueError, match=message):
        Mahalanobis(relative=True, **parameters).fit(normal_rows(), y)


def test_distances_of_normal_rows_follow_the_chi_squared_distribution():
    rows = np.random.RandomState(0).randn(4000, 7) @ np.random.RandomState(1).randn(7, 7)
    detector = Mahalanobis(**CPU).fit(rows[:3000])
    assert kstest(detector.anomaly_score(rows[3000:]), chi2(7).cdf).pvalue > 0.01


def test_the_gradient_of_the_energy_is_that_of_the_distance():
    X = normal_rows(100)
    detector = Mahalanobis(**RAW).fit(X / np.logspace(-2, 3, 4))
    x = torch.randn(5, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(detector.module_.energy(x).sum(), x)
    x = x.detach()
    inverse = np.linalg.inv(detector.covariance_)
    np.testing.assert_allclose(gradient, 2 * (x.numpy() - detector.means_) @ inverse, rtol=1e-4)


@pytest.mark.parametrize("d", [1, 2, 9, 17, 33])
@pytest.mark.parametrize("relative", [False, True])
def test_any_place_in_a_batch_gives_the_same_bits_with_labels(d, relative):
    X, y = three_classes(90, d)
    X = np.column_stack([X, X[:, 0] - X[:, -1]])  # singular
    detector = Mahalanobis(use_labels=True, relative=relative, **CPU).fit(X, y)
    new = np.tile(X, (15, 1)) + np.random.RandomState(1).randn(1350, 1)
    assert len(new) > SCORING_CHUNK
    scores = detector.score_samples(new)
    order = np.random.RandomState(2).permutation(len(new))
    np.testing.assert_array_equal(detector.score_samples(new[order]), scores[order])
    alone = np.concatenate([detector.score_samples(row[None]) for row in new[:20]])
    np.testing.assert_array_equal(alone, scores[:20])


# ---- shrinkage and singular covariances -----------------------------------------------------


@pytest.mark.parametrize("n", [5, 12, 200])
def test_automatic_shrinkage_is_that_of_scikit_learn(n):
    X = np.random.RandomState(0).randn(n, 10) * np.linspace(1, 3, 10)
    covariance, amount = oas(X)
    detector = Mahalanobis(shrinkage="auto", **RAW).fit(X)
    assert detector.shrinkage_ == pytest.approx(amount, rel=1e-5)
    np.testing.assert_allclose(detector.covariance_, covariance, rtol=1e-5, atol=1e-6)
    expected = squared(X, X.mean(axis=0), covariance)
    np.testing.assert_allclose(detector.anomaly_score(X), expected, rtol=1e-4)


@pytest.mark.parametrize("shrinkage", [0, 0.3, 1])
def test_a_given_shrinkage_is_that_of_scikit_learn(shrinkage):
    X = normal_rows() / np.logspace(-2, 3, 4)
    detector = Mahalanobis(shrinkage=shrinkage, **RAW).fit(X)
    expected = shrunk_covariance(np.cov(X.T, bias=True), shrinkage)
    np.testing.assert_allclose(detector.covariance_, expected, rtol=1e-5, atol=1e-6)
    assert detector.shrinkage_ == pytest.approx(shrinkage)


def test_full_shrinkage_is_the_euclidean_distance():
    X = np.random.RandomState(0).randn(50, 3) * [1, 2, 3]
    scores = Mahalanobis(shrinkage=1.0, **RAW).fit(X).anomaly_score(X)
    expected = ((X - X.mean(axis=0)) ** 2).sum(axis=1) / X.var(axis=0).mean()
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_constant_columns_take_no_part_in_shrinkage():
    X = normal_rows()
    wider = np.insert(X, 2, 7.0, axis=1)
    one, two = (Mahalanobis(shrinkage="auto", **CPU).fit(rows) for rows in (X, wider))
    assert two.shrinkage_ == pytest.approx(one.shrinkage_)
    np.testing.assert_allclose(two.score_samples(wider), one.score_samples(X), rtol=1e-5)
    assert (two.covariance_[2] == 0).all()


def test_a_dependent_column_changes_no_distance_in_the_plane_and_costs_off_it():
    X = normal_rows(100) / np.logspace(-2, 3, 4)
    wider = np.column_stack([X, X[:, 0] + X[:, 1]])
    detector = Mahalanobis(**CPU).fit(wider)
    expected = Mahalanobis(**CPU).fit(X).anomaly_score(X)
    np.testing.assert_allclose(detector.anomaly_score(wider), expected, rtol=2e-2)
    off = wider + np.array([0, 0, 0, 0, 0.1])
    assert detector.anomaly_score(off).min() > 1e5


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_eigenvalues_of_the_correlation_are_raised_to_a_share_of_the_largest(unit):
    column = np.random.RandomState(0).randn(1000)
    X = np.column_stack([column, unit * column])  # eigenvalues 2 and 0
    detector = Mahalanobis(**RAW).fit(X)
    off = X.mean(axis=0) + 1e-3 * X.std(axis=0) * [1, -1]
    assert detector.anomaly_score(off[None])[0] == pytest.approx(2e-6 / (2e-10), rel=1e-2)


@pytest.mark.parametrize("shrinkage", [0.0, "auto"])
@pytest.mark.parametrize("shape", [(2, 1), (2, 5), (9, 30), (30, 30), (31, 30)], ids=str)
def test_fewer_rows_than_columns_have_finite_scores(shape, shrinkage):
    X = normal_rows(*shape)
    detector = Mahalanobis(shrinkage=shrinkage, **CPU).fit(X)
    new = np.vstack([normal_rows(20, shape[1], seed=1), np.full((1, shape[1]), 1e300)])
    for rows in (X, new):
        assert np.isfinite(detector.score_samples(rows)).all()
        assert np.isfinite(detector.log_density(rows)).all()


@pytest.mark.parametrize("standardize", [True, False])
def test_a_changed_constant_is_very_far_away(standardize):
    X = np.column_stack([normal_rows(d=2), np.full(60, 3.0)])
    detector = Mahalanobis(**{**CPU, "standardize": standardize}).fit(X)
    changed = X[:5] + [0, 0, 1]
    assert (detector.anomaly_score(changed) > 1e5).all()
    same = Mahalanobis(**CPU).fit(X[:, :2]).score_samples(X[:, :2])
    np.testing.assert_allclose(detector.score_samples(X), same, rtol=1e-4)


@pytest.mark.parametrize("relative", [False, True])
def test_far_rows_overflow_nothing(relative):
    X, y = three_classes(d=3)
    X /= 1e9
    detector = Mahalanobis(use_labels=True, relative=relative, **RAW).fit(X, y)
    far = np.array([[1e300, 0, 0], [-1e12, 1e12, 0], [0, 0, 1e30]])
    assert np.isfinite(detector.score_samples(far)).all()
    assert np.isfinite(detector.log_density(far)).all()
    assert (detector.predict(far) == -1).all()


# ---- batches add up -------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[57], [1] * 57, [56, 1], [1, 56], [10, 20, 27]])
def test_moments_of_parts_add_up_to_those_of_all_rows(sizes):
    rng = np.random.RandomState(0)
    # Summed squares would lose all digits of the second column's variance.
    z = torch.from_numpy(rng.randn(57, 3) * [1, 0.1, 5] + 1e6)
    memberships = torch.from_numpy(np.eye(4)[rng.randint(3, size=57)])  # one class has no row
    whole = TiedMoments.of(z, memberships)
    merged, *rest = map(TiedMoments.of, z.split(sizes), memberships.split(sizes))
    for part in rest:
        merged = merged.merge(part)
    torch.testing.assert_close(merged.counts, whole.counts, rtol=0, atol=0)
    torch.testing.assert_close(merged.means, whole.means, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-7, atol=1e-8)


def test_pooled_moments_are_those_without_classes():
    X, y = three_classes()
    memberships = torch.from_numpy((y[:, None] == np.unique(y)).astype(float))
    moments = TiedMoments.of(torch.from_numpy(X), memberships)
    pooled = moments.pooled()
    np.testing.assert_allclose(moments.covariance, tied(X, y)[1], rtol=1e-9)
    np.testing.assert_allclose(pooled.covariance, np.cov(X.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(pooled.means[0], X.mean(axis=0), rtol=1e-9)
    assert pooled.counts.tolist() == [240]


@pytest.mark.parametrize("shrinkage", [0.0, "auto"])
@pytest.mark.parametrize("sizes", [[200, 40], [20, 1, 219], [12] * 20], ids=len)
def test_any_split_into_batches_gives_the_model_of_all_rows(sizes, shrinkage):
    X, y = three_classes()
    y[:3] = ["low", "mid", "top"]  # the first batch has to see all classes
    parameters = {"use_labels": True, "relative": True, "shrinkage": shrinkage, **RAW}
    whole, parts = (Mahalanobis(**parameters) for _ in range(2))
    whole.fit(X, y)
    for rows, labels in zip(
        np.split(X, np.cumsum(sizes)[:-1]), np.split(y, np.cumsum(sizes)[:-1]), strict=True
    ):
        parts.partial_fit(rows, labels)
    for name in ("means_", "covariance_", "shrinkage_"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10)
    np.testing.assert_allclose(parts.score_samples(X), whole.score_samples(X), rtol=1e-6)


def test_standardised_batches_agree_but_for_the_rounding_of_units():
    X = normal_rows(200)
    parts = Mahalanobis(**CPU)
    for rows in np.split(X, [20, 25, 120]):
        parts.partial_fit(rows)
    whole = Mahalanobis(**CPU).fit(X)
    np.testing.assert_allclose(parts.score_samples(X), whole.score_samples(X), rtol=1e-3)


def test_chunks_of_one_call_add_up_too(monkeypatch):
    X = normal_rows()
    expected = Mahalanobis(**CPU).fit(X).covariance_
    monkeypatch.setattr("skgenad.likelihoods.mahalanobis._CHUNK", 7)
    np.testing.assert_allclose(Mahalanobis(**CPU).fit(X).covariance_, expected, rtol=1e-12)


def test_a_class_of_which_all_rows_are_held_out_is_no_place_to_be_near():
    many = normal_rows(59)  # the other row is far from them, but no sentinel
    X = np.vstack([many, many.mean(axis=0) + 6 * many.std(axis=0)])
    y = np.repeat(["many", "one"], [59, 1])
    for seed in range(30):
        detector = Mahalanobis(use_labels=True, calibration_fraction=0.3, device="cpu")
        detector.set_params(random_state=seed).fit(X, y)
        if detector.module_.counts[1] == 0:
            break
    else:
        pytest.fail("no seed holds the row out")
    plain = Mahalanobis(device="cpu", calibration_fraction=0.3, random_state=seed).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), plain.score_samples(X))
    np.testing.assert_allclose(detector.log_density(X), plain.log_density(X))
    assert np.isnan(detector.means_[1]).all() and np.isfinite(detector.means_[0]).all()
    assert np.isfinite(detector.sample(50, random_state=0)).all()
    # It comes to life with its first row.
    detector.partial_fit(X[-1:], ["one"])
    assert detector.anomaly_score(X[-1:])[0] == pytest.approx(0, abs=1e-6)


def test_relative_distances_need_two_classes_after_rows_are_held_out():
    """With one class left all of them would be 0."""
    X, y = normal_rows(20), np.repeat(["many", "one"], [19, 1])
    refused = 0
    for seed in range(6):
        detector = Mahalanobis(
            use_labels=True, relative=True, calibration_fraction=0.5, random_state=seed
        )
        try:
            assert np.ptp(detector.fit(X, y).score_samples(X)) > 0
        except ValueError as error:
            assert "only one class has rows to train on" in str(error)
            refused += 1
    assert 0 < refused < 6


def test_there_is_no_history_and_no_parameter_of_training():
    detector = Mahalanobis(**CPU).fit(normal_rows()).partial_fit(normal_rows(seed=1))
    assert detector.history_.columns.tolist() == ["stage", "epoch", "step", "loss", "seconds"]
    assert len(detector.history_) == 0
    assert not set(detector.get_params()) & {"max_steps", "batch_size", "verbose", "callbacks"}


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_an_interrupt_leaves_the_first_fit(way, monkeypatch):
    X, other = normal_rows(), normal_rows(seed=1) + 5
    fitted = Mahalanobis(**{**CPU, "calibration_fraction": 0.2}).fit(X)
    scores, p = fitted.score_samples(X), fitted.p_value(X)

    def interrupt(covariance):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("skgenad.likelihoods.mahalanobis.Axes.of", interrupt)
        getattr(fitted, way)(other)
    np.testing.assert_array_equal(fitted.score_samples(X), scores)
    np.testing.assert_array_equal(fitted.p_value(X), p)
    twin = Mahalanobis(**{**CPU, "calibration_fraction": 0.2}).fit(X).partial_fit(other)
    np.testing.assert_array_equal(fitted.partial_fit(other).score_samples(X), twin.score_samples(X))


def test_moments_grow_on_a_device_without_float64(without_float64):
    module = MahalanobisModel(3, n_classes=2, relative=True).to("cpu")
    x = torch.randn(9, 3)
    module.finish(torch.randn(50, 3), torch.arange(50) % 2)
    module.shrink = "auto"
    module.finish(torch.randn(5, 3), torch.arange(5) % 2)
    assert {buffer.dtype for buffer in module.buffers()} == {torch.float32}
    assert torch.isfinite(module.energy(x)).all()


# ---- density and samples --------------------------------------------------------------------


def test_the_log_density_is_the_gaussians_in_the_units_of_the_rows():
    X, new = normal_rows(100), 2 * normal_rows(30, seed=1)
    unit = np.logspace(-2, 3, 4)  # scipy's own idea of a singular matrix depends on units
    gaussian = multivariate_normal((X / unit).mean(axis=0), np.cov((X / unit).T, bias=True))
    expected = gaussian.logpdf(new / unit) - np.log(unit).sum()
    log_density = Mahalanobis(**CPU).fit(X).log_density(new)
    assert log_density.dtype == np.float64
    np.testing.assert_allclose(log_density, expected, rtol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
@pytest.mark.parametrize("relative", [False, True])
def test_with_labels_it_is_a_mixtures_log_density(shrinkage, relative):
    X, y = three_classes()
    y[:50] = "low"  # unequal shares
    new, _ = three_classes(50, seed=1)
    detector = Mahalanobis(use_labels=True, relative=relative, shrinkage=shrinkage, **CPU)
    detector.fit(X, y)
    _, _, shares = tied(X, y)
    unit = np.logspace(-2, 3, 4)
    covariance = detector.covariance_ / unit / unit[:, None]
    logs = [
        np.log(share) + multivariate_normal(mean / unit, covariance).logpdf(new / unit)
        for share, mean in zip(shares, detector.means_, strict=True)
    ]
    expected = logsumexp(logs, axis=0) - np.log(unit).sum()
    np.testing.assert_allclose(detector.log_density(new), expected, rtol=1e-4)


def test_without_labels_the_score_is_twice_the_log_density_but_for_a_constant():
    X = normal_rows(100)
    detector = Mahalanobis(shrinkage="auto", **CPU).fit(X)
    difference = detector.score_samples(X) - 2 * detector.log_density(X)
    np.testing.assert_allclose(difference, difference[0], rtol=1e-5)


@pytest.mark.parametrize("use_labels", [False, True])
def test_the_density_integrates_to_one(use_labels):
    X, y = three_classes(d=2)
    detector = Mahalanobis(use_labels=use_labels, **CPU).fit(X, y)
    low, high = X.mean(axis=0) - 8 * X.std(axis=0), X.mean(axis=0) + 8 * X.std(axis=0)
    xs, ys = (np.linspace(a, b, 250) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    total = np.exp(detector.log_density(grid)).sum() * (xs[1] - xs[0]) * (ys[1] - ys[0])
    assert total == pytest.approx(1, abs=1e-3)


def test_the_density_follows_the_units_of_the_rows():
    X = normal_rows()
    unit = np.array([1e3, 1e-2, 7.0, 1.0])
    here = Mahalanobis(**CPU).fit(X).log_density(X)
    there = Mahalanobis(**CPU).fit(X * unit).log_density(X * unit)
    np.testing.assert_allclose(there, here - np.log(unit).sum(), rtol=1e-4)


@pytest.mark.parametrize("standardize", [True, False])
def test_constant_columns_have_no_density(standardize):
    X = normal_rows()
    wider = np.insert(X, 1, -4.0, axis=1)
    parameters = {**CPU, "standardize": standardize}
    expected = Mahalanobis(**parameters).fit(X).log_density(X)
    detector = Mahalanobis(**parameters).fit(wider)
    np.testing.assert_allclose(detector.log_density(wider), expected, rtol=1e-4)
    assert (detector.sample(5, random_state=0)[:, 1] == -4).all()
    nothing = Mahalanobis(**parameters).fit(np.ones((5, 2)))
    assert (nothing.log_density(np.ones((3, 2))) == 0).all()
    assert (nothing.sample(3) == 1).all()


@pytest.mark.parametrize("n", [5, 60])
def test_a_column_that_began_constant_comes_into_the_density(n):
    X = normal_rows()
    first, later = np.insert(X, 0, 2.0, axis=1), np.insert(X, 0, 0.3 * X[:, 1], axis=1)[:n]
    detector = Mahalanobis(**CPU).fit(first).partial_fit(later)
    whole = Mahalanobis(**CPU).fit(np.concatenate([first, later]))
    np.testing.assert_allclose(detector.log_density(later), whole.log_density(later), rtol=1e-4)
    np.testing.assert_allclose(detector.score_samples(first), whole.score_samples(first), rtol=1e-3)


def test_samples_have_the_moments_of_the_density():
    X, y = three_classes(d=2)
    y[:80] = "low"
    detector = Mahalanobis(use_labels=True, **CPU).fit(X, y)
    before = torch.get_rng_state()
    drawn = detector.sample(20_000, random_state=0)
    assert torch.equal(torch.get_rng_state(), before)
    scale = X.std(axis=0)
    np.testing.assert_allclose(drawn.mean(axis=0) / scale, X.mean(axis=0) / scale, atol=0.05)
    covariance, expected = (np.cov((rows / scale).T) for rows in (drawn, X))
    np.testing.assert_allclose(covariance, expected, atol=0.05)
    # All modes, with their shares.
    means, _, shares = tied(X, y)
    distances = [squared(drawn, mean, detector.covariance_) for mean in means]
    nearest = np.bincount(np.argmin(distances, axis=0), minlength=3) / len(drawn)
    assert shares.max() > 0.5
    own = [squared(X, mean, detector.covariance_) for mean in means]
    own = np.bincount(np.argmin(own, axis=0), minlength=3) / len(X)
    np.testing.assert_allclose(nearest, own, atol=0.05)


def test_samples_are_a_function_of_the_seed():
    detector = Mahalanobis(**CPU).fit(normal_rows())
    one, same, other = (detector.sample(5, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (5, 4) and not np.array_equal(one, other)
    with pytest.raises(ValueError, match="n_samples == 0, must be >= 1"):
        detector.sample(0)


# ---- parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1, "ledoit", None])
def test_a_bad_shrinkage_is_refused_by_name(shrinkage):
    with pytest.raises(ValueError, match=f"'shrinkage' .* Got {shrinkage!r} instead"):
        Mahalanobis(shrinkage=shrinkage).fit(normal_rows())


def test_a_grid_search_over_shrinkage():
    rng = np.random.RandomState(0)
    X, y = rng.randn(90, 40), (np.arange(90) % 6 == 0).astype(int)
    X[y == 1] *= 2
    search = GridSearchCV(
        Mahalanobis(**CPU),
        {"shrinkage": [0.0, "auto"]},
        scoring=anomaly_roc_auc,
        cv=NormalOnlyCV(3),
        error_score="raise",
    ).fit(X, y)
    empirical, shrunk = search.cv_results_["mean_test_score"]
    assert shrunk > empirical
