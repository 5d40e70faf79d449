"""Rounds that people judge: asked, waited for, and gone on with when the labels are there."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from backflip.cli import main as cli
from backflip.data.records import messages
from backflip.errors import UserError, WaitingForLabels
from backflip.feedback.labellers.people import Group, Labeller
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from backflip.monitor.progress import Progress
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.sampling.samples import read
from tests.feedback.answered import answer_all, opened, project_of

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = opened(tmp_path)
    monkeypatch.setenv("BACKFLIP_FEEDBACK", str(tmp_path / "feedback.sqlite"))
    yield store
    store.close()


def worth(text: str) -> int:
    """What these raters like: letters with an even code."""
    return sum(ord(letter) % 2 == 0 for letter in text)


def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
    del rater
    if payload["kind"] == "thumbs":
        return {"up": worth(payload["answer"]["text"]) > 2}
    if payload["kind"] == "rate":
        return {"ratings": {"good": min(max(worth(payload["answer"]["text"]), 1), 7)}}
    worths = [worth(answer["text"]) for answer in payload["answers"]]
    if payload["kind"] == "rank":
        levels = sorted(set(worths), reverse=True)
        return {"ranks": [levels.index(w) for w in worths]}
    choice = "tie" if worths[0] == worths[1] else "ab"[worths[1] > worths[0]]
    return {"choice": choice, "strength": 1}


def recipe(kind: str, model: str, prompts: str, run: Path, **settings: Any) -> Any:
    given = {
        "model": model,
        "data": prompts,
        "data.validation": None,
        "data.held_out": 0.4,
        "run": str(run),
        "judge": "feedback:tone",
        "rounds": 2,
        "prompts_per_round": 8,
        "answers_per_prompt": 2 if kind == "compare" else 3,
        "sampling.max_tokens": 6,
        "filters.cut_off": True,
        "validation_prompts": 8,
        "pool": False,
        "direct.lora": None,
        "direct.optimizer.lr": 1e-2,
        "direct.epochs": 2,
        **settings,
    }
    return load_recipe("iterative_dpo", given)


def waits(run: Callable[[Progress], Any]) -> tuple[str, str]:
    """(what the run waits for, what it said)."""
    out = io.StringIO()
    with pytest.raises(WaitingForLabels) as waiting:
        run(Progress(Console(file=out, width=2000)))
    return str(waiting.value), out.getvalue()


@pytest.mark.parametrize("kind", ["compare", "rank", "thumbs", "rate"])
def test_a_chain_waits_for_labels_and_goes_on_to_its_end(
    kind: str, model: str, prompts: str, kept: Store, tmp_path: Path
):
    more = {"attributes": [{"name": "good", "low": 1, "high": 7}]} if kind == "rate" else {}
    project, people = project_of(kept, kind, [], raters=2, adjudicate_below=0.0, **more)
    made = recipe(kind, model, prompts, tmp_path / "run")
    check_recipe(made)
    stops = [waits(lambda progress: train(made, progress=progress))[0]]
    while not (tmp_path / "run" / "summary.json").is_file():
        assert answer_all(project, people, said) > 0
        try:
            resume(tmp_path / "run")
        except WaitingForLabels as waiting:
            stops.append(str(waiting))
    # once for each round's answers and once for its held-out ones; of kinds that judge an answer by
    # itself, those of the start too
    assert len(stops) == (4 if kind in ("compare", "rank") else 5)
    assert all(f"backflip resume {tmp_path / 'run'}" in stop for stop in stops)
    rows = json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"]
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert rows[0]["win_rate"] == 0.5
    assert all(row["unscored"] == 0 for row in rows)
    check_scores(project, kind, tmp_path / "run" / "round_1" / "sampled")


def check_scores(project: Project, kind: str, folder: Path) -> None:
    """Better answers by the raters' taste have higher scores, prompt by prompt."""
    del project
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    compared = 0
    for one in lines:
        for other in lines:
            if one["number"] == other["number"] and kind != "thumbs":
                gap = worth(text_of(one)) - worth(text_of(other))
                apart = abs(gap) > 0 and (kind != "rate" or min(worth(text_of(one)), 1) > 0)
                compared += apart
                if apart and kind in ("compare", "rank"):
                    assert (gap > 0) == (one["score"] > other["score"])
    assert compared > 0 or kind == "thumbs"


def text_of(line: dict[str, Any]) -> str:
    """As people saw it: without the token that ends an answer."""
    return line["answer"].replace("<|im_end|>", "").strip()


def test_it_says_how_many_are_missing_and_how_to_go_on(
    model: str, prompts: str, kept: Store, tmp_path: Path
):
    project, people = project_of(kept, "compare", [], raters=2)
    made = recipe("compare", model, prompts, tmp_path / "run")
    first, _ = waits(lambda progress: train(made, progress=progress))
    items = project.items(limit=1000)
    assert f"waiting for labels: {2 * len(items)} answers are missing" in first
    assert f"({len(items)} of {len(items)} items open) in project 'tone'" in first
    assert f"{len(items)} new items were asked. Answer them: backflip collect tone." in first
    assert {item.batch for item in items} == {"run round 1 answers"}
    assert {a["source"] for i in items for a in i.payload["answers"]} == {"run round 1 answers"}
    answer_all(project, people[:1], said)
    again, _ = waits(lambda progress: resume(tmp_path / "run", progress=progress))
    assert f"waiting for labels: {len(items)} answers are missing" in again
    assert "new items" not in again
    assert len(project.items(limit=1000)) == len(items)


def test_what_was_sampled_is_not_drawn_again_while_it_waits(
    model: str, prompts: str, kept: Store, tmp_path: Path
):
    project, people = project_of(kept, "compare", [], raters=1)
    made = recipe("compare", model, prompts, tmp_path / "run")
    waits(lambda progress: train(made, progress=progress))
    draws = sorted((tmp_path / "run" / "round_1" / "sampled" / "samples").glob("draws*"))
    before = [path.stat().st_mtime_ns for path in draws]
    waits(lambda progress: resume(tmp_path / "run", progress=progress))
    assert [path.stat().st_mtime_ns for path in draws] == before
    answer_all(project, people, said)
    waits(lambda progress: resume(tmp_path / "run", progress=progress))
    found = read(tmp_path / "run" / "round_1" / "sampled" / "samples.safetensors")
    assert found is not None
    assert bool(found[0]["scores"].isfinite().all())


def test_a_disputed_item_waits_for_an_adjudicator_and_a_dropped_one_for_nobody(
    model: str, prompts: str, kept: Store, tmp_path: Path
):
    project, people = project_of(kept, "compare", [], raters=2)
    made = recipe("compare", model, prompts, tmp_path / "run", rounds=1)
    waits(lambda progress: train(made, progress=progress))
    items = project.items(limit=1000)
    answer_all(project, people, said)
    project.to_adjudication([items[0].id])
    told, _ = waits(lambda progress: resume(tmp_path / "run", progress=progress))
    assert "waiting for labels: 1 item waits for an adjudicator" in told
    project.drop([items[0].id])
    told, _ = waits(lambda progress: resume(tmp_path / "run", progress=progress))
    assert "held out" in told


def test_the_command_line_leaves_with_a_code_of_its_own(
    model: str, prompts: str, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project_of(kept, "compare", [], raters=1)
    words = ["train", "iterative_dpo", f"model={model}", f"data={prompts}", "pool=false"]
    words += ["judge=feedback:tone", f"run={tmp_path / 'run'}", "sampling.max_tokens=4"]
    words += ["data.validation=null", "data.held_out=0.4", "prompts_per_round=4"]
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == WaitingForLabels.exit_code == 75
    told = capsys.readouterr().err
    assert told.startswith("backflip: waiting for labels: ")
    assert "This is a bug" not in told


# ---- what cannot be


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("compare", {"pool": True}, "pool is true, but in feedback:tone people tell the answers"),
        ("write", {}, "is of kind 'write'; answers of a policy are judged in projects of kind"),
        ("compare", {"judge": "feedback:tonne"}, "there is no project 'tonne'"),
        ("compare", {"judge": "feedback:tone@3"}, "asks for new labels. Name the project alone"),
        ("rank", {"answers_per_prompt": 60}, "people rank 50 at most"),
    ],
)
def test_a_slip_is_answered_before_anything_is_sampled(
    kind: str,
    settings: dict[str, Any],
    told: str,
    model: str,
    prompts: str,
    kept: Store,
    tmp_path: Path,
):
    project_of(kept, kind, [], raters=1)
    with pytest.raises(UserError, match=told):
        check_recipe(recipe(kind, model, prompts, tmp_path / "run", **settings))


def test_people_cannot_be_forecast(model: str, prompts: str, kept: Store, tmp_path: Path):
    from backflip.rounds.forecast import trial_rounds

    project, _ = project_of(kept, "compare", [], raters=1)
    with pytest.raises(UserError, match="judge=feedback:tone cannot be measured from here"):
        trial_rounds(recipe("compare", model, prompts, tmp_path / "run"), tmp_path)
    assert project.items() == []  # nobody was asked for a forecast


# ---- scores by hand


def group(*answers: str) -> Group:
    return Group(messages(("user", "why?")), answers, tuple("m" for _ in answers))


def scored(kept: Store, kind: str, answers: tuple[str, ...], **settings: Any) -> list[float]:
    project, people = project_of(kept, kind, [], **settings)
    raters = Labeller(project)
    assert raters.ask([group(*answers)], batch="b") > 0
    answer_all(project, people, said)
    assert raters.standing([group(*answers)]).done
    assert raters.ask([group(*answers)], batch="again") == 0
    (scores,) = raters.scores([group(*answers)])
    return scores


def test_a_pair_is_apart_by_twice_p_minus_one(kept: Store):
    """b and d have even codes: bbb is worth 3, aaa 0."""
    one, other = scored(kept, "compare", ("bbb", "aaa"), raters=3)
    assert one == -other
    p = (one + 1) / 2
    assert 0.9 < p <= 1


def test_a_ring_is_the_mean_over_its_two_neighbours(kept: Store):
    scores = scored(kept, "compare", ("aaa", "baa", "bba", "bbb"), raters=3)
    assert scores[0] == min(scores)
    assert scores[3] == max(scores)
    assert sum(scores) == pytest.approx(0)
    assert scores[1] == pytest.approx(
        0, abs=1e-6
    )  # better than one neighbour, worse than the other


def test_a_ranking_is_the_mean_chance_against_the_others(kept: Store):
    scores = scored(kept, "rank", ("aaa", "bbb", "bba"), raters=3, adjudicate_below=0.0)
    assert scores[1] > scores[2] > scores[0]
    assert sum(scores) == pytest.approx(0)


def test_ratings_and_thumbs_run_from_minus_one_to_one(kept: Store):
    attributes = [{"name": "good", "low": 1, "high": 7}]
    low, high = scored(kept, "rate", ("bb", "bbbbbbb"), attributes=attributes)
    assert low == pytest.approx(2 * (2 - 1) / 6 - 1)
    assert high == 1
    up, down = scored(kept, "thumbs", ("bbbb", "aa"), name="thumbs", raters=3)
    assert up > 0.8
    assert down < -0.8


def test_what_nobody_can_tell_has_no_score_and_both_bad_is_even(kept: Store):
    project, people = project_of(kept, "compare", [], raters=2)
    raters = Labeller(project)
    groups = [group("x", "y"), Group(messages(("user", "how?")), ("p", "q"), ("m", "m"))]
    raters.ask(groups, batch="b")

    def unsure(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        del rater
        asked = payload["prompt"][0]["content"]
        return (
            {"choice": "both_bad"}
            if asked == "why?"
            else {"choice": "cannot_tell", "reason": "no idea"}
        )

    answer_all(project, people, unsure)
    even, unknown = raters.scores(groups)
    assert even == [0, 0]
    assert all(math.isnan(score) for score in unknown)
    assert torch.tensor(even).isfinite().all()
