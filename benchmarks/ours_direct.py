"""Backflip's side of the direct family: DPO, KTO, ORPO, SimPO."""

from __future__ import annotations

from typing import Any

import torch
from ours import WatchedLearner, budget, comparisons, new_learner, new_policy, result
from timing import BETA, GAMMA, now
from workloads import Label, Workload

from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.kto import KTO
from backflip.algorithms.preference.orpo import ORPO
from backflip.algorithms.preference.plackett_luce_dpo import PlackettLuceDPO
from backflip.algorithms.preference.simpo import SimPO
from backflip.data.batches import ComparisonBatch, LabelledBatch, TokenSteps
from backflip.data.ragged import TensorRecord
from backflip.training.learner import Work
from backflip.training.reference import with_reference


def dpo(load: Workload) -> dict[str, Any]:
    """DPO, the reference's reading of each batch counted in its step."""
    return referenced(load, DPO(beta=BETA), [comparisons(rows) for rows in load["pairs"]])


def dpo_cached(load: Workload) -> dict[str, Any]:
    """The same with the reference known beforehand."""
    batches = [comparisons(rows) for rows in load["pairs"]]
    return referenced(load, DPO(beta=BETA), batches, cached=True)


def rankings(load: Workload) -> dict[str, Any]:
    """DPO over Plackett-Luce on prompts with K answers each, reference included."""
    batches = [
        ComparisonBatch.of(
            [row["prompt"] for row in rows],
            [row["answers"] for row in rows],
            [list(range(len(row["answers"]))) for row in rows],
        )
        for rows in load["rankings"]
    ]
    return referenced(load, PlackettLuceDPO(beta=BETA), batches)


def kto(load: Workload) -> dict[str, Any]:
    """KTO on 16 labelled answers a step, reference and KL included."""
    return referenced(load, KTO(beta=BETA), [labels(rows) for rows in load["labels"]])


def orpo(load: Workload) -> dict[str, Any]:
    """ORPO on 8 pairs a step."""
    return steps(load, ORPO(beta=BETA), new_policy(load), load["pairs"])


def simpo(load: Workload) -> dict[str, Any]:
    """SimPO on 8 pairs a step."""
    return steps(load, SimPO(beta=2.0, target_margin=GAMMA), new_policy(load), load["pairs"])


def referenced(
    load: Workload, objective: Any, batches: list[Any], *, cached: bool = False
) -> dict[str, Any]:
    """All batches are read by the reference, which is the policy before its first step; then the
    policy learns from them. The seconds of a step are those of both, or of learning alone.
    """
    model, known, reading = new_policy(load), list[Any](), list[float]()
    for batch in batches:
        start = now()
        known.append(with_reference(batch, model, token_budget=budget(load)))
        reading.append(now() - start)
    found = steps(load, objective, model, known)
    if not cached:
        found["seconds"] = [a + b for a, b in zip(found["seconds"], reading[1:], strict=True)]
    return found


def steps(load: Workload, objective: Any, model: Any, batches: list[Any]) -> dict[str, Any]:
    """One optimiser step on each batch."""
    learner = WatchedLearner(load, new_learner(load, model))
    seconds, losses = list[float](), list[float]()
    for rows in batches:
        batch = rows if isinstance(rows, TensorRecord) else comparisons(rows)
        start = now()
        losses.append(learner.step(Work(objective, batch))["loss"])
        seconds.append(now() - start)
    key = "labels" if isinstance(objective, KTO) else "pairs"
    found = result(seconds[1:], tokens_of(load, key)[1:])
    return {**found, "losses": losses, **learner.used(load.get("rate"))}


def labels(rows: list[Label]) -> LabelledBatch:
    """Labelled answers; the mismatched one is that of the row before, as the peer takes it."""
    own = TokenSteps.of([row["prompt"] for row in rows], [row["answer"] for row in rows])
    other = TokenSteps.of([row["prompt"] for row in rows], [row["mismatched"] for row in rows])
    return LabelledBatch(
        steps=own,
        mask=own.mask,
        label=torch.tensor([row["label"] for row in rows]),
        weight=torch.ones(len(rows)),
        mismatched=other,
        mismatched_mask=other.mask,
    )


def tokens_of(load: Workload, key: str) -> list[int]:
    """Tokens of every sequence with a loss, without sharing and padding, batch by batch."""
    if key == "labels":
        return [sum(len(r["prompt"] + r["answer"]) for r in batch) for batch in load["labels"]]
    sides = ("chosen", "rejected")
    return [sum(len(r["prompt"] + r[s]) for r in batch for s in sides) for batch in load["pairs"]]


WORKS = {
    "dpo": dpo,
    "dpo_cached": dpo_cached,
    "kto": kto,
    "orpo": orpo,
    "simpo": simpo,
    "rankings": rankings,
}
