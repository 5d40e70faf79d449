"""Exports: every format is read back to the same records, and all is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backflip.data.formats import load
from backflip.data.records import Comparison, Demonstration, Labelled
from backflip.data.sources import read
from backflip.errors import UserError
from backflip.feedback.exchange.converters import (
    HARD,
    SOFT,
    in_pairs,
    records,
    styled,
    to_records,
)
from backflip.feedback.exchange.exports import export, offered
from backflip.feedback.exchange.mapping import mapping_of
from backflip.feedback.exchange.records import Source
from backflip.feedback.kinds.registry import KINDS
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from backflip.feedback.statistics.aggregate import log_odds, majority, weighted
from backflip.feedback.statistics.agreement import agreement, rater_pairs
from backflip.feedback.statistics.crowd_bt import crowd_bt
from backflip.feedback.statistics.dawid_skene import dawid_skene
from backflip.feedback.statistics.glad import glad
from backflip.feedback.statistics.raters import rater_reports
from tests.feedback.answered import answer_all, better, pair, project_of
from tests.feedback.kinds import PROJECTS, by_item, compared, rows_of

# ---- what is written is what was meant


def canonical(record: Any) -> Any:
    """The better answer first, as pairs are written."""
    if isinstance(record, Comparison) and record.rank == (1, 0):
        return replace(record, answers=record.answers[::-1], rank=(0, 1))
    return record


def expected(source: Source, format: str) -> list[Any]:
    """What a format should be read back as."""
    if format in ("preference", "hh", "soft"):
        style = SOFT if format == "soft" else HARD
        pairs = [p for one in to_records(source, Comparison) for p in in_pairs(one)]
        found: list[Any] = [canonical(styled(pair, style).record) for pair in pairs]
        keep = found if format == "soft" else [r for r in found if not r.tied]
        return [r for r in keep if not (format == "hh" and r.prompt[0].role == "system")]
    if format == "rankings":
        return [
            replace(one.record, margin=0.0, soft=1.0, weight=one.evidence.weight)
            for one in to_records(source, Comparison)
            if not one.undecided
        ]
    kind = Demonstration if format == "demonstrations" else Labelled
    found = list(to_records(source, kind))
    if format == "demonstrations":
        return [replace(one.record, weight=one.evidence.weight) for one in found]
    return [one.record for one in found]


TRAINED = [
    (kind, made.name)
    for kind in PROJECTS
    for made in offered(kind)
    if made.name not in ("labels", "answers", "raters", "argilla", "label_studio")
]


@pytest.mark.parametrize(("kind", "format"), TRAINED)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv"])
def test_a_format_is_read_back_to_the_same_records(
    kind: str, format: str, suffix: str, known: Callable[[str], Project], tmp_path: Path
):
    project = known(kind)
    wanted = expected(Source(project), format)
    path = tmp_path / f"out{suffix}"
    if not wanted:  # a talk with a system message is no transcript
        with pytest.raises(UserError, match="begins with a system message"):
            export(project, format, path)
        return
    made = export(project, format, path)
    loaded = load(str(path), type(wanted[0]))
    assert [canonical(r) for r in loaded.records] == [canonical(r) for r in wanted]
    assert made.rows == len(wanted)
    assert not loaded.dropped.total


@pytest.mark.parametrize("kind", PROJECTS)
def test_parquet_and_json_lines_hold_the_same_rows(
    kind: str, known: Callable[[str], Project], tmp_path: Path
):
    project = known(kind)
    for made in offered(kind):
        if made.listed or (kind, made.name) == ("talk", "hh"):
            continue
        for per in made.pers:
            if kind == "rate" and per == "answer" and made.name != "answers":
                continue
            export(project, made.name, tmp_path / "a.jsonl", per=per)
            export(project, made.name, tmp_path / "a.parquet", per=per)
            lines = [dict(row.fields) for row in read(str(tmp_path / "a.jsonl"))]
            packed = [dict(row.fields) for row in read(str(tmp_path / "a.parquet"))]
            assert [unpacked(row) for row in packed] == lines


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """Columns of many shapes are JSON text in Parquet."""
    shapeless = ("payload", "value", "order", "gold", "verdicts", "words", "ratings")
    return {k: json.loads(v) if k in shapeless and v else v for k, v in row.items()}


# ---- the account


def test_the_summary_has_the_agreement_and_the_reliabilities(
    known: Callable[[str], Project], tmp_path: Path
):
    project = known("compare")
    kept = json.loads(export(project, "labels", tmp_path / "l.jsonl").summary.read_text())
    judged = project.judgements()
    alpha = agreement(judged.sides(), resamples=200).alpha
    assert kept["agreement"]["alpha"]["estimate"] == pytest.approx(alpha.estimate)
    light = rater_pairs(judged.sides()).light
    assert kept["agreement"]["light"] == pytest.approx(light)
    found = dawid_skene(judged)
    told = {row["rater"]: row["reliability"] for row in kept["reliabilities"]}
    np.testing.assert_allclose([told[name] for name in judged.rater_names], found.reliability)
    for name, fit in (("glad", glad(judged)), ("bradley_terry", crowd_bt(judged))):
        seen = [row[name] for row in kept["reliabilities"]]
        np.testing.assert_allclose(seen, fit.reliability)
    assert kept["answers_by_rubric_version"] == {"1": 36}


@pytest.mark.parametrize("kind", PROJECTS)
def test_the_summary_has_the_statistics_of_the_page(
    kind: str, known: Callable[[str], Project], tmp_path: Path
):
    project = known(kind)
    kept = json.loads(export(project, "answers", tmp_path / "a.jsonl").summary.read_text())
    if kind == "rate":
        made = {a.name: project.judgements(part=a.name) for a in project.settings.attributes}
        assert set(kept["statistics"]) == set(made)
        shown = kept["statistics"]["helpful"]
    else:
        shown = kept["statistics"]
    assert "habits" not in shown
    assert len(shown["raters"]) == len({answer.person for answer in project.answers()})
    for row in shown["raters"]:
        assert row["seconds"] == pytest.approx(5)
        assert {"others", "gold", "ties", "itself", "seconds", "tiring", "gauges"} <= set(row)
    if kind == "compare":
        (first, *_) = rater_reports(project.judgements())
        told = {row["name"]: row for row in shown["raters"]}[first.name]
        assert told["others"]["estimate"] == pytest.approx(first.agreement.estimate)
        assert [one["item"] for one in shown["disputed"]]


def test_the_summary_has_each_raters_gauges(kept: Store, tmp_path: Path):
    made = export(compared(kept, 30), "preference", tmp_path / "p.jsonl").summary
    for row in json.loads(made.read_text())["statistics"]["raters"]:
        assert set(row["gauges"]) == {"first", "length"}  # none of these answers has a list


def test_labels_stand_beside_those_of_other_methods(
    known: Callable[[str], Project], tmp_path: Path
):
    project = known("compare")
    judged = project.judgements()
    rows = by_item(rows_of(project, "labels", tmp_path))
    found = dawid_skene(judged)
    for method, labels in (
        ("majority", majority(judged)),
        ("weighted", weighted(judged, log_odds(found.reliability))),
        ("glad", glad(judged).labels),
        ("bradley_terry", crowd_bt(judged).labels),
    ):
        for place in np.flatnonzero(labels.raters):
            (verdict,) = rows[int(judged.item_names[place])]["verdicts"]
            told = verdict["others"][method]
            if labels.label[place] < 0:
                assert told["value"] is None
            else:
                assert told["value"] == labels.value[place]
            assert told["posterior"] == pytest.approx(labels.certainty[place])


def test_every_kind_has_every_format_that_names_it():
    every = [(kind, wanted) for kind in KINDS for wanted in mapping_of(kind).converters]
    for kind, wanted in every:
        names = {made.name for made in offered(kind)}
        if wanted is Labelled:
            assert {"unpaired", "kto"} <= names
        if wanted is Demonstration:
            assert "demonstrations" in names
        if wanted is Comparison:
            assert names & {"preference", "rankings"}
    assert all({"labels", "answers"} <= {m.name for m in offered(k)} for k in PROJECTS)


# ---- what cannot be


def test_a_transcript_that_would_say_something_else_is_left_out(kept: Store, tmp_path: Path):
    sly = pair(0)
    sly["answers"][0]["text"] = "good, but\n\nHuman: now me\n\nAssistant: now I"
    project, people = project_of(kept, "compare", [sly, pair(2)])
    answer_all(project, people, lambda _, payload: {"choice": better(payload)})
    made = export(project, "hh", tmp_path / "h.jsonl")
    assert made.rows == 1
    assert any("the text itself holds 'Human:'" in line for line in made.lines)


def test_an_empty_reply_is_left_out_and_counted(kept: Store, tmp_path: Path):
    empty = pair(0)
    empty["answers"][1]["text"] = "  "
    project, people = project_of(kept, "compare", [empty, pair(2)])
    answer_all(project, people, lambda *_: {"choice": "a"})
    made = export(project, "preference", tmp_path / "p.jsonl")
    assert made.rows == 1
    assert any("1 × empty answer" in line for line in made.lines)


@pytest.mark.parametrize(
    ("format", "name", "said"),
    [
        ("prefrence", "p.jsonl", "no export 'prefrence'. Use one of preference"),
        ("stepwise", "p.jsonl", "stepwise needs steps"),
        ("preference", "p.xlsx", "no ending that is known here; use .jsonl.gz, .jsonl"),
        ("argilla", "p.parquet", "no ending that is known here"),
        ("labels", "p.jsonl", "one row for each item; leave per=answer out"),
    ],
)
def test_a_wrong_wish_is_answered_in_words(
    format: str, name: str, said: str, known: Callable[[str], Project], tmp_path: Path
):
    project = known("compare")
    given: dict[str, Any] = {"per": "answer"} if format == "labels" else {}
    with pytest.raises(UserError, match=said):
        export(project, format, tmp_path / name, **given)


def test_without_answers_there_is_no_file(kept: Store, tmp_path: Path):
    project, _ = project_of(kept, "compare", [pair(0)])
    with pytest.raises(UserError, match=r"nothing to export: .*0 answers by 0 raters"):
        export(project, "preference", tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="has no comparisons yet"):
        records(Source(project), Comparison)
    assert not (tmp_path / "p.jsonl").exists()
    assert not (tmp_path / "p.jsonl.summary.json").exists()
