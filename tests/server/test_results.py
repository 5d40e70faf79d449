"""What comes out: figures, disputes, exports, the log, a trained model; and the API of programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server.served import Browser, Served, pairs


def judged(server: Served, people: int = 3, *, dissent: bool = True) -> None:
    """Answers to twelve items; with ``dissent`` each rater differs from the others on three."""
    project = server.project(items=12, raters_per_item=people, adjudicate_below=0.6)
    for number in range(people):
        person = server.person(f"Rater{number}")
        project.enrol(person)
        for turn in range(12):
            shown = project.next(person)[0]
            better = ("First", "Second")[(shown.item_id + (dissent and turn % 4 == number)) % 2]
            sides = [a["text"].startswith(better) for a in shown.payload["answers"]]
            choice = {"choice": "ab"[sides.index(True)], "strength": 2}
            project.answer(person, shown.item_id, choice, seconds=5.0 + number)


def test_the_figures_are_worked_out_beside_the_server_and_shown(server: Served, lead: Browser):
    judged(server)
    assert "Being worked out anew" in lead.get("/projects/tone/statistics").text
    wait_for_jobs(server)
    page = lead.get("/projects/tone/statistics").text
    assert "Krippendorff" in page
    assert page.count('aria-label="Prefers') == 6  # three raters; no answer has a list
    assert page.count('aria-label="Reliability') == 3
    assert "36 judgements" in page
    figures = lead.call("/api/v1/projects/tone/statistics").json()
    assert not figures["computing"]
    assert figures["figures"]["judgements"] == 36


def test_a_dynamic_overlap_learns_whom_to_trust_when_the_figures_are_made(
    server: Served, tmp_path: Path
):
    project = server.project(items=12, raters_per_item=3, overlap={"max_raters": 4})
    for number in range(3):
        project.enrol(person := server.person(f"Rater{number}"))
        for _ in range(12):
            (shown,) = project.next(person)
            first = [a["text"].startswith("First") for a in shown.payload["answers"]].index(True)
            side = first if number < 2 else 1 - first  # the third says the opposite of the two
            project.answer(person, shown.item_id, {"choice": "ab"[side]})
    assert [member.reliability for member in project.members()] == [None] * 3
    made, place = tmp_path / "tone.json", {"BACKFLIP_FEEDBACK": str(tmp_path / "feedback.sqlite")}
    command = [sys.executable, "-m", "backflip.server.work.figures", "tone", str(made)]
    subprocess.run(command, env={**os.environ, **place}, check=True)
    *agreeing, lonely = [member.reliability for member in project.members()]
    assert lonely < 0.5
    assert min(agreeing) > 0.75
    assert json.loads(made.read_text())["judgements"] == 36


def wait_for_jobs(server: Served) -> None:
    while any(not job.over for job in server.site.jobs.every()):
        time.sleep(0.1)


def test_disputes_are_listed_with_what_was_said(server: Served, lead: Browser):
    project = server.project(items=1, raters_per_item=2, adjudicate_below=0.9)
    for number, text in enumerate(("First answer 0", "Second answer 0")):
        person = server.person(f"Rater{number}")
        project.enrol(person)
        shown = project.next(person)[0]
        side = [a["text"] for a in shown.payload["answers"]].index(text)
        project.answer(person, shown.item_id, {"choice": "ab"[side], "strength": 1})
    page = lead.get("/projects/tone/adjudicate").text
    assert "A better" in page
    assert "B better" in page
    lead.get("/projects/tone/rate?queue=adjudicate")
    lead.get("/me")
    found = lead.call("/api/v1/projects/tone/next?queue=adjudicate").json()["items"]
    body = {"item": found[0]["item"], "value": {"choice": "a", "strength": 2}}
    lead.call("/api/v1/projects/tone/answers?queue=adjudicate", body)
    assert "Nothing to settle" in lead.get("/projects/tone/adjudicate").text


def test_exports_hold_every_answer_with_its_circumstances(server: Served, lead: Browser):
    judged(server, people=2)
    answer = lead.get("/projects/tone/download?format=answers&file=jsonl")
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert len(found) == 24
    assert {"person", "value", "order", "seconds", "rubric_version", "event"} <= set(found[0])
    assert "attachment" in answer.headers["content-disposition"]
    parquet = lead.get("/projects/tone/download?format=answers&file=parquet")
    assert parquet.content[:4] == b"PAR1"
    assert lead.get("/projects/tone/download?format=nonsense").status_code == 422
    account = lead.get("/projects/tone/download?format=soft&file=summary").json()
    assert account["answers"] == 24
    assert {"agreement", "reliabilities", "left_out", "said"} <= set(account)


def test_the_log_shows_what_happened_newest_first(server: Served, lead: Browser):
    judged(server, people=2)
    page = lead.get("/projects/tone/log").text
    assert page.index(">answer<") < page.index(">joined<")
    lines = lead.get("/projects/tone/log.jsonl").text.splitlines()
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == sorted(numbers)
    assert "rater0@example.org" not in lead.get("/projects/tone/log.jsonl").text


def test_the_lead_drops_an_item_and_asks_it_again(server: Served, lead: Browser):
    project = server.project(items=1)
    lead.get("/projects/tone/items/1")
    for state in ("dropped", "adjudicate", "open"):
        lead.send("/projects/tone/items/1", {"state": state})
        assert project.item(1).state == state
    assert lead.send("/projects/tone/items/1", {"state": "gone"}).status_code == 422
    assert lead.send("/projects/tone/items/99", {"state": "open"}).status_code == 404


# ---- the interface for programs


def test_the_description_lists_every_operation_and_needs_no_other_server(lead: Browser):
    described = lead.client.get("/api/v1/openapi.json").json()
    assert "/api/v1/projects/{name}/answers" in described["paths"]
    assert "next" in lead.get("/api").text
    assert lead.get("/docs").status_code == 404


def test_a_program_runs_a_project_from_beginning_to_end(server: Served, lead: Browser):
    lead.get("/me")
    api = "/api/v1/projects"
    settings = {"kind": "compare", "raters_per_item": 1, "gold_share": 0.0}
    assert lead.call(api, {"name": "bot", "settings": settings}).status_code == 201
    items = [{"payload": payload} for payload in pairs(3)]
    added = lead.call(f"{api}/bot/items", {"items": items}).json()
    assert added["count"] == 3
    item = lead.call(f"{api}/bot/next").json()["items"][0]["item"]
    sent = {"item": item, "value": {"choice": "tie"}, "seconds": 2.5}
    assert lead.call(f"{api}/bot/answers", sent).status_code == 200
    assert lead.call(f"{api}/bot/progress").json()["answers"] == 1
    (kept,) = lead.call(f"{api}/bot/answers").json()
    assert kept["value"]["choice"] == "tie"
    drop = {"items": [kept["item"]], "state": "dropped"}
    assert lead.call(f"{api}/bot/items", drop, "PATCH").json() == {"changed": 1}
    wanted = {"priorities": {str(kept["item"]): 3.0}, "origin": "active"}
    assert lead.call(f"{api}/bot/priorities", wanted, "PUT").status_code == 200


def test_the_server_says_that_it_is_well(server: Served):
    assert server.browser().get("/healthz").json() == {"ok": True}


# ---- training


@pytest.mark.slow
def test_one_click_trains_a_reward_model_and_shows_its_report(server: Served, lead: Browser):
    """The button's own command, on a tiny model: the log, the report, and the model's folder."""
    from tests.recipes.tiny import tiny_model

    judged(server, people=3, dissent=False)
    model = tiny_model(server.folder / "tiny")
    lead.get("/projects/tone/export")
    page = lead.send("/projects/tone/train", {"model": str(model), "steps": "2"})
    assert "backflip train reward_model data=feedback:tone" in page.text
    wait_for_jobs(server)
    (job,) = server.site.jobs.of("tone")
    log = server.site.jobs.log(job)
    assert job.state == "done", log
    page = lead.get(f"/projects/tone/jobs/{job.id}")
    assert "Open the report" in page.text
    report = lead.get(f"/projects/tone/jobs/{job.id}/report")
    assert "sandbox" in report.headers["content-security-policy"]
    assert "Reward model" in report.text


@pytest.mark.parametrize("model", ["--help", "x y", "a=b", "$(id)", ""])
def test_a_models_name_is_no_option_and_no_command(server: Served, lead: Browser, model: str):
    from backflip.server.work.training import MODEL

    assert not MODEL.fullmatch(model)
    judged(server, people=2)
    lead.get("/projects/tone/export")
    if model:
        page = lead.send("/projects/tone/train", {"model": model})
        assert "is no name or folder" in page.text
    assert server.site.jobs.of("tone") == []
