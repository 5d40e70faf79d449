"""A reference in CPU memory says what it said on the device, and is there only while it reads."""

from __future__ import annotations

import pytest
import torch

from backflip.data.batches import TokenSteps
from backflip.distributed.reading import evaluate_all, resident
from backflip.models.causal import CausalPolicy
from backflip.models.offload import offload
from tests.models.families import tiny

STEPS = TokenSteps.of([[3, 4, 5], [3, 4, 9, 10]], [[7, 8, 9, 2], [11, 12]])


def frozen() -> CausalPolicy:
    return CausalPolicy(tiny("llama")).reference()  # pyright: ignore[reportReturnType]


def read(model: CausalPolicy) -> torch.Tensor:
    return evaluate_all(model, STEPS, ("logp",), 64)["logp"]


def test_it_says_the_same_and_its_own_memory_is_untouched():
    said = read(frozen())
    reference = offload(frozen())
    held = [p.data_ptr() for p in reference.parameters()]
    assert torch.equal(read(reference), said)
    assert [p.data_ptr() for p in reference.parameters()] == held


@pytest.mark.skipif(not torch.cuda.is_available(), reason="waits for a device")
def test_it_lies_on_the_device_only_while_it_reads():
    reference = CausalPolicy(tiny("llama").cuda()).reference()
    said = read(reference)  # pyright: ignore[reportArgumentType]
    there = torch.cuda.memory_allocated()
    offload(reference)  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert torch.cuda.memory_allocated() < there
    assert reference.device.type == "cpu"
    with resident(reference):
        assert reference.device.type == "cuda"
    torch.testing.assert_close(read(reference), said)  # pyright: ignore[reportArgumentType]
    assert torch.cuda.memory_allocated() < there
