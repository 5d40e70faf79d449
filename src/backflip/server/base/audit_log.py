"""The audit log: lines on refused requests, with their sender and never a secret."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("backflip.refused")
OPENING = ("invitation", "open", "password")
"""Paths whose second word opens something."""


def refused(why: str, scope: Mapping[str, Any]) -> None:
    """One line: why, the method, the path and the address of a request (its ASGI scope)."""
    client = scope.get("client")
    address = client[0] if client else "?"
    log.warning("refused (%s): %s %r from %s", why, scope["method"], _path(scope), address)


def _path(scope: Mapping[str, Any]) -> str:
    """The path without what opens something. Never the query, which may hold anything."""
    words = str(scope["path"])[:200].split("/")
    return "/".join([*words[:2], "…"]) if words[1:2] and words[1] in OPENING else "/".join(words)
