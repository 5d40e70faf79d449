"""People, passwords, tokens, invitations, roles; and forgetting somebody."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from backflip.errors import UserError
from backflip.feedback.store.refusals import RefusedError
from tests.feedback.conftest import pairs

PASSWORD = "correct horse battery"
A = {"choice": "a", "strength": 1}


def test_only_the_right_password_signs_in(store):
    ada = store.people.add(name="Ada", email="Ada@Example.org", password=PASSWORD)
    found = store.people.sign_in("ada@example.ORG ", PASSWORD)
    assert found is not None
    assert (found.id, found.name, found.email) == (ada.id, "Ada", "ada@example.org")
    for email, password in (
        ("ada@example.org", "correct horse"),
        ("eve@example.org", PASSWORD),
        ("", ""),
        ("ada@example.org", ""),
        ("ada@example.org", "x" * 100_000),
    ):
        assert store.people.sign_in(email, password) is None


def test_who_has_no_password_cannot_sign_in_with_none(store):
    """Raters by single sign-on have an address alone."""
    store.people.add(email="ada@example.org")
    assert store.people.sign_in("ada@example.org", "") is None
    assert store.people.by_email("ADA@example.org") is not None


def test_passwords_stand_nowhere_in_the_database(store):
    store.people.add(email="ada@example.org", password=PASSWORD)
    with store.database.read() as connection:
        kept = connection.execute(text("SELECT password_hash FROM identities")).scalar_one()
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


def test_a_new_password_ends_every_session(store):
    ada = store.people.add(email="ada@example.org", password=PASSWORD)
    store.people.set_password(ada.id, "another horse battery")
    assert store.people.get(ada.id).epoch == ada.epoch + 1
    assert store.people.sign_in("ada@example.org", PASSWORD) is None
    assert store.people.sign_in("ada@example.org", "another horse battery") is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"password": "short"}, "has 5 characters; use at least 10"),
        ({"password": "x" * 1001}, "more than 1000"),
        ({"email": "nobody"}, "is no e-mail address"),
        ({"name": "A\x00da"}, r"control character \(code 0\)"),
        ({"name": "\ud800"}, "control character"),
        ({"name": "x" * 201}, "201 characters; 200 is the limit"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(store, given, said):
    with pytest.raises(UserError, match=said):
        store.people.add(**given)
    assert store.people.count() == 0


def test_an_address_belongs_to_one_person(store):
    store.people.add(email="ada@example.org")
    with pytest.raises(RefusedError, match="is here already"):
        store.people.add(email="ADA@example.org")


def test_pseudonyms_tell_nothing_and_differ(store):
    names = {store.people.add(name=f"Person {n}").pseudonym for n in range(20)}
    assert len(names) == 20
    assert all(name.startswith("r-") and len(name) == 6 for name in names)
    one = sorted(names)[0]
    assert store.people.named(one).pseudonym == one


def test_a_token_opens_what_it_says_until_it_is_revoked(store, clock):
    ada = store.people.add(name="Ada")
    token = store.people.token(ada.id, "notebook", ["read"])
    person, scopes = store.people.by_token(token)
    assert (person.id, scopes) == (ada.id, ("read",))
    (known,) = store.people.tokens(ada.id)
    assert (known["name"], known["last_used"]) == ("notebook", clock.now)
    with store.database.read() as connection:
        assert token not in str(connection.execute(text("SELECT * FROM tokens")).all())
    other = store.people.add().id
    with pytest.raises(RefusedError, match="no such token"):
        store.people.revoke(other, known["key"])
    store.people.revoke(ada.id, known["key"])
    assert store.people.by_token(token) is None
    assert store.people.by_token("bf_guess") is None


def test_an_invitation_lets_as_many_in_as_it_says(make, store):
    project, _ = make(0, groups={"language": ["de", "en"]})
    secret = project.invite(groups={"language": "de"}, uses=2)
    assert store.invitation(secret).project == "tone"
    new = store.accept(secret, {"name": "Ada", "email": "a@x.org", "password": PASSWORD})
    known = store.people.add()
    store.accept(secret, known.id)
    assert [dict(m.groups) for m in project.members()] == [{"language": "de"}] * 2
    assert {m.person for m in project.members()} == {new.id, known.id}
    with pytest.raises(RefusedError, match="not valid"):
        store.accept(secret, {"name": "Eve"})
    assert store.people.count() == 2


def test_invitations_end_and_cannot_be_guessed(make, store, clock):
    project, _ = make(0)
    secret, other = project.invite(days=1), project.invite()
    (_, kept) = project.invitations()
    project.withdraw(kept["key"])
    for wrong in ("", secret[:-1], other, "' OR 1=1 --", "\ud800"):
        with pytest.raises(RefusedError, match="not valid"):
            store.invitation(wrong)
    with pytest.raises(RefusedError, match="no such invitation"):
        project.withdraw("")
    assert store.invitation(secret).role == "rater"
    clock.now += 86_401
    with pytest.raises(RefusedError, match="not valid"):
        store.invitation(secret)
    assert project.invitations() == []


def test_accepting_twice_keeps_what_was_reached(make, store):
    project, people = make(1, screening={"questions": 1})
    project.set_state(people[0], "active")
    store.accept(project.invite(), people[0])
    assert project.member(people[0]).state == "active"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"role": "boss"}, "no role 'boss'; use rater, adjudicator, lead, admin"),
        ({"groups": {"region": "north"}}, "no group 'region'; the project has language"),
        ({"groups": {"language": "fr"}}, "language cannot be 'fr'; the project has de, en"),
    ],
)
def test_roles_and_groups_must_be_known(make, given, said):
    project, people = make(1, groups={"language": ["de", "en"]})
    with pytest.raises(UserError, match=said):
        project.invite(**given)
    with pytest.raises(UserError, match=said):
        project.enrol(people[0], **given)


def test_people_see_their_own_projects(make, store):
    _project, people = make(1)
    other, _ = make(0, name="other")
    other.enrol(people[0], role="lead")
    assert store.projects_of(people[0]) == {"other": "lead", "tone": "rater"}
    other.set_state(people[0], "removed")
    assert store.projects_of(people[0]) == {"tone": "rater"}


@pytest.fixture
def gone(make, store):
    """Ada answered, wrote a reason and a note, had a token, and asked to be forgotten."""
    project, _ = make(0)
    ada = store.people.add(name="Ada Lovelace", email="ada@example.org", password=PASSWORD)
    project.enrol(ada.id)
    store.people.token(ada.id, "notebook", [])
    project.add_items(pairs(2))
    (shown,) = project.next(ada.id)
    project.note(ada.id, shown.item_id, "I was born in Piccadilly")
    value = {"choice": "cannot_tell", "reason": "as I told Charles"}
    project.answer(ada.id, shown.item_id, value)
    return project, ada


def everything(store):
    return json.dumps([list(store.export_log()), [p.__dict__ for p in store.people.everybody()]])


def test_a_persons_data_are_all_of_it(gone, store):
    _, ada = gone
    data = store.personal_data(ada.id)
    assert (data["name"], data["email"]) == ("Ada Lovelace", "ada@example.org")
    assert data["memberships"][0]["project"] == "tone"
    kinds = [event["kind"] for event in data["events"]]
    assert kinds == ["person", "joined", "token", "note", "answer"]
    assert json.dumps(data)


def test_a_persons_data_do_not_tell_which_items_were_gold(make, store):
    """A rater takes the data in the middle of the work: gold is still asked of them and others."""
    project, people = make(1, gold_share=0.5)
    project.add_items(pairs(20), gold=[A] * 20)
    project.add_items(pairs(20, start=100))
    golds = {item.id for item in project.items(purpose="gold")}
    shown = [project.next(people[0])[0]]
    for _ in range(9):
        receipt = project.answer(people[0], shown[-1].item_id, A, seconds=2)
        shown.append(receipt.next)
    assert 0 < sum(one.item_id in golds for one in shown[:9]) < 9
    data = store.personal_data(people[0])
    answers = [event for event in data["events"] if event["kind"] == "answer"]
    assert [event["item"] for event in answers] == [one.page()["item"] for one in shown[:9]]
    assert len({frozenset(event["body"]) for event in answers}) == 1
    counts = project.tallies(people[0])
    gold = {name: counts[name] for name in ("gold_seen", "gold_right") if name in counts}
    assert data["memberships"][0]["gold"] == gold


def test_a_persons_data_tell_of_a_pause_without_the_answers_that_led_to_it(make, store):
    project, people = make(1, gold_share=0.5, gold_window=4)
    project.add_items(pairs(4), gold=[A] * 4)
    project.add_items(pairs(40, start=100))
    while project.member(people[0]).state == "active":
        (shown,) = project.next(people[0])
        project.answer(people[0], shown.item_id, {"choice": "tie"}, seconds=2)
    (paused,) = (e for e in store.personal_data(people[0])["events"] if e["kind"] == "paused")
    assert paused["body"] == {"reason": "gold"}
    assert project.events(kinds=["paused"])[0].body["recent"]


def test_the_log_never_had_a_name_in_it(gone, store):
    log = "\n".join(store.export_log())
    assert "Ada" not in log
    assert "example.org" not in log


def test_who_is_erased_is_gone_but_their_answers_stay(gone, store):
    project, ada = gone
    store.erase(ada.id)
    assert store.people.sign_in("ada@example.org", PASSWORD) is None
    erased = store.people.get(ada.id)
    assert (erased.name, erased.email, erased.erased) == ("", "", True)
    assert erased.epoch > ada.epoch
    assert store.people.tokens(ada.id) == []
    assert store.people.everybody() == []
    with pytest.raises(RefusedError, match="do not belong"):
        project.next(ada.id)
    (row,) = project.answers()
    assert (row.person, row.value["choice"]) == (ada.pseudonym, "cannot_tell")
    assert [e.kind for e in store.events()][-1] == "redaction"
    assert store.people.add(email="ada@example.org").id != ada.id


def test_own_words_can_be_erased_too_and_the_log_says_so(gone, store):
    project, ada = gone
    store.erase(ada.id, texts=True)
    left = everything(store) + str([row.value for row in project.answers()])
    assert "Piccadilly" not in left
    assert "Charles" not in left
    (note,) = project.events(kinds=["note"])
    assert note.body["text"] == "[redacted]"


def test_an_erased_reply_is_taken_back_and_its_item_asked_again(make, store):
    """Nothing would be left of it to learn from; the counts are as if it had never been."""
    project, people = make(2, kind="write", name="write", raters_per_item=1)
    project.add_items([{"prompt": pairs(1)[0]["prompt"]}])
    (shown,) = project.next(people[0])
    project.answer(people[0], shown.item_id, {"text": "my own words"}, seconds=4)
    assert project.overview().done == 1
    pinned = project.newest_event()
    store.erase(people[0], texts=True)
    assert list(project.answers()) == []
    assert "my own words" not in everything(store)
    (kept,) = project.answers(until=pinned)  # as it stood then, without the words
    assert kept.value["text"] == "[redacted]"
    now = project.overview()
    assert (now.done, now.given, now.answers, now.hours) == (0, 0, 0, 0)
    (again,) = project.next(people[1])
    assert again.item_id == shown.item_id
    project.answer(people[1], again.item_id, {"text": "of somebody else"})
    assert (project.overview().done, project.items()[0].given) == (1, 1)


def test_an_erased_talk_leaves_the_statistics_that_had_read_it(make, store):
    project, people = make(1, kind="talk", name="talk")
    project.add_items([{"policies": ["p"], "rules": ["be kind"]}])
    (shown,) = project.next(people[0])
    turns = [{"role": "user", "content": "my own words"}]
    value = {"turns": turns, "verdicts": {"be kind": "broken"}}
    project.answer(people[0], shown.item_id, value)
    assert project.judgements().value.tolist() == [-1]
    store.erase(people[0], texts=True)
    assert len(project.judgements()) == 0
    store.database.cache.clear()
    assert len(project.judgements()) == 0


def test_what_was_taken_back_before_is_not_taken_back_twice(make, store):
    project, people = make(1, kind="write", name="write", raters_per_item=2)
    project.add_items([{"prompt": pairs(1)[0]["prompt"]}])
    (shown,) = project.next(people[0])
    project.answer(people[0], shown.item_id, {"text": "my first words"})
    project.undo(people[0])
    project.answer(people[0], shown.item_id, {"text": "my second words"})
    store.erase(people[0], texts=True)
    left = everything(store)
    assert "first words" not in left
    assert "second words" not in left
    item = project.item(shown.item_id)
    assert (item.state, item.given) == ("open", 0)
    assert len(project.events(kinds=["undo"])) == 2


def test_an_address_can_be_given_later_but_not_anothers(store):
    store.people.add(email="ada@example.org")
    eve = store.people.add()
    assert not store.people.has_password(eve.id)
    with pytest.raises(RefusedError, match="is here already"):
        store.people.set_email(eve.id, "ADA@example.org")
    store.people.set_email(eve.id, "eve@example.org")
    store.people.set_email(eve.id, "Eve@example.org")  # her own
    store.people.set_password(eve.id, PASSWORD)
    assert store.people.has_password(eve.id)
    assert store.people.sign_in("eve@example.org", PASSWORD).id == eve.id
    with pytest.raises(RefusedError, match="no such person"):
        store.people.set_email(10**6, "nobody@example.org")
