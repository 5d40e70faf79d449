"""Sources of reward of which one speaks by a rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from backflip.data.records import Message, Prompt
from backflip.errors import UserError
from backflip.recipes.load import load_recipe
from backflip.reward.protocol import Judgement
from backflip.reward.several import Gate, Lexicographic, MaxMin
from tests.stages.test_rewards import rollouts


def sources(**scores: list[float]) -> dict[str, Any]:
    return {
        name: lambda _, given=given: Judgement(torch.tensor(given))
        for name, given in scores.items()
    }


def test_a_gate_lets_the_guard_speak_of_what_it_finds_bad_and_of_prompts_that_ask():
    """Llama 2's rule by hand: a probability of 0.15 is a logit of log(0.15 / 0.85)."""
    limit = math.log(0.15 / 0.85)
    both = sources(safe=[limit - 1e-4, limit + 1e-4, 3.0, math.nan], good=[5.0, 6.0, 7.0, 8.0])
    judged = Gate(both, limit, whiten=False)(rollouts(4))
    assert judged.scores[:3].tolist() == pytest.approx([limit - 1e-4, 6.0, 7.0], abs=1e-5)
    assert judged.scores[3].isnan(), "without the guard's word there is none"
    assert judged.parts["gated"].tolist() == [1, 0, 0, 1]
    prompts = [Prompt((Message("user", "?"),), info={"risky": said}) for said in "0110"]
    asks = lambda prompt: prompt.info["risky"] == "1"  # noqa: E731
    judged = Gate(both, limit, asks, prompts, whiten=False)(rollouts(4))
    assert judged.parts["gated"].tolist() == [1, 1, 1, 1]
    assert judged.scores[2] == 3.0
    white = Gate(sources(safe=[3.0, 3.0], good=[1.0, 3.0]), limit)(rollouts(2))
    assert white.scores.tolist() == [-1.0, 1.0]


def test_a_later_reward_never_makes_up_for_an_earlier_one():
    """Two floors: every answer that reaches more of them scores higher, whatever else it has."""
    generator = torch.Generator().manual_seed(0)
    drawn = 4 * torch.randn(3, 500, generator=generator)
    given = sources(**{name: drawn[i].tolist() for i, name in enumerate("abc")})
    judged = Lexicographic(given, [0.5, -1.0])(rollouts(500))
    reached = torch.where(drawn[0] < 0.5, 0, torch.where(drawn[1] < -1.0, 1, 2))
    for level in (0, 1):
        below, above = judged.scores[reached == level], judged.scores[reached > level]
        assert below.max() < above.min()
    for level, name in enumerate("abc"):
        own = reached == level
        order = judged.parts[name][own].argsort()
        assert (judged.scores[own][order].diff() >= 0).all()
    assert judged.scores.min() >= 0
    assert judged.scores.max() <= 3


def test_the_group_that_is_worst_off_is_learnt_from():
    judged = MaxMin(sources(many=[1.0, 2.0], few=[3.0, -1.0]))(rollouts(2))
    assert judged.scores.tolist() == [3.0, -1.0]
    assert judged.parts["worst_few"].tolist() == [1, 1]
    assert judged.parts["worst_many"].tolist() == [0, 0]
    none = MaxMin(sources(many=[math.nan, 2.0], few=[math.nan, math.nan]))(rollouts(2))
    assert none.scores[1] == 2.0


def test_rewards_of_steps_are_refused_where_one_speaks_by_a_rule():
    steps = Judgement(torch.tensor([2.0]), steps=torch.tensor([[1.0, 1.0]]))
    with pytest.raises(UserError, match="steps rewards steps within an answer"):
        MaxMin({"steps": lambda _: steps})(rollouts(1))


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("{name: gate, terms: [exact]}", "a gate has two"),
        ("{name: lexicographic, terms: [exact, ifeval], floors: []}", "floors has 0 for 2 terms"),
    ],
)
def test_terms_that_do_not_fit_are_said(reward: str, said: str):
    faults = load_recipe("grpo", [f"reward={reward}"]).faults()
    assert any(said in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("{name: maxmin}", "no terms; give some"),
        ("{name: gate, terms: [exact, ifeval], blow: 1}", "a gate has no setting blow"),
        ("{name: gate, terms: [exact, ifeval], below: low}", "below: .*number"),
    ],
)
def test_what_is_no_such_reward_is_refused(reward: str, said: str):
    with pytest.raises(UserError, match=said):
        load_recipe("grpo", [f"reward={reward}"])


def test_they_are_read_from_a_recipe_and_written_into_it():
    terms = "terms: [exact, {name: length, most: 9}]"
    for word in (f"{{name: gate, {terms}, column: risky}}", f"{{name: maxmin, {terms}}}"):
        recipe = load_recipe("grpo", [f"reward={word}"])
        again = load_recipe("grpo", [f"reward={recipe.model_dump(mode='json')['reward']}"])
        assert again.reward == recipe.reward
