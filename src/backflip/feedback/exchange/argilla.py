"""Argilla's JSON: records with fields and responses by question, as 2.x writes and 1.x wrote them.

    2.x  {"id", "fields": {…}, "responses": {"quality": [{"value": …, "user_id": …}]}, …}
    1.x  {"fields": {…}, "responses": [{"values": {"quality": {"value": …}}, "user_id", "status"}]}

and as rows of its datasets, which have a column for each part (``exchange/argilla_columns.py``).

Our own questions are called preference, strength, ranking, thumb, response, spans and reason, and
as the project's attributes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from backflip.feedback.exchange import argilla_columns as columns
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.records import Source
from backflip.feedback.exchange.tool_records import (
    Document,
    objects,
    question_of,
    sources_field,
    sources_of,
    taken_over,
)
from backflip.feedback.exchange.tool_values import Response
from backflip.feedback.projects.reading import AnswerRow
from backflip.feedback.tasks.settings import ProjectSettings

SPACE = uuid.UUID("2f0a7c52-8e0b-4a5e-9c5e-5b6b8f6d7a01")
"""Where pseudonyms are given the UUIDs that Argilla wants."""
UNSENT = ("draft", "discarded", "pending")


def is_record(fields: Mapping[str, Any]) -> bool:
    """Whether a row is a record of Argilla's, as JSON or as a row of one of its datasets."""
    known = ("responses", "suggestions", "metadata", "external_id", "_server_id")
    nested = isinstance(fields.get("fields"), Mapping) and any(name in fields for name in known)
    return nested or bool(columns.questions(fields))


def read(row: Mapping[str, Any], settings: ProjectSettings) -> Document:
    """A record as an item with answers. Raises BadRecordError where it can be none."""
    asked = columns.questions(row)
    fields = columns.fields(row, asked) if asked else row["fields"]
    responses = columns.responses(row, asked) if asked else row.get("responses")
    metadata = row.get("metadata")
    sources = metadata.get("sources") if isinstance(metadata, Mapping) else row.get("sources")
    said, faults = _said(responses)
    guessed = columns.suggested(row, asked) if asked else _suggested(row.get("suggestions"))
    return taken_over(
        fields,
        said,
        settings,
        sources=sources_of(sources),
        faults=faults,
        notes=[f"suggestion of a model for {name!r}, which nobody gave" for name in guessed],
    )


def _suggested(suggestions: Any) -> list[str]:
    """Questions for which a model has suggested an answer."""
    if isinstance(suggestions, Mapping):
        return [str(name) for name, one in suggestions.items() if one]
    return [str(one.get("question_name")) for one in suggestions or () if isinstance(one, Mapping)]


def _said(responses: Any) -> tuple[list[Response], list[str]]:
    """Responses by person, and the reasons why some of them do not count."""
    found, unsent, faults = list[Response](), dict[tuple[str, str], None](), list[str]()
    for number, user, at, status, values in _responses(responses, faults):
        named = str(user or f"unknown {number}")
        if status in UNSENT:
            unsent.setdefault((named, status))
            continue
        fits = (one for one in found if one.user == named and not set(one.values) & set(values))
        one = next(fits, None)
        if one is None:
            one = Response(named, at=at, unnamed=not user)
            found.append(one)
        one.values.update(values)
    return found, [*faults, *(f"response is {status}" for _, status in unsent)]


def _responses(
    responses: Any, faults: list[str]
) -> Iterator[tuple[int, Any, Any, str, dict[str, Any]]]:
    """(Place, user, time, status, values by question) of every response."""
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            for number, one in enumerate(objects(given, "response", faults), start=1):
                yield number, *_who(one), {question: one.get("value")}
        return
    for number, one in enumerate(objects(responses, "response", faults), start=1):
        given = one.get("values")
        given = given if isinstance(given, Mapping) else {}
        values = {name: _value(value) for name, value in given.items()}
        yield number, *_who(one), values


def _who(response: Mapping[str, Any]) -> tuple[Any, Any, str]:
    at = response.get("inserted_at") or response.get("updated_at")
    return response.get("user_id"), at, str(response.get("status") or "")


def _value(value: Any) -> Any:
    return value.get("value") if isinstance(value, Mapping) else value


# ---- writing


def records(source: Source) -> Iterator[dict[str, Any]]:
    """A record for each item with its answers."""
    for one in source.items():
        source.accounting.rows += 1
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


def questions(one: AnsweredItem, answer: AnswerRow) -> dict[str, Any]:
    """The answer of a person, by question."""
    found = question_of(one.kind.name).responses(answer.value)
    reason = answer.value.get("reason")
    return found | ({"reason": reason} if reason else {})


def settings_of(settings: ProjectSettings, *, widest: int = 2) -> dict[str, Any]:
    """Fields and questions for ``rg.Settings``, as plain JSON.

    ``widest``: answers of the item that has most.
    """
    question = question_of(settings.kind)
    names = question.texts(widest)
    texts = [{"name": name, "type": "text", "required": question.required} for name in names]
    reason = {"name": "reason", "type": "text", "required": False}
    return {
        "fields": [{"name": "prompt", "type": "chat", "required": True}, *texts],
        "questions": [*question.questions(settings, names), reason],
    }
