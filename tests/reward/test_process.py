"""A process reward model as a reward: where rewards stand, what they sum to, and who learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import backflip as bf
from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.sources import write_jsonl
from backflip.models.heads import RewardModel
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.process import ProcessModel
from backflip.reward.process import ProcessReward
from tests.recipes.tiny import questions, tiny_model

TEXTS = ("one\ntwo\nthree", "one\ntw", "on")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process")
    model = str(tiny_model(folder / "tiny"))
    steps = [{"prompt": f"{n}?", "steps": ["a", "b"], "labels": [True, False]} for n in range(20)]
    write_jsonl(folder / "steps.jsonl", steps)
    bf.train(
        "process_reward_model",
        model=model,
        data=str(folder / "steps.jsonl"),
        run=str(folder / "prm"),
        steps=2,
    )
    return folder


def judged(place: Path, form: Any) -> tuple[Rollouts, Any, Any]:
    """Three answers: one that ends, one cut off in its second step, one in its first."""
    torch.manual_seed(0)
    chat = ChatTemplate(load_tokenizer(str(place / "tiny")))
    model = ProcessModel(RewardModel(load_causal(str(place / "tiny"))))
    torch.nn.init.normal_(model.model.score.weight)
    answers = [chat.tokenizer(text)["input_ids"] for text in TEXTS]
    answers[0] += [chat.turn_end]
    steps = TokenSteps.of([[5, 6]] * 3, answers)
    rollouts = Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=torch.zeros(steps.mask.shape),
        group=torch.tensor([0, 0, 0]),
        finished=torch.tensor([True, False, False]),
    )
    return rollouts, ProcessReward(model=model, template=chat, form=form)(rollouts), model


def test_rewards_stand_where_steps_end_and_sum_to_the_score(place: Path):
    rollouts, said, model = judged(place, "score")
    chat = ChatTemplate(load_tokenizer(str(place / "tiny")))
    tokens = rollouts.steps.answer.row(0).tolist()
    texts = [chat.tokenizer.decode(tokens[: at + 1]) for at in said.ends[0].nonzero()[:, 0]]
    assert texts == ["one\n", "one\ntwo\n", "one\ntwo\nthree<|im_end|>"]
    assert said.ends.sum(-1).tolist() == [3, 2, 1]
    torch.testing.assert_close(said.steps.sum(-1), said.scores)
    assert torch.equal(said.ends, said.steps != 0)
    (good,) = model.estimates(rollouts.steps[:1], [said.ends[0].nonzero()[:, 0].tolist()])
    torch.testing.assert_close(said.steps[0][said.ends[0]], torch.tensor(good))


def test_gains_sum_to_the_last_estimate_and_means_to_their_mean(place: Path):
    """So that writing more steps is not paid for by itself."""
    scores = judged(place, "score")[1].steps[0]
    good = scores[scores != 0]
    assert float(judged(place, "gain")[1].scores[0]) == pytest.approx(float(good[-1]))
    assert float(judged(place, "mean")[1].scores[0]) == pytest.approx(float(good.mean()))


@pytest.mark.parametrize("recipe", ["grpo_process", "ppo"])
def test_policies_learn_from_rewards_of_steps(recipe: str, place: Path, tmp_path: Path):
    run = bf.train(
        recipe,
        model=str(place / "tiny"),
        reward={"name": "process", "model": str(place / "prm"), "form": "gain"},
        data=questions(tmp_path / "prompts.jsonl"),
        run=str(tmp_path / "run"),
        steps=2,
        prompts_per_step=2,
        answers_per_prompt=2,
        validation_prompts=2,
        sampling={"max_tokens": 24},
    )
    assert any("reward_weakest" in row or "weakest" in row for row in run.metrics)


def test_step_dpo_is_dpo_on_the_step_in_which_they_differ():
    """The steps before it, which both answers share, take no part in the loss or its gradient."""
    from backflip.functional.preference_losses import dpo

    prefix = torch.tensor([-3.0], requires_grad=True)
    chosen, rejected = torch.tensor([-1.0]), torch.tensor([-2.0])
    whole = dpo(prefix + chosen - (prefix + rejected), beta=0.4)
    torch.testing.assert_close(whole, dpo(chosen - rejected, beta=0.4))
    whole.sum().backward()
    assert prefix.grad is not None
    assert float(prefix.grad) == 0


def test_step_dpo_trains_on_labelled_steps(place: Path, tmp_path: Path):
    run = bf.train(
        "step_dpo", model=str(place / "tiny"), run=str(tmp_path / "run"), steps=2, sampled_prompts=0
    )
    assert run.summary["steps"] == 2
