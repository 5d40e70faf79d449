"""All statistics of some judgements as plain JSON: for a page, and beside every export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backflip.feedback.statistics import figures_labels
from backflip.feedback.statistics.agreement import Metric
from backflip.feedback.statistics.consensus import RESAMPLES, Consensus, agreed
from backflip.feedback.statistics.disagreement import circles, most_disagreed
from backflip.feedback.statistics.drift import alpha_over_time, by_rubric, leanings
from backflip.feedback.statistics.fatigue import Stretch, over_session
from backflip.feedback.statistics.gauges import Gauge, gauges
from backflip.feedback.statistics.groups import groups
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.raters import RaterReport, rater_reports
from backflip.functional.statistics import finite

FEWEST_GAUGED = 10
"""Judgements below which no gauge is fitted."""


def statistics(
    judgements: Judgements,
    *,
    ratings: bool = False,
    resamples: int = RESAMPLES,
    consensus: Consensus | None = None,
) -> dict[str, Any]:
    """All figures of some judgements.

    ``ratings``: misses count by the square of their size, and there is no single right answer.
    ``consensus``: of the same judgements, where it is there already.
    """
    made: dict[str, Any] = {"judgements": len(judgements), "agreement": None}
    made |= {name: [] for name in ("over_time", "disputed", "groups", "by_rubric", "leanings")}
    made |= dict.fromkeys(("whom", "labels", "habits"))
    consensus = None if ratings else consensus or Consensus(judgements)
    made["raters"] = _raters(judgements, consensus) if len(judgements) else []
    if not len(judgements.said()):
        return made
    sides = judgements.sides()
    metric: Metric = "interval" if ratings else "nominal"
    made["whom"] = figures_labels.whom(judgements, ratings=ratings)
    if consensus is not None:
        made["labels"] = figures_labels.labels(consensus)
        made["habits"] = figures_labels.habits(consensus)
    made["agreement"] = agreed(judgements, ratings=ratings, resamples=resamples)
    moments = alpha_over_time(sides, metric=metric, resamples=min(200, resamples))
    made["over_time"] = [
        {"at": m.end, "items": m.items} | (m.alpha.as_json() or {}) for m in moments
    ]
    made["groups"] = [_groups(judgements, name) for name in _attributes(judgements)]
    made["circles"] = circles(judgements).share().as_json() if judgements.paired else None
    made["by_rubric"] = [
        {"version": version, "items": one.items, "alpha": one.alpha.as_json()}
        for version, one in by_rubric(sides, metric=metric, resamples=min(200, resamples)).items()
    ]
    made["leanings"] = _leanings(judgements)
    made["disputed"] = _disputed(sides)
    return made


def _disputed(sides: Judgements) -> list[dict[str, Any]]:
    """The items on which raters are furthest apart, with their votes."""
    return [
        {
            "item": sides.item_names[one.item],
            "raters": one.raters,
            "apart": one.apart,
            "votes": {f"{value:g}": count for value, count in sorted(one.votes.items())},
        }
        for one in most_disagreed(sides, count=30)
    ]


def _leanings(judgements: Judgements) -> list[dict[str, Any]]:
    """How the preference for longer answers and for lists moved, by week and by rubric."""
    if not judgements.paired:
        return []
    found = list[dict[str, Any]]()
    for feature in judgements.features:
        moved = leanings(judgements, feature)
        parts = {
            name: [
                {"number": int(one.label.split()[-1]), "choices": one.choices}
                | (one.share.as_json() or {})
                for one in part
            ]
            for name, part in (("weeks", moved.by_week), ("versions", moved.by_rubric))
        }
        if parts["weeks"]:
            found.append({"feature": feature, "trend": moved.trend.as_json(), **parts})
    return found


def _attributes(judgements: Judgements) -> list[str]:
    """Attributes in which raters differ: language, region …"""
    return sorted({name for groups in judgements.groups for name in groups})


def _groups(judgements: Judgements, attribute: str) -> dict[str, Any]:
    """Agreement within and between groups, what each leans to, and whom a majority erases."""
    found = groups(judgements, attribute)
    return {
        "attribute": attribute,
        "agreement": [
            {"one": pair.one, "other": pair.other, "pairs": pair.pairs}
            | (pair.agreement.as_json() or {})
            for pair in found.agreement
            if pair.pairs
        ],
        "preferences": [
            {
                "group": one.group,
                "raters": one.raters,
                "leans": {name: share.as_json() for name, share in one.leans.items()},
            }
            for one in found.preferences
        ],
        "warnings": [one.warning for one in found.erased if one.warns],
    }


def _raters(judgements: Judgements, consensus: Consensus | None) -> list[dict[str, Any]]:
    fitted: Sequence[Mapping[str, Gauge]] = [{} for _ in judgements.rater_names]
    if judgements.paired and len(judgements.said()) >= FEWEST_GAUGED:
        fitted = gauges(judgements).by_rater
    curves = over_session(judgements)
    reports = rater_reports(judgements)
    right = {one["rater"]: one for one in consensus.raters()} if consensus else {}
    return sorted(
        (
            _rater(report, gauge, curve)
            | _outliers(report, judgements)
            | _reliability(right.get(report.name, {}))
            for report, gauge, curve in zip(reports, fitted, curves, strict=True)
            if report.judgements
        ),
        key=lambda row: -row["answers"],
    )


def _rater(
    report: RaterReport, gauge: Mapping[str, Gauge], curve: Sequence[Stretch]
) -> dict[str, Any]:
    pace = report.pace
    return {
        "name": report.name,
        "answers": report.judgements,
        "others": report.agreement.as_json(),
        "gold": report.gold.as_json(),
        "ties": report.ties.as_json(),
        "itself": report.consistency.as_json(),
        "seconds": finite(pace.median),
        "sessions": report.sessions,
        "tiring": report.tiring.as_json(),
        "weekly": report.weekly.as_json(),
        "session": [
            {"minutes": one.minutes, "judgements": one.judgements, "seconds": finite(one.seconds)}
            | (one.agreement.as_json() or {})
            for one in curve
        ],
        "gauges": {
            name: one.own.as_json() for name, one in gauge.items() if one.choices >= FEWEST_GAUGED
        },
    }


def _outliers(report: RaterReport, judgements: Judgements) -> dict[str, int]:
    """Answers that came far too fast or too slowly; one of several parts counts once."""
    pace = report.pace
    rows = {"fast": pace.fast, "slow": pace.slow}
    return {name: len(np.unique(judgements.at[found])) for name, found in rows.items()}


def _reliability(known: Mapping[str, Any]) -> dict[str, Any]:
    """P(right) with its interval, and what GLAD and noisy Bradley-Terry say of it."""
    estimate = known.get("reliability")
    ends = {"estimate": estimate, "low": known.get("low"), "high": known.get("high")}
    return {
        "reliability": None if estimate is None else ends,
        "glad": known.get("glad"),
        "bradley_terry": known.get("bradley_terry"),
    }
