"""The picture of learning straight from preferences.

Its summary has the report of the implicit reward model (``accuracy`` with its interval,
``baseline_longer``, ``baseline_shorter``, ``over_length``). Of its metrics the last validation
counts: ``val_logp_change_chosen``, ``val_sampled_kl``, ``val_length_reward_correlation``, and
``val_units``, the held-out prompts that they stand on. Whatever is missing is not spoken of.
"""

from __future__ import annotations

from backflip.functional.kl import LARGE_KL
from backflip.functional.statistics import FEWEST
from backflip.monitor.alarms import RANK, cause, pointer
from backflip.monitor.rules.base import Rule
from backflip.monitor.rules.pairs import (
    FALLEN,
    WAYS_OUT,
    HeldOutDisplacement,
    LikelihoodDisplacement,
    MostlySeparated,
    RewardFollowsLength,
)
from backflip.monitor.rules.shared import KLTooHigh, finite
from backflip.monitor.run import Stage
from backflip.monitor.text import (
    KL_BY_ANSWERS,
    KL_EXACT,
    KL_MISMATCHED,
    NOISY,
    TOO_FEW,
    TRIVIAL,
    accuracy_remarks,
    apart,
    estimate,
    length_baseline,
    measured,
    share,
    share_ranged,
    standing,
)
from backflip.monitor.views.base import (
    KL_ALARM_LINE,
    LIKELIHOOD,
    Card,
    Panel,
    View,
    accuracy_card,
    golden_card,
    golden_sentence,
    kl_card,
)
from backflip.text import signed

KL_METRICS = {"val_sampled_kl": KL_BY_ANSWERS, "kl": KL_MISMATCHED}
FOLLOWS = 0.5
"""Correlation with length that deserves a word, up or down."""
STILL = 0.05
"""Nats below which a change is none."""


def _both(metric: str) -> dict[str, str]:
    """A metric in training and on held-out rows."""
    return {metric: "training", f"val_{metric}": "held-out"}


def _sides(metric: str) -> dict[str, str]:
    """A metric of chosen and rejected answers, in training and held-out."""
    sides = ("chosen", "rejected")
    training = {f"{metric}_{side}": side for side in sides}
    return training | {f"val_{metric}_{side}": f"{side}, held-out" for side in sides}


PANELS = (
    Panel("Loss", "per comparison", _both("loss")),
    Panel(
        "Implicit accuracy",
        "comparisons right",
        _both("accuracy"),
        percent=True,
        lines=(("a coin", 0.5),),
    ),
    Panel("Margin", "implicit reward, chosen − rejected", _both("margin"), zero=True),
    Panel("Implicit rewards", "β × nats", _sides("reward"), zero=True),
    Panel(
        "Change of log-probability",
        "log π/π_ref, nats per answer",
        _sides("logp_change"),
        zero=True,
    ),
    Panel(
        "Separated pairs",
        "share with σ(margin) above 0.9",
        _both("separated"),
        percent=True,
        zero=True,
        lines=(("little left to learn", 0.95),),
    ),
    Panel(
        "KL to the reference",
        "nats per answer",
        {"val_sampled_kl": f"{KL_BY_ANSWERS} that it writes", "kl": KL_MISMATCHED},
        zero=True,
        lines=KL_ALARM_LINE,
    ),
    Panel(
        "Implicit reward against length",
        "correlation",
        _both("length_reward_correlation"),
        zero=True,
        lines=(("alarm at 0.5", 0.5), ("alarm at −0.5", -0.5)),
    ),
    Panel(
        "Length of answers",
        "tokens",
        {"length_chosen": "chosen", "length_rejected": "rejected", "val_sampled_length": "sampled"},
        zero=True,
    ),
)
ENGINE = (
    Panel("Log-probability of answers", "nats per answer", _sides("logp")),
    LIKELIHOOD,
    Panel(
        "Sampled answers that were cut off",
        "share",
        {"val_sampled_cut_off": "cut off"},
        percent=True,
        zero=True,
    ),
    Panel(
        "Length of held-out answers",
        "tokens",
        {"val_length_chosen": "chosen", "val_length_rejected": "rejected"},
        zero=True,
    ),
)


# ---- alarms


def _rules(kl_stop: float | None, steps: int) -> tuple[Rule, ...]:
    closer = "raise objective.beta, lower optimizer.lr, or train for fewer steps"
    return (
        LikelihoodDisplacement(window=min(10, max(3, steps // 3)) if steps else 10),
        HeldOutDisplacement(),
        KLTooHigh(
            needs=("val_sampled_kl",),
            units="val_sampled_kl_units",
            seen=f"{KL_BY_ANSWERS} that the policy writes",
            advice="the comparisons say little about what the policy writes now. Read what it "
            f"writes; {closer}.",
        ),
        KLTooHigh(
            seen=KL_MISMATCHED,
            advice=f"the policy has left the reference far behind; {closer}.",
        ),
        RewardFollowsLength(),
        MostlySeparated(steps=steps),
        *finite(),
    )


# ---- sentences


def _sentences(stage: Stage) -> list[str]:
    return [
        golden_sentence(stage),
        _accuracy(stage),
        _chosen(stage),
        _sampled(stage),
        _length(stage),
        _cause(stage),
    ]


def _change(stage: Stage) -> float | None:
    """Log π/π_ref of the chosen answers, held-out where that was measured."""
    held_out = stage.last("val_logp_change_chosen")
    if held_out is not None:
        return held_out
    values = stage.series("logp_change_chosen")[1][-10:]
    return sum(values) / len(values) if values else None


def _accuracy(stage: Stage) -> str:
    accuracy = measured(stage.summary)
    if accuracy is None:
        return ""
    value, ends = share_ranged(accuracy, beside=(NOISY, TRIVIAL))
    text = f"Held-out implicit accuracy is {value}"
    if ends:
        text += f" ({ends.replace(' to ', '–')})"
    if (best := length_baseline(stage.summary)) is not None:
        text += f"; “the {best[0]} reply wins” gets {share(best[1])}"
    if accuracy.doubt:
        on = f"{standing(accuracy.units)}, " if accuracy.units is not None else ""
        return f"{text}: {on}{accuracy.doubt}."
    return " ".join([f"{text}.", *accuracy_remarks(stage.summary)])


def _prompts(stage: Stage) -> int | None:
    """The held-out prompts that the last validation stands on; None where nobody counted."""
    units, accuracy = stage.last("val_units"), measured(stage.summary)
    if units is None and accuracy is not None:
        return accuracy.units
    return None if units is None else int(units)


def _few(stage: Stage) -> str:
    """The remark on a held-out number of too few prompts; empty where there are enough."""
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
    if change < -FALLEN and _named(stage) == LikelihoodDisplacement.name:
        return f"{text}: likelihood displacement. {WAYS_OUT}"
    return f"{text}."


def _named(stage: Stage) -> str:
    """The one cause that the summary gives: the alarm's, or else the first that the last numbers
    show on enough prompts.
    """
    alarm = cause(stage)
    if alarm is not None and alarm.get("name") in RANK:
        return str(alarm["name"])
    change, r = _change(stage), stage.last("val_length_reward_correlation")
    kl, drawn = stage.last("val_sampled_kl"), stage.last("val_sampled_kl_units")
    enough = (_prompts(stage) or 0) >= FEWEST
    shown = {
        LikelihoodDisplacement.name: enough and change is not None and change < -FALLEN,
        RewardFollowsLength.name: enough and r is not None and abs(r) >= FOLLOWS,
        KLTooHigh.name: (drawn or 0) >= FEWEST and kl is not None and kl > LARGE_KL,
    }
    return next((name for name, holds in shown.items() if holds), "")


def _sampled(stage: Stage) -> str:
    if (kl := stage.last("val_sampled_kl")) is None:
        return ""
    units = stage.last("val_sampled_kl_units")
    nats, _ = apart([kl, LARGE_KL], digits=1)
    on = f" ({standing(int(units))})" if units is not None else ""
    exact = estimate(stage.summary, "kl_exact_after")
    if exact is not None:
        on = f", {KL_EXACT} {apart([exact.value], digits=1)[0]}{on}"
    text = f"{KL_BY_ANSWERS} that the policy writes is {nats} nats from the reference{on}"
    if units is not None and units < FEWEST:
        return f"{text.removesuffix(')')}, {TOO_FEW})."
    far = kl > LARGE_KL and _named(stage) == KLTooHigh.name
    return f"{text}, which is far: read the samples." if far else f"{text}."


def _length(stage: Stage) -> str:
    r = stage.last("val_length_reward_correlation")
    if r is None or abs(r) < FOLLOWS or (_prompts(stage) or 0) < FEWEST:
        return ""
    shown, _ = apart([r, 0.0], digits=2)
    if _named(stage) != RewardFollowsLength.name:
        return f"Implicit reward and length correlate at {shown}."
    which = "longer" if r > 0 else "shorter"
    return f"The implicit reward follows length (correlation {shown}): {which} answers win."


def _cause(stage: Stage) -> str:
    """The alarm to look at first, where no sentence of the summary has said the same."""
    change = _change(stage)
    named = change is not None and change < -FALLEN and _named(stage) == LikelihoodDisplacement.name
    return "" if named and not _few(stage) else pointer(stage)


# ---- cards


def _accuracy_card(stage: Stage) -> Card | None:
    if measured(stage.summary) is not None:
        baseline = length_baseline(stage.summary)
        return accuracy_card(stage, "Implicit accuracy", "policy", baseline)
    now = stage.last("val_accuracy")
    return None if now is None else Card("Implicit accuracy", share(now), "at the last validation")


def _chosen_card(stage: Stage) -> Card | None:
    if (change := _change(stage)) is None:
        return None
    detail = "log π/π_ref per answer; below 0, less likely than before"
    return Card("Chosen answers", f"{signed(change, 1)} nats", detail)


VIEW = View(
    stages=("direct",),
    place=2,
    title="Direct",
    titled_by_algorithm=True,
    headlines=("loss", "accuracy", "val_accuracy", "margin", "rows_left_out"),
    panels=lambda stage: PANELS,
    engine=ENGINE,
    rules=_rules,
    sentences=_sentences,
    cards=lambda stage: (
        golden_card(stage),
        _accuracy_card(stage),
        _chosen_card(stage),
        kl_card(stage, by=KL_METRICS),
    ),
)
