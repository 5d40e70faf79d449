"""What came out of learning straight from preferences: in words, and on cards.

Read from the stage's ``summary.json``, which has the report of the implicit reward model
(``accuracy`` with its interval, ``baseline_longer``, ``baseline_shorter``, ``over_length``), and
from its metrics, of which the last validation counts: ``val_logp_change_chosen``,
``val_sampled_kl``, ``val_length_reward_correlation``, and ``val_units``, the held-out prompts that
they stand on. Whatever is missing is not spoken of.
"""

from __future__ import annotations

from markupsafe import Markup

from backflip.functional.statistics import FEWEST
from backflip.monitor import accuracy as accuracies
from backflip.monitor.card import Card
from backflip.monitor.cause import RANK, cause, pointer
from backflip.monitor.charts import intervals
from backflip.monitor.direct_rules import (
    FALLEN,
    WAYS_OUT,
    LikelihoodDisplacement,
    RewardFollowsLength,
)
from backflip.monitor.folder import Run, Stage
from backflip.monitor.numbers import (
    TOO_FEW,
    apart,
    estimate,
    interval_said,
    share,
    share_ranged,
    standing,
)
from backflip.monitor.rules import KLTooHigh
from backflip.monitor.titles import DIRECT, KL_BY_ANSWERS, KL_EXACT

DISPLACED, LENGTH, FAR = (
    rule.name for rule in (LikelihoodDisplacement(), RewardFollowsLength(), KLTooHigh())
)
"""Causes that the summary can give, by the names of their alarms."""
FOLLOWS = 0.5
"""Correlation with length that deserves a word, up or down."""
STILL = 0.05
"""Nats below which a change is none."""


def direct_stages(run: Run) -> list[Stage]:
    """The stages that learnt straight from preferences."""
    return [stage for stage in run.stages if stage.name == DIRECT]


def direct_sentences(run: Run) -> list[str]:
    """The results of each such stage as somebody would tell them."""
    found: list[str] = []
    for stage in direct_stages(run):
        found += [_accuracy(stage), _chosen(stage), _sampled(stage), _length(stage)]
        found.append(_cause(stage))
    return [sentence for sentence in found if sentence]


def direct_cards(run: Run) -> list[Card]:
    """The headline numbers of the last such stage, those that exist."""
    stages = direct_stages(run)
    if not stages:
        return []
    made = [_accuracy_card(stages[-1]), _chosen_card(stages[-1])]
    return [card for card in made if card]


def _last(stage: Stage, metric: str) -> float | None:
    values = stage.series(metric)[1]
    return values[-1] if values else None


def _change(stage: Stage) -> float | None:
    """Log π/π_ref of the chosen answers, held-out where that was measured."""
    held_out = _last(stage, "val_logp_change_chosen")
    if held_out is not None:
        return held_out
    values = stage.series("logp_change_chosen")[1][-10:]
    return sum(values) / len(values) if values else None


def _accuracy(stage: Stage) -> str:
    found = accuracies.measured(stage.summary)
    if found is None:
        return ""
    value, ends = share_ranged(found, beside=(accuracies.NOISY, accuracies.TRIVIAL))
    text = f"Held-out implicit accuracy is {value}"
    if ends:
        text += f" ({ends.replace(' to ', '–')})"
    if (best := stage.length_baseline()) is not None:
        text += f"; “the {best[0]} reply wins” gets {share(best[1])}"
    if found.doubt:
        on = f"{standing(found.units)}, " if found.units is not None else ""
        return f"{text}: {on}{found.doubt}."
    return " ".join([f"{text}.", *accuracies.remarks(stage.summary)])


def _prompts(stage: Stage) -> int | None:
    """The held-out prompts that the last validation stands on; None where nobody counted."""
    counts = (_last(stage, "val_units"), accuracies.measured(stage.summary))
    units = counts[0] if counts[1] is None or counts[0] is not None else counts[1].units
    return None if units is None else int(units)


def _few(stage: Stage) -> str:
    """What is said of a held-out number that stands on too few prompts; empty where on enough."""
    units = _prompts(stage)
    if units is not None and units >= FEWEST:
        return ""
    return f" ({standing(units)}, {TOO_FEW})" if units is not None else ""


def _chosen(stage: Stage) -> str:
    if (change := _change(stage)) is None:
        return ""
    if abs(change) < STILL:
        return "Chosen answers are as likely as under the reference."
    how = "less" if change < 0 else "more"
    nats, _ = apart([abs(change), FALLEN], digits=1)
    text = f"Chosen answers became {nats} nats {how} likely"
    if few := _few(stage):
        return f"{text}{few}."
    if change < -FALLEN and _named(stage) == DISPLACED:
        return f"{text}: likelihood displacement. {WAYS_OUT}"
    return f"{text}."


def _named(stage: Stage) -> str:
    """The one cause that the summary gives: the alarm's, or else the first that the last numbers
    show on enough prompts.
    """
    found = cause(stage)
    if found is not None and found.get("name") in RANK:
        return str(found["name"])
    change, r = _change(stage), _last(stage, "val_length_reward_correlation")
    kl, drawn = _last(stage, "val_sampled_kl"), _last(stage, "val_sampled_kl_units")
    enough = (_prompts(stage) or 0) >= FEWEST
    shown = {
        DISPLACED: enough and change is not None and change < -FALLEN,
        LENGTH: enough and r is not None and abs(r) >= FOLLOWS,
        FAR: (drawn or 0) >= FEWEST and kl is not None and kl > KLTooHigh().limit,
    }
    return next((name for name, holds in shown.items() if holds), "")


def _sampled(stage: Stage) -> str:
    if (kl := _last(stage, "val_sampled_kl")) is None:
        return ""
    limit, units = KLTooHigh().limit, _last(stage, "val_sampled_kl_units")
    nats, _ = apart([kl, limit], digits=1)
    on = f" ({standing(int(units))})" if units is not None else ""
    exact = estimate(stage.summary, "kl_exact_after")
    if exact is not None:
        on = f", {KL_EXACT} {apart([exact.value], digits=1)[0]}{on}"
    text = f"{KL_BY_ANSWERS} that the policy writes is {nats} nats from the reference{on}"
    if units is not None and units < FEWEST:
        return f"{text.removesuffix(')')}, {TOO_FEW})."
    far = kl > limit and _named(stage) == FAR
    return f"{text}, which is far: read the samples." if far else f"{text}."


def _length(stage: Stage) -> str:
    r = _last(stage, "val_length_reward_correlation")
    if r is None or abs(r) < FOLLOWS or (_prompts(stage) or 0) < FEWEST:
        return ""
    said, _ = apart([r, 0.0], digits=2)
    if _named(stage) != LENGTH:
        return f"Implicit reward and length correlate at {said}."
    which = "longer" if r > 0 else "shorter"
    return f"The implicit reward follows length (correlation {said}): {which} answers win."


def _cause(stage: Stage) -> str:
    """The alarm to look at first, where no sentence of the summary has said the same."""
    change = _change(stage)
    told = change is not None and change < -FALLEN and _named(stage) == DISPLACED
    return "" if told and not _few(stage) else pointer(stage)


def _accuracy_card(stage: Stage) -> Card | None:
    found = accuracies.measured(stage.summary)
    if found is None:
        value = _last(stage, "val_accuracy")
        said = "at the last validation"
        return None if value is None else Card("Implicit accuracy", share(value), said)
    value, ends = share_ranged(found)
    detail = [interval_said(ends)] if ends else []
    if found.units is not None:
        detail.append(standing(found.units))
    rows = [("policy", found.value, found.low, found.high)] if found.known else []
    if (best := stage.length_baseline()) is not None:
        rows.append((best[0], best[1], best[1], best[1]))
        detail.append(f"“the {best[0]} reply wins”: {share(best[1])}")
    drawn = intervals(rows) if found.known else Markup()
    return Card("Implicit accuracy", value, "; ".join(detail), drawn)


def _chosen_card(stage: Stage) -> Card | None:
    if (change := _change(stage)) is None:
        return None
    value = f"{change:+.1f} nats".replace("-", "−")
    return Card("Chosen answers", value, "log π/π_ref per answer; below 0, less likely than before")
