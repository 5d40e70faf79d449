"""Statistics: how far raters agree, who tires, what moved, and what choosing questions gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.statistics.figures_labels import FEWEST_SHARED
from backflip.server.base.auth import Parts, Place, Senior
from backflip.server.base.state import AppState
from backflip.server.pages.data import gist
from backflip.server.pages.drawing import in_project, page
from backflip.server.pages.projects import numbers
from backflip.server.text.item_html import part_in_words, value_in_words
from backflip.server.work import figures, glance, plots
from backflip.server.work.refreshing import FRESH, TITLE, refresh

router = APIRouter(include_in_schema=False)
COEFFICIENTS = [
    ("percent", "Percent", "two raters of an item say the same"),
    ("alpha", "Krippendorff’s α", "1 perfect, 0 chance"),
    ("fleiss", "Fleiss’ κ", "1 perfect, 0 chance"),
    ("gwet", "Gwet’s AC", "steady where one answer is rare"),
]
GAUGES = [("length", "Prefers longer"), ("lists", "Prefers lists"), ("first", "Prefers first")]
METHODS = {
    "dawid_skene": ("Dawid and Skene", "votes weighed by what each rater mistakes for what"),
    "majority": ("Majority", "one rater, one vote"),
    "weighted": ("Weighted vote", "votes weighed by reliability"),
    "glad": ("GLAD", "knows hard items from easy ones"),
    "bradley_terry": ("Noisy Bradley-Terry", "a score for each answer; knows no ties"),
}
"""Ways to come to a label, each with what it does."""


@router.get("/projects/{name}/statistics")
def statistics(
    request: Request,
    site: Parts,
    here: Senior,
    rubric: str = "",
    attribute: str = "",
    every: str = "",
) -> HTMLResponse:
    """One screen of live counts and of what matters in the figures; all figures behind it.

    The figures are as last worked out, of all answers or one rubric version's. ``every``: whether
    all of them stand open.
    """
    found, settings = here.project.overview(), here.project.settings
    made = figures.read(site.figures(here.name))
    computing = refresh(site, here, made)
    which = _which(made, attribute, rubric)
    part, shown = which["f"], which["attribute"]
    return page(
        request,
        "statistics.html",
        here.visitor,
        numbers=numbers(found, settings.budget.currency),
        glance=glance.of(here.project, part, made) if part and made else None,
        opened=bool(every or rubric or attribute),
        made=made,
        computing=computing,
        broken=made is None and site.jobs.lately_failed(here.name, TITLE, FRESH),
        days=plots.days(here.project),
        may_change=here.may("lead"),
        **which,
        **(_said(site, here, part, shown) if part else {}),
        **in_project(here, "/statistics"),
    )


def _which(made: Mapping[str, Any] | None, attribute: str, rubric: str) -> dict[str, Any]:
    """The figures of an attribute and of a rubric version, with the others to choose from."""
    attributes = list((made or {}).get("attributes", {}))
    shown = attribute if attribute in attributes else next(iter(attributes), "")
    whole = made["attributes"][shown] if made and shown else made
    versions = list((whole or {}).get("versions", {}))
    rubric = rubric if rubric in versions else ""
    return {
        "f": whole and (whole["versions"][rubric] if rubric else whole),
        "versions": versions,
        "rubric": rubric,
        "attributes": attributes,
        "attribute": shown,
    }


def _said(site: AppState, here: Place, part: Mapping[str, Any], attribute: str) -> dict[str, Any]:
    """All words and pictures of the figures, by their name in the template."""
    names = _names(site, here) if here.may("lead") else _Nobody()
    kind = here.settings.kind
    return {
        "names": names,
        "coefficients": COEFFICIENTS,
        "subject": f"on the mark for “{attribute}”" if attribute else kind_of(kind).wording.subject,
        "gauges": [
            (key, label)
            for key, label in GAUGES
            if any(rater["gauges"].get(key) for rater in part["raters"])
        ],
        "drift": plots.drift,
        "direction": plots.direction,
        "fewest_shared": FEWEST_SHARED,
        "methods": METHODS,
        "unsure": _unsure(here, part),
        "disputed": _disputed(here, part),
        "chart": plots.over_time(part),
        "gain": plots.gained(part.get("gain")),
        "gain_said": plots.gain_in_words(part.get("gain")),
        "sessions": plots.sessions(part, names),
        "preferences": plots.preferences(part),
    }


class _Nobody(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def _names(site: AppState, here: Place) -> dict[str, str]:
    """Names behind pseudonyms, for the lead."""
    people = {person.id: person for person in site.store.people.everybody()}
    found = _Nobody()
    for member in here.project.members():
        if member.person in people:
            found[member.pseudonym] = people[member.person].name
    return found


def _items(here: Place, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judged items or parts of them ("12:0-2"), with their number, what they ask, and the part."""
    split = [one["item"].partition(":") for one in found]
    ids = sorted({int(number) for number, _, _ in split})
    rows = here.project.items(ids=ids, limit=len(ids)) if ids else []
    asks = {row.id: gist(row.payload) for row in rows}
    return [
        {
            **one,
            "item": int(number),
            "part": part,
            "about": part_in_words(here.settings.kind, part) if part else "",
            "asks": asks.get(int(number), ""),
        }
        for one, (number, _, part) in zip(found, split, strict=True)
    ]


def _disputed(here: Place, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items most disagreed on, with what was said."""
    kind = here.settings.kind
    return [
        {
            **one,
            "said": [
                (value_in_words(kind, float(value), one["part"]), count)
                for value, count in one["votes"].items()
            ],
        }
        for one in _items(here, part["disputed"])
    ]


def _unsure(here: Place, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items whose label is least sure, and what other methods make of them."""
    kind = here.settings.kind

    def words(value: float | None, about: str) -> str:
        return "undecided" if value is None else value_in_words(kind, value, about)

    return [
        {
            **one,
            "label": words(one["value"], one["part"]),
            "others": [
                (METHODS[method][0], words(value, one["part"]))
                for method, value in one["others"].items()
                if value != one["value"]
            ],
        }
        for one in _items(here, (part["labels"] or {"unsure": []})["unsure"])
    ]
