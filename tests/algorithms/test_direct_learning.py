"""Every direct objective teaches a real (tiny) policy the preference that the data hold."""

from __future__ import annotations

import pytest
import torch

from backflip.algorithms.preference.apo_down import APODown
from backflip.algorithms.preference.apo_zero import APOZero
from backflip.algorithms.preference.base import preference_metrics, tell
from backflip.algorithms.preference.cpo import CPO
from backflip.algorithms.preference.davidson_dpo import DavidsonDPO
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.exo import EXO
from backflip.algorithms.preference.f_dpo import FDPO
from backflip.algorithms.preference.ipo import IPO
from backflip.algorithms.preference.ipo_sum import IPOSum
from backflip.algorithms.preference.length_normalised_dpo import LengthNormalisedDPO
from backflip.algorithms.preference.nca import NCA
from backflip.algorithms.preference.orpo import ORPO
from backflip.algorithms.preference.plackett_luce_dpo import PlackettLuceDPO
from backflip.algorithms.preference.psi_po import PsiPO
from backflip.algorithms.preference.r_dpo import RDPO
from backflip.algorithms.preference.rao_kupper_dpo import RaoKupperDPO
from backflip.algorithms.preference.robust_dpo import RobustDPO
from backflip.algorithms.preference.simpo import SimPO
from backflip.algorithms.preference.slic import SLiC
from backflip.algorithms.preference.sppo import SPPO
from backflip.algorithms.preference.tr_dpo import TRDPO
from backflip.models.causal import CausalPolicy
from backflip.training.learner import Learner, Work, make_optimizer
from tests.algorithms.direct_data import good_beats_bad, mixed, referenced
from tests.models.families import tiny

OBJECTIVES = [
    DPO(),
    DPO(label_smoothing=0.1, nll_coef=0.2),
    RobustDPO(),
    IPO(),
    IPOSum(beta=0.05),
    PsiPO(beta=0.05),
    PsiPO(psi="logit", label_smoothing=0.05),
    SPPO(),
    FDPO(divergence="reverse_kl"),
    FDPO(divergence="forward_kl"),
    FDPO(divergence="js"),
    FDPO(divergence="alpha"),
    APOZero(),
    APODown(),
    EXO(),
    NCA(),
    LengthNormalisedDPO(),
    RDPO(),
    TRDPO(),
    ORPO(),
    SimPO(),
    CPO(),
    SLiC(delta=10.0),  # nats an answer: random words alone make several
    PlackettLuceDPO(),
    DavidsonDPO(),
    RaoKupperDPO(),
    mixed(),
]


def _name(objective):
    extra = getattr(objective, "divergence", getattr(objective, "psi", ""))
    return f"{type(objective).__name__}{'-' if extra else ''}{extra}"


@pytest.mark.parametrize("objective", OBJECTIVES, ids=_name)
def test_a_tiny_policy_learns_the_preference(objective):
    """LabelledLogps on prompts and answers that it never saw.

    The policy is not to tell good from bad at first, and afterwards by its own implicit reward.
    """
    policy = CausalPolicy(tiny("llama"))
    reference = policy.reference()

    def batch(seed, size=16):
        rows = good_beats_bad(seed, size)
        return referenced(reference, rows) if objective.needs_reference else rows

    unseen = batch(1000, size=64)
    before = _accuracy(objective, policy, unseen)
    learner = Learner(policy, make_optimizer(policy, lr=1e-2))
    for step in range(15):
        learner.step(Work(objective, batch(step)))
    assert before <= 0.6
    assert _accuracy(objective, policy, unseen) >= 0.9


@torch.no_grad()
def _accuracy(objective, policy, batch):
    return objective.loss(policy, batch).metrics["accuracy"].mean()


def test_every_objective_of_comparisons_is_taught_here():
    """Whoever adds one is reminded."""
    from backflip.algorithms.preference.base import DirectObjective

    def leaves(cls):
        below = cls.__subclasses__()
        return {leaf for sub in below for leaf in leaves(sub)} if below else {cls}

    shipped = {c for c in leaves(DirectObjective) if c.__module__.startswith("backflip.")}
    assert shipped == {type(objective) for objective in OBJECTIVES}


@pytest.mark.parametrize("objective", [PlackettLuceDPO(), DPO(), SPPO()], ids=_name)
def test_a_ranking_of_four_is_learnt_whole(objective):
    policy = CausalPolicy(tiny("llama"))
    reference = policy.reference()
    learner = Learner(policy, make_optimizer(policy, lr=1e-2))
    for step in range(15):
        rows = good_beats_bad(step, size=8, answers=4)
        learner.step(Work(objective, referenced(reference, rows)))
    unseen = referenced(reference, good_beats_bad(1000, size=32, answers=4))
    with torch.no_grad():
        told = tell(policy.evaluate(unseen.comparisons.answers.values)["logp"], unseen)
        accuracy = preference_metrics(told, objective.reward(told))["accuracy"]
    assert accuracy.count == 32 * 6
    assert accuracy.mean() > 0.9
