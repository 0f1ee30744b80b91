"""Distances: values by hand and against scikit-image, slopes against autograd."""

import numpy as np
import pytest
import torch

from skgenad import MPDR, NAE, Autoencoder
from skgenad._tensors.distances import DISTANCES, make_distance
from skgenad.energies import Reconstruction

pytestmark = pytest.mark.usefixtures("drawing")

SHAPE = (3, 13, 17)


def images(n=4, shape=SHAPE, seed=0):
    """Smooth images and noisy versions of them, as rows in double precision."""
    rng = np.random.RandomState(seed)
    steps = np.cumsum(np.cumsum(rng.randn(n, *shape), axis=2), axis=3)
    low, high = steps.min(axis=(1, 2, 3), keepdims=True), steps.max(axis=(1, 2, 3), keepdims=True)
    clean = (steps - low) / (high - low)
    noisy = (clean + 0.1 * rng.randn(*clean.shape)).clip(0, 1)
    return clean, noisy


def rows(array):
    return torch.from_numpy(array.reshape(len(array), -1))


@pytest.mark.parametrize("shape", [(1, 11, 11), (1, 28, 28), SHAPE, (4, 12, 30)])
def test_structural_similarity_is_that_of_scikit_image(shape):
    from skimage.metrics import structural_similarity

    x, y = images(shape=shape)
    ours = 1 - make_distance("ssim", shape)(rows(x), rows(y))
    theirs = [
        structural_similarity(
            a,
            b,
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10)


def test_similarity_is_one_for_the_same_image_symmetric_and_lower_with_more_noise():
    x, y = map(rows, images())
    ssim = make_distance("ssim", SHAPE)
    torch.testing.assert_close(ssim(x, x), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(ssim(x, y), ssim(y, x))
    assert (ssim(x, y) > ssim(x, (x + y) / 2)).all()
    assert (ssim(x, 1 - x) > 1).any() and (ssim(x, 1 - x) <= 2).all()


def test_similarity_of_constant_images_has_a_closed_form():
    a, b = 0.3, 0.8
    x, y = (torch.full((1, 169), level, dtype=torch.float64) for level in (a, b))
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert 1 - make_distance("ssim", (1, 13, 13))(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_errors_are_means_over_columns():
    x, y = torch.randn(2, 5, 7)
    difference = x - y
    torch.testing.assert_close(make_distance("l2", (7,))(x, y), difference.square().sum(1) / 7)
    torch.testing.assert_close(make_distance("l1", (7,))(x, y), difference.abs().sum(1) / 7)


@pytest.mark.parametrize("name", DISTANCES)
def test_slopes_are_those_of_autograd(name):
    x, y = map(rows, images())
    distance = make_distance(name, SHAPE)
    value, *slopes = distance.value_and_slopes(x, y)
    x, y = x.clone().requires_grad_(True), y.clone().requires_grad_(True)
    expected = distance(x, y)
    torch.testing.assert_close(value, expected.detach())
    for slope, gradient in zip(slopes, torch.autograd.grad(expected.sum(), (x, y)), strict=True):
        torch.testing.assert_close(slope, gradient)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_rows_place_changes_no_bit(name):
    x, y = (rows(part).float() for part in images(64, (1, 16, 16)))
    distance, order = make_distance(name, (1, 16, 16)), torch.randperm(64)
    assert torch.equal(distance(x[order], y[order]), distance(x, y)[order])


@pytest.mark.parametrize(
    ("shape", "message"),
    [(None, "distance='ssim' compares images"), ((1, 10, 20), r"\(1, 10, 20\) is smaller")],
)
@pytest.mark.parametrize("cls", [Autoencoder, MPDR, NAE])
def test_similarity_needs_images_as_large_as_its_window(cls, shape, message):
    X = np.random.RandomState(0).rand(20, 200)
    ssim = {"distance": "ssim"} if cls is not MPDR else {"energy": Reconstruction(distance="ssim")}
    with pytest.raises(ValueError, match=message):
        cls(**ssim, image_shape=shape, device="cpu").fit(X)


@pytest.mark.parametrize("name", ["distance", "penalize"])
def test_another_energy_has_no_distance(name):
    with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
        MPDR(energy="scalar").set_params(**{f"energy__{name}": "l1"})
