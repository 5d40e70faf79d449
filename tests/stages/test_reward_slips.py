"""Reward functions and settings of rewards as people get them wrong, or almost right."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

import backflip as bf
from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.records import Prompt, messages
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.torch.engine import TorchEngine
from backflip.recipes.json_schema import schema
from backflip.recipes.load import load_recipe
from backflip.reward.calls import arguments, check_function, load_function
from backflip.reward.protocol import Judgement
from backflip.reward.verifier import Verdict
from backflip.stages.rewards.functions import Function
from backflip.stages.rewards.judge import Judge
from backflip.training.drawn_values import MonteCarlo
from tests.models.families import tiny
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

PROMPT = Prompt(messages(("user", "2 + 2?")), reference="4", info={"level": 3})
BARE = Prompt(messages(("user", "2 + 2?")))
QUICK = {
    "steps": 2,
    "prompts_per_step": 4,
    "answers_per_prompt": 2,
    "sampling.max_tokens": 4,
    "validation_prompts": 3,
    "threads": 1,
    "shaping.missing_eos": None,
}
ROWS = [{"prompt": f"{n} + 1?", "reference": str(n + 1), "level": n % 3} for n in range(40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


def said(function: Callable[..., Any], record: Prompt = PROMPT) -> Any:
    args, named = arguments(function, "2 + 2?", "four", record)
    return function(*args, **named)


# ---- what a function is called with


def both(prompt: str, answer: str, /) -> tuple[str, str]:
    return prompt, answer


def test_parameters_by_place_alone_are_handed_over_by_place():
    assert said(both) == ("2 + 2?", "four")


def test_what_a_partial_has_bound_stays_bound():
    def right(answer: str, reference: str, **more: Any) -> tuple[str, Any]:
        return reference, more.get("level")

    assert said(functools.partial(right, reference="mine")) == ("mine", 3)
    assert said(functools.partial(lambda answer, level: level, level=7)) == 7


def test_a_built_in_function_that_names_no_parameters_is_given_the_answer():
    assert said("fourfour".count) == 2
    assert said(str) == "four"


def test_a_default_stands_where_there_is_no_reference():
    assert said(lambda answer, reference="none": reference, BARE) == "none"
    assert said(lambda answer, reference="none": reference) == "4"


def test_columns_that_a_function_changes_stay_as_they_were():
    said(lambda info: info.clear())
    assert PROMPT.info == {"level": 3}


async def later(answer: str) -> float:
    return float(len(answer))


class Later:
    async def __call__(self, answer: str) -> float:
        return float(len(answer))


@pytest.mark.parametrize(
    ("function", "records", "problem"),
    [
        (later, [PROMPT], "coroutine"),
        (Later(), [PROMPT], "coroutine"),
        (lambda: 1.0, [PROMPT], "names nothing that it could be handed"),
        (lambda *args: 1.0, [PROMPT], "names nothing that it could be handed"),
        (lambda text="", n=3: 1.0, [PROMPT], "names nothing that it could be handed"),
        (lambda answer, colour: 1.0, [PROMPT], "asks for 'colour'"),
        (lambda answer, reference: 1.0, [BARE, BARE], r"none of 2 prompts has.*data\.columns"),
    ],
)
def test_a_function_that_could_judge_nothing_is_refused_before_anything_is_drawn(
    function, records, problem
):
    with pytest.raises(UserError, match=problem):
        check_function(function, records)


def test_prompts_without_the_reference_that_is_asked_for_are_counted():
    function = lambda answer, reference: 1.0  # noqa: E731
    assert check_function(function, [PROMPT, BARE]) == (
        "1 of 2 prompts have no reference answer: the function sees ''"
    )
    assert check_function(function, [PROMPT]) is None
    assert check_function(lambda answer: 1.0, [BARE]) is None


# ---- what it returns


class Odd:
    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "outcome", "score"),
    [
        (np.bool_(True), "correct", 1.0),
        (torch.tensor(False), "incorrect", 0.0),
        (np.float32(0.5), "scored", 0.5),
        ("3", "error", None),
        (b"3", "error", None),
        (torch.ones(2), "error", None),
        (10**400, "error", None),
        (1e300, "error", None),
        (Odd(), "error", None),
        (Verdict("correct", float("nan")), "error", None),
        (Verdict("scored", 1e300), "error", None),
    ],
)
def test_only_numbers_are_scores(value, outcome, score):
    verdict = Verdict.of(value)
    assert (verdict.outcome, verdict.score) == (outcome, score)


def test_objects_of_a_kind_are_one_reason():
    assert Verdict.of(object()).reason == Verdict.of(object()).reason


def test_a_function_that_would_end_the_program_ends_one_answer(model: str, tmp_path: Path, capsys):
    def leaves(answer: str, level: int) -> float:
        if level == 2:
            raise SystemExit(3)
        return float(len(answer))

    run = bf.train("grpo", model=model, data=ROWS, run=tmp_path / "r", reward=leaves, **QUICK)
    assert any(0 < row.get("unscored", 0) < 1 for row in run.metrics)
    assert "SystemExit: 3" in capsys.readouterr().out


# ---- files


def test_a_file_may_import_its_neighbours_and_hold_dataclasses(tmp_path: Path):
    (tmp_path / "neighbour_of_mine.py").write_text("def score(a): return len(a)\n")
    (tmp_path / "second_neighbour.py").write_text("FACTOR = 2\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from neighbour_of_mine import score\n"
        "@dataclass\n"
        "class Rubric:\n"
        "    weight: float = 1.0\n"
        "def f(answer):\n"
        "    from second_neighbour import FACTOR\n"
        "    return FACTOR * Rubric().weight * score(answer)\n"
    )
    assert load_function(f"{tmp_path / 'mine.py'}:f")("four") == 8


def test_a_file_runs_once_and_again_when_it_has_changed(tmp_path: Path):
    file, count = tmp_path / "mine.py", tmp_path / "count"
    text = f"open({str(count)!r}, 'a').write('x')\ndef f(answer): return 1\n"
    file.write_text(text)
    assert load_function(f"{file}:f") is load_function(f"{file}:f")
    assert count.read_text() == "x"
    file.write_text(text.replace("return 1", "return 2"))
    assert load_function(f"{file}:f")("a") == 2


@pytest.mark.parametrize("line", ["import sys; sys.exit(0)", "raise SystemExit", "1 / 0"])
def test_a_file_that_ends_the_program_is_refused(tmp_path: Path, line: str):
    (tmp_path / "mine.py").write_text(f"def f(answer): return 1\n{line}\n")
    with pytest.raises(UserError, match="cannot be run"):
        load_function(f"{tmp_path / 'mine.py'}:f")


# ---- settings


@pytest.mark.parametrize(
    "given",
    [
        {"reward": {"name": "judge", "samples": 2}},
        ["reward={name: judge, samples: 2}"],
        ["reward=judge", "reward.samples=2"],
        ["reward.samples=2", "reward=judge"],
    ],
)
def test_a_kind_of_reward_and_its_settings_are_said_in_any_form(given):
    """The reward model that the recipe named before does not become the grader."""
    assert load_recipe("grpo", given).reward == Judge(samples=2)


def test_a_reward_model_of_a_file_does_not_become_the_grader(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    text = "stage: online\ndata: demo:prompts\nalgorithm: grpo\n"
    file.write_text(text + "reward: runs/rm\n")
    assert load_recipe(file, ["reward={name: judge}"]).reward == Judge()
    file.write_text(text + "reward: judge\n")
    assert load_recipe(file, ["reward.samples=2"]).reward == Judge(samples=2)


def test_a_path_is_a_reward_too(tmp_path: Path):
    address = tmp_path / "mine.py:f"
    assert load_recipe("grpo", {"reward": address}).reward == Function(path=str(address))


@pytest.mark.parametrize(
    ("reward", "problem"),
    [
        (len, r"handed to bf\.train"),
        ({"name": "mix", "terms": [len, "a/b"], "weights": [1, 1]}, r"handed to bf\.train"),
        ({"name": "ensemble", "modles": ["a"]}, r"unknown setting 'reward\.modles'"),
    ],
)
def test_rewards_that_cannot_be_are_refused_in_words(reward, problem):
    with pytest.raises(UserError, match=problem):
        load_recipe("grpo", {"reward": reward})


def test_two_rewards_by_an_old_and_a_new_name_are_refused():
    with pytest.raises(UserError, match="both given"):
        load_recipe("ppo", ["reward_model=a/b", "reward=judge"])
    assert load_recipe("ppo", ["reward_model=a/b"]).reward.scorers() == ["a/b"]


def test_a_reward_that_a_chain_would_never_ask_is_refused():
    for given in (["ppo.reward=judge"], ["ppo.reward_model=a/b"]):
        faults = list(load_recipe("rlhf", given).faults())
        assert any("ppo.reward is set, but the chain" in fault for fault in faults)
    assert list(load_recipe("rlhf").faults()) == []


def test_a_weight_that_is_no_number_is_refused_and_an_unusual_one_is_remarked():
    mix = {"name": "mix", "terms": ["a/b"], "weights": [float("inf")]}
    assert any("weights[1] is inf" in f for f in load_recipe("grpo", {"reward": mix}).faults())
    some = {"name": "ensemble", "models": ["a/b", "c/d"], "uncertainty_coef": 50}
    advice = list(load_recipe("grpo", {"reward": some}).advice())
    assert any("reward.uncertainty_coef is 50" in one for one in advice)


def test_a_function_that_the_recipe_would_not_ask_is_refused(model: str, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("def f(answer): return 1.0\n")
    settings = {"model": model, "data": "demo:prompts", "run": tmp_path / "r", **QUICK}
    with pytest.raises(UserError, match="would never ask it"):
        bf.train(load_recipe("grpo", {**settings, "reward": f"{file}:f"}), reward=len)
    assert not (tmp_path / "r").exists()


def test_the_judge_of_rounds_rewards_too(model: str, tmp_path: Path):
    """``bf.verifier`` is handed the texts, not the tokens."""
    judge = bf.verifier(lambda prompt, answer: len(answer), model)
    run = bf.train("grpo", model=model, data=ROWS, run=tmp_path / "r", reward=judge, **QUICK)
    assert json.loads((run.folder / "summary.json").read_text())["reward_after"]["mean"] >= 0


@pytest.mark.parametrize(
    "given",
    [
        {"reward": {"name": "mix", "terms": ["a/b", {"name": "judge"}], "weights": [1, 0.5]}},
        {"reward_model": "a/b", "critic": "shared", "algorithm": {"vf_coef": 0.1}},
        {"reward_model": "a/b", "critic_init": "policy", "critic_optimizer": {"lr": 1e-4}},
        {"reward": "mine.py:f", "values": {"name": "monte_carlo", "answers": 3}},
    ],
)
def test_the_schema_of_a_recipe_takes_what_the_recipe_takes(given):
    load_recipe("ppo", given)
    for stage in ("online", "ppo"):
        jsonschema.validate({"stage": stage, "model": "m", **given}, schema(stage))


def test_the_schema_of_a_mix_refuses_terms_of_a_loss():
    mix = {"name": "mix", "terms": [{"name": "dpo"}], "weights": [1]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"stage": "online", "reward": mix}, schema("online"))


def test_monte_carlo_continuations_keep_the_least_length_of_the_whole_answer():
    """Three tokens at least of four at most: after two of them, one more at least."""
    asked: list[tuple[int, int]] = []

    class Engine(TorchEngine):
        def generate(self, prompts, params, **how):
            asked.append((params.min_tokens, params.max_tokens))
            return super().generate(prompts, params, **how)

    steps = TokenSteps.of([[5]], [[6, 7, 8]])
    drawn = Rollouts(steps, steps.mask, torch.zeros(1, 3), torch.tensor([0]), torch.tensor([True]))
    params = SamplingParams(max_tokens=4, min_tokens=3, stop_tokens=())
    source = MonteCarlo(
        Engine(tiny("llama")), params, lambda r: Judgement(r.mask.sum(-1).float()), 2, 2
    )
    assert source(None, drawn, torch.ones(1)).tolist() == [[4.0, 4.0, 4.0]]
    assert asked == [(3, 4), (1, 2)]
