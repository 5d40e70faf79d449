"""Forecast of a recipe on several devices: time, memory, tokens, money, and what holds it up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from backflip.cluster.devices import CPU_NETWORK, NETWORK, Device
from backflip.cluster.memory import memory
from backflip.cluster.reckoning import (
    GATHERING,
    LAUNCHING,
    MEMORY,
    PRODUCTS,
    Cluster,
    Part,
    balanced,
    reckon,
    seconds,
    slowest,
)
from backflip.errors import UserError
from backflip.models.packing import CPU_TOKENS, CUDA_TOKENS_PER_GB, token_budget_here
from backflip.stages.base import Recipe, Stage
from backflip.stages.forecast import grown
from backflip.stages.plans import Plan
from backflip.stages.workload import Workload
from backflip.text import counted, percent

__all__ = ["Paper", "PaperStage", "on_paper"]

HEAD_ROOM = 0.9
"""Share of a device's memory that a run may plan with."""
HOUR = 3600
ADVICE = {
    PRODUCTS: "faster devices or more of them make it shorter",
    LAUNCHING: "a device has too little to do at a time: more rows in a step cost hardly more time",
    GATHERING: "more tokens in a micro-batch, or fewer devices among which the weights are cut",
    MEMORY: "more answers side by side (max_rows) cost hardly more time",
    "the network": "more rows in a step, or a faster network",
    "one process": "every process does it for the whole batch: fewer tokens in a step",
}


@dataclass(frozen=True)
class PaperStage:
    """A stage on paper."""

    stage: str
    parts: tuple[Part, ...]
    """Of a step."""
    seconds: float
    """All steps and validations."""
    tokens: int
    steps: int
    memory: dict[str, float]
    """Bytes on a device, by what takes them."""
    there: float
    """Bytes that a device has."""
    idle: int
    """Devices that have nothing to do."""
    samplers: int = 0
    """Devices beside those that learn, which write answers."""
    balance: int | None = None
    """How many of all devices would have to write for neither side to wait."""

    @property
    def too_large(self) -> bool:
        """Whether a device cannot hold it."""
        return sum(self.memory.values()) > HEAD_ROOM * self.there

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return seconds(slowest(self.parts))

    @property
    def tokens_per_second(self) -> float:
        """Of steps alone."""
        return self.tokens / self.steps / self.step

    @property
    def bottleneck(self) -> str:
        """The longest part of a step, in a sentence."""
        longest = max(slowest(self.parts), key=lambda part: part.seconds)
        share = percent(longest.seconds / self.step)
        advice = ADVICE[longest.cause]
        waits = "is done by each process for all rows" if longest.cause == "one process" else (
            f"waits for {longest.cause}"
        )  # fmt: skip
        return f"{longest.name}, {share} of a step, {waits}: {advice}"


@dataclass(frozen=True)
class Paper:
    """A recipe on paper."""

    stages: tuple[PaperStage, ...]
    devices: int
    seconds: float
    money: float | None
    """In the currency of the price of a device and hour; None where none was given."""
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def device_hours(self) -> float:
        return self.devices * self.seconds / HOUR


def on_paper(
    recipe: Recipe,
    plans: Sequence[Plan],
    device: Device,
    *,
    nodes: int,
    devices: int,
    price: float | None = None,
) -> Paper:
    """Reckon a recipe up from sizes and rates, on ``nodes`` machines of ``devices`` each.

    ``price``: money for a device and hour. Nothing is run.

    Raises UserError for rounds, whose rows are not known before they are written, and for float32
    on a device whose rate in it is not known.
    """
    parts = recipe.parts()
    if len(parts) != len(plans):
        raise UserError(
            "rounds are not forecast for several machines: leave --nodes, --devices and --device "
            "out, and a short round is measured here."
        )
    found: list[PaperStage] = []
    left_out: list[str] = []
    for (stage, _), plan in zip(parts, plans, strict=True):
        cluster = _cluster(stage, device, nodes, devices)
        work = stage.workload(plan)
        found.append(_reckoned(stage, plan, work, cluster))
        left_out += (*work.left_out, *_as_if_unset(stage))
    whole, ranks = sum(one.seconds for one in found), nodes * devices
    every = ranks + max(one.samplers for one in found)
    return Paper(
        stages=tuple(found),
        devices=every,
        seconds=whole,
        money=None if price is None else price * every * whole / HOUR,
        warnings=tuple(w for one in found for w in _warnings(one, ranks)),
        assumptions=(*dict.fromkeys(left_out), *_assumptions(device, nodes, devices)),
    )


def _as_if_unset(stage: Stage) -> Iterator[str]:
    """Settings that change memory or time and are not reckoned."""
    found = {name: getattr(stage, name, None) for name in ("quantization", "reference_device")}
    found["optimizer.state_bits"] = getattr(stage.optimizer, "state_bits", None)
    for name, value in found.items():
        if value not in (None, "none", "auto", "device", "same", 32):
            yield f"{name}={value} is not reckoned: memory and time are those without it"


def _cluster(stage: Stage, device: Device, nodes: int, devices: int) -> Cluster:
    if device.cuda and stage.precision == "float32":
        raise UserError(
            f"precision=float32 is not forecast for {device.name}, whose rate in it is not known. "
            "Leave precision out."
        )
    budget = stage.token_budget
    if budget == token_budget_here():  # it goes by the device
        gigabytes = device.memory / 2**30
        budget = max(CPU_TOKENS, int(CUDA_TOKENS_PER_GB * gigabytes)) if device.cuda else CPU_TOKENS
    if not device.cuda:
        share = 1 / devices
        device = replace(device, memory=device.memory * share)
    return Cluster(device, nodes, devices, budget, recompute=stage.activation_checkpointing)


def _reckoned(stage: Stage, plan: Plan, work: Workload, cluster: Cluster) -> PaperStage:
    learning = {held.role: held.learning for held in work.held}
    parts = tuple(reckon(work, learning, cluster))
    step = seconds(slowest(parts))
    samplers = work.writing.samplers if work.writing else 0
    apart = any(part.beside for part in parts)
    return PaperStage(
        stage=plan.stage,
        parts=parts,
        seconds=grown(stage, plan, step),
        tokens=plan.tokens,
        steps=plan.steps,
        memory=memory(work, cluster),
        there=cluster.device.memory,
        idle=max(cluster.ranks - math.ceil(work.pieces), 0),
        samplers=samplers,
        balance=balanced(parts, cluster.ranks, samplers) if apart else None,
    )


def _warnings(found: PaperStage, ranks: int) -> Iterator[str]:
    """Sentences on memory that a device lacks, and on devices that have nothing to do."""
    if found.too_large:
        taken, there = sum(found.memory.values()), found.there
        most = max(found.memory, key=lambda name: found.memory[name])
        yield (
            f"{found.stage} does not fit: it takes about {taken / 1e9:.0f} GB on a device that has "
            f"{there / 1e9:.0f}; most of it is {most} ({found.memory[most] / 1e9:.0f} GB)."
        )
    if found.idle:
        yield (
            f"{found.stage}: {found.idle} of {counted(ranks, 'device')} have no row of a step. "
            "Give more rows to a step, or fewer devices."
        )
    if found.balance is not None and abs(found.balance - found.samplers) > found.samplers / 10:
        yield (
            f"{found.stage}: of {ranks + found.samplers} devices {found.samplers} write, and one "
            f"side waits for the other. About {found.balance} of as many would balance: set "
            f"cluster.samplers={found.balance}."
        )


def _assumptions(device: Device, nodes: int, devices: int) -> Iterator[str]:
    yield device.source
    calls = (device.launching.learn, device.launching.read, device.launching.write)
    learn, read, write = (1e3 * call for call, _ in calls)
    yield (
        f"Python and launching take {learn:.2g} ms a layer and micro-batch that is learnt from, "
        f"{read:.2g} that is read, {write:.2g} ms a layer and token that is written ("
        + ("one H200 at 0.5B" if device.cuda else "counted in small operations")
        + ")"
    )
    if devices > 1:
        yield (
            f"weights are cut over the {devices} devices of a node and gathered for every "
            "micro-batch, twice where it is learnt from; float32 where they learn"
            + (", beside the products" if device.cuda else "")
        )
    if nodes > 1:
        rate = NETWORK if device.cuda else CPU_NETWORK
        yield (
            f"each node has the whole model; gradients are added up over nodes once a step, at "
            f"{rate:g} GB/s for each device (assumed)"
        )
    yield (
        "rows are of their mean length, answers as long as allowed, and devices share rows out as "
        "evenly as whole rows can be"
    )
    yield "loading, saving, and waiting for the slowest device are not in it"
    if device.cuda and nodes * devices > 1:
        yield "nothing has been run on more than one GPU: this is reckoned, not measured"
