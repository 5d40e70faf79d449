"""Rows of Argilla's datasets: a column for each field, and several for each question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backflip.feedback.projects.store import Store
from tests.feedback.exchange.test_taken_over import answers, brought, side, task


def columns(name: str, *responses: tuple[Any, str, str]) -> dict[str, Any]:
    values, users, status = (list(part) for part in zip(*responses, strict=True))
    return {
        f"{name}.responses": values,
        f"{name}.responses.users": users,
        f"{name}.responses.status": status,
    }


FIELDS = {"id": "1", "status": "completed", "_server_id": "x", "prompt": "Which?"}
PAIR = {"response_1": "one", "response_2": "two"}


@pytest.mark.parametrize("name", ["rows.json", "rows.parquet"])
@pytest.mark.parametrize(
    ("kind", "row", "value"),
    [
        ("compare", PAIR | columns("preference", ("response_2", "u", "submitted")), "b"),
        ("compare", PAIR | columns("better", (["response_1"], "u", "submitted")), "a"),
        ("compare", PAIR | columns("q", (["response_2", "response_1"], "u", "submitted")), "b"),
        (
            "rank",
            PAIR
            | columns(
                "r",
                (
                    [{"value": "response_1", "rank": 2}, {"value": "response_2", "rank": 1}],
                    "u",
                    "submitted",
                ),
            ),
            [1, 0],
        ),
        ("rate", {"response": "one"} | columns("stars", (4, "u", "submitted")), {"helpful": 4}),
        ("thumbs", {"response": "one"} | columns("ok", ("good", "u", "submitted")), True),
        ("write", columns("text", ("Mine.", "u", "submitted")), "Mine."),
        (
            "spans",
            {"response": "in Rome"}
            | columns("s", ([{"start": 3, "end": 7, "label": "PER"}], "u", "submitted")),
            [{"start": 3, "end": 7, "label": "PER"}],
        ),
    ],
)
def test_every_question_of_argillas_dataset_is_read(
    name: str, kind: str, row: dict[str, Any], value: Any, kept: Store, tmp_path: Path
):
    extra: dict[str, Any] = {"span_labels": ["PER"]} if kind == "spans" else {}
    extra |= {"attributes": [{"name": "helpful", "low": 1, "high": 5}]} if kind == "rate" else {}
    project, done = brought(kept, kind, [FIELDS | row], tmp_path, name, **extra)
    assert (done.format, done.refused()) == ("argilla", [])
    (found,) = project.answers()
    assert value in found.value.values()


def test_discarded_answers_drafts_and_suggestions_of_argillas_dataset_are_counted(
    kept: Store, tmp_path: Path
):
    said = columns(
        "preference",
        ("response_1", "u1", "submitted"),
        ("response_2", "u2", "discarded"),
        ("response_2", "u3", "draft"),
    )
    guess = {
        "preference.suggestion": "response_2",
        "preference.suggestion.score": 0.9,
        "preference.suggestion.agent": "m",
    }
    rows = [FIELDS | PAIR | said | guess, FIELDS | PAIR | dict.fromkeys(said) | guess]
    rows[1]["prompt"] = "And here?"
    project, done = brought(kept, "compare", rows, tmp_path)
    assert done.added == 2
    assert [choice for choice, _ in answers(project)] == ["a"]
    assert done.left_out.counts == {"response is discarded": 1, "response is draft": 1}
    assert done.noted.counts["suggestion of a model for 'preference', which nobody gave"] == 2


def test_the_first_version_of_argillas_datasets_is_read(kept: Store, tmp_path: Path):
    row = {
        "prompt": "Which?",
        **PAIR,
        "preference": {
            "user_id": ["u1", "u2"],
            "value": ["response_2", "response_1"],
            "status": ["submitted", "discarded"],
        },
        "preference-suggestion": None,
        "preference-suggestion-metadata": {"agent": None, "score": None, "type": None},
        "external_id": "7",
        "metadata": "{}",
    }
    project, done = brought(kept, "compare", [row], tmp_path)
    assert [choice for choice, _ in answers(project)] == ["b"]
    assert done.left_out.counts == {"response is discarded": 1}


def test_a_strength_that_stands_before_the_side_is_not_the_side(kept: Store, tmp_path: Path):
    row = FIELDS | PAIR | columns("strength", (1, "u", "submitted"))
    row |= columns("preference", ("response_2", "u", "submitted"))
    project, _ = brought(kept, "compare", [row], tmp_path)
    assert [choice for choice, _ in answers(project)] == ["b"]


@pytest.mark.parametrize(
    "user", ["محمد", "王小明", "नमस्ते", "👩🏽‍💻", "e\u0301lan", "a\nb", "\u202eevil"]
)
def test_people_of_any_script_are_told_apart(user: str, kept: Store, tmp_path: Path):
    rows = [task(side("left", user), side("right", f"{user}2"))]
    project, done = brought(kept, "compare", rows, tmp_path)
    assert (done.answers, done.refused()) == (2, [])
    assert len({row.person for row in project.answers()}) == 2
