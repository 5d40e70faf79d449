"""Security headers of every answer, and the host names that the server answers to."""

from __future__ import annotations

from dataclasses import dataclass

from backflip.server.base.limits import App, Message, Receive, Scope, Send

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
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}
HIDDEN = b"no-store"
"""Cache-Control of pages: a shared computer must not keep them."""
ASK_AGAIN = b"no-cache"
"""Of static files: kept, but never used without asking, or scripts of two versions would meet."""


@dataclass(frozen=True)
class SafeHeaders:
    """Middleware: security headers on every answer, and 421 for a foreign host name."""

    app: App
    hosts: tuple[str, ...] = ()
    secure: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.hosts and _host(scope) not in self.hosts:
            await _misdirected(send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._with(scope, list(message.get("headers", [])))
            await send(message)

        await self.app(scope, receive, sending)

    def _with(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        have = {name.lower() for name, _ in headers}
        extra = dict(HEADERS)
        extra[b"content-security-policy"] = POLICY.encode()
        static = str(scope["path"]).startswith("/static/")
        extra[b"cache-control"] = ASK_AGAIN if static else HIDDEN
        if self.secure:
            extra[b"strict-transport-security"] = b"max-age=31536000"
        return headers + [(name, value) for name, value in extra.items() if name not in have]


def _host(scope: Scope) -> str:
    """The name in the Host header, without its port; brackets of IPv6 stay."""
    given = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    name, colon, port = given.rpartition(":")
    return name if colon and port.isdigit() else given


async def _misdirected(send: Send) -> None:
    text = b"This server does not answer to that name. Start it with --public-url or --allow-host."
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": text})
