"""The shapes in the annotations of the tensor layer, checked while it runs."""

import importlib
import os
import subprocess
import sys
import types
import typing
from pathlib import Path

import beartype  # before TYPE_CHECKING is set, of which its own imports make something
import pytest
import torch
from jaxtyping import TypeCheckError, install_import_hook

import skgenad._tensors

pytestmark = pytest.mark.usefixtures("drawing")

FOLDER = Path(skgenad._tensors.__file__).parent
ANNOTATED = ("distances", "maps", "moments")


@pytest.fixture(scope="module")
def checked():
    """Import the tensor layer once more, as a package whose functions check their shapes."""
    patch = pytest.MonkeyPatch()
    package = types.ModuleType("checked")
    package.__path__ = [str(FOLDER)]
    patch.setitem(sys.modules, "checked", package)
    # The names in annotations are imported for type checkers only.
    patch.setattr(typing, "TYPE_CHECKING", True)
    with install_import_hook("checked", f"{beartype.__name__}.beartype"):
        modules = {name: importlib.import_module(f"checked.{name}") for name in ANNOTATED}
    patch.setattr(typing, "TYPE_CHECKING", False)
    yield types.SimpleNamespace(**modules)
    for name in [name for name in sys.modules if name.startswith("checked.")]:
        del sys.modules[name]
    patch.undo()


X, OTHER = torch.rand(6, 4), torch.rand(6, 4)


@pytest.mark.parametrize("kind", ["SquaredDistance", "AbsoluteDistance"])
def test_a_distance_refuses_rows_that_do_not_match(checked, kind):
    distance = getattr(checked.distances, kind)()
    assert distance(X, OTHER).shape == (6,)
    assert [part.shape for part in distance.value_and_slopes(X, OTHER)] == [(6,), (6, 4), (6, 4)]
    for wrong in (OTHER[:1], OTHER[:, :1], OTHER[0], OTHER.int()):
        with pytest.raises(TypeCheckError):
            distance(X, wrong)
        with pytest.raises(TypeCheckError):
            distance.value_and_slopes(X, wrong)


def test_structural_similarity_keeps_its_shapes(checked):
    images = torch.rand(2, 3 * 12 * 13)
    distance = checked.distances.StructuralDissimilarity((3, 12, 13))
    assert distance.similarity_map(images, images).shape == (2, 3, 2, 3)
    assert distance.by_column(images, images).shape == images.shape
    with pytest.raises(TypeCheckError):
        distance(images.reshape(2, 3, 12, 13), images.reshape(2, 3, 12, 13))


@pytest.mark.parametrize("kind", ["Mixture", "TiedMoments"])
def test_moments_keep_their_shapes(checked, kind):
    z, memberships = torch.rand(6, 4).double(), torch.eye(3).repeat(2, 1).double()
    kind = getattr(checked.moments, kind)
    moments = kind.of(z, memberships).merge(kind.of(z, memberships))
    assert moments.weights.shape == (3,) and moments.means.shape == (3, 4)
    for wrong in (memberships[:5], memberships[:, 0], memberships.long()):
        with pytest.raises(TypeCheckError):
            kind.of(z, wrong)


def test_maps_keep_their_shapes(checked):
    maps = checked.maps
    encoder, decoder = maps.MLP((4, 8, 2)), maps.MLP((2, 8, 4))
    net = maps.AutoencoderNet(encoder, decoder, maps.Sphere())
    assert net(X).shape == X.shape and net.encode(X).shape == (6, 2)
    z, pull = net.encode_and_pullback(X)
    assert pull(z).shape == X.shape and net.decode_and_pullback(z)[0].shape == X.shape
    for call in (net, net.encode, net.encode_and_pullback, maps.Sphere(), maps.Identity()):
        with pytest.raises(TypeCheckError):
            call(X[0])
    with pytest.raises(TypeCheckError):
        maps.steady_linear(X, torch.rand(3, 5), None, False)
    with pytest.raises(TypeCheckError):
        maps.tangent(X, OTHER[:3])


def test_a_map_that_changes_the_number_of_rows_is_found(checked):
    class Halving(checked.maps.Map):
        def forward(self, x):
            return x[::2]

    with pytest.raises(TypeCheckError):
        Halving().value_and_pullback(X)


IN_ANOTHER_PROCESS = """
import typing
from jaxtyping import install_import_hook
import beartype, numpy, pandas, skorch, torch, tqdm.auto, matplotlib.pyplot, pyod.models.base

typing.TYPE_CHECKING = True
names = [f"skgenad._tensors.{name}" for name in ANNOTATED]
with install_import_hook(names, "beartype.beartype"):
    import skgenad
typing.TYPE_CHECKING = False
from tests._settings import normal_rows, tiny

for name in ("Autoencoder", "DAGMM", "EBM", "MPDR", "Mahalanobis", "NAE", "VAE"):
    tiny(name).fit(normal_rows()).score_samples(normal_rows(5))
images = numpy.random.RandomState(0).rand(20, 1, 12, 12)
for network in ("conv", "mlp"):
    settings = {"image_shape": (1, 12, 12), "network": network, "max_steps": 5}
    skgenad.Autoencoder(distance="ssim", **settings).fit(images).anomaly_map(images)
try:
    skgenad._tensors.distances.mean_squared_error(torch.zeros(2, 3), torch.zeros(1, 3))
except Exception as error:
    print(type(error).__name__)
"""


def test_detectors_keep_the_shapes_that_are_annotated(tmp_path):
    code = f"ANNOTATED = {ANNOTATED}\n{IN_ANOTHER_PROCESS}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=FOLDER.parents[1]
    )
    assert (done.stdout, done.returncode) == ("TypeCheckError\n", 0), done.stderr
