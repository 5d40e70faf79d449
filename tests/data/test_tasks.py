"""Questions that a program makes: no two alike, the same every time, their answers right."""

from __future__ import annotations

import pytest

from backflip.data.formats import load
from backflip.data.records import Demonstration, Prompt
from backflip.data.tasks import TASKS, questions
from backflip.errors import UserError


@pytest.mark.parametrize("name", TASKS)
def test_questions_are_the_same_every_time_and_no_two_alike(name: str):
    rows = questions(name, 500)
    assert rows == questions(name, 1000)[:500]
    assert len({row["question"] for row in rows}) == 500


def test_answers_are_right():
    for row in questions("sorting", 200):
        digits = row["question"].removeprefix("sort ")
        assert "".join(sorted(digits)) == row["answer"]
        assert 6 <= len(digits) <= 10
    for row in questions("arithmetic", 200):
        assert int(row["reference"]) == eval(row["question"])
        assert [eval(left) == int(right) for left, right in _sides(row["steps"])] == [True, True]


def _sides(steps: list[str]) -> list[list[str]]:
    return [step.split("=") for step in steps]


def test_a_task_is_read_as_demonstrations_and_as_prompts_with_a_reference():
    shown = load("task:arithmetic", Demonstration, limit=3).records[0]
    asked = load("task:arithmetic", Prompt, limit=3).records[0]
    assert shown.messages[-1].content.endswith(f"={asked.reference}")
    assert list(asked.info["steps"]) == shown.messages[-1].content.split("\n")
    assert load("task:sorting", Prompt, limit=1).records[0].reference


def test_a_task_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="task:arithmetic, task:sorting"):
        load("task:chess", Prompt)
