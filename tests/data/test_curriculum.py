"""Prompts of an online run: in turn, or more of those that it can learn from."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch

from backflip.data.batches import PromptBatch
from backflip.data.curriculum import Curriculum, PromptPool, Spent
from backflip.data.ragged import Ragged
from backflip.data.stream import Batches
from backflip.errors import UserError

SIZE, PROMPTS = 4, 20


def pool(**settings: float) -> PromptPool:
    """Twenty prompts whose records are numbered from 100."""
    rows = torch.arange(PROMPTS) + 100
    data = PromptBatch(Ragged.of([[row] for row in range(PROMPTS)]), rows)
    batches = Batches(data, size=SIZE, epochs=None, seed=3)
    return PromptPool(batches, Curriculum(**settings))  # pyright: ignore


def asked(made: PromptPool, batches: int, learn: bool = True) -> list[list[int]]:
    """Records asked; below 110 nobody is right, from 115 all are, between them it varies."""
    found: list[list[int]] = []
    for batch in made:
        rows = batch.row
        found.append(rows.tolist())
        if learn:
            scores = torch.where(rows < 110, 0.0, torch.where(rows < 115, 0.5, 1.0))
            made.note(rows, scores, (rows >= 110) & (rows < 115))
        if len(found) == batches:
            return found
    raise AssertionError


def test_without_a_curriculum_prompts_come_as_they_always_did():
    made = pool()
    plain = iter(Batches(made.batches.data, size=SIZE, epochs=None, seed=3))
    assert asked(made, 12) == [next(plain).row.tolist() for _ in range(12)]


def test_solved_and_unsolved_prompts_are_asked_no_more_and_mixed_ones_always():
    made = pool(solved=0.0, unsolved=0.0)
    first = [row for batch in asked(made, 5) for row in batch]
    assert sorted(first) == list(range(100, 120))  # everybody once, before anything is known
    later = Counter(row for batch in asked(made, 10) for row in batch)
    assert set(later) == set(range(110, 115))


def test_a_chance_halves_the_turns():
    made = pool(solved=0.5, unsolved=1.0)
    asked(made, 5)
    later = Counter(row for batch in asked(made, 500) for row in batch)
    solved = sum(later[row] for row in range(115, 120)) / 5
    unsolved = sum(later[row] for row in range(100, 110)) / 10
    assert 0.42 < solved / unsolved < 0.58


def test_replay_asks_mixed_prompts_again_beside_those_whose_turn_it_is():
    made = pool(replay=0.5)
    asked(made, 5)
    for batch in asked(made, 20):
        assert len(set(batch)) == SIZE
        assert sum(110 <= row < 115 for row in batch) >= 2


ROWS, NONE = torch.arange(PROMPTS) + 100, torch.zeros(PROMPTS, dtype=torch.bool)


@pytest.mark.parametrize("found", [torch.zeros(PROMPTS), torch.ones(PROMPTS)])
def test_a_pool_where_nothing_is_left_ends_in_words(found: torch.Tensor):
    made = pool(solved=0.0, unsolved=0.0)
    made.note(ROWS, found, NONE, found)
    solved, unsolved = ("100%", "0%") if found.all() else ("0%", "100%")
    said = rf"{solved} are solved, {unsolved} unsolved.*raise curriculum\.solved"
    with pytest.raises(UserError, match=said):
        next(iter(made))


@pytest.mark.parametrize("score", [0.0, -1.0, 0.37, 1.0])
def test_while_all_prompts_scored_the_same_without_verdicts_nobody_knows_and_all_are_asked(score):
    made = pool(solved=0.0, unsolved=0.0)
    made.note(ROWS, torch.full((PROMPTS,), score), NONE)
    assert set(made.shares().values()) == {0.0}
    assert sorted(row for batch in asked(made, 5, learn=False) for row in batch) == ROWS.tolist()
    assert made.account() == ""


def test_prompts_that_nobody_has_got_right_yet_are_not_solved():
    """At the start of a run all answers are wrong, and the mean score is as low as theirs."""
    made = pool(solved=0.0)
    for start in range(0, PROMPTS, SIZE):
        rows = ROWS[start : start + SIZE]
        made.note(rows, torch.zeros(SIZE), NONE[:SIZE], torch.zeros(SIZE))
    assert made.shares()["prompts_unsolved"] == 1.0
    made.note(ROWS[:1], torch.ones(1), NONE[:1], torch.ones(1))
    later = {row for batch in asked(made, 5, learn=False) for row in batch}
    assert later == set(ROWS[1:].tolist())


def test_without_verdicts_scores_are_compared_with_the_mean_at_the_time_of_asking():
    """−2 was above the mean when it was seen, and is below it now."""
    made = pool(solved=0.0)
    made.note(ROWS[:5], torch.full((5,), -8.0), NONE[:5])
    made.note(ROWS[5:6], torch.tensor([-2.0]), NONE[:1])
    assert made.shares()["prompts_solved"] == 1 / 6
    made.note(ROWS[6:], torch.full((14,), 3.0), NONE[6:])
    assert made.shares() == {
        "prompts_mixed": 0.0, "prompts_solved": 14 / 20, "prompts_unsolved": 6 / 20,
    }  # fmt: skip
    later = {row for batch in asked(made, 5, learn=False) for row in batch}
    assert later == set(ROWS[:6].tolist())


def test_an_answer_that_is_right_in_part_does_not_solve_its_prompt():
    made = pool(unsolved=0.0)
    made.note(ROWS, torch.full((PROMPTS,), 0.9), NONE, torch.zeros(PROMPTS))
    assert made.shares()["prompts_unsolved"] == 1.0


def test_prompts_that_are_asked_less_are_counted_in_a_sentence():
    made = pool(solved=0.0, unsolved=0.25)
    asked(made, 5)
    assert made.account().startswith(
        "curriculum: 20 of 20 prompts were asked; by their last answers 5 solved prompts asked no "
        "more, 10 unsolved prompts asked with chance 0.25; 0 turns"
    )
    asked(made, 20)
    assert made.passed > 20
    assert f"; {made.passed} turns passed over in all" in made.account()
    assert pool().account() == pool(solved=0.5).account() == ""


def test_a_resumed_pool_goes_on_where_it_was():
    made, later = (
        pool(solved=0.3, unsolved=0.3, replay=0.25),
        pool(solved=0.3, unsolved=0.3, replay=0.25),
    )
    asked(made, 9)
    later.load_state_dict(copy.deepcopy(made.state_dict()))
    assert asked(made, 9) == asked(later, 9)


def test_what_a_run_may_spend_ends_it_in_words():
    made, spent = pool(), Spent()
    spent.add(64, 2, made)
    assert spent.over(Curriculum(answers=100)) is None
    spent.add(64, 2, made)
    assert spent.over(Curriculum(answers=100)) == "128 answers were drawn (curriculum.answers: 100)"
    spent.minutes = 2.5
    assert spent.over(Curriculum(minutes=2.0)) == "2.5 minutes of training (curriculum.minutes: 2)"
    spent.cpu_minutes = 5.0
    assert spent.over(Curriculum(cpu_minutes=6.0)) is None
    words = "5.0 minutes of processor time in training (curriculum.cpu_minutes: 4)"
    assert spent.over(Curriculum(cpu_minutes=4.0)) == words


def test_a_run_that_finds_no_signal_ends_in_words():
    made, spent = pool(rounds=3), Spent()
    for _ in range(9):
        spent.add(64, 0, made)
    with pytest.raises(UserError, match="10 steps on end, of up to 3 rounds each"):
        spent.add(64, 0, made)


def test_settings_that_cannot_be_are_refused():
    wrong = Curriculum(rounds=0, solved=1.5, replay=-0.1, minutes=0.0)
    assert len(list(wrong.faults("curriculum", 8))) == 4
    assert "answers_per_prompt=8" in "".join(Curriculum(rounds=2).faults("curriculum", 1))
    assert not list(Curriculum(rounds=2, solved=0.1).faults("curriculum", 8))


def test_a_temperature_moves_in_a_line():
    hot = Curriculum(temperature_end=0.5)
    assert [hot.temperature(1.0, step, 5) for step in (1, 3, 5, 9)] == [1.0, 0.75, 0.5, 0.5]
    assert Curriculum().temperature(0.7, 3, 5) == 0.7
