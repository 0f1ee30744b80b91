"""No option is accepted and ignored: a parameter that is changed alone changes a score, or raises.

Every parameter of every detector, those in objects included, is changed in each of the settings
that change what is computed; what is compared is all that a fit leads to: scores of known and new
rows, the threshold and drawn rows.
"""

import copy
import math
import warnings
from numbers import Integral, Real

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions, make_constraint

from skgenad import Mahalanobis
from skgenad.networks import Conv

from ._settings import DETECTORS, normal_rows, over_variants, tiny

# They do not change what is learnt, by their nature: where it is computed, what is shown or called
# on the way, and what a second fit starts from.
WITHOUT_EFFECT = {"callbacks", "device", "verbose", "warm_start"}
# It ends stages of several epochs, and those here have one: tests/test_stopping.py looks at it.
WITHOUT_EFFECT |= {"stopping"}
# A method without chance has no use for a seed but where rows are held out.
DETERMINISTIC = {"Mahalanobis"}
# What is tried where a value cannot be found by the rules of `another`.
VALUES = {
    "activation": ["tanh", "relu"],
    "augmentation": "flip",
    "bounds": (-0.3, 0.3),
    "clip": 1e-3,
    "coupling_norm": [False, True],  # one of which is what "auto" is
    "detector": Mahalanobis(shrinkage=0.5),
    "estimation_sizes": (5,),
    "factors": (0.7, 3.0),
    "gamma": 5.0,
    "general": "png",
    "grid_size": 1,  # a small table has no more blocks of columns than those of the default
    "hidden_sizes": (5,),
    "image_shape": (1, 2, 2),
    "latent_dim": 3,
    "n_components": 3,
    "n_scales": [1, 2],
    "network": (5,),
    "noise_range": (0.4, 0.5),
    "pretrain_clip": 1e-3,
    "random_state": 1,
    "size": 5,
    "standardize": [False, True],  # images have the first, and refuse the second
    "input_noise": 0.3,
}

# Settings on images, where more parameters act.
IMAGES = {"image_shape": (1, 12, 12)}
IMAGE_CASES = {
    "Autoencoder-conv": ("Autoencoder", {**IMAGES, "network": Conv(width=1 / 16)}),
    "Glow-conv": ("Glow", {**IMAGES, "n_scales": 2, "hidden": 4}),
    "Glow-patch": (
        "Glow",
        {**IMAGES, "n_scales": 2, "hidden": 4, "coupling": "patch", "patch_size": 4},
    ),
    "MPDR-conv": (
        "MPDR",
        {**IMAGES, "network": Conv(width=1 / 16), "augmentation": ("flip", "shift")},
    ),
    "PWAE-mlp": ("PWAE", {**IMAGES, "decoder_channels": 8}),
    "PixelCNN": ("PixelCNN", {"image_shape": (1, 6, 6), "hidden": 2}),
}
AT_LENGTH = {"Glow-patch", "MPDR-conv", "PixelCNN"}


def constraints_of(detector, name):
    owner, _, field = name.rpartition("__")
    for step in filter(None, owner.split("__")):
        detector = detector.part(step)
    return [make_constraint(c) for c in type(detector)._parameter_constraints[field]], field


def value_of(detector, name):
    """Return what a parameter is in effect: that of the detector's own part where it is None."""
    owner, _, field = name.rpartition("__")
    for step in filter(None, owner.split("__")):
        detector = detector.part(step)
    return getattr(detector, field)


def candidates(value, constraints):
    if isinstance(value, bool):
        yield not value
    for constraint in constraints:
        if isinstance(constraint, StrOptions):
            yield from sorted(constraint.options - {value})
    numbers = [c for c in constraints if isinstance(c, Interval)]
    if isinstance(value, Real) and not isinstance(value, bool):
        whole = isinstance(value, Integral) and all(c.type is Integral for c in numbers)
        yield from (value + 1, value - 1) if whole else (value * 1.5 or 0.3, value * 0.5)
    elif numbers:
        yield from (2, 0.5)
    yield from (True, None)


def others(detector, name):
    """List other valid values of a parameter than the one in effect."""
    constraints, field = constraints_of(detector, name)
    value = value_of(detector, name)
    if field in VALUES and VALUES[field] != value:
        return VALUES[field] if isinstance(VALUES[field], list) else [VALUES[field]]
    found = [
        candidate
        for candidate in candidates(value, constraints)
        if any(constraint.is_satisfied_by(candidate) for constraint in constraints)
        and candidate != value
    ]
    assert found, f"no other value of {name}={value!r}: give it one in VALUES"
    # What "auto" is in a setting may be any of them; a number needs no second one.
    return found if value == "auto" else found[:1]


def rows_for(detector):
    """Make rows of a table of 4 columns or, for a detector of images, smooth images."""
    if getattr(detector, "image_shape", None) is None:
        return normal_rows(40)
    n = math.prod(detector.image_shape)
    return normal_rows(40, n).cumsum(axis=1).argsort(axis=1).argsort(axis=1) / (n - 1)


def outcome(detector, X, train=None, rows=None):
    """Bits of all that a fit of the detector, or other training of it, leads to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (train or detector.fit)(X if rows is None else rows)
        found = [detector.score_samples(X), detector.score_samples(0.9 * X + 0.01)]
        if hasattr(detector, "sample"):
            found.append(detector.sample(3, random_state=0))
    return b"".join(np.append(values, detector.offset_).tobytes() for values in found)


def leaves(detector):
    """Names of the parameters that are no part, those of parts among them."""
    names = set(detector.get_params())
    return sorted(n for n in names if not any(other.startswith(f"{n}__") for other in names))


def ignored(name, extra):
    """List the parameters that can be changed without any effect."""
    X = rows_for(tiny(name, **extra))
    before, found = outcome(tiny(name, **extra), X), []
    for parameter in leaves(tiny(name, **extra)):
        if parameter in WITHOUT_EFFECT or (parameter == "random_state" and name in DETERMINISTIC):
            continue
        values = others(tiny(name, **extra), parameter)
        if all(has_no_effect(name, extra, parameter, value, X, before) for value in values):
            found += [f"{parameter}={values[0]!r}"]
    return found


def has_no_effect(name, extra, parameter, value, X, before):
    try:
        return outcome(tiny(name, **extra).set_params(**{parameter: value}), X) == before
    except ValueError:
        return False


@over_variants("LikelihoodRatio", slowly=True)
def test_no_option_is_accepted_and_ignored(name, extra):
    assert ignored(name, extra) == []


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        pytest.param(*case, id=i, marks=[pytest.mark.slow] if i in AT_LENGTH else [])
        for i, case in IMAGE_CASES.items()
    ],
)
def test_no_option_of_images_is_accepted_and_ignored(name, extra):
    assert ignored(name, extra) == []


# Training that continues runs the last stage alone, from the weights that there are: K of CANCE's
# noise and the temperature of NAE, which these parameters are the start of, are among them. A
# mixture that is there takes one step of EM.
SHARED_OF_THE_FIRST_FIT = {"calibration_fraction", "random_state"}
OF_THE_FIRST_FIT = {
    "CANCE": {
        "features__covariance_penalty",
        "features__decoder_steps",
        "features__encoder_steps",
        "noise_scale",
    },
    "GaussianMixtures": {"max_iter"},
    "MPDR": {
        "energy__init",
        "energy__pretrain_learning_rate",
        "energy__pretrain_steps",
        "manifold__learning_rate",
        "manifold__penalty",
        "manifold__input_noise",
        "manifold__steps",
    },
    "NAE": {"pretrain_clip", "pretrain_learning_rate", "pretrain_steps", "temperature"},
}


def continued(detector):
    """Bits of all that more training of a fitted detector leads to."""
    return outcome(detector, normal_rows(40), detector.partial_fit, normal_rows(40, seed=3))


@pytest.mark.parametrize("detector", DETECTORS)
def test_no_option_is_ignored_by_training_that_continues(detector):
    fitted = tiny(detector).fit(normal_rows(40))
    before, found = continued(copy.deepcopy(fitted)), []
    spared = WITHOUT_EFFECT | SHARED_OF_THE_FIRST_FIT
    spared |= OF_THE_FIRST_FIT.get(detector.__name__, set())
    for parameter in set(leaves(fitted)) - spared:
        values = list(others(fitted, parameter))
        if parameter.endswith("steps"):  # a batch is worth a share of them
            values.append(8 * fitted.get_params()[parameter])
        if all(continues_the_same(fitted, {parameter: value}, before) for value in values):
            found += [f"{parameter}={values[0]!r}"]
    assert found == []


def continues_the_same(fitted, changed, before):
    try:
        return continued(copy.deepcopy(fitted).set_params(**changed)) == before
    except ValueError:
        return False


def test_an_ignored_option_is_found(monkeypatch):
    from skgenad import Autoencoder

    make = Autoencoder._make_module

    def deaf(self, n_features):
        return make(clone(self).set_params(input_noise=0.0), n_features)

    monkeypatch.setattr(Autoencoder, "_make_module", deaf)
    assert ignored("Autoencoder", {}) == ["input_noise=0.3"]
