"""The rater's page in a real browser: each kind by keys, feedback, undo, refusals, lost replies.

One server and one browser serve all of these; each test has a project and a rater of its own.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from backflip.feedback.projects.project import Project
from tests.server.chrome import press
from tests.server.hall import Hall, ask, saved, values
from tests.server.served import pairs

UNDONE = "Your last answer was taken back"


def take_back(page: Any) -> None:
    saved(page)
    press(page, "u")
    page.get_by_text(UNDONE).wait_for()


# ---- each kind by keys

ANSWERED = {
    "rate": (
        {"prompt": ask(), "answer": {"text": "So."}},
        ["3", "7", "1", "Enter"],
        {"ratings": {"helpful": 3, "honest": 7, "harmless": 1}, "reason": ""},
    ),
    "thumbs": (
        {"prompt": ask(), "answer": {"text": "So."}},
        ["ArrowRight"],
        {"up": True, "reason": ""},
    ),
    "write": (
        {"prompt": ask()},
        ["e", "S", "o", ".", "Control+Enter"],
        {"text": "So.", "from_draft": False},
    ),
    "steps": (
        {"prompt": ask(), "steps": ["1 + 1 = 2", "2 + 1 = 4"]},
        ["1", "3", "Enter"],
        {"labels": [1, -1], "reason": ""},
    ),
    "spans": (
        {"prompt": ask(), "answer": {"text": "🎭 rude word."}},
        ["ArrowRight", "Shift+ArrowRight", "2", "Enter"],
        {"spans": [{"start": 2, "end": 11, "label": "rude"}], "reason": ""},
    ),
    "rank": (
        {"prompt": ask(), "answers": [{"text": "One."}, {"text": "Two."}, {"text": "Three."}]},
        ["2", "1", "t", "Enter"],
        None,
    ),
    "principles": ({"principle": "Be kind."}, ["3"], {"vote": "agree"}),
}
"""An item, keys that answer it, and the answer; of a ranking the order hangs on what is shown."""


@pytest.mark.parametrize("kind", ANSWERED)
def test_a_kind_is_answered_by_keys_and_what_was_entered_outlives_an_undo(hall: Hall, kind: str):
    """Sending again after an undo needs no key but the last: the work is there."""
    item, keys, value = ANSWERED[kind]
    other = json.loads(json.dumps(item).replace("Why?", "And then?").replace("kind.", "brief."))
    labels = ["false", "rude"] if kind == "spans" else []
    project = hall.project([item, other], kind=kind, span_labels=labels)
    page = hall.sit(project)
    page.wait_for_timeout(450)
    for key in keys:
        page.keyboard.press(key)
    (first,) = values(project, 1)
    assert value is None or first == value
    take_back(page)
    assert values(project) == []
    if kind == "write":
        press(page, "e")
    press(page, keys[-1])
    assert values(project, 1) == [first]
    page.wait_for_timeout(450)
    for key in keys:  # the other item begins with nothing
        page.keyboard.press(key)
    page.get_by_text("Nothing left to do").wait_for()
    assert len(values(project, 2)) == 2


def test_a_note_and_a_skip_with_its_reason_reach_the_log(hall: Hall):
    project = hall.project(pairs(2), kind="compare")
    page = hall.sit(project)
    press(page, "n")
    page.get_by_label("Your words").fill("Both are odd.")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Noted").wait_for()
    asked = page.locator(".prompt").inner_text()
    press(page, "s")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("1")
    page.get_by_text(asked.splitlines()[-1], exact=True).wait_for(state="hidden")
    press(page, "1")
    page.get_by_text("Nothing left to do").wait_for()
    said = {event.kind: event.body for event in project.events(kinds=["note", "skip"])}
    assert said["note"]["text"] == "Both are odd."
    assert said["skip"]["reason"] == "I lack the knowledge"


def test_a_talk_with_an_edited_reply_is_there_again_after_an_undo(hall: Hall):
    talk = {"policies": ["loud"], "role": "user", "rules": ["Stay calm."]}
    project = hall.project([talk, {**talk, "opening": ask("Hm.")}], kind="talk", order="given")
    page = hall.sit(project)
    page.get_by_label("Your message").fill("hello")
    page.keyboard.press("Enter")
    page.get_by_text("HELLO", exact=True).wait_for()
    page.get_by_role("button", name="Edit the last reply").click()
    page.get_by_label("What the reply should have been").fill("Hello to you, too.")
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name="Finish").click()
    page.get_by_role("radio", name="Broken").check(force=True)
    press(page, "Enter")
    (first,) = values(project, 1)
    assert first["turns"][-1]["candidates"] == ["HELLO"]
    assert first["turns"][-1]["content"] == "Hello to you, too."
    assert first["verdicts"] == {"Stay calm.": "broken"}
    page.get_by_text("HM.", exact=True).wait_for()  # the next talk, whose field takes keys
    page.locator("#question").click()
    take_back(page)
    page.get_by_text("Hello to you, too.").wait_for()
    page.get_by_role("button", name="Finish").click()
    page.wait_for_timeout(450)
    page.get_by_role("button", name="Send").click()
    assert values(project, 1) == [first]


def test_a_talk_can_be_begun_anew(hall: Hall):
    project = hall.project([{"policies": ["loud"], "role": "user"}], kind="talk")
    page = hall.sit(project)
    page.on("dialog", lambda dialog: dialog.accept())
    for words in ("hello", "once more"):
        page.get_by_label("Your message").fill(words)
        page.keyboard.press("Enter")
        page.get_by_text(words.upper(), exact=True).wait_for()
        if words == "hello":
            page.get_by_role("button", name="Begin anew").click()
            page.get_by_text("HELLO", exact=True).wait_for(state="hidden")
    page.get_by_role("button", name="Finish").click()
    page.get_by_text("Nothing left to do").wait_for()
    assert [turn["content"] for turn in values(project)[0]["turns"]] == ["once more", "ONCE MORE"]


# ---- feedback


def test_calibration_goes_on_after_each_feedback(hall: Hall):
    """Two agreed examples lie before the rater: the second waits for the first's feedback."""
    project = hall.project(pairs(1), kind="compare", calibration=True)
    gold: list[dict[str, Any]] = [{"choice": "a", "strength": 1}] * 2
    project.add_items(pairs(3)[1:], gold=gold, purpose="calibration")
    page = hall.sit(project)
    for _ in range(2):
        page.locator(".answer .body").first.wait_for()
        press(page, "1")
        page.get_by_text("Our answer").wait_for()
        assert page.locator(".answer").count() == 2  # the question stays in view …
        press(page, "1")  # … and is answered once
        page.keyboard.press("Enter")
    page.get_by_text("Question 0").wait_for()
    assert not page.get_by_text("Our answer").count()
    press(page, "1")
    page.get_by_text("Nothing left to do").wait_for()
    assert len(values(project)) == 3


def test_work_after_the_quiz_is_work_at_once(hall: Hall):
    """No reload between them: the tag goes, skipping is offered, answers need no connection."""
    screening = {"questions": 2, "pass_mark": 0.0}
    project = hall.project(pairs(4), kind="compare", screening=screening)
    quiz = [{**one, "prompt": ask(f"Quiz {n}")} for n, one in enumerate(pairs(6)[4:])]
    gold: list[dict[str, Any]] = [{"choice": "a", "strength": 1}] * 2
    project.add_items(quiz, gold=gold, purpose="screening")
    page = hall.sit(project)
    tag, skip = page.locator("#mode"), page.locator("#skip")
    for number in range(2):
        page.locator(".answer .body").first.wait_for()
        assert tag.inner_text() == "Quiz"
        assert not skip.is_visible()
        press(page, "s")
        page.get_by_text("cannot be skipped").wait_for()
        press(page, "1")
        page.get_by_text(f"Question {number + 1} of 2").wait_for()
        if number:
            with page.expect_response(lambda response: "/next" in response.url):
                page.keyboard.press("Enter")
        else:
            page.keyboard.press("Enter")
    page.get_by_text("The project is open to you").wait_for()
    assert not tag.is_visible()
    assert skip.is_visible()
    page.context.set_offline(True)
    asked = page.locator(".prompt").inner_text()
    press(page, "1")
    page.get_by_text("1 answer waits").wait_for()
    assert page.locator(".prompt").inner_text() != asked
    page.context.set_offline(False)
    for _ in range(3):
        asked = page.locator(".prompt").inner_text()
        press(page, "1")
        page.get_by_text(asked.splitlines()[-1], exact=True).wait_for(state="hidden")
    page.get_by_text("Nothing left to do").wait_for()
    assert project.overview().answers == 4


# ---- what goes wrong


def test_a_refused_answer_comes_back_with_what_was_written(hall: Hall):
    project = hall.project([{"prompt": ask(f"Why {n}?")} for n in range(2)], kind="write")
    page = hall.sit(project)
    asked = page.locator(".prompt").inner_text()
    refusal = json.dumps({"detail": "not today.", "code": "refused"})
    page.route("**/answers*", lambda route: route.fulfill(status=422, body=refusal))
    page.get_by_label("Your reply").fill("Three hundred words.")
    page.wait_for_timeout(450)
    page.keyboard.press("Control+Enter")
    page.get_by_text("was not taken: not today.").wait_for()
    page.unroute("**/answers*")
    assert page.get_by_label("Your reply").input_value() == ""
    page.get_by_label("Your reply").fill("Few.")
    press(page, "Control+Enter")
    page.get_by_text(asked.splitlines()[-1], exact=True).wait_for()
    assert page.get_by_label("Your reply").input_value() == "Three hundred words."
    page.get_by_label("Your reply").focus()
    press(page, "Control+Enter")
    page.get_by_text("Nothing left to do").wait_for()
    assert [value["text"] for value in values(project)] == ["Few.", "Three hundred words."]


@pytest.mark.parametrize(
    ("status", "said"), [(200, "waits for"), (404, "waits for"), (403, "Signed out")]
)
def test_a_page_of_somebody_elses_takes_no_answer_away(hall: Hall, status: int, said: str):
    """A network that wants a sign-in answers everything with its own page, and often with 200."""
    project = hall.project(pairs(3), kind="compare")
    page = hall.sit(project)
    door = {"status": status, "content_type": "text/html", "body": "<h1>Welcome to our hotel</h1>"}
    page.route("**/answers*", lambda route: route.fulfill(**door))
    press(page, "1")
    page.locator("#status", has_text=said).wait_for()
    assert values(project) == []
    page.unroute("**/answers*")
    if status == 403:  # signing in comes back to this page
        page.reload()
    saved(page)
    page.wait_for_timeout(1500)
    assert len(values(project, 1)) == 1


@pytest.fixture
def two_answers(hall: Hall) -> tuple[Project, Any]:
    """A rater who has answered two of four items."""
    project = hall.project(pairs(4), kind="compare")
    page = hall.sit(project)
    press(page, "1")
    saved(page)
    press(page, "1")
    saved(page)
    page.wait_for_timeout(450)
    return project, page


def test_two_quick_keys_take_one_answer_back(two_answers: tuple[Project, Any]):
    project, page = two_answers
    page.keyboard.press("u")
    page.keyboard.press("u")
    page.get_by_text(UNDONE).wait_for()
    page.wait_for_timeout(300)
    assert len(values(project, 1)) == 1


def test_an_undo_whose_reply_was_lost_takes_one_answer_back(two_answers: tuple[Project, Any]):
    project, page = two_answers

    def lose(route: Any) -> None:
        route.fetch()
        route.abort()

    page.route("**/undo*", lose)
    page.keyboard.press("u")
    page.get_by_text("No connection").wait_for()
    assert len(values(project, 1)) == 1
    page.unroute("**/undo*")
    page.keyboard.press("u")
    page.get_by_text(UNDONE).wait_for()
    assert len(values(project, 1)) == 1
