"""Every kind of task through HTTP, as programs have it: project, items, answers, export."""

from __future__ import annotations

import json

import pytest

from backflip.feedback.exchange.exports import offered
from backflip.feedback.kinds.registry import KINDS, kind_of
from tests.feedback.test_kinds import ANSWERS, MORE
from tests.server.served import Browser, Served, png

TEXT = '{"text": "…"}'


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_goes_from_the_first_setting_to_the_export(server: Served, lead: Browser, kind: str):
    at = f"/api/v1/projects/{kind}-p"
    settings = {"kind": kind, "raters_per_item": 1, "gold_share": 0.0, **MORE.get(kind, {})}
    made = lead.call("/api/v1/projects", {"name": f"{kind}-p", "settings": settings})
    assert made.json() == {"name": f"{kind}-p", "title": "", "kind": kind}
    row = kind_of(kind).wording.row.splitlines()[0]
    for n in range(row.count(TEXT)):
        row = row.replace(TEXT, f'{{"text": "answer {n}"}}', 1)
    if kind_of(kind).files:
        row = row.replace("mp4", "png").replace("video", "image")
        _keep(server, f"{kind}-p")
    if kind_of(kind).live:
        row = row.replace('"first", "second"', '"loud"')
        server.site.talkers.places["loud"] = "http://127.0.0.1:9"
    _import(lead, at, row)

    rater = server.rater(server.store.project(f"{kind}-p"), "Alan")
    (item,) = rater.call(f"{at}/next").json()["items"]
    assert "source" not in json.dumps(item)
    given = {"item": item["item"], "value": ANSWERS[kind], "seconds": 3.0}
    receipt = rater.call(f"{at}/answers", given)
    assert receipt.status_code == 200, receipt.text
    assert rater.call(f"{at}/next").json()["items"] == []

    (answer,) = lead.call(f"{at}/answers").json()
    assert ANSWERS[kind].items() <= _as_displayed(kind, answer).items() or kind_of(kind).live
    (exported,) = (json.loads(line) for line in _export(lead, at, "answers").splitlines())
    assert exported["value"] == answer["value"]
    (label,) = (json.loads(line) for line in _export(lead, at, "labels").splitlines())
    assert label["kind"] == kind
    for format in {one.name for one in offered(kind)} - {"answers", "labels"}:
        status = lead.get(f"{at}/export?format={format}").status_code
        assert status in (200, 422)  # 422: one answer may be nothing to learn from


def _keep(server: Served, project: str) -> None:
    folder = server.site.media.root(project)
    folder.mkdir(parents=True)
    for name in ("walk-1.png", "walk-2.png"):
        (folder / name).write_bytes(png())


def _import(lead: Browser, at: str, row: str) -> None:
    headers = {"X-CSRF-Token": lead.token}
    files = {"file": ("rows.jsonl", row.encode())}
    done = lead.client.post(f"{at}/import", files=files, headers=headers)
    assert done.json().get("count") == 1, done.text


def _as_displayed(kind: str, answer: dict) -> dict:
    return kind_of(kind).in_displayed_order(answer["value"], answer["order"])


def _export(lead: Browser, at: str, format: str) -> str:
    found = lead.get(f"{at}/export?format={format}")
    assert found.status_code == 200, found.text
    return found.text
