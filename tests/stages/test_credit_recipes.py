"""Recipes whose advantages need more than a score: further answers, a critic, a teacher, a mix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import backflip as bf
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.monitor.log import read_metrics
from backflip.monitor.outcomes import VERDICTS
from backflip.recipes.load import load_recipe
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK: dict[str, Any] = {
    "steps": 2,
    "prompts_per_step": 2,
    "answers_per_prompt": 2,
    "sampling.max_tokens": 4,
    "validation_prompts": 2,
    "threads": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    write_jsonl(path, [{"prompt": f"{n} + 1?"} for n in range(20)])
    return str(path)


def trained(name: str, model: str, prompts: str, folder: Path, **settings: Any) -> list[Any]:
    run = bf.train(name, model=model, data=prompts, run=str(folder / "r"), **{**QUICK, **settings})
    return [entry.metrics for entry in read_metrics(run.folder) if "kl" in entry.metrics]


def test_a_greedy_answer_is_the_baseline_of_remax(model: str, prompts: str, tmp_path: Path):
    seen: list[str] = []

    def length(answer: str) -> int:
        seen.append(answer)
        return len(answer)

    first, _ = trained("remax", model, prompts, tmp_path, reward=length, answers_per_prompt=1)
    assert first["greedy_reward"] >= -1
    # Validations before and after, of two answers each; in each step two answers and two greedy.
    assert len(seen) == 2 + 2 * (2 + 2) + 2


def test_only_the_critic_learns_in_the_first_steps_of_vapo(
    model: str, prompts: str, tmp_path: Path
):
    first, second = trained(
        "vapo", model, prompts, tmp_path, reward=len, **{"algorithm.value_steps": 1}
    )
    assert "value_loss" in first
    assert "policy_loss" not in first
    assert {"value_loss", "policy_loss"} <= second.keys()
    assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert second["kl"] == pytest.approx(0, abs=1e-4), "the policy is as it was"


def test_values_stand_at_the_lines_of_vineppo(model: str, prompts: str, tmp_path: Path):
    settings = {"values.answers": 2, "algorithm.epochs": 1}
    first, _ = trained("vineppo", model, prompts, tmp_path, reward=len, **settings)
    assert first["continued_states"] >= 0
    assert load_recipe("vineppo", []).values.at == "lines"


def test_a_verifier_rewards_ppo_with_a_critic_in_rlvr(model: str, tmp_path: Path):
    path = tmp_path / "asked.jsonl"
    write_jsonl(path, [{"prompt": f"{n} + 1?", "answer": f"{n + 1}"} for n in range(20)])
    for entry in trained("rlvr", model, str(path), tmp_path, reward="exact"):
        assert {"value_loss", "policy_loss"} <= entry.keys()
        assert sum(entry.get(f"reward_{name}", 0.0) for name in VERDICTS) == pytest.approx(1)
    assert load_recipe("rlvr", []).reward.correct == 10


def test_a_teacher_grades_every_token(model: str, prompts: str, tmp_path: Path):
    """The policy is its own teacher at first, so nothing is to be learnt."""
    settings = {"reward": {"name": "teacher", "model": model}}
    first, _ = trained("on_policy_distillation", model, prompts, tmp_path, **settings)
    assert first["reward"] == pytest.approx(0, abs=1e-3)
    with pytest.raises(UserError, match=r"reward\.model is needed"):
        bf.train("on_policy_distillation", model=model, data=prompts, run=str(tmp_path / "s"))


def test_gdpo_hears_each_reward_of_a_mix(model: str, prompts: str, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "def long(answer): return len(answer)\ndef even(answer): return len(answer) % 2\n"
    )
    terms = [f"{tmp_path}/mine.py:long", f"{tmp_path}/mine.py:even"]
    mix = {"name": "mix", "terms": terms, "weights": [1, 0.5]}
    (first, _) = trained("gdpo", model, prompts, tmp_path, reward=mix)
    assert {"reward_long", "reward_even"} <= first.keys()


def test_dr_grpo_divides_by_the_longest_answer_that_may_be_drawn(
    model: str, prompts: str, tmp_path: Path
):
    assert len(trained("dr_grpo", model, prompts, tmp_path, reward=len)) == 2
    assert "length: 4" in (tmp_path / "r" / "recipe.yaml").read_text()
