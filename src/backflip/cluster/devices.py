"""Rates and sizes of devices that a forecast reckons with, and where each number is from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from backflip.cluster.job import CPU
from backflip.errors import UserError
from backflip.recipes.names import hint
from backflip.text import counted

__all__ = ["DEVICES", "Device", "device_of"]

GB = 1e9
GPU_SHARE = 0.4
"""Of the data sheet's rate in large products: assumed, see ``docs/scale.md``."""
CPU_SHARE = 0.75
"""Of the measured rate of products: 72 and 76 % in ``benchmarks/RESULTS.md``."""
SMALL_OPERATIONS = ((900, 156), (470, 45), (430, 11))
"""Launching on a CPU, in small additions, as in ``Launching``: 2 and 6 layers, 1 to 32 rows."""
SOFTMAXES = 7
"""Passes over the scores in a forward pass of attention on a CPU, in softmaxes: measured."""
NETWORK, CPU_NETWORK = 50.0, 1.25
"""GB a second of each device to other nodes: 400 Gbit/s; of each CPU, 10 Gbit/s. Assumed."""


@dataclass(frozen=True)
class Launching:
    """Seconds of Python for each layer: (of a call, more for each run of tokens in it)."""

    learn: tuple[float, float] = (6e-3, 0.0)
    """Of a micro-batch that is learnt from; a run of tokens is a prompt or an answer."""
    read: tuple[float, float] = (2.2e-3, 0.0)
    """Of one that is read."""
    write: tuple[float, float] = (0.29e-3, 0.0)
    """Of a token that is written to each row."""


LAUNCHING = Launching()
"""One H200 in ``benchmarks/RESULTS.md``, at 0.5B: SimPO, DPO less SimPO, and sampling."""


@dataclass(frozen=True)
class Device:
    """Rates of one device."""

    name: str
    memory: float
    """Bytes."""
    products: float
    """Floating-point operations a second in large products, as training reaches them."""
    bandwidth: float
    """Bytes a second of its memory."""
    link: float
    """Bytes a second to each of the other devices of its node, in one direction."""
    launching: Launching = LAUNCHING
    network: float = NETWORK * GB
    """Bytes a second to other nodes."""
    score: float = 0.0
    """Seconds of attention for each query and key of a head beside its products; 0 where fused."""
    source: str = ""
    """Where the rates are from."""

    @property
    def cuda(self) -> bool:
        """Whether work is queued, so that Python and products run side by side."""
        return self.name != CPU


def _sheet(name: str, memory: float, teraflops: float, bandwidth: float, link: float) -> Device:
    said = (
        f"{name}: {memory:g} GB, {teraflops:g} TFLOP/s in bfloat16 without sparsity, "
        f"{bandwidth:g} TB/s, {link:g} GB/s to its neighbours (data sheet), of which products "
        f"reach {GPU_SHARE:.0%} (assumed)"
    )
    return Device(
        name, memory * GB, teraflops * 1e12 * GPU_SHARE, bandwidth * 1e12, link * GB, source=said
    )


DEVICES = {
    one.name: one
    for one in (
        _sheet("a100", 80, 312, 2.0, 300),
        _sheet("h100", 80, 989, 3.35, 450),
        _sheet("h200", 141, 989, 4.8, 450),
        _sheet("b200", 180, 2250, 7.7, 900),
        _sheet("l40s", 48, 362, 0.86, 32),
    )
}
"""Data sheets of NVIDIA: dense rates, SXM where there is one; one direction of NVLink or PCIe."""


def device_of(name: str) -> Device:
    """A device by its name; ``cpu`` is this machine, measured in a second.

    Raises UserError where its rates are not known.
    """
    known = name.lower()
    if known == CPU:
        return _this_machine()
    if known not in DEVICES:
        raise UserError(f"--device {name} is not known. {hint(known, [*DEVICES, CPU])}")
    return DEVICES[known]


def _this_machine() -> Device:
    """Rates of this machine's processor, in its own time: other programs hardly change them."""
    threads = torch.get_num_threads()
    square, small, wide = torch.randn(1024, 1024), torch.randn(8, 64), torch.zeros(1 << 24)
    other = torch.zeros_like(wide)
    rate = 2 * len(square) ** 3 / _seconds(lambda: torch.mm(square, square)) * threads
    addition = _seconds(lambda: [small + small for _ in range(500)], 60) / 500
    scores = torch.randn(512, 512)
    score = SOFTMAXES * _seconds(lambda: scores.softmax(-1), 30) / scores.numel()
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    learn, read, write = ((n * addition, more * addition) for n, more in SMALL_OPERATIONS)
    return Device(
        name=CPU,
        memory=memory,
        products=rate * CPU_SHARE,
        bandwidth=2 * wide.numel() * 4 * threads / _seconds(lambda: other.copy_(wide)),
        link=CPU_NETWORK * GB,
        network=CPU_NETWORK * GB,
        launching=Launching(learn, read, write),
        score=score,
        source=f"cpu: this machine, {counted(threads, 'thread')}, {rate / 1e9:.0f} GFLOP/s in "
        f"products of float32 (measured now), of which training reaches {CPU_SHARE:.0%} "
        f"(benchmarks/RESULTS.md); a small operation takes {addition * 1e6:.1f} µs (measured now)",
    )


def _seconds(work: Callable[[], Any], repeats: int = 8) -> float:
    """The processor's time of the fastest of some calls."""
    found = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        found = min(found, time.process_time() - began)
    return found
