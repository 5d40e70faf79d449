"""First screens of a lead and a rater: what is on them, and that they fit a desk and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backflip.server.work import glance
from tests.feedback.answered import answer_all, project_of
from tests.server.chrome import chromium, visitor
from tests.server.served import Browser, Served, pairs, running
from tests.server.test_accessible import Eyes, faults
from tests.server.test_figures import text_of, worked_out

SIZES = {"desk": (1280, 800), "phone": (360, 740)}
RATERS, ITEMS, GOLD = 5, 40, 8


def judged(server: Served) -> Any:
    """Raters of whom the fifth tosses a coin in a second; the fourth fails gold."""
    project, people = project_of(
        server.store, "compare", pairs(ITEMS), raters=RATERS, gold_share=0.3, gold_pause=0.0
    )
    gold = [{**one, "prompt": [{"role": "user", "content": f"Known {n}"}]}
            for n, one in enumerate(pairs(GOLD))]  # fmt: skip
    project.add_items(gold, gold=[{"choice": "a"}] * GOLD, purpose="gold")
    rng = np.random.default_rng(3)

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        text = payload["prompt"][0]["content"]
        right = "a" if text.startswith("Known") or int(text.split()[1]) % 2 else "b"
        if rater == 4 or (rater == 3 and text.startswith("Known")):
            wrong = "b" if right == "a" else "a"
            return {"choice": wrong if rater == 3 else str(rng.choice(["a", "b"]))}
        return {"choice": right}

    answer_all(project, people, said)
    return project


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eyes]:
    from tests.server.served import served

    made = served(tmp_path_factory.mktemp("first"))
    worked_out(made, judged(made))
    with running(made) as base, chromium() as browser:
        yield Eyes(made, base, browser, made.person("Ada", admin=True))
    made.site.jobs.close()
    made.store.close()


@pytest.mark.parametrize("size", SIZES)
def test_first_screens_fit_and_can_be_used_by_everybody(eyes: Eyes, size: str):
    from backflip.server.pages.account import door

    wide, high = SIZES[size]
    rater = eyes.made.store.project("tone").members()[0].person
    pages = {eyes.lead: ("", "/statistics", "/asking", "/export", "/settings"), rater: ("/mine",)}
    for person, tabs in pages.items():
        page = visitor(eyes.browser, [], viewport={"width": wide, "height": high})
        page.goto(f"{eyes.base}{door(eyes.made.site, person)}")
        for tab in tabs:
            page.goto(f"{eyes.base}/projects/tone{tab}")
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth") <= wide, tab
            if size == "desk" and tab in ("", "/statistics"):
                assert page.evaluate(f"{root}.scrollHeight") <= high, tab
            page.evaluate(
                "document.querySelectorAll('main details').forEach(d => { d.open = true })"
            )
            assert faults(page) == [], tab
            assert page.evaluate(f"{root}.scrollWidth") <= wide, f"{tab}, opened"
        page.context.close()


def test_statistics_open_with_who_and_what_and_hold_the_rest_behind(eyes: Eyes):
    browser = eyes.made.as_person(eyes.lead)
    page = browser.get("/projects/tone/statistics").text
    first = text_of(page[: page.index('id="every"')])
    alpha = worked_out(eyes.made, eyes.made.store.project("tone"))["agreement"]["alpha"]
    assert f"α {alpha['estimate']:.2f}" in first
    assert f"{alpha['low']:.2f} to {alpha['high']:.2f}" in first
    assert f"On {ITEMS + GOLD} items with two raters or more" in first
    fourth, fifth = (eyes.made.store.project("tone").members()[n].pseudonym for n in (3, 4))
    assert f"{fourth} 0 of 8 gold answers right" in first
    assert fifth in first
    assert "agrees with others" in first
    assert first.count("×") >= 2
    assert '<details class="more every" id="every" >' in page
    assert "Reliability and drift" in text_of(page[page.index('id="every"') :])
    assert 'id="every" open' in browser.get("/projects/tone/statistics?every=yes").text


def counted(estimate: float, low: float, high: float, items: int = 100) -> dict[str, Any]:
    return {"items": items, "alpha": {"estimate": estimate, "low": low, "high": high}}


@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        (None, "Nobody has given a verdict"),
        ({"items": 0, "alpha": None}, "no two raters"),
        ({"items": 40, "alpha": None}, "answers that differ"),
        (counted(0.9, 0.85, 0.95, items=29), "Too few to tell: 29 items"),
        (counted(0.9, 0.85, 0.95), "High"),
        (counted(0.75, 0.70, 0.80), "Enough for tentative"),
        (counted(0.65, 0.55, 0.75), "the interval holds 0.667"),
        (counted(0.40, 0.30, 0.50), "Beyond chance, but below"),
        (counted(0.10, -0.10, 0.30), "Not beyond chance"),
        (counted(-0.30, -0.40, -0.20), "below 0"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(agreement: Any, said: str):
    assert said in glance.verdict("compare", agreement)


def test_an_overview_begins_with_what_to_do_and_has_no_strategies(server: Served, lead: Browser):
    lead.send("/projects/new", {"kind": "compare", "title": "First", "scale": "4"})
    project = server.store.project("first")

    def page() -> str:
        return lead.get("/projects/first").text

    assert [s in page() for s in ("Write a rubric", "Import items", "Invite raters")] == [True] * 3
    assert "Information gain" not in page()
    assert "Information gain" in lead.get("/projects/first/asking").text
    project.add_items(pairs(2))
    project.invite(role="rater")
    assert "Import items" not in page()
    assert "Invite raters; 1 link waits to be opened" in page()
    assert "Judge an item or two yourself" in page()
    people = [server.person(name) for name in ("Alan", "Kurt")]
    for number, person in enumerate(people):
        project.enrol(person)
        for _ in range(2):
            (shown,) = project.next(person)
            first = [a["text"].startswith("First") for a in shown.payload["answers"]].index(True)
            project.answer(person, shown.item_id, {"choice": "ab"[(first + number) % 2]})
    assert "Settle 2 items on which raters are split" in page()
    senior = server.person("Grace")
    project.enrol(senior, role="adjudicator")
    for _ in range(2):
        (shown,) = project.next(senior, queue="adjudicate")
        project.answer(senior, shown.item_id, {"choice": "a"}, queue="adjudicate")
    assert "All items are done: take the answers out" in page()
