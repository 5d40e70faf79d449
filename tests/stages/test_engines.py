"""Engines as settings: training whose answers a server writes, and settings that cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import backflip as bf
from backflip.generate.torch.weights import has_bfloat16
from backflip.models.load import load_causal, load_tokenizer
from backflip.monitor.log import read_metrics
from backflip.recipes.load import load_recipe
from tests.generate.vllm import Vllm, serving
from tests.recipes.tiny import questions, tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")


def brevity(answer: str) -> float:
    return -len(answer) / 10


def test_a_policy_learns_from_a_servers_answers_and_the_server_follows(tmp_path: Path):
    """The adapters that the server wrote with last are those that were learnt last."""
    model = str(tiny_model(tmp_path / "model"))
    served = Vllm(load_causal(model), name="policy", tokenizer=load_tokenizer(model))
    with serving(served):
        run = bf.train(
            "grpo",
            model=model,
            data=questions(tmp_path / "prompts.jsonl"),
            reward=brevity,
            engine={"name": "openai", "url": served.url, "adapters": str(tmp_path / "shared")},
            run=str(tmp_path / "run"),
            steps=2,
            best=False,
            threads=1,
            **{
                "prompts_per_step": 3,
                "answers_per_prompt": 3,
                "sampling.max_tokens": 4,
                "validation_prompts": 2,
                "optimizer.lr": 1e-2,
            },
        )
    assert run.summary["steps"] == 2
    gaps = [e.metrics["sampler_gap"] for e in read_metrics(run.folder) if e.step > 0]
    assert len(gaps) == 2
    assert max(gaps) < 1e-4, "the server wrote with other weights than the learner's"
    names = [body["model"] for body in served.asked]
    pushed = list(dict.fromkeys(names))[1:]
    assert names[0] == "policy"
    assert [name.rpartition("-")[2] for name in pushed] == ["1", "2"]
    (last,) = (tmp_path / "shared").iterdir()
    assert last.name == pushed[-1]
    theirs, ours = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (last, tmp_path / "run" / "adapter")
    )
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


@pytest.mark.skipif(not has_bfloat16(), reason="no bfloat16 in this processor")
def test_answers_in_bfloat16_are_weighed_and_that_is_said(tmp_path: Path, capsys):
    """The learner reads them anew: the gap is that of bfloat16, neither 0 nor large."""
    run = bf.train(
        "grpo",
        model=str(tiny_model(tmp_path / "model")),
        data=questions(tmp_path / "prompts.jsonl"),
        reward=brevity,
        run=str(tmp_path / "run"),
        steps=1,
        threads=1,
        validation_prompts=2,
        **{"engine.precision": "bfloat16", "sampling.max_tokens": 6},
    )
    (gap,) = [e.metrics["sampler_gap"] for e in read_metrics(run.folder) if e.step > 0]
    assert 0 < gap < 0.05
    assert capsys.readouterr().out.count("(correction=tis;") == 1


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"name": "openai", "url": "localhost:8000"}, r"engine\.url=localhost:8000 is no address"),
        ({"name": "openai", "key_env": "NO_SUCH_KEY"}, r"engine\.key_env is NO_SUCH_KEY, but"),
        ({"name": "openai", "adapters": "a"}, r"engine\.adapters is set, but all weights learn"),
        ({"name": "openai", "timeout": 0.0}, r"engine\.timeout is 0; it must be above 0"),
        ({"name": "openai", "retries": -1}, r"engine\.retries is -1"),
    ],
)
def test_settings_of_a_server_that_cannot_be_are_refused_before_anything_loads(
    engine: dict, said: str
):
    recipe: Any = load_recipe("grpo", {"model": "m", "reward": "m", "lora": None, "engine": engine})
    (fault,) = recipe.contradictions("", alone=True)
    assert re.search(said, fault)


def test_the_word_alone_names_the_engine():
    recipe: Any = load_recipe("ppo", {"model": "m", "reward_model": "m", "engine": "openai"})
    assert recipe.engine.url == "http://localhost:8000/v1"
