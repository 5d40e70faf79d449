"""The interface for judging: next items, answers, skips, flags, notes, undo. Pages use it too.

Raters ask far more often than everybody else. Their requests take turns on a few threads of their
own, where all is done that a request needs: more threads would only fight for Python's lock, and
nobody's export can keep a rater waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, TypeAlias

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from backflip.errors import UserError
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating.rater_actions import NOTE_LIMIT
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base import talking
from backflip.server.base.auth import Place, TooFastError, place
from backflip.server.base.state import AppState, app_state_of
from backflip.server.text.rendering import render
from backflip.server.work import item_json
from backflip.server.work.refreshing import in_passing

P = ParamSpec("P")
log = logging.getLogger(__name__)
MOST_HELD = 20
ABSENT = "a model of this talk is not there; skip the item, and tell the lead of the project."
PREFIX = "/api/v1/projects/{name}"


class Problem(BaseModel):
    """Why something was refused."""

    detail: str
    code: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "What was sent does not fit.",
        401: "Nobody is signed in.",
        403: "Not allowed, or not yours.",
        404: "There is no such thing.",
        409: "It contradicts what is there.",
        413: "Too large.",
        422: "What was sent is malformed.",
        429: "Too many requests.",
        503: "Busy; try again.",
        507: "The disk is full.",
    }.items()
}
router = APIRouter(prefix=PREFIX, tags=["judging"], responses=REFUSALS)

Html = Annotated[bool, Query(description="Texts as cleaned HTML, for a page.")]
Queue = Annotated[str, Query(pattern="^(work|adjudicate|golden)$")]
ItemId = Annotated[int, Field(ge=0, lt=2**62)]
Key = Annotated[str, Field(min_length=8, max_length=64, description="A UUID of the sender's own.")]
Held = Annotated[list[ItemId], Field(max_length=MOST_HELD)]


class Sent(BaseModel):
    """Base of all bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    item: ItemId
    """Its number from ``next``: each rater has numbers of their own."""
    client_key: Key | None = None
    hold: Held = []
    """Items that the page has already."""


class AnswerSent(Sent):
    """An answer as displayed."""

    value: dict[str, Any]
    seconds: Annotated[float, Field(ge=0, le=1e6)] | None = None


class ReasonSent(Sent):
    """A skip or a flag, and why."""

    reason: Annotated[str, Field(max_length=NOTE_LIMIT)] = ""


class NoteSent(Sent):
    """A remark on an item."""

    text: Annotated[str, Field(max_length=NOTE_LIMIT)]


class TalkTurn(BaseModel):
    """One turn of a talk so far."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=talking.MOST_LETTERS)]


class TalkSent(BaseModel):
    """The conversation since the opening, for the policies to go on with."""

    model_config = ConfigDict(extra="forbid")

    item: ItemId
    turns: Annotated[list[TalkTurn], Field(max_length=talking.MOST_TURNS)]


class UndoSent(BaseModel):
    """Takes back the newest answer."""

    model_config = ConfigDict(extra="forbid")

    client_key: Key | None = None


@dataclass(frozen=True)
class Call:
    """Somebody who wants to judge in a project: not looked up yet."""

    request: Request
    name: str

    def admitted(self) -> tuple[AppState, Place, int]:
        """The server, the project and the person, if they may judge and are not too fast."""
        site, here = app_state_of(self.request), place(self.request, self.name)
        here.visitor.need("rate")
        person = here.visitor.person.id
        if wait := site.answers.wait(str(person)):
            raise TooFastError(wait)
        return site, here, person


def in_turn(work: Callable[Concatenate[Call, P], JSONResponse]) -> Any:
    """An endpoint whose requests take turns."""

    @wraps(work)
    async def endpoint(call: Call, *args: P.args, **given: P.kwargs) -> JSONResponse:
        turns = app_state_of(call.request).turns
        return await to_thread.run_sync(partial(work, call, *args, **given), limiter=turns)

    return endpoint


async def _call(request: Request, name: str) -> Call:
    """A dependency that wakes no thread."""
    return Call(request, name)


Called = Annotated[Call, Depends(_call)]
Body: TypeAlias = dict[str, Any]
"""Type of replies in the description; they are written as JSON by hand."""


def _item(here: Place, alias: int) -> int:
    """The item that a rater means; −1, which is none, for who does not belong to the project."""
    return here.member.item(alias) if here.member else -1


def _held(here: Place, aliases: Sequence[int]) -> list[int]:
    return [_item(here, alias) for alias in aliases]


@router.get("/next", response_model=Body)
@in_turn
def next_items(
    call: Called,
    count: Annotated[int, Query(ge=1, le=10)] = 1,
    hold: Annotated[list[ItemId] | None, Query(max_length=MOST_HELD)] = None,
    queue: Queue = "work",
    html: Html = False,
) -> JSONResponse:
    """Items for this rater: first what they hold already, then new ones."""
    site, here, person = call.admitted()
    shown = here.project.next(person, count=count, queue=queue, hold=_held(here, hold or ()))
    body = item_json.outgoing(site, here, shown, html=html)
    if not shown:
        body["why"] = here.project.why_nothing(person, queue=queue)
    return JSONResponse(body)


@router.post("/answers", response_model=Body)
@in_turn
def answer(
    call: Called, sent: AnswerSent, queue: Queue = "work", html: Html = False
) -> JSONResponse:
    """Store an answer. Sent again with the same key it is stored once."""
    site, here, person = call.admitted()
    settings = here.settings
    value = _talked(site, here, sent) if kind_of(settings.kind).live else sent.value
    receipt = here.project.answer(
        person,
        _item(here, sent.item),
        value,
        seconds=sent.seconds,
        client_key=sent.client_key,
        hold=_held(here, sent.hold),
        queue=queue,
    )
    in_passing(site, here)
    return JSONResponse(item_json.acknowledged(site, here, receipt, settings, html=html))


@router.post("/skips", response_model=Body)
@in_turn
def skip(call: Called, sent: ReasonSent, queue: Queue = "work", html: Html = False) -> JSONResponse:
    """Give an item back, without a penalty; the next one comes along."""
    site, here, person = call.admitted()
    item, key = _item(here, sent.item), sent.client_key
    number = here.project.skip(person, item, reason=sent.reason, client_key=key)
    shown = here.project.next(person, queue=queue, hold=_held(here, sent.hold))
    return JSONResponse(item_json.outgoing(site, here, shown, html=html) | {"event": number})


@router.post("/flags", response_model=Body)
@in_turn
def flag(call: Called, sent: ReasonSent) -> JSONResponse:
    """Tell the lead that something is wrong with an item."""
    _, here, person = call.admitted()
    item, key = _item(here, sent.item), sent.client_key
    number = here.project.flag(person, item, reason=sent.reason, client_key=key)
    return JSONResponse({"event": number})


@router.post("/notes", response_model=Body)
@in_turn
def note(call: Called, sent: NoteSent) -> JSONResponse:
    """Keep a remark beside an item."""
    _, here, person = call.admitted()
    item, key = _item(here, sent.item), sent.client_key
    number = here.project.note(person, item, sent.text, client_key=key)
    return JSONResponse({"event": number})


@router.post("/undo", response_model=Body)
@in_turn
def undo(call: Called, sent: UndoSent, html: Html = False) -> JSONResponse:
    """Take back the newest answer; its item comes back in the same order."""
    site, here, person = call.admitted()
    shown = here.project.undo(person, client_key=sent.client_key)
    return JSONResponse(item_json.outgoing(site, here, [shown], html=html))


@router.post("/talk", response_model=Body)
def talk(call: Called, sent: TalkSent) -> JSONResponse:
    """Replies of the policies of a talk, to choose from."""
    site, here, person = call.admitted()
    if not kind_of(here.settings.kind).live:
        raise RefusedError("conflict", "nobody talks with a model in this project.")
    item = _item(here, sent.item)
    if not here.project.holds(person, item):
        here.project.log_refusal(person, item)
        raise RefusedError("not_yours", f"item {sent.item} does not lie before you.")
    payload = here.project.item(item).payload
    said = [*payload["opening"], *(turn.model_dump() for turn in sent.turns)]
    turns, policies = talking.messages_of(said), payload["policies"]
    with _nameless(here):
        offer = site.talkers.offer(policies, turns, _key(here, item))
    html = [render(text) for text in offer.candidates]
    body = {"candidates": offer.candidates, "html": html, "stamp": offer.stamp}
    return JSONResponse(body)


@contextmanager
def _nameless(here: Place) -> Iterator[None]:
    """Faults of a policy name it: that is for the log and for leads, not for raters."""
    try:
        yield
    except RefusedError:
        raise
    except UserError as error:
        log.warning("a talk in %s cannot go on: %s", here.name, error)
        if here.may("lead"):
            raise
        raise UserError(ABSENT) from error


def _key(here: Place, item: int) -> tuple[object, ...]:
    """Seed of the order of a talk's replies."""
    return (here.member.salt if here.member else "", here.visitor.person.id, item)


def _talked(site: AppState, here: Place, sent: AnswerSent) -> dict[str, Any]:
    """A talk with its replies proven and in the order of the policies."""
    item, person = _item(here, sent.item), here.visitor.person.id
    if not here.project.holds(person, item, ever=True):
        here.project.log_refusal(person, item)
        raise RefusedError("not_yours", f"item {sent.item} was not given to you.")
    payload = here.project.item(item).payload
    return site.talkers.checked(sent.value, payload.get("opening", ()), _key(here, item))
