"""The log: only grows, in order, read from a number on, exported whole."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.feedback.conftest import TODAY, pairs

A = {"choice": "a", "strength": 1}


def test_the_log_tells_a_projects_life_in_order(make, store):
    project, people = make(1, raters_per_item=1)
    project.add_items(pairs(2))
    for _ in range(2):
        (shown,) = project.next(people[0])
        project.answer(people[0], shown.item_id, A)
    log = project.events()
    assert [e.kind for e in log] == ["project", "joined", "items", "answer", "answer"]
    assert [e.number for e in log] == sorted(e.number for e in log)
    last = log[-1]
    assert last.person == store.people.get(people[0]).pseudonym
    assert (last.project, last.item, last.at) == ("tone", shown.item_id, TODAY)
    assert (last.rubric_version, last.app_version) == (1, store.database.app_version)
    assert project.newest_event() == last.number


def test_reading_goes_on_from_any_number(make):
    project, _ = make(3)
    log = project.events()
    assert project.events(after=log[1].number) == log[2:]
    assert project.events(until=log[1].number) == log[:2]
    assert project.events(limit=1) == log[:1]
    assert project.events(kinds=["joined"]) == [e for e in log if e.kind == "joined"]


def test_the_export_is_the_whole_log_page_by_page(make, store, monkeypatch):
    project, _ = make(5)
    lines = [json.loads(line) for line in store.export_log(project=project)]
    assert [line["number"] for line in lines] == [e.number for e in project.events()]
    assert len(list(store.export_log())) > len(lines)  # people belong to no project
    assert list(store.export_log(after=10**9)) == []


@pytest.mark.parametrize(
    "change", ["DELETE FROM events", "UPDATE events SET body = '{}'", "UPDATE events SET at = 0"]
)
def test_the_database_itself_refuses_to_change_the_log(make, store, change):
    make(1)
    before = list(store.export_log())
    with (
        pytest.raises(DBAPIError, match="the log only grows"),
        store.database.write() as connection,
    ):
        connection.execute(text(change))
    assert list(store.export_log()) == before


def test_an_event_and_what_it_tells_are_stored_together_or_not_at_all(make, store):
    """A transaction that fails in the middle leaves nothing: no event without its answer."""
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    with store.database.write() as connection:
        connection.execute(text("DROP TABLE answers"))
    before = project.newest_event()
    with pytest.raises(DBAPIError):
        project.answer(people[0], shown.item_id, A)
    assert project.newest_event() == before
    assert project.tallies(people[0]).get("answers", 0) == 0


def test_the_log_can_be_read_from_its_end_and_for_one_item(make):
    project, people = make(1)
    project.add_items(pairs(2))
    (shown,) = project.next(people[0])
    project.flag(people[0], shown.item_id, reason="odd")
    project.answer(people[0], shown.item_id, A)
    log = project.events()
    assert project.events(newest=True, limit=2) == log[:-3:-1]
    assert [e.kind for e in project.events(item=shown.item_id)] == ["flag", "answer"]
