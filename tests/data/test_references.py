"""Reference answers of questions: marked in a solution, in a column of their own, or a letter."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from backflip.data.formats import Loaded, load
from backflip.data.records import Demonstration, Prompt
from backflip.data.references import boxed

DATA = Path(__file__).parents[3] / "shared" / "data"


def read(*rows: dict[str, Any], **how: Any) -> Loaded[Prompt]:
    return load(list(rows), Prompt, **how)


@pytest.mark.parametrize(
    ("row", "reference", "info"),
    [
        ({"answer": "4 + 4 = 8\n#### 8"}, "8", {"worked_solution": "4 + 4 = 8\n#### 8"}),
        ({"answer": "#### 1,000 \n"}, "1,000", {"worked_solution": "#### 1,000 \n"}),
        ({"solution": r"so $\boxed{\frac{1}{2}}$."}, r"\frac{1}{2}",
         {"worked_solution": r"so $\boxed{\frac{1}{2}}$."}),
        ({"answer": "8", "solution": r"so \boxed{8}"}, "8", {"solution": r"so \boxed{8}"}),
        ({"answer": "a river\n#### of\nno return"}, "a river\n#### of\nno return", {}),
        ({"answer": "8"}, "8", {}),
        ({"answer": "It is 8.", "ground_truth": "8"}, "8", {}),
        ({"answer": "It is 8.", "Expected Answer": 8}, "8", {}),
        ({"reward_model": {"ground_truth": "8", "style": "rule"}}, "8", {}),
        ({}, "", {}),
    ],
)  # fmt: skip
def test_the_reference_is_the_final_answer(row: dict[str, Any], reference: str, info: Any):
    for name in ("question", "problem", "prompt"):
        (found,) = read({name: "4 + 4?", "level": 1} | row).records
        assert (found.reference, found.info) == (reference, {"level": 1} | info)


def test_a_named_column_is_the_reference_and_nothing_else():
    rows = [{"question": "?", "answer": "It is 8.", "gold": gold} for gold in ("8", "")]
    found = read(*rows, columns={"reference": "gold"}).records
    assert [one.reference for one in found] == ["8", ""]


def test_where_it_was_found_is_said():
    notes = read({"question": "?", "answer": "#### 8"}, {"question": "!", "answer": "#### 9"}).notes
    assert any("follows ####" in note and "2 rows" in note for note in notes)


def test_what_is_imitated_is_still_the_whole_solution():
    (found,) = load([{"question": "?", "answer": "2 + 2 = 4\n#### 4"}], Demonstration).records
    assert found.messages[-1].content == "2 + 2 = 4\n#### 4"


@pytest.mark.parametrize("file", ["gsm8k_train.jsonl.gz", "math500.jsonl.gz"])
def test_every_row_of_public_data_has_its_reference(file: str):
    if not (DATA / file).exists():
        pytest.skip(f"{DATA / file} is not there")
    rows = [json.loads(line) for line in gzip.decompress((DATA / file).read_bytes()).splitlines()]
    found = load(str(DATA / file), Prompt)
    assert len(found.records) == len(rows)
    gold = [row["answer"].rpartition("#### ")[2] for row in rows]
    if "math" in file:
        gold = [boxed(row["answer"]) for row in rows]
    assert [one.reference for one in found.records] == gold


# ---- multiple choice

ASKED = "Which?\n\nA. Paris\nB. the Rhine\nC. Rome"
TEXTS = ["Paris", "the Rhine", "Rome"]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Which?", "choices": TEXTS, "answer": 1},
        {"question": "Which?", "choices": TEXTS, "answer": "B"},
        {"question": "Which?", "options": TEXTS, "answer": "the Rhine"},
        {"question": "Which?", "options": TEXTS, "answer": "(b)"},
        {"ctx": "Which?", "endings": TEXTS, "label": "1"},
        {"question": "Which?", "choices": {"text": TEXTS, "label": list("ABC")}, "answerKey": "B"},
        {"question_stem": "Which?", "choices": {"text": TEXTS, "label": ["1", "2", "3"]},
         "answerKey": "2"},
        {"question": "Which?", "options": dict(zip("ABC", TEXTS, strict=True)), "answer_idx": "B",
         "answer": "the Rhine"},
        {"question": [{"role": "user", "content": "Which?"}], "choices": TEXTS, "answer": 1},
    ],
)  # fmt: skip
def test_a_question_with_options_asks_for_a_letter(row: dict[str, Any]):
    (found,) = read(row).records
    assert (found.messages[-1].content, found.reference) == (ASKED, "B")
    assert any(name in found.info for name in ("choices", "options", "endings"))
    (shown,) = load([row], Demonstration).records
    assert shown.messages[-1].content == "B"


def test_questions_without_a_usable_key_are_counted():
    keys = [1, None, 7, "", "D", "London", True]
    found = read(*({"question": "Which?", "choices": TEXTS, "answer": key} for key in keys))
    assert len(found.records) == 1
    assert found.dropped.counts == {"a question without a key": 2, "a key that names no option": 4}
