"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """All tables; and a log that only grows."""
    for make in (
        _people,
        _projects,
        _secrets,
        _events,
        _identities,
        _invitations,
        _items,
        _memberships,
        _rubrics,
        _tallies,
        _tokens,
        _answers,
        _leases,
    ):
        make()
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def _guard_sqlite() -> None:
    """Events are never deleted, and change only where words are redacted."""
    op.execute("""
        CREATE TRIGGER events_stay BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
    """)
    op.execute("""
        CREATE TRIGGER events_keep BEFORE UPDATE ON events
        WHEN NEW.body NOT LIKE '%[redacted]%' OR NEW.id <> OLD.id OR NEW.kind <> OLD.kind
            OR NEW.at <> OLD.at OR NEW.person_id IS NOT OLD.person_id
            OR NEW.item_id IS NOT OLD.item_id OR NEW.project_id IS NOT OLD.project_id
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
    """)


def _guard_postgresql() -> None:
    """The same in PostgreSQL's words."""
    op.execute("""
        CREATE FUNCTION events_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND NEW.body LIKE '%[redacted]%' AND NEW.id = OLD.id
                AND NEW.kind = OLD.kind AND NEW.at = OLD.at
                AND NEW.person_id IS NOT DISTINCT FROM OLD.person_id
                AND NEW.item_id IS NOT DISTINCT FROM OLD.item_id
                AND NEW.project_id IS NOT DISTINCT FROM OLD.project_id THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'the log only grows';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER events_keep BEFORE UPDATE OR DELETE ON events
        FOR EACH ROW EXECUTE FUNCTION events_only_grow()
    """)


def _people() -> None:
    op.create_table(
        "people",
        sa.Column("id", BIG, nullable=False),
        sa.Column("pseudonym", sa.String(length=20), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pseudonym"),
    )


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", BIG, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("rubric_version", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("salt", sa.String(length=40), nullable=False),
        sa.Column("spots", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", BIG, nullable=False),
        sa.Column("project_id", BIG, nullable=True),
        sa.Column("person_id", BIG, nullable=True),
        sa.Column("item_id", BIG, nullable=True),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("client_key", sa.String(length=100), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("rubric_version", sa.Integer(), nullable=True),
        sa.Column("app_version", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["people.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_item", "events", ["item_id"], unique=False)
    op.create_index("events_by_person", "events", ["person_id"], unique=False)
    op.create_index("events_by_project", "events", ["project_id", "kind", "id"], unique=False)


def _identities() -> None:
    op.create_table(
        "identities",
        sa.Column("person_id", BIG, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("password_hash", sa.String(length=300), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("erased_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["people.id"],
        ),
        sa.PrimaryKeyConstraint("person_id"),
        sa.UniqueConstraint("email"),
    )


def _invitations() -> None:
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("token_hash"),
    )


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("id", BIG, nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("origin", sa.String(length=40), nullable=False),
        sa.Column("batch", sa.String(length=100), nullable=False),
        sa.Column("gold", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("spot", BIG, nullable=False),
        sa.Column("route", sa.String(length=200), nullable=False),
        sa.Column("queue", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("left", BIG, nullable=True),
        sa.Column("right", BIG, nullable=True),
        sa.Column("length", sa.Integer(), nullable=True),
        sa.Column("lists", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "digest", name="items_once"),
    )
    op.create_index("items_by_batch", "items", ["project_id", "batch"], unique=False)
    op.create_index("items_by_purpose", "items", ["project_id", "purpose"], unique=False)
    op.create_index(
        "items_flagged",
        "items",
        ["project_id"],
        unique=False,
        sqlite_where=sa.text("flags > 0"),
        postgresql_where=sa.text("flags > 0"),
    )
    op.create_index("items_by_state", "items", ["project_id", "state"], unique=False)
    op.create_index(
        "items_waiting", "items", ["project_id", "queue", "route", "priority", "spot"], unique=False
    )


def _memberships() -> None:
    op.create_table(
        "memberships",
        sa.Column("person_id", BIG, nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("recent", sa.Text(), nullable=False),
        sa.Column("warned", sa.Boolean(), nullable=False),
        sa.Column("reliability", sa.Double(), nullable=True),
        sa.Column("joined", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["people.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("person_id", "project_id"),
    )
    op.create_index("memberships_by_project", "memberships", ["project_id"], unique=False)


def _rubrics() -> None:
    op.create_table(
        "rubrics",
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "version"),
    )


def _tallies() -> None:
    op.create_table(
        "tallies",
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("person_id", BIG, autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "person_id", "name"),
        sqlite_with_rowid=False,
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("person_id", BIG, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("last_used", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["people.id"],
        ),
        sa.PrimaryKeyConstraint("token_hash"),
    )


def _answers() -> None:
    op.create_table(
        "answers",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("item_id", BIG, nullable=False),
        sa.Column("person_id", BIG, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("order", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("rubric_version", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("surplus", sa.Boolean(), nullable=False),
        sa.Column("correct", sa.Boolean(), nullable=True),
        sa.Column("repeat_of", BIG, nullable=True),
        sa.Column("undone", BIG, nullable=True),
        sa.ForeignKeyConstraint(
            ["id"],
            ["events.id"],
        ),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
        ),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["people.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("answers_by_item", "answers", ["item_id"], unique=False)
    op.create_index("answers_by_person", "answers", ["person_id", "project_id", "id"], unique=False)
    op.create_index("answers_by_project", "answers", ["project_id", "id"], unique=False)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("item_id", BIG, nullable=False),
        sa.Column("person_id", BIG, nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("order", sa.Text(), nullable=False),
        sa.Column("seed", BIG, nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("shown", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("repeat_of", BIG, nullable=True),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
        ),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["people.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("item_id", "person_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "leases_by_state",
        "leases",
        ["project_id", "state", "person_id", "expires"],
        unique=False,
    )
