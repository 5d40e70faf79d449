"""The quiz, the calibration, and the rolling accuracy on gold."""

from __future__ import annotations

import pytest

from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import as_shown, pair, pairs

A, B = {"choice": "a", "strength": 1}, {"choice": "b", "strength": 1}


def quiz(make, **settings):
    project, people = make(1, screening={"questions": 4, "pass_mark": 0.75}, **settings)
    project.add_items(pairs(6, start=100), gold=[A] * 6, purpose="screening")
    project.add_items(pairs(5))
    return project, people[0]


def reply(project, person, value):
    (shown,) = project.next(person)
    return shown, project.answer(person, shown.item_id, as_shown(shown, value))


def test_three_of_four_open_the_project(make):
    project, person = quiz(make)
    for number, value in enumerate((A, B, A, A), 1):
        shown, receipt = reply(project, person, value)
        assert shown.stage == "screening"
        assert receipt.feedback is not None
        assert receipt.feedback.correct == (value is A)
        assert (receipt.feedback.asked, receipt.feedback.questions) == (number, 4)
    assert "Passed with 3 of 4 right" in receipt.notice
    assert receipt.next is not None
    assert receipt.next.stage == "work"
    assert project.member(person).state == "active"
    assert len(project.events(kinds=["admitted"])) == 1


def test_a_page_that_fetches_ahead_gets_no_more_questions_than_the_quiz_has(make):
    project, person = quiz(make)
    first, second = project.next(person, count=2)
    assert len(project.next(person, count=9)) == 4
    held = [first, second, *project.next(person, count=9, hold=[first.item_id, second.item_id])]
    for at, shown in enumerate(held):
        hold = [other.item_id for other in held[at + 1 :]]
        receipt = project.answer(person, shown.item_id, as_shown(shown, A), hold=hold)
        assert (receipt.next is not None) == (at == 3)
    assert receipt.next.stage == "work"
    (admitted,) = project.events(kinds=["admitted"])
    assert admitted.body["recent"] == [1, 1, 1, 1]


def test_the_feedback_shows_the_answer_as_this_rater_saw_it(make):
    project, person = quiz(make)
    shown, receipt = reply(project, person, B)
    assert receipt.feedback.expected == as_shown(shown, A) | {"reason": ""}


def test_two_of_four_close_it_until_the_lead_lets_them_try_again(make):
    project, person = quiz(make)
    for value in (A, B, B, A):
        _, receipt = reply(project, person, value)
    assert "2 of 4 were right; 75% are needed" in receipt.notice
    assert receipt.next is None
    assert project.next(person) == []
    assert "the quiz was not passed" in project.why_nothing(person)
    project.set_state(person, "screening")
    for value in (A, A, B, A):  # there are six questions, and four more are asked
        shown, receipt = reply(project, person, value)
        assert shown.stage == "screening"
    assert "Passed with 3 of 4 right" in receipt.notice
    assert project.overview().answers == 0


def test_the_quiz_is_no_work_and_no_judgement(make):
    project, person = quiz(make)
    for _ in range(4):
        reply(project, person, A)
    assert project.overview().answers == 0
    assert len(project.judgements()) == 0
    reply(project, person, A)
    assert len(project.judgements()) == 1


def test_a_quiz_answer_cannot_be_taken_back_or_skipped(make):
    project, person = quiz(make)
    reply(project, person, B)
    with pytest.raises(RefusedError, match="has had its feedback"):
        project.undo(person)
    (shown,) = project.next(person)
    with pytest.raises(RefusedError, match="cannot be skipped"):
        project.skip(person, shown.item_id)


def test_the_feedback_comes_again_with_a_resend(make):
    project, person = quiz(make)
    (shown,) = project.next(person)
    first = project.answer(person, shown.item_id, A, client_key="k")
    again = project.answer(person, shown.item_id, A, client_key="k")
    assert again.feedback.correct == first.feedback.correct
    assert project.tallies()["quiz"] == 1


def test_a_gate_without_questions_says_so(make):
    project, people = make(1, screening={"questions": 4})
    project.add_items(pairs(2))
    assert project.next(people[0]) == []
    assert "the project's lead has to add some" in project.why_nothing(people[0])


def test_leads_and_adjudicators_need_no_quiz(make, store):
    project, _ = quiz(make)
    lead = store.people.add().id
    project.enrol(lead, role="lead")
    assert project.next(lead)[0].stage == "work"


def test_agreed_examples_come_first_with_feedback(make):
    project, people = make(2)
    project.add_items(pairs(3))
    project.add_items([pair(9)], gold=[A], purpose="calibration")
    for person in people:
        shown, receipt = reply(project, person, B)
        assert shown.stage == "calibration"
        assert not receipt.feedback.correct
        assert reply(project, person, A)[1].feedback is None
    assert project.overview().calibration_share == 0.5
    assert len(project.judgements()) == 4  # the rater had not seen the answer yet


def watched(make):
    project, people = make(
        1, gold_share=0.85, gold_window=4, gold_warn=0.7, gold_pause=0.5, raters_per_item=9
    )
    project.add_items(pairs(60, start=100), gold=[A] * 60)
    project.add_items(pairs(60))
    return project, people[0]


def gold_answers(project, person, values):
    """Answer until so many gold items have come; the notices that were not empty."""
    golds, notices, values = {i.id for i in project.items(purpose="gold")}, [], list(values)
    while values:
        (shown,) = project.next(person)
        value = values.pop(0) if shown.item_id in golds else A
        receipt = project.answer(person, shown.item_id, as_shown(shown, value))
        assert receipt.feedback is None  # gold stays unseen
        notices += [receipt.notice] * bool(receipt.notice)
    return notices


def test_a_falling_accuracy_warns_once_and_then_pauses(make):
    """Window 4. Right, right, right, wrong: ¾, fine. Two wrong: ½, a warning. Three: a pause."""
    project, person = watched(make)
    assert gold_answers(project, person, [A, A, A, B]) == []
    (warning,) = gold_answers(project, person, [B])
    assert "read the rubric" in warning
    assert project.member(person).state == "active"
    (pause,) = gold_answers(project, person, [B])
    assert "You are paused" in pause
    assert project.next(person) == []
    assert "differ from those" in project.why_nothing(person)
    assert [e.kind for e in project.events(kinds=["warned", "paused"])] == ["warned", "paused"]


def test_two_wrong_answers_alone_are_too_few_to_judge_by(make):
    project, person = watched(make)
    project.configure(project.settings.model_copy(update={"gold_window": 20}))
    assert gold_answers(project, person, [B] * 9) == []
    assert gold_answers(project, person, [B]) != []


def test_who_is_let_back_in_begins_afresh(make):
    project, person = watched(make)
    gold_answers(project, person, [B, B])
    assert project.member(person).state == "paused"
    project.set_state(person, "active")
    assert gold_answers(project, person, [A, B]) != []  # ½ of two: warned, not paused
    assert project.member(person).state == "active"


def test_a_paused_rater_may_hand_in_what_they_hold(make):
    project, person = watched(make)
    (shown,) = project.next(person)
    project.set_state(person, "paused", reason="a talk")
    receipt = project.answer(person, shown.item_id, A)
    assert receipt.next is None
    assert len(list(project.answers())) == 1
    assert "a talk" in project.why_nothing(person)


def test_undoing_gold_takes_its_mark_back_too(make):
    project, person = watched(make)
    gold_answers(project, person, [A, B])
    project.undo(person)
    assert project.member(person).recent == (1,)
    assert project.tallies(person)["gold_seen"] == 1
