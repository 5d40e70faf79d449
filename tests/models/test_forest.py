"""What the forest looks like, without any model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backflip.data.batches import TokenSteps
from backflip.models import attention
from backflip.models.attention import Sight, _by_node, _flex
from backflip.models.forest import forest_size, plant
from backflip.models.packing import plan

ANSWERS = [[*range(200, 290)], [*range(200, 230), *range(300, 390)], [*range(400, 410)]]
PROMPTS = [[*range(150)], [*range(500, 570)]]
SEQUENCES = [*([*prompt, *answer] for prompt in PROMPTS for answer in ANSWERS), [9] * 20]
"""Prompts longer and shorter than a block of a mask; some answers agree on their first words."""
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


@pytest.fixture
def traced_flex(monkeypatch):
    """FlexAttention compiled as for a device, as one graph, but carried out by plain products.

    No CPU kernel has a backward pass, so torch refuses gradients here; the traced graph has one.
    """
    from torch.nn.attention import flex_attention as module

    monkeypatch.setattr(module, "_validate_device", lambda *_: None)
    compiled = torch.compile(
        module.flex_attention, dynamic=True, fullgraph=True, backend="aot_eager"
    )
    monkeypatch.setattr(attention, "_compiled_flex", lambda: compiled)
    yield
    torch._dynamo.reset()


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("groups", [4, 2], ids=["each its own keys", "shared keys"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_cuda)])
def test_flex_attention_is_the_attention_of_the_nodes_forward_and_backward(
    device, window, softcap, groups, request
):
    """Compiled, with branches that begin in one block of the mask and end in another."""
    if device == "cpu":
        request.getfixturevalue("traced_flex")
    forest = plant(SEQUENCES)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, len(forest), 32) for heads in (4, groups, groups)]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    weights = torch.randn(1, 4, len(forest), 32, generator=generator)

    def attended(attend, device):
        given = [x.detach().to(device).requires_grad_() for x in inputs]
        out = attend(*given, forest.to(device), 0.3, Sight(window), softcap)
        (out * weights.to(device)).sum().backward()
        return [out.detach().cpu(), *(x.grad.cpu() for x in given)]

    names = ("answers", "queries' gradient", "keys' gradient", "values' gradient")
    pairs = zip(names, attended(_flex, device), attended(_by_node, "cpu"), strict=True)
    for name, actual, expected in pairs:
        torch.testing.assert_close(
            actual, expected, atol=1e-3, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_the_attention_of_the_nodes_is_that_of_each_sequence_alone(window, softcap):
    """The definition, one sequence at a time: what both devices are held to."""
    forest = plant(SEQUENCES)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, len(forest), 32, generator=generator)
    k, v = (torch.randn(1, 2, len(forest), 32, generator=generator) for _ in range(2))
    actual = _by_node(q, k, v, forest, 0.3, Sight(window), softcap)
    for row, sequence in zip(forest.place, SEQUENCES, strict=True):
        place = row[: len(sequence)]
        keys, values = (x[:, :, place].repeat_interleave(2, 1) for x in (k, v))
        scores = q[:, :, place] @ keys.transpose(2, 3) * 0.3
        if softcap:
            scores = softcap * (scores / softcap).tanh()
        apart = torch.arange(len(place))[:, None] - torch.arange(len(place))[None]
        unseen = (apart < 0) | (apart >= (window or len(place)))
        expected = scores.masked_fill(unseen, -torch.inf).softmax(-1) @ values
        torch.testing.assert_close(actual[:, :, place], expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=9), st.integers(5, 60))
@settings(max_examples=100, deadline=None)
def test_a_plan_holds_every_row_once_and_keeps_the_budget(rows, budget):
    steps = TokenSteps.of([p for p, _ in rows], [a for _, a in rows])
    pieces = plan(steps, budget)
    assert sorted(torch.cat(pieces).tolist()) == list(range(len(rows)))
    for piece in pieces:
        size = forest_size([steps.sequence(i) for i in piece.tolist()])
        assert size <= budget or len(piece) == 1
