"""Environments as a setting: runs from a recipe, and what is refused before anything loads."""

from __future__ import annotations

from pathlib import Path

import pytest

import backflip as bf
from backflip.data.sources import write_jsonl
from backflip.monitor.log import read_metrics
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = {
    "steps": 2,
    "prompts_per_step": 3,
    "answers_per_prompt": 2,
    "sampling.max_tokens": 6,
    "validation_prompts": 2,
    "threads": 1,
    "algorithm.epochs": 1,
    "shaping": {"missing_eos": None},
    "sampling.stop_tokens": list(range(3, 150)),  # a random model seldom says its own
}
GAME = '''
class Game:
    """Ends after three turns; each is worth what it is long."""

    def reset(self, seed=None, **columns):
        self.turn = 0
        return " Say something.", {}

    def step(self, action):
        self.turn += 1
        return "go on", len(action) / 10, self.turn == 3, False, {}
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    rows = [{"prompt": f"Guess {n}.", "answer": str(n)} for n in range(12)]
    write_jsonl(tmp_path / "prompts.jsonl", rows)
    return str(tmp_path / "prompts.jsonl")


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_a_policy_learns_in_an_environment_from_a_file(
    algorithm: str, model: str, prompts: str, tmp_path: Path
):
    (tmp_path / "game.py").write_text(GAME)
    environment = {"path": f"{tmp_path / 'game.py'}:Game", "turns": 3, "tokens": 100}
    run = bf.train(
        algorithm,
        model=model,
        data=prompts,
        run=str(tmp_path / "run"),
        environment=environment,
        **QUICK,
    )
    steps = [e for e in read_metrics(tmp_path / "run") if "reward_turns" in e.metrics]
    assert len(steps) == run.summary["steps"] == 2
    assert all(1 <= e.metrics["reward_turns"] <= 3 for e in steps)
    assert any(e.metrics["reward"] > 0 for e in steps)


def test_greedy_answers_to_held_out_prompts_are_played_in_their_own_environments(
    model: str, prompts: str, tmp_path: Path
):
    """The judge sees the reference of the very row that its environment was reset with."""
    (tmp_path / "game.py").write_text(
        f"""
class Game:
    def reset(self, seed=None, answer="", prompt="", **columns):
        self.answer = answer
        return f"Say {{answer}}.", {{}}

    def step(self, action):
        return "", 0.0, True, False, {{}}


def judge(prompt, answer, reference):
    with open({str(tmp_path / "seen")!r}, "a") as seen:
        print(reference, f"Say {{reference}}." in prompt, file=seen)
    return len(answer) % 2 == 0
"""
    )
    bf.train(
        "grpo",
        model=model,
        data={"source": prompts, "columns.reference": "answer"},
        run=str(tmp_path / "run"),
        environment={"path": f"{tmp_path / 'game.py'}:Game", "turns": 1},
        reward=f"{tmp_path / 'game.py'}:judge",
        **QUICK,
    )
    seen = (tmp_path / "seen").read_text().split()
    assert seen[1::2] == ["True"] * (len(seen) // 2)
    assert len(seen) // 2 > 2 * 6, "held-out prompts are judged beside the twelve answers learnt"
