"""``backflip collect`` without its server: settings, files, replies, simulated raters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

for package in ("fastapi", "sqlalchemy", "nh3"):
    pytest.importorskip(package, reason="the feedback server's packages are an extra")

from backflip.cli import main as cli  # noqa: E402
from backflip.data.formats import load  # noqa: E402
from backflip.data.records import Comparison  # noqa: E402
from backflip.data.sources import read, write_jsonl  # noqa: E402
from backflip.feedback.projects.store import open_store  # noqa: E402
from backflip.feedback.tasks.display import in_displayed_order  # noqa: E402
from tests.feedback.answered import answer_all, better, opened, pair, project_of  # noqa: E402
from tests.recipes.tiny import questions, tiny_model  # noqa: E402


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, with the database in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BACKFLIP_FEEDBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``backflip collect``."""
    with pytest.raises(SystemExit) as left:
        cli.main(["collect", *words])
    said = capsys.readouterr()
    return int(left.value.code or 0), " ".join(said.out.split()), said.err


def filled(folder: Path) -> None:
    store = opened(folder)
    project, people = project_of(store, "compare", [pair(n) for n in range(5)], raters=2)
    answer_all(project, people, lambda _, payload: {"choice": better(payload)})
    store.close()


# ---- in


def test_a_project_is_made_and_filled_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]):
    write_jsonl(place / "pairs.jsonl", [pair(n) for n in range(4)] + [pair(0)])
    words = ["tone", "kind=compare", "raters_per_item=3", "scale=8", "--import", "pairs.jsonl"]
    code, said, _ = run(capsys, *words)
    assert code == 0
    assert "made the project tone: compare" in said
    assert "4 items added, format items" in said
    assert "items that the project has already: 1" in said
    store = open_store()
    project = store.project("tone")
    assert (project.settings.raters_per_item, project.settings.scale) == (3, 8)
    assert [member.role for member in project.members()] == ["admin"]
    store.close()


def test_settings_of_a_project_that_is_there_are_changed(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    write_jsonl(place / "pairs.jsonl", [pair(0)])
    run(capsys, "tone", "kind=compare", "scale=8", "--import", "pairs.jsonl")
    _, said, _ = run(capsys, "tone", "raters_per_item=5", "--import", "pairs.jsonl")
    assert "tone: version 1 of the rubric; what raters read stays as it was" in said
    store = open_store()
    settings = store.project("tone").settings
    assert (settings.raters_per_item, settings.scale) == (5, 8)
    store.close()
    code, _, wrong = run(capsys, "tone", "kind=rank", "--backup", "x.sqlite")
    assert code == 2
    assert "tone is of kind compare, which stays" in wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tone", "--import", "x.jsonl"], "there is no project 'tone'; .* collect tone kind=comp"),
        (["kind=compare", "--export", "soft"], "which project\\? Give its name"),
        (["tone", "kind=compair", "--export", "soft"], "kind: "),
        (["tone", "kind=compare", "scael=3", "--export", "soft"], "scael: is not known here"),
        (["tone", "kind=compare", "--export", "soft"], "where to\\? Give --out FILE"),
        (["tone", "kind=compare", "--export", "soft", "--out", "a.jsonl"], "nothing to export"),
        (["tone", "kind=compare", "--import", "x.jsonl"], "there is no file or folder x.jsonl"),
        (["tone", "kind=compare", "--answers", "smollm2"], "which prompts\\? Give them with"),
        (["tone", "kind=compare", "--simulate", "0"], "give a number of raters, 1 or more"),
        (["tone", "kind=write", "--simulate", "2"], "simulated raters cannot do write tasks"),
    ],
)
def test_a_slip_is_answered_in_a_line(
    words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
):
    code, _, wrong = run(capsys, *words)
    assert code == 2
    import re

    assert re.search(said, wrong), wrong
    assert wrong.count("\n") == 1


# ---- out


def test_an_export_says_what_was_counted_and_is_read_again(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    filled(place)
    code, said, _ = run(capsys, "tone", "--export", "preference", "--out", "out/tone.parquet")
    assert code == 0
    assert "10 answers by 2 raters to 5 items" in said
    assert "5 rows in out/tone.parquet; how they came about: out/tone.parquet.summary.json" in said
    assert len(load("out/tone.parquet", Comparison).records) == 5
    code, said, _ = run(capsys, "tone", "--export", "soft", "--out", "a.jsonl", "--per", "answer")
    assert "10 rows in a.jsonl" in said
    assert len(list(read("a.jsonl"))) == 10
    code, _, wrong = run(capsys, "tone", "--export", "soft", "--out", "a.jsonl", "--golden")
    assert code == 2
    assert "nothing to export" in wrong


def test_a_backup_can_be_put_back(place: Path, capsys: pytest.CaptureFixture[str]):
    filled(place)
    assert run(capsys, "--backup", "copies/monday.sqlite")[0] == 0
    store = opened(place)
    project = store.project("tone")
    project.add_items([pair(n) for n in range(50, 55)])
    store.close()
    code, said, _ = run(capsys, "--restore", "copies/monday.sqlite")
    assert code == 0
    assert "stands in the place of feedback.sqlite" in said
    store = opened(place)
    assert len(store.project("tone").items()) == 5
    store.close()


# ---- planning


def test_the_power_calculation_needs_no_project(place: Path, capsys: pytest.CaptureFixture[str]):
    code, said, _ = run(capsys, "reliability=0.7", "ceiling=0.85", "--power", "0.8")
    assert code == 0
    assert "Assumed what meaning value" in said
    assert "reliability a rater takes the better answer 70%" in said
    assert "To be right on 80.0% of pairs raters an item items answers hours" in said
    assert "Fewest answers: 1 an item on" in said
    assert not list(place.iterdir())


def test_the_power_calculation_takes_a_projects_own_raters(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    store = opened(place)
    project, people = project_of(store, "compare", [pair(n) for n in range(20)], raters=2)
    answer_all(project, people, lambda _, payload: {"choice": better(payload)})
    store.close()
    code, said, _ = run(capsys, "tone", "reliability=0.75", "--power", "0.7")
    assert code == 0
    assert "raters there are 2" in said
    assert "seconds of one answer 5" in said
    code, _, wrong = run(capsys, "nothing", "--power", "0.7")
    assert (code, "there is no project 'nothing'" in wrong) == (2, True)


# ---- replies made on the spot


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


def test_one_model_at_two_temperatures_answers_prompts(
    place: Path, model: str, capsys: pytest.CaptureFixture[str]
):
    source = questions(place / "prompts.jsonl")
    words = ["tone", "kind=compare", "--import", source, "--answers", model, "--limit", "20"]
    words += ["--temperature", "0.7", "--temperature", "1.3", "--max-tokens", "8"]
    code, said, _ = run(capsys, *words)
    assert code == 0
    assert "20 prompts answered" in said
    store = open_store()
    items = store.project("tone").items()
    assert len(items) > 10
    sources = {tuple(a["source"] for a in item.payload["answers"]) for item in items}
    assert sources == {(f"{model} at 0.7", f"{model} at 1.3")}
    assert all(a["text"].strip() for item in items for a in item.payload["answers"])
    assert not any("<|im_end|>" in json.dumps(item.payload) for item in items)
    store.close()


def test_replies_of_a_seed_are_the_same(
    place: Path, model: str, capsys: pytest.CaptureFixture[str]
):
    source = questions(place / "prompts.jsonl")
    for name in ("one", "two"):
        words = [name, "kind=rank", "--import", source, "--answers", model, "--limit", "4"]
        run(capsys, *words, "--max-tokens", "6", "--seed", "3")
    store = open_store()
    one, two = ([i.payload for i in store.project(n).items()] for n in ("one", "two"))
    assert one == two != []
    store.close()


def test_three_replies_are_too_many_to_compare(
    place: Path, model: str, capsys: pytest.CaptureFixture[str]
):
    source = questions(place / "prompts.jsonl")
    words = ["tone", "kind=compare", "--import", source, "--answers", model]
    words += ["--temperature", "0.5", "--temperature", "1", "--temperature", "1.5"]
    code, _, wrong = run(capsys, *words)
    assert code == 2
    assert "3 replies to each prompt, and compare shows two" in wrong
    code, _, wrong = run(capsys, *words[:6], "--temperature", "0")
    assert code == 2
    assert "one model at temperature 0 says the same twice" in wrong


# ---- simulated raters


def test_simulated_raters_fill_a_project_and_the_truth_is_found(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    code, said, wrong = run(capsys, "trial", "--simulate", "6")
    assert code == 0, wrong
    assert "900 answers of 6 raters to 150 pairs" in said
    assert "Reliabilities found correlate with the true ones at 0.9" in said
    right = said.partition("majority ")[2]
    majority, ours = (float(part.partition("%")[0]) for part in right.split("Dawid-Skene ")[:2])
    assert ours >= majority > 60
    store = open_store()
    project = store.project("trial")
    assert project.overview().answers == 900
    assert {answer.seconds is not None for answer in project.answers()} == {True}
    store.close()


def test_simulated_raters_do_other_kinds_too(place: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"q{n}", "answer": f"an answer {n}"} for n in range(6)]
    write_jsonl(place / "rows.jsonl", rows)
    words = ["mood", "kind=thumbs", "raters_per_item=3", "--import", "rows.jsonl"]
    code, said, _ = run(capsys, *words, "--simulate", "3")
    assert code == 0
    assert "18 answers; backflip collect mood shows them" in said


def test_the_terminal_says_what_stands_still_and_what_a_threshold_moved(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    write_jsonl(place / "pairs.jsonl", [pair(n) for n in range(3)])
    run(capsys, "tone", "kind=compare", "scale=2", "adjudicate_below=0", "--import", "pairs.jsonl")
    store = open_store()
    project = store.project("tone")
    people = [store.people.add().id for _ in range(2)]
    for person, choice in zip(people, "ab", strict=True):
        project.enrol(person)
        while shown := project.next(person):
            given = in_displayed_order("compare", {"choice": choice, "strength": 1}, shown[0].order)
            project.answer(person, shown[0].item_id, given)
    store.close()
    _, said, _ = run(capsys, "tone", "adjudicate_below=0.6", "--import", "pairs.jsonl")
    assert "what is done, by the new settings: done to adjudicate: 3 items" in said
    assert "who do not exist" not in said
    _, said, _ = run(capsys, "tone", "raters_per_item=3", "--import", "pairs.jsonl")
    assert "tone: 3 items wait for raters who do not exist: 3 answers each, and 2 raters" in said
