"""A row's bits in any company, and what a small request costs."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skgenad import Autoencoder
from skgenad._tensors import passes
from skgenad._tensors.passes import Passes
from skgenad.preprocessing import LatentFeatures

from ._settings import EVERY, VARIANTS, normal_rows, over_variants, tiny

SIZES = (1, 2, 3, 7, 16, 17, 100, 1023, 1024, 1025)
CPU = torch.device("cpu")

every = over_variants("Committee", "LikelihoodRatio", slowly=True)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def methods_of(detector):
    """List the public methods that map rows to values, one for each row."""
    names = ("score_samples", "log_density", "reconstruct", "member_scores", "scale_contributions")
    return [name for name in names if hasattr(detector, name)]


def assert_alone(function, X, sizes=SIZES):
    """Check the values of rows in requests of all sizes against those of one request."""
    together = np.asarray(function(X))
    for size in sizes:
        part = np.asarray(function(X[-size:]))
        np.testing.assert_array_equal(part, together[-size:], err_msg=f"{size} rows")
    cuts = np.sort(np.random.RandomState(0).choice(np.arange(1, len(X)), 5, replace=False))
    parts = np.concatenate([np.asarray(function(part)) for part in np.split(X, cuts)])
    np.testing.assert_array_equal(parts, together)
    return together


# ---- all detectors --------------------------------------------------------------------------


@every
def test_a_rows_bits_depend_on_neither_company_nor_threads(name, extra):
    detector = tiny(name, **extra).fit(normal_rows(60, 5))
    X = normal_rows(1100, 5, seed=1)
    X[-2] = normal_rows(60, 5)[3]  # one of the training rows, which some detectors leave out
    before, values = torch.get_num_threads(), {}
    try:
        for threads, sizes in ((1, SIZES), (2, (1, 17))):
            torch.set_num_threads(threads)
            for method in methods_of(detector):
                found = assert_alone(getattr(detector, method), X, sizes)
                np.testing.assert_array_equal(found, values.setdefault(method, found))
    finally:
        torch.set_num_threads(before)


WIDE = ["Autoencoder", "DAGMM", "GaussianMixtures", "KernelDenoiser", "Mahalanobis", "Neighbors"]


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize("name", WIDE)
def test_so_it_is_with_many_columns(name, threads):
    wide = {"network": (64, 16)} if name in ("Autoencoder", "DAGMM") else {}
    wide |= {"max_anchors": 300} if name in ("KernelDenoiser", "Neighbors") else {}
    rows = np.random.RandomState(0).randn(1100, 400).astype(np.float32)
    detector = tiny(name, **wide).fit(rows[:400])
    scores = detector.score_samples(rows)
    for size in (1, 16, 100):
        np.testing.assert_array_equal(detector.score_samples(rows[-size:]), scores[-size:])
    torch.set_num_threads(1)
    np.testing.assert_array_equal(detector.score_samples(rows), scores)


@pytest.mark.parametrize("name", ["KernelDenoiser", "LocalGaussian", "Neighbors"])
def test_equally_near_rows_are_chosen_alike_in_any_company(name):
    rng = np.random.RandomState(16)
    train, X = (rng.randint(2, size=(n, 16)).astype(float) for n in (300, 200))
    detector = tiny(name, max_anchors=300).fit(train)
    assert_alone(detector.score_samples, X, sizes=(1, 16))
    alone = [detector.score_samples(row[None]) for row in X]
    np.testing.assert_array_equal(np.concatenate(alone), detector.score_samples(X))


def test_latent_features_of_a_row_depend_on_it_alone(threads):
    X = normal_rows(2100, 5, seed=1)
    features = LatentFeatures(tiny("Autoencoder")).fit(normal_rows(60, 5))
    codes = assert_alone(features.transform, X)
    assert_alone(features.inverse_transform, codes)


def images(n, seed=0):
    return np.random.RandomState(seed).rand(n, 1, 8, 8).astype(np.float32)


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_images_depend_on_themselves_alone(network, threads):
    settings = {"image_shape": (1, 8, 8), "network": network, "max_steps": 5}
    detector = Autoencoder(**settings, random_state=0, device="cpu").fit(images(40))
    X = images(200, seed=1)
    for function in (detector.score_samples, detector.anomaly_map, detector.reconstruct):
        together = function(X)
        for size in (1, 2, 3, 7, 16, 17, 63, 64, 65):
            np.testing.assert_array_equal(function(X[50 : 50 + size]), together[50 : 50 + size])


def test_mixed_images_depend_on_their_pairs_alone():
    settings = {"image_shape": (1, 8, 8), "n_scales": 2}
    detector = tiny("Glow", **settings).fit(images(40))
    early, late = images(70, seed=1), images(70, seed=2)
    together = detector.mix_scales(early, late)
    assert together.shape == early.shape
    for size in (1, 7):
        mixed = detector.mix_scales(early[-size:], late[-size:])
        np.testing.assert_array_equal(mixed, together[-size:])


# ---- what small requests cost ---------------------------------------------------------------


@pytest.mark.parametrize("name", [cls.__name__ for cls in EVERY if cls.__name__ in dict(VARIANTS)])
def test_a_row_is_scored_in_a_small_pass(name, monkeypatch):
    detector = tiny(name).fit(normal_rows(60, 5))
    X = normal_rows(100, 5, seed=1)
    detector.score_samples(X[:1])  # the check
    sizes, energy = [], detector.module_.energy
    spy = type(detector.module_)
    monkeypatch.setattr(spy, "energy", lambda self, x: sizes.append(len(x)) or energy(x))
    spy.energy.__qualname__ = energy.__qualname__
    detector.score_samples(X[:1])
    assert sizes == [16]


def test_a_pass_that_is_not_the_same_is_not_used():
    seen = []

    def by_size(x):
        seen.append(len(x))
        return x.sum(dim=1) + (len(x) == 16) * 1e-3

    X = np.ones((3, 4), dtype=np.float32)
    owner = torch.nn.ReLU()
    values = Passes(1024, CPU).run(by_size, X, np.asarray, np.asarray, owner=owner)
    assert values.tolist() == [4, 4, 4]
    assert seen[-1] == 32


def test_a_difference_inside_is_found_that_the_result_hides():
    def hiding(x):
        inner = x * (1 + (len(x) == 16) * 2.0**-20)
        return inner.sign().sum(dim=1)

    probes = torch.randn(1024, 4)
    assert torch.equal(hiding(probes[:16]), hiding(probes)[:16])
    assert not passes._is_same(hiding, probes, 16)
    assert passes._is_same(hiding, probes, 32)


def test_products_of_few_rows_are_told_apart():
    """Of 2 rows the processor adds up in another order; whether it does is no matter of ours."""
    layer = torch.nn.Linear(300, 128)
    probes = torch.randn(1024, 300)
    with torch.inference_mode():
        same = torch.equal(layer(probes[:2]), layer(probes)[:2])
    assert passes._is_same(layer, probes, 2) == same


def test_what_fails_on_rows_made_up_has_whole_passes():
    categories = torch.nn.Embedding(3, 2)
    seen = []

    def encoded(x):
        seen.append(len(x))
        return categories(x[:, 0].long()).sum(dim=1)

    X = np.array([[0.0], [2.0]], dtype=np.float32)
    values = Passes(64, CPU).run(encoded, X, np.asarray, np.asarray, owner=categories)
    assert values.shape == (2,) and seen[-1] == 64


def test_a_larger_pass_is_checked_when_it_is_wanted_again():
    seen, owner = [], torch.nn.ReLU()

    def summed(x):
        seen.append(len(x))
        return x.sum(dim=1)

    X = np.ones((200, 4), dtype=np.float32)
    for _ in range(3):
        Passes(1024, CPU).run(summed, X, np.asarray, np.asarray, owner=owner)
    assert seen == [1024, *(256, 1024, 256), 256, 256]


def test_another_number_of_threads_is_checked_anew():
    owner, X = torch.nn.Linear(4, 4), np.ones((1, 4), dtype=np.float32)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            Passes(1024, CPU).run(owner.forward, X, np.asarray, np.asarray, owner=owner)
    finally:
        torch.set_num_threads(before)
    sizes = (key for key in passes.found_in(owner) if key != passes._MADE)
    assert {key[-1] for key in sizes} == {1, 2}


def test_the_check_draws_nothing_and_is_kept_by_no_copy(global_rng_untouched):
    detector = tiny("Autoencoder").fit(normal_rows(60, 5))
    detector.score_samples(normal_rows(1, 5))
    module = detector.module_
    assert passes.found_in(module)
    detector.partial_fit(normal_rows(20, 5, seed=2))
    assert detector.module_ is not module
    assert ("ReconstructionEnergy.energy", 16, 1024, 1) not in passes.found_in(detector.module_)


def test_what_was_found_is_in_no_copy_and_no_pickle():
    module = torch.nn.Linear(4, 4)
    passes.found_in(module)["a",] = True
    assert not passes.found_in(copy.deepcopy(module))
    assert not passes.found_in(pickle.loads(pickle.dumps(module)))


# ---- what depends on the fit alone ----------------------------------------------------------

FACTORISING = ("eigh", "cholesky", "cholesky_ex", "svd", "inv", "qr", "lu_factor")


@pytest.mark.parametrize("name", [cls.__name__ for cls in EVERY if cls.__name__ != "LocalGaussian"])
def test_nothing_is_factorised_anew_at_a_call(name, monkeypatch):
    detector = tiny(name).fit(normal_rows(60, 5))
    new = normal_rows(3, 5, seed=1)
    calls = [getattr(detector, method) for method in methods_of(detector)]
    if hasattr(detector, "sample"):
        calls.append(lambda X: detector.sample(2, random_state=0))
    first = [np.asarray(call(new)) for call in calls]

    def refused(*args, **kwargs):
        raise AssertionError("computed anew")

    for function in FACTORISING:
        monkeypatch.setattr(torch.linalg, function, refused)
    monkeypatch.setattr("sklearn.neighbors.NearestNeighbors.fit", refused)
    for call, values in zip(calls, first, strict=True):
        np.testing.assert_array_equal(np.asarray(call(new)), values)


@pytest.mark.parametrize(
    "name", ["Mahalanobis", "GaussianMixtures", "KernelDenoiser", "LocalGaussian", "Neighbors"]
)
def test_what_was_derived_is_of_the_rows_so_far(name):
    first, second, new = (normal_rows(20, 4, seed=seed) for seed in range(3))
    used, unused = (tiny(name).fit(first) for _ in range(2))

    def values(detector):
        made = [np.asarray(getattr(detector, method)(new)) for method in methods_of(detector)]
        if hasattr(detector, "sample"):
            made.append(detector.sample(3, random_state=0))
        return made

    before = values(used)
    for detector in (used, unused):
        detector.partial_fit(second + 1)
    for after, expected, earlier in zip(values(used), values(unused), before, strict=True):
        np.testing.assert_array_equal(after, expected)
        assert not np.array_equal(after, earlier)
    # A state that is loaded into a module that has scored.
    again = clone(used).fit(first)
    used.module_.load_state_dict(again.module_.state_dict())
    used.units_ = again.units_
    for after, earlier in zip(values(used), before, strict=True):
        np.testing.assert_array_equal(after, earlier)


def test_what_was_derived_is_in_no_pickle():
    detector = tiny("Mahalanobis").fit(normal_rows())
    detector.log_density(normal_rows(2))
    assert detector.module_._derived and not detector.module_.__getstate__()["_derived"]


def test_what_was_derived_in_scoring_may_have_gradients():
    detector = tiny("KernelDenoiser").fit(normal_rows())
    detector.score_samples(normal_rows(2))
    assert not any(
        part.is_inference()
        for part in detector.module_.anchors._derived.values()
        if isinstance(part, torch.Tensor)
    )


# ---- validation -----------------------------------------------------------------------------


def test_sound_rows_pass_and_all_others_are_checked():
    X = normal_rows()
    detector = tiny("Mahalanobis").fit(X)
    scores = detector.score_samples(X)
    for same in (
        np.asfortranarray(X),
        X.tolist(),
        np.ma.asarray(X),
        X[::-1][::-1],
        X.astype(">f8"),
    ):
        np.testing.assert_array_equal(detector.score_samples(same), scores)
    for wrong, words in (
        (np.full((1, 4), np.nan), "NaN"),
        (np.full((1, 4), np.inf), "infinity"),
        (X[:0], "0 sample"),
        (X[0], "2D array"),
        (X[:, :3], "3 features"),
    ):
        with pytest.raises(ValueError, match=words):
            detector.score_samples(wrong)
