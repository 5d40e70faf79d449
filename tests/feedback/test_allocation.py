"""Who is shown what: leases, overlap, priority, routing, gold, repeats, arms, budgets."""

from __future__ import annotations

import pytest

from backflip.feedback.rating.items import NewItem
from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import as_shown, pair, pairs

A = {"choice": "a", "strength": 1}


def work(project, person, count, value=A):
    """Answer so many items as they come; their numbers."""
    done = []
    for _ in range(count):
        shown = project.next(person)
        if not shown:
            break
        project.answer(person, shown[0].item_id, value, seconds=1.0)
        done.append(shown[0].item_id)
    return done


def test_every_item_is_answered_by_as_many_raters_as_it_wants_and_never_twice_by_one(make):
    project, people = make(4, raters_per_item=3)
    project.add_items(pairs(7))
    seen = {person: work(project, person, 99) for person in people}
    assert all(len(set(items)) == len(items) for items in seen.values())
    assert sorted(item for items in seen.values() for item in items) == sorted(
        [i.id for i in project.items()] * 3
    )
    assert project.overview().done == 7
    assert project.why_nothing(people[0]) == "Everything is done. Thank you."


def test_what_is_shown_is_held_and_comes_back_after_a_reload(make):
    project, people = make(1)
    project.add_items(pairs(5))
    first = project.next(people[0], count=2)
    again = project.next(people[0], count=2)
    assert [s.item_id for s in again] == [s.item_id for s in first]
    assert [s.payload for s in again] == [s.payload for s in first]
    (other,) = project.next(people[0], hold=[s.item_id for s in first])
    assert other.item_id not in {s.item_id for s in first}


def test_a_lease_keeps_others_out_until_it_expires(make, clock):
    project, people = make(2, raters_per_item=1, lease_seconds=60)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    assert shown.lease_end == clock.now + 60
    assert project.next(people[1]) == []
    clock.now += 59
    assert project.next(people[1]) == []
    clock.now += 2
    (given,) = project.next(people[1])
    assert given.item_id == shown.item_id
    assert project.next(people[0]) == []


def test_a_clock_set_back_does_not_lock_items_up(make, clock):
    """A lease that ends in a day, where leases last a minute, was made by a clock gone wrong."""
    project, people = make(2, raters_per_item=1, lease_seconds=60)
    project.add_items(pairs(1))
    project.next(people[0])
    clock.now -= 86_400
    assert len(project.next(people[1])) == 1


def test_the_same_rater_sees_the_same_order_after_an_expired_lease(make, clock):
    project, people = make(1, lease_seconds=60)
    project.add_items(pairs(1))
    (first,) = project.next(people[0])
    clock.now += 1000
    (again,) = project.next(people[0])
    assert again.order == first.order


def test_higher_priority_comes_first_and_new_items_can_overtake(make):
    project, people = make(1)
    project.add_items([NewItem(pair(n), priority=n) for n in range(3)])
    project.add_items([pair(9)], priority=99)
    texts = [s.payload["prompt"][0]["content"] for s in project.next(people[0], count=4)]
    assert texts == ["question 9", "question 2", "question 1", "question 0"]


def test_priorities_can_change_while_items_wait(make):
    project, people = make(1)
    project.add_items(pairs(3))
    last = project.items()[-1].id
    assert project.prioritise({last: 5.0, 10**9: 1.0}) == 1
    assert project.next(people[0])[0].item_id == last


@pytest.mark.parametrize("order", ["given", "shuffled"])
def test_items_come_in_the_given_order_only_if_asked(make, order):
    project, people = make(1, order=order)
    project.add_items(pairs(6))
    project.add_items(pairs(6, start=6))
    ids = work(project, people[0], 12)
    assert (ids == sorted(ids)) is (order == "given")


def test_items_reach_only_raters_of_their_group(make):
    project, people = make(2, groups={"language": ["de", "en"]}, raters_per_item=1)
    project.enrol(people[0], groups={"language": "de"})
    project.add_items([NewItem(one, route="language=de") for one in pairs(2)])
    project.add_items(pairs(2, start=2))
    assert len(work(project, people[1], 9)) == 2
    assert "other raters have the rest" in project.why_nothing(people[1])
    assert len(work(project, people[0], 9)) == 2


def test_gold_comes_at_its_rate_once_each_and_looks_like_work(make):
    project, people = make(1, gold_share=0.25, raters_per_item=1)
    project.add_items(pairs(120))
    project.add_items(pairs(60, start=1000), gold=[A] * 60)
    seen = set()
    for _ in range(120):
        (shown,) = project.next(people[0])
        assert shown.stage == "work"
        assert set(shown.page()) == {"item", "stage", "payload", "warning", "lease_end"}
        assert "gold" not in str(shown.page())
        project.answer(people[0], shown.item_id, as_shown(shown, A))
        seen.add(shown.item_id)
    assert len(seen) == 120
    counts = project.tallies()
    assert abs(counts["gold_seen"] - 30) < 4 * (120 * 0.25 * 0.75) ** 0.5  # four deviations
    assert counts["gold_right"] == counts["gold_seen"]


def test_gold_is_answered_by_everybody_and_fills_no_place(make):
    project, people = make(3, gold_share=0.5, raters_per_item=1)
    project.add_items(pairs(30))
    project.add_items(pairs(3, start=100), gold=[A] * 3)
    for person in people:
        work(project, person, 10)
    assert project.tallies()["gold_seen"] > 3
    (gold, *_) = project.items(purpose="gold")
    assert gold.state == "open"
    assert project.overview().items == 30


def test_repeats_come_late_once_and_in_an_order_of_their_own(make):
    project, people = make(1, repeat_share=0.3, repeat_gap=10, raters_per_item=1)
    project.add_items(pairs(100))
    place, repeats = {}, 0
    for number in range(90):
        (shown,) = project.next(people[0])
        project.answer(people[0], shown.item_id, A)
        if shown.repeat:
            repeats += 1
            assert number - place[shown.item_id] > 10
            assert "repeat" not in str(shown.page())
            place[shown.item_id] = -(10**9)  # a third time would not pass
        else:
            assert shown.item_id not in place
            place[shown.item_id] = number
    assert abs(repeats - 24) < 4 * (80 * 0.3 * 0.7) ** 0.5
    assert project.overview().given == 90 - repeats
    assert int(project.judgements().repeat.sum()) == repeats


def test_the_random_arm_gets_its_share_beside_the_active_one(make):
    project, people = make(1, random_share=0.25, raters_per_item=1)
    project.add_items(pairs(100), origin="active", priority=5)
    project.add_items(pairs(100, start=1000), origin="random")
    work(project, people[0], 80)
    arms = {item.id: item.origin for item in project.items(limit=1000)}
    random = sum(arms[row.item] == "random" for row in project.answers())
    assert abs(random - 20) < 4 * (80 * 0.25 * 0.75) ** 0.5


def test_items_move_to_the_arm_that_they_are_chosen_for(make):
    project, people = make(1, random_share=0.0)
    project.add_items(pairs(4), origin="random")
    chosen = project.items()[2].id
    project.prioritise({chosen: 1.0}, origin="active")
    assert project.next(people[0])[0].item_id == chosen


def test_when_one_arm_is_empty_the_other_goes_on(make):
    project, people = make(1, random_share=1.0)
    project.add_items(pairs(3), origin="active")
    assert len(work(project, people[0], 9)) == 3


def test_what_is_disputed_is_settled_when_the_budget_is_spent(make, store):
    project, people = make(2, raters_per_item=2, adjudicate_below=0.9, budget={"items": 1})
    project.add_items(pairs(3))
    item = project.items()[0].id
    project.to_adjudication([item])
    for person, value in zip(people, (A, A), strict=True):
        (shown,) = project.next(person)
        project.answer(person, shown.item_id, as_shown(shown, value))
    assert project.next(people[1]) == []
    senior = store.people.add().id
    project.enrol(senior, role="adjudicator")
    assert project.next(senior) == []
    (shown,) = project.next(senior, queue="adjudicate")
    assert shown.item_id == item


@pytest.mark.parametrize(
    ("budget", "answered", "said"),
    [
        ({"items": 2}, 2, "2 items"),
        ({"hours": 3 / 3600}, 3, "0.000833333 hours"),
        ({"money": 2, "price_per_answer": 0.5, "currency": "EUR"}, 4, "2 EUR"),
    ],
)
def test_a_budget_stops_the_questions(make, budget, answered, said):
    project, people = make(1, raters_per_item=1, budget=budget)
    project.add_items(pairs(9))
    assert len(work(project, people[0], 9)) == answered
    assert f"the budget of {said} is used up" in project.why_nothing(people[0])


def test_strangers_and_removed_members_get_nothing(make, store):
    project, people = make(1)
    stranger = store.people.add().id
    for person in (stranger, 10**12):
        with pytest.raises(RefusedError, match="do not belong") as refused:
            project.next(person)
        assert refused.value.code == "not_allowed"
    project.set_state(people[0], "removed")
    with pytest.raises(RefusedError, match="do not belong"):
        project.next(people[0])


def test_a_page_cannot_hoard_items(make):
    project, people = make(1)
    project.add_items(pairs(50))
    held = []
    for _ in range(5):
        held += project.next(people[0], count=15, hold=[s.item_id for s in held])
    assert len(held) == 20


def test_dropped_items_are_asked_no_more_and_can_come_back(make):
    project, people = make(1, raters_per_item=1)
    project.add_items(pairs(3))
    ids = [item.id for item in project.items()]
    assert project.drop(ids[:2], reason="broken") == 2
    assert work(project, people[0], 9) == [ids[2]]
    assert (project.overview().dropped, project.overview().items) == (2, 1)
    assert project.reopen(ids) == 3  # the finished one, too: for one answer more
    assert set(work(project, people[0], 9)) == set(ids[:2])
    assert project.overview().wanted == 4


def test_an_item_that_nobody_wants_any_more_is_not_shown_again(make, clock):
    """One was dropped while it lay before the rater, one was filled by a late answer."""
    project, people = make(2, raters_per_item=1, lease_seconds=60, order="given")
    project.add_items(pairs(4))
    (late,) = project.next(people[1])
    clock.now += 61
    first, second = project.next(people[0], count=2)
    assert first.item_id == late.item_id
    project.answer(people[1], late.item_id, A)
    project.drop([second.item_id])
    (shown,) = project.next(people[0])
    assert shown.item_id not in (first.item_id, second.item_id)
    assert project.answer(people[0], first.item_id, A).surplus  # the page may still send it
