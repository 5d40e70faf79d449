"""Clips and pictures that a lead sends: kept under safe names, shown as what they are."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.errors import UserError
from backflip.server.base import clips
from backflip.server.base.clip_ids import ClipIds
from tests.server.served import Browser, Served, png, served

MP4 = struct.pack(">I", 24) + b"ftypisom" + bytes(4) + b"isommp42" + b"moov" * 8


def send(lead: Browser, files: dict[str, bytes], **form: str) -> Any:
    lead.get("/projects/walk/items")
    sent = [("clips", (name, data)) for name, data in files.items()]
    return lead.send("/projects/walk/clips/import", form, files=sent)


@pytest.fixture
def walk(server: Served) -> Any:
    return server.project("walk", kind="clips")


def test_clips_become_pairs_that_raters_see(server: Served, walk: Any, lead: Browser):
    files = {f"walk-{n}.png": png(n) for n in (10, 2, 1, 3)} | {"a.mp4": MP4, "b.mp4": MP4 + b"x"}
    page = send(lead, files, pair="next", prompt="Walk to the door").text
    assert "6 stored, 3 pairs to judge" in page
    found = {tuple(clip["file"] for clip in row.payload["clips"]) for row in walk.items()}
    assert found == {
        ("walk-1.png", "walk-2.png"),
        ("walk-3.png", "walk-10.png"),
        ("a.mp4", "b.mp4"),
    }
    rater = server.person("Alan")
    walk.enrol(rater)
    browser = server.as_person(rater)
    browser.get("/me")
    items = browser.call("/api/v1/projects/walk/next?count=3&html=true").json()["items"]
    clips = [clip for item in items for clip in item["clips"]]
    shown = [browser.get(clip["url"]) for clip in clips]
    assert {one.content for one in shown} == set(files.values())
    kinds = [one.headers["content-type"] for one in shown]
    assert kinds == [{"image": "image/png", "video": "video/mp4"}[clip["media"]] for clip in clips]
    assert "Walk to the door" in items[0]["prompt"]


def test_a_rater_is_not_told_what_a_clip_is_called(server: Served, walk: Any, lead: Browser):
    """Nor how long its name is: a clip is often called after the policy that made it."""
    send(lead, {"ppo-step-900.png": png(1), "sft.png": png(2)}, pair="next")
    browser = server.rater(walk, "Alan")
    page = browser.call("/api/v1/projects/walk/next?html=true").text
    plain = browser.call("/api/v1/projects/walk/next")
    assert "ppo" not in page + plain.text
    assert "sft" not in page + plain.text
    urls = [clip["url"] for clip in plain.json()["items"][0]["payload"]["clips"]]
    assert {browser.get(url).content for url in urls} == {png(1), png(2)}
    assert len({len(url) for url in urls}) == 1


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=9))
def test_what_is_sealed_opens_for_its_project_and_key_alone(name: str, secret: str):
    ids, others = ClipIds(secret), ClipIds(secret + "x")
    letters = ids.sealed(name, "walk")
    assert ids.sealed(name, "walk") == letters
    assert ids.unsealed(letters, "walk") == name
    assert ids.unsealed(letters, "run") is None
    assert others.unsealed(letters, "walk") is None
    assert ids.unsealed(letters[::-1], "walk") is None
    assert ids.unsealed(letters[:-1], "walk") is None


@pytest.mark.parametrize("given", ["", "a.png", "é", "a" * 21, "=" * 8, "../x", "A" * 200])
def test_what_was_never_sealed_opens_as_nothing(given: str):
    assert ClipIds("key").unsealed(given, "walk") is None


def test_a_clip_can_do_nothing_but_be_shown(walk: Any, lead: Browser):
    send(lead, {"a.png": png()}, pair="none")
    headers = lead.get("/media/walk/a.png").headers
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_strangers_see_no_clip(server: Served, walk: Any, lead: Browser):
    send(lead, {"a.png": png()}, pair="none")
    stranger = server.as_person(server.person("Eve"))
    assert stranger.get("/media/walk/a.png").status_code == 404
    assert server.browser().get("/media/walk/a.png").url.path == "/sign-in"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/x.png", "x.png"),
        ("..\\..\\x.PNG", "x.png"),
        (".hidden.png", "hidden.png"),
        ("Läufer 1 (neu).webm", "Läufer-1-neu.webm"),
        ("La\u0308ufer.webm", "Läufer.webm"),
        ("مشية ١.mp4", "مشية-١.mp4"),
        ("चलना.mp4", "चलना.mp4"),
        ("🚶🏽.mp4", "🚶🏽.mp4"),
        ("\u202e4pm.mp4", "4pm.mp4"),
        ("影.mp4", "影.mp4"),
        ("a\0b.png", "a-b.png"),
        ("x" * 300 + ".jpg", "x" * 100 + ".jpg"),
        ('"><script>.gif', "script.gif"),
    ],
)
def test_names_are_made_safe(given: str, kept: str):
    assert clips.safe_name(given) == kept


@pytest.mark.parametrize("name", ["x.svg", "x.html", "x.png.exe", "png", "x.js", ""])
def test_other_kinds_are_refused(name: str):
    with pytest.raises(UserError, match="no clip or picture"):
        clips.safe_name(name)


def test_what_is_no_picture_is_refused_whatever_its_name(walk: Any, lead: Browser):
    page = send(
        lead,
        {
            "page.png": b"<html><script>alert(1)</script>",
            "photo.avif": MP4,
            "clip.mp4": png(),
            "drawing.svg": b"<svg/>",
            "good.png": png(),
        },
        pair="every",
    ).text
    assert "1 stored, 0 pairs" in page
    assert page.count("is not what its name says") == 3
    assert "browsers show" in page
    assert [one.name for one in clips.stored(lead_folder(lead))] == ["good.png"]


def lead_folder(lead: Browser) -> Path:
    app: Any = lead.client.app
    return app.state.site.media.root("walk")


def test_what_stands_under_a_name_never_changes(walk: Any, lead: Browser):
    send(lead, {"a.png": png(1)}, pair="none")
    assert "was there already" in send(lead, {"a.png": png(1)}, pair="none").text
    assert "another file has this name" in send(lead, {"a.png": png(2)}, pair="none").text
    assert (lead_folder(lead) / "a.png").read_bytes() == png(1)
    assert [file.name for file in lead_folder(lead).iterdir()] == ["a.png"]  # no drafts are left


def test_no_file_and_no_project_is_larger_than_it_may_be(tmp_path: Path):
    size = len(png())
    made = served(tmp_path, upload_bytes=10_000, media_bytes=2 * size + 10)
    made.project("walk", kind="clips")
    lead = made.as_person(made.person("Ada", admin=True))
    files = {f"{n}.png": png(n) for n in range(3)}
    page = send(lead, files, pair="none")
    assert "2 stored" in page.text
    assert "is larger than the 0 MiB that are left" in page.text
    assert send(lead, {"big.png": png() + bytes(20_000)}).status_code == 413
    kept = clips.keep(tmp_path, "big.png", io.BytesIO(png() + bytes(3 * 2**20)), 2 * 2**20)
    assert (kept.name, kept.said) == ("", "is larger than the 2 MiB that are left")
    made.store.close()


def test_each_is_compared_with_each_but_no_picture_with_a_video():
    found = list(clips.pairs(["b.png", "a.png", "c.png", "x.mp4"], "every"))
    files = [tuple(clip["file"] for clip in one["clips"]) for one in found]
    assert files == [("a.png", "b.png"), ("a.png", "c.png"), ("b.png", "c.png")]
    with pytest.raises(UserError, match="5,000 at once"):
        list(clips.pairs([f"{n}.png" for n in range(200)], "every"))


def test_only_a_lead_of_a_project_of_clips_sends_them(server: Served, walk: Any, lead: Browser):
    server.project("tone")
    lead.get("/projects/tone/items")
    files = [("clips", ("a.png", png()))]
    assert lead.send("/projects/tone/clips/import", {}, files=files).status_code == 409
    assert "Send clips" not in lead.get("/projects/tone/items").text
    rater = server.person("Alan")
    walk.enrol(rater)
    browser = server.as_person(rater)
    browser.get("/me")
    assert browser.send("/projects/walk/clips/import", {}, files=files).status_code == 403
    assert send(lead, {}, pair="none").status_code == 400
