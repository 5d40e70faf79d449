"""The whole way of an annotation lead in a browser, without a setting being changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backflip.server.serve import way_in
from tests.server.chrome import chromium, press, visitor
from tests.server.served import Served, running
from tests.server.test_life import import_file, invite, join, make_project, train

PAIRS, SPLIT = 8, 4
"""Items, and those on which the two raters disagree."""
TURNS = [("user" if n % 2 == 0 else "assistant", f"Turn {n}. " + "Well. " * 6) for n in range(8)]


def test_import_two_raters_who_disagree_settling_export_training(server: Served, tmp_path: Path):
    faults: list[str] = []
    with running(server) as base, chromium() as browser:
        lead = visitor(browser, faults)
        lead.base = base
        lead.goto(base + way_in(server.site, None))
        make_project(lead, "Tone", "compare")  # a title and a rubric, and every default
        import_file(lead, "tone", talks(tmp_path))
        raters = [join(browser, faults, invite(lead, "tone"), name) for name in ("Alan", "Kurt")]
        for page, contrary in zip(raters, (False, True), strict=True):
            judge(page, contrary)
        letters = see_disputes(lead)
        settle(lead, letters)
        project = server.store.project("tone")
        assert (project.overview().done, project.overview().adjudicate) == (PAIRS, 0)
        assert project.rubric_version == 1
        assert project.events(kinds=["settings", "settled anew"]) == []
        rows, account = taken_out(lead, "jsonl"), taken_out(lead, "summary")
        assert len(rows) == PAIRS
        assert all(row["chosen"][0]["content"].startswith("Yes") for row in rows)
        assert (account[0]["known"], account[0]["undecided"]) == (SPLIT, 0)
        see_agreement(lead, account[0])
        train(lead, tmp_path)
    assert faults == []


def talks(folder: Path) -> str:
    """Pairs at the end of long conversations, the better answer first in every second one."""
    path, rows = folder / "talks.jsonl", list[dict[str, Any]]()
    for number in range(PAIRS):
        prompt = [{"role": role, "content": f"Talk {number}. {text}"} for role, text in TURNS]
        prompt.append({"role": "user", "content": f"Is {number} a number?"})
        texts = [f"Yes, {number} is.", f"Hardly {number}."]
        answers = [{"text": text} for text in (texts[::-1] if number % 2 else texts)]
        rows.append({"prompt": prompt, "answers": answers})
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def judge(page: Any, contrary: bool) -> None:
    """Every pair by keys; a contrary rater takes the worse answer of the first few numbers."""
    for _ in range(PAIRS):
        page.locator(".answer .body").nth(1).wait_for()
        in_view(page)
        asked = page.locator(".prompt > .turns").inner_text().splitlines()[-1]
        wrong = contrary and int(asked.split()[1]) < SPLIT
        press(page, "1" if first_is_better(page) != wrong else "4")
        page.get_by_text(asked, exact=True).wait_for(state="hidden")
    page.get_by_text("Nothing left to do").wait_for()


def first_is_better(page: Any) -> bool:
    return page.locator(".answer .body").first.inner_text().strip().startswith("Yes")


def in_view(page: Any) -> None:
    """Both answers, whole, without scrolling, though the conversation is long."""
    end = page.locator(".foot").bounding_box()["y"]
    for answer in page.locator(".answer").all():
        box = answer.bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= end


def see_disputes(lead: Any) -> dict[str, str]:
    """The list, with which letter it gives the better answer of each question."""
    lead.goto(lead.base + "/projects/tone")
    lead.get_by_text("wait for an adjudicator").wait_for()
    lead.locator(".tab", has_text="Adjudicate").click()
    lead.get_by_text(f"{SPLIT} items on which raters are split").wait_for()
    found = dict[str, str]()
    for dispute in lead.locator(".dispute").all():
        assert sorted(dispute.locator(".tag").all_inner_texts()) == [
            "A much better",
            "B much better",
        ]
        better = dispute.locator(".answer", has_text="Yes")
        asked = dispute.locator(".peek > .turns").inner_text().splitlines()[-1]
        found[asked] = better.locator("h3").inner_text()
    return found


def settle(lead: Any, letters: dict[str, str]) -> None:
    """Each by keys; a letter means what it meant on the list."""
    lead.get_by_role("link", name="Judge them with keys").click()
    for _ in range(SPLIT):
        lead.locator(".answer .body").nth(1).wait_for()
        in_view(lead)
        asked = lead.locator(".prompt > .turns").inner_text().splitlines()[-1]
        assert letters[asked] == ("A" if first_is_better(lead) else "B")
        press(lead, "1" if letters[asked] == "A" else "4")
        lead.get_by_text(asked, exact=True).wait_for(state="hidden")
    lead.get_by_text("Nothing waits for an adjudicator").wait_for()


def taken_out(lead: Any, file: str) -> list[dict[str, Any]]:
    """The first format that is offered, or the account of it."""
    lead.goto(lead.base + "/projects/tone/export")
    lead.get_by_label("File").select_option(file)
    with lead.expect_download() as download:
        lead.get_by_role("button", name="Download").click()
    text = Path(download.value.path()).read_text()
    return [json.loads(text)] if file == "summary" else [json.loads(r) for r in text.splitlines()]


def see_agreement(lead: Any, account: dict[str, Any]) -> None:
    """The α of the page is the one in the account, and in its words."""
    alpha = account["agreement"]["alpha"]
    shown = f"{alpha['estimate']:.2f}".replace("-", "−")
    assert any(f"Krippendorff's alpha {shown} [" in line for line in account["said"])
    lead.goto(lead.base + "/projects/tone/statistics?every=yes")
    lead.get_by_text("Krippendorff").first.wait_for(timeout=60_000)
    row = lead.locator("tr", has=lead.get_by_text("Krippendorff", exact=False)).first
    assert row.locator("td").inner_text().split()[0] == shown
