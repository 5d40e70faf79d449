"""The tables, and the triggers that keep the log. The same on SQLite and on PostgreSQL.

``Table.metadata.create_all`` makes them; ``migrations/`` changes those of older databases.

Names and addresses of people stand in ``identities`` alone. Everything else speaks of pseudonyms.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from sqlalchemy import (
    DDL,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Text,
    UniqueConstraint,
    event,
    or_,
    text,
    type_coerce,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Big = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits: SQLite numbers rows by itself only in a column that it calls INTEGER."""


AnyRow: TypeAlias = Row[*tuple[Any, ...]]
AnySelect: TypeAlias = Select[*tuple[Any, ...]]


class Written(str):
    """JSON that is text already, so that writing it costs nothing more."""


class Json(TypeDecorator[Any]):
    """JSON as text. PostgreSQL's own types refuse a null byte inside; this keeps it, escaped."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None or isinstance(value, Written):
            return value
        return _ENCODE(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


def contains(column: Any, words: str) -> Any:
    """Whether a column of JSON has some words in it, in whatever case.

    Letters beyond ASCII stand there as they are, or escaped.
    """
    kept = type_coerce(column, Text)
    spellings = {_ENCODE(words), json.dumps(words, ensure_ascii=False)}
    return or_(*(kept.icontains(one[1:-1], autoescape=True) for one in sorted(spellings)))


class Table(DeclarativeBase):
    """Base of all tables."""


class People(Table):
    """Raters and those who run projects, as the log speaks of them."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(Big, primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(20), unique=True)
    created: Mapped[float]
    admin: Mapped[bool] = mapped_column(default=False)
    """May create projects and sees all of them."""


class Identities(Table):
    """The only place with names. Erasing a person empties the row."""

    __tablename__ = "identities"
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))
    email: Mapped[str | None] = mapped_column(String(320), unique=True)
    """In lower case."""
    password_hash: Mapped[str | None] = mapped_column(String(300))
    epoch: Mapped[int] = mapped_column(default=0)
    """Grows with every new password and on erasure: sessions of an older epoch are over."""
    erased_at: Mapped[float | None]


class Projects(Table):
    __tablename__ = "projects"
    id: Mapped[int] = mapped_column(Big, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    settings: Mapped[Any] = mapped_column(Json)
    rubric_version: Mapped[int] = mapped_column(default=1)
    created: Mapped[float]
    archived: Mapped[bool] = mapped_column(default=False)
    salt: Mapped[str] = mapped_column(String(40))
    """Part of every seed, so that no rater can foretell an order."""
    spots: Mapped[int] = mapped_column(Big, default=0)
    """The next place in the given order; grows with every item, and when priorities change."""


class Rubrics(Table):
    """Every version of a project's settings."""

    __tablename__ = "rubrics"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[Any] = mapped_column(Json)
    created: Mapped[float]


class Memberships(Table):
    __tablename__ = "memberships"
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    groups: Mapped[Any] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(20))
    """screening, active, paused or removed."""
    reason: Mapped[str] = mapped_column(String(200), default="")
    """Why paused."""
    recent: Mapped[Any] = mapped_column(Json)
    """Newest gold answers, right (1) or wrong (0), the newest last; in screening all of them."""
    warned: Mapped[bool] = mapped_column(default=False)
    reliability: Mapped[float | None]
    """P(right) as the statistics last estimated it; none: as yet unknown."""
    joined: Mapped[float]

    __table_args__ = (Index("memberships_by_project", "project_id"),)


class Items(Table):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(Big, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    payload: Mapped[Any] = mapped_column(Json)
    digest: Mapped[str] = mapped_column(String(32))
    purpose: Mapped[str] = mapped_column(String(20))
    """work, gold, screening, calibration or golden."""
    origin: Mapped[str] = mapped_column(String(40))
    """random, active, or where it came from."""
    batch: Mapped[str] = mapped_column(String(100))
    gold: Mapped[Any | None] = mapped_column(Json)
    why: Mapped[str] = mapped_column(Text)
    """Explains the gold answer, as feedback."""
    warning: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Not empty: the item is blurred until asked for, under this text."""
    priority: Mapped[float]
    spot: Mapped[int] = mapped_column(Big)
    """Place among items of the same priority: chance, or minus the order given."""
    route: Mapped[str] = mapped_column(String(200))
    """Which raters get it: "language=de"; empty: all."""
    queue: Mapped[str] = mapped_column(String(20))
    """Where it waits now: a name of ``store/queues.py``; full, closed: nowhere."""
    state: Mapped[str] = mapped_column(String(20))
    """open, done, dropped or adjudicate."""
    wanted: Mapped[int]
    given: Mapped[int]
    """Answers that count towards ``wanted``."""
    taken: Mapped[int]
    """Answers that count, and live leases."""
    skipped: Mapped[int]
    flags: Mapped[int]
    """That nobody has settled yet."""
    left: Mapped[int | None] = mapped_column(Big)
    right: Mapped[int | None] = mapped_column(Big)
    """Numbers of the two answers, shared with other items of the same prompt."""
    length: Mapped[int | None]
    lists: Mapped[int | None]

    __table_args__ = (
        UniqueConstraint("project_id", "digest", name="items_once"),
        Index("items_waiting", "project_id", "queue", "route", "priority", "spot"),
        Index("items_in_order", "project_id", "id"),
        Index("items_by_batch", "project_id", "batch"),
        Index("items_by_purpose", "project_id", "purpose"),
        Index(
            "items_flagged",
            "project_id",
            "flags",
            sqlite_where=text("flags > 0"),
            postgresql_where=text("flags > 0"),
        ),
        Index("items_by_state", "project_id", "state"),
    )


class Leases(Table):
    """Items shown to raters, with their order. A row stays when its lease has ended."""

    __tablename__ = "leases"
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    order: Mapped[Any] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(Big)
    stage: Mapped[str] = mapped_column(String(20))
    """Why it was shown: screening, calibration, work, adjudicate, golden."""
    state: Mapped[str] = mapped_column(String(20))
    """live, expired, skipped or answered."""
    shown: Mapped[float]
    expires: Mapped[float]
    repeat_of: Mapped[int | None] = mapped_column(Big)
    """The answer that this showing repeats."""

    __table_args__ = (
        Index("leases_by_state", "project_id", "state", "person_id", "expires"),
        {"sqlite_with_rowid": False},
    )


class Answers(Table):
    """The present state of answers. Numbered by the event that brought them."""

    __tablename__ = "answers"
    id: Mapped[int] = mapped_column(ForeignKey("events.id"), primary_key=True, autoincrement=False)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    value: Mapped[Any] = mapped_column(Json)
    """In the item's own order."""
    order: Mapped[Any] = mapped_column(Json)
    score: Mapped[float | None]
    """``value`` as one number, where the kind has one."""
    seconds: Mapped[float | None]
    at: Mapped[float]
    rubric_version: Mapped[int]
    stage: Mapped[str] = mapped_column(String(20))
    surplus: Mapped[bool]
    """Came when the item wanted no more."""
    correct: Mapped[bool | None]
    """Whether it agrees with the item's gold answer; none: it has none."""
    repeat_of: Mapped[int | None] = mapped_column(Big)
    undone: Mapped[int | None] = mapped_column(Big)
    """The event that took it back."""

    __table_args__ = (
        Index("answers_by_project", "project_id", "id"),
        Index("answers_by_item", "item_id"),
        Index("answers_by_person", "person_id", "project_id", "id"),
    )


class Events(Table):
    """All that ever happened, in order. Rows are added and, but for a redaction, never changed."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Big, primary_key=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id"))
    person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    item_id: Mapped[int | None] = mapped_column(Big)
    kind: Mapped[str] = mapped_column(String(40))
    body: Mapped[Any] = mapped_column(Json)
    client_key: Mapped[str | None] = mapped_column(String(100), unique=True)
    at: Mapped[float]
    rubric_version: Mapped[int | None]
    app_version: Mapped[str] = mapped_column(String(40))

    __table_args__ = (
        Index("events_by_project", "project_id", "kind", "id"),
        Index("events_by_item", "item_id"),
        Index("events_by_person", "person_id"),
        {"sqlite_autoincrement": True},
    )


_GROWS = {
    "sqlite": (
        """
        CREATE TRIGGER events_stay BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
        """,
        """
        CREATE TRIGGER events_keep BEFORE UPDATE ON events
        WHEN NEW.body NOT LIKE '%[redacted]%' OR NEW.id <> OLD.id OR NEW.kind <> OLD.kind
            OR NEW.at <> OLD.at OR NEW.person_id IS NOT OLD.person_id
            OR NEW.item_id IS NOT OLD.item_id OR NEW.project_id IS NOT OLD.project_id
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
        """,
    ),
    "postgresql": (
        """
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
        """,
        """
        CREATE TRIGGER events_keep BEFORE UPDATE OR DELETE ON events
        FOR EACH ROW EXECUTE FUNCTION events_only_grow()
        """,
    ),
}
"""Events are never deleted, and change only where words are redacted."""
for _dialect, _statements in _GROWS.items():
    for _statement in _statements:
        _trigger = DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect)
        event.listen(Events.__table__, "after_create", _trigger)


class Invitations(Table):
    __tablename__ = "invitations"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    role: Mapped[str] = mapped_column(String(20))
    groups: Mapped[Any] = mapped_column(Json)
    uses_left: Mapped[int]
    expires: Mapped[float]
    created: Mapped[float]


class Tokens(Table):
    """Keys of programs."""

    __tablename__ = "tokens"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[Any] = mapped_column(Json)
    created: Mapped[float]
    last_used: Mapped[float | None]


class Tallies(Table):
    """Counts that grow with each transaction. Person 0: the whole project."""

    __tablename__ = "tallies"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[float]

    __table_args__ = ({"sqlite_with_rowid": False},)


class Secrets(Table):
    """Keys that sign cookies. Made on first use."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(String(100))


class EndedSessions(Table):
    """Sessions that somebody signed out of, by a hash of their nonce: copies of their cookies are
    worth nothing.
    """

    __tablename__ = "ended_sessions"
    nonce_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    until: Mapped[float]
    """When no cookie can be so old any more, and the row may go."""

    __table_args__ = (Index("ended_sessions_by_age", "until"),)


class Tries(Table):
    """Tries at passwords, by a keyed hash of who tried what; no address stands here."""

    __tablename__ = "tries"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    level: Mapped[float]
    """Wrong ones in a row, or, of a network, how full its bucket is."""
    at: Mapped[float]
    """The newest."""
    right: Mapped[float | None]
    """The newest that was right."""

    __table_args__ = (Index("tries_by_age", "at"),)
