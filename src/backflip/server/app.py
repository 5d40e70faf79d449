"""The web application: routes, headers of every answer, and messages of mistakes.

``create_app`` is all that a server needs. Lasting things stand in the store and in the folder of
files, so several processes of one machine may serve the same store behind one proxy. Each has rate
limits, loaded models, lanes for jobs and links of the terminal of its own.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from backflip import __version__
from backflip.errors import UserError
from backflip.feedback.projects.store import Store
from backflip.feedback.store.refusals import RefusedError
from backflip.server.api import data as api_data
from backflip.server.api import projects as api_projects
from backflip.server.api import rate as api_rate
from backflip.server.base import audit_log
from backflip.server.base.auth import (
    ForgedError,
    SignInNeededError,
    TooFastError,
    at_interface,
    maybe,
)
from backflip.server.base.headers import SafeHeaders
from backflip.server.base.limits import BodyLimit
from backflip.server.base.settings import ServerSettings
from backflip.server.base.state import AppState, app_state_of
from backflip.server.base.templating import STATIC
from backflip.server.pages import account as pages_account
from backflip.server.pages import api as pages_api
from backflip.server.pages import asking as pages_asking
from backflip.server.pages import data as pages_data
from backflip.server.pages import export as pages_export
from backflip.server.pages import item as pages_item
from backflip.server.pages import media as pages_media
from backflip.server.pages import mine as pages_mine
from backflip.server.pages import people as pages_people
from backflip.server.pages import projects as pages_projects
from backflip.server.pages import rate as pages_rate
from backflip.server.pages import resolution as pages_resolution
from backflip.server.pages import results as pages_results
from backflip.server.pages.drawing import go, said, sentence

log = logging.getLogger(__name__)

STATUS = {
    "not_found": 404,
    "not_allowed": 403,
    "not_yours": 403,
    "paused": 403,
    "conflict": 409,
    "nothing": 404,
    "expired": 410,
    "busy": 503,
    "full": 507,
}
"""HTTP statuses of refusals. Passing faults are 5xx: the page keeps the answer and tries again."""
HEADINGS = {
    403: "Not for you",
    404: "Nothing here",
    413: "Too large",
    429: "A little slower",
    503: "One moment",
    507: "The disk is full",
}
ROUTERS = (
    pages_account.router,
    pages_api.router,
    pages_projects.router,
    pages_asking.router,
    pages_data.router,
    pages_item.router,
    pages_media.router,
    pages_mine.router,
    pages_people.router,
    pages_rate.router,
    pages_results.router,
    pages_resolution.router,
    pages_export.router,
    api_rate.router,
    api_projects.router,
    api_data.router,
)


def create_app(store: Store, settings: ServerSettings | None = None) -> FastAPI:
    """The application of one server."""
    settings = settings or ServerSettings()
    site = AppState.of(store, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        yield
        site.jobs.close()

    app = FastAPI(
        title="Backflip feedback",
        version=__version__,
        description="Projects, items, answers and statistics of the feedback server.",
        docs_url=None,  # both load a script from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
    )
    app.state.site = site
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for router in ROUTERS:
        app.include_router(router)
    _handle(app)
    app.add_middleware(
        BodyLimit,  # pyright: ignore[reportArgumentType]
        most=settings.body_bytes,
        uploads=settings.upload_bytes,
        known=lambda scope: maybe(Request(scope)) is not None,
    )
    app.add_middleware(SafeHeaders, hosts=settings.names, secure=settings.over_tls)  # pyright: ignore[reportArgumentType]
    return app


def _handle(app: FastAPI) -> None:
    """Every mistake becomes a page for people or JSON for programs, in plain words."""
    app.add_exception_handler(SignInNeededError, _sign_in_needed)
    app.add_exception_handler(ForgedError, _forged)
    app.add_exception_handler(TooFastError, _too_fast)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


def _tell(request: Request, status: int, text: str, code: str = "") -> Response:
    """The same mistake, for whoever asked."""
    if at_interface(request):
        return JSONResponse({"detail": text, "code": code or str(status)}, status)
    try:
        visitor = maybe(request)
    except Exception:  # the database is what is broken
        visitor = None
    heading = HEADINGS.get(status, "That did not work")
    return said(request, visitor, heading, [sentence(text)], status=status)


def _sign_in_needed(request: Request, error: Exception) -> Response:
    del error
    if at_interface(request):
        return _tell(request, 401, "sign in, or send a token (Bearer)", "signed_out")
    url = request.url
    there = f"{url.path}?{url.query}" if url.query else url.path
    return go(f"/sign-in?next={quote(there if request.method == 'GET' else '/')}")


def _forged(request: Request, error: Exception) -> Response:
    del error
    audit_log.refused("not from a page of ours", request.scope)
    text = "this page is too old, or you signed in again since; load it anew and repeat."
    return _tell(request, 403, text, "csrf")


def _too_fast(request: Request, error: Exception) -> Response:
    wait = getattr(error, "wait", 1.0)
    response = _tell(request, 429, f"{error}.", "too_fast")
    response.headers["Retry-After"] = str(int(wait) + 1)
    return response


def _invalid(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    parts = [f"{'.'.join(str(x) for x in f['loc'])}: {f['msg']}" for f in faults[:5]]
    return _tell(request, 422, "; ".join(parts), "invalid")


def _user_error(request: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, RefusedError) else "refused"
    return _tell(
        request, STATUS.get(code, 422), app_state_of(request).without_places(str(error)), code
    )


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = {404: "there is no such page.", 405: "this page does not take that."}
    text = detail.get(status) or str(getattr(error, "detail", ""))
    response = _tell(request, status, text)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _bug(request: Request, error: Exception) -> Response:
    """Nobody sees a traceback; it stands in the server's log."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if at_interface(request):
        return JSONResponse({"detail": "a mistake of ours; it is in the log.", "code": "bug"}, 500)
    lines = ["It stands in the server's log. What you had sent before is kept."]
    return said(request, None, "A mistake of ours", lines, status=500)
