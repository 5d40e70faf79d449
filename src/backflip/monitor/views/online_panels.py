"""The charts of a stage that raises a reward."""

from __future__ import annotations

from backflip.monitor.outcomes import terms
from backflip.monitor.run import Stage
from backflip.monitor.text import KL_BY_ANSWERS
from backflip.monitor.views.accuracy import accuracy_panels
from backflip.monitor.views.base import KL_ALARM_LINE, REWARD, Panel
from backflip.monitor.views.steps import PARTS

KL_METRICS = {"kl": KL_BY_ANSWERS}
PANELS = (
    Panel(
        "KL to the reference",
        "nats per answer",
        {"kl": KL_BY_ANSWERS, "val_kl": f"{KL_BY_ANSWERS}, held-out"},
        zero=True,
        lines=KL_ALARM_LINE,
    ),
    Panel("Entropy", "nats per token", {"entropy": "entropy"}, zero=True),
    Panel("Length of answers", "tokens", {"length": "length"}, zero=True),
    Panel("Answers that end by themselves", "share", {"finished": "finished"}, True, True),
    Panel(
        "Variety",
        "share",
        {"unique_tokens": "unique tokens", "duplicate_answers": "duplicate answers"},
        percent=True,
        zero=True,
    ),
    Panel(
        "Said again",
        "share",
        {
            "self_bleu": "self-BLEU within prompts",
            "repetition": "4-grams repeated in an answer",
            "boilerplate": "phrases of half of the prompts",
        },
        percent=True,
        zero=True,
    ),
    Panel("Refusals", "share of held-out prompts", {"val_refusals": "by rules"}, True, True),
    Panel(
        "Canary answers",
        "score",
        {
            "val_canary_own": "the policy's own",
            "val_canary_swapped": "to another prompt",
            "val_canary_empty": "empty",
            "val_canary_repeated": "one token again and again",
        },
    ),
)
ENGINE = (
    Panel("Critic: loss", "squared score", {"value_loss": "value loss"}, zero=True),
    Panel("Critic: explained variance", "share", {"explained_variance": "explained"}, zero=True),
    Panel("Clipped choices", "share", {"clip_fraction": "outside the clip"}, True, True),
    Panel("KL to the last policy", "nats per token", {"approx_kl": "by the answers"}, zero=True),
    Panel(
        "KL to the reference, k3", "nats per answer", {"kl_k3": f"{KL_BY_ANSWERS}, k3"}, zero=True
    ),
    Panel("KL coefficient", "", {"kl_coef": "coefficient"}, zero=True),
    Panel(
        "Score against length",
        "correlation",
        {"score_length_corr": "Pearson's r", "score_length_corr_within": "within prompts"},
        zero=True,
    ),
    Panel("Spread of an ensemble", "score", {"reward_spread": "deviation on an answer"}, zero=True),
    Panel("Tail of the held-out head's errors", "Hill's ξ", {"error_tail": "ξ"}, zero=True),
    Panel(
        "Distance in the reward model's features",
        "squared, the start's own is 1",
        {"val_feature_distance": "held-out answers"},
        zero=True,
    ),
    Panel("Score's largest piece", "share", {"val_one_piece": "of its changes"}, True, True),
    Panel("Spread of scores", "standard deviation", {"reward_std": "reward"}, zero=True),
    Panel("Policy loss", "", {"policy_loss": "policy loss"}),
    Panel(
        "Sampler against learner",
        "nats per token",
        {"sampler_gap": "|log π − log μ|", "sampler_kl": "KL(μ‖π), k3"},
        zero=True,
    ),
    Panel(
        "Corrected choices",
        "share",
        {"correction_held": "cut or dropped", "effective_share": "effective sample size"},
        True,
        True,
    ),
    Panel("Age of answers", "steps of learning", {"lag": "mean", "lag_max": "greatest"}, zero=True),
    Panel("Time of a step", "share", {f"share_{name}": name for name in PARTS}, True, True),
)
COURSES = Panel(
    "Episodes",
    "an episode",
    {
        "reward_turns": "turns",
        "reward_calls": "calls",
        "reward_malformed": "malformed calls",
        "reward_failed": "failed calls",
    },
    zero=True,
)


def panels_of(stage: Stage) -> list[Panel]:
    """Accuracy and verdicts, the course of episodes, the reward and its terms, and the rest."""
    named = {f"reward_{name}": name for name in terms(stage.metrics())}
    mixed = [Panel("Terms of the reward", "mean score", named)] if named else []
    played = [COURSES] if stage.series("reward_turns")[1] else []
    return [*accuracy_panels(stage), *played, REWARD, *mixed, *PANELS]
