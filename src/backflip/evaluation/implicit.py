"""A policy as a reward model: β·log π/π_ref, and what other objectives make of it, as scores."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, DirectObjective, comparisons_of, tell
from backflip.algorithms.preference.unpaired import UnpairedObjective
from backflip.data.batches import ComparisonBatch
from backflip.data.ragged import Ragged
from backflip.data.referenced import ReferencedComparisons
from backflip.distributed.reading import read_in_parts
from backflip.evaluation.reward_model import RewardReport, report
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, load_tokenizer, parameter_count
from backflip.progress import task
from backflip.training.reference import check_same_vocabulary, with_reference
from backflip.training.reference_cache import ReferenceCache

__all__ = ["implicit_report", "implicit_rewards", "policy_rewards", "policy_scores"]

ObjectiveOfRewards = DirectObjective | UnpairedObjective
WINDOW = 256
"""Prompts that are cut into micro-batches together: cutting grows with the square of them."""


def implicit_report(
    policy: CausalPolicy,
    data: ReferencedComparisons | ComparisonBatch,
    objective: ObjectiveOfRewards,
    *,
    token_budget: int,
    policy_parameters: int | None = None,
) -> RewardReport:
    """Agreement of implicit rewards with people's order of answers: the report of a reward model.

    Args:
        policy: the trained policy.
        data: held-out comparisons; with a reference where the objective needs one.
        objective: says what the reward of an answer is. Objectives of single answers compare too:
            their reward is β·log π/π_ref.
        token_budget: forest tokens in one micro-batch.
        policy_parameters: size of a policy that is to be trained against it, where it is known.

    Raises:
        UserError: no pair is decided.
        ValueError: the objective needs a reference, and none has been asked.

    """
    rewards = implicit_rewards(policy, data, objective, token_budget=token_budget)
    return report(
        rewards,
        comparisons_of(data),
        parameters=parameter_count(policy)[0],
        policy_parameters=policy_parameters,
        beta=float(objective.beta),
    )


def implicit_rewards(
    policy: CausalPolicy,
    data: ReferencedComparisons | ComparisonBatch,
    objective: ObjectiveOfRewards,
    *,
    token_budget: int,
) -> Float[Tensor, " N"]:
    """The implicit reward of each of the N answers, on the CPU; raises as ``implicit_report``."""
    if objective.needs_reference and not isinstance(data, ReferencedComparisons):
        raise ValueError(
            f"{type(objective).__name__} measures the policy against a reference, and these "
            "comparisons come without one: give what with_reference makes of them."
        )
    offsets = comparisons_of(data).answers.offsets
    number = Ragged(torch.arange(int(offsets[-1])), offsets)
    out = torch.zeros(int(offsets[-1]))

    def read(piece: Any) -> Float[Tensor, " n"]:
        here = piece.to(policy.device)
        logp = policy.evaluate(comparisons_of(here).answers.values)["logp"]
        return _reward(objective, tell(logp, here)).float()

    with task("measuring preferences", len(data), "rows") as measuring:
        for window in torch.arange(len(data)).split(WINDOW):
            for rows, reward in read_in_parts(policy, data[window], token_budget, read):
                out[number[window[rows]].values] = reward
                measuring.advance(len(rows))
    return out


def policy_scores(
    policy: str,
    batches: Sequence[ComparisonBatch],
    objective: ObjectiveOfRewards,
    *,
    reference: str | None,
    token_budget: int = 4096,
) -> list[Float[Tensor, " N"]]:
    """Implicit rewards of all answers of several batches, from names: the reference speaks first
    and is forgotten, so one model is in memory.

    Args:
        policy: a folder or hub name of a language model.
        batches: comparisons, as the policy's tokens.
        objective: says what the reward of an answer is.
        reference: another language model with the same tokens; None for objectives without one.
        token_budget: forest tokens in one micro-batch.

    Raises:
        UserError: no such model, other tokens.

    """
    data: list[ReferencedComparisons | ComparisonBatch] = list(batches)
    if reference is not None:
        check_same_vocabulary(load_tokenizer(policy), load_tokenizer(reference), reference)
        data = _stated(reference, batches, token_budget)
        gc.collect()
    model = _frozen(policy)
    return [implicit_rewards(model, one, objective, token_budget=token_budget) for one in data]


def policy_rewards(
    policy: str,
    batch: ComparisonBatch,
    objective: ObjectiveOfRewards,
    *,
    reference: str | None,
    token_budget: int = 4096,
) -> Float[Tensor, " N"]:
    """``policy_scores`` of one batch; prompts of a single answer will do."""
    how: Any = {"reference": reference, "token_budget": token_budget}
    return policy_scores(policy, [batch], objective, **how)[0]


def _stated(
    reference: str, batches: Sequence[ComparisonBatch], token_budget: int
) -> list[ReferencedComparisons | ComparisonBatch]:
    cache, model = ReferenceCache(reference), _frozen(reference)
    found: list[ReferencedComparisons | ComparisonBatch] = []
    for batch in batches:
        stated = with_reference(batch, model, token_budget=token_budget, cache=cache)
        assert isinstance(stated, ReferencedComparisons)
        found.append(stated)
    return found


def _frozen(name: str) -> CausalPolicy:
    return CausalPolicy(load_causal(name).requires_grad_(requires_grad=False))


def _reward(objective: ObjectiveOfRewards, told: ComparedLogps) -> Float[Tensor, " N"]:
    if isinstance(objective, DirectObjective):
        return objective.reward(told)
    return objective.beta * told.ratio
