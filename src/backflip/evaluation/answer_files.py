"""Answers of models in the files of MT-Bench and Arena-Hard, and questions of one and two turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from backflip.data.records import Message, Messages
from backflip.data.sources import SUFFIXES, read
from backflip.errors import UserError
from backflip.evaluation.suites.subject import Asking, LanguageModel, Subject

__all__ = ["answers_by", "conversation", "key_of", "turns_of"]

KEYS = ("question_id", "uid", "id", "index")
ASKED = ("instruction", "prompt", "question")
"""Columns of a question of one turn; in a file of answers they say to what, before any number."""
TEXTS = ("answer", "output", "response", "completion", "reply")


def key_of(row: Mapping[str, Any], place: int) -> str:
    """The name of a question: its own, or its place in the file."""
    return str(next((row[name] for name in KEYS if row.get(name) is not None), place))


def turns_of(row: Mapping[str, Any]) -> list[str]:
    """What a question asks, turn by turn; empty where it asks nothing."""
    turns = row.get("turns")
    if isinstance(turns, Sequence) and not isinstance(turns, str):
        return [_content(turn) for turn in cast("Sequence[Any]", turns)]
    return [str(row[name]) for name in ASKED if row.get(name)][:1]


def conversation(turns: Sequence[str], said: Sequence[str]) -> Messages:
    """The conversation up to the next question: one more turn than answers."""
    found: list[Message] = []
    for number, turn in enumerate(turns[: len(said) + 1]):
        found.append(Message("user", turn))
        if number < len(said):
            found.append(Message("assistant", said[number]))
    return tuple(found)


def answers_by(
    who: str | Subject, questions: Mapping[str, Sequence[str]], asking: Asking | None = None
) -> dict[str, list[str]]:
    """Answers to every turn of every question, of a model that is asked, or from a file.

    Args:
        who: a subject, the name of a model, or a file of rows with question_id (or uid) and the
            answers as choices[0].turns, turns, messages, or answer.
        questions: turns by the question's name.
        asking: how a model that is named is asked.

    Raises UserError where a file has no answer to any of them.

    """
    if isinstance(who, str) and who.endswith(SUFFIXES):
        return _from_file(who, questions)
    subject = LanguageModel(who, asking) if isinstance(who, str) else who
    found: dict[str, list[str]] = {key: [] for key in questions}
    for turn in range(max(map(len, questions.values()), default=0)):
        keys = [k for k, t in questions.items() if len(t) > turn and len(found[k]) == turn]
        said = subject.answers([conversation(questions[key], found[key]) for key in keys])
        for key, texts in zip(keys, said, strict=True):
            found[key] += texts[:1]
    return {key: texts for key, texts in found.items() if len(texts) == len(questions[key])}


def _from_file(path: str, questions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    by_text = {turns[0].strip(): key for key, turns in questions.items()}
    found: dict[str, list[str]] = {}
    for place, row in enumerate(read(path)):
        asked = next((v for n in ASKED if isinstance(v := row.fields.get(n), str)), None)
        key = key_of(row.fields, place) if asked is None else by_text.get(asked.strip(), "")
        texts = _answers(row.fields)
        if key in questions and len(texts) >= len(questions[key]):
            found[key] = texts[: len(questions[key])]
    if not found:
        some = next(iter(questions), "")
        raise UserError(
            f"{path} has no whole answer to any of {len(questions)} questions, such as {some}: "
            "rows need question_id (or uid) and choices, turns, messages, or answer."
        )
    return found


def _answers(row: Mapping[str, Any]) -> list[str]:
    """All turns of an answer."""
    choices, messages = row.get("choices"), row.get("messages")
    if isinstance(choices, Sequence) and choices:
        return turns_of(cast("Mapping[str, Any]", choices[0]))
    if isinstance(messages, Sequence) and not isinstance(messages, str):
        said = [cast("Mapping[str, Any]", m) for m in cast("Sequence[Any]", messages)]
        return [_content(m.get("content")) for m in said if m.get("role") == "assistant"]
    if isinstance(row.get("turns"), Sequence):
        return turns_of(row)
    return [str(row[name]) for name in TEXTS if row.get(name) is not None][:1]


def _content(value: Any) -> str:
    """Text of a turn; Arena-Hard keeps an answer as {"answer": …}."""
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, Any]", value)
        return str(inner.get("content", inner.get("answer", "")))
    return str(value)
