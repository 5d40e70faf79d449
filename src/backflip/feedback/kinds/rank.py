"""Answers to a prompt, put in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, ClassVar

from pydantic import Field

from backflip.errors import UserError
from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import (
    LETTERS,
    UNSURE,
    Block,
    Json,
    Kind,
    PartValue,
    Simulated,
    Wording,
)
from backflip.feedback.kinds.fields import Answer, Index, Payload, Prompt, Rubric, Strict, Text
from backflip.feedback.kinds.respondent import Respondent
from backflip.text import counted

AGREES = 0.8
"""Share of the gold ranking's pairs that must stand in the same order."""
MOST = 50
"""Answers that are ranked at once."""
ROOM = 4
"""Answers that the form of an example has room for."""


class Rank(Payload):
    kind: str = "rank"
    prompt: Prompt
    answers: Annotated[tuple[Answer, ...], Field(min_length=2, max_length=MOST)]


class Ranks(Strict):
    ranks: tuple[Index | None, ...]
    """One for each answer: 0 is best, equal is a tie, none was left unranked."""
    reason: Text = ""


class RankForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = form.SIDED

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        found = [form.PROMPT]
        for n in range(max(answers, ROOM)):
            letter = LETTERS[n % 26]
            found.append(form.Control(f"answer_{n}", f"Answer {letter}"))
            hint = "1 is best; the same twice is a tie; empty: not ranked."
            found.append(form.Control(f"place_{n}", f"Place of {letter}", "number", hint))
        return found

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        places = {
            f"place_{n}": str(rank + 1) if isinstance(rank, int) else ""
            for n, rank in enumerate(form.as_list(value.get("ranks")))
        }
        return form.prompt_and_answers(payload) | places

    def finish(
        self, touched: set[str], given: form.Texts, payload: form.Data, value: form.Data
    ) -> None:
        """Answers that were left empty fall away, with their places."""
        if not any(name.startswith(("answer", "place_")) for name in touched & set(given)):
            return
        answers = form.as_maps(payload.get("answers"))
        kept = [n for n, answer in enumerate(answers) if str(answer.get("text") or "").strip()]
        texts = [given.get(f"place_{n}", "").strip() for n in kept]
        places = [form.whole(text, "place") if text else None for text in texts]
        steps = sorted({place for place in places if place is not None})
        payload["answers"] = [answers[n] for n in kept]
        value["ranks"] = [None if place is None else steps.index(place) for place in places]


class RankKind(Kind[Rank, Ranks]):
    name, place = "rank", 2
    payload, value = Rank, Ranks
    form = RankForm()
    column = sides = "answers"
    layout = "many"
    paired, pairwise, simulated = True, True, True
    fewest, most = 2, MOST
    wording = Wording(
        title="Rank several",
        description="Put K answers in order; ties allowed",
        row='{"prompt": "Name a river.", "answers": [{"text": "…"}, {"text": "…"}, {"text": "…"}]}',
        subject="on the better of every two answers",
        unit=("pair of answers", "pairs of answers"),
        answers="Judgements",
        values=("the second", "the first", "a tie"),
    )

    def fault(self, value: Ranks, payload: Rank, settings: Rubric) -> str:
        answers = len(payload.answers)
        if len(value.ranks) != answers:
            seen = f"{counted(len(value.ranks), 'rank')} for {counted(answers, 'answer')}"
            return f"{seen}; give one for each, null for none"
        given = sorted({rank for rank in value.ranks if rank is not None})
        if not given:
            return "no answer has a rank; rank at least one, or skip the item"
        if given != list(range(len(given))):
            return f"ranks must run 0, 1, 2 … without gaps (equal ones are ties); seen {given}"
        return ""

    def in_item_order(self, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        ranks = value.get("ranks")
        if not isinstance(ranks, list | tuple) or len(ranks) != len(order):
            seen = counted(len(ranks), "rank") if isinstance(ranks, list | tuple) else "no ranks"
            raise UserError(
                f"answer: {seen} for {counted(len(order), 'answer')}; give one for each."
            )
        back = [None] * len(order)
        for rank, place in zip(ranks, order, strict=True):
            back[place] = rank
        return {**value, "ranks": back}

    def in_displayed_order(self, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        return {**value, "ranks": [value["ranks"][place] for place in order]}

    def same_as(self, gold: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
        return _agreement(gold["ranks"], value["ranks"]) >= AGREES

    def part_names(self, payload: Rank, settings: Rubric) -> list[str]:
        return [f"{i}-{j}" for i, j in combinations(range(len(payload.answers)), 2)]

    def values(
        self, value: Mapping[str, Any], order: Sequence[int], settings: Rubric, attribute: str = ""
    ) -> list[PartValue]:
        """Every two answers; an unranked one is below all ranked ones, and two say nothing."""
        ranks = value["ranks"]
        place = {answer: shown for shown, answer in enumerate(order)}
        found = list[PartValue]()
        for a, b in combinations(range(len(ranks)), 2):
            first = 1.0 if place.get(a, a) < place.get(b, b) else -1.0
            found.append(PartValue(f"{a}-{b}", _better(ranks[a], ranks[b], len(ranks)), first))
        return found

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("answers", [answer["text"] for answer in payload["answers"]])]

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        """All at once."""
        if 2 <= len(answers) <= MOST:
            yield {"prompt": prompt, "answers": answers}

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        places: dict[int, list[str]] = {}
        for index, rank in enumerate(value.get("ranks") or ()):
            if rank is not None:
                places.setdefault(rank, []).append(LETTERS[index % 26])
        return " > ".join(" = ".join(places[rank]) for rank in sorted(places))

    def part_in_words(self, part: str) -> str:
        first, second = (LETTERS[int(place) % 26] for place in part.split("-"))
        return f"{first} against {second}"

    def value_in_words(self, value: float, part: str = "") -> str:
        if not value:
            return self.wording.values[2]
        first, second = self.part_in_words(part).split(" against ")
        return second if value < 0 else first

    def simulate(self, respondent: Respondent, payload: Rank, settings: Rubric) -> Simulated:
        ranks, seconds = respondent.ranking(payload)
        return {"ranks": ranks}, seconds


def _better(one: int | None, other: int | None, low: int) -> float:
    """1: the first is better; 0: a tie; not a number: neither has a rank."""
    if one is None and other is None:
        return UNSURE
    gap = (low if other is None else other) - (low if one is None else one)
    return float((gap > 0) - (gap < 0))


def _agreement(gold: Sequence[int | None], given: Sequence[int | None]) -> float:
    """Share of gold's decided pairs in the same order. Unranked is below all that is ranked."""
    low = len(gold)
    order = [low if rank is None else rank for rank in gold]
    other = [low if rank is None else rank for rank in given]
    decided = [(i, j) for i, j in combinations(range(low), 2) if order[i] != order[j]]
    same = sum(
        other[i] != other[j] and (order[i] < order[j]) == (other[i] < other[j]) for i, j in decided
    )
    return same / len(decided) if decided else float(len(set(other)) == 1)


KIND = RankKind()
