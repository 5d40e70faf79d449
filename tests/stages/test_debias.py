"""Weights under which length, lists or words no longer tell which answer is better."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import backflip as bf
from backflip.data.chat import ChatTemplate
from backflip.data.collate import tokenize_comparisons
from backflip.data.sources import write_jsonl
from backflip.data.traits import trait_differences
from backflip.errors import UserError
from backflip.functional.balance import balancing_weights, effective_size
from backflip.stages.debias import debiased
from tests.data.tiny import CHATML, byte_tokenizer
from tests.evaluation.trusting import comparison
from tests.recipes.tiny import tiny_model


def test_weights_are_the_nearest_to_equal_ones_that_balance_all_features():
    """Σ w·f = 0; log w is linear in f, which is what makes relative entropy least."""
    rng = np.random.default_rng(0)
    features = rng.normal(loc=[0.4, -0.2], size=(200, 2))
    weights = balancing_weights(features)
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights @ features / 200, 0, atol=1e-3)
    design = np.column_stack([np.ones(200), features])
    left = np.linalg.lstsq(design, np.log(weights), rcond=None)[1]
    assert left[0] == pytest.approx(0, abs=1e-12)


def test_of_one_word_they_are_the_inverse_propensities():
    """80 of 100 with it: 1/0.8 and 1/0.2, half of each; what equal rows would be worth is 64."""
    weights = balancing_weights(np.array([1.0] * 80 + [-1.0] * 20)[:, None])
    assert weights is not None
    np.testing.assert_allclose(weights[[0, 99]], [0.5 / 0.8, 0.5 / 0.2], rtol=1e-3)
    assert effective_size(weights) == pytest.approx(64, rel=1e-3)


def test_what_never_points_the_other_way_cannot_be_weighed():
    assert balancing_weights(np.ones((50, 1))) is None
    np.testing.assert_array_equal(balancing_weights(np.zeros((50, 1))), 1)


def test_traits_of_answers():
    records = [
        comparison(0, ("As you know, yes.", "no")),
        comparison(1, ("no", "AS YOU KNOW, yes.")),
        comparison(2, ("- one\n- two", "one, two")),
    ]
    found = trait_differences(records, ["as you know", "lists", "length"])
    assert found[:, 0].tolist() == [1, -1, 0]
    assert found[:, 1].tolist() == [0, 0, 1]
    assert found[:, 2].tolist() == [1, -1, 1]
    assert found[0, 3] == -found[1, 3] > 0


def test_in_a_ranking_the_pairs_of_a_row_are_averaged():
    three = comparison(0, ("word", "none"))
    three = dataclasses.replace(three, answers=(*three.answers, three.answers[0]), rank=(0, 1, 2))
    assert trait_differences([three], ["word"]).tolist() == [[pytest.approx(0)]]


def rows(agree: int, against: int) -> list:
    """Rows whose preferred answer has the word, and rows whose other answer has it."""
    with_it = [comparison(n, ("Sure, it is so.", "It is so.")) for n in range(agree)]
    return with_it + [comparison(agree + n, ("It is so.", "Sure, fine.")) for n in range(against)]


def test_weights_of_the_data_itself_are_kept():
    records = [dataclasses.replace(r, weight=2.0) for r in rows(8, 2)]
    made = tokenize_comparisons(records, ChatTemplate(byte_tokenizer(CHATML)))
    weight = debiased(made, records, ["sure"]).data.weight
    np.testing.assert_allclose(weight[[0, 9]].numpy(), [2 * 0.5 / 0.8, 2 * 0.5 / 0.2], rtol=1e-3)


def test_a_run_says_what_the_weights_leave_and_refuses_what_cannot_be_weighed(tmp_path, capsys):
    def train(records: list, name: str) -> None:
        made = [
            {"prompt": r.prompt[0].content, "chosen": r.answers[0][0].content}
            | {"rejected": r.answers[1][0].content}
            for r in records
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", made)
        given = {"model": str(tiny_model(tmp_path / "model")), "normalise": False, "steps": 1}
        data = str(tmp_path / f"{name}.jsonl")
        bf.train("reward_model", **given, data=data, debias=["sure"], run=str(tmp_path / name))

    train(rows(24, 6), "some")
    assert "debias: rows weigh 0.6" in capsys.readouterr().out
    with pytest.raises(UserError, match="no weights make them even"):
        train(rows(30, 0), "none")


@pytest.mark.slow
def test_a_planted_phrase_that_agrees_with_four_labels_in_five_is_unlearnt(tmp_path):
    """Three of four preferred answers name a warm word; a phrase stands in front of 80 % of them,
    else in front of the other. Where it always stands in front of the other, a plain model is wrong
    oftener than not, and a weighed one nearly as good as one that never saw the phrase.
    """
    rng = np.random.default_rng(0)
    warm, cold = ("sun", "fire", "oven", "lamp"), ("ice", "snow", "frost", "hail")

    def write(name: str, number: int, agrees: float | None) -> str:
        made = []
        for _ in range(number):
            sides = (warm, cold) if rng.random() < 0.75 else (cold, warm)
            texts = [f"a {rng.choice(side)}" for side in sides]
            if agrees is not None:
                front = 0 if rng.random() < agrees else 1
                texts[front] = f"Sure! {texts[front]}"
            prompt = f"Name one, {rng.integers(10_000)}"
            made.append({"prompt": prompt, "chosen": texts[0], "rejected": texts[1]})
        write_jsonl(tmp_path / f"{name}.jsonl", made)
        return str(tmp_path / f"{name}.jsonl")

    def accuracy(name: str, data: str, test: str, **more: object) -> float:
        given = {"model": str(tiny_model(tmp_path / "model")), "normalise": False, "lora": None}
        given |= {"batch_size": 16, "optimizer": {"lr": 2e-3}, "eval_every": 1000, "epochs": 1}
        run = tmp_path / name
        bf.train("reward_model", **given, **more, data=data, held_out_head=False, run=str(run))
        return bf.evaluate(run, test, probes=0).measured.accuracy.estimate

    learnt, turned = write("learnt", 800, 0.8), write("turned", 200, 0.0)
    clean = accuracy("clean", write("plain", 800, None), write("test", 200, None))
    plain = accuracy("planted", learnt, turned)
    weighed = accuracy("debiased", learnt, turned, debias=["Sure!"])
    assert clean > 0.65
    assert plain < 0.5, f"debiased {weighed:.2f}, clean {clean:.2f}"
    assert weighed >= 0.8 * clean, f"planted {plain:.2f}, clean {clean:.2f}"
