"""Files and other data sources → items of a project, row by row, each accounted for.

A row may be
    an item of ours, as it is or in ``payload``, with ``gold``, ``why``, ``priority``, ``route``;
    a record of Argilla's or a task of Label Studio's, whose answers are taken over too;
    an answer of our own export ``answers``, with its person and its time;
    anything that Backflip trains on: comparisons are compared or ranked, answers rated, called good
    or bad, marked, made better; prompts are answered.
Nothing is held but a few hundred rows, so the size of a file does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from backflip.data import formats
from backflip.data.records import BadRecordError, Tally
from backflip.data.sources import Row, read
from backflip.errors import UserError
from backflip.feedback.exchange import argilla, label_studio, own_answers
from backflip.feedback.exchange.import_rows import converted, is_own, own
from backflip.feedback.exchange.mapping import kinds_where
from backflip.feedback.exchange.tool_records import SECOND, Document, Given, last_of_each
from backflip.feedback.exchange.transfer import OURS, Strangers, take_over
from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import KINDS as EVERY_KIND
from backflip.feedback.projects.project import Project
from backflip.feedback.rating.items import Added, Check, NewItem
from backflip.feedback.store.queues import EVERYBODY, Purpose
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.text import counted

LINED = (".jsonl", ".jsonl.gz", ".csv", ".tsv")
"""Files whose rows are lines."""
CHUNK = 500
"""Items that are stored in one go."""
PEEK = 100
"""Rows whose columns say together what the form of all is: cells of the first may be empty."""


@dataclass(frozen=True)
class Tool:
    """Rows that bring answers along."""

    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], ProjectSettings], Document]
    kinds: tuple[str, ...]
    item: Callable[[Mapping[str, Any]], Any] | None = None
    """The key that rows of one item share, where an answer is a row; none: a row is an item."""


SHARED = tuple(kind.name for kind in kinds_where(lambda mapping: mapping.question))
"""Kinds that other tools have too."""
TOOLS = {
    OURS: Tool(own_answers.is_answer, own_answers.read, EVERY_KIND, own_answers.item_of),
    "argilla": Tool(argilla.is_record, argilla.read, SHARED),
    "label_studio": Tool(label_studio.is_task, label_studio.read, SHARED, label_studio.task_of),
}


@dataclass(frozen=True)
class Incoming:
    """A row on its way in."""

    where: str
    item: NewItem
    given: tuple[Given, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Imported:
    """Outcome of the import of a source."""

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
    noted: Tally = field(default_factory=Tally)
    """Rows that are not lost, but are not quite as the source has them."""
    read_by: formats.Reader | None = None
    """Who reads data that models are trained on."""

    def lines(self) -> list[str]:
        """All of it, a sentence each."""
        form = f", format {self.format}" if self.format else ""
        found = [f"{self.source}: {counted(self.added, 'item')} added{form}"]
        counts = (
            (self.answers, "answers taken over"),
            (self.duplicates, "left out: items that the project has already"),
            (self.twins, "left out: items whose answers are the same"),
        )
        found += [f"{what}: {count}" for count, what in counts if count]
        found += [f"left out: {line}" for line in self.refused()]
        return found + [f"note: {line}" for line in self.remarks()]

    def refused(self) -> list[str]:
        """Reasons for rows that were left out, with their counts."""
        return _told(self.left_out, self.source)

    def remarks(self) -> list[str]:
        """Remarks on rows that were taken over."""
        found = _told(self.noted, self.source)
        if self.read_by is not None:
            used = self.rows - self.left_out.total
            found += self.read_by.notes()
            found += filter(None, [formats.not_used(self.read_by.unread, used)])
        return found


def _told(tally: Tally, source: str) -> list[str]:
    """Reasons with their counts and first places; of one file the numbers of its lines or rows."""
    found = list[str]()
    place = "line" if source.lower().endswith(LINED) else "row"
    for reason in sorted(tally.counts, key=lambda name: -tally.counts[name]):
        count, examples = tally.counts[reason], tally.examples[reason]
        numbers = list(dict.fromkeys(one.removeprefix(f"{source}:") for one in examples))
        more = " …" if count > len(examples) else ""
        if all(number.isdigit() for number in numbers):
            where = f"{place}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}{more}"
        else:
            where = f"e.g. {', '.join(dict.fromkeys(examples))}"
        found.append(f"{count} × {reason} ({where})")
    return found


@dataclass(frozen=True)
class Wishes:
    """Options of an import."""

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
    called: str = ""
    """The name of a file in all messages, where that is not its path."""
    check: Check | None = None
    """Why an item cannot be asked here, a clip that is missing for example; empty: it can."""


def take_in(project: Project, source: str, wishes: Wishes | None = None) -> Imported:
    """Import a data source into a project.

    Raises:
        UserError: the source cannot be read, its columns fit no kind; with ``strict`` the first bad
            row, by file and line. Whole chunks before it are stored; importing again does no harm.

    """
    wishes = wishes or Wishes()
    done = Imported(wishes.called or source, "")
    incoming = _incoming(_rows(source, wishes, done), project.settings, wishes, done)
    strangers: Strangers | None = None
    while chunk := list(itertools.islice(incoming, CHUNK)):
        _count(done, _store(project, chunk, wishes))
        if done.format in TOOLS and wishes.answers:
            strangers = strangers or Strangers(project, done.format, done.noted)
            for one in chunk:
                payload: Any = one.item.payload
                done.answers += take_over(strangers, payload, one.given, done.left_out, one.where)
    if not done.rows and not done.left_out.total:
        raise UserError(f"{done.source} is empty: write one row a line")
    return done


def items(
    source: str, settings: ProjectSettings, wishes: Wishes | None = None
) -> Iterator[NewItem]:
    """Items of a source in its order, without what was answered elsewhere; for previews."""
    wishes = wishes or Wishes()
    done = Imported(source, "")
    return (one.item for one in _incoming(_rows(source, wishes, done), settings, wishes, done))


def _rows(source: str, wishes: Wishes, done: Imported) -> Iterator[Row]:
    broken = None if wishes.strict else done.left_out
    return read(source, limit=wishes.limit, broken=broken, called=wishes.called)


def _store(project: Project, chunk: list[Incoming], wishes: Wishes) -> Added:
    return project.add_items(
        [_routed(one.item, wishes) for one in chunk],
        origin=wishes.origin,
        priority=wishes.priority,
        batch=wishes.batch,
        purpose=wishes.purpose,
        strict=wishes.strict,
    )


def _routed(item: NewItem, wishes: Wishes) -> NewItem:
    return item if item.route is not None else replace(item, route=wishes.route)


def _count(done: Imported, added: Added) -> None:
    done.added += added.count
    done.duplicates += added.duplicates
    done.twins += added.twins
    done.left_out.update(added.refused)


def _incoming(
    rows: Iterator[Row], settings: ProjectSettings, wishes: Wishes, done: Imported
) -> Iterator[Incoming]:
    """Rows as items, checked, so that a fault is named by file and line."""
    peeked = list(itertools.islice(rows, PEEK))
    if not peeked:
        return
    form, (done.format, reader) = _form(peeked, settings, wishes, done)
    tool = TOOLS.get(done.format)
    share = tool.item if tool and tool.item and tool.item(form) is not None else None
    every = itertools.chain(peeked, rows)
    for group in _groups(every, share):
        found = list[Incoming]()
        for row in group:
            done.rows += 1
            with _accounted(row, wishes, done):
                found += reader(row)
        for one in [_together(found)] if share and found else found:
            with _accounted(one, wishes, done):
                kept, again = last_of_each(one.given)
                yield _checked(replace(one, given=tuple(kept)), settings, wishes)
                for fault in (*one.faults, *[SECOND] * again):
                    done.left_out.add(fault, one.where)
                for note in one.notes:
                    done.noted.add(note, one.where)


def _form(
    peeked: Sequence[Row], settings: ProjectSettings, wishes: Wishes, done: Imported
) -> tuple[dict[str, Any], tuple[str, Reader]]:
    """The form of the first row, or, where bad rows are left out, of the first that has a known
    one. Raises UserError where none has.
    """
    first: UserError | None = None
    for start in range(1 if wishes.strict else len(peeked)):
        form = columns_of(peeked[start:])
        try:
            source = peeked[start].where.source
            return form, _reader(form, source, settings, wishes, done)
        except UserError as error:
            first = first or error
    assert first is not None
    raise first


def columns_of(rows: Sequence[Row]) -> dict[str, Any]:
    """All columns of the first row, each with the first value that stands in it."""
    found = dict(rows[0].fields.items())
    for row in rows[1:]:
        found.update({n: row.fields.get(n) for n, value in found.items() if value is None})
    return found


def _groups(
    rows: Iterator[Row], share: Callable[[Mapping[str, Any]], Any] | None
) -> Iterator[list[Row]]:
    """Rows that are one item, where they stand together; else each by itself."""
    if share is None:
        yield from ([row] for row in rows)
    else:
        for _, group in itertools.groupby(rows, lambda row: share(row.fields)):
            yield list(group)


def _together(found: Sequence[Incoming]) -> Incoming:
    """Answers to the same item as one; the item is that of the first row."""
    if len(found) == 1:
        return found[0]
    return replace(
        found[0],
        given=tuple(given for one in found for given in one.given),
        faults=tuple(fault for one in found for fault in one.faults),
        notes=tuple(note for one in found for note in one.notes),
    )


@contextmanager
def _accounted(at: Row | Incoming, wishes: Wishes, done: Imported) -> Iterator[None]:
    """A row that does not fit ends the import, or is counted and left out."""
    try:
        yield
    except BadRecordError as error:
        if wishes.strict:
            raise UserError(f"{at.where}: {error}") from error
        done.left_out.add(error.reason, str(at.where))
    except UserError as error:
        where, text = str(at.where), str(error)
        if wishes.strict:
            raise UserError(text if text.startswith(where) else f"{where}: {text}") from error
        done.left_out.add(text.removeprefix(where).lstrip(":, ").removesuffix("."), where)


Reader = Callable[[Row], Iterator[Incoming]]


def _reader(
    form: Mapping[str, Any],
    source: str,
    settings: ProjectSettings,
    wishes: Wishes,
    done: Imported,
) -> tuple[str, Reader]:
    """Form of the rows, told by their columns, and the reader of all."""
    kind = settings.kind
    name = next((name for name, tool in TOOLS.items() if tool.fits(form)), None)
    if name is not None:
        tool = TOOLS[name]
        if kind not in tool.kinds:
            raise UserError(
                f"{source} comes from {name}, which has nothing like {kind!r}; make a project of "
                f"kind {', '.join(tool.kinds)}."
            )
        return name, lambda row: _document(row, tool.read(row.fields, settings), wishes)
    if is_own(form, kind):
        return "items", lambda row: iter(
            [Incoming(str(row.where), own(row.fields, kind, str(row.where)))]
        )
    told = formats.Reader.of(form, source)
    make, done.read_by = converted(told, settings, source), told

    def convert(row: Row) -> Iterator[Incoming]:
        for item in make(row, wishes.gold or wishes.purpose in EVERYBODY):
            yield Incoming(str(row.where), item)

    return told.format.name, convert


def _document(row: Row, document: Document, wishes: Wishes) -> Iterator[Incoming]:
    """An item with its answers; what is called right is one of them, unless it becomes gold."""
    gold, given, truth = document.gold, document.given, document.truth
    if truth is not None and (wishes.gold or wishes.purpose in EVERYBODY):
        gold = truth.value
    elif truth is not None:
        given = (*given, truth)
    item = NewItem(
        document.payload,
        gold=gold,
        purpose=document.purpose,
        origin=document.origin,
        batch=document.batch,
    )
    yield Incoming(str(row.where), item, given, document.faults, document.notes)


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
    whole = len(one.given) >= settings.raters_per_item  # nobody will be asked any more
    if wishes.check is not None and not whole and (fault := wishes.check(payload)):
        raise UserError(f"{one.where}: {fault}")
    return replace(one, item=replace(item, payload=payload))
