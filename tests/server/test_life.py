"""A project's whole life in a real browser: made, filled, judged by keys, settled, taken out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backflip.server.serve import way_in
from tests.server.chrome import chromium, press, visitor
from tests.server.hall import values
from tests.server.served import PASSWORD, Served, png, running

WAIT = 20_000


def write_rows(folder: Path) -> dict[str, str]:
    """Files of pairs, of quiz questions, of four answers, of steps."""
    pairs = [
        {"prompt": f"Is {i} even?", "chosen": f"Yes or no: {i}.", "rejected": f"Who knows {i}."}
        for i in range(6)
    ]
    quiz = [{"prompt": f"Quiz {i}?", "chosen": f"Good {i}.", "rejected": "Bad."} for i in range(2)]
    ranks = [
        {"prompt": "Name a river.", "answers": [{"text": f"River {i}"} for i in range(4)]},
    ]
    steps = [{"prompt": "1 + 1 + 1?", "steps": ["1 + 1 = 2", "2 + 1 = 4", "So it is 4."]}]
    named = {"pairs": pairs, "quiz": quiz, "ranks": ranks, "steps": steps}
    for name, rows in named.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: str(folder / f"{name}.jsonl") for name in named}


def make_project(page: Any, title: str, kind: str, **fields: str) -> None:
    page.goto(page.base + "/projects/new")
    page.locator(f"input[name=kind][value={kind}]").check(force=True)
    page.get_by_label("Title").fill(title)
    page.get_by_label("Rubric").fill("Prefer what **helps**.")
    for name, value in fields.items():
        box = page.locator(f"[name={name}]")
        if value == "on":
            box.check()
        elif box.evaluate("node => node.tagName") == "SELECT":
            box.select_option(value)
        else:
            box.fill(value)
    page.get_by_role("button", name="Create the project").click()


def import_file(page: Any, project: str, file: str, purpose: str = "work") -> None:
    page.goto(f"{page.base}/projects/{project}/items")
    page.set_input_files("#file", file)
    page.get_by_label("Purpose").select_option(purpose)
    page.get_by_role("button", name="Import").click()
    page.get_by_text(" imported.").wait_for()


def invite(page: Any, project: str, role: str = "rater") -> str:
    page.goto(f"{page.base}/projects/{project}/people")
    page.get_by_label("As", exact=True).select_option(role)
    page.get_by_role("button", name="Make a link").click()
    return page.get_by_label("Link of the invitation").input_value()


def join(browser: Any, faults: list[str], link: str, name: str) -> Any:
    page = visitor(browser, faults)
    page.base = re.match(r"http://[^/]+", link).group()
    page.goto(link)
    page.get_by_label("Your name").fill(name)
    page.get_by_label("E-mail").fill(f"{name.lower()}@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    page.locator("#deck button").first.wait_for()
    return page


def side_of(page: Any, start: str) -> str:
    """The key of the point that prefers the answer that begins so: left or right of the scale."""
    left = page.locator(".answer .body").first.inner_text().strip().startswith(start)
    return "1" if left else "4"


def test_the_whole_life_of_a_project(server: Served, tmp_path: Path):
    faults: list[str] = []
    files = write_rows(tmp_path)
    with running(server) as base, chromium() as browser:
        lead = visitor(browser, faults)
        lead.base = base
        lead.goto(base + way_in(server.site, None))
        make_project(
            lead, "Tone", "compare", raters_per_item="2", gold_share="0", adjudicate_below="90",
            screening_on="on", screening_questions="2", screening_pass="50",
        )  # fmt: skip
        import_file(lead, "tone", files["pairs"])
        import_file(lead, "tone", files["quiz"], "screening")
        raters = [join(browser, faults, invite(lead, "tone"), name) for name in ("Ada", "Grace")]
        for number, page in enumerate(raters):
            screen(page)
            compare(page, disagree_on="3" if number else "")
        project = server.store.project("tone")
        assert project.overview().answers == 12  # six pairs, twice; the quiz does not count
        assert project.overview().adjudicate == 1
        adjudicate(lead)
        assert project.overview().adjudicate == 0
        see_results(server, lead)
        rank_and_label(server, browser, lead, files, faults)
        compare_clips(server, browser, lead, tmp_path, faults)
        train(lead, tmp_path)
    assert faults == []


def saved(page: Any) -> None:
    """Wait until every answer has been acknowledged."""
    page.locator("#status[data-state=saved]").wait_for()


def screen(page: Any) -> None:
    """Answer the quiz; each answer is told, and passing it opens the project."""
    for _ in range(2):
        page.get_by_text("Quiz ").first.wait_for()
        press(page, side_of(page, "Good"))
        page.get_by_text("That is how we see it, too").wait_for()
        assert page.locator(".answer .body").count() == 2  # the question stays in view
        assert not page.locator("#undo").is_visible()
        page.keyboard.press("Enter")
    page.get_by_text("The project is open to you").wait_for()


def compare(page: Any, disagree_on: str) -> None:
    """Judge six pairs by keys, with an undo on the way."""
    page.get_by_text("even?").wait_for()
    press(page, "2")
    saved(page)
    press(page, "u")
    page.get_by_text("Your last answer was taken back").wait_for()
    for _ in range(6):
        page.locator(".answer .body").first.wait_for()
        asked = page.locator(".prompt").inner_text()
        wanted = "Who" if disagree_on and f"Is {disagree_on} " in asked else "Yes"
        press(page, side_of(page, wanted))
        page.get_by_text(asked.splitlines()[-1], exact=True).wait_for(state="hidden")
    page.get_by_text("Nothing left to do").wait_for()


def adjudicate(page: Any) -> None:
    page.goto(page.base + "/projects/tone/adjudicate")
    page.get_by_role("link", name="Judge it with keys").click()
    page.get_by_text("Adjudication").wait_for()
    page.locator(".answer .body").first.wait_for()
    press(page, side_of(page, "Yes"))
    page.get_by_text("Nothing waits for an adjudicator").wait_for()


def see_results(server: Served, page: Any) -> None:
    """Statistics, export, and a look at the log."""
    page.goto(page.base + "/projects/tone/statistics")
    page.get_by_text("Krippendorff").first.wait_for(timeout=60_000)
    page.goto(page.base + "/projects/tone/export")
    page.get_by_label("Format").select_option("answers")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) >= 12
    page.goto(page.base + "/projects/tone/log")
    assert page.get_by_role("row").count() > 20


def rank_and_label(
    server: Served, browser: Any, lead: Any, files: dict[str, str], faults: list[str]
) -> None:
    """Four answers in order by keys, with a tie and one left out; steps up to the first bad one."""
    make_project(lead, "Rivers", "rank", gold_share="0")
    import_file(lead, "rivers", files["ranks"])
    make_project(lead, "Sums", "steps", gold_share="0", stop_at_bad="on")
    import_file(lead, "sums", files["steps"])
    page = join(browser, faults, invite(lead, "rivers"), "Alan")
    for key in ("2", "1", "t", "4", "Enter"):
        press(page, key)
    page.get_by_text("Nothing left to do").wait_for()
    (row,) = server.store.project("rivers").answers()
    assert sorted(row.value["ranks"], key=str) == [0, 0, 1, None]
    page = join(browser, faults, invite(lead, "sums"), "Kurt")
    for key in ("1", "3", "Enter"):
        press(page, key)
    page.get_by_text("Nothing left to do").wait_for()
    (row,) = server.store.project("sums").answers()
    assert row.value["labels"] == [1, -1, None]


def compare_clips(server: Served, browser: Any, lead: Any, folder: Path, faults: list[str]) -> None:
    """Four pictures become two pairs; a rater sees them and takes the darker one by keys."""
    shade_of = {png(shade): shade for shade in (10, 90, 170, 250)}
    pictures = [folder / f"walk-{shade}.png" for shade in shade_of.values()]
    for path, picture in zip(pictures, shade_of, strict=True):
        path.write_bytes(picture)
    make_project(lead, "Walks", "clips", gold_share="0", scale="2")
    lead.goto(f"{lead.base}/projects/walks/items")
    lead.set_input_files("#clips", [str(path) for path in pictures])
    lead.get_by_role("button", name="Send").click()
    lead.get_by_text("4 stored, 2 pairs to judge").wait_for()
    page = join(browser, faults, invite(lead, "walks"), "Edsger")
    for _ in range(2):
        page.wait_for_function(
            "() => 1 < "  # a function: an expression would be evaluated anew, against the policy
            "[...document.querySelectorAll('.answer img')].filter((i) => i.naturalWidth).length"
        )
        shown = [img.get_attribute("src") for img in page.locator(".answer img").all()]
        shades = [shade_of[page.request.get(lead.base + src).body()] for src in shown]
        press(page, "1" if shades[0] < shades[1] else "2")
        page.locator(f".answer img[src='{shown[0]}']").wait_for(state="hidden")
    page.get_by_text("Nothing left to do").wait_for()
    project = server.store.project("walks")
    files = {row.id: row.payload["clips"] for row in project.items()}
    for row in project.answers():
        chosen = files[row.item]["ab".index(row.value["choice"])]["file"]
        assert chosen in ("walk-10.png", "walk-170.png")
    assert project.overview().answers == 2


def train(page: Any, folder: Path) -> None:
    """The button's own command on a tiny model, until its report can be opened."""
    from tests.recipes.tiny import tiny_model

    page.goto(page.base + "/projects/tone/export")
    page.get_by_label("Language model").fill(str(tiny_model(folder / "tiny")))
    page.get_by_label("Steps at most").fill("2")
    page.get_by_role("button", name="Train").click()
    page.get_by_text("backflip train reward_model data=feedback:tone").wait_for()
    page.get_by_role("link", name="Open the report").click(timeout=180_000)
    page.get_by_role("heading", name="Reward model").first.wait_for()


@pytest.fixture
def rating(server: Served):
    """A project of eight pairs with a rater."""
    project, person = server.project(items=8, raters_per_item=1, scale=2), server.person("Ada")
    project.enrol(person)
    return project, person


def open_rating(page: Any, base: str, server: Served, person: int) -> None:
    from backflip.server.pages.account import door

    page.goto(f"{base}{door(server.site, person)}?next=/projects/tone/rate")
    page.locator(".point").first.wait_for()


def test_answers_wait_for_a_connection_and_arrive_once(server: Served, rating: Any):
    project, person = rating
    with running(server) as base, chromium() as browser:
        page = visitor(browser, [])
        open_rating(page, base, server, person)
        page.context.set_offline(True)
        press(page, "1")
        press(page, "2")
        page.get_by_text("2 answers wait for a connection").wait_for()
        assert list(project.answers()) == []
        page.context.set_offline(False)
        saved(page)
        assert len(values(project, 2)) == 2


def test_answers_that_wait_survive_closing_the_page(server: Served, rating: Any):
    project, person = rating
    with running(server) as base, chromium() as browser:
        page = visitor(browser, [])
        open_rating(page, base, server, person)
        page.context.set_offline(True)
        press(page, "1")
        page.get_by_text("1 answer waits for a connection").wait_for()
        page.goto("about:blank")
        page.context.set_offline(False)
        page.goto(f"{base}/projects/tone/rate")
        saved(page)
        assert len(values(project, 1)) == 1


def test_double_clicks_and_two_tabs_store_each_answer_once(server: Served, rating: Any):
    project, person = rating
    with running(server) as base, chromium() as browser:
        page = visitor(browser, [])
        open_rating(page, base, server, person)
        other = page.context.new_page()
        other.goto(f"{base}/projects/tone/rate")
        other.locator(".point").first.wait_for()
        page.wait_for_timeout(500)
        page.locator(".point").first.dblclick()
        other.locator(".point").first.dblclick()  # the same item, in another tab
        page.wait_for_timeout(1500)
        rows = list(project.answers())
        assert len({row.item for row in rows}) == len(rows) <= 2
        press(page, "1")
        saved(page)
        page.wait_for_timeout(500)
        assert len(list(project.answers())) >= 2


def test_a_content_warning_stands_before_the_item_until_it_is_asked_for(server: Served):
    project = server.project(items=2, scale=2, content_warning="Rude words.")
    person = server.person("Ada")
    project.enrol(person)
    with running(server) as base, chromium() as browser:
        page = visitor(browser, [])
        open_rating(page, base, server, person)
        press(page, "1")
        page.wait_for_timeout(300)
        assert list(project.answers()) == []
        assert page.locator("#stage").evaluate("node => node.inert")
        page.get_by_role("button", name="Show it").click()
        press(page, "1")
        saved(page)
        page.get_by_text("Rude words.").wait_for()  # before the next one, again
        assert len(values(project, 1)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_names_all_its_controls(server: Served, scheme: str):
    project, person = server.project(items=2, scale=8), server.person("Ada")
    project.enrol(person)
    with running(server) as base, chromium() as browser:
        context = browser.new_context(
            viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True
        )
        page = context.new_page()
        open_rating(page, base, server, person)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, a, input, textarea, select')].filter(
                 (n) => n.offsetParent && !(n.ariaLabel || n.innerText?.trim() || n.labels?.length
                   || n.querySelector?.('svg'))).length"""
        )
        assert nameless == 0
        small = page.evaluate(
            """[...document.querySelectorAll('button')].filter((n) => n.offsetParent
                 && (n.offsetHeight < 24 || n.offsetWidth < 24)).length"""
        )
        assert small == 0  # WCAG 2.5.8: targets of 24 by 24 pixels at least


def test_an_import_that_takes_a_while_says_that_it_was_heard(server: Served):
    """And is sent once, however often the button is pressed meanwhile."""
    server.project(items=0)
    with running(server) as base, chromium() as browser:
        page = visitor(browser, [])
        page.goto(base + way_in(server.site, "tone"))
        page.goto(f"{base}/projects/tone/items")
        page.evaluate(
            """() => document.querySelector("form[data-busy]").addEventListener("submit", (e) => {
                 window.sent = (window.sent || 0) + !e.defaultPrevented;
                 e.preventDefault();  // it stays under way for ever
               })"""
        )
        page.get_by_role("button", name="Import").click()
        page.get_by_role("button", name="Importing …").wait_for()
        page.wait_for_timeout(4500)
        page.get_by_role("button", name="Importing …").click()
        assert page.evaluate("sent") == 1
