"""Rounds that cannot end well are refused in one line, and what fails on the way is counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import backflip as bf
from backflip.data.batches import Rollouts
from backflip.errors import UserError
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.reward.protocol import Judgement
from backflip.rounds.settings import IterativeRecipe
from tests.recipes.test_rounds import even, heard, rounds
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

ITERATIVE = (
    "iterative_dpo",
    "online_dpo",
    "sppo_rounds",
    "raft",
    "llama2_rounds",
    "llama3_rounds",
    "self_rewarding",
)
SMALL = {
    "rounds": 2,
    "prompts_per_round": 6,
    "answers_per_prompt": 3,
    "sampling.max_tokens": 5,
    "filters.cut_off": True,
    "validation_prompts": 4,
}


def loaded(path: Path) -> Any:
    """Any recipe, its type left open."""
    return load_recipe(path)


def checked(name: str, model: str, tmp_path: Path, **settings: Any) -> Any:
    recipe = load_recipe(name, {"model": model, "run": str(tmp_path / "run"), **settings})
    check_recipe(recipe)
    return recipe


# ---- before anything is loaded


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("iterative_dpo", {}, "need somebody who judges: judge=FOLDER"),
        ("iterative_dpo", {"judge": "/nowhere"}, "judge: there is no model '/nowhere'"),
        ("iterative_dpo", {"judge": "self", "direct": None}, "rounds learn nothing"),
        ("iterative_dpo", {"judge": "self", "answers_per_prompt": 1}, "Set it to 2 or more"),
        ("iterative_dpo", {"judge": "self", "sampling.temperature": 0}, "would be the same"),
        ("iterative_dpo", {"judge": "self", "direct.objective": "kto"}, "direct.objective=dpo"),
        ("iterative_dpo", {"judge": "self", "direct.reference": "m"}, "reference=previous"),
        ("iterative_dpo", {"judge": "self", "preferences": ["a"]}, "are for reward_model"),
        (
            "iterative_dpo",
            {"judge": "self", "data.validation": None, "data.held_out": 0},
            "no prompts are left to measure",
        ),
        ("llama2_rounds", {"reward_model.data": "demo:prompts"}, "learns from comparisons"),
        ("llama2_rounds", {"preferences": ["/nowhere.jsonl"]}, "preferences: "),
    ],
)
def test_what_cannot_end_well_is_refused(
    name: str, settings: dict[str, Any], said: str, model: str, tmp_path: Path
):
    with pytest.raises(UserError) as caught:
        checked(name, model, tmp_path, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_language_model_in_the_place_of_the_judge_is_refused(model: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"judge: .* is a LlamaForCausalLM, not a reward model"):
        checked("iterative_dpo", model, tmp_path, judge=model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["choose=best"], "Did you mean best_worst?"),
        (["imitate=best_worst"], "imitate in recipe iterative_dpo is 'best_worst'"),
        (["choose.minimum=1"], "It belongs to max_min_margin"),
        (["chose=best_worst"], "Did you mean choose?"),
        (["rounds=0"], "rounds in recipe iterative_dpo is 0"),
        (["choose={name: all_wins, keep: 1}"], "keep must be 2 or more"),
    ],
)
def test_slips_are_answered_with_the_way_out(settings: list[str], said: str):
    with pytest.raises(UserError) as caught:
        load_recipe("iterative_dpo", settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("iterative_dpo", "answers_per_prompt=200", "100 at most (Llama 2)"),
        ("iterative_dpo", "sampling.temperature=0.2", "0.7 (Yuan"),
        ("iterative_dpo", "prompts_per_round=4", "mostly noise"),
        ("iterative_dpo", "filters.cut_off=true", "never to stop"),
        ("llama3_rounds", "pool=false", "thrown away"),
        ("iterative_dpo", "direct.objective.beta=2", "direct.objective.beta is 2"),
    ],
)
def test_what_the_literature_does_not_do_is_pointed_out(name: str, setting: str, said: str):
    assert [said in one for one in list(load_recipe(name, [setting]).advice())] == [True]


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ([], 3e-4),
        (["direct.lora=null"], 1e-6),
        (["direct.objective=simpo"], 3e-5),
        (["direct.optimizer.lr=7e-5"], 7e-5),
    ],
)
def test_the_rate_of_a_round_is_higher_unless_something_says_otherwise(
    settings: list[str], rate: float
):
    recipe: Any = load_recipe("iterative_dpo", settings)
    assert recipe.direct.optimizer.lr == rate


# ---- shipped recipes run


@pytest.mark.parametrize("name", ITERATIVE)
def test_every_shipped_recipe_of_rounds_runs(name: str, model: str, tmp_path: Path):
    """Two small rounds of each, by its own settings: stages, pools, averages, reward models."""
    settings: dict[str, Any] = {"model": model, "run": str(tmp_path / "run"), **SMALL}
    recipe = load_recipe(name, settings)
    assert isinstance(recipe, IterativeRecipe)
    trained = recipe.reward_model is not None
    if trained:
        settings |= {"reward_model.data.limit": 16}
    recipe = load_recipe(name, settings | ({} if trained else {"judge": "python"}))
    folder = train(recipe, functions={"judge": None if trained else even})
    rows = json.loads((folder / "summary.json").read_text())["rounds"]
    assert len(rows) == 3
    assert all(math.isfinite(row["kl"]) for row in rows)
    assert "win_rate_heldout" in rows[-1]
    assert (folder / "model" / "config.json").is_file()
    stages = {path.parent.name for path in folder.glob("round_2/*/recipe.yaml")}
    assert stages == {link for link, _ in recipe.links()}
    assert (folder / "round_2" / "model").is_dir() == (recipe.average > 1)


def test_zephyr_tunes_and_then_learns_from_comparisons(model: str, tmp_path: Path):
    settings = {
        "model": model,
        "run": str(tmp_path / "run"),
        "sft.data.limit": 12,
        "direct.data.limit": 12,
        "direct.epochs": 1,
        "direct.sampled_prompts": 2,
        "direct.sampled_tokens": 4,
    }
    folder = train(load_recipe("zephyr", settings))
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) == {"sft", "direct"}
    start = load_recipe(folder / "direct" / "recipe.yaml").model
    assert start == str(folder / "sft" / "model")
    assert bf.Run(folder).model == folder / "direct" / "model"


def test_one_source_replaces_those_of_both_of_zephyrs_stages():
    recipe: Any = load_recipe("zephyr", ["data=mine.jsonl"])
    assert recipe.sft.data.source == recipe.direct.data.source == "mine.jsonl"


def test_other_prompts_leave_the_comparisons_of_the_reward_model_alone():
    recipe: Any = load_recipe("llama2_rounds", ["data=mine.jsonl"])
    assert recipe.data.source == "mine.jsonl"
    assert recipe.data.validation is None
    assert recipe.reward_model.data.source == "demo:comparisons"


def test_reward_models_learn_from_what_people_said_for_each_round(model: str, tmp_path: Path):
    from backflip.data.sources import write_jsonl

    sources = [str(tmp_path / f"week_{number}.jsonl") for number in (1, 2)]
    for number, source in enumerate(sources):
        rows = [{"prompt": f"Q{i}", "chosen": "yes", "rejected": "no"} for i in range(6 + number)]
        write_jsonl(source, rows)
    settings = {**SMALL, "rounds": 3, "preferences": sources, "reward_model.batch_size": 4}
    folder = train(checked("llama2_rounds", model, tmp_path, **settings))
    recipes = [folder / f"round_{number}" / "reward_model" / "recipe.yaml" for number in (1, 2, 3)]
    used = [loaded(path).data.source for path in recipes]
    assert used == [sources[0], sources[1], sources[1]]


def test_the_policy_grades_itself_and_what_it_cannot_grade_is_counted(model: str, tmp_path: Path):
    """A random model writes no score: the run stops, says why, and keeps the answers."""
    settings = {**SMALL, "judge.sampling.max_tokens": 8, "sampling.top_p": 0.9}
    with pytest.raises(UserError, match=r"scorer failed on \d+ of the first \d+ answers.*nan"):
        train(checked("self_rewarding", model, tmp_path, **settings))
    assert list((tmp_path / "run" / "round_1" / "sampled" / "samples").glob("draws*"))


# ---- on the way


def test_answers_without_a_score_are_counted_and_named(model: str, prompts: str, tmp_path: Path):
    def fussy(rollouts: Rollouts) -> Judgement:
        """Raises on some answers, has no number for others."""
        firsts = [int(row[0]) % 8 for row in rollouts.steps.answer.rows()]
        if 3 in firsts:
            raise RuntimeError("no word for it")
        gaps = torch.tensor([first == 5 for first in firsts])
        return Judgement(torch.where(gaps, math.nan, even(rollouts).scores))

    folder, said = heard(rounds("iterative_dpo", model, prompts, tmp_path / "run", rounds=1), fussy)
    summary = json.loads((folder / "summary.json").read_text())
    failures = summary["failures"]
    assert set(failures) == {"RuntimeError: no word for it", "the score is nan"}
    assert all(count > 0 for count in failures.values())
    assert f"without a score: {sum(failures.values())} of 192 answers" in said
    assert "RuntimeError: no word for it" in said
    row = summary["rounds"][-1]
    assert row["learnt"]["direct"]["answers_set_aside"]["without a score"] == sum(failures.values())
    assert row["unjudged"] > 0  # held-out prompts are lost the same way, and counted


def test_a_round_from_which_nothing_can_be_learnt_says_why(
    model: str, prompts: str, tmp_path: Path
):
    def all_alike(rollouts: Rollouts) -> Judgement:
        return Judgement(torch.ones(len(rollouts)))

    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run")
    with pytest.raises(UserError, match=r"no prompt of 24 is left.*all usable answers score the"):
        train(recipe, functions={"judge": all_alike})
    assert (tmp_path / "run" / "round_1" / "sampled" / "samples.safetensors").is_file()


def test_a_function_has_to_be_handed_over_again(model: str, prompts: str, tmp_path: Path):
    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run")
    with pytest.raises(UserError, match=r"bf.train\(…, judge=FUNCTION\)"):
        train(recipe)
    assert not (tmp_path / "run").exists()


def test_from_python_a_function_judges(model: str, prompts: str, tmp_path: Path):
    settings = {"data": {"source": prompts, "validation": None}, "run": str(tmp_path / "run")}
    settings |= {"filters": {"cut_off": True}, "sampling": {"max_tokens": 5}, "rounds": 1}
    run = bf.train("iterative_dpo", model=model, judge=even, prompts_per_round=4, **settings)
    assert run.summary["rounds"][1]["round"] == 1
    assert run.model == tmp_path / "run" / "model"


def test_a_verifier_judges_text(model: str, prompts: str, tmp_path: Path):
    settings = {"data": {"source": prompts, "validation": None}, "run": str(tmp_path / "run")}
    settings |= {"filters": {"cut_off": True}, "sampling": {"max_tokens": 5}, "rounds": 1}
    judge = bf.verifier(lambda _, answer: len(set(answer)), model)
    run = bf.train("iterative_dpo", model=model, judge=judge, prompts_per_round=4, **settings)
    assert run.summary["rounds"][1]["learnt"]["direct"]["rows"] > 0


def test_a_judge_of_other_tokens_is_refused_before_anything_is_sampled(
    model: str, prompts: str, tmp_path: Path
):
    other = tmp_path / "other"
    tiny_model(other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["unheard-of"])
    tokenizer.save_pretrained(other)
    data = {"data.limit": 12, "run": str(tmp_path / "rm"), "batch_size": 4}
    judge = train(load_recipe("reward_model", {"model": str(other), **data}))
    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run", judge=str(judge))
    with pytest.raises(UserError, match="another tokenizer than the policy"):
        train(recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("summary.json", "summary.json is damaged"),
        ("direct/model/config.json", "has no model any more"),
        ("sampled/samples.safetensors", "cannot be read"),
    ],
)
def test_a_damaged_round_is_found_and_named(
    damage: str, said: str, model: str, prompts: str, tmp_path: Path
):
    settings = {"rounds": 2, "prompts_per_round": 6}
    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run", **settings)
    train(recipe, functions={"judge": even})
    for name in ("summary.json", "round_2/summary.json"):
        (tmp_path / "run" / name).unlink()
    path = tmp_path / "run" / "round_1" / damage
    if path.name == "config.json":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=said):
        resume(tmp_path / "run", functions={"judge": even})


def test_a_round_begun_with_other_settings_is_not_gone_on_with(
    model: str, prompts: str, tmp_path: Path
):
    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run", rounds=1)
    train(recipe, functions={"judge": even})
    for name in ("summary.json", "round_1/summary.json"):
        (tmp_path / "run" / name).unlink()
    file = tmp_path / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("answers_per_prompt: 8", "answers_per_prompt: 4"))
    with pytest.raises(UserError, match="begun with answers=8, this is 4"):
        resume(tmp_path / "run", functions={"judge": even})


def test_a_part_of_a_round_is_not_resumed_alone(model: str, prompts: str, tmp_path: Path):
    settings = {"rounds": 1, "prompts_per_round": 6}
    run = tmp_path / "run"
    train(rounds("iterative_dpo", model, prompts, run, **settings), functions={"judge": even})
    with pytest.raises(UserError, match=f"part of a round.*backflip resume {run}$"):
        resume(run / "round_1" / "direct")


def test_a_round_whose_answers_were_all_cut_off_says_so(model: str, prompts: str, tmp_path: Path):
    settings = {"filters.cut_off": False, "sampling.max_tokens": 2, "sampling.min_tokens": 2}
    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run", **settings)
    with pytest.raises(UserError, match=r"fewer than two usable.*set aside: \d+ × cut off"):
        train(recipe, functions={"judge": even})
