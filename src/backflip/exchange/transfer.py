"""Answers that were given elsewhere, taken over as they are: who, what, how long.

Each becomes an answer like any other, through the same checks and into the same log. People are
told apart by an address, ``USER@TOOL.invalid``, which no mail can reach, so that the same file
taken over again changes nothing. Sides count as displayed in the document's own order, since such
tools do not shuffle them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from sqlalchemy import select

from backflip.data.errors import UserError
from backflip.data.records import Tally
from backflip.exchange.foreign import Given
from backflip.feedback.database import insert_into
from backflip.feedback.identity import identify
from backflip.feedback.people import Person, Roster
from backflip.feedback.projects import Project
from backflip.feedback.schema import Items, Leases
from backflip.feedback.tasks import Compare, Payload, Rank, payload_of


class Strangers:
    """People of another tool, as members of a project."""

    def __init__(self, project: Project, tool: str) -> None:
        self.project, self.tool = project, tool
        self.roster = Roster(project.scope.database)
        self._known: dict[str, Person] = {}

    def person(self, user: str) -> Person:
        """The member who stands for a user; made where there is none yet."""
        if user not in self._known:
            address = _address(user, self.tool)
            found = self.roster.by_email(address)
            person = found or self.roster.add(name=f"{user[:80]} ({self.tool})", email=address)
            member = self.project.member(person.id)
            if member is None:
                self.project.enrol(person.id)
                # paused: their answers count, and no item is kept for them
                self.project.set_state(person.id, "paused", reason=f"works in {self.tool}")
            self._known[user] = person
        return self._known[user]


def _address(user: str, tool: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]", "-", user.lower().removesuffix("@raters.invalid"))[:40]
    mark = hashlib.sha256(user.encode()).hexdigest()[:8]
    return f"{plain}.{mark}@{tool.replace('_', '-')}.invalid"


def take_over(
    strangers: Strangers, payload: Payload, given: Sequence[Given], left_out: Tally
) -> int:
    """Store answers to one item, each once; how many were new. What is refused is counted."""
    project, count = strangers.project, 0
    kept = _kept(project, payload) if given else None
    if kept is None:
        return 0
    number, stored = kept
    for one in given:
        person = strangers.person(one.user)
        _show(project, person.id, number, _order(stored, payload))
        key = f"import:{strangers.tool}:{number}"
        try:
            receipt = project.answer(
                person.id, number, one.value, seconds=one.seconds, client_key=key
            )
        except UserError as error:
            left_out.add(str(error), f"item {number}")
        else:
            count += not receipt.again
    return count


def _kept(project: Project, payload: Payload) -> tuple[int, Payload] | None:
    """The item of the project that asks the same, perhaps the other way round."""
    query = select(Items.id, Items.payload).where(
        Items.project_id == project.id, Items.digest == identify(payload).digest
    )
    with project.scope.database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else (row.id, payload_of(row.payload, payload.kind))


def _order(stored: Payload, displayed: Payload) -> list[int]:
    """Where in the stored item each of the document's answers stands."""
    if not isinstance(stored, Compare | Rank) or not isinstance(displayed, Compare | Rank):
        return []
    texts = [answer.text.strip() for answer in stored.answers]
    return [texts.index(answer.text.strip()) for answer in displayed.answers]


def _show(project: Project, person: int, item: int, order: Sequence[int]) -> None:
    """The trace of a showing, so that the answer is in the right hands. It holds no place."""
    database, now = project.scope.database, project.scope.database.now()
    row = {
        "person_id": person,
        "item_id": item,
        "project_id": project.id,
        "order": list(order),
        "seed": 0,
        "stage": "work",
        "state": "expired",
        "shown": now,
        "expires": now,
        "repeat_of": None,
    }
    new = insert_into(Leases, database.embedded).values(row)
    with database.write(durable=False) as connection:
        connection.execute(new.on_conflict_do_nothing(index_elements=["person_id", "item_id"]))
