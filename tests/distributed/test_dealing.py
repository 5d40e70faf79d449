"""Every row is dealt once, each rank gets as many pieces, and shares are even."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backflip.data.batches import Rollouts, TokenSteps
from backflip.distributed.gang import Gang
from backflip.distributed.world import settled
from backflip.models.forest import forest_size
from backflip.models.packing import plan
from tests.distributed.torchrun import ROOT


@settings(max_examples=50)
@given(st.integers(0, 20), st.integers(2, 5))
def test_every_piece_counts_once_and_each_rank_gets_as_many(pieces: int, ranks: int):
    dealt = [Gang(rank, ranks, 0.0, None).deal(list(range(pieces))) for rank in range(ranks)]
    assert len({len(one) for one in dealt}) == 1
    counted = [piece for one in dealt for piece, counts in one if counts]
    assert sorted(counted) == list(range(pieces))
    idle = {piece for one in dealt for piece, counts in one if not counts}
    assert idle <= {pieces - 1}, "the smallest is repeated"


@pytest.mark.parametrize("ranks", [2, 3, 4])
@settings(max_examples=20)
@given(data=st.data())
def test_shares_are_even_where_there_are_groups_enough(ranks: int, data: st.DataObject):
    count = data.draw(st.integers(4 * ranks, 6 * ranks))
    sizes = data.draw(st.lists(st.integers(2, 4), min_size=count, max_size=count))
    lengths = data.draw(st.lists(st.integers(6, 14), min_size=count, max_size=count))
    loads, pieces = shares(sizes, lengths, ranks, data.draw(st.sampled_from([60, 10_000])))
    mean, largest = sum(loads) / ranks, max(pieces)
    assert max(loads) <= max(1.1 * mean, mean + largest), "no share is a whole piece too large"


@pytest.mark.parametrize("ranks", [2, 3, 4])
@settings(max_examples=20)
@given(data=st.data())
def test_shares_are_within_a_tenth_where_no_group_is_a_tenth_of_one(
    ranks: int, data: st.DataObject
):
    """Largest first into the emptiest bin, bins differ by a piece at most, and so do shares, which
    take one of every few bins in the order of their size: by no more than the largest group.
    """
    count = data.draw(st.integers(14 * ranks, 18 * ranks))
    lengths = data.draw(st.lists(st.integers(12, 16), min_size=count, max_size=count))
    assert max(lengths) + 2 <= 0.1 * (2 + min(lengths)) * count / ranks
    loads, _ = shares([1] * count, lengths, ranks, data.draw(st.sampled_from([60, 10_000])))
    assert max(loads) <= 1.1 * sum(loads) / ranks


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_shares_are_within_a_tenth_where_there_are_four_groups_a_rank(ranks: int, seed: int):
    """Of 2 to 400 tokens an answer, as often below 30 as above: the largest are cut."""
    drawn = random.Random(seed)
    lengths = [round(10 ** drawn.uniform(0.3, 2.6)) for _ in range(4 * ranks)]
    loads, _ = shares([4] * len(lengths), lengths, ranks, 10_000)
    assert max(loads) <= 1.1 * sum(loads) / ranks


def shares(
    sizes: list[int], lengths: list[int], ranks: int, budget: int
) -> tuple[list[int], list[int]]:
    """Forest tokens of each rank, and of each piece; of groups of answers, all of one length."""
    prompts = [[100 + n] * 2 for n, size in enumerate(sizes) for _ in range(size)]
    answers = [
        [9 + m] * length for size, length in zip(sizes, lengths, strict=True) for m in range(size)
    ]
    steps = TokenSteps.of(prompts, answers)
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    ended = torch.ones(len(group), dtype=torch.bool)
    batch = Rollouts(steps, steps.mask, torch.zeros(steps.mask.shape), group, ended)
    with settled(Gang(0, ranks, 0.0, None)):
        pieces = plan(batch, budget)
    assert torch.cat(pieces).sort().values.equal(torch.arange(len(steps)))

    def size_of(piece: torch.Tensor) -> int:
        return forest_size([steps.sequence(int(row)) for row in piece])

    dealt = [Gang(rank, ranks, 0.0, None).deal(pieces) for rank in range(ranks)]
    loads = [sum(size_of(piece) for piece, counts in mine if counts) for mine in dealt]
    return loads, [size_of(piece) for piece in pieces]


@pytest.mark.parametrize("room", ["algorithms", "functional", "data", "reward/verifiers"])
def test_no_algorithm_sees_a_rank(room: str):
    files = list((ROOT / "src" / "backflip" / room).rglob("*.py"))
    assert files
    assert not [file for file in files if "distributed.world" in file.read_text(encoding="utf-8")]
