"""Runs on a frozen base in 4 bits: they go on after a cut, and others read what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from backflip.data.sources import write_jsonl
from backflip.distributed.gang import Gang
from backflip.distributed.world import settled
from backflip.errors import Interrupted, UserError
from backflip.models.quantized import installed
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.stages.base import Recipe
from backflip.training.checkpoints import CheckpointStore
from tests.recipes.tiny import tiny_model

needs_bitsandbytes = pytest.mark.skipif(not installed(), reason="pip install 'backflip[quantized]'")
REWARD = "def even(prompt, answer):\n    return float(len(answer) % 2)\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows of 64 numbers: the library's own layers read shorter ones wrongly on a CPU."""
    folder = tiny_model(tmp_path_factory.mktemp("wide"))
    config = AutoConfig.from_pretrained(folder)
    config.hidden_size, config.intermediate_size = 64, 128
    config.head_dim = 16
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def recipe(kind: str, model: str, prompts: str, folder: Path, name: str) -> Recipe:
    """Four steps of DPO or GRPO with a checkpoint after each."""
    more: dict[str, Any] = {"model": model, "run": str(folder / name), "quantization": "nf4"}
    more |= {"steps": 4, "checkpoint_every": 1, "optimizer.lr": 1e-2}
    if kind == "dpo":
        rows = [{"prompt": f"Is {n} odd?", "chosen": "yes", "rejected": "no"} for n in range(24)]
        write_jsonl(folder / "rows.jsonl", rows)
        return load_recipe(
            "dpo",
            more
            | {
                "data": str(folder / "rows.jsonl"),
                "sampled_prompts": 0,
                "optimizer.state_bits": 8,
                "reference_cache": False,
            },
        )
    (folder / "judge.py").write_text(REWARD)
    return load_recipe(
        "grpo",
        more
        | {
            "data": prompts,
            "reward": f"{folder / 'judge.py'}:even",
            "prompts_per_step": 4,
            "answers_per_prompt": 4,
            "sampling": {"max_tokens": 4},
            "validation_prompts": 4,
            "best": False,
            "shaping.missing_eos": None,
        },
    )


def cut(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_a_run_goes_on_to_the_same_bits_and_is_read_by_plain_transformers(
    kind: str, model: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    whole = train(recipe(kind, model, prompts, tmp_path, "whole"))
    assert "are held in nf4" in capsys.readouterr().out
    broken = recipe(kind, model, prompts, tmp_path, "broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backflip.training.learner.Learner._update", _cut_at_the_third())
        with pytest.raises(Interrupted):
            train(broken)
    resume(broken.run)
    ends = [CheckpointStore(run / "checkpoints").latest() for run in (whole, broken.run)]
    one, other = (end.weights("policy") for end in ends if end is not None)
    assert all("lora_" in name for name in one), "the frozen base is not written at each checkpoint"
    assert all(torch.equal(one[name], other[name]) for name in one)
    _read_elsewhere(whole, model)


def _cut_at_the_third() -> Any:
    from backflip.training.learner import Learner

    update, done = Learner._update, []

    def third(self: Any, *given: Any) -> None:
        done.append(given)
        if len(done) == 3:
            raise KeyboardInterrupt
        update(self, *given)

    return third


@torch.no_grad()
def _read_elsewhere(run: Path, model: str) -> None:
    """``adapter/`` on the base in nf4, by peft, says what ``model/`` says, alone."""
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    ids = torch.tensor([tokenizer.encode("Is 7 odd?")])
    merged = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    base = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, quantization_config=packed
    )
    adapted = PeftModel.from_pretrained(base, str(run / "adapter")).train()
    moved = load_file(run / "adapter" / "adapter_model.safetensors")
    assert any(bool(weight.any()) for name, weight in moved.items() if "lora_B" in name)
    assert "quantization_config" not in json.loads((run / "model" / "config.json").read_text())
    assert float((merged(ids).logits - adapted(ids).logits).abs().max()) < 1e-3


# ---- what does not go together is said before anything is loaded


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        ("sft", {"quantization": "nf4", "lora": None}, "weights in few bits do not learn"),
        ("dpo", {"reference_device": "cpu"}, "the policy without its adapters, which takes no"),
        ("tr_dpo", {"reference_device": "cpu", "lora": None}, "moves with the weights that learn"),
        (
            "dpo",
            {"reference_device": "cpu", "lora": None, "sampled_prompts": 0},
            "no reference stays in memory",
        ),
        ("ppo", {"reference_device": "cpu", "reward_model": "x/y"}, "reference_device out"),
    ],
)
def test_settings_that_save_no_memory_or_cannot_be_are_refused(name, settings, found):
    said = list(load_recipe(name, settings).faults())
    assert [line for line in said if found in line], said


def test_few_bits_without_their_package_are_refused_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr("backflip.stages.memory.installed", lambda: False)
    settings = {"quantization": "int8", "values.optimizer.state_bits": 8, "reward_model": "x/y"}
    said = "\n".join(load_recipe("ppo", settings).faults())
    assert "quantization=int8 needs bitsandbytes" in said
    assert "values.optimizer.state_bits=8 needs bitsandbytes" in said
    assert "pip install 'backflip[quantized]'" in said
    assert "bitsandbytes" not in "".join(load_recipe("ppo", {"reward_model": "x/y"}).faults())


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("context_parallel_size", 2, "Parallelism of the context is not supported"),
        ("optimizer.fp8", True, "FP8 is not supported"),
        ("precision", "fp8", "fp8"),
        ("load_in_4bit", True, "quantization=nf4"),
    ],
)
def test_what_other_programs_call_it_is_answered_by_name(key: str, value: Any, found: str):
    with pytest.raises(UserError, match=found):
        load_recipe("sft", {key: value})


def test_all_weights_may_learn_beside_a_reference_in_cpu_memory(
    model: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Its numbers are those of a reference that lies beside the policy."""
    ends = []
    for place in ("same", "cpu"):
        (tmp_path / place).mkdir()
        given = recipe("grpo", model, prompts, tmp_path / place, "run")
        more = {"quantization": None, "lora": None, "reference_device": place, "steps": 2}
        run = train(given.model_copy(update=more))
        ends.append([json.loads(line)["metrics"] for line in (run / "metrics.jsonl").open()])
    assert "reference_device=cpu changes nothing here" in capsys.readouterr().out
    kept = [[row.get("kl") for row in end] for end in ends]
    assert kept[0] == kept[1]


@needs_bitsandbytes
def test_a_base_that_is_stored_in_4_bits_asks_for_the_setting(
    model: str, prompts: str, tmp_path: Path
):
    from backflip.models.load import load_causal

    packed = tmp_path / "packed"
    load_causal(model, quantization="nf4").save_pretrained(packed)
    AutoTokenizer.from_pretrained(model).save_pretrained(packed)
    given = recipe("dpo", str(packed), prompts, tmp_path, "run")
    with pytest.raises(
        UserError, match=r"stored in nf4, which does not learn. Set quantization=nf4"
    ):
        train(given.model_copy(update={"quantization": None}))


@pytest.mark.parametrize(
    ("name", "setting", "more"),
    [
        ("dpo", "quantization=nf4", []),
        ("sft", "optimizer.state_bits=8", []),
        ("ppo", "values.optimizer.state_bits=8", []),
        ("grpo", "reference_device=cpu", ["lora=null"]),
    ],
)
def test_what_several_processes_cannot_have_is_refused_by_its_setting(name, setting, more):
    recipe = load_recipe(name, ["model=smollm2", setting, *more])
    refused = f"{setting} is not supported by several processes"
    assert not [fault for fault in recipe.faults() if "several processes" in fault]
    with settled(Gang(1, 2, 0.0, None)):
        (fault,) = [fault for fault in recipe.faults() if "several processes" in fault]
    assert fault.startswith(refused)
