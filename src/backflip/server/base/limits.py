"""Limits: token buckets against guessing, a bound on the size of a request."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from backflip.server.base import audit_log

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BUCKETS = 50_000
"""Buckets remembered; the one that rested longest is forgotten, which can only be generous."""


class RateLimit:
    """So many a minute for each key, three times as many in a burst after a rest."""

    def __init__(
        self, per_minute: float, burst: float = 3.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.most, self.clock = per_minute / 60, per_minute * burst, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Take one; 0 if there was one, else the seconds until there is."""
        now = self.clock()
        with self._lock:
            level, then = self._levels.pop(key, (self.most, now))
            level = min(self.most, level + (now - then) * self.rate)
            allowed = level >= 1
            self._levels[key] = (level - 1 if allowed else level, now)
            if len(self._levels) > MOST_BUCKETS:
                self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self.rate

    def give_back(self, key: str) -> None:
        """The one that was taken: for what turned out to be no guess."""
        with self._lock:
            if key in self._levels:
                level, then = self._levels[key]
                self._levels[key] = (min(self.most, level + 1), then)

    def forget(self, key: str) -> None:
        """Start afresh: after a sign-in that worked."""
        with self._lock:
            self._levels.pop(key, None)


@dataclass(frozen=True)
class BodyLimit:
    """Middleware that breaks off a request larger than it may be, whatever its header says."""

    app: App
    most: int
    uploads: int
    """For paths that end in ``/import``, from somebody who is known."""
    known: Callable[[Scope], bool]
    """Whether somebody is signed in: a form is read to its end before its handler is asked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.most
        if str(scope["path"]).endswith("/import") and await run_in_threadpool(self.known, scope):
            most = self.uploads
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            audit_log.refused("too large", scope)
            await _refuse(send, most)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:  # the sender lied about the length, or gave none
                audit_log.refused("too large", scope)
                raise HTTPException(413, _too_large(most), {"Connection": "close"})
            return message

        await self.app(scope, counted, send)


def _too_large(most: int) -> str:
    return f"this request is larger than {most // 2**20} MiB; send it in parts."


async def _refuse(send: Send, most: int) -> None:
    text = json.dumps({"detail": _too_large(most), "code": "413"})
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
