"""What is watched while the direct family learns: margins, separated pairs, the pull of length."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.algorithms.preference.answers import moments
from backflip.algorithms.preference.base import DirectObjective, preference_metrics, tell
from backflip.algorithms.preference.cpo import CPO
from backflip.algorithms.preference.ipo import IPO
from backflip.algorithms.preference.ipo_sum import IPOSum
from backflip.algorithms.preference.mixture import Mixture
from backflip.algorithms.preference.r_dpo import RDPO
from backflip.algorithms.preference.simpo import SimPO
from backflip.algorithms.preference.slic import SLiC
from backflip.algorithms.preference.sppo import SPPO
from tests.algorithms.direct_data import comparisons, referenced
from tests.algorithms.test_direct import POLICY, REFERENCE, _of_all_kinds, told_of
from tests.algorithms.test_direct_learning import _name


def test_metrics_by_hand():
    batch = comparisons([[1, 0], [0, 1]], [[[31], [32, 33]], [[34], [35]]])
    _, told = told_of(batch)
    u = lambda *t: POLICY.of(*t) - REFERENCE.of(*t)  # noqa: E731
    metrics = {k: v.mean() for k, v in preference_metrics(told, 10 * told.ratio).items()}
    margins = [10 * (u(32, 33) - u(31)), 10 * (u(34) - u(35))]
    assert metrics["margin"] == pytest.approx(sum(margins) / 2)
    assert metrics["accuracy"] == sum(m > 0 for m in margins) / 2
    assert metrics["separated"] == sum(1 / (1 + math.exp(-m)) > 0.9 for m in margins) / 2
    assert metrics["logp_change_chosen"] == pytest.approx((u(32, 33) + u(34)) / 2)
    assert metrics["logp_rejected"] == pytest.approx((POLICY.of(31) + POLICY.of(35)) / 2)
    assert (metrics["length_chosen"], metrics["length_rejected"]) == (1.5, 1.0)


def test_moments_give_the_correlation_of_reward_and_length():
    batch = _of_all_kinds()
    _, told = told_of(batch)
    m = {k: v.mean() for k, v in moments(told.ratio.detach(), told.length).items()}
    covariance = m["moment_reward_length"] - m["moment_reward"] * m["moment_length"]
    spread = (m["moment_reward_2"] - m["moment_reward"] ** 2) * (
        m["moment_length_2"] - m["moment_length"] ** 2
    )
    exact = torch.corrcoef(torch.stack([told.ratio.detach(), told.length]))[0, 1]
    assert covariance / spread**0.5 == pytest.approx(float(exact))


def test_a_policy_that_has_learnt_nothing_does_not_lean_to_a_length():
    """R-DPO's reward holds the length itself, CPO's and SLiC's is lower for whatever is longer."""
    batch = _of_all_kinds()
    at_rest = tell(REFERENCE.evaluate(batch.answers.values)["logp"], referenced(REFERENCE, batch))
    assert RDPO().reward(at_rest).std() > 0
    assert RDPO().implicit_reward(at_rest).abs().max() == 0
    for objective in (CPO(), SLiC(), Mixture(terms=(CPO(),), weights=(1.0,))):
        assert objective.implicit_reward(at_rest) is None
        both = referenced(REFERENCE, batch)
        assert "moment_reward" not in objective.loss(POLICY, both).metrics
    assert "moment_reward" in SimPO().loss(POLICY, batch).metrics


@pytest.mark.parametrize("objective", [IPO(), IPOSum(), SPPO()], ids=_name)
def test_pairs_at_an_objectives_own_target_are_separated(objective: DirectObjective):
    """IPO's optimum is a margin of ½, SPPO's of 1, where σ never comes near 0.9."""
    batch = comparisons([[0, 1], [1, 0]], [[[31], [32, 33]], [[34], [35]]])
    both, _ = told_of(batch)
    goal = 0.5 if objective.separated < 0.5 else 1.0
    for share, expected in ((1.0, 1.0), (0.8, 0.0)):
        reward = goal * share * torch.tensor([1.0, 0.0, 0.0, 1.0])
        _, told = told_of(batch)
        found = preference_metrics(told, reward, separated=objective.separated)["separated"]
        assert found.mean() == expected
    assert "separated" in objective.loss(POLICY, both).metrics
