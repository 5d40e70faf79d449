"""Where the roles of an online stage live: with whoever learns, or in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from backflip.data.records import Prompt
from backflip.distributed.crew import Crew, Member, Patience
from backflip.distributed.joining import bounded
from backflip.distributed.world import here
from backflip.generate.engine import Engine
from backflip.generate.fleet import Fleet
from backflip.generate.led import Led
from backflip.models.causal import CausalPolicy
from backflip.models.learnt import copied
from backflip.reward.protocol import RewardSource
from backflip.stages.context import StageContext, placed
from backflip.stages.environments import judged_by
from backflip.stages.rewards.context import RewardContext
from backflip.stages.settings import Group, Positive
from backflip.stages.values import ValueContext
from backflip.training.remote import Asking, RemoteCritic, RemoteReference, RemoteReward
from backflip.training.values import ValueSource

__all__ = ["Apart", "ClusterSettings", "Together"]

MEMBERS = "backflip.stages.members"


class ClusterSettings(Group):
    """Roles that live in processes of their own, on the machines of a Ray cluster."""

    address: str = "local"
    """``local`` starts Ray on this machine for the run, ``auto`` finds the one that runs here, else
    HOST:PORT."""
    samplers: Annotated[int, Field(ge=0)] = 0
    """Engines that write answers; 0: whoever learns writes them."""
    reference: bool = False
    """Whether a reference with weights of its own lives elsewhere."""
    reward: bool = False
    """Whether answers are judged elsewhere."""
    critic: bool = False
    """Whether the critic learns elsewhere."""
    gpus: Annotated[float, Field(ge=0)] | None = None
    """Devices of each of these processes, 0.5 for two on one; null: one where the cluster has
    some."""
    patience: Positive = 600.0
    """Seconds to wait for answers, before who was asked counts as stuck and is started again."""
    start_seconds: Positive = 900.0
    """Seconds until a process must have loaded its models."""
    restarts: Annotated[int, Field(ge=0)] = 5
    """Most processes started again within an hour."""

    @property
    def members(self) -> int:
        """Processes beside those that learn."""
        return self.samplers + self.reference + self.reward + self.critic


class Together:
    """All roles live in the process that learns."""

    def __init__(
        self, context: StageContext, records: Sequence[Prompt], functions: Mapping[str, Any]
    ) -> None:
        """``records``: prompts by ``Rollouts.row``; ``functions``: a reward, an environment from
        Python.
        """
        self.context, self.recipe = context, context.recipe
        self.records, self.functions = records, functions

    def reward(self, engine: Engine | None) -> RewardSource:
        """Whoever judges answers; ``engine``: the policy's own, for a reward that uses it."""
        given = RewardContext(self.context, engine, self.records, self.functions.get("reward"))
        return judged_by(self.recipe, given, self.functions.get("environment"))

    def gold(self) -> RewardSource | None:
        """Whom the recipe watches beside the reward; None where there is nobody."""
        recipe: Any = self.recipe
        given = RewardContext(self.context, None, self.records, None)
        return None if recipe.gold is None else given.source(recipe.gold)

    def reference(self, policy: CausalPolicy) -> Any:
        """The policy as it is now, frozen."""
        recipe: Any = self.recipe
        return placed(self.context, policy.reference(), recipe.reference_device)

    def engine(self, model: Any) -> Engine:
        """Whoever writes answers with the weights of a model that learns."""
        recipe: Any = self.recipe
        return recipe.engine.build(model, self.context.tokenizer, max_rows=recipe.max_rows)

    def values(self, given: ValueContext) -> ValueSource:
        """Whoever expects scores."""
        recipe: Any = self.recipe
        return recipe.values.build(given)

    def close(self) -> None:
        """Nothing was started."""


class Apart(Together):
    """Some roles live in processes of their own, of which rank 0 alone knows."""

    def __init__(
        self, context: StageContext, records: Sequence[Prompt], functions: Mapping[str, Any]
    ) -> None:
        """Meets the cluster. Raises UserError where there is none, or too small a one."""
        super().__init__(context, records, functions)
        recipe: Any = self.recipe
        self.settings: ClusterSettings = recipe.cluster
        self._patience, self._crews = self._limits(), list[Crew]()
        here().once(self._meet)

    def reward(self, engine: Engine | None) -> RewardSource:
        if not self.settings.reward:
            return super().reward(engine)
        return RemoteReward(self._asking("reward", "Judge", list(self.records)))

    def reference(self, policy: CausalPolicy) -> Any:
        if not self.settings.reference:
            return super().reference(policy)
        shared = [crew.share(copied(policy.model)) for crew in self._crews]
        return RemoteReference(
            self._asking("reference", "FrozenModel", *shared), policy.temperature
        )

    def engine(self, model: Any) -> Engine:
        if not self.settings.samplers:
            return super().engine(model)
        recipe: Any = self.recipe
        wanted = [(f"sampler {n}", "ActingModel", ()) for n in range(self.settings.samplers)]
        members, exact = self._started(wanted), getattr(recipe.engine, "exact", False)
        made = [Fleet(crew, members, model, self._patience, exact=exact) for crew in self._crews]
        return made[0] if here().size == 1 else Led(made[0] if made else None, model, exact=exact)

    def values(self, given: ValueContext) -> ValueSource:
        if not self.settings.critic:
            return super().values(given)
        asked = (self.recipe.run, given.updates, given.scorer, torch.get_rng_state())
        return RemoteCritic(self._asking("critic", "ValueMember", *asked))

    def close(self) -> None:
        """End all members."""
        for crew in self._crews:
            crew.close()
        self._crews.clear()

    def _limits(self) -> Patience:
        """Of several ranks the others wait for whom rank 0 asks, and for whoever replaces it."""
        asked = self.settings
        answer, start, said = bounded(asked.patience, asked.start_seconds)
        if said:
            self.context.say(said)
        return Patience(answer, start, asked.restarts)

    def _meet(self) -> None:
        from backflip.distributed.ray_crew import RayCrew

        asked, taken = self.settings, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        how: Any = {"members": asked.members, "gpus": asked.gpus, "taken": taken}
        self._crews.append(RayCrew(asked.address, **how))

    def _asking(self, name: str, kind: str, *given: Any) -> Asking:
        members = self._started([(name, kind, given)])
        return Asking(members[0] if members else None, self._patience)

    def _started(self, wanted: Sequence[tuple[str, str, tuple[Any, ...]]]) -> list[Member]:
        return [
            crew.start(name, f"{MEMBERS}:{kind}", self.recipe, *given)
            for crew in self._crews
            for name, kind, given in wanted
        ]
