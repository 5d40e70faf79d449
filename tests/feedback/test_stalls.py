"""A project that waits for raters who do not exist says so to lead, raters and terminal."""

from __future__ import annotations

import pytest

from backflip.feedback.projects.project import Project
from backflip.feedback.rating.items import NewItem
from tests.feedback.conftest import pairs

SIDE = {"choice": "tie"}


def work(project: Project, person: int, most: int = 100) -> None:
    for _ in range(most):
        shown = project.next(person)
        if not shown:
            return
        project.answer(person, shown[0].item_id, SIDE)


def test_more_raters_an_item_than_there_are(make):
    project, people = make(2, raters_per_item=3)
    project.add_items(pairs(6))
    said = "6 items wait for raters who do not exist: 3 answers each, and 2 raters in the project"
    assert project.stalls() == [said]
    for person in people:
        work(project, person)
    assert project.stalls() == [said]
    assert "6 items wait for raters who do not exist yet" in project.why_nothing(people[0])


def test_whoever_can_still_answer_is_waited_for(make, store):
    project, people = make(2, raters_per_item=2)
    project.add_items(pairs(3))
    assert project.stalls() == []
    work(project, people[0])
    assert project.stalls() == []
    assert "other raters have the rest" in project.why_nothing(people[0])
    project.set_state(people[1], "paused")
    assert project.stalls() == [
        "3 items wait for raters who do not exist: 2 answers each, and 1 rater in the project"
    ]
    project.enrol(store.people.add().id)
    assert project.stalls() == []


def test_a_group_of_whom_all_were_asked(make):
    project, people = make(3, raters_per_item=2, groups={"language": ["de", "fr"]})
    for person in people[:2]:
        project.enrol(person, groups={"language": "de"})
    project.add_items([NewItem(one, route="language=de") for one in pairs(1)])
    project.add_items([NewItem(one, route="language=fr") for one in pairs(2, start=1)])
    assert project.stalls() == [
        "2 items wait for raters who do not exist: no member of the project rates as language fr"
    ]
    project.skip(people[0], project.next(people[0])[0].item_id)
    assert project.stalls()[0] == (
        "1 item waits for raters who do not exist: all 2 raters of language de had it"
    )


def test_a_lead_counts_once_they_rate_and_nobody_is_missed_before_anybody_rates(make):
    project, people = make(1, raters_per_item=2)
    project.enrol(people[0], role="lead")
    project.add_items(pairs(2))
    assert project.stalls() == []  # a project that has not begun: the page says to invite
    work(project, people[0])
    assert project.stalls() == [
        "2 items wait for raters who do not exist: 2 answers each, and 1 rater in the project"
    ]


@pytest.mark.parametrize("kind", ["dropped", "adjudicate"])
def test_what_is_asked_no_more_waits_for_nobody(make, kind):
    project, _ = make(1, raters_per_item=2)
    project.add_items(pairs(1))
    put = project.drop if kind == "dropped" else project.to_adjudication
    put([project.items()[0].id])
    assert project.stalls() == []
