"""Memory that was freed stays with the process, to be used again by the next layer."""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""
LARGEST = (1 << 30, 1 << 25)
"""Bytes up to which memory comes from the heap: as wished for, and as every glibc takes it."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask glibc not to hand freed memory back to the system; whether it agreed.

    A layer's activations are some megabytes each. By default each of them is mapped anew, page by
    page and filled with zeros, and unmapped when it is freed: half a million page faults in a step
    of DPO on SmolLM2, a tenth of its time. The most that the process holds hardly changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has none
        return False
    mapped = any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST)
    return bool(mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)) and mapped
