"""Losses and scores of steps, by hand and by their identities."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.functional.process import aggregated, first_error, goodness, step_loss

BAD, NEUTRAL, GOOD = torch.eye(3)


def test_a_hard_label_costs_the_surprise_of_its_class():
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]]).repeat(3, 1)
    loss = step_loss(logits, torch.stack([BAD, NEUTRAL, GOOD]), neutral=1.0)
    torch.testing.assert_close(loss, -torch.tensor([1 / 8, 2 / 8, 5 / 8]).log())
    good = goodness(logits[:1], neutral=0.5)
    torch.testing.assert_close(good, torch.tensor([5 / 8 + 0.5 * 2 / 8]))


def test_a_soft_label_is_the_mean_of_its_hard_ones_and_is_met_exactly():
    """The loss is least where the model says what the label says (a proper score)."""
    label = torch.tensor([[0.75, 0.0, 0.25]])
    logit = torch.tensor([[0.3]], requires_grad=True)
    loss = step_loss(logit, label, neutral=1.0)
    hard = [step_loss(logit, one[None], neutral=1.0) for one in (BAD, GOOD)]
    torch.testing.assert_close(loss, 0.75 * hard[0] + 0.25 * hard[1])
    best = torch.tensor([[math.log(1 / 3)]], requires_grad=True)
    step_loss(best, label, neutral=1.0).sum().backward()
    assert best.grad is not None
    assert float(best.grad) == pytest.approx(0, abs=1e-6)
    assert float(goodness(best, neutral=1.0)) == pytest.approx(0.25)


def test_without_neutral_steps_three_classes_are_two():
    """Where the neutral logit is −∞, cross-entropy of three is binary cross-entropy of one."""
    one = torch.tensor([[0.7], [-1.2]])
    three = torch.cat([torch.zeros(2, 1), torch.full((2, 1), -1e9), one], 1)
    labels = torch.tensor([[0.4, 0.0, 0.6], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(
        step_loss(three, labels, neutral=0.3), step_loss(one, labels, neutral=0.3)
    )


def test_scores_of_solutions():
    good = [0.9, 0.5, 0.8]
    assert aggregated(good, "min") == 0.5
    assert aggregated(good, "product") == pytest.approx(0.36)
    assert aggregated(good, "last") == 0.8
    assert first_error([0.9, 0.4, 0.1]) == 1
    assert first_error([0.9, 0.5]) is None
    with pytest.raises(ValueError, match="without steps"):
        aggregated([], "min")
