"""The rater's page, and the pages in its place when there is nothing to judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from backflip.errors import UserError
from backflip.feedback.kinds.fields import Example
from backflip.feedback.tasks.examples import example_of
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base.auth import Here, Parts, Place
from backflip.server.base.state import AppState
from backflip.server.base.templating import first_line, script_json
from backflip.server.pages.drawing import go, in_project, page, path_of, said
from backflip.server.text.item_html import Place as Spot
from backflip.server.text.item_html import as_page, in_words
from backflip.server.text.rendering import render
from backflip.server.work import item_json

router = APIRouter(include_in_schema=False)
AGAIN = 20
"""Seconds after which an empty page asks again."""
MALFORMED = Markup(
    '<p class="soft">It cannot be shown: it is no item of this project with an answer that fits. '
    "The lead can mend it in the settings.</p>"
)
SHOWN = (
    "kind", "title", "scale", "allow_tie", "allow_both_bad", "span_labels", "stop_at_bad",
    "content_warning", "break_after_minutes", "lease_seconds",
)  # fmt: skip
"""Settings that the page's script needs."""
Queue = Annotated[str, Query(pattern="^(work|adjudicate|golden)$")]


@router.get("/projects/{name}/rate")
def rate(request: Request, site: Parts, here: Here, queue: Queue = "work") -> Response:
    """The rater's page: an item, with the rubric beside it."""
    person = here.visitor.person.id
    if here.state == "none":
        here.project.enrol(person, role="admin")
        return go(path_of(here, f"/rate?queue={queue}"))
    shown = here.project.next(person, count=2, queue=queue)
    if not shown:
        return nothing(request, here, queue)
    settings = here.settings
    first = item_json.outgoing(site, here, shown, html=True)
    return page(
        request,
        "rate.html",
        here.visitor,
        config=script_json(_config(here, settings, queue)),
        first=script_json(first),
        rubric=render(settings.rubric or "*No rubric has been written yet.*"),
        rubric_line=first_line(settings.rubric),
        examples=examples(site, here, settings),
        **in_project(here, ""),
    )


def _config(here: Place, settings: ProjectSettings, queue: str) -> dict[str, Any]:
    told = settings.model_dump(mode="json", include=set(SHOWN))
    told["title"] = settings.title or here.name
    return told | {
        "attributes": [a.model_dump(mode="json") for a in settings.attributes],
        "project": here.name,
        "person": here.visitor.person.pseudonym,
        "queue": queue,
        "api": f"/api/v1/projects/{quote(here.name)}",
        "after": path_of(here, f"/rate?queue={queue}"),
    }


def examples(site: AppState, here: Place, settings: ProjectSettings) -> list[dict[str, Any]]:
    """The rubric's worked examples, as they would be judged."""

    def place(clip: Mapping[str, Any]) -> dict[str, Any]:
        return site.media.place(here.name, clip)

    return [
        {"html": _example(one, settings, number, place)}
        for number, one in enumerate(settings.examples, 1)
    ]


def _example(given: Example, settings: ProjectSettings, number: int, where: Spot) -> Markup:
    """One of them. Databases hold some from before they were checked."""
    try:
        one = example_of(given, settings, f"example {number}")
    except UserError:
        return MALFORMED
    words = in_words(settings.kind, one.value, settings.scale)
    return Markup("{}<p><b>{}</b></p>{}").format(
        as_page(settings.kind, one.payload, where),
        words[:1].upper() + words[1:],
        render(one.why) if one.why else "",
    )


def nothing(request: Request, here: Place, queue: str) -> Response:
    """Why there is nothing to judge, and what one can do."""
    why = here.project.why_nothing(here.visitor.person.id, queue=queue)
    why = why or "Nothing waits for you just now."
    links = [("/", "To the projects"), (path_of(here, "/mine"), "Your answers")]
    if queue == "adjudicate":
        links.insert(0, (path_of(here, "/adjudicate"), "To the disputes"))
    tabs = in_project(here, "")
    if here.state == "paused":
        lines = [why, "Everything that you have answered is kept."]
        return said(
            request, here.visitor, "You are paused", lines, kind="pause", links=links, extra=tabs
        )
    lines = [why, "This page asks again by itself."]
    heading = "Nothing left to do"
    return said(
        request, here.visitor, heading, lines, kind="done", links=links, again=AGAIN, extra=tabs
    )


@router.get("/pause/{name}")
def pause(request: Request, here: Here) -> Response:
    """A rest that somebody takes: nothing is lost, and there is one way back."""
    lines = ["Your answers are saved.", "What you had before you waits for a while."]
    links = [
        (path_of(here, "/rate"), "Go on"),
        (path_of(here, "/mine"), "Your answers"),
        ("/", "To the projects"),
    ]
    return said(
        request,
        here.visitor,
        "Paused",
        lines,
        kind="pause",
        links=links,
        extra=in_project(here, ""),
    )
