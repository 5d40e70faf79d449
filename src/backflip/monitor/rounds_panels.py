"""What is drawn of a run of rounds: one point per round, held-out prompts, intervals as bands."""

from __future__ import annotations

from collections.abc import Sequence

from backflip.monitor.panel import Panel
from backflip.monitor.titles import KL_BY_ANSWERS

ROUNDS = (
    Panel(
        "Win rate against round 0",
        "share of held-out prompts",
        {
            "win_rate": "by the judge",
            "win_rate_heldout": "by the held-out head",
            "longer": "if the longer answer won",
        },
        percent=True,
        lines=(("a coin", 0.5),),
    ),
    Panel("Reward", "score", {"reward": "reward", "reward_heldout": "held-out head"}),
    Panel(
        "KL to the start",
        "nats per answer",
        {"kl": KL_BY_ANSWERS},
        zero=True,
        lines=(("alarm at 20", 20.0),),
    ),
    Panel(
        "Length of answers",
        "tokens",
        {"length": "held-out prompts", "sampled_length": "to learn from"},
        zero=True,
    ),
    Panel(
        "Answers that end by themselves",
        "share",
        {"finished": "held-out prompts", "sampled_finished": "to learn from"},
        percent=True,
        zero=True,
    ),
    Panel(
        "Answers to learn from",
        "score",
        {"sampled_reward": "mean", "sampled_reward_best": "best of each prompt"},
    ),
)
DROPPED = "dropped_"
"""How the metrics begin that say which prompts taught nothing, by reason."""


def rounds_panels(metrics: Sequence[str]) -> tuple[Panel, ...]:
    """The charts to look at first; reasons for which prompts were dropped are what there were."""
    found = [name for name in metrics if DROPPED in name]
    reasons = {name: name.partition(DROPPED)[2].replace("_", " ") for name in found}
    many = len({name.partition(DROPPED)[0] for name in reasons}) > 1
    if many:
        reasons = {name: f"{name.partition('_')[0]}: {said}" for name, said in reasons.items()}
    left_out = Panel("Prompts that taught nothing", "share", reasons, percent=True, zero=True)
    return (*ROUNDS, left_out) if reasons else ROUNDS
