"""Refusals: what a rater or a program may not do, with a code that a web server can map."""

from __future__ import annotations

from typing import Literal, TypeAlias

from backflip.errors import UserError

Code: TypeAlias = Literal[
    "not_found",
    "not_allowed",
    "not_yours",
    "paused",
    "conflict",
    "nothing",
    "expired",
    "busy",
    "full",
]


class RefusedError(UserError):
    """Refused for a reason of its own kind, ``code``; the message says what to do."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
