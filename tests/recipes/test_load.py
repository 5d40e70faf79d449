from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from backflip.algorithms.discover import DIRECT
from backflip.algorithms.online.one_step_ppo import OneStepPPO
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.preference.apo_zero import APOZero
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.simpo import SimPO
from backflip.errors import UserError
from backflip.recipes.describe import paths, settings
from backflip.recipes.in_memory import written
from backflip.recipes.load import load_recipe, parse, to_yaml
from backflip.recipes.names import HERE, shipped
from backflip.recipes.registry import FAMILIES, RECIPES
from backflip.stages.chain import RLHFRecipe
from backflip.stages.online import OnlineRecipe


def loaded(name: str | Path, *overrides: str) -> Any:
    """Any recipe, its type left open."""
    return load_recipe(name, list(overrides))


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_parses_and_means_the_same_when_written_out_and_read(
    name: str, tmp_path: Path
):
    recipe = loaded(name)
    assert recipe.stage in (name, "reward_model", *FAMILIES)
    assert recipe.run.name.startswith(f"{name}-")
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(file) == recipe


@pytest.mark.parametrize("name", [*shipped(), "../demo/demo"])
def test_every_shipped_file_is_in_the_folder_and_has_no_key_twice(name: str):
    """YAML keeps the last of two equal keys in silence."""
    text = (HERE / f"{name}.yaml").read_text(encoding="utf-8")

    def check(node: Any) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            for _, value in node.value:
                check(value)

    check(yaml.compose(text))


def test_every_stage_and_every_objective_has_a_file():
    family = [loaded(name) for name in shipped() if name not in RECIPES]
    direct = {type(recipe.objective) for recipe in family if recipe.stage == "direct"}
    assert direct == set(DIRECT.values())
    assert set(RECIPES) - set(FAMILIES) < set(shipped())
    whole = [loaded(name) for name in shipped()]
    assert {recipe.stage for recipe in whole} >= set(FAMILIES)


@pytest.mark.parametrize("name", sorted(set(shipped()) & {*RECIPES, "dpo"}))
def test_the_written_recipe_is_complete(name: str):
    """Every setting of the schema stands in the file, of the algorithm that was chosen."""
    written = yaml.safe_load(to_yaml(loaded(name)))

    def flat(values: dict[str, Any], prefix: str = "") -> set[str]:
        found = set[str]()
        for key, value in values.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
        return found

    there = flat(written)
    online = "grpo" if name == "overoptimization" else "ppo"
    chosen = ("", online, "bradley_terry", "dpo")
    for setting in settings(name if name in RECIPES else "direct"):
        path, choice = setting.path, setting.choice
        chain = name in ("rlhf", "overoptimization")
        handed_down = chain and path.split(".", 1)[-1] in there
        is_group = any(entry.startswith(f"{path}.") for entry in there)
        above_is_null = any(path.startswith(f"{entry}.") for entry in there)
        if choice in chosen and not handed_down and not above_is_null:
            has_name = f"{path}.name" in there
            is_mapping = path.endswith("logit_bias")
            assert path in there or has_name or is_mapping or is_group or path[-4:] == ".run", path


def test_values_are_read_as_yaml_and_put_where_their_names_say():
    recipe = loaded(
        "sft", "optimizer.lr=1e-5", "lora=null", "data.limit=12", "trackers=[tensorboard]"
    )
    assert recipe.optimizer.lr == 1e-5  # YAML 1.1 reads this as text
    assert recipe.lora is None
    assert recipe.data.limit == 12
    assert recipe.trackers == ("tensorboard",)


@pytest.mark.parametrize(
    ("word", "trackers"),
    [
        ("tensorboard", ("tensorboard",)),
        ("mlflow", ("mlflow",)),
        ("trackio", ("trackio",)),
        ("tensorboard,wandb", ("tensorboard", "wandb")),
        ("none", ()),
        ("[wandb]", ("wandb",)),
    ],
)
def test_a_list_may_be_one_word(word: str, trackers: tuple[str, ...]):
    assert loaded("sft", f"trackers={word}").trackers == trackers
    assert loaded("rlhf", f"trackers={word}").ppo.trackers == trackers


@pytest.mark.parametrize("word", ["false", "none", "None", "null", "no"])
def test_lora_is_left_out_in_any_word_and_the_rate_follows(word: str):
    assert loaded("sft", f"lora={word}") == loaded("sft", "lora=null", "run=x").model_copy(
        update={"run": loaded("sft", f"lora={word}").run}
    )
    assert loaded("sft", f"lora={word}").optimizer.lr == 2e-5
    assert loaded("rlhf", f"ppo.lora={word}").ppo.lora is None


def test_overrides_from_python_are_mappings_that_keep_the_rest_of_their_group():
    recipe: Any = load_recipe("ppo", algorithm={"kl_coef": 0.1}, sampling={"max_tokens": 9})
    assert (recipe.algorithm.kl_coef, recipe.algorithm.epochs) == (0.1, 4)
    assert (recipe.sampling.max_tokens, recipe.sampling.temperature) == (9, 1.0)


@pytest.mark.parametrize(
    ("recipe", "adapted", "full"),
    [
        ("sft", 2e-4, 2e-5),
        ("reward_model", 1e-4, 9e-6),
        ("ppo", 5e-5, 3e-6),
        ("dpo", 5e-5, 1e-6),
        ("kto", 5e-5, 5e-6),
        ("simpo", 3e-5, 1e-6),
        ("orpo", 1e-4, 8e-6),
    ],
)
def test_learning_rates_follow_the_literature_for_lora_and_for_all_weights(
    recipe: str, adapted: float, full: float
):
    assert loaded(recipe).optimizer.lr == adapted
    assert loaded(recipe, "lora=null").optimizer.lr == full
    assert loaded(recipe, "lora=null", "optimizer.lr=7e-6").optimizer.lr == 7e-6


def test_the_critic_has_the_policys_rate_unless_it_is_given_its_own():
    assert loaded("ppo", "lora=null").values.optimizer.lr == 3e-6
    assert loaded("ppo", "critic_optimizer.lr=1e-5").values.optimizer.lr == 1e-5


def test_the_hyperparameters_of_an_algorithm_are_its_fields():
    recipe = loaded("ppo", "algorithm.lam=0.9")
    assert recipe.algorithm == PPO(lam=0.9)


def test_another_algorithm_keeps_the_settings_that_it_shares():
    recipe = loaded("ppo", "algorithm=one_step_ppo", "algorithm.kl_coef=0.02")
    assert recipe.algorithm == OneStepPPO(kl_coef=0.02)


@pytest.mark.parametrize("name", ["ppo", "one_step_ppo"])
def test_both_forms_of_ppo_can_hold_a_kl_and_stop_early(name: str):
    given = ["algorithm.kl_target=6", "algorithm.kl_horizon=99", "algorithm.target_kl=0.02"]
    algorithm = loaded("ppo", f"algorithm={name}", *given).algorithm
    assert (algorithm.kl_target, algorithm.kl_horizon, algorithm.target_kl) == (6.0, 99, 0.02)
    meanings = {s.path: s.meaning for s in settings("ppo") if s.choice == name}
    assert "Ziegler" in meanings["algorithm.kl_target"]


def test_a_short_form_is_the_same_as_the_long_one():
    short = parse({"data": "demo:prompts", "algorithm": "one_step_ppo", "run": "r"}, "ppo", "here")
    long = parse(
        {"data": {"source": "demo:prompts"}, "algorithm": {"name": "one_step_ppo"}, "run": "r"},
        "ppo",
        "here",
    )
    assert short == long


def test_other_data_leaves_nothing_of_the_former_source_behind(tmp_path: Path):
    """Its format and its validation rows belong to it; its maximal length does not."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "stage: sft\ndata: {source: a.jsonl, format: hh, validation: b.jsonl, max_length: 99}\n"
    )
    data = loaded(file, "data=c.jsonl").data
    assert (data.source, data.format, data.validation, data.max_length) == (
        "c.jsonl",
        None,
        None,
        99,
    )


def test_a_chain_hands_down_what_its_stages_do_not_say():
    chain = loaded("rlhf", "model=some/model", "data=mine.jsonl", "data.limit=300", "seed=3")
    for link, stage in chain.links():
        assert (stage.model, stage.seed) == ("some/model", 3)
        assert (stage.data.source, stage.data.limit) == ("mine.jsonl", 300)
        assert stage.run == chain.run / link
    assert chain.ppo.data.max_length == 256  # its own


def test_stages_of_a_chain_may_have_data_of_their_own():
    chain = loaded("rlhf", "data=all.jsonl", "sft.data=mine.jsonl")
    sources = [stage.data.source for stage in (chain.sft, chain.reward_model, chain.ppo)]
    assert sources == ["mine.jsonl", "all.jsonl", "all.jsonl"]


def test_a_saved_chain_can_be_given_another_model(tmp_path: Path):
    """What the stages took over from the chain is not frozen into them."""
    file = tmp_path / "chain.yaml"
    file.write_text(to_yaml(loaded("rlhf", "data=rows.jsonl")), encoding="utf-8")
    chain = loaded(file, "model=other/model", "data=else.jsonl")
    assert isinstance(chain, RLHFRecipe)
    assert chain.ppo.model == chain.sft.model == "other/model"
    assert chain.reward_model.data.source == "else.jsonl"


def test_a_run_is_named_after_its_recipe(tmp_path: Path):
    file = tmp_path / "gentle.yaml"
    file.write_text("stage: sft\ndata: rows.jsonl\n")
    assert loaded(file).run.name.startswith("gentle-")
    assert loaded(file, "run=here").run == Path("here")


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        loaded("sft").seed = 3


def test_the_terms_of_a_mixture_are_objectives_like_any_other():
    recipe = loaded("mixture")
    assert recipe.objective.terms == (DPO(beta=0.1), APOZero(beta=0.1))
    short = {"name": "mixture", "terms": ["dpo", {"name": "simpo", "beta": 3}], "weights": [1, 2]}
    made: Any = load_recipe("dpo", objective=short)
    assert made.objective.terms == (DPO(), SimPO(beta=3.0))
    assert made.objective.weights == (1.0, 2.0)


def test_another_objective_brings_its_own_rate_and_its_own_defaults():
    recipe = loaded("dpo", "objective=simpo")
    assert recipe.optimizer.lr == 3e-5
    assert recipe.objective.target_margin == 1.0


ERRORS = [
    ("dpo", ["objective=dop"], "Did you mean dpo?"),
    ("dpo", ["objective.bta=1"], "Did you mean objective.beta?"),
    ("dpo", ["objective.target_margin=1"], "It belongs to simpo"),
    ("dpo", ["refrence=x"], "Did you mean reference?"),
    ("f_dpo", ["objective.divergence=kl"], "objective.divergence in recipe f_dpo is 'kl'"),
    ("dpo", ["objective={name: mixture, terms: [dpo], weights: []}"], "1 terms and 0 weights"),
    ("dpo", ["objective={name: mixture, terms: [dop], weights: [1]}"], "dop"),
    ("dpo", ["objective={name: mixture, terms: [tr_dpo], weights: [1]}"], "tr_dpo"),
    ("dpoo", [], "Did you mean dpo?"),
    ("pp", [], "there is no recipe 'pp'. Did you mean ppo?"),
    ("nowhere/x.yaml", [], "nowhere/x.yaml does not exist"),
    ("sft", ["lora"], "'lora' is not a setting. Write key=value"),
    ("sft", ["lrora.rank=3"], "Did you mean lora.rank?"),
    ("ppo", ["kl_coef=1"], "Did you mean algorithm.kl_coef?"),
    ("ppo", ["algorithm.kl_cof=1"], "Did you mean algorithm.kl_coef?"),
    ("ppo", ["sampling.temprature=1"], "Did you mean sampling.temperature?"),
    ("rlhf", ["reward_modle.epochs=1"], "Did you mean"),
    ("ppo", ["algorithm=pppo"], "Did you mean ppo?"),
    ("ppo", ["algorithm=one_step_ppo", "algorithm.lam=1"], "It belongs to ppo"),
    ("sft", ["seed=minus"], "seed in recipe sft is 'minus'; it must be a whole number, such as 0."),
    ("sft", ["epochs=1.5"], "epochs in recipe sft is 1.5; it must be a whole number, such as 1."),
    ("sft", ["optimizer.eps=x"], "it must be a number, such as 1e-05."),
    ("sft", ["activation_checkpointing=x"], "it must be true or false, such as false."),
    ("sft", ["epochs=0"], "epochs in recipe sft is 0; it must be greater than or equal to 1"),
    ("sft", ["optimizer=3"], "it is a group: write optimizer.betas=… (it has betas, eps"),
    (
        "sft",
        ["trackers=tensorbord"],
        "'tensorboard', 'wandb', 'mlflow' or 'trackio'",
    ),
    ("sft", ["data.held_out=2"], "data.held_out in recipe sft is 2"),
    ("sft", ["template=chatlm"], "template in recipe sft: template='chatlm' is not known"),
    ("ppo", ["pretraining.coef=2"], "pretraining.source is missing"),
    ("ppo", ["sampling.top_p=3"], "top_p must lie in"),
    ("sft", ["optimizer.lr=.nan"], "optimizer.lr"),
]


@pytest.mark.parametrize(("name", "overrides", "said"), ERRORS)
def test_mistakes_are_answered_in_one_line_with_the_way_out(
    name: str, overrides: list[str], said: str
):
    with pytest.raises(UserError) as caught:
        load_recipe(name, overrides)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stage: sft\ndata: [1,\n", "bad.yaml:3 is not YAML"),
        ("- a\n- b\n", "holds no settings but a list"),
        ("data: x\n", "has no `stage:`"),
        ("stage: stf\n", "Did you mean sft?"),
        ("stage: sft\n", "data is missing in recipe"),
        ("stage: sft\ndata: x\nlora: {rnk: 3}\n", "Did you mean lora.rank?"),
        ("stage: rlhf\ndata: x\nppo: {algorithm: {name: ppo, lamb: 1}}\n", "ppo.algorithm.lam?"),
    ],
)
def test_mistakes_in_a_file_name_the_file(text: str, said: str, tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(file)
    assert said in str(caught.value)
    assert "bad.yaml" in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_says_what_it_means(name: str):
    silent = {s.path for s in settings(name) if not s.meaning}
    assert not silent


def test_groups_and_settings_have_names():
    known = paths("rlhf")
    assert {"ppo", "ppo.algorithm", "ppo.algorithm.kl_coef", "data.source"} <= known
    assert "ppo.algorithm.ppo.kl_coef" not in known


def test_ones_and_zeros_are_not_mistaken_for_yes_and_no():
    """In Python 1 == True; a recipe that shows ``epochs: true`` would be a riddle."""
    by_path = {setting.path: setting.default for setting in settings("sft")}
    assert by_path["epochs"] == "1"
    assert by_path["activation_checkpointing"] == "false"


def test_schema_defaults_are_those_of_the_literature():
    """PPO's as in Ziegler (2019) and the reproductions of TL;DR."""
    recipe = parse({"data": "x", "run": "r"}, "ppo", "here")
    assert isinstance(recipe, OnlineRecipe)
    algorithm = recipe.algorithm
    assert isinstance(algorithm, PPO)
    assert (algorithm.epochs, algorithm.eps, algorithm.value_eps) == (4, 0.2, 0.2)
    assert (algorithm.gamma, algorithm.lam, algorithm.kl_coef) == (1.0, 0.95, 0.05)
    assert (recipe.optimizer.eps, recipe.kl_stop, recipe.shaping.missing_eos) == (1e-5, 20, -1)


def test_two_runs_of_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("backflip.stages.settings.time.strftime", lambda *_: "now")
    for expected in ("sft-now", "sft-now-2", "sft-now-3"):
        run = load_recipe("sft", {"data": "demo:demonstrations"}).run
        assert run.name == expected
        run.mkdir(parents=True)


def test_names_with_dots_inside_of_a_group_are_groups_too(tmp_path: Path):
    data = {"source": "demo:prompts", "columns.reference": "key", "columns": {"prompt": "asked"}}
    recipe = load_recipe("grpo", {"reward": "exact", "data": data, "sampling": {"logit_bias": {}}})
    assert (recipe.data.columns.reference, recipe.data.columns.prompt) == ("key", "asked")
    path = tmp_path / "mine.yaml"
    path.write_text("stage: online\nreward: exact\ndata: {source: x.jsonl, columns.reference: key}")
    assert load_recipe(path).data.columns.reference == "key"
    with pytest.raises(UserError, match="unknown setting"):
        load_recipe("grpo", {"data": {"columns.refrence": "key"}})


def test_keys_that_are_numbers_are_no_names_of_settings():
    with written("grpo", {"sampling": {"logit_bias": {29: 3.0}}, "reward": "exact"}) as recipe:
        assert recipe.sampling.logit_bias == {29: 3.0}
