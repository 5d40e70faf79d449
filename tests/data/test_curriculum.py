"""Prompts of an online run: in turn, or more of those that it can learn from."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch

from backflip.data.batches import PromptBatch, Ragged
from backflip.data.curriculum import Curriculum, PromptPool, Spent
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


def test_a_pool_where_nothing_is_left_ends_in_words():
    made = pool(solved=0.0, unsolved=0.0)
    rows = torch.arange(PROMPTS) + 100
    made.note(rows, torch.zeros(PROMPTS), torch.zeros(PROMPTS, dtype=torch.bool))
    with pytest.raises(UserError, match=r"100% are solved.*raise curriculum\.solved"):
        next(iter(made))


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
