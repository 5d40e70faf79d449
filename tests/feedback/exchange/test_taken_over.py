"""Answers from elsewhere: whose they are, when they were given, and what is said of the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backflip.errors import UserError
from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.imports import Imported, Wishes, take_in
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from tests.feedback.answered import project_of

MARCH = 1_710_037_800.0  # 2024-03-10T02:30:00Z
TWO = {"prompt": "Which?", "answer1": "one", "answer2": "two"}


def brought(
    kept: Store, kind: str, rows: Any, tmp_path: Path, name: str = "rows.json", **settings: Any
) -> tuple[Project, Imported]:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        path.write_text(rows)
    project, _ = project_of(kept, kind, [], **settings)
    return project, take_in(project, str(path), Wishes(strict=False))


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": 1, "data": data or TWO, "annotations": list(annotations)}


def side(which: str, who: Any = 7, **more: Any) -> dict[str, Any]:
    result = {"from_name": "p", "type": "pairwise", "value": {"selected": which}}
    return {"completed_by": who, "result": [result], **more}


def marked(kind: str, value: dict[str, Any], name: str = "q") -> dict[str, Any]:
    return {"completed_by": 7, "result": [{"from_name": name, "type": kind, "value": value}]}


def answers(project: Project) -> list[tuple[Any, float]]:
    return [(row.value.get("choice"), row.at) for row in project.answers()]


# ---- times


@pytest.mark.parametrize(
    ("written", "at", "said"),
    [
        ("2024-03-10T02:30:00Z", MARCH, ""),
        ("2024-03-10T08:00:00+05:30", MARCH, ""),
        ("2024-03-10 02:30:00", MARCH, "without a zone, read as UTC"),
        (1_710_037_800_000, MARCH, ""),
        ("Sun, 10 Mar 2024 02:30:00 +0000", MARCH, ""),
        ("2124-03-10T02:30:00Z", None, "time in the future"),
        ("last Tuesday", None, "cannot be read"),
        (None, None, "no time given"),
    ],
)
def test_an_answer_keeps_its_time_and_a_time_that_cannot_be_is_said(
    written: Any, at: float | None, said: str, kept: Store, tmp_path: Path
):
    rows = [task(side("left", created_at=written))]
    project, done = brought(kept, "compare", rows, tmp_path)
    (found,) = answers(project)
    assert found[0] == "a"
    assert found[1] == at if at else abs(found[1] - time.time()) < 600
    assert [said in line for line in done.remarks()] == ([True] if said else [])
    (event,) = project.events(kinds=["answer"])
    assert abs(event.at - time.time()) < 600, "the log says when it came"
    assert event.body.get("at") == at


def test_answers_of_months_ago_stand_there_in_curves_over_time(kept: Store, tmp_path: Path):
    dates = ["2024-03-01T10:00:00Z", "2024-04-01T10:00:00Z", "2024-05-01T10:00:00Z"]
    rows = [
        task(side("left", created_at=date), prompt=f"{n}?", answer1="one", answer2="two")
        for n, date in enumerate(dates)
    ]
    project, _ = brought(kept, "compare", rows, tmp_path)
    weeks = (project.judgements().at - MARCH) / 604_800
    assert [round(float(week)) for week in sorted(weeks)] == [-1, 3, 7]
    assert project.overview().days_left is None, "last week's pace is not theirs"


def test_the_last_answer_of_a_person_counts_and_the_other_is_counted(kept: Store, tmp_path: Path):
    early, late = "2024-03-10T02:30:00Z", "2024-03-11T02:30:00Z"
    rows = [task(side("right", created_at=late), side("left", created_at=early), side("left", 8))]
    project, done = brought(kept, "compare", rows, tmp_path)
    assert sorted(choice for choice, _ in answers(project)) == ["a", "b"]
    assert (done.answers, done.left_out.total) == (2, 1)
    assert (
        "a second answer of one person to the same item; the last one counts (row 1)"
        in (done.refused()[0])
    )


def test_another_answer_in_a_later_file_is_counted(kept: Store, tmp_path: Path):
    project, _ = brought(kept, "compare", [task(side("left"))], tmp_path)
    (tmp_path / "later.json").write_text(json.dumps([task(side("right"))]))
    done = take_in(project, str(tmp_path / "later.json"))
    assert [choice for choice, _ in answers(project)] == ["a"]
    assert "the stored one stands" in done.refused()[0]
    again = take_in(project, str(tmp_path / "rows.json"))
    assert again.left_out.total == 0, "the same answer again is no other one"


def test_answers_to_an_item_that_is_left_out_are_counted(kept: Store, tmp_path: Path):
    rows = [task(side("left"), prompt="Which?", answer1="same", answer2="same")]
    _, done = brought(kept, "compare", rows, tmp_path)
    assert (done.twins, done.answers) == (1, 0)
    assert done.left_out.counts == {"answer to an item that was left out": 1}


def test_ground_truth_is_the_answer_of_who_gave_it(kept: Store, tmp_path: Path):
    rows = [task(side("left", 7), side("right", 8, ground_truth=True, created_at=MARCH))]
    project, _ = brought(kept, "compare", rows, tmp_path)
    assert sorted(answers(project))[1] == ("b", MARCH)
    names = {person.name for person in kept.people.everybody()}
    assert {"7 (label_studio)", "8 (label_studio)"} <= names


# ---- Label Studio


@pytest.mark.parametrize(
    ("kind", "annotation", "data", "value"),
    [
        ("compare", side("right"), {}, {"choice": "b"}),
        ("compare", marked("choices", {"choices": ["Answer 2 is better"]}), {}, {"choice": "b"}),
        ("compare", marked("choices", {"choices": ["Tie"]}), {}, {"choice": "tie"}),
        ("thumbs", marked("choices", {"choices": ["Good"]}), {}, {"up": True}),
        (
            "rate",
            marked("rating", {"rating": 4}, "quality"),
            {},
            {"ratings": {"helpful": 4}},
        ),
        ("rate", marked("number", {"number": 3}), {}, {"ratings": {"helpful": 3}}),
        ("write", marked("textarea", {"text": ["One.", "Two."]}), {}, {"text": "One.\nTwo."}),
        (
            "rank",
            marked("ranker", {"ranker": {"rank": ["z", "x"]}}),
            {"prompt": "p", "docs": [{"id": "x", "body": "X"}, {"id": "z", "body": "Z"}]},
            {"ranks": [1, 0]},
        ),
        (
            "spans",
            marked("labels", {"start": 3, "end": 7, "text": "Rome", "labels": ["PER"]}),
            {"text": "in Rome"},
            {"spans": [{"start": 3, "end": 7, "label": "PER"}]},
        ),
        (  # a browser counts the flag as four
            "spans",
            marked("labels", {"start": 5, "end": 9, "text": "Rome", "labels": ["PER"]}),
            {"text": "🇮🇹 Rome"},
            {"spans": [{"start": 3, "end": 7, "label": "PER"}]},
        ),
    ],
)
def test_results_of_label_studio_are_found_by_their_type(
    kind: str,
    annotation: dict[str, Any],
    data: dict[str, Any],
    value: dict[str, Any],
    kept: Store,
    tmp_path: Path,
):
    extra: dict[str, Any] = {"span_labels": ["PER"]} if kind == "spans" else {}
    extra |= {"attributes": [{"name": "helpful", "low": 1, "high": 5}]} if kind == "rate" else {}
    project, done = brought(kept, kind, [task(annotation, **data)], tmp_path, **extra)
    assert done.refused() == []
    (found,) = project.answers()
    assert value.items() <= found.value.items()


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (("taxonomy", {"taxonomy": [["a"]]}), "a result of type 'taxonomy', which is not read"),
        (("choices", {"choices": ["left", "right"]}), "several choices where one is needed"),
        (
            ("labels", {"start": 0, "end": 2, "text": "Po", "labels": ["PER"]}),
            "a passage that does not stand where the file says",
        ),
    ],
)
def test_what_cannot_be_read_of_an_annotation_is_counted(
    result: tuple[str, dict[str, Any]], told: str, kept: Store, tmp_path: Path
):
    both = side("left")
    both["result"].append({"from_name": "more", "type": result[0], "value": result[1]})
    project, done = brought(kept, "compare", [task(both)], tmp_path)
    assert answers(project)[0][0] == "a"
    assert done.left_out.counts == {told: 1}


def test_what_a_project_does_not_ask_and_what_models_said_is_said(kept: Store, tmp_path: Path):
    both = side("left")
    both["result"].append({"from_name": "tone", "type": "rating", "value": {"rating": 2}})
    rows = [task(both) | {"predictions": [side("right")]}]
    _, done = brought(kept, "compare", rows, tmp_path)
    assert done.noted.counts.keys() >= {
        "question 'tone', which compare does not ask",
        "prediction of a model, which nobody gave",
    }


def test_single_annotations_of_a_table_are_one_item_with_answers(kept: Store, tmp_path: Path):
    table = (
        "annotation_id,annotator,answer1,answer2,created_at,id,lead_time,preference,prompt\n"
        "11,7,one,two,2024-03-10T02:30:00Z,1,3.5,left,Which?\n"
        "12,8,one,two,2024-03-10T02:30:00Z,1,4.5,right,Which?\n"
        "13,8,one,two,2024-03-11T02:30:00Z,1,4.5,left,Which?\n"
    )
    project, done = brought(kept, "compare", table, tmp_path, "rows.csv")
    assert (done.added, done.duplicates, done.answers) == (1, 0, 2)
    assert [choice for choice, _ in answers(project)] == ["a", "a"]
    assert done.refused() == [
        "1 × a second answer of one person to the same item; the last one counts (line 2)"
    ]


def test_an_export_names_nobody_whom_label_studio_would_refuse(
    known: Callable[[str], Project], tmp_path: Path
):
    """Its import takes completed_by of its own members alone."""
    made = export(known("compare"), "label_studio", tmp_path / "out.json")
    for one in json.loads(made.path.read_text()):
        assert all("completed_by" not in annotation for annotation in one["annotations"])


# ---- what is said


def test_an_import_names_lines_and_never_a_place_on_the_disk(kept: Store, tmp_path: Path):
    path = tmp_path / "upload.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejec\n')
    project, _ = project_of(kept, "compare", [])
    done = take_in(project, str(path), Wishes(strict=False, called="mine.jsonl"))
    assert done.lines() == [
        "mine.jsonl: 0 items added",
        "left out: 1 × malformed line (line 1)",
    ]
    with pytest.raises(UserError) as refused:
        take_in(project, str(path), Wishes(called="mine.jsonl"))
    assert str(refused.value).startswith("mine.jsonl:1: malformed line")
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("empty cell,,text", "cell 'chosen' is empty"),
        (",aa,bb", ""),
    ],
)
def test_the_first_row_of_a_table_does_not_decide_its_form(
    first: str, told: str, kept: Store, tmp_path: Path
):
    project, done = brought(
        kept, "compare", f"prompt,chosen,rejected\n{first}\nok,aa,bb\n", tmp_path, "rows.csv"
    )
    (line,) = done.refused()
    assert told in line
    assert line.endswith("(line 2)")
    assert [row.payload["prompt"][0]["content"] for row in project.items()] == ["ok"]


def test_a_first_row_of_no_known_form_is_left_out_where_that_is_wished(kept: Store, tmp_path: Path):
    rows = [{"foo": 1}, {"prompt": "p", "chosen": "a", "rejected": "b"}]
    lines = "\n".join(map(json.dumps, rows))
    _, done = brought(kept, "compare", lines, tmp_path, "rows.jsonl")
    assert done.added == 1
    assert [line.endswith("(line 1)") for line in done.refused()] == [True]
    other = kept.create("other", {"kind": "compare"})
    with pytest.raises(UserError, match="Columns seen: foo"):
        take_in(other, str(tmp_path / "rows.jsonl"))


def test_an_item_that_cannot_be_asked_here_is_refused(kept: Store, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [{"policies": ["known"]}, {"policies": ["unknown"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    project, _ = project_of(kept, "talk", [])

    def check(payload: Any) -> str:
        return "" if payload.policies == ("known",) else "there is no such policy"

    with pytest.raises(UserError, match=r"rows.jsonl:2: there is no such policy"):
        take_in(project, str(path), Wishes(check=check))
    done = take_in(project, str(path), Wishes(check=check, strict=False))
    assert done.refused() == ["1 × there is no such policy (line 2)"]
