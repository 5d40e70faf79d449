"""The roles of online learning: policy, reference, sampler, judge, values; and their loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from backflip.algorithms.sft import SFT
from backflip.data.collate import Fit, tokenize_demonstrations
from backflip.data.curriculum import PromptPool
from backflip.data.records import Demonstration, Prompt
from backflip.data.stream import Batches
from backflip.distributed.world import here
from backflip.generate.engine import Engine, end
from backflip.generate.sampler import Sampler
from backflip.models.causal import CausalPolicy
from backflip.reward.protocol import RewardSource
from backflip.reward.shaping import Shaped
from backflip.reward.watched import Watched
from backflip.stages.context import StageContext
from backflip.stages.corrections import settled
from backflip.stages.crew import Apart, Together
from backflip.stages.environments import episodes, longest
from backflip.stages.settings import Pretraining
from backflip.stages.values import SharedValues, ValueContext
from backflip.training.driver import keep_batches
from backflip.training.online import OnlineLoop, PretrainingMix
from backflip.training.run_folder import RunFolder
from backflip.training.values import Critic

__all__ = ["Roles"]


@dataclass(frozen=True)
class Roles:
    """Policy, reference, sampler and reward of an online stage."""

    recipe: Any
    context: StageContext
    policy: CausalPolicy
    reference: Any
    sampler: Any
    """A ``Sampler``, or an ``EpisodeSampler`` around one."""
    reward: RewardSource
    """Shaped as the recipe says."""
    engine: Engine
    """Draws the answers, for all of them."""
    home: Together
    """Where they live."""

    @staticmethod
    def of(context: StageContext, records: Sequence[Prompt], functions: Mapping[str, Any]) -> Roles:
        """``records``: prompts by ``Rollouts.row``; ``functions``: a reward, an environment from
        Python.
        """
        recipe: Any = context.recipe
        home = (Together if recipe.cluster is None else Apart)(context, records, functions)
        try:
            return Roles._at(home, functions.get("environment"))
        except BaseException:
            home.close()
            raise

    @staticmethod
    def _at(home: Together, environment: Any) -> Roles:
        """``environment``: a class from Python, or None."""
        context, recipe = home.context, cast("Any", home.recipe)
        reward = None if recipe.reward.uses_policy else home.reward(None)
        policy = CausalPolicy(
            context.causal(),
            temperature=recipe.sampling.temperature,
            compute=context.masters[1],
        )
        reference = home.reference(policy)
        if isinstance(recipe.values, SharedValues):
            policy.add_value_head()
        here().shard(policy)
        if isinstance(reference, CausalPolicy):
            here().shard(reference)
        params = context.sampling(recipe.sampling, policy.model)
        engine = home.engine(policy.model)
        try:
            sampler = Sampler(engine=engine, params=params, group_size=recipe.answers_per_prompt)
            if recipe.environment is not None:
                settings, records = recipe.environment, home.records
                sampler = episodes(settings, context, sampler, records, environment)
            judge = Shaped(reward or home.reward(engine), recipe.shaping, longest(recipe))
            gold = home.gold()
            judge = judge if gold is None else Watched(judge, gold)
        except BaseException:
            end(engine)
            raise
        return Roles(recipe, context, policy, reference, sampler, judge, engine, home)

    def loop(self, total: int, run: RunFolder, pool: PromptPool | None = None) -> OnlineLoop:
        """The loop of a run of ``total`` rounds of sampling."""
        recipe, context = self.recipe, self.context
        updates = total * recipe.algorithm.epochs * recipe.minibatches
        alone = getattr(recipe.algorithm, "value_steps", 0) / max(total, 1)
        learnt = round(updates * max(1 - alone, 0))
        learner = context.learner(self.policy, recipe.optimizer, learnt)
        learner.on_skip = keep_batches(run)
        given = ValueContext(
            context,
            run,
            updates,
            scorer=next(iter(recipe.reward.scorers()), None),
            reward=self.reward,
            sampler=self.sampler,
            value_eps=getattr(recipe.algorithm, "value_eps", 0.2),
        )
        own = {"exact": self.sampler.exact, "ahead": recipe.ahead}
        correction, said = settled(recipe.correction, recipe.algorithm, **own)
        if said:
            context.say(said)
        mixed = recipe.pretraining
        return OnlineLoop(
            learner=learner,
            reference=self.reference,
            sampler=self.sampler,
            reward=self.reward,
            values=self.home.values(given),
            algorithm=recipe.algorithm,
            minibatches=recipe.minibatches,
            seed=recipe.seed,
            correction=correction,
            beside=_pretraining(context, mixed) if mixed else None,
            pool=pool,
            steps=total,
        )

    def troubles(self) -> list[str]:
        """Sentences on calls that failed, and on what episodes lost, with counts."""
        return self.sampler.troubles.lines() if self.recipe.environment is not None else []

    def close(self) -> list[str]:
        """End what was opened for episodes, and a server of the run's own; sentences on what could
        not be ended.
        """
        end(self.engine)
        self.home.close()
        if self.recipe.environment is None:
            return []
        troubles = self.sampler.troubles
        troubles.clear()
        self.sampler.close()
        return troubles.lines()

    def modules(self, loop: OnlineLoop) -> dict[str, Any]:
        """The models that learn, by their names in checkpoints."""
        modules: dict[str, Any] = {"policy": self.policy}
        if isinstance(loop.values, Critic):
            modules["critic"] = loop.values.learner.model
        return modules


def _pretraining(context: StageContext, settings: Pretraining) -> PretrainingMix:
    records = context.read(settings.source, Demonstration)
    fit = Fit(settings.max_length)
    data = context.told(tokenize_demonstrations(records, context.template, fit=fit))
    seed = context.recipe.seed
    batches = Batches(data, size=settings.batch_size, seed=seed, epochs=None)
    return PretrainingMix(SFT(coef=settings.coef), batches)
