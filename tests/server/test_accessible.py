"""Every page against WCAG 2.2 AA, by axe-core in a real browser: names, roles, focus, contrast.

What no program can see (whether a name makes sense when it is heard) is not in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from backflip.server.pages.account import door
from tests.server.chrome import chromium, visitor
from tests.server.echo import echoing
from tests.server.served import Served, pairs, png, running, served
from tests.server.test_figures import COUNT, KINDS, filled, worked_out

axe_core = pytest.importorskip("axe_playwright_python.base", reason="axe-core is not installed")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LEAD = (
    "", "/items", "/people", "/statistics", "/adjudicate", "/flagged", "/export", "/log",
    "/settings", "/screened", "/asking", "/statistics?every=yes",
)  # fmt: skip
LOOKS = {
    "desk, light": {"color_scheme": "light"},
    "desk, dark": {"color_scheme": "dark"},
    "phone, dark": {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
}


@dataclass
class Eyes:
    """A server with a judged project, and a browser."""

    made: Served
    base: str
    browser: Any
    lead: int

    def visit(self, person: int, look: str) -> Any:
        """A page of somebody who is signed in."""
        page = visitor(self.browser, [], **LOOKS[look])
        page.goto(f"{self.base}{door(self.made.site, person)}")
        return page


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eyes]:
    with echoing() as address:
        made = served(tmp_path_factory.mktemp("eyes"), endpoints=(("m", f"{address}#loud"),))
        worked_out(made, filled(made, "compare"))
        project, lead = made.store.project("tone"), made.person("Ada", admin=True)
        project.to_adjudication([row.id for row in project.items(limit=2)])
        project.add_items(pairs(COUNT + 3)[COUNT:])
        rater = made.person("Mary")
        project.enrol(rater)
        project.invite(role="rater", uses=3, days=1)
        project.flag(rater, project.next(rater)[0].item_id, reason="broken")
        with running(made) as base, chromium() as browser:
            yield Eyes(made, base, browser, lead)
        made.site.jobs.close()
        made.store.close()


@pytest.fixture(autouse=True)
def closed(eyes: Eyes) -> Iterator[None]:
    yield
    for context in eyes.browser.contexts:
        context.close()


def faults(page: Any) -> list[str]:
    """What axe finds: the rule, and the elements that break it."""
    page.evaluate(axe_core.AXE_SCRIPT)
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES
    )
    return [
        f"{fault['id']}: {node['html'][:150]} ({node['failureSummary'][:200]})"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("look", LOOKS)
def test_pages_of_a_lead(eyes: Eyes, look: str):
    page = eyes.visit(eyes.lead, look)
    addresses = [f"/projects/tone{tab}" for tab in LEAD]
    item = eyes.made.store.project("tone").items()[0].id
    addresses += ["/", "/me", "/api", "/projects/new", f"/projects/tone/items/{item}"]
    found = {}
    for address in addresses:
        answer = page.goto(f"{eyes.base}{address}")
        assert answer.status == 200, address
        found[address] = faults(page)
    assert {address: told for address, told in found.items() if told} == {}


@pytest.mark.parametrize("look", LOOKS)
def test_pages_of_somebody_who_is_not_signed_in(eyes: Eyes, look: str):
    page = visitor(eyes.browser, [], **LOOKS[look])
    link = eyes.made.store.project("tone").invite(role="rater", uses=1, days=1)
    for address in ("/sign-in", "/invitation/nothing", f"/invitation/{link}"):
        page.goto(f"{eyes.base}{address}")
        assert faults(page) == [], address


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_rater(eyes: Eyes, kind: str):
    """Light and dark, with the item, and with the help that lies over it."""
    item, _, more, _ = KINDS[kind]
    name = f"eyes-{kind}"
    project = eyes.made.project(name, items=0, kind=kind, rubric="Be *kind*.", **more)
    if kind == "clips":
        folder = eyes.made.site.media.root(name)
        folder.mkdir(parents=True)
        for side in "ab":
            (folder / f"{side}0.png").write_bytes(png())
    first = item(0)
    for letter, answer in zip("xyz", first.get("answers", ()), strict=False):  # wide, on a phone
        table = f"| {' | '.join(letter * 32)} |\n|{'-|' * 32}"
        answer["text"] = f"```\n{letter * 300}\n```\n\n{table}"
    project.add_items([first])
    person = eyes.made.person(f"Rater {kind}")
    project.enrol(person)
    for look in ("desk, light", "phone, dark"):
        page = eyes.visit(person, look)
        page.goto(f"{eyes.base}/projects/{name}/rate")
        page.locator("#deck > *").first.wait_for()
        assert faults(page) == [], look
        page.locator("#keys").click()
        page.locator("dialog[open]").wait_for()
        assert faults(page) == [], f"{look}, with the help"
