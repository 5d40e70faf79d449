"""Rounds from a recipe to a finished run, on a tiny model: they learn, and they go on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import backflip as bf
from backflip.algorithms.preference.dpo import DPO
from backflip.data.batches import Rollouts
from backflip.errors import Interrupted
from backflip.models.load import resolve
from backflip.monitor.log import Alarm, MetricsLog, read_lines, read_metrics
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.reward.protocol import Judgement
from backflip.rounds import run as chain
from backflip.rounds.folders import RoundFolders, alarms_of
from backflip.rounds.policy_sampler import PolicySampler
from backflip.rounds.rows import Sat
from backflip.sampling.samples import read, unpack
from backflip.stages.direct import DirectRecipe

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK: dict[str, Any] = {
    "judge": "python",
    "data.validation": None,
    "data.held_out": 0.4,
    "prompts_per_round": 24,
    "answers_per_prompt": 8,
    "sampling.max_tokens": 6,
    "filters.cut_off": True,
    "validation_prompts": 32,
    "checkpoint_every": 4,
}
LEARNS = {"lora": None, "optimizer.lr": 1e-2, "epochs": 4, "batch_size": 8}


def even(rollouts: Rollouts) -> Judgement:
    """The share of even tokens; a second head says the same."""
    rows = rollouts.steps.answer.rows()
    scores = torch.tensor([float((row % 2 == 0).float().mean()) for row in rows])
    return Judgement(scores, {"heldout": scores + 1})


def rounds(name: str, model: str, data: str, run: Path, **settings: Any) -> Any:
    link = "sft" if name == "raft" else "direct"
    learns = {f"{link}.{key}": value for key, value in LEARNS.items()}
    given = {"model": model, "data": data, "run": str(run), **QUICK, **learns, **settings}
    return load_recipe(name, given)


def heard(recipe: Any, judge: Any = even) -> tuple[Path, str]:
    """(folder, what was said) of a run."""
    out = io.StringIO()
    folder = train(
        recipe, progress=Progress(Console(file=out, width=1000)), functions={"judge": judge}
    )
    return folder, out.getvalue()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "summary.json").read_text())["rounds"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(model: str, prompts: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three rounds of DPO without a break: its folder, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKFLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("runs") / "whole"
        return heard(rounds("iterative_dpo", model, prompts, folder))


# ---- they learn


def test_the_win_rate_against_round_0_goes_up(whole: tuple[Path, str]):
    rows = rows_of(whole[0])
    assert [row["round"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["win_rate"] == 0.5
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert rows[-1]["win_rate_low"] > 0.5
    assert rows[-1]["reward"] > rows[0]["reward"]
    assert rows[-1]["reward_gain_low"] > 0
    assert rows[-1]["kl"] > 0.5
    assert rows[-1]["win_rate_heldout"] == rows[-1]["win_rate"]  # the second head says the same
    assert rows[-1]["reward_heldout"] == pytest.approx(rows[-1]["reward"] + 1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("raft", {}),
        ("raft", {"imitate": {"name": "top_share", "share": 0.125}}),
        ("sppo_rounds", {}),
        ("iterative_dpo", {"pool": False, "reference": "previous", "choose": "best_random"}),
        ("iterative_dpo", {"start_from": "first"}),
    ],
    ids=["raft", "raft-global", "sppo", "previous", "from-the-first"],
)
def test_every_kind_of_round_raises_what_it_is_judged_by(
    name: str, settings: dict[str, Any], model: str, prompts: str, tmp_path: Path
):
    rows = rows_of(heard(rounds(name, model, prompts, tmp_path / "run", **settings))[0])
    assert rows[-1]["reward_gain"] > 0.05
    assert rows[-1]["win_rate"] > 0.5


def test_a_round_leaves_samples_what_was_chosen_a_run_and_a_row(whole: tuple[Path, str]):
    folder = whole[0]
    for number in (1, 2, 3):
        inside = {path.name for path in (folder / f"round_{number}").iterdir()}
        assert inside == {"sampled", "chosen.json", "direct", "held_out", "summary.json"}
    lines = list(read_lines(folder / "round_2" / "sampled" / "samples.jsonl"))
    assert len(lines) == 24 * 8
    assert {"prompt", "answer", "score", "heldout"} <= set(lines[0])
    asked = {line["prompt"] for line in lines}
    asked |= {s["prompt"] for s in read_lines(folder / "round_1" / "sampled" / "samples.jsonl")}
    said = json.loads((folder / "round_2" / "chosen.json").read_text())["direct"]
    assert said["rows"] + sum(said["dropped_prompts"].values()) == len(asked) > 24  # pooled
    assert resolve(str(folder)) == str(folder / "model")
    assert resolve(str(folder / "round_1")) == str(folder / "round_1" / "direct" / "model")


def test_answers_go_to_the_learner_as_the_tokens_that_were_sampled(
    model: str, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Random bytes do not survive decoding: every chosen answer is one of the sampled ones."""
    seen: list[Any] = []
    real = DirectRecipe.train
    monkeypatch.setattr(
        DirectRecipe, "train", lambda s, run, look: (seen.append(run.rows), real(s, run, look))[1]
    )
    folder, _ = heard(rounds("iterative_dpo", model, prompts, tmp_path / "run", rounds=1))
    found = read(folder / "round_1" / "sampled" / "samples.safetensors")
    assert found is not None
    sampled = unpack(found[0]).steps
    drawn = {tuple(sampled.sequence(row)) for row in range(len(sampled))}
    learnt = seen[0].answers.values
    assert len(learnt) == 48
    assert all(tuple(learnt.sequence(row)) in drawn for row in range(len(learnt)))


def test_a_round_starts_from_the_policy_before_it_and_holds_on_to_whom_it_is_told(
    whole: tuple[Path, str], model: str, prompts: str, tmp_path: Path
):
    first = load_recipe(whole[0] / "round_2" / "direct" / "recipe.yaml")
    assert first.model == str(whole[0] / "round_1" / "direct" / "model")
    assert first.reference == model  # type: ignore[union-attr]
    settings = {"rounds": 2, "start_from": "first", "prompts_per_round": 4}
    folder, _ = heard(rounds("iterative_dpo", model, prompts, tmp_path / "run", **settings))
    again = load_recipe(folder / "round_2" / "direct" / "recipe.yaml")
    assert again.model == model
    assert again.reference is None  # type: ignore[union-attr]


def test_the_next_policy_may_be_the_average_of_the_last_ones(
    model: str, prompts: str, tmp_path: Path
):
    settings = {"rounds": 2, "average": 2, "prompts_per_round": 8}
    folder, _ = heard(rounds("raft", model, prompts, tmp_path / "run", **settings))
    parts = [weights(folder / f"round_{number}" / "sft") for number in (1, 2)]
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def test_models_of_old_rounds_may_go_and_everything_else_stays(
    model: str, prompts: str, tmp_path: Path
):
    settings = {"keep_rounds": 1, "prompts_per_round": 6, "direct.epochs": 1}
    folder, _ = heard(rounds("iterative_dpo", model, prompts, tmp_path / "run", **settings))
    there = [(folder / f"round_{n}" / "direct" / "model").is_dir() for n in (1, 2, 3)]
    assert there == [False, False, True]
    assert (folder / "round_1" / "sampled" / "samples.safetensors").is_file()
    assert (folder / "round_1" / "direct" / "metrics.jsonl").is_file()
    assert len(rows_of(folder)) == 4


def test_what_goes_off_in_a_training_goes_off_in_its_round(tmp_path: Path):
    log = MetricsLog(tmp_path)
    log.alarms([Alarm(8, "chosen_falls", "warn", "look at it", "direct")])
    log.close()
    (alarm,) = alarms_of(tmp_path, 2, "direct")
    assert (alarm.step, alarm.stage) == (2, "iterative")
    assert alarm.sentence == "direct, step 8: look at it"


# ---- they go on


BREAKS = {
    "sampling": (PolicySampler, "__call__", 4),  # round 1, held-out prompts of 0 and 1, round 2
    "learning": (DPO, "loss", 20),  # twelve steps in round 1
    "measuring": (Sat, "of", 3),
    "writing": (chain, "write_atomically", 5),  # the row of round 2, which is logged already
}


@pytest.mark.parametrize("where", BREAKS)
def test_a_broken_chain_goes_on_to_the_same_bits(
    where: str, whole: tuple[Path, str], model: str, prompts: str, tmp_path: Path
):
    holder, name, call = BREAKS[where]
    inner, calls = getattr(holder, name), [0]

    def breaks(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return inner(*given, **named)

    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holder, name, staticmethod(breaks) if holder is Sat else breaks)
        with pytest.raises(Interrupted, match=f"backflip resume {tmp_path / 'run'}$"):
            train(recipe, functions={"judge": even})
    assert not (tmp_path / "run" / "round_2" / "summary.json").exists()
    kept = tmp_path / "run" / "round_1" / "sampled" / "samples.safetensors"
    before = kept.stat().st_mtime_ns
    resume(tmp_path / "run", functions={"judge": even})
    assert kept.stat().st_mtime_ns == before
    assert_same_run(tmp_path / "run", whole[0])


def assert_same_run(one: Path, other: Path) -> None:
    assert rows_of(one) == rows_of(other)
    for name, value in weights(other).items():
        assert torch.equal(weights(one)[name], value), name
    numbers = [[(e.step, e.metrics) for e in read_metrics(folder)] for folder in (one, other)]
    assert numbers[0] == numbers[1]
    answers = [list(read_lines(folder / "samples.jsonl")) for folder in (one, other)]
    assert answers[0] == answers[1]


def test_what_was_sampled_is_kept_where_scoring_breaks(model: str, prompts: str, tmp_path: Path):
    """The scorer dies in round 1; its answers are not drawn again."""
    recipe = rounds("iterative_dpo", model, prompts, tmp_path / "run", rounds=1)
    with pytest.raises(bf.UserError, match="out of order"):
        train(recipe, functions={"judge": _down})
    draws = sorted((tmp_path / "run" / "round_1" / "sampled" / "samples").glob("draws*"))
    assert draws
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PolicySampler, "__call__", _only_one_answer())
        resume(tmp_path / "run", functions={"judge": even})


def _down(rollouts: Rollouts) -> Judgement:
    raise RuntimeError("out of order")


def _only_one_answer() -> Any:
    inner = PolicySampler.__call__

    def call(self: PolicySampler, prompts: Any, *, seed: int) -> Rollouts:
        assert self.group_size == 1, "answers to learn from were drawn again"
        return inner(self, prompts, seed=seed)

    return call


# ---- what is shown


def test_the_report_draws_rounds_with_their_intervals(whole: tuple[Path, str]):
    page = (whole[0] / "report.html").read_text()
    assert "Win rate against round 0" in page
    assert page.count('class="area band') >= 4  # win rates and rewards, by both heads
    assert ">round</text>" in page
    assert "KL to the start" in page
    assert "too few to tell" in page
    assert "Before and after" in page


def test_metrics_are_one_line_a_round(whole: tuple[Path, str]):
    entries = read_metrics(whole[0])
    assert [entry.step for entry in entries] == [0, 1, 2, 3]
    last = entries[-1].metrics
    needed = {"win_rate", "win_rate_low", "reward", "length", "kl", "finished", "learnt_rows"}
    assert needed <= set(last)


def test_the_summary_stands_beside_the_first_round(whole: tuple[Path, str]):
    summary = bf.Run(whole[0]).summary
    rows = summary["rounds"]
    assert summary["reward_before"]["mean"] == rows[0]["reward"]
    assert summary["reward_after"]["mean"] == rows[-1]["reward"]
    assert summary["win_rate_low"] == rows[-1]["win_rate_low"]
    assert summary["reward_gain"]["low"] > 0


def test_why_prompts_taught_nothing_is_a_curve(model: str, prompts: str, tmp_path: Path):
    def coarse(rollouts: Rollouts) -> Judgement:
        """A judge with two grades: most prompts get the same for all four answers."""
        return Judgement((even(rollouts).scores > 0.9).float())

    settings = {"rounds": 1, "answers_per_prompt": 4}
    folder, said = heard(
        rounds("iterative_dpo", model, prompts, tmp_path / "run", **settings), coarse
    )
    metrics = read_metrics(folder)[-1].metrics
    dropped = metrics["dropped_all_usable_answers_score_the_same"]
    assert dropped == pytest.approx(1 - metrics["learnt_rows"] / 24)
    assert dropped > 0
    assert "all usable answers score the same" in said
    assert "Prompts that taught nothing" in (folder / "report.html").read_text()


@pytest.mark.parametrize("objective", ["tr_dpo", "simpo", "dpo"])
def test_only_a_reference_that_stays_is_the_first_model(
    objective: str, model: str, prompts: str, tmp_path: Path
):
    """SimPO compares with none, and TR-DPO's follows the policy: a second model would be idle."""
    recipe = rounds(
        "iterative_dpo", model, prompts, tmp_path / "run", **{"direct.objective": objective}
    )
    ((_, stage),) = RoundFolders(recipe, tmp_path / "run").stages(2)
    assert (stage.reference == model) is (objective == "dpo")
