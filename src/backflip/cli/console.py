"""Sentences and tables that fit the terminal: as they are, turned on their side, or row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from backflip.monitor.progress import breaks_between_words

out = Console(highlight=False)
NUMBER = "#"
"""Beginnings of names of columns of numbers, which stand to the right."""
EDGES, GAP = 4, 3
"""Places that a table takes at its sides together, and between two of its columns."""


def say(sentence: str, style: str = "") -> None:
    """One line, as it is for a program; in a terminal it breaks between words."""
    out.print(Text(sentence, style=style), soft_wrap=not breaks_between_words(out, sentence))


def notes(sentences: Iterable[str]) -> None:
    """Things to look at that stop nobody."""
    for sentence in sentences:
        say(f"note: {sentence}", "yellow")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of text that fits the terminal; columns that begin with ``#`` are numbers."""
    for part in laid_out(title, columns, rows, out.width):
        out.print(part)


def laid_out(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], width: int
) -> Iterator[RenderableType]:
    """A table of text for a terminal ``width`` wide, in which no word and no number is broken.

    Where it is too wide as it is, it is turned on its side; where that is too wide too, every row
    becomes a few lines, one for each column.
    """
    names = [name.removeprefix(NUMBER) for name in columns]
    whole = _Grid(names, [list(row) for row in rows], [c.startswith(NUMBER) for c in columns])
    for grid in (whole, whole.turned()):
        if grid.least() <= width:
            yield grid.table(title, width)
            return
    if title:
        yield Text(title, style="bold")
    for row in whole.rows:
        yield from whole.record(row)


@dataclass(frozen=True)
class _Grid:
    """Names of columns, rows of cells, and which of the columns are numbers."""

    names: list[str]
    rows: list[list[str]]
    numeric: list[bool]

    def turned(self) -> _Grid:
        """Every column as a row."""
        heads = ["", *(row[0] for row in self.rows)]
        across = zip(self.names[1:], *(row[1:] for row in self.rows), strict=True)
        numbers = all(self.numeric[1:])
        return _Grid(heads, [list(row) for row in across], [False, *[numbers] * len(self.rows)])

    def least(self) -> int:
        """The narrowest that the table can be without breaking a word."""
        return self._around() + sum(self._widths(words=True))

    def table(self, title: str, width: int) -> Table:
        """The table, no wider than ``width`` where its words allow that."""
        made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
        made.title_style = "bold"
        room = width - self._around()
        for name, number, size in zip(self.names, self.numeric, self._fitted(room), strict=True):
            side = "right" if number else "left"
            made.add_column(Text(name), justify=side, overflow="fold", width=size)
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made

    def record(self, row: Sequence[str]) -> Iterator[RenderableType]:
        """One row, a line for each of its cells."""
        yield Text(f"{self.names[0]} {row[0]}".strip(), style="bold")
        made = Table(box=None, show_header=False)
        made.add_column(style="dim", overflow="fold", max_width=30)
        made.add_column(overflow="fold")
        for name, cell in zip(self.names[1:], row[1:], strict=True):
            made.add_row(Text(name), Text(cell))
        yield made

    def _around(self) -> int:
        return EDGES + GAP * (len(self.names) - 1)

    def _widths(self, *, words: bool) -> list[int]:
        """Of every column its longest cell, or with ``words`` its longest word; numbers whole."""
        found: list[int] = []
        for index, (name, number) in enumerate(zip(self.names, self.numeric, strict=True)):
            cells = [row[index] for row in self.rows]
            lines = [line for text in [name, *cells] for line in text.splitlines()]
            if words:
                apart = name.split() if number else [w for t in [name, *cells] for w in t.split()]
                lines = [*apart, *cells] if number else apart
            found.append(max(map(cell_len, lines), default=0))
        return found

    def _fitted(self, room: int) -> list[int]:
        """Widths of the columns: what they want, or what there is, the widest giving way first."""
        least, sizes = self._widths(words=True), self._widths(words=False)
        while sum(sizes) > room:
            spare = [size - low for size, low in zip(sizes, least, strict=True)]
            if not any(s > 0 for s in spare):
                break
            widest = max((i for i, s in enumerate(spare) if s > 0), key=lambda i: sizes[i])
            sizes[widest] -= 1
        return sizes
