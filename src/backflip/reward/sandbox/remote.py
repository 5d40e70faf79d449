"""Values and calls between two programs, each of which may be hostile to the other.

A message is a length and a text of JSON. Plain values (numbers, texts, containers of them) are
copied, with the content of the plain type that they derive from: an integer with an ``__eq__`` of
its own arrives as an integer. Named tuples keep the names of their fields. All else stays where it
is and is named by a number.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import os
from collections import Counter, deque, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["ATTEMPTS", "GoneError", "Link", "ProtocolError", "Reference", "UntellableError"]

MOST = 4 << 20
"""Bytes of a message."""
ATTEMPTS = 100_000
"""Items of an iterator that are handed over at most."""
MANY = 1 << 62
"""Integers beyond this are written in full, for decoders of JSON bound their digits."""
PLAIN: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "int": (int, hex, lambda form: int(form, 16)),
    "complex": (complex, lambda value: [value.real, value.imag], lambda form: complex(*form)),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "bytearray": (bytearray, bytearray.hex, bytearray.fromhex),
    "range": (range, lambda v: [v.start, v.stop, v.step], lambda form: range(*form)),
}
"""Values by name: their type, and how they are written and read."""
CONTAINERS: dict[str, Any] = {
    "Counter": (Counter, lambda pairs: Counter(dict(pairs))),
} | {kind.__name__: (kind, kind) for kind in (dict, list, tuple, set, frozenset, deque)}
"""Containers by name: their type, and what makes one of its items or pairs."""
WRITTEN: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "Decimal": ("decimal", str, lambda kind, form: kind(form)),
    "Fraction": ("fractions", str, lambda kind, form: kind(form)),
    "date": ("datetime", lambda v: v.isoformat(), lambda kind, form: kind.fromisoformat(form)),
    "time": ("datetime", lambda v: v.isoformat(), lambda kind, form: kind.fromisoformat(form)),
    "datetime": ("datetime", lambda v: v.isoformat(), lambda kind, form: kind.fromisoformat(form)),
    "timedelta": (
        "datetime", lambda v: [v.days, v.seconds, v.microseconds], lambda kind, form: kind(*form),
    ),
}  # fmt: skip
"""Values of modules that are imported where one of them comes."""
TYPES = {name: one for name, one in vars(builtins).items() if isinstance(one, type)}
Message = dict[str, Any]


class GoneError(BaseException):
    """The other program has ended, or says what no message is. Not for tests to catch."""


class UntellableError(BaseException):
    """A value that cannot be handed to the other program."""


class ProtocolError(Exception):
    """A value of the other program that is none."""


class Reference:
    """Something that stays with the other program, by its number there."""

    _link: Any
    _number: int

    def __init__(self, link: Link, number: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_number", number)


def _no_list(form: Any) -> Any:
    if isinstance(form, list):
        raise TypeError("a bare list")
    return form


@functools.cache
def _named(name: str, fields: tuple[str, ...]) -> Any:
    """A type of named tuples; whatever is no name of a field is a ValueError."""
    return namedtuple(name, fields)  # pyright: ignore


class Link:
    """One end of the two pipes. Calls nest: while an answer is awaited, questions are answered."""

    def __init__(
        self,
        files: tuple[int, int],
        serve: Callable[[Message], Message],
        refer: Callable[[Link, int], Any],
    ) -> None:
        self.read, self.write = files
        self.serve = serve
        self.refer = refer
        self.held: dict[int, Any] = {}
        """Things of this program that the other one knows."""

    # ---- messages

    def _receive(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = os.read(self.read, min(count - len(parts), 1 << 16))
            if not part:
                raise GoneError("the program ended before its tests did")
            parts += part
        return bytes(parts)

    def receive(self) -> Message:
        """The next message. Raises GoneError."""
        size = int.from_bytes(self._receive(4), "little")
        if size > MOST:
            raise GoneError(f"the program sent more than {MOST >> 20} MB")
        try:
            message = json.loads(self._receive(size))
        except (ValueError, RecursionError):
            raise GoneError("the program wrote to the checker's pipe") from None
        if not isinstance(message, dict):
            raise GoneError("the program wrote to the checker's pipe")
        return message

    def send(self, message: Message) -> None:
        """Writes a message. Raises GoneError, UntellableError."""
        try:
            text = json.dumps(message).encode()
        except (ValueError, RecursionError) as error:
            raise UntellableError(f"{error}") from None
        if len(text) > MOST:
            raise UntellableError(f"a value of more than {MOST >> 20} MB")
        left = memoryview(len(text).to_bytes(4, "little") + text)
        try:
            while left:
                left = left[os.write(self.write, left) :]
        except BrokenPipeError:
            raise GoneError("the program ended before its tests did") from None

    def ask(self, question: str, **said: Any) -> Message:
        """The other program's answer to a question."""
        self.send({"ask": question, **said})
        while "ask" in (message := self.receive()):
            self.reply(message)
        return message

    def reply(self, message: Message) -> None:
        """Sends the answer to a question, or why there is none."""
        try:
            self.send(self.serve(message))
        except UntellableError as error:
            self.send({"raised": ["ValueError", str(error)]})

    # ---- values

    def pack(self, value: Any) -> Any:
        """A value as JSON can hold it."""
        small = isinstance(value, int) and -MANY < value < MANY
        if value is None or small or isinstance(value, bool | str | float):
            return value
        for name, (kind, write, _) in PLAIN.items():
            if isinstance(value, kind):
                return {name: write(value)}
        fields = getattr(type(value), "_fields", None)
        if isinstance(value, tuple) and fields is not None:
            return {"named": [type(value).__name__, [*fields], [*map(self.pack, value)]]}
        for name, (kind, _) in CONTAINERS.items():
            if isinstance(value, kind):
                inside: Any = value.items() if isinstance(value, dict) else value
                return {name: [self.pack(one) for one in inside]}
        return self.pack_other(value)

    def pack_other(self, value: Any) -> Any:
        """Something that is not plain: a type of Python's, or something that stays here."""
        if isinstance(value, Reference):
            return {"yours": value._number}
        name = type(value).__name__
        if type(value).__module__ in ("decimal", "fractions", "datetime") and name in WRITTEN:
            return {name: WRITTEN[name][1](value)}
        if isinstance(value, type) and TYPES.get(value.__name__) is value:
            return {"type": value.__name__}
        self.held[id(value)] = value
        return {"mine": id(value), "iterator": isinstance(value, Iterator)}

    def unpack(self, form: Any) -> Any:
        """The value in a form. Raises ProtocolError."""
        try:
            return self.unpack_any(form)
        except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
            raise ProtocolError(f"a value that cannot be: {error}") from None

    def unpack_any(self, form: Any) -> Any:
        """As ``unpack``, with whatever Python raises."""
        if not isinstance(form, dict):
            return _no_list(form)
        kind, inside = next(iter(form.items()))
        if kind in CONTAINERS:
            return CONTAINERS[kind][1](self.unpack_any(one) for one in inside)
        if kind == "named":
            values = map(self.unpack_any, inside[2])
            return _named(str(inside[0]), tuple(map(str, inside[1])))(*values)
        if kind in PLAIN:
            return PLAIN[kind][2](inside)
        if kind in WRITTEN:
            module, _, read = WRITTEN[kind]
            return read(getattr(importlib.import_module(module), kind), inside)
        known: dict[str, Any] = {"type": TYPES, "yours": self.held}
        return known[kind][inside] if kind in known else self.refer(self, int(form["mine"]))
