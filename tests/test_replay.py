"""The replay buffer: how often it is used, what it keeps, and that it follows its owner."""

import copy
import pickle

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from skgenad.energies._langevin import ReplayBuffer

pytestmark = pytest.mark.usefixtures("drawing")


def numbered(*numbers):
    """Rows of two columns that hold the numbers."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None].expand(-1, 2).clone()


def kept(buffer):
    return sorted(buffer.rows[:, 0].int().tolist())


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.95, 1.0])
def test_hit_rate_is_what_was_asked(ratio):
    buffer = ReplayBuffer(50, ratio, 2)
    buffer.push(numbered(*range(1, 51)))
    drawn = buffer.draw(torch.zeros(5000, 2))
    hits = int((drawn[:, 0] > 0).sum())
    if ratio in (0.0, 1.0):
        assert hits == 5000 * ratio
    else:
        assert binomtest(hits, 5000, ratio).pvalue > 1e-4
        # All kept rows come back, about equally often.
        counts = drawn[:, 0].int().bincount(minlength=51)[1:]
        assert counts.min() > 0 and counts.max() < 4 * hits / 50


def test_a_buffer_of_the_batch_size_continues_every_chain_as_itself():
    buffer = ReplayBuffer(5, 1.0, 2)
    for _ in range(3):
        drawn = buffer.draw(numbered(0, 1, 2, 3, 4))
        buffer.push(drawn + 10)
    assert buffer.rows[:, 0].tolist() == [30.0, 31.0, 32.0, 33.0, 34.0]


def test_an_empty_buffer_gives_the_fresh_rows():
    fresh = torch.randn(4, 2)
    assert torch.equal(ReplayBuffer(10, 1.0, 2).draw(fresh), fresh)


def test_a_row_comes_back_whole():
    buffer = ReplayBuffer(10, 0.5, 2)
    buffer.push(numbered(*range(1, 11)))
    drawn = buffer.draw(numbered(*range(-200, 0)))
    assert torch.equal(drawn[:, 0], drawn[:, 1])


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 10, 11, 25])
def test_the_newest_rows_are_kept_and_never_more_than_the_size(batch):
    buffer = ReplayBuffer(10, 0.9, 2)
    for start in range(0, 60, batch):
        buffer.push(numbered(*range(start, start + batch)))
        seen = start + batch
        assert kept(buffer) == list(range(max(0, seen - 10), seen))
        assert len(buffer) == min(seen, 10)


def test_a_buffer_of_no_rows_keeps_none():
    buffer = ReplayBuffer(0, 1.0, 2)
    buffer.push(numbered(1, 2))
    fresh = numbered(3, 4)
    assert len(buffer) == 0 and torch.equal(buffer.draw(fresh), fresh)


def test_it_keeps_values_and_not_what_computed_them():
    buffer = ReplayBuffer(10, 0.9, 2)
    row = torch.ones(1, 2, requires_grad=True)
    buffer.push(row * 2)
    buffer.push(row * 3)
    assert not buffer.rows.requires_grad


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_a_copy_goes_on_where_the_original_was(duplicate):
    buffer = ReplayBuffer(4, 0.5, 2)
    buffer.push(numbered(1, 2, 3, 4, 5))
    twin = duplicate(buffer)
    for one in (buffer, twin):
        one.push(numbered(6))
    assert torch.equal(twin.rows, buffer.rows)
    assert kept(twin) == [3, 4, 5, 6]
    twin.push(numbered(7))
    assert kept(buffer) == [3, 4, 5, 6]


@pytest.mark.parametrize("n_pushed", [0, 3, 4, 6, 8])
def test_a_buffer_that_takes_over_goes_on_as_the_other_would(n_pushed):
    old, new = ReplayBuffer(4, 0.5, 2), ReplayBuffer(4, 0.9, 2)
    for number in range(n_pushed):
        old.push(numbered(number))
    new.take_over(old)
    for step in range(5):
        assert torch.equal(new.rows, old.rows) and new.ratio == 0.9
        for buffer in (old, new):
            buffer.push(numbered(10 + step))


@pytest.mark.parametrize("size", [0, 1, 3, 5, 9])
@pytest.mark.parametrize("n_pushed", [0, 2, 4, 6, 7])
def test_a_buffer_of_another_size_takes_over_the_latest_rows_that_fit(n_pushed, size):
    old, new = ReplayBuffer(4, 0.5, 2), ReplayBuffer(size, 0.5, 2)
    new.push(numbered(-1, -2, -3))
    for number in range(n_pushed):
        old.push(numbered(number))
    new.take_over(old)
    wanted = list(range(max(0, n_pushed - min(4, size)), n_pushed)) if size else []
    assert new.rows[:, 0].int().tolist() == wanted
    new.push(numbered(*range(20, 20 + size)))
    assert kept(new) == list(range(20, 20 + size)) and len(old) == min(4, n_pushed)


def test_states_of_another_length_are_not_taken_over():
    old, new = ReplayBuffer(4, 0.5, 3), ReplayBuffer(4, 0.5, 2)
    old.push(torch.ones(2, 3))
    new.take_over(old)
    assert new.rows.shape == (0, 2)


def test_it_follows_its_owner_but_not_into_the_weights():
    owner = nn.Sequential(ReplayBuffer(4, 0.5, 2))
    owner[0].push(numbered(1, 2))
    assert not owner.state_dict()
    assert owner.double()[0].rows.dtype == torch.float64
    assert owner.to("meta")[0].rows.device.type == "meta"
