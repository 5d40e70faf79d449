"""Which kind of project teaches what.

==========  ===================================================================================
compare     a comparison of two, tied where the label is a tie
rank        a ranking of K by the mean of P(better) over the others; pairs that tie share a place
rate        answers to the same prompt, ranked by their mean rating
talk        turn by turn: what was picked or written above what was offered beside it
write       a demonstration; and what was made of a draft is better than the draft
thumbs      a label
steps       the whole solution, good where no step is bad
==========  ===================================================================================

Where raters are evenly split nothing is taught as a hard label: it is counted and left out. As soft
labels such pairs are ½.

Votes on principles, marked passages and clips teach a language model nothing by themselves; they
are exported as labels and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

from backflip.data.conversions import KINDS, WAYS, convert, plural
from backflip.data.formats import Loaded
from backflip.data.records import (
    Comparison,
    Demonstration,
    Labelled,
    Prompt,
    Record,
    Tally,
)
from backflip.errors import UserError
from backflip.feedback.exchange import compare as comparing
from backflip.feedback.exchange import converse as conversing
from backflip.feedback.exchange import rank as ranking
from backflip.feedback.exchange import steps as solving
from backflip.feedback.exchange.answered_items import PARTS, Asked
from backflip.feedback.exchange.records import Evidence, Lesson, Source, turns
from backflip.feedback.statistics.consensus import RESAMPLES, agreed
from backflip.text import coefficient

R = TypeVar("R", bound=Record)
Teacher = Callable[[Source], Iterator[Lesson]]
TEACHERS: dict[tuple[str, type[Record]], Teacher] = {
    ("compare", Comparison): comparing.compared,
    ("compare", Labelled): comparing.compared_apart,
    ("rank", Comparison): ranking.ranked,
    ("rank", Labelled): ranking.ranked_apart,
    ("rate", Comparison): ranking.rated,
    ("talk", Comparison): conversing.talked,
    ("talk", Demonstration): conversing.spoken,
    ("write", Demonstration): conversing.written,
    ("write", Comparison): conversing.improved,
    ("thumbs", Labelled): comparing.thumbs,
    ("steps", Labelled): solving.solved,
}
NATIVE: dict[str, type[Record]] = {
    "compare": Comparison,
    "rank": Comparison,
    "rate": Comparison,
    "talk": Comparison,
    "write": Demonstration,
    "thumbs": Labelled,
    "steps": Labelled,
}
"""What each kind teaches first of all."""
SOFT, HARD = "soft", "preference"
STYLES = (SOFT, HARD)
"""How labels of two answers are read: as probabilities, or as they are with weight and margin."""


def lessons(source: Source, wanted: type[Record]) -> Iterator[Lesson]:
    """What a project teaches of this kind. Raises UserError where that is nothing."""
    teach = TEACHERS.get((source.kind, wanted))
    if teach is None:
        raise UserError(refusal(source, plural(wanted)))
    for lesson in teach(source):
        source.account.rows += 1
        yield lesson


def refusal(source: Source, what: str) -> str:
    """Why a project has nothing of the sort."""
    return (
        f"{source.name} is of kind {source.kind!r}, which yields no {what}; projects of kind "
        f"{', '.join(sorted(NATIVE))} can be learnt from. Export it as labels or answers instead."
    )


def styled(lesson: Lesson, style: str) -> Lesson:
    """A comparison with a soft label and nothing else, or a hard one with weight and margin."""
    record = lesson.record
    if not isinstance(record, Comparison):
        return lesson
    if len(record.answers) > 2:
        weight = lesson.evidence.weight if style == HARD else 1.0
        return replace(lesson, record=replace(record, weight=weight))
    if style == HARD:
        soft = record.soft if record.tied else 1.0
        hard = replace(record, soft=soft, weight=lesson.evidence.weight)
        return replace(lesson, record=hard)
    return replace(lesson, record=replace(record, margin=0.0))


def in_pairs(lesson: Lesson) -> Iterator[Lesson]:
    """A ranking as all its pairs, each with its own P(better) where that is known."""
    record, evidence = lesson.record, lesson.evidence
    assert isinstance(record, Comparison)
    if len(record.answers) == 2:
        yield lesson
        return
    for i, j in combinations(range(len(record.answers)), 2):
        yield _pair(record, evidence, i, j)


def _pair(record: Comparison, evidence: Evidence, i: int, j: int) -> Lesson:
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
    return Lesson(pair, proof)


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
    native = _way(source, kind)
    if kind is Prompt:
        held, dropped, said = _prompts(source), Tally(), ""
    else:
        held = [styled(lesson, style).record for lesson in _usable(source, native, style)]
        converted = convert(held, kind)
        held, dropped, said = converted.records, converted.dropped, converted.said
    dropped.update(source.account.left_out)
    if not held:
        raise UserError(_nothing(source, plural(kind), dropped))
    account = source.account
    parts = [account.basis, *account.labels_counted, agreement_in_words(source), said]
    basis = "; ".join(part for part in parts if part)
    rows = len(held) + dropped.total
    return Loaded(source.name, source.kind, held[:limit], dropped, basis, rows)


def _usable(source: Source, wanted: type[Record], style: str) -> Iterator[Lesson]:
    """Lessons; as hard labels without what raters are evenly split on, which is counted."""
    for lesson in lessons(source, wanted):
        if style == HARD and lesson.undecided:
            source.account.drop(comparing.EVEN, lesson.evidence.asked[0].item.id)
        else:
            yield lesson


def native_kind(source: Source) -> str:
    """What a project holds, as ``data.formats.kind_of`` says it. Raises UserError."""
    if source.kind not in NATIVE:
        raise UserError(refusal(source, "records"))
    return next(name for name, kind in KINDS.items() if kind is NATIVE[source.kind])


def _way(source: Source, wanted: type[Record]) -> type[Record]:
    """What is to be read of the project so that it can become what is wanted."""
    if wanted is Prompt:
        return wanted
    known = [kind for kind in (wanted, NATIVE.get(source.kind), Comparison) if kind is not None]
    for kind in known:
        fits = kind is wanted or (kind, wanted) in WAYS
        if fits and (source.kind, kind) in TEACHERS:
            return kind
    raise UserError(refusal(source, plural(wanted)))


def _prompts(source: Source) -> list[Prompt]:
    """The prompts of all items, answered or not, each once."""
    found: dict[Prompt, None] = {}
    after = 0
    while rows := source.project.items(after=after, limit=500):
        for row in rows:
            asked = Asked(row, (), ())
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
    if source.kind != "rate":
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
    account = source.account
    why = "; ".join([account.basis, *account.labels_counted, *dropped.lines()])
    return f"{source.name} has no {what} yet: {why}. Collect more answers, or take another recipe."
