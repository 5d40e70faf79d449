"""The protocols of MT-Bench and Arena-Hard, with judges and models made on the spot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.evaluation.style import features, style, style_controlled
from backflip.evaluation.suites import arena_hard, mt_bench
from backflip.evaluation.suites.arena_hard import ArenaHard, battles, read_grade
from backflip.evaluation.suites.mt_bench import MtBench, read_rating
from backflip.evaluation.suites.report import reported
from backflip.evaluation.suites.subject import Subject
from tests.evaluation.test_judge_suite import Says

QUESTIONS = [
    {"question_id": n, "category": "math" if n % 2 else "writing", "reference": ["3", "4"],
     "turns": [f"one {n}", f"two {n}"]}
    for n in range(4)
]  # fmt: skip


class Echo(Subject):
    """Answers with the last question, and remembers the conversations."""

    def __init__(self):
        super().__init__("echo")
        self.heard = []

    def answers(self, prompts, *, each=1):
        self.heard += prompts
        return [[f"re: {prompt[-1].content}"] for prompt in prompts]

    def readings(self, pairs):
        raise NotImplementedError


class Reads(Subject):
    """A judge whose reply follows from all that it reads."""

    def __init__(self, reply):
        super().__init__("judge")
        self.reply = reply

    def answers(self, prompts, *, each=1):
        return [[self.reply(prompt[-1].content)] for prompt in prompts]

    def readings(self, pairs):
        raise NotImplementedError


def report(suite, data, subject, judge, monkeypatch):
    for module in (mt_bench, arena_hard):
        monkeypatch.setattr(module, "judge_named", lambda name, asking: judge)
    rows = suite.examine(subject, data)
    return reported(suite, "s", rows, model="m", data="d", notes=subject.notes)


def test_ratings_and_grades_are_read_from_the_end():
    assert read_rating("[[3]] or rather [[7.5]]") == 7.5
    assert read_rating("Rating: 8/10") == 8
    assert np.isnan(
        [read_rating(text) for text in ("[[0]]", "[[11]]", "ten", "I give 7 points")]
    ).all()
    marks = ("A>>B", "A > B", "A=B", "A<B", "B>>A", "A")
    assert [read_grade(f"so [[{mark}]]") for mark in marks] == [2, 1, 0, -1, -2, None]


def test_two_turns_are_one_conversation_and_each_is_rated(monkeypatch):
    subject = Echo()
    judge = Reads(lambda text: "[[9]]" if "re: two" in text else "[[5]]")
    found = report(MtBench(judge="j"), QUESTIONS, subject, judge, monkeypatch)
    second = next(p for p in subject.heard if len(p) == 3)
    assert [m.content for m in second] == ["one 0", "re: one 0", "two 0"]
    values = {name: found[name].value.estimate for name in ("turn_1", "turn_2", "score")}
    assert values == {"turn_1": 5, "turn_2": 9, "score": 7}
    assert found["score"].value.units == 4


def test_math_is_rated_beside_an_answer_that_is_right(monkeypatch):
    judge = Reads(lambda text: "[[10]]" if "an answer that is right\n" in text else "[[1]]")
    found = report(MtBench(judge="j"), QUESTIONS, Echo(), judge, monkeypatch)
    assert found["category_math"].value.estimate == 10
    assert found["category_writing"].value.estimate == 1


def test_a_judge_that_gives_no_rating_is_counted(monkeypatch):
    judge = Reads(lambda text: "[[4]]" if "re: two" in text else "well")
    found = report(MtBench(judge="j"), QUESTIONS, Echo(), judge, monkeypatch)
    assert found["score"].value.estimate == 4
    assert "no rating for 4 of 8 replies" in " ".join(found.sentences)
    assert found["score"].value.low >= 1
    with pytest.raises(UserError, match="no verdict that can be read, 8 times"):
        report(MtBench(judge="j"), QUESTIONS, Echo(), Reads(lambda text: "well"), monkeypatch)


def test_pairs_are_won_only_in_both_orders(monkeypatch, tmp_path):
    """The baseline's answers come from a file; a judge that names the first makes ties of all."""
    theirs = [{"question_id": n, "choices": [{"turns": ["worse", "worse"]}]} for n in range(4)]
    write_jsonl(tmp_path / "theirs.jsonl", theirs)
    suite = MtBench(judge="j", mode="pair", baseline=str(tmp_path / "theirs.jsonl"))
    always = report(suite, QUESTIONS, Echo(), Says(lambda a, b: "[[A]]"), monkeypatch)
    assert always["score"].value.estimate == 0.5
    assert "same verdict in both orders on 0 of 8 pairs" in " ".join(always.sentences)
    fair = Says(lambda a, b: "[[A]]" if a.startswith("re:") else "[[B]]")
    assert report(suite, QUESTIONS, Echo(), fair, monkeypatch)["score"].value.estimate == 1
    with pytest.raises(UserError, match="give baseline="):
        report(MtBench(judge="j", mode="pair"), QUESTIONS, Echo(), fair, monkeypatch)


def test_much_better_counts_for_three_battles():
    assert [battles(grade) for grade in (2, 1, 0, -1, -2)] == [
        (3, 3), (1, 1), (0.5, 1), (0, 1), (0, 3),
    ]  # fmt: skip


def test_recorded_games_make_a_board(monkeypatch):
    """In the first game the baseline is A. x: B>>A, then A>B: 3 + 1 of 4; y: one of two."""
    data = [
        {"uid": 1, "model": "x", "games": [{"score": "B>>A"}, {"score": "A>B"}]},
        {"uid": 1, "model": "y", "games": [{"score": "A=B"}, {"score": "A=B"}]},
        {"uid": 2, "model": "y", "games": [{"score": "A>>B"}, {"score": None}]},
    ]
    found = report(ArenaHard(), data, Echo(), None, monkeypatch)
    assert found["x/score"].value.estimate == 1
    assert found["y/score"].value.estimate == 0.5
    assert [record["model"] for record in found.tables[0].records] == ["x", "y"]
    assert "left out, as the benchmark does" in " ".join(found.sentences)


def test_a_model_is_graded_in_both_orders(monkeypatch, tmp_path):
    write_jsonl(tmp_path / "b.jsonl", [{"uid": n, "answer": "base"} for n in range(30)])
    data = [{"uid": n, "prompt": f"q{n}"} for n in range(30)]
    judge = Says(lambda a, b: "[[A>B]]" if a == "base" else "[[B>>A]]")
    suite = ArenaHard(judge="j", baseline=str(tmp_path / "b.jsonl"))
    found = report(suite, data, Echo(), judge, monkeypatch)
    assert found["score"].value.estimate == 0
    assert found["agree"].value.estimate == 1
    assert found["first"].value.estimate == 0.5
    always = report(suite, data, Echo(), Says(lambda a, b: "[[A>B]]"), monkeypatch)
    assert always["score"].value.estimate == 0.5
    assert 0.3 < always["score"].value.low < 0.5, "thirty questions leave room"
    assert "leans to the answer shown first" in " ".join(always.sentences)


def test_style_counts_markdown_outside_of_code():
    text = "# Head\n\n- one\n2. two\n**bold** __too__\n```\n# no\n- no\n```"
    assert style(text) == [len(text), 1, 2, 2]
    assert features([30, 0, 0, 0], [10, 0, 0, 0]) == [0.5, 0, 0, 0]
    assert features([10, 1, 0, 0], [10, 0, 0, 0])[1] == pytest.approx(0.1 / 1.1)


def test_with_style_alike_a_model_that_only_writes_more_is_no_better():
    """Battles are won by length alone: σ(2x). The raw share is above ½, the controlled one is not.

    By hand: the design has the model's θ beside x, and x is 0 where lengths are alike.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(0.8, 0.5, 2000)
    won = (rng.random(2000) < expit(2 * x)).astype(float)
    ones, zeros = np.ones(2000), np.zeros(2000, int)
    found = style_controlled(zeros, np.arange(2000), won, ones, x[:, None], models=1)
    assert won.mean() > 0.75
    low, high = np.quantile(found.drawn[:, 0], (0.005, 0.995))
    assert low < 0.5 < high
    assert found.coefficients[0] == pytest.approx(2 * x.std(), rel=0.15)
