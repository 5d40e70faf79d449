"""One kind of record out of another, with an account of what could not be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backflip.data.counting import counted
from backflip.data.errors import UserError
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Messages,
    Prompt,
    Record,
    Tally,
    prompt_of,
)

KINDS: dict[str, type[Record]] = {
    "demonstrations": Demonstration,
    "comparisons": Comparison,
    "labelled": Labelled,
    "prompts": Prompt,
}
MOST_ANSWERS = 8
"""Labelled answers that are compared with one another at most: they are read together."""


@dataclass(frozen=True)
class Converted:
    """Records of the kind that was asked for."""

    records: list[Any]
    dropped: Tally
    """Records that nothing was made of, by reason."""
    said: str
    """How many of what became what; empty where nothing had to be converted."""


def plural(kind: type[Record]) -> str:
    """What several of them are called."""
    name = next(name for name, entry in KINDS.items() if entry is kind)
    return f"{name} answers" if kind is Labelled else name


def singular(kind: type[Record]) -> str:
    """What one of them is called."""
    return plural(kind).removesuffix("s")


def check_convertible(held: type[Record], wanted: type[Record], source: str) -> None:
    """Raises UserError where the one cannot become the other."""
    if held is not wanted and (held, wanted) not in WAYS:
        raise UserError(
            f"{source} holds {plural(held)}, and {plural(wanted)} are needed; "
            f"{plural(wanted)} cannot be made out of them"
        )


def convert(records: Sequence[Record], wanted: type[Record]) -> Converted:
    """The records, all of one kind, as another.

    ==============  ==============  ============================================================
    Comparison      Labelled        every answer: those of rank 0 good, the others bad; of all
                                    tied ones nothing. Margins and soft labels are lost.
    Labelled        Comparison      answers to the same prompt, good above bad: all pairs of a
                                    good and a bad one. See ``_compared``.
    Comparison      Demonstration   the first of the best answers
    Labelled        Demonstration   the good answers
    all             Prompt          the prompt of each
    ==============  ==============  ============================================================
    """
    dropped = Tally()
    if not records or type(records[0]) is wanted:
        return Converted(list(records), dropped, "")
    held: type[Record] = type(records[0])
    make, how = WAYS[held, wanted]
    made = make(records, dropped)
    used = len(records) - dropped.total
    many = counted(len(made), singular(wanted), plural(wanted))
    now = plural(wanted) if used == len(made) != 1 else many
    said = f"{counted(used, singular(held), plural(held))} read as {now}"
    said += f" ({how})" if how else ""
    return Converted(made, dropped, said)


Way: TypeAlias = Callable[[Sequence[Any], Tally], list[Any]]


def _each(make: Callable[[Any], list[Any]]) -> Way:
    """A way that looks at one record at a time."""

    def way(records: Sequence[Any], dropped: Tally) -> list[Any]:
        made: list[Any] = []
        for record in records:
            try:
                made += make(record)
            except BadRecordError as error:
                dropped.add(error.reason, record.where)
        return made

    return way


def _best(record: Comparison) -> list[Demonstration]:
    return [Demonstration(record.prompt + record.best, record.weight, where=record.where)]


def _good(record: Labelled) -> list[Demonstration]:
    if not record.label:
        raise BadRecordError("answer labelled bad", "only good answers are imitated")
    return [Demonstration(record.prompt + record.answer, record.weight, where=record.where)]


def _asked(record: Record) -> list[Prompt]:
    return [Prompt(prompt_of(record), record.where)]


def _apart(record: Comparison) -> list[Labelled]:
    if record.tied:
        raise BadRecordError("tie", "neither answer is good or bad")
    return [
        Labelled(record.prompt, answer, rank == 0, weight=record.weight, where=record.where)
        for answer, rank in zip(record.answers, record.rank, strict=True)
    ]


def _compared(records: Sequence[Labelled], dropped: Tally) -> list[Comparison]:
    """Every prompt with good and bad answers, as comparisons of all of them.

    A prompt is one comparison in which good answers share rank 0 and bad ones rank 1, so that all
    pairs of a good and a bad one are learnt and each answer is read once. Above ``MOST_ANSWERS``
    they are dealt out over several. Equal answers count once, and not at all where people disagreed
    about them. The weight is the mean of the answers'.
    """
    prompts: dict[Messages, dict[Messages, list[Labelled]]] = {}
    for record in records:
        prompts.setdefault(record.prompt, {}).setdefault(record.answer, []).append(record)
    made: list[Comparison] = []
    for answers in prompts.values():
        good, bad = list[Labelled](), list[Labelled]()
        for same in answers.values():
            _sort(same, good, bad, dropped)
        if good and bad:
            made += _dealt(good, bad)
            continue
        for record in good or bad:
            dropped.add(f"no {'bad' if good else 'good'} answer to its prompt", record.where)
    return made


def _sort(
    same: Sequence[Labelled], good: list[Labelled], bad: list[Labelled], dropped: Tally
) -> None:
    """Put an answer, of which there may be copies, to the good or to the bad ones."""
    if len({record.label for record in same}) > 1:
        for record in same:
            dropped.add("the same answer is labelled good and bad", record.where)
        return
    (good if same[0].label else bad).append(same[0])
    for record in same[1:]:
        dropped.add("the same answer and label once more", record.where)


def _dealt(good: Sequence[Labelled], bad: Sequence[Labelled]) -> list[Comparison]:
    piles = -(-(len(good) + len(bad)) // MOST_ANSWERS)
    made: list[Comparison] = []
    for number in range(piles):
        upper = good[number::piles] or [good[number % len(good)]]
        lower = bad[number::piles] or [bad[number % len(bad)]]
        rows = [*upper, *lower]
        made.append(
            Comparison(
                rows[0].prompt,
                tuple(row.answer for row in rows),
                (0,) * len(upper) + (1,) * len(lower),
                weight=sum(row.weight for row in rows) / len(rows),
                where=rows[0].where,
            )
        )
    return made


WAYS: dict[tuple[type[Record], type[Record]], tuple[Way, str]] = {
    (Comparison, Demonstration): (_each(_best), "the best answer of each"),
    (Comparison, Labelled): (_each(_apart), "the best answers good, the others bad"),
    (Comparison, Prompt): (_each(_asked), ""),
    (Demonstration, Prompt): (_each(_asked), ""),
    (Labelled, Comparison): (_compared, "good against bad answers to the same prompt"),
    (Labelled, Demonstration): (_each(_good), "the good ones"),
    (Labelled, Prompt): (_each(_asked), ""),
}
"""How the one is made out of the other, and what is to be said about it."""
