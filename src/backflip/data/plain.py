"""Records as plain dicts of tensors and numbers, which a checkpoint can hold, and back."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor

from backflip.data.ragged import Ragged, TensorRecord
from backflip.data.records import Tally

__all__ = ["as_plain", "as_record"]

KIND = "backflip.record"
"""Where the name of a record's class stands, beside its fields."""


def as_plain(value: Any) -> Any:
    """A record, or several, as dicts, lists, tensors and numbers.

    Raises TypeError for an object of another kind.
    """
    if isinstance(value, Tally):
        return {KIND: "Tally", "counts": dict(value.counts), "examples": dict(value.examples)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {KIND: type(value).__name__, **fields}
    if isinstance(value, Mapping):
        kind = {KIND: "Counter"} if isinstance(value, Counter) else {}
        parts = cast("Mapping[str, Any]", value).items()
        return kind | {name: as_plain(part) for name, part in parts}
    if isinstance(value, list | tuple):
        made: Any = [as_plain(part) for part in cast("list[Any]", value)]
        return tuple(made) if isinstance(value, tuple) else made
    if isinstance(value, Tensor) or type(value) in (int, float, str, bool, type(None)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept in a checkpoint")


def as_record(value: Any, *more: type[Any]) -> Any:
    """The records of ``as_plain``. ``more``: their classes beside those of tensors."""
    known = {kind.__name__: kind for kind in (*_below(TensorRecord), Ragged, *more)}
    return _made(value, known)


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    """The class and all that are derived of it."""
    yield kind
    for derived in kind.__subclasses__():
        yield from _below(derived)


def _made(value: Any, known: Mapping[str, type[Any]]) -> Any:
    if isinstance(value, list | tuple):
        made: Any = [_made(part, known) for part in cast("list[Any]", value)]
        return tuple(made) if isinstance(value, tuple) else made
    if not isinstance(value, Mapping):
        return value
    parts = {n: _made(part, known) for n, part in cast("Mapping[str, Any]", value).items()}
    kind = parts.pop(KIND, None)
    if kind == "Tally":
        tally = Tally()
        tally.counts, tally.examples = parts["counts"], parts["examples"]
        return tally
    if kind == "Counter":
        return Counter(parts)
    return parts if kind is None else known[kind](**parts)
