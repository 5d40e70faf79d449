"""Statistics and the queue of disputes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from backflip.collect import figures
from backflip.collect.gate import Parts, Place, Senior
from backflip.collect.pages import in_project, page
from backflip.collect.pages_data import gist
from backflip.collect.pages_projects import days, numbers
from backflip.collect.showing import as_page, in_words
from backflip.collect.site import Site, place_of
from backflip.feedback.reading import AnswerRow, ItemRow
from backflip.monitor.pictures import Chart, Series, line_chart

router = APIRouter(include_in_schema=False)
FRESH = 60.0
"""Seconds that figures stand before new answers make them worth working out again."""
DISPUTES = 20
TITLE = "Statistics"
COEFFICIENTS = [
    ("percent", "Percent", "two raters of an item say the same"),
    ("alpha", "Krippendorff’s α", "1 perfect, 0 chance"),
    ("fleiss", "Fleiss’ κ", "1 perfect, 0 chance"),
    ("gwet", "Gwet’s AC", "steady where one answer is rare"),
]
SIDES = {"-1": "B", "0": "tie", "1": "A"}


@router.get("/projects/{name}/statistics")
def statistics(request: Request, site: Parts, here: Senior) -> HTMLResponse:
    """Live counts, and the figures as they were last worked out."""
    found, settings = here.project.overview(), here.project.settings
    made = figures.read(site.figures(here.name))
    computing = refresh(site, here, made)
    disputed = (made or {}).get("disputed", [])
    for one in disputed:
        one["said"] = [(SIDES.get(word, word), count) for word, count in one["votes"].items()]
    texts = _texts(here, [int(one["item"]) for one in disputed])
    return page(
        request,
        "statistics.html",
        here.visitor,
        numbers=numbers(found, settings.budget.currency),
        f=made,
        computing=computing,
        broken=made is None and site.jobs.lately_failed(here.name, TITLE, FRESH),
        coefficients=COEFFICIENTS,
        chart=_over_time(made or {}),
        days=days(here.project),
        texts=texts,
        names=_names(site, here) if here.may("lead") else _Nobody(),
        **in_project(here, "/statistics", disputes=found.adjudicate),
    )


class _Nobody(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def _names(site: Site, here: Place) -> dict[str, str]:
    """Names behind pseudonyms, for the lead."""
    people = {person.id: person for person in site.store.people.everybody()}
    found = _Nobody()
    for member in here.project.members():
        if member.person in people:
            found[member.pseudonym] = people[member.person].name
    return found


def refresh(site: Site, here: Place, made: Mapping[str, Any] | None) -> bool:
    """Start working the figures out anew where there is something new; true while that lasts."""
    running = [j for j in site.jobs.of(here.name) if j.title == TITLE and not j.over]
    if running:
        return True
    if made is not None:
        unchanged = made["event"] == here.project.newest_event()
        if unchanged or time.time() - made["at"] < FRESH:
            return False
    elif not here.project.tallies().get("answers", 0):
        return False
    if site.jobs.lately_failed(here.name, TITLE, FRESH):
        return False
    file = str(site.figures(here.name))
    command = [sys.executable, "-m", "backflip.collect.figures", place_of(site.store)]
    site.jobs.start(here.name, TITLE, [*command, here.name, file])
    return True


def _texts(here: Place, numbers: list[int]) -> dict[str, str]:
    rows = here.project.items(ids=numbers, limit=len(numbers)) if numbers else []
    found = _Nobody()
    found.update({str(row.id): gist(row.payload) for row in rows})
    return found


def _over_time(made: Mapping[str, Any]) -> Markup:
    """Krippendorff's α in stretches of equally many items, with its band."""
    moments = [m for m in made.get("over_time", []) if "estimate" in m]
    if len(moments) < 2:
        return Markup()
    items, total = list[float](), 0
    for one in moments:
        total += one["items"]
        items.append(float(total))
    alphas = [one["estimate"] for one in moments]
    band = [(one["low"], one["high"]) for one in moments]
    series = Series("α", items, alphas, band=band)
    lines = {"chance": 0.0, "0.667, tentative": 0.667}
    return line_chart(
        Chart("Agreement over time", [series], "Krippendorff’s α", "items", lines=lines)
    )


@router.get("/projects/{name}/adjudicate")
def adjudicate(request: Request, site: Parts, here: Senior) -> HTMLResponse:
    """Items on which raters disagree, with what they said."""
    rows = here.project.items(state="adjudicate", limit=DISPUTES)
    waiting = here.project.overview().adjudicate
    by_item: dict[int, list[AnswerRow]] = {row.id: [] for row in rows}
    for answer in here.project.answers(items=list(by_item)) if by_item else ():
        by_item[answer.item].append(answer)
    shown = [_dispute(site, here, row, by_item[row.id]) for row in rows]
    return page(
        request,
        "adjudicate.html",
        here.visitor,
        items=shown,
        **in_project(here, "/adjudicate", disputes=waiting),
    )


def _dispute(site: Site, here: Place, row: ItemRow, answers: list[AnswerRow]) -> dict[str, Any]:
    settings = here.project.settings

    def place(clip: Mapping[str, Any]) -> dict[str, Any]:
        return site.media.place(here.name, clip)

    votes: dict[str, int] = {}
    for answer in answers:
        words = in_words(settings.kind, answer.value, settings.scale)
        votes[words] = votes.get(words, 0) + 1
    return {
        "id": row.id,
        "skipped": row.skipped,
        "votes": sorted(votes.items(), key=lambda vote: -vote[1]),
        "html": as_page(settings.kind, row.payload, place),
    }
