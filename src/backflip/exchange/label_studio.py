"""Label Studio's JSON: tasks with data, and annotations whose results are told by their type.

A task is ``{"id", "data": {"prompt", "answer1", "answer2"}, "annotations", "predictions"}``, an
annotation ``{"completed_by", "lead_time", "was_cancelled", "ground_truth", "result"}``, a result
``{"type": "pairwise", "value": {"selected": "left"}, "from_name", "to_name"}``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backflip.exchange import foreign
from backflip.exchange.asked import Asked
from backflip.exchange.foreign import (
    Document,
    Said,
    sources_field,
    sources_of,
    taken_over,
)
from backflip.exchange.lessons import Source
from backflip.feedback.reading import AnswerRow
from backflip.feedback.settings import ProjectSettings

KINDS = foreign.KINDS
ITEMS = "items"
"""Where a task keeps a list of what is to be ranked."""
PLACE = "rank_"
CHOSEN = {"left": "a", "right": "b"}


def is_task(fields: Mapping[str, Any]) -> bool:
    """Whether a row is a task of Label Studio's."""
    return isinstance(fields.get("data"), Mapping) and any(
        name in fields for name in ("annotations", "predictions", "completions", "project", "id")
    )


def read(row: Mapping[str, Any], settings: ProjectSettings) -> Document:
    """A task as an item with answers. Raises BadRecordError where it can be none."""
    data = dict(row["data"])
    sources = data.pop("sources", None)
    listed = data.pop(ITEMS, None)
    answers: dict[str, str] | None = None
    if isinstance(listed, list):
        entries = [entry for entry in listed if isinstance(entry, Mapping)]
        answers = {str(entry.get("id")): _text(entry) for entry in entries}
    said, faults, gold = list[Said](), list[str](), None
    for number, annotation in enumerate(row.get("annotations") or row.get("completions") or ()):
        if annotation.get("was_cancelled"):
            faults.append("annotation was cancelled")
            continue
        one = _said(annotation, number)
        if annotation.get("ground_truth"):
            gold = one
        else:
            said.append(one)
    named = sources_of(sources)
    return taken_over(
        data, said, settings, answers=answers, sources=named, gold=gold, faults=faults
    )


def _text(entry: Mapping[str, Any]) -> str:
    return str(entry.get("body") or entry.get("text") or entry.get("title") or "")


def _said(annotation: Mapping[str, Any], number: int) -> Said:
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    said = Said(str(who) if who is not None else f"unknown {number + 1}")
    lead = annotation.get("lead_time")
    said.seconds = float(lead) if isinstance(lead, int | float) else None
    for result in annotation.get("result") or ():
        value, name = result.get("value") or {}, str(result.get("from_name", ""))
        found = _value(str(result.get("type")), value)
        if isinstance(found, list) and result.get("type") == "labels":
            said.values.setdefault(name, []).extend(found)
        elif found is not None:
            said.values[name] = found
    return said


def _value(type_: str, value: Mapping[str, Any]) -> Any:
    """A result in our terms; none for types that are not known."""
    found: Any = None
    match type_:
        case "pairwise":
            found = CHOSEN.get(str(value.get("selected")), value.get("selected"))
        case "choices":
            found = next(iter(value.get("choices") or ()), None)
        case "rating":
            found = value.get("rating")
        case "ranker":
            found = _order(value.get("ranker"))
        case "textarea":
            text = value.get("text")
            found = "\n".join(text) if isinstance(text, list) else text
        case "labels":
            spans = value.get("labels") or ()
            found = [
                {"start": value.get("start"), "end": value.get("end"), "label": label}
                for label in spans
            ]
        case _:
            pass
    return found


def _order(ranker: Any) -> list[Any]:
    """Names in order, or with ranks: buckets called rank_1, rank_2 … hold those that tie."""
    buckets = dict(ranker) if isinstance(ranker, Mapping) else {"": ranker}
    if all(str(name).startswith(PLACE) for name in buckets):
        return [
            {"value": str(entry), "rank": int(str(name).removeprefix(PLACE))}
            for name, entries in buckets.items()
            for entry in entries
        ]
    return [str(entry) for entry in next((list(e) for e in buckets.values() if e), [])]


# ---- writing


def tasks(source: Source) -> Iterator[dict[str, Any]]:
    """A task for each item with its answers as annotations."""
    for one in source.asked():
        source.account.rows += 1
        yield {
            "id": one.item.id,
            "data": _data(one.item.payload),
            "annotations": [_annotation(one, answer) for answer in one.said],
            "predictions": [],
            "meta": {"project": source.project.name, "pinned": source.until},
        }


def _data(payload: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"prompt": payload["prompt"]}
    answers = payload.get("answers") or [payload.get("answer") or payload.get("draft")]
    given = [answer for answer in answers if answer]
    if payload["kind"] == "rank":
        data[ITEMS] = [
            {"id": str(place), "title": f"Answer {place}", "body": answer["text"]}
            for place, answer in enumerate(given, start=1)
        ]
    else:
        data |= {f"answer{place}": a["text"] for place, a in enumerate(given, start=1)}
    return data | {"sources": sources_field([answer.get("source", "") for answer in given])}


def _annotation(one: Asked, answer: AnswerRow) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(answer.at))
    return {
        "id": answer.event,
        "completed_by": {"email": f"{answer.person}@raters.invalid"},
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": at,
        "updated_at": at,
        "lead_time": answer.seconds,
        "result": list(_results(one, answer)),
    }


def _results(one: Asked, answer: AnswerRow) -> Iterator[dict[str, Any]]:
    value = answer.value
    match one.item.payload["kind"]:
        case "compare":
            yield from _compared(value)
        case "rank":
            places: dict[str, list[str]] = {}
            for place, rank in enumerate(value["ranks"], start=1):
                if rank is not None:
                    places.setdefault(f"{PLACE}{rank + 1}", []).append(str(place))
            yield _result("ranking", ITEMS, "ranker", {"ranker": places})
        case "rate":
            for name, rating in value["ratings"].items():
                yield _result(name, "answer1", "rating", {"rating": rating})
        case "thumbs":
            said = "up" if value["up"] else "down"
            yield _result("thumb", "answer1", "choices", {"choices": [said]})
        case "write":
            yield _result("response", "prompt", "textarea", {"text": [value["text"]]})
            said = "yes" if value["from_draft"] else "no"
            yield _result("edited", "prompt", "choices", {"choices": [said]})
        case _:
            yield from _marked(one, value["spans"])
    if value.get("reason"):
        yield _result("reason", "prompt", "textarea", {"text": [value["reason"]]})


def _compared(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Pairwise has two sides; all other verdicts are choices."""
    sides = {"a": "left", "b": "right"}
    if value["choice"] in sides:
        selected = {"selected": sides[value["choice"]]}
        yield _result("preference", "answer1,answer2", "pairwise", selected)
        yield _result("strength", "prompt", "rating", {"rating": value["strength"]})
    else:
        yield _result("verdict", "prompt", "choices", {"choices": [value["choice"]]})


def _marked(one: Asked, spans: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    text = one.item.payload["answer"]["text"]
    for span in spans:
        start, end = span["start"], span["end"]
        marked = {"start": start, "end": end, "text": text[start:end], "labels": [span["label"]]}
        yield _result("spans", "answer1", "labels", marked)


def _result(name: str, to: str, type_: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": type_, "origin": "manual", "value": value}
