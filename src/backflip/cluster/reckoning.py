"""Seconds of a step on several devices, on paper: products, launching, exchange, writing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from backflip.cluster.devices import Device
from backflip.stages.plans import Lengths
from backflip.stages.workload import Reading, Shape, Workload, Writing

__all__ = ["Cluster", "Part", "balanced", "reckon", "seconds", "share", "slowest"]

PLANNING = 0.25e-6
"""Seconds a token of cutting batches and giving credit, which every process does for all tokens."""
BESIDE, BESIDE_WRITING = 2, 1
"""Launching of embedding, norms, head and loss in layers, of a micro-batch and of a token."""
UPDATE = 28
"""Bytes that AdamW moves for each weight: it reads four numbers of float32 and writes three."""
PRODUCTS, LAUNCHING, GATHERING, MEMORY = (
    "products", "launching operations", "gathering weights", "reading memory",
)  # fmt: skip
"""What a part of a step waits for."""


@dataclass(frozen=True)
class Cluster:
    """Devices, and what a recipe holds on them."""

    device: Device
    nodes: int
    devices: int
    """Of a node."""
    budget: int
    """Forest tokens of a micro-batch."""
    recompute: bool = False
    """Whether activations are computed again."""

    @property
    def ranks(self) -> int:
        return self.nodes * self.devices

    @property
    def shards(self) -> int:
        """Devices among which a model is cut: those of a node, where there are several."""
        return self.devices

    @property
    def narrow(self) -> int:
        """Bytes of a number that is multiplied, and of a weight that does not learn."""
        return 2 if self.device.cuda else 4

    def gathered(self, numbers: float, width: int) -> float:
        """Seconds until a device has all of so many numbers, cut over its node."""
        return numbers * width * (1 - 1 / self.shards) / self.device.link

    def summed(self, numbers: float) -> float:
        """Seconds until gradients of so many weights are added up over all devices."""
        between = 2 * (1 - 1 / self.nodes) * numbers / self.shards * 4 / self.device.network
        return self.gathered(numbers, 4) + between


@dataclass(frozen=True)
class Part:
    """A part of a step."""

    name: str
    seconds: float
    cause: str
    """What it waits for."""
    beside: bool = False
    """Whether other devices do it meanwhile."""


def slowest(parts: Sequence[Part]) -> list[Part]:
    """Those that a step waits for: what learners do, or what others do meanwhile."""
    both = [[part for part in parts if part.beside is beside] for beside in (False, True)]
    return max(both, key=seconds)


def seconds(parts: Iterable[Part]) -> float:
    """Of parts that come one after the other."""
    return sum(part.seconds for part in parts)


def balanced(parts: Sequence[Part], learners: int, samplers: int) -> int:
    """Devices that would have to write, of all that there are, for neither side to wait, if each
    side went as much faster as it has more devices.
    """
    written = samplers * seconds(part for part in parts if part.beside)
    learnt = learners * seconds(part for part in parts if not part.beside)
    devices = learners + samplers
    return min(max(round(devices * written / (written + learnt)), 1), devices - 1)


def reckon(work: Workload, learning: dict[str, int], cluster: Cluster) -> list[Part]:
    """Parts of a step, in the order in which they come.

    Args:
        work: what a step does.
        learning: weights that learn, by the role of their model.
        cluster: where.

    """
    parts: list[Part] = []
    if work.writing is not None:
        parts += _written(work.writing, learning[work.readings[0].role], cluster)
    for reading in work.readings:
        parts += _reading(reading, learning.get(reading.role, 0), cluster)
    first = work.readings[0]
    tokens = first.rows * first.lengths.tokens
    planned = Part("planning and credit", PLANNING * tokens, "one process")
    return [part for part in (*parts, planned) if part.seconds > 0]


def share(lengths: Lengths, groups: float, parts: float, ranks: int) -> float:
    """Tokens of the device that has most to do, all in one micro-batch.

    Args:
        lengths: of a group: a prompt with its answers.
        groups: to share out.
        parts: into which a group can be cut; each of them reads the prompt again.
        ranks: devices.

    """
    if groups >= ranks:
        return math.ceil(groups / ranks) * (lengths.tokens - lengths.shared) + lengths.shared
    cuts = min(parts, max(ranks // groups, 1))
    return lengths.prompt + math.ceil(parts / cuts) * lengths.answers / parts


def operations(reading: Reading, lengths: Lengths, tokens: float, *, recompute: bool) -> float:
    """Floating-point operations of reading so many tokens; a forward pass takes two a weight."""
    shape, answers = reading.shape, lengths.answers / lengths.tokens * tokens
    body = {"learn": 6, "adapt": 4, "read": 2}[reading.kind]
    passes = 1 if reading.kind == "read" else 3
    if recompute and reading.kind != "read":
        body, passes = body + 2, passes + 1
    head = {"learn": 6, "adapt": 4, "read": 2}[reading.kind] if reading.heads else 0
    seen = 4 * shape.queries * shape.layers * lengths.keys * passes
    return tokens * (body * shape.body + seen) + answers * head * shape.head


def _reading(reading: Reading, learning: int, cluster: Cluster) -> list[Part]:
    device, shape, updates = cluster.device, reading.shape, reading.updates
    tokens = share(reading.lengths, reading.rows / updates, reading.parts, cluster.ranks)
    pieces = math.ceil(tokens / cluster.budget)
    learns = reading.kind != "read"
    call, run = device.launching.learn if learns else device.launching.read
    runs = tokens / reading.lengths.tokens * reading.lengths.runs
    launched = (pieces * call + runs * run) * (shape.layers + BESIDE)
    gathers = 2 if learns else 1
    held = 4 if reading.kind == "learn" else cluster.narrow
    done = operations(reading, reading.lengths, tokens, recompute=cluster.recompute)
    scores = tokens * reading.lengths.keys * shape.heads * shape.layers * (3 if learns else 1)
    causes = {
        PRODUCTS: updates * (done / device.products + scores * device.score),
        LAUNCHING: updates * launched,
        GATHERING: updates * pieces * gathers * cluster.gathered(shape.parameters, held),
    }
    name = f"{reading.role} {'learns' if learns else 'reads'}"
    found = [_slowest(name, causes, device)]
    if learns:
        moved = updates * learning / cluster.shards * UPDATE / device.bandwidth
        exchanged = updates * cluster.summed(learning)
        found.append(Part(f"{reading.role}: adding gradients up", exchanged, "the network"))
        found.append(Part(f"{reading.role}: the optimiser's step", moved, MEMORY))
    return found


def _written(writing: Writing, learning: int, cluster: Cluster) -> list[Part]:
    """Answers, and weights on their way to whoever writes them."""
    written, copied = _writing(writing, cluster), cluster.gathered(learning, 4)
    if not writing.samplers:
        return [written, Part("copying weights to sample from", copied, GATHERING)]
    sent = learning * 4 / cluster.device.network
    return [
        replace(written, beside=writing.ahead),
        Part("gathering weights for samplers", copied, GATHERING),
        Part("sending weights to samplers", sent, "the network"),
    ]


def _writing(writing: Writing, cluster: Cluster) -> Part:
    """As if every answer were as long as allowed, and prompts stayed whole on a device."""
    device, shape, lengths = cluster.device, writing.shape, writing.lengths
    prompts = math.ceil(writing.prompts / (writing.samplers or cluster.ranks))
    rows = prompts * lengths.count
    at_once = min(rows, writing.side_by_side)
    length = lengths.answers / lengths.count
    steps = math.ceil(rows / writing.side_by_side) * length
    keys = keys_bytes(shape, 1, cluster.narrow)
    call, row = device.launching.write
    seen = at_once * (lengths.prompt / lengths.count + length / 2)
    weights = shape.body + shape.head
    read = Reading("", shape, "read", replace(lengths, answers=0.0), 0, heads=False)
    first = operations(read, read.lengths, prompts * lengths.prompt, recompute=False)
    causes = {
        PRODUCTS: (steps * 2 * weights * at_once + first) / device.products,
        LAUNCHING: steps * (call + at_once * row) * (shape.layers + BESIDE_WRITING),
        MEMORY: steps * (weights * cluster.narrow + seen * keys) / device.bandwidth,
    }
    return _slowest("answers are written", causes, device)


def _slowest(name: str, causes: dict[str, float], device: Device) -> Part:
    """A part, and what it waits for most.

    Where work is queued, all goes on at the same time; a processor does one thing after the other,
    but reads memory while it multiplies.
    """
    cause = max(causes, key=lambda one: causes[one])
    if device.cuda:
        return Part(name, causes[cause], cause)
    busy = max(causes[PRODUCTS], causes.get(MEMORY, 0.0))
    return Part(name, busy + causes[LAUNCHING] + causes.get(GATHERING, 0.0), cause)


def keys_bytes(shape: Shape, tokens: float, width: int) -> float:
    """Bytes of keys and values of so many tokens."""
    return 2 * shape.keys * shape.layers * tokens * width
