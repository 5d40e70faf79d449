"""The picture of a process reward model."""

from __future__ import annotations

from backflip.monitor.rules.shared import finite
from backflip.monitor.run import Stage
from backflip.monitor.text import estimate, interval_said, share_ranged, standing
from backflip.monitor.views.base import Card, Panel, View

PANELS = (
    Panel("Loss", "nats per step", {"loss": "training", "val_loss": "validation"}),
    Panel(
        "Accuracy",
        "steps right",
        {"accuracy": "training", "val_accuracy": "validation", "good": "steps that are good"},
        percent=True,
    ),
    Panel(
        "Bad steps found",
        "share of bad steps",
        {"accuracy_bad": "training", "val_accuracy_bad": "validation"},
        percent=True,
    ),
)


def _sentence(stage: Stage) -> str:
    """Held-out accuracy of steps, F1 of first errors, and what was remarked on them."""
    parts = list[str]()
    for key, text in (
        ("accuracy", "It is right on {} of the held-out steps"),
        ("f1", "the F1 of first errors is {}"),
    ):
        if (found := estimate(stage.summary, key, units=f"{key}_units")) is None:
            continue
        value, ends = share_ranged(found)
        details = ", ".join(part for part in (ends, standing(found.units, "question")) if part)
        parts.append(text.format(value) + (f" ({details})" if details else ""))
    if not parts:
        return ""
    remarks = map(str, stage.summary.get("sentences") or ())
    return " ".join([f"{'; '.join(parts)}.", *remarks])


def _card(stage: Stage, key: str, label: str) -> Card | None:
    if (found := estimate(stage.summary, key, units=f"{key}_units")) is None:
        return None
    value, ends = share_ranged(found)
    return Card(label, value, interval_said(ends) if ends else "", ends=ends)


VIEW = View(
    stages=("process_reward_model",),
    place=1,
    title="Process reward model",
    headlines=("loss", "accuracy", "val_accuracy", "rows_left_out"),
    panels=lambda stage: PANELS,
    rules=lambda kl_stop, steps: finite(),
    sentences=lambda stage: (_sentence(stage),),
    cards=lambda stage: (
        _card(stage, "accuracy", "Held-out steps right"),
        _card(stage, "f1", "F1 of first errors"),
    ),
    speaks=False,
)
