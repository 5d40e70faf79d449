"""Every row is dealt once, each rank gets as many pieces, and shares are even."""

from __future__ import annotations

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
    prompts = [[100 + n] * 4 for n, size in enumerate(sizes) for _ in range(size)]
    answers = [
        [9 + m] * length for size, length in zip(sizes, lengths, strict=True) for m in range(size)
    ]
    steps = TokenSteps.of(prompts, answers)
    group = torch.arange(count).repeat_interleave(torch.tensor(sizes))
    ended = torch.ones(len(group), dtype=torch.bool)
    batch = Rollouts(steps, steps.mask, torch.zeros(steps.mask.shape), group, ended)
    with settled(Gang(0, ranks, 0.0, None)):
        pieces = plan(batch, data.draw(st.sampled_from([60, 10_000])))
    rows = torch.cat(pieces).sort().values
    assert rows.equal(torch.arange(len(steps)))

    def size_of(piece: torch.Tensor) -> int:
        return forest_size([steps.sequence(int(row)) for row in piece])

    dealt = [Gang(rank, ranks, 0.0, None).deal(pieces) for rank in range(ranks)]
    loads = [sum(size_of(piece) for piece, counts in mine if counts) for mine in dealt]
    mean, largest = sum(loads) / ranks, max(map(size_of, pieces))
    assert max(loads) <= max(1.1 * mean, mean + largest), "no share is a whole piece too large"


@pytest.mark.parametrize("room", ["algorithms", "functional", "data", "reward/verifiers"])
def test_no_algorithm_sees_a_rank(room: str):
    files = list((ROOT / "src" / "backflip" / room).rglob("*.py"))
    assert files
    assert not [file for file in files if "distributed.world" in file.read_text(encoding="utf-8")]
