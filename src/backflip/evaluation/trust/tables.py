"""Tables of a report on a reward, for terminal and page alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backflip.evaluation.trust.golden import Golden
from backflip.evaluation.trust.pairs import Refusal
from backflip.evaluation.trust.report import TrustReport
from backflip.evaluation.trust.slices import Column
from backflip.functional.statistics import Interval
from backflip.monitor.text import Estimate, apart, ranged, share_ranged
from backflip.text import fixed

__all__ = ["Rows", "points", "share", "tables"]


@dataclass(frozen=True)
class Rows:
    """A table of text; heads that begin with # are of columns of numbers."""

    subject: str
    """calibration, length, probes, golden …, or the subject of a column."""
    title: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def tables(said: TrustReport) -> list[Rows]:
    """What is beside accuracy and calibration, as far as it was measured."""
    found = [_calibration(said), _lengths(said)]
    found += [_column(column) for column in said.columns]
    found += [rows for rows in (_agreement(said), _probes(said), _members(said)) if rows]
    if said.golden is not None and said.golden.failures:
        found.append(_golden(said.golden))
    return found


def share(interval: Interval) -> tuple[str, str]:
    """A share and its interval; a dash where there is none."""
    if math.isnan(interval.estimate):
        return "–", ""
    return share_ranged(Estimate.of(interval))


def _number(interval: Interval, digits: int = 3) -> tuple[str, str]:
    """A number and its interval."""
    if not math.isfinite(interval.estimate):
        return "–", ""
    value, ends = ranged(Estimate.of(interval), digits=digits)
    return value, ends or "unknown"


def _slope(interval: Interval) -> tuple[str, str]:
    """A slope; where every pair is right by its score, no finite one is the best."""
    if math.isinf(interval.estimate):
        return "no limit", "none is wrong" if interval.estimate > 0 else "all are wrong"
    return _number(interval, 2)


def points(interval: Interval) -> tuple[str, str]:
    """A difference of shares in points."""
    if math.isnan(interval.estimate):
        return "–", ""
    value, ends = ranged(Estimate.of(interval), digits=1, percent=True, beside=(0.0,))
    return value, ends or "unknown"


def _calibration(said: TrustReport) -> Rows:
    """Before and after temperature scaling."""
    measured, scaled = said.measured, said.rescaled
    before = {
        "log-loss (guess: 0.693)": _number(measured.log_loss),
        "Brier score (guess: 0.25)": _number(measured.brier),
        "calibration error": (fixed(measured.ece, 3), ""),
        "slope (calibrated: 1)": _slope(measured.slope),
    }
    heads = ("", "#as it is", "95 % interval", "#rescaled", "95 % interval")
    if isinstance(scaled, Refusal):
        rows = [(name, *cells, "–", "") for name, cells in before.items()]
    else:
        after = (
            _number(scaled.log_loss),
            _number(scaled.brier),
            (fixed(scaled.ece, 3), ""),
            _slope(scaled.slope),
        )
        rows = [(n, *cells, *then) for (n, cells), then in zip(before.items(), after, strict=True)]
    if math.isfinite(said.ece_if_calibrated):
        chance = fixed(said.ece_if_calibrated, 3)
        rows.insert(3, ("of it by chance, were it calibrated", chance, "", "", ""))
    return Rows("calibration", "calibration", heads, rows)


def _lengths(said: TrustReport) -> Rows:
    measured = said.measured
    rows = [
        ("“the longer reply wins”", str(measured.pairs), *share(measured.longer)),
        ("“the shorter reply wins”", str(measured.pairs), *share(measured.shorter)),
        ("accuracy less the better of these, points", "", *points(measured.over_length)),
        *(
            (f"accuracy: {s.name}", str(s.pairs), *share(s.accuracy))
            for s in measured.slices
            if s.pairs < measured.pairs  # or it would say the same once more
        ),
        ("longer less shorter preferred, points", "", *points(said.length_gap)),
    ]
    return Rows("length", "length", ("", "#pairs", "#measured", "95 % interval"), rows)


def _column(column: Column) -> Rows:
    rows = [(s.name, str(s.pairs), *share(s.accuracy)) for s in column.slices]
    rows += [(text, "", "–", "") for text in column.refused]
    named = "" if column.source == column.name else f" (column {column.source})"
    heads = (column.name, "#pairs", "#accuracy", "95 % interval")
    return Rows(column.name, f"by {column.name}{named}", heads, rows)


def _agreement(said: TrustReport) -> Rows | None:
    agreed = said.agreement
    if isinstance(agreed, Refusal):
        return None
    rows = [
        ("two raters agree", *share(agreed.raters)),
        ("the model agrees with a rater", *share(agreed.model)),
        ("model less rater, points", *points(agreed.gap)),
        ("at most any model could", *share(agreed.ceiling)),
    ]
    title = f"single judgements: {agreed.judgements} of {agreed.pairs} pairs"
    return Rows("agreement", title, ("", "#measured", "95 % interval"), rows)


def _probes(said: TrustReport) -> Rows | None:
    heads = ("probe", "expected", "#answers", "#shift", "95 % interval", "#wins", "95 % interval")
    words = {"loses": "loses", "same": "no gain"}
    rows = [
        (p.name, words[p.expected], str(p.answers), *_number(p.shift, 2), *share(p.wins))
        for p in said.probes
    ]
    title = "probes: shift of the score in deviations, and how often the changed answer wins"
    return Rows("probes", title, heads, rows) if rows else None


def _members(said: TrustReport) -> Rows | None:
    members = said.members
    if members is None:
        return None
    rows = [(f"member {n}", *share(one)) for n, one in enumerate(members.accuracies, start=1)]
    rows += [
        ("ensemble less its members' mean, points", *points(members.gain)),
        ("where all members agree", *share(members.united)),
        ("where they are divided", *share(members.divided)),
    ]
    return Rows("ensemble", "ensemble", ("", "#accuracy", "95 % interval"), rows)


def _golden(golden: Golden) -> Rows:
    heads = ("golden pair", "#score by", "prompt", "must win", "must lose")
    rows = [
        (f.where, apart([f.by, 0.0], digits=2)[0], f.prompt, f.better, f.worse)
        for f in golden.failures
    ]
    title = f"golden pairs that fail: {len(rows)} of {golden.pairs}"
    return Rows("golden", title, heads, rows)
