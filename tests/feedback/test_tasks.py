"""Items and answers: what fits, and what is said where something does not."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import settings_of

TURN = [{"role": "user", "content": "why?"}]
TWO = [{"text": "x", "source": "m"}, {"text": "y"}]


def judged(kind, payload, value, **settings):
    known = settings_of({"kind": kind, **settings})
    return value_of(value, payload_of(payload, kind), known).model_dump(mode="json")


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        ("compare", {"prompt": TURN}, "item: answers: is missing"),
        ("compare", {"prompt": TURN, "answers": TWO[:1]}, r"answers\.1: is missing"),
        ("compare", {"prompt": [], "answers": TWO}, "prompt: .*at least 1"),
        ("compare", {"prompt": TURN, "answers": TWO, "model": "m"}, "model: is not known here"),
        ("compare", {"prompt": [{"role": "bot", "content": ""}], "answers": TWO}, "role: .*'bot'"),
        ("compare", {"kind": "rank", "prompt": TURN, "answers": TWO}, "of kind 'rank', but .*comp"),
        ("compare", {"prompt": TURN, "answers": [{"text": 3}, {"text": "y"}]}, "text: .*seen: '3'"),
        ("rank", {"prompt": TURN, "answers": TWO[:1]}, "answers: .*at least 2"),
        ("clips", {"clips": [{"url": "/x"}, {}]}, r"clips\.1: a clip needs a url or a file"),
        ("steps", {"prompt": TURN, "steps": [""]}, r"steps\.0: .*at least 1"),
        ("talk", {"policies": list("abcdefghi")}, "policies: .*at most 8"),
        ("thumbs", {"prompt": TURN, "answer": {"text": "x" * 1_000_001}}, "at most 1000000"),
        ("principles", {"principle": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_an_item_that_does_not_fit_is_refused_by_name(kind, payload, said):
    with pytest.raises(UserError, match=said):
        payload_of(payload, kind)


PAIR = {"prompt": TURN, "answers": TWO}
THREE = {"prompt": TURN, "answers": [*TWO, {"text": "z"}]}
STEPS = {"prompt": TURN, "steps": ["one", "two", "three"]}
SPANS = {"prompt": TURN, "answer": {"text": "a text"}}
TALK = {"policies": ["p"], "rules": ["be kind"]}


@pytest.mark.parametrize(
    ("kind", "payload", "value", "settings", "said"),
    [
        ("compare", PAIR, {"choice": "left"}, {}, "choice: .*'a', 'b', 'tie'.*seen: 'left'"),
        (
            "compare",
            PAIR,
            {"choice": "a", "strength": 3},
            {},
            "strength 3 is beyond.*4 points.*to 2",
        ),
        ("compare", PAIR, {"choice": "a", "strength": 0}, {}, "strength: .*greater.*seen: '0'"),
        ("compare", PAIR, {"choice": "tie"}, {"allow_tie": False}, "has no ties"),
        (
            "compare",
            PAIR,
            {"choice": "both_bad"},
            {"allow_both_bad": False},
            "no answer 'both bad'",
        ),
        ("compare", PAIR, {"choice": "cannot_tell"}, {}, "needs a reason"),
        ("rank", THREE, {"ranks": [0, 1]}, {}, "2 ranks for 3 answers"),
        ("rank", THREE, {"ranks": [0, 2, None]}, {}, r"without gaps.*\[0, 2\]"),
        ("rank", THREE, {"ranks": [None, None, None]}, {}, "no answer has a rank"),
        ("rate", SPANS, {"ratings": {"helpful": 3}}, {}, "'honest' has no rating"),
        (
            "rate",
            SPANS,
            {"ratings": {"helpful": 8, "honest": 1, "harmless": 1}},
            {},
            "'helpful' is 8; its scale runs from 1 to 7",
        ),
        (
            "rate",
            SPANS,
            {"ratings": {"wit": 3}},
            {},
            "no attribute 'wit'; this project has helpful",
        ),
        ("thumbs", SPANS, {"up": 1}, {}, "up: .*boolean.*seen: '1'"),
        ("write", {"prompt": TURN}, {"text": " \n"}, {}, "the reply is empty"),
        ("write", {"prompt": TURN}, {"text": "x", "from_draft": True}, {}, "the item has no draft"),
        ("steps", STEPS, {"labels": [1, 1]}, {}, "2 labels for 3 steps"),
        ("steps", STEPS, {"labels": [1, None, 1]}, {}, "step 2 has no label but a later one has"),
        ("steps", STEPS, {"labels": [1, None, None]}, {}, "step 2 has no label"),
        (
            "steps",
            STEPS,
            {"labels": [1, None, None]},
            {"stop_at_bad": True},
            "may end only at a bad step",
        ),
        ("steps", STEPS, {"labels": [2, 1, 1]}, {}, r"labels\.0.*seen: '2'"),
        (
            "spans",
            SPANS,
            {"spans": [{"start": 2, "end": 9, "label": "bad"}]},
            {"span_labels": ["bad"]},
            "span 2 to 9 does not lie in a text of 6 characters",
        ),
        (
            "spans",
            SPANS,
            {"spans": [{"start": 2, "end": 3, "label": "odd"}]},
            {"span_labels": ["bad"]},
            "no label 'odd'; this project has bad",
        ),
        ("principles", {"principle": "p"}, {"vote": "maybe"}, {}, "vote: .*'agree'"),
        ("talk", TALK, {"turns": []}, {}, "has no turns"),
        (
            "talk",
            TALK,
            {"turns": [{"role": "assistant", "content": "x", "candidates": ["x"], "picked": 1}]},
            {},
            "turn 1 picks candidate 1 of 1",
        ),
        (
            "talk",
            TALK,
            {
                "turns": [
                    {"role": "assistant", "content": "x", "candidates": ["x", "y"], "ranks": [0, 2]}
                ]
            },
            {},
            "ranks of turn 1 must run 0, 1, 2",
        ),
        ("talk", TALK, {"turns": [{"role": "user", "content": "x"}]}, {}, "rule 'be kind' has no"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_name(kind, payload, value, settings, said):
    with pytest.raises(UserError, match=said):
        judged(kind, payload, value, **settings)


def test_labelling_may_end_at_the_first_bad_step_where_the_project_says_so():
    value = {"labels": [1, -1, None]}
    assert judged("steps", STEPS, value, stop_at_bad=True)["labels"] == [1, -1, None]


def test_partial_ranks_and_ties_fit():
    assert judged("rank", THREE, {"ranks": [0, None, 0]})["ranks"] == [0, None, 0]


def test_hostile_text_is_kept_letter_by_letter():
    """Null bytes, scripts and overrides are content: the page must show them safely."""
    text = "\x00<script>alert(1)</script>\u202egnp.exe '; DROP TABLE items; --"
    payload = payload_of({"prompt": TURN, "answer": {"text": text}}, "thumbs")
    assert payload.answer.text == text
    with pytest.raises(UserError, match="surrogate"):  # half a letter is no text at all
        payload_of({"prompt": TURN, "answer": {"text": "\ud800"}}, "thumbs")
