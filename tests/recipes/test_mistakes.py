"""What a stage finds wrong before it trains, and what it says about data it cannot use."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from backflip.data.sources import write_jsonl
from backflip.errors import Interrupted, UserError
from backflip.generate.engine import SamplingParams
from backflip.models.save import load_reward_model
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.reward.model import score_all
from backflip.stages.context import StageContext
from tests.recipes.tiny import tiny_model

WORDS = ["apples", "pears", "plums", "figs", "dates", "limes", "kiwis", "grapes", "melons", "nuts"]


def rows(path, *, ties=0):
    """A comparison for each word, the first ``ties`` of them undecided."""
    write_jsonl(
        path,
        [
            {
                "prompt": f"Do you like {w}?",
                "chosen": "Yes, please.",
                "rejected": f"No {w}.",
                "tie": i < ties,
            }
            for i, w in enumerate(WORDS)
        ],
    )
    return str(path)


def heard(recipe):
    """(folder, what was said) of a run."""
    out = io.StringIO()
    folder = train(recipe, progress=Progress(Console(file=out, width=1000)))
    return folder, out.getvalue()


def judge(model, data, run, **settings):
    return load_recipe("reward_model", {"model": model, "data": data, "run": str(run), **settings})


# ---- a mistake leaves nothing behind


def test_a_mistake_before_the_first_step_leaves_no_folder_and_can_be_put_right(model, tmp_path):
    data, run = rows(tmp_path / "rows.jsonl"), tmp_path / "run"
    with pytest.raises(UserError, match="no comparison out of"):
        train(judge(model, data, run, **{"data.max_length": 2}))
    assert not run.exists()
    assert train(judge(model, data, run, steps=1)) == run


def test_a_mistake_leaves_alone_what_was_in_the_folder_before(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    recipe = judge(model, rows(tmp_path / "rows.jsonl"), run, **{"data.max_length": 2})
    with pytest.raises(UserError, match="no comparison out of"):
        train(recipe)
    assert [p.name for p in run.iterdir()] == ["notes.txt"]
    (run / "notes.txt").unlink()
    with pytest.raises(UserError, match="no comparison out of"):
        train(recipe)
    assert list(run.iterdir()) == []


@pytest.mark.parametrize(("stage", "left"), [("sft", None), ("reward_model", {"sft"})])
def test_a_mistake_in_a_chain_takes_away_its_own_stage_only(model, tmp_path, stage, left):
    run = tmp_path / "chain"
    settings = {"model": model, "run": str(run), "data": rows(tmp_path / "rows.jsonl")}
    settings |= {"sft.steps": 1, f"{stage}.data.max_length": 2}
    with pytest.raises(UserError, match="is left to learn from"):
        train(load_recipe("rlhf", settings))
    assert run.exists() is (left is not None)
    if left is not None:
        assert {p.name for p in run.iterdir() if p.is_dir()} == left
        assert (run / "recipe.yaml").is_file()


def test_a_run_that_has_taken_a_step_stays_whatever_happens(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise UserError("the disk is full")

    monkeypatch.setattr("backflip.stages.reward_model.save_reward_model", full)
    run = tmp_path / "run"
    with pytest.raises(UserError, match="the disk is full"):
        train(judge(model, rows(tmp_path / "rows.jsonl"), run, steps=1))
    assert (run / "recipe.yaml").is_file()
    monkeypatch.undo()
    assert (resume(run) / "summary.json").is_file()


def test_ctrl_c_while_a_stage_loads_or_saves_names_the_way_back(model, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("backflip.stages.reward_model.save_reward_model", stopped)
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"backflip resume {run}"):
        train(judge(model, rows(tmp_path / "rows.jsonl"), run, steps=1))


def test_a_recipe_that_does_not_say_what_it_is_cannot_be_resumed(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: smollm2\n")
    with pytest.raises(UserError, match=r"recipe.yaml has no `stage:`"):
        resume(tmp_path)


# ---- what cannot be measured or learnt


@pytest.mark.parametrize("where", ["golden", "data.validation"])
def test_data_to_measure_by_without_a_winner_is_refused_before_training(model, tmp_path, where):
    ties = rows(tmp_path / "ties.jsonl", ties=len(WORDS))
    run = tmp_path / "run"
    with pytest.raises(UserError, match=f"{where.split('.')[0]}: .*nothing but ties"):
        train(judge(model, rows(tmp_path / "rows.jsonl"), run, **{where: ties}))
    assert not run.exists(), "a step was taken"


@pytest.mark.parametrize("objective", ["bradley_terry", "plackett_luce"])
def test_nothing_but_ties_is_refused_where_ties_say_nothing(model, tmp_path, objective):
    more = {"objective": objective, "data.validation": rows(tmp_path / "rows.jsonl")}
    ties = rows(tmp_path / "ties.jsonl", ties=len(WORDS))
    with pytest.raises(UserError, match=r"nothing but ties \(10\).*objective=rao_kupper or "):
        train(judge(model, ties, tmp_path / "run", **more))
    more |= {"objective": "davidson", "steps": 1}
    assert train(judge(model, ties, tmp_path / "run", **more)).is_dir()


def test_ties_among_the_rows_are_counted_aloud_where_they_say_nothing(model, tmp_path):
    data = rows(tmp_path / "rows.jsonl", ties=4)
    more = {"data.validation": rows(tmp_path / "held_out.jsonl"), "steps": 1}
    _, said = heard(judge(model, data, tmp_path / "a", **more))
    assert "ties, which say nothing to this objective: 4 of 10 rows" in said
    assert "rao_kupper" in said
    assert "davidson" in said
    _, said = heard(judge(model, data, tmp_path / "b", objective="davidson", **more))
    assert "ties, which say nothing" not in said


def test_a_model_that_could_not_be_saved_is_refused_before_training(model, tmp_path, monkeypatch):
    def refuse(config):
        raise UserError(f"{config.model_type} cannot be saved")

    monkeypatch.setattr("backflip.stages.reward_model.check_savable", refuse)
    with pytest.raises(UserError, match="llama cannot be saved"):
        train(judge(model, rows(tmp_path / "rows.jsonl"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# ---- rows that do not fit, tokens that are not known


def test_held_out_demonstrations_are_held_to_the_same_length(model, tmp_path):
    data, long = rows(tmp_path / "rows.jsonl"), tmp_path / "long.jsonl"
    write_jsonl(
        long,
        [
            {"prompt": "Why?", "completion": "Because."},
            {"prompt": "How?", "completion": "At great length. " * 200},
        ],
    )
    settings = {"data": data, "data.validation": str(long), "data.max_length": 200, "steps": 1}
    _, said = heard(load_recipe("sft", {"model": model, "run": str(tmp_path / "r"), **settings}))
    assert "left out: 1" in said
    assert "longer than 200 tokens" in said


def test_tokens_that_the_tokenizer_does_not_know_are_never_sampled(model, tmp_path):
    """Nor do they reach a reward model whose vocabulary is smaller: half of these are padding."""
    policy = tiny_model(tmp_path / "policy", spare=420)
    more = {"policy": str(policy), "steps": 1}
    assert train(judge(model, rows(tmp_path / "rows.jsonl"), tmp_path / "run", **more)).is_dir()
    context = StageContext.of(judge(model, "demo:comparisons", tmp_path / "x"), print)
    for size, known in ((10_000, len(context.tokenizer)), (7, 7)):
        config = SimpleNamespace(vocab_size=size)
        config.get_text_config = lambda config=config: config
        params = context.sampling(SamplingParams(), SimpleNamespace(config=config))
        assert params.vocab_size == known
        assert params.stop_tokens == context.template.stop_tokens
    mine = context.sampling(SamplingParams(stop_tokens=(5,)), SimpleNamespace(config=config))
    assert mine.stop_tokens == (5,)


# ---- what is said about the data, and where the scale of the scores comes from


def test_prompts_that_are_learnt_from_and_measured_by_are_counted_aloud(model, tmp_path):
    data = rows(tmp_path / "rows.jsonl")
    mixed = [
        {"prompt": "do you like  APPLES?", "completion": "Yes."},
        {"prompt": "Do you like rain?", "completion": "No."},
    ]
    write_jsonl(tmp_path / "held.jsonl", mixed)
    more = {"model": model, "run": str(tmp_path / "run"), "steps": 1}
    more |= {"data": data, "data.validation": str(tmp_path / "held.jsonl")}
    _, said = heard(load_recipe("sft", more))
    assert "held-out rows with a prompt that is also learnt from: 1 of 2" in said
    write_jsonl(tmp_path / "held.jsonl", mixed[1:])
    _, said = heard(load_recipe("sft", more | {"run": str(tmp_path / "other")}))
    assert "also learnt from" not in said


def test_the_scale_is_set_on_the_answers_of_the_model_itself_unless_a_policy_is_named(
    model, tmp_path, monkeypatch
):
    """On all ten prompts, although two at most are held out."""
    scored = list[list[list[int]]]()
    real = score_all

    def listen(model, steps, *more, **settings):
        scored.append([prompt.tolist() for prompt in steps.prompt.rows()])
        return real(model, steps, *more, **settings)

    monkeypatch.setattr("backflip.stages.scale.score_all", listen)
    data = rows(tmp_path / "rows.jsonl")
    run, said = heard(judge(model, data, tmp_path / "run", steps=1, scale_answers=20))
    assert f"answers of {model} (the model this one started from" in said
    assert len({tuple(prompt) for prompt in scored[0]}) == 10
    assert len(scored[0]) == 20
    assert load_reward_model(str(run)).std[0] > 0
    _, said = heard(judge(model, data, tmp_path / "other", steps=1, policy=model))
    assert "started from" not in said
    _, said = heard(judge(model, data, tmp_path / "plain", steps=1, normalise=False))
    assert "setting the scale" not in said


# ---- what is reported


def test_golden_judgements_and_the_second_head_are_reported(model, tmp_path):
    more = {"golden": rows(tmp_path / "golden.jsonl"), "held_out_head": True, "steps": 1}
    run, said = heard(judge(model, rows(tmp_path / "rows.jsonl"), tmp_path / "run", **more))
    summary = json.loads((run / "summary.json").read_text())
    assert summary["golden"]["pairs"] == 10
    assert summary["heldout_head"]["pairs"] == summary["pairs"]
    assert summary["heldout_head"]["log_loss"] != summary["log_loss"]
    assert "golden judgements: Only 10 pairs" in said
    assert "Golden judgements" in (run / "report.html").read_text()


def test_a_report_does_not_fail_when_training_has_diverged(model, tmp_path, monkeypatch):
    def broken(model, steps, *_, **__):
        return torch.full((len(steps), model.heads), float("nan"))

    monkeypatch.setattr("backflip.stages.reward_model.score_all", broken)
    recipe = judge(model, rows(tmp_path / "rows.jsonl"), tmp_path / "run", steps=1)
    run, said = heard(recipe)
    assert "Some scores are not numbers" in said
    assert json.loads((run / "summary.json").read_text())["log_loss"] is None
