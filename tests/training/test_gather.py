"""Answers of one step: drawn until as many prompts have signal as were asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from backflip.data.batches import Played, PromptBatch, Rollouts, TokenSteps
from backflip.data.curriculum import Curriculum, PromptPool
from backflip.data.ragged import Ragged
from backflip.data.records import Tally
from backflip.data.stream import Batches
from backflip.errors import UserError
from backflip.reward.protocol import Judgement
from backflip.training.gather import gather

ANSWERS = 2


def pool(rounds: int, prompts: int = 40) -> PromptPool:
    data = PromptBatch(Ragged.of([[row] for row in range(prompts)]), torch.arange(prompts))
    batches = Batches(data, size=4, epochs=None, shuffle=False)
    return PromptPool(batches, Curriculum(rounds=rounds))


def draw(prompts: PromptBatch, seed: int) -> Rollouts:
    """Two answers to each prompt, of one token and of as many as the prompt's number, at most 9."""
    del seed
    asked = [row.tolist() for row in prompts.tokens.rows() for _ in range(ANSWERS)]
    answers = [[7] * (min(p[0], 8) + 1 if n % 2 else 1) for n, p in enumerate(asked)]
    steps = TokenSteps.of(asked, answers)
    group = torch.arange(len(prompts)).repeat_interleave(ANSWERS)
    return Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=torch.where(steps.mask, -1.0, 0.0),
        group=group,
        finished=torch.ones(len(asked), dtype=torch.bool),
        row=prompts.row[group],
    )


def third(rollouts: Rollouts) -> Judgement:
    """Only prompts 2, 5, 8 … have answers of different scores; the shaped ones differ always."""
    rows, which = rollouts.row, torch.arange(len(rollouts)) % 2
    plain = torch.where(rows % 3 == 2, which.float(), 0.0)
    return Judgement(plain + 0.1 * which, {"unshaped": plain, "source": rows.float()})


def test_one_round_takes_whatever_comes():
    made = pool(1)
    step = gather(draw, third, next(iter(made)), made, seed=0)
    rollouts, judgement = step.answers(4)
    assert rollouts.row.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(judgement.scores, third(rollouts).scores)
    assert step.metrics() == {"signal": 0.25}


def test_a_short_batch_does_not_end_a_step_that_is_not_full():
    """The pool hands out 2, 4, 1, 4, … prompts: a step is full with 4 that have signal."""
    made = pool(9)
    whole = iter(made)

    class Short:
        batches, curriculum, note = made.batches, made.curriculum, made.note
        sizes = iter([2, 4, 1, 4, 4, 4, 4])

        def __iter__(self) -> Any:
            yield next(whole)[torch.arange(next(self.sizes))]

    short: Any = Short()
    step = gather(draw, third, next(iter(short)), short, seed=0)
    assert step.wanted == 4
    assert step.answers(step.wanted)[0].row.tolist() == [5, 5, 8, 8, 14, 14, 17, 17]


def test_verdicts_tell_the_pool_which_prompts_are_solved():
    made = pool(1)
    made.curriculum = Curriculum(solved=0.5)

    def judge(rollouts: Rollouts) -> Judgement:
        right = (rollouts.row < 3).float()
        return Judgement(torch.zeros(len(rollouts)), {"correct": right})

    step = gather(draw, judge, next(iter(made)), made, seed=0)
    shares = {"prompts_mixed": 0.0, "prompts_solved": 0.75, "prompts_unsolved": 0.25}
    assert step.metrics() == {"signal": 0.0, **shares}


def test_rounds_go_on_until_the_step_is_full_of_signal_by_the_unshaped_score():
    made = pool(9)
    step = gather(draw, third, next(iter(made)), made, seed=0)
    rollouts, judgement = step.answers(4)
    assert rollouts.row.tolist() == [2, 2, 5, 5, 8, 8, 11, 11]
    assert len(set(rollouts.group.tolist())) == 4
    assert judgement.parts["source"].tolist() == rollouts.row.tolist()
    assert step.metrics() == {"signal": 4 / 12, "rounds": 3.0, "answers_drawn": 24.0}
    assert next(iter(made)).row.tolist() == [12, 13, 14, 15]  # the next step asks on


def test_joined_rounds_hold_the_very_tokens_that_were_drawn():
    made = pool(9)
    rollouts, _ = gather(draw, third, next(iter(made)), made, seed=0).answers(4)
    for place, row in enumerate(rollouts.row.tolist()):
        tokens = rollouts.steps.answer.row(place)
        assert rollouts.steps.prompt.row(place).tolist() == [row]
        assert len(tokens) == (min(row, 8) + 1 if place % 2 else 1)
        assert int(rollouts.mask[place].sum()) == len(tokens)
        assert rollouts.logp[place].sum() == -len(tokens)


def test_joined_rounds_keep_what_environments_played_and_what_several_sources_scored():
    made = pool(9)

    def play(prompts: PromptBatch, seed: int) -> Rollouts:
        drawn = draw(prompts, seed)
        calls, none = drawn.row * 10, torch.zeros(len(drawn), dtype=torch.long)
        played = Played(drawn.logp * 2, calls + 1, calls, none, none, none.bool())
        return replace(drawn, played=played)

    def several(rollouts: Rollouts) -> Judgement:
        judged = third(rollouts)
        terms = torch.stack([rollouts.row.float(), judged.scores], 1)
        ends = rollouts.mask & (rollouts.row % 2 == 0)[:, None]
        return replace(judged, terms=terms, weights=(0.0, 1.0), ends=ends)

    rollouts, judgement = gather(play, several, next(iter(made)), made, seed=0).answers(4)
    assert rollouts.row.tolist() == [2, 2, 5, 5, 8, 8, 11, 11]
    assert rollouts.played is not None
    assert rollouts.played.calls.tolist() == [10 * row for row in rollouts.row.tolist()]
    assert torch.equal(rollouts.played.rewards, rollouts.logp * 2)
    assert judgement.terms is not None
    assert judgement.terms[:, 0].tolist() == rollouts.row.tolist()
    assert judgement.weights == (0.0, 1.0)
    assert judgement.ends is not None
    assert judgement.ends.any(1).tolist() == [row % 2 == 0 for row in rollouts.row.tolist()]


def test_a_bounded_search_learns_from_what_it_found():
    made = pool(2)
    rollouts, _ = gather(draw, third, next(iter(made)), made, seed=0).answers(4)
    assert set(rollouts.row.tolist()) == {2, 5}


def test_where_no_round_has_signal_the_last_answers_are_kept():
    made = pool(3)

    def flat(rollouts: Rollouts) -> Judgement:
        return Judgement(torch.ones(len(rollouts)))

    step = gather(draw, flat, next(iter(made)), made, seed=0)
    assert step.signal == 0
    assert step.answers(4)[0].row.tolist() == [8, 8, 9, 9, 10, 10, 11, 11]


def test_answers_without_a_score_are_counted_in_all_rounds():
    made = pool(9)

    def torn(rollouts: Rollouts) -> Judgement:
        judged, failures = third(rollouts), Tally()
        lost = rollouts.row == 1
        for _ in range(int(lost.sum())):
            failures.add("timeout", "prompt 1")
        scores = torch.where(lost, torch.nan, judged.scores)
        return Judgement(scores, {**judged.parts, "timeout": lost.float()}, failures=failures)

    step = gather(draw, torn, next(iter(made)), made, seed=0)
    assert step.failures.total == 2
    assert step.metrics()["unscored"] == step.metrics()["reward_timeout"] == 2 / 24


def test_a_step_whose_answers_all_fail_says_why():
    def nothing(rollouts: Rollouts) -> Judgement:
        return Judgement(torch.full((len(rollouts),), torch.nan))

    made: Any = pool(1)
    with pytest.raises(UserError, match="none of 8 answers has a score"):
        gather(draw, nothing, next(iter(made)), made, seed=0)
