"""One rater at a time: agreement with the others and with gold, pace, ties, steadiness, drift.

Everything here is counting, so that it may run whenever somebody looks. Bias gauges (``gauges``)
and reliabilities (``dawid_skene``) are fits, and jobs. Of pairs the better answer counts, not the
strength.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backflip.feedback.statistics.aggregate import wilson_bounds
from backflip.feedback.statistics.drift import WEEK, trend
from backflip.feedback.statistics.judgements import Flags, Floats, Ints, Judgements
from backflip.functional.statistics import Interval

PAUSE = 30 * 60.0
"""Seconds without an answer after which a new session begins."""
OUTLIER = 3.5
"""Robust standard deviations (Iglewicz and Hoaglin, 1993)."""
FEWEST_TIMES = 3
"""Timings of an item from which on its length is allowed for."""


@dataclass(frozen=True)
class Pace:
    """Pace of a rater."""

    median: float
    """Seconds per item."""
    against_others: float
    """Median of seconds over the item's median: 0.5 is twice as fast as the others there."""
    fast: Ints
    """Rows of the judgements that came far too fast for this rater and item."""
    slow: Ints
    """Rows that took far too long: a cup of coffee."""
    per_hour: Interval
    """Change of log seconds per hour of a session."""


@dataclass(frozen=True)
class RaterReport:
    """Report on one rater without a model. Shares are 0 to 1, intervals Wilson's."""

    name: str
    judgements: int
    agreement: Interval
    """Chance that another rater of the same item said the same."""
    gold: Interval
    """Share right of items with a gold preference; a tie where gold knows better counts half."""
    gold_items: int
    ties: Interval
    silent: Interval
    """Share of "cannot tell" and "both bad"."""
    consistency: Interval
    """Share of repeated items on which the rater said the same again."""
    repeats: int
    pace: Pace
    tiring: Interval
    """Change of agreement with the others per hour of a session."""
    weekly: Interval
    """Change of agreement with the others per week."""
    sessions: int


def rater_reports(judgements: Judgements, *, level: float = 0.95) -> list[RaterReport]:
    """A report for each rater, those who have not answered included."""
    marked = judgements.sides()
    said = marked.said()
    count = np.bincount(marked.rater[~marked.repeat], minlength=marked.raters)
    unsaid = np.isnan(marked.value) & ~marked.repeat
    silent = np.bincount(marked.rater[unsaid], minlength=marked.raters)
    shared, same = with_others(said)
    hours, session = sessions(marked.rater, marked.at)
    paces = _paces(marked, hours_of=hours, level=level)
    hours = hours[~marked.repeat & ~np.isnan(marked.value)]
    agree = _shares(said.rater[shared], same[shared], marked.raters, level)
    gold = _gold(said, level)
    ties = _shares(said.rater, (said.value == 0).astype(float), marked.raters, level)
    steady = _consistency(marked, level)
    sat = _session_count(marked.rater, session, marked.raters)
    weeks = (said.at - said.at.min(initial=np.inf)) / WEEK
    quiet = _shares_of(silent, count, level)
    rows_of = _rows_of(np.where(shared, said.rater, marked.raters), marked.raters)
    reports = list[RaterReport]()
    for k in range(marked.raters):
        mine = rows_of[k]
        reports.append(
            RaterReport(
                name=marked.rater_names[k],
                judgements=int(count[k]),
                agreement=agree[0][k],
                gold=gold[0][k],
                gold_items=int(gold[1][k]),
                ties=ties[0][k] if marked.paired else Interval(np.nan, 0.0, 1.0, level),
                silent=quiet[k],
                consistency=steady[0][k],
                repeats=int(steady[1][k]),
                pace=paces[k],
                tiring=trend(hours[mine], same[mine], level=level),
                weekly=trend(weeks[mine], same[mine], level=level),
                sessions=int(sat[k]),
            )
        )
    return reports


def with_others(said: Judgements) -> tuple[Flags, Floats]:
    """For each judgement [N] whether others judged the item, and the share of them who said the
    same.
    """
    classes, code = said.classes()
    size = max(len(classes), 1)
    votes = np.bincount(said.item * size + code, minlength=said.items * size).reshape(-1, size)
    others = votes.sum(1)[said.item] - 1
    alike = votes[said.item, code] - 1
    return others > 0, alike / np.maximum(others, 1)


def sessions(rater: Ints, at: Floats) -> tuple[Floats, Ints]:
    """For each judgement [N] hours since its session began, and which session of the rater it is
    in.
    """
    order = np.lexsort((at, rater))
    who, when = rater[order], at[order]
    new_rater = np.diff(who, prepend=-1) != 0
    new = new_rater | (np.diff(when, prepend=-np.inf) > PAUSE)
    begin = np.flatnonzero(new)
    length = np.diff(begin, append=len(order))
    hours, number = np.empty(len(order)), np.empty(len(order), np.int64)
    hours[order] = (when - np.repeat(when[begin], length)) / 3600
    total = np.repeat(np.arange(len(begin)), length)
    first = np.maximum.accumulate(np.where(new_rater, total, 0))
    number[order] = total - first
    return hours, number


def _rows_of(rater: Ints, raters: int) -> list[Ints]:
    """For each rater the rows that are theirs; numbers of R and above are nobody's."""
    order = np.argsort(rater, kind="stable")
    return np.split(order, np.searchsorted(rater[order], np.arange(raters + 1)))[1:-1]


def _session_count(rater: Ints, session: Ints, raters: int) -> Ints:
    found = np.zeros(raters, np.int64)
    np.maximum.at(found, rater, session + 1)
    return found


def _shares(rater: Ints, hit: Floats, raters: int, level: float) -> tuple[list[Interval], Ints]:
    n = np.bincount(rater, minlength=raters)
    return _shares_of(np.bincount(rater, weights=hit, minlength=raters), n, level), n


def _shares_of(hits: Floats | Ints, n: Ints, level: float) -> list[Interval]:
    share = np.where(n > 0, hits / np.maximum(n, 1), np.nan)
    low, high = wilson_bounds(np.nan_to_num(share), np.maximum(n, 1), level=level)
    return [
        Interval(float(p), float(a), float(b), level) if m else Interval(np.nan, 0.0, 1.0, level)
        for p, a, b, m in zip(share, low, high, n, strict=True)
    ]


def _gold(said: Judgements, level: float) -> tuple[list[Interval], Ints]:
    gold = said.gold[said.item]
    rows = ~np.isnan(gold)
    truth, value = gold[rows], said.value[rows]
    hit = (value == truth).astype(float)
    if said.paired:
        truth = np.sign(truth)
        hit = np.where((value == 0) & (truth != 0), 0.5, value == truth)
    return _shares(said.rater[rows], hit, said.raters, level)


def _consistency(marked: Judgements, level: float) -> tuple[list[Interval], Ints]:
    """Every repeat against the first answer to the item by the same rater."""
    known = np.flatnonzero(~np.isnan(marked.value))
    key = marked.rater[known] * marked.items + marked.item[known]
    original = known[~marked.repeat[known]]
    original_key = marked.rater[original] * marked.items + marked.item[original]
    order = np.argsort(original_key, kind="stable")
    again = known[marked.repeat[known]]
    again_key = key[marked.repeat[known]]
    place = np.searchsorted(original_key[order], again_key)
    place = np.minimum(place, max(len(order) - 1, 0))
    found = original_key[order][place] == again_key if len(order) else np.zeros(len(again), bool)
    first = original[order][place[found]] if len(order) else original
    again = again[found]
    hit = (marked.value[again] == marked.value[first]).astype(float)
    return _shares(marked.rater[again], hit, marked.raters, level)


def group_median(group: Ints, x: Floats, groups: int) -> Floats:
    """[G] Median of x in each group (the mean of the middle two); not a number for empty groups."""
    order = np.lexsort((x, group))
    count = np.bincount(group, minlength=groups)
    begin = count.cumsum() - count
    sorted_x = np.append(x[order], np.nan)
    low = np.minimum(begin + (count - 1) // 2, len(x))
    high = np.minimum(begin + count // 2, len(x))
    return np.where(count > 0, (sorted_x[low] + sorted_x[high]) / 2, np.nan)


def _paces(marked: Judgements, *, hours_of: Floats, level: float) -> list[Pace]:
    """Log seconds less the rater's median less the item's: what is left says what is odd."""
    rows = np.flatnonzero(marked.seconds > 0)
    rater, item, logs = marked.rater[rows], marked.item[rows], np.log(marked.seconds[rows])
    own = group_median(rater, logs, marked.raters)
    timings = np.bincount(item, minlength=marked.items)[item]
    length = np.where(
        timings >= FEWEST_TIMES, group_median(item, logs - own[rater], marked.items)[item], 0.0
    )
    left = logs - own[rater] - length
    width = 1.4826 * float(np.median(np.abs(left - np.median(left)))) if len(left) else np.nan
    odd = np.zeros(len(rows)) if not width > 0 else left / width
    several = timings >= FEWEST_TIMES
    against = logs - group_median(item, logs, marked.items)[item]
    ratio = np.exp(group_median(rater[several], against[several], marked.raters))
    found = list[Pace]()
    for k, mine in enumerate(_rows_of(rater, marked.raters)):
        found.append(
            Pace(
                median=float(np.exp(own[k])),
                against_others=float(ratio[k]),
                fast=rows[mine[odd[mine] < -OUTLIER]],
                slow=rows[mine[odd[mine] > OUTLIER]],
                per_hour=trend(hours_of[rows[mine]], logs[mine], level=level),
            )
        )
    return found
