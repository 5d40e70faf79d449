"""What is drawn of a stage that learns straight from preferences."""

from __future__ import annotations

from backflip.monitor.panel import Panel
from backflip.monitor.titles import KL_BY_ANSWERS, KL_MISMATCHED

DIRECT = (
    Panel("Loss", "per comparison", {"loss": "training", "val_loss": "held-out"}),
    Panel(
        "Implicit accuracy",
        "comparisons right",
        {"accuracy": "training", "val_accuracy": "held-out"},
        percent=True,
        lines=(("a coin", 0.5),),
    ),
    Panel(
        "Margin",
        "implicit reward, chosen − rejected",
        {"margin": "training", "val_margin": "held-out"},
        zero=True,
    ),
    Panel(
        "Implicit rewards",
        "β × nats",
        {
            "reward_chosen": "chosen",
            "reward_rejected": "rejected",
            "val_reward_chosen": "chosen, held-out",
            "val_reward_rejected": "rejected, held-out",
        },
        zero=True,
    ),
    Panel(
        "Change of log-probability",
        "log π/π_ref, nats per answer",
        {
            "logp_change_chosen": "chosen",
            "logp_change_rejected": "rejected",
            "val_logp_change_chosen": "chosen, held-out",
            "val_logp_change_rejected": "rejected, held-out",
        },
        zero=True,
    ),
    Panel(
        "Separated pairs",
        "share with σ(margin) above 0.9",
        {"separated": "training", "val_separated": "held-out"},
        percent=True,
        zero=True,
        lines=(("little left to learn", 0.95),),
    ),
    Panel(
        "KL to the reference",
        "nats per answer",
        {
            "val_sampled_kl": f"{KL_BY_ANSWERS} that it writes",
            "kl": KL_MISMATCHED,
        },
        zero=True,
        lines=(("alarm at 20", 20.0),),
    ),
    Panel(
        "Implicit reward against length",
        "correlation",
        {
            "length_reward_correlation": "training",
            "val_length_reward_correlation": "held-out",
        },
        zero=True,
        lines=(("alarm at 0.5", 0.5), ("alarm at −0.5", -0.5)),
    ),
    Panel(
        "Length of answers",
        "tokens",
        {
            "length_chosen": "chosen",
            "length_rejected": "rejected",
            "val_sampled_length": "sampled",
        },
        zero=True,
    ),
)
"""The charts to look at first."""

DIRECT_ENGINE = (
    Panel(
        "Log-probability of answers",
        "nats per answer",
        {
            "logp_chosen": "chosen",
            "logp_rejected": "rejected",
            "val_logp_chosen": "chosen, held-out",
            "val_logp_rejected": "rejected, held-out",
        },
    ),
    Panel(
        "Likelihood of chosen answers",
        "−log π, nats per token",
        {"nll": "training", "val_nll": "held-out"},
    ),
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
"""What stands in the engine room beside the optimiser's numbers."""
