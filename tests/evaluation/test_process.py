"""Process reward models: what is measured of them, by hand, and a small one from data to disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backflip as bf
from backflip.data.batches import TokenSteps
from backflip.data.ragged import Ragged
from backflip.data.solution_batches import SolutionBatch
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.evaluation.process import ProcessReport, process_report
from backflip.functional.statistics import jackknife_interval, mean_interval
from backflip.models.process import load_process_model
from backflip.models.save import load_reward_model
from tests.recipes.tiny import tiny_model


def batch(*solutions: tuple[int, Sequence[int | None], bool]) -> SolutionBatch:
    """(question, 1 good or 0 bad or None for each step, finished) of each solution."""
    known = [[(n, g) for n, g in enumerate(labels) if g is not None] for _, labels, _ in solutions]
    flat = [[1.0 - g, 0.0, float(g)] for row in known for _, g in row]
    numbers = Ragged.of([[n for n, _ in row] for row in known])
    return SolutionBatch(
        steps=TokenSteps.of([[q] for q, _, _ in solutions], [[1] * 9 for _ in solutions]),
        ends=numbers,
        labels=Ragged(torch.tensor(flat), numbers.offsets),
        number=numbers,
        whole=torch.tensor([done and None not in labels for _, labels, done in solutions]),
        weight=torch.ones(len(solutions)),
    )


def test_the_first_error_must_be_found_and_nothing_before_it():
    """ProcessBench: found; too early; too late; none, and one, where there is none."""
    data = batch(
        (0, [1, 0, None], True),
        (1, [1, 0, None], True),
        (2, [1, 0, 1], True),
        (3, [1, 1], True),
        (4, [1, 1], True),
        (5, [1, None], True),  # who knows what comes
        (6, [1, 1], False),
    )
    said = [[0.9, 0.1], [0.2, 0.1], [0.9, 0.8, 0.1], [0.9, 0.6], [0.9, 0.4], [0.9], [0.1, 0.9]]
    found = process_report(said, data)
    assert found.decided == (3, 2)
    assert found.erroneous.estimate == pytest.approx(1 / 3)
    assert found.correct.estimate == pytest.approx(1 / 2)
    assert found.f1.estimate == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert (found.steps, found.solutions, found.questions) == (14, 7, 7)
    wrong = 5  # [1]: 0.2 for a good one; [2]: 0.8 for a bad and 0.1 for a good one; [4]; [6]
    assert found.accuracy.estimate == pytest.approx(1 - wrong / 14)
    assert found.good == pytest.approx(11 / 14)


def test_without_errors_there_is_no_f1():
    found = process_report([[0.9, 0.8]], batch((0, [1, 1], True)))
    assert found.to_json()["f1"] is None
    assert any("No solution with an error" in sentence for sentence in found.sentences)
    with pytest.raises(UserError, match="threshold is 1"):
        process_report([[0.9]], batch((0, [1], True)), threshold=1.0)


def test_solutions_of_one_question_are_one_unit():
    """The same verdicts on one question four times over tell no more than once."""
    rows = [(q, [1, 0], True) for q in range(6)] + [(q, [1, 1], True) for q in range(6)]
    said = [[0.9, 0.1 if q % 2 else 0.9] for q in range(6)] + [[0.9, 0.6]] * 6
    once = process_report(said, batch(*rows))
    again = process_report(said * 4, batch(*rows * 4))
    assert again.f1.units == once.f1.units == 6
    assert (again.f1.low, again.f1.high) == pytest.approx((once.f1.low, once.f1.high))
    assert again.accuracy.units == once.accuracy.units == 6


def test_the_jackknife_of_a_mean_is_its_interval():
    x = np.array([0.3, 0.1, 0.9, 0.4, 0.7, 0.2])
    without = (x.sum() - x) / (len(x) - 1)
    a, b = jackknife_interval(x.mean(), without), mean_interval(x)
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def rows(many: int) -> list[dict[str, Any]]:
    """A step is good where its number is that of the question; the third kind is neutral."""
    made = []
    for n in range(many):
        right = [1, -1, 1] if n % 2 else [1, 1, 1]
        steps = [f"say {'A' if good == 1 else 'B'}" for good in right]
        made.append({"prompt": f"Question {n}?", "steps": steps, "step_labels": right})
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("prm")
    write_jsonl(folder / "steps.jsonl", rows(60))
    run = bf.train(
        "process_reward_model",
        model=str(tiny_model(folder / "tiny")),
        data={"source": str(folder / "steps.jsonl"), "held_out": 0.3},
        run=str(folder / "run"),
        lora=None,
        epochs=6,
        optimizer={"lr": 1e-2},
        eval_every=100,
    )
    return folder, run.summary


def test_a_process_model_learns_what_its_steps_have_in_common(trained: tuple[Path, dict[str, Any]]):
    folder, summary = trained
    assert summary["accuracy"] > summary["good"]
    assert summary["f1"] > 0.9
    report = bf.evaluate(folder / "run", str(folder / "steps.jsonl"), limit=20)
    assert isinstance(report, ProcessReport)
    assert report.f1.estimate > 0.9
    text = (folder / "run" / "report.html").read_text()
    assert "F1 of first errors" in text
    assert "of the held-out steps" in text


def test_plain_transformers_read_the_last_step_of_what_they_are_given(
    trained: tuple[Path, dict[str, Any]],
):
    """The logits of the saved classifier, at the end of each step, are the model's own."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from backflip.data.chat import ChatTemplate
    from backflip.data.formats import load
    from backflip.data.solution_batches import tokenize_solutions

    folder, _ = trained
    place = folder / "run" / "model"
    plain = AutoModelForSequenceClassification.from_pretrained(place)
    ours = load_process_model(str(folder / "run"))
    chat = ChatTemplate(AutoTokenizer.from_pretrained(place))
    records = load(str(folder / "steps.jsonl"), "solutions", limit=2).records
    data = tokenize_solutions(records, chat).data
    said = ours.of_batch(data)
    assert plain.config.id2label == {0: "good"}
    for row in range(len(data)):
        for end, good in zip(data.ends.row(row).tolist(), said[row], strict=True):
            tokens = [*data.steps.prompt.row(row), *data.steps.answer.row(row)[: end + 1]]
            logit = plain(torch.tensor([[int(t) for t in tokens]])).logits[0, 0]
            assert float(logit.sigmoid()) == pytest.approx(good, abs=1e-4)


def test_a_judge_of_steps_is_no_judge_of_answers(trained: tuple[Path, dict[str, Any]]):
    folder, _ = trained
    with pytest.raises(UserError, match="judges steps, not whole answers"):
        load_reward_model(str(folder / "run"))
    write_jsonl(folder / "good.jsonl", rows(60)[::2])
    with pytest.raises(UserError, match="there is nothing to tell apart"):
        bf.train(
            "process_reward_model",
            model=str(folder / "tiny"),
            data=str(folder / "good.jsonl"),
            run=str(folder / "refused"),
        )


def test_the_command_prints_what_was_measured(trained: tuple[Path, dict[str, Any]]):
    from typer.testing import CliRunner

    from backflip.cli.main import app

    folder, _ = trained
    words = ["evaluate", str(folder / "run"), str(folder / "steps.jsonl"), "limit=40"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "F1 of first errors" in done.output
    assert "120 labelled steps of 40 solutions to 40 questions" in done.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json", "threshold=0.3"]).output)
    assert (found["threshold"], found["with_error"]) == (0.3, 20)


def test_three_classes_are_saved_by_their_names(tmp_path: Path):
    some = [r | {"step_labels": [0, *r["step_labels"][1:]]} for r in rows(30)]
    write_jsonl(tmp_path / "steps.jsonl", some)
    run = bf.train(
        "process_reward_model",
        model=str(tiny_model(tmp_path / "tiny")),
        data=str(tmp_path / "steps.jsonl"),
        run=str(tmp_path / "run"),
        objective={"name": "three_class", "neutral": 0.5},
        steps=2,
    )
    model = load_process_model(str(run.model))
    assert (model.model.heads, model.neutral, model.separator) == (3, 0.5, "\n")
    config = json.loads((Path(str(run.model)) / "config.json").read_text())
    assert list(config["id2label"].values()) == ["bad", "neutral", "good"]
