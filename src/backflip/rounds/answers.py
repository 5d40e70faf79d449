"""The answers of rounds: who gives them, where they lie, and which of them are pooled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from backflip.data.ragged import Ragged
from backflip.rounds.folders import RoundFolders, mixed
from backflip.rounds.judges import Judges
from backflip.rounds.policy_sampler import PolicySampler
from backflip.rounds.settings import IterativeRecipe
from backflip.sampling.draw import Round, judge_all
from backflip.sampling.samples import Sampled, pooled
from backflip.stages.context import StageContext

__all__ = ["RoundAnswers", "renumbered"]


@dataclass(frozen=True)
class RoundAnswers:
    """Answers of the policies of a run of rounds, on disk."""

    recipe: IterativeRecipe
    folders: RoundFolders
    judges: Judges
    context: StageContext
    prompts: Ragged[Any]
    """All prompts to learn on, as tokens."""

    def policy(self, number: int, *, group: int = 1) -> PolicySampler:
        """The policy of after a round."""
        model, recipe = self.folders.policy(number), self.recipe
        return PolicySampler(self.context, model, recipe.sampling, group, recipe.max_rows)

    def to_learn_from(self, number: int) -> tuple[Round, torch.Tensor]:
        """The answers to learn from of a round, and which of all prompts they are to."""
        rows = torch.tensor(self.folders.prompts_of(number, len(self.prompts)))
        seed = mixed(self.recipe.seed, number)
        return self.part(number, "sampled", self.prompts[rows], seed), rows

    def part(self, number: int, name: str, prompts: Ragged[Any], seed: int) -> Round:
        sampling = self.recipe.sampling
        about = {
            "round": number,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "answers": self.recipe.answers_per_prompt if name == "sampled" else 1,
        }
        failed, folder = self.recipe.most_failed, self.folders.folder(number) / name
        return Round(folder=folder, prompts=prompts, seed=seed, about=about, most_failed=failed)

    def pool(self, number: int, now: Sampled) -> Sampled:
        """With those of earlier rounds, where the recipe pools; judged by one and the same."""
        if not self.recipe.pool or number == 1:
            return now
        own = self.recipe.reward_model is not None
        judge = self.judges.own_reward_model(number) if own else None
        earlier: list[Sampled] = []
        for past in range(1, number):
            part, rows = self.to_learn_from(past)
            before = part.load().sampled
            if judge is not None:
                before = judge_all(judge, before.rollouts).sampled
            earlier.append(renumbered(before, rows))
        return pooled([*earlier, now])


def renumbered(sampled: Sampled, rows: torch.Tensor) -> Sampled:
    """With prompts numbered as in all of the data, not as in the round."""
    rollouts = sampled.rollouts
    numbers = rows[rollouts.group]
    return Sampled(replace(rollouts, group=numbers, row=numbers), sampled.scores)
