"""Questions with answers to choose from, whatever the data call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backflip.data.records import Messages
from backflip.errors import UserError
from backflip.evaluation.choices import letters, options_of
from backflip.evaluation.suites.subject import asked
from backflip.text import counted

__all__ = ["Question"]

OPTIONS = ("choices", "options", "answers")
RIGHT = ("answer", "label", "gold")
NUMBERED = ("ans0", "ans1", "ans2", "ans3")


@dataclass(frozen=True)
class Question:
    """One question, the answers to choose from, and the places of those that are right."""

    number: int
    text: str
    options: tuple[str, ...]
    right: frozenset[int]

    def choice(self) -> tuple[Messages, list[str]]:
        """The question with its answers behind letters, as a conversation, and the letters."""
        marks = letters(len(self.options))
        listed = "\n".join(f"{m} {o}" for m, o in zip(marks, self.options, strict=True))
        return asked(f"{self.text}\n{listed}"), marks

    @staticmethod
    def all_of(data: Sequence[Mapping[str, Any]], notes: list[str]) -> list[Question]:
        """All that can be read; the rest is counted in ``notes``.

        Answers stand in choices, options or answers (a list), in ans0, ans1 …, or with what they
        are in mc1 (TruthfulQA); which is right, by place, letter or text, in answer, label or gold.
        Raises UserError where none can be read.
        """
        read = [_question(number, row) for number, row in enumerate(data)]
        found = [one for one in read if one is not None]
        if not found:
            raise UserError(
                "no question has answers to choose from and says which is right: the columns are "
                "question, choices (a list) and answer (a place, a letter or the text)."
            )
        if lost := len(read) - len(found):
            few = counted(lost, "question has", "questions have")
            notes.append(f"{few} no answers to choose from, or none that is right: left out.")
        return found


def _question(number: int, row: Mapping[str, Any]) -> Question | None:
    text = str(row["question"])
    if context := row.get("context"):
        text = f"{context}\n\n{text}"
    if known := options_of(row, "mc1"):
        return Question(
            number, text, tuple(known), frozenset(i for i, v in enumerate(known.values()) if v)
        )
    given = next((row[name] for name in OPTIONS if row.get(name)), None)
    if isinstance(given, Mapping):  # Hugging Face's {"text": […], "label": […]}
        given = given.get("text")
    if given is None:
        given = [row[name] for name in NUMBERED if row.get(name) is not None]
    options = tuple(map(str, given))
    right = next((row[name] for name in RIGHT if row.get(name) is not None), None)
    place = _place(right, options)
    return None if place is None or len(options) < 2 else Question(number, text, options, place)


def _place(right: Any, options: Sequence[str]) -> frozenset[int] | None:
    """Where the right answer stands: a number from 0, a letter, or its text."""
    if isinstance(right, str) and right in options:
        return frozenset({options.index(right)})
    word = str(right).strip().strip("()").upper()
    if len(word) == 1 and word.isalpha():
        place = ord(word) - ord("A")
    elif word.isdigit():
        place = int(word)
    else:
        return None
    return frozenset({place}) if place < len(options) else None
