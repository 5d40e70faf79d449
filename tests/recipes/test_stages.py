"""Whole stages on a tiny model: what a run leaves behind, how stages link, how they go on."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backflip.api import Run, model_of
from backflip.cli.show import print_result
from backflip.data.sources import write_jsonl
from backflip.errors import Interrupted, UserError
from backflip.models.load import REWARD_MODELS, resolve
from backflip.models.save import load_reward_model
from backflip.monitor.log import read_lines, read_metrics
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.training.checkpoints import CheckpointStore
from backflip.training.driver import Best
from tests.recipes.tiny import tiny_model

QUICK = {
    "sft.data.limit": 12,
    "sft.epochs": 1,
    "reward_model.data.limit": 16,
    "ppo.steps": 2,
    "ppo.data.limit": 12,
    "ppo.sampling": {"max_tokens": 6},
    "ppo.prompts_per_step": 4,
    "ppo.validation_prompts": 4,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def chain(model, tmp_path_factory):
    """All three stages, once, for the tests that only look."""
    folder = tmp_path_factory.mktemp("runs") / "chain"
    return train(load_recipe("rlhf", {"model": str(model), "run": str(folder), **QUICK}))


def test_a_chain_leaves_three_finished_runs_and_a_report(chain):
    for stage in ("sft", "reward_model", "ppo"):
        assert {"recipe.yaml", "metrics.jsonl", "environment.json", "summary.json", "model"} <= {
            p.name for p in (chain / stage).iterdir()
        }
    summary = json.loads((chain / "summary.json").read_text())
    assert 0 < summary["sft"]["rows"] < 12
    assert 0 <= summary["reward_model"]["accuracy"] <= 1
    assert "heldout_head" in summary["reward_model"]
    assert summary["ppo"]["steps"] == 2
    assert len(summary["ppo"]["examples"]) > 0
    page = (chain / "report.html").read_text()
    assert f"{summary['reward_model']['accuracy']:.1%}"[:-3] in page


def test_stages_start_from_what_those_before_them_made(chain):
    """Before the first step of PPO the policy is the SFT model: its KL is 0."""
    first = read_metrics(chain / "ppo")[1].metrics
    assert abs(first["kl"]) < 1e-3
    summary = json.loads((chain / "ppo" / "summary.json").read_text())
    assert abs(summary["kl_before"]) < 1e-3
    base = json.loads((chain / "ppo" / "adapter" / "adapter_config.json").read_text())
    assert base["base_model_name_or_path"].endswith("sft/model")


def test_scores_have_mean_0_and_std_1_where_the_policy_stands(chain):
    """The scale is taken on the SFT model's own answers, so PPO starts near 0."""
    reward = load_reward_model(str(chain / "reward_model" / "model"))
    assert reward.heads == 2
    assert (reward.std > 0).all()
    unshaped = read_metrics(chain / "ppo")[1].metrics["reward_unshaped"]
    assert abs(unshaped) < 2.0


def test_samples_hold_the_question_and_not_its_template(chain):
    samples = list(read_lines(chain / "ppo" / "samples.jsonl"))
    assert {s["step"] for s in samples} == {0, 2}
    assert not any("<|im_start|>" in s["prompt"] for s in samples)


@pytest.mark.parametrize(
    "settings",
    [
        {"critic": "separate", "lora": None},
        {"critic": "separate"},
        {"critic": "separate", "critic_init": "policy"},
        {"critic": "shared", "algorithm.vf_coef": 0.1},
        {"algorithm": "one_step_ppo"},
        {"algorithm.kl_target": 6.0, "algorithm.entropy_coef": 0.01, "minibatches": 2},
        {"pretraining": "demo:demonstrations"},
    ],
    ids=lambda s: ",".join(f"{k.split('.')[-1]}={v}" for k, v in s.items()),
)
def test_every_form_of_ppo_takes_a_step(chain, tmp_path, settings):
    base = {
        "model": str(chain / "sft"),
        "reward_model": str(chain / "reward_model"),
        "run": str(tmp_path / "ppo"),
        **{key[4:]: value for key, value in QUICK.items() if key.startswith("ppo.")},
    }
    folder = train(load_recipe("ppo", {**base, **settings, "steps": 1}))
    before = AutoModelForCausalLM.from_pretrained(chain / "sft" / "model").state_dict()
    after = AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_an_interrupted_chain_goes_on_with_the_stage_that_was_open(chain, model, tmp_path):
    """Break PPO after its stage has begun; what is finished is not done again."""
    folder = tmp_path / "chain"
    recipe = load_recipe("rlhf", {"model": str(model), "run": str(folder), **QUICK})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backflip.stages.online.OnlineRecipe.train", _power_cut)
        with pytest.raises(Interrupted, match=f"backflip resume {folder}$"):
            train(recipe)
    done = (folder / "sft" / "metrics.jsonl").stat().st_mtime
    resume(folder)
    assert (folder / "sft" / "metrics.jsonl").stat().st_mtime == done
    assert json.loads((folder / "summary.json").read_text())["ppo"]["steps"] == 2
    for part in ("sft", "reward_model", "ppo"):
        whole, again = (CheckpointStore(f / part / "checkpoints").latest() for f in (chain, folder))
        assert whole is not None
        assert again is not None
        name = "reward_model" if part == "reward_model" else "policy"
        for key, value in whole.weights(name).items():
            assert torch.equal(value, again.weights(name)[key]), (part, key)


def _power_cut(*_):
    raise KeyboardInterrupt


def test_a_policy_that_got_no_better_says_so_and_keeps_its_last_weights(chain, tmp_path):
    """The bar is what the policy was before the first step; here it is out of reach."""
    settings = {
        "model": str(chain / "sft"),
        "reward_model": str(chain / "reward_model"),
        "run": str(tmp_path / "ppo"),
        "eval_every": 1,
        **{key[4:]: value for key, value in QUICK.items() if key.startswith("ppo.")},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "backflip.stages.online_training._best", lambda _: Best("val_reward", start=1e9)
        )
        folder = train(load_recipe("ppo", settings))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best_step"] == 0
    assert (
        "No checkpoint beat the start by reward on held-out prompts"
        in (folder / "report.html").read_text()
    )
    assert set(CheckpointStore(folder / "checkpoints").steps()) == {2}


def test_the_bar_for_the_best_checkpoint_is_the_start(chain):
    """What came out as best beat the held-out reward of the policy before its first step."""
    summary = json.loads((chain / "ppo" / "summary.json").read_text())
    before = summary["reward_heldout_before"]["mean"]
    validated = {
        entry.step: entry.metrics["val_reward_heldout"]
        for entry in read_metrics(chain / "ppo")
        if "val_reward_heldout" in entry.metrics
    }
    same = pytest.approx(before, rel=1e-5)
    better = [step for step, value in validated.items() if value > before and value != same]
    assert summary["best_step"] == max(better, key=lambda step: validated[step], default=0)


def test_the_spread_of_scores_is_on_record(chain):
    for entry in read_metrics(chain / "reward_model"):
        assert entry.metrics["score_std"] > 0
        assert "score_mean_square" not in entry.metrics
    assert "val_score_std" in entry.metrics


def test_the_last_validation_of_a_run_that_was_stopped_is_on_record(chain, tmp_path):
    settings = {
        "model": str(chain / "sft"),
        "reward_model": str(chain / "reward_model"),
        "run": str(tmp_path / "ppo"),
        "kl_stop": 1e-9,
        "optimizer.lr": 0.01,
        **{key[4:]: value for key, value in QUICK.items() if key.startswith("ppo.")},
        "steps": 9,
    }
    folder = train(load_recipe("ppo", settings))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] < 9
    last = read_metrics(folder)[-1]
    assert (last.step, "val_reward" in last.metrics) == (summary["steps"], True)


def test_a_reward_model_of_other_tokens_is_refused(chain, model, tmp_path):
    other = tmp_path / "other"
    tiny_model(other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["unheard-of"])
    tokenizer.save_pretrained(other)
    settings = {"model": str(other), "reward_model": str(chain / "reward_model")}
    settings |= {"run": str(tmp_path / "ppo")}
    with pytest.raises(UserError, match="another tokenizer than the policy"):
        train(load_recipe("ppo", settings))


def test_the_folder_of_a_chain_stands_for_the_model_that_is_asked_for(chain, model, tmp_path):
    """The policy for who starts from it, the reward model for who is judged by it."""
    assert resolve(str(chain)) == str(chain / "ppo" / "model")
    assert resolve(str(chain), of=REWARD_MODELS) == str(chain / "reward_model" / "model")
    assert load_reward_model(str(chain)).heads == 2
    assert model_of(chain) == chain / "ppo" / "model"
    settings = {"model": str(chain), "reward_model": str(chain), "run": str(tmp_path / "ppo")}
    settings |= {key[4:]: value for key, value in QUICK.items() if key.startswith("ppo.")}
    folder = train(load_recipe("ppo", settings | {"steps": 1}))
    assert abs(json.loads((folder / "summary.json").read_text())["kl_before"]) < 1e-3


def test_a_finished_run_is_not_resumed(chain):
    """It names a model that is there: of a chain, the last stage's."""
    for folder, last in ((chain, chain / "ppo"), (chain / "sft", chain / "sft")):
        made = last / "model"
        with pytest.raises(UserError, match=f"is finished: its model is {made}. Nothing"):
            resume(folder)
        assert (made / "config.json").is_file()


def test_fine_tuning_begins_with_a_validation_and_shows_replies_beside_the_reference(
    model, tmp_path, capsys
):
    """Before the first step the weights are the model's own, so its loss is what is measured."""
    rows = [{"prompt": f"Is {n} even?", "completion": f"Answer {n}."} for n in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    named = {"model": str(model), "data": str(tmp_path / "rows.jsonl"), "steps": 2}
    named |= {"run": str(tmp_path / "run"), "sampled_tokens": 5, "sampled_prompts": 3}
    run = train(load_recipe("sft", named))
    first, *steps = read_metrics(run)
    assert (first.step, set(first.metrics)) == (0, {"val_loss", "val_units"})
    assert [entry.step for entry in steps] == [1, 2]
    assert first.metrics["val_loss"] == pytest.approx(steps[0].metrics["loss"], rel=0.05)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["val_loss_before"] == first.metrics["val_loss"]
    assert len(summary["examples"]) == 3
    asked = {row["prompt"]: row["completion"] for row in rows}
    for example in summary["examples"]:
        assert example["reference"] == asked[example["prompt"]]
        assert example["before"]
        assert example["after"]
    assert {line["step"] for line in read_lines(run / "samples.jsonl")} == {0, 2}
    page = (run / "report.html").read_text()
    assert "Reference answer" in page
    assert summary["examples"][0]["reference"] in page
    print_result(Run(run))
    said = capsys.readouterr().out
    assert "The held-out loss went from" in said
    assert summary["examples"][0]["reference"] in said


def test_a_fine_tuning_that_goes_on_keeps_the_one_validation_before_its_first_step(
    model, tmp_path, monkeypatch
):
    """Killed before its first checkpoint, it begins anew, and the report has no double point."""
    rows = [{"prompt": f"Is {n} even?", "completion": "Yes."} for n in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    named = {"model": str(model), "data": str(tmp_path / "rows.jsonl"), "steps": 2}
    folder = tmp_path / "run"
    with monkeypatch.context() as broken:
        broken.setattr("backflip.training.offline.OfflineLoop.step", _fails)
        with pytest.raises(ZeroDivisionError):
            train(load_recipe("sft", named | {"run": str(folder)}))
    resume(folder)
    assert [entry.step for entry in read_metrics(folder)] == [0, 1, 2]


def _fails(*_):
    raise ZeroDivisionError
