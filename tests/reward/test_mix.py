"""Several sources of reward in one: ensembles, and mixes whose terms are bounded and whitened."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import torch

from backflip.data.chat import ChatTemplate
from backflip.recipes.load import load_recipe
from backflip.reward.ensemble import Ensemble
from backflip.reward.mix import Mix
from backflip.reward.protocol import Judgement
from backflip.reward.shaping import Shaped, Shaping
from backflip.stages.rewards.context import RewardContext
from tests.data.tiny import CHATML, byte_tokenizer
from tests.stages.test_rewards import rollouts


def test_an_ensemble_is_the_mean_the_worst_or_the_mean_less_its_variance():
    members = [lambda _, s=s: Judgement(torch.tensor(s)) for s in ([1.0, 4.0], [3.0, 4.0])]
    found = {
        how: Ensemble(members, how, 0.5)(rollouts(2)).scores.tolist()
        for how in ("mean", "worst", "uncertainty")
    }
    assert found == {"mean": [2, 4], "worst": [1, 4], "uncertainty": [1.5, 4]}


def test_a_mix_of_rewards_for_steps_and_for_answers_stands_in_time():
    """A process reward of 1 a token, and twice a score of 3 at the end."""
    steps = Judgement(torch.tensor([2.0]), steps=torch.tensor([[1.0, 1.0]]))
    mix = Mix(
        {"steps": lambda _: steps, "end": lambda _: Judgement(torch.tensor([3.0]))}, [1.0, 2.0]
    )
    judged = mix(rollouts(1))
    assert judged.scores.tolist() == [8.0]
    assert judged.rewards(rollouts(1).mask).tolist() == [[1.0, 7.0]]
    shaped = Shaped(mix, Shaping(clip=5.0), 8)(rollouts(1))
    assert shaped.rewards(rollouts(1).mask).tolist() == [[1.0, 4.0]]


def test_scores_of_a_mix_are_bounded_then_whitened_and_what_has_none_keeps_none():
    """By hand: 9 is cut to 3; (1, 3) has mean 2 and deviation 1; equal scores whiten to 0."""
    far = Judgement(torch.tensor([1.0, 9.0, math.nan]), {"timeout": torch.tensor([0.0, 0.0, 1.0])})
    flat = Judgement(torch.tensor([5.0, 5.0, 5.0]), {"correct": torch.ones(3)})
    both = {"far": lambda _: far, "flat": lambda _: flat}
    mix = Mix(both, [2.0, 1.0], clip=3.0, whiten=True)
    judged = mix(rollouts(3))
    assert judged.scores[:2].tolist() == [-2.0, 2.0]
    assert judged.scores[2].isnan()
    assert judged.parts["far"][:2].tolist() == [1.0, 9.0]
    assert judged.parts["timeout"].tolist() == [0.0, 0.0, 1.0]
    assert judged.parts["correct"].tolist() == [1.0, 1.0, 1.0]


def test_rewards_of_steps_add_up_to_the_bounded_and_whitened_score():
    steps = Judgement(torch.tensor([2.0, 6.0]), steps=torch.tensor([[1.0, 1.0], [2.0, 4.0]]))
    judged = Mix({"steps": lambda _: steps}, [1.0], clip=4.0, whiten=True)(rollouts(2))
    assert judged.scores.tolist() == [-1.0, 1.0]
    assert judged.rewards(rollouts(2).mask).sum(-1).tolist() == [-1.0, 1.0]


def test_a_mix_keeps_its_terms_apart_and_shaping_is_one_more():
    """Scores 2 and 3 of weights 1 and ½; a cut-off answer is worth −1 instead of 3.5."""
    two, three = (Judgement(torch.full((2,), score)) for score in (2.0, 3.0))
    mix, drawn = Mix({"a": lambda _: two, "b": lambda _: three}, [1.0, 0.5]), rollouts(2)
    judged = mix(drawn)
    assert judged.terms is not None
    assert (judged.terms.tolist(), judged.weights) == ([[2, 3], [2, 3]], (1.0, 0.5))
    cut = replace(drawn, finished=torch.tensor([True, False]))
    shaped = Shaped(mix, Shaping(missing_eos=-1.0), limit=9)(cut)
    assert shaped.terms is not None
    assert shaped.terms.tolist() == [[2, 3, 0], [2, 3, -4.5]]
    weighted = (shaped.terms * torch.tensor(shaped.weights)).sum(-1)
    torch.testing.assert_close(weighted, shaped.scores)
    assert shaped.of(torch.tensor([1])).terms.tolist() == [[2, 3, -4.5]]


def test_a_step_that_is_worth_nothing_is_a_step_all_the_same():
    """Where a source says where its steps end; else where a reward is not 0, and at the end."""
    mask, steps = rollouts(1).mask, torch.tensor([[0.0, 1.0]])
    said = Judgement(torch.tensor([1.0]), steps=steps, ends=torch.tensor([[True, True]]))
    assert said.step_ends(mask).tolist() == [[True, True]]
    assert Judgement(torch.tensor([1.0]), steps=steps).step_ends(mask).tolist() == [[False, True]]
    assert Judgement(torch.tensor([0.0])).step_ends(mask).tolist() == [[False, True]]
    mix = Mix({"a": lambda _: said, "b": lambda _: Judgement(torch.tensor([0.0]))}, [1.0, 1.0])
    assert mix(rollouts(1)).step_ends(mask).tolist() == [[True, True]]


def test_of_several_verifiers_the_one_that_asks_for_a_reference_says_what_is_right():
    terms = ["{name: length, most: 9}", "mathematics", "exact"]
    recipe = load_recipe("grpo", ["reward=[" + ", ".join(terms) + "]"])
    said: list[str] = []
    context = SimpleNamespace(
        template=ChatTemplate(byte_tokenizer(CHATML)), say=said.append, recipe=recipe
    )
    mix = recipe.reward.build(RewardContext(context, None, (), None))  # pyright: ignore
    assert mix.verdicts == "mathematics"
    assert said == ["accuracy is by the verdicts of mathematics, one of several verifiers."]
    assert recipe.reward.final("first \\boxed{2}") == "2"
    right, wrong = ({"correct": torch.tensor([x])} for x in (1.0, 0.0))
    given = {"length": right, "mathematics": wrong, "exact": right}
    sources = {n: lambda _, p=p: Judgement(torch.tensor([1.0]), p) for n, p in given.items()}
    judged = replace(mix, sources=sources)(rollouts(1))
    assert judged.parts["correct"].tolist() == [0.0]
