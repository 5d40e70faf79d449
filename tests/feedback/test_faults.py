"""Kill, full disk, a database that is gone: what was acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import event

from backflip.feedback.projects.store import open_store
from backflip.feedback.rating import allocation
from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import pairs

A = {"choice": "a", "strength": 1}
RATER = """
import sys
from backflip.feedback.projects.store import open_store
project = open_store(sys.argv[1]).project("tone")
person = int(sys.argv[2])
(shown,) = project.next(person)
while shown:
    receipt = project.answer(person, shown.item_id, {"choice": "a"}, client_key=str(shown.item_id))
    print(receipt.answer_id, flush=True)
    shown = receipt.next
"""


def killed(url, person, after):
    """Answer in a process of its own and kill it; the numbers that were acknowledged."""
    command = [sys.executable, "-c", RATER, url, str(person)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        numbers = [int(process.stdout.readline()) for _ in range(after)]
        os.kill(process.pid, signal.SIGKILL)
        return numbers + [int(line) for line in process.stdout if line.endswith("\n")]


def test_after_kill_nine_every_acknowledged_answer_is_there_and_the_rater_goes_on(make, url):
    project, people = make(1, raters_per_item=1)
    project.add_items(pairs(200))
    told = []
    for after in (3, 11):
        told += killed(url, people[0], after)
        kept = [row.event for row in project.answers()]
        assert set(told) <= set(kept)
        assert len(kept) <= len(told) + 2  # at most the one on its way, each time
        assert project.overview().given == len(kept)
    held = project.next(people[0])
    assert held[0].item_id not in {row.item for row in project.answers()}
    while shown := project.next(people[0]):
        project.answer(people[0], shown[0].item_id, A)
        if project.overview().given >= 30:
            break
    items = [row.item for row in project.answers()]
    assert len(set(items)) == len(items)


def test_a_full_disk_is_said_and_nothing_is_half_stored(tmp_path):
    """SQLite's own limit on pages brings the very error of a full disk."""
    store = open_store(tmp_path / "feedback.sqlite")
    project = store.create("tone", {"kind": "compare", "gold_share": 0.0})
    person = store.people.add().id
    project.enrol(person)
    project.add_items(pairs(50))
    pages = 0

    def narrow(raw, _record):
        raw.execute(f"PRAGMA max_page_count={pages}")

    with store.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 2
    store.close()
    event.listen(store.database.engine, "connect", narrow)
    acknowledged = []

    def go_on():
        for shown in iter(lambda: project.next(person), []):
            value = {"choice": "a", "reason": "word " * 200}
            acknowledged.append(project.answer(person, shown[0].item_id, value).answer_id)

    with pytest.raises(RefusedError, match="the disk is full: nothing was stored") as refused:
        go_on()
    assert refused.value.code == "full"
    assert acknowledged
    pages *= 10
    store.close()  # the disk has room again
    assert [row.event for row in project.answers()] == acknowledged
    (shown,) = project.next(person)
    project.answer(person, shown.item_id, A)
    assert project.overview().given == len(acknowledged) + 1


def test_an_answer_survives_when_no_next_item_can_be_chosen(make, monkeypatch):
    """The next item comes in a transaction of its own."""
    project, people = make(1)
    project.add_items(pairs(3))
    (shown,) = project.next(people[0])

    def full(*_, **__):
        raise RefusedError("full", "the disk is full")

    monkeypatch.setattr(allocation, "_serve", full)
    receipt = project.answer(people[0], shown.item_id, A, client_key="k")
    assert receipt.next is None
    monkeypatch.undo()
    assert [row.event for row in project.answers()] == [receipt.answer_id]
    assert project.answer(people[0], shown.item_id, A, client_key="k").next is not None


def test_a_writer_waits_for_another_process_and_then_goes_on(tmp_path):
    """Another process holds SQLite's lock for a while: no error, only patience."""
    path = tmp_path / "feedback.sqlite"
    store = open_store(path)
    hold = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(1.5); c.commit()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        store.create("tone", {"kind": "compare"})
        assert other.wait(60) == 0  # it had let go before we got in
    assert [project.name for project in store.projects()] == ["tone"]
    store.close()


def test_connections_that_the_server_dropped_are_made_anew(pg):
    """PostgreSQL was restarted, or an idle connection cut: the next request just works."""
    import psycopg

    store = open_store(pg.create())
    store.create("tone", {"kind": "compare"})
    with psycopg.connect(pg.url("postgres"), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid()"
            " AND datname = %s",
            [store.database.url.database],
        )
    assert [project.name for project in store.projects()] == ["tone"]
    store.close()
