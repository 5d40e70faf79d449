"""The direct family on batches: who is compared with whom, what counts, and who equals whom."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from backflip.algorithms.preference.base import DirectObjective, tell
from backflip.algorithms.preference.cpo import CPO
from backflip.algorithms.preference.davidson_dpo import DavidsonDPO
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.f_dpo import FDPO
from backflip.algorithms.preference.ipo import IPO
from backflip.algorithms.preference.ipo_sum import IPOSum
from backflip.algorithms.preference.length_normalised_dpo import LengthNormalisedDPO
from backflip.algorithms.preference.mixture import Mixture
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
from backflip.data.batches import ComparisonBatch
from backflip.data.ragged import Ragged
from backflip.data.stream import narrowed
from tests.algorithms.direct_data import Unigram, comparisons, good_beats_bad, referenced, value
from tests.algorithms.test_direct_learning import OBJECTIVES, _name

POLICY, REFERENCE = Unigram(0), Unigram(1)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=_name)


def told_of(batch: ComparisonBatch):
    """The batch with its reference, and what policy and reference say of it."""
    both = referenced(REFERENCE, batch)
    return both, tell(POLICY.evaluate(batch.answers.values)["logp"], both)


def assert_same(one: DirectObjective, other: DirectObjective, batch: ComparisonBatch):
    both = referenced(REFERENCE, batch)
    torch.testing.assert_close(value(one, POLICY, both), value(other, POLICY, both))


@pytest.mark.parametrize(
    "same",
    [
        RobustDPO(beta=0.1, label_noise=0.0),
        FDPO(divergence="reverse_kl"),
        RDPO(length_coef=0.0),
        TRDPO(beta=0.1),
        DavidsonDPO(nu=0.0),
        RaoKupperDPO(theta=1.0),
        PlackettLuceDPO(),
        Mixture(terms=(DPO(),), weights=(1.0,)),
        Mixture(terms=(DPO(), DPO()), weights=(0.3, 0.7)),
    ],
    ids=_name,
)
def test_special_cases_of_pairs_are_dpo(same):
    assert_same(same, DPO(), good_beats_bad(0))


def test_psi_po_with_the_identity_is_ipo_added_up():
    soft = torch.where(torch.arange(16) < 5, 0.7, 1.0)
    assert_same(PsiPO(), IPOSum(), _with(good_beats_bad(0), soft=soft))


@pytest.mark.parametrize("smoothing", [DPO, TRDPO, PsiPO], ids=lambda c: c.__name__)
def test_label_smoothing_is_a_soft_label_for_all(smoothing):
    batch = unsure(good_beats_bad(0))
    smoothed = _with(batch, soft=0.8 * batch.soft + 0.1)
    one = value(smoothing(label_smoothing=0.1), POLICY, referenced(REFERENCE, batch))
    torch.testing.assert_close(one, value(smoothing(), POLICY, referenced(REFERENCE, smoothed)))


def test_a_mixture_of_one_is_that_one_with_its_likelihood():
    batch = good_beats_bad(0)
    assert_same(Mixture(terms=(ORPO(),), weights=(1.0,)), ORPO(), batch)
    assert_same(Mixture(terms=(DPO(),), weights=(1.0,), nll_coef=0.2), DPO(nll_coef=0.2), batch)


def test_with_answers_of_one_length_averages_only_scale_beta():
    batch = comparisons(
        [[0, 1], [1, 0]], [[[31, 32, 33], [34, 35, 36]], [[37, 7, 9], [30, 40, 50]]]
    )
    assert_same(LengthNormalisedDPO(beta=0.3), DPO(beta=0.1), batch)
    assert_same(SimPO(beta=0.3, target_margin=0.0), CPO(beta=0.1, nll_coef=0.0), batch)
    per_token = value(IPO(beta=0.3), POLICY, referenced(REFERENCE, batch))
    summed = value(IPOSum(beta=0.1), POLICY, referenced(REFERENCE, batch))
    torch.testing.assert_close(per_token * 9, summed)


def _with(batch: ComparisonBatch, **changes) -> ComparisonBatch:
    return dataclasses.replace(batch, **changes)


def unsure(batch: ComparisonBatch) -> ComparisonBatch:
    """Labels that are right nine times in ten, which every objective can learn from."""
    return _with(batch, soft=torch.full((len(batch),), 0.9))


def test_dpo_costs_log_two_at_the_reference_whatever_the_labels():
    batch = referenced(POLICY, good_beats_bad(0))
    torch.testing.assert_close(value(DPO(), POLICY, batch), torch.tensor(math.log(2)).double())


def test_dpo_by_hand():
    batch = comparisons([[1, 0]], [[[31], [32, 33]]])
    delta = POLICY.of(32, 33) - REFERENCE.of(32, 33) - POLICY.of(31) + REFERENCE.of(31)
    expected = math.log(1 + math.exp(-0.1 * delta))
    assert float(value(DPO(), POLICY, referenced(REFERENCE, batch))) == pytest.approx(expected)
    batch = _with(batch, margin=torch.tensor([0.5]), soft=torch.tensor([0.8]))
    mixed = 0.8 * math.log(1 + math.exp(0.5 - 0.1 * delta))
    mixed += 0.2 * math.log(1 + math.exp(0.5 + 0.1 * delta))
    assert float(value(DPO(), POLICY, referenced(REFERENCE, batch))) == pytest.approx(mixed)


def test_length_regularised_dpo_counts_own_tokens():
    batch = comparisons([[1, 0]], [[[31], [32, 33, 34]]], [[[True], [True, False, True]]])
    delta = POLICY.of(32, 34) - REFERENCE.of(32, 34) - POLICY.of(31) + REFERENCE.of(31)
    expected = math.log(1 + math.exp(-0.1 * delta - 0.5 * (2 - 1)))
    loss = value(RDPO(length_coef=0.5), POLICY, referenced(REFERENCE, batch))
    assert float(loss) == pytest.approx(expected)


def test_slic_and_orpo_by_hand():
    batch = comparisons([[0, 1]], [[[31, 35], [32]]])
    better, worse = POLICY.of(31, 35), POLICY.of(32)
    slic = max(0.0, 1.5 - 2 * (better - worse)) + 0.4 * -better / 2
    objective = SLiC(beta=2.0, delta=1.5, nll_coef=0.4)
    assert float(value(objective, POLICY, batch)) == pytest.approx(slic)
    p, q = math.exp(better / 2), math.exp(worse)
    odds = math.log(p / (1 - p)) - math.log(q / (1 - q))
    orpo = -better / 2 + 0.1 * math.log(1 + math.exp(-odds))
    assert float(value(ORPO(), POLICY, batch)) == pytest.approx(orpo)


def test_sppo_takes_the_win_probabilities_that_were_estimated():
    answers = [[[31], [32], [33]]]
    wins = [[0.9, 0.5, 0.2]]
    batch = ComparisonBatch.of([[10]], answers, [[0, 1, 2]], wins=wins)
    ratios = [POLICY.of(t) - REFERENCE.of(t) for t in (31, 32, 33)]
    costs = [(u - 100 * (w - 0.5)) ** 2 for u, w in zip(ratios, wins[0], strict=True)]
    loss = value(SPPO(beta=0.01), POLICY, referenced(REFERENCE, batch))
    assert float(loss) == pytest.approx(2 * sum(costs) / 3)


def test_psi_po_with_the_logit_refuses_labels_that_are_certain():
    batch = good_beats_bad(0)
    with pytest.raises(ValueError, match=r"certain.*label_smoothing"):
        PsiPO(psi="logit").loss(POLICY, referenced(REFERENCE, batch))
    unsure = referenced(REFERENCE, _with(batch, soft=torch.full((16,), 0.9)))
    assert value(PsiPO(psi="logit"), POLICY, unsure).isfinite()


def test_three_ranked_answers_cost_the_mean_over_their_pairs_and_prompts_weigh_alike():
    batch = comparisons([[2, 0, 1], [0, 1]], [[[31], [32], [33]], [[34], [35]]])
    batch = _with(batch, weight=torch.tensor([1.0, 3.0]))
    u = {t: POLICY.of(t) - REFERENCE.of(t) for t in range(31, 36)}
    cost = lambda a, b: math.log(1 + math.exp(-0.1 * (u[a] - u[b])))  # noqa: E731
    first = (cost(32, 33) + cost(32, 31) + cost(33, 31)) / 3
    loss = value(DPO(), POLICY, referenced(REFERENCE, batch))
    assert float(loss) == pytest.approx((first + 3 * cost(34, 35)) / 4)


def test_plackett_luce_draws_the_best_first():
    batch = comparisons([[2, 0, 1], [0, 1]], [[[31], [32], [33]], [[34], [35]]])
    s = {t: math.exp(0.1 * (POLICY.of(t) - REFERENCE.of(t))) for t in range(31, 36)}
    three = s[32] / (s[31] + s[32] + s[33]) * s[33] / (s[33] + s[31])
    two = s[34] / (s[34] + s[35])
    loss = value(PlackettLuceDPO(), POLICY, referenced(REFERENCE, batch))
    assert float(loss) == pytest.approx(-(math.log(three) + math.log(two)) / 2)


@every_objective
def test_a_loss_does_not_depend_on_how_the_batch_is_cut(objective):
    batch = referenced(REFERENCE, _of_all_kinds())
    whole = objective.loss(POLICY, batch)
    pieces = [objective.loss(POLICY, batch[rows]) for rows in torch.arange(9).split([1, 5, 3])]
    counts = objective.counts(batch)
    for name, loss in whole.losses.items():
        together = sum((p.losses[name] for p in pieces[1:]), pieces[0].losses[name])
        torch.testing.assert_close(together.total, loss.total)
        torch.testing.assert_close(together.count, loss.count)
        torch.testing.assert_close(loss.count, counts[name].double())
    for name, metric in whole.metrics.items():
        together = sum((p.metrics[name] for p in pieces[1:]), pieces[0].metrics[name])
        assert together.mean() == pytest.approx(metric.mean()), name


def _of_all_kinds() -> ComparisonBatch:
    """Pairs, a ranking of three, ties, weights, a user turn, soft labels."""
    generator = torch.Generator().manual_seed(3)
    ranks = [[0, 1], [1, 0], [0, 1, 2], [0, 0], [1, 0], [0, 1], [0, 0, 1], [1, 0], [1, 1]]
    answers = [
        [
            torch.randint(30, 60, (int(n),), generator=generator).tolist()
            for n in torch.randint(2, 6, (len(rank),), generator=generator)
        ]
        for rank in ranks
    ]
    masks = [[[True] * len(answer) for answer in row] for row in answers]
    masks[2][1][1] = False
    batch = comparisons(ranks, answers, masks)
    weight = torch.tensor([1.0, 0.5, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    return _with(batch, weight=weight, soft=torch.full((9,), 0.9))


@every_objective
def test_what_a_user_says_inside_an_answer_changes_nothing(objective):
    plain = comparisons([[0, 1]], [[[31, 32], [33, 34]]])
    answers = [[[31, 50, 51, 32], [33, 34, 52]]]
    masks = [[[True, False, False, True], [True, True, False]]]
    longer = comparisons([[0, 1]], answers, masks)
    one, other = (
        value(objective, POLICY, referenced(REFERENCE, unsure(b))) for b in (plain, longer)
    )
    torch.testing.assert_close(one, other)


@every_objective
def test_ties_say_something_only_where_they_are_learnt_from(objective):
    tied = comparisons([[0, 0]], [[[31, 32], [33, 34]]])
    batch = referenced(REFERENCE, tied)
    counts = {n: float(c) for n, c in objective.counts(batch).items() if "preference" in n}
    assert max(counts.values()) == float(objective.learns_ties)
    policy = Unigram(0)
    losses = objective.loss(policy, batch).losses
    sum(loss.total for name, loss in losses.items() if name != "nll").backward()
    assert bool(policy.logits.grad.abs().max() > 0) == objective.learns_ties


@every_objective
def test_accuracy_means_what_the_objective_orders_by(objective):
    """Where the reward prefers an answer, the label that says so costs less than its opposite."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        lengths = torch.randint(1, 6, (2,), generator=generator).tolist()
        row = [torch.randint(30, 60, (n,), generator=generator).tolist() for n in lengths]
        costs = []
        for ranks in ([0, 1], [1, 0]):
            rows = unsure(comparisons([ranks], [row]))
            _, told = told_of(rows)
            costs.append(float(sum(v.total for v in objective.preferences(told, rows).values())))
        reward = objective.reward(told)
        if isinstance(objective, Mixture):
            continue  # its reward is that of one term
        assert bool(reward[0] > reward[1]) == (costs[0] < costs[1])


@every_objective
def test_what_an_objective_heeds_changes_its_loss_and_nothing_else_does(objective):
    plain = unsure(good_beats_bad(0))
    changed = {
        "soft": torch.full((16,), 0.7),
        "margin": torch.full((16,), 0.5),
        "win": Ragged(torch.full((32,), 0.3), plain.answers.offsets),
    }
    before = value(objective, POLICY, referenced(REFERENCE, plain))
    for name, new in changed.items():
        after = value(objective, POLICY, referenced(REFERENCE, _with(plain, **{name: new})))
        assert bool((after - before).abs() > 1e-6) == (name in objective.uses_labels), name


@every_objective
def test_an_objective_says_what_it_cannot_do_without(objective):
    rows = unsure(good_beats_bad(0))
    if not objective.needs_reference:
        with_it = value(objective, POLICY, referenced(REFERENCE, rows))
        torch.testing.assert_close(with_it, value(objective, POLICY, rows))
        return
    with pytest.raises(ValueError, match=f"{type(objective).__name__}.*reference"):
        objective.loss(POLICY, rows)


def test_a_mixture_is_the_weighted_sum_of_its_terms_each_over_what_it_learns_from():
    """A tie belongs to Davidson's term alone, and does not dilute the other."""
    batch = referenced(REFERENCE, _of_all_kinds())
    terms = (DPO(nll_coef=0.3), DavidsonDPO(), ORPO())
    mixture = Mixture(terms=terms, weights=(1.0, 0.5, 2.0), nll_coef=0.1)
    nll = value(DPO(nll_coef=1.0), POLICY, batch) - value(DPO(), POLICY, batch)
    alone = [value(term, POLICY, batch) for term in terms]
    expected = alone[0] + 0.5 * alone[1] + 2 * alone[2] + 0.1 * nll
    torch.testing.assert_close(value(mixture, POLICY, batch), expected)
    assert mixture.needs_reference
    assert mixture.learns_ties
    assert not Mixture(terms=(SimPO(), CPO()), weights=(1.0, 1.0)).needs_reference


def test_a_mixture_reads_the_answers_once():
    class Counting(Unigram):
        read = 0

        def evaluate(self, steps):
            self.read += 1
            return super().evaluate(steps)

    policy = Counting()
    Mixture(terms=(DPO(), IPO(), SimPO()), weights=(1.0, 1.0, 1.0), nll_coef=0.2).loss(
        policy, referenced(REFERENCE, good_beats_bad(0))
    )
    assert policy.read == 1


def test_rpo_adds_the_likelihood_of_the_best_answers_a_token():
    batch = comparisons([[1, 0], [0, 1]], [[[31], [32, 33]], [[34], [35]]])
    both = referenced(REFERENCE, batch)
    nll = -(POLICY.of(32, 33) + POLICY.of(34)) / 3
    difference = value(DPO(nll_coef=0.2), POLICY, both) - value(DPO(), POLICY, both)
    assert float(difference) == pytest.approx(0.2 * nll)


@every_objective
def test_a_batch_cut_from_longer_data_costs_what_it_costs_at_full_width(objective):
    """What is read of a batch is as wide as its own longest answer, whatever the data hold."""
    short = good_beats_bad(0, size=4)
    answers = [[row.tolist() for row in pair.answer.rows()] for pair in short.answers.rows()]
    ranks = [rank.tolist() for rank in short.rank.rows()]
    data = comparisons([*ranks, [0, 1]], [*answers, [[31] * 40, [32] * 39]])
    wide = referenced(REFERENCE, unsure(data))[:4]
    narrow = narrowed(wide)
    assert wide.comparisons.answers.values.width == 40
    assert narrow.comparisons.answers.values.width < 10
    torch.testing.assert_close(value(objective, POLICY, narrow), value(objective, POLICY, wide))


def test_tokens_left_out_of_the_comparison_are_imitated_all_the_same():
    """Token 9 ends both answers: the preference is without it, the likelihood has it."""
    whole = comparisons([[0, 1]], [[[31, 9], [33, 34, 9]]])
    bare = comparisons([[0, 1]], [[[31], [33, 34]]])
    last = whole.mask.values & (torch.arange(3) == torch.tensor([[1], [2]]))
    masked = _with(whole, mask=Ragged(whole.mask.values & ~last, whole.mask.offsets))
    both = referenced(REFERENCE, masked)
    preference = value(DPO(), POLICY, both)
    torch.testing.assert_close(preference, value(DPO(), POLICY, referenced(REFERENCE, bare)))
    nll = value(DPO(nll_coef=1.0), POLICY, both) - preference
    assert float(nll) == pytest.approx(-POLICY.of(31, 9) / 2)


def test_equally_good_answers_share_the_weight_of_their_prompt_in_the_likelihood():
    batch = comparisons([[0, 0, 1], [0, 1]], [[[31], [32, 33], [36]], [[34], [35]]])
    nll = -(0.5 * POLICY.of(31) + 0.5 * POLICY.of(32, 33) + POLICY.of(34)) / 2.5
    objective = CPO(nll_coef=1.0)
    assert objective.loss(POLICY, batch).metrics["nll"].mean() == pytest.approx(nll)


@every_objective
def test_a_change_against_no_reference_is_not_called_one(objective: DirectObjective):
    batch = referenced(REFERENCE, unsure(good_beats_bad(3, size=4)))
    metrics = objective.loss(POLICY, batch).metrics
    assert "logp_chosen" in metrics
    assert ("logp_change_chosen" in metrics) is objective.needs_reference
    assert ("logp_change_rejected" in metrics) is objective.needs_reference
