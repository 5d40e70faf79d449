"""Our own export of answers on its way back: people, times, orders, gold, repetitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backflip.errors import UserError
from backflip.feedback.exchange.exports import export
from backflip.feedback.exchange.imports import take_in
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from tests.feedback.answered import answer_all, ask, opened, project_of

KINDS = ("compare", "rank", "rate", "thumbs", "write", "steps", "talk")


def voted(store: Store) -> Project:
    project, people = project_of(store, "principles", [{"principle": "Say so."}])
    answer_all(project, people, lambda rater, _: {"vote": ["agree", "pass", "disagree"][rater]})
    return project


def clipped(store: Store) -> Project:
    clips = [{"clips": [{"file": "a.mp4"}, {"file": "b.mp4"}]}]
    project, people = project_of(store, "clips", clips)
    answer_all(project, people, lambda rater, _: {"choice": "ab"[rater % 2], "strength": 2})
    return project


def spanned(store: Store) -> Project:
    items = [{"prompt": ask("where?"), "answer": {"text": "in Rome"}}]
    project, people = project_of(store, "spans", items, span_labels=["place"])
    span = {"start": 3, "end": 7, "label": "place"}
    answer_all(project, people, lambda *_: {"spans": [span]})
    return project


MORE = {"principles": voted, "clips": clipped, "spans": spanned}


def facts(project: Project) -> list[tuple[Any, ...]]:
    """Everything that an answer says, but the numbers of items and events."""
    items = {row.id: row.payload for row in project.items(limit=1000)}
    return sorted(
        (
            *(json.dumps(items[a.item]), a.person, json.dumps(a.value), a.order),
            *(a.at, a.seconds or 0.0, a.stage, a.surplus, a.repeat_of is not None),
        )
        for a in project.answers()
    )


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_our_own_answers_come_back_with_people_times_and_orders(
    kind: str,
    suffix: str,
    elsewhere: bool,
    known: Callable[[str], Project],
    kept: Store,
    tmp_path: Path,
):
    old = MORE[kind](kept) if kind in MORE else known(kind)
    made = export(old, "answers", tmp_path / f"out.{suffix}")
    store = opened(tmp_path / "elsewhere") if elsewhere else kept
    new = store.create("back", old.settings)
    done = take_in(new, str(made.path))
    assert (done.format, done.refused(), done.remarks()) == ("answers", [], [])
    assert facts(new) == facts(old)
    assert done.answers == made.rows
    again = take_in(new, str(made.path))
    assert (again.answers, again.refused()) == (0, [])
    if elsewhere:
        store.close()


def test_gold_repetitions_and_the_words_of_seniors_come_back(kept: Store, tmp_path: Path):
    settings = {"gold_share": 0.0, "repeat_share": 0.45, "repeat_gap": 1, "raters_per_item": 1}
    old = kept.create("tone", {"kind": "thumbs", **settings}, salt="the same")
    rater, senior = kept.people.add().id, kept.people.add().id
    old.enrol(rater)
    old.enrol(senior, role="adjudicator")
    items = [{"prompt": ask(f"{n}?"), "answer": {"text": f"good {n}"}} for n in range(8)]
    old.add_items(items[:6])
    old.add_items(items[6:], gold=[{"up": True}] * 2)
    answer_all(old, [rater], lambda _, p: {"up": "3" in p["answer"]["text"]})
    old.to_adjudication([1])
    answer_all(old, [senior], lambda *_: {"up": True}, queue="adjudicate")
    assert {"adjudicate"} <= {row.stage for row in old.answers()}
    assert any(row.repeat_of for row in old.answers())
    made = export(old, "answers", tmp_path / "out.jsonl")
    new = kept.create("back", old.settings)
    done = take_in(new, str(made.path))
    assert done.refused() == []
    assert facts(new) == facts(old)
    known = [sorted(map(str, one.judgements().gold)) for one in (new, old)]
    assert known[0] == known[1]


def test_a_pseudonym_of_somebody_else_is_not_taken_from_them(kept: Store, tmp_path: Path):
    old, people = project_of(kept, "thumbs", [{"prompt": ask("?"), "answer": {"text": "x"}}])
    answer_all(old, people[:1], lambda *_: {"up": True})
    made = export(old, "answers", tmp_path / "out.jsonl")
    row = json.loads(made.path.read_text())
    forged = tmp_path / "forged.jsonl"
    forged.write_text(json.dumps(row | {"value": {"up": False, "reason": ""}}))
    new = kept.create("back", old.settings)
    done = take_in(new, str(forged))
    (answer,) = new.answers()
    assert answer.person != row["person"]
    assert "pseudonym belongs to somebody else here" in done.remarks()[0]


def test_answers_of_another_kind_are_refused_by_name(
    known: Callable[[str], Project], kept: Store, tmp_path: Path
):
    made = export(known("thumbs"), "answers", tmp_path / "out.jsonl")
    new = kept.create("back", {"kind": "compare"})
    with pytest.raises(UserError, match="answers of a project of kind 'thumbs'"):
        take_in(new, str(made.path))
