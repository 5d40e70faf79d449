"""Rows in memory as data: lists, datasets and tables, and what becomes of them in a run."""

from __future__ import annotations

import re

import numpy as np
import pytest

import backflip as bf
from backflip.data.memory import rows
from backflip.errors import Interrupted, UserError
from backflip.monitor.progress import Progress
from backflip.recipes import run as stages
from backflip.recipes.in_memory import kept

PAIRS = [
    {"prompt": f"Is {n} even?", "chosen": "Yes, it is.", "rejected": "No idea, sorry."}
    for n in range(0, 24, 2)
]
TALKS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
SMALL = {"lora": None, "batch_size": 4, "threads": 1}


def dataset(rows):
    import datasets

    return datasets.Dataset.from_list(rows)


def stream(rows):
    return dataset(rows).to_iterable_dataset()


def table(rows):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(rows)


@pytest.mark.parametrize("form", [list, tuple, iter, dataset, stream, table])
def test_the_same_rows_have_the_same_name_whatever_held_them(form, tmp_path):
    one, other = kept(TALKS, tmp_path / "a"), kept(form(TALKS), tmp_path / "b")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()
    assert kept(TALKS[1:], tmp_path / "a").name != one.name
    assert kept(form(TALKS), tmp_path / "c", limit=2).read_bytes().count(b"\n") == 2


def test_rows_that_cannot_be_kept_leave_nothing_behind(tmp_path):
    with pytest.raises(UserError, match="there are no rows in memory"):
        kept([], tmp_path)
    with pytest.raises(UserError, match="rows in memory:2: a str"):
        kept([{"a": 1}, "text"], tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot hold rows in memory: "):
        kept(TALKS, tmp_path / "file")


def test_values_of_tables_become_plain_and_gaps_null():
    row = {"a": np.float32(0.5), "b": np.array([1, 2]), "c": float("nan"), 3: b"\x00", "d": (1,)}
    assert list(rows([row])) == [
        {"a": 0.5, "b": [1, 2], "c": None, "3": {"bytes": "…", "path": None}, "d": [1]}
    ]
    with pytest.raises(UserError, match=r"rows in memory:2: a str instead of a mapping"):
        list(rows([{"a": 1}, "text"]))
    with pytest.raises(UserError, match=r"rows in memory:1, a: a value of type object"):
        list(rows([{"a": object()}]))


def test_a_check_looks_at_rows_in_memory():
    audit = bf.check([*PAIRS, {**PAIRS[0], "prompt": None, "id": 3}])
    assert (audit.source, audit.total, audit.kind) == ("rows in memory", 13, "Comparison")
    assert audit.errors == 1


def test_a_list_is_learnt_from_and_its_run_goes_on_without_it(model, tmp_path, monkeypatch):
    """What resume reads is the file in the run's folder; the list may be gone."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("backflip.stages.sft.save_policy", _interrupt)
        with pytest.raises(Interrupted):
            bf.train("sft", model=model, data=list(TALKS), run=folder, **SMALL)
    (file,) = folder.glob("rows-*.jsonl")
    assert str(file) in (folder / "recipe.yaml").read_text()
    run = bf.resume(folder)
    assert run.summary["rows"] < len(TALKS)
    assert (run.model / "config.json").is_file()


def _interrupt(*_args, **_settings):
    raise KeyboardInterrupt


def test_the_reference_of_a_list_is_found_again_by_its_content(model, tmp_path, capsys):
    settings = {**SMALL, "sampled_prompts": 0, "epochs": 1}
    said = []
    for form, name in ((list, "one"), (dataset, "two")):
        run = bf.train("dpo", model=model, data=form(PAIRS), run=tmp_path / name, **settings)
        said.append(capsys.readouterr().out)
        assert run.summary["rows"] < len(PAIRS)
    assert "written there out of memory" in said[0]
    made = re.findall(r"(\d+)(?: answers?)? computed", " ".join(said[1].split()))
    assert sum(map(int, made)) == 0 < len(made)
    first, second = (next((tmp_path / n).glob("rows-*.jsonl")).name for n in ("one", "two"))
    assert first == second


def test_a_mistake_leaves_no_file_behind(model, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="comparisons are needed"):
        bf.train("dpo", model=model, data=[{"text": "Plain."}], run=folder, **SMALL)
    assert not folder.exists()
    with pytest.raises(UserError, match="there are no rows in memory"):
        bf.train("dpo", model=model, data=[], run=folder, **SMALL)
    assert not folder.exists()


def test_rows_may_stand_for_single_sources_of_a_group(model, tmp_path):
    data = {"source": TALKS, "validation": TALKS[:3], "limit": 8}
    folder = tmp_path / "run"
    bf.train("sft", model=model, data=data, run=folder, **SMALL)
    assert len(list(folder.glob("rows-*.jsonl"))) == 2


def test_what_is_left_out_and_unread_is_said_in_training(model, tmp_path, capsys):
    marked = {"prompt": "<|im_start|>Hi", "completion": "yo", "id": 4}
    data = [*TALKS, marked, {"prompt": None, "completion": "x"}]
    with Progress() as progress:
        from backflip.recipes.in_memory import written

        given = {"model": model, "data": data, "run": str(tmp_path / "run"), **SMALL}
        with written("sft", given) as recipe:
            stages.train(recipe, progress=progress)
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: 1 × no prompt: column 'prompt' is null" in said
    assert "not used: id (1 row)" in said
    assert "1 of 13 rows holds control tokens of a template" in said
