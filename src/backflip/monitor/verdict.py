"""What came out of a run: in words, on cards, and as a row of a table.

Read from a stage's ``summary.json``, where every key may be missing: ``accuracy``,
``accuracy_low``, ``accuracy_high``, ``baseline_longer``, ``ece``, ``reliability`` (a list of
``confidence``, ``accuracy``, ``count``), ``golden`` (``accuracy`` and its bounds, ``pairs``),
``reward_before``, ``reward_after``, ``reward_gain`` (after − before on the same prompts), and the
same of ``reward_heldout`` (a number, or ``mean``, ``low``, ``high``), ``kl_after`` (nats per
answer), ``best_step`` (0 where no checkpoint beat the start), ``finished_after`` (share),
``missing_eos``,
``examples`` (a list of ``prompt``, ``before``, ``after``, ``score_before``, ``score_after``),
``scores`` (lists by name, for the histogram), ``seconds`` and ``state``. What a stage of the direct
family has to say is in ``direct_verdict.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from backflip.data.counting import counted
from backflip.monitor.card import Card
from backflip.monitor.direct_verdict import (
    direct_cards,
    direct_sentences,
    direct_stages,
    sampled_kl,
)
from backflip.monitor.folder import Run, number
from backflip.monitor.pictures import intervals, shown
from backflip.monitor.progress import ROUNDING, duration
from backflip.monitor.rounds_verdict import rounds_cards, rounds_sentences

NOISY, TRIVIAL = 0.65, 0.90
"""Held-out accuracies of a reward model that deserve a word."""
LEASH = 20.0
"""Nats per answer."""
NEARLY_NONE = 0.1
"""Share of finished answers below which the reward is little but the price of a missing end."""
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


@dataclass(frozen=True)
class Mean:
    """A mean with its interval, where one is known."""

    mean: float
    low: float
    high: float
    known: bool


def sentences(run: Run) -> list[str]:
    """The results as somebody would tell them."""
    said = [
        _loss_sentence(run),
        _cut_off_sentence(run),
        _reward_sentence(run),
        _heldout_sentence(run),
        _best_sentence(run),
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
        _gain_card(run, "reward", "Reward"),
        _gain_card(run, "reward_heldout", "Held-out reward"),
        _kl_card(run),
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
    if then is None or now is None:
        return ""
    return f"The held-out loss went from {shown(then)} to {shown(now)} nats a token."


def _cut_off_sentence(run: Run) -> str:
    """The reward of answers that were cut off is one number, whatever they say."""
    finished = number(run.find("finished_after")[1])
    price = number(run.find("missing_eos")[1])
    if finished is None or price is None or finished >= NEARLY_NONE:
        return ""
    return (
        f"{1 - finished:.0%}".replace("%", " %") + " of the answers were cut off and got "
        f"shaping.missing_eos ({shown(price)}), whatever they say: there was next to nothing to "
        "learn from. Allow longer answers (sampling.max_tokens), teach the end by SFT first, or "
        "set shaping.missing_eos=null."
    )


def _reward_sentence(run: Run) -> str:
    before, after = _mean(run, "reward_before"), _mean(run, "reward_after")
    if before is None or after is None:
        return ""
    kl = number(run.find("kl_after")[1])
    cost = f", {shown(_settled(kl))} nats of KL away from the reference" if kl is not None else ""
    change = f"from {_two(before.mean)} to {_two(after.mean)}"
    way = _direction(run, "reward")
    if way is None:
        return f"The mean reward went {change}{cost}."
    if way == 0:
        return f"The reward went {change}{cost}: within its 95 % interval, it may be chance."
    if way < 0:
        return f"The reward fell {change}{cost}: look at the alarms and the samples."
    return f"The reward rose {change}, beyond its 95 % interval{cost}."


def _heldout_sentence(run: Run) -> str:
    """What the reward model says that nobody optimised against."""
    way = _direction(run, "reward_heldout")
    before, after = _mean(run, "reward_heldout_before"), _mean(run, "reward_heldout_after")
    if way is None or before is None or after is None:
        return ""
    change = f"{_two(before.mean)} to {_two(after.mean)}"
    if way > 0:
        beside = " with it" if _direction(run, "reward") == 1 else ""
        return f"The held-out reward rose{beside} ({change})."
    if way == 0 and after.mean > before.mean:
        return (
            f"The held-out reward rose too ({change}), but within its 95 % interval: more held-out "
            "prompts (validation_prompts) would tell."
        )
    return f"The held-out reward did not follow ({change}): do not trust the gain."


def _direction(run: Run, name: str) -> int | None:
    """1 where a reward rose beyond its 95 % interval, −1 where it fell so, 0 where within.

    By the difference on the same prompts where that was measured: their own spread cancels in it.
    None where there is no interval.
    """
    gain = _mean(run, f"{name}_gain")
    if gain is not None and gain.known:
        return (gain.low > 0) - (gain.high < 0)
    before, after = _mean(run, f"{name}_before"), _mean(run, f"{name}_after")
    if before is None or after is None or not (before.known and after.known):
        return None
    return (after.low > before.high) - (after.high < before.low)


def _best_sentence(run: Run) -> str:
    if run.find("best_step")[1] != 0:
        return ""
    return "No checkpoint beat the start by held-out reward: the model has the last weights."


def _reward_model(run: Run) -> Mapping[str, Any]:
    """The summary of the stage that trained a reward model; an implicit one is none."""
    own = [stage.summary for stage in run.stages if stage not in direct_stages(run)]
    found = [summary for summary in own if summary.get("accuracy") is not None]
    if found:
        return found[-1]
    return {} if direct_stages(run) else run.summary


def _accuracy_sentence(run: Run) -> str:
    summary = _reward_model(run)
    accuracy = number(summary.get("accuracy"))
    if accuracy is None:
        return ""
    text = f"The reward model agrees with {_percent(accuracy)} of the held-out comparisons"
    longer = number(summary.get("baseline_longer"))
    if longer is not None:
        text += f"; taking the longer reply would get {_percent(longer)}"
    text += "."
    if accuracy < NOISY:
        text += " Under 65 %: the labels are noisy, or training has not converged."
    elif accuracy > TRIVIAL:
        text += " Over 90 %: it may have memorised, or the comparisons are trivial."
    return text


def _golden_sentence(run: Run) -> str:
    golden = _golden(run)
    accuracy = number(golden.get("accuracy"))
    if accuracy is None:
        return ""
    said = [str(sentence) for sentence in golden.get("sentences") or ()]
    text = f"It agrees with {_percent(accuracy)} of the golden judgements"
    return " ".join([f"{text} ({_pairs(golden)}).", *said])


def _golden_card(run: Run) -> Card | None:
    golden = _golden(run)
    accuracy = number(golden.get("accuracy"))
    if accuracy is None:
        return None
    low, high = number(golden.get("accuracy_low")), number(golden.get("accuracy_high"))
    detail, picture = _pairs(golden), Markup()
    if low is not None and high is not None:
        detail += f"; 95 % interval {low * 100:.0f} to {high * 100:.0f} %"
        picture = intervals([("model", accuracy, low, high)])
    return Card("Golden judgements", _percent(accuracy), detail, picture)


def _golden(run: Run) -> Mapping[str, Any]:
    golden = run.find("golden")[1]
    return golden if isinstance(golden, Mapping) else {}


def _pairs(report: Mapping[str, Any]) -> str:
    return counted(report["pairs"], "pair") if "pairs" in report else "pairs not counted"


def _accuracy_card(run: Run) -> Card | None:
    summary = _reward_model(run)
    accuracy = number(summary.get("accuracy"))
    if accuracy is None:
        return None
    low, high = number(summary.get("accuracy_low")), number(summary.get("accuracy_high"))
    longer = number(summary.get("baseline_longer"))
    detail: list[str] = []
    if low is not None and high is not None:
        detail.append(f"95 % interval {low * 100:.0f} to {high * 100:.0f} %")
    if longer is not None:
        detail.append(f"“the longer reply wins”: {_percent(longer)}")
    picture = Markup()
    if low is not None and high is not None:
        other = [] if longer is None else [("longer", longer, longer, longer)]
        picture = intervals([("model", accuracy, low, high), *other])
    return Card("Held-out accuracy", _percent(accuracy), "; ".join(detail), picture)


def _gain_card(run: Run, name: str, label: str) -> Card | None:
    before, after = _mean(run, f"{name}_before"), _mean(run, f"{name}_after")
    if before is None or after is None:
        return _change_card(run, name, label)
    value = f"{_two(before.mean)} → {_two(after.mean)}"
    if not (before.known and after.known):
        return Card(label, value, "before and after")
    rows = [(n, m.mean, m.low, m.high) for n, m in (("before", before), ("after", after))]
    detail = f"after: 95 % interval {_two(after.low)} to {_two(after.high)}"
    return Card(label, value, detail, intervals(rows))


def _change_card(run: Run, metric: str, label: str, end: str = "so far") -> Card | None:
    """First and last measurement, while a run is not over."""
    for stage in reversed(run.stages):
        steps, values = stage.series(metric)
        if values:
            detail = f"step {steps[0]:.0f} to {steps[-1]:.0f}, {end}"
            return Card(label, f"{_two(values[0])} → {_two(values[-1])}", detail)
    return None


def _kl_card(run: Run) -> Card | None:
    kl = number(run.find("kl_after")[1])
    if kl is None:
        kl = sampled_kl(run)
    if kl is None:
        last = [values[-1] for stage in run.stages if (values := stage.series("kl")[1])]
        if not last:
            return None
        kl = last[-1]
    share = min(max(kl / LEASH, 0.0), 1.0)
    gauge = '<svg class="mini" viewBox="0 0 230 24" aria-hidden="true">{}{}</svg>'
    bar = Markup('<rect class="{}" width="{:.0f}" height="8" y="8" rx="4"/>')
    colour = "fill bad" if kl > LEASH else "fill c1"
    picture = Markup(gauge).format(bar.format("rail", 230), bar.format(colour, 230 * share))
    value = f"{shown(_settled(kl))} nats"
    return Card("KL to the reference", value, "per answer; the leash is 20", picture)


def _loss_card(run: Run) -> Card | None:
    only = [stage for stage in run.stages if stage.name == "sft"]
    if len(only) != len(run.stages):
        return None
    return _change_card(run, "val_loss", "Validation loss", "nats per token")


def _time_card(run: Run) -> Card | None:
    if run.seconds is None:
        return None
    several = [(s.name.replace("_", " "), s.seconds) for s in run.stages if s.seconds is not None]
    detail = ", ".join(f"{name} {duration(spent)}" for name, spent in several)
    return Card("Time", duration(run.seconds), detail if len(several) > 1 else "")


def _mean(run: Run, key: str) -> Mean | None:
    value = run.find(key)[1]
    if isinstance(value, Mapping):
        mean, low, high = (number(value.get(part)) for part in ("mean", "low", "high"))
        if mean is None:
            return None
        if low is None or high is None:
            return Mean(mean, mean, mean, known=False)
        return Mean(mean, low, high, known=True)
    plain = number(value)
    return None if plain is None else Mean(plain, plain, plain, known=False)


def _settled(kl: float) -> float:
    return 0.0 if abs(kl) < ROUNDING else kl


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
