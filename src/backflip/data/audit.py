"""An audit of data: faults, counted, with examples and what to do about them."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from backflip.data.chat import ChatTemplate
from backflip.data.formats import Loaded
from backflip.data.lengths import Sizes, answers_of
from backflip.data.marks import marked, placed, unwritten
from backflip.data.readings import Reading, first_readings
from backflip.data.records import (
    Comparison,
    Labelled,
    Messages,
    Provenance,
    Record,
    Tally,
    prompt_of,
)
from backflip.data.splits import opening, opening_key
from backflip.data.template_fields import fields_of

Level: TypeAlias = Literal["info", "warning", "error"]
SHOWN = 3
"""Examples of a finding."""
FEWEST = 30
"""Prompts below which nothing is said of length beyond the count: ``statistics.FEWEST``."""
QUOTED = 40
"""Letters of a row's text that are shown beside its line."""
CORRECT = "correct or remove it"
BEST_BY_NAME = frozenset({"preference", "hh", "openai_preference", "shared_words"})
"""Formats whose columns name the better answer, so that its place tells nothing."""


@dataclass(frozen=True)
class Finding:
    """One thing that was counted."""

    name: str
    count: int
    share: float
    """``count`` over the rows that could have had it; 0 where there are none."""
    examples: tuple[str, ...] = ()
    advice: str = ""
    level: Level = "info"


@dataclass(frozen=True)
class Audit:
    """All that was counted in one dataset."""

    source: str
    format: str
    kind: str
    """The name of one record."""
    total: int
    """Rows read: usable and not."""
    findings: tuple[Finding, ...]
    lengths: Mapping[str, tuple[float, float, float, float]] = field(
        default_factory=dict[str, tuple[float, float, float, float]]
    )
    """Mean, median, 90th percentile and maximum, of ``prompt`` and ``answer``."""
    unit: str = "words"
    """The unit of lengths: tokens where a template was given."""
    unchecked: tuple[str, ...] = ()
    """Checks that were not made, and what to give so that they are."""
    said: str = ""
    """Sentences on reading the data: conversions, and of people's answers their basis."""
    shown: tuple[Reading, ...] = ()
    """The first rows as a model reads them; none without a template."""

    def rows(self) -> list[Finding]:
        """Findings, the worst first, what was not found left out."""
        order = {"error": 0, "warning": 1, "info": 2}
        found = [f for f in self.findings if f.count]
        return sorted(found, key=lambda f: order[f.level])

    @property
    def errors(self) -> int:
        """Rows that cannot be used at all."""
        return sum(f.count for f in self.findings if f.level == "error")

    def finding(self, name: str) -> Finding:
        """The finding of this name; zero where nothing was counted."""
        return next((f for f in self.findings if f.name == name), Finding(name, 0, 0.0))


def audit(
    loaded: Loaded[Any],
    *,
    template: ChatTemplate | None = None,
    max_length: int | None = None,
    against: Sequence[Record] | None = None,
) -> Audit:
    """Count what is wrong with a dataset.

    Args:
        loaded: the records, with what was dropped while reading them.
        template: turns words into tokens; without it lengths are words.
        max_length: longest prompt and answer together, in the same unit.
        against: records of another split, whose prompts should not be in this one.

    """
    records = [replace(r, where=_place(r.where, loaded.source)) for r in loaded.records]
    sizes = Sizes(records, template)
    findings: list[Finding] = [
        *_dropped(loaded, sizes),
        *_duplicates(records),
        *_near_duplicates(records),
        *_too_long(records, sizes, max_length),
        *_control_tokens(records, template),
        *_verdicts(records, sizes, loaded.format),
        *([] if against is None else _leaks(records, against)),
    ]
    return Audit(
        source=loaded.source,
        format=loaded.format,
        kind=_word(records[0]) if records else "",
        total=loaded.rows,
        findings=tuple(findings),
        lengths=sizes.summary(),
        unit=sizes.unit,
        unchecked=tuple(_unchecked(records, template, against)),
        said="\n".join(_said(loaded, template)),
        shown=first_readings(loaded.records, template, max_length) if template else (),
    )


def _dropped(loaded: Loaded[Any], sizes: Sizes) -> Iterable[Finding]:
    """Rows that no record was made of, and records that the template refuses."""
    yield from _unusable(loaded.dropped, loaded.rows, loaded.source, {})
    yield from _unusable(sizes.refused, loaded.rows, loaded.source, sizes.remedies)


def _verdicts(records: Sequence[Record], sizes: Sizes, format: str) -> Iterable[Finding]:
    """Findings about what the data calls good or better."""
    comparisons = [record for record in records if isinstance(record, Comparison)]
    labelled = [record for record in records if isinstance(record, Labelled)]
    if labelled:
        yield from _one_kind(labelled)
        yield from _both_kinds(labelled)
        yield from _length_of_good(labelled, sizes)
    if comparisons:
        yield from _contradictions(comparisons)
        yield from _labels(comparisons, sizes, format)


def _said(loaded: Loaded[Any], template: ChatTemplate | None) -> Iterable[str]:
    """Choices and leftovers of reading, and what the template does not write: a sentence each."""
    yield from filter(None, (loaded.converted, *loaded.notes, loaded.unread_line(None)))
    yield from placed(loaded.records)
    if template is not None:
        yield from unwritten(loaded.records, template)


def _unchecked(
    records: Sequence[Record], template: ChatTemplate | None, against: Sequence[Record] | None
) -> Iterable[str]:
    if template is None:
        talks = (said for r in records for said in (prompt_of(r), *answers_of(r)))
        fields = sorted({name for said in talks for name in fields_of(said)})
        if fields:
            yield f"whether the chat template writes {', '.join(fields)} (give model=smollm2)"
        yield "lengths in tokens, twins after truncation (give model=smollm2)"
    if against is None:
        yield "whether held-out prompts are in here too (give against=HELD_OUT)"


def _place(where: Provenance, source: str) -> Provenance:
    """The line alone; with the file's name where the source is a folder."""
    return Provenance("" if where.source == source else Path(where.source).name, where.line)


def _row(record: Record) -> str:
    """Where a record stands, and how it begins."""
    said = " ".join(opening(record)[-1].content.split())
    return f"{record.where} “{said if len(said) <= QUOTED else said[:QUOTED] + '…'}”"


# ---- single findings


def _finding(
    name: str, where: Sequence[str], total: int, advice: str, level: Level = "warning"
) -> Finding:
    share = len(where) / total if total else 0.0
    return Finding(name, len(where), share, tuple(where[:SHOWN]), advice, level)


def _unusable(
    dropped: Tally, total: int, source: str, remedies: Mapping[str, str]
) -> Iterable[Finding]:
    """Rows that were dropped, by reason, with the remedy where the reason has one of its own."""
    for reason, count in dropped.counts.items():
        advice = f"the row is left out of training; {remedies.get(reason) or CORRECT}"
        examples = tuple(place.removeprefix(source) for place in dropped.examples[reason])
        yield Finding(reason, count, count / total, examples, advice, "error")


def _duplicates(records: Sequence[Record]) -> Iterable[Finding]:
    seen: dict[Record, Provenance] = {}
    repeats: list[str] = []
    for record in records:
        if record in seen:
            repeats.append(f"{_row(record)} = {seen[record]}")
        else:
            seen[record] = record.where
    yield _finding("duplicate rows", repeats, len(records), "each copy weighs once more; keep one")


def _near_duplicates(records: Sequence[Record]) -> Iterable[Finding]:
    """Prompts that differ from an earlier one by case, white space or punctuation only."""
    groups: dict[str, dict[Messages, Provenance]] = defaultdict(dict)
    where: list[str] = []
    for record in records:
        key = "".join(letter for letter in opening_key(record) if letter.isalnum())
        group, start = groups[key], opening(record)
        if group and start not in group:
            where.append(f"{_row(record)} ~ {next(iter(group.values()))}")
        group.setdefault(start, record.where)
    advice = "they differ in case, punctuation or white space only; keep one of each"
    yield _finding("near-duplicate prompts", where, len(records), advice)


def _too_long(records: Sequence[Record], sizes: Sizes, max_length: int | None) -> Iterable[Finding]:
    if max_length is None:
        return
    over, twins, swallowed = list[str](), list[str](), list[str]()
    for record, (prompt, answers) in zip(records, sizes.parts, strict=True):
        if len(prompt) + max((len(a) for a in answers), default=0) > max_length:
            over.append(_row(record))
        room = max(max_length - len(prompt), 0)
        if answers and room == 0:
            swallowed.append(_row(record))
        if len({tuple(a[:room]) for a in answers}) < len(answers):
            twins.append(_row(record))
    advice = "dropped by default; raise max_length, or set too_long=cut to shorten the prompt"
    yield _finding(f"longer than {max_length} {sizes.unit}", over, len(records), advice)
    advice = "cut at the end, the answers would be the same and the label noise; never cut answers"
    yield _finding("answers identical after truncation", twins, len(records), advice)
    advice = "no room is left for an answer; raise max_length"
    yield _finding("prompt alone fills the length", swallowed, len(records), advice)


def _contradictions(records: Sequence[Comparison]) -> Iterable[Finding]:
    """Pairs that are somewhere else in the data with the opposite label."""
    seen: dict[tuple[Messages, Messages, Messages], Provenance] = {}
    swapped: list[str] = []
    for record in records:
        if len(record.answers) != 2 or record.tied:
            continue
        best, worst = record.best, record.answers[1 - record.rank.index(0)]
        if (record.prompt, worst, best) in seen:
            swapped.append(f"{_row(record)} against {seen[record.prompt, worst, best]}")
        seen.setdefault((record.prompt, best, worst), record.where)
    advice = "both orders are in the data; make it a tie or a soft label"
    yield _finding("contradictory pairs", swapped, len(records), advice)


def _labels(records: Sequence[Comparison], sizes: Sizes, form: str) -> Iterable[Finding]:
    """Ties, the place that wins, and how often the longer reply won."""
    ties = [_row(record) for record in records if record.tied]
    yield _finding("ties", ties, len(records), "learnt as such by a tie model only", "info")
    decided = [r for r in records if not r.tied]
    first = [_row(r) for r in decided if r.rank[0] == 0]
    if form not in BEST_BY_NAME or len(first) < len(decided):
        yield _finding("first answer is the best", first, len(decided), "", "info")
    yield from _length_of_best(records, sizes)


def _length_of_best(records: Sequence[Comparison], sizes: Sizes) -> Iterable[Finding]:
    """How often the longer of two replies won, or the shorter where that predicts the label."""
    longer, shorter, prompts = list[str](), list[str](), set[str]()
    for record, (_, answers) in zip(records, sizes.parts, strict=True):
        if record.tied or len(record.answers) != 2:
            continue
        best = record.rank.index(0)
        if gap := len(answers[best]) - len(answers[1 - best]):
            prompts.add(opening_key(record))
            (longer if gap > 0 else shorter).append(_row(record))
    if not (unequal := len(longer) + len(shorter)):
        return
    biased = _biased(len(longer), unequal, len(prompts))
    name, where = "longer reply won", longer
    if biased and len(shorter) > len(longer):
        name, where = "shorter reply won", shorter
    low, high = wilson(len(where), unequal)
    advice = f"95 % interval {100 * low:.0f} to {100 * high:.0f} %, of pairs that differ in length"
    if biased:
        advice += "; length alone predicts the label, so compare the reward model with it"
    elif len(prompts) < FEWEST:
        advice += "; too few to tell"
    yield _finding(name, where, unequal, advice, "warning" if biased else "info")


def _biased(longer: int, unequal: int, prompts: int) -> bool:
    """Whether length goes with the label, as far as rows with so many prompts can tell."""
    if prompts < FEWEST or not unequal:
        return False
    low, high = wilson(longer, unequal)
    return not low <= 0.5 <= high and abs(longer / unequal - 0.5) > 0.1


def _one_kind(records: Sequence[Labelled]) -> Iterable[Finding]:
    """How many are good; and a problem where all are, or none is."""
    good = [_row(record) for record in records if record.label]
    yield _finding("labelled good", good, len(records), "", "info")
    if 0 < len(good) < len(records):
        return
    kind, other = ("good", "bad") if good else ("bad", "good")
    advice = f"nothing tells good from bad: kto and its kin need {other} answers too"
    where = [_row(record) for record in records]
    yield _finding(f"all answers labelled {kind}", where, len(records), advice)


def _both_kinds(records: Sequence[Labelled]) -> Iterable[Finding]:
    """Rows whose prompt, and rows whose very answer, has the other label elsewhere."""
    prompts: dict[Messages, set[bool]] = defaultdict(set)
    answers: dict[tuple[Messages, Messages], set[bool]] = defaultdict(set)
    for record in records:
        prompts[record.prompt].add(record.label)
        answers[record.prompt, record.answer].add(record.label)
    shared = [_row(r) for r in records if len(prompts[r.prompt]) == 2]
    advice = "such prompts can be learnt from as comparisons too"
    yield _finding("prompt has good and bad answers", shared, len(records), advice, "info")
    torn = [_row(r) for r in records if len(answers[r.prompt, r.answer]) == 2]
    advice = "people disagree, and one label undoes the other; keep the majority's, or neither"
    yield _finding("same answer labelled good and bad", torn, len(records), advice)


def _length_of_good(records: Sequence[Labelled], sizes: Sizes) -> Iterable[Finding]:
    """How many good answers are longer than the median bad one, or shorter where that tells."""
    lengths = [len(answers[0]) for _, answers in sizes.parts]
    good = [n for n, record in zip(lengths, records, strict=True) if record.label]
    bad = [n for n, record in zip(lengths, records, strict=True) if not record.label]
    if not good or not bad:
        return
    middle = statistics.median(bad)
    pairs = list(zip(lengths, records, strict=True))
    longer = [_row(record) for n, record in pairs if record.label and n > middle]
    shorter = [_row(record) for n, record in pairs if record.label and n < middle]
    unequal = len(longer) + len(shorter)
    prompts = len({opening_key(record) for record in records if record.label})
    biased = _biased(len(longer), unequal, prompts)
    advice = (
        f"{sizes.unit} on average: good {statistics.mean(good):.0f}, bad {statistics.mean(bad):.0f}"
    )
    if biased:
        advice += "; length alone predicts the label, so watch the length of what is generated"
    side, where = "longer", longer
    if biased and len(shorter) > len(longer):
        side, where = "shorter", shorter
    level = "warning" if biased else "info"
    yield _finding(f"good answer {side} than the median bad", where, unequal, advice, level)


def _leaks(records: Sequence[Record], against: Sequence[Record]) -> Iterable[Finding]:
    other: dict[str, Provenance] = {}
    for record in against:
        other.setdefault(opening_key(record), record.where)
    where = [
        f"{_row(record)} = {other[opening_key(record)]}"
        for record in records
        if opening_key(record) in other
    ]
    advice = "measured on such rows, a model looks better than it is; split by prompt"
    yield _finding("prompts in both train and test", where, len(records), advice)


def _control_tokens(records: Sequence[Record], template: ChatTemplate | None) -> Iterable[Finding]:
    """Messages that would end a turn, or begin another, in the middle of their text."""
    where = [_row(record) for record, _ in marked(records, template)]
    advice = "the model would read them as the template's own; remove them from the text"
    yield _finding("control tokens in the text", where, len(records), advice)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    p, shrink = successes / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / shrink
    half = z * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2) / shrink
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _word(record: Record) -> str:
    return "Labelled answer" if isinstance(record, Labelled) else type(record).__name__
