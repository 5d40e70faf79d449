"""Rows, models and counters for the tests of the reference."""

from __future__ import annotations

import contextlib
import warnings

import torch

from backflip.data.batches import ComparisonBatch, LabelledBatch, TokenSteps
from backflip.models.causal import CausalPolicy
from backflip.models.lora import LoraSettings, add_lora
from backflip.training.reference import (
    with_reference,
)
from tests.models.families import tiny

BUDGET = 64


def comparisons(rows=12, answers=2, seed=0):
    """Prompts of several lengths, answers of several turns: some tokens are the user's."""
    generator = torch.Generator().manual_seed(seed)

    def words(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(3, 61, (length,), generator=generator).tolist()

    prompts = [words(4, 9) for _ in range(rows)]
    texts = [[words(2, 10) for _ in range(answers)] for _ in range(rows)]
    masks = [[[i % 5 != 2 for i in range(len(a))] for a in row] for row in texts]
    return ComparisonBatch.of(prompts, texts, [list(range(answers))] * rows, masks=masks)


def labelled(rows=7):
    pairs = comparisons(rows)
    own, other = torch.arange(rows) * 2, (torch.arange(rows) * 2 + 3) % (2 * rows)
    steps, mask = pairs.answers.values, pairs.mask.values
    mismatched = TokenSteps(steps.prompt[own], steps.answer[other], steps.width)
    return LabelledBatch(
        steps=steps[own],
        mask=mask[own],
        label=torch.arange(rows) % 2 == 0,
        weight=torch.ones(rows),
        mismatched=mismatched,
        mismatched_mask=mask[other],
    )


def naive(model, steps, mask):
    """One row at a time, without forest, cache or packing."""
    sums = []
    for row in range(len(steps)):
        tokens = torch.tensor([steps.sequence(row)])
        logp = model(input_ids=tokens, use_cache=False).logits[0].log_softmax(-1)
        start = int(steps.prompt.lengths[row])
        own = [
            logp[at - 1, tokens[0, at]]
            for at in range(start, tokens.shape[1])
            if mask[row, at - start]
        ]
        sums.append(torch.stack(own).sum())
    return torch.stack(sums).detach()


def counted(policy):
    """The policy, and the answers in each of its forward passes."""
    calls, evaluate = [], policy.evaluate

    def counting(steps, want=("logp",)):
        calls.append(len(steps))
        return evaluate(steps, want)

    policy.evaluate = counting
    return policy, calls


def adapted(seed=0, trained=False):
    policy = CausalPolicy(add_lora(tiny("llama", seed), LoraSettings(rank=2, alpha=4.0)))
    if trained:
        torch.manual_seed(9)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.3)
    return policy


def stated(data, policy, **settings):
    return with_reference(data, policy, token_budget=BUDGET, **settings)


@contextlib.contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
