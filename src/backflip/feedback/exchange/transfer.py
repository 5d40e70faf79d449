"""Answers that were given elsewhere, taken over as they are: who, what, when, how long.

Each becomes an answer like any other, through the same checks and into the same log. People are
told apart by an address, ``USER@TOOL.invalid``, which no mail can reach, so that the same file
taken over again changes nothing. Sides count as displayed in the document's own order, since such
tools do not shuffle them.

Rows of our own export name a pseudonym and an event. Where this database's log has just that answer
at that event, its person is whose it is; else somebody new gets the pseudonym.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.feedback.exchange.label_studio import RATERS
from backflip.feedback.exchange.moments import AHEAD, FUTURE, moment
from backflip.feedback.exchange.tool_records import Given
from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.identities import SHAPE, Person
from backflip.feedback.projects.people import Roster
from backflip.feedback.projects.project import Project
from backflip.feedback.rating import answering
from backflip.feedback.rating.answering import LONGEST
from backflip.feedback.rating.receipts import Receipt
from backflip.feedback.store.database import insert_into
from backflip.feedback.store.queues import ADJUDICATE
from backflip.feedback.store.schema import Answers, AnyRow, Items, Leases, People
from backflip.feedback.tasks.display import in_displayed_order, in_item_order
from backflip.feedback.tasks.identity import identify
from backflip.feedback.tasks.items import payload_of

OURS = "answers"
"""The name of our own export, as a tool."""
NO_ITEM = "answer to an item that was left out"
OTHER = "another answer of the same person to an item that they had answered; the stored one stands"
TOO_LONG = "more than a day for one answer; it is kept without a duration"
NO_FIRST = "a repeated answer whose first one is not here"
RENAMED = "person whose pseudonym belongs to somebody else here; they have a new one"


class Strangers:
    """People of another tool, as members of a project."""

    def __init__(self, project: Project, tool: str, noted: Tally) -> None:
        self.project, self.tool, self.noted = project, tool, noted
        self.roster = Roster(project.ref.database)
        self.version = project.rubric_version
        self._known: dict[str, Person] = {}

    def person(self, given: Given) -> Person:
        """The member who stands for a user; made where there is none yet."""
        user = given.user
        if user not in self._known:
            address = _address(user, self.tool)
            person = self._proven(given) or self.roster.by_email(address)
            if person is None:
                wished = user if self.tool == OURS and SHAPE.fullmatch(user) else ""
                name = f"{_printable(user)} ({self.tool})"
                person = self.roster.add(name=name, email=address, pseudonym=wished)
                if wished and person.pseudonym != wished:
                    self.noted.add(RENAMED, wished)
            if self.project.member(person.id) is None:
                self.project.enrol(person.id)
                # paused: their answers count, and no item is kept for them
                self.project.set_state(person.id, "paused", reason=f"works in {self.tool}")
            self._known[user] = person
        return self._known[user]

    def _proven(self, given: Given) -> Person | None:
        """Whose answer this is by our own log, which has it under the same number."""
        if self.tool != OURS or not given.event:
            return None
        query = (
            select(People.id, Answers.value, Answers.order, Answers.at)
            .join(People, People.id == Answers.person_id)
            .join(Items, Items.id == Answers.item_id)
            .where(Answers.id == given.event, People.pseudonym == given.user)
        )
        with self.project.ref.database.read() as connection:
            row = connection.execute(query).first()
        if row is None or row.at != given.at:
            return None
        kind = self.project.settings.kind
        said = in_item_order(kind, given.value, given.order or ())
        return self.roster.get(row.id) if said == row.value else None


def _printable(user: str) -> str:
    """A user's name without what no name may hold, at most 80 letters of it."""
    plain = "".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in user)
    return " ".join(plain.split())[:80] or "nameless"


def _address(user: str, tool: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]", "-", user.lower().removesuffix(RATERS))[:40]
    mark = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}.{mark}@{tool.replace('_', '-')}.invalid"


@dataclass(frozen=True)
class Kept:
    """The item of the project that asks the same as a document, perhaps the other way round."""

    number: int
    turned: list[int]
    """Where in it each of the document's answers stands."""


def take_over(
    strangers: Strangers, payload: Payload, given: Sequence[Given], left_out: Tally, where: str
) -> int:
    """Store answers to one item, each once; how many were new. Refused ones are counted."""
    if not given:
        return 0
    kept, count = _kept(strangers.project, payload), 0
    for one in given:
        if kept is None:
            left_out.add(NO_ITEM, where)
            continue
        try:
            receipt = _stored(strangers, kept, one, where)
        except UserError as error:
            left_out.add(str(error), where)
            continue
        count += not receipt.again
        if receipt.again and _differs(strangers.project, kept, receipt, one):
            left_out.add(OTHER, where)
    return count


def _stored(strangers: Strangers, kept: Kept, one: Given, where: str) -> Receipt:
    """One answer through the checks that all answers pass, under its own time."""
    project, noted = strangers.project, strangers.noted
    person = strangers.person(one)
    places = range(len(kept.turned)) if one.order is None else one.order
    order = [kept.turned[place] for place in places] if kept.turned else list(one.order or ())
    key, value = f"import:{strangers.tool}:{kept.number}", one.value
    if one.repeat:
        _show_again(project, person.id, kept.number, order)
        key += ":again"
    else:
        if one.stage == ADJUDICATE and not one.surplus:
            project.to_adjudication([kept.number], reason="as where the answer comes from")
        shown = _show(project, person.id, kept.number, order, one.stage)
        kind = project.settings.kind
        value = in_displayed_order(kind, in_item_order(kind, value, order), shown)
    at, said = _time(strangers, one)
    sent = answering.Given(kept.number, value, one.seconds, key, at)
    receipt = answering.stored(project.ref, person.id, sent)
    if not receipt.again:
        if said:
            noted.add(said, where)
        if one.seconds is not None and not 0 <= one.seconds <= LONGEST:
            noted.add(TOO_LONG, where)
        if one.rubric and one.rubric != strangers.version:
            noted.add(_version(one.rubric, strangers.version), where)
    return receipt


def _version(there: int, here: int) -> str:
    return f"answer under version {there} of the rubric where it comes from, here under {here}"


def _time(strangers: Strangers, one: Given) -> tuple[float | None, str]:
    """When it was given, and what is to be said of that; our own times are what they are."""
    now = strangers.project.ref.database.now()
    ours = strangers.tool == OURS and isinstance(one.at, int | float) and math.isfinite(one.at)
    if not ours:
        return moment(one.at, now)
    return (float(one.at), "") if one.at <= now + AHEAD else (None, FUTURE)


def _differs(project: Project, kept: Kept, receipt: Receipt, one: Given) -> bool:
    """Whether what is stored of this person says something else."""
    stored = next(
        (row for row in project.answers(items=[kept.number]) if row.event == receipt.answer_id),
        None,
    )
    if stored is None:
        return False
    kind = project.settings.kind
    said: dict[str, Any] = in_item_order(kind, one.value, stored.order)
    return any(stored.value.get(name) != value for name, value in said.items() if value)


def _kept(project: Project, payload: Payload) -> Kept | None:
    query = select(Items.id, Items.payload).where(
        Items.project_id == project.id, Items.digest == identify(payload).digest
    )
    with project.ref.database.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    return Kept(row.id, _turned(payload_of(row.payload, payload.kind), payload))


def _turned(stored: Payload, displayed: Payload) -> list[int]:
    """Where in the stored item each of the document's answers stands; empty: there are no sides."""
    there, here = _sides(stored), _sides(displayed)
    return [there.index(side) for side in here]


def _sides(payload: Payload) -> list[str]:
    kind = kind_of(payload.kind)
    return [kind.side_text(side) for side in kind.sides_of(payload)]


def _show(
    project: Project, person: int, item: int, order: Sequence[int], stage: str
) -> Sequence[int]:
    """The trace of a showing, so that the answer is in the right hands. It holds no place.

    Returns the order that was shown: another one where they have had the item here before.
    """
    database, now = project.ref.database, project.ref.database.now()
    row = {
        "person_id": person,
        "item_id": item,
        "project_id": project.id,
        "order": list(order),
        "seed": 0,
        "stage": stage,
        "state": "expired",
        "shown": now,
        "expires": now,
        "repeat_of": None,
    }
    new = insert_into(Leases, database.embedded).values(row)
    with database.write(durable=False) as connection:
        connection.execute(new.on_conflict_do_nothing(index_elements=["person_id", "item_id"]))
        mine = (Leases.person_id == person, Leases.item_id == item)
        return connection.scalars(select(Leases.order).where(*mine)).one()


def _show_again(project: Project, person: int, item: int, order: Sequence[int]) -> None:
    """The trace of a second showing of what was answered. Raises UserError where it was not."""
    mine = (Answers.item_id == item, Answers.person_id == person, Answers.undone.is_(None))
    lease = (Leases.item_id == item, Leases.person_id == person)
    with project.ref.database.write(durable=False) as connection:
        query = select(Answers.id, Answers.repeat_of).where(*mine).order_by(Answers.id)
        rows: Sequence[AnyRow] = connection.execute(query).all()
        first = next((row.id for row in rows if row.repeat_of is None), None)
        if first is None:
            raise UserError(NO_FIRST)
        if not any(row.repeat_of for row in rows):
            shown = {"state": "expired", "repeat_of": first, "order": list(order)}
            connection.execute(update(Leases).where(*lease).values(**shown))
