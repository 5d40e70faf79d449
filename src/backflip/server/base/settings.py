"""Settings of a server: where it listens, whom it trusts, how much it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backflip.errors import UserError

SHORTEST_SECRET = 16
"""Characters of a secret shared with a proxy."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "testserver")
"""Names of the server for browsers on this machine."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of one server; the defaults are those of a laptop."""

    folder: Path | None = None
    """Clips, figures, logs and runs of jobs lie below it; none: beside the database."""
    hosts: tuple[str, ...] = LOCAL_HOSTS
    """Names that the server answers to; empty: any. Keeps foreign pages from reaching a local one
    by a name of their own that points here (DNS rebinding)."""
    allowed: tuple[str, ...] = ()
    """More of these names."""
    public_url: str = ""
    """Where a reverse proxy shows the server, https://NAME: links begin with it, the name is
    answered to, and under https cookies travel over TLS only."""
    secure: bool = False
    """Whether cookies travel over TLS only, whatever the public address."""
    session_hours: float = 14.0 * 24
    """After so long somebody has to sign in again."""
    upload_bytes: int = 200 * 2**20
    """Largest file of an import."""
    media_bytes: int = 20 * 2**30
    """Clips and pictures of one project, all together."""
    body_bytes: int = 4 * 2**20
    """Largest request of any other kind."""
    sign_ins_per_minute: float = 6.0
    """Wrong ones of a network (an IPv4 address, or a /64), and tries at links; three times as many
    in one burst."""
    answers_per_minute: float = 240.0
    """Per person."""
    proxy_secret: str = ""
    """Secret that a reverse proxy sends in X-Backflip-Proxy to be believed; empty: no proxy is."""
    proxy_header: str = "X-Forwarded-Email"
    """Where a believed proxy says who has signed in (single sign-on)."""
    jobs: int = 1
    """Trainings that run at the same time; short jobs have a lane of their own."""
    endpoints: tuple[tuple[str, str], ...] = ()
    """Policies to talk with: (name, model folder or address of an OpenAI-compatible server)."""

    def __post_init__(self) -> None:
        if self.proxy_secret and len(self.proxy_secret) < SHORTEST_SECRET:
            raise UserError(
                f"the proxy's secret has {len(self.proxy_secret)} characters, which can be "
                f"guessed; take {SHORTEST_SECRET} or more"
            )
        if self.public_url and not _bare(self.public_url):
            raise UserError(
                f"{self.public_url!r} is no address of a server. Give https:// and a name, without "
                "a path: https://labels.example.org"
            )

    @property
    def base(self) -> str:
        """Beginning of links to this server; empty: whatever name the visitor used."""
        return self.public_url.rstrip("/")

    @property
    def names(self) -> tuple[str, ...]:
        """All names that the server answers to; none: any."""
        if not self.hosts:
            return ()
        more = (*self.allowed, _host(self.public_url) if self.public_url else "")
        return (*self.hosts, *(name.lower() for name in more if name))

    @property
    def over_tls(self) -> bool:
        """Whether browsers reach this server over TLS alone."""
        return self.secure or self.public_url.lower().startswith("https://")


def _bare(url: str) -> bool:
    """Whether an address is a scheme and a name, perhaps with a port."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.username is None and (parts.port or 0) >= 0
    except ValueError:
        return False
    rest = parts.path.strip("/") + parts.query + parts.fragment
    return named and parts.scheme in ("http", "https") and not rest


def _host(url: str) -> str:
    """The name in an address, as a browser's Host header has it, without the port."""
    name = urlsplit(url).hostname or ""
    return f"[{name}]" if ":" in name else name
