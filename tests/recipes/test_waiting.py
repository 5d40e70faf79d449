"""Every part of a run that may take long says how far it is, and what it says comes to its end."""

from __future__ import annotations

import re

import pytest

from backflip.data.sources import write_jsonl
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe
from backflip.recipes.run import train
from tests.recipes.tiny import tiny_model

STAGES = {
    "sft": {"reading", "applying the template", "tokenising", "loading", "validation", "writing",
            "learning", "saving a checkpoint", "saving model"},
    "reward_model": {"validation", "learning", "writing", "scoring", "saving model"},
    "dpo": {"knowing the reference again", "the reference reads", "writing", "reading answers",
            "learning", "validation", "measuring preferences", "saving model"},
    "ppo": {"loading", "writing", "scoring", "reading answers", "learning", "saving model"},
    "iterative_dpo": {"rounds", "round 1: answering", "writing", "judging", "scoring",
                      "the reference reads", "learning", "saving model"},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, rows of every kind, and a reward model."""
    folder = tmp_path_factory.mktemp("waiting")
    tiny_model(folder / "model")
    pairs = [
        {"prompt": f"Is {n} even?", "chosen": "Yes.", "rejected": f"No {n}"} for n in range(30)
    ]
    write_jsonl(folder / "pairs.jsonl", pairs)
    demos = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    write_jsonl(folder / "demos.jsonl", demos)
    write_jsonl(folder / "prompts.jsonl", [{"prompt": row["prompt"]} for row in pairs])
    return folder


@pytest.fixture(scope="module")
def judge(folder):
    return train(load_recipe("reward_model", settings(folder, "reward_model", "judge")))


def settings(folder, name, run):
    data = {"sft": "demos", "ppo": "prompts", "iterative_dpo": "prompts"}.get(name, "pairs")
    found = {"model": str(folder / "model"), "data": str(folder / f"{data}.jsonl")}
    return found | {"run": str(folder / run), "steps": 1} | MORE.get(name, {})


MORE = {
    "sft": {"sampled_tokens": 4},
    "dpo": {"sampled_tokens": 4, "sampled_prompts": 2},
    "ppo": {"sampling.max_tokens": 4, "validation_prompts": 2, "prompts_per_step": 4},
    "iterative_dpo": {"rounds": 1, "sampling.max_tokens": 4, "filters.cut_off": True},
}


@pytest.mark.parametrize("name", list(STAGES))
def test_every_part_of_a_stage_is_shown_and_counted_to_its_end(name, folder, judge, monkeypatch):
    seen, ended = set(), []
    begin, end = Progress.begin, Progress.end
    monkeypatch.setattr(
        Progress, "begin", lambda s, task: (seen.add(task.label), begin(s, task))[1]
    )
    monkeypatch.setattr(Progress, "end", lambda s, task: (ended.append(task), end(s, task))[1])
    given = settings(folder, name, f"run_{name}")
    if name == "ppo":
        given["reward_model"] = str(judge)
    if name == "iterative_dpo":
        given["judge"] = str(judge)
        del given["steps"]
    with Progress() as progress:
        train(load_recipe(name, given), progress=progress)
    plain = {re.sub(r"^(reading|writing|loading) (?!answers$).*", r"\1", label) for label in seen}
    assert plain >= STAGES[name]
    counted = [task for task in ended if task.total is not None and task.position is None]
    assert {
        task.label: (task.done, task.total) for task in counted if task.done != task.total
    } == {}
