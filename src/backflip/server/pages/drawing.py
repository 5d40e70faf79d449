"""Drawing a page: the template, who is signed in, a project's tabs, messages for next time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup

from backflip.server.base.auth import Place, Visitor
from backflip.server.base.sessions import FIELD
from backflip.server.base.state import app_state_of
from backflip.text import counted

FLASH = "backflip-said"
"""Cookie with one message for the next page."""
COUNTS = re.compile(r"[0-9]{1,12}(-[0-9]{1,12}){0,4}")
"""Outcome of an import, as the cookie says it."""
MOVED = re.compile(r"(adjudicate|open|dropped)-([0-9]{1,12})-([0-9]{1,12})")
"""Outcome for the items that were ticked in a list."""
WORDS = {
    "saved": ("good", "Saved."),
    "created": ("good", "The project is there. Import items next."),
    "joined": ("good", "Welcome. You belong to the project now."),
    "password": (
        "good",
        "The password is set. Other places where you were signed in are signed out, and tokens of "
        "programs are withdrawn.",
    ),
    "closed-door": (
        "warn",
        "This link was used before, or has expired. Start backflip collect again: it prints a new "
        "one. To need none, set a password under your name.",
    ),
    "signed-out": ("", "You are signed out."),
    "erased": ("good", "Your name and address are erased."),
    "forgotten": ("good", "Their name and address are erased. Their answers stay."),
    "wordless": (
        "good",
        "Their name and address are erased, and what they wrote in their own words. Other answers "
        "stay.",
    ),
    "withdrawn": ("good", "The token is withdrawn."),
    "choosing": ("", "The next questions are being chosen."),
    "settled": ("good", "Settled."),
    "unticked": ("warn", "No item is ticked. Tick those that are meant, and choose again."),
    "removed": ("good", "They belong to the project no more. Their answers stay."),
    "archived": ("good", "The project is put away. Nothing is asked in it, and nothing is lost."),
    "back": ("good", "The project is back."),
}
"""Messages by their key: a cookie names one and cannot bring words of its own."""


@dataclass(frozen=True)
class Me:
    """The visitor as pages show them."""

    label: str
    pseudonym: str
    admin: bool


def me_of(visitor: Visitor | None) -> Me | None:
    if visitor is None:
        return None
    person = visitor.person
    return Me(person.name or person.pseudonym, person.pseudonym, person.admin)


def page(
    request: Request,
    template: str,
    visitor: Visitor | None = None,
    *,
    status: int = 200,
    **context: Any,
) -> HTMLResponse:
    """One of our pages. Sees to it that the browser has a session, for the CSRF token."""
    site = app_state_of(request)
    session = visitor.session if visitor else site.sessions.read(request)
    token = site.sessions.csrf(session)
    field = Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, token)
    shared = {
        "request": request,
        "csrf": token,
        "status": status,
        "csrf_field": lambda: field,
        "me": me_of(visitor),
        "project": None,
        "flashes": _flashes(request),
    }
    body = site.templates.get_template(template).render({**shared, **context})
    response = HTMLResponse(body, status_code=status)
    if site.sessions.cookie not in request.cookies or session != site.sessions.read(request):
        site.sessions.write(response, session)
    if FLASH in request.cookies:
        response.delete_cookie(FLASH)
    return response


def _flashes(request: Request) -> list[dict[str, str]]:
    key, _, number = request.cookies.get(FLASH, "").partition(".")
    if key == "imported" and COUNTS.fullmatch(number):
        return [{"kind": "good", "text": _imported(*map(int, number.split("-")))}]
    if key == "moved" and (found := MOVED.fullmatch(number)):
        return [{"kind": "good", "text": _moved(found[1], int(found[2]), int(found[3]))}]
    return [{"kind": WORDS[key][0], "text": WORDS[key][1]}] if key in WORDS else []


def _imported(
    count: int, duplicates: int = 0, twins: int = 0, refused: int = 0, answers: int = 0
) -> str:
    parts = [f"{counted(count, 'item was', 'items were')} imported"]
    if duplicates:
        parts.append(
            f"{counted(duplicates, 'was', 'were')} there already and "
            f"{'stays as it was' if duplicates == 1 else 'stay as they were'}, purpose included"
        )
    parts += [f"{twins:,} had two equal answers"] if twins else []
    parts += [f"{counted(refused, 'row', 'rows')} did not fit"] if refused else []
    parts += [f"{counted(answers, 'answer was', 'answers were')} taken over"] if answers else []
    return "; ".join(parts) + "."


def _moved(state: str, changed: int, ticked: int) -> str:
    """Outcome for the items that were ticked."""
    what = {"adjudicate": "sent to the adjudicators", "open": "opened again", "dropped": "dropped"}
    text = f"{counted(changed, 'item was', 'items were')} {what[state]}"
    rest = ticked - changed
    return f"{text}; {counted(rest, 'was', 'were')} so already." if rest else f"{text}."


def go(address: str, said: str = "") -> RedirectResponse:
    """Send the browser on, with a message for the page it comes to."""
    response = RedirectResponse(address, status_code=303)
    if said:
        response.set_cookie(FLASH, said, max_age=60, httponly=True, samesite="lax")
    return response


def inside(address: str) -> str:
    """An address of this server to go on to; anything else becomes the first page."""
    ours = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if ours and "\\" not in address and address.isprintable() else "/"


def in_project(here: Place, tab: str) -> dict[str, Any]:
    """Context of pages of a project: its name, title, and the tabs that this visitor may open."""
    settings = here.settings
    tabs: list[tuple[str, str, int]] = []
    archived = here.may("adjudicator") and here.archived
    if here.may("lead"):
        tabs += [("", "Overview", 0), ("/items", "Items", 0), ("/people", "People", 0)]
        tabs += [("/asking", "Asking", 0)]
    if here.may("adjudicator"):
        disputes = int(here.project.tallies().get("adjudicate", 0))
        tabs += [("/statistics", "Statistics", 0), ("/adjudicate", "Adjudicate", disputes)]
    if here.may("lead"):
        tabs += [("/flagged", "Flagged", here.project.flagged()), ("/export", "Export", 0)]
        tabs += [("/log", "Log", 0), ("/settings", "Settings", 0)]
    return {
        "project": {
            "name": here.name,
            "title": settings.title or here.name,
            "kind": settings.kind,
            "rubric_version": here.project.rubric_version,
            "tabs": tabs,
            "may_rate": here.state in ("active", "screening") and not archived,
            "archived": archived,
        },
        "tab": tab,
    }


def said(
    request: Request,
    visitor: Visitor | None,
    heading: str,
    lines: Sequence[str],
    *,
    kind: str = "start",
    links: Sequence[tuple[str, str]] = (("/", "To the projects"),),
    status: int = 200,
    again: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> HTMLResponse:
    """A page that has one thing to say."""
    return page(
        request,
        "said.html",
        visitor,
        status=status,
        heading=heading,
        lines=lines,
        kind=kind,
        links=links,
        again=again,
        **(extra or {}),
    )


def path_of(here: Place, rest: str = "") -> str:
    """An address within a project."""
    return f"/projects/{quote(here.name)}{rest}"


def sentence(error: object) -> str:
    """A message as a sentence for a page."""
    text = str(error)
    return text[:1].upper() + text[1:]
