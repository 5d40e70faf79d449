"""Argilla and Label Studio: realistic documents in, ours out, and round trips of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from backflip.errors import UserError
from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.imports import Wishes, take_in
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from tests.feedback.answered import answer_all, ask, project_of
from tests.feedback.exchange.documents import ARGILLA_1, ARGILLA_2, LABEL_STUDIO, RANKER, U1, U2


def imported(
    kept: Store,
    kind: str,
    documents: list[Any],
    tmp_path: Path,
    *,
    wishes: Wishes | None = None,
    **settings: Any,
) -> tuple[Project, Any]:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps(documents, indent=2))
    project, _ = project_of(kept, kind, [], **settings)
    return project, take_in(project, str(path), wishes)


def values(project: Project) -> list[dict[str, Any]]:
    return [answer.value for answer in project.answers()]


# ---- in


def test_argilla_2_gives_items_and_what_people_said(kept: Store, tmp_path: Path):
    project, done = imported(kept, "compare", ARGILLA_2, tmp_path)
    assert (done.format, done.added, done.answers) == ("argilla", 2, 3)
    first, second = project.items()
    assert first.payload["answers"][0]["text"].startswith("Sunlight")
    assert [turn["role"] for turn in second.payload["prompt"]] == ["user", "assistant", "user"]
    assert values(project) == [
        {"choice": "a", "strength": 1, "reason": "for a child"},
        {"choice": "b", "strength": 1, "reason": ""},
        {"choice": "tie", "strength": 1, "reason": ""},
    ]
    people = {answer.person for answer in project.answers()}
    assert len(people) == 2  # the same person in both records
    assert all(answer.order == (0, 1) for answer in project.answers())


def test_argilla_1_ranks_and_leaves_out_what_was_discarded(kept: Store, tmp_path: Path):
    project, done = imported(kept, "rank", ARGILLA_1, tmp_path)
    assert values(project) == [{"ranks": [1, 0], "reason": ""}]
    assert done.left_out.counts == {"response is discarded": 1}


def test_a_ranking_of_two_is_a_comparison_as_well(kept: Store, tmp_path: Path):
    project, _ = imported(kept, "compare", ARGILLA_1, tmp_path)
    assert [value["choice"] for value in values(project)] == ["b"]


def test_label_studio_gives_sides_times_and_ground_truth(kept: Store, tmp_path: Path):
    project, done = imported(kept, "compare", LABEL_STUDIO, tmp_path, wishes=Wishes(gold=True))
    assert (done.format, done.added, done.answers) == ("label_studio", 1, 1)
    assert done.left_out.counts == {"annotation was cancelled": 1}
    (item,) = project.items()
    assert item.gold is not None
    assert item.gold["choice"] == "b"
    (answer,) = project.answers()
    assert (answer.value["choice"], answer.seconds) == ("a", 14.288)


def test_without_the_wish_for_gold_the_ground_truth_is_an_answer(kept: Store, tmp_path: Path):
    project, done = imported(kept, "compare", LABEL_STUDIO, tmp_path)
    assert done.answers == 2
    assert project.items()[0].gold is None


def test_label_studios_ranker_is_a_ranking(kept: Store, tmp_path: Path):
    project, _ = imported(kept, "rank", RANKER, tmp_path)
    assert [a["text"] for a in project.items()[0].payload["answers"]][1] == "A compact alternative."
    assert values(project)[0]["ranks"] == [2, 0, 1]


def test_people_of_another_tool_can_be_told_apart_and_get_no_work(kept: Store, tmp_path: Path):
    project, _ = imported(kept, "compare", ARGILLA_2, tmp_path)
    for member in project.members():
        if member.state == "paused":
            assert member.reason == "works in argilla"
            assert project.why_nothing(member.person) != ""
    names = {person.name for person in kept.people.everybody() if person.name}
    assert names == {f"{U1} (argilla)", f"{U2} (argilla)"}


def test_the_same_file_again_changes_nothing(kept: Store, tmp_path: Path):
    project, _ = imported(kept, "compare", ARGILLA_2, tmp_path)
    event = len(list(project.answers()))
    again = take_in(project, str(tmp_path / "documents.json"))
    assert (again.added, again.duplicates, again.answers) == (0, 2, 0)
    assert len(list(project.answers())) == event


def test_answers_may_stay_behind(kept: Store, tmp_path: Path):
    project, done = imported(kept, "compare", ARGILLA_2, tmp_path, wishes=Wishes(answers=False))
    assert (done.added, done.answers) == (2, 0)
    assert values(project) == []


def test_a_document_the_other_way_round_finds_its_item(kept: Store, tmp_path: Path):
    """The project has the pair as b, a: the answer is turned, and the order displayed is kept."""
    fields = ARGILLA_2[0]["fields"]
    answers = [{"text": fields[f"response-{n}"]} for n in (2, 1)]
    project, _ = project_of(
        kept, "compare", [{"prompt": ask(fields["prompt"]), "answers": answers}]
    )
    path = tmp_path / "documents.json"
    path.write_text(json.dumps(ARGILLA_2[:1]))
    done = take_in(project, str(path))
    assert (done.added, done.answers) == (0, 2)
    assert [value["choice"] for value in values(project)] == ["b", "a"]
    assert {answer.order for answer in project.answers()} == {(1, 0)}


# ---- round trips


def marked(store: Store) -> Project:
    items = [{"prompt": ask("where?"), "answer": {"text": "in Rome, in 1900", "source": "m"}}]
    project, people = project_of(store, "spans", items, span_labels=["place", "time"])
    spans = [{"start": 3, "end": 7, "label": "place"}, {"start": 12, "end": 16, "label": "time"}]
    answer_all(project, people, lambda *_: {"spans": spans, "reason": "both"})
    return project


@pytest.mark.parametrize("tool", ["argilla", "label_studio"])
@pytest.mark.parametrize("kind", ["compare", "rank", "rate", "thumbs", "write", "spans"])
def test_a_project_comes_back_as_it_was(
    tool: str, kind: str, known: Callable[[str], Project], kept: Store, tmp_path: Path
):
    old = marked(kept) if kind == "spans" else known(kind)
    path = tmp_path / "out.json"
    export(old, tool, path)
    new = kept.create("back", old.settings)
    done = take_in(new, str(path))
    assert not done.left_out.total
    assert payloads(new) == payloads(old)
    assert said(new) == said(old)
    raters = len({answer.person for answer in old.answers()})
    assert len({answer.person for answer in new.answers()}) == raters


def payloads(project: Project) -> list[dict[str, Any]]:
    return sorted((item.payload for item in project.items()), key=json.dumps)


def said(project: Project) -> list[tuple[str, str]]:
    """What was said of which item, whoever said it."""
    item = {row.id: json.dumps(row.payload) for row in project.items()}
    return sorted((item[a.item], json.dumps(a.value)) for a in project.answers())


@pytest.mark.parametrize(
    ("tool", "documents"), [("argilla", ARGILLA_2), ("label_studio", LABEL_STUDIO)]
)
def test_a_document_of_theirs_says_the_same_after_a_round_trip(
    tool: str, documents: list[Any], kept: Store, tmp_path: Path
):
    project, _ = imported(kept, "compare", documents, tmp_path)
    export(project, tool, tmp_path / "out.json")
    other = kept.create("other", project.settings)
    take_in(other, str(tmp_path / "out.json"))
    assert said(other) == said(project)
    made = json.loads((tmp_path / "out.json").read_text())
    assert [set(one) >= {"id"} for one in made] == [True] * len(documents)


def test_tasks_have_the_shape_that_label_studio_imports(
    known: Callable[[str], Project], tmp_path: Path
):
    made = export(known("compare"), "label_studio", tmp_path / "out.json")
    (first, *_) = json.loads(made.path.read_text())
    assert set(first) == {"id", "data", "annotations", "predictions", "meta"}
    annotation = first["annotations"][0]
    assert {"result", "was_cancelled", "lead_time", "ground_truth"} <= set(annotation)
    assert {"from_name", "to_name", "type", "value"} <= set(annotation["result"][0])
    page = json.loads(made.summary.read_text())["label_studio_config"]
    (dialogue,) = ElementTree.fromstring(page).iter("Paragraphs")  # takes a list of turns alone
    for turn in first["data"]["prompt"]:
        assert turn[dialogue.attrib["nameKey"]] == "user"
        assert isinstance(turn[dialogue.attrib["textKey"]], str)


@pytest.mark.parametrize("kind", ["compare", "rank", "rate", "thumbs", "write", "spans"])
def test_the_summary_holds_what_the_other_tool_must_be_told(
    kind: str, known: Callable[[str], Project], kept: Store, tmp_path: Path
):
    """Every question and every control that the documents answer is declared."""
    project = marked(kept) if kind == "spans" else known(kind)
    made = export(project, "label_studio", tmp_path / "ls.json")
    page = ElementTree.fromstring(json.loads(made.summary.read_text())["label_studio_config"])
    controls = {element.get("name") for element in page.iter()}
    for task in json.loads(made.path.read_text()):
        for annotation in task["annotations"]:
            for result in annotation["result"]:
                assert result["from_name"] in controls
                assert set(result["to_name"].split(",")) <= controls
    made = export(project, "argilla", tmp_path / "argilla.json")
    told = json.loads(made.summary.read_text())["argilla_settings"]
    fields, questions = ({one["name"] for one in told[what]} for what in ("fields", "questions"))
    for record in json.loads(made.path.read_text()):
        assert set(record["fields"]) <= fields
        assert set(record["responses"]) <= questions


def test_argilla_takes_the_rankings_and_the_conversations_of_an_export(
    known: Callable[[str], Project], tmp_path: Path
):
    """Its server refuses a ranking that leaves out an option of the question, and a field has one
    type: turns, since one question is a conversation too.
    """
    made = export(known("rank"), "argilla", tmp_path / "out.json")
    told = json.loads(made.summary.read_text())["argilla_settings"]
    (options,) = (one["values"] for one in told["questions"] if one["name"] == "ranking")
    records = json.loads(made.path.read_text())
    for record in records:
        for response in record["responses"]["ranking"]:
            assert {one["value"] for one in response["value"]} == set(options)
            assert all(1 <= one["rank"] <= len(options) for one in response["value"])
    assert {one["name"]: one["type"] for one in told["fields"]}["prompt"] == "chat"
    assert all({"role", "content"} == set(turn) for r in records for turn in r["fields"]["prompt"])


# ---- what cannot be


def test_what_this_project_cannot_say_is_counted(kept: Store, tmp_path: Path):
    odd = json.loads(json.dumps(ARGILLA_2))
    odd[0]["responses"]["preference"][0]["value"] = "the one in green"
    project, done = imported(kept, "compare", odd, tmp_path, wishes=Wishes(strict=False))
    assert done.left_out.counts == {"no answer says which side is better": 1}
    assert done.answers == 2
    assert len(project.items()) == 2


def test_a_tie_in_a_project_without_ties_is_left_out_aloud(kept: Store, tmp_path: Path):
    _, done = imported(kept, "compare", ARGILLA_2, tmp_path, allow_tie=False, scale=4)
    assert done.answers == 2
    assert any("this project has no ties" in line for line in done.lines())


@pytest.mark.parametrize(
    ("kind", "documents", "told"),
    [
        ("steps", ARGILLA_2, "comes from argilla, which has nothing like 'steps'"),
        ("rank", [{"fields": {"prompt": "a"}, "responses": {}}], "0 answers where rank needs 2"),
        (
            "compare",
            [{"id": 1, "data": {"a": "b"}, "annotations": []}],
            "no field that is a prompt",
        ),
    ],
)
def test_documents_that_fit_no_item_are_refused_by_row(
    kind: str, documents: list[Any], told: str, kept: Store, tmp_path: Path
):
    with pytest.raises(UserError, match=told):
        imported(kept, kind, documents, tmp_path)


@pytest.mark.parametrize("tool", ["argilla", "label_studio"])
@pytest.mark.parametrize("names", [("x, y", "z"), ("[x", "z"), ("x", "")])
def test_a_models_name_comes_back_whole(
    tool: str, names: tuple[str, str], kept: Store, tmp_path: Path
):
    texts = [{"text": f"answer {n}", "source": name} for n, name in enumerate(names)]
    project, people = project_of(kept, "compare", [{"prompt": ask("why?"), "answers": texts}])
    answer_all(project, people, lambda *_: {"choice": "a"})
    export(project, tool, tmp_path / "out.json")
    again = kept.create("again", project.settings)
    take_in(again, str(tmp_path / "out.json"))
    assert again.items()[0].payload["answers"] == project.items()[0].payload["answers"]
