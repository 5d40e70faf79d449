"""Step-labelled rows: every published form, the ends of steps, and what is made out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backflip.data.chat import ChatTemplate
from backflip.data.formats import load
from backflip.data.records import (
    BAD,
    GOOD,
    NEUTRAL,
    Comparison,
    Demonstration,
    Labelled,
    Solution,
    messages,
)
from backflip.data.solution_batches import tokenize_solutions
from backflip.data.sources import write_jsonl
from backflip.data.steps import StepFinder, step_ends
from backflip.data.writing import as_row
from backflip.errors import UserError
from tests.data.tiny import CHATML, byte_tokenizer

ASK = messages(("user", "2 + 2 + 2?"))


def read(rows: list[dict[str, Any]], folder: Path, kind: type[Any] = Solution) -> Any:
    write_jsonl(folder / "rows.jsonl", rows)
    return load(str(folder / "rows.jsonl"), kind)


def test_prm800k_is_its_chosen_path_with_the_rest_as_alternatives(tmp_path: Path):
    """A neutral step, one written by hand, and an end at which nothing right was found."""

    def step(*rated: tuple[str, int], chosen: int | None = 0, hand: str | None = None):
        texts = [{"text": text, "rating": rating, "flagged": None} for text, rating in rated]
        return {"completions": texts, "human_completion": hand, "chosen_completion": chosen}

    steps = [
        step(("See.", 0), ("No.", -1)),
        step(("5.", -1), chosen=None, hand="4."),
        step(("7.", -1), ("6.", 1), chosen=None),
    ]
    label = {"steps": steps, "finish_reason": "found_error"}
    (made,) = read([{"question": {"problem": "2 + 2 + 2?"}, "label": label}], tmp_path).records
    assert (made.prompt, made.steps) == (ASK, ("See.", "4.", "7."))
    assert made.labels == (NEUTRAL, GOOD, BAD)
    others = [(one.place, one.text, one.label) for one in made.alternatives]
    assert others == [(0, "No.", BAD), (1, "5.", BAD), (2, "6.", GOOD)]
    assert (made.first_error, made.finished, made.decided) == (2, False, True)


@pytest.mark.parametrize(
    ("first", "labels"), [(-1, (GOOD,) * 3), (0, (BAD, None, None)), (2, (GOOD, GOOD, BAD))]
)
def test_process_bench_knows_nothing_behind_the_first_error(
    first: int, labels: Any, tmp_path: Path
):
    row = {"problem": "2 + 2 + 2?", "steps": ["a", "b", "c"], "label": first, "id": "x"}
    (made,) = read([row], tmp_path).records
    assert made.labels == labels
    assert made.first_error == (None if first == -1 else first)
    assert made.decided


def test_math_shepherd_pairs_tags_with_signs_that_stand_in_the_text_too(tmp_path: Path):
    text = "2 + 2? Step 1: 2 + 2 = 4. {}\nStep 2: so 4 - 0. {}"
    row = {"input": text.format("ки", "ки"), "label": text.format("+", "-"), "task": "GSM8K"}
    made = read([row, row | {"label": text.format("+", "?")}], tmp_path)
    assert made.records[0].steps == ("Step 1: 2 + 2 = 4.", "Step 2: so 4 - 0.")
    assert made.records[0].labels == (GOOD, BAD)
    assert made.records[0].prompt == messages(("user", "2 + 2?"))
    assert made.dropped.counts == {"input and label are not the same steps": 1}


@pytest.mark.parametrize(
    ("name", "given", "labels"),
    [
        ("labels", [True, False], (GOOD, BAD)),
        ("labels", [1, 0], (GOOD, BAD)),
        ("labels", [0, -1], (NEUTRAL, BAD)),
        ("labels", [1.0, 0.25], (GOOD, (0.75, 0.0, 0.25))),
        ("step_labels", [1, 0], (GOOD, NEUTRAL)),
        ("labels", ["good", None], (GOOD, None)),
        ("ratings", [-1, 1], (BAD, GOOD)),
    ],
)
def test_labels_in_every_dialect(name: str, given: list[Any], labels: Any, tmp_path: Path):
    loaded = read([{"prompt": "2 + 2 + 2?", "steps": ["a", "b"], name: given}], tmp_path)
    assert loaded.records[0].labels == labels
    again = read([as_row(loaded.records[0])], tmp_path).records
    assert again == loaded.records


def test_a_zero_that_may_be_bad_or_neutral_is_said_and_refused_where_rows_disagree(tmp_path: Path):
    row = {"prompt": "2 + 2 + 2?", "steps": ["a", "b"], "labels": [1, 0]}
    assert "0 is read as the label of a bad step" in " ".join(read([row], tmp_path).notes)
    with pytest.raises(UserError, match="0 may be a bad step or a neutral one"):
        read([row, row | {"labels": [0, -1]}], tmp_path)


def test_labels_out_of_range_are_counted(tmp_path: Path):
    row = {"prompt": "2 + 2 + 2?", "steps": ["a"], "labels": [True]}
    bad = [row | {"labels": [1.5]}, row | {"labels": [None]}, row | {"steps": [" "]}]
    assert read([row, *bad], tmp_path).dropped.counts == {
        "label of a step out of range": 1,
        "no step has a label": 1,
        "empty step": 1,
    }


SOLVED = {"prompt": "2 + 2 + 2?", "steps": ["4.", "6."], "step_labels": [1, 1]}
WRONG = {"prompt": "2 + 2 + 2?", "steps": ["4.", "7.", "So 7."], "step_labels": [1, -1, 1]}


def test_steps_behind_the_same_steps_are_pairs(tmp_path: Path):
    """They differ in the last step alone; what follows an error is in no pair."""
    (pair,) = read([SOLVED, WRONG], tmp_path, Comparison).records
    said = [answer[0].content for answer in pair.answers]
    assert said == ["4.\n6.", "4.\n7."]
    assert (pair.prompt, pair.rank) == (ASK, (0, 1))


def test_solutions_are_answers_that_are_good_or_bad(tmp_path: Path):
    part = SOLVED | {"step_labels": [1, None]}
    labelled = read([SOLVED, WRONG, part], tmp_path, Labelled)
    assert [record.label for record in labelled.records] == [True, False]
    assert labelled.dropped.counts == {"labelled in part, and nothing bad so far": 1}
    (shown,) = read([SOLVED, WRONG], tmp_path, Demonstration).records
    assert shown.messages[-1].content == "4.\n6."


# ---- ends of steps


@pytest.mark.parametrize(
    ("text", "separator", "ends"),
    [
        ("a\nb", "\n", [1, 2]),
        ("a\nb\n", "\n", [1, 3]),
        ("\n\na\n\n\nb", "\n", [3, 6]),
        ("a\nb\n\nc", "\n\n", [4, 5]),
        ("a\n\n\n\nb", "\n\n", [2, 5]),
        ("a\n \nb", "\n", [1, 4]),
        ("a. b; c", "; ", [5, 6]),
        ("  ", "\n", []),
    ],
)
def test_steps_end_where_a_separator_is_complete(text: str, separator: str, ends: list[int]):
    assert step_ends(text, separator) == ends
    whole = [text[i : i + 2] for i in range(0, len(text), 2)]  # the same cut into other pieces
    assert step_ends(whole, separator) == [end // 2 for end in ends]


def template() -> ChatTemplate:
    return ChatTemplate(byte_tokenizer(CHATML))


def test_labels_stand_on_the_tokens_that_end_their_steps():
    """An inner line end is part of its step; behind the last step stands the end of the turn."""
    chat = template()
    made = Solution(ASK, ("It is\nthis: 4.", "Ünd 6."), (BAD, GOOD))
    data = tokenize_solutions([made], chat).data
    answer, ends = data.steps.answer.row(0).tolist(), data.ends.row(0).tolist()
    text = [chat.tokenizer.decode(answer[: end + 1]) for end in ends]
    assert text == ["It is\nthis: 4.\n", "It is\nthis: 4.\nÜnd 6.<|im_end|>"]
    assert data.labels.row(0).tolist() == [list(BAD), list(GOOD)]


def test_learnt_and_sampled_answers_are_cut_at_the_same_tokens():
    chat = template()
    made = Solution(ASK, ("4.", "5.", "6."), (GOOD, None, BAD), finished=False)
    data = tokenize_solutions([made], chat).data
    answer = data.steps.answer.row(0).tolist()
    assert answer[-1] not in chat.stop_tokens
    assert data.ends.row(0).tolist() == [
        StepFinder(chat).ends(answer, finished=False)[place] for place in (0, 2)
    ]
    assert data.number.row(0).tolist() == [0, 2]


def test_alternatives_are_rows_behind_the_same_steps(tmp_path: Path):
    row = SOLVED | {"alternatives": [{"place": 1, "text": "7.", "label": -1}]}
    loaded = read([row], tmp_path)
    assert read([as_row(loaded.records[0])], tmp_path).records == loaded.records
    chat = template()
    made = tokenize_solutions(loaded.records, chat)
    assert made.kept == (0, 0)
    text = chat.tokenizer.decode(made.data.steps.answer.row(1).tolist())
    assert text == "4.\n7.\n"
    assert made.data.labels.row(1).tolist() == [list(BAD)]
    (pair,) = read([row], tmp_path, Comparison).records
    assert [answer[0].content for answer in pair.answers] == ["4.\n6.", "4.\n7."]


def test_what_check_shows_marks_the_tokens_that_are_read(tmp_path: Path):
    from backflip.data.readings import first_readings

    records = read([WRONG | {"step_labels": [1, -1, None]}], tmp_path).records
    (shown,) = first_readings(records, template())
    assert shown.about == "2 labelled steps, read where marked"
    assert [text for text, marked in shown.spans if marked] == ["\n", "\n"]
