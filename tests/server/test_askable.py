"""What an import refuses because nobody could answer it here, and what it never tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from backflip.server.base.places import without_places
from tests.server.served import Browser, Served, png


def clips(*names: str, **more: Any) -> dict[str, Any]:
    return {"clips": [{"file": name, "media": "image", **more} for name in names]}


def posted(lead: Browser, rows: list[dict[str, Any]], name: str = "rows.jsonl", **form: Any) -> Any:
    data = "\n".join(map(json.dumps, rows)).encode()
    return lead.send("/projects/tone/import", form, files={"file": (name, data)})


def token(server: Served) -> dict[str, str]:
    person = server.person("Robot", admin=True)
    return {"Authorization": f"Bearer {server.store.people.token(person, 't', ['write', 'read'])}"}


def received(server: Served, rows: list[dict[str, Any]], name: str, *, strict: bool) -> Any:
    data = "\n".join(map(json.dumps, rows)).encode()
    return server.browser().client.post(
        f"/api/v1/projects/tone/import?strict={str(strict).lower()}",
        files={"file": (name, data)},
        headers=token(server),
    )


@pytest.fixture
def walk(server: Served) -> Served:
    server.project(kind="clips", items=0)
    folder = server.site.media.root("tone")
    folder.mkdir(parents=True)
    for name in ("a.png", "散歩.png", "مشية.png"):
        (folder / name).write_bytes(png())
    (folder / "empty").mkdir()
    return server


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (clips("a.png", "no-such.png"), "there is no clip 'no-such.png'"),
        (clips("a.png", "../../feedback.sqlite"), "points outside the clips"),
        (clips("a.png", "/etc/passwd"), "points outside the clips"),
        (clips("a.png", "empty", media="frames"), "has no frames"),
        ({"clips": [{"url": "/media/tone/no.png"}, {"file": "a.png"}]}, "there is no clip"),
    ],
)
def test_items_whose_clips_raters_would_not_see_are_refused(
    row: dict[str, Any], said: str, walk: Served, lead: Browser
):
    page = posted(lead, [row])
    assert page.status_code == 400
    assert said.replace("'", "&#39;") in page.text
    answer = received(walk, [clips("a.png", "散歩.png"), row], "行.jsonl", strict=False)
    assert answer.status_code == 201
    assert answer.json()["count"] == 1
    (line,) = answer.json()["refused"]
    assert said in line
    assert line.endswith("(line 2)")
    one = {"items": [{"payload": {"kind": "clips", **row}}], "strict": True}
    direct = walk.browser().client.post(
        "/api/v1/projects/tone/items", json=one, headers={"Authorization": token_of(walk)}
    )
    assert direct.status_code == 422
    assert said in direct.json()["detail"]


def token_of(server: Served) -> str:
    person = server.store.people.add(name="Other", email="o@example.org", admin=True).id
    return f"Bearer {server.store.people.token(person, 't', ['write'])}"


def test_clips_of_any_script_are_found_however_their_letters_are_composed(
    walk: Served, lead: Browser
):
    assert posted(lead, [clips("散歩.png", "مشية.png")]).status_code == 200
    assert len(walk.store.project("tone").items()) == 1


def test_an_item_of_an_unknown_policy_is_refused(server: Served, lead: Browser):
    server.project(kind="talk", items=0)
    page = posted(lead, [{"policies": ["gone"]}])
    assert page.status_code == 400
    assert "knows no policy" in page.text
    server.site.talkers.places["策略"] = "http://localhost:1"
    assert posted(lead, [{"policies": ["策略"]}]).status_code == 200
    assert len(server.store.project("tone").items()) == 1


@pytest.mark.parametrize("name", ["mine.jsonl", "C:\\Users\\me\\mine.jsonl", "/home/me/mine.jsonl"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_cut_line_is_named_by_the_senders_file(name: str, strict: bool, server: Served):
    server.project(items=0)
    data = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p2", "chosen": "a\n'
    answer = server.browser().client.post(
        f"/api/v1/projects/tone/import?strict={str(strict).lower()}",
        files={"file": (name, data)},
        headers=token(server),
    )
    assert "/tmp" not in answer.text
    assert "upload" not in answer.text
    if strict:
        assert answer.json()["detail"].startswith("mine.jsonl:2: malformed line")
    else:
        assert answer.json()["refused"] == ["mine.jsonl: 1 × malformed line (line 2)"]


def test_a_job_shows_no_place_on_the_disk_to_a_lead(server: Served, tmp_path: Path):
    project = server.project()
    person = server.person("Lea")
    project.enrol(person, role="lead")
    run = server.site.folder / "runs" / "tone-1"
    words = ["/bin/echo", f"saved in {run}/model", "and http://example.org/a/b"]
    job = server.site.jobs.start("tone", "Reward model", words, str(run))
    while not server.site.jobs.find("tone", job.id).over:
        pass
    browser = server.as_person(person)
    told = browser.client.get(f"/api/v1/projects/tone/jobs/{job.id}").text
    page = browser.get(f"/projects/tone/jobs/{job.id}").text
    for text in (told, page):
        assert str(tmp_path) not in text
        assert "/model and http://example.org/a/b" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/srv/My Data/x/y.csv is odd", "…/y.csv is odd"),
        ("run=/home/a/b/c", "run=…/c"),
        ("at sqlite:////srv/a/f.sqlite", "at sqlite:…"),
        ("see https://a.org/b/c and/or 1/2", "see https://a.org/b/c and/or 1/2"),
        ("POST /api", "POST /api"),
    ],
)
def test_a_text_loses_folders_and_keeps_the_rest(text: str, told: str):
    assert without_places(text, [Path("/srv/My Data/x")]) == told


def test_a_project_of_any_script_has_pages_files_and_a_download(server: Served, lead: Browser):
    name = "语气-🎭"
    made = lead.send("/projects/new", {"name": name, "kind": "compare", "title": "语气"})
    assert made.status_code == 200
    assert str(made.url).isascii()
    row = {"id": 1, "prompt": "p", "response_1": "a", "response_2": "b"}
    said = {"q.responses": ["response_1"], "q.responses.users": ["张"]}
    data = json.dumps(row | said).encode()
    lead.get(f"/projects/{name}/items")
    page = lead.send(f"/projects/{name}/import", files={"file": ("数据.jsonl", data)})
    assert "answers taken over: 1" in page.text
    for rest in ("", "/items", "/people", "/statistics", "/export", "/settings", "/log"):
        assert lead.get(f"/projects/{name}{rest}").status_code == 200
    sent = lead.get(f"/projects/{name}/download?format=answers")
    assert sent.status_code == 200, sent.text
    log = lead.get(f"/projects/{name}/log.jsonl")
    assert log.status_code == 200
    for answer in (sent, log):
        told = answer.headers["Content-Disposition"].lower().partition("filename*=utf-8''")[2]
        assert unquote(told).startswith(name)
