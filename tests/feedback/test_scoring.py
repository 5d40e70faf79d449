"""Answers as words and numbers, against gold, and the posterior of an item."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.tasks.scoring import posterior
from backflip.feedback.tasks.settings import settings_of


def test_strengths_lie_evenly_between_a_tie_and_certainty():
    """Eight points: four strengths on a side."""
    eight = settings_of({"kind": "compare", "scale": 8})
    said = [{"choice": "b", "strength": s} for s in (4, 1)] + [{"choice": "tie"}]
    said += [{"choice": "a", "strength": s} for s in (1, 4)]
    assert [kind_of("compare").score(v, eight) for v in said] == [-1, -0.25, 0, 0.25, 1]
    assert kind_of("compare").score({"choice": "both_bad"}, eight) is None


def test_two_raters_of_eighty_percent_by_hand():
    """Both say a: 0.8² : 0.2² = 16 : 1. One each: even. Words that say nothing are left out."""
    both = posterior([("a", 0.8), ("a", 0.8), ("cannot_tell", 0.99)], ("a", "b"))
    assert both["a"] == pytest.approx(16 / 17)
    assert posterior([("a", 0.8), ("b", 0.8)], ("a", "b"))["a"] == pytest.approx(0.5)


def test_a_posterior_over_three_words_shares_out_the_mistakes():
    """η = 0.6, two wrong words: 0.6 against 0.2 and 0.2."""
    found = posterior([("a", 0.6)], ("a", "b", "tie"))
    assert found == pytest.approx({"a": 0.6, "b": 0.2, "tie": 0.2})


def test_words_follow_the_settings():
    plain = settings_of({"kind": "compare", "allow_tie": False, "allow_both_bad": False})
    compare = kind_of("compare")
    assert compare.words(plain) == ("a", "b")
    assert compare.words(settings_of({"kind": "compare"})) == ("a", "b", "tie", "both_bad")


@pytest.mark.parametrize(
    ("kind", "gold", "value", "right"),
    [
        ("compare", {"choice": "a", "strength": 2}, {"choice": "a", "strength": 1}, True),
        ("compare", {"choice": "a"}, {"choice": "tie"}, False),
        ("thumbs", {"up": True}, {"up": False}, False),
        ("rank", {"ranks": [0, 1, 2, 3]}, {"ranks": [0, 1, 3, 2]}, True),  # 5 of 6 pairs
        ("rank", {"ranks": [0, 1, 2, 3]}, {"ranks": [1, 0, 3, 2]}, False),  # 4 of 6
        ("rank", {"ranks": [0, 1, 2]}, {"ranks": [0, 0, 0]}, False),
        ("rank", {"ranks": [0, 1, None]}, {"ranks": [0, 1, 2]}, True),
        ("rank", {"ranks": [2, 1, 0]}, {"ranks": [2, 1, 0]}, True),  # the best one stands last
        ("rank", {"ranks": [2, 1, 0]}, {"ranks": [0, 1, 2]}, False),
        ("steps", {"labels": [1, -1, 1]}, {"labels": [0, -1, None]}, True),  # the same first bad
        ("steps", {"labels": [1, -1, 1]}, {"labels": [-1, None, None]}, False),
        ("principles", {"vote": "agree"}, {"vote": "agree"}, True),
    ],
)
def test_agreement_with_gold(kind, gold, value, right):
    assert kind_of(kind).same_as(gold, value) is right


@given(st.permutations(range(5)), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_agreement_of_rankings_does_not_hang_on_the_order_of_the_answers(places, ranks):
    gold = [0, 1, 1, 2, None]
    rank = kind_of("rank")
    same = rank.same_as({"ranks": gold}, {"ranks": ranks})
    moved = [{"ranks": [one[place] for place in places]} for one in (gold, ranks)]
    assert rank.same_as(*moved) is same


def test_ratings_may_be_one_point_off_and_spans_overlap_by_half():
    gold = {"ratings": {"helpful": 4}}
    assert kind_of("rate").same_as(gold, {"ratings": {"helpful": 5}})
    assert not kind_of("rate").same_as(gold, {"ratings": {"helpful": 6}})
    wanted = {"spans": [{"start": 0, "end": 10, "label": "x"}]}
    for end, right in ((4, True), (3, False)):  # F1 = 2·4/14 = 0.57 and 2·3/13 = 0.46
        seen = {"spans": [{"start": 0, "end": end, "label": "x"}]}
        assert kind_of("spans").same_as(wanted, seen) is right


def test_a_ranking_becomes_pairs_with_the_unranked_below():
    """Ranks 0, none, 0, none, displayed 3 2 1 0: a tie above, two unranked that say nothing."""
    rank = settings_of({"kind": "rank"})
    found = {
        p.name: p for p in kind_of("rank").values({"ranks": [0, None, 0, None]}, (3, 2, 1, 0), rank)
    }
    assert (found["0-1"].value, found["0-2"].value, found["1-2"].value) == (1, 0, -1)
    assert math.isnan(found["1-3"].value)
    assert {part.first for part in found.values()} == {-1.0}
