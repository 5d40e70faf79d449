"""Sessions: signed cookies, tokens of programs, a trusted proxy; and CSRF.

A cookie holds a random nonce, and who signed in under which epoch of their password: a new password
ends all older sessions. The CSRF token is a signature of the nonce, so that it needs no place to be
kept, and no page of another site can know it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from backflip.feedback.projects.guessing import network
from backflip.feedback.projects.identities import Person
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base.settings import ServerSettings

SAFE = ("GET", "HEAD", "OPTIONS")
FIELD, HEADER = "csrf", "X-CSRF-Token"
PROXY = "X-Backflip-Proxy"
"""Header in which a reverse proxy sends the shared secret."""

LINK_DAYS = 3
"""How long a link to a new password is good."""
WORTHLESS = "this link is not valid (any more); ask for a new one."


@dataclass(frozen=True)
class Session:
    """The content of a cookie."""

    nonce: str
    person: int | None = None
    epoch: int = 0


class Sessions:
    """Reads and writes cookies, and makes CSRF tokens."""

    def __init__(self, secret: str, settings: ServerSettings) -> None:
        self.secret, self.settings = secret.encode(), settings
        self.signer = URLSafeTimedSerializer(secret, salt="backflip session")
        digest = hashlib.sha256(b"cookie name" + self.secret).hexdigest()
        self.cookie = f"backflip-{digest[:6]}"
        """A name of its own: cookies of two servers on one machine share a host."""

    def read(self, request: Request) -> Session:
        """The session of a request; a fresh one where there is none that holds."""
        try:
            cookie = request.cookies.get(self.cookie, "")
            kept, made = self.signer.loads(cookie, return_timestamp=True)
            # From the future where the clock was set back: no reason to sign everybody out.
            if time.time() - made.timestamp() > self.settings.session_hours * 3600:
                raise SignatureExpired("a session of long ago")
            return Session(str(kept["n"]), kept.get("p"), int(kept.get("e", 0)))
        except (BadSignature, KeyError, TypeError, ValueError):
            return Session(secrets.token_urlsafe(16))

    def write(self, response: Response, session: Session) -> None:
        """Put a session into the answer's cookie."""
        kept: dict[str, Any] = {"n": session.nonce}
        if session.person is not None:
            kept |= {"p": session.person, "e": session.epoch}
        response.set_cookie(
            self.cookie,
            self.signer.dumps(kept),
            max_age=int(self.settings.session_hours * 3600),
            httponly=True,
            samesite="lax",
            secure=self.settings.over_tls,
        )

    def start(self, response: Response, person: int, epoch: int) -> None:
        """Sign somebody in, under a new nonce: what the browser had before is worth nothing."""
        self.write(response, Session(secrets.token_urlsafe(16), person, epoch))

    def end(self, response: Response) -> None:
        response.delete_cookie(self.cookie)

    def csrf(self, session: Session) -> str:
        """The token that forms and fetches of this session carry."""
        said = f"{session.nonce}/{session.person}".encode()
        return hmac.new(self.secret, b"csrf " + said, hashlib.sha256).hexdigest()

    def holds(self, session: Session, token: str) -> bool:
        """Whether a form or fetch came from a page that we gave to this session."""
        return hmac.compare_digest(self.csrf(session).encode(), token.encode("utf-8", "replace"))


class PasswordLinks:
    """Links by which somebody chooses a new password. The new one ends the link, as all sessions:
    it holds the epoch of the old one.
    """

    def __init__(self, secret: str) -> None:
        self.signer = URLSafeTimedSerializer(secret, salt="backflip new password")

    def make(self, person: Person) -> str:
        """The signed end of a link."""
        return self.signer.dumps([person.id, person.epoch])

    def read(self, link: str) -> tuple[int, int]:
        """Person and epoch. Raises RefusedError for what is no link of ours, or too old."""
        try:
            person, epoch = self.signer.loads(link, max_age=LINK_DAYS * 86_400)
        except (BadSignature, TypeError, ValueError):
            raise RefusedError("not_found", WORTHLESS) from None
        return int(person), int(epoch)


def signed_in_at_proxy(request: Request, settings: ServerSettings) -> str | None:
    """Whom a trusted proxy names (an e-mail address); none where the proxy is not believed.

    Without the shared secret the header is worth nothing: anybody can send one.
    """
    given = request.headers.get(PROXY, "").encode("latin-1", "replace")
    if not settings.proxy_secret:
        return None
    if not hmac.compare_digest(given, settings.proxy_secret.encode()):
        return None
    named = request.headers.get(settings.proxy_header, "").encode("latin-1")
    return named.decode("utf-8", "replace").strip().lower() or None


def bearer(request: Request) -> str | None:
    """The token of a program, from ``Authorization: Bearer …``."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def address(request: Request) -> str:
    """Where a request comes from, for rate limits: an address, or its network."""
    return network(request.client.host) if request.client else "?"
