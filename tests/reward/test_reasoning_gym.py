"""Answers to questions of reasoning-gym: right is the full score, and nonsense scores nothing."""

from __future__ import annotations

import re
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest

from backflip.data.chat import ChatTemplate
from backflip.data.gym import INSTALL, NO_OWN_ANSWER
from backflip.data.records import Prompt, messages
from backflip.reward.function import Texts
from backflip.reward.verifiers.reasoning_gym import EVALUATED, FORMULAS, NONSENSE, ReasoningGym
from backflip.reward.verifiers.source import VerifierReward
from tests.data.tiny import CHATML, byte_tokenizer

gym = pytest.importorskip("reasoning_gym", reason=f"reasoning-gym is missing: {INSTALL}")


def question(task: str, number: int = 0, size: int = 10) -> Prompt:
    entry = gym.create_dataset(task, size=size, seed=1)[number]
    info = {"gym": f"gym:{task}:size={size},seed=1", "gym_entry": entry}
    return Prompt(messages(("user", entry["question"])), reference=str(entry["answer"]), info=info)


def outcome(asked: Prompt, answer: str, **settings: Any) -> Any:
    verdict = ReasoningGym(**settings).check(answer, asked.reference, "", asked.info)
    return verdict.outcome if verdict.score is None else pytest.approx(verdict.score)


@pytest.mark.parametrize(
    ("form", "settings", "expected"),
    [
        ("{0}", {}, "correct"),
        ("So <answer>{0}</answer>.", {}, "correct"),
        ("<answer>7</answer> No: <answer>\n{0}\n</answer>", {}, "correct"),
        ("{0}", {"tagged": True}, "unparsable"),
        ("<answer> </answer>", {}, "unparsable"),
        ("<final>{0}</final>", {"tag": "final", "tagged": True}, "correct"),
        ("<answer>{0}</answer>", {"tag": None}, "incorrect"),
        ("{0}1", {}, "incorrect"),
        ("", {}, "unparsable"),
        ("😀", {}, "incorrect"),
    ],
)
def test_the_answer_is_read_from_its_tag(form: str, settings: dict[str, Any], expected: str):
    asked = question("chain_sum")
    assert outcome(asked, form.format(asked.reference), **settings) == expected


def test_what_a_task_gives_to_any_answer_is_no_reward():
    """countdown gives a little to a number that is not the one to reach."""
    dataset = gym.create_dataset("countdown", size=1, seed=1)
    asked = question("countdown", size=1)
    wrong = str(dataset[0]["metadata"]["numbers"][0])
    assert 0 < dataset.score_answer(wrong, dataset[0]) <= 0.05
    assert outcome(asked, wrong) == "incorrect"
    assert outcome(asked, wrong, partial=True) == "incorrect"


def test_partial_is_the_share_above_what_any_answer_gets():
    asked = question("chain_sum")
    said = f"x {asked.reference} x"  # the answer inside of more: its share of the characters
    share = len(asked.reference) / len(said)
    given = gym.create_dataset("chain_sum", size=1, seed=1).score_answer(
        said, asked.info["gym_entry"]
    )
    assert given == pytest.approx(share)
    assert outcome(asked, said) == "incorrect"
    assert outcome(asked, said, partial=True) == (share - 0.05) / 0.95


def test_where_a_task_calls_anything_right_its_own_answer_decides():
    asked = question("game_of_life_halting")
    dataset = gym.create_dataset("game_of_life_halting", size=1, seed=1)
    assert dataset.score_answer(NONSENSE, asked.info["gym_entry"]) == 1.0  # upstream's fault
    other = "False" if asked.reference == "True" else "True"
    said = [outcome(asked, text) for text in (asked.reference.lower(), other, "12")]
    assert said == ["correct", "incorrect", "incorrect"]


def test_an_answer_at_which_a_task_fails_is_unparsable():
    asked = question("prime_factorization")
    assert outcome(asked, "two times three") == "unparsable"
    assert outcome(asked, asked.reference) == "correct"


def test_no_answer_is_run_as_a_program(tmp_path: Path):
    """Upstream these scores are found by eval, and by sympy's parser, which calls what it reads."""
    mark = tmp_path / "mark"
    letters = "+".join(f"chr({ord(c)})" for c in str(mark))
    programs = [
        f"__import__('pathlib').Path('{mark}').touch()",
        f"[open('{mark}', 'w')]",
        f"open({letters},chr(119))",
        f"ｏｐｅｎ({letters},chr(119))",
        "().__class__.__base__.__subclasses__()",
        "exit()",
    ]
    for task in (*EVALUATED, *FORMULAS):
        asked = question(task)
        assert [outcome(asked, program) for program in programs] == ["unparsable"] * 6
        assert outcome(asked, asked.info["gym_entry"]["answer"]) == "correct"
    assert not mark.exists()


def test_tasks_that_evaluate_answers_are_those_that_are_known():
    """Of this version: a newer one may evaluate more, which is why the extra is pinned."""
    found = {
        name
        for name, (task, _) in gym.factory.DATASETS.items()
        if re.search(r"\b(eval|exec|parse_expr|sympify)\((?!entry)", getsource(task.score_answer))
    }
    assert found == {*EVALUATED, *FORMULAS}


def test_a_score_that_takes_for_ever_is_a_timeout():
    asked = question("countdown")
    answers = [asked.info["gym_entry"]["answer"], "9**9**9**9**9"]
    texts = [Texts("", answer, asked, "here") for answer in answers]
    template = ChatTemplate(byte_tokenizer(CHATML))
    how = ReasoningGym(seconds=1.0)
    source = VerifierReward(verifier=how, template=template, records=[asked])
    assert [verdict.outcome for verdict in source.verdicts(texts)] == ["correct", "timeout"]


def test_tasks_without_an_own_answer_are_said_with_a_count():
    held = [question("rush_hour"), question("gcd"), question("rush_hour", 1)]
    (remark,) = ReasoningGym().remarks(held)
    assert remark.startswith("2 questions of rush_hour have no own answer")


def test_questions_of_another_source_cannot_be_judged():
    assert ReasoningGym().lacks(Prompt(messages(("user", "1 + 1?")))) == "no column 'gym'"


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(set(gym.factory.DATASETS) - {"composite"}))
def test_every_task_tells_its_own_answer_from_nonsense(task: str):
    for number in range(3):
        asked = question(task, number, size=3)
        own = "incorrect" if task in NO_OWN_ANSWER else "correct"
        assert outcome(asked, str(asked.reference)) in (own, "unparsable" * (own != "correct"))
        for nonsense in ("?", "I do not know."):
            assert outcome(asked, nonsense) in ("incorrect", "unparsable")
