"""One small adapter per public format: the columns of a row → a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from backflip.data.conversations import (
    answer_messages,
    conversation_of,
    is_transcript,
    prompt_messages,
    split_common,
    split_last,
    split_text,
)
from backflip.data.counting import counted
from backflip.data.judgements import is_prose, label, thumb
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Prompt,
    Record,
)
from backflip.data.sources import Row

Fields: TypeAlias = Mapping[str, Any]

ANSWERS = ("completions", "responses", "answers")
REPLIES = ("completion", "response", "answer", "reply")
TALKS = ("messages", "conversations")
THUMBS = ("thumb", "feedback", "rating")
SCORES = ("scores", "ratings")
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


@dataclass(frozen=True)
class Format:
    """How the rows of one public format are told apart and read."""

    name: str
    expects: str
    """The columns in words, for messages to the user."""
    fits: Callable[[Fields], bool]
    read: Callable[[Row], Record]
    kind: type[Record]
    """What its rows are read as."""


# ---- the formats


def _hh(row: Row) -> Comparison:
    a = conversation_of("chosen", row.fields["chosen"])
    b = conversation_of("rejected", row.fields["rejected"])
    prompt, chosen, rejected = split_common(a, b)
    return _pair(row, prompt, chosen, rejected)


def _preference(row: Row) -> Comparison:
    chosen, rejected = row.fields["chosen"], row.fields["rejected"]
    if row.fields.get("prompt") is not None:
        prompt = prompt_messages(row.fields["prompt"])
        return _pair(
            row,
            prompt,
            answer_messages("chosen", chosen, prompt),
            answer_messages("rejected", rejected, prompt),
        )
    if isinstance(chosen, str) and isinstance(rejected, str) and not is_transcript(chosen):
        if not chosen.strip() or not rejected.strip():
            raise BadRecordError("empty answer", "remove the row, or write the missing text")
        text, a, b = split_text(chosen, rejected)
        prompt = prompt_messages(text)
        return _pair(
            row, prompt, answer_messages("chosen", a, ()), answer_messages("rejected", b, ())
        )
    return _hh(row)


def _ranking(row: Row) -> Comparison:
    prompt = prompt_messages(row.fields["prompt"])
    values = row.fields[_first(row.fields, ANSWERS)]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BadRecordError("answers are not a list", "give a list with one entry per answer")
    answers = tuple(
        answer_messages("completions", value, prompt) for value in cast("Sequence[Any]", values)
    )
    if row.fields.get("rank") is not None:
        rank = _dense_ranks(_numbers("rank", row.fields["rank"]))
    else:
        name = _first(row.fields, SCORES)
        rank = _dense_ranks([-score for score in _numbers(name, row.fields[name])])
    return Comparison(
        _with_system(row, prompt),
        answers,
        rank,
        weight=_number(row.fields, "weight", 1.0),
        win=_win(row.fields),
        where=row.where,
    )


def _labelled(row: Row) -> Labelled:
    if "label" not in row.fields:
        raise KeyError("label")
    return _one_answer(row, label("label", row.fields["label"]))


def _stepwise(row: Row) -> Labelled:
    """A whole solution, good where every step is; TRL joins steps by line ends."""
    steps, labels = (cast("Sequence[Any]", row.fields[name]) for name in ("completions", "labels"))
    if len(steps) != len(labels) or not all(isinstance(step, str) for step in steps):
        raise BadRecordError(
            "steps and labels do not fit",
            f"{counted(len(labels), 'label')} for {counted(len(steps), 'text')}",
        )
    prompt = prompt_messages(row.fields["prompt"])
    whole = Message("assistant", "\n".join(cast("Sequence[str]", steps)))
    return Labelled(
        _with_system(row, prompt),
        (whole,),
        all(label("labels", one) for one in labels),
        weight=_number(row.fields, "weight", 1.0),
        where=row.where,
    )


def _thumbs(row: Row) -> Labelled:
    name = next((name for name in THUMBS if row.fields.get(name) is not None), None)
    return _one_answer(row, thumb(name or THUMBS[0], row.fields[name] if name else None))


def _one_answer(row: Row, good: bool) -> Labelled:
    """A prompt and its answer, or a conversation of which the last answer was judged."""
    fields = row.fields
    if fields.get("prompt") is not None:
        name = _first(fields, REPLIES)
        prompt = prompt_messages(fields["prompt"])
        answer = answer_messages(name, fields[name], prompt)
    else:
        name = _first(fields, TALKS)
        prompt, answer = split_last(conversation_of(name, fields[name]))
    return Labelled(
        _with_system(row, prompt),
        answer,
        good,
        weight=_number(fields, "weight", 1.0),
        where=row.where,
    )


def _prompt_completion(row: Row) -> Demonstration:
    prompt = prompt_messages(row.fields["prompt"])
    if row.fields.get("label") is False:
        raise BadRecordError("answer labelled bad", "only good answers are imitated")
    answer = answer_messages("completion", row.fields["completion"], prompt)
    return _demonstration(row, prompt + answer)


def _messages(row: Row) -> Demonstration:
    name = _first(row.fields, TALKS)
    return _demonstration(row, conversation_of(name, row.fields[name]))


def _text(row: Row) -> Demonstration:
    value = row.fields["text"]
    if not isinstance(value, str):
        raise BadRecordError("column 'text' holds no text", "give a text per row")
    if is_transcript(value):
        return _demonstration(row, conversation_of("text", value))
    return _demonstration(row, (Message("assistant", value),))


def _prompt_only(row: Row) -> Prompt:
    return Prompt(_with_system(row, prompt_messages(row.fields["prompt"])), row.where)


def _has(*names: str) -> Callable[[Fields], bool]:
    return lambda fields: all(name in fields for name in names)


def _any(names: Iterable[str], fields: Fields) -> bool:
    return any(name in fields for name in names)


def _listed(fields: Fields, *names: str) -> bool:
    """Whether each of these columns holds a list."""
    return all(isinstance(fields[n], Sequence) and not isinstance(fields[n], str) for n in names)


def _holds_thumbs(fields: Fields) -> bool:
    """Beside a conversation a text that is no thumb is a comment, which a log may well have."""
    names = [name for name in THUMBS if name in fields]
    if "prompt" in fields:
        return bool(names) and _any(REPLIES, fields)
    judged = any(not is_prose(fields[name]) for name in names)
    return judged and _any(TALKS, fields)


FORMATS = (
    Format(
        "hh",
        r"chosen, rejected (transcripts: \n\nHuman: … \n\nAssistant: …)",
        fits=lambda f: (
            _has("chosen", "rejected")(f) and f.get("prompt") is None and is_transcript(f["chosen"])
        ),
        read=_hh,
        kind=Comparison,
    ),
    Format(
        "preference",
        "chosen, rejected and, unless both begin with it, prompt (text or messages)",
        fits=_has("chosen", "rejected"),
        read=_preference,
        kind=Comparison,
    ),
    Format(
        "ranking",
        "prompt, completions, and rank (0 is best) or scores",
        fits=lambda f: "prompt" in f and _any(ANSWERS, f) and _any(("rank", *SCORES), f),
        read=_ranking,
        kind=Comparison,
    ),
    Format(
        "stepwise",
        "prompt, completions (steps) and labels (true or false for each)",
        fits=lambda f: (
            _has("prompt", "completions", "labels")(f) and _listed(f, "completions", "labels")
        ),
        read=_stepwise,
        kind=Labelled,
    ),
    Format(
        "labelled",
        "prompt, completion (or messages) and label (true or false)",
        fits=lambda f: (
            _has("prompt", "completion", "label")(f)
            or ("label" in f and _any(TALKS, f) and not is_prose(f["label"]))
        ),
        read=_labelled,
        kind=Labelled,
    ),
    Format(
        "thumbs",
        "messages (or prompt and response) and thumb, feedback or rating (up or down, +1 or −1)",
        fits=_holds_thumbs,
        read=_thumbs,
        kind=Labelled,
    ),
    Format(
        "prompt_completion",
        "prompt, completion",
        fits=_has("prompt", "completion"),
        read=_prompt_completion,
        kind=Demonstration,
    ),
    Format(
        "messages",
        "messages (a list of {role, content})",
        fits=lambda f: _any(TALKS, f),
        read=_messages,
        kind=Demonstration,
    ),
    Format("text", "text", fits=_has("text"), read=_text, kind=Demonstration),
    Format("prompt", "prompt", fits=_has("prompt"), read=_prompt_only, kind=Prompt),
)
"""In the order in which they are tried: the first whose columns are there is taken."""


def known_formats() -> tuple[str, ...]:
    """Names for ``format=``."""
    return tuple(entry.name for entry in FORMATS)


# ---- pieces of a row


def _pair(row: Row, prompt: Messages, chosen: Messages, rejected: Messages) -> Comparison:
    """A comparison of two with whatever the row says about its strength."""
    fields = row.fields
    if chosen == rejected:
        raise BadRecordError("answers are identical", "nobody can prefer one of them")
    margin = _number(fields, "margin", _strength(fields))
    name = next((name for name in SOFT if fields.get(name) is not None), None)
    soft = _number(fields, name, 1.0) if name else 1.0
    rank = (0, 1)
    if fields.get("tie") is True or soft == 0.5:
        rank, soft = (0, 0), 0.5
    elif soft < 0.5:
        rank, soft = (1, 0), 1.0 - soft
    return Comparison(
        _with_system(row, prompt),
        (chosen, rejected),
        rank,
        margin=margin,
        soft=soft,
        weight=_number(fields, "weight", 1.0),
        win=_win(fields),
        where=row.where,
    )


def _strength(fields: Fields) -> float:
    value = fields.get("strength")
    if isinstance(value, str):
        if value.strip().lower() not in STRENGTHS:
            raise BadRecordError(
                f"unknown strength {value!r}", f"use a number or one of {', '.join(STRENGTHS)}"
            )
        return STRENGTHS[value.strip().lower()]
    return _number(fields, "strength", 0.0)


def _win(fields: Fields) -> tuple[float, ...]:
    """P(the answer beats an answer of the policy), in the order of the answers of the row."""
    value = fields.get("win")
    return () if value is None else tuple(_numbers("win", value))


def _demonstration(row: Row, messages: Messages) -> Demonstration:
    return Demonstration(
        _with_system(row, messages), _number(row.fields, "weight", 1.0), where=row.where
    )


def _with_system(row: Row, messages: Messages) -> Messages:
    """Put the text of a column ``system`` first, unless the conversation has a system message."""
    system = row.fields.get("system")
    if not isinstance(system, str) or not system.strip() or not messages:
        return messages
    if messages[0].role == "system":
        return messages
    return (Message("system", system), *messages)


def _number(fields: Fields, name: str, default: float) -> float:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRecordError(f"column {name!r} is not a number", f"{value!r} was given")
    return float(value)


def _numbers(name: str, values: Any) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BadRecordError(f"column {name!r} is not a list of numbers", f"{values!r} was given")
    return [_number({name: value}, name, math.nan) for value in cast("Sequence[Any]", values)]


def _dense_ranks(keys: Sequence[float]) -> tuple[int, ...]:
    """0 for the lowest, the same number for equal ones, and no gaps."""
    if any(math.isnan(key) for key in keys):
        raise BadRecordError("an answer has no rank or score", "rank every answer of the row")
    place = {key: number for number, key in enumerate(sorted(set(keys)))}
    return tuple(place[key] for key in keys)


def _first(fields: Fields, names: Iterable[str]) -> str:
    for name in names:
        if fields.get(name) is not None:
            return name
    raise BadRecordError(f"no value in {' or '.join(names)}", "remove the row, or fill it in")
