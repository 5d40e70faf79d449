"""Authorisation: visitors, their role in a project, and forms that really came from our pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from backflip.feedback.projects.identities import Person
from backflip.feedback.projects.project import Project
from backflip.feedback.store.project_ref import Member
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base.sessions import (
    FIELD,
    HEADER,
    SAFE,
    Session,
    bearer,
    signed_in_at_proxy,
)
from backflip.server.base.state import AppState, app_state_of, parts
from backflip.text import counted

RANK = {"rater": 0, "adjudicator": 1, "lead": 2, "admin": 3}
"""Roles of a project; each may do what those before it may."""
SCOPES = {
    "rate": "answer items",
    "read": "read statistics, exports and the log",
    "write": "add items, change settings, invite",
}
"""Powers of a token; it never opens more than its owner may do."""
FOR_PROGRAMS = ("/api/", "/media/")
"""Paths that a token opens: pages have no scopes, and one of them makes tokens."""
MOST_FIELDS = 400
MOST_FILES = 500
WHOLE = re.compile(r"-?[0-9]{1,18}")
"""A whole number as forms take it: not "²", which Python calls a digit, nor one of 5,000 digits."""


class SignInNeededError(Exception):
    """Nobody is signed in: a page sends to the sign-in, the API answers 401."""


class ForgedError(Exception):
    """A form or fetch without the token of our own page."""


class TooFastError(Exception):
    """More than the rate limit allows; ``wait`` seconds until there is room."""

    def __init__(self, wait: float, what: str = "too many requests") -> None:
        super().__init__(f"{what}; wait {counted(max(1.0, wait), 'second')}")
        self.wait = wait


@dataclass(frozen=True)
class Visitor:
    """Somebody who is known."""

    person: Person
    session: Session
    scopes: tuple[str, ...] | None = None
    """Of a program's token; none: a person in a browser, who needs none."""

    def need(self, scope: str) -> None:
        """Raises RefusedError where a token does not open this."""
        if self.scopes is not None and scope not in self.scopes:
            raise RefusedError(
                "not_allowed",
                f"this token has no scope {scope!r}; make one that may {SCOPES[scope]}.",
            )


def maybe(request: Request) -> Visitor | None:
    """Who is asking; none where nobody is signed in.

    Whom a proxy names counts before the session, unless nobody here has that address: somebody
    who came by a link of the terminal, or joined under another address, stays who they are.
    """
    site = app_state_of(request)
    session = site.sessions.read(request)
    known = _by_token(site, request)
    if known is not None:
        return Visitor(known[0], session, known[1])
    email = signed_in_at_proxy(request, site.settings)
    if email is not None:
        person = site.store.people.by_email(email)
        if person is not None:
            return Visitor(person, Session(session.nonce, person.id, person.epoch))
    return _by_session(site, session)


def _by_token(site: AppState, request: Request) -> tuple[Person, tuple[str, ...]] | None:
    """Whose program is asking. A token that is none of ours may be a proxy's, and says nothing."""
    token = bearer(request)
    opens = str(request.scope["path"]).startswith(FOR_PROGRAMS)
    return site.by_token(token) if token is not None and opens else None


def at_interface(request: Request) -> bool:
    """Whether the interface for programs is asked, and no page: by the path that is served."""
    return str(request.scope["path"]).startswith("/api/")


def _by_session(site: AppState, session: Session) -> Visitor | None:
    if session.person is None:
        return None
    person = site.store.people.signed_in(session.person, session.epoch, session.nonce)
    return None if person is None else Visitor(person, session)


def visitor(request: Request) -> Visitor:
    """Who is asking. A fetch that changes something must carry the token of our own page."""
    found = maybe(request)
    if found is None:
        raise SignInNeededError
    changing = request.method not in SAFE and at_interface(request)
    if changing and found.scopes is None:
        given = request.headers.get(HEADER, "")
        if not app_state_of(request).sessions.holds(found.session, given):
            raise ForgedError
    return found


@dataclass(frozen=True)
class Posted:
    """A form that was checked for its origin."""

    fields: dict[str, str]
    files: dict[str, UploadFile]
    many: tuple[UploadFile, ...] = ()
    """All files, where several may come under one name."""

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "").strip()

    def whole(self, name: str, otherwise: int, low: int, high: int) -> int:
        """A whole number of the form, kept within bounds."""
        return min(max(int(self[name]), low), high) if WHOLE.fullmatch(self[name]) else otherwise


async def posted(request: Request) -> Posted:
    """The fields of a form. Raises ForgedError where it did not come from one of our pages."""
    return await _posted(request, 1)


async def many_posted(request: Request) -> Posted:
    """The same for a form that sends many files at once."""
    return await _posted(request, MOST_FILES)


async def _posted(request: Request, files: int) -> Posted:
    form = await request.form(max_files=files, max_fields=MOST_FIELDS)
    found = maybe(request)
    session = found.session if found else app_state_of(request).sessions.read(request)
    token = form.get(FIELD)
    if not isinstance(token, str) or not app_state_of(request).sessions.holds(session, token):
        raise ForgedError
    return _sorted(form)


def _sorted(form: FormData) -> Posted:
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    named = form.multi_items()
    files = [(n, file) for n, file in named if isinstance(file, UploadFile) and file.filename]
    return Posted(fields, dict(files), tuple(file for _, file in files))


@dataclass(frozen=True)
class Place:
    """A project, and what the visitor is in it."""

    project: Project
    visitor: Visitor
    role: str
    """rater, adjudicator, lead or admin."""
    state: str
    """screening, active, paused; none: an admin who does not judge here."""
    member: Member | None = None
    """Their standing, where they have one."""

    @property
    def settings(self) -> ProjectSettings:
        """The project's, as they were when the request came."""
        return self.member.settings if self.member else self.project.settings

    @property
    def archived(self) -> bool:
        """Whether the project is put away."""
        return self.member.archived if self.member else self.project.archived

    @property
    def name(self) -> str:
        return self.project.name

    def may(self, role: str) -> bool:
        return RANK[self.role] >= RANK[role]


def place(request: Request, name: str) -> Place:
    """A project that the visitor belongs to. Strangers are told that there is none."""
    who = visitor(request)
    unknown = RefusedError("not_found", f"there is no project {name[:60]!r} that you belong to.")
    try:
        project = app_state_of(request).project(name)
    except RefusedError:
        raise unknown from None
    member = project.member(who.person.id)
    if member is None or member.state == "removed":
        if not who.person.admin:
            raise unknown
        return Place(project, who, "admin", "none")
    role = "admin" if who.person.admin else member.role
    return Place(project, who, role, member.state, member)


def _at_least(role: str) -> Any:
    async def check(here: Annotated[Place, Depends(place)]) -> Place:
        if not here.may(role):
            raise RefusedError(
                "not_allowed",
                f"this needs the role {role!r} or a higher one; an admin gives it under People.",
            )
        return here

    return check


Who = Annotated[Visitor, Depends(visitor)]
Here = Annotated[Place, Depends(place)]
Senior = Annotated[Place, Depends(_at_least("adjudicator"))]
Lead = Annotated[Place, Depends(_at_least("lead"))]
Form = Annotated[Posted, Depends(posted)]
Files = Annotated[Posted, Depends(many_posted)]
Parts = Annotated[AppState, Depends(parts)]
