"""``--power``: what is assumed, what a project's own raters say, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backflip.errors import UserError
from backflip.feedback.statistics.power import Learner, reward_accuracy
from backflip.feedback.statistics.simulate import Population
from backflip.server.rehearse.planning import Assumptions, assumed, planned
from tests.feedback.answered import answer_all, better, opened, pair, project_of


def test_each_plan_reaches_what_is_wished_and_one_item_fewer_does_not():
    made = assumed({"ties": 0.0})
    found, dimensions = planned(0.8, made)
    assert (found[0].labels, dimensions) == (min(plan.labels for plan in found), 100)
    people, learner = Population.uniform(20, reliability=0.8), Learner(100, 0.9)
    for plan in found:
        n = plan.raters_per_item
        assert reward_accuracy(people, learner, plan.items, raters_per_item=n) >= 0.8
        assert reward_accuracy(people, learner, plan.items - 1, raters_per_item=n) < 0.8
        assert plan.hours == pytest.approx(plan.labels * 60 / 3600)


def test_a_pilot_is_planned_again_as_it_was():
    """Wishing for just what the pilot reached takes just as many items as the pilot had."""
    made = assumed({"pilot_items": 500, "pilot_accuracy": 0.7, "pilot_raters": 3})
    found, _ = planned(0.7, made)
    (same,) = [plan for plan in found if plan.raters_per_item == 3]
    assert same.items == pytest.approx(500, abs=1)


def test_a_project_tells_how_reliable_its_raters_are_and_the_command_line_overrules_it(
    tmp_path: Path,
):
    store = opened(tmp_path)
    project, people = project_of(store, "compare", [pair(n) for n in range(20)])

    def said(rater: int, payload: dict) -> dict:
        right, number = better(payload), int(payload["prompt"][0]["content"].split()[1][:-1])
        wrong = rater == 2 and number % 4 == 0
        return {"choice": "ba"[right == "b"] if wrong else right}

    answer_all(project, people, said)
    made = assumed({}, project)
    assert made.raters == 3
    assert made.seconds == pytest.approx(5.0)
    assert made.ties == 0
    assert made.reliability == pytest.approx((1 + 1 + 15 / 20) / 3, abs=0.03)
    assert assumed({"reliability": 0.7, "raters": 9}, project).raters == 9
    store.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reliable": 0.8}, "nothing is assumed of 'reliable'. There are: reliability"),
        ({"reliability": "much"}, "reliability=much: give a number"),
        ({"raters": 2.5}, "raters=2.5: give a whole number"),
        ({"reliability": 0.5}, "reliability=0.5 is impossible. Give more than 0.5"),
        ({"pilot_items": 9, "pilot_accuracy": 0.95}, "below ceiling"),
        ({"pilot_accuracy": 0.7}, "how many items had the pilot"),
    ],
)
def test_a_slip_is_answered_in_words(given: dict, said: str):
    with pytest.raises(UserError, match=said):
        assumed(given)


def test_what_no_labels_can_reach_is_said():
    with pytest.raises(UserError, match=r"no number of items reaches 95\.0%"):
        planned(0.95, Assumptions())
    with pytest.raises(UserError, match=r"above 0\.5, a coin"):
        planned(0.4, Assumptions())


def test_a_project_without_answers_or_without_pairs_is_no_help(tmp_path: Path):
    store = opened(tmp_path)
    with pytest.raises(UserError, match="has 0 judgements; from 30 on"):
        assumed({}, store.create("tone", {"kind": "compare"}))
    with pytest.raises(UserError, match="asks for 'thumbs', and the sums are of pairs"):
        assumed({}, store.create("thumb", {"kind": "thumbs"}))
    store.close()
