"""Diversity of answers, within a prompt and across prompts (Kirk et al., 2024)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.errors import UserError
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Rows, Statistic
from backflip.evaluation.suites.subject import Subject, asked
from backflip.functional.statistics import distinct_n

LONGEST = 4
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Diversity(Suite):
    """Different n-grams and likeness of several answers to a prompt, and of answers to different.

    Answers are cut to ``words`` first, since the share of different n-grams falls with length. A
    policy that says the same thing to everybody has low numbers across prompts, one that knows a
    single answer to each prompt low ones within.
    """

    title: ClassVar[str] = "diversity within a prompt and across prompts"
    needs: ClassVar[tuple[str, ...]] = ("prompt",)
    asking: ClassVar[Mapping[str, Any]] = {"temperature": 1.0}

    answers: int = 8
    """Answers that are sampled for each prompt."""
    words: int = 50
    """Words of each answer that are compared."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        prompts = list(dict.fromkeys(str(row["prompt"]) for row in data))
        drawn = subject.answers([asked(prompt) for prompt in prompts], each=self.answers)
        cut = [[_words(answer)[: self.words] for answer in some] for some in drawn]
        kept = [(p, some) for p, some in zip(prompts, cut, strict=True) if len(some) > 1]
        if len(kept) < 2:
            raise UserError("fewer than two prompts have two answers: there is nothing to compare.")
        if len(kept) < len(prompts):
            lost = len(prompts) - len(kept)
            subject.notes.append(f"{lost} of {len(prompts)} prompts have no two answers: left out.")
        others = _across([answers for _, answers in kept])
        return [
            {
                "id": place, "prompt": prompt, "answers": len(answers),
                "first": " ".join(answers[0]),
                **{f"distinct_{n}": _known(distinct_n(answers, n=n)) for n in (1, 2, 3)},
                "self_bleu": _self_bleu(answers),
                "same": 1 - len({tuple(a) for a in answers}) / len(answers),
                **across,
            }
            for place, ((prompt, answers), across) in enumerate(zip(kept, others, strict=True))
        ]  # fmt: skip

    def statistics(self, rows: Rows) -> list[Statistic]:
        del rows
        within = [
            Statistic(f"distinct_{n}", f"different {n}-grams, one prompt", f"distinct_{n}")
            for n in (1, 2, 3)
        ]
        return [
            *within,
            Statistic("self_bleu", "self-BLEU-4, one prompt (1: all alike)", "self_bleu"),
            Statistic("same", "answers that repeat another, one prompt", "same"),
            *(
                Statistic(f"across_{n}", f"different {n}-grams, across prompts", f"across_{n}")
                for n in (1, 2, 3)
            ),
            Statistic("across_bleu", "self-BLEU-4, across prompts", "across_bleu"),
        ]


def _across(answers: Sequence[Sequence[Sequence[str]]]) -> list[dict[str, float | None]]:
    """For each prompt, its first answers beside the first ones to as many other prompts."""
    many, found = len(answers), list[dict[str, float | None]]()
    size = min(many, max(len(some) for some in answers))
    for place in range(many):
        others = [answers[(place + step) % many][0] for step in range(size)]
        numbers = {f"across_{n}": _known(distinct_n(others, n=n)) for n in (1, 2, 3)}
        found.append(numbers | {"across_bleu": bleu(others[0], others[1:])})
    return found


def _self_bleu(answers: Sequence[Sequence[str]]) -> float:
    """Mean BLEU of each answer against the others (Zhu et al., 2018)."""
    scores = [bleu(a, [*answers[:i], *answers[i + 1 :]]) for i, a in enumerate(answers)]
    return sum(scores) / len(scores)


def bleu(text: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of one text (Papineni et al., 2002), orders above 1 smoothed by one (Lin, 2004)."""
    if not text or not references:
        return 0.0
    logs = 0.0
    for n in range(1, LONGEST + 1):
        counts = _grams(text, n)
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= _grams(reference, n)
        hits, total = (counts & most).total(), counts.total()
        more = int(n > 1)
        if hits + more == 0:
            return 0.0
        logs += math.log((hits + more) / (total + more))
    nearest = min((abs(len(r) - len(text)), len(r)) for r in references)[1]
    return math.exp(logs / LONGEST + min(0.0, 1 - nearest / len(text)))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
