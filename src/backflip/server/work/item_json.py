"""Items on their way to a rater and answers on their way back, for pages and programs alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating.allocation import Assignment, Progress
from backflip.feedback.rating.receipts import Receipt
from backflip.feedback.rating.screening import Feedback
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base.auth import Place
from backflip.server.base.state import AppState
from backflip.server.text.item_html import fragments, in_words
from backflip.server.text.rendering import render

STEPS = 20
"""In which a rater is told how much of the project is done."""


def outgoing(
    site: AppState, here: Place, shown: Sequence[Assignment], *, html: bool
) -> dict[str, Any]:
    """Items for a page (as HTML) or a program (as they are), and progress."""
    items = [_item(site, here, one, html=html) for one in shown]
    body: dict[str, Any] = {"items": items, "state": "work" if items else "nothing"}
    if shown:
        body["progress"] = progress(shown[-1].progress)
    return body


def _item(site: AppState, here: Place, shown: Assignment, *, html: bool) -> dict[str, Any]:
    page = shown.page()

    def place(clip: Mapping[str, Any]) -> dict[str, Any]:
        return site.media.place(here.name, clip)

    if html:
        drawn = fragments(shown.kind, shown.payload, place)
        return {name: page[name] for name in ("item", "stage", "warning")} | drawn
    kind = kind_of(shown.kind)
    if kind.files:
        files = [place(file) for file in shown.payload[kind.sides]]
        page["payload"] = shown.payload | {kind.sides: files}
    return page


def progress(now: Progress) -> dict[str, Any]:
    """How far the rater and, roughly, the project are.

    Told exactly, the project's share would stand still after each gold item, and give it away.
    """
    share = STEPS * now.done // now.items / STEPS if now.items else None
    return {"answered": now.answered, "share": share}


def acknowledged(
    site: AppState, here: Place, receipt: Receipt, settings: ProjectSettings, *, html: bool
) -> dict[str, Any]:
    """The acknowledgement of an answer: that it is kept, and the item that comes next."""
    body = outgoing(site, here, [receipt.next] if receipt.next else [], html=html)
    body |= {"answer": receipt.answer_id, "again": receipt.again, "notice": receipt.notice}
    if receipt.feedback:
        body["feedback"] = _feedback(receipt.feedback, settings, html=html)
    return body


def _feedback(told: Feedback, settings: ProjectSettings, *, html: bool) -> dict[str, Any]:
    expected = in_words(settings.kind, told.expected)  # its strength is a matter of taste
    body: dict[str, Any] = {"right": told.correct, "expected": told.expected, "why": told.why}
    if not html:
        return body
    asked = f"{told.asked} of {told.questions}" if told.questions else ""
    return {
        "right": told.correct,
        "expected": expected,
        "html": render(told.why) if told.why else "",
        "count": asked,
        "score": told.right if told.questions else None,
    }
