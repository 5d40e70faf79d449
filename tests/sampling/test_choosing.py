"""What is learnt of a round: who is chosen, and how those left out are counted."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.data.batches import Rollouts, TokenSteps
from backflip.errors import UserError
from backflip.sampling.choosing import (
    AllWins,
    Best,
    BestRandom,
    BestWorst,
    Filters,
    MaxMinMargin,
    TopShare,
)
from backflip.sampling.samples import Sampled

NAN = math.nan


def sampled(*prompts, answers=None, cut=()):
    """Samples with these scores, prompt by prompt; answer i is [10 + i, 2]."""
    scores = [score for prompt in prompts for score in prompt]
    group = [number for number, prompt in enumerate(prompts) for _ in prompt]
    answers = answers or [[10 + i, 2] for i in range(len(scores))]
    steps = TokenSteps.of([[1, 50 + g] for g in group], answers)
    finished = torch.tensor([row not in cut for row in range(len(scores))])
    rollouts = Rollouts(
        steps, steps.mask, torch.zeros(steps.mask.shape), torch.tensor(group), finished
    )
    return Sampled(rollouts, torch.tensor(scores))


def tokens(chosen):
    """(prompt, answers) of every comparison."""
    values = chosen.data.answers.values
    rows = [
        range(*chosen.data.answers.offsets[i : i + 2].tolist()) for i in range(len(chosen.data))
    ]
    return [
        (values.prompt.row(row[0]).tolist(), [values.answer.row(i).tolist() for i in row])
        for row in rows
    ]


def test_best_and_worst_are_chosen_as_the_tokens_that_were_drawn():
    chosen = BestWorst()(sampled([0.1, 0.9, -1.0], [5.0, 6.0]))
    assert tokens(chosen) == [([1, 50], [[11, 2], [12, 2]]), ([1, 51], [[14, 2], [13, 2]])]
    assert chosen.data.rank.values.tolist() == [0, 1, 0, 1]
    assert chosen.data.margin.tolist() == [0, 0]
    assert chosen.rows == ((1, 2), (4, 3))


def test_prompts_that_teach_nothing_are_counted_by_reason():
    twice = [[10, 2], [10, 2], [3, 2], [4, 2], [5, 2], [6, 2], [7, 2], [8, 2]]
    samples = sampled([1.0, 1.0], [2.0, 2.0], [NAN, 3.0], [4.0, 5.0], answers=twice)
    chosen = BestWorst()(samples)
    assert [row[0] for row in tokens(chosen)] == [[1, 53]]
    assert chosen.dropped.counts == {
        "fewer than two usable answers": 2,
        "all usable answers score the same": 1,
    }
    assert chosen.set_aside.counts == {"said before": 1, "without a score": 1}
    assert chosen.dropped.examples["all usable answers score the same"] == ["prompt 1"]


def test_cut_off_and_empty_answers_are_chosen_only_on_demand():
    answers = [[3, 4, 5], [2], [6, 2], [7, 2]]
    samples = sampled([9.0, 8.0, 2.0, 1.0], answers=answers, cut=[0])
    chosen = BestWorst()(samples)
    assert tokens(chosen)[0][1] == [[6, 2], [7, 2]]
    assert chosen.set_aside.counts == {"cut off": 1, "empty": 1}
    assert tokens(BestWorst()(samples, filters=Filters(cut_off=True)))[0][1][0] == [3, 4, 5]
    assert tokens(BestWorst()(samples, filters=Filters(empty=True)))[0][1][0] == [2]


def test_best_random_draws_among_all_that_score_less():
    """The tie with the best is never the rejected one; the same seed draws the same."""
    samples = sampled(*[[0.0, 3.0, 1.0, 3.0]] * 200)
    chosen = BestRandom()(samples, seed=1)
    others = [row[1] % 4 for row in chosen.rows]
    assert {row[0] % 4 for row in chosen.rows} == {1}
    assert set(others) == {0, 2}
    assert 70 < others.count(0) < 130
    assert BestRandom()(samples, seed=1).rows == chosen.rows
    assert BestRandom()(samples, seed=2).rows != chosen.rows


def test_the_margin_is_the_difference_of_the_scores_and_has_a_minimum():
    chosen = MaxMinMargin(minimum=0.5, scale=2.0)(sampled([1.0, 0.25], [1.0, 0.75], [0.0, 0.5]))
    assert chosen.data.margin.tolist() == [1.5, 1.0]
    assert chosen.dropped.counts == {"best and worst less than 0.5 apart": 1}


def test_win_probabilities_are_estimated_over_all_samples_also_those_not_kept():
    """Scores ln 3, 0, −ln 3: σ of their differences is ¾ and 9/10; each beats itself with ½."""
    log3 = math.log(3)
    chosen = AllWins(keep=2)(sampled([0.0, log3, -log3]))
    assert tokens(chosen)[0][1] == [[11, 2], [12, 2]]
    best = (0.5 + 0.75 + 0.9) / 3
    torch.testing.assert_close(chosen.data.win.values, torch.tensor([best, 1 - best]))
    cut = AllWins(keep=None)(sampled([0.0, log3, -log3], cut=[2]))
    torch.testing.assert_close(cut.data.win.values, torch.tensor([best, 0.5]))


def test_all_wins_keeps_even_steps_and_ties():
    chosen = AllWins(keep=3)(sampled([5.0, 4.0, 3.0, 2.0, 1.0]))
    assert chosen.rows == ((0, 2, 4),)
    tied = AllWins(keep=None)(sampled([5.0, 4.0, 5.0]))
    assert tied.data.rank.values.tolist() == [0, 0, 1]
    assert tied.rows == ((0, 2, 1),)


def test_the_best_answer_becomes_a_demonstration():
    chosen = Best(minimum=0.0)(sampled([0.1, 0.9], [-1.0, -2.0], [4.0, 4.0], [NAN, NAN]))
    assert [row.tolist() for row in chosen.data.steps.answer.rows()] == [[11, 2], [14, 2]]
    assert [row.tolist() for row in chosen.data.steps.prompt.rows()] == [[1, 50], [1, 52]]
    assert chosen.data.mask.all()
    assert chosen.dropped.counts == {"best answer scores less than 0": 1, "no usable answer": 1}


def test_the_top_share_is_that_of_the_whole_round():
    chosen = TopShare(share=0.5)(sampled([1.0, 2.0], [8.0, 9.0], [0.0, 7.0]))
    assert sorted(row[0] for row in chosen.rows) == [2, 3, 5]
    assert chosen.dropped.counts == {"no answer among the best 50.0%": 1}


def test_only_the_policys_own_tokens_are_learnt():
    """Where a tool spoke in between, the mask of the rollouts says so."""
    samples = sampled([0.0, 1.0], answers=[[10, 30, 11, 2], [12, 2]])
    samples.rollouts.mask[0, 1] = False
    mask = BestWorst()(samples).data.mask.values
    assert mask.tolist() == [[True, True, False, False], [True, False, True, True]]
    learnt = TopShare(share=1.0)(samples).data
    answers = learnt.steps.answer.rows()
    answer = {tuple(a.tolist()): m.tolist() for a, m in zip(answers, learnt.mask, strict=True)}
    assert answer[10, 30, 11, 2] == [True, False, True, True]


def test_nothing_left_is_an_error_that_says_why():
    with pytest.raises(UserError, match=r"no prompt of 2 is left.*2 × all usable answers score"):
        BestWorst()(sampled([1.0, 1.0], [0.0, 0.0]))
    with pytest.raises(UserError, match=r"set aside: 2 × cut off"):
        Best()(sampled([1.0, 1.0], cut=[0, 1]))
    with pytest.raises(UserError, match="keep must be 2 or more"):
        AllWins(keep=1)
    with pytest.raises(UserError, match="share must lie"):
        TopShare(share=0.0)
