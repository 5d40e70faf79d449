"""The judges of rounds: a model, the policy itself, a function, people, or a round's own model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from backflip.data.batches import Rollouts
from backflip.data.records import Messages
from backflip.distributed.world import here
from backflip.reward.protocol import RewardSource, Told
from backflip.rounds.folders import RoundFolders
from backflip.rounds.people import People, asks_people, labeller
from backflip.rounds.policy_sampler import PolicySampler, grader
from backflip.rounds.settings import PYTHON, SELF, IterativeRecipe
from backflip.stages.context import StageContext
from backflip.stages.rewards.models import reward_model
from backflip.stages.spoken import plain

__all__ = ["Judges"]


@dataclass(frozen=True)
class Judges:
    """Judges of a round: of the answers it learns from, and of its policy on held-out prompts."""

    recipe: IterativeRecipe
    folders: RoundFolders
    given: RewardSource | None
    """A function from Python."""
    context: StageContext
    messages: list[Messages]
    """The prompts to learn on."""

    @property
    def relative(self) -> bool:
        """Whether people compare answers with one another, so that scores of rounds differ."""
        return here().once(self._relative)

    def _relative(self) -> bool:
        with labeller(self.people) as raters:
            return raters.relative

    def of_round(self, number: int, speaker: PolicySampler, rows: torch.Tensor) -> RewardSource:
        """The judge of answers to learn from: the round's own reward model, or else the judge."""
        if self.recipe.reward_model is not None:
            speaker.forget()
            return self.own_reward_model(number)
        if self.people:
            return self.raters(number, "answers", [self.messages[i] for i in rows.tolist()])
        return self.examiner(number, speaker)

    @property
    def people(self) -> str:
        """The project whose raters judge; empty: none."""
        judge = self.recipe.judge
        return judge.model if judge is not None and asks_people(judge.model) else ""

    def raters(
        self, number: int, what: str, messages: list[Messages], against: Rollouts | None = None
    ) -> People:
        """The raters, who are asked about the answers of a round."""
        run, context = self.folders.path, self.context
        return People(
            judge=self.people,
            prompts=messages,
            text=lambda tokens: plain(tokens, context.template),
            batch=f"{run.name} round {number} {what}",
            run=run,
            against=against,
        )

    def examiner(self, number: int, speaker: PolicySampler) -> RewardSource:
        """The judge that measures: the judge of the recipe, or else the round's reward model."""
        judge = self.recipe.judge
        if judge is None:
            return self.own_reward_model(number)
        if judge.model == PYTHON:
            assert self.given is not None, "the judge is checked before anything is sampled"
            return Told(self.given)
        if judge.model == SELF:
            return grader(speaker, judge, self.recipe.seed)
        speaker.forget()
        return reward_model(self.context, judge.model)

    def own_reward_model(self, number: int) -> RewardSource:
        """The reward model that a round has trained."""
        stage = self.folders.reward_model(number)
        assert stage is not None, "rounds without a judge train a reward model"
        return reward_model(self.context, str(stage.run / "model"))
