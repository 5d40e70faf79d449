"""Parts of a record out of the columns of a row: who asked what, who answered, how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from backflip.data.columns import CONTEXTS, PROMPTS, Fields, is_empty
from backflip.data.conversations import (
    after,
    answer_messages,
    conversation_of,
    is_conversation,
    prompt_messages,
)
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Provenance,
    Record,
)
from backflip.data.turns import TOOLS, one_offer, tools_of

SYSTEMS = ("system", "system_prompt", "system_message")
TURNS = ("user", "assistant")
SOFT = ("p_chosen", "soft", "soft_label")
STRENGTHS = {
    "significantly better": 1.0,
    "better": 2 / 3,
    "slightly better": 1 / 3,
    "negligibly better": 0.0,
    "negligibly better / unsure": 0.0,
    "unsure": 0.0,
}
"""Margins of Llama 2 (Touvron et al., 2023, table 27, the small ones)."""
OTHERWISE = "the prompt says something else than the conversation, which was believed"


@dataclass(frozen=True)
class Line:
    """One row as an adapter sees it."""

    where: Provenance
    fields: Fields


@dataclass(frozen=True)
class Format:
    """How the rows of one public format are told apart and read."""

    name: str
    expects: str
    """The columns in words, for messages to the user."""
    fits: Callable[[Fields], bool]
    read: Callable[[Line], Record]
    kind: type[Record]
    """The record that its rows are read as."""
    choice: str = ""
    """Where the rows could be read in several ways: which was chosen, in words."""
    scored: bool = False
    """Whether its demonstrations have scores by which those of one prompt can be compared."""


# ---- who asked what


def has_prompt(fields: Fields) -> bool:
    return any(name in fields for name in PROMPTS)


def asked(fields: Fields) -> Messages:
    """The prompt of a row, by whichever name its column has. Raises BadRecordError for none.

    An instruction and its input, where there are both, are one prompt with a blank line between.
    """
    name = "prompt" if "prompt" in fields else None
    name = name or fields.first(PROMPTS) or next((n for n in PROMPTS if n in fields), None)
    if name is None:
        raise BadRecordError("no prompt", f"no column {', '.join(PROMPTS[:-3])}")
    value = fields[name]
    source = fields.column(name)
    if source.lower() == "instruction" and isinstance(value, str) and value.strip():
        more = fields.get("input")
        if isinstance(more, str) and more.strip():
            value = f"{value}\n\n{more}"
    return (*_before(fields), *prompt_messages(value, source))


def _before(fields: Fields) -> Messages:
    """The turns in a column ``history``: pairs of a question and an answer, or messages."""
    value = fields.peek("history")
    if is_empty(value) or not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    pairs = cast("Sequence[Any]", value)
    if is_conversation(value):
        return conversation_of("history", fields["history"])
    if all(isinstance(two, list | tuple) and len(cast("Sequence[Any]", two)) == 2 for two in pairs):
        said = [message for two in fields["history"] for message in zip(TURNS, two, strict=True)]
        return tuple(Message(role, "" if text is None else str(text)) for role, text in said)
    return ()


def asked_or_context(fields: Fields) -> Messages | None:
    """The prompt, or the turns before the answers; None where the row has neither."""
    if has_prompt(fields):
        return asked(fields)
    name = next((n for n in CONTEXTS if is_conversation(fields.peek(n))), None)
    return prompt_messages(fields[name], name) if name else None


def dressed(line: Line, messages: Messages) -> Messages:
    """With the text of a column ``system`` in front, and the tools of a column ``tools``."""
    messages = _with_system(line.fields, messages)
    name = line.fields.first(TOOLS)
    given = tools_of(line.fields[name]) if name else ""
    tools = one_offer(given, *(message.tools for message in messages))
    bare = (replace(message, tools="") if message.tools else message for message in messages[1:])
    return (replace(messages[0], tools=tools), *bare) if tools and messages else messages


def _with_system(fields: Fields, messages: Messages) -> Messages:
    """A conversation with a system message of its own keeps that."""
    name = fields.first(SYSTEMS)
    system = fields.peek(name) if name else None
    if name is None or not isinstance(system, str) or not messages:
        return messages
    if messages[0].role == "system" and messages[0].content.strip() != system.strip():
        return messages
    system = fields[name]
    if not system.strip() or messages[0].role == "system":
        return messages
    return (Message("system", system), *messages)


# ---- records


def pair(line: Line, prompt: Messages, chosen: Messages, rejected: Messages) -> Comparison:
    """A comparison of two with whatever the row says about its strength."""
    fields = line.fields
    if chosen == rejected:
        raise BadRecordError("answers are identical", "nobody can prefer one of them")
    margin = number(fields, "margin") if fields.get("margin") is not None else _strength(fields)
    name = next((name for name in SOFT if fields.get(name) is not None), None)
    soft = number(fields, name, 1.0) if name else 1.0
    rank = (0, 1)
    if fields.get("tie") is True or soft == 0.5:
        rank, soft = (0, 0), 0.5
    elif soft < 0.5:
        rank, soft = (1, 0), 1.0 - soft
    return Comparison(
        dressed(line, prompt),
        (chosen, rejected),
        rank,
        margin=margin,
        soft=soft,
        weight=number(fields, "weight", 1.0),
        win=_win(fields),
        where=line.where,
    )


def ranked(
    line: Line, prompt: Messages, values: Sequence[Any], rank: tuple[int, ...]
) -> Comparison:
    """A comparison of all answers in these values."""
    answers = tuple(answer_messages("completions", value) for value in values)
    prompt, answers = together(line, prompt, *answers)
    return Comparison(
        dressed(line, prompt),
        answers,
        rank,
        weight=number(line.fields, "weight", 1.0),
        win=_win(line.fields),
        where=line.where,
    )


def labelled(line: Line, prompt: Messages, answer: Messages, good: bool) -> Labelled:
    weight = number(line.fields, "weight", 1.0)
    return Labelled(dressed(line, prompt), answer, good, weight=weight, where=line.where)


def demonstration(line: Line, messages: Messages, score: float | None = None) -> Demonstration:
    weight = number(line.fields, "weight", 1.0)
    return Demonstration(dressed(line, messages), weight, score=score, where=line.where)


def together(
    line: Line, prompt: Messages, *answers: Messages
) -> tuple[Messages, tuple[Messages, ...]]:
    """Prompt and answers, which may repeat it; a remark where the two say different things."""
    prompt, answers, agree = after(prompt, *answers)
    if not agree:
        line.fields.remarks.append(OTHERWISE)
    return prompt, answers


def _strength(fields: Fields) -> float:
    value = fields.keep("strength")
    if isinstance(value, str):
        if value.strip().lower() not in STRENGTHS:
            raise BadRecordError(
                f"unknown strength {value!r}", f"use a number or one of {', '.join(STRENGTHS)}"
            )
        return STRENGTHS[value.strip().lower()]
    return number(fields, "strength")


def _win(fields: Fields) -> tuple[float, ...]:
    """P(the answer beats an answer of the policy), in the order of the answers of the row."""
    value = fields.get("win")
    return () if value is None else tuple(numbers("win", value))


# ---- numbers


def number(fields: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    """The number in a column, also where a table holds it as text."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRecordError(
            f"column {name!r} is not a number", f"{str(fields.get(name))[:60]!r} was given"
        )
    return float(value)


def numbers(name: str, values: Any) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BadRecordError(f"column {name!r} is not a list of numbers", f"{values!r} was given")
    return [number({name: value}, name, math.nan) for value in cast("Sequence[Any]", values)]


def dense_ranks(keys: Sequence[float]) -> tuple[int, ...]:
    """0 for the lowest, the same number for equal ones, and no gaps."""
    if any(math.isnan(key) for key in keys):
        raise BadRecordError("an answer has no rank or score", "rank every answer of the row")
    place = {key: at for at, key in enumerate(sorted(set(keys)))}
    return tuple(place[key] for key in keys)


def filled(fields: Fields, names: Iterable[str]) -> str:
    """The first of these columns that holds something. Raises BadRecordError where none does."""
    names = tuple(names)
    for name in names:
        if fields.peek(name) is not None:
            return name
    raise BadRecordError(f"no value in {' or '.join(names)}", "remove the row, or fill it in")


def has(*names: str) -> Callable[[Fields], bool]:
    return lambda fields: all(name in fields for name in names)


def holds_text(fields: Fields, *apart: str) -> list[str]:
    """Columns that hold text or lists, but for those named."""
    return [
        fields.column(name)
        for name in fields
        if name not in apart
        and isinstance(fields.peek(name), str | list | tuple | Mapping)
        and not is_empty(fields.peek(name))
    ]
