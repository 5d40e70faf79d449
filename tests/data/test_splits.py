"""Splits are by prompt, and the same wherever a prompt turns up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.data.records import Comparison, Demonstration, Prompt, messages
from backflip.data.splits import half_of, opening_key, place_of, split_by_prompt
from backflip.errors import UserError

GOOD, BAD = messages(("assistant", "Yes?")), messages(("assistant", "No."))
PINNED = 0.8657292879361036


def asked(number):
    return messages(("user", f"Question {number}?"))


@given(
    numbers=st.lists(st.integers(0, 30), min_size=2, max_size=60).filter(lambda x: len(set(x)) > 1),
    held_out=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_no_prompt_is_on_both_sides_and_no_row_is_lost(numbers, held_out, seed):
    records = [Demonstration(asked(n) + GOOD) for n in numbers]
    train, apart = split_by_prompt(records, held_out=held_out, seed=seed)
    assert len(train) + len(apart) == len(records)
    assert train
    assert apart
    assert not {r.prompt for r in train} & {r.prompt for r in apart}


def test_a_longer_conversation_stays_with_the_one_that_it_continues():
    """HH holds the same dialogue at several depths."""
    for number in range(20):
        short = Prompt(asked(number))
        deep = Comparison(
            asked(number) + GOOD + messages(("user", "And then?")), (GOOD, BAD), (0, 1)
        )
        assert opening_key(short) == opening_key(deep)
        assert half_of(short) == half_of(deep)


def test_a_prompt_is_on_the_same_side_in_every_kind_of_record_and_in_more_data():
    few = [Prompt(asked(n)) for n in range(200)]
    many = [Demonstration(asked(n) + GOOD) for n in range(400)]
    _, some = split_by_prompt(few, held_out=0.2)
    _, more = split_by_prompt(many, held_out=0.2)
    assert {r.messages for r in some} == {r.prompt for r in more} & {r.messages for r in few}


def test_case_and_white_space_do_not_carry_a_prompt_over_to_the_other_side():
    assert opening_key(messages(("user", "Is it  LATE?\n"))) == opening_key(
        messages(("user", "is it late?"))
    )


def test_the_share_is_about_what_was_asked_for_and_the_halves_are_independent_of_it():
    """1,000 prompts: five standard deviations are 0.063 of a fifth and 0.079 of a half."""
    records = [Prompt(asked(n)) for n in range(1000)]
    _, apart = split_by_prompt(records, held_out=0.2)
    assert abs(len(apart) / 1000 - 0.2) < 0.063
    assert abs(sum(half_of(r) for r in records) / 1000 - 0.5) < 0.079
    assert abs(sum(half_of(r) for r in apart) / len(apart) - 0.5) < 0.18


def test_another_seed_holds_out_others():
    records = [Prompt(asked(n)) for n in range(100)]
    one, two = (split_by_prompt(records, held_out=0.3, seed=seed)[1] for seed in (0, 1))
    assert one != two


def test_the_place_of_a_prompt_never_changes_between_versions():
    """Pinned: a change would move held-out prompts of old runs into training."""
    assert place_of("user: hi", "held out/0") == pytest.approx(PINNED, abs=1e-15)


def test_a_share_out_of_range_or_a_single_prompt_cannot_be_split():
    records = [Prompt(asked(1)), Prompt(asked(1))]
    with pytest.raises(UserError, match="held_out is 1"):
        split_by_prompt(records, held_out=1.0)
    with pytest.raises(UserError, match=r"2 rows have 1 different prompt.*; give data\.validation"):
        split_by_prompt(records, held_out=0.5)
    assert split_by_prompt(records, held_out=0.0) == (records, [])
