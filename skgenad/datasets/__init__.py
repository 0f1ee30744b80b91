"""Data sets for anomaly detection: fetched, shipped with scikit-learn, drawn, or your own files.

`target`, or `y`, is 1 for an anomaly and 0 for a normal row; in the image sets with classes (MNIST
and its like, CIFAR-10, SVHN, Omniglot) it is the class, and what is normal is yours to say.
"""

from ._adbench import fetch_adbench, list_adbench
from ._builtin import list_builtin, load_builtin
from ._colour_images import fetch_cifar10, fetch_cifar100, fetch_svhn
from ._cwru import load_cwru
from ._dcase import load_dcase
from ._emnist import fetch_emnist
from ._fetch import get_data_home
from ._kddcup99 import fetch_kddcup99_dagmm
from ._mnist_c import fetch_mnist_c, make_mnist_c
from ._mnist_like import fetch_fashion_mnist, fetch_kmnist, fetch_mnist
from ._mvtec import load_mvtec
from ._notmnist import load_notmnist
from ._npz import list_folder, load_folder, load_npz
from ._oddbench import fetch_oddbench, list_oddbench
from ._omniglot import fetch_omniglot
from ._papers import fetch_abalone, fetch_arrhythmia, fetch_thyroid
from ._skab import load_skab
from ._synthetic_images import (
    make_chimera_mnist,
    make_constant_images,
    make_half_mnist,
    make_noise_images,
)
from ._telemetry import load_telemetry
from ._textures import make_textures
from ._toy import make_eight_gaussians, make_local_anomalies, make_ring, make_two_clusters
from ._toy_densities import (
    eight_gaussians_log_density,
    local_anomalies_log_density,
    ring_log_density,
    two_clusters_log_density,
)

__all__ = [
    "eight_gaussians_log_density",
    "fetch_abalone",
    "fetch_adbench",
    "fetch_arrhythmia",
    "fetch_cifar10",
    "fetch_cifar100",
    "fetch_emnist",
    "fetch_fashion_mnist",
    "fetch_kddcup99_dagmm",
    "fetch_kmnist",
    "fetch_mnist",
    "fetch_mnist_c",
    "fetch_oddbench",
    "fetch_omniglot",
    "fetch_svhn",
    "fetch_thyroid",
    "get_data_home",
    "list_adbench",
    "list_builtin",
    "list_folder",
    "list_oddbench",
    "load_builtin",
    "load_cwru",
    "load_dcase",
    "load_folder",
    "load_mvtec",
    "load_notmnist",
    "load_npz",
    "load_skab",
    "load_telemetry",
    "local_anomalies_log_density",
    "make_chimera_mnist",
    "make_constant_images",
    "make_eight_gaussians",
    "make_half_mnist",
    "make_local_anomalies",
    "make_mnist_c",
    "make_noise_images",
    "make_ring",
    "make_textures",
    "make_two_clusters",
    "ring_log_density",
    "two_clusters_log_density",
]
