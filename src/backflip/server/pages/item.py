"""One item: what it asks, what was answered, who wrote it, and what the lead can do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from backflip.errors import UserError
from backflip.feedback.kinds.base import LETTERS
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.reading import ItemRow
from backflip.server.base.auth import Form, Lead, Parts, Place, Senior
from backflip.server.base.state import AppState
from backflip.server.pages.drawing import go, in_project, inside, page, path_of
from backflip.server.text.item_html import as_page, in_words
from backflip.server.work import figures, labelling

router = APIRouter(include_in_schema=False)
TICKED = re.compile(r"item-[0-9]{1,18}")
"""The box before an item of a list."""
REMARKS = ("flag", "note", "skip", "flags settled")


def shown_item(site: AppState, here: Place, row: ItemRow) -> Markup:
    """An item to be read, with its clips found."""

    def place(clip: Mapping[str, Any]) -> dict[str, Any]:
        return site.media.place(here.name, clip)

    return as_page(here.settings.kind, row.payload, place)


def remarks(here: Place, item: int) -> list[dict[str, Any]]:
    """Flags, notes, skips and what was settled, of one item, in order, under pseudonyms."""
    return [
        {
            "kind": event.kind,
            "person": event.person or "–",
            "at": event.at,
            "text": event.body.get("reason") or event.body.get("text", ""),
        }
        for event in here.project.events(item=item, kinds=REMARKS, limit=200)
    ]


@router.get("/projects/{name}/items/{number}")
def item(request: Request, site: Parts, here: Senior, number: int) -> HTMLResponse:
    """One item with its answers, in the item's own order."""
    row, settings = here.project.item(number), here.settings
    given = list(here.project.answers(items=[number]))
    answers = [
        {**a.__dict__, "said": in_words(settings.kind, a.value, settings.scale)} for a in given
    ]
    made = figures.read(site.figures(here.name))
    return page(
        request,
        "item.html",
        here.visitor,
        item=row,
        html=shown_item(site, here, row),
        answers=answers,
        labels=labelling.labels(given, settings, made),
        known=labelling.known(row, given, settings),
        worked_out=made["at"] if made and made["habits"] else None,
        may_change=here.may("lead"),
        sources=_sources(row.payload) if here.may("lead") else [],
        notes=remarks(here, number),
        **in_project(here, "/items"),
    )


def _sources(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = payload.get(kind_of(payload["kind"]).sides) or ()
    if not parts and payload.get("answer"):
        return [("Answer", payload["answer"].get("source", ""))]
    return [(LETTERS[i % 26], part.get("source", "")) for i, part in enumerate(parts)]


@router.post("/projects/{name}/items/{number}")
def set_state(here: Lead, number: int, form: Form) -> Response:
    """Drop an item, ask it again, or let an adjudicator decide."""
    here.project.item(number)
    _put(here, [number], form["state"])
    return go(path_of(here, f"/items/{number}"), "saved")


@router.post("/projects/{name}/items")
def set_states(here: Lead, form: Form) -> Response:
    """The same for the items that are ticked in a list, and for no other."""
    ticked = [int(name[5:]) for name in form.fields if TICKED.fullmatch(name)]
    if not ticked:
        return go(back_to(here, form["back"]), "unticked")
    known = [row.id for row in here.project.items(ids=ticked, limit=len(ticked))]
    changed = _put(here, known, form["state"])
    return go(back_to(here, form["back"]), f"moved.{form['state']}-{changed}-{len(ticked)}")


def back_to(here: Place, back: str) -> str:
    """The list that a form was sent from."""
    page, _, query = back.partition("?")
    plain = page in ("/items", "/adjudicate", "/statistics") and query.isprintable()
    return inside(path_of(here, page + (f"?{query}" if query else ""))) if plain else path_of(here)


def _put(here: Place, numbers: list[int], state: str) -> int:
    """Bring items into a state; how many were in another one."""
    acts = {
        "dropped": here.project.drop,
        "open": here.project.reopen,
        "adjudicate": here.project.to_adjudication,
    }
    if state not in acts:
        raise UserError(f"there is no state {state[:20]!r} for an item.")
    return acts[state](numbers, reason="by the lead", by=here.visitor.person.id)


@router.post("/projects/{name}/items/{number}/warning")
def set_warning(here: Lead, number: int, form: Form) -> Response:
    """Put a content warning before an item, or take it away."""
    here.project.warn(number, form["warning"], by=here.visitor.person.id)
    return go(path_of(here, f"/items/{number}"), "saved")
