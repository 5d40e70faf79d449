"""Reward models as judges of pairs: what they claim is what their heads say, pair by pair."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from backflip.data.chat import ChatTemplate
from backflip.data.records import Comparison, Message
from backflip.errors import UserError
from backflip.models.heads import RewardModel
from backflip.models.load import load_classifier, load_tokenizer
from backflip.models.save import save_reward_model
from backflip.reward.panel import log_odds
from tests.recipes.tiny import tiny_model


def reward_model(folder: Path, *, seed: int, heads: int = 1) -> str:
    """A random reward model on disk."""
    base = tiny_model(folder / "base")
    torch.manual_seed(seed)
    model = RewardModel(AutoModelForCausalLM.from_pretrained(base), heads=heads)
    torch.nn.init.normal_(model.score.weight)
    save_reward_model(model, load_tokenizer(str(base)), folder)
    return str(folder)


def pair(question: str, first: str, second: str) -> Comparison:
    answers = tuple((Message("assistant", text),) for text in (first, second))
    return Comparison((Message("user", question),), answers, (0, 1))


PAIRS = [
    pair("Which?", "This one, since it is short.", "That."),
    pair("Same?", "Yes", "Yes"),
    pair("Why?", "Because.", "Nobody knows why it came about."),
]


@torch.no_grad()
def naive(name: str, one: Comparison) -> torch.Tensor:
    """[heads] Each answer read by itself, by the classifier of transformers."""
    template, classifier = ChatTemplate(load_tokenizer(name)), load_classifier(name)
    first, second = (
        classifier(torch.tensor([[*prompt, *told]])).logits[0]
        for prompt, told, _ in (template.answer(one.prompt, answer) for answer in one.answers)
    )
    return first - second


def test_claims_are_differences_of_raw_scores_by_every_head(tmp_path: Path):
    models = [
        reward_model(tmp_path / "one", seed=1),
        reward_model(tmp_path / "two", seed=2, heads=2),
    ]
    lines = list[str]()
    found = log_odds(models, PAIRS, told=lines.append)
    assert found.shape == (3, 3)
    for place in (0, 2):
        expected = torch.cat([naive(name, PAIRS[place]) for name in models])
        torch.testing.assert_close(found[:, place], expected, atol=1e-4, rtol=1e-4)
    assert found[:, 1].tolist() == [0, 0, 0]  # equal answers: there is nothing to know
    assert len(lines) == 2


def test_the_other_way_round_the_claims_change_sign(tmp_path: Path):
    name = reward_model(tmp_path / "one", seed=1)
    turned = [Comparison(one.prompt, one.answers[::-1], (0, 1)) for one in PAIRS]
    torch.testing.assert_close(
        log_odds([name], turned), -log_odds([name], PAIRS), atol=1e-5, rtol=1e-4
    )


def test_a_language_model_is_no_judge(tmp_path: Path):
    with pytest.raises(UserError, match="not a reward model"):
        log_odds([str(tiny_model(tmp_path / "base"))], PAIRS)
