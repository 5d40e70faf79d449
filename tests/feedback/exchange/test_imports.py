"""Imports: any data source becomes items; what cannot is refused by line, or counted."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.imports import Wishes, items, take_in
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from tests.feedback.answered import ask, pair, project_of

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
HH = {
    "chosen": "\n\nHuman: Hi\n\nAssistant: Hello!",
    "rejected": "\n\nHuman: Hi\n\nAssistant: What?",
}
RANKED = {"prompt": "Name one", "completions": ["Rhine", "Po", "Ob"], "rank": [1, 0, 2]}
TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}
THUMB = {"prompt": "Hi", "completion": "Hello", "label": True}
STEPS = {"prompt": "2 + 2", "completions": ["2 + 2", "= 4"], "labels": [True, True]}


def taken(
    kept: Store, kind: str, rows: list[Any], tmp_path: Path, *, wishes: Wishes | None = None
) -> tuple[Project, Any]:
    project, _ = project_of(kept, kind, [], **({"span_labels": ["x"]} if kind == "spans" else {}))
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    return project, take_in(project, str(path), wishes)


@pytest.mark.parametrize(
    ("kind", "row", "payload"),
    [
        ("compare", PAIR, {"prompt": ask("Why?"), "texts": ["Because.", "No."]}),
        ("compare", HH, {"prompt": ask("Hi"), "texts": ["Hello!", "What?"]}),
        ("rank", PAIR, {"prompt": ask("Why?"), "texts": ["Because.", "No."]}),
        ("rank", RANKED, {"prompt": ask("Name one"), "texts": ["Rhine", "Po", "Ob"]}),
        ("rate", TALK, {"prompt": ask("Hi"), "texts": ["Yes?"]}),
        ("rate", THUMB, {"prompt": ask("Hi"), "texts": ["Hello"]}),
        ("thumbs", THUMB, {"prompt": ask("Hi"), "texts": ["Hello"]}),
        ("spans", TALK, {"prompt": ask("Hi"), "texts": ["Yes?"]}),
        ("write", {"prompt": "Say hello"}, {"prompt": ask("Say hello"), "texts": []}),
        ("write", TALK, {"prompt": ask("Hi"), "texts": ["Yes?"]}),
        ("write", PAIR, {"prompt": ask("Why?"), "texts": ["No."]}),  # the worse one is mended
        ("steps", STEPS, {"prompt": ask("2 + 2"), "texts": ["2 + 2", "= 4"]}),
        ("steps", THUMB | {"completion": "a\n\nb"}, {"prompt": ask("Hi"), "texts": ["a", "b"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_of_every_format_becomes_items(
    kind: str, row: dict[str, Any], payload: dict[str, Any], kept: Store, tmp_path: Path
):
    project, done = taken(kept, kind, [row], tmp_path)
    assert done.added == 1
    (item,) = project.items()
    found = item.payload
    answers = found.get("answers") or [found.get("answer") or found.get("draft")]
    texts = found.get("steps") or [answer["text"] for answer in answers if answer]
    assert {"prompt": found["prompt"], "texts": texts} == payload
    assert item.gold is None


def test_a_pair_is_two_answers_to_rate(kept: Store, tmp_path: Path):
    project, done = taken(kept, "rate", [PAIR], tmp_path)
    assert done.added == 2
    assert [item.payload["answer"]["text"] for item in project.items()] == ["Because.", "No."]


@pytest.mark.parametrize(
    ("kind", "row", "gold"),
    [
        ("compare", PAIR, {"choice": "a", "strength": 1, "reason": ""}),
        ("compare", PAIR | {"tie": True}, {"choice": "tie", "strength": 1, "reason": ""}),
        ("rank", RANKED, {"ranks": [1, 0, 2], "reason": ""}),
        ("thumbs", THUMB, {"up": True, "reason": ""}),
        ("steps", STEPS, {"labels": [1, 1], "reason": ""}),
    ],
)
def test_labels_in_the_data_become_gold_where_that_is_wished(
    kind: str, row: dict[str, Any], gold: dict[str, Any], kept: Store, tmp_path: Path
):
    project, _ = taken(kept, kind, [row], tmp_path, wishes=Wishes(gold=True, purpose="gold"))
    (item,) = project.items()
    assert item.gold == gold
    assert item.purpose == "gold"


def test_items_of_our_own_are_taken_as_they_are(kept: Store, tmp_path: Path):
    rows = [
        {
            "prompt": "Boil an egg",
            "answers": ["seven minutes", {"text": "an hour", "source": "m"}],
            "gold": {"choice": "a"},
            "why": "an hour is too long",
            "priority": 3.0,
        },
        {"payload": {"prompt": ask("x"), "answers": [{"text": "y"}, {"text": "z"}]}},
    ]
    project, done = taken(kept, "compare", rows, tmp_path)
    assert done.format == "items"
    golden = project.items(purpose="gold")[0]
    assert golden.payload["answers"][1] == {"text": "an hour", "source": "m"}
    assert (golden.why, golden.priority) == ("an hour is too long", 3.0)
    assert len(project.items()) == 2


def test_an_export_of_answers_can_be_asked_again(
    known: Callable[[str], Project], kept: Store, tmp_path: Path
):
    """Answers hold their items whole: another project asks the same."""
    old = known("compare")
    export(old, "labels", tmp_path / "labels.jsonl")
    project, _ = project_of(kept, "compare", [])
    done = take_in(project, str(tmp_path / "labels.jsonl"))
    assert done.added == 12
    payloads = [item.payload for item in project.items()]
    assert payloads == [item.payload for item in old.items()]


def test_the_packages_own_data_and_parquet_are_sources_too(kept: Store, tmp_path: Path):
    project, _ = project_of(kept, "compare", [])
    assert take_in(project, "demo:comparisons", Wishes(limit=20)).added == 20
    soft = [{"prompt": "p", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(5)]
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(soft), tmp_path / "p.parquet")
    assert take_in(project, str(tmp_path / "p.parquet")).added == 5


def test_what_is_there_already_and_twins_are_counted(kept: Store, tmp_path: Path):
    turned = {"prompt": "Why?", "chosen": "No.", "rejected": "Because."}
    twins = {"prompt": "Why?", "answers": ["same", "same"]}
    project, done = taken(kept, "compare", [PAIR, turned, PAIR], tmp_path)
    assert (done.added, done.duplicates) == (1, 2)
    write_jsonl(tmp_path / "twins.jsonl", [twins])
    again = take_in(project, str(tmp_path / "twins.jsonl"))
    assert (again.added, again.twins) == (0, 1)
    assert "items whose answers are the same: 1" in "\n".join(again.lines())


# ---- wrong columns, broken lines, large files


def test_wrong_columns_are_refused_with_what_was_seen(kept: Store, tmp_path: Path):
    with pytest.raises(UserError, match=r"unknown format. Columns seen: ask, say. Columns"):
        taken(kept, "compare", [{"ask": "?", "say": "b"}], tmp_path)


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("compare", {"prompt": "a"}, "prompts without answers, of which no item of kind 'compare'"),
        ("compare", THUMB, "rows of the format labelled, of which no item of kind 'compare'"),
        ("rank", TALK, "single answers, of which no item of kind 'rank'"),
        ("clips", PAIR, "no column 'clips', which items of kind clips need; columns seen: prompt"),
        ("principles", {"text": "Be kind"}, "no column 'principle'"),
        ("talk", {"opening": "Hi"}, "no column 'policies'"),
    ],
)
def test_data_that_fits_no_kind_is_refused_with_an_example(
    kind: str, row: dict[str, Any], said: str, kept: Store, tmp_path: Path
):
    with pytest.raises(UserError, match=said) as refused:
        taken(kept, kind, [row], tmp_path)
    assert "is an item: {" in str(refused.value)


def test_a_bad_row_is_refused_by_its_line_and_the_rows_before_it_stay(kept: Store, tmp_path: Path):
    rows = [pair(n) for n in range(600)]
    rows[550]["answers"].pop()
    with pytest.raises(UserError, match=r"rows.jsonl:551: answers.1: is missing"):
        taken(kept, "compare", rows, tmp_path)
    assert len(kept.project("tone").items(limit=1000)) == 500
    rows[550] = pair(550)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    again = take_in(kept.project("tone"), str(tmp_path / "rows.jsonl"))
    assert (again.added, again.duplicates) == (100, 500)


def test_bad_rows_and_broken_lines_are_counted_where_that_is_wished(kept: Store, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(PAIR | {"prompt": f"q{n}"}) for n in range(6)]
    lines[1] = '{"prompt": "cut o'
    lines[2] = json.dumps(PAIR | {"rejected": ""})
    lines[3] = "[1, 2]"
    path.write_text("\n".join(lines))
    project, _ = project_of(kept, "compare", [])
    with pytest.raises(UserError, match=r"rows.jsonl:2: malformed line"):
        take_in(project, str(path))
    done = take_in(project, str(path), Wishes(strict=False))
    assert done.added + done.duplicates == 3
    assert done.left_out.counts == {"malformed line": 2, "empty answer": 1}
    assert "2 × malformed line (lines 2, 4)" in "\n".join(done.lines())


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"priority": "high"}, "priority must be a number; seen: 'high'"),
        ({"why": 5}, "why must be a text; seen: '5'"),
        ({"route": 5}, "route must be a text"),
        ({"warning": ["blood"]}, "warning must be a text"),
        ({"gold": "agree"}, "gold must be an answer, as an object"),
    ],
)
def test_what_stands_beside_an_item_must_be_of_its_kind(
    beside: dict[str, object], said: str, kept: Store, tmp_path: Path
):
    (tmp_path / "x.jsonl").write_text(json.dumps({"principle": "Be kind.", **beside}))
    project, _ = project_of(kept, "principles", [])
    with pytest.raises(UserError, match=f"x.jsonl:1: {said}"):
        take_in(project, str(tmp_path / "x.jsonl"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\x00\x00", "malformed line"),
        ('{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}', "surrogate|character"),
    ],
)
def test_hostile_text_is_refused_in_words(text: str, said: str, kept: Store, tmp_path: Path):
    (tmp_path / "x.jsonl").write_text(text)
    project, _ = project_of(kept, "compare", [])
    with pytest.raises(UserError, match=said):
        take_in(project, str(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz"])
def test_a_large_file_is_never_held_whole(suffix: str, kept: Store, tmp_path: Path):
    """30 MB in 3,000 rows; what is in memory at once is a few hundred rows."""
    path = tmp_path / f"large{suffix}"
    filler = "x" * 5000
    rows = [{"prompt": f"q{n}", "chosen": filler, "rejected": filler + "y"} for n in range(3000)]
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        write_jsonl(path, rows)
    size = sum(len(json.dumps(row)) for row in rows)
    del rows
    project, _ = project_of(kept, "compare", [])
    found = items(str(path), project.settings)
    tracemalloc.start()
    assert sum(1 for _ in found) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 30e6
    assert peak < size / 2


@pytest.mark.slow
def test_a_file_of_100_mb_is_imported(kept: Store, tmp_path: Path):
    path = tmp_path / "large.jsonl.gz"
    filler = "word " * 1000
    with gzip.open(path, "wt", compresslevel=1) as file:
        for n in range(10_500):
            row = {"prompt": f"q{n}", "chosen": filler, "rejected": filler + str(n)}
            file.write(json.dumps(row) + "\n")
    project, _ = project_of(kept, "compare", [])
    done = take_in(project, str(path))
    assert done.added == 10_500


def test_what_is_not_wished_is_not_gold(kept: Store, tmp_path: Path):
    project, _ = taken(kept, "compare", [PAIR], tmp_path)
    assert project.items()[0].gold is None
    write_jsonl(tmp_path / "quiz.jsonl", [{"prompt": "a", "answers": ["b", "c"]}])
    with pytest.raises(UserError, match="items for screening need a known answer; add a column"):
        take_in(project, str(tmp_path / "quiz.jsonl"), Wishes(purpose="screening"))
