"""A reference that follows the policy."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from backflip.algorithms.preference.base import tell
from backflip.algorithms.preference.dpo import DPO
from backflip.data.referenced import ReferencedComparisons
from backflip.data.stream import Batches
from backflip.errors import Interrupted, UserError
from backflip.models.causal import CausalPolicy
from backflip.training.driver import Plan, drive
from backflip.training.moving_reference import (
    MovingReference,
)
from backflip.training.offline import OfflineLoop
from backflip.training.run_folder import RunFolder
from tests.models.families import tiny
from tests.training.little import Watch, assert_same, learner, result
from tests.training.referenced import (
    BUDGET,
    adapted,
    comparisons,
    labelled,
    stated,
)


def moving_parts(mix, every, make=adapted):
    torch.manual_seed(0)
    policy = make()
    reference_update = MovingReference(policy, mix=mix, every=every, token_budget=BUDGET)
    loop = OfflineLoop(learner(policy), DPO(beta=0.5), reference_update)
    batches = Batches(comparisons(), size=4, seed=1, epochs=4)
    return loop, batches, policy, reference_update


def full():
    return CausalPolicy(tiny("llama"))


def ratios(policy, reference_update, data):
    with torch.no_grad():
        logp = policy.evaluate(data.answers.values)["logp"]
    return tell(logp, reference_update.before(data)).ratio


@pytest.mark.parametrize("make", [adapted, full])
def test_a_hard_update_after_every_step_leaves_no_ratio(make):
    loop, batches, policy, reference_update = moving_parts(1.0, 1, make)
    for index, batch in enumerate(batches, start=1):
        metrics = loop.step(index, batch)
        assert metrics["margin"] == pytest.approx(0.0, abs=1e-4), "the reference had caught up"
        before = ratios(policy, reference_update, batch).abs().max()
        assert before < 1e-4
        if index == 3:
            break


@pytest.mark.parametrize("make", [adapted, full])
def test_it_moves_only_when_its_time_has_come(make):
    loop, batches, policy, reference_update = moving_parts(1.0, 3, make)
    data, first = comparisons(), make()
    expected = stated(data, first).logp_ref.values
    for index, batch in enumerate(batches, start=1):
        loop.step(index, batch)
        now = reference_update.before(data).logp_ref.values
        if index < 3:
            torch.testing.assert_close(now, expected, atol=1e-4, rtol=0)
            assert ratios(policy, reference_update, data).abs().max() > 1e-3
        else:
            assert (now - expected).abs().max() > 1e-3
            assert ratios(policy, reference_update, data).abs().max() < 1e-4
            break


@pytest.mark.parametrize("make", [adapted, full])
def test_the_soft_update_mixes_the_weights(make):
    """θ_ref ← 0.25·θ + 0.75·θ_ref, twice, by hand."""
    loop, batches, policy, reference_update = moving_parts(0.25, 1, make)
    expected = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    for index, batch in enumerate(batches, start=1):
        loop.step(index, batch)
        for name, parameter in policy.model.named_parameters():
            expected[name] = 0.25 * parameter.detach() + 0.75 * expected[name]
        if index == 2:
            break
    other = make()
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            parameter.copy_(expected[name])
    data = comparisons()
    torch.testing.assert_close(
        reference_update.before(data).logp_ref.values, stated(data, other).logp_ref.values,
        atol=1e-4, rtol=0,
    )  # fmt: skip


def test_with_lora_only_the_adapters_are_held():
    _, _, policy, reference_update = moving_parts(1.0, 1)
    held = sum(tensor.numel() for tensor in reference_update.state_dict()["held"].values())
    assert held == sum(p.numel() for n, p in policy.model.named_parameters() if "lora_" in n)


def test_the_policy_has_its_own_weights_again_whatever_happens():
    loop, batches, policy, reference_update = moving_parts(1.0, 2)
    batch = next(iter(batches))
    loop.step(1, batch)
    before = [p.detach().clone() for p in policy.parameters()]
    policy.evaluate = lambda *args: 1 / 0
    with pytest.raises(ZeroDivisionError):
        reference_update.before(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_numbers_that_make_no_sense_are_refused():
    for settings in ({"mix": 0.0, "every": 1}, {"mix": 1.5, "every": 1}, {"mix": 1, "every": 0}):
        with pytest.raises(UserError, match=r"mix is|every is"):
            MovingReference(full(), token_budget=8, **settings)


def test_labelled_batches_are_restated_too():
    reference_update = MovingReference(full(), mix=1.0, every=1, token_budget=BUDGET)
    data = stated(labelled(), CausalPolicy(tiny("llama", seed=1)))
    got, expected = reference_update.before(data), stated(labelled(), full())
    assert torch.equal(got.logp_ref, expected.logp_ref)
    assert torch.equal(got.mismatched_ref, expected.mismatched_ref)


class Stopping(Watch):
    def __init__(self, run, at):
        super().__init__(run)
        self.at = at

    def __call__(self, index, metrics, loop):
        if index == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__call__(index, metrics, loop)


def go(path, make, stop_at=None):
    run = RunFolder.open(path) if RunFolder.holds_run(path) else RunFolder.create(path, "stage: x")
    loop, batches, policy, _ = moving_parts(0.5, 2, make)
    modules = {"policy": policy}
    plan, watch = Plan(stage="x", total=7), Stopping(run, stop_at)
    outcome = drive(loop, batches, plan, run=run, modules=modules, watch=watch)
    return result(path, outcome, modules)


@pytest.mark.parametrize("make", [adapted, full])
@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_resumed_run_ends_with_the_same_bits(make, stop_at, tmp_path):
    """Once before the reference has moved, once between two of its moves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = go(tmp_path / "whole", make)
    with pytest.raises(Interrupted):
        go(tmp_path / "run", make, stop_at)
    assert_same(go(tmp_path / "run", make), whole)
    torch.set_num_threads(threads)


def test_a_batch_of_a_referenced_dataset_is_its_rows():
    data = stated(comparisons(), CausalPolicy(tiny("llama")))
    for batch in Batches(data, size=5, shuffle=False):
        assert isinstance(batch, ReferencedComparisons)
        again = stated(batch.comparisons, CausalPolicy(tiny("llama")))
        torch.testing.assert_close(batch.logp_ref.values, again.logp_ref.values, atol=1e-4, rtol=0)
