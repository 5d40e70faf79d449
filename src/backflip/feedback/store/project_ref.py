"""Reference to a project of a database, and the standing of a member in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Text, bindparam, select, type_coerce

from backflip.feedback.store.aliases import alias_of, item_of
from backflip.feedback.store.database import Database
from backflip.feedback.store.schema import AnySelect, Memberships, Projects
from backflip.feedback.tasks.settings import ProjectSettings, settings_of

KEPT = type_coerce(Projects.settings, Text)
"""The settings as they are stored: comparing texts is cheaper than reading them."""


@dataclass(frozen=True)
class Member:
    """A person's standing in a project, and the project's settings as they are now."""

    person: int
    role: str
    state: str
    """screening, active, paused or removed."""
    reason: str
    groups: Mapping[str, str]
    recent: tuple[int, ...]
    warned: bool
    reliability: float | None
    version: int
    """Of the rubric."""
    salt: str
    settings: ProjectSettings
    arrivals: int
    """Grows whenever items are added, or the order changes in which they wait."""
    archived: bool = False
    """Whether the project is put away: nothing is asked in it."""

    def alias(self, item: int) -> int:
        """Number of an item for this rater."""
        return alias_of(item, self._key)

    def item(self, alias: int) -> int:
        """The item behind a number that this rater sends; −1 for what is no alias."""
        return item_of(alias, self._key)

    @property
    def _key(self) -> str:
        return f"{self.salt}:{self.person}"


@dataclass(frozen=True)
class ProjectRef:
    """A project of a database."""

    database: Database
    id: int
    name: str

    def settings(self, connection: Connection) -> ProjectSettings:
        """The settings as they are now."""
        kept = connection.scalars(select(KEPT).where(Projects.id == self.id)).one()
        return self._read(kept)

    def _read(self, kept: str) -> ProjectSettings:
        """Settings from their text, which is read once: the same text means the same."""
        key = ("settings", self.id)
        before, settings = self.database.cache.get(key, ("", None))
        if settings is None or before != kept:
            settings = settings_of(kept)
            self.database.cache[key] = (kept, settings)
        return settings

    def version(self, connection: Connection) -> int:
        """The present version of the rubric."""
        return connection.scalars(
            select(Projects.rubric_version).where(Projects.id == self.id)
        ).one()

    def member(self, connection: Connection, person: int, *, lock: bool = False) -> Member | None:
        """A person's standing here; none where they never belonged.

        ``lock``: nobody else acts for this person until the transaction ends.
        """
        query = _MEMBER_LOCKED if lock else _MEMBER
        row = connection.execute(query, {"person": person, "project": self.id}).first()
        if row is None:
            return None
        return Member(
            person=person,
            role=row.role,
            state=row.state,
            reason=row.reason,
            groups=row.groups,
            recent=tuple(row.recent),
            warned=row.warned,
            reliability=row.reliability,
            version=row.rubric_version,
            salt=row.salt,
            settings=self._read(row.settings),
            arrivals=row.arrivals,
            archived=row.archived,
        )


def _member_query() -> AnySelect:
    return (
        select(
            Memberships.role,
            Memberships.state,
            Memberships.reason,
            Memberships.groups,
            Memberships.recent,
            Memberships.warned,
            Memberships.reliability,
            Projects.rubric_version,
            KEPT.label("settings"),
            Projects.salt,
            Projects.spots.label("arrivals"),
            Projects.archived,
        )
        .join(Projects, Projects.id == Memberships.project_id)
        .where(
            Memberships.person_id == bindparam("person"),
            Memberships.project_id == bindparam("project"),
        )
    )


_MEMBER = _member_query()
_MEMBER_LOCKED = _MEMBER.with_for_update(of=Memberships)
