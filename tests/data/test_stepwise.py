"""TRL's stepwise rows, and lines that are broken: read as what they are, or counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backflip.data.formats import detect, kind_of, load
from backflip.data.records import Labelled, Tally, messages
from backflip.data.sources import read, write_jsonl
from backflip.errors import UserError

ROW: dict[str, Any] = {
    "prompt": "Which is larger, 9.11 or 9.8?",
    "completions": ["9.8 is 9.80.", "80 is more than 11.", "So it is 9.8."],
    "labels": [True, True, True],
}


def test_a_solution_is_good_where_every_step_is(tmp_path: Path):
    """And its prompt is not all that is seen of it: such rows used to pass for prompts."""
    bad = ROW | {"prompt": "2 + 2", "labels": [True, False, True]}
    write_jsonl(tmp_path / "steps.jsonl", [ROW, bad])
    assert detect(ROW, "x").name == "stepwise"
    assert kind_of(str(tmp_path / "steps.jsonl")) == "solutions"
    good, wrong = load(str(tmp_path / "steps.jsonl"), Labelled).records
    assert good.answer == messages(("assistant", "\n".join(ROW["completions"])))
    assert (good.label, wrong.label) == (True, False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": [True]}, "steps and labels do not fit"),
        ({"completions": [1, 2, 3]}, "steps and labels do not fit"),
        ({"labels": [True, "perhaps", True]}, "column 'labels' is neither true nor false"),
        ({"completions": [], "labels": []}, "empty answer"),
    ],
)
def test_steps_that_do_not_fit_are_counted(change: dict[str, Any], reason: str, tmp_path: Path):
    write_jsonl(tmp_path / "steps.jsonl", [ROW, ROW | change])
    loaded = load(str(tmp_path / "steps.jsonl"), Labelled)
    assert loaded.dropped.counts == {reason: 1}


def test_rankings_are_still_rankings():
    row = {"prompt": "a", "completions": ["b", "c"], "rank": [0, 1]}
    assert detect(row, "x").name == "ranking"
    assert detect({**row, "labels": "x"}, "x").name == "ranking"


def test_broken_lines_are_counted_where_somebody_counts(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n[3]\n\n{"a": 4}\n')
    broken = Tally()
    assert [row.fields["a"] for row in read(str(path), broken=broken)] == [1, 4]
    assert broken.counts == {"malformed line": 2}
    assert broken.examples["malformed line"] == [f"{path}:2", f"{path}:3"]
    with pytest.raises(UserError, match=r"rows.jsonl:2: malformed line"):
        list(read(str(path)))
