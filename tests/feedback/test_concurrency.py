"""Many raters at once: no answer lost, none doubled, no item given to too many."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter

import pytest
from sqlalchemy import func, select

from backflip.feedback.projects.store import open_store
from backflip.feedback.store.schema import Answers, Items, Leases
from tests.feedback.conftest import pairs

A = {"choice": "a", "strength": 1}


def rate_until_empty(project, person, tab, acknowledged):
    """Answer everything that comes, each answer sent twice, as an impatient browser would."""
    shown = next(iter(project.next(person)), None)
    while shown:
        key = f"{shown.item_id}-{tab}"
        receipt = project.answer(person, shown.item_id, A, seconds=1, client_key=key)
        again = project.answer(person, shown.item_id, A, seconds=1, client_key=key)
        assert again.answer_id == receipt.answer_id
        acknowledged.append((receipt.answer_id, person, shown.item_id))
        shown = receipt.next


def in_threads(works):
    failed = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def check(project, acknowledged, *, items, raters):
    """The state of the database against what was acknowledged."""
    rows = list(project.answers())
    counting = [row for row in rows if not row.surplus]
    assert counting == rows  # nobody was given a place that another had taken
    assert len({(row.person, row.item) for row in rows}) == len(rows)
    assert {row.event for row in rows} == {number for number, _, _ in acknowledged}
    assert set(Counter(row.item for row in counting).values()) == {raters}
    overview = project.overview()
    assert (overview.done, overview.given) == (items, items * raters)
    assert overview.answers == len(rows)
    per_person = Counter(person for _, person in {(n, p) for n, p, _ in acknowledged})
    counted = {p: int(c["answers"]) for p, c in project.tallies_by_person().items()}
    assert counted == per_person
    with project.ref.database.read() as connection:
        assert connection.scalar(select(func.count()).where(Leases.state == "live")) == 0
        wrong = select(func.count()).where(Items.taken != Items.given)
        assert connection.scalar(wrong) == 0
        doubled = (
            select(Answers.person_id)
            .where(Answers.repeat_of.is_(None))
            .group_by(Answers.person_id, Answers.item_id)
            .having(func.count() > 1)
        )
        assert connection.execute(doubled).all() == []


def test_raters_in_many_threads_with_two_tabs_each(make):
    """Six raters, twelve tabs, every answer sent twice, 40 items of three raters."""
    project, people = make(6, raters_per_item=3)
    project.add_items(pairs(40))
    acknowledged = []
    in_threads(
        [
            lambda person=person, tab=tab: rate_until_empty(project, person, tab, acknowledged)
            for person in people
            for tab in range(2)
        ]
    )
    for person in people:  # what was locked by a neighbour when they asked for the last items
        rate_until_empty(project, person, 2, acknowledged)
    check(project, acknowledged, items=40, raters=3)


def test_the_same_answer_from_many_threads_at_once_is_one(make):
    """A browser that sends one answer eight times at once gets eight times the same receipt."""
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    receipts = []
    in_threads(
        [
            lambda: receipts.append(
                project.answer(people[0], shown.item_id, A, client_key="once").answer_id
            )
        ]
        * 8
    )
    assert len(receipts) == 8
    assert len(set(receipts)) == 1
    assert len(project.events(kinds=["answer"])) == 1


def test_gold_answered_in_many_tabs_at_once_is_remembered_once_each(make):
    """The rolling accuracy is read, changed and written: no tab may overwrite another's."""
    project, people = make(1, gold_share=0.9, gold_pause=0.0, gold_warn=0.0)
    project.add_items(pairs(8), gold=[A] * 8)
    project.add_items(pairs(99, start=100))
    golds = {item.id for item in project.items(purpose="gold")}
    shown = []
    while len([s for s in shown if s.item_id in golds]) < 8:
        (one,) = project.next(people[0], hold=[s.item_id for s in shown])
        shown.append(one)
        if one.item_id not in golds:
            project.skip(people[0], one.item_id)
    mine = [s.item_id for s in shown if s.item_id in golds]
    in_threads([lambda n=n: project.answer(people[0], n, A, client_key=str(n)) for n in mine])
    assert len(project.member(people[0]).recent) == 8
    assert project.tallies(people[0])["gold_seen"] == 8


def test_undo_skip_and_answer_at_once_keep_the_counts_straight(make):
    """Three raters undo every third answer and skip every fifth item, all at the same time."""
    project, people = make(3, raters_per_item=2)
    project.add_items(pairs(30))

    def work(person):
        number = 0
        while shown := project.next(person):
            number += 1
            if number % 5 == 0:
                project.skip(person, shown[0].item_id)
                continue
            project.answer(person, shown[0].item_id, A)
            if number % 3 == 0:
                back = project.undo(person)
                project.answer(person, back.item_id, A)

    in_threads([lambda person=person: work(person) for person in people])
    rows = list(project.answers())
    overview = project.overview()
    assert overview.given == len([row for row in rows if not row.surplus])
    assert overview.answers == len(rows)
    given = Counter(row.item for row in rows if not row.surplus)
    assert {item.id: item.given for item in project.items()} == {
        item.id: given[item.id] for item in project.items()
    }


def _elsewhere(url, person, queue):
    store = open_store(url)
    acknowledged = []
    rate_until_empty(store.project("tone"), person, 0, acknowledged)
    store.close()
    queue.put(acknowledged)


def test_raters_in_several_processes(make, url):
    """As with several servers on one database: three processes, one rater each."""
    project, people = make(3, raters_per_item=2, adjudicate_below=0.0)
    project.add_items(pairs(20))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_elsewhere, args=(url, person, queue)) for person in people]
    for worker in workers:
        worker.start()
    acknowledged = [row for _ in workers for row in queue.get(timeout=300)]
    for worker in workers:
        worker.join(60)
    leftovers = []
    for person in people:  # what one process held back when another asked for the last items
        rate_until_empty(project, person, 1, leftovers)
    check(project, acknowledged + leftovers, items=20, raters=2)


@pytest.mark.parametrize("raters", [2])
def test_event_numbers_never_appear_behind_a_reader(make, raters):
    """A reader that goes on from the last number it saw misses nothing, while many write."""
    project, people = make(4, raters_per_item=raters)
    project.add_items(pairs(60))
    done, seen = threading.Event(), []

    def read():
        after = 0
        while True:
            last = done.is_set()
            for event in project.events(after=after):
                seen.append(event.number)
                after = event.number
            if last:
                return

    reader = threading.Thread(target=read)
    reader.start()
    in_threads([lambda p=p: rate_until_empty(project, p, 0, []) for p in people])
    done.set()
    reader.join()
    assert seen == [event.number for event in project.events()]
