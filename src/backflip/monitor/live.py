"""Follows a running run in the browser: a small server for this machine only.

``/`` is the page, ``/version`` a short text that changes when the run's files do. The page asks for
it every two seconds. Only requests to a name of this machine are answered, so that no foreign web
page can read a run through a name of its own that points here.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from backflip.errors import UserError
from backflip.monitor.folder import newest_change, read_run
from backflip.monitor.report import render

PORT = 8600
NAMES = frozenset({"localhost", "127.0.0.1"})


def serve(
    folder: Path | str, port: int = PORT, *, ready: Callable[[str], None] | None = None
) -> None:
    """Show a run until interrupted (Ctrl-C). ``ready`` is told the address once it answers.

    Raises UserError when there is no run in the folder, or the port is taken.
    """
    with server(folder, port) as running:
        if ready is not None:
            ready(address(running))
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return


def server(folder: Path | str, port: int = PORT) -> ThreadingHTTPServer:
    """A server that listens but does not answer yet; port 0 takes any free one."""
    read_run(folder)
    handler = type("Handler", (_Handler,), {"folder": Path(folder)})
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used ({error.strerror}). Choose another one, or stop the "
            "program that has it."
        ) from error


def address(running: ThreadingHTTPServer) -> str:
    """The address to open in the browser."""
    return f"http://127.0.0.1:{running.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        if self.headers.get("Host", "").partition(":")[0] not in NAMES:
            self._answer(403, "text/plain", "Only for this machine.")
        elif self.path == "/version":
            self._answer(200, "text/plain", newest_change(self.folder))
        elif self.path == "/":
            self._page()
        else:
            self._answer(404, "text/plain", "There is only the page at /.")

    def _page(self) -> None:
        version = newest_change(self.folder)
        try:
            self._answer(200, "text/html", render(self.folder, live=version))
        except UserError as error:
            self._answer(500, "text/html", f"<p id='page'>{html.escape(str(error))}</p>")

    def _answer(self, status: int, kind: str, body: str) -> None:
        data = body.encode("utf-8", errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        try:
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True  # the browser has left

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to whoever started the server."""
