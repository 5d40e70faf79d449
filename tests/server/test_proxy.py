"""Behind a reverse proxy, and in the open: names, links, cookies, single sign-on, TLS."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from backflip.errors import UserError
from backflip.feedback.projects.store import open_store
from backflip.server.app import create_app
from backflip.server.base.settings import LOCAL_HOSTS, ServerSettings
from backflip.server.pages.account import door
from backflip.server.serve import Listening, _check, _options, _settled, serve
from tests.server.served import HOST, PASSWORD, Browser, Served, served

PUBLIC = "https://labels.example.org"
SECRET = "a secret shared with the proxy"
FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def through(server: Served, *, host: str = "", **headers: str) -> Browser:
    """A browser whose requests a proxy passes on, under the public name or as ``host``."""
    browser = Browser(server.app)
    given = {**FORWARDED, **headers, **({"Host": host} if host else {})}
    browser.client = TestClient(
        server.app, base_url=PUBLIC, headers=given, raise_server_exceptions=False
    )
    return browser


def signed_on(server: Served, email: str) -> Browser:
    """The same, with a proxy that has checked who asks."""
    return through(server, **{"X-Backflip-Proxy": SECRET, "X-Forwarded-Email": email})


def link_on(page: Any) -> str:
    return page.text.split('id="link" value="')[1].split('"')[0]


# ---- names, links, cookies


def test_the_public_name_is_answered_to_and_a_foreign_one_is_not(tmp_path: Path):
    assert through(served(tmp_path)).get("/sign-in").status_code == 421
    server = served(tmp_path, public_url=PUBLIC)
    assert through(server).get("/sign-in").status_code == 200
    assert through(server, host="127.0.0.1:8700").get("/sign-in").status_code == 200
    assert through(server, host="evil.example").get("/sign-in").status_code == 421


def test_a_header_of_the_visitors_does_not_name_the_server(tmp_path: Path):
    server = served(tmp_path, public_url=PUBLIC)
    page = through(server, host="evil.example", **{"X-Forwarded-Host": "labels.example.org"})
    assert page.get("/sign-in").status_code == 421


def test_more_names_may_be_allowed(tmp_path: Path):
    server = served(tmp_path, allowed=("Backflip",))
    assert through(server, host="backflip:8700").get("/sign-in").status_code == 200
    assert through(server, host="labels").get("/sign-in").status_code == 421


@pytest.mark.parametrize("host", ["", "127.0.0.1:8700"])
def test_an_invitation_names_the_public_address_whatever_the_proxy_does_to_host(
    tmp_path: Path, host: str
):
    server = served(tmp_path, public_url=f"{PUBLIC}/")
    server.project()
    lead = through(server, host=host)
    lead.get(door(server.site, server.person("Ada", admin=True)))
    lead.get("/projects/tone/people")
    link = link_on(lead.send("/projects/tone/invitations", {"role": "rater"}))
    assert link.startswith(f"{PUBLIC}/invitation/")


def test_cookies_of_a_public_https_address_stay_on_tls(tmp_path: Path):
    answer = through(served(tmp_path, public_url=PUBLIC)).get("/sign-in")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers
    plain = served(tmp_path, public_url="http://labels.lan")
    answer = through(plain, host="labels.lan").get("/sign-in")
    assert "secure" not in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "url", ["labels.example.org", "ftp://x.org", "https://", f"{PUBLIC}/labels", f"{PUBLIC}:port"]
)
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(UserError, match="without a path"):
        ServerSettings(public_url=url)


# ---- single sign-on


def test_whom_the_proxy_names_is_signed_in(tmp_path: Path):
    server = served(tmp_path, proxy_secret=SECRET, public_url=PUBLIC)
    server.person("Ada", admin=True)
    assert "Ada" in signed_on(server, "Ada@example.org").get("/me").text


def test_the_owner_without_an_address_enters_through_the_proxy(tmp_path: Path):
    server = served(tmp_path, proxy_secret=SECRET, public_url=PUBLIC)
    owner = server.store.people.add(name="Owner", admin=True)
    browser = signed_on(server, "boss@example.org")
    assert browser.get(door(server.site, owner.id)).url.path == "/"
    assert browser.get("/projects/new").status_code == 200


def test_a_known_address_counts_before_a_session(tmp_path: Path):
    server = served(tmp_path, proxy_secret=SECRET, public_url=PUBLIC)
    server.person("Ada")
    grace = server.person("Grace")
    browser = signed_on(server, "ada@example.org")
    browser.get(door(server.site, grace))
    pseudonym = server.store.people.by_email("ada@example.org").pseudonym
    assert browser.get("/api/v1/me").json()["pseudonym"] == pseudonym


def test_behind_the_proxy_an_invitation_needs_no_password(tmp_path: Path):
    server = served(tmp_path, proxy_secret=SECRET, public_url=PUBLIC)
    project = server.project()
    path = f"/invitation/{project.invite()}"
    guest = signed_on(server, "grace@example.org")
    assert "Nobody here has the address <b>grace@example.org</b>" in guest.get("/sign-in").text
    page = guest.get(path).text
    assert "You join as <b>grace@example.org</b>" in page
    assert 'type="password"' not in page
    joined = guest.send(path, {"name": "Grace", "email": "another@example.org"})
    assert joined.url.path == "/projects/tone/rate"
    assert server.store.people.by_email("grace@example.org") is not None
    assert server.store.people.by_email("another@example.org") is None
    fresh = signed_on(server, "grace@example.org")
    assert fresh.get("/projects/tone/rate").status_code == 200


def test_who_joined_under_another_address_stays_in(tmp_path: Path):
    server = served(tmp_path, proxy_secret=SECRET, public_url=PUBLIC)
    server.person("Grace")
    browser = through(server, **{"X-Backflip-Proxy": SECRET, "X-Forwarded-Email": "g@corp.example"})
    browser.get("/sign-in")
    browser.send("/sign-in", {"email": "grace@example.org", "password": PASSWORD})
    assert browser.get("/me").url.path == "/me"


def test_without_the_secret_an_invitation_asks_for_address_and_password(tmp_path: Path):
    server = served(tmp_path, proxy_secret=SECRET, public_url=PUBLIC)
    path = f"/invitation/{server.project().invite()}"
    guest = through(server, **{"X-Forwarded-Email": "ada@example.org"})
    assert 'type="password"' in guest.get(path).text
    assert guest.send(path, {"name": "A", "email": "a@example.org"}).status_code == 400


# ---- where it listens


def test_names_answered_to_follow_where_the_server_listens():
    plain = ServerSettings()
    assert _settled(plain, Listening()).names == LOCAL_HOSTS
    assert _settled(plain, Listening("192.168.0.7")).names == (*LOCAL_HOSTS, "192.168.0.7")
    assert _settled(plain, Listening("0.0.0.0")).names == ()
    public = ServerSettings(public_url=PUBLIC, allowed=("backflip",))
    named = _settled(public, Listening("0.0.0.0")).names
    assert named == (*LOCAL_HOSTS, "backflip", "labels.example.org")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "labels.example.org"])
def test_nobody_listens_to_others_in_the_clear_by_accident(host: str):
    with pytest.raises(UserError, match="--without-tls"):
        _check(Listening(host), ServerSettings())
    with pytest.raises(UserError, match="--without-tls"):
        _check(Listening(host), ServerSettings(public_url="http://labels.lan"))
    _check(Listening(host, without_tls=True), ServerSettings())
    _check(Listening(host, behind_proxy=True), ServerSettings())
    _check(Listening(host), ServerSettings(public_url=PUBLIC))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_this_machine_alone_needs_no_tls(host: str):
    _check(Listening(host), ServerSettings())


def test_serve_refuses_before_it_opens_anything(tmp_path: Path):
    with pytest.raises(UserError, match="could read passwords"):
        serve(store=tmp_path / "f.sqlite", listening=Listening("0.0.0.0", 0), open_page=False)
    assert not (tmp_path / "f.sqlite").exists()


def test_the_container_starts_as_its_file_says():
    import json

    from typer.testing import CliRunner

    from backflip.cli import main as cli

    lines = (Path(__file__).parents[2] / "Dockerfile").read_text().splitlines()
    words = json.loads(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD "))
    assert "--without-tls" in words
    shown = CliRunner().invoke(cli.app, ["collect", "--help"], env={"COLUMNS": "200"}).output
    assert all(word in shown for word in words if word.startswith("--") and word != "--no-open")


def test_a_key_without_a_certificate_is_no_https(tmp_path: Path):
    with pytest.raises(UserError, match="--tls-cert"):
        _check(Listening(key=str(tmp_path / "key.pem")), ServerSettings())


def test_a_certificate_that_is_none_is_said_at_once(tmp_path: Path):
    (tmp_path / "cert.pem").write_text("no certificate")
    for name in ("cert.pem", "nothing.pem"):
        with pytest.raises(UserError, match="make no https"):
            _check(Listening(certificate=str(tmp_path / name)), ServerSettings())


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own for this machine, and its key."""
    if which("openssl") is None:
        pytest.skip("no program openssl to make a certificate with")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", *words, *names, *files], check=True, capture_output=True
    )
    return certificate, key


def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path: Path):
    certificate, key = certified(tmp_path)
    listening = Listening(port=0, certificate=str(certificate), key=str(key))
    settings = _settled(ServerSettings(folder=tmp_path / "files"), listening)
    _check(listening, settings)
    store = open_store(tmp_path / "feedback.sqlite")
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    app = create_app(store, settings)
    server = uvicorn.Server(uvicorn.Config(app, **_options(listening, settings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusted) as client:
            answer = client.get(f"https://127.0.0.1:{port}/sign-in")
        assert answer.status_code == 200
        assert "secure" in answer.headers["set-cookie"].lower()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{HOST}:{port}/sign-in")
    finally:
        server.should_exit = True
        thread.join()
        store.close()
