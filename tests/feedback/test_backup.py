"""A copy while others write, and the way back."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from backflip.errors import UserError
from backflip.feedback.projects.store import open_store
from backflip.feedback.store.backup import restore
from tests.feedback import postgres
from tests.feedback.conftest import pairs

A = {"choice": "a", "strength": 1}


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """Debian keeps PostgreSQL's programs off the path."""
    if found := postgres.program("pg_dump"):
        monkeypatch.setenv("PATH", str(Path(found).parent), prepend=":")


def test_a_backup_taken_under_load_holds_one_whole_state(make, store, tmp_path, url, request):
    """Answers go on while it is made. Each event of the copy has its answer, each count agrees."""
    project, people = make(3)
    project.add_items(pairs(60))
    stop, failed = threading.Event(), []

    def rate(person):
        try:
            while not stop.is_set() and (shown := project.next(person)):
                project.answer(person, shown[0].item_id, A)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=rate, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    copy = store.backup(tmp_path / "copies" / "one.backup")
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    place = other_place(tmp_path, request, store)
    restore(copy, place)
    again = open_store(place)
    found = again.project("tone")
    answers = [row.event for row in found.answers()]
    assert answers == [event.number for event in found.events(kinds=["answer"])]
    assert found.overview().given == len(answers) <= project.overview().given
    person = people[0]  # the copy is alive
    (shown,) = found.next(person)
    found.answer(person, shown.item_id, A)
    again.close()


def other_place(tmp_path, request, store):
    if store.database.embedded:
        return str(tmp_path / "restored" / "feedback.sqlite")
    return request.getfixturevalue("pg").create()


def test_a_backup_never_overwrites(store, tmp_path):
    copy = store.backup(tmp_path / "one.backup")
    with pytest.raises(UserError, match="never overwrites"):
        store.backup(copy)
    assert sorted(p.name for p in tmp_path.glob("one*")) == ["one.backup"]


def test_what_stood_in_the_place_is_moved_aside(tmp_path):
    path = tmp_path / "feedback.sqlite"
    store = open_store(path)
    store.create("old", {"kind": "compare"})
    copy = store.backup(tmp_path / "copy")
    store.create("new", {"kind": "compare"})
    store.close()
    restore(copy, path)
    restored = open_store(path)
    assert [p.name for p in restored.projects()] == ["old"]
    restored.close()
    (aside,) = [
        p
        for p in tmp_path.glob("feedback.sqlite.replaced-*")
        if "-wal" not in p.name and "-shm" not in p.name
    ]
    kept = open_store(aside)
    assert [p.name for p in kept.projects()] == ["new", "old"]
    kept.close()


def test_a_damaged_or_foreign_file_is_refused_and_nothing_is_replaced(tmp_path):
    path = tmp_path / "feedback.sqlite"
    store = open_store(path)
    project = store.create("old", {"kind": "compare"})
    project.add_items(pairs(300))
    copy = store.backup(tmp_path / "copy")
    store.close()
    broken = tmp_path / "broken"
    data = bytearray(copy.read_bytes())
    data[8192:40_000] = bytes(40_000 - 8192)
    broken.write_bytes(data)
    (tmp_path / "text").write_text("hello " * 1000)
    for wrong, said in (
        (broken, "damaged|not a whole"),
        (tmp_path / "text", "not a whole"),
        (tmp_path / "none", "does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            restore(wrong, path)
    again = open_store(path)
    assert [p.name for p in again.projects()] == ["old"]
    again.close()


def test_a_database_that_is_not_empty_is_not_restored_over(pg, tmp_path):
    place = pg.create()
    store = open_store(place)
    copy = store.backup(tmp_path / "copy")
    with pytest.raises(UserError, match="is not empty"):
        restore(copy, place)
    store.close()


def test_without_postgresqls_programs_it_is_said_what_to_install(pg, tmp_path, monkeypatch):
    store = open_store(pg.create())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="pg_dump was not found; install"):
        store.backup(tmp_path / "copy")
    store.close()


def test_a_copy_in_pieces_is_no_copy(tmp_path):
    """A backup that was cut off on its way (half the file) is refused."""
    store = open_store(tmp_path / "feedback.sqlite")
    store.create("one", {"kind": "compare"}).add_items(pairs(300))
    copy = store.backup(tmp_path / "copy")
    store.close()
    half = tmp_path / "half"
    shutil.copyfile(copy, half)
    with half.open("r+b") as file:
        file.truncate(copy.stat().st_size // 2)
    with pytest.raises(UserError, match=r"damaged|not a whole"):
        restore(half, tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()


def test_a_database_in_use_is_not_restored_over(tmp_path):
    """Its server would go on writing into the file that was moved aside, and call that saved."""
    path = tmp_path / "feedback.sqlite"
    store = open_store(path)
    store.create("old", {"kind": "compare"})
    copy = store.backup(tmp_path / "copy")
    with pytest.raises(UserError, match=r"is in use.* Stop that first"):
        restore(copy, path)
    store.create("new", {"kind": "compare"})
    store.close()
    assert not list(tmp_path.glob("*.replaced-*"))
    aside = restore(copy, path)
    assert aside is not None
    kept = open_store(aside)
    assert [p.name for p in kept.projects()] == ["new", "old"]
    kept.close()
