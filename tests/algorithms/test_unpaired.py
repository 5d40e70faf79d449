"""KTO, BCO and APO-zero on a real (tiny) model: what they learn, however a batch is cut."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from backflip.algorithms.preference.apo_zero_unpaired import APOZeroUnpaired
from backflip.algorithms.preference.bco import BCO
from backflip.algorithms.preference.kto import ADVISED, KTO
from backflip.data.batches import LabelledBatch, TokenSteps
from backflip.data.collate import mismatched
from backflip.data.referenced import ReferencedLabels
from backflip.data.stream import Batches
from backflip.functional.unpaired_losses import kto
from backflip.models.causal import CausalPolicy
from backflip.training.learner import Learner, Work, make_optimizer
from backflip.training.offline import OfflineLoop, assess
from tests.models.families import tiny

GOOD, BAD = 7, 9
OBJECTIVES = [KTO(beta=0.3), BCO(beta=0.3), APOZeroUnpaired(beta=0.3)]
NAMED = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)


def thumbs(seed: int, rows: int = 16, *, weights: torch.Tensor | None = None) -> LabelledBatch:
    """Answers with a GOOD or a BAD token in them, wherever it stands."""
    generator = torch.Generator().manual_seed(seed)

    def words(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(20, 60, (length,), generator=generator).tolist()

    label = torch.rand(rows, generator=generator) < 0.5
    prompts, answers = [words(2, 7) for _ in range(rows)], [words(2, 7) for _ in range(rows)]
    for answer, good in zip(answers, label.tolist(), strict=True):
        place = int(torch.randint(len(answer), (1,), generator=generator))
        answer[place] = GOOD if good else BAD
    taken = mismatched([tuple(prompt) for prompt in prompts], seed=seed)
    steps = TokenSteps.of(prompts, answers)
    foreign = TokenSteps.of(prompts, [answers[row] for row in taken])
    weight = torch.ones(rows) if weights is None else weights
    return LabelledBatch(steps, steps.mask, label, weight, foreign, foreign.mask)


def logp(policy: CausalPolicy, steps: TokenSteps) -> torch.Tensor:
    with torch.no_grad():
        return policy.evaluate(steps)["logp"].sum(-1)


def referenced(data: LabelledBatch, reference: CausalPolicy) -> ReferencedLabels:
    own, foreign = (logp(reference, steps) for steps in (data.steps, data.mismatched))
    return ReferencedLabels(data, own, foreign, kl=torch.zeros(len(data)))


@pytest.fixture
def policy() -> CausalPolicy:
    return CausalPolicy(tiny("llama"))


@pytest.fixture
def moved() -> CausalPolicy:
    """A policy some way from ``policy``: their KL is not 0."""
    other = CausalPolicy(tiny("llama"))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return other


def gradient(policy, objective, batch, budget) -> tuple[dict[str, float], torch.Tensor]:
    """What a step of the learner would do, and its metrics."""
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    before = [p.detach().clone() for p in policy.parameters()]
    learner = Learner(policy, optimizer, max_norm=1e9, token_budget=budget)
    metrics = learner.step(Work(objective, batch))
    after = list(policy.parameters())
    step = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)]).detach()
    with torch.no_grad():
        for parameter, old in zip(after, before, strict=True):
            parameter.copy_(old)
    return metrics, step


@NAMED
def test_a_tiny_policy_learns_which_answers_are_good(objective, policy):
    """From shuffled batches, measured on prompts and answers that it has not seen."""
    reference = policy.reference()
    train, held_out = (
        referenced(thumbs(seed, rows), reference) for seed, rows in ((0, 128), (1, 64))
    )
    loop = OfflineLoop(Learner(policy, make_optimizer(policy, lr=3e-3)), objective)
    before = assess(objective, policy, held_out, 2000)
    for index, batch in enumerate(Batches(train, size=16, seed=0, epochs=3)):
        loop.step(index, batch)
    after = assess(loop.objective, policy, held_out, 2000)
    assert before["val_accuracy"] < 0.75
    assert after["val_accuracy"] > 0.9
    assert after["val_reward_chosen"] > after["val_reward_rejected"] + 0.3


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@NAMED
def test_a_step_does_not_depend_on_how_the_batch_is_cut(objective, weighted, policy, moved):
    """KTO's KL is one number of the whole batch, whatever the micro-batches."""
    weights = torch.linspace(0.2, 3.0, 16) if weighted else None
    batch = referenced(thumbs(0, weights=weights), policy)
    whole, one = gradient(moved, objective, batch, budget=10_000)
    pieces, other = gradient(moved, objective, batch, budget=30)
    assert len(moved.plan(batch, 30)) > 4
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    for name, value in whole.items():
        assert pieces[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_the_kl_is_that_of_the_mismatched_answers_of_the_whole_batch(policy, moved):
    """Enumerated row by row, from each side: at first 0, and never below."""
    data = thumbs(0)
    for model, reference in ((moved, policy), (policy, moved)):
        stamped = KTO().prepare(model, referenced(data, reference), 40)
        change = logp(model, data.mismatched) - logp(reference, data.mismatched)
        expected = max(0.0, float(change.mean()))
        torch.testing.assert_close(stamped.kl, torch.full((16,), expected), rtol=1e-4, atol=1e-4)
    assert KTO().prepare(policy, referenced(data, policy), 40).kl.abs().max() < 1e-4


def test_a_step_on_kto_is_its_loss_with_the_stamped_kl(policy, moved):
    batch = referenced(thumbs(0), policy)
    objective = KTO(beta=0.2, desirable_weight=1.5, undesirable_weight=0.5)
    metrics, _ = gradient(moved, objective, batch, budget=50)
    ratio = logp(moved, batch.labelled.steps) - batch.logp_ref
    kl = objective.prepare(moved, batch, 1000).kl
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    expected = kto(ratio, batch.labelled.label, kl, beta=0.2, **weights).mean()
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-4)
    assert metrics["kl"] == pytest.approx(float(kl[0]), rel=1e-4)


def test_masked_tokens_of_mismatched_answers_do_not_enter_the_kl(policy, moved):
    data = thumbs(0)
    first = torch.zeros_like(data.mismatched_mask)
    first[:, 0] = True
    data = dataclasses.replace(data, mismatched_mask=first)
    batch = dataclasses.replace(referenced(data, policy), mismatched_ref=torch.full((16,), -100.0))
    with torch.no_grad():
        expected = moved.evaluate(data.mismatched)["logp"][:, 0].mean() + 100
    assert float(KTO().prepare(moved, batch, 60).kl[0]) == pytest.approx(float(expected), rel=1e-4)


def test_the_weights_of_kto_scale_the_gradient_of_their_answers(policy):
    """Three times λ_D is three times the step, where all answers are good."""
    data = thumbs(0)
    batch = referenced(dataclasses.replace(data, label=torch.ones(16, dtype=torch.bool)), policy)
    _, one = gradient(policy, KTO(), batch, budget=1000)
    _, three = gradient(policy, KTO(desirable_weight=3.0), batch, budget=1000)
    _, same = gradient(policy, KTO(undesirable_weight=3.0), batch, budget=1000)
    torch.testing.assert_close(three, 3 * one)
    torch.testing.assert_close(same, one)


@NAMED
def test_a_row_of_weight_2_is_the_row_twice(objective, policy, moved):
    batch = referenced(thumbs(0, rows=5), policy)
    rows = torch.tensor([0, 1, 2, 2, 3, 4])
    weight = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0])
    heavy = dataclasses.replace(batch, labelled=dataclasses.replace(batch.labelled, weight=weight))
    one, step = gradient(moved, objective, heavy, budget=1000)
    two, other = gradient(moved, objective, batch[rows], budget=1000)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    torch.testing.assert_close(step, other, rtol=1e-3, atol=1e-6)


def test_good_answers_rise_and_bad_ones_fall_against_the_reference(policy):
    reference, batch = policy.reference(), thumbs(0)
    data = referenced(batch, reference)
    learner = Learner(policy, make_optimizer(policy, lr=3e-3))
    for _ in range(10):
        metrics = learner.step(Work(KTO(beta=0.3), data))
    assert metrics["logp_change_chosen"] > 0 > metrics["logp_change_rejected"]
    change = logp(policy, batch.steps) - data.logp_ref
    assert float(change[batch.label].mean()) > 0 > float(change[~batch.label].mean())


def test_metrics_are_means_over_the_answers_of_their_kind(policy, moved):
    batch = referenced(thumbs(0), policy)
    objective = KTO(beta=0.2)
    metrics, _ = gradient(moved, objective, batch, budget=60)
    label, total = batch.labelled.label, logp(moved, batch.labelled.steps)
    length = batch.labelled.steps.answer.lengths.float()
    reward, shift = 0.2 * (total - batch.logp_ref), 0.2 * metrics["kl"]
    expected = {
        "good": label.float().mean(),
        "accuracy": ((reward > shift) == label).float().mean(),
        "reward_chosen": reward[label].mean(),
        "reward_rejected": reward[~label].mean(),
        "logp_chosen": total[label].mean(),
        "logp_rejected": total[~label].mean(),
        "logp_change_chosen": (total - batch.logp_ref)[label].mean(),
        "logp_change_rejected": (total - batch.logp_ref)[~label].mean(),
        "length_chosen": length[label].mean(),
        "length_rejected": length[~label].mean(),
        "moment_reward_length": (reward * length).mean(),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(float(value), rel=1e-3, abs=1e-4), name


# ---- BCO's shift


def metrics_of(good: float, chosen: float, rejected: float) -> dict[str, float]:
    return {"good": good, "reward_chosen": chosen, "reward_rejected": rejected}


def test_the_shift_lies_half_way_between_the_running_means_of_both_kinds():
    """Decay 1/2: from 0 to 2 and 0 to −4, then to 3 and −4."""
    first = BCO(shift_decay=0.5).adapted(metrics_of(0.5, 4.0, -8.0))
    assert (first.reward_good, first.reward_bad, first.shift) == (2.0, -4.0, -1.0)
    second = first.adapted(metrics_of(0.25, 4.0, -4.0))
    assert (second.reward_good, second.reward_bad, second.shift) == (3.0, -4.0, -0.5)


def test_the_shift_forgets_how_it_began_and_keeps_up_with_the_rewards():
    """An exponential average: after n steps what was there before weighs decay ** n."""
    objective = BCO(shift_decay=0.8, reward_good=9.0, reward_bad=9.0)
    for _ in range(5):
        objective = objective.adapted(metrics_of(0.5, 3.0, -1.0))
    assert objective.shift == pytest.approx(0.8**5 * 9 + (1 - 0.8**5) * 1)
    for _ in range(60):
        objective = objective.adapted(metrics_of(0.5, 3.0, -1.0))
    assert objective.shift == pytest.approx(1.0, abs=1e-4)


def test_the_shift_does_not_follow_the_more_frequent_kind():
    """Eq. 7 weighs both kinds alike; one mean of all answers would be at 2.6."""
    often_good = BCO(shift_decay=0.0).adapted(metrics_of(0.9, 3.0, -1.0))
    assert often_good.shift == 1.0


def test_a_batch_of_one_kind_or_without_numbers_leaves_the_other_mean_alone():
    """The mean of no answers is logged as 0, which says nothing of the shift."""
    start = BCO(reward_good=2.0, reward_bad=-2.0, shift_decay=0.0)
    all_good, all_bad = (start.adapted(metrics_of(good, 4.0, 5.0)) for good in (1.0, 0.0))
    assert (all_good.reward_good, all_good.reward_bad) == (4.0, -2.0)
    assert (all_bad.reward_good, all_bad.reward_bad) == (2.0, 5.0)
    assert start.adapted(metrics_of(0.5, float("nan"), float("inf"))) == start


def test_the_shift_moves_with_the_loop_and_goes_on_after_a_restart(policy, moved):
    batch = referenced(thumbs(0), policy)

    def loop():
        return OfflineLoop(Learner(moved, make_optimizer(moved, lr=1e-3)), BCO(beta=0.2))

    one = loop()
    first = one.step(0, batch)
    wanted = 0.1 * (first["reward_chosen"] + first["reward_rejected"]) / 2
    assert one.objective.shift == pytest.approx(wanted)
    assert wanted != 0
    two = loop()
    two.load_state_dict(one.state_dict())
    assert two.objective == one.objective


def test_the_right_shift_makes_bco_care_about_differences_and_not_about_levels(policy, moved):
    """Rewards that are all high by the same amount cost as if they were around 0."""
    batch = referenced(thumbs(0), policy)
    lifted = dataclasses.replace(batch, logp_ref=batch.logp_ref - 50.0)
    plain, _ = gradient(moved, BCO(beta=0.1), batch, budget=1000)
    shifted = BCO(beta=0.1, reward_good=5.0, reward_bad=5.0)
    high, _ = gradient(moved, shifted, lifted, budget=1000)
    assert high["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    assert high["accuracy"] == plain["accuracy"]


# ---- the advice on weights


@pytest.mark.parametrize(
    ("good", "bad", "weights"),
    [
        (100, 100, {}),
        (450, 300, {}),
        (100, 1000, {"desirable_weight": 10.0}),
        (900, 100, {"undesirable_weight": 9.0}),
    ],
)
def test_weights_within_the_advice_are_not_warned_about(good, bad, weights):
    assert KTO(**weights).imbalance(good, bad) == ""


@pytest.mark.parametrize(("good", "bad"), [(100, 101), (100, 1000), (451, 300), (3000, 7)])
def test_weights_beside_the_advice_are_and_the_proposed_ones_are_within_it(good, bad):
    said = KTO().imbalance(good, bad)
    name, value = said.split("set ")[1].split("=")
    assert name == ("desirable_weight" if good < bad else "undesirable_weight")
    proposed = KTO(**{name: float(value)})
    ratio = proposed.desirable_weight * good / (proposed.undesirable_weight * bad)
    assert ADVISED[0] * 0.99 <= ratio <= ADVISED[1] * 1.01


@pytest.mark.parametrize(("good", "bad"), [(100.0, 100.0), (150.0, 100.0), (100.0, 150.0)])
def test_kinds_that_are_about_as_many_are_left_alone_by_bco(good, bad):
    assert BCO().imbalance(good, bad) == ""


@pytest.mark.parametrize(("good", "bad", "rare"), [(100.0, 151.0, "good"), (900.0, 100.0, "bad")])
def test_bco_names_the_rare_kind_and_the_weight_that_balances_it(good, bad, rare):
    said = BCO().imbalance(good, bad)
    assert f"repeat the {rare} ones" in said
    weight = float(said.split("weight=")[1])
    assert weight * min(good, bad) == pytest.approx(max(good, bad), rel=1e-2)


def test_answers_of_one_kind_only_are_warned_about():
    assert "5 good and 0 bad" in KTO().imbalance(5, 0)
    assert KTO(undesirable_weight=0.0).imbalance(5, 5)
