"""Suites with real models: whoever scores answers, by the name of a run, a folder or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import backflip as bf
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.recipes.suites import evaluate_suite
from tests.evaluation.test_implicit import a_direct_run, a_policy_and_its_start
from tests.recipes.tiny import tiny_model
from tests.reward.test_panel import reward_model

PAIRS = [
    {"prompt": f"Is it {i}?", "chosen": f"Yes, {i}.", "rejected": f"It is not {i}, I say."}
    for i in range(12)
]
"""As ``bf.evaluate`` reads them; and with columns of a benchmark beside."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("pairs")
    write_jsonl(folder / "plain.jsonl", PAIRS)
    marked = [row | {"id": n, "subset": "llmbar-natural"} for n, row in enumerate(PAIRS)]
    write_jsonl(folder / "bench.jsonl", marked)
    return str(folder / "plain.jsonl"), str(folder / "bench.jsonl")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


def test_a_reward_model_has_the_accuracy_that_its_report_gives(
    pairs: tuple[str, str], tmp_path: Path
):
    judge = reward_model(tmp_path / "judge", seed=3)
    accuracy = bf.evaluate(judge, pairs[0]).measured.accuracy.estimate
    bench = evaluate_suite(judge, "rewardbench", pairs[1])
    assert bench["accuracy"].value.estimate == pytest.approx(accuracy)
    assert bench["score"].value.estimate == pytest.approx(accuracy)
    judged = evaluate_suite(judge, "judge", pairs[1])
    assert judged["both"].value.estimate == pytest.approx(accuracy)
    assert judged["agree"].value.estimate == 1


def test_a_direct_run_scores_by_what_it_implies(
    pairs: tuple[str, str], tmp_path: Path, own_cache: None
):
    models = a_policy_and_its_start(tmp_path / "models")
    run = a_direct_run(tmp_path / "run", models, objective={"name": "dpo", "beta": 0.25})
    accuracy = bf.evaluate(run, pairs[0]).measured.accuracy.estimate
    bench = evaluate_suite(run, "rewardbench", pairs[1])
    assert bench["accuracy"].value.estimate == pytest.approx(accuracy)


def test_a_language_model_judges_by_its_tokens(pairs: tuple[str, str], model: str):
    judged = evaluate_suite(model, "judge", pairs[1], by="token", limit=4)
    assert judged["none"].value.estimate == 0
    in_words = evaluate_suite(model, "judge", pairs[1], max_tokens=4, limit=4)
    assert in_words["none"].value.estimate == 1
    assert "gave no verdict in 8 of 8 replies" in " ".join(in_words.sentences)
    bench = evaluate_suite(model, "rewardbench", pairs[1], limit=4)
    assert 0 <= bench["accuracy"].value.estimate <= 1


def test_both_protocols_run_with_models_of_any_kind(model: str, tmp_path: Path):
    """A random model answers; a random one and a random reward model judge."""
    write_jsonl(tmp_path / "q.jsonl", [{"question_id": 1, "turns": ["a", "b"], "category": "math"}])
    questions, judge = str(tmp_path / "q.jsonl"), reward_model(tmp_path / "judge", seed=1)
    asked = {"data": questions, "max_tokens": 4}
    rated = evaluate_suite(model, "mt_bench", judge=model, by="token", **asked)
    assert 1 <= rated["score"].value.estimate <= 10
    pair = evaluate_suite(model, "mt_bench", judge=judge, mode="pair", baseline=model, **asked)
    assert pair["score"].value.estimate == 0.5, "the same answers are a tie"
    write_jsonl(tmp_path / "b.jsonl", [{"uid": 1, "answer": "no"}])
    write_jsonl(tmp_path / "p.jsonl", [{"uid": 1, "prompt": "Is it?"}])
    asked = {"data": str(tmp_path / "p.jsonl"), "max_tokens": 4, "out": tmp_path / "out"}
    hard = evaluate_suite(
        model, "arena_hard", judge=judge, baseline=str(tmp_path / "b.jsonl"), **asked
    )
    assert hard["score"].value.estimate in (0, 0.5, 1)
    assert "Style alike" in (tmp_path / "out" / "arena_hard.html").read_text(encoding="utf-8")


def test_a_file_alone_is_the_data_and_has_nobody_to_ask(tmp_path: Path, pairs: tuple[str, str]):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "scores_chosen": 1, "scores_rejected": 0}
    ]
    write_jsonl(tmp_path / "scored.jsonl", rows)
    found = evaluate_suite(str(tmp_path / "scored.jsonl"), "rewardbench")
    assert found["accuracy"].value.estimate == 1
    with pytest.raises(UserError, match="names no model to ask"):
        evaluate_suite(pairs[1], "rewardbench")
