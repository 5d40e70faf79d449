"""Pages on query selection, and on items that the screen left out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from backflip.errors import UserError
from backflip.feedback.choose import prescreen
from backflip.feedback.kinds.registry import kind_of
from backflip.server.base.auth import Form, Lead, Parts, Place, Posted
from backflip.server.base.state import AppState
from backflip.server.pages.data import gist
from backflip.server.pages.drawing import go, in_project, page, path_of, sentence
from backflip.server.work import ask_command, asking

router = APIRouter(include_in_schema=False)
LISTED = 50
READ = 1000
"""Events that are looked through at a time."""
MOST_READ = 20


@router.get("/projects/{name}/asking")
def asking_page(request: Request, site: Parts, here: Lead) -> HTMLResponse:
    """Strategies for asking, and how the last round went."""
    return _page(request, site, here)


def _page(request: Request, site: AppState, here: Place, error: str = "") -> HTMLResponse:
    return page(
        request,
        "asking.html",
        here.visitor,
        status=400 if error else 200,
        error=error,
        **_shown(site, here),
        **in_project(here, "/asking"),
    )


def _shown(site: AppState, here: Place) -> dict[str, Any]:
    """Content of the page on the next questions."""
    settings, last = here.project.settings, asking.latest(site, here.name)
    asked = last["asked"] if last else {"screen": {"sample_back": 0.05}}
    ways = ask_command.offered(settings.kind)
    usual = "information" if "information" in ways else ways[0]
    return {
        "strategies": [(key, *ask_command.STRATEGIES[key]) for key in ways],
        "chosen": asked.get("strategy", usual),
        "asked": {"count": None, "screen": None, **asked},
        "voices": asking.voices(site, here.name),
        "voice": asking.voice(asked),
        "random_share": f"{100 * settings.random_share:g}",
        "screens": kind_of(settings.kind).two_texts,
        "last": last,
        "running": last is not None and not last["job"].over,
    }


@router.post("/projects/{name}/asking")
def ask(request: Request, site: Parts, here: Lead, form: Form) -> Response:
    """Set the random arm's share, and choose a round of questions beside the server."""
    kind = here.project.settings.kind
    try:
        _share(here, form)
        asking.choose(site, here.name, kind, _asked(site, here, form))
    except UserError as error:
        return _page(request, site, here, sentence(error))
    return go(path_of(here, "/asking"), "choosing")


def _asked(site: AppState, here: Place, form: Posted) -> dict[str, Any]:
    """Arguments of a round. Only pairs of texts are screened, or read by reward models."""
    pairs = kind_of(here.project.settings.kind).two_texts
    asked: dict[str, Any] = {
        "strategy": form["strategy"],
        "count": form.whole("count", 200, 1, asking.MOST),
    }
    if pairs and "screen" in form.fields:
        back = form.whole("sample_back", 5, 0, 100)
        asked["screen"] = {"sample_back": back / 100}
    if pairs and form["judge"]:
        asked["judges"] = asking.named(site, here.name, form["judge"])
    return asked


def _share(here: Place, form: Posted) -> None:
    """The random arm's share is one of the settings."""
    text = form["random_share"].rstrip(" %").replace(",", ".")
    try:
        share = float(text) / 100
    except ValueError:
        raise UserError(f"the random arm’s share {text[:20]!r} is not a number.") from None
    if not 0 <= share <= 1:
        raise UserError(f"the random arm’s share is {text[:20]} %; give 0 to 100.")
    settings = here.project.settings
    if abs(share - settings.random_share) > 1e-9:
        changed = {**settings.model_dump(mode="json"), "random_share": share}
        here.project.configure(changed, by=here.visitor.person.id)


@router.get("/projects/{name}/screened")
def screened(
    request: Request, here: Lead, before: Annotated[int, Query(ge=0, lt=2**62)] = 0
) -> HTMLResponse:
    """Items that a rule left out, the newest first, with a way to ask them all the same."""
    found, older = _left_out(here, before)
    ids = [item for item, _, _ in found]
    rows = {row.id: row for row in here.project.items(ids=ids, limit=len(ids))} if ids else {}
    shown = [
        {"id": item, "rule": rule, "at": at, "text": gist(rows[item].payload)}
        for item, rule, at in found
        if item in rows and rows[item].state == "dropped"
    ]
    return page(
        request,
        "screened.html",
        here.visitor,
        items=shown,
        older=older,
        **in_project(here, "/asking"),
    )


def _left_out(here: Place, before: int) -> tuple[list[tuple[int, str, float]], int]:
    """(Item, rule, when) of what was dropped by a rule, and where older ones begin; 0: no more."""
    found = list[tuple[int, str, float]]()
    for _ in range(MOST_READ):
        until = before - 1 if before else None
        events = here.project.events(kinds=("item state",), until=until, newest=True, limit=READ)
        for event in events:
            reason = str(event.body.get("reason", ""))
            if event.item and reason.startswith(prescreen.ORIGIN):
                found.append((event.item, reason.removeprefix(prescreen.ORIGIN), event.at))
                if len(found) == LISTED:
                    return found, event.number
        if len(events) < READ:
            return found, 0
        before = events[-1].number
    return found, before
