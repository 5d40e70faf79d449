"""An even split is no label: counted, left out of whatever is hard, and ½ where labels are soft."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from backflip.data.records import Comparison, Labelled
from backflip.errors import UserError
from backflip.feedback.exchange.converters import records
from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.records import Source
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from backflip.feedback.statistics.consensus import DECIDES, TOSS, Consensus, even
from backflip.feedback.statistics.figures import statistics
from backflip.feedback.statistics.judgements import Judgements
from tests.feedback.answered import answer_all, ask, pair, project_of
from tests.feedback.kinds import number_of, rows_of

AGREED = 4
"""Items on which both raters say the same; on as many others they split."""


def halved(store: Store, **settings: Any) -> Project:
    """Two raters, of whom the second always says the opposite where they do not agree."""
    items = [pair(n) for n in range(2 * AGREED)]
    project, people = project_of(store, "compare", items, raters=2, **settings)

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        first = "ab"[number_of(payload) % 2]
        if number_of(payload) >= AGREED and rater == 1:
            return {"choice": {"a": "b", "b": "a"}[first], "strength": 1}
        return {"choice": first, "strength": 1}

    answer_all(project, people, said)
    return project


def account(project: Project, format: str, tmp_path: Any) -> dict[str, Any]:
    written = export(project, format, tmp_path / f"{format}.jsonl")
    return json.loads(written.summary.read_text())


@pytest.mark.parametrize("format", ["preference", "hh", "rankings", "unpaired", "kto"])
def test_hard_exports_leave_even_splits_out_and_count_them(kept, tmp_path, format):
    project = halved(kept)
    rows = rows_of(project, format, tmp_path)
    held = {row["provenance"]["items"][0] for row in rows}
    told = account(project, format, tmp_path)
    assert len(held) == AGREED
    assert told["undecided"] == AGREED
    assert told["left_out"] == {"raters are evenly split": AGREED}
    assert f"labels left open, raters being evenly split: {AGREED}" in told["said"]


def test_every_place_tells_the_same_number_of_open_labels(kept, tmp_path):
    project = halved(kept)
    files = ("preference", "soft", "rankings", "unpaired", "labels")
    assert {account(project, name, tmp_path)["undecided"] for name in files} == {AGREED}
    ways = statistics(project.judgements())["labels"]["methods"]
    assert [way["undecided"] for way in ways if way["method"] == "dawid_skene"] == [AGREED]


def test_soft_labels_of_even_splits_are_a_half_and_say_that_they_are_no_tie(kept, tmp_path):
    rows = rows_of(halved(kept), "soft", tmp_path)
    split = [row for row in rows if row["undecided"]]
    assert [len(rows), len(split)] == [2 * AGREED, AGREED]
    assert {row["p_chosen"] for row in split} == {0.5}


def test_a_recipe_learns_from_them_as_soft_labels_alone(kept):
    project = halved(kept)
    soft, hard = (records(Source(project), Comparison, style=s) for s in ("soft", "preference"))
    assert [len(soft.records), len(hard.records)] == [2 * AGREED, AGREED]
    assert sorted(r.soft for r in soft.records)[:AGREED] == [0.5] * AGREED
    assert hard.dropped.counts["raters are evenly split"] == AGREED
    assert len(records(Source(project), Labelled).records) == 2 * AGREED  # two of each pair


def test_two_raters_alone_decide_no_even_split():
    """Whatever their habits: nobody else tells which of the two errs."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = rng.choice([-1.0, 1.0], 60)
        one, other = (
            np.where(rng.random(60) < right, truth, rng.choice([-truth, 0 * truth]))
            for right in (0.95, 0.6)
        )
        value = np.stack([one, other], 1)
        found = Consensus(Judgements.of(np.repeat(np.arange(60), 2), [0, 1] * 60, value.ravel()))
        for number in np.flatnonzero(one != other):
            verdict = found.of(str(number))
            assert verdict is not None
            assert np.isnan(verdict.value)


def test_an_even_split_is_decided_only_where_others_tell_whom_to_believe():
    """Rater 0 agrees with two others throughout; rater 3 tosses coins."""
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], 40)
    item = np.concatenate([np.repeat(np.arange(40), 4), [40, 40]])
    rater = np.concatenate([np.tile([0, 1, 2, 3], 40), [0, 3]])
    value = np.stack([truth, truth, truth, rng.choice([-1.0, 1.0], 40)], 1).ravel()
    found = Consensus(Judgements.of(item, rater, np.concatenate([value, [1.0, -1.0]])))
    verdict = found.of("40")
    assert verdict is not None
    assert verdict.low > DECIDES
    assert verdict.value == 1


def test_a_majority_that_is_no_better_than_a_coin_is_none():
    """Two who always contradict each other and, with the third, decide nothing: P < TOSS."""
    rng = np.random.default_rng(1)
    value = rng.choice([-1.0, 1.0], (60, 3))
    found = Consensus(Judgements.of(np.repeat(np.arange(60), 3), [0, 1, 2] * 60, value.ravel()))
    for name in map(str, range(60)):
        verdict = found.of(name)
        assert verdict is not None
        assert np.isnan(verdict.value) == (verdict.soft < TOSS)


@pytest.mark.parametrize(
    ("counts", "shared"),
    [
        ([1, 1], True),
        ([2, 1], False),
        ([2, 2, 1], True),
        ([0, 0], False),
        ([3], False),
        ([], False),
    ],
)
def test_even_is_a_shared_first_place(counts, shared):
    assert even(counts) == shared


@pytest.mark.parametrize("other", ["tie", "both_bad", "b"])
def test_whatever_stands_against_a_side_splits(kept, tmp_path, other):
    project, people = project_of(kept, "compare", [pair(0)], raters=2)
    choice = {"choice": other} | ({"strength": 1} if other == "b" else {})
    answer_all(project, people, lambda rater, _: [{"choice": "a", "strength": 1}, choice][rater])
    with pytest.raises(UserError, match=r"evenly split: 1.*left out: 1 × raters are evenly split"):
        rows_of(project, "preference", tmp_path)
    (row,) = rows_of(project, "labels", tmp_path)
    assert [verdict["value"] for verdict in row["verdicts"]] == [None]


def test_thumbs_that_split_are_no_label(kept, tmp_path):
    items = [{"prompt": ask(f"q{n}"), "answer": {"text": f"t{n}"}} for n in range(3)]
    project, people = project_of(kept, "thumbs", items, raters=2)
    answer_all(project, people, lambda rater, p: {"up": rater == 0 or p["answer"]["text"] == "t0"})
    for format in ("unpaired", "kto"):
        assert len(rows_of(project, format, tmp_path)) == 1
        assert account(project, format, tmp_path)["undecided"] == 2


def test_of_rankings_the_pairs_that_are_split_are_left_out(kept, tmp_path):
    """a > b > c against a > c > b: only which of the lower two is better is open."""
    answers = [{"text": text} for text in "abc"]
    turned, given = [[0, 1, 2], [0, 2, 1]], [[0, 1, 2], [2, 1, 0]]
    for name, ranks in (("some", turned), ("all", given)):
        items = [{"prompt": ask(name), "answers": answers}]
        project, people = project_of(kept, "rank", items, raters=2, name=name)
        answer_all(project, people, lambda rater, _, ranks=ranks: {"ranks": ranks[rater]})
        if name == "all":
            for format in ("rankings", "preference", "unpaired"):
                with pytest.raises(UserError, match="raters are evenly split"):
                    rows_of(project, format, tmp_path)
            continue
        rows = rows_of(project, "preference", tmp_path)
        told = {(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows}
        assert told == {("a", "b"), ("a", "c")}
        assert account(project, "preference", tmp_path)["undecided"] == 1
        assert rows_of(project, "rankings", tmp_path)[0]["rank"] == [0, 1, 1]


def test_ratings_that_split_on_which_is_better_rank_neither(kept, tmp_path):
    """The means differ, by how strongly each put it; the two raters are split all the same."""
    items = [{"prompt": ask("why"), "answer": {"text": text}} for text in ("x", "y")]
    attributes = [{"name": "kind", "low": 1, "high": 7}]
    project, people = project_of(kept, "rate", items, raters=2, attributes=attributes)
    marks = [{"x": 7, "y": 1}, {"x": 3, "y": 4}]
    answer_all(
        project, people, lambda rater, p: {"ratings": {"kind": marks[rater][p["answer"]["text"]]}}
    )
    with pytest.raises(UserError, match="raters are evenly split"):
        rows_of(project, "rankings", tmp_path)
    (soft,) = records(Source(project), Comparison).records
    assert (soft.rank, soft.soft) == ((0, 0), 0.5)


def test_steps_that_split_end_what_is_labelled(kept, tmp_path):
    """One calls the second step bad, one good; they are at one that the first is not bad."""
    item = {"prompt": ask("sum"), "steps": ["one", "two", "three"]}
    project, people = project_of(kept, "steps", [item], raters=2)
    labels = [[1, -1, 1], [0, 1, 1]]
    answer_all(project, people, lambda rater, _: {"labels": labels[rater]})
    (row,) = rows_of(project, "stepwise", tmp_path)
    assert (row["completions"], row["labels"]) == (["one"], [True])
    assert account(project, "stepwise", tmp_path)["undecided"] == 1
    with pytest.raises(UserError, match="labelled in part"):
        rows_of(project, "unpaired", tmp_path)


@pytest.mark.parametrize("kind", ["clips", "principles"])
def test_labels_of_other_kinds_are_open_where_raters_split(kept, tmp_path, kind):
    given = {
        "clips": (
            {"clips": [{"file": "a.png"}, {"file": "b.png"}]},
            [{"choice": "a", "strength": 1}, {"choice": "b", "strength": 1}],
        ),
        "principles": ({"principle": "Be kind."}, [{"vote": "agree"}, {"vote": "disagree"}]),
    }
    item, said = given[kind]
    project, people = project_of(kept, kind, [item], raters=2)
    answer_all(project, people, lambda rater, _: said[rater])
    (row,) = rows_of(project, "labels", tmp_path)
    assert [verdict["value"] for verdict in row["verdicts"]] == [None]
