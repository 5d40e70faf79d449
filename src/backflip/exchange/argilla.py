"""Argilla's JSON: records with fields and responses by question, as 2.x writes and 1.x wrote them.

    2.x  {"id", "fields": {…}, "responses": {"quality": [{"value": …, "user_id": …}]}, …}
    1.x  {"fields": {…}, "responses": [{"values": {"quality": {"value": …}}, "user_id", "status"}]}

Our own questions are called preference, strength, ranking, thumb, response, spans and reason, and
as the project's attributes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
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
SPACE = uuid.UUID("2f0a7c52-8e0b-4a5e-9c5e-5b6b8f6d7a01")
"""Where pseudonyms are given the UUIDs that Argilla wants."""
UNSENT = ("draft", "discarded", "pending")


def is_record(fields: Mapping[str, Any]) -> bool:
    """Whether a row is a record of Argilla's."""
    known = ("responses", "suggestions", "metadata", "external_id", "_server_id")
    return isinstance(fields.get("fields"), Mapping) and any(name in fields for name in known)


def read(row: Mapping[str, Any], settings: ProjectSettings) -> Document:
    """A record as an item with answers. Raises BadRecordError where it can be none."""
    metadata = row.get("metadata")
    sources = metadata.get("sources") if isinstance(metadata, Mapping) else None
    said, faults = _said(row.get("responses"))
    named = sources_of(sources)
    return taken_over(row["fields"], said, settings, sources=named, faults=faults)


def _said(responses: Any) -> tuple[list[Said], list[str]]:
    found, faults = dict[str, Said](), list[str]()
    if isinstance(responses, Mapping):
        for question, values in responses.items():
            for number, one in enumerate(values or ()):
                user = str(one.get("user_id") or f"unknown {number + 1}")
                found.setdefault(user, Said(user)).values[question] = one.get("value")
        return list(found.values()), faults
    listed: list[Any] = list(responses or ())
    for number, one in enumerate(listed):
        if one.get("status") in UNSENT:
            faults.append(f"response is {one['status']}")
            continue
        user = str(one.get("user_id") or f"unknown {number + 1}")
        values = one.get("values") or {}
        found[user] = Said(user, {name: _value(value) for name, value in values.items()})
    return list(found.values()), faults


def _value(value: Any) -> Any:
    return value.get("value") if isinstance(value, Mapping) else value


# ---- writing


def records(source: Source) -> Iterator[dict[str, Any]]:
    """A record for each item with its answers."""
    for one in source.asked():
        source.account.rows += 1
        responses: dict[str, list[dict[str, Any]]] = {}
        for answer in one.said:
            for question, value in questions(one, answer).items():
                said = {"value": value, "user_id": str(uuid.uuid5(SPACE, answer.person))}
                responses.setdefault(question, []).append(said)
        yield {
            "id": str(one.item.id),
            "fields": fields_of(one.item.payload),
            "metadata": {
                "project": source.project.name,
                "pinned": source.until,
                "sources": sources_field(_sources(one.item.payload)),
                "raters": ", ".join(answer.person for answer in one.said),
            },
            "suggestions": {},
            "responses": responses,
            "vectors": {},
            "_server_id": None,
        }


def fields_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """An item's texts under names of our own; the prompt is turns, for a field has one type."""
    fields: dict[str, Any] = {"prompt": payload["prompt"]}
    for place, answer in enumerate(payload.get("answers", ()), start=1):
        fields[f"response_{place}"] = answer["text"]
    if payload.get("answer"):
        fields["response_1"] = payload["answer"]["text"]
    if payload.get("draft"):
        fields["draft"] = payload["draft"]["text"]
    return fields


def _sources(payload: Mapping[str, Any]) -> list[str]:
    answers = payload.get("answers") or [payload.get("answer") or payload.get("draft")]
    return [answer.get("source", "") for answer in answers if answer]


def questions(one: Asked, answer: AnswerRow) -> dict[str, Any]:
    """What a person said, by question."""
    value, found = answer.value, dict[str, Any]()
    match one.item.payload["kind"]:
        case "compare":
            names = {"a": "response_1", "b": "response_2"}
            found["preference"] = names.get(value["choice"], value["choice"])
            if value["choice"] in names:
                found["strength"] = value["strength"]
        case "rank":
            found["ranking"] = [
                {"value": f"response_{place}", "rank": rank + 1}
                for place, rank in enumerate(value["ranks"], start=1)
                if rank is not None
            ]
        case "rate":
            found |= value["ratings"]
        case "thumbs":
            found["thumb"] = "up" if value["up"] else "down"
        case "write":
            found["response"] = value["text"]
            found["edited"] = "yes" if value["from_draft"] else "no"
        case _:
            found["spans"] = value["spans"]
    return found | ({"reason": value["reason"]} if value.get("reason") else {})
