"""The running server, for one machine or for many people.

The address that is printed signs its reader in as the owner, once and for ten minutes, so that a
laptop needs no password.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backflip.errors import UserError
from backflip.feedback.projects.identities import Person
from backflip.feedback.projects.store import Store, open_store
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.app import create_app
from backflip.server.base.settings import LOCAL_HOSTS, ServerSettings
from backflip.server.base.state import AppState
from backflip.server.pages.account import door

PORT = 8700
LOCAL = "127.0.0.1"
WIDE = ("0.0.0.0", "::")
"""Every address of this machine."""


@dataclass(frozen=True)
class Listening:
    """Address of a server, and its protocol."""

    host: str = LOCAL
    port: int = PORT
    """0 takes any free one."""
    certificate: str = ""
    """Files of a TLS certificate and its key; empty: none, as on this machine or behind a proxy."""
    key: str = ""
    behind_proxy: bool = False
    """Whether a reverse proxy on this machine says who asks (X-Forwarded-For and -Proto)."""
    without_tls: bool = False
    """Whether other machines may be listened to in the clear."""

    @property
    def local(self) -> bool:
        """Whether this machine alone can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def serve(
    project: str | None = None,
    *,
    store: str | Path | None = None,
    listening: Listening | None = None,
    settings: ServerSettings | None = None,
    open_page: bool = True,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted. ``ready`` is told the owner's address once the server answers.

    A project that is not there yet is made when the page is opened: the form of a new project.
    Raises UserError where the port is taken, or others could listen in without TLS.
    """
    import uvicorn

    listening, settings = listening or Listening(), settings or ServerSettings()
    _check(listening, settings)
    settings = _settled(settings, listening)
    opened = open_store(store)
    try:
        app = create_app(opened, settings)
        with _bound(listening) as bound:
            base = settings.base or _base(listening, bound)
            address = f"{base}{way_in(app.state.site, project)}"
            config = uvicorn.Config(app, **_options(listening, settings))
            server = uvicorn.Server(config)
            _tell_when_up(server, address, open_page, ready)
            server.run(sockets=[bound])
    finally:
        opened.close()


def _check(listening: Listening, settings: ServerSettings) -> None:
    """Raises UserError where others could listen in, or TLS cannot be had."""
    if listening.key and not listening.certificate:
        raise UserError("--tls-key alone makes no https. Give its certificate too: --tls-cert.")
    if listening.certificate:
        _check_certificate(listening)
    shielded = listening.certificate or listening.behind_proxy or settings.over_tls
    if not (listening.local or shielded or listening.without_tls):
        raise UserError(
            f"on {listening.host} others could read passwords and answers on their way. Give "
            "--tls-cert and --tls-key, or stand behind a reverse proxy (--public-url); where the "
            "network is your own, as between a container and its host, say --without-tls."
        )


def _check_certificate(listening: Listening) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(listening.certificate, listening.key or None)
    except OSError as error:
        raise UserError(
            f"{listening.certificate} and {listening.key or 'the key in it'} make no https "
            f"({error.strerror or error}). Give a certificate and its key as PEM files."
        ) from error


def _settled(settings: ServerSettings, listening: Listening) -> ServerSettings:
    """Names to answer to, and cookies for TLS only where there is TLS."""
    if settings.hosts == LOCAL_HOSTS and not listening.local:
        own = () if listening.host in WIDE else (listening.host,)
        known = own or settings.allowed or settings.public_url
        settings = replace(settings, hosts=(*LOCAL_HOSTS, *own) if known else ())
    return replace(settings, secure=settings.secure or bool(listening.certificate))


def _bound(listening: Listening) -> socket.socket:
    """The socket, bound before anything is started, so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where TCP is named; else answers wait 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((listening.host, listening.port))
    except (OSError, OverflowError) as error:
        bound.close()
        why = getattr(error, "strerror", "") or str(error).removeprefix("bind(): ")
        raise UserError(
            f"{listening.host}:{listening.port} cannot be used ({why}). Choose another "
            "port, or stop the program that has it."
        ) from error
    return bound


def _base(listening: Listening, bound: socket.socket) -> str:
    scheme = "https" if listening.certificate else "http"
    host = LOCAL if listening.host in WIDE else listening.host
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{bound.getsockname()[1]}"


def _options(listening: Listening, settings: ServerSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "proxy_headers": listening.behind_proxy or bool(settings.public_url),
        "server_header": False,
        "timeout_graceful_shutdown": 10,
    }
    if listening.certificate:
        options |= {"ssl_certfile": listening.certificate, "ssl_keyfile": listening.key or None}
    return options


def owner(store: Store) -> Person:
    """The admin who started the server: the first one there is, or a new one."""
    admins = [person for person in store.people.everybody() if person.admin]
    return admins[0] if admins else store.people.add(name="Owner", admin=True)


def way_in(site: AppState, project: str | None) -> str:
    """The path that signs the owner in and goes on to the project, or to the form that makes it."""
    path = door(site, owner(site.store).id)
    return f"{path}?next={quote(_first_page(site.store, project), safe='')}"


def _first_page(store: Store, project: str | None) -> str:
    if project is None:
        return "/"
    try:
        return f"/projects/{quote(store.project(project).name)}"
    except RefusedError:
        return f"/projects/new?name={quote(project)}"


def _tell_when_up(
    server: Any, address: str, open_page: bool, ready: Callable[[str], None] | None
) -> None:
    """Hook the moment in which the server begins to answer."""
    began = server.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await began(sockets=sockets)
        if ready is not None:
            ready(address)
        if open_page:
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(address)

    server.startup = startup


def make_project(store: Store, name: str, settings: ProjectSettings) -> None:
    """A project of the owner's, for commands that need one at once."""
    store.create(name, settings).enrol(owner(store).id, role="admin")
