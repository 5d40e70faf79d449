"""A kind of task is one object, found by its file, and known by name nowhere else."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import backflip
from backflip.feedback.exchange.mapping import mapping_of
from backflip.feedback.kinds.registry import KINDS, SHARED, every_kind, kind_of
from backflip.feedback.tasks.examples import spelled_out
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import settings_of

SOURCE = Path(backflip.__file__).parent
STATIC = SOURCE / "server" / "static"
MORE = {"spans": {"span_labels": ["rude"]}}
ANSWERS = {
    "compare": {"choice": "a", "strength": 2},
    "clips": {"choice": "tie"},
    "rank": {"ranks": [1, 0, None]},
    "rate": {"ratings": {"helpful": 1, "honest": 4, "harmless": 7}},
    "thumbs": {"up": False},
    "write": {"text": "The Po."},
    "steps": {"labels": [1, -1]},
    "spans": {"spans": [{"start": 0, "end": 1, "label": "rude"}]},
    "principles": {"vote": "agree"},
    "talk": {"turns": [{"role": "user", "content": "Hi"}], "verdicts": {"…": "kept"}},
}
"""An answer to the row that each kind shows."""
HOMONYMS = {
    "clips": {"base/clips.py", "base/state.py", "feedback/rows.py", "pages/media.py"},
    "rank": {
        *("exchange/export_rows.py", "exchange/files.py", "exchange/import_rows.py"),
        *("exchange/label_studio.py", "exchange/tool_values.py"),
    },
    "rate": {
        *("api/projects.py", "api/rate.py", "base/auth.py", "pages/account.py"),
        "rehearse/simulation.py",
    },
    "steps": {"pages/export.py", "cli/recipe.py", "rounds/forecast.py", "rounds/run.py"},
    "talk": {"base/state.py"},
    "write": {"api/data.py", "api/projects.py", "base/auth.py"},
}
"""Files in which the word is a column, a power of a token, a secret or a setting, and no kind."""


def item_of(kind: str):
    row = json.loads(kind_of(kind).wording.row.splitlines()[0])
    return payload_of(spelled_out(row, kind), kind), settings_of(
        {"kind": kind, **MORE.get(kind, {})}
    )


def test_kinds_are_the_files_of_their_folder():
    folder = SOURCE / "feedback" / "kinds"
    files = {path.stem for path in folder.glob("*.py")} - {*SHARED, "__init__"}
    assert files == set(KINDS)
    assert len({kind.place for kind in every_kind()}) == len(KINDS)
    assert set(ANSWERS) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_complete(name: str):
    """Its row is an item, an answer to it is read, drawn and told, and its page has a script."""
    kind, (payload, settings) = kind_of(name), item_of(name)
    assert kind.name == payload.kind == name
    assert kind.wording.title
    assert kind.wording.description
    value = value_of(ANSWERS[name], payload, settings).model_dump(mode="json")
    assert kind.in_words(value, settings.scale)
    assert [block.name for block in kind.blocks(payload.model_dump(mode="json"))]
    order = tuple(reversed(range(len(kind.sides_of(payload)))))
    displayed = kind.in_displayed_order(value, order)
    assert kind.in_item_order(displayed, order) == value
    parts = kind.values(value, order, settings, kind.attributes[0] if kind.attributes else "")
    assert bool(parts) is kind.alike
    for part in parts:
        assert kind.value_in_words(part.value, part.name)
    if kind.golden:
        assert kind.same_as(value, value)
    if kind.one_word:
        assert kind.word(value) in kind.words(settings)
    script = (STATIC / "kinds" / f"{name}.js").read_text()
    assert "mount" in script


@pytest.mark.parametrize("name", KINDS)
def test_the_form_of_an_example_gives_back_what_it_shows(name: str):
    kind, (payload, settings) = kind_of(name), item_of(name)
    value = value_of(ANSWERS[name], payload, settings).model_dump(mode="json")
    texts = kind.form.texts(payload.model_dump(mode="json"), value)
    names = {control.name for control in kind.form.controls(settings, len(kind.sides_of(payload)))}
    assert {n for n, text in texts.items() if text} <= names


def literals(path: Path) -> Iterator[object]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant):
            yield node.value


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_named_in_its_own_files_alone(name: str):
    """Its module, its exchange and its script: with a test of it that is four files."""
    naming = set[str]()
    for room in ("feedback", "server", "cli", "rounds"):
        for path in (SOURCE / room).rglob("*.py"):
            if name in literals(path):
                naming.add(f"{path.parent.name}/{path.name}")
    own = {f"kinds/{name}.py"}
    if mapping_of(name).converters or mapping_of(name).question:
        own.add(f"exchange/{name}.py")
    assert naming - HOMONYMS.get(name, set()) <= own
    assert f"kinds/{name}.py" in naming
    pages = [*STATIC.rglob("*.js"), *(SOURCE / "server" / "templates").glob("*.html")]
    quoted = {p.name for p in pages if f'kind == "{name}"' in p.read_text()}
    assert not quoted


ELEVENTH = """
from backflip.feedback.kinds.base import Block, Kind, Wording
from backflip.feedback.kinds.fields import Payload, Strict, Words
from backflip.feedback.kinds.form import Control, Form, in_payload, in_value

class Guess(Payload):
    kind: str = "guess"
    riddle: Words

class Guessed(Strict):
    guess: str

class GuessForm(Form):
    changes = {"riddle": in_payload(str), "guess": in_value(str)}
    def controls(self, settings, answers):
        return [Control("riddle", "Riddle"), Control("guess", "Guess", "line")]
    def texts(self, payload, value):
        return {"riddle": str(payload.get("riddle", "")), "guess": str(value.get("guess", ""))}

class GuessKind(Kind[Guess, Guessed]):
    name, place, column = "guess", 11, "riddle"
    payload, value, form = Guess, Guessed, GuessForm()
    alike = golden = False
    wording = Wording(title="Guess", description="One word", row='{"riddle": "What has keys?"}')
    def blocks(self, payload):
        return [Block("riddle", payload["riddle"])]
    def gist(self, payload):
        return payload["riddle"]
    def in_words(self, value, scale=2):
        return value["guess"]

KIND = GuessKind()
"""
DRIVE = """
import json, sys
from pathlib import Path
from backflip.feedback import kinds
kinds.__path__.append(sys.argv[1])
from tests.server.served import served
made = served(Path(sys.argv[1]))
lead = made.as_person(made.person("Ada", admin=True))
assert "One word" in lead.get("/projects/new").text
body = {"name": "riddles", "settings": {"kind": "guess", "raters_per_item": 1}}
assert lead.call("/api/v1/projects", body).status_code == 201
rows = b'{"riddle": "What has **keys**?"}'
sent = {"csrf": lead.token, "purpose": "", "batch": ""}
at = "/api/v1/projects/riddles"
headers = {"X-CSRF-Token": lead.token}
said = lead.client.post(f"{at}/import", files={"file": ("r.jsonl", rows)}, headers=headers)
assert said.json()["count"] == 1, said.text
rater = made.rater(made.store.project("riddles"), "Alan")
assert "kinds/guess.js" in rater.get("/projects/riddles/rate").text
item = rater.get(f"{at}/next?html=true").json()["items"][0]
assert "<strong>keys</strong>" in item["riddle"]
given = {"item": item["item"], "value": {"guess": "piano"}}
assert rater.call(f"{at}/answers", given).status_code == 200
assert "piano" in lead.get("/projects/riddles/items/1").text
print(json.loads(lead.get(f"{at}/export?format=answers").text.splitlines()[0])["value"])
made.site.jobs.close()
made.store.close()
"""


def test_an_eleventh_kind_is_one_module_of_the_server(tmp_path: Path):
    """From the form of a project to the export, a kind that nobody knows works by its file."""
    (tmp_path / "guess.py").write_text(ELEVENTH)
    done = subprocess.run(
        [sys.executable, "-c", DRIVE, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "piano" in done.stdout
