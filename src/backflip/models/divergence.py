"""KL between two policies by the exact sum over the vocabulary, along answers that were drawn."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.distributed.reading import Elsewhere, read_in_parts, resident
from backflip.functional.kl import kl_exact
from backflip.functional.logprobs import ROWS
from backflip.models.causal import AdaptersOff, CausalPolicy
from backflip.models.trunk import dense


@torch.no_grad()
def exact_kl(
    policy: CausalPolicy,
    reference: CausalPolicy | AdaptersOff | Elsewhere,
    record: Rollouts | TokenSteps,
    budget: int,
) -> Float[Tensor, " B"]:
    """KL(policy‖reference) of each answer in nats, on the CPU: Σ over the tokens that ``mask`` of
    the record names of the KL between the two distributions that the token could be drawn from.

    On answers drawn from the policy its mean is what ``answer_kl`` estimates, with less noise and
    never below 0. ``budget``: forest tokens in one micro-batch.
    """
    if isinstance(reference, Elsewhere):
        return reference.exact_kl(policy, record, budget)
    own, steps = reference, record.sequences()[0]
    out = torch.zeros(len(steps))

    def each(piece: Rollouts | TokenSteps) -> Float[Tensor, " b"]:
        found, chosen = _each(policy, own, piece.sequences()[0]), piece.mask
        return torch.where(chosen.to(found.device), found, 0.0).sum(-1)

    with resident(reference):
        for rows, kl in read_in_parts(policy, record, budget, each):
            out[rows] = kl
    return out


def _each(
    policy: CausalPolicy, reference: CausalPolicy | AdaptersOff, steps: TokenSteps
) -> Float[Tensor, "B T"]:
    (one, head), (other, its) = (_hidden(model, steps) for model in (policy, reference))
    pieces = zip(one.split(ROWS), other.split(ROWS), strict=True)
    told = [kl_exact(_logp(a, head), _logp(b, its)) for a, b in pieces]
    return dense(torch.cat(told), steps)


def _hidden(
    model: CausalPolicy | AdaptersOff, steps: TokenSteps
) -> tuple[Float[Tensor, "M D"], dict[str, Any]]:
    """Hidden states before each token of the answers, and the head to read them by."""
    if isinstance(model, AdaptersOff):
        with model.policy.model.disable_adapter():
            return _hidden(model.policy, steps)
    return model.read(steps)


def _logp(hidden: Float[Tensor, "M D"], head: dict[str, Any]) -> Float[Tensor, "M V"]:
    logits = nnf.linear(hidden, head["weight"], head["bias"]).float()
    if cap := head["softcap"]:
        logits = cap * torch.tanh(logits / cap)
    return (logits / head["temperature"]).log_softmax(-1)
