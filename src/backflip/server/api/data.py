"""The interface for items, answers, statistics, exports and jobs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Query
from fastapi.responses import FileResponse
from pydantic import Field, InstanceOf, WithJsonSchema
from starlette.datastructures import UploadFile

from backflip.feedback.exchange import imports
from backflip.feedback.exchange.imports import Wishes
from backflip.feedback.rating.items import LONGEST_WARNING, Added, NewItem
from backflip.feedback.store.queues import Purpose
from backflip.server.api.projects import After, Body, Page
from backflip.server.api.rate import REFUSALS, ItemId
from backflip.server.base.auth import Lead, Parts, Senior
from backflip.server.base.jobs import Job
from backflip.server.base.uploads import called, kept
from backflip.server.work import figures
from backflip.server.work.downloads import downloaded
from backflip.server.work.refreshing import refresh
from backflip.server.work.training import train_reward_model

router = APIRouter(prefix="/api/v1/projects/{name}", tags=["data"], responses=REFUSALS)
MOST_ITEMS = 10_000
Priority = Annotated[float, Field(allow_inf_nan=False)]
Word = Annotated[str, Field(max_length=100)]
Upload = Annotated[
    InstanceOf[UploadFile], WithJsonSchema({"type": "string", "format": "binary"}), File()
]


class OneItem(Body):
    """An item, with what is its own."""

    payload: dict[str, Any]
    gold: dict[str, Any] | None = None
    why: Annotated[str, Field(max_length=20_000)] = ""
    priority: Priority | None = None
    route: Word | None = None
    warning: Annotated[str, Field(max_length=LONGEST_WARNING)] = ""


class NewItems(Body):
    """Items that come together."""

    items: Annotated[list[OneItem], Field(max_length=MOST_ITEMS)]
    origin: Annotated[str, Field(max_length=40)] = "given"
    priority: Priority = 0.0
    batch: Word = ""
    purpose: Purpose | None = None
    strict: bool = True


class Priorities(Body):
    """Priorities by item number."""

    priorities: Annotated[dict[ItemId, Priority], Field(max_length=MOST_ITEMS)]
    origin: Annotated[str, Field(pattern="^(active|random)$")] | None = None


class Some(Body):
    """Items, by number."""

    items: Annotated[list[ItemId], Field(max_length=MOST_ITEMS)]
    state: Annotated[str, Field(pattern="^(open|dropped|adjudicate)$")]
    reason: Annotated[str, Field(max_length=1000)] = ""


class NewTraining(Body):
    """A reward model to train on the answers so far."""

    model: Annotated[str, Field(max_length=300)] = "smollm2"
    steps: Annotated[int, Field(ge=1, le=10**7)] | None = None


def _told(added: Added) -> dict[str, Any]:
    return {
        "count": added.count,
        "duplicates": added.duplicates,
        "twins": added.twins,
        "refused": added.refused.lines(),
    }


@router.post("/items", status_code=201)
def add(site: Parts, here: Lead, sent: NewItems) -> dict[str, Any]:
    """Store items, each once."""
    here.visitor.need("write")
    added = here.project.add_items(
        [NewItem(**i.__dict__) for i in sent.items],
        origin=sent.origin,
        priority=sent.priority,
        batch=sent.batch,
        purpose=sent.purpose,
        strict=sent.strict,
        check=site.askable(here.name),
    )
    return _told(added)


@router.post("/import", status_code=201)
def receive(
    site: Parts, here: Lead, file: Upload, gold: bool = False, strict: bool = True
) -> dict[str, Any]:
    """Import an uploaded file: JSONL, JSON, Parquet or CSV, in any format that Backflip reads."""
    here.visitor.need("write")
    with tempfile.TemporaryDirectory(prefix="backflip-import-") as folder:
        path = kept(file, Path(folder), site.settings.upload_bytes)
        wishes = Wishes(
            gold=gold,
            strict=strict,
            called=called(file.filename or ""),
            check=site.askable(here.name),
        )
        done = imports.take_in(here.project, str(path), wishes)
    return {
        "count": done.added,
        "duplicates": done.duplicates,
        "twins": done.twins,
        "answers": done.answers,
        "refused": [f"{done.source}: {line}" for line in done.refused()],
        "notes": [f"{done.source}: {line}" for line in done.remarks()],
    }


@router.get("/items")
def items(
    here: Lead, state: str | None = None, after: After = 0, limit: Page = 100
) -> list[dict[str, Any]]:
    """A page of items by number, with their sources and counts."""
    here.visitor.need("read")
    return [row.__dict__ for row in here.project.items(state=state, after=after, limit=limit)]


@router.patch("/items")
def set_states(here: Lead, sent: Some) -> dict[str, int]:
    """Drop items, ask them again, or let an adjudicator decide."""
    here.visitor.need("write")
    act = {
        "open": here.project.reopen,
        "dropped": here.project.drop,
        "adjudicate": here.project.to_adjudication,
    }[sent.state]
    return {"changed": act(sent.items, reason=sent.reason, by=here.visitor.person.id)}


@router.put("/priorities")
def prioritise(here: Lead, sent: Priorities) -> dict[str, int]:
    """Set priorities, as a model wishes."""
    here.visitor.need("write")
    by = here.visitor.person.id
    return {"changed": here.project.prioritise(sent.priorities, origin=sent.origin, by=by)}


@router.get("/answers")
def answers(here: Senior, after: After = 0, limit: Page = 1000) -> list[dict[str, Any]]:
    """Answers after an event number, in the item's own order."""
    here.visitor.need("read")
    found = list[dict[str, Any]]()
    for answer in here.project.answers(after=after):
        found.append(answer.__dict__)
        if len(found) == limit:
            break
    return found


@router.get("/statistics")
def statistics(site: Parts, here: Senior) -> dict[str, Any]:
    """The figures as last worked out (``at``, ``event``), and whether newer ones are on the way."""
    here.visitor.need("read")
    made = figures.read(site.figures(here.name))
    return {"figures": made, "computing": refresh(site, here, made)}


@router.get("/export", response_class=FileResponse)
def export(
    here: Lead,
    format: Annotated[str, Query(max_length=40)] = "answers",
    file: Annotated[str, Query(pattern="^(jsonl|json|parquet|csv|summary)$")] = "jsonl",
) -> FileResponse:
    """Answers as a file."""
    here.visitor.need("read")
    return downloaded(here, format, file)


@router.post("/jobs", status_code=202)
def train(site: Parts, here: Lead, sent: NewTraining) -> dict[str, str]:
    """Train a reward model beside the server."""
    here.visitor.need("write")
    job = train_reward_model(site, here, sent.model, sent.steps)
    return {"job": job.id, "state": job.state}


@router.get("/jobs/{number}")
def job(site: Parts, here: Lead, number: str) -> dict[str, Any]:
    """A job and the end of its log."""
    here.visitor.need("read")
    found = site.jobs.find(here.name, number)
    return {**_without_places(found), "log": site.without_places(site.jobs.log(found))}


def _without_places(job: Job) -> dict[str, Any]:
    """A job without its command, and with the name of its run alone."""
    kept = {name: v for name, v in job.__dict__.items() if name not in ("command", "server")}
    return kept | {"run": Path(job.run).name if job.run else ""}
