"""Parameters of a wrong type: taken for what they mean, or an error that says what to write."""

import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import EarlyStopping

from skgenad import Committee, NormalizingFlow
from skgenad._core.detector import BaseGenerativeDetector
from skgenad.autoencoders import AutoencoderFeatures, PCAFeatures
from skgenad.energies import Chain, Manifold, Masked, Reconstruction, Replay, Scalar
from skgenad.networks import MLP, Conv28

from . import _settings
from ._settings import EVERY, normal_rows

WRONG = {
    "int": 5,
    "float": 0.1,
    "negative": -1,
    "device": torch.device("cpu"),
    "numpy generator": np.random.default_rng(0),
    "torch generator": torch.Generator(),
    "array": np.array([8, 8]),
    "one number": np.array(3.5),
    "text": "5",
    "None": None,
    "True": True,
    "nested": [[8], [8]],
    "empty": (),
    "dict": {"a": 1},
    "object": object(),
    "nan": float("nan"),
}
ADVICE = re.compile(
    r"must (be|hold|have)|[Ww]rite|[Gg]ive|[Cc]hoose|[Pp]ass|[Uu]se|[Ll]eave|[Ss]witch|needs"
)
PARTS = [
    ("MPDR", "latent_chain", Chain),
    ("MPDR", "manifold", Manifold),
    ("MPDR", "energy", Reconstruction),
    ("MPDR", "energy", Masked),
    ("MPDR", "energy", Scalar),
    ("MPDR", "replay", Replay),
    ("CANCE", "features", AutoencoderFeatures),
    ("CANCE", "features", PCAFeatures),
    ("Autoencoder", "network", MLP),
    ("Autoencoder", "network", Conv28),
]


class Taken(Exception):
    """Training would begin."""


@pytest.fixture
def no_training(monkeypatch):
    def begin(*args, **kwargs):
        raise Taken

    monkeypatch.setattr(BaseGenerativeDetector, "_run_stages", begin)
    monkeypatch.setattr(Committee, "_learn", begin)


def make(kind, parameters):
    """Make a detector with its quick settings, some of them replaced."""
    return _settings.tiny(kind).set_params(**parameters)


def what_is_wrong(detector):
    """Fit; return the error, None where the parameters are taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            detector.fit(normal_rows(30))
        except Taken:
            return None
        except (TypeError, ValueError) as error:
            return error
    return None


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("detector", EVERY, ids=lambda d: d.__name__)
def test_a_wrong_parameter_is_named_and_the_error_says_what_to_write(detector):
    silent = []
    for name in detector._get_param_names():
        for kind, value in WRONG.items():
            error = what_is_wrong(make(detector, {name: value}))
            if error is not None and not (name in str(error) and ADVICE.search(str(error))):
                silent.append((name, kind, str(error)))
    assert silent == []


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(("detector", "name", "part"), PARTS)
def test_a_wrong_field_of_a_part_is_named(detector, name, part):
    silent = []
    for field in part._get_param_names():
        for kind, value in WRONG.items():
            error = what_is_wrong(make(detector, {name: part(**{field: value})}))
            text = str(error)
            if error is not None and not (field in text and ADVICE.search(text)):
                silent.append((field, kind, text))
    assert silent == []


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("detector", "name", "value", "advice"),
    [
        ("NormalizingFlow", "hidden_sizes", 128, "hidden_sizes=(128,)"),
        ("NormalizingFlow", "hidden_sizes", np.array([8, 16]), "hidden_sizes=(8, 16)"),
        ("Autoencoder", "network", 64, "network=(64,)"),
        ("Autoencoder", "network", torch.tensor([8, 4]), "network=(8, 4)"),
        ("Autoencoder", "device", torch.device("cuda", 1), "device='cuda:1'"),
        ("Autoencoder", "random_state", np.random.default_rng(0), "random_state=0"),
        ("Autoencoder", "random_state", "7", "random_state=7"),
        ("Autoencoder", "max_steps", 100.0, "max_steps=100"),
        ("Autoencoder", "max_steps", "100", "max_steps=100"),
        ("Autoencoder", "learning_rate", np.array([0.1]), None),
        ("Autoencoder", "learning_rate", [0.1], "learning_rate=0.1"),
        ("Autoencoder", "image_shape", 28, "image_shape=(1, 28, 28)"),
        ("MPDR", "noise_range", 0.1, "noise_range=(0.05, 0.3)"),
        ("MPDR", "visible_chain", {"steps": 2}, "visible_chain=Chain(steps=2)"),
        ("MPDR", "visible_chain", Chain, "visible_chain=Chain()"),
        ("MPDR", "visible_chain", 5, "visible_chain=Chain()"),
        ("MPDR", "visible_chain", Chain(noise=[0.2]), "noise=0.2"),
        ("KernelDenoiser", "factors", 1.5, "factors=(1.5,)"),
        ("MPDR", "visible_chain", Chain(noise="x"), None),
        ("MPDR", "energy", "foo", "energy=Reconstruction()"),
        ("Autoencoder", "callbacks", EarlyStopping(), "callbacks=[EarlyStopping(...)]"),
        ("Autoencoder", "callbacks", EarlyStopping, "callbacks=[EarlyStopping(...)]"),
        ("Autoencoder", "callbacks", print, "callbacks=[print]"),
        ("Autoencoder", "device", None, "device='auto'"),
        ("Autoencoder", "random_state", np.random.SeedSequence(3), "random_state=0"),
        ("Autoencoder", "network", MLP(8), "hidden_sizes=(8,)"),
        ("GaussianMixtures", "n_components", True, None),
        ("NormalizingFlow", "hidden_sizes", -1, None),
        ("NormalizingFlow", "hidden_sizes", 10**400, None),
    ],
)
def test_what_to_write_is_what_was_meant(detector, name, value, advice):
    error = what_is_wrong(make(detector, {name: value}))
    assert name in str(error)
    if advice is not None:
        assert advice in str(error).rpartition("rite")[2]


def test_what_is_wrong_is_kept_as_it_was_given_until_fit():
    for value in (128, np.array([8, 8]), {"a": 1}):
        detector = NormalizingFlow(hidden_sizes=value)
        assert detector.get_params()["hidden_sizes"] is value
        np.testing.assert_equal(clone(detector).hidden_sizes, value)
        assert "hidden_sizes=" in repr(detector)
