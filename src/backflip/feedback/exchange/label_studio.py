"""Label Studio's JSON: tasks with data, and annotations whose results are told by their type.

A task is ``{"id", "data": {"prompt", "answer1", "answer2"}, "annotations", "predictions"}``, an
annotation ``{"completed_by", "created_at", "lead_time", "was_cancelled", "ground_truth",
"result"}``, a result ``{"type": "pairwise", "value": {"selected": "left"}, "from_name"}``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backflip.data.records import BadRecordError
from backflip.feedback.exchange import tool_records as foreign
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.records import Source
from backflip.feedback.exchange.tool_parts import result
from backflip.feedback.exchange.tool_records import (
    Document,
    objects,
    question_of,
    sources_field,
    sources_of,
    taken_over,
)
from backflip.feedback.exchange.tool_values import PLACE, Response
from backflip.feedback.projects.reading import AnswerRow
from backflip.feedback.tasks.settings import ProjectSettings

CHOSEN = {"left": "a", "right": "b"}
RATERS = "@raters.invalid"
"""Behind the pseudonyms of our own raters, as if it were an address."""
NUMBER = re.compile(r"[0-9]{1,9}([.,][0-9]+)?")
NO_DURATION = "lead_time that is no number; the answer is kept without a duration"
SINGLE = {"annotation_id", "annotator"}
"""Columns that tell a row of one annotation: JSON-MIN, CSV and TSV."""
CIRCUMSTANCES = (*SINGLE, "id", "created_at", "updated_at", "lead_time")


def is_task(fields: Mapping[str, Any]) -> bool:
    """Whether a row is a task of Label Studio's, or one of its rows of single annotations."""
    nested = isinstance(fields.get("data"), Mapping) and any(
        name in fields for name in ("annotations", "predictions", "completions", "project", "id")
    )
    return nested or set(fields) >= SINGLE


def task_of(fields: Mapping[str, Any]) -> Any:
    """The key that single annotations of one task share; none where a row is a whole task."""
    return fields.get("id") if set(fields) >= SINGLE else None


def read(row: Mapping[str, Any], settings: ProjectSettings) -> Document:
    """A task as an item with answers. Raises BadRecordError where it can be none."""
    if set(row) >= SINGLE:
        return _single(row, settings)
    data = dict(row["data"])
    sources = data.pop("sources", None)
    answers = _listed(data)
    said, faults, truths = list[Response](), list[str](), list[Response]()
    given = row.get("annotations") or row.get("completions")
    for number, annotation in enumerate(objects(given, "annotation", faults)):
        if annotation.get("was_cancelled"):
            faults.append("annotation was cancelled")
            continue
        known = annotation.get("ground_truth")
        (truths if known else said).append(_said(annotation, number, data, answers))
    faults += ["draft of an annotation, which nobody submitted"] * len(_many(row.get("drafts")))
    guessed = [one for one in _many(row.get("predictions")) if one]
    return taken_over(
        data,
        said,
        settings,
        answers=answers,
        sources=sources_of(sources),
        truths=truths,
        faults=faults,
        notes=["prediction of a model, which nobody gave"] * len(guessed),
    )


def _many(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _single(row: Mapping[str, Any], settings: ProjectSettings) -> Document:
    """One annotation with the task's data beside it (JSON-MIN, CSV): questions are columns."""
    data = {name: value for name, value in row.items() if name not in CIRCUMSTANCES}
    answers = _listed(data)
    who = row.get("annotator")
    said = Response(_name(who) if who else "unknown 1", unnamed=not who, at=_time(row))
    said.seconds = _seconds(row, said.notes)
    shown = {name for name in data if name in foreign.PROMPTS or foreign.ANSWERS.fullmatch(name)}
    said.values = {name: _bare(v) for name, v in data.items() if name not in shown}
    sources = sources_of(data.get("sources"))
    said.values.pop("sources", None)
    asked = {name: data[name] for name in data if name in shown}
    return taken_over(asked, [said], settings, answers=answers, sources=sources)


def _bare(value: Any) -> Any:
    """A value of a row of single annotations, in our terms."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        marked = [one for one in value if isinstance(one.get("labels"), list)]
        if marked:
            return [span for one in marked for span in _spans(one)]
        if len(value) == 1:
            return _bare(value[0])
    if isinstance(value, Mapping):
        kind = next(
            (name for name in ("rating", "number", "ranker", "selected") if name in value), ""
        )
        known = {"selected": "pairwise"}
        return _value(known.get(kind, kind), value) if kind else value
    return CHOSEN.get(value, value) if isinstance(value, str) else value


def _listed(data: dict[str, Any]) -> dict[str, str] | None:
    """Texts to rank by name, taken out of a task's data; none where it has no list."""
    for name, value in data.items():
        entries = (
            [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
        )
        if len(entries) > 1 and all("id" in entry and _text(entry) for entry in entries):
            del data[name]
            return {str(entry["id"]): _text(entry) for entry in entries}
    return None


def _text(entry: Mapping[str, Any]) -> str:
    return str(
        entry.get("body") or entry.get("text") or entry.get("html") or entry.get("title") or ""
    )


def _said(
    annotation: Mapping[str, Any], number: int, data: Mapping[str, Any], answers: Any
) -> Response:
    ours = annotation.get("rater")
    who = f"{ours}{RATERS}" if ours else annotation.get("completed_by")
    said = Response(_name(who) if who is not None else f"unknown {number + 1}", unnamed=who is None)
    said.seconds, said.at = _seconds(annotation, said.notes), _time(annotation)
    texts = list((answers or {}).values()) + [v for v in data.values() if isinstance(v, str)]
    for given in objects(annotation.get("result"), "result", said.faults):
        value, name = given.get("value") or {}, str(given.get("from_name", ""))
        kind = str(given.get("type"))
        try:
            found = _value(kind, value if isinstance(value, Mapping) else {kind: value}, texts)
        except BadRecordError as error:
            said.faults.append(error.reason)
            continue
        if kind == "labels" and isinstance(found, list):
            said.values.setdefault(name, []).extend(found)
        elif name in said.values:
            said.faults.append(f"another result of {name!r} in one annotation")
        else:
            said.values[name] = found
    return said


def _name(who: Any) -> str:
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    return str(who)


def _time(annotation: Mapping[str, Any]) -> Any:
    return annotation.get("created_at") or annotation.get("updated_at")


def _seconds(annotation: Mapping[str, Any], notes: list[str]) -> float | None:
    """How long it took; tables write numbers as text, some with a comma."""
    lead = annotation.get("lead_time")
    if isinstance(lead, int | float) and not isinstance(lead, bool):
        return float(lead)
    if isinstance(lead, str) and NUMBER.fullmatch(lead.strip()):
        return float(lead.strip().replace(",", "."))
    if lead not in (None, ""):
        notes.append(NO_DURATION)
    return None


def _value(kind: str, value: Mapping[str, Any], texts: Sequence[str] = ()) -> Any:
    """A result in our terms. Raises BadRecordError for types that are not read."""
    match kind:
        case "pairwise":
            return CHOSEN.get(str(value.get("selected")), value.get("selected"))
        case "choices":
            chosen = _texts(value.get("choices"))
            if len(chosen) > 1:
                raise BadRecordError("several choices where one is needed")
            return chosen[0] if chosen else None
        case "rating" | "number":
            return value.get(kind)
        case "ranker":
            return _order(value.get("ranker"))
        case "textarea":
            text = value.get("text")
            return "\n".join(text) if isinstance(text, list) else text
        case "labels":
            return _spans(value, texts)
        case _:
            raise BadRecordError(f"a result of type {kind!r}, which is not read")


def _texts(given: Any) -> list[Any]:
    """Several labels, or the one that stands without a list."""
    return given if isinstance(given, list) else [given] if given else []


def _spans(value: Mapping[str, Any], texts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A marked passage under each of its labels, counted in characters.

    Browsers count letters beyond 16 bits twice; the passage's own text tells. Raises
    BadRecordError where it stands in none of the texts.
    """
    start, end, marked = value.get("start"), value.get("end"), value.get("text")
    if not isinstance(start, int) or not isinstance(end, int):
        raise BadRecordError("a passage whose place is no number of characters")
    if isinstance(marked, str) and texts and not any(text[start:end] == marked for text in texts):
        start, end = _in_letters(start, end, marked, texts)
    labels = _texts(value.get("labels"))
    return [{"start": start, "end": end, "label": label} for label in labels]


def _in_letters(start: int, end: int, marked: str, texts: Sequence[str]) -> tuple[int, int]:
    for text in texts:
        units = text.encode("utf-16-le", "surrogatepass")
        before, passage = units[: 2 * start], units[2 * start : 2 * end]
        if passage.decode("utf-16-le", "replace") == marked:
            begun = len(before.decode("utf-16-le", "replace"))
            return begun, begun + len(marked)
    raise BadRecordError("a passage that does not stand where the file says")


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
    for one in source.items():
        source.accounting.rows += 1
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
    data |= question_of(payload["kind"]).data(given)
    return data | {"sources": sources_field([answer.get("source", "") for answer in given])}


def _annotation(one: AnsweredItem, answer: AnswerRow) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(answer.at))
    return {
        "id": answer.event,
        # completed_by would have to be somebody of that server, which refuses all else; what it
        # does not know it passes over.
        "rater": answer.person,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": at,
        "updated_at": at,
        "lead_time": answer.seconds,
        "result": list(_results(one, answer)),
    }


def _results(one: AnsweredItem, answer: AnswerRow) -> Iterator[dict[str, Any]]:
    yield from question_of(one.kind.name).results(answer.value, one.item.payload)
    if answer.value.get("reason"):
        yield result("reason", "prompt", "textarea", {"text": [answer.value["reason"]]})


def page_of(settings: ProjectSettings) -> str:
    """A labelling page for the tasks of an export."""
    parts = question_of(settings.kind).page(settings)
    return "\n".join(["<View>", *parts, '<TextArea name="reason" toName="prompt"/>', "</View>"])
