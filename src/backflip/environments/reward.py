"""Rewards of episodes: those of the environment, and others' judgement of how an episode ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.environments.episodes import COUNTED
from backflip.errors import UserError
from backflip.functional.credit import last_choice
from backflip.reward.protocol import Judgement, RewardSource

__all__ = ["EnvironmentReward", "LastTurn", "OfEpisodes", "last_turn"]


@dataclass(frozen=True)
class EnvironmentReward:
    """Rewards that the environment gave, each on the last token of the turn that it came in."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        played = rollouts.played
        if played is None:
            raise UserError(
                "reward=environment, but nobody plays in one. Set environment= as well: "
                "environment=calculator, environment=my_game.py:Game."
            )
        mask = rollouts.mask
        ends = mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))
        return Judgement(played.rewards.sum(-1), steps=played.rewards, ends=ends)


@dataclass(frozen=True)
class LastTurn:
    """A source that judges the last turn as the answer, and all before it as its prompt."""

    source: RewardSource

    def __call__(self, rollouts: Rollouts) -> Judgement:
        if rollouts.played is None:
            return self.source(rollouts)
        starts = last_turn(rollouts).tolist()
        steps = rollouts.steps
        pairs = list(zip(steps.prompt.rows(), steps.answer.rows(), starts, strict=True))
        shown = TokenSteps.of(
            [prompt.tolist() + answer.tolist()[:at] for prompt, answer, at in pairs],
            [answer.tolist()[at:] for _, answer, at in pairs],
        )
        logp = torch.zeros(shown.mask.shape)
        turns = replace(rollouts, steps=shown, mask=shown.mask, logp=logp, version=logp.long())
        judged = self.source(turns)
        placed: dict[str, Tensor] = {}
        for name in ("steps", "ends"):
            if (values := getattr(judged, name)) is not None:
                placed[name] = values.new_zeros(rollouts.mask.shape)
                for row, (at, length) in enumerate(zip(starts, shown.answer.lengths, strict=True)):
                    placed[name][row, at : at + length] = values[row, :length]
        return replace(judged, **placed)


@dataclass(frozen=True)
class OfEpisodes:
    """A source in which episodes whose environment failed have no score; the courses of the others
    are shown beside their scores.
    """

    source: RewardSource

    def __call__(self, rollouts: Rollouts) -> Judgement:
        judged, played = self.source(rollouts), rollouts.played
        if played is None:
            return judged
        failures = judged.failures
        failures.update(played.failures)
        courses = {name: getattr(played, name).float() for name in COUNTED}
        return replace(
            judged,
            scores=torch.where(played.broken, math.nan, judged.scores),
            parts={**judged.parts, **courses},
            failures=failures,
        )


def last_turn(rollouts: Rollouts) -> Int[Tensor, " B"]:
    """Place of the first token of each episode's last turn; 0 for one without a turn."""
    mask = rollouts.mask
    steps = torch.arange(mask.shape[1], device=mask.device)
    behind = steps <= last_choice(mask)[:, None]
    other = torch.where(~mask & behind, steps, -1)
    return torch.nn.functional.pad(other, (1, 0), value=-1).amax(-1) + 1
