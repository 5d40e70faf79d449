"""How a server is run: where it listens, whom it trusts, how much it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from backflip.data.errors import UserError

SHORTEST_SECRET = 16
"""Characters of a secret shared with a proxy."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "testserver")
"""What a browser on this machine may call the server."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of one server; the defaults are those of a laptop."""

    folder: Path = field(default_factory=lambda: Path("feedback-files"))
    """Uploads, media, logs and runs of jobs lie below it."""
    hosts: tuple[str, ...] = LOCAL_HOSTS
    """Names that the server answers to; empty: any. Keeps foreign pages from reaching a local one
    by a name of their own that points here (DNS rebinding)."""
    secure: bool = False
    """Whether cookies travel over TLS only."""
    session_hours: float = 14.0 * 24
    """After so long somebody has to sign in again."""
    upload_bytes: int = 200 * 2**20
    """Largest file of an import."""
    media_bytes: int = 20 * 2**30
    """Clips and pictures of one project, all together."""
    body_bytes: int = 4 * 2**20
    """Largest request of any other kind."""
    sign_ins_per_minute: float = 6.0
    """Per address and per e-mail address; three times as many in one burst."""
    answers_per_minute: float = 240.0
    """Per person."""
    proxy_secret: str = ""
    """What a reverse proxy sends in X-Backflip-Proxy to be believed; empty: no proxy is."""
    proxy_header: str = "X-Forwarded-Email"
    """Where a believed proxy says who has signed in (single sign-on)."""
    jobs: int = 1
    """Jobs that run at the same time."""
    endpoints: tuple[tuple[str, str], ...] = ()
    """Policies to talk with: (name, model folder or address of an OpenAI-compatible server)."""

    def __post_init__(self) -> None:
        if self.proxy_secret and len(self.proxy_secret) < SHORTEST_SECRET:
            raise UserError(
                f"the proxy's secret has {len(self.proxy_secret)} characters, which can be "
                f"guessed; take {SHORTEST_SECRET} or more"
            )
