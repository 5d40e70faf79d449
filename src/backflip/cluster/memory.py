"""Memory of one device under FSDP2, on paper."""

from __future__ import annotations

import math

from backflip.cluster.reckoning import Cluster, keys_bytes, share
from backflip.functional.logprobs import KEPT, ROWS
from backflip.stages.workload import Held, Reading, Workload, Writing

__all__ = ["memory"]

PROCESS = {True: 1.5e9, False: 0.45e9}
"""Bytes of a process before it loads anything: on a device its context and the libraries' buffers;
on a CPU Python, torch and transformers."""
COPIES = ("reference", "acting copies")
"""Roles whose weights are those that learn, as they are or were."""
WHOLE = 8
"""Gradients lie whole on each device where they take at most an eighth of it."""


def memory(work: Workload, cluster: Cluster) -> dict[str, float]:
    """Bytes by what takes them, at the worst moment of a step."""
    learners = [held for held in work.held if held.learning]
    learning = sum(held.learning for held in learners)
    fine = any(reading.kind == "learn" for reading in work.readings)
    shards, narrow = cluster.shards, cluster.narrow
    whole = shards == 1 or WHOLE * 4 * learning <= cluster.device.memory
    found = {
        "weights": sum(_weights(held, cluster, fine=fine) for held in work.held) / shards,
        "gradients": 4 * learning / (1 if whole else shards),
        "optimiser": 8 * learning / shards,
        "activations": max(_activations(r, cluster) for r in work.readings if r.kind != "read"),
        "logits": max(_logits(reading, cluster) for reading in work.readings),
        "process": PROCESS[cluster.device.cuda],
    }
    largest = max(reading.shape.parameters for reading in work.readings)
    if fine and cluster.device.cuda:
        found["copies in bfloat16"] = 2 * largest
    if shards > 1:
        found["gathered layers"] = max(_gathered(r, 4 if fine else narrow) for r in work.readings)
    if work.writing is not None:
        found["sampling"] = _sampling(work.writing, cluster, fine=fine)
    return found


def _weights(held: Held, cluster: Cluster, *, fine: bool) -> float:
    """Bytes of a model: float32 where all learns, its frozen copy too, else as it multiplies."""
    if held.learning == held.parameters or (fine and held.role in COPIES):
        return 4 * held.parameters
    return 4 * held.learning + cluster.narrow * (held.parameters - held.learning)


def _tokens(reading: Reading, cluster: Cluster) -> float:
    """Tokens of a micro-batch."""
    rows = reading.rows / reading.updates
    most = share(reading.lengths, rows, reading.parts, cluster.ranks)
    return most / math.ceil(most / cluster.budget)


def _activations(reading: Reading, cluster: Cluster) -> float:
    """What the backward pass needs: inputs of products, norms, attention and activations.

    Norms keep theirs in float32, and one copy more.
    """
    shape, width = reading.shape, cluster.narrow
    tokens = _tokens(reading, cluster)
    layer = width * (2 * shape.width + 3 * shape.queries + 2 * shape.keys + 4 * shape.inner)
    layer += 4 * 4 * shape.width
    if cluster.recompute:
        return tokens * (layer + shape.layers * width * shape.width)
    return tokens * shape.layers * layer


def _logits(reading: Reading, cluster: Cluster) -> float:
    if not reading.heads:
        return 0.0
    rows = _tokens(reading, cluster) * reading.lengths.answers / reading.lengths.tokens
    kept = 4 * rows * reading.shape.vocabulary
    keeps = reading.kind == "learn" and kept <= KEPT
    return 2 * 4 * min(rows, ROWS) * reading.shape.vocabulary + (kept if keeps else 0.0)


def _gathered(reading: Reading, width: int) -> float:
    """Two layers, and what lies around them."""
    shape = reading.shape
    return width * (2 * shape.body / shape.layers + shape.parameters - shape.body)


def _sampling(writing: Writing, cluster: Cluster, *, fine: bool) -> float:
    """A packed copy of the weights, of a model that is cut up a plain one too, and keys.

    Where others write, rank 0 alone has that plain one.
    """
    shape, lengths, width = writing.shape, writing.lengths, cluster.narrow
    plain = (4 if fine else width) if cluster.shards > 1 else 0
    if writing.samplers:
        return plain * shape.parameters
    copies = width + plain
    rows = min(math.ceil(writing.prompts / cluster.ranks) * lengths.count, writing.side_by_side)
    tokens = rows * (lengths.prompt + lengths.answers) / lengths.count
    return copies * shape.parameters + keys_bytes(shape, tokens, width)
