"""What stages and objectives are called where people read it."""

from __future__ import annotations

STAGES = {
    "sft": "Supervised fine-tuning",
    "reward_model": "Reward model",
    "ppo": "PPO",
    "iterative": "Round by round",
}
DIRECT = "direct"
"""The stage of the direct family, which is called by its objective."""
SPELT = {
    "simpo": "SimPO",
    "slic": "SLiC",
    "f_dpo": "f-DPO",
    "r_dpo": "R-DPO",
    "tr_dpo": "TR-DPO",
    "psi_po": "ΨPO",
    "plackett_luce_dpo": "Plackett-Luce DPO",
    "rao_kupper_dpo": "Rao-Kupper DPO",
}
ABBREVIATIONS = frozenset(
    ("dpo", "ipo", "kto", "bco", "apo", "exo", "nca", "sppo", "cpo", "orpo", "rpo")
)

KL_BY_ANSWERS = "KL by the answers"
"""Mean of Σ (log π − log π_ref) over the tokens that were drawn: an estimate, which may come out
below 0."""
KL_EXACT = "KL by the exact sum"
"""Mean of Σ KL(π‖π_ref) over the tokens of the same answers, each a sum over the whole vocabulary:
never below 0, and less noisy."""
KL_MISMATCHED = "KL by mismatched answers"
"""KTO's: of answers to other prompts, held at 0 or above."""


def title(stage: str, objective: str = "") -> str:
    """A stage as people call it; short names are abbreviations.

    ``objective``: the name by which the recipe knows what a direct stage minimises.
    """
    if stage == DIRECT and objective:
        return objective_title(objective)
    name = stage.replace("_", " ")
    known = STAGES.get(stage)
    return known or (name.upper() if len(name) <= len("grpo") else name.capitalize())


def objective_title(name: str) -> str:
    """``apo_zero`` as ``APO zero``, ``simpo`` as ``SimPO``, ``robust_dpo`` as ``Robust DPO``."""
    words = (word.upper() if word in ABBREVIATIONS else word for word in name.split("_"))
    text = " ".join(words)
    return SPELT.get(name) or text[:1].upper() + text[1:]
