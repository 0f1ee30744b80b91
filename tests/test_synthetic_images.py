"""Made-up images of the papers: constants, noise, half digits, chimeras."""

import numpy as np
import pytest

from skgenad.datasets import (
    make_chimera_mnist,
    make_constant_images,
    make_half_mnist,
    make_noise_images,
)

SHAPES = [(1, 28, 28), (3, 8, 6)]
Y = np.repeat([7, 0, 4], [5, 2, 9])


def numbered(shape=(2, 10, 4), y=Y):
    """Images whose pixels all hold the number of the image, from 1 on."""
    return np.broadcast_to(np.arange(1, len(y) + 1)[:, None, None, None], (len(y), *shape)).copy()


MAKERS = {
    "constant": lambda seed: make_constant_images(6, random_state=seed),
    "colour": lambda s: make_constant_images(6, image_shape=(3, 4, 4), colour=True, random_state=s),
    "noise": lambda seed: make_noise_images(6, random_state=seed),
    "half": lambda seed: make_half_mnist(numbered(), random_state=seed),
    "chimera": lambda seed: make_chimera_mnist(numbered(), Y, random_state=seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_images_depend_on_their_seed_alone(name, global_rng_untouched):
    first, same, other = (MAKERS[name](seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    drawn = MAKERS[name](np.random.RandomState(3))
    np.testing.assert_array_equal(first, drawn)


@pytest.mark.parametrize("shape", SHAPES)
def test_constant_images_have_one_value_uniform_over_all(shape):
    X = make_constant_images(4000, image_shape=shape, random_state=0)
    assert X.shape == (4000, *shape)
    assert X.dtype == np.uint8
    values = X[:, 0, 0, 0]
    assert (X == values[:, None, None, None]).all()
    assert X.flags.writeable
    _uniform(values)


def test_constant_colours_have_one_value_for_each_channel():
    X = make_constant_images(4000, image_shape=(3, 4, 5), colour=True, random_state=0)
    values = X[:, :, 0, 0]
    assert (X == values[:, :, None, None]).all()
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.06  # drawn by themselves
    _uniform(values)


def test_noise_is_uniform_and_every_value_drawn_by_itself():
    X = make_noise_images(4000, image_shape=(3, 2, 2), random_state=0)
    assert X.shape == (4000, 3, 2, 2)
    assert X.dtype == np.uint8
    assert np.abs(np.corrcoef(X.reshape(4000, -1).T) - np.eye(12)).max() < 0.07
    _uniform(X)


def _uniform(values):
    """The counts of eight equal ranges are within five standard deviations of their mean."""
    n = values.size
    counts = np.bincount(values.ravel() // 32, minlength=8)
    assert np.abs(counts - n / 8).max() < 5 * np.sqrt(n * 7 / 64)
    assert (values.min(), values.max()) == (0, 255)


@pytest.mark.parametrize("height", [10, 11])
def test_one_half_of_each_image_is_zero_and_the_other_as_it_was(height):
    images = np.random.default_rng(0).integers(1, 256, size=(400, 1, height, 6), dtype=np.uint8)
    before = images.copy()
    X = make_half_mnist(images, random_state=0)
    np.testing.assert_array_equal(images, before)
    assert X.dtype == np.uint8
    upper, lower = slice(height // 2), slice(height // 2, None)
    no_upper = (X[:, :, upper] == 0).all(axis=(1, 2, 3))
    no_lower = (X[:, :, lower] == 0).all(axis=(1, 2, 3))
    assert (no_upper != no_lower).all()
    np.testing.assert_array_equal(X[no_upper][:, :, lower], images[no_upper][:, :, lower])
    np.testing.assert_array_equal(X[no_lower][:, :, upper], images[no_lower][:, :, upper])
    assert 150 < no_upper.sum() < 250


def test_chimera_has_the_halves_of_two_classes_around_six_rows_of_zeros():
    images = numbered()
    X = make_chimera_mnist(images, Y, 3000, random_state=0)
    assert X.shape == (3000, 2, 10, 4)
    assert X.dtype == images.dtype
    assert not X[:, :, 2:8].any()
    upper, lower = X[:, 0, 0, 0] - 1, X[:, 0, -1, 0] - 1
    assert (X[:, :, :2] == 1 + upper[:, None, None, None]).all()
    assert (X[:, :, 8:] == 1 + lower[:, None, None, None]).all()
    assert (Y[upper] != Y[lower]).all()
    # Upper halves are equally frequent, and lower ones among those of other classes.
    counts = np.bincount(upper, minlength=16)
    assert np.abs(counts - 3000 / 16).max() < 5 * np.sqrt(3000 / 16)
    of_seven = lower[Y[upper] == 7]
    counts = np.bincount(of_seven, minlength=16)[5:]
    assert np.abs(counts - len(of_seven) / 11).max() < 5 * np.sqrt(len(of_seven) / 11)


def test_chimeras_are_as_many_as_there_are_images_and_of_any_labels():
    assert len(make_chimera_mnist(numbered(), np.array(["a", "b"])[Y % 2], random_state=0)) == 16
    with pytest.raises(ValueError, match="one class only"):
        make_chimera_mnist(numbered(), np.zeros(16))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make_chimera_mnist(numbered(), Y[:-1])
    with pytest.raises(ValueError, match="n_samples == 0"):
        make_chimera_mnist(numbered(), Y, 0)
    with pytest.raises(ValueError, match=r"\(16, 2, 7, 4\) are too low"):
        make_chimera_mnist(numbered((2, 7, 4)), Y)


@pytest.mark.parametrize("make", [make_half_mnist, lambda X: make_chimera_mnist(X, Y)])
def test_digits_must_be_images(make):
    with pytest.raises(ValueError, match=r"shape \(16, 80\); it must be \(n, channels"):
        make(numbered().reshape(16, -1))


@pytest.mark.parametrize("make", [make_constant_images, make_noise_images])
def test_bad_number_or_shape_of_images_is_named(make):
    with pytest.raises(ValueError, match="n_samples == 0"):
        make(0)
    with pytest.raises(ValueError, match="image_shape"):
        make(5, image_shape=(28, 28))
    with pytest.raises(ValueError, match="image_shape"):
        make(5, image_shape=(0, 28, 28))
