"""What came out of a run: in words, on cards, and as a row of a table.

Read from a stage's ``summary.json``, where every key may be missing: ``accuracy``, with
``accuracy_low``, ``accuracy_high`` and ``accuracy_units`` beside it, as every number that has an
interval, ``baseline_longer``, ``over_length``, ``ece``, ``reliability`` (a list of ``confidence``,
``accuracy``, ``count``), ``golden`` (the same and ``pairs``), ``finished_after`` (share),
``missing_eos``, ``examples`` (a list of ``prompt``, ``before``, ``after``, ``score_before``,
``score_after``), ``scores`` (lists by name, for the histogram), ``seconds`` and ``state``. What a
stage that raised a reward says is in ``reward_verdict.py``, one of the direct family in
``direct_verdict.py``, rounds in ``rounds_verdict.py``.

No verdict is given on fewer than ``statistics.FEWEST`` prompts, or where nobody counted them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from backflip.functional.statistics import FEWEST
from backflip.monitor import accuracy as accuracies
from backflip.monitor.card import Card
from backflip.monitor.charts import intervals
from backflip.monitor.direct_verdict import direct_cards, direct_sentences, direct_stages
from backflip.monitor.folder import Run, number
from backflip.monitor.numbers import (
    TOO_FEW,
    Estimate,
    change,
    share,
    share_ranged,
    standing,
)
from backflip.monitor.progress import duration
from backflip.monitor.reward_verdict import change_card, kl_card, reward_cards, reward_sentences
from backflip.monitor.rounds_verdict import rounds_cards, rounds_sentences
from backflip.text import counted

COLUMNS = (
    "Run",
    "State",
    "Held-out accuracy",
    "Golden judgements",
    "Implicit accuracy",
    "Chosen answers",
    "Win rate against round 0",
    "Reward",
    "Held-out reward",
    "KL to the reference",
    "Validation loss",
    "Time",
    "Alarms",
)


def sentences(run: Run) -> list[str]:
    """The results as somebody would tell them."""
    said = [
        _loss_sentence(run),
        *reward_sentences(run),
        _accuracy_sentence(run),
        _golden_sentence(run),
        *direct_sentences(run),
        *rounds_sentences(run),
    ]
    return [sentence for sentence in said if sentence]


def cards(run: Run) -> list[Card]:
    """The headline numbers, those that exist."""
    made = [
        _accuracy_card(run),
        _golden_card(run),
        *direct_cards(run),
        *rounds_cards(run),
        *reward_cards(run),
        kl_card(run),
        _loss_card(run),
        _time_card(run),
    ]
    return [card for card in made if card]


def table(runs: Sequence[tuple[str, Run]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the comparison; a column that is empty for every run is left out."""
    rows: list[dict[str, str]] = []
    for name, run in runs:
        made = {card.label: card.value for card in cards(run)}
        alarms = sum(len(stage.alarms) for stage in run.stages)
        rows.append({"Run": name, "State": run.state, **made, "Alarms": str(alarms)})
    head = [label for label in COLUMNS if any(label in row for row in rows)]
    return head, [[row.get(label, "—") for label in head] for row in rows]


def _loss_sentence(run: Run) -> str:
    """Where fine-tuning began and where it ended, on rows that it has not seen."""
    stage, before = run.find("val_loss_before")
    then, now = number(before), number(stage.summary.get("val_loss")) if stage else None
    if stage is None or then is None or now is None:
        return ""
    text, printed = change(then, now)
    counts = stage.series("val_units")[1]
    few = f" on {standing(int(counts[-1]))}: {TOO_FEW}" if counts and counts[-1] < FEWEST else ""
    return f"The held-out loss {'went ' if printed else ''}{text} nats a token{few}."


def _reward_model(run: Run) -> Mapping[str, Any]:
    """The summary of the stage that trained a reward model; an implicit one is none."""
    own = [stage.summary for stage in run.stages if stage not in direct_stages(run)]
    found = [summary for summary in own if summary.get("accuracy") is not None]
    if found:
        return found[-1]
    return {} if direct_stages(run) else run.summary


def _accuracy_sentence(run: Run) -> str:
    summary = _reward_model(run)
    found = accuracies.measured(summary)
    if found is None:
        return ""
    value, ends = share_ranged(found, beside=(accuracies.NOISY, accuracies.TRIVIAL))
    details = ", ".join(part for part in (ends, standing(found.units)) if part)
    text = f"The reward model agrees with {value} of the held-out comparisons"
    text += f" ({details})" if details else ""
    longer = number(summary.get("baseline_longer"))
    if longer is not None:
        text += f"; taking the longer reply would get {share(longer)}"
    if found.doubt:
        return f"{text}: {found.doubt}."
    return " ".join([f"{text}.", *accuracies.remarks(summary)])


def _golden_sentence(run: Run) -> str:
    golden = _golden(run)
    accuracy = number(golden.get("accuracy"))
    if accuracy is None:
        return ""
    said = [str(sentence) for sentence in golden.get("sentences") or ()]
    text = f"It agrees with {share(accuracy)} of the golden judgements"
    return " ".join([f"{text} ({_pairs(golden)}).", *said])


def _golden_card(run: Run) -> Card | None:
    golden = _golden(run)
    found = accuracies.measured(golden)
    if found is None:
        return None
    value, ends = share_ranged(found)
    detail = _pairs(golden) + (f"; 95 % interval {ends}" if ends else "")
    return Card("Golden judgements", value, detail, _drawn(found))


def _drawn(found: Estimate, longer: float | None = None) -> Markup:
    """An accuracy with its interval, beside what length alone gets; nothing without an interval."""
    if not found.known:
        return Markup()
    other = [] if longer is None else [("longer", longer, longer, longer)]
    return intervals([("model", found.value, found.low, found.high), *other])


def _golden(run: Run) -> Mapping[str, Any]:
    golden = run.find("golden")[1]
    return golden if isinstance(golden, Mapping) else {}


def _pairs(report: Mapping[str, Any]) -> str:
    return counted(report["pairs"], "pair") if "pairs" in report else "pairs not counted"


def _accuracy_card(run: Run) -> Card | None:
    summary = _reward_model(run)
    found = accuracies.measured(summary)
    if found is None:
        return None
    value, ends = share_ranged(found)
    longer = number(summary.get("baseline_longer"))
    detail = [f"95 % interval {ends}"] if ends else []
    if found.units is not None:
        detail.append(standing(found.units))
    if longer is not None:
        detail.append(f"“the longer reply wins”: {share(longer)}")
    return Card("Held-out accuracy", value, "; ".join(detail), _drawn(found, longer))


def _loss_card(run: Run) -> Card | None:
    only = [stage for stage in run.stages if stage.name == "sft"]
    if len(only) != len(run.stages):
        return None
    return change_card(run, "val_loss", "Validation loss", "nats per token")


def _time_card(run: Run) -> Card | None:
    if run.seconds is None:
        return None
    several = [(s.name.replace("_", " "), s.seconds) for s in run.stages if s.seconds is not None]
    detail = ", ".join(f"{name} {duration(spent)}" for name, spent in several)
    return Card("Time", duration(run.seconds), detail if len(several) > 1 else "")
