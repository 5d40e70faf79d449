"""Worked examples are written in a form: for each kind what it needs, nothing kept is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backflip.feedback.projects.project import Project
from tests.server.served import Browser, Fields, Served

PAGE = "/projects/tone/settings"
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "user: is what I said"},
    {"role": "assistant", "content": "Two\n\nparagraphs."},
    {"role": "user", "content": "Why?"},
]
ASK = [{"role": "user", "content": "Why?"}]
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes", "candidates": ["Yes", "No"], "picked": 0},
]
KINDS: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, Any], dict[str, Any]]] = {
    "compare": (
        {"scale": 6},
        {"prompt": "Why?", "answer_0": "Because.", "answer_1": "So.\r\nThere.", "choice": "b 3"},
        {"prompt": ASK, "answers": [{"text": "Because."}, {"text": "So.\nThere."}]},
        {"choice": "b", "strength": 3},
    ),
    "rank": (
        {},
        {"prompt": "Why?", "answer_0": "x", "answer_1": "y", "answer_2": "", "answer_3": "z",
         "place_0": "2", "place_1": "1", "place_3": "2"},
        {"prompt": ASK, "answers": [{"text": "x"}, {"text": "y"}, {"text": "z"}]},
        {"ranks": [1, 0, 1]},
    ),
    "rate": (
        {"attributes": [{"name": "very kind"}, {"name": "odd_2", "low": 0}]},
        {"prompt": "Why?", "answer": "Because.", "mark_very kind": "7", "mark_odd_2": "0"},
        {"prompt": ASK, "answer": {"text": "Because."}},
        {"ratings": {"very kind": 7, "odd_2": 0}},
    ),
    "thumbs": ({}, {"prompt": "Why?", "answer": "B", "up": "no"},
               {"prompt": ASK, "answer": {"text": "B"}}, {"up": False}),
    "write": ({}, {"prompt": "Why?", "draft": "meh", "text": "Better"},
              {"prompt": ASK, "draft": {"text": "meh"}}, {"text": "Better", "from_draft": True}),
    "steps": ({"stop_at_bad": True},
              {"prompt": "Why?", "steps": "a\r\n\r\nb\r\n\r\nc", "labels": "+ -·"},
              {"prompt": ASK, "steps": ["a", "b", "c"]}, {"labels": [1, -1, None]}),
    "spans": ({"span_labels": ["rude", "false"]},
              {"prompt": "", "answer": "You fool: no.", "marks": "rude: fool\r\nfalse: no"},
              {"answer": {"text": "You fool: no."}},
              {"spans": [{"start": 4, "end": 8, "label": "rude"},
                         {"start": 10, "end": 12, "label": "false"}]}),
    "clips": ({"scale": 2}, {"clip_0": "a.png", "clip_1": "https://x.org/b.mp4", "choice": "a 1"},
              {"clips": [{"file": "a.png", "media": "image"},
                         {"url": "https://x.org/b.mp4", "media": "video"}]}, {"choice": "a"}),
    "principles": ({}, {"principle": "Be kind.", "vote": "pass"},
                   {"principle": "Be kind."}, {"vote": "pass"}),
    "talk": ({}, {"opening": "", "policies": "m, n", "rules": "be brief\r\nbe kind",
                  "turns": "user: Hi\r\n\r\nassistant: Yes", "verdicts": "kept\r\nbroken"},
             {"policies": ["m", "n"], "rules": ["be brief", "be kind"]},
             {"turns": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}],
              "verdicts": {"be brief": "kept", "be kind": "broken"}}),
}  # fmt: skip
"""For each kind: settings, what is typed, and what is stored."""
FULL: dict[str, dict[str, Any]] = {
    "compare": {"payload": {"prompt": TURNS, "answers": [{"text": " a\r\n", "source": "m"},
                                                          {"text": "\nb"}]},
                "value": {"choice": "cannot_tell", "reason": "No idea."}, "why": "W"},
    "talk": {"payload": {"opening": TURNS, "policies": ["a", "b"], "rules": ["be, brief: now"]},
             "value": {"turns": TALK, "verdicts": {"be, brief: now": "unsure"}}, "why": ""},
    "clips": {"payload": {"clips": [{"file": "a.bin", "media": "frames", "source": "m"},
                                    {"url": "/b.mp4"}]},
              "value": {"choice": "tie", "reason": "Same."}, "why": ""},
}  # fmt: skip
"""Examples with more in them than the form shows."""


def subset(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is there; defaults may stand beside it."""
    if isinstance(wanted, dict):
        return all(name in found and subset(one, found[name]) for name, one in wanted.items())
    if isinstance(wanted, list):
        pairs = zip(wanted, found, strict=False)
        return len(wanted) == len(found) and all(subset(a, b) for a, b in pairs)
    return wanted == found


def send(lead: Browser, typed: dict[str, str], number: int = 0) -> Any:
    sent = Fields(lead.get(PAGE).text).found
    for name, text in typed.items():
        field = f"example-{number}-{name}"
        assert field in sent or name == "remove", (field, sorted(sent))
        sent[field] = text
    return lead.send(PAGE, sent)


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_typed_shown_changed_and_removed(server: Served, lead: Browser, kind: str):
    settings, typed, payload, value = KINDS[kind]
    project: Project = server.project(kind=kind, items=0, **settings)
    page = send(lead, typed | {"why": "It **helps**."})
    assert "Not saved yet" not in page.text, page.text[page.text.index("Not saved yet") :][:400]
    (stored,) = project.settings.examples
    assert subset(payload, stored.payload), stored.payload
    assert subset(value, stored.value), stored.value
    assert stored.why == "It **helps**."
    version = project.rubric_version
    send(lead, {})  # nothing was touched
    assert (project.settings.examples, project.rubric_version) == ((stored,), version)
    send(lead, {"why": "Other."})
    (changed,) = project.settings.examples
    assert (changed.payload, changed.value, changed.why) == (stored.payload, stored.value, "Other.")
    send(lead, typed, 1)
    assert len(project.settings.examples) == 2
    send(lead, {"remove": "yes"})
    assert [one.why for one in project.settings.examples] == [""]


@pytest.mark.parametrize("kind", FULL)
def test_an_old_example_opens_in_the_form_and_keeps_what_the_form_does_not_show(
    server: Served, lead: Browser, kind: str
):
    project: Project = server.project(kind=kind, items=0, examples=[FULL[kind]])
    (before,) = project.settings.examples
    send(lead, {"why": "New."})
    (after,) = project.settings.examples
    assert (after.payload, after.value, after.why) == (before.payload, before.value, "New.")


def test_changing_one_answer_leaves_sources_and_turns(server: Served, lead: Browser):
    project: Project = server.project(items=0, examples=[FULL["compare"]])
    send(lead, {"answer_1": "Another."})
    (after,) = project.settings.examples
    assert [a["text"] for a in after.payload["answers"]] == [" a\r\n", "Another."]
    assert after.payload["answers"][0]["source"] == "m"
    assert after.payload["prompt"] == TURNS


def test_one_more_row_without_javascript_and_nothing_saved(server: Served, lead: Browser):
    project: Project = server.project(items=0)
    sent = Fields(lead.get(PAGE).text).found
    page = lead.send(PAGE, {**sent, "example-0-prompt": "Why?", "another": "yes", "rubric": "x"})
    assert page.status_code == 200
    again = Fields(page.text).found
    assert (again["example_rows"], again["example-0-prompt"], again["rubric"]) == ("2", "Why?", "x")
    assert "example-1-prompt" in again
    assert project.settings.rubric == ""
    typed = KINDS["compare"][1] | {"choice": "a 1"}
    rows = {f"example-{n}-{name}": text for n in range(2) for name, text in typed.items()}
    lead.send(PAGE, {**again, **rows})
    assert len(project.settings.examples) == 2


@pytest.mark.parametrize(
    ("kind", "typed", "said"),
    [
        ("compare", {"prompt": "Why?"}, "Example 1, payload"),
        ("compare", {**KINDS["compare"][1], "choice": ""}, "Example 1, value"),
        ("rate", {**KINDS["rate"][1], "mark_odd_2": "many"}, "odd_2: &#39;many&#39; is not"),
        ("steps", {**KINDS["steps"][1], "labels": "+ x"}, "labels: &#39;x&#39; is no sign"),
        ("spans", {**KINDS["spans"][1], "marks": "rude: o"}, "stands 4 times"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_and_what_was_typed_stays(
    server: Served, lead: Browser, kind: str, typed: dict[str, str], said: str
):
    settings = {name: one for name, one in KINDS[kind][0].items() if name != "scale"}
    project: Project = server.project(kind=kind, items=0, **settings)
    page = send(lead, typed)
    assert page.status_code == 400
    assert said in page.text
    again = Fields(page.text).found
    assert {n: again[f"example-0-{n}"].replace("\r\n", "\n") for n in typed} == {
        n: text.replace("\r\n", "\n") for n, text in typed.items()
    }
    assert project.settings.examples == ()


def test_a_malformed_example_of_an_old_database_opens(server: Served, lead: Browser):
    from backflip.server.base.example_form import texts_of

    for kind in KINDS:
        for payload in ({}, {"answers": 3, "prompt": 4, "clips": "x", "steps": 1, "answer": "a"}):
            value = {"ranks": "x", "ratings": [1], "spans": [{}], "labels": 2, "verdicts": 3}
            assert json.dumps(texts_of(kind, {"payload": dict(payload), "value": value}))
