"""Members of a project: role, state, groups, and invitations."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from backflip.errors import UserError
from backflip.feedback.projects import identities
from backflip.feedback.projects.identities import Person
from backflip.feedback.store import events
from backflip.feedback.store.database import Database
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Invitations, Leases, Memberships, People, Projects
from backflip.feedback.tasks.settings import ProjectSettings

ROLES = ("rater", "adjudicator", "lead", "admin")
STATES = ("screening", "active", "paused", "removed")
KEY = 16
"""Letters of an invitation's hash by which it is listed."""
_MEANINGLESS = "this invitation is not valid (any more); ask for a new one."


@dataclass(frozen=True)
class Membership:
    """A person in a project, as the lead sees them."""

    person: int
    pseudonym: str
    role: str
    state: str
    reason: str
    groups: Mapping[str, str]
    recent: tuple[int, ...]
    """Newest gold answers, right 1 or wrong 0."""
    reliability: float | None
    joined: float


@dataclass(frozen=True)
class Invitation:
    """An invitation, as far as it may be told."""

    project: str
    title: str
    role: str


def check_groups(groups: Mapping[str, str], settings: ProjectSettings) -> dict[str, str]:
    """Groups that the project knows, with values that it knows."""
    for group, value in groups.items():
        known = settings.groups.get(group)
        if known is None:
            raise UserError(
                f"there is no group {group!r}; the project has "
                f"{', '.join(settings.groups) or 'none'}."
            )
        if value not in known:
            raise UserError(f"{group} cannot be {value!r}; the project has {', '.join(known)}.")
    return dict(groups)


def enrol(
    ref: ProjectRef,
    person: int,
    *,
    role: str = "rater",
    groups: Mapping[str, str] | None = None,
    by: int | None = None,
) -> None:
    """Let a person in. Raters begin with the quiz, where the project has one.

    ``by``: who does so, where it is not the person.
    """
    with ref.database.write() as connection:
        how = identities.actor(connection, by)
        join(connection, ref, person, role, groups or {}, how)


def join(
    connection: Connection,
    ref: ProjectRef,
    person: int,
    role: str,
    groups: Mapping[str, str],
    how: Mapping[str, str],
) -> None:
    """Let a person in, inside the caller's transaction. Who is in already keeps their state.

    ``how`` stands in the log: who let them in, or the invitation.
    """
    if role not in ROLES:
        raise UserError(f"there is no role {role!r}; use {', '.join(ROLES)}.")
    settings = ref.settings(connection)
    quiz = settings.screening is not None and role == "rater"
    row = {
        "person_id": person,
        "project_id": ref.id,
        "role": role,
        "groups": check_groups(groups, settings),
        "state": "screening" if quiz else "active",
        "reason": "",
        "recent": [],
        "warned": False,
        "joined": ref.database.now(),
    }
    if connection.scalar(select(People.id).where(People.id == person)) is None:
        raise RefusedError("not_found", "there is no such person.")
    before = ref.member(connection, person)
    if before is None:
        connection.execute(insert(Memberships), row)
    else:
        changed = {"role": role, "groups": row["groups"]}
        if before.state == "removed":
            changed |= {"state": row["state"], "recent": [], "reason": ""}
        _change(connection, ref, person, changed)
    body = {"role": role, "groups": row["groups"], **how}
    new = NewEvent("joined", person, body=body, version=ref.version(connection))
    events.append(connection, ref.database, ref.id, new)


def _change(
    connection: Connection, ref: ProjectRef, person: int, changed: Mapping[str, Any]
) -> None:
    known = connection.execute(
        update(Memberships)
        .where(Memberships.person_id == person, Memberships.project_id == ref.id)
        .values(**changed)
    ).rowcount
    if not known:
        raise RefusedError("not_found", "this person does not belong to the project.")


def set_state(
    ref: ProjectRef, person: int, state: str, *, reason: str = "", by: int | None = None
) -> None:
    """Pause, remove, or let back in: with a fresh count of gold answers, or the quiz anew."""
    if state not in STATES:
        raise UserError(f"there is no state {state!r}; use {', '.join(STATES)}.")
    changed: dict[str, Any] = {"state": state, "reason": reason[:200]}
    if state in ("active", "screening"):
        changed |= {"recent": [], "warned": False}
    with ref.database.write() as connection:
        _change(connection, ref, person, changed)
        if state == "screening":
            _ask_the_quiz_again(connection, ref, person)
        body = {"state": state, "reason": reason[:200], **identities.actor(connection, by)}
        events.append(connection, ref.database, ref.id, NewEvent("state", person, body=body))


def _ask_the_quiz_again(connection: Connection, ref: ProjectRef, person: int) -> None:
    """Let the questions that somebody has answered come up again."""
    connection.execute(
        update(Leases)
        .where(
            Leases.person_id == person,
            Leases.project_id == ref.id,
            Leases.stage == "screening",
        )
        .values(state="expired")
    )


def set_reliabilities(ref: ProjectRef, estimates: Mapping[int, float | int]) -> None:
    """Store P(right) of raters as the statistics see it; dynamic overlap uses it from now on."""
    for person, value in estimates.items():
        if not 0 <= value <= 1:
            raise UserError(f"a reliability is a probability; {value!r} was given for {person}.")
    with ref.database.write() as connection:
        for person, value in sorted(estimates.items()):
            _change(connection, ref, person, {"reliability": float(value)})


def everybody(ref: ProjectRef) -> list[Membership]:
    """All members, in the order in which they joined."""
    query = (
        select(Memberships, People.pseudonym)
        .join(People, People.id == Memberships.person_id)
        .where(Memberships.project_id == ref.id)
        .order_by(Memberships.joined, Memberships.person_id)
    )
    with ref.database.read() as connection:
        return [
            Membership(
                person=row.person_id,
                pseudonym=row.pseudonym,
                role=row.role,
                state=row.state,
                reason=row.reason,
                groups=row.groups,
                recent=tuple(row.recent),
                reliability=row.reliability,
                joined=row.joined,
            )
            for row in connection.execute(query)
        ]


def standing(ref: ProjectRef, person: int) -> Member | None:
    """A person's membership with the project's settings; none for strangers."""
    with ref.database.read() as connection:
        return ref.member(connection, person)


def projects_of(database: Database, person: int, *, archived: bool = False) -> dict[str, str]:
    """Names of the projects that a person belongs to, and their role in each.

    ``archived``: of those that are put away, instead of the others.
    """
    query = (
        select(Projects.name, Memberships.role)
        .join(Projects, Projects.id == Memberships.project_id)
        .where(
            Memberships.person_id == person,
            Memberships.state != "removed",
            Projects.archived.is_(archived),
        )
        .order_by(Projects.name)
    )
    with database.read() as connection:
        return {row.name: row.role for row in connection.execute(query)}


def invite(
    ref: ProjectRef,
    *,
    role: str = "rater",
    groups: Mapping[str, str] | None = None,
    uses: int = 1,
    days: float | int = 14,
    by: int | None = None,
) -> str:
    """The secret part of a link that lets ``uses`` people in. Only its hash is kept."""
    if role not in ROLES:
        raise UserError(f"there is no role {role!r}; use {', '.join(ROLES)}.")
    if not 1 <= uses <= 10_000 or not 0 < days <= 366:
        raise UserError("an invitation is for 1 to 10000 people and for at most 366 days.")
    secret, now = secrets.token_urlsafe(24), ref.database.now()
    with ref.database.write() as connection:
        settings = ref.settings(connection)
        row = {
            "token_hash": _hash(secret),
            "project_id": ref.id,
            "role": role,
            "groups": check_groups(groups or {}, settings),
            "uses_left": uses,
            "expires": now + 86_400 * days,
            "created": now,
        }
        connection.execute(insert(Invitations), row)
        body = {"role": role, "uses": uses, "days": days, "id": row["token_hash"][:KEY]}
        events.append(connection, ref.database, ref.id, NewEvent("invitation", by, body=body))
    return secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _valid(connection: Connection, database: Database, secret: str) -> Any:
    row = connection.execute(
        select(Invitations, Projects.name, Projects.settings)
        .join(Projects, Projects.id == Invitations.project_id)
        .where(Invitations.token_hash == _hash(secret))
        .with_for_update(of=Invitations)
    ).first()
    if row is None or row.uses_left < 1 or row.expires < database.now():
        raise RefusedError("not_found", _MEANINGLESS)
    return row


def invitation(database: Database, secret: str) -> Invitation:
    """The invitation of a link. Raises RefusedError for one that is guessed, used up or too old."""
    with database.read() as connection:
        row = _valid(connection, database, secret)
        return Invitation(row.name, row.settings.get("title") or row.name, row.role)


def accept(database: Database, secret: str, person: int | Mapping[str, str]) -> Person:
    """Use an invitation: a known person, or {name, email, password} of a new one."""
    if isinstance(person, int):
        hashed = None
    else:
        invitation(database, secret)
        hashed = identities.hash_password(person["password"]) if person.get("password") else None
    with database.write() as connection:
        row = _valid(connection, database, secret)
        if isinstance(person, int):
            known = identities.get(connection, person)
        else:
            name, email = person.get("name", ""), person.get("email", "")
            known = identities.add(connection, database, name, email, hashed)
        connection.execute(
            update(Invitations)
            .where(Invitations.token_hash == row.token_hash)
            .values(uses_left=Invitations.uses_left - 1)
        )
        ref = ProjectRef(database, row.project_id, row.name)
        how = {"invitation": row.token_hash[:KEY]}
        join(connection, ref, known.id, row.role, row.groups, how)
    return known


def withdraw(ref: ProjectRef, key: str, *, by: int | None = None) -> None:
    """Make an invitation worthless. ``key``: the beginning of its hash, as listed."""
    with ref.database.write() as connection:
        gone = connection.execute(
            delete(Invitations).where(
                Invitations.project_id == ref.id,
                func.substr(Invitations.token_hash, 1, KEY) == key,
            )
        ).rowcount
        if not gone:
            raise RefusedError("not_found", "there is no such invitation.")
        new = NewEvent("invitation withdrawn", by, body={"id": key})
        events.append(connection, ref.database, ref.id, new)


def invitations(ref: ProjectRef) -> list[dict[str, Any]]:
    """Invitations that still open something."""
    query = (
        select(Invitations)
        .where(
            Invitations.project_id == ref.id,
            Invitations.uses_left > 0,
            Invitations.expires >= ref.database.now(),
        )
        .order_by(Invitations.created)
    )
    with ref.database.read() as connection:
        return [
            {
                "key": row.token_hash[:KEY],
                "role": row.role,
                "groups": row.groups,
                "uses_left": row.uses_left,
                "expires": row.expires,
            }
            for row in connection.execute(query)
        ]
