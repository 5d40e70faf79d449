"""The server of a command: where it listens, what it believes, and the address that it prints."""

from __future__ import annotations

import logging

from backflip.cli.console import say
from backflip.cli.feedback.options import Beside, Network
from backflip.errors import UserError


def endpoints(policies: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Policies to talk with, as ``--policy NAME=MODEL`` names them. Raises UserError."""
    found = list[tuple[str, str]]()
    for text in policies or ():
        name, equals, model = text.partition("=")
        if not (name and equals and model):
            raise UserError(f"{text!r} names no policy. Write --policy NAME=MODEL.")
        found.append((name, model))
    return tuple(found)


def run_server(project: str | None, store: str | None, network: Network, beside: Beside) -> None:
    """Serve until interrupted. Raises UserError as ``backflip.server.serve.serve`` does."""
    from backflip.server.base.settings import ServerSettings
    from backflip.server.serve import Listening, serve

    certificate, key = (str(path) if path else "" for path in (network.tls_cert, network.tls_key))
    proxied, clear = bool(network.proxy_secret), network.without_tls
    listening = Listening(network.host, network.port, certificate, key, proxied, clear)
    settings = ServerSettings(
        folder=beside.files,
        allowed=tuple(network.allow_host or ()),
        public_url=network.public_url,
        proxy_secret=network.proxy_secret,
        endpoints=endpoints(beside.policy),
    )
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S %z")

    def ready(address: str) -> None:
        say(f"Open {address}")
        say("This address signs you in once, for ten minutes. Ctrl-C stops the server.", "dim")

    serve(
        project,
        store=store,
        listening=listening,
        settings=settings,
        open_page=network.open_,
        ready=ready,
    )
