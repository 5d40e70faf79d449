"""What answers say again, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.functional.statistics import pearson
from backflip.monitor.wording import boilerplate, hill, repeated, self_bleu, within_prompts

ABCD = [1, 2, 3, 4]


def test_an_answer_that_says_its_four_tokens_twice_repeats_one_of_five_4_grams():
    """1234, 2341, 3412, 4123, 1234: four different ones."""
    assert repeated([ABCD * 2]) == pytest.approx(0.2)
    assert repeated([[1, 2, 3, 4, 5, 6]]) == 0
    assert math.isnan(repeated([[1, 2]]))


def test_self_bleu_is_1_of_equal_siblings_and_0_of_those_that_share_nothing():
    assert self_bleu([ABCD, ABCD], ["a", "a"]) == pytest.approx(1.0)
    assert self_bleu([ABCD, [5, 6, 7, 8]], ["a", "a"]) == 0.0
    assert math.isnan(self_bleu([ABCD, ABCD], ["a", "b"]))


def test_self_bleu_by_hand():
    """1234 against 1256: precisions 2/4, (1+1)/(3+1), 1/3, 1/2 and equal lengths."""
    expected = (0.5 * 0.5 * (1 / 3) * 0.5) ** 0.25
    assert self_bleu([ABCD, [1, 2, 5, 6]], [0, 0]) == pytest.approx(expected)


def test_boilerplate_is_a_phrase_that_half_of_the_prompts_get():
    phrase = [9, 8, 7, 6, 5, 4]
    own = [[n, n + 1, n + 2, n + 3, n + 4, n + 5] for n in (10, 20, 30, 40)]
    assert boilerplate([*own], range(4)) == 0
    answers = [phrase + own[0], phrase + own[1], own[2], own[3]]
    assert boilerplate(answers, range(4)) == pytest.approx(12 / 36)
    assert math.isnan(boilerplate(answers[:3], range(3)))


def test_length_may_be_paid_for_within_prompts_and_not_across_them():
    """Long prompts' answers are long and score low; among siblings the longer one wins."""
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    lengths = torch.tensor([10, 12, 50, 52, 90, 92])
    scores = torch.tensor([5.0, 6.0, 3.0, 4.0, 1.0, 2.0])
    assert pearson(scores, lengths) < -0.9
    assert within_prompts(scores, lengths, group) == pytest.approx(1.0)
    assert math.isnan(within_prompts(scores[::2], lengths[::2], group[::2]))


def test_hills_index_tells_a_heavy_tail_from_a_light_one():
    """Pareto with exponent 1.5 has ξ = 2/3; a normal's estimate on as many is far below ½."""
    torch.manual_seed(0)
    heavy = torch.rand(20_000).pow(-1 / 1.5) * torch.randn(20_000).sign()
    assert hill(heavy) == pytest.approx(2 / 3, abs=0.07)
    assert hill(torch.randn(20_000)) < 0.35
    assert math.isnan(hill(torch.randn(50)))
