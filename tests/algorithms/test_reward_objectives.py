"""What a reward model learns, on a real (tiny) model."""

from __future__ import annotations

import pytest
import torch

from backflip.algorithms.reward.base import Rated, pair_metrics
from backflip.algorithms.reward.bradley_terry import BradleyTerry
from backflip.algorithms.reward.davidson import Davidson
from backflip.algorithms.reward.plackett_luce import PlackettLuce
from backflip.algorithms.reward.rao_kupper import RaoKupper
from backflip.data.batches import ComparisonBatch
from backflip.functional.reward_losses import all_pairs
from backflip.models.heads import RewardModel
from backflip.training.learner import Learner, Work, make_optimizer
from tests.models.families import tiny

GOOD, BAD = 7, 9


def comparisons(ranks: list[list[int]], answers: list[list[list[int]]]) -> ComparisonBatch:
    """One prompt per list of answers."""
    return ComparisonBatch.of([[10 + i % 8, 20, 21] for i in range(len(answers))], answers, ranks)


def good_beats_bad(seed: int, size: int = 16) -> ComparisonBatch:
    """The answer with a GOOD token in it wins, wherever it stands."""
    generator = torch.Generator().manual_seed(seed)
    rows, ranks = [], []
    for _ in range(size):
        words = torch.randint(30, 60, (2, 5), generator=generator)
        words[0, int(torch.randint(5, (1,), generator=generator))] = GOOD
        order = torch.randperm(2, generator=generator)
        rows.append([words[i].tolist() for i in order])
        ranks.append(order.tolist())
    return comparisons(ranks, rows)


def learner(model: RewardModel) -> Learner:
    return Learner(model, make_optimizer(model, lr=3e-3))


@pytest.mark.parametrize(
    "objective",
    [BradleyTerry(), RaoKupper(), Davidson(), PlackettLuce()],
    ids=lambda o: type(o).__name__,
)
def test_a_tiny_model_learns_the_preference(objective):
    model = RewardModel(tiny("llama"))
    teach = learner(model)
    for step in range(40):
        teach.step(Work(objective, good_beats_bad(step)))
    unseen = good_beats_bad(1000, size=64)
    with torch.no_grad():
        accuracy = objective.loss(model, unseen).metrics["accuracy"].mean()
    assert accuracy > 0.9


def test_three_ranked_answers_cost_the_mean_over_their_pairs():
    """InstructGPT's eq. 1, from the scores of the same model."""
    batch = comparisons([[2, 0, 1], [0, 1]], [[[31], [32], [33]], [[34], [35]]])
    model = RewardModel(tiny("llama"))
    scores = model.raw_scores(batch.answers.values)[:, 0]
    expected = all_pairs(scores, batch.rank.values, batch.answers.owner()).mean()
    outcome = BradleyTerry().loss(model, batch)
    loss = outcome.losses["preference"]
    torch.testing.assert_close(loss.total / loss.count, expected)
    assert BradleyTerry().counts(batch)["preference"] == 2


def test_bradley_terry_is_silent_about_ties_and_does_not_count_them():
    batch = comparisons([[0, 0], [0, 1]], [[[31], [32]], [[34], [35]]])
    model = RewardModel(tiny("llama"))
    alone = comparisons([[0, 1]], [[[34], [35]]])
    alone.answers.values.prompt.values[0::3] = 11  # the second prompt of ``batch``
    both, one = (BradleyTerry().loss(model, b).losses["preference"] for b in (batch, alone))
    torch.testing.assert_close(both.total / both.count, one.total / one.count)


@pytest.mark.parametrize("objective", [RaoKupper(), Davidson()], ids=["rao_kupper", "davidson"])
def test_a_tie_draws_the_scores_together(objective):
    batch = comparisons([[0, 0]], [[[31, 32], [33, 34]]])
    model = RewardModel(tiny("llama"))
    teach, gaps = learner(model), []
    for _ in range(30):
        scores = model.raw_scores(batch.answers.values)[:, 0]
        gaps.append(float((scores[0] - scores[1]).abs()))
        teach.step(Work(objective, batch))
    assert gaps[-1] < 0.3 * gaps[0]


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_the_spread_of_scores_does_not_depend_on_how_a_batch_is_cut(shift):
    """Mean square less squared mean, of pieces of unequal size, far from zero too."""
    scores = 0.01 * torch.randn(10, generator=torch.Generator().manual_seed(0)) + shift
    prompt = torch.arange(5).repeat_interleave(2)
    pieces = [
        pair_metrics(Rated(scores[rows], torch.tensor([0, 1] * (len(rows) // 2)), prompt[rows]))
        for rows in torch.arange(10).split([2, 6, 2])
    ]
    mean, square = (
        sum((p[name] for p in pieces[1:]), pieces[0][name]).mean()
        for name in ("score_mean", "score_mean_square")
    )
    assert (square - mean**2) ** 0.5 == pytest.approx(float(scores.std(correction=0)), rel=1e-3)


def test_a_held_out_head_learns_from_its_own_half_alone():
    batch = good_beats_bad(0)
    batch.head[:] = 1
    model = RewardModel(tiny("llama"), heads=2)
    before = model.score.weight.detach().clone()
    learner(model).step(Work(BradleyTerry(), batch))
    torch.testing.assert_close(model.score.weight[0], before[0])
    assert (model.score.weight[1] - before[1]).abs().max() > 1e-4


def test_a_margin_asks_for_more_than_a_win():
    """Llama 2's margin: a pair that is won by less than its margin still costs."""
    batch = comparisons([[0, 1]], [[[31], [32]]])
    model = RewardModel(tiny("llama"))
    plain = BradleyTerry().loss(model, batch).losses["preference"].total
    batch.margin[:] = 2.0
    assert BradleyTerry().loss(model, batch).losses["preference"].total > plain


def test_a_label_of_one_half_wants_equal_scores():
    batch = comparisons([[0, 1]], [[[31, 32], [33, 34]]])
    batch.soft[:] = 0.5
    model = RewardModel(tiny("llama"))
    teach = learner(model)
    for _ in range(40):
        teach.step(Work(BradleyTerry(), batch))
    scores = model.raw_scores(batch.answers.values)[:, 0]
    assert float((scores[0] - scores[1]).abs()) < 0.05


def test_centering_pulls_the_sum_of_scores_to_zero():
    batch = comparisons([[0, 1]], [[[31, 32], [33, 34]]])
    model = RewardModel(tiny("llama"))
    teach = learner(model)
    for _ in range(60):
        teach.step(Work(BradleyTerry(centering_coef=1.0), batch))
    scores = model.raw_scores(batch.answers.values)[:, 0]
    assert scores[0] > scores[1]
    assert abs(float(scores.sum())) < 0.3
