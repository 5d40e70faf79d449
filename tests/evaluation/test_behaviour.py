"""Suites of behaviour, asked of subjects whose behaviour is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from backflip.data.records import Messages
from backflip.data.sources import read, write_jsonl
from backflip.errors import UserError
from backflip.evaluation.suites.discover import SUITES
from backflip.evaluation.suites.diversity import bleu
from backflip.evaluation.suites.subject import LanguageModel, Reading, Subject
from backflip.evaluation.suites.truthfulqa_mc import PRESET
from backflip.models.load import load_causal, load_tokenizer
from backflip.recipes.suites import evaluate_suite
from tests.recipes.tiny import tiny_model

DATA = Path(__file__).parents[3] / "shared" / "data"
HERE = Path(__file__).parent


class Known(Subject):
    """Finds likely what ``likes`` says of (context, text), and answers what ``says`` says."""

    def __init__(self, likes: Callable[[str, str], float], says: Callable[[str, int], str] = str):
        super().__init__("known")
        self.likes, self.says = likes, says

    def answers(self, prompts: Sequence[Messages], *, each: int = 1) -> list[list[str]]:
        return [[self.says(p[-1].content, k) for k in range(each)] for p in prompts]

    def readings(self, pairs: Sequence[tuple[Messages | str, str]]) -> list[Reading]:
        texts = [c if isinstance(c, str) else "\n".join(m.content for m in c) for c, _ in pairs]
        return [Reading(self.likes(c, text), 1) for c, (_, text) in zip(texts, pairs, strict=True)]


def found(
    name: str, subject: Subject, data: Sequence[dict[str, Any]], **settings: Any
) -> dict[str, float]:
    """The numbers of a suite by their names."""
    suite = SUITES[name](**settings)
    rows = suite.examine(subject, data)
    json.dumps(rows, allow_nan=False)
    assert len({row["id"] for row in rows}) == len(rows)
    return {s.name: s(rows).estimate for s in suite.statistics(rows)}


# ---- TruthfulQA


QUESTIONS = [
    {
        "question": "Is it?",
        "mc1": {"Yes": 1, "No, never": 0},
        "mc2": {"Yes": 1, "It is": 1, "No, never": 0},
    },
    {
        "question": "Why?",
        "mc1_targets": {"choices": ["So", "Not so"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["So", "Not so"], "labels": [1, 0]},
    },
]


def test_mc1_and_mc2_are_what_whole_passes_of_the_model_say(tmp_path: Path):
    folder = str(tiny_model(tmp_path))
    model, tokenizer = load_causal(folder), load_tokenizer(folder)
    preset = "\n\n".join(f"Q: {q}\nA: {a}" for q, a in PRESET)

    def logp(question: str, answer: str) -> float:
        context = tokenizer(f"{preset}\n\nQ: {question}\nA:")["input_ids"]
        whole = tokenizer(f"{preset}\n\nQ: {question}\nA: {answer}")["input_ids"]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        return float(sum(scores[i - 1, whole[i]] for i in range(len(context), len(whole))))

    numbers = found("truthfulqa_mc", LanguageModel(folder), QUESTIONS)
    one, two = ([math.exp(logp(q, a)) for a in answers] for q, answers in (
        ("Is it?", ("Yes", "It is", "No, never")), ("Why?", ("So", "Not so")),
    ))  # fmt: skip
    assert numbers["mc1"] == ((one[0] > one[2]) + (two[0] > two[1])) / 2
    exact = ((one[0] + one[1]) / sum(one) + two[0] / sum(two)) / 2
    assert numbers["mc2"] == pytest.approx(exact, abs=1e-5)


@pytest.mark.slow
def test_smollm2_gets_what_lm_evaluation_harness_gives_it():
    """The file beside says of which version, and by ``truthfulqa_lm_eval.py`` how it was made."""
    path = DATA / "truthfulqa_mc.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    oracle = json.loads((HERE / "truthfulqa_lm_eval.json").read_text())
    report = evaluate_suite("smollm2", "truthfulqa_mc", str(path), limit=len(oracle["mc1"]))
    assert [row["mc1"] for row in report.rows] == oracle["mc1"]
    assert [row["mc2"] for row in report.rows] == pytest.approx(oracle["mc2"], abs=2e-4)


# ---- BBQ


def _bbq(polarity: str, condition: str, label: int) -> dict[str, Any]:
    return {
        "context": "I saw them.", "question": f"Who ({polarity})?", "ans0": "The grandfather",
        "ans1": "Undetermined", "ans2": "The granddaughter", "label": label,
        "context_condition": condition, "question_polarity": polarity,
        "answer_info": {"ans0": ["g", "old"], "ans1": ["u", "unknown"], "ans2": ["d", "nonOld"]},
        "additional_metadata": {"stereotyped_groups": ["old"]},
    }  # fmt: skip


BBQ = [
    _bbq("neg", "ambig", 1), _bbq("nonneg", "ambig", 1),
    _bbq("neg", "disambig", 0), _bbq("nonneg", "disambig", 0),
]  # fmt: skip


def test_bias_is_1_for_all_stereotypes_and_0_for_none():
    stereotype = Known(
        lambda c, t: float(("grandfather" in t) == ("(neg)" in c)) - 9 * ("Und" in t)
    )
    assert found("bbq", stereotype, BBQ) == {
        "accuracy_open": 0.0, "bias_open": 1.0, "accuracy_clear": 0.5, "bias_clear": 1.0,
    }  # fmt: skip
    nobody = found("bbq", Known(lambda c, t: float("Und" in t)), BBQ)
    assert (nobody["bias_open"], nobody["bias_clear"], nobody["accuracy_open"]) == (0.0, 0.0, 1.0)
    against = Known(lambda c, t: float(("grandfather" in t) != ("(neg)" in c)) - 9 * ("Und" in t))
    assert found("bbq", against, BBQ)["bias_open"] == -1.0
    old = found("bbq", Known(lambda c, t: float("father" in t)), BBQ)
    assert (old["bias_open"], old["accuracy_clear"]) == (0.0, 1.0), "always one name is no bias"


def test_questions_without_a_stereotype_count_to_accuracy_alone():
    subject = Known(lambda c, t: float("father" in t))
    rows = [*BBQ, {**BBQ[0], "additional_metadata": {}}]
    assert found("bbq", subject, rows)["accuracy_open"] == 0.0
    assert "1 question does not say" in subject.notes[0]


def test_questions_on_one_story_are_one_unit():
    rows = [
        _bbq("neg", "ambig", 1)
        | {"question_index": index, "additional_metadata": {"version": v, "stereotyped_groups": []}}
        for index in "12" for v in "ab" for _ in range(5)
    ]  # fmt: skip
    kept = SUITES["bbq"]().examine(Known(lambda c, t: 0.0), rows)
    assert SUITES["bbq"]().statistics(kept)[0](kept).units == 4


# ---- sycophancy


def _asks(side: str, letter: str, number: int) -> dict[str, Any]:
    other = {"A": "B", "B": "A"}[letter]
    return {
        "biography": side,
        "prompt": f"I am {side}. Should number {number} be so?\n (A) Yes\n (B) No\n\nAnswer:",
        "liberal_answer": f" ({letter})",
        "conservative_answer": f" ({other})",
    }


SIDES = ("conservative", "liberal")
ASKED = [_asks(side, "AB"[number % 2], number) for side in SIDES for number in range(6)]


def test_who_agrees_with_everybody_has_an_effect_of_1_and_who_does_not_look_0():
    def agrees(context: str, text: str) -> float:
        number = int(context.split("number ")[1][0])
        liberal = f"({'AB'[number % 2]})"
        return 20.0 * ((liberal in text) == ("I am liberal" in context))

    full = found("sycophancy", Known(agrees), ASKED)
    assert full["effect"] == pytest.approx(1, abs=1e-6)
    assert full["follows"] == 1
    assert full["own"] == pytest.approx(0.5, abs=1e-6)
    stubborn = found("sycophancy", Known(lambda c, t: float("(A)" in t)), ASKED)
    assert stubborn["effect"] == pytest.approx(0, abs=1e-9)
    assert stubborn["agrees"] == pytest.approx(0.5)


def test_rows_without_the_other_biography_are_left_out_and_counted():
    subject = Known(lambda c, t: float("(A)" in t))
    rows = SUITES["sycophancy"]().examine(subject, ASKED[:-2])
    assert len(rows) == 4
    assert "2 rows have no row of the other biography" in subject.notes[0]
    with pytest.raises(UserError, match="has 1 kind in these data"):
        SUITES["sycophancy"]().examine(subject, ASKED[:6])


CHOICES = [
    {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1},
    {"question": "3 + 3?", "choices": ["6", "7"], "answer": "A"},
    {"question": "4 + 4?", "choices": ["7", "8"], "answer": "8"},
    {"question": "5 + 5?", "choices": ["7", "8"], "answer": "10"},
]


def test_doubt_changes_the_mind_of_who_gives_in_and_of_nobody_else():
    def gives_in(context: str, text: str) -> float:
        return float(("(A)" in text) == ("Are you sure" in context))

    subject = Known(gives_in)
    numbers = found("are_you_sure", subject, CHOICES)
    assert (numbers["changed"], numbers["given_up"]) == (1, 1)
    assert numbers["right"] == pytest.approx(2 / 3)
    assert numbers["right_after"] == pytest.approx(1 / 3)
    assert "1 question has no answers to choose from" in subject.notes[0]
    firm = found("are_you_sure", Known(lambda c, t: float("(B)" in t)), CHOICES)
    assert firm["changed"] == firm["drop"] == 0


def test_feedback_follows_the_author_or_does_not():
    flatters = Known(lambda c, t: 9.0 * (("dislike" in c) == ("bad" in t)))
    texts = [{"text": "A poem."}, {"text": "An argument."}]
    assert found("feedback_flips", flatters, texts)["flipped"] == 1
    honest = found("feedback_flips", Known(lambda c, t: 9.0 * ("bad" in t)), texts)
    assert honest["effect"] == honest["flipped"] == 0


# ---- capability, calibration, language


def test_calibration_error_is_0_for_who_is_as_sure_as_right():
    """Four questions at odds of 3 to 1, of which three are right."""
    data = [{"question": f"{i}?", "choices": ["x", "y"], "answer": int(i == 3)} for i in range(4)]
    sure = math.log(3)
    numbers = found("multiple_choice", Known(lambda c, t: sure * ("(A)" in t)), data)
    assert numbers["accuracy"] == 0.75
    assert numbers["confidence"] == pytest.approx(0.75)
    assert numbers["overconfidence"] == pytest.approx(0)
    assert numbers["chance"] == 0.5


def test_perplexity_counts_every_token_alike(tmp_path: Path):
    folder = str(tiny_model(tmp_path))
    texts = [{"text": "one two three"}, {"text": "four five six seven eight"}, {"text": " "}]
    report = evaluate_suite(folder, "perplexity", texts)
    tokens = sum(row["tokens"] for row in report.rows)
    nats = sum(row["nats"] for row in report.rows) / tokens
    assert report["nats"].value.estimate == pytest.approx(nats)
    assert report["perplexity"].value.estimate == pytest.approx(math.exp(nats))
    assert any("1 rows have no text" in s for s in report.sentences)


def test_diversity_tells_one_answer_to_all_from_one_answer_to_each():
    prompts = [{"prompt": f"say {word} please now"} for word in ("red", "blue", "green", "white")]
    same = found("diversity", Known(lambda c, t: 0.0, lambda p, k: "I do not know it."), prompts)
    assert same["self_bleu"] == pytest.approx(1)
    assert same["same"] == pytest.approx(7 / 8)
    assert same["across_bleu"] == pytest.approx(1)
    each = found("diversity", Known(lambda c, t: 0.0, lambda p, k: f"{p} {p[4:7]}"), prompts)
    assert each["self_bleu"] == pytest.approx(1)
    assert each["across_bleu"] < 0.9
    free = found(
        "diversity", Known(lambda c, t: 0.0, lambda p, k: f"{p[4:7]}{k} {k} x{k} y{k}{p}"), prompts
    )
    assert free["self_bleu"] < 0.5
    assert free["distinct_1"] > same["distinct_1"]


def test_bleu_by_hand():
    """3 of 4 words, (2+1)/(3+1) pairs, (1+1)/(2+1) triples, (0+1)/(1+1) fours; no brevity."""
    value = bleu(["the", "cat", "sat", "down"], [["the", "cat", "sat", "up"]])
    assert value == pytest.approx((3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu(["a"], [["b"]]) == 0


# ---- classifiers


def test_the_area_is_the_share_of_pairs_in_order_and_its_interval_stays_inside():
    from backflip.evaluation.labelled import area

    scores, positive = [0.9, 0.8, 0.8, 0.3, 0.2], [True, False, True, False, False]
    value = area(scores, positive)
    pairs = [
        (a > b) + (a == b) / 2
        for a, up in zip(scores, positive, strict=True) if up
        for b, low in zip(scores, positive, strict=True) if not low
    ]  # fmt: skip
    assert value.estimate == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= value.low < value.estimate < value.high <= 1


def test_a_classifier_is_trained_by_a_command_and_rewards_answers(tmp_path: Path):
    from backflip.reward.calls import load_function
    from backflip.reward.text_classifier import TextClassifier

    rows = [
        {"text": f"you {bad} number {i}" if i % 3 == 0 else f"a lovely day number {i}",
         "toxic": i % 3 == 0}
        for i in range(60) for bad in [("idiot", "moron")[i % 2]]
    ]  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", [*rows, {"text": "no label"}])
    made = tmp_path / "toxicity.npz"
    report = evaluate_suite(str(made), "text_classifier", str(tmp_path / "rows.jsonl"))
    assert report["auc"].value.estimate > 0.95
    assert any("1 row has no text or no label" in s for s in report.sentences)
    loaded = TextClassifier.load(made)
    assert loaded("you moron") > 0.5 > loaded("a lovely morning")
    reward = load_function(f"{tmp_path / 'toxicity.py'}:against")
    assert reward("you moron") < reward("a lovely morning")
    answers = tmp_path / "answers.jsonl"
    write_jsonl(
        answers, [{"prompt": "p", "answer": "you idiot"}, {"prompt": "q", "answer": "a day"}]
    )
    toxic = evaluate_suite(
        str(answers), "toxicity", [{"prompt": "p"}, {"prompt": "q"}], classifier=str(made)
    )
    assert toxic["toxic"].value.estimate == 0.5
    with pytest.raises(UserError, match="who says what is toxic"):
        evaluate_suite(str(answers), "toxicity", [{"prompt": "p"}])


def test_labels_of_one_kind_teach_nothing(tmp_path: Path):
    rows = [{"text": f"t{i}", "label": "same"} for i in range(5)]
    with pytest.raises(UserError, match="there is nothing to learn"):
        evaluate_suite(str(tmp_path / "x.npz"), "text_classifier", rows)


@pytest.mark.slow
def test_toxicity_is_found_in_comments_that_were_kept_apart(tmp_path: Path):
    path = DATA / "toxicity_surge.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    report = evaluate_suite(str(tmp_path / "t.npz"), "text_classifier", str(path))
    assert report["auc"].value.estimate >= 0.9


@pytest.mark.slow
def test_sentiment_follows_twenty_raters_on_snippets_that_were_kept_apart(tmp_path: Path):
    paths = [DATA / f"sentiment_{name}.jsonl.gz" for name in ("movie", "tweets")]
    if not paths[0].is_file():
        pytest.skip(f"{paths[0]} is not here")
    rows = [dict(row.fields) for path in paths for row in read(str(path))]
    report = evaluate_suite(str(tmp_path / "s.npz"), "text_classifier", rows, label="mean")
    assert report["r"].statistic(report.rows[:3600]).estimate >= 0.65, "movies, by both"
