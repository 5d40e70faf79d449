"""Every page of the feedback server as people see it: light and dark, on a desk and on a phone.

    python docs/feedback_pages.py               all of them: some minutes
    python docs/feedback_pages.py statistics    one

Fills a store by simulated raters, serves it, looks at it with Chromium ($CHROMIUM names another),
and writes pictures/pages/*.webp and feedback_pages.md. Needs what ``make test`` needs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from backflip.demo import run as demo
from backflip.feedback.choose import prescreen
from backflip.feedback.projects.store import Store, open_store
from backflip.feedback.rating.items import NewItem
from backflip.server.app import create_app
from backflip.server.base.settings import ServerSettings
from backflip.server.pages.account import door
from backflip.server.rehearse.simulation import simulate

HERE = Path(__file__).parent
PICTURES = HERE / "pictures" / "pages"
DESK, PHONE = (1280, 860), (390, 844)
SCALE, GAP = 0.6, 12
RUBRIC = """Choose the reply that you would rather get yourself.

1. **Kind**: it has understood how the other feels.
2. **Helpful**: it says something that can be done.
3. Short beats long where both say the same.

*Equal?* Then say so: a tie is an answer."""


# ---- what there is to see


@dataclass(frozen=True)
class Scene:
    """A page, and what is done on it before the picture is taken."""

    name: str
    says: str
    path: str
    who: str = "lead"
    """lead, rater, judge (who has answers), or nobody."""
    do: Callable[[Any], None] | None = None


def wait(selector: str, page: Any) -> None:
    page.locator(selector).first.wait_for()


def press(keys: str, page: Any) -> None:
    wait("#deck button", page)
    for key in keys.split():
        page.wait_for_timeout(500)
        page.keyboard.press(key)
    page.wait_for_timeout(400)


def speak(page: Any) -> None:
    page.locator("textarea").first.fill("I moved to a new town and know nobody.")
    page.keyboard.press("Control+Enter")
    page.locator(".answer").nth(1).wait_for()
    page.wait_for_timeout(400)


def scroll(text: str, page: Any) -> None:
    page.get_by_text(text).first.evaluate("node => node.scrollIntoView({block: 'start'})")


WORK = partial(wait, "#deck button")
SCENES = (
    Scene("sign-in", "Signing in", "/sign-in", "nobody"),
    Scene("invitation", "What an invitation opens", "{invitation}", "nobody"),
    Scene("projects", "All projects", "/"),
    Scene("new", "A new project", "/projects/new"),
    Scene("overview", "A project at a glance", "/projects/tone"),
    Scene("asking", "What to ask next", "/projects/tone/asking"),
    Scene("items", "Items and their import", "/projects/tone/items"),
    Scene("clips-items", "Sending clips", "/projects/walk/items"),
    Scene("item", "One item, as the lead sees it", "{item}"),
    Scene("people", "People and invitations", "/projects/tone/people"),
    Scene("member", "One member", "{member}"),
    Scene("compare", "Comparing two", "/projects/pairs/rate", "rater", WORK),
    Scene("help", "All keys", "/projects/pairs/rate", "rater", partial(press, "?")),
    Scene("quiz", "The quiz, answered", "/projects/quiz/rate", "rater", partial(press, "1")),
    Scene("warning", "A content warning", "/projects/warned/rate", "rater"),
    Scene("rank", "Ranking", "/projects/rank/rate", "rater", partial(press, "2 1")),
    Scene("rate", "Rating attributes", "/projects/rate/rate", "rater", WORK),
    Scene("thumbs", "Thumbs", "/projects/thumbs/rate", "rater", WORK),
    Scene("write", "Writing a reply", "/projects/write/rate", "rater", WORK),
    Scene("steps", "Labelling steps", "/projects/steps/rate", "rater", partial(press, "1 3")),
    Scene("spans", "Marking spans", "/projects/spans/rate", "rater", WORK),
    Scene("clips", "Comparing clips", "/projects/walk/rate", "rater", WORK),
    Scene("principles", "Voting on principles", "/projects/principles/rate", "rater", WORK),
    Scene("talk", "A talk", "/projects/talk/rate", "rater", speak),
    Scene("pause", "A pause", "/pause/pairs", "rater"),
    Scene("mine", "One's own answers", "/projects/tone/mine", "judge"),
    Scene("me", "One's own account", "/me", "rater"),
    Scene("adjudicate", "What is disputed", "/projects/tone/adjudicate"),
    Scene("flagged", "What raters flagged", "/projects/tone/flagged"),
    Scene("screened", "What a rule left out", "/projects/tone/screened"),
    Scene("statistics", "Statistics", "/projects/tone/statistics"),
    Scene(
        "statistics-raters",
        "Statistics, further down",
        "/projects/tone/statistics?every=yes",
        do=partial(scroll, "Who agrees with whom"),
    ),
    Scene("export", "Taking answers out, and training", "/projects/tone/export"),
    Scene("log", "The log", "/projects/tone/log"),
    Scene("settings", "Settings", "/projects/tone/settings"),
    Scene("api", "The interface for programs", "/api"),
    Scene("error", "A page that is not there", "/projects/nothing"),
)


# ---- a store worth looking at


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (demo.HERE / f"{name}.jsonl").read_text().splitlines()]


def turn(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def payloads() -> dict[str, list[dict[str, Any]]]:
    """Two items of each kind, from the demo's own texts."""
    pairs = rows("comparisons")
    prompts = [turn(one["prompt"]) for one in pairs]
    good = [{"text": one["chosen"], "source": "one"} for one in pairs]
    bad = [{"text": one["rejected"], "source": "two"} for one in pairs]
    many = [good[0], bad[0], {"text": "It will pass."}, {"text": "**Ask them.** Then listen."}]
    together = zip(prompts, good, bad, strict=True)
    steps = ["The train needs 2 hours for 150 km.", "So it does 150 / 2 = 70 km/h.", "70 km/h."]
    return {
        "compare": [{"prompt": p, "answers": [g, b]} for p, g, b in together],
        "rank": [{"prompt": prompts[0], "answers": many}],
        "rate": [{"prompt": prompts[1], "answer": good[1]}],
        "thumbs": [{"prompt": prompts[2], "answer": good[2]}],
        "write": [{"prompt": prompts[3], "draft": bad[3]}],
        "steps": [{"prompt": turn("2 h for 150 km: how fast?"), "steps": steps}],
        "spans": [{"prompt": prompts[4], "answer": good[4]}],
        "principles": [{"principle": "Choose the reply that is *least* likely to hurt somebody."}],
        "talk": [{"policies": ["one", "two"], "role": "user"}],
        "walk": [{"clips": [{"file": f"walk-{n}.png", "media": "image"} for n in (1, 2)]}],
    }


def fill(store: Store, files: Path) -> dict[str, int]:
    """Projects with people in them: the numbers of the lead, a rater, and one with answers."""
    lead = store.people.add(name="Ada Byron", email="ada@example.org", admin=True).id
    rater = store.people.add(name="Grace Murray", email="grace@example.org").id
    kinds = payloads()
    shown = {"pairs": "compare", "warned": "compare", "quiz": "compare", "walk": "clips"}
    plain = [kind for kind in kinds if kind not in ("compare", "walk")]
    for name, kind in {**shown, **dict(zip(plain, plain, strict=True))}.items():
        make(store, name, kind, kinds[name if name in kinds else kind][:8], rater, lead)
    pictures(files / "media" / "walk")
    judged(store, kinds["compare"][:60], kinds["compare"][60:70], lead)
    judge = store.project("tone").members()[1].person
    return {"lead": lead, "rater": rater, "judge": judge}


def make(
    store: Store, name: str, kind: str, items: list[dict[str, Any]], rater: int, lead: int
) -> None:
    settings: dict[str, Any] = {"kind": kind, "title": name.capitalize(), "rubric": RUBRIC}
    settings |= {"scale": 4, "gold_share": 0.0, "calibration": False}
    if name == "warned":
        settings["content_warning"] = "Some of these talk about grief."
    if name == "quiz":
        settings["screening"] = {"questions": 4, "pass_mark": 0.0}
    if kind == "spans":
        settings["span_labels"] = ["kind", "vague", "wrong"]
    project = store.create(name, settings)
    if name == "quiz":
        gold, why = {"choice": "a", "strength": 1}, "It asks **back** before it advises."
        quiz = [NewItem(items.pop(), gold=gold, why=why) for _ in range(4)]
        project.add_items(quiz, purpose="screening")
    project.add_items(items)
    project.enrol(lead, role="admin")
    project.enrol(rater)


def pictures(folder: Path) -> None:
    """Two poses of a walker, drawn."""
    folder.mkdir(parents=True)
    for number, lean in ((1, 30), (2, 90)):
        picture = Image.new("RGB", (480, 320), "#dfe8ef")
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 260, 480, 320), fill="#9fb4a0")
        hip, head = (240, 180), (240 + lean - 30, 90)
        for end in ((240 - lean, 260), (240 + lean, 260), head):
            draw.line((*hip, *end), fill="#2b3a4a", width=12)
        draw.ellipse((head[0] - 22, head[1] - 40, head[0] + 22, head[1] + 4), fill="#2b3a4a")
        picture.save(folder / f"walk-{number}.png")


def judged(
    store: Store, items: list[dict[str, Any]], later: list[dict[str, Any]], lead: int
) -> None:
    """A project that twelve simulated raters have judged, disputed, flagged, left out."""
    project = store.create(
        "tone",
        {
            "kind": "compare",
            "title": "Tone of replies",
            "rubric": RUBRIC,
            "scale": 4,
            "raters_per_item": 5,
            "gold_share": 0.0,
            "calibration": False,
            "adjudicate_below": 0.45,
            "groups": {"language": ["English", "German"]},
        },
    )
    project.enrol(lead, role="admin")
    project.add_items(items, batch="replies")
    simulate(store, project, 12, seed=4)
    project.add_items(later, batch="later")
    alike = [row.id for row in project.items(batch="later")][:3]
    project.drop(alike, reason=f"{prescreen.ORIGIN}{prescreen.SAME}", by=lead)
    member = project.members()[1].person
    for _ in range(2):
        (item,) = project.next(member)
        project.flag(member, item.item_id, reason="Both replies are cut off.")
        project.skip(member, item.item_id)
    project.invite(role="rater", uses=10)


# ---- served and looked at


def look(names: list[str]) -> None:
    sys.path.insert(0, str(HERE.parent))
    from tests.server.chrome import chromium
    from tests.server.echo import echoing
    from tests.server.served import Served, running

    chosen = [scene for scene in SCENES if not names or scene.name in names]
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, echoing() as echo:
        os.environ["BACKFLIP_FEEDBACK"] = f"{folder}/feedback.sqlite"
        store, files = open_store(f"{folder}/feedback.sqlite"), Path(folder) / "files"
        people = fill(store, files)
        policies = {"one": f"{echo}#quiet", "two": f"{echo}#loud"}
        app = create_app(store, ServerSettings(folder=files, endpoints=tuple(policies.items())))
        made = Served(app, store, Path(folder))
        site = made.site
        with running(made) as base, chromium() as browser:
            places = found(store, site, browser, base, people["lead"])
            for scene in chosen:
                four = [
                    shot(browser, base, site, people, scene, places, size, scheme)
                    for size in (DESK, PHONE)
                    for scheme in ("light", "dark")
                ]
                sheet(four).save(PICTURES / f"{scene.name}.webp", quality=78, method=6)
                sys.stdout.write(f"{scene.name}\n")
        site.jobs.close()
        store.close()
    (HERE / "feedback_pages.md").write_text(written())


def found(store: Store, site: Any, browser: Any, base: str, lead: int) -> dict[str, str]:
    """Addresses that are known only now; the statistics are worked out on the way."""
    project = store.project("tone")
    page = browser.new_page()
    page.goto(f"{base}{door(site, lead)}?next=/projects/tone/statistics")
    while any(not job.over for job in site.jobs.every()):
        time.sleep(0.2)
    page.close()
    return {
        "invitation": f"/invitation/{project.invite(role='rater')}",
        "member": f"/projects/tone/people/{project.members()[1].pseudonym}",
        "item": f"/projects/tone/items/{project.items(limit=1)[0].id}",
    }


def shot(
    browser: Any,
    base: str,
    site: Any,
    people: dict[str, int],
    scene: Scene,
    places: dict[str, str],
    size: tuple[int, int],
    scheme: str,
) -> Image.Image:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        has_touch=size == PHONE,
        reduced_motion="reduce",
    )
    page = context.new_page()
    path = scene.path.format(**places)
    if scene.who != "nobody":
        page.goto(f"{base}{door(site, people[scene.who])}?next=/me")
    page.goto(base + path)
    page.wait_for_timeout(300)
    if scene.do:
        scene.do(page)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return taken


def sheet(four: list[Image.Image]) -> Image.Image:
    """Desk light, desk dark, phone light, phone dark, side by side."""
    small = [
        one.resize((round(one.width * SCALE), round(one.height * SCALE)), Image.Resampling.LANCZOS)
        for one in four
    ]
    wide = sum(one.width for one in small) + GAP * (len(small) + 1)
    whole = Image.new("RGB", (wide, max(one.height for one in small) + 2 * GAP), "#8a8f98")
    left = GAP
    for one in small:
        whole.paste(one, (left, GAP))
        left += one.width + GAP
    return whole


def written() -> str:
    head = (
        "# Every page of the feedback server\n\nLight and dark, on a desk and on a phone; made by "
        "`python docs/feedback_pages.py` from simulated answers.\n"
    )
    parts = [f"## {s.says}\n\n![{s.says}](pictures/pages/{s.name}.webp)\n" for s in SCENES]
    return "\n".join([head, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="some pages", metavar="PAGE")
    look(parser.parse_args().names)


if __name__ == "__main__":
    main()
