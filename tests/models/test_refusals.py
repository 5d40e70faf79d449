"""What cannot work is refused in one line, early; a full disk leaves no litter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    MambaConfig,
)

from backflip.distributed.sharding import shard
from backflip.errors import UserError
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel
from backflip.models.load import load_causal
from backflip.models.save import (
    check_savable,
    load_reward_model,
    save_policy,
    save_reward_model,
)
from tests.models.every_family import tiny_of
from tests.models.families import CONFIGS, SCALED, tiny
from tests.models.test_long_rows import CHANGING
from tests.models.test_saving import disturbed_lora

MAMBA = MambaConfig(vocab_size=61, hidden_size=16, state_size=4, num_hidden_layers=1)


def one_line(error: pytest.ExceptionInfo[UserError]) -> bool:
    return "\n" not in str(error.value)


def test_a_reward_model_is_refused_as_a_language_model(tokenizer, tmp_path):
    save_reward_model(RewardModel(tiny("llama")), tokenizer, tmp_path)
    with pytest.raises(
        UserError, match="LlamaForSequenceClassification: a reward model, not a language model"
    ) as error:
        load_causal(str(tmp_path / "model"))
    assert one_line(error)


@pytest.mark.parametrize("config", [*SCALED.values(), MAMBA], ids=lambda c: c.model_type)
def test_a_family_without_a_classifier_is_refused_before_training(config):
    with pytest.raises(UserError, match=f"{config.model_type} cannot be saved") as error:
        check_savable(config)
    assert one_line(error)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_promised_families_can_be_saved_as_reward_models(family):
    check_savable(CONFIGS[family])
    check_savable(tiny(family))
    check_savable(disturbed_lora(tiny(family)))


def test_a_family_whose_classifier_has_another_head_is_refused_before_training():
    with pytest.raises(UserError, match="bert cannot be saved"):
        check_savable(BertConfig())


def test_a_classifier_without_a_score_is_refused(tmp_path):
    config = BertConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="BertForSequenceClassification, whose head") as error:
        load_reward_model(str(tmp_path))
    assert one_line(error)


@pytest.mark.parametrize(
    "full",
    [
        OSError(28, "No space left on device"),
        SafetensorError("I/O error: No space left on device"),
        Exception("No space left on device (os error 28)"),  # as tokenizers say it
    ],
    ids=["os", "safetensors", "tokenizers"],
)
def test_a_full_disk_is_one_line_and_the_model_before_stays(
    full,
    tokenizer,
    tmp_path,
    monkeypatch,
):
    run, policy = tmp_path / "run", CausalPolicy(tiny("llama"))
    save_policy(policy, tokenizer, run)

    def fail(folder, **_):
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise full

    monkeypatch.setattr(policy.model, "save_pretrained", fail)
    with pytest.raises(
        UserError, match=r"run/model.*No space left.*backflip resume .*run"
    ) as error:
        save_policy(policy, tokenizer, run)
    assert one_line(error)
    assert [path.name for path in run.iterdir()] == ["model"]
    again = AutoModelForCausalLM.from_pretrained(run / "model")
    torch.testing.assert_close(again.lm_head.weight, policy.model.lm_head.weight)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("a bug")], ids=repr)
def test_whatever_ends_the_writing_nothing_is_left_behind(stop, tokenizer, tmp_path, monkeypatch):
    policy = CausalPolicy(tiny("llama"))

    def fail(folder, **_):
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise stop

    monkeypatch.setattr(policy.model, "save_pretrained", fail)
    with pytest.raises(type(stop)):
        save_policy(policy, tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_renamed_leaves_the_one_before(tokenizer, tmp_path, monkeypatch):
    policy, rename = CausalPolicy(tiny("llama")), Path.rename
    save_policy(policy, tokenizer, tmp_path)
    before = sorted(path.name for path in (tmp_path / "model").iterdir())

    def refuse(path, target):
        if path.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        save_policy(policy, tokenizer, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before


@pytest.mark.filterwarnings("ignore:.*prefix forest")
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            lambda: tiny_of("doge", keep_window_size=2048, sliding_window=None),
            "doge is read row by",
        ),
        (lambda: AutoModelForCausalLM.from_config(CHANGING["longrope"]), "phi3 changes its rope"),
        (lambda: AutoModelForCausalLM.from_config(CHANGING["dynamic"]), "llama changes its rope"),
        (lambda: tiny_of("mixtral"), "mixtral is a mixture of experts"),
        (
            lambda: tiny_of("aria_text"),
            "aria_text is a mixture of experts",
        ),  # under a name of its own
    ],
    ids=["alone", "longrope", "dynamic rope", "mixtral", "aria_text"],
)
def test_a_model_that_several_processes_cannot_share_is_refused_by_its_name(model, said):
    """Before anything is cut: there is no process group here."""
    with pytest.raises(UserError, match=f"{said}.* several processes.*Train it in one") as error:
        shard(CausalPolicy(model()), None)
    assert one_line(error)
