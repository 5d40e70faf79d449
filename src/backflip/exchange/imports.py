"""Files and other data sources → items of a project, row by row, each accounted for.

A row may be
    an item of ours, as it is or in ``payload``, with ``gold``, ``why``, ``priority``, ``route``;
    a record of Argilla's or a task of Label Studio's, whose answers are taken over too;
    anything that Backflip trains on: comparisons are compared or ranked, answers rated, called good
    or bad, marked, made better; prompts are answered.
Nothing is held but a few hundred rows, so the size of a file does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from backflip.data.errors import UserError
from backflip.data.formats import detect
from backflip.data.records import BadRecordError, Tally
from backflip.data.sources import Row, read
from backflip.exchange import argilla, label_studio
from backflip.exchange.foreign import KINDS, Document, Given
from backflip.exchange.item_rows import converted, is_own, own
from backflip.exchange.transfer import Strangers, take_over
from backflip.feedback.items import Added, NewItem
from backflip.feedback.projects import Project
from backflip.feedback.queues import EVERYBODY, Purpose
from backflip.feedback.settings import ProjectSettings
from backflip.feedback.tasks import Payload, payload_of, value_of

CHUNK = 500
"""Rows that are stored in one go."""
TOOLS = {
    "argilla": (argilla.is_record, argilla.read),
    "label_studio": (label_studio.is_task, label_studio.read),
}


@dataclass(frozen=True)
class Incoming:
    """A row on its way in."""

    where: str
    item: NewItem
    given: tuple[Given, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass
class Imported:
    """What became of a source."""

    source: str
    format: str
    rows: int = 0
    added: int = 0
    duplicates: int = 0
    """In the project already."""
    twins: int = 0
    """Two of the answers are the same."""
    answers: int = 0
    """Taken over from another tool."""
    left_out: Tally = field(default_factory=Tally)
    """Rows, and answers within rows, by reason."""

    def lines(self) -> list[str]:
        """All of it, a sentence each."""
        items = "item" if self.added == 1 else "items"
        found = [f"{self.source}: {self.added} {items} added, format {self.format}"]
        counts = (
            (self.answers, "answers taken over"),
            (self.duplicates, "left out: items that the project has already"),
            (self.twins, "left out: items whose answers are the same"),
        )
        found += [f"{what}: {count}" for count, what in counts if count]
        return found + [f"left out: {line}" for line in self.left_out.lines()]


@dataclass(frozen=True)
class Wishes:
    """How a source is taken in."""

    gold: bool = False
    """Whether the preference or label in the data is the right answer, and becomes gold."""
    answers: bool = True
    """Whether answers given in another tool are taken over."""
    strict: bool = True
    """Whether the first bad row ends the import; else it is counted and left out."""
    limit: int | None = None
    origin: str = "given"
    priority: float = 0.0
    batch: str = ""
    purpose: Purpose | None = None
    route: str = ""


def take_in(project: Project, source: str, wishes: Wishes | None = None) -> Imported:
    """Import a data source into a project.

    Raises:
        UserError: the source cannot be read, its columns fit no kind; with ``strict`` the first bad
            row, by file and line. Whole chunks before it are stored; importing again does no harm.

    """
    wishes = wishes or Wishes()
    settings = project.settings
    done = Imported(source, "")
    rows = read(source, limit=wishes.limit, broken=None if wishes.strict else done.left_out)
    incoming = _incoming(rows, settings, wishes, done)
    strangers: Strangers | None = None
    while chunk := list(itertools.islice(incoming, CHUNK)):
        _count(done, _store(project, chunk, wishes))
        if done.format in TOOLS and wishes.answers:
            strangers = strangers or Strangers(project, done.format)
            for one in chunk:
                payload: Any = one.item.payload
                done.answers += take_over(strangers, payload, one.given, done.left_out)
    if not done.rows and not done.left_out.total:
        raise UserError(f"{source} is empty: write one row a line")
    return done


def items(
    source: str, settings: ProjectSettings, wishes: Wishes | None = None
) -> Iterator[NewItem]:
    """Items of a source in its order, without what was answered elsewhere; for previews."""
    wishes = wishes or Wishes()
    done = Imported(source, "")
    rows = read(source, limit=wishes.limit, broken=None if wishes.strict else done.left_out)
    return (one.item for one in _incoming(rows, settings, wishes, done))


def _store(project: Project, chunk: list[Incoming], wishes: Wishes) -> Added:
    purpose = wishes.purpose
    return project.add_items(
        [one.item for one in chunk],
        origin=wishes.origin,
        priority=wishes.priority,
        batch=wishes.batch,
        purpose=purpose,
        route=wishes.route,
        strict=wishes.strict,
    )


def _count(done: Imported, added: Added) -> None:
    done.added += added.count
    done.duplicates += added.duplicates
    done.twins += added.twins
    done.left_out.update(added.refused)


def _incoming(
    rows: Iterator[Row], settings: ProjectSettings, wishes: Wishes, done: Imported
) -> Iterator[Incoming]:
    """Rows as items, checked, so that a fault is named by file and line."""
    first = next(rows, None)
    if first is None:
        return
    done.format, reader = _reader(first, settings, wishes)
    for row in itertools.chain([first], rows):
        done.rows += 1
        try:
            for one in reader(row):
                yield _checked(one, settings, wishes)
                for fault in one.faults:
                    done.left_out.add(fault, row.where)
        except BadRecordError as error:
            if wishes.strict:
                raise UserError(f"{row.where}: {error}") from error
            done.left_out.add(error.reason, row.where)
        except UserError as error:
            if wishes.strict:
                raise
            done.left_out.add(str(error).removeprefix(f"{row.where}: "), row.where)


Reader = Callable[[Row], Iterator[Incoming]]


def _reader(first: Row, settings: ProjectSettings, wishes: Wishes) -> tuple[str, Reader]:
    """What the first row is, and how all are read."""
    kind, source = settings.kind, first.where.source
    name = next((name for name, (fits, _) in TOOLS.items() if fits(first.fields)), None)
    if name is not None:
        if kind not in KINDS:
            raise UserError(
                f"{source} comes from {name}, which has nothing like {kind!r}; make a project of "
                f"kind {', '.join(KINDS)}."
            )
        tool = TOOLS[name][1]
        return name, lambda row: _document(row, tool(row.fields, settings), wishes)
    if is_own(first.fields, kind):
        return "items", lambda row: iter(
            [Incoming(str(row.where), own(row.fields, kind, str(row.where)))]
        )
    chosen = detect(first.fields, source)
    make = converted(chosen, settings, source)

    def convert(row: Row) -> Iterator[Incoming]:
        for item in make(row, wishes.gold or wishes.purpose in EVERYBODY):
            yield Incoming(str(row.where), item)

    return chosen.name, convert


def _document(row: Row, document: Document, wishes: Wishes) -> Iterator[Incoming]:
    golden = document.gold if wishes.gold or wishes.purpose in EVERYBODY else None
    given = document.given
    if document.gold is not None and golden is None:
        given = (*given, Given("ground truth", document.gold))
    yield Incoming(str(row.where), NewItem(document.payload, gold=golden), given, document.faults)


def _checked(one: Incoming, settings: ProjectSettings, wishes: Wishes) -> Incoming:
    """With the payload as a model. Raises UserError that names the place."""
    item = one.item
    payload: Payload = payload_of(item.payload, settings.kind, one.where)
    if item.gold is not None:
        value_of(item.gold, payload, settings, f"{one.where}, gold")
    if item.gold is None and wishes.purpose in EVERYBODY:
        raise UserError(
            f"{one.where}: items for {wishes.purpose} need a known answer; add a column gold."
        )
    made = replace(item, payload=payload)
    return Incoming(one.where, made, one.given, one.faults)
