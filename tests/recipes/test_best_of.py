"""Best of n at inference, from Python and from the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import backflip as bf
from backflip.cli import main as cli
from backflip.data.sources import write_jsonl
from backflip.recipes.load import load_recipe
from backflip.recipes.run import train
from tests.recipes.test_rounds import even
from tests.recipes.tiny import tiny_model


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    write_jsonl(path, [{"prompt": f"Is {n} even?"} for n in range(20)])
    return str(path)


@pytest.fixture(scope="module")
def judge(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("runs") / "rm"
    given = {"model": model, "run": str(run), "data.limit": 16, "held_out_head": True}
    return str(train(load_recipe("reward_model", given)))


def test_more_answers_to_choose_from_earn_more_and_cost_kl(
    model: str, prompts: str, tmp_path: Path
):
    found = bf.best_of_n(model, prompts, even, n=8, out=tmp_path / "best.jsonl", max_tokens=6)
    assert [point.n for point in found.points] == [1, 2, 4, 8]
    rewards = [point.reward.estimate for point in found.points]
    assert rewards == sorted(rewards)
    assert found.points[-1].reward.low > found.points[0].reward.high
    for point in found.points:
        assert point.kl == pytest.approx(math.log(point.n) - (point.n - 1) / point.n)


def test_the_answers_written_are_the_best_ones(model: str, prompts: str, tmp_path: Path):
    found = bf.best_of_n(model, prompts, even, n=8, out=tmp_path / "best.jsonl", max_tokens=6)
    lines = [json.loads(line) for line in found.answers.read_text().splitlines()]
    assert [line["prompt"] for line in lines] == [f"Is {n} even?" for n in range(20)]
    mean = sum(line["score"] for line in lines) / len(lines)
    assert mean == pytest.approx(found.points[-1].reward.estimate)


def test_the_command_prints_the_curve_of_both_heads(
    model: str, prompts: str, judge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "best.jsonl"
    words = [model, prompts, f"reward_model={judge}", "n=4", "max_tokens=5", f"out={out}"]
    with pytest.raises(SystemExit) as left:
        cli.main(["best-of-n", *words, "--json"])
    assert not left.value.code
    said = json.loads(capsys.readouterr().out)
    assert [point["n"] for point in said["points"]] == [1, 2, 4]
    assert {"reward", "reward_low", "reward_heldout"} <= set(said["points"][0])
    assert len(out.read_text().splitlines()) == said["prompts"] == 20
    with pytest.raises(SystemExit):
        cli.main(["best-of-n", *words])
    text = capsys.readouterr().out
    assert "expected reward" in text
    assert "log n − (n − 1)/n" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "who chooses?"),
        (["reward_model=x", "n=1"], "best of n needs 2 answers"),
        (["reward_model=x", "n=two"], "n is 'two'; it must be a whole number"),
        (["reward_model=x", "temperature=0"], "would be the same"),
        (["reward_modl=x"], "Did you mean reward_model?"),
    ],
)
def test_slips_are_answered_in_one_line(
    words: list[str], said: str, model: str, prompts: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        cli.main(["best-of-n", model, prompts, *words])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_a_judge_of_other_tokens_is_refused(model: str, prompts: str, judge: str, tmp_path: Path):
    other = tiny_model(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["unheard-of"])
    tokenizer.save_pretrained(other)
    with pytest.raises(bf.UserError, match="another tokenizer"):
        bf.best_of_n(str(other), prompts, judge, n=2, out=tmp_path / "best.jsonl")


def test_prompts_in_memory_are_answered_and_what_is_not_used_is_said(model: str, tmp_path: Path):
    rows = [{"ask": f"Is {n} even?", "zeal": n} for n in range(4)] + [{"ask": None, "zeal": 1}]
    given = {"out": tmp_path / "best.jsonl", "max_tokens": 4, "columns": {"prompt": "ask"}}
    found = bf.best_of_n(model, rows, even, n=2, **given)
    assert found.prompts == 4
    assert any(note == "not used: zeal" for note in found.notes)
    assert any(note.startswith("left out: 1 × no prompt") for note in found.notes)
