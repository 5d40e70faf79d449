"""What came out of learning straight from preferences: in words, and on cards.

Read from the stage's ``summary.json``, which has the report of the implicit reward model
(``accuracy``, ``accuracy_low``, ``accuracy_high``, ``baseline_longer``, ``baseline_shorter``), and
from its metrics, of which the last validation counts: ``val_logp_change_chosen``,
``val_sampled_kl``, ``val_length_reward_correlation``. Whatever is missing is not spoken of.
"""

from __future__ import annotations

from backflip.monitor.card import Card
from backflip.monitor.folder import Run, Stage, number
from backflip.monitor.pictures import intervals, shown
from backflip.monitor.titles import DIRECT

FAR = 20.0
"""Nats of KL per answer on sampled answers, beyond which the policy is far from the reference."""
FALLEN = 5.0
"""Nats that a chosen answer may lose before that is called displacement."""
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
    return [sentence for sentence in found if sentence]


def direct_cards(run: Run) -> list[Card]:
    """The headline numbers of the last such stage, those that exist."""
    stages = direct_stages(run)
    if not stages:
        return []
    made = [_accuracy_card(stages[-1]), _chosen_card(stages[-1])]
    return [card for card in made if card]


def sampled_kl(run: Run) -> float | None:
    """KL to the reference on sampled answers at the last validation, in nats per answer."""
    known = [_last(stage, "val_sampled_kl") for stage in direct_stages(run)]
    return known[-1] if known else None


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
    accuracy = number(stage.summary.get("accuracy"))
    if accuracy is None:
        return ""
    text = f"Held-out implicit accuracy is {_share(accuracy)}"
    bounds = _bounds(stage)
    if bounds is not None:
        text += f" ({bounds[0] * 100:.0f}–{bounds[1] * 100:.0f} %)"
    if (best := stage.length_baseline()) is None:
        return f"{text}."
    word, share = best
    text += f"; “the {word} reply wins” gets {_share(share)}"
    if bounds is not None and bounds[0] <= share:
        return f"{text}: it is not clearly better than that."
    return f"{text}."


def _chosen(stage: Stage) -> str:
    if (change := _change(stage)) is None:
        return ""
    if abs(change) < STILL:
        return "Chosen answers are as likely as under the reference."
    how = "less" if change < 0 else "more"
    text = f"Chosen answers became {abs(change):.1f} nats {how} likely"
    if change < -FALLEN:
        return (
            f"{text}: likelihood displacement; objective.nll_coef=0.2, a larger objective.beta or "
            "fewer steps hold them."
        )
    return f"{text}."


def _sampled(stage: Stage) -> str:
    if (kl := _last(stage, "val_sampled_kl")) is None:
        return ""
    text = f"On sampled answers the policy is {shown(kl)} nats of KL away from the reference"
    return f"{text}, which is far: read the samples." if kl > FAR else f"{text}."


def _length(stage: Stage) -> str:
    r = _last(stage, "val_length_reward_correlation")
    if r is None or abs(r) < FOLLOWS:
        return ""
    which = "longer" if r > 0 else "shorter"
    return f"The implicit reward follows length (correlation {shown(r)}): {which} answers win."


def _accuracy_card(stage: Stage) -> Card | None:
    accuracy = number(stage.summary.get("accuracy"))
    if accuracy is None:
        value = _last(stage, "val_accuracy")
        said = "at the last validation"
        return None if value is None else Card("Implicit accuracy", _share(value), said)
    rows = [("policy", accuracy, accuracy, accuracy)]
    detail: list[str] = []
    if (bounds := _bounds(stage)) is not None:
        rows = [("policy", accuracy, *bounds)]
        detail.append(f"95 % interval {bounds[0] * 100:.0f} to {bounds[1] * 100:.0f} %")
    if (best := stage.length_baseline()) is not None:
        word, share = best
        rows.append((word, share, share, share))
        detail.append(f"“the {word} reply wins”: {_share(share)}")
    return Card("Implicit accuracy", _share(accuracy), "; ".join(detail), intervals(rows))


def _chosen_card(stage: Stage) -> Card | None:
    if (change := _change(stage)) is None:
        return None
    value = f"{change:+.1f} nats".replace("-", "−")
    return Card("Chosen answers", value, "log π/π_ref per answer; below 0, less likely than before")


def _bounds(stage: Stage) -> tuple[float, float] | None:
    low, high = (number(stage.summary.get(f"accuracy_{end}")) for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def _share(share: float) -> str:
    return f"{share * 100:.1f} %"
