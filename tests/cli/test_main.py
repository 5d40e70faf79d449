from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import backflip as bf
from backflip.cli import main as cli
from backflip.data.sources import write_jsonl
from backflip.errors import Interrupted, NonFiniteError, UserError, WaitingForLabels
from tests.recipes.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    pairs = [
        {"prompt": f"Question {i}?", "chosen": f"Answer {i}, at length.", "rejected": f"No {i}."}
        for i in range(20)
    ]
    write_jsonl(path, pairs)
    return str(path)


@pytest.fixture(scope="module")
def judge(model: str, rows: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained a reward model for two steps."""
    run = tmp_path_factory.mktemp("runs") / "judge"
    bf.train("reward_model", model=model, data=rows, steps=2, run=str(run))
    return run


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


# ---- errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "pp"], "Did you mean ppo?"),
        (["train", "ppo"], "ppo needs a reward model"),
        (["train", "sft", "modle=x"], "Did you mean model?"),
        (["train", "sft", "data=/nowhere/rows.jsonl"], "there is no file or folder"),
        (["resume", "/nowhere"], "/nowhere"),
        (["show", "/nowhere"], "holds no run"),
        (["show", "/a", "/b", "--live"], "--live follows one run"),
        (["check", "/nowhere/rows.jsonl"], "there is no file or folder"),
        (["check", "demo:comparisons", "limt=3"], "Did you mean limit?"),
        (["check", "demo:comparisons", "limit=x"], "limit is 'x'"),
        (["check", "sft", "--limit", "3"], "of a recipe write data.limit=3"),
        (["check", "sft", "price=x"], "price=x is not a number"),
        (["evaluate", "/nowhere", "demo:comparisons"], "/nowhere"),
        (["chat", "/nowhere"], "there is no model"),
        (["recipe", "pp"], "Did you mean ppo?"),
    ],
)
def test_what_a_user_can_put_right_is_one_line_and_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("backflip: ")


@pytest.mark.parametrize("words", [["trian"], ["train"], ["train", "sft", "--nope"]])
def test_a_command_that_is_none_is_code_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Interrupted("saved. Go on: backflip resume runs/x"), 130, "backflip resume runs/x"),
        (UserError("no such thing"), 2, "backflip: no such thing\n"),
        (WaitingForLabels("4 items wait"), 75, "backflip: 4 items wait\n"),
        (NonFiniteError("3 steps in a row"), 1, "backflip: 3 steps in a row\n"),
        (RuntimeError("oops"), 1, "RuntimeError: oops\nThis is a bug"),
        (type("Interrupted", (Exception,), {})("of another"), 1, "This is a bug"),
    ],
)
def test_other_ends_have_their_own_codes(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("backflip.api.resume", fail)
    seen, _, err = run(capsys, "resume", "x")
    assert (seen, said in err, "Traceback" in err) == (code, True, False)
    seen, _, err = run(capsys, "resume", "x", "--debug")
    assert (seen, "Traceback" in err) == (code, True)


def test_our_own_warnings_are_one_line_without_a_place_in_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def warn(*_: object) -> None:
        place = {"category": UserWarning, "lineno": 7}
        warnings.warn_explicit("passed over", filename=cli.__file__, **place)
        warnings.warn_explicit("theirs", filename="/elsewhere.py", **place)
        raise Interrupted("enough")

    def theirs(message: object, *_: object) -> None:
        sys.stderr.write(f"usual: {message}\n")

    monkeypatch.setattr("backflip.api.resume", warn)
    monkeypatch.setattr(warnings, "showwarning", theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", theirs)
        _, _, err = run(capsys, "resume", "x")
        assert warnings.showwarning is theirs
    assert err == "backflip: note: passed over\nusual: theirs\nbackflip: enough\n"


def test_ctrl_c_is_code_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("backflip.api.resume", fail)
    code, _, err = run(capsys, "resume", "x")
    assert code == 130
    assert "Traceback" not in err


def test_a_reader_that_leaves_early_is_no_error():
    """``backflip recipe ppo | head -1``."""
    command = f"{sys.executable} -m backflip recipe ppo | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "PPO" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


# ---- commands


def test_version(capsys: pytest.CaptureFixture[str]):
    assert run(capsys, "--version") == (0, f"backflip {bf.__version__}\n", "")


def test_a_recipe_is_printed_with_all_of_its_settings(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "recipe", "ppo", "--all")
    assert code == 0
    for said in ("algorithm.kl_coef", "Price of one nat", "sampling.temperature", "5e-05"):
        assert said in out
    again = run(capsys, "train", "ppo", "--help-recipe")[1]
    assert _timeless(again) == _timeless(out)


def _timeless(printed: str) -> str:
    """Without digits: the name of a run that is not named is the time."""
    return re.sub(r"\d", "", printed)


def test_an_audit_is_printed_with_examples_and_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "Why?", "chosen": "Because of this.", "rejected": "No."}
    write_jsonl(path, [row, row, {**row, "rejected": ""}])
    code, out, _ = run(capsys, "check", str(path), "max_length=3")
    flat = " ".join(out.split())
    assert code == 0
    assert "3 rows" in flat
    assert "duplicate rows" in flat
    assert "empty answer" in flat
    assert "1 of 3 rows cannot be used" in flat
    assert "not checked: lengths in tokens, twins after truncation (give model=smollm2)" in flat


def test_a_model_brings_the_length_that_recipes_allow(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "Why?", "chosen": "Because. " * 600 + "Yes.", "rejected": "Because. " * 600}
    write_jsonl(path, [row])
    audit = bf.check(str(path), model=model)
    assert audit.finding("longer than 512 tokens").count == 1
    assert audit.finding("answers identical after truncation").count == 1
    words = ["check", str(path), f"model={model}"]
    flat = " ".join(run(capsys, *words)[1].split())
    assert "not checked: whether held-out prompts are in here too (give against=HELD_OUT)" in flat
    flat = " ".join(run(capsys, *words, f"against={path}")[1].split())
    assert "not checked" not in flat


def test_check_shows_rows_as_the_model_reads_them(
    model: str, rows: str, capsys: pytest.CaptureFixture[str]
):
    out = run(capsys, "check", rows, f"model={model}")[1]
    assert "⟦Answer 0, at length.<|im_end|>⟧" in out
    assert "<|im_start|>assistant" in out
    out = run(capsys, "check", "dpo", f"model={model}", f"data={rows}", "--no-measure")[1]
    assert "⟦No " in out
    assert "… ⟦" in out


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("demo:comparisons", "comparisons"),
        ("demo:demonstrations", "demonstrations"),
        ("demo:prompts", "prompts"),
    ],
)
def test_the_kind_of_data_is_told_by_its_columns(
    source: str, kind: str, capsys: pytest.CaptureFixture[str]
):
    code, out, _ = run(capsys, "check", source)
    assert code == 0
    assert kind in out


def test_options_of_data_may_be_written_either_way(capsys: pytest.CaptureFixture[str]):
    one = run(capsys, "check", "demo:comparisons", "limit=3", "max_length=9")
    other = run(capsys, "check", "demo:comparisons", "--limit", "3", "--max-length", "9")
    assert one == other
    assert "3 rows" in one[1]


def test_a_recipe_is_checked_without_being_run(
    model: str, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "run"
    words = ["check", "ppo", f"model={model}", f"data={rows}", f"run={target}", "--no-measure"]
    assert run(capsys, *words)[0] == 2  # no reward model
    words[1] = "reward_model"
    code, out, _ = run(capsys, *words, "epochs=4")
    assert code == 0
    assert "what will be trained" in out
    assert "a second pass overfits" in out
    assert not target.exists()


def test_train_show_and_the_same_from_python(
    model: str, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "run"
    words = ["train", "sft", f"model={model}", f"data={rows}", f"run={target}", "steps=2"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert f"backflip chat {target}" in " ".join(out.split())
    assert run(capsys, *words)[0] == 2  # the folder holds a run now
    code, out, _ = run(capsys, "show", str(target))
    assert code == 0
    assert "finished" in out
    made = bf.Run(target)
    assert [row["step"] for row in made.metrics] == [0, 1, 2]  # 0: validated before the first
    assert made.summary["steps"] == 2
    assert (made.model / "config.json").is_file()
    assert made.report.is_file()
    assert bf.load_model(made).config.hidden_size == 32


def test_several_runs_are_compared_on_one_page(judge: Path, capsys: pytest.CaptureFixture[str]):
    code, _, err = run(capsys, "show", str(judge), str(judge))
    assert code == 0, err
    assert (judge.parent / "compare.html").is_file()


def test_evaluate_prints_a_table_and_json_for_programs(
    judge: Path, rows: str, capsys: pytest.CaptureFixture[str]
):
    code, out, err = run(capsys, "evaluate", str(judge), rows)
    assert code == 0, err
    assert "the longer reply wins" in out
    code, out, _ = run(capsys, "evaluate", str(judge), rows, "--json")
    said = json.loads(out)
    assert said == bf.evaluate(judge, rows).to_json()
    assert (said["pairs"], said["baseline_longer"]) == (20, 1.0)


def test_a_language_model_cannot_be_evaluated_as_a_reward_model(
    model: str, rows: str, capsys: pytest.CaptureFixture[str]
):
    code, _, err = run(capsys, "evaluate", model, rows)
    assert code == 2
    assert "not a reward model" in err


def test_chat_answers_a_prompt_on_stdin_with_each_model(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello there\n"))
    code, out, err = run(capsys, "chat", model, "--max-tokens", "5")
    assert code == 0, err
    assert out.strip()
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello there\n"))
    _, both, _ = run(capsys, "chat", model, model, "--max-tokens", "5")
    assert both == f"[{model}]\n{out}[{model}]\n{out}"


@pytest.mark.parametrize("option", [("--top-p", "1e-9"), ("--min-p", "1.0")])
def test_chat_can_leave_out_all_but_the_likeliest_token(
    option: tuple[str, str],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    said = list[str]()
    for more in (("--temperature", "0"), ("--temperature", "5", *option), ("--temperature", "5")):
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello there\n"))
        said.append(run(capsys, "chat", model, "--max-tokens", "5", *more)[1])
    assert said[0] == said[1] != said[2]


def test_an_empty_stdin_is_answered_with_what_to_do(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    code, _, err = run(capsys, "chat", model)
    assert code == 2
    assert "there is no prompt on stdin" in err


def test_a_run_without_a_model_says_to_finish_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "recipe.yaml").write_text("stage: sft\n")
    code, _, err = run(capsys, "chat", str(tmp_path))
    assert code == 2
    assert f"backflip resume {tmp_path}" in err
