from __future__ import annotations

import json
from pathlib import Path

import pytest

from backflip.errors import UserError
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.recipes.names import shipped
from backflip.stages.chain import Chain


@pytest.fixture(scope="module")
def judge(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that looks like a reward model from outside."""
    folder = tmp_path_factory.mktemp("models") / "judge"
    folder.mkdir()
    config = json.loads((Path(model) / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def checked(name: str, tmp_path: Path, *settings: str) -> None:
    check_recipe(load_recipe(name, [f"run={tmp_path}/run", *settings]))


def test_recipes_that_are_well_pass(model: str, judge: str, tmp_path: Path):
    checked("sft", tmp_path, f"model={model}")
    checked("reward_model", tmp_path, f"model={model}")
    checked("ppo", tmp_path, f"model={model}", f"reward_model={judge}")
    checked("rlhf", tmp_path, f"model={model}")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("ppo", [], "ppo needs a reward model: reward_model="),
        ("ppo", ["critic=shared"], "Set algorithm.vf_coef=0.1"),
        ("ppo", ["algorithm.vf_coef=0.1"], "Set algorithm.vf_coef=0, or values=shared"),
        ("rlhf", ["ppo.critic=shared"], "Set ppo.algorithm.vf_coef=0.1"),
        ("ppo", ["sampling.top_p=0.9"], "sampling uses top_p"),
        ("ppo", ["sampling.temperature=0"], "sampling uses temperature=0"),
        ("ppo", ["minibatches=9"], "minibatches is 9"),
        ("ppo", ["algorithm.lam=1.5"], "algorithm.lam is 1.5; it must be at least 0 and at most 1"),
        ("ppo", ["algorithm.kl_coef=-1"], "algorithm.kl_coef is -1"),
        ("reward_model", ["objective=rao_kupper", "objective.theta=0.5"], "objective.theta is 0.5"),
        ("reward_model", ["data.held_out=0"], "nothing is left to judge by"),
        ("dpo", ["objective.beta=0"], "objective.beta is 0; it must be above 0: at 0 preferences"),
        ("dpo", ["objective.label_smoothing=0.5"], "it must be at least 0 and below 0.5"),
        ("robust_dpo", ["objective.label_noise=0.6"], "objective.label_noise is 0.6"),
        ("f_dpo", ["objective.alpha=1"], "it must be above 0 and below 1"),
        ("tr_dpo", ["objective.mix=1.5"], "it must be above 0 and at most 1"),
        ("tr_dpo", ["objective.every=0"], "objective.every is 0"),
        ("exo", ["objective.smoothing=0"], "the divergence is infinite"),
        ("kto", ["objective.desirable_weight=-1"], "objective.desirable_weight is -1"),
        ("dpo", ["objective.nll_coef=-1"], "objective.nll_coef is -1"),
        ("rao_kupper_dpo", ["objective.theta=0.5"], "objective.theta is 0.5"),
        ("simpo", ["reference=smollm2"], "simpo compares with none"),
        ("tr_dpo", ["reference=smollm2"], "follows the policy itself"),
        (
            "dpo",
            ["objective={name: mixture, terms: [{name: dpo, beta: -1}], weights: [1]}"],
            "objective.terms[1].beta is -1",
        ),
        (
            "dpo",
            ["objective={name: mixture, terms: [dpo], weights: [-0.5]}"],
            "objective.weights[1] is -0.5",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_looked_for(
    name: str, settings: list[str], said: str, judge: str, tmp_path: Path
):
    """The model does not exist: a check that came to it would say so instead."""
    more = [f"reward_model={judge}"] if name == "ppo" and settings else []
    with pytest.raises(UserError) as caught:
        checked(name, tmp_path, "model=/nowhere", *settings, *more)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data=/nowhere/rows.jsonl"], "data.source: there is no file or folder /nowhere"),
        (["data=demo:comparisns"], "data.source: there is no demo:comparisns"),
        (["data.validation=/nowhere/rows.jsonl"], "data.validation: there is no file"),
        (["golden=/nowhere/rows.jsonl"], "golden: there is no file"),
        (["model=/nowhere/model"], "model: there is no model"),
        (["policy=/nowhere/model"], "policy: there is no model"),
    ],
)
def test_what_is_not_there_is_named_with_the_setting_that_asked_for_it(
    settings: list[str], said: str, model: str, tmp_path: Path
):
    with pytest.raises(UserError) as caught:
        checked("reward_model", tmp_path, f"model={model}", *settings)
    assert said in str(caught.value)


def test_a_malformed_first_line_is_found_with_its_number(model: str, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{oops\n")
    with pytest.raises(UserError, match=r"rows.jsonl:1: malformed"):
        checked("sft", tmp_path, f"model={model}", f"data={rows}")


def test_a_language_model_in_the_place_of_the_reward_model_is_refused(model: str, tmp_path: Path):
    with pytest.raises(UserError, match="is a LlamaForCausalLM, not a reward model"):
        checked("ppo", tmp_path, f"model={model}", f"reward_model={model}")


def test_a_folder_that_holds_a_run_is_refused(model: str, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("stage: sft\n")
    with pytest.raises(UserError, match=r"already holds a run.*backflip resume"):
        checked("sft", tmp_path, f"model={model}")


def test_a_finished_run_is_not_to_be_gone_on_with(model: str, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("stage: sft\n")
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a run, which is finished") as caught:
        checked("sft", tmp_path, f"model={model}")
    assert "resume" not in str(caught.value)


def test_a_run_cannot_be_a_file(model: str, tmp_path: Path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        checked("sft", tmp_path, f"model={model}")


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_within_the_literature(name: str):
    recipe = load_recipe(name)
    assert list(recipe.advice()) == []
    links = [f"{link}." for link, _ in recipe.links()] if isinstance(recipe, Chain) else [""]
    assert list(load_recipe(name, [f"{link}lora=null" for link in links]).advice()) == []


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("ppo", "algorithm.kl_coef=0.5", "algorithm.kl_coef is 0.5; the literature has 0.01 to"),
        ("ppo", "algorithm.kl_coef=0.005", "algorithm.kl_coef is 0.005"),
        ("rlhf", "ppo.algorithm.kl_coef=0.5", "ppo.algorithm.kl_coef is 0.5"),
        ("reward_model", "epochs=5", "a second pass overfits"),
        ("sft", "optimizer.lr=0.01", "optimizer.lr is 0.01"),
        ("ppo", "shaping.missing_eos=1", "rambling pays"),
        ("ppo", "shaping.missing_eos=null", "never to stop"),
        ("ppo", "kl_stop=null", "nothing ends the run"),
        ("ppo", "prompts_per_step=2", "is 4: whitening"),
        ("dpo", "objective.beta=2", "objective.beta is 2; the literature has 0.01 to 0.5"),
        ("simpo", "objective.beta=0.1", "2.0 to 2.5"),
        ("sppo", "objective.beta=0.1", "an η of 1,000"),
        ("dpo", "optimizer.lr=0.01", "with LoRA"),
        ("kto", "batch_size=4", "mostly noise"),
        ("dpo", "epochs=5", "1 to 3"),
    ],
)
def test_values_outside_the_literature_are_pointed_out(name: str, setting: str, said: str):
    advice = list(load_recipe(name, [setting]).advice())
    assert len(advice) == 1
    assert said in advice[0]


def test_a_rate_for_adapters_is_too_high_for_all_weights():
    assert list(load_recipe("reward_model", ["optimizer.lr=1e-4"]).advice()) == []
    advice = list(load_recipe("reward_model", ["optimizer.lr=1e-4", "lora=null"]).advice())
    assert "9e-6" in advice[0]


@pytest.mark.parametrize("kl_coef", [0.01, 0.05, 0.1])
def test_values_of_the_literature_are_left_alone(kl_coef: float):
    assert list(load_recipe("ppo", [f"algorithm.kl_coef={kl_coef}"]).advice()) == []
