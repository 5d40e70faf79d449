"""Algorithms whose novelty is the advantage: by hand, and by the identities that relate them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from backflip.algorithms.discover import ONLINE
from backflip.algorithms.online.gdpo import GDPO
from backflip.algorithms.online.gpg import GPG
from backflip.algorithms.online.grpo import GRPO
from backflip.algorithms.online.grpo_process import ProcessGRPO
from backflip.algorithms.online.maxrl import MaxRL
from backflip.algorithms.online.opo import OPO
from backflip.algorithms.online.raft_pp import RAFTPP
from backflip.algorithms.online.reinforce import REINFORCE
from backflip.algorithms.online.reinforce_pp import ReinforcePP
from backflip.algorithms.online.reinforce_pp_baseline import ReinforcePPBaseline
from backflip.algorithms.online.remax import ReMax
from backflip.algorithms.online.rloo import RLOO
from backflip.algorithms.online.vapo import VAPO
from backflip.data.batches import Experience, Rollouts, Scored, TokenSteps
from backflip.errors import UserError
from backflip.functional.policy_losses import clipped_surrogate
from backflip.recipes.load import load_recipe
from tests.algorithms.tabular import PROMPTS, table_loop
from tests.algorithms.test_grpo import Fixed, scored

OVER_SIBLINGS = ("rloo", "reinforce_pp_baseline", "grpo", "dr_grpo", "grpo_process", "maxrl", "opo")
OVER_SIBLINGS += ("gpg", "gdpo")
ALONE = ("reinforce", "reinforce_pp", "remax", "raft_pp", "vapo")


def gradient(algorithm: Any, batch: Scored, *, moved: float = 0.0) -> torch.Tensor:
    """Of the loss as the learner divides it, by the log-probability of each token."""
    experience = algorithm.credit(batch)
    model = Fixed(batch.logp_old + moved)
    losses = algorithm.loss(model, experience).losses
    counts = algorithm.counts(experience)
    sum(loss.total / counts[name] for name, loss in losses.items()).backward()
    assert model.logp.grad is not None
    return model.logp.grad


def dense(rewards: list[list[float]], ends: list[list[int]] | None = None, **more: Any) -> Scored:
    """Answers of one prompt, as long as their rewards, whose π is twice as likely as π_ref."""
    steps = TokenSteps.of([[1]] * len(rewards), [[2] * len(row) for row in rewards])
    logp = torch.where(steps.mask, -1.0, 0.0)
    group = torch.zeros(len(rewards), dtype=torch.long)
    rollouts = Rollouts(steps, steps.mask, logp, group, torch.ones(len(rewards)).bool())
    paid = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rewards], batch_first=True)
    if ends is not None:
        more["ends"] = torch.tensor(ends).bool()
    ref = logp - steps.mask * math.log(2)
    return Scored(rollouts, paid, logp, ref, torch.zeros_like(logp), **more)


# ---- identities


def test_on_policy_they_have_one_gradient_at_equal_advantages_and_reduction():
    """GPG, OPO, REINFORCE, and GRPO without its deviation, whose ratio is 1."""
    batch = scored([1, 0, 0, 5], [0] * 4, [2] * 4)
    same = {"reduction": "token_mean", "length": None}
    found = [
        gradient(algorithm, batch)
        for algorithm in (
            REINFORCE(kl_coef=0.0),
            GPG(),
            OPO(**same),
            GRPO(divide_by_std=False, kl_coef=0.0, reduction="token_mean"),
        )
    ]
    assert found[0].abs().max() > 0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_rloo_is_the_centred_score_scaled():
    """On policy, k/(k − 1) times the gradient of REINFORCE over the same group."""
    batch = scored([1, 0, 4], [0] * 3, [1, 2, 4])
    by_answer = REINFORCE(kl_coef=0.0, reduction="constant", length=1)
    torch.testing.assert_close(gradient(RLOO(kl_coef=0.0), batch), 1.5 * gradient(by_answer, batch))


def test_dr_grpo_is_grpo_without_its_normalisers():
    """−(R − m)/(B·L) for every token; GRPO's is that times L, over its deviation and its length."""
    recipe = load_recipe("dr_grpo", ["reward=some/model", "sampling.max_tokens=7"])
    assert recipe.algorithm.length == 7
    for environment, length in (("guessing_game", 8 * 7), ({"name": "calculator", "tokens": 9}, 9)):
        given = {"reward": "exact", "sampling.max_tokens": 7, "environment": environment}
        assert load_recipe("dr_grpo", given).algorithm.length == length
    batch = scored([3, 0, 0], [0] * 3, [1, 2, 4])
    ours = gradient(recipe.algorithm, batch)
    mask = batch.rollouts.mask
    by_hand = -torch.tensor([[2.0], [-1], [-1]]) * mask / (3 * 7)
    torch.testing.assert_close(ours, by_hand)
    grpo = gradient(GRPO(kl_coef=0.0), batch)
    torch.testing.assert_close(grpo * 2**0.5 * mask.sum(-1, keepdim=True), ours * 7)


def test_dr_grpo_is_trls(oracle):
    """Its per-answer advantages of one stored batch, L = 8: TRL's dr_grpo at the clip of 0.2."""
    mask, new, old = (oracle("grpo", name) for name in ("mask", "logp", "old"))
    steps = TokenSteps.of([[1]] * 4, [[2] * int(n) for n in mask.sum(-1)])
    rollouts = Rollouts(steps, mask, old, torch.zeros(4).long(), torch.ones(4).bool())
    s = Scored(rollouts, torch.zeros_like(old), old, old, torch.zeros_like(old))
    advantages = mask * oracle("grpo", "adv")[:, None]
    given = ["reward=some/model", "sampling.max_tokens=8"]
    algorithm = load_recipe("dr_grpo", given).algorithm
    experience = Experience(s, advantages, torch.zeros_like(old))
    loss = algorithm.loss(Fixed(new), experience).losses["policy"]
    ours = loss.total / algorithm.counts(experience)["policy"]
    torch.testing.assert_close(ours.detach(), oracle("grpo/dr_grpo_Lmax8"))


def test_a_longer_batch_changes_nothing_in_dr_grpo():
    """L is the setting, not the width of the batch: two answers beside a longer one."""
    algorithm = load_recipe("dr_grpo", ["reward=some/model"]).algorithm
    short = gradient(algorithm, scored([1, 0], [0, 0], [2, 2]))
    beside = gradient(algorithm, scored([1, 0, 9, 9], [0, 0, 1, 1], [2, 2, 6, 6]))
    torch.testing.assert_close(beside[:2, :2] * 2, short)


def test_rewards_at_the_end_alone_make_the_process_form_the_outcome_form():
    batch = scored([1, 0, 4, 2], [0, 0, 0, 0], [1, 2, 4, 3])
    torch.testing.assert_close(gradient(ProcessGRPO(), batch), gradient(GRPO(), batch))


def test_gdpo_of_one_reward_is_grpo_whitened_over_the_batch():
    batch = scored([1, 0, 0, 5, 5], [0, 0, 0, 1, 1], [1] * 5)
    ours = GDPO().credit(batch).advantages
    grpo = GRPO().credit(batch).advantages
    torch.testing.assert_close(ours, grpo / grpo.std(correction=0))


# ---- by hand


def test_rloo_pays_the_kl_of_the_whole_answer_and_has_its_whole_ratio():
    """Scores 3 and 0 of 2 and 1 tokens, log 2 nats a token at β = 1: 3 − 2·log 2, 0 − log 2."""
    batch = dense([[0.0, 3.0], [0.0]])
    better = 3 - math.log(2)
    advantages = RLOO(kl_coef=1.0).credit(batch).advantages
    torch.testing.assert_close(
        advantages, torch.tensor([[better, better], [-better, 0.0]]), atol=1e-6, rtol=1e-6
    )
    moved = gradient(RLOO(kl_coef=1.0), batch, moved=0.5)
    by_hand = torch.tensor([[-better * math.e] * 2, [better * math.exp(0.5), 0.0]]) / 2
    torch.testing.assert_close(moved, by_hand)


def test_rloo_is_trls_where_trls_clip_does_not_act(oracle):
    """TRL clips the whole answer's ratio, which the paper does not."""
    mask, new, old = (oracle("grpo", name) for name in ("mask", "logp", "old"))
    total, before = (torch.where(mask, x, 0.0).sum(-1) for x in (new, old))
    trl = clipped_surrogate(total, before, oracle("grpo", "adv"))
    torch.testing.assert_close(trl.mean(), oracle("rloo/loss"))
    steps = TokenSteps.of([[1]] * 4, [[2] * int(n) for n in mask.sum(-1)])
    rollouts = Rollouts(steps, mask, old, torch.zeros(4).long(), torch.ones(4).bool())
    s = Scored(rollouts, torch.zeros_like(old), old, old, torch.zeros_like(old))
    credited = RLOO().credit(s)
    credited = type(credited)(s, mask * oracle("grpo", "adv")[:, None], credited.returns)
    ours = RLOO().surrogate({"logp": new}, credited)
    free = clipped_surrogate(total, before, oracle("grpo", "adv"), eps_low=1.0, eps_high=9.0)
    torch.testing.assert_close(torch.where(mask, ours, 0.0).sum(-1), free)


def test_reinforce_pp_takes_off_the_kl_to_come_and_whitens_over_tokens():
    """At β = 1 the three tokens have 3 − 2·log 2, 3 − log 2 and 0 − log 2 before whitening."""
    advantages = ReinforcePP(kl_coef=1.0).credit(dense([[0.0, 3.0], [0.0]])).advantages
    raw = torch.tensor([3 - 2 * math.log(2), 3 - math.log(2), -math.log(2)])
    white = (raw - raw.mean()) / raw.std(correction=0)
    torch.testing.assert_close(advantages, torch.tensor([[white[0], white[1]], [white[2], 0.0]]))


def test_its_baseline_form_has_one_deviation_for_all_prompts():
    """Groups (2, 0) and (20, 0) keep their proportion; a token more weighs in the mean."""
    batch = scored([2, 0, 20, 0], [0, 0, 1, 1], [1, 1, 1, 1])
    advantages = ReinforcePPBaseline().credit(batch).advantages[:, 0]
    torch.testing.assert_close(advantages, torch.tensor([1.0, -1, 10, -10]) / 50.5**0.5)
    longer = scored([2, 0], [0, 0], [3, 1])
    found = ReinforcePPBaseline().credit(longer).advantages
    torch.testing.assert_close(found[:, 0], torch.tensor([0.5, -1.5]) / 0.75**0.5)


def test_remax_expects_the_score_of_the_greedy_answer():
    """A greedy score of 1, and the KL to come taken off: 3 − 2·log 2 − 1 at the first token."""
    batch = dense([[0.0, 3.0], [0.0]])
    greedy = Scored(
        batch.rollouts, batch.rewards, batch.logp_old, batch.logp_ref, batch.rollouts.mask * 1.0
    )
    advantages = ReMax(kl_coef=1.0).credit(greedy).advantages
    by_hand = torch.tensor([[2 - 2 * math.log(2), 2 - math.log(2)], [-1 - math.log(2), 0.0]])
    torch.testing.assert_close(advantages, by_hand)


def test_reinforce_is_whitened_over_the_batch_where_it_is_asked_for():
    """Of rewards 1, 0, 0, 1, 1, 1, 1, 1 of two prompts the mean is 3/4, the deviation √3/4."""
    batch = scored([1, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1], [1] * 8)
    white = REINFORCE(kl_coef=0.0, divide_by_std=True).of_answers(batch)
    high, low = 1 / math.sqrt(3), -math.sqrt(3)
    torch.testing.assert_close(white, torch.tensor([high, low, low] + [high] * 5))
    raw = REINFORCE(kl_coef=0.0, divide_by_std=True, baseline="none").of_answers(batch)
    assert raw.tolist() == pytest.approx([4 / math.sqrt(3), 0, 0] + [4 / math.sqrt(3)] * 5)
    equal = scored([0.1] * 3, [0, 1, 2], [1, 2, 3])
    assert REINFORCE(kl_coef=0.0, divide_by_std=True).of_answers(equal).tolist() == [0, 0, 0]


def test_a_moving_average_expects_what_came_before():
    """First the batch's mean of 2; then 0.9·2 + 0.1·7, with the KL of 3 nats at 1 taken off."""
    algorithm = REINFORCE(baseline="moving", decay=0.9, kl_coef=0.0)
    batch = scored([1, 3], [0, 1], [1, 1])
    assert algorithm.credit(batch).advantages[:, 0].tolist() == [-1, 1]
    first = algorithm.adapted({"reward": 2.0, "kl": 3.0})
    second = first.adapted({"reward": 7.0, "kl": 3.0})
    assert (first.expected, second.expected) == (2.0, pytest.approx(2.5))
    torch.testing.assert_close(second.credit(batch).advantages[:, 0], torch.tensor([-1.5, 0.5]))
    paid = REINFORCE(baseline="moving", kl_coef=1.0).adapted({"reward": 2.0, "kl": 3.0})
    assert paid.expected == -1.0
    assert REINFORCE().adapted({"reward": 2.0, "kl": 3.0}) == REINFORCE()


def test_a_moving_average_goes_on_where_a_run_was_left():
    loop, again = (table_loop(REINFORCE(baseline="moving", kl_coef=0.0)) for _ in range(2))
    first = loop.step(1, PROMPTS)
    again.load_state_dict(loop.state_dict())
    assert again.algorithm == loop.algorithm
    assert again.algorithm.expected == pytest.approx(first["reward"])


def test_steps_of_a_process_are_summed_from_each_token_on():
    """Rewards 1 and 0 of one answer's steps, 0 and 1 of its sibling's: mean and deviation ½."""
    rewards, ends = [[0.0, 1, 0], [0.0, 0, 1]], [[0, 1, 1], [1, 0, 1]]
    advantages = ProcessGRPO().credit(dense(rewards, ends)).advantages
    assert advantages.tolist() == [[0, 0, -1], [0, 1, 1]]


def test_gpg_makes_up_for_groups_that_teach_nothing():
    """Of three groups one differs: α = 3, whatever scores of 1 the others have."""
    batch = scored([1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2], [1] * 6)
    assert GPG().credit(batch).advantages[:, 0].tolist() == [1.5, -1.5, 0, 0, 0, 0]


def test_gdpo_weighs_each_reward_by_the_mix():
    """The first reward tells the first from the second answer, the other the second from it."""
    batch = dense([[1.0], [0.5]], terms=torch.tensor([[9.0, 0.0], [5.0, 1.0]]), weights=(1.0, 0.5))
    torch.testing.assert_close(GDPO().credit(batch).advantages[:, 0], torch.tensor([1.0, -1.0]))
    turned = dense([[1.0], [0.5]], terms=batch.terms, weights=(1.0, 1.5))
    torch.testing.assert_close(GDPO().credit(turned).advantages[:, 0], torch.tensor([-1.0, 1.0]))


def test_raft_learns_from_right_answers_alone_and_divides_by_them():
    """Two right answers of one and two tokens; twenty wrong ones beside them change nothing."""
    found = gradient(RAFTPP(), scored([1, 1, 0], [0] * 3, [1, 2, 2]))
    torch.testing.assert_close(found, torch.tensor([[-0.5, 0], [-0.25, -0.25], [0, 0]]))
    more = gradient(RAFTPP(), scored([1, 1] + [0] * 20, [0] * 22, [1] + [2] * 21))
    torch.testing.assert_close(more[:2], found[:2])
    far = gradient(RAFTPP(), scored([1, 0], [0, 0], [1, 1]), moved=0.3)
    assert far.tolist() == [[0], [0]], "a ratio beyond 1.2 gains nothing"


def test_vapo_teaches_its_critic_returns_and_its_policy_lambda_by_length():
    """α·n = 2 for four tokens: λ = ½; the critic's targets are the score of 8 itself."""
    batch = dense([[0.0, 0.0, 0.0, 8.0]])
    batch = Scored(
        batch.rollouts, batch.rewards, batch.logp_old, batch.logp_ref, torch.full((1, 4), 4.0)
    )
    experience = VAPO(alpha=0.5, whiten_advantages=False).credit(batch)
    assert experience.advantages.tolist() == [[0.5, 1, 2, 4]]
    assert experience.returns.tolist() == [[8, 8, 8, 8]]


def test_vapo_adds_the_likelihood_of_right_answers_over_their_own_tokens():
    """μ·(−1/3) on each of the three tokens of the right answer, beside a policy gradient of 0."""
    batch = scored([1, 0], [0, 1], [3, 2])
    with_nll, without = (
        gradient(VAPO(nll_coef=mu, alpha=0.9, kl_coef=0.0), batch) for mu in (0.1, 0.0)
    )
    expected = torch.tensor([[-0.1 / 3] * 3, [0.0] * 3])
    torch.testing.assert_close(with_nll - without, expected)


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_scores_that_are_all_the_same_teach_nothing_but_imitation(name: str):
    """RAFT++ and VAPO's likelihood imitate right answers; here none is right."""
    settings: dict[str, Any] = {"kl_coef": 0.0}
    batch = scored([0.0] * 4, [0, 0, 1, 1], [1, 2, 3, 3])
    advantages = ONLINE[name](**settings).credit(batch).advantages
    assert (advantages == 0).all()


# ---- refused


@pytest.mark.parametrize("name", OVER_SIBLINGS)
def test_an_answer_without_siblings_is_refused(name: str):
    (fault,) = load_recipe(name, ["reward=some/model", "answers_per_prompt=1"]).faults()
    assert "answers_per_prompt=8" in fault


@pytest.mark.parametrize("name", ALONE)
def test_one_answer_to_a_prompt_is_enough_for_the_others(name: str):
    assert not list(load_recipe(name, ["reward=some/model", "answers_per_prompt=1"]).faults())


@pytest.mark.parametrize("setting", ["algorithm.epochs=2", "minibatches=2"])
@pytest.mark.parametrize("name", ["reinforce", "remax", "maxrl", "opo", "gpg"])
def test_without_a_ratio_only_one_step_is_allowed(name: str, setting: str):
    (fault,) = load_recipe(name, ["reward=some/model", setting]).faults()
    assert "has no ratio" in fault


def test_maxrl_refuses_negative_scores():
    with pytest.raises(UserError, match=r"1 of 2 scores are negative, the lowest -1"):
        MaxRL().credit(scored([1, -1], [0, 0], [1, 1]))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("shaping.missing_eos=-0.5", "shaping.missing_eos is -0.5"),
        ("shaping.length_penalty=0.1", "shaping.length_penalty is 0.1"),
        ("shaping.overlong_buffer=4", "shaping.overlong_buffer is 4"),
        ("reward={name: exact, incorrect: -1}", "reward.incorrect is -1"),
        ("reward={name: mix, terms: [exact, {name: format, unparsable: -2}], weights: [1, 1]}",
         "reward.terms.1.unparsable is -2"),
        ("reward={name: mix, terms: [exact, format], weights: [1, -1]}", "reward.weights is"),
    ],
)  # fmt: skip
def test_settings_that_make_negative_scores_are_refused_before_maxrl_loads_anything(setting, said):
    assert not list(load_recipe("maxrl", ["reward=exact"]).faults())
    (fault,) = load_recipe("maxrl", ["reward=exact", setting]).faults()
    assert said in fault
    assert "Score from 0 up" in fault
    assert not list(load_recipe("grpo", ["reward=exact", setting]).faults())


@pytest.mark.parametrize("kind", [GDPO, ProcessGRPO, RAFTPP, MaxRL])
def test_a_kl_that_would_be_lost_in_the_normalising_is_refused(kind: Any):
    with pytest.raises(UserError, match="kl_in=loss"):
        kind(kl_in="reward", kl_kind="k1")


@pytest.mark.parametrize(("name", "values"), [("remax", "critic"), ("ppo", "greedy")])
def test_values_that_an_algorithm_does_not_learn_with_are_refused(name: str, values: str):
    (fault,) = load_recipe(name, ["reward=some/model", f"values={values}"]).faults()
    assert f"values is {values}" in fault


def test_a_score_of_the_whole_answer_is_no_teacher():
    (fault,) = load_recipe("on_policy_distillation", {"reward": "some/model"}).faults()
    assert "learns from a reward of each token" in fault
    teacher = {"name": "teacher", "model": "some/model"}
    assert not list(load_recipe("on_policy_distillation", {"reward": teacher}).faults())


def test_continuations_do_not_follow_a_temperature_that_moves():
    given = ["reward=some/model", "curriculum.temperature_end=0.5"]
    (fault,) = load_recipe("vineppo", given).faults()
    assert "temperature_end" in fault
    assert not list(load_recipe("remax", given).faults())


def test_a_critic_alone_can_learn_before_the_policy():
    given = ["reward=some/model", "values=monte_carlo", "algorithm.value_steps=5"]
    (fault,) = load_recipe("ppo", given).faults()
    assert "value_steps is 5" in fault
    (fault,) = load_recipe("vapo", ["reward=some/model", "steps=10"]).faults()
    assert "the policy never" in fault
    assert not list(load_recipe("vapo", ["reward=some/model", "steps=11"]).faults())
