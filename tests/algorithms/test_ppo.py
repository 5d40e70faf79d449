"""PPO on a real (tiny) language model: identities at the start, and that it learns."""

from __future__ import annotations

import copy

import pytest
import torch

from backflip.algorithms.online.one_step_ppo import OneStepPPO
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.online.values import ValueLoss
from backflip.algorithms.sft import SFT
from backflip.data.batches import DemonstrationBatch, Rollouts, Scored, TokenSteps
from backflip.distributed.reading import evaluate_all
from backflip.functional.credit import at_end
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.heads import ValueModel
from backflip.reward.protocol import Judgement
from backflip.training.learner import Learner, Work, make_optimizer
from backflip.training.online import OnlineLoop, PretrainingMix, mean_kl
from backflip.training.values import Critic, SharedValues
from tests.models.families import tiny

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13], [14]]
WANTED = 33


def likes_one_token(rollouts: Rollouts) -> Judgement:
    """The share of WANTED among the tokens of each answer."""
    rows = rollouts.steps.answer.rows()
    return Judgement(torch.tensor([(row == WANTED).float().mean() for row in rows]))


def cast(*, critic: str = "separate", temperature: float = 1.0, **settings):
    """A loop with real parts. Its model is made timid, so that sampling explores."""
    model = tiny("llama")
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)
    policy = CausalPolicy(model, temperature=temperature)
    reference = policy.reference()
    if critic == "shared":
        policy.add_value_head()
        settings = {"vf_coef": 0.1, **settings}
        values = SharedValues(token_budget=256)
    else:
        value_model = ValueModel(tiny("llama", seed=1))
        values = Critic(Learner(value_model, make_optimizer(value_model, lr=1e-2)))
    params = SamplingParams(max_tokens=6, stop_tokens=(2,), temperature=temperature)
    return OnlineLoop(
        learner=Learner(policy, make_optimizer(policy, lr=3e-3), token_budget=64),
        reference=reference,
        sampler=Sampler(engine=TorchEngine(model), params=params, group_size=4),
        reward=likes_one_token,
        values=values,
        algorithm=PPO(**{"epochs": 2, "kl_coef": 0.01, **settings}),
        minibatches=2,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_minibatch_has_ratio_one_and_an_untouched_policy_has_no_kl(temperature):
    """The sampler's log-probabilities are the learner's, temperature included."""
    loop = cast(temperature=temperature, epochs=1)
    rollouts = loop.sampler(PROMPTS, seed=0)
    scored = loop._judged(loop.learner.model, rollouts, likes_one_token(rollouts))
    now = evaluate_all(loop.learner.model, rollouts, {"logp"}, 64)["logp"]
    difference = (now - scored.logp_old)[rollouts.mask]
    assert difference.abs().max() < 1e-4
    assert abs(mean_kl(scored)) < 1e-3
    outcome = PPO().loss(loop.learner.model, PPO().credit(scored))
    assert outcome.metrics["clip_fraction"].mean() == 0
    assert outcome.metrics["approx_kl"].mean() < 1e-7


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_a_tiny_policy_learns_what_is_rewarded(critic):
    loop = cast(critic=critic)
    rewards = []
    for step in range(1, 31):
        loop.step(step, PROMPTS)
        assert loop.last is not None
        rewards.append(float(loop.last.experience.scored.total().mean()))
    assert sum(rewards[-5:]) / 5 > 0.3 + sum(rewards[:5]) / 5


def test_the_leash_holds():
    """A higher price of KL ends nearer to the reference, on the same seeds."""
    ends = []
    for kl_coef in (0.0, 0.5):
        loop = cast(kl_coef=kl_coef)
        kl = [loop.step(step, PROMPTS)["kl"] for step in range(1, 21)]
        ends.append(sum(kl[-5:]) / 5)
    assert ends[1] < 0.5 * ends[0]


@pytest.mark.parametrize("kind", [PPO, OneStepPPO])
def test_adaptive_kl_moves_the_price_towards_its_target(kind):
    algorithm = kind(kl_target=6.0, kl_coef=0.1, kl_horizon=100)
    assert algorithm.adapted({"kl": 12.0, "answers": 10.0}).kl_coef == pytest.approx(0.1 * 1.02)
    assert algorithm.adapted({"kl": 0.0, "answers": 10.0}).kl_coef == pytest.approx(0.1 * 0.98)
    assert kind(kl_coef=0.1).adapted({"kl": 99.0, "answers": 10.0}).kl_coef == 0.1


@pytest.mark.parametrize("kind", [PPO, OneStepPPO])
def test_epochs_end_early_at_the_target(kind):
    loop = cast()
    loop.algorithm = kind(epochs=50, target_kl=1e-3)
    loop.step(1, PROMPTS)
    assert 2 <= loop.learner.steps < 100


def hand_made() -> Scored:
    """Two answers of three and one tokens, with round numbers."""
    steps = TokenSteps.of([[5], [6]], [[7, 8, 9], [10]])
    mask = steps.mask
    logp = torch.full((2, 3), -1.0) * mask
    rollouts = Rollouts(steps, mask, logp, torch.tensor([0, 1]), torch.tensor([True, True]))
    ref = torch.full((2, 3), -2.0) * mask
    values = torch.tensor([[0.5, 9.0, 9.0], [0.25, 0.0, 0.0]])
    return Scored(rollouts, at_end(torch.tensor([2.0, 1.0]), rollouts.mask), logp, ref, values)


def test_one_step_ppo_by_hand():
    """Reward = score − 0.1·KL, advantage = reward − V(prompt), on every token."""
    credit = OneStepPPO(kl_coef=0.1, whiten_advantages=False).credit(hand_made())
    expected = torch.tensor([[1.2, 1.2, 1.2], [0.65, 0.0, 0.0]])
    torch.testing.assert_close(credit.advantages, expected)
    torch.testing.assert_close(credit.returns, torch.tensor([[1.7, 1.7, 1.7], [0.9, 0.0, 0.0]]))


def test_ppo_with_nothing_expected_and_lambda_one_is_reward_to_go():
    scored = hand_made()
    scored = Scored(
        scored.rollouts, scored.rewards, scored.logp_old, scored.logp_ref, torch.zeros(2, 3)
    )
    credit = PPO(kl_coef=0.1, lam=1.0, whiten_advantages=False).credit(scored)
    expected = torch.tensor([[1.7, 1.8, 1.9], [0.9, 0.0, 0.0]])
    torch.testing.assert_close(credit.advantages, expected)
    torch.testing.assert_close(credit.returns, expected)


def test_an_entropy_bonus_raises_entropy():
    ends = []
    for coef in (0.0, 1.0):
        loop = cast(entropy_coef=coef, kl_coef=0.0)
        with torch.no_grad():
            loop.learner.model.model.lm_head.weight.mul_(20)
        loop.sampler.sync(loop.learner.model)
        loop.reward = lambda r: Judgement(torch.zeros(len(r)))
        ends.append([loop.step(step, PROMPTS)["entropy"] for step in range(1, 9)][-1])
    assert ends[1] > ends[0] + 0.05


def test_a_critic_learns_the_return():
    scored = hand_made()
    experience = PPO().credit(scored)
    model = ValueModel(tiny("llama"))
    critic = Learner(model, make_optimizer(model, lr=1e-2))
    for _ in range(150):
        critic.step(Work(ValueLoss(value_eps=100.0), experience))
    mask = scored.rollouts.mask
    values = model.values(scored.rollouts.steps).detach()
    torch.testing.assert_close(values[mask], experience.returns[mask], atol=0.1, rtol=0.1)


def test_the_pretraining_mix_adds_its_gradient_to_the_same_step():
    """InstructGPT's eq. 2: one update on the sum, not two updates."""
    steps = TokenSteps.of([[5, 6]], [[40, 41, 2]])
    data = DemonstrationBatch(steps, steps.mask, torch.ones(1))
    experience = PPO().credit(hand_made())
    gradients = []
    for work in (
        (Work(PPO(), experience),),
        (Work(SFT(coef=3.0), data),),
        (Work(PPO(), experience), Work(SFT(coef=3.0), data)),
    ):
        policy = CausalPolicy(tiny("llama"))
        before = copy.deepcopy(policy.state_dict())
        sgd = torch.optim.SGD(policy.parameters(), lr=1.0)
        Learner(policy, sgd, max_norm=1e9).step(*work)
        gradients.append({k: before[k] - v for k, v in policy.state_dict().items()})
    for name, together in gradients[2].items():
        torch.testing.assert_close(
            together, gradients[0][name] + gradients[1][name], atol=1e-4, rtol=1e-3
        )


def test_the_mix_keeps_a_policy_from_forgetting():
    steps = TokenSteps.of([[5, 6]], [[40, 41, 2]])
    data = DemonstrationBatch(steps, steps.mask, torch.ones(1))
    ends = []
    for mix in (None, [data] * 200):
        loop = cast(kl_coef=0.0)
        if mix:
            loop.beside = PretrainingMix(SFT(coef=1.0), _Endless(data))
        for step in range(1, 11):
            loop.step(step, PROMPTS)
        with torch.no_grad():
            ends.append(SFT().loss(loop.learner.model, data).metrics["loss"].mean())
    assert ends[1] < 0.5 * ends[0]


class _Endless:
    """The same batch for ever."""

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        while True:
            yield self.batch

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
