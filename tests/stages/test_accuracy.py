"""Accuracy on held-out questions: sampled, of several tries, by majority, greedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backflip.reward.protocol import Judgement
from backflip.reward.verifiers.regular_expression import RegularExpression
from backflip.stages.accuracy import Accuracy


def judged(*correct: int) -> Judgement:
    values = torch.tensor(correct, dtype=torch.float32)
    return Judgement(values, {"correct": values, "incorrect": 1 - values})


def test_two_questions_of_four_answers_by_hand():
    """The first has one right answer of four, which loses the vote; the second three."""
    texts = ["1", "2", "2", "3", "7", "7", "7", "8"]
    found = Accuracy.of(judged(1, 0, 0, 0, 1, 1, 1, 0), texts, 4, str, judged(0, 1))
    assert found is not None
    shares = {name: values.tolist() for name, values in found.by_question().items()}
    assert shares == {
        "pass_at_1": [0.25, 0.75],
        "pass_at_2": [0.5, 1.0],
        "pass_at_4": [1.0, 1.0],
        "maj_at_4": [0.0, 1.0],
        "greedy": [0.0, 1.0],
    }
    assert found.metrics()["val_pass_at_1"] == 0.5
    assert found.summary()["greedy"]["units"] == 2


def test_answers_judged_without_verdicts_have_no_accuracy():
    assert Judgement(torch.ones(3)).right() is None
    assert Accuracy.of(Judgement(torch.ones(3)), ["a"] * 3, 3, str, None) is None


def test_no_right_answer_is_an_accuracy_of_nothing():
    """Outcomes that nobody had are no parts of a judgement."""
    nothing = Judgement(torch.zeros(2), {"unparsable": torch.ones(2)})
    assert nothing.right() is not None
    assert float(nothing.right().sum()) == 0  # pyright: ignore[reportOptionalMemberAccess]


def test_a_vote_for_an_answer_that_was_judged_both_ways_counts_what_most_of_it_was():
    """A verifier that reads more than the final answer may find one right, and the other not."""
    found = Accuracy.of(judged(1, 1, 0), ["5", "5", "5"], 3, str, None)
    assert found is not None
    assert found.by_question()["maj_at_3"].tolist() == [1.0]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("failure", ["timeout", "error"])
def test_an_answer_whose_check_failed_abstains_unread(failure):
    """The pattern would read the last answer for ever, as its check did until it was killed."""
    final = RegularExpression(pattern="(a+)+$").final
    right, failed = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    judgement = Judgement(right, {"correct": right, "incorrect": 1 - right - failed})
    judgement = replace(judgement, parts={**judgement.parts, failure: failed})
    texts = ["aa", "a b", "a" * 64 + "b"]
    assert judgement.votes(texts, final) == ["aa", None, None]
    found = Accuracy.of(judgement, texts, 3, final, None)
    assert found is not None
    assert found.by_question()["maj_at_3"].tolist() == [1.0]
    assert found.unchecked == 1
