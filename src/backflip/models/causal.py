"""A causal language model as a policy."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.data.batches import TensorRecord, TokenSteps
from backflip.functional.logprobs import linear_entropy, linear_logp
from backflip.models.packing import plan
from backflip.models.trunk import Trunk, before_answer, dense


class CausalPolicy(nn.Module):
    """States the log-probability of every token that it, or somebody else, chose.

    Dropout is off: a policy that samples differently from how it learns has ratios that mean
    nothing.
    """

    def __init__(self, model: nn.Module, *, temperature: float = 1.0) -> None:
        """``model``: a causal LM of transformers, plain or wrapped by peft.

        ``temperature`` divides the logits wherever this policy is asked for a probability.
        """
        super().__init__()
        self.trunk = Trunk(model)
        self.value_head: nn.Linear | None = None
        self.temperature = temperature
        without_dropout(self)

    @property
    def model(self) -> Any:
        """The transformers (or peft) model itself."""
        return self.trunk.model

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    def add_value_head(self) -> None:
        """Let the policy predict its own return, from zero at first (Ziegler et al., 2019)."""
        head = nn.Linear(hidden_size(self.trunk), 1, bias=True)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.value_head = head.to(self.device)

    def evaluate(
        self, steps: TokenSteps, want: Collection[str] = ("logp",)
    ) -> dict[str, Float[Tensor, "B T"]]:
        """What is asked for, for every token of the answers, 0 behind their ends.

        ``logp``: log-probability of the token in nats. ``entropy``: of the distribution it was
        chosen from, without a gradient; ``entropy_to_raise``: with one. ``values``: return
        expected before the choice, by the policy's value head.
        """
        rows, columns = before_answer(steps)
        sequences = [steps.sequence(i) for i in range(len(steps))]
        hidden = self.trunk(sequences, rows, columns)
        labels = steps.answer.values.to(hidden.device)
        out: dict[str, Tensor] = {}
        head = head_of(self.trunk)
        if "logp" in want or "entropy" in want:
            logp, entropy = linear_logp(hidden, labels=labels, temperature=self.temperature, **head)
            out |= {"logp": logp, "entropy": entropy}
        if "entropy_to_raise" in want:
            out["entropy_to_raise"] = linear_entropy(hidden, temperature=self.temperature, **head)
        if "values" in want:
            if self.value_head is None:
                raise ValueError("this policy has no value head: call add_value_head() first")
            out["values"] = self.value_head(hidden).float()[:, 0]
        return {name: dense(out[name], steps) for name in want}

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]:
        """Cut a batch into micro-batches of at most ``token_budget`` forest tokens."""
        return plan(batch, token_budget, forest=self.trunk.forest)

    def reference(self) -> CausalPolicy | AdaptersOff:
        """The policy as it is now, frozen: with LoRA the same model without its adapters.

        Otherwise a copy of the weights in memory, never of the checkpoint they came from.
        """
        if is_adapted(self.model) and adapters_are_new(self.model):
            return AdaptersOff(self)
        frozen = copy.deepcopy(self).requires_grad_(requires_grad=False)
        frozen.value_head = None
        return frozen


class AdaptersOff:
    """A LoRA policy without its adapters: a reference that costs no memory."""

    def __init__(self, policy: CausalPolicy) -> None:
        self.policy = policy

    def evaluate(
        self, steps: TokenSteps, want: Collection[str] = ("logp",)
    ) -> dict[str, Float[Tensor, "B T"]]:
        with adapters_off(self.policy.model), torch.no_grad():
            return self.policy.evaluate(steps, want)

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]:
        return self.policy.plan(batch, token_budget)


@contextlib.contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Compute without LoRA inside the block."""
    with model.disable_adapter():
        yield


def is_adapted(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def adapters_are_new(model: nn.Module) -> bool:
    """Whether all LoRA B matrices are still zero, so that the model equals its base."""
    zeros = [not p.any() for name, p in model.named_parameters() if "lora_B" in name]
    return bool(zeros) and all(zeros)


def without_dropout(model: nn.Module) -> None:
    """Switch every dropout off for good, whatever train() and eval() say later."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "attn_pdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def hidden_size(trunk: Trunk) -> int:
    return int(trunk.config.get_text_config().hidden_size)


def head_of(trunk: Trunk) -> dict[str, Any]:
    """The vocabulary head as arguments of ``linear_logp``."""
    head = trunk.whole.get_output_embeddings()
    softcap = getattr(trunk.config, "final_logit_softcapping", None)
    return {"weight": head.weight, "bias": getattr(head, "bias", None), "softcap": softcap}
