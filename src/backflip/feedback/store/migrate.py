"""Migration of a database to the present schema: made, or by the revisions that it lacks."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from backflip.errors import UserError
from backflip.feedback.store.schema import Table

HERE = Path(__file__).parent / "migrations"
UNRELEASED = ("0001", "0002", "0003")
"""Schemas of before the first release, which nothing here can change any more."""


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("version_locations", str(HERE / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


def scripts() -> ScriptDirectory:
    """The revisions that come with the package."""
    return ScriptDirectory.from_config(_config())


def head() -> str:
    """The newest version of the schema."""
    newest = scripts().get_current_head()
    assert newest is not None, "the package ships its revisions"
    return newest


def version_of(connection: Connection) -> str | None:
    """The version of a database; none where it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection) -> bool:
    """Make or change the tables, inside the caller's transaction. True where anything was to do.

    Raises UserError for a database that a newer Backflip has made, or one of before 0.1.0.
    """
    now = version_of(connection)
    if now == head():
        return False
    if now is None:
        Table.metadata.create_all(connection, checkfirst=False)  # never adopt another's table
        MigrationContext.configure(connection).stamp(scripts(), "head")
        return True
    if now in UNRELEASED:
        raise UserError(
            f"the feedback database has schema {now!r}, from before the first release. Open it "
            "once with the code of commit d418e7e, which brings it to '0004', then with this one."
        )
    try:
        command.upgrade(_config(connection), "head")
    except CommandError:
        raise UserError(
            f"the feedback database has schema {now!r}, which this Backflip does not know: a newer "
            "one made it. Install that version, or restore a backup from before."
        ) from None
    return True
