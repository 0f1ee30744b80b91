"""Sets of images to learn, read once a process, and those that papers test as anomalies to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skgenad.datasets import (
    fetch_cifar10,
    fetch_emnist,
    fetch_fashion_mnist,
    fetch_kmnist,
    fetch_mnist,
    fetch_omniglot,
    fetch_svhn,
    get_data_home,
    load_notmnist,
    make_chimera_mnist,
    make_constant_images,
    make_half_mnist,
    make_noise_images,
)

Make = Callable[[], NDArray]
# Images of a set at most, drawn with a seed.
MOST = 4000


def drawn(images: NDArray, n: int = MOST, seed: int = 0) -> NDArray:
    """At most `n` images, in an order of their own: files may be sorted by class."""
    return images[np.random.RandomState(seed).permutation(len(images))[:n]]


def at_hand(makers: Iterable[tuple[str, Make]]) -> Iterator[tuple[str, NDArray]]:
    """Names and images of the sets that are there or can be downloaded."""
    for name, make in makers:
        try:
            yield name, drawn(make())
        except OSError:  # neither in the folder nor to be had from its server
            continue


def anomalies_of_mnist(data_home: Path | None) -> list[tuple[str, Make]]:
    """List the sets of MPDR's Table 2 and of NAE's Table 4."""
    digits = partial(fetch_mnist, subset="test", data_home=data_home, return_X_y=True)
    shape = (1, 28, 28)
    return [
        ("Omniglot", lambda: _omniglot(data_home)),
        ("EMNIST", lambda: _letters(data_home)),
        ("KMNIST", lambda: fetch_kmnist(subset="test", data_home=data_home, return_X_y=True)[0]),
        ("notMNIST", lambda: load_notmnist(data_home=data_home, return_X_y=True)[0]),
        ("Fashion", lambda: _fashion(data_home)),
        ("Constant", lambda: make_constant_images(MOST, image_shape=shape, random_state=0)),
        ("Noise", lambda: make_noise_images(MOST, image_shape=shape, random_state=0)),
        ("Half", lambda: make_half_mnist(drawn(digits()[0]), random_state=0)),
        ("Chimera", lambda: make_chimera_mnist(*digits(), n_samples=MOST, random_state=0)),
    ]


def anomalies_of_fashion(data_home: Path | None) -> list[tuple[str, Make]]:
    """List digits, which the flows' paper has, and characters."""
    own = ("Omniglot", "KMNIST", "notMNIST")
    characters = [pair for pair in anomalies_of_mnist(data_home) if pair[0] in own]
    return [("MNIST", lambda: _digits(data_home)), *characters]


def anomalies_of_cifar10(data_home: Path | None) -> list[tuple[str, Make]]:
    """List the sets of MPDR's Table 3 and NAE's Table 2, and grey images in squares of 32 x 32."""
    shape = (3, 32, 32)
    return [
        ("SVHN", lambda: fetch_svhn(subset="test", data_home=data_home, return_X_y=True)[0]),
        (
            "Constant",
            lambda: make_constant_images(MOST, image_shape=shape, colour=True, random_state=0),
        ),
        ("Grey", lambda: make_constant_images(MOST, image_shape=shape, random_state=0)),
        ("Noise", lambda: make_noise_images(MOST, image_shape=shape, random_state=0)),
        ("Fashion", lambda: _on_32(_fashion(data_home))),
        ("MNIST", lambda: _on_32(_digits(data_home))),
        ("Omniglot", lambda: _on_32(_omniglot(data_home))),
        ("CUReT", lambda: _textures(data_home)),
    ]


def _omniglot(data_home: Path | None) -> NDArray:
    """Load the evaluation set, or what part of Omniglot there is."""
    for subset in ("test", "small"):
        try:
            return fetch_omniglot(subset=subset, data_home=data_home, return_X_y=True)[0]
        except OSError:
            continue
    raise FileNotFoundError("no part of Omniglot is at hand")


def _fashion(data_home: Path | None) -> NDArray:
    return fashion("test", data_home)


def _letters(data_home: Path | None) -> NDArray:
    return fetch_emnist("letters", subset="test", data_home=data_home, return_X_y=True)[0]


def _textures(data_home: Path | None) -> NDArray:
    """Patches of photographs of materials, of a file in the data home."""
    with np.load(get_data_home(data_home) / "curet_textures32.npz") as arrays:
        return arrays["x"].transpose(0, 3, 1, 2)


def _digits(data_home: Path | None) -> NDArray:
    return fetch_mnist(subset="test", data_home=data_home, return_X_y=True)[0]


def _on_32(images: NDArray) -> NDArray:
    """Grey images of 28 x 28 in the middle of three channels of 32 x 32."""
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))).repeat(3, axis=1)


def padded(X: NDArray) -> NDArray:
    """Images of 28 x 28 in a black frame: three scales need sides that 8 divides."""
    return np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)))


def bits_per_dimension(log_density: Any, n_numbers: int) -> Any:
    """Bits per dimension of log densities in units of pixels in [0, 1]."""
    return np.log2(255) - log_density / (n_numbers * np.log(2))


@cache
def mnist(subset: str, data_home: Path | None) -> tuple[NDArray, NDArray]:
    """Images (n, 1, 28, 28) and digits of MNIST."""
    return fetch_mnist(subset=subset, data_home=data_home, return_X_y=True)


@cache
def fashion(subset: str, data_home: Path | None) -> NDArray:
    """Images (n, 1, 28, 28) of Fashion-MNIST."""
    return fetch_fashion_mnist(subset=subset, data_home=data_home, return_X_y=True)[0]


class Source(NamedTuple):
    """Images, uint8, (n, C, 32, 32), their classes, and what they are."""

    images: NDArray
    classes: NDArray
    text: str


def _source(fetch: Callable[..., Bunch], data_home: Path | None, subset: str) -> Source:
    bunch = fetch(subset=subset, data_home=data_home)
    X = bunch.data if bunch.data.shape[-1] == 32 else padded(bunch.data)
    # A small copy of a data set may stand in for it: the description says so.
    what = bunch.DESCR.splitlines()[-1].partition(". ")[0]
    return Source(X, bunch.target, f"{what} ({len(X):,} images)")


@cache
def digits(data_home: Path | None, subset: str) -> Source:
    """Images of MNIST, padded to 32 x 32."""
    return _source(fetch_mnist, data_home, subset)


@cache
def characters(data_home: Path | None) -> Source:
    """Characters of Omniglot's small sets, padded to 32 x 32."""
    return _source(fetch_omniglot, data_home, "small")


@cache
def photographs(data_home: Path | None, subset: str) -> Source:
    """Images of CIFAR-10."""
    return _source(fetch_cifar10, data_home, subset)
