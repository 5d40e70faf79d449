"""Judgements for the statistics: right by hand, pinned to an event, read on and never again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backflip.errors import UserError
from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import TODAY, as_shown, pair, pairs


def say(project, person, value, seconds=None):
    (shown,) = project.next(person)
    receipt = project.answer(person, shown.item_id, as_shown(shown, value), seconds=seconds)
    return shown, receipt


def test_columns_by_hand(make, store, clock):
    """Scale of 4: strengths ½ and 1. The first item: a much better; the second: a tie, no time."""
    project, people = make(2, groups={"region": ["north", "south"]}, order="given")
    project.enrol(people[1], groups={"region": "south"})
    project.add_items([pair(1, a="- x\n- y", b="z"), pair(2, a="x", b="yz")])
    one, _ = say(project, people[0], {"choice": "a", "strength": 2}, seconds=3.5)
    clock.now += 10
    say(project, people[0], {"choice": "tie"})
    other, _ = say(project, people[1], {"choice": "b", "strength": 1}, seconds=1)
    say(project, people[1], {"choice": "cannot_tell", "reason": "both odd"})
    found = project.judgements()
    assert found.item.tolist() == [0, 1, 0, 1]
    assert found.rater.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.value, [1, 0, -0.5, math.nan])
    np.testing.assert_array_equal(found.seconds, [3.5, math.nan, 1, math.nan])
    assert found.at.tolist() == [TODAY, TODAY + 10, TODAY + 10, TODAY + 10]
    assert [found.first[0], found.first[2]] == [
        1 if shown.order == (0, 1) else -1 for shown in (one, other)
    ]
    assert found.features["length"].tolist() == [6, -1]
    assert found.features["lists"].tolist() == [2, 0]
    assert found.groups == [{}, {"region": "south"}]
    assert found.rater_names == [store.people.get(person).pseudonym for person in people]
    assert found.item_names == [str(item.id) for item in project.items()]
    assert found.paired


def test_answers_that_items_share_have_one_number(make):
    """x against y, y against z: three answers, so a circle can be seen."""
    project, people = make(1, order="given")
    prompt = pair(1)["prompt"]
    sides = [("x", "y"), ("y", "z"), ("z", "x")]
    project.add_items({"prompt": prompt, "answers": [{"text": a}, {"text": b}]} for a, b in sides)
    for _ in sides:
        say(project, people[0], {"choice": "a"})
    assert project.judgements().answers.tolist() == [[0, 1], [1, 2], [2, 0]]


def test_reading_on_gives_what_reading_anew_gives(make, store):
    """Answers, an undo and a change of groups after the first reading."""
    project, people = make(2, groups={"region": ["north"]})
    project.add_items(pairs(6))
    for person in people:
        say(project, person, {"choice": "a"})
    before = project.newest_event()
    assert len(project.judgements()) == 2
    say(project, people[0], {"choice": "b"})
    project.undo(people[0])
    say(project, people[0], {"choice": "tie"})
    project.enrol(people[0], groups={"region": "north"})
    grown = project.judgements()
    store.database.cache.clear()
    fresh = project.judgements()
    for name in ("item", "rater", "value", "first", "at", "answers"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(fresh, name))
    assert grown.groups == fresh.groups == [{"region": "north"}, {}]
    assert grown.value.tolist() == [0.5, 0.5, 0]
    assert len(project.judgements(until=before)) == 2


def test_a_number_pins_what_was_undone_later(make):
    project, people = make(1)
    project.add_items(pairs(2))
    say(project, people[0], {"choice": "a"})
    pin = project.newest_event()
    project.undo(people[0])
    assert len(project.judgements()) == 0
    assert project.judgements(until=pin).value.tolist() == [0.5]
    assert len(project.judgements(until=pin - 1)) == 0


def test_gold_is_on_the_scale_of_the_values(make):
    project, people = make(1, gold_share=0.9)
    project.add_items(pairs(3), gold=[{"choice": "b", "strength": 2}, {"choice": "tie"}, None])
    project.add_items(pairs(40, start=10))
    for _ in range(20):
        say(project, people[0], {"choice": "a"})
    found = project.judgements()
    known = dict(zip(found.item_names, found.gold, strict=True))
    ids = [str(item.id) for item in project.items(purpose="gold")]
    assert [known[name] for name in ids] == [-1, 0]


PROMPT = [{"role": "user", "content": "q"}]


def only(store, payload, value, **settings):
    """The judgements of one answer to one item."""
    project = store.create("one", {"gold_share": 0.0, **settings})
    person = store.people.add().id
    project.enrol(person)
    project.add_items([payload])
    (shown,) = project.next(person)
    project.answer(person, shown.item_id, as_shown(shown, value))
    return project.judgements(), project, shown


def test_a_ranking_of_three_is_three_pairs(store):
    """b best, then a and c tied."""
    payload = {"prompt": PROMPT, "answers": [{"text": t} for t in ("aaa", "b", "cc")]}
    found, _, shown = only(store, payload, {"ranks": [1, 0, 1]}, kind="rank")
    assert [name.split(":")[1] for name in found.item_names] == ["0-1", "0-2", "1-2"]
    assert found.value.tolist() == [-1, 0, 1]
    assert found.features["length"].tolist() == [2, 1, -1]
    assert found.answers.tolist() == [[0, 1], [0, 2], [1, 2]]
    place = [shown.order.index(answer) for answer in range(3)]
    first = [1 if place[i] < place[j] else -1 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.first.tolist() == first


def test_of_several_attributes_one_is_read_at_a_time(store):
    payload = {"prompt": PROMPT, "answer": {"text": "x"}}
    value = {"ratings": {"helpful": 7, "honest": 2, "harmless": 5}}
    found, project, _ = only(store, payload, value, kind="rate")
    assert (found.value.tolist(), found.paired) == ([7], False)
    assert project.judgements(part="honest").value.tolist() == [2]
    with pytest.raises(UserError, match="no attribute 'wit'; this project has helpful"):
        project.judgements(part="wit")


def test_steps_are_judged_one_by_one(store):
    payload = {"prompt": PROMPT, "steps": ["x", "y", "z"]}
    value = {"labels": [1, -1, None]}
    found, _, _ = only(store, payload, value, kind="steps", stop_at_bad=True)
    assert found.value.tolist() == [1, -1]
    assert [name.split(":")[1] for name in found.item_names] == ["0", "1"]


@pytest.mark.parametrize(
    ("settings", "payload", "value", "values"),
    [
        ({"kind": "thumbs"}, {"prompt": PROMPT, "answer": {"text": "x"}}, {"up": False}, [-1]),
        ({"kind": "principles"}, {"principle": "p"}, {"vote": "agree"}, [1]),
        ({"kind": "clips"}, {"clips": [{"url": "/a"}, {"url": "/b"}]}, {"choice": "b"}, [-0.5]),
        (
            {"kind": "spans", "span_labels": ["bad", "odd"]},
            {"prompt": PROMPT, "answer": {"text": "xyz"}},
            {"spans": [{"start": 0, "end": 2, "label": "odd"}]},
            [0, 1],
        ),
        (
            {"kind": "talk"},
            {"policies": ["p"], "rules": ["be kind", "be brief"]},
            {
                "turns": [{"role": "user", "content": "x"}],
                "verdicts": {"be kind": "broken", "be brief": "kept"},
            },
            [-1, 1],
        ),
        ({"kind": "write"}, {"prompt": PROMPT}, {"text": "x"}, []),
    ],
)
def test_every_kind_has_its_values(store, settings, payload, value, values):
    found, _, _ = only(store, payload, value, **settings)
    assert found.value.tolist() == values


def test_rows_are_read_page_by_page(make, monkeypatch):
    monkeypatch.setattr("backflip.feedback.projects.reading.PAGE", 2)
    project, people = make(1)
    project.add_items(pairs(5))
    for _ in range(5):
        say(project, people[0], {"choice": "a"})
    rows = list(project.answers())
    assert len({row.event for row in rows}) == 5
    assert list(project.answers(after=rows[1].event)) == rows[2:]
    assert list(project.answers(items=[rows[3].item])) == [rows[3]]


def test_items_are_found_by_what_they_are(make):
    project, _ = make(0)
    project.add_items(pairs(3), batch="one")
    project.add_items(pairs(2, start=5), batch="two", gold=[{"choice": "a"}] * 2)
    assert len(project.items(batch="one")) == 3
    assert len(project.items(purpose="gold")) == 2
    ids = [item.id for item in project.items()]
    assert [item.id for item in project.items(after=ids[1], limit=2)] == ids[2:4]
    with pytest.raises(RefusedError, match="has no item 99999"):
        project.item(99999)
    with pytest.raises(RefusedError, match="has no item"):
        project.item(2**80)


def test_the_forecast_by_hand(make, clock):
    """10 items of 2 raters; 4 answers of 30 s in one day: 16 left, 8 minutes, 4 days, 8 EUR."""
    budget = {"price_per_answer": 0.5, "currency": "EUR"}
    project, people = make(1, raters_per_item=2, budget=budget)
    project.add_items(pairs(10))
    assert project.overview().hours_left is None
    for _ in range(4):
        say(project, people[0], {"choice": "a"}, seconds=30)
    seen = project.overview()
    assert seen.hours_left == pytest.approx(16 * 30 / 3600)
    assert (seen.money, seen.money_left, seen.days_left) == (2.0, 8.0, 4.0)
    untouched = [item.id for item in project.items() if not item.given][:3]
    project.drop(untouched)
    assert project.overview().money_left == 5.0  # six answers fewer


def test_what_lies_before_a_rater_is_known(make):
    project, people = make(2)
    project.add_items(pairs(3))
    (shown,) = project.next(people[0])
    assert project.holds(people[0], shown.item_id)
    assert not project.holds(people[1], shown.item_id)
    assert not project.holds(people[0], 2**80)
    project.answer(people[0], shown.item_id, {"choice": "tie"})
    assert not project.holds(people[0], shown.item_id)
    ids = [item.id for item in project.items()]
    assert [item.id for item in project.items(newest=True, limit=2)] == ids[:0:-1]
