"""Members of a project, their roles and states, and invitations by link."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from backflip.collect.gate import RANK, Form, Lead, Parts, Place
from backflip.collect.pages import go, in_project, page, path_of
from backflip.collect.site import Site
from backflip.collect.templating import moment
from backflip.data.errors import UserError
from backflip.feedback.refusals import RefusedError

router = APIRouter(include_in_schema=False)
DAY = 86_400.0


@router.get("/projects/{name}/people")
def people(request: Request, site: Parts, here: Lead) -> HTMLResponse:
    return _people(request, site, here)


def _people(
    request: Request, site: Site, here: Place, *, error: str = "", link: Any = None
) -> HTMLResponse:
    counts = here.project.tallies_by_person()
    rows = [_row(site, member, counts.get(member.person, {})) for member in here.project.members()]
    grantable = [role for role in RANK if RANK[role] <= RANK[here.role]]
    groups = {
        group: [(value, value) for value in values]
        for group, values in here.project.settings.groups.items()
    }
    return page(
        request,
        "people.html",
        here.visitor,
        status=400 if error else 200,
        people=rows,
        names=True,
        roles=grantable,
        role_options=[(role, role) for role in grantable],
        groups=groups,
        error=error,
        link=link,
        invitations=here.project.invitations(),
        **in_project(here, "/people"),
    )


def _row(site: Site, member: Any, counts: dict[str, float]) -> dict[str, Any]:
    person = site.store.people.get(member.person)
    seen, right = counts.get("gold_seen", 0), counts.get("gold_right", 0)
    return {
        "pseudonym": member.pseudonym,
        "name": "erased" if person.erased else person.name,
        "email": person.email,
        "role": member.role,
        "state": member.state,
        "reason": member.reason,
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
    groups = {
        name.removeprefix("group-"): value
        for name, value in form.fields.items()
        if name.startswith("group-") and value
    }
    secret = here.project.invite(role=role, groups=groups, uses=uses, days=days)
    link = {
        "url": f"{str(request.base_url).rstrip('/')}/invitation/{quote(secret)}",
        "role": role,
        "uses": "once" if uses == 1 else f"{uses} times",
        "until": moment(site.store.database.now() + days * DAY),
    }
    return _people(request, site, here, link=link)


@router.post("/projects/{name}/invitations/{key}/withdraw")
def withdraw(here: Lead, key: str, form: Form) -> Response:
    """Make a link worthless that has been sent already."""
    del form
    here.project.withdraw(key)
    return go(path_of(here, "/people"), "saved")


@router.post("/projects/{name}/people/{pseudonym}")
def change(request: Request, site: Parts, here: Lead, pseudonym: str, form: Form) -> Response:
    """Another role or state. Nobody raises anybody above themselves, nor locks themselves out."""
    person = site.store.people.named(pseudonym)
    member = here.project.member(person.id)
    if member is None:
        raise RefusedError("not_found", f"{pseudonym[:20]!r} does not belong to this project.")
    role, state = form["role"], form["state"]
    if RANK.get(role, 9) > RANK[here.role] or RANK[member.role] > RANK[here.role]:
        raise RefusedError("not_allowed", "you may not change somebody above you.")
    if person.id == here.visitor.person.id:
        error = "You cannot change yourself; another lead can."
        return _people(request, site, here, error=error)
    try:
        if role != member.role:
            here.project.enrol(person.id, role=role, groups=member.groups)
        if state != member.state:
            here.project.set_state(person.id, state, reason="by the lead")
    except UserError as error:
        return _people(request, site, here, error=str(error))
    return go(path_of(here, "/people"), "saved")
