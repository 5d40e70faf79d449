"""``data=feedback:PROJECT`` in recipes: pinned, said aloud, and learnt from by a tiny model."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import backflip as bf
from backflip.data.formats import load as load_file
from backflip.data.records import Comparison, Prompt
from backflip.errors import Interrupted, UserError
from backflip.feedback.exchange.exports import export
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe, read_yaml
from backflip.recipes.run import resume, train
from backflip.recipes.sweep import points
from backflip.stages import sources
from tests.feedback.answered import answer_all, ask, better, opened, pair, project_of

pytestmark = pytest.mark.usefixtures("own_cache")
COUNT = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a database with a project of every kind that teaches something."""
    folder = tmp_path_factory.mktemp("store")
    store = opened(folder)
    _fill(store)
    store.close()
    return folder


def _fill(store: Store) -> None:
    tone, people = project_of(store, "compare", [pair(n) for n in range(COUNT)], raters=2)
    tone.add_items([pair(100), pair(101)], purpose="golden")
    answer_all(tone, people, _prefers)
    senior = store.people.add().id
    tone.enrol(senior, role="lead")
    answer_all(tone, [senior], _prefers, queue="golden")
    thumbs = [
        {"prompt": ask(f"q{n}"), "answer": {"text": f"{['good', 'bad'][n % 2]} {n}"}}
        for n in range(COUNT)
    ]
    project, people = project_of(store, "thumbs", thumbs, raters=2, name="thumbs")
    answer_all(project, people, lambda _, p: {"up": p["answer"]["text"].startswith("good")})
    write = [{"prompt": ask(f"say {n}")} for n in range(COUNT)]
    project, people = project_of(store, "write", write, raters=1, name="write")
    answer_all(project, people, lambda *_: {"text": "It is so.", "from_draft": False})
    names = ["best", "middle", "worst"]
    rank = [
        {"prompt": ask(f"name {n}"), "answers": [{"text": f"{w} {n}"} for w in names]}
        for n in range(COUNT)
    ]
    project, people = project_of(store, "rank", rank, raters=2, name="rank")
    answer_all(project, people, lambda *_: {"ranks": [0, 1, 2]})
    clips = [{"clips": [{"file": "a.mp4"}, {"file": "b.mp4"}]}]
    project, people = project_of(store, "clips", clips, raters=1, name="clips")
    answer_all(project, people, lambda *_: {"choice": "a"})
    project_of(store, "compare", [pair(0)], name="empty")


def _prefers(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
    del rater
    number = int(payload["prompt"][0]["content"].split()[1].rstrip("?"))
    special = {
        1: {"choice": "tie"},
        2: {"choice": "both_bad"},
        3: {"choice": "cannot_tell", "reason": "?"},
    }
    return special.get(number, {"choice": better(payload), "strength": 1})


@pytest.fixture(autouse=True)
def named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFLIP_FEEDBACK", str(place / "feedback.sqlite"))


@pytest.fixture
def tone(place: Path) -> Iterator[Project]:
    store = opened(place)
    yield store.project("tone")
    store.close()


def heard(run: Callable[[Progress], Any]) -> str:
    out = io.StringIO()
    run(Progress(Console(file=out, width=2000)))
    return out.getvalue()


# ---- it trains


@pytest.mark.parametrize(
    ("recipe", "project", "said"),
    [
        ("reward_model", "tone", "22 comparisons, format compare"),
        ("reward_model", "rank", "24 comparisons, format rank"),
        ("dpo", "tone", "22 comparisons, format compare"),
        ("kto", "thumbs", "24 labelled answers, format thumbs"),
        ("kto", "tone", "44 labelled answers, format compare"),
        ("sft", "write", "24 demonstrations, format write"),
        ("sft", "tone", "22 demonstrations, format compare"),
    ],
)
def test_a_project_is_learnt_from_by_its_kind(
    recipe: str, project: str, said: str, model: str, tmp_path: Path
):
    made = load_recipe(
        recipe,
        {"model": model, "data": f"feedback:{project}", "steps": 2, "run": str(tmp_path / "run")},
    )
    told = heard(lambda progress: train(made, progress=progress))
    assert said in told
    assert f"feedback:{project}@" in told
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_ties_both_bad_and_cannot_tell_are_said_aloud(model: str, tmp_path: Path):
    given = {"model": model, "data": "feedback:tone", "steps": 1, "run": str(tmp_path / "run")}
    told = heard(lambda progress: train(load_recipe("reward_model", given), progress=progress))
    assert "48 answers by 2 raters to 24 items" in told
    assert "2 ties, 2 both bad, 2 cannot tell" in told
    assert "Krippendorff's alpha 1.00" in told
    assert "left out: 1 × both bad (e.g. item 3)" in told
    assert "left out: 1 × cannot tell (e.g. item 4)" in told
    assert "labels that are ties: 1" in told
    assert re.search(r"ties, which say nothing to this objective: 1 of \d+ rows", told)


def test_a_tiny_model_learns_what_people_preferred(model: str, tmp_path: Path):
    settings = {"lora": None, "optimizer.lr": 3e-3, "epochs": 6, "data.held_out": 0.2}
    run = bf.train(
        "reward_model", model=model, data="feedback:tone", run=str(tmp_path / "run"), **settings
    )
    assert run.summary["accuracy"] == 1.0


def test_an_export_trains_like_the_project_itself(model: str, tone: Project, tmp_path: Path):
    """The same records by way of a file: the same losses, bit by bit."""
    export(tone, "soft", tmp_path / "tone.jsonl")
    losses = []
    for name, data in (("a", "feedback:tone"), ("b", str(tmp_path / "tone.jsonl"))):
        run = tmp_path / name
        bf.train("reward_model", model=model, data=data, steps=3, run=str(run))
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([row["loss"] for row in rows if "loss" in row])
    assert losses[0] == losses[1]


def test_golden_judgements_are_probed(model: str, tmp_path: Path):
    given = {"model": model, "data": "feedback:tone", "golden": "feedback:tone", "steps": 2}
    run = bf.train("reward_model", run=str(tmp_path / "run"), **given)
    assert run.summary["golden"]["pairs"] == 2
    assert read_yaml(run.folder / "recipe.yaml")["golden"].startswith("feedback:tone:golden@")


# ---- it is pinned


def test_the_recipe_holds_the_event_and_later_answers_change_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = opened(tmp_path)
    monkeypatch.setenv("BACKFLIP_FEEDBACK", str(tmp_path / "feedback.sqlite"))
    project, people = project_of(store, "compare", [pair(n) for n in range(8)], raters=2)
    answer_all(project, people[:1], _always_good)
    before = project.newest_event()
    recipe = load_recipe("reward_model", {"model": model, "data": "feedback:tone"})
    answer_all(project, people[1:], lambda *_: {"choice": "tie"})
    assert recipe.data.source == f"feedback:tone@{before}"  # type: ignore[union-attr]
    then = sources.load(f"feedback:tone@{before}", Comparison).records
    now = sources.load("feedback:tone", Comparison).records
    assert [record.tied for record in then] == [False] * 8
    assert any(record.soft < then[0].soft for record in now)
    store.close()


def _always_good(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
    del rater
    return {"choice": better(payload)}


def test_an_interrupted_run_goes_on_with_the_same_rows(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = opened(tmp_path)
    monkeypatch.setenv("BACKFLIP_FEEDBACK", str(tmp_path / "feedback.sqlite"))
    project, people = project_of(store, "compare", [pair(n) for n in range(16)], raters=2)
    answer_all(project, people[:1], _always_good)
    given = {"model": model, "data": "feedback:tone", "steps": 6, "batch_size": 4}
    recipe = load_recipe("reward_model", {**given, "run": str(tmp_path / "run")})
    calls = [0]
    inner = type(recipe.objective).loss  # type: ignore[union-attr]

    def breaks(*args: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt
        return inner(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(type(recipe.objective), "loss", breaks)  # type: ignore[union-attr]
        with pytest.raises(Interrupted):
            train(recipe)
    project.add_items([pair(n) for n in range(50, 60)])
    answer_all(project, people[1:], lambda *_: {"choice": "tie"})
    resume(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 6
    store.close()


def test_all_runs_of_a_sweep_learn_from_the_same_event(
    model: str, tone: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Answers come in while the recipes are made: each look at the log sees a later event."""
    newest = iter(range(tone.newest_event() - 5, tone.newest_event() + 1))
    monkeypatch.setattr(Project, "newest_event", lambda self: next(newest))
    over = {"optimizer.lr": [1e-4, 1e-3, 1e-2]}
    made = points("reward_model", {"model": model, "data": "feedback:tone"}, over, tmp_path)
    assert len({point.recipe.data.source for point in made}) == 1  # type: ignore[union-attr]


def test_pins_reach_every_setting_that_names_a_source():
    raw = {
        "data": {"source": "feedback:tone", "validation": "rows.jsonl"},
        "golden": "feedback:tone",
        "preferences": ["feedback:rank@7", "feedback:rank"],
        "reward_model": {"data": {"validation": "feedback:tone"}},
        "judge": {"model": "feedback:tone"},
    }
    made = sources.pin_all(raw)
    event = made["data"]["source"].removeprefix("feedback:tone@")
    assert int(event) > 0
    assert made["golden"] == f"feedback:tone:golden@{event}"
    assert made["preferences"][0] == "feedback:rank@7"
    assert made["preferences"][1].startswith("feedback:rank@")
    assert made["reward_model"]["data"]["validation"] == f"feedback:tone@{event}"
    assert made["judge"] == {"model": "feedback:tone"}  # asked anew in every round
    assert sources.pin_all({"source": "rows.jsonl"}) == {"source": "rows.jsonl"}


# ---- it is looked at


def test_check_audits_a_project(capsys: pytest.CaptureFixture[str]):
    found = bf.check("feedback:tone")
    assert found.total == 24
    assert found.finding("ties").count == 1
    assert {f.name for f in found.findings if f.level == "error"} == {"both bad", "cannot tell"}
    from backflip.cli.check import print_audit

    print_audit(found)
    assert "48 answers by 2 raters" in " ".join(capsys.readouterr().out.split())
    assert bf.check("feedback:tone", kind="prompts").total == 24
    assert bf.check("feedback:thumbs").kind == "Labelled answer"
    assert bf.check("feedback:tone:golden").total == 2


def test_format_says_whether_labels_are_soft(place: Path):
    soft = sources.load("feedback:tone", Comparison).records
    hard = sources.load("feedback:tone", Comparison, format="preference").records
    assert all(record.soft == 1.0 for record in hard if not record.tied)
    assert all(record.weight < 1.0 for record in hard if not record.tied)
    assert all(0.5 < record.soft < 1.0 for record in soft if not record.tied)
    assert len(sources.load("feedback:tone", Comparison, limit=3).records) == 3
    with pytest.raises(UserError, match="format='hh' is not how answers of people are read"):
        sources.load("feedback:tone", Comparison, format="hh")


def test_prompts_of_a_project_are_each_asked_once(place: Path):
    found = sources.load("feedback:rank", Prompt).records
    assert len(found) == len(set(found)) == COUNT


# ---- what cannot be


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("feedback:tonne", "there is no project 'tonne'; there are"),
        ("feedback:tone@99999999", "is in the future: the newest event of 'tone' is"),
        ("feedback:Tone", "is no project. Write feedback:NAME"),
        ("feedback:tone:gold", "is no project. Write feedback:NAME"),
        ("feedback:", "is no project. Write feedback:NAME"),
    ],
)
def test_a_slip_is_answered_before_any_weight_is_loaded(
    source: str, said: str, model: str, tmp_path: Path
):
    with pytest.raises(UserError, match=said):
        bf.train("reward_model", model=model, data=source, run=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ("clips", "of kind 'clips', which yields no"),
        ("empty", "has no comparisons yet: 0 answers by 0 raters to 0 items. Collect more"),
        ("thumbs", "has no comparisons yet: 48 answers .*24 up.*12 × no bad answer to its prompt"),
        ("write", "nothing to learn|has no comparisons yet"),
    ],
)
def test_a_project_that_cannot_teach_this_says_why(
    project: str, said: str, model: str, tmp_path: Path
):
    with pytest.raises(UserError, match=said):
        bf.train("reward_model", model=model, data=f"feedback:{project}", run=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_where_there_is_no_database_it_says_how_to_name_one(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("BACKFLIP_FEEDBACK")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no feedback database .*BACKFLIP_FEEDBACK=PATH"):
        load_recipe("reward_model", {"model": model, "data": "feedback:tone"})
    assert not (tmp_path / "feedback.sqlite").exists()  # looking makes none


def test_a_file_is_read_as_ever(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    mine, theirs = sources.load(str(path), Comparison), load_file(str(path), Comparison)
    assert (mine.records, mine.format) == (theirs.records, theirs.format)
    assert sources.kind_of(str(path)) == "comparisons"
