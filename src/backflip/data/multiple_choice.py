"""Adapter of questions with options, of which a key names the right one."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, cast

from backflip.data.columns import PROMPTS, Fields, is_empty
from backflip.data.records import BadRecordError, Demonstration, Message
from backflip.data.rows import Format, Line, asked, demonstration

__all__ = ["KEYS", "MULTIPLE_CHOICE", "OPTIONS", "options_in"]

OPTIONS = ("choices", "options", "endings")
"""Names of the column with the options."""
KEYS = (
    *("answerkey", "answer_key", "answer_idx", "answer_index", "correct_option", "cop"),
    *("answer", "label", "gold"),
)
"""Names of the column with the key, the likeliest first."""
LETTERS = string.ascii_uppercase
STEMS = ("question_stem", "ctx")
"""Names of the question in OpenBookQA and HellaSwag."""


def _read(line: Line) -> Demonstration:
    """The question, its options behind letters, and the letter of the right one as the answer."""
    fields = line.fields
    name = cast("str", fields.first(OPTIONS))
    labels, texts = options_in(fields.keep(name))
    if not 2 <= len(texts) <= len(LETTERS):
        raise BadRecordError(f"{len(texts)} options", f"give 2 to {len(LETTERS)}")
    key = fields.first(KEYS)
    if key is None:
        raise BadRecordError("a question without a key", "write down which option is right")
    letter = LETTERS[_place(fields[key], labels, texts)]
    shown = "\n".join(f"{mark}. {text}" for mark, text in zip(LETTERS, texts, strict=False))
    if any(stem in PROMPTS and stem in fields for stem in PROMPTS):
        *before, last = asked(fields)
    else:
        stem = cast("str", fields.first(STEMS))
        before, last = [], Message("user", str(fields[stem]))
    question = Message("user", f"{last.content.rstrip()}\n\n{shown}")
    return demonstration(line, (*before, question, Message("assistant", letter)))


def options_in(value: Any) -> tuple[list[str], list[str]]:
    """(labels, texts) of options: a list, ARC's ``{text, label}``, or ``{A: text, …}``."""
    if isinstance(value, Mapping):
        held = cast("Mapping[str, Any]", value)
        if isinstance(held.get("text"), Sequence):
            texts = [str(text) for text in held["text"]]
            labels = [str(label) for label in held.get("label") or LETTERS[: len(texts)]]
            return labels, texts
        return [str(label) for label in held], [str(text) for text in held.values()]
    texts = [_text(one) for one in cast("Sequence[Any]", value)]
    return list(LETTERS[: len(texts)]), texts


def _text(option: Any) -> str:
    if isinstance(option, Mapping):
        return str(cast("Mapping[str, Any]", option).get("text", option))
    return str(option)


def _place(key: Any, labels: Sequence[str], texts: Sequence[str]) -> int:
    """The place of the right option. Raises BadRecordError for a key that names none."""
    said = str(key).strip()
    if not isinstance(key, int) and said in labels:
        return labels.index(said)
    if said.isascii() and said.isdigit():
        if int(said) < len(texts):
            return int(said)
    elif len(said.strip("().")) == 1 and (bare := said.strip("().").upper()) in LETTERS:
        if LETTERS.index(bare) < len(texts):
            return LETTERS.index(bare)
    elif said in texts:
        return texts.index(said)
    raise BadRecordError(
        "a key that names no option", "give its letter, its place from 0, or its text"
    )


def _fits(fields: Fields) -> bool:
    """Whether a row asks, offers options, and says which is right."""
    name = fields.first(OPTIONS)
    if name is None or not any(one in fields for one in (*PROMPTS, *STEMS)):
        return False
    value = fields.peek(name)
    plain = isinstance(value, Sequence) and not isinstance(value, str)
    if not plain and not isinstance(value, Mapping):
        return False
    texts = options_in(value)[1]
    return len(texts) > 1 and any(not is_empty(fields.peek(key)) for key in KEYS if key in fields)


MULTIPLE_CHOICE = (
    Format(
        "multiple_choice",
        "question, choices (options, endings), and answer (answerKey, label)",
        fits=_fits,
        read=_read,
        kind=Demonstration,
        choice="options stand behind the question as A. to Z., the answer is a letter; a number as "
        "the key counts from 0, unless the options have labels of their own",
    ),
)
