"""The quiz at the door, and the rolling accuracy on gold that warns and then pauses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from backflip.feedback.store import events
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.schema import Items, Memberships

MEMORY = 200
"""Gold answers that a membership remembers at most."""
PRIOR_RIGHT, PRIOR_SEEN = 8.0, 10.0
"""Beta prior of a rater before any gold: right 8 times in 10."""


@dataclass(frozen=True)
class Feedback:
    """Feedback after a question of the quiz or of the calibration."""

    correct: bool
    expected: dict[str, Any]
    """The right answer, as this rater would have given it: in displayed order."""
    why: str
    right: int = 0
    """Right answers in the quiz so far."""
    asked: int = 0
    questions: int = 0
    """Of the whole quiz; 0 outside it."""


@dataclass(frozen=True)
class Verdict:
    """Consequence of an answer with a known truth for its rater's membership."""

    recent: tuple[int, ...]
    state: str
    reason: str = ""
    warned: bool = False
    notice: str = ""
    """For the rater; empty: nothing to say."""
    marks: tuple[int, ...] = ()
    """All marks of a quiz that is over: the membership forgets them, the log does not."""


def questions(connection: Connection, ref: ProjectRef, member: Member) -> int:
    """Questions of the quiz: what the settings say, or as many as there are."""
    if member.settings.screening is None:
        return 0
    there = connection.scalar(
        select(func.count()).where(Items.project_id == ref.id, Items.queue == "screening")
    )
    return min(member.settings.screening.questions, there or 0)


def after_question(member: Member, correct: bool, asked_for: int) -> Verdict:
    """The quiz goes on, opens the project, or ends in a pause."""
    recent = (*member.recent, int(correct))
    if member.settings.screening is None or len(recent) < asked_for:
        return Verdict(recent, "screening")
    right, mark = sum(recent), member.settings.screening.pass_mark
    if right >= mark * len(recent) - 1e-9:
        notice = f"Passed with {right} of {len(recent)} right. The project is open to you."
        return Verdict((), "active", notice=notice, marks=recent)
    notice = (
        f"{right} of {len(recent)} were right; {mark:.0%} are needed. "
        "The lead of the project can let you try again."
    )
    return Verdict(recent, "paused", reason="screening", notice=notice)


def after_gold(member: Member, correct: bool) -> Verdict:
    """Rolling accuracy over the newest gold answers: first a warning, then a pause.

    Nothing happens before half a window has been seen.
    """
    settings = member.settings
    recent = (*member.recent, int(correct))[-settings.gold_window :]
    share = sum(recent) / len(recent)
    if member.state != "active" or len(recent) < max(2, settings.gold_window // 2):
        return Verdict(recent, member.state, member.reason, member.warned)
    if share < settings.gold_pause:
        notice = (
            "Your answers differ too often from those that are known to be right. You are paused; "
            "please read the rubric again and talk to the lead of the project."
        )
        return Verdict(recent, "paused", "gold", warned=True, notice=notice)
    if share < settings.gold_warn:
        notice = (
            ""
            if member.warned
            else (
                "Some of your answers differ from those that are known to be right. "
                "Please read the rubric and its examples again."
            )
        )
        return Verdict(recent, "active", warned=True, notice=notice)
    return Verdict(recent, "active", warned=False)


def reliability(recent: tuple[int, ...] | list[int], estimated: float | None) -> float:
    """P(a rater is right): as the statistics estimated it, or gold answers with a prior."""
    if estimated is not None:
        return estimated
    return (sum(recent) + PRIOR_RIGHT) / (len(recent) + PRIOR_SEEN)


def carry_out(connection: Connection, ref: ProjectRef, member: Member, verdict: Verdict) -> None:
    """Write a verdict down; changes of state are events."""
    connection.execute(
        update(Memberships)
        .where(Memberships.person_id == member.person, Memberships.project_id == ref.id)
        .values(
            recent=list(verdict.recent[-MEMORY:]),
            state=verdict.state,
            reason=verdict.reason,
            warned=verdict.warned,
        )
    )
    kind = "warned" if verdict.warned and not member.warned else ""
    if verdict.state != member.state:
        kind = "paused" if verdict.state == "paused" else "admitted"
    if kind:
        recent = verdict.marks or (*member.recent, *verdict.recent[-1:])
        body = {"reason": verdict.reason, "recent": list(recent)}
        new = NewEvent(kind, member.person, body=body, version=member.version)
        events.append(connection, ref.database, ref.id, new)
