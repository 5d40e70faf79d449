"""A service that checks answers, asked over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, ClassVar
from urllib.parse import urlsplit

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

LONGEST = 1 << 20
"""Bytes of a reply that are read."""
PAUSE = 0.5
"""Seconds before the first retry; each further one waits twice as long, up to a random half."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which the same request may succeed."""
OUTCOMES = ("correct", "incorrect", "unparsable", "error", "timeout", "scored")


@dataclass(frozen=True, kw_only=True)
class HTTP(Verifier):
    """A service is sent an answer as JSON and replies with its score, or with an outcome.

    It is sent ``{"answer", "reference", "prompt", "info"}`` by POST. It replies with a number, true
    or false, ``{"score": 0.5}``, ``{"outcome": "correct"}`` or both of these. A number is the share
    of being right that is paid, from 0 to 1; by itself, 1 is correct, 0 incorrect, and between them
    an answer is right in part. Connections that fail, replies that do not come, and the status
    codes 408, 425, 429, 500, 502, 503 and 504 are tried again.
    """

    needs_reference: ClassVar[bool] = False
    decides: ClassVar[bool] = False

    url: str = ""
    """Address of the service: http://… or https://…"""
    retries: int = 3
    """Further tries after one that failed."""
    patience: float = 10.0
    """Seconds in which a reply has to come, to its last byte."""
    token: str = ""
    """Name of an environment variable whose value is sent as a bearer token."""
    seconds: float = 60.0
    """Time limit of one check with all its tries, beyond which the outcome is timeout."""
    workers: int = 8
    """Worker processes that ask side by side."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Not known: the service may reply with any number."""
        return None

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        sent = {"answer": answer, "reference": reference, "prompt": prompt, "info": dict(info)}
        body = json.dumps(sent, default=str).encode()
        verdict = Verdict("error", reason=f"{self.url} was not asked")
        for number in range(self.retries + 1):
            verdict, pause = self._ask(body)
            if pause is None or number == self.retries:
                break
            time.sleep(max(pause, PAUSE * 2**number * random.uniform(1.0, 1.5)))
        return verdict

    def _ask(self, body: bytes) -> tuple[Verdict, float | None]:
        """(the verdict of one try, seconds to wait at least before another; None for no other)."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {os.environ[self.token]}"
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            return _read(_Try(request, self.patience).reply()), None
        except urllib.error.HTTPError as error:
            wait = error.headers.get("Retry-After", "")
            pause = float(wait) if wait.isdigit() else 0.0
            verdict = Verdict("error", reason=f"{self.url} replied with status {error.code}")
            return verdict, pause if error.code in AGAIN else None
        except TimeoutError:
            return Verdict("timeout", reason=f"no reply within {self.patience:g} s"), 0.0
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                return Verdict("timeout", reason=f"no reply within {self.patience:g} s"), 0.0
            return Verdict("error", reason=f"{self.url} cannot be reached: {error.reason}"), 0.0
        except (OSError, HTTPException) as error:
            return Verdict("error", reason=f"{self.url} broke off: {error}"), 0.0

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            yield f"{where}.url is {self.url!r}; give the address of a service: http://HOST:PORT/PATH."
        if self.token and self.token not in os.environ:
            yield f"{where}.token is {self.token}, but there is no such environment variable."
        if self.retries < 0:
            yield f"{where}.retries is {self.retries}; it must be 0 or more."
        if not self.patience > 0:
            yield f"{where}.patience is {self.patience:g}; it must be above 0."


@dataclass
class _Try:
    """One request, whose reply is awaited so long and no longer, however slowly it drips."""

    request: urllib.request.Request
    patience: float
    ended: threading.Event = field(default_factory=threading.Event)
    connections: list[HTTPConnection] = field(default_factory=list[HTTPConnection])
    body: bytes = b""
    error: Exception | None = None

    def reply(self) -> bytes:
        """The body of the reply. Raises TimeoutError, and whatever a request raises."""
        threading.Thread(target=self._run, daemon=True).start()
        if not self.ended.wait(self.patience):
            for connection in self.connections:
                with contextlib.suppress(OSError, AttributeError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            raise TimeoutError
        if self.error is not None:
            raise self.error
        return self.body

    def _run(self) -> None:
        until = time.monotonic() + self.patience
        try:
            opener = urllib.request.build_opener(_Plain(self._made), _Secure(self._made))
            with opener.open(self.request, timeout=self.patience) as reply:
                while len(self.body) <= LONGEST and time.monotonic() < until:
                    if not (part := reply.read1(1 << 16)):
                        break
                    self.body += part
        except Exception as error:  # the caller's
            self.error = error
        finally:
            self.ended.set()

    def _made(self, kind: type[HTTPConnection]) -> Callable[..., HTTPConnection]:
        """Makes connections of a kind, which are kept so that they can be broken off."""

        def make(host: str, **settings: Any) -> HTTPConnection:
            self.connections.append(kind(host, **settings))
            return self.connections[-1]

        return make


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, made: Callable[..., Any]) -> None:
        super().__init__()
        self.made = made

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self.made(HTTPConnection), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, made: Callable[..., Any]) -> None:
        super().__init__()
        self.made = made

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self.made(HTTPSConnection), req)


def _read(reply: bytes) -> Verdict:
    """A verdict out of the body of a reply."""
    if len(reply) > LONGEST:
        return Verdict("error", reason="the reply is longer than a megabyte")
    try:
        said = json.loads(reply)
    except (ValueError, RecursionError):
        return Verdict("error", reason=f"the reply is no JSON: {reply[:60]!r}")
    stated = said if isinstance(said, dict) else {"score": said}
    return _verdict(**{name: stated.get(name) for name in ("outcome", "score", "reason")})


def _verdict(outcome: Any, score: Any, reason: Any) -> Verdict:
    """A verdict out of what a reply states; None where it states nothing."""
    said = str(reason or "")
    if outcome not in (None, *OUTCOMES):
        told = f"the reply's outcome is {str(outcome)[:40]!r}, none of {', '.join(OUTCOMES)}"
        return Verdict("error", reason=told)
    if outcome == "error" or (score is None and outcome not in (None, "scored")):
        return Verdict(outcome, reason=said)
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        return Verdict("error", reason=f"the reply has no score from 0 to 1, but {score!r:.60}")
    if outcome not in (None, "scored"):
        return Verdict(outcome, float(score), said)
    return Verdict.share(float(score), said)
