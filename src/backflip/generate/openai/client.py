"""Requests to a server over HTTP: JSON in and out, tried again where that may help."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from backflip.errors import UserError
from backflip.text import counted

AGAIN = (408, 409, 425, 429)
"""Codes below 500 that pass: a time-out, a conflict, a limit on the rate."""
LONGEST_WAIT = 30.0
MOST_BYTES = 1 << 20
PIECE = 1 << 16
EXCERPT = 200


class RefusedError(UserError):
    """The server understood and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SilentError(UserError):
    """No try gave an answer: the server is down, stuck, or not there."""


class _PassingError(Exception):
    """A failure that may be another time's success."""

    slow = False
    """Whether all the time of a try had passed."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Lines:
    """Connections that are open, so that another thread can hang up on all of them."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.failed: list[str] = []
        """Reasons of failures that were tried again."""
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def held(self, line: http.client.HTTPConnection) -> Generator[None]:
        """Hold a connection for as long as the block lasts."""
        with self._lock:
            self._open.add(line)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(line)
            line.close()

    def hang_up(self) -> None:
        """End whatever is still asked, and try nothing again."""
        self.closed.set()
        with self._lock:
            socks = [line.sock for line in self._open if line.sock is not None]
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, kw_only=True)
class Client:
    """Knows where a server is and how long to bear with it."""

    url: str
    """With its version: http://localhost:8000/v1."""
    key: str | None = field(default=None, repr=False)
    """Sent as a bearer token."""
    timeout: float = 600.0
    """Seconds for one answer, from the request to its last byte."""
    retries: int = 5
    """Further tries after a failure that may pass."""
    slow_once: bool = False
    """Whether a try that took all its time is the last one."""
    first_wait: float = 0.5
    """Seconds before the first of them, doubled for each of the next, at most 30."""

    @property
    def root(self) -> str:
        """The address without the version, where vLLM has its own endpoints."""
        return self.url.removesuffix("/v1")

    def ask(
        self,
        url: str,
        body: dict[str, Any] | None = None,
        *,
        most_bytes: int = MOST_BYTES,
        lines: Lines | None = None,
        plain: bool = False,
    ) -> Any:
        """The JSON that answers ``body`` (GET where there is none); ``plain``, the text.

        Given up as soon as ``lines`` are hung up. Raises RefusedError, and SilentError where no
        try gave an answer.
        """
        lines, tried = lines or Lines(), 0
        while True:
            try:
                return _parsed(self._once(url, body, most_bytes, lines), url, plain=plain)
            except _PassingError as error:
                failure, tried = error, tried + 1
            if failure.slow and self.slow_once:
                break
            wait = self.first_wait * 2 ** (tried - 1) if failure.wait is None else failure.wait
            if tried > self.retries or lines.closed.wait(min(wait, LONGEST_WAIT)):
                break
            lines.failed.append(str(failure))
        raise SilentError(
            f"engine: no answer from {url} in {counted(tried, 'try', 'tries')}; the last: "
            f"{failure}. Is the server running there, and is it up to the load? engine.timeout, "
            "engine.retries and engine.concurrency say how long to bear with it."
        )

    def _once(self, url: str, body: dict[str, Any] | None, most_bytes: int, lines: Lines) -> bytes:
        parts = urlsplit(url)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        line = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        deadline = time.monotonic() + self.timeout
        try:
            with lines.held(line):
                path = f"{parts.path}?{parts.query}" if parts.query else parts.path
                line.request("GET" if data is None else "POST", path, data, headers)
                response = line.getresponse()
                raw = _read(response, deadline, most_bytes)
        except TimeoutError as error:
            late = _PassingError(f"nothing whole within {self.timeout:g} s")
            late.slow = True
            raise late from error
        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(str(error) or type(error).__name__) from error
        if response.status >= 300:
            raise _refusal(url, response, raw)
        return raw


def _refusal(url: str, response: http.client.HTTPResponse, raw: bytes) -> Exception:
    status = response.status
    seen = f"HTTP {status} {excerpt(raw) or response.reason}"
    if status >= 500 or status in AGAIN:
        after = response.headers.get("Retry-After", "")
        return _PassingError(seen, float(after) if after.isdecimal() else None)
    if status in (401, 403):
        seen += "; engine.key_env names the environment variable that holds the server's key"
    return RefusedError(f"engine: {url} refuses: {seen}.", status)


def _read(response: http.client.HTTPResponse, deadline: float, most_bytes: int) -> bytes:
    """The body, as long as it comes in time and within bounds."""
    parts: list[bytes] = []
    size = 0
    while piece := response.read1(PIECE):
        parts.append(piece)
        size += len(piece)
        if size > most_bytes:
            raise _PassingError(f"more than the {most_bytes:,} bytes that such an answer can have")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _parsed(raw: bytes, url: str, *, plain: bool) -> Any:
    if plain:
        return raw.decode("utf-8", "replace")
    try:
        answer = json.loads(raw)
    except ValueError as error:
        seen = f"{len(raw)} bytes that are no whole JSON: {excerpt(raw)!r}"
        raise _PassingError(seen) from error
    if isinstance(answer, dict) and (answer.get("error") or answer.get("object") == "error"):
        raise RefusedError(f"engine: {url} says: {said_in(answer)}.", 400)
    return answer


def excerpt(raw: bytes) -> str:
    """The message of an error, or the beginning of whatever came instead."""
    text = raw.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        text = said_in(json.loads(text)) or text
    return " ".join(text.split())[:EXCERPT]


def said_in(answer: Any) -> str:
    """The words in an error object of OpenAI's protocol; empty where there are none."""
    if not isinstance(answer, dict):
        return ""
    inner = answer.get("error", answer)
    said = inner.get("message", inner.get("detail", "")) if isinstance(inner, dict) else inner
    return " ".join(str(said).split())[:EXCERPT]
