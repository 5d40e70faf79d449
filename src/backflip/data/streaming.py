"""Batches of a source that is read row by row, because it does not fit in memory.

No more rows are held than a buffer and a batch. The order is that of a shuffle within the buffer
(each row is drawn from the next ``buffer`` ones), which the seed alone decides. To resume, rows are
read again from the beginning of the pass, up to the place.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

from backflip.data.collate import NoneLeftError, Tokenized
from backflip.data.conversions import check_convertible, check_row_by_row, convert
from backflip.data.formats import Reader, not_used
from backflip.data.records import BadRecordError, Record, Tally
from backflip.data.sources import Row, read
from backflip.data.splits import opening_key
from backflip.data.stream import mixed
from backflip.errors import UserError
from backflip.progress import silently, task
from backflip.text import counted

R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass
class Account:
    """An account of the rows, each counted when it is read for the first time."""

    rows: int = 0
    """Rows that were read, malformed lines not among them."""
    apart: int = 0
    """Records with the prompt of a held-out row: these rows themselves, and later ones."""
    learnt: int = 0
    """Records in batches of the first pass."""
    cut: int = 0
    """Prompts of these that lost tokens on the left."""
    marked: int = 0
    """Records of the first pass whose text holds control tokens of a template."""
    ended: bool = False
    """Whether the end of the source was seen."""
    dropped: Tally = field(default_factory=Tally)
    unread: Counter[str] = field(default_factory=Counter[str])
    """In how many rows a column held something that nobody reads."""

    def lines(self) -> list[str]:
        """The account in sentences."""
        apart = f", {self.apart:,} kept apart with their prompts" if self.apart else ""
        end = "" if self.ended else "; the end was not reached"
        said = [
            f"streamed: {counted(self.rows, 'row')} read, {self.learnt:,} learnt from{apart}{end}"
        ]
        said += [f"  left out: {line}" for line in self.dropped.lines()]
        if self.cut:
            said.append(f"  cut on the left to fit: {counted(self.cut, 'prompt')}")
        if self.unread:
            said.append(f"  {not_used(self.unread, self.rows - self.dropped.total)}")
        if self.marked:
            held = counted(self.marked, "row holds", "rows hold")
            said.append(f"  {held} control tokens of a template")
        return said

    def state_dict(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        tally = {"counts": dict(self.dropped.counts), "examples": dict(self.dropped.examples)}
        return plain | {"dropped": tally, "unread": dict(self.unread)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if name not in ("dropped", "unread"):
                setattr(self, name, value)
        self.dropped = Tally()
        self.dropped.counts = dict(state["dropped"]["counts"])
        self.dropped.examples = {k: list(v) for k, v in state["dropped"]["examples"].items()}
        self.unread = Counter(state["unread"])


class StreamedRecords(Generic[R]):
    """The records of a source to learn from, read anew by every iteration.

    Args:
        source: the name of a source; see ``sources.read``.
        kind: of the records; what is found becomes it where a single row says how.
        format: the name of a format; found by the columns of the first row when not given.
        columns: which column stands for which name.
        limit: rows to read at most.
        apart: prompts (``splits.opening_key``) that are held out.

    """

    def __init__(
        self,
        source: str,
        kind: type[R],
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        limit: int | None = None,
        apart: Collection[str] = frozenset(),
    ) -> None:
        self.source, self.kind, self.format, self.limit = source, kind, format, limit
        self.columns, self.apart = dict(columns or {}), frozenset(apart)
        self.account = Account()

    def __iter__(self) -> Iterator[R]:
        account, broken = self.account, Tally()
        rows = read(self.source, limit=self.limit, broken=broken, streamed=True)
        reader: Reader | None = None
        for number, row in enumerate(silently(rows), start=1):
            reader = reader or self._reader(row)
            new = number > account.rows
            reader.unread = account.unread if new else Counter()
            tally = account.dropped if new else Tally()
            tally.update(broken)
            broken.clear()
            account.rows = max(account.rows, number)
            for record in self._read(reader, row, tally):
                if opening_key(record) not in self.apart:
                    yield record
                else:
                    account.apart += new
        if not account.ended:
            account.dropped.update(broken)
            account.ended = True

    def _reader(self, first: Row) -> Reader:
        made = Reader.of(first.fields, self.source, format=self.format, columns=self.columns)
        check_convertible(made.format, self.kind, self.source, first.fields)
        check_row_by_row(made.format, self.kind, self.source)
        return made

    def _read(self, reader: Reader, row: Row, dropped: Tally) -> Sequence[Any]:
        try:
            made = convert([reader.read(row)], self.kind)
        except BadRecordError as error:
            dropped.add(error.reason, row.where)
            return ()
        dropped.update(made.dropped)
        return made.records


def shuffled(items: Iterator[T], buffer: int, seed: int) -> Iterator[T]:
    """Every item once, each drawn from the next ``buffer`` that were not drawn before.

    A uniform permutation where there are no more than ``buffer`` of them.
    """
    draw, held = random.Random(seed), list(islice(items, buffer))
    for item in items:
        place = int(draw.random() * len(held))
        drawn, held[place] = held[place], item
        yield drawn
    while held:
        place = int(draw.random() * len(held))
        held[place], held[-1] = held[-1], held[place]
        yield held.pop()


class StreamedBatches(Generic[R]):
    """Batches of a streamed source, pass after pass; a ``driver.Stream``.

    The place is already behind a batch when the batch is handed out, as in ``stream.Batches``.

    Args:
        records: what is learnt from.
        tokenize: makes tokens of some of them, each as if it were alone.
        size: rows in a batch; the last one of a pass may have fewer.
        buffer: records among which the order is random.
        seed: decides the order of every pass.
        epochs: passes over the source; None goes on for ever.
        marked: how many of some records hold control tokens of a template.

    """

    def __init__(
        self,
        records: StreamedRecords[R],
        tokenize: Callable[[Sequence[R]], Tokenized[Any]],
        *,
        size: int,
        buffer: int,
        seed: int = 0,
        epochs: int | None = 1,
        marked: Callable[[Sequence[R]], int] = lambda _: 0,
    ) -> None:
        for name, value in (("batch size", size), ("shuffle buffer", buffer)):
            if value < 1:
                raise UserError(f"the {name} is {value}; it must be at least 1")
        self.records, self.tokenize, self.marked = records, tokenize, marked
        self.size, self.buffer, self.seed, self.epochs = size, buffer, seed, epochs
        self.epoch, self.drawn, self._last = 0, 0, ""

    @property
    def account(self) -> Account:
        """An account of the rows so far."""
        return self.records.account

    def counts(self) -> dict[str, float]:
        """Of the rows that were left out so far, as a metric."""
        return {"rows_left_out": float(self.account.dropped.total)}

    def __iter__(self) -> Iterator[Any]:
        while self.epochs is None or self.epoch < self.epochs:
            records = self._from_here()
            while (batch := self._batch(records)) is not None:
                yield batch
            if self.account.learnt == 0:
                why = "; ".join(self.account.dropped.lines()) or "all prompts are held out"
                raise UserError(f"{self.records.source}: no row is left to learn from: {why}")
            self.epoch, self.drawn, self._last = self.epoch + 1, 0, ""

    def _from_here(self) -> Iterator[R]:
        """The records of this pass that were not drawn yet."""
        order = shuffled(iter(self.records), self.buffer, mixed(self.seed, self.epoch))
        if not self.drawn:
            return order
        found, last = 0, ""
        with task("finding the place in the data", self.drawn, "rows") as finding:
            for record in islice(order, self.drawn):
                found += 1
                last = _digest(record) if found == self.drawn else ""
                finding.advance()
        if last != self._last:
            raise UserError(
                f"cannot resume the data: row {self.drawn} in the order of {self.records.source} "
                f"is {'gone' if not last else 'another one'} now; resume with the same data, or "
                "start a new run"
            )
        return order

    def _batch(self, records: Iterator[R]) -> Any:
        """The next rows that fit, None at the end of the pass."""
        kept, parts = list[R](), list[Any]()
        with task("reading rows") as reading:
            while missing := self.size - len(kept):
                drawn = list(islice(records, missing))
                if not drawn:
                    break
                self.drawn, self._last = self.drawn + len(drawn), _digest(drawn[-1])
                reading.advance(len(drawn))
                made = self._tokens(drawn)
                if made is not None:
                    kept += [drawn[i] for i in made.kept]
                    parts.append(made.data)
        if self.epoch == 0:
            self.account.learnt += len(kept)
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else self.tokenize(kept).data

    def _tokens(self, drawn: Sequence[R]) -> Tokenized[Any] | None:
        """Tokens of those that fit; None where none does. Counted in the first pass."""
        account = self.account
        try:
            made: Tokenized[Any] | None = self.tokenize(drawn)
            dropped, cut = made.dropped, made.cut
        except NoneLeftError as error:
            made, dropped, cut = None, error.dropped, 0
        if self.epoch == 0:
            account.dropped.update(dropped)
            account.cut += cut
            account.marked += self.marked(drawn)
        return made

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch stands, and what must be the same to find it there."""
        place = {"epoch": self.epoch, "drawn": self.drawn, "last": self._last}
        return place | self._identity() | {"account": self.account.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken. Refuses another seed, batch size or buffer."""
        for key, now in self._identity().items():
            if state.get(key) != now:
                raise UserError(
                    f"cannot resume the data: {key} was {state.get(key)} and is {now} now; "
                    "resume with the same data and settings, or start a new run"
                )
        self.epoch, self.drawn, self._last = state["epoch"], state["drawn"], state["last"]
        self.account.load_state_dict(state["account"])

    def _identity(self) -> dict[str, Any]:
        return {"size": self.size, "seed": self.seed, "shuffle_buffer": self.buffer}


def _digest(record: Record) -> str:
    """By which a record is known again."""
    said = f"{record.where}\0{opening_key(record)}".encode()
    return hashlib.blake2b(said, digest_size=8).hexdigest()
