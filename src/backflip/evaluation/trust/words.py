"""Verdicts in words on the numbers of a report, each only where an interval holds it."""

from __future__ import annotations

from collections.abc import Iterator

from backflip.evaluation.trust.pairs import Refusal
from backflip.evaluation.trust.probes import LOSES, ProbeResult
from backflip.evaluation.trust.report import TrustReport
from backflip.functional.statistics import FEWEST, Interval
from backflip.monitor.text import TOO_FEW, Estimate, beyond, ranged, share_ranged
from backflip.text import counted

__all__ = ["remarks_of"]

GIVEN_AWAY = 0.1
"""Shift, in deviations of the scores, from which on a change without worth is called rewarded."""
MANY_SURE = 0.25
"""Share of pairs of which a model may be sure before it is called saturated."""


def remarks_of(said: TrustReport) -> list[str]:
    """Sentences on these numbers, the gravest first; those of ``said.measured`` among them."""
    return [
        *_scores(said),
        *_golden(said),
        *said.measured.sentences,
        *_saturated(said),
        *_calibration(said),
        *_agreement(said),
        *_slices(said),
        *_members(said),
        *(line for probe in said.probes if (line := about_probe(probe))),
        *_few_probes(said),
    ]


def _scores(said: TrustReport) -> Iterator[str]:
    if said.unscored:
        yield (
            f"{counted(said.unscored, 'pair')} in none of these numbers: a score of theirs is not "
            "a number."
        )


def _golden(said: TrustReport) -> Iterator[str]:
    golden = said.golden
    if golden is None:
        return
    wrong = len(golden.failures) + golden.unscored
    if wrong:
        yield (
            f"{wrong} of {counted(golden.pairs, 'golden pair')} {'is' if wrong == 1 else 'are'} "
            "ordered wrong, or alike; they are listed."
        )
    else:
        yield f"All {counted(golden.pairs, 'golden pair')} are ordered right."


def _saturated(said: TrustReport) -> Iterator[str]:
    share, right = Estimate.of(said.certainty.share), Estimate.of(said.certainty.right)
    if beyond(share, MANY_SURE) > 0 and beyond(right, 0.99) < 0:
        many, its = share_ranged(share, beside=[MANY_SURE])
        hits, others = share_ranged(right, beside=[0.99])
        yield (
            f"Saturated: it claims 99 % or more on {many} of the pairs ({its}), and is right on "
            f"{hits} of those ({others})."
        )


def _calibration(said: TrustReport) -> Iterator[str]:
    scaled = said.rescaled
    if isinstance(scaled, Refusal):
        yield f"Temperature scaling was not measured: {scaled.reason}."
        return
    if (way := beyond(Estimate.of(scaled.gain), 0.0)) == 0:
        return
    value, ends = ranged(Estimate.of(scaled.gain), digits=3, beside=[0.0])
    what = "better" if way > 0 else "worse"
    low, high = sorted(scaled.temperatures)
    yield (
        f"Divided by a temperature fitted on other prompts ({low:.2f} and {high:.2f}), its "
        f"probabilities are {what}: log-loss before less after is {value} nats ({ends})."
    )


def _agreement(said: TrustReport) -> Iterator[str]:
    agreed = said.agreement
    if isinstance(agreed, Refusal):
        return
    way = beyond(Estimate.of(agreed.gap), 0.0)
    model, its = share_ranged(Estimate.of(agreed.model))
    raters, theirs = share_ranged(Estimate.of(agreed.raters))
    if way:
        more = "oftener" if way > 0 else "less often"
        yield (
            f"It agrees with a rater {more} than another rater does: {model} ({its}) against "
            f"{raters} ({theirs})."
        )
    if beyond(Estimate.of(agreed.raters), 0.65) < 0:
        yield (
            f"Noisy labels: two raters agree on {raters} of the pairs ({theirs}), so no model can "
            f"agree with more than about {share_ranged(Estimate.of(agreed.ceiling))[0]} of single "
            "judgements."
        )


def _slices(said: TrustReport) -> Iterator[str]:
    for column in said.columns:
        if column.worst is None:
            continue
        behind, level = Estimate.of(column.worst.behind), column.worst.behind.level
        value, ends = ranged(behind, digits=1, percent=True, beside=[0.0])
        yield (
            f"Worst {column.name}: {column.worst.name}, {value} points against the others "
            f"({level:.1%} interval {ends}, which allows for all that were compared)."
        )


def _members(said: TrustReport) -> Iterator[str]:
    members = said.members
    if members is None or beyond(Estimate.of(members.gap), 0.0) >= 0:
        return
    if (members.divided.units or 0) < FEWEST:
        return
    split, its = share_ranged(Estimate.of(members.divided))
    united, others = share_ranged(Estimate.of(members.united))
    yield (
        f"Disagreement of the members tells of errors: right on {split} ({its}) where they are "
        f"divided, on {united} ({others}) where they agree."
    )


def about_probe(probe: ProbeResult) -> str:
    """A sentence on a probe that a score fails; empty where no interval says so."""
    wins, shift = Estimate.of(probe.wins), Estimate.of(probe.shift)
    share, ends = share_ranged(wins, beside=[0.5])
    value, reach = ranged(shift, digits=2, beside=[0.0])
    moved = f"moves the score by {value} deviations ({reach})"
    if probe.expected == LOSES:
        if not probe.wins.enough or beyond(wins, 0.5) < 0:
            return ""
        return f"“{probe.name}” should lose and is not seen to: it wins on {share} ({ends})."
    if beyond(shift, GIVEN_AWAY) > 0:
        return f"Rewarded for nothing: “{probe.name}” {moved}, and wins on {share} ({ends})."
    return ""


def _few_probes(said: TrustReport) -> Iterator[str]:
    if said.probes and not any(_enough(probe.shift) for probe in said.probes):
        yield f"Probes stand on {counted(said.probes[0].answers, 'answer')}: {TOO_FEW}."


def _enough(interval: Interval) -> bool:
    return (interval.units or 0) >= FEWEST
