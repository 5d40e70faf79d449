"""How fast this machine multiplies matrices, and how many products a training step needs."""

from __future__ import annotations

from typing import Any

import torch
from timing import now

SQUARE = 8192 if torch.cuda.is_available() else 2048
REPEATS = 5


def product_rate(config: Any, dtype: torch.dtype) -> float:
    """Floating-point operations a second: the fastest of a square and of the model's own shapes.

    Of each shape the best of ``REPEATS`` timings counts, in this process, with its threads.
    """
    rows, width, inner = 2048, config.hidden_size, config.intermediate_size
    shapes = [(SQUARE, SQUARE, SQUARE), (rows, width, inner), (rows, inner, width)]
    return max(_rate(m, k, n, dtype) for m, k, n in shapes)


def _rate(m: int, k: int, n: int, dtype: torch.dtype) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(m, k, device=device, dtype=dtype)
    b = torch.randn(k, n, device=device, dtype=dtype)
    product = torch.empty(m, n, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(REPEATS):
        start = now()
        for _ in range(4):
            torch.mm(a, b, out=product)
        best = min(best, (now() - start) / 4)
    return 2 * m * k * n / best


def training_operations(model: Any, record: Any, *, head_rows: int) -> float:
    """Operations of one step, forward and backward, on the forest that was really computed.

    6 for each weight of the body's matrices and token; 12 for each query's visible key, layer and
    channel; 6 for each weight of the vocabulary head and row that it runs on.
    """
    from backflip.models.causal import CausalPolicy
    from backflip.models.forest import plant
    from backflip.models.packing import token_budget_here

    config = model.trunk.config
    body = sum(
        p.numel()
        for name, p in model.trunk.body.named_parameters()
        if p.dim() == 2 and "embed" not in name
    )
    channels = config.num_attention_heads * getattr(
        config, "head_dim", config.hidden_size // config.num_attention_heads
    )
    last = -1 if isinstance(model, CausalPolicy) else None  # a policy does not read its last choice
    tokens = keys = 0
    for rows in model.plan(record, token_budget_here()):
        steps = record[rows].sequences()[0]
        read = [steps.sequence(row)[:last] for row in range(len(steps))]
        forest = plant(read)
        tokens += len(forest)
        keys += int((forest.positions + 1).sum())
    attention = 12 * channels * config.num_hidden_layers * keys
    return 6 * body * tokens + attention + 6 * config.vocab_size * config.hidden_size * head_rows
