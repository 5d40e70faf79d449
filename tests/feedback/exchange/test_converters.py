"""Records of answers, by hand: labels, posteriors, margins and weights, kind by kind."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from backflip.data.formats import load
from backflip.data.records import BAD, GOOD, NEUTRAL, Comparison, Labelled
from backflip.data.sources import read
from backflip.errors import UserError
from backflip.feedback.exchange.converters import records
from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.records import Source
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from backflip.feedback.statistics.dawid_skene import dawid_skene
from tests.feedback.answered import answer_all, ask, better, pair, project_of
from tests.feedback.kinds import (
    RANKED,
    by_item,
    number_of,
    ranked,
    rated,
    rows_of,
    stepped,
    talked,
    written,
)

# ---- labels by hand


def test_labels_and_posteriors_are_those_of_dawid_and_skene(
    known: Callable[[str], Project], tmp_path: Path
):
    project = known("compare")
    judged = project.judgements()
    found = dawid_skene(judged)
    rows = by_item(rows_of(project, "soft", tmp_path))
    for name, p, tie in zip(
        judged.item_names, found.labels.p_first, found.labels.value == 0, strict=True
    ):
        if int(name) not in rows:
            continue
        row = rows[int(name)]
        assert row["tie"] == (tie or math.isclose(p, 0.5))
        if not row["tie"]:
            assert row["p_chosen"] == pytest.approx(max(p, 1 - p))
            assert row["posterior_low"] <= row["posterior"] <= row["posterior_high"]


def test_the_margin_is_llama_2s_and_dissent_counts_against_it(
    known: Callable[[str], Project], tmp_path: Path
):
    """Strengths 1 to 4 are 0, 1/3, 2/3, 1; question 6 (strength 3) has two for and one against."""
    rows = {
        int(row["prompt"][0]["content"].split()[1].rstrip("?")): row
        for row in rows_of(known("compare"), "preference", tmp_path)
    }
    assert sorted(rows) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert [rows[n]["margin"] for n in (4, 5, 10, 7)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert rows[6]["margin"] == pytest.approx((2 / 3 + 2 / 3 - 2 / 3) / 3)
    assert rows[6]["chosen"][0]["content"] == "good answer 6"
    assert rows[6]["weight"] < rows[7]["weight"] <= 1


def test_a_hard_label_weighs_2p_minus_1(known: Callable[[str], Project], tmp_path: Path):
    """So much does a soft label pull at equal scores: p σ(0) − (1 − p) σ(0) = p − ½."""
    project = known("compare")
    soft = by_item(rows_of(project, "soft", tmp_path))
    for number, row in by_item(rows_of(project, "preference", tmp_path)).items():
        assert row["weight"] == pytest.approx(2 * soft[number]["p_chosen"] - 1)


def test_ties_both_bad_and_cannot_tell_are_counted_aloud(
    known: Callable[[str], Project], tmp_path: Path
):
    made = export(known("compare"), "preference", tmp_path / "p.jsonl")
    said = "\n".join(made.lines)
    assert "36 answers by 3 raters to 12 items" in said
    assert "4 ties, 3 both bad, 3 cannot tell" in said
    assert "1 × both bad" in said
    assert "1 × cannot tell" in said
    assert "1 × a tie, which this format cannot say" in said
    assert "1 × raters are evenly split" in said  # one for each answer, and one for a tie
    kept = json.loads(made.summary.read_text())
    assert kept["verdicts"] == {"a": 13, "b": 13, "tie": 4, "both_bad": 3, "cannot_tell": 3}
    assert kept["rows"] + sum(kept["left_out"].values()) == kept["items"] == 12


def test_nothing_that_was_said_is_unaccounted_for_one_row_an_answer(
    known: Callable[[str], Project], tmp_path: Path
):
    made = export(known("compare"), "soft", tmp_path / "s.jsonl", per="answer")
    kept = json.loads(made.summary.read_text())
    assert kept["rows"] + sum(kept["left_out"].values()) == kept["answers"] == 36


def test_both_bad_teaches_kto_that_both_are_bad(known: Callable[[str], Project], tmp_path: Path):
    project = known("compare")
    made = export(project, "kto", tmp_path / "k.jsonl")
    rows = [row.fields for row in read(str(made.path))]
    bad = [row for row in rows if row["prompt"][0]["content"] == "question 1?"]
    assert [row["label"] for row in bad] == [False, False]
    counts = Counter(row["label"] for row in rows)
    assert counts == {True: 8, False: 10}
    advice = json.loads(made.summary.read_text())["kto"]
    assert (advice["good"], advice["bad"]) == (8, 10)
    low, high = advice["desirable_weight"]
    assert (low * 8 / 10, high * 8 / 10) == pytest.approx((1, 4 / 3))


def test_one_row_an_answer_names_its_rater_and_how_far_to_trust_them(
    known: Callable[[str], Project], tmp_path: Path
):
    project = known("compare")
    found, names = dawid_skene(project.judgements()), project.judgements().rater_names
    rows = rows_of(project, "soft", tmp_path, per="answer")
    for row in rows:
        (rater,) = row["raters"]
        reliability = found.reliability[names.index(rater)]
        if not row["tie"]:
            assert row["p_chosen"] == pytest.approx(reliability)
    assert Counter(row["raters"][0] for row in rows) == dict.fromkeys(names, 10)
    events = {row["provenance"]["events"][0] for row in rows}
    assert events < {answer.event for answer in project.answers()}


# ---- what is known


def test_gold_and_a_seniors_word_stand_above_the_raters(kept: Store, tmp_path: Path):
    project, people = project_of(
        kept, "compare", [pair(n) for n in range(4)], raters=2, gold_share=0.4
    )
    project.add_items([pair(20)], gold=[{"choice": better(pair(20))}], purpose="calibration")
    wrong = {"a": "b", "b": "a"}
    answer_all(project, people, lambda _, payload: {"choice": wrong[better(payload)]})
    senior = kept.people.add().id
    project.enrol(senior, role="adjudicator")
    disputed = next(row.id for row in project.items() if number_of(row.payload) == 2)
    project.to_adjudication([disputed])
    answer_all(
        project, [senior], lambda _, p: {"choice": better(p), "strength": 2}, queue="adjudicate"
    )
    rows = {
        number_of({"prompt": row["prompt"]}): row
        for row in rows_of(project, "preference", tmp_path)
    }
    right = {n for n, row in rows.items() if row["chosen"][0]["content"].startswith("good")}
    assert right == {2, 20}
    for number in right:
        assert rows[number]["provenance"]["known"]
        assert rows[number]["weight"] == rows[number]["posterior"] == 1
    assert rows[2]["margin"] == 1  # the senior's own strength, 2 of 2


def test_golden_judgements_are_a_part_of_their_own(kept: Store, tmp_path: Path):
    project, people = project_of(kept, "compare", [pair(n) for n in range(3)], raters=1)
    project.add_items([pair(30), pair(31)], purpose="golden")
    answer_all(project, people, lambda _, payload: {"choice": better(payload)})
    senior = kept.people.add().id
    project.enrol(senior, role="lead")
    answer_all(project, [senior], lambda _, p: {"choice": better(p)}, queue="golden")
    ordinary = rows_of(project, "preference", tmp_path)
    golden = rows_of(project, "preference", tmp_path, part="golden")
    assert {number_of(row) for row in ordinary} == {0, 1, 2}
    assert {number_of(row) for row in golden} == {30, 31}


def test_an_export_is_pinned_to_its_event(kept: Store, tmp_path: Path):
    project, people = project_of(kept, "compare", [pair(n) for n in range(6)], raters=2)
    answer_all(project, people[:1], lambda _, payload: {"choice": better(payload)})
    pinned = project.newest_event()
    export(project, "soft", tmp_path / "then.jsonl")
    answer_all(project, people[1:], lambda *_: {"choice": "tie"})
    project.undo(people[0])
    export(project, "soft", tmp_path / "now.jsonl")
    export(project, "soft", tmp_path / "again.jsonl", until=pinned)
    then, now, again = (
        (tmp_path / f"{name}.jsonl").read_text() for name in ("then", "now", "again")
    )
    assert then == again != now
    sums = [(tmp_path / f"{name}.jsonl.summary.json").read_text() for name in ("then", "again")]
    assert sums[0] == sums[1]


# ---- kinds


def test_rankings_are_by_the_mean_chance_against_the_others(kept: Store, tmp_path: Path):
    rows = rows_of(ranked(kept), "rankings", tmp_path)
    assert [row["rank"] for row in rows] == [[0, 1, 2], [2, 0, 1]]
    pairs = rows_of(ranked_again(kept), "preference", tmp_path)
    assert len(pairs) == 3
    assert {(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in pairs} == {
        ("best", "middle"),
        ("best", "worst"),
        ("middle", "worst"),
    }


def ranked_again(kept: Store) -> Project:
    project, people = project_of(kept, "rank", RANKED[:1], name="again")
    answer_all(project, people, lambda *_: {"ranks": [0, 1, 2]})
    return project


def test_neighbours_that_tie_share_a_place_and_unranked_answers_the_last(
    kept: Store, tmp_path: Path
):
    texts = ["a", "b", "c", "d"]
    item = {"prompt": ask("order"), "answers": [{"text": t} for t in texts]}
    project, people = project_of(kept, "rank", [item])
    answer_all(project, people, lambda *_: {"ranks": [0, 0, None, None]})
    made = export(project, "rankings", tmp_path / "r.jsonl")
    (row,) = read(str(made.path))
    assert row.fields["rank"] == [0, 0, 1, 1]
    assert any("ranked by nobody, which share the last place: 2" in line for line in made.lines)


def test_ratings_rank_the_answers_to_a_prompt(kept: Store, tmp_path: Path):
    made = export(rated(kept), "rankings", tmp_path / "r.jsonl")
    (row,) = (r.fields for r in read(str(made.path)))
    scores = dict(zip([c[0]["content"] for c in row["completions"]], row["scores"], strict=True))
    assert scores["good one"] == pytest.approx(((14 / 3 - 1) / 4 + 0.8) / 2)
    assert scores["bad one"] == pytest.approx(((2 - 1) / 4 + 0.3) / 2)
    assert row["ratings"][row["rank"].index(0)]["helpful"] == pytest.approx(14 / 3)
    assert any("the only rated answer to its prompt" in line for line in made.lines)
    measured = json.loads(made.summary.read_text())["agreement"]
    assert set(measured) == {"helpful", "kind"}
    assert measured["helpful"]["metric"] == "interval"


def test_a_draft_made_better_is_a_demonstration_and_a_pair(kept: Store, tmp_path: Path):
    project = written(kept)
    shown = {row["messages"][-1]["content"] for row in rows_of(project, "demonstrations", tmp_path)}
    assert shown == {"hello 0", "hello 1", "the 0", "teh"}
    made = export(project, "preference", tmp_path / "p.jsonl")
    (row,) = (r.fields for r in read(str(made.path)))
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("the 0", "teh")
    left = json.loads(made.summary.read_text())["left_out"]
    assert left == {"written without a draft": 2, "the draft was left as it was": 1}


def test_steps_are_labels_one_by_one_and_a_solution_as_a_whole(kept: Store, tmp_path: Path):
    project = stepped(kept)
    rows = rows_of(project, "stepwise", tmp_path)
    assert [row["labels"] for row in rows] == [[True, True], [True, False]]
    assert [row["step_labels"] for row in rows] == [[1, 0], [1, -1]]
    assert rows[1]["completions"] == ["3 + 3", "= 7"]  # nothing behind the bad step
    whole = records(Source(project), Labelled).records
    assert [record.label for record in whole] == [True, False]
    solutions = records(Source(project), "solutions").records
    assert [record.labels for record in solutions] == [(GOOD, NEUTRAL), (GOOD, BAD)]
    assert [record.finished for record in solutions] == [row["finished"] for row in rows]
    again = load(str(export(project, "stepwise", tmp_path / "s.jsonl").path), "solutions").records
    assert [r.labels for r in again] == [r.labels for r in solutions]


def test_a_talk_is_a_comparison_at_every_turn(kept: Store, tmp_path: Path):
    project = talked(kept)
    rows = rows_of(project, "rankings", tmp_path)
    told = [([c[0]["content"] for c in row["completions"]], row["rank"]) for row in rows]
    assert told == [
        (["Hello!", "What?"], [0, 1]),
        (["Nile, Rhine, Po", "Nile", "The Rhine"], [0, 2, 1]),
        (["Po", "Rhine", "Nile"], [0, 1, 1]),  # said twice, and learnt once
    ]
    assert [row["provenance"]["turn"] for row in rows] == [2, 4, 6]
    assert rows[1]["provenance"]["sources"] == ["rater", "model-x", "model-y"]
    assert [m["content"] for m in rows[1]["prompt"]] == [
        "You are a guide.",
        "Hi",
        "Hello!",
        "Name three rivers",
    ]
    (shown,) = rows_of(project, "demonstrations", tmp_path)
    assert shown["messages"][-1]["content"] == "Nile, Rhine, Po"
    (labels,) = rows_of(project, "labels", tmp_path)
    assert labels["verdicts"][0]["part"] == "be brief"
    assert labels["verdicts"][0]["value"] == 1.0


def test_clips_principles_and_spans_have_labels_and_answers_and_teach_no_words(
    kept: Store, tmp_path: Path
):
    clips = [{"clips": [{"file": "a.mp4"}, {"file": "b.mp4"}]}]
    project, people = project_of(kept, "clips", clips)
    answer_all(project, people, lambda *_: {"choice": "b", "strength": 2})
    (row,) = rows_of(project, "labels", tmp_path)
    assert row["verdicts"][0]["value"] == -1.0
    assert row["words"] == {"b": 3}
    assert len(rows_of(project, "answers", tmp_path)) == 3
    with pytest.raises(UserError, match="kind 'clips', which yields no comparisons"):
        records(Source(project), Comparison)
    with pytest.raises(UserError, match="no export 'preference'; preference needs compare"):
        export(project, "preference", tmp_path / "p.jsonl")


# ---- what changes later


def test_another_scale_later_changes_no_margin_that_was_given(kept: Store, tmp_path: Path):
    """Strength 2 of 2 was the strongest there was, and stays it on a scale of eight points."""
    project, people = project_of(kept, "compare", [pair(n) for n in range(4)], raters=1, scale=4)
    answer_all(project, people, lambda _, p: {"choice": better(p), "strength": 2})
    before = project.newest_event()
    project.configure(project.settings.model_copy(update={"scale": 8}))
    rows = rows_of(project, "preference", tmp_path)
    assert [row["margin"] for row in rows] == [1.0] * 4
    assert Source(project, until=before).settings.scale == 4
    assert Source(project).settings.scale == 8


def test_what_was_redacted_is_never_learnt_whatever_the_pin(kept: Store, tmp_path: Path):
    project = written(kept)
    pinned = project.newest_event()
    writer = next(answer.person for answer in project.answers())
    kept.erase(kept.people.named(writer).id, texts=True)
    for until, told in ((pinned, True), (None, False)):  # since then they are taken back
        made = export(project, "demonstrations", tmp_path / "d.jsonl", until=until)
        assert made.rows == 2
        assert "[redacted]" not in (tmp_path / "d.jsonl").read_text()
        assert any("2 × redacted" in line for line in made.lines) is told
