"""model/ is a plain Hugging Face folder that gives the same numbers without Backflip."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from backflip.errors import UserError
from backflip.models import load
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel
from backflip.models.lora import LoraSettings, add_lora
from backflip.models.save import load_reward_model, save_policy, save_reward_model
from tests.models.families import tiny
from tests.models.test_policy_forest import ragged_steps


def disturbed_lora(model):
    model = add_lora(model, LoraSettings(rank=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gemma3"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_saved_policy_gives_the_same_logits_in_plain_transformers(
    family, lora, tokenizer, tmp_path
):
    model = disturbed_lora(tiny(family)) if lora else tiny(family)
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    expected = model(input_ids=tokens).logits
    save_policy(CausalPolicy(model), tokenizer, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(input_ids=tokens).logits, expected, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "adapter").exists() == lora
    torch.testing.assert_close(model(input_ids=tokens).logits, expected)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_a_saved_reward_model_scores_alike_in_plain_transformers(family, tokenizer, tmp_path):
    reward = RewardModel(disturbed_lora(tiny(family)), heads=2)
    steps = ragged_steps()
    reward.normalise(reward.raw_scores(steps).detach())
    save_reward_model(reward, tokenizer, tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    raw, again = reward.raw_scores(steps), load_reward_model(str(tmp_path / "model"))
    for row in range(len(steps)):
        logits = plain(input_ids=torch.tensor([steps.sequence(row)])).logits[0]
        torch.testing.assert_close(logits, raw[row], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.scores(steps), reward.scores(steps), atol=1e-4, rtol=1e-4)


def test_a_language_model_is_refused_as_a_reward_model(tokenizer, tmp_path):
    save_policy(CausalPolicy(tiny("llama")), tokenizer, tmp_path)
    with pytest.raises(UserError, match="LlamaForCausalLM, not a reward model"):
        load_reward_model(str(tmp_path / "model"))


def test_a_folder_without_a_model_says_what_lies_there(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"no config\.json.*notes\.txt"):
        load.resolve(str(tmp_path))


def test_an_unknown_name_says_what_a_name_looks_like():
    with pytest.raises(UserError, match="owner/name"):
        load.resolve("./nowhere")


def test_a_dead_hub_is_said_to_be_dead(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not load.hub_answers()
    with pytest.raises(UserError, match="the hub cannot be reached"):
        load.load_tokenizer("owner/never-heard-of")
