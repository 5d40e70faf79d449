"""All figures of an export's answers, and of them what is known of each rater, a row each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backflip.feedback.exchange.records import Source
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.written import written
from backflip.feedback.statistics.consensus import RESAMPLES
from backflip.feedback.statistics.figures import statistics

SHARES = (
    ("agrees_with_others", "others"),
    ("right_on_gold", "gold"),
    ("ties", "ties"),
    ("agrees_with_oneself", "itself"),
    ("reliability", "reliability"),
    ("drift_in_an_hour", "tiring"),
    ("drift_in_a_week", "weekly"),
)
"""Columns with an interval: their name, and that of the figures."""
GAUGES = (
    ("prefers_longer", "length"),
    ("prefers_lists", "lists"),
    ("prefers_first", "first"),
)


def figures_of(source: Source) -> dict[str, dict[str, Any]]:
    """Statistics as the page has them; of ratings for each attribute."""
    kind = kind_of(source.kind)
    if not kind.alike:
        return {"": statistics(written(source.project, until=source.until))}
    if not kind.attributes:
        judged = source.consensus.judgements
        return {"": statistics(judged, resamples=RESAMPLES, consensus=source.consensus)}
    return {
        attribute.name: statistics(
            source.project.judgements(until=source.until, part=attribute.name),
            ratings=True,
            resamples=RESAMPLES,
        )
        for attribute in source.settings.attributes
    }


def rater_rows(source: Source) -> Iterator[dict[str, Any]]:
    """Each rater's figures with their 95 % intervals; of ratings a row for each attribute."""
    for _ in source.items():
        pass  # counted, for the account
    for attribute, figures in figures_of(source).items():
        for rater in figures["raters"]:
            source.accounting.rows += 1
            yield _row(attribute, rater)


def _row(attribute: str, rater: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rater": rater["name"],
        "attribute": attribute,
        "judgements": rater["answers"],
        "sittings": rater["sessions"],
        "seconds_median": rater["seconds"],
        "very_fast": rater["fast"],
        "very_slow": rater["slow"],
    }
    for name, key in SHARES:
        row |= _ends(name, rater[key])
    for name, key in GAUGES:
        row |= _ends(name, rater["gauges"].get(key))
    return row | {"glad": rater["glad"], "bradley_terry": rater["bradley_terry"]}


def _ends(name: str, found: Mapping[str, float] | None) -> dict[str, float | None]:
    """An estimate with its interval as three columns; empty where there is none."""
    ends = ("estimate", "low", "high")
    return {
        name if end == "estimate" else f"{name}_{end}": found.get(end) if found else None
        for end in ends
    }
