"""Test-time compute: curves by enumeration, beams and longer thinking of a scripted engine."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import backflip as bf
from backflip.data.chat import ChatTemplate
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.evaluation.compute import Question, compute_curves
from backflip.functional.pass_at_k import settled
from backflip.generate.engine import Completion, SamplingParams
from backflip.models.process import ProcessModel
from backflip.sampling.guided import StepBeam, think_longer
from tests.data.tiny import CHATML, byte_tokenizer
from tests.recipes.tiny import tiny_model

ONE = Question(
    right=(1.0, 0.0, 0.0, 1.0),
    finals=("4", "5", "5", "4"),
    tokens=(10, 20, 30, 40),
    good=((0.9, 0.8), (0.6, 0.6), (0.5, 0.9), (0.2, 1.0)),
)
TWO = Question(right=(0.0,) * 4, finals=(None, "1", "2", "3"), tokens=(20,) * 4, good=((0.5,),) * 4)


def curve(method: str, *questions: Question) -> dict[int, float]:
    points = compute_curves(questions)
    return {p.budget: p.accuracy.estimate for p in points if p.method == method}


def test_every_way_of_choosing_is_a_mean_over_all_draws():
    votes, best, any_ = [], [], []
    for draw in combinations(range(4), 2):
        weak = {i: min(ONE.good[i]) for i in draw}
        by = {f: sum(weak[i] for i in draw if ONE.finals[i] == f) for f in "45"}
        votes.append(float(by["4"] > by["5"]))
        best.append(ONE.right[max(draw, key=lambda i: weak[i])])
        any_.append(max(ONE.right[i] for i in draw))
    assert curve("weighted vote", ONE)[2] == pytest.approx(sum(votes) / 6)
    assert curve("best of n, min", ONE)[2] == pytest.approx(sum(best) / 6)
    assert curve("any right (pass@k)", ONE)[2] == pytest.approx(sum(any_) / 6)
    assert curve("majority", ONE)[4] == pytest.approx(0.5)  # two against two
    assert curve("best of n, last", ONE)[4] == 1.0
    assert curve("best of n, product", ONE)[4] == 1.0


def test_tokens_and_intervals_go_by_question():
    points = compute_curves([ONE, TWO])
    assert {p.budget: p.tokens for p in points} == {1: 22.5, 2: 45.0, 4: 90.0}
    assert {p.accuracy.units for p in points} == {2}
    one = {p.accuracy.estimate for p in points if p.budget == 1}
    assert one == {0.25}  # one try is one try, however it is chosen


def test_without_a_process_model_there_are_votes_alone():
    bare = Question(ONE.right, ONE.finals, ONE.tokens)
    assert {p.method for p in compute_curves([bare])} == {"any right (pass@k)", "majority"}


def test_equal_final_answers_have_equal_values():
    assert settled([1, 0, 1, 0], ["a", "a", "a", None]) == (1.0, 1.0, 1.0, 0.0)


# ---- beams and longer thinking


class Scripted:
    """Writes, for any beginning, what the script says comes next: a text a sibling."""

    exact = True

    def __init__(self, chat: ChatTemplate, script: dict[str, list[str]]) -> None:
        self.chat, self.script = chat, script

    def generate(self, prompts: Any, params: SamplingParams, *, group: int = 1, **_: Any) -> Any:
        out = []
        for number, prompt in enumerate(prompts):
            said = self.chat.tokenizer.decode(list(prompt))
            texts = self.script[said]
            for at in range(group):
                text = texts[at % len(texts)]
                tokens = self.chat.tokenizer(text)["input_ids"]
                ended = bool(params.stop_strings) and text.endswith("\n")
                if not ended:
                    tokens = [*tokens, self.chat.turn_end]
                reason: Any = "stop_string" if ended else "stop"
                out.append(Completion(number, at, tokens, [], [], reason))
        return out

    def sync(self, model: Any = None) -> None: ...


class Liking(ProcessModel):
    """P(good) of a step: 0.9 where it holds "good", else 0.1."""

    def __init__(self, chat: ChatTemplate) -> None:
        object.__setattr__(self, "separator", "\n")
        object.__setattr__(self, "chat", chat)

    def estimates(self, steps: Any, ends: Any, token_budget: int = 4096) -> list[list[float]]:
        chat: Any = self.chat  # type: ignore[attr-defined]
        found = []
        for row, places in enumerate(ends):
            answer, pieces, start = steps.answer.row(row).tolist(), [], 0
            for place in places:
                pieces.append(chat.tokenizer.decode(answer[start : place + 1]))
                start = place + 1
            found.append([0.9 if "good" in piece else 0.1 for piece in pieces])
        return found


def test_a_beam_by_step_goes_on_with_the_steps_that_are_liked():
    chat = ChatTemplate(byte_tokenizer(CHATML))
    script = {
        "Q": ["poor\n", "good\n"],
        "Qpoor\n": ["good end"],
        "Qgood\n": ["poor end", "good end"],
    }
    params = SamplingParams(max_tokens=40, stop_tokens=chat.stop_tokens)
    search = StepBeam(
        engine=Scripted(chat, script),  # type: ignore[arg-type]
        params=params,
        template=chat,
        model=Liking(chat),
        width=2,
        expand=2,
    )
    (best,), (spent,) = search([chat.tokenizer("Q")["input_ids"]], seed=0)
    assert chat.tokenizer.decode(best.tokens) == "good\ngood end<|im_end|>"
    assert best.good == (0.9, 0.9)
    said = "poor\n", "good\n", "poor end", "good end"
    assert spent == sum(len(chat.tokenizer(text)["input_ids"]) for text in said) + 2
    with pytest.raises(UserError, match="must be a multiple"):
        StepBeam(
            engine=search.engine,
            params=params,
            template=chat,
            model=search.model,
            width=3,
            expand=2,
        )


def test_an_end_that_is_put_off_is_read_as_a_word():
    chat = ChatTemplate(byte_tokenizer(CHATML))
    engine: Any = Scripted(chat, {"Q4\nWait": [" 5"]})
    asked, answer = (chat.tokenizer(text)["input_ids"] for text in ("Q", "4"))
    word = chat.tokenizer("\nWait")["input_ids"]
    end: Any = chat.turn_end
    params = SamplingParams(stop_tokens=chat.stop_tokens)
    (grown,), (more,) = think_longer(engine, [asked], [[*answer, end]], params, word=word, seed=0)
    assert chat.tokenizer.decode(grown) == "4\nWait 5<|im_end|>"
    assert more == len(grown) - len(answer)


def told_apart(html: str, methods: int) -> None:
    """Each method has a colour of its own, and intervals are no surfaces over one another."""
    assert "Accuracy over tokens" in html
    assert html.count("<svg") == 1
    assert len(set(re.findall(r'class="line (c\d+)"', html))) == methods
    assert "whisker c8" in html
    assert "area band" not in html


def test_questions_that_a_run_learnt_from_are_counted_by_what_they_say(tmp_path: Path):
    """Some of the twenty were held out; a row with another id is the same question."""
    model = str(tiny_model(tmp_path / "tiny"))
    rows = [{"prompt": f"{n}?", "steps": ["a", "b"], "labels": [True, False]} for n in range(20)]
    write_jsonl(tmp_path / "steps.jsonl", rows)
    data, prm = str(tmp_path / "steps.jsonl"), str(tmp_path / "prm")
    bf.train("process_reward_model", model=model, data=data, run=prm, steps=1)
    write_jsonl(tmp_path / "copy.jsonl", [row | {"id": n} for n, row in enumerate(rows)])
    told = bf.evaluate(prm, str(tmp_path / "copy.jsonl")).sentences  # some were held out
    assert any(re.match(r"1[5-9] of these 20 questions were trained on", line) for line in told)
    write_jsonl(tmp_path / "new.jsonl", [row | {"prompt": f"{row['prompt']}!"} for row in rows])
    assert "trained" not in " ".join(bf.evaluate(prm, str(tmp_path / "new.jsonl")).sentences)


def test_the_command_measures_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A random model and a rule that half of all answers meet, with a process model beside."""
    from typer.testing import CliRunner

    from backflip.cli.main import app

    model = str(tiny_model(tmp_path / "tiny"))
    rows = [{"prompt": f"{n}?", "steps": ["a", "b"], "labels": [True, False]} for n in range(20)]
    write_jsonl(tmp_path / "steps.jsonl", rows)
    data, prm = str(tmp_path / "steps.jsonl"), str(tmp_path / "prm")
    bf.train("process_reward_model", model=model, data=data, run=prm, steps=1)
    (tmp_path / "rule.py").write_text("def even(answer):\n    return len(answer) % 2 == 0\n")
    page = tmp_path / "compute.v1.html"
    words = ["evaluate", model, data, "limit=6", f"reward={tmp_path}/rule.py:even", "n=4"]
    words += [
        f"process={prm}",
        "waits=1",
        f"out={tmp_path}/compute.v1",
        "max_tokens=8",
        "--compute",
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output.splitlines()[-1])
    methods = {point["method"] for point in found["points"]}
    assert methods == {
        *("any right (pass@k)", "majority", "weighted vote", "beam by step", "longer thinking"),
        *("best of n, min", "best of n, product", "best of n, last"),
    }
    assert all(0 <= point["accuracy"] <= 1 for point in found["points"])
    assert {point["accuracy_units"] for point in found["points"]} == {6}
    notes = " ".join(found["notes"])
    assert ("too few" in notes, "by lot" in notes) == (True, False)
    told_apart(page.read_text(), len(methods))
    for room in ("recipes", "evaluation"):
        monkeypatch.setattr(f"backflip.{room}.compute.DRAWS", 5)
    shown = CliRunner().invoke(app, words)
    assert "picture" in shown.output
    assert "weighted votes of 2 of 4 answers are means over 5 draws" in shown.output


@pytest.mark.timeout(120)
def test_votes_of_answers_that_take_too_long_to_read_are_bounded(tmp_path: Path):
    """The pattern tries every division of an answer of an odd number of letters."""
    model = str(tiny_model(tmp_path / "tiny"))
    rows = [{"prompt": "1?", "reference": "Q"}, {"prompt": "2?", "reference": "Q"}]
    write_jsonl(tmp_path / "asked.jsonl", rows)
    pattern = "^(?:(?:..)*$|((?:.|.)+)+QQ)"
    reward = {"name": "regular_expression", "pattern": pattern, "seconds": 0.2}
    given = {"n": 2, "waits": 0, "max_tokens": 40, "seed": 1, "out": tmp_path / "c.html"}
    found = bf.compute(model, tmp_path / "asked.jsonl", reward, **given)
    assert "the check took longer" in " ".join(found.notes)
    assert {p.accuracy.estimate for p in found.points if p.method == "majority"} == {0.0}


def test_a_reward_without_verdicts_is_refused_and_failures_are_counted(tmp_path: Path):
    model = str(tiny_model(tmp_path / "tiny"))
    write_jsonl(tmp_path / "asked.jsonl", [{"prompt": "1?"}, {"prompt": "2?"}])
    data = tmp_path / "asked.jsonl"
    with pytest.raises(UserError, match="gives numbers and no verdicts"):
        bf.compute(model, data, len, n=2, out=tmp_path / "c.html", max_tokens=2)

    def broken(answer: str) -> bool:
        raise LookupError(answer)

    found = bf.compute(model, data, broken, n=2, out=tmp_path / "c.html", max_tokens=2)
    assert "not checked, and counted as wrong" in " ".join(found.notes)
    assert {point.accuracy.estimate for point in found.points} == {0.0}


@pytest.mark.parametrize("estimate", ["soft", "hard"])
def test_steps_are_as_good_as_what_follows_them(estimate: str, tmp_path: Path):
    """Where every second answer is right, soft labels are shares, hard ones 0 or 1."""
    model = str(tiny_model(tmp_path / "tiny"))
    write_jsonl(tmp_path / "asked.jsonl", [{"prompt": f"{n}?"} for n in range(4)])
    out = tmp_path / "steps.jsonl"
    found = bf.label_steps(
        model,
        tmp_path / "asked.jsonl",
        lambda answer: len(answer) % 2 == 0,
        estimate=estimate,  # type: ignore[arg-type]
        continuations=4,
        n=2,
        out=out,
        separator="e",
        max_tokens=48,
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    labels = [label for row in rows for label in row["labels"][:-1]]
    assert found.solutions == len(rows) == 8
    assert found.steps == sum(len(row["labels"]) for row in rows) > 8
    assert {row["labels"][-1] for row in rows} <= {0.0, 1.0}
    soft = any(0 < label < 1 for label in labels)
    assert soft == (estimate == "soft")


def test_labels_are_compared_with_the_steps_that_a_question_names(tmp_path: Path):
    """Of the steps that a random model writes, those are right that the question is given."""
    model, asked = str(tiny_model(tmp_path / "tiny")), tmp_path / "asked.jsonl"
    settings: dict[str, Any] = {"n": 2, "separator": "e", "max_tokens": 48}

    def labelled(estimate: str, known: list[list[str]]) -> tuple[Any, list[dict[str, Any]]]:
        rows = [{"prompt": f"{n}?", "steps": steps} for n, steps in enumerate(known)]
        write_jsonl(asked, rows)
        given: Any = settings | {"estimate": estimate, "out": tmp_path / f"{estimate}.jsonl"}
        found = bf.label_steps(model, asked, len_is_even, continuations=2, **given)
        return found, [json.loads(line) for line in found.out.read_text().splitlines()]

    _, drawn = labelled("soft", [["x"]] * 4)
    known = [[step.strip() for step in row["steps"]] for row in drawn[::2]]
    assert max(map(len, known)) > 2
    known[0][1:2] = ["another step", *known[0][1:2]]
    known[1].append("one more step")
    found, rows = labelled("known", known)
    assert [row["steps"] for row in rows] == [row["steps"] for row in drawn]
    assert rows[0]["labels"] == [1.0] + [0.0] * (len(rows[0]["labels"]) - 1)
    assert rows[2]["labels"] == [1.0] * (len(rows[2]["labels"]) - 1) + [0.0]
    assert rows[4]["labels"] == [1.0] * len(rows[4]["labels"])
    assert found.noise == 0.0
    found, soft = labelled("soft", known)
    pairs = [
        (a > 0.5) != (b > 0.5)
        for x, y in zip(soft, rows, strict=True)
        for a, b in zip(x["labels"], y["labels"], strict=True)
        if a is not None
    ]
    assert found.noise == pytest.approx(sum(pairs) / len(pairs))
    write_jsonl(asked, [{"prompt": "1?"}, {"prompt": "2?", "steps": ["a"]}])
    with pytest.raises(UserError, match="1 question of 2 have none"):
        bf.label_steps(model, asked, len_is_even, estimate="known", **settings)


def len_is_even(answer: str) -> bool:
    return len(answer) % 2 == 0
