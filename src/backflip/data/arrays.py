"""A JSON list that is read value by value, so that a large file is never held whole."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

CHUNK = 1 << 20
"""Characters read at a time; doubled while a single value does not fit."""
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[-+.0-9eE]*")
"""Characters that a number may go on with: at the end of what was read it may not be whole yet."""


def values(file: io.TextIOBase) -> Iterator[Any]:
    """The values of a list. Raises ValueError where it is malformed, or breaks off."""
    text = _Buffer(file)
    if text.next() != "[":
        raise ValueError("there is no list")
    text.take(1)
    if text.next() == "]":
        text.take(1)
    else:
        while True:
            yield text.value()
            mark = text.next()
            if mark not in ("]", ","):
                raise ValueError(f"expected , or ] and found {mark!r}, at character {text.place}")
            text.take(1)
            if mark == "]":
                break
            text.next()
    if rest := text.next():
        raise ValueError(f"something follows the list: {rest!r}, at character {text.place}")


class _Buffer:
    """Text read from a file and not used yet."""

    def __init__(self, file: io.TextIOBase) -> None:
        self.file, self.held, self.at = file, "", 0
        self.gone = 0
        self.decoder = json.JSONDecoder()

    @property
    def place(self) -> int:
        return self.gone + self.at

    def next(self) -> str:
        """The next character that is no white space, which stays; empty at the end."""
        while True:
            found = _SPACE.match(self.held, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.held):
                return self.held[self.at]
            if not self._more(CHUNK):
                return ""

    def take(self, count: int) -> None:
        self.at += count

    def value(self) -> Any:
        """One value, with as much of the file as it takes."""
        size = CHUNK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.held, self.at)
            except ValueError:
                if not self._more(size):
                    raise
            else:
                rest = _NUMBER.match(self.held, end)
                if (rest and rest.end() < len(self.held)) or not self._more(size):
                    self.at = end
                    return value
            size *= 2

    def _more(self, size: int) -> bool:
        """Read on; whether there was anything."""
        fresh = self.file.read(size)
        if fresh:
            self.gone += self.at
            self.held, self.at = self.held[self.at :] + fresh, 0
        return bool(fresh)
