"""Adding items: each once, none with itself, all accounted for."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.feedback.rating.items import NewItem
from tests.feedback.conftest import pair, pairs


def test_every_item_is_stored_once_or_accounted_for(make):
    project, _ = make()
    turned = {**pair(1), "answers": pair(1)["answers"][::-1]}
    twin = pair(9, a="same", b="same ")
    added = project.add_items([*pairs(5), pair(0), turned, twin])
    assert (added.count, added.duplicates, added.twins) == (5, 2, 1)
    assert project.add_items(pairs(6)).count == 1
    assert project.overview().items == 6


def test_two_projects_may_have_the_same_item(make):
    one, _ = make()
    other, _ = make(name="other")
    assert one.add_items(pairs(3)).count == other.add_items(pairs(3)).count == 3


def test_a_bad_item_stops_the_call_by_name_or_is_counted(make):
    project, _ = make()
    given = [pair(1), {"prompt": []}, pair(2), {"prompt": []}]
    with pytest.raises(UserError, match="item 2: prompt"):
        project.add_items(given)
    added = project.add_items(given, strict=False)
    assert added.count == 2
    assert added.refused.total == 2
    assert next(iter(added.refused.examples.values())) == ["item 2", "item 4"]


def test_sources_and_features_are_kept_for_the_lead(make):
    project, _ = make()
    project.add_items([pair(1, a="- one\n- two", b="three")], batch="first", origin="import")
    (item,) = project.items()
    assert item.payload["answers"][0]["source"] == "model-x"
    assert (item.length, item.lists, item.batch, item.origin) == (6, 2, "first", "import")
    assert project.item(item.id) == item


def test_a_known_answer_makes_gold_and_must_fit(make):
    project, _ = make()
    golds = [{"choice": "a"}, None]
    project.add_items(pairs(2), gold=golds)
    assert [item.purpose for item in project.items()] == ["gold", "work"]
    with pytest.raises(UserError, match="item 1, gold: strength 9 is beyond"):
        project.add_items([pair(7)], gold=[{"choice": "a", "strength": 9}])
    with pytest.raises(UserError, match="items for screening need a gold answer"):
        project.add_items([pair(7)], purpose="screening")


@pytest.mark.parametrize(("golds", "said"), [([None], "fewer"), ([None] * 3, "more")])
def test_gold_answers_and_items_must_be_as_many(make, golds, said):
    project, _ = make()
    with pytest.raises(UserError, match=f"{said} gold answers than items"):
        project.add_items(pairs(2), gold=golds)


def test_kinds_without_a_right_answer_take_no_gold(store):
    project = store.create("write", {"kind": "write"})
    with pytest.raises(UserError, match="write has no single right answer"):
        project.add_items([{"prompt": pair(1)["prompt"]}], gold=[{"text": "x"}])


def test_a_route_that_no_rater_can_be_on_is_refused(make):
    project, _ = make(groups={"language": ["de", "en"]})
    with pytest.raises(UserError, match=r"of 'language=fr'.*language=de, language=en"):
        project.add_items([NewItem(one, route="language=fr") for one in pairs(1)])
    assert project.add_items([NewItem(pair(1), route="language=de")]).count == 1


def test_more_than_a_chunk_is_added_from_a_stream(make):
    """Two chunks and a bit, from a generator, with the same again at the end."""
    project, _ = make()
    added = project.add_items(pair(number % 4100) for number in range(4150))
    assert (added.count, added.duplicates) == (4100, 50)
    sizes = [event.body["count"] for event in project.events(kinds=["items"])]
    assert sizes == [2000, 2000, 100]


def test_hostile_text_comes_back_as_it_went_in(make):
    project, people = make(1)
    text = "\x00 '; DROP TABLE items; -- <script>\u202e " + "long " * 100_000
    project.add_items([pair(1, a=text)])
    (shown,) = project.next(people[0])
    assert text in [answer["text"] for answer in shown.payload["answers"]]


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), float("-inf")])
def test_a_priority_that_cannot_be_put_in_order_is_refused(make, priority):
    project, _ = make()
    project.add_items([pair(0)])
    with pytest.raises(UserError, match="no place in an order"):
        project.add_items([pair(1)], priority=priority)
    with pytest.raises(UserError, match=r"item 1: .*no place in an order"):
        project.add_items([NewItem(pair(2), priority=priority)])
    number = project.items()[0].id
    with pytest.raises(UserError, match=rf"item {number}: .*no place in an order"):
        project.prioritise({number: priority})


@pytest.mark.parametrize(
    "place",
    ["https://e.org/a.mp4", "//e.org/a.mp4", "/\\e.org/a.mp4", "a.mp4", "javascript:alert(1)"],
)
def test_a_clip_that_no_page_would_load_is_refused(store, place):
    """The content security policy lets nothing in from elsewhere; raters would see a hole."""
    project = store.create("walk", {"kind": "clips"})
    clips = [{"url": place}, {"url": "/media/walk/b.mp4"}]
    with pytest.raises(UserError, match="item 1: pages load nothing from elsewhere"):
        project.add_items([{"clips": clips}])
    assert project.add_items([{"clips": [{"file": "a.mp4"}, clips[1]]}]).count == 1
