"""docs/data.md: every format has its example there, and every example is read as it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from backflip.data import adapters, columns, multiple_choice, published, rows, turns
from backflip.data.adapters import FORMATS, known_formats
from backflip.data.formats import kind_of, load
from backflip.data.records import Solution
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.stages.settings import Columns
from tests.recipes.tiny import tiny_model

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"### `(\w+)`\n.*?```jsonl\n(.*?)```", PAGE, re.DOTALL))


def test_every_format_stands_there_in_the_order_in_which_it_is_tried():
    assert tuple(EXAMPLES) == known_formats()
    assert tuple(re.findall(r"^### `(\w+)`", PAGE, re.MULTILINE)) == known_formats()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_read_as_its_heading_says(name, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(EXAMPLES[name])
    result = load(str(file), kind_of(str(file)))
    form = next(entry for entry in FORMATS if entry.name == name)
    assert result.format == name
    assert not result.dropped
    assert all(isinstance(record, form.kind) for record in result.records)
    assert "river" in str(result.records).lower() or name == "summaries" or form.kind is Solution


def test_every_name_of_a_column_or_of_a_field_of_messages_stands_there():
    pairs = [name for two in (*adapters.PAIRS, *published.TWO) for name in two]
    names = {
        *columns.PROMPTS,
        *columns.CONTEXTS,
        *adapters.REPLIES,
        *adapters.ANSWERS,
        *adapters.TALKS,
        *adapters.THUMBS,
        *adapters.SCORES,
        *adapters.POINTS,
        *pairs,
        *published.SIGNED,
        *published.CHOICES,
        *rows.SYSTEMS,
        *adapters.REFERENCES,
        *multiple_choice.OPTIONS,
        *(name.replace("answerkey", "answerKey") for name in multiple_choice.KEYS),
        *rows.TOOLS,
        *rows.SOFT,
        *turns.KEYS,
        *turns.TEXTS,
        *(name for name in turns.ROLES if name != "function_call"),
        *Columns.model_fields,
    }
    assert {name for name in names if f"`{name}`" not in PAGE and f'"{name}"' not in PAGE} == set()


@pytest.mark.parametrize("row", ['{"a": 1}', '{"chosen": "a b", "rejected": "a c", "x": "y"}'])
def test_a_refusal_names_the_page(row, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(row)
    with pytest.raises(UserError, match=r"docs/data\.md lists all formats"):
        load(str(file), "comparisons")


def test_all_that_the_section_on_streams_shows_is_done(tmp_path, monkeypatch, capsys):
    from typer.testing import CliRunner

    from backflip.cli.main import app

    monkeypatch.chdir(tmp_path)
    model = str(tiny_model(tmp_path / "model"))
    rows = [{"prompt": f"Is {n} even?", "chosen": "Yes.", "rejected": "No."} for n in range(40)]
    write_jsonl("pairs.jsonl", rows)
    section = PAGE.split("## Sources that do not fit in memory")[1].replace("smollm2", model)
    (shell,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    for line in shell.splitlines():
        small = " normalise=false" * ("reward_model" in line) + " sampled_prompts=0" * (
            " dpo" in line
        )
        done = CliRunner().invoke(app, [*shlex.split(line)[1:], *small.split()])
        assert done.exit_code == 0, done.output
        assert "streamed" in done.output or "check" in line
    (python,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    capsys.readouterr()
    exec(python, {})
    assert int(capsys.readouterr().out.split()[-1]) == 40
