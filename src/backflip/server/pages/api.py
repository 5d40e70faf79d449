"""Page on the interface for programs, made from its own description."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from backflip.feedback.store.refusals import RefusedError
from backflip.server.base.auth import Parts, Who
from backflip.server.pages.drawing import page

router = APIRouter(include_in_schema=False)


@router.get("/api")
def interface(request: Request, who: Who) -> HTMLResponse:
    """Every operation in a line, without a script from elsewhere."""
    described = request.app.openapi()
    groups: dict[str, list[dict[str, str]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            line = {"method": method.upper(), "path": path, "text": operation["description"]}
            groups.setdefault(operation["tags"][0], []).append(line)
    return page(request, "api.html", who, groups=groups)


@router.get("/healthz")
def health(site: Parts) -> Response:
    """Whether the server and its database answer: for whoever watches over it."""
    try:
        site.store.check()
    except RefusedError as error:
        return JSONResponse({"ok": False, "detail": str(error)}, 503)
    return JSONResponse({"ok": True})
