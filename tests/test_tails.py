"""Tails: order without end, conformal at the references, uniform under the null."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skgenad._tensors import tails
from skgenad._tensors.tails import Tail

pytestmark = pytest.mark.usefixtures("drawing")

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 30)
values = arrays(np.float64, sizes, elements=st.integers(-5, 5).map(float))


def learned(references):
    tail = Tail()
    tail.learn(torch.as_tensor(np.asarray(references, dtype=np.float64)))
    return tail


def at(tail, places):
    return tail(torch.as_tensor(np.asarray(places, dtype=np.float64))).numpy()


@examples
@given(values)
def test_at_a_reference_it_is_the_conformal_p_value(references):
    p = [(1 + np.sum(references >= u)) / (1 + len(references)) for u in references]
    np.testing.assert_allclose(np.exp(-at(learned(references), references)), p, rtol=1e-12)


@examples
@given(values, arrays(np.float64, 20, elements=st.floats(-20, 20)))
def test_between_references_it_promises_no_more_than_the_conformal_p_value(references, places):
    p = np.exp(-at(learned(references), places))
    inside = places <= references.max()
    conformal = np.array([(1 + np.sum(references >= u)) / (1 + len(references)) for u in places])
    assert (p[inside] >= conformal[inside] * (1 - 1e-12)).all()


@examples
@given(values, st.lists(st.integers(-40, 40), min_size=2, max_size=20, unique=True))
def test_a_larger_value_has_a_larger_result(references, places):
    places = np.sort(np.array(places) / 4)
    assert (np.diff(at(learned(references), places)) > 0).all()


def test_far_values_keep_their_order_and_are_finite():
    far = at(learned(np.random.RandomState(0).randn(50)), [-1e300, -1e12, 0, 1e3, 1e12, 1e300])
    assert np.isfinite(far).all() and (np.diff(far) > 0).all()


def test_beyond_the_references_it_goes_on_by_their_upper_half():
    tail = learned([0.0, 1.0, 2.0, 3.0, 7.0])
    last = np.log(6 / 2)
    np.testing.assert_allclose(at(tail, [7.0, 12.0, 17.0]), last + np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(at(tail, [-2.0]), [-1.0])


@pytest.mark.parametrize(
    "references", [[0.0, 1e-310], [1.0, 1.0 + 2**-52], [-1e307, 1e307], [1e307] * 3]
)
def test_extreme_references_give_finite_numbers_that_never_fall(references):
    largest = np.finfo(np.float64).max / 4
    places = [-largest, -1e300, -1.0, 0.0, 1e-310, 1.0, 1.0 + 2**-52, 1e300, 1e307, largest]
    result = at(learned(references), places)
    assert np.isfinite(4 * result).all() and (np.diff(result) >= 0).all()


def test_all_references_the_same_are_no_division_by_zero():
    np.testing.assert_allclose(at(learned([3.0] * 9), [2.0, 3.0, 4.0]), [-1.0, 0.0, 1.0])


@pytest.mark.parametrize("n", [20, 300])
def test_fresh_values_from_where_the_references_come_have_uniform_p_values(n):
    rng = np.random.RandomState(1)
    # Averaged over references, since those of one draw are no more exact than their number.
    p = np.concatenate([np.exp(-at(learned(rng.randn(n)), rng.randn(20))) for _ in range(300)])
    for level in (0.05, 0.1, 0.3, 0.7):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / len(p))
        assert np.mean(p <= level) >= level - 1.5 / n - 3 * np.sqrt(level * (1 - level) / len(p))


def test_of_many_references_some_are_kept(monkeypatch):
    references = np.random.RandomState(0).randn(5000)
    whole = learned(references)
    monkeypatch.setattr(tails, "MOST_REFERENCES", 500)
    thinned = learned(references)
    assert len(thinned.places) <= 500
    places = np.linspace(-6, 6, 200)
    np.testing.assert_allclose(at(thinned, places), at(whole, places), atol=0.6)
    assert (np.diff(at(thinned, places)) > 0).all()


def test_a_state_of_any_length_is_loaded():
    tail, other = learned(np.arange(9.0)), Tail()
    other.load_state_dict(tail.state_dict())
    places = np.linspace(-3, 12, 40)
    np.testing.assert_array_equal(at(other, places), at(tail, places))
    np.testing.assert_array_equal(at(copy.deepcopy(tail), places), at(tail, places))
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict({**tail.state_dict(), "slopes": torch.ones(3)})
    for size in (0, 5):
        with pytest.raises(ValueError, match="places, heights with"):
            other.load_state_dict({**tail.state_dict(), "places": torch.ones(size)})
