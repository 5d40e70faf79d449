"""Raters who are far ahead: they miss nothing, and their next item costs no more."""

from __future__ import annotations

import pytest

from backflip.feedback.rating import waiting
from tests.feedback.conftest import pair, pairs
from tests.feedback.test_scale import Counted

A = {"choice": "a", "strength": 1}


@pytest.fixture(autouse=True)
def short_head(monkeypatch):
    """Far ahead is who has had three items."""
    monkeypatch.setattr(waiting, "HEAD", 3)


def work(project, person, count):
    done = []
    for _ in range(count):
        (shown,) = project.next(person)
        project.answer(person, shown.item_id, A)
        done.append(shown.item_id)
    return done


def newly(project, person):
    """The next item apart from the one that came with the last answer."""
    held = project.next(person)
    return project.next(person, hold=[shown.item_id for shown in held])[0].item_id


def queue(make, *, items=20, raters=3):
    """A queue in the given order, so that it is known who is where."""
    given = {"order": "given", "raters_per_item": 2, "lease_seconds": 60}
    project, people = make(raters, adjudicate_below=0.0, **given)
    project.add_items(pairs(items))
    return project, people, [item.id for item in project.items()]


def test_who_works_alone_gets_every_item_once_and_in_order(make):
    project, people, ids = queue(make)
    assert work(project, people[0], 20) == ids
    assert project.next(people[0]) == []
    assert work(project, people[1], 20) == ids
    assert project.overview().done == 20


def test_an_item_that_comes_back_at_the_head_is_seen(make, clock):
    """Two others hold the first item while the third goes on; then one lease expires."""
    project, people, ids = queue(make)
    for person in people[1:]:
        assert project.next(person)[0].item_id == ids[0]
    assert work(project, people[0], 10) == ids[1:11]
    clock.now += 61  # the one that came with the last answer expires with them
    assert project.next(people[0])[0].item_id == ids[0]


def test_an_item_that_comes_back_between_is_seen_in_the_end(make, clock):
    """The sixth item is held while the first rater passes it, beyond the head and behind them."""
    project, people, ids = queue(make)
    project.drop(ids[:5])
    for person in people[1:]:
        assert project.next(person)[0].item_id == ids[5]
    project.reopen(ids[:5])
    assert work(project, people[0], 12) == [*ids[:5], *ids[6:13]]
    clock.now += 61
    assert work(project, people[0], 8) == [*ids[13:], ids[5]]
    assert project.next(people[0]) == []


@pytest.mark.parametrize("how", ["added", "prioritised", "reopened"])
def test_what_becomes_urgent_is_asked_next(make, how):
    project, people, ids = queue(make)
    if how == "reopened":
        project.drop(ids[:2])
        project.prioritise(dict.fromkeys(ids[:2], 9))
    work(project, people[0], 10)
    match how:
        case "added":
            project.add_items([pair(99)], priority=9)
            urgent = project.items(newest=True, limit=1)[0].id
        case "prioritised":
            urgent = ids[-1]
            project.prioritise({urgent: 9})
        case _:
            project.reopen(ids[1:2])
            urgent = ids[1]
    assert newly(project, people[0]) == urgent


def test_many_urgent_items_come_before_all_others(make):
    """More than the head holds: who was far ahead walks from the beginning again."""
    project, people, ids = queue(make)
    work(project, people[0], 10)
    project.add_items(pairs(8, start=100), priority=9)
    (held,) = project.next(people[0])
    assert work(project, people[0], 9)[0] == held.item_id
    urgent = [item.id for item in project.items(after=ids[-1])]
    assert sorted(row.item for row in project.answers())[-8:] == urgent


def test_the_next_item_costs_the_same_however_far_ahead_a_rater_is(tmp_path):
    """Counted in steps of SQLite: after 40 answers that wait for others, and after 400."""
    counted = Counted(tmp_path / "feedback.sqlite")
    project = counted.store.create("tone", {"kind": "compare", "gold_share": 0.0})
    person = counted.store.people.add().id
    project.enrol(person)
    project.add_items(pairs(500))
    work(project, person, 40)
    near = counted.cost(lambda: work(project, person, 1))
    work(project, person, 360)
    assert counted.cost(lambda: work(project, person, 1)) < 1.3 * near
    counted.store.close()
