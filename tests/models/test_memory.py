"""Memory that is freed and asked for again costs no page faults."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from backflip.models.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(10):
    if turn == 5:
        before = faults()
    held = [torch.ones(64 << 18) for _ in range(2)]
    del held
print(faults() - before)
"""


def page_faults(how: str) -> int:
    """Of ten tensors of 64 MB, made and forgotten after ten others, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt that keeps freed memory")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_used_again_with_few_page_faults():
    pages = 10 * (64 << 20) // resource.getpagesize()
    assert page_faults("keep") < pages / 10


def test_without_it_every_page_is_faulted_in_anew():
    """The trap this is for; where a library or kernel has closed it, nothing is lost."""
    if page_faults("leave") < 100:
        pytest.skip("this system keeps freed memory by itself")
