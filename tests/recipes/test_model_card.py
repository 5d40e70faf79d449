"""What a run leaves for others: a card whose lines run, in the precision of the base."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from backflip.api import train
from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.records import Message
from backflip.data.sources import write_jsonl
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.save import load_reward_model

FIXED = {"steps": 1, "batch_size": 4, "checkpoint_every": 1000}


def pairs(folder: Path) -> str:
    rows = [{"prompt": f"Say {n}", "chosen": "yes, please", "rejected": "no"} for n in range(12)]
    write_jsonl(folder / "pairs.jsonl", rows)
    return str(folder / "pairs.jsonl")


def turns(folder: Path) -> str:
    write_jsonl(
        folder / "turns.jsonl", [{"prompt": f"Say {n}", "completion": "yes"} for n in "abcd"]
    )
    return str(folder / "turns.jsonl")


def code_of(card: Path) -> str:
    found = re.search(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found.group(1)


def printed_apart(code: str) -> str:
    """Run as a reader runs it: in a process of its own that has not seen Backflip."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def printed(code: str) -> str:
    """The same in this process, which takes less time."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    return out.getvalue().strip()


def front_matter(card: Path) -> dict[str, object]:
    return yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])


def test_the_lines_of_a_language_model_generate(model, tmp_path):
    run = train("sft", model=model, data=turns(tmp_path), run=tmp_path / "run", **FIXED)
    assert run.summary["steps"] == 1
    card = run.model / "README.md"
    assert "backflip" not in code_of(card)
    assert code_of(run.folder / "README.md") == code_of(card)
    printed(code_of(card))
    assert front_matter(card)["pipeline_tag"] == "text-generation"


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_lines_of_a_reward_model_print_its_score(model, tmp_path, pooling):
    data = {"source": pairs(tmp_path), "held_out": 0.2}
    run = tmp_path / "run"
    train("reward_model", model=model, data=data, run=run, pooling=pooling, **FIXED)
    card = run / "model" / "README.md"
    template = ChatTemplate(load_tokenizer(str(run)))
    prompt, answer, _ = template.answer(
        [Message("user", "Name a cat.")], [Message("assistant", "Molly.")]
    )
    expected = load_reward_model(str(run)).scores(TokenSteps.of([prompt], [answer]))[0, 0]
    run_code = printed_apart if pooling == "last" else printed
    numbers = [float(number) for number in run_code(code_of(card)).split()]
    assert numbers[-1] == pytest.approx(expected.item(), abs=1e-3)
    assert ("gives another number" in card.read_text()) == (pooling == "mean")
    assert str(tmp_path) not in card.read_text().replace(code_of(card), "")
    assert front_matter(card)["pipeline_tag"] == "text-classification"


def test_a_readme_that_lies_in_the_folder_of_a_run_is_left_alone(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "README.md").write_text("mine")
    train("sft", model=model, data=turns(tmp_path), run=run, **FIXED)
    assert (run / "README.md").read_text() == "mine"
    assert (run / "model" / "README.md").is_file()


def test_plain_transformers_stops_where_the_run_stops(model, tmp_path):
    """The end of turn is not the end of text here, so that one alone would not do."""
    base = tmp_path / "base"
    shutil.copytree(model, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = tokenizer.pad_token = "</s>"
    tokenizer.save_pretrained(base)
    settings = {"steps": 40, "batch_size": 4, "lora": None, "optimizer": {"lr": 2e-2}}
    data = {"source": turns(tmp_path), "held_out": 0}
    run = train("sft", model=str(base), data=data, run=tmp_path / "run", **settings)
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    plain = AutoModelForCausalLM.from_pretrained(run.model)
    talk = [{"role": "user", "content": "Say a"}]
    tokens = tokenizer.apply_chat_template(
        talk, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = plain.generate(**tokens, do_sample=False, max_new_tokens=20)[0]
    assert tokenizer.decode(out[tokens["input_ids"].shape[1] :]) == "yes<|im_end|>"


def types_in(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("stage", "saved", "expected"),
    [
        ("sft", "float32", "float32"),
        ("reward_model", "base", "bfloat16"),
        ("dpo", "base", "bfloat16"),
    ],
)
def test_weights_come_back_in_the_precision_of_the_base(
    model, tmp_path, capsys, stage, saved, expected, lora
):
    base = tmp_path / "base"
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    plain.save_pretrained(base)
    AutoTokenizer.from_pretrained(model).save_pretrained(base)
    data = turns(tmp_path) if stage == "sft" else pairs(tmp_path)
    settings = FIXED | {"precision": "float32", "lora": lora, "saved_precision": saved}
    run = train(stage, model=str(base), data=data, run=tmp_path / "run", **settings)
    assert types_in(run.model) == {f"torch.{expected}"}
    assert json.loads((run.model / "config.json").read_text())["dtype"] == expected
    said = capsys.readouterr().out.count("weights are saved in bfloat16")
    assert said == (saved == "base")


def test_a_base_in_bfloat16_is_saved_as_what_was_learnt_rounded_once(model, tmp_path):
    """Against the same run that keeps float32."""
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(base)
    AutoTokenizer.from_pretrained(model).save_pretrained(base)
    for saved in ("base", "float32"):
        settings = FIXED | {"precision": "float32", "lora": None, "saved_precision": saved}
        train(
            "sft", model=str(base), data=turns(tmp_path), run=tmp_path / f"run_{saved}", **settings
        )
    rounded, exact = (
        load_causal(str(tmp_path / f"run_{saved}"), precision="float32").state_dict()
        for saved in ("base", "float32")
    )
    for name, value in exact.items():
        assert torch.equal(rounded[name], value.bfloat16().float()), name
