"""Where the time of a step goes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import backflip as bf
from backflip.monitor.folder import read_run
from backflip.monitor.log import read_metrics
from backflip.monitor.report import sentences
from backflip.training.stopwatch import Stopwatch
from tests.recipes.tiny import questions, tiny_model


def test_a_part_that_stands_still_is_waiting_and_shares_add_up():
    clock = Stopwatch()
    assert clock.shares() == {}
    with clock.part("scoring"):
        time.sleep(0.2)
    with clock.part("learning"):
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
    shares = clock.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert clock.seconds["waiting"] >= 0.15
    assert clock.seconds["learning"] >= 0.05
    assert shares["scoring"] < shares["learning"] < shares["waiting"]


@pytest.mark.usefixtures("own_cache")
def test_the_parts_of_a_step_are_logged_and_told(tmp_path: Path):
    """A reward that takes its time is seen as waiting."""

    def slow(answer: str) -> float:
        time.sleep(0.1)
        return float(len(answer))

    bf.train(
        "grpo",
        model=str(tiny_model(tmp_path / "model")),
        data=questions(tmp_path / "prompts.jsonl"),
        reward=slow,
        run=str(tmp_path / "run"),
        steps=2,
        prompts_per_step=2,
        answers_per_prompt=2,
        validation_prompts=2,
        threads=1,
        **{"sampling.max_tokens": 3},
    )
    names = {"share_sampling", "share_scoring", "share_learning", "share_waiting"}
    logged = [e.metrics for e in read_metrics(tmp_path / "run")]
    steps = [m for m in logged if "share_waiting" in m]
    assert len(steps) == 2
    assert all(sum(m[name] for name in names) == pytest.approx(1) for m in steps)
    assert all(m["share_waiting"] > m["share_scoring"] for m in steps)
    (said,) = [s for s in sentences(read_run(tmp_path / "run")) if s.startswith("Time of a step")]
    assert all(part in said for part in ("% sampling", "% scoring", "% learning", "% waiting"))
