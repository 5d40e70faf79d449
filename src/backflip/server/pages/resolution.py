"""Resolution by seniors: items on which raters disagree, and items that somebody flagged."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from backflip.errors import UserError
from backflip.feedback.projects.reading import AnswerRow, ItemRow
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base.auth import Form, Lead, Parts, Place, Senior
from backflip.server.base.state import AppState
from backflip.server.pages.drawing import go, in_project, page, path_of, sentence
from backflip.server.pages.item import remarks, shown_item
from backflip.server.text.item_html import in_words

router = APIRouter(include_in_schema=False)
SHOWN = 20
"""Items of one page."""


@router.get("/projects/{name}/adjudicate")
def adjudicate(request: Request, site: Parts, here: Senior) -> HTMLResponse:
    """Items on which raters disagree, with what they said."""
    rows = here.project.items(state="adjudicate", limit=SHOWN)
    by_item: dict[int, list[AnswerRow]] = {row.id: [] for row in rows}
    for answer in here.project.answers(items=list(by_item)) if by_item else ():
        by_item[answer.item].append(answer)
    shown = [_dispute(site, here, row, by_item[row.id]) for row in rows]
    return page(
        request,
        "adjudicate.html",
        here.visitor,
        items=shown,
        waiting=max(int(here.project.tallies().get("adjudicate", 0)), len(shown)),
        rule=rule(here.project.settings),
        may_change=here.may("lead"),
        **in_project(here, "/adjudicate"),
    )


def rule(settings: ProjectSettings) -> str:
    """Which items come to be settled, by the settings as they are."""
    found = list[str]()
    if settings.adjudicate_below:
        share = f"{100 * settings.adjudicate_below:.3g}"
        found.append(f"fewer than {share} % of its answers agree with the likeliest")
    if settings.skips_to_adjudicate:
        many = settings.skips_to_adjudicate
        found.append(f"{many} {'rater skips' if many == 1 else 'raters skip'} it")
    found.append("a lead sends it")
    switched_off = "" if settings.adjudicate_below else " Splits do not: “Adjudicate below” is 0."
    return f"An item comes here when {', or '.join(found)}.{switched_off}"


def _dispute(site: AppState, here: Place, row: ItemRow, answers: list[AnswerRow]) -> dict[str, Any]:
    settings = here.settings
    votes: dict[str, int] = {}
    for answer in answers:
        words = in_words(settings.kind, answer.value, settings.scale)
        votes[words] = votes.get(words, 0) + 1
    return {
        "id": row.id,
        "skipped": row.skipped,
        "votes": sorted(votes.items(), key=lambda vote: -vote[1]),
        "html": shown_item(site, here, row),
    }


# ---- flags


@router.get("/projects/{name}/flagged")
def flagged(request: Request, site: Parts, here: Lead) -> HTMLResponse:
    """Items that raters flagged and nobody has settled, with their words."""
    return _flagged(request, site, here)


def _flagged(
    request: Request, site: AppState, here: Place, *, error: str = "", at: int = 0
) -> HTMLResponse:
    rows = here.project.flagged_items(limit=SHOWN)
    shown = [
        {
            "id": row.id,
            "state": row.state,
            "answers": row.given,
            "warning": row.warning,
            "html": shown_item(site, here, row),
            "remarks": remarks(here, row.id),
            "error": error if row.id == at else "",
        }
        for row in rows
    ]
    return page(
        request,
        "flagged.html",
        here.visitor,
        status=400 if error else 200,
        items=shown,
        covered=here.settings.content_warning,
        **in_project(here, "/flagged"),
    )


@router.post("/projects/{name}/flagged/{number}")
def settle(request: Request, site: Parts, here: Lead, number: int, form: Form) -> Response:
    """Keep the item, with or without a content warning, or drop it."""
    choice = form["do"]
    here.project.item(number)
    try:
        if choice not in ("keep", "drop"):
            raise UserError(f"there is no way {choice[:20]!r} to settle a flag.")
        here.project.settle_flags(
            number,
            keep=choice == "keep",
            warning=form["warning"],
            reason=form["reason"],
            by=here.visitor.person.id,
        )
    except UserError as error:
        return _flagged(request, site, here, error=sentence(error), at=number)
    return go(path_of(here, "/flagged"), "settled")
