"""Votes in the shapes that files have, and ladders of them from one command."""

from __future__ import annotations

import numpy as np
import pytest

from backflip.errors import UserError
from backflip.evaluation.suites.ladder import Ladder, fitted
from backflip.evaluation.votes import read_votes, votes_of
from backflip.recipes.suites import evaluate_suite
from tests.parts import shared_file, shared_rows


def row(a, b, winner, prompt: str | int = "p"):
    return {"prompt": prompt, "model_a": a, "model_b": b, "winner": winner}


@pytest.mark.parametrize(
    ("winner", "score"),
    [("model_a", 1), ("B", 0), ("tie (bothbad)", 0.5), ("new", 1), ("Old", 0), ("left", 1)],
)
def test_a_winner_is_a_side_a_name_or_a_tie(winner, score):
    (vote,), _ = read_votes([row("new", "old", winner)])
    assert vote["score"] == score


def test_numbers_are_read_by_the_whole_file():
    said = [[r["score"] for r in read_votes([row("x", "y", w) for w in words])[0]]
            for words in ((0, 1, 0), ("1", "2", "tie"))]  # fmt: skip
    assert said == [[1, 0, 1], [1, 0, 0.5]]
    with pytest.raises(UserError, match="may be the first or the second"):
        read_votes([row("x", "y", 1), row("x", "y", "tie")])


def test_a_model_called_like_a_side_is_meant_itself():
    (vote,), _ = read_votes([row("b", "a", "a")])
    assert vote["score"] == 0


def test_lists_of_votes_one_judges_column_and_what_is_left_out():
    data = [
        {
            "prompt": 1,
            "left": "x",
            "right": "y",
            "votes": [[7, "left"], [8, "tie"]],
            "gpt": "right",
        },
        {"prompt": 2, "left": "x", "right": "x", "votes": [[7, "left"]], "gpt": "left"},
        {"prompt": 3, "left": "x", "right": "z", "votes": [[7, "dunno"]], "gpt": "tie"},
    ]
    votes, notes = read_votes(data)
    assert [v["score"] for v in votes] == [1, 0.5]
    assert len(notes) == 2
    assert "1 × a model against itself" in " ".join(notes)
    assert "1 × no verdict that names a side or a tie (e.g. 'dunno')" in " ".join(notes)
    assert [v["score"] for v in read_votes(data, winner="gpt")[0]] == [0, 0.5]
    with pytest.raises(UserError, match="none of 1 rows holds a vote"):
        read_votes([{"prompt": 1}])


def test_groups_that_never_met_unbeaten_models_and_single_votes_are_named():
    data = [row("a", "b", w, p) for p, w in enumerate(["a", "b", "a", "tie"])]
    data += [row("a", "c", "a", 9)] + [row("x", "y", w, p) for p, w in enumerate(["x", "y"])]
    rows, _ = read_votes(data)
    said = " ".join(Ladder(draws=50).sentences(rows, []))
    assert "2 groups of models that never met" in said
    assert "c: wins between them and others go one way only" in said
    assert "1 model stands on a single vote: c" in said
    assert "the pairs that met form none" in said
    table = Ladder(draws=50).tables(rows)[0]
    by_model = {record["model"]: record for record in table.records}
    assert by_model["a"]["strength"] + by_model["b"]["strength"] + by_model["c"]["strength"] == (
        pytest.approx(1)
    )
    assert by_model["x"]["strength"] == pytest.approx(0.5)
    assert by_model["c"]["rank"] == 3


def test_one_prompt_gives_no_interval():
    votes, models = votes_of(read_votes([row("a", "b", w) for w in ("a", "b", "a")])[0])
    rung = fitted(votes, models, draws=20).rungs[0]
    assert (rung.rating.low, rung.rating.high) == (-np.inf, np.inf)
    assert rung.to_json()["rating_low"] is None


def test_a_ladder_of_a_file_from_one_call(tmp_path):
    """What people's votes on 59 models say, and the page of it; judges' columns rank alike."""
    path = str(shared_file("llmfao_pairs"))
    report = evaluate_suite(path, "ladder", out=tmp_path, draws=100)
    ladder = report.tables[0]
    strengths = {record["model"]: record["strength"] for record in ladder.records}
    assert len(strengths) == 59
    assert sum(strengths.values()) == pytest.approx(1)
    wins = np.zeros((59, 59))
    number = {name: place for place, name in enumerate(strengths)}
    for pair in shared_rows("llmfao_pairs"):
        a, b = number[pair["left"]], number[pair["right"]]
        for _, said in pair["votes"]:
            wins[a, b] += {"left": 1, "tie": 0.5, "right": 0}[said]
            wins[b, a] += {"left": 0, "tie": 0.5, "right": 1}[said]
    p, met = np.ones(59), wins + wins.T
    for _ in range(5000):
        p = wins.sum(1) / (met / (p[:, None] + p)).sum(1)
        p /= p.sum()
    np.testing.assert_allclose(list(strengths.values()), p, atol=1e-9)
    assert all(r["rating_low"] < r["rating"] < r["rating_high"] for r in ladder.records)
    assert "13 prompts are too few" in " ".join(report.sentences)
    page = (tmp_path / "ladder.html").read_text(encoding="utf-8")
    assert "Platypus-2 Instruct (70B)" in page
