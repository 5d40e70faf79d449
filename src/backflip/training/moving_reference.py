"""References that speak while the policy learns: one that stays, and one that follows it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backflip.distributed.layout import is_sharded, laid_out
from backflip.errors import UserError
from backflip.models.causal import AdaptersOff, CausalPolicy
from backflip.training.reference import with_reference

__all__ = ["FixedReference", "MovingReference"]


@dataclass(frozen=True)
class FixedReference:
    """States its numbers of each batch before its step, where rows are not known beforehand.

    The model must be another than the policy: a copy, or the policy with its adapters off.
    """

    model: CausalPolicy | AdaptersOff
    token_budget: int

    def before(self, batch: Any) -> Any:
        """The batch with what the reference says of it."""
        return with_reference(batch, self.model, token_budget=self.token_budget)

    def after(self, step: int) -> None:
        """The fixed reference has no step to take."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class MovingReference:
    """The reference of TR-DPO: it follows the policy (Gorbatovski et al., 2024).

    After every ``every`` steps θ_ref ← mix·θ + (1 − mix)·θ_ref; ``mix`` = 1 is the hard update.
    Only a copy of the weights that learn is held (with LoRA: of the adapters), and exchanged with
    the policy's for a forward pass. A loop calls ``before`` and ``after`` around its step.
    """

    def __init__(
        self, policy: CausalPolicy, *, mix: float | int, every: int, token_budget: int
    ) -> None:
        if not 0 < mix <= 1:
            raise UserError(f"mix is {mix}: give a share of the policy in (0, 1]; 1 replaces all")
        if every < 1:
            raise UserError(f"every is {every}: give a number of steps, 1 or more")
        self.policy, self.mix, self.every = policy, mix, every
        self.token_budget = token_budget
        self._held = {name: p.detach().clone() for name, p in self._learning().items()}

    def before(self, batch: Any) -> Any:
        """The batch with what the reference says of it as it is now."""
        with self._in_place():
            return with_reference(batch, self.policy, token_budget=self.token_budget)

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Move where step ``step``, counted from 1, says so."""
        if step % self.every == 0:
            for name, parameter in self._learning().items():
                self._held[name].lerp_(parameter, self.mix)

    def state_dict(self) -> dict[str, Any]:
        return {"held": self._held}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, tensor in self._held.items():
            tensor.copy_(laid_out(state["held"][name], tensor))

    def _learning(self) -> dict[str, Tensor]:
        model: torch.nn.Module = self.policy.model
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    @contextlib.contextmanager
    def _in_place(self) -> Generator[None, None, None]:
        """Inside, the policy has the reference's weights."""
        learning = self._learning()
        own = {name: parameter.data for name, parameter in learning.items()}
        if is_sharded(self.policy):  # what lies on several ranks is known by where it lies
            own = {name: tensor.clone() for name, tensor in own.items()}
        try:
            self._exchange(learning, self._held)
            yield
        finally:
            self._exchange(learning, own)

    @torch.no_grad()
    def _exchange(self, learning: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        for name, parameter in learning.items():
            if is_sharded(self.policy):
                parameter.copy_(weights[name])
            else:
                parameter.data = weights[name]
