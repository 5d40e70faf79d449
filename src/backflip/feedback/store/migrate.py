"""Bring a database to the present schema: every file of ``migrations/`` that it has not had."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from backflip.errors import UserError

HERE = Path(__file__).parent / "migrations"


def scripts() -> ScriptDirectory:
    """The migrations that come with the package."""
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("version_locations", str(HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return ScriptDirectory.from_config(config)


def head() -> str:
    """The newest version of the schema."""
    newest = scripts().get_current_head()
    assert newest is not None, "the package ships its migrations"
    return newest


def version_of(connection: Connection) -> str | None:
    """The version of a database; none before its first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, to: str = "head") -> bool:
    """Run what is missing, inside the caller's transaction. True where anything was.

    Raises UserError for a database that a newer Backflip has made.
    """
    directory, now = scripts(), version_of(connection)
    if now == (head() if to == "head" else to):
        return False
    try:
        steps = directory._upgrade_revs(to, now)  # type: ignore[arg-type]
    except CommandError:
        raise UserError(
            f"the feedback database has schema {now!r}, which this Backflip does not know: a newer "
            "one made it. Install that version, or restore a backup from before."
        ) from None
    context = MigrationContext.configure(connection, opts={"fn": lambda revision, _: steps})
    with Operations.context(context):
        context.run_migrations()
    return True
