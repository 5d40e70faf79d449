"""Records of a project, by its kind.

==========  ===================================================================================
compare     a comparison of two, tied where the label is a tie
rank        a ranking of K by the mean of P(better) over the others; pairs that tie share a place
rate        answers to the same prompt, ranked by their mean rating
talk        turn by turn: what was picked or written above what was offered beside it
write       a demonstration; and what was made of a draft is better than the draft
thumbs      a label
steps       the whole solution, good where no step is bad
==========  ===================================================================================

Where raters are evenly split there is no hard label: it is counted and left out. As soft labels
such pairs are ½.

Votes on principles, marked passages and clips hold nothing for a language model by themselves; they
are exported as labels and answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

from backflip.data.conversions import KINDS, WAYS, convert, plural
from backflip.data.formats import Loaded
from backflip.data.records import (
    Comparison,
    Prompt,
    Record,
    Tally,
)
from backflip.errors import UserError
from backflip.feedback.exchange.answered_items import PARTS, AnsweredItem
from backflip.feedback.exchange.mapping import kinds_where, mapping_of
from backflip.feedback.exchange.records import Evidence, LabelledRecord, Source, turns
from backflip.feedback.exchange.verdicts import EVEN
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.statistics.consensus import RESAMPLES, agreed
from backflip.text import coefficient

R = TypeVar("R", bound=Record)
SOFT, HARD = "soft", "preference"
STYLES = (SOFT, HARD)
"""How labels of two answers are read: as probabilities, or as they are with weight and margin."""


def to_records(source: Source, wanted: type[Record]) -> Iterator[LabelledRecord]:
    """A project's records of a type. Raises UserError where it has none."""
    convert_all = mapping_of(source.kind).converters.get(wanted)
    if convert_all is None:
        raise UserError(refusal(source, plural(wanted)))
    for labelled in convert_all(source):
        source.accounting.rows += 1
        yield labelled


def native(kind: str) -> type[Record] | None:
    """The records that a kind yields first of all; none where it yields none."""
    return next(iter(mapping_of(kind).converters), None)


def refusal(source: Source, what: str) -> str:
    """The reason why a project has nothing of the sort."""
    known = sorted(kind.name for kind in kinds_where(lambda mapping: mapping.converters))
    return (
        f"{source.name} is of kind {source.kind!r}, which yields no {what}; projects of kind "
        f"{', '.join(known)} can be learnt from. Export it as labels or answers instead."
    )


def styled(labelled: LabelledRecord, style: str) -> LabelledRecord:
    """A comparison with a soft label and nothing else, or a hard one with weight and margin."""
    record = labelled.record
    if not isinstance(record, Comparison):
        return labelled
    if len(record.answers) > 2:
        weight = labelled.evidence.weight if style == HARD else 1.0
        return replace(labelled, record=replace(record, weight=weight))
    if style == HARD:
        soft = record.soft if record.tied else 1.0
        hard = replace(record, soft=soft, weight=labelled.evidence.weight)
        return replace(labelled, record=hard)
    return replace(labelled, record=replace(record, margin=0.0))


def in_pairs(labelled: LabelledRecord) -> Iterator[LabelledRecord]:
    """A ranking as all its pairs, each with its own P(better) where that is known."""
    record, evidence = labelled.record, labelled.evidence
    assert isinstance(record, Comparison)
    if len(record.answers) == 2:
        yield labelled
        return
    for i, j in combinations(range(len(record.answers)), 2):
        yield _pair(record, evidence, i, j)


def _pair(record: Comparison, evidence: Evidence, i: int, j: int) -> LabelledRecord:
    """Two of a ranking's answers. Where what was said of the two is against the order in which the
    whole ranking puts them, they are undecided.
    """
    placed = (record.rank[i] < record.rank[j]) - (record.rank[i] > record.rank[j])
    verdict = evidence.pairs.get((i, j))
    said = float(placed) if verdict is None else verdict.value
    split = (i, j) in evidence.split or said * placed < 0
    side = 0.0 if split else said
    rank = {1.0: (0, 1), -1.0: (1, 0)}.get(side, (0, 0))
    soft = 0.5 if rank == (0, 0) else 1.0 if verdict is None else verdict.soft
    pair = replace(record, answers=(record.answers[i], record.answers[j]), rank=rank, soft=soft)
    proof = replace(
        evidence,
        sources=tuple(evidence.sources[k] for k in (i, j) if evidence.sources),
        split=frozenset({(0, 1)} if split else ()),
    )
    if verdict is not None:
        proof = replace(
            proof,
            posterior=verdict.posterior,
            low=verdict.low,
            high=verdict.high,
            weight=verdict.weight,
        )
    return LabelledRecord(pair, proof)


# ---- as data of a recipe


def records(
    source: Source, wanted: type[R] | str, *, style: str | None = None, limit: int | None = None
) -> Loaded[Any]:
    """A project as a recipe reads it: records of one kind, and an account of all that was said.

    ``style``: one of ``STYLES``, soft unless given. Raises UserError where nothing can be learnt.
    """
    style = style or SOFT
    if style not in STYLES:
        raise UserError(
            f"format={style!r} is not how answers of people are read; use {' or '.join(STYLES)}."
        )
    kind: Any = KINDS[wanted] if isinstance(wanted, str) else wanted
    way = _way(source, kind)
    if kind is Prompt:
        held, dropped, said = _prompts(source), Tally(), ""
    else:
        held = [styled(labelled, style).record for labelled in _usable(source, way, style)]
        converted = convert(held, kind)
        held, dropped, said = converted.records, converted.dropped, converted.said
    dropped.update(source.accounting.left_out)
    if not held:
        raise UserError(_nothing(source, plural(kind), dropped))
    account = source.accounting
    parts = [account.basis, *account.labels_counted, agreement_in_words(source), said]
    basis = "; ".join(part for part in parts if part)
    rows = len(held) + dropped.total
    return Loaded(source.name, source.kind, held[:limit], dropped, basis, rows)


def _usable(source: Source, wanted: type[Record], style: str) -> Iterator[LabelledRecord]:
    """Labelled records; as hard labels without even splits, which are counted."""
    for labelled in to_records(source, wanted):
        if style == HARD and labelled.undecided:
            source.accounting.drop(EVEN, labelled.evidence.items[0].item.id)
        else:
            yield labelled


def native_kind(source: Source) -> str:
    """The records that a project holds, as ``data.formats.kind_of`` says it. Raises UserError."""
    held = native(source.kind)
    if held is None:
        raise UserError(refusal(source, "records"))
    return next(name for name, kind in KINDS.items() if kind is held)


def _way(source: Source, wanted: type[Record]) -> type[Record]:
    """The records to read of the project, so that they can become those that are wanted."""
    if wanted is Prompt:
        return wanted
    known = [kind for kind in (wanted, native(source.kind), Comparison) if kind is not None]
    for kind in known:
        fits = kind is wanted or (kind, wanted) in WAYS
        if fits and kind in mapping_of(source.kind).converters:
            return kind
    raise UserError(refusal(source, plural(wanted)))


def _prompts(source: Source) -> list[Prompt]:
    """The prompts of all items, answered or not, each once."""
    found: dict[Prompt, None] = {}
    after = 0
    while rows := source.project.items(after=after, limit=500):
        for row in rows:
            asked = AnsweredItem(row, (), ())
            prompt = getattr(asked.payload, "prompt", ()) or getattr(asked.payload, "opening", ())
            if row.purpose in PARTS[source.part] and prompt:
                record = source.attempt(asked, lambda at, said=prompt: Prompt(turns(said), at))
                if record is not None:
                    found.setdefault(record)
        after = rows[-1].id
    return list(found)


def agreement_in_words(source: Source) -> str:
    """Krippendorff's α as the statistics have it, where several raters judged the same items; of
    ratings for each attribute.
    """
    if not kind_of(source.kind).attributes:
        return _alpha(agreed(source.consensus.judgements, resamples=RESAMPLES))
    by_name = {
        one.name: source.project.judgements(until=source.until, part=one.name)
        for one in source.settings.attributes
    }
    told = {
        name: _alpha(agreed(judgements, ratings=True, resamples=RESAMPLES), name)
        for name, judgements in by_name.items()
    }
    return "; ".join(text for text in told.values() if text)


def _alpha(found: dict[str, Any] | None, about: str = "") -> str:
    alpha = found["alpha"] if found else None
    if alpha is None:
        return ""
    estimate, low, high = (coefficient(alpha[name]) for name in ("estimate", "low", "high"))
    of = f" of {about}" if about else ""
    return f"Krippendorff's alpha{of} {estimate} [{low}, {high}]"


def _nothing(source: Source, what: str, dropped: Tally) -> str:
    """Why there is nothing, and what to do."""
    account = source.accounting
    why = "; ".join([account.basis, *account.labels_counted, *dropped.lines()])
    return f"{source.name} has no {what} yet: {why}. Collect more answers, or take another recipe."
