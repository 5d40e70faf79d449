"""How fast this machine multiplies matrices, and how many products a training step needs."""

from __future__ import annotations

from typing import Any

import torch
from timing import now
from workloads import Workload

SQUARE = 8192 if torch.cuda.is_available() else 2048
REPEATS = 5


def product_rate(config: Any, dtype: torch.dtype) -> float:
    """Floating-point operations a second: the fastest of a square and of the model's own shapes.

    Of each shape the best of ``REPEATS`` timings counts, in this process, with its threads.
    """
    rows, width, inner = 2048, config.hidden_size, config.intermediate_size
    shapes = [(SQUARE, SQUARE, SQUARE), (rows, width, inner), (rows, inner, width)]
    return max(rate(m, k, n, dtype) for m, k, n in shapes)


def peak(device: str) -> float | None:
    """The data sheet's operations a second in bfloat16; None for a device that is not known."""
    from backflip.cluster.devices import DEVICES, GPU_SHARE

    known = (one for name, one in DEVICES.items() if name in device.lower())
    return next((one.products / GPU_SHARE for one in known), None)


def rate(m: int, k: int, n: int, dtype: torch.dtype) -> float:
    """Operations a second of products of (m, k) and (k, n)."""
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


def training_operations(load: Workload, model: Any, record: Any, budget: int) -> float:
    """Operations of one step, forward and backward, on the forest that was really computed.

    As the forecast reckons them: 6 for each weight and token that it is learnt at, 4 where adapters
    learn (their own are not counted), attention and head on top. Reading again is not counted.
    """
    from backflip.cluster.reckoning import operations
    from backflip.models.causal import CausalPolicy
    from backflip.models.forest import plant
    from backflip.stages.plans import Lengths
    from backflip.stages.workload import Reading, shape_of

    policy = isinstance(model, CausalPolicy)
    last = -1 if policy else None  # a policy does not read its last choice
    tokens = keys = answers = 0
    for rows in model.plan(record, budget):
        steps = record[rows].sequences()[0]
        forest = plant([steps.sequence(row)[:last] for row in range(len(steps))])
        tokens += len(forest)
        keys += int((forest.positions + 1).sum())
        answers += len(steps.answer.values)
    lengths = Lengths(tokens - answers, answers, seen=keys / tokens)
    kind = "adapt" if load.get("lora") else "learn"
    reading = Reading("", shape_of(load["model"]), kind, lengths, 1, heads=policy)
    return operations(reading, lengths, tokens, recompute=False)
