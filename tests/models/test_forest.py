"""What the forest looks like, without any model."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backflip.data.batches import TokenSteps
from backflip.models.attention import _by_node, _new_block_mask
from backflip.models.forest import forest_size, plant
from backflip.models.packing import plan

words = st.lists(st.integers(0, 3), min_size=1, max_size=14)


@given(st.lists(words, min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_every_sequence_can_be_read_back(sequences):
    forest = plant(sequences)
    for row, sequence in enumerate(sequences):
        place = forest.place[row, : len(sequence)]
        assert forest.tokens[place].tolist() == sequence
        assert forest.positions[place].tolist() == list(range(len(sequence)))


@given(st.lists(words, min_size=1, max_size=9))
@settings(max_examples=200, deadline=None)
def test_a_token_sees_exactly_its_own_past(sequences):
    """k ≤ q < subtree_end[k] holds for the prefix of every sequence and for nothing else."""
    forest = plant(sequences)
    index = torch.arange(len(forest))
    seen = (index[None] <= index[:, None]) & (index[:, None] < forest.subtree_end[None])
    for row, sequence in enumerate(sequences):
        for p in range(len(sequence)):
            query = forest.place[row, p]
            assert set(seen[query].nonzero()[:, 0].tolist()) == set(
                forest.place[row, : p + 1].tolist()
            )


def test_a_shared_prompt_is_held_once():
    prompt = list(range(10, 30))
    sequences = [prompt + [i] * 7 for i in range(8)]
    assert forest_size(sequences) == 20 + 8 * 7


def test_equal_sequences_are_one():
    assert forest_size([[1, 2, 3, 4, 5]] * 6) == 5


def test_flex_attention_draws_the_same_mask_as_the_nodes_do():
    """The CUDA path, run eagerly on a CPU, against the CPU path."""
    from torch.nn.attention.flex_attention import flex_attention

    torch.manual_seed(0)
    prompt = list(range(20, 40))
    forest = plant([[*prompt, 1, 2, 3, 4, 5, 6], [*prompt, 1, 2, 3, 4, 9], [7] * 9, prompt[:6]])
    q, k, v = (torch.randn(1, 2, len(forest), 16) for _ in range(3))
    for window in (None, 7):
        expected = _by_node(q, k, v, forest, 0.25, window, None)
        actual = flex_attention(q, k, v, block_mask=_new_block_mask(forest, window), scale=0.25)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=9), st.integers(5, 60))
@settings(max_examples=100, deadline=None)
def test_a_plan_holds_every_row_once_and_keeps_the_budget(rows, budget):
    steps = TokenSteps.of([p for p, _ in rows], [a for _, a in rows])
    pieces = plan(steps, budget)
    assert sorted(torch.cat(pieces).tolist()) == list(range(len(rows)))
    for piece in pieces:
        size = forest_size([steps.sequence(i) for i in piece.tolist()])
        assert size <= budget or len(piece) == 1
