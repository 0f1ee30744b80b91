"""Randomness: seeds make results, and nobody else's generator moves."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skgenad._tensors import draws
from skgenad._tensors.foreign import _on_default_generator, _with_generator, may_draw, own_draws
from skgenad._tensors.seeds import derived_seed, draw_seed, seeded

from ._settings import normal_rows, over_variants, tiny

all_variants = over_variants(slowly=True)


def test_a_seed_decides_what_a_block_draws(global_rng_untouched):
    drawn = []
    for seed in (0, 0, 1):
        with seeded(seed):
            drawn.append(draws.rand(4))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_block_that_fails_leaves_no_generator_behind():
    with pytest.raises(RuntimeError, match="on purpose"), seeded(0):
        raise RuntimeError("on purpose")
    with pytest.raises(RuntimeError, match="outside of `seeded`"):
        draws.rand(1)


def test_blocks_nest():
    with seeded(0):
        first = draws.rand(2)
        with seeded(5):
            draws.rand(2)
        second = draws.rand(2)
    with seeded(0):
        assert torch.equal(draws.rand(4), torch.cat([first, second]))


def test_a_thread_knows_nothing_of_the_blocks_of_others():
    with seeded(0), ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="outside of `seeded`"):
            pool.submit(draws.rand, 1).result()


def test_draws_are_torchs_own_after_its_manual_seed():
    x = torch.zeros(5, 3, 4, 4).contiguous(memory_format=torch.channels_last) + 1
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    pairs = [
        (lambda: torch.rand(3, 5), lambda: draws.rand(3, 5)),
        (lambda: torch.randn(40), lambda: draws.randn(40)),
        (
            lambda: torch.randn(3, dtype=torch.float64),
            lambda: draws.randn(3, dtype=torch.float64),
        ),
        (lambda: torch.rand_like(x), lambda: draws.rand_like(x)),
        (lambda: torch.randn_like(x), lambda: draws.randn_like(x)),
        (lambda: torch.randint(7, (9,)), lambda: draws.randint(7, (9,))),
        (lambda: torch.randint(2**31 - 1, ()), lambda: torch.tensor(draws.seed())),
        (lambda: torch.randperm(20), lambda: draws.randperm(20)),
        (
            lambda: torch.multinomial(weights, 9, replacement=True),
            lambda: draws.multinomial(weights, 9),
        ),
        (lambda: F.dropout(x, 0.3), lambda: draws.Dropout(0.3)(x)),
        (lambda: F.dropout2d(x, 0.3), lambda: draws.Dropout2d(0.3)(x)),
    ]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        wanted = [theirs() for theirs, _ in pairs]
    with seeded(3):
        for want, (_, ours) in zip(wanted, pairs, strict=True):
            got = ours()
            assert torch.equal(got, want) and got.stride() == want.stride()


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("kind", [draws.Dropout, draws.Dropout2d])
def test_nothing_is_dropped_but_in_training(kind, share):
    x = torch.ones(2, 3, 4, 4)
    assert kind(share).eval()(x) is x
    if share == 0:
        assert kind(share)(x) is x


# ---- code of others -----------------------------------------------------------------------


def _foreign_draws():
    """Yield draws of code that knows no generator but torch's default one."""
    x = torch.linspace(0.1, 0.9, 24).reshape(1, 3, 8)
    yield torch.rand(3)
    yield torch.randint(2, 5, (3,))
    yield torch.randperm(6)
    yield torch.randn_like(x)
    yield torch.randint_like(x, 4)
    yield torch.normal(x, x)
    yield torch.bernoulli(x)
    yield torch.multinomial(x[0], 2)
    yield torch.empty(4).exponential_()
    yield F.dropout(x, 0.3)
    yield F.alpha_dropout(x, 0.3, training=True)
    yield F.rrelu(-x, training=True)
    yield F.gumbel_softmax(x)
    yield F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)
    yield nn.Linear(3, 4).weight
    yield nn.init.orthogonal_(torch.empty(3, 3))
    yield nn.LSTM(8, 4, num_layers=2, dropout=0.3)(x)[0]
    yield nn.TransformerEncoderLayer(8, 2)(x)
    yield torch.distributions.Gamma(1.0, 1.0).sample((2,))
    yield torch.distributions.Normal(0.0, 1.0).rsample((2,))


def test_draws_of_others_come_from_our_generators(global_rng_untouched):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        wanted = list(_foreign_draws())
    with seeded(4), own_draws():
        got = list(_foreign_draws())
    assert all(map(torch.equal, got, wanted))


def test_draws_of_others_move_nothing_in_inference_mode_either(global_rng_untouched):
    with torch.inference_mode(), seeded(4), own_draws():
        assert len(list(_foreign_draws())) == 20


def test_draws_of_others_outside_of_a_block_are_refused(global_rng_untouched):
    with pytest.raises(RuntimeError, match="outside of `seeded`"), own_draws():
        nn.Linear(2, 3)


def test_a_generator_that_others_name_is_theirs():
    generator = torch.Generator().manual_seed(1)
    with seeded(4), own_draws():
        got = torch.rand(3, generator=generator), torch.empty(3).normal_(generator=generator)
    generator.manual_seed(1)
    wanted = torch.rand(3, generator=generator), torch.empty(3).normal_(generator=generator)
    assert all(map(torch.equal, got, wanted))


def test_every_operator_that_draws_is_known():
    """An operator of a new torch that draws and takes no generator shows here."""
    packets = (getattr(torch.ops.aten, name) for name in dir(torch.ops.aten))
    overloads = (getattr(p, o) for p in packets if hasattr(p, "overloads") for o in p.overloads())
    drawing = [f for f in overloads if torch.Tag.nondeterministic_seeded in f.tags]
    left = {f.overloadpacket.__name__ for f in drawing if _with_generator(f) is None}
    composed = {f.overloadpacket.__name__ for f in drawing if f._can_decompose()}
    kernels = ("attention", "cudnn_rnn", "miopen_rnn", "native_dropout")
    assert [name for name in left - composed if not any(k in name for k in kernels)] == []
    assert len(drawing) > 100


def test_a_kernel_with_the_default_generator_alone_puts_it_back(global_rng_untouched):
    x = torch.ones(200)
    with seeded(4):
        one, two = (
            _on_default_generator(torch.ops.aten.dropout.default, (x, 0.5, True), {})
            for _ in range(2)
        )
    with seeded(4):
        again = _on_default_generator(torch.ops.aten.dropout.default, (x, 0.5, True), {})
    assert torch.equal(one, again) and not torch.equal(one, two)


def test_dropout_as_gpus_do_it():
    x = torch.full((1000,), 3.0)
    with seeded(0), own_draws():
        y, kept = torch.native_dropout(x, 0.25, True)
        same, all_kept = torch.native_dropout(x, 0.25, False)
    assert torch.equal(y, torch.where(kept, 4.0, 0.0)) and 700 < int(kept.sum()) < 800
    assert torch.equal(same, x) and bool(all_kept.all())


class _Strange(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5)


@pytest.mark.parametrize(
    ("module", "draws_itself"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()), False),
        (draws.Dropout(0.3), False),
        (nn.LSTM(2, 3), False),
        (nn.LSTM(2, 3, num_layers=2, dropout=0.2), True),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
        (nn.TransformerEncoderLayer(4, 2), True),
        (_Strange(), True),
    ],
    ids=str,
)
def test_modules_that_may_draw_are_known(module, draws_itself):
    assert may_draw(module) == draws_itself


def test_a_hook_may_draw():
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda module, args, y: torch.rand_like(y))
    assert may_draw(module)


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
