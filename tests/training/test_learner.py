"""The learner against plain PyTorch, by hand, and against itself cut differently."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.sft import SFT
from backflip.data.ragged import TensorRecord
from backflip.errors import NonFiniteError, UserError
from backflip.functional.reductions import row_mean
from backflip.models.causal import CausalPolicy
from backflip.training.driver import Plan, drive, keep_batches
from backflip.training.learner import (
    Learner,
    Work,
    constant,
    cosine,
    linear_to_zero,
    make_optimizer,
)
from backflip.training.offline import OfflineLoop
from backflip.training.run_folder import RunFolder
from tests.models.families import tiny
from tests.training.little import demonstrations


@dataclass(frozen=True)
class Points(TensorRecord):
    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Squares(Objective):
    """Mean squared error."""

    coef: float = 1.0

    def counts(self, batch):
        return {"square": torch.tensor(float(len(batch)))}

    def loss(self, model, batch):
        error = row_mean((model.net(batch.x)[:, 0] - batch.y) ** 2)
        return Outcome({"square": error.scaled(self.coef)}, {"square": error.detached()})


class Net(nn.Module):
    """Cuts its batches into as many rows as the budget says."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def plan(self, batch, token_budget):
        return list(torch.arange(len(batch)).split(token_budget))


def points(rows=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    return Points(x, x[:, 0] * 3 - x[:, 1] ** 2)


def test_steps_as_a_plain_loop_does():
    """AdamW, clipping, warm-up and decay against a loop written out, cut in uneven pieces."""
    net = Net()
    plain = copy.deepcopy(net)
    schedule = linear_to_zero(6, warmup=2)
    ours = Learner(
        net, make_optimizer(net, lr=0.05, weight_decay=0.1), schedule=schedule,
        max_norm=0.7, token_budget=4,
    )  # fmt: skip
    weights = [p for p in plain.parameters() if p.dim() > 1]
    biases = [p for p in plain.parameters() if p.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}],
        lr=0.05, eps=1e-5,
    )  # fmt: skip
    factors = (1 / 2, 1.0, 1.0, 3 / 4, 2 / 4, 1 / 4)
    clipped = 0
    for step, factor in enumerate(factors):
        batch = points(seed=step)
        metrics = ours.step(Work(Squares(), batch))
        loss = ((plain.net(batch.x)[:, 0] - batch.y) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.7)
        clipped += bool(norm > 0.7)
        for group in adam.param_groups:
            group["lr"] = 0.05 * factor
        adam.step()
        assert metrics["square"] == pytest.approx(loss.item(), rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
        assert metrics["lr"] == pytest.approx(0.05 * factor)
        assert metrics["skipped"] == 0.0
    assert clipped, "the test shall clip"
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_a_gradient_shorter_than_the_limit_is_left_alone():
    net = Net()
    before = net.net[2].bias.detach().clone()
    sgd = torch.optim.SGD(net.parameters(), lr=1.0)
    batch = points()
    ((net.net(batch.x)[:, 0] - batch.y) ** 2).mean().backward()
    gradient = net.net[2].bias.grad.clone()
    net.zero_grad()
    Learner(net, sgd, max_norm=1e9).step(Work(Squares(), batch))
    torch.testing.assert_close(net.net[2].bias.detach(), before - gradient)


def test_a_step_does_not_depend_on_how_the_batch_is_cut():
    """Plain SGD, so that the weights move by the gradient itself; a real policy and its forest."""
    ends, pieces = [], []
    data = demonstrations(12)
    for budget in (12, 40, 100_000):
        policy = CausalPolicy(tiny("llama"))
        pieces.append(len(policy.plan(data, budget)))
        sgd = torch.optim.SGD(policy.parameters(), lr=0.5)
        metrics = Learner(policy, sgd, token_budget=budget).step(Work(SFT(), data))
        ends.append((metrics, [p.detach() for p in policy.parameters()]))
    assert pieces[0] > pieces[1] > pieces[2] == 1
    for metrics, weights in ends[:2]:
        assert metrics == pytest.approx(ends[2][0], rel=1e-5)
        for one, other in zip(weights, ends[2][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_works_with_different_denominators_are_added_after_dividing():
    """γ beside a main loss: mean over 10 rows plus 0.3 times the mean over 4, in one step."""
    net = Net()
    plain = copy.deepcopy(net)
    many, few = points(10), points(4, seed=9)
    learner = Learner(net, torch.optim.SGD(net.parameters(), lr=0.1), max_norm=1e9, token_budget=3)
    learner.step(Work(Squares(), many), Work(Squares(coef=0.3), few))
    terms = [((plain.net(b.x)[:, 0] - b.y) ** 2).mean() for b in (many, few)]
    (terms[0] + 0.3 * terms[1]).backward()
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs - 0.1 * theirs.grad)


def test_schedules_by_hand():
    linear = linear_to_zero(10, warmup=2)
    assert [linear(s) for s in (0, 1, 2, 6, 10, 11)] == [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert [linear_to_zero(4)(s) for s in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    bent = cosine(10, warmup=2, floor=0.1)
    expected = [0.5, 1.0, 1.0, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2, 0.55, 0.1, 0.1]
    assert [bent(s) for s in (0, 1, 2, 4, 6, 10, 99)] == pytest.approx(expected)
    assert [constant(5, warmup=4)(s) for s in (0, 1, 3, 4, 99)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert constant(5)(0) == 1.0


def test_vectors_are_not_decayed():
    net = Net()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [p.detach().clone() for p in net.parameters()]
    make_optimizer(net, lr=0.1, weight_decay=0.5).step()
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * 0.95 if old.dim() > 1 else old)


BAD = replace(points(), y=torch.full((10,), math.nan))


def test_a_step_that_is_not_finite_changes_nothing_and_the_third_in_a_row_raises():
    net, told = Net(), []
    learner = Learner(
        net, make_optimizer(net, lr=0.1), on_skip=lambda step, work: told.append((step, work))
    )
    bad, good = Work(Squares(), BAD), Work(Squares(), points())
    learner.step(good)
    before, moments = copy.deepcopy(net.state_dict()), copy.deepcopy(learner.optimizer.state_dict())
    assert learner.step(bad)["skipped"] == 1.0
    assert learner.step(bad)["skipped"] == 1.0
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    for key, state in learner.optimizer.state_dict()["state"].items():
        assert torch.equal(state["exp_avg"], moments["state"][key]["exp_avg"])
    assert learner.step(good)["skipped"] == 0.0, "a good one in between starts the count anew"
    learner.step(bad)
    learner.step(bad)
    with pytest.raises(NonFiniteError, match="3 steps in a row"):
        learner.step(bad)
    assert [step for step, _ in told] == [1, 2, 4, 5, 6]
    assert told[0][1][0].batch is BAD


def test_one_infinite_gradient_is_enough_to_skip():
    """A NaN in a single row of many reaches the norm, not the weights."""
    net = Net()
    before = copy.deepcopy(net.state_dict())
    batch = points()
    batch.y[3] = math.inf
    Learner(net, make_optimizer(net, lr=0.1), token_budget=2).step(Work(Squares(), batch))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_denominator_that_is_not_a_number_is_noticed():
    """A NaN among the weights of the rows must not look like a term without any rows."""
    policy = CausalPolicy(tiny("llama"))
    broken = replace(demonstrations(3), weight=torch.tensor([1.0, math.nan, 1.0]))
    metrics = Learner(policy, make_optimizer(policy, lr=0.1)).step(Work(SFT(), broken))
    assert metrics["skipped"] == 1.0


def test_a_batch_with_nothing_to_learn_is_a_step_without_a_change():
    policy = CausalPolicy(tiny("llama"))
    empty = replace(demonstrations(3), weight=torch.zeros(3))
    before = copy.deepcopy(policy.state_dict())
    metrics = Learner(policy, make_optimizer(policy, lr=0.1)).step(Work(SFT(), empty))
    assert (metrics["skipped"], metrics["grad_norm"], metrics["loss"]) == (0.0, 0.0, 0.0)
    for name, value in policy.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_count_of_skips_survives_a_resumption():
    net = Net()
    first = Learner(net, make_optimizer(net, lr=0.1))
    for _ in range(2):
        first.step(Work(Squares(), BAD))
    second = Learner(net, make_optimizer(net, lr=0.1))
    second.load_state_dict(first.state_dict())
    with pytest.raises(NonFiniteError):
        second.step(Work(Squares(), BAD))


class Endless:
    """The same broken batch for ever."""

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        while True:
            yield self.batch

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        del state


def test_batches_that_were_skipped_are_kept_in_the_run(tmp_path):
    """Three of them at most, and readable without our classes."""
    run = RunFolder.create(tmp_path / "run", "stage: x")
    policy = CausalPolicy(tiny("llama"))
    data = demonstrations(3)
    broken = replace(data, weight=torch.tensor([1.0, math.nan, 1.0]))
    learner = Learner(policy, make_optimizer(policy, lr=0.1), on_skip=keep_batches(run))
    with pytest.raises(NonFiniteError, match="kept in the run's folder"):
        drive(
            OfflineLoop(learner, SFT()),
            Endless(broken),
            Plan(stage="sft", total=9, checkpoint_every=1),
            run=run,
            modules={"policy": policy},
            watch=lambda index, metrics, loop: None,
        )
    files = sorted(path.name for path in run.kept_batches_path.iterdir())
    assert files == [f"step_00000{i}_SFT.pt" for i in range(3)]
    kept = torch.load(run.kept_batches_path / files[2], weights_only=True)
    assert kept["step"] == 2
    piece = kept["work"][0]
    assert piece["kind"] == "DemonstrationBatch"
    torch.testing.assert_close(piece["batch"]["weight"], broken.weight, equal_nan=True)
    assert torch.equal(piece["batch"]["steps"]["answer"]["values"], data.steps.answer.values)
    keep_batches(run)(12, (Work(SFT(), data),))
    assert len(list(run.kept_batches_path.iterdir())) == 3
    assert (run.kept_batches_path / "step_000012_SFT.pt").exists()


def test_a_batch_that_cannot_be_kept_does_not_stop_the_run(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path / "run", "stage: x")

    def full(path, content):
        raise UserError("the disk is full")

    monkeypatch.setattr("backflip.training.driver.write_atomically", full)
    with pytest.warns(UserWarning, match="could not be kept: the disk is full"):
        keep_batches(run)(1, (Work(Squares(), points()),))
