"""A round of choosing in a real project: priorities, arms, screening, and what came of it."""

from collections import Counter

import numpy as np
import pytest

from backflip.errors import UserError
from backflip.feedback.choose.asking import Ask, ask_next
from backflip.feedback.choose.learning_curves import confirmed, gain_of, known
from backflip.feedback.choose.prescreen import SAME, Screen
from backflip.feedback.projects.store import open_store
from backflip.feedback.statistics.simulate import uniform
from tests.feedback.conftest import pairs

GOOD = ["kind", "warm", "clear", "helpful", "honest", "careful"]
BAD = ["rude", "cold", "vague", "useless", "false", "sloppy"]


def _pair(number, rng):
    """Two texts of good and bad words; the better one has more good words."""
    texts = [
        " ".join(rng.choice(GOOD + BAD, 12)) + f" about thing {number} in this way {side}"
        for side in "ab"
    ]
    question = [{"role": "user", "content": f"question {number}"}]
    return {"prompt": question, "answers": [{"text": text} for text in texts]}


def _better(payload):
    good = [sum(a["text"].split().count(w) for w in GOOD) for a in payload["answers"]]
    return int(np.sign(good[0] - good[1]))


def _answer(project, person, count):
    """Somebody who always knows which answer has more good words."""
    for _ in range(count):
        shown = project.next(person)
        if not shown:
            return
        better = _better(shown[0].payload)
        value = {"choice": "tie"} if better == 0 else {"choice": "ab"[better < 0], "strength": 1}
        project.answer(person, shown[0].item_id, value)


@pytest.fixture
def url(tmp_path):
    """SQLite alone, but for one test: what is asked of the database is plain."""
    return str(tmp_path / "feedback.sqlite")


@pytest.fixture
def tone(make):
    """A project with 200 pairs of words, of one rater each."""
    project, people = make(1, raters_per_item=1, random_share=0.25)
    rng = np.random.default_rng(0)
    project.add_items([_pair(n, rng) for n in range(200)])
    return project, people[0]


def test_postgresql_gives_the_same_round(pg):
    rounds = []
    for place in (pg.create(template="test0"), pg.create(template="test0")):
        store = open_store(place)
        project = store.create("tone", {"kind": "compare", "random_share": 0.25})
        rng = np.random.default_rng(0)
        project.add_items([_pair(n, rng) for n in range(50)])
        ask_next(project, Ask(count=9, strategy="diversity", seed=4))
        rounds.append([(row.id, row.origin, row.priority) for row in project.items(limit=60)])
        store.close()
    assert rounds[0] == rounds[1]
    assert Counter(origin for _, origin, _ in rounds[0])["active"] == 9


def test_a_diverse_round_stays_away_from_what_was_asked_before(make):
    """Forty pairs about ships and forty about bread; those about ships have been judged."""
    project, people = make(1, raters_per_item=1, random_share=0.0)
    rng = np.random.default_rng(0)
    about = {
        "ship": ["sail", "mast", "harbour", "anchor", "keel", "crew", "deck", "storm"],
        "bread": ["flour", "yeast", "oven", "crust", "dough", "salt", "rise", "bake"],
    }

    def pair(topic, number):
        texts = [" ".join(rng.choice(about[topic], 10)) + f" {number}{side}" for side in "ab"]
        prompt = [{"role": "user", "content": f"{topic} {number}"}]
        return {"prompt": prompt, "answers": [{"text": text} for text in texts]}

    project.add_items([pair("ship", n) for n in range(40)])
    _answer(project, people[0], 40)
    project.add_items([pair(topic, n) for n in range(40, 60) for topic in about])
    ask_next(project, Ask(count=8, strategy="diversity"))
    chosen = [row for row in project.items(limit=500) if row.origin == "active"]
    topics = Counter(row.payload["prompt"][0]["content"].split()[0] for row in chosen)
    assert topics["bread"] > topics["ship"]


def _by_origin(project):
    return Counter(row.origin for row in project.items(limit=500))


def test_the_first_round_is_chance_and_makes_both_arms(tone):
    project, person = tone
    asked = ask_next(project, Ask(count=20))
    assert (asked.strategy, asked.active, asked.random, asked.waiting) == ("random", 20, 20, 200)
    assert _by_origin(project) == {"given": 160, "active": 20, "random": 20}
    _answer(project, person, 40)
    done = Counter(row.origin for row in project.items(state="done", limit=500))
    assert set(done) == {"active", "random", "given"}
    assert done["active"] == 20  # all of what had a priority came first
    assert done["random"] == pytest.approx(10, abs=9)


def test_later_rounds_choose_by_what_was_said_and_let_go_of_what_is_stale(tone):
    project, person = tone
    ask_next(project, Ask(count=40))
    _answer(project, person, 45)
    before = {
        row.id for row in project.items(limit=500) if row.origin == "active" and not row.given
    }
    asked = ask_next(project, Ask(count=10, strategy="best_against_worst"))
    assert asked.strategy == "best_against_worst"
    assert asked.judged >= 40
    rows = project.items(limit=500)
    begun = project.next(person)[0].item_id
    chosen = [row for row in rows if row.priority > 0 and not row.given and row.id != begun]
    assert len(chosen) == 10
    assert all(row.origin == "active" for row in chosen)
    assert {row.id for row in rows if row.origin == "given"} >= before - {
        begun,
        *(r.id for r in chosen),
    }
    apart = [abs(_gap(row.payload)) for row in rows if not row.given]
    assert np.mean([abs(_gap(row.payload)) for row in chosen]) > np.mean(apart) + 0.4


def _gap(payload):
    good = [sum(a["text"].split().count(w) for w in GOOD) for a in payload["answers"]]
    return good[0] - good[1]


@pytest.mark.parametrize(
    "strategy", ["information", "disagreement", "uncertainty", "diversity", "random"]
)
def test_every_strategy_gives_a_full_round(tone, strategy):
    project, person = tone
    _answer(project, person, 40)
    asked = ask_next(project, Ask(count=15, strategy=strategy, candidates=80))
    assert (asked.strategy, asked.active, asked.candidates) == (strategy, 15, 80)


def test_priorities_that_people_gave_are_left_alone(tone):
    project, _ = tone
    mine = [row.id for row in project.items(limit=5)]
    project.prioritise(dict.fromkeys(mine, 7.0))
    asked = ask_next(project, Ask(count=195))
    assert asked.waiting == 195
    assert all(row.priority == 7.0 and row.origin == "given" for row in project.items(ids=mine))


def test_a_judge_from_outside_chooses_too(tone):
    """Two members that agree but on one item: that one is asked first."""
    project, _ = tone
    target = next(row for row in project.items(limit=200) if row.id % 7 == 0).payload

    def judge(payloads):
        split = np.array([2.0 if payload == target else 0.0 for payload in payloads])
        return np.stack([1 + split, 1 - split])

    ask_next(project, Ask(count=5, strategy="disagreement", seed=2), judge=judge)
    best = max(project.items(limit=500), key=lambda row: row.priority)
    assert best.payload == target or best.origin == "random"


def test_the_random_arm_does_not_depend_on_the_rounds_before(tone):
    project, person = tone
    first = {row.id for row in project.items(limit=500) if row.origin == "random"}
    ask_next(project, Ask(count=30))
    members = {row.id for row in project.items(limit=500) if row.origin == "random"}
    _answer(project, person, 40)
    ask_next(project, Ask(count=30))
    later = {row.id for row in project.items(limit=500) if row.origin == "random"}
    assert not first
    assert members < later
    draw = uniform(project.id, np.array(sorted(later)))
    assert (draw < 0.25).all()


def test_screened_pairs_leave_the_queue_with_a_reason_and_some_come_back(make):
    project, people = make(1, raters_per_item=1)
    rng = np.random.default_rng(1)
    same = [_pair(n, rng) for n in range(60)]
    for payload in same:
        payload["answers"][1]["text"] = payload["answers"][0]["text"].replace("way a", "way a .")
    other = [_pair(n, rng) for n in range(100, 130)]
    project.add_items([*same, *other])
    asked = ask_next(project, Ask(count=30, screen=Screen(sample_back=0.4)))
    met, back = asked.screened[SAME]
    dropped = project.items(state="dropped", limit=100)
    assert len(dropped) == met - back > 20
    reasons = {event.body["reason"] for event in project.events(kinds=["item state"])}
    assert reasons == {f"screened: {SAME}"}
    assert _by_origin(project)[f"screened: {SAME}"] == back > 5
    for _ in range(back):
        shown = project.next(people[0])[0]
        project.answer(people[0], shown.item_id, {"choice": "tie"})
    found = confirmed(project)[SAME]
    assert found.estimate == 1
    assert known(project).votes.sum() == back


def test_the_gain_is_read_from_a_project(make):
    project, people = make(1, raters_per_item=1, random_share=0.5)
    rng = np.random.default_rng(3)
    project.add_items([_pair(n, rng) for n in range(180)])
    assert "Neither arm" in gain_of(project).why
    for _ in range(3):
        ask_next(project, Ask(count=30))
        _answer(project, people[0], 50)
    found = gain_of(project)
    assert found.why == ""
    assert found.labels[-1] >= 40
    assert found.random[-1].estimate > 0.6


def test_kinds_without_a_model_are_told_what_to_do(make):
    project, _ = make(1, kind="thumbs")
    project.add_items([{"prompt": p["prompt"], "answer": p["answers"][0]} for p in pairs(10)])
    assert ask_next(project, Ask(count=3)).strategy == "random"
    assert ask_next(project, Ask(count=3, strategy="diversity")).active == 3
    with pytest.raises(UserError, match="pairs of answers"):
        ask_next(project, Ask(count=3, screen=Screen()))
