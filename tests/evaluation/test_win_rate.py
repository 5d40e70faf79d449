"""Win rates by hand, and what rounds of them look like."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from backflip.data.batches import Rollouts, TokenSteps
from backflip.errors import UserError
from backflip.evaluation.win_rate import compare, round_row, rounds_table, win_rate
from backflip.reward.protocol import Judgement
from backflip.sampling.samples import Sampled


def sampled(*prompts, lengths=None, offset=50):
    """Samples with these scores, prompt by prompt."""
    scores = [score for prompt in prompts for score in prompt]
    group = [number for number, prompt in enumerate(prompts) for _ in prompt]
    lengths = lengths or [2] * len(scores)
    steps = TokenSteps.of([[1, offset + g] for g in group], [[7] * length for length in lengths])
    finished = torch.ones(len(scores)) > 0
    rollouts = Rollouts(steps, steps.mask, steps.mask * 0.0, torch.tensor(group), finished)
    return Sampled(rollouts, torch.tensor(scores))


def test_wins_count_one_ties_half_and_prompts_alike():
    """Prompt 0: 3 of 4 pairs and a tie; prompt 1: one loss."""
    ours = sampled([2.0, 1.0], [0.0])
    theirs = sampled([0.0, 1.0], [5.0])
    said = win_rate(ours, theirs)
    assert said.rate.estimate == pytest.approx((3.5 / 4 + 0) / 2)
    assert (said.wins, said.ties, said.losses) == (3, 1, 1)
    theirs = stats.binomtest(1, 2).proportion_ci(0.95, method="wilson")
    assert 0 < said.rate.low < theirs.low < said.rate.estimate < said.rate.high < theirs.high
    assert said.rate.units == 2


def test_turned_round_the_rates_add_up_to_one():
    generator = torch.Generator().manual_seed(0)
    one, two = (sampled(*torch.randn(20, 3, generator=generator).tolist()) for _ in range(2))
    there, back = win_rate(one, two), win_rate(two, one)
    assert there.rate.estimate + back.rate.estimate == pytest.approx(1)
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert there.rate.low < there.rate.estimate < there.rate.high


def test_against_itself_it_is_one_half():
    ours = sampled([2.0, 1.0], [0.0, 3.0])
    assert win_rate(ours, ours).rate.estimate == 0.5


def test_length_alone_is_measured_beside_it():
    ours = sampled([2.0], [1.0], lengths=[9, 3])
    theirs = sampled([3.0], [2.0], lengths=[4, 2])
    assert win_rate(ours, theirs).longer.estimate == 1.0
    assert win_rate(ours, theirs).rate.estimate == 0.0


def test_prompts_without_a_score_are_counted_and_left_out():
    said = win_rate(sampled([2.0, math.nan], [math.nan]), sampled([1.0], [0.0]))
    assert (said.rate.estimate, said.prompts, said.unjudged, said.wins) == (1.0, 1, 1, 1)
    with pytest.raises(UserError, match="none of 1 prompt has a score on both sides"):
        win_rate(sampled([math.nan]), sampled([0.0]))


def test_answers_to_other_prompts_are_refused():
    with pytest.raises(UserError, match="prompt 0 is not the same on both sides"):
        win_rate(sampled([1.0]), sampled([1.0], offset=60))
    with pytest.raises(UserError, match="answered by one side only, as prompt 1"):
        win_rate(sampled([1.0]), sampled([1.0], [2.0]))


def test_a_source_judges_both_sides():
    def length(rollouts):
        return Judgement(rollouts.mask.sum(-1).float())

    ours, theirs = sampled([0.0], [0.0], lengths=[3, 4]), sampled([9.0], [9.0], lengths=[2, 4])
    said = compare(length, ours.rollouts, theirs.rollouts)
    assert said.rate.estimate == 0.75


def test_rounds_make_a_table():
    start = sampled([0.0], [0.0], [1.0])
    now = sampled([1.0], [1.0], [1.0], lengths=[4, 6, 8])
    rows = [round_row(0, start, start), round_row(1, now, start, kl=torch.tensor([1.0, 2.0, 3.0]))]
    lines = rounds_table(rows).splitlines()
    assert lines[2].startswith("| 0 | 50.0 % [12 to 88 %] | 50.0 % | 0.333 [")
    assert lines[2].endswith("| not measured |")
    assert lines[3].startswith("| 1 | 83.3 % [")
    assert "| 1.000 [all the same] | 6.0 | 100.0 % [43 to 100 %] | 2.000 [" in lines[3]
    assert rows[1].to_json()["win_rate"] == pytest.approx(5 / 6)
    assert rows[0].to_json()["kl"] is None
