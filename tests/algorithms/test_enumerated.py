"""Identities over all answers of a small policy: expectations are sums, so equality is exact."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from backflip.algorithms.online.on_policy_distillation import OnPolicyDistillation
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.online.reinforce import REINFORCE
from backflip.algorithms.online.remax import ReMax
from backflip.algorithms.online.rloo import RLOO
from backflip.algorithms.online.vineppo import VinePPO
from backflip.data.batches import Rollouts, Scored
from backflip.functional.credit import at_end
from backflip.functional.preference_losses import dpo
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.reward.teacher import Teacher
from backflip.training.drawn_values import Greedy, MonteCarlo
from backflip.training.learner import Learner
from backflip.training.online import OnlineLoop
from tests.algorithms.tree import BEGIN, Tree, TreeEngine, every_answer, reward_of

PARAMS = SamplingParams(max_tokens=3)


def a_tree(*, length: int = 3, width: int = 2) -> Tree:
    """Every choice has the chances ¾ and ¼, or ¼ and ¾ after the other token."""
    tree = Tree(length, width)
    with torch.no_grad():
        tree.logits[:, 0] = torch.tensor([0.75, 0.25]).log()
        tree.logits[:, 1] = torch.tensor([0.25, 0.75]).log()
        tree.logits[:, -1] = torch.tensor([0.5, 0.5]).log()
    return tree


WORTH = torch.tensor([[[0.0, 1.0], [5.0, 0.0]], [[2.0, 0.0], [1.0, 3.0]]])
"""Reward of each of the eight answers of the tree."""


def judged(rollouts: Rollouts, scores: torch.Tensor, values: torch.Tensor, **more) -> Scored:
    rewards = at_end(scores, rollouts.mask)
    return Scored(rollouts, rewards, rollouts.logp, rollouts.logp, values, **more)


def test_vineppo_is_ppo_at_lambda_0_with_exact_values():
    """Monte Carlo over continuations in exact proportion gives V of the tree, by hand from below;
    the advantages are V(s′) − V(s), R − V(s) at the end, and their gradient is that of E[R]."""
    tree, worth = a_tree(), reward_of(WORTH)
    engine = TreeEngine(tree, exact=True)
    rollouts = Sampler(engine=engine, params=PARAMS, group_size=32)([[BEGIN]], seed=0)
    scores, engine.asked = worth(rollouts).scores, []
    source = MonteCarlo(engine, PARAMS, worth, answers=16, every=1)
    values = source(tree, rollouts, scores)
    assert [BEGIN] not in engine.asked, "the first state has its group's mean for nothing"
    assert max(map(len, engine.asked)) == 3, "the end has its score for nothing"

    chances = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    two = (WORTH * chances).sum(-1)  # expected after two tokens
    one = (two * chances).sum(-1)
    a, b, _ = torch.stack(list(rollouts.steps.answer.rows())).T
    exact = torch.stack([one.mean().expand(32), one[a], two[a, b]], 1)
    torch.testing.assert_close(values, exact)

    ppo = VinePPO(kl_coef=0.0, whiten_advantages=False)
    batch = judged(rollouts, scores, values, states=source.states(rollouts))
    credit = ppo.credit(batch)
    by_ppo = PPO(lam=0.0, kl_coef=0.0, whiten_advantages=False).credit(batch).advantages
    assert torch.equal(credit.advantages, by_ppo)
    after = torch.cat([exact[:, 1:], scores[:, None]], 1)
    torch.testing.assert_close(credit.advantages, after - exact)
    loss = ppo.loss(tree, credit).losses["policy"]
    (found,) = torch.autograd.grad(loss.total / 32, tree.logits)
    every = every_answer(tree)
    chance = tree.evaluate(every.steps)["logp"].sum(-1).exp()
    (of_reward,) = torch.autograd.grad((chance * worth(every).scores).sum(), tree.logits)
    torch.testing.assert_close(found, -of_reward)


def test_lines_share_their_advantage_and_blanks_belong_to_the_line_before():
    """Token 1 is a new line; values stand before the first token, and after each line that ends."""
    tree, worth = a_tree(), reward_of(WORTH)
    engine = TreeEngine(tree, exact=True)
    source = MonteCarlo(
        engine, PARAMS, worth, answers=16, at="lines", decode=lambda t: "".join("a\n"[i] for i in t)
    )
    rollouts = every_answer(tree)
    states = source.states(rollouts)
    rows = (tuple(row.tolist()) for row in rollouts.steps.answer.rows())
    answers = dict(zip(rows, states.tolist(), strict=True))
    assert answers[0, 0, 0] == answers[0, 0, 1] == answers[0, 1, 1] == [True, False, False]
    assert answers[0, 1, 0] == answers[1, 1, 0] == [True, False, True]
    assert answers[1, 0, 1] == [True, True, False]
    scores = worth(rollouts).scores
    values = source(tree, rollouts, scores)
    ppo = VinePPO(whiten_advantages=False)
    advantages = ppo.credit(judged(rollouts, scores, values, states=states)).advantages
    row = list(answers).index((0, 1, 0))
    after = 0.25 * 5.0 + 0.75 * 0.0  # after 0, 1 the next is 0 with ¼
    expected = torch.tensor([after - scores.mean()] * 2 + [5.0 - after])
    torch.testing.assert_close(advantages[row], expected)


def test_a_greedy_answer_is_drawn_once_for_each_prompt_and_judged_alike():
    """After 0 the likelier token is 0, at first both are alike and 0 is first: 0, 0, 0 scores 7."""
    tree = a_tree()
    engine = TreeEngine(tree)
    sampler = Sampler(engine=engine, params=PARAMS, group_size=4)
    rollouts = sampler([[BEGIN], [BEGIN]], seed=1)
    engine.asked = []
    worth = WORTH.clone()
    worth[0, 0, 0] = 7.0
    source = Greedy(sampler, reward_of(worth))
    values = source(tree, rollouts, torch.zeros(8))
    assert engine.asked == [[BEGIN], [BEGIN]]
    assert (values == 7.0).all()
    assert source.learn(None) == {"greedy_reward": 7.0}
    worth[0, 0, 0] = torch.nan
    assert (source(tree, rollouts, torch.arange(8.0))[:, 0] == torch.arange(8.0)).all()
    assert source.learn(None) == {"greedy_unscored": 1.0}


@pytest.mark.parametrize("name", ["remax", "vineppo"])
def test_they_learn_from_the_answers_that_they_draw_besides(name: str):
    """Of eight answers one scores 5, which a policy that draws evenly earns an eighth of."""
    tree, worth = Tree(3, 2), reward_of(torch.tensor([[[0.0, 0], [5, 0]], [[0, 0], [0, 0]]]))
    engine = TreeEngine(tree)
    sampler = Sampler(engine=engine, params=PARAMS, group_size=8)
    vine, greedy = MonteCarlo(engine, PARAMS, worth, every=1, answers=4), Greedy(sampler, worth)
    loop = OnlineLoop(
        learner=Learner(tree, torch.optim.Adam(tree.parameters(), lr=0.3)),
        reference=Tree(3, 2),
        sampler=sampler,
        reward=worth,
        values=greedy if name == "remax" else vine,
        algorithm=ReMax(kl_coef=0.0) if name == "remax" else VinePPO(),
    )
    earned = [loop.step(step, [[BEGIN], [BEGIN]])["reward"] for step in range(1, 13)]
    assert sum(earned[:2]) / 2 < 2
    assert sum(earned[-2:]) / 2 > 4


def expected_step(algorithm, tree: Tree, reference: Tree, scores: torch.Tensor) -> torch.Tensor:
    """The gradient of the expected loss: all answers once, each weighed by its chance."""
    every = every_answer(tree)
    ref = reference.evaluate(every.steps)["logp"].detach()
    batch = judged(every, scores, torch.zeros_like(every.logp))
    experience = algorithm.credit(dataclasses.replace(batch, logp_ref=ref))
    weight = every.logp.sum(-1, keepdim=True).exp().expand_as(every.logp) * len(every)
    loss = algorithm.loss(tree, dataclasses.replace(experience, weight=weight)).losses["policy"]
    counts = algorithm.counts(experience)["policy"]
    return torch.autograd.grad(loss.total / counts, tree.logits)[0]


def test_reward_under_a_price_of_kl_ends_at_the_reference_tilted_by_it():
    """π* = π_ref·exp(r/β)/Z (Rafailov et al., 2023, eq. 4), reached by REINFORCE's own steps."""
    tree, reference, beta = Tree(1, 3), Tree(1, 3), 0.5
    with torch.no_grad():
        reference.logits[0, -1] = torch.tensor([0.5, 0.3, 0.2]).log()
    scores = torch.tensor([0.0, 1.0, 0.5])
    algorithm = REINFORCE(baseline="none", kl_coef=beta)
    for _ in range(100):
        step = expected_step(algorithm, tree, reference, scores)
        with torch.no_grad():
            tree.logits -= 6.0 * step
    tilted = reference.logits[0, -1].softmax(0) * (scores / beta).exp()
    torch.testing.assert_close(
        tree.logits[0, -1].softmax(0), tilted / tilted.sum(), atol=1e-4, rtol=1e-3
    )


def test_dpo_is_content_with_policies_that_a_price_of_kl_forbids():
    """Xu et al. (2024, theorem 4.1): of answers 1 and 2 people prefer 1, about 3 nobody was asked,
    and the reference never says it. π = (0.1, 0, 0.9) is as good to DPO as (1, 0, 0)."""
    tiny, beta = 1e-9, 0.1
    ref = torch.tensor([0.5, 0.5 - tiny, tiny])
    wanted, strange = torch.tensor([1 - 2e-9, 1e-9, 1e-9]), torch.tensor([0.1, 1e-10, 0.9])

    def told(policy):
        better, worse, _ = policy.log() - ref.log()
        return dpo(better - worse, beta=beta)

    def objective(policy):
        reward = torch.tensor([1.0, 0.0, 0.0])
        return float((policy * (reward - beta * (policy / ref).log())).sum())

    torch.testing.assert_close(told(strange), told(wanted))
    assert told(wanted) < 0.2 < told(ref)
    assert objective(strange) < objective(ref) < objective(wanted)


def test_distillation_descends_the_kl_to_the_teacher():
    """Its gradient is that of KL(π‖teacher), token by token, and a teacher like π pays nothing."""
    tree, teacher = a_tree(length=1), a_tree(length=1)
    with torch.no_grad():
        teacher.logits[0, -1] = torch.tensor([0.9, 0.1]).log()
    every = every_answer(tree)
    said = Teacher(teacher, token_budget=100)(every)
    assert said.steps is not None
    torch.testing.assert_close(said.steps, torch.tensor([[1.8], [0.2]]).log())
    torch.testing.assert_close(said.scores, said.steps.sum(-1))
    assert Teacher(tree, token_budget=100)(every).scores.abs().max() < 1e-6
    step = expected_step(OnPolicyDistillation(), tree, tree, said.scores)
    logp, base = tree.logits[0, -1].log_softmax(0), teacher.logits[0, -1].log_softmax(0)
    (exact,) = torch.autograd.grad((logp.exp() * (logp - base)).sum(), tree.logits)
    torch.testing.assert_close(step, exact)


def test_leave_one_out_is_unbiased():
    """Over all pairs of answers, by their chances, RLOO's gradient is that of E[R]."""
    tree, worth = a_tree(length=2), WORTH[:, :, 0]
    every = every_answer(tree)
    scores, chance = reward_of(worth)(every).scores, every.logp.sum(-1).exp()
    found = torch.zeros_like(tree.logits)
    for i in range(4):
        for j in range(4):
            pair = torch.tensor([i, j])
            batch = judged(every[pair], scores[pair], torch.zeros(2, 2))
            loss = RLOO(kl_coef=0.0).loss(tree, RLOO(kl_coef=0.0).credit(batch)).losses["policy"]
            (one,) = torch.autograd.grad(loss.total / loss.count, tree.logits)
            found += chance[i] * chance[j] * one
    whole = tree.evaluate(every.steps)["logp"].sum(-1).exp()
    (exact,) = torch.autograd.grad((whole * scores).sum(), tree.logits)
    torch.testing.assert_close(found, -exact)
