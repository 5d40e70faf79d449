"""Several sources of reward of which one speaks by a rule, so that none pays for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.records import Prompt
from backflip.errors import UserError
from backflip.functional.credit import whiten
from backflip.reward.mix import told
from backflip.reward.protocol import Judgement, RewardSource

__all__ = ["Gate", "Lexicographic", "MaxMin"]


@dataclass(frozen=True)
class Gate:
    """Llama 2's two reward models (Touvron et al., 2023, section 3.2.3).

    The first speaks where its score is below a limit, or where the prompt asks for it; elsewhere
    the second does. ``parts`` holds ``gated``, 1 where the first spoke.
    """

    sources: Mapping[str, RewardSource]
    """Two of them: the one that guards, and the other."""
    below: float
    """Score of the first below which it speaks."""
    asks: Callable[[Prompt], bool] | None = None
    """Whether a prompt is the first one's affair, whatever it says."""
    records: Sequence[Prompt] = ()
    """Prompts by ``Rollouts.row``."""
    whiten: bool = True
    """The score that spoke gets mean 0 and deviation 1 over the batch, as Llama 2 does."""
    verdicts: str | None = None

    def __call__(self, rollouts: Rollouts) -> Judgement:
        given, said = _scores(self.sources, rollouts, self.verdicts)
        first, second = given.values()
        asked = self._asked(rollouts)
        guards = asked | ~(first >= self.below)  # without a score of the first there is none
        scores = torch.where(guards, first, second)
        parts = {**said["parts"], "gated": guards.to(scores.dtype)}
        known = scores.isfinite()
        if self.whiten and known.any():
            white = whiten(scores[:, None], known[:, None])[:, 0]
            scores = torch.where(known, white, scores)
        return Judgement(scores, parts, failures=said["failures"])

    def _asked(self, rollouts: Rollouts) -> Bool[Tensor, " B"]:
        if self.asks is None:
            return torch.zeros(len(rollouts), dtype=torch.bool)
        return torch.tensor([self.asks(self.records[row]) for row in rollouts.row.tolist()])


@dataclass(frozen=True)
class Lexicographic:
    """Rewards in order of rank: one counts where all before it are satisfied.

    An answer that misses its k-th floor scores k + σ(score − floor), k from 0, which is below
    k + ½; one that misses none scores K + σ(score of the last). So nothing that a later reward says
    makes up for an earlier one.
    """

    sources: Mapping[str, RewardSource]
    floors: Sequence[float]
    """Of each source but the last."""
    verdicts: str | None = None

    def __call__(self, rollouts: Rollouts) -> Judgement:
        given, said = _scores(self.sources, rollouts, self.verdicts)
        *ranked, last = given.values()
        scores = len(self.floors) + last.sigmoid()
        for place in reversed(range(len(self.floors))):
            over = ranked[place] - self.floors[place]
            scores = torch.where(over >= 0, scores, place + over.sigmoid())
        return Judgement(scores, said["parts"], failures=said["failures"])


@dataclass(frozen=True)
class MaxMin:
    """The reward of the group that is worst off (MaxMin-RLHF: Chakraborty et al., 2024).

    In each batch the policy learns from the source whose mean score is lowest, so that it raises
    the minimum of all. Scores of the sources must be on one scale. ``parts`` holds for each source
    ``worst_NAME``, 1 where it was the one.
    """

    sources: Mapping[str, RewardSource]
    verdicts: str | None = None

    def __call__(self, rollouts: Rollouts) -> Judgement:
        given, said = _scores(self.sources, rollouts, self.verdicts)
        means = {name: _mean(scores) for name, scores in given.items()}
        worst = min(means, key=lambda name: means[name])
        scores = given[worst]
        parts: dict[str, Any] = dict(said["parts"])
        for name in given:
            parts[f"worst_{name}"] = torch.full_like(scores, float(name == worst))
        return Judgement(scores, parts, failures=said["failures"])


def _scores(
    sources: Mapping[str, RewardSource], rollouts: Rollouts, verdicts: str | None
) -> tuple[dict[str, Float[Tensor, " B"]], dict[str, Any]]:
    """Scores of each source, and the parts and failures of all. Raises UserError where one of them
    rewards steps: what of them would be left is not said by whole answers.
    """
    judged, said = told(sources, rollouts, verdicts)
    for name, judgement in judged.items():
        if judgement.steps is not None:
            raise UserError(
                f"reward: {name} rewards steps within an answer, of which only a mix can be made. "
                "Set reward.name=mix, or a reward of whole answers."
            )
    return {name: judgement.scores for name, judgement in judged.items()}, said


def _mean(scores: Float[Tensor, " B"]) -> float:
    """Over the answers that have a score; infinite where none has."""
    known = scores[scores.isfinite()]
    return float(known.mean()) if len(known) else float("inf")
