"""How many records there are at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest


def counted(monkeypatch: pytest.MonkeyPatch, *kinds: type[Any]) -> Callable[[], int]:
    """Tells how many there are of those that are made from now on."""
    begun, ended = [], []

    def noting(made: Callable[..., None]) -> Callable[..., None]:
        def run(self: Any, *given: Any, **named: Any) -> None:
            made(self, *given, **named)
            begun.append(weakref.finalize(self, ended.append, None))

        return run

    for kind in kinds:
        monkeypatch.setattr(kind, "__init__", noting(kind.__init__))
    return lambda: len(begun) - len(ended)
