"""Work of raters in a project: the next item, answers, skips, flags, notes, undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backflip.feedback.projects import administration, reading
from backflip.feedback.rating import allocation, answering, own_work, rater_actions
from backflip.feedback.rating.allocation import Assignment
from backflip.feedback.rating.answering import Given
from backflip.feedback.rating.receipts import Receipt
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.queues import WORK


class ProjectRaters:
    """The work of raters."""

    ref: ProjectRef

    def next(
        self, person: int, *, count: int = 1, queue: str = WORK, hold: Sequence[int] = ()
    ) -> list[Assignment]:
        """Items for a rater: first what they hold already, apart from ``hold``, then new ones.

        ``queue``: work, adjudicate, or golden (the last two for seniors).
        """
        return allocation.next_items(self.ref, person, count=count, queue=queue, hold=hold)

    def answer(
        self,
        person: int,
        item_id: int,
        value: Mapping[str, Any],
        *,
        seconds: float | int | None = None,
        client_key: str | None = None,
        hold: Sequence[int] = (),
        queue: str = WORK,
    ) -> Receipt:
        """Store an answer as displayed; ``client_key`` makes sending it again harmless.

        ``hold``: other items that the page has already, so that ``Receipt.next`` is none of them.
        """
        given = Given(item_id, value, seconds, client_key)
        return answering.answer(self.ref, person, given, hold=hold, queue=queue)

    def skip(
        self, person: int, item_id: int, *, reason: str = "", client_key: str | None = None
    ) -> int:
        """Give an item back without an answer. Returns the event's number, as the next three do."""
        return rater_actions.skip(self.ref, person, item_id, reason=reason, client_key=client_key)

    def flag(
        self, person: int, item_id: int, *, reason: str = "", client_key: str | None = None
    ) -> int:
        """Tell the lead that something is wrong with an item."""
        return rater_actions.flag(self.ref, person, item_id, reason=reason, client_key=client_key)

    def note(self, person: int, item_id: int, text: str, *, client_key: str | None = None) -> int:
        """Keep a remark beside an item."""
        return rater_actions.note(self.ref, person, item_id, words=text, client_key=client_key)

    def undo(self, person: int, *, client_key: str | None = None) -> Assignment:
        """Take back the rater's newest answer; its item comes back in the same order."""
        return rater_actions.undo(self.ref, person, client_key=client_key)

    def holds(self, person: int, item_id: int, *, ever: bool = False) -> bool:
        """Whether an item lies before this rater now; ``ever``: or did before."""
        return reading.holds(self.ref, person, item_id, ever=ever)

    def log_refusal(self, person: int, item_id: int) -> None:
        """Write down that somebody asked for an item that is not theirs."""
        answering.log_refusal(self.ref, person, item_id)

    def why_nothing(self, person: int, *, queue: str = WORK) -> str:
        """Why ``next`` has nothing for a rater, in words for them; empty where it may have."""
        return administration.why_nothing(self.ref, person, queue)

    def own_answers(
        self, person: int, *, words: str = "", before: int = 0, limit: int = 50
    ) -> list[own_work.OwnAnswer]:
        """A rater's own answers as they gave them, the newest first (``own_work``)."""
        return own_work.own_answers(self.ref, person, words=words, before=before, limit=limit)

    def own_progress(self, person: int) -> own_work.OwnProgress:
        """How far a rater is: today, in all, and what is left for them."""
        return own_work.own_progress(self.ref, person)
