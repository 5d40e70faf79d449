"""Items: importing them from a file or a data source, and looking at them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from backflip.errors import UserError
from backflip.feedback.exchange.imports import Imported, Wishes, take_in
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.reading import ItemRow
from backflip.feedback.store.queues import Purpose
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base.auth import Form, Lead, Parts, Place, Posted
from backflip.server.base.clips import KINDS, Kept, stored
from backflip.server.base.state import AppState
from backflip.server.base.templating import first_line
from backflip.server.base.uploads import called, kept
from backflip.server.pages.drawing import go, in_project, page, path_of, sentence

router = APIRouter(include_in_schema=False)
PAGE = 30
STATES = [
    ("", "all states"),
    ("open", "to be judged"),
    ("done", "done"),
    ("adjudicate", "disputed"),
    ("dropped", "dropped"),
]
PURPOSES = [
    ("work", "To be judged"),
    ("gold", "Gold: known answers, injected unseen"),
    ("screening", "Screening: the quiz at the door"),
    ("calibration", "Calibration: agreed examples that come first"),
    ("golden", "Golden set: for seniors alone, kept for probes"),
]
SWITCHES = ("gold_from_data", "lenient")
DEFAULTS = {
    "source": "", "purpose": "work", "limit": "", "batch": "", "priority": "0", "route": "",
    "pair": "next", "prompt": "", "made": None,
}  # fmt: skip


@router.get("/projects/{name}/items")
def items(request: Request, site: Parts, here: Lead) -> HTMLResponse:
    return items_page(request, site, here, {})


def items_page(
    request: Request,
    site: AppState,
    here: Place,
    form: Mapping[str, Any],
    *,
    error: str = "",
    before: int = 0,
    report: Sequence[str] = (),
    clip_error: str = "",
    kept: Sequence[Kept] = (),
) -> HTMLResponse:
    """The items, and the forms that add to them: rows, and clips where the project has such.

    ``before``: items of an import before its ``error``; ``report``, ``kept``: outcomes of sending.
    """
    kind = kind_of(here.project.settings.kind)
    return page(
        request,
        "items.html",
        here.visitor,
        status=400 if error or clip_error else 200,
        error=error,
        before=before,
        report=report,
        partly=any(line.startswith("left out") for line in report),
        clip_error=sentence(clip_error),
        kept=kept,
        clips=stored(site.media.root(here.name)) if kind.files else None,
        endings=",".join(KINDS),
        form={**DEFAULTS, **form, **{name: name in form for name in SWITCHES}},
        purposes=PURPOSES,
        routes=_routes(here.project.settings),
        may_source=here.may("admin"),
        upload_mib=site.settings.upload_bytes // 2**20,
        counts=_counts(here.project.tallies()),
        kind_example=kind.wording.row,
        **listed(request, here),
        **in_project(here, "/items"),
    )


def _routes(settings: ProjectSettings) -> list[tuple[str, str]]:
    """Groups that items may be for, and everybody; empty where there are no groups."""
    groups = [(f"{g}={v}", f"{g}: {v}") for g, values in settings.groups.items() for v in values]
    return [("", "Everybody"), *groups] if groups else []


def listed(request: Request, here: Place) -> dict[str, Any]:
    """The newest items of those that the address asks for, and where the next page begins."""
    asked = request.query_params
    state, purpose = asked.get("state", ""), asked.get("purpose", "")
    words = asked.get("words", "").strip()[:200]
    before = asked.get("before", "")
    usable = before.isascii() and before.isdigit() and len(before) < 19
    rows = here.project.items(
        state=state or None,
        purpose=purpose or None,
        text=words,
        after=int(before) if usable else 0,
        newest=True,
        limit=PAGE + 1,
    )
    more = {"state": state, "purpose": purpose, "words": words}
    return {
        "sample": [_line(row) for row in rows[:PAGE]],
        "asked": more,
        "here_query": urlencode({**more, "before": before} if usable else more),
        "searched": any(more.values()) or bool(before),
        "older": urlencode({**more, "before": rows[PAGE - 1].id}) if rows[PAGE:] else "",
        "states": STATES,
        "shown_purposes": [("", "everything"), *((key, key) for key, _ in PURPOSES)],
    }


def _counts(counts: Mapping[str, float]) -> list[tuple[str, int]]:
    items, done = int(counts.get("items", 0)), int(counts.get("done", 0))
    disputed, dropped = int(counts.get("adjudicate", 0)), int(counts.get("dropped", 0))
    return [
        ("To be judged", items - done - disputed - dropped),
        ("Done", done),
        ("Disputed", disputed),
        ("Dropped", dropped),
    ]


def _line(row: ItemRow) -> dict[str, Any]:
    return {**row.__dict__, "text": gist(row.payload)}


def gist(payload: Mapping[str, Any]) -> str:
    """Gist of an item in one line: the last message of its prompt, or its own text."""
    turns = payload.get("prompt") or payload.get("opening") or ()
    if turns:
        return first_line(turns[-1]["content"])
    return first_line(kind_of(payload["kind"]).gist(payload))


@router.post("/projects/{name}/import")
def receive(request: Request, site: Parts, here: Lead, form: Form) -> Response:
    """Import a file or a source; the first row that does not fit ends it, with a reason."""
    had = here.project.tallies().get("items", 0)
    with tempfile.TemporaryDirectory(prefix="backflip-import-") as folder:
        try:
            source = _source(here, form, Path(folder), site.settings.upload_bytes)
            done = add_from(site, here, source, form)
        except UserError as error:
            came = int(here.project.tallies().get("items", 0) - had)
            return items_page(request, site, here, form.fields, error=str(error), before=came)
        if done.left_out.total or done.remarks():
            return items_page(request, site, here, {}, report=done.lines())
    counts = (done.added, done.duplicates, done.twins, done.left_out.total, done.answers)
    return go(path_of(here, "/items"), f"imported.{'-'.join(map(str, counts))}")


def _source(here: Place, form: Posted, folder: Path, most: int) -> str:
    """Where to read: the upload, kept for the time of the import, or the source that was named."""
    upload = form.files.get("file")
    if upload is not None:
        return str(kept(upload, folder, most))
    if not form["source"]:
        raise UserError("choose a file, or name a data source.")
    if not here.may("admin"):
        raise UserError("only admins read from the server's own disk; upload a file instead.")
    return form["source"]


def add_from(site: AppState, here: Place, source: str, form: Posted) -> Imported:
    """Read a source and store its items."""
    purpose, upload = form["purpose"] or "work", form.files.get("file")
    if purpose not in dict(PURPOSES):
        raise UserError(f"there is no purpose {purpose[:20]!r}.")
    priority = form["priority"] or "0"
    try:
        number = float(priority)
    except ValueError:
        raise UserError(f"priority {priority[:20]!r} is not a number.") from None
    wishes = Wishes(
        gold="gold_from_data" in form.fields,
        strict="lenient" not in form.fields,
        limit=form.whole("limit", 0, 0, 10**9) or None,
        priority=number,
        batch=form["batch"],
        purpose=cast(Purpose, purpose) if purpose != "work" else None,
        route=form["route"],
        called=called(upload.filename or "") if upload is not None else "",
        check=site.askable(here.name),
    )
    return take_in(here.project, source, wishes)
