"""The picture of a reward model."""

from __future__ import annotations

from backflip.monitor.rules.shared import Saturation, finite
from backflip.monitor.run import Stage
from backflip.monitor.text import (
    NOISY,
    TRIVIAL,
    accuracy_remarks,
    measured,
    number,
    share,
    share_ranged,
    standing,
)
from backflip.monitor.views.base import (
    Card,
    Panel,
    View,
    accuracy_card,
    golden_card,
    golden_sentence,
)

PANELS = (
    Panel("Loss", "nats per comparison", {"loss": "training", "val_loss": "validation"}),
    Panel(
        "Accuracy",
        "comparisons right",
        {"accuracy": "training", "val_accuracy": "validation"},
        percent=True,
        lines=(("a coin", 0.5),),
    ),
    Panel("Margin", "score, preferred − other", {"margin": "margin"}, zero=True),
    Panel("Scores", "score", {"score_mean": "mean", "score_std": "standard deviation"}),
)


def _sentence(stage: Stage) -> str:
    """Held-out accuracy, and what it allows to say."""
    if (accuracy := measured(stage.summary)) is None:
        return ""
    value, ends = share_ranged(accuracy, beside=(NOISY, TRIVIAL))
    details = ", ".join(part for part in (ends, standing(accuracy.units)) if part)
    text = f"The reward model agrees with {value} of the held-out comparisons"
    text += f" ({details})" if details else ""
    longer = number(stage.summary.get("baseline_longer"))
    if longer is not None:
        text += f"; taking the longer reply would get {share(longer)}"
    if accuracy.doubt:
        return f"{text}: {accuracy.doubt}."
    return " ".join([f"{text}.", *accuracy_remarks(stage.summary)])


def _accuracy_card(stage: Stage) -> Card | None:
    longer = number(stage.summary.get("baseline_longer"))
    baseline = None if longer is None else ("longer", longer)
    return accuracy_card(stage, "Held-out accuracy", "model", baseline)


VIEW = View(
    stages=("reward_model",),
    place=1,
    title="Reward model",
    headlines=("loss", "accuracy", "val_accuracy", "rows_left_out"),
    panels=lambda stage: PANELS,
    rules=lambda kl_stop, steps: (
        Saturation(needs=("score_mean",), spread="score_std"),
        *finite(),
    ),
    sentences=lambda stage: (_sentence(stage), golden_sentence(stage)),
    cards=lambda stage: (_accuracy_card(stage), golden_card(stage)),
    speaks=False,
)
