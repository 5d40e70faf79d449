"""What ``backflip collect`` is asked for in every mode, one after the other, and what it says."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from backflip.cli import main as cli
from backflip.data.sources import write_jsonl
from tests.feedback.conftest import pair

GOLDEN = Path(__file__).with_name("collect.json")
MODES = frozenset(
    {"--import", "--export", "--simulate", "--power", "--ask", "--backup", "--restore"}
)
SURROUNDINGS = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
SILENT = ("BACKFLIP_FEEDBACK", "BACKFLIP_PUBLIC_URL", "BACKFLIP_PROXY_SECRET")
"""Variables that would say where the database is, and what the server believes."""
CHANCE = random.Random(0)
"""In place of the machine's secrets, so that simulated raters say the same each time."""
SCENES: list[list[str]] = [
    ["--help"],
    # settings and items
    ["tone", "kind=compare", "raters_per_item=2", "scale=2", "--import", "pairs.jsonl"],
    ["tone", "--import", "pairs.jsonl", "--limit", "2"],
    ["tone", "raters_per_item=3", "--import", "pairs.jsonl"],
    ["right", "kind=compare", "--import", "labelled.jsonl", "--gold"],
    ["tone", "kind=rank", "--backup", "never.sqlite"],
    ["tone", "--import", "nowhere.jsonl"],
    ["other", "--import", "pairs.jsonl"],
    ["--import", "pairs.jsonl"],
    ["tone", "--answers", "smollm2"],
    ["tone", "--gold"],
    ["talk", "kind=talk", "--policy", "wrong", "--import", "talks.jsonl"],
    ["talk", "--policy", "loud=http://127.0.0.1:9", "--import", "talks.jsonl"],
    # simulated raters, answers
    ["tone", "--simulate", "3", "--seed", "5"],
    ["tone", "--simulate", "0"],
    ["tone", "--export", "preference", "--out", "tone.jsonl"],
    ["tone", "--export", "soft", "--out", "soft.jsonl", "--per", "answer"],
    ["tone", "--export", "soft", "--out", "soft.jsonl", "--golden"],
    ["tone", "--export", "soft"],
    ["tone", "--export", "soft", "--out", "soft.jsonl", "--per", "rater"],
    ["tone", "--export", "softly", "--out", "soft.jsonl"],
    ["nothing", "--export", "soft", "--out", "soft.jsonl"],
    # what to ask, how many
    ["tone", "--ask", "random", "--count", "3"],
    ["tone", "--ask", "informed", "--count", "3"],
    ["tone", "--ask", "disagreement"],
    ["--power", "0.8"],
    ["reliability=0.7", "ceiling=0.85", "--power", "0.8"],
    ["tone", "reliability=0.7", "--power", "0.75"],
    ["nothing", "--power", "0.75"],
    ["relability=0.7", "--power", "0.75"],
    # copies
    ["--backup", "copies/monday.sqlite"],
    ["tone", "--backup", "copies/monday.sqlite"],
    ["--restore", "copies/monday.sqlite"],
    ["--restore", "copies/tuesday.sqlite"],
    # several at once, and another database
    ["tone", "--import", "more.jsonl", "--simulate", "1", "--export", "soft", "--out", "x.jsonl",
     "--backup", "again.sqlite"],
    ["tone", "kind=compare", "--store", "b.sqlite", "--import", "pairs.jsonl", "--files", "clips"],
    # the server
    [],
    ["tone", "--no-open", "--port", "0"],
    ["new", "kind=rate", "--host", "0.0.0.0", "--without-tls", "--allow-host", "a.example",
     "--allow-host", "b.example", "--policy", "loud=http://127.0.0.1:9", "--files", "clips"],
    ["--tls-cert", "c.pem", "--tls-key", "k.pem", "--public-url", "https://c.example",
     "--proxy-secret", "a secret of 16 and more", "--store", "b.sqlite"],
    # the parser
    ["tone", "--nope"],
    ["tone", "--port", "many"],
    ["tone", "--simulate", "few"],
]  # fmt: skip


def prepare() -> None:
    """Files that the scenes read, in the working folder; names and salts begin anew."""
    CHANCE.seed(0)
    write_jsonl(Path("pairs.jsonl"), [pair(n) for n in range(5)] + [pair(0)])
    write_jsonl(Path("more.jsonl"), [pair(n) for n in range(5, 8)])
    labelled = [{"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(3)]
    write_jsonl(Path("labelled.jsonl"), labelled)
    write_jsonl(Path("talks.jsonl"), [{"prompt": "Be kind.", "policies": ["quiet"]}])


def said(words: Sequence[str]) -> dict[str, Any]:
    """Exit code, stdout and stderr of ``backflip …``; of a server, how it would have been begun."""
    out, err = io.StringIO(), io.StringIO()

    def serve(*given: object, ready: object, **more: object) -> None:
        named = [f"{name} {told(value)}" for name, value in more.items()]
        out.write(" ".join(map(str, ["SERVE", *given, *named, callable(ready)])))

    with (
        mock.patch("secrets.choice", CHANCE.choice),
        mock.patch("secrets.token_hex", lambda size: CHANCE.randbytes(size).hex()),
        mock.patch("backflip.server.serve.serve", serve),
        mock.patch("backflip.cli.console.out._width", 200),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main(words)
            code = None
        except SystemExit as left:
            code = left.code
    return {"code": code, "out": flat(out.getvalue()), "err": flat(err.getvalue())}


def told(value: Any) -> str:
    """A value; of a dataclass, what differs from its defaults."""
    if not dataclasses.is_dataclass(value):
        return str(value)
    given = {f.name: (getattr(value, f.name), f.default) for f in dataclasses.fields(value)}
    return str({name: one for name, (one, default) in given.items() if one != default})


def flat(text: str) -> str:
    """The words, without the frames around them and without moments of time."""
    text = re.sub(r"\d{8}-\d{6}|\d{4}-\d\d-\d\d\S*", "MOMENT", text)
    return " ".join(re.sub(r"[─│╭╮╰╯━]+", " ", text).split())


def record() -> None:
    """Write what every scene says now to ``collect.json``."""
    os.environ.update(SURROUNDINGS)
    for name in SILENT:
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        prepare()
        found = [{"words": words, **said(["collect", *words])} for words in SCENES]
    GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
