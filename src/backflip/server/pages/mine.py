"""A rater's own page: what they answered, as they saw it, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating.own_work import OwnAnswer, OwnProgress
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base.auth import Here, Parts, Place
from backflip.server.base.state import AppState
from backflip.server.base.templating import took
from backflip.server.pages.data import gist
from backflip.server.pages.drawing import go, in_project, page, path_of
from backflip.server.text.item_html import as_page, in_words
from backflip.text import lasting

router = APIRouter(include_in_schema=False)
LISTED = 25
"""Answers of one page."""
Words = Annotated[str, Query(max_length=200)]
Before = Annotated[int, Query(ge=0, lt=2**62)]


@router.get("/projects/{name}/mine")
def mine(
    request: Request, site: Parts, here: Here, words: Words = "", before: Before = 0
) -> Response:
    """The visitor's own answers and progress; there is no way to somebody else's."""
    if here.member is None:
        return go(path_of(here))
    person, words = here.visitor.person.id, words.strip()
    found = here.project.own_answers(person, words=words, before=before, limit=LISTED + 1)
    shown, older = found[:LISTED], found[LISTED:]
    return _page(request, site, here, shown, words, before, shown[-1].number if older else 0)


def _page(
    request: Request,
    site: AppState,
    here: Place,
    shown: list[OwnAnswer],
    words: str,
    before: int,
    after: int,
) -> HTMLResponse:
    settings, person = here.settings, here.visitor.person.id
    progress = here.project.own_progress(person)
    shut = here.state == "paused" or here.archived or bool(here.project.overview().exhausted)
    progress = replace(progress, left=0, more=False) if shut else progress
    why = "" if progress.left else here.project.why_nothing(person)
    return page(
        request,
        "mine.html",
        here.visitor,
        numbers=_numbers(progress),
        why=why,
        answers=[_line(site, here, settings, one) for one in shown],
        words=words,
        searched=bool(words or before),
        older=urlencode({"words": words, "before": after}) if after else "",
        **in_project(here, "/mine"),
    )


def _numbers(progress: OwnProgress) -> list[dict[str, str]]:
    left = f"more than {progress.left:,}" if progress.more else f"{progress.left:,}"
    return [
        {"label": "Today", "value": f"{progress.today:,}", "detail": "answers, by the day in UTC"},
        {
            "label": "In all",
            "value": f"{progress.answers:,}",
            "detail": f"{'answer' if progress.answers == 1 else 'answers'}, in "
            f"{lasting(3600 * progress.hours)}",
        },
        {
            "label": "Left for you",
            "value": left,
            "detail": "at most: others may take some" if progress.left else "just now",
        },
    ]


def _line(site: AppState, here: Place, settings: ProjectSettings, one: OwnAnswer) -> dict[str, Any]:
    def place(clip: Mapping[str, Any]) -> dict[str, Any]:
        return site.media.place(here.name, clip)

    return {
        "number": one.number,
        "asks": kind_of(settings.kind).wording.asks or gist(one.payload),
        "said": in_words(settings.kind, one.value, settings.scale),
        "reason": str(one.value.get("reason") or ""),
        "at": one.at,
        "took": took(one.seconds) if one.seconds is not None else "",
        "newest": one.newest,
        "html": as_page(settings.kind, one.payload, place),
    }
