"""AdamW with moments in 8 bits learns as fast as with 32, and goes on from a checkpoint."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from backflip.errors import UserError
from backflip.training import adamw_8bit
from backflip.training.learner import make_optimizer

pytest.importorskip("bitsandbytes", reason="pip install 'backflip[quantized]'")


class Learning:
    """A small network learns the digits of a sum; its matrices are large enough for 8 bits."""

    def __init__(self, bits: int) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64))
        self.optimizer = make_optimizer(self.net, lr=3e-3, weight_decay=0.01, state_bits=bits)
        self.draws = torch.Generator().manual_seed(1)
        self.truth = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))

    def steps(self, number: int) -> float:
        """The mean loss of the last ten."""
        losses = []
        for _ in range(number):
            x = torch.randn(64, 64, generator=self.draws)
            loss = nn.functional.cross_entropy(self.net(x), (x @ self.truth).argmax(-1))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(float(loss.detach()))
        return sum(losses[-10:]) / 10


def test_after_50_steps_the_loss_is_that_of_32_bits():
    few, full = Learning(8), Learning(32)
    start, low, high = Learning(32).steps(10), few.steps(50), full.steps(50)
    assert high < 0.8 * start, "nothing was learnt that could differ"
    assert low != high
    assert abs(low / high - 1) < 0.02
    moments = [state["state1"] for state in few.optimizer.state.values()]
    assert {m.dtype for m in moments if m.numel() >= 4096} == {torch.uint8}


def test_a_run_that_goes_on_from_its_checkpoint_ends_with_the_same_bits():
    whole, broken, again = Learning(8), Learning(8), Learning(8)
    whole.steps(12)
    broken.steps(6)
    file = io.BytesIO()
    torch.save(broken.optimizer.state_dict(), file)
    file.seek(0)
    again.net.load_state_dict(broken.net.state_dict())
    again.optimizer.load_state_dict(torch.load(file, weights_only=True))
    again.draws = broken.draws
    again.steps(6)
    for one, other in zip(whole.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_device_without_the_kernel_is_named(monkeypatch):
    """The library raises so at the first step, after the first batch has been read."""

    def step(self):
        raise NotImplementedError("no kernel for optimizer_update_8bit_blockwise")

    monkeypatch.setattr("bitsandbytes.optim.adamw.AdamW8bit.step", step)
    with pytest.raises(UserError, match=r"no AdamW in 8 bits for cpu here .*state_bits=32"):
        make_optimizer(nn.Linear(64, 64), lr=1e-3, state_bits=8)


def test_without_the_package_the_line_that_installs_it_is_told(monkeypatch):
    monkeypatch.setattr(adamw_8bit, "installed", lambda: False)
    with pytest.raises(UserError, match=r"state_bits=8 needs bitsandbytes: pip install"):
        make_optimizer(nn.Linear(2, 2), lr=1e-3, state_bits=8)
