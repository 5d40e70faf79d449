"""The numbers of the statistics page, worked out beside the server and kept as a file.

Counts on the page are live; what takes an EM or a bootstrap is a job of its own process with a time
stamp, so that no rater waits for it: ``python -m backflip.collect.figures PROJECT FILE``, with the
database in $BACKFLIP_FEEDBACK.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backflip.collect import figures_labels
from backflip.crowd.agreement import Metric, agreement
from backflip.crowd.consensus import Consensus
from backflip.crowd.disagreement import circles, most_disagreed
from backflip.crowd.drift import alpha_over_time, by_rubric, leanings
from backflip.crowd.fatigue import Stretch, over_session
from backflip.crowd.gauges import Gauge, gauges
from backflip.crowd.groups import groups
from backflip.crowd.judgements import Judgements
from backflip.crowd.raters import RaterReport, rater_reports
from backflip.feedback.columns import LEFT_OUT, SENIOR
from backflip.feedback.gains import confirmed, gain_of
from backflip.feedback.projects import Project
from backflip.functional.statistics import finite

FORM = 3
"""Of the file; one of another form is worked out anew."""
FEWEST_GAUGED = 10
"""Judgements below which no gauge is fitted."""
ARMED = ("compare", "clips", "principles")
"""Kinds whose arms are held against each other: an item has one verdict of two sides."""
RESAMPLES = 500
VERSIONS = 6
"""Newest versions of the rubric that get figures of their own."""


def of_project(project: Project, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """All that the page draws of a project as it is now, as plain JSON."""
    event, settings = project.newest_event(), project.settings
    if settings.kind == "write":
        return figures(_written(project), event=event, resamples=resamples)
    if settings.kind == "rate":
        names = [attribute.name for attribute in settings.attributes]
        by_name = {
            name: figures(
                project.judgements(part=name), event=event, ratings=True, resamples=resamples
            )
            for name in names
        }
        return by_name[names[0]] | {"attributes": by_name}
    made = figures(project.judgements(), event=event, resamples=resamples)
    if settings.kind not in ARMED:
        return made
    made["gain"] = gain_of(project).as_json()
    made["screen"] = {rule: share.as_json() for rule, share in confirmed(project).items()}
    for version, part in made["versions"].items():
        part["gain"] = gain_of(project, rubric=int(version)).as_json()
    return made


def _written(project: Project) -> Judgements:
    """Who wrote when and for how long; a text says nothing that could be agreed with."""
    answers = [one for one in project.answers() if one.stage not in (*SENIOR, *LEFT_OUT)]
    raters = {name: n for n, name in enumerate(dict.fromkeys(one.person for one in answers))}
    items = {number: n for n, number in enumerate(dict.fromkeys(one.item for one in answers))}
    return Judgements.of(
        [items[one.item] for one in answers],
        [raters[one.person] for one in answers],
        np.full(len(answers), np.nan),
        seconds=[np.nan if one.seconds is None else one.seconds for one in answers],
        at=[one.at for one in answers],
        rubric=[one.rubric_version for one in answers],
        repeat=[one.repeat_of is not None for one in answers],
        item_names=[str(number) for number in items],
        rater_names=list(raters),
        paired=False,
    )


def figures(
    judgements: Judgements, *, event: int = 0, ratings: bool = False, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Figures of all judgements, and of those under each version of the rubric.

    ``event`` says up to where the log was read. ``ratings``: misses count by the square of their
    size, as in exports, and there is no single right answer.
    """
    whole = _part(judgements, resamples, ratings=ratings)
    made = {"form": FORM, "event": event, "at": time.time(), **whole}
    versions = [int(version) for version in np.unique(judgements.rubric)]
    made["versions"] = (
        {
            str(version): _part(
                judgements.where(judgements.rubric == version), resamples, ratings=ratings
            )
            for version in versions[-VERSIONS:]
        }
        if len(versions) > 1
        else {}
    )
    return made


def _part(judgements: Judgements, resamples: int, *, ratings: bool) -> dict[str, Any]:
    """Figures of some judgements."""
    made: dict[str, Any] = {"judgements": len(judgements), "agreement": None}
    made |= {name: [] for name in ("over_time", "disputed", "groups", "by_rubric", "leanings")}
    made |= dict.fromkeys(("whom", "labels", "habits"))
    consensus = None if ratings else Consensus(judgements)
    made["raters"] = _raters(judgements, consensus) if len(judgements) else []
    if not len(judgements.said()):
        return made
    sides = judgements.sides()
    metric: Metric = "interval" if ratings else "nominal"
    measured = agreement(sides, metric=metric, resamples=resamples)
    made["whom"] = figures_labels.whom(judgements, ratings=ratings)
    if consensus is not None:
        made["labels"] = figures_labels.labels(consensus)
        made["habits"] = figures_labels.habits(consensus)
    made["agreement"] = {
        name: getattr(measured, name).as_json() for name in ("percent", "alpha", "fleiss", "gwet")
    } | {"items": measured.items, "metric": metric}
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
    made["disputed"] = [
        {
            "item": judgements.item_names[one.item],
            "raters": one.raters,
            "apart": one.apart,
            "votes": {f"{value:g}": count for value, count in sorted(one.votes.items())},
        }
        for one in most_disagreed(sides, count=30)
    ]
    return made


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
    """What raters differ in: language, region …"""
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


def write(path: Path, made: Mapping[str, Any]) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(made, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """What was worked out last; none before the first time, or where an older version did it."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made if made.get("form") == FORM else None


def main(arguments: Sequence[str]) -> None:
    """Work out the figures of a project and write them; a dynamic overlap learns from them too."""
    from backflip.feedback.store import open_store

    name, path = arguments
    os.nice(10)  # raters come first
    project = open_store().project(name)
    write(Path(path), of_project(project))
    if project.settings.overlap:
        project.learn_reliabilities()


if __name__ == "__main__":
    main(sys.argv[1:])
