"""Randomness: seeds make results, and nobody else's generator moves."""

import numpy as np
import pytest
import torch

from skgenad._tensors.seeds import derived_seed, draw_seed, seeded

from ._settings import VARIANT_IDS, VARIANTS, normal_rows, tiny

all_variants = pytest.mark.parametrize(("name", "extra"), VARIANTS, ids=VARIANT_IDS)


def test_a_seed_decides_what_a_block_draws():
    draws = []
    for seed in (0, 0, 1):
        torch.rand(3)  # the state outside does not matter
        with seeded(seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_block_gives_the_state_back_even_when_it_fails(global_rng_untouched):
    with pytest.raises(RuntimeError, match="on purpose"), seeded(0):
        torch.rand(3)
        raise RuntimeError("on purpose")


def test_blocks_nest():
    with seeded(0):
        first = torch.rand(2)
        with seeded(5):
            torch.rand(2)
        second = torch.rand(2)
    with seeded(0):
        assert torch.equal(torch.rand(4), torch.cat([first, second]))


def test_draw_seed_follows_scikit_learn():
    assert draw_seed(3) == draw_seed(3) != draw_seed(4)
    generator = np.random.RandomState(3)
    assert [draw_seed(generator), draw_seed(generator)] != [draw_seed(3)] * 2
    with pytest.raises(ValueError, match="'x' cannot be used to seed"):
        draw_seed("x")


def test_derived_seeds_differ_between_calls_and_seeds():
    seeds = {derived_seed(seed, call) for seed in range(30) for call in range(2, 30)}
    assert len(seeds) == 30 * 28
    assert derived_seed(1, 2) == derived_seed(1, 2)


@all_variants
def test_the_same_seed_gives_the_same_detector(name, extra):
    X = normal_rows()
    extra = {**extra, "calibration_fraction": 0.2}  # drawn at random, too
    one, two = (tiny(name, **extra).fit(X) for _ in range(2))
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))
    assert one.offset_ == two.offset_
    other = tiny(name, **extra, random_state=1).fit(X)
    assert not np.array_equal(other.score_samples(X), one.score_samples(X))


@all_variants
def test_the_global_state_has_no_say_when_there_is_a_seed(name, extra):
    X = normal_rows()
    scores = []
    for state in (1, 2):
        np.random.seed(state)
        torch.manual_seed(state)
        scores.append(tiny(name, **extra).fit(X).partial_fit(X).score_samples(X))
    np.testing.assert_array_equal(*scores)


@all_variants
def test_no_global_generator_moves(name, extra, tmp_path, global_rng_untouched):
    X = normal_rows()
    detector = tiny(name, **extra, calibration_fraction=0.2).fit(X)
    detector.predict(X)
    detector.p_value(X)
    detector.save(tmp_path / "detector")
    type(detector).load(tmp_path / "detector").score_samples(X)
    detector.partial_fit(X)
    if name == "MPDR":
        detector.sample(3, n_steps=2, random_state=0)
        if detector.manifold != "identity":
            detector.on_manifold_score(X)


@all_variants
def test_scoring_has_no_randomness(name, extra):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X))


def test_a_random_state_object_goes_on_from_fit_to_fit():
    X = normal_rows()

    def two_fits():
        generator = np.random.RandomState(0)
        detector = tiny("Autoencoder", random_state=generator)
        return [detector.fit(X).score_samples(X) for _ in range(2)]

    first, second = two_fits()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two_fits(), [first, second])


def test_without_a_seed_numpys_global_one_decides_as_in_scikit_learn():
    X = normal_rows()
    scores = []
    for seed in (7, 7, 8):
        np.random.seed(seed)
        scores.append(tiny("Autoencoder", random_state=None).fit(X).score_samples(X))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
