"""Perplexity of answers under a model: do they stay with what that model could have said?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.records import Message
from backflip.distributed.reading import evaluate_all
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import suited
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, load_tokenizer

__all__ = ["Perplexities", "measure_perplexities", "perplexity"]

MOST = 0.9
"""The share of a model's own answers that lie below the limit."""


@dataclass(frozen=True)
class Perplexities:
    """Perplexities of answers to the same prompts under one model."""

    of: Mapping[str, Float[Tensor, " B"]]
    """By whose answers they are."""
    own: Float[Tensor, " N"]
    """Of answers that the model drew itself, at temperature 1 and without filters."""

    @property
    def limit(self) -> float:
        """The 90th percentile of the model's own answers."""
        return float(self.own.quantile(MOST))

    def within(self, name: str) -> int:
        """How many of these answers lie at or below the limit."""
        return int((self.of[name] <= self.limit).sum())

    def to_json(self) -> dict[str, Any]:
        """Medians, the limit, and how many answers lie within it."""
        return {
            "own_median": float(self.own.median()),
            "own_limit": self.limit,
            **{
                name: {"median": float(x.median()), "within": self.within(name), "answers": len(x)}
                for name, x in self.of.items()
            },
        }


def perplexity(policy: Any, steps: TokenSteps, token_budget: int) -> Float[Tensor, " B"]:
    """exp(−mean log π) over the tokens of each answer; infinite for an answer without tokens."""
    with torch.no_grad():
        logp = evaluate_all(policy, steps, {"logp"}, token_budget)["logp"]
    lengths = steps.answer.lengths
    return torch.where(lengths > 0, (-logp.sum(-1) / lengths.clamp(min=1)).exp(), torch.inf)


def measure_perplexities(
    model: str,
    prompts: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    *,
    max_tokens: int,
    seed: int = 0,
    token_budget: int = 2048,
) -> Perplexities:
    """Perplexities under ``model`` (a folder, hub name or run) of answers to one-turn prompts.

    ``answers``: a text for each prompt, by whose they are. The model's own are drawn here, one
    for each prompt, of at most ``max_tokens`` tokens. Tokens that end a turn are left out of all:
    an answer that was cut off has none.
    """
    tokenizer, causal = load_tokenizer(model), load_causal(model)
    template, policy = ChatTemplate(tokenizer), CausalPolicy(causal)
    asked = [template.prompt([Message("user", prompt)]) for prompt in prompts]
    params = suited(SamplingParams(max_tokens=max_tokens), template, policy.model)
    drawn = TorchEngine(policy.model).generate(asked, params, seed=seed)
    own = [[t for t in answer.tokens if t not in params.stop_tokens] for answer in drawn]

    def measured(tokens: Sequence[Sequence[int]]) -> Float[Tensor, " B"]:
        return perplexity(policy, TokenSteps.of(asked, tokens), token_budget)

    return Perplexities(
        {
            name: measured([tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts])
            for name, texts in answers.items()
        },
        measured(own),
    )
