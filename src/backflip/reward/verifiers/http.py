"""A service that checks answers, asked over HTTP."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
OUTCOMES = ("correct", "incorrect", "unparsable", "error", "timeout")


@dataclass(frozen=True, kw_only=True)
class HTTP(Verifier):
    """A service is sent an answer as JSON and replies with its score, or with an outcome.

    It is sent ``{"answer", "reference", "prompt", "info"}`` by POST. It replies with a number, true
    or false, ``{"score": 0.5}`` or ``{"outcome": "correct"}``; a number is the share of being
    right, from 0 to 1. Connections that fail, replies that do not come, and the status codes 408,
    425, 429, 500, 502, 503 and 504 are tried again.
    """

    needs_reference: ClassVar[bool] = False

    url: str = ""
    """Address of the service: http://… or https://…"""
    retries: int = 3
    """Further tries after one that failed."""
    patience: float = 10.0
    """Seconds in which a reply has to come."""
    token: str = ""
    """Name of an environment variable whose value is sent as a bearer token."""
    seconds: float = 60.0
    """Time limit of one check with all its tries, beyond which the outcome is timeout."""
    workers: int = 8
    """Worker processes that ask side by side."""

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
            with urllib.request.urlopen(request, timeout=self.patience) as reply:
                return _read(reply.read(LONGEST + 1)), None
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
        except OSError as error:
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


def _read(reply: bytes) -> Verdict:
    """A verdict out of the body of a reply."""
    if len(reply) > LONGEST:
        return Verdict("error", reason="the reply is longer than a megabyte")
    try:
        said = json.loads(reply)
    except (ValueError, RecursionError):
        return Verdict("error", reason=f"the reply is no JSON: {reply[:60]!r}")
    reason = ""
    if isinstance(said, dict):
        reason = str(said.get("reason", ""))
        if said.get("outcome") in OUTCOMES:
            return Verdict(said["outcome"], reason=reason)
        said = said.get("score")
    if isinstance(said, bool):
        return Verdict("correct" if said else "incorrect", reason=reason)
    if not isinstance(said, int | float) or not 0 <= said <= 1:
        return Verdict("error", reason=f"the reply has no score from 0 to 1: {reply[:60]!r}")
    return Verdict("scored", float(said), reason)
