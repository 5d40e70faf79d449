"""The rows of each export format, and the account that stands beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from backflip.data.records import Comparison, Demonstration, Labelled, Messages
from backflip.data.writing import as_row
from backflip.errors import UserError
from backflip.feedback.exchange import argilla, label_studio
from backflip.feedback.exchange.answered_items import AnsweredItem, answered_items
from backflip.feedback.exchange.converters import (
    HARD,
    SOFT,
    agreement_in_words,
    in_pairs,
    styled,
    to_records,
)
from backflip.feedback.exchange.rater_rows import figures_of
from backflip.feedback.exchange.records import Evidence, Source, name_of, turns
from backflip.feedback.exchange.steps import stepped
from backflip.feedback.exchange.verdicts import EVEN
from backflip.feedback.kinds.registry import kind_of

TIE = "a tie, which this format cannot say"
MARKS = ("\n\nHuman:", "\n\nAssistant:")
SPEAKERS = {"user": "Human", "assistant": "Assistant"}
KTO_RATIO = (1.0, 4 / 3)
"""Where (weight × number) of good over bad should lie (Ethayarajh et al., 2024, eq. 9)."""


def proof(source: Source, evidence: Evidence, *, turned: bool = False) -> dict[str, Any]:
    """Who said it, how sure it is, and where it comes from: the same columns in every format.

    ``turned``: the row has the two answers the other way round than the item.
    """
    sources = list(evidence.sources)
    return {
        "posterior": _known(evidence.posterior),
        "posterior_low": _known(evidence.low),
        "posterior_high": _known(evidence.high),
        "raters": sorted({answer.person for answer in evidence.answers}),
        "provenance": {
            "project": source.project.name,
            "items": [one.item.id for one in evidence.items],
            "events": [answer.event for answer in evidence.answers],
            "pinned": source.until,
            "rubric_versions": sorted({a.rubric_version for a in evidence.answers}),
            "origins": sorted({one.item.origin for one in evidence.items}),
            "batches": sorted({one.item.batch for one in evidence.items}),
            "sources": sources[::-1] if turned else sources,
            "known": evidence.known,
            "turn": evidence.more.get("turn"),
        },
    }


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


# ---- comparisons


def _two(source: Source, style: str, *, ties: bool) -> Iterator[tuple[Comparison, Evidence]]:
    for ranking in to_records(source, Comparison):
        for pair in in_pairs(ranking):
            labelled = styled(pair, style)
            record = labelled.record
            assert isinstance(record, Comparison)
            if record.tied and not ties:
                why = EVEN if labelled.undecided else TIE
                source.accounting.drop(why, labelled.evidence.items[0].item.id)
            else:
                yield record, labelled.evidence


def _pair_proof(source: Source, record: Comparison, evidence: Evidence) -> dict[str, Any]:
    return proof(source, evidence, turned=record.rank == (1, 0))


def preference(source: Source) -> Iterator[dict[str, Any]]:
    """TRL's preference columns with a margin."""
    for record, evidence in _two(source, HARD, ties=False):
        row = as_row(record)
        del row["p_chosen"]
        yield row | _pair_proof(source, record, evidence)


def soft(source: Source) -> Iterator[dict[str, Any]]:
    """Pairs with P(chosen is better), ½ for ties and for what raters are evenly split on."""
    for record, evidence in _two(source, SOFT, ties=True):
        row = {"tie": False, "undecided": bool(evidence.split)} | as_row(record)
        del row["margin"]
        yield row | _pair_proof(source, record, evidence)


def transcripts(source: Source) -> Iterator[dict[str, Any]]:
    """HH's two transcripts."""
    for record, evidence in _two(source, HARD, ties=False):
        best = record.rank.index(0)
        whole = [record.prompt + record.answers[place] for place in (best, 1 - best)]
        if fault := _untellable(whole[0] + whole[1]):
            source.accounting.drop(fault, evidence.items[0].item.id)
            continue
        row: dict[str, Any] = {"chosen": transcript(whole[0]), "rejected": transcript(whole[1])}
        row |= {"margin": record.margin, "weight": record.weight}
        yield row | _pair_proof(source, record, evidence)


def transcript(messages: Messages) -> str:
    r"""``\n\nHuman: … \n\nAssistant: …``, what the system says before all turns."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    said = [f"\n\n{SPEAKERS[m.role]}: {m.content}" for m in messages if m.role in SPEAKERS]
    return system + "".join(said)


def _untellable(messages: Messages) -> str:
    """Why a transcript would not say what the messages say; empty where it does."""
    if any(m.role == "tool" for m in messages):
        return "a transcript knows no tools"
    if any(m.role == "system" for m in messages):
        return "a transcript that begins with a system message is not known for one"
    if any(mark in m.content or m.content.startswith(mark[2:]) for m in messages for mark in MARKS):
        return "the text itself holds 'Human:' or 'Assistant:' at the start of a paragraph"
    return ""


def rankings(source: Source) -> Iterator[dict[str, Any]]:
    """K answers with their places; of ratings the scores too.

    Raises UserError for ratings one by one: they are ranked by their means.
    """
    rated = bool(kind_of(source.kind).attributes)
    if rated and source.per == "answer":
        raise UserError(
            "answers are ranked by their mean rating, so per=answer has no meaning here; the "
            "export 'answers' has every rating."
        )
    for labelled in to_records(source, Comparison):
        record = labelled.record
        assert isinstance(record, Comparison)
        if labelled.undecided:
            source.accounting.drop(EVEN, labelled.evidence.items[0].item.id)
            continue
        row: dict[str, Any] = {
            "prompt": dicts(record.prompt),
            "completions": [dicts(answer) for answer in record.answers],
            "rank": list(record.rank),
            "weight": labelled.evidence.weight,
        }
        if rated:
            row |= {name: labelled.evidence.more[name] for name in ("scores", "ratings")}
        yield row | proof(source, labelled.evidence)


def dicts(messages: Messages) -> list[dict[str, str]]:
    """Messages as JSON."""
    return [{"role": message.role, "content": message.content} for message in messages]


# ---- single answers


def unpaired(source: Source) -> Iterator[dict[str, Any]]:
    """TRL's unpaired columns."""
    for labelled in to_records(source, Labelled):
        record = labelled.record
        assert isinstance(record, Labelled)
        source.accounting.labels[record.label] += 1
        yield as_row(record) | proof(source, labelled.evidence)


def stepwise(source: Source) -> Iterator[dict[str, Any]]:
    """TRL's stepwise columns, neutral steps good; ``step_labels`` has them as they were given."""
    for found in stepped(source):
        payload = found.answered.payload
        prompt = turns(payload.prompt)
        if len(prompt) > 1 and (fault := _untellable(prompt)):
            source.accounting.drop(fault, found.answered.item.id)
            continue
        source.accounting.rows += 1
        yield {
            "prompt": _as_text(prompt),
            "completions": found.steps,
            "labels": found.good,
            "step_labels": found.labels,
            "finished": len(found.steps) == len(payload.steps),
            "weight": found.evidence.weight,
        } | proof(source, found.evidence)


def _as_text(prompt: Messages) -> str:
    """One question as it is; several turns as a transcript."""
    alone = len(prompt) == 1 and prompt[0].role == "user"
    return prompt[0].content if alone else f"{transcript(prompt)}\n\nAssistant:"


def demonstrations(source: Source) -> Iterator[dict[str, Any]]:
    """Conversations to imitate."""
    for labelled in to_records(source, Demonstration):
        record = labelled.record
        assert isinstance(record, Demonstration)
        row = {"messages": dicts(record.messages), "weight": labelled.evidence.weight}
        yield row | proof(source, labelled.evidence)


# ---- everything, as it is


def answers(source: Source) -> Iterator[dict[str, Any]]:
    """Every answer with its circumstances, in the item's own order; the quiz is left out."""
    for one in answered_items(source.project, until=source.until, part=source.part, repeats=True):
        source.accounting.see(one)
        for answer in one.said:
            source.accounting.rows += 1
            row = {**answer.__dict__, "order": list(answer.order), "kind": source.kind}
            yield row | {
                "project": source.project.name,
                "purpose": one.item.purpose,
                "payload": one.item.payload,
                "gold": one.item.gold,
                "origin": one.item.origin,
                "batch": one.item.batch,
            }


def labels(source: Source) -> Iterator[dict[str, Any]]:
    """Every item with the verdicts on its parts."""
    for one in source.items():
        source.accounting.rows += 1
        words = [kind_of(source.kind).word(answer.value) for answer in one.said]
        yield {
            "item": one.item.id,
            "kind": source.kind,
            "payload": one.item.payload,
            "verdicts": _verdicts(source, one),
            "words": {str(word): words.count(word) for word in dict.fromkeys(words) if word},
            "known": one.truth is not None,
        } | _without_posterior(proof(source, Evidence((one,), one.said)))


def _without_posterior(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("posterior")}


def _verdicts(source: Source, one: AnsweredItem) -> list[dict[str, Any]]:
    """Of each part of an item its value, posterior and error bar, and what other methods say."""
    kind = kind_of(source.kind)
    if kind.attributes:
        return [_rating(one, attribute.name) for attribute in source.settings.attributes]
    if not kind.alike:
        return [{"part": "", "value": answer.value["text"]} for answer in one.said]
    found = list[dict[str, Any]]()
    for part in kind.part_names(one.payload, source.settings):
        verdict = source.verdict(one, part)
        if verdict is not None:
            source.accounting.undecided += math.isnan(verdict.value)
            found.append(
                {
                    "part": part,
                    "value": _known(verdict.value),
                    "posterior": _known(verdict.posterior),
                    "low": _known(verdict.low),
                    "high": _known(verdict.high),
                    "p_first": _known(verdict.p_first),
                    "raters": verdict.raters,
                    "others": source.consensus.others(name_of(one, part)),
                }
            )
    return found


def _rating(one: AnsweredItem, name: str) -> dict[str, Any]:
    values = [answer.value["ratings"].get(name) for answer in one.answers]
    given = [value for value in values if value is not None]
    if one.truth is not None:
        given = [one.truth["ratings"].get(name)]
    mean = sum(given) / len(given) if given else None
    return {"part": name, "value": mean, "raters": len(given)}


# ---- the account


def summary(source: Source, format: str, rows: int) -> dict[str, Any]:
    """Counts of an export, agreement of its raters, reliability of each."""
    account, figures = source.accounting, figures_of(source)
    made: dict[str, Any] = {
        "source": source.name,
        "kind": source.kind,
        "format": format,
        "per": source.per,
        "rows": rows,
        "items": account.items,
        "answers": account.answers,
        "raters": len(account.raters),
        "verdicts": dict(account.words),
        "known": account.known,
        "ties": account.tied,
        "undecided": account.undecided,
        "unranked": account.unranked,
        "left_out": dict(account.left_out.counts),
        "said": [line for line in (*account.lines(), agreement_in_words(source)) if line],
        "answers_by_rubric_version": {str(k): n for k, n in sorted(account.rubrics.items())},
        "agreement": _each(source, {name: one["agreement"] for name, one in figures.items()}),
        "reliabilities": [] if kind_of(source.kind).attributes else source.consensus.raters(),
        "statistics": _each(source, {name: _shown(one) for name, one in figures.items()}),
        "backflip": metadata.version("backflip"),
    }
    more: dict[str, Any] = {}
    if format == "kto":
        more = {"kto": _balance(source)}
    elif format == "argilla":
        more = {"argilla_settings": argilla.settings_of(source.settings, widest=account.widest)}
    elif format == "label_studio":
        more = {"label_studio_config": label_studio.page_of(source.settings)}
    return made | more


def _each(source: Source, made: dict[str, Any]) -> Any:
    """By attribute for ratings; of other kinds the one there is."""
    return made if kind_of(source.kind).attributes else made[""]


def _shown(made: dict[str, Any]) -> dict[str, Any]:
    """Without what stands elsewhere in the summary, or is the figures' own."""
    return {name: made[name] for name in made if name not in ("agreement", "habits")}


def _balance(source: Source) -> dict[str, Any]:
    """KTO's weight of good answers, where that of bad ones is 1."""
    good, bad = source.accounting.labels[True], source.accounting.labels[False]
    span = [ratio * bad / good for ratio in KTO_RATIO] if good and bad else None
    return {"good": good, "bad": bad, "undesirable_weight": 1.0, "desirable_weight": span}
