"""Drift while a project runs: agreement over time and by rubric, and preferences by week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtrit

from backflip.feedback.statistics.agreement import Agreement, Metric, agreement, alpha
from backflip.feedback.statistics.judgements import Floats, Ints, Judgements
from backflip.functional.statistics import Interval, pearson, share_interval, wilson

WEEK = 7 * 24 * 3600.0
"""Seconds."""
FEWEST = 3
"""Points, from which on a slope has an error."""
ENOUGH = 30
"""Points, from which on its interval means something."""


@dataclass(frozen=True)
class Moment:
    """Agreement on the items that were finished within a stretch of time."""

    start: float
    """Unix seconds, as is ``end``."""
    end: float
    alpha: Interval
    items: int


def alpha_over_time(
    judgements: Judgements, *, moments: int = 12, metric: Metric = "nominal", resamples: int = 300
) -> list[Moment]:
    """α in stretches of equally many items, each item in the stretch of its newest judgement."""
    said = judgements.said()
    newest = np.full(said.items, -np.inf)
    np.maximum.at(newest, said.item, said.at)
    several = np.flatnonzero(np.bincount(said.item, minlength=said.items) >= 2)
    several = several[np.argsort(newest[several], kind="stable")]
    stretch = np.full(said.items, -1)
    found = list[Moment]()
    for k, items in enumerate(np.array_split(several, max(1, min(moments, len(several))))):
        if not len(items):
            break
        stretch[items] = k
        rows = said.where(stretch[said.item] == k)
        measured = alpha(rows, metric=metric, resamples=resamples)
        times = newest[items]
        found.append(Moment(float(times.min()), float(times.max()), measured, len(items)))
    return found


def by_rubric(
    judgements: Judgements, *, metric: Metric = "nominal", resamples: int = 1000
) -> dict[int, Agreement]:
    """Agreement among judgements made under the same version of the rubric, by version."""
    said = judgements.said()
    return {
        int(version): agreement(
            said.where(said.rubric == version), metric=metric, resamples=resamples
        )
        for version in np.unique(said.rubric)
    }


@dataclass(frozen=True)
class Leaning:
    """Which way choices went in some stretch: of pairs that differ in a feature, without ties."""

    label: str
    """"week 3" or "rubric 2"."""
    share: Interval
    """Share of choices for the answer that has more of the feature."""
    choices: int


@dataclass(frozen=True)
class Leanings:
    """Drift of the preference for a feature."""

    feature: str
    by_week: list[Leaning]
    by_rubric: list[Leaning]
    trend: Interval
    """Change of the share per week; its interval knows that choices of a rater go together."""


def leanings(judgements: Judgements, feature: str, *, level: float = 0.95) -> Leanings:
    """Whether people came to prefer longer answers (or lists …) more, or less, over the weeks.

    A raw share: items that changed over the weeks move it as people do.
    """
    said = judgements.sides().said()
    more = said.value * np.sign(said.features[feature][said.item])
    said, more = said.where(more != 0), more[more != 0]
    share = (more + 1) / 2
    start = said.at.min(initial=np.inf)
    weeks = (said.at - start) / WEEK
    week = weeks.astype(np.int64)
    return Leanings(
        feature=feature,
        by_week=_split(share, said.rater, week, "week", 1, level),
        by_rubric=_split(share, said.rater, said.rubric, "rubric", 0, level),
        trend=trend(weeks, share, said.rater, level=level),
    )


def _split(
    share: Floats, rater: Ints, part: Ints, name: str, offset: int, level: float
) -> list[Leaning]:
    found = list[Leaning]()
    for k in np.unique(part):
        rows = part == k
        interval = clustered_share(share[rows], rater[rows], level=level)
        found.append(Leaning(f"{name} {int(k) + offset}", interval, int(rows.sum())))
    return found


def clustered_share(share: Floats, rater: Ints, *, level: float = 0.95) -> Interval:
    """Mean of choices (0, ½, 1) whose raters are the sample, by the sandwich (Liang and Zeger,
    1986) on the scale of log odds, with Student's t of raters − 1.

    The interval answers "what would other raters like these say", so two raters make it wide
    however much they answered. Where there is one rater, their choices are the sample.
    """
    n, p = len(share), float(share.mean()) if len(share) else np.nan
    if n < 2:
        return wilson(np.nan_to_num(p) * n, n, level=level)
    who, many = _clusters(rater, n)
    if p in (0.0, 1.0):  # no spread to learn from: as many choices as there are raters
        return share_interval(share, who, level=level)
    lumps = np.bincount(who, weights=share - p)
    error = np.sqrt((lumps**2).sum() * many / (many - 1)) / n / (p * (1 - p))
    reach = float(stdtrit(many - 1, (1 + level) / 2)) * error
    low, high = expit(logit(p) - reach), expit(logit(p) + reach)
    return Interval(p, float(low), float(high), level)


def clustered_mean(x: Floats, cluster: Ints, *, level: float = 0.95) -> Interval:
    """Mean of any numbers, as ``clustered_share`` but on their own scale."""
    n = len(x)
    if n < 2:
        return Interval(float(x.mean()) if n else np.nan, -np.inf, np.inf, level)
    who, many = _clusters(cluster, n)
    lumps = np.bincount(who, weights=x - x.mean())
    error = np.sqrt((lumps**2).sum() * many / (many - 1)) / n
    reach = float(stdtrit(many - 1, (1 + level) / 2)) * error
    return Interval(float(x.mean()), float(x.mean() - reach), float(x.mean() + reach), level)


def trend(x: Floats, y: Floats, cluster: Ints | None = None, *, level: float = 0.95) -> Interval:
    """Slope of y on x by least squares, with the sandwich; rows of a ``cluster`` go together.

    Fewer than ``ENOUGH`` rows have a slope without ends: three on a line would have no error.
    """
    if len(x) < FEWEST or np.isnan(pearson(x, y)):
        return Interval(np.nan, -np.inf, np.inf, level)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    if len(x) < ENOUGH:
        return Interval(slope, -np.inf, np.inf, level)
    who, many = _clusters(cluster, len(x))
    lumps = np.bincount(who, weights=centred * residual)
    error = np.sqrt((lumps**2).sum() * many / (many - 1)) / (centred @ centred)
    reach = float(stdtrit(many - 1, (1 + level) / 2)) * error
    return Interval(slope, slope - reach, slope + reach, level)


def _clusters(cluster: Ints | None, rows: int) -> tuple[Ints, int]:
    """Number the clusters; where there is only one, rows are the sample."""
    if cluster is not None and len(cluster):
        _, who = np.unique(cluster, return_inverse=True)
        if who.max() > 0:
            return who, int(who.max()) + 1
    return np.arange(rows), rows
