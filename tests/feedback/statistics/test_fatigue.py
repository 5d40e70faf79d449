"""A rater who tires: the curve over a session shows it, whichever session it was."""

from __future__ import annotations

import numpy as np
import pytest

from backflip.feedback.statistics.fatigue import FEWEST, MOST, over_session
from backflip.feedback.statistics.judgements import Judgements

DAY = 86_400.0


def crowd(sittings: int, length: int) -> Judgements:
    """Rater 0 is right for the first half of every sitting and wrong in the second; 1 always is."""
    items = sittings * length
    place = np.arange(items) % length
    at = (np.arange(items) // length) * DAY + place * 60.0
    tired = np.where(place < length / 2, 1.0, -1.0)
    seconds = np.where(place < length / 2, 20.0, 5.0)
    return Judgements.of(
        np.tile(np.arange(items), 2),
        np.repeat([0, 1], items),
        np.concatenate([tired, np.ones(items)]),
        at=np.concatenate([at, at]),
        seconds=np.concatenate([seconds, np.full(items, np.nan)]),
    )


def test_sessions_are_laid_on_one_another():
    tired, other = over_session(crowd(sittings=3, length=40))
    assert len(tired) == len(other) == MOST
    assert sum(one.judgements for one in tired) == 120
    assert [one.agreement.estimate for one in tired] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    minutes = [one.minutes for one in tired]
    assert minutes == sorted(minutes)
    assert minutes[-1] == pytest.approx(36.5, abs=0.5)  # places 33 to 39 of 40


def test_pace_is_the_median_and_unknown_where_nobody_measured():
    tired, other = over_session(crowd(sittings=2, length=40))
    assert (tired[0].seconds, tired[-1].seconds) == (20.0, 5.0)
    assert all(np.isnan(one.seconds) for one in other)


def test_who_has_judged_little_has_no_curve():
    assert over_session(crowd(sittings=1, length=2 * FEWEST - 1)) == [[], []]


def test_nobody_else_on_the_item_leaves_agreement_open():
    alone = Judgements.of(np.arange(40), np.zeros(40), np.ones(40), at=np.arange(40.0))
    (only,) = over_session(alone)
    assert np.isnan(only[0].agreement.estimate)
    assert (only[0].agreement.low, only[0].agreement.high) == (0.0, 1.0)
