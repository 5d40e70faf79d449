"""Verdicts of programs in a run's summary."""

from __future__ import annotations

from backflip.monitor.run import Stage
from backflip.monitor.views.accuracy import verdict_sentence
from tests.monitor.folders import entries


def said(**columns: list[float | None]) -> str:
    return verdict_sentence(Stage("online", entries("online", **columns), [], [], {}))


def test_verdicts_are_counted_over_the_steps():
    """8 and 16 answers; of the second step's 20, four had no score."""
    assert said(
        answers=[8, 16],
        reward_correct=[0.25, 0.5],
        reward_incorrect=[0.75, None],
        reward_unparsable=[None, 0.5],
        unscored=[None, 0.2],
        reward_error=[None, 0.05],
        reward_timeout=[None, 0.15],
    ) == (
        "Verdicts on the 24 answers learnt from: 10 correct, 6 incorrect, 8 unparsable; "
        "checks that were not made: 1 error, 3 timeout."
    )


def test_shares_of_being_right_are_counted_apart_and_rewards_without_verdicts_say_nothing():
    assert said(answers=[8], reward_correct=[0.5]) == (
        "Verdicts on the 8 answers learnt from: 4 correct, 0 incorrect, 0 unparsable, "
        "4 scored by a number."
    )
    assert said(answers=[8], reward=[0.5]) == ""
