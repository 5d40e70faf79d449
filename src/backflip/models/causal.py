"""A causal language model as a policy."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.data.batches import TokenSteps
from backflip.data.ragged import TensorRecord
from backflip.distributed.layout import is_sharded
from backflip.errors import UserError
from backflip.functional.logprobs import linear_entropy, linear_logp
from backflip.models.dropout import evaluating
from backflip.models.packing import plan
from backflip.models.trunk import Trunk, before_answer, dense


class CausalPolicy(nn.Module):
    """States the log-probability of every token that it, or somebody else, chose.

    Dropout is off, in the model and in its adapters: see ``dropout``.
    """

    def __init__(
        self, model: nn.Module, *, temperature: float = 1.0, compute: torch.dtype | None = None
    ) -> None:
        """``model``: a causal LM of transformers, plain or wrapped by peft.

        ``temperature`` divides the logits wherever this policy is asked for a probability.
        ``compute``: the type to multiply in; None, that of the weights.

        Raises:
            UserError: the model makes its logits in a way that is not known here.

        """
        super().__init__()
        self.trunk = Trunk(model, compute)
        self.value_head: nn.Linear | None = None
        self.temperature = temperature
        check_head(self.trunk)

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
        """Log-probabilities, entropies or values of every token of the answers; 0 behind ends.

        ``logp``: log-probability of the token in nats. ``entropy``: of the distribution it was
        chosen from, without a gradient; ``entropy_to_raise``: with one. ``values``: return
        expected before the choice, by the policy's value head.
        """
        rows, columns = before_answer(steps)
        sequences = [steps.sequence(i) for i in range(len(steps))]
        hidden = self.trunk(sequences, rows, columns)
        labels = steps.answer.values.to(hidden.device)
        out: dict[str, Tensor] = {}
        head = head_of(self.trunk, self.temperature)
        ready = hidden.to(head["weight"].dtype)
        if "logp" in want or "entropy" in want:
            logp, entropy = linear_logp(ready, labels=labels, entropy="entropy" in want, **head)
            out |= {"logp": logp, "entropy": entropy}
        if "entropy_to_raise" in want:
            out["entropy_to_raise"] = linear_entropy(ready, **head)
        if "values" in want:
            if self.value_head is None:
                raise ValueError("this policy has no value head: call add_value_head() first")
            values = self.value_head(hidden.to(self.value_head.weight.dtype))
            out["values"] = values.float()[:, 0]
        return {name: dense(out[name], steps) for name in want}

    def read(self, steps: TokenSteps) -> tuple[Float[Tensor, "M D"], dict[str, Any]]:
        """Hidden states before each token of the answers, and the head to read them by."""
        sequences = [steps.sequence(row) for row in range(len(steps))]
        hidden = self.trunk(sequences, *before_answer(steps))
        head = head_of(self.trunk, self.temperature)
        if is_sharded(self):  # what the head is made of is let go of behind this method
            head["weight"] = head["weight"].clone()
            head["bias"] = None if head["bias"] is None else head["bias"].clone()
        return hidden.to(head["weight"].dtype), head

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]:
        """Cut a batch into micro-batches of at most ``token_budget`` forest tokens."""
        return plan(batch, token_budget, forest=self.trunk.forest)

    def reference(self) -> CausalPolicy | AdaptersOff:
        """The policy as it is now, frozen: with LoRA the same model without its adapters.

        Otherwise a copy of the weights in memory, never of the checkpoint they came from.
        """
        if is_adapted(self.model) and adapters_are_new(self.model):
            return AdaptersOff(self)
        _let_go_of_graphs(self)
        frozen = copy.deepcopy(self).requires_grad_(requires_grad=False)
        frozen.value_head = None
        return frozen


def _let_go_of_graphs(model: nn.Module) -> None:
    """Detach tensors that modules keep from their last pass, such as a recurrent state.

    A tensor with a graph cannot be copied.
    """
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())


class AdaptersOff:
    """A LoRA policy without its adapters: a reference that costs no memory."""

    def __init__(self, policy: CausalPolicy) -> None:
        self.policy = policy

    def evaluate(
        self, steps: TokenSteps, want: Collection[str] = ("logp",)
    ) -> dict[str, Float[Tensor, "B T"]]:
        with self.policy.model.disable_adapter(), torch.no_grad():
            return self.policy.evaluate(steps, want)

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]:
        return self.policy.plan(batch, token_budget)


def is_adapted(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def adapters_are_new(model: nn.Module) -> bool:
    """Whether all LoRA B matrices are still zero, so that the model equals its base."""
    zeros = [not p.any() for name, p in model.named_parameters() if "lora_B" in name]
    return bool(zeros) and all(zeros)


def hidden_size(trunk: Trunk) -> int:
    return int(trunk.config.get_text_config().hidden_size)


def head_of(trunk: Trunk, temperature: float = 1.0) -> dict[str, Any]:
    """The vocabulary head and the temperature as arguments of ``linear_logp``.

    Cohere multiplies its logits by a constant and Granite divides them by one: both are a
    temperature.
    """
    head, config = trunk.whole.get_output_embeddings(), trunk.config.get_text_config()
    dtype = trunk.compute or head.weight.dtype
    bias = getattr(head, "bias", None)
    scale = _factor(config, "logit_scale") / _factor(config, "logits_scaling")
    return {
        "weight": head.weight.to(dtype),
        "bias": None if bias is None else bias.to(dtype),
        "softcap": _softcap(config),
        "temperature": temperature / scale,
    }


def _softcap(config: Any) -> float | None:
    """The c of c·tanh(logit/c), under the names that Gemma and RecurrentGemma give it."""
    names = ("final_logit_softcapping", "logits_soft_cap")
    return next((cap for name in names if (cap := getattr(config, name, None))), None)


def _factor(config: Any, name: str) -> float:
    value = getattr(config, name, None)
    return float(value) if isinstance(value, int | float) else 1.0


@torch.no_grad()
def check_head(trunk: Trunk) -> None:
    """Refuse a model whose own logits are not what ``head_of`` makes of its hidden states."""
    kind = trunk.config.model_type
    try:
        ours, own = _logits_twice(trunk)
        difference = float((ours - own).abs().max() / own.abs().max())
    except Exception as error:  # whatever the head of an unknown model stumbles over
        raise UserError(
            f"{kind} has a vocabulary head of a kind that is not known here "
            f"({type(error).__name__}), so that its log-probabilities cannot be read. Use a model "
            "of another type."
        ) from error
    if not difference <= max(1e-3, 4 * torch.finfo(head_of(trunk)["weight"].dtype).eps):
        raise UserError(
            f"{kind} changes its logits behind the vocabulary head in a way "
            f"that is not known here (they differ by {difference:.0%} of the largest), so that its "
            "log-probabilities would be wrong. Use a model of another type."
        )


def _logits_twice(trunk: Trunk) -> tuple[Float[Tensor, "L V"], Float[Tensor, "L V"]]:
    """Logits of a few tokens, as ``head_of`` makes them and as the model does."""
    tokens = [(7 * i + 3) % int(trunk.config.get_text_config().vocab_size) for i in range(8)]
    with evaluating(trunk.model):
        hidden = trunk.padded([tokens])[0]
        row = torch.tensor([tokens], device=trunk.device)
        own = trunk.whole(input_ids=row, use_cache=False).logits[0].float()
    head = head_of(trunk)
    weight, cap = head["weight"], head["softcap"]
    logits = nnf.linear(hidden.to(weight.dtype), weight, head["bias"]).float()
    return (cap * torch.tanh(logits / cap) if cap else logits) / head["temperature"], own
