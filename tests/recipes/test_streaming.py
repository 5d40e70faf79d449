"""Stages that learn from rows as they come: nothing held out is learnt, nothing grows, resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import backflip as bf
from backflip.data.records import Comparison, Demonstration
from backflip.data.sources import write_jsonl
from backflip.errors import Interrupted, UserError
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.training.offline import OfflineLoop
from tests.data.living import counted

SMALL = {
    "lora": None,
    "batch_size": 4,
    "epochs": 1,
    "threads": 1,
    "sampled_prompts": 0,
    "optimizer.schedule": "constant",
}
REWARD = {k: v for k, v in SMALL.items() if k != "sampled_prompts"} | {"normalise": False}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Comparisons of sixty prompts, each of them twice, the second time at the end of the file."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {"prompt": f"Is {n % 60} even?", "chosen": f"Ask {n}.", "rejected": "No idea."}
        for n in range(120)
    ]
    write_jsonl(path, [*rows, {"prompt": None, "chosen": "a", "rejected": "b"}])
    return str(path)


def streamed(pairs, model, run, **more):
    settings = {"data.streaming": True, "data.shuffle_buffer": 30}
    return {"model": model, "data": pairs, "run": str(run), **settings, **more}


def seen(monkeypatch, *, count=False):
    """Every batch that a step is taken on; with ``count``, how many records lived at that time."""
    taken, alive = [], []
    living = counted(monkeypatch, Demonstration, Comparison) if count else None
    step = OfflineLoop.step

    def noted(self, index, batch):
        taken.append(batch)
        if living:
            alive.append(living())
        return step(self, index, batch)

    monkeypatch.setattr(OfflineLoop, "step", noted)
    return taken, alive


def prompts_of(batch):
    steps = batch.sequences()[0]
    return {tuple(row.tolist()) for row in steps.prompt.rows()}


@pytest.mark.parametrize("name", ["sft", "reward_model", "dpo"])
def test_a_stage_learns_to_the_end_of_the_data_and_never_what_is_held_out(
    name, pairs, model, tmp_path, monkeypatch, capsys
):
    taken, alive = seen(monkeypatch, count=True)
    settings = REWARD if name == "reward_model" else SMALL
    run = bf.train(name, **streamed(pairs, model, tmp_path / "run", **settings))
    said = " ".join(capsys.readouterr().out.split())
    prompts = [prompt for batch in taken for prompt in prompts_of(batch)]
    learnt = sum(len(batch) for batch in taken)
    assert 0 < len(set(prompts)) < 60
    assert learnt == run.summary["rows"] == 2 * len(set(prompts))
    apart = 120 - learnt
    assert f"121 rows read, {learnt} learnt from, {apart} kept apart with their prompts" in said
    assert "shuffled among 30 at a time" in said
    assert "left out: 1 × no prompt: column 'prompt' is null" in said
    # the buffer, the batch, one that goes in while one comes out, and the held-out ones of SFT
    assert max(alive) <= 30 + 4 + 1 + apart
    assert any("val_loss" in row for row in run.metrics)
    assert run.metrics[-1]["step"] == run.summary["steps"] == math.ceil(learnt / 4)
    assert [row["rows_left_out"] for row in run.metrics if "lr" in row][-1] == 1


def test_the_first_loss_of_a_streamed_dpo_is_log_2(pairs, model, tmp_path, monkeypatch):
    """The reference speaks of each batch before its step, and is the policy as it started."""
    run = bf.train("dpo", **streamed(pairs, model, tmp_path / "run", steps=3, **SMALL))
    losses = [row["loss"] for row in run.metrics if "loss" in row]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[2] != pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_a_run_that_was_interrupted_ends_in_the_same_bits(
    name, pairs, model, tmp_path, monkeypatch
):
    more = {**SMALL, "epochs": 2, "checkpoint_every": 3, "eval_every": 20}
    whole = bf.train(name, **streamed(pairs, model, tmp_path / "whole", **more))
    step = OfflineLoop.step

    def breaks(self, index, batch):
        if index == 32:
            raise KeyboardInterrupt
        return step(self, index, batch)

    with monkeypatch.context() as patched:
        patched.setattr(OfflineLoop, "step", breaks)
        with pytest.raises(Interrupted):
            bf.train(name, **streamed(pairs, model, tmp_path / "torn", **more))
    torn = bf.resume(tmp_path / "torn")
    one, other = (load_file(run.model / "model.safetensors") for run in (whole, torn))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert whole.summary["rows"] == torn.summary["rows"]
    assert [row["loss"] for row in whole.metrics if "loss" in row] == [
        row["loss"] for row in torn.metrics if "loss" in row
    ]


def test_where_the_buffer_holds_all_the_same_rows_are_held_out(pairs, model, tmp_path, monkeypatch):
    taken, _ = seen(monkeypatch)
    bf.train(
        "sft", **streamed(pairs, model, tmp_path / "a", **SMALL, **{"data.shuffle_buffer": 500})
    )
    one = set().union(*map(prompts_of, taken))
    taken.clear()
    bf.train("sft", model=model, data=pairs, run=str(tmp_path / "b"), **SMALL)
    assert one == set().union(*map(prompts_of, taken))


def test_prompts_of_a_validation_file_are_kept_apart(pairs, model, tmp_path, monkeypatch):
    taken, _ = seen(monkeypatch)
    rows = [json.loads(line) for line in Path(pairs).read_text().splitlines()]
    write_jsonl(tmp_path / "held.jsonl", rows[3:5])
    more = {"data.validation": str(tmp_path / "held.jsonl")}
    run = bf.train("sft", **streamed(pairs, model, tmp_path / "run", **SMALL, **more))
    assert run.summary["rows"] == 116
    assert len(set().union(*map(prompts_of, taken))) == 58


def test_an_iterable_dataset_is_written_down_and_then_streamed(model, tmp_path, monkeypatch):
    import datasets

    def rows():
        for n in range(80):
            yield {"prompt": f"Is {n} even?", "completion": f"Ask {n}."}

    _, alive = seen(monkeypatch, count=True)
    stream = datasets.IterableDataset.from_generator(rows)
    data = {"source": stream, "streaming": True, "shuffle_buffer": 16}
    run = bf.train("sft", model=model, data=data, run=str(tmp_path / "run"), **SMALL)
    assert len(list((tmp_path / "run").glob("rows-*.jsonl"))) == 1
    assert 60 < run.summary["rows"] < 80
    assert max(alive) <= 16 + 4 + 1 + 16


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("sft", {"optimizer.schedule": "cosine"}, r"steps is null: .* optimizer.schedule=constant"),
        ("ppo", {"reward_model": "none"}, r"data.streaming is true, but this stage draws from all"),
        ("iterative_dpo", {"judge": "self"}, r"data.streaming is true, but rounds draw"),
        ("kto", {"steps": 2}, r"kto pairs each answer with the prompt of another row"),
        ("rlhf", {"sft.steps": 2, "reward_model.steps": 2}, r"ppo.data.streaming is true"),
        ("sft", {"data.source": "feedback:tone@3", "steps": 2}, r"feedback:tone@3 is a project"),
        ("sft", {"data.streaming": False}, r"shuffle_buffer is 30, but data.streaming is false"),
    ],
)
def test_what_cannot_be_streamed_is_refused_by_name(name, given, said, pairs, model, tmp_path):
    settings = streamed(pairs, model, tmp_path / "run") | given
    with pytest.raises(UserError, match=said):
        check_recipe(load_recipe(name, settings))


def test_a_plan_counts_the_first_rows_and_says_so(pairs, model, tmp_path):
    settings = streamed(pairs, model, tmp_path / "run", steps=7)
    (planned,) = load_recipe("sft", settings).plans()
    assert planned.steps == 7
    assert planned.rows + planned.held_out == 30
    assert any("counted on these first rows alone" in line for line in planned.said)


def test_a_check_of_streamed_data_looks_at_the_first_rows_and_says_so(pairs):
    audit = bf.check(pairs, streaming=True, limit=50)
    assert audit.total == 50
    assert "only the first 50 rows were looked at" in audit.said
    assert "only the first" not in bf.check(pairs, streaming=True).said
