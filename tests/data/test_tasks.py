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


@pytest.mark.parametrize("settings", ["", ":numbers=5,largest=9,seed=3", ":numbers=2,largest=20"])
def test_every_step_of_arithmetic_is_right_and_says_what_the_question_says(settings: str):
    for row in questions(f"arithmetic{settings}", 200):
        rest = row["question"]
        for step in row["steps"]:
            left, right = step.split("=")
            assert rest.startswith(left)
            assert eval(left) == int(right)
            rest = right + rest.removeprefix(left)
        assert rest == row["reference"] == str(eval(row["question"]))
        assert row["answer"] == "\n".join(row["steps"])


def test_settings_of_a_task_are_counted_out_and_checked():
    rows = load("task:arithmetic:numbers=4,largest=12,size=30", Prompt).records
    assert {len(row.info["steps"]) for row in rows} == {3}
    assert len(rows) == 30
    seen = [questions(f"sorting:seed={seed},size=20") for seed in (1, 1, 2)]
    assert seen[0] == seen[1] != seen[2]
    for wrong, said in (
        ("arithmetic:terms=4", "no setting 'terms'; it has largest, numbers, seed, size"),
        ("sorting:numbers=4", "no setting 'numbers'; it has seed, size"),
        ("arithmetic:numbers=1", "2 or more"),
        ("arithmetic:largest=x", "largest is 'x'"),
        ("arithmetic:numbers", "numbers is ''"),
        ("arithmetic:numbers=2,largest=1", "hardly more than 8 different questions"),
    ):
        with pytest.raises(UserError, match=said):
            questions(wrong)


def test_a_task_is_read_as_demonstrations_and_as_prompts_with_a_reference():
    shown = load("task:arithmetic", Demonstration, limit=3).records[0]
    asked = load("task:arithmetic", Prompt, limit=3).records[0]
    assert shown.messages[-1].content.endswith(f"={asked.reference}")
    assert list(asked.info["steps"]) == shown.messages[-1].content.split("\n")
    assert load("task:sorting", Prompt, limit=1).records[0].reference


def test_a_task_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="task:arithmetic, task:sorting"):
        load("task:chess", Prompt)
