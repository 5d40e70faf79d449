"""Shuffling to display order and back, and what a rater may never see."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.errors import UserError
from backflip.feedback.kinds.base import first_shown
from backflip.feedback.tasks.display import (
    as_displayed,
    in_displayed_order,
    in_item_order,
    order_of,
    seed_of,
)
from backflip.feedback.tasks.items import payload_of

TURN = [{"role": "user", "content": "why?"}]
SECRET = "model-of-the-secret-kind"
PAYLOADS = {
    "compare": {"prompt": TURN, "answers": [{"text": t, "source": SECRET} for t in "xy"]},
    "rank": {"prompt": TURN, "answers": [{"text": t, "source": SECRET} for t in "wxyz"]},
    "rate": {"prompt": TURN, "answer": {"text": "x", "source": SECRET}},
    "thumbs": {"prompt": TURN, "answer": {"text": "x", "source": SECRET}},
    "write": {"prompt": TURN, "draft": {"text": "x", "source": SECRET}},
    "steps": {"prompt": TURN, "steps": ["x"], "source": SECRET},
    "spans": {"prompt": TURN, "answer": {"text": "x", "source": SECRET}},
    "clips": {"clips": [{"url": f"/{t}.mp4", "source": SECRET} for t in "xy"]},
    "principles": {"principle": "be kind"},
    "talk": {"policies": [SECRET, SECRET + "2"], "rules": ["no insults"]},
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_source_is_ever_displayed(kind):
    payload = payload_of(PAYLOADS[kind], kind)
    shown = as_displayed(payload, order_of(payload, 3))
    assert SECRET not in json.dumps(shown)
    assert shown["kind"] == kind


def test_answers_stand_in_the_order_that_is_recorded():
    payload = payload_of(PAYLOADS["rank"], "rank")
    shown = as_displayed(payload, (2, 0, 3, 1))
    assert [answer["text"] for answer in shown["answers"]] == ["y", "w", "z", "x"]


def test_a_ranking_by_hand():
    """Displayed y, w, z, x with ranks 1, 0, none, 2: so w is best, y second, x third, z left."""
    value = in_item_order("rank", {"ranks": [1, 0, None, 2]}, (2, 0, 3, 1))
    assert value == {"ranks": [0, 2, 1, None]}


@given(st.permutations(range(5)), st.lists(st.integers(0, 4) | st.none(), min_size=5, max_size=5))
def test_ranks_come_back_from_any_order(order, ranks):
    there = in_displayed_order("rank", {"ranks": ranks}, order)
    assert in_item_order("rank", there, order)["ranks"] == ranks


@pytest.mark.parametrize("kind", ["compare", "clips"])
def test_left_means_the_answer_that_stood_left(kind):
    turned = in_item_order(kind, {"choice": "a", "strength": 2}, (1, 0))
    assert turned == {"choice": "b", "strength": 2}
    assert in_item_order(kind, {"choice": "a", "strength": 2}, (0, 1))["choice"] == "a"
    assert in_item_order(kind, {"choice": "tie"}, (1, 0)) == {"choice": "tie"}
    assert (first_shown((0, 1)), first_shown((1, 0)), first_shown(())) == (1, -1, 0)


def test_ranks_of_the_wrong_number_are_refused_before_they_are_turned():
    with pytest.raises(UserError, match="2 ranks for 3 answers"):
        in_item_order("rank", {"ranks": [0, 1]}, (0, 1, 2))
    with pytest.raises(UserError, match="no ranks for 3 answers"):
        in_item_order("rank", {}, (0, 1, 2))


def test_seeds_are_the_same_for_the_same_and_sides_are_fair():
    assert seed_of("salt", 1, 2) == seed_of("salt", 1, 2) != seed_of("salt", 12, "")
    payload = payload_of(PAYLOADS["compare"], "compare")
    sides = Counter(order_of(payload, seed_of("salt", 1, item)) for item in range(2000))
    assert set(sides) == {(0, 1), (1, 0)}
    assert abs(sides[0, 1] - 1000) < 4 * 500**0.5  # four standard deviations
