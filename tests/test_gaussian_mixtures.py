"""GaussianMixtures: its likelihood, its samples, batches of rows, and its limits."""

import time
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from skgenad import GaussianMixtures, LikelihoodRatio
from skgenad.likelihoods._mixtures import MOST_AXES, GaussianMixturesModel, OneMixture

from ._settings import normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")


def clusters(n=600, d=2, seed=0):
    """Make rows of three clusters, each with a covariance of its own."""
    rng = np.random.RandomState(seed)
    centres, mixing = 6 * rng.randn(3, d), rng.randn(3, d, d)
    which = np.arange(n) % 3
    return centres[which] + np.einsum("ij,ijk->ik", rng.randn(n, d), mixing[which])


def standard(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


def fitted(X, n_components, **settings):
    detector = GaussianMixtures(
        n_components=n_components, random_state=0, device="cpu", calibration_fraction=0.0
    )
    return detector.set_params(**settings).fit(X)


def precise_scores(detector, Z):
    """Scores of rows in standard units, not rounded to float32."""
    return -detector.module_.energy(torch.from_numpy(Z)).numpy()


# ---- the likelihood -------------------------------------------------------------------------


def test_one_component_is_the_gaussian_of_the_rows():
    X, new = clusters() * [1, 100], clusters(50, seed=1) * [1, 100]
    detector = fitted(X, 1, regularization=1e-12)
    gaussian = multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    np.testing.assert_allclose(detector.log_density(new), gaussian.logpdf(new), rtol=1e-5)


@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_a_mixture_is_that_of_scikit_learn(n_components):
    Z = standard(clusters(d=3)).astype(np.float32).astype(np.float64)
    detector = fitted(Z, n_components, standardize=False)
    with torch.random.fork_rng():
        torch.manual_seed(detector.seed_)
        seed = int(torch.randint(2**31 - 1, ()))
    theirs = GaussianMixture(n_components, reg_covar=0.01, random_state=seed).fit(Z)
    new = 3 * np.random.RandomState(1).randn(100, 3)
    np.testing.assert_allclose(precise_scores(detector, new), theirs.score_samples(new), rtol=1e-8)
    np.testing.assert_allclose(detector.weights_[0], theirs.weights_, rtol=1e-8)
    np.testing.assert_allclose(detector.means_[0], theirs.means_, rtol=1e-8, atol=1e-8)


def test_the_density_is_the_mean_of_the_mixtures_and_the_score_its_logarithm():
    X, new = clusters(), clusters(60, seed=1)
    detector = fitted(X, (1, 3, 6))
    x = torch.from_numpy(detector.units_.to_standard(new)).double()
    each = detector.module_.log_probs(x)
    assert each.shape == (60, 3) and each.std(dim=1).min() > 0
    score = each.exp().mean(dim=1).log().numpy()
    np.testing.assert_allclose(detector.score_samples(new), score, rtol=1e-6)
    density = score - np.log(detector.units_.scale).sum()
    np.testing.assert_allclose(detector.log_density(new), density, rtol=1e-6)


def test_the_density_integrates_to_1():
    X = clusters() * [1, 100]
    detector = fitted(X, (1, 2, 5))
    sides = [
        np.linspace(low, high, 300)
        for low, high in zip(X.min(0) - X.std(0) * 4, X.max(0) + X.std(0) * 4, strict=True)
    ]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod([side[1] - side[0] for side in sides])
    assert np.exp(detector.log_density(grid)).sum() * cell == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("standardize", ["auto", False])
def test_constant_columns_have_no_density_but_a_score(standardize):
    X = standard(clusters())
    detector = fitted(X, (1, 3), standardize=standardize)
    more = fitted(np.column_stack([X, np.full(len(X), 7.0)]), (1, 3), standardize=standardize)
    new = clusters(50, seed=1) / 5
    known, other = (np.column_stack([new, np.full(50, value)]) for value in (7.0, 8.0))
    np.testing.assert_allclose(more.log_density(known), detector.log_density(new), rtol=1e-5)
    np.testing.assert_allclose(more.log_density(other), detector.log_density(new), rtol=1e-4)
    # Another value is 1 away, at a variance of 0.01.
    np.testing.assert_allclose(more.score_samples(known) - more.score_samples(other), 50, rtol=1e-4)
    assert (more.sample(20, random_state=0)[:, 2] == 7).all()
    # When it begins to vary, all is learnt anew.
    more.partial_fit(np.column_stack([X[:50], np.arange(50)]))
    assert more.module_.varies.all() and np.ptp(more.sample(50, random_state=0)[:, 2]) > 0
    assert float(more.module_.mixtures[0].counts.sum()) == pytest.approx(len(X) + 50)


@pytest.mark.parametrize("d", [2, MOST_AXES + 6])
def test_samples_have_the_moments_of_the_rows(d):
    X = clusters(900, d)
    drawn = fitted(X, (1, 3), regularization=1e-3).sample(20000, random_state=0)
    scale = X.std(axis=0)
    np.testing.assert_allclose((drawn.mean(axis=0) - X.mean(axis=0)) / scale, 0, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.05)
    np.testing.assert_allclose(drawn.std(axis=0) / scale, 1, atol=0.05)


def test_samples_repeat_with_their_seed():
    detector = fitted(clusters(), (1, 3))
    one, two, other = (detector.sample(9, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_clusters_have_what_lies_between_them_as_anomalies():
    X = np.random.RandomState(0).randn(300, 2)
    X[::2] += 10
    between = np.full((1, 2), 5.0)
    assert fitted(X, 2).predict(between) == -1
    # To one Gaussian it is the very middle.
    assert fitted(X, 1).predict(between) == 1


# ---- wide tables ----------------------------------------------------------------------------


def test_one_component_is_the_gaussian_of_all_columns_however_many():
    d = MOST_AXES + 10
    X, new = normal_rows(300, d), normal_rows(40, d, seed=1)
    gaussian = multivariate_normal(np.zeros(d), np.cov(standard(X).T, bias=True) + 0.01 * np.eye(d))
    Z = (new - X.mean(axis=0)) / X.std(axis=0)
    detector = fitted(X, 1)
    np.testing.assert_allclose(precise_scores(detector, Z), gaussian.logpdf(Z), rtol=1e-5)
    np.testing.assert_allclose(detector.means_[0][0], X.mean(axis=0), rtol=1e-6, atol=1e-6)


def test_components_of_wide_rows_are_found():
    X = clusters(900, MOST_AXES + 10)
    means = fitted(X, 3).means_[0]
    own = np.stack([X[kind::3].mean(axis=0) for kind in range(3)])
    nearest = np.abs(means[:, None] - own).mean(axis=2).argmin(axis=1)
    assert sorted(nearest) == [0, 1, 2]
    # Along the leading axes; along the others all have one mean.
    np.testing.assert_allclose(means, own[nearest], atol=0.2 * X.std())


def test_constants_stay_apart_from_others_that_vary_little_in_wide_rows():
    X = np.column_stack([clusters(30, MOST_AXES + 5), np.full((30, 3), 2.0)])
    detector = fitted(X, 1).partial_fit(X[::-1] + 0.1 * clusters(30, len(X.T)) * (X[0] != 2))
    other = X + (np.arange(X.shape[1]) >= MOST_AXES + 5)
    np.testing.assert_allclose(detector.log_density(other), detector.log_density(X), rtol=1e-4)
    assert (detector.score_samples(other) < detector.score_samples(X) - 100).all()
    assert (detector.sample(5, random_state=0)[:, -3:] == 2).all()


@pytest.mark.parametrize("shape", [(2, 1), (3, 1000), (300, 1), (40, 200)])
def test_any_shape_of_rows_can_be_fitted(shape):
    X = np.random.RandomState(0).randn(*shape)
    detector = GaussianMixtures(random_state=0, device="cpu").fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert np.isfinite(detector.log_density(X)).all()
    assert detector.sample(3, random_state=0).shape == (3, shape[1])
    far = X[:1] + 100 * X.std()
    assert detector.score_samples(far) < detector.score_samples(X).min()


# ---- rows that come in batches, and many of them ---------------------------------------------


def test_batches_of_one_gaussian_add_up():
    X = normal_rows(400)
    whole = fitted(X, 1, standardize=False)
    batches = GaussianMixtures(
        n_components=1, standardize=False, device="cpu", calibration_fraction=0.0
    )
    for batch in (X[:100], X[100:101], X[101:]):
        batches.partial_fit(batch)
    np.testing.assert_allclose(batches.score_samples(X), whole.score_samples(X), rtol=1e-4)


def test_more_rows_are_a_step_of_em():
    """Those seen count as before, the new by what the mixture makes of them."""
    X, new = standard(clusters()), clusters(90, seed=5) / 6
    X, new = (rows.astype(np.float32).astype(np.float64) for rows in (X, new))
    detector = fitted(X, 3, standardize=False)
    module = detector.module_.mixtures[0]
    memberships = module.log_joint(torch.from_numpy(new)).softmax(dim=0).numpy()
    weights, means = detector.weights_[0], detector.means_[0]
    detector.partial_fit(new)
    counts = 600 * weights + memberships.sum(axis=1)
    moved = (600 * weights[:, None] * means + memberships @ new) / counts[:, None]
    np.testing.assert_allclose(detector.weights_[0], counts / 690, rtol=1e-8)
    np.testing.assert_allclose(detector.means_[0], moved, rtol=1e-8)


def test_new_rows_move_the_density_towards_them():
    X, new = clusters(), clusters(seed=9)
    detector = fitted(X, (1, 3))
    before = detector.log_density(new).mean()
    for _ in range(3):
        detector.partial_fit(new)
    assert detector.log_density(new).mean() > before + 1


def test_of_many_rows_some_are_drawn_and_stand_for_all():
    X = clusters(6000)
    detector = fitted(X, 3, max_rows=300)
    assert float(detector.module_.mixtures[0].counts.sum()) == pytest.approx(6000)
    np.testing.assert_allclose(np.sort(detector.weights_[0]), 1 / 3, atol=0.1)
    detector.partial_fit(X[:3000])
    assert float(detector.module_.mixtures[0].counts.sum()) == pytest.approx(9000)


def test_the_rows_that_em_sees_are_bounded(monkeypatch):
    seen, fit = [], GaussianMixture.fit
    monkeypatch.setattr(GaussianMixture, "fit", lambda m, Z: seen.append(len(Z)) or fit(m, Z))
    fitted(clusters(3000), (1, 2), max_rows=100)
    assert seen == [100, 100]


def test_rows_that_are_too_few_have_fewer_components():
    detector = fitted(clusters(17), (1, 6))
    # 17 rows, and 3 rows a component in 2 columns.
    assert [len(part) for part in detector.weights_] == [1, 5]
    assert [part.shape for part in detector.means_] == [(1, 2), (5, 2)]
    detector.partial_fit(clusters(10))
    assert [len(part) for part in detector.weights_] == [1, 5]
    # When rows have doubled, all is learnt anew.
    detector.partial_fit(clusters(60))
    assert [len(part) for part in detector.weights_] == [1, 6]
    assert [part.sum() for part in detector.weights_] == pytest.approx([1, 1])


def test_copies_of_one_row_are_no_error():
    X = np.repeat(np.eye(3), 40, axis=0)
    detector = fitted(X, (1, 5, 20))
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.predict([[3.0, 3.0, 3.0]]) == -1
    assert np.isfinite(fitted(np.ones((20, 2)), (1, 3)).score_samples(X[:, :2])).all()


# ---- far rows, convergence, errors -------------------------------------------------------------


@pytest.mark.parametrize("d", [2, MOST_AXES + 6])
def test_far_rows_keep_their_order(d):
    X = clusters(300, d)
    detector = fitted(X, (1, 3, 6))
    far = X.mean(axis=0) + np.logspace(1, 12, 34)[:, None] * X.std(axis=0) / 2
    scores = detector.score_samples(far)
    assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()


def test_whether_em_converged_is_told_and_no_warning():
    X = clusters(d=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short, long = fitted(X, (1, 6), max_iter=2), fitted(X, (1, 6), max_iter=500)
    assert short.converged_.tolist() == [True, False]
    assert long.converged_.tolist() == [True, True]


def test_what_is_too_singular_says_what_to_do():
    X = 1e9 * np.repeat(np.random.RandomState(0).randn(50, 1), 2, axis=1)
    with pytest.raises(ValueError, match=r"regularization=0\.01 is too small .* Raise it"):
        fitted(X, 1, standardize=False)


@pytest.mark.parametrize("sizes", [(), (1, 0), (2.5,), ["two"]])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="n_components=.* must hold 1 or more integers"):
        fitted(clusters(), sizes)


def test_another_number_of_components_needs_a_new_fit():
    detector = fitted(clusters(), (1, 2))
    with pytest.raises(ValueError, match="make another module of this GaussianMixtures"):
        detector.set_params(n_components=3).partial_fit(clusters())


def test_a_list_of_sizes_is_a_tuple_of_them(tmp_path):
    X = clusters()
    detector = fitted(X, [1, 3])
    np.testing.assert_array_equal(detector.score_samples(X), fitted(X, (1, 3)).score_samples(X))
    detector.save(tmp_path / "detector")
    loaded = GaussianMixtures.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.converged_, detector.converged_)


def test_a_seed_decides_whatever_the_global_generators_are_at():
    X, states = clusters(), []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        states.append(tiny("GaussianMixtures", n_components=(2, 4)).fit(X).score_samples(X))
    np.testing.assert_array_equal(*states)


def test_the_start_is_k_means():
    """One step of EM from the clusters, by hand."""
    Z = standard(clusters()).astype(np.float32).astype(np.float64)
    mixture = OneMixture(2, 3, 0.01)
    mixture.learn(torch.from_numpy(Z), len(Z), 1, 5)
    labels = KMeans(3, n_init=1, random_state=np.random.RandomState(5)).fit(Z).labels_
    parts = [Z[labels == k] for k in range(3)]
    covariances = [np.cov(part.T, bias=True) + 0.01 * np.eye(2) for part in parts]
    joint = np.stack(
        [
            len(part) * multivariate_normal(part.mean(axis=0), covariance).pdf(Z)
            for part, covariance in zip(parts, covariances, strict=True)
        ]
    )
    memberships = joint / joint.sum(axis=0)
    np.testing.assert_allclose(mixture.counts, memberships.sum(axis=1), rtol=1e-8)


def test_a_row_costs_the_same_however_many_were_seen():
    model = GaussianMixturesModel(21, (10,), regularization=0.01, max_iter=20, max_rows=500)
    model.finish(torch.randn(1000, 21, generator=torch.Generator().manual_seed(0)), None)
    rows = torch.randn(1024, 21, generator=torch.Generator().manual_seed(1))
    model.energy(rows)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        model.energy(rows)
        seconds.append(time.perf_counter() - start)
    # Over 100,000 rows a second when nothing else runs; a tenth of that is a defect.
    assert min(seconds) < 0.1


def test_a_column_that_varies_in_rows_that_were_not_drawn_has_a_density():
    X = np.column_stack([clusters(3000), np.zeros(3000)])
    X[1234, 2] = 1
    detector = fitted(X, (1, 3), max_rows=50)
    assert detector.module_.varies.all()
    rare, usual = detector.log_density(X[[1234]]), detector.log_density(X).mean()
    assert rare < usual - 100


def test_the_ratio_of_two_mixtures_is_a_detector():
    X = clusters()
    general = np.vstack([X, 10 * np.random.RandomState(0).randn(600, 2)])
    ratio = LikelihoodRatio(tiny("GaussianMixtures"), random_state=0)
    ratio.fit(X, X_general=general)
    densities = ratio.detector_.log_density(X) - ratio.general_.log_density(X)
    np.testing.assert_allclose(ratio.score_samples(X), densities)
