"""Taking answers out, training on them, jobs and their reports, and the log of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse

from backflip.errors import UserError
from backflip.feedback.exchange import exports
from backflip.feedback.exchange.mapping import mapping_of
from backflip.server.base.auth import Form, Lead, Parts, Place
from backflip.server.base.headers import REPORT_POLICY
from backflip.server.base.jobs import Job
from backflip.server.base.state import AppState
from backflip.server.base.templating import took
from backflip.server.pages.drawing import go, in_project, page, path_of, sentence
from backflip.server.work.downloads import downloaded
from backflip.server.work.training import in_words, train_reward_model

router = APIRouter(include_in_schema=False)
LOG_PAGE = 100
KINDS = [
    "answer", "undo", "skip", "flag", "note", "settings", "joined", "state", "invitation",
    "invitation withdrawn",
    "item state", "items", "priorities", "flags settled", "warning", "archived", "refused",
    "warned", "paused", "admitted",
]  # fmt: skip


@router.get("/projects/{name}/export")
def export(request: Request, site: Parts, here: Lead) -> HTMLResponse:
    return _export(request, site, here)


def _export(request: Request, site: AppState, here: Place, error: str = "") -> HTMLResponse:
    kind = here.project.settings.kind
    jobs = [_job(job) for job in site.jobs.of(here.name) if job.run][:30]
    return page(
        request,
        "export.html",
        here.visitor,
        status=400 if error else 200,
        error=error,
        formats=[(one.name, one.what) for one in exports.offered(kind)],
        trainable=mapping_of(kind).rewards,
        answers=int(here.project.tallies().get("answers", 0)),
        jobs=jobs,
        **in_project(here, "/export"),
    )


def _job(job: Job) -> dict[str, Any]:
    return {**job.__dict__, "took": took(job.ended - job.begun) if job.over else ""}


@router.get("/projects/{name}/download")
def download(here: Lead, format: str, file: str = "jsonl") -> Response:
    """Answers as a file. It is made whole first: a download that breaks off would look finished."""
    return downloaded(here, format, file)


# ---- jobs


@router.post("/projects/{name}/train")
def train(request: Request, site: Parts, here: Lead, form: Form) -> Response:
    """Train a reward model on the answers so far."""
    steps = form.whole("steps", 0, 0, 10**7) or None
    try:
        job = train_reward_model(site, here, form["model"] or "smollm2", steps)
    except UserError as error:
        return _export(request, site, here, sentence(error))
    return go(path_of(here, f"/jobs/{job.id}"))


@router.get("/projects/{name}/jobs/{number}")
def job(request: Request, site: Parts, here: Lead, number: str) -> HTMLResponse:
    found = site.jobs.find(here.name, number)
    report = _report(found)
    shown = _job(found) | {
        "log": site.without_places(site.jobs.log(found)),
        "report": report is not None,
        "shown": site.without_places(in_words(found)),
        "model": f"{found.run}/model" if here.may("admin") else "",
    }
    return page(request, "job.html", here.visitor, job=shown, **in_project(here, "/export"))


def _report(job: Job) -> Path | None:
    path = Path(job.run) / "report.html"
    return path if job.run and path.is_file() else None


@router.get("/projects/{name}/jobs/{number}/report")
def report(site: Parts, here: Lead, number: str) -> Response:
    """A run's report. It has a script of its own, so it is sandboxed away from the session."""
    path = _report(site.jobs.find(here.name, number))
    if path is None:
        raise UserError("this job has no report yet.")
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


@router.post("/projects/{name}/jobs/{number}/stop")
def stop(site: Parts, here: Lead, number: str, form: Form) -> Response:
    del form
    site.jobs.stop(here.name, number)
    return go(path_of(here, f"/jobs/{number}"))


# ---- the log


@router.get("/projects/{name}/log")
def log(
    request: Request,
    here: Lead,
    kind: str = "",
    before: Annotated[int, Query(ge=0, lt=2**62)] = 0,
) -> HTMLResponse:
    """The log, the newest event first."""
    kind = kind if kind in KINDS else ""
    events = here.project.events(
        until=before - 1 if before else None,
        kinds=(kind,) if kind else (),
        newest=True,
        limit=LOG_PAGE,
    )
    rows = [
        {**event.__dict__, "body": json.dumps(event.body, ensure_ascii=False)[:400]}
        for event in events
    ]
    older = events[-1].number if len(events) == LOG_PAGE else 0
    return page(
        request,
        "log.html",
        here.visitor,
        events=rows,
        kinds=KINDS,
        kind=kind,
        older=older,
        **in_project(here, "/log"),
    )


@router.get("/projects/{name}/log.jsonl")
def whole_log(site: Parts, here: Lead) -> StreamingResponse:
    """The whole log, line by line."""

    def lines() -> Iterator[str]:
        for line in site.store.export_log(project=here.project):
            yield line + "\n"

    # Headers hold Latin letters alone; names are of any script.
    name = quote(f"{here.name}-log.jsonl", safe="")
    named = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=named)
