"""A file of answers says which project it fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.imports import take_in
from backflip.feedback.exchange.suggest import suggested
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store

PAIR = {"prompt": "Which?", "answer1": "one", "answer2": "two"}
ONE = {"prompt": "Which?", "answer1": "one"}


def result(kind: str, value: dict[str, Any], name: str = "q") -> dict[str, Any]:
    return {"from_name": name, "type": kind, "value": value}


@pytest.mark.parametrize(
    ("kind", "data", "results"),
    [
        ("compare", PAIR, [result("pairwise", {"selected": "left"})]),
        (
            "compare",
            PAIR,
            [
                result("rating", {"rating": 3}, "strength"),
                result("pairwise", {"selected": "left"}),
            ],
        ),
        ("compare", PAIR, [result("choices", {"choices": ["Answer 2"]})]),
        ("thumbs", ONE, [result("choices", {"choices": ["good"]})]),
        ("rate", ONE, [result("rating", {"rating": 4}, "clear"), result("number", {"number": 9})]),
        ("write", {"prompt": "Say."}, [result("textarea", {"text": ["Said."]})]),
        (
            "spans",
            {"text": "in Rome"},
            [result("labels", {"start": 3, "end": 7, "text": "Rome", "labels": ["PER"]})],
        ),
        (
            "rank",
            {"prompt": "p", "docs": [{"id": n, "body": n} for n in "xyz"]},
            [result("ranker", {"ranker": {"rank": ["z", "x", "y"]}})],
        ),
    ],
)
def test_a_project_for_label_studios_answers_needs_no_settings(
    kind: str, data: dict[str, Any], results: list[Any], kept: Store, tmp_path: Path
):
    path = tmp_path / "rows.json"
    annotations = [{"completed_by": n, "result": results} for n in range(3)]
    path.write_text(json.dumps([{"id": 1, "data": data, "annotations": annotations}]))
    settings = suggested(str(path))
    assert settings is not None
    assert (settings.kind, settings.raters_per_item) == (kind, 3)
    done = take_in(kept.create("made", settings), str(path))
    assert (done.answers, done.refused()) == (3, [])


@pytest.mark.parametrize("format", ["answers", "label_studio", "argilla"])
@pytest.mark.parametrize("kind", ["compare", "rank", "rate", "thumbs", "write"])
def test_our_own_exports_say_what_was_asked(
    format: str, kind: str, known: Callable[[str], Project], kept: Store, tmp_path: Path
):
    old = known(kind)
    made = export(old, format, tmp_path / "out.json")
    settings = suggested(str(made.path))
    assert settings is not None
    assert settings.kind == kind
    done = take_in(kept.create("back", settings), str(made.path))
    assert done.refused() == []
    assert done.answers == len(list(old.answers()))


def test_rows_without_answers_say_nothing_of_a_project(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    assert suggested(str(tmp_path / "rows.jsonl")) is None
