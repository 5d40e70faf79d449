"""The peer's side of learning from rewards: GRPOTrainer, RLOOTrainer, and generation alone."""

from __future__ import annotations

from typing import Any

import trl
from peer import online, written
from timing import KL_COEF
from workloads import ANSWER_TOKENS, WIDE_GROUP, Workload


def grpo(load: Workload) -> dict[str, Any]:
    """GRPOTrainer with a reference model."""
    return online(load, trl.GRPOTrainer, trl.GRPOConfig, beta=KL_COEF)


def rloo(load: Workload) -> dict[str, Any]:
    """RLOOTrainer, whose KL is paid in the reward."""
    return online(load, trl.RLOOTrainer, trl.RLOOConfig, beta=KL_COEF)


def generation(load: Workload) -> dict[str, Any]:
    """transformers.generate, every answer of the same length."""
    return written(load, load["wide"], WIDE_GROUP, {"min_new_tokens": ANSWER_TOKENS})


WORKS = {"grpo": grpo, "rloo": rloo, "generation": generation}
