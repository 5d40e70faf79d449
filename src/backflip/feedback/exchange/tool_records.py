"""Documents of other annotation tools: the common part of reading and writing them.

Their fields have any names, so fields are found by usual ones, and what people said by its shape.
An answer that this project could not have got is counted, with the reason.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backflip.data.conversations import prompt_messages
from backflip.data.records import BadRecordError
from backflip.errors import UserError
from backflip.feedback.exchange.mapping import ToolQuestion, mapping_of
from backflip.feedback.exchange.moments import moment
from backflip.feedback.exchange.tool_values import WHY, Response, is_nothing, plain_value
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.store.queues import Purpose
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.text import counted

PROMPTS = (
    *("prompt", "instruction", "question", "query", "input", "conversation", "context", "chat"),
    *("dialogue", "dialog", "messages", "task"),
)
ANSWERS = re.compile(
    r"(?:response|answer|reply|completion|generation|output|summary|candidate|option|text|draft"
    r"|chosen|rejected)[-_ ]?(?:\d+|[a-z])?",
    re.IGNORECASE,
)
SECOND = "a second answer of one person to the same item; the last one counts"
OTHER_TRUTH = "another right answer of the same item; the last one counts"
UNNAMED = "answer of nobody named; each counts as a person of its own"


@dataclass(frozen=True)
class Given:
    """The answer of one person to a document, in its own order."""

    user: str
    value: dict[str, Any]
    seconds: float | None = None
    at: Any = None
    """When, as the document writes it."""
    order: tuple[int, ...] | None = None
    """Which of the document's answers was displayed at each place; none: its own order."""
    stage: str = "work"
    repeat: bool = False
    """Whether the person was asked once more."""
    surplus: bool = False
    """Whether the item wanted no more answers."""
    event: int = 0
    """Its number in the log that it comes from, where that is one of ours."""
    rubric: int = 0
    """The version of that project's rubric; 0: none."""


@dataclass(frozen=True)
class Document:
    """An item with what people said of it elsewhere."""

    payload: dict[str, Any]
    given: tuple[Given, ...] = ()
    truth: Given | None = None
    """An answer that the document calls the right one."""
    gold: dict[str, Any] | None = None
    """The right answer, where it is known as such and nobody's."""
    faults: tuple[str, ...] = ()
    """Why answers, or the whole document, cannot be taken over."""
    notes: tuple[str, ...] = ()
    """Remarks on parts that are not lost."""
    purpose: Purpose | None = None
    origin: str = ""
    batch: str = ""


@dataclass(frozen=True)
class Fields:
    """A document's fields, told apart."""

    prompt: Any
    answers: Mapping[str, str]
    """By name, in their order."""

    @classmethod
    def of(
        cls,
        fields: Mapping[str, Any],
        answers: Mapping[str, str] | None = None,
        *,
        alone: bool = False,
    ) -> Fields:
        """``answers``: where they are known. Raises BadRecordError where there is no prompt.

        ``alone``: whether a text to be judged may stand without one.
        """
        name = next((name for name in PROMPTS if fields.get(name)), None)
        if name is None and alone:
            return cls((), answers or _answers(fields, ""))
        if name is None:
            raise BadRecordError(
                "no field that is a prompt",
                f"fields seen: {', '.join(fields)}; call one {', '.join(PROMPTS[:4])} …",
            )
        if answers is not None:
            return cls(fields[name], answers)
        return cls(fields[name], _answers(fields, name))

    def payload(self, kind: str, sources: Sequence[str] = ()) -> dict[str, Any]:
        """The item. Raises BadRecordError where a kind needs other answers."""
        turns = [
            {"role": message.role, "content": message.content}
            for message in (prompt_messages(self.prompt) if self.prompt else ())
        ]
        question = question_of(kind)
        texts, needed = list(self.answers.values()), question.needed
        if len(texts) < needed or (question.exact and len(texts) > needed):
            raise BadRecordError(
                f"{counted(len(texts), 'answer')} where {kind} needs {needed}",
                f"fields that look like answers: {', '.join(self.answers) or 'none'}",
            )
        made = [{"text": text} for text in texts]
        for answer, source in zip(made, sources, strict=False):
            answer["source"] = source
        return {"kind": kind, "prompt": turns} | question.payload(made)


def _answers(fields: Mapping[str, Any], prompt: str) -> dict[str, str]:
    """Texts whose names say that they are answers."""
    return {
        key: value
        for key, value in fields.items()
        if key != prompt and ANSWERS.fullmatch(key) and isinstance(value, str) and value
    }


def sources_field(sources: Sequence[str]) -> str:
    """Which model wrote each answer, as one text; JSON where a comma would cut a name in two."""
    parted = any("," in name or name.startswith("[") for name in sources)
    return json.dumps(list(sources), ensure_ascii=False) if parted else ", ".join(sources)


def sources_of(field: Any) -> list[str]:
    """The same back; none where there is no such text."""
    if not isinstance(field, str) or not field:
        return []
    try:
        found = json.loads(field) if field.startswith("[") else field.split(", ")
    except ValueError:
        found = field.split(", ")
    return [str(name) for name in found]


def objects(given: Any, what: str, faults: list[str]) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, or the one that stands without one. All else is counted: a bare
    number is the name of something that the file does not hold.
    """
    for one in given if isinstance(given, list | tuple) else [given] if given else ():
        if isinstance(one, Mapping):
            yield one
        else:
            seen = type(one).__name__
            faults.append(f"{what} that is no object ({seen}); export it whole, not by its number")


def taken_over(
    fields: Mapping[str, Any],
    said: Iterable[Response],
    settings: ProjectSettings,
    *,
    answers: Mapping[str, str] | None = None,
    sources: Sequence[str] = (),
    truths: Sequence[Response] = (),
    faults: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Document:
    """A document as an item with answers. Raises BadRecordError where it can be no item.

    ``truths``: what the document calls the right answer; the last one is.
    """
    told = Fields.of(fields, answers, alone=question_of(settings.kind).alone)
    names, wrong, noted = list(told.answers), list(faults), list(notes)
    payload = told.payload(settings.kind, sources)

    def read(everybody: Iterable[Response]) -> list[Given]:
        found = list[Given]()
        for one in everybody:
            wrong.extend(one.faults)
            try:
                value, unread = _read_value(one, names, settings)
            except BadRecordError as error:
                wrong.append(error.reason)
                continue
            noted.extend([UNNAMED] * one.unnamed + one.notes)
            noted.extend(f"question {n!r}, which {settings.kind} does not ask" for n in unread)
            found.append(Given(one.user, value, one.seconds, one.at))
        return found

    given, known = read(said), read(truths)
    wrong += [OTHER_TRUTH] * len(known[1:])
    truth = known[-1] if known else None
    return Document(payload, tuple(given), truth=truth, faults=tuple(wrong), notes=tuple(noted))


def _read_value(
    response: Response, names: Sequence[str], settings: ProjectSettings
) -> tuple[dict[str, Any], list[str]]:
    """A response as an answer of the project, and questions that it has no place for.

    ``names``: the document's names of its answers, in order. Raises BadRecordError where it is no
    answer.
    """
    values = {n: plain_value(v) for n, v in response.values.items() if not is_nothing(v)}
    value, used = question_of(settings.kind).read(values, names, settings)
    why = next((n for n in WHY if isinstance(values.get(n), str)), "")
    if why and "reason" in kind_of(settings.kind).value.model_fields:
        value, used = value | {"reason": values[why]}, used | {why}
    return value, [name for name in values if name not in used]


def question_of(kind: str) -> ToolQuestion:
    """A kind as other tools ask it. Raises UserError for one that they do not have."""
    question = mapping_of(kind).question
    if question is None:
        raise UserError(f"other tools have nothing like {kind!r}.")
    return question


def last_of_each(given: Sequence[Given]) -> tuple[list[Given], int]:
    """The last answer of each person, by their times where both have one, else by place."""
    kept = dict[tuple[str, bool], Given]()
    for one in given:
        who = (one.user, one.repeat)
        before = kept.get(who)
        if before is None or not _later(before, one):
            kept.pop(who, None)
            kept[who] = one
    return list(kept.values()), len(given) - len(kept)


def _later(before: Given, one: Given) -> bool:
    """Whether the one that stands first in the document was given last."""
    times = [moment(given.at, math.inf)[0] for given in (before, one)]
    return times[0] is not None and times[1] is not None and times[0] > times[1]
