"""The label of one item: what raters said of it and of its parts, and the posterior of that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.columns import LEFT_OUT, SENIOR
from backflip.feedback.projects.reading import AnswerRow, ItemRow
from backflip.feedback.statistics.consensus import even
from backflip.feedback.statistics.figures_labels import posterior
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.text.item_html import in_words, part_in_words, value_in_words


def known(row: ItemRow, answers: Sequence[AnswerRow], settings: ProjectSettings) -> str:
    """The answer that is gold, or else the newest word of a senior; empty where there is none."""
    if row.gold is not None:
        return in_words(settings.kind, row.gold)  # its strength is a matter of taste
    ruled = [one.value for one in answers if one.stage in SENIOR]
    return in_words(settings.kind, ruled[-1], settings.scale) if ruled else ""


def labels(
    answers: Sequence[AnswerRow], settings: ProjectSettings, made: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Each part of an item with its votes and P of every value, the likeliest first.

    Posteriors rest on what the figures (``made``) know of the raters; none before the first time.
    Of ratings there is a mean for each attribute.
    """
    judged = [a for a in answers if a.stage not in (*SENIOR, *LEFT_OUT) and a.repeat_of is None]
    said, kind = _said(judged, settings), settings.kind
    if kind_of(kind).attributes:
        return [
            {
                "about": name,
                "votes": _votes(kind, "", votes),
                "chances": [],
                "mean": _mean(votes),
                "undecided": False,
            }
            for name, votes in said.items()
        ]
    habits = (made or {}).get("habits")
    return [
        {
            "about": part_in_words(kind, part) if part else "",
            "votes": _votes(kind, part, votes),
            "chances": _chances(kind, part, posterior(habits, votes) if habits else {}),
            "mean": None,
            "undecided": even(Counter(value for _, value in votes).values()),
        }
        for part, votes in said.items()
    ]


Votes = list[tuple[str, float]]
"""Raters, by pseudonym, and the value that each gave."""


def _said(answers: Sequence[AnswerRow], settings: ProjectSettings) -> dict[str, Votes]:
    """Votes that say something, by part; of ratings, by attribute."""
    found = dict[str, Votes]()
    kind = kind_of(settings.kind)
    names = [one.name for one in settings.attributes] if kind.attributes else [""]
    for answer in answers:
        for name in names:
            for part in kind.values(answer.value, answer.order, settings, name):
                if not math.isnan(part.value):
                    value = _side(part.value) if kind.paired else part.value
                    found.setdefault(name or part.name, []).append((answer.person, value))
    return found


def _side(value: float) -> float:
    """Which answer is better, whatever the strength."""
    return float(value > 0) - float(value < 0)


def _votes(kind: str, part: str, votes: Votes) -> list[tuple[str, int]]:
    counted = Counter(value for _, value in votes)
    return [(value_in_words(kind, value, part), count) for value, count in counted.most_common()]


def _mean(votes: Votes) -> float:
    return sum(value for _, value in votes) / len(votes)


def _chances(kind: str, part: str, chances: Mapping[float, float]) -> list[tuple[str, float]]:
    ordered = sorted(chances.items(), key=lambda one: -one[1])
    return [(value_in_words(kind, value, part), p) for value, p in ordered if p >= 0.005]
