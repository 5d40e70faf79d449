"""Acknowledgements of answers: feedback where it is due, notices, second arrivals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from backflip.feedback.rating import screening
from backflip.feedback.rating.allocation import Assignment
from backflip.feedback.rating.screening import Feedback
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import AnyRow
from backflip.feedback.tasks.display import in_displayed_order


@dataclass(frozen=True)
class Receipt:
    """An acknowledgement: what it names is on the disk."""

    answer_id: int
    """The number of the answer and of its event."""
    next: Assignment | None = None
    """The next item, so that the page need not ask."""
    feedback: Feedback | None = None
    """In the quiz and in the calibration."""
    notice: str = ""
    """Something to tell the rater: a warning, a pause, a passed quiz."""
    again: bool = False
    """Whether it had arrived before."""
    surplus: bool = False
    """Whether the item wanted no more answers; it is kept all the same."""


@dataclass(frozen=True)
class Judged:
    """An answer that has been checked, in the item's own order, with its consequences."""

    value: dict[str, Any]
    seconds: float | None
    correct: bool | None
    repeat_of: int | None
    surplus: bool
    late: bool
    at: float | None


def receipt_of(
    connection: Connection,
    ref: ProjectRef,
    member: Member,
    row: AnyRow,
    judged: Judged,
    number: int,
) -> Receipt:
    """Feedback where it is due, and what the answer does to the membership."""
    correct, notice = judged.correct, ""
    if correct is not None and row.stage == "screening" and member.state == "screening":
        quiz = screening.questions(connection, ref, member)
        verdict = screening.after_question(member, correct, quiz)
        screening.carry_out(connection, ref, member, verdict)
        recent = (*member.recent, int(correct))
        feedback = _feedback(member, row, correct, sum(recent), len(recent), quiz)
        return Receipt(number, feedback=feedback, notice=verdict.notice)
    feedback = None
    if correct is not None and row.purpose == "gold":
        verdict = screening.after_gold(member, correct)
        screening.carry_out(connection, ref, member, verdict)
        notice = verdict.notice
    elif correct is not None:
        feedback = _feedback(member, row, correct)
    return Receipt(number, feedback=feedback, notice=notice, surplus=judged.surplus)


def _feedback(
    member: Member, row: AnyRow, correct: bool, right: int = 0, asked: int = 0, of: int = 0
) -> Feedback:
    expected = in_displayed_order(member.settings.kind, row.gold, row.order)
    return Feedback(correct, expected, row.why, right, asked, of)


def repeated(member: Member, row: AnyRow, before: AnyRow) -> Receipt:
    """The acknowledgement of something that had arrived before."""
    if before.item_id != row.id:
        raise RefusedError(
            "conflict", "this client key was used for another item; make a new key for each answer."
        )
    feedback = None
    if row.stage in ("screening", "calibration") and "correct" in before.body:
        feedback = _feedback(
            member, row, before.body["correct"], sum(member.recent), len(member.recent)
        )
    number = before.body.get("first", before.id)
    surplus = bool(before.body.get("surplus"))
    return Receipt(number, feedback=feedback, again=True, surplus=surplus)
