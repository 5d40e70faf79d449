"""Management of people by those who run a project: the same rules for pages and for programs."""

from __future__ import annotations

from collections.abc import Mapping

from backflip.feedback.projects.identities import Person
from backflip.feedback.projects.members import Membership
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base.auth import RANK, Place, Visitor
from backflip.server.base.state import AppState


def found(site: AppState, here: Place, pseudonym: str) -> Membership:
    """A member by pseudonym. Raises RefusedError for strangers and for those above the visitor."""
    person = site.store.people.named(pseudonym)
    member = next((m for m in here.project.members() if m.person == person.id), None)
    if member is None:
        raise RefusedError("not_found", f"{pseudonym[:20]!r} does not belong to this project.")
    if RANK[member.role] > RANK[here.role]:
        raise RefusedError("not_allowed", "you may not change somebody above you.")
    return member


def change(
    here: Place,
    member: Membership,
    *,
    role: str | None = None,
    state: str | None = None,
    groups: Mapping[str, str] | None = None,
    reason: str = "",
) -> None:
    """Another role, state or groups; what is not given stays.

    Nobody raises anybody above themselves, nor locks themselves out.
    """
    role, state = role or member.role, state or member.state
    groups = dict(member.groups if groups is None else groups)
    by = here.visitor.person.id
    if RANK.get(role, 9) > RANK[here.role]:
        raise RefusedError("not_allowed", "you may not make anybody more than you are.")
    if member.person == by and (role, state) != (member.role, member.state):
        raise RefusedError(
            "conflict", "you cannot change your own role or state; another lead can."
        )
    if (role, groups) != (member.role, dict(member.groups)):
        here.project.enrol(member.person, role=role, groups=groups, by=by)
    now = here.project.member(member.person)
    if now is not None and state != now.state:
        here.project.set_state(member.person, state, reason=reason, by=by)


# ---- passwords


def may_give_password(site: AppState, here: Place, member: Membership) -> bool:
    """Whether the visitor may let a member choose a new password.

    The link opens the account as it stands. So a lead gives none to anybody who is more than a
    judge, or who judges in a project that this lead does not run.
    """
    who, person = here.visitor.person, site.store.people.get(member.person)
    if person.erased or person.id == who.id:
        return False
    if who.admin or person.admin:
        return who.admin
    mine, theirs = _roles(site, who), _roles(site, person)
    ours = [(RANK.get(mine.get(name, ""), -1), RANK[role]) for name, role in theirs.items()]
    return all(own >= RANK["lead"] and own > other for own, other in ours)


def _roles(site: AppState, person: Person) -> dict[str, str]:
    """Somebody's projects, those put away too, and their role in each."""
    store = site.store
    return store.projects_of(person.id) | store.projects_of(person.id, archived=True)


def password_path(site: AppState, here: Place, member: Membership) -> str:
    """The path of a link by which a member chooses a new password, once."""
    if not may_give_password(site, here, member):
        raise RefusedError(
            "not_allowed",
            "this account is more than yours, or belongs to other projects too; ask an admin of "
            "the server.",
        )
    person = site.store.people.get(member.person)
    if not person.email:
        raise RefusedError("conflict", "they have no address to sign in with; invite them anew.")
    site.store.people.log_password_link(person.id, by=here.visitor.person.id)
    return f"/password/{site.password_links.make(person)}"


# ---- the whole server


def _need_admin(who: Visitor) -> None:
    if not who.person.admin:
        raise RefusedError("not_allowed", "only admins of the server do this.")


def set_admin(site: AppState, who: Visitor, pseudonym: str, *, admin: bool) -> None:
    """Let somebody run the whole server, or no longer."""
    _need_admin(who)
    person = site.store.people.named(pseudonym)
    site.store.people.set_admin(person.id, admin=admin, by=who.person.id)
    site.keys.clear()


def erase(site: AppState, who: Visitor, pseudonym: str, *, texts: bool) -> None:
    """Forget who somebody is, because they asked for it; ``texts``: and their own words."""
    _need_admin(who)
    person = site.store.people.named(pseudonym)
    if person.id == who.person.id:
        raise RefusedError("conflict", "this is you: erase yourself under Me.")
    site.store.erase(person.id, texts=texts, by=who.person.id)
    site.keys.clear()
