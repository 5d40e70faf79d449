"""A small life of a project on PostgreSQL: every page and call that writes, and those that read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backflip.feedback.projects.store import open_store
from tests.feedback import postgres
from tests.feedback.postgres import Cluster
from tests.parts import need
from tests.server.served import PASSWORD, Browser, Served, served
from tests.server.test_pages import rows, send_file
from tests.server.test_results import wait_for_jobs

API = "/api/v1/projects/tone"
ITEMS = 6
FORM = {
    "kind": "compare", "title": "Tone", "scale": "4", "raters_per_item": "2", "gold_share": "0",
    "adjudicate_below": "90",
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    need(postgres.missing())
    with postgres.cluster() as made:
        yield made


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[Served]:
    made = served(tmp_path, cluster.create())
    yield made
    made.site.jobs.close()
    made.store.close()


def join(server: Served, link: str, name: str) -> Browser:
    """Somebody who comes by a link, with a name, an address and a password."""
    guest = server.browser()
    guest.get(link)
    form = {"name": name, "email": f"{name.lower()}@example.org", "password": PASSWORD}
    assert guest.send(link, form).url.path == "/projects/tone/rate"
    guest.get("/me")
    return guest


def judge(rater: Browser, wrong: str = "") -> int:
    """Answer everything, "Yes" before "No" but for one question; how many answers were told."""
    told, shown = set[int](), rater.call(f"{API}/next").json()["items"]
    while shown:
        texts = [answer["text"] for answer in shown[0]["payload"]["answers"]]
        side = texts.index(next(text for text in texts if text.startswith("Yes")))
        if wrong and shown[0]["payload"]["prompt"][0]["content"] == wrong:
            side = 1 - side
        value = {"choice": "ab"[side], "strength": 2}
        said = rater.call(
            f"{API}/answers", {"item": shown[0]["item"], "value": value, "seconds": 3}
        )
        assert said.status_code == 200, said.text
        told.add(said.json()["answer"])
        shown = said.json()["items"]
    return len(told)


def test_a_project_lives_on_postgresql_from_its_form_to_its_export(server: Served, lead: Browser):
    assert lead.send("/projects/new", FORM).url.path == "/projects/tone"
    assert f"{ITEMS} items were imported" in send_file(lead, "rows.jsonl", rows(ITEMS)).text
    lead.get("/projects/tone/people")
    page = lead.send("/projects/tone/invitations", {"role": "rater", "uses": "2", "days": "1"})
    link = page.text.split('id="link" value="http://127.0.0.1')[1].split('"')[0]
    bea, bob = (join(server, link, name) for name in ("Bea", "Bob"))
    first = bea.call(f"{API}/next").json()["items"][0]
    sent = {"item": first["item"], "value": {"choice": "a", "strength": 1}}
    assert bea.call(f"{API}/answers", sent).status_code == 200
    assert bea.call(f"{API}/undo", {}).json()["items"][0]["payload"] == first["payload"]
    flag, note = {"item": first["item"], "reason": "odd"}, {"item": first["item"], "text": "x\x00y"}
    assert bea.call(f"{API}/flags", flag).status_code == 200
    assert bea.call(f"{API}/notes", note).status_code == 200
    assert judge(bea) == judge(bob, wrong="Question 3?") == ITEMS
    settle(lead)
    see(server, lead)


def settle(lead: Browser) -> None:
    """The one dispute, by the lead as adjudicator."""
    assert "Question 3?" in lead.get("/projects/tone/adjudicate").text
    lead.get("/me")
    (shown,) = lead.call(f"{API}/next?queue=adjudicate").json()["items"]
    sent = {"item": shown["item"], "value": {"choice": "a", "strength": 1}}
    assert lead.call(f"{API}/answers?queue=adjudicate", sent).status_code == 200
    assert "Nothing to settle" in lead.get("/projects/tone/adjudicate").text


def see(server: Served, lead: Browser) -> None:
    """Figures by a process of their own, an export, the log, every page of the lead's."""
    lead.get("/projects/tone/statistics")
    wait_for_jobs(server)
    assert "Krippendorff" in lead.get("/projects/tone/statistics").text
    lines = lead.get("/projects/tone/download?format=preference&file=jsonl").text.splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == ITEMS
    right = [row["chosen"][0]["content"].startswith("Yes") for row in found]
    assert sum(right) >= ITEMS - 1  # the adjudicator may have settled one the other way
    numbers = [
        json.loads(line)["number"]
        for line in lead.get("/projects/tone/log.jsonl").text.splitlines()
    ]
    assert numbers == sorted(numbers)
    for path in ("", "/items", "/people", "/settings", "/export", "/log", "/rate"):
        assert lead.get(f"/projects/tone{path}").status_code == 200, path


def test_two_servers_on_one_database_see_the_same(server: Served, tmp_path: Path):
    server.project(items=4, raters_per_item=1)
    person = server.person("Ada")
    server.store.project("tone").enrol(person)
    place = server.store.database.url.render_as_string(hide_password=False)
    other = served(tmp_path / "other", place)
    here, there = server.as_person(person), other.as_person(person)
    for browser in (here, there, here, there):
        browser.get("/me")
        (shown,) = browser.call(f"{API}/next").json()["items"]
        sent = {"item": shown["item"], "value": {"choice": "a", "strength": 1}}
        assert browser.call(f"{API}/answers", sent).status_code == 200
    assert other.store.project("tone").overview().done == 4
    assert there.call(f"{API}/undo", {}).status_code == 200
    assert server.store.project("tone").overview().done == 3
    other.store.close()


def test_a_person_is_erased_from_postgresql(server: Served):
    project = server.project("letters", kind="write", items=0, raters_per_item=1)
    project.add_items([{"prompt": [{"role": "user", "content": "Write."}]}])
    person = server.person("Ada")
    project.enrol(person)
    browser = server.as_person(person)
    browser.get("/me")
    api = "/api/v1/projects/letters"
    (shown,) = browser.call(f"{api}/next").json()["items"]
    sent = {"item": shown["item"], "value": {"text": "my own words"}}
    assert browser.call(f"{api}/answers", sent).status_code == 200
    server.store.erase(person, texts=True)
    assert browser.call(f"{api}/next").status_code == 401
    assert "my own words" not in "\n".join(server.store.export_log())
    assert (project.overview().done, project.items()[0].state) == (0, "open")
    again = open_store(server.store.database.url.render_as_string(hide_password=False))
    assert again.people.get(person).erased
    again.close()
