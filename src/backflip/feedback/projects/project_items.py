"""Items of a project: added, put in order, dropped, flagged, read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backflip.feedback.kinds.fields import Payload
from backflip.feedback.projects import administration, flags, reading
from backflip.feedback.rating import items
from backflip.feedback.rating.items import Added, Batch, Check, NewItem
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.queues import Purpose


class ProjectItems:
    """The items of a project."""

    ref: ProjectRef

    def add_items(
        self,
        payloads: Iterable[Payload | dict[str, Any] | NewItem],
        *,
        origin: str = "given",
        priority: float | int = 0.0,
        gold: Iterable[dict[str, Any] | None] | None = None,
        batch: str = "",
        purpose: Purpose | None = None,
        strict: bool = True,
        check: Check | None = None,
    ) -> Added:
        """Store items, each once (``items.Batch`` says what the arguments mean)."""
        common = Batch(origin, priority, batch, purpose, strict=strict, check=check)
        return items.add(self.ref, payloads, gold, common)

    def prioritise(
        self,
        priorities: Mapping[int, float | int],
        *,
        origin: str | None = None,
        by: int | None = None,
    ) -> int:
        """New priorities for items that wait, and the arm they belong to; how many changed."""
        return administration.prioritise(self.ref, priorities, origin, by)

    def drop(self, item_ids: Sequence[int], *, reason: str = "", by: int | None = None) -> int:
        """Ask these no more. Their answers stay."""
        return administration.set_state(self.ref, item_ids, "dropped", reason, by)

    def reopen(self, item_ids: Sequence[int], *, reason: str = "", by: int | None = None) -> int:
        """Ask these again, for at least one answer more."""
        return administration.set_state(self.ref, item_ids, "open", reason, by)

    def to_adjudication(
        self, item_ids: Sequence[int], *, reason: str = "", by: int | None = None
    ) -> int:
        """Let an adjudicator decide."""
        return administration.set_state(self.ref, item_ids, "adjudicate", reason, by)

    def settle_flags(
        self,
        item_id: int,
        *,
        keep: bool,
        warning: str | None = None,
        reason: str = "",
        by: int | None = None,
    ) -> None:
        """Be done with what raters flagged: keep or drop it (``flags.settle``)."""
        flags.settle(self.ref, item_id, keep=keep, warning=warning, reason=reason, by=by)

    def warn(self, item_id: int, warning: str, *, by: int | None = None) -> None:
        """Put a content warning before an item, or (empty) take it away."""
        flags.warn(self.ref, item_id, warning, by=by)

    def flagged(self) -> int:
        """How many items have flags that nobody has settled."""
        return flags.waiting(self.ref)

    def items(
        self,
        *,
        state: str | None = None,
        batch: str | None = None,
        purpose: str | None = None,
        ids: Sequence[int] | None = None,
        text: str = "",
        after: int = 0,
        newest: bool = False,
        limit: int = 100,
    ) -> list[reading.ItemRow]:
        """A page of items in the order of their numbers, or (``newest``) from the end.

        ``after``: the number with which the page before it ended; 0: the first page.
        """
        which = reading.Which(state, batch, purpose, ids=ids, text=text)
        return reading.items(self.ref, which, after=after, newest=newest, limit=limit)

    def item(self, item_id: int) -> reading.ItemRow:
        """One item. Raises RefusedError where the project has none of this number."""
        return reading.item(self.ref, item_id)

    def flagged_items(self, *, limit: int = 100) -> list[reading.ItemRow]:
        """Items with flags that nobody has settled, by number."""
        return reading.items(self.ref, reading.Which(flagged=True), limit=limit)
