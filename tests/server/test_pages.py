"""Projects, imports and people, as a lead meets them."""

from __future__ import annotations

import gzip
import html
import json
import re

import pytest

from backflip.errors import UserError
from backflip.feedback.exchange import imports
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base import forms
from backflip.server.base.uploads import unpacked
from tests.server.served import Browser, Served


def rows(count: int) -> bytes:
    lines = [
        {"prompt": f"Question {i}?", "chosen": f"Yes, {i}.", "rejected": f"No {i}."}
        for i in range(count)
    ]
    return "\n".join(json.dumps(line) for line in lines).encode()


def send_file(lead: Browser, name: str, data: bytes, **form: str):
    lead.get("/projects/tone/items")
    return lead.send("/projects/tone/import", form, files={"file": (name, data)})


# ---- the form of a project


def test_a_form_that_shows_settings_gives_the_same_settings_back():
    """Nothing is lost or changed between the page and the store."""
    kinds = {
        "compare": {"scale": 7, "allow_tie": False, "gold_share": 0.15},
        "rate": {"attributes": [{"name": "Kind", "low": 0, "high": 4, "question": "How kind?"}]},
        "spans": {"span_labels": ["rude", "false"]},
        "steps": {"stop_at_bad": True},
        "thumbs": {"overlap": {"threshold": 0.95, "max_raters": 7}, "adjudicate_below": 0.6},
        "rank": {
            "screening": {"questions": 5, "pass_mark": 0.9},
            "groups": {"language": ["de", "en"]},
            "budget": {"items": 10, "money": 12.5, "currency": "€", "price_per_answer": 0.1},
        },
    }
    for kind, more in kinds.items():
        settings = ProjectSettings.model_validate_json(json.dumps({"kind": kind, **more}))
        shown = forms.of(settings).values
        sent = {k: str(v) for k, v in shown.items() if not isinstance(v, bool)}
        sent |= {k: "yes" for k, v in shown.items() if v is True}
        assert forms.read(sent).settings == settings


def test_each_mistake_stands_at_its_field():
    sent = {"kind": "compare", "gold_share": "150", "scale": "x", "lease_seconds": "5"}
    assert set(forms.read(sent).errors) == {"gold_share", "scale"}
    assert set(forms.read({"kind": "compare", "lease_seconds": "5"}).errors) == {"lease_seconds"}
    overlap = {"kind": "thumbs", "overlap_on": "yes", "overlap_threshold": "20", "overlap_max": "3"}
    assert set(forms.read(overlap).errors) == {"overlap_threshold"}


def test_a_project_comes_from_its_form(server: Served, lead: Browser):
    form = {"kind": "compare", "title": "Tone of voice!", "rubric": "# Be kind", "scale": "4"}
    page = lead.send("/projects/new", form)
    assert page.url.path == "/projects/tone-of-voice"
    assert "Import items next" in page.text
    project = server.store.project("tone-of-voice")
    assert project.settings.rubric == "# Be kind"
    assert project.members()[0].role == "admin"


def test_a_wrong_form_comes_back_with_what_was_written_and_what_is_wrong(lead: Browser):
    form = {"kind": "spans", "title": "Passages", "rubric": "keep me", "span_labels": ""}
    page = lead.send("/projects/new", form)
    assert page.status_code == 400
    assert "keep me" in page.text
    assert "need “Labels”: the names that a rater may give to a passage" in page.text
    lead.send("/projects/new", {"kind": "thumbs", "title": "x", "name": "one"})
    again = lead.send("/projects/new", {"kind": "thumbs", "title": "x", "name": "one"})
    assert "already" in again.text


def test_changing_settings_makes_a_new_version_and_keeps_what_the_form_does_not_show(
    server: Served, lead: Browser
):
    server.project(rubric="old")
    lead.get("/projects/tone/settings")
    lead.send("/projects/tone/settings", {"kind": "compare", "rubric": "new", "scale": "4"})
    project = server.store.project("tone")
    assert (project.settings.rubric, project.rubric_version) == ("new", 2)
    assert project.settings.lease_seconds == 900


def test_only_admins_make_projects(server: Served):
    browser = server.as_person(server.person("Eve"))
    browser.get("/")
    assert browser.send("/projects/new", {"kind": "thumbs", "title": "x"}).status_code == 403


# ---- items


def test_an_import_counts_what_it_took_and_what_was_there(server: Served, lead: Browser):
    server.project(items=0)
    assert "5 items were imported" in send_file(lead, "rows.jsonl", rows(5)).text
    again = send_file(lead, "rows.jsonl", rows(7)).text
    assert "2 items were imported" in again
    assert "5 were there already" in again


def test_compressed_parquet_and_csv_files_are_read(server: Served, lead: Browser, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    server.project(items=0)
    send_file(lead, "rows.jsonl.gz", gzip.compress(rows(3)))
    pq.write_table(
        pa.Table.from_pylist([json.loads(x) for x in rows(5).splitlines()]), tmp_path / "x"
    )
    send_file(lead, "rows.parquet", (tmp_path / "x").read_bytes())
    send_file(lead, "Sheet 1.csv", b"prompt;chosen;rejected\nQuestion 9?;Yes.;No.")
    assert server.store.project("tone").tallies()["items"] == 6


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("rows.jsonl", b'{"a": 1}', "Columns seen: a"),
        ("rows.jsonl", b"{not json", "malformed line"),
        ("rows.jsonl", b"", "is empty"),
        ("rows.exe", b"MZ", "no data file"),
        ("rows.jsonl.gz", b"not gzip", "not whole gzip"),
        ("rows.parquet", b"PAR1 not", "not whole Parquet"),
        ("rows.jsonl", b"\xff\xfe\x00", "not UTF-8"),
        ("../../../etc/passwd.jsonl", b'{"a": 1}', "Columns seen"),
    ],
)
def test_a_bad_file_is_refused_in_plain_words(
    server: Served, lead: Browser, name: str, data: bytes, said: str
):
    server.project(items=0)
    page = send_file(lead, name, data)
    assert page.status_code == 400
    assert said in page.text
    assert "/tmp" not in page.text
    assert server.store.project("tone").tallies().get("items", 0) == 0


def test_a_gzip_bomb_is_refused_before_it_fills_the_disk(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * 5_000_000))
    with pytest.raises(UserError, match="larger than 2 MiB"):
        unpacked(path, 2 * 2**20)


def test_rows_that_do_not_fit_can_be_left_out(server: Served, lead: Browser):
    server.project(kind="rank", items=0)
    good = {"prompt": "Which?", "answers": [{"text": "a"}, {"text": "b"}]}
    bad = {"prompt": "Which?", "answers": [{"text": "a"}]}
    data = "\n".join(map(json.dumps, [good, bad])).encode()
    assert "The import stopped" in send_file(lead, "rows.jsonl", data).text
    page = send_file(lead, "mine.jsonl", data, lenient="yes")
    assert "not all of it" in page.text
    assert "mine.jsonl: 1 item added" in page.text
    assert "(line 2)" in page.text
    assert "/tmp" not in page.text
    assert server.store.project("tone").tallies()["items"] == 1


def test_a_stopped_import_says_how_many_items_came_before(
    server: Served, lead: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(imports, "CHUNK", 3)
    server.project(items=0)
    page = send_file(lead, "mine.jsonl", rows(4) + b'\n{"prompt": "x", "chosen": "y"}')
    assert page.status_code == 400
    assert "3 items before it came in" in page.text
    assert "mine.jsonl:5" in page.text
    assert "came in" not in send_file(lead, "mine.jsonl", b"").text


def test_completions_without_an_order_are_a_ranking_to_make(server: Served, lead: Browser):
    server.project(kind="rank", items=0)
    row = {"prompt": "Name a river.", "completions": ["Rhine", "Elbe", "Oder"]}
    assert "1 item was imported" in send_file(lead, "rows.jsonl", json.dumps(row).encode()).text
    (item,) = server.store.project("tone").items()
    assert [answer["text"] for answer in item.payload["answers"]] == ["Rhine", "Elbe", "Oder"]


def test_items_are_paged_and_found_by_their_words_and_state(server: Served, lead: Browser):
    project = server.project(items=0)
    row = {"prompt": "Größe der Zürcher 100%-Brücke?", "chosen": "Ja.", "rejected": "Nö."}
    send_file(lead, "rows.jsonl", rows(70) + b"\n" + json.dumps(row).encode())
    address, seen = "/projects/tone/items", list[str]()
    while address:
        page = lead.get(address)
        seen += re.findall(r"/projects/tone/items/(\d+)\"", page.text)
        older = re.search(r'href="(\?[^"]*before=[^"]*)#list"', page.text)
        address = f"/projects/tone/items{html.unescape(older[1])}" if older else ""
    assert [int(number) for number in seen] == [i.id for i in project.items(newest=True)]
    found = lead.get("/projects/tone/items?words=ZÜRCHER 100%-b".replace("%", "%25"))
    assert "No item fits" in found.text  # letters beyond ASCII are found as they are written
    found = lead.get("/projects/tone/items?words=Zürcher 100%-b".replace("%", "%25"))
    assert found.text.count("/projects/tone/items/7") == 1
    assert "No item fits" in lead.get("/projects/tone/items?state=done").text
    assert "Older items" in lead.get("/projects/tone/items?state=open&words=question").text
    assert lead.get("/projects/tone/items?before=x&state=%00").status_code == 200


def test_quiz_items_take_their_answer_from_the_data(server: Served, lead: Browser):
    server.project(items=0, screening={"questions": 2, "pass_mark": 0.5})
    send_file(lead, "rows.jsonl", rows(2), purpose="screening")
    items = server.store.project("tone").items(purpose="screening")
    assert [item.gold["choice"] for item in items] == ["a", "a"]


def test_leads_do_not_read_the_servers_own_disk(server: Served):
    project, person = server.project(items=0), server.person("Grace")
    project.enrol(person, role="lead")
    browser = server.as_person(person)
    browser.get("/projects/tone/items")
    page = browser.send("/projects/tone/import", {"source": "/etc/passwd"})
    assert "only admins read" in page.text


def test_admins_import_a_data_source_by_its_name(server: Served, lead: Browser):
    server.project(items=0)
    lead.get("/projects/tone/items")
    lead.send("/projects/tone/import", {"source": "demo:comparisons", "limit": "6"})
    assert server.store.project("tone").tallies()["items"] == 6


@pytest.mark.parametrize("number", ["²", "--5", "9" * 5000, "", "many"])
def test_what_is_no_whole_number_counts_as_not_given(server: Served, lead: Browser, number: str):
    """Python takes the first three for digits, and then refuses to make a number of them."""
    server.project()
    page = lead.send("/projects/tone/invitations", {"role": "rater", "uses": number})
    assert page.status_code == 200
    assert [one["uses_left"] for one in server.store.project("tone").invitations()] == [1]


@pytest.mark.parametrize(
    "said", ["imported.1--2", "imported.-", "imported.x", "imported", "nothing"]
)
def test_a_message_that_is_none_of_ours_is_not_shown(lead: Browser, said: str):
    lead.client.cookies.set("backflip-said", said)
    assert lead.get("/").status_code == 200
