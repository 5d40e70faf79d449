"""The statistics of every kind, of raters who differ: worked out, drawn, and said in its words."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backflip.feedback.exchange.exports import export
from backflip.feedback.statistics.judgements import Judgements
from backflip.server.work import figures, plots, refreshing
from tests.feedback.answered import answer_all, ask, project_of
from tests.server.served import Browser, Served, pairs, png

COUNT = 12
ATTRIBUTES = [{"name": "helpful", "low": 1, "high": 7}, {"name": "kind", "low": 1, "high": 7}]


def _single(n: int) -> dict[str, Any]:
    return {"prompt": ask(f"question {n}?"), "answer": {"text": f"Answer number {n}."}}


Item = Callable[[int], dict[str, Any]]
Said = Callable[[bool, int], dict[str, Any]]
KINDS: dict[str, tuple[Item, Said, dict[str, Any], list[str]]] = {
    "compare": (
        lambda n: pairs(n + 1)[n],
        lambda odd, n: {"choice": "ab"[odd or n % 2], "strength": 1},
        {"scale": 4},
        ["on the better answer", "A 1", "B 1", "Dawid and Skene", "Noisy Bradley-Terry"],
    ),
    "clips": (
        lambda n: {"clips": [{"file": f"a{n}.png", "media": "image"},
                             {"file": f"b{n}.png", "media": "image"}]},
        lambda odd, n: {"choice": "ab"[odd or n % 2], "strength": 1},
        {},
        ["on the better clip", "A 1", "B 1", "Reliability and drift"],
    ),
    "rank": (
        lambda n: {"prompt": ask(f"q{n}?"), "answers": [{"text": f"{t} {n}"} for t in "xyz"]},
        lambda odd, n: {"ranks": [2, 1, 0] if odd else [0, 1, 2 if n % 2 else 1]},
        {},
        ["A against C", "pairs of answers with two raters", "A 1", "C 1", "Reliability and drift"],
    ),
    "rate": (
        _single,
        lambda odd, n: {"ratings": {"helpful": 2 + n % 5 + odd, "kind": 7 - n % 3 - 4 * odd}},
        {"attributes": ATTRIBUTES},
        ["on the mark for “helpful”", "square of their size", "weighted", "Drift in a week"],
    ),
    "thumbs": (
        _single,
        lambda odd, n: {"up": bool(n % 3) ^ (odd and n % 2 == 0)},
        {},
        ["on good or bad", "good 1", "bad 1", "GLAD"],
    ),
    "write": (
        lambda n: {"prompt": ask(f"write {n}")},
        lambda odd, n: {"text": f"text {n} {odd}"},
        {},
        ["Two texts neither agree nor disagree", "Texts", "Sittings"],
    ),
    "steps": (
        lambda n: {"prompt": ask(f"{n} + {n}"), "steps": ["first", "then", "done"]},
        lambda odd, n: {"labels": [1, -1 if odd else 1, 0 if n % 2 else 1]},
        {},
        ["on each step", "step 2", "good 1", "bad 1", "Reliability and drift"],
    ),
    "spans": (
        _single,
        lambda odd, n: {"spans": [{"start": 0, "end": 3, "label": "rude"}] if odd else []},
        {"span_labels": ("rude", "false")},
        ["on whether a label is used", "rude", "not marked 1", "marked 1", "Reliability"],
    ),
    "principles": (
        lambda n: {"principle": f"Be {n} times kinder."},
        lambda odd, n: {"vote": "disagree" if odd and n % 2 else "agree"},
        {},
        ["on the vote", "agree 1", "disagree 1", "Reliability and drift"],
    ),
    "talk": (
        lambda n: {"opening": ask(f"hi {n}"), "policies": ["m"], "rules": ["be: brief", "be kind"]},
        lambda odd, n: {
            "turns": [{"role": "user", "content": "Hi"},
                      {"role": "assistant", "content": "Yes", "candidates": ["Yes"], "picked": 0}],
            "verdicts": {"be: brief": "broken" if odd else "kept", "be kind": "kept"},
        },
        {},
        ["be: brief", "broken 1", "kept 1", "rules of talks", "Reliability and drift"],
    ),
}  # fmt: skip
"""For each kind an item by number, what the even and the odd rater say of it, settings, words."""


def filled(server: Served, kind: str) -> Any:
    """A project whose two raters differ."""
    item, said, settings, _ = KINDS[kind]
    project, people = project_of(
        server.store, kind, [item(n) for n in range(COUNT)], raters=2, **settings
    )
    known = {json.dumps(row.payload): n for n, row in enumerate(project.items(limit=COUNT))}

    def answer(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        return said(bool(rater), known[json.dumps(payload)])

    answer_all(project, people, answer)
    return project


def worked_out(server: Served, project: Any) -> dict[str, Any]:
    made = figures.of_project(project, resamples=50)
    figures.write(server.site.figures(project.name), made)
    return json.loads(server.site.figures(project.name).read_text())


def text_of(page: str) -> str:
    """What a reader sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.mark.parametrize("kind", KINDS)
def test_two_raters_who_differ_have_statistics_in_the_words_of_their_kind(
    server: Served, lead: Browser, kind: str
):
    project = filled(server, kind)
    worked_out(server, project)
    answer = lead.get("/projects/tone/statistics")
    assert answer.status_code == 200
    seen = text_of(answer.text)
    for word in KINDS[kind][3]:
        assert word in seen, (word, seen)
    if kind not in ("compare", "clips", "rank"):
        assert "better answer" not in seen
        assert "Prefers longer" not in seen
    if kind == "clips":
        for side in "ab":
            server.site.media.folder.joinpath("tone").mkdir(parents=True, exist_ok=True)
            server.site.media.folder.joinpath("tone", f"{side}0.png").write_bytes(png())
    number = project.items(limit=1)[0].id
    assert lead.get(f"/projects/tone/items/{number}").status_code == 200


def test_the_page_and_an_export_have_the_same_agreement_for_every_attribute(
    server: Served, lead: Browser, tmp_path: Any
):
    project = filled(server, "rate")
    made = worked_out(server, project)
    summary = json.loads(export(project, "answers", tmp_path / "x.jsonl").summary.read_text())
    for name in ("helpful", "kind"):
        shown, exported = made["attributes"][name], summary["agreement"][name]
        assert shown["agreement"]["metric"] == exported["metric"] == "interval"
        for coefficient in ("percent", "alpha", "fleiss", "gwet"):
            here, there = shown["agreement"][coefficient], exported[coefficient]
            assert (here and here["estimate"]) == (there and there["estimate"])
        assert shown["whom"]["light"] == exported["light"]
    page = text_of(lead.get("/projects/tone/statistics?attribute=kind").text)
    assert "on the mark for “kind”" in page
    alpha = made["attributes"]["kind"]["agreement"]["alpha"]["estimate"]
    assert f"{alpha:.2f}".replace("-", "−") in page
    assert made["attributes"]["kind"]["agreement"] != made["attributes"]["helpful"]["agreement"]


def three_raters(server: Served) -> Any:
    """Two agree, the third says the opposite of them on every third item."""
    project = server.project(items=30, raters_per_item=3)
    people = [server.person(f"Rater{n}") for n in range(3)]
    for person in people:
        project.enrol(person)

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        number = int(payload["prompt"][0]["content"].split()[1])
        right = number % 2
        return {"choice": "ab"[right ^ (rater == 2 and number % 3 == 0)], "strength": 1}

    answer_all(project, people, said)
    return project


def test_reliabilities_are_those_of_an_export_and_the_heat_table_says_who_agrees(
    server: Served, lead: Browser, tmp_path: Any
):
    project = three_raters(server)
    made = worked_out(server, project)
    summary = json.loads(export(project, "soft", tmp_path / "x.jsonl").summary.read_text())
    exported = {one["rater"]: one for one in summary["reliabilities"]}
    for rater in made["raters"]:
        there = exported[rater["name"]]
        assert rater["reliability"]["estimate"] == there["reliability"]
        assert rater["reliability"]["low"] == there["low"]
        assert (rater["glad"], rater["bradley_terry"]) == (there["glad"], there["bradley_terry"])
    same = {round(cell["same"], 3) for row in made["whom"]["rows"] for cell in row if cell}
    assert same == {1.0, round(20 / 30, 3)}
    page = lead.get("/projects/tone/statistics").text
    assert page.count('class="h10"') == 2
    assert page.count('class="h6"') == 4
    seen = text_of(page)
    for words in ("Who agrees with whom", "Drift in a week", "Weighted vote", "Majority"):
        assert words in seen


def test_an_items_posterior_is_the_one_that_the_fit_found(server: Served, lead: Browser):
    """One E step with the habits that EM ended with gives EM's own posterior."""
    from backflip.feedback.statistics.consensus import Consensus
    from backflip.server.work.labelling import labels

    project = three_raters(server)
    made, consensus = worked_out(server, project), Consensus(project.judgements())
    for row in project.items(limit=30):
        given = list(project.answers(items=[row.id]))
        (one,) = labels(given, project.settings, made)
        verdict = consensus.of(str(row.id))
        assert verdict is not None
        word, p = one["chances"][0]
        assert word == {1.0: "A", -1.0: "B"}[verdict.value]
        assert p == pytest.approx(verdict.posterior, abs=2e-3)
    page = text_of(lead.get(f"/projects/tone/items/{project.items(limit=1)[0].id}").text)
    assert "Chance that it is the right label" in page


def test_a_drift_that_a_short_time_cannot_tell_is_not_told():
    assert plots.slope(None, "an hour") == ""
    wide = {"estimate": 40.0, "low": -90.0, "high": 170.0}
    assert plots.slope(wide, "an hour") == plots.drift(wide) == "too short a time to tell"
    falls = {"estimate": -0.1, "low": -0.18, "high": -0.02}
    assert plots.slope(falls, "a week") == "−10.0 (−18.0 to −2.0) points a week"
    assert plots.drift(falls) == "−10.0 (−18.0 to −2.0)"


def test_an_answer_that_took_far_too_long_counts_once_however_many_parts_it_has():
    """Two raters, 40 answers of three parts each; one came after an hour."""
    rng = np.random.default_rng(0)
    answer = np.repeat(np.arange(80), 3)
    seconds = 20 * np.exp(rng.normal(0, 0.3, 80))
    seconds[7] = 3600.0
    said = Judgements.of(
        np.tile(np.arange(120), 2),
        answer // 40,
        rng.choice([-1.0, 1.0], 240),
        seconds=seconds[answer],
        at=1000.0 * answer,
    )
    first, second = sorted(figures.figures(said, resamples=10)["raters"], key=lambda r: r["name"])
    assert (first["slow"], second["slow"]) == (1, 0)
    assert (first["fast"], second["fast"]) == (0, 0)


def test_calibration_is_shown_with_its_share_of_the_answers(server: Served, lead: Browser):
    project = server.project(items=2, calibration=True, raters_per_item=1)
    assert "Calibration" not in text_of(lead.get("/projects/tone").text)
    payload = pairs(3)[2]
    project.add_items([payload], gold=[{"choice": "a"}], purpose="calibration")
    project.enrol(person := server.person("Rater"))
    for _ in range(2):
        (shown,) = project.next(person)
        project.answer(person, shown.item_id, {"choice": "a"})
    seen = text_of(lead.get("/projects/tone").text)
    assert "Calibration 50 % of the answers; 20 to 30 % of the budget is usual" in seen


def test_an_overlap_learns_in_passing_and_other_projects_do_not(
    server: Served, monkeypatch: pytest.MonkeyPatch
):
    asked = list[str]()
    monkeypatch.setattr(refreshing, "refresh", lambda site, here, made: asked.append(here.name))
    monkeypatch.setattr(refreshing, "threading", SimpleNamespace(Thread=_AtOnce))
    clock = [0.0]
    monkeypatch.setattr(refreshing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for name, more in (("plain", {}), ("sure", {"overlap": {"max_raters": 4}})):
        project = server.project(name, items=4, **more)
        browser = server.rater(project, f"Rater-{name}")
        for minutes in (0, 1, 11, 12):
            clock[0] = 60.0 * minutes
            (item,) = browser.call(f"/api/v1/projects/{name}/next").json()["items"]
            sent = {"item": item["item"], "value": {"choice": "a"}}
            assert browser.call(f"/api/v1/projects/{name}/answers", sent).status_code == 200
    assert asked == ["sure"]


class _AtOnce:
    """A thread that does its work where it is started."""

    def __init__(self, target: Callable[[], Any], **more: Any) -> None:
        self.start = target
