"""Sources of a recipe's data: all that ``data`` reads, and what people said.

    feedback:tone                all answers of the project up to now
    feedback:tone@1234           up to event 1234: a recipe is pinned, so that it can be repeated
    feedback:tone:golden@1234    judgements of seniors that are kept for probes

The project stands in the database that ``$BACKFLIP_FEEDBACK`` names, or in ``feedback.sqlite`` in
the current folder. ``format`` says how two answers are labelled: ``soft``, the probability that the
better one is better, or ``preference``, a hard label with margin and weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from backflip.data import formats
from backflip.data.formats import Loaded
from backflip.data.marks import remarks
from backflip.data.records import Record
from backflip.data.sources import Source as DataSource
from backflip.data.sources import read
from backflip.errors import UserError
from backflip.feedback.store.wording import project_name

if TYPE_CHECKING:
    from backflip.data.chat import ChatTemplate
    from backflip.feedback.exchange.records import Source
    from backflip.feedback.projects.store import Store

__all__ = [
    "PREFIX",
    "Address",
    "account",
    "check_readable",
    "kind_of",
    "load",
    "one_moment",
    "pin_all",
]

R = TypeVar("R", bound=Record)
PREFIX = "feedback:"
GOLDEN = "golden"
SINGLE = ("source", "validation", GOLDEN)
"""Settings that name a source, wherever they stand."""
SEVERAL = ("preferences",)
_ADDRESS = re.compile(r"feedback:([^:@/\s]+)(?::(golden))?(?:@([0-9]{1,18}))?")
_MOMENT: ContextVar[dict[str, str] | None] = ContextVar("moment", default=None)


@dataclass(frozen=True)
class Address:
    """A project, a part of it, and the event up to which its log counts."""

    project: str
    part: str = ""
    event: int | None = None

    @classmethod
    def of(cls, source: DataSource) -> Address | None:
        """None for other sources. Raises UserError for one that is badly written."""
        if not isinstance(source, str) or not source.startswith(PREFIX):
            return None
        found = _ADDRESS.fullmatch(source)
        name = project_name(found.group(1)) if found else None
        if found is None or name is None:
            raise UserError(
                f"{source!r} is no project. Write feedback:NAME, feedback:NAME@EVENT, or "
                "feedback:NAME:golden for the judgements of seniors."
            )
        _, part, event = found.groups()
        return cls(name, part or "", int(event) if event else None)

    def __str__(self) -> str:
        part = f":{self.part}" if self.part else ""
        return f"{PREFIX}{self.project}{part}" + ("" if self.event is None else f"@{self.event}")


def load(
    source: DataSource,
    kind: type[R] | str,
    *,
    format: str | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    streamed: bool = False,
) -> Loaded[R]:
    """Records of one kind, as ``data.formats.load``, from a project too."""
    address = Address.of(source)
    if address is None:
        return formats.load(
            source, kind, format=format, limit=limit, columns=columns, streamed=streamed
        )
    from backflip.feedback.exchange.converters import records

    with opened(address) as found:
        return records(found, kind, style=format, limit=limit)


def account(loaded: Loaded[Any], template: ChatTemplate, *, unread: str = "not used") -> list[str]:
    """Sentences on rows that were read: left out, chosen, unused, changed by the template.

    ``unread``: words before the columns that nobody has read.
    """
    left = [f"left out: {line}" for line in loaded.dropped.lines()]
    said = (*loaded.notes, loaded.unread_line(said=unread), *remarks(loaded.records, template))
    return left + [line for line in said if line]


def kind_of(
    source: DataSource,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    streamed: bool = False,
) -> str:
    """Which kind of record a source holds, the plural."""
    address = Address.of(source)
    if address is None:
        return formats.kind_of(source, format, columns, streamed=streamed)
    from backflip.feedback.exchange.converters import native_kind

    with opened(address) as found:
        return native_kind(found)


def check_readable(source: str) -> None:
    """Raises UserError where nothing can be read there, which is seen by its first row."""
    if Address.of(source) is None:
        next(iter(read(source, limit=1)), None)
    else:
        kind_of(source)


@contextmanager
def opened(address: Address) -> Iterator[Source]:
    """The project of an address. Raises UserError where there is none."""
    from backflip.feedback.exchange.records import Source

    with store_for(str(address)) as store:
        project = store.project(address.project)
        newest = project.newest_event()
        if address.event is not None and address.event > newest:
            raise UserError(
                f"{address} is in the future: the newest event of {address.project!r} is {newest}. "
                "Is $BACKFLIP_FEEDBACK another database than the one that the run began with?"
            )
        yield Source(project, until=address.event, part=address.part)


@contextmanager
def store_for(what: str) -> Iterator[Store]:
    """The database of the projects, for ``what`` needs it. Raises UserError where there is none."""
    try:
        from backflip.feedback.projects.store import open_store
        from backflip.feedback.store.database import place_of
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs {error.name}, which is not installed: pip install 'backflip[feedback]'."
        ) from error
    from pathlib import Path

    place = place_of(None)
    embedded = place.get_backend_name() == "sqlite"
    if embedded and not Path(place.database or "").is_file():
        raise UserError(
            f"{what}: there is no feedback database {place.database}. Start in the folder of the "
            "database, or name it: export BACKFLIP_FEEDBACK=PATH (or its postgresql:// address)."
        )
    store = open_store()
    try:
        yield store
    finally:
        store.close()


# ---- pins


@contextmanager
def one_moment() -> Iterator[None]:
    """Pin all recipes that are made inside to the same events: those of a sweep."""
    token = _MOMENT.set({})
    try:
        yield
    finally:
        _MOMENT.reset(token)


def pin_all(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which every project is pinned to its newest event, if it was not yet."""
    return {name: _pinned_setting(name, value) for name, value in raw.items()}


def _pinned_setting(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return pin_all(value)
    if name in SINGLE and isinstance(value, str):
        return pinned(value, part=GOLDEN if name == GOLDEN else "")
    if name in SEVERAL and isinstance(value, list | tuple):
        return [pinned(one) if isinstance(one, str) else one for one in value]
    return value


def pinned(source: str, *, part: str = "") -> str:
    """A source that means the same tomorrow. ``part``: of a project, where it names none."""
    address = Address.of(source)
    if address is None:
        return source
    address = Address(address.project, address.part or part, address.event)
    moment = _MOMENT.get()
    if address.event is not None:
        return str(address)
    if moment is not None and str(address) in moment:
        return moment[str(address)]
    with opened(address) as found:
        now = str(Address(address.project, address.part, found.until))
    if moment is not None:
        moment[str(address)] = now
    return now
