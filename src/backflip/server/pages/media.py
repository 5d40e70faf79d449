"""Clips and pictures of a project: sent by its lead, shown to its members."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from backflip.errors import UserError
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base import clips
from backflip.server.base.auth import Files, Here, Lead, Parts, Place, Posted
from backflip.server.base.clips import Kept
from backflip.server.base.headers import MEDIA_POLICY
from backflip.server.base.state import AppState
from backflip.server.pages.data import items_page

router = APIRouter(include_in_schema=False)


@router.get("/media/{name}/{file:path}")
def media(site: Parts, here: Here, file: str) -> FileResponse:
    """A clip of the project, for its members alone, as just what its name says."""
    path = site.media.find(here.name, file)
    kind = clips.kind_of(path.name)
    headers = {"Content-Security-Policy": MEDIA_POLICY}
    return FileResponse(path, media_type=kind.type if kind else None, headers=headers)


@router.post("/projects/{name}/clips/import")
def receive(request: Request, site: Parts, here: Lead, form: Files) -> Response:
    """Store what was sent, file by file, and make items of it where that was asked for."""
    if not kind_of(here.settings.kind).files:
        raise RefusedError("conflict", "only projects that compare clips take clips.")
    sent: dict[str, Any] = {"pair": form["pair"], "prompt": form["prompt"]}
    if not form.many:
        error = "choose one clip or picture, or several."
        return items_page(request, site, here, sent, clip_error=error)
    kept = _keep(site, here, form)
    try:
        sent["made"] = _items(here, kept, form["pair"], form["prompt"])
    except UserError as error:
        return items_page(request, site, here, sent, kept=kept, clip_error=str(error))
    return items_page(request, site, here, sent, kept=kept)


def _keep(site: AppState, here: Place, form: Posted) -> list[Kept]:
    """The files, each within what a file and a project may have."""
    folder, kept = site.media.root(here.name), list[Kept]()
    room = site.settings.media_bytes - sum(one.bytes for one in clips.stored(folder))
    for file in form.many:
        most = min(site.settings.upload_bytes, room)
        kept.append(clips.keep(folder, file.filename or "", file.file, most))
        room -= (file.size or 0) if kept[-1].name else 0
    return kept


def _items(here: Place, kept: list[Kept], how: str, prompt: str) -> int | None:
    """Pairs of what was stored; how many were new. None: only storing was asked for."""
    if how not in ("next", "every"):
        return None
    names = [one.name for one in kept if one.name]
    asked = {"prompt": [{"role": "user", "content": prompt}]} if prompt else {}
    made = [pair | asked for pair in clips.pairs(names, how)]
    return here.project.add_items(made, batch="clips").count
