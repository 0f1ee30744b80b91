"""WAE: the discrepancy against slow formulas and its limit cases, what it does, samples."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skgenad import WAE
from skgenad.autoencoders._kernels import make_kernel, median_scale, squared_distances, unbiased_mmd
from skgenad.networks import Conv28, Conv32

from ._settings import ALL_ROWS

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {
    **ALL_ROWS,
    "network": (32,),
    "latent_dim": 2,
    "max_steps": 300,
    "learning_rate": 5e-3,
    "random_state": 0,
    "device": "cpu",
}


def ring_rows(n, seed=0):
    rng = np.random.RandomState(seed)
    t = 2 * np.pi * rng.rand(n)
    return np.c_[np.cos(t), np.sin(t), np.cos(2 * t)] + 0.05 * rng.randn(n, 3)


def factor_rows(n, seed=0):
    """Rows of a Gaussian with two strong factors and little noise, in different units."""
    rng = np.random.RandomState(seed)
    loadings = np.random.RandomState(99).randn(2, 6)
    rows = rng.randn(n, 2) @ loadings + 0.1 * rng.randn(n, 6)
    return rows * [1.0, 2.0, 0.5, 1.0, 1.0, 1.0] + np.arange(6)


def codes(detector, X):
    with torch.no_grad():
        return detector.module_.net.encode(torch.from_numpy(detector.units_.to_standard(X)))


# ---- kernels and the discrepancy -------------------------------------------------------------


def slow_kernel(kind, scale, a, b):
    s = sum((u - v) ** 2 for u, v in zip(a, b, strict=True))
    return math.exp(-s / scale) if kind == "rbf" else scale / (scale + s)


def slow_mmd(kind, scale, x, y):
    def mean(pairs):
        values = [slow_kernel(kind, scale, a, b) for a, b in pairs]
        return sum(values) / len(values)

    def others(rows):
        return [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]

    return mean(others(x)) + mean(others(y)) - 2 * mean([(a, b) for a in x for b in y])


@pytest.mark.parametrize("kind", ["rbf", "imq"])
@pytest.mark.parametrize("n, m, d", [(5, 5, 3), (2, 7, 1), (9, 4, 6)])
def test_the_discrepancy_is_the_mean_over_pairs_written_out(kind, n, m, d):
    x, y = torch.randn(n, d).double(), 1 + 2 * torch.randn(m, d).double()
    fast = unbiased_mmd(x, y, make_kernel(kind, 1.7)).item()
    assert fast == pytest.approx(slow_mmd(kind, 1.7, x.tolist(), y.tolist()), abs=1e-12)
    assert unbiased_mmd(y, x, make_kernel(kind, 1.7)).item() == pytest.approx(fast)


def test_distances_are_those_of_torch():
    x, y = torch.randn(7, 4).double(), torch.randn(5, 4).double()
    torch.testing.assert_close(squared_distances(x, y), torch.cdist(x, y).square())
    assert squared_distances(x.float(), x.float()).min() >= 0


@pytest.mark.parametrize("kind", ["rbf", "imq"])
def test_kernels_are_1_at_0_and_fall(kind):
    values = make_kernel(kind, 2.0)(torch.tensor([0.0, 1.0, 2.0, 100.0]))
    assert values[0] == 1 and (values.diff() < 0).all() and values[-1] < 0.02
    assert values[2].item() == pytest.approx(math.exp(-1) if kind == "rbf" else 0.5)


@pytest.mark.parametrize("kind", ["rbf", "imq"])
def test_the_discrepancy_of_samples_of_one_distribution_is_0_in_the_mean(kind):
    kernel = make_kernel(kind, 4.0)
    values = torch.stack(
        [unbiased_mmd(torch.randn(8, 2), torch.randn(8, 2), kernel) for _ in range(2000)]
    )
    error = values.std().item() / math.sqrt(len(values))
    # With the pairs of a row and itself it would be near 2 / 8 * (1 - the mean of k).
    assert abs(values.mean().item()) < 4 * error < 0.02
    assert 0.2 < (values < 0).double().mean() < 0.8


@pytest.mark.parametrize("kind", ["rbf", "imq"])
@pytest.mark.parametrize("change", [lambda z: z + 1, lambda z: 3 * z, lambda z: z.abs()])
def test_the_discrepancy_of_different_distributions_is_positive(kind, change):
    kernel = make_kernel(kind, 4.0)
    assert unbiased_mmd(change(torch.randn(300, 2)), torch.randn(300, 2), kernel) > 0.02


def test_the_discrepancy_is_that_of_gaussians_in_closed_form():
    # E exp(-|u|^2 / c) = (1 + 2 v / c)^(-d / 2) exp(-|m|^2 / (c + 2 v)) for u ~ N(m, v I).
    d, c, m = 3, 5.0, torch.tensor([0.6, 0.0, -0.4])
    level = (1 + 4 / c) ** (-d / 2)
    exact = 2 * level * (1 - math.exp(-m.square().sum().item() / (c + 4)))
    x, y = torch.randn(3000, d) + m, torch.randn(3000, d)
    assert unbiased_mmd(x, y, make_kernel("rbf", c)).item() == pytest.approx(exact, rel=0.2)


@pytest.mark.parametrize("n, m", [(1, 5), (5, 1), (1, 1)])
def test_the_discrepancy_needs_two_rows_of_each(n, m):
    with pytest.raises(ValueError, match=f"samples of {n} and {m} rows"):
        unbiased_mmd(torch.zeros(n, 2), torch.zeros(m, 2), make_kernel("rbf", 1.0))


def test_the_scale_is_the_median_of_the_squared_distances_between_rows():
    rows = torch.randn(6, 3)
    pairs = sorted(
        (rows[i] - rows[j]).square().sum().item() for i in range(6) for j in range(i + 1, 6)
    )
    assert median_scale(rows).item() == pytest.approx(pairs[7])  # of 15
    rows.requires_grad_()
    assert not median_scale(rows).requires_grad


@pytest.mark.parametrize("kind", ["rbf", "imq"])
def test_rows_that_are_all_the_same_have_a_finite_gradient(kind):
    x = torch.ones(4, 2, requires_grad=True)
    scale = median_scale(x)
    assert scale > 0
    unbiased_mmd(x, torch.randn(4, 2), make_kernel(kind, 2.0)).backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


# ---- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_the_loss_is_the_error_and_the_weighted_discrepancy(kernel):
    detector = WAE(**QUICK, kernel=kernel, mmd_penalty=3.0)
    module, x = detector._make_module(4), torch.randn(20, 4)
    drawn, prior = [], module.prior
    module.prior = lambda n: drawn.append(prior(n)) or drawn[-1]
    parts = module.loss(x)
    z, (y,) = module.net.encode(x), drawn
    assert y.shape == z.shape == (20, 2)
    scale = median_scale(torch.cat([z, y])).item() if kernel == "rbf" else 4.0
    expected = slow_mmd(kernel, scale, z.tolist(), y.tolist())
    assert parts["mmd"].item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(parts["reconstruction"], (x - module.net(x)).square().mean())
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + 3 * parts["mmd"])


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_latent_vectors_come_to_follow_the_prior(kernel):
    X, fresh = ring_rows(1000), ring_rows(1000, seed=1)
    free = WAE(**QUICK, mmd_penalty=0.0).fit(X)
    bound = WAE(**QUICK, kernel=kernel, mmd_penalty=10.0).fit(X)
    prior = torch.randn(1000, 2)
    far = [
        unbiased_mmd(codes(detector, fresh), prior, make_kernel("rbf", 4.0)).item()
        for detector in (free, bound)
    ]
    assert far[1] < 0.3 * far[0] and far[1] < 0.03
    z = codes(bound, fresh)
    assert z.mean(dim=0).abs().max() < 0.3 and (z.std(dim=0) - 1).abs().max() < 0.3


def test_without_weight_it_is_an_autoencoder():
    X = ring_rows(200)
    detector = WAE(**{**QUICK, "max_steps": 50}, mmd_penalty=0.0).fit(X)
    np.testing.assert_array_equal(detector.history_["loss"], detector.history_["reconstruction"])
    assert detector.history_["mmd"].abs().max() > 0


def test_a_batch_of_one_row_leaves_the_discrepancy_out():
    X = ring_rows(50)
    history = WAE(**{**QUICK, "max_steps": 20, "batch_size": 1}).fit(X).history_
    assert (history["mmd"] == 0).all() and (history["loss"] == history["reconstruction"]).all()
    history = WAE(**{**QUICK, "max_steps": 20, "batch_size": 2}, mmd_penalty=5.0).fit(X).history_
    assert (history["mmd"] != 0).all()


@pytest.mark.parametrize("shape", [(2, 1), (3, 1), (2, 5), (40, 1)])
def test_tables_with_few_rows_or_one_column_work(shape):
    X = np.random.RandomState(0).randn(*shape)
    detector = WAE(**{**QUICK, "max_steps": 20}).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.sample(3).shape == (3, shape[1])


def test_history_counts_steps_and_has_the_parts():
    history = WAE(**{**QUICK, "max_steps": 120}).fit(ring_rows(60)).history_
    assert set(history) == {
        "stage",
        "epoch",
        "step",
        "loss",
        "reconstruction",
        "mmd",
        "seconds",
    }
    assert history["stage"].unique().tolist() == ["wae"]
    assert history["step"].tolist() == [50, 100, 120]
    assert history["reconstruction"].is_monotonic_decreasing


# ---- scores and samples ----------------------------------------------------------------------


def test_score_is_the_negative_mean_squared_error_and_draws_nothing():
    X = ring_rows(100)
    detector = WAE(**{**QUICK, "max_steps": 20}).fit(X)
    Z = torch.from_numpy(detector.units_.to_standard(X))
    with torch.no_grad():
        error = (Z - detector.module_.net(Z)).square().mean(dim=1)
    np.testing.assert_allclose(detector.score_samples(X), -error.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X))


def test_planted_anomalies_score_above_normal_rows():
    rows = factor_rows(700)
    anomalies = np.random.RandomState(1).randn(60, 6) * rows.std(axis=0)
    detector = WAE(**QUICK).fit(rows[:500])
    truth = np.r_[np.zeros(200), np.ones(60)]
    assert roc_auc_score(truth, detector.anomaly_score(np.r_[rows[500:], anomalies])) > 0.95


def test_decoded_draws_look_like_the_rows_with_the_discrepancy_and_not_without():
    X = factor_rows(1000)
    unit, off = X.std(axis=0), []
    for weight in (0.0, 10.0):
        samples = WAE(**QUICK, mmd_penalty=weight).fit(X).sample(4000, random_state=0)
        off.append(np.abs(np.cov((samples / unit).T) - np.cov((X / unit).T)).max())
    assert off[1] < 0.35 and off[1] < 0.6 * off[0]
    np.testing.assert_allclose(samples.mean(axis=0), X.mean(axis=0), atol=0.3 * unit.max())


def test_samples_are_decoded_draws_from_the_prior():
    detector = WAE(**{**QUICK, "max_steps": 20}).fit(ring_rows(50))
    module, drawn = detector.module_, []
    decode = module.net.decode
    module.net.decode = lambda z: drawn.append(z) or decode(z)
    samples = detector.sample(5000, random_state=0)
    (z,) = drawn
    assert z.shape == (5000, 2)
    assert z.mean(dim=0).abs().max() < 0.06 and (z.T.cov() - torch.eye(2)).abs().max() < 0.08
    with torch.no_grad():
        rows = decode(z).numpy()
    np.testing.assert_allclose(samples, detector.units_.from_standard(rows))


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_samples_have_the_shape_asked_for(n_samples):
    samples = WAE(**{**QUICK, "max_steps": 5}).fit(ring_rows(50)).sample(n_samples)
    assert samples.shape == (n_samples, 3) and samples.dtype == np.float64
    assert np.isfinite(samples).all()


def test_sampling_is_seeded_and_changes_no_state(global_rng_untouched):
    detector = WAE(**{**QUICK, "max_steps": 5}).fit(ring_rows(50))
    before = pickle.dumps(detector)
    one, same, other = (detector.sample(5, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert pickle.dumps(detector) == before


def test_samples_keep_constants():
    X = np.c_[ring_rows(50), np.full(50, 7.0)]
    detector = WAE(**{**QUICK, "max_steps": 5}).fit(X)
    assert (detector.sample(10)[:, 3] == 7).all()


@pytest.mark.parametrize("n_samples", [0, -1, 2.5])
def test_a_bad_number_of_samples_is_refused(n_samples):
    with pytest.raises((ValueError, TypeError), match="n_samples"):
        WAE(**{**QUICK, "max_steps": 1}).fit(ring_rows(5)).sample(n_samples)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"mmd_penalty": -0.1}, "mmd_penalty.*Got -0.1 instead"),
        ({"kernel": "linear"}, "kernel.*Got 'linear' instead"),
        ({"kernel": "imq", "mmd_penalty": 0.0}, "kernel='imq' would be ignored: mmd_penalty=0"),
        ({"kernel": "imq", "batch_size": 1}, "kernel='imq' would be ignored: a batch of one row"),
        ({"mmd_penalty": 5.0, "batch_size": 1}, "mmd_penalty=5.0 would be ignored"),
    ],
)
def test_a_bad_value_is_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        WAE(**{**QUICK, **parameters}).fit(ring_rows(20))


def test_from_paper_is_the_baseline_of_nae():
    for experiment, network in {"mnist": Conv28, "cifar10": Conv32}.items():
        assert WAE.from_paper(experiment).part("network") == network()
        small = {"network": network(width=1 / 32), "max_steps": 2, "batch_size": 4}
        detector = WAE.from_paper(experiment, **small, random_state=0, device="cpu")
        X = np.random.RandomState(0).rand(6, *detector.image_shape)
        assert np.isfinite(detector.fit(X).score_samples(X)).all()
        # the kernel of the median distance, and a weight between 0.001 and 0.1
        assert (detector.kernel, detector.mmd_penalty) == ("rbf", 0.1)
    assert WAE.from_paper().image_shape == (1, 28, 28)
