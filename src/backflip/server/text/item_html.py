"""An item as the rater's page draws it: every text already turned into safe HTML.

What comes in has no sources any more and stands in displayed order; what goes out is JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from markupsafe import Markup

from backflip.server.text.characters import one_for_one, visible
from backflip.server.text.rendering import conversation, render

Place: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Where the browser finds a clip: see ``media.py``."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STRENGTHS = {
    1: ("better",),
    2: ("better", "much better"),
    3: ("slightly better", "better", "much better"),
    4: ("barely better", "slightly better", "better", "much better"),
}
"""Words for the levels of a scale, the weakest first; the page's script has the same."""


def fragments(kind: str, payload: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The parts of an item that its kind's script asks for, by name."""
    parts: dict[str, Any] = {"prompt": _conversation(payload.get("prompt") or ())}
    match kind:
        case "compare" | "rank":
            parts["answers"] = [render(answer["text"]) for answer in payload["answers"]]
        case "rate" | "thumbs":
            parts["answers"] = [render(payload["answer"]["text"])]
        case "spans":
            parts["text"] = one_for_one(payload["answer"]["text"])
        case "write":
            parts["draft"] = (payload.get("draft") or {}).get("text")
        case "steps":
            parts["steps"] = [render(step) for step in payload["steps"]]
        case "clips":
            parts["clips"] = [place(clip) for clip in payload["clips"]]
        case "principles":
            parts["principle"] = render(payload["principle"])
        case _:
            parts["talk"] = _scene(payload)
    return parts


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
    parts = fragments(kind, payload, place)
    blocks = [Markup(parts["prompt"])]
    texts = parts.get("answers") or [parts.get("principle")] if kind != "spans" else []
    if kind == "spans":
        texts = [Markup('<div class="said plain">{}</div>').format(parts["text"])]
    if kind == "write" and parts["draft"]:
        texts = [render(parts["draft"])]
    boxes = [_box(LETTERS[i] if len(texts) > 1 else "", t) for i, t in enumerate(texts) if t]
    boxes += [_box(str(i + 1), step) for i, step in enumerate(parts.get("steps", ()))]
    boxes += [_box(LETTERS[i], _picture(clip)) for i, clip in enumerate(parts.get("clips", ()))]
    if kind == "talk":
        rules = Markup("").join(Markup("<li>{}</li>").format(r) for r in parts["talk"]["rules"])
        boxes = [Markup(parts["talk"]["opening"]), Markup("<ol>{}</ol>").format(rules)]
    wide = "two" if kind in ("compare", "clips") else "many" if kind == "rank" else "one"
    blocks.append(Markup('<div class="answers {}">{}</div>').format(wide, Markup("").join(boxes)))
    return Markup("").join(blocks)


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
    """What somebody answered, in one line."""
    if kind in ("compare", "clips"):
        return _choice(value, scale)
    return _WORDS[kind](value)


def part_in_words(kind: str, part: str) -> str:
    """Which part of an item a statistic is about: the name of ``parts.Part`` in words."""
    match kind:
        case "rank":
            first, second = (LETTERS[int(place) % 26] for place in part.split("-"))
            return f"{first} against {second}"
        case "steps":
            return f"step {int(part) + 1}"
        case _:
            return visible(part)


def value_in_words(kind: str, value: float, part: str = "") -> str:
    """What was said of an item, or of a part of it: the value of ``parts.Part`` in words."""
    if kind == "rate":
        return f"{value:g}"
    words = VALUES[kind]
    if kind == "rank":
        words = (*part_in_words(kind, part).split(" against ")[::-1], "a tie")
    return words[0] if value < 0 else words[1] if value > 0 else words[2]


VALUES: dict[str, tuple[str, str, str]] = {
    "compare": ("B", "A", "a tie"),
    "clips": ("B", "A", "a tie"),
    "rank": ("the second", "the first", "a tie"),
    "thumbs": ("bad", "good", "neither"),
    "principles": ("disagree", "agree", "neither"),
    "steps": ("bad", "good", "neutral"),
    "spans": ("not marked", "marked", "not marked"),
    "talk": ("broken", "kept", "unsure"),
}
"""Words for values below, above and at 0."""


def _spans(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{s['label']} {s['start']}–{s['end']}" for s in value["spans"]) or "–"


def _steps(value: Mapping[str, Any]) -> str:
    return " ".join({1: "+", 0: "0", -1: "−"}.get(label, "·") for label in value["labels"])


def _talk(value: Mapping[str, Any]) -> str:
    said = [f"{rule}: {verdict}" for rule, verdict in value.get("verdicts", {}).items()]
    return "; ".join([f"{len(value.get('turns', ()))} turns", *said])


def _choice(value: Mapping[str, Any], scale: int) -> str:
    choice = str(value.get("choice", ""))
    if choice in ("a", "b"):
        words = STRENGTHS[scale // 2]
        level = min(max(int(value.get("strength") or 1), 1), len(words))
        return f"{choice.upper()} {words[level - 1]}"
    plain = {"tie": "a tie", "both_bad": "both bad", "cannot_tell": "cannot tell"}
    reason = visible(str(value.get("reason") or ""))
    return plain.get(choice, choice) + (f": {reason}" if reason else "")


def _order(ranks: Sequence[int | None]) -> str:
    places: dict[int, list[str]] = {}
    for index, rank in enumerate(ranks):
        if rank is not None:
            places.setdefault(rank, []).append(LETTERS[index % 26])
    return " > ".join(" = ".join(places[rank]) for rank in sorted(places))


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "rank": lambda value: _order(value.get("ranks") or ()),
    "rate": lambda value: ", ".join(f"{n} {mark}" for n, mark in value["ratings"].items()),
    "thumbs": lambda value: "good" if value["up"] else "bad",
    "steps": _steps,
    "spans": _spans,
    "principles": lambda value: str(value["vote"]),
    "write": lambda value: visible(str(value["text"]))[:300],
    "talk": _talk,
}
"""Answers of each kind in words."""
