"""Masks worked out by hand, and the draw against the cumulative distribution."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.torch import filters
from backflip.generate.torch.engine import choose

P = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15]])
"""Most likely first: tokens 1, 3, 4, 0, 2."""


def kept(logits: torch.Tensor) -> list[int]:
    return torch.isfinite(logits[0]).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [1]), (2, [1, 3]), (4, [0, 1, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, None)]
)
def test_top_k_keeps_the_k_most_likely(k: int, expected: list[int] | None):
    assert kept(filters.top_k(P.log(), k)) == (expected or [0, 1, 2, 3, 4])


def test_top_k_keeps_ties_with_the_last():
    tied = torch.tensor([[0.4, 0.2, 0.2, 0.1, 0.1]]).log()
    assert kept(filters.top_k(tied, 2)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.01, [1]), (0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 3, 4]),
        (0.94, [0, 1, 3, 4]), (0.96, [0, 1, 2, 3, 4]), (1.0, [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_top_p_keeps_the_smallest_set_that_holds_p(p: float, expected: list[int]):
    """0.4 | 0.7 | 0.85 | 0.95 | 1: the token that passes p belongs to the set."""
    assert kept(filters.top_p(P.log(), p)) == expected


def test_top_p_beyond_the_few_candidates_tried_first():
    """1000 equally likely tokens but one: half the mass needs about half of them."""
    torch.manual_seed(0)
    logits = torch.rand(2, 1000) * 0.01
    for p in (0.1, 0.5, 0.9):
        probs = filters.top_p(logits, p).softmax(-1).gt(0) * logits.softmax(-1)
        assert (probs.sum(-1) >= p - 1e-5).all()
        assert (probs.sum(-1) < p + 0.0012).all()


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, [0, 1, 2, 3, 4]), (0.2, [0, 1, 3, 4]), (0.3, [1, 3, 4]), (0.7, [1, 3]), (1.0, [1])],
)
def test_min_p_compares_with_the_most_likely(p: float, expected: list[int]):
    """Thresholds 0.08, 0.12, 0.28, 0.4."""
    assert kept(filters.min_p(P.log(), p)) == expected


def test_bias_vocabulary_and_forbidden_tokens_touch_nothing_else():
    logits = torch.zeros(2, 4)
    assert filters.biased(logits, {1: 2.0, 3: -math.inf}).tolist() == [[0, 2, 0, -math.inf]] * 2
    assert filters.within_vocabulary(logits, 3).tolist() == [[0, 0, 0, -math.inf]] * 2
    rows = torch.tensor([True, False])
    banned = filters.without(logits, torch.tensor([0, 2]), rows)
    assert banned.tolist() == [[-math.inf, 0, -math.inf, 0], [0, 0, 0, 0]]
    assert not logits.any()


def test_a_draw_is_the_inverse_of_the_cumulative_distribution():
    """Cumulative 0.1, 0.5, 0.55, 0.85, 1; the ends of [0, 1) included."""
    u = torch.tensor([0.0, 0.09, 0.11, 0.49, 0.51, 0.56, 0.84, 0.86, 1 - 1e-17]).double()
    tokens, logp = filters.draw(P.log().expand(len(u), -1), u)
    assert tokens.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    torch.testing.assert_close(logp.exp(), P[0, tokens])


def test_a_draw_from_a_long_vocabulary_passes_u_where_the_exact_sum_does():
    """600 tokens are three blocks, the last one torn; u lies in the middle of a token's share."""
    torch.manual_seed(0)
    logits = torch.randn(1, 600) * 3
    shares = logits.double().softmax(-1)[0]
    middles = shares.cumsum(0) - shares / 2
    wide = shares > 1e-5  # of narrower ones float32 cannot hit the middle
    tokens, logp = filters.draw(logits.expand(int(wide.sum()), -1), middles[wide])
    assert tokens.tolist() == wide.nonzero()[:, 0].tolist()
    torch.testing.assert_close(logp.double(), shares[wide].log(), atol=1e-5, rtol=0)


def test_a_forbidden_token_is_never_drawn_not_even_at_the_ends():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(3, -1)
    u = torch.tensor([0.0, 0.5, 1 - 1e-17]).double()
    assert filters.draw(logits, u)[0].tolist() == [1, 3, 3]
    for first, last in ((255, 256), (3, 511), (300, 301)):
        wide = torch.full((3, 512), -math.inf)
        wide[:, [first, last]] = 0.0
        assert filters.draw(wide, u)[0].tolist() == [first, last, last]


def test_the_behaviour_is_what_was_drawn_from_and_the_policy_is_not_filtered():
    """Top-2 of P leaves 4/7 and 3/7; at temperature 1/2 they are squared first."""
    logits, u, short = P.log(), torch.tensor([0.0]).double(), torch.tensor([False])
    token, logp, drawn = choose(logits, u, short, SamplingParams(top_k=2))
    assert token.tolist() == [1]
    assert logp.exp().tolist() == pytest.approx([0.4])
    assert drawn.exp().tolist() == pytest.approx([4 / 7])
    _, logp, drawn = choose(logits, u, short, SamplingParams(top_k=2, temperature=0.5))
    squares = P.square()[0]
    assert logp.exp().tolist() == pytest.approx([float(squares[1] / squares.sum())])
    assert drawn.exp().tolist() == pytest.approx([16 / 25])
    _, logp, drawn = choose(logits, u, short, SamplingParams(temperature=0.0))
    assert (logp.exp().tolist(), drawn.tolist()) == ([pytest.approx(0.4)], [0.0])


def test_top_p_is_taken_after_the_temperature():
    """Squared: 16, 9, 2.25, 1, 0.25 of 28.5; two hold 0.877, at temperature 1 only 0.7."""
    u, short = torch.tensor([1 - 1e-9]).double(), torch.tensor([False])
    for temperature, last in ((0.5, 3), (1.0, 4)):
        params = SamplingParams(top_p=0.8, temperature=temperature)
        token, _, _ = choose(P.log(), u, short, params)
        assert token.tolist() == [last]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_tokens": 0}, "max_tokens must be 1 or more, got 0"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens (9) is beyond max_tokens (8)"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p must lie in (0, 1], got 0.0"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"stop_tokens": (-1,)}, "negative token"),
        ({"stop_strings": ("",)}, "empty stop string"),
        ({"logit_bias": {3: math.nan}}, "logit bias"),
        ({"logit_bias": {-3: 1.0}}, "logit_bias"),
        ({"vocab_size": 0}, "vocab_size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, said: str):
    with pytest.raises(UserError) as error:
        SamplingParams(**settings)
    assert said in str(error.value)
