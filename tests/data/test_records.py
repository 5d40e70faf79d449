"""A record that cannot be learnt from cannot be made."""

from __future__ import annotations

import math

import pytest

from backflip.data.records import (
    Comparison,
    Demonstration,
    Message,
    Prompt,
    Provenance,
    Tally,
    messages,
)
from backflip.errors import UserError

ASKED = messages(("user", "Hi"))
GOOD, BAD = messages(("assistant", "Yes?")), messages(("assistant", "No."))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Message("robot", "Hi"), "unknown role 'robot'.*system, user, assistant, tool"),
        (lambda: Message("assistant", " \n"), "empty answer"),
        (lambda: Message("user", ""), "empty user message"),
        (lambda: Prompt(()), "empty prompt"),
        (lambda: Prompt(ASKED + GOOD), "prompt ends with the assistant"),
        (lambda: Demonstration(ASKED), "conversation ends with the user.*add its reply"),
        (lambda: Demonstration(()), "empty answer"),
        (lambda: Comparison(ASKED, (GOOD,), (0,)), "fewer than two answers"),
        (lambda: Comparison(ASKED, (GOOD, ASKED), (0, 1)), "conversation ends with the user"),
        (lambda: Comparison(ASKED, (GOOD, ASKED + BAD), (0, 1)), "answer begins with the user"),
        (lambda: Comparison(ASKED, (GOOD, BAD), (0, 1, 2)), "3 ranks for 2 answers"),
        (lambda: Comparison(ASKED, (GOOD, BAD), (1, 2)), "ranks do not start with 0"),
        (lambda: Comparison(ASKED, (GOOD, BAD), (0, 1), soft=1.5), "soft label out of range.*1.5"),
        (lambda: Comparison(ASKED, (GOOD, BAD), (0, 1), margin=-1.0), "margin out of range"),
        (lambda: Comparison(ASKED, (GOOD, BAD), (0, 1), margin=math.nan), "margin out of range"),
        (lambda: Demonstration(ASKED + GOOD, weight=0.0), "weight out of range.*above 0"),
    ],
)
def test_a_record_that_cannot_be_learnt_from_says_why(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_two_records_from_different_places_are_equal_when_they_say_the_same():
    """Otherwise duplicates would never be found."""
    here = Demonstration(ASKED + GOOD, where=Provenance("a.jsonl", 1))
    assert here == Demonstration(ASKED + GOOD, where=Provenance("b.jsonl", 7))
    assert str(here.where) == "a.jsonl:1"


def test_the_best_answer_is_the_one_of_rank_zero_wherever_it_stands():
    assert Comparison(ASKED, (BAD, GOOD), (1, 0)).best == GOOD
    assert Comparison(ASKED, (BAD, GOOD), (0, 0)).tied


def test_a_tally_counts_all_and_shows_the_first_few():
    one, two = Tally(), Tally()
    for line in range(1, 6):
        one.add("empty answer", Provenance("a", line))
    two.add("empty answer", Provenance("b", 1))
    two.add("too long", Provenance("b", 2))
    one.update(two)
    assert one.total == 7
    assert one.lines() == ["6 × empty answer (e.g. a:1, a:2, a:3)", "1 × too long (e.g. b:2)"]
