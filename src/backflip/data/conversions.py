"""One kind of record out of another, with an account of what could not be made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Prompt,
    Record,
    Solution,
    Tally,
    prompt_of,
)
from backflip.data.rows import Format
from backflip.errors import UserError
from backflip.text import counted

KINDS: dict[str, type[Record]] = {
    "demonstrations": Demonstration,
    "comparisons": Comparison,
    "labelled": Labelled,
    "prompts": Prompt,
    "solutions": Solution,
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
    """The plural of a record's name."""
    name = next(name for name, entry in KINDS.items() if entry is kind)
    return f"{name} answers" if kind is Labelled else name


def singular(kind: type[Record]) -> str:
    """The singular of a record's name."""
    return plural(kind).removesuffix("s")


def check_convertible(
    held: Format, wanted: type[Record], source: str, columns: Iterable[str]
) -> None:
    """Raises UserError where rows of a format cannot become what is wanted."""
    possible = held.kind is wanted or (held.kind, wanted) in WAYS
    if (held.kind, wanted) == (Demonstration, Comparison):
        possible = held.scored
    if not possible:
        raise UserError(
            f"{source} holds {plural(held.kind)}, and {plural(wanted)} are needed; "
            f"{plural(wanted)} cannot be made out of them. Read as format {held.name}, columns "
            f"seen: {', '.join(map(str, columns))}. If another column has what is missing, name it "
            "with data.columns.NAME=COLUMN; docs/data.md lists all formats"
        )


def check_row_by_row(held: Format, wanted: type[Record], source: str) -> None:
    """Raises UserError where what is wanted is made of several rows, which a stream may part."""
    if wanted is Comparison and held.kind is not Comparison:
        raise UserError(
            f"{source}: comparisons would be put together out of {plural(held.kind)} with the same "
            "prompt, wherever they stand, so the source cannot be streamed. Set "
            "data.streaming=false, or give comparisons"
        )


def convert(records: Sequence[Record], wanted: type[Record]) -> Converted:
    """The records, all of one kind, as another.

    ==============  ==============  ============================================================
    Comparison      Labelled        every answer: those of rank 0 good, the others bad; of all
                                    tied ones nothing. Margins and soft labels are lost.
    Labelled        Comparison      answers to the same prompt, good above bad: all pairs of a
                                    good and a bad one. See ``_compared``.
    Demonstration   Comparison      answers to the same prompt, in the order of their scores
    Comparison      Demonstration   the first of the best answers
    Labelled        Demonstration   the good answers
    Solution        Labelled        whole solutions, good where no step is bad
    Solution        Comparison      two candidates for the step after the same steps, one of them
                                    good and the other bad. See ``step_pairs``.
    Solution        Demonstration   whole solutions without a bad step
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


def whole(record: Solution) -> Labelled:
    """The solution as one answer, its steps joined by line ends: good where no step is bad.

    Raises BadRecordError where its labels do not say so.
    """
    if not record.decided:
        raise BadRecordError("labelled in part, and nothing bad so far", "label the other steps")
    answer, good = record.answer(), record.first_error is None
    return Labelled(record.prompt, answer, good, weight=record.weight, where=record.where)


def _apart_steps(record: Solution) -> list[Labelled]:
    return [whole(record)]


def _right(record: Solution) -> list[Demonstration]:
    return _good(whole(record))


def step_pairs(records: Sequence[Solution], dropped: Tally) -> list[Comparison]:
    """Pairs of a good and a bad step behind the same steps to the same prompt (Lai et al., 2024).

    Both answers begin with the steps that they share, and end with the step in which they differ.
    Steps behind a bad one are in no pair. Of each place as many pairs are made as its rarer side
    has steps, none twice.
    """
    places: dict[tuple[Messages, tuple[str, ...]], dict[str, float]] = {}
    where: dict[Messages, Solution] = {}
    for record in records:
        where.setdefault(record.prompt, record)
        for start, text, bad in _candidates(record):
            places.setdefault((record.prompt, start), {}).setdefault(text, bad)
    made: list[Comparison] = []
    paired = set[Messages]()
    for (prompt, start), texts in places.items():
        good, bad = ([t for t, p in texts.items() if (p > 0.5) is side] for side in (False, True))
        for better, worse in zip(good, bad, strict=False):
            answers = tuple(
                (Message("assistant", "\n".join((*start, text))),) for text in (better, worse)
            )
            paired.add(prompt)
            made.append(Comparison(prompt, answers, (0, 1), where=where[prompt].where))
    for prompt, record in where.items():
        if prompt not in paired:
            dropped.add("no good and bad step behind the same steps", record.where)
    return made


def _candidates(record: Solution) -> list[tuple[tuple[str, ...], str, float]]:
    """(steps before it, text, P(bad)) of every labelled step behind nothing bad."""
    first = record.first_error
    upto = len(record.steps) if first is None else first + 1
    said = [(n, s, b) for n, (s, b) in enumerate(zip(record.steps, record.labels, strict=True))]
    said += [(one.place, one.text, one.label) for one in record.alternatives]
    return [(record.steps[:n], text, b[0]) for n, text, b in said if n < upto and b is not None]


def _asked(record: Record) -> list[Prompt]:
    """The prompt; the answer of a demonstration is its reference."""
    shown = isinstance(record, Demonstration)
    reference = record.messages[-1].content if shown else ""
    return [Prompt(prompt_of(record), record.where, reference)]


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


def _by_score(records: Sequence[Demonstration], dropped: Tally) -> list[Comparison]:
    """Answers to one prompt as one comparison; equal scores are ties."""
    prompts: dict[Messages, list[Demonstration]] = {}
    for record in records:
        if record.score is None:
            dropped.add("no score", record.where)
            continue
        group = prompts.setdefault(record.messages[:-1], [])
        if any(other.messages == record.messages for other in group):
            dropped.add("the same answer once more", record.where)
        else:
            group.append(record)
    made: list[Comparison] = []
    for prompt, group in prompts.items():
        if len(group) < 2:
            dropped.add("no other answer to its prompt", group[0].where)
            continue
        for start in range(0, len(group), MOST_ANSWERS):
            some = group[start : start + MOST_ANSWERS]
            some = some if len(some) > 1 else group[-2:]
            made.append(_by_scores(prompt, some))
    return made


def _by_scores(prompt: Messages, group: Sequence[Demonstration]) -> Comparison:
    scores = sorted({record.score or 0.0 for record in group}, reverse=True)
    rank = tuple(scores.index(record.score or 0.0) for record in group)
    weight = sum(record.weight for record in group) / len(group)
    answers = tuple(record.messages[-1:] for record in group)
    soft = 0.5 if len(scores) == 1 and len(group) == 2 else 1.0
    return Comparison(prompt, answers, rank, soft=soft, weight=weight, where=group[0].where)


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
    (Demonstration, Comparison): (_by_score, "answers to one prompt, in the order of their scores"),
    (Demonstration, Prompt): (_each(_asked), ""),
    (Labelled, Comparison): (_compared, "good against bad answers to the same prompt"),
    (Labelled, Demonstration): (_each(_good), "the good ones"),
    (Labelled, Prompt): (_each(_asked), ""),
    (Solution, Comparison): (step_pairs, "a good against a bad step behind the same steps"),
    (Solution, Demonstration): (_each(_right), "those without a bad step"),
    (Solution, Labelled): (_each(_apart_steps), "good where no step is bad"),
    (Solution, Prompt): (_each(_asked), ""),
}
"""How the one is made out of the other, and what is to be said about it."""
