"""Answers: stored once, never lost, never another's; undo, skip, flag, note."""

from __future__ import annotations

import math

import pytest

from backflip.errors import UserError
from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import as_shown, pairs

A = {"choice": "a", "strength": 1}
B = {"choice": "b", "strength": 2}


def item_of(project, number):
    return project.item(number)


def test_an_answer_is_an_event_an_answer_counts_and_a_done_item_at_once(make):
    project, people = make(1, raters_per_item=1)
    project.add_items(pairs(2))
    (shown,) = project.next(people[0])
    receipt = project.answer(people[0], shown.item_id, as_shown(shown, B), seconds=4.5)
    (row,) = project.answers()
    assert (row.event, row.value["choice"], row.seconds) == (receipt.answer_id, "b", 4.5)
    assert row.score == -1.0
    (event,) = project.events(kinds=["answer"])
    assert event.number == receipt.answer_id
    assert event.body["value"] == row.value
    assert tuple(event.body["order"]) == shown.order == row.order
    assert project.item(shown.item_id).state == "done"
    counts = project.tallies(people[0])
    assert (counts["answers"], counts["seconds"], counts["said:b"]) == (1, 4.5, 1)
    assert receipt.next is not None
    assert receipt.next.item_id != shown.item_id
    assert receipt.next.progress.answered == 1


def test_a_resend_is_acknowledged_and_stored_once(make):
    """The first receipt was lost on the way: the browser sends the same again, and again."""
    project, people = make(2)
    project.add_items(pairs(3))
    (shown,) = project.next(people[0])
    first = project.answer(people[0], shown.item_id, A, client_key="k-1")
    again = project.answer(people[0], shown.item_id, A, client_key="k-1")
    assert (again.answer_id, again.again, again.surplus) == (first.answer_id, True, False)
    assert again.next == first.next
    assert len(list(project.answers())) == project.overview().given == 1
    (other,) = project.next(people[1])  # keys of different people never meet
    assert not project.answer(people[1], other.item_id, A, client_key="k-1").again


def test_a_key_that_was_used_for_another_item_is_refused(make):
    project, people = make(1)
    project.add_items(pairs(3))
    one, two = project.next(people[0], count=2)
    project.answer(people[0], one.item_id, A, client_key="k")
    with pytest.raises(RefusedError, match="used for another item") as refused:
        project.answer(people[0], two.item_id, A, client_key="k")
    assert refused.value.code == "conflict"


def test_a_second_tab_changes_nothing_but_loses_nothing(make):
    project, people = make(1)
    project.add_items(pairs(2))
    (shown,) = project.next(people[0])
    first = project.answer(people[0], shown.item_id, A, client_key="one")
    other = project.answer(people[0], shown.item_id, B, client_key="two")
    assert (other.answer_id, other.again, other.surplus) == (first.answer_id, True, True)
    (row,) = project.answers()
    assert row.event == first.answer_id
    (kept,) = project.events(kinds=["second answer"])
    assert kept.body["first"] == first.answer_id
    assert project.answer(people[0], shown.item_id, B, client_key="two").answer_id == row.event
    assert len(project.events(kinds=["second answer"])) == 1


@pytest.mark.parametrize("number", [10**6, -1, 2**70])
def test_a_forged_item_is_refused_and_leaves_a_trace(make, number):
    project, people = make(1)
    project.add_items(pairs(1))
    with pytest.raises(RefusedError, match="was not given to you") as refused:
        project.answer(people[0], number, A)
    assert refused.value.code == "not_yours"
    (trace,) = project.events(kinds=["refused"])
    assert trace.body["asked_for"] == str(number)
    assert list(project.answers()) == []


def test_another_raters_item_is_refused_like_one_that_does_not_exist(make, store):
    project, people = make(2, raters_per_item=1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    with pytest.raises(RefusedError, match="was not given to you"):
        project.answer(people[1], shown.item_id, A)
    for act in (project.skip, project.flag):
        with pytest.raises(RefusedError, match="was not given to you"):
            act(people[1], shown.item_id)
    elsewhere, _ = make(0, name="other")
    elsewhere.enrol(people[0])
    with pytest.raises(RefusedError, match="was not given to you"):
        elsewhere.answer(people[0], shown.item_id, A)


def test_a_wrong_answer_is_refused_and_the_item_stays(make):
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    with pytest.raises(UserError, match="answer: strength 9 is beyond"):
        project.answer(people[0], shown.item_id, {"choice": "a", "strength": 9}, client_key="k")
    assert project.next(people[0])[0].item_id == shown.item_id
    assert not project.answer(people[0], shown.item_id, A, client_key="k").again


def test_a_late_answer_still_counts_while_the_item_wants_one(make, clock):
    project, people = make(2, raters_per_item=1, lease_seconds=60)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    clock.now += 3600
    receipt = project.answer(people[0], shown.item_id, A)
    assert not receipt.surplus
    assert project.overview().done == 1


def test_a_late_answer_that_nobody_waits_for_is_kept_as_surplus(make, clock):
    project, people = make(2, raters_per_item=1, lease_seconds=60)
    project.add_items(pairs(1))
    (late,) = project.next(people[0])
    clock.now += 3600
    (shown,) = project.next(people[1])
    project.answer(people[1], shown.item_id, A)
    receipt = project.answer(people[0], late.item_id, B)
    assert receipt.surplus
    assert [row.surplus for row in project.answers()] == [False, True]
    assert (project.overview().given, project.tallies()["surplus"]) == (1, 1)


def test_a_late_answer_takes_the_place_of_whoever_holds_the_item_now(make, clock):
    """One place, two holders: the first to answer fills it, the other becomes surplus."""
    project, people = make(3, raters_per_item=1, lease_seconds=60)
    project.add_items(pairs(1))
    (late,) = project.next(people[0])
    clock.now += 3600
    project.next(people[1])
    assert not project.answer(people[0], late.item_id, A).surplus
    assert project.answer(people[1], late.item_id, A).surplus
    assert project.next(people[2]) == []
    assert project.item(late.item_id).given == 1


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 10**7])
def test_a_time_that_cannot_be_is_no_time(make, seconds):
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    project.answer(people[0], shown.item_id, A, seconds=seconds)
    (row,) = project.answers()
    assert row.seconds is None
    assert project.overview().hours == 0


def test_undo_brings_the_item_back_as_it_was(make):
    project, people = make(1, raters_per_item=1)
    project.add_items(pairs(3))
    (shown,) = project.next(people[0])
    receipt = project.answer(people[0], shown.item_id, A, seconds=3, client_key="k")
    back = project.undo(people[0], client_key="u")
    assert (back.item_id, back.payload, back.order) == (shown.item_id, shown.payload, shown.order)
    assert list(project.answers()) == []
    assert project.overview().done == project.overview().given == 0
    assert all(value == 0 for name, value in project.tallies(people[0]).items() if name != "shown")
    assert project.undo(people[0], client_key="u").item_id == shown.item_id  # sent twice
    fresh = project.answer(people[0], shown.item_id, as_shown(shown, B), client_key="k2")
    assert fresh.answer_id > receipt.answer_id
    assert [row.value["choice"] for row in project.answers()] == ["b"]
    assert project.overview().done == 1


def test_an_undo_does_not_ask_again_what_the_lead_has_dropped(make):
    project, people = make(2, raters_per_item=2)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    project.answer(people[0], shown.item_id, A)
    project.drop([shown.item_id], reason="broken")
    project.undo(people[0])
    assert project.item(shown.item_id).state == "dropped"
    assert project.next(people[1]) == []
    assert (project.overview().dropped, project.overview().given) == (1, 0)


def test_undo_goes_back_step_by_step_and_ends(make):
    project, people = make(1)
    project.add_items(pairs(3))
    given = []
    for _ in range(2):
        (shown,) = project.next(people[0])
        project.answer(people[0], shown.item_id, A)
        given.append(shown.item_id)
    assert [project.undo(people[0]).item_id for _ in range(2)] == given[::-1]
    with pytest.raises(RefusedError, match="no answer of yours"):
        project.undo(people[0])


def test_an_undone_answer_can_still_be_read_in_the_log(make):
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    number = project.answer(people[0], shown.item_id, A).answer_id
    before = project.newest_event()
    project.undo(people[0])
    assert [event.kind for event in project.events(after=number - 1)] == ["answer", "undo"]
    assert [row.event for row in project.answers(until=before)] == [number]  # as it stood then
    assert list(project.answers()) == []


def test_a_skip_costs_nothing_and_the_item_goes_to_somebody_else(make):
    project, people = make(2, raters_per_item=1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    number = project.skip(people[0], shown.item_id, reason="not my field", client_key="s")
    assert project.skip(people[0], shown.item_id, client_key="s") == number
    assert project.next(people[0]) == []
    assert project.next(people[1])[0].item_id == shown.item_id
    assert project.tallies(people[0])["skips"] == 1
    assert project.item(shown.item_id).skipped == 1
    (event,) = project.events(kinds=["skip"])
    assert event.body["reason"] == "not my field"


def test_who_skipped_in_one_tab_may_still_answer_in_another(make):
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    project.skip(people[0], shown.item_id)
    assert not project.answer(people[0], shown.item_id, A).surplus
    assert project.item(shown.item_id).given == 1


def test_an_item_that_too_many_skip_goes_to_the_adjudicators(make):
    project, people = make(3, skips_to_adjudicate=2, raters_per_item=1)
    project.add_items(pairs(1))
    for person in people[:2]:
        (shown,) = project.next(person)
        project.skip(person, shown.item_id)
    assert project.next(people[2]) == []
    assert project.item(shown.item_id).state == "adjudicate"


def test_flags_and_notes_stay_with_the_item(make):
    project, people = make(1)
    project.add_items(pairs(2))
    (shown,) = project.next(people[0])
    project.flag(people[0], shown.item_id, reason="a name in it", client_key="f")
    project.flag(people[0], shown.item_id, reason="a name in it", client_key="f")
    project.note(people[0], shown.item_id, "long words")
    (item,) = project.flagged_items()
    assert (item.id, item.flags) == (shown.item_id, 1)
    kinds = [event.kind for event in project.events(kinds=["flag", "note"])]
    assert kinds == ["flag", "note"]
    with pytest.raises(UserError, match="the note is empty"):
        project.note(people[0], shown.item_id, "  ")
    with pytest.raises(UserError, match="too many"):
        project.flag(people[0], shown.item_id, reason="x" * 20_001)


@pytest.mark.parametrize("key", ["x" * 65, "a\x00b", "a\nb"])
def test_a_client_key_is_a_short_word(make, key):
    project, people = make(1)
    project.add_items(pairs(1))
    (shown,) = project.next(people[0])
    with pytest.raises(UserError, match="client key"):
        project.answer(people[0], shown.item_id, A, client_key=key)


def test_sql_in_every_field_is_only_text(make, store):
    project, people = make(1)
    evil = "'; DROP TABLE answers; --"
    project.add_items(pairs(1), batch=evil, origin=evil)
    (shown,) = project.next(people[0])
    project.note(people[0], shown.item_id, evil, client_key=evil)
    value = {"choice": "cannot_tell", "reason": evil}
    project.answer(people[0], shown.item_id, value, client_key=evil + "2")
    assert next(project.answers()).value["reason"] == evil
    assert project.items(batch=evil)[0].origin == evil
    assert store.people.by_email("x@" + evil) is None
    assert store.people.sign_in(f"x@{evil}", evil) is None
