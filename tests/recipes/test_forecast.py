from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.models.heads import RewardModel
from backflip.models.lora import LoraSettings, add_lora
from backflip.monitor.log import MetricsLog
from backflip.recipes import forecast as forecasting
from backflip.recipes.forecast import forecast, price_in
from backflip.recipes.load import load_recipe


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve comparisons, and one that cannot be used."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    good = [
        {"prompt": f"Question {i}?", "chosen": "A long good answer.", "rejected": "No."}
        for i in range(12)
    ]
    write_jsonl(path, [*good, {"prompt": "Really?", "chosen": "Yes.", "rejected": ""}])
    return str(path)


def recipe(name: str, model: str, rows: str, *settings: str) -> Any:
    return load_recipe(name, [f"model={model}", f"data={rows}", "data.held_out=0.2", *settings])


def test_parameters_are_those_of_the_model_that_will_be_built(model: str, rows: str):
    torch.manual_seed(0)
    adapted = add_lora(AutoModelForCausalLM.from_pretrained(model), LoraSettings(rank=16))
    built = RewardModel(adapted, heads=2)
    (planned,) = recipe("reward_model", model, rows).plans()
    assert planned.parameters == sum(p.numel() for p in built.parameters())
    trainable = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert planned.trainable == trainable


def test_without_adapters_everything_is_trained(model: str, rows: str):
    (planned,) = recipe("sft", model, rows, "lora=null").plans()
    assert planned.trainable == planned.parameters


def test_rows_are_all_accounted_for_and_steps_follow_from_them(model: str, rows: str):
    (planned,) = recipe("sft", model, rows, "batch_size=4", "epochs=3").plans()
    assert planned.rows + planned.held_out == 12
    assert planned.held_out >= 1
    assert planned.steps == 3 * -(-planned.rows // 4)


def test_a_row_that_cannot_be_used_is_said(model: str, rows: str):
    (planned,) = recipe("reward_model", model, rows).plans()
    assert planned.rows + planned.held_out == 12
    assert any("1 × empty answer" in line for line in planned.said)


def test_a_prompt_counts_once_however_many_answers_it_has(model: str, rows: str):
    """The same prompts and chosen answers, with the rejected ones on top."""
    few = ["data.limit=12", "batch_size=100", "epochs=1", "data.held_out=0.2"]
    (alone,) = recipe("sft", model, rows, *few).plans()
    (pairs,) = recipe("reward_model", model, rows, *few).plans()
    assert alone.rows == pairs.rows
    rejected = pairs.tokens - alone.tokens
    assert 0 < rejected < alone.tokens / 2


def test_rows_that_do_not_fit_are_said_with_the_reason_of_the_held_out_ones_too(
    model: str, tmp_path: Path
):
    def row(number: int, words: int) -> dict[str, str]:
        return {"prompt": f"Question {number}?", "completion": "because " * words}

    write_jsonl(tmp_path / "rows.jsonl", [row(i, 400 if i < 2 else 3) for i in range(8)])
    write_jsonl(tmp_path / "held.jsonl", [row(i, 400 if i < 11 else 3) for i in range(10, 14)])
    held = f"data.validation={tmp_path / 'held.jsonl'}"
    (planned,) = recipe("sft", model, str(tmp_path / "rows.jsonl"), held).plans()
    assert (planned.rows, planned.held_out, planned.left_out) == (6, 3, 3)
    said = "\n".join(planned.said)
    assert "sft, rows to learn from: left out 2 × longer than 512 tokens" in said
    assert "sft, rows held out: left out 1 × longer than 512 tokens" in said


def test_rows_that_are_all_too_long_are_an_error_that_says_so(model: str, rows: str):
    with pytest.raises(UserError, match=r"no demonstration .* longer than 4 tokens"):
        recipe("sft", model, rows, "data.max_length=4").plans()


def test_a_chain_is_planned_stage_by_stage(model: str, rows: str):
    chain = load_recipe("rlhf", [f"model={model}", "ppo.steps=7"])
    planned = chain.plans()
    assert [part.stage for part in planned] == ["sft", "reward_model", "ppo"]
    assert planned[2].steps == 7
    assert planned[2].parameters > 1.9 * planned[0].parameters  # a policy and a critic


def test_the_price_is_money_per_hour():
    assert price_in(["a=1", "price=2.5"]) == 2.5
    assert price_in(["a=1"]) is None
    with pytest.raises(UserError, match="price=much is not a number"):
        price_in(["price=much"])


def test_time_grows_from_the_measured_steps_to_all_of_them(
    model: str, rows: str, monkeypatch: pytest.MonkeyPatch
):
    """A pretended process: 2 s a step after a slow first one, 30 s in all, 3 GB at its peak."""

    def pretend(file: Path, folder: Path, steps: int | None) -> tuple[float, float]:
        log = MetricsLog(load_recipe(file).run)
        for step, seconds in enumerate((9.0, 11.0, 13.0, 15.0), start=1):
            monkeypatch.setattr(log, "seconds", lambda now=seconds: now)
            log.append(step, "sft", {"loss": 1.0})
        return 30.0, 3e9

    monkeypatch.setattr(forecasting, "measured", pretend)
    ready = recipe("sft", model, rows, "batch_size=1", "epochs=10", "eval_every=1000")
    plans = ready.plans()
    said = forecast(ready, plans, price=36.0)
    stage = said.stages[0]
    assert stage.seconds_per_step == pytest.approx(2.0)
    learning = 2.0 * plans[0].steps
    validating = 2 * 0.4 * 2.0 * plans[0].held_out  # one more at the end
    asked = min(ready.sampled_prompts, plans[0].held_out)
    tokens = plans[0].tokens / plans[0].steps
    answering = 2 * 0.4 * 2.0 * asked * ready.sampled_tokens / tokens  # before and after
    assert stage.seconds == pytest.approx(learning + validating + answering)
    assert said.seconds == pytest.approx(stage.seconds + 30 - 4 * 2.0)
    assert said.money == pytest.approx(said.seconds / 100)
    assert said.memory_gb == pytest.approx(3.0)


def test_a_real_measurement_leaves_nothing_behind(
    model: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    ready = recipe("sft", model, rows, f"run={tmp_path}/run")
    said = forecast(ready, ready.plans())
    assert said.seconds > 0
    assert 0.05 < said.memory_gb < 20
    assert said.disk_gb > 0
    assert said.money is None
    assert not list(tmp_path.glob("backflip-*"))
    assert not (tmp_path / "run").exists()


def test_a_measurement_that_fails_passes_on_why(model: str, rows: str, tmp_path: Path):
    ready = recipe("sft", model, rows)
    plans = ready.plans()
    broken = ready.model_copy(update={"tokenizer": model, "model": str(tmp_path)})
    with pytest.raises(UserError, match=r"the measurement failed: .*config\.json"):
        forecast(broken, plans)


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_the_direct_family_is_planned_like_any_stage(name: str, model: str, rows: str):
    """A pair counts its prompt once; taken apart into thumbs, twice."""
    (planned,) = recipe(name, model, rows, "batch_size=100", "epochs=1").plans()
    (judged,) = recipe("reward_model", model, rows, "batch_size=100", "epochs=1").plans()
    assert planned.stage == "direct"
    labels = name == "kto"
    assert planned.rows == (2 if labels else 1) * judged.rows
    assert planned.steps == 1
    assert (planned.tokens / planned.rows < judged.tokens / judged.rows) is labels
    assert any("1 × empty answer" in line for line in planned.said)


def test_the_reference_the_sampled_answers_and_the_scale_take_time(
    model: str, rows: str, monkeypatch: pytest.MonkeyPatch
):
    def pretend(file: Path, folder: Path, steps: int | None) -> tuple[float, float]:
        trial: Any = load_recipe(file)
        beside = getattr(trial, "scale_answers", None) or trial.sampled_prompts + 2
        assert beside == 2, "measured with the steps, they would count as steps"
        log = MetricsLog(trial.run)
        for step, seconds in enumerate((9.0, 11.0, 13.0, 15.0), start=1):
            monkeypatch.setattr(log, "seconds", lambda now=seconds: now)
            log.append(step, "direct", {"loss": 1.0})
        return 30.0, 3e9

    monkeypatch.setattr(forecasting, "measured", pretend)

    def seconds(name: str, *settings: str) -> float:
        ready = recipe(name, model, rows, "batch_size=1", "eval_every=1000", *settings)
        return forecast(ready, ready.plans()).stages[0].seconds

    alone = seconds("simpo", "sampled_prompts=0")
    (planned,) = recipe("dpo", model, rows).plans()
    asked = seconds("dpo", "sampled_prompts=0")
    assert asked - alone == pytest.approx(0.4 * 2.0 * (planned.rows + planned.held_out))
    assert seconds("dpo", "sampled_prompts=4") > asked
    (judged,) = recipe("reward_model", model, rows, "batch_size=1").plans()
    plain, scaled = seconds("reward_model", "normalise=false"), seconds("reward_model")
    learning = 2.0 * judged.steps
    assert 0 < scaled - plain <= max(0.25, 8 * 64 / judged.tokens) * learning + 1e-6
