"""How many raters an item gets: a fixed number, more while unsure, an adjudicator in the end."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.feedback.rating.items import NewItem
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.tasks.settings import Overlap, settings_of
from tests.feedback.answered import answer_all, ask, project_of
from tests.feedback.conftest import as_shown, pairs

A, B = {"choice": "a", "strength": 1}, {"choice": "b", "strength": 1}
SIDES = {"allow_tie": False, "allow_both_bad": False}


def say(project, person, value, queue="work"):
    (shown,) = project.next(person, queue=queue)
    return project.answer(person, shown.item_id, as_shown(shown, value), queue=queue)


def test_agreement_ends_an_item_and_doubt_asks_for_more(make):
    """η = 0.8 each. Two that agree: 16/17 = 0.94 > 0.9, enough. One each: 0.5; a third: 0.8."""
    project, people = make(5, overlap={"threshold": 0.9, "max_raters": 5}, **SIDES)
    project.add_items(pairs(1))
    item = project.items()[0].id
    say(project, people[0], A)
    say(project, people[1], B)
    assert (project.item(item).state, project.item(item).wanted) == ("open", 3)
    say(project, people[2], A)
    assert project.item(item).wanted == 4
    say(project, people[3], A)  # 3 against 1: 0.8²/0.2² again
    assert (project.item(item).state, project.item(item).given) == ("done", 4)
    assert project.overview().wanted == 4


def test_overlap_ends_at_its_most(make):
    project, people = make(4, overlap={"threshold": 0.9, "max_raters": 3}, **SIDES)
    project.add_items(pairs(1))
    for person, value in zip(people, (A, B, A), strict=False):
        say(project, person, value)
    assert project.items()[0].state == "done"
    assert project.next(people[3]) == []


def test_raters_of_known_reliability_weigh_more(make):
    """One of 0.99 against one of 0.6: odds 99 : 1.5, sure at once."""
    overlap = {"threshold": 0.9, "max_raters": 5}
    project, people = make(2, overlap=overlap, adjudicate_below=0.0, **SIDES)
    project.set_reliabilities({people[0]: 0.99, people[1]: 0.6})
    project.add_items(pairs(1))
    say(project, people[0], A)
    say(project, people[1], B)
    assert project.items()[0].state == "done"


@pytest.fixture
def disputed(make):
    project, people = make(3, adjudicate_below=0.6, **SIDES)
    project.enrol(people[2], role="adjudicator")
    project.add_items(pairs(1))
    say(project, people[0], A)
    say(project, people[1], B)
    return project, people


ONE = {"prompt": ask("two and two?"), "answer": {"text": "It is four, I think."}}
FOUR = {"prompt": ask("which?"), "answers": [{"text": text} for text in "abcd"]}
STEPS = {"prompt": ask("two and two?"), "steps": ["one", "two", "three"]}
DISPUTES = {
    "rank": (FOUR, {}, {"ranks": [0, 1, 2, 3]}, {"ranks": [1, 0, 2, 3]}, {"ranks": [3, 2, 1, 0]}),
    "rate": (
        ONE,
        {"attributes": [{"name": "kind", "low": 1, "high": 7}]},
        *({"ratings": {"kind": mark}} for mark in (5, 6, 2)),
    ),
    "steps": (STEPS, {}, *({"labels": marks} for marks in ([1, -1, 0], [0, -1, -1], [1, 1, 1]))),
    "spans": (
        ONE,
        {"span_labels": ["wrong"]},
        *(
            {"spans": [{"start": start, "end": end, "label": "wrong"}]}
            for start, end in ((0, 6), (2, 8), (12, 16))
        ),
    ),
    "thumbs": (ONE, {}, {"up": True}, {"up": True}, {"up": False}),
}
"""An item, settings, an answer, one that says the same by the rule for gold, one that does not."""


@pytest.mark.parametrize("kind", DISPUTES)
def test_every_kind_whose_answers_can_be_told_apart_has_disputes(kept, kind):
    item, more, first, same, other = DISPUTES[kind]
    for name, said, state in (
        ("agreed", (first, same), "done"),
        ("no", (first, other), "adjudicate"),
    ):
        project, people = project_of(kept, kind, [item], raters=2, name=name, **more)
        answer_all(project, people, lambda rater, _payload, said=said: said[rater])
        assert project.items()[0].state == state


def test_what_raters_write_cannot_be_disputed():
    with pytest.raises(UserError, match="adjudicate_below needs one of the kinds"):
        settings_of({"kind": "write", "adjudicate_below": 0.5})


def test_a_dispute_goes_to_an_adjudicator_whose_word_is_final(disputed):
    project, people = disputed
    assert (project.items()[0].state, project.overview().adjudicate) == ("adjudicate", 1)
    with pytest.raises(RefusedError, match="only adjudicators"):
        project.next(people[0], queue="adjudicate")
    say(project, people[2], B, queue="adjudicate")
    overview = project.overview()
    assert (overview.done, overview.adjudicate, overview.given) == (1, 0, 2)
    rows = list(project.answers())
    assert [row.stage for row in rows] == ["work", "work", "adjudicate"]


def test_what_an_adjudicator_says_is_gold_and_not_a_judgement(disputed):
    project, people = disputed
    before = project.newest_event()
    say(project, people[2], B, queue="adjudicate")
    found = project.judgements()
    assert len(found) == 2
    assert found.gold.tolist() == [-0.5]
    assert str(project.judgements(until=before).gold.tolist()) == "[nan]"


def test_of_two_adjudicators_the_first_decides(disputed, store):
    project, people = disputed
    other = store.people.add().id
    project.enrol(other, role="adjudicator")
    project.next(people[2], queue="adjudicate")
    (shown,) = project.next(other, queue="adjudicate")
    say(project, people[2], A, queue="adjudicate")
    assert project.answer(other, shown.item_id, B, queue="adjudicate").surplus
    assert project.next(other, queue="adjudicate") == []


def test_a_decided_item_can_no_longer_be_undone_but_the_decision_can(disputed):
    project, people = disputed
    say(project, people[2], B, queue="adjudicate")
    with pytest.raises(RefusedError, match="an adjudicator has decided"):
        project.undo(people[0])
    project.undo(people[2])
    assert project.items()[0].state == "adjudicate"
    project.undo(people[0])
    assert project.items()[0].state == "open"
    assert project.overview().adjudicate == 0


def test_a_lead_who_judges_too_may_settle_it_the_own_disputes_last(make):
    project, people = make(3, adjudicate_below=0.6, groups={"tongue": ["de"]}, **SIDES)
    lead, other, third = people
    project.enrol(lead, role="lead")
    project.add_items(
        [NewItem(one, route="tongue=de") for one in pairs(1)]
    )  # for whom the lead is not
    project.add_items(pairs(1, start=1))
    for person in (other, third):
        project.enrol(person, groups={"tongue": "de"})
    routed, common = (row.id for row in project.items())
    say(project, lead, A)
    say(project, other, A)
    say(project, third, B)
    say(project, other, B)
    assert project.overview().adjudicate == 2
    (first,) = project.next(lead, queue="adjudicate")
    assert first.item_id == routed
    project.answer(lead, routed, as_shown(first, A), queue="adjudicate")
    (second,) = project.next(lead, queue="adjudicate")
    assert second.item_id == common
    project.skip(lead, common)
    assert project.next(lead, queue="adjudicate") == []
    assert project.overview().adjudicate == 1


def test_agreement_needs_no_adjudicator(make):
    project, people = make(2, adjudicate_below=0.6)
    project.add_items(pairs(1))
    for person in people:
        say(project, person, A)
    assert project.items()[0].state == "done"


def test_the_lead_may_send_any_item_to_adjudication(make):
    project, people = make(1)
    project.enrol(people[0], role="lead")
    project.add_items(pairs(2))
    item = project.items()[0].id
    assert project.to_adjudication([item], reason="odd") == 1
    (shown,) = project.next(people[0], queue="adjudicate")
    assert shown.item_id == item


def test_golden_items_are_for_seniors_alone(make):
    project, people = make(2)
    project.enrol(people[1], role="lead")
    project.add_items(pairs(2), purpose="golden")
    assert project.next(people[0]) == []
    say(project, people[1], A, queue="golden")
    assert project.overview().items == 0  # kept for probes, no part of the work
    assert [item.state for item in project.items()].count("done") == 1
    assert len(project.judgements()) == 0


def test_more_raters_for_each_item_reopen_what_was_done(make):
    project, people = make(3, raters_per_item=1)
    project.add_items(pairs(4))
    for _ in range(2):
        say(project, people[0], A)
    project.next(people[1])  # holds one
    settings = project.settings.model_copy(update={"raters_per_item": 2})
    assert project.configure(settings, by=people[0]) == 1  # what raters read is the same
    overview = project.overview()
    assert (overview.done, overview.wanted, overview.given) == (0, 8, 2)
    while shown := project.next(people[1]):
        project.answer(people[1], shown[0].item_id, A)
    assert project.overview().done == 2
    fewer = project.settings.model_copy(update={"raters_per_item": 1})
    project.configure(fewer)
    assert project.overview().done == 4
    assert project.next(people[2]) == []


def test_the_kind_of_a_project_cannot_change(make):
    project, _ = make(0)
    with pytest.raises(UserError, match="'compare', which cannot change to 'rank'"):
        project.configure({"kind": "rank"})


def test_a_changed_rubric_is_a_version_that_answers_carry(make):
    project, people = make(1, rubric="be strict")
    project.add_items(pairs(2))
    say(project, people[0], A)
    project.configure(project.settings.model_copy(update={"rubric": "be kind"}))
    say(project, people[0], A)
    assert [row.rubric_version for row in project.answers()] == [1, 2]
    assert [settings.rubric for _, _, settings in project.rubrics()] == ["be strict", "be kind"]
    assert project.judgements().rubric.tolist() == [1, 2]


def test_the_same_settings_again_are_no_new_version(make):
    project, _ = make(1)
    assert project.configure(project.settings) == project.rubric_version == 1
    assert project.events(kinds=["settings"]) == []


def test_settings_that_make_known_answers_wrong_are_refused(make):
    """Else every rater would answer gold wrongly from then on, and be paused."""
    project, _ = make(1)
    project.add_items(pairs(2), gold=[A, {"choice": "tie"}], purpose="gold")
    with pytest.raises(UserError, match="item 2: this project has no ties"):
        project.configure(project.settings.model_copy(update={"allow_tie": False, "scale": 4}))
    assert project.rubric_version == 1
    project.drop([2])
    project.configure(project.settings.model_copy(update={"allow_tie": False, "scale": 4}))
    assert project.rubric_version == 2


def test_what_raters_said_tells_how_far_to_trust_them(make):
    """Four agree with each other, one says the opposite: of two against one, the two are enough."""
    project, people = make(5, raters_per_item=5, **SIDES)
    project.add_items(pairs(30))
    for number, person in enumerate(people):
        for _ in range(30):
            say(project, person, B if number == 4 else A)
    found = project.learn_reliabilities()
    assert set(found) == set(people)
    assert min(found[person] for person in people[:4]) > 0.9
    assert max(found.values()) < 0.99  # thirty right answers make nobody perfect
    assert found[people[4]] < 0.3
    kept = {member.person: member.reliability for member in project.members()}
    assert kept == found


def test_kinds_without_verdicts_have_no_reliabilities(make):
    project, people = make(1, kind="write", name="write")
    project.add_items([{"prompt": pairs(1)[0]["prompt"]}])
    (shown,) = project.next(people[0])
    project.answer(people[0], shown.item_id, {"text": "x"})
    assert project.learn_reliabilities() == {}


# ---- changed thresholds


def split(make, items: int = 3, **settings):
    """Two raters who agree on the first item and on no other."""
    project, people = make(3, **SIDES, **settings)
    project.add_items(pairs(items))
    agreed = project.items()[0].id
    for person, value in zip(people, (A, B), strict=False):
        while shown := project.next(person):
            (one,) = shown
            said = A if one.item_id == agreed else value
            project.answer(person, one.item_id, as_shown(one, said))
    return project, people


def states(project) -> list[str]:
    return [item.state for item in project.items()]


def changed(project, **settings) -> int:
    return project.configure(project.settings.model_copy(update=settings))


def test_two_raters_who_split_call_an_adjudicator_without_a_setting(make):
    project, people = split(make)
    assert states(project) == ["done", "adjudicate", "adjudicate"]
    project.enrol(people[2], role="adjudicator")
    assert project.next(people[2], queue="adjudicate")


def test_a_majority_of_three_needs_no_adjudicator(make):
    project, people = make(3, raters_per_item=3, **SIDES)
    project.add_items(pairs(1))
    for person, value in zip(people, (A, B, A), strict=True):
        say(project, person, value)
    assert states(project) == ["done"]


def test_a_changed_threshold_settles_what_is_done_and_asks_nobody_again(make):
    project, people = split(make, adjudicate_below=0.0)
    assert states(project) == ["done"] * 3
    assert changed(project, adjudicate_below=0.6) == 1  # the rubric is the same
    assert states(project) == ["done", "adjudicate", "adjudicate"]
    assert project.overview().adjudicate == 2
    assert [project.next(person) for person in people[:2]] == [[], []]
    (told,) = project.events(kinds=["settled anew"])
    assert told.body == {"done to adjudicate": 2}
    changed(project, adjudicate_below=0.4)
    assert states(project) == ["done"] * 3
    assert (project.overview().adjudicate, project.overview().done) == (0, 3)
    assert {row.rubric_version for row in project.answers()} == {1}


def test_what_a_senior_or_the_lead_decided_stands_whatever_the_threshold(make):
    project, people = split(make, items=4)
    project.enrol(people[2], role="adjudicator")
    say(project, people[2], A, queue="adjudicate")
    decided = {row.item for row in project.answers() if row.stage == "adjudicate"}
    project.to_adjudication([1])
    changed(project, adjudicate_below=0.0)
    found = {item.id: item.state for item in project.items()}
    assert found[1] == "adjudicate"  # the lead's own word
    assert all(found[item] == "done" for item in found if item != 1)
    changed(project, adjudicate_below=0.6)
    assert [project.item(item).state for item in decided] == ["done"]


def test_fewer_raters_an_item_leave_splits_to_be_settled(make):
    project, _ = split(make, raters_per_item=3)
    assert states(project) == ["open"] * 3
    changed(project, raters_per_item=2)
    assert states(project) == ["done", "adjudicate", "adjudicate"]
    changed(project, raters_per_item=3)
    assert states(project) == ["open"] * 3


def test_other_thresholds_apply_to_what_is_done_too(make):
    project, people = make(2, **SIDES)
    project.add_items(pairs(1))
    project.skip(people[0], project.next(people[0])[0].item_id)
    changed(project, skips_to_adjudicate=1)
    assert states(project) == ["adjudicate"]
    changed(project, skips_to_adjudicate=2)
    assert states(project) == ["open"]
    unsure, _ = split(make, name="unsure", adjudicate_below=0.0)
    changed(unsure, overlap=Overlap(threshold=0.9, max_raters=3))
    assert states(unsure) == ["done", "open", "open"]
    assert unsure.overview().wanted == 2 + 3 + 3


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({"adjudicate_below": 0.9}, 1),
        ({"raters_per_item": 4}, 1),
        ({"gold_pause": 0.2}, 1),
        ({"lease_seconds": 60}, 1),
        ({"rubric": "be kind"}, 2),
        ({"scale": 8}, 2),
        ({"content_warning": "Blood."}, 2),
    ],
)
def test_a_new_version_is_what_raters_read_anew(make, change, version):
    project, people = make(1)
    assert changed(project, **change) == project.rubric_version == version
    assert getattr(project.member(people[0]).settings, next(iter(change))) == next(
        iter(change.values())
    )
    assert len(project.rubrics()) == version
