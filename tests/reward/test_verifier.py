"""A function of text as the judge: what it is shown, and what rounds make of it."""

from __future__ import annotations

import math

import pytest

from backflip.data.chat import ChatTemplate
from backflip.reward.function import TextJudge
from backflip.sampling.draw import judge_all
from tests.data.tiny import CHATML, byte_tokenizer
from tests.reward.test_judged import rollouts


@pytest.fixture(scope="module")
def template():
    return ChatTemplate(byte_tokenizer(CHATML))


def test_it_is_shown_text_without_control_tokens(template):
    seen: list[tuple[str, str]] = []

    def check(prompt: str, answer: str) -> bool:
        seen.append((prompt, answer))
        return answer == "4"

    judge = TextJudge(check=check, template=template)
    judgement = judge(rollouts(template, ("2 + 2?", "4"), ("2 + 2?", "about 5")))
    assert judgement.scores.tolist() == [1.0, 0.0]
    assert [answer for _, answer in seen] == ["4", "about 5"]
    assert all("2 + 2?" in prompt and "<|im" not in prompt for prompt, _ in seen)


def test_an_answer_on_which_it_raises_stays_without_a_score(template):
    judge = TextJudge(check=lambda _, answer: float(answer), template=template)
    scoring = judge_all(judge, rollouts(template, ("a", "0.5"), ("b", "half"), ("c", "2")))
    assert scoring.sampled.scores.tolist() == [0.5, pytest.approx(math.nan, nan_ok=True), 2.0]
    assert list(scoring.failed) == [1]
    assert "ValueError" in scoring.failed[1]
