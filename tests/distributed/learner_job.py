"""Steps of a learner on the ranks of torchrun, beside the same steps of one process.

Writes {case: {"parameters", "norm", "loss", "moved", "held"}}: largest differences, how far weights
went, and how often gradients were held back for a later micro-batch.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from backflip.algorithms.online.ppo import PPO
from backflip.data.batches import Experience, Rollouts, Scored, TokenSteps
from backflip.distributed import sharding
from backflip.distributed.joining import joined
from backflip.distributed.layout import whole
from backflip.distributed.sharding import shard
from backflip.distributed.world import ALONE, here, settled
from backflip.models.causal import CausalPolicy
from backflip.models.lora import LoraSettings, add_lora
from backflip.training.learner import Learner, Work, make_optimizer

VOCABULARY = 64
CASES: dict[str, dict[str, Any]] = {
    "all weights": {},
    "three micro-batches": {"groups": 3, "budget": 60},
    "added up after each of them": {"groups": 3, "budget": 60, "roomy": False},
    "one answer on two ranks": {"groups": 1, "size": 1},
    "clipped hard": {"max_norm": 0.01},
    "checkpointing": {"checkpointing": True},
    "LoRA on a bfloat16 base": {"lora": True, "base": torch.bfloat16},
    "products in bfloat16": {"compute": torch.bfloat16, "groups": 4, "budget": 60},
    "two nodes of one rank": {"nodes": 2},
    "GPT-2": {"family": "gpt2"},
    "averaged": {"averaged": True},
}


def experience(groups: int, size: int, seed: int) -> Experience:
    made = torch.Generator().manual_seed(seed)

    def draw(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=made).tolist()

    prompts = [draw(8 + 3 * i) for i in range(groups)]
    asked = [prompt for prompt in prompts for _ in range(size)]
    steps = TokenSteps.of(asked, [draw(9 - i % 5) for i in range(len(asked))])
    noise = [torch.randn(steps.mask.shape, generator=made) * steps.mask for _ in range(3)]
    logp = 0.1 * noise[0] - 4.0 * steps.mask
    ended = torch.ones(len(asked), dtype=torch.bool)
    group = torch.arange(groups).repeat_interleave(size)
    rollouts = Rollouts(steps, steps.mask, logp, group, ended, row=group)
    scores = torch.randn(len(asked), generator=made)
    rewards = torch.zeros_like(logp)
    rewards[torch.arange(len(asked)), steps.answer.lengths - 1] = scores
    return PPO().credit(
        Scored(
            rollouts=rollouts,
            rewards=rewards,
            logp_old=logp,
            logp_ref=logp + 0.1 * noise[1],
            values=0.3 * noise[2],
        )
    )


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    if family == "gpt2":  # its layers have another name
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes))
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def learner(how: dict[str, Any]) -> Learner:
    model: Any = model_of(how.get("family", "llama")).to(how.get("base", torch.float32))
    if how.get("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    model = add_lora(model, LoraSettings(rank=4)) if how.get("lora") else model
    policy = CausalPolicy(model, compute=how.get("compute"))
    if how.get("nodes") and here().size > 1:  # copied between nodes, cut within each
        shard(policy, init_device_mesh("cpu", (2, 1), mesh_dim_names=("nodes", "local")))
    with patch.object(sharding, "_fits", return_value=how.get("roomy", True)):
        here().shard(policy)
    if how.get("averaged"):
        for module in policy.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(2.0)
    optimizer = make_optimizer(policy, lr=1e-3)
    max_norm, budget = how.get("max_norm", 1.0), how.get("budget", 10_000)
    return Learner(policy, optimizer, max_norm=max_norm, token_budget=budget)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return {name: whole(parameter.detach()).clone() for name, parameter in learning}


def compared(how: dict[str, Any]) -> dict[str, float]:
    batches = [experience(how.get("groups", 3), how.get("size", 4), seed) for seed in range(3)]
    with settled(ALONE):
        alone = learner(how)
        begun = weights(alone.model)
        wanted = [alone.step(Work(PPO(), batch)) for batch in batches]
    several = learner(how)
    model = several.model
    with patch.object(
        model, "set_requires_gradient_sync", wraps=model.set_requires_gradient_sync
    ) as added:
        got = [several.step(Work(PPO(), batch)) for batch in batches]
    one, other = weights(alone.model), weights(several.model)

    def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
        return max(float((a[name] - b[name]).abs().max()) for name in a)

    pairs = list(zip(wanted, got, strict=True))
    return {
        "parameters": far(one, other),
        "moved": far(begun, one),
        "norm": max(abs(w["grad_norm"] - g["grad_norm"]) / w["grad_norm"] for w, g in pairs),
        "held": sum(call.args == (False,) for call in added.call_args_list),
        "loss": max(abs(w["policy_loss"] - g["policy_loss"]) for w, g in pairs),
    }


if __name__ == "__main__":
    with joined():
        found = {name: compared(how) for name, how in CASES.items()}
        if here().leads:
            sys.stdout.write(f"{json.dumps(found)}\n")
