"""Files that hold other things than they should: all of it is counted, and breaks nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backflip.errors import UserError
from backflip.feedback.exchange.imports import take_in
from backflip.feedback.projects.store import Store
from tests.feedback.exchange.test_taken_over import TWO, answers, brought, task

RAGGED = {"start": [1, 2], "end": [3], "label": ["x", "x"]}


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("compare", {"id": 1, "data": TWO, "annotations": [286]}, "annotation that is no object"),
        ("compare", task({"completed_by": 1, "result": [5]}), "result that is no object"),
        ("compare", task({"completed_by": 1, "result": [{"type": "choices", "value": 3}]}), "no"),
        ("compare", {"fields": TWO, "responses": [3]}, "response that is no object"),
        ("compare", {"fields": TWO, "responses": {"p": "left"}}, "response that is no object"),
        ("compare", TWO | {"p.responses": "['left']", "p.responses.users": "['u']"}, "no list"),
        ("spans", TWO | {"s.responses": [RAGGED], "s.responses.users": ["u"]}, "equally long"),
        (
            "rank",
            TWO | {"r.responses": [[{"value": "answer1", "rank": "x"}]], "r.responses.users": [1]},
            "no answer ranks",
        ),
    ],
)
def test_rows_of_an_unusual_form_are_counted_and_break_nothing(
    kind: str, row: dict[str, Any], said: str, kept: Store, tmp_path: Path
):
    whole = TWO | {"prompt": "And?"}
    more: dict[str, Any] = {"span_labels": ["x"]} if kind == "spans" else {}
    fine = {"id": 2, "data": whole} if "data" in row else {"fields": whole, "responses": []}
    fine = (
        fine
        if "fields" in row or "data" in row
        else row | whole | dict.fromkeys((name for name in row if ".responses" in name), None)
    )
    _, done = brought(kept, kind, [row, fine], tmp_path, **more)
    assert any(said in line and line.endswith("(row 1)") for line in done.refused()), done.lines()
    assert done.rows == 2
    assert done.added >= 1


def test_drafts_of_label_studio_are_counted(kept: Store, tmp_path: Path):
    rows = [task() | {"drafts": [{"result": [], "user": "a@b"}], "predictions": [286]}]
    _, done = brought(kept, "compare", rows, tmp_path)
    assert done.refused() == ["1 × draft of an annotation, which nobody submitted (row 1)"]
    assert done.remarks() == ["1 × prediction of a model, which nobody gave (row 1)"]


@pytest.mark.parametrize(
    ("written", "seconds"), [("12.5", 12.5), ("12,5", 12.5), ("7", 7.0), ("soon", None), ("", None)]
)
def test_how_long_an_answer_took_is_kept_though_it_is_text(
    written: str, seconds: float | None, kept: Store, tmp_path: Path
):
    head = "annotation_id;annotator;created_at;id;lead_time;p;prompt;answer1;answer2"
    text = f"{head}\n1;5;2024-03-10T02:30:00Z;9;{written};left;Which?;one;two\n"
    project, done = brought(kept, "compare", text, tmp_path, "rows.csv")
    assert [row.seconds for row in project.answers()] == [seconds]
    assert [line for line in done.remarks() if "duration" in line] == (
        ["1 × lead_time that is no number; the answer is kept without a duration (line 2)"]
        if written == "soon"
        else []
    )


def test_responses_alone_are_answers_of_nobody_named(kept: Store, tmp_path: Path):
    rows = [TWO | {"p.responses": ["answer1", "answer2"]}]
    project, done = brought(kept, "compare", rows, tmp_path)
    assert sorted(choice for choice, _ in answers(project)) == ["a", "b"]
    assert "2 × answer of nobody named" in done.remarks()[0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.csv", "prompt,chosen,rejected\nq,a,b,c\nq2,a,b\n", "4 cells under 3 columns (line 2)"),
        ("r.tsv", "prompt\tchosen\trejected\nq\ta\tb\n\t\t\t\tx\n", "5 cells under 3 columns"),
        ("r.jsonl", '5\n{"prompt": "q", "chosen": "a", "rejected": "b"}\n', "malformed line"),
        ("r.json", [5, {"prompt": "q", "chosen": "a", "rejected": "b"}], "row that is no object"),
    ],
)
def test_a_bad_row_of_any_file_is_left_out_and_named(
    name: str, text: Any, said: str, kept: Store, tmp_path: Path
):
    project, done = brought(kept, "compare", text, tmp_path, name)
    assert done.added == 1
    assert [line.startswith(f"1 × {said}") for line in done.refused()] == [True]
    with pytest.raises(UserError, match=r"cells|malformed|object"):
        take_in(project, str(tmp_path / name))


def test_columns_that_nobody_reads_are_named_once(kept: Store, tmp_path: Path):
    rows = [{"text": "EU rejects", "label": [[0, 2, "ORG"]]}, {"text": "Rain", "difficulty": 3}]
    _, done = brought(kept, "spans", rows, tmp_path, span_labels=["ORG"])
    assert done.remarks() == ["not used: label (1 row), difficulty (1 row)"]


def test_columns_of_comparisons_that_nobody_reads_are_named(kept: Store, tmp_path: Path):
    pair = {"prompt": "q", "chosen": "a", "rejected": "b", "gold": {"choice": "a"}}
    _, done = brought(kept, "compare", [pair], tmp_path)
    assert done.remarks() == ["not used: gold"]
