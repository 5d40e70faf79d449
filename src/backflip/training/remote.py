"""Reference, reward and critic in processes of their own, behind the methods of the roles.

Of several ranks rank 0 asks and tells the others. Whoever reads without learning is started again
when it dies or hangs, and asked anew, which is the same work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from backflip.data.batches import Experience, Rollouts
from backflip.distributed.crew import Lost, Member, Patience, answer
from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.errors import RankError
from backflip.models.learnt import copied
from backflip.reward.protocol import Judgement

__all__ = ["Asking", "RemoteCritic", "RemoteReference", "RemoteReward"]


class Asking:
    """A member, and the limits on waiting for it."""

    def __init__(self, member: Member | None, patience: Patience) -> None:
        """``member``: rank 0's; None on others."""
        self.member, self.patience = member, patience
        self._built = False

    def again_and_again(self, method: str, *given: Any) -> Any:
        """The answer of a member whose work may be repeated, which is started again if need be."""
        return here().once(lambda: self._repeated(method, given))

    def once(self, method: str, *given: Any, to_leader: bool = False) -> Any:
        """The answer of a member that changes by being asked; ``to_leader``: None on other ranks.

        Raises RankError where it is lost.
        """
        kept: list[Any] = []
        ask = partial(self._asked, method, given)
        try:
            if not to_leader:
                return here().once(ask)
            here().once(lambda: kept.append(ask()))
            return kept[0] if kept else None
        except Lost as why:
            raise RankError(
                f"{why}, and with it is lost what it learnt since the last checkpoint. The run "
                "goes on from there: backflip resume RUN."
            ) from why

    def _repeated(self, method: str, given: tuple[Any, ...]) -> Any:
        while True:
            try:
                return self._asked(method, given)
            except Lost as why:
                assert self.member is not None, "rank 0 asks"
                self.patience.begin_again(self.member, str(why))
                self._built = False

    def _asked(self, method: str, given: tuple[Any, ...]) -> Any:
        assert self.member is not None, "rank 0 asks"
        seconds = self.patience.answer + (0.0 if self._built else self.patience.start)
        found = answer(self.member.ask(method, *given), seconds, self.member.name)
        self._built = True
        self.patience.answered(self.member)
        return found


class RemoteReference:
    """A reference with weights of its own, in another process."""

    def __init__(self, asking: Asking, temperature: float) -> None:
        self._asking, self.temperature = asking, temperature

    def evaluated(
        self, record: Any, want: Collection[str], token_budget: int
    ) -> dict[str, Float[Tensor, "B T"]]:
        given = (record, set(want), token_budget, self.temperature)
        return self._asking.again_and_again("evaluated", *given)

    def exact_kl(self, policy: Any, record: Any, token_budget: int) -> Float[Tensor, " B"]:
        model = plain(policy.model, only_leader=True)
        weights = copied(model) if here().leads else {}
        given = (weights, policy.temperature, record, token_budget)
        return self._asking.again_and_again("exact_kl", *given)


class RemoteReward:
    """A source of reward in another process."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def __call__(self, rollouts: Rollouts) -> Judgement:
        return self._asking.again_and_again("judged", rollouts)


class RemoteCritic:
    """A critic that learns in another process; checkpoints hold its weights and its optimiser."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        del policy, scores
        return self._asking.once("valued", rollouts)

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        return rollouts.mask

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return self._asking.once("learn", batch)

    def state_dict(self) -> dict[str, Any]:
        """Its weights and its optimiser, of several ranks on rank 0, which writes them."""
        return self._asking.once("state_dict", to_leader=True) or {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._asking.once("load_state_dict", state)
