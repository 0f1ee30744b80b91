"""What likelihoods are made of: pixel differences, Fourier mixtures, correlations of models."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgenad import Glow, Mahalanobis
from skgenad.analysis import (
    PixelDifferenceDensity,
    likelihood_correlation,
    mix_amplitude_and_phase,
    scale_correlation,
)

SHAPE = (1, 8, 8)


def waves(n=60, seed=0, shape=SHAPE):
    """Images of waves of many lengths, smooth ones and rough ones."""
    rng = np.random.RandomState(seed)
    c, h, w = shape
    y, x = np.mgrid[:h, :w] / h
    frequency, turn = rng.uniform(0, 4, (n, 1, 1, 1)), rng.uniform(0, np.pi, (n, 1, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (n, c, 1, 1))
    wave = np.sin(2 * np.pi * frequency * (np.cos(turn) * x + np.sin(turn) * y) + phase)
    return 0.5 + 0.25 * wave + 0.01 * rng.randn(n, c, h, w)


# ---- pixel differences --------------------------------------------------------------------------


@parametrize_with_checks([PixelDifferenceDensity()])
def test_the_density_of_differences_passes_scikit_learns_check(estimator, check):
    check(estimator)


def differences(image):
    """Pixels less the means of 3 x 3 neighbours, borders repeated, written as loops."""
    c, h, w = image.shape
    out = np.empty_like(image)
    for k in range(c):
        for i in range(h):
            for j in range(w):
                rows = np.clip([i - 1, i, i + 1], 0, h - 1)
                columns = np.clip([j - 1, j, j + 1], 0, w - 1)
                out[k, i, j] = image[k, i, j] - image[k][np.ix_(rows, columns)].mean()
    return out


def test_pseudo_likelihoods_are_sums_of_log_densities_of_differences():
    X, new = waves(30, shape=(2, 5, 6)), waves(7, seed=1, shape=(2, 5, 6))
    density = PixelDifferenceDensity(image_shape=(2, 5, 6), n_bins=20).fit(X)
    values = np.array([differences(image) for image in X]).ravel()
    counts, edges = np.histogram(values, bins=20)
    np.testing.assert_allclose(density.edges_, edges, atol=1e-6)
    for image, score in zip(new, density.score_samples(new), strict=True):
        expected = 0.0
        for value in differences(image).ravel():
            k = min(max(np.searchsorted(edges, value, side="right") - 1, 0), 19)
            expected += np.log(max(counts[k], 1) / values.size / (edges[k + 1] - edges[k]))
        assert score == pytest.approx(expected, abs=1.0)  # of one pixel at the edge of a bin


def test_the_density_of_differences_is_one():
    density = PixelDifferenceDensity(image_shape=SHAPE).fit(waves())
    assert len(density.log_density_) == 100
    mass = np.exp(density.log_density_) * np.diff(density.edges_)
    assert 1 <= mass.sum() < 1.02  # empty bins count as if they had a pixel


def test_smooth_images_have_higher_pseudo_likelihoods():
    density = PixelDifferenceDensity(image_shape=SHAPE).fit(waves())
    flat, noise = np.full((1, *SHAPE), 0.4), np.random.RandomState(0).rand(1, *SHAPE)
    low, high = np.quantile(density.score_samples(waves()), [0.05, 0.95])
    assert density.score_samples(flat)[0] > high and density.score_samples(noise)[0] < low
    bytes_ = (255 * waves(5)).astype(np.uint8)
    np.testing.assert_array_equal(
        density.score_samples(bytes_), density.score_samples((bytes_ / 255).reshape(5, -1))
    )
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        density.score_samples(2 * waves())


# ---- Fourier ------------------------------------------------------------------------------------


def test_mixed_images_have_the_amplitudes_of_one_and_the_phases_of_the_other():
    amplitude, phase = waves(9, shape=(3, 6, 8)), waves(9, seed=1, shape=(3, 6, 8))
    mixed = mix_amplitude_and_phase(amplitude, phase, image_shape=(3, 6, 8), clip=False)
    assert mixed.shape == amplitude.shape
    transformed = np.fft.fft2(mixed)
    np.testing.assert_allclose(np.abs(transformed), np.abs(np.fft.fft2(amplitude)), atol=1e-4)
    strong = np.abs(transformed) > 0.1
    turned = transformed * np.exp(-1j * np.angle(np.fft.fft2(phase)))
    assert np.abs(np.angle(turned[strong])).max() < 1e-2


def test_an_image_mixed_with_itself_is_itself():
    X = waves(4)
    np.testing.assert_allclose(mix_amplitude_and_phase(X, X, image_shape=SHAPE), X, atol=1e-6)
    # A factor on the one that gives phases changes nothing, one on the other does.
    other = waves(4, seed=1)
    mixed = mix_amplitude_and_phase(X, other, image_shape=SHAPE, clip=False)
    np.testing.assert_allclose(
        mix_amplitude_and_phase(X, other / 2, image_shape=SHAPE, clip=False), mixed, atol=1e-5
    )
    np.testing.assert_allclose(
        mix_amplitude_and_phase(X / 2, other, image_shape=SHAPE, clip=False), mixed / 2, atol=1e-5
    )


def test_mixed_images_can_be_scored():
    X, other = waves(20), waves(20, seed=1)
    mixed = mix_amplitude_and_phase(X, other, image_shape=SHAPE)
    assert mixed.min() >= 0 and mixed.max() <= 1
    free = mix_amplitude_and_phase(X, other, image_shape=SHAPE, clip=False)
    np.testing.assert_array_equal(mixed, free.clip(0, 1))
    assert free.max() > 1
    with pytest.raises(ValueError, match="amplitude has 20 images and phase 19"):
        mix_amplitude_and_phase(X, other[1:], image_shape=SHAPE)


# ---- correlations -------------------------------------------------------------------------------


def test_correlations_are_those_of_scipy_and_numpy():
    rng = np.random.RandomState(0)
    a, b = rng.randn(2, 30)
    values = [a, a + b, -np.exp(a)]
    ranks = likelihood_correlation(*values)
    assert ranks.shape == (3, 3) and ranks[0, 2] == pytest.approx(-1)
    np.testing.assert_allclose(ranks, spearmanr(np.column_stack(values)).statistic)
    np.testing.assert_allclose(
        likelihood_correlation(*values, method="pearson"), np.corrcoef(values)
    )


@pytest.mark.parametrize(
    ("likelihoods", "parameters", "message"),
    [
        (([1, 2, 3],), {}, "two models or more"),
        (([1, 2, 3], [1, 2]), {}, r"\[\(3,\), \(2,\)\]"),
        (([[1, 2, 3]], [[1, 2, 3]]), {}, r"each of shape \(n_samples,\)"),
        (([1, 2], [1, 2]), {}, "over 2 rows says nothing"),
        (([1, 2, 3], [1, 2, 3]), {"method": "kendall"}, "'kendall' must be 'spearman' or"),
    ],
)
def test_what_has_no_correlation_is_refused(likelihoods, parameters, message):
    with pytest.raises(ValueError, match=message):
        likelihood_correlation(*likelihoods, **parameters)


def test_scales_are_correlated_one_by_one():
    X = waves()
    settings = {
        "image_shape": SHAPE,
        "n_couplings": 1,
        "hidden": 4,
        "max_steps": 2,
        "device": "cpu",
    }
    first, second = (Glow(**settings, random_state=s).fit(waves(seed=s)) for s in (1, 2))
    table = scale_correlation(first, second, X)
    assert table.index.tolist() == ["1", "2", "3", "all but the last", "all"]
    a, b = first.scale_contributions(X), second.scale_contributions(X)
    assert table.loc["2", "correlation"] == pytest.approx(spearmanr(a[:, 1], b[:, 1]).statistic)
    expected = spearmanr(a[:, :2].sum(axis=1), b[:, :2].sum(axis=1)).statistic
    assert table.loc["all but the last", "correlation"] == pytest.approx(expected)
    expected = likelihood_correlation(first.log_density(X), second.log_density(X))[0, 1]
    assert table.loc["all", "correlation"] == pytest.approx(expected)
    low, high = np.quantile(np.stack([a[:, 2], b[:, 2]]), [0.05, 0.95], axis=1)
    assert table.loc["3", "range"] == pytest.approx((high - low).mean())
    same = scale_correlation(first, first, X)
    np.testing.assert_allclose(same["correlation"], 1)
    fewer = Glow(**settings, n_scales=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="3 and 2 scales"):
        scale_correlation(first, fewer, X)
    other = Mahalanobis().fit(X.reshape(60, -1))
    with pytest.raises(AttributeError, match="scale_contributions"):
        scale_correlation(first, other, X)


def test_the_likelihood_of_a_flow_goes_along_with_differences_of_pixels():
    """Section 2, in small: local structure dominates the likelihood of a convolutional flow."""
    X, new = waves(300), waves(100, seed=1)
    settings = {"image_shape": SHAPE, "n_scales": 2, "n_couplings": 1, "hidden": 8, "device": "cpu"}
    flow = Glow(**settings, batch_size=32, max_steps=50, learning_rate=2e-2, random_state=0).fit(X)
    pseudo = PixelDifferenceDensity(image_shape=SHAPE).fit(X).score_samples(new)
    assert likelihood_correlation(flow.log_density(new), pseudo)[0, 1] > 0.4
