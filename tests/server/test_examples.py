"""Worked examples: checked when settings are saved, and drawn whatever a database holds."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from sqlalchemy import update

from backflip.errors import UserError
from backflip.feedback.kinds.registry import KINDS, kind_of
from backflip.feedback.store.schema import Projects, Rubrics
from backflip.feedback.tasks.examples import spelled_out
from backflip.server.base import forms
from tests.server.served import Browser, Fields, Served

ROW = {"prompt": "How do I boil an egg?", "answers": ["Ten minutes.", {"text": "Ask a hen."}]}
GOOD = {"payload": ROW, "value": {"choice": "a", "strength": 2}, "why": "It **helps**."}
BAD = {
    "no answers": {"payload": {"prompt": "Why?"}, "value": {"choice": "a"}},
    "beyond the scale": {"payload": ROW, "value": {"choice": "a", "strength": 9}},
    "another kind of answer": {"payload": ROW, "value": {"ranks": [0, 1]}},
    "nothing": {"payload": {}, "value": {}},
}
VALUES: dict[str, dict[str, Any]] = {
    "rank": {"ranks": [0, 1, 2]},
    "rate": {"ratings": {"helpful": 1, "honest": 2, "harmless": 3}},
    "thumbs": {"up": True},
    "write": {"text": "The Rhine."},
    "steps": {"labels": [1, 1]},
    "spans": {"spans": [{"start": 0, "end": 1, "label": "odd"}]},
    "clips": {"choice": "a"},
    "principles": {"vote": "agree"},
    "talk": {"turns": [{"role": "user", "content": "Hello."}], "verdicts": {"…": "kept"}},
    "compare": {"choice": "b"},
}


def page_of(server: Served, name: str = "tone") -> str:
    """What a rater sees."""
    person = server.person("Ada")
    server.store.project(name).enrol(person)
    answer = server.as_person(person).get(f"/projects/{name}/rate")
    assert answer.status_code == 200
    return answer.text


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_may_be_written_as_the_row_that_the_items_page_shows(server: Served, kind: str):
    row = json.loads(kind_of(kind).wording.row.splitlines()[0])
    labels = ["odd"] if kind == "spans" else []
    given = {"payload": row, "value": VALUES[kind]}
    project = server.project(kind=kind, items=0, span_labels=labels, examples=[given])
    number = itertools.count()
    text = re.sub("…", lambda _: str(next(number)), json.dumps(row, ensure_ascii=False))
    project.add_items([spelled_out(json.loads(text), kind)])
    page = page_of(server)
    assert "Example 1" in page
    assert "cannot be shown" not in page


@pytest.mark.parametrize("why", BAD)
def test_an_example_that_does_not_fit_is_refused_wherever_it_comes_from(
    server: Served, lead: Browser, why: str
):
    settings = {"kind": "compare", "examples": [GOOD, BAD[why]]}
    with pytest.raises(UserError, match=r"^example 2, (payload|value):"):
        server.store.create("tone", settings)
    project = server.project()
    with pytest.raises(UserError, match=r"^example 2, (payload|value):"):
        project.configure(settings)
    refused = lead.call("/api/v1/projects/tone/settings", settings, "PUT")
    assert refused.status_code == 422
    assert "example 2" in refused.json()["detail"]
    form = {"kind": "compare", "scale": "4", "example_rows": "2"}
    form |= {f"example-{n}-kept": json.dumps(one) for n, one in enumerate([GOOD, BAD[why]])}
    form |= {f"example-{n}-why": "Because." for n in range(2)}
    base = project.settings
    assert forms.read(form, base).errors["examples"].startswith("Example 2, ")
    lead.get("/projects/tone/settings")
    page = lead.send("/projects/tone/settings", form)
    assert page.status_code == 400
    assert "Example 2, " in page.text
    assert project.rubric_version == 1


def test_a_form_that_is_sent_back_keeps_its_examples(server: Served, lead: Browser):
    project = server.project(examples=[GOOD])
    sent = Fields(lead.get("/projects/tone/settings").text).found
    lead.send("/projects/tone/settings", {**sent, "rubric": "x"})
    assert project.settings.rubric == "x"
    assert project.settings.examples[0].payload["answers"][1]["text"] == "Ask a hen."


def test_a_program_sends_examples_as_they_are_written_in_json(server: Served, lead: Browser):
    project = server.project()
    sent = {"kind": "compare", "examples": [GOOD]}
    assert lead.call("/api/v1/projects/tone/settings", sent, "PUT").status_code == 200
    assert project.settings.examples[0].value["strength"] == 2


def test_raters_work_on_under_examples_that_were_stored_malformed(server: Served):
    """From before they were checked: what can be drawn is drawn, the rest is named."""
    project = server.project()
    kept = project.settings.model_dump(mode="json") | {"examples": [*BAD.values(), GOOD]}
    with server.store.database.write() as connection:
        connection.execute(update(Projects).values(settings=kept))
        connection.execute(update(Rubrics).values(settings=kept))
    server.store.database.cache.clear()
    page = page_of(server)
    assert page.count("It cannot be shown") == len(BAD)
    assert "<strong>helps</strong>" in page
    assert "A much better" in page


def test_an_address_that_is_none_does_not_break_the_page(server: Served):
    """Such as an item may hold that is older than the check of its address."""
    assert server.site.media.place("tone", {"url": "http://[x"})["url"] == ""
    assert server.site.media.place("tone", {"url": "/b.mp4"})["url"] == "/b.mp4"
