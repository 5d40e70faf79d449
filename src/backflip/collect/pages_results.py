"""Statistics: how far raters agree, who tires, what moved, and what choosing questions gained."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from backflip.collect import figures, plots
from backflip.collect.gate import Parts, Place, Senior
from backflip.collect.pages import in_project, page
from backflip.collect.pages_data import gist
from backflip.collect.pages_projects import numbers
from backflip.collect.site import Site

router = APIRouter(include_in_schema=False)
FRESH = 60.0
"""Seconds that figures stand before new answers make them worth working out again."""
TITLE = "Statistics"
COEFFICIENTS = [
    ("percent", "Percent", "two raters of an item say the same"),
    ("alpha", "Krippendorff’s α", "1 perfect, 0 chance"),
    ("fleiss", "Fleiss’ κ", "1 perfect, 0 chance"),
    ("gwet", "Gwet’s AC", "steady where one answer is rare"),
]
SIDES = {"-1": "B", "0": "tie", "1": "A"}


@router.get("/projects/{name}/statistics")
def statistics(request: Request, site: Parts, here: Senior, rubric: str = "") -> HTMLResponse:
    """Live counts, and the figures as last worked out: of all answers, or one rubric version's."""
    found, settings = here.project.overview(), here.project.settings
    made = figures.read(site.figures(here.name))
    computing = refresh(site, here, made)
    versions = list((made or {}).get("versions", {}))
    rubric = rubric if rubric in versions else ""
    part = made and (made["versions"][rubric] if rubric else made)
    names = _names(site, here) if here.may("lead") else _Nobody()
    drawn = _drawn(part, names) if part else {}
    return page(
        request,
        "statistics.html",
        here.visitor,
        numbers=numbers(found, settings.budget.currency),
        made=made,
        f=part,
        versions=versions,
        rubric=rubric,
        computing=computing,
        broken=made is None and site.jobs.lately_failed(here.name, TITLE, FRESH),
        coefficients=COEFFICIENTS,
        days=plots.days(here.project),
        disputed=_disputed(here, part or {}),
        names=names,
        **drawn,
        **in_project(here, "/statistics"),
    )


def _drawn(part: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """All pictures of the page, by their name in the template."""
    return {
        "chart": plots.over_time(part),
        "gain": plots.gained(part.get("gain")),
        "gain_said": plots.gain_in_words(part.get("gain")),
        "sessions": plots.sessions(part, names),
        "preferences": plots.preferences(part),
    }


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
    command = [sys.executable, "-m", "backflip.collect.figures", here.name, file]
    site.jobs.start(here.name, TITLE, command, short=True)
    return True


def _disputed(here: Place, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items most disagreed on, with what they ask."""
    found = part.get("disputed", [])
    ids = [int(one["item"]) for one in found]
    rows = here.project.items(ids=ids, limit=len(ids)) if ids else []
    asks = {str(row.id): gist(row.payload) for row in rows}
    return [
        {
            **one,
            "asks": asks.get(one["item"], ""),
            "said": [(SIDES.get(word, word), count) for word, count in one["votes"].items()],
        }
        for one in found
    ]
