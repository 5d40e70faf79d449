"""Next steps of a lead: lacking parts of a project, waiting items, and stalled ones."""

from __future__ import annotations

from collections.abc import Iterator

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.administration import Overview
from backflip.feedback.projects.members import Membership
from backflip.server.base.auth import Place
from backflip.server.base.state import AppState
from backflip.server.pages.drawing import path_of
from backflip.text import counted

NEWEST = 100
"""Items of a talk whose policies are looked up."""
Step = dict[str, str]


def steps(site: AppState, here: Place, found: Overview) -> list[Step]:
    """In the order in which they are done, each with the page where it is."""
    members = here.project.members()
    return [
        {"text": text, "href": path_of(here, href) if href else ""}
        for text, href in (
            *_lacking(site, here, found, members),
            *_waiting(here, found, members),
            *_going_on(here, found),
        )
    ]


def _lacking(
    site: AppState, here: Place, found: Overview, members: list[Membership]
) -> Iterator[tuple[str, str]]:
    """Parts that a project needs before anybody can judge."""
    settings = here.project.settings
    if unknown := _unknown_policies(site, here):
        flags = " ".join(f"--policy {name}=MODEL" for name in unknown)
        yield f"Start the server with {flags}: items talk with it, and this server knows it not", ""
    if not settings.rubric:
        yield "Write a rubric", "/settings"
    if not found.items:
        yield "Import items to judge", "/items"
    if settings.screening and not here.project.items(purpose="screening", limit=1):
        yield (
            "Import questions for the quiz: items with purpose “screening” and a gold answer",
            "/items",
        )
    if len(members) < 2:
        open_links = len(here.project.invitations())
        sent = counted(open_links, "link waits", "links wait")
        yield f"Invite raters{f'; {sent} to be opened' if open_links else ''}", "/people"


def _waiting(here: Place, found: Overview, members: list[Membership]) -> Iterator[tuple[str, str]]:
    """Work that only a senior or the lead can do."""
    if found.adjudicate:
        split = counted(found.adjudicate, "item", "items")
        yield f"Settle {split} on which raters are split, or that many skipped", "/adjudicate"
    if flagged := here.project.flagged():
        yield f"Look at {counted(flagged, 'item')} that raters flagged", "/flagged"
    paused = sum(one.state == "paused" and one.reason in ("gold", "screening") for one in members)
    if paused:
        raters = counted(paused, "rater is", "raters are")
        yield f"{raters} paused, for wrong answers where the right one is known", "/people"
    for stalled in here.project.stalls(glance=True):
        yield f"{stalled}. Invite raters, or lower “Raters per item” in the settings", "/people"
    if found.exhausted:
        yield f"Raise the budget: {found.exhausted}", "/settings"


def _going_on(here: Place, found: Overview) -> Iterator[tuple[str, str]]:
    """Once all is there: try it, and at the end take the answers out."""
    if found.items and not found.answers:
        yield "Judge an item or two yourself, as raters will see them", "/rate"
    if found.items and found.done == found.items:
        yield "All items are done: take the answers out, or train on them", "/export"


def _unknown_policies(site: AppState, here: Place) -> list[str]:
    """Policies that the newest items of a talk name, and that this server cannot ask."""
    if not kind_of(here.project.settings.kind).live:
        return []
    newest = here.project.items(newest=True, limit=NEWEST)
    named = {str(name) for item in newest for name in item.payload["policies"]}
    return sorted(named - set(site.talkers.places))
