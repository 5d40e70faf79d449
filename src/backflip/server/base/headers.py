"""What every answer tells the browser to refuse, and which names the server answers to."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)
"""No inline script or style runs, nothing is loaded from elsewhere, no page may frame ours."""
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:"
)
"""For a training run's report, a page of its own script: sandboxed, so it has no session."""
MEDIA_POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'"
"""For clips and pictures that somebody sent: opened by themselves they can do nothing."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
HIDDEN = "no-store"
"""Cache-Control of pages: a shared computer must not keep them."""
ASK_AGAIN = "no-cache"
"""Of static files: kept, but never used without asking, or scripts of two versions would meet."""

FOREIGN = "This server does not answer to that name. Start it with --public-url or --allow-host."
"""Starlette's own middleware for host names answers 400, without the way out."""


@dataclass(frozen=True)
class SafeHeaders:
    """Middleware: security headers on every answer, and 421 for a foreign host name."""

    app: ASGIApp
    hosts: tuple[str, ...] = ()
    secure: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.hosts and _host(scope) not in self.hosts:
            await PlainTextResponse(FOREIGN, 421)(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                self._fill(scope, MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, sending)

    def _fill(self, scope: Scope, headers: MutableHeaders) -> None:
        """Add the headers that the answer does not have of its own."""
        static = str(scope["path"]).startswith("/static/")
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("cache-control", ASK_AGAIN if static else HIDDEN)
        if self.secure:
            headers.setdefault("strict-transport-security", "max-age=31536000")


def _host(scope: Scope) -> str:
    """The name in the Host header, without its port; brackets of IPv6 stay."""
    given = Headers(scope=scope).get("host", "").lower()
    name, colon, port = given.rpartition(":")
    return name if colon and port.isdigit() else given
