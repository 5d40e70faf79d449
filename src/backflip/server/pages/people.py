"""Members of a project, their roles, states and groups, and invitations by link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from backflip.errors import UserError
from backflip.feedback.projects.members import Membership
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base.auth import RANK, Form, Lead, Parts, Place, Posted
from backflip.server.base.sessions import LINK_DAYS
from backflip.server.base.state import AppState, base_of
from backflip.server.base.templating import moment
from backflip.server.pages.drawing import go, in_project, page, path_of, sentence
from backflip.server.work import managing

router = APIRouter(include_in_schema=False)
DAY = 86_400.0
REASONS = {"gold": "too many wrong on gold", "screening": "the quiz was not passed"}
STATES = [
    ("screening", "Quiz: has to pass it first"),
    ("active", "Active"),
    ("paused", "Paused: gets no items"),
    ("removed", "Removed: sees the project no more"),
]


@router.get("/projects/{name}/people")
def people(request: Request, site: Parts, here: Lead) -> HTMLResponse:
    return _people(request, site, here)


def _people(
    request: Request, site: AppState, here: Place, *, error: str = "", link: Any = None
) -> HTMLResponse:
    counts = here.project.tallies_by_person()
    rows = [_row(site, member, counts.get(member.person, {})) for member in here.project.members()]
    groups = {
        group: [(value, value) for value in values]
        for group, values in here.project.settings.groups.items()
    }
    return page(
        request,
        "people.html",
        here.visitor,
        status=400 if error else 200,
        people=[row for row in rows if row["state"] != "removed"],
        removed=[row for row in rows if row["state"] == "removed"],
        role_options=[(role, role) for role in _grantable(here)],
        groups=groups,
        error=error,
        link=link,
        invitations=here.project.invitations(),
        **in_project(here, "/people"),
    )


def _grantable(here: Place) -> list[str]:
    """Roles that the visitor may give: none above their own."""
    return [role for role in RANK if RANK[role] <= RANK[here.role]]


def _row(site: AppState, member: Membership, counts: Mapping[str, float]) -> dict[str, Any]:
    person = site.store.people.get(member.person)
    seen, right = counts.get("gold_seen", 0), counts.get("gold_right", 0)
    return {
        "pseudonym": member.pseudonym,
        "name": "erased" if person.erased else person.name,
        "email": person.email,
        "admin": person.admin,
        "erased": person.erased,
        "role": member.role,
        "state": member.state,
        "reason": REASONS.get(member.reason, member.reason),
        "groups": ", ".join(f"{group}: {value}" for group, value in member.groups.items()),
        "answers": int(counts.get("answers", 0)),
        "gold": f"{right:.0f} of {seen:.0f}" if seen else "",
    }


@router.post("/projects/{name}/invitations")
def invite(request: Request, site: Parts, here: Lead, form: Form) -> HTMLResponse:
    """A link that lets people in. It is shown once: only its hash is kept."""
    role = form["role"]
    if role not in RANK or RANK[role] > RANK[here.role]:
        raise RefusedError("not_allowed", f"you may not invite anybody as {role[:20]!r}.")
    uses, days = form.whole("uses", 1, 1, 10_000), form.whole("days", 7, 1, 365)
    by = here.visitor.person.id
    secret = here.project.invite(role=role, groups=_groups(form), uses=uses, days=days, by=by)
    link = {
        "url": f"{base_of(request)}/invitation/{quote(secret)}",
        "role": role,
        "uses": "once" if uses == 1 else f"{uses} times",
        "until": moment(site.store.database.now() + days * DAY),
    }
    return _people(request, site, here, link=link)


def _groups(form: Posted) -> dict[str, str]:
    """Groups that a form chooses: those with a value."""
    return {
        name.removeprefix("group-"): value
        for name, value in form.fields.items()
        if name.startswith("group-") and value
    }


@router.post("/projects/{name}/invitations/{key}/withdraw")
def withdraw(here: Lead, key: str, form: Form) -> Response:
    """Make a link worthless that has been sent already."""
    del form
    here.project.withdraw(key, by=here.visitor.person.id)
    return go(path_of(here, "/people"), "saved")


# ---- one of them


@router.get("/projects/{name}/people/{pseudonym}")
def member(request: Request, site: Parts, here: Lead, pseudonym: str) -> HTMLResponse:
    return _member(request, site, here, managing.found(site, here, pseudonym))


def _member(
    request: Request,
    site: AppState,
    here: Place,
    found: Membership,
    *,
    error: str = "",
    link: str = "",
) -> HTMLResponse:
    settings = here.project.settings
    counts = here.project.tallies(found.person)
    groups = [
        (group, [("", "Not said"), *((value, value) for value in values)])
        for group, values in settings.groups.items()
    ]
    states = [one for one in STATES if settings.screening or one[0] in ("active", "paused")]
    return page(
        request,
        "member.html",
        here.visitor,
        status=400 if error else 200,
        p=_row(site, found, counts),
        mine=found.groups,
        joined=found.joined,
        oneself=found.person == here.visitor.person.id,
        role_options=[(role, role) for role in _grantable(here)],
        states=[one for one in states if one[0] != "removed"],
        groups=groups,
        error=error,
        link=link,
        link_days=LINK_DAYS,
        may_password=managing.may_give_password(site, here, found),
        runs_server=here.visitor.person.admin,
        **in_project(here, "/people"),
    )


@router.post("/projects/{name}/people/{pseudonym}")
def change(request: Request, site: Parts, here: Lead, pseudonym: str, form: Form) -> Response:
    """Another role, state or groups; what the form does not hold stays."""
    found = managing.found(site, here, pseudonym)
    try:
        managing.change(
            here,
            found,
            role=form["role"],
            state=form["state"],
            groups=_groups(form) if "groups" in form.fields else None,
            reason=form["reason"] or "by the lead",
        )
    except UserError as error:
        if isinstance(error, RefusedError) and error.code == "not_allowed":
            raise
        return _member(request, site, here, found, error=sentence(error))
    return go(path_of(here, "/people"), "removed" if form["state"] == "removed" else "saved")


@router.post("/projects/{name}/people/{pseudonym}/password")
def password(request: Request, site: Parts, here: Lead, pseudonym: str, form: Form) -> HTMLResponse:
    """A link by which a member chooses a new password. It is shown once."""
    del form
    found = managing.found(site, here, pseudonym)
    path = managing.password_path(site, here, found)
    return _member(request, site, here, found, link=f"{base_of(request)}{path}")


@router.post("/projects/{name}/people/{pseudonym}/admin")
def set_admin(site: Parts, here: Lead, pseudonym: str, form: Form) -> Response:
    """Let somebody run the whole server, or no longer."""
    managing.found(site, here, pseudonym)
    managing.set_admin(site, here.visitor, pseudonym, admin=form["admin"] == "yes")
    return go(path_of(here, f"/people/{pseudonym}"), "saved")


@router.post("/projects/{name}/people/{pseudonym}/erase")
def erase(site: Parts, here: Lead, pseudonym: str, form: Form) -> Response:
    """Forget who somebody is, because they asked for it."""
    managing.found(site, here, pseudonym)
    texts = "texts" in form.fields
    managing.erase(site, here.visitor, pseudonym, texts=texts)
    return go(path_of(here, "/people"), "wordless" if texts else "forgotten")
