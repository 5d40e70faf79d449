"""Rewards and values as settings: functions, verdicts, ensembles, mixes, what prompts carry."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import backflip as bf
from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.formats import load
from backflip.data.records import Prompt, messages
from backflip.data.sources import write_jsonl
from backflip.data.writing import as_row
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.torch.engine import TorchEngine
from backflip.monitor.log import read_metrics
from backflip.recipes import slips
from backflip.recipes.load import load_recipe
from backflip.reward.calls import arguments, load_function
from backflip.reward.protocol import Judgement
from backflip.reward.verifier import Verdict
from backflip.training.drawn_values import MonteCarlo
from tests.models.families import tiny
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK = {
    "steps": 2,
    "prompts_per_step": 4,
    "answers_per_prompt": 2,
    "sampling.max_tokens": 4,
    "validation_prompts": 3,
    "threads": 1,
    "algorithm.epochs": 1,
}
PROMPT = Prompt(messages(("user", "2 + 2?")), reference="4", info={"level": 3})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def sums(tmp_path: Path) -> str:
    rows = [{"prompt": f"{n} + 1?", "solution": str(n + 1), "level": n % 3} for n in range(40)]
    write_jsonl(tmp_path / "sums.jsonl", rows)
    return str(tmp_path / "sums.jsonl")


def rollouts(count: int) -> Rollouts:
    steps = TokenSteps.of([[5]] * count, [[6, 7]] * count)
    ended = torch.ones(count, dtype=torch.bool)
    logp = torch.zeros(steps.mask.shape)
    return Rollouts(steps, steps.mask, logp, torch.arange(count), ended)


# ---- prompts carry what judges need


def test_a_prompt_has_its_reference_answer_and_further_columns(sums: str):
    first = load(sums, Prompt).records[0]
    assert (first.reference, first.info) == ("1", {"level": 0})


def test_an_answered_question_gives_its_answer_as_reference(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [{"question": "2 + 2?", "answer": "4", "topic": "sums"}])
    (found,) = load(str(tmp_path / "a.jsonl"), Prompt).records
    assert (found.reference, found.info) == ("4", {"topic": "sums"})


def test_a_column_of_another_name_is_the_reference_where_it_is_said(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "2 + 2?", "gold": "4"}])
    (found,) = load(str(tmp_path / "a.jsonl"), Prompt, columns={"reference": "gold"}).records
    assert (found.reference, found.info) == ("4", {})


def test_a_prompt_that_is_written_down_is_read_back(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [as_row(PROMPT)])
    (found,) = load(str(tmp_path / "a.jsonl"), Prompt).records
    assert (found, found.reference, found.info) == (PROMPT, "4", {"level": 3})


# ---- functions


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (lambda answer: answer, "four"),
        (lambda x: x, "four"),
        (lambda a, b: (a, b), ("2 + 2?", "four")),
        (lambda prompt, answer: (prompt, answer), ("2 + 2?", "four")),
        (lambda answer, reference: (answer, reference), ("four", "4")),
        (lambda answer, level: (answer, level), ("four", 3)),
        (lambda answer, *, level=0: level, 3),
        (lambda answer, other=7: other, 7),
        (lambda info: info, {"level": 3}),
        (lambda **all_: sorted(all_), sorted([*"level", ""])[:0] or None),
    ],
)
def test_a_function_is_handed_what_its_parameters_ask_for(function, given):
    args, named = arguments(function, "2 + 2?", "four", PROMPT)
    said = function(*args, **named)
    if given is None:
        given = ["answer", "info", "level", "messages", "prompt", "reference"]
    assert said == given


def test_a_parameter_that_nobody_can_give_is_named():
    with pytest.raises(UserError, match=r"asks for 'colour'.*there are: level"):
        arguments(lambda answer, reference, colour: 0, "p", "a", PROMPT)


@pytest.mark.parametrize(
    ("said", "outcome", "score"),
    [
        (True, "correct", 1.0),
        (False, "incorrect", 0.0),
        (0.25, "scored", 0.25),
        (torch.tensor(2.0), "scored", 2.0),
        (Verdict("unparsable"), "unparsable", 0.0),
        (Verdict("correct", 2.0), "correct", 2.0),
        (Verdict("timeout"), "timeout", None),
        (None, "error", None),
        ("good", "error", None),
        (math.nan, "error", None),
    ],
)
def test_a_result_is_a_verdict(said, outcome, score):
    verdict = Verdict.of(said)
    assert (verdict.outcome, verdict.score) == (outcome, score)


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (None, "f", "there is no file"),
        ("def g(answer): return 1", "f", r"has no function 'f'; it has: g"),
        ("1 / 0", "f", "cannot be run: ZeroDivisionError"),
    ],
)
def test_a_function_that_is_not_there_is_refused(tmp_path: Path, text, name, problem):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=problem):
        load_function(f"{file}:{name}")


def test_a_run_is_rewarded_by_a_function_in_a_file(model: str, sums: str, tmp_path: Path):
    """With a reference and a column; where it fails, the answer teaches nothing and is counted."""
    file = tmp_path / "mine.py"
    file.write_text(
        "def near(answer, reference, level):\n"
        "    if level == 2:\n"
        "        raise OSError('down')\n"
        "    assert reference.isdigit()\n"
        "    return -abs(len(answer) - len(reference))\n"
    )
    run = bf.train(
        "ppo", model=model, data=sums, run=str(tmp_path / "run"), reward=f"{file}:near",
        **{**QUICK, "steps": 3, "prompts_per_step": 8, "shaping.missing_eos": None},
    )  # fmt: skip
    steps = [entry.metrics for entry in read_metrics(run.folder) if entry.step > 0]
    assert all(entry["reward"] <= 0 for entry in steps)
    assert any(0 < entry.get("unscored", 0) < 1 for entry in steps)
    written = (run.folder / "recipe.yaml").read_text()
    assert f"path: {file}:near" in written


def test_a_function_of_python_is_handed_over_and_asked_for_again(
    model: str, sums: str, tmp_path: Path
):
    folder = tmp_path / "run"
    settings = {**QUICK, "shaping.missing_eos": None}
    run = bf.train("ppo", model=model, data=sums, run=str(folder), reward=len, **settings)
    assert all(e.metrics["reward"] >= 0 for e in read_metrics(run.folder) if e.step > 0)
    recipe = load_recipe("ppo", {"reward": "python", "model": model, "data": sums, **settings})
    with pytest.raises(UserError, match="reward=FUNCTION"):
        bf.train(recipe)


def test_answers_none_of_which_can_be_scored_stop_the_run(model: str, sums: str, tmp_path: Path):
    def broken(answer: str) -> float:
        raise OSError("the service is down")

    with pytest.raises(UserError, match=r"none of \d+ answers has a score: .*service is down"):
        bf.train("ppo", model=model, data=sums, run=str(tmp_path / "r"), reward=broken, **QUICK)


def test_a_verifier_says_what_each_verdict_scores(model: str, sums: str, tmp_path: Path):
    """Half of the prompts cannot be checked: their share stands in the log beside ``unscored``."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from backflip.reward.verifier import Verdict\n"
        "def right(answer, reference):\n"
        "    if int(reference) % 2:\n"
        "        return Verdict('timeout', reason='too slow')\n"
        "    return Verdict('correct' if reference in answer else 'unparsable')\n"
    )
    reward = {"name": "verifier", "path": f"{file}:right", "correct": 5.0, "unparsable": -2.0}
    settings = {**QUICK, "steps": 3, "prompts_per_step": 8, "shaping.missing_eos": None}
    run = bf.train(
        "ppo", model=model, data=sums, run=str(tmp_path / "r"), reward=reward, **settings
    )
    steps = [entry.metrics for entry in read_metrics(run.folder) if entry.step > 0]
    assert any(entry.get("reward_timeout", 0) > 0 for entry in steps)
    assert all(entry.get("reward_timeout", 0) == entry.get("unscored", 0) for entry in steps)
    assert min(entry["reward"] for entry in steps) == -2.0
    wrong = {"name": "verifier", "path": f"{file}:right", "incorrect": 2.0}
    (fault,) = load_recipe("grpo", {"reward": wrong}).faults()
    assert "wrong answers would be paid for" in fault


# ---- several sources


def test_several_functions_from_python_are_handed_over_at_once(
    model: str, sums: str, tmp_path: Path
):
    """Two of them have one name; each is watched under its own, and asked for again by resume."""
    brevity = lambda answer: -len(answer)  # noqa: E731
    odd = lambda answer, reference: int(reference) % 2  # noqa: E731
    settings = {**QUICK, "shaping.missing_eos": None, "steps": 1}
    run = bf.train(
        "ppo", model=model, data=sums, run=str(tmp_path / "a"), reward=[brevity, odd], **settings
    )
    step = next(entry.metrics for entry in read_metrics(run.folder) if entry.step > 0)
    parts = [value for name, value in step.items() if name.startswith("reward_<lambda>")]
    assert step["reward"] == pytest.approx(sum(parts))
    recipe = load_recipe(str(run.folder / "recipe.yaml"), {"run": str(tmp_path / "b")})
    with pytest.raises(UserError, match=r"rewarded by a function <lambda>.*reward=\[FUNCTION"):
        bf.train(recipe)


def test_a_list_of_rewards_is_their_sum():
    mix = load_recipe("grpo", ["reward=[exact, {name: length, most: 9}]"]).reward
    assert mix.weights == (1.0, 1.0)
    both = {"name": "mix", "terms": ["exact", "length"], "weights": [1, 1], "whiten": True}
    assert load_recipe("grpo", {"reward": both}).reward.whiten is True
    bad = {"name": "mix", "terms": ["exact"], "weights": [1], "clip": -1}
    assert any("clip is -1" in fault for fault in load_recipe("grpo", {"reward": bad}).faults())


def test_a_mix_is_written_in_a_recipe(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("def brief(answer): return -len(answer)")
    mix = {"name": "mix", "terms": ["some/model", f"{file}:brief"], "weights": [1, 0.1]}
    recipe = load_recipe("ppo", {"reward": mix})
    assert recipe.reward.scorers() == ["some/model"]
    assert list(recipe.faults()) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["reward=judge", "reward.samples=2"], ("judge", "self", 2)),
        (["reward={name: judge, samples: 2}"], ("judge", "self", 2)),
        (["reward=some/rm"], ("model", "some/rm", None)),
    ],
)
def test_a_reward_of_another_kind_keeps_nothing_of_the_recipes_own(overrides, said):
    slips.check("ppo", overrides)
    reward = load_recipe("ppo", overrides).model_dump()["reward"]
    assert (reward["name"], reward["model"], reward.get("samples")) == said


def test_settings_of_a_reward_are_given_one_by_one():
    given = ["reward=ensemble", "reward.models=[a/b, c/d]", "reward.combine=worst"]
    slips.check("grpo", given)
    reward = load_recipe("grpo", given).reward
    assert (reward.scorers(), reward.combine) == (["a/b", "c/d"], "worst")


def test_the_column_of_a_reference_answer_is_no_model():
    slips.check("ppo", ["data.columns.reference=solution"])
    with pytest.raises(UserError, match="reference: there is no model"):
        slips.check("dpo", ["reference=solution"])


# ---- values


def test_monte_carlo_values_are_the_mean_score_of_continuations():
    """A reward of the answer's length, when none ends before 4: every state expects 4."""
    engine = TorchEngine(tiny("llama"))
    params = SamplingParams(max_tokens=4, stop_tokens=())
    drawn = rollouts(2)

    def length(said: Rollouts) -> Judgement:
        return Judgement(said.mask.sum(-1).float())

    values = MonteCarlo(engine, params, length, answers=3, every=1)(None, drawn, torch.ones(2))
    assert values.tolist() == [[4.0, 4.0], [4.0, 4.0]]


@pytest.mark.parametrize("values", ["monte_carlo", "shared"])
def test_every_source_of_values_trains(model: str, sums: str, tmp_path: Path, values: str):
    weight = {"algorithm.vf_coef": 0.1} if values == "shared" else {}
    run = bf.train(
        "ppo", model=model, data=sums, run=str(tmp_path / "r"), reward=len, values=values,
        **QUICK, **weight,
    )  # fmt: skip
    assert json.loads((run.folder / "summary.json").read_text())["steps"] == 2


# ---- old names


def test_old_names_of_the_roles_mean_what_they_meant():
    old = load_recipe(
        "ppo", ["reward_model=m", "critic_init=policy", "critic_optimizer.lr=1e-4", "run=r"]
    )
    new = load_recipe(
        "ppo",
        {
            "reward": {"name": "model", "model": "m"},
            "values": {"name": "critic", "init": "policy", "optimizer": {"lr": 1e-4}},
            "run": "r",
        },
    )
    assert old == new
    assert load_recipe("rlhf", ["ppo.critic=shared", "ppo.algorithm.vf_coef=0.1"]).ppo.values


# ---- functions apart


def test_a_function_in_a_file_that_hangs_or_dies_costs_its_own_answers(
    model: str, sums: str, tmp_path: Path
):
    file = tmp_path / "mine.py"
    file.write_text(
        "import os, time\n"
        "def odd(answer, reference):\n"
        "    if int(reference) % 8 == 1:\n"
        "        time.sleep(1000)\n"
        "    if int(reference) % 8 == 2:\n"
        "        os._exit(1)\n"
        "    return len(answer)\n"
    )
    reward = {"name": "function", "path": f"{file}:odd", "seconds": 0.2}
    settings = {**QUICK, "prompts_per_step": 8, "shaping.missing_eos": None, "steps": 1}
    settings["validation_prompts"] = 1
    run = bf.train(
        "ppo", model=model, data=sums, run=str(tmp_path / "r"), reward=reward, **settings
    )
    steps = [entry.metrics for entry in read_metrics(run.folder) if entry.step > 0]
    assert steps[0]["reward_timeout"] > 0
    assert steps[0]["unscored"] == pytest.approx(
        steps[0]["reward_timeout"] + steps[0]["reward_error"]
    )
