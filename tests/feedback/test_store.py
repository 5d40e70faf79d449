"""Opening a database: made, migrated, refused."""

from __future__ import annotations

import shutil
import sqlite3
import unicodedata

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from backflip.errors import UserError
from backflip.feedback.projects.store import open_store
from backflip.feedback.store import migrate
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Table


def test_a_new_database_has_the_tables_that_the_code_speaks_of(store):
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
        assert migrate.version_of(connection) == migrate.head()


def test_opening_again_changes_nothing_and_finds_everything(url, clock):
    first = open_store(url, clock=clock)
    first.create("tone", {"kind": "compare"})
    secret = first.secret("cookies")
    first.close()
    again = open_store(url, clock=clock)
    assert [project.name for project in again.projects()] == ["tone"]
    assert again.secret("cookies") == secret != again.secret("links")
    again.check()
    again.close()


def test_a_database_of_a_newer_backflip_is_refused(url):
    store = open_store(url)
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    store.close()
    with pytest.raises(UserError, match="newer one made it"):
        open_store(url)


@pytest.mark.parametrize("version", ["0001", "0003"])
def test_a_database_of_before_the_first_release_is_refused_with_the_way_on(url, version):
    store = open_store(url)
    with store.database.write() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
    store.close()
    with pytest.raises(UserError, match=f"schema '{version}'.*Open it once with the code of"):
        open_store(url)


def test_a_database_of_the_first_release_gets_the_revisions_that_follow(url, tmp_path, monkeypatch):
    """Its tables are changed where they stand, with the rows in them."""
    store = open_store(url)
    store.create("tone", {"kind": "compare"})
    store.close()
    later = tmp_path / "100% migrations"
    shutil.copytree(migrate.HERE, later)
    (later / "versions" / "v0005_hue.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision, down_revision = '0005', '0004'\n"
        "def upgrade():\n"
        "    op.add_column('projects', sa.Column('hue', sa.Text(), server_default='blue'))\n"
    )
    monkeypatch.setattr(migrate, "HERE", later)
    changed = open_store(url)
    with changed.database.read() as connection:
        assert migrate.version_of(connection) == "0005"
        rows = connection.execute(text("SELECT name, hue FROM projects")).all()
    changed.close()
    assert rows == [("tone", "blue")]


def test_tables_of_another_program_are_not_taken_for_ours(tmp_path):
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE items (id INTEGER)")
    with pytest.raises(DBAPIError, match="already exists"):
        open_store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("items",)]


def test_sqlite_waits_keeps_its_promises_and_writes_ahead(tmp_path):
    store = open_store(tmp_path / "deep" / "feedback.sqlite")
    with store.database.write() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert told == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 2,  # FULL
        "busy_timeout": 30_000,
    }


def test_a_file_that_is_no_database_is_named_not_overwritten(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes, long enough to be read as a page of something " * 20)
    with pytest.raises(UserError, match="not a feedback database"):
        open_store(path)
    assert path.read_text().startswith("my notes")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://root@localhost/x", "databases of the kind 'mysql' are not known"),
        ("sqlite://", "in memory would be lost"),
        ("://", "is no database URL"),
    ],
)
def test_other_places_are_refused_by_name(given, said):
    with pytest.raises(UserError, match=said):
        open_store(given)


def test_where_the_database_is_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store().close()
    assert (tmp_path / "feedback.sqlite").exists()
    monkeypatch.setenv("BACKFLIP_FEEDBACK", str(tmp_path / "other.sqlite"))
    open_store().close()
    assert (tmp_path / "other.sqlite").exists()


def test_two_that_open_an_empty_database_at_once_both_find_it_whole(empty_url):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: open_store(empty_url), range(8)))
    assert "answers" in inspect(stores[0].database.engine).get_table_names()
    for store in stores:
        store.close()


def test_projects_have_names_that_fit_a_url_and_are_there_once(store):
    store.create("tone", {"kind": "compare", "title": "Tone — of voice"})
    with pytest.raises(RefusedError, match="a project 'tone' already"):
        store.create("tone", {"kind": "rank"})
    for name in ("ton-ä", "语气", "نبرة", "स्वर", "🎭", "étude_2"):
        store.create(unicodedata.normalize("NFD", name), {"kind": "rank"})
        assert store.project(name).name == name
    for name in (
        "",
        "Tone",
        "a/b",
        "x" * 64,
        "-x",
        "a\n",
        "a:b",
        "a@1",
        "\u0301x",
        "a b",
        "影" * 63,
    ):
        with pytest.raises(UserError, match="cannot be a project's name"):
            store.create(name, {"kind": "rank"})
    with pytest.raises(RefusedError, match="no project 'tune'; there are ton-ä, tone"):
        store.project("tune")


def test_a_project_that_was_put_away_is_still_there(store):
    project = store.create("tone", {"kind": "compare"})
    project.archive()
    assert store.projects() == []
    assert [p.name for p in store.projects(archived=True)] == ["tone"]
    assert store.project("tone").settings.kind == "compare"


def test_sqlite_files_can_be_read_by_sqlite_alone(tmp_path):
    """The data are the user's: no extension is needed to get at them."""
    path = tmp_path / "feedback.sqlite"
    store = open_store(path)
    store.create("tone", {"kind": "compare"})
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM projects").fetchall() == [("tone",)]
