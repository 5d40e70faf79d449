"""Flags that are settled, content warnings of single items, and a project that is put away."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.feedback.rating.items import NewItem
from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import pair, pairs


def flagged(project, person):
    """One item that this rater has flagged; its number."""
    shown = project.next(person)[0]
    project.flag(person, shown.item_id, reason="personal data")
    return shown.item_id


def test_a_settled_flag_leaves_the_list_and_stays_in_the_log(make):
    project, people = make(1)
    project.add_items(pairs(2))
    item = flagged(project, people[0])
    assert project.flagged() == 1
    project.settle_flags(item, keep=True, reason="it is made up", by=people[0])
    assert (project.flagged(), project.flagged_items()) == (0, [])
    kinds = [event.kind for event in project.events(item=item)]
    assert kinds == ["flag", "flags settled"]
    assert project.item(item).state == "open"
    with pytest.raises(RefusedError, match="no flag"):
        project.settle_flags(item, keep=False)


def test_a_flagged_item_that_is_dropped_is_asked_no_more(make):
    project, people = make(2)
    project.add_items(pairs(1))
    item = flagged(project, people[0])
    project.settle_flags(item, keep=False)
    assert project.item(item).state == "dropped"
    assert project.overview().dropped == 1
    assert project.next(people[1]) == []


def test_a_warning_comes_with_the_item_whether_imported_settled_or_set(make):
    project, people = make(1, raters_per_item=1, order="given")
    project.add_items([NewItem(pair(0), warning="blood")])
    (shown,) = project.next(people[0])
    assert shown.warning == shown.page()["warning"] == "blood"
    project.flag(people[0], shown.item_id)
    project.settle_flags(shown.item_id, keep=True, warning="rude words")
    assert project.next(people[0])[0].warning == "rude words"  # held already: told anew
    project.warn(shown.item_id, "")
    assert project.next(people[0])[0].warning == ""


def test_a_warning_of_no_item_or_no_text_is_refused(make):
    project, _ = make(1)
    with pytest.raises(RefusedError, match="no item 7"):
        project.warn(7, "x")
    with pytest.raises(UserError, match="control character"):
        project.add_items([NewItem(pair(0), warning="\0")])


def test_nothing_is_asked_in_an_archived_project_and_all_of_it_comes_back(make, store):
    project, people = make(1)
    project.add_items(pairs(2))
    (shown,) = project.next(people[0])
    project.archive(by=people[0])
    assert project.next(people[0]) == []
    assert "archived" in project.why_nothing(people[0])
    assert store.projects() == []
    project.answer(people[0], shown.item_id, {"choice": "a"})  # what was begun counts
    project.archive(archived=False)
    assert len(project.next(people[0], count=2)) == 1
    assert [event.body for event in project.events(kinds=["archived"])] == [
        {"archived": True},
        {"archived": False},
    ]
