"""Probes: what is done to answers, and what is said of scores that fall for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import backflip as bf
from backflip.cli import main as cli
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.evaluation.trust.probes import OTHER, PROBES, Probed, probe_results, probed
from backflip.evaluation.trust.words import about_probe
from tests.data.tiny import CHATML, byte_tokenizer
from tests.evaluation.trusting import comparison
from tests.recipes.tiny import tiny_model

ANSWER = "The capital is Paris. You should not drink the river!"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("negation", "The capital is not Paris. You should not drink the river!"),
        ("cut in half", "The capital is Paris. You"),
        ("written twice", f"{ANSWER}\n\n{ANSWER}"),
        ("bullet points", "- The capital is Paris.\n- You should not drink the river!"),
        ("small edit", "The capital is Paris. You sohuld not drink the river!"),
    ],
)
def test_changes_of_an_answer(name: str, expected: str):
    change = next(probe.change for probe in PROBES if probe.name == name)
    assert change(ANSWER) == expected


def test_a_denial_is_affirmed():
    negation = next(probe.change for probe in PROBES if probe.name == "negation")
    assert negation("You should not do it.") == "You should do it."
    assert negation("It isn't so, and is.") == "It is so, and is."
    assert negation("I can't, or I cannot.") == "I can, or I cannot."
    assert negation("Cannons hissed.") == "Cannons hissed."


ROWS = [
    comparison(n, (f"It is number {n}. We can see that here.", "No."), prompt=f"Say {n * n}?")
    for n in range(60)
]


def probes_of(most: int = 40) -> tuple[Probed, ChatTemplate]:
    template = ChatTemplate(byte_tokenizer(CHATML))
    found = probed(ROWS, template, Fit(), most=most)
    assert found is not None
    return found, template


def results(score) -> dict:
    """The results where ``score`` gives each answer a number by its text and its prompt."""
    probes, template = probes_of()
    steps = probes.batch.answers.values
    told = [
        score(template.tokenizer.decode(p.tolist()), template.tokenizer.decode(a.tolist()))
        for p, a in zip(steps.prompt.rows(), steps.answer.rows(), strict=True)
    ]
    scores = torch.tensor(told)[:, None]
    ordinary = torch.tensor([0.0, 1.0, 2.0, 3.0] * 20)[:, None]
    return {r.name: r for r in probe_results(probes, scores, ordinary)}


def test_forty_answers_are_probed_in_every_way():
    found = results(lambda prompt, answer: 1.0)
    assert set(found) == {OTHER} | {probe.name for probe in PROBES}
    assert {r.answers for r in found.values()} == {40}
    assert {r.wins.estimate for r in found.values()} == {0.5}


def test_a_score_that_likes_praise_is_told_so_in_deviations():
    found = results(lambda prompt, answer: 2.0 * answer.startswith("Great question"))
    unit = torch.tensor([0.0, 1.0, 2.0, 3.0] * 20).double().std()
    assert found["praise"].shift.estimate == pytest.approx(float(2 / unit))
    assert found["praise"].wins.estimate == 1.0
    said = about_probe(found["praise"])
    assert said.startswith("Rewarded for nothing: “praise” moves the score by 1.78 deviations")
    assert about_probe(found["flattery"]) == ""


def test_a_score_that_reads_no_prompt_is_told_that_other_answers_win():
    """By length alone an answer to another prompt wins as often as it loses, and two beat one."""
    found = results(lambda prompt, answer: float(len(answer)))
    assert "should lose and is not seen to" in about_probe(found[OTHER])
    assert "should lose and is not seen to" in about_probe(found["written twice"])
    assert about_probe(found["cut in half"]) == ""


def test_a_score_that_reads_the_prompt_passes_that_probe():
    def fits(prompt: str, answer: str) -> float:
        asked, said = (re.search(r"(?:Say|number) (\d+)", text) for text in (prompt, answer))
        return float(bool(asked and said and int(asked[1]) == int(said[1]) ** 2))

    found = results(fits)
    assert about_probe(found[OTHER]) == ""
    assert found[OTHER].wins.high < 0.2


# ---- from the command line, on a reward model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run of a reward model, comparisons with columns, and golden ones."""
    folder = tmp_path_factory.mktemp("trust")
    rows = [
        {"prompt": f"Add {n} and 1", "chosen": f"It is {n + 1}.", "rejected": "I can not tell."}
        | {"rater": f"r{n % 7}", "topic": ["sums", "more"][n % 2]}
        for n in range(40)
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "golden.jsonl", rows[:3])
    data = str(folder / "rows.jsonl")
    given = {"model": str(tiny_model(folder / "model")), "data": data, "steps": 1}
    bf.train("reward_model", **given, members=3, normalise=False, run=str(folder / "rm"))
    return folder / "rm", data, str(folder / "golden.jsonl")


def test_one_command_prints_the_report_and_draws_it(
    trained: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
):
    run, data, golden = trained
    with pytest.raises(SystemExit) as left:
        cli.main(["evaluate", str(run), data, f"golden={golden}", "probes=10"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    for text in ("by rater", "by domain (column topic)", "probes", "ensemble", "trust.html"):
        assert text in out
    assert "not used" not in out
    page = (run / "trust.html").read_text(encoding="utf-8")
    for text in ("Accuracy by domain", "Shift of the score", "Golden pairs that fail"):
        assert text in page


def test_json_holds_the_same_numbers_and_members_may_be_other_runs(
    trained: tuple[Path, str, str], tmp_path: Path
):
    run, data, _ = trained
    alone = bf.evaluate(run, data, probes=0, out=tmp_path / "page")
    assert alone.page == str(tmp_path / "page.html")
    assert alone.probes == ()
    assert alone.members is not None
    assert len(alone.members.accuracies) == 3, "the held-out head has no say"
    twice = bf.evaluate(run, data, probes=0, members=[run], out=tmp_path / "page")
    assert twice.members is not None
    assert len(twice.members.accuracies) == 6
    assert twice.measured.accuracy == alone.measured.accuracy
    assert json.loads(json.dumps(twice.to_json()))["columns"]["rater"]["column"] == "rater"


def test_columns_by_other_names_are_named_and_missing_ones_refused(trained: tuple[Path, str, str]):
    run, data, _ = trained
    said = bf.evaluate(run, data, probes=0, columns={"group": "topic"})
    assert {c.name: c.source for c in said.columns}["group"] == "topic"
    with pytest.raises(UserError, match=r"columns\.group=team, but no row has a column 'team'"):
        bf.evaluate(run, data, probes=0, columns={"group": "team"})


def test_a_golden_row_that_cannot_be_read_is_refused(
    trained: tuple[Path, str, str], tmp_path: Path
):
    run, data, _ = trained
    rows = [{"prompt": "a?", "chosen": "x", "rejected": "x"}, {"prompt": "b?", "chosen": "x"}]
    write_jsonl(
        tmp_path / "golden.jsonl", [*rows, {"prompt": "c?", "chosen": "x", "rejected": "y"}]
    )
    with pytest.raises(UserError, match="golden rows must all be read"):
        bf.evaluate(run, data, probes=0, golden=str(tmp_path / "golden.jsonl"))


def test_labels_of_one_class_are_refused_by_name(trained: tuple[Path, str, str], tmp_path: Path):
    run = trained[0]
    thumbs = [{"prompt": f"{n}?", "completion": "Yes.", "label": True} for n in range(5)]
    with pytest.raises(UserError, match="no usable comparisons"):
        bf.evaluate(run, thumbs, probes=0)
    ties = [{"prompt": f"{n}?", "chosen": "a", "rejected": "b", "tie": True} for n in range(5)]
    with pytest.raises(UserError, match="none of 5 comparisons is decided"):
        bf.evaluate(run, ties, probes=0)


@pytest.mark.slow
def test_members_are_one_reward_of_an_online_run(trained: tuple[Path, str, str], tmp_path: Path):
    """By the setting ``combine``; a model with a single head has nothing to combine."""
    run, data, _ = trained
    model = str(run.parent / "model")
    given = {"model": model, "data": data, "steps": 1, "prompts_per_step": 4, "lora": None}
    given |= {"sampling": {"max_tokens": 4}}
    reward = {"name": "model", "model": str(run), "combine": "worst"}
    made = bf.train("ppo", **given, reward=reward, run=str(tmp_path / "ppo"))
    assert any(row.get("reward_spread", 0) > 0 for row in made.metrics)
    alone = tmp_path / "alone"
    bf.train("reward_model", model=model, data=data, steps=1, normalise=False, run=str(alone))
    with pytest.raises(UserError, match="one head that judges"):
        bf.train("ppo", **given, reward=reward | {"model": str(alone)}, run=str(tmp_path / "no"))
