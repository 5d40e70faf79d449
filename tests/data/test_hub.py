"""Why a name of the hub gave nothing, with their own libraries and a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backflip.data import sources
from backflip.data.hub import offline_variable
from backflip.errors import UserError
from backflip.models import load

SCRIPT = """
import json
from backflip.errors import UserError
from backflip.data.sources import read
from backflip.models.load import load_config
said = {}
for kind, look in (("model", load_config), ("dataset", lambda name: list(read(name)))):
    for name in ("owner/absent", "owner/gated"):
        try:
            look(name)
        except UserError as error:
            said[f"{kind} {name}"] = str(error)
print(json.dumps(said))
"""


class Hub(BaseHTTPRequestHandler):
    """Knows two names: one that is gated, and one that is not there."""

    def do_GET(self):
        if self.path == "/":
            self.send_response(200)
        else:
            gated = "gated" in self.path
            self.send_response(403 if gated else 404)
            self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def test_a_name_that_is_absent_and_one_that_is_gated_are_told_apart(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
    address = f"http://127.0.0.1:{server.server_address[1]}"
    env = clean | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
        )
    finally:
        server.shutdown()
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == 4
    for name, sentence in said.items():
        assert sentence.startswith(f"{name}: ")
        assert "\n" not in sentence
        wanted = "it is gated. Accept its terms" if "gated" in name else "the hub has none of that"
        assert wanted in sentence


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_an_offline_variable_is_named_where_a_model_is_not_found(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(load, "hub_answers", lambda: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=f"owner/absent.*{variable} is set") as error:
        load.load_config("owner/absent")
    assert f"Unset {variable}" in str(error.value)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_an_offline_variable_is_named_where_a_dataset_is_not_found(variable, monkeypatch):
    import datasets

    def stub(*_, **__):
        raise ConnectionError("Couldn't reach 'owner/absent' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(sources, "hub_answers", lambda: pytest.fail("asked the hub"))
    monkeypatch.setattr(datasets, "load_dataset", stub)
    with pytest.raises(UserError, match=f"owner/absent.*{variable} is set"):
        list(sources.read("owner/absent"))


def test_without_a_variable_and_without_an_answer_it_is_the_network(monkeypatch):
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    assert offline_variable("dataset") == ""
    for room in (sources, load):
        monkeypatch.setattr(room, "hub_answers", lambda: False)
    for look in (load.load_config, lambda name: list(sources.read(name))):
        with pytest.raises(UserError, match="owner/absent, and the hub cannot be reached"):
            look("owner/absent")
