"""The JSON schema of recipes: it takes what is shipped, and refuses what the recipe refuses."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from backflip.recipes.json_schema import schema
from backflip.recipes.load import load_recipe, to_yaml
from backflip.recipes.names import HERE, shipped
from backflip.recipes.registry import RECIPES


def validator(stage: str) -> Any:
    made = schema(stage)
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.fixture(scope="module")
def validators() -> dict[str, Any]:
    return {stage: validator(stage) for stage in RECIPES}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_valid_as_written_and_as_a_run_keeps_it(name, validators):
    written = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    kept = yaml.safe_load(to_yaml(load_recipe(name)))
    for recipe in (written, kept):
        check = validators[recipe["stage"]]
        assert [error.message for error in check.iter_errors(recipe)] == []


@pytest.mark.parametrize("name", shipped())
def test_an_unknown_setting_is_refused_wherever_it_stands(name, validators):
    written = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = [()] + [(key,) for key, value in written.items() if isinstance(value, dict)]
    for path in groups:
        wrong = copy.deepcopy(written)
        group = wrong
        for key in path:
            group = group[key]
        group["betta"] = 1
        assert not validators[wrong["stage"]].is_valid(wrong), path


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("sft", {"epochs": 0}),
        ("sft", {"epochs": "two"}),
        ("sft", {"turns": "first"}),
        ("sft", {"data": {"source": "rows.jsonl", "held_out": 1.0}}),
        ("direct", {"objective": {"name": "dpo", "beta": "much"}}),
        ("direct", {"objective": {"name": "dpo", "gamma": 1.0}}),
        ("direct", {"objective": "dppo"}),
        ("ppo", {"critic": "own"}),
        ("sft", {"optimizer": {"betas": [0.9]}}),
    ],
)
def test_a_value_out_of_its_limits_is_refused(stage, settings, validators):
    assert not validators[stage].is_valid({"stage": stage, **settings})


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("sft", {"data": "rows.jsonl", "optimizer": {"lr": "1e-5"}, "lora": None}),
        ("sft", {"trackers": "mlflow", "template": "mine.jinja"}),
        ("direct", {"objective": "orpo", "lora": "none"}),
        ("direct", {"objective": {"name": "mixture", "terms": ["dpo"], "weights": [1]}}),
    ],
)
def test_short_forms_are_valid(stage, settings, validators):
    found = validators[stage].iter_errors({"stage": stage, **settings})
    assert [error.message for error in found] == []


def test_a_setting_has_its_meaning_its_limits_and_its_default():
    epochs = schema("sft")["properties"]["epochs"]
    assert epochs["description"] == "Passes over the data."
    assert (epochs["type"], epochs["minimum"], epochs["default"]) == ("integer", 1, 1)
    assert schema("sft")["properties"]["turns"]["enum"] == ["all", "last"]
