"""The picture of supervised fine-tuning."""

from __future__ import annotations

from backflip.functional.statistics import FEWEST
from backflip.monitor.rules.shared import finite
from backflip.monitor.run import Stage
from backflip.monitor.text import TOO_FEW, change, number, standing
from backflip.monitor.views.base import LIKELIHOOD, Panel, View, change_card

PANELS = (
    Panel("Loss", "nats per token", {"loss": "training", "val_loss": "validation"}),
    Panel(
        "Next token right",
        "share of tokens",
        {"accuracy": "training", "val_accuracy": "validation"},
        percent=True,
    ),
    Panel("Gradient norm", "", {"grad_norm": "norm"}, zero=True),
    Panel("Speed", "tokens a second", {"tokens_per_s": "tokens"}, zero=True),
)


def _sentence(stage: Stage) -> str:
    """The held-out loss at the start and at the end."""
    before, after = (number(stage.summary.get(key)) for key in ("val_loss_before", "val_loss"))
    if before is None or after is None:
        return ""
    text, printed = change(before, after)
    units = stage.last("val_units")
    few = f" on {standing(int(units))}: {TOO_FEW}" if units and units < FEWEST else ""
    return f"The held-out loss {'went ' if printed else ''}{text} nats a token{few}."


VIEW = View(
    stages=("sft",),
    place=0,
    title="Supervised fine-tuning",
    headlines=("loss", "val_loss", "rows_left_out"),
    panels=lambda stage: PANELS,
    engine=(LIKELIHOOD,),
    rules=lambda kl_stop, steps: finite(),
    sentences=lambda stage: (_sentence(stage),),
    last_cards=lambda stage: (change_card(stage, "val_loss", "Validation loss", "nats per token"),),
)
