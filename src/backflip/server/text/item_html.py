"""An item as the rater's page draws it: every text already turned into safe HTML.

Items come in without sources and in displayed order, and go out as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from markupsafe import Markup

from backflip.feedback.kinds.base import LETTERS, Block
from backflip.feedback.kinds.registry import kind_of
from backflip.server.text.characters import one_for_one, visible
from backflip.server.text.rendering import conversation, render

Place: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Where the browser finds a clip: see ``media.py``."""


def fragments(kind: str, payload: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The parts of an item that its kind's script asks for, by name."""
    parts: dict[str, Any] = {"prompt": _conversation(payload.get("prompt") or ())}
    for block in kind_of(kind).blocks(payload):
        parts[block.name] = _drawn(block, place)
    return parts


def _drawn(block: Block, place: Place) -> Any:
    """A block as JSON for the page's script."""
    match block.form:
        case "markdown":
            several = isinstance(block.content, list)
            return [render(t) for t in block.content] if several else render(block.content)
        case "characters":
            return one_for_one(block.content)
        case "pictures":
            return [place(clip) for clip in block.content]
        case "scene":
            return _scene(block.content)
        case _:
            return block.content


def _conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    return conversation(messages) if messages else ""


def _scene(payload: Mapping[str, Any]) -> dict[str, Any]:
    opening = payload.get("opening") or ()
    return {
        "opening": _conversation(opening),
        "last": opening[-1]["role"] if opening else "",
        "role": payload.get("role", "user"),
        "rules": [visible(rule) for rule in payload.get("rules") or ()],
    }


def as_page(kind: str, payload: Mapping[str, Any], place: Place) -> Markup:
    """The same item as plain HTML, to be read and not judged: examples, adjudication, lists."""
    prompt = Markup(_conversation(payload.get("prompt") or ()))
    shown = kind_of(kind)
    boxes = [box for block in shown.blocks(payload) for box in _boxes(block, place)]
    body = Markup("").join(boxes)
    return prompt + Markup('<div class="answers {}">{}</div>').format(shown.layout, body)


def _boxes(block: Block, place: Place) -> list[Markup]:
    """A block as boxes, headed by letters or numbers where there are several."""
    drawn = _drawn(block, place)
    match block.form:
        case "scene":
            rules = Markup("").join(Markup("<li>{}</li>").format(rule) for rule in drawn["rules"])
            return [Markup(drawn["opening"]), Markup("<ol>{}</ol>").format(rules)]
        case "pictures":
            return [_box(LETTERS[i], _picture(clip)) for i, clip in enumerate(drawn)]
        case "characters":
            return [_box("", Markup('<div class="said plain">{}</div>').format(drawn))]
        case "draft":
            return [_box("", render(drawn))] if drawn else []
        case _:
            texts = drawn if isinstance(drawn, list) else [drawn]
            several = LETTERS if len(texts) > 1 else [""]
            heads = [str(n + 1) for n in range(len(texts))] if block.numbered else several
            return [_box(heads[i], text) for i, text in enumerate(texts) if text]


def _box(name: str, body: Any) -> Markup:
    head = Markup("<header><h3>{}</h3></header>").format(name) if name else ""
    return Markup('<div class="answer">{}<div class="body">{}</div></div>').format(
        head, Markup(body)
    )


def _picture(clip: Mapping[str, Any]) -> Markup:
    if clip["media"] == "video":
        return Markup('<video controls preload="metadata" src="{}"></video>').format(clip["url"])
    return Markup('<img alt="" src="{}">').format((clip.get("frames") or [clip["url"]])[0])


def in_words(kind: str, value: Mapping[str, Any], scale: int = 2) -> str:
    """An answer in one line."""
    return visible(kind_of(kind).in_words(value, scale))


def part_in_words(kind: str, part: str) -> str:
    """The part of an item that a statistic is about: the name of a ``PartValue`` in words."""
    return visible(kind_of(kind).part_in_words(part))


def value_in_words(kind: str, value: float, part: str = "") -> str:
    """The value of an item, or of a part of it: that of a ``PartValue`` in words."""
    return kind_of(kind).value_in_words(value, part)
